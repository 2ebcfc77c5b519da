"""Model files to `SourceModel`, through PySD's translators and nothing else of PySD.

Only the parsers run: they give an abstract syntax tree of each equation, which `pysd_syntax` copies into our own
nodes. PySD's code generator and runtime are never imported; what the translators misread is corrected in `pysd_strict`.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from villageflow.errors import ModelFileError
from villageflow.frontend.datafile import DataFiles
from villageflow.frontend.external import ExternalFiles
from villageflow.frontend.text import read_bytes
from villageflow.frontend.vensim import read_vensim
from villageflow.frontend.xmile import read_xmile
from villageflow.ir.source import SourceModel

SUFFIXES = (".mdl", ".xmile", ".stmx")

_RECURSION = 20_000


def read_source(path: str | Path, *, data_files: Sequence[str | Path] = ()) -> SourceModel:
    """Parse a model file.

    Parameters
    ----------
    path : str or Path
        A Vensim ``.mdl``, or an XMILE ``.xmile`` or ``.stmx`` file.
    data_files : sequence of str or Path
        Tables with the values of data variables that have no equation; see `external.read_data_file`.

    Returns
    -------
    SourceModel

    Raises
    ------
    ModelFileError
        The file, or one that it refers to, is missing, undecodable, malformed, or not a model.
    UnsupportedError
        It uses a construct that is not supported; the message names it. Nothing is dropped.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelFileError(f"{path}: {suffix or 'no suffix'} is not a kind of model file; use {', '.join(SUFFIXES)}")
    content = read_bytes(path)
    files, data = ExternalFiles(path.parent), DataFiles(data_files)
    with _deep_recursion(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the translators warn about is checked and refused here
        try:
            parsed = read_vensim(path, content, files, data) if suffix == ".mdl" else read_xmile(path, content)
        except RecursionError:
            raise ModelFileError(f"{path}: an equation is nested too deeply; simplify it") from None
    digest = hashlib.sha256(content).hexdigest()
    used = {**files.used, **data.used}
    return SourceModel(
        path, digest, parsed.method, parsed.variables, parsed.dimensions, parsed.macros, used, len(content)
    )


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """The parser recurses some forty frames for each bracket; nesting itself is bounded by `text.MAX_NESTING`."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
