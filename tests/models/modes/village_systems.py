"""Reference modes of village_cluster on storage, work, goods, channels, support, publicity and networks."""

from __future__ import annotations

import numpy as np
from runs import Mode, Runs, Series, Truth

SAVED = (
    "success_seen",
    "order_by_order_share", "reply_coverage[agent]", "reply_coverage[brand]", "profit_per_hour", "line_abandonment",
    "line_margin", "agent_share", "brand_share", "manufacturer_entry", "online_profit_per_order",
    "online_over_wholesale", "mean_quality", "mean_price", "copycat_share", "employees_per_owner", "failed_stores",
    "labour_demand", "anchor_shop", "anchor_shop_tried", "offline_producers", "online_habit", "county_attention",
    "national_visits", "media_fame", "rival_fame", "village_character", "newcomer_survival", "help_given",
)
LOW_VALUES = (4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 30.0, 45.0, 80.0)


def yearly(run: Series, name: str, start: float, end: float) -> np.ndarray:
    """Yearly values from start to end."""
    return np.stack([run.at(name, year) for year in np.arange(start, end + 0.5)], axis=1)


def best_lag(leads: np.ndarray, follows: np.ndarray, steps: int) -> np.ndarray:
    """Lag, in saved steps, at which `follows` is correlated most with `leads`, for each member."""
    n = leads.shape[1]
    found = []
    for lead, follow in zip(leads, follows, strict=True):
        fit = [np.corrcoef(lead[: n - lag], follow[lag:])[0, 1] for lag in range(steps)]
        found.append(int(np.argmax(fit)))
    return np.array(found)


def rise_over(run: Series, base: Series, name: str, time: float) -> np.ndarray:
    """Value in one run over that in another, less 1."""
    return run.at(name, time) / base.at(name, time) - 1


def v03_2(run: Runs) -> Truth:
    """Storage added before space binds moves sales by 2 % at most; added later it lifts them clearly more."""
    base = run()
    room = {"policy_warehouse": 40000.0, "policy_phase_in": 0.5}
    early = rise_over(run(**room, policy_start=2007.0), base, "village_revenue", 2009)
    late = rise_over(run(**room, policy_start=2014.0), base, "village_revenue", 2016)
    return (np.abs(early) <= 0.02) & (late >= 0.02) & (late >= 2 * early)


def v03_3(run: Runs) -> Truth:
    """The share bought order by order falls by a tenth at least, then rises again by three points."""
    share = run().span("order_by_order_share", 2006, 2018)
    low = share.argmin(axis=1)
    least = share[np.arange(len(low)), low]
    after = np.array([share[i, low[i] :].max() for i in range(len(low))])
    return (least <= share[:, 0] - 0.1) & (after >= least + 0.03)


def v06_1(run: Runs) -> Truth:
    """Hours of reply level off near 15 in family shops and between 16.5 and 18 with staff."""
    base = run()
    family, staffed = base.at("reply_coverage[agent]", 2016), base.at("reply_coverage[brand]", 2016)
    level = np.abs(family - base.at("reply_coverage[agent]", 2012)) < 0.5
    return level & (family >= 14) & (family <= 16) & (staffed >= 16.5) & (staffed <= 18.05)


def v06_2(run: Runs) -> Truth:
    """Profit per hour of reply peaks before profit per store."""
    base = run()
    return base.peak_time("profit_per_hour") < base.peak_time("profit[agent]")


def v07_1(run: Runs) -> Truth:
    """An agent drops at least half a line a year over the first ten years (D-12)."""
    return run().span("line_abandonment", 2006, 2016).mean(axis=1) >= 0.5


def v07_2(run: Runs) -> Truth:
    """The average margin over lines moves by less than half of what a line loses over its life."""
    margin = run().span("line_margin", 2006, 2020)
    swing = margin.max(axis=1) - margin.min(axis=1)
    return swing < 0.5 * (run.values("emerging_margin") - run.values("exhausted_margin"))


def v07_3(run: Runs) -> Truth:
    """Without scouting the average margin only falls while lines are left, well below that with scouting."""
    base, without = run(), run(scouting_rate=0.0)
    falls = (np.diff(without.span("line_margin", 2006, 2012), axis=1) <= 1e-9).all(axis=1)
    return falls & (without.at("line_margin", 2012) < 0.9 * base.at("line_margin", 2012))


def v08_1(run: Runs) -> Truth:
    """Direct entry peaks one to three years after the profit of agents (a quarter year of reading error), which then
    lose share."""
    base = run()
    lag = base.peak_time("manufacturer_entry") - base.peak_time("success_seen")
    falls = base.at("agent_share", 2020) < base["agent_share"].max(axis=1)
    return (lag >= 0.75) & (lag <= 3.25) & falls


