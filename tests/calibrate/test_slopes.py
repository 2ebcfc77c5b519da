"""Derivatives of the log likelihood equal differences of it, whatever the noise, the kind and the comparator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate import fit as fitting
from villageflow.calibrate.climb import maximise
from villageflow.calibrate.fit import entity_scores, fit
from villageflow.calibrate.lanes import Lanes
from villageflow.calibrate.likelihood import NOISE, Observable, log_likelihood
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.slopes import slopes_of
from villageflow.errors import CalibrationError

MODEL = """{UTF-8}
stores = INTEG(entry - closures, first stores) ~ store ~|
entry = imitation*stores*MAX(0, 1-share) ~ store/Year ~|
closures = IF THEN ELSE(Time < reform, hazard, 2*hazard)*stores ~ store/Year ~|
share = stores/ceiling ~ 1 ~|
imitation = 0.9 ~ 1/Year ~|
hazard = 0.1 ~ 1/Year ~|
reform = 5.03 ~ Year ~|
ceiling = 400 ~ store ~|
first stores = 5 ~ store ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 10 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
RANGES = {"imitation": ("log", 0.3, 2.0), "hazard": ("lin", 0.01, 0.5), "first stores": ("log", 1.0, 20.0)}
TIMES = np.arange(1.0, 11.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "stores.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def parameters(**more) -> pd.DataFrame:
    ranges = RANGES | more
    return pd.DataFrame([
        {"name": name, "scale": scale, "lower": low, "upper": high} for name, (scale, low, high) in ranges.items()
    ])


def problem(model, noise="lognormal", kind="level", centred=False, n=3, seed=0, **changes) -> Problem:
    """Values of n villages near the path of the model, every fifth only a bound."""
    unit, count = NOISE[noise].support == "unit", NOISE[noise].support == "count"
    path = vf.simulate(model, method="rk4")["share" if unit else "stores"].sel(member=0)
    size = {"beta": 30.0, "negbinomial": 5.0, "normal": 8.0, "student": 8.0}.get(noise, 0.2)
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        for k, time in enumerate(TIMES):
            at = float(path.sel(time=time))
            moved = at - float(path.sel(time=time - 1)) if kind == "net_flow" else at
            drawn = float(NOISE[noise].draw(rng, np.array([moved]), np.array([size]))[0])
            comparator = "=" if centred or k % 5 else (">=", "<=")[i % 2]
            value = np.clip(drawn, 1e-3, 0.999) if unit else round(drawn) if count else drawn
            row = {"entity": f"v{i}", "time": time, "observable": "y", "value": value, "comparator": comparator}
            rows.append(row | {"source_id": f"s{i}-{k}"} | ({"from_time": time - 1} if kind == "net_flow" else {}))
    own = None if noise == "poisson" else "size"
    more = {} if own is None else {"size": ("log", size / 10, size * 10)}
    given = {
        "model": model, "parameters": parameters(**more), "measurements": pd.DataFrame(rows), "method": "rk4",
        "observables": (Observable("y", "share" if unit else "stores", kind, noise, own, "", centred),),
    }
    return Problem(**(given | changes))


def differences(given: Problem, unit: np.ndarray) -> np.ndarray:
    def value(points):
        return log_likelihood(given, given.box.natural(points), given.measurements)

    step, axes = 1e-3, np.eye(given.box.size)
    near, far = (np.stack([value(unit + k * step * e) - value(unit - k * step * e) for e in axes], 1) for k in (1, 2))
    return (8 * near - far) / (12 * step)


CASES = [(noise, "share" if NOISE[noise].support == "unit" else "level", False) for noise in sorted(NOISE)]
CASES += [("normal", "net_flow", False), ("normal", "level", True), ("lognormal", "level", True)]


@pytest.mark.parametrize(("noise", "kind", "centred"), CASES)
def test_scores_are_the_derivatives_of_the_log_likelihood(model, noise, kind, centred):
    given = problem(model, noise, kind, centred)
    unit = np.random.default_rng(1).uniform(0.4, 0.6, (3, given.box.size))
    natural = given.box.natural(unit)
    found = slopes_of(given, natural, given.measurements)
    np.testing.assert_array_equal(
        found.terms.sum(axis=1), log_likelihood(given, natural, given.measurements)
    )
    factor = np.array([given.box.slope(row) for row in natural]) * given.box.width
    expected = differences(given, unit)
    assert np.abs(expected).min() > 0
    scores = found.scores.sum(axis=1) * factor
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())


