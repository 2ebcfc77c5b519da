"""Difference and system GMM against hand computation, a slow twin, linearmodels, and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from linearmodels.iv import IVGMM
from numpy.testing import assert_allclose
from scipy import stats

from villageflow.econometrics.dynamic import (
    DynamicSpec,
    Instruments,
    difference_gmm,
    dynamic_estimate,
    system_gmm,
)
from villageflow.econometrics.spec import Unadjusted
from villageflow.errors import EstimationError

FORMULA = "y ~ lag(y) + x"


def make_panel(n_entities=60, n_periods=7, seed=4, rho=0.6, errors=None):
    """y = rho lag(y) + 0.5 x + a + e, where x follows past y and is not correlated with later e."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    a = rng.normal(size=n_entities)
    e = rng.normal(size=(n_periods + 20, n_entities)) if errors is None else errors(rng, n_periods + 20, n_entities)
    y, x = a / (1 - rho), np.zeros(n_entities)
    rows = []
    for t in range(n_periods + 20):
        x = 0.4 * x + 0.1 * y + rng.normal(size=n_entities)
        y = rho * y + 0.5 * x + a + e[t]
        rows.append((y, x))
    kept = np.array(rows[20:])
    index = pd.MultiIndex.from_product([range(n_entities), range(2010, 2010 + n_periods)], names=["entity", "time"])
    return pd.DataFrame({"y": kept[:, 0].T.ravel(), "x": kept[:, 1].T.ravel()}, index=index)


@pytest.fixture(scope="module")
def panel():
    return make_panel()


@pytest.fixture(scope="module")
def gappy(panel):
    holed = panel.drop(panel.index[[3, 9, 10, 17, 40, 41, 42]]).copy()
    holed.iloc[60, 1] = np.nan
    return holed


# --- a slow twin -------------------------------------------------------------------------------------------------


def twin_rows(panel, lags, iv, *, system, collapse):
    """Rows (entity, period, level?, y, x, z) of `FORMULA`, by looking every value up; z is a mapping."""
    known = panel[["y", "x"]].dropna()
    values = {name: panel[name].dropna().to_dict() for name in ("y", "x")}
    complete = {(i, t) for i, t in known.index if (i, t - 1) in values["y"]}

    def terms(i, t):
        return np.array([values["y"][i, t], values["y"][i, t - 1], values["x"][i, t], 1.0])

    rows = []
    for i, t in sorted(complete):
        if (i, t - 1) in complete:
            z = {("iv", name): values[name][i, t] - values[name][i, t - 1] for name in iv}
            for name, first, last in lags:
                for lag in range(first, last + 1):
                    if (i, t - lag) in values[name]:
                        z["difference", name, lag, None if collapse else t] = values[name][i, t - lag]
            rows.append((i, t, False, terms(i, t) - terms(i, t - 1), z))
        if system:
            z = {("iv", name): values[name][i, t] for name in iv} | {("const",): 1.0}
            for name, first, _ in lags:
                s = t - first + 1
                if (i, s) in values[name] and (i, s - 1) in values[name]:
                    z["level", name, None if collapse else t] = values[name][i, s] - values[name][i, s - 1]
            rows.append((i, t, True, terms(i, t), z))
    return rows


def twin_arrays(rows, *, system):
    columns = sorted({key for row in rows for key in row[4]}, key=repr)
    z = np.array([[row[4].get(key, 0.0) for key in columns] for row in rows])
    data = np.array([row[3] for row in rows])
    x = data[:, 1:] if system else data[:, 1:3]
    entity = np.array([row[0] for row in rows])
    weight = np.zeros((z.shape[1], z.shape[1]))
    for one in np.unique(entity):
        here = np.flatnonzero(entity == one)
        h = np.array([[expected_product(rows[r], rows[s]) for s in here] for r in here])
        weight += z[here].T @ h @ z[here]
    return data[:, 0], x, z, entity, np.linalg.inv(weight)


