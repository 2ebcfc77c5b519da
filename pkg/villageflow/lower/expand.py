"""Functions with memory, written as what they are: stocks, held values and fixed delays.

========================  ===========================================================================
SMOOTH of order n         n stocks in a row; each follows the one before in a time of tau / n
DELAY of order n          n stocks that hold tau / n times their outflow
TREND, FORECAST           one stock that averages the input
SAMPLE IF TRUE            a held value, refreshed at the steps at which the condition holds
DELAY FIXED               a ring buffer of steps
INITIAL                   a value computed at the start and kept
RANDOM PINK NOISE         one stock that smooths normal draws, scaled so that its deviation is the one asked for
========================  ===========================================================================

Initial values are those that Vensim documents. Ids of what is added are ``#``, the owner's id and a label, joined by
blanks, which no canonical name holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from villageflow.errors import UnsupportedError
from villageflow.ir.functions import RANDOM
from villageflow.ir.model import Equations, FixedDelay, Hold, Kind
from villageflow.ir.nodes import Call, Definition, Expr, Integral, Num, Ref, Stateful, Table, Uniform
from villageflow.ir.source import SourceModel
from villageflow.ir.text import text
from villageflow.ir.walk import fold, nodes, rebuild
from villageflow.lower.budget import Budget
from villageflow.lower.constant import value_at_start
from villageflow.lower.draws import draw
from villageflow.lower.resolve import TIME, Resolved

_NOISE_SEED = "noise_seed"
_MAX_ORDER = 100
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Expanded(Equations):
    """Equations free of `Stateful` nodes and of INITIAL; `auxiliaries` still holds constants and controls."""

    kinds: Mapping[str, Kind]
    structural: frozenset[str]


def expand(source: SourceModel, resolved: Resolved) -> Expanded:
    """Replace every function with memory by a reference to what it expands to."""
    places = {variable.id: f"{source.place(variable)}: {variable.name!r}" for variable in source.variables}
    memory = _Memory(Budget(source))
    auxiliaries: dict[str, Expr] = {}
    fixed = _fixed_ids(resolved)
    vensim = source.path.suffix.lower() == ".mdl"
    seed = Ref(_NOISE_SEED) if vensim and _NOISE_SEED in resolved.definitions else Num(0.0)
    for owner, definition in resolved.definitions.items():
        expander = _Expander(owner, places[owner], memory, fixed, resolved.definitions, seed)
        match definition:
            case Integral(net_flow, initial, non_negative):
                memory.stocks[owner] = Integral(
                    fold(net_flow, expander.node), fold(initial, expander.node), non_negative
                )
            case Table():
                continue
            case _:
                auxiliaries[owner] = fold(definition, expander.node)
    return Expanded(
        memory.stocks, auxiliaries, memory.holds, memory.delays, memory.initials, resolved.lookups, resolved.kinds,
        frozenset(memory.structural),
    )


@dataclass
class _Memory:
    """What the expansion adds."""

    budget: Budget
    stocks: dict[str, Integral] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    delays: dict[str, FixedDelay] = field(default_factory=dict)
    initials: dict[str, Expr] = field(default_factory=dict)
    structural: set[str] = field(default_factory=set)


def _fixed_ids(resolved: Resolved) -> set[str]:
    """Ids whose value cannot change during a run, found by elimination."""
    users: dict[str, set[str]] = {}
    moving = {TIME}
    for owner, definition in resolved.definitions.items():
        if isinstance(definition, Integral):
            moving.add(owner)
            continue
        if isinstance(definition, Table):
            continue
        for node in nodes(definition):
            if isinstance(node, Ref):
                users.setdefault(node.name, set()).add(owner)
            elif isinstance(node, Stateful) or (isinstance(node, Call) and _depends_on_time(node.function)):
                moving.add(owner)
    todo = list(moving)
    while todo:
        for user in users.get(todo.pop(), ()):
            if user not in moving:
                moving.add(user)
                todo.append(user)
    return set(resolved.definitions) - moving


def _depends_on_time(function: str) -> bool:
    events = {"step", "ramp", "ramp_unending", "pulse", "pulse_train", "pulse_volume", "pulse_volume_train"}
    return function in events or function in RANDOM


def call(function: str, *arguments: Expr) -> Call:
    """A short spelling of `Call`."""
    return Call(function, arguments)


class _Expander:
    """Expands the equations of one owner, numbering what it adds."""

    def __init__(
        self, owner: str, place: str, out: _Memory, fixed: set[str], definitions: Mapping[str, Definition], seed: Expr
    ) -> None:
        self._owner = owner
        self._place = place
        self._definitions = definitions
        self._out = out
        self._fixed = fixed
        self._seed = seed  # of random calls without one
        self._count = 0
        self._n_draws = 0

    def node(self, node: Expr, operands: tuple[Expr, ...]) -> Expr:
        if isinstance(node, Call) and node.function == "initial":
            self._count += 1
            return self._add_initial("initial", operands[0])
        if isinstance(node, Call) and node.function in RANDOM:
            return self._pink_noise(operands) if node.function == "random_pink_noise" else self._draw(node, operands)
        if not isinstance(node, Stateful):
            return rebuild(node, operands)
        self._count += 1
        match node.function:
            case "smooth":
                return self._smooth(operands, self._order(operands[3], "SMOOTH N"))
            case "delay":
                return self._delay(operands, self._order(operands[3], "DELAY"))
            case "delay_n":
                return self._delay_n(operands, self._order(operands[3], "DELAY N"))
            case "trend":
                return self._trend(operands)
            case "forecast":
                return self._forecast(operands)
            case "sample_if_true":
                condition, source, initial = operands
                return self._add_hold(Hold(condition, source, initial))
            case "delay_fixed":
                source, delay_time, initial = operands
                name = f"{self._prefix()}fixed"
                self._out.delays[name] = FixedDelay(source, delay_time, initial)
                return Ref(name)
        raise AssertionError(node.function)

    def _prefix(self) -> str:
        return f"#{self._owner} {self._count} "

    def _is_fixed(self, expr: Expr) -> bool:
        return not any(
            isinstance(n, Uniform) or (isinstance(n, Ref) and n.name not in self._fixed) for n in nodes(expr)
        )

    def _add_stock(self, label: str, net_flow: Expr, initial: Expr) -> Ref:
        name = self._prefix() + label
        self._out.budget.spend(1, self._place)
        self._out.stocks[name] = Integral(net_flow, initial)
        return Ref(name)

    def _add_hold(self, hold: Hold) -> Ref:
        name = f"{self._prefix()}held"
        self._out.holds[name] = hold
        return Ref(name)

    def _order(self, order: Expr, function: str) -> int:
        """The number of stages: the value of the order at the start; no design may vary what it depends on."""
        found = value_at_start(order, self._definitions)
        if found is not None and found[0] == int(found[0]) and 1 <= found[0] <= _MAX_ORDER:
            self._out.structural |= found[1]
            return int(found[0])
        raise UnsupportedError(
            f"{self._place}: the order of {function} is {text(order)}; only what is a whole number from 1 to "
            f"{_MAX_ORDER} at the start, by arithmetic with constants, is supported"
        )

    def _smooth(self, operands: tuple[Expr, ...], order: int) -> Expr:
        source, smooth_time, initial, _ = operands
        stage_time = _stage_time(smooth_time, order)
        for stage in range(1, order + 1):
            this = Ref(f"{self._prefix()}smooth_{stage}")
            source = self._add_stock(
                f"smooth_{stage}", call("divide", call("subtract", source, this), stage_time), initial
            )
        return source

    def _delay(self, operands: tuple[Expr, ...], order: int) -> Expr:
        source, delay_time, initial, _ = operands
        stage_time = _stage_time(delay_time, order)
        for stage in range(1, order + 1):
            outflow = call("divide", Ref(f"{self._prefix()}delay_{stage}"), stage_time)
            self._add_stock(f"delay_{stage}", call("subtract", source, outflow), call("multiply", initial, stage_time))
            source = outflow
        return source

    def _delay_n(self, operands: tuple[Expr, ...], order: int) -> Expr:
        """DELAY N drops stages that would be shorter than a time step at the start; those dropped stand still.

        Where the delay time changes, what flows out of the last stage follows it a step late, as Vensim's records have
        it; what flows between the stages follows at once.
        """
        source, delay_time, initial, _ = operands
        if order == 1:
            return self._delay(operands, order)
        fitting = call("integer", call("add", call("divide", delay_time, Ref("time_step")), Num(_ROUNDING)))
        stages = self._add_initial("stages", call("max", Num(1.0), call("min", Num(float(order)), fitting)))
        stage_time = call("divide", delay_time, stages)
        last_time = stage_time if self._is_fixed(delay_time) else self._a_step_ago("stage_time", stage_time)
        output: Expr = Num(0.0)
        for stage in range(1, order + 1):
            level = Ref(f"{self._prefix()}delay_{stage}")
            onward, out = call("divide", level, stage_time), call("divide", level, last_time)
            is_last = call("equal", stages, Num(float(stage)))
            outflow = onward if stage_time is last_time else call("if_then_else", is_last, out, onward)
            running = call("greater_equal", stages, Num(float(stage)))
            net_flow = call("if_then_else", running, call("subtract", source, outflow), Num(0.0))
            self._add_stock(f"delay_{stage}", net_flow, call("multiply", initial, stage_time))
            output = call("if_then_else", running, outflow, output)
            source = outflow
        return output

    def _a_step_ago(self, label: str, expr: Expr) -> Ref:
        """The value of an expression a time step ago; at the start its value there."""
        name = self._prefix() + label
        self._out.delays[name] = FixedDelay(expr, Ref("time_step"), expr)
        return Ref(name)

    def _add_initial(self, label: str, expr: Expr) -> Ref:
        name = self._prefix() + label
        self._out.initials[name] = expr
        return Ref(name)

    def _trend(self, operands: tuple[Expr, ...]) -> Expr:
        source, average_time, initial_trend = operands
        average = self._average("trend", source, average_time, initial_trend)
        return call("zidz", call("subtract", source, average), call("multiply", average_time, call("abs", average)))

    def _forecast(self, operands: tuple[Expr, ...]) -> Expr:
        source, average_time, horizon, initial_trend = operands
        average = self._average("forecast", source, average_time, initial_trend)
        trend = call("zidz", call("subtract", source, average), call("multiply", average_time, average))
        return call("multiply", source, call("add", Num(1.0), call("multiply", trend, horizon)))

    def _draw(self, node: Call, operands: tuple[Expr, ...]) -> Expr:
        self._n_draws += 1
        return draw(node.function, operands, f"{self._owner} {self._n_draws}", self._seed)

    def _pink_noise(self, operands: tuple[Expr, ...]) -> Expr:
        """The deviation of what enters makes up for the smoothing, as it acts with Euler's method."""
        mean, sd, correlation_time, seed = operands
        white = Call("random_normal", (Num(-6.0), Num(6.0), Num(0.0), Num(1.0), seed))
        first, later = (self._draw(white, white.arguments) for _ in range(2))
        self._count += 1
        ratio = call("divide", Ref("time_step"), correlation_time)
        gain = call("sqrt", call("divide", call("subtract", Num(2.0), ratio), ratio))
        source = call("add", mean, call("multiply", call("multiply", sd, gain), later))
        net_flow = call("divide", call("subtract", source, Ref(f"{self._prefix()}pink")), correlation_time)
        return self._add_stock("pink", net_flow, call("add", mean, call("multiply", sd, first)))

    def _average(self, label: str, source: Expr, average_time: Expr, initial_trend: Expr) -> Ref:
        this = Ref(f"{self._prefix()}{label}")
        initial = call("divide", source, call("add", Num(1.0), call("multiply", initial_trend, average_time)))
        return self._add_stock(label, call("divide", call("subtract", source, this), average_time), initial)


def _stage_time(total: Expr, order: int) -> Expr:
    return total if order == 1 else call("divide", total, Num(float(order)))
