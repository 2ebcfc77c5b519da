"""Runs whose members choose their own steps."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from villageflow.errors import DesignError
from villageflow.integrate.drive import RunSettings, aligned, each_block, grid_scalars, register_width
from villageflow.integrate.kernel import kernel, selected_isa
from villageflow.program.dormand_prince import CONTROLLER, NODES, WEIGHTS, Outcome
from villageflow.program.events import SAME_TIME
from villageflow.program.program import Program
from villageflow.timegrid import TimeGrid

Floats = npt.NDArray[np.float64]

_LANE_ROWS = 10


@dataclass(frozen=True, eq=False)
class AdaptiveRun:
    """What an adaptive run gives.

    Attributes
    ----------
    values : (n_saves, n_times, n_members) array
        Saved variables; NaN from the save point on that a member did not reach.
    outcome : (n_members,) uint8 array
        Numbers of `Outcome`.
    stopped : (n_members,) array
        Time at which a member stopped; NaN for one that reached the end.
    reached : (n_members,) int32 array
        Number of save points that a member reached.
    culprit : (n_members,) int32 array
        For a member that stopped, the position in ``program.stocks`` of the stock with the largest error.
    last : (n_saves, n_members) array
        Saved variables where a member stopped; NaN for one that reached the last save point.
    """

    values: Floats
    outcome: npt.NDArray[np.uint8]
    stopped: Floats
    reached: npt.NDArray[np.int32]
    culprit: npt.NDArray[np.int32]
    last: Floats


def run_adaptive(program: Program, grid: TimeGrid, parameters: Floats, *, settings: RunSettings) -> AdaptiveRun:
    """Run every member with steps of its own.

    Parameters
    ----------
    program : Program
        Compiled with ``adaptive=True``.
    grid : TimeGrid
        Start, end and save points; the first step tried is the time step.
    parameters : (n_parameters, n_members) float64
        Values of ``program.parameters``.
    settings : RunSettings
        Tolerances, threads and the like; the method is Dormand and Prince whatever it says.

    Returns
    -------
    AdaptiveRun
    """
    n_members = parameters.shape[1]
    if parameters.shape[0] != len(program.parameters):
        raise DesignError(f"{parameters.shape[0]} parameter rows; the program varies {len(program.parameters)}")
    runner = _AdaptiveRunner(program, grid, np.ascontiguousarray(parameters), settings)
    each_block(runner.run, n_members, settings)
    values, reached = runner.out, runner.ends[1]
    n_times = values.shape[1]
    stopped = np.flatnonzero(reached < n_times)
    last = np.full((len(program.saves), n_members), np.nan)
    last[:, stopped] = values[:, reached[stopped], stopped]
    values[:, reached[stopped], stopped] = np.nan
    return AdaptiveRun(values, runner.outcome, runner.stopped, reached, runner.ends[0], last)


class _AdaptiveRunner:
    """Holds what all blocks share; each thread has workspaces of its own."""

    def __init__(self, program: Program, grid: TimeGrid, parameters: Floats, settings: RunSettings) -> None:
        n_members = parameters.shape[1]
        self._kernel = kernel(settings.isa or selected_isa())
        self._program, self._grid, self._parameters, self._settings = program, grid, parameters, settings
        self._stride = register_width(n_members, settings)
        self._code, self._bounds = program.unrolled if self._stride > 1 else (program.code, program.bounds)
        self._save_steps = grid.save_steps()
        self._tolerances = np.array([*settings.tolerance, SAME_TIME * grid.step])
        self._local = threading.local()
        self.out = np.empty((len(program.saves), len(self._save_steps), n_members))
        self.outcome = np.full(n_members, Outcome.FINISHED, dtype=np.uint8)
        self.ends = np.zeros((2, n_members), dtype=np.int32)
        self.stopped = np.full(n_members, np.nan)

    def run(self, start: int) -> int:
        """Run the block that begins at member `start`; returns its number of members."""
        program, stride, local = self._program, self._stride, self._local
        clock = program.clock
        assert clock is not None
        n: int = min(self._settings.block, self._parameters.shape[1] - start)
        if not hasattr(local, "registers"):
            local.registers = aligned(program.n_vectors * stride)
            local.scalars = np.empty(len(program.scalars))
            local.lanes = aligned((_LANE_ROWS + 8 * len(program.stocks)) * stride)
        self._kernel.run_adaptive_block(
            self._code, self._bounds, program.scalars, self._parameters, program.parameter_slots,
            program.stock_slots, program.flow_slots, program.save_slots, program.lists, program.tables.offsets,
            program.tables.points, program.tables.below, clock.time, clock.step_time, clock.events,
            NODES, WEIGHTS, CONTROLLER, self._tolerances, grid_scalars(self._grid), self._grid.n_steps,
            self._save_steps, self.out, self.outcome, self.ends, self.stopped, start, n, stride,
            local.registers, local.scalars, local.lanes,
        )
        return n
