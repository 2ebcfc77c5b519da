"""Every operation's derivative against high-precision differences, at kinks and at the edge of its domain."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas
from villageflow.ir.nodes import Call, Extrapolation, Interpolation, Num, Ref, Table, TableCall
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.lower import lower
from villageflow.program.emit import compile_tangents
from villageflow.program.opcodes import BINARY, LISTED, TERNARY, UNARY
from villageflow.program.reference import run_reference
from villageflow.program.tangent import tangent_name
from villageflow.program.tangent_rules import RULES
from villageflow.timegrid import TimeGrid

GRID = TimeGrid(0.0, 1.0, 1.0, 1.0)
INPUTS = ("a", "b", "c")
TINY = 1e-3
ZIGZAG = Table((-2.0, -1.0, 0.5, 3.0), (1.0, 4.0, -1.0, 2.0))

# operation: arguments in general position, each a range, and the function in high precision
SMOOTH = {
    "ADD": ([(-9, 9), (-9, 9)], lambda a, b: a + b),
    "SUBTRACT": ([(-9, 9), (-9, 9)], lambda a, b: a - b),
    "MULTIPLY": ([(-9, 9), (-9, 9)], lambda a, b: a * b),
    "DIVIDE": ([(-9, 9), (0.1, 9)], lambda a, b: a / b),
    "NEGATIVE": ([(-9, 9)], lambda a: -a),
    "EXP": ([(-20, 20)], mpmath.exp),
    "LN": ([(TINY, 1e6)], mpmath.log),
    "SQRT": ([(TINY, 1e6)], mpmath.sqrt),
    "POWER": ([(TINY, 50), (-4, 4)], lambda a, b: mpmath.power(a, b)),
    "SIN": ([(-50, 50)], mpmath.sin),
    "COS": ([(-50, 50)], mpmath.cos),
    "TAN": ([(-1.5, 1.5)], mpmath.tan),
    "ARCSIN": ([(-0.99, 0.99)], mpmath.asin),
    "ARCCOS": ([(-0.99, 0.99)], mpmath.acos),
    "ARCTAN": ([(-50, 50)], mpmath.atan),
    "SINH": ([(-20, 20)], mpmath.sinh),
    "COSH": ([(-20, 20)], mpmath.cosh),
    "TANH": ([(-20, 20)], mpmath.tanh),
    "ABS": ([(TINY, 9)], abs),
    "XIDZ": ([(-9, 9), (0.1, 9), (-9, 9)], lambda a, b, x: a / b),
}
OTHERS = {"MIN", "MAX", "MODULO", "IF_THEN_ELSE", "TABLE", "INTEGER", "NOT", "AND", "OR", "LESS", "LESS_EQUAL",
          "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "ALLOCATION_SHARE", "ALLOCATION_PRICE",
          "UNIFORM", "GIVEN", "NORMAL_PROBABILITY", "NORMAL_QUANTILE", "COUNT_PROBABILITY", "COUNT_QUANTILE",
          "BETA_PROBABILITY", "BETA_QUANTILE"}  # fmt: skip


@cache
def program_of(expression, moved=INPUTS):
    """The value and the tangent of an expression in the inputs a, b and c, of which some move."""
    definitions = {name: Num(1.0) for name in INPUTS} | {"y": expression}
    definitions |= {"initial_time": Num(0.0), "final_time": Num(1.0), "time_step": Num(1.0), "saveper": Num(1.0)}
    variables = tuple(SourceVariable(name, name, definition) for name, definition in definitions.items())
    model = lower(SourceModel(Path("rule.mdl"), "", "euler", variables))
    return compile_tangents(model, varied=INPUTS, directions=moved, saves=("y", tangent_name("y")))


def gradient(expression, *point, isa=None):
    """Derivatives of an expression with respect to its inputs; the value and the bits of the slow twin are checked."""
    point = [*point, 1.0, 1.0, 1.0][:3]
    lanes = np.vstack([np.repeat(np.array(point)[:, None], 3, axis=1), np.eye(3)])
    values, _ = run_program(program_of(expression), GRID, lanes, settings=RunSettings(isa=isa))
    for lane in range(3):
        inputs = dict(zip(program_of(expression).parameters, lanes[:, lane], strict=True))
        assert values[:, :, lane].tobytes() == run_reference(program_of(expression), GRID, inputs).tobytes()
    return values[1, 0]


def call(name, n_operands):
    return Call(name.lower(), tuple(Ref(name) for name in INPUTS[:n_operands]))


def test_every_operation_has_a_rule():
    held = {*UNARY, *BINARY, *TERNARY, *LISTED, "TABLE", "UNIFORM", "GIVEN"} - {"COPY", "SUM", "GATHER"}
    assert set(RULES) == held, "an operation has no rule in program/tangent_rules.py, or a rule has no operation"
    assert set(SMOOTH) | OTHERS == held, "an operation is not differentiated in this file"


@pytest.mark.parametrize("name", sorted(SMOOTH))
@settings(max_examples=40)
@given(data=st.data())
def test_derivative_equals_high_precision(name, data):
    ranges, function = SMOOTH[name]
    point = [data.draw(st.floats(low, high)) for low, high in ranges]
    found = gradient(call(name, len(point)), *point, isa=data.draw(st.sampled_from(available_isas())))
    with mpmath.workdps(60):
        exact = [mpmath.mpf(value) for value in point]
        for position in range(len(point)):
            order = tuple(int(position == other) for other in range(len(point)))
            expected = mpmath.diff(function, tuple(exact), order)
            scale = max(abs(expected), abs(function(*exact)) * mpmath.mpf(2) ** -40, mpmath.mpf(1e-12))
            assert abs(mpmath.mpf(float(found[position])) - expected) <= 1e-11 * scale
    assert (found[len(point):] == 0).all()


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_only_what_moves_is_differentiated(name):
    """A direction that moves one operand gives the same as one that could move all."""
    ranges, _ = SMOOTH[name]
    point = [low + 0.37 * (high - low) for low, high in ranges]
    expression = call(name, len(point))
    for position, moving in enumerate(INPUTS[: len(point)]):
        lane = np.array([*(*point, 1.0, 1.0, 1.0)[:3], 1.0])[:, None]
        values, _ = run_program(program_of(expression, (moving,)), GRID, lane, settings=RunSettings())
        assert values[1, 0, 0] == pytest.approx(gradient(expression, *point)[position], rel=1e-14)


# ------------------------------------------------------------------------------------------- branches and kinks


@pytest.mark.parametrize(
    ("name", "point", "expected"),
    [
        ("MIN", (1.0, 2.0), (1, 0)),
        ("MIN", (2.0, 1.0), (0, 1)),
        ("MIN", (1.0, 1.0), (0, 1)),  # the operation takes the second when both are equal
        ("MAX", (2.0, 1.0), (1, 0)),
        ("MAX", (1.0, 2.0), (0, 1)),
        ("MAX", (1.0, 1.0), (0, 1)),
        ("ABS", (-3.0,), (-1,)),
        ("ABS", (0.0,), (1,)),
        ("ABS", (-0.0,), (1,)),
        ("IF_THEN_ELSE", (1.0, 5.0, 6.0), (0, 1, 0)),
        ("IF_THEN_ELSE", (0.0, 5.0, 6.0), (0, 0, 1)),
        ("XIDZ", (1.0, 0.0, 7.0), (0, 0, 1)),
        ("XIDZ", (1.0, 9e-7, 7.0), (0, 0, 1)),
        ("XIDZ", (1.0, 0.5, 7.0), (2, -4, 0)),
        ("MODULO", (7.5, 2.0), (1, -3)),
        ("MODULO", (-7.5, 2.0), (1, 3)),
        ("MODULO", (1.5, 2.0), (1, 0)),
        ("MODULO", (6.0, 0.1), (1, -59)),
        *[(name, (2.7, 1.3), (0, 0)) for name in ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL")],
        *[(name, (2.7, 1.3), (0, 0)) for name in ("NOT_EQUAL", "AND", "OR")],
        ("INTEGER", (2.7,), (0,)),
        ("NOT", (2.7,), (0,)),
    ],
)
def test_branch_in_use(name, point, expected):
    found = gradient(call(name, len(point)), *point)[: len(point)]
    assert found == pytest.approx(np.array(expected, dtype=float), rel=1e-15)


@pytest.mark.parametrize(
    ("extrapolation", "outside"), [(Extrapolation.CLAMP, (0, 0)), (Extrapolation.EXTEND, (3, 1.2))]
)
def test_slope_of_a_table(extrapolation, outside):
    table = Table(ZIGZAG.x, ZIGZAG.y, extrapolation)
    slopes = {-1.5: 3, -0.2: -10 / 3, 1.0: 1.2, -2.0: 3, -1.0: -10 / 3, 0.5: 1.2}  # at a point: that to its right
    slopes |= {-2.5: outside[0], -1e300: outside[0], 4.0: outside[1], 3.0: outside[1], 1e300: outside[1]}
    slopes |= {np.nextafter(-2.0, -9): outside[0], np.nextafter(-1.0, -9): 3, np.nextafter(0.5, -9): -10 / 3}
    for x, slope in slopes.items():
        assert gradient(TableCall(table, Ref("a")), x)[0] == pytest.approx(slope, rel=1e-15), x


def test_slope_of_a_long_table():
    x = tuple(float(i) for i in range(40))
    table = Table(x, tuple(value**2 for value in x))
    for at in (0.0, 0.5, 17.0, 38.999, 39.0, -1.0):
        slope = 2 * math.floor(at) + 1 if 0 <= at < 39 else 0
        assert gradient(TableCall(table, Ref("a")), at)[0] == slope


@pytest.mark.parametrize("interpolation", [Interpolation.HOLD_BACKWARD, Interpolation.LOOK_FORWARD])
def test_tables_without_interpolation_are_flat(interpolation):
    table = Table(ZIGZAG.x, ZIGZAG.y, Extrapolation.CLAMP, interpolation)
    assert gradient(TableCall(table, Ref("a")), 0.2)[0] == 0


def test_step_of_a_table_is_left_out():
    table = Table((0.0, 1.0, 1.0, 2.0), (0.0, 1.0, 5.0, 7.0))
    assert [gradient(TableCall(table, Ref("a")), x)[0] for x in (0.5, 1.0, 1.5)] == [1, 2, 2]


def test_table_of_one_point_is_flat():
    assert gradient(TableCall(Table((1.0,), (3.0,), Extrapolation.EXTEND), Ref("a")), 2.0)[0] == 0


# ------------------------------------------------------------------------------------------- edges of a domain


@pytest.mark.parametrize(
    ("base", "exponent", "by_base"),
    [(0.0, 3.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.5, math.inf), (0.0, 0.0, 0.0), (-2.0, 3.0, 12.0), (-2.0, 2.0, -4.0),
     (-2.0, -1.0, -0.25), (3.0, 0.0, 0.0), (-0.0, 2.0, 0.0)],
)  # fmt: skip
def test_power_at_zero_and_below(base, exponent, by_base):
    assert gradient(call("POWER", 2), base, exponent)[0] == pytest.approx(by_base, rel=1e-14)
    literal = Call("power", (Ref("a"), Num(exponent)))
    assert gradient(literal, base)[0] == pytest.approx(by_base, rel=1e-14)


def test_power_by_its_exponent_at_zero_and_below():
    assert gradient(call("POWER", 2), 0.0, 2.0)[1] == 0
    assert math.isnan(gradient(call("POWER", 2), -2.0, 2.0)[1])  # defined at whole exponents only


@pytest.mark.parametrize(("name", "at"), [("SQRT", 0.0), ("LN", 0.0), ("ARCSIN", 1.0), ("ARCCOS", -1.0)])
def test_infinite_slope_meets_only_what_moves(name, at):
    """The derivative is infinite along what moves the argument and zero along what does not."""
    argument = Call("add", (Ref("a"), Call("multiply", (Ref("b"), Num(0.0)))))
    found = gradient(Call(name.lower(), (argument,)), at, 5.0)
    assert abs(found[0]) == math.inf
    assert found[1:].tolist() == [0, 0]


def test_saturated_logistic_has_no_slope():
    """exp overflows, the quotient is an exact zero, and so is its derivative: not 0 times infinity."""
    logistic = Call("divide", (Num(1.0), Call("add", (Num(1.0), Call("exp", (call("MULTIPLY", 2),))))))
    assert gradient(logistic, 800.0, 1.0).tolist() == [0, 0, 0]
    assert gradient(logistic, -800.0, 1.0)[0] == 0


def test_a_pole_on_the_way_is_reported():
    """1 / (b + 1 / a) is 0 at a = 0 and has the slope 1 there, which the rules do not see: not a number, never 0."""
    inner = Call("divide", (Num(1.0), Ref("a")))
    found = gradient(Call("divide", (Num(1.0), Call("add", (Ref("b"), inner)))), 0.0, 1.0)
    assert not math.isfinite(found[0])


@settings(max_examples=60)
@given(a=st.floats(-30, 30), b=st.floats(0.05, 9), c=st.floats(0.1, 3))
@example(a=0.0, b=1.0, c=1.0)
def test_chain_and_product_rule(a, b, c):
    """tanh(a / b) * b ^ c + sqrt(b) * exp(-a * c / 30)"""
    first = Call("multiply", (Call("tanh", (call("DIVIDE", 2),)), Call("power", (Ref("b"), Ref("c")))))
    inner = Call("divide", (Call("multiply", (Call("negative", (Ref("a"),)), Ref("c"))), Num(30.0)))
    expression = Call("add", (first, Call("multiply", (Call("sqrt", (Ref("b"),)), Call("exp", (inner,))))))
    found = gradient(expression, a, b, c)

    def function(a, b, c):
        return mpmath.tanh(a / b) * b**c + mpmath.sqrt(b) * mpmath.exp(-a * c / 30)

    with mpmath.workdps(60):
        for position in range(3):
            order = tuple(int(position == other) for other in range(3))
            expected = mpmath.diff(function, (mpmath.mpf(a), mpmath.mpf(b), mpmath.mpf(c)), order)
            assert abs(mpmath.mpf(float(found[position])) - expected) <= 1e-11 * (abs(expected) + 1e-3)


# -------------------------------------------------------------------------------------------------- allocation

PROFILES = {
    1: lambda z: mpmath.mpf(0.5) - z if abs(z) < 0.5 else mpmath.mpf(z < 0),
    2: lambda z: 1 - 2 * (z + 0.5) ** 2 if z < 0 else 2 * (0.5 - z) ** 2,
    3: lambda z: mpmath.erfc(z / mpmath.sqrt(2)) / 2,
    4: lambda z: 1 - mpmath.exp(z) / 2 if z < 0 else mpmath.exp(-z) / 2,
}


@pytest.mark.parametrize("kind", sorted(PROFILES))
@pytest.mark.parametrize("z", [-0.45, -0.2, 0.1, 0.3, 0.49])
def test_slope_of_a_profile_of_allocation(kind, z):
    share = Call("allocation share", (Num(float(kind)), Ref("a")))
    with mpmath.workdps(40):
        assert gradient(share, z)[0] == pytest.approx(float(mpmath.diff(PROFILES[kind], mpmath.mpf(z))), rel=1e-13)


@pytest.mark.parametrize("kind", sorted(PROFILES))
@pytest.mark.parametrize("z", [-math.inf, math.inf, -800.0, 800.0])
def test_profiles_are_flat_far_away(kind, z):
    """Also along a direction that moves the distance infinitely."""
    moving = Call("multiply", (Call("divide", (Num(1.0), Ref("b"))), Ref("a")))
    share = Call("allocation share", (Num(float(kind)), moving))
    assert gradient(share, z, 1.0).tolist() == [0, 0, 0]
    if math.isinf(z):
        assert gradient(share, math.copysign(1.0, z), 0.0).tolist() == [0, 0, 0]


def _parties(kind):
    """Two parties that share c; the first asks for a, the second has the priority b."""
    fixed = [Num(value) for value in (float(kind), 1.0, 2.0, 5.0, float(kind), 3.0)]
    return Call("allocation price", (Ref("c"), Ref("a"), *fixed[:4], fixed[4], Ref("b"), fixed[5]))


@pytest.mark.parametrize("kind", sorted(PROFILES))
def test_price_of_an_allocation(kind):
    """The price is differentiated as the solution of the equation that it solves."""
    point = (4.0, 1.5, 5.3)

    def taken(price, a, b):
        first = a * PROFILES[kind]((price - 1) / 2)
        return first + 5 * PROFILES[kind]((price - b) / 3)

    with mpmath.workdps(30):
        def solve(a, b, c):
            return mpmath.findroot(lambda price: taken(price, a, b) - c, (0.2, 2.2), solver="anderson", tol=1e-50)

        expected = [
            mpmath.diff(solve, tuple(map(mpmath.mpf, point)), tuple(int(i == j) for j in range(3)), h=mpmath.mpf(1e-9))
            for i in range(3)
        ]
    assert gradient(_parties(kind), *point) == pytest.approx([float(value) for value in expected], rel=1e-7)


@pytest.mark.parametrize("available", [0.0, 9.5])
def test_price_of_enough_and_of_nothing_stays(available):
    found = gradient(_parties(3), 4.0, 1.5, available)
    assert found.tolist() == [0, 0, 0]