def expected_product(row, other):
    """Of the two rows' errors, when e is independent over time and of variance one."""

    def parts(row):
        return {row[1]: 1} if row[2] else {row[1]: 1, row[1] - 1: -1}

    return sum(sign * parts(other).get(t, 0) for t, sign in parts(row).items())


CASES = [
    pytest.param({"system": system, "collapse": collapse}, id=f"{'system' if system else 'difference'}-{collapse}")
    for system in (False, True)
    for collapse in (False, True)
]
LAGS = (("y", 2, 4), ("x", 1, 2))


def both(panel, case, iv=(), **options):
    """Ours, and the twin's arrays."""
    spec = DynamicSpec(FORMULA, tuple(Instruments(*lag) for lag in LAGS), iv, **case, **options)
    arrays = twin_arrays(twin_rows(panel, LAGS, iv, **case), system=case["system"])
    return dynamic_estimate(spec, panel), arrays


@pytest.mark.parametrize("case", CASES)
def test_one_step_equals_linearmodels_on_arrays_made_by_a_slow_twin(gappy, case):
    ours, (y, x, z, entity, weight) = both(gappy, case, steps=1)
    theirs = IVGMM(y, None, x, z).fit(iter_limit=1, initial_weight=weight * len(y))
    assert_allclose(ours.params, theirs.params, rtol=1e-9)
    assert ours.diagnostics["instruments"].statistic == z.shape[1]
    total = z.T @ x
    move = np.linalg.inv(total.T @ weight @ total) @ total.T @ weight
    residual = y - x @ theirs.params.to_numpy()
    scores = np.array([z[entity == i].T @ residual[entity == i] for i in np.unique(entity)])
    assert_allclose(ours.cov, move @ scores.T @ scores @ move.T, rtol=1e-8)
    assert_allclose(ours.influence, scores @ move.T, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_two_steps_equal_linearmodels_on_arrays_made_by_a_slow_twin(gappy, case):
    ours, (y, x, z, entity, weight) = both(gappy, case, iv=("x",), cov_type=Unadjusted())
    theirs = IVGMM(y, None, x, z, weight_type="clustered", clusters=entity).fit(
        iter_limit=2, initial_weight=weight * len(y), cov_type="clustered", clusters=entity
    )
    assert_allclose(ours.params, theirs.params, rtol=1e-8)
    assert_allclose(ours.diagnostics["Hansen J"].statistic, theirs.j_stat.stat, rtol=1e-8)
    assert ours.diagnostics["Hansen J"].distribution == f"chi2({z.shape[1] - x.shape[1]})"


@pytest.mark.parametrize("case", CASES)
def test_the_correction_is_what_the_second_step_owes_to_the_first(gappy, case):
    """Windmeijer's matrix is the derivative of the two-step estimate by the one-step one, taken here numerically."""
    corrected, (y, x, z, entity, _) = both(gappy, case)
    plain, _ = both(gappy, case, cov_type=Unadjusted())
    one, _ = both(gappy, case, steps=1)
    total, target = z.T @ x, z.T @ y

    def second(params):
        residual = y - x @ params
        scores = np.array([z[entity == i].T @ residual[entity == i] for i in np.unique(entity)])
        inner = np.linalg.solve(scores.T @ scores, np.column_stack([total, target]))
        return np.linalg.solve(total.T @ inner[:, :-1], total.T @ inner[:, -1])

    b, step = one.params.to_numpy(), 1e-5
    d = np.column_stack([(second(b + e) - second(b - e)) / (2 * step) for e in step * np.eye(len(b))])
    v2 = plain.cov.to_numpy()
    expected = v2 + d @ v2 + v2 @ d.T + d @ one.cov.to_numpy() @ d.T
    assert_allclose(second(b), corrected.params, rtol=1e-7)
    assert_allclose(corrected.cov, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_serial_correlation_statistic_is_a_sum_over_its_standard_deviation(gappy, case):
    ours, (y, x, z, entity, weight) = both(gappy, case, steps=1)
    rows = twin_rows(gappy, LAGS, (), **case)
    place = {(row[0], row[1]): r for r, row in enumerate(rows) if not row[2]}
    residual = y - x @ ours.params.to_numpy()
    total = z.T @ x
    move = np.linalg.inv(total.T @ weight @ total) @ total.T @ weight
    for lag in (1, 2):
        pairs = [(r, place[i, t - lag]) for (i, t), r in place.items() if (i, t - lag) in place]
        now, before = np.array(pairs).T
        slope = residual[before] @ x[now]  # how the sum moves with the coefficients, to first order
        each = {
            i: residual[now[entity[now] == i]] @ residual[before[entity[now] == i]]
            - slope @ move @ (z[entity == i].T @ residual[entity == i])
            for i in np.unique(entity)
        }
        expected = residual[now] @ residual[before] / np.sqrt(sum(v**2 for v in each.values()))
        assert_allclose(ours.diagnostics[f"AR({lag})"].statistic, expected, rtol=1e-8)


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0]["system"]])
def test_difference_in_hansen_leaves_out_the_differences_in_the_level_equation(gappy, case):
    ours, (y, x, z, entity, _) = both(gappy, case)
    one, _ = both(gappy, case, steps=1)
    residual = y - x @ one.params.to_numpy()
    scores = np.array([z[entity == i].T @ residual[entity == i] for i in np.unique(entity)])
    keys = sorted({key for row in twin_rows(gappy, LAGS, (), **case) for key in row[4]}, key=repr)
    rest = np.array([key[0] != "level" for key in keys])

    def hansen(kept):
        weight = np.linalg.inv(scores[:, kept].T @ scores[:, kept])
        total, target = z[:, kept].T @ x, z[:, kept].T @ y
        moments = target - total @ np.linalg.solve(total.T @ weight @ total, total.T @ weight @ target)
        return moments @ weight @ moments

    found = ours.diagnostics["difference-in-Hansen"]
    assert_allclose(found.statistic, hansen(rest | True) - hansen(rest), rtol=1e-6)
    assert found.distribution == f"chi2({sum(~rest)})"


