"""Blocks and threads: feeds a program's members to the kernel.

A member's bits do not depend on the block it is in, on the number of threads or on who else runs, because no
operation looks across members.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from villageflow.errors import DesignError
from villageflow.integrate.kernel import kernel, selected_isa
from villageflow.integrate.methods import METHODS
from villageflow.program.noise import Noise, stream_keys
from villageflow.program.program import SCALARS, Program
from villageflow.timegrid import TimeGrid

DEFAULT_BLOCK: Final = 256
DEFAULT_TOLERANCE: Final = 1e-6
_ALIGN: Final = 8  # doubles in a cache line

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunSettings:
    """How to run, none of which moves a bit except `method`, `noise` and, of an adaptive method, `tolerance`.

    Attributes
    ----------
    method : {"euler", "rk4", "dopri5"}
    n_threads : int
    block : int
        Members that go through the tape together.
    isa : str or None
        Build of the kernel; None for the one in use.
    progress : callable or None
        Called with (members done, members in all), from the calling thread.
    noise : Noise
        Random numbers, and values of ``program.given``.
    tolerance : (float, float)
        Error that an adaptive method allows in one step: relative, and absolute in the unit of each stock.
    """

    method: str = "euler"
    n_threads: int = 1
    block: int = DEFAULT_BLOCK
    isa: str | None = None
    progress: Progress | None = None
    noise: Noise = field(default_factory=Noise)
    tolerance: tuple[float, float] = (DEFAULT_TOLERANCE, DEFAULT_TOLERANCE)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DesignError(f"method is {self.method!r}; it must be one of {', '.join(METHODS)}")
        if self.n_threads < 1:
            raise DesignError(f"n_threads is {self.n_threads!r}; it must be at least 1")
        if self.block < 1:
            raise DesignError(f"block is {self.block!r}; it must be at least 1")
        for value in self.tolerance:
            if not (math.isfinite(value) and value > 0):
                raise DesignError(f"tolerance is {value!r}; it must be a number greater than 0, such as 1e-6")


def run_program(
    program: Program, grid: TimeGrid, parameters: npt.NDArray[np.float64], *, settings: RunSettings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Run every member with fixed steps.

    Parameters
    ----------
    program : Program
        What to run, without a clock.
    grid : TimeGrid
        When.
    parameters : (n_parameters, n_members) float64, C order
        Values of ``program.parameters``.
    settings : RunSettings
        How.

    Returns
    -------
    out : (n_saves, n_times, n_members) array
        Saved variables; what is not a number is the one canonical NaN.
    healthy : (n_members,) array of bool
        False where a stock or a saved value was not finite.
    """
    n_members = parameters.shape[1]
    if parameters.shape[0] != len(program.parameters):
        raise DesignError(f"{parameters.shape[0]} parameter rows; the program varies {len(program.parameters)}")
    out = np.empty((len(program.saves), len(grid.save_steps()), n_members))
    healthy = np.zeros(n_members, dtype=np.uint8)
    runner = _BlockRunner(program, grid, parameters, settings, out, healthy)
    each_block(runner.run, n_members, settings)
    return out, healthy.astype(bool)


def each_block(run: Callable[[int], int], n_members: int, settings: RunSettings) -> None:
    """Call ``run(first member)``, which returns how many members it ran, for every block."""
    starts = range(0, n_members, settings.block)
    done = 0
    if settings.n_threads == 1 or len(starts) <= 1:
        for start in starts:
            done += run(start)
            _report(settings, done, n_members)
        return
    with ThreadPoolExecutor(settings.n_threads) as pool:
        for members in pool.map(run, starts):
            done += members
            _report(settings, done, n_members)


def _report(settings: RunSettings, done: int, total: int) -> None:
    if settings.progress is not None:
        settings.progress(done, total)


def register_width(n_members: int, settings: RunSettings) -> int:
    """Doubles from one register to the next: members of a block, up to a whole number of cache lines; 1 for one."""
    width = min(settings.block, max(n_members, 1))
    return -(-width // _ALIGN) * _ALIGN if width > 1 else 1


class _BlockRunner:
    """Holds what all blocks share; each thread has workspaces of its own."""

    def __init__(
        self,
        program: Program,
        grid: TimeGrid,
        parameters: npt.NDArray[np.float64],
        settings: RunSettings,
        out: npt.NDArray[np.float64],
        healthy: npt.NDArray[np.uint8],
    ) -> None:
        self._kernel = kernel(settings.isa or selected_isa())
        self._program, self._grid, self._settings = program, grid, settings
        self._parameters, self._out, self._healthy = np.ascontiguousarray(parameters), out, healthy
        self._stride = register_width(parameters.shape[1], settings)
        self._code, self._bounds = program.unrolled if self._stride > 1 else (program.code, program.bounds)
        self._grid_scalars = grid_scalars(grid)
        self._save_steps = grid.save_steps()
        noise, n_members = settings.noise, parameters.shape[1]
        self._keys = stream_keys(noise.seed, program.streams)
        self._members = np.arange(n_members) if noise.members is None else noise.members
        self._given = _stacked([noise.given[name] for name in program.given], (grid.n_steps + 1, n_members))
        self._local = threading.local()

    def _workspaces(self) -> tuple[npt.NDArray[np.float64], ...]:
        if not hasattr(self._local, "spaces"):
            program, stride = self._program, self._stride
            self._local.spaces = (
                aligned(program.n_vectors * stride),
                np.empty(len(program.scalars)),
                aligned(2 * len(program.stocks) * stride),
            )
            self._local.delay_work = np.empty(1)
            self._local.delay_lengths = np.empty(max(len(program.delays) * stride, 1), dtype=np.int64)
        return self._local.spaces  # type: ignore[no-any-return]

    def run(self, start: int) -> int:
        """Run the block that begins at member `start`; returns its number of members."""
        program = self._program
        n: int = min(self._settings.block, self._parameters.shape[1] - start)
        registers, scalar_work, stage_work = self._workspaces()
        while True:
            needed: int = self._kernel.run_block(
                self._code, self._bounds, program.scalars, self._parameters, program.parameter_slots,
                program.stock_slots, program.flow_slots, program.non_negative, program.delays, program.save_slots,
                program.lists, program.tables.offsets,
                program.tables.points, program.tables.below, self._grid_scalars, self._grid.n_steps,
                self._settings.method == "rk4", self._save_steps, self._out, self._healthy, self._keys,
                self._members, self._given, start, n, self._stride, registers, scalar_work, stage_work,
                self._local.delay_work, self._local.delay_lengths,
            )
            if not needed:
                return n
            self._local.delay_work = np.empty(needed)


def _stacked(series: list[npt.NDArray[np.float64]], shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Supplied series as one array, a column for each member unless all members share every series."""
    width = max((values.shape[1] for values in series), default=1)
    assert all(values.shape in (shape, (shape[0], 1)) for values in series)
    stacked = np.empty((len(series), shape[0], width))
    for values, row in zip(series, stacked, strict=True):
        row[:] = values
    return stacked


def grid_scalars(grid: TimeGrid) -> npt.NDArray[np.float64]:
    """What the kernel writes to the registers of `SCALARS`."""
    scalars = np.array([grid.start, grid.start, grid.start, grid.stop, grid.step, grid.save_every])
    assert len(scalars) == len(SCALARS)
    return scalars


def aligned(size: int) -> npt.NDArray[np.float64]:
    """A buffer that begins at a cache line, at least one double long."""
    raw = np.empty(size + 2 * _ALIGN)
    offset = (-raw.ctypes.data // 8) % _ALIGN
    return raw[offset:offset + max(size, 1)]
