"""Analysis panels of the shipped data: values, units, audits, and no year moved."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from villageflow import datasets
from villageflow.datasets.join import DESCRIBED
from villageflow.datasets.recipes import elsewhere, neighbours_province
from villageflow.errors import DataError


@pytest.fixture(scope="module")
def built():
    return {name: datasets.build(name) for name in datasets.recipe_names()}


@pytest.mark.parametrize("name", datasets.recipe_names())
def test_a_panel_has_the_rows_of_its_base_and_every_column_is_described(built, name):
    panel = built[name]
    assert panel.index.equals(datasets.load(name).index)
    assert {*DESCRIBED, "merges"} <= set(panel.attrs)
    numeric = set(panel.select_dtypes("number").columns)
    for key in ("units", "timing"):
        assert set(panel.attrs[key]) == numeric and all(panel.attrs[key].values()), key
    for key in ("sources", "labels"):
        assert set(panel.attrs[key]) == set(panel.columns), key
    assert set(panel.attrs["warnings"]) <= set(panel.columns)
    for source in {item for found in panel.attrs["sources"].values() for item in found}:
        assert len(datasets.sources(source)) == 1


def test_product_per_head_and_digital_finance_keep_their_values(built):
    panel = built["provinces"]
    assert_array_equal(panel["gdp_per_head"], 1e6 * panel["gdp"] / panel["resident_population"])
    assert_array_equal(panel["digital_finance"], panel["digital_finance_index"] / 100)
    assert_array_equal(panel["rural_share"], panel["rural_population"] / panel["resident_population"])
    assert panel.attrs["units"]["gdp_per_head"] == "yuan/(person*year)" and panel.attrs["units"]["rural_share"] == "1"


def test_every_table_keeps_its_rows_and_what_is_lost_is_named(built):
    table = datasets.merges_table(built["provinces"])
    assert list(table.index) == ["counties_by_province", "entry_exit", "demonstration_counties", "nation"]
    assert (table["rows_left"] == 620).all() and (table["matched"] + table["left_only"] == 620).all()
    assert table["right_only"].to_dict() == dict.fromkeys(table.index, 0) | {"demonstration_counties": 7}
    assert {key[0] for key in table.loc["demonstration_counties", "lost_right"]} == {"CHINA"}
    counties = datasets.merges_table(built["counties"]).loc["provinces"]
    assert (counties["matched"], counties["left_only"], counties["keys"]) == (705, 0, "province = entity, time")


def test_counties_carry_the_figures_of_their_province_and_year(built):
    counties, provinces = built["counties"], built["provinces"]
    row = counties.loc[("Zhejiang/金华市/义乌市", 2015)]
    assert row["province_gdp"] == provinces.loc[("Zhejiang", 2015), "gdp"]
    assert row["nation_alibaba_merchant_fees"] == 58_710
    assert not {"gdp", "taobao_villages"} & set(counties.columns)  # which would read as figures of the county


def test_villages_around_a_county_are_those_of_city_and_province_without_its_own(built):
    panel = built["counties"]
    for entity, time in panel.index[:: 50]:
        here = panel.loc[(entity, time)]
        year = panel.xs(time, level="time")
        city = (year["province"] == here["province"]) & (year["city"] == here["city"])
        others = year[city & (year.index != entity)]
        assert here["elsewhere"] == others["villages"].sum()
        assert here["neighbours_province"] == year[(year["province"] == here["province"]) & ~city]["villages"].sum()
    assert_array_equal(panel["elsewhere"], elsewhere(panel))
    assert_array_equal(panel["neighbours_province"], neighbours_province(panel))
    total = panel["villages"].astype(float) + panel["elsewhere"] + panel["neighbours_province"]
    assert_array_equal(total, panel["province_taobao_villages"])


def test_fiscal_years_stay_under_their_own_year_and_say_so(built):
    nation, raw = built["nation"], datasets.load("nation")
    fees = "alibaba_merchant_fees"
    assert_array_equal(nation[fees], raw[fees])
    assert "31 March" in nation.attrs["timing"][fees] and "31 March" in nation.attrs["timing"]["fees_per_shop"]
    assert "31 March" in nation.attrs["timing"]["merchant_fees_growth"]
    assert_array_equal(built["provinces"].loc["Anhui", f"nation_{fees}"].loc[2009:2022], raw[fees])
    assert "31 March" in built["provinces"].attrs["timing"][f"nation_{fees}"]


def test_quotients_of_the_nation_by_hand(built):
    nation = built["nation"].droplevel("entity")
    assert nation.loc[2016, "fees_per_shop"] == pytest.approx(78_225e6 / (8.32e6 / 0.258))
    assert nation.loc[2017, "retail_per_rural_shop"] == pytest.approx(1_244_880e6 / 9.856e6)
    assert nation.loc[2015, "merchant_fees_growth"] == pytest.approx(np.log(58_710 / 41_752))
    assert np.isnan(nation.loc[2013, "villages_growth"])  # 2012 is not known; 2009 is not taken for it
    assert "whether they pay Alibaba or not" in built["nation"].attrs["warnings"]["fees_per_shop"]


def test_a_built_panel_can_be_changed_without_changing_the_next_one(built):
    panel = datasets.build("nation")
    panel.attrs["units"].clear()
    panel.iloc[:, 0] = 0.0
    assert datasets.build("nation").equals(built["nation"]) and datasets.build("nation").attrs["units"]


def test_an_unknown_panel_is_refused_with_a_proposal():
    with pytest.raises(DataError, match=r"'province'\. Did you mean 'provinces'"):
        datasets.build("province")
