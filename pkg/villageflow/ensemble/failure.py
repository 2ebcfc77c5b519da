"""What went wrong with a member that did not stay finite: found by running it again and watching every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from villageflow.integrate.drive import RunSettings, run_program
from villageflow.ir.model import Model
from villageflow.ir.nodes import Ref
from villageflow.ir.walk import nodes
from villageflow.program.emit import compile_model
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
    written = variable_shown(model, names[culprit])
    shown = parameters_shown(program.parameters, parameters[:, 0])
    text = f"{written!r} is {values[culprit, step, 0]} at time {grid.time_at(step):g} (step {step})"
    return f"{text} with {shown}" if shown else text


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


def _culprit(model: Model, names: tuple[str, ...], ill: npt.NDArray[np.bool_], step: int) -> tuple[int, int]:
    """Step and position of what failed first. What a stock depends on may have failed a step before the stock."""
    if step:
        causes = _dependencies(model, [name for i, name in enumerate(names) if ill[i, step] and name in model.stocks])
        before = [i for i, name in enumerate(names) if ill[i, step - 1] and name in causes]
        if before:
            return step - 1, before[0]
    return step, int(np.argmax(ill[:, step]))


def _dependencies(model: Model, stocks: Sequence[str]) -> set[str]:
    """Auxiliaries that the net flows of stocks depend on within a step."""
    found: set[str] = set()
    todo = [model.stocks[name].net_flow for name in stocks]
    while todo:
        for node in nodes(todo.pop()):
            if isinstance(node, Ref) and node.name in model.auxiliaries and node.name not in found:
                found.add(node.name)
                todo.append(model.auxiliaries[node.name])
    return found


def _every_step(grid: TimeGrid) -> TimeGrid:
    return TimeGrid(grid.start, grid.stop, grid.step, grid.step)
