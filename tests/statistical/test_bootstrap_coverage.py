"""Errors of two stages: a bootstrap of the pipeline covers, a second stage that takes the first as known does not.

Design: 40 places with exit rates of their own (0.2, standard deviation 0.4 in logs). The first stage estimates the mean
rate by a regression of exits on stocks; the second one takes it to find entry.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate.bootstrap import bootstrap
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem

MODEL = """{UTF-8}
shops = INTEG(entry - exit rate*shops, initial shops) ~ shop ~|
entry = 10 ~ shop/Year ~|
exit rate = 0.2 ~ 1/Year ~|
initial shops = 20 ~ shop ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 4 ~ Year ~|
TIME STEP = 0.5 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
N, RATE, ENTRY = 40, 0.2, 10.0


def simulated(seed, n=N):
    """Exits on stocks, and paths of shops that begin with 20."""
    rng = np.random.default_rng(np.random.SeedSequence(8, spawn_key=(seed,)))
    rate = RATE * np.exp(0.4 * rng.normal(size=n))
    stock, names = rng.uniform(50, 150, size=(n, 3)), [f"v{i:02d}" for i in range(n)]
    panel = pd.DataFrame({
        "entity": np.repeat(names, 3), "stock": stock.ravel(), "exits": (rate[:, None] * stock).ravel(),
        "entry": ENTRY + rng.normal(size=3 * n),
    })
    times = np.arange(1.0, 5.0)
    level = ENTRY / rate[:, None] + (20 - ENTRY / rate[:, None]) * np.exp(-rate[:, None] * times)
    paths = pd.DataFrame({
        "entity": np.repeat(names, 4), "time": np.tile(times, n), "observable": "shops",
        "value": (level + rng.normal(size=level.shape)).ravel(), "comparator": "=", "source_id": "simulated",
    })
    return panel, paths


def rate_of(panel):
    return float(panel["stock"] @ panel["exits"] / (panel["stock"] @ panel["stock"]))


def level_of(panel):
    return {"level": panel["entry"].mean() / rate_of(panel)}


def covered(replications, draws):
    """Share of 95 percent intervals that hold the level: bootstrap of both stages, and of the second alone."""
    true, hits = ENTRY / (RATE * np.exp(0.4**2 / 2)), np.zeros(2)
    for seed in range(replications):
        panel, _ = simulated(seed)
        held = rate_of(panel)
        for place, pipeline in enumerate((level_of, lambda part, held=held: {"level": part["entry"].mean() / held})):
            low, high = bootstrap(pipeline, panel, draws=draws, seed=seed).conf_int(kind="t").loc["level"]
            hits[place] += low <= true <= high
    return hits / replications


@pytest.mark.statistical
def test_intervals_of_the_pipeline_cover_and_those_of_the_second_stage_do_not():
    n = 300
    whole, second = covered(n, 199)
    assert abs(whole - 0.95) < 3 * np.sqrt(0.95 * 0.05 / n) + 0.01, whole
    assert second < 0.4, second


@pytest.mark.statistical
def test_a_regression_whose_estimate_a_fit_takes_as_known(tmp_path):
    """Standard deviations of fitted entry: over simulated data, and by both bootstraps and the fit itself."""
    path = tmp_path / "shops.mdl"
    path.write_text(MODEL)
    model = vf.read_model(path)
    parameters = pd.DataFrame({"name": ["entry", "spread"], "scale": "log", "lower": [2.0, 0.1], "upper": [50.0, 20.0]})

    def problem_of(paths, rate):
        return Problem(
            model=model, parameters=parameters, measurements=paths, fixed={"exit rate": rate}, method="rk4",
            observables=(Observable("shops", "shops", "level", "normal", "spread"),),
        )

    def pipeline(parts):
        known = replace(parts["problem"], fixed={"exit rate": rate_of(parts["panel"])})
        return {"entry": vf.fit(known, seed=1, n_draws=10).params["entry"]}

    found = []
    for seed in range(120):
        panel, paths = simulated(seed)
        found.append(pipeline({"panel": panel, "problem": problem_of(paths, RATE)})["entry"])
    true = np.std(found, ddof=1)
    errors = []
    for seed in range(3):
        panel, paths = simulated(seed)
        problem = problem_of(paths, rate_of(panel))
        whole = bootstrap(pipeline, {"panel": panel, "problem": problem}, draws=100, seed=1).std_errors["entry"]
        errors.append((whole, vf.fit(problem, seed=1, n_draws=10).std_errors["entry"]))
    whole, second = np.mean(errors, axis=0)
    assert abs(whole / true - 1) < 0.25, (whole, true)
    assert abs(second / true - 1) > 0.4, (second, true)