def v08_2(run: Runs) -> Truth:
    """Without manufacturers' awareness agents lose less of their share."""
    base, without = run(), run(manufacturer_awareness=0.0)
    kept = [r.at("agent_share", 2020) / r["agent_share"].max(axis=1) for r in (base, without)]
    return kept[1] > kept[0]


def v08_3(run: Runs) -> Truth:
    """The same direct entry costs brands a smaller part of their sales than agents, while stores are given."""
    base, without = run(), run(manufacturer_awareness=0.0)
    agent, brand = (rise_over(base, without, f"revenue[{kind}]", 2010) for kind in ("agent", "brand"))
    return (agent < 0) & (agent < brand)


def v09_1(run: Runs) -> Truth:
    """Profit per order grows with its value, breaks even at one to three times the cost of an order, and makers
    for whom it is negative sell less than a tenth of wholesale online."""
    runs = [run(low_value=value) for value in LOW_VALUES]
    profit = np.stack([r.at("online_profit_per_order", 2014) for r in runs], axis=1)
    ratio = np.stack([r.at("online_over_wholesale", 2014) for r in runs], axis=1)
    first = (profit > 0).argmax(axis=1)
    even = np.array(LOW_VALUES)[first] / run.values("order_cost")
    below = np.where(profit < 0, ratio, 0.0).max(axis=1)
    near = (even >= 1) & (even <= 3) & (profit[:, -1] > 0) & (profit[:, 0] < 0)
    return (np.diff(profit, axis=1) > 0).all(axis=1) & near & (below < 0.1)


def v09_2(run: Runs) -> Truth:
    """Enforcement lowers the number of stores within a year, and raises mean quality and price five years later."""
    base = run()
    strict = run(policy_crackdown=0.5, policy_start=2009.0, policy_phase_in=0.25)
    fewer = strict.at("active_stores", 2010) < base.at("active_stores", 2010)
    better = [strict.at(name, 2014) > base.at(name, 2014) for name in ("mean_quality", "mean_price")]
    return fewer & better[0] & better[1]


def v09_3(run: Runs) -> Truth:
    """Without enforcement few copies vanish and many copies take over."""
    few, many = (run(enforcement=0.0, initial_copycat_share=c, initial_trust_of_buyers=0.5) for c in (0.1, 0.9))
    return (few.end("copycat_share") < 0.1) & (many.end("copycat_share") > 0.8)


def v10_1(run: Runs) -> Truth:
    """Employees over owners rise from 2008 to 2012 and to 2016."""
    ratio = yearly(run(), "employees_per_owner", 2008, 2016)[:, ::4]
    return (np.diff(ratio, axis=1) > 0).all(axis=1)


def v10_3(run: Runs) -> Truth:
    """A track for owners wider than the able pool adds more failures than stores; one for staff adds jobs, and
    at most one failure for ten of them."""
    base = run()
    owners = run(policy_entrepreneurship_track=60.0, policy_start=2012.0)
    staff = run(policy_employment_track=1.0, policy_start=2012.0)
    failures = owners.at("failed_stores", 2018) - base.at("failed_stores", 2018)
    stores = owners.at("active_stores", 2018) - base.at("active_stores", 2018)
    jobs = staff.at("labour_demand", 2018) - base.at("labour_demand", 2018)
    more = staff.at("failed_stores", 2018) - base.at("failed_stores", 2018)
    return (failures > stores) & (jobs > 0) & (more <= 0.1 * jobs)


def v10_4(run: Runs) -> Truth:
    """Without formal training more than half of the stores of 2014 are there."""
    base, without = run(), run(formal_training=0.0)
    grown = base.at("active_stores", 2014) > 2
    return grown & (without.at("active_stores", 2014) > 0.5 * base.at("active_stores", 2014))


def v11_1(run: Runs) -> Truth:
    """A shop of the anchor's goods is probably tried between mid 2008 and 2010, and is closed by 2016 where local
    sales are low; ten times the local sales would keep it open longer."""
    base, busy = run(), run(times={"outdoor_spending": 10.0})
    tried = base["anchor_shop_tried"] >= 0.5
    when = np.where(tried.any(axis=1), base.time[tried.argmax(axis=1)], np.inf)
    open_later = busy.at("anchor_shop", 2016) > base.at("anchor_shop", 2016) + 0.3
    return (when >= 2008.5) & (when <= 2010) & (base.at("anchor_shop", 2016) < 0.1) & open_later


