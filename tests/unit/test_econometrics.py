"""The estimators against independent ones, hand computation, simulated truth, and bad input."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from linearmodels.panel import PanelOLS
from numpy.testing import assert_allclose
from scipy import stats

from villageflow.econometrics import Spec, coefficients, estimate, poisson, within
from villageflow.econometrics.sample import demean
from villageflow.econometrics.terms import evaluate
from villageflow.errors import EstimationError


def make_panel(n_entities=50, n_periods=4, seed=3, gaps=True):
    """Counts and a continuous outcome with two-way effects; slopes 0.5 and -0.3; some rows missing."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([range(n_entities), range(2010, 2010 + n_periods)])
    index.names = ["entity", "time"]
    n = len(index)
    effect = np.repeat(rng.normal(size=n_entities), n_periods) + np.tile(
        rng.normal(size=n_periods), n_entities
    )
    x = rng.normal(size=n) + 0.5 * effect
    z = rng.normal(size=n)
    line = 0.5 * x - 0.3 * z + effect
    panel = pd.DataFrame({"x": x, "z": z}, index=index)
    panel["y"] = line + rng.normal(size=n) * (1 + (x > 0))
    panel["count"] = rng.poisson(np.exp(line - 1.0)).astype(float)
    panel["group"] = np.repeat(rng.integers(0, 12, size=n_entities), n_periods)
    return panel.drop(panel.index[::17]) if gaps else panel


@pytest.fixture(scope="module")
def panel():
    return make_panel()


def dummies(frame, *columns):
    """Regressors and dummies for a full-rank regression by brute force."""
    parts = [frame[["x", "z"]]]
    for i, column in enumerate(columns):
        made = pd.get_dummies(frame[column], prefix=str(column), dtype=float)
        parts.append(made.iloc[:, 1:] if i else made)
    return pd.concat(parts, axis=1)


def test_poisson_equals_glm_with_dummies(panel):
    ours = poisson("count ~ x + z", panel, cluster="group")
    kept = (
        panel.groupby("entity").filter(lambda rows: rows["count"].sum() > 0 and len(rows) > 1).reset_index()
    )
    glm = sm.GLM(kept["count"], dummies(kept, "entity", "time"), family=sm.families.Poisson())
    theirs = glm.fit(
        tol=1e-14,
        maxiter=200,
        cov_type="cluster",
        cov_kwds={"groups": kept["group"].to_numpy(), "use_correction": False},
    )
    assert ours.nobs == len(kept) < len(panel)
    assert_allclose(ours.params, theirs.params.iloc[:2], rtol=0, atol=1e-8)
    assert_allclose(ours.std_errors, theirs.bse.iloc[:2], rtol=1e-7)
    assert_allclose(ours.log_likelihood, theirs.llf, rtol=1e-10)
    assert_allclose(ours.pvalues, theirs.pvalues.iloc[:2], rtol=1e-6)


def test_poisson_unadjusted_and_stata_covariances(panel):
    plain = poisson("count ~ x + z", panel, cov="unadjusted", effects=())
    glm = sm.GLM(panel["count"], sm.add_constant(panel[["x", "z"]]), family=sm.families.Poisson()).fit(
        tol=1e-14
    )
    assert_allclose(plain.params, glm.params, atol=1e-8)
    assert_allclose(plain.std_errors, glm.bse, rtol=1e-7)
    ours, stata = (poisson("count ~ x + z", panel, convention=name) for name in ("linearmodels", "stata"))
    g = ours.n_clusters
    assert_allclose(stata.cov, ours.cov * g / (g - 1), rtol=1e-12)


def test_within_equals_panelols_with_its_own_covariances(panel):
    model = PanelOLS(panel["y"], panel[["x", "z"]], entity_effects=True, time_effects=True)
    for cov, options in {
        "clustered": {"cov_type": "clustered", "cluster_entity": True},
        "robust": {"cov_type": "robust"},
        "unadjusted": {"cov_type": "unadjusted"},
    }.items():
        ours, theirs = within("y ~ x + z", panel, cov=cov), model.fit(**options)
        assert_allclose(ours.params, theirs.params, rtol=1e-10)
        assert_allclose(ours.cov, theirs.cov, rtol=1e-10)
        if cov == "clustered":  # clusters are what is independent, so ours has fewer degrees of freedom
            assert ours.df == panel.index.get_level_values(0).nunique() - 1
            continue
        assert_allclose(ours.pvalues, theirs.pvalues, rtol=1e-8, atol=1e-12)
        assert_allclose(ours.conf_int(), theirs.conf_int(), rtol=1e-10)


