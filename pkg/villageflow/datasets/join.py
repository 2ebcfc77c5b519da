"""Panels put together: joins that are audited, and columns derived by terms, with units and sources carried along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.datasets.terms import columns_of, evaluate, unit_of
from villageflow.errors import DataError, did_you_mean

How = Literal["left", "inner"]
_LEVELS: Final = ("entity", "time")
DESCRIBED: Final = ("units", "timing", "sources", "labels", "warnings")
"""What ``attrs`` says by column."""

_N_EXAMPLES: Final = 5


@dataclass(frozen=True)
class Merge:
    """The audit of one join.

    Parameters
    ----------
    name : str
        What was joined.
    keys : tuple of str
        The key columns, as ``province = entity`` where their names differ.
    how : {"left", "inner"}
        Whether rows without a partner were kept or dropped.
    rows_left, rows_right : int
        Rows of the panel and of the other table.
    matched : int
        Rows of the panel that found a partner, whose values may still be missing.
    left_only : int
        Rows of the panel that found none; ``rows_left = matched + left_only``.
    right_only : int
        Rows of the other table that no row of the panel asked for.
    lost_left, lost_right : tuple of tuple
        Up to five keys of ``left_only`` and ``right_only``, each once.
    """

    name: str
    keys: tuple[str, ...]
    how: How
    rows_left: int
    rows_right: int
    matched: int
    left_only: int
    right_only: int
    lost_left: tuple[tuple[Any, ...], ...]
    lost_right: tuple[tuple[Any, ...], ...]


def join(
    panel: pd.DataFrame,
    other: pd.DataFrame,
    *,
    on: Sequence[str] | Mapping[str, str] = _LEVELS,
    how: How = "left",
    name: str = "",
    columns: Sequence[str] | None = None,
    suffix: str = "",
) -> pd.DataFrame:
    """The columns of another table beside those of a panel; rows are never multiplied.

    Parameters
    ----------
    panel : pandas.DataFrame
        Indexed (entity, time).
    other : pandas.DataFrame
        A table whose index levels, named or not, are the right sides of ``on`` in that order; levels that ``on``
        leaves out must have one value, as ``entity`` has in a national panel.
    on : sequence of str, or mapping of str to str
        Index levels shared by both: ``("entity", "time")``, ``("time",)`` for a series that all entities share,
        ``("entity",)`` for constants. As a mapping from an index level or column of the panel to a level of the
        other: ``{"province": "entity", "time": "time"}``.
    how : {"left", "inner"}
        Keep rows without a partner, with missing values, or drop them.
    name : str
        What is joined, for the audit.
    columns : sequence of str, optional
        The columns to take; all by default.
    suffix : str
        Added to the names of columns that the panel already has.

    Returns
    -------
    pandas.DataFrame
        Rows in the order of ``panel``; whole-number and flag columns with missing rows become float64 or keep their
        nullable type. ``attrs`` describes the columns of both sides, ``attrs["merges"]`` ends with the `Merge` of
        this join. Does not convert units, fill gaps, or aggregate.

    Raises
    ------
    DataError
        If a key or column is unknown, keys have different types, a key occurs twice in the other table, a column
        is on both sides and there is no ``suffix``, or no row finds a partner.
    """
    said = f"Join {name!r}" if name else "Join"
    pairs = dict(on) if isinstance(on, Mapping) else {key: key for key in ([on] if isinstance(on, str) else on)}
    if how not in ("left", "inner"):
        raise DataError(f"{said}: how={how!r} is not known. Use 'left' or 'inner'.")
    left, right = _left_keys(panel, pairs, said), _right_keys(other, pairs, said)
    names = _names(panel, other, columns, suffix, said)
    _check_types(left, right, pairs, said)
    _check_unique(right, pairs, said)
    found = _index(right).get_indexer(_index(left))
    found[left.isna().any(axis=1).to_numpy()] = -1  # what is missing equals nothing
    merge = _audit(name, pairs, how, left, right, found)
    if not merge.matched and len(panel) and len(other):
        raise DataError(
            f"{said}: no row finds a partner. The panel has keys such as {_shown(merge.lost_left)}, the other table "
            f"{_shown(merge.lost_right)}. Check that `on` names what they share."
        )
    rows = found >= 0 if how == "inner" else np.ones(len(panel), dtype=bool)
    added = other[list(names)].reset_index(drop=True).reindex(found[rows]).set_axis(panel.index[rows])
    joined = pd.concat([panel[rows], added.set_axis(list(names.values()), axis=1)], axis=1)
    joined.attrs = _united(panel, other, names, merge)
    return joined


def derive(panel: pd.DataFrame, /, *, units: Mapping[str, str] | None = None, **columns: str) -> pd.DataFrame:
    """Columns computed by terms, each of which may use the ones before it.

    Parameters
    ----------
    panel : pandas.DataFrame
        Indexed (entity, time).
    units : mapping of str to str, optional
        The unit of columns whose term converts by a number, as ``1e6 * gdp`` does from Myuan to yuan; by default that
        of `villageflow.datasets.terms.unit_of`, which takes numbers as pure.
    **columns : str
        Name and term: ``gdp_per_head="1e6 * gdp / resident_population"``.

    Returns
    -------
    pandas.DataFrame
        With float64 columns added. Their sources, timing and warnings are those of the columns that the term reads,
        their label is the term.

    Raises
    ------
    DataError
        If a name exists already, or ``units`` names a column that is not derived.
    EstimationError
        If a term cannot be read or evaluated.
    """
    given = dict(units or {})
    if unknown := [name for name in given if name not in columns]:
        raise DataError(f"units names {unknown[0]!r}, which is not derived. {did_you_mean(unknown[0], columns)}")
    derived = panel.copy()
    for name, term in columns.items():
        if name in derived.columns or name in _LEVELS:
            raise DataError(f"Column {name!r} is in the panel already. Choose another name for {term!r}.")
        unit, read = given.get(name, unit_of(term, derived)), columns_of(term)
        derived = add_column(derived, name, evaluate(term, derived), unit=unit, label=term, read=read)
    return derived


def add_column(
    panel: pd.DataFrame, name: str, values: pd.Series[Any], *, unit: str, label: str, read: Sequence[str]
) -> pd.DataFrame:
    """A computed column with its unit, its label, and sources, timing and warnings of the columns it was read from."""
    attrs = dict(panel.attrs) | {key: dict(panel.attrs.get(key, {})) for key in DESCRIBED}
    attrs["units"][name], attrs["labels"][name] = unit, label
    if found := {source for column in read for source in attrs["sources"].get(column, ())}:
        attrs["sources"][name] = tuple(sorted(found))
    for key in ("timing", "warnings"):
        said = {column: attrs[key][column] for column in read if column in attrs[key]}
        if key == "timing" and len(set(said.values())) == 1:
            attrs[key][name] = next(iter(said.values()))
        elif said:
            attrs[key][name] = "; ".join(f"{column}: {text}" for column, text in said.items())
    panel = panel.assign(**{name: values})
    panel.attrs = attrs
    return panel


def merges_table(panel: pd.DataFrame) -> pd.DataFrame:
    """The audits of a panel, one row per join in order; no rows if nothing was joined."""
    rows = [asdict(merge) | {"keys": ", ".join(merge.keys)} for merge in panel.attrs.get("merges", ())]
    return pd.DataFrame(rows, columns=list(Merge.__dataclass_fields__)).set_index("name")


def _left_keys(panel: pd.DataFrame, pairs: Mapping[str, str], said: str) -> pd.DataFrame:
    """The keys of the panel's rows, one column per pair."""
    if panel.index.nlevels != 2:
        raise DataError(f"{said}: the panel is not indexed (entity, time). Use set_index(['entity', 'time']).")
    if not pairs:
        raise DataError(f"{said}: `on` is empty. Name the keys, such as ('entity', 'time').")
    found = {}
    for key in pairs:
        if key in _LEVELS:
            found[key] = panel.index.get_level_values(_LEVELS.index(key))
        elif key in panel.columns:
            found[key] = pd.Index(panel[key])
        else:
            raise DataError(f"{said}: the panel has no key {key!r}. {did_you_mean(key, [*_LEVELS, *panel.columns])}")
    return pd.DataFrame(found)


