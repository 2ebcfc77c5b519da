"""What service_system must keep, whatever its parameters."""

from __future__ import annotations

import numpy as np
from runs import Runs, Series

from villageflow import library

OUTCOMES = (
    "online_sales", "service_quality", "coverage", "station_use", "professionals", "connected_share",
    "income_inequality", "operator_capability", "shared_trust", "coherence", "own_capital", "loans",
)  # fmt: skip
# merchants who lose goods bought with a loan may owe more than they own
SIGNED = ("own_capital",)

EXTREMES = [
    {"base_service_money": 0.0, "project_grant": 0.0}, {"base_service_money": 1e13}, {"project_grant": 1e13},
    {"operation_share": 0.0}, {"operation_share": 1.0}, {"mountain_cost_multiplier": 1e6}, {"hardware_cost": 1e13},
    {"soft_cost": 1e13}, {"running_cost_rate": 1e6}, {"subsystem_substitution_power": 1.0},
    {"subsystem_substitution_power": 30.0}, {"base_integration": 0.0}, {"base_integration": 0.999},
    {"sales_per_able_store": 1.0}, {"sales_per_able_store": 1e12}, {"traffic_fee": 0.0}, {"traffic_fee": 1.0},
    {"fee_rise": 10.0}, {"initial_coherence": 0.0}, {"agencies_named": 1e6}, {"evaluation_window": 1e6},
    {"outflow_hazard": 0.0}, {"outflow_hazard": 20.0}, {"continuous_courses": 1e9}, {"campaign_courses": 1e9},
    {"initial_professionals": 0.0}, {"inclusive_programme": 1.0}, {"township_coverage": 0.0},
    {"neighbour_adoption": 20.0}, {"hard_unit_cost": 1e13}, {"soft_unit_cost": 1.0}, {"operator_cost": 1e13},
    {"operator_cost": 1.0}, {"trust_half_point": 1.0}, {"base_price_share": 1.0}, {"base_price_share": 0.0},
    {"initial_capital_cover": 0.0}, {"loan_to_sales_limit": 1e6}, {"default_hazard": 20.0},
    {"farm_reservation": 1e13}, {"delivery_cost": 1e6}, {"pathway_budget": 1e13},
    {"pathway_budget": 1e13, "lever_share[cold_hub]": 1.0}, {"pathway_budget": 1e13, "lever_share[coordination]": 1.0},
    {"pathway_budget": 1e13, "lever_share[culture_tourism]": 1.0},
    {"pathway_budget": 1e13, "lever_share[local_operator]": 1.0},
    {"pathway_budget": 1e13, "lever_share[local_talent]": 1.0},
]  # fmt: skip


def _spent(run: Runs, scenario: str) -> float:
    """Policy money of all years, RMB."""
    rows = library.scenarios("service_system")
    rows = rows[rows["scenario"] == scenario].to_dict("records")
    changes = {
        r["name"] + (f"[{r['element']}]" if isinstance(r["element"], str) else ""): float(r["value"]) for r in rows
    }
    result = run(changes)
    money = result["lever_money"].sum(axis=-1) + result["general_money"]
    return float(np.trapezoid(money[0], result.time))


def _equal_budget(run: Runs) -> bool:
    """All scenarios but the baseline spend the same policy money."""
    names = [n for n in dict.fromkeys(library.scenarios("service_system")["scenario"]) if n != "baseline"]
    spent = [_spent(run, name) for name in names]
    return max(spent) < 1.001 * min(spent) and min(spent) > 0


EXPECTED = {
    "nobody connects without signal": lambda run: (
        run(township_coverage=0.0, inclusive_programme=0.0).at("connected_share", 2040)[0] < 0.1
    ),
    "without money capability fades": lambda run: (
        run(base_service_money=0.0, project_grant=0.0, service_contribution_share=0.0, service_share_of_revenue=0.0)
        .end("weakest_link")[0] < 0.5 * run().end("weakest_link")[0]
    ),
    "without buyers nothing is sold": lambda run: (
        run(sales_per_able_store=1e-3).end("online_sales")[0] < 1e-3 * run().end("online_sales")[0]
    ),
    "professionals stay where nothing pulls": lambda run: run(outflow_hazard=0.0)["professional_outflow"].max() == 0,
    "stations cover nothing when they cost too much": lambda run: run(hard_unit_cost=1e15).end("coverage")[0] < 0.1,
    "an unpaid operator is lost": lambda run: (
        run(subsidy_length=0.0, operator_fee=0.0, contribution_propensity=0.0).end("operator_capability")[0] < 0.01
    ),
    "all scenarios cost the same": _equal_budget,
}


def skilled_persons(run: Series, step: float):
    """Skilled persons come from courses and are lost by forgetting only."""
    stock = run.change("basic_skilled") + run.change("professionals") + run.change("skilled_away")
    flows = run.integral("basic_training", step) - run.integral("forgetting", step)
    return stock, flows, run["basic_skilled"] + run["professionals"] + run["skilled_away"]


def adults(run: Series, step: float):
    """Adults are connected or not, and their number stays."""
    everyone = run["connected_total"] + run["excluded_total"]
    return everyone, np.repeat(everyone[:, :1], everyone.shape[1], axis=1), everyone


def users(run: Series, step: float):
    """Users come by adoption and go by lapse."""
    return run.change("connected_users"), _integral(run["adoption"] - run["lapse"], step), run["connected_users"]


def money_of_the_county(run: Series, step: float):
    flows = run.integral("service_income", step) - run.integral("service_spending", step)
    return run.change("county_service_fund"), flows, run.integral("service_income", step) + 1.0


def money_for_services(run: Series, step: float):
    """What the county spends goes to stations or to the subsystems."""
    return run["station_spending"] + run["subsystem_spending"], run["service_spending"], run["service_spending"]


def money_of_the_parties(run: Series, step: float):
    flows = run.integral("service_contributions", step) - run.integral("joint_spending", step)
    return run.change("joint_service_fund"), flows, run.integral("service_contributions", step) + 1.0


def money_of_sales(run: Series, step: float):
    """Every RMB of sales goes somewhere."""
    parts = ("delivery_outlay", "fee_outlay", "operator_revenue", "wage_bill", "farm_payments", "coordination_outlay",
             "county_revenue", "service_contributions", "party_contributions", "merchant_income")
    return sum(run[part] for part in parts), run["online_sales"], run["online_sales"]


def loans(run: Series, step: float):
    flows = run.integral("lending", step) - run.integral("repayment", step) - run.integral("defaults", step)
    return run.change("loans"), flows, run.integral("lending", step) + run["loans"]


def trade_income(run: Series, step: float):
    """What connected and other adults earn from the trade is what it pays."""
    everyone = run["connected_total"] + run["excluded_total"]
    earned = run["connected_total"] * run["user_income"] + run["excluded_total"] * run["income_of_the_excluded"]
    base = float(library.read("service_system").constants["base_income"])
    return earned - base * everyone, run["trade_income"], earned


def capability(run: Series, step: float):
    """Capability that is begun is under way, at work or worn."""
    stock = run.change("capability") + run.change("capability_under_way")
    return stock, _integral(run["capability_start"] - run["capability_wear"], step), np.ones_like(stock)


def _integral(flow, step: float):
    """Of an array, (member, time, element)."""
    return np.concatenate([np.zeros_like(flow[:, :1]), np.cumsum(flow[:, :-1], axis=1) * step], axis=1)


CONSERVED = (
    skilled_persons, adults, users, money_of_the_county, money_for_services, money_of_the_parties, money_of_sales,
    loans, trade_income, capability,
)  # fmt: skip
