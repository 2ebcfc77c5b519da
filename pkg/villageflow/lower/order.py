"""The order in which equations are evaluated, and the report of those that cannot be ordered."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator

from villageflow.errors import LoweringError, UnsupportedError
from villageflow.ir.model import CONTROL_IDS, Kind, Model, Variable
from villageflow.ir.nodes import Call, Expr, Num, Ref
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.ir.text import text
from villageflow.ir.walk import children
from villageflow.lower.arrays import Scalars
from villageflow.lower.expand import Expanded
from villageflow.lower.resolve import TIME


def order(scalars: Scalars, expanded: Expanded) -> Model:
    """Sort the equations for the start and for the steps, and assemble the model."""
    source = scalars.source
    names = {variable.id: variable.name for variable in source.variables}
    expressions = expanded.auxiliaries
    controls = {name: expressions[name] for name in CONTROL_IDS}
    grid_constants, moving = _check_controls(source, expanded, controls)
    constants = {
        name: _literal(expressions[name]) for name, kind in expanded.kinds.items()
        if kind is Kind.CONSTANT and not name.startswith("#")
    }
    auxiliaries = {
        name: expr for name, expr in expressions.items()
        if name not in constants and (name not in CONTROL_IDS or name in moving)
    }
    step_order = _step_order(expanded, auxiliaries, names, source)
    return Model(
        stocks=expanded.stocks,
        auxiliaries={name: auxiliaries[name] for name in step_order if name in auxiliaries},
        holds=expanded.holds,
        delays=expanded.delays,
        initials=expanded.initials,
        lookups=expanded.lookups,
        name=source.path.stem,
        digest=source.digest,
        method=source.method,
        variables={
            variable.id: _variable(variable, expanded.kinds[variable.id])
            for variable in source.variables if not variable.id.startswith("#")
        },
        arrays=scalars.arrays,
        dimensions={dimension.id: dimension for dimension in source.dimensions},
        constants=constants,
        controls=controls,
        initial_order=_initial_order(expanded, constants, names, source),
        step_order=step_order,
        structural={
            **dict.fromkeys(sorted(grid_constants & constants.keys()), "the time grid"),
            **dict.fromkeys(sorted(expanded.structural), "the order of a delay or smooth"),
        },
    )


def _variable(written: SourceVariable, kind: Kind) -> Variable:
    return Variable(
        id=written.id, name=written.name, kind=kind, units=written.units, documentation=written.documentation,
        limits=written.limits, equation=text(written.definition),  # type: ignore[arg-type]
    )


def _literal(expr: Expr) -> float:
    match expr:
        case Num(value):
            return value
        case Call("negative", (Num(value),)):
            return -value
    raise AssertionError(expr)


def _check_controls(
    source: SourceModel, expanded: Expanded, controls: dict[str, Expr]
) -> tuple[frozenset[str], frozenset[str]]:
    """The names that set the time grid, and the controls that move with time.

    The grid must be known before the run, so nothing in it may depend on a stock. FINAL TIME may depend on time: the
    run ends when time reaches it.
    """
    reached: set[str] = set()
    moving: set[str] = set()
    for name in CONTROL_IDS:
        seen: set[str] = set()
        todo = [name]
        while todo:
            for reference in references(expanded.auxiliaries[todo.pop()], start=False):
                if reference == TIME and name == "final_time":
                    moving.add(name)
                elif reference == TIME or reference not in expanded.auxiliaries:
                    raise UnsupportedError(
                        f"{source.path.name}: {name.replace('_', ' ').upper()} depends on {reference!r}, which changes "
                        "during the run; the time grid must be fixed"
                    )
                elif reference not in seen:
                    seen.add(reference)
                    todo.append(reference)
        reached |= seen
    return frozenset(reached), frozenset(moving)


def references(expr: Expr, *, start: bool) -> Iterator[str]:
    """Names whose value an expression needs: at the start, or at a step."""
    todo, seen = [expr], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        match node:
            case Ref(name):
                yield name
            case Call("active_initial", (active, initial)):
                todo.append(initial if start else active)
            case _:
                todo.extend(children(node))


def _step_order(
    expanded: Expanded, auxiliaries: dict[str, Expr], names: dict[str, str], source: SourceModel
) -> tuple[str, ...]:
    """Auxiliaries and held values in evaluation order; stocks and fixed delays are known before a step begins."""
    graph = {name: list(references(expr, start=False)) for name, expr in auxiliaries.items()}
    for name, hold in expanded.holds.items():
        graph[name] = [*references(hold.condition, start=False), *references(hold.input, start=False)]
    graph = {name: [other for other in needed if other in graph] for name, needed in graph.items()}
    return _sort(graph, names, source, "")


def _initial_order(
    expanded: Expanded, constants: dict[str, float], names: dict[str, str], source: SourceModel
) -> tuple[str, ...]:
    """Everything reached from an initial value, in evaluation order."""
    roots: list[Expr] = [stock.initial for stock in expanded.stocks.values()]
    roots += [hold.initial for hold in expanded.holds.values()]
    for delay in expanded.delays.values():
        roots += [delay.initial, delay.delay_time]
    roots += expanded.initials.values()
    graph: dict[str, list[str]] = {}
    todo = [name for root in roots for name in references(root, start=True)]
    while todo:
        name = todo.pop()
        if name in graph:
            continue
        start = None if name in constants else expanded.start_expression(name)
        graph[name] = [] if start is None else list(references(start, start=True))
        todo.extend(graph[name])
    graph = {name: [other for other in needed if other in graph] for name, needed in graph.items()}
    return _sort(graph, names, source, " among initial values")


def _sort(graph: dict[str, list[str]], names: dict[str, str], source: SourceModel, where: str) -> tuple[str, ...]:
    try:
        return tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        cycle: Iterable[str] = reversed(error.args[1])
        path = " -> ".join(repr(names.get(name, name)) for name in cycle)
        raise LoweringError(
            f"{source.path.name}: algebraic loop{where}: {path}; put a stock, a delay or INITIAL into the loop"
        ) from None
