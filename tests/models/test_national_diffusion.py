"""What national_diffusion shows beside its reference modes."""

from __future__ import annotations

import numpy as np
import pytest
from modes.national_diffusion import COUNTS, HELD_OUT, count
from scipy import stats


@pytest.mark.parametrize(("counts", "worst"), [(COUNTS, 0.22), (HELD_OUT, 0.1)], ids=["used", "held out"])
def test_counts_of_the_lists(counts, worst, nation_base):
    base = nation_base()
    log_error = [np.log(count(base, year)[0] / value) for year, value in counts.items() if value >= 20]
    assert np.abs(log_error).max() < worst


def test_platform_share_and_ad_cost_go_together_over_the_prior(nation_prior):
    prior = nation_prior()
    rank = stats.spearmanr(prior.at("top_three_share", 2020), prior.at("seller_ad_cost_share", 2020))
    assert rank.statistic > 0.1


def test_mills_ratio_of_the_file(nation_base):
    """The tail approximation against scipy, from eight deviations above the threshold to thirty below it."""
    constants = nation_base.model.constants
    z = np.linspace(-8, 30, 3801)
    t = 1 / (1 + constants["mills_scale"] * np.abs(z))
    ratio = np.zeros_like(t)
    for name in ("mills_c5", "mills_c4", "mills_c3", "mills_c2", "mills_c1", "mills_scale"):
        ratio = t * (constants[name] + ratio)
    density = constants["normal_peak"] * np.exp(-(z**2) / 2)
    inverse = np.where(z < 0, 1 / ratio, density / (1 - density * ratio))
    exact = np.exp(stats.norm.logpdf(z) - stats.norm.logcdf(z))
    np.testing.assert_allclose(inverse, exact, rtol=3e-5)


@pytest.mark.parametrize("sales", [1e-4, 1e3, 1e12], ids=["far below", "below", "far above"])
def test_mills_ratio_of_a_run(sales, nation_base):
    run = nation_base(reference_village_sales=sales)
    z = run["distance_below_threshold"]
    exact = np.exp(stats.norm.logpdf(z) - stats.norm.logcdf(z))
    np.testing.assert_allclose(run["inverse_mills_ratio"], exact, rtol=3e-5, atol=1e-300)


def test_users_never_exceed_people(nation_prior):
    run = nation_prior()
    for area in ("urban", "rural"):
        assert (run[f"{area}_users"] <= nation_prior.values(f"{area}_potential")[:, None]).all()
