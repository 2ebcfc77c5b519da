"""Instrumental variables: strength, sets that hold with weak instruments, over-identification, endogeneity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from linearmodels.iv import IV2SLS, IVGMM
from numpy.testing import assert_allclose
from scipy import stats

from villageflow.econometrics import Conley, DriscollKraay, Jackknife, Spec, iv, pooled, within
from villageflow.econometrics.draw import draw_sample
from villageflow.econometrics.instruments import anderson_rubin_set
from villageflow.econometrics.sample import demean
from villageflow.errors import EstimationError

FORMULA = "v ~ z + [w ~ p + q]"


def taken_out(panel, names):
    """Columns less two-way effects."""
    groups = tuple(pd.factorize(panel.index.get_level_values(level))[0] for level in (0, 1))
    return pd.DataFrame(demean(panel[list(names)].to_numpy(), groups), columns=list(names), index=panel.index)


def spec_of(formula=FORMULA, effects=("entity", "time"), **options):
    from villageflow.econometrics.spec import as_covariance

    return Spec(formula, "iv2sls", effects, as_covariance(options.pop("cov_type", "clustered")), **options)


def set_of(formula, panel, **options):
    spec = spec_of(formula, **options)
    return anderson_rubin_set(spec, draw_sample(spec, panel))


def ar_p_value(panel, value, formula="q", cov_type="clustered", effects=("entity", "time")):
    """The p-value of the instruments in a regression of v - value w by the package's own least squares."""
    frame = panel.assign(left=panel["v"] - value * panel["w"])
    found = within(f"left ~ z + {formula}", frame, cov_type=cov_type, effects=effects)
    return found.wald(formula.split(" + ")).p_value


def test_two_stage_least_squares_recover_the_slope_that_least_squares_miss(make_panel):
    draws = [make_panel(n_entities=80, seed=seed) for seed in range(10)]
    good = np.array([iv(FORMULA, draw).params["w"] for draw in draws])
    bad = np.array([within("v ~ z + w", draw).params["w"] for draw in draws])
    assert abs(good.mean() - 0.7) < 4 * good.std() / np.sqrt(10) + 0.01
    assert bad.mean() > 0.85


def test_the_effective_f_of_one_instrument_is_its_squared_t_with_the_known_critical_value(panel):
    found = iv("v ~ z + [w ~ p]", panel)
    first = within("w ~ z + p", panel)
    strength = found.diagnostics["effective F"]
    assert_allclose(strength.statistic, first.statistics["p"] ** 2, rtol=1e-9)
    assert "above 23.1" in strength.says
    assert_allclose(strength.p_value, stats.ncx2.sf(strength.statistic, 1, 10), rtol=1e-8)


@pytest.mark.parametrize("cov_type", ["clustered", "robust", "unadjusted"])
def test_the_effective_f_equals_its_formula(panel, cov_type):
    found = iv(FORMULA, panel, cov_type=cov_type).diagnostics["effective F"]
    inner = taken_out(panel, ["w", "z", "p", "q"])
    exogenous = inner[["z"]].to_numpy()
    columns = inner[["w", "p", "q"]].to_numpy()
    columns = columns - exogenous @ np.linalg.lstsq(exogenous, columns, rcond=None)[0]
    w, z = columns[:, 0], columns[:, 1:]
    first = within("w ~ z + p + q", panel, cov_type=cov_type)
    root = np.linalg.cholesky(z.T @ z).T  # of orthonormal instruments the covariance is root V root'
    middle = root @ first.cov.loc[["p", "q"], ["p", "q"]].to_numpy() @ root.T
    fit = z @ np.linalg.lstsq(z, w, rcond=None)[0]
    assert_allclose(found.statistic, fit @ fit / np.trace(middle), rtol=1e-9)
    top = np.linalg.eigvalsh(middle)[-1]
    k = np.trace(middle) ** 2 * 21 / (np.sum(middle**2) + 20 * np.trace(middle) * top)
    assert f"above {stats.ncx2.ppf(0.95, k, 10 * k) / k:.1f}" in found.says


def test_the_effective_f_rejects_weakness_of_strong_instruments_only(make_panel):
    panel = make_panel(n_entities=300)
    rng = np.random.default_rng(1)
    weak = panel.assign(n1=rng.normal(size=len(panel)), n2=rng.normal(size=len(panel)))
    assert iv(FORMULA, panel).diagnostics["effective F"].p_value < 0.05
    assert iv("v ~ z + [w ~ n1 + n2]", weak).diagnostics["effective F"].p_value > 0.5


