"""Reference modes of node_network: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

import numpy as np
from runs import Mode, Runs, Truth

SAVED = (
    "stores[leader]", "stores_per_town", "commission_per_leader", "orders", "penetration", "unserved_demand_share",
    "unit_purchase_cost", "part_time_pay", "household_commission", "village_pickup_points[dense]",
    "village_pickup_points[sparse]", "cost_per_order_delivered[dense]", "cost_per_order_delivered[middle]",
    "cost_per_order_delivered[sparse]", "hours_per_helper", "other_work_displaced", "delivery_trips[dense]",
    "delivery_trips[middle]", "delivery_trips[sparse]", "price_paid[middle]", "village_online_buyers[middle]",
    "delivery_reliability[middle]", "upward_unit_cost[dense]", "downward_unit_cost[dense]", "parcel_tariff",
    "hub_throughput", "throughput_load", "hub_saving",
)
REGULAR = 0.8


def regular(run: Runs, result, settlement: str) -> Truth:
    """Whether a route ends with most of a regular schedule."""
    return result.end(f"delivery_trips[{settlement}]") >= REGULAR * run.values("regular_trips")


def irregular(run: Runs, result, settlement: str) -> Truth:
    """Whether a route ends with little more than the passenger buses that run in any case."""
    return result.end(f"delivery_trips[{settlement}]") <= 1.2 * run.values("bus_trips")


def c04_1(run: Runs) -> Truth:
    """Leaders grow twentyfold or more and number 400,000, a half on either side, in 2020, 67 for a town."""
    base = run()
    count = base.at("stores[leader]", 2020.5)
    grown = count / base["stores[leader]"][:, 0] >= 20
    per_town = np.abs(base.at("stores_per_town", 2020.5) / (400 / 6) - 1) <= 0.5
    return grown & (np.abs(count / 400_000 - 1) <= 0.5) & per_town


def c04_3(run: Runs) -> Truth:
    """Commission per leader rises by half, then falls by 5 % or more while all orders still rise."""
    base = run()
    commission, orders = base["commission_per_leader"], base["orders"]
    top = commission.argmax(axis=1)
    rows = np.arange(len(top))
    rises = commission[rows, top] > 1.5 * commission[:, 0]
    later = np.array([commission[i, top[i]:].argmin() + top[i] for i in rows])
    falls = commission[rows, later] < 0.95 * commission[rows, top]
    return rises & falls & (orders[rows, later] > 1.05 * orders[rows, top])


def c04_4(run: Runs) -> Truth:
    """Without coupons from 2016 leaders and orders are below 2016 three years later; from 2022 orders still grow."""
    early, late = run(coupon_cut=1.0, coupon_end=2016.0), run(coupon_cut=1.0, coupon_end=2022.0)
    base = run()
    cost = base.at("unit_purchase_cost", 2022) < base.at("unit_purchase_cost", 2016)
    reverses = early.at("orders", 2019) < early.at("orders", 2016)
    slows = (late.at("orders", 2025) > late.at("orders", 2022)) & (late.at("orders", 2025) < base.at("orders", 2025))
    return cost & reverses & slows


def c04_5(run: Runs) -> Truth:
    """Urgent and immobile demand is left unserved; an older population is penetrated less."""
    base, old = run(), run(elderly_share=0.35)
    urgent = run(times={"urgent_share_of_demand": 1.5})
    least = 1 - (1 - run.values("urgent_share_of_demand")) * (1 - run.values("share_of_demand_without_mobility"))
    unserved = base["unserved_demand_share"][:, 0] >= least
    fewer = old.at("penetration", 2022) < 0.95 * base.at("penetration", 2022)
    return unserved & fewer & (urgent.at("orders", 2022) < base.at("orders", 2022))


def c05_1(run: Runs) -> Truth:
    """Pay for part-time work comes first, commission gains on it later."""
    base = run()
    pay, commission = base["part_time_pay"], base["household_commission"]
    early = np.array([np.flatnonzero(row > 0.1 * row.max())[0] for row in pay])
    rows = np.arange(len(pay))
    first = commission[rows, early] < 0.5 * pay[rows, early]
    later = commission[:, -1] / pay[:, -1] > 2 * commission[rows, early] / pay[rows, early]
    return first & later


def c05_2(run: Runs) -> Truth:
    """A drop costs more the farther villages lie apart; scattered villages have no points unless the way is paid."""
    base, paid = run(), run(village_support=0.95)
    cost = [base.at(f"cost_per_order_delivered[{s}]", 2022) for s in ("dense", "middle", "sparse")]
    sites = run.values("villages[sparse]") * run.values("points_per_village")
    unserved = base.end("village_pickup_points[sparse]") < 0.1 * sites
    served = base.end("village_pickup_points[dense]") > 5 * base.end("village_pickup_points[sparse]")
    helped = paid.end("village_pickup_points[sparse]") > 3 * base.end("village_pickup_points[sparse]")
    return (cost[0] < cost[1]) & (cost[1] < cost[2]) & unserved & served & helped


def c05_3(run: Runs) -> Truth:
    """Helpers work short hours throughout: nothing of their other work is given up."""
    base = run()
    return (base["other_work_displaced"].max(axis=1) <= 0) & (base["hours_per_helper"].max(axis=1) > 0)


def n03_1(run: Runs) -> Truth:
    """The dense route ends with a regular schedule, the sparse one with passenger buses."""
    base = run()
    return regular(run, base, "dense") & irregular(run, base, "sparse")


def n03_2(run: Runs) -> Truth:
    """After five years of support the denser routes stay regular, the sparsest does not; little support is too little.

    Seven years after its end: with nine tenths of the deficit paid the dense or the middle route keeps a schedule that
    it has not without support or with a tenth, and the sparse one falls back.
    """
    none, little, much = run(), run(route_subsidy_share=0.1), run(route_subsidy_share=0.9)
    kept = np.zeros(len(run), dtype=bool)
    for settlement in ("dense", "middle"):
        gained = regular(run, much, settlement) & ~regular(run, none, settlement)
        kept |= gained & ~regular(run, little, settlement)
    return kept & irregular(run, much, "sparse")


def n03_3(run: Runs) -> Truth:
    """Using vans on their way back makes both directions cheaper on the dense route."""
    apart, together = run(return_load_share=0.0), run(return_load_share=0.6)
    up = together.end("upward_unit_cost[dense]") < 0.98 * apart.end("upward_unit_cost[dense]")
    return up & (together.end("downward_unit_cost[dense]") < 0.98 * apart.end("downward_unit_cost[dense]"))


def n03_4(run: Runs) -> Truth:
    """Where a route is paid for, villagers buy more online and pay less."""
    base, paid = run(), run(route_subsidy_share=0.9)
    better = paid.at("delivery_reliability[middle]", 2020) > base.at("delivery_reliability[middle]", 2020)
    more = paid.at("village_online_buyers[middle]", 2020) > base.at("village_online_buyers[middle]", 2020)
    return better & more & (paid.at("price_paid[middle]", 2020) < base.at("price_paid[middle]", 2020))


def g02_1(run: Runs) -> Truth:
    """The tariff falls as throughput doubles; where nothing is built, load takes the fall away."""
    base, bound = run(), run(hub_investment=0.0)
    grown = base.end("hub_throughput") > 2 * base.at("hub_throughput", 2016)
    falls = base.end("parcel_tariff") < 0.95 * base.at("parcel_tariff", 2016)
    full = bound.end("throughput_load") > base.end("throughput_load")
    return grown & falls & full & (bound.end("parcel_tariff") > base.end("parcel_tariff"))


def g02_2(run: Runs) -> Truth:
    """The same hub in a remote county passes and saves less than half as much."""
    near, far = run.archetype("wugong")(), run.archetype("remote_county")()
    less = far.end("hub_throughput") < 0.5 * near.end("hub_throughput")
    return less & (far.end("hub_saving") < 0.5 * near.end("hub_saving"))


MODES: dict[str, Mode] = {
    "RM-C04.1": c04_1,
    "RM-C04.3": c04_3,
    "RM-C04.4": c04_4,
    "RM-C04.5": c04_5,
    "RM-C05.1": c05_1,
    "RM-C05.2": c05_2,
    "RM-C05.3": c05_3,
    "RM-N03.1": n03_1,
    "RM-N03.2": n03_2,
    "RM-N03.3": n03_3,
    "RM-N03.4": n03_4,
    "RM-G02.1": g02_1,
    "RM-G02.2": g02_2,
}
