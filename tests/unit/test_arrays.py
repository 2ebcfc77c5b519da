"""Arrays: what each way of writing one means, in Vensim's language and in XMILE's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import villageflow as vf
from villageflow.errors import DesignError, LoweringError, UnsupportedError
from villageflow.report.output import run_frame

CONTROLS = """
INITIAL TIME = 0 ~~|
FINAL TIME = 3 ~~|
TIME STEP = 1 ~~|
SAVEPER = 1 ~~|
"""
DIMENSIONS = """
d: a, b, c ~~|
e: p, q ~~|
sub: b, c ~~|
"""
XMILE = """<?xml version="1.0" encoding="utf-8"?>
<xmile xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0" version="1.0">
<sim_specs><start>0</start><stop>3</stop><dt>1</dt></sim_specs>
<dimensions><dim name="d"><elem name="a"/><elem name="b"/></dim><dim name="n" size="3"/></dimensions>
{macros}<model><variables>{variables}</variables></model></xmile>"""
OVER_D = '<dimensions><dim name="d"/></dimensions>'


@pytest.fixture
def mdl(tmp_path):
    def write(equations: str) -> vf.ir.model.Model:
        path = tmp_path / "arrays.mdl"
        path.write_text("{UTF-8}\n" + DIMENSIONS + equations + CONTROLS)
        return vf.read_model(path)

    return write


@pytest.fixture
def xmile(tmp_path):
    def write(variables: str, macros: str = ""):
        path = tmp_path / "arrays.xmile"
        path.write_text(XMILE.replace("{variables}", variables).replace("{macros}", macros))
        return vf.read_model(path)

    return write


def last(model, name: str) -> np.ndarray:
    """Values of a variable at the end of the run."""
    return vf.simulate(model, save=[name])[name].values[0, -1]


@pytest.mark.parametrize(
    ("equations", "expected"),
    [
        ("y[d] = 5 ~~|", [5, 5, 5]),
        ("y[d] = 1, 2, 3 ~~|", [1, 2, 3]),
        ("y[d, e] = 1, 2; 3, 4; 5, 6; ~~|", [[1, 2], [3, 4], [5, 6]]),
        ("y[d, e] = TABBED ARRAY(1 2\n 3 4\n 5 6) ~~|", [[1, 2], [3, 4], [5, 6]]),
        ("y[a] = 1 ~~|\ny[b] = 2 ~~|\ny[c] = 3 ~~|", [1, 2, 3]),
        ("y[a] = 1 ~~|\ny[sub] = 7, 8 ~~|", [1, 7, 8]),
        ("y[a, e] = 1, 2 ~~|\ny[sub, p] = 3 ~~|\ny[sub, q] = 4, 5 ~~|", [[1, 2], [3, 4], [3, 5]]),
        ("y[d] :EXCEPT: [b] = 1 ~~|\ny[b] = 2 ~~|", [1, 2, 1]),
        ("y[d, e] :EXCEPT: [sub, p], [a, q] = 1 ~~|\ny[sub, p] = 2 ~~|\ny[a, q] = 3 ~~|", [[1, 3], [2, 1], [2, 1]]),
        ("x[d] = 1, 2, 3 ~~|\ny[d] = 10 * x[d] + x[b] ~~|", [12, 22, 32]),
        ("x[d] = 1, 2, 3 ~~|\ny[d, e] = x[d] ~~|", [[1, 1], [2, 2], [3, 3]]),
        ("x[d, e] = 1, 2; 3, 4; 5, 6; ~~|\ny[e, d] = x[d, e] ~~|", [[1, 3, 5], [2, 4, 6]]),
        ("x[d] = 1, 2, 3 ~~|\ny[sub] = x[sub] ~~|", [2, 3]),
        ("x[d] = 1, 2, 3 ~~|\ny = SUM(x[d!]) + PROD(x[sub!]) ~~|", 12),
        ("x[d] = 3, 1, 2 ~~|\ny = 10 * VMIN(x[d!]) + VMAX(x[d!] * 2) ~~|", 16),
        ("x[d, e] = 1, 2; 3, 4; 5, 6; ~~|\ny[d] = SUM(x[d, e!]) ~~|", [3, 7, 11]),
        ("x[d, e] = 1, 2; 3, 4; 5, 6; ~~|\ny = SUM(x[d!, e!] * SUM(x[d!, p])) ~~|", 189),
        ("y = ELMCOUNT(d) + 10 * ELMCOUNT(sub) ~~|", 23),
        ("y[sub] = 2 * sub ~~|", [4, 6]),
        ("y[d] = IF THEN ELSE(d = b, 1, 0) ~~|", [0, 1, 0]),
        ("f[d]((0,0),(10,10)) ~~|\ny[d] = f[d](d) ~~|", [1, 2, 3]),
        ("f[a]((0,0),(1,1)) ~~|\nf[sub]((0,0),(1,5)) ~~|\ny[d] = f[d](1) ~~|", [1, 5, 5]),
        ("other: r, s, t -> d ~~|\nx[other] = 4, 5, 6 ~~|\ny[d] = x[other] ~~|", [4, 5, 6]),
        ("wide: r, s -> (d: a, sub) ~~|\nx[wide] = 4, 5 ~~|\ny[d] = x[wide] ~~|", [4, 5, 5]),
        ("again <-> d ~~|\nx[again] = 4, 5, 6 ~~|\ny[d] = x[d] - x[again] + again ~~|", [1, 2, 3]),
        ("before: a, b -> sub ~~|\nx[d] = 4, 5, 6 ~~|\ny[a] = 0 ~~|\ny[sub] = x[before] ~~|", [0, 4, 5]),
        ("long: (k1-k4) ~~|\ny[long] = long ~~|", [1, 2, 3, 4]),
        ("whole: z, d ~~|\ny[whole] = whole ~~|", [1, 2, 3, 4]),
        ("y[d] = INTEG(d, 10 * d) ~~|", [13, 26, 39]),
        ("y[d] = SMOOTH3I(d, 5, d) ~~|", [1, 2, 3]),
        ("y[d] = DELAY FIXED(d * Time, d, -1) ~~|", [2, 2, 0]),
        # a loop by name that is none by element
        ("y[a] = 1 ~~|\ny[b] = y[a] + 1 ~~|\ny[c] = y[b] + 1 ~~|", [1, 2, 3]),
    ],
)
def test_vensim(mdl, equations, expected):
    np.testing.assert_array_equal(last(mdl(equations), "y"), expected)


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("VECTOR SORT ORDER(x[d], 1)", [1, 2, 0]),
        ("VECTOR SORT ORDER(x[d], 0)", [0, 2, 1]),
        ("VECTOR RANK(x[d], 1)", [3, 1, 2]),
        ("VECTOR RANK(x[d], -1)", [1, 3, 2]),
        ("VECTOR REORDER(x[d], order[d])", [20, 30, 10]),
        ("VECTOR ELM MAP(x[b], d - 2)", [30, 10, 20]),
        ("VECTOR ELM MAP(x[a], 2.9)", [20, 20, 20]),
        ("VECTOR SELECT(pick[d!], x[d!], -1, 0, 0)", [110, 110, 110]),
        ("VECTOR SELECT(pick[d!], x[d!], -1, 6, 0)", [40, 40, 40]),
        ("VECTOR SELECT(pick[d!], x[d!], -1, 2, 0)", [30, 30, 30]),
        ("VECTOR SELECT(pick[d!], x[d!], -1, 10, 0)", [20, 20, 20]),
        ("VECTOR SELECT(pick[d!] * 0, x[d!], -1, 3, 0)", [-1, -1, -1]),
        ("VECTOR SELECT(pick[d!], x[d!], -1, d + 5, 0)", [40, 300, 10]),
    ],
)
def test_vector_functions(mdl, equation, expected):
    model = mdl(f"x[d] = 30, 10, 20 ~~|\norder[d] = 2, 0, 1 ~~|\npick[d] = 1, 8, 0 ~~|\ny[d] = {equation} ~~|")
    np.testing.assert_array_equal(last(model, "y"), expected)


def test_equal_values_keep_their_order(mdl):
    model = mdl("x[d] = 2, 2, 1 ~~|\nup[d] = VECTOR SORT ORDER(x[d], 1) ~~|\ndown[d] = VECTOR SORT ORDER(x[d], 0) ~~|")
    np.testing.assert_array_equal(last(model, "up"), [2, 0, 1])
    np.testing.assert_array_equal(last(model, "down"), [0, 1, 2])


def test_place_outside_of_a_vector_is_not_available(mdl):
    assert last(mdl("x[d] = 1, 2, 3 ~~|\ny = VECTOR ELM MAP(x[a], 3) ~~|"), "y") == -(2.0**109)


@pytest.mark.parametrize("action", [1, 3])
def test_selection_of_nothing_can_be_an_error(mdl, action):
    model = mdl(f"x[d] = 1, 2, 3 ~~|\ny = VECTOR SELECT(x[d!] * 0, x[d!], -1, 0, {action}) ~~|")
    ds = vf.simulate(model, save=["y"], errors="flag")
    assert np.isnan(ds["y"].values).all() and ds["status"].values[0] == 0


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_inverse_of_a_matrix(tmp_path, n):
    matrix = np.random.default_rng(n).normal(size=(n, n))
    matrix[0, 0] = 0.0 if n > 1 else matrix[0, 0]  # needs another pivot
    elements = ", ".join(f"i{k}" for k in range(n))
    rows = "; ".join(", ".join(repr(float(v)) for v in row) for row in matrix)
    path = tmp_path / "inverse.mdl"
    path.write_text(
        f"row: {elements} ~~|\ncolumn <-> row ~~|\nm[row, column] = {rows}{';' * (n > 1)} ~~|\n"
        f"y[row, column] = INVERT MATRIX(m[row, column], {n}) ~~|\n" + CONTROLS
    )
    np.testing.assert_allclose(last(vf.read_model(path), "y"), np.linalg.inv(matrix), rtol=1e-10, atol=1e-12)


def test_singular_matrix_is_a_failure(mdl):
    model = mdl("f <-> e ~~|\nm[e, f] = 1, 2; 2, 4; ~~|\ny[e, f] = INVERT MATRIX(m[e, f], 2) ~~|")
    assert vf.simulate(model, save=["y"], errors="flag")["status"].values[0] == 0


ALLOCATION = """
profile: kind, priority, width, extra ~~|
asked[d] = 6, 3, 10 ~~|
shape[a, profile] = 1, 4, 3, 0 ~~|
shape[b, profile] = {kind}, 3, 2, 0 ~~|
shape[c, profile] = {kind}, 2, 3, 0 ~~|
y[d] = ALLOCATE AVAILABLE(asked[d], shape[d, kind], {available}) ~~|
"""


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("available", [0, 1e-3, 2.25, 9, 18.999])
def test_allocation_takes_what_is_available(mdl, kind, available):
    got = last(mdl(ALLOCATION.replace("{kind}", str(kind)).replace("{available}", str(available))), "y")
    assert got.sum() == pytest.approx(available, rel=1e-12, abs=1e-12)
    assert (got >= 0).all() and (got <= [6, 3, 10]).all()


@pytest.mark.parametrize("available", [19, 50])
def test_allocation_gives_no_more_than_is_asked(mdl, available):
    got = last(mdl(ALLOCATION.replace("{kind}", "3").replace("{available}", str(available))), "y")
    np.testing.assert_array_equal(got, [6, 3, 10])


def test_allocation_of_rectangles_by_hand(mdl):
    # the first gets all until its price has fallen to 3.5, where a third of it is served; then two to one
    text = ALLOCATION.replace("shape[b, profile] = {kind}, 3, 2", "shape[b, profile] = 1, 3, 3")
    got = last(mdl(text.replace("{kind}", "1").replace("{available}", "2.3")), "y")
    np.testing.assert_allclose(got, [2.2, 0.1, 0.0], rtol=1e-14, atol=1e-14)


def test_allocation_by_priority_is_one_of_rectangles(mdl):
    model = mdl(
        "asked[d] = 10, 6, 3 ~~|\npriority[d] = 2, 4, 3 ~~|\n"
        "y[d] = ALLOCATE BY PRIORITY(asked[d], priority[d], ELMCOUNT(d), 3, 2.25) ~~|"
    )
    np.testing.assert_allclose(last(model, "y"), [0, 2 + 0.5 / 3, 0.25 / 3], rtol=1e-13)


@pytest.mark.parametrize(
    ("old", "new"), [("{kind}", "7"), ("{kind}, 3, 2", "1, 3, 0"), ("6, 3, 10", "6, -3, 10"), ("{kind}", "5")]
)
def test_allocation_that_has_no_meaning_is_a_failure(mdl, old, new):
    text = ALLOCATION.replace(old, new).replace("{kind}", "1").replace("{available}", "5")
    assert vf.simulate(mdl(text), save=["y"], errors="flag")["status"].values[0] == 0


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (f'<aux name="y">{OVER_D}<eqn>3</eqn></aux>', [3, 3]),
        (f'<aux name="x">{OVER_D}<eqn>4</eqn></aux><aux name="y">{OVER_D}<eqn>x + x[d]</eqn></aux>', [8, 8]),
        (
            f'<aux name="y">{OVER_D}<element subscript="a"><eqn>1</eqn></element>'
            '<element subscript="b"><eqn>2</eqn></element></aux>',
            [1, 2],
        ),
        (
            f'<stock name="y">{OVER_D}<element subscript="a"><eqn>1</eqn></element>'
            f'<element subscript="b"><eqn>2</eqn></element><inflow>f</inflow></stock>'
            f'<flow name="f">{OVER_D}<eqn>y</eqn></flow>',
            [8, 16],
        ),
        (
            f'<aux name="y">{OVER_D}<element subscript="a"><eqn>1</eqn><gf><xscale min="0" max="2"/>'
            '<ypts>0,5,9</ypts></gf></element><element subscript="b"><eqn>1</eqn><gf><xscale min="0" max="2"/>'
            "<ypts>0,7,9</ypts></gf></element></aux>",
            [5, 7],
        ),
        (
            f'<aux name="x">{OVER_D}<element subscript="a"><eqn>2</eqn></element><element subscript="b"><eqn>6</eqn>'
            '</element></aux><aux name="y"><eqn>SUM(x) + 100*SUM(x[*]) + MEAN(x[d]) + SIZE(x)</eqn></aux>',
            814,
        ),
        (
            '<aux name="x"><dimensions><dim name="n"/></dimensions><element subscript="1"><eqn>2</eqn></element>'
            '<element subscript="2"><eqn>6</eqn></element><element subscript="3"><eqn>7</eqn></element></aux>'
            '<aux name="y"><eqn>x[2] + 10*x[3] + MAX(x) + MIN(x)</eqn></aux>',
            85,
        ),
    ],
)
def test_xmile(xmile, variables, expected):
    np.testing.assert_array_equal(last(xmile(variables), "y"), expected)


# --------------------------------------------------------------------------------------------- results

GRID = "x[d, e] = 1, 2; 3, 4; 5, 6; ~ kg ~ Mass. |\ny[d] = INTEG(x[d, p], 0) ~~|\nz[a] = 1 + Time ~~|\nz[c] = 2 ~~|\n"


def test_results_carry_the_dimensions(mdl):
    ds = vf.simulate(mdl(GRID), save=["x", "y", "z", "X[b, Q]"])
    assert ds["x"].dims == ("member", "time", "d", "e")
    assert ds["d"].values.tolist() == ["a", "b", "c"]
    assert ds["x"].attrs["long_name"] == "x" and ds["x"].attrs["units"] == "kg"
    assert ds["x"].sel(d="c", e="p").values.tolist() == [[5.0] * 4]
    assert ds["x[b,q]"].values.tolist() == [[4.0] * 4]
    assert np.isnan(ds["z"].sel(d="b").values).all()
    assert ds["z"].sel(d="a").values.tolist() == [[1.0, 2.0, 3.0, 4.0]]
    assert ds["status"].values.tolist() == [-1]


def test_table_of_a_run_has_a_column_for_each_element(mdl):
    model = mdl(GRID)
    frame = run_frame(model, vf.simulate(model, save=["z", "x"]))
    assert list(frame) == ["time", "z[a]", "z[c]", *(f"x[{i},{j}]" for i in "abc" for j in "pq")]
    assert frame["x[b,q]"].tolist() == [4.0] * 4


def test_dimension_that_an_array_has_twice(mdl):
    ds = vf.simulate(mdl("x[a, d] = 1, 2, 3 ~~|\nx[b, d] = 4 ~~|\nx[c, d] = 5 ~~|\n"), save=["x"])
    assert ds["x"].dims == ("member", "time", "d", "d_2")
    assert ds["x"].sel(d="a", d_2="c").values[0, 0] == 3.0


def test_parameters_of_an_array(mdl):
    model = mdl("x[d] = 1, 2, 3 ~~|\ny[d] = 10 * x[d] ~~|")
    one = vf.simulate(model, {"X[B]": [7.0, 8.0]}, save=["y"])
    assert one["y"].values[:, 0].tolist() == [[10, 70, 30], [10, 80, 30]]
    assert one["x[b]"].values.tolist() == [7.0, 8.0]
    whole = vf.simulate(model, {"x": 4.0}, save=["y"])
    assert whole["y"].values[0, 0].tolist() == [40, 40, 40]
    with pytest.raises(DesignError, match=r"'x\[b\]' by the array and by the element"):
        vf.simulate(model, {"x": 4.0, "x[b]": 2.0})
    with pytest.raises(DesignError, match=r"no constant 'x\[z\]'"):
        vf.simulate(model, {"x[z]": 4.0})


def test_dimension_with_the_name_of_a_part_of_every_result(mdl):
    model = mdl("member: k, l ~~|\ny[member] = 1 + Time ~~|")
    with pytest.raises(DesignError, match="'member', as a part of every result"):
        vf.simulate(model)


def test_a_large_matrix_is_refused_by_name(mdl):
    big = "big: (k1-k33) ~~|\nbig2 <-> big ~~|\nm[big, big2] = 1 ~~|\n"
    with pytest.raises(UnsupportedError, match="a matrix of 33 rows"):
        mdl(big + "y[big, big2] = INVERT MATRIX(m[big, big2], 33) ~~|")


def test_faults_of_several_equations_come_together(mdl):
    with pytest.raises(LoweringError, match=r"2 faults.*'y'.*'nope'.*'z'.*'gone'"):
        mdl("x[d] = 1 ~~|\ny[d] = x[nope] ~~|\nz[d] = x[gone] ~~|")


# ---------------------------------------------------------------------------------------------- macros

MACRO = """
:MACRO: GROW(rate, start)
GROW = INTEG(change, start) ~~|
change = GROW * rate * scale ~~|
scale = 2 ~~|
:END OF MACRO:
"""


@pytest.mark.parametrize(
    ("equations", "expected"),
    [
        (MACRO + "y = GROW(0.5, 1) ~~|", 8),
        ("y = GROW(0.5, 1) ~~|" + MACRO, 8),
        (MACRO + "y = GROW(0.5, 1) + GROW(0, 3) ~~|", 11),
        (MACRO + "y = GROW(GROW(0, 1) / 2, 1) ~~|", 8),
        (MACRO + "y[d] = GROW(0.5 * d, d) ~~|", [8, 54, 192]),
        (MACRO + "y[a] = GROW(0.5, 1) ~~|\ny[sub] = 1 ~~|", [8, 1, 1]),
        (MACRO + "x[d] = 1, 2, 3 ~~|\ny[d] = GROW(0.5, x[d]) ~~|", [8, 16, 24]),
        (":MACRO: OUTER(a)\nOUTER = INNER(a) + 1 ~~|\n:END OF MACRO:\n"
         ":MACRO: INNER(a)\nINNER = a * 2 ~~|\n:END OF MACRO:\ny = OUTER(5) ~~|", 11),
        (":MACRO: STEPS(a)\nSTEPS = a * TIME STEP$ + k$ + Time$ ~~|\n:END OF MACRO:\nk = 10 ~~|\ny = STEPS(5) ~~|", 18),
        (":MACRO: BOTH(a : twice, thrice)\nBOTH = a ~~|\ntwice = 2 * a ~~|\nthrice = 3 * a ~~|\n:END OF MACRO:\n"
         "one = BOTH(5 : two, three) ~~|\ny = one + two + three ~~|", 30),
        (":MACRO: LOOK(table, x)\nLOOK = table(x) ~~|\n:END OF MACRO:\nf((0,0),(1,10)) ~~|\ny = LOOK(f, 0.5) ~~|", 5),
        (":MACRO: MY NAME(a)\nMY NAME = SMOOTH(a, 2) ~~|\n:END OF MACRO:\ny = 2 * my  name(3) ~~|", 6),
    ],
)
def test_macro(mdl, equations, expected):
    np.testing.assert_array_equal(last(mdl(equations), "y"), expected)


def test_what_a_macro_adds_is_not_a_variable_of_the_model(mdl):
    model = mdl(MACRO + "y = GROW(0.5, 1) ~~|")
    assert set(model.variables) == {"y", "initial_time", "final_time", "time_step", "saveper"}
    assert not [name for name in model.constants if name.startswith("#")]


@pytest.mark.parametrize("call", ["TWICE(3)", "twice( 3 )", "1 + TWICE(TWICE(1)) + 1"])
def test_xmile_macro(xmile, call):
    macro = '<macro name="TWICE"><parm>x</parm><eqn>2*x</eqn></macro>'
    assert last(xmile(f'<aux name="y"><eqn>{call}</eqn></aux>', macro), "y") == 6


def test_xmile_macro_with_variables_and_blanks_in_its_name(xmile):
    macro = (
        '<macro name="PILE UP"><parm>x</parm><eqn>pile</eqn><variables><stock name="pile"><eqn>1</eqn>'
        '<inflow>add</inflow></stock><flow name="add"><eqn>x</eqn></flow></variables></macro>'
    )
    assert last(xmile('<aux name="y"><eqn>PILE UP(5)</eqn></aux>', macro), "y") == 16


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_non_negative_stock_stops_at_zero(xmile, method):
    variables = (
        '<stock name="y"><eqn>2.5</eqn><outflow>f</outflow><non_negative/></stock><flow name="f"><eqn>1</eqn></flow>'
    )
    ds = vf.simulate(xmile(variables), save=["y"], method=method)
    np.testing.assert_allclose(ds["y"].values[0], [2.5, 1.5, 0.5, 0.0], rtol=1e-15)


@pytest.mark.parametrize(
    ("behavior", "expected"),
    [("<behavior><non_negative/></behavior>", 0.0), ("<behavior><stock><non_negative/></stock></behavior>", 0.0),
     ("<behavior><non_negative>false</non_negative></behavior>", -0.5)],
)
@pytest.mark.parametrize("inside", [False, True])
def test_non_negative_stocks_by_the_model(tmp_path, behavior, expected, inside):
    stock = '<stock name="y"><eqn>2.5</eqn><outflow>f</outflow></stock><flow name="f"><eqn>1</eqn></flow>'
    text = XMILE.replace("{variables}", stock).replace("{macros}", "" if inside else behavior)
    path = tmp_path / "behavior.xmile"
    path.write_text(text.replace("<model>", f"<model>{behavior}") if inside else text)
    assert last(vf.read_model(path), "y") == expected


# ------------------------------------------------------------------------------------------------ data

def test_data_variable_takes_its_values_from_a_file(mdl, tmp_path: Path):
    (tmp_path / "arrays.mdl").write_text(
        DIMENSIONS + "seen[e] :INTERPOLATE: ~~|\nbare ~~|\ny = SUM(seen[e!]) + bare ~~|\n" + CONTROLS
    )
    data = tmp_path / "data.csv"
    data.write_text('Time,"seen[p]","Seen[q]",Bare\n0,0,1,10\n2,4,1,\n4,8,1,20\n')
    model = vf.read_model(tmp_path / "arrays.mdl", data_files=[data])
    assert vf.simulate(model, save=["y"])["y"].values.tolist() == [[11.0, 15.5, 20.0, 24.5]]


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        (":INTERPOLATE:", [1, 2, 3, 3]),
        (":HOLD BACKWARD:", [1, 1, 3, 3]),
        (":LOOK FORWARD:", [1, 3, 3, 3]),
        (":RAW:", [1, -(2.0**109), 3, -(2.0**109)]),
        ("", [1, 2, 3, 3]),
    ],
)
def test_ways_to_join_data(tmp_path, keyword, expected):
    (tmp_path / "values.csv").write_text("t,0,2\nx,1,3\n")
    path = tmp_path / "data.mdl"
    path.write_text(f"x {keyword}:= GET DIRECT DATA('values.csv', ',', '1', 'B2') ~~|\ny = x ~~|\n" + CONTROLS)
    assert vf.simulate(vf.read_model(path), save=["y"])["y"].values[0].tolist() == expected


def test_functions_of_data(tmp_path):
    (tmp_path / "values.csv").write_text("t,1,3\nx,10,30\n")
    path = tmp_path / "data.mdl"
    path.write_text(
        "where :IS: 'values.csv' ~~|\nx := GET DIRECT DATA(where, ',', '1', 'B2') ~~|\n"
        "first = GET DATA FIRST TIME(x) ~~|\nlast = GET DATA LAST TIME(x) ~~|\n"
        "line = GET DATA BETWEEN TIMES(x, Time, 0) ~~|\nback = GET DATA BETWEEN TIMES(x, Time, -1) ~~|\n"
        "ahead = GET DATA BETWEEN TIMES(x, Time, 1) ~~|\n" + CONTROLS
    )
    ds = vf.simulate(vf.read_model(path), save=["first", "last", "line", "back", "ahead"])
    assert [ds[name].values[0, 2] for name in ("first", "last", "line", "back", "ahead")] == [1, 3, 20, 10, 30]


def test_names_with_a_slash(mdl):
    model = mdl("births/deaths  ratio = 6 ~~|\nbirths = 8 ~~|\ndeaths = 2 ~~|\n"
                "y = Births/Deaths ratio + births/deaths + \"births/deaths ratio\" ~~|")
    assert last(model, "y") == 16
    assert model.variables["births/deaths_ratio"].name == "births/deaths ratio"


def test_comment_inside_an_equation_is_dropped(mdl):
    assert last(mdl("y = 1 {not | this ~ } + 2 {\n} ~~ A {kept} text.|"), "y") == 3
    assert mdl("y = 1 ~~ A {kept} text.|").variables["y"].documentation == "A {kept} text."


def test_run_ends_when_a_final_time_that_moves_is_reached(tmp_path):
    path = tmp_path / "moving.mdl"
    path.write_text(
        "y = INTEG(1, 0) ~~|\nlimit = 5 ~~|\nFINAL TIME = IF THEN ELSE(2 * Time > limit, Time, 100) ~~|\n"
        "INITIAL TIME = 0 ~~|\nTIME STEP = 0.5 ~~|\nSAVEPER = 0.5 ~~|\n"
    )
    ds = vf.simulate(vf.read_model(path), save=["y", "final_time"])
    assert ds["time"].values[-1] == 3.0
    assert ds["final_time"].values[0, -2:].tolist() == [100.0, 3.0]
