"""Maximum likelihood: the truth is recovered, the optimum repeats, and what cannot be known is said to be unknown."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import villageflow as vf
from villageflow.calibrate.climb import covariance, maximise
from villageflow.calibrate.curves import compare_with_curves, curve_target, fit_curve
from villageflow.calibrate.fit import fit
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.load import load_fit
from villageflow.calibrate.national import national_problem
from villageflow.calibrate.predict import predict, score
from villageflow.calibrate.problem import Problem
from villageflow.errors import CalibrationError

MODEL = """{UTF-8}
level = INTEG(effort*skill*level*(1-level/ceiling), initial level) ~ thing ~|
effort = 1 ~ 1 ~|
skill = 0.6 ~ 1/Year ~|
ceiling = 900 ~ thing ~|
initial level = 5 ~ thing ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 20 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
TRUE = {"skill": 0.6, "ceiling": 900.0, "error": 0.08}
RANGES = {"skill": ("log", 0.1, 2.0), "ceiling": ("log", 100.0, 2e4), "error": ("log", 1e-3, 1.0)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "logistic.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def parameters(ranges=RANGES) -> pd.DataFrame:
    return pd.DataFrame([
        {"name": name, "scale": scale, "lower": low, "upper": high} for name, (scale, low, high) in ranges.items()
    ])


def measured(model, seed: int, times=range(1, 17)) -> pd.DataFrame:
    path = vf.simulate(model, save=["level"])["level"].sel(member=0)
    rng = np.random.default_rng(seed)
    values = [float(path.sel(time=time)) * np.exp(rng.normal(0, TRUE["error"])) for time in times]
    return pd.DataFrame({
        "entity": "v", "time": [float(time) for time in times], "observable": "stores", "value": values,
        "comparator": "=", "source_id": [f"s{time}" for time in times],
    })


def problem(model, seed: int = 1, ranges=RANGES, **changes) -> Problem:
    rows = measured(model, seed, range(1, 21))
    given = {
        "model": model, "parameters": parameters(ranges), "measurements": rows[rows["time"] <= 16],
        "holdout": rows[rows["time"] > 16],
        "observables": (Observable("stores", "level", "level", "lognormal", "error"),),
    }
    return Problem(**(given | changes))


@pytest.fixture(scope="module")
def fitted(model):
    given = problem(model)
    return given, fit(given, seed=7, n_draws=1000)


def test_the_truth_is_recovered(fitted):
    _, found = fitted
    assert found.converged and found.at_bound == () and found.near_best == 1.0
    for name in ("skill", "ceiling"):
        assert abs(found.params[name] - TRUE[name]) < 3 * found.std_errors[name]
        assert found.std_errors[name] < 0.1 * TRUE[name]
    assert (found.hessian_eigenvalues < 0).all()
    assert found.gradient_norm < 1e-6


def test_the_optimum_is_that_of_an_independent_optimiser(fitted):
    given, found = fitted
    rows = given.measurements

    def minus_loglik(x):
        values = np.exp(x)
        path = given.locations(values[None, :], rows)[0]
        return -stats.lognorm.logpdf(rows["value"], values[2], scale=path).sum()

    start = np.log(found.params.to_numpy()) + 0.02
    settings = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000}
    other = optimize.minimize(minus_loglik, start, method="Nelder-Mead", options=settings)
    np.testing.assert_allclose(np.exp(other.x), found.params, rtol=1e-6)
    assert -other.fun == pytest.approx(found.loglik, abs=1e-9)
    # the error parameter of a lognormal has a closed form at the optimum, and a closed standard error
    residual = np.log(rows["value"].to_numpy() / found.residuals["fitted"].to_numpy())
    assert found.params["error"] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-7)
    assert found.transformed.loc["error", "std_error"] == pytest.approx(np.sqrt(1 / (2 * len(rows))), rel=2e-3)


def test_two_runs_are_equal_and_another_seed_finds_the_same_optimum(model, fitted):
    given, found = fitted
    again = fit(problem(model), seed=7, n_draws=1000)
    assert again.to_dict() == found.to_dict()
    other = fit(given, seed=8, n_draws=10)
    np.testing.assert_allclose(other.params, found.params, rtol=1e-7)


