"""Which operations compute the values of a graph: variants for kinds of operands, pairs of arithmetic, sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from villageflow.program.graph import Value
from villageflow.program.opcodes import ARITHMETIC, OPERANDS, SCALAR_VECTOR, SWAPPED, THIRD_FIRST, VECTOR_SCALAR

FEWEST_SUMMANDS = 4
"""Over three, two additions as a pair take as long."""


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


@dataclass(frozen=True, slots=True)
class Strip:
    """Operations of one name that are done together; mostly one alone."""

    operations: tuple[Operation, ...]

    @property
    def segment(self) -> str:
        """Of all the operations."""
        return self.operations[0].segment

    @property
    def values(self) -> tuple[int, ...]:
        """What the operations compute."""
        return tuple(operation.index for operation in self.operations)

    def runs(self) -> Iterator[tuple[int, ...]]:
        """What the operations read: for each operand, the values of all elements."""
        return zip(*(operation.operands for operation in self.operations), strict=True)


def one_by_one(operations: Iterable[Operation]) -> list[Strip]:
    """Every operation alone, as they come."""
    return [Strip((operation,)) for operation in operations]


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
    found = []
    for segment, index in sequence:
        if summands.get(index) != ():
            name, operands = ("SUM", summands[index]) if index in summands else _variant(values[index], is_scalar)
            found.append(Operation(segment, index, name, operands))
    return found


def sums(
    values: Sequence[Value], sequence: Sequence[tuple[str, int]], kept: Collection[int]
) -> dict[int, tuple[int, ...]]:
    """Last addition of each long sum -> its summands from left to right; () for the other additions of a sum."""
    segment = {index: name for name, index in sequence if values[index].kind == "ADD"}
    readers = Counter(operand for _, index in sequence for operand in values[index].operands)
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


def pairs(strips: Sequence[Strip], kept: Collection[int]) -> list[Strip]:
    """The same strips with two of arithmetic as one where only the second reads the first.

    The first then needs no register and no loop of its own. Both are rounded as they would be alone, so that fusing
    them moves no bit.

    Parameters
    ----------
    strips : sequence of Strip
        Operands before their users.
    kept : collection of int
        Values that are read from outside.
    """
    readers = Counter(index for strip in strips for operation in strip.operations for index in operation.operands)
    free = {
        strip.values: strip for strip in strips
        if _arithmetic(strip) and all(readers[index] == 1 and index not in kept for index in strip.values)
    }
    found: list[Strip] = []
    fused: set[tuple[int, ...]] = set()
    for strip in reversed(strips):
        if strip.values in fused:
            continue
        for place, run in enumerate(strip.runs() if _arithmetic(strip) else ()):
            if run in free and free[run].segment == strip.segment:
                strip = Strip(tuple(map(partial(_pair, place), free[run].operations, strip.operations)))
                fused.add(run)
                break
        found.append(strip)
    return found[::-1]


def _arithmetic(strip: Strip) -> bool:
    return _bare(strip.operations[0].name) in ARITHMETIC


def _bare(name: str) -> str:
    return name.removesuffix("_VS").removesuffix("_SV")


def _pair(place: int, first: Operation, second: Operation) -> Operation:
    """Two operations as one; the second has the result of the first as its left (0) or right (1) operand."""
    name, third = _bare(second.name), OPERANDS[second.name][1 - place]
    then = THIRD_FIRST.get(name, name) if place else name
    return Operation(
        second.segment, second.index, f"{_bare(first.name)}_{OPERANDS[first.name]}_{then}_{third}",
        (*first.operands, second.operands[1 - place]),
    )


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
