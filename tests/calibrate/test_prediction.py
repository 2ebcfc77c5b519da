"""Predictive draws of panels are those of the closed form in linear models with normal errors."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM

import villageflow as vf
from villageflow.calibrate import drawn as drawing
from villageflow.calibrate.drawn import entity_values
from villageflow.calibrate.filtered import ProcessNoiseResult
from villageflow.calibrate.forecast import forecast
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.marginal import entity_marginals
from villageflow.calibrate.predict import predict
from villageflow.calibrate.problem import Problem
from villageflow.errors import CalibrationError

LINE = """{UTF-8}
level = INTEG(slope + push, start + shift) ~ thing ~|
slope = 1 ~ thing/Year ~|
start = 2 ~ thing ~|
shift = 0 ~ thing ~|
push = 0*Time ~ thing/Year ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 14 ~ Year ~|
TIME STEP = 1 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
E, T, SD, NOISE = 10, 8, 1.0, 0.6
TIMES = np.arange(1.0, T + 1)
OBSERVED = Observable("level", "level", "level", "normal", "sigma", "thing")
PARAMETERS = pd.DataFrame({
    "name": ["start", "slope", "sigma"], "scale": ["lin", "lin", "log"], "lower": [-6, -4, 0.05], "upper": [10, 6, 8.0],
})
N = 2000
MEAN_OFF, SD_OFF = 4 / np.sqrt(N), 4 / np.sqrt(2 * N)  # four Monte Carlo errors, per standard deviation


def table_of(values, times=TIMES, observable="level"):
    return pd.DataFrame({
        "entity": np.repeat([f"v{i}" for i in range(len(values))], len(times)), "time": np.tile(times, len(values)),
        "observable": observable, "value": values.ravel(), "comparator": "=", "source_id": "made",
    })


def made_values(seed=1):
    rng = np.random.default_rng(seed)
    return 2 + rng.normal(0, SD, (E, 1)) + TIMES + rng.normal(0, NOISE, (E, T))


def rows_of(entities, times):
    pairs = pd.MultiIndex.from_product([entities, times], names=["entity", "time"]).to_frame(index=False)
    return pairs.assign(observable="level", time=pairs["time"].astype(float))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "line.mdl"
    path.write_text(LINE)
    return vf.read_model(path)


@pytest.fixture(scope="module")
def problem(model):
    return Problem(
        model=model, parameters=PARAMETERS, observables=(OBSERVED,), measurements=table_of(made_values()),
    )


@pytest.fixture(scope="module")
def random(problem):
    return vf.fit_random_effects(problem, ["start"], seed=1, nodes=1)


def known(result):
    """The same fit without error of the parameters."""
    cov = result.transformed_clustered_cov
    return replace(result, transformed_clustered_cov=0 * cov)


def assumed(result, params, names):
    """As if these parameters, with these random effects, had been estimated without error."""
    modes = pd.concat([result.modes.assign(parameter=name) for name in names])
    cov = pd.DataFrame(0.0, index=list(params), columns=list(params))
    return replace(result, params=pd.Series(params), modes=modes, transformed_clustered_cov=cov, at_bound=())


def test_given_the_parameters_fitted_and_new_entities_have_their_exact_distributions(problem, random):
    found = forecast(problem, known(random), rows_of(["v0", "v5", "new"], [3, 12]), seed=1, n_draws=N)
    start, slope, sigma, sd = random.params[["start", "slope", "sigma", "sd(start)"]]
    own = made_values() - slope * TIMES
    precision = T / sigma**2 + 1 / sd**2
    exact = {f"v{i}": ((own[i].sum() / sigma**2 + start / sd**2) / precision, precision**-0.5) for i in (0, 5)}
    exact["new"] = start, sd
    values = np.array([1.0, 13.0, 5.0, 14.0, 6.0, 15.5])
    for at, row in found.rows.iterrows():
        centre, spread = exact[row["entity"]][0] + slope * row["time"], exact[row["entity"]][1]
        for drawn, width in ((found.fitted[at], spread), (found.observed[at], np.hypot(spread, sigma))):
            assert abs(drawn.mean() - centre) < MEAN_OFF * width
            assert abs(drawn.std() / width - 1) < SD_OFF
            assert stats.kstest(drawn, stats.norm(centre, width).cdf).pvalue > 1e-3
        density = stats.norm(centre, np.hypot(spread, sigma)).logpdf(centre + 1.0)
        shifted = np.full(len(values), centre + 1.0)
        assert_allclose(found.log_scores(shifted)[at], density, atol=0.06)
    # the effect of an entity is the same at both times, that of another is independent
    assert np.corrcoef(found.fitted[0], found.fitted[1])[0, 1] > 1 - 1e-9
    assert abs(np.corrcoef(found.fitted[0], found.fitted[2])[0, 1]) < 4 / np.sqrt(N)


