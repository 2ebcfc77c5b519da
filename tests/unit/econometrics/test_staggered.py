"""Effects of staggered treatments against independent implementations, hand computation and simulated truth."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from villageflow.econometrics.spec import Clustered, Robust
from villageflow.econometrics.staggered import (
    StaggeredSpec,
    bacon_decomposition,
    event_study,
    group_time_effects,
    staggered_estimate,
)
from villageflow.errors import EstimationError

METHODS = ("group_time", "interaction_weighted", "imputation")


def make_panel(n=120, n_periods=8, seed=1, *, cohorts=(0, 4, 5, 7), noise=1.0):
    """Effects that grow with time since treatment and with the cohort; a covariate that varies, one that does not."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([range(n), range(1, n_periods + 1)], names=["entity", "time"])
    fixed = rng.normal(size=n)
    g = np.array(cohorts)[(np.arange(n) + (fixed > 0)) % len(cohorts)]
    wide = pd.DataFrame({"g": np.repeat(g, n_periods), "fixed": np.repeat(fixed, n_periods)}, index=index)
    wide["x"] = rng.normal(size=len(index))
    time = index.get_level_values(1)
    wide["effect"] = np.where((wide["g"] > 0) & (time >= wide["g"]), (time - wide["g"] + 1) * 0.2 * wide["g"], 0.0)
    trend = 0.3 * time + 0.1 * np.sin(time)
    errors = rng.normal(size=len(index)) * noise
    wide["y"] = np.repeat(rng.normal(size=n), n_periods) + trend + wide["effect"] + errors
    wide["yx"] = wide["y"] + 0.5 * wide["x"]
    wide["area"] = wide.index.get_level_values(0) // 3
    return wide


@pytest.fixture(scope="module")
def panel():
    return make_panel()


@pytest.fixture(scope="module")
def gaps(panel):
    return panel.drop(panel.index[::13])


def path(panel, method="group_time", formula="y ~ 1", **options):
    return event_study(formula, panel, cohort="g", method=method, **options)


# --- against csdid -----------------------------------------------------------------------------------------------


def csdid(panel, formula, control, adjustment, base, anticipation):
    """Cells and averages of csdid with analytic errors: {kind: frame of estimate and error by our names}."""
    short = {"regression": "reg", "ipw": "ipw", "doubly_robust": "dr"}[adjustment]
    frame = panel.reset_index()[["entity", "time", "g", "y", "x", "fixed"]]
    found = {}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from csdid.att_gt import ATTgt

        model = ATTgt(
            yname="y", tname="time", idname="entity", gname="g", data=frame, xformla=formula,
            control_group={"never": "nevertreated", "not_yet": "notyettreated"}[control], anticipation=anticipation,
        )  # fmt: skip
        model.fit(est_method=short, base_period=base, bstrap=False)
        cells = model.results
        names = [f"g={g}, t={t}" for g, t in zip(cells["group"], cells["year"])]
        found["cells"] = as_frame(names, cells["att"], cells["se"])
        for kind, sign in (("dynamic", "e"), ("group", "g"), ("calendar", "t")):
            made = model.aggte(kind, bstrap=False, cband=False).atte
            found[kind] = as_frame([f"{sign}={int(k)}" for k in made["egt"]], made["att_egt"], made["se_egt"])
            found[f"{kind}_overall"] = as_frame(["overall"], made["overall_att"], made["overall_se"])
        made = model.aggte("simple", bstrap=False, cband=False).atte
        found["simple"] = as_frame(["overall"], made["overall_att"], made["overall_se"])
    return found


def as_frame(names, values, errors):
    columns = {"estimate": np.ravel(values).astype(float), "error": np.ravel(errors).astype(float)}
    return pd.DataFrame(columns, index=names)


