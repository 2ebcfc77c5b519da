"""Terms of a formula: columns inside a few named transforms, evaluated by calendar time within entities."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from villageflow.errors import EstimationError, did_you_mean

_Series: TypeAlias = "pd.Series[Any]"
_CALL = re.compile(r"(\w+)\((.*)\)")


@dataclass(frozen=True)
class Formula:
    """An outcome and its regressors, each a term such as ``lag(ln(gdp))``."""

    outcome: str
    regressors: tuple[str, ...]


def parse_formula(text: str) -> Formula:
    """Read ``outcome ~ term + term``.

    Raises
    ------
    EstimationError
        If there is not exactly one ``~``, a term is blank, or a term occurs twice. Effects are not part of a
        formula; interactions and products are not known here: make a column.
    """
    sides = text.split("~")
    if len(sides) != 2:
        raise EstimationError(f"Formula {text!r} needs exactly one '~'. Write 'outcome ~ term + term'.")
    outcome, regressors = sides[0].strip(), tuple(term.strip() for term in sides[1].split("+"))
    if not outcome or not all(regressors):
        raise EstimationError(f"Formula {text!r} has a blank term. Write 'outcome ~ term + term'.")
    for term in regressors:
        if regressors.count(term) > 1 or term == outcome:
            raise EstimationError(f"Formula {text!r} names {term!r} twice. Drop one of them.")
    return Formula(outcome, regressors)


def evaluate(term: str, panel: pd.DataFrame) -> _Series:
    """The values of a term on a panel.

    Parameters
    ----------
    term : str
        A column, or a transform of a term: ``ln(x)``, ``log1p(x)`` = ln(1 + x), ``lag(x)`` = the value one
        unit of time earlier, ``d(x)`` = x less its lag.
    panel : pandas.DataFrame
        Indexed (entity, time).

    Returns
    -------
    pandas.Series
        float64 on the index of the panel. A lag over a gap in time is NaN: the row before is never taken for
        the period before.

    Raises
    ------
    EstimationError
        If a column or transform is unknown, a column is not numeric, or a logarithm is not defined.
    """
    call = _CALL.fullmatch(term.strip())
    if call is None:
        name = term.strip()
        if name not in panel.columns:
            raise EstimationError(f"Column {name!r} is not in the panel. {did_you_mean(name, panel.columns)}")
        if not pd.api.types.is_numeric_dtype(panel[name]):
            raise EstimationError(f"Column {name!r} is not numeric. Convert it, or use it as an effect.")
        return panel[name].astype("float64")
    name, inner = call.groups()
    if name not in _TRANSFORMS:
        if name == "log":
            raise EstimationError(f"Transform 'log' is not known. Use ln({inner}), or log1p({inner}) for counts.")
        raise EstimationError(f"Transform {name!r} is not known. {did_you_mean(name, _TRANSFORMS)}")
    return _TRANSFORMS[name](evaluate(inner, panel), inner)


def _lag(values: _Series, inner: str) -> _Series:
    times = values.index.get_level_values(1)
    earlier = pd.MultiIndex.from_arrays(
        [values.index.get_level_values(0), times - 1], names=values.index.names
    )
    return pd.Series(values.reindex(earlier).to_numpy(), index=values.index)


def _difference(values: _Series, inner: str) -> _Series:
    return values - _lag(values, inner)


def _ln(values: _Series, inner: str) -> _Series:
    return _logarithm(values, inner, "ln", 0.0)


def _log1p(values: _Series, inner: str) -> _Series:
    return _logarithm(values, inner, "log1p", -1.0)


def _logarithm(values: _Series, inner: str, name: str, floor: float) -> _Series:
    wrong = values <= floor
    if wrong.any():
        entity, time = values.index[int(wrong.to_numpy().argmax())]
        raise EstimationError(
            f"{name}({inner}) is not defined for {entity} at {time}: the value is {values[wrong].iloc[0]:g}. "
            "Use log1p for counts, or drop the row."
        )
    logs = np.log(values) if floor == 0 else np.log1p(values)
    return pd.Series(logs, index=values.index)


_TRANSFORMS: dict[str, Callable[[_Series, str], _Series]] = {
    "ln": _ln,
    "log1p": _log1p,
    "lag": _lag,
    "d": _difference,
}
