"""What a calibration problem is checked for when it is made: every mistake is named with its row and its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from villageflow.calibrate.likelihood import CENTRED, NOISE, Observable
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.scales import as_number, with_floats
from villageflow.ensemble.design import check_unit, units_of
from villageflow.ensemble.simulate import integration_method, time_grid
from villageflow.errors import CalibrationError, DesignError, did_you_mean
from villageflow.ir.model import CONTROL_IDS, Kind, Model
from villageflow.names import variable_id
from villageflow.program.emit import check_names
from villageflow.units import same_unit

if TYPE_CHECKING:
    from villageflow.calibrate.problem import Problem

KINDS: Final = ("level", "net_flow", "share", "count")
COLUMNS: Final = ("entity", "time", "observable", "value", "comparator", "source_id")
COVARIATES: Final = ("entity", "name", "time", "value", "source_id")
COMPARATORS: Final = ("=", ">=", "<=")
EFFECTS: Final = ("shared", "fixed", "random")


def as_observables(given: object) -> tuple[Observable, ...]:
    """A tuple of observables from any iterable of them."""
    remedy = "give a tuple of Observable, such as (observable,), or observables_of(table)"
    if isinstance(given, pd.DataFrame) or not isinstance(given, Iterable):
        raise CalibrationError(f"the observables are a single {type(given).__name__}; {remedy}")
    found = tuple(given)
    for item in found:
        if not isinstance(item, Observable):
            raise CalibrationError(f"an observable is {item!r:.80}, a {type(item).__name__}; {remedy}")
    return found


def check_observables(model: Model, observables: tuple[Observable, ...]) -> None:
    """Names, kinds and noise of observables fit the model."""
    if not observables:
        raise CalibrationError("the problem has no observable; give at least one")
    seen: set[str] = set()
    for item in observables:
        _check_words(item)
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
        if item.unit.strip() and variable.units and not same_unit(item.unit, variable.units):
            raise CalibrationError(
                f"{where} is in {item.unit!r}, model {model.name!r} has {item.formula!r} in {variable.units!r}; "
                "convert the measurements and the unit, or correct the unit"
            )
        _check_noise(item, where)


def _check_words(item: Observable) -> None:
    """What is text is text, and what is yes or no is that."""
    for field in ("name", "formula", "kind", "noise", "unit"):
        value = getattr(item, field)
        if not isinstance(value, str) or (field in ("name", "formula") and not value.strip()):
            remedy = "leave it out where there is none" if field == "unit" else 'give text, such as "shops"'
            raise CalibrationError(f"observable {item.name!r} has the {field} {value!r}, which is no text; {remedy}")
    if not isinstance(item.centred, (bool, np.bool_)):
        raise CalibrationError(f"observable {item.name!r} has centred={item.centred!r}; it must be True or False")


def _check_noise(item: Observable, where: str) -> None:
    given: object = item.noise_parameter
    if item.noise not in NOISE:
        raise CalibrationError(f"{where} has noise {item.noise!r}. {did_you_mean(item.noise, NOISE)}")
    if item.centred and item.noise not in CENTRED:
        raise CalibrationError(f"{where} is centred and has {item.noise} noise; {' and '.join(CENTRED)} can be")
    needs = NOISE[item.noise].parameter
    if needs and given is None:
        raise CalibrationError(f"{where} has {item.noise} noise without a parameter; give its {needs}")
    if not needs and given is not None:
        raise CalibrationError(
            f"{where} has the noise parameter {given!r}, and {item.noise} noise has none; leave it out, or choose "
            "another noise"
        )
    if isinstance(given, str) or given is None:
        return
    number = as_number(given)
    if number is None:
        raise CalibrationError(
            f"{where} has the noise parameter {given!r}; it must be a number above 0 or the name of a free parameter"
        )
    if not 0 < number < np.inf:
        raise CalibrationError(f"{where} has the noise parameter {number:g}; it must be above 0 and finite")


def check_run(problem: Problem) -> None:
    """The method and the time grid can be run."""
    try:
        integration_method(problem.model, problem.method)
        time_grid(problem.model, time_step=problem.time_step)
    except DesignError as error:
        raise CalibrationError(f"the problem cannot be run: {error}") from None


def checked_fixed(given: object) -> dict[str, float]:
    """Values of fixed constants by canonical name."""
    if not isinstance(given, Mapping | pd.Series):
        raise CalibrationError(f"fixed is a {type(given).__name__}; give a dict of constant to number")
    found: dict[str, float] = {}
    written: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise CalibrationError(f"fixed names {name!r}, which is no text; give the name of a constant")
        key, number = variable_id(name), as_number(value)
        if key in found:
            raise CalibrationError(f"fixed sets {key!r} twice, as {written[key]!r} and as {name!r}; keep one")
        if number is None or not np.isfinite(number):
            raise CalibrationError(f"fixed sets {name!r} to {value!r}; it must be a finite number")
        found[key], written[key] = number, name
    return found


def check_parameters(problem: Problem) -> None:
    """Free and fixed parameters are constants of the model or noise parameters, with bounds, units and effects."""
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
        if name not in noise and name not in model.variables:
            raise CalibrationError(
                f"parameter {name!r} cannot be set: no observable has it as its noise_parameter, and it is no "
                f"constant of model {model.name!r}; drop the row or correct it. {did_you_mean(name, model.constants)}"
            )
        if name not in noise:
            _check_constant(model, name, units.get(name, ""))
    Priors.of(box, problem.parameters)
    for name in problem.fixed:
        if name in box.names:
            raise CalibrationError(f"parameter {name!r} is both free and fixed; keep one")
        _check_constant(model, name)
    for name, effect in problem.effects.items():
        if effect not in EFFECTS:
            known = did_you_mean(effect, EFFECTS)
            raise CalibrationError(f"parameter {name!r} has effect {effect!r}, as no free parameter has. {known}")
        if effect != "shared" and len(problem.entities) < 2:
            raise CalibrationError(f"parameter {name!r} has effect {effect!r}, and there is one entity; use 'shared'")


def _check_constant(model: Model, name: str, unit: str = "") -> None:
    try:
        check_names(model, [name], ())
        check_unit(model, name, unit)
    except DesignError as error:
        raise CalibrationError(f"parameter {name!r} cannot be set: {error}") from None


def checked_rows(problem: Problem, table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Measurements whose columns, observables, values and times fit the problem, with numbers as float64."""
    for column in COLUMNS:
        if column not in table.columns:
            raise CalibrationError(f"the {what} table has no column {column!r}; it needs {', '.join(COLUMNS)}")
    for column in table.columns:
        if column not in (*COLUMNS, "from_time"):
            hint = did_you_mean(str(column), COLUMNS)
            raise CalibrationError(f"the {what} table has an unknown column {column!r}. {hint}")
    table = with_floats(table, ("time", "value", "from_time"), what)
    known = {item.name: item for item in problem.observables}
    for position, row in enumerate(table.to_dict("records")):
        where = f"{what} row {position} ({row['observable']} at {row['time']:g})"
        if _blank(row["entity"]):
            raise CalibrationError(f"{where}: has no entity; say who is measured, the same word where there is one")
        if row["observable"] not in known:
            raise CalibrationError(f"{where}: no such observable. {did_you_mean(str(row['observable']), known)}")
        if row["comparator"] not in COMPARATORS:
            raise CalibrationError(f"{where}: comparator {row['comparator']!r} is not one of {', '.join(COMPARATORS)}")
        if known[row["observable"]].centred and row["comparator"] != "=":
            raise CalibrationError(f"{where}: a bound says nothing of a centred observable; leave the row out")
        if _blank(row["source_id"]):
            raise CalibrationError(f"{where}: has no source_id; say where the number comes from")
        item = known[row["observable"]]
        _check_value(where, row["value"], NOISE[item.noise].support)
        _check_time(problem, where, row["time"])
        start = row.get("from_time")
        if item.kind == "net_flow":
            if start is None or not start < row["time"]:
                raise CalibrationError(f"{where}: a net flow needs a from_time before its time")
            _check_time(problem, where, start)
        elif start is not None and not np.isnan(start):
            raise CalibrationError(f"{where}: from_time belongs to net flows; this observable is a {item.kind}")
    return table


