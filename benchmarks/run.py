"""Speed beside the peers, measured in one run on one machine: ratios, never limits that a test could fail.

Each engine runs the same model with the same Euler steps. Every figure is the median of several repetitions, taken
in turn, because machines are shared and their speed drifts. Writes ``benchmarks/results.md``.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

import villageflow as vf
from villageflow.ensemble.simulate import available_threads, time_grid
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas, selected_isa
from villageflow.ir.model import Model
from villageflow.program.emit import compile_model

HERE = Path(__file__).resolve().parent
MODEL = HERE / "village.mdl"
SAVES = ["stores", "profit_per_store", "residents", "brand_stores", "bid_level"]
SEED = 20260101


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    options = parser.parse_args()
    model = vf.read_model(MODEL)
    rows = measure(model, options.members, options.repeats)
    text = report(rows, model, options.members)
    options.output.write_text(text)
    print(text)


def measure(model: Model, members: int, repeats: int) -> list[tuple[str, float]]:
    """Microseconds for each member and engine."""
    runs: dict[str, tuple[int, Callable[[], object]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs["PySD, one run"] = (1, pysd_run(Path(folder)))
        runs["pysimlin, one run"] = (1, simlin_run())
        for isa in available_isas():
            runs[f"villageflow, 1 thread, {isa}"] = (members, ensemble_run(model, members, 1, isa))
        threads = available_threads()
        runs[f"villageflow, {threads} threads, {selected_isa()}"] = (members, ensemble_run(model, members, threads))
        runs["villageflow, simulate(), one member"] = (1, lambda: vf.simulate(model, save=SAVES))
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(repeats + 1):  # the first is a warm-up
            for name, (_, run) in runs.items():
                started = time.perf_counter()
                run()
                if repeat:
                    seconds[name].append(time.perf_counter() - started)
    return [(name, 1e6 * statistics.median(seconds[name]) / runs[name][0]) for name in runs]


def ensemble_run(model: Model, members: int, threads: int, isa: str | None = None) -> Callable[[], object]:
    """All constants vary, the hardest case: nothing can be folded."""
    varied = list(model.constants)
    program = compile_model(model, varied=varied, saves=SAVES)
    grid = time_grid(model)
    table = parameters(model, varied, members)
    settings = RunSettings(n_threads=threads, isa=isa)
    return lambda: run_program(program, grid, table, settings=settings)


def parameters(model: Model, varied: list[str], members: int) -> npt.NDArray[np.float64]:
    base = np.array([model.constants[name] for name in varied])
    return np.ascontiguousarray(base[:, None] * np.random.default_rng(SEED).uniform(0.8, 1.2, (len(varied), members)))


def pysd_run(folder: Path) -> Callable[[], object]:
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    import pysd

    copy = folder / MODEL.name
    copy.write_bytes(MODEL.read_bytes())
    loaded = pysd.read_vensim(str(copy))
    return lambda: loaded.run(return_columns=["stores", "profit per store"])


def simlin_run() -> Callable[[], object]:
    import simlin

    sim = simlin.load(MODEL).simulate()

    def run() -> None:
        sim.reset()
        sim.run_to_end()

    return run


def report(rows: list[tuple[str, float]], model: Model, members: int) -> str:
    """The table, with the machine named."""
    peer = dict(rows)["PySD, one run"]
    lines = [
        "# Speed",
        "",
        "Written by `./run benchmark`. Ratios within one run are what counts; single figures depend on the machine.",
        "",
        f"Machine: {processor()}, {available_threads()} processors, {platform.system()},",
        f"Python {platform.python_version()}. Model: `benchmarks/village.mdl`, {len(model.stocks)} states,",
        f"{len(model.constants)} constants, all varied; {time_grid(model).n_steps} Euler steps, {members:,} members.",
        "",
        "| engine | µs for each run | runs for one of PySD |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {value:,.1f} | {peer / value:,.0f} |" for name, value in rows]
    return "\n".join(lines) + "\n"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
