"""The table of conventions in docs/econometrics.md, row by row, against the packages that it names."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.datasets
from linearmodels.iv import IV2SLS, IVGMM, IVLIML
from linearmodels.panel import BetweenOLS, FirstDifferenceOLS, PanelOLS, PooledOLS, RandomEffects
from numpy.testing import assert_allclose

from villageflow.econometrics import (
    DriscollKraay,
    Spec,
    between,
    estimate,
    first_difference,
    iv,
    poisson,
    pooled,
    random_effects,
    within,
)
from villageflow.econometrics.sample import demean

EFFECTS = {
    "entity": ("entity",),
    "time": ("time",),
    "entity + time": ("entity", "time"),
    "entity + cell": ("entity", "group*time"),
    "entity + time + group": ("entity", "time", "group"),
}
ERRORS = {
    "unadjusted": ("iid", {"cov_type": "unadjusted"}),
    "robust": ("hetero", {"cov_type": "robust"}),
    "by entity": ({"CRV1": "entity"}, {}),
    "by group": ({"CRV1": "group"}, {"cluster": "group"}),
    "by group and time": ({"CRV1": "group + time"}, {"cluster": ("group", "time")}),
    "by entity and time": ({"CRV1": "entity + time"}, {"cluster": ("entity", "time")}),
    "jackknife": ({"CRV3": "group"}, {"cov_type": "jackknife", "cluster": "group"}),
}


@pytest.fixture(scope="module")
def gappy(make_panel):
    """Three entities in each of twelve groups, some observations missing, none alone in an effect."""
    panel = make_panel(n_entities=36, n_periods=10)
    return panel.assign(group=panel.index.get_level_values(0) % 12)


def flat(panel):
    frame = panel.reset_index()
    frame["cell"] = frame["group"].astype(str) + "/" + frame["time"].astype(str)
    return frame


def peer(kind, formula, panel, vcov):
    import pyfixest

    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")
        return getattr(pyfixest, kind)(formula, flat(panel), vcov=vcov, fixef_tol=1e-13, **TIGHT.get(kind, {}))


def assert_same_covariance(ours, theirs, rtol=1e-6):
    """Equal, or theirs is no covariance, which is noted here."""
    theirs = np.asarray(theirs)
    if any("eigenvalue" in note for note in ours.notes):
        assert np.linalg.eigvalsh(theirs)[0] < 0
        return
    assert_allclose(ours.cov, theirs, rtol=rtol, atol=1e-9 * np.abs(theirs).max())


TIGHT = {"fepois": {"iwls_tol": 1e-13, "iwls_maxiter": 200}}


@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize("effects", EFFECTS)
def test_least_squares_in_the_fixest_convention_equal_feols(gappy, effects, errors):
    vcov, options = ERRORS[errors]
    ours = within("y ~ x + z", gappy, effects=EFFECTS[effects], convention="fixest", **options)
    names = " + ".join("cell" if name == "group*time" else name for name in EFFECTS[effects])
    theirs = peer("feols", f"y ~ x + z | {names}", gappy, vcov)
    assert ours.nobs == theirs._N
    assert_allclose(ours.params, theirs.coef(), rtol=1e-7)
    assert_same_covariance(ours, theirs._vcov)
    assert_allclose(ours.pvalues, theirs.pvalue(), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("errors", ERRORS)
def test_pooled_least_squares_in_the_fixest_convention_equal_feols(gappy, errors):
    vcov, options = ERRORS[errors]
    ours = pooled("y ~ x + z", gappy, convention="fixest", **options)
    theirs = peer("feols", "y ~ x + z", gappy, vcov)
    assert_same_covariance(ours, theirs._vcov)
    assert_allclose(ours.pvalues, theirs.pvalue(), rtol=1e-5, atol=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize("effects", ["entity", "entity + time", "none"])
def test_poisson_in_the_fixest_convention_equals_fepois(gappy, effects, errors):
    vcov, options = ERRORS[errors]
    absorbed = EFFECTS.get(effects, ())
    ours = poisson("count ~ x + z", gappy, effects=absorbed, convention="fixest", **options)
    theirs = peer("fepois", "count ~ x + z" + (f" | {effects}" if absorbed else ""), gappy, vcov)
    assert ours.nobs == theirs._N
    assert_allclose(ours.params, theirs.coef(), rtol=1e-6)
    assert_same_covariance(ours, theirs._vcov, 1e-5)
    if not any("eigenvalue" in note for note in ours.notes):
        assert_allclose(ours.pvalues, theirs.pvalue(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("errors", [name for name in ERRORS if name != "jackknife"])
@pytest.mark.parametrize("effects", ["entity", "entity + time"])
def test_instruments_in_the_fixest_convention_equal_feols(gappy, effects, errors):
    vcov, options = ERRORS[errors]
    ours = iv("v ~ z + [w ~ p + q]", gappy, effects=EFFECTS[effects], convention="fixest", **options)
    theirs = peer("feols", f"v ~ z | {effects} | w ~ p + q", gappy, vcov)
    names = list(theirs.coef().index)
    assert_allclose(ours.params[names], theirs.coef(), rtol=1e-7)
    assert list(ours.params.index) == names
    assert_same_covariance(ours, theirs._vcov)


PANEL_ERRORS = {
    "unadjusted": ({"cov_type": "unadjusted"}, lambda panel: {"cov_type": "unadjusted"}),
    "robust": ({"cov_type": "robust"}, lambda panel: {"cov_type": "robust"}),
    "by entity": ({}, lambda panel: {"cov_type": "clustered", "cluster_entity": True}),
    "by group": ({"cluster": "group"}, lambda panel: {"cov_type": "clustered", "clusters": panel[["group"]]}),
    "by entity and time": (
        {"cluster": ("entity", "time")},
        lambda panel: {"cov_type": "clustered", "cluster_entity": True, "cluster_time": True},
    ),
    "Driscoll-Kraay": (
        {"cov_type": DriscollKraay(2)},
        lambda panel: {"cov_type": "kernel", "kernel": "bartlett", "bandwidth": 2},
    ),
    "Driscoll-Kraay, lags by rule": ({"cov_type": "driscoll-kraay"}, lambda panel: {"cov_type": "driscoll-kraay"}),
}


def constant(frame):
    return frame.assign(constant=1.0)[["constant", *frame.columns]]


PANEL_MODELS = {
    "pooled": (pooled, {}, lambda p: PooledOLS(p["y"], constant(p[["x", "z"]]))),
    "entity": (within, {"effects": "entity"}, lambda p: PanelOLS(p["y"], p[["x", "z"]], entity_effects=True)),
    "time": (within, {"effects": "time"}, lambda p: PanelOLS(p["y"], p[["x", "z"]], time_effects=True)),
    "two-way": (within, {}, lambda p: PanelOLS(p["y"], p[["x", "z"]], entity_effects=True, time_effects=True)),
    "entity and cell": (
        within,
        {"effects": ("entity", "group*time")},
        lambda p: PanelOLS(p["y"], p[["x", "z"]], entity_effects=True, other_effects=p[["cell"]]),
    ),
    "random": (random_effects, {}, lambda p: RandomEffects(p["y"], constant(p[["x", "z"]]))),
}


@pytest.mark.parametrize("errors", PANEL_ERRORS)
@pytest.mark.parametrize("model", PANEL_MODELS)
def test_panel_estimators_equal_linearmodels(gappy, model, errors):
    verb, effects, make = PANEL_MODELS[model]
    options, theirs = PANEL_ERRORS[errors]
    cell = pd.factorize(flat(gappy)["cell"])[0]
    frame = gappy.assign(cell=cell)
    ours = verb("y ~ x + z", frame, **effects, **options)
    found = make(frame).fit(**theirs(frame))
    assert_allclose(ours.params, found.params, rtol=1e-9)
    assert_same_covariance(ours, found.cov, 1e-8)


@pytest.mark.parametrize("errors", ["unadjusted", "robust", "by entity", "by group"])
def test_first_differences_equal_linearmodels(make_panel, errors):
    panel = make_panel(n_periods=6, gaps=False)
    options, theirs = PANEL_ERRORS[errors]
    ours = first_difference("y ~ x + z", panel, **options)
    model = FirstDifferenceOLS(panel["y"], panel[["x", "z"]])
    found = model.fit(**theirs(panel))
    assert_allclose(ours.params, found.params, rtol=1e-9)
    assert_allclose(ours.cov, found.cov, rtol=1e-8)


@pytest.mark.parametrize("errors", ["unadjusted", "robust", "by group"])
def test_entity_means_equal_linearmodels(gappy, errors):
    options, theirs = PANEL_ERRORS[errors]
    ours = between("y ~ x + z", gappy, **({"cov_type": "clustered"} | options))
    found = BetweenOLS(gappy["y"], constant(gappy[["x", "z"]])).fit(**theirs(gappy))
    assert_allclose(ours.params, found.params, rtol=1e-9)
    assert_allclose(ours.cov, found.cov, rtol=1e-8)


IV_MODELS = {"2sls": IV2SLS, "liml": IVLIML, "gmm": IVGMM}


@pytest.mark.parametrize("errors", ["unadjusted", "robust", "clustered"])
@pytest.mark.parametrize("method", IV_MODELS)
@pytest.mark.parametrize("effects", [(), ("entity", "time")])
def test_instrumental_estimators_equal_linearmodels(gappy, method, errors, effects):
    ours = iv("v ~ z + [w ~ p + q + r]", gappy, method=method, effects=effects, cov_type=errors)
    groups = tuple(pd.factorize(gappy.index.get_level_values(level))[0] for level in (0, 1)) if effects else ()
    names = ["v", "z", "w", "p", "q", "r"]
    inner = pd.DataFrame(demean(gappy[names].to_numpy(), groups), columns=names)
    exogenous = inner[["z"]] if effects else constant(inner[["z"]])
    clusters = {"clusters": pd.factorize(gappy.index.get_level_values(0))[0]} if errors == "clustered" else {}
    if method == "gmm":
        model = IVGMM(inner["v"], exogenous, inner["w"], inner[["p", "q", "r"]], weight_type=errors, **clusters)
    else:
        model = IV_MODELS[method](inner["v"], exogenous, inner["w"], inner[["p", "q", "r"]])
    found = model.fit(cov_type=errors, **clusters)
    assert_allclose(ours.params, found.params, rtol=1e-8)
    assert_allclose(ours.cov, found.cov, rtol=1e-7, atol=1e-12)


def test_the_figures_of_the_page_are_those_of_the_regression():
    page = (Path(__file__).parents[3] / "docs" / "econometrics.md").read_text(encoding="utf-8")
    frame = statsmodels.datasets.grunfeld.load_pandas().data
    panel = frame[frame["firm"] != "American Steel"].set_index(["firm", "year"])
    rows = re.findall(r"^\| (entity|entity, time) \| (clustered|jackknife) \|(.+)\|$", page, flags=re.MULTILINE)
    assert len(rows) == 4
    for effects, cov_type, figures in rows:
        for convention, figure in zip(("linearmodels", "stata", "fixest"), figures.split("|"), strict=True):
            options = {"effects": tuple(effects.split(", ")), "cov_type": cov_type, "convention": convention}
            found = within("invest ~ value + capital", panel, **options)
            assert f"{found.std_errors['capital']:.7f}" == figure.strip()


@pytest.mark.parametrize("estimator", ["within", "iv2sls", "poisson"])
@pytest.mark.parametrize("cluster", ["entity", "group"])
def test_the_stated_formulas_convert_one_convention_to_another(gappy, estimator, cluster):
    formula = {"within": "y ~ x + z", "iv2sls": "v ~ z + [w ~ p + q]", "poisson": "count ~ x + z"}[estimator]

    def cov(convention, cov_type="clustered"):
        from villageflow.econometrics.spec import as_covariance

        spec = Spec(formula, estimator, ("entity", "time"), as_covariance(cov_type, cluster), convention)
        return estimate(spec, gappy)

    plain, stata, fixest = map(cov, ("linearmodels", "stata", "fixest"))
    n, g, t = plain.nobs, plain.n_clusters, plain.n_periods
    absorbed, k = plain.n_entities + t - 1, 2
    undo = (n - k - absorbed) / n if estimator == "within" else 1.0
    counted = k + t  # entities are nested in the clusters
    common = g / (g - 1) * (n - 1) / (n - counted)
    assert_allclose(fixest.cov, plain.cov * undo * common, rtol=1e-9)
    assert_allclose(stata.cov, plain.cov * undo * (g / (g - 1) if estimator == "poisson" else common), rtol=1e-9)
    left_out = cov("stata", "jackknife")
    assert_allclose(cov("linearmodels", "jackknife").cov, left_out.cov, rtol=1e-12)
    assert_allclose(cov("fixest", "jackknife").cov, left_out.cov * g / (g - 1) * common, rtol=1e-9)


def test_stata_counts_connected_effects_by_their_rank(gappy):
    options = {"effects": ("entity", "group*time"), "cov_type": "robust"}
    plain, stata = (within("y ~ x + z", gappy, convention=name, **options) for name in ("linearmodels", "stata"))
    n, groups = plain.nobs, gappy["group"].nunique()
    cells = len(gappy.groupby(["group", gappy.index.get_level_values(1)]))
    naive, rank = plain.n_entities + cells - 1, plain.n_entities + cells - groups
    assert_allclose(stata.cov * n / (n - 2 - naive), plain.cov * n / (n - 2 - rank), rtol=1e-10)
    assert (plain.df, stata.df) == (n - 2 - naive, n - 2 - rank)
    by = pd.get_dummies(flat(gappy)[["entity", "cell"]].astype(str), dtype=float)
    assert np.linalg.matrix_rank(by.to_numpy()) == rank
