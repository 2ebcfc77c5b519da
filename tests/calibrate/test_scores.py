"""Scores of forecasts: proper formulas, benchmarks by their definition, and nothing left out is seen by a fit."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats
from statsmodels.regression.linear_model import OLS

import villageflow as vf
from villageflow.calibrate.benchmarks import AR1_NOTE, Normals, ar1, naive
from villageflow.calibrate.forecast import forecast
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scores import crps, last_times_out, leave_entities_out
from villageflow.errors import CalibrationError

LINE = """{UTF-8}
level = INTEG(slope, start) ~ thing ~|
slope = 1 ~ thing/Year ~|
start = 2 ~ thing ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 9 ~ Year ~|
TIME STEP = 1 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
E, T = 6, 7
TIMES = np.arange(1.0, T + 1)
PARAMETERS = pd.DataFrame({"name": ["slope", "sigma"], "scale": ["lin", "log"], "lower": [-4, 0.05], "upper": [6, 8.0]})


def rows(values, times=TIMES):
    return pd.DataFrame({
        "entity": np.repeat([f"v{i}" for i in range(len(values))], len(times)), "time": np.tile(times, len(values)),
        "observable": "level", "value": values.ravel(), "comparator": "=", "source_id": "made",
    })


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "line.mdl"
    path.write_text(LINE)
    rng = np.random.default_rng(1)
    start = rng.normal(0, 3, (E, 1))
    brought = pd.DataFrame({
        "entity": [f"v{i}" for i in range(E)], "name": "start", "time": np.nan, "value": start[:, 0],
        "source_id": "made",
    })
    return Problem(
        model=vf.read_model(path), parameters=PARAMETERS, covariates=brought,
        observables=(Observable("level", "level", "level", "normal", "sigma"),),
        measurements=rows(start + TIMES + rng.normal(0, 0.5, (E, T))),
    )


def refit(problem):
    return vf.fit(problem, seed=1, cov_type="hessian", n_draws=10)


def with_values(problem, values):
    return replace(problem, measurements=rows(values), covariates=problem.covariates.iloc[:0])


@pytest.fixture(scope="module")
def by_time(problem):
    return last_times_out(problem, refit, last_fitted=5, seed=2, n_draws=400)


@pytest.fixture(scope="module")
def by_entity(problem):
    return leave_entities_out(problem, refit, folds=2, seed=2, n_draws=400)


def test_crps_is_its_definition():
    """Integral of the squared distance of distribution functions, and the double sum over draws."""
    rng = np.random.default_rng(1)
    drawn, values = rng.normal(size=(4, 9)), np.array([-2.0, 0.1, 0.7, 5.0])
    for sample, value, found in zip(drawn, values, crps(drawn, values), strict=True):
        double = np.abs(sample - value).mean() - 0.5 * np.abs(sample[:, None] - sample).mean()
        assert_allclose(found, double, rtol=1e-12)
        points = np.sort([*sample, value])
        steps = [(np.mean(sample <= x) - (value <= x)) ** 2 for x in points[:-1]]
        assert_allclose(found, np.diff(points) @ steps, rtol=1e-12)
    assert_allclose(crps(np.array([[3.0], [np.nan]]), np.array([1.0, 1.0])), [2.0, np.nan])
    assert_allclose(crps(np.array([[3.0, np.nan, np.inf]]), np.array([1.0])), [2.0])


def test_normal_forecasts_have_the_scores_of_the_closed_form():
    mean, sd, values = np.array([1.0, -2.0, 0.3]), np.array([0.5, 2.0, 0.2]), np.array([1.7, -2.0, 1.1])
    found = Normals(mean, sd, np.array([False, False, True]))
    exact = [*stats.norm.logpdf(values[:2], mean[:2], sd[:2]), stats.lognorm.logpdf(1.1, 0.2, scale=np.exp(0.3))]
    assert_allclose(found.log_scores(values), exact, rtol=1e-12)
    z = (values - mean) / sd  # Gneiting and Raftery 2007, equation 21
    normal = sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert_allclose(crps(found.observed, values)[:2], normal[:2], rtol=2e-3)

    def gap(x):
        return (stats.lognorm.cdf(x, 0.2, scale=np.exp(0.3)) - (x >= 1.1)) ** 2

    exact = integrate.quad(gap, 0, 1.1)[0] + integrate.quad(gap, 1.1, 30)[0]
    assert_allclose(crps(found.observed, values)[2], exact, rtol=2e-3)
    assert found.log_scores(np.array([0.0, 0.0, -1.0]))[2] == -np.inf


