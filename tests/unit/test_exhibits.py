"""The paper's numbers and tables, against cases that can be told by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import villageflow as vf
from villageflow.analysis.policy import compare_policies
from villageflow.calibrate.facts import read_facts
from villageflow.report import exhibits

YEARS = np.arange(2006.0, 2012.0)


def paths(*rows: list[float]) -> xr.DataArray:
    return xr.DataArray(np.array(rows), dims=("member", "time"), coords={"time": YEARS})


def test_squeeze_counts_members_in_which_profit_peaks_first() -> None:
    runs = xr.Dataset({
        "profit_agent": paths([1, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 4], [9, 8, 7, 6, 5, 4]),
        "village_revenue": paths([1, 2, 3, 4, 5, 4], [5, 4, 3, 2, 1, 0], [1, 2, 3, 2, 1, 0]),
    })
    found = exhibits.squeeze_numbers(runs)
    assert found["squeeze.share_of_members"] == pytest.approx(2 / 3)
    assert found["squeeze.profit_peak_year.median"] == 2007
    assert found["squeeze.revenue_peak_year.median"] == 2008
    assert found["squeeze.years_between.median"] == 2


def policy_runs() -> xr.Dataset:
    base = np.arange(1.0, 102.0)[None, :, None] * np.ones((1, 1, 2))
    values = np.concatenate([base, base + 10.0, base - 1.0])
    dims = ("scenario", "member", "time")
    return xr.Dataset(
        {"stores": (dims, values), "status": (dims[:2], np.full((3, 101), -1))},
        coords={"scenario": ["baseline", "more", "less"], "time": [2016.0, 2030.0]},
    )


def test_policy_numbers_are_paired() -> None:
    found = exhibits.policy_numbers(compare_policies(policy_runs()), ["stores"], [2030.0])
    assert found["policy.n_members"] == 101
    assert found["policy.baseline.stores.2030.median"] == pytest.approx(51)
    assert found["policy.more.stores.2030.gain_mean"] == pytest.approx(10)
    assert found["policy.more.stores.2030.gain_mean_std_error"] == pytest.approx(0, abs=1e-9)
    assert found["policy.less.stores.2030.share_above_baseline"] == 0
    assert "policy.baseline.stores.2030.gain_mean" not in found


def test_policy_table_has_a_row_for_each_scenario() -> None:
    table = exhibits.policy_table(compare_policies(policy_runs()), {"stores": ("stores (10)", 10.0)}, 2030.0)
    lines = table.splitlines()
    assert lines[0].startswith("| scenario | stores (10)")
    assert "5.10 (" in lines[2]
    assert len(lines) == 5


@pytest.fixture(scope="module")
def match():
    village = vf.library.read("village_cluster")
    facts = read_facts(vf.library.path("village_cluster") / "facts.csv", village)
    return vf.history_match(village, vf.Design.lhs(vf.library.priors("village_cluster"), n=1000, seed=3), facts)


def test_history_numbers_agree_with_the_match(match) -> None:
    found = exhibits.history_numbers(match)
    assert found["history.n_survivors"] == int(match.survives.sum()) > 0
    conditions = match.by_fact.query("use == 'condition'")
    assert found["history.most_excluding"] == conditions["alone"].idxmax()
    assert found["history.most_excluding_share"] == conditions["alone"].max()
    assert 0 < found["history.most_learned_ratio"] < 1


def test_facts_table_lists_every_fact(match) -> None:
    table = exhibits.facts_table(match)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == list(match.by_fact.index)


@pytest.mark.parametrize(
    ("value", "text"), [(182549.3, "182,549"), (2.5551, "2.555"), (0.024014, "0.02401"), (2e6, "2e+06"), (0.0, "0"),
                        (np.nan, "")]
)
def test_digits(value: float, text: str) -> None:
    assert exhibits._digits(value) == text


def test_fit_table_says_what_a_bound_holds() -> None:
    class Result:
        params = pd.Series({"a": 1.0, "b_c": 2.0})
        std_errors = pd.Series({"a": 0.5, "b_c": np.nan})
        at_bound = ("b_c",)
        transformed = pd.DataFrame({"lower": [0.0, 0.0], "upper": [2.0, 2.0]}, index=["a", "b_c"])

    lines = exhibits.fit_table(Result()).splitlines()  # type: ignore[arg-type]
    assert "at bound" not in lines[2]
    assert lines[3].startswith("| b c")
    assert "at bound" in lines[3]


def test_a_largest_value_at_the_edge_is_no_peak() -> None:
    runs = xr.Dataset({
        "profit_agent": paths([9, 5, 4, 3, 2, 1], [1, 2, 3, 2, 1, 0], [1, 2, 3, 4, 3, 2]),
        "village_revenue": paths([1, 2, 3, 4, 5, 4], [1, 2, 3, 4, 3, 2], [1, 2, 3, 2, 1, 0]),
    })
    found = exhibits.squeeze_numbers(runs)
    assert found["squeeze.share_peak_at_start"] == pytest.approx(1 / 3)
    assert found["squeeze.share_rising"] == pytest.approx(2 / 3)
    assert found["squeeze.share_first_of_rising"] == pytest.approx(1 / 2)


def test_contest_takes_its_share_member_by_member() -> None:
    without = paths([1, 4, 3, 2, 1, 1], [2, 8, 6, 4, 2, 2], [0, -1, -1, -1, -1, -1])
    with_contest = paths([1, 2, 1, 1, 1, 1], [2, 2, 3, 1, 1, 1], [0, -2, -2, -2, -2, -2])
    revenue = paths(*[[1, 2, 3, 4, 3, 2]] * 3)
    runs = xr.concat(
        [xr.Dataset({"profit_agent": profit, "village_revenue": revenue}) for profit in (with_contest, without)],
        dim=pd.Index(["contest", "no_contest"], name="scenario"),
    )
    found = exhibits.contest_numbers(runs, 2007.0)
    assert found["contest.share_earning"] == pytest.approx(2 / 3)
    assert found["contest.taken.median"] == pytest.approx(np.median([0.5, 0.75]))


def test_decline_counts_members() -> None:
    runs = xr.Dataset({
        "active_stores": paths([1, 5, 9, 9, 4, 0.5], [1, 2, 9, 9, 9, 8]),
        "profit_agent": paths([1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 3]),
        "profit_brand": paths([2, 2, 2, 2, 2, 2], [2, 2, 2, 2, 2, 2]),
    })
    found = exhibits.decline_numbers(runs, first=2008.0, last=2011.0)
    assert found["decline.share_under_one_store"] == 0.5
    assert found["decline.share_under_a_tenth_of_peak"] == 0.5
    assert found["decline.share_brand_below_agent"] == 0.5
    assert found["decline.stores_first.median"] == 9


def test_placebo_counts_what_lies_outside() -> None:
    index = pd.MultiIndex.from_tuples([("a", "b", "log1p(lag(villages))"), ("a", "b", "log1p(lag(elsewhere))")])
    placebo = pd.DataFrame(
        {"estimate": [1.0, 0.5], "placebo_mean": [1.1, 0.1], "lower": [0.9, 0.0], "upper": [1.2, 0.2],
         "share_below": [0.2, 1.0], "n_draws": [50, 50]}, index=index,
    )
    found = exhibits.placebo_numbers(placebo)
    assert (found["placebo.n_coefficients"], found["placebo.n_outside"], found["placebo.n_draws"]) == (2, 1, 50)
    table = exhibits.placebo_table(placebo).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == ["elsewhere", "own"]