def test_errors_of_equal_variance_make_the_classical_figures_right():
    many = make_panel(3000, errors=lambda rng, *size: 3 * rng.normal(size=size))
    plain, robust = (difference_gmm(FORMULA, many, steps=1, cov_type=name) for name in ("unadjusted", "clustered"))
    assert_allclose(plain.std_errors, robust.std_errors, rtol=0.05)
    second = [result.diagnostics["AR(2)"].statistic for result in (plain, robust)]  # AR(1) is not under its null
    assert second[0] != second[1]
    assert_allclose(second[0], second[1], rtol=0.05, atol=0.05)
    assert plain.diagnostics["Sargan"].p_value > 0.01


# --- by hand -----------------------------------------------------------------------------------------------------


def test_one_instrument_by_hand():
    index = pd.MultiIndex.from_product([["a", "b", "c"], [1, 2, 3]], names=["firm", "year"])
    panel = pd.DataFrame({"y": [1.0, 2.0, 4.0, 2.0, 3.0, 3.5, 4.0, 3.0, 2.0]}, index=index)
    # differences 2 to 3 on differences 1 to 2, instrument y of year 1: (1*2 + 2*0.5 + 4*-1) / (1*1 + 2*1 + 4*-1) = 1
    result = difference_gmm("y ~ lag(y)", panel, steps=1)
    assert_allclose(result.params["lag(y)"], 1.0)
    residual = np.array([1.0, -0.5, 0.0])
    assert_allclose(result.std_errors["lag(y)"], np.sqrt(1.0**2 + (2 * 0.5) ** 2) / 1.0)
    assert_allclose(result.residuals, residual, atol=1e-12)
    assert list(result.residuals.index) == [("a", 3), ("b", 3), ("c", 3)]
    assert result.residuals.index.names == ["firm", "year"]
    plain = difference_gmm("y ~ lag(y)", panel, steps=1, cov_type="unadjusted")
    # variance of e = sum of squares / 2 / 3; Z'HZ = 2 (1 + 4 + 16)
    assert_allclose(plain.std_errors["lag(y)"], np.sqrt(1.25 / 6 * 42) / 1.0)
    assert "Sargan" not in result.diagnostics and "AR(1)" not in result.diagnostics