def test_naive_goes_on_from_the_last_value_and_takes_others_for_a_new_entity(problem):
    values = np.random.default_rng(3).lognormal(1, 0.4, (E, T))
    known = with_values(problem, values)
    asked = pd.DataFrame({"entity": ["v2", "new", "new"], "observable": "level", "time": [9.0, 4.0, 9.0]})
    found, logs = naive(known, asked), np.log(values)
    step = np.sqrt((np.diff(logs, axis=1) ** 2).mean())
    assert found.logged.all()
    assert_allclose(found.mean, [logs[2, -1], logs[:, 3].mean(), logs[:, -1].mean()])
    spread = [logs[:, at].std(ddof=1) * np.sqrt(1 + 1 / E) for at in (3, -1)]
    assert_allclose(found.sd, [step * np.sqrt(2), *spread])
    levels = values - 3
    found = naive(with_values(problem, levels), asked)
    assert not found.logged.any()
    assert_allclose(found.mean, [levels[2, -1], levels[:, 3].mean(), levels[:, -1].mean()])


def test_ar1_is_least_squares_with_entity_effects_and_its_recursion(problem):
    rng = np.random.default_rng(4)
    values, own = np.empty((E, T)), rng.normal(0, 1, E)
    values[:, 0] = rng.normal(0, 2, E)
    for t in range(1, T):
        values[:, t] = own + 0.6 * values[:, t - 1] + rng.normal(0, 0.3, E)
    table = rows(values)
    table = table[~((table["entity"] == "v1") & (table["time"] == 4))]  # a gap: two pairs are lost
    known = replace(problem, measurements=table, covariates=problem.covariates.iloc[:0])
    y = [(i, values[i, t], values[i, t - 1]) for i in range(E) for t in range(1, T) if not (i == 1 and t in (3, 4))]
    i, now, before = (np.array(column) for column in zip(*y, strict=True))
    other = OLS(now, np.column_stack([before, i[:, None] == np.arange(E)])).fit()
    rho, effects, variance = other.params[0], other.params[1:], other.scale
    asked = pd.DataFrame({"entity": ["v2", "v2", "new", "new"], "observable": "level", "time": [8.0, 9.0, 1.0, 3.0]})
    found = ar1(known, asked)
    one = effects[2] + rho * values[2, -1]
    assert_allclose(found.mean[:2], [one, effects[2] + rho * one])
    assert_allclose(found.sd[:2] ** 2, [variance, variance * (1 + rho**2)])
    begun = np.column_stack([effects, values[:, 0]])
    cov = np.cov(begun.T) * (1 + 1 / E)
    weights = np.array([1 + rho, rho**2])
    assert_allclose(found.mean[2:], [values[:, 0].mean(), weights @ begun.mean(axis=0)])
    assert_allclose(found.sd[2:] ** 2, [cov[1, 1], weights @ cov @ weights + variance * (1 + rho**2)])


def test_last_times_are_forecast_by_a_fit_of_the_earlier_ones(problem, by_time):
    table = problem.measurements
    early, late = table[table["time"] <= 5], table[table["time"] > 5].reset_index(drop=True)
    known = replace(problem, measurements=early)
    by_hand = forecast(known, refit(known), late, seed=2, n_draws=400)
    found = by_time.rows[by_time.rows["method"] == "model"].reset_index(drop=True)
    assert_array_equal(found[["entity", "time", "value"]], late[["entity", "time", "value"]])
    assert_array_equal(found["point"], np.quantile(by_hand.observed, 0.5, axis=1))
    assert_array_equal(found["log_score"], by_hand.log_scores(late["value"].to_numpy()))
    inside = (by_hand.quantiles()["q05"] <= late["value"]) & (late["value"] <= by_hand.quantiles()["q95"])
    assert by_time.table.loc[("level", "model"), "coverage"] == inside.mean()
    # scaled by the mean absolute step of the entity's own earlier series
    steps = early.pivot(index="entity", columns="time", values="value").diff(axis=1).abs().mean(axis=1)
    error = (found["value"] - found["point"]).abs() / steps[found["entity"]].to_numpy()
    assert_allclose(by_time.table.loc[("level", "model"), "mase"], error.mean())
    expected = {"measurements": 2 * E, "entities": E}
    assert by_time.table.loc[("level", "ar1"), list(expected)].to_dict() == expected
    assert by_time.notes == (AR1_NOTE,)