@pytest.mark.filterwarnings("ignore")
def test_conditional_distributions_are_those_of_statsmodels(problem, random):
    table = problem.measurements
    design = np.column_stack([np.ones(len(table)), table["time"]])
    other = MixedLM(table["value"], design, table["entity"]).fit(reml=False, method=["bfgs", "powell"], gtol=1e-10)
    found = forecast(problem, known(random), rows_of([f"v{i}" for i in range(E)], [10]), seed=2, n_draws=N)
    for at, entity in enumerate(found.rows["entity"]):
        centre = other.fe_params @ [1.0, 10.0] + other.random_effects[entity].iloc[0]
        spread = float(np.sqrt(other.random_effects_cov[entity].iloc[0, 0]))
        assert abs(found.fitted[at].mean() - centre) < MEAN_OFF * spread + 1e-4
        assert abs(found.fitted[at].std() / spread - 1) < SD_OFF


def test_correlated_effects_are_drawn_with_their_covariance(model, random):
    rng = np.random.default_rng(5)
    own = rng.multivariate_normal([2, 1], [[1, 0.3], [0.3, 0.25]], size=E)
    y = own[:, :1] + own[:, 1:] * TIMES + rng.normal(0, 2.0, (E, T))
    problem = Problem(model=model, parameters=PARAMETERS, observables=(OBSERVED,), measurements=table_of(y))
    sigma, sd, corr, centre = 2.2, np.array([0.9, 0.6]), 0.4, np.array([2.1, 0.9])
    params = {
        "start": 2.1, "slope": 0.9, "sigma": sigma, "sd(start)": 0.9, "sd(slope)": 0.6, "corr(start, slope)": corr,
    }
    result = assumed(random, params, ["start", "slope"])
    population = np.outer(sd, sd) * [[1, corr], [corr, 1]]
    design = np.column_stack([np.ones(T), TIMES])
    given = np.linalg.inv(np.linalg.inv(population) + design.T @ design / sigma**2)
    mean = centre + given @ design.T @ (y[3] - design @ centre) / sigma**2
    at = np.array([[1.0, 2.0], [1.0, 13.0]])
    found = forecast(problem, result, rows_of(["v3", "new"], [2, 13]), seed=1, n_draws=N)
    for drawn, (exact, cov) in ((found.fitted[:2], (mean, given)), (found.fitted[2:], (centre, population))):
        cov = at @ cov @ at.T
        width = np.sqrt(np.diag(cov))
        assert_allclose(drawn.mean(axis=1), at @ exact, atol=MEAN_OFF * width.max())
        assert_allclose(drawn.std(axis=1), width, rtol=SD_OFF)
        assert_allclose(np.corrcoef(drawn)[0, 1], cov[0, 1] / width.prod(), atol=4 / np.sqrt(N))


