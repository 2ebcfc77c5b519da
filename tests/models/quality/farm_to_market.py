"""Quality of farm_to_market: outcomes, extreme inputs, what they must bring, and what must be conserved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from runs import Floats, Runs

OUTCOMES = (
    "commodity_rate", "planted_area", "market_price", "grower_price", "sales_distance", "sales_seen", "live_sales_seen",
    "cumulative_spoilage", "receipts_seen", "ecological_quality", "traced_share", "standardised_share",
)  # fmt: skip

EXTREMES: list[dict[str, float]] = [
    {"initial_planted_area": 1e-3}, {"initial_planted_area": 6e8}, {"normal_yield": 1e-6}, {"normal_yield": 1e6},
    {"supply_elasticity": 0.0}, {"supply_elasticity": 3.0}, {"price_flexibility": 0.0}, {"price_flexibility": 6.0},
    {"outside_share": 0.0}, {"unsold_discouragement": 0.0}, {"unsold_discouragement": 10.0},
    {"weather_shock_size": 1.0}, {"demand_shift": -0.99}, {"demand_shift": 100.0}, {"season_length": 0.02},
    {"reference_price": 1e-3}, {"reference_price": 1e9}, {"margin_per_step": 0.0}, {"margin_per_step": 1.0},
    {"warm_half_life": 6.0, "cooling_gain": 1.0}, {"warm_half_life": 1e8}, {"home_use_rate": 0.0}, {"home_use_rate": 50.0},
    {"dwell_time": 0.0}, {"dwell_time": 1e4}, {"travel_speed": 1e-3}, {"initial_road_access": 1e-3, "road_opening": 0.0},
    {"signal_quality": 0.0}, {"signal_quality": 1.0}, {"handling_provision": 0.01}, {"handling_provision": 1e6},
    {"campaign_rate": 0.0}, {"campaign_rate": 1e5}, {"session_size": 0.0}, {"session_size": 1e3}, {"repeat_gain": 100.0},
    {"trader_demand_ratio": 0.0}, {"trader_demand_ratio": 1e6}, {"freight_rate": 0.0}, {"freight_rate": 1e3},
    {"initial_cold_capacity[hub]": 0.0, "initial_cold_capacity[village]": 0.0}, {"initial_cold_capacity[hub]": 1e9},
    {"cold_investment_share": 0.0}, {"cold_investment_share": 1.0}, {"cold_unit_cost": 1e-3}, {"hub_access": 0.0},
    {"farm_households[small]": 1e-3}, {"farm_households[small]": 1e6}, {"lot_cost": 0.0}, {"lot_cost": 1e6},
    {"coordination_per_household": 1e6}, {"certification_rate": 50.0}, {"free_rider_entry": 0.0}, {"free_rider_entry": 50.0},
    {"premium_ceiling": 0.0}, {"promotion_effectiveness": 100.0}, {"initial_ecological_quality": 1e-3},
    {"sustainable_ratio": 0.05}, {"degradation_rate": 0.0}, {"regeneration_time": 1e6}, {"incident_hazard": 0.0},
    {"incident_hazard": 1e3}, {"policy_expansion": 10.0}, {"policy_quota": 1e-3}, {"policy_brand": 1e9},
    {"policy_tracing": 1e7}, {"policy_information": 1e6}, {"policy_cold_hub": 1e9}, {"policy_streamer_training": 1e6},
]  # fmt: skip

EXPECTED: dict[str, Callable[[Runs], bool]] = {
    "without land no more than the first stock is sold": lambda run: run(initial_planted_area=1e-3).end("cumulative_sales")[0] < 21,
    "without buyers nothing is sold": lambda run: run(
        trader_demand_ratio=0.0, session_size=0.0, campaign_rate=0.0
    ).end("cumulative_sales")[0] < 1e-6,
    "goods that keep for ever do not spoil": lambda run: run(warm_half_life=1e8).end("cumulative_spoilage")[0] < 1,
    "goods that spoil in a week spoil most": lambda run: (
        run(warm_half_life=6.0, cooling_gain=1.0).end("cumulative_spoilage")[0] > 2 * run().end("cumulative_spoilage")[0]
    ),
    "a crop that fails is not harvested": lambda run: (
        np.ptp(run(weather_shock_size=1.0, weather_shock_time=2024.0).span("cumulative_harvest", 2024, 2025)) < 1e-6
    ),
    "without flexibility the price stands still": lambda run: np.ptp(run(price_flexibility=0.0)["market_price"]) < 1e-9,
    "a closed quota closes the fields": lambda run: run(policy_quota=1e-3).end("planted_area")[0] < 5,
    "a name without a premium draws nobody": lambda run: run(premium_ceiling=0.0).end("uncertified_name_users")[0] < 1e-9,
    "without incidents nobody is called up": lambda run: run(incident_hazard=0.0).end("supervision_effort")[0] < 1e-6,
    "untouched nature recovers": lambda run: run(degradation_rate=0.0).end("ecological_quality")[0] > 0.95,
}

Balance = tuple[Floats, Floats, Floats]


def _flow(dataset: Any, *names: str) -> Floats:
    """Integral of a sum of flows by Euler's rule from the first saved time; every step is saved."""
    step = float(dataset["time"][1] - dataset["time"][0])
    flow = sum(dataset[name].values for name in names)
    return np.concatenate([np.zeros((len(flow), 1)), np.cumsum(flow[:, :-1], axis=1) * step], axis=1)


