"""Expressions as text: one canonical spelling for messages, documentation and comparison of equations."""

from __future__ import annotations

from villageflow.ir.nodes import Call, Definition, Expr, Integral, Num, Ref, Stateful, Table, TableCall, Uniform
from villageflow.ir.walk import fold

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "^",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "=", "not_equal": "<>",
    "and": "and", "or": "or",
}


def text(definition: Definition) -> str:
    """The right-hand side of an equation in canonical names, fully parenthesised."""
    match definition:
        case Integral():
            return f"integ({text(definition.net_flow)}, {text(definition.initial)})"
        case Table():
            return _table(definition)
        case _:
            return fold(definition, _combine)


def _combine(node: Expr, operands: tuple[str, ...]) -> str:
    match node:
        case Num():
            return repr(node.value)
        case Ref():
            return node.name
        case Call(function) if function in _INFIX:
            return f"({operands[0]} {_INFIX[function]} {operands[1]})"
        case Call("negative"):
            return f"(-{operands[0]})"
        case Stateful("smooth" | "delay" | "delay_n", (source, _, initial, _)) if initial is source:
            return f"{node.function}({operands[0]}, {operands[1]}, {operands[3]})"  # it starts at its input
        case Call(function) | Stateful(function):
            return f"{function}({', '.join(operands)})"
        case TableCall(table):
            name = table if isinstance(table, str) else _table(table)
            return f"{name}({operands[0]})"
        case Uniform(stream):
            return f"uniform({stream}, {operands[0]})"


def _table(table: Table) -> str:
    points = ", ".join(f"({x!r}, {y!r})" for x, y in zip(table.x, table.y, strict=True))
    return f"table[{points}]"
