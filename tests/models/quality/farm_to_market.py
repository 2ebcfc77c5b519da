"""Quality of farm_to_market: outcomes, extreme inputs, what they must bring, and what must be conserved."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from modes import farm_to_market as modes
from runs import Floats, Mode, Runs, Series

OUTCOMES = (
    "commodity_rate", "planted_area", "market_price", "grower_price", "sales_distance", "sales_seen", "live_sales_seen",
    "cumulative_spoilage", "receipts_seen", "ecological_quality", "traced_share", "standardised_share",
)  # fmt: skip

SIGNED = ("gate_price_seen", "live_price_seen", "cumulative_profit", "cumulative_receipts")
EXTREMES: list[dict[str, float]] = [
    {"initial_planted_area": 1e-3}, {"initial_planted_area": 6e8}, {"normal_yield": 1e-6}, {"normal_yield": 1e6},
    {"supply_elasticity": 0.0}, {"supply_elasticity": 3.0}, {"price_flexibility": 0.0}, {"price_flexibility": 6.0},
    {"outside_share": 0.0}, {"unsold_discouragement": 0.0}, {"unsold_discouragement": 10.0},
    {"weather_shock_size": 1.0}, {"demand_shift": -0.99}, {"demand_shift": 100.0}, {"season_length": 0.02},
    {"reference_price": 1e-3}, {"reference_price": 1e9}, {"margin_per_step": 0.0}, {"margin_per_step": 1.0},
    {"warm_half_life": 6.0, "cooling_gain": 1.0}, {"warm_half_life": 1e8}, {"home_use_rate": 0.0},
    {"home_use_rate": 50.0}, {"dwell_time": 0.0}, {"dwell_time": 1e4}, {"travel_speed": 1e-3},
    {"initial_road_access": 1e-3, "road_opening": 0.0}, {"signal_quality": 0.0}, {"signal_quality": 1.0},
    {"handling_provision": 0.01}, {"handling_provision": 1e6}, {"campaign_rate": 0.0}, {"campaign_rate": 1e5},
    {"session_size": 0.0}, {"session_size": 1e3}, {"repeat_gain": 100.0}, {"trader_demand_ratio": 0.0},
    {"trader_demand_ratio": 1e6}, {"freight_rate": 0.0}, {"freight_rate": 1e3},
    {"initial_cold_capacity[hub]": 0.0, "initial_cold_capacity[village]": 0.0}, {"initial_cold_capacity[hub]": 1e9},
    {"cold_investment_share": 0.0}, {"cold_investment_share": 1.0}, {"cold_unit_cost": 1e-3}, {"hub_access": 0.0},
    {"farm_households[small]": 1e-3}, {"farm_households[small]": 1e6}, {"lot_cost": 0.0}, {"lot_cost": 1e6},
    {"coordination_per_household": 1e6}, {"certification_rate": 50.0}, {"free_rider_entry": 0.0},
    {"free_rider_entry": 50.0}, {"premium_ceiling": 0.0}, {"promotion_effectiveness": 100.0},
    {"initial_ecological_quality": 1e-3}, {"sustainable_ratio": 0.05}, {"degradation_rate": 0.0},
    {"regeneration_time": 1e6}, {"incident_hazard": 0.0}, {"incident_hazard": 1e3}, {"policy_expansion": 10.0},
    {"policy_quota": 1e-3}, {"policy_brand": 1e9}, {"policy_tracing": 1e7}, {"policy_information": 1e6},
    {"policy_cold_hub": 1e9}, {"policy_selling_courses": 1e6},
]  # fmt: skip


def _off(run: Runs, mode: Mode, changes: Mapping[str, float] | None = None, **more: float) -> bool:
    """Whether a mode is not shown where its mechanism is off."""
    table = run.table.copy()
    for name, value in {**(changes or {}), **more}.items():
        table[name] = value
    return not np.any(mode(Runs(run.name, table, modes.SAVED)))


EXPECTED: dict[str, Callable[[Runs], bool]] = {
    "without land no more than the first stock is sold": lambda run: (
        run(initial_planted_area=1e-3).end("cumulative_sales")[0] < 21
    ),
    "without buyers nothing is sold": lambda run: run(
        trader_demand_ratio=0.0, session_size=0.0, campaign_rate=0.0
    ).end("cumulative_sales")[0] < 1e-6,
    "goods that keep for ever do not spoil": lambda run: run(warm_half_life=1e8).end("cumulative_spoilage")[0] < 1,
    "goods that spoil in a week spoil most": lambda run: (
        run(warm_half_life=6.0, cooling_gain=1.0).end("cumulative_spoilage")[0]
        > 2 * run().end("cumulative_spoilage")[0]
    ),
    "a crop that fails is not harvested": lambda run: (
        np.ptp(run(weather_shock_size=1.0, weather_shock_time=2024.0).span("cumulative_harvest", 2024, 2025)) < 1e-6
    ),
    "without flexibility the price stands still": lambda run: np.ptp(run(price_flexibility=0.0)["market_price"]) < 1e-9,
    "a closed quota closes the fields": lambda run: run(policy_quota=1e-3).end("planted_area")[0] < 5,
    "a name without a premium draws nobody": lambda run: (
        run(premium_ceiling=0.0).end("uncertified_name_users")[0] < 1e-9
    ),
    "without incidents nobody is called up": lambda run: run(incident_hazard=0.0).end("supervision_effort")[0] < 1e-6,
    "without traders' margins and selling cost a short chain changes nothing": lambda run: _off(
        run, modes.n02_1, margin_per_step=0.0, own_selling_cost=0.0
    ),
    "where small farms sell as large lots pooling favours them no more": lambda run: _off(
        run, modes.n02_3, {"lot_size[small]": 3.0}
    ),
    "without answer of the price to the crop there is no cobweb": lambda run: _off(
        run, modes.n11_1, price_flexibility=0.0
    ),
    "where nature does not suffer no quota raises income": lambda run: _off(run, modes.n15_2, degradation_rate=0.0),
    "where tracing prevents nothing there are no fewer incidents": lambda run: _off(
        run, modes.n16_1, trace_effect=0.0
    ),
    "where grading does not even out goods standards win no repeat orders": lambda run: _off(
        run, modes.n09_3, grading_effect=0.0
    ),
    "untouched nature recovers": lambda run: run(degradation_rate=0.0).end("ecological_quality")[0] > 0.95,
}

Balance = tuple[Floats, Floats, Floats]


def tonnes(run: Series, step: float) -> Balance:
    """What is harvested is in stock, used at home, spoiled in stock or shipped."""
    spoiled = run.integral("spoilage", step).sum(axis=2)
    shipped = run.integral("shipments", step).sum(axis=2)
    left = run.change("total_fresh_stock") + run.integral("home_use", step) + spoiled + shipped
    return left, run.integral("harvest", step), left + 1


def shipped_goods(run: Series, step: float) -> Balance:
    """What leaves the places is what traders and buyers on line get; what they get spoils on the way or arrives."""
    sales = run["trader_sales"] + run["live_sales"]
    counted = run["cumulative_sales"] + run["cumulative_spoilage"] - run.integral("spoilage", step).sum(axis=2)
    expected = run.integral("shipments", step).sum(axis=2) + run.integral("transit_spoilage", step)
    left = np.concatenate([run["shipments"].sum(axis=2), counted])
    return left, np.concatenate([sales, expected]), left + 1


def money(run: Series, step: float) -> Balance:
    """What buyers pay is what farms, intermediaries, carriers and helpers receive."""
    left = run["farm_receipts"] + run["intermediary_margin"] + run["selling_outlay"]
    return left, run["buyer_payments"], run["buyer_payments"] + 1


def households(run: Series, step: float) -> Balance:
    """Certified, uncertified and other suppliers are all households; each moves only by the flows between them."""
    groups = run["certified_suppliers"] + run["uncertified_name_users"] + run["other_suppliers"]
    moved = run.integral("certifying", step) - run.integral("decertifying", step)
    left = np.concatenate([groups, run.change("certified_suppliers")])
    return left, np.concatenate([groups[:, :1] + 0 * groups, moved]), left


def skilled_persons(run: Series, step: float) -> Balance:
    """Skilled persons come from courses and neighbours and go by forgetting only."""
    left = run.change("basic_skilled") + run.change("professionals") + run.change("skilled_away")
    return left, run.integral("basic_training", step) - run.integral("forgetting", step), left + 1


def cold_stores(run: Series, step: float) -> Balance:
    """Cold stores come from what is begun and go by wear."""
    left = run.change("cold_capacity") + run.change("cold_under_construction")
    return left, run.integral("cold_starts", step) - run.integral("cold_wear", step), left + 1


CONSERVED = (tonnes, shipped_goods, money, households, skilled_persons, cold_stores)
