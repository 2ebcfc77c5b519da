"""The declared calibration problem: model, free parameters, observables, measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from villageflow.calibrate.likelihood import NOISE, Observable, log_likelihood
from villageflow.calibrate.scales import Box, Floats
from villageflow.ensemble.design import Design, check_model, check_unit, units_of
from villageflow.ensemble.schema import FINISHED, STATUS
from villageflow.ensemble.simulate import simulate, time_grid
from villageflow.errors import CalibrationError, DesignError, did_you_mean
from villageflow.ir.model import Kind, Model
from villageflow.names import variable_id
from villageflow.program.emit import check_names

KINDS: Final = ("level", "net_flow", "share", "count")
COLUMNS: Final = ("entity", "time", "observable", "value", "comparator", "source_id")
COMPARATORS: Final = ("=", ">=", "<=")
_NO_ROWS: Final = pd.DataFrame(columns=[*COLUMNS])


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A calibration problem, checked when it is made.

    Attributes
    ----------
    model : Model
    parameters : DataFrame
        Free parameters, as in ``parameters.csv``: name, scale, lower, upper. A name is a constant of the model or the
        noise parameter of an observable; a ``unit`` is compared with the model's. Rows whose ``effect`` is not
        ``shared`` are refused.
    observables : tuple of Observable
        `observables_of` makes them from the rows of an ``observables.csv`` (docs/tables.md). Noise families: normal,
        lognormal, logitnormal, beta, poisson, negbinomial and student.
    measurements : DataFrame
        Rows to fit: entity, time, observable, value, comparator, source_id; ``from_time`` too for net flows.
        Comparators: ``=``; ``>=`` and ``<=`` where only a bound is known.
    holdout : DataFrame
        Rows of the same form that are never fitted.
    fixed : mapping of str to float
        Constants set to a value other than the model's own.
    time_step : float, optional
        Step to use instead of the model's own.
    method : str, optional
        ``euler`` or ``rk4`` instead of the model's own.

    Raises
    ------
    CalibrationError
        With the row, the rule and the remedy.

    Notes
    -----
    Each datum enters once: no observable, and no model variable, may be measured twice at one time, nor one source's
    number be used for two observables, whether in the fit or held out. Nothing is interpolated; a missing value is a
    missing row. One entity only: parameters that differ between entities need a hierarchical model, which this is not.
    """

    model: Model
    parameters: pd.DataFrame
    observables: tuple[Observable, ...]
    measurements: pd.DataFrame
    holdout: pd.DataFrame = field(default_factory=_NO_ROWS.copy)
    fixed: Mapping[str, float] = field(default_factory=dict)
    time_step: float | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        check_model(self.model)
        found = _observables(self.observables)
        object.__setattr__(self, "observables", found)
        object.__setattr__(self, "fixed", {variable_id(name): float(value) for name, value in self.fixed.items()})
        object.__setattr__(self, "parameters", self.parameters.reset_index(drop=True))
        _check_observables(self.model, found)
        _check_parameters(self)
        rows = {name: getattr(self, name).reset_index(drop=True) for name in ("measurements", "holdout")}
        for name, table in rows.items():
            what = "measurement" if name == "measurements" else "hold-out"
            object.__setattr__(self, name, _checked_rows(self, table, what))
        if not len(self.measurements):
            raise CalibrationError("the problem has no measurement to fit; give at least one row")
        _check_each_datum_once(self)

    @cached_property
    def box(self) -> Box:
        """The free parameters with scale and bounds."""
        return Box.from_table(self.parameters)

    @cached_property
    def save_times(self) -> Floats:
        """Times at which the model saves, which are the times that can be measured."""
        return time_grid(self.model, time_step=self.time_step).save_times()

    def __repr__(self) -> str:
        counts = f"{len(self.measurements)} measurements, {len(self.holdout)} held out"
        return (
            f"<villageflow.Problem: {self.model.name}, {self.box.size} free parameters ({', '.join(self.box.names)}), "
            f"{counts}, observables {', '.join(item.name for item in self.observables)}>"
        )

    def locations(self, values: Floats, rows: pd.DataFrame) -> Floats:
        """What the model says for each row, for many parameter vectors in one ensemble run.

        Parameters
        ----------
        values : (n, p) array
            Natural values of the free parameters, in the order of ``box.names``.
        rows : DataFrame
            With observable, time and, for net flows, from_time.

        Returns
        -------
        (n, len(rows)) array
            NaN in the row of a parameter vector whose run did not stay finite.
        """
        table = pd.DataFrame(values, columns=list(self.box.names))
        table = table[[name for name in self.box.names if name in self.model.constants]]
        for name, value in self.fixed.items():
            table[name] = value
        formulas = {observable.name: variable_id(observable.formula) for observable in self.observables}
        result = simulate(
            self.model, Design(table), save=sorted(set(formulas.values())), time_step=self.time_step,
            final_time=float(rows["time"].max()), method=self.method, errors="flag",
        )
        failed = result[STATUS].to_numpy() != FINISHED
        paths = {name: np.where(failed[:, None], np.nan, result[variable]) for name, variable in formulas.items()}
        net = {observable.name for observable in self.observables if observable.kind == "net_flow"}
        columns: list[Floats] = []
        for row in rows.to_dict("records"):
            path = paths[row["observable"]]
            found = path[:, self._position(float(row["time"]))]
            if row["observable"] in net:
                found = found - path[:, self._position(float(row["from_time"]))]
            columns.append(found)
        return np.stack(columns, axis=1)

    def log_likelihood(self, table: pd.DataFrame) -> Floats:
        """Log likelihood of the measurements for each row of a table of free parameters, (n,)."""
        missing = [name for name in self.box.names if name not in table.columns]
        if missing:
            raise CalibrationError(f"the table has no column for the free parameter {missing[0]!r}; add it")
        return log_likelihood(self, table[list(self.box.names)].to_numpy(dtype=float), self.measurements)

    def _position(self, time: float) -> int:
        return int(np.argmin(np.abs(self.save_times - time)))