def test_the_error_of_the_step_is_reported(fitted):
    given, found = fitted
    table = pd.DataFrame([found.params])
    half = dataclasses.replace(given, time_step=0.0625).log_likelihood(table)[0]
    assert found.inputs["loglik_change_at_half_step"] == half - found.loglik
    assert abs(half - found.loglik) > 1e-3  # Euler
    assert "\nWARNING euler, step 0.125: half the step changes" in found.summary()


def test_a_step_that_matters_is_a_warning(fitted, caplog):
    given, _ = fitted
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        exact = fit(dataclasses.replace(given, method="rk4"), seed=7, n_draws=10)
        assert not caplog.records
        fit(given, seed=7, n_draws=10)
    assert "half the step changes the log likelihood" in caplog.text
    assert abs(exact.inputs["loglik_change_at_half_step"]) < 1e-3
    assert "\nrk4, step 0.125: half the step" in exact.summary() and "WARNING" not in exact.summary()


def test_a_fit_shows_itself(fitted):
    _, found = fitted
    assert "logistic, 16 measurements, converged" in repr(found)
    assert f"skill = {found.params['skill']:.6g}" in repr(found) and len(repr(found).splitlines()) == 2
    assert "identifiability (noise parameters are left out): rank 2 of 2" in found.summary()


def test_standard_errors_follow_the_delta_method(fitted):
    _, found = fitted
    for name in found.params.index:  # all on the log scale: d x / d ln x = x
        scaled = found.transformed.loc[name, "std_error"]
        assert found.std_errors[name] == pytest.approx(found.params[name] * scaled, rel=1e-12)
        assert found.std_errors[name] == pytest.approx(np.sqrt(found.cov.loc[name, name]), rel=1e-12)


def test_a_parameter_at_its_bound_is_named_and_has_no_error(model):
    found = fit(problem(model, ranges=RANGES | {"ceiling": ("log", 100.0, 500.0)}), seed=1, n_draws=100)
    assert found.at_bound == ("ceiling",)
    assert found.params["ceiling"] == 500.0
    assert np.isnan(found.std_errors["ceiling"]) and np.isfinite(found.std_errors["skill"])
    assert "at a bound: ceiling" in found.summary()
    assert (found.draws(50, 1)[:, 1] == 500.0).all()


def test_a_product_that_only_enters_as_a_product_is_flagged(model):
    """Negative control: effort times skill cannot be told apart."""
    ranges = {"effort": ("log", 0.2, 5.0), "skill": ("log", 0.12, 3.0), "error": ("log", 1e-3, 1.0)}
    found = fit(problem(model, ranges=ranges), seed=1, n_draws=100)
    assert found.identifiability.rank == 1
    assert found.identifiability.practical_rank == 1
    assert found.identifiability.collinearity > 1e3
    assert "effort up with skill down" in found.identifiability.weakest or (
        "skill up with effort down" in found.identifiability.weakest
    )
    alike = {pair[:2] for pair in found.identifiability.alike}
    assert not found.converged or ("effort", "skill") in alike


def test_identifiable_parameters_are_not_flagged(fitted):
    _, found = fitted
    assert found.identifiability.rank == found.identifiability.practical_rank == 2
    assert found.identifiability.alike == ()


def test_a_fit_is_read_back_as_it_was_stored(tmp_path, fitted):
    given, found = fitted
    found.save(tmp_path / "fit.json")
    back = load_fit(tmp_path / "fit.json")
    assert back.to_dict() == found.to_dict()
    assert back.summary() == found.summary()
    pd.testing.assert_frame_equal(predict(given, back, given.holdout), predict(given, found, given.holdout))
    stored = json.loads((tmp_path / "fit.json").read_text())
    assert "Hessian" in stored["errors"]


