"""Reference modes of village_cluster: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

import numpy as np
from modes import village_systems
from runs import Mode, Runs, Truth

# while outside listings still have a doubling before them, they count as multiplying
MULTIPLYING = 0.5
SAVED = (
    "active_stores", "registered_stores", "share_of_households", "listing_score", "stores[brand]",
    "brand_share_of_stores", "outside_listings", "profit[agent]", "profit[brand]", "profit_average",
    "profit_ratio[agent]", "stores_per_ecommerce_household", "village_revenue", "village_profit", "village_ad_spending",
    "ad_cost_share[agent]", "margin_after_ads[agent]", "revenue[agent]", "search_result_pages", "resident_workers",
    "income_ratio", "home_share", "elderly_share_of_residents", "net_return", "revenue[brand]",
    *village_systems.SAVED,
)
NO_TRADE = {"spontaneous_openings": 0.0, "imitation": 0.0, "founders_per_returnee": 0.0}


def peak_over_end(runs, name):
    """Highest over last value, for each member."""
    return runs[name].max(axis=1) / runs[name][:, -1]


def each(runs, function):
    """Apply a function of the member's position to each member."""
    return np.array([function(i) for i in range(len(runs["active_stores"]))])


def v01_1(run: Runs) -> Truth:
    """One store grows along an S-curve to 300-400 registered stores in 2016, within a quarter."""
    base = run()
    count = base.at("registered_stores", 2016)
    steps = np.diff(base["active_stores"], axis=1)
    inflection = base.time[1:][steps.argmax(axis=1)]
    inside = (inflection > 2007) & (inflection < base.peak_time("active_stores"))
    return (count >= 0.75 * 300) & (count <= 1.25 * 400) & (base["active_stores"][:, 0] == 1) & inside


def v01_3(run: Runs) -> Truth:
    """The label's test is passed by the list of 2013, and at most 40 % of households ever trade."""
    base = run()
    return (base.span("listing_score", 2006, 2013.75).max(axis=1) >= 1) & (
        base["share_of_households"].max(axis=1) <= 0.4
    )


def v01_4(run: Runs) -> Truth:
    """Stores overshoot with the ad contest and hardly without it."""
    with_contest = peak_over_end(run(), "active_stores")
    without = peak_over_end(run(contest_decisiveness=0.0), "active_stores")
    return (with_contest >= 1.25) & (without <= 1.15)


def v02_1(run: Runs) -> Truth:
    """The first brand store appears two to three years after the first agent; its share rises while crowding rises."""
    base = run()
    appears = base["stores[brand]"] >= 0.5
    delay = np.where(appears.any(axis=1), base.time[appears.argmax(axis=1)], np.inf) - base.time[0]
    crowding = base["outside_listings"] < MULTIPLYING * base["outside_listings"][:, -1:]
    share = np.where(crowding[:, 1:], np.diff(base["brand_share_of_stores"], axis=1), 0.0)
    return (delay >= 2) & (delay <= 3) & (share >= -1e-4).all(axis=1)


def v02_2(run: Runs) -> Truth:
    """Brand profit over agent profit rises while listings multiply (as long as agents earn a tenth of their best)."""
    base = run()
    agent, brand = base["profit[agent]"], base["profit[brand]"]
    usable = (agent > 0.1 * agent.max(axis=1, keepdims=True)) & (
        base["outside_listings"] < MULTIPLYING * base["outside_listings"][:, -1:]
    )
    start = int(np.argmin(np.abs(base.time - 2007)))
    last = each(base, lambda i: np.flatnonzero(usable[i])[-1] if usable[i].any() else 0)
    rows = np.arange(len(agent))
    return (last > start) & (brand[rows, last] / agent[rows, last] > brand[:, start] / agent[:, start])


