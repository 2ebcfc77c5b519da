"""Reference modes of national_diffusion: each is a statement about runs that can be false."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

Truth = npt.NDArray[np.bool_]
Mode = Callable[..., Truth]

# the list of a year is compared at this part of the year
LIST = 0.75
COUNTS = {2009: 3, 2013: 20, 2014: 212, 2015: 780, 2016: 1311, 2017: 2118, 2018: 3202}
HELD_OUT = {2019: 4310, 2020: 5425, 2021: 7023, 2022: 7780}


def count(runs, year):
    """Villages on the list of a year, for each member."""
    return runs.at("taobao_villages", year + LIST)


def slows_while_adding(runs) -> Truth:
    """Whether the growth rate falls and yearly additions rise from 2013-16 to 2016-20."""
    a, b, c = (count(runs, year) for year in (2013, 2016, 2020))
    return (np.log(b / a) / 3 > np.log(c / b) / 4) & ((b - a) / 3 < (c - b) / 4)


def p01_1(run: Callable) -> Truth:
    """The lists of 2013, 2016 and 2020 within a third, a tenth and a tenth."""
    base = run()
    error = {2013: 1 / 3, 2016: 0.1, 2020: 0.1}
    counts = {**COUNTS, **HELD_OUT}
    return np.logical_and.reduce([np.abs(count(base, y) / counts[y] - 1) <= e for y, e in error.items()])


def p01_2(run: Callable) -> Truth:
    """The growth rate falls while yearly additions rise."""
    return slows_while_adding(run())


def p01_4(run: Callable) -> Truth:
    """Another definition moves the level by a tenth or more and keeps the shape."""
    years = np.arange(2013, 2023)
    base = run()
    path = np.log(np.stack([count(base, y) for y in years]))
    holds = slows_while_adding(base)
    for rule in (1.0, 2.0):
        other = run(participation_rule=rule)
        log_count = np.log(np.stack([count(other, y) for y in years]))
        same_shape = [np.corrcoef(path[:, i], log_count[:, i])[0, 1] > 0.99 for i in range(path.shape[1])]
        holds &= slows_while_adding(other) & np.array(same_shape) & (np.abs(log_count[-1] - path[-1]) > np.log(1.1))
    return holds


def p01_5(run: Callable) -> Truth:
    """Villages near listed ones pass the test more often than others, and hardly so without contagion."""
    near, without = run().at("clustering_ratio", 2018), run(switch_r33=0.0).at("clustering_ratio", 2018)
    return (near > 1.2) & (near > without) & (np.abs(without - 1) < 0.1)


def p02_1(run: Callable) -> Truth:
    """In 2018 over 70 % of new users come from less developed areas; in 2019 the top three hold over 0.8."""
    base = run()
    rural = base.at("rural_users", 2019) - base.at("rural_users", 2018)
    urban = base.at("urban_users", 2019) - base.at("urban_users", 2018)
    return (rural / (rural + urban) > 0.7) & (base.at("top_three_share", 2019.5) > 0.8)


def p02_3(run: Callable) -> Truth:
    """A stronger advantage of size raises the leading platforms' share and what sellers pay to be seen."""
    base, large = run(), run(times={"network_advantage": 1.5})
    share = large.at("top_three_share", 2020) > base.at("top_three_share", 2020)
    return share & (large.at("seller_ad_cost_share", 2020) > base.at("seller_ad_cost_share", 2020))


MODES: dict[str, tuple[Mode, float]] = {
    "RM-P01.1": (p01_1, 0),
    "RM-P01.2": (p01_2, 0.93),
    "RM-P01.4": (p01_4, 0.86),
    "RM-P01.5": (p01_5, 0.95),
    "RM-P02.1": (p02_1, 0.34),
    "RM-P02.3": (p02_3, 0.94),
}


@pytest.mark.parametrize("mode", MODES)
def test_base(mode, nation_base):
    assert MODES[mode][0](nation_base).all(), MODES[mode][0].__doc__


@pytest.mark.parametrize("mode", MODES)
def test_share_of_prior_draws(mode, nation_prior):
    holds, least = MODES[mode]
    share = float(holds(nation_prior).mean())
    assert share >= least, f"{mode} holds in {share:.3f} of the draws, {least} was measured"


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
