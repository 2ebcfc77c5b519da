"""Arrays in the program of one member: equal operations of their elements are one, and no bit moves."""

from __future__ import annotations

import numpy as np
import pytest

import villageflow as vf
from villageflow.ensemble.simulate import time_grid
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas
from villageflow.ir.model import Kind
from villageflow.program.emit import compile_model
from villageflow.program.opcodes import NAMES
from villageflow.program.reference import run_reference

ELEMENTS = [f"e{i}" for i in range(9)]
HEAD = f"""{{UTF-8}}
d: {", ".join(ELEMENTS)} ~~|
early: {", ".join(ELEMENTS[:-1])} ~~|
late: {", ".join(ELEMENTS[1:])} -> early ~~|
some: e2, e3, e4, e5, e6 ~~|
f: f1, f2, f3 ~~|
start[d] = {", ".join(f"{1 + 7 * i % 5}.25" for i in range(9))} ~~|
rate[d] = {", ".join(f"0.0{1 + 5 * i % 7}" for i in range(9))} ~~|
shift[f] = 1, 2, 3 ~~|
k = 0.3 ~~|
s[d] = INTEG(0.1 * s[d] - out[d], start[d]) ~~|
INITIAL TIME = 0 ~~|
FINAL TIME = 4 ~~|
TIME STEP = 0.5 ~~|
SAVEPER = 1 ~~|
"""
OUT = "out[d] = s[d] * rate[d] ~~|\n"


@pytest.fixture
def read(tmp_path):
    def make(equations):
        path = tmp_path / "strips.mdl"
        path.write_text(HEAD + equations)
        return vf.read_model(path)

    return make


def saved(model):
    return tuple(name for name, v in model.variables.items() if v.kind in (Kind.STOCK, Kind.AUXILIARY))


def lane(program):
    """Operations of each stage and save point: (name, count)."""
    rows = [*program.segment("lane").tolist(), *program.segment("save").tolist()]
    return [(NAMES[row[0]], row[5]) for row in rows]


def rolled(model, saves=None, *, methods=("euler", "rk4")):
    """The program of one member, after its bits were compared with those of an ensemble's program."""
    saves = saves or saved(model)
    program, plain = compile_model(model, saves=saves), compile_model(model, varied=("k",), saves=saves)
    assert all(count == 1 for _, count in lane(plain))
    assert len(lane(program)) <= len(lane(plain))
    grid, constant = time_grid(model), np.array([[model.constants["k"]] * 2])
    for method in methods:
        expected, _ = run_program(plain, grid, constant, settings=RunSettings(method))
        assert np.isfinite(expected).all()
        for isa in available_isas():
            alone, _ = run_program(program, grid, np.empty((0, 1)), settings=RunSettings(method, isa=isa))
            assert alone[:, :, 0].tobytes() == np.ascontiguousarray(expected[:, :, 1]).tobytes()
            for n_members, block in ((2, 1), (5, 8), (9, 4), (16, 8)):
                settings = RunSettings(method, isa=isa, block=block)
                members, _ = run_program(program, grid, np.empty((0, n_members)), settings=settings)
                assert (members == alone).all()
        assert run_reference(program, grid, {}, method).tobytes() == alone[:, :, 0].tobytes()
    return program


def test_equal_operations_of_elements_are_one(read):
    program = rolled(read(OUT))
    assert sorted(lane(program)) == [("MULTIPLY", 9), ("MULTIPLY_VS_SUBTRACT_V", 9)]


def test_simulate_gives_one_member_what_it_gives_two(read):
    model = read(OUT + "x[d] = MAX(s[d], 2) / SUM(s[d!]) ~~|\n")
    one, two = vf.simulate(model), vf.simulate(model, {"k": [0.3, 0.3]})
    for name in ("s", "out", "x"):
        assert one[name].values[0].tobytes() == two[name].values[1].tobytes()


def test_a_program_of_an_ensemble_has_one_operation_for_each_element(read):
    program = compile_model(read(OUT), varied=("k",), saves=("s[e0]", "s[e1]", "s[e2]", "s[e3]"))
    assert lane(program).count(("MULTIPLY_VS", 1)) == 4


