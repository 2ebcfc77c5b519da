"""The same model in every engine: the same Euler steps, the same trajectories, timed in turn."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import villageflow as vf
from fused_c import UnsupportedError, fused_c
from villageflow.ensemble.simulate import available_threads, time_grid
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas
from villageflow.ir.model import Model
from villageflow.program.emit import compile_model

Floats = npt.NDArray[np.float64]

MODEL: Final = Path(__file__).resolve().parent / "village.mdl"
SAVES: Final = ["stores", "profit_per_store", "residents", "brand_stores", "bid_level"]
BLOCKS: Final = (8, 32, 64, 128)
SEED: Final = 20260101
SAME: Final = 1e-9


@dataclass(frozen=True)
class Engine:
    """A way to run the model: members in one call, and the call, which returns (n_saves, n_times, n_members)."""

    name: str
    members: int
    run: Callable[[], Floats]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition; the repetitions of all engines were taken in turn."""

    engine: Engine
    seconds: list[float]

    @property
    def microseconds(self) -> float:
        """For each member, the median."""
        return 1e6 * statistics.median(self.seconds) / self.engine.members


def ratio(above: Timing, below: Timing) -> float:
    """Median over the repetitions of one engine's time for a member over another's."""
    pairs = zip(above.seconds, below.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs) * below.engine.members / above.engine.members


def engines(members: int) -> tuple[dict[str, Engine], list[str]]:
    """Those that can run here, by a short key, and a line for each that cannot. All constants vary."""
    model = vf.read_model(MODEL)
    table = parameters(model, members)
    found = {f"vf {isa}": Engine(f"villageflow, 1 thread, {isa}", members, ours(model, table, 1, isa))
             for isa in available_isas()}
    found["vf"] = found.pop(f"vf {available_isas()[-1]}")
    if available_threads() > 1:
        found["vf two"] = Engine("villageflow, 2 threads", members, ours(model, table, 2))
    missing = []
    peers: dict[str, tuple[str, int, Callable[[], Callable[[], Floats]]]] = {
        f"fused {block}": (f"fused C, blocks of {block}", members, lambda block=block: _fused(model, table, block))
        for block in BLOCKS
    }
    few = np.ascontiguousarray(table[:, :max(members // 10, 1)])
    peers["fused one"] = ("fused C, one member at a time", few.shape[1], lambda: _fused(model, few, 1))
    peers["simlin"] = ("pysimlin, one run", 1, _simlin)
    peers["pysd"] = ("PySD, one run", 1, lambda: _pysd(model))
    for key, (name, n, make) in peers.items():
        try:
            found[key] = Engine(name, n, make())
        except (UnsupportedError, ImportError) as error:
            missing.append(f"{name}: not measured, {error}")
    for engine in found.values():
        _check(model, engine, table)
    return found, missing


def measure(found: dict[str, Engine], repeats: int) -> dict[str, Timing]:
    """Time every engine `repeats` times, in turn, because machines are shared and their speed drifts."""
    timings = {key: Timing(engine, []) for key, engine in found.items()}
    for _ in range(repeats):
        for timing in timings.values():
            started = time.perf_counter()
            timing.engine.run()
            timing.seconds.append(time.perf_counter() - started)
    return timings


def parameters(model: Model, members: int) -> Floats:
    """Every constant, up to a fifth away from the model's value, (n_constants, members)."""
    base = np.array(list(model.constants.values()))
    return np.ascontiguousarray(base[:, None] * np.random.default_rng(SEED).uniform(0.8, 1.2, (len(base), members)))


def ours(model: Model, table: Floats, threads: int, isa: str | None = None) -> Callable[[], Floats]:
    """A run of every member in villageflow."""
    program, grid = compile_model(model, varied=list(model.constants), saves=SAVES), time_grid(model)
    return lambda: run_program(program, grid, table, settings=RunSettings(n_threads=threads, isa=isa))[0]


def _fused(model: Model, table: Floats, block: int) -> Callable[[], Floats]:
    run = fused_c(model, list(model.constants), SAVES, time_grid(model), block=block)
    return lambda: run(table)


def _pysd(model: Model) -> Callable[[], Floats]:
    import pysd

    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = Path(folder, MODEL.name)
        copy.write_bytes(MODEL.read_bytes())
        loaded = pysd.read_vensim(str(copy))
    names = [model.variables[name].name for name in SAVES]

    def run() -> Floats:
        table = loaded.run(return_columns=names)
        return table[names].to_numpy(dtype=float).T[:, :, None]

    return run


def _simlin() -> Callable[[], Floats]:
    import simlin

    simulation = simlin.load(MODEL).simulate()

    def run() -> Floats:
        simulation.reset()
        simulation.run_to_end()
        return np.array([simulation.get_series(name) for name in SAVES])[:, :, None]

    return run


def _check(model: Model, engine: Engine, table: Floats) -> None:
    """Refuse to time what does not compute the same; also the warm-up."""
    found = engine.run()
    if engine.members == 1:
        table = np.array([[value] for value in model.constants.values()])
    wanted = ours(model, np.ascontiguousarray(table[:, :engine.members]), 1)()
    scale = np.abs(wanted).max(axis=1, keepdims=True)
    error = (np.abs(found - wanted) / np.where(scale > 0, scale, 1.0)).max()
    if not error <= SAME:
        raise SystemExit(f"benchmark: {engine.name} differs by {error:.1e} relative from villageflow")