def _place(dataset: Any, name: str, place: str) -> Floats:
    return dataset[name].sel(place=place).values


def tonnes(dataset: Any) -> Balance:
    """What is harvested is in stock, used at home, spoiled in stock or shipped."""
    harvest = dataset["cumulative_harvest"].values
    gone = sum(dataset[f"cumulative_{name}"].values for name in ("sales", "home_use", "spoilage"))
    on_the_way = _flow(dataset, "transit_spoilage")  # spoiled after shipping: counted as sold and as spoiled
    stock = dataset["total_fresh_stock"].values
    return stock - stock[:, :1] + gone - on_the_way, harvest, harvest + 1


def shipments(dataset: Any) -> Balance:
    """What leaves the places is what traders and buyers on line get."""
    left = _place(dataset, "shipments", "village") + _place(dataset, "shipments", "hub")
    right = dataset["trader_sales"].values + dataset["live_sales"].values
    return left, right, right + 1


def money(dataset: Any) -> Balance:
    """What buyers pay is what farms, intermediaries, carriers and helpers receive."""
    parts = ("farm_receipts", "chain_margin", "selling_outlay")
    left, right = sum(dataset[name].values for name in parts), dataset["buyer_payments"].values
    return left, right, right + 1


def households(dataset: Any) -> Balance:
    """Certified, uncertified and other suppliers are all households."""
    groups = ("certified_suppliers", "uncertified_name_users", "other_suppliers")
    left, right = sum(dataset[name].values for name in groups), dataset["total_households"].values
    right = np.broadcast_to(right.reshape(len(left), -1), left.shape)
    joined = _flow(dataset, "certifying") - _flow(dataset, "decertifying")
    change = dataset["certified_suppliers"].values
    return left + change - change[:, :1], right + joined, right


def skilled_persons(dataset: Any) -> Balance:
    """Skilled persons come from courses and go by forgetting only."""
    groups = ("basic_skilled", "professionals", "skilled_away")
    total = sum(dataset[name].values for name in groups)
    return total - total[:, :1], _flow(dataset, "basic_training") - _flow(dataset, "forgetting"), total


def cold_stores(dataset: Any) -> Balance:
    """Cold stores come from starts and go by wear."""
    left = sum(
        _place(dataset, name, place) for name in ("cold_capacity", "cold_under_construction") for place in ("village", "hub")
    )
    step = float(dataset["time"][1] - dataset["time"][0])
    flow = sum(_place(dataset, "cold_starts", p) - _place(dataset, "cold_wear", p) for p in ("village", "hub"))
    right = np.concatenate([np.zeros((len(flow), 1)), np.cumsum(flow[:, :-1], axis=1) * step], axis=1)
    return left - left[:, :1], right, left


def seasons(dataset: Any) -> Balance:
    """A season's shares add up to 1: after n years the intensity has integrated to n."""
    whole = _flow_of_time(dataset, "harvest_intensity")
    years = np.round(dataset["time"].values[-1] - dataset["time"].values[0])
    return whole[..., -1:], np.full_like(whole[..., -1:], years), np.full_like(whole[..., -1:], 1e6 * years)


def _flow_of_time(dataset: Any, name: str) -> Floats:
    step = float(dataset["time"][1] - dataset["time"][0])
    values = np.atleast_2d(dataset[name].values)
    return np.cumsum(values[:, :-1], axis=1) * step


CONSERVED: dict[str, Callable[[Any], Balance]] = {
    "tonnes": tonnes,
    "shipments": shipments,
    "money": money,
    "households": households,
    "skilled persons": skilled_persons,
    "cold stores": cold_stores,
    "seasons": seasons,
}
