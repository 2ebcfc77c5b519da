"""What village_cluster shows beside its reference modes, at the values of its file."""

from __future__ import annotations

import numpy as np
import pytest
from modes.village_cluster import peak_over_end
from runs import Truth


@pytest.mark.parametrize("delay", [0.1, 0.3, 1.5, 5.0])
def test_overshoot_is_not_the_delay(delay, village_base):
    """RM-V01.4, second half: no perception delay makes the overshoot by itself."""
    assert peak_over_end(village_base(perception_time=delay), "active_stores") >= 1.25
    assert peak_over_end(village_base(perception_time=delay, contest_decisiveness=0.0), "active_stores") <= 1.15


def test_cheaper_brands_do_not_help_the_poor(village_base):
    """RM-V02.5, second half: below the reservation income nobody can save for a brand."""
    poor = {"home_discount": 12.0}
    cheap, dear = village_base(brand_outlay=20000.0, **poor), village_base(brand_outlay=80000.0, **poor)
    assert cheap.span("profit_ratio[agent]", 2008, 2030).max() < 1
    assert np.abs(cheap["stores[brand]"] - dear["stores[brand]"]).max() < 0.1
    assert village_base(brand_outlay=20000.0).at("stores[brand]", 2014) > village_base().at("stores[brand]", 2014) + 10


def test_squeeze_by_type_and_in_the_average(village_base):
    """Agent profit falls to a third of its best by 2016; the average hides half of the fall."""
    base = village_base()
    left = {name: base.at(name, 2016)[0] / base[name].max() for name in ("profit[agent]", "profit_average")}
    assert left["profit[agent]"] < 1 / 3
    assert left["profit_average"] > 1.5 * left["profit[agent]"]
    assert base.at("ad_cost_share[agent]", 2016) > 5 * base.at("ad_cost_share[agent]", 2008)


def meets_the_facts(runs) -> Truth:
    """Whether a run meets every fact about the village that the model can show."""
    count, began = runs.at("registered_stores", 2016), runs.at("share_begun_as_distributors", 2016)
    facts = {
        "S1-18": (count >= 225) & (count <= 500),
        "S1-14": runs.span("listing_score", 2006, 2013.75).max(axis=1) >= 1,
        "S1-17, D-09": runs["share_of_households"].max(axis=1) <= 0.4,
        "D-10": runs.at("stores_per_ecommerce_household", 2016) < 4,
        "D-11": runs.span("stores[brand]", 2006, 2009.5).max(axis=1) >= 0.5,
        "S1-26": (began >= 0.3) & (began <= 0.9),
        "S1-42": runs.at("search_result_pages", 2016) > 100,
        "S1-47": runs.at("margin_after_ads[agent]", 2012) < runs.at("margin_after_ads[agent]", 2008),
    }
    return np.logical_and.reduce(list(facts.values()))


def test_facts_keep_some_draws(village_base, village_prior):
    assert meets_the_facts(village_base()).all()
    assert 0.2 < meets_the_facts(village_prior()).mean() < 0.4