def observables_of(table: pd.DataFrame) -> tuple[Observable, ...]:
    """The rows of an ``observables.csv``."""
    found = []
    for row in table.to_dict("records"):
        given = row.get("noise_parameter")
        parameter: str | float | None = None
        if not pd.isna(given):
            try:
                parameter = float(given)
            except ValueError:
                parameter = variable_id(str(given))
        name, formula, kind, noise = (str(row[column]) for column in ("observable", "formula", "kind", "noise"))
        unit = row.get("unit")
        found.append(Observable(name, formula, kind, noise, parameter, "" if pd.isna(unit) else str(unit)))
    return tuple(found)


def _observables(given: object) -> tuple[Observable, ...]:
    remedy = "give a tuple of Observable, such as (observable,), or observables_of(table)"
    if isinstance(given, pd.DataFrame) or not isinstance(given, Iterable):
        raise CalibrationError(f"the observables are a single {type(given).__name__}; {remedy}")
    found = tuple(given)
    for item in found:
        if not isinstance(item, Observable):
            raise CalibrationError(f"an observable is {item!r:.80}, a {type(item).__name__}; {remedy}")
    return found


def _check_observables(model: Model, observables: tuple[Observable, ...]) -> None:
    if not observables:
        raise CalibrationError("the problem has no observable; give at least one")
    seen: set[str] = set()
    for item in observables:
        where = f"observable {item.name!r}"
        if item.name in seen:
            raise CalibrationError(f"{where} is declared twice; keep one")
        seen.add(item.name)
        variable = model.variables.get(variable_id(item.formula))
        if variable is None:
            hint = did_you_mean(variable_id(item.formula), model.variables)
            raise CalibrationError(f"{where} observes {item.formula!r}, no variable of model {model.name!r}. {hint}")
        if item.kind not in KINDS:
            raise CalibrationError(f"{where} is of kind {item.kind!r}. {did_you_mean(item.kind, KINDS)}")
        if item.kind == "net_flow" and variable.kind is not Kind.STOCK:
            raise CalibrationError(
                f"{where} is a net flow of {item.formula!r}, which is no stock; observe the stock that accumulates it"
            )
        if item.noise not in NOISE:
            raise CalibrationError(f"{where} has noise {item.noise!r}. {did_you_mean(item.noise, NOISE)}")
        needs = NOISE[item.noise].parameter
        if needs and item.noise_parameter is None:
            raise CalibrationError(f"{where} has {item.noise} noise without a parameter; give its {needs}")
        if isinstance(item.noise_parameter, float) and not item.noise_parameter > 0:
            raise CalibrationError(f"{where} has the noise parameter {item.noise_parameter:g}; it must be above 0")


def _check_parameters(problem: Problem) -> None:
    box, model = problem.box, problem.model
    if not box.size:
        raise CalibrationError("the problem has no free parameter; give at least one row")
    noise = {item.noise_parameter for item in problem.observables if isinstance(item.noise_parameter, str)}
    for name in sorted(noise - set(box.names)):
        raise CalibrationError(f"the noise parameter {name!r} has no row in the parameters; add one or give a number")
    units = units_of(problem.parameters)
    for position, name in enumerate(box.names):
        if name in noise and not box.lower[position] > 0:
            low = box.lower[position]
            raise CalibrationError(f"the noise parameter {name!r} has the lower bound {low:g}; it must be above 0")
        if name not in noise:
            _check_constant(model, name, units.get(name, ""))
    for name in problem.fixed:
        if name in box.names:
            raise CalibrationError(f"parameter {name!r} is both free and fixed; keep one")
        _check_constant(model, name)
    if "effect" in problem.parameters:
        other = problem.parameters[problem.parameters["effect"] != "shared"]
        if len(other):
            first = other.iloc[0]
            raise CalibrationError(
                f"parameter {first['name']!r} has effect {first['effect']!r}; a fit takes 'shared' rows only"
            )


