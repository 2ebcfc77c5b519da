"""Profile likelihood: exact where the answer is known, and a verdict where there is no interval."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, stats

import villageflow as vf
from villageflow.calibrate.fit import fit, fit_target
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.profile import TOLERANCE, profile
from villageflow.calibrate.scales import Box
from villageflow.errors import CalibrationError

HALF = 0.5 * stats.chi2.ppf(0.95, 1)


@dataclass(frozen=True)
class Formula:
    """A target in closed form: locations of the measurements from the parameters and the times."""

    box: Box
    function: Callable
    observables: tuple[Observable, ...]
    measurements: pd.DataFrame

    def positions(self, rows):
        return np.zeros(len(rows), dtype=np.intp)

    def locations(self, values, rows):
        return self.function(values.T[:, :, None], rows["time"].to_numpy()[None, :])


def formula(function, ranges, times, values, noise="normal", spread=1.0):
    rows = pd.DataFrame({"observable": "y", "time": np.asarray(times, float), "value": values, "comparator": "="})
    return Formula(Box.of(ranges), function, (Observable("y", "y", "level", noise, spread),), rows)


def fitted(target, seed=1):
    return fit_target(target, target.measurements, {"model": "formula"}, starts=20, seed=seed)


def moved(result, loglik, **params):
    """A fit with other estimates, as a failed optimiser would have left it."""
    values = result.params.copy()
    values[list(params)] = list(params.values())
    estimate = result.box.transformed(values.to_numpy())
    return replace(result, params=values, loglik=loglik, transformed=result.transformed.assign(estimate=estimate))


MODEL = """{UTF-8}
level = INTEG(effort*skill*level*(1-level/900), 5) ~ thing ~|
effort = 1 ~ 1 ~|
skill = 0.6 ~ 1/Year ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 16 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


def stock(folder, rows, ranges):
    """A problem of the model itself."""
    (folder / "logistic.mdl").write_text(MODEL)
    return Problem(
        model=vf.read_model(folder / "logistic.mdl"), method="rk4",
        measurements=rows.assign(source_id=[f"s{i}" for i in range(len(rows))]),
        parameters=pd.DataFrame(ranges, columns=["name", "scale", "lower", "upper"]),
        observables=(Observable("size", "level", "level", "lognormal", "error", "thing"),),
    )


# --- where the answer is known -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line():
    times = np.arange(8.0)
    values = 1.0 + 0.5 * times + np.random.default_rng(0).normal(0, 0.5, 8)
    ranges = {"start": ("lin", -5.0, 6.0), "slope": ("lin", -2.0, 3.0)}
    target = formula(lambda v, t: v[0] + v[1] * t, ranges, times, values, spread=0.5)
    return target, fitted(target)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_parabola_gives_the_wald_interval(line, level):
    target, result = line
    found = profile(target, result, level=level, seed=1)
    table = found.to_frame()
    assert list(table["verdict"]) == ["bounded", "bounded"]
    assert_allclose(table["threshold"], 0.5 * stats.chi2.ppf(level, 1))
    assert_allclose(table[["lower", "upper"]], result.conf_int(level), rtol=1e-6)
    design = np.column_stack([np.ones(8), target.measurements["time"]])
    errors = 0.5 * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    assert_allclose((table["upper"] - table["lower"]) / 2, stats.norm.ppf(0.5 + level / 2) * errors, rtol=1e-6)


def test_points_are_the_parabola_with_the_others_at_their_optimum(line):
    target, result = line
    points = profile(target, result, points=6, seed=1)["slope"].points
    away = points["slope"] - result.params["slope"]
    assert_allclose(points["loglik"], result.loglik - 0.5 * (away / result.std_errors["slope"]) ** 2, atol=2e-6)
    assert_allclose(points["start"], result.params["start"] - away * target.measurements["time"].mean(), atol=1e-4)
    assert points["slope"].is_monotonic_increasing and (points["at_bound"] == "").all()
    assert (away < 0).sum() >= 6 and (away > 0).sum() >= 6


