"""What national_diffusion must keep, whatever its parameters."""

from __future__ import annotations

import numpy as np
from runs import Series

OUTCOMES = ("taobao_villages", "seed_villages", "urban_users", "rural_users", "top_three_share", "sellers")
SIGNED = ("mean_log_sales_gap",)

EXTREMES = [
    {"reference_village_sales": 1e-30}, {"reference_village_sales": 1e30}, {"sales_dispersion": 0.05},
    {"sales_dispersion": 100.0}, {"contagion_hazard": 50.0}, {"spontaneous_seeding": 0.0},
    {"villages_reached_per_listing": 5e3}, {"retrospective_detection": 0.0}, {"retrospective_detection": 1.0},
    {"delisting_hazard": 20.0}, {"delisting_hazard": 0.0}, {"initial_urban_users": 0.0, "initial_rural_users": 1.0},
    {"network_advantage": 20.0}, {"challenger_entry": 5.0}, {"sales_threshold": 1e-3}, {"sales_threshold": 1e30},
    {"spending_ceiling": 0.0, "initial_spending_per_user": 1.0}, {"connection_hazard": 0.0},
]  # fmt: skip

EXPECTED = {
    "nobody passes an infinite threshold": lambda run: run(sales_threshold=1e30)["taobao_villages"].max() < 1e-6,
    "without spontaneous seeds few villages pass": lambda run: (
        run(spontaneous_seeding=0.0)["taobao_villages"].max() <= run()["taobao_villages"].max() / 5
    ),
    "without an advantage of size the leading platforms hold less": lambda run: (
        run(network_advantage=0.0).end("top_three_share")[0] < 0.6
    ),
}


def pool_of_villages(run: Series, step: float):
    """Villages change state; none appears or vanishes."""
    pool = run["village_total"]
    return pool, np.repeat(pool[:, :1], pool.shape[1], axis=1), pool


def villages_in_lists(run: Series, step: float):
    listed = run.integral("listing", step) - run.integral("delisting", step)
    return run.change("taobao_villages"), listed, run["taobao_villages"]


def villages_not_listed_yet(run: Series, step: float):
    passed, known = run.integral("crossing", step), run.integral("listing", step)
    return run.change("unlisted_villages"), passed - known, passed


CONSERVED = (pool_of_villages, villages_in_lists, villages_not_listed_yet)