def test_collapse_and_the_level_equation_change_the_number_of_instruments_as_stated(panel):
    def count(estimator, **options):
        return estimator(FORMULA, panel, **options).diagnostics["instruments"].statistic

    # 7 periods, the first for the lag: differences in 5 periods, with 1 to 5 lags from the second on; and x
    assert count(difference_gmm) == 1 + 2 + 3 + 4 + 5 + 1
    assert count(difference_gmm, collapse=True) == 5 + 1
    assert count(difference_gmm, gmm=Instruments("y", 2, 3)) == 1 + 2 + 2 + 2 + 2 + 1
    assert count(system_gmm) == 15 + 5 + 1 + 1
    assert count(system_gmm, collapse=True) == 5 + 1 + 1 + 1
    assert count(system_gmm, collapse=True, time_effects=True) == 5 + 1 + 1 + 1 + 5
    assert count(difference_gmm, collapse=True, time_effects=True) == 5 + 1 + 5


def test_counts_and_dropped_rows(gappy):
    difference, system = difference_gmm(FORMULA, gappy), system_gmm(FORMULA, gappy)
    levels = sum(row[2] for row in twin_rows(gappy, LAGS, (), system=True, collapse=True))
    changes = sum(not row[2] for row in twin_rows(gappy, LAGS, (), system=True, collapse=True))
    assert (difference.nobs, system.nobs) == (changes, levels)
    assert len(difference.residuals) == changes and len(system.residuals) == levels
    assert sum(item.n for item in difference.dropped) == len(gappy) - changes
    assert sum(item.n for item in system.dropped) == len(gappy) - levels
    assert difference.n_clusters == difference.n_entities == 60
    assert (difference.n_periods, system.n_periods) == (5, 6)


def test_level_residuals_are_the_outcome_less_the_fit(panel):
    result = system_gmm(FORMULA, panel)
    frame = panel.assign(lag=panel.groupby("entity")["y"].shift()).dropna()
    fit = frame["lag"] * result.params["lag(y)"] + frame["x"] * result.params["x"] + result.params["const"]
    pd.testing.assert_series_equal(result.residuals, frame["y"] - fit, check_names=False)


def test_reference_distribution_is_normal(panel):
    result = difference_gmm(FORMULA, panel)
    assert result.df is None
    assert_allclose(result.pvalues, 2 * stats.norm.sf(result.statistics.abs()))
    for convention in ("stata", "fixest"):
        again = dynamic_estimate(replace(result.spec, convention=convention), panel)
        pd.testing.assert_frame_equal(again.cov, result.cov)


def test_results_are_those_of_the_specification(panel):
    ours = difference_gmm(FORMULA, panel, gmm=Instruments("y", 2, 3), collapse=True, time_effects=True)
    again = dynamic_estimate(ours.spec, panel)
    pd.testing.assert_series_equal(ours.params, again.params)
    assert ours.spec.words == "two-step difference GMM, period effects, collapsed instruments"
    assert "Hansen J" in ours.summary() and "Windmeijer" in ours.to_markdown() and r"\toprule" in ours.to_latex()


# --- invariances -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [difference_gmm, system_gmm])
def test_row_order_does_not_matter(gappy, estimator):
    shuffled = gappy.sample(frac=1, random_state=1)
    ours, other = (estimator(FORMULA, rows, time_effects=True) for rows in (gappy, shuffled))
    pd.testing.assert_frame_equal(ours.cov, other.cov, check_exact=True)
    pd.testing.assert_series_equal(ours.params, other.params, check_exact=True)