def test_error_of_parameters_widens_the_bands_of_random_effects(problem, random):
    """The location of a balanced panel has the variance of the mean over entities."""
    errors = replace(random, transformed_clustered_cov=random.transformed_cov)
    found = forecast(problem, errors, rows_of(["new", "other"], [4, 14]), seed=1, n_draws=N)
    cov = random.transformed_cov.loc[["start", "slope"], ["start", "slope"]].to_numpy()
    deviation = entity_values(problem, errors, ("new",), n_draws=N, seed=1)[:, 0, 0].std()
    assert deviation > random.params["sd(start)"] * 1.02
    shared = np.array([1.0, 14.0]) @ cov @ [1.0, 14.0]
    both = np.cov(found.fitted[1], found.fitted[3])
    # entities share the parameters and nothing else; deviations are drawn too, so the variance is not exactly that
    assert_allclose(both[0, 1], shared, atol=4 * both[0, 0] / np.sqrt(N))
    spread = stats.norm.rvs(0, 1, 10**6, random_state=1)
    log_sd = np.log(random.params["sd(start)"]) + spread * np.sqrt(random.transformed_cov.loc["sd(start)", "sd(start)"])
    top = np.log(random.bounds.loc["sd(start)", "upper"])
    assert_allclose(both[0, 0], shared + np.mean(np.exp(2 * log_sd[log_sd < top])), rtol=0.1)


def test_shared_parameters_give_the_bands_of_least_squares(problem):
    result = vf.fit(problem, seed=1, cov_type="hessian", n_draws=10)
    found = forecast(problem, result, rows_of(["v1", "new"], [4, 13]), seed=1, n_draws=N)
    table = problem.measurements
    other = OLS(table["value"], np.column_stack([np.ones(len(table)), table["time"]])).fit()
    sigma2 = other.ssr / len(table)  # maximum likelihood
    for at, time in enumerate([4.0, 13.0, 4.0, 13.0]):
        x = np.array([1.0, time])
        width = np.sqrt(sigma2 * x @ other.normalized_cov_params @ x)
        assert abs(found.fitted[at].mean() - other.params @ x) < MEAN_OFF * width + 1e-4
        assert_allclose(found.fitted[at].std(), width, rtol=SD_OFF)
        assert_allclose(found.observed[at].std(), np.sqrt(width**2 + sigma2), rtol=SD_OFF + 0.01)
    quantiles = found.quantiles((0.025, 0.05, 0.5, 0.975))
    assert list(quantiles.columns[3:]) == [
        *("fitted_q02.5", "fitted_q05", "fitted_q50", "fitted_q97.5"), *("q02.5", "q05", "q50", "q97.5"), "failed",
    ]
    assert_array_equal(quantiles["q97.5"], np.quantile(found.observed, 0.975, axis=1))
    assert (quantiles["failed"] == 0).all()


def test_fixed_effects_give_the_bands_of_the_within_estimator(model):
    y = made_values()[:6]
    problem = Problem(model=model, parameters=PARAMETERS, observables=(OBSERVED,), measurements=table_of(y))
    result = vf.fit_fixed_effects(problem, ["start"], seed=1)
    found = forecast(problem, result, rows_of(["v0", "v1", "new"], [12]), seed=1, n_draws=10 * N)
    away = TIMES - TIMES.mean()
    within = y - y.mean(axis=1, keepdims=True)
    slope = (within @ away).sum() / (6 * away @ away)
    residual = within - slope * away
    sigma2 = (residual**2).mean()
    clustered = ((residual @ away) ** 2).sum() * 6 / 5 / (6 * away @ away) ** 2
    starts = y.mean(axis=1) - slope * TIMES.mean()
    variance = {"own": sigma2 / T + (12 - TIMES.mean()) ** 2 * clustered}
    variance["new"] = starts.var(ddof=1) * (1 + 1 / 6) + (12 - TIMES.mean()) ** 2 * clustered
    centres = {"new": starts.mean() + 12 * slope, "v0": starts[0] + 12 * slope, "v1": starts[1] + 12 * slope}
    for at, entity in enumerate(found.rows["entity"]):
        width = np.sqrt(variance["new" if entity == "new" else "own"])
        assert abs(found.fitted[at].mean() - centres[entity]) < MEAN_OFF * width
        assert_allclose(found.fitted[at].std(), width, rtol=0.025)
    shared = np.cov(found.fitted[:2])[0, 1]
    assert_allclose(shared, (12 - TIMES.mean()) ** 2 * clustered, atol=4 * variance["own"] / np.sqrt(10 * N))


