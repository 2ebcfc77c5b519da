"""The report on a panel: planted breaks, conflicts and gaps are found, clean ones pass, shipped ones are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from villageflow import datasets
from villageflow.datasets.quality import BREAK_Z, OUTLIER_Z, Identity, quality
from villageflow.errors import DataError, ReportError
from villageflow.report.coverage import coverage_figure

TIMES = range(2000, 2012)


def smooth(seed=1, n_entities=8):
    """Columns that grow steadily, with a little noise."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([[f"e{i}" for i in range(n_entities)], TIMES], names=["entity", "time"])
    year = index.get_level_values(1).to_numpy() - 2000
    x = np.exp(0.05 * year + 0.01 * rng.uniform(-1, 1, len(index)))
    return pd.DataFrame({"x": x, "z": 0.3 * year - 1 + 0.01 * rng.uniform(-1, 1, len(index))}, index=index)


def detected(panel):
    found = quality(panel).breaks
    return found[found["kind"] == "detected"]


def test_a_steady_panel_has_nothing_to_report():
    found = quality(smooth())
    assert found.breaks.empty and found.conflicts.empty and found.gaps.empty and found.n_entities == 8
    assert (found.coverage == 1).all(axis=None)


@pytest.mark.parametrize(("column", "what"), [("x", "log change"), ("z", "change")])
def test_a_break_of_all_entities_is_found_in_its_year_only(column, what):
    panel = smooth()
    panel.loc[panel.index.get_level_values(1) >= 2006, column] += 3.0
    found = detected(panel)
    assert found[["variable", "entity", "time"]].to_numpy().tolist() == [[column, "", 2006]]
    assert found["size"].iloc[0] > BREAK_Z and found["text"].iloc[0].startswith(f"median {what}")


def test_a_jump_of_one_entity_is_found_with_its_return():
    panel = smooth()
    panel.loc[("e3", 2005), "x"] *= 2
    found = detected(panel).set_index(["variable", "entity", "time"])["size"]
    assert set(found.index) == {("x", "e3", 2005), ("x", "e3", 2006)}
    assert found["x", "e3", 2005] > OUTLIER_Z and found["x", "e3", 2006] < -OUTLIER_Z


def test_a_step_over_a_gap_in_time_is_no_change():
    panel = smooth()
    panel.loc[panel.index.get_level_values(1) > 2006, "x"] *= 5
    assert 2007 in set(detected(panel)["time"])
    assert detected(panel.query("time != 2006"))["time"].tolist() == []


def test_warnings_of_the_codebook_are_listed_and_matched_with_what_is_detected():
    panel = smooth()
    panel.loc[panel.index.get_level_values(1) >= 2006, "x"] *= 2
    panel.attrs = {"warnings": {"x": "widened in 2006", "gone": "not in the panel"}}
    found = quality(panel).breaks
    assert found["kind"].tolist() == ["documented", "detected"] and found["text"][0] == "widened in 2006"
    assert found["text"][1].endswith("the codebook mentions 2006")


def test_gaps_are_years_inside_the_span_of_an_entity():
    panel = smooth()
    panel.loc[[("e1", 2003), ("e1", 2004), ("e2", 2000), ("e2", 2011)], "x"] = np.nan
    panel = panel.drop(("e4", 2007))
    found = quality(panel)
    rows = found.gaps.set_index(["variable", "entity"])
    assert rows["missing"].to_dict() == {
        ("x", "e1"): (2003, 2004), ("x", "e4"): (2007,), ("z", "e4"): (2007,)
    }
    assert rows.loc[("x", "e1"), ["first", "last", "n_missing"]].tolist() == [2000, 2011, 2]
    assert found.coverage.loc["x", [2000, 2003, 2005, 2007]].tolist() == [7 / 8, 7 / 8, 1, 7 / 8]


def test_a_year_without_rows_is_covered_by_none_and_a_gap_of_all():
    found = quality(smooth().query("time != 2005"))
    assert found.coverage.loc["x", 2005] == 0 and list(found.coverage.columns) == list(TIMES)
    assert (found.gaps["n_missing"] == 1).all() and len(found.gaps) == 16
    every_second = quality(smooth().query("time % 2 == 0"))
    assert every_second.gaps.empty and list(every_second.coverage.columns) == list(TIMES)[::2]


def test_identities_report_each_failure_or_the_largest_difference_that_passed():
    panel = smooth().assign(twice=lambda p: 2 * p["x"], text="t")
    panel.loc[("e0", 2001), "twice"] *= 1.004
    panel.loc[("e1", 2002), "twice"] *= 1.2
    items = [Identity("2 * x", "twice", 0.01, "r"), Identity("2 * x", "twice", 0.5, "wide"),
             Identity("x", "absent", 0, "r"), Identity("x", "text", 0, "r")]
    found = quality(panel, identities=items).conflicts
    assert found["verdict"].tolist() == ["conflict", "agrees"]
    assert found.loc[0, ["entity", "time"]].tolist() == ["e1", 2002]
    assert found.loc[0, "difference"] == pytest.approx(1 / 6)
    assert found.loc[1, "difference"] == pytest.approx(1 / 6) and found.loc[1, "n_compared"] == 96


