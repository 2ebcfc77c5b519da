"""What village_cluster must keep, whatever its parameters."""

from __future__ import annotations

import numpy as np
from runs import Floats, Runs, Series

OUTCOMES = (
    "active_stores", "stores[agent]", "stores[brand]", "profit[agent]", "profit_average", "village_revenue",
    "ad_cost_share[agent]", "workers_away", "return_flow", "resident_workers", "national_visits", "stocked_share",
)  # fmt: skip
SIGNED = ("perceived_profit", "income_ratio_heard", "income_ratio_believed", "perceived_income_ratio")
EXTREMES = [
    {"initial_demand": 1.0}, {"demand_ceiling": 1e14}, {"demand_shock_size": 1.0}, {"outside_ceiling": 1e9},
    {"unpaid_reach": 1.0}, {"unpaid_reach": 1e12}, {"contest_decisiveness": 0.0}, {"contest_decisiveness": 3.0},
    {"gross_margin[agent]": 0.0}, {"brand_outlay": 0.0}, {"brand_outlay": 1e12}, {"participation_ceiling": 1e-6},
    {"households": 1.0}, {"imitation": 0.0}, {"imitation": 20.0}, {"spontaneous_openings": 0.0},
    {"spontaneous_openings": 1e4}, {"urban_wage_growth": 0.3}, {"urban_wage_growth": -0.3},
    {"initial_workers_away": 1e-6}, {"initial_workers_farm": 1.0}, {"return_propensity": 10.0},
    {"leaving_propensity": 10.0}, {"agent_fixed_cost": 1e7}, {"store_fee": 1e6}, {"graduation_hazard": 5.0},
    {"stress_closure_hazard": 20.0}, {"manufacturer_pool": 1e4}, {"manufacturer_awareness": 10.0},
    {"county_response": 0.0}, {"support_lag": 0.2}, {"attention_half_sales": 1.0}, {"fame_weight": 1e6},
    {"internet_pace": 10.0}, {"initial_internet_capacity": 0.0}, {"home_space": 1e-3}, {"home_space": 1e9},
    {"space_per_sales": 0.0}, {"space_per_sales": 1.0}, {"warehouse_response": 10.0}, {"park_release": 2006.0},
    {"policy_warehouse": 1e9, "policy_start": 2006.0}, {"news_rate": 0.0}, {"news_rate": 1e6}, {"look_half_area": 1.0},
    {"messages_per_sales": 0.0}, {"messages_per_sales": 1e6}, {"fatigue_weight": 1.0}, {"tolerable_hours": 24.0},
    {"usual_service_staff[agent]": 0.0, "usual_service_staff[brand]": 20.0}, {"kin_density": 0.0}, {"kin_density": 1.0},
    {"purchasing_gain": 0.5}, {"kin_lending_rate": 10.0}, {"formal_training": 0.0}, {"formal_training": 1.0},
    {"able_share": 1e-6}, {"able_share": 1.0}, {"failure_hazard": 20.0}, {"guidance_relief": 1.0},
    {"policy_entrepreneurship_track": 1e4, "policy_start": 2006.0},
    {"policy_employment_track": 20.0, "policy_start": 2006.0}, {"scouting_rate": 0.0}, {"scouting_rate": 1e3},
    {"initial_copycat_share": 0.0}, {"initial_copycat_share": 1.0, "initial_trust_of_buyers": 0.0},
    {"policy_crackdown": 10.0, "policy_start": 2006.0}, {"brand_spending_share": 1.0}, {"low_value": 1.0},
    {"low_value": 1e4}, {"habit_imitation": 20.0}, {"initial_local_shops": 1e4}, {"local_demand": 0.0},
    {"id_pace": 20.0}, {"stores_per_household_ceiling": 1.0},
]  # fmt: skip


def largest(run: Runs, name: str, **changes: float) -> float:
    return float(run(changes)[name].max())


EXPECTED = {
    "without demand no store is left": lambda run: run(initial_demand=1.0).end("active_stores")[0] < 1,
    "without examples, founders and chance nobody joins": lambda run: (
        largest(run, "active_stores", imitation=0.0, spontaneous_openings=0.0, founders_per_returnee=0.0) <= 1
    ),
    "one household holds one trading household": lambda run: largest(run, "ecommerce_households", households=1.0) <= 1,
    "who is seen for nothing pays nothing": lambda run: (
        run(unpaid_reach=1e12).end("ad_cost_share[agent]")[0] < 1e-3
    ),
    "nobody pays an infinite outlay": lambda run: largest(run, "stores[brand]", brand_outlay=1e12) < 1e-3,
    "a county that does not answer builds nothing": lambda run: (
        np.diff(run(county_response=0.0)["internet_capacity"], axis=1).max() <= 0
    ),
    "without space nothing is kept in stock": lambda run: run(home_space=1e-6).at("stocked_share", 2012)[0] < 0.1,
    "a park whose start is never released stays on paper": lambda run: (
        largest(run, "park_area", park_release=2100.0) == 0 < largest(run, "planned_park_area", park_release=2100.0)
    ),
    "without reporters there is no fame": lambda run: largest(run, "media_fame", news_rate=0.0) == 0,
    "without buyers who write nobody replies": lambda run: (
        run(messages_per_sales=0.0).end("reply_coverage[agent]")[0] < 1e-6
    ),
    "where everyone fits hardly anyone fails": lambda run: (
        largest(run, "failed_stores", able_share=1.0) < 0.3 * largest(run, "failed_stores")
    ),
    "without a first copy there are none": lambda run: largest(run, "copycat_share", initial_copycat_share=0.0) == 0,
    "who finds no line has none left": lambda run: run(scouting_rate=0.0).end("mature_lines")[0] < 0.01,
    "dear goods sell online": lambda run: run(low_value=1e4).end("online_worth")[0] > 0.99,
}