def _blank(value: Any) -> bool:
    return bool(pd.isna(value)) or not str(value).strip()


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


def check_each_datum_once(problem: Problem) -> None:
    """No variable is measured twice for an entity at one time, and no source's number stands for two observables."""
    rows = pd.concat([problem.measurements, problem.holdout], ignore_index=True)
    formulas = {item.name: variable_id(item.formula) for item in problem.observables}
    seen: dict[tuple[object, ...], str] = {}
    for row in rows.to_dict("records"):
        name, time, value, source = row["observable"], row["time"], row["value"], row["source_id"]
        entity = row["entity"]
        keys: list[tuple[object, ...]] = [("variable", entity, formulas[name], time)]
        if value != 0:
            keys.append(("number", entity, source, time, value))
        for key in keys:
            if key in seen:
                raise CalibrationError(
                    f"{name} at {time:g} and {seen[key]} at {time:g} are the same datum of {entity} "
                    f"({formulas[name]!r}, source {source!r}); each datum enters once, in the fit or in the hold-out: "
                    "drop one row"
                )
            seen[key] = str(name)


def checked_covariates(problem: Problem) -> pd.DataFrame:
    """Values of constants (no time) and series of auxiliaries (with times) that each entity brings with it."""
    table = problem.covariates
    for column in COVARIATES:
        if column not in table.columns:
            raise CalibrationError(f"the covariates have no column {column!r}; they need {', '.join(COVARIATES)}")
    for column in table.columns:
        if column not in COVARIATES:
            known = did_you_mean(str(column), COVARIATES)
            raise CalibrationError(f"the covariates have an unknown column {column!r}. {known}")
    table = with_floats(table, ("time", "value"), "covariate")
    table["name"] = [variable_id(str(name)) for name in table["name"]]
    for position, row in enumerate(table.to_dict("records")):
        _check_covariate(problem, f"covariate row {position} ({row['name']} of {row['entity']})", row)
    twice = table.duplicated(["entity", "name", "time"])
    if twice.any():
        again = table[twice].iloc[0]
        raise CalibrationError(f"the covariates give {again['name']} of {again['entity']} twice; keep one row")
    for name, rows in table.groupby("name", sort=False):
        missing = [entity for entity in problem.entities if entity not in set(rows["entity"])]
        if missing:
            raise CalibrationError(
                f"the covariates give {name!r} for {rows['entity'].nunique()} entities and not for {missing[0]!r}, "
                "which is measured; add its rows, or leave it out"
            )
    return table


def _check_covariate(problem: Problem, where: str, row: Mapping[Any, Any]) -> None:
    name, timed = str(row["name"]), not np.isnan(row["time"])
    if row["entity"] not in problem.entities:
        raise CalibrationError(f"{where}: no measurement is of this entity; leave the row out, or add measurements")
    if not np.isfinite(row["value"]):
        raise CalibrationError(f"{where}: the value is {row['value']}; a covariate is known throughout")
    if _blank(row["source_id"]):
        raise CalibrationError(f"{where}: has no source_id; say where the number comes from")
    if name in problem.box.names or name in problem.fixed:
        raise CalibrationError(f"{where}: it is a parameter of the problem too; keep one")
    model = problem.model
    if timed and (name not in model.auxiliaries or name in CONTROL_IDS):
        hint = did_you_mean(name, model.auxiliaries)
        raise CalibrationError(f"{where}: a series takes the place of an auxiliary of model {model.name!r}. {hint}")
    if not timed:
        _check_constant(model, name)
