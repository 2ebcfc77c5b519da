"""The derivative of every operation: one table, used to differentiate a graph and to tell what cannot be.

A rule writes the tangent of an operation's result from the values and the tangents of its operands, with operations
of the tape. A tangent that is zero for every direction is None and costs nothing. At a kink the derivative is that
of the branch that the operation itself takes.

A product of a tangent that is exactly zero with a slope that may be infinite is zero: the square root of a stock that
is empty has no derivative with respect to the stock, but has one, zero, with respect to what does not move the stock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from villageflow.program.graph import Graph
from villageflow.program.opcodes import XIDZ_ZERO
from villageflow.program.tables import slope_table

Tangent: TypeAlias = int | None
TangentRule: TypeAlias = Callable[[Graph, int, tuple[int, ...], tuple[Tangent, ...]], Tangent]


_MAX_OPERANDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """How an operation passes on derivatives.

    Attributes
    ----------
    tangent : callable or None
        From (graph, result, operands, tangents of the operands) to the tangent of the result. None: always zero.
    flat : collection of int
        Operands that the result does not follow: its derivative with respect to them is zero by rule.
    jumps : collection of int
        Operands that the result follows except for jumps, of which the derivative knows nothing.
    """

    tangent: TangentRule | None
    flat: Collection[int] = ()
    jumps: Collection[int] = ()


# ------------------------------------------------------------------------------------ tangents that may be zero


def _plus(graph: Graph, a: Tangent, b: Tangent) -> Tangent:
    if a is None or b is None:
        return b if a is None else a
    return graph.op("ADD", a, b)


def _minus(graph: Graph, a: Tangent, b: Tangent) -> Tangent:
    if b is None:
        return a
    return graph.op("NEGATIVE", b) if a is None else graph.op("SUBTRACT", a, b)


def _times(graph: Graph, tangent: Tangent, slope: int) -> Tangent:
    return None if tangent is None else graph.op("MULTIPLY", tangent, slope)


def _over(graph: Graph, tangent: Tangent, divisor: int) -> Tangent:
    return None if tangent is None else graph.op("DIVIDE", tangent, divisor)


def _choose(graph: Graph, condition: int, a: Tangent, b: Tangent) -> Tangent:
    if a is None and b is None:
        return None
    zero = graph.literal(0.0)
    return graph.op("IF_THEN_ELSE", condition, zero if a is None else a, zero if b is None else b)


def _unless_zero(graph: Graph, value: int, result: Tangent) -> Tangent:
    """`result`, but zero where `value` is zero, whatever an infinite slope made of it."""
    return _choose(graph, graph.op("EQUAL", value, graph.literal(0.0)), None, result)


# ------------------------------------------------------------------------------------------------- arithmetic


def _multiply(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    return _plus(graph, _times(graph, dx[0], x[1]), _times(graph, dx[1], x[0]))


def _divide(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    """``(da - y db) / b``."""
    by_divisor = None if dx[1] is None else _unless_zero(graph, dx[1], _times(graph, dx[1], y))
    top = _minus(graph, dx[0], by_divisor)
    return None if top is None else graph.op("DIVIDE", top, x[1])


def _xidz(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    a, b, _ = x
    near_zero = graph.op("LESS", graph.op("ABS", b), graph.literal(XIDZ_ZERO))
    return _choose(graph, near_zero, dx[2], _divide(graph, y, (a, b), dx[:2]))


def _modulo(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    """The remainder is ``a - n b``; `n` is whole and stays."""
    if dx[1] is None:
        return dx[0]
    times = graph.op("DIVIDE", graph.op("SUBTRACT", x[0], y), x[1])
    return _minus(graph, dx[0], _times(graph, dx[1], times))


def _power(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    """``e b^(e-1) db + b^e ln b de``, the first as ``e (b^e / b)`` so that no second power is taken."""
    base, exponent = x
    op, zero = graph.op, graph.literal(0.0)
    by_base = by_exponent = None
    if dx[0] is not None:
        falling = op("POWER", zero, op("SUBTRACT", exponent, graph.literal(1.0)))
        at_zero = op("IF_THEN_ELSE", op("EQUAL", exponent, zero), zero, op("MULTIPLY", exponent, falling))
        elsewhere = op("MULTIPLY", exponent, op("DIVIDE", y, base))
        slope = op("IF_THEN_ELSE", op("EQUAL", base, zero), at_zero, elsewhere)
        by_base = _unless_zero(graph, dx[0], _times(graph, dx[0], slope))
    if dx[1] is not None:
        slope = op("IF_THEN_ELSE", op("EQUAL", y, zero), zero, op("MULTIPLY", y, op("LN", base)))
        by_exponent = _unless_zero(graph, dx[1], _times(graph, dx[1], slope))
    return _plus(graph, by_base, by_exponent)


# -------------------------------------------------------------------------------------------------- functions


def _exp(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    """A value that overflows stays infinite however its argument moves: a saturated logistic curve is flat."""
    return _choose(graph, graph.op("EQUAL", y, graph.literal(math.inf)), None, _times(graph, dx[0], y))


def _ln(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    return None if dx[0] is None else _unless_zero(graph, dx[0], _over(graph, dx[0], x[0]))


def _sqrt(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    return None if dx[0] is None else _unless_zero(graph, dx[0], _over(graph, dx[0], graph.op("ADD", y, y)))


def _arcsin(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    if dx[0] is None:
        return None
    one = graph.literal(1.0)
    inside = graph.op("MULTIPLY", graph.op("SUBTRACT", one, x[0]), graph.op("ADD", one, x[0]))
    return _unless_zero(graph, dx[0], _over(graph, dx[0], graph.op("SQRT", inside)))


def _arccos(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    return _minus(graph, None, _arcsin(graph, y, x, dx))


def _arctan(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    return _over(graph, dx[0], graph.op("ADD", graph.literal(1.0), graph.op("MULTIPLY", x[0], x[0])))


def _tan(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    return _times(graph, dx[0], graph.op("ADD", graph.literal(1.0), graph.op("MULTIPLY", y, y)))


def _tanh(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    """Over the square of the cosh: ``1 - y^2`` would lose its digits where the tanh is flat."""
    cosh = graph.op("COSH", x[0])
    return _over(graph, dx[0], graph.op("MULTIPLY", cosh, cosh))


def _table(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    if dx[0] is None:
        return None
    table = graph.tables[int(graph.values[y].label)]  # type: ignore[call-overload]
    return _times(graph, dx[0], graph.table(slope_table(table), x[0]))


# ------------------------------------------------------------------------------------------------- allocation


def _share_slope(graph: Graph, kind: int, z: int) -> int:
    """Slope of a profile of allocation: minus its density at `z` widths above the party's priority."""
    op, literal = graph.op, graph.literal
    beside = op("SUBTRACT", literal(0.5), op("ABS", z))  # within a profile of bounded width
    inside = op("GREATER", beside, literal(0.0))
    bell = op("EXP", op("MULTIPLY", literal(-0.5), op("MULTIPLY", z, z)))
    slopes = (
        (1.0, op("NEGATIVE", inside)),
        (2.0, op("MULTIPLY", literal(-4.0), op("MAX", beside, literal(0.0)))),
        (3.0, op("MULTIPLY", literal(-1.0 / math.sqrt(2.0 * math.pi)), bell)),
        (4.0, op("MULTIPLY", literal(-0.5), op("EXP", op("NEGATIVE", op("ABS", z))))),
    )
    found = literal(math.nan)
    for number, slope in slopes:
        found = op("IF_THEN_ELSE", op("EQUAL", kind, literal(number)), slope, found)
    return found


