"""What went wrong with a member that did not stay finite: found by running it again and watching every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from villageflow.ensemble.schema import FINISHED
from villageflow.integrate.adaptive import AdaptiveRun, run_adaptive
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.ir.model import Model
from villageflow.ir.nodes import Expr, Ref
from villageflow.ir.walk import nodes
from villageflow.program.dormand_prince import Outcome
from villageflow.program.emit import compile_model
from villageflow.program.events import SAME_TIME
from villageflow.program.program import Program
from villageflow.timegrid import TimeGrid

Floats = npt.NDArray[np.float64]

_AT_ONCE: Final = 64_000_000
_SHOWN: Final = 8


def first_bad_steps(
    compiled: Callable[[Sequence[str]], Program], program: Program, grid: TimeGrid, parameters: Floats,
    settings: RunSettings,
) -> npt.NDArray[np.int32]:
    """First step at which a stock, or a value that was saved, was not finite.

    Parameters
    ----------
    compiled : callable
        Gives the program with other saved variables.
    program : Program
        As it was run: its stocks and saved variables count.
    grid : TimeGrid
        Of the run; saved values count at its save points only.
    parameters : (n_parameters, n_members) array
        Of members that failed.
    settings : RunSettings
        Of the run; its noise is that of the members given.

    Returns
    -------
    (n_members,) int32 array
    """
    n_stocks, saved = len(program.stocks), grid.save_steps()
    watched = tuple(dict.fromkeys([*program.stocks, *program.saves]))
    watcher = compiled(watched)
    steps = np.empty(parameters.shape[1], dtype=np.int32)
    at_once = max(1, _AT_ONCE // (len(watched) * (grid.n_steps + 1)))
    for start in range(0, parameters.shape[1], at_once):
        chunk = np.ascontiguousarray(parameters[:, start:start + at_once])
        noise = settings.noise.of(np.arange(start, start + chunk.shape[1]))
        values, _ = run_program(watcher, _every_step(grid), chunk, settings=replace(settings, noise=noise))
        bad: npt.NDArray[np.bool_] = np.asarray(~np.isfinite(values[:n_stocks]).all(axis=0))
        bad[saved] |= ~np.isfinite(values[:, saved]).all(axis=0)
        steps[start:start + at_once] = np.argmax(bad, axis=0)
    return steps


def diagnose(
    model: Model, program: Program, grid: TimeGrid, parameters: Floats, settings: RunSettings, *, step: int
) -> str:
    """The variable that failed first, its value, the time, and the member's parameters, as part of a sentence.

    Parameters
    ----------
    model, program, grid, settings
        Of the run; the settings' noise is that of the member.
    parameters : (n_parameters, 1) array
        Of the member.
    step : int
        As `first_bad_steps` gives it.
    """
    names = tuple(
        name for name in (*program.stocks, *model.step_order) if name in model.variables or name in model.stocks
    )
    tracer = compile_model(model, varied=program.parameters, saves=names, given=settings.noise.given)
    values, _ = run_program(tracer, _every_step(grid), np.ascontiguousarray(parameters), settings=settings)
    step, culprit = _culprit(model, names, ~np.isfinite(values[:, :, 0]), step)
    what = f"{_written(model, names[culprit])} is {values[culprit, step, 0]}"
    return f"{what} at time {grid.time_at(step):g} (step {step}){_with(program, parameters)}"


def adaptive_status(run: AdaptiveRun, grid: TimeGrid) -> npt.NDArray[np.int32]:
    """For each member of an adaptive run -1, or the first step of the time grid that it did not reach in good order.

    A saved value that is not finite counts at its save point, whether or not the member went on.
    """
    status = np.full(len(run.outcome), FINISHED, dtype=np.int32)
    saved = grid.save_steps()
    for member in np.flatnonzero(run.outcome != Outcome.FINISHED):
        bad = ~np.isfinite(run.values[:, :run.reached[member], member]).all(axis=0)
        first = int(saved[np.argmax(bad)]) if bad.any() else grid.n_steps if run.outcome[member] else 0
        if np.isfinite(run.stopped[member]):
            first = min(first, math.ceil((run.stopped[member] - grid.start) / grid.step - SAME_TIME))
        status[member] = first
    return status


def diagnose_adaptive(
    model: Model, program: Program, grid: TimeGrid, parameters: Floats, settings: RunSettings
) -> str:
    """Why a member of an adaptive run did not finish, as part of a sentence.

    Parameters
    ----------
    model, program, grid, settings
        Of the run.
    parameters : (n_parameters, 1) array
        Of the member.
    """
    needed = _dependencies(model, [*(stock.net_flow for stock in model.stocks.values()), *map(Ref, program.saves)])
    names = (*program.stocks, *(name for name in model.step_order if name in needed and name in model.variables))
    tracer = compile_model(model, varied=program.parameters, saves=names, adaptive=True)  # its steps are the run's
    run = run_adaptive(tracer, grid, np.ascontiguousarray(parameters), settings=settings)
    time, outcome, culprit = float(run.stopped[0]), run.outcome[0], _written(model, names[run.culprit[0]])
    times = grid.save_times()
    watched = [i for i, name in enumerate(names) if name in program.saves or name in model.stocks]
    bad = ~np.isfinite(run.values[watched, :run.reached[0], 0]).all(axis=0)
    at_stop = np.flatnonzero(~np.isfinite(run.last[:, 0]))
    if bad.any():
        point = int(np.argmax(bad))
        position = int(np.argmax(~np.isfinite(run.values[:, point, 0])))
        what = f"{_written(model, names[position])} is {run.values[position, point, 0]} at time {times[point]:g}"
    elif outcome == Outcome.STEP_UNDERFLOW:
        what = f"step underflow at time {time:g}: {culprit} changes too fast for any step"
    elif outcome == Outcome.TOO_MANY_STEPS:
        what = f"too many steps between two save points, at time {time:g}: {culprit} keeps them short"
    elif len(at_stop):
        what = f"{_written(model, names[at_stop[0]])} is {run.last[at_stop[0], 0]} at time {time:g}"
    else:
        what = f"the net flow of {culprit} is not finite at time {time:g}"
    return what + _with(program, parameters)


def variable_shown(model: Model, name: str) -> str:
    """A variable as written; a stock that lowering added goes by the variable that it serves."""
    variable = model.variables.get(name.split(" ")[0].removeprefix("#"))
    return variable.name if variable else name


def parameters_shown(names: Sequence[str], values: Floats) -> str:
    """Parameters with their values, the first few of them."""
    shown = [f"{name} = {value:g}" for name, value in zip(names, values, strict=True)]
    if len(shown) > _SHOWN:
        shown = [*shown[:_SHOWN], f"and {len(shown) - _SHOWN} more parameters"]
    return ", ".join(shown)


def _written(model: Model, name: str) -> str:
    return repr(variable_shown(model, name))


def _with(program: Program, parameters: Floats) -> str:
    shown = parameters_shown(program.parameters, parameters[:, 0])
    return f" with {shown}" if shown else ""


def _culprit(model: Model, names: tuple[str, ...], ill: npt.NDArray[np.bool_], step: int) -> tuple[int, int]:
    """Step and position of what failed first. What a stock depends on may have failed a step before the stock."""
    if step:
        stocks = [model.stocks[name] for i, name in enumerate(names) if ill[i, step] and name in model.stocks]
        causes = _dependencies(model, [stock.net_flow for stock in stocks])
        before = [i for i, name in enumerate(names) if ill[i, step - 1] and name in causes]
        if before:
            return step - 1, before[0]
    return step, int(np.argmax(ill[:, step]))


def _dependencies(model: Model, expressions: Iterable[Expr]) -> set[str]:
    """Auxiliaries that expressions depend on within a step."""
    found: set[str] = set()
    todo = list(expressions)
    while todo:
        for node in nodes(todo.pop()):
            if isinstance(node, Ref) and node.name in model.auxiliaries and node.name not in found:
                found.add(node.name)
                todo.append(model.auxiliaries[node.name])
    return found


def _every_step(grid: TimeGrid) -> TimeGrid:
    return TimeGrid(grid.start, grid.stop, grid.step, grid.step)
