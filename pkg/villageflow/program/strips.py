"""Equal operations of neighbouring elements of arrays as one, in the order in which one member runs them.

Over a block of members every operation is a loop already, and loops over elements too would only keep more values
waiting. A member alone pays for each operation before it computes anything, so there the elements of an array are
computed together, in registers that follow each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from villageflow.names import array_of
from villageflow.program.fuse import Operation, Strip, one_by_one
from villageflow.program.graph import Graph
from villageflow.program.opcodes import LISTED, ONE_BY_ONE

_LONG: Final = ("POWER", "EXP", "LN")

Place = tuple[int, int, bool, int]


def in_strips(graph: Graph, operations: Sequence[Operation]) -> list[Strip]:
    """Operations in strips where they can be, and in an order for one member.

    Parameters
    ----------
    graph : Graph
        Names in it tell which values are elements of one array.
    operations : sequence of Operation
        Segment by segment, operands before their users.

    Notes
    -----
    Only operations of the same place are done together. What reads a value has a later place than it, so that no order
    of elements can be wrong: where an element depends on the one before, each has a place of its own.
    """
    values, place = graph.values, _places(operations)
    made = {operation.index: operation for operation in operations}
    todo = deque(families(graph))
    todo += [(operation.index,) for operation in operations if operation.name in LISTED]
    grouped: set[int] = set()
    strips: list[Strip] = []
    while todo:
        family = [made[i] for i in dict.fromkeys(todo.popleft()) if i in made and i not in grouped]
        for alike in _alike(family, lambda operation: operation.name):
            if len(alike) == 1 and alike[0].name not in LISTED:
                continue
            grouped.update(operation.index for operation in alike)
            todo += _operand_families(alike)
            if alike[0].name not in ONE_BY_ONE:
                together = _alike(alike, lambda operation: (place[operation.index], values[operation.index].label))
                strips += [Strip(tuple(group)) for group in together if len(group) > 1]
    inside = {index for strip in strips for index in strip.values}
    strips += one_by_one(operation for operation in operations if operation.index not in inside)
    return sorted(strips, key=lambda strip: (place[strip.values[0]], strip.values[0]))


def _places(operations: Sequence[Operation]) -> dict[int, Place]:
    """When each operation can run: segment, long operations before it, and operations before it, at least.

    Long operations that do not wait for each other come next to each other: a processor computes them at the same time.
    """
    segments = list(dict.fromkeys(operation.segment for operation in operations))
    depth: dict[int, int] = {}
    level: dict[int, int] = {}
    for operation in operations:
        index, operands = operation.index, operation.operands
        depth[index] = max((depth.get(i, 0) for i in operands), default=0) + (operation.name in _LONG)
        level[index] = max((level.get(i, 0) for i in operands), default=0) + 1
    return {
        operation.index: (
            segments.index(operation.segment), depth[operation.index], operation.name not in _LONG,
            level[operation.index],
        )
        for operation in operations
    }


def families(graph: Graph) -> list[tuple[int, ...]]:
    """Values of the elements of each array, in their order: at a step, and what changes and feeds its memory."""
    groups: dict[tuple[int, str], list[tuple[int, int]]] = {}
    rank = {name: position for position, name in enumerate(graph.model.variables)}
    for kind, names in enumerate((graph.step, graph.flows, graph.delay_input)):
        for name, index in names.items():
            family = array_of(name)
            if family != name:
                groups.setdefault((kind, family), []).append((rank.get(_owner(name), 0), index))
    return [tuple(index for _, index in sorted(group)) for group in groups.values()]


def _owner(name: str) -> str:
    return name.removeprefix("#").split(" ")[0]


def _alike(operations: Sequence[Operation], key: Callable[[Operation], object]) -> list[list[Operation]]:
    groups: dict[object, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(key(operation), []).append(operation)
    return list(groups.values())


def _operand_families(alike: list[Operation]) -> list[tuple[int, ...]]:
    """What equal operations read, operand by operand; all entries of lists together."""
    if alike[0].name in LISTED:
        return [tuple(index for operation in alike for index in operation.operands)]
    return list(zip(*(operation.operands for operation in alike), strict=True))
