"""A model that can start anywhere: its state moved, differentiated and observed over short runs of the engine.

The equations stay as they are; every stock starts from a constant of its own instead of its initial value, and the
time grid starts where the run does. A method with fixed steps then gives, run after run, what one run gives, and the
engine's derivatives by the new constants are the transition matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Final

import numpy as np

from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scales import Floats
from villageflow.ensemble.noise import as_noise
from villageflow.ensemble.simulate import available_threads, integration_method, time_grid
from villageflow.errors import CalibrationError
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.methods import ADAPTIVE
from villageflow.ir.model import Kind, Model
from villageflow.ir.nodes import Expr, Num, Ref
from villageflow.ir.walk import fold, nodes, rebuild
from villageflow.names import variable_id
from villageflow.program.emit import compile_model, compile_tangents
from villageflow.program.influence import influences
from villageflow.program.noise import Noise
from villageflow.program.program import Program
from villageflow.program.tangent import tangent_name
from villageflow.timegrid import TimeGrid

_PINNED: Final = ("initial_time", "final_time", "saveper")
_WORTH_THREADS: Final = 100_000  # steps of lanes; with fewer, starting threads takes longer than the run


class StateSpace:
    """The stocks of a problem's model as a state, for many lanes at once.

    A lane is a parameter vector and an entity, the entity fastest: ``n * E`` lanes. Arrays have the lane as their last
    axis, so that no operation looks across lanes.

    Parameters
    ----------
    problem : Problem
        Model, parameters, observables, covariates and time grid.
    noisy : sequence of str
        Stocks that are not known exactly.

    Attributes
    ----------
    stocks : tuple of str
        All of the model, those that smooths and delays consist of too.
    uncertain : tuple of str
        Stocks that the noisy ones reach, which the covariance is about; all others follow from the parameters.
    formulas : tuple of str
        Observed variables, one for each observable.
    grid : TimeGrid
        Of the whole run, to the last measurement.

    Raises
    ------
    CalibrationError
        A method with steps of its own; a model that remembers more than its stocks: DELAY FIXED, SAMPLE IF TRUE,
        INITIAL; or one that draws random numbers.
    """

    def __init__(self, problem: Problem, noisy: Sequence[str]) -> None:
        model = problem.model
        check_restartable(model)
        method = integration_method(model, problem.method)
        if method == ADAPTIVE:
            raise CalibrationError(
                f"process noise needs fixed steps, and model {model.name!r} is run with {method!r}; give the problem "
                "method='rk4' or 'euler'"
            )
        self.problem, self.method = problem, method
        rows, full = problem.measurements, time_grid(model, time_step=problem.time_step)
        self.grid = TimeGrid(full.start, float(rows["time"].max()), full.step, full.save_every)
        self.stocks = tuple(model.stocks)
        reached = _reached(model, noisy)
        self.uncertain = tuple(name for name in self.stocks if name in reached)
        self.formulas = tuple(variable_id(item.formula) for item in problem.observables)
        covariates = problem.covariates
        constant = covariates["time"].isna()
        self._own = {
            str(name): table.set_index("entity")["value"].reindex(problem.entities).to_numpy(dtype=float)
            for name, table in covariates[constant].groupby("name", sort=True)
        }
        free = [name for name in problem.box.names if name in model.constants]
        self.varied = (*free, *problem.fixed, *self._own)
        self._free = [problem.box.names.index(name) for name in free]
        series = {
            str(name): table.pivot(index="time", columns="entity", values="value")[list(problem.entities)]
            for name, table in covariates[~constant].groupby("name", sort=True)
        }
        self._series = as_noise(model, 0, None, self.grid, len(problem.entities), inputs=series).given
        self._pinned = _pinned(model, self.grid)
        self._model = _restartable(self._pinned)

    def step_of(self, time: float) -> int:
        """Step of the grid at a saved time."""
        return round((time - self.grid.start) / self.grid.step)

    def constants(self, values: Floats) -> Floats:
        """Values of `varied` in every lane, for natural values (n, E, p) of the problem's parameters; (v, n E)."""
        n, many, _ = values.shape
        rows = [values[:, :, j].ravel() for j in self._free]
        rows += [np.full(n * many, value) for value in self.problem.fixed.values()]
        rows += [np.tile(own, n) for own in self._own.values()]
        return np.array(rows).reshape(len(self.varied), n * many)

    def start(self, constants: Floats) -> Floats:
        """Stocks at the start, (stocks, lanes)."""
        program = compile_model(self._pinned, varied=self.varied, saves=self.stocks, given=self._series.keys())
        return self._run(program, constants, 0, 0, 1)[:, 0]

    def move(self, constants: Floats, stocks: Floats, first: int, last: int) -> tuple[Floats, Floats]:
        """Stocks after a run from one step to another, and their derivatives by the uncertain stocks at its start.

        Parameters
        ----------
        constants : (v, lanes) array
            As `constants` gives them.
        stocks : (stocks, lanes) array
            At step `first`.
        first, last : int
            Steps of the grid.

        Returns
        -------
        stocks : (stocks, lanes) array
            NaN in a lane that did not stay finite.
        transition : (uncertain, uncertain, lanes) array
            Row: stock at the end; column: stock at the start.
        """
        values = self._tangents(self._transition, constants, stocks, first, last)
        return values[:len(self.stocks), 0], values[len(self.stocks):]

    def observe(self, constants: Floats, stocks: Floats, step: int) -> tuple[Floats, Floats]:
        """Observed variables (observables, lanes) at a step and their derivatives (observables, uncertain, lanes)."""
        values = self._tangents(self._observation, constants, stocks, step, step)
        return values[:len(self.formulas), 0], values[len(self.formulas):]

    @cached_property
    def breaks(self) -> str:
        """Where the derivatives leave out the effect of an event or a condition, in words; blank if nowhere."""
        starts = tuple(map(_start_of, self.uncertain))
        found = influences(
            self._model, varied=(*self.varied, *map(_start_of, self.stocks)), parameters=starts,
            saves=tuple(dict.fromkeys((*self.uncertain, *self.formulas))), given=frozenset(self._series),
        )
        places = dict.fromkeys(place for name in starts for place in found[name].breaks)
        return ", ".join([*places][:3]) + (f", and {len(places) - 3} more" if len(places) > 3 else "")

    @cached_property
    def _transition(self) -> Program:
        return self._compile((*self.stocks, *map(tangent_name, self.uncertain)))

    @cached_property
    def _observation(self) -> Program:
        return self._compile((*self.formulas, *map(tangent_name, self.formulas)))

    def _compile(self, saves: tuple[str, ...]) -> Program:
        return compile_tangents(
            self._model, varied=(*self.varied, *map(_start_of, self.stocks)),
            directions=tuple(map(_start_of, self.uncertain)), saves=saves, given=self._series.keys(),
        )

    def _tangents(self, program: Program, constants: Floats, stocks: Floats, first: int, last: int) -> Floats:
        """What the program saves at the end, (saves, directions, lanes)."""
        size = len(self.uncertain)
        seeds = np.repeat(np.eye(size), stocks.shape[1], axis=1)
        rows = np.vstack([np.tile(np.vstack([constants, stocks]), size), seeds])
        return self._run(program, rows, first, last, size)

    def _run(self, program: Program, rows: Floats, first: int, last: int, copies: int) -> Floats:
        """Values at the last step, (saves, copies, lanes); NaN in a lane that did not stay finite."""
        lanes = rows.shape[1]
        given = {
            name: np.tile(values[first:last + 1], lanes // values.shape[1]) if values.shape[1] > 1
            else values[first:last + 1]
            for name, values in self._series.items()
        }
        n_threads = available_threads() if lanes * (last - first + 1) > _WORTH_THREADS else 1
        settings = RunSettings(self.method, n_threads, noise=Noise(given=given))
        values, healthy = run_program(program, _piece(self.grid, first, last), rows, settings=settings)
        found = np.where(healthy, values[:, -1], np.nan)
        return found.reshape(len(found), copies, lanes // copies)


@lru_cache(maxsize=1024)
def _piece(grid: TimeGrid, first: int, last: int) -> TimeGrid:
    """The grid from one step to another, saved at its ends."""
    start, stop = grid.time_at(first), grid.time_at(last)
    return TimeGrid(start, stop, grid.step, max(stop - start, grid.step))


def check_restartable(model: Model) -> None:
    """Refuse a model that remembers more than its stocks, or that draws random numbers."""
    for found, what in (
        (model.delays, "DELAY FIXED or PREVIOUS"), (model.holds, "SAMPLE IF TRUE"), (model.initials, "INITIAL"),
        (model.random_variables(), "random numbers"),
    ):
        for name in found:
            variable = model.variables.get(name.split(" ")[0].removeprefix("#"))
            raise CalibrationError(
                f"model {model.name!r} uses {what} in {variable.name if variable else name!r}, which is no stock, so "
                "that a run cannot start from its stocks alone; leave it out, or write it as a stock"
            )


def _start_of(stock: str) -> str:
    """Name of the constant that a stock starts from; no canonical name holds a blank."""
    return f"start {stock}"


def _pinned(model: Model, grid: TimeGrid) -> Model:
    """The model with the ends of its whole run written into the equations, which a shorter run leaves as they are."""
    whole = {"initial_time": grid.start, "final_time": grid.stop, "saveper": grid.save_every}
    pinned = {name: Num(whole[name]) for name in _PINNED if name not in model.auxiliaries}

    def written(node: Expr, operands: tuple[Expr, ...]) -> Expr:
        return pinned.get(node.name, node) if isinstance(node, Ref) else rebuild(node, operands)

    def whole_run(expr: Expr) -> Expr:
        return fold(expr, written)

    stocks = {
        name: replace(stock, net_flow=whole_run(stock.net_flow), initial=whole_run(stock.initial))
        for name, stock in model.stocks.items()
    }
    auxiliaries = {name: whole_run(expr) for name, expr in model.auxiliaries.items()}
    return replace(model, stocks=stocks, auxiliaries=auxiliaries)


def _restartable(model: Model) -> Model:
    stocks = {name: replace(stock, initial=Ref(_start_of(name))) for name, stock in model.stocks.items()}
    starts = dict.fromkeys(map(_start_of, model.stocks), 0.0)
    return replace(model, stocks=stocks, constants={**model.constants, **starts}, initial_order=())


def _reached(model: Model, noisy: Sequence[str]) -> set[str]:
    """Variables that some stocks act on, over time, themselves among them."""
    users: dict[str, list[str]] = {}
    equations: Mapping[str, Expr] = {
        **model.auxiliaries, **{name: stock.net_flow for name, stock in model.stocks.items()},
    }
    for name, expr in equations.items():
        for node in nodes(expr):
            if isinstance(node, Ref):
                users.setdefault(node.name, []).append(name)
    reached, todo = set(noisy), list(noisy)
    while todo:
        new = [user for user in users.get(todo.pop(), ()) if user not in reached]
        reached.update(new)
        todo.extend(new)
    return reached


def stock_named(model: Model, written: str) -> str:
    """The id of a stock as a user writes it.

    Raises
    ------
    CalibrationError
        What is not a stock of the model.
    """
    name = variable_id(written)
    variable = model.variables.get(name)
    if variable is None or variable.kind is not Kind.STOCK or name not in model.stocks:
        known = ", ".join(repr(stock) for stock in model.stocks if not stock.startswith("#"))
        raise CalibrationError(f"process noise is given for {written!r}, no stock of {model.name!r}; it has {known}")
    return name