@pytest.mark.parametrize(
    ("formula", "control", "adjustment", "base", "anticipation"),
    [
        ("y ~ 1", "never", "regression", "varying", 0),
        ("y ~ 1", "not_yet", "regression", "universal", 1),
        ("y ~ fixed", "not_yet", "regression", "varying", 0),
        ("y ~ fixed", "not_yet", "ipw", "universal", 0),
        ("y ~ fixed", "never", "doubly_robust", "varying", 1),
        ("y ~ fixed + x", "not_yet", "doubly_robust", "varying", 0),
    ],
)
def test_group_time_effects_equal_csdid(panel, formula, control, adjustment, base, anticipation):
    theirs = csdid(panel, formula, control, adjustment, base, anticipation)
    ours = group_time_effects(
        formula, panel, cohort="g", control=control, adjustment=adjustment, base=base, anticipation=anticipation
    )
    found = {kind: ours.estimate if kind == "cells" else ours.aggregate(kind) for kind in theirs}
    for kind, estimate in found.items():
        matching = theirs[kind].loc[estimate.params.index]
        assert_allclose(estimate.params, matching["estimate"], rtol=0, atol=1e-9, err_msg=kind)
        assert_allclose(estimate.std_errors, matching["error"], rtol=1e-8, err_msg=kind)
        omitted = theirs[kind].drop(estimate.params.index)
        assert (omitted["estimate"] == 0).all()  # the base period, which csdid shows as 0


def test_without_covariates_the_three_adjustments_are_one(panel):
    first, *others = (
        group_time_effects("y ~ 1", panel, cohort="g", adjustment=name).estimate
        for name in ("regression", "ipw", "doubly_robust")
    )
    for other in others:
        assert_allclose(other.params, first.params, rtol=1e-12)
        assert_allclose(other.cov, first.cov, rtol=1e-12)


def test_covariates_may_be_of_any_scale(panel):
    grand = panel.assign(fixed=1e7 + 1e4 * panel["fixed"])
    for adjustment in ("regression", "ipw", "doubly_robust"):
        small, large = (
            group_time_effects("y ~ fixed", data, cohort="g", adjustment=adjustment).estimate for data in (panel, grand)
        )
        assert_allclose(large.params, small.params, rtol=0, atol=1e-8)
        assert_allclose(large.std_errors, small.std_errors, rtol=1e-7)


# --- against pyfixest and regressions by brute force -------------------------------------------------------------


def with_dummies(frame, own):
    """Least squares of yx on x, two-way dummies and columns of one's own, and what is left of those columns."""
    entity = pd.get_dummies(frame["entity"], dtype=float)
    time = pd.get_dummies(frame["time"], dtype=float).iloc[:, 1:]
    x = np.column_stack([own, frame["x"], entity, time])
    return x, np.linalg.lstsq(x, frame["yx"].to_numpy(), rcond=None)[0]


def test_interaction_weighted_equals_a_regression_with_dummies(gaps):
    frame = gaps.reset_index()
    relative = frame["time"] - frame["g"]
    treated = frame["g"] > 0
    pairs = sorted({(g, e) for g, e in zip(frame["g"][treated], relative[treated]) if e != -1})
    own = np.column_stack([(frame["g"] == g) & (relative == e) for g, e in pairs]).astype(float)
    _, coefficients = with_dummies(frame, own)
    count = own.sum(axis=0)
    ours = path(gaps, "interaction_weighted", "yx ~ x")
    for e in range(-6, 5):
        at = [k for k, pair in enumerate(pairs) if pair[1] == e]
        if e != -1:
            expected = np.average(coefficients[at], weights=count[at])
            assert_allclose(ours.params[f"e={e}"], expected, rtol=0, atol=1e-9)
    assert len(ours.params) == 10