def test_an_entity_stands_alone_and_a_sum_is_joint(problem, random):
    rows = rows_of(["v0", "v1", "v2", "new"], [5, 9])
    found = forecast(problem, random, rows, seed=3, n_draws=200)
    some = rows[rows["entity"].isin(["v2", "new"])].iloc[::-1]
    again = forecast(problem, random, some, seed=3, n_draws=200)
    at = [int(np.flatnonzero((rows["entity"] == e) & (rows["time"] == t))[0]) for e, t in
          zip(some["entity"], some["time"], strict=True)]
    assert_array_equal(again.fitted, found.fitted[at])
    assert_array_equal(again.observed, found.observed[at])
    blank = forecast(problem, random, some.assign(from_time=np.nan), seed=3, n_draws=200)
    assert_array_equal(blank.observed, again.observed)
    assert not np.array_equal(forecast(problem, random, some, seed=4, n_draws=200).fitted, again.fitted)
    noise = np.corrcoef(found.observed - found.fitted)
    assert np.abs(noise - np.eye(len(noise))).max() < 5 / np.sqrt(200)
    total = found.total("nation")
    assert list(total.rows["entity"]) == ["nation"] * 2 and list(total.rows["time"]) == [5, 9]
    assert_allclose(total.observed, found.observed.reshape(4, 2, 200).sum(axis=0))
    assert_allclose(total.fitted[1], found.fitted[1::2].sum(axis=0))
    wide = found.quantiles((0.05, 0.95))
    sums = total.quantiles((0.05, 0.95))
    assert sums["q95"].iloc[0] - sums["q05"].iloc[0] < (wide["q95"] - wide["q05"])[rows["time"] == 5].sum()
    with pytest.raises(CalibrationError, match="the sum of 'level' has 'v0' at one of the times 5 and 9 alone"):
        forecast(problem, random, rows.iloc[[0, 2, 3]], seed=1, n_draws=5).total()


def test_new_entities_bring_their_covariates(model):
    y = made_values()
    shift = np.linspace(-3, 3, E)
    brought = pd.DataFrame({
        "entity": [f"v{i}" for i in range(E)], "name": "shift", "time": np.nan, "value": shift, "source_id": "made",
    })
    pushed = pd.DataFrame([
        (entity, "push", time, 0.5 * (time >= 10), "made") for entity in brought["entity"] for time in (0.0, 10.0, 14.0)
    ], columns=brought.columns)
    problem = Problem(
        model=model, parameters=PARAMETERS, observables=(OBSERVED,), measurements=table_of(y + shift[:, None]),
        covariates=pd.concat([brought, pushed]),
    )
    result = vf.fit(problem, seed=1, cov_type="hessian", n_draws=10)
    own = pd.DataFrame([("new", "shift", np.nan, 40.0, "made"), *(
        ("new", "push", time, 0.0, "made") for time in (0.0, 10.0, 14.0))], columns=brought.columns)
    found = forecast(problem, result, rows_of(["v9", "new"], [9, 14]), seed=1, n_draws=50, covariates=own)
    level = {(e, t): drawn for (e, t), drawn in zip(zip(found.rows["entity"], found.rows["time"]), found.fitted)}
    assert_allclose(level["new", 9] - level["v9", 9], 37)
    assert_allclose(level["new", 14] - level["v9", 14], 37 - 0.5 * 4)
    spelled = own.replace({"name": {"shift": " Shift ", "push": "PUSH"}})
    again = forecast(problem, result, found.rows, seed=1, n_draws=50, covariates=spelled)
    assert_array_equal(again.observed, found.observed)
    with pytest.raises(CalibrationError, match="the covariate 'shift' of the new entity 'new' is missing"):
        forecast(problem, result, rows_of(["new"], [9]), seed=1)
    with pytest.raises(CalibrationError, match="the problem has the covariates of 'v0'"):
        forecast(problem, result, rows_of(["v0"], [9]), seed=1, covariates=brought)