def _check_constant(model: Model, name: str, unit: str = "") -> None:
    try:
        check_names(model, [name], ())
        check_unit(model, name, unit)
    except DesignError as error:
        raise CalibrationError(f"parameter {name!r} cannot be set: {error}") from None


def _checked_rows(problem: Problem, table: pd.DataFrame, what: str) -> pd.DataFrame:
    for column in COLUMNS:
        if column not in table.columns:
            raise CalibrationError(f"the {what} table has no column {column!r}; it needs {', '.join(COLUMNS)}")
    for column in table.columns:
        if column not in (*COLUMNS, "from_time"):
            hint = did_you_mean(str(column), COLUMNS)
            raise CalibrationError(f"the {what} table has an unknown column {column!r}. {hint}")
    known = {item.name: item for item in problem.observables}
    for position, row in enumerate(table.to_dict("records")):
        where = f"{what} row {position} ({row['observable']} at {row['time']})"
        if row["observable"] not in known:
            raise CalibrationError(f"{where}: no such observable. {did_you_mean(str(row['observable']), known)}")
        if row["comparator"] not in COMPARATORS:
            raise CalibrationError(f"{where}: comparator {row['comparator']!r} is not one of {', '.join(COMPARATORS)}")
        if pd.isna(row["source_id"]) or not str(row["source_id"]):
            raise CalibrationError(f"{where}: has no source_id; say where the number comes from")
        item = known[row["observable"]]
        _check_value(where, float(row["value"]), NOISE[item.noise].support)
        _check_time(problem, where, float(row["time"]))
        start = row.get("from_time")
        if item.kind == "net_flow":
            if start is None or pd.isna(start) or not float(start) < float(row["time"]):
                raise CalibrationError(f"{where}: a net flow needs a from_time before its time")
            _check_time(problem, where, float(start))
        elif start is not None and pd.notna(start):
            raise CalibrationError(f"{where}: from_time belongs to net flows; this observable is a {item.kind}")
    found = table.copy()
    for column in found.columns.intersection(["time", "value", "from_time"]):
        found[column] = found[column].astype(float)
    return found


def _check_value(where: str, value: float, support: str) -> None:
    if not np.isfinite(value):
        raise CalibrationError(f"{where}: the value is {value}; leave the row out when nothing is known")
    if support == "count" and (value < 0 or value != round(value)):
        raise CalibrationError(f"{where}: the value is {value:g}; count noise needs a whole number of 0 or more")
    if support == "positive" and value <= 0:
        raise CalibrationError(f"{where}: the value is {value:g}; lognormal noise needs a value above 0")
    if support == "unit" and not 0 < value < 1:
        raise CalibrationError(f"{where}: the value is {value:g}; this noise needs a value between 0 and 1")


def _check_time(problem: Problem, where: str, time: float) -> None:
    times = problem.save_times
    if not times[0] <= time <= times[-1]:
        raise CalibrationError(f"{where}: time {time:g} lies outside the run, {times[0]:g} to {times[-1]:g}")
    if np.abs(times - time).min() > 1e-6:
        near = times[int(np.argmin(np.abs(times - time)))]
        raise CalibrationError(
            f"{where}: time {time:g} is not a saved time (the nearest is {near:g}); round it to one, or save more often"
        )


def _check_each_datum_once(problem: Problem) -> None:
    rows = pd.concat([problem.measurements, problem.holdout], ignore_index=True)
    if rows["entity"].nunique() > 1:
        raise CalibrationError(
            f"the measurements are of {rows['entity'].nunique()} entities; one problem takes one, so filter the rows"
        )
    formulas = {item.name: variable_id(item.formula) for item in problem.observables}
    seen: dict[tuple[object, ...], str] = {}
    for row in rows.to_dict("records"):
        name, time, value, source = row["observable"], row["time"], row["value"], row["source_id"]
        keys: list[tuple[object, ...]] = [("variable", formulas[name], time)]
        if value != 0:
            keys.append(("number", source, time, value))
        for key in keys:
            if key in seen:
                raise CalibrationError(
                    f"{name} at {time:g} and {seen[key]} at {time:g} are the same datum ({formulas[name]!r}, source "
                    f"{source!r}); each datum enters once, in the fit or in the hold-out: drop one row"
                )
            seen[key] = str(name)