def test_a_constant_added_to_the_outcome_does_not_matter_beside_period_effects(panel):
    """Period dummies are instruments too, so a shift of all lagged levels stays within what instruments span."""
    ours = difference_gmm(FORMULA, panel, time_effects=True)
    other = difference_gmm(FORMULA, panel.assign(y=panel["y"] + 10), time_effects=True)
    assert_allclose(ours.params, other.params, rtol=1e-6)
    assert_allclose(ours.std_errors, other.std_errors, rtol=1e-6)


@pytest.mark.parametrize("estimator", [difference_gmm, system_gmm])
def test_entities_with_a_single_period_do_not_matter(panel, estimator):
    more = pd.MultiIndex.from_tuples([(1000 + i, 2010 + i % 7) for i in range(20)], names=panel.index.names)
    added = pd.concat([panel, pd.DataFrame({"y": 1.0, "x": 2.0}, index=more)])
    ours, other = estimator(FORMULA, panel), estimator(FORMULA, added)
    assert_allclose(ours.params, other.params, rtol=1e-10)
    assert_allclose(ours.cov, other.cov, rtol=1e-8)
    assert (ours.n_entities, ours.nobs) == (other.n_entities, other.nobs)


def test_units_of_a_regressor_do_not_matter(panel):
    for estimator in (difference_gmm, system_gmm):
        ours, other = estimator(FORMULA, panel), estimator(FORMULA, panel.assign(x=1e6 * panel["x"]))
        assert_allclose(ours.params["lag(y)"], other.params["lag(y)"], rtol=1e-7)
        assert_allclose(ours.statistics["x"], other.statistics["x"], rtol=1e-7)


def test_the_base_of_time_does_not_matter(panel):
    moved = panel.rename(index=lambda year: year - 3000, level=1)
    ours, other = (system_gmm(FORMULA, rows, time_effects=True) for rows in (panel, moved))
    assert_allclose(ours.params, other.params, rtol=1e-9)
    assert ours.params.index[2] == "time 2012" and other.params.index[2] == "time -988"


def test_a_lagged_outcome_is_not_required(panel):
    result = difference_gmm("y ~ x", panel, gmm=Instruments("x", 1))
    assert list(result.params.index) == ["x"]


def test_chosen_times_keep_earlier_values_as_lags(panel):
    spec = DynamicSpec(FORMULA, times=(2015, 2016))
    result = dynamic_estimate(spec, panel)
    assert (result.nobs, result.n_periods) == (120, 2)
    assert result.diagnostics["instruments"].statistic == 4 + 5 + 1  # lags back to the first period


def test_own_instruments_leave_out_what_the_outcome_or_the_lags_move():
    lags = (Instruments("w", 1),)
    spec = DynamicSpec("ln(n) ~ lag(ln(n)) + w + lag(w) + k + lag(n) * k", gmm=lags)
    assert spec.standard == ("k",)
    assert replace(spec, iv=("w",)).standard == ("w",)
    assert DynamicSpec("n ~ lag(n)").lags == (Instruments("n", 2),)


def test_a_missing_own_instrument_is_zero_and_loses_no_row(panel):
    z = panel.assign(z=panel["x"].where(np.arange(len(panel)) % 5 > 0))
    result = difference_gmm(FORMULA, z, iv=["x", "z"])
    assert result.nobs == difference_gmm(FORMULA, panel).nobs


# --- cautions ----------------------------------------------------------------------------------------------------


def noted(result, *words):
    return any(all(word in note for word in words) for note in result.notes)


def test_more_instruments_than_groups_are_noted(panel):
    few = panel[panel.index.get_level_values(0) < 12]
    result = difference_gmm(FORMULA, few)
    assert noted(result, "16 instruments for 12 groups")
    assert noted(result, "singular", "rank 12 of 16", "generalized inverse")
    assert noted(result, "Hansen p", "close to 1") or result.diagnostics["Hansen J"].p_value < 0.99
    assert noted(result, "12 groups", "normal")
    assert not noted(difference_gmm(FORMULA, panel), "groups")


