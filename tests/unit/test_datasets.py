"""The shipped tables: sums that must hold, documentation of every column, nothing silently mixed."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from villageflow import datasets
from villageflow.datasets import schemas
from villageflow.datasets.vocabulary import check_unit
from villageflow.errors import DataError

FOLDER = Path(datasets.__file__).parent
TABLES = sorted(path.stem for path in FOLDER.glob("*.csv"))


@pytest.mark.parametrize("name", TABLES)
def test_every_shipped_table_meets_its_schema_and_is_small(name):
    frame = datasets.table(name)
    assert list(frame.columns) == list(schemas.SCHEMAS[name].fields)
    assert (FOLDER / f"{name}.csv").stat().st_size < 1_000_000


@pytest.mark.parametrize("name", TABLES)
def test_codebook_covers_every_column_and_variable_and_nothing_else(name):
    frame = datasets.table(name)
    book = datasets.codebook(name)
    variables = set(frame["variable"]) if "variable" in frame and name != "facts" else set()
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    assert set(book["column"]) == set(header) | variables
    assert set(book.loc[book["type"] == "variable", "column"]) == variables


@pytest.mark.parametrize("name", ["provinces", "nation", "villages_area_year", "migrant_workers"])
def test_units_of_rows_agree_with_the_codebook_and_are_known(name):
    unit = datasets.codebook(name).set_index("column")["unit"]
    rows = datasets.table(name)
    assert (rows["unit"] == rows["variable"].map(unit)).all()
    for text in rows["unit"].unique():
        assert check_unit(text, where=name) == text


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("sources", "codebook")])
def test_every_row_names_a_known_source(name):
    assert set(datasets.table(name)["source_id"]) <= set(datasets.sources().index)


def test_rosters_add_up_to_the_published_totals():
    counties = datasets.load("counties", columns=["province", "villages"])
    totals = counties["villages"].groupby("time").sum()
    assert totals.to_dict() == {2014: 212, 2015: 780, 2016: 1312}
    nation = datasets.load("nation", columns=["taobao_villages"])["taobao_villages"].droplevel("entity")
    assert nation[2014] == 212 and nation[2016] == 1311 and nation[2022] == 7780
    by_county = counties.reset_index().groupby(["province", "time"])["villages"].sum()
    provinces = datasets.load("provinces", columns=["taobao_villages"])["taobao_villages"]
    for (province, year), count in by_county.items():
        assert provinces[province, year] == count


def test_unlisted_provinces_are_zero_only_where_the_roster_is_complete():
    villages = datasets.load("provinces", columns=["taobao_villages"])["taobao_villages"].unstack("time")
    assert villages.notna().sum()[[2013, 2014, 2015, 2016, 2017, 2018, 2019]].tolist() == [
        0,
        31,
        31,
        31,
        3,
        6,
        0,
    ]
    assert villages.loc["Tibet", 2014] == 0 and np.isnan(villages.loc["Tibet", 2018])


def test_population_identity_holds_and_the_core_is_balanced():
    core = ["rural_population", "urban_population", "resident_population", "gdp", "digital_finance_index"]
    panel = datasets.load("provinces", columns=core).query("2011 <= time <= 2022")
    assert panel.shape == (31 * 12, 5) and panel.notna().all().all()
    total = panel["rural_population"] + panel["urban_population"]
    assert_array_equal(total, panel["resident_population"])


def test_survivors_and_entrants_make_up_the_second_roster():
    moves = datasets.load("entry_exit")
    assert_array_equal(moves["survivors"] + moves["entrants"], moves["unique1"])
    assert_array_equal(moves["survivors"] + moves["exits_upper"], moves["unique0"])


def test_merchant_fees_are_marketing_plus_commission():
    nation = datasets.load("nation").droplevel("entity")
    parts = nation["alibaba_marketing_revenue"] + nation["alibaba_commission_revenue"]
    assert_array_equal(parts.dropna(), nation["alibaba_merchant_fees"].dropna())
    assert nation.loc[2019, "alibaba_customer_management_revenue"] == parts[2019]


def test_migrants_out_and_local_add_up():
    nation = datasets.load("nation").droplevel("entity")
    total = nation["migrant_workers_out"] + nation["migrant_workers_local"]
    assert_allclose(total.dropna(), nation["migrant_workers_total"].dropna(), atol=10_000)


def test_bounds_and_forecasts_are_not_observations():
    nation = datasets.load("nation")
    assert "alibaba_china_retail_gmv" not in nation and "taobao_vendors" not in nation
    assert np.isnan(nation.loc[("CHINA", 2020), "returnee_entrepreneurs_all_types"])
    bounds = datasets.load("nation_bounds")
    assert bounds.loc[("CHINA", 2020, "returnee_entrepreneurs_all_types"), "comparator"] == "forecast"
    assert set(bounds["comparator"]) == {">=", "<=", "~", "forecast"}
    observed = datasets.table("nation").query("comparator == '='")
    assert len(observed) + len(bounds) == len(datasets.table("nation"))


@pytest.mark.parametrize("name", datasets.names())
def test_panels_are_sorted_unique_and_described(name):
    panel = datasets.load(name)
    assert panel.index.names[:2] == ["entity", "time"]
    assert panel.index.is_unique and panel.index.is_monotonic_increasing
    assert set(panel.attrs) == {"units", "timing", "sources", "labels", "warnings"}
    if name != "nation_bounds":
        numeric = panel.select_dtypes("number").columns
        assert set(panel.attrs["units"]) == set(numeric)
        assert set(panel.attrs["sources"]) == set(panel.columns)


def test_broken_series_warn_in_the_log_when_loaded(caplog):
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        panel = datasets.load("provinces", columns=["gdp_index", "urban_unit_employees"])
    assert [record.args[0] for record in caplog.records] == ["urban_unit_employees"]
    assert "2013" in caplog.text and set(panel.attrs["warnings"]) == {"urban_unit_employees"}


def test_a_returned_table_can_be_changed_without_changing_the_next_one():
    table = datasets.table("nation")
    table["value"] = 0.0
    assert (datasets.table("nation")["value"] > 0).all()


def test_facts_leave_out_what_must_not_be_used():
    facts = datasets.facts()
    assert not {"S0-04", "S0-21", "S1-06", "S1-25", "D-17", "D-33"} & set(facts.index)
    assert facts[["value_low", "value_high"]].notna().any(axis=1).all()
    stores = datasets.facts("S1-18").iloc[0]
    assert (stores["value_low"], stores["value_high"], stores["unit"]) == (300, 400, "store")
    assert set(datasets.facts(place="Beishan")["place"]) == {"Beishan"}
    assert (datasets.facts(usable_as="calibration target")["usable_as"] == "calibration target").all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: datasets.load("province"), "Did you mean 'provinces'"),
        (lambda: datasets.load("provinces", columns=["gpd"]), "Did you mean 'gdp'"),
        (lambda: datasets.table("nations"), "Did you mean 'nation'"),
        (lambda: datasets.facts("S9-99"), "S9-99"),
        (lambda: datasets.facts(place="Beishn"), "Did you mean 'Beishan'"),
        (lambda: datasets.sources("S999"), "S999"),
        (lambda: datasets.codebook("nope"), "nope"),
    ],
)
def test_unknown_names_are_refused_with_a_proposal(call, said):
    with pytest.raises(DataError, match=said):
        call()


def test_pandas_attrs_survive_a_copy():
    panel = datasets.load("provinces", columns=["gdp_index"])
    assert isinstance(panel, pd.DataFrame)
    assert panel.copy().attrs["units"] == {"gdp_index": "index"}