def test_an_element_alone_has_no_neighbours(read):
    program = rolled(read(OUT), saves=("s[e4]",))
    assert all(count == 1 for _, count in lane(program))


def test_an_element_that_needs_the_one_before_waits_for_it(read):
    program = rolled(read(OUT + "y[e0] = s[e0] ~~|\ny[late] = y[early] * k + s[late] ~~|\n"))
    assert lane(program).count(("MULTIPLY_VS_ADD_V", 1)) == 8
    program = rolled(read(OUT + "u[d] = EXP(v[d]) + s[d] ~~|\nv[e0] = k ~~|\nv[late] = u[early] * -k ~~|\n"))
    assert lane(program).count(("EXP", 1)) == 8  # of v[e0] it is a literal


def test_elements_beside_each_other_need_no_gathering(read):
    program = rolled(read("out[e0] = k * s[e0] ~~|\nout[late] = s[late] * k - s[early] * 0.1 ~~|\n"))
    assert ("MULTIPLY_VS", 8) in lane(program)
    assert "GATHER" not in program.listing()


def test_subranges_and_exceptions_are_strips_of_their_own(read):
    program = rolled(read(OUT + "x[some] = s[some] ^ 1.5 ~~|\n"))
    assert ("POWER", 5) in lane(program)
    split = "x[d] :EXCEPT: [some] = EXP(-s[d]) ~~|\nx[some] = k / s[some] ~~|\ny[d] = x[d] + 1 ~~|\n"
    program = rolled(read(OUT + split))
    assert {("EXP", 4), ("DIVIDE_SV", 5), ("NEGATIVE", 4)} <= set(lane(program))


def test_elements_with_other_equations_stay_apart(read):
    model = read(OUT + "x[e0] = 1 ~~|\nx[late] = s[late] + 1 ~~|\ny[d] = x[d] * s[d] ~~|\n")
    program = rolled(model)
    assert {("ADD_VS", 8), ("MULTIPLY", 8)} <= set(lane(program))


def test_a_value_for_all_elements_is_gathered_once(read):
    program = rolled(read(OUT + "t = SUM(s[d!]) ~~|\nx[d] = s[d] / t ~~|\ny[d] = EXP(-x[d]) * t ~~|\n"))
    found = lane(program)
    assert {("SUM", 1), ("DIVIDE", 9), ("NEGATIVE", 9), ("EXP", 9), ("MULTIPLY", 9)} <= set(found)
    assert found.count(("GATHER", 1)) == 1


def test_an_element_that_equals_another_value_is_computed_once(read):
    program = rolled(read(OUT.replace("rate[d]", "(rate[d] + 0.05)")))  # that of s[e1] is 0.1, as the growth is
    found = lane(program)
    assert ("MULTIPLY", 9) in found and ("SUBTRACT", 9) in found
    assert sum(count for name, count in found if name.startswith("MULTIPLY")) == 17


def test_two_dimensions(read):
    equations = """x[d, f] = s[d] * shift[f] + k ~~|
    r[f] = SUM(x[d!, f] * s[d!]) ~~|
    c[d] = SUM(x[d, f!]) ~~|
    m[d, f] = MIN(x[d, f] / r[f], c[d]) ~~|
    all = SUM(m[d!, f!]) ~~|
    """
    program = rolled(read(OUT + equations))
    assert {("MULTIPLY_VV_ADD_S", 27), ("MULTIPLY", 27), ("DIVIDE", 27), ("MIN", 27)} <= set(lane(program))
    assert lane(program).count(("SUM", 1)) == 4
    assert len(lane(program)) < 20


def test_a_long_sum_is_one_operation_from_left_to_right(read):
    program = rolled(read(OUT + "t = SUM(out[d!]) ~~|\n"))
    assert ("SUM", 1) in lane(program)
    row = program.segment("save")[0]
    assert program.lists[row[2]:row[2] + row[3]].tolist() == [*range(program.flow_slots[0] - 9, program.flow_slots[0])]


