"""Time of an exact Jacobian beside that of as many plain members.

20 parameters and every stock and auxiliary of ``village.mdl``, on one thread. Each lane of the Jacobian, one for a
member and a parameter, is set against a plain member, of which there are 21 for each 20 lanes. Medians of repetitions
taken in turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import villageflow as vf
from villageflow.ensemble.simulate import time_grid
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.ir.model import Kind, Model
from villageflow.program.emit import compile_model, compile_tangents
from villageflow.program.program import Program
from villageflow.program.tangent import tangent_name

MODEL = Path(__file__).resolve().parent / "village.mdl"
N_PARAMETERS = 20
SEED = 20260101


def jacobian_ratio(n_members: int, repeats: int) -> float:
    """Time of the Jacobians of some members beside that of 21 plain members for each of them."""
    model = vf.read_model(MODEL)
    names = tuple(model.constants)[:N_PARAMETERS]
    saves = tuple(name for name, item in model.variables.items() if item.kind in (Kind.STOCK, Kind.AUXILIARY))
    plain = compile_model(model, varied=names, saves=saves)
    tangents = compile_tangents(model, varied=names, directions=names, saves=tuple(map(tangent_name, saves)))
    base = np.array([model.constants[name] for name in names])
    members = base[:, None] * np.random.default_rng(SEED).uniform(0.9, 1.1, (N_PARAMETERS, n_members))
    lanes = np.vstack([np.repeat(members, N_PARAMETERS, axis=1), np.tile(np.eye(N_PARAMETERS), n_members)])
    seconds = medians({
        "plain": runner(plain, model, np.repeat(members, N_PARAMETERS + 1, axis=1)),
        "jacobian": runner(tangents, model, lanes),
    }, repeats)
    return seconds["jacobian"] / seconds["plain"]


def runner(program: Program, model: Model, parameters: np.ndarray) -> Callable[[], object]:
    grid, table = time_grid(model), np.ascontiguousarray(parameters)
    return lambda: run_program(program, grid, table, settings=RunSettings())


def medians(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):  # the first is a warm-up
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