def test_entities_left_out_are_not_seen(problem, by_entity):
    """Moving the values of an entity moves its scores and the forecasts of others, not its own."""
    moved = problem.measurements.copy()
    moved.loc[moved["entity"] == "v3", "value"] += 2.0
    again = leave_entities_out(replace(problem, measurements=moved), refit, folds=2, seed=2, n_draws=400)
    for method in ("model", "naive", "ar1"):
        before, after = (item.rows[item.rows["method"] == method].set_index("entity") for item in (by_entity, again))
        assert_array_equal(after.loc["v3", ["point", "lower", "upper"]], before.loc["v3", ["point", "lower", "upper"]])
        assert (after.loc["v3", "crps"] != before.loc["v3", "crps"]).all()
        other = next(e for e, fold in before["fold"].items() if fold != before.loc["v3", "fold"].iloc[0])
        assert (after.loc[other, "point"] != before.loc[other, "point"]).all()
    folds = by_entity.rows.groupby("fold")["entity"].unique()
    assert sorted(np.concatenate(folds.to_list())) == [f"v{i}" for i in range(E)] and list(map(len, folds)) == [3, 3]
    # a new entity has no series in the fit: errors are scaled by the steps of those that were fitted
    row = by_entity.rows.iloc[0]
    fitted = problem.measurements[~problem.measurements["entity"].isin(folds.loc[row["fold"]])]
    steps = fitted.pivot(index="entity", columns="time", values="value").diff(axis=1).abs().stack().mean()
    assert_allclose(row["scaled_error"], abs(row["value"] - row["point"]) / steps)


def test_the_right_model_beats_the_benchmarks_and_the_difference_has_a_clustered_error(by_time):
    for benchmark in ("naive", "ar1"):
        row = by_time.differences.loc[("level", benchmark)]
        assert row["crps"] < -2 * row["crps_se"] and row["log_score"] > 2 * row["log_score_se"] and row["mase"] < 0
        wide = by_time.rows.pivot(index=["entity", "time"], columns="method", values="crps")
        away = wide["model"] - wide[benchmark]
        codes = pd.factorize(away.index.get_level_values("entity"))[0]
        other = OLS(away.to_numpy(), np.ones(len(away))).fit(cov_type="cluster", cov_kwds={"groups": codes})
        assert_allclose(row[["crps", "crps_se"]].astype(float), [other.params[0], other.bse[0]], rtol=1e-9)
    said = by_time.summary()
    assert "times after 5 left out" in said and "clustered by entity" in said and AR1_NOTE in said


def test_bounds_and_what_a_benchmark_cannot_predict_are_said(problem):
    table = problem.measurements
    bounded = table.copy()
    bounded.loc[(table["entity"] == "v0") & (table["time"] == 7), "comparator"] = ">="
    first = replace(problem, measurements=bounded[bounded["time"].isin([1, 7])])
    found = last_times_out(first, refit, last_fitted=5, seed=1, n_draws=50)
    assert len(found.rows) == 3 * (E - 1)
    assert any("1 measurements are bounds and are not scored" in note for note in found.notes)
    assert any(note.startswith("ar1 cannot predict in fold 1: observable 'level' has too few") for note in found.notes)
    means = found.table.loc["level", "crps"]
    assert np.isnan(means["ar1"]) and np.isfinite(means["model"])
    assert np.isnan(found.differences.loc[("level", "ar1"), "crps"])