def test_a_rejected_second_order_test_is_noted():
    def moving_average(rng, n_periods, n_entities):
        shock = rng.normal(size=(n_periods + 1, n_entities))
        return shock[1:] + 0.9 * shock[:-1]

    result = difference_gmm(FORMULA, make_panel(300, errors=moving_average))
    assert result.diagnostics["AR(2)"].p_value < 0.01
    assert noted(result, "AR(2) is rejected")


def test_first_order_correlation_is_found_and_second_order_is_not():
    result = difference_gmm(FORMULA, make_panel(300))
    assert result.diagnostics["AR(1)"].p_value < 1e-6 < 0.05 < result.diagnostics["AR(2)"].p_value


def test_estimates_outside_the_bounds_are_noted(panel):
    wrong = difference_gmm(FORMULA, panel, gmm=Instruments("y", 1), iv=["x"])  # the first lag is not exogenous
    frame = panel.assign(lag=panel.groupby("entity")["y"].shift()).dropna()
    inner = frame - frame.groupby("entity").transform("mean")
    within = np.linalg.lstsq(inner[["lag", "x"]].to_numpy(), inner["y"].to_numpy(), rcond=None)[0][0]
    assert wrong.params["lag(y)"] < within
    assert noted(wrong, "first lag of the outcome", "y, lags 1 to all")
    assert noted(wrong, "outside the bounds", f"within ({within:.4f})")


def test_other_cautions(panel):
    assert noted(difference_gmm(FORMULA, panel, cov_type="unadjusted"), "Windmeijer")
    assert noted(difference_gmm(FORMULA, panel, gmm=Instruments("y"), iv=[]), "no instruments of their own: x")
    assert noted(system_gmm(FORMULA, panel), "level equation", "x", "entity effects")
    assert noted(system_gmm(FORMULA, panel, steps=1, cov_type="unadjusted"), "Sargan", "unadjusted", "entity effect")
    fixed = panel.assign(size=panel.index.get_level_values(0).to_numpy() % 7 + 1.0)
    assert noted(system_gmm(FORMULA + " + size", fixed), "only the level equation", "size")
    twice = panel.assign(copy=2 * panel["x"])
    assert noted(difference_gmm(FORMULA, twice, iv=["x", "copy"]), "1 of 17 instruments are combinations")
    short = panel[panel.index.get_level_values(1) < 2014]
    assert noted(difference_gmm(FORMULA, short[short.index.get_level_values(1) < 2013]), "AR(2) cannot be computed")


def test_level_instruments_that_are_wrong_are_found():
    panel = make_panel(400, rho=0.5)
    effect = panel.groupby("entity")["y"].transform("mean")
    trend = effect * (panel.index.get_level_values(1).to_numpy() - 2010) * 0.2  # differences follow the entity effect
    result = system_gmm(FORMULA, panel.assign(y=panel["y"] + trend), gmm=Instruments("y", 2, 3), collapse=True)
    assert result.diagnostics["difference-in-Hansen"].p_value < 0.01


# --- refusals ----------------------------------------------------------------------------------------------------


def _with(panel, **columns):
    return panel.assign(**{name: make(panel) for name, make in columns.items()})


def _year(panel):
    return panel.index.get_level_values(1).astype(float)


def _number(panel):
    return panel.index.get_level_values(0)


def _noise(seed):
    return lambda panel: np.random.default_rng(np.random.SeedSequence(seed)).normal(size=len(panel))


