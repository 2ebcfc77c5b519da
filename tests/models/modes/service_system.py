"""Reference modes of service_system: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

from functools import cache

import numpy as np
from runs import Mode, Runs, Series, Truth

from villageflow import library

SUBSYSTEMS = ("infrastructure", "logistics", "talent", "platform", "finance", "brand", "regulation", "information")
MODELS = ("government_led", "enterprise_driven", "cooperative", "multi_stakeholder")
LEVERS = ("cold_hub", "local_talent", "brand_standards", "culture_tourism", "coordination", "operation_share",
          "local_operator")
NO_CREDIT = {"lending_rate": 0.0, "initial_loans": 0.0}
NO_POSTS = {"base_posts": 0.0, "posts_per_sales": 0.0, "operator_posts": 0.0}
# money for one subsystem beside the budget, RMB/Year
EXTRA = 1e6
# the operator's subsidy ends in 2019.5
AFTER_SUBSIDY = 2023.5
LONG_RUN = 2035


@cache
def scenario(name: str) -> dict[str, float]:
    """Constants that a scenario changes."""
    table = library.scenarios("service_system")
    rows = table[table["scenario"] == name].to_dict("records")
    return {r["name"] + (f"[{r['element']}]" if isinstance(r["element"], str) else ""): float(r["value"]) for r in rows}


def gains(run: Runs, name: str, time: float, **changes: float):
    """What extra money in each subsystem adds to a variable, (subsystem, member)."""
    base = run(changes).at(name, time)
    return np.stack([run({**changes, f"extra_money[{s}]": EXTRA}).at(name, time) - base for s in SUBSYSTEMS])


def n01_1(run: Runs) -> Truth:
    """With little substitution money for logistics adds most, any other at most a quarter of it."""
    gain = gains(run, "demand_limit", 2018, subsystem_substitution_power=10.0)
    logistics = gain[SUBSYSTEMS.index("logistics")]
    others = np.delete(gain, SUBSYSTEMS.index("logistics"), axis=0)
    return (logistics > 0) & (others.max(axis=0) <= 0.25 * logistics)


def n01_2(run: Runs) -> Truth:
    """An even split beats half of the money in infrastructure; integration raises what money in any subsystem adds,
    where that is more than a hundredth of what money in the best one adds."""
    even = {f"budget_weight[{s}]": 1.0 for s in SUBSYSTEMS}
    skewed = {**even, "budget_weight[infrastructure]": 7.0}
    better = run(even).at("online_sales", 2030) > run(skewed).at("online_sales", 2030)
    low, high = (gains(run, "service_offer", 2022, integration_effort=i) for i in (0.0, 0.3))
    low_sum, high_sum = (gains(run, "demand_limit", 2022, integration_effort=i).sum(axis=0) for i in (0.0, 0.3))
    material = low >= 0.01 * low.max(axis=0)
    return better & ((high > low) | ~material).all(axis=0) & (high_sum > low_sum)


def n05_1(run: Runs) -> Truth:
    """What the campaign of a project adds has halved after two and a half years; continuous courses
    whose running is paid hold a level."""
    nothing = {"campaign_courses": 0.0, "continuous_courses": 0.0, "follow_up_gain": 0.0}
    none, once = run(nothing), run({**nothing, "campaign_courses": 800.0})
    pulse = [once.at("basic_skilled", t) - none.at("basic_skilled", t) for t in (2019.5, 2022)]
    steady = run(campaign_courses=0.0, continuous_courses=10000.0, operation_rule=1.0, operation_rule_start=2014.0)
    level = [steady.at("basic_skilled", t) for t in (2019.5, 2022, 2030)]
    return (pulse[1] <= 0.5 * pulse[0]) & (np.minimum(level[1], level[2]) >= 0.8 * level[0])


def n05_2(run: Runs) -> Truth:
    """Outflow at twice the training rate leaves most professionals away at any budget; at a quarter they gather."""
    base = run()
    rate = base.span("upgrading_programme", 2020, 2035).mean(axis=1) / run.values("upgrading_time")
    pull = base.span("outside_pull", 2020, 2035).mean(axis=1)
    more = {"campaign_courses": 4.0, "continuous_courses": 4.0}
    fast, slow = {"outflow_hazard": 2 * rate / pull}, {"outflow_hazard": rate / pull / 4}

    def share(result: Series):
        """Share of professionals trained since the start who are in the county in 2035."""
        here, away = result.at("professionals", LONG_RUN), result.at("skilled_away", LONG_RUN)
        return here / (here + away)

    low = (share(run(fast)) < 0.5) & (share(run(fast, times=more)) < 0.5)
    kept = run(slow)
    return low & (share(kept) > 0.5) & (kept.at("professionals", LONG_RUN) > 1.3 * kept.at("professionals", 2020))


def n05_3(run: Runs) -> Truth:
    """Three times the courses raise the outflow where there is no post; with posts they raise the stock more."""
    more = {"campaign_courses": 3.0, "continuous_courses": 3.0}
    posts = dict.fromkeys(NO_POSTS, 3.0)
    bare, leak = run(NO_POSTS), run(NO_POSTS, times=more)
    few, full = run(times=posts), run(times={**posts, **more})
    out = leak.span("professional_outflow", 2020, 2030).mean(axis=1)
    raised = full.at("professionals", 2030) - few.at("professionals", 2030)
    return (
        (out > 1.1 * bare.span("professional_outflow", 2020, 2030).mean(axis=1))
        & (raised > 0.1 * few.at("professionals", 2030))
        & (raised > leak.at("professionals", 2030) - bare.at("professionals", 2030))
    )


def first_half(run: Series, name: str):
    """Time at which a variable first has half of its highest value."""
    reached = run[name] >= 0.5 * run[name].max(axis=1, keepdims=True)
    return run.time[reached.argmax(axis=1)]


def n05_4(run: Runs) -> Truth:
    """Women and returnees reach half of their number in flexible work before they do in fixed work."""
    base = run()
    return first_half(base, "local_workers[flexible]") < first_half(base, "local_workers[fixed]")


def n06_1(run: Runs) -> Truth:
    """Inequality rises by a quarter or more and then falls; inclusive training lowers the peak."""
    base = run()
    value = base["income_inequality"]
    high = np.maximum.accumulate(value, axis=1)
    turned = ((high >= 1.25 * value[:, :1]) & (value <= 0.95 * high)).any(axis=1)
    few, many = (run(inclusive_programme=p)["income_inequality"].max(axis=1) for p in (0.0, 0.8))
    return turned & (many < few)


def n06_2(run: Runs) -> Truth:
    """Without training adoption stalls below 85 %; less literacy or a worse signal lowers the level."""
    without = {"inclusive_programme": 0.0}
    base = run(without)
    end = base.at("connected_share", LONG_RUN)
    stalls = (end - base.at("connected_share", 2032) < 0.02) & (end < 0.85)
    less = {"literacy[low_schooling]": 0.9, "literacy[schooled]": 0.9}
    schooling, signal = (
        run(without, times=times).at("connected_share", LONG_RUN) for times in (less, {"village_signal": 0.9})
    )
    return stalls & (schooling < 0.99 * end) & (signal < 0.99 * end)


def n06_3(run: Runs) -> Truth:
    """With every township covered a tenth of adults or more stay out, and schooling still divides."""
    covered = run(inclusive_programme=0.0, township_coverage=1.0)
    return (covered.at("connected_share", LONG_RUN) < 0.9) & (covered.at("schooling_gap_in_use", LONG_RUN) > 0.1)


def n07_1(run: Runs) -> Truth:
    """Stations reach nine villages in ten, and service per station falls below its start."""
    base = run()
    falls = base.at("use_per_station", LONG_RUN) < base.at("use_per_station", 2014)
    return falls & (base["coverage"].max(axis=1) >= 0.9)


def n07_2(run: Runs) -> Truth:
    """Two fifths of spending moved from building to running: less coverage in 2020, more use in 2035."""
    base, moved = run(), run({"operation_share": run.values("operation_share") + 0.4})
    slower = moved.at("coverage", 2020) < base.at("coverage", 2020)
    return slower & (moved.at("station_use", LONG_RUN) > 1.05 * base.at("station_use", LONG_RUN))


def fall(run: Runs, **changes: float):
    """Share of sales lost four years after the subsidy ends, against a subsidy that goes on."""
    ended, kept = run(changes), run({**changes, "subsidy_length": 30.0})
    return 1 - ended.at("online_sales", AFTER_SUBSIDY) / kept.at("online_sales", AFTER_SUBSIDY)


def n08_1(run: Runs) -> Truth:
    """The end of the subsidy costs the government-led set most; trust keeps the multi-stakeholder operator alive."""
    lost = {model: fall(run.archetype(model)) for model in MODELS}
    most = lost["government_led"] > np.maximum.reduce([lost[m] for m in MODELS[1:]])
    many = run.archetype("multi_stakeholder")

    def kept(trust: float):
        """Share of the operator's capability left without the subsidy, with trust easier or harder to win."""
        half = {"trust_half_point": many.values("trust_half_point") / trust}
        ended, paid = many(half), many({**half, "subsidy_length": 30.0})
        return ended.at("operator_capability", AFTER_SUBSIDY) / paid.at("operator_capability", AFTER_SUBSIDY)

    return most & (lost["government_led"] > 0.02) & (kept(4.0) > kept(0.25))


