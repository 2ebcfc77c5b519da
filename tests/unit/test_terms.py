"""The formula language: what it means, against plain pandas, and what it refuses, with the place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from villageflow.datasets.terms import Formula, columns_of, evaluate, parse_formula, unit_of
from villageflow.errors import EstimationError
from villageflow.units import product_unit


def frame(times=(2010, 2011, 2012), entities=("a", "b"), **columns):
    index = pd.MultiIndex.from_product([entities, times], names=["entity", "time"])
    return pd.DataFrame(columns, index=index)


@pytest.fixture
def panel():
    found = frame(
        x=[1.0, 2.0, 4.0, 8.0, 16.0, 32.0], n=pd.array([0, 1, 2, 3, None, 5], dtype="Int64"),
        text=["1.5", "2", " ", "4", None, "1e3"], word=list("pqrstu"), **{"村.数": 3.0, "odd + name": 7.0},
    )
    found.attrs = {"units": {"x": "Myuan/year", "n": "person", "text": "person", "村.数": "Person*year"}}
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ x + z", Formula("y", ("x", "z"))),
        ("y ~ 1", Formula("y", ())),
        ("y ~ [a ~ b]", Formula("y", (), ("a",), ("b",))),
        ("y ~ 1 + [a ~ b + c]", Formula("y", (), ("a",), ("b", "c"))),
        ("d(y) ~ log1p(a + b) + [lag(c, 2) + e ~ f*g + `h ~ [i`]",
         Formula("d(y)", ("log1p(a + b)",), ("lag(c, 2)", "e"), ("f*g", "`h ~ [i`"))),
    ],
)
def test_formulas_are_read(text, expected):
    assert parse_formula(text) == expected


BAD_FORMULAS = {
    "y x": "exactly one '~'", "y ~ x ~ z": "exactly one '~'", "y ~ x +": "blank term", "~ x": "blank term",
    "y ~ x + x": "'x' twice. Drop", "y ~ lag(x) + lag( x )": "twice", "y ~ y": "'y' twice, as outcome and as regressor",
    "y ~ x + [x ~ z]": "'x' twice, as regressor and as endogenous", "y ~ x + [a ~ x]": "as regressor and as instrument",
    "y ~ [a ~ a]": "as endogenous term and as instrument", "y ~ [a ~ b": "lacks a ']'", "y ~ a ~ b]": "closes nothing",
    "y ~ [a ~ b)]": "closes nothing", "y ~ [a]": "one '~' in its bracket",
    "y ~ [a ~ b] + [c ~ d]": "more than one bracket",
    "[y ~ x]": "exactly one '~'", "y ~ x [a ~ b]": "'\\+' before the bracket", "y ~ 1 + x": "'1', which means no",
    "y ~ x - z": "'-' at character 3", "y ~ x z": "'z' at character 3", "y ~ log(x)": r"Use ln\(x\)", "": "exactly one",
}


@pytest.mark.parametrize("text", BAD_FORMULAS)
def test_formulas_that_cannot_be_meant_are_refused(text):
    with pytest.raises(EstimationError, match=BAD_FORMULAS[text]):
        parse_formula(text)


def test_fewer_instruments_than_endogenous_terms_are_left_to_the_estimator():
    assert parse_formula("y ~ [a + b ~ c]").instruments == ("c",)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("x", [1, 2, 4, 8, 16, 32]), ("x*x", [1, 4, 16, 64, 256, 1024]), ("8/x/2*x", [4] * 6),
        ("8 / (x * 2)", 4 / np.array(
            [1, 2, 4, 8, 16, 32])), ("(x - x*2 + 1e-1)", [-0.9, -1.9, -3.9, -7.9, -15.9, -31.9]),
        ("ln(x/(x+x))", [np.log(0.5)] * 6), ("log1p(n)", np.log1p([0, 1, 2, 3, np.nan, 5])),
        ("lag(x, 2)", [np.nan, np.nan, 1, np.nan, np.nan, 8]), ("lead(x)", [2, 4, np.nan, 16, 32, np.nan]),
        ("d(x, 2)", [np.nan, np.nan, 3, np.nan, np.nan, 24]), ("mean(n)", [1, 1, 1, 4, 4, 4]),
        ("x - mean(x)", None), ("exp(ln(x))", [1, 2, 4, 8, 16, 32]), ("text", [1.5, 2, np.nan, 4, np.nan, 1000]),
        ("村.数", [3] * 6), ("`odd + name`", [7] * 6), ("`x`", [1, 2, 4, 8, 16, 32]), (".5", [0.5] * 6),
    ],
)
def test_terms_by_hand(panel, term, expected):
    if expected is None:
        with pytest.raises(EstimationError, match="put a sum in parentheses"):
            evaluate(term, panel)
        return
    found = evaluate(term, panel)
    assert found.dtype == "float64" and found.index.equals(panel.index)
    assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("kind", ["int64", "float64", "int16"])
def test_lags_go_by_calendar_time_whatever_the_order_of_rows(kind):
    index = pd.MultiIndex.from_arrays([list("babaa"), np.array([2011, 2010, 2010, 2013, 2011], dtype=kind)])
    panel = pd.DataFrame({"x": [16.0, 1.0, 8.0, 4.0, 2.0]}, index=index)
    assert_allclose(evaluate("lag(x)", panel), [8, np.nan, np.nan, np.nan, 1])
    assert_allclose(evaluate("lag(x, 2)", panel), [np.nan, np.nan, np.nan, 2, np.nan])
    assert_allclose(evaluate("lead(lag(x))", panel), [np.nan, 1, 8, np.nan, np.nan])


def test_times_may_be_fractions():
    panel = frame(times=(0.1, 0.6, 1.1), entities=("a",), x=[1.0, 2.0, 3.0])
    assert_allclose(evaluate("lag(x)", panel), [np.nan, np.nan, 1])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.data(),
)
def test_terms_equal_plain_pandas_on_balanced_panels(n_entities, n_times, k, data):
    number = st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6))
    x, z = (data.draw(st.lists(number, min_size=n_entities * n_times, max_size=n_entities * n_times)) for _ in "xz")
    panel = frame(times=range(2000, 2000 + n_times), entities=range(n_entities), x=x, z=z)
    groups = panel.groupby(level=0)
    assert_array_equal(evaluate(f"lag(x, {k})", panel), groups["x"].shift(k))
    assert_array_equal(evaluate(f"lead(x, {k})", panel), groups["x"].shift(-k))
    assert_array_equal(evaluate(f"d(x, {k})", panel), groups["x"].diff(k))
    assert_allclose(evaluate("mean(x)", panel), groups["x"].transform("mean"), rtol=1e-12, atol=1e-9)
    product = panel["x"] * panel["z"]
    assert_array_equal(evaluate("lag(x * z)", panel), product.groupby(level=0).shift(1))
    assert_array_equal(evaluate("(x - z * 2)", panel), panel["x"] - panel["z"] * 2)


DEEP = 10_000
BAD_TERMS = {
    "xx": "'xx' is not in the panel. Did you mean 'x'",
    "word": "'word' is not numeric: 'p' for a at 2010, .* 6 rows in all",
    "log(x)": r"Transform 'log' is not known. Use ln\(x\)", "lgo1p(x)": "Did you mean 'log1p'",
    "ln(n)": r"ln\(n\) is not defined for a at 2010 \(0\)",
    "ln((x - 5))": "a at 2010 .-4., a at 2011 .-3., a at 2012 .-1",
    "ln(0*x)": "and so on, 6 rows in all", "log1p((n - 1))": "log1p.* is not defined for a at 2010",
    "x/n": r"n is a divisor and zero for a at 2010 \(0\)", "exp(x*100)": r"exp\(x\*100\) is too large for b at 2010",
    "lag(x, 0)": "whole number of periods from 1", "lag(x, 1.5)": "whole number", "lag(x, n)": "whole number",
    "lag(x, 9999999999)": "whole number", "ln(x, 2)": "ln takes one argument", "lag()": r"'\)' at character 5",
    "": "is blank", "  ": "is blank", "(": "ends too early", "(x": r"lacks a '\)'", "x)": r"'\)' at character 2",
    "x *": "ends too early", "* x": r"'\*' at character 1", "x + 1": "put a sum in parentheses",
    "-x": "'-' at character 1",
    "`x": "'`' at character 1", "``": "character 1", "x; n": "';' at character 2", "__import__('os')": "character 12",
    "x.__class__": "'x.__class__' is not in the panel", "eval(x)": "Transform 'eval' is not known",
    "1e999": "too large",
    "x\n~ n": "'~' at character 3", "[x]": "character 1",
    "(" * DEEP + "x" + ")" * DEEP: "nested more than 50 deep", "lag(" * DEEP: "nested more than 50 deep",
    "9" * 50_000 + "x": "is not in the panel",
}


@pytest.mark.parametrize("term", BAD_TERMS, ids=lambda text: repr(text[:20]))
def test_bad_terms_are_refused_with_the_place_in_one_short_line(panel, term):
    with pytest.raises(EstimationError, match=BAD_TERMS[term]) as caught:
        evaluate(term, panel)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_long_product_needs_no_depth(panel):
    assert_allclose(evaluate("*".join(["x"] + ["1"] * 5000), panel), panel["x"])


def test_panels_that_cannot_be_read_are_refused(panel):
    cases = {
        "not indexed": panel.reset_index(), "a at 2010 twice": pd.concat([panel, panel.iloc[:1]]),
        "not numbers": panel.rename(index=str, level=1), "'x' is in the panel 2 times": pd.concat(
            [panel, panel[["x"]]], axis=1),
    }
    for said, bad in cases.items():
        with pytest.raises(EstimationError, match=said):
            evaluate("x", bad)
    dated = panel.assign(x=pd.Timestamp("2020-01-01"))
    with pytest.raises(EstimationError, match="'x' is not numeric: Timestamp"):
        evaluate("x", dated)


@pytest.mark.parametrize(
    ("term", "unit"),
    [
        ("x", "Myuan/year"), ("x/n", "Myuan/(person*year)"), ("1e6 * x / n", "Myuan/(person*year)"),
        ("x*村.数/n", "Myuan"), ("n/n", "1"), ("1/n", "1/person"), ("x*x", "Myuan^2/year^2"),
        ("d(lag(x), 2)", "Myuan/year"),
        ("mean(n)", "person"), ("ln(x)", "1"), ("exp(word)", "1"), ("(n + text)", "person"), ("word", ""),
        ("x*word", ""),
        ("(n + word)", ""), ("2", "1"), ("ln(n/(n + text))", "1"),
    ],
)
def test_units_follow_the_term(panel, term, unit):
    assert unit_of(term, panel) == unit


def test_sums_of_different_units_and_unknown_columns_have_no_unit(panel):
    with pytest.raises(EstimationError, match="sum of 'person' and 'Myuan/year'"):
        unit_of("(n + x)", panel)
    with pytest.raises(EstimationError, match="'xx' is not in the panel"):
        unit_of("ln(xx)", panel)
    bare = panel.copy()
    bare.attrs = {}
    assert unit_of("x / n", bare) == ""


@pytest.mark.parametrize(
    ("factors", "unit"),
    [
        ([("Myuan/year", 1), ("person", -1)], "Myuan/(person*year)"), ([("village", 1), ("Village", -1)], "1"),
        ([("kWh/year", 1), ("Year", 1)], "kWh"), ([("km^2", 1), ("s", -2)], "km^2/s^2"), ([("a", -1)], "1/a"),
        ([("b", 1), ("a", 1)], "a*b"), ([], "1"), ([("dmnl", 1), ("1", -1)], "1"),
    ],
)
def test_units_are_written_in_their_own_spelling_and_one_order(factors, unit):
    assert product_unit(factors) == unit


def test_columns_of_a_term_are_listed_once():
    assert columns_of("ln(b/(a + b)) * `c d`") == ("b", "a", "c d")


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ("x:z", "write a product as x\\*z"), ("x**2", "write a power as x\\*x"), ("x^2", "x\\*x"),
        ("C(kind)", "effects=\\('kind',\\)"),
    ],
)
def test_what_other_formula_languages_write_is_pointed_to_what_is_written_here(term, said):
    with pytest.raises(EstimationError, match=said):
        parse_formula(f"y ~ {term}")
