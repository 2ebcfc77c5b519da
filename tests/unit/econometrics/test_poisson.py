"""Poisson pseudo maximum likelihood: against GLM with dummies, and where no estimate exists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy import stats

from villageflow.econometrics import poisson
from villageflow.errors import EstimationError


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
    assert_allclose(ours.pvalues, 2 * stats.t.sf(np.abs(theirs.tvalues.iloc[:2]), ours.n_clusters - 1), rtol=1e-6)


def test_poisson_unadjusted_and_stata_covariances(panel):
    plain = poisson("count ~ x + z", panel, cov_type="unadjusted", effects=())
    glm = sm.GLM(panel["count"], sm.add_constant(panel[["x", "z"]]), family=sm.families.Poisson()).fit(
        tol=1e-14
    )
    assert_allclose(plain.params, glm.params, atol=1e-8)
    assert_allclose(plain.std_errors, glm.bse, rtol=1e-7)
    ours, stata = (poisson("count ~ x + z", panel, convention=name) for name in ("linearmodels", "stata"))
    g = ours.n_clusters
    assert_allclose(stata.cov, ours.cov * g / (g - 1), rtol=1e-12)
    assert (ours.df, stata.df, plain.df) == (g - 1, None, None)  # the packages with this estimator use the normal


def test_drops_are_counted_with_their_reason(panel):
    frame = panel.copy()
    frame.iloc[0:2, frame.columns.get_loc("x")] = np.nan
    lone = frame.drop(frame.loc[[7]].index[1:])
    lone.loc[11, "count"] = 0.0
    result = poisson("count ~ x + z", lone)
    reasons = {item.reason.split()[0]: item.n for item in result.dropped}
    assert reasons["with"] == 2 and reasons["alone"] >= 1 and reasons["in"] >= 3
    assert result.nobs + sum(item.n for item in result.dropped) == len(lone)


def test_poisson_refuses_negative_outcomes_and_separation(panel):
    with pytest.raises(EstimationError, match=r"y is negative for \d+ at 20\d\d, .* rows in all"):
        poisson("y ~ x", panel)
    with pytest.raises(EstimationError, match="not defined for Driscoll-Kraay"):
        poisson("count ~ x", panel, cov_type="driscoll-kraay", convention="stata")
    rng = np.random.default_rng(0)
    apart = ((panel["count"] == 0) & (rng.random(len(panel)) < 0.3)).astype(float)
    with pytest.raises(EstimationError, match="predicted perfectly"):
        poisson("count ~ x + apart", panel.assign(apart=apart))
    with pytest.raises(EstimationError, match="no observation is left"):
        poisson("none ~ x", panel.assign(none=0.0))


def test_outcomes_of_any_scale_settle(make_panel):
    panel = make_panel(n_entities=60)
    plain = poisson("count ~ x + z", panel)
    for scale in (1e-6, 1e9):
        found = poisson("count ~ x + z", panel.assign(count=scale * panel["count"], x=1e8 * panel["x"]))
        assert_allclose(found.params * [1e8, 1], plain.params, rtol=1e-8)
        assert_allclose(found.statistics, plain.statistics, rtol=1e-7)
    rng = np.random.default_rng(1)
    large = panel.assign(count=rng.poisson(np.exp(14 + 0.5 * panel["x"])).astype(float))
    assert abs(poisson("count ~ x", large).params["x"] - 0.5) < 1e-3


def test_a_separated_zero_is_refused_whatever_its_group(panel):
    lone = panel["count"] * 0.0
    lone[panel.index[panel["count"] == 0][0]] = 1.0
    with pytest.raises(EstimationError, match="1 zero outcomes are predicted perfectly, the first is"):
        poisson("count ~ x + lone", panel.assign(lone=lone), effects=())


def test_the_mean_may_be_right_where_the_distribution_is_not(make_panel):
    draws = [make_panel(n_entities=150, seed=seed, gaps=False) for seed in range(8)]
    params = []
    for i, draw in enumerate(draws):
        rng = np.random.default_rng(i)
        line = 0.5 * draw["x"] - 0.3 * draw["z"] + draw["flat"]
        params.append(poisson("cost ~ x + z", draw.assign(cost=np.exp(line) * rng.exponential(size=len(draw)))).params)
    params = np.array(params)
    assert (np.abs(params.mean(axis=0) - [0.5, -0.3]) < 4 * params.std(axis=0) / np.sqrt(8) + 0.01).all()
