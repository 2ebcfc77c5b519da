"""Reference modes of attention_channels: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

import numpy as np
from runs import Floats, Mode, Runs, Series, Truth

CHANNELS = ("live", "group", "video")
GOODS = ("perishable_daily", "visible_quality", "culture_rich")
SEGMENTS = ("elderly", "working", "flexible")
# the year at which standing shares and incomes are compared: all channels are established
STANDING = 2024.0
SAVED = (
    *(f"channel_users[{c}]" for c in CHANNELS),
    *(f"channel_gmv[{c}]" for c in CHANNELS),
    *(f"demand_share[{c}]" for c in CHANNELS),
    *(f"regional_sales[{g},{c}]" for g in GOODS for c in CHANNELS),
    *("netizens", "value_per_video_user", "flash_sales_per_event", "flash_sales_rate", "flash_sales", "region_gmv"),
    *("region_online_sales", "region_merchant_profit", "region_income", "viewer_trust", "video_conversion"),
    *("false_claim_share", "creators[video]", "fans", "fans_per_cost", "visitors", "scenic_quality", "goodwill"),
    *("repeat_orders", "repeat_sales", "visitor_receipts", "margin_after_promotion", "differentiation"),
    *("heritage_practitioners", "heritage_sales"),
)


def mean(runs: Series, name: str, year: float) -> Floats:
    """Mean over the saved times of a calendar year, both ends included, as the facts are compared."""
    return runs.span(name, year, year + 1).mean(axis=1)


def pick(runs: Series, name: str, years: np.ndarray) -> Floats:
    """Values at whole years, one column for each."""
    return np.stack([runs.at(name, float(year)) for year in years], axis=1)


def c01_1(run: Runs) -> Truth:
    """Live market of 2019 within a fifth of 433.8bn RMB; users of Dec 2020 within a tenth of 388m and of 39.2 %."""
    base = run()
    users = base.at("channel_users[live]", 2021)
    market = np.abs(mean(base, "channel_gmv[live]", 2019) / 433.8e9 - 1) <= 0.2
    share = np.abs(users / base.at("netizens", 2021) / 0.392 - 1) <= 0.1
    return market & share & (np.abs(users / 388e6 - 1) <= 0.1)


def c01_2(run: Runs) -> Truth:
    """Yearly additions of live users are small in 2016-2018, and rise most steeply from 2018 to 2019."""
    added = np.diff(pick(run(), "channel_users[live]", np.arange(2016, 2023)), axis=1)  # 2016 ... 2021
    slow = added[:, :3].mean(axis=1) <= 0.5 * added[:, 3]
    rise = np.diff(added, axis=1)  # into 2017 ... 2021
    return slow & (rise.argmax(axis=1) == 2)


def c03_1(run: Runs) -> Truth:
    """A broadcast of spring 2020 can sell over 40m RMB in two hours, at 20m RMB per hour or more."""
    base = run()
    event, rate = base.at("flash_sales_per_event", 2020.25), base.at("flash_sales_rate", 2020.25)
    return (event > 40e6) & (rate >= 20e6)


def c03_2(run: Runs) -> Truth:
    """Monthly broadcasts sell less and less each, through fatigue; two years later only carry-over has left a gain."""
    plan = {"policy_relief_events": 12.0, "regional_programme_start": 2022.0, "regional_programme_end": 2024.0}
    repeated, tireless = run(plan), run(plan, switch_b51=0.0)
    falls = repeated.at("flash_sales_per_event", 2024) < 0.8 * repeated.at("flash_sales_per_event", 2022)
    fatigue = tireless.at("flash_sales_per_event", 2024) >= tireless.at("flash_sales_per_event", 2022)
    gain = repeated.end("region_online_sales") / run().end("region_online_sales") - 1
    bare = run(plan, relief_carry_over=0.0).end("region_online_sales")
    bare = bare / run(relief_carry_over=0.0).end("region_online_sales") - 1
    return falls & fatigue & (gain > 0) & (bare < 0.2 * gain)


def c06_1(run: Runs) -> Truth:
    """Over 700m video users at the end of 2020, a market within a fifth of 140.83bn; value per user rises into 2021."""
    base = run()
    market = np.abs(mean(base, "channel_gmv[video]", 2020) / 140.83e9 - 1) <= 0.2
    rises = mean(base, "value_per_video_user", 2021) > mean(base, "value_per_video_user", 2020)
    return market & rises & (base.at("channel_users[video]", 2021) > 700e6)


def c06_2(run: Runs) -> Truth:
    """Fans double yearly at first, driven by sharing; they end growing by less than a tenth, limited by attention."""
    base = run()
    fans, chance = (pick(runs, "fans", np.arange(2016, 2027)) for runs in (base, run(switch_r65=0.0)))
    growth = fans[:, 1:] / np.maximum(fans[:, :-1], 1.0)
    early = (growth[:, 0] > 2) & (growth[:, 1] > 2)
    shared = fans[:, 2] / np.maximum(fans[:, 0], 1.0) > chance[:, 2] / np.maximum(chance[:, 0], 1.0)
    limited = growth[:, -1] < 1.1
    return early & shared & limited & (run(times={"attention_budget": 2.0}).end("fans") > fans[:, -1])


def c06_3(run: Runs) -> Truth:
    """Unsupervised, more creators mean less trust and conversion; supervised, false claims fall from a peak."""
    free = {"video_supervision_gain": 0.0}
    few, many = run(free), run(free, times={"creator_entry_hazard[video]": 1.5})
    more = many.at("creators[video]", STANDING) > few.at("creators[video]", STANDING)
    trust = many.at("viewer_trust", STANDING) < few.at("viewer_trust", STANDING)
    conversion = many.at("video_conversion", STANDING) < few.at("video_conversion", STANDING)
    watched = run(video_supervision_gain=1.0)
    falls = watched.end("false_claim_share") < 0.9 * watched["false_claim_share"].max(axis=1)
    below = watched.end("false_claim_share") < 0.9 * few.end("false_claim_share")
    return more & trust & conversion & falls & below


def c06_4(run: Runs) -> Truth:
    """A team of fixed size has more fans for each RMB if it makes a video in twenty days than if it makes one a day."""
    few, many = run(switch_r66=0.0, making_time=20.0), run(switch_r66=0.0, making_time=1.0)
    return few.at("fans_per_cost", STANDING) > many.at("fans_per_cost", STANDING)


def c06_5(run: Runs) -> Truth:
    """With poor goods and fine scenery video raises visitors by a tenth or more over the same region without it."""
    poor = run.archetype("scenic_poor_goods")
    base, without = poor(), poor({"channel_start[video]": 2100.0})
    gains = base.at("visitors", 2020) > 1.1 * without.at("visitors", 2020)
    return gains & (base.at("visitors", 2020) > base.at("visitors", 2015))


def c07_1(run: Runs) -> Truth:
    """Live falls with clashes, group with the elderly and with urgency, video with false claims."""
    base = run()
    clash = {f"schedule_gap[{s}]": np.minimum(1.5 * run.values(f"schedule_gap[{s}]"), 1.0) for s in SEGMENTS}
    pairs = [
        ("demand_share[live]", run(clash)),
        ("demand_share[group]", run(times={"elderly_share_of_buyers": 1.5})),
        ("demand_share[group]", run(times={"urgent_share": 1.5})),
        ("demand_share[video]", run(times={"false_claim_gain": 1.5})),
    ]
    return np.logical_and.reduce([other.at(name, STANDING) < base.at(name, STANDING) for name, other in pairs])


def c07_2(run: Runs) -> Truth:
    """Most perishable daily goods go by group, most goods of visible quality live, most culture-rich goods by video."""
    base = run()
    sales = {g: np.stack([base.at(f"regional_sales[{g},{c}]", STANDING) for c in CHANNELS]) for g in GOODS}
    best = {g: by_channel.argmax(axis=0) for g, by_channel in sales.items()}
    return (best["perishable_daily"] == 1) & (best["visible_quality"] == 0) & (best["culture_rich"] == 2)


def alone(channel: str) -> dict[str, float]:
    """Constants that leave the region's sellers one channel."""
    return {f"channel_allowed[{other}]": float(other == channel) for other in CHANNELS}