def test_curvature_is_the_information_where_residuals_vanish(model):
    """At data without error the Hessian is J' J / s^2, which is what first derivatives give."""
    given = problem(model, "normal", n=1)
    natural = given.box.natural(np.full((1, given.box.size), 0.5))
    exact = given.locations(natural, given.measurements)[0]
    given = dataclasses.replace(given, measurements=given.measurements.assign(value=exact, comparator="="))
    found = slopes_of(given, natural, given.measurements)
    moves, size = given.location_slopes(natural, given.measurements)[1][0, :, :3], natural[0, 3]
    curvature = found.curvature(lambda terms: terms.sum(axis=1))
    np.testing.assert_allclose(curvature[0, :3, :3], -moves.T @ moves / size**2, rtol=1e-7)
    assert curvature[0, 3, 3] == pytest.approx(len(exact) / size**2, rel=1e-6)  # d2 of -ln s at no residual


def test_a_fit_with_derivatives_is_the_fit_without_in_fewer_runs(model, monkeypatch):
    given, runs = problem(model, n=4), []
    original = Lanes.paths

    def counted(self, values, last):
        runs.append(values.shape[0])
        return original(self, values, last)

    monkeypatch.setattr(Lanes, "paths", counted)
    exact = fit(given, seed=1, n_draws=10, cov_type="hessian")
    with_slopes = sum(runs)
    runs.clear()
    monkeypatch.setattr(fitting, "_slopes", lambda target, rows: None)
    plain = fit(given, seed=1, n_draws=10, cov_type="hessian")
    assert exact.converged and plain.converged
    np.testing.assert_allclose(exact.params, plain.params, rtol=1e-6)
    np.testing.assert_allclose(exact.std_errors, plain.std_errors, rtol=1e-3)
    assert exact.loglik >= plain.loglik - 1e-9
    assert with_slopes < sum(runs)


def test_clustered_scores_are_exact(model):
    given = problem(model, n=4)
    natural = given.box.natural(np.full(given.box.size, 0.45))
    unit = given.box.unit(natural)[None, :]
    np.testing.assert_allclose(entity_scores(given, natural).sum(axis=0), differences(given, unit)[0], rtol=1e-7)


def test_a_parameter_that_moves_an_event_is_polished_by_differences(model):
    smooth = problem(model)
    assert smooth.fixed_steps and smooth.smooth
    moved = problem(model, parameters=parameters(size=("log", 0.02, 2.0), reform=("lin", 4.0, 6.0)))
    assert moved.fixed_steps and not moved.smooth


def test_given_starts_are_used_and_progress_is_told(model):
    given, told = problem(model, n=5), []
    best = fit(given, seed=1, n_draws=10, progress=lambda *what: told.append(what))
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1)) and told[-1][1] == 0
    assert told[-1][2] == pytest.approx(best.loglik, abs=1e-2)
    more = fit(given, seed=1, n_draws=10, given=best.params.to_frame().T)
    assert len(more.starts) == len(best.starts) + 1 and more.starts[0] == pytest.approx(best.loglik, abs=1e-9)


def test_a_given_start_can_find_what_no_other_start_finds():
    def objective(points):  # a peak one start in ten thousand would see, and a broad hill
        return np.logaddexp(5 - ((points - 0.9) ** 2).sum(axis=1) / 2e-6, -((points - 0.3) ** 2).sum(axis=1))

    lost = maximise(objective, 2, starts=20, seed=1)
    found = maximise(objective, 2, starts=20, seed=1, given=np.array([[0.9, 0.9]]))
    assert lost.value < 1 and found.value > 5 and found.near_best < 0.1


@pytest.mark.parametrize(("table", "expected"), [
    ({"imitation": [0.9], "hazard": [0.1], "first_stores": [5.0]}, "no column for the free parameter 'size'"),
    ({"imitation": [0.9], "hazard": [0.1], "first_stores": [50.0], "size": [0.2]}, "first_stores = 50; it must"),
    ({"imitation": [0.9], "hazard": [0.1], "first_stores": [5.0], "size": [0.2], "x": [1]}, "no free parameter: 'x'"),
])
def test_given_starts_that_do_not_fit_are_named(model, table, expected):
    with pytest.raises(CalibrationError, match=expected):
        fit(problem(model), seed=1, given=pd.DataFrame(table))