def test_literals_that_differ_are_filled_once(read):
    program = rolled(read(OUT))
    rows = program.segment("member")
    assert sum(NAMES[op] == "FILL" for op in rows[:, 0]) == 18  # initial values and rates
    assert "FILL" not in [name for name, _ in lane(program)]


def test_memory_of_elements(read):
    equations = """x[d] = SMOOTH3(s[d], 2) + DELAY FIXED(s[d] * k, 1, 0) ~~|
    h[d] = SAMPLE IF TRUE(s[d] > 2, s[d] * k, 0) ~~|
    i[d] = INITIAL(s[d]) + STEP(rate[d], 2) ~~|
    z[d] = look(s[d]) + other[d](s[d]) ~~|
    look((0,0), (5,3)) ~~|
    """ + "".join(f"other[{e}]((0,0), (5,{i + 10})) ~~|\n" for i, e in enumerate(ELEMENTS))
    program = rolled(read(OUT + equations))
    found = lane(program)
    assert ("TABLE", 9) in found
    assert found.count(("TABLE", 1)) == 9
    assert found.count(("HOLD", 1)) == 9
    stocks = program.stock_slots.reshape(4, 9)
    assert (np.diff(stocks) == 1).all()  # each stage of the smooth in registers that follow each other


def test_stocks_that_feed_each_other(read):
    program = rolled(read(OUT + "a[d] = INTEG(s[d], start[d]) ~~|\nb[d] = INTEG(a[d], 0) ~~|\n"))
    assert lane(program).count(("COPY", 1)) == 18


def test_not_below_zero(tmp_path):
    path = tmp_path / "m.xmile"
    path.write_text("""<?xml version="1.0" encoding="utf-8"?>
<xmile xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0" version="1.0">
<sim_specs><start>0</start><stop>4</stop><dt>0.5</dt></sim_specs>
<dimensions><dim name="d" size="6"/></dimensions><model><variables>
<aux name="k"><eqn>0.3</eqn></aux>
<stock name="x"><dimensions><dim name="d"/></dimensions><eqn>d</eqn><outflow>o</outflow><non_negative/></stock>
<flow name="o"><dimensions><dim name="d"/></dimensions><eqn>1 + x * 0.1</eqn></flow>
</variables></model></xmile>""")
    program = rolled(vf.read_model(path))
    assert ("MULTIPLY_VS_ADD_S", 6) in lane(program)


def test_draws_stay_apart_and_their_members_differ(read):
    model = read(OUT + "x[d] = RANDOM UNIFORM(0, s[d], 0) + s[d] ~~|\n")
    program = compile_model(model, saves=saved(model))
    assert lane(program).count(("UNIFORM", 1)) == 9
    plain = compile_model(model, varied=("k",), saves=saved(model))
    grid = time_grid(model)
    for n_members in (1, 3):
        one, _ = run_program(program, grid, np.empty((0, n_members)), settings=RunSettings())
        two, _ = run_program(plain, grid, np.full((1, n_members), 0.3), settings=RunSettings())
        assert one.tobytes() == two.tobytes()


def test_steps_of_variable_length(read):
    model = read(OUT + "x[d] = SMOOTH(s[d], 2) * SUM(s[d!]) ~~|\n")
    one = vf.simulate(model, method="dopri5")
    two = vf.simulate(model, {"k": [0.3, 0.3]}, method="dopri5")
    for name in ("s", "out", "x"):
        assert one[name].values[0].tobytes() == two[name].values[0].tobytes()
    program = compile_model(model, saves=("x[e0]", "x[e1]"), adaptive=True)
    assert ("MULTIPLY_VS_SUBTRACT_V", 9) in lane(program)


def test_a_rolled_program_is_saved_and_loaded(read, tmp_path):
    model = read(OUT + "t = SUM(s[d!]) ~~|\nx[d] = s[d] / t ~~|\n")
    program = compile_model(model, saves=saved(model))
    vf.save_program(program, tmp_path / "p")
    again = vf.load_program(tmp_path / "p")
    assert again.digest == program.digest
    assert again.listing() == program.listing()


def test_listing_shows_counts(read):
    assert "x 9\n" in compile_model(read(OUT), saves=tuple(f"s[{e}]" for e in ELEMENTS)).listing()