def v02_3(run: Runs) -> Truth:
    """After demand falls by 30 %, the village with the ladder keeps a larger share of its stores."""
    shock = {"demand_shock_size": 0.3, "demand_shock_time": 2016.0}
    ladder, flat = run(**shock), run(**shock, switch_b4=0.0)
    kept = ladder.at("active_stores", 2020) / ladder.at("active_stores", 2016)
    return kept > flat.at("active_stores", 2020) / flat.at("active_stores", 2016)


def v02_4(run: Runs) -> Truth:
    """In some year average profit rises while agent profit falls."""
    base = run()
    agent, average = np.diff(base["profit[agent]"][:, ::4], axis=1), np.diff(base["profit_average"][:, ::4], axis=1)
    return ((agent < 0) & (average > 0)).any(axis=1)


def v02_5(run: Runs) -> Truth:
    """A lower outlay for a brand raises graduation."""
    cheap, dear = run(times={"brand_outlay": 0.5}), run(times={"brand_outlay": 2.0})
    return cheap.at("stores[brand]", 2014) > 1.05 * dear.at("stores[brand]", 2014)


def v04_1(run: Runs) -> Truth:
    """Registered stores per trading household stay between one and four in 2016."""
    ratio = run().at("stores_per_ecommerce_household", 2016)
    return (ratio >= 1) & (ratio < 4)


def v04_4(run: Runs) -> Truth:
    """A higher ceiling of family IDs raises stores and leaves the household share within two points."""
    few, many = run(stores_per_household_ceiling=2.0), run(stores_per_household_ceiling=4.0)
    same = np.abs(many.at("share_of_households", 2014) - few.at("share_of_households", 2014)) <= 0.02
    return same & (many.at("active_stores", 2014) > 1.1 * few.at("active_stores", 2014))


def v04_3(run: Runs) -> Truth:
    """A fee takes dormant stores before active ones, and of these at least as many as of sales."""
    base, fee = run(), run(store_fee=1000.0)
    lost = {name: 1 - fee.at(name, 2016) / base.at(name, 2016) for name in ("registered_stores", "active_stores")}
    sales = 1 - fee.at("village_revenue", 2016) / base.at("village_revenue", 2016)
    return (lost["registered_stores"] > lost["active_stores"]) & (lost["active_stores"] >= sales)


def v05_1(run: Runs) -> Truth:
    """Village revenue keeps rising for at least three years after profit per agent store has peaked."""
    base = run()
    return base.peak_time("village_revenue") - base.peak_time("profit[agent]") >= 3


def v05_2(run: Runs) -> Truth:
    """Bids that rise with crowding lower profit, not revenue, while nobody leaves: a transfer to the platform."""
    rising, level = run(), run(switch_r7=0.0)
    revenue = rising.at("village_revenue", 2010) / level.at("village_revenue", 2010) - 1
    lost = level.at("village_profit", 2010) - rising.at("village_profit", 2010)
    gained = rising.at("village_ad_spending", 2010) - level.at("village_ad_spending", 2010)
    lower = rising.at("profit[agent]", 2010) < level.at("profit[agent]", 2010)
    return lower & (np.abs(revenue) < 0.05) & (np.abs(lost - gained) < 0.2 * gained)


def v05_3(run: Runs) -> Truth:
    """Ad cost over sales rises, and the margin after ads falls, with listings, with size and with time in trade."""
    base = run()
    # more listings and as much more demand leave sales per store where they are
    both = ("initial_outside_listings", "outside_ceiling", "initial_demand", "demand_ceiling")
    crowded = run(times=dict.fromkeys(both, 1.5))
    large = run(times={"initial_demand": 1.25, "demand_ceiling": 1.25})
    cost, left = "ad_cost_share[agent]", "margin_after_ads[agent]"
    more = [other.at(cost, 2012) > base.at(cost, 2012) for other in (crowded, large)]
    less = [other.at(left, 2012) < base.at(left, 2012) for other in (crowded, large)]
    bigger = large.at("revenue[agent]", 2012) > base.at("revenue[agent]", 2012)
    tenure = base.at(cost, 2012) > base.at(cost, 2008)
    return more[0] & more[1] & less[0] & less[1] & bigger & tenure


