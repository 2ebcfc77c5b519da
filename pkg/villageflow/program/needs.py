"""What a program must compute: the states that its saved variables depend on, and the values of each segment."""

from __future__ import annotations

from collections.abc import Sequence

from villageflow.errors import UnsupportedError
from villageflow.ir.model import Model
from villageflow.names import array_of
from villageflow.program.events import Event
from villageflow.program.graph import Graph, Value


class Needs:
    """Found from the saved variables backwards.

    Attributes
    ----------
    stocks, delays : list of str
        In the order of the model, elements of one array together.
    flows, inputs : list of int
        Net flows of the stocks and inputs of the delays.
    holds : list of int
    starts : list of int
        Initial values of stocks and holds, delay times and initial values of delays.
    roots : list of int
        Values of the saved variables.
    start, lane, save : set of int
        What is computed at the start, at each stage, and at save points only.
    events : list of Event
        Of an adaptive run; `event_values` what they read.
    """

    def __init__(self, graph: Graph, saves: Sequence[str]) -> None:
        self._graph = graph
        self.roots = [graph.step[name] for name in saves]
        stocks, delays = self._states()
        arrays = {array: place for place, array in enumerate(dict.fromkeys(map(array_of, graph.flows)))}
        ordered = (name for name in graph.flows if name in stocks)
        self.stocks = sorted(ordered, key=lambda name: arrays[array_of(name)])
        self.delays = [name for name in graph.delay_input if name in delays]
        self.flows = [graph.flows[name] for name in self.stocks]
        self.inputs = [graph.delay_input[name] for name in self.delays]
        self.lane = self._reach([*self.flows, *self.inputs, *self.holds], set())
        self.save = self._reach(self.roots, self.lane)
        self.starts = [graph.start[name] for name in self.stocks]
        self.starts += [graph.hold_start[str(graph.values[index].label)] for index in self.holds]
        self.starts += [value for name in self.delays for value in graph.delay_start[name]]
        self.start = self._reach(self.starts, set())
        self.events: list[Event] = []
        self.event_values: list[int] = []
        if graph.adaptive:
            self._add_events()

    def _states(self) -> tuple[set[str], set[str]]:
        """Stocks and delays that the saved variables depend on; sets `holds`."""
        graph = self._graph
        flows = [graph.flows[name] for name in graph.model.stocks] if graph.adaptive else []
        stocks: set[str] = set(graph.model.stocks) if graph.adaptive else set()
        delays: set[str] = set()
        holds: list[int] = []
        seen: set[int] = set()
        todo = [*self.roots, *flows]
        while todo:
            fresh = self._reach(todo, seen)
            seen |= fresh
            todo = []
            for index in fresh:
                value = graph.values[index]
                name = str(value.label)
                if value.kind == "stock" and name not in stocks:
                    found = {name, graph.non_negative.get(name, name)} - stocks
                    stocks |= found
                    todo += [graph.flows[stock] for stock in sorted(found)]
                elif value.kind == "delay" and name not in delays:
                    delays.add(name)
                    todo.append(graph.delay_input[name])
                elif value.kind == "hold":
                    holds.append(index)
        self.holds = sorted(holds)
        return stocks, delays

    def _add_events(self) -> None:
        """Events of the whole model, whatever is saved; refuses what an adaptive run cannot compute."""
        values = self._graph.values
        refused = {i for i, value in enumerate(values) if value.kind == "refused"}
        if needed := sorted(refused & (self.start | self.lane | self.save)):
            raise UnsupportedError(_refusal(self._graph.model, [values[i] for i in needed]))
        events = dict.fromkeys(self._graph.events)
        self.events = [event for event in events if not refused & self._reach(list(event.values()), set())]
        self.event_values = [value for event in self.events for value in event.values()]
        self.start |= self._reach(self.event_values, set())

    def _reach(self, roots: list[int], stop: set[int]) -> set[int]:
        seen: set[int] = set()
        todo = [root for root in roots if root not in stop]
        while todo:
            index = todo.pop()
            if index not in seen:
                seen.add(index)
                todo.extend(i for i in self._graph.values[index].operands if i not in seen and i not in stop)
        return seen


def _refusal(model: Model, refused: list[Value]) -> str:
    """One sentence for everything that an adaptive run cannot compute; labels are pairs of owner and construct."""
    uses: dict[str, None] = {}
    for value in refused:
        assert isinstance(value.label, tuple)
        owner, what = value.label
        owner = owner.removeprefix("#").split(" ")[0]
        written = model.variables[owner].name if owner in model.variables else owner
        uses[f"{written!r} uses {what}"] = None
    listed = list(uses)
    shown = "; ".join(listed[:6]) + (f"; and {len(listed) - 6} more" if len(listed) > 6 else "")
    return (
        f"model {model.name!r} cannot run with steps of variable length: {shown}; run it with method euler or rk4"
    )
