"""Simulation-based calibration of the posterior of a two-stock model: ranks of the truth are uniform.

Design: young things grow old and leave, both stocks are measured in six years with lognormal and with Poisson noise;
the two rates, the first stock and the spread are drawn from four kinds of prior on two scales. 100 replications, 49
posterior draws each. At these numbers a posterior whose standard deviations are half of what they should be is
rejected at 1 % nine times in ten.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import villageflow as vf
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.ranks import rank_statistics, uniformity

MODEL = """{UTF-8}
young = INTEG(-growing*young, starting) ~ thing ~|
old = INTEG(growing*young-leaving*old, 10) ~ thing ~|
growing = 0.4 ~ 1/Year ~|
leaving = 0.2 ~ 1/Year ~|
starting = 100 ~ thing ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 6 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
PARAMETERS = pd.DataFrame({
    "name": ["growing", "leaving", "starting", "spread"], "scale": ["log", "lin", "log", "log"],
    "lower": [0.1, 0.02, 40.0, 0.1], "mode": [0.3, 0.2, 90.0, np.nan], "upper": [1.2, 0.6, 200.0, 0.8],
    "distribution": ["triangular", "normal", "lognormal", "loguniform"],
})
LEVEL = 0.01 / len(PARAMETERS)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "ageing.mdl"
    path.write_text(MODEL)
    rows = pd.DataFrame({
        "entity": "v", "time": np.tile(np.arange(1.0, 7.0), 2), "observable": np.repeat(["youth", "age"], 6),
        "value": 10.0, "comparator": "=", "source_id": [f"s{i}" for i in range(12)],
    })
    return Problem(
        model=vf.read_model(path), method="rk4", measurements=rows, parameters=PARAMETERS,
        observables=(
            Observable("youth", "young", "level", "lognormal", "spread", "thing"),
            Observable("age", "old", "count", "poisson", None, "thing"),
        ),
    )


@pytest.mark.statistical
def test_the_posterior_of_a_two_stock_model_is_calibrated(problem):
    found = rank_statistics(
        problem, lambda rows: replace(problem, measurements=rows), n_replications=100, seed=11, walkers=16, steps=500,
        n_draws=49,
    )
    assert (found.uniformity["p_value"] > LEVEL).all()
    assert found.fewest_effective > found.n_draws
    centre = (found.ranks / found.n_draws).mean()
    assert (np.abs(centre - 0.5) < stats.norm.ppf(1 - LEVEL / 2) / np.sqrt(12 * 100)).all()


@pytest.mark.statistical
def test_uniformity_rejects_as_often_as_it_says_and_finds_narrow_posteriors():
    rng = np.random.default_rng(0)
    even = uniformity(pd.DataFrame(rng.integers(0, 50, (100, 2000))), 49)["p_value"]
    assert stats.binomtest(int((even < 0.05).sum()), 2000, 0.05).pvalue > 1e-3
    assert stats.binomtest(int((even < 0.01).sum()), 2000, 0.01).pvalue > 1e-3
    scores = stats.norm.cdf(2.0 * rng.normal(size=(100, 500)))  # the truth lies further out than it should
    narrow = uniformity(pd.DataFrame(rng.binomial(49, scores)), 49)["p_value"]
    assert (narrow < 0.01).mean() > 0.9