def test_the_location_of_a_new_entity_moves_with_its_means(model, random):
    x = np.linspace(-2, 2, E)
    y = made_values() + 1.5 * x[:, None]
    problem = Problem(model=model, parameters=PARAMETERS, observables=(OBSERVED,), measurements=table_of(y))
    means = pd.DataFrame({"x": [*(x + 7), 17.0, 7.0]}, index=[*[f"v{i}" for i in range(E)], "far", "near"])
    params = {"start": 2.1, "slope": 0.9, "sigma": 0.6, "slope(start, x)": 1.4, "sd(start)": 0.8}
    result = assumed(random, params, ["start"])
    found = forecast(problem, result, rows_of(["far", "near"], [6]), seed=1, n_draws=N, means=means)
    away = found.fitted[0].mean() - found.fitted[1].mean()
    assert_allclose(away, 10 * 1.4, atol=MEAN_OFF * np.sqrt(2) * 0.8)
    assert_allclose(found.fitted[1].mean(), 2.1 + 6 * 0.9, atol=MEAN_OFF * 0.8)
    own = forecast(problem, result, rows_of(["v0"], [6]), seed=1, n_draws=N, means=means)
    left = y[0] - 0.9 * TIMES
    precision = T / 0.6**2 + 1 / 0.8**2
    mean = (left.sum() / 0.6**2 + (2.1 - 2 * 1.4) / 0.8**2) / precision
    assert_allclose(own.fitted.mean(), mean + 6 * 0.9, atol=MEAN_OFF / np.sqrt(precision))
    with pytest.raises(CalibrationError, match=r"the fit has slope\(start, x\); give means="):
        forecast(problem, result, rows_of(["near"], [6]), seed=1)
    with pytest.raises(CalibrationError, match="means= has no row for the new entity 'new'"):
        forecast(problem, result, rows_of(["new"], [6]), seed=1, means=means)
    for value in (np.nan, "high"):
        with pytest.raises(CalibrationError, match=f"means= has 'x' of the new entity 'far' as {value!r}; give a num"):
            forecast(problem, result, rows_of(["far"], [6]), seed=1, means=means.astype(object).replace({17.0: value}))


@pytest.mark.parametrize("noise", ["normal", "lognormal"])
def test_the_level_of_a_centred_observable_is_that_of_the_entity(model, noise):
    """With the parameters known it is the mean of what is left, with the error of a mean."""
    path, rng = 5 + 0.5 * TIMES, np.random.default_rng(2)
    away = rng.normal(0, 1, (E, 1)) + rng.normal(0, 0.1, (E, T))
    y = path + away if noise == "normal" else path * np.exp(away)
    parameters = PARAMETERS.iloc[[1, 2]].assign(lower=[0.1, 0.05])
    problem = Problem(
        model=model, parameters=parameters, fixed={"start": 5.0}, measurements=table_of(y),
        observables=(replace(OBSERVED, noise=noise, centred=True),),
    )
    result = vf.fit(problem, seed=1, n_draws=10)
    held = replace(result, transformed_cov=result.transformed_cov * 0)
    found = forecast(problem, held, rows_of(["v4"], [11]), seed=1, n_draws=N)
    slope, sigma = result.params
    into = np.asarray if noise == "normal" else np.log
    level = (into(y[4]) - into(5 + slope * TIMES)).mean()
    exact = into(5 + slope * 11) + level
    assert abs(into(found.fitted[0]).mean() - exact) < MEAN_OFF * sigma / np.sqrt(T)
    assert_allclose(into(found.fitted[0]).std(), sigma / np.sqrt(T), rtol=SD_OFF)
    assert_allclose(into(found.observed[0]).std(), sigma * np.sqrt(1 + 1 / T), rtol=SD_OFF)
    with pytest.raises(CalibrationError, match="is centred and 'new' has no measurement"):
        forecast(problem, result, rows_of(["new"], [11]), seed=1)


