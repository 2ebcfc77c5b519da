"""Terms of a formula evaluated on a panel: by calendar time within entities, with the unit of the result."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from villageflow.datasets.grammar import (
    Call,
    Chain,
    Column,
    Formula,
    Node,
    Number,
    Step,
    parse_formula,
    parse_term,
    short,
)
from villageflow.datasets.reading import parse_number
from villageflow.errors import EstimationError, VillageflowError, did_you_mean
from villageflow.units import product_unit, same_unit

__all__ = ["Formula", "check_index", "columns_of", "evaluate", "parse_formula", "unit_of"]

_Series: TypeAlias = "pd.Series[Any]"


def evaluate(term: str, panel: pd.DataFrame) -> _Series:
    """The values of a term on a panel.

    Parameters
    ----------
    term : str
        Columns and numbers in products, quotients and, inside parentheses, sums, and of them ``ln(x)``,
        ``log1p(x)`` = ln(1 + x), ``exp(x)``, ``lag(x)`` and ``lag(x, k)`` = the value k units of time earlier (1
        unless given), ``lead(x, k)`` = k later, ``d(x, k)`` = x less its lag, ``mean(x)`` = the mean of what is
        known of the entity in the whole panel.
    panel : pandas.DataFrame
        Indexed (entity, time) without repeats; times are numbers.

    Returns
    -------
    pandas.Series
        float64 on the index of the panel, NaN where a value is not known. A lag over a gap in time is NaN: the
        row before is never taken for the period before. Does not convert units.

    Raises
    ------
    EstimationError
        If the term cannot be read, a column or transform is unknown, a column is not numeric, a logarithm is not
        defined, an exponential overflows, a divisor is zero, or the panel is not indexed (entity, time).
    """
    node = parse_term(term)
    check_index(panel)
    return _values(node, panel).rename(None)


def unit_of(term: str, panel: pd.DataFrame) -> str:
    """The unit of a term, from ``panel.attrs["units"]``.

    Returns
    -------
    str
        Such as ``Myuan/(person*year)``; ``1`` for numbers, logarithms and exponentials; blank where the unit of a
        column is not known. Numbers are taken as pure: the unit of ``1e6 * x`` is that of ``x``.

    Raises
    ------
    EstimationError
        If the term cannot be read, a column is unknown, or the terms of a sum have different units.
    """
    return _unit(parse_term(term), panel)


def columns_of(term: str) -> tuple[str, ...]:
    """The columns that a term reads, each once, in the order of the text."""
    return tuple(dict.fromkeys(_columns(parse_term(term))))


def _columns(node: Node) -> Iterator[str]:
    match node:
        case Column(name):
            yield name
        case Call(inner=inner):
            yield from _columns(inner)
        case Chain(first, steps):
            for part in (first, *(step.operand for step in steps)):
                yield from _columns(part)


def check_index(panel: pd.DataFrame, error: type[VillageflowError] = EstimationError) -> None:
    """Refuse a panel that is not indexed (entity, time) without repeats, or whose times are not numbers."""
    if panel.index.nlevels != 2:
        raise error("The panel is not indexed (entity, time). Use panel.set_index(['entity', 'time']).")
    if not pd.api.types.is_numeric_dtype(panel.index.get_level_values(1)):
        raise error("The times of the panel are not numbers. Use years, or count the periods.")
    if not panel.index.is_unique:
        place = _place(panel.index[int(panel.index.duplicated().argmax())])
        raise error(f"The panel has {place} twice. Keep one of the rows.")


def _values(node: Node, panel: pd.DataFrame) -> _Series:
    match node:
        case Number(value):
            return pd.Series(value, index=panel.index, dtype="float64")
        case Column(name):
            return _column(name, panel)
        case Call(function, inner):
            return _FUNCTIONS[function](_values(inner, panel), node)
        case Chain(first, steps):
            total = _values(first, panel)
            for step in steps:
                total = _OPERATORS[step.operator](total, _divisor(step, _values(step.operand, panel)))
            return total


def _divisor(step: Step, values: _Series) -> _Series:
    if step.operator == "/":
        _refuse(values, values == 0, f"{step.text} is a divisor and zero", "Drop the rows, or divide by another term.")
    return values


def _column(name: str, panel: pd.DataFrame) -> _Series:
    _check_column(name, panel)
    cells = panel[name]
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_complex_dtype(cells):
        return cells.astype("float64")
    found = cells.astype(object)
    values = pd.Series([_number(cell) for cell in found], index=panel.index, dtype=object)
    bad = found[[value is None for value in values]]
    wrong = [f"{cell!r} for {_place(key)}" for key, cell in bad.items()]
    if wrong:
        raise EstimationError(f"Column {name!r} is not numeric: {_first(wrong)}. Convert it, or use it as an effect.")
    return values.astype("float64")


def _number(cell: object) -> float | None:
    """The number in a cell of a column of objects: NaN where it is missing or blank, None where it is no number."""
    if isinstance(cell, str):
        return parse_number(cell, "number") if cell.strip() else math.nan
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return math.nan
    return float(cell) if isinstance(cell, (int, float, np.number, Decimal, Fraction)) else None


def _check_column(name: str, panel: pd.DataFrame) -> None:
    n = int((panel.columns == name).sum())
    if n == 0:
        hint = did_you_mean(name, map(str, panel.columns))
        raise EstimationError(f"Column {short(name)} is not in the panel. {hint}")
    if n > 1:
        raise EstimationError(f"Column {name!r} is in the panel {n} times. Rename all but one.")


def _refuse(values: _Series, wrong: _Series, rule: str, remedy: str) -> None:
    """Refuse values with the first rows in which they are wrong, and how many there are."""
    if wrong.any():
        bad = values[wrong]
        rows = [f"{_place(key)} ({value:g})" for key, value in bad.items()]
        raise EstimationError(f"{rule} for {_first(rows)}. {remedy}")


def _place(key: Any) -> str:
    entity, time = key
    return f"{entity} at {time}"


def _first(rows: list[str]) -> str:
    return ", ".join(rows[:3]) + (f" and so on, {len(rows)} rows in all" if len(rows) > 3 else "")


def _ln(values: _Series, call: Call) -> _Series:
    _refuse(values, values <= 0, f"{call.text} is not defined", "Use log1p for counts, or drop the rows.")
    return pd.Series(np.log(values.to_numpy()), index=values.index)


def _log1p(values: _Series, call: Call) -> _Series:
    _refuse(values, values <= -1, f"{call.text} is not defined", "Correct the values, or drop the rows.")
    return pd.Series(np.log1p(values.to_numpy()), index=values.index)


def _exp(values: _Series, call: Call) -> _Series:
    _refuse(values, values > _LARGEST_EXPONENT, f"{call.text} is too large", "Divide by the scale of the column first.")
    return pd.Series(np.exp(values.to_numpy()), index=values.index)


def _shifted(values: _Series, shift: int) -> _Series:
    """The values ``shift`` units of time earlier, looked up by time; rounded, so that 1.1 - 1 is 0.1."""
    index = values.index
    entities, times = index.get_level_values(0), index.get_level_values(1).to_numpy(dtype="float64")
    own = pd.MultiIndex.from_arrays([entities, np.round(times, 9)])
    earlier = pd.MultiIndex.from_arrays([entities, np.round(times - shift, 9)])
    return pd.Series(values.set_axis(own).reindex(earlier).to_numpy(), index=index)


def _lag(values: _Series, call: Call) -> _Series:
    return _shifted(values, call.shift)


def _lead(values: _Series, call: Call) -> _Series:
    return _shifted(values, -call.shift)


def _difference(values: _Series, call: Call) -> _Series:
    return values - _shifted(values, call.shift)


def _mean(values: _Series, call: Call) -> _Series:
    entities = pd.factorize(values.index.get_level_values(0))[0]
    return values.groupby(entities).transform("mean")


_LARGEST_EXPONENT: Final = math.log(np.finfo(np.float64).max)
_OPERATORS: Final[dict[str, Callable[[_Series, _Series], _Series]]] = {
    "*": operator.mul, "/": operator.truediv, "+": operator.add, "-": operator.sub
}
_FUNCTIONS: Final[dict[str, Callable[[_Series, Call], _Series]]] = {
    "ln": _ln, "log1p": _log1p, "exp": _exp, "lag": _lag, "lead": _lead, "d": _difference, "mean": _mean
}
_PURE: Final = frozenset(("ln", "log1p", "exp"))


def _unit(node: Node, panel: pd.DataFrame) -> str:
    match node:
        case Number():
            return "1"
        case Column(name):
            _check_column(name, panel)
            return str(panel.attrs.get("units", {}).get(name, ""))
        case Call(function, inner):
            unit = _unit(inner, panel)
            return "1" if function in _PURE else unit
        case Chain(first, steps):
            units = [_unit(first, panel), *(_unit(step.operand, panel) for step in steps)]
            if steps[0].operator in "*/":
                signs = [1, *(1 if step.operator == "*" else -1 for step in steps)]
                return product_unit(zip(units, signs)) if all(units) else ""
            known = [unit for unit in units if unit]
            if other := [unit for unit in known if not same_unit(unit, known[0])]:
                raise EstimationError(f"{node.text} is a sum of {known[0]!r} and {other[0]!r}. Convert one of them.")
            return known[0] if len(known) == len(units) else ""
