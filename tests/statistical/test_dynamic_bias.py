"""The bias of a lagged outcome under entity effects, and what GMM makes of it, in a design with known truth.

y = 0.7 lag(y) + 0.5 x + a + e and x = 0.5 lag(x) + 0.3 a + v with a, e and v standard normal, x from zero and y from
a / (1 - 0.7); 30 periods discarded; 100 entities. Figures of the long test were measured with 300 replications of an
independent program; "near" is within three Monte Carlo standard errors of the difference of two such measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from villageflow.econometrics.dynamic import Instruments, difference_gmm, system_gmm

RHO, BETA = 0.7, 0.5
BURN_IN = 30


def simulate_panel(seed, replication, *, n_entities=100, n_periods=8):
    """One panel of the design, indexed (entity, time): ``n_periods`` and the one before them, for the lag."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(replication,)))
    a = rng.normal(size=n_entities)
    y, x = a / (1 - RHO), np.zeros(n_entities)
    rows = []
    for _ in range(BURN_IN + n_periods + 1):
        x = 0.5 * x + 0.3 * a + rng.normal(size=n_entities)
        y = RHO * y + BETA * x + a + rng.normal(size=n_entities)
        rows.append((y, x))
    kept = np.array(rows[BURN_IN:])  # (period, variable, entity)
    index = pd.MultiIndex.from_product([range(n_entities), range(n_periods + 1)], names=["entity", "time"])
    return pd.DataFrame({"y": kept[:, 0].T.ravel(), "x": kept[:, 1].T.ravel()}, index=index)


@dataclass(frozen=True)
class Measured:
    """Mean error, standard deviation and coverage of 95 percent intervals over replications."""

    bias: float
    sd: float
    coverage: float
    n: int

    @property
    def bias_error(self):
        return self.sd / np.sqrt(self.n)

    def coverage_error(self, near):
        return np.sqrt(near * (1 - near) / self.n)


def measure(estimator, *, n, seed, truth=RHO, **design):
    """Run an estimator, panel -> (value, standard error, critical value), on ``n`` panels of the design."""
    found = np.array([estimator(simulate_panel(seed, i, **design)) for i in range(n)])
    errors = found[:, 0] - truth
    covered = np.abs(errors) <= found[:, 2] * found[:, 1]
    return Measured(errors.mean(), errors.std(ddof=1), covered.mean(), n)


def two_step_difference(panel):
    result = difference_gmm("y ~ lag(y) + x", panel)
    return result.params["lag(y)"], result.std_errors["lag(y)"], 1.959964


def within_by_hand(panel):
    """Least squares after entity means are taken out, errors clustered by entity."""
    frame = panel.assign(lag=panel.groupby("entity")["y"].shift()).dropna()[["y", "lag", "x"]]
    inner = frame - frame.groupby("entity").transform("mean")
    y, x = inner["y"].to_numpy(), inner[["lag", "x"]].to_numpy()
    bread = np.linalg.inv(x.T @ x)
    params = bread @ x.T @ y
    scores = pd.DataFrame(x * (y - x @ params)[:, None], index=inner.index).groupby("entity").sum().to_numpy()
    cov = bread @ scores.T @ scores @ bread
    return params[0], np.sqrt(cov[0, 0]), 1.984


def assert_near(found, bias, sd, coverage):
    """Within three standard errors of a difference between this measurement and one with 300 replications."""
    both = np.sqrt(1 / found.n + 1 / 300)
    assert abs(found.bias - bias) < 3 * found.sd * both
    assert abs(found.sd - sd) < 3 * sd * both / np.sqrt(2)
    assert abs(found.coverage - coverage) < 3 * np.sqrt(coverage * (1 - coverage)) * both


def test_replications_do_not_depend_on_their_number():
    pd.testing.assert_frame_equal(simulate_panel(1, 5), simulate_panel(1, 5))
    assert not simulate_panel(1, 5).equals(simulate_panel(1, 6))


def test_difference_gmm_is_biased_downwards_by_a_little():
    assert_near(measure(two_step_difference, n=40, seed=1), bias=-0.073, sd=0.108, coverage=0.91)


@pytest.mark.statistical
def test_difference_gmm_has_the_measured_bias_spread_and_coverage():
    assert_near(measure(two_step_difference, n=300, seed=2), bias=-0.073, sd=0.108, coverage=0.91)


@pytest.mark.statistical
def test_uncorrected_errors_cover_less_than_corrected_ones():
    def uncorrected(panel):
        result = difference_gmm("y ~ lag(y) + x", panel, cov_type="unadjusted")
        return result.params["lag(y)"], result.std_errors["lag(y)"], 1.959964

    plain, corrected = measure(uncorrected, n=300, seed=2), measure(two_step_difference, n=300, seed=2)
    assert plain.bias == corrected.bias
    assert plain.coverage < corrected.coverage - 0.05


@pytest.mark.statistical
def test_within_estimates_have_the_bias_of_nickell_and_cover_nothing():
    found = measure(within_by_hand, n=300, seed=2)
    assert abs(found.bias + 0.170) < 3 * found.bias_error * np.sqrt(2)
    assert found.coverage < 0.02


def system(panel, term, **instruments):
    result = system_gmm("y ~ lag(y) + x", panel, collapse=True, **instruments)
    return result.params[term], result.std_errors[term], 1.959964


@pytest.mark.statistical
def test_system_gmm_is_nearer_to_the_truth_in_a_stationary_design():
    lags = (Instruments("y"), Instruments("x", 1))
    found = measure(lambda panel: system(panel, "lag(y)", gmm=lags), n=300, seed=2)
    difference = measure(two_step_difference, n=300, seed=2)
    assert abs(found.bias) < abs(difference.bias) / 2
    assert found.sd < difference.sd


@pytest.mark.statistical
def test_a_regressor_that_follows_the_entity_effect_is_no_instrument_of_the_level_equation():
    found = measure(lambda panel: system(panel, "x", iv=["x"]), n=300, seed=2, truth=BETA)
    assert found.bias > 0.2
    assert found.coverage < 0.5


@pytest.mark.statistical
def test_hansens_test_rejects_as_often_as_it_says():
    def p_value(panel):
        return difference_gmm("y ~ lag(y) + x", panel, collapse=True).diagnostics["Hansen J"].p_value

    rejected = np.mean([p_value(simulate_panel(3, i)) < 0.05 for i in range(600)])
    assert abs(rejected - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 600)