def advantage(run: Runs, **changes: float | Floats) -> Floats:
    """Sales of the region with all modes over those with the best single mode, for each member."""
    singles = [run({**alone(c), **changes}).at("region_online_sales", STANDING) for c in CHANNELS]
    return run(changes).at("region_online_sales", STANDING) / np.max(singles, axis=0)


def c07_3(run: Runs) -> Truth:
    """The same effort sells more spread over the modes than in the best one, the more so where segments differ."""
    elderly, working = run.values("elderly_share_of_buyers"), run.values("working_share_of_others")
    share = elderly, (1 - elderly) * working, (1 - elderly) * (1 - working)
    same = {}
    for gap in ("app_gap", "schedule_gap"):
        average = sum(w * run.values(f"{gap}[{s}]") for w, s in zip(share, SEGMENTS, strict=True))
        same |= {f"{gap}[{s}]": average for s in SEGMENTS}
    mixed = advantage(run)
    return (mixed > 1) & (mixed > advantage(run, **same))


def n14_1(run: Runs) -> Truth:
    """Content of one year raises visitors most in the next; travel lost in one year lowers orders most in the next."""
    base = run()
    told = run(policy_story_content=1.0, regional_programme_start=2017.0, regional_programme_end=2018.0)
    lost = run(travel_loss=0.5, travel_loss_start=2017.0, travel_loss_length=1.0)
    visits = [mean(told, "visitors", y) - mean(base, "visitors", y) for y in (2017, 2018)]
    orders = [mean(base, "repeat_orders", y) - mean(lost, "repeat_orders", y) for y in (2017, 2018)]
    return (visits[1] > visits[0]) & (visits[0] > 0) & (orders[1] > orders[0]) & (orders[0] > 0)


