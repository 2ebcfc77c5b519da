"""Speed beside the peers, measured in one run on one machine: ratios, never limits that a test could fail.

Every figure is the median of several repetitions. Those of the engines are taken in turn, and a ratio is the median of
the ratios within a turn, because machines are shared and their speed drifts. Writes ``benchmarks/results.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

import villageflow as vf
from child import in_child
from engines import BLOCKS, MODEL, Timing, engines, measure, ratio
from family import Family, family
from fused_c import FLAGS, compiler
from generated import array_text
from jacobian import N_PARAMETERS, jacobian_ratio
from together import together
from villageflow.ensemble.simulate import available_threads, time_grid
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.program.emit import compile_model
from villageflow.timegrid import TimeGrid

HERE: Final = Path(__file__).resolve().parent
ELEMENTS: Final = (10, 100, 400)
EQUATIONS: Final = (2_500, 5_000, 10_000, 20_000)
SINGLE: Final = ("stores[agent]", "stores[brand]", "workers_ecom", "children", "elderly")


@dataclass(frozen=True)
class Row:
    """A target: what, how much must be reached, what was measured, and whether that is enough."""

    what: str
    target: str
    measured: str
    reached: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=10_000, help="of the engines' table")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--ensemble", type=int, default=1_000_000, help="members of the reduced ensemble")
    parser.add_argument("--equations", type=int, nargs="*", default=EQUATIONS, help="sizes of the generated models")
    parser.add_argument("--output", type=Path, default=HERE / "results.md")
    options = parser.parse_args()
    found, missing = engines(options.members)
    timings = measure(found, options.repeats)
    rows = [
        *engine_rows(timings), reduction_row(options.ensemble), jacobian_row(), single_row(), array_row(), import_row(),
        cache_row(),
    ]
    models = family(options.members)
    rows.append(family_row(models, options.members))
    sizes = [in_child("load", n) for n in options.equations]
    threads, processes = together(6 * options.members, options.repeats)
    rows.insert(2, Row("two threads for one", "at least 1.9", f"{threads:.2f}", threads >= 1.9))
    text = report(rows, timings, missing, sizes, models, options.members, processes)
    options.output.write_text(text)
    print(text)


def engine_rows(timings: dict[str, Timing]) -> list[Row]:
    """Ratios of villageflow, one thread, to the peers."""
    rows, ours = [], timings["vf"]
    fused = [timings[f"fused {block}"] for block in BLOCKS if f"fused {block}" in timings]
    if fused:
        best = min(fused, key=lambda timing: timing.microseconds)
        value = ratio(ours, best)
        rows.append(Row(f"time beside {best.engine.name}, the fastest", "at most 1.3 (goal 1.0)", f"{value:.2f}",
                        value <= 1.3))
    if "pysd" in timings:
        value = ratio(timings["pysd"], ours)
        rows.append(Row("runs for one of PySD", "at least 40,000", f"{value:,.0f}", value >= 40_000))
    return rows


def reduction_row(members: int) -> Row:
    found = in_child("reduction", members)
    seconds, size = found["seconds"], found["bytes"] / 1024**3
    what = (f"{members:,} members x {found['times']:.0f} times x 5 variables to {found['quantiles']:.0f} quantiles, "
            f"{available_threads()} threads")
    return Row(what, "under 25 s and 1.5 GB", f"{seconds:.1f} s, {size:.2f} GB", seconds < 25 and size < 1.5)


def jacobian_row() -> Row:
    value = jacobian_ratio(64, 9)
    return Row(f"exact Jacobian, {N_PARAMETERS} parameters, beside {N_PARAMETERS + 1} plain members", "at most 3",
               f"{value:.2f}", value <= 3)


def single_row() -> Row:
    model = vf.library.read("village_cluster")
    milliseconds = 1e3 * median_seconds(lambda: vf.simulate(model, save=SINGLE), 100)
    steps = time_grid(model).n_steps
    return Row(f"one run of village_cluster ({steps} steps) by simulate(), {len(SINGLE)} variables", "under 3 ms",
               f"{milliseconds:.2f} ms", milliseconds < 3)


def array_row() -> Row:
    ratios = [array_ratio(n_elements) for n_elements in ELEMENTS]
    what = f"one run of 20 equations over {', '.join(map(str, ELEMENTS))} elements, for one with each element apart"
    return Row(what, "at least 1.5", ", ".join(f"{value:.1f}" for value in ratios), min(ratios) >= 1.5)


def array_ratio(n_elements: int) -> float:
    """Time of one member in a program of ensembles over that in its own, where elements are computed together."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "arrays.mdl")
        path.write_text(array_text(n_elements))
        model = vf.read_model(path)
    grid = TimeGrid(0.0, 250.0, 0.25, 250.0)

    def seconds(varied: tuple[str, ...]) -> float:
        program = compile_model(model, varied=varied, saves=tuple(model.stocks)[:-n_elements])
        member = np.array([[model.constants[name]] for name in varied]).reshape(len(varied), 1)
        return median_seconds(lambda: run_program(program, grid, member, settings=RunSettings()), 100)

    return seconds(("life_time",)) / seconds(())


