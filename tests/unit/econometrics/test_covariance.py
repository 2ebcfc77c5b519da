"""Covariances by brute force: double loops, refits without a cluster, effective numbers of clusters, sup-t bands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from villageflow.econometrics import (
    Clustered,
    Conley,
    DriscollKraay,
    Spec,
    between,
    correlated_random_effects,
    estimate,
    first_difference,
    iv,
    poisson,
    pooled,
    random_effects,
    within,
)
from villageflow.econometrics.covariance import great_circle
from villageflow.errors import EstimationError

VERBS = {
    "pooled": (pooled, "y ~ x + z", {}),
    "entity": (within, "y ~ x + z", {"effects": "entity"}),
    "two-way": (within, "y ~ x + z", {}),
    "random": (random_effects, "y ~ x + z", {}),
    "correlated random": (correlated_random_effects, "y ~ x + z", {}),
    "first difference": (first_difference, "y ~ x + z", {}),
    "between": (between, "y ~ x + z", {}),
    "poisson": (poisson, "count ~ x + z", {}),
    "2sls": (iv, "v ~ z + [w ~ p + q]", {}),
    "liml": (iv, "v ~ z + [w ~ p + q]", {"method": "liml"}),
    "gmm": (iv, "v ~ z + [w ~ p + q]", {"method": "gmm"}),
}


@pytest.mark.parametrize("name", VERBS)
def test_outer_products_of_influence_are_the_clustered_covariance(panel, name):
    verb, formula, options = VERBS[name]
    found = verb(formula, panel, cov_type="clustered", convention="stata", **options)
    g, n, k = found.n_clusters, found.nobs, len(found.params)
    influence = found.influence.to_numpy()
    assert len(influence) == found.n_entities
    effects = {"entity": 1, "two-way": found.n_periods, "2sls": found.n_periods}
    k += effects.get(name, found.n_periods if name in ("liml", "gmm") else 0)
    factor = g / (g - 1) * (1.0 if name == "poisson" else (n - 1) / (n - k))
    assert_allclose(influence.T @ influence * factor, found.cov, rtol=1e-9)
    if name != "liml":  # whose moments hold on average of observations weighted by kappa
        assert np.abs(influence.sum(axis=0)).max() < 1e-9 * np.abs(influence).max() * n


@pytest.mark.parametrize("name", [name for name in VERBS if name != "gmm"])
@pytest.mark.parametrize("cluster", ["entity", "group", "time"])
def test_the_jackknife_is_what_leaving_out_each_cluster_changes(make_panel, name, cluster):
    panel = make_panel(n_entities=24 if cluster == "entity" else 50)
    verb, formula, options = VERBS[name]
    if name == "between" and cluster == "time":
        with pytest.raises(EstimationError, match="varies within an entity"):
            verb(formula, panel, cov_type="jackknife", cluster=cluster, **options)
        return
    if cluster == "time" and len(verb(formula, panel, cov_type="robust", **options).params) >= 4:
        with pytest.raises(EstimationError, match=r"clusters .time. for"):
            verb(formula, panel, cov_type="jackknife", cluster=cluster, **options)
        return
    found = verb(formula, panel, cov_type="jackknife", cluster=cluster, **options)
    keys = panel["group"] if cluster == "group" else pd.Series(panel.index.get_level_values(cluster), index=panel.index)
    if name == "first difference":  # the outcome of a period belongs to its cluster: refit on the changes
        changes = {c: panel[c] - panel.groupby(level=0)[c].shift().where(consecutive(panel)) for c in ("y", "x", "z")}
        frame = pd.DataFrame(changes).dropna()
        verb, options, keys = within, {"effects": ()}, keys[frame.index]
        params = [ols(frame[keys != key]) - found.params.to_numpy() for key in keys.unique()]
    else:
        refit = {"cov_type": "robust", **options}
        params = [verb(formula, panel[keys != key], **refit).params - found.params for key in keys.unique()]
    moved, g = np.array(params), found.n_clusters
    assert_allclose(found.cov, moved.T @ moved * (g - 1) / g, rtol=1e-6)
    assert found.cov_label.startswith(f"clustered by {cluster}, jackknife")


def test_the_jackknife_over_periods_takes_entity_means_of_what_is_left(make_panel):
    panel = make_panel(n_entities=20, n_periods=8)
    found = correlated_random_effects("y ~ x + z", panel, cov_type="jackknife", cluster="time")
    times = panel.index.get_level_values(1)
    params = [correlated_random_effects("y ~ x + z", panel[times != t]).params - found.params for t in times.unique()]
    moved = np.array(params)
    assert_allclose(found.cov, moved.T @ moved * 7 / 8, rtol=1e-7)


def consecutive(panel):
    times = pd.Series(panel.index.get_level_values(1), index=panel.index)
    return times.diff() == 1


def ols(frame):
    return np.linalg.lstsq(frame[["x", "z"]].to_numpy(), frame["y"].to_numpy(), rcond=None)[0]


def test_the_jackknife_refuses_what_only_one_cluster_identifies(panel):
    entity = panel.index.get_level_values(0)
    lone = panel.assign(lone=np.where(entity == 7, panel["z"], 0.0))
    with pytest.raises(EstimationError, match="no estimate without the cluster of 7 at 20"):
        within("y ~ x + lone", lone, cov_type="jackknife")
    with pytest.raises(EstimationError, match="no estimate without the cluster of 7 at 20"):
        random_effects("y ~ x + lone", lone, cov_type="jackknife")


def test_the_poisson_jackknife_drops_groups_that_are_left_with_zeros(make_panel):
    panel = make_panel(seed=5)
    time = panel.index.get_level_values(1)
    odd = panel["group"] == panel["group"].iloc[0]
    panel.loc[(time == 2013) & ~odd, "count"] = 0.0
    found = poisson("count ~ x + z", panel, cov_type="jackknife", cluster="group")
    params = [
        poisson("count ~ x + z", panel[panel["group"] != g], cov_type="robust").params - found.params
        for g in panel["group"].unique()
    ]
    moved, n = np.array(params), found.n_clusters
    assert_allclose(found.cov, moved.T @ moved * (n - 1) / n, rtol=1e-6)


def scores(found, panel, x):
    """Contributions of observations to the coefficients of two-way least squares, by dummies."""
    index = found.residuals.index
    frame = panel.loc[index]
    dummies = [pd.get_dummies(index.get_level_values(level), dtype=float).to_numpy() for level in (0, 1)]
    d = np.hstack(dummies)
    inner = frame[x].to_numpy() - d @ np.linalg.lstsq(d, frame[x].to_numpy(), rcond=None)[0]
    return inner * found.residuals.to_numpy()[:, None] @ np.linalg.inv(inner.T @ inner)


@pytest.mark.parametrize("kernel", ["bartlett", "uniform"])
@pytest.mark.parametrize("lags", [0, 2])
def test_conley_errors_equal_a_double_loop(panel, kernel, lags):
    spec = Spec("y ~ x + z", cov_type=Conley("lat", "lon", 250, kernel, lags))
    found = estimate(spec, panel)
    psi, index = scores(found, panel, ["x", "z"]), found.residuals.index
    places = panel.loc[index, ["lat", "lon"]].to_numpy()
    cov = np.zeros((2, 2))
    for i, (entity, time) in enumerate(index):
        for j, (other, then) in enumerate(index):
            weight = 0.0
            if time == then:
                apart = great_circle(places[[i]], places[[j]])[0, 0]
                weight = max(1 - apart / 250, 0) if kernel == "bartlett" else float(apart <= 250)
            elif entity == other:
                weight = max(1 - abs(time - then) / (lags + 1), 0)
            cov += weight * np.outer(psi[i], psi[j])
    n = len(index)
    expected = cov * n / (n - 2 - (found.n_entities + found.n_periods - 1))
    assert np.linalg.eigvalsh(expected)[0] > 0 and not found.notes
    assert_allclose(found.cov, expected, rtol=1e-9)
    assert "250 km" in found.cov_label


def test_conley_errors_are_robust_ones_for_places_far_apart_and_need_no_common_first_period(panel):
    near = within("y ~ x + z", panel, cov_type=Conley("lat", "lon", 1e-3))
    assert_allclose(near.cov, within("y ~ x + z", panel, cov_type="robust").cov, rtol=1e-9)
    assert (between("y ~ x", panel, cov_type=Conley("lat", "lon", 1e-3)).cov.to_numpy() > -np.inf).all()
    late = panel.drop(panel.loc[[3]].index[0])  # entity 3 starts later: its mean is still near the others
    spec = Conley("lat", "lon", 300)
    means = late.groupby(level=0).mean()
    means.index = pd.MultiIndex.from_product([means.index, [2010]], names=["entity", "time"])
    assert_allclose(between("y ~ x", late, cov_type=spec).cov, pooled("y ~ x", means, cov_type=spec).cov, rtol=1e-9)


def test_great_circles_have_known_lengths():
    london, paris, pole = np.array([[51.5074, -0.1278]]), np.array([[48.8566, 2.3522]]), np.array([[90.0, 0.0]])
    assert_allclose(great_circle(london, paris), 343.5, atol=0.5)
    assert_allclose(great_circle(np.zeros((1, 2)), pole), np.pi / 2 * 6371.0088, rtol=1e-12)
    assert great_circle(london, london)[0, 0] == 0


def test_driscoll_kraay_errors_equal_a_double_loop_over_periods_with_a_gap(make_panel):
    panel = make_panel(n_periods=9)
    panel = panel[panel.index.get_level_values(1) != 2014]
    found = within("y ~ x + z", panel, cov_type=DriscollKraay(2))
    psi, times = scores(found, panel, ["x", "z"]), np.asarray(found.residuals.index.get_level_values(1))
    cov = np.zeros((2, 2))
    for s in np.unique(times):
        for t in np.unique(times):
            weight = max(1 - abs(s - t) / 3, 0)
            cov += weight * np.outer(psi[times == s].sum(axis=0), psi[times == t].sum(axis=0))
    n = len(times)
    assert_allclose(found.cov, cov * n / (n - 2 - (found.n_entities + found.n_periods - 1)), rtol=1e-9)
    assert found.df == 7


def test_two_way_clusters_equal_a_double_loop(make_panel):
    panel = make_panel(n_periods=12)
    found = within("y ~ x + z", panel, cluster=("group", "time"), convention="stata")
    psi, index = scores(found, panel, ["x", "z"]), found.residuals.index
    group, time = panel.loc[index, "group"].to_numpy(), np.asarray(index.get_level_values(1))
    together = (group[:, None] == group) | (time[:, None] == time)
    n, g = len(psi), min(panel["group"].nunique(), 12)
    k = 2 + 1  # entities are nested in groups, periods in periods
    assert np.linalg.eigvalsh(psi.T @ together @ psi)[0] > 0
    assert_allclose(found.cov, psi.T @ together @ psi * g / (g - 1) * (n - 1) / (n - k), rtol=1e-9)
    assert (found.n_clusters, found.df) == (g, g - 1)


def test_a_negative_two_way_covariance_is_repaired_with_a_note(make_panel):
    panel = make_panel(n_entities=48, n_periods=6)
    found = pooled("y ~ x + z", panel, cluster=("entity", "time"))
    assert any("two-way covariance had a negative eigenvalue" in note for note in found.notes)
    assert np.linalg.eigvalsh(found.cov)[0] >= -1e-12 * np.trace(found.cov)


def test_unequal_clusters_are_noted_with_their_effective_number(make_panel):
    panel = make_panel(n_entities=60, gaps=False)
    entity = panel.index.get_level_values(0)
    equal = pooled("y ~ x + z", panel)
    assert not equal.notes
    treated = pooled("y ~ d + z", panel.assign(d=(entity < 2) * 1.0))
    (note,) = treated.notes
    assert "60 clusters (entity) are so unequal that they count as" in note and "'d'" in note and "jackknife" in note
    # with 2 of 60 clusters treated: shares in the variance of d are 1/(2 n1) twice and the rest is spread over 58
    parts = np.repeat([0.5 * 58 / 60, 2 / 60 / 58], [2, 58])
    said = float(note.split("count as ")[1].split(" ")[0])
    assert abs(said - parts.sum() ** 2 / (parts**2).sum()) < 0.4
    few = within("y ~ x", panel, cluster="group")
    assert any("use cov_type='jackknife' or wild_bootstrap" in note for note in few.notes)


@pytest.mark.parametrize("cov_type", [DriscollKraay(1), Conley("lat", "lon", 250)])
def test_poisson_scores_enter_every_covariance_as_they_do_least_squares(make_panel, cov_type):
    """Contributions by a weighted regression on dummies at the estimated means."""
    panel = make_panel(n_periods=6)
    found = poisson("count ~ x + z", panel, cov_type=cov_type)
    index = found.residuals.index
    frame = panel.loc[index]
    mu = frame["count"].to_numpy() - found.residuals.to_numpy()
    d = np.hstack([pd.get_dummies(index.get_level_values(level), dtype=float).to_numpy() for level in (0, 1)])
    x, root = frame[["x", "z"]].to_numpy(), np.sqrt(mu)[:, None]
    inner = x - d @ np.linalg.lstsq(root * d, root * x, rcond=None)[0]
    psi = inner * found.residuals.to_numpy()[:, None] @ np.linalg.inv(inner.T @ (mu[:, None] * inner))
    times = np.asarray(index.get_level_values(1))
    if isinstance(cov_type, DriscollKraay):
        weight = np.maximum(1 - np.abs(times[:, None] - times) / 2, 0)
    else:
        places = frame[["lat", "lon"]].to_numpy()
        weight = np.maximum(1 - great_circle(places, places) / 250, 0) * (times[:, None] == times)
    assert_allclose(found.cov, psi.T @ weight @ psi, rtol=1e-7)
    assert found.df is None


def shown(base, params, cov, df):
    return replace(
        base, params=pd.Series(params, index=list("abcdefgh")[: len(params)]),
        cov=pd.DataFrame(cov, index=list("abcdefgh")[: len(params)], columns=list("abcdefgh")[: len(params)]), df=df,
    )  # fmt: skip


def test_sup_t_bands_follow_theory_for_independent_and_for_equal_coefficients(panel):
    base = within("y ~ x", panel)
    independent = shown(base, np.zeros(6), np.diag([1.0, 4.0, 9.0, 1.0, 1.0, 1e-6]), None).simultaneous_bands(0.9)
    exact = stats.norm.ppf(0.5 + 0.5 * 0.9 ** (1 / 6))
    assert_allclose(independent.attrs["critical_value"], exact, rtol=0.005)
    assert_allclose(independent["upper"] / [1, 2, 3, 1, 1, 1e-3], independent.attrs["critical_value"])
    equal = shown(base, np.arange(3.0), np.ones((3, 3)), 9).simultaneous_bands(0.95)
    assert_allclose(equal.attrs["critical_value"], stats.t.ppf(0.975, 9), rtol=0.01)
    opposite = shown(base, np.zeros(2), np.array([[1.0, -1.0], [-1.0, 1.0]]), None).simultaneous_bands(0.95)
    assert_allclose(opposite.attrs["critical_value"], stats.norm.ppf(0.975), rtol=0.01)
    one = shown(base, np.zeros(2), np.eye(2), None).simultaneous_bands(0.95, terms=["b"])
    assert list(one.index) == ["b"]
    assert_allclose(one.attrs["critical_value"], stats.norm.ppf(0.975), rtol=0.01)


def test_wald_tests_are_f_or_chi_squared_and_refuse_what_has_no_inverse(panel):
    found = within("y ~ x + z", panel)
    value, cov = found.params.to_numpy(), found.cov.to_numpy()
    statistic = value @ np.linalg.inv(cov) @ value
    test = found.wald()
    assert_allclose([test.statistic, test.p_value], [statistic / 2, stats.f.sf(statistic / 2, 2, found.df)], rtol=1e-10)
    chi2 = replace(found, df=None).wald(["x", "z"])
    assert_allclose([chi2.statistic, chi2.p_value], [statistic, stats.chi2.sf(statistic, 2)], rtol=1e-10)
    with pytest.raises(EstimationError, match="the covariance of 2 coefficients is singular"):
        replace(found, cov=0 * found.cov + 1).wald()
    refused = {"x x": "tuple of different names", "": "no coefficient to test", "zz": "'zz' is not a term"}
    for terms, said in refused.items():
        with pytest.raises(EstimationError, match=said):
            found.wald(terms.split())


def test_a_cluster_setting_without_use_is_refused(panel):
    with pytest.raises(EstimationError, match="has no use beside cov_type='robust'"):
        within("y ~ x", panel, cov_type="robust", cluster="group")
    assert within("y ~ x", panel, cov_type=Clustered(("group",))).n_clusters == 12


def test_a_two_way_variance_that_would_vanish_is_replaced_by_the_larger_one_way_one():
    """Alternating signs within entities and periods make products of different cells negative."""
    rng = np.random.default_rng(0)
    found = None
    for _ in range(400):
        index = pd.MultiIndex.from_product([range(6), range(2010, 2014)], names=["entity", "time"])
        frame = pd.DataFrame({"x": rng.normal(size=24), "y": rng.normal(size=24)}, index=index)
        result = within("y ~ x", frame, cov_type="clustered", cluster=("entity", "time"))
        if any("larger of the one-way" in note for note in result.notes):
            found = frame, result
            break
    assert found is not None
    frame, result = found
    one_way = [within("y ~ x", frame, cluster=name).std_errors["x"] for name in ("entity", "time")]
    factor = result.std_errors["x"] / max(one_way)
    assert 0.9 < factor < 1.1  # up to the small-sample factors, which count effects that are nested
