"""Coverage of intervals of a fitted growth rate: a logistic stock in 30 villages, errors dependent within each.

Design: 12 years, growth 0.6 a year, initial share 0.08, a level of its own for each village (standard deviation 1 in
logs), errors that are an autoregression (0.7) with standard deviation 0.15. Growth and initial share are fitted with
the level of each village taken out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate.fit import cluster, fit_target
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem

MODEL = """{UTF-8}
share = INTEG(growth rate*share*(1-share), initial share) ~ 1 ~|
growth rate = 0.6 ~ 1/Year ~|
initial share = 0.08 ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 12 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
N, T, GROWTH, START, PERSISTENCE, SPREAD = 30, 12, 0.6, 0.08, 0.7, 0.15
OBSERVED = Observable("share", "share", "level", "lognormal", "spread", "1", centred=True)
PARAMETERS = pd.DataFrame({
    "name": ["growth rate", "initial share", "spread"], "scale": ["log", "log", "log"],
    "lower": [0.3, 0.02, 0.02], "upper": [1.2, 0.3, 1.0],
})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "share.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def problem_of(model, seed):
    rng = np.random.default_rng(np.random.SeedSequence(20, spawn_key=(seed,)))
    times = np.arange(1.0, T + 1)
    noise = np.empty((N, T))
    noise[:, 0] = SPREAD * rng.normal(size=N)
    for t in range(1, T):
        innovation = SPREAD * np.sqrt(1 - PERSISTENCE**2) * rng.normal(size=N)
        noise[:, t] = PERSISTENCE * noise[:, t - 1] + innovation
    path = 1 / (1 + (1 / START - 1) * np.exp(-GROWTH * times))
    values = path * np.exp(rng.normal(size=(N, 1)) + noise)
    table = pd.DataFrame({
        "entity": np.repeat([f"v{i}" for i in range(N)], T), "time": np.tile(times, N), "observable": "share",
        "value": values.ravel(), "comparator": "=", "source_id": "simulated",
    })
    return Problem(
        model=model, parameters=PARAMETERS, observables=(OBSERVED,), measurements=table, method="rk4",
    )


def covered(model, replications):
    """Share of 95 percent intervals that hold the growth rate: inverse Hessian, clustered; bias over its error."""
    hits, found = np.zeros(2), []
    for seed in range(replications):
        problem = problem_of(model, seed)
        plain = fit_target(problem, problem.measurements, {"model": "share"}, starts=20, seed=1)
        for place, result in enumerate((plain, cluster(problem, plain))):
            low, high = result.conf_int().loc["growth_rate"]
            hits[place] += low <= GROWTH <= high
        found.append(float(plain.params["growth_rate"]))
    return hits / replications, np.asarray(found)


def test_clustered_intervals_hold_where_those_of_the_hessian_are_too_short(model):
    (hessian, clustered), found = covered(model, 16)
    assert clustered >= 0.75 and hessian <= clustered
    assert abs(found.mean() - GROWTH) < 4 * found.std(ddof=1) / np.sqrt(16)


@pytest.mark.statistical
def test_coverage_is_that_of_the_design(model):
    """The design gives 0.80 for the inverse Hessian and 0.955 for clusters with t(29); three Monte Carlo errors."""
    n = 600
    (hessian, clustered), found = covered(model, n)
    for share, expected in ((hessian, 0.80), (clustered, 0.955)):
        assert abs(share - expected) < 3 * np.sqrt(expected * (1 - expected) / n), (hessian, clustered)
    assert abs(found.mean() - GROWTH) < 0.25 * found.std(ddof=1)