@pytest.mark.parametrize("cov_type", ["clustered", "robust", "unadjusted", DriscollKraay(1), Conley("lat", "lon", 200)])
def test_an_anderson_rubin_set_ends_where_its_test_rejects(make_panel, cov_type):
    panel = make_panel(n_periods=8)
    for instruments in ("p", "p + q + r"):
        ((lower, upper),) = set_of(f"v ~ z + [w ~ {instruments}]", panel, cov_type=cov_type)
        for end in (lower, upper):
            assert_allclose(ar_p_value(panel, end, instruments, cov_type), 0.05, rtol=1e-6)
        assert ar_p_value(panel, (lower + upper) / 2, instruments, cov_type) > 0.05
    zero = iv("v ~ z + [w ~ p + q + r]", panel, cov_type=cov_type).diagnostics["Anderson-Rubin"]
    assert_allclose(zero.p_value, ar_p_value(panel, 0.0, "p + q + r", cov_type), rtol=1e-9)


def test_anderson_rubin_sets_may_be_unbounded_disjoint_or_empty(make_panel):
    panel = make_panel(seed=11)
    rng = np.random.default_rng(2)
    frame = panel.assign(weak=0.02 * panel["p"] + rng.normal(size=len(panel)), bad=panel["q"] + 2 * panel["v"])
    seen = {"whole": 0, "disjoint": 0}
    for seed in range(30):
        noise = np.random.default_rng(seed).normal(size=len(panel))
        found = set_of("v ~ z + [w ~ noise]", frame.assign(noise=noise))
        assert np.isinf(found[0][0]) == np.isinf(found[-1][1])
        if found == ((-np.inf, np.inf),):
            seen["whole"] += 1
        if len(found) == 2:
            (low, one), (two, high) = found
            seen["disjoint"] += 1
            assert low == -np.inf and high == np.inf and one < two
            noisy, at = frame.assign(noise=noise), (one - 1, (one + two) / 2, two + 1)
            p = [ar_p_value(noisy, value, "noise") for value in at]
            assert p[0] > 0.05 > p[1] and p[2] > 0.05
    assert seen["whole"] >= 20 and seen["disjoint"] >= 1
    assert set_of("v ~ z + [w ~ p + q + bad]", frame) == ()
    said = iv("v ~ z + [w ~ p + q + bad]", frame).diagnostics["Anderson-Rubin"].says
    assert "95 % set empty" in said


def test_a_narrow_anderson_rubin_set_is_not_missed(make_panel):
    panel = make_panel(n_entities=200)
    rng = np.random.default_rng(0)
    strong = panel.assign(s=panel["w"] * 1e3, v=panel["v"] + 1e6 * panel["z"])
    strong["w"] = strong["s"] + rng.normal(size=len(panel))
    strong["v"] = 0.7 * strong["w"] + 1e6 * panel["z"] + rng.normal(size=len(panel))
    ((lower, upper),) = set_of("v ~ z + [w ~ s]", strong)
    assert lower < 0.7 < upper and upper - lower < 1e-3


def test_anderson_rubin_sets_cover_a_weakly_identified_slope_and_wald_intervals_do_not(make_panel):
    covered = {"set": 0, "Wald": 0}
    n = 120
    for seed in range(n):
        rng = np.random.default_rng([7, seed])
        index = pd.MultiIndex.from_product([range(200), [0]], names=["entity", "time"])
        frame = pd.DataFrame({"p": rng.normal(size=200)}, index=index)
        error = rng.normal(size=200)
        frame["w"] = 0.03 * frame["p"] + error + 0.2 * rng.normal(size=200)
        frame["v"] = 0.7 * frame["w"] + error
        found = set_of("v ~ [w ~ p]", frame, cov_type="robust", effects=())
        covered["set"] += any(low <= 0.7 <= high for low, high in found)
        fit = iv("v ~ [w ~ p]", frame, cov_type="robust", effects=()).conf_int().loc["w"]
        covered["Wald"] += fit["lower"] <= 0.7 <= fit["upper"]
    assert stats.binom.sf(covered["set"] - 1, n, 0.95) > 0.001 and stats.binom.cdf(covered["set"], n, 0.95) > 0.001
    assert stats.binom.cdf(covered["Wald"], n, 0.95) < 0.001


@pytest.mark.parametrize("cov_type", ["clustered", "robust", "unadjusted"])
@pytest.mark.parametrize("method", ["2sls", "gmm"])
def test_hansen_j_equals_linearmodels(panel, cov_type, method):
    found = iv("v ~ z + [w ~ p + q + r]", panel, method=method, cov_type=cov_type).diagnostics["Hansen J"]
    inner = taken_out(panel, ["v", "z", "w", "p", "q", "r"])
    weights = {"weight_type": cov_type}
    if cov_type == "clustered":
        weights["clusters"] = pd.factorize(panel.index.get_level_values(0))[0]
    theirs = IVGMM(inner["v"], inner[["z"]], inner["w"], inner[["p", "q", "r"]], **weights).fit().j_stat
    assert_allclose([found.statistic, found.p_value], [theirs.stat, theirs.pval], rtol=1e-8)
    assert found.distribution == "chi2(2)"


