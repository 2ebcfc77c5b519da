"""Walking expressions without recursion, so that no depth of nesting exhausts the interpreter's stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from villageflow.ir.nodes import Call, Expr, Num, Ref, Stateful, TableCall, Uniform

T = TypeVar("T")


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression."""
    match expr:
        case Num() | Ref():
            return ()
        case Call() | Stateful():
            return expr.arguments
        case TableCall():
            return (expr.argument,)
        case Uniform():
            return (expr.seed,)


def fold(
    expr: Expr, combine: Callable[[Expr, tuple[T, ...]], T], whole: Callable[[Expr], bool] | None = None
) -> T:
    """Evaluate bottom-up: ``combine(node, results of its children)`` for every node, children first.

    Nodes for which `whole` holds are handed over without their children: ``combine(node, ())``. A node that occurs at
    several places is evaluated once: inputs that are also initial values, such as those of a smooth in a smooth, would
    else take time that doubles with each level.
    """
    results: dict[int, T] = {}
    todo: list[tuple[Expr, bool]] = [(expr, False)]
    while todo:
        node, ready = todo.pop()
        if id(node) in results:
            continue
        operands = () if whole is not None and whole(node) else children(node)
        if ready or not operands:
            results[id(node)] = combine(node, tuple([results[id(operand)] for operand in operands]))
        else:
            todo.append((node, True))
            todo.extend([(operand, False) for operand in reversed(operands)])
    return results[id(expr)]


def rebuild(expr: Expr, operands: tuple[Expr, ...]) -> Expr:
    """The same node over other operands."""
    match expr:
        case Num() | Ref():
            return expr
        case Call():
            same = all(new is old for new, old in zip(operands, expr.arguments, strict=True))
            return expr if same else Call(expr.function, operands)
        case Stateful():
            return Stateful(expr.function, operands)
        case TableCall():
            return TableCall(expr.table, operands[0])
        case Uniform():
            return Uniform(expr.stream, operands[0])


def nodes(expr: Expr) -> Iterator[Expr]:
    """Every node of an expression once, parents first."""
    todo, seen = [expr], {id(expr)}
    while todo:
        node = todo.pop()
        yield node
        for operand in reversed(children(node)):
            if id(operand) not in seen:
                seen.add(id(operand))
                todo.append(operand)
