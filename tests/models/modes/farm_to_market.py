"""Reference modes of farm_to_market: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

import numpy as np
from runs import Floats, Mode, Runs, Series, Truth

SAVED = (
    "cumulative_harvest", "cumulative_sales", "cumulative_live_sales", "cumulative_spoilage", "cumulative_profit",
    "cumulative_receipts", "cumulative_late_deliveries", "cumulative_cold_use", "campaign_sales", "commodity_rate",
    "campaign_receipts", "cold_capacity[hub]", "cold_use[hub]", "planted_area", "crop_in_field", "market_price",
    "sales_distance", "farm_gate_share", "gate_price_alone[small]", "gate_price_alone[large]",
    "gate_price_member[small]", "gate_price_member[large]", "benefit_ratio[small]", "benefit_ratio[large]",
    "complaint_share", "refund_share", "quality_variance", "repeat_demand", "live_sales_seen", "ecological_quality",
    "ecological_pressure", "green_premium", "quality_incidents", "sales_seen", "traced_share", "traced_premium",
)  # fmt: skip
# a crop year begins in spring, when the last crop is gone and the next is not in
SPRING = 0.25
NO_CAMPAIGN = {"campaign_rate": 0.0}
NO_LIVE = {"campaign_rate": 0.0, "sessions_per_streamer": 0.0}
NO_STANDARDS = {"initial_standardised_share": 0.0, "standards_propensity": 0.0, "order_pull": 0.0}
SHOCK = {"weather_shock_size": 0.3, "weather_shock_time": 2025.0}
SERVICE = {"policy_information": 300000.0}


def crop_years(runs: Series, name: str, first: int, last: int) -> Floats:
    """What a cumulated flow gains from the spring of `first` to the spring after `last`."""
    return runs.at(f"cumulative_{name}", last + 1 + SPRING) - runs.at(f"cumulative_{name}", first + SPRING)


def rate(runs: Series, first: int, last: int) -> Floats:
    """Commodity rate over crop years: goods sold over goods harvested."""
    return crop_years(runs, "sales", first, last) / crop_years(runs, "harvest", first, last)


def loss(runs: Series, first: int = 2030, last: int = 2033) -> Floats:
    """Share of the harvest that spoils in stock or on the way."""
    return crop_years(runs, "spoilage", first, last) / crop_years(runs, "harvest", first, last)


def profit(runs: Series, first: int = 2030, last: int = 2033) -> Floats:
    """Farm profit of crop years, before what the public pays for programmes."""
    return crop_years(runs, "profit", first, last)


def rising(levels: list[Floats]) -> Truth:
    """Whether each level is above the one before."""
    return (np.diff(np.stack(levels), axis=0) > 0).all(axis=0)


def courses(run: Runs) -> dict[str, Floats]:
    """Courses in live selling for thirty villagers a year."""
    return {"policy_selling_courses": 30 * run.values("course_cost")}


def c02_1(run: Runs) -> Truth:
    """Two fifths sold before live selling; the campaign sells over 200 t for over 400,000 RMB, about 2 RMB/kg."""
    base = run()
    tonnes, paid = base.end("campaign_sales"), base.end("campaign_receipts")
    price = paid / np.maximum(tonnes, 1e-9)
    early = np.abs(base.span("commodity_rate", 2019 + SPRING, 2020 + SPRING).mean(axis=1) - 0.4) <= 0.05
    return early & (tonnes > 200) & (paid > 4e5) & (price > 1500) & (price < 2500)


def c02_2(run: Runs) -> Truth:
    """The campaign alone lifts the commodity rate for a season; with trained streamers half of the rise stays."""
    none, alone, trained = run(NO_CAMPAIGN), run(), run(courses(run))
    lift = rate(alone, 2020, 2020) - rate(none, 2020, 2020)
    left = rate(alone, 2022, 2024) - rate(none, 2022, 2024)
    kept = rate(trained, 2024, 2026) - rate(none, 2024, 2026)
    return (lift > 0.05) & (left < lift / 4) & (kept > lift / 2)


def c02_4(run: Runs) -> Truth:
    """Live demand brings late deliveries and no income without roads, and without a signal; with both it pays."""

    def effect(changes: dict[str, float]) -> tuple[Floats, Floats]:
        live, without = run({**courses(run), **changes}), run({**NO_LIVE, **changes})
        tardy = crop_years(live, "late_deliveries", 2020, 2025) / crop_years(live, "live_sales", 2020, 2025)
        return tardy, crop_years(live, "receipts", 2020, 2025) / crop_years(without, "receipts", 2020, 2025)

    tardy, income = effect({})
    holds, usual = income > 1.05, tardy
    for lack in ({"road_opening": 0.0}, {"signal_quality": 0.05}):
        tardy, income = effect(lack)
        holds &= (tardy > usual + 0.1) & (income < 1.05)
    return holds


def late(runs: Series, name: str) -> Floats:
    """Mean of a variable over the last four crop years."""
    return runs.span(name, 2030 + SPRING, 2034).mean(axis=1)


def n02_1(run: Runs) -> Truth:
    """With one intermediary instead of three farms keep a larger share of the price."""
    return late(run(policy_short_chain=2 / 3), "farm_gate_share") > late(run(), "farm_gate_share")


def n02_2(run: Runs) -> Truth:
    """Without standards a larger volume on line raises complaints and refunds, and fewer buyers come back."""
    double = {"session_size": 2.0}
    small, large = run(NO_STANDARDS), run(NO_STANDARDS, times=double)
    standard = run({"policy_standards": 200000.0}, times=double)
    worse = [late(large, name) > 1.02 * late(small, name) for name in ("complaint_share", "refund_share")]
    loyal = [late(r, "repeat_demand") / late(r, "live_sales_seen") for r in (small, large, standard)]
    stalls = (loyal[1] < loyal[0]) & (loyal[1] < loyal[2]) & (late(large, "sales_seen") < late(standard, "sales_seen"))
    return worse[0] & worse[1] & stalls


def pooling_gain(runs: Series, size: str) -> Floats:
    """What membership adds to the net price of a farm."""
    return late(runs, f"gate_price_member[{size}]") - late(runs, f"gate_price_alone[{size}]")


def n02_3(run: Runs) -> Truth:
    """Pooling without market functions raises the net price, and more so on small farms."""
    pooled = run(initial_coop_functions=0.0, function_propensity=0.0)
    small, large = pooling_gain(pooled, "small"), pooling_gain(pooled, "large")
    return (small > 0) & (small > large)


COLD = (0.0, 0.2, 0.4, 0.6)


def crop(run: Runs) -> Floats:
    """Normal crop of a region in tonnes."""
    return run.values("initial_planted_area") * run.values("normal_yield")


def store(run: Runs, share: float, place: str = "hub", **changes: float) -> Series:
    """A region with room for a share of its crop in cold stores at one place, which do not wear out or grow."""
    room = {"initial_cold_capacity[hub]": 0.0, "initial_cold_capacity[village]": 0.0, "cold_investment_share": 0.0}
    return run({**room, "cold_life": 1e6, f"initial_cold_capacity[{place}]": share * crop(run), **changes})


def n04_1(run: Runs) -> Truth:
    """With equal steps of cold capacity loss falls and the sales radius grows, the last step by less than the first."""
    runs = [store(run.archetype("nw_sichuan"), share) for share in COLD]
    saved = -np.diff(np.stack([loss(r) for r in runs]), axis=0)
    farther = np.diff(np.stack([r.end("sales_distance") for r in runs]), axis=0)
    grows = (saved > 0).all(axis=0) & (farther > 0).all(axis=0)
    return grows & (saved[-1] < saved[0]) & (farther[-1] < farther[0])


def n04_2(run: Runs) -> Truth:
    """On irregular routes a store at the hub prevents more loss than room in villages, more so than on regular ones."""
    region = run.archetype("nw_sichuan")

    def advantage(regularity: float) -> Floats:
        routes = {"route_regularity": regularity}
        return loss(store(region, 0.2, "village", **routes)) - loss(store(region, 0.2, "hub", **routes))

    return (advantage(0.3) > 0) & (advantage(1.0) < advantage(0.3))


def n04_3(run: Runs) -> Truth:
    """Whatever room is added in the region, loss stays between that of the Netherlands and that of the base."""
    region = run.archetype("nw_sichuan")
    base, least = loss(region()), loss(run.archetype("netherlands")())
    return np.logical_and.reduce([(least < loss(r)) & (loss(r) < base) for r in (store(region, s) for s in COLD[1:])])


def n04_4(run: Runs) -> Truth:
    """Over the year less than a third of the room is used, half of it in one quarter; and less with a smaller crop."""
    region = run.archetype("nw_sichuan")
    runs = [store(region, share) for share in (0.4, 1.6)]
    use = [crop_years(r, "cold_use", 2030, 2033) / (4 * r.end("cold_capacity[hub]")) for r in runs]
    quarters = np.diff(runs[0].span("cumulative_cold_use", 2030, 2034), axis=1).reshape(len(run), 4, 4).sum(axis=1)
    seasonal = quarters.max(axis=1) > 0.5 * quarters.sum(axis=1)
    return (use[0] < 1 / 3) & seasonal & (use[1] < use[0])


def n09_2(run: Runs) -> Truth:
    """Promotion without standards lifts sales on line in two years; most of the rise of complaints comes later."""
    without = {**NO_STANDARDS, **courses(run)}
    base, promoted = run(without), run({**without, "policy_brand": 200000.0})
    sales = crop_years(promoted, "live_sales", 2023, 2024) / crop_years(base, "live_sales", 2023, 2024)
    soon, later = (
        promoted.at("complaint_share", t) / base.at("complaint_share", t) - 1 for t in (2024 + SPRING, 2033 + SPRING)
    )
    return (sales > 1.02) & (later > 0.002) & (soon < later / 2)


def n09_3(run: Runs) -> Truth:
    """A programme of standards lowers the unevenness of goods and raises repeat orders."""
    base, standard = run(courses(run)), run({**courses(run), "policy_standards": 200000.0})
    even = late(standard, "quality_variance") < late(base, "quality_variance")
    return even & (late(standard, "repeat_demand") > late(base, "repeat_demand"))


def swing(run: Runs, changes: dict[str, float], name: str, first: int) -> Floats:
    """Mean change of the yearly growth of a variable over the years after a bad harvest: up and down, without trend."""
    autumn = run({**changes, **SHOCK}).span(name, first + 0.75, 2034.75)[:, ::4]
    return np.abs(np.diff(np.log(autumn), n=2, axis=1)).mean(axis=1)


def amplitude(run: Runs, changes: dict[str, float]) -> tuple[Floats, Floats]:
    """Swings of area from the bad year on and of the price from the next harvest on."""
    return swing(run, changes, "planted_area", 2025), swing(run, changes, "market_price", 2026)


def n11_1(run: Runs) -> Truth:
    """With an information service the swings of area and price after a bad harvest are at most half as large."""
    slow, fast = amplitude(run, {}), amplitude(run, SERVICE)
    return (slow[0] > 0.005) & (fast[0] <= slow[0] / 2) & (fast[1] <= slow[1] / 2)


def n11_3(run: Runs) -> Truth:
    """With the service a smaller share of the crop spoils at the same cold capacity, with and without a bad harvest."""
    still = {"cold_investment_share": 0.0}
    return np.logical_and.reduce(
        [loss(run({**still, **SERVICE, **shock}), 2026, 2033) < loss(run({**still, **shock}), 2026, 2033)
         for shock in ({}, SHOCK)]
    )  # fmt: skip


VOLUME = {"policy_expansion": 0.6}
VALUE = {"policy_brand": 30000.0, "policy_standards": 20000.0}


def n15_1(run: Runs) -> Truth:
    """Volume overshoots and loses the green premium; a name and standards raise income at the pressure of the base."""
    base, volume, value = run(), run(VOLUME), run(VALUE)
    crop = volume.span("crop_in_field", 2022, 2035)
    overshoot = crop.max(axis=1) > 1.05 * crop[:, -1]
    premium = volume.end("green_premium") < 0.9 * base.end("green_premium")
    pressure = [r.span("ecological_pressure", 2025, 2035).mean(axis=1) for r in (base, volume, value)]
    higher = (pressure[2] < 1.05 * pressure[0]) & (profit(value) > 1.02 * profit(base))
    return overshoot & premium & higher & (profit(value) / pressure[2] > profit(volume) / pressure[1])


def n15_2(run: Runs) -> Truth:
    """Under expansion a quota that spares nature first raises income and, when it is too tight, lowers it."""
    runs = [run({"policy_expansion": 1.5, "policy_quota": quota}) for quota in (0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 20.0)]
    income = np.stack([profit(r) for r in runs])
    nature = np.stack([r.end("ecological_quality") for r in runs])
    best = income.argmax(axis=0)
    return (np.diff(nature, axis=0) <= 1e-9).all(axis=0) & (best > 0) & (best < len(runs) - 1)


def n16_1(run: Runs) -> Truth:
    """The more is traced, the fewer incidents per tonne; the premium for it rises and flattens."""
    runs = [run(policy_tracing=spent) for spent in (0.0, 5e4, 1.5e5, 5e5)]
    traced, premium = ([r.at(name, 2034) for r in runs] for name in ("traced_share", "traced_premium"))
    fewer = rising([-r.at("quality_incidents", 2034) / r.at("sales_seen", 2034) for r in runs])
    slope = np.diff(np.stack(premium), axis=0) / np.diff(np.stack(traced), axis=0)
    return rising(traced) & rising(premium) & fewer & (np.diff(slope, axis=0) < 0).all(axis=0)


def n16_2(run: Runs) -> Truth:
    """A campaign of enforcement without tracing lowers incidents only while it lasts; tracing keeps them low."""
    alone = {"switch_b91": 0.0, "switch_r102": 0.0}
    base, enforced = run(alone), run({**alone, "policy_enforcement": 1.0})
    traced = run({**alone, "policy_tracing": 1.5e5})

    def relative(runs: Series, time: float) -> Floats:
        hazards = [r.at("quality_incidents", time) / r.at("sales_seen", time) for r in (runs, base)]
        return hazards[0] / hazards[1]

    lasting = relative(traced, 2028) < 0.9
    return (relative(enforced, 2023.75) < 0.8) & (relative(enforced, 2027) > 0.95) & lasting


def g04_1(run: Runs) -> Truth:
    """With the benchmark's parameters loss is at most a quarter of the region's and the sales radius larger."""
    region, benchmark = run.archetype("nw_sichuan")(), run.archetype("netherlands")()
    return (loss(benchmark) < loss(region) / 4) & (benchmark.end("sales_distance") > region.end("sales_distance"))


EQUIPMENT = (
    "cooling_gain", "dwell_time", "travel_speed", "route_regularity", "hub_access", "cold_life", "cold_unit_cost",
    "initial_cold_capacity[hub]", "initial_cold_capacity[village]",
)  # fmt: skip


def yield_of_equipment(run: Runs, region: str) -> Floats:
    """Profit that the benchmark's cold chain adds in a region, less the renewal of its stores."""
    benchmark = run.archetype("netherlands")
    kit = {name: float(benchmark.values(name)[0]) for name in EQUIPMENT}
    room = kit["initial_cold_capacity[hub]"] + kit["initial_cold_capacity[village]"]
    own = {"cold_investment_share": 0.0}
    bare = {**own, "initial_cold_capacity[hub]": 0.0, "initial_cold_capacity[village]": 0.0}
    equipped = run.archetype(region)({**own, **kit, "cold_life": 1e6})
    added = profit(equipped, 2016, 2019) - profit(run.archetype(region)(bare), 2016, 2019)
    return added / 4 - room * kit["cold_unit_cost"] / kit["cold_life"]


