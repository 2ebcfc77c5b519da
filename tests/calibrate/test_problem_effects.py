"""A declared problem whose parameters differ between entities is fitted as random and as fixed effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate import randomeffects
from villageflow.calibrate.effectslopes import marginal_slopes
from villageflow.calibrate.fit import fit
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.marginal import RandomEffect, marginal_log_likelihood, random_model
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


@pytest.mark.parametrize(("random", "correlated"), [
    ([RandomEffect("growth_rate", ("x",))], False),
    ([RandomEffect("growth_rate"), "initial_level"], True),
])
def test_slopes_of_the_marginal_likelihood_are_its_derivatives(made, random, correlated):
    problem, _ = made
    x = pd.DataFrame({"x": np.random.default_rng(2).normal(size=N)}, index=list(problem.entities))
    model = random_model(problem, random, correlated=correlated, covariates=x)
    unit = np.random.default_rng(3).uniform(0.45, 0.6, (2, model.box.size))
    scores, hessians = marginal_slopes(model, model.box.natural(unit), nodes=15)

    def value(points):
        return marginal_log_likelihood(model, model.box.natural(points), nodes=15)

    width, step, axes = model.box.width, 5e-4, np.eye(model.box.size)
    near, far = (np.stack([value(unit + k * step * e) - value(unit - k * step * e) for e in axes], 1) for k in (1, 2))
    expected = (8 * near - far) / (12 * step)
    found = scores.sum(axis=1) * width
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    assert (np.linalg.eigvalsh(hessians * np.outer(width, width)) < 0).any(axis=1).all()


def test_the_curvature_is_the_hessian_where_the_model_is_linear(tmp_path):
    """y = level + effect + error: no trajectory bends, so that first derivatives give the second ones."""
    text = MODEL.replace("growth rate*level*(1-level)", "0*growth rate")
    (tmp_path / "still.mdl").write_text(text)
    rng, names = np.random.default_rng(4), [f"v{i}" for i in range(N)]
    table = pd.DataFrame({
        "entity": np.repeat(names, 3), "time": np.tile([1.0, 2.0, 3.0], N), "observable": "level",
        "value": np.repeat(rng.normal(1.0, 0.5, N), 3) + rng.normal(0, 0.3, 3 * N), "comparator": "=", "source_id": "m",
    })
    parameters = pd.DataFrame({
        "name": ["initial level", "spread"], "scale": ["lin", "log"], "lower": [-3.0, 0.05], "upper": [5.0, 2.0],
        "effect": ["random", "shared"],
    })
    problem = Problem(
        model=vf.read_model(tmp_path / "still.mdl"), parameters=parameters, measurements=table,
        observables=(Observable("level", "level", "level", "normal", "spread", "thing"),),
    )  # fmt: skip
    model = random_model(problem, ["initial_level"])
    theta = np.array([[1.1, 0.25, 0.4]])
    _, hessians = marginal_slopes(model, theta, nodes=9)
    level, spread, deviation = theta[0]
    # location: -sum of 1 / (sd^2 + s^2 / T); the mean over an entity's T values is normal around it
    assert hessians[0, 0, 0] == pytest.approx(-N / (deviation**2 + spread**2 / 3), rel=1e-8)
    gap = table.groupby("entity")["value"].mean() - level
    across = float((2 * deviation * gap).sum() / (deviation**2 + spread**2 / 3) ** 2)
    assert hessians[0, 0, 2] == pytest.approx(-across * deviation, rel=1e-6)


def test_a_search_with_slopes_ends_where_one_without_does(made, monkeypatch):
    problem, _ = made
    guided = vf.fit_random_effects(problem, ["growth_rate"], seed=1)
    monkeypatch.setattr(randomeffects, "_FEWEST_NODES", 99)
    plain = vf.fit_random_effects(problem, ["growth_rate"], seed=1)
    assert guided.converged and guided.near_best == 1.0
    np.testing.assert_allclose(guided.params, plain.params, rtol=1e-6)
    assert guided.loglik == pytest.approx(plain.loglik, abs=1e-8)
