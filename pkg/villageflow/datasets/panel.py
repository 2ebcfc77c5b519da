"""Load the shipped tables, or a user's own, as panels indexed (entity, time)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from villageflow.datasets.reading import (
    RawTable,
    check_columns,
    fault,
    parse_number,
    raise_faults,
    read_cells,
)
from villageflow.datasets.schemas import read_table
from villageflow.datasets.vocabulary import check_unit
from villageflow.errors import DataError, did_you_mean

_FOLDER = Path(__file__).parent
_LOG = logging.getLogger("villageflow")
_PROVENANCE = ("source_id", "note", "unit")


@dataclass(frozen=True)
class LongPart:
    """Rows of a table with columns variable and value, those where each of ``where`` holds."""

    table: str
    entity: str
    where: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class WidePart:
    """A table with one column per variable; the entity joins the ``entity`` columns by a slash."""

    table: str
    entity: tuple[str, ...]
    time: str


@dataclass(frozen=True)
class BoundsPart:
    """Rows of a long table whose comparator is not ``=``, kept long."""

    table: str
    entity: str


Part: TypeAlias = LongPart | WidePart | BoundsPart

_PANELS: Mapping[str, tuple[Part, ...]] = {
    "provinces": (
        LongPart("provinces", "province"),
        LongPart("villages_area_year", "area", (("area_kind", "province"),)),
    ),
    "counties": (WidePart("villages_county_year", ("province", "city", "county"), "year"),),
    "areas": (LongPart("villages_area_year", "area"),),
    "nation": (
        LongPart("nation", "area", (("comparator", "="),)),
        LongPart("villages_area_year", "area", (("area_kind", "nation"),)),
    ),
    "nation_bounds": (BoundsPart("nation", "area"),),
    "migrants": (LongPart("migrant_workers", "region"),),
    "entry_exit": (WidePart("villages_entry_exit", ("province",), "to_year"),),
    "counties_by_province": (LongPart("counties_province_year", "province"),),
    "demonstration_counties": (LongPart("demonstration_counties", "area"),),
}


def names() -> tuple[str, ...]:
    """The names that `load` knows, in alphabetical order."""
    return tuple(sorted(_PANELS))


def load(name: str, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A shipped panel.

    Parameters
    ----------
    name : str
        One of `names`: for example ``provinces``, ``counties``, ``nation``.
    columns : sequence of str, optional
        The columns to keep; all by default.

    Returns
    -------
    pandas.DataFrame
        Indexed (entity, time), sorted, float64 columns with NaN where nothing is known (whole-number tables
        keep Int64). ``attrs`` holds, by column, ``units``, ``timing``, ``sources`` (tuples of source_id),
        ``labels`` and ``warnings`` (only columns that have one). ``nation`` has observations only; bounds,
        rounded figures and forecasts are in ``nation_bounds``, indexed (entity, time, variable) with columns
        value, comparator, unit, source_id, note. Does not interpolate, impute, deflate or add up.

    Raises
    ------
    DataError
        If the panel or a column is not known.

    Notes
    -----
    The warning of every loaded column is logged to the logger ``villageflow``.

    References
    ----------
    `sources` lists what to cite; DATA_LICENSE.md states the terms.
    """
    panel = quietly_loaded(name, columns)
    for column, text in panel.attrs["warnings"].items():
        _LOG.warning("data column %s: %s", column, text)
    return panel


