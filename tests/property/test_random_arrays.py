"""Random models of arrays: one member, whose elements are computed together, has the bits that it has among others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import villageflow as vf
from villageflow.ensemble.simulate import time_grid
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas
from villageflow.ir.model import Kind
from villageflow.program.emit import compile_model
from villageflow.program.reference import run_reference

HEAD = """{{UTF-8}}
d: e1, e2, e3, e4, e5 ~~|
early: e1, e2, e3, e4 ~~|
late: e2, e3, e4, e5 -> early ~~|
sub: e2, e3, e4 ~~|
f: f1, f2 ~~|
k = 0.7 ~~|
c[d] = {c} ~~|
w[f] = {w} ~~|
look((-5,1), (0,2), (3,-1)) ~~|
INITIAL TIME = 0 ~~|
FINAL TIME = 3 ~~|
TIME STEP = 0.5 ~~|
SAVEPER = 1 ~~|
"""
LEAVES = {
    "d": ["s[d]", "t[d]", "c[d]", "d", "m[d,f1]"],
    "sub": ["s[sub]", "t[sub]", "c[sub]", "m[sub,f2]"],
    "late": ["s[late]", "t[early]", "c[late]", "s[early]"],
    "f": ["w[f]", "m[e3,f]", "SUM(m[d!,f])", "SUM(s[d!] * m[d!,f])"],
    "d,f": ["m[d,f]", "s[d]", "w[f]", "c[d]"],
}
SHARED = ["k", "Time", "0.1", "2", "s[e2]", "SUM(s[d!])", "SUM(m[d!,f!])", "SUM(t[d!] * c[d!])", "VMAX(t[d!])"]
CALLS = [
    "({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} / {1})", "MAX({0}, {1})", "MIN({0}, {1})", "EXP(-ABS({0}))",
    "ABS({0})^0.5", "LN(1 + ABS({0}))", "IF THEN ELSE({0} > {1}, {2}, {1})", "look({0})", "SMOOTH({0}, 2)",
    "DELAY3({0}, 1.5)", "SAMPLE IF TRUE({0} > {1}, {2}, 0)", "DELAY FIXED({0}, 1, 0)", "-{0}", "XIDZ({0}, {1}, 3)",
    "({0} + {1} + {2} + {0} + {1} + {2} + {0} + {1} + {2})", "STEP({0}, 1)", "INTEGER({0})",
]


def over(dimension, *more):
    """Expressions for one element of a dimension."""
    leaves = st.sampled_from([*LEAVES[dimension], *more]) | st.sampled_from(SHARED)

    def combine(inner):
        return st.builds(str.format, st.sampled_from(CALLS), inner, inner, inner)

    return st.recursive(leaves, combine, max_leaves=6)


@st.composite
def models(draw):
    """Stocks of one and two dimensions, and auxiliaries that use what comes before them."""
    numbers = st.sampled_from(["0.1", "0.7", "1", "2", "-1.5", "3.25"])
    c, w = (", ".join(draw(st.lists(numbers, min_size=n, max_size=n))) for n in (5, 2))
    a, b = draw(over("d")), draw(over("sub", "a[sub]"))
    equations = [
        f"a[d] = {a}",
        f"b[sub] = {b}",
        f"b[d] :EXCEPT: [sub] = {draw(over('d', 'a[d]'))}",
        f"g[f] = {draw(over('f'))}",
        f"m2[d,f] = {draw(over('d,f', 'a[d]', 'b[d]', 'g[f]', 'm[d,f] * g[f]'))}",
        f"chain[e1] = {draw(st.sampled_from(['0', 's[e1]', 'a[e2]']))}",
        f"chain[late] = chain[early] * k + {draw(over('late', 'a[late]', 'b[early]'))}",
        f"total = SUM(b[d!] * a[d!]) + {draw(st.sampled_from(SHARED))}",
        f"z[d] = {draw(over('d', 'a[d]', 'b[d]', 'chain[d]', 'total', 'm2[d,f2]', 'SUM(m2[d,f!])'))}",
        f"s[d] = INTEG({draw(over('d', 'a[d]', 'b[d]', 'z[d]', 'total'))} - s[d], c[d])",
        f"t[d] = INTEG({draw(st.sampled_from(['s[d]', '-z[d]', 'z[d] * k', '0']))}, 1)",
        f"m[d,f] = INTEG({draw(over('d,f', 'm2[d,f]', 'z[d]'))}, w[f])",
    ]
    return HEAD.format(c=c, w=w) + "".join(f"{equation} ~~|\n" for equation in equations)


@settings(max_examples=60)
@given(
    text=models(),
    method=st.sampled_from(["euler", "rk4"]),
    members=st.sampled_from([(1, 256), (3, 1), (3, 256), (16, 8)]),
    isa=st.sampled_from(available_isas()),
)
def test_one_member_has_the_bits_of_an_ensemble(text, method, members, isa):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.mdl")
        path.write_text(text)
        model = vf.read_model(path)
    saves = tuple(name for name, v in model.variables.items() if v.kind in (Kind.STOCK, Kind.AUXILIARY))
    program, plain = compile_model(model, saves=saves), compile_model(model, varied=("k",), saves=saves)
    assert (plain.code[:, 5] == 1)[plain.bounds[2]:].all()
    grid, (n_members, block) = time_grid(model), members
    expected, healthy = run_program(plain, grid, np.array([[0.7, 0.7]]), settings=RunSettings(method, isa=isa))
    settings = RunSettings(method, isa=isa, block=block)
    values, same = run_program(program, grid, np.empty((0, n_members)), settings=settings)
    assert (same == healthy[0]).all()
    for member in range(n_members):
        assert values[:, :, member].tobytes() == expected[:, :, 1].tobytes()
    assert run_reference(program, grid, {}, method).tobytes() == expected[:, :, 0].tobytes()
