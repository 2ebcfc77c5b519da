"""Read models kept on disk, found again by content: a hit is the model that reading the files now would give.

The folder is ``$VILLAGEFLOW_CACHE``, or else ``villageflow`` in ``$XDG_CACHE_HOME`` (``~/.cache``); an empty
``VILLAGEFLOW_CACHE`` switches the cache off. An entry is named by the SHA-256 of everything that decides what a model
file means: its bytes, its name, the options of reading, and the sources of whatever reads it (this package's and the
parser's), so that no entry outlives a change of the code. Other files that the model read are listed in the entry with
their digests. An entry that is damaged or does not fit counts as none; a folder that cannot be used, as no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from villageflow.errors import StoredFileError
from villageflow.ir import dimensions, nodes
from villageflow.ir import model as models
from villageflow.ir.codec import Codec, dataclasses_of
from villageflow.ir.model import Model
from villageflow.sealed import seal, unseal, write_whole

VARIABLE: Final = "VILLAGEFLOW_CACHE"
MAX_BYTES: Final = 256 * 1024 * 1024
"""Of all entries together."""

_MAX_FILE = 64 * 1024 * 1024  # no larger file is a model, or data of one
_VERSION = 1
_SUFFIX = ".model"
_LOG = logging.getLogger("villageflow")
_READERS = ("frontend", "ir", "lower")
_PARSERS = {
    "pysd": [
        "translators/structures",
        *(f"translators/{language}{part}" for language in ("vensim", "xmile") for part in ("", "/parsing_grammars")),
    ],
    "parsimonious": ["."],
}


@dataclass(frozen=True)
class _Kept:
    """A model, the other files that it was read from with their digests, and what reading it warned about."""

    model: Model
    files: Mapping[str, str]
    warnings: tuple[str, ...]


_CODEC = Codec(_Kept, (_Kept, *dataclasses_of(nodes, dimensions, models)))


class Entry:
    """Where the model of one file would be kept.

    Parameters
    ----------
    path : Path
        The model file.
    options : sequence of str
        Whatever else decides how it is read.
    """

    def __init__(self, path: Path, options: Sequence[str] = ()) -> None:
        self._path, self._options = path, tuple(options)
        self._folder = folder() if _sources() else None

    def find(self) -> Model | None:
        """The model, if it is kept and every file that it was read from is as it was; warnings are repeated."""
        if self._folder is None or (digest := _digest(self._path)) is None:
            return None
        entry = self._file(digest)
        try:
            kept: _Kept = _CODEC.read(unseal("model", _VERSION, entry.read_bytes()))
        except (OSError, StoredFileError):
            return None
        if any(_digest(self._path.parent / name) != known for name, known in kept.files.items()):
            return None
        for message in kept.warnings:
            _LOG.warning("%s", message)
        with contextlib.suppress(OSError):
            os.utime(entry)
        return kept.model

    def keep(self, model: Model, files: Mapping[Path, str], warnings: Sequence[str]) -> None:
        """Keep a model that was just read; quietly does nothing where that is not possible.

        Parameters
        ----------
        model : Model
            As it was read.
        files : mapping of Path to str
            Other files that it was read from, with the SHA-256 of their bytes. Those below the model's folder count
            by their place there, so that a copy of the model reads its own.
        warnings : sequence of str
            What reading it warned about.
        """
        if self._folder is None:
            return
        home = self._path.parent.resolve()
        places = {str(path.relative_to(home) if path.is_relative_to(home) else path): files[path] for path in files}
        content = seal("model", _VERSION, _CODEC.write(_Kept(model, places, tuple(warnings))))
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._file(model.digest), content)
            _make_room(self._folder)

    def _file(self, digest: str) -> Path:
        assert self._folder is not None
        key = repr((_VERSION, _sources(), self._path.name, digest, self._options))
        return self._folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)


@contextlib.contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """The warnings that the package logs meanwhile."""
    noted: list[str] = []

    class _Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            noted.append(record.getMessage())

    handler = _Notes(logging.WARNING)
    _LOG.addHandler(handler)
    try:
        yield noted
    finally:
        _LOG.removeHandler(handler)


def folder() -> Path | None:
    """The folder of the cache; None where it is switched off or there is no home."""
    wanted = os.environ.get(VARIABLE)
    if wanted is not None:
        return Path(wanted).absolute() if wanted.strip() else None
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "villageflow"
    except RuntimeError:
        return None


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None for what is no file, or none that could be a model's."""
    try:
        if path.is_file() and path.stat().st_size <= _MAX_FILE:
            return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        pass
    return None


@cache
def _sources() -> str:
    """SHA-256 over the sources that decide what a model file means; empty where they cannot be read."""
    here = Path(__file__).resolve().parent
    folders = [here, *(here / name for name in _READERS)]
    for package, parts in _PARSERS.items():
        spec = find_spec(package)
        folders += [Path(root) / part for root in (spec and spec.submodule_search_locations) or () for part in parts]
    h = hashlib.sha256()
    try:
        for folder in folders:
            paths = sorted(path for path in folder.iterdir() if path.suffix in (".py", ".peg"))
            h.update(f"{len(paths)} files of {folder.name}\n".encode())
            for path in paths:
                content = path.read_bytes()
                h.update(f"{path.name} {len(content)}\n".encode())
                h.update(content)
    except OSError:
        return ""
    return h.hexdigest()


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest, beyond `MAX_BYTES`; also parts of files whose writer was stopped."""
    found = []
    for path in folder.iterdir():
        if path.suffix in (_SUFFIX, ".part"):
            with contextlib.suppress(OSError):  # another process may have removed it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > MAX_BYTES:
            with contextlib.suppress(OSError):
                path.unlink()
