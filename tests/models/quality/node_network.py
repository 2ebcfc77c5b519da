"""What node_network must keep, whatever its parameters."""

from __future__ import annotations

from runs import Series

OUTCOMES = (
    "stores", "members", "orders", "commission_per_leader", "unit_purchase_cost", "village_pickup_points",
    "part_time_helpers", "household_leaders", "delivery_trips", "village_online_buyers", "hub_suppliers",
    "hub_throughput",
)
SIGNED = ("perceived_profit",)
EXTREMES = [
    {"catchment_residents": 2e6}, {"catchment_residents": 1e11}, {"elderly_share": 1.0}, {"coupon_depth": 0.0},
    {"coupon_depth": 0.9}, {"venture_money": 0.0}, {"venture_money": 1e14}, {"order_value": 1e-3},
    {"commission_rate": 0.0}, {"commission_rate": 0.6}, {"urgent_share_of_demand": 1.0}, {"appeal_sensitivity": 0.0},
    {"inconvenience": 1.0},
    {"joining_gain": 0.0}, {"joining_gain": 10.0}, {"group_orders_per_household": 0.0},
    {"group_orders_per_household": 1e4}, {"initial_poor_without_work": 0.0}, {"terrain_cost": 100.0},
    {"delivery_fee": 0.0}, {"delivery_fee": 1e3}, {"parcels_per_buyer": 1e4}, {"bus_trips": 0.0},
    {"catchment_suppliers": 5.0}, {"catchment_suppliers": 1e5}, {"hub_investment": 0.0}, {"terrain_factor": 50.0},
    {"parcels_per_supplier": 1.0},
]  # fmt: skip
EXPECTED = {
    "without commission leaders leave": lambda run: run(commission_rate=0.0).end("stores")[0, 0] < 6000,
    "without demand that can wait nobody orders": lambda run: run(urgent_share_of_demand=1.0)["orders"].max() == 0,
    "without poor persons there is no pay": lambda run: run(initial_poor_without_work=0.0)["part_time_pay"].max() == 0,
    "free delivery keeps only buses": lambda run: (
        run(delivery_fee=0.0, return_load_share=0.0).end("delivery_trips").max() < 101
    ),
    "where sending alone is cheap nobody joins a hub": lambda run: (
        run(outside_cost_factor=0.01).end("hub_suppliers")[0] < 15
    ),
}


def poor_persons(run: Series, step: float):
    """Persons of poor households are without work, helpers or leaders."""
    total = run["poor_without_work"] + run["part_time_helpers"] + run["household_leaders"]
    return total, total[:, :1] + 0 * total, total


def sales(run: Series, step: float):
    """What members pay before coupons pays for goods, commission, sorting and the platform."""
    paid = run["goods_purchased"] + run["commission_paid"] + run["fulfilment_paid"] + run["platform_earnings"]
    return paid, run["gmv"], run["gmv"]


def cash(run: Series, step: float):
    came = run.integral("venture_funding", step) + run.integral("platform_earnings", step)
    return run.change("platform_cash"), came - run.integral("coupons_issued", step), came + 1


def parcels(run: Series, step: float):
    arrived = run.integral("parcel_arrivals", step)
    return run.change("parcels_waiting_township"), arrived - run.integral("last_mile_deliveries", step), arrived + 1


def leaders(run: Series, step: float):
    opened = run.integral("openings", step)
    return run.change("stores"), opened - run.integral("closures", step), opened + 1


def suppliers(run: Series, step: float):
    joined = run.integral("suppliers_joining", step)
    return run.change("hub_suppliers"), joined - run.integral("suppliers_leaving", step), joined + 1


CONSERVED = (poor_persons, sales, cash, parcels, leaders, suppliers)
