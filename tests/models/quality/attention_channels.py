"""What attention_channels must keep, whatever its parameters, and its comparison of the three modes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from runs import Floats, Runs, Series

CHANNELS = ("live", "group", "video")
SEGMENTS = ("elderly", "working", "flexible")

OUTCOMES = (
    "channel_users", "channel_gmv", "viewer_trust", "false_claim_share", "fans", "village_streamers", "mode_share",
    "region_online_sales", "visitors", "scenic_quality", "goodwill", "differentiation", "region_income",
)  # fmt: skip
SIGNED = ()

GOODS = ("perishable_daily", "visible_quality", "culture_rich")
NO_GOODS = {f"goods_endowment[{g}]": 0.0 for g in GOODS}
VIDEO_ONLY = {"channel_allowed[live]": 0.0, "channel_allowed[group]": 0.0}

EXTREMES = [
    NO_GOODS, VIDEO_ONLY,
    {"attention_budget": 1e-3}, {"attention_budget": 1e12}, {"netizens_at_count": 1.0}, {"netizen_ceiling": 1e15},
    {"word_of_mouth[live]": 0.0, "spontaneous_adoption[live]": 0.0}, {"word_of_mouth[video]": 20.0},
    {"reachable_share[live]": 0.0}, {"reachable_share[live]": 1.0}, {"hours_wanted[live]": 0.0},
    {"hours_wanted[video]": 4e8}, {"spending_per_buyer[live]": 1e10}, {"spending_per_buyer[video]": 0.0},
    {"creator_commission[live]": 0.0}, {"required_return[video]": 5e9}, {"pioneer_creators": 0.0},
    {"pioneer_creators": 5e9}, {"evening_hours": 0.0001}, {"credibility_gain": 0.0}, {"goods_as_shown": 0.0},
    {"false_claim_gain": 20.0}, {"false_claim_gain": 0.0}, {"video_supervision_gain": 0.0},
    {"video_supervision_gain": 20.0}, {"clutter_half_point": 1.0}, {"after_sales_strain": 1e6}, {"making_time": 1e-3},
    {"making_time": 1e7}, {"base_team": 0.0}, {"share_propensity": 1.0}, {"niche_interest": 0.0},
    {"niche_interest": 3e4}, {"content_share_of_sales": 0.5}, {"learning_share": 3e4},
    {"initial_possible_streamers": 0.0, "initial_young_people_away": 0.0},
    {"shock_size": 1.0, "shock_length": 6.0}, {"offline_sales": 8e14}, {"offline_sales": 0.0}, {"star_reach": 4e4},
    {"star_reach": 0.0}, {"policy_relief_events": 365.0}, {"fatigue_per_event": 5.0}, {"online_pull": 0.0},
    {"online_pull": 3e6}, {"mode_sensitivity": 30.0}, {"offer_elasticity": 0.0}, {"offer_elasticity": 3.0},
    {"return_sensitivity": 10.0}, {"delivery_time[group]": 1e3}, {"elderly_share_of_buyers": 1.0},
    {"app_gap[elderly]": 1.0, "schedule_gap[working]": 1.0},
    {"goods_endowment[culture_rich]": 2e14}, {"promotion_reference": 1.0},
    {"visit_potential": 0.0}, {"visit_potential": 6e12}, {"scenic_carrying_capacity": 1.0}, {"initial_visitors": 0.0},
    {"initial_beds": 0.0}, {"spending_per_visit": 5e8}, {"familiarity_share": 1.0}, {"experience_loss": 20.0},
    {"heritage_endowment": 0.0, "initial_practitioners": 0.0}, {"artisan_share": 1.0, "alternative_income": 0.03},
    {"contest_decisiveness": 1.0, "rival_growth": 1.0}, {"gross_margin": 0.0}, {"reinvestment_gain": 10.0},
    {"regional_programme_budget": 5e12, "policy_story_content": 1.0, "policy_streamer_training": 1.0,
     "policy_outside_sessions": 1.0, "policy_heritage_courses": 1.0, "policy_homestays": 1.0},
]  # fmt: skip


def of(run: Series, name: str, channel: str) -> Floats:
    """One channel of an array over channels: (member, time)."""
    return run[name][..., CHANNELS.index(channel)]


EXPECTED = {
    "without word of mouth few watch live": lambda run: (
        of(run({"word_of_mouth[live]": 0.0}), "channel_users", "live")[:, -1]
        < 0.2 * of(run(), "channel_users", "live")[:, -1]
    ).all(),
    "without attention nothing is sold": lambda run: (
        run(attention_budget=1e-9)["channel_gmv"].max() < 1e-6 * run()["channel_gmv"].max()
    ),
    "a channel that never opens has no users": lambda run: (
        of(run({"channel_start[live]": 2100.0}), "channel_users", "live").max() == 0
    ),
    "without a shock nothing is left unsold": lambda run: run(shock_size=0.0)["goods_left_unsold"].max() == 0,
    "without visitors scenery stays whole": lambda run: (
        run(visit_potential=0.0, initial_visitors=0.0)["scenic_quality"].min() == 1
    ),
    "without temptation false claims only fade": lambda run: (
        np.diff(run(false_claim_gain=0.0)["false_claim_share"], axis=1).max() < 0
    ),
    "one allowed channel takes all sales": lambda run: (
        (run(VIDEO_ONLY)["region_online_sales"] == of(run(VIDEO_ONLY), "mode_sales", "video")).all()
    ),
    "nobody buys goods that do not exist": lambda run: run(NO_GOODS)["region_online_sales"].max() == 0,
    "without a craft taken up artisans become fewer": lambda run: (
        run(artisan_entry_hazard=0.0)["heritage_practitioners"][:, -1] < run.values("initial_practitioners")
    ).all(),
}


def integral(flow: Floats, step: float) -> Floats:
    """Integral by Euler's rule of the flow of any array, every step saved."""
    return np.concatenate([np.zeros_like(flow[:, :1]), np.cumsum(flow[:, :-1], axis=1) * step], axis=1)


