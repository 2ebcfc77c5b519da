"""Least squares with effects, random effects, differences and means: against other programs and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from linearmodels.panel import PanelOLS, RandomEffects
from numpy.testing import assert_allclose
from scipy import stats

from villageflow.datasets.terms import evaluate
from villageflow.econometrics import (
    Spec,
    between,
    coefficients,
    correlated_random_effects,
    estimate,
    first_difference,
    poisson,
    pooled,
    random_effects,
    within,
)
from villageflow.econometrics.linear import least_squares
from villageflow.econometrics.sample import demean, nested, rank_of_groups
from villageflow.errors import EstimationError


def dummies(frame, *columns):
    """Regressors and dummies for a full-rank regression by brute force."""
    parts = [frame[["x", "z"]]]
    for i, column in enumerate(columns):
        made = pd.get_dummies(frame[column], prefix=str(column), dtype=float)
        parts.append(made.iloc[:, 1:] if i else made)
    return pd.concat(parts, axis=1)


def test_within_equals_panelols_with_its_own_covariances(panel):
    model = PanelOLS(panel["y"], panel[["x", "z"]], entity_effects=True, time_effects=True)
    for cov, options in {
        "clustered": {"cov_type": "clustered", "cluster_entity": True},
        "robust": {"cov_type": "robust"},
        "unadjusted": {"cov_type": "unadjusted"},
    }.items():
        ours, theirs = within("y ~ x + z", panel, cov_type=cov), model.fit(**options)
        assert_allclose(ours.params, theirs.params, rtol=1e-10)
        assert_allclose(ours.cov, theirs.cov, rtol=1e-10)
        if cov == "clustered":  # clusters are what is independent, so ours has fewer degrees of freedom
            assert ours.df == panel.index.get_level_values(0).nunique() - 1
            continue
        assert_allclose(ours.pvalues, theirs.pvalues, rtol=1e-8, atol=1e-12)
        assert_allclose(ours.conf_int(), theirs.conf_int(), rtol=1e-10)


def test_clustered_errors_equal_hand_computation(panel):
    ours = within("y ~ x + z", panel, effects=("entity",), cluster="group", convention="stata")
    frame = panel - panel.groupby("entity").transform("mean")
    x, y = frame[["x", "z"]].to_numpy(), frame["y"].to_numpy()
    bread = np.linalg.inv(x.T @ x)
    residual = y - x @ bread @ x.T @ y
    meat = np.zeros((2, 2))
    for group in panel["group"].unique():
        score = x[panel["group"] == group].T @ residual[panel["group"] == group]
        meat += np.outer(score, score)
    n, g, k = len(panel), panel["group"].nunique(), 3
    assert_allclose(ours.cov, bread @ meat @ bread * g / (g - 1) * (n - 1) / (n - k), rtol=1e-9)
    assert ours.df == g - 1 and ours.n_clusters == g
    t = ours.params["x"] / ours.std_errors["x"]
    assert_allclose(ours.pvalues["x"], 2 * stats.t.sf(abs(t), g - 1))


def test_stata_factor_counts_effects_that_are_not_nested(panel):
    ours = within("y ~ x + z", panel, convention="stata")
    raw = PanelOLS(panel["y"], panel[["x", "z"]], entity_effects=True, time_effects=True)
    residual = raw.fit().resids
    inner = demean(panel[["x", "z"]].to_numpy(), codes_of(panel))
    bread = np.linalg.inv(inner.T @ inner)
    scores = pd.DataFrame(inner * residual.to_numpy()[:, None], index=panel.index).groupby("entity").sum()
    n, g, k = len(panel), panel.index.get_level_values(0).nunique(), 2 + 1 + 3
    expected = bread @ (scores.T.to_numpy() @ scores.to_numpy()) @ bread * g / (g - 1) * (n - 1) / (n - k)
    assert_allclose(ours.cov, expected, rtol=1e-8)


def codes_of(panel):
    return tuple(pd.factorize(panel.index.get_level_values(level))[0] for level in (0, 1))


def test_other_effects_equal_dummies(panel):
    ours = within("y ~ x + z", panel, effects=("group*time",), cov_type="unadjusted")
    frame = panel.reset_index()
    frame["cell"] = frame["group"].astype(str) + "/" + frame["time"].astype(str)
    kept = frame[frame.groupby("cell")["y"].transform("size") > 1]
    ols = sm.OLS(kept["y"], dummies(kept, "cell")).fit()
    assert_allclose(ours.params, ols.params.iloc[:2], rtol=1e-9)
    assert_allclose(ours.std_errors, ols.bse.iloc[:2], rtol=1e-9)


@pytest.mark.parametrize("estimator", ["within", "poisson"])
def test_coefficients_are_those_of_estimate(panel, estimator):
    spec = Spec("count ~ x + z", estimator)
    assert_allclose(coefficients(spec, panel), estimate(spec, panel).params, rtol=1e-10)


def test_slopes_are_recovered_from_simulated_panels(make_panel):
    draws = [make_panel(n_entities=80, seed=seed, gaps=False) for seed in range(12)]
    for verb, outcome in ((within, "y"), (poisson, "count")):
        fits = [verb(f"{outcome} ~ x + z", draw) for draw in draws]
        mean = np.mean([fit.params for fit in fits], axis=0)
        se = np.sqrt(np.mean([np.diag(fit.cov) for fit in fits], axis=0) / len(fits))
        assert (np.abs(mean - [0.5, -0.3]) < 4 * se).all() and (se < 0.04).all()


def test_row_order_does_not_matter(panel):
    shuffled = panel.sample(frac=1, random_state=1)
    for verb, formula in ((within, "y ~ lag(x) + z"), (poisson, "count ~ lag(x) + z")):
        assert_allclose(verb(formula, panel).to_frame(), verb(formula, shuffled).to_frame(), rtol=1e-9)


def test_lags_go_by_time_and_not_by_row():
    index = pd.MultiIndex.from_tuples([("a", 2010), ("a", 2011), ("a", 2013), ("b", 2010), ("b", 2011)])
    frame = pd.DataFrame({"x": [1.0, 2.0, 4.0, 8.0, 16.0]}, index=index)
    assert_allclose(evaluate("lag(x)", frame), [np.nan, 1, np.nan, np.nan, 8])
    assert_allclose(evaluate("d(ln(x))", frame), [np.nan, np.log(2), np.nan, np.nan, np.log(2)])
    assert_allclose(evaluate("lag(lag(x))", frame), [np.nan] * 5)
    assert_allclose(evaluate("log1p(x)", frame), np.log1p(frame["x"]))


def test_driscoll_kraay_counts_periods(panel):
    ours = within("y ~ x + z", panel, cov_type="driscoll-kraay")
    assert ours.df == panel.index.get_level_values(1).nunique() - 1
    t = ours.params / ours.std_errors
    assert_allclose(ours.pvalues, 2 * stats.t.sf(abs(t), ours.df), rtol=1e-12)


def test_driscoll_kraay_has_the_same_coefficients_and_other_errors(panel):
    clustered, kraay = (within("y ~ x + z", panel, cov_type=cov) for cov in ("clustered", "driscoll-kraay"))
    assert_allclose(kraay.params, clustered.params)
    assert not np.allclose(kraay.std_errors, clustered.std_errors)
    assert kraay.n_clusters is None and "1 lags" in kraay.cov_label
    assert any("4 periods" in note for note in kraay.notes)


@pytest.mark.parametrize("effects", [(), ("entity",), ("entity", "time"), ("entity", "time", "group"), ("group*time",)])
def test_demeaning_equals_dummies(make_panel, effects):
    frame = make_panel(seed=8).reset_index()
    frame["group*time"] = frame["group"].astype(str) + frame["time"].astype(str)
    groups = tuple(pd.factorize(frame[name])[0] for name in effects)
    values, weights = frame[["x", "y"]].to_numpy() * [1.0, 1e6] + [0.0, 1e9], np.exp(frame["z"].to_numpy())
    for weight in (None, weights):
        found = demean(values, groups, weight)
        if not groups:
            assert found is values
            continue
        root = np.ones(len(frame)) if weight is None else np.sqrt(weight)
        d = np.hstack([pd.get_dummies(codes, dtype=float).to_numpy() for codes in groups])
        expected = values - d @ np.linalg.lstsq(root[:, None] * d, root[:, None] * values, rcond=None)[0]
        assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max(axis=0).min())
        assert np.linalg.matrix_rank(d) == rank_of_groups(groups)


@pytest.mark.parametrize("weighted", [False, True])
def test_hardly_connected_effects_are_taken_out_exactly(weighted):
    """Workers who each saw two firms in a row of firms, as far from a balanced panel as can be."""
    n = 600
    worker = np.tile(np.repeat(np.arange(n), 2), 2)
    firm = worker + np.tile([0, 1], 2 * n)
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=(4 * n, 2)), np.exp(2 * rng.normal(size=4 * n)) if weighted else None
    found = demean(values, (worker, firm), weight)
    w = np.ones(4 * n) if weight is None else weight
    for codes in (worker, firm):
        assert max(np.abs(np.bincount(codes, w * column)).max() for column in found.T) < 1e-12 * w.sum()
    d = np.hstack([np.eye(n)[worker], np.eye(n + 1)[firm]])
    left = values - found  # in the span of the dummies, so that nothing else was taken out
    assert np.abs(left - d @ np.linalg.lstsq(d, left, rcond=None)[0]).max() < 1e-8


def test_effects_in_several_parts_are_taken_out_by_elimination(monkeypatch):
    monkeypatch.setattr("villageflow.econometrics.sample._PATIENCE", 0)
    exact = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 0, 1, 2, 3, 2, 3])  # no rounding makes this regular
    assert_allclose(demean(np.eye(8)[0], exact), [0.25, -0.25, -0.25, 0.25, 0, 0, 0, 0], atol=1e-15)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 30, size=400), rng.integers(0, 8, size=400)
    b = np.where(a < 10, b % 3, 3 + b % 5)  # two parts
    a, b = (np.unique(codes, return_inverse=True)[1] for codes in (a, b))
    values, d = rng.normal(size=(400, 2)), np.hstack([np.eye(30)[a], np.eye(8)[b]])
    for weight in (np.ones(400), 2.0 ** rng.integers(-3, 3, size=400), np.exp(rng.normal(size=400))):
        root = np.sqrt(weight)[:, None]
        expected = values - d @ np.linalg.lstsq(root * d, root * values, rcond=None)[0]
        assert_allclose(demean(values, (a, b), weight), expected, atol=1e-12)
    assert rank_of_groups((a, b)) == 36 == np.linalg.matrix_rank(d)


def test_three_effects_that_do_not_settle_are_refused(monkeypatch):
    monkeypatch.setattr("villageflow.econometrics.sample._MOST_ROUNDS", 2)
    monkeypatch.setattr("villageflow.econometrics.sample._PATIENCE", 1)
    rng = np.random.default_rng(0)
    groups = tuple(rng.integers(0, 40, size=200) for _ in range(3))
    groups = tuple(np.unique(codes, return_inverse=True)[1] for codes in groups)
    with pytest.raises(EstimationError, match="could not be absorbed in 2 rounds"):
        demean(rng.normal(size=200), groups)


def test_nesting_is_seen():
    assert nested(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]))
    assert not nested(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]))


def test_columns_of_any_scale_give_the_same(panel):
    plain = within("y ~ x + z", panel)
    scaled = panel.assign(x=1e-9 * panel["x"], z=1e12 * panel["z"])
    found = within("y ~ x + z", scaled)
    assert_allclose(found.statistics, plain.statistics, rtol=1e-9)
    assert_allclose(coefficients(found.spec, scaled), found.params, rtol=1e-12)
    for cov in ("jackknife", "robust"):
        here, there = (within("y ~ x + z", frame, cov_type=cov).statistics for frame in (panel, scaled))
        assert_allclose(here, there, rtol=1e-8)


def test_least_squares_refuse_what_is_not_determined():
    x = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    with pytest.raises(EstimationError, match="2 coefficients, of which the observations determine 1"):
        least_squares(x, np.ones(3), x)
    with pytest.raises(EstimationError, match="not determined by 1 observations"):
        least_squares(x[:1], np.ones(1), x[:1])


def test_random_effects_take_out_more_of_entities_seen_longer(panel):
    found = random_effects("y ~ x + z + flat", panel, cov_type="unadjusted")
    frame = panel.assign(constant=1.0)[["constant", "x", "z", "flat"]]
    theirs = RandomEffects(panel["y"], frame).fit()
    assert_allclose(found.params, theirs.params, rtol=1e-10)
    assert_allclose(found.cov, theirs.cov, rtol=1e-9)
    assert_allclose(found.residuals, panel["y"] - frame @ theirs.params, rtol=1e-9)
    theta, size = theirs.theta["theta"], panel.groupby(level=0).size()
    assert theta[size == 4].min() > theta[size == 3].max()
    assert_allclose(found.diagnostics["theta"].statistic, theta.mean(), rtol=1e-12)


def test_correlated_random_effects_are_the_within_estimates_and_test_the_means(make_panel):
    panel = make_panel(n_entities=120, gaps=False)
    found = correlated_random_effects("y ~ x + z + flat", panel)
    inner = within("y ~ x + z", panel, effects="entity")
    assert_allclose(found.params[["x", "z"]], inner.params, rtol=1e-9)
    assert list(found.params.index) == ["constant", "x", "z", "flat", "mean(x)", "mean(z)"]
    test = found.diagnostics["Mundlak"]
    assert test.p_value < 1e-4 and test.says == "mean(x), mean(z) = 0"
    assert_allclose(test.p_value, found.wald(["mean(x)", "mean(z)"]).p_value)
    gappy = make_panel(n_entities=120)  # also with gaps, where the means are those of the sample
    assert_allclose(
        correlated_random_effects("y ~ x + z", gappy).params[["x", "z"]],
        within("y ~ x + z", gappy, effects="entity").params, rtol=1e-9,
    )  # fmt: skip


def test_the_mundlak_test_keeps_its_size_without_correlated_effects():
    rejected, n = 0, 100
    index = pd.MultiIndex.from_product([range(60), range(4)], names=["entity", "time"])
    for seed in range(n):
        rng = np.random.default_rng([5, seed])
        frame = pd.DataFrame({"x": rng.normal(size=240) + np.repeat(rng.normal(size=60), 4)}, index=index)
        frame["y"] = frame["x"] + np.repeat(rng.normal(size=60), 4) + rng.normal(size=240) * (1 + frame["x"].abs())
        rejected += correlated_random_effects("y ~ x", frame).diagnostics["Mundlak"].p_value < 0.05
    assert 0.01 <= rejected / n < 0.13


def test_means_that_are_the_same_for_all_are_not_added(make_panel):
    panel = make_panel(gaps=False)
    panel["trend"] = panel.index.get_level_values(1) - 2010.0
    found = correlated_random_effects("y ~ x + trend", panel)
    assert list(found.params.index) == ["constant", "x", "trend", "mean(x)"]
    assert found.diagnostics["Mundlak"].says == "mean(x) = 0"
    own = correlated_random_effects("y ~ x + mean(z)", panel)  # a mean of the user's own is not tested
    assert own.diagnostics["Mundlak"].says == "mean(x) = 0"


def test_first_differences_skip_gaps_and_cluster_by_the_later_row(panel):
    found = first_difference("y ~ x + z", panel, cluster="group", convention="stata")
    entity, time = (panel.index.get_level_values(level) for level in (0, 1))
    previous = panel.set_axis(pd.MultiIndex.from_arrays([entity, time + 1]))
    frame = (panel[["y", "x", "z"]] - previous[["y", "x", "z"]].reindex(panel.index)).dropna()
    assert found.nobs == len(frame) < len(panel) - panel.index.get_level_values(0).nunique()
    model = sm.OLS(frame["y"], frame[["x", "z"]])
    theirs = model.fit(cov_type="cluster", cov_kwds={"groups": panel["group"][frame.index]})
    assert_allclose(found.params, theirs.params, rtol=1e-10)
    assert_allclose(found.std_errors, theirs.bse, rtol=1e-10)


def test_means_between_entities_weigh_each_entity_alike(panel):
    found = between("y ~ x + z", panel, cov_type="unadjusted")
    means = panel.groupby(level=0)[["y", "x", "z"]].mean()
    theirs = sm.OLS(means["y"], sm.add_constant(means[["x", "z"]])).fit()
    assert_allclose(found.params, theirs.params, rtol=1e-10)
    assert_allclose(found.std_errors, theirs.bse, rtol=1e-10)
    assert (found.nobs, found.n_periods) == (50, 4)
    by_group = between("y ~ x + z", panel, cov_type="clustered", cluster="group")
    assert by_group.n_clusters == panel["group"].nunique()


def test_r_squared_is_of_what_the_effects_leave(panel):
    model = PanelOLS(panel["y"], panel[["x", "z"]], entity_effects=True, time_effects=True)
    assert_allclose(within("y ~ x + z", panel).r2, model.fit().rsquared, rtol=1e-9)
    plain = sm.OLS(panel["y"], sm.add_constant(panel[["x", "z"]]))
    assert_allclose(pooled("y ~ x + z", panel).r2, plain.fit().rsquared, rtol=1e-9)


def test_an_outcome_without_remainder_is_noted(panel):
    exact = panel.assign(y=2 * panel["x"] + panel["flat"])
    found = within("y ~ x", exact)
    assert_allclose(found.params["x"], 2)
    assert found.notes == ("regressors and effects give the outcome exactly: errors and tests mean nothing",)
    still = within("flat ~ x", panel)
    assert abs(still.params["x"]) < 1e-12 and "mean nothing" in still.notes[-1]


@pytest.mark.parametrize("estimator", ["random", "correlated_random", "first_difference", "between"])
def test_coefficients_alone_are_those_of_every_estimator(panel, estimator):
    spec = Spec("y ~ x + z", estimator, ())
    assert_allclose(coefficients(spec, panel), estimate(spec, panel).params, rtol=1e-10)


@pytest.mark.parametrize("estimator", ["iv2sls", "ivliml", "ivgmm"])
def test_coefficients_alone_are_those_of_instruments(panel, estimator):
    spec = Spec("v ~ z + [w ~ p + q]", estimator)
    assert_allclose(coefficients(spec, panel), estimate(spec, panel).params, rtol=1e-10)
