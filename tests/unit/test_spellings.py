"""Unusual spellings of both languages: each means what its language says, or is refused in one line that says why."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

import villageflow as vf
from villageflow.errors import LoweringError, ModelFileError, UnsupportedError, VillageflowError

CONTROLS = "INITIAL TIME = 0 ~~|\nFINAL TIME = 6 ~~|\nTIME STEP = 1 ~~|\nSAVEPER = 1 ~~|\n"
XMILE = """<?xml version="1.0" encoding="utf-8"?>
<xmile version="1.0" xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0"><header><vendor>v</vendor></header>
<sim_specs>{specs}</sim_specs>
<dimensions><dim name="A"><elem name="x"/><elem name="y"/><elem name="z"/></dim><dim name="B" size="2"/></dimensions>
<model><variables>{variables}</variables></model></xmile>
"""
SPECS = "<start>0</start><stop>6</stop><dt>1</dt>"
FLOW = '<stock name="s"><eqn>10</eqn><outflow>f</outflow>{}</stock><flow name="f"><eqn>4</eqn>{}</flow>'


@pytest.fixture
def vensim(tmp_path):
    def read(equations: str) -> vf.ir.model.Model:
        path = tmp_path / "m.mdl"
        path.write_bytes(("{UTF-8}\n" + equations + CONTROLS).encode())
        return vf.read_model(path)

    return read


@pytest.fixture
def xmile(tmp_path):
    def read(variables: str, specs: str = SPECS) -> vf.ir.model.Model:
        path = tmp_path / "m.xmile"
        path.write_text(XMILE.format(variables=variables, specs=specs))
        return vf.read_model(path)

    return read


def values(model, name: str = "y") -> list[float]:
    return vf.simulate(model, save=[name])[name].values[0].tolist()


def aux(equation: str, name: str = "y") -> str:
    return f'<aux name="{name}"><eqn>{equation}</eqn></aux>'


def refused(read, text, error: type[VillageflowError], match: str, **options) -> None:
    with pytest.raises(error, match=match) as caught:
        read(text, **options)
    assert len(str(caught.value).splitlines()) == 1


# -------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("equations", "match"),
    [
        ("D: A1, A2 ~~|\nE: B1, B2 ~~|\nx[D] = Time ~~|\nd[E] = Time ~~|\n", "line 5: 'd' has the name of a dimension"),
        ("x: A1, A2 ~~|\nx[x] = Time ~~|\n", "'x' has the name of a dimension"),
        ("time: A1, A2 ~~|\nx[time] = Time ~~|\n", "dimension 'time' has the name of the clock"),
    ],
)
def test_a_dimension_shares_its_name_with_nothing(vensim, equations, match):
    """In results the coordinates of the dimension would stand in the variable's place."""
    refused(vensim, equations, LoweringError, match)


def test_a_slash_between_variables_that_is_a_name_too_is_not_guessed(vensim):
    refused(
        vensim, "a/b = Time ~~|\na = 2 ~~|\nb = 3 ~~|\ny = a/b ~~|\n", ModelFileError,
        "'a/b' may be a name or a quotient; put quotes around the name",
    )
    assert values(vensim('"a/b" = Time ~~|\na = 2 ~~|\nb = 4 ~~|\ny = a/b + 0*Time ~~|\n')) == [0.5] * 7


def test_composed_and_decomposed_letters_are_the_same_name(vensim):
    name = "Café"
    equations = f"{unicodedata.normalize('NFD', name)} = Time ~~|\ny = {unicodedata.normalize('NFC', name)} ~~|\n"
    assert values(vensim(equations)) == [0, 1, 2, 3, 4, 5, 6]


def test_a_line_that_ends_in_a_carriage_return_alone_counts(tmp_path):
    path = tmp_path / "m.mdl"
    path.write_bytes(("{UTF-8}\nx = 1 + \\\n\t2 ~~|\ny = bb ~~|\n" + CONTROLS).replace("\n", "\r").encode())
    with pytest.raises(LoweringError, match="line 4: 'y' refers to 'bb'"):
        vf.read_model(path)


