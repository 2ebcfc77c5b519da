"""History matching: a draw survives if it agrees with every fact, and the report says which facts decide."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate.facts import Fact, facts_of, read_facts, statistic_of
from villageflow.calibrate.history import history_match
from villageflow.errors import CalibrationError, DesignError

MODEL = """{UTF-8}
level = INTEG(inflow-outflow, 0) ~ thing ~|
inflow = first*second ~ thing/Year ~|
outflow = level*STEP(loss, 5) ~ thing/Year ~|
first = 2 ~ 1 ~|
second = 3 ~ thing/Year ~|
loss = 0 ~ 1/Year ~|
idle = 1 ~ 1 ~|
watched = idle ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 10 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 0.5 ~ Year ~|
"""
COLUMNS = ["fact_id", "variable", "statistic", "time", "to_time", "level", "lower", "upper", "tolerance", "scale"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tank.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def facts(*rows, **changes) -> pd.DataFrame:
    """Rows of (fact_id, variable, statistic, time, to_time, level, lower, upper, tolerance, scale)."""
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    table = table.assign(unit="thing", use="condition", datum=table["fact_id"], note="")
    return table.assign(**changes)


LEVEL_5 = ("A", "level", "value", 5, None, None, 20, 30, None, None)


def priors(n: int, seed: int = 1, **ranges) -> vf.Design:
    known = {"first": (1.0, 4.0), "second": (1.0, 4.0), "idle": (0.0, 1.0)} | ranges
    table = pd.DataFrame([
        {"name": name, "scale": "lin", "lower": low, "mode": (low + high) / 2, "upper": high, "distribution": "uniform"}
        for name, (low, high) in known.items()
    ])
    return vf.Design.lhs(table, n=n, seed=seed)


def test_the_survivors_are_those_that_agree_with_every_fact(model):
    design = priors(10_000)
    found = history_match(model, design, facts(LEVEL_5, ("B", "level", "change", 0, 2, None, None, 11.0, None, 1.0)))
    product = (design.table["first"] * design.table["second"]).to_numpy()
    expected = (5 * product >= 20) & (5 * product <= 30) & (2 * product <= 11.0)
    np.testing.assert_array_equal(found.survives, expected)
    assert found.share == expected.mean()
    row = found.by_fact.loc["A"]
    assert row["alone"] == np.mean((5 * product < 20) | (5 * product > 30))
    assert row["uniquely"] == np.mean(((5 * product < 20) | (5 * product > 30)) & (2 * product <= 11.0))
    inside = (5 * product >= 20) & (5 * product <= 30)
    assert found.by_fact.loc["B", "uniquely"] == np.mean(inside & (2 * product > 11.0))


def test_the_report_says_what_is_traded_off_and_what_is_untouched(model):
    found = history_match(model, priors(10_000), facts(LEVEL_5))
    verdicts = found.by_parameter["verdict"]
    assert "traded off against second (-0." in verdicts["first"]
    assert "traded off against first (-0." in verdicts["second"]
    assert verdicts["idle"] == "untouched"
    assert found.by_parameter.loc["idle", "spread_ratio"] == pytest.approx(1.0, abs=0.05)
    strongest = found.correlations.iloc[0]
    assert {strongest["first"], strongest["second"]} == {"first", "second"}
    assert strongest["rank_correlation"] < -0.8


def test_a_parameter_that_a_fact_moves_is_said_to_move(model):
    fact = ("A", "level", "value", 5, None, None, 45, None, None, 5.0)
    row = history_match(model, priors(10_000, second=(2.9, 3.1)), facts(fact)).by_parameter.loc["first"]
    assert row["retained_q05"] > 2.8
    assert row["shift"] > 0.8 and row["spread_ratio"] < 0.5
    assert "moved up" in row["verdict"] and "narrowed" in row["verdict"]


def test_verdicts_hold_against_chance(model):
    """A fact that keeps draws at random moves nothing: no verdict among forty trials."""
    for seed in range(40):
        design = priors(400, seed=seed)
        kept = facts(("A", "watched", "value", 5, None, None, None, 0.5, None, 1.0), unit="dmnl")
        found = history_match(model, design, kept)
        assert found.by_parameter.loc[["first", "second"], "verdict"].eq("untouched").all()


def test_nothing_retained_reports_how_far_each_fact_is(model):
    rows = facts(LEVEL_5, ("B", "level", "value", 10, None, None, 1000, 1100, None, None))
    found = history_match(model, priors(500), rows)
    assert found.n_retained == 0
    assert found.by_fact.loc["A", "least_implausible"] < 1
    closest = (1000 - found.statistics["B"].max()) / 50
    assert found.by_fact.loc["B", "least_implausible"] == pytest.approx(1 + closest)
    assert (found.by_parameter["verdict"] == "nothing retained").all()
    assert "Smallest implausibility by fact" in found.summary()
    with pytest.raises(CalibrationError, match=r"no draw survives. Smallest implausibility .*A 0\.\d+, B 1[0-9.]+"):
        found.retained()
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_retained_draws_run_again_as_a_design(model):
    found = history_match(model, priors(2000), facts(LEVEL_5))
    again = history_match(model, found.retained(), facts(LEVEL_5))
    assert again.share == 1.0
    assert found.retained().n_members == found.n_retained


def test_a_check_decides_nothing(model):
    alone = history_match(model, priors(2000), facts(LEVEL_5))
    rows = facts(LEVEL_5, ("B", "level", "value", 10, None, None, 1000, 1100, None, None), datum="A")
    both = history_match(model, priors(2000), rows.assign(use=["condition", "check"]))
    np.testing.assert_array_equal(alone.survives, both.survives)
    assert both.by_fact.loc["B", "agree"] == 0.0
    assert np.isnan(both.by_fact.loc["B", "uniquely"])


def test_a_run_that_fails_does_not_survive(tmp_path):
    path = tmp_path / "fails.mdl"
    path.write_text(MODEL.replace("first*second", "first*second+EXP(level*STEP(idle, 8))"))
    found = history_match(vf.read_model(path), priors(50, idle=(900.0, 1000.0)), facts(
        LEVEL_5, ("B", "level", "value", 10, None, None, None, 1e300, None, 1.0)))
    assert found.unfinished == 50 and found.n_retained == 0
    assert np.isinf(found.implausibility["B"]).all()


def test_the_same_design_gives_the_same_report(model):
    first, second = (history_match(model, priors(1000), facts(LEVEL_5)) for _ in range(2))
    assert first.to_dict() == second.to_dict()


@pytest.mark.parametrize(
    ("statistic", "span", "level", "expected"),
    [
        ("value", (5, None), None, 30.0),
        ("maximum", (0, 10), None, 30.0),
        ("minimum", (5, 10), None, 6 / 0.5 * (1 - 0.9375**40) + 30 * 0.9375**40),
        ("mean", (0, 5), None, 15.0),
        ("ratio", (2, 4), None, 2.0),
        ("change", (2, 4), None, 12.0),
        ("first_above", (0, 10), 13.5, 2.25),
        ("first_above", (0, 10), 31.0, np.inf),
        ("first_above", (3, 10), 6.0, 3.0),
    ],
)
def test_statistics_are_what_they_say(model, statistic, span, level, expected):
    run = vf.simulate(model, {"first": 2.0, "second": 3.0, "loss": 0.5}, save=["level"])
    (fact,) = facts_of(facts(("A", "level", statistic, *span, level, 0, 1, None, None)), model)
    assert statistic_of(fact, run)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("lower", "upper", "scale", "statistic", "expected"),
    [
        (20, 30, 5, 25, 0.0), (20, 30, 5, 30, 1.0), (20, 30, 5, 35, 2.0), (20, 30, 5, 15, 2.0),
        (20, np.inf, 4, 100, 0.0), (20, np.inf, 4, 20, 1.0), (20, np.inf, 4, 12, 3.0),
        (-np.inf, 30, 4, 38, 3.0), (-np.inf, 30, 4, np.inf, np.inf), (20, 30, 5, np.nan, np.inf),
    ],
)
def test_implausibility_is_one_at_the_bound(lower, upper, scale, statistic, expected):
    fact = Fact("A", "level", "value", 5, 5, np.nan, lower, upper, scale, "thing", True, ("A",), "")
    assert fact.implausibility(np.array([float(statistic)]))[0] == pytest.approx(expected)


def test_tolerance_widens_each_bound_by_its_share(model):
    (fact,) = facts_of(facts(("A", "level", "value", 5, None, None, 300, 400, 0.25, None)), model)
    assert (fact.lower, fact.upper, fact.scale) == (225.0, 500.0, 137.5)


def one(**changes):
    row = dict(zip(COLUMNS, LEVEL_5, strict=True)) | changes
    return facts(tuple(row[column] for column in COLUMNS))


BAD = {
    "an unknown variable": (one(variable="levle"), "Did you mean 'level'"),
    "a constant": (one(variable="first"), "no stock or auxiliary"),
    "an unknown statistic": (one(statistic="max"), "statistic 'max'"),
    "an unknown use": (facts(LEVEL_5, use="target"), "use is 'target'"),
    "no datum": (facts(LEVEL_5, datum=""), "names no datum"),
    "a span out of order": (one(statistic="mean", to_time=3), "in order"),
    "a change over no time": (one(statistic="change", to_time=5), "in order"),
    "no level": (one(statistic="first_above", to_time=8), "needs a level"),
    "no bound": (one(lower=None, upper=None), "give at least one"),
    "bounds out of order": (one(lower=40), "the lower first"),
    "an open range without scale": (one(upper=None), "needs a scale"),
    "a negative tolerance": (one(tolerance=-0.1), "cannot be negative"),
    "a word for a number": (one(lower="many"), "'many' is not a number"),
    "a time between saves": (one(time=5.2), "not a saved time"),
    "a time after the run": (one(time=11), "not a saved time"),
    "the same fact twice": (facts(LEVEL_5, LEVEL_5, use=["condition", "check"]), "two rows"),
    "one datum for two conditions": (
        facts(LEVEL_5, ("B", *LEVEL_5[1:]), datum=["S1+S2", "S2"]), "each datum enters once",
    ),
    "no condition": (facts(LEVEL_5, use="check"), "no row has use 'condition'"),
    "a missing column": (one().drop(columns="unit"), "column 'unit' is missing"),
    "two missing columns": (one().drop(columns=["unit", "use"]), "columns 'unit', 'use' are missing; the table needs"),
    "another unit": (one().assign(unit="thing/Year"), "is in 'thing/Year', model 'tank' has 'level' in 'thing'"),
    "another unit of a mean": (one(statistic="mean", to_time=6).assign(unit="kg"), "is in 'kg'"),
    "a blank unit": (one().assign(unit=" "), "fact 'A': has no unit; give that of the statistic"),
    "a missing unit": (one().assign(unit=None), "has no unit"),
    "no fact_id": (one().assign(fact_id=np.nan), "row 0 has no fact_id"),
    "a blank fact_id": (one(fact_id=" "), "row 0 has no fact_id"),
    "a span of a value": (one(to_time=8), "has the to_time 8, and value is read at one time; leave it blank"),
    "a date for a time": (one(time=pd.Timestamp("2016-01-01")), "is not a number"),
    "an unknown column": (one().assign(weight=1), "unknown column 'weight'"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_facts_give_one_clear_line(model, case):
    table, expected = BAD[case]
    with pytest.raises(CalibrationError, match=expected) as caught:
        history_match(model, priors(5), table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [{"unit": " Thing"}, {"to_time": 5}, {"statistic": "ratio", "to_time": 6, "unit": "dmnl"}]
)
def test_units_of_facts_are_compared_only_where_they_are_the_variables(model, given):
    assert facts_of(facts(LEVEL_5).assign(**given), model)


def test_a_match_shows_itself(model):
    found = history_match(model, priors(50), facts(LEVEL_5))
    assert repr(found).startswith(f"<villageflow.HistoryMatch: tank, {found.n_retained} of 50 draws")


def test_what_is_no_model_or_no_design_is_refused(model):
    with pytest.raises(DesignError, match="read the file first"):
        history_match("tank.mdl", priors(5), facts(LEVEL_5))
    with pytest.raises(CalibrationError, match="the design is a dict"):
        history_match(model, {"first": 1.0}, facts(LEVEL_5))


def test_a_design_with_scenarios_or_without_parameters_is_refused(model):
    with pytest.raises(CalibrationError, match="without scenarios"):
        history_match(model, priors(5).with_scenarios({"a": {"loss": 0.1}}), facts(LEVEL_5))
    with pytest.raises(CalibrationError, match="varies no parameter"):
        history_match(model, vf.Design(pd.DataFrame(index=range(3))), facts(LEVEL_5))


def test_the_facts_of_the_village_match_some_draws_and_enter_once():
    name = "village_cluster"
    model = vf.library.read(name)
    known = read_facts(vf.library.path(name) / "facts.csv", model)
    conditions = [fact.fact_id for fact in known if fact.condition]
    assert conditions == ["S1-18", "D-36", "S1-02", "D-13"]
    assert "S1-25" not in conditions  # a factor of 6-7 open
    recorded = set(vf.datasets.facts().index)
    assert {datum for fact in known if fact.condition for datum in fact.data} <= recorded
    found = history_match(model, vf.Design.lhs(vf.library.priors(name), n=2000, seed=1), known)
    assert 0.05 < found.share < 0.95
    assert found.unfinished == 0


@pytest.mark.parametrize("lower", [0.1, 0.3, 0.7, 1.1])
@pytest.mark.parametrize("width", [0.1, 0.2, 0.7])
def test_a_statistic_on_its_bound_agrees(lower, width):
    upper = lower + width
    fact = Fact("F", "x", "value", 0.0, 0.0, np.nan, lower, upper, width / 2, "1", True, ("F",), "")
    on_bounds = fact.implausibility(np.array([lower, upper, (lower + upper) / 2]))
    assert (on_bounds <= 1).all()
    assert on_bounds[2] == pytest.approx(0, abs=1e-9)
    assert fact.implausibility(np.array([upper + width / 2]))[0] == pytest.approx(2)
