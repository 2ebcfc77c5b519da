"""The value of an expression at the start of a run, where lowering has to know it: the order of a delay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from villageflow.ir.nodes import Call, Definition, Expr, Integral, Num, Ref, Stateful, Table, TableCall, Uniform
from villageflow.ir.walk import fold
from villageflow.lower.resolve import TIME

_MAX_DEPTH: Final = 100
_ARITHMETIC: Final[Mapping[str, Callable[..., float]]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a: -a,
    "min": min,
    "max": max,
}


def value_at_start(expr: Expr, definitions: Mapping[str, Definition]) -> tuple[float, frozenset[str]] | None:
    """The value of an expression at the start, by arithmetic with numbers, constants and steps alone.

    Parameters
    ----------
    expr : Expr
        Resolved.
    definitions : mapping of str to Definition
        Resolved equations by id.

    Returns
    -------
    value : float
    used : frozenset of str
        Constants that it depends on.
    None where more than arithmetic is needed.
    """
    used: set[str] = set()
    try:
        return _evaluate(expr, definitions, used, 0), frozenset(used)
    except (KeyError, ZeroDivisionError, OverflowError):
        return None


def _evaluate(expr: Expr, definitions: Mapping[str, Definition], used: set[str], depth: int) -> float:
    if depth > _MAX_DEPTH:
        raise KeyError("too deep")

    def meaning(node: Expr, operands: tuple[float, ...]) -> float:
        match node:
            case Num(value):
                return value
            case Ref(name):
                definition = definitions["initial_time" if name == TIME else name]
                if isinstance(definition, (Integral, Table)):
                    raise KeyError(name)
                if isinstance(definition, Num):
                    used.add(name)
                return _evaluate(definition, definitions, used, depth + 1)
            case Call("step", _):
                start = _evaluate(Ref(TIME), definitions, set(), depth + 1)
                return operands[0] if operands[1] <= start else 0.0
            case Call(function):
                return _ARITHMETIC[function](*operands)
            case TableCall() | Stateful() | Uniform():
                raise KeyError("more than arithmetic")

    return fold(expr, meaning)