def _right_keys(other: pd.DataFrame, pairs: Mapping[str, str], said: str) -> pd.DataFrame:
    """The keys of the other table's rows, one column per pair, named by the panel's side."""
    unnamed = other.index.names == [None] * len(pairs)
    levels = list(pairs.values()) if unnamed else [str(level) for level in other.index.names]
    if twice := [level for level in pairs.values() if list(pairs.values()).count(level) > 1]:
        raise DataError(f"{said}: `on` names {twice[0]!r} of the other table twice. Give every key its own level.")
    for level in pairs.values():
        if level not in levels:
            raise DataError(f"{said}: the other table has no index level {level!r}. {did_you_mean(level, levels)}")
    for position, level in enumerate(levels):
        if level not in pairs.values() and other.index.get_level_values(position).nunique() > 1:
            raise DataError(
                f"{said}: the other table has several values of {level!r}, which `on` leaves out. Add it, or pick one."
            )
    return pd.DataFrame({key: other.index.get_level_values(levels.index(level)) for key, level in pairs.items()})


def _names(
    panel: pd.DataFrame, other: pd.DataFrame, columns: Sequence[str] | None, suffix: str, said: str
) -> dict[str, str]:
    """The new name of every column that is taken."""
    wanted = list(other.columns if columns is None else [columns] if isinstance(columns, str) else columns)
    if unknown := [name for name in wanted if name not in other.columns]:
        known = map(str, other.columns)
        raise DataError(f"{said}: column {unknown[0]!r} is not in the other table. {did_you_mean(unknown[0], known)}")
    names = {name: f"{name}{suffix}" if name in panel.columns else name for name in wanted}
    taken = {*panel.columns, *_LEVELS}
    for old, new in names.items():
        if new in taken:
            raise DataError(f"{said}: column {old!r} is on both sides. Leave it out by columns=, or give suffix='_2'.")
        taken.add(new)
    return names


