"""Reference modes of national_diffusion: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

import numpy as np
from runs import Mode, Runs, Truth

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


def p01_1(run: Runs) -> Truth:
    """The lists of 2013, 2016 and 2020 within a third, a tenth and a tenth."""
    base = run()
    error = {2013: 1 / 3, 2016: 0.1, 2020: 0.1}
    counts = {**COUNTS, **HELD_OUT}
    return np.logical_and.reduce([np.abs(count(base, y) / counts[y] - 1) <= e for y, e in error.items()])


def p01_2(run: Runs) -> Truth:
    """The growth rate falls while yearly additions rise."""
    return slows_while_adding(run())


def p01_4(run: Runs) -> Truth:
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


def p01_5(run: Runs) -> Truth:
    """Villages near listed ones pass the test more often than others, and hardly so without contagion."""
    near, without = run().at("clustering_ratio", 2018), run(switch_r33=0.0).at("clustering_ratio", 2018)
    return (near > 1.2) & (near > without) & (np.abs(without - 1) < 0.1)


def p02_1(run: Runs) -> Truth:
    """In 2018 over 70 % of new users come from less developed areas; in 2019 the top three hold over 0.8."""
    base = run()
    rural = base.at("rural_users", 2019) - base.at("rural_users", 2018)
    urban = base.at("urban_users", 2019) - base.at("urban_users", 2018)
    return (rural / (rural + urban) > 0.7) & (base.at("top_three_share", 2019.5) > 0.8)


def p02_3(run: Runs) -> Truth:
    """A stronger advantage of size raises the leading platforms' share and what sellers pay to be seen."""
    base, large = run(), run(times={"network_advantage": 1.5})
    share = large.at("top_three_share", 2020) > base.at("top_three_share", 2020)
    return share & (large.at("seller_ad_cost_share", 2020) > base.at("seller_ad_cost_share", 2020))


MODES: dict[str, Mode] = {
    "RM-P01.1": p01_1,
    "RM-P01.2": p01_2,
    "RM-P01.4": p01_4,
    "RM-P01.5": p01_5,
    "RM-P02.1": p02_1,
    "RM-P02.3": p02_3,
}