def g04_2(run: Runs) -> Truth:
    """The benchmark's cold chain pays at its own volume and loses money at the region's."""
    return (yield_of_equipment(run, "nw_sichuan") < 0) & (yield_of_equipment(run, "netherlands") > 0)


def member_price(runs: Series) -> Floats:
    """Net price of members, mean of small and large farms."""
    return (late(runs, "gate_price_member[small]") + late(runs, "gate_price_member[large]")) / 2


def g05_1(run: Runs) -> Truth:
    """Brand and sales functions raise members' net price beyond what pooling alone gives."""
    without = {"initial_coop_functions": 0.0, "function_propensity": 0.0}
    pooled, complete = run(without), run({**without, "policy_coop_functions": 200000.0})
    gain = pooling_gain(pooled, "small") + pooling_gain(pooled, "large")
    return (member_price(complete) > member_price(pooled)) & (gain > 0)


def g05_2(run: Runs) -> Truth:
    """Under the benchmark's cooperatives membership adds more to the net price of small farms."""
    runs = run.archetype("united_states")()
    small, large = (late(runs, f"benefit_ratio[{size}]") for size in ("small", "large"))
    return (small > 0) & (small > large)


def g06_1(run: Runs) -> Truth:
    """With the benchmark's information the swings of area and price shrink to a fifth, at the same storage."""
    base, benchmark = amplitude(run, {}), amplitude(run.archetype("germany_japan"), {})
    still = run().at("cold_capacity[hub]", 2015) == run.archetype("germany_japan")().at("cold_capacity[hub]", 2015)
    return still & (base[0] > 0.005) & (benchmark[0] < base[0] / 5) & (benchmark[1] < base[1] / 5)


