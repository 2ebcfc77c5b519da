"""Grunfeld (1958), ten firms: figures printed by plm, Stata, fixest, linearmodels, pyfixest and boottest.

Values: Baltagi (2021), Croissant and Millo (plm) for the estimates; fixest and Stata for the errors clustered by firm;
pyfixest for the jackknife; Roodman et al. (2019) for the bootstrap. Tolerance: half a unit of the last printed digit.
"""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.datasets
from numpy.testing import assert_allclose

from villageflow.econometrics import (
    Spec,
    between,
    first_difference,
    pooled,
    random_effects,
    wild_bootstrap,
    within,
)

pytestmark = pytest.mark.published
FORMULA = "invest ~ value + capital"


@pytest.fixture(scope="module")
def panel():
    frame = statsmodels.datasets.grunfeld.load_pandas().data
    return frame[frame["firm"] != "American Steel"].set_index(["firm", "year"])


def test_within_estimates_of_plm(panel):
    result = within(FORMULA, panel, effects=("entity",), cov_type="unadjusted")
    assert_allclose(result.params, [0.1101238, 0.3100653], atol=0.5e-7)
    assert_allclose(result.std_errors, [0.0118567, 0.0173545], atol=0.5e-7)


def test_two_way_estimates_of_plm(panel):
    result = within(FORMULA, panel, cov_type="unadjusted")
    assert_allclose(result.params, [0.1177159, 0.3579163], atol=0.5e-7)
    assert_allclose(result.std_errors, [0.0137513, 0.0227190], atol=0.5e-7)


def test_random_effects_of_swamy_and_arora(panel):
    result = random_effects(FORMULA, panel, cov_type="unadjusted")
    assert_allclose(result.params["constant"], -57.834415, atol=0.5e-6)
    assert_allclose(result.params[["value", "capital"]], [0.1097812, 0.3081130], atol=0.5e-7)
    assert_allclose(result.std_errors["constant"], 28.898935, atol=0.5e-6)
    assert_allclose(result.std_errors[["value", "capital"]], [0.0104927, 0.0171805], atol=0.5e-7)
    assert_allclose(result.diagnostics["theta"].statistic, 0.8612236, atol=0.5e-7)


def test_first_differences_without_a_constant_and_means_between_firms(panel):
    changes = first_difference(FORMULA, panel, cov_type="unadjusted")
    assert_allclose(changes.params, [0.0890628, 0.2786940], atol=0.5e-7)
    assert_allclose(changes.std_errors, [0.0082341, 0.0471564], atol=0.5e-7)
    means = between(FORMULA, panel)
    assert_allclose(means.params[["value", "capital"]], [0.1346461, 0.0320315], atol=0.5e-7)


@pytest.mark.parametrize("convention", ["stata", "fixest"])
def test_errors_clustered_by_firm_in_the_stata_and_fixest_conventions(panel, convention):
    result = within(FORMULA, panel, effects=("entity",), convention=convention)
    assert_allclose(result.std_errors, [0.015194493943, 0.052751771759], atol=0.5e-12)
    assert (result.df, result.n_clusters, result.nobs) == (9, 10, 200)


def test_errors_clustered_by_firm_in_the_linearmodels_convention(panel):
    result = within(FORMULA, panel, effects=("entity",))
    assert_allclose(result.std_errors, [0.0144143968, 0.0500434547], atol=0.5e-10)
    g = 10
    assert_allclose(  # what linearmodels calls group_debias
        result.std_errors * np.sqrt(g / (g - 1) * 199 / 200), [0.0151560754, 0.0526183916], atol=0.5e-10
    )


def test_the_conventions_differ_by_the_stated_factor(panel):
    plain = within(FORMULA, panel, effects=("entity",))
    stata = within(FORMULA, panel, effects=("entity",), convention="stata")
    n, g, k = 200, 10, 3
    undo = np.sqrt((n - 2) / n)  # linearmodels divides by N less the two slopes
    factor = np.sqrt(g / (g - 1) * (n - 1) / (n - k))
    assert_allclose(plain.std_errors * undo * factor, stata.std_errors, rtol=1e-12)


def test_jackknife_errors_of_pyfixest(panel):
    result = within(FORMULA, panel, effects=("entity",), cov_type="jackknife", convention="fixest")
    assert_allclose(result.std_errors, [0.0380733754, 0.1552507814], atol=0.5e-10)


def test_wild_bootstrap_over_all_sign_patterns(panel):
    absorbed = wild_bootstrap(Spec(FORMULA, "within", ("entity",), convention="stata"), panel, "capital")
    assert absorbed.enumerated and absorbed.n_draws == 1024
    assert absorbed.p_value == 24 / 1024
    # printed with the ten firms counted as regressors; the factor is in every draw and moves no p-value
    assert_allclose(absorbed.statistic * np.sqrt((200 - 12) / (200 - 3)), 5.741984, atol=0.5e-6)
    spec = Spec(FORMULA, "within", (), convention="stata")
    plain = wild_bootstrap(spec, panel, "capital")
    assert_allclose(plain.statistic, 2.714915, atol=0.5e-6)
    assert_allclose(plain.p_value, 0.021484, atol=0.5e-6)
    result = pooled(FORMULA, panel, convention="stata")
    assert_allclose(plain.statistic, result.statistics["capital"], rtol=1e-12)


def test_the_interval_of_the_bootstrap_ends_where_its_p_value_crosses(panel):
    spec = Spec(FORMULA, "within", ("entity",), convention="stata")
    found = wild_bootstrap(spec, panel, "capital")
    for end, inside in ((found.lower, 1), (found.upper, -1)):
        shifts = [end + inside * 1e-4, end - inside * 1e-4]
        moved = [panel.assign(invest=panel["invest"] - shift * panel["capital"]) for shift in shifts]
        p_values = [wild_bootstrap(spec, frame, "capital").p_value for frame in moved]
        assert p_values[0] > 0.05 >= p_values[1]
