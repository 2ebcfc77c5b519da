"""Equations as a graph of values: equal values once, literals folded, each value marked by how often it changes."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from villageflow.ir.model import CONTROL_IDS, Model
from villageflow.ir.nodes import Call, Expr, Num, Ref, Table, TableCall, Uniform
from villageflow.ir.walk import fold, nodes, rebuild
from villageflow.program.distributions import compose_random
from villageflow.program.events import PER_STEP, SAME_TIME, Event, Line, declare_events, look_up, operate
from villageflow.program.opcodes import SWAPPED
from villageflow.program.reference import scalar_operation

TIME = "time"
_MAX_MOVING_STEPS = 1_000_000


class Rate(IntEnum):
    """How often a value is computed; see `program.SEGMENTS`."""

    LITERAL = 0
    RUN = 1
    MEMBER = 2
    TIME = 3
    LANE = 4


def _join(rates: Iterable[Rate]) -> Rate:
    kinds = set(rates)
    if Rate.LANE in kinds or {Rate.MEMBER, Rate.TIME} <= kinds:
        return Rate.LANE
    return max(kinds, default=Rate.LITERAL)


@dataclass(frozen=True, slots=True)
class Value:
    """One node of the graph.

    Attributes
    ----------
    kind : str
        ``literal``, ``scalar``, ``parameter``, ``stock``, ``delay``, ``clock``, ``refused`` (leaves), ``hold``, or the
        name of an operation, of which ``GIVEN`` has no operand.
    operands : tuple of int
        Indices of other values.
    label : object
        The literal, the name of the leaf, stream or supplied variable, or the index of the table.
    rate : Rate
    """

    kind: str
    operands: tuple[int, ...]
    label: object
    rate: Rate


_OPERATION = {
    "add": "ADD", "subtract": "SUBTRACT", "multiply": "MULTIPLY", "divide": "DIVIDE", "power": "POWER",
    "negative": "NEGATIVE", "less": "LESS", "less_equal": "LESS_EQUAL", "greater": "GREATER",
    "greater_equal": "GREATER_EQUAL", "equal": "EQUAL", "not_equal": "NOT_EQUAL", "and": "AND", "or": "OR",
    "not": "NOT", "abs": "ABS", "exp": "EXP", "ln": "LN", "sqrt": "SQRT", "integer": "INTEGER", "min": "MIN",
    "max": "MAX", "modulo": "MODULO", "sin": "SIN", "cos": "COS", "tan": "TAN", "arcsin": "ARCSIN",
    "arccos": "ARCCOS", "arctan": "ARCTAN", "sinh": "SINH", "cosh": "COSH", "tanh": "TANH",
    "if_then_else": "IF_THEN_ELSE", "xidz": "XIDZ",
    "allocation share": "ALLOCATION_SHARE", "allocation price": "ALLOCATION_PRICE",
}


def _varying(at_start: bool) -> Rate:
    """Rate of what differs between members whatever is varied."""
    return Rate.MEMBER if at_start else Rate.LANE


@dataclass
class Graph:
    """The values of a model for one set of varied parameters.

    Attributes
    ----------
    values : list of Value
        Operands come before their users.
    step : dict of str to int
        Value of each variable at a step.
    start : dict of str to int
        Value of each variable at the start, for those that initial values need.
    non_negative : dict of str to str
        Stocks that a step sets to zero where another, or the stock itself, would fall below zero.
    tables : list of Table
    adaptive : bool
        For runs that choose their steps: the clocks are registers of the member, and what is defined per time step is
        refused where a program needs it.
    events : list of Event
        Times that the steps of an adaptive run land on.
    lines, beside : dict
        Values of an adaptive run that are lines over time, and what they are with the middle of the step for time.
    """

    model: Model
    varied: frozenset[str]
    adaptive: bool = False
    values: list[Value] = field(default_factory=list)
    step: dict[str, int] = field(default_factory=dict)
    start: dict[str, int] = field(default_factory=dict)
    flows: dict[str, int] = field(default_factory=dict)
    hold_start: dict[str, int] = field(default_factory=dict)
    non_negative: dict[str, str] = field(default_factory=dict)
    delay_input: dict[str, int] = field(default_factory=dict)
    delay_start: dict[str, tuple[int, int]] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    lines: dict[int, Line] = field(default_factory=dict)
    beside: dict[int, int] = field(default_factory=dict)
    owner: str = ""
    _known: dict[tuple[object, ...], int] = field(default_factory=dict)
    _table_index: dict[Table, int] = field(default_factory=dict)

    # -- values -----------------------------------------------------------------------------------

    def literal(self, value: float) -> int:
        return self._value("literal", (), value, Rate.LITERAL, struct.pack("<d", value))

    def scalar(self, name: str) -> int:
        if self.adaptive and name in (TIME, "step_time"):
            return self.leaf("clock", name, Rate.LANE)
        return self._value("scalar", (), name, Rate.TIME if name in (TIME, "step_time") else Rate.RUN, name)

    def leaf(self, kind: str, name: str, rate: Rate) -> int:
        return self._value(kind, (), name, rate, name)

    def refuse(self, what: str) -> int:
        """A value that no adaptive run may need; the equation at hand and `what` it uses say why."""
        return self._value("refused", (), (self.owner, what), Rate.MEMBER, (self.owner, what))

    def is_steady(self, index: int) -> bool:
        """Whether a value stays the same during a run."""
        return self.values[index].rate <= Rate.MEMBER

    def op(self, operation: str, *operands: int) -> int:
        """The value of an operation, folded where all operands are literals."""
        values = [self.values[operand] for operand in operands]
        if all(value.rate is Rate.LITERAL for value in values):
            return self.literal(scalar_operation(operation, *(float(value.label) for value in values)))  # type: ignore[arg-type]
        if operation == "IF_THEN_ELSE" and values[0].rate is Rate.LITERAL and values[0].label == values[0].label:
            return operands[1] if values[0].label != 0.0 else operands[2]
        if operation in SWAPPED and SWAPPED[operation] == operation and operands[0] > operands[1]:
            operands = (operands[1], operands[0])
        return self._value(operation, operands, None, _join(value.rate for value in values), None)

    def table_number(self, table: Table) -> int:
        index = self._table_index.setdefault(table, len(self.tables))
        if index == len(self.tables):
            self.tables.append(table)
        return index

    def table(self, table: Table, argument: int) -> int:
        index = self.table_number(table)
        rate = max(self.values[argument].rate, Rate.RUN)
        return self._value("TABLE", (argument,), index, rate, index)

    def uniform(self, stream: str, seed: int, *, at_start: bool) -> int:
        """A random number. Two calls are two values however equal they look; at the start it is that of step 0."""
        if self.adaptive:
            return self.refuse("a random function, which draws once a time step")
        return self._value("UNIFORM", (seed,), stream, _varying(at_start), (stream, at_start))

    def given(self, name: str, *, at_start: bool) -> int:
        """A variable whose values are supplied; at the start it has that of step 0."""
        if self.adaptive:
            return self.refuse("a supplied series, which has one value for each time step")
        return self._value("GIVEN", (), name, _varying(at_start), (name, at_start))

    def _value(self, kind: str, operands: tuple[int, ...], label: object, rate: Rate, key: object) -> int:
        known = (kind, operands, key)
        index = self._known.get(known)
        if index is None:
            index = self._known[known] = len(self.values)
            self.values.append(Value(kind, operands, label, rate))
        return index

    def hold(self, name: str, condition: int, source: int) -> int:
        """The held value of SAMPLE IF TRUE."""
        if self.adaptive:
            return self.refuse("SAMPLE IF TRUE, which samples once a time step")
        return self._value("hold", (condition, source), name, Rate.LANE, name)

    def expression(self, expr: Expr, *, at_start: bool) -> int:
        """The value of an expression, at the start or at a step."""
        names = self.start if at_start else self.step

        def node(item: Expr, operands: tuple[int, ...]) -> int:
            match item:
                case Num(value):
                    return self.literal(value)
                case Ref("time_step") if self.adaptive:
                    return self.refuse("TIME STEP")
                case Ref(name):
                    return names[name]
                case TableCall(table):
                    points = self.model.lookups[table] if isinstance(table, str) else table
                    return (look_up if self.adaptive else Graph.table)(self, points, operands[0])
                case Uniform(stream):
                    return self.uniform(stream, operands[0], at_start=at_start)
                case Call("power", (_, Num(2.0))):  # by how it is written: a constant of 2 is no special case
                    return self.op("MULTIPLY", operands[0], operands[0])
                case Call(function):
                    return compose(self, function, operands, at_start=at_start)
            raise AssertionError(f"{item} was not expanded")

        return fold(_take_side(expr, at_start), node)


def control_values(model: Model, given: Mapping[str, float]) -> dict[str, float]:
    """Values of the time grid's controls, with those given replaced.

    A FINAL TIME that moves with time is the first time of a step that reaches it.

    Raises
    ------
    KeyError
        A control depends on itself or on more than arithmetic; the message is its name.
    """
    if "final_time" not in model.auxiliaries or "final_time" in given:
        return _controls_at(model, given)
    start, step = (_controls_at(model, {**given, "final_time": 0.0})[name] for name in ("initial_time", "time_step"))
    for k in range(_MAX_MOVING_STEPS):
        now = start + k * step
        values = _controls_at(model, given, now)
        if now + 0.5 * step > values["final_time"]:
            return {**values, "final_time": now}
    raise KeyError("final_time")


def _controls_at(model: Model, given: Mapping[str, float], now: float | None = None) -> dict[str, float]:
    """Values of the controls at one time, by folding."""
    values = dict(given)
    graph = Graph(model, frozenset())
    if now is not None:
        graph.start[TIME] = graph.literal(now)
    for name, value in model.constants.items():
        graph.step[name] = graph.start[name] = graph.literal(value)
    pending = (*model.initial_order, *model.auxiliaries, *CONTROL_IDS)
    expressions = dict(model.auxiliaries) | dict(model.controls)
    for name, value in values.items():
        graph.start[name] = graph.literal(value)
    while any(name not in graph.start for name in CONTROL_IDS):
        before = len(graph.start)
        for name in pending:
            expr = expressions.get(name)
            if name not in graph.start and expr is not None:
                needed = [node.name for node in nodes(expr) if isinstance(node, Ref)]
                if all(reference in graph.start for reference in needed):
                    graph.start[name] = graph.expression(expr, at_start=True)
        if len(graph.start) == before:
            raise KeyError(next(name for name in CONTROL_IDS if name not in graph.start))
    for name in CONTROL_IDS:
        if graph.values[graph.start[name]].rate is not Rate.LITERAL:  # by a table or a function of time
            raise KeyError(name)
    return {name: float(graph.values[graph.start[name]].label) for name in CONTROL_IDS}  # type: ignore[arg-type]


def build_graph(model: Model, varied: frozenset[str], given: frozenset[str], *, adaptive: bool = False) -> Graph:
    """Every value of a model: initial values first, then auxiliaries, flows, holds and delays."""
    graph = Graph(model, varied, adaptive)
    for name, value in model.constants.items():
        index = graph.leaf("parameter", name, Rate.MEMBER) if name in varied else graph.literal(value)
        graph.step[name] = graph.start[name] = index
    for name in CONTROL_IDS:
        if name not in model.auxiliaries:  # else it moves with time
            graph.step[name] = graph.start[name] = graph.scalar(name)
    graph.step[TIME], graph.start[TIME] = graph.scalar(TIME), graph.scalar("initial_time")
    if adaptive:
        graph.lines[graph.step[TIME]] = Line(graph.literal(1.0), graph.literal(0.0))
        graph.beside[graph.step[TIME]] = graph.scalar("step_time")
    for name in sorted(given):
        graph.owner = name
        graph.start[name], graph.step[name] = graph.given(name, at_start=True), graph.given(name, at_start=False)
    _add_start(graph, model)
    _add_steps(graph, model)
    return graph


def _add_start(graph: Graph, model: Model) -> None:
    for name in model.initial_order:
        graph.owner = name
        expr = model.start_expression(name)
        if name not in graph.start and expr is not None:
            graph.start[name] = graph.expression(expr, at_start=True)
    for name, stock in model.stocks.items():
        graph.owner = name
        if name not in graph.start:
            graph.start[name] = graph.expression(stock.initial, at_start=True)
    for name, initial in model.initials.items():
        graph.owner = name
        graph.step[name] = graph.start[name] = graph.expression(initial, at_start=True)
    for name, hold in model.holds.items():
        graph.hold_start[name] = graph.expression(hold.initial, at_start=True)
    for name, delay in model.delays.items():
        graph.delay_start[name] = (
            graph.expression(delay.delay_time, at_start=True), graph.expression(delay.initial, at_start=True)
        )


def _add_steps(graph: Graph, model: Model) -> None:
    for name, stock in model.stocks.items():
        graph.owner = name
        graph.step[name] = (
            graph.refuse("a stock that each step keeps from falling below zero")
            if graph.adaptive and stock.non_negative else graph.leaf("stock", name, Rate.LANE)
        )
    for name in model.delays:
        graph.owner = name
        graph.step[name] = (
            graph.refuse("DELAY FIXED or PREVIOUS, which hold a whole number of time steps") if graph.adaptive
            else graph.leaf("delay", name, Rate.LANE)
        )
    for name in model.step_order:
        if name in graph.step:
            continue  # it is supplied
        graph.owner = name
        if name in model.holds:
            hold = model.holds[name]
            graph.step[name] = graph.hold(
                name, graph.expression(hold.condition, at_start=False), graph.expression(hold.input, at_start=False)
            )
        else:
            graph.step[name] = graph.expression(model.auxiliaries[name], at_start=False)
    for name, stock in model.stocks.items():
        graph.owner = name
        graph.flows[name] = graph.expression(stock.net_flow, at_start=False)
        if stock.non_negative:
            graph.non_negative[name] = name
    for name, delay in model.delays.items():
        graph.delay_input[name] = graph.expression(delay.input, at_start=False)


def _take_side(expr: Expr, at_start: bool) -> Expr:
    """ACTIVE INITIAL means its second argument at the start and its first afterwards."""

    def choose(node: Expr, operands: tuple[Expr, ...]) -> Expr:
        if isinstance(node, Call) and node.function == "active_initial":
            return operands[1] if at_start else operands[0]
        return rebuild(node, operands)

    return fold(expr, choose)


def compose(graph: Graph, function: str, operands: tuple[int, ...], *, at_start: bool) -> int:
    """The value of a function: one operation, or several for those of `ir.functions.COMPOSED`.

    STEP and the pulses compare the time at which the step began, with half a step of tolerance: they change at
    steps only, also inside the stages of a higher-order method, and ``0.1 * 30`` is not before 3.
    """
    op, literal = graph.op, graph.literal

    def apply(operation: str, *values: int) -> int:
        """What an equation does with time may make events; what a function does inside does not."""
        return operate(graph, operation, values) if graph.adaptive else op(operation, *values)

    if graph.adaptive and function in PER_STEP:
        return graph.refuse(PER_STEP[function])
    if function in _OPERATION:
        return apply(_OPERATION[function], *operands)
    if function.startswith("random_"):
        return compose_random(graph, function, operands)
    match function:
        case "pi":
            return literal(math.pi)
        case "zidz":
            return op("XIDZ", operands[0], operands[1], literal(0.0))
        case "safediv":
            top, bottom, otherwise = operands
            return op("IF_THEN_ELSE", op("EQUAL", bottom, literal(0.0)), otherwise, op("DIVIDE", top, bottom))
        case "quantum":
            value, step = operands
            ratio = apply("DIVIDE", value, step)
            whole = op("MULTIPLY", step, apply("INTEGER", ratio))
            return op("IF_THEN_ELSE", op("GREATER", step, literal(0.0)), whole, value)
        case "log":
            return op("DIVIDE", op("LN", operands[0]), op("LN", operands[1]))
        case "log10":
            return op("DIVIDE", op("LN", operands[0]), op("LN", literal(10.0)))
        case "ramp" | "ramp_unending":
            if graph.adaptive and not at_start and not declare_events(graph, function, operands):
                return graph.refuse("RAMP at times that depend on a stock or on time")
            time = graph.scalar("initial_time" if at_start else TIME)
            until = op("MIN", time, operands[2]) if function == "ramp" else time
            return op("MULTIPLY", operands[0], op("MAX", op("SUBTRACT", until, operands[1]), literal(0.0)))
    return _event(graph, function, operands, at_start=at_start)


def _event(graph: Graph, function: str, operands: tuple[int, ...], *, at_start: bool) -> int:
    op, literal = graph.op, graph.literal
    if graph.adaptive and not at_start and not declare_events(graph, function, operands):
        return graph.refuse(f"{function.upper().replace('_', ' ')} at times that depend on a stock or on time")
    step = graph.scalar("time_step")
    tolerance = op("MULTIPLY", step, literal(SAME_TIME if graph.adaptive else 0.5))
    now = op("ADD", graph.scalar("initial_time" if at_start else "step_time"), tolerance)

    def begun(start: int) -> int:
        return op("GREATER", now, start)

    def within(start: int, width: int) -> int:
        return op("AND", begun(start), op("LESS", now, op("ADD", start, width)))

    def repeating(start: int, width: int, period: int) -> int:
        since = op("MODULO", op("SUBTRACT", now, start), period)
        return op("AND", begun(start), op("LESS", since, width))

    def at_least_a_step(width: int) -> int:
        if graph.adaptive:  # a width of 0 would mean one time step; a parameter of 0 fails its member
            literally = graph.values[width].label if graph.values[width].rate is Rate.LITERAL else None
            return (
                graph.refuse("a PULSE of width 0, which lasts one time step") if literally == 0.0
                else op("IF_THEN_ELSE", op("EQUAL", width, literal(0.0)), literal(math.nan), width)
            )
        return op("IF_THEN_ELSE", op("EQUAL", width, literal(0.0)), step, width)

    match function, operands:
        case "step", (height, start):
            return op("IF_THEN_ELSE", begun(start), height, literal(0.0))
        case "pulse", (start, width):
            return within(start, at_least_a_step(width))
        case "pulse_train", (start, period, width, end):
            width = at_least_a_step(width)
            train = op("AND", repeating(start, width, period), op("LESS", now, end))
            return op("IF_THEN_ELSE", op("EQUAL", period, literal(0.0)), within(start, width), train)
        case "pulse_volume", (start, volume):
            return op("IF_THEN_ELSE", within(start, step), op("DIVIDE", volume, step), literal(0.0))
        case "pulse_volume_train", (start, period, volume):
            once = op("LESS_EQUAL", period, literal(0.0))
            now_on = op("IF_THEN_ELSE", once, within(start, step), repeating(start, step, period))
            return op("IF_THEN_ELSE", now_on, op("DIVIDE", volume, step), literal(0.0))
    raise AssertionError(f"{function} has no meaning")
