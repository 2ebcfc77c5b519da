"""Events of adaptive runs: the times that steps must land on, and which side of them a step is on.

The steps of an adaptive run end exactly at the times at which a function of time jumps or has a kink, so that every
step sees a smooth function. Two clocks of each member make that safe against rounding: ``time``, of the stage, and
``step_time``, the middle of the step (where values are saved, the time itself). What jumps is decided by the middle of
the step, which lies well inside one piece; what only has a kink follows the time of the stage.

Found are the events of STEP, PULSE, PULSE TRAIN and RAMP, and those of comparisons, MIN, MAX, ABS, INTEGER, MODULO and
tables whose arguments are straight lines over time (also sawtooths, MODULO of a line). Times may depend on parameters
of the member, never on stocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from villageflow.ir.nodes import Interpolation, Table
from villageflow.program.tables import breakpoints

if TYPE_CHECKING:
    from villageflow.program.graph import Graph

SAME_TIME: Final = 1e-9
"""Two times closer than this many time steps are one, so that rounding never makes a step of its own."""

PER_STEP: Final = {
    "pulse_volume": "a PULSE of a volume, which lasts one time step",
    "pulse_volume_train": "PULSES of a volume, each of which lasts one time step",
}
"""Functions that are defined by the time step, with the words that refuse them in an adaptive run."""

_COMPARISONS: Final = ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
_FIRST: Final = -1.7e308


@dataclass(frozen=True, slots=True)
class Line:
    """A value that is ``slope * time + offset``, less a whole number of teeth if it has a `period`; value indices."""

    slope: int
    offset: int
    period: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """An event at `first`, and at every `period` after it until `last`; value indices."""

    first: int
    period: int | None = None
    last: int | None = None

    def values(self) -> tuple[int, ...]:
        return tuple(value for value in (self.first, self.period, self.last) if value is not None)


@dataclass(frozen=True, slots=True)
class Breaks:
    """Events wherever ``slope * time + offset`` is at a point of a table; `table` is its number, the rest values."""

    table: int
    slope: int
    offset: int

    def values(self) -> tuple[int, ...]:
        return self.slope, self.offset


Event = Moment | Breaks


def operate(graph: Graph, name: str, operands: tuple[int, ...]) -> int:
    """The value of an operation that an equation of an adaptive run uses; declares its events."""
    lines = [graph.lines.get(operand) for operand in operands]
    if name in ("EQUAL", "NOT_EQUAL") and any(_follows_time(graph, operand) for operand in operands):
        return graph.refuse("a test whether time equals a value, which holds for one time step; use > or >=")
    if not any(lines):
        return graph.op(name, *operands)
    if name in ("ADD", "SUBTRACT", "MULTIPLY", "DIVIDE", "NEGATIVE"):
        return _arithmetic(graph, name, operands)
    if name in (*_COMPARISONS, "MIN", "MAX"):
        gap = _combine(graph, "SUBTRACT", operands)
        if gap is not None:
            _cross(graph, gap)
            if name in _COMPARISONS:
                operands = _beside(graph, operands)
    elif name == "ABS" and lines[0]:
        _cross(graph, lines[0])
    elif name == "INTEGER" and lines[0]:
        _repeat(graph, lines[0], graph.op("ABS", graph.op("DIVIDE", graph.literal(1.0), lines[0].slope)))
        operands = _beside(graph, operands)
    elif name == "MODULO" and lines[0] and lines[0].period is None and graph.is_steady(operands[1]):
        return _sawtooth(graph, operands, lines[0])
    return graph.op(name, *operands)


def look_up(graph: Graph, points: Table, argument: int) -> int:
    """The value of a table function; declares its points as events where its argument is a line over time."""
    line = graph.lines.get(argument)
    if line is None:
        return graph.table(points, argument)
    if points.interpolation is Interpolation.RAW:
        return graph.refuse("raw data, which exist at their own times only")
    if points.interpolation is not Interpolation.LINEAR:
        value = graph.table(points, graph.beside[argument])
    elif len(set(points.x)) < len(points.x):
        value = _jumping(graph, points, argument)
    else:
        value = graph.table(points, argument)
    if line.period is None:
        graph.events.append(Breaks(graph.table_number(points), line.slope, line.offset))
    else:
        for x in dict.fromkeys(points.x):
            _cross(graph, Line(line.slope, graph.op("SUBTRACT", line.offset, graph.literal(x)), line.period))
    return value


def declare_events(graph: Graph, function: str, operands: tuple[int, ...]) -> bool:
    """Declare the events of STEP, RAMP, PULSE and PULSE TRAIN; False where their times depend on what changes."""
    match function, operands:
        case "step", (_, start):
            times: tuple[int, ...] = (start,)
        case "ramp", (_, *rest):
            times = tuple(rest)
        case "ramp_unending", (_, start):
            times = (start,)
        case "pulse", (start, width):
            times = (start, graph.op("ADD", start, width))
        case "pulse_train", (start, period, width, end):
            times = (start, period, end, graph.op("ADD", start, width))
        case _:
            raise AssertionError(f"{function} has no events")
    if not all(graph.is_steady(value) for value in times):
        return False
    if function == "pulse_train":
        start, period, end, over = times
        graph.events += [Moment(start, period, end), Moment(over, period, end), Moment(end)]
    else:
        graph.events += [Moment(value) for value in times]
    return True


def _arithmetic(graph: Graph, name: str, operands: tuple[int, ...]) -> int:
    """A sum, difference, product or quotient of which at least one operand is a line."""
    value = graph.op(name, *operands)
    line = _combine(graph, name, operands)
    if line is not None:
        graph.lines[value] = line
        graph.beside[value] = graph.op(name, *_beside(graph, operands))
    return value


def _combine(graph: Graph, name: str, operands: tuple[int, ...]) -> Line | None:
    """The line that an operation gives, if it does."""
    op = graph.op
    if name == "NEGATIVE":
        line = graph.lines[operands[0]]
        return Line(op("NEGATIVE", line.slope), op("NEGATIVE", line.offset), line.period)
    left, right = (graph.lines.get(operand) for operand in operands)
    if not all(operand in graph.lines or graph.is_steady(operand) for operand in operands):
        return None
    if left and right:
        if name not in ("ADD", "SUBTRACT") or left.period is not None or right.period is not None:
            return None
        return Line(op(name, left.slope, right.slope), op(name, left.offset, right.offset))
    if left and name in ("ADD", "SUBTRACT"):
        return Line(left.slope, op(name, left.offset, operands[1]), left.period)
    if left:
        return Line(op(name, left.slope, operands[1]), op(name, left.offset, operands[1]), left.period)
    assert right is not None
    if name == "ADD":
        return Line(right.slope, op("ADD", operands[0], right.offset), right.period)
    if name == "SUBTRACT":
        return Line(op("NEGATIVE", right.slope), op("SUBTRACT", operands[0], right.offset), right.period)
    if name == "MULTIPLY":
        return Line(op("MULTIPLY", operands[0], right.slope), op("MULTIPLY", operands[0], right.offset), right.period)
    return None


def _beside(graph: Graph, operands: tuple[int, ...]) -> tuple[int, ...]:
    """The operands with the middle of the step in place of time."""
    return tuple(graph.beside.get(operand, operand) for operand in operands)


def _cross(graph: Graph, line: Line) -> None:
    """Declare the times at which a line is zero."""
    zero = graph.op("DIVIDE", graph.op("NEGATIVE", line.offset), line.slope)
    if line.period is None:
        graph.events.append(Moment(zero))
    else:
        _repeat(graph, line, line.period)


def _repeat(graph: Graph, line: Line, period: int) -> None:
    """Declare the zero of a line and every period from it, from the start of the run on."""
    op = graph.op
    zero = op("DIVIDE", op("NEGATIVE", line.offset), line.slope)
    before = op("INTEGER", op("DIVIDE", op("SUBTRACT", graph.scalar("initial_time"), zero), period))
    first = op("ADD", zero, op("MULTIPLY", op("SUBTRACT", before, graph.literal(1.0)), period))
    graph.events.append(Moment(first, period))


def _sawtooth(graph: Graph, operands: tuple[int, ...], line: Line) -> int:
    """MODULO of a line: the remainder in the middle of the step, and from there along the line."""
    op = graph.op
    source, divisor = operands
    middle = graph.beside[source]
    remainder = op("MODULO", middle, divisor)
    value = op("ADD", remainder, op("SUBTRACT", source, middle))
    period = op("ABS", op("DIVIDE", divisor, line.slope))
    _repeat(graph, line, period)
    graph.lines[value] = Line(line.slope, line.offset, period)
    graph.beside[value] = remainder
    return value


def _jumping(graph: Graph, points: Table, argument: int) -> int:
    """A table that jumps where two points share an x: its value in the middle of the step, and its slope from there."""
    rows, below = breakpoints(points)
    slopes = Table(
        (_FIRST, *(x for x, _, _ in rows)), (below, *(slope for _, _, slope in rows)),
        interpolation=Interpolation.HOLD_BACKWARD,
    )
    middle = graph.beside[argument]
    along = graph.op("MULTIPLY", graph.op("SUBTRACT", argument, middle), graph.table(slopes, middle))
    return graph.op("ADD", graph.table(points, middle), along)


def _follows_time(graph: Graph, index: int) -> bool:
    """Whether a value depends on the time of the stage other than through stocks."""
    clock = graph.step["time"]
    seen: set[int] = set()
    todo = [index]
    while todo:
        value = todo.pop()
        if value == clock:
            return True
        if value not in seen:
            seen.add(value)
            todo.extend(graph.values[value].operands)
    return False
