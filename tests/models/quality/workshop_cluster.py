"""What the tests of quality ask of workshop_cluster: outcomes, extremes, balances, consequences of extreme inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from modes import workshop_cluster as modes
from runs import Floats, Runs

KINDS = ("finishing", "maker", "supplier", "eatery")
OUTCOMES = [
    "firms[finishing]", "firms[maker]", "firms[supplier]", "firms[eatery]", "free_workers", "cluster_residents",
    "price_cutting", "market_rules", "support_programme", "unit_cost_index", "cluster_sales", "cluster_profit",
]  # fmt: skip
EXTREMES = [
    {"order_shock_depth": 0.0}, {"order_shock_depth": 1.0}, {"order_shock_length": 0.0}, {"order_shock_length": 5e7},
    {"initial_firms[finishing]": 0.0}, {"initial_firms[finishing]": 9e8}, {"initial_firms[eatery]": 0.0},
    {"initial_workers_elsewhere": 2e10}, {"outside_wage": 1e-3}, {"outside_wage": 1.5e10}, {"rival_workshops": 0.0},
    {"rival_workshops": 2e9}, {"thick_market_half_point": 0.0}, {"thick_market_half_point": 100.0},
    {"thickness_power": 0.0}, {"thickness_power": 64.0}, {"relief_exponent": 0.0}, {"relief_exponent": 10.0},
    {"rent_share": 0.0}, {"rent_share": 1.0}, {"base_closing_hazard": 0.0001}, {"highest_closure_hazard": 20.0},
    {"closure_slope": 0.0}, {"closure_slope": 6e6}, {"entry_slope": 0.0}, {"moving_premium": 50.0},
    {"departure_rate": 0.0}, {"departure_rate": 20.0}, {"reopening_rate": 0.0}, {"reopening_rate": 40.0},
    {"service_pull": 0.0}, {"service_pull": 4.0}, {"meal_spending": 0.0}, {"meal_spending": 3e9},
    {"upgrade_hazard": 0.0}, {"upgrade_hazard": 20.0}, {"spontaneous_making": 20.0}, {"imitation_of_makers": 0.0},
    {"imitation_of_makers": 20.0}, {"supplier_formation": 20.0}, {"product_demand_ceiling": 0.0},
    {"product_demand_ceiling": 2e15}, {"initial_rival_sellers": 0.0}, {"initial_rival_sellers": 2e7},
    {"goods_share": 0.0}, {"goods_share": 1.0}, {"skill_gap": 1e5}, {"price_cut_depth": 1.0},
    {"crowding_half_point": 1e-3}, {"crowding_half_point": 3e8}, {"learning_exponent": 0.0}, {"learning_exponent": 5.0},
    {"support_saving": 1.0, "policy_early_support": 1.0}, {"full_support_budget": 0.0}, {"full_support_budget": 2e13},
    {"notice_half_point": 1e-3}, {"rule_strength": 1.0, "policy_market_rules": 1.0}, {"order_value": 1e-4},
    {"order_value": 2e8}, {"policy_upgrading_support": 1.0, "supported_upgrade_hazard": 20.0},
]  # fmt: skip


def _values(ds, name: str) -> Floats:
    return ds[name].values


def _constant(ds, name: str) -> Floats:
    """A constant or an array of constants, shaped to go with (member, time, kind)."""
    from villageflow import library

    known = library.read("workshop_cluster").constants
    ids = [f"{name}[{kind}]" for kind in KINDS] if f"{name}[maker]" in known else [name]
    columns = [ds[i].values if i in ds.coords else np.full(ds.sizes["member"], float(known[i])) for i in ids]
    table = np.stack(columns, axis=-1)[:, None, :]
    return table if len(ids) > 1 else table[..., 0]


def _cumulated(ds, name: str) -> Floats:
    """Integral of a flow by Euler's rule from the first saved time."""
    flow = _values(ds, name)
    total = np.cumsum(flow[:, :-1], axis=1) * ds.attrs["time_step"]
    return np.concatenate([np.zeros_like(flow[:, :1]), total], axis=1)


def _change(ds, name: str) -> Floats:
    return _values(ds, name) - _values(ds, name)[:, :1]


def persons(ds) -> tuple[Floats, Floats, Floats]:
    """Persons in and outside the cluster are always the same persons."""
    total = _values(ds, "cluster_residents") + _values(ds, "workers_elsewhere")
    return total, np.repeat(total[:, :1], total.shape[1], axis=1), total