def v05_4(run: Runs) -> Truth:
    """There are more than a hundred result pages in 2016."""
    return run().at("search_result_pages", 2016) > 100


def v05_5(run: Runs) -> Truth:
    """Without the contest agents earn at least twice as much in 2016."""
    base, without = run().at("profit[agent]", 2016), run(contest_decisiveness=0.0).at("profit[agent]", 2016)
    return without >= 2 * np.maximum(base, 0)


def v05_6(run: Runs) -> Truth:
    """Stores peak after profit has peaked, then fall below the peak."""
    base = run()
    later = base.peak_time("active_stores") > base.peak_time("profit[agent]")
    return later & (peak_over_end(base, "active_stores") > 1.02)


def v14_1(run: Runs) -> Truth:
    """Resident workers fall, then rise after relative local income has risen; without online trade they never do."""
    base, without = run(), run(**NO_TRADE)
    early = base.span("resident_workers", 2006, 2020)
    low = early.argmin(axis=1)
    rows = np.arange(len(low))
    falls = (early[rows, low] < 0.995 * early[:, 0]) & (low > 0)
    rises = each(base, lambda i: base["resident_workers"][i, low[i] :].max() > 1.03 * early[i, low[i]])
    richer = base["income_ratio"][rows, low] > 1.05 * base["income_ratio"][:, 0]
    return falls & rises & richer & (base.at("resident_workers", 2016) > 1.03 * without.at("resident_workers", 2016))


def v14_2(run: Runs) -> Truth:
    """Returns per migrant follow relative local income by one to two years; the elderly share peaks and falls.

    The lag is read off saved results, so a quarter of a year on either side is allowed.
    """
    base = run()
    income = np.diff(base.span("income_ratio", 2007, 2018), axis=1)
    back = np.diff(base.span("home_share", 2007, 2018), axis=1)
    lags = np.arange(13)

    def best_lag(i: int) -> float:
        n = income.shape[1]
        fit = [np.corrcoef(income[i, : n - lag], back[i, lag:])[0, 1] for lag in lags]
        return 0.25 * float(lags[int(np.argmax(fit))])

    lag = each(base, best_lag)
    old = base.span("elderly_share_of_residents", 2006, 2020)
    top = old.argmax(axis=1)
    falls = each(base, lambda i: top[i] > 0 and old[i, top[i] :].min() < 0.99 * old[i, top[i]])
    return (lag >= 0.75) & (lag <= 2.25) & falls


def v14_3(run: Runs) -> Truth:
    """When a lasting fall of demand takes agent profit below the reservation income, net return turns negative."""
    base, poor = run(), run(demand_shock_size=0.8, demand_shock_time=2014.0)
    below = poor.at("profit_ratio[agent]", 2018) < 1
    return below & (poor.at("net_return", 2018) < 0) & (poor.at("net_return", 2018) < base.at("net_return", 2018))


MODES: dict[str, Mode] = {
    "RM-V01.1": v01_1,
    "RM-V01.3": v01_3,
    "RM-V01.4": v01_4,
    "RM-V02.1": v02_1,
    "RM-V02.2": v02_2,
    "RM-V02.3": v02_3,
    "RM-V02.4": v02_4,
    "RM-V02.5": v02_5,
    "RM-V04.1": v04_1,
    "RM-V04.3": v04_3,
    "RM-V04.4": v04_4,
    "RM-V05.1": v05_1,
    "RM-V05.2": v05_2,
    "RM-V05.3": v05_3,
    "RM-V05.4": v05_4,
    "RM-V05.5": v05_5,
    "RM-V05.6": v05_6,
    **village_systems.SYSTEMS,
    "RM-V14.1": v14_1,
    "RM-V14.2": v14_2,
    "RM-V14.3": v14_3,
}
