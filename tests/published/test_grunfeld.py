"""Grunfeld (1958), ten firms: figures printed by plm, Stata and linearmodels.

Values: Baltagi (2021), Croissant and Millo (plm) for the within estimates; fixest and Stata for the errors
clustered by firm. Tolerance: half a unit of the last printed digit.
"""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.datasets
from numpy.testing import assert_allclose

from villageflow.econometrics import within

pytestmark = pytest.mark.published
FORMULA = "invest ~ value + capital"


@pytest.fixture(scope="module")
def panel():
    frame = statsmodels.datasets.grunfeld.load_pandas().data
    return frame[frame["firm"] != "American Steel"].set_index(["firm", "year"])


def test_within_estimates_of_plm(panel):
    result = within(FORMULA, panel, effects=("entity",), cov="unadjusted")
    assert_allclose(result.params, [0.1101238, 0.3100653], atol=0.5e-7)
    assert_allclose(result.std_errors, [0.0118567, 0.0173545], atol=0.5e-7)


def test_two_way_estimates_of_plm(panel):
    result = within(FORMULA, panel, cov="unadjusted")
    assert_allclose(result.params, [0.1177159, 0.3579163], atol=0.5e-7)
    assert_allclose(result.std_errors, [0.0137513, 0.0227190], atol=0.5e-7)


def test_errors_clustered_by_firm_in_the_stata_convention(panel):
    result = within(FORMULA, panel, effects=("entity",), convention="stata")
    assert_allclose(result.std_errors, [0.015194493943, 0.052751771759], atol=0.5e-12)
    assert (result.df, result.n_clusters, result.nobs) == (9, 10, 200)


def test_errors_clustered_by_firm_in_the_linearmodels_convention(panel):
    result = within(FORMULA, panel, effects=("entity",))
    assert_allclose(result.std_errors, [0.0144143968, 0.0500434547], atol=0.5e-10)


def test_the_conventions_differ_by_the_stated_factor(panel):
    plain = within(FORMULA, panel, effects=("entity",))
    stata = within(FORMULA, panel, effects=("entity",), convention="stata")
    n, g, k = 200, 10, 3
    undo = np.sqrt((n - 2) / n)  # linearmodels divides by N less the two slopes
    factor = np.sqrt(g / (g - 1) * (n - 1) / (n - k))
    assert_allclose(plain.std_errors * undo * factor, stata.std_errors, rtol=1e-12)
