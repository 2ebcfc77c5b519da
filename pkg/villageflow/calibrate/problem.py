"""The declared calibration problem: model, free parameters, observables, measurements of one entity or many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.checks import (
    COLUMNS,
    COVARIATES,
    as_observables,
    check_each_datum_once,
    check_observables,
    check_parameters,
    check_run,
    checked_covariates,
    checked_fixed,
    checked_rows,
)
from villageflow.calibrate.lanes import Lanes
from villageflow.calibrate.likelihood import Observable, log_terms
from villageflow.calibrate.scales import Box, Floats, as_table
from villageflow.calibrate.slopes import slopes_of
from villageflow.ensemble.design import check_model
from villageflow.ensemble.simulate import time_grid
from villageflow.errors import CalibrationError
from villageflow.ir.model import Model
from villageflow.names import variable_id

_NO_ROWS: Final = pd.DataFrame(columns=[*COLUMNS])
_TABLES: Final = {name: name for name in ("parameters", "measurements", "covariates")} | {"holdout": "measurements"}
"""Tables of a problem, and the schema of each."""
_NO_COVARIATES: Final = pd.DataFrame(columns=[*COVARIATES])


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """A calibration problem, checked when it is made.

    Attributes
    ----------
    model : Model
    parameters : DataFrame
        Free parameters, as in ``parameters.csv``: name, scale, lower, upper. A name is a constant of the model or the
        noise parameter of an observable; a ``unit`` is compared with the model's. ``effect`` is ``shared`` (default),
        or, with several entities, ``random`` or ``fixed``: a value for each.
    observables : tuple of Observable
        `observables_of` makes them from the rows of an ``observables.csv`` (docs/tables.md). Noise families: normal,
        lognormal, logitnormal, beta, poisson, negbinomial and student.
    measurements : DataFrame
        Rows to fit: entity, time, observable, value, comparator, source_id; ``from_time`` too for net flows.
        Comparators: ``=``; ``>=`` and ``<=`` where only a bound is known.
    holdout : DataFrame
        Rows of the same form that are never fitted.
    covariates : DataFrame
        What each entity brings with it: entity, name, time, value, source_id. Without a time the value of a constant,
        such as an initial condition; with times a series in the place of an auxiliary, held from each time to the next.
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
    missing row.
    """

    model: Model
    parameters: pd.DataFrame
    observables: tuple[Observable, ...]
    measurements: pd.DataFrame
    holdout: pd.DataFrame = field(default_factory=_NO_ROWS.copy)
    covariates: pd.DataFrame = field(default_factory=_NO_COVARIATES.copy)
    fixed: Mapping[str, float] = field(default_factory=dict)
    time_step: float | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        check_model(self.model)
        check_run(self)
        found = as_observables(self.observables)
        object.__setattr__(self, "observables", found)
        object.__setattr__(self, "fixed", checked_fixed(self.fixed))
        for name, schema in _TABLES.items():
            object.__setattr__(self, name, as_table(getattr(self, name), name, schema))
        check_observables(self.model, found)
        for name, what in (("measurements", "measurement"), ("holdout", "hold-out")):
            object.__setattr__(self, name, checked_rows(self, getattr(self, name), what))
        if not len(self.measurements):
            raise CalibrationError("the problem has no measurement to fit; give at least one row")
        check_parameters(self)
        check_each_datum_once(self)
        object.__setattr__(self, "covariates", checked_covariates(self))
        self.lanes.check_series()

    @cached_property
    def box(self) -> Box:
        """The free parameters with scale and bounds."""
        return Box.from_table(self.parameters)

    @cached_property
    def effects(self) -> Mapping[str, str]:
        """Effect of each free parameter."""
        given = self.parameters.get("effect", pd.Series("shared", index=self.parameters.index)).fillna("shared")
        return dict(zip(self.box.names, map(str, given), strict=True))

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Who is measured, in the order of the rows."""
        return tuple(dict.fromkeys([*self.measurements["entity"], *self.holdout["entity"]]))

    @cached_property
    def save_times(self) -> Floats:
        """Times at which the model saves, which are the times that can be measured."""
        return time_grid(self.model, time_step=self.time_step).save_times()

    def __repr__(self) -> str:
        counts = f"{len(self.measurements)} measurements, {len(self.holdout)} held out"
        many = f" of {len(self.entities)} entities" if len(self.entities) > 1 else ""
        return (
            f"<villageflow.Problem: {self.model.name}, {self.box.size} free parameters ({', '.join(self.box.names)}), "
            f"{counts}{many}, observables {', '.join(item.name for item in self.observables)}>"
        )

    def positions(self, rows: pd.DataFrame) -> npt.NDArray[np.intp]:
        """Position of each row's entity in `entities`."""
        if "entity" not in rows.columns:
            return np.zeros(len(rows), dtype=np.intp)
        found: npt.NDArray[np.intp] = pd.Index(self.entities).get_indexer(pd.Index(rows["entity"]))
        if (found < 0).any():
            unknown = rows["entity"].to_numpy()[int(np.argmax(found < 0))]
            raise CalibrationError(f"nothing is measured of {unknown!r}; the problem has {', '.join(self.entities)}")
        return found

    def locations(self, values: Floats, rows: pd.DataFrame) -> Floats:
        """What the model says for each row, for many parameter vectors in one ensemble run.

        Parameters
        ----------
        values : (n, p) or (n, E, p) array
            Natural values of the free parameters, in the order of ``box.names``; with three dimensions each entity has
            its own.
        rows : DataFrame
            With observable, time, entity (the only one if absent) and, for net flows, from_time.

        Returns
        -------
        (n, len(rows)) array
            NaN where the run of the entity did not stay finite.
        """
        n, many = len(values), len(self.entities)
        if values.ndim == 2:
            values = np.broadcast_to(values[:, None, :], (n, many, values.shape[1]))
        found, last = np.empty((n, len(rows))), float(rows["time"].max())
        for part in self.lanes.parts(n, last):
            found[part] = self._at_rows(self.lanes.paths(values[part], last), rows)
        return found

    @cached_property
    def lanes(self) -> Lanes:
        """The runs of the model."""
        return Lanes(self)

    @property
    def fixed_steps(self) -> bool:
        """Whether the method has fixed steps, which the engine can differentiate."""
        return self.lanes.fixed_steps

    @property
    def smooth(self) -> bool:
        """Whether the engine's derivatives are all of it: no free parameter also moves an event or a condition."""
        return self.lanes.smooth

    def location_slopes(self, values: Floats, rows: pd.DataFrame) -> tuple[Floats, Floats]:
        """Locations of the rows and their exact derivatives by the free parameters.

        Parameters
        ----------
        values : (n, p) or (n, E, p) array
            Natural values, shared by all entities or each its own.
        rows : DataFrame
            As for `locations`.

        Returns
        -------
        locations : (n, len(rows)) array
        derivatives : (n, len(rows), p) array
            Per natural unit, by the row's own parameters; zero for noise parameters, NaN where run or derivative did
            not stay finite.
        """
        if not self.lanes.free:
            return self.locations(values, rows), np.zeros((len(values), len(rows), self.box.size))
        n, last = len(values), float(rows["time"].max())
        located, moved = np.empty((n, len(rows))), np.zeros((n, len(rows), self.box.size))
        if values.ndim == 2:
            values = np.broadcast_to(values[:, None, :], (n, len(self.entities), values.shape[1]))
        for part in self.lanes.parts(n, last, 2 * len(self.lanes.free)):
            paths, slopes = self.lanes.moved(values[part], last)
            located[part] = self._at_rows(paths, rows)
            moved[part][:, :, self.lanes.columns] = self._at_rows(slopes, rows)
        return located, moved

    def log_likelihood(self, table: pd.DataFrame) -> Floats:
        """Log likelihood of the measurements for each row of a table of free parameters, (n,)."""
        missing = [name for name in self.box.names if name not in table.columns]
        if missing:
            raise CalibrationError(f"the table has no column for the free parameter {missing[0]!r}; add it")
        values = table[list(self.box.names)].to_numpy(dtype=float)
        return np.asarray(log_terms(self, values, self.measurements).sum(axis=1))

    def entity_log_likelihood(self, values: Floats) -> Floats:
        """Log likelihood of the measurements of each entity under its own parameters, (n, E, p) to (n, E)."""
        return self._by_entity(log_terms(self, values, self.measurements))

    def entity_slopes(self, values: Floats) -> tuple[Floats, Floats]:
        """Exact derivatives of `entity_log_likelihood` by each entity's own parameters, natural units, (n, E, p).

        Beside them (n, E, p, p) second derivatives but for the bending of the trajectories. Where a parameter moves an
        event or a condition (`smooth` is False) both leave its effect out.
        """
        if values.ndim == 2:
            values = np.broadcast_to(values[:, None, :], (len(values), len(self.entities), values.shape[1]))
        found = slopes_of(self, values, self.measurements)
        return self._by_entity(found.scores), found.curvature(self._by_entity)

    def _by_entity(self, terms: Floats) -> Floats:
        """Sums over the rows of each entity, (n, rows, ...) to (n, E, ...)."""
        order, firsts = self._rows_by_entity
        found = np.zeros((len(terms), len(self.entities), *terms.shape[2:]))
        measured = np.flatnonzero(firsts >= 0)
        found[:, measured] = np.add.reduceat(terms[:, order], firsts[measured], axis=1)
        return found

    @cached_property
    def _rows_by_entity(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Measurements ordered by entity, and where each entity begins; -1 without a measurement."""
        entity = self.positions(self.measurements)
        counts = np.bincount(entity, minlength=len(self.entities))
        return np.argsort(entity, kind="stable"), np.where(counts > 0, np.cumsum(counts) - counts, -1)

    def _at_rows(self, paths: Mapping[str, Floats], rows: pd.DataFrame) -> Floats:
        """Paths (n, E, times, ...) by variable at the rows: a value, or for net flows a change; (n, rows, ...)."""
        entity, until = self.positions(rows), self._saved_at(rows["time"])
        since = self._saved_at(rows["from_time"]) if "from_time" in rows.columns else np.full(len(rows), -1)
        names, some = rows["observable"].to_numpy(), next(iter(paths.values()))
        found = np.empty((len(some), len(rows), *some.shape[3:]))
        for observable in self.observables:
            path, at = paths[variable_id(observable.formula)], np.flatnonzero(names == observable.name)
            found[:, at] = path[:, entity[at], until[at]]
            flows = at[since[at] >= 0]
            found[:, flows] -= path[:, entity[flows], since[flows]]
        return found

    def _saved_at(self, times: pd.Series[float]) -> npt.NDArray[np.intp]:
        """Positions of times among `save_times`; -1 where there is none."""
        values = times.to_numpy(dtype=float)
        near = np.clip(np.searchsorted(self.save_times, values), 1, len(self.save_times) - 1)
        near -= values - self.save_times[near - 1] < self.save_times[near] - values
        return np.where(np.isnan(values), -1, near)


def observables_of(table: pd.DataFrame) -> tuple[Observable, ...]:
    """The rows of an ``observables.csv``, of which unit, noise_parameter and centred may be left out.

    Raises
    ------
    CalibrationError
        A column that is missing, or a value of ``centred`` other than 0, 1 or blank.
    """
    table, needed = as_table(table, "observables", "observables"), ("observable", "formula", "kind", "noise")
    if missing := [name for name in needed if name not in table.columns]:
        raise CalibrationError(f"the observables have no column {missing[0]!r}; they need {', '.join(needed)}")
    found = []
    for position, row in enumerate(table.to_dict("records")):
        given = row.get("noise_parameter")
        parameter: str | float | None = None
        if not pd.isna(given):
            try:
                parameter = float(given)
            except ValueError:
                parameter = variable_id(str(given))
        name, formula, kind, noise = ("" if pd.isna(row[column]) else str(row[column]) for column in needed)
        unit = row.get("unit")
        centred = row.get("centred")
        own_level = not pd.isna(centred) and centred == 1
        if not (own_level or pd.isna(centred) or centred == 0):
            raise CalibrationError(f"observable row {position} ({name}): centred is {centred}; it must be 0 or 1")
        found.append(Observable(name, formula, kind, noise, parameter, "" if pd.isna(unit) else str(unit), own_level))
    return tuple(found)
