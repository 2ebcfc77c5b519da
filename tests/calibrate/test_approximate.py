"""Facts that are bounds: draws are the prior cut to where they hold, and facts that cannot hold together are named."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import villageflow as vf
from villageflow.calibrate.approximate import Tightening, sample_approximate
from villageflow.calibrate.history import history_match
from villageflow.calibrate.posterior import posterior_summary
from villageflow.errors import CalibrationError, DesignError

MODEL = """{UTF-8}
level = INTEG(rate, first) ~ thing ~|
first = 2 ~ thing ~|
rate = slope ~ thing/Year ~|
slope = 3 ~ thing/Year ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 4 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
COLUMNS = ["fact_id", "variable", "statistic", "time", "to_time", "level", "lower", "upper", "scale"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "line.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def facts(*rows, **changes) -> pd.DataFrame:
    """Rows of (fact_id, variable, statistic, time, to_time, level, lower, upper, scale)."""
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    return table.assign(**{"unit": "thing", "use": "condition", "datum": table["fact_id"], "note": "", **changes})


def priors(first=(0.0, 10.0), slope=(-3.0, 3.0), scale="lin", distribution="uniform", mode=np.nan) -> pd.DataFrame:
    rows = [("first", "thing", scale, first[0], mode, first[1], distribution),
            ("slope", "thing/Year", "lin", slope[0], np.nan, slope[1], "uniform")]
    return pd.DataFrame(rows, columns=["name", "unit", "scale", "lower", "mode", "upper", "distribution"])


# The level is first + slope * time: each fact cuts the plane of both by parallel lines.
AT_0 = ("A", "level", "value", 0, None, None, 4.0, 5.0, None)
AT_4 = ("B", "level", "value", 4, None, None, 5.5, 6.0, None)
TOP = ("C", "level", "maximum", 0, 4, None, None, 5.8, 0.5)


def polygon_moments(corners):
    """Area, mean and covariance of the uniform distribution on a polygon, by triangles."""
    corners = np.asarray(corners, dtype=float)
    area, first, second = 0.0, np.zeros(2), np.zeros((2, 2))
    for a, b, c in zip([corners[0]] * (len(corners) - 2), corners[1:-1], corners[2:], strict=True):
        own = abs(np.linalg.det([b - a, c - a])) / 2
        centre = (a + b + c) / 3
        area, first = area + own, first + own * centre
        second += own / 12 * (9 * np.outer(centre, centre) + sum(np.outer(x, x) for x in (a, b, c)))
    mean = first / area
    return area, mean, second / area - np.outer(mean, mean)


def test_polygon_moments_are_those_of_a_square_and_a_triangle():
    area, mean, covariance = polygon_moments([(0, 0), (2, 0), (2, 2), (0, 2)])
    assert area == pytest.approx(4)
    assert_allclose(mean, [1, 1])
    assert_allclose(covariance, np.eye(2) / 3, atol=1e-12)
    area, mean, covariance = polygon_moments([(0, 0), (1, 0), (0, 1)])
    assert area == pytest.approx(0.5)
    assert_allclose(mean, [1 / 3, 1 / 3])
    assert_allclose(covariance, np.array([[2, -1], [-1, 2]]) / 36, atol=1e-12)


def region():
    """Corners of first in [4, 5] and first + 4 slope in [5.5, 5.8], which is what A, B and C leave."""
    return [(4, (5.5 - 4) / 4), (5, (5.5 - 5) / 4), (5, (5.8 - 5) / 4), (4, (5.8 - 4) / 4)]


def drawn(found, *names):
    return np.stack([found.data["posterior"][name].to_numpy().ravel() for name in names], axis=1)


def test_draws_are_uniform_within_the_polygon_that_the_facts_leave(model):
    found = sample_approximate(model, priors(), facts(AT_0, AT_4, TOP), seed=1)
    area, mean, covariance = polygon_moments(region())
    assert found.stopped_by == () and found.tolerance == 1.0 and (found.implausibility <= 1).all(axis=None)
    assert abs(found.share - area / 60) < 5 * found.std_error and found.std_error < 0.1 * found.share
    table = posterior_summary(found.data)
    for j, name in enumerate(("first", "slope")):
        assert abs(table.loc[name, "mean"] - mean[j]) < 4.5 * table.loc[name, "mean_error"]
        assert table.loc[name, "sd"] == pytest.approx(np.sqrt(covariance[j, j]), rel=0.06)
        assert table.loc[name, "mean_error"] < 0.05 * table.loc[name, "sd"]
    assert_allclose(np.cov(drawn(found, "first", "slope").T), covariance, rtol=0.12)
    assert found.data["posterior"].attrs["warning"] == ""


def test_it_agrees_with_plain_rejection_by_history_matching(model):
    rows, table = facts(AT_0, AT_4, TOP), priors((1.0, 10.0), scale="log", distribution="triangular", mode=4.0)
    found = sample_approximate(model, table, rows, seed=2, particles=300)
    plain = history_match(model, vf.Design.draws(table, n=40_000, seed=3), rows)
    assert abs(found.share - plain.share) < 5 * np.hypot(found.std_error, plain.std_error)
    kept, summary = plain.retained().table, posterior_summary(found.data)
    for name in ("first", "slope"):
        error = np.hypot(summary.loc[name, "mean_error"], kept[name].std() / np.sqrt(len(kept)))
        assert abs(summary.loc[name, "mean"] - kept[name].mean()) < 4.5 * error
        thin = drawn(found, name)[::6, 0]
        assert stats.ks_2samp(thin, kept[name]).pvalue > 1e-3
    again = history_match(model, found.retained(), rows)
    assert again.share == 1.0
    assert_array_equal(again.implausibility, found.implausibility)
    assert_array_equal(again.statistics, found.statistics)


def test_a_region_that_rejection_hardly_finds_is_found(model):
    """Bands of a thousandth: one draw in 240 million."""
    rows = facts(("A", "level", "value", 0, None, None, 4.0, 4.001, None),
                 ("B", "level", "change", 0, 4, None, 1.0, 1.001, None))
    found = sample_approximate(model, priors(), rows, seed=1, particles=200)
    known = 0.001 * 0.001 / 4 / 60
    assert found.tolerance == 1.0 and abs(found.share - known) < 5 * found.std_error and found.std_error < known / 3
    schedule = found.schedule
    assert schedule["tolerance"].iloc[0] == np.inf and schedule["tolerance"].iloc[-1] == 1.0
    assert (np.diff(schedule["tolerance"].iloc[1:]) <= 0).all() and (np.diff(schedule["share"]) <= 0).all()
    assert schedule["acceptance"].iloc[1:].between(0.05, 0.5).all() and np.isnan(schedule["acceptance"].iloc[0])


def test_a_check_decides_nothing_and_is_compared(model):
    rows = facts(AT_0, AT_4, TOP)
    alone = sample_approximate(model, priors(), rows.iloc[:2], seed=1, particles=100)
    checked = sample_approximate(model, priors(), rows.assign(use=["condition", "condition", "check"]), seed=1,
                                 particles=100)
    assert_array_equal(drawn(alone, "first", "slope"), drawn(checked, "first", "slope"))
    row = checked.by_fact.loc["C"]
    assert row["use"] == "check" and np.isnan(row["least"]) and 0.2 < row["agree"] < 0.9
    assert row["agree"] == (checked.statistics["C"] <= 5.8).mean()


# --- facts that cannot be met ------------------------------------------------------------------------------------


def test_facts_that_cannot_be_met_together_are_named_and_the_tolerance_is_the_least(model, caplog):
    """At time 4 above 6.8 and, of another source, below 5.8: 0.5 short of both, in units of 0.5 one above the bound."""
    low = ("D", "level", "value", 4, None, None, None, 5.8, 0.5)
    high = ("E", "level", "value", 4, None, None, 6.8, None, 0.5)
    rows = facts(AT_0, low, high)
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        found = sample_approximate(model, priors(), rows, seed=1, particles=200)
    assert found.stopped_by == ("D", "E")
    assert found.tolerance == pytest.approx(2.0, abs=0.03) and found.tolerance >= 2.0
    assert (found.by_fact["least"] <= 1).all()
    assert found.by_fact.loc["A", "least_others"] >= 2.0
    assert (found.by_fact.loc[["D", "E"], "least_others"] <= 1).all()  # without either of them the rest is met
    said = "The tolerance stops at 2.0"
    assert said in caplog.messages[0] and "D, E are met each by some runs, but not together" in caplog.messages[0]
    assert said in found.summary() and "come within 2.0" in repr(found)
    with pytest.raises(CalibrationError, match=r"no draw agrees with every fact. The tolerance stops at 2.0") as caught:
        found.retained()
    assert "\n" not in str(caught.value)


def test_a_fact_that_no_run_meets_is_named_alone(model):
    """A level of 30 at time 4 asks for 8 more than the prior can give; what else there is pulls the other way."""
    far = ("F", "level", "value", 4, None, None, 30.0, None, 4.0)
    found = sample_approximate(model, priors(), facts(AT_4, far), seed=1, particles=100)
    assert found.stopped_by == ("F",)
    assert found.by_fact.loc["F", "least"] == pytest.approx(3.0, abs=0.05) and found.by_fact.loc["F", "least"] >= 3.0
    assert "no run meets F: smallest implausibility F 3 (1 = at the bound)" in found.nearest()
    assert found.by_fact.loc["B", "least"] <= 1


def test_a_fact_that_is_met_alone_in_a_corner_of_the_prior_is_not_blamed_alone(model):
    """21.99 at time 4 is met by one draw in five million."""
    rare = ("F", "level", "value", 4, None, None, 21.99, None, 0.1)
    found = sample_approximate(model, priors(), facts(AT_4, rare), seed=1, particles=100)
    assert found.by_fact.loc["F", "least"] <= 1
    assert found.stopped_by == ("B", "F") and "but not together" in found.nearest()


def test_a_fact_without_a_finite_statistic_in_the_prior_is_named(model):
    never = ("G", "level", "first_above", 0, 4, 100.0, None, 3.0, 1.0)
    with pytest.raises(CalibrationError, match=r"of 2000 draws from the prior 0 .*\(no run has a finite G\)"):
        sample_approximate(model, priors(), facts(AT_0, never).assign(unit=["thing", "Year"]), seed=1, particles=100)


def test_the_tolerance_falls_by_halves_passes_over_ties_and_stops_where_nothing_is_nearer():
    ladder = Tightening()
    assert ladder.following(np.array([9.0, 5.0, 3.0, 2.0, 0.5]), np.inf) == 3.0
    assert ladder.following(np.array([9.0, 0.2, 0.3, 0.1]), np.inf) == 1.0
    assert ladder.following(np.array([3.0, 3.0, 3.0, 3.0, 2.0]), 3.0) == 2.0
    assert ladder.following(np.array([3.0, 3.0, 2.995]), 3.0) == 3.0
    assert ladder.following(np.array([3.0, 3.0, 3.0]), 3.0) == 3.0
    assert_array_equal(ladder.log_factor(np.array([0.5, 1.0, 1.1]), 1.0), [0.0, 0.0, -np.inf])


# --- bits and form -----------------------------------------------------------------------------------------------


def test_neither_threads_nor_the_order_of_facts_move_a_bit(model):
    rows, settings = facts(AT_0, AT_4, TOP), {"seed": 4, "particles": 100}
    whole = sample_approximate(model, priors(), rows, **settings, n_threads=1)
    again = sample_approximate(model, priors(), rows.iloc[::-1].reset_index(drop=True), **settings, n_threads=2)
    other = sample_approximate(model, priors(), rows, seed=5, particles=100)
    assert_array_equal(drawn(whole, "first", "slope"), drawn(again, "first", "slope"))
    assert whole.share == again.share and whole.tolerance == again.tolerance
    pd.testing.assert_frame_equal(whole.by_fact, again.by_fact.loc[whole.by_fact.index])
    assert not np.array_equal(drawn(whole, "first"), drawn(other, "first"))


def test_a_model_that_draws_random_numbers_is_refused(tmp_path):
    path = tmp_path / "random.mdl"
    path.write_text(MODEL.replace("rate = slope", "rate = slope*RANDOM UNIFORM(0.9, 1.1, 1)"))
    with pytest.raises(CalibrationError, match=r"draws random numbers \(rate\), so that a particle run"):
        sample_approximate(vf.read_model(path), priors(), facts(AT_0, AT_4), seed=1)


def test_bad_input_gives_one_clear_line(model):
    rows = facts(AT_0, AT_4)
    with pytest.raises(CalibrationError, match="particles is 50; it must be at least 100 for 2 parameters"):
        sample_approximate(model, priors(), rows, seed=1, particles=50)
    with pytest.raises(CalibrationError, match=r"time 2.5 is not a saved time of the run"):
        sample_approximate(model, priors(), rows.assign(time=[2.5, 4]), seed=1)
    with pytest.raises(CalibrationError, match="lacks column 'scale'"):
        sample_approximate(model, priors().drop(columns="scale"), rows, seed=1)
    with pytest.raises(DesignError, match="the prior of 'first' is in 'Year'"):
        sample_approximate(model, priors().assign(unit=["Year", "thing/Year"]), rows, seed=1)
    with pytest.raises(DesignError, match="the model is"):
        sample_approximate("line.mdl", priors(), rows, seed=1)
