"""Speed of calibration beside PySD with scipy and emcee on the same tasks, in one run.

Writes ``benchmarks/calibration.md``. The panel is made: 31 entities, 12 years, two observables of a model of two
populations and stores. Peers are measured on the same data and the same likelihood. Where a whole run of a peer would
take hours, evaluations of its objective are timed and multiplied by their number, and the row says so.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

import villageflow as vf
from villageflow.calibrate.counties import (
    STEP,
    candidate_counties,
    county_auxiliary,
    county_simulator,
    listed_counties,
    parameters_of_counties,
)
from villageflow.ensemble.simulate import available_threads

HERE: Final = Path(__file__).resolve().parent
ENTITIES: Final = 31
YEARS: Final = 12
TRUE: Final = {
    "opening": 0.5, "imitation": 0.9, "crowding": 200.0, "closing": 0.15, "returning": 0.2, "leaving": 0.05,
}
TEXT: Final = """{UTF-8}
away = INTEG(leave - back, away at first) ~ person ~|
home = INTEG(back - leave, home at first) ~ person ~|
stores = INTEG(openings - closing*stores, stores at first) ~ store ~|
openings = (opening + imitation*stores/(1 + stores/crowding))*home/(home + half home) ~ store/Year ~|
back = returning*away*stores/(stores + half stores) ~ person/Year ~|
leave = leaving*home ~ person/Year ~|
away at first = 400 ~ person ~|
home at first = 1000 ~ person ~|
stores at first = 3 ~ store ~|
opening = 0.5 ~ store/Year ~|
imitation = 0.9 ~ 1/Year ~|
crowding = 200 ~ store ~|
half home = 300 ~ person ~|
closing = 0.15 ~ 1/Year ~|
returning = 0.2 ~ 1/Year ~|
half stores = 40 ~ store ~|
leaving = 0.05 ~ 1/Year ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 12 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walk", type=int, default=5000, help="steps of the walkers")
    parser.add_argument("--output", type=Path, default=HERE / "calibration.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "panel.mdl")
        path.write_text(TEXT)
        rows = [*fits(path), indirect(), walk(path, options.walk)]
    text = report(rows)
    options.output.write_text(text)
    print(text)


def panel(path: Path, *, effect: str = "shared", more: tuple[str, ...] = ()) -> vf.Problem:
    """The made panel as a problem; entities differ in their first stores and, by a tenth, in imitation."""
    model, rng = vf.read_model(path), np.random.default_rng(1)
    first = np.exp(rng.normal(1.0, 0.5, ENTITIES))
    design = {"stores_at_first": first, "imitation": TRUE["imitation"] * np.exp(rng.normal(0, 0.1, ENTITIES))}
    paths = vf.simulate(model, pd.DataFrame(design), save=["stores", "home"])
    rows = [
        {"entity": f"e{i:02d}", "time": float(time), "observable": name, "comparator": "=",
         "value": float(paths[name].sel(member=i, time=time)) * np.exp(rng.normal(0, 0.1)),
         "source_id": f"{name} {i} {time}"}
        for i in range(ENTITIES) for time in range(1, YEARS + 1) for name in ("stores", "home")
    ]
    free = [*TRUE, *more]
    parameters = pd.DataFrame(
        [{"name": name, "scale": "log", "lower": model.constants[name] / 5, "upper": model.constants[name] * 5,
          "effect": effect if name == "imitation" else "shared"} for name in free]
        + [{"name": f"error_{name}", "scale": "log", "lower": 0.01, "upper": 1.0, "effect": "shared"}
           for name in ("stores", "home")]
    )
    brought = pd.DataFrame({
        "entity": [f"e{i:02d}" for i in range(ENTITIES)], "name": "stores_at_first", "time": np.nan, "value": first,
        "source_id": "made",
    })
    observables = tuple(
        vf.Observable(name, name, "level", "lognormal", f"error_{name}") for name in ("stores", "home")
    )
    return vf.Problem(
        model=model, parameters=parameters, observables=observables, measurements=pd.DataFrame(rows),
        covariates=brought,
    )


class Peer:
    """The same panel in PySD: a run for each entity."""

    def __init__(self, path: Path, problem: vf.Problem) -> None:
        import pysd

        self.model = pysd.read_vensim(str(path))
        table = problem.measurements.pivot(index=["entity", "time"], columns="observable", values="value")
        self.observed = np.log(table[["stores", "home"]].to_numpy())
        self.first = problem.covariates.set_index("entity")["value"]
        self.evaluations = 0

    def residuals(self, log_values: np.ndarray, names: tuple[str, ...] = tuple(TRUE)) -> np.ndarray:
        """Log residuals of all entities, (entities x times, 2)."""
        self.evaluations += 1
        values = dict(zip((name.replace("_", " ") for name in names), np.exp(log_values), strict=True))
        parts = [
            self.model.run(
                params=values | {"stores at first": float(first)}, return_columns=["stores", "home"],
                return_timestamps=list(range(1, YEARS + 1)),
            ).to_numpy() for first in self.first
        ]
        return np.asarray(self.observed - np.log(np.vstack(parts)))


def fits(path: Path) -> list[dict[str, Any]]:
    """Eight shared parameters; the same with a random effect; one start of scipy on PySD."""
    problem = panel(path)
    shared, seconds = timed(lambda: vf.fit(problem, seed=1, n_draws=1))
    random, random_seconds = timed(lambda: vf.fit_random_effects(panel(path, effect="random"), ["imitation"], seed=1))
    peer, start = Peer(path, problem), np.log(list(TRUE.values())) + 0.2
    weights = 1 / shared.params[["error_stores", "error_home"]].to_numpy()  # as the likelihood weighs them
    found, peer_seconds = timed(
        lambda: least_squares(lambda x: (weights * peer.residuals(x)).ravel(), start, x_scale="jac", max_nfev=100)
    )
    runs = f"one start of scipy.least_squares on PySD ({peer.evaluations * ENTITIES:,} runs): {peer_seconds:,.0f} s"
    away = np.abs(np.exp(found.x) / shared.params[list(TRUE)] - 1).max()
    what = f"fit of 8 shared parameters, {ENTITIES} x {YEARS} x 2, {len(shared.starts)} starts"
    return [
        {"what": what, "seconds": seconds, "target": "", "peer": f"{runs}; estimates differ by at most {away:.1%}",
         "ratio": peer_seconds / (seconds / len(shared.starts))},
        {"what": f"the same with a random effect, {random.nodes} nodes, {len(random.starts)} starts",
         "seconds": random_seconds, "target": "under 10 s", "peer": "none fits random effects of such models",
         "ratio": None},
    ]


def indirect() -> dict[str, Any]:
    """The counties by indirect inference, one fit with two starts."""
    candidates, real, table = candidate_counties(), listed_counties(), parameters_of_counties()
    auxiliary = county_auxiliary(candidates)
    simulator = county_simulator(table, candidates, n_simulations=10, seed=1)
    found, seconds = timed(
        lambda: vf.indirect_inference(simulator, auxiliary, real, table, seed=1, starts=2, step=STEP)
    )
    what = f"indirect inference on {real.index.get_level_values(0).nunique()} counties, 10 simulated rosters, 2 starts"
    return {"what": f"{what}, {len(found.params)} parameters", "seconds": seconds, "target": "under 30 s",
            "peer": "none has the auxiliary regression; estimagic would run the same simulator", "ratio": None}


def walk(path: Path, steps: int) -> dict[str, Any]:
    """Thirty-two walkers of emcee on ten parameters; on PySD from timed evaluations."""
    problem = panel(path, more=("half_home", "half_stores"))
    data, seconds = timed(lambda: vf.sample_posterior(problem, seed=1, walkers=32, steps=steps))
    peer = Peer(path, problem)
    names = (*TRUE, "half_home", "half_stores")
    at = np.log([problem.model.constants[name] for name in names])
    each = statistics.median(timed(lambda: peer.residuals(at, names))[1] for _ in range(3))
    hours = each * 32 * steps / 3600
    draws = float(min(item.attrs["ess_bulk"] for item in data["posterior"].data_vars.values()))
    return {
        "what": f"32 walkers x {steps:,} steps, {problem.box.size} parameters ({draws:.0f} effective draws)",
        "seconds": seconds, "target": "under 120 s",
        "peer": f"emcee on PySD: {each:.2f} s for one likelihood, {hours:,.0f} h for all (multiplied, not run)",
        "ratio": 3600 * hours / seconds,
    }


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = run()
    return result, time.perf_counter() - started


def report(rows: list[dict[str, Any]]) -> str:
    """The table, with the machine named."""
    lines = [
        "# Speed of calibration",
        "",
        "Written by `./run python benchmarks/calibration.py`. Seconds depend on the machine; ratios are within this",
        "run, for one start or for all evaluations.",
        "",
        f"Machine: {available_threads()} processors, {platform.system()}, Python {platform.python_version()}.",
        "",
        "| task | seconds | target | peer | times as fast |",
        "|---|---:|---|---|---:|",
    ]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:,.0f}"
        lines.append(f"| {row['what']} | {row['seconds']:.1f} | {row['target']} | {row['peer']} | {ratio} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