def test_residuals_and_trajectory_agree_with_the_model(fitted):
    given, found = fitted
    best = {name: float(found.params[name]) for name in ("skill", "ceiling")}
    path = vf.simulate(given.model, best, save=["level"])
    expected = path["level"].sel(member=0, time=given.measurements["time"].to_numpy())
    np.testing.assert_array_equal(found.residuals["fitted"], expected)
    line = found.trajectory
    assert list(line["time"]) == list(range(1, 21))
    order = line[["q05", "fitted_q05", "fitted_q50", "fitted_q95", "q95"]].to_numpy()
    assert (np.diff(order, axis=1) > 0).all()


def test_bands_follow_from_the_standard_errors(fitted):
    given, found = fitted
    log_skill = np.log(found.draws(20_000, 3)[:, 0])
    assert log_skill.mean() == pytest.approx(np.log(found.params["skill"]), abs=3e-4)
    assert log_skill.std() == pytest.approx(found.transformed.loc["skill", "std_error"], rel=0.03)
    spread = predict(given, found, given.holdout, n_draws=4000)
    wide = np.log(spread["q95"] / spread["q05"]) / (2 * stats.norm.ppf(0.95))
    assert (wide > 0.95 * found.params["error"]).all() and (wide < 1.4 * found.params["error"]).all()


def test_scores_are_those_of_the_hold_out(fitted):
    given, found = fitted
    scores = score(given, found, given.holdout)
    observed, best = given.holdout["value"].to_numpy(), scores.table["fitted"].to_numpy()
    np.testing.assert_allclose(scores.table["error_percent"], 100 * (best / observed - 1))
    plug_in = stats.lognorm.logpdf(observed, found.params["error"], scale=best)
    np.testing.assert_allclose(scores.table["log_score"], plug_in, atol=0.6)
    assert scores.coverage == np.mean(scores.table["covered"])


def test_the_true_model_beats_the_wrong_curves_out_of_sample(model):
    """The data end before the bend is seen: only the curve that is the model itself can follow."""
    rows = measured(model, 4, range(1, 21))
    given = problem(model, measurements=rows[rows["time"] <= 11], holdout=rows[rows["time"] > 11])
    table = compare_with_curves(given, fit(given, seed=1, n_draws=1000), seed=1, n_draws=1000)
    assert list(table.index) == ["logistic", "logistic", "gompertz", "bass", "last change carried forward"]
    assert table["log_score"].iloc[0] > table.loc["gompertz", "log_score"] + 1
    error = table["mean_absolute_error_percent"]
    assert error.iloc[0] < error["last change carried forward"]
    assert np.isnan(table.loc["last change carried forward", "log_score"])


def test_the_logistic_benchmark_is_the_logistic_model(fitted):
    """Euler's step aside, the model is the curve: their fits must agree."""
    given, _ = fitted
    ranges = RANGES | {"initial level": ("log", 1.0, 20.0)}
    fine = dataclasses.replace(given, method="rk4", parameters=parameters(ranges))
    curve = fit_curve(curve_target(given, "logistic"), given.measurements, seed=1)
    exact = fit(fine, seed=1, n_draws=10)
    assert curve.loglik == pytest.approx(exact.loglik, abs=1e-4)
    assert curve.params["ceiling"] == pytest.approx(exact.params["ceiling"], rel=1e-4)


@pytest.mark.parametrize("curve", ["gompertz", "bass"])
def test_benchmark_curves_solve_their_equations(fitted, curve):
    given, _ = fitted
    target = curve_target(given, curve)
    values = np.array([[700.0, 0.02, 0.4, 0.1]])
    time = np.linspace(1.0, 20.0, 4001)
    path = target.locations(values, pd.DataFrame({"observable": "stores", "time": time}))[0]
    slope = np.gradient(path, time)[1:-1]
    ceiling, first, second = values[0, :3]
    if curve == "bass":
        expected = (first + second * path / ceiling) * (ceiling - path)
        assert path[0] == pytest.approx(ceiling * first, rel=0.3)
    else:
        expected = path * first * np.exp(-second * (time - 16.0))
        assert target.locations(values, pd.DataFrame({"observable": ["stores"], "time": [16.0]}))[0, 0] == ceiling
    np.testing.assert_allclose(slope, expected[1:-1], rtol=5e-4)


