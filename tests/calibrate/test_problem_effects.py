"""A declared problem whose parameters differ between entities is fitted as random and as fixed effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate.fit import fit
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem

MODEL = """{UTF-8}
level = INTEG(growth rate*level*(1-level), initial level) ~ thing ~|
growth rate = 0.6 ~ 1/Year ~|
initial level = 0.08 ~ thing ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 10 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
N, SPREAD, NOISE = 12, 0.3, 0.05


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "logistic.mdl"
    path.write_text(MODEL)
    model = vf.read_model(path)
    rng = np.random.default_rng(11)
    growth = 0.6 * np.exp(SPREAD * rng.normal(size=N))
    times = np.arange(1.0, 11.0)
    runs = vf.simulate(model, {"growth rate": growth}, save=["level"], method="rk4")
    paths = runs["level"].sel(time=times).to_numpy()
    values = paths * np.exp(NOISE * rng.normal(size=paths.shape))
    table = pd.DataFrame({
        "entity": np.repeat([f"v{i}" for i in range(N)], len(times)), "time": np.tile(times, N), "observable": "level",
        "value": values.ravel(), "comparator": "=", "source_id": "made",
    })
    parameters = pd.DataFrame({
        "name": ["growth rate", "initial level", "spread"], "scale": ["log"] * 3, "lower": [0.2, 0.01, 0.01],
        "upper": [2.0, 0.5, 1.0], "effect": ["random", "shared", "shared"],
    })
    observed = Observable("level", "level", "level", "lognormal", "spread", "thing")
    problem = Problem(
        model=model, parameters=parameters, observables=(observed,), measurements=table, method="rk4"
    )
    return problem, growth


def test_random_effects_of_a_problem_recover_location_spread_and_entities(made):
    problem, growth = made
    result = vf.fit_random_effects(problem, ["growth_rate"], seed=1)
    assert abs(result.params["growth_rate"] - 0.6) < 4 * result.std_errors["growth_rate"]
    assert abs(result.params["sd(growth_rate)"] - SPREAD) < 4 * result.std_errors["sd(growth_rate)"]
    assert abs(result.params["spread"] - NOISE) < 4 * result.std_errors["spread"]
    fixed = vf.fit_fixed_effects(problem, ["growth_rate"], seed=1)
    assert abs(fixed.params["initial_level"] - result.params["initial_level"]) < 0.01
    pooled = problem.parameters.assign(effect="shared")
    shared = fit(
        Problem(
            model=problem.model, parameters=pooled, observables=problem.observables,
            measurements=problem.measurements, method="rk4",
        ), seed=1, n_draws=10,
    )  # fmt: skip
    assert result.loglik > shared.loglik + 50  # one growth rate for all does not fit
    own = result.modes["value"].to_numpy(dtype=float)
    assert np.corrcoef(np.log(growth), np.log(own))[0, 1] > 0.98