def test_counts_and_net_flows_and_failed_draws(model):
    flow = Observable("gain", "level", "net_flow", "poisson")
    rng = np.random.default_rng(2)
    table = table_of(rng.poisson(0.6, (E, T)).astype(float), observable="gain").assign(from_time=np.tile(TIMES - 1, E))
    problem = Problem(
        model=model, parameters=PARAMETERS.iloc[[1]], observables=(flow,), measurements=table,
    )
    result = vf.fit(problem, seed=1, cov_type="hessian", n_draws=10)
    wide = replace(result, transformed_cov=result.transformed_cov * 100)
    rows = pd.DataFrame({"entity": "v0", "observable": "gain", "time": [12.0], "from_time": [9.0]})
    found = forecast(problem, wide, rows, seed=1, n_draws=N)
    drawn = wide.draws(N, 1)[:, 0]
    assert_allclose(found.fitted[0], np.where(drawn >= 0, 3 * drawn, np.nan))
    assert_allclose(found.quantiles()["failed"], (drawn < 0).mean())
    assert 0.05 < (drawn < 0).mean() < 0.5
    alive = drawn[drawn > 0]
    assert_allclose(np.exp(found.log_scores(np.array([2.0]))), stats.poisson.pmf(2, 3 * alive).sum() / N)
    assert set(np.unique(found.observed[np.isfinite(found.observed)])) <= set(range(100))
    assert_allclose(np.nanmean(found.observed), 3 * alive.mean(), rtol=0.1)
    with pytest.raises(CalibrationError, match="net flows, and no others, need one before time"):
        forecast(problem, result, rows.assign(from_time=12.0), seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": 4.5}, "4.5 is not a saved time of the model, which runs from 0 to 14"),
        ({"time": 15.0}, "15 is not a saved time"),
        ({"observable": "levl"}, "no such observable. Did you mean 'level'"),
        ({"from_time": 1.0}, "from_time is 1; net flows, and no others"),
        ({"time": np.nan}, "row 0 to predict: time is nan; give it"),
        ({"time": np.inf}, "row 0 to predict: time is inf; give it"),
        ({"time": "late"}, "row 0 to predict: time is 'late'; give it"),
        ({"from_time": np.inf}, "row 0 to predict: from_time is inf; give it"),
        ({"from_time": "early"}, "row 0 to predict: from_time is 'early'; give it"),
        ({"entity": np.nan}, "row 0 to predict: entity is nan; give it"),
        ({"entity": None}, "row 0 to predict: entity is None; give it"),
        ({"observable": np.nan}, "row 0 to predict: observable is nan; give it"),
    ],
)
def test_rows_that_the_model_cannot_give_are_refused(problem, random, change, message):
    with pytest.raises(CalibrationError, match=message):
        forecast(problem, random, rows_of(["v0"], [5]).assign(**change), seed=1)


def test_a_fit_of_something_else_is_refused(problem, random):
    rows = rows_of(["v0"], [5])
    fewer = replace(problem, measurements=problem.measurements[problem.measurements["entity"] != "v3"])
    with pytest.raises(CalibrationError, match="not of the entities that the problem measures"):
        forecast(fewer, random, rows, seed=1)
    other = replace(problem, parameters=PARAMETERS.iloc[[0, 2]])
    shared = vf.fit(other, seed=1, cov_type="hessian", n_draws=10)
    with pytest.raises(CalibrationError, match="give the problem that was fitted"):
        forecast(problem, shared, rows, seed=1)
    unknown = replace(random, transformed_clustered_cov=random.transformed_cov * np.nan)
    with pytest.raises(CalibrationError, match="no covariance to draw parameters from"):
        forecast(problem, unknown, rows, seed=1)
    with pytest.raises(CalibrationError, match="no column 'observable'"):
        forecast(problem, random, rows.drop(columns="observable"), seed=1)
    with pytest.raises(CalibrationError, match="no row to predict"):
        forecast(problem, random, rows.iloc[:0], seed=1)
    with pytest.raises(CalibrationError, match="level of v0 at 5 is asked for twice"):
        forecast(problem, random, pd.concat([rows, rows]), seed=1)
    with pytest.raises(CalibrationError, match="2 values for 1 rows"):
        forecast(problem, random, rows, seed=1, n_draws=5).log_scores(np.array([1.0, 2.0]))
    with pytest.raises(CalibrationError, match="level is 1"):
        forecast(problem, random, rows, seed=1, n_draws=5).quantiles((0.5, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"seed": seed}, f"seed is {seed!r}; it must be a whole number from 0 on") for seed in
          (-1, "a", None, 1.5, True)),
        *(({"n_draws": n}, f"n_draws is {n!r}; it must be a whole number of at least 1") for n in (0, 2.5, "a", None)),
        ({"problem": None}, "the problem is None, a NoneType; give a Problem"),
        ({"problem": "line.toml"}, "the problem is 'line.toml', a str; give a Problem"),
        ({"result": None}, "the result is a NoneType; give a FitResult, RandomEffectsResult or FixedEffectsResult"),
        ({"result": "line.json"}, "the result is a str; give a FitResult"),
        ({"rows": [1]}, "the rows to predict are a list; give a DataFrame"),
        ({"means": 1.0}, "means= is a float; give a DataFrame indexed by entity"),
        ({"covariates": [1]}, "covariates= needs to be a DataFrame with the columns entity, name, time, value, source"),
        ({"covariates": pd.DataFrame({"name": ["shift"]})}, "covariates= needs to be a DataFrame with the columns"),
    ],
)
def test_settings_of_a_wrong_kind_are_refused(problem, random, change, message):
    given = {"problem": problem, "result": random, "rows": rows_of(["v0"], [5]), "seed": 1, "n_draws": 5, **change}
    with pytest.raises(CalibrationError, match=re.escape(message)) as said:
        forecast(given.pop("problem"), given.pop("result"), given.pop("rows"), **given)
    assert "\n" not in str(said.value)