def _check_types(left: pd.DataFrame, right: pd.DataFrame, pairs: Mapping[str, str], said: str) -> None:
    for key, level in pairs.items():
        numeric = [pd.api.types.is_numeric_dtype(side[key]) for side in (left, right)]
        if numeric[0] != numeric[1] and len(left) and len(right):
            raise DataError(
                f"{said}: key {key!r} of the panel holds {'numbers' if numeric[0] else 'text'} such as "
                f"'{left[key].iloc[0]}', {level!r} of the other table {'numbers' if numeric[1] else 'text'} such as "
                f"'{right[key].iloc[0]}'. Convert one of them."
            )


def _check_unique(right: pd.DataFrame, pairs: Mapping[str, str], said: str) -> None:
    repeated = right.duplicated()
    if repeated.any():
        examples = _examples(right[repeated])
        raise DataError(
            f"{said}: {int(repeated.sum())} rows of the other table repeat a key of ({', '.join(pairs.values())}), "
            f"such as {_shown(examples)}. Keep one row per key, or aggregate first."
        )


def _index(keys: pd.DataFrame) -> pd.MultiIndex:
    """Keys that compare across text types and across whole numbers and floats."""
    parts = [keys[key].astype("float64" if pd.api.types.is_numeric_dtype(keys[key]) else object) for key in keys]
    return pd.MultiIndex.from_arrays(parts, names=list(keys.columns))


def _audit(
    name: str, pairs: Mapping[str, str], how: How, left: pd.DataFrame, right: pd.DataFrame, found: npt.NDArray[np.intp]
) -> Merge:
    alone, unasked = found < 0, np.ones(len(right), dtype=bool)
    unasked[found[~alone]] = False
    return Merge(
        name=name,
        keys=tuple(key if key == level else f"{key} = {level}" for key, level in pairs.items()),
        how=how,
        rows_left=len(left),
        rows_right=len(right),
        matched=int((~alone).sum()),
        left_only=int(alone.sum()),
        right_only=int(unasked.sum()),
        lost_left=_examples(left[alone]),
        lost_right=_examples(right[unasked]),
    )


def _examples(keys: pd.DataFrame) -> tuple[tuple[Any, ...], ...]:
    rows = keys.drop_duplicates().head(_N_EXAMPLES).itertuples(index=False, name=None)
    return tuple(tuple(None if pd.isna(part) else part for part in row) for row in rows)


def _shown(keys: tuple[tuple[Any, ...], ...]) -> str:
    return ", ".join("/".join(map(str, key)) for key in keys[:3])


def _united(panel: pd.DataFrame, other: pd.DataFrame, names: Mapping[str, str], merge: Merge) -> dict[Any, Any]:
    """The attrs of the panel, with what is known of the columns that were added, and the audits of both sides."""
    attrs = dict(panel.attrs)
    for key in DESCRIBED:
        known = other.attrs.get(key, {})
        attrs[key] = dict(attrs.get(key, {})) | {new: known[old] for old, new in names.items() if old in known}
    merges: tuple[Merge, ...] = attrs.get("merges", ())
    attrs["merges"] = (*merges, *(item for item in other.attrs.get("merges", ()) if item not in merges), merge)
    return attrs