def v11_2(run: Runs) -> Truth:
    """At least a fifth of the produce stays offline; half the local demand lowers the price and that share."""
    base, poor = run(), run(times={"local_demand": 0.5})
    return (base.end("offline_producers") >= 0.2) & (poor.end("offline_producers") < base.end("offline_producers"))


def v11_3(run: Runs) -> Truth:
    """Residents of a village with more trading households buy more online."""
    base, few = run(), run(times={"imitation": 0.5})
    fewer = few.at("share_of_households", 2014) < base.at("share_of_households", 2014)
    rises = base.at("online_habit", 2016) > base.at("online_habit", 2010)
    return fewer & rises & (few.at("online_habit", 2016) < base.at("online_habit", 2016))


def v12_1(run: Runs) -> Truth:
    """Changes of county support follow changes of stores by one to three years (a quarter year of reading error)."""
    base = run()
    stores, support = (np.diff(base.span(n, 2006, 2020), axis=1) for n in ("active_stores", "county_attention"))
    lag = 0.25 * best_lag(stores, support, 21)
    return (lag >= 0.75) & (lag <= 3.25)


def v12_2(run: Runs) -> Truth:
    """Without support stores of 2009 are within 2 %, sales of 2018 at least 3 % lower."""
    base, without = run(), run(county_response=0.0)
    early = np.abs(rise_over(without, base, "active_stores", 2009))
    return (early <= 0.02) & (rise_over(without, base, "village_revenue", 2018) <= -0.03)


def v13_1(run: Runs) -> Truth:
    """The village has two to eight national visits by 2016 and a quarter more fame than the equal village that
    follows; without attention that begets attention its lead is smaller."""
    base, even = run(), run(switch_r22=0.0)
    lead = [r.at("media_fame", 2016) / r.at("rival_fame", 2016) for r in (base, even)]
    visits = base.at("national_visits", 2016)
    return (visits >= 2) & (visits <= 8) & (lead[0] >= 1.25) & (lead[0] > lead[1])


def v13_3(run: Runs) -> Truth:
    """In each year from 2009 to 2013 fame rises and village character falls."""
    base = run()
    fame, look = (np.diff(yearly(base, n, 2009, 2013), axis=1) for n in ("media_fame", "village_character"))
    return (fame > 0).all(axis=1) & (look < 0).all(axis=1)


def v16_1(run: Runs) -> Truth:
    """Survival of newcomers rises with kin density, and more so where the county offers nothing."""

    def gain(services: float) -> np.ndarray:
        dense, thin = (run(kin_density=d, county_response=services) for d in (0.8, 0.2))
        return dense.at("newcomer_survival", 2014) - thin.at("newcomer_survival", 2014)

    without = gain(0.0)
    return (without > 0) & (without > gain(1.0))


def v16_2(run: Runs) -> Truth:
    """Four times the crowding in the same line lowers help, and does not if rivalry does not matter."""
    crowded = {"rivalry_half_point": 75.0}
    change = run(crowded).at("help_given", 2014) - run().at("help_given", 2014)
    calm = run(crowded, switch_b31=0.0).at("help_given", 2014) - run(switch_b31=0.0).at("help_given", 2014)
    return (change < 0) & (change < calm)


def v16_3(run: Runs) -> Truth:
    """Without the network there are at least a tenth fewer stores in 2010."""
    return run(kin_density=0.0, switch_r30=0.0).at("active_stores", 2010) <= 0.9 * run().at("active_stores", 2010)


SYSTEMS: dict[str, Mode] = {
    "RM-V03.2": v03_2,
    "RM-V03.3": v03_3,
    "RM-V06.1": v06_1,
    "RM-V06.2": v06_2,
    "RM-V07.1": v07_1,
    "RM-V07.2": v07_2,
    "RM-V07.3": v07_3,
    "RM-V08.1": v08_1,
    "RM-V08.2": v08_2,
    "RM-V08.3": v08_3,
    "RM-V09.1": v09_1,
    "RM-V09.2": v09_2,
    "RM-V09.3": v09_3,
    "RM-V10.1": v10_1,
    "RM-V10.3": v10_3,
    "RM-V10.4": v10_4,
    "RM-V11.1": v11_1,
    "RM-V11.2": v11_2,
    "RM-V11.3": v11_3,
    "RM-V12.1": v12_1,
    "RM-V12.2": v12_2,
    "RM-V13.1": v13_1,
    "RM-V13.3": v13_3,
    "RM-V16.1": v16_1,
    "RM-V16.2": v16_2,
    "RM-V16.3": v16_3,
}
