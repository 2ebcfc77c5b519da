"""Time of an exact Jacobian beside that of as many plain members.

20 parameters and every stock and auxiliary of ``village.mdl``, on one thread. Each lane of the Jacobian, one for a
member and a parameter, is set against a plain member, of which there are 21 for each 20 lanes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import villageflow as vf
from engines import MODEL, SEED, Floats
from villageflow.ensemble.simulate import time_grid
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.ir.model import Kind, Model
from villageflow.program.emit import compile_model, compile_tangents
from villageflow.program.program import Program
from villageflow.program.tangent import tangent_name

N_PARAMETERS = 20


def jacobian_ratio(n_members: int, repeats: int) -> float:
    """Time of the Jacobian of some members over that of plain members: median over repetitions taken in turn."""
    model = vf.read_model(MODEL)
    names = tuple(model.constants)[:N_PARAMETERS]
    saves = tuple(name for name, item in model.variables.items() if item.kind in (Kind.STOCK, Kind.AUXILIARY))
    plain = compile_model(model, varied=names, saves=saves)
    tangents = compile_tangents(model, varied=names, directions=names, saves=tuple(map(tangent_name, saves)))
    base = np.array([model.constants[name] for name in names])
    members = base[:, None] * np.random.default_rng(SEED).uniform(0.9, 1.1, (N_PARAMETERS, n_members))
    lanes = np.vstack([np.repeat(members, N_PARAMETERS, axis=1), np.tile(np.eye(N_PARAMETERS), n_members)])
    runs = _runner(plain, model, np.repeat(members, N_PARAMETERS + 1, axis=1)), _runner(tangents, model, lanes)
    ratios = []
    for _ in range(repeats + 1):  # the first is a warm-up
        below, above = (_seconds(run) for run in runs)
        ratios.append(above / below)
    return statistics.median(ratios[1:])


def _runner(program: Program, model: Model, parameters: Floats) -> Callable[[], object]:
    grid, table = time_grid(model), np.ascontiguousarray(parameters)
    return lambda: run_program(program, grid, table, settings=RunSettings())


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
