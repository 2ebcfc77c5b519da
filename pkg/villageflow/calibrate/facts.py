"""Facts as declared rows: what a run must show, and how each row is read off a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from villageflow.calibrate.scales import Floats
from villageflow.datasets.reading import read_cells
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.ir.model import Kind, Model
from villageflow.names import variable_id
from villageflow.units import same_unit

STATISTICS: Final = ("value", "minimum", "maximum", "mean", "ratio", "change", "first_above")
USES: Final = ("condition", "check")
REQUIRED: Final = ("fact_id", "variable", "statistic", "time", "lower", "upper", "unit", "use", "datum", "note")
OPTIONAL: Final = ("to_time", "level", "tolerance", "scale")
_NUMBERS: Final = ("time", "to_time", "level", "lower", "upper", "tolerance", "scale")
_IN_OWN_UNIT: Final = ("value", "minimum", "maximum", "mean", "change")
_SPANS: Final = ("minimum", "maximum", "mean", "ratio", "change", "first_above")


@dataclass(frozen=True)
class Fact:
    """One fact about a run.

    Attributes
    ----------
    fact_id : str
    variable : str
        A stock or auxiliary of the model, canonical.
    statistic : {"value", "minimum", "maximum", "mean", "ratio", "change", "first_above"}
        ``value`` at ``time``; extremes and mean over [time, to_time]; ``ratio`` and ``change`` from ``time`` to
        ``to_time``; ``first_above``, the time within [time, to_time] at which the variable first reaches ``level``,
        linear between saved times, infinite if never.
    time, to_time : float
        Saved times of the run; equal for ``value``.
    level : float
        NaN unless the statistic needs it.
    lower, upper : float
        Bounds after widening; minus or plus infinity on an open side.
    scale : float
        Distance beyond a bound that counts as one unit of implausibility.
    unit, note : str
    condition : bool
        Whether the fact decides which draws survive, or is only compared with those that do.
    data : tuple of str
        The source facts that the row uses.
    """

    fact_id: str
    variable: str
    statistic: str
    time: float
    to_time: float
    level: float
    lower: float
    upper: float
    scale: float
    unit: str
    condition: bool
    data: tuple[str, ...]
    note: str

    def implausibility(self, statistic: Floats) -> Floats:
        """0 in the middle of a two-sided range, 1 at a bound, then one more for each `scale` beyond.

        An open range has 0 everywhere inside but 1 at its bound. A statistic that is not finite is infinitely
        implausible on a bounded side.
        """
        with np.errstate(invalid="ignore"):
            if np.isfinite(self.lower) and np.isfinite(self.upper):
                half = (self.upper - self.lower) / 2
                beyond = np.maximum(self.lower - statistic, statistic - self.upper)
                inside = np.minimum(1 + beyond / half, 1.0) if half > 0 else np.ones_like(statistic)
                result = np.where(beyond <= 0, inside, 1 + beyond / self.scale)
            else:
                beyond = self.lower - statistic if np.isfinite(self.lower) else statistic - self.upper
                result = np.where(beyond < 0, 0.0, 1 + beyond / self.scale)
        return np.where(np.isnan(statistic), np.inf, result)


def read_facts(path: str | Path, model: Model) -> tuple[Fact, ...]:
    """Read a ``facts.csv`` and check it against a model, see `facts_of`."""
    raw = read_cells(path)
    table = pd.DataFrame(raw.records, columns=list(raw.columns)).replace("", None)
    return facts_of(table, model, where=str(raw.path))


def facts_of(table: pd.DataFrame, model: Model, *, where: str = "facts") -> tuple[Fact, ...]:
    """Check rows and turn them into facts.

    Parameters
    ----------
    table : DataFrame
        Columns fact_id, variable, statistic, time, lower, upper, unit, use (condition or check), datum (source facts,
        joined by ``+``) and note; to_time, level, tolerance and scale where needed. ``tolerance`` widens the bounds as
        a share of them; ``scale`` is needed where a side is open, and is half the range otherwise. ``unit`` must be
        the variable's where the statistic is in it. Examples: docs/tables.md.
    model : Model
        Whose stocks and auxiliaries the rows name.
    where : str
        What to call the table in messages.

    Returns
    -------
    tuple of Fact

    Raises
    ------
    CalibrationError
        With the row, the rule and the remedy; also where two conditions use one source fact.
    """
    if missing := [column for column in REQUIRED if column not in table.columns]:
        shown = ", ".join(map(repr, missing))
        said = f"columns {shown} are missing" if len(missing) > 1 else f"column {shown} is missing"
        raise CalibrationError(f"{where}: {said}; the table needs {', '.join(REQUIRED)}")
    for column in table.columns:
        if column not in (*REQUIRED, *OPTIONAL):
            raise CalibrationError(f"{where}: unknown column {column!r}. {did_you_mean(str(column), OPTIONAL)}")
    facts = tuple(_fact(row, model, where) for _, row in table.iterrows())
    if not any(fact.condition for fact in facts):
        raise CalibrationError(f"{where}: no row has use 'condition', so nothing can be matched")
    used: dict[str, str] = {}
    names: set[str] = set()
    for fact in facts:
        if fact.fact_id in names:
            raise CalibrationError(f"{where}: fact {fact.fact_id!r} has two rows; keep one")
        names.add(fact.fact_id)
        for datum in fact.data if fact.condition else ():
            if datum in used:
                raise CalibrationError(
                    f"{where}: {used[datum]!r} and {fact.fact_id!r} both condition on {datum!r}; each datum enters "
                    "once, so make one of them a check"
                )
            used[datum] = fact.fact_id
    return facts


def _fact(row: pd.Series[Any], model: Model, where: str) -> Fact:
    if pd.isna(row["fact_id"]) or not str(row["fact_id"]).strip():
        raise CalibrationError(f"{where}: row {row.name} has no fact_id; give each fact a name of its own")
    label = f"{where}: fact {row['fact_id']!r}"
    numbers = {name: _number(row.get(name), f"{label}, {name}") for name in _NUMBERS}
    words = {name: "" if pd.isna(row[name]) else str(row[name]) for name in ("unit", "datum", "note")}
    variable, statistic, use = variable_id(str(row["variable"])), str(row["statistic"]), str(row["use"])
    known = [name for name, found in model.variables.items() if found.kind in (Kind.STOCK, Kind.AUXILIARY)]
    if variable not in known:
        raise CalibrationError(f"{label}: {variable!r} is no stock or auxiliary of model {model.name!r}. "
                               f"{did_you_mean(variable, known)}")
    if statistic not in STATISTICS:
        raise CalibrationError(f"{label}: statistic {statistic!r} is not known. {did_you_mean(statistic, STATISTICS)}")
    if not words["unit"].strip():
        raise CalibrationError(f"{label}: has no unit; give that of the statistic, dmnl for a pure number")
    own = model.variables[variable].units
    if statistic in _IN_OWN_UNIT and own and not same_unit(own, words["unit"]):
        raise CalibrationError(
            f"{label}: is in {words['unit']!r}, model {model.name!r} has {variable!r} in {own!r}; convert the bounds "
            "and the unit, or correct the unit"
        )
    if use not in USES:
        raise CalibrationError(f"{label}: use is {use!r}; it must be 'condition' or 'check'")
    if not words["datum"]:
        raise CalibrationError(f"{label}: names no datum; say which source fact it uses")
    if statistic not in _SPANS and not np.isnan(numbers["to_time"]) and numbers["to_time"] != numbers["time"]:
        raise CalibrationError(
            f"{label}: has the to_time {numbers['to_time']:g}, and {statistic} is read at one time; leave it "
            f"blank, or choose one of {', '.join(_SPANS)}"
        )
    time, to_time = numbers["time"], numbers["to_time"] if statistic in _SPANS else numbers["time"]
    if not np.isfinite(time) or not to_time >= time or (statistic in ("ratio", "change") and to_time == time):
        raise CalibrationError(f"{label}: runs from time {time:g} to {to_time:g}; {statistic} needs both, in order")
    if statistic == "first_above" and np.isnan(numbers["level"]):
        raise CalibrationError(f"{label}: first_above needs a level")
    lower, upper, scale = _bounds(label, numbers)
    data = tuple(part.strip() for part in words["datum"].split("+"))
    return Fact(
        str(row["fact_id"]), variable, statistic, time, to_time, numbers["level"], lower, upper, scale, words["unit"],
        use == "condition", data, words["note"],
    )


def _number(value: Any, label: str) -> float:
    if pd.isna(value):
        return np.nan
    try:
        return float(str(value))
    except ValueError:
        raise CalibrationError(f"{label}: {value!r} is not a number") from None


def _bounds(label: str, numbers: dict[str, float]) -> tuple[float, float, float]:
    lower = -np.inf if np.isnan(numbers["lower"]) else numbers["lower"]
    upper = np.inf if np.isnan(numbers["upper"]) else numbers["upper"]
    if not (lower <= upper and (np.isfinite(lower) or np.isfinite(upper))):
        raise CalibrationError(f"{label}: bounds are [{lower:g}, {upper:g}]; give at least one, the lower first")
    tolerance = 0.0 if np.isnan(numbers["tolerance"]) else numbers["tolerance"]
    if tolerance < 0:
        raise CalibrationError(f"{label}: tolerance is {tolerance:g}; it widens the range and cannot be negative")
    lower, upper = lower - tolerance * abs(lower), upper + tolerance * abs(upper)
    scale = numbers["scale"]
    if np.isnan(scale):
        scale = (upper - lower) / 2
    if not (np.isfinite(scale) and scale > 0):
        raise CalibrationError(f"{label}: needs a scale above 0, in its unit, for a range that is open or a point")
    return lower, upper, scale


def statistic_of(fact: Fact, result: xr.Dataset) -> Floats:
    """The statistic of a fact for each member of a result, (member,); NaN for a run that did not stay finite."""
    times = result["time"].to_numpy()
    path = result[fact.variable].to_numpy()
    first, last = _position(fact, times, fact.time), _position(fact, times, fact.to_time)
    span = path[:, first:last + 1]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        match fact.statistic:
            case "value":
                found = path[:, first]
            case "minimum":
                found = span.min(axis=1)
            case "maximum":
                found = span.max(axis=1)
            case "mean":
                found = span.mean(axis=1)
            case "ratio":
                found = path[:, last] / path[:, first]
            case "change":
                found = path[:, last] - path[:, first]
            case _:
                found = _first_above(span, times[first:last + 1], fact.level)
    return np.asarray(np.where(np.isnan(span).any(axis=1), np.nan, found), dtype=float)


def check_times(fact: Fact, times: Floats) -> None:
    """Refuse a fact whose times are not among the saved times of a run."""
    _position(fact, times, fact.time)
    _position(fact, times, fact.to_time)


def _position(fact: Fact, times: Floats, time: float) -> int:
    position = int(np.argmin(np.abs(times - time)))
    if abs(times[position] - time) > 1e-6:
        raise CalibrationError(
            f"fact {fact.fact_id!r}: time {time:g} is not a saved time of the run, {times[0]:g} to {times[-1]:g} every "
            f"{times[1] - times[0] if len(times) > 1 else 0:g}; use one"
        )
    return position


def _first_above(span: Floats, times: Floats, level: float) -> Floats:
    above = span >= level
    found = np.full(len(span), np.inf)
    reached = above.any(axis=1)
    at = above.argmax(axis=1)
    found[reached & (at == 0)] = times[0]
    rows = np.flatnonzero(reached & (at > 0))
    low, high = span[rows, at[rows] - 1], span[rows, at[rows]]
    before, after = times[at[rows] - 1], times[at[rows]]
    found[rows] = before + (level - low) / (high - low) * (after - before)
    return found


def variables_of(facts: Sequence[Fact]) -> list[str]:
    """Variables to save, each once, in order."""
    return list(dict.fromkeys(fact.variable for fact in facts))