def quietly_loaded(name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """As `load`, with its warnings in ``attrs`` alone."""
    if name not in _PANELS:
        raise DataError(f"No panel is called {name!r}. {did_you_mean(name, _PANELS)}")
    parts = _PANELS[name]
    match parts:
        case (BoundsPart() as bounds,):
            return _bounds(bounds, columns)
    frames, origin, sources = [], {}, {}
    for part in parts:
        frame, found = _wide(part)
        frames.append(frame)
        sources.update(found)
        origin.update(dict.fromkeys(frame.columns, part.table))
    panel = frames[0] if len(frames) == 1 else pd.concat(frames, axis=1)
    panel = _pick(panel.sort_index(), columns, f"panel {name!r}")
    panel.columns.name = None
    return _describe(panel, origin, sources)


def table(name: str) -> pd.DataFrame:
    """A shipped table as it is on disk, checked against its schema, with the source of every row.

    Raises
    ------
    DataError
        If no shipped table has this name.
    """
    shipped = sorted(path.stem for path in _FOLDER.glob("*.csv"))
    if name not in shipped:
        raise DataError(f"No table is called {name!r}. {did_you_mean(name, shipped)}")
    return _table(name).copy()


def codebook(table: str | None = None) -> pd.DataFrame:
    """The codebook: table, column, label, unit, type, timing, missing, warning; of one table if named."""
    book = _table("codebook")
    if table is None:
        return book.copy()
    if table not in set(book["table"]):
        raise DataError(f"The codebook has no table {table!r}. {did_you_mean(table, book['table'])}")
    return book[book["table"] == table].reset_index(drop=True)


def sources(*source_ids: str) -> pd.DataFrame:
    """Citation, location and licence, indexed by source_id; all of them or the ones named."""
    found = _table("sources").set_index("source_id")
    unknown = [name for name in source_ids if name not in found.index]
    if unknown:
        raise DataError(f"No source is called {unknown[0]!r}. {did_you_mean(unknown[0], found.index)}")
    return found.loc[list(source_ids)] if source_ids else found.copy()


def facts(*fact_ids: str, place: str | None = None, usable_as: str | None = None) -> pd.DataFrame:
    """Single figures on Beishan and on the national diffusion, indexed by fact_id.

    Parameters
    ----------
    *fact_ids : str
        The facts wanted, such as ``S1-18``; all by default.
    place, usable_as : str, optional
        Keep the facts of one place (``Beishan``, ``China``, ...) or of one use (``calibration target``, ...).

    Returns
    -------
    pandas.DataFrame
        With value_low, value_high, comparator, unit, year, year_from, year_to, statement, usable_as,
        source_id, paragraph and caution. A comparator other than ``=`` marks a range or a bound. Facts whose
        number begins with D are arithmetic on others: using both enters a datum twice.

    Raises
    ------
    DataError
        If a fact, place or use is not known.
    """
    found = _table("facts").set_index("fact_id")
    for value, known in (
        *((name, found.index) for name in fact_ids),
        *((v, found[c]) for v, c in ((place, "place"), (usable_as, "usable_as")) if v is not None),
    ):
        if value not in set(known):
            raise DataError(f"No fact has {value!r}. {did_you_mean(value, known)}")
    if fact_ids:
        found = found.loc[list(fact_ids)]
    keep = pd.Series(True, index=found.index)
    for column, wanted in (("place", place), ("usable_as", usable_as)):
        if wanted is not None:
            keep &= found[column] == wanted
    return found[keep].copy()


def read_panel(
    path: str | Path,
    *,
    entity: str,
    time: str,
    units: Mapping[str, str],
    labels: Iterable[str] = (),
    extra_units: Iterable[str] = (),
    source: str = "",
) -> pd.DataFrame:
    """A user's own CSV file as a panel, with the checks of the shipped ones.

    Parameters
    ----------
    path : str or Path
        A CSV file in UTF-8 with one header line, one row per entity and time.
    entity, time : str
        The columns that identify a row. Times are numbers, usually years.
    units : mapping of str to str
        The unit of every numeric column; see `villageflow.datasets.vocabulary`.
    labels : iterable of str
        Columns to keep as text, such as a city to cluster by.
    extra_units : iterable of str
        Words to accept as units beside the known ones.
    source : str
        What to cite, kept in ``attrs["sources"]``; the file name if blank.

    Returns
    -------
    pandas.DataFrame
        Indexed (entity, time), sorted, float64 columns (text for ``labels``); a blank cell is NaN. ``attrs``
        as in `load`. Does not interpolate, fill gaps, or convert units.

    Raises
    ------
    DataError
        If a column is missing or has no unit, a unit is unknown, a cell is not a number, an entity or time is
        blank, or an (entity, time) pair occurs twice: one line with file, row, column, value, rule, remedy.
    """
    raw, labels = read_cells(path), (labels,) if isinstance(labels, str) else tuple(labels)
    values = [name for name in raw.columns if name not in (entity, time, *labels)]
    check_columns(raw, required=[entity, time, *labels, *units])
    for key, column in (("entity", entity), ("time", time)):
        if key in raw.columns and key not in (entity, time):
            raise DataError(
                f"{raw.path}: column {key!r} stands beside {column!r}, which will be called {key!r}. "
                "Rename it in the file."
            )
    for name in values:
        if name not in units:
            raise DataError(
                f"{raw.path}: column {name!r} has no unit. Add units={{{name!r}: '...'}} "
                f"or, if it is text, labels=({name!r},)."
            )
        check_unit(units[name], where=f"{raw.path}: column {name!r}", extra=extra_units)
    faults: list[str] = []
    data: dict[str, list[Any]] = {entity: _cells(raw, entity, faults)}
    data[time] = _numbers(raw, time, faults, blank="is blank")
    data |= {name: _numbers(raw, name, faults) for name in values}
    data |= {name: _cells(raw, name) for name in labels}
    _duplicates(raw, list(zip(data[entity], data[time], strict=True)), (entity, time), faults)
    raise_faults(raw.path, faults)
    frame = pd.DataFrame(data)
    if (frame[time] == frame[time].astype("int64")).all():
        frame[time] = frame[time].astype("int64")
    panel = frame.rename(columns={entity: "entity", time: "time"}).set_index(["entity", "time"]).sort_index()
    panel[values] = panel[values].astype("float64")
    cite = (source or raw.path.name,)
    panel.attrs = {
        "units": {name: units[name] for name in values},
        "timing": {},
        "sources": dict.fromkeys(values, cite),
        "labels": {},
        "warnings": {},
    }
    return panel


@cache
def _table(name: str) -> pd.DataFrame:
    return read_table(_FOLDER / f"{name}.csv", name)


def _wide(part: Part) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """The panel of one table and the sources of its columns."""
    rows = _table(part.table)
    match part:
        case LongPart(entity=entity, where=where):
            for column, value in where:
                rows = rows[rows[column] == value]
            rows = rows.astype({"year": "int64"})
            frame = rows.pivot(index=[entity, "year"], columns="variable", values="value")
            found = _sources_of(rows)
        case WidePart(entity=columns, time=time):
            rows = rows.astype({time: "int64"})
            entities = rows[list(columns)].agg("/".join, axis=1).rename("entity")
            drop = [name for name in (*_PROVENANCE, time) if name in rows.columns]
            frame = rows.drop(columns=drop).set_index([entities, rows[time]])
            if len(columns) == 1:
                frame = frame.drop(columns=list(columns))
            found = dict.fromkeys(frame.columns, tuple(sorted(set(rows["source_id"]))))
        case _:
            raise AssertionError(part)
    frame.index.names = ["entity", "time"]
    return frame, found


def _sources_of(rows: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    return {str(name): tuple(sorted(set(ids))) for name, ids in rows.groupby("variable")["source_id"]}


def _bounds(part: BoundsPart, columns: Sequence[str] | None) -> pd.DataFrame:
    rows = _table(part.table)
    rows = rows[rows["comparator"] != "="].rename(columns={part.entity: "entity", "year": "time"})
    rows["time"] = rows["time"].astype("int64")
    panel = rows.set_index(["entity", "time", "variable"]).sort_index()
    panel = _pick(panel[["value", "comparator", "unit", "source_id", "note"]], columns, "the bounds")
    book = codebook(part.table).set_index("column")
    found = sorted(set(panel.index.get_level_values("variable")))
    panel.attrs = {
        "units": {name: str(book.loc[name, "unit"]) for name in found},
        "timing": {name: str(book.loc[name, "timing"]) for name in found},
        "sources": _sources_of(rows),
        "labels": {name: str(book.loc[name, "label"]) for name in found},
        "warnings": _warnings(book, found),
    }
    return panel


def _pick(panel: pd.DataFrame, columns: Sequence[str] | None, where: str) -> pd.DataFrame:
    if columns is None:
        return panel
    columns = [columns] if isinstance(columns, str) else list(columns)
    for name in columns:
        if name not in panel.columns:
            raise DataError(f"Column {name!r} is not in {where}. {did_you_mean(name, panel.columns)}")
    return panel[list(columns)]


def _describe(
    panel: pd.DataFrame, origin: Mapping[str, str], found: Mapping[str, tuple[str, ...]]
) -> pd.DataFrame:
    """Attach units, timing, sources, labels and warnings from the codebook."""
    whole = _table("codebook")
    rows = [whole[(whole["table"] == origin[name]) & (whole["column"] == name)] for name in panel.columns]
    book = pd.concat(rows).set_index("column")
    numeric = [name for name in panel.columns if book.loc[name, "unit"] != "-"]
    panel.attrs = {
        "units": {name: str(book.loc[name, "unit"]) for name in numeric},
        "timing": {name: str(book.loc[name, "timing"]) for name in numeric},
        "sources": {name: found[name] for name in panel.columns},
        "labels": {name: str(book.loc[name, "label"]) for name in panel.columns},
        "warnings": _warnings(book, panel.columns),
    }
    return panel


def _warnings(book: pd.DataFrame, columns: Iterable[str]) -> dict[str, str]:
    texts = book["warning"].dropna()
    return {name: str(texts[name]) for name in columns if name in texts.index}


def _cells(raw: RawTable, column: str, faults: list[str] | None = None) -> list[str | None]:
    """The cells of a column as text; a blank one is a fault if ``faults`` is given."""
    position = raw.columns.index(column)
    cells = [record[position] or None for record in raw.records]
    if faults is not None:
        faults += [
            fault(line, column, "", "is blank", "Name the entity.")
            for line, cell in zip(raw.lines, cells, strict=True)
            if cell is None
        ]
    return cells


def _numbers(raw: RawTable, column: str, faults: list[str], *, blank: str = "") -> list[float]:
    """The cells of a column as numbers; a blank one is NaN, or a fault that says ``blank``."""
    values = []
    for line, cell in zip(raw.lines, _cells(raw, column), strict=True):
        value = parse_number(cell, "number") if cell else None
        if cell and value is None:
            remedy = _REMEDIES.get(cell.lower(), _PLAIN)
            faults.append(fault(line, column, cell, "is not a number", remedy))
        elif cell is None and blank:
            faults.append(fault(line, column, "", blank, "Fill the cell."))
        values.append(float("nan") if value is None else value)
    return values


_PLAIN = "Write it without unit or separators; leave the cell blank if it is not known."
_UNKNOWN = "Leave the cell blank where nothing is known."
_REMEDIES = {
    **dict.fromkeys(("true", "false", "yes", "no"), "Write 1 and 0, or keep the column as labels."),
    **dict.fromkeys(("na", "nan", "n/a", "null", "none", ".", "-"), _UNKNOWN),
}


def _duplicates(
    raw: RawTable, keys: list[tuple[Any, ...]], columns: tuple[str, ...], faults: list[str]
) -> None:
    seen: dict[tuple[Any, ...], int] = {}
    for line, key in zip(raw.lines, keys, strict=True):
        if key in seen:
            text = ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in key)
            rule = f"repeats row {seen[key]}; entity and time identify a row"
            faults.append(fault(line, ", ".join(columns), text, rule, "Keep one of the rows."))
        seen.setdefault(key, line)
