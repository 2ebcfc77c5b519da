"""Fixed effects: concentrating out is the joint maximum, and its errors are those of the within estimator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize

from villageflow.calibrate import fixedeffects
from villageflow.calibrate.climb import maximise
from villageflow.calibrate.fixedeffects import BIAS_NOTE, fit_fixed_effects
from villageflow.calibrate.scales import Box
from villageflow.errors import CalibrationError


class Normal:
    """Normal errors around a path, for each entity."""

    def __init__(self, box, path, y, keep=None) -> None:
        self.box, self.path, self.y = Box.of(box), path, y
        self.keep = np.arange(len(y)) if keep is None else keep
        self.entities = tuple(f"v{i}" for i in self.keep)

    def entity_log_likelihood(self, values):
        error = values[..., -1:]
        deviation = (self.y[self.keep] - self.path(values[..., :-1], self.keep)) / error
        return np.sum(-0.5 * deviation**2 - np.log(error) - 0.5 * np.log(2 * np.pi), axis=-1)


def panel(n_entities=12, n_times=5, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_entities, n_times)) + rng.normal(size=(n_entities, 1))
    y = x.mean(axis=1, keepdims=True) + 0.7 * x + rng.normal(0, 0.5, size=x.shape)
    box = {"level": ("lin", -8, 8), "effect": ("lin", -4, 4), "error": ("log", 0.01, 5)}
    return box, x, y, lambda values, keep: values[..., :1] + values[..., 1:2] * x[keep]


def test_an_additive_effect_gives_the_within_estimator_with_its_errors():
    box, x, y, path = panel()
    found = fit_fixed_effects(Normal(box, path, y), ["level"], seed=1)
    assert found.converged and found.near_best == 1 and found.at_bound == () and not found.effects["at_bound"].any()
    dx, dy = (value - value.mean(axis=1, keepdims=True) for value in (x, y))
    slope = (dx * dy).sum() / (dx**2).sum()
    residual = dy - slope * dx
    error = np.sqrt(np.mean(residual**2))
    assert_allclose(found.params["effect"], slope, rtol=1e-9)
    assert_allclose(found.params["error"], error, rtol=1e-7)  # without a correction for what the levels used up
    assert_allclose(found.effects["value"], y.mean(axis=1) - slope * x.mean(axis=1), rtol=0, atol=1e-7)
    assert_allclose(found.std_errors["effect"], error / np.sqrt((dx**2).sum()), rtol=1e-5)
    scores = (dx * residual).sum(axis=1)
    clustered = np.sqrt((scores**2).sum() * len(y) / (len(y) - 1)) / (dx**2).sum()
    assert_allclose(found.clustered_errors["effect"], clustered, rtol=1e-5)
    own = np.sqrt(error**2 / y.shape[1] + x.mean(axis=1) ** 2 * found.std_errors["effect"] ** 2)
    assert_allclose(found.effects["std_error"], own, rtol=1e-5)
    assert BIAS_NOTE in found.summary() and "t(11)" in found.summary()


@pytest.fixture(scope="module")
def growth():
    rng = np.random.default_rng(3)
    time = np.arange(1.0, 11.0)
    own = 500 * np.exp(rng.normal(0, 0.6, size=(8, 1)))
    box = {
        "ceiling": ("log", 20, 1e4), "midpoint": ("lin", 0, 12), "rate": ("log", 0.1, 3), "error": ("log", 0.1, 500),
    }

    def path(values, keep):
        del keep
        return values[..., :1] / (1 + np.exp(-values[..., 2:3] * (time - values[..., 1:2])))

    y = path(np.hstack([own, np.full((8, 1), 5.0), np.full((8, 1), 0.8)]), None) + rng.normal(0, 15, size=(8, 10))
    return Normal(box, path, y)


@pytest.mark.parametrize("fixed", [["ceiling"], ["ceiling", "midpoint"]])
def test_the_end_is_the_joint_maximum_of_all_parameters(growth, fixed):
    found = fit_fixed_effects(growth, fixed, seed=1)
    names, n = list(growth.box.names), len(growth.entities)
    own = found.effects.pivot(index="entity", columns="parameter", values="value").loc[list(growth.entities)]
    shared = [name for name in names if name not in fixed and name != "error"]

    def residuals(point):
        values = np.empty((1, n, 3))
        for j, name in enumerate(shared):
            values[0, :, names.index(name)] = point[j]
        for j, name in enumerate(fixed):
            values[0, :, names.index(name)] = point[len(shared) + j * n:len(shared) + (j + 1) * n]
        return (growth.y - growth.path(values, None)[0]).ravel()

    start = np.concatenate([found.params[shared], *[own[name] for name in fixed]])
    other = optimize.least_squares(
        residuals, 1.03 * start, method="lm", x_scale=np.abs(start), xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    assert found.converged and found.near_best >= 0.5
    assert_allclose(found.params[shared], other.x[:len(shared)], rtol=1e-6)
    assert_allclose(np.concatenate([own[name] for name in fixed]), other.x[len(shared):], rtol=1e-6)
    sigma = np.sqrt(2 * other.cost / growth.y.size)
    assert_allclose(found.params["error"], sigma, rtol=1e-7)
    information = other.jac.T @ other.jac / sigma**2  # Gauss-Newton: close to, not equal to the observed information
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    assert_allclose(found.std_errors[shared], errors[:len(shared)], rtol=0.1)
    stated = np.concatenate([
        found.effects.loc[found.effects["parameter"] == name, "std_error"].to_numpy() for name in fixed
    ])
    assert_allclose(stated, errors[len(shared):], rtol=0.2)


def test_the_joint_polish_ends_at_the_maximum_wherever_the_search_stopped(growth, monkeypatch):
    exact = fit_fixed_effects(growth, ["ceiling"], seed=1)

    def stops_early(*args, **settings):
        found = maximise(*args, **settings)
        return dataclasses.replace(found, unit=found.unit + np.array([2e-3, -3e-3, 1e-3]))

    monkeypatch.setattr(fixedeffects, "maximise", stops_early)
    monkeypatch.setattr(fixedeffects, "_POLISH", 4)  # enough for Newton's method with the right derivatives
    found = fit_fixed_effects(growth, ["ceiling"], seed=1)
    assert found.converged
    assert_allclose(found.params, exact.params, rtol=1e-8)
    assert_allclose(found.effects["value"], exact.effects["value"], rtol=1e-7)
    assert_allclose(found.loglik, exact.loglik, rtol=0, atol=1e-8)


def test_the_order_of_the_entities_does_not_matter(growth):
    order = np.random.default_rng(1).permutation(8)
    first = fit_fixed_effects(growth, ["ceiling"], seed=2)
    again = fit_fixed_effects(growth, ["ceiling"], seed=2)
    shuffled = Normal(
        {name: row for name, *row in zip(growth.box.names, growth.box.scales, growth.box.lower, growth.box.upper)},
        growth.path, growth.y, keep=order,
    )
    other = fit_fixed_effects(shuffled, ["ceiling"], seed=2)
    assert_array_equal(first.params, again.params)
    assert_allclose(first.params, other.params, rtol=1e-10)
    assert_allclose(first.effects["value"].to_numpy()[order], other.effects["value"], rtol=1e-8)


def test_an_effect_beyond_its_bounds_is_held_and_said_so():
    box, x, y, path = panel()
    box["level"] = ("lin", -8, 0.5)
    found = fit_fixed_effects(Normal(box, path, y), ["level"], seed=1)
    held = found.effects["at_bound"].to_numpy()
    assert held.any() and not held.all()
    assert_array_equal(found.effects["value"][held], 0.5)
    assert np.isnan(found.effects["std_error"][held]).all() and np.isfinite(found.effects["std_error"][~held]).all()

    def minus(point):
        level = np.minimum((y - point * x).mean(axis=1, keepdims=True), 0.5)
        return ((y - level - point * x) ** 2).sum()

    other = optimize.minimize_scalar(minus, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert_allclose(found.params["effect"], other.x, rtol=1e-6)
    assert f"effects at a bound: {held.sum()}" in found.summary()


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (["levl"], "fixed effect 'levl' is not a free parameter. Did you mean 'level'"),
        ([], "name one to 3"),
        (["level", "level"], "each once"),
        (["level", "effect", "error"], "leave at least one shared"),
    ],
)
def test_a_faulty_choice_is_refused(fixed, message):
    box, _, y, path = panel()
    with pytest.raises(CalibrationError, match=message):
        fit_fixed_effects(Normal(box, path, y), fixed, seed=1)
