"""Persons, villages, stores and money are conserved, with every loop on and with each loop off."""

from __future__ import annotations

import numpy as np
import pytest

import villageflow as vf

STEP = 1 / 64
SWITCHES = {
    name: [None, *sorted(n for n in vf.library.read(name).constants if n.startswith("switch_"))]
    for name in ("village_cluster", "national_diffusion")
}
# cumulated flows are sums of up to 1,536 steps
TOLERANCE = 1e-10


def values(dataset, name):
    """Values of a variable or of an element such as ``stores[agent]``."""
    array, _, element = name.removesuffix("]").partition("[")
    return dataset[array].sel(store_type=element).values if element else dataset[array].values


def cumulated(dataset, name):
    """Integral of a flow by Euler's rule from the first saved time, at the saved times (every step is saved)."""
    flow = values(dataset, name)
    return np.concatenate([np.zeros((len(flow), 1)), np.cumsum(flow[:, :-1], axis=1) * STEP], axis=1)


def run(name, switch):
    """Three members (base and two prior draws) with one switch off; every step is saved."""
    model, priors = vf.library.read(name), vf.library.priors(name)
    table = vf.Design.lhs(priors, n=3, seed=7).table
    table.loc[0] = [float(model.constants[column]) for column in table.columns]
    if switch is not None:
        table[switch] = 0.0
    return vf.simulate(model, vf.Design.from_frame(table), save_every=STEP)


def change(dataset, name):
    """Change of a stock since the start."""
    found = values(dataset, name)
    return found - found[:, :1]


def equal(left, right, scale):
    """Equal up to rounding relative to the scale of the stocks involved."""
    np.testing.assert_allclose(left, right, rtol=0, atol=TOLERANCE * float(np.abs(scale).max()))


@pytest.fixture(params=SWITCHES["village_cluster"], ids=lambda s: s or "all on", scope="module")
def village(request):
    return run("village_cluster", request.param)


@pytest.fixture(params=SWITCHES["national_diffusion"], ids=lambda s: s or "all on", scope="module")
def nation(request):
    return run("national_diffusion", request.param)


def test_persons(village):
    population = village["registered_population"].values
    equal(
        change(village, "registered_population"),
        cumulated(village, "births") - cumulated(village, "deaths"),
        population,
    )
    parts = sum(village[n].values for n in ("children", "workers_farm", "workers_ecom", "workers_away", "elderly"))
    equal(parts, population, population)


def test_stores(village):
    closed = cumulated(village, "closures[agent]") + cumulated(village, "closures[brand]")
    equal(change(village, "active_stores"), cumulated(village, "new_stores") - closed, village["all_openings"].values)
    equal(
        change(village, "dormant_stores"),
        cumulated(village, "dormancy") - cumulated(village, "deregistration"),
        village["all_openings"].values,
    )
    equal(
        change(village, "stores[brand]"),
        cumulated(village, "graduations") - cumulated(village, "closures[brand]"),
        closed + 1,
    )


def test_money_of_each_store(village):
    constants = vf.library.read("village_cluster").constants
    for kind in ("agent", "brand"):
        name = f"gross_margin[{kind}]"
        margin = village[name].values[:, None] if name in village.coords else constants[name]
        sales, profit = values(village, f"revenue[{kind}]"), values(village, f"profit[{kind}]")
        costs = sum(values(village, f"{cost}[{kind}]") for cost in ("ad_bid", "fixed_cost", "staff_cost"))
        building = values(village, "brand_spending") if kind == "brand" else 0.0
        equal((1 - margin + values(village, "variable_cost_rate")) * sales + costs + building + profit, sales, sales)


def test_money_of_the_village(village):
    parts = ("goods_cost", "platform_ad_income", "fees_and_delivery", "fixed_outlays", "wages_paid", "village_profit")
    equal(sum(village[n].values for n in parts), village["village_revenue"].values, village["village_revenue"].values)


def test_ad_spending_is_ad_income(village):
    spent = (village["ad_cost_share"] * village["revenue"] * village["stores"]).sum("store_type").values
    equal(spent, village["platform_ad_income"].values, spent)


def test_cash(village):
    out = cumulated(village, "brand_outlay_spending") + cumulated(village, "cash_withdrawal")
    equal(change(village, "merchant_cash"), cumulated(village, "saving") - out, cumulated(village, "saving") + 1)


def test_demand_is_shared_out(village):
    """Sales of all sellers of the category add up to its demand."""
    v = {name: village[name].values for name in village.data_vars}
    constants = vf.library.read("village_cluster").constants
    nest_share, nest_weight = values(village, "nest_share[brand]"), values(village, "nest_weight[brand]")
    manufacturers = constants["manufacturer_appeal"] * v["manufacturer_direct_stores"] * v["revenue_outside"]
    brand_share = village["outside_brand_share"].values[:, None]
    outside = v["outside_listings"] * (1 - brand_share) * v["revenue_outside"] / constants["listings_per_store"]
    appeal = village["brand_appeal_at_start"].values[:, None]
    outside_brands = v["outside_listings"] * brand_share * appeal * v["category_demand"] * nest_share / nest_weight
    equal(v["village_revenue"] + manufacturers + outside + outside_brands, v["category_demand"], v["category_demand"])


def test_villages(nation):
    pool = nation["village_total"].values
    equal(pool, np.repeat(pool[:, :1], pool.shape[1], axis=1), pool)
    in_lists = cumulated(nation, "listing") - cumulated(nation, "delisting")
    equal(change(nation, "taobao_villages"), in_lists, nation["taobao_villages"].values)
    passed = cumulated(nation, "crossing")
    known = cumulated(nation, "listing")
    equal(change(nation, "unlisted_villages"), passed - known, passed)


def test_users_never_exceed_people(nation):
    for area in ("urban", "rural"):
        potential = nation[f"{area}_potential"].values[:, None]
        users = nation[f"{area}_users"].values
        assert (users >= 0).all()
        assert (users <= potential).all()