def residents(ds) -> tuple[Floats, Floats, Floats]:
    """Residents change by arrivals and departures only, whatever firms open, close or change."""
    moved = _cumulated(ds, "arrivals") - _cumulated(ds, "departures")
    return _change(ds, "cluster_residents"), moved, _values(ds, "cluster_residents")


def firms(ds) -> tuple[Floats, Floats, Floats]:
    """Firms of each kind change by openings, changes of kind and closures."""
    flows = (_cumulated(ds, f"firm_{name}") for name in ("openings", "upgrades"))
    return _change(ds, "firms"), sum(flows) - _cumulated(ds, "firm_closures"), _cumulated(ds, "firm_openings") + 1


def piecework(ds) -> tuple[Floats, Floats, Floats]:
    """What the market gives out is what workshops here and elsewhere get."""
    here = _values(ds, "firms")[:, :, 0] * _values(ds, "firm_revenue")[:, :, 0]
    given, routing = _values(ds, "market_piecework"), _values(ds, "order_routing")
    rivals = _constant(ds, "rival_workshops")
    elsewhere = given * rivals / (_values(ds, "firms")[:, :, 0] * routing + rivals)
    return here + elsewhere, given, given


def money_of_makers(ds) -> tuple[Floats, Floats, Floats]:
    """Sales of makers pay goods, delivery, running cost and profit."""
    makers, volume = _values(ds, "firms")[:, :, 1], _values(ds, "sales_volume")
    running = _constant(ds, "running_cost")[:, :, 1] * _values(ds, "rent_level")
    delivery = volume * _values(ds, "variable_cost_rate").reshape(ds.sizes["member"], -1)
    paid = _values(ds, "goods_bought") + makers * (delivery + running + _values(ds, "firm_profit")[:, :, 1])
    sales = makers * _values(ds, "firm_revenue")[:, :, 1]
    return paid, sales, paid


CONSERVED = {
    "persons": persons, "residents": residents, "firms": firms, "piecework": piecework,
    "money of makers": money_of_makers,
}  # fmt: skip


def _off(run: Runs, mode: Callable[[Runs], object], **changes: float) -> bool:
    """Whether a mode is not shown where its mechanism is off."""
    table = run.table.copy()
    for name, value in changes.items():
        table[name] = value
    return not np.any(mode(Runs(run.name, table, modes.SAVED)))


EXPECTED: dict[str, Callable[[Runs], bool]] = {
    "a village at rest stays at rest without a shock": lambda run: bool(
        np.abs(run(order_shock_depth=0.0)["firms"][:, :, 0] / 900 - 1).max() < 0.02
    ),
    "all workshops go when all orders go": lambda run: bool(run(order_shock_depth=1.0)["firms"][:, -1, 0].max() < 1),
    "nobody makes what costs more to send than it is worth": lambda run: bool(
        run.archetype("low_value_workshop_village")()["firms"][:, :, 1].max() < 1
    ),
    "no free worker, no firm": lambda run: bool(
        run(initial_workers_elsewhere=1e-9, reopening_rate=1e9)["firm_openings"][:, 0].max() < 1e4
    ),
    "without starters no cluster": lambda run: bool(
        run.archetype("shaji")(spontaneous_making=0.0)["firms"][:, :, 1].max() == 0
    ),
    "support before anybody starts raises nothing": lambda run: bool(
        run.archetype("shaji")(spontaneous_making=0.0, policy_early_support=1.0)["firms"][:, :, 1].max() == 0
    ),
    "eateries stay where nobody leaves": lambda run: _off(run, modes.v15_2, switch_b30=0.0),
    "support without means helps nobody": lambda run: all(
        _off(run, mode, supported_upgrade_hazard=0.0, training_gain=0.0, design_help=0.0)
        for mode in (modes.v15_3, modes.v15_5)
    ),
    "dealers who do not mind a thin market come back": lambda run: _off(run, modes.v15_4, switch_r27=0.0),
    "support that saves and teaches nothing prolongs nothing": lambda run: _off(
        run, modes.g01_1, support_saving=0.0, training_gain=0.0
    ),
    "rules without strength prolong nothing": lambda run: _off(run, modes.g01_2, rule_strength=0.0),
}