def test_interaction_weighted_errors_of_one_cell_are_clustered_least_squares(gaps):
    """At event times that one cohort reaches nothing is averaged: the sandwich of the regression is left."""
    frame = gaps.reset_index()
    relative = frame["time"] - frame["g"]
    treated = frame["g"] > 0
    pairs = sorted({(g, e) for g, e in zip(frame["g"][treated], relative[treated]) if e != -1})
    own = np.column_stack([(frame["g"] == g) & (relative == e) for g, e in pairs]).astype(float)
    x, coefficients = with_dummies(frame, own)
    residual = frame["yx"].to_numpy() - x @ coefficients
    scores = pd.DataFrame(x * residual[:, None]).groupby(frame["area"]).sum().to_numpy()
    bread = np.linalg.pinv(x.T @ x)
    errors = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    ours = path(gaps, "interaction_weighted", "yx ~ x", cluster="area")
    assert_allclose(ours.std_errors["e=4"], errors[pairs.index((4, 4))], rtol=1e-7)
    assert_allclose(ours.std_errors["e=-6"], errors[pairs.index((7, -6))], rtol=1e-7)


def test_interaction_weighted_equals_pyfixest(panel):
    frame = panel.reset_index()[["entity", "time", "g", "y"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyfixest

        fitted = pyfixest.event_study(
            frame, "y", "entity", "time", "g", estimator="saturated", att=False, cluster="entity"
        )
        theirs = fitted.aggregate(agg="period", weighting="shares")["Estimate"].astype(float)
    theirs.index = [f"e={int(float(e))}" for e in theirs.index]
    ours = path(panel, "interaction_weighted")
    assert_allclose(ours.params, theirs[ours.params.index], rtol=0, atol=1e-6)


def test_without_covariates_interaction_weighted_equals_group_time(panel):
    ours, theirs = path(panel, "interaction_weighted"), path(panel, "group_time")
    assert_allclose(ours.params, theirs.params, rtol=0, atol=1e-11)
    assert_allclose(ours.std_errors, theirs.std_errors, rtol=1e-9)


def by_brute_force(gaps):
    """Imputed effects and their influences by event time, from weights on all observations (as in the paper)."""
    frame = gaps.reset_index()
    relative = np.where(frame["g"] > 0, frame["time"] - frame["g"], -99)
    late = relative >= 0
    x, _ = with_dummies(frame, np.empty((len(frame), 0)))
    y = frame["yx"].to_numpy()
    x0, x1 = x[~late], x[late]
    bread = np.linalg.pinv(x0.T @ x0)
    fitted = bread @ x0.T @ y[~late]
    gain = y[late] - x1 @ fitted
    cell = frame.loc[late, ["g", "time"]].apply(tuple, axis=1).to_numpy()
    noise = gain - pd.Series(gain).groupby(pd.Series(list(cell))).transform("mean").to_numpy()
    values, sums = {}, {}
    for e in range(5):
        weight = (relative[late] == e) / (relative[late] == e).sum()
        values[f"e={e}"] = weight @ gain
        moved = np.zeros(len(frame))
        moved[late] = weight * noise
        moved[~late] = -(x0 @ bread @ (x1.T @ weight)) * (y[~late] - x0 @ fitted)
        sums[f"e={e}"] = pd.Series(moved).groupby(frame["entity"]).sum()
    return pd.Series(values), pd.DataFrame(sums)


def test_imputation_equals_its_definition(gaps):
    values, influence = by_brute_force(gaps)
    ours = path(gaps, "imputation", "yx ~ x")
    assert_allclose(ours.params[values.index], values, rtol=0, atol=1e-10)
    assert_allclose(ours.influence[values.index], influence, rtol=0, atol=1e-10)
    assert_allclose(ours.std_errors[values.index], np.sqrt((influence**2).sum()), rtol=1e-8)


def test_imputation_equals_did2s_of_pyfixest(panel):
    frame = panel.reset_index()[["entity", "time", "g", "yx", "x"]]
    frame["on"] = ((frame["g"] > 0) & (frame["time"] >= frame["g"])).astype(int)
    frame["e"] = np.where(frame["g"] > 0, frame["time"] - frame["g"], -99)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyfixest

        fitted = pyfixest.did2s(
            frame, yname="yx", first_stage="~ x | entity + time", second_stage="~ i(e, ref=-99)", treatment="on",
            cluster="entity",
        )  # fmt: skip
    theirs = fitted.coef()
    theirs.index = [f"e={int(float(name.split('::')[1]))}" for name in theirs.index]
    late = [f"e={e}" for e in range(5)]
    # their effects are absorbed by iteration to a tolerance of their own
    assert_allclose(path(panel, "imputation", "yx ~ x").params[late], theirs[late], rtol=0, atol=2e-5)


# --- by hand and in panels without noise -------------------------------------------------------------------------


def test_a_tiny_panel_by_hand():
    """Two treated in 2 and two never: changes 5, 7 against 1, 3, so 4, with variance 1/4 (1 + 1) + 1/4 (1 + 1)."""
    index = pd.MultiIndex.from_product([list("abcd"), [1, 2]], names=["entity", "time"])
    frame = pd.DataFrame({"y": [0, 5, 1, 8, 2, 3, 0, 3.0], "g": [2, 2, 2, 2, 0, 0, 0, 0]}, index=index)
    found = group_time_effects("y ~ 1", frame, cohort="g")
    assert_allclose(found.estimate.params, [4.0])
    assert_allclose(found.estimate.influence["g=2, t=2"], [-0.5, 0.5, 0.5, -0.5])
    assert_allclose(found.estimate.std_errors, [1.0])
    assert found.estimate.df == 3
    assert list(found.sizes) == [2, 2]
    assert any("cohort 2 has 2 entities" in note for note in found.estimate.notes)
    assert any("the never treated have 2 entities" in note for note in found.estimate.notes)
    assert "1 effects by cohort and period of 4 entities" in repr(found)
    for method in METHODS[1:]:
        other = path(frame, method)
        assert_allclose(other.params, [4.0])
        assert_allclose(other.std_errors, [1.0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cohorts", [(0, 4, 5, 7), (4, 5, 7)])
@pytest.mark.parametrize("drop", [False, True])
def test_effects_that_differ_are_found_exactly(method, cohorts, drop):
    exact = make_panel(60, cohorts=cohorts, noise=0.0)
    exact = exact.drop(exact.index[::11]) if drop else exact
    spec = StaggeredSpec("y ~ 1", "g", method, "group_time", control="not_yet")
    found = staggered_estimate(spec, exact)
    g, t = (np.array([int(name.split(part)[1].split(",")[0]) for name in found.params.index]) for part in ("g=", "t="))
    assert_allclose(found.params, np.where(t >= g, (t - g + 1) * 0.2 * g, 0.0), rtol=0, atol=1e-10)
    assert (t >= g).any()


def test_two_way_effects_can_have_the_wrong_sign_and_the_decomposition_shows_why():
    """Treated in 2 and in 6 of 8 periods; the effect is 0.1 in the first period and grows by as much in each."""
    exact = make_panel(60, cohorts=(2, 6), noise=0.0)
    since = exact.index.get_level_values(1) - exact["g"] + 1
    exact["y"] += np.where(since > 0, 0.1 * since, 0.0) - exact["effect"]
    table = bacon_decomposition("y ~ 1", exact, cohort="g")
    assert list(table["kind"]) == ["earlier vs later", "later vs earlier"]
    assert_allclose(table["estimate"], [0.25, -0.15], atol=1e-12)  # 0.1 (1 + .. + 4) / 4; 0.2 - 0.35
    assert_allclose(table["weight"], [0.25, 0.75], atol=1e-12)
    assert_allclose(table.attrs["two_way"], -0.05, atol=1e-12)
    for method in METHODS:
        found = path(exact, method, control="not_yet")
        assert_allclose(found.params[["e=0", "e=1", "e=2", "e=3"]], [0.1, 0.2, 0.3, 0.4], atol=1e-12)


def test_bacon_weights_reproduce_the_two_way_coefficient(panel):
    table = bacon_decomposition("y ~ 1", panel, cohort="g")
    frame = panel.reset_index()
    on = ((frame["g"] > 0) & (frame["time"] >= frame["g"])).astype(float)
    dummies = [pd.get_dummies(frame[name], dtype=float) for name in ("entity", "time")]
    x = np.column_stack([on, *dummies])
    coefficient = np.linalg.lstsq(x, frame["y"].to_numpy(), rcond=None)[0][0]
    assert_allclose(table["weight"].sum(), 1, rtol=1e-12)
    assert (table["weight"] > 0).all()
    assert_allclose((table["weight"] * table["estimate"]).sum(), coefficient, rtol=0, atol=1e-10)
    assert_allclose(table.attrs["two_way"], coefficient, rtol=0, atol=1e-10)
    assert list(table["kind"].value_counts()) == [3, 3, 3]


# --- what must not matter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_neither_order_nor_constants_nor_the_code_for_never_matter(gaps, method):
    first = path(gaps, method, "yx ~ x")
    mixed = gaps.sample(frac=1, random_state=3)
    entity, time = mixed.index.get_level_values(0), mixed.index.get_level_values(1)
    mixed["yx"] = mixed["yx"] + 3.0 * entity - 2.0 * time**2
    never = np.where(entity % 2 == 0, np.inf, np.nan)
    mixed["g"] = np.where(mixed["g"] == 0, never, mixed["g"])
    again = path(mixed, method, "yx ~ x")
    assert list(again.params.index) == list(first.params.index)
    assert_allclose(again.params, first.params, rtol=0, atol=1e-9)
    assert_allclose(again.cov, first.cov, rtol=1e-7, atol=1e-12)
    assert_allclose(again.influence, first.influence, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_influence_gives_the_covariance(gaps, method):
    one = path(gaps, method)
    assert_allclose(one.cov, one.influence.T @ one.influence, rtol=1e-9, atol=1e-15)
    sums = one.influence.groupby(gaps["area"].groupby("entity").first()).sum()
    by_area = path(gaps, method, cluster="area")
    assert_allclose(by_area.cov, sums.T @ sums, rtol=1e-9, atol=1e-15)
    assert by_area.df == by_area.n_clusters - 1 == 39
    assert by_area.cov_label == "influence functions clustered by area, linearmodels convention, t(39)"
    assert by_area.influence.index.name == "entity"
    assert not any("clusters" in note for note in by_area.notes)


def test_conventions_differ_by_one_factor(panel):
    base = StaggeredSpec("y ~ 1", "g", cov_type=Clustered(("area",)))
    plain = staggered_estimate(base, panel)
    for convention in ("stata", "fixest"):
        other = staggered_estimate(StaggeredSpec("y ~ 1", "g", cov_type=base.cov_type, convention=convention), panel)
        assert_allclose(other.cov, plain.cov * 40 / 39, rtol=1e-12)


def test_few_clusters_and_late_cohorts_and_early_entities_are_told(panel):
    few = panel.assign(area=panel.index.get_level_values(0) % 12, g=panel["g"].replace({4: 1, 7: 11}))
    found = path(few, cluster="area")
    assert "only 12 clusters (area): below 40 the errors tend to be too small" in found.notes
    assert any("taken as never treated" in note for note in found.notes)
    assert found.dropped[0].n == 8 * int((few["g"].groupby("entity").first() == 1).sum())
    assert "treated from the first period on" in found.dropped[0].reason
    assert found.nobs + found.dropped[0].n == len(panel)


def test_overall_effects_are_averages_with_their_own_errors(panel):
    effects = group_time_effects("y ~ 1", panel, cohort="g")
    dynamic, overall = effects.aggregate("dynamic"), effects.aggregate("dynamic_overall")
    late = [name for name in dynamic.params.index if int(name[2:]) >= 0]
    weight = np.full(len(late), 1 / len(late))
    assert_allclose(overall.params["overall"], weight @ dynamic.params[late], rtol=1e-12)
    assert_allclose(overall.cov.iloc[0, 0], weight @ dynamic.cov.loc[late, late] @ weight, rtol=1e-10)
    assert dynamic.diagnostics["overall"].statistic == overall.params["overall"]
    assert f"{overall.std_errors['overall']:.4g}" in dynamic.diagnostics["overall"].says


def test_estimated_weights_widen_the_errors_where_cohorts_differ(panel):
    """The share of a cohort is itself a mean: delta method by hand at e=0."""
    effects = group_time_effects("y ~ 1", panel, cohort="g")
    cells = [f"g={g}, t={g}" for g in (4, 5, 7)]
    values, n = effects.estimate.params[cells].to_numpy(), effects.sizes[[4, 5, 7]].to_numpy()
    share = n / n.sum()
    fixed = share @ effects.estimate.cov.loc[cells, cells] @ share
    weighting = (n * (values - share @ values) ** 2).sum() / n.sum() ** 2
    # no cross term: the influences of a cohort's members on its own effect add up to zero
    assert_allclose(effects.aggregate("dynamic").cov.loc["e=0", "e=0"], fixed + weighting, rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_every_target_runs_and_describes_itself(panel, method):
    for target in ("group_time", "dynamic", "group", "calendar", "simple", "dynamic_overall", "group_overall"):
        spec = StaggeredSpec("y ~ 1", "g", method, target, control="not_yet" if method == "imputation" else "never")
        found = staggered_estimate(spec, panel)
        assert found.spec == spec
        assert target.replace("_", " ") in found.describe()["estimator"]
        assert np.isfinite(found.std_errors).all() and (found.std_errors > 0).all()
        assert ("pre-trends" in found.diagnostics) == (target in ("group_time", "dynamic"))
    assert "imputation" not in spec.words or "not yet treated" in spec.words


@pytest.mark.parametrize("method", METHODS)
def test_trends_before_treatment_are_detected(panel, method):
    calm = path(panel, method).diagnostics["pre-trends"]
    drift = panel["y"] + 0.5 * np.where(panel["g"] > 0, panel.index.get_level_values(1), 0)
    bent = path(panel.assign(y=drift), method).diagnostics["pre-trends"]
    assert calm.p_value > 0.01 > 1e-4 > bent.p_value


def test_anticipation_moves_the_base_period(panel):
    for method in METHODS:
        found = path(panel, method, anticipation=1)
        assert "e=-2" not in found.params.index and "e=-1" in found.params.index
        early = path(panel.assign(g=panel["g"].where(panel["g"] == 0, panel["g"] - 1)), method)
        if method != "group_time":
            assert_allclose(found.params["e=0"], early.params["e=1"], rtol=1e-9)


def test_periods_need_not_follow_one_another(panel):
    odd = panel[panel.index.get_level_values(1) % 2 == 1]
    effects = group_time_effects("y ~ 1", odd, cohort="g", base="universal")
    # cohort 4 is first seen treated in 5, a year late, and compared with 3; cohort 5 in 5 with 3
    bases = {(cell.cohort, cell.time): cell.base for cell in effects.cells}
    assert bases[4, 5] == bases[5, 5] == 3 and (4, 3) not in bases and bases[7, 7] == 5
    change = odd["y"].unstack()[5] - odd["y"].unstack()[3]
    cohort = odd["g"].unstack()[1]
    by_hand = change[cohort == 4].mean() - change[cohort == 0].mean()
    assert_allclose(effects.estimate.params["g=4, t=5"], by_hand, rtol=1e-12)
    spec = StaggeredSpec("y ~ 1", "g", target="group_time", times=(1, 3, 5, 7))
    assert_allclose(staggered_estimate(spec, panel).params, effects.estimate.params, rtol=1e-12)


def test_cells_that_cannot_be_estimated_are_listed():
    everyone = make_panel(60, cohorts=(4, 5, 7))
    found = group_time_effects("y ~ 1", everyone, cohort="g", control="not_yet").estimate
    assert not any("t=7" in name or "t=8" in name for name in found.params.index)
    assert any("g=4, t=7 (nobody to compare with)" in note for note in found.notes)
    assert "in no comparison" in found.dropped[0].reason
    apart = make_panel(60)
    apart["fixed"] = np.where(apart["g"] == 5, 10.0, 0.0) + 0.1 * apart["fixed"]
    found = group_time_effects("y ~ fixed", apart, cohort="g", adjustment="ipw").estimate
    assert not any("g=5" in name for name in found.params.index)
    assert any("g=5, t=5 (covariates" in note for note in found.notes)


def test_cohorts_in_few_clusters_are_told(panel):
    halves = panel.assign(area=np.where(panel["g"] == 5, 0, panel.index.get_level_values(0) + 1))
    notes = path(halves, cluster="area").notes
    assert "cohort 5 has 1 clusters (area): errors are not reliable below 5" in notes


def test_notes_are_logged_by_the_verb(panel, caplog):
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        path(panel.assign(area=panel.index.get_level_values(0) % 12), cluster="area")
    assert "only 12 clusters" in caplog.text


# --- intervals ---------------------------------------------------------------------------------------------------


def test_bands_are_wider_than_intervals_and_hold_the_path(panel):
    for method in METHODS:
        found = path(panel, method)
        bands, single = found.simultaneous_bands(), found.conf_int()
        assert (bands["lower"] < single["lower"]).all() and (bands["upper"] > single["upper"]).all()
        assert 2.3 < bands.attrs["critical_value"] < 3.2


@pytest.mark.parametrize("method", METHODS)
def test_intervals_and_bands_cover(method):
    """100 panels: within four Monte Carlo errors of 95 percent; longer in tests/statistical."""
    single, joint = zip(*(coverage_of_one(method, seed) for seed in range(100)))
    assert abs(np.mean(single) - 0.95) < 4 * np.std(np.mean(single, axis=1)) / 10 + 1e-9
    assert abs(np.mean(joint) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 100)


def coverage_of_one(method, seed):
    """Whether each interval and the whole band hold the true effects (0.2 (1 + e) times the cohorts at e)."""
    panel = make_panel(200, seed=seed)
    found = path(panel, method)
    rows = panel[panel["g"] > 0]
    e = rows.index.get_level_values(1) - rows["g"]
    truth = rows["effect"].groupby("e=" + e.astype(str)).mean()[found.params.index]
    inside = [(box["lower"] <= truth) & (truth <= box["upper"]) for box in (found.conf_int(), bands(found))]
    return inside[0].to_numpy(), bool(inside[1].all())


def bands(found):
    return found.simultaneous_bands(n_draws=5000)


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda p: p.reset_index(), {}, "not indexed"),
        (lambda p: pd.concat([p, p.iloc[:1]]), {}, "twice"),
        (lambda p: p.drop(columns="g"), {}, "Cohort column 'g' is not in the panel"),
        (lambda p: p.assign(g=p["g"].astype(str)), {}, "is not numeric"),
        (lambda p: p.assign(g=p["g"] > 0), {}, "is not numeric"),
        (lambda p: p.assign(g=-p["g"]), {}, "is -"),
        (lambda p: p.assign(g=np.arange(len(p)) % 7 + 2), {}, "varies within 0 (2 and 8)"),
        (lambda p: p.rename(lambda t: t - 1, level=1), {}, "reaches to a period 0"),
        (lambda p: p.assign(g=0), {}, "nobody is first treated"),
        (lambda p: p.assign(g=1), {}, "treated from the first period on"),
        (lambda p: p[p["g"] > 0], {}, "Use control='not_yet'"),
        (lambda p: p.loc[(slice(None), [5]), :], {}, "complete rows in 1 of the 2 periods"),
        (lambda p: p.assign(y=p["y"].where(p["y"] < p["y"].max(), np.inf)), {}, "is infinite for"),
        (lambda p: p, {"cluster": "areas"}, "'areas' is not a cluster. Did you mean 'area'?"),
        (lambda p: p, {"cluster": "x"}, "Cluster 'x' varies within 0"),
        (lambda p: p, {"cluster": "time"}, "influences of entities"),
        (lambda p: p.assign(area=1), {"cluster": "area"}, "one cluster"),
        (lambda p: p.assign(area=np.nan), {"cluster": "area"}, "is missing for 0 in 1"),
        (
            lambda p: p.assign(v=2 * p["fixed"] - 1),
            {"formula": "y ~ fixed + v"},
            "'v' is a combination of the constant, 'fixed'",
        ),
        (lambda p: p, {"formula": "y ~ [x ~ fixed]"}, "takes no instruments"),
        (lambda p: p, {"formula": "y ~ nothing"}, "nothing"),
        (lambda p: p, {"method": "twfe"}, "method='twfe' is not known"),
        (lambda p: p, {"control": "always"}, "control='always' is not known"),
        (lambda p: p, {"adjustment": "ipv"}, "Did you mean 'ipw'?"),
        (lambda p: p, {"anticipation": -1}, "anticipation=-1"),
        (lambda p: p, {"method": "imputation", "control": "never"}, "Use 'not_yet'"),
        (lambda p: p, {"method": "imputation", "adjustment": "ipw"}, "is not defined for method='imputation'"),
        (
            lambda p: p,
            {"method": "interaction_weighted", "formula": "y ~ fixed"},
            "'fixed' is a combination of the entity",
        ),
        (lambda p: p, {"method": "imputation", "formula": "y ~ fixed"}, "'fixed' is a combination of the entity"),
        (lambda p: p.assign(g=5), {"method": "interaction_weighted", "control": "not_yet"}, "no effect can be"),
        (lambda p: p.assign(g=5), {"control": "not_yet"}, "nobody to compare with"),
        (lambda p: p.assign(g=5), {"method": "imputation"}, "nobody not yet treated"),
    ],
)
def test_bad_input_is_refused_by_name(panel, change, options, said):
    options = {"formula": "y ~ 1", "cohort": "g"} | options
    with pytest.raises(EstimationError) as caught:
        event_study(options.pop("formula"), change(panel), **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "imputation", "control": "not_yet", "base": "varying"}, "base='varying' is not defined"),
        ({"cov_type": Robust()}, "added up within clusters"),
        ({"cov_type": Clustered(("entity", "time"))}, "added up within clusters"),
        ({"target": "dynamics"}, "Did you mean 'dynamic'"),
        ({"convention": "Stata"}, "Did you mean 'stata'?"),
    ],
)
def test_bad_specifications_are_refused_by_name(options, said):
    with pytest.raises(EstimationError, match=said.replace("?", r"\?")):
        StaggeredSpec("y ~ 1", "g", **options)


def test_the_decomposition_refuses_what_it_cannot_do(panel, gaps):
    for frame, formula, said in (
        (gaps, "y ~ 1", "not balanced: 0 has no complete row in 1"),
        (panel, "y ~ x", "takes no covariates"),
        (panel.assign(g=5), "y ~ 1", "nothing is compared"),
    ):
        with pytest.raises(EstimationError, match=said):
            bacon_decomposition(formula, frame, cohort="g")
    with pytest.raises(EstimationError, match="kind='dynamics' is not known"):
        group_time_effects("y ~ 1", panel, cohort="g").aggregate("dynamics")
