"""The inverse of a matrix of expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from villageflow.ir.nodes import Call, Expr, Num


def inverse(
    matrix: Sequence[Sequence[Expr]], hide: Callable[[str, Expr], Expr]
) -> list[list[Expr]]:
    """Gauss-Jordan elimination with partial pivoting, written out as expressions.

    Parameters
    ----------
    matrix : sequence of sequence of Expr
        n rows of n entries.
    hide : callable
        Turns (label, expression) into a reference to a variable that holds it; intermediate values are used often.

    Returns
    -------
    list of list of Expr
        n rows of n entries. Where the matrix is singular, the values are not finite.
    """
    n = len(matrix)
    rows = [
        [hide("entry", entry) for entry in row] + [Num(float(i == j)) for j in range(n)] for i, row in enumerate(matrix)
    ]
    for k in range(n):
        for i in range(k + 1, n):  # after these swaps row k has the largest entry of column k
            swap = hide("swap", Call("less", (_abs(rows[k][k]), _abs(rows[i][k]))))
            upper = [_choose(swap, below, above) for above, below in zip(rows[k], rows[i], strict=True)]
            lower = [_choose(swap, above, below) for above, below in zip(rows[k], rows[i], strict=True)]
            rows[k] = [hide("pivot", entry) for entry in upper]
            rows[i] = [hide("row", entry) for entry in lower]
        pivot = rows[k][k]
        rows[k] = [hide("pivot", _over(entry, pivot)) for entry in rows[k]]
        for i in range(n):
            if i != k:
                factor = rows[i][k]
                rows[i] = [
                    hide("row", _minus(entry, factor, own)) for entry, own in zip(rows[i], rows[k], strict=True)
                ]
    return [row[n:] for row in rows]


def _abs(expr: Expr) -> Expr:
    return Call("abs", (expr,))


def _choose(condition: Expr, yes: Expr, no: Expr) -> Expr:
    return yes if yes == no else Call("if_then_else", (condition, yes, no))


def _over(entry: Expr, pivot: Expr) -> Expr:
    return Call("divide", (entry, pivot))


def _minus(entry: Expr, factor: Expr, own: Expr) -> Expr:
    return Call("subtract", (entry, Call("multiply", (factor, own))))