def test_a_clustered_fit_scales_the_threshold_by_the_ratio_of_variances(line):
    target, result = line
    factor = np.array([1.5, 0.8])
    table = result.transformed.assign(std_error=result.transformed["std_error"] * factor)
    cov = result.transformed_cov * np.outer(factor, factor)
    clustered = replace(result, transformed=table, transformed_cov=cov, cov_type="clustered", df=9.0, n_entities=10)
    found = profile(target, clustered, seed=1)
    assert_allclose(found.to_frame()["threshold"], 0.5 * stats.t(9).ppf(0.975) ** 2 * factor**2, rtol=1e-5)
    assert_allclose(found.to_frame()[["lower", "upper"]], clustered.conf_int(), rtol=1e-5)
    note = found["start"].threshold_note
    assert "half the square of the t(9) quantile, times 2.25, the ratio of its sandwich" in note


def test_a_panel_takes_the_ratio_from_its_own_fit(tmp_path):
    times, entities = np.arange(1.0, 9.0), [f"v{i}" for i in range(8)]
    noise = np.random.default_rng(2).normal(0, 0.1, (8, 8)) + np.random.default_rng(3).normal(0, 0.2, (8, 1))
    rows = pd.DataFrame({
        "entity": np.repeat(entities, 8), "time": np.tile(times, 8), "observable": "size",
        "value": (logistic((0.6, 900.0), times) * np.exp(noise)).ravel(), "comparator": "=",
    })
    problem = stock(tmp_path, rows, [("skill", "log", 0.1, 2.0), ("error", "log", 1e-2, 2.0)])
    plain, result = (fit(problem, seed=1, cov_type=kind, n_draws=10) for kind in ("hessian", "clustered"))
    found = profile(problem, result, seed=1).to_frame()
    ratio = (result.transformed["std_error"] / plain.transformed["std_error"]) ** 2
    assert ratio["skill"] > 2
    assert_allclose(found["threshold"], 0.5 * stats.t(7).ppf(0.975) ** 2 * ratio, rtol=2e-3)
    assert_allclose(found.loc["skill", ["lower", "upper"]].astype(float), result.conf_int().loc["skill"], rtol=0.02)


def logistic(values, times):
    skill, ceiling = values[0], values[1]
    return ceiling / (1 + (ceiling / 5.0 - 1) * np.exp(-skill * times))


GROWTH = {"skill": ("log", 0.1, 2.0), "ceiling": ("log", 20.0, 2e4), "error": ("log", 1e-3, 2.0)}


def growth(last, seed=3):
    times = np.arange(1.0, last + 1)
    values = logistic((0.6, 900.0), times) * np.exp(np.random.default_rng(seed).normal(0, 0.08, len(times)))
    return formula(logistic, GROWTH, times, values, "lognormal", "error")


def brute_force(target, name):
    """Ends by a grid and one-dimensional scipy searches; the error of a lognormal has a closed form."""
    times, values = (target.measurements[column].to_numpy() for column in ("time", "value"))
    bounds = {key: np.log(GROWTH[key][1:]) for key in ("skill", "ceiling")}
    other = bounds["ceiling" if name == "skill" else "skill"]

    def loglik(own, second):
        pair = (own, second) if name == "skill" else (second, own)
        path = logistic([np.exp(one) for one in pair], times[:, None])
        spread = np.sqrt(np.mean(np.log(values[:, None] / path) ** 2, axis=0))
        return stats.lognorm.logpdf(values[:, None], spread, scale=path).sum(axis=0)

    def profiled(own):
        grid = np.linspace(*other, 2001)
        tried = loglik(own, grid)
        at = int(np.argmax(tried))
        best = optimize.minimize_scalar(
            lambda second: -loglik(own, second)[0], bounds=(grid[max(at - 1, 0)], grid[min(at + 1, 2000)]),
            method="bounded", options={"xatol": 1e-9},
        )
        return max(-best.fun, tried[at])

    settings = {"method": "bounded", "options": {"xatol": 1e-8}}
    top = optimize.minimize_scalar(lambda own: -profiled(own), bounds=bounds[name], **settings)
    ends = []
    for bound in bounds[name]:
        if profiled(bound) > -top.fun - HALF:
            ends.append(np.inf * np.sign(bound - top.x))
        else:
            ends.append(np.exp(optimize.brentq(lambda own: profiled(own) + top.fun + HALF, top.x, bound, xtol=1e-8)))
    return ends


