"""What county_takeoff must keep, whatever its parameters."""

from __future__ import annotations

import numpy as np
from runs import Floats, Runs, Series

OUTCOMES = (
    "online_merchants", "uptake", "community_trust", "programme_fit", "productivity", "provider_cash", "goodwill",
    "low_income_residents", "digital_literacy", "workers_away", "label_score", "programme_spending",
)  # fmt: skip
SIGNED = ("perceived_profit", "income_ratio_heard", "income_ratio_believed", "perceived_income_ratio")

EXTREMES = [
    {"initial_stores[independent]": 0.0}, {"initial_stores[independent]": 2e4}, {"initial_workers_farm": 1.0},
    {"initial_workers_away": 1e-6}, {"initial_low_income_residents": 5e4}, {"initial_basic_skilled": 0.0},
    {"initial_basic_skilled": 5e5}, {"initial_ties": 0.0}, {"initial_ties": 1.0}, {"initial_provider_cash": 0.0},
    {"initial_service_capacity[basic]": 0.0, "initial_service_capacity[advanced]": 0.0}, {"imitation_gain": 0.0},
    {"imitation_gain": 50.0}, {"spontaneous_adoption": 0.0}, {"spontaneous_adoption": 1.0},
    {"adoption_ceiling": 1e-6}, {"critical_mass_half_point": 1e-6}, {"critical_mass_half_point": 1e6},
    {"county_budget[upskilling]": 9e12}, {"county_budget[structure]": 9e12}, {"county_budget[inclusion]": 9e9},
    {"county_budget[exemplars]": 9e12}, {"county_budget[contract]": 9e12}, {"policy_budget[basic_capacity]": 1e12},
    {"own_programme": 0.0}, {"force_level": 0.0}, {"force_level": 1.0}, {"fit_floor": 0.0}, {"fit_floor": 1.0},
    {"complementarity": 0.0}, {"complementarity": 1.0}, {"initial_trust": 1e-6}, {"initial_trust": 1.0},
    {"fee_share": 0.0}, {"fee_share": 1.0}, {"provider_reinvestment": 0.0}, {"provider_reinvestment": 1.0},
    {"trade_margin": 0.0}, {"trade_margin": 1.0}, {"sales_over_wage": 0.0}, {"sales_over_wage": 1e6},
    {"overhead_ratio": 1e3}, {"dilution": 0.6, "spread_scale": 1e-6}, {"premium_ceiling": 100.0},
    {"urban_wage_growth": 0.3}, {"urban_wage_growth": -0.3}, {"low_income_line": 1e9}, {"cash_barrier": 1.0},
    {"enlistment_rate": 20.0, "force_level": 1.0}, {"stress_closure_hazard": 20.0}, {"candidate_hazard": 0.0},
    {"start_up_outlay": 1.0}, {"need_steepness": 30.0}, {"binding_competition": 1e-3}, {"outflow_hazard": 5.0},
    {"leaving_propensity": 10.0}, {"return_propensity": 10.0},
]  # fmt: skip


CONTRACT = 4
"""Place of the service contract among the levers."""


def flat(run: Runs, **changes: float) -> float:
    """Largest number of merchants of a run."""
    return float(run(changes)["online_merchants"].max())


def same_shares(run: Runs) -> bool:
    """Whether a county four times as large follows the same path in shares."""
    small, large = run.archetype("suichang")(), run.archetype("suichang_census")()
    names = ("uptake", "low_income_share", "digital_literacy", "community_trust", "productivity")
    return all(np.allclose(small[name], large[name], rtol=1e-9, atol=1e-12) for name in names)


EXPECTED = {
    "without examples and grants few trade": lambda run: flat(run, own_programme=0.0, imitation_gain=0.0) < 100,
    "without a first merchant, spontaneous adoption and a programme nobody trades": lambda run: (
        run({"initial_stores[independent]": 0.0, "spontaneous_adoption": 0.0, "own_programme": 0.0})
        ["online_merchants"].max() == 0
    ),
    "without margin trade dies": lambda run: run(trade_margin=0.0).end("online_merchants")[0] < 100,
    "without fees or contract the provider ends": lambda run: (
        run(fee_share=0.0, own_programme=0.0).end("provider_cash")[0] < 1
    ),
    "without a structure nobody joins the brand": lambda run: (
        run({"county_budget[structure]": 0.0, "dues_ratio": 0.0}).end("member_share")[0] < 0.02
    ),
    "without money nothing is spent": lambda run: run(own_programme=0.0).end("programme_spending")[0] == 0,
    "budgets are spent in full": lambda run: (
        abs(run().end("programme_spending")[0] / (5 * 3 * 6e6) - 1) < 1e-9
    ),
    "shares do not depend on the size of the county": same_shares,
}


def persons(run: Series, step: float):
    """Births and deaths alone change the number of registered persons."""
    born = run.integral("births", step) - run.integral("deaths", step)
    return run.change("registered_population"), born, run["registered_population"]


def skilled_persons(run: Series, step: float):
    """Courses, neighbours and forgetting alone change the number of the skilled."""
    stocks = ("basic_skilled", "professionals", "skilled_away")
    learned = run.integral("basic_training", step) - run.integral("forgetting", step)
    return sum(run.change(name) for name in stocks), learned, sum(run[name] for name in stocks)


def low_income_persons(run: Series, step: float):
    flows = run.integral("entering_low_income", step) - run.integral("leaving_low_income", step)
    return run.change("low_income_residents"), flows, run["residents"]


def integral(flow: Floats, step: float) -> Floats:
    """Integral of a flow by Euler's rule since the start, for arrays of any rank."""
    return np.concatenate([np.zeros_like(flow[:, :1]), np.cumsum(flow[:, :-1], axis=1) * step], axis=1)


def stores(run: Series, step: float):
    """Openings and closures alone change the number of stores; who joins or leaves the brand keeps the store."""
    total = run["stores"].sum(axis=-1)
    return total - total[:, :1], integral((run["openings"] - run["closures"]).sum(axis=-1), step), total


def money_of_each_store(run: Series, step: float):
    """Sales pay for goods, staff, overhead, services, dues and profit."""
    paid = run["goods_cost"] + run["staff_cost"] + run["dues"] + run["profit"]
    return paid + (run["overhead"] + run["fees_of_a_merchant"])[..., None], run["sales"], run["sales"]


def fees_paid_are_fees_received(run: Series, step: float):
    paid = run["fees_of_a_merchant"] * run["stores"].sum(axis=-1)
    return paid, run["service_fees"], run["service_fees"]


def cash_of_the_provider(run: Series, step: float):
    received = run.integral("service_fees", step) + integral(run["spending"][..., CONTRACT], step)
    spent = sum(run.integral(name, step) for name in ("operating_outlay", "investment_outlay", "withdrawal"))
    return run.change("provider_cash"), received - spent, received


def public_money(run: Series, step: float):
    """All spending is booked."""
    return run["programme_spending"], integral(run["spending"].sum(axis=-1), step), run["programme_spending"]


CONSERVED = (
    persons, skilled_persons, low_income_persons, stores, money_of_each_store, fees_paid_are_fees_received,
    cash_of_the_provider, public_money,
)  # fmt: skip