def import_row() -> Row:
    in_child("imported")  # writes byte code
    seconds = statistics.median(in_child("imported")["seconds"] for _ in range(5))
    return Row("import villageflow", "under 0.4 s", f"{seconds:.3f} s", seconds < 0.4)


def cache_row() -> Row:
    with tempfile.TemporaryDirectory() as folder:
        in_child("cached", cache=folder)  # reads the file and fills the cache
        seconds = statistics.median(in_child("cached", cache=folder)["seconds"] for _ in range(5))
    return Row("reading a model that the cache has", "under 50 ms", f"{1e3 * seconds:.1f} ms", seconds < 0.05)


def family_row(models: list[Family], members: int) -> Row:
    slowest = models[0]
    return Row(f"the slowest shipped model, {slowest.name}, {members:,} draws from its priors", "under 60 s",
               f"{slowest.seconds:.1f} s", slowest.seconds < 60)


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def report(
    rows: list[Row], timings: dict[str, Timing], missing: list[str], sizes: list[dict[str, float]],
    models: list[Family], members: int, processes: float,
) -> str:
    """The tables, with the machine named."""
    model = vf.read_model(MODEL)
    fastest = min(timing.microseconds for timing in timings.values())
    lines = [
        "# Speed",
        "",
        "Written by `./run benchmark`. Ratios within one run are what counts; single figures depend on the machine.",
        "",
        f"Machine: {processor()}, {available_threads()} processors, {platform.system()}, Python "
        f"{platform.python_version()}, {compiler_version()}.",
        f"Model unless said otherwise: `benchmarks/village.mdl`, {len(model.stocks)} states, {len(model.constants)} "
        f"constants, all varied; {time_grid(model).n_steps} Euler steps, {members:,} members.",
        "",
        "| what | target | measured | |",
        "|---|---|---:|---|",
        *(f"| {row.what} | {row.target} | {row.measured} | {'reached' if row.reached else 'not reached'} |"
          for row in rows),
        "",
        f"Two processes that share nothing, taken in turn with the threads, did {processes:.2f} times the work of one:",
        "what the machine itself gave for a second processor.",
        "",
        "## Engines",
        "",
        f"Fused C is written for this model by `benchmarks/fused_c.py` and compiled with `gcc {FLAGS}`. All engines",
        "give the same trajectories to 1e-9.",
        "",
        "| engine | µs for each run | beside the fastest |",
        "|---|---:|---:|",
    ]
    ordered = sorted(timings.values(), key=lambda timing: timing.microseconds)
    lines += [f"| {t.engine.name} | {t.microseconds:,.1f} | {t.microseconds / fastest:,.2f} |" for t in ordered]
    lines += ["", *missing] if missing else []
    lines += [
        "",
        "## Shipped models",
        "",
        f"{members:,} draws from the priors of each, {available_threads()} threads, five stocks saved once a year.",
        "",
        "| model | stocks | equations | steps | seconds |",
        "|---|---:|---:|---:|---:|",
        *(f"| {one.name} | {one.stocks} | {one.equations} | {one.steps:,} | {one.seconds:.2f} |" for one in models),
        "",
        "## Size of the model",
        "",
        "Generated models: reading and compiling them, each in a process of its own, and the memory that took.",
        "",
        "| equations | read, s | compile, s | ms for each equation | kB for each equation |",
        "|---:|---:|---:|---:|---:|",
    ]
    for size in sizes:
        n, seconds = size["equations"], size["read"] + size["compile"]
        lines.append(f"| {n:,.0f} | {size['read']:.2f} | {size['compile']:.2f} | {1e3 * seconds / n:.2f} | "
                     f"{size['bytes'] / n / 1024:.1f} |")
    return "\n".join(lines) + "\n"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def compiler_version() -> str:
    command = compiler()
    if command is None:
        return "no C compiler"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _at_full_speed() -> None:
    """Start again without what `./run` sets to make the C library and numpy give the same bits everywhere.

    The engine does not need it, and the peers run faster without.
    """
    held = [name for name in ("GLIBC_TUNABLES", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE") if name in os.environ]
    if held:
        for name in held:
            del os.environ[name]
        os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    _at_full_speed()
    main()