@pytest.mark.parametrize("name", ["skill", "ceiling"])
def test_an_asymmetric_interval_is_that_of_brute_force(name):
    target = growth(9)
    result = fitted(target)
    found = profile(target, result, parameters=[name], seed=1)[name]
    assert_allclose([found.lower, found.upper], brute_force(target, name), rtol=1e-6)
    assert found.verdict == "bounded"
    below, above = np.log(result.params[name] / found.lower), np.log(found.upper / result.params[name])
    assert above > (1.5 if name == "ceiling" else 1.01) * below
    fall = result.loglik - np.interp(found.upper, found.points[name], found.points["loglik"])
    assert fall == pytest.approx(HALF, rel=2 * TOLERANCE)


@pytest.mark.parametrize(("starts", "seed"), [(4, 1), (1, 5)])
def test_a_second_basin_is_found_by_a_start_or_learnt_from_a_neighbour(starts, seed):
    """The other parameter has two basins; who follows the near one finds an end where there is none."""

    def function(v, t):
        return np.select([t == 0, t == 1], [(v[0] - v[1]) / 0.3, 20 * v[1] * (1 - v[1])], 0.3 * v[1])

    target = formula(function, {"a": ("lin", -3.0, 4.0), "b": ("lin", -1.0, 2.0)}, [0, 1, 2], np.zeros(3))
    found = profile(target, fitted(target), parameters=["a"], starts=starts, seed=seed)["a"]
    assert found.estimate == pytest.approx(0, abs=1e-6)
    b = np.linspace(-1, 2, 300001)

    def profiled(a, b=b):
        return -0.5 * min(sum(function((a, b), t) ** 2 for t in range(3)))

    near = optimize.brentq(lambda a: profiled(a, b[b < 0.5]) + HALF, 0.0, 1.0)
    expected = optimize.brentq(lambda a: profiled(a) + HALF, 1.0, 2.5)
    assert expected > 1.5 > 2 * near and found.upper == pytest.approx(expected, abs=1e-4)


def test_intervals_of_a_mean_cover_as_the_known_distribution_says():
    """Profiling out the deviation gives mean +- sqrt((n - 1)(exp(2 HALF / n) - 1)) s / sqrt(n), a t interval."""
    n, repeats, covered = 8, 60, 0
    reach = np.sqrt((n - 1) * np.expm1(2 * HALF / n))
    ranges = {"mean": ("lin", -10.0, 10.0), "deviation": ("log", 0.05, 20.0)}
    result, rng = None, np.random.default_rng(11)
    for _ in range(repeats):
        values = rng.normal(0.0, 1.0, n)
        target = formula(lambda v, t: v[0] + 0 * t, ranges, np.arange(n), values, spread="deviation")
        mean, deviation = values.mean(), values.std()
        top = stats.norm.logpdf(values, mean, deviation).sum()
        result = result or fitted(target)
        known = moved(result, top, mean=mean, deviation=deviation)
        found = profile(target, known, parameters=["mean"], points=4, starts=1, seed=1)["mean"]
        expected = mean + np.array([-1, 1]) * reach * values.std(ddof=1) / np.sqrt(n)
        assert_allclose([found.lower, found.upper], expected, rtol=1e-5)
        covered += found.lower <= 0 <= found.upper
    low, high = stats.binom.ppf([0.0005, 0.9995], repeats, 2 * stats.t(n - 1).cdf(reach) - 1)
    assert low <= covered <= high


# --- where there is no interval ----------------------------------------------------------------------------------

@pytest.mark.parametrize("widest", [(0.2, 5.0), (0.01, 100.0)])
def test_a_product_that_only_enters_as_a_product_is_flagged(tmp_path, widest):
    """Negative control; with the wider range effort falls off where skill meets its bound, which is no end."""
    times = np.arange(1.0, 17.0)
    values = logistic((0.6, 900.0), times) * np.exp(np.random.default_rng(1).normal(0, 0.08, 16))
    rows = pd.DataFrame({"entity": "v", "time": times, "observable": "size", "value": values, "comparator": "="})
    ranges = [("effort", "log", *widest), ("skill", "log", 0.12, 3.0), ("error", "log", 1e-3, 1.0)]
    problem = stock(tmp_path, rows, ranges)
    start = time.process_time()
    found = profile(problem, fit(problem, seed=1, n_draws=10), seed=1)
    assert time.process_time() - start < 5
    assert [one.verdict for one in found.profiles] == ["flat", "flat", "bounded"]
    for name in ("effort", "skill"):
        assert "only effort * skill is identified" in found[name].note
        assert (found[name].lower, found[name].upper) == (-np.inf, np.inf)
    assert ("falls only because skill meets a bound" in found["effort"].note) == (widest[1] == 100.0)
    product = found["skill"].points.query("at_bound == ''")[["effort", "skill"]].prod(axis=1)
    assert np.ptp(product) < 1e-3 * product.mean()


