"""Which operations compute the values of a graph: variants for kinds of operands, pairs of arithmetic, sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from villageflow.program.graph import Value
from villageflow.program.opcodes import ARITHMETIC, SCALAR_VECTOR, SWAPPED, THIRD_FIRST, VECTOR_SCALAR

FEWEST_SUMMANDS = 8
"""A shorter sum is as fast by pairs."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What computes one value.

    Attributes
    ----------
    segment : str
    index : int
        The value.
    name : str
        One of `opcodes.NAMES`.
    operands : tuple of int
        The values that it reads.
    """

    segment: str
    index: int
    name: str
    operands: tuple[int, ...]


def operations(
    values: Sequence[Value], sequence: Sequence[tuple[str, int]], kept: Collection[int],
    is_scalar: Callable[[int], bool], *, with_sums: bool = False,
) -> list[Operation]:
    """The operations that compute a sequence of values.

    Parameters
    ----------
    values : sequence of Value
        Of the graph.
    sequence : sequence of (str, int)
        Segment and value; operands before their users.
    kept : collection of int
        Values that are read from outside the sequence.
    is_scalar : callable
        Whether a value is equal for all members.
    with_sums : bool
        Whether a long sum is one operation. That is for one member: over a block, pairs pass over memory less often.
    """
    summands = sums(values, sequence, kept) if with_sums else {}
    inner = pairs(values, sequence, kept, taken=summands.keys())
    first = {*inner.values()}
    found = []
    for segment, index in sequence:
        value = values[index]
        if index in first or summands.get(index) == ():
            continue
        if index in summands:
            name, operands = "SUM", summands[index]
        elif index in inner:
            name, operands = _pair(values, index, inner[index], is_scalar)
        else:
            name, operands = _variant(value, is_scalar)
        found.append(Operation(segment, index, name, operands))
    return found


def sums(
    values: Sequence[Value], sequence: Sequence[tuple[str, int]], kept: Collection[int]
) -> dict[int, tuple[int, ...]]:
    """Last addition of each long sum -> its summands from left to right; () for the other additions of a sum."""
    segment = {index: name for name, index in sequence if values[index].kind == "ADD"}
    readers = _readers(values, sequence)
    found: dict[int, tuple[int, ...]] = {}
    for last in reversed(segment):
        if last in found:
            continue
        chain, summands, operands = [last], [], values[last].operands
        while before := [i for i in operands if segment.get(i) == segment[last] and readers[i] == 1 and i not in kept]:
            chain.append(before[0])
            summands.append(operands[1] if operands[0] == before[0] else operands[0])
            operands = values[before[0]].operands
        summands += reversed(operands)
        if len(summands) >= FEWEST_SUMMANDS:
            found |= dict.fromkeys(chain, ()) | {last: tuple(reversed(summands))}
    return found


def pairs(
    values: Sequence[Value], sequence: Sequence[tuple[str, int]], kept: Collection[int], taken: Collection[int] = ()
) -> dict[int, int]:
    """Second operation of each pair -> the first, which then needs no register and no loop of its own.

    A pair is arithmetic whose result only another operation of arithmetic reads. Both are rounded as they would be
    alone, so that fusing them moves no bit. Values in `taken` are in no pair.
    """
    segment = {
        index: name for name, index in sequence if values[index].kind in ARITHMETIC and index not in taken
    }
    readers = _readers(values, sequence)
    found: dict[int, int] = {}
    fused: set[int] = set()
    for index in reversed(segment):
        if index in fused:
            continue
        for operand in values[index].operands:
            if segment.get(operand) == segment[index] and readers[operand] == 1 and operand not in kept:
                found[index] = operand
                fused.add(operand)
                break
    return found


def _readers(values: Sequence[Value], sequence: Sequence[tuple[str, int]]) -> Counter[int]:
    return Counter(operand for _, index in sequence for operand in values[index].operands)


def _pair(
    values: Sequence[Value], index: int, inner: int, is_scalar: Callable[[int], bool]
) -> tuple[str, tuple[int, ...]]:
    """The pair of an operation and the one whose result it reads; scalars are on the right where they can be."""
    first, second = values[inner], values[index]
    a, b = first.operands
    if is_scalar(a) and first.kind in SWAPPED:
        a, b = b, a
    on_right = second.operands[1] == inner
    c = second.operands[0] if on_right else second.operands[1]
    kinds = ["S" if is_scalar(operand) else "V" for operand in (a, b, c)]
    then = THIRD_FIRST.get(second.kind, second.kind) if on_right else second.kind
    return f"{first.kind}_{kinds[0]}{kinds[1]}_{then}_{kinds[2]}", (a, b, c)


def _variant(value: Value, is_scalar: Callable[[int], bool]) -> tuple[str, tuple[int, ...]]:
    kind, operands = value.kind, value.operands
    if len(operands) == 2:
        left, right = operands
        if is_scalar(right) and kind in VECTOR_SCALAR:
            return f"{kind}_VS", operands
        if is_scalar(left) and kind in SWAPPED:
            return f"{SWAPPED[kind]}_VS", (right, left)
        if is_scalar(left) and kind in SCALAR_VECTOR:
            return f"{kind}_SV", operands
    return "HOLD" if kind == "hold" else kind, operands