def n14_2(run: Runs) -> Truth:
    """Free visits fall by over 5 % from a peak and scenery by a tenth; limited ones are fewer, last, and spare it."""
    limit = {"policy_visitor_limit": 2.0, "regional_programme_start": 2011.0, "regional_programme_end": 2027.0}
    free, limited = run(), run(limit)
    peak = free["visitors"].max(axis=1)
    overshoot = (free.end("visitors") < 0.95 * peak) & (free.end("scenic_quality") < 0.9)
    lower = limited["visitors"].max(axis=1) < peak
    lasts = limited.end("visitors") > 0.95 * limited["visitors"].max(axis=1)
    return overshoot & lower & lasts & (limited.end("scenic_quality") > free.end("scenic_quality"))


def n14_3(run: Runs) -> Truth:
    """With poor goods and fine scenery income grows by half or more, and visits bring most of the growth."""
    poor = run.archetype("scenic_poor_goods")()
    gain = poor.at("region_income", STANDING) - poor.at("region_income", 2012)
    goods = poor.at("region_merchant_profit", STANDING) - poor.at("region_merchant_profit", 2012)
    return (gain > 0.5 * poor.at("region_income", 2012)) & (goods < 0.5 * gain)


def g03_1(run: Runs) -> Truth:
    """Twice the rivals cost differentiated goods less than half of the margin that they cost undifferentiated ones."""
    region = run.archetype("yunnan_guizhou")
    more = {"initial_rivals": 2.0}
    kept = region().at("margin_after_promotion", STANDING) - region(times=more).at("margin_after_promotion", STANDING)
    alike, crowded = region(switch_r108=0.0), region(switch_r108=0.0, times=more)
    lost = alike.at("margin_after_promotion", STANDING) - crowded.at("margin_after_promotion", STANDING)
    return (lost > 0) & (kept < 0.5 * lost)


def g03_2(run: Runs) -> Truth:
    """Artisans, distinct image and income rise together, and heritage that answers income lifts all three."""
    region = run.archetype("yunnan_guizhou")
    base, without = region(), region(artisan_entry_hazard=0.0)
    names = ("heritage_practitioners", "differentiation", "region_income")
    rise = [base.at(n, STANDING) > 1.1 * base.at(n, 2012) for n in names]
    lift = [base.at(n, STANDING) > without.at(n, STANDING) for n in names]
    return np.logical_and.reduce([*rise, *lift])


MODES: dict[str, Mode] = {
    "RM-C01.1": c01_1,
    "RM-C01.2": c01_2,
    "RM-C03.1": c03_1,
    "RM-C03.2": c03_2,
    "RM-C06.1": c06_1,
    "RM-C06.2": c06_2,
    "RM-C06.3": c06_3,
    "RM-C06.4": c06_4,
    "RM-C06.5": c06_5,
    "RM-C07.1": c07_1,
    "RM-C07.2": c07_2,
    "RM-C07.3": c07_3,
    "RM-N14.1": n14_1,
    "RM-N14.2": n14_2,
    "RM-N14.3": n14_3,
    "RM-G03.1": g03_1,
    "RM-G03.2": g03_2,
}