def test_entities_that_come_later_and_the_holdout_are_forecast(problem):
    table = problem.measurements
    held = table["time"] == 7
    late = table[(table["entity"] != "v5") | (table["time"] > 5)]
    split = replace(problem, measurements=late[late["time"] < 7], holdout=table[held])
    found = last_times_out(split, refit, last_fitted=5, seed=1, n_draws=50)
    own = found.rows[found.rows["method"] == "model"]
    assert len(own) == 2 * E and own["log_score"].notna().all()
    start = problem.covariates.set_index("entity").loc["v5", "value"]
    assert abs(own.loc[own["entity"] == "v5", "point"].iloc[0] - (start + 6)) < 1  # by its covariate, as a new one


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda problem: leave_entities_out(problem, refit, folds=1, seed=1), "folds is 1; it must be a whole number"),
        (lambda problem: leave_entities_out(problem, refit, folds=7, seed=1), "folds is 7; it must be 2 to 6"),
        (lambda problem: last_times_out(problem, refit, last_fitted=7, seed=1), "nothing is measured after"),
        (lambda problem: last_times_out(problem, refit, last_fitted=0, seed=1), "nothing is measured up to"),
        (lambda problem: leave_entities_out(problem, lambda item: vf.fit(item, seed=1, starts=3), seed=1),
         "fold 1 of the scores: starts is 3"),
        *((lambda problem, folds=folds: leave_entities_out(problem, refit, folds=folds, seed=1),
           f"folds is {folds!r}; it must be a whole number") for folds in (2.5, "a", None, True)),
        *((lambda problem, n=n: leave_entities_out(problem, refit, n_draws=n, seed=1),
           f"n_draws is {n!r}; it must be a whole number of at least 1") for n in (0, 1.5, "a", None)),
        *((lambda problem, seed=seed: leave_entities_out(problem, refit, seed=seed),
           f"seed is {seed!r}; it must be a whole number from 0 on") for seed in (-1, "a", None, 1.5, True)),
        *((lambda problem, time=time: last_times_out(problem, refit, last_fitted=time, seed=1),
           f"last_fitted is {time!r}; it must be a time") for time in ("a", None, np.nan, True, [5])),
        (lambda problem: last_times_out(problem, refit, last_fitted=5, seed=None), "seed is None; it must be"),
        (lambda problem: leave_entities_out("line.toml", refit, seed=1), "the problem is 'line.toml', a str; give a"),
        (lambda problem: last_times_out(None, refit, last_fitted=5, seed=1), "the problem is None, a NoneType; give a"),
        (lambda problem: leave_entities_out(problem, None, seed=1), "refit is None; give a callable, such as"),
        (lambda problem: leave_entities_out(problem, lambda item: None, seed=1),
         "fold 1 of the scores: the result is a NoneType; give a FitResult, RandomEffectsResult or FixedEffectsResult"),
        (lambda problem: leave_entities_out(problem, refit, seed=1, benchmarks=[naive]), "benchmarks is a list; give"),
        (lambda problem: leave_entities_out(problem, refit, seed=1, benchmarks={"naive": 1}),
         "the benchmark 'naive' is 1, which cannot be called; give a mapping"),
        (lambda problem: leave_entities_out(problem, refit, seed=1, benchmarks={"model": naive}),
         "a benchmark has the name 'model'; give it a text other than"),
        (lambda problem: leave_entities_out(problem, refit, seed=1, n_draws=5, benchmarks={"flat": lambda *_: None}),
         "the benchmark 'flat' gives a NoneType; it must give an object with observed"),
    ],
)
def test_a_faulty_call_is_refused_with_its_remedy(problem, call, message):
    with pytest.raises(CalibrationError, match=re.escape(message)) as said:
        call(problem)
    assert "\n" not in str(said.value)


def test_a_model_may_be_scored_alone(problem):
    found = last_times_out(problem, refit, last_fitted=5, seed=1, n_draws=20, benchmarks={})
    assert list(found.table.index) == [("level", "model")] and not len(found.differences)
    assert "level" in found.summary() and found.notes == ()


def test_a_benchmark_scores_no_missing_value():
    with pytest.raises(CalibrationError, match="the measured value of row 1 is nan; leave out rows"):
        Normals(np.zeros(2), np.ones(2), np.array([True, True])).log_scores([1.0, np.nan])