BAD = {
    "too short": (lambda p: p[p.index.get_level_values(1) < 2012], {}, "3 consecutive periods.*more than 2"),
    "a nested lag": (lambda p: p, {"formula": "y ~ lag(lag(y, 3), 2) + lead(x)"}, "8 consecutive periods.*more than 7"),
    "no two periods in a row": (lambda p: p[_year(p) % 2 == 0], {}, "consecutive periods"),
    "no value so early": (lambda p: p, {"gmm": Instruments("y", 7, 9)}, "y, lags 7 to 9.*earlier lags"),
    "too few instruments": (lambda p: p, {"gmm": Instruments("y", 6, 6), "iv": []}, "1 independent.*2 coefficients"),
    "collinear": (lambda p: _with(p, z=lambda q: 3 * q["x"]), {"formula": FORMULA + " + z"},
                  "'z' is a combination of 'x'"),
    "a trend beside period effects": (
        lambda p: _with(p, z=_year), {"formula": FORMULA + " + z", "time_effects": True}, "'z'.*the period dummies"
    ),
    "absorbed": (lambda p: _with(p, z=lambda q: _number(q) * 1.0), {"formula": FORMULA + " + z"},
                 "absorbs 'z'.*system_gmm"),
    "own instrument without change": (
        lambda p: _with(p, z=lambda q: _number(q) * 1.0), {"iv": ["x", "z"]}, "'z' does not vary"
    ),
    "not told apart": (
        lambda p: _with(p, z=lambda q: q["x"] * (_number(q) < 30), w=lambda q: q["x"] * (_number(q) > 29)),
        {"formula": "y ~ x + z", "gmm": Instruments("w", 1), "iv": []}, "do not tell 'z' from zero"
    ),
    "fewer groups than coefficients": (
        lambda p: _with(p[_number(p) < 3], a=_noise(1), b=_noise(2)), {"formula": FORMULA + " + a + b"},
        "rank 3.*4 coefficients.*steps=1"
    ),
    "no regressor": (lambda p: p, {"formula": "y ~ 1"}, "no regressor"),
    "a name for lags": (lambda p: p, {"gmm": "y"}, "gmm holds 'y'.*Instruments"),
    "infinite": (lambda p: _with(p, z=lambda q: q["x"].where(_year(q) != 2012, np.inf)),
                 {"formula": FORMULA + " + z"}, "'z' is infinite for 0 at 2012"),
    "text": (lambda p: _with(p, z=lambda q: "a"), {"formula": FORMULA + " + z"}, "z"),
    "twice": (lambda p: pd.concat([p, p.iloc[:1]]), {}, "0 at 2010 twice"),
    "one index": (lambda p: p.reset_index(drop=True), {}, "entity, time"),
    "no rows": (lambda p: p.iloc[:0], {}, "no rows"),
    "half years": (lambda p: p.rename(index=lambda t: t / 2, level=1), {}, "whole number"),
    "days": (lambda p: p.rename(index=lambda t: 365 * t, level=1), {}, "short panels"),
    "three steps": (lambda p: p, {"steps": 3}, "steps=3"),
    "another covariance": (lambda p: p, {"cov_type": "driscoll-kraay"}, "not defined for two-step"),
    "a bracket": (lambda p: p, {"formula": "y ~ lag(y) + [x ~ z]"}, "bracket"),
    "unknown column": (lambda p: p, {"iv": ["income"]}, "income"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_valid_is_refused_by_name(panel, name):
    change, options, message = BAD[name]
    options = {"formula": FORMULA} | options
    with pytest.raises(EstimationError, match=message) as caught:
        difference_gmm(options.pop("formula"), change(panel), **options)
    assert "\n" not in str(caught.value)


def test_lags_that_run_backwards_are_refused():
    with pytest.raises(EstimationError, match="first"):
        Instruments("y", 3, 2)
    with pytest.raises(EstimationError, match="first"):
        Instruments("y", -1)


def test_a_regressor_without_variation_is_refused_in_a_system(panel):
    with pytest.raises(EstimationError, match="'one' is a combination of 'const'"):
        system_gmm(FORMULA + " + one", panel.assign(one=1.0))
