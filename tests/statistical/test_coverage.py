"""Intervals hold the truth as often as they say, and fail where they are not meant: other draws than the page's."""

from __future__ import annotations

import pytest
from evidence.page import FAILS, POWER, coverage_bounds
from evidence.record import SIZE, replications, summary
from evidence.studies import LEVEL, STUDIES, TEST
from scipy import stats

N, FIRST = 100, 200_000
COVERED = (
    "stores, one", "stores, many", "stores, indirect", "stores, random effects", "stores, persistent errors",
    "stores, before the ceiling", "diffusion, indirect",
)  # fmt: skip


def found(name, n=N):
    study = STUDIES[name]
    return summary(study, replications(study, FIRST, n))


@pytest.mark.statistical
@pytest.mark.parametrize("name", COVERED)
def test_intervals_that_are_meant_for_the_design_cover(name):
    """The bounds allow for one cell in all of these tables to be outside by chance in one of twenty repetitions."""
    study, table = STUDIES[name], found(name)
    meant = table[[study.intervals[interval] and interval != TEST for interval in table["interval"]]]
    low, high = coverage_bounds(N, 8 * len(COVERED))
    assert len(meant) >= len(study.truth)
    assert meant["covered"].between(low, high).all(), meant.to_string()


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("name", "parameter"), [("stores, persistent errors", "imitation"), ("share, persistent errors", "growth_rate")]
)
def test_the_inverse_hessian_fails_under_persistent_errors(name, parameter):
    """A true coverage of 95 percent gives so few hits of 200 less than once in a thousand times."""
    row = found(name, 200).set_index(["parameter", "interval"]).loc[(parameter, "Hessian")]
    assert row["covered"] < FAILS
    assert stats.binom.cdf(round(row["covered"] * 200), 200, LEVEL) < 0.001


@pytest.mark.statistical
def test_j_rejects_a_right_simulator_rarely_and_one_without_the_loop_often():
    right = found("stores, indirect").set_index("interval").loc[TEST]
    assert stats.binomtest(round((1 - right["covered"]) * N), N, SIZE).pvalue > 0.001
    wrong = found("stores, indirect, competition left out", 30).set_index("interval").loc[TEST]
    assert 1 - wrong["covered"] > POWER
