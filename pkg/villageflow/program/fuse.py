"""In what order operations run, and which of them as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from villageflow.program.graph import Value
from villageflow.program.opcodes import ARITHMETIC, SWAPPED, THIRD_FIRST

_LONG = ("POWER", "EXP", "LN")


def side_by_side(values: Sequence[Value], sequence: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The sequence with long operations that do not wait for each other next to each other, segment by segment.

    A processor computes them at the same time. That is what one member gains; a block, which has enough members to
    overlap, only keeps more values waiting.
    """
    depth: dict[int, int] = {}
    for index, value in enumerate(values):
        depth[index] = max((depth[operand] for operand in value.operands), default=0) + (value.kind in _LONG)
    segments = list(dict(sequence))
    return sorted(
        sequence, key=lambda at: (segments.index(at[0]), depth[at[1]], values[at[1]].kind not in _LONG, at[1])
    )


def pairs(values: Sequence[Value], sequence: Sequence[tuple[str, int]], kept: Collection[int]) -> dict[int, int]:
    """Second operation of each pair -> the first, which then needs no register and no loop of its own.

    A pair is arithmetic whose result only another operation of arithmetic reads. Both are rounded as they would be
    alone, so that fusing them moves no bit.

    Parameters
    ----------
    values : sequence of Value
        Of the graph.
    sequence : sequence of (str, int)
        Segment and value of each operation that will be emitted; operands before their users.
    kept : collection of int
        Values that are read from outside the sequence.
    """
    segment = {index: name for name, index in sequence if values[index].kind in ARITHMETIC}
    readers = Counter(operand for _, index in sequence for operand in values[index].operands)
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


@dataclass(frozen=True)
class Pair:
    """Two operations as one.

    Attributes
    ----------
    name : str
        Of the operation, one of `opcodes.PAIRS`.
    operands : tuple of int
        The two values that the first reads, and the other one of the second.
    """

    name: str
    operands: tuple[int, int, int]


def pair(values: Sequence[Value], index: int, inner: int, is_scalar: Callable[[int], bool]) -> Pair:
    """The pair of an operation and the one whose result it reads; scalars are on the right where they can be."""
    first, second = values[inner], values[index]
    a, b = first.operands
    if is_scalar(a) and first.kind in SWAPPED:
        a, b = b, a
    on_right = second.operands[1] == inner
    c = second.operands[0] if on_right else second.operands[1]
    kinds = ["S" if is_scalar(operand) else "V" for operand in (a, b, c)]
    then = THIRD_FIRST.get(second.kind, second.kind) if on_right else second.kind
    return Pair(f"{first.kind}_{kinds[0]}{kinds[1]}_{then}_{kinds[2]}", (a, b, c))