def test_the_optimiser_finds_a_known_maximum_from_every_start():
    centre, scale = np.array([0.3, 0.6, 0.5]), np.array([1e-3, 0.05, 0.2])

    def objective(points):
        bent = points - centre
        bent[:, 1] += 4 * (bent[:, 0]) ** 2
        return -0.5 * ((bent / scale) ** 2).sum(axis=1)

    found = maximise(objective, 3, starts=20, seed=1)
    np.testing.assert_allclose(found.unit, centre, atol=1e-8)
    assert found.converged and found.near_best == 1.0
    np.testing.assert_allclose(np.diag(found.hessian), -1 / scale**2, rtol=1e-3)


def test_local_optima_show_in_the_share_of_starts():
    def objective(points):
        return np.logaddexp(-200 * (points[:, 0] - 0.2) ** 2, 1 - 200 * (points[:, 0] - 0.8) ** 2)

    found = maximise(objective, 1, starts=40, seed=1)
    assert found.unit[0] == pytest.approx(0.8, abs=1e-6)
    assert 0.2 < found.near_best < 0.8


def test_a_direction_without_curvature_has_no_covariance():
    flat = np.array([1.0, 0.7, -0.2])
    hessian = np.outer(flat, flat) - np.eye(3) * float(flat @ flat)  # singular along flat, but for rounding
    for size in (0.0, 1e-17, -1e-17):
        assert np.isnan(covariance(hessian + size * np.eye(3), np.zeros(3, dtype=bool))).all()
    assert np.isfinite(covariance(hessian - 1e-9 * np.eye(3), np.zeros(3, dtype=bool))).all()


def quick(model):
    return fit(problem(model), seed=1, n_draws=10)


BAD = {
    "too few starts": (lambda m: fit(problem(m), seed=1, starts=5), "at least 20"),
    "data that no parameter can give": (
        lambda m: fit(problem(m, fixed={"initial level": 0}, observables=(
            Observable("stores", "level", "count", "poisson"), Observable("x", "level", "level", "normal", "error")),
            measurements=measured(m, 1).round(), holdout=measured(m, 1).iloc[:0]), seed=1), "zero at all 20 starts",
    ),
    "an unknown curve": (lambda m: curve_target(problem(m), "weibull"), "no benchmark curve 'weibull'"),
    "an unknown observable": (
        lambda m: predict(problem(m), quick(m), pd.DataFrame({"observable": ["x"], "time": [1.0]})),
        "'x' was fitted",
    ),
    "nothing to score": (
        lambda m: score(problem(m), quick(m), problem(m).holdout.iloc[:0]), "no measurement to score",
    ),
    "a bound to score": (
        lambda m: score(problem(m), quick(m), problem(m).holdout.assign(comparator=">=")), "a bound",
    ),
    "a file that is no fit": (lambda m: load_fit(__file__), "cannot be read as a fit"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_gives_one_clear_line(model, case):
    run, expected = BAD[case]
    with pytest.raises(CalibrationError, match=expected) as caught:
        run(model)
    assert "\n" not in str(caught.value)


def test_the_national_counts_are_fitted_and_predicted():
    given = national_problem()
    found = fit(given, seed=1, n_draws=1000)
    assert found.converged and found.near_best >= 0.5
    assert (found.residuals["standardised"].abs() < 3).all()
    scores = score(given, found, given.holdout)
    assert scores.mean_absolute_error < 15
    assert "correlated above 0.95" in found.summary()


@pytest.mark.statistical
def test_hessian_intervals_cover_where_their_assumptions_hold(model):
    """With 16 independent measurements 95 % intervals cover nearly as often as they say (binomial bound, 400 fits)."""
    covered, n = {"skill": 0, "ceiling": 0}, 400
    for seed in range(n):
        given = problem(model, seed=1000 + seed)
        found = fit(given, seed=1, n_draws=1)
        for name in covered:
            away = np.log(found.params[name] / TRUE[name]) / found.transformed.loc[name, "std_error"]
            covered[name] += bool(abs(away) < stats.t.ppf(0.975, 14))
    low, high = stats.binom.ppf([0.0005, 0.9995], n, 0.95) / n
    for name, hits in covered.items():
        assert low - 0.03 <= hits / n <= high, name
