"""Each loop of a model acts in the direction that the study gives it; policies wait for their start."""

from __future__ import annotations

import numpy as np
import pytest
from quality import village_cluster

import villageflow as vf


def test_policies_wait_for_their_start(village_base):
    table = vf.library.scenarios("village_cluster")
    reference = village_base()
    for _, rows in table.groupby("scenario"):
        changed = village_base(**dict(zip(rows["name"], rows["value"].astype(float), strict=True)))
        for name in village_cluster.OUTCOMES:
            np.testing.assert_array_equal(changed.span(name, 2006, 2016), reference.span(name, 2006, 2016))


# loop, variable and time at which the loop must show, direction of the variable when the loop is on
SIGNS = {
    "village_cluster": [
        ("r1", "active_stores", 2012, 1), ("r2", "active_stores", 2014, 1), ("r3", "revenue[brand]", 2016, 1),
        ("r4", "anchor_goodwill", 2014, 1), ("r7", "ad_bid[agent]", 2012, 1), ("r8", "category_demand", 2016, 1),
        ("r9", "ad_cost_share[agent]", 2010, 1), ("r24", "leave_flow", 2009, 1), ("r25", "active_stores", 2012, 1),
        ("r26", "leave_flow", 2008, 1), ("b1", "active_stores", 2014, -1), ("b2", "new_stores", 2020, -1),
        ("b3", "appeal[agent]", 2014, -1), ("b4", "stores[agent]", 2012, -1), ("b5", "stores[brand]", 2014, -1),
        ("b10", "ad_cost_share[agent]", 2018, -1), ("b11", "active_stores", 2018, -1),
        ("b27", "income_ratio", 2014, -1), ("b28", "home_share", 2009, 1),
        ("r5", "stocked_share", 2010, 1), ("r6", "stores_of_trading_household", 2010, 1),
        ("r10", "reply_coverage[agent]", 2012, 1), ("r11", "line_discovery", 2012, 1),
        ("r12", "line_discovery", 2012, 1),
        ("r13", "manufacturer_direct_stores", 2014, 1), ("r14", "copycat_share", 2016, -1),
        ("r15", "product_quality", 2014, 1), ("r16", "skilled_staff", 2016, 1), ("r17", "experienced_share", 2014, 1),
        ("r18", "newcomer_survival", 2014, 1), ("r19", "online_habit", 2014, 1), ("r20", "local_choice", 2020, -1),
        ("r21", "internet_capacity", 2014, 1), ("r22", "media_fame", 2014, 1), ("r23", "county_attention", 2014, 1),
        ("r30", "network_trust", 2012, 1), ("r31", "margin_before_ads[agent]", 2014, 1),
        ("r32", "new_stores", 2010, 1), ("b6", "stocked_share", 2016, -1), ("b7", "space_load", 2016, -1),
        ("b8", "additional_ids", 2016, -1), ("b9", "stores_of_trading_household", 2012, -1),
        ("b12", "reply_coverage[agent]", 2012, -1), ("b13", "hours_per_person[agent]", 2014, -1),
        ("b14", "exhausted_lines", 2014, -1), ("b15", "identical_offers", 2014, -1),
        ("b16", "bypass_threat", 2014, -1), ("b17", "bypass_threat", 2014, -1), ("b18", "copycat_share", 2014, -1),
        ("b19", "online_worth", 2014, -1), ("b20", "active_stores", 2014, -1), ("b21", "failure_risk", 2014, -1),
        ("b22", "local_shops", 2014, 1), ("b23", "online_produce_share", 2014, -1),
        ("b24", "internet_capacity", 2018, -1), ("b25", "space_load", 2028, -1),
        ("b26", "warehouse_space", 2018, -1), ("b31", "help_given", 2014, -1),
    ],
    "national_diffusion": [
        ("r33", "seed_villages", 2020, 1), ("r34", "seed_villages", 2020, 1), ("r35", "platform_users", 2012, 1),
        ("r36", "top_three_share", 2019, 1), ("r37", "rural_users", 2018, 1), ("b32", "seed_villages", 2018, -1),
        ("b33", "village_sales", 2018, -1), ("b34", "taobao_villages", 2020, -1), ("b35", "urban_users", 2016, -1),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "loop", "variable", "time", "sign"),
    [(name, *row) for name, rows in SIGNS.items() for row in rows],
)
def test_loop_acts_in_its_direction(name, loop, variable, time, sign, request):
    """Reinforcing loops raise and balancing loops hold back what they act on, where the study says so."""
    runs = request.getfixturevalue({"village_cluster": "village_base", "national_diffusion": "nation_base"}[name])
    on, off = runs().at(variable, time), runs(**{f"switch_{loop}": 0.0}).at(variable, time)
    assert sign * (on - off) > 0