def n08_2(run: Runs) -> Truth:
    """Farmers' share: cooperative at least multi-stakeholder, that more than enterprise, that at least government."""
    led, firm, coop, many = (run.archetype(m)().at("farm_gate_price_share", 2020) for m in MODELS)
    return (coop >= many) & (many > firm) & (firm >= led)


def n08_3(run: Runs) -> Truth:
    """Government-led sales grow fastest during the project; in the long run multi-stakeholder sales are highest where
    integration is high and not where it is low."""
    runs = [run.archetype(m) for m in MODELS]
    speed = np.stack([r().at("online_sales", 2019) / r().at("online_sales", 2016) for r in runs])
    high, low = (
        np.stack([r(c).at("online_sales", LONG_RUN) for r in runs])
        for c in ({"integration_effort": 0.8}, {"base_integration": 0.2})
    )
    return (speed.argmax(axis=0) == 0) & (high.argmax(axis=0) == 3) & (low.argmax(axis=0) != 3)


def n10_1(run: Runs) -> Truth:
    """Credit lifts sales by a twentieth where own capital is scarce and by less than a hundredth where it abounds."""
    scarce = {"initial_capital_cover": 0.3, "retention": 0.1}
    ample = {"initial_capital_cover": 100.0, "capital_life": 100.0}
    lift = [
        run(c).at("online_sales", 2024) / run({**c, **NO_CREDIT}).at("online_sales", 2024) - 1 for c in (scarce, ample)
    ]
    return (lift[0] > 0.05) & (np.abs(lift[1]) < 0.01)


