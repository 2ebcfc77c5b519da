"""What the tests of quality ask of workshop_cluster: outcomes, extremes, balances, consequences of extreme inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from modes import workshop_cluster as modes
from runs import Floats, Runs, Series

Balance = tuple[Floats, Floats, Floats]

OUTCOMES = (
    "firms", "free_workers", "cluster_residents", "price_cutting", "market_rules", "support_programme",
    "unit_cost_index", "cluster_skill", "rival_sellers", "cluster_sales", "cluster_profit",
)
SIGNED = ("perceived_firm_profit",)
FINISHING, MAKER = 0, 1
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


def persons(run: Series, step: float) -> Balance:
    """Persons in and outside the cluster are always the same persons."""
    total = run["cluster_residents"] + run["workers_elsewhere"]
    return total, np.repeat(total[:, :1], total.shape[1], axis=1), total


def residents(run: Series, step: float) -> Balance:
    """Residents change by arrivals and departures only, whatever firms open, close or change."""
    moved = run.integral("arrivals", step) - run.integral("departures", step)
    return run.change("cluster_residents"), moved, run["cluster_residents"]


def firms(run: Series, step: float) -> Balance:
    """Firms of each kind change by openings, changes of kind and closures."""
    came = run.integral("firm_openings", step) + run.integral("firm_upgrades", step)
    return run.change("firms"), came - run.integral("firm_closures", step), run.integral("firm_openings", step) + 1


def piecework(run: Series, step: float) -> Balance:
    """What the market gives out is what workshops here and elsewhere get."""
    workshops, given = run["firms"][:, :, FINISHING], run["market_piecework"]
    rivals = run["rival_workshops"][:, None]
    elsewhere = given * rivals / (workshops * run["order_routing"] + rivals)
    return workshops * run["firm_revenue"][:, :, FINISHING] + elsewhere, given, given


def money_of_makers(run: Series, step: float) -> Balance:
    """Sales of makers pay goods, delivery, running cost and profit."""
    makers, volume = run["firms"][:, :, MAKER], run["sales_volume"]
    delivery = volume * run["variable_cost_rate"].reshape(len(volume), -1)
    each = delivery + run["running_outlay"][:, :, MAKER] + run["firm_profit"][:, :, MAKER]
    paid = run["goods_bought"] + makers * each
    return paid, makers * run["firm_revenue"][:, :, MAKER], np.abs(paid) + makers * volume


def money_of_the_cluster(run: Series, step: float) -> Balance:
    """Profit of all firms is the sum over kinds of firms times profit."""
    parts = (run["firms"] * run["firm_profit"]).sum(axis=2)
    return parts, run["cluster_profit"], np.abs(run["firms"] * run["firm_profit"]).sum(axis=2)


CONSERVED = (persons, residents, firms, piecework, money_of_makers, money_of_the_cluster)


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