def integral(flow: Floats, step: float) -> Floats:
    """Integral of a flow by Euler's rule since the start, for arrays of any rank."""
    return np.concatenate([np.zeros_like(flow[:, :1]), np.cumsum(flow[:, :-1], axis=1) * step], axis=1)


def change(stock: Floats) -> Floats:
    return stock - stock[:, :1]


def persons(run: Series, step: float):
    """Births and deaths alone change the number of registered persons."""
    born = run.integral("births", step) - run.integral("deaths", step)
    return run.change("registered_population"), born, run["registered_population"]


def stores(run: Series, step: float):
    """Openings and closures alone change the number of stores; who launches a brand keeps the store."""
    flow = (run["openings"] - run["closures"]).sum(axis=-1)
    return run.change("active_stores"), integral(flow, step), run["all_openings"]


def dormant_stores(run: Series, step: float):
    flows = run.integral("dormancy", step) - run.integral("deregistration", step)
    return run.change("dormant_stores"), flows, run["all_openings"]


def money_of_each_store(run: Series, step: float):
    """Sales pay for goods, fees, delivery, ads, fixed cost, staff, brand building and profit."""
    paid = run["ad_bid"] + run["fixed_cost"] + run["staff_cost"] + run["profit"]
    paid = paid + (1 - run["margin_before_ads"] + run["variable_cost_rate"][..., None]) * run["revenue"]
    building = np.stack([np.zeros_like(run["brand_spending"]), run["brand_spending"]], axis=-1)
    return paid + building, run["revenue"], run["revenue"]


def money_of_the_village(run: Series, step: float):
    parts = ("goods_cost", "village_ad_spending", "fees_and_delivery", "fixed_outlays", "wages_paid", "village_profit")
    return sum(run[name] for name in parts), run["village_revenue"], run["village_revenue"]


def ad_spending_is_ad_income(run: Series, step: float):
    spent = (run["ad_cost_share"] * run["revenue"] * run["stores"]).sum(axis=-1)
    return spent, run["village_ad_spending"], spent


def cash_and_loans_among_kin(run: Series, step: float):
    """Savings are spent on brands, on other ends, or lent to kin; what is lent comes back."""
    saved = run.integral("merchant_saving", step)
    out = run.integral("brand_outlay_spending", step) + run.integral("cash_withdrawal", step)
    return run.change("merchant_cash") + run.change("kin_loans"), saved - out, saved + 1


def weak_stores(run: Series, step: float):
    """Owners who do not fit begin, fail, close for another reason, or grow into the trade."""
    gone = sum(run.integral(name, step) for name in ("failures", "weak_closures", "improvements"))
    return run.change("weak_stores"), run.integral("weak_openings", step) - gone, run["all_openings"]


def demand_is_shared_out(run: Series, step: float):
    """Sales of all sellers of the category add up to its demand."""
    weight = run["nest_weight"]
    sold = run["stores"] * run["revenue"]
    makers = run["manufacturer_share"] * run["category_demand"]
    inside = run["stores"] * run["appeal"]
    inside[..., 0] += run["manufacturer_direct_stores"] * run["manufacturer_appeal_in_force"]
    outside = run["nest_share"] * run["category_demand"][..., None] * (weight - inside) / weight
    return (sold + outside).sum(axis=-1) + makers, run["category_demand"], run["category_demand"]


def lines(run: Series, step: float):
    """A line is found, worn out and dropped."""
    held = run["emerging_lines"] + run["mature_lines"] + run["exhausted_lines"]
    return change(held), integral(run["line_discovery"] - run["line_abandonment"], step), held


def space(run: Series, step: float):
    """Plans become the park, nothing else does."""
    planned = run.change("planned_park_area") + run.change("park_area")
    return planned, run.integral("park_planning", step), run["space_available"] + run["space_need"]


CONSERVED = (
    persons, stores, dormant_stores, money_of_each_store, money_of_the_village, ad_spending_is_ad_income,
    cash_and_loans_among_kin, weak_stores, demand_is_shared_out, lines, space,
)  # fmt: skip