def n10_3(run: Runs) -> Truth:
    """With credit agents become brand owners at a rate that is higher by a fiftieth or more."""
    with_credit, without = (
        r.span("graduation_rate", 2016, 2035).mean(axis=1) for r in (run(), run(NO_CREDIT))
    )
    return with_credit > 1.02 * without


def n12_1(run: Runs) -> Truth:
    """Effective spending is budget times coherence; three more agencies lower it, less so under a lead body."""
    base = run()
    exact = np.isclose(
        base["effective_spending"], base["subsystem_spending"] * base["coherence"], rtol=1e-9
    ).all(axis=1)
    more = {"agencies_named": 8.0}

    def kept(lead: float):
        few, many = (run(base_lead_body=lead, **c).span("effective_spending", 2016, 2030) for c in ({}, more))
        return many.mean(axis=1) / few.mean(axis=1)

    return exact & (kept(0.0) < 0.98) & (kept(1.0) > kept(0.0))


def n12_2(run: Runs) -> Truth:
    """A window three times as long gives more sales in 2035 for the same public money."""
    alone = {"switch_r71": 0.0}
    short, wide = run(alone), run(alone, times={"evaluation_window": 3.0})
    same = np.isclose(wide["service_income"].mean(axis=1), short["service_income"].mean(axis=1), rtol=1e-6)
    return same & (wide.at("merchant_performance", LONG_RUN) > 1.02 * short.at("merchant_performance", LONG_RUN))