def test_a_fit_with_process_noise_is_refused(problem):
    filtered = object.__new__(ProcessNoiseResult)  # its kind alone is looked at
    with pytest.raises(CalibrationError, match="the result is a ProcessNoiseResult; give a FitResult, RandomEff"):
        forecast(problem, filtered, rows_of(["v0"], [5]), seed=1)
    with pytest.raises(CalibrationError, match="the result is a ProcessNoiseResult; give a FitResult, as fit gives it"):
        predict(problem, filtered, problem.measurements)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ("a", "levels is 'a'; give a sequence of numbers"),
        (0.5, "levels is 0.5; give a sequence of numbers"),
        ([], "levels is []; give a sequence of numbers"),
        (None, "levels is None; give a sequence of numbers"),
        (["a"], "level is 'a'; it must be a number between 0 and 1"),
        ([np.nan], "level is nan; it must be a number between 0 and 1"),
    ],
)
def test_levels_that_are_none_are_refused(problem, random, levels, message):
    found = forecast(problem, random, rows_of(["new"], [5]), seed=1, n_draws=2)
    with pytest.raises(CalibrationError, match=re.escape(message)):
        found.quantiles(levels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.nan], "the measured value of row 0 is nan; leave out rows without a measurement"),
        ([np.inf], "the measured value of row 0 is inf"),
        (["a"], "the measured values are ['a']; give one number for each row"),
        (3.0, "an array of shape () of values for 1 rows; give one"),
        (None, "values for 1 rows; give one"),
    ],
)
def test_what_was_not_measured_has_no_score(problem, random, values, message):
    found = forecast(problem, random, rows_of(["new"], [5]), seed=1, n_draws=2)
    with pytest.raises(CalibrationError, match=re.escape(message)):
        found.log_scores(values)


def test_a_row_without_a_time_is_not_predicted_and_draws_are_counted(problem):
    result = vf.fit(problem, seed=1, cov_type="hessian", n_draws=10)
    with pytest.raises(CalibrationError, match="row 1 to predict has the time nan; give a saved time"):
        predict(problem, result, rows_of(["v0"], [5.0, np.nan]))
    with pytest.raises(CalibrationError, match="n_draws is 0; it must be a whole number of at least 1"):
        predict(problem, result, rows_of(["v0"], [5.0]), n_draws=0)


def test_effects_without_a_clear_mode_are_said(problem, random, monkeypatch, caplog):
    def lost(*args, **settings):
        found = entity_marginals(*args, **settings)
        return replace(found, converged=np.zeros_like(found.converged))

    monkeypatch.setattr(drawing, "entity_marginals", lost)
    forecast(problem, random, rows_of(["v0", "v1", "new"], [5]), seed=1, n_draws=5)
    assert "10 of 10 draws of an entity's effects have no clear mode" in caplog.text