# ------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("rows", ["1,2;3,4;5,6;", "1,2;3,4;5,6"])
def test_rows_of_numbers_are_as_long_as_the_last_dimension(vensim, xmile, rows):
    equations = f"D: A1, A2 ~~|\nE: B1, B2, B3 ~~|\nx[D,E] = {rows} ~~|\n"
    refused(vensim, equations, ModelFileError, "line 4: 'x' has rows of 2 numbers; .* 3 elements")
    dimensions = '<dimensions><dim name="B"/><dim name="A"/></dimensions>'
    array = f'<aux name="v">{dimensions}<eqn>{rows}</eqn></aux>'
    refused(xmile, array, ModelFileError, "'v' has rows of 2 numbers; .* 3 elements")


def test_a_number_counts_elements_though_another_dimension_has_one_of_that_name(xmile):
    array = '<aux name="v"><dimensions><dim name="A"/></dimensions><eqn>A + TIME</eqn></aux>'
    assert values(xmile(array + aux("v[2]"))) == [2, 3, 4, 5, 6, 7, 8]


def test_a_dimension_has_as_many_names_as_its_size_says(xmile, tmp_path):
    xmile(aux("TIME"))
    path = tmp_path / "m.xmile"
    path.write_text(path.read_text().replace('name="A"', 'name="A" size="2"'))
    with pytest.raises(ModelFileError, match="line 4: dimension 'A' has the size '2' and 3 names"):
        vf.read_model(path)


# -------------------------------------------------------------------------------------- macros, data


@pytest.mark.parametrize(
    ("macros", "match"),
    [
        (":MACRO: F(a)\nF = a ~~|\n:END OF MACRO:\n" * 2, "macro 'F' is defined twice"),
        (":MACRO: SMOOTH(a)\nSMOOTH = a ~~|\n:END OF MACRO:\n", "macro 'SMOOTH' has the name of a function"),
        (":MACRO: min(a, b)\nmin = a ~~|\n:END OF MACRO:\n", "macro 'min' has the name of a function"),
        (":MACRO: SUM(a)\nSUM = a ~~|\n:END OF MACRO:\n", "macro 'SUM' has the name of a function"),
    ],
)
def test_a_macro_has_a_name_of_its_own(vensim, macros, match):
    refused(vensim, f"{macros}y = F(Time) ~~|\n", VillageflowError, match)


def test_a_macro_begins_where_an_equation_could(vensim):
    macro = ":MACRO: F(a)\nF = a ~ m ~ not the :END OF MACRO: yet |\n:END OF MACRO:\n"
    assert values(vensim(macro + "y = F(Time) ~ m ~ see the :MACRO: above |\n")) == [0, 1, 2, 3, 4, 5, 6]


DATA = "GET DATA BETWEEN TIMES(q, Time, 0)"


@pytest.mark.parametrize(
    "q",
    ["q((0,0),(4,4)) ~~|\n", "q = WITH LOOKUP(Time, ((0,0),(4,4))) ~~|\n",
     "q = WITH LOOKUP(2 * Time, ((0,0),(4,4))) ~~|\n"],
)
def test_functions_of_data_take_data_variables_alone(vensim, q):
    refused(vensim, f"{q}y = {DATA} ~~|\n", LoweringError, "'y' calls 'get_data_between_times' .* not a data variable")


def test_functions_of_data_take_every_kind_of_data_variable(tmp_path):
    (tmp_path / "s.csv").write_text('Time,q,"r[a1]","r[a2]"\n0,0,1,2\n6,12,7,14\n')
    path = tmp_path / "m.mdl"
    path.write_text(
        "D: a1, a2 ~~|\nq ~~|\nr[D] ~~|\ng := GET DIRECT DATA('s.csv', ',', 'A', 'B2') ~~|\n"
        "y = GET DATA BETWEEN TIMES(q, Time, 0) + GET DATA BETWEEN TIMES(g, Time, 0) ~~|\n"
        "z[D] = GET DATA LAST TIME(r[D]) + GET DATA BETWEEN TIMES(r[D], 0, 0) + 0 * Time ~~|\n" + CONTROLS
    )
    model = vf.read_model(path, data_files=[tmp_path / "s.csv"])
    assert values(model) == [0, 4, 8, 12, 16, 20, 24]
    assert values(model, "z")[0] == [7, 8]


