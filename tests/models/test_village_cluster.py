"""What village_cluster shows beside its reference modes, at the values of its file."""

from __future__ import annotations

import numpy as np
import pytest
from modes.village_cluster import MODES, SAVED, peak_over_end
from runs import Runs, Truth, base_runs


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


OFF = {
    "RM-V03.2": {"fill_gain": 0.0},
    "RM-V03.3": {"switch_b6": 0.0},
    "RM-V06.1": {"switch_b12": 0.0},
    "RM-V06.2": {"initial_coverage": 15.0, "switch_r10": 0.0},
    "RM-V07.1": {"scouting_rate": 0.0},
    "RM-V07.2": {"scouting_rate": 0.0},
    "RM-V07.3": {"emerging_margin": 1.0, "exhausted_margin": 1.0},
    "RM-V08.1": {"manufacturer_delay": 0.05, "set_up_time": 0.05},
    "RM-V08.2": {"manufacturer_pool": 0.0},
    "RM-V08.3": {"manufacturer_pool": 0.0},
    "RM-V09.1": {"order_cost": 0.1, "low_value_seller_cost": 0.0},
    "RM-V09.2": {"delisting_share": 0.0},
    "RM-V09.3": {"switch_r14": 0.0},
    "RM-V10.1": {"usual_service_staff[brand]": 0.1, "workers_per_brand_store": 1.6},
    "RM-V10.3": {"able_share": 1.0},
    "RM-V11.1": {"outdoor_spending": 1000.0},
    "RM-V11.2": {"outlet_sensitivity": 0.0},
    "RM-V11.3": {"familiarity_weight": 1.0},
    "RM-V12.1": {"support_lag": 30.0},
    "RM-V12.2": {"switch_r21": 0.0, "formal_training": 0.0, "job_course_pace": 0.0},
    "RM-V13.1": {"rival_lag": 0.05},
    "RM-V13.3": {"shop_front": 0.0, "warehouse_response": 0.0},
    "RM-V16.1": {"guidance_relief": 0.0},
    "RM-V16.2": {"rivalry_weight": 0.0},
    "RM-V16.3": {"bought_service_cost": 0.0, "advice_gain": 0.0, "start_up_gain": 0.0, "guidance_relief": 0.0},
}


@pytest.mark.parametrize("rm_id", OFF)
def test_a_mode_fails_without_its_mechanism(rm_id):
    """A reference mode that holds at the values of the file does not hold once what it claims is taken out."""
    mode = MODES[rm_id]
    with_it = base_runs("village_cluster", SAVED)
    table = with_it.table.assign(**OFF[rm_id])
    assert mode(with_it).all()
    assert not mode(Runs("village_cluster", table, SAVED)).any()