def n13_1(run: Runs) -> Truth:
    """Stores of one kind stay dormant, of the other active; started as the former the latter stay dormant too."""
    base = run()
    like_others = run({
        f"{name}[multi_channel]": run.values(f"{name}[dependent]")
        for name in ("initial_store_activity", "initial_operating_capability", "initial_third_party_share")
    })

    def dormant(result: Series, kind: str) -> Truth:
        activity, skill = (result.at(f"{n}[{kind}]", LONG_RUN) for n in ("store_activity", "operating_capability"))
        return (activity < 0.35) & (skill < 0.35)

    active = (base.at("store_activity[multi_channel]", LONG_RUN) > 0.65) & (
        base.at("operating_capability[multi_channel]", LONG_RUN) > 0.65
    )
    return dormant(base, "dependent") & active & dormant(like_others, "multi_channel")


def n13_2(run: Runs) -> Truth:
    """Fees half as high again take a share of income that is larger by a point or more from dependent stores."""
    base, dear = run(), run(fee_rise=0.5)
    kept = [
        dear.span(f"store_income_ratio[{k}]", 2015, 2024).mean(axis=1)
        / base.span(f"store_income_ratio[{k}]", 2015, 2024).mean(axis=1)
        for k in ("dependent", "multi_channel")
    ]
    return (kept[0] < kept[1] - 0.01) & (kept[0] < 1)


def result(run: Runs, name: str):
    """Mean yearly sales from the start of the pathway to the end of the run."""
    return run(scenario(name)).span("merchant_performance", 2026, 2035).mean(axis=1)


def n17_1(run: Runs) -> Truth:
    """At equal budget the portfolio gives more sales than each lever alone and than the copy of the plains."""
    rivals = np.stack([result(run, name) for name in (*LEVERS, "scale_first")])
    return result(run, "portfolio") > rivals.max(axis=0)


def n17_3(run: Runs) -> Truth:
    """Of the gain in service quality at the end of the last lever half is there in 2040 with operation
    share and local operator, and not without."""
    base = run(scenario("baseline"))

    def kept(name: str):
        with_it = run(scenario(name))
        first, last = (with_it.at("service_quality", t) / base.at("service_quality", t) - 1
                       for t in (2032.5, 2040))
        return np.where(first > 0, last / np.where(first > 0, first, 1.0), 0.0)

    return (kept("portfolio") >= 0.5) & (kept("portfolio_without_upkeep") < 0.5)


MODES: dict[str, Mode] = {
    "RM-N01.1": n01_1, "RM-N01.2": n01_2,
    "RM-N05.1": n05_1, "RM-N05.2": n05_2, "RM-N05.3": n05_3, "RM-N05.4": n05_4,
    "RM-N06.1": n06_1, "RM-N06.2": n06_2, "RM-N06.3": n06_3,
    "RM-N07.1": n07_1, "RM-N07.2": n07_2,
    "RM-N08.1": n08_1, "RM-N08.2": n08_2, "RM-N08.3": n08_3,
    "RM-N10.1": n10_1, "RM-N10.3": n10_3,
    "RM-N12.1": n12_1, "RM-N12.2": n12_2,
    "RM-N13.1": n13_1, "RM-N13.2": n13_2,
    "RM-N17.1": n17_1, "RM-N17.3": n17_3,
}  # fmt: skip
SAVED = (
    "online_sales", "demand_limit", "merchant_performance", "service_quality", "service_offer", "basic_skilled",
    "upgrading_programme", "outside_pull", "professionals", "skilled_away", "professional_outflow",
    "local_workers[flexible]", "local_workers[fixed]", "income_inequality", "connected_share",
    "schooling_gap_in_use", "coverage", "use_per_station", "station_use", "farm_gate_price_share",
    "graduation_rate", "effective_spending", "subsystem_spending", "coherence", "service_income",
    "operator_capability", "store_activity[dependent]", "store_activity[multi_channel]",
    "operating_capability[dependent]", "operating_capability[multi_channel]", "store_income_ratio[dependent]",
    "store_income_ratio[multi_channel]",
)  # fmt: skip