def test_hansen_j_rejects_an_instrument_that_is_not_valid(make_panel):
    panel = make_panel(n_entities=200)
    bad = panel.assign(bad=panel["q"] + 0.5 * panel["v"])
    assert iv("v ~ z + [w ~ p + q]", panel).diagnostics["Hansen J"].p_value > 0.01
    assert iv("v ~ z + [w ~ p + bad]", bad).diagnostics["Hansen J"].p_value < 0.001
    assert "Hansen J" not in iv("v ~ z + [w ~ p]", panel).diagnostics
    assert "Hansen J" not in iv(FORMULA, panel, cov_type="driscoll-kraay", effects="entity").diagnostics


def test_the_test_of_endogeneity_equals_linearmodels(panel):
    fit = iv("v ~ [w ~ p + q]", panel, effects=(), cov_type="robust", convention="fixest")
    found = fit.diagnostics["endogeneity"]
    model = IV2SLS(panel["v"], panel.assign(one=1.0)[["one"]], panel["w"], panel[["p", "q"]])
    theirs = model.fit().wooldridge_regression
    n, k = len(panel), 3
    assert_allclose(found.statistic, theirs.stat * (n - k) / n, rtol=1e-8)
    assert found.p_value < 0.001
    # under exogeneity it does not reject
    assert iv("y ~ z + [x ~ s]", panel.assign(s=panel["x"] + panel["p"])).diagnostics["endogeneity"].p_value > 0.01


def test_several_endogenous_regressors_get_first_stage_tests_and_a_joint_one(panel):
    found = iv("v ~ [w + z ~ p + q + r + s]", panel.assign(s=panel["z"] + panel["flat"] * 0.1 + panel["r"]))
    tests = {"first-stage F, w", "first-stage F, z", "Anderson-Rubin", "Hansen J", "endogeneity"}
    assert set(found.diagnostics) == tests
    assert found.diagnostics["Anderson-Rubin"].says.startswith("w = z = 0")
    spec = spec_of("v ~ [w + x ~ p + q + r]")
    with pytest.raises(EstimationError, match="needs one endogenous regressor, and there are 2"):
        anderson_rubin_set(spec, draw_sample(spec, panel))


def test_the_jackknife_has_the_diagnostics_of_clustered_errors(panel):
    left_out, plain = (iv(FORMULA, panel, cov_type=cov).diagnostics for cov in (Jackknife("entity"), "clustered"))
    assert left_out == plain


def test_more_instruments_than_clusters_are_noted_and_their_tests_not_defined(panel):
    rng = np.random.default_rng(4)
    names = [f"i{j}" for j in range(14)]
    many = panel.assign(**{name: panel["w"] + 3 * rng.normal(size=len(panel)) for name in names})
    found = iv(f"v ~ z + [w ~ {' + '.join(names)}]", many, cluster="group")
    assert any("14 instruments for 12 clusters (group): tests of them are unreliable" in note for note in found.notes)
    for name in ("Anderson-Rubin", "Hansen J"):
        assert np.isnan(found.diagnostics[name].statistic) and "not defined" in found.diagnostics[name].says
    spec = Spec(found.spec.formula, "iv2sls", cov_type=found.spec.cov_type)
    with pytest.raises(EstimationError, match="covariance of 14 instruments is singular"):
        anderson_rubin_set(spec, draw_sample(spec, many))


def test_tables_say_the_diagnostics(panel):
    found = iv(FORMULA, panel)
    for text in (found.summary(), found.to_markdown(), found.to_latex(), str(found.describe())):
        for word in ("effective F", "Anderson-Rubin", "Hansen J", "endogeneity", "two-stage least squares"):
            assert word in text


REFUSED = {
    "no instruments": ("v ~ w", {}, "no instruments. Write"),
    "too few": ("v ~ [w + x ~ p]", {}, "1 instruments for 2 endogenous regressors; the equation is not identified"),
    "absorbed instrument": ("v ~ [w ~ flat]", {}, "'flat' is absorbed by entity and time"),
    "collinear instrument": ("v ~ z + [w ~ p + twice]", {}, "'twice' is a combination of 'z', 'p' and the effects"),
    "method": ("v ~ [w ~ p]", {"method": "3sls"}, "method='3sls' is not known"),
    "weights": (FORMULA, {"method": "gmm", "cov_type": "driscoll-kraay"}, "GMM weights are not defined for Driscoll"),
    "two-way": (FORMULA, {"method": "gmm", "cluster": ("entity", "time")}, "GMM weights are not defined for clus"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_instruments_that_cannot_serve_are_refused_by_name(panel, case):
    formula, options, said = REFUSED[case]
    with pytest.raises(EstimationError, match=said):
        iv(formula, panel.assign(twice=2 * panel["p"] - panel["z"]), **options)


def test_instruments_beside_an_estimator_that_takes_none_are_refused(panel):
    with pytest.raises(EstimationError, match="'within' takes no instruments"):
        pooled(FORMULA, panel)


def test_iv_keeps_to_the_times_asked_for(panel):
    found = iv(FORMULA, panel, times=(2010, 2011, 2012))
    assert found.n_periods == 3
