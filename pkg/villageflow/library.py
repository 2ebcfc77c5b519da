"""Reading models: files of the user, and the models that ship with the package."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from villageflow.cache import Entry, noted_warnings
from villageflow.errors import ModelFileError, did_you_mean
from villageflow.ir.model import Model

if TYPE_CHECKING:
    import pandas as pd


def read_model(path: str | Path, *, data_files: Sequence[str | Path] = ()) -> Model:
    """Read a model file.

    Parameters
    ----------
    path : str or Path
        A Vensim ``.mdl``, XMILE ``.xmile`` or Stella ``.stmx`` file.
    data_files : sequence of str or Path
        Tables (``.csv``, ``.tab``) with the values of data variables that have no equation, such as the output of
        another model.

    Returns
    -------
    Model
        Immutable. Nothing of the file is executed; spreadsheets that it names are read from below its folder.
        A model that was read before comes from the cache, unless its file, another file that it reads, or the code
        that reads it has changed; see ``docs/programs.md``.

    Raises
    ------
    ModelFileError, LoweringError, UnsupportedError
        One line that names the file, the place, the fault and the remedy.

    Examples
    --------
    >>> model = read_model("models/village_cluster/village_cluster.mdl")  # doctest: +SKIP
    """
    entry = Entry(Path(path), [f"{Path(name).absolute()} {Path(name).resolve()}" for name in data_files])
    with _without_collection():
        if (model := entry.find()) is not None:
            return model
        from villageflow.frontend.pysd_adapter import read_source  # the parser is slow to import
        from villageflow.lower import lower

        with noted_warnings() as warnings:
            source = read_source(path, data_files=data_files)
            model = lower(source)
        entry.keep(model, source.files, warnings)
    return model


@contextmanager
def _without_collection() -> Iterator[None]:
    """Reading makes many objects that stay and no cycles; each search for cycles would look at all of them again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def folder() -> Path:
    """Where the shipped models are: beside the installed package, or in the source tree."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "models", here.parents[1] / "models"):
        if candidate.is_dir():
            return candidate
    raise ModelFileError("the models that ship with villageflow are not installed; reinstall the package")


def names() -> list[str]:
    """Names of the shipped models, sorted."""
    return sorted(path.parent.name for path in folder().glob("*/*.mdl") if path.stem == path.parent.name)


def path(name: str) -> Path:
    """Folder of a shipped model."""
    if name not in names():
        raise ModelFileError(
            f"no model {name!r} ships with villageflow. {did_you_mean(name, names())} "
            "A file needs its suffix: .mdl, .xmile or .stmx."
        )
    return folder() / name


@cache
def read(name: str) -> Model:
    """A shipped model by name, such as ``village_cluster``; parsed once."""
    return read_model(path(name) / f"{name}.mdl")


def _table(name: str, schema: str) -> pd.DataFrame:
    from villageflow.datasets.schemas import read_table  # pandas is slow to import

    file = path(name) / f"{schema}.csv"
    if not file.is_file():
        having = ", ".join(other for other in names() if (path(other) / file.name).is_file())
        raise ModelFileError(f"model {name!r} ships without {file.name}; these have one: {having or 'none'}")
    return read_table(file, schema)


def archetypes(name: str) -> pd.DataFrame:
    """The archetypes of a shipped model: its ``archetypes.csv``, checked against the model."""
    from villageflow.datasets.values import check_values  # pandas is slow to import

    table = _table(name, "archetypes")
    check_values(table, read(name))
    return table


def archetype(name: str, archetype: str) -> dict[str, float]:
    """Values of the constants that make a region, by id.

    Parameters
    ----------
    name : str
        Of a shipped model.
    archetype : str
        Of its ``archetypes.csv``, such as ``shaji``.

    Returns
    -------
    dict
        Constant or element -> value; all others keep the value of the model file.

    Raises
    ------
    ModelFileError
        If the model has no such archetype.
    """
    from villageflow.datasets.values import archetype_values

    return archetype_values(archetypes(name), archetype, read(name))


def priors(name: str) -> pd.DataFrame:
    """The priors of a shipped model: its ``parameters.csv``, checked, one row for each parameter that has a range."""
    return _table(name, "parameters")


def scenarios(name: str) -> pd.DataFrame:
    """The policies of a shipped model: its ``scenarios.csv``, checked."""
    from villageflow.datasets.values import check_values  # pandas is slow to import

    table = _table(name, "scenarios")
    check_values(table, read(name))
    return table


def loops(name: str) -> pd.DataFrame:
    """The feedback loops that a shipped model claims: its ``loops.csv``, checked; see ``docs/tables.md``."""
    return _table(name, "loops")