def _allocation_share(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    """Where the profile is flat the share stays, however far away the price is."""
    if dx[1] is None:
        return None
    slope = _share_slope(graph, x[0], x[1])
    return _unless_zero(graph, slope, _times(graph, dx[1], slope))


def _allocation_price(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    """The price `y` at which the shares take all, ``sum r s((y - p) / w) = available``, differentiated as it stands.

    Where no party's share has a slope, because there is enough for all or nothing at all, the price has none.
    """
    op = graph.op
    top, bottom = dx[0], graph.literal(0.0)
    for first in range(1, len(x), 4):
        request, kind, priority, width = x[first:first + 4]
        d_request, _, d_priority, d_width = dx[first:first + 4]
        z = op("DIVIDE", op("SUBTRACT", y, priority), width)
        slope = op("DIVIDE", op("MULTIPLY", request, _share_slope(graph, kind, z)), width)
        bottom = op("ADD", bottom, slope)
        if d_request is not None:
            top = _minus(graph, top, _times(graph, d_request, op("ALLOCATION_SHARE", kind, z)))
        moved = _plus(graph, d_priority, _times(graph, d_width, z))
        top = _plus(graph, top, _times(graph, moved, slope))
    return _unless_zero(graph, bottom, _over(graph, top, bottom))


# --------------------------------------------------------------------------------------------------- branches


def _active(comparison: str) -> TangentRule:
    """MIN and MAX: the first operand where it wins, the second elsewhere, as the operation itself chooses."""

    def rule(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
        return _choose(graph, graph.op(comparison, x[0], x[1]), dx[0], dx[1])

    return rule


def _abs(graph: Graph, y: int, x: tuple[int, ...], dx: tuple[Tangent, ...]) -> Tangent:
    condition = graph.op("GREATER_EQUAL", x[0], graph.literal(0.0))
    return _choose(graph, condition, dx[0], _minus(graph, None, dx[0]))


_FLAT = Rule(None, flat=(0, 1, 2))


def _normal_density(graph: Graph, x: int) -> int:
    """Density of the standard normal distribution."""
    exponent = graph.op("MULTIPLY", graph.op("MULTIPLY", x, x), graph.literal(-0.5))
    return graph.op("MULTIPLY", graph.op("EXP", exponent), graph.literal(1.0 / math.sqrt(2.0 * math.pi)))



RULES: dict[str, Rule] = {
    "NEGATIVE": Rule(lambda graph, y, x, dx: _minus(graph, None, dx[0])),
    "ADD": Rule(lambda graph, y, x, dx: _plus(graph, dx[0], dx[1])),
    "SUBTRACT": Rule(lambda graph, y, x, dx: _minus(graph, dx[0], dx[1])),
    "MULTIPLY": Rule(_multiply),
    "DIVIDE": Rule(_divide),
    "XIDZ": Rule(_xidz),
    "MODULO": Rule(_modulo, jumps=(0, 1)),
    "POWER": Rule(_power),
    "EXP": Rule(_exp),
    "LN": Rule(_ln),
    "SQRT": Rule(_sqrt),
    "SIN": Rule(lambda graph, y, x, dx: _times(graph, dx[0], graph.op("COS", x[0]))),
    "COS": Rule(lambda graph, y, x, dx: _minus(graph, None, _times(graph, dx[0], graph.op("SIN", x[0])))),
    "TAN": Rule(_tan),
    "ARCSIN": Rule(_arcsin),
    "ARCCOS": Rule(_arccos),
    "ARCTAN": Rule(_arctan),
    "SINH": Rule(lambda graph, y, x, dx: _times(graph, dx[0], graph.op("COSH", x[0]))),
    "COSH": Rule(lambda graph, y, x, dx: _times(graph, dx[0], graph.op("SINH", x[0]))),
    "TANH": Rule(_tanh),
    "TABLE": Rule(_table),
    "ALLOCATION_SHARE": Rule(_allocation_share, flat=(0,)),
    "ALLOCATION_PRICE": Rule(_allocation_price, flat=range(2, _MAX_OPERANDS, 4)),  # the profiles of the parties
    "ABS": Rule(_abs),
    "MIN": Rule(_active("LESS")),
    "MAX": Rule(_active("GREATER")),
    "IF_THEN_ELSE": Rule(lambda graph, y, x, dx: _choose(graph, x[0], dx[1], dx[2]), flat=(0,)),
    "UNIFORM": _FLAT, "GIVEN": _FLAT,  # the same numbers whatever the parameters are
    "NORMAL_PROBABILITY": Rule(lambda graph, y, x, dx: _times(graph, dx[0], _normal_density(graph, x[0]))),
    "NORMAL_QUANTILE": Rule(lambda graph, y, x, dx: _over(graph, dx[0], _normal_density(graph, y))),
    "COUNT_PROBABILITY": _FLAT, "COUNT_QUANTILE": _FLAT, "BETA_PROBABILITY": _FLAT, "BETA_QUANTILE": _FLAT,
    "INTEGER": _FLAT, "NOT": _FLAT, "AND": _FLAT, "OR": _FLAT,
    "LESS": _FLAT, "LESS_EQUAL": _FLAT, "GREATER": _FLAT, "GREATER_EQUAL": _FLAT, "EQUAL": _FLAT, "NOT_EQUAL": _FLAT,
}
"""The rule of every operation that a graph may hold."""
