"""Munnell's states and Wooldridge's wage panel: figures of Baltagi (2021), plm and Wooldridge (2010), table 14.2.

Tolerance: half a unit of the last printed digit.
"""

from __future__ import annotations

import pytest
from linearmodels.datasets import munnell, wage_panel
from numpy.testing import assert_allclose

from villageflow.econometrics import pooled, random_effects, within

pytestmark = pytest.mark.published
PRODUCTION = "ln(GSP) ~ ln(P_CAP) + ln(PC) + ln(EMP) + UNEMP"
WAGES = "lwage ~ educ + black + hisp + exper + expersq + married + union"


@pytest.fixture(scope="module")
def states():
    return munnell.load().set_index(["STATE", "YR"])


@pytest.fixture(scope="module")
def men():
    frame = wage_panel.load().set_index(["nr", "year"])
    years = frame.index.get_level_values(1)
    return frame.assign(**{f"d{year}": (years == year).astype(float) for year in range(1981, 1988)})


def with_years(formula):
    return formula + "".join(f" + d{year}" for year in range(1981, 1988))


def test_production_within_states(states):
    result = within(PRODUCTION, states, effects="entity", cov_type="unadjusted")
    assert_allclose(result.params, [-0.02614965, 0.29200693, 0.76815947, -0.00529774], atol=0.5e-8)
    assert_allclose(result.std_errors, [0.029002, 0.025120, 0.030092, 0.000989], atol=0.5e-6)


def test_production_by_random_effects_pooled_and_two_way(states):
    random = random_effects(PRODUCTION, states, cov_type="unadjusted")
    assert_allclose(random.params, [2.135411, 0.004439, 0.310548, 0.729671, -0.006172], atol=0.5e-6)
    plain = pooled(PRODUCTION, states, cov_type="unadjusted")
    assert_allclose(plain.params, [1.643302, 0.155007, 0.309190, 0.593935, -0.006733], atol=0.5e-6)
    two_way = within(PRODUCTION, states, cov_type="unadjusted")
    assert_allclose(two_way.params, [-0.030176, 0.168828, 0.769306, -0.004221], atol=0.5e-6)


def test_union_and_marriage_premium_pooled_random_and_within(men):
    plain = pooled(with_years(WAGES), men, cov_type="unadjusted")
    random = random_effects(with_years(WAGES), men, cov_type="unadjusted")
    inner = within("lwage ~ expersq + married + union", men, cov_type="unadjusted")
    for result, union, error, married in (
        (plain, 0.182461, 0.017157, 0.108253),
        (random, 0.106134, 0.017854, 0.063986),
        (inner, 0.080002, 0.019310, 0.046680),
    ):
        assert_allclose(result.params[["union", "married"]], [union, married], atol=0.5e-6)
        assert_allclose(result.std_errors["union"], error, atol=0.5e-6)
    assert_allclose(random.diagnostics["theta"].statistic, 0.6429109, atol=0.5e-7)
