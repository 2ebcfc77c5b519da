"""A calibration problem whose stocks are moved by noise of their own, with its likelihood and its states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.kalman import LINKS, Event, Filter, Updated, Visit
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.statespace import StateSpace, stock_named
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.names import variable_id

KINDS: Final = ("additive", "proportional")
_LANES: Final = 2**15
"""At once; more are run in turn, which moves no bit."""
_NO_PARAMETERS: Final = pd.DataFrame(columns=["name", "scale", "lower", "upper"])


@dataclass(frozen=True)
class ProcessNoise:
    """Noise of a stock in continuous time, independent of that of other stocks.

    Attributes
    ----------
    stock : str
        In any spelling; of an array one element.
    std_dev : float or str
        Standard deviation of what the noise adds in one unit of time, a number or the name of a free parameter: over a
        time t it adds that times the root of t.
    kind : {"proportional", "additive"}
        Whether noise adds to the logarithm of the stock, ``d ln S = net flow / S dt + std_dev dW``, or to the stock in
        its unit, ``dS = net flow dt + std_dev dW``.
    initial : float or str
        Standard deviation of the stock at the start about the model's initial value, of its logarithm if proportional.
    """

    stock: str
    std_dev: float | str
    kind: str = "proportional"
    initial: float | str = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class NoisyProblem:
    """A `Problem` with process noise. Its likelihood is that of an extended Kalman filter: exact for a linear model.

    Attributes
    ----------
    problem : Problem
        Level, share, count and net-flow observables with normal, lognormal or logitnormal noise. Hold-out rows are
        not used.
    process_noise : tuple of ProcessNoise
    parameters : DataFrame
        Free standard deviations that `process_noise` names: name, scale, lower, upper, with lower bounds above 0.
    substeps : int
        Even number of pieces into which each interval between measurement times is cut: at their ends process noise
        enters, with the weights of Simpson's rule. Fewer where an interval has fewer time steps.

    Raises
    ------
    CalibrationError
        What the filter cannot take, by name: other noise, centred observables, bounds (``>=``, ``<=``), a stock that a
        step keeps from falling below zero under additive noise; what `StateSpace` refuses; wrong names and numbers.

    Notes
    -----
    The likelihood takes the state between measurements as normal on its coordinates and the model as linear over the
    spread of the state; it is not checked how good that is. Derivatives leave out what the state does to events and
    conditions: see `breaks`. A comparison with TIME may fall a step apart from that of one whole run, by rounding.
    """

    problem: Problem
    process_noise: tuple[ProcessNoise, ...]
    parameters: pd.DataFrame = field(default_factory=_NO_PARAMETERS.copy)
    substeps: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "process_noise", tuple(self.process_noise))
        object.__setattr__(self, "parameters", self.parameters.reset_index(drop=True))
        if self.substeps < 2 or self.substeps % 2:
            raise CalibrationError(f"substeps is {self.substeps}; Simpson's rule needs an even number of at least 2")
        _check_observations(self.problem)
        _check_noise(self)

    @cached_property
    def box(self) -> Box:
        """Free parameters: those of the problem, then those of the process noise."""
        return Box.from_table(pd.concat([self.problem.parameters, self.parameters], ignore_index=True))

    @property
    def entities(self) -> tuple[str, ...]:
        """Who is measured, in the order of the rows."""
        return self.problem.entities

    @cached_property
    def space(self) -> StateSpace:
        """The model's stocks as a state."""
        return StateSpace(self.problem, [stock_named(self.problem.model, item.stock) for item in self.process_noise])

    @property
    def breaks(self) -> str:
        """Where the state moves an event or a condition, an effect that the filter leaves out; blank if nowhere."""
        return self.space.breaks

    def log_likelihood(self, table: pd.DataFrame) -> Floats:
        """Log likelihood of the measurements for each row of a table of free parameters, (n,)."""
        missing = [name for name in self.box.names if name not in table.columns]
        if missing:
            raise CalibrationError(f"the table has no column for the free parameter {missing[0]!r}; add it")
        return self.total(table[list(self.box.names)].to_numpy(dtype=float))

    def total(self, natural: Floats) -> Floats:
        """Log likelihood of parameter vectors (n, p) that all entities share, (n,); entities are summed by name."""
        values = np.broadcast_to(natural[:, None, :], (len(natural), len(self.entities), natural.shape[1]))
        terms = self.entity_log_likelihood(values)[:, np.argsort(self.entities, kind="stable")]
        return np.asarray(np.ascontiguousarray(terms).sum(axis=1))

    def entity_log_likelihood(self, values: Floats) -> Floats:
        """Log likelihood of the measurements of each entity under its own parameters, (n, E, p) to (n, E)."""
        found = np.empty(values.shape[:2])
        at_once = max(1, _LANES // (len(self.entities) * len(self.space.uncertain)))
        for first in range(0, len(values), at_once):
            part = values[first:first + at_once]
            found[first:first + at_once] = self._run(part).reshape(part.shape[:2])
        return found

    def states(self, natural: Floats) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What the measurements say of the stocks, and how each measurement compares with what was expected of it.

        Parameters
        ----------
        natural : (p,) array
            Parameters.

        Returns
        -------
        states : DataFrame
            By entity, time and stock: ``filtered`` given the measurements so far, ``smoothed`` given all of them, with
            standard deviations (delta method under proportional noise). Stocks that noise does not reach are left out.
        innovations : DataFrame
            By entity, time and observable, in this order: ``observed``; ``predicted`` from all measurements before it,
            at one time in the order of the observables; ``std_dev`` of the prediction on the link's scale; and
            ``standardised``, independent standard normal numbers if the model is right and linear.
        """
        many = len(self.entities)
        values = np.broadcast_to(natural[None, None, :], (1, many, len(natural)))
        record: list[Event] = []
        self._run(values, record)
        return self._states(record), self._innovations(record)

    def _run(self, values: Floats, record: list[Event] | None = None) -> Floats:
        size = values.shape[0] * values.shape[1]

        def lanes(given: float | str | None) -> Floats:
            if isinstance(given, str):
                return values[:, :, self.box.names.index(given)].ravel()
            return np.full(size, given, dtype=float)

        noise, initial = np.zeros((2, len(self.space.uncertain), size))
        for item in self.process_noise:
            place = self.space.uncertain.index(stock_named(self.problem.model, item.stock))
            noise[place], initial[place] = (lanes(_named(given)) ** 2 for given in (item.std_dev, item.initial))
        spreads = np.array([lanes(item.noise_parameter) for item in self.problem.observables])
        return self._filter.run(self.space.constants(values), noise, initial, spreads, record=record)

    @cached_property
    def _filter(self) -> Filter:
        visits, copied = _visits(self.problem, self.space)
        logs = {stock_named(self.problem.model, item.stock) for item in self.process_noise if item.kind == KINDS[1]}
        coordinates = (*self.space.uncertain, *copied)
        links = tuple(LINKS[item.noise] for item in self.problem.observables)
        return Filter(self.space, np.array([name in logs for name in coordinates]), visits, links, self.substeps)

    def _states(self, record: list[Event]) -> pd.DataFrame:
        space, parts = self.space, []
        logs = self._filter.logs[:len(space.uncertain)]
        at = [space.stocks.index(name) for name in space.uncertain]
        for seen, shift, variance in self._filter.smoothed(record):
            filtered = seen.stocks[at]
            variances = seen.cov[np.arange(len(at)), np.arange(len(at))]
            for place, stock in enumerate(space.uncertain):
                smoothed = filtered[place] * np.exp(shift[place]) if logs[place] else filtered[place] + shift[place]
                deviations = np.sqrt(np.maximum([variances[place], variance[place]], 0.0))
                if logs[place]:
                    deviations *= np.array([filtered[place], smoothed])
                parts.append(pd.DataFrame({
                    "entity": self.entities, "time": space.grid.time_at(seen.step), "stock": stock,
                    "filtered": filtered[place], "filtered_sd": deviations[0],
                    "smoothed": smoothed, "smoothed_sd": deviations[1],
                }))
        return _ordered(self, pd.concat(parts, ignore_index=True), "stock", space.uncertain)

    def _innovations(self, record: list[Event]) -> pd.DataFrame:
        parts, observables = [], self.problem.observables
        observed = {(visit.step, place): own for visit in self._filter.visits for place, own, _ in visit.measured}
        for item in record:
            if not isinstance(item, Updated):
                continue
            link, at = self._filter.links[item.observable], np.flatnonzero(item.measured)
            values = observed[item.step, item.observable][at]
            deviation = np.sqrt(item.variance[at])
            parts.append(pd.DataFrame({
                "entity": np.array(self.entities, dtype=object)[at], "time": self.space.grid.time_at(item.step),
                "observable": observables[item.observable].name, "observed": values,
                "predicted": link.back(link.into(values) - item.innovation[at]), "std_dev": deviation,
                "standardised": item.innovation[at] / deviation,
            }))
        return _ordered(self, pd.concat(parts, ignore_index=True), "observable", [item.name for item in observables])


def _ordered(target: NoisyProblem, table: pd.DataFrame, what: str, names: Iterable[str]) -> pd.DataFrame:
    """By entity, `what` and time."""
    ranks = {name: place for place, name in enumerate([*target.entities])}, {name: j for j, name in enumerate(names)}
    keys = [table["time"], table[what].map(ranks[1]), table["entity"].map(ranks[0])]
    return table.iloc[np.lexsort(keys)].reset_index(drop=True)


def _visits(problem: Problem, space: StateSpace) -> tuple[tuple[Visit, ...], tuple[str, ...]]:
    """Measurements by step, and the stock that each copy is of."""
    rows = problem.measurements
    entity, values = problem.positions(rows), rows["value"].to_numpy(dtype=float)
    names = [item.name for item in problem.observables]
    observable = np.array([names.index(name) for name in rows["observable"]])
    steps = np.array([space.step_of(time) for time in rows["time"]])
    starts = np.array([
        -1 if pd.isna(time) else space.step_of(time) for time in rows.get("from_time", pd.Series(np.nan, rows.index))
    ])
    places, copied = _copies(entity, [space.formulas[j] for j in observable], starts, steps)
    visits, many = [], len(problem.entities)
    for step in sorted({0, *steps.tolist(), *starts[starts >= 0].tolist()}):
        measured = []
        for position in range(len(names)):
            at = np.flatnonzero((steps == step) & (observable == position))
            if len(at):
                own, place = np.full(many, np.nan), np.full(many, -1, dtype=np.intp)
                own[entity[at]], place[entity[at]] = values[at], places[at]
                measured.append((position, own, place))
        copies = []
        for place in np.unique(places[starts == step]) if step in starts else ():
            chosen = np.zeros(many, dtype=bool)
            chosen[entity[(starts == step) & (places == place)]] = True
            copies.append((int(place), copied[place], chosen))
        visits.append(Visit(step, tuple(measured), tuple(copies)))
    return tuple(visits), copied


def _copies(
    entity: npt.NDArray[np.intp], stocks: list[str], starts: npt.NDArray[np.int_], stops: npt.NDArray[np.int_]
) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
    """The copy that each row's net flow starts from, -1 for none; a copy is free again when its row is measured."""
    places = np.full(len(stocks), -1, dtype=np.intp)
    copied: list[str] = []
    ends: dict[tuple[int, int], int] = {}
    for row in np.lexsort((stops, starts)):
        if starts[row] < 0:
            continue
        free = [
            place for place, stock in enumerate(copied)
            if stock == stocks[row] and ends.get((place, entity[row]), -1) <= starts[row]
        ]
        if not free:
            copied.append(stocks[row])
        places[row] = free[0] if free else len(copied) - 1
        ends[places[row], entity[row]] = stops[row]
    return places, tuple(copied)


def _named(given: float | str) -> float | str:
    return variable_id(given) if isinstance(given, str) else float(given)


def _check_observations(problem: Problem) -> None:
    for item in problem.observables:
        if item.noise not in LINKS:
            raise CalibrationError(
                f"observable {item.name!r} has {item.noise} noise, which a Kalman filter cannot take; use "
                f"{', '.join(LINKS)}"
            )
        if item.centred:
            raise CalibrationError(
                f"observable {item.name!r} is centred, which takes out a level after the fact; with process noise give "
                "each entity its initial value as a covariate instead"
            )
    bounds = problem.measurements[problem.measurements["comparator"] != "="]
    if len(bounds):
        row = bounds.iloc[0]
        raise CalibrationError(
            f"{row['observable']} of {row['entity']} at {row['time']:g} is a bound ({row['comparator']}), which a "
            "Kalman filter cannot take; leave the row out"
        )


def _check_noise(target: NoisyProblem) -> None:
    model, seen, asked = target.problem.model, set(), set()
    if not target.process_noise:
        raise CalibrationError("there is no process noise; name at least one stock, or use fit")
    for item in target.process_noise:
        if not isinstance(item, ProcessNoise):
            raise CalibrationError(f"the process noise has {item!r:.80}; give ProcessNoise(stock, std_dev)")
        stock = stock_named(model, item.stock)
        if stock in seen:
            raise CalibrationError(f"process noise is given twice for {stock!r}; keep one")
        seen.add(stock)
        if item.kind not in KINDS:
            raise CalibrationError(
                f"process noise of {stock!r} has the kind {item.kind!r}. {did_you_mean(str(item.kind), KINDS)}"
            )
        if item.kind == "additive" and model.stocks[stock].non_negative:
            raise CalibrationError(
                f"process noise of {stock!r} is additive, and its steps keep it from falling below zero; make it "
                "proportional"
            )
        for what, given in (("std_dev", item.std_dev), ("initial", item.initial)):
            if isinstance(given, str):
                asked.add(variable_id(given))
            elif not (np.isfinite(given) and given >= 0):
                raise CalibrationError(f"process noise of {stock!r} has {what} {given}; it must be 0 or more")
    _check_parameters(target, asked)
    _check_starts(target)


def _check_parameters(target: NoisyProblem, asked: set[str]) -> None:
    problem = target.problem
    own = Box.from_table(target.parameters)
    for name in sorted(asked - set(own.names)):
        raise CalibrationError(
            f"the process noise names {name!r}, which has no row in parameters=; add one (name, scale, lower, upper) "
            "or give a number"
        )
    for name, low in zip(own.names, own.lower, strict=True):
        if name not in asked:
            raise CalibrationError(f"parameter {name!r} is of no process noise. {did_you_mean(name, asked)}")
        if name in problem.model.variables or name in problem.box.names:
            raise CalibrationError(f"{name!r} is a name of the model or of the problem already; call it otherwise")
        if not low > 0:
            raise CalibrationError(f"parameter {name!r} has the lower bound {low:g}; a deviation must be above 0")


def _check_starts(target: NoisyProblem) -> None:
    """A logarithm needs a stock above zero at the start, which is looked at in the middle of the bounds."""
    space, box = target.space, target.problem.box
    middle = np.broadcast_to(box.natural(np.full(box.size, 0.5)), (1, len(target.entities), box.size))
    start = space.start(space.constants(middle))
    for item in target.process_noise:
        stock = stock_named(target.problem.model, item.stock)
        own = start[space.stocks.index(stock)]
        if item.kind == "proportional" and not (own > 0).all():
            entity = target.entities[int(np.argmin(own > 0))]
            raise CalibrationError(
                f"process noise of {stock!r} is proportional, and {entity} starts with {own.min():g}; start above 0, "
                "or make it additive"
            )
