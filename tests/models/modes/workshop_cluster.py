"""Reference modes of workshop_cluster: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

import numpy as np
from runs import Floats, Mode, Runs, Series, Truth

SHOCK = 2014.0
WORKSHOPS, MAKERS, EATERIES = "firms[finishing]", "firms[maker]", "firms[eatery]"
SAVED = (WORKSHOPS, MAKERS, EATERIES, "cluster_residents", "support_programme", "makers_over_former_workshops")
# makers that make a cluster: the number of stores at which the platform's label counts a village as one (X03)
CLUSTER = 100
# yearly growth under which a cluster counts as no longer growing
STILL_GROWING = 0.05
# a time read off saved results is known to a quarter of a year; twice that counts as earlier or later
CLEARLY = 0.5


def first_time(time: Floats, holds: Truth) -> Floats:
    """First saved time at which a condition holds, for each member; infinite where it never does."""
    return np.where(holds.any(axis=1), time[holds.argmax(axis=1)], np.inf)


def after_shock(series: Series, name: str) -> Floats:
    """A variable since the shock relative to its value at the shock."""
    return series.span(name, SHOCK, series.time[-1]) / series.at(name, SHOCK)[:, None]


def growth_ends(series: Series) -> Floats:
    """When the makers' growth over the year ahead falls under the limit for good; infinite where it has not by then."""
    makers, year = series[MAKERS], round(1 / (series.time[1] - series.time[0]))
    grows = makers[:, year:] - makers[:, :-year] >= STILL_GROWING * makers[:, :-year]
    last = grows.shape[1] - 1 - grows[:, ::-1].argmax(axis=1)
    return np.where(grows[:, -1], np.inf, series.time[last])


def v15_2(run: Runs) -> Truth:
    """Eateries halve later than workshops, and lose a tenth more after workshops have come near their lowest."""
    base = run()
    workshops, eateries = after_shock(base, WORKSHOPS), after_shock(base, EATERIES)
    time = base.time[base.time >= SHOCK]
    later = first_time(time, eateries < 0.5) > first_time(time, workshops < 0.5)
    level = (workshops < workshops.min(axis=1, keepdims=True) + 0.05).argmax(axis=1)
    then = eateries[np.arange(len(eateries)), level]
    return later & (eateries.min(axis=1) < 0.5) & (then - eateries.min(axis=1) >= 0.1)


def v15_3(run: Runs) -> Truth:
    """In the six years after the shock makers stay below a tenth of the former workshops; with support they pass it."""
    base, helped = (series.span("makers_over_former_workshops", SHOCK, SHOCK + 6) for series in
                    (run(), run(policy_upgrading_support=1.0)))
    return (base.max(axis=1) < 0.1) & (helped[:, -1] >= 0.1)


def v15_4(run: Runs) -> Truth:
    """By 2030 workshops are back at three quarters of what they were without a shock of a year; not at a quarter
    without one of five."""
    none, short, long = (run(order_shock_length=length).end(WORKSHOPS) for length in (0.0, 1.0, 5.0))
    return (short >= 0.75 * none) & (long <= 0.25 * none)


def v15_5(run: Runs) -> Truth:
    """Support for upgrading from four years before the shock leaves at least three times as many residents."""
    return run(policy_upgrading_support=1.0).end("cluster_residents") >= 3 * run().end("cluster_residents")


def g01_1(run: Runs) -> Truth:
    """Shaji: a hundred makers are there half a year before a tenth of full support, and hardly later without any;
    with support growth ends later."""
    shaji = run.archetype("shaji")
    helped, alone = shaji(), shaji(switch_r105=0.0)
    cluster, by_itself = (first_time(series.time, series[MAKERS] >= CLUSTER) for series in (helped, alone))
    support = first_time(helped.time, helped["support_programme"] >= 0.1)
    precedes = np.isfinite(cluster) & (support >= cluster + CLEARLY) & (by_itself <= cluster + CLEARLY)
    ends = growth_ends(alone)
    return precedes & np.isfinite(ends) & (growth_ends(helped) >= ends + CLEARLY)


def g01_2(run: Runs) -> Truth:
    """Shaji: without later rules growth ends earlier and fewer makers are there at the end."""
    shaji = run.archetype("shaji")
    ruled, unruled = shaji(), shaji(switch_b93=0.0)
    ends = growth_ends(unruled)
    earlier = np.isfinite(ends) & (ends <= growth_ends(ruled) - CLEARLY)
    return earlier & (unruled.end(MAKERS) < ruled.end(MAKERS))


MODES: dict[str, Mode] = {
    "RM-V15.2": v15_2,
    "RM-V15.3": v15_3,
    "RM-V15.4": v15_4,
    "RM-V15.5": v15_5,
    "RM-G01.1": g01_1,
    "RM-G01.2": g01_2,
}