def test_in_vensim_a_table_function_takes_a_lookup_alone(vensim):
    equations = "q = WITH LOOKUP(Time, ((0,0),(4,4))) ~~|\ny = LOOKUP EXTRAPOLATE(q, Time) ~~|\n"
    refused(vensim, equations, LoweringError, "'lookup_extrapolate' with a first argument that is not a lookup")


@pytest.mark.parametrize(
    ("equations", "error", "match"),
    [
        ("f((0,0),(2,4)) ~~|\ny = LOOKUP INVERT(f, 2) ~~|\n", UnsupportedError, "the function 'lookup_invert', which"),
        ("y = GET VDF DATA('a', 'b', 1) ~~|\n", UnsupportedError, "the function 'get_vdf_data', .*the text 'a'"),
        ("D: GET XLS SUBSCRIPT('a.xlsx', 's', 'A1', 'B1', '') ~~|\n", ModelFileError, r"m\.mdl: 'D': a\.xlsx does not"),
    ],
)
def test_a_refusal_names_the_function_and_the_place(vensim, equations, error, match):
    refused(vensim, equations, error, match)


# -------------------------------------------------------------------------------------------- XMILE


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("{one} 1 + {two} TIME", [1, 2, 3]), ("if TIME &gt; 1 then 1 else 0", [0, 0, 1]), ("TIME MOD 2", [0, 1, 0]),
        ('"a {b}" + 1', [3, 4, 5]), ("If {never} TIME = 1 Then 5 Else TIME Mod 2", [0, 5, 0]),
    ],
)
def test_case_and_comments_do_not_count_in_xmile(xmile, equation, expected):
    assert values(xmile(aux(equation) + aux("2 + TIME", "a {b}")))[:3] == expected


def test_a_comment_alone_is_no_equation(xmile):
    refused(xmile, aux("{ Place the right hand side here... }"), ModelFileError, "cannot read the equation of 'y'")


@pytest.mark.parametrize(
    ("specs", "match"),
    [
        ("<start>0</start><stop>2</stop><dt reciprocal='1'>4</dt>", "reciprocal='1'; write true or false"),
        ("<start>0</start><stop>2</stop><dt>1</dt><dt>0.5</dt>", "sim_specs has 2 <dt>; state it once"),
        ("<stop>2</stop><dt>1</dt>", "sim_specs has no <start>; state it"),
    ],
)
def test_run_specs_are_read_in_one_way(xmile, specs, match):
    refused(xmile, aux("TIME"), ModelFileError, match, specs=specs)


@pytest.mark.parametrize(("inside", "last"), [("", 0), ("true", 0), (" TRUE ", 0), ("false", -14)])
def test_non_negative_is_true_or_false(xmile, inside, last):
    assert values(xmile(FLOW.format(f"<non_negative>{inside}</non_negative>", "")), "s")[-1] == last


@pytest.mark.parametrize(
    ("variables", "error", "match"),
    [
        (FLOW.format("<non_negative>0</non_negative>", ""), ModelFileError, "<non_negative> holds '0'; write true or"),
        (FLOW.format("", "<multiplier>2</multiplier>"), UnsupportedError, "'f' uses flows that convert units"),
        (FLOW.format("", "<leak/>"), UnsupportedError, "'f' uses leaks"),
        ('<agent name="q"><eqn>3</eqn></agent>' + aux("TIME"), UnsupportedError, "'q' is of the kind <agent>"),
    ],
)
def test_what_would_change_a_number_is_not_passed_over(xmile, variables, error, match):
    refused(xmile, variables, error, match)


def test_groups_and_elements_of_other_makers_are_passed_over(xmile):
    group = '<group name="g"><doc>text</doc></group><q:agent xmlns:q="urn:maker" name="q"/>'
    np.testing.assert_array_equal(values(xmile(group + aux("TIME"))), range(7))