def test_a_ceiling_far_above_the_data_is_one_sided():
    target = growth(5)
    found = profile(target, fitted(target), seed=1)
    assert [one.verdict for one in found.profiles] == ["bounded", "one-sided", "bounded"]
    lower, upper = brute_force(target, "ceiling")
    assert upper == np.inf == found["ceiling"].upper and found["ceiling"].lower == pytest.approx(lower, rel=1e-6)
    assert "no end above: at the bound 20000 the log likelihood has fallen by 0.0" in found["ceiling"].note
    # skill's lower end lies where the ceiling is at its bound, which does not make it
    assert "ceiling" in set(found["skill"].points["at_bound"])
    assert_allclose([found["skill"].lower, found["skill"].upper], brute_force(target, "skill"), rtol=1e-6)


def test_a_parameter_at_its_bound_is_one_sided_by_construction():
    target = growth(12)
    low = replace(target, box=Box.of(GROWTH | {"ceiling": ("log", 20.0, 500.0)}))
    result = fitted(low)
    assert result.at_bound == ("ceiling",)
    found = profile(low, result, seed=1)["ceiling"]
    assert found.verdict == "one-sided" and found.upper == np.inf and found.lower < 500
    assert "no end above by construction: the estimate is at its bound 500" in found.note
    assert found.points["ceiling"].max() == 500


def test_a_parameter_that_nothing_depends_on_is_flat(line):
    target, _ = line
    ranges = {"start": ("lin", -5.0, 6.0), "slope": ("lin", -2.0, 3.0), "idle": ("lin", 0.0, 1.0)}
    idle = replace(target, box=Box.of(ranges))
    found = profile(idle, fitted(idle), seed=1)
    assert [one.verdict for one in found.profiles] == ["bounded", "bounded", "flat"]


def test_a_product_of_three_is_named():
    times = np.arange(1.0, 7.0)
    values = 2.0 + 0.5 * times + np.random.default_rng(4).normal(0, 0.1, 6)
    ranges = dict.fromkeys("abc", ("log", 0.1, 10.0)) | {"slope": ("log", 0.05, 5.0)}
    target = formula(lambda v, t: v[0] * v[1] / v[2] ** 2 + v[3] * t, ranges, times, values, spread=0.1)
    found = profile(target, fitted(target), seed=1)
    assert [one.verdict for one in found.profiles] == ["flat", "flat", "flat", "bounded"]
    assert "only a * b * c^-2.00 is identified" in found["a"].note


def test_an_end_may_lie_where_the_model_stops_running():
    target = formula(lambda v, t: np.where(v[0] > 0.5, np.nan, v[0] + 0 * t), {"a": ("lin", -9.0, 9.0)}, [0], [0.0])
    found = profile(target, fitted(target), seed=1)["a"]
    assert found.verdict == "bounded" and found.lower == pytest.approx(-np.sqrt(2 * HALF), rel=1e-5)
    assert found.upper == pytest.approx(0.5, rel=1e-5)


