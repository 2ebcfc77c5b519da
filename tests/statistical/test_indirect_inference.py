"""Indirect inference on a biased regression is not biased, and its test of the simulator rejects as often as it says.

The design is that of `test_dynamic_bias`: y = 0.7 lag(y) + 0.5 x + a + e, 100 entities, 8 periods and a lag. The
auxiliary model is the within regression, whose bias in the first coefficient is -0.17. Parameters are the two
coefficients; a, the shocks of x and e are drawn afresh for the simulated panels, once, and fixed over the search.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from test_dynamic_bias import BETA, BURN_IN, RHO, simulate_panel

from villageflow.calibrate.indirect import indirect_inference
from villageflow.calibrate.moments import Auxiliary, Coefficients, Mean, StandardDeviation
from villageflow.econometrics.spec import Spec

N, T, S = 100, 8, 10
FEEDBACK = -0.15
WITHIN = Spec("y ~ lag(y) + x", effects=("entity",))
BACK = Spec("x ~ lag(x) + lag(y)", effects=("entity",))


class ByHand(Auxiliary):
    """The same moments by plain arrays, ten times faster; a test compares. Covariances are those of the package."""

    def values(self, panel):
        y, x = panel.to_numpy().T.reshape(2, -1, T + 1)
        pairs = [(y[:, 1:], y[:, :-1], x[:, 1:]), (x[:, 1:], x[:, :-1], y[:, :-1])]
        found = []
        for variables in pairs[:len(self.statistics)]:
            left, *right = ((item - item.mean(axis=1, keepdims=True)).ravel() for item in variables)
            right = np.array(right)
            found.extend(np.linalg.solve(right @ right.T, right @ left))
        return pd.Series(found, index=NAMES[:len(found)], name="value")


NAMES = pd.Index(["lag(y)", "x", "back: lag(x)", "back: lag(y)"], name="moment")
BIASED = ByHand((Coefficients(WITHIN),))
LOOP = ByHand((Coefficients(WITHIN), Coefficients(BACK, name="back")))
PARAMETERS = pd.DataFrame({
    "name": ["rho", "beta"], "scale": ["lin", "lin"], "lower": [0.0, -1.0], "upper": [0.95, 2.0],
})


class DynamicPanels:
    """Panels of the design for other coefficients, from draws that are made once.

    ``feedback`` is how far y of the period before moves x: 0 in the design.
    """

    def __init__(self, seed, *, n_simulations=S, feedback=0.0):
        rng = np.random.default_rng(seed)
        self.n_simulations, self.feedback = n_simulations, feedback
        n_steps = BURN_IN + T + 1
        self.a = rng.normal(size=(n_simulations, N))
        self.v, self.e = rng.normal(size=(2, n_steps, n_simulations, N))
        self.index = pd.MultiIndex.from_product([range(N), range(T + 1)], names=["entity", "time"])

    def panels(self, values):
        rho, beta = (values[:, j, None, None] for j in (0, 1))
        y, x = self.a / (1 - rho), np.zeros((len(values), *self.a.shape))
        kept = np.empty((2, T + 1, *y.shape))
        for t, (v, e) in enumerate(zip(self.v, self.e)):
            x = 0.5 * x + 0.3 * self.a + self.feedback * y + v
            y = rho * y + beta * x + self.a + e
            if t >= BURN_IN:
                kept[:, t - BURN_IN] = y, x
        flat = np.moveaxis(kept, 1, -1).reshape(2, len(values), self.n_simulations, -1)
        return [[pd.DataFrame({"y": flat[0, i, s], "x": flat[1, i, s]}, index=self.index, copy=False)
                 for s in range(self.n_simulations)] for i in range(len(values))]


def with_loop(replication):
    """A panel in which y lowers x of the next period, which closes a balancing loop."""
    simulator = DynamicPanels([2, replication, 9], n_simulations=1, feedback=FEEDBACK)
    return simulator.panels(np.array([[RHO, BETA]]))[0][0]


class Found(NamedTuple):
    """What a replication found: rho, its error and interval, and the p-value of the distance."""

    rho: float
    error: float
    lower: float
    upper: float
    p_value: float


def replicate(replication, auxiliary, *, weights="diagonal", panel=None, n_simulations=S):
    simulator = DynamicPanels([2, replication, 1], n_simulations=n_simulations)
    panel = simulate_panel(2, replication) if panel is None else panel
    found = indirect_inference(
        simulator, auxiliary, panel, PARAMETERS, weights=weights, seed=replication, starts=1
    )
    assert found.converged and not found.at_bound
    p_value = np.nan if found.p_value is None else found.p_value
    return Found(found.params["rho"], found.std_errors["rho"], *found.conf_int().loc["rho"], p_value)


@pytest.mark.parametrize("auxiliary", [BIASED, LOOP])
def test_moments_by_hand_are_those_of_the_package(auxiliary):
    panel = simulate_panel(1, 0)
    pd.testing.assert_series_equal(auxiliary.values(panel), Auxiliary(auxiliary.statistics).values(panel), rtol=1e-10)
    one, other = (
        indirect_inference(DynamicPanels(3), kind(auxiliary.statistics), panel, PARAMETERS, seed=1, starts=1)
        for kind in (ByHand, Auxiliary)
    )
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame(), rtol=1e-6)


def test_the_simulator_gives_the_design():
    """Moments over many panels are those of the data, which are simulated by other code."""
    auxiliary = Auxiliary((*LOOP.statistics, Mean("y"), StandardDeviation("y"), Mean("x")))
    real = np.array([auxiliary.values(simulate_panel(5, i)) for i in range(40)])
    simulated = np.array([
        auxiliary.values(panel) for panel in DynamicPanels(6, n_simulations=40).panels(np.array([[RHO, BETA]]))[0]
    ])
    error = np.sqrt((real.var(axis=0, ddof=1) + simulated.var(axis=0, ddof=1)) / 40)
    assert (abs(real.mean(axis=0) - simulated.mean(axis=0)) < 3.5 * error).all()


def test_the_within_estimate_is_biased_and_indirect_inference_on_it_is_not():
    n = 20
    naive = np.mean([BIASED.values(simulate_panel(2, i))["lag(y)"] for i in range(n)]) - RHO
    matched = np.mean([replicate(i, BIASED).rho for i in range(n)]) - RHO
    assert abs(naive + 0.170) < 3 * 0.03 / np.sqrt(n)
    assert abs(matched) < 3 * 0.0375 / np.sqrt(n)


def test_the_test_of_the_distance_notices_a_loop_that_the_simulator_omits():
    p_values = [replicate(i, LOOP, panel=with_loop(i), n_simulations=5).p_value for i in range(5)]
    assert max(p_values) < 0.05
    assert replicate(0, LOOP, n_simulations=5).p_value > 0.05


@pytest.mark.statistical
def test_row_c2_bias_spread_and_coverage():
    """Monte Carlo errors with 300 replications: bias 0.0022, deviation 0.0015, coverage 0.016."""
    found = pd.DataFrame([replicate(i, BIASED) for i in range(300)])
    assert abs(found["rho"].mean() - RHO) < 0.005
    assert found["rho"].std() == pytest.approx(0.0375, abs=3 * 0.0375 / np.sqrt(600))
    covered = np.mean((found["lower"] <= RHO) & (found["upper"] >= RHO))
    assert covered == pytest.approx(0.92, abs=3 * np.sqrt(0.92 * 0.08 / 300))


@pytest.mark.statistical
@pytest.mark.parametrize("weights", ["diagonal", "optimal"])
def test_the_test_of_the_distance_rejects_a_right_simulator_as_often_as_it_says(weights):
    """Four moments, two parameters. Monte Carlo error of 5 percent with 600 replications: 0.9 points."""
    p_values = np.array([replicate(i, LOOP, weights=weights, n_simulations=5).p_value for i in range(600)])
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=2 * np.sqrt(0.05 * 0.95 / 600))
    assert np.mean(p_values) == pytest.approx(0.5, abs=3 * np.sqrt(1 / 12 / 600))


@pytest.mark.statistical
def test_with_one_simulated_panel_the_variance_doubles():
    """Coverage with the factor 1 + 1/S and without it; Monte Carlo error 1.3 points."""
    found = pd.DataFrame([replicate(i, BIASED, n_simulations=1) for i in range(300)])
    away = abs(found["rho"] - RHO) / found["error"]
    assert np.mean(away < 1.96) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 300))
    assert np.mean(away < 1.96 / np.sqrt(2)) < 0.90


@pytest.mark.statistical
@pytest.mark.parametrize("weights", ["diagonal", "optimal"])
def test_a_simulator_without_the_loop_is_rejected_in_more_than_four_of_five_panels(weights):
    """With 50 replications the Monte Carlo error at 80 percent is 5.7 points."""
    p_values = np.array([
        replicate(i, LOOP, weights=weights, panel=with_loop(i), n_simulations=5).p_value for i in range(50)
    ])
    assert np.mean(p_values < 0.05) > 0.8