def g06_2(run: Runs) -> Truth:
    """What the service adds to profit after a bad harvest is larger where area answers the price strongly."""

    def gain(elasticity: float) -> Floats:
        here = {**SHOCK, "supply_elasticity": elasticity}
        served, alone = (crop_years(run({**here, **more}), "profit", 2025, 2033) for more in (SERVICE, {}))
        return served - alone

    return gain(0.8) > gain(0.2)


MODES: dict[str, Mode] = {
    "RM-C02.1": c02_1,
    "RM-C02.2": c02_2,
    "RM-C02.4": c02_4,
    "RM-N02.1": n02_1,
    "RM-N02.2": n02_2,
    "RM-N02.3": n02_3,
    "RM-N04.1": n04_1,
    "RM-N04.2": n04_2,
    "RM-N04.3": n04_3,
    "RM-N04.4": n04_4,
    "RM-N09.2": n09_2,
    "RM-N09.3": n09_3,
    "RM-N11.1": n11_1,
    "RM-N11.3": n11_3,
    "RM-N15.1": n15_1,
    "RM-N15.2": n15_2,
    "RM-N16.1": n16_1,
    "RM-N16.2": n16_2,
    "RM-G04.1": g04_1,
    "RM-G04.2": g04_2,
    "RM-G05.1": g05_1,
    "RM-G05.2": g05_2,
    "RM-G06.1": g06_1,
    "RM-G06.2": g06_2,
}
