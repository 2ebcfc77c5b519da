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