def users(run: Series, step: float):
    """Netizens enter and leave a channel; watching turns into buying inside it."""
    flow = run["user_adoption"] - run["watcher_lapse"] - run["buyer_lapse"]
    return run["channel_users"] - run["channel_users"][:, :1], integral(flow, step), run["channel_users"]


def creators(run: Series, step: float):
    return run["creators"], integral(run["creator_entry"] - run["creator_exit"], step), run["creators"]


def persons_of_the_region(run: Series, step: float):
    """Young people leave, return, learn to stream and stop; none appears or vanishes."""
    people = run["young_people_away"] + run["possible_streamers"] + run["village_streamers"]
    return people, np.repeat(people[:, :1], people.shape[1], axis=1), people


def unsold_goods(run: Series, step: float):
    out = run.integral("unsold_sold", step) + run.integral("unsold_lost", step)
    return run["goods_left_unsold"], run.integral("sales_stopped", step) - out, run["goods_left_unsold"]


def effort_of_sellers(run: Series, step: float):
    """Shares of effort add up to one for each kind of goods."""
    shares = run["seller_share"].sum(axis=-1)
    return shares, np.ones_like(shares), shares


def demand(run: Series, step: float):
    """What buyers spend is spent in a channel or elsewhere."""
    weight = np.broadcast_to(run["segment_share"].reshape(len(run["segment_share"]), -1, len(SEGMENTS))[..., None],
                             run["choice_total"].shape)
    elsewhere = (weight / run["choice_total"]).sum(axis=2)
    served = run["channel_share"].sum(axis=-1)
    return served + elsewhere, np.ones_like(served), served


def money_of_merchants(run: Series, step: float):
    """Sales are cost of goods, commissions, promotion, reinvestment and profit."""
    parts = ("goods_cost_of_region", "commissions_paid", "region_promotion_cost", "label_spending", "image_spending",
             "culture_spending", "team_paid_by_sales", "region_merchant_profit")  # fmt: skip
    return sum(run[part] for part in parts), run["region_gmv"], run["region_gmv"]


def sales_of_the_region(run: Series, step: float):
    parts = run["regional_sales"].sum(axis=(2, 3)) + run["repeat_sales"] + run["flash_sales"]
    return parts, run["region_gmv"], run["region_gmv"]


def former_visitors(run: Series, step: float):
    flow = run.integral("new_customers", step) - run.integral("customers_lost", step)
    return run["repeat_customers"], flow, run["repeat_customers"]


def artisans(run: Series, step: float):
    flow = run.integral("artisan_entry", step) - run.integral("artisan_exit", step)
    return run.change("heritage_practitioners"), flow, run["heritage_practitioners"]


CONSERVED = (
    users, creators, persons_of_the_region, unsold_goods, effort_of_sellers, demand, money_of_merchants,
    sales_of_the_region, former_visitors, artisans,
)  # fmt: skip


COMPARED = ("region_gmv", *(f"{v}[{c}]" for v in ("channel_users", "channel_gmv", "content_hours", "mode_sales")
                            for c in CHANNELS))  # fmt: skip


def comparison(run: Runs) -> pd.DataFrame:
    """What the model says of the three modes, for the first member of a set of runs.

    Persistence is what a mode still sells two years after the region has ended its sessions, groups or new videos;
    a demand made of one segment shows whom a mode reaches least.
    """
    base, rows = run(), []
    for c in CHANNELS:
        users = base[f"channel_users[{c}]"][0]
        half = float(base.time[int(np.argmax(users >= 0.5 * users[-1]))])
        hours = 1000 * base.at(f"content_hours[{c}]", 2021)[0] / base.at(f"channel_gmv[{c}]", 2021)[0]
        ended = run({f"effort_withdrawn[{c}]": 1.0, "withdrawal_start": 2022.0})
        left = 100 * ended.at(f"mode_sales[{c}]", 2024)[0] / base.at(f"mode_sales[{c}]", 2024)[0]
        reached = {s: run(_only(s)).at(f"mode_sales[{c}]", 2024)[0] for s in SEGMENTS}
        least = min(reached, key=reached.__getitem__)
        lost = 100 * (1 - reached[least] / max(reached.values()))
        rows += [
            (c, "reach", f"{users[base.time == 2021][0] / 1e6:.0f} million users at the end of 2020", "channel_users"),
            (c, "timing", f"half of its users of 2026 by {half:.2f}", "channel_users"),
            (c, "cost", f"{hours:.2f} hours of content for 1,000 RMB of sales at the end of 2020", "content_hours"),
            (c, "persistence", f"{left:.0f} % of its sales are left two years after effort has ended", "mode_sales"),
            (c, "who is excluded", f"{least} buyers: {lost:.0f} % less sold than to the best reached", "mode_sales"),
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=["mode", "attribute", "statement", "variable"])


def _only(segment: str) -> dict[str, float]:
    """Constants that make all of demand one segment."""
    return {
        "elderly_share_of_buyers": float(segment == "elderly"),
        "working_share_of_others": float(segment == "working"),
    }