def test_sums_are_compared_only_where_every_entity_has_a_value():
    panel = smooth()
    panel["total"] = panel.groupby(level=1)["x"].transform("sum")
    panel.loc[panel.index.get_level_values(1) == 2004, "total"] += 1.0
    panel.loc[("e0", 2009), "x"] = np.nan
    (row,) = quality(panel, identities=[Identity("x", "total", 1e-9, "r", within=())]).conflicts.to_dict("records")
    assert (row["verdict"], row["time"], row["n_compared"]) == ("conflict", 2004, 11)


def test_known_conflicts_of_the_shipped_data_are_shown_beside_what_agrees():
    nation = quality(datasets.build("nation")).conflicts.set_index("identity")
    shops = nation.loc["rural_online_shops = rural_online_shops_second_source"]
    assert (shops["verdict"], shops["time"], shops["left"], shops["right"]) == ("conflict", 2016, 8_163_000, 8_320_000)
    provinces = quality(datasets.build("provinces")).conflicts.set_index("identity")
    total = provinces.loc["sum of taobao_villages = nation_taobao_villages"]
    assert (total["verdict"], total["time"], total["left"], total["right"]) == ("conflict", 2016, 1312, 1311)
    for identity in ("(rural_population + urban_population) = resident_population", "(survivors + entrants) = unique1"):
        assert provinces.loc[identity, "verdict"] == "agrees" and provinces.loc[identity, "difference"] == 0
    counties = quality(datasets.build("counties")).conflicts.set_index("identity")
    by_province = counties.loc["sum of villages = province_taobao_villages"]
    assert (by_province["verdict"], by_province["n_compared"]) == ("agrees", 57)


@pytest.mark.parametrize("name", [name for name in datasets.names() if name != "nation_bounds"])
def test_every_shipped_panel_can_be_reported(name):
    panel = datasets.load(name)
    before = panel.copy()
    found = quality(panel)
    assert panel.equals(before) and list(found.coverage.index) == list(panel.columns)
    assert set(found.breaks.query("kind == 'documented'")["variable"]) == set(panel.attrs["warnings"])


def test_the_text_says_all_four_and_survives_hostile_names():
    panel = smooth().rename(columns={"x": "a|b`\n~", "z": "ln(x)"}).assign(flag=True, only=np.nan)
    panel.loc[("e1", 2003), "ln(x)"] = np.nan
    text = quality(panel).to_markdown()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Coverage", "## Breaks", "## Conflicts", "## Gaps"
    ]
    assert "| a\\|b` ~ |" in text and "| only | none | 0 | 0% |  |" in text and "| ln(x) | 1 | 1 |" in text


def test_a_users_own_panel_without_attrs_is_reported(tmp_path):
    (tmp_path / "own.csv").write_text("village,year,stores\nA,2015,3\nA,2017,4\nB,2016,\n", encoding="utf-8")
    own = datasets.read_panel(tmp_path / "own.csv", entity="village", time="year", units={"stores": "store"})
    own.attrs = {}
    found = quality(own)
    assert found.coverage.loc["stores"].tolist() == [0.5, 0, 0.5] and found.gaps["missing"].tolist() == [(2016,)]
    assert quality(own.iloc[:0]).to_markdown().startswith("0 entities")


def test_infinite_values_times_far_apart_and_fractions_are_survived():
    panel = smooth()
    panel.loc[("e0", 2004), "x"] = np.inf
    assert quality(panel).n_entities == 8
    far = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=pd.MultiIndex.from_tuples([("a", 0.5), ("a", 1.0), ("a", 1e9)]))
    assert list(quality(far).coverage.columns) == [0.5, 1.0, 1e9]


def test_what_is_no_panel_is_refused():
    panel = smooth()
    for said, bad in {
        "not indexed": panel.reset_index(), "twice. Keep": pd.concat([panel, panel.iloc[:1]]),
        "not numbers": panel.rename(index=str, level=1), "column 'x' twice": pd.concat([panel, panel], axis=1),
    }.items():
        with pytest.raises(DataError, match=said):
            quality(bad)
    with pytest.raises(DataError, match="not indexed"):
        quality(datasets.load("nation_bounds"))


def test_the_heat_map_has_one_row_per_variable_and_one_cell_per_year():
    found = quality(smooth().query("time != 2005"))
    figure = coverage_figure(found)
    ax, bar = figure.axes
    assert figure.get_size_inches()[0] == pytest.approx(6.3)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "z"] and ax.get_xlabel() == "year"
    assert bar.get_ylabel() == "entities with a value (percent)"
    cells = ax.collections[0].get_array()
    assert cells.shape == (2, 12) and np.ma.getmaskarray(cells)[0].tolist() == [year == 2005 for year in TIMES]
    assert ax.get_xlim() == (1999.5, 2011.5)


def test_what_no_page_holds_is_refused():
    panel = smooth()
    with pytest.raises(ReportError, match="nothing to draw"):
        coverage_figure(quality(panel[[]]))
    with pytest.raises(ReportError, match="121 variables"):
        coverage_figure(quality(pd.DataFrame(1.0, index=panel.index, columns=[f"v{i}" for i in range(121)])))
