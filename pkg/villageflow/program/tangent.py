"""Forward derivatives: beside every value of a graph its tangent, the derivative along one direction.

A direction is an input of the program like a parameter, one *seed* for each parameter that it moves. A lane that runs
with the seeds (0, .., 1, .., 0) carries the derivatives with respect to one parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

from villageflow.program.graph import Graph, Rate
from villageflow.program.influence import moved_values
from villageflow.program.tangent_rules import RULES, Tangent


def tangent_name(name: str) -> str:
    """The name of a variable's tangent, and of a parameter's seed; no canonical name holds a blank in this place."""
    return f"d {name}"


def differentiate(graph: Graph, parameters: Sequence[str]) -> None:
    """Add the tangent of everything that the parameters move; the tangent of anything else is the literal 0.

    Parameters
    ----------
    graph : Graph
        Complete. Its values keep their places; tangents of variables, stocks, holds and delays are added to its
        mappings under `tangent_name`.
    parameters : sequence of str
        Parameters of the graph that the direction moves.
    """
    _Differentiator(graph, parameters).run()


class _Differentiator:
    def __init__(self, graph: Graph, parameters: Sequence[str]) -> None:
        self._graph = graph
        self._moved = moved_values(graph, parameters)
        self._tangent: dict[int, int] = {
            graph.step[name]: graph.leaf("parameter", tangent_name(name), Rate.MEMBER) for name in parameters
        }

    def run(self) -> None:
        graph = self._graph
        for index in sorted(self._moved - self._tangent.keys()):  # operands come before their users
            tangent = self._of(index)
            assert tangent is not None, f"{graph.values[index].kind} is moved but has no tangent"
            self._tangent[index] = tangent
        self._add_states()
        for names in (graph.step, graph.start):
            names |= {tangent_name(name): self._or_zero(index) for name, index in names.items()}

    def _of(self, index: int) -> Tangent:
        graph = self._graph
        value = graph.values[index]
        match value.kind:
            case "stock" | "delay":
                return graph.leaf(value.kind, tangent_name(str(value.label)), Rate.LANE)
            case "hold":
                condition, source = value.operands
                return graph.hold(tangent_name(str(value.label)), condition, self._or_zero(source))
            case kind:
                rule = RULES[kind].tangent
                tangents = tuple(self._tangent.get(operand) for operand in value.operands)
                return None if rule is None else rule(graph, index, value.operands, tangents)

    def _or_zero(self, index: int) -> int:
        tangent = self._tangent.get(index)
        return self._graph.literal(0.0) if tangent is None else tangent

    def _add_states(self) -> None:
        graph = self._graph
        graph.flows |= {tangent_name(name): self._or_zero(index) for name, index in graph.flows.items()}
        graph.non_negative |= {tangent_name(name): decides for name, decides in graph.non_negative.items()}
        graph.hold_start |= {tangent_name(name): self._or_zero(index) for name, index in graph.hold_start.items()}
        graph.delay_input |= {tangent_name(name): self._or_zero(index) for name, index in graph.delay_input.items()}
        graph.delay_start |= {
            tangent_name(name): (delay_time, self._or_zero(initial))
            for name, (delay_time, initial) in graph.delay_start.items()
        }