def test_driscoll_kraay_counts_periods(panel):
    ours = within("y ~ x + z", panel, cov="driscoll-kraay")
    assert ours.df == panel.index.get_level_values(1).nunique() - 1
    t = ours.params / ours.std_errors
    assert_allclose(ours.pvalues, 2 * stats.t.sf(abs(t), ours.df), rtol=1e-12)


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
    inner = demean(panel[["x", "z"]].to_numpy(), _codes(panel))
    bread = np.linalg.inv(inner.T @ inner)
    scores = pd.DataFrame(inner * residual.to_numpy()[:, None], index=panel.index).groupby("entity").sum()
    n, g, k = len(panel), panel.index.get_level_values(0).nunique(), 2 + 1 + 3
    expected = bread @ (scores.T.to_numpy() @ scores.to_numpy()) @ bread * g / (g - 1) * (n - 1) / (n - k)
    assert_allclose(ours.cov, expected, rtol=1e-8)


def _codes(panel):
    return tuple(pd.factorize(panel.index.get_level_values(level))[0] for level in (0, 1))


def test_other_effects_equal_dummies(panel):
    ours = within("y ~ x + z", panel, effects=("group*time",), cov="unadjusted")
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


def test_slopes_are_recovered_from_simulated_panels():
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


def test_driscoll_kraay_has_the_same_coefficients_and_other_errors(panel):
    clustered, kraay = (within("y ~ x + z", panel, cov=cov) for cov in ("clustered", "driscoll-kraay"))
    assert_allclose(kraay.params, clustered.params)
    assert not np.allclose(kraay.std_errors, clustered.std_errors)
    assert kraay.n_clusters is None and "1 lags" in kraay.cov_label
    assert any("4 periods" in note for note in kraay.notes)


def test_drops_are_counted_with_their_reason(panel):
    frame = panel.copy()
    frame.iloc[0:2, frame.columns.get_loc("x")] = np.nan
    lone = frame.drop(frame.loc[[7]].index[1:])
    lone.loc[11, "count"] = 0.0
    result = poisson("count ~ x + z", lone)
    reasons = {item.reason.split()[0]: item.n for item in result.dropped}
    assert reasons["with"] == 2 and reasons["alone"] >= 1 and reasons["in"] >= 3
    assert result.nobs + sum(item.n for item in result.dropped) == len(lone)


def test_few_clusters_are_noted_and_logged(panel, caplog):
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        result = within("y ~ x", panel, cluster="group")
    assert any("only 12 clusters (group)" in note for note in result.notes)
    assert "only 12 clusters" in caplog.text


def test_results_print_everything_a_table_must_state(panel):
    result = within("y ~ x + z", panel)
    for text in (result.to_markdown(), result.to_latex()):
        for word in ("least squares", "clustered by entity", "observations: ", "entities: 50", "periods: 4"):
            assert word in text
    frame = result.to_frame()
    assert_allclose(frame["statistic"], frame["estimate"] / frame["std_error"])
    assert list(frame.columns) == ["estimate", "std_error", "statistic", "p_value", "lower", "upper"]


