"""Reference modes of county_takeoff: whether each member of a set of runs shows what a statement says.

The county of the base run took off with a programme of its own, 2007 to 2010. Counterfactuals start from free access
alone and add levers; every lever costs the same per year.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from runs import Floats, Mode, Runs, Series, Truth

# RMB per year of one lever
YEARLY = 6e6
# levers of the three recommendations
UPSKILLING, STRUCTURE, INCLUSION = "upskilling", "structure", "inclusion"
THREE = (UPSKILLING, STRUCTURE, INCLUSION)
ACCESS_ALONE = {"own_programme": 0.0}
START, END = 2007.0, 2010.0
# a level counts as low or high by the confidence that the merchants in sight give
LOW, HIGH = 0.1, 0.5
SAVED = (
    "online_merchants", "uptake", "confidence_seen", "low_income_residents", "bottleneck_shift", "competition",
    "community_trust", "residents", "farmer_share_of_residents", "young_away_share", "online_villages", "county_sales",
    "openings[independent]", "openings[enlisted]",
)  # fmt: skip


def budgets(yearly: float, *levers: str) -> dict[str, float]:
    """Free access, and the same yearly budget for each of some levers."""
    return {**ACCESS_ALONE, **{f"policy_budget[{lever}]": yearly for lever in levers}}


def ventures(run: Runs, share_of_half_point: float) -> dict[str, Floats]:
    """Initial merchants as a share of those at which confidence is one half."""
    people = ("initial_children", "initial_workers_farm", "initial_workers_ecom", "initial_elderly")
    residents = np.sum([run.values(name) for name in people], axis=0)
    return {"initial_stores[independent]": share_of_half_point * run.values("critical_mass_half_point") * residents}


def mean_merchants(series: Series) -> Floats:
    """Mean number of merchants after the programme, 2010 to 2030."""
    return series.span("online_merchants", 2010, 2030).mean(axis=1)


def k01_1(run: Runs) -> Truth:
    """Access alone and a small pulse fade; a large pulse lifts the county into a state that outlives the money."""
    levers = (*THREE, "contract")
    free, small, large = run(ACCESS_ALONE), run(budgets(0.5e6, *levers)), run(budgets(64e6, *levers))
    few = run({**ACCESS_ALONE, **ventures(run, 0.25)})
    decays = few.at("online_merchants", 2013) < few["online_merchants"][:, 0]
    low = np.maximum(free.end("confidence_seen"), small.end("confidence_seen")) < LOW
    lasts = large.end("online_merchants") >= large.at("online_merchants", END)
    return decays & low & lasts & (large.end("confidence_seen") >= HIGH)


def k01_2(run: Runs) -> Truth:
    """Suichang starts from its base and has more than ten online villages by 2020."""
    county = run.archetype("suichang")()
    start = (np.abs(county["residents"][:, 0] / 50000 - 1) < 0.01) & (county["farmer_share_of_residents"][:, 0] > 0.7)
    start &= county["low_income_residents"][:, 0] > 18000
    return start & (county.at("online_villages", 2020) > 10) & (county.at("county_sales", 2020) > 1.1e8)


def best_lag(cause: Floats, effect: Floats) -> Floats:
    """Lag in years, up to six, at which yearly changes of the effect follow those of the cause best."""
    before, after = (part[:, 4:] - part[:, :-4] for part in (cause, effect))
    n, lags = before.shape[1], np.arange(25)

    def fit(member: int, lag: int) -> float:
        return float(np.corrcoef(before[member, : n - lag], after[member, lag:])[0, 1])

    return np.array([0.25 * lags[int(np.argmax([fit(i, lag) for lag in lags]))] for i in range(len(before))])


def k01_3(run: Runs) -> Truth:
    """By 2020 the programme has cut the low-income count by a hundredth or more, and the cut lags adoption.

    The count falls anyway as wages rise, so the cut is relative to the count without a programme.
    """
    base, access = run(), run(ACCESS_ALONE)
    more = base.span("online_merchants", 2003, 2020) - access.span("online_merchants", 2003, 2020)
    cut = 1 - base.span("low_income_residents", 2003, 2020) / access.span("low_income_residents", 2003, 2020)
    falls = base.at("low_income_residents", 2020) < base["low_income_residents"][:, 0]
    return falls & (cut[:, -1] > 0.01) & (best_lag(more, cut) >= 0.25)


def switches_once(series: Series) -> Truth:
    """Whether the limiting service changes exactly once, from basic to advanced."""
    advanced = series["bottleneck_shift"] > 0
    changes = (advanced[:, 1:] != advanced[:, :-1]).sum(axis=1)
    return ~advanced[:, 0] & advanced[:, -1] & (changes == 1)


def k02_1(run: Runs) -> Truth:
    """The limiting service switches once from basic to advanced, and competition has grown by then."""
    base = run()
    rises = (np.diff(base["competition"], axis=1) > -1e-3).all(axis=1)
    return switches_once(base) & rises


def k02_2(run: Runs) -> Truth:
    """A year's grant for advanced capacity adds almost nothing to sales in the year when the programme starts.

    In the year after the switch it adds more than the same money in basic capacity.
    """
    base = run()
    advanced = base["bottleneck_shift"] > 0
    switch = np.where(advanced.any(axis=1), base.time[advanced.argmax(axis=1)], base.time[0])
    inside = (switch >= START + 1) & (switch <= 2028)
    gain: dict[tuple[str, str], Floats] = {}
    for when, start in (("before", np.full(len(run), START)), ("after", np.clip(switch, START, 2028) + 1)):
        at = np.round((start + 1 - base.time[0]) / (base.time[1] - base.time[0])).astype(int)
        for service in ("basic capacity", "advanced capacity"):
            grant = {f"lever_start[{service}]": start, f"lever_length[{service}]": 1.0}
            more = run({f"policy_budget[{service}]": 0.5e6, **grant})
            gain[when, service] = (more["county_sales"] - base["county_sales"])[np.arange(len(run)), at]
    little = gain["before", "advanced capacity"] < 0.1 * gain["before", "basic capacity"]
    return inside & little & (gain["after", "advanced capacity"] > gain["after", "basic capacity"])


def contract_kept(run: Runs, changes: Mapping[str, float]) -> tuple[Floats, Floats]:
    """Merchants of 2025 after a contract to 2018, over those of 2018 and over those under a lasting contract."""
    ended = run({**changes, "lever_length[contract]": 2018.0 - START})
    lasting = run({**changes, "lever_length[contract]": 30.0})
    left = ended.at("online_merchants", 2025)
    return left / ended.at("online_merchants", 2018), left / lasting.at("online_merchants", 2025)


def k02_3(run: Runs) -> Truth:
    """The end of the contract costs a provider with fees at most a tenth of its merchants, and an office a quarter."""
    _, earning = contract_kept(run, {})
    change, office = contract_kept(run, {"fee_share": 0.0})
    return (earning > 0.9) & (office < 0.75) & (change < 1)


def early_adoption(series: Series) -> Floats:
    """New stores in the first two years, of whatever kind, per year."""
    return sum(series.span(f"openings[{kind}]", 2003, 2005).mean(axis=1) for kind in ("independent", "enlisted"))


def k03_1(run: Runs) -> Truth:
    """Long-run uptake: both above bottom-up above top-down; early adoption: both at least top-down above bottom-up.

    Bottom-up begins where the merchants in sight give half confidence. Top-down money, for seed and structure, is the
    same with and without them and starts with the run; both adds ties.
    """
    bottom, now = ventures(run, 1.0), {f"lever_start[{lever}]": 2003.0 for lever in THREE}
    paths = [
        run({**bottom, **now, **budgets(YEARLY / 2, *THREE)}), run({**ACCESS_ALONE, **bottom}),
        run({**now, **budgets(YEARLY / 2, UPSKILLING, STRUCTURE)}),
    ]
    both, alone, top = (path.end("uptake") for path in paths)
    early = [early_adoption(path) for path in paths]
    return (both > alone) & (alone > top) & (early[0] >= early[2]) & (early[2] > early[1])


def k03_2(run: Runs) -> Truth:
    """Force lifts uptake by a twentieth after two years and leaves it lower in 2015 and 2025."""
    programme = budgets(YEARLY, UPSKILLING, STRUCTURE)
    forced, free = run({**programme, "force_level": 1.0}), run({**programme, "force_level": 0.0})
    jump = forced.at("uptake", START + 2) > 1.05 * free.at("uptake", START + 2)
    later = [forced.at("uptake", year) < free.at("uptake", year) for year in (2015, 2025)]
    return jump & later[0] & later[1]


def k03_3(run: Runs) -> Truth:
    """Prior ventures and support together give more than the sum of what each gives alone."""
    few, support = ventures(run, 0.25), budgets(YEARLY / 3, *THREE)
    both, alone, top, none = (
        mean_merchants(run({**ACCESS_ALONE, **changes})) for changes in ({**support, **few}, few, support, {})
    )
    return both - alone > top - none


def k05_1(run: Runs) -> Truth:
    """At summed budgets (a lever costs the same alone and together) the joint gain exceeds the sum of single gains."""
    none = mean_merchants(run(ACCESS_ALONE))
    single = [mean_merchants(run(budgets(YEARLY, lever))) - none for lever in THREE]
    return mean_merchants(run(budgets(YEARLY, *THREE))) - none > np.sum(single, axis=0)


def k05_2(run: Runs) -> Truth:
    """The gain of a small sum dwindles at the low level; that of a large one has grown by 2030, at the high level.

    The county has a service provider under contract, so that seed money alone decides.
    """
    contract = budgets(YEARLY, "contract")
    none = run(contract)
    small, large = (run({**contract, "policy_budget[upskilling]": yearly}) for yearly in (1e6, 48e6))
    few, many = (path["online_merchants"] - none["online_merchants"] for path in (small, large))
    end, late, last = (round(4 * (time - none.time[0])) for time in (END, 2025, 2030))
    lost = (few[:, end] > few[:, late]) & (few[:, late] > few[:, last]) & (small.end("confidence_seen") < LOW)
    return lost & (many[:, last] >= many[:, end]) & (large.end("confidence_seen") >= HIGH)


def k05_3(run: Runs) -> Truth:
    """Structure alone costs trust and merchants, through force; with ties it costs less trust."""
    none, alone = run(ACCESS_ALONE), run(budgets(YEARLY, STRUCTURE))
    tied, unforced = run(budgets(YEARLY, STRUCTURE, INCLUSION)), run({**budgets(YEARLY, STRUCTURE), "switch_r46": 0.0})
    trust = {name: path.at("community_trust", END) for name, path in
             {"none": none, "alone": alone, "tied": tied, "unforced": unforced}.items()}
    fewer = alone.at("online_merchants", 2012) < none.at("online_merchants", 2012)
    by_force = (trust["alone"] < trust["none"]) & (trust["unforced"] > trust["alone"])
    return by_force & (trust["tied"] > trust["alone"]) & fewer


def k05_4(run: Runs) -> Truth:
    """Promotion raises merchants most at the start of the programme, and less than half as much ten years later.

    Shown in a county whose adoption rises: one with three times the yearly budget and no other role models.
    """
    programme = budgets(3 * YEARLY, *THREE, "contract")
    none, gains = run(programme), []
    for start in (START, START + 5, START + 10):
        path = run({**programme, **budgets(YEARLY, "exemplars"), "lever_start[exemplars]": start})
        gains.append(path.at("online_merchants", start + 3) / none.at("online_merchants", start + 3) - 1)
    rises = none.at("online_merchants", START + 10) > none.at("online_merchants", END)
    return rises & (gains[0] > gains[1]) & (gains[2] < 0.5 * gains[0])


def v14_5(run: Runs) -> Truth:
    """Suichang starts with more than 70 % of its residents in farming and most of its young away."""
    county = run.archetype("suichang")()
    return (county["farmer_share_of_residents"][:, 0] > 0.7) & (county["young_away_share"][:, 0] > 0.5)


MODES: dict[str, Mode] = {
    "RM-K01.1": k01_1,
    "RM-K01.2": k01_2,
    "RM-K01.3": k01_3,
    "RM-K02.1": k02_1,
    "RM-K02.2": k02_2,
    "RM-K02.3": k02_3,
    "RM-K03.1": k03_1,
    "RM-K03.2": k03_2,
    "RM-K03.3": k03_3,
    "RM-K05.1": k05_1,
    "RM-K05.2": k05_2,
    "RM-K05.3": k05_3,
    "RM-K05.4": k05_4,
    "RM-V14.5": v14_5,
}
