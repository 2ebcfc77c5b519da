"""Joins: no row multiplied, every lost one counted, units and sources carried; columns derived by terms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from villageflow.datasets.join import derive, join, merges_table
from villageflow.errors import DataError, EstimationError


def indexed(rows, names=("entity", "time"), **attrs):
    found = pd.DataFrame(rows).set_index(list(names))
    found.attrs = {"units": {}, "timing": {}, "sources": {}, "labels": {}, "warnings": {}} | attrs
    return found


@pytest.fixture
def panel():
    return indexed(
        {"entity": ["b", "a", "a", "c"], "time": [1, 1, 2, 1], "x": [1.0, 2.0, 3.0, 4.0],
         "place": ["P", "P", "P", None]},
        units={"x": "Myuan/year"}, sources={"x": ("S1",)}, timing={"x": "yearly flow"}, warnings={"x": "broken"},
    )


@pytest.fixture
def other():
    return indexed(
        {"entity": ["a", "b", "d"], "time": [2, 1, 1], "z": [30, 10, 40], "w": ["q", "r", "s"]},
        units={"z": "person"}, sources={"z": ("S2",)}, timing={"z": "year end"}, labels={"z": "heads"},
    )


def test_rows_keep_their_order_and_every_lost_one_is_counted(panel, other):
    joined = join(panel, other, name="heads")
    assert joined.index.equals(panel.index)
    assert_array_equal(joined["z"], [10, np.nan, 30, np.nan])
    (merge,) = joined.attrs["merges"]
    assert dataclasses.asdict(merge) == {
        "name": "heads", "keys": ("entity", "time"), "how": "left", "rows_left": 4, "rows_right": 3, "matched": 2,
        "left_only": 2, "right_only": 1, "lost_left": (("a", 1), ("c", 1)), "lost_right": (("d", 1),),
    }


def test_an_inner_join_drops_and_counts(panel, other):
    joined = join(panel, other, how="inner")
    assert joined.index.tolist() == [("b", 1), ("a", 2)] and joined["z"].tolist() == [10, 30]
    (merge,) = joined.attrs["merges"]
    assert (merge.matched, merge.left_only, merge.how) == (2, 2, "inner")


def test_attrs_of_both_sides_are_kept_and_neither_is_changed(panel, other):
    before = (dict(panel.attrs["units"]), dict(other.attrs["units"]))
    joined = join(panel, other, columns=["z"])
    assert list(joined) == ["x", "place", "z"]
    assert joined.attrs["units"] == {"x": "Myuan/year", "z": "person"}
    assert joined.attrs["sources"] == {"x": ("S1",), "z": ("S2",)}
    assert joined.attrs["timing"]["z"] == "year end" and joined.attrs["labels"] == {"z": "heads"}
    assert joined.attrs["warnings"] == {"x": "broken"}
    assert (panel.attrs["units"], other.attrs["units"]) == before and "merges" not in panel.attrs


def test_audits_are_appended_in_order_with_those_of_the_other_side(panel, other):
    inner = join(other, indexed({"time": [1, 2], "k": [5, 6]}, ["time"]), on=("time",), name="first")
    joined = join(join(panel, other[["w"]], name="second"), inner, columns=["z"], name="third")
    assert list(merges_table(joined).index) == ["second", "first", "third"]
    assert merges_table(joined).loc["first", "keys"] == "time"
    assert merges_table(panel).empty


def test_a_national_series_reaches_every_entity(panel):
    nation = indexed({"entity": ["N", "N"], "time": [1.0, 3.0], "fees": [7.0, 9.0]})
    joined = join(panel, nation, on=("time",))
    assert_array_equal(joined["fees"], [7, 7, np.nan, 7])
    assert joined.attrs["merges"][0].lost_right == ((3.0,),)


def test_constants_reach_every_time(panel):
    joined = join(panel, indexed({"entity": ["a"], "area": [5.0]}, ["entity"]), on=("entity",))
    assert_array_equal(joined["area"], [np.nan, 5, 5, np.nan])


def test_a_column_may_be_the_key_and_a_missing_key_matches_nothing(panel):
    provinces = indexed({"entity": ["P", "P", None], "time": [1, 2, 1], "gdp": [1.0, 2.0, 9.0]})
    joined = join(panel, provinces, on={"place": "entity", "time": "time"})
    assert_array_equal(joined["gdp"], [1, 1, 2, np.nan])
    (merge,) = joined.attrs["merges"]
    assert merge.keys == ("place = entity", "time") and merge.lost_left == ((None, 1),)


def test_columns_on_both_sides_take_the_suffix(panel):
    again = panel[["x"]] * 2
    again.attrs = {"units": {"x": "person"}}
    joined = join(panel, again, suffix="_2")
    assert_allclose(joined["x_2"], 2 * joined["x"])
    assert joined.attrs["units"] == {"x": "Myuan/year", "x_2": "person"}


def test_whole_numbers_stay_whole_where_all_match_and_nullable_ones_always(panel, other):
    typed = other.astype({"z": "Int64"})
    assert join(panel, typed)["z"].dtype == "Int64"
    assert join(panel.iloc[[0]], other)["z"].dtype == "int64" and join(panel, other)["z"].dtype == "float64"


def test_a_panel_without_attrs_can_be_joined(panel, other):
    panel.attrs, other.attrs = {}, {}
    assert join(panel, other).attrs["units"] == {}


BAD = {
    "duplicate": (lambda p, o: join(p, pd.concat([o, o.iloc[1:]])), "2 rows .* repeat a key .* such as b/1, d/1"),
    "both sides": (lambda p, o: join(p, o.rename(columns={"z": "x"})), "column 'x' is on both sides.*suffix"),
    "suffix taken": (lambda p, o: join(p.assign(x_2=1), o.rename(columns={"z": "x"}), suffix="_2"), "'x' is on both"),
    "a level's name": (lambda p, o: join(p, o.rename(columns={"z": "time"})), "'time' is on both sides"),
    "key types": (lambda p, o: join(p, o.rename(index=str, level=1)), "'time' of the panel holds numbers such as '1'"),
    "no partner": (lambda p, o: join(p, o.rename(index=str.upper, level=0)), "no row finds.*b/1, a/1.*A/2, B/1"),
    "unknown column": (lambda p, o: join(p, o, columns=["zz"]), "'zz' is not in the other table"),
    "unknown key": (lambda p, o: join(p, o, on={"plaec": "entity", "time": "time"}), "'plaec'. Did you mean 'place'"),
    "unknown level": (lambda p, o: join(p, o, on={"place": "province"}), "no index level 'province'"),
    "level left out": (lambda p, o: join(p, o, on=("time",)), "several values of 'entity'"),
    "one level twice": (lambda p, o: join(p, o, on={"place": "entity", "entity": "entity"}), "'entity' .* twice"),
    "empty on": (lambda p, o: join(p, o, on=()), "`on` is empty"),
    "outer": (lambda p, o: join(p, o, how="outer", name="h"), "Join 'h': how='outer' is not known"),
    "no panel": (lambda p, o: join(p.reset_index(), o), "not indexed .entity, time."),
    "derived exists": (lambda p, o: derive(p, x="x"), "'x' is in the panel already"),
    "derived level": (lambda p, o: derive(p, time="x"), "'time' is in the panel already"),
    "unit of nothing": (lambda p, o: derive(p, y="x", units={"yy": "1"}), "'yy', which is not derived"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_joined_is_refused_in_one_line(panel, other, case):
    call, said = BAD[case]
    with pytest.raises(DataError, match=said) as caught:
        call(panel, other)
    assert "\n" not in str(caught.value)


def test_a_derived_column_inherits_what_is_known_of_the_columns_it_reads(panel, other):
    joined = join(panel, other)
    found = derive(joined, per_head="1e6 * x / z", later="lead(per_head)", units={"per_head": "yuan/(person*year)"})
    assert_allclose(found["per_head"], 1e6 * joined["x"] / joined["z"])
    attrs = found.attrs
    assert attrs["units"]["per_head"] == attrs["units"]["later"] == "yuan/(person*year)"
    assert attrs["sources"]["later"] == ("S1", "S2") and attrs["warnings"]["per_head"] == "x: broken"
    assert attrs["timing"]["per_head"] == "x: yearly flow; z: year end" and attrs["labels"]["later"] == "lead(per_head)"
    assert "per_head" not in joined and "per_head" not in joined.attrs["units"] and len(attrs["merges"]) == 1
    assert derive(joined, twice="2 * x").attrs["timing"]["twice"] == "yearly flow"


def test_a_term_that_cannot_be_evaluated_is_named(panel):
    with pytest.raises(EstimationError, match="Did you mean 'x'"):
        derive(panel, y="ln(xx)")
    assert list(derive(panel)) == list(panel)