BAD = {
    "no tilde": ("y x", {}, "exactly one '~'"),
    "blank term": ("y ~ x +", {}, "blank term"),
    "term twice": ("y ~ x + x", {}, "'x' twice"),
    "unknown column": ("y ~ xx", {}, "'xx' is not in the panel.*Did you mean"),
    "unknown transform": ("y ~ log(x)", {}, r"Transform 'log' is not known. Use ln\(x\)"),
    "misspelt transform": ("y ~ lgo1p(x)", {}, "Did you mean 'log1p'"),
    "log of negative": ("y ~ ln(x)", {}, r"ln\(x\) is not defined for .* at 20"),
    "text column": ("y ~ word", {}, "'word' is not numeric"),
    "absorbed": ("y ~ x + fixed", {}, "'fixed' is absorbed by entity and time"),
    "collinear": ("y ~ x + twice", {}, "'twice' is a combination of 'x' and the effects"),
    "unknown effect": ("y ~ x", {"effects": ("entitty",)}, "'entitty' is not an effect.*'entity'"),
    "unknown cluster": ("y ~ x", {"cluster": "vilage"}, "'vilage' is not an effect or cluster"),
    "unknown covariance": ("y ~ x", {"cov": "hac"}, "cov='hac' is not known"),
    "unknown convention": ("y ~ x", {"convention": "R"}, "convention='R' is not known"),
    "stata kraay": ("y ~ x", {"cov": "driscoll-kraay", "convention": "stata"}, "not defined for"),
    "too few clusters": ("y ~ x + z", {"cluster": "half"}, "2 clusters .half. for 2 coefficients"),
    "no rows": ("y ~ x", {"times": (1999,)}, "no observation is left"),
    "three effects": ("y ~ x", {"effects": ("entity", "time", "group")}, "at most two"),
}


def test_one_effect_may_be_a_bare_word(panel):
    assert within("y ~ x", panel, effects="entity").spec.effects == ("entity",)
    assert poisson("count ~ x", panel, effects="entity").spec == poisson("count ~ x", panel, effects=["entity"]).spec


def test_an_estimate_shows_itself(panel):
    found = within("y ~ x + z", panel)
    assert len(repr(found).splitlines()) == 2
    assert "y ~ x + z" in repr(found) and f"x = {found.params['x']:.4g}" in repr(found)
    assert found._repr_markdown_() == found.to_markdown()
    said = found.summary()
    assert f"{found.std_errors['z']:.4f}" in said and "observations: " in said
    noted = poisson("count ~ x", panel, cluster="group")
    assert noted.notes and f"note: {noted.notes[0]}" in noted.summary()


@pytest.mark.parametrize("case", BAD)
def test_what_the_data_cannot_support_is_refused_by_name(panel, case):
    formula, options, said = BAD[case]
    frame = panel.assign(
        word="a",
        fixed=panel.index.get_level_values(0) * 1.0,
        twice=2 * panel["x"],
        half=panel.index.get_level_values(0) % 2,
    )
    with pytest.raises(EstimationError, match=said):
        within(formula, frame, **options)


def test_more_coefficients_than_observations_are_refused(panel):
    with pytest.raises(EstimationError, match=r"no observation is left .4 alone in their time group"):
        within("y ~ x + z", panel.loc[[1]], effects=("time",), cov="unadjusted")
    with pytest.raises(EstimationError, match="4 observations for 2 coefficients and 3 effects"):
        within("y ~ x + z", panel.loc[[1, 2]].query("time < 2012"), cov="unadjusted")


def test_poisson_refuses_negative_outcomes_and_separation(panel):
    with pytest.raises(EstimationError, match="negative"):
        poisson("y ~ x", panel)
    with pytest.raises(EstimationError, match="Driscoll-Kraay"):
        poisson("count ~ x", panel, cov="driscoll-kraay")
    rng = np.random.default_rng(0)
    apart = ((panel["count"] == 0) & (rng.random(len(panel)) < 0.3)).astype(float)
    with pytest.raises(EstimationError, match="predicted perfectly"):
        poisson("count ~ x + apart", panel.assign(apart=apart))
    with pytest.raises(EstimationError, match="no observation is left"):
        poisson("none ~ x", panel.assign(none=0.0))


def test_panels_that_are_not_panels_are_refused(panel):
    with pytest.raises(EstimationError, match="set_index"):
        within("y ~ x", panel.reset_index())
    with pytest.raises(EstimationError, match="twice"):
        within("y ~ x", pd.concat([panel, panel.iloc[:1]]))
    named = panel.rename(index={2010: "first"}, level=1)
    with pytest.raises(EstimationError, match="not numbers"):
        within("y ~ x", named)


@pytest.mark.parametrize("column", ["y", "x"])
def test_an_infinite_value_is_named(panel, column):
    spoiled = panel.copy()
    entity, time = spoiled.index[3]
    spoiled.loc[(entity, time), column] = np.inf
    with pytest.raises(EstimationError, match=rf"{column} is infinite for '?{entity}'? in {time}"):
        within("y ~ x", spoiled)
