"""Which parameters move which values, and where their influence passes a place that has no derivative."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from villageflow.ir.model import Model
from villageflow.ir.nodes import Interpolation
from villageflow.program.graph import Graph, Rate, build_graph
from villageflow.program.tables import jumps
from villageflow.program.tangent_rules import RULES

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Influence:
    """How a parameter reaches the saved variables.

    Attributes
    ----------
    smooth : bool
        Some path carries a derivative.
    breaks : tuple of str
        Where a path jumps or ends in a value that has no derivative, in words; empty if none does.
    """

    smooth: bool
    breaks: tuple[str, ...]

    @property
    def flag(self) -> str:
        """``smooth``, ``partly``, ``events`` or ``none``: see `ensemble.jacobian.jacobian`."""
        if self.smooth:
            return "partly" if self.breaks else "smooth"
        return "events" if self.breaks else "none"

    @property
    def reason(self) -> str:
        """The breaks as one phrase."""
        more = len(self.breaks) - _SHOWN
        return ", ".join(self.breaks[:_SHOWN]) + (f", and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class _Use:
    """A value that another one reads: whether a derivative passes, and whether it tells less than everything."""

    user: int
    passes: bool
    jumps: bool


@lru_cache(maxsize=64)
def influences(
    model: Model, *, varied: tuple[str, ...], parameters: tuple[str, ...], saves: tuple[str, ...],
    given: frozenset[str] = frozenset(),
) -> Mapping[str, Influence]:
    """The influence of each parameter on the saved variables, where `varied`, the parameters among them, may differ.

    Variables in `given` are supplied and follow nothing.
    """
    graph = build_graph(model, frozenset(varied), given)
    roots = {graph.step[name] for name in saves}
    needed = _closure(roots, {index: [source for source, *_ in _sources(graph, index)] for index in _all(graph)})
    uses = _uses(graph, needed)
    places = _Places(graph)
    found = {}
    for name in parameters:
        moved = _moved([graph.step[name]], uses)
        users = [use.user for index in sorted(moved) for use in uses.get(index, ()) if use.jumps]
        breaks = dict.fromkeys(places.describe(user) for user in users)
        found[name] = Influence(bool(moved & roots), tuple(breaks))
    return found


def moved_values(graph: Graph, parameters: Collection[str]) -> set[int]:
    """Every value that has a derivative with respect to some of the parameters."""
    return _moved([graph.step[name] for name in parameters], _uses(graph, _all(graph)))


def _all(graph: Graph) -> range:
    return range(len(graph.values))


def _sources(graph: Graph, index: int) -> Iterator[tuple[int, bool, bool]]:
    """What a value depends on, states included: (value, whether a derivative passes, whether there are jumps)."""
    value = graph.values[index]
    name = str(value.label)
    match value.kind:
        case "literal" | "scalar" | "parameter":
            return
        case "stock":
            yield graph.flows[name], True, False
            yield graph.start[name], True, False
        case "hold":
            yield value.operands[0], False, True
            yield value.operands[1], True, False
            yield graph.hold_start[name], True, False
        case "delay":
            yield graph.delay_input[name], True, False
            delay_time, initial = graph.delay_start[name]
            yield delay_time, False, True
            yield initial, True, False
        case "TABLE":
            table = graph.tables[int(value.label)]  # type: ignore[call-overload]
            yield value.operands[0], table.interpolation is Interpolation.LINEAR, jumps(table)
        case kind:
            rule = RULES[kind]
            for position, operand in enumerate(value.operands):
                flat = position in rule.flat
                yield operand, not flat, flat or position in rule.jumps


def _uses(graph: Graph, needed: Collection[int]) -> dict[int, list[_Use]]:
    uses: dict[int, list[_Use]] = {}
    for index in needed:
        for source, passes, with_jumps in _sources(graph, index):
            uses.setdefault(source, []).append(_Use(index, passes, with_jumps))
    return uses


def _moved(starts: list[int], uses: dict[int, list[_Use]]) -> set[int]:
    return _closure(starts, {index: [use.user for use in users if use.passes] for index, users in uses.items()})


def _closure(starts: Collection[int], following: dict[int, list[int]]) -> set[int]:
    seen: set[int] = set()
    todo = list(starts)
    while todo:
        index = todo.pop()
        if index not in seen:
            seen.add(index)
            todo.extend(following.get(index, ()))
    return seen


class _Places:
    """Values described for people: what happens there, and in which variable of the model."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        owners: dict[int, str] = {}
        for names in (graph.start, graph.hold_start, graph.step, graph.flows, graph.delay_input):
            for name, index in names.items():
                owners.setdefault(index, name)
        for name, starts in graph.delay_start.items():
            for index in starts:
                owners.setdefault(index, name)
        self._roots = sorted(owners)  # a value belongs to the equation that was being read when it arose
        self._owners = owners
        users: dict[int, list[int]] = {}
        for index, value in enumerate(graph.values):
            for operand in value.operands:
                users.setdefault(operand, []).append(index)
        clock = [i for i, value in enumerate(graph.values) if value.kind == "scalar" and value.rate is Rate.TIME]
        states = [i for i, value in enumerate(graph.values) if value.kind in ("stock", "delay", "hold")]
        self._scheduled = _closure(clock, users) - _closure(states, users)

    def describe(self, user: int) -> str:
        graph = self._graph
        value = graph.values[user]
        owner = self._owners[self._roots[bisect_left(self._roots, user)]]
        match value.kind:
            case "delay":
                owner, what = str(value.label), "the delay time of DELAY FIXED"
            case "INTEGER":
                what = "the number of stages of DELAY N" if owner.endswith(" stages") else "a whole number"
            case "TABLE":
                what = "a table with steps"
            case kind if kind in ("hold", "IF_THEN_ELSE", "AND", "OR", "NOT"):
                what = "a condition"
            case _ if user in self._scheduled:
                what = "the time of an event"
            case "ALLOCATION_SHARE" | "ALLOCATION_PRICE":
                what = "the kind of a profile of allocation"
            case "COUNT_PROBABILITY" | "COUNT_QUANTILE" | "BETA_PROBABILITY" | "BETA_QUANTILE":
                what = "the shape of a distribution"
            case "MODULO":
                what = "a remainder"
            case _:
                what = "a comparison"
        variable = graph.model.variables.get(owner.split(" ")[0].removeprefix("#"))
        return f"{what} in {variable.name if variable else owner!r}"
