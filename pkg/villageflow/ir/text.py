"""Expressions as text: one canonical spelling for messages, documentation and comparison of equations."""

from __future__ import annotations

from collections.abc import Iterator

from villageflow.ir.nodes import Call, Definition, Expr, Integral, Num, Ref, Stateful, Table, TableCall, Uniform

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
            return "".join(_written(definition))


def _written(expr: Expr) -> Iterator[str]:
    """The pieces of the text in order, so that a long sum is not copied for each of its terms."""
    todo: list[Expr | str] = [expr]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            yield item
        else:
            todo.extend(reversed(_pieces(item)))


def _pieces(node: Expr) -> tuple[Expr | str, ...]:
    match node:
        case Num():
            return (repr(node.value),)
        case Ref():
            return (node.name,)
        case Call(function, (left, right)) if function in _INFIX:
            return "(", left, f" {_INFIX[function]} ", right, ")"
        case Call("negative", (operand,)):
            return "(-", operand, ")"
        case Stateful("smooth" | "delay" | "delay_n", (source, time, initial, order)) if initial is source:
            return _called(node.function, (source, time, order))  # it starts at its input
        case Call(function, operands) | Stateful(function, operands):
            return _called(function, operands)
        case TableCall(table, argument):
            return _called(table if isinstance(table, str) else _table(table), (argument,))
        case Uniform(stream, seed):
            return f"uniform({stream}, ", seed, ")"


def _called(function: str, operands: tuple[Expr, ...]) -> tuple[Expr | str, ...]:
    listed = [piece for operand in operands for piece in (", ", operand)]
    return f"{function}(", *listed[1:], ")"


def _table(table: Table) -> str:
    points = ", ".join(f"({x!r}, {y!r})" for x, y in zip(table.x, table.y, strict=True))
    return f"table[{points}]"