def test_a_wrong_local_optimum_is_found_out():
    times = np.arange(12.0)
    values = np.sin(0.9 * times) + np.random.default_rng(0).normal(0, 0.1, 12)
    ranges = {"pace": ("lin", 0.05, 3.0), "size": ("lin", 0.01, 2.0)}
    target = formula(lambda v, t: v[1] * np.sin(v[0] * t), ranges, times, values, spread=0.3)
    result = fitted(target)

    def minus(x):
        return -stats.norm.logpdf(values, x[1] * np.sin(x[0] * times), 0.3).sum()

    local = optimize.minimize(minus, [1.6, 0.2], bounds=[(1.4, 1.8), (0.01, 2.0)])
    assert -local.fun < result.loglik - 10
    bad = moved(result, -local.fun, pace=local.x[0], size=local.x[1])
    found = profile(target, bad, seed=1)
    assert {one.verdict for one in found.profiles} == {"better optimum found"}
    assert found.to_frame()[["lower", "upper"]].isna().all(axis=None)
    assert found.better_loglik == pytest.approx(result.loglik, abs=1e-5)
    assert_allclose(found.better[["pace", "size"]], result.params, rtol=1e-4)
    assert "BETTER OPTIMUM" in found.summary() and "fit again with more starts" in found["pace"].note
    good = profile(target, result, seed=1)
    assert good.better is None and {one.verdict for one in good.profiles} == {"bounded"}


# --- form --------------------------------------------------------------------------------------------------------


def test_equal_seeds_and_any_order_give_equal_numbers():
    target = growth(5)
    result = fitted(target)
    first, again = (profile(target, result, seed=4) for _ in range(2))
    turned = profile(target, result, parameters=["error", "skill", "ceiling"], seed=4)
    assert [one.name for one in turned.profiles] == ["error", "skill", "ceiling"]
    for name in GROWTH:
        pd.testing.assert_frame_equal(first[name].points, again[name].points, check_exact=True)
        pd.testing.assert_frame_equal(first[name].points, turned[name].points, check_exact=True)
        assert first[name].note == turned[name].note
    alone = profile(target, result, parameters=["skill"], seed=4)
    pd.testing.assert_frame_equal(first["skill"].points, alone["skill"].points, check_exact=True)
    other = profile(target, result, seed=5)
    assert_allclose(other["skill"].upper, first["skill"].upper, rtol=1e-5)


def test_profiles_show_themselves(line):
    target, result = line
    found = profile(target, result, seed=1)
    assert repr(found) == "<villageflow.Profiles at 0.95: start bounded, slope bounded; see summary()>"
    assert "start: the log likelihood falls by the threshold on both sides. Threshold is half the" in found.summary()
    rows = [row for row in found.to_markdown().splitlines() if row.startswith("|")]
    assert rows[0] == "| parameter | estimate | lower | upper | verdict | threshold |" and len(rows) == 4
    assert f"| {found['slope'].upper:.6g} | bounded | 1.921 |" in rows[3]
    with pytest.raises(CalibrationError, match=r"'slop' was not profiled. Did you mean 'slope'\?"):
        found["slop"]


BAD = {
    "an unknown parameter": ({"parameters": ["slop"]}, "'slop' is not a free parameter. Did you mean 'slope'"),
    "a parameter twice": ({"parameters": ["slope", "slope"]}, "name each parameter to profile once"),
    "no parameter": ({"parameters": []}, r"parameters is \[\]"),
    "a level out of range": ({"level": 95}, "level is 95; it must be a number between 0 and 1"),
    "too few points": ({"points": 2}, "points is 2; it must be a whole number of at least 4"),
    "no start": ({"starts": 0}, "starts is 0; it must be a whole number of at least 1"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_settings_give_one_clear_line(line, case):
    settings, said = BAD[case]
    with pytest.raises(CalibrationError, match=said) as caught:
        profile(*line, **settings, seed=1)
    assert "\n" not in str(caught.value)


def test_a_fit_of_something_else_is_refused(line):
    target, result = line
    with pytest.raises(CalibrationError, match="profile the problem that was fitted"):
        profile(growth(9), result, seed=1)
    narrow = replace(target, box=Box.of({"start": ("lin", -5.0, 6.0), "slope": ("lin", -2.0, 2.0)}))
    with pytest.raises(CalibrationError, match="scales and bounds"):
        profile(narrow, result, seed=1)
    with pytest.raises(CalibrationError, match="of the same measurements"):
        profile(replace(target, measurements=target.measurements.iloc[1:]), result, seed=1)
    one_each = replace(target)
    object.__setattr__(one_each, "effects", {"start": "shared", "slope": "random"})
    with pytest.raises(CalibrationError, match="'slope' has effect 'random'"):
        profile(one_each, result, seed=1)
