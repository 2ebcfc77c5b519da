"""Runs of a problem's model without labels: parameter vectors times entities as lanes of one call of the engine.

A search asks for thousands of small ensembles. What `simulate` and `jacobian` do for each call, names, coordinates and
digests, takes longer than the runs themselves; here it is done once for a problem. The bits are those of `simulate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from villageflow.calibrate.scales import Floats
from villageflow.ensemble.failure import adaptive_status
from villageflow.ensemble.noise import as_noise
from villageflow.ensemble.schema import FINISHED
from villageflow.ensemble.simulate import available_threads, run_settings, time_grid
from villageflow.errors import CalibrationError
from villageflow.integrate.adaptive import run_adaptive
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.methods import ADAPTIVE
from villageflow.names import variable_id
from villageflow.program.emit import compile_model, compile_tangents
from villageflow.program.influence import influences
from villageflow.program.noise import Noise
from villageflow.program.tangent import tangent_name
from villageflow.timegrid import TimeGrid

if TYPE_CHECKING:
    from villageflow.calibrate.problem import Problem

_MAX_BYTES: Final = 2**28
"""Of saved paths at once; more lanes are run in turn, which moves no bit."""
_WORTH_THREADS: Final = 100_000
"""Steps of lanes; with fewer, starting threads takes longer than the run."""

Paths = dict[str, Floats]
"""By saved variable: (n, E, times), NaN for a run that did not stay finite; derivatives have a parameter axis last."""


class Lanes:
    """The runs of a problem; a lane is a parameter vector and an entity, the entity fastest.

    Parameters
    ----------
    problem : Problem
        Model, free and fixed parameters, observables, entities and what they bring with them.

    Attributes
    ----------
    saves : tuple of str
        Observed variables.
    free : tuple of str
        Free parameters that are constants of the model.
    fixed_steps : bool
        Whether the method has fixed steps, which the engine can differentiate.

    Raises
    ------
    CalibrationError
        A series that some entity lacks at a time.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, problem.model
        settings = run_settings(self.model, problem.method, None, None)
        self.method, self.tolerance = settings.method, settings.tolerance
        self.fixed_steps = self.method != ADAPTIVE
        self.saves = tuple(sorted({variable_id(observable.formula) for observable in problem.observables}))
        self.free = tuple(name for name in problem.box.names if name in self.model.constants)
        self.columns = [problem.box.names.index(name) for name in self.free]
        timed = problem.covariates["time"].notna()
        constants = problem.covariates[~timed].groupby("name", sort=True)
        self._own = {str(name): _of_entities(problem, rows, "value") for name, rows in constants}
        self._varied = (*self.free, *problem.fixed, *self._own)
        self._series = {
            str(name): _series(problem, str(name), rows)
            for name, rows in problem.covariates[timed].groupby("name", sort=True)
        }
        self._given: dict[TimeGrid, Mapping[str, Floats]] = {}

    def check_series(self) -> None:
        """Refuse a series that does not cover the run from its start to the last time that is measured or held out."""
        if not self._series:
            return
        rows = (self.problem.measurements["time"], self.problem.holdout["time"])
        grid = self._grid(max(float(times.max()) for times in rows if len(times)))
        start, stop, half = grid.time_at(0), grid.time_at(grid.n_steps), 0.5 * grid.step
        for name, table in self._series.items():
            first, last = float(table.index[0]), float(table.index[-1])
            if not (first < start + half and last > stop - half):
                raise CalibrationError(
                    f"the covariates give {name!r} from {first:g} to {last:g}; the run needs it from {start:g} to "
                    f"{stop:g}: add rows for each entity"
                )

    @cached_property
    def smooth(self) -> bool:
        """Whether derivatives are all of it: no free parameter also moves an event or a condition."""
        found = influences(
            self.model, varied=self._varied, parameters=self.free, saves=self.saves, given=frozenset(self._series)
        )
        return not any(found[name].breaks for name in self.free)

    def parts(self, n: int, last: float, copies: int = 1) -> Iterator[slice]:
        """Blocks of n parameter vectors whose saved paths to a time fit the memory."""
        n_times = len(self._grid(last).save_steps())
        block = max(1, _MAX_BYTES // (8 * copies * len(self.problem.entities) * len(self.saves) * n_times))
        return (slice(first, first + block) for first in range(0, n, block))

    def paths(self, values: Floats, last: float) -> Paths:
        """Saved paths to a time for natural values (n, E, p) of the free parameters."""
        grid, rows = self._grid(last), self._rows(values)
        program = compile_model(
            self.model, varied=self._varied, saves=self.saves, given=self._series.keys(), adaptive=not self.fixed_steps
        )
        settings = self._settings(grid, rows.shape[1])
        if self.fixed_steps:
            saved, healthy = run_program(program, grid, rows, settings=settings)
        else:
            run = run_adaptive(program, grid, rows, settings=settings)
            saved, healthy = run.values, adaptive_status(run, grid) == FINISHED
        saved = np.where(healthy, saved, np.nan)
        return {name: path.T.reshape(*values.shape[:2], -1) for name, path in zip(self.saves, saved, strict=True)}

    def moved(self, values: Floats, last: float) -> tuple[Paths, Paths]:
        """Paths as `paths` gives them, and their exact derivatives by `free`, (n, E, times, free)."""
        grid, rows, size = self._grid(last), self._rows(values), len(self.free)
        program = compile_tangents(
            self.model, varied=self._varied, directions=self.free, given=self._series.keys(),
            saves=(*self.saves, *map(tangent_name, self.saves)),
        )
        lanes = np.vstack([np.tile(rows, size), np.repeat(np.eye(size), rows.shape[1], axis=1)])
        saved, healthy = run_program(program, grid, lanes, settings=self._settings(grid, lanes.shape[1]))
        saved = np.where(healthy, saved, np.nan).reshape(2 * len(self.saves), -1, size, *values.shape[:2])
        split = saved.transpose(0, 3, 4, 1, 2)
        plain = {name: path[..., 0] for name, path in zip(self.saves, split, strict=False)}
        return plain, dict(zip(self.saves, split[len(self.saves):], strict=True))

    def _grid(self, last: float) -> TimeGrid:
        return time_grid(self.model, time_step=self.problem.time_step, final_time=last)

    def _rows(self, values: Floats) -> Floats:
        """Values of the varied constants in every lane, (varied, n E)."""
        n, many, _ = values.shape
        rows = [values[:, :, j].ravel() for j in self.columns]
        rows += [np.full(n * many, value) for value in self.problem.fixed.values()]
        rows += [np.tile(own, n) for own in self._own.values()]
        return np.array(rows, dtype=float).reshape(len(self._varied), n * many)

    def _settings(self, grid: TimeGrid, n_lanes: int) -> RunSettings:
        many = len(self.problem.entities)
        if grid not in self._given:
            self._given[grid] = as_noise(self.model, 0, None, grid, many, inputs=self._series).given
        given = {
            name: np.tile(steps, n_lanes // many) if steps.shape[1] > 1 else steps
            for name, steps in self._given[grid].items()
        }
        n_threads = available_threads() if n_lanes * grid.n_steps > _WORTH_THREADS else 1
        return RunSettings(self.method, n_threads, noise=Noise(given=given), tolerance=self.tolerance)


def _of_entities(problem: Problem, rows: pd.DataFrame, column: str) -> Floats:
    return rows.set_index("entity")[column].reindex(problem.entities).to_numpy(dtype=float)


def _series(problem: Problem, name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """A series by time, a column for each entity."""
    table = rows.pivot(index="time", columns="entity", values="value")[list(problem.entities)].sort_index()
    absent = np.argwhere(table.isna().to_numpy())
    if len(absent):
        time, entity = table.index[int(absent[0, 0])], table.columns[int(absent[0, 1])]
        raise CalibrationError(
            f"the covariates give {name!r} of others at {time:g} and not of {entity}; add the row"
        )
    return table
