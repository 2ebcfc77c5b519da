"""Model to tape: choose what to compute and where, and give every value a register."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from villageflow.errors import DesignError, UnsupportedError, did_you_mean
from villageflow.ir.model import Kind, Model
from villageflow.program.events import Breaks, Event
from villageflow.program.fuse import pair, pairs, side_by_side
from villageflow.program.graph import Graph, Rate, Value, build_graph
from villageflow.program.opcodes import CODES, LISTED, SCALAR_VECTOR, SWAPPED, TERNARY, VECTOR_SCALAR
from villageflow.program.program import SCALARS, SEGMENTS, Clock, Program
from villageflow.program.tables import pack_tables
from villageflow.program.tangent import differentiate, tangent_name

_LEAVES = ("parameter", "stock", "delay")


def compile_model(
    model: Model, *, varied: Collection[str] = (), saves: Sequence[str] = (), given: Collection[str] = (),
    adaptive: bool = False,
) -> Program:
    """Compile a model for a set of varied constants and saved variables.

    Parameters
    ----------
    model : Model
        The lowered model.
    varied : collection of str
        Constants that differ between members; all others become literals. The choice moves no bit of a result.
    saves : sequence of str
        Variables to store; only what they depend on is computed.
    given : collection of str
        Auxiliaries whose values are supplied when the program runs, instead of their equations.
    adaptive : bool
        For a method that chooses its steps. All stocks are computed then, so that what is saved moves no step.

    Returns
    -------
    Program

    Raises
    ------
    UnsupportedError
        If `adaptive`, for what is defined per time step.
    """
    check_names(model, varied, saves)
    return _compiled(model, tuple(varied), tuple(saves), frozenset(given), adaptive)


@lru_cache(maxsize=64)
def _compiled(
    model: Model, varied: tuple[str, ...], saves: tuple[str, ...], given: frozenset[str], adaptive: bool
) -> Program:
    return _Emitter(build_graph(model, frozenset(varied), given, adaptive=adaptive), varied, saves).program()


def compile_tangents(
    model: Model, *, varied: Sequence[str], directions: Sequence[str], saves: Sequence[str],
    given: Collection[str] = (),
) -> Program:
    """Compile a model together with the derivative of its values along one direction.

    Parameters
    ----------
    model : Model
        The lowered model.
    varied : sequence of str
        Constants that differ between members, or that a direction moves.
    directions : sequence of str
        Those of `varied` that the direction moves.
    saves : sequence of str
        Variables, and tangents of variables by `tangent.tangent_name`, to store.
    given : collection of str
        Random variables whose values are supplied, as for `compile_model`.

    Returns
    -------
    Program
        Its parameters are those of `varied`, then the seeds of `directions`. What it shares with the program of
        `compile_model` has the same bits there.
    """
    derived = {tangent_name(name): name for name in (*model.variables, *model.stocks)}
    check_names(model, [*varied, *directions], [derived.get(name, name) for name in saves])
    return _compiled_tangents(model, tuple(varied), tuple(directions), tuple(saves), frozenset(given))


@lru_cache(maxsize=64)
def _compiled_tangents(
    model: Model, varied: tuple[str, ...], directions: tuple[str, ...], saves: tuple[str, ...], given: frozenset[str]
) -> Program:
    graph = build_graph(model, frozenset(varied), given)
    differentiate(graph, directions)
    return _Emitter(graph, (*varied, *map(tangent_name, directions)), saves).program()


def check_names(model: Model, varied: Collection[str], saves: Sequence[str]) -> None:
    """Raise `DesignError` for a parameter that is not a constant or a saved name that is not a value."""
    for name in varied:
        if name not in model.constants:
            if name in model.variables:
                what = model.variables[name].kind.value
                raise DesignError(f"{name!r} is a {what} of model {model.name!r}; only constants can be parameters")
            raise DesignError(f"model {model.name!r} has no constant {name!r}. {did_you_mean(name, model.constants)}")
        if name in model.structural:
            raise DesignError(f"{name!r} sets {model.structural[name]} of model {model.name!r}; it cannot vary")
    for name in saves:
        if name not in model.variables and not (name.startswith("#") and name in model.stocks):
            raise DesignError(f"model {model.name!r} has no variable {name!r}. {did_you_mean(name, model.variables)}")
        if name in model.variables and model.variables[name].kind is Kind.LOOKUP:
            raise DesignError(f"{name!r} is a lookup of model {model.name!r}; it has no value over time to save")


class _Emitter:
    """Registers and code of one program."""

    def __init__(self, graph: Graph, varied: tuple[str, ...], saves: tuple[str, ...]) -> None:
        self.graph, self.varied, self.saves = graph, varied, saves
        self.code: dict[str, list[tuple[int, int, int, int, int]]] = {name: [] for name in SEGMENTS}
        self.scalars: list[float] = [0.0] * len(SCALARS)
        self.scalar_slot: dict[int, int] = {}
        self.vector_slot: dict[int, int] = {}
        self.filled: dict[int, int] = {}
        self.streams: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.n_vectors = 0
        self.free: list[int] = []
        self.lists: list[int] = []
        self.events: list[Event] = []
        self.event_values: list[int] = []

    # -- what is needed ---------------------------------------------------------------------------

    def _reach(self, roots: list[int], stop: set[int]) -> set[int]:
        seen: set[int] = set()
        todo = [root for root in roots if root not in stop]
        while todo:
            index = todo.pop()
            if index not in seen:
                seen.add(index)
                todo.extend(i for i in self.graph.values[index].operands if i not in seen and i not in stop)
        return seen

    def _select(self) -> None:
        """Stocks, holds and delays that the saved variables depend on, and the values of each segment."""
        graph = self.graph
        roots = [graph.step[name] for name in self.saves]
        flows = [graph.flows[name] for name in graph.model.stocks] if graph.adaptive else []
        stocks: set[str] = set(graph.model.stocks) if graph.adaptive else set()
        delays: set[str] = set()
        states: list[int] = []
        seen: set[int] = set()
        todo = [*roots, *flows]
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
                    states.append(index)
        self.stocks = [name for name in graph.flows if name in stocks]
        self.delays = [name for name in graph.delay_input if name in delays]
        self.flows = [graph.flows[name] for name in self.stocks]
        self.inputs = [graph.delay_input[name] for name in self.delays]
        self.holds = sorted(states)
        self.lane = self._reach([*self.flows, *self.inputs, *self.holds], set())
        self.save = self._reach(roots, self.lane)
        starts = self.starts = [graph.start[name] for name in self.stocks]
        starts += [graph.hold_start[str(graph.values[index].label)] for index in self.holds]
        starts += [value for name in self.delays for value in graph.delay_start[name]]
        self.start = self._reach(starts, set())
        self.roots = roots
        if graph.adaptive:
            self._select_events()

    def _select_events(self) -> None:
        """Events of the whole model, whatever is saved; refuses what an adaptive run cannot compute."""
        values = self.graph.values
        refused = {i for i, value in enumerate(values) if value.kind == "refused"}
        if needed := sorted(refused & (self.start | self.lane | self.save)):
            raise UnsupportedError(_refusal(self.graph.model, [values[i] for i in needed]))
        events = dict.fromkeys(self.graph.events)
        self.events = [event for event in events if not refused & self._reach(list(event.values()), set())]
        self.event_values = [value for event in self.events for value in event.values()]
        self.start |= self._reach(self.event_values, set())

    # -- registers --------------------------------------------------------------------------------

    def _new_vector(self) -> int:
        if self.free:
            return self.free.pop()
        self.n_vectors += 1
        return self.n_vectors - 1

    def _persistent(self) -> int:
        self.n_vectors += 1
        return self.n_vectors - 1

    def _scalar(self, index: int) -> int:
        """Scalar register of a value that is equal for all members."""
        slot = self.scalar_slot.get(index)
        if slot is None:
            value = self.graph.values[index]
            if value.kind == "scalar":
                slot = SCALARS.index(str(value.label))
            else:
                slot = len(self.scalars)
                self.scalars.append(float(value.label) if value.kind == "literal" else 0.0)  # type: ignore[arg-type]
            self.scalar_slot[index] = slot
        return slot

    def _is_scalar(self, index: int) -> bool:
        return self.graph.values[index].rate in (Rate.LITERAL, Rate.RUN, Rate.TIME)

    def _is_computed(self, index: int) -> bool:
        """Whether an operation gives the value, rather than a literal or what is put into its register."""
        value = self.graph.values[index]
        return bool(value.operands) or value.kind == "GIVEN"

    def _vector(self, index: int) -> int:
        """Vector register of a value; a scalar is spread: each stage if it changes, else once for the block."""
        if not self._is_scalar(index):
            return self.vector_slot[index]
        if index in self.filled:
            return self.filled[index]
        slot = self._persistent()
        self.filled[index] = slot
        target = "lane" if self.graph.values[index].rate is Rate.TIME else "member"
        self.code[target].append((CODES["FILL"], slot, self._scalar(index), 0, 0))
        return slot

    # -- code -------------------------------------------------------------------------------------

    def program(self) -> Program:
        self._select()
        graph = self.graph
        everything = self.start | self.lane | self.save
        for rate, segment in ((Rate.RUN, "run"), (Rate.TIME, "time")):
            for index in sorted(everything):
                if graph.values[index].rate is rate:
                    self._emit_scalar(index, segment)
        self._assign_states()
        self._emit_members(everything)
        self._emit_starts()
        flow_slots, input_slots = self._emit_lanes()
        save_slots = [
            (1, self._scalar(root)) if self._is_scalar(root) else (0, self.vector_slot[root]) for root in self.roots
        ]
        return self._assemble(flow_slots, input_slots, save_slots)

    def _emit_scalar(self, index: int, segment: str) -> None:
        """A value that is equal for all members."""
        value = self.graph.values[index]
        slot = self._scalar(index)
        if value.operands:
            operands = [self._scalar(operand) for operand in value.operands]
            if value.kind == "TABLE":
                operands.append(int(value.label))  # type: ignore[call-overload]
            self._append(segment, value.kind, slot, operands)

    def _append(self, segment: str, operation: str, dst: int, operands: list[int]) -> None:
        if operation in LISTED:
            self.lists += operands
            operands = [len(self.lists) - len(operands), len(operands)]
        a, b, c = (*operands, 0, 0, 0)[:3]
        self.code[segment].append((CODES[operation], dst, a, b, c))

    def _assign_states(self) -> None:
        graph = self.graph
        self.parameter_slot = {name: self._persistent() for name in self.varied}
        self.stock_slot = {name: self._persistent() for name in self.stocks}
        self.delay_slot = {name: self._persistent() for name in self.delays}
        for name in self.varied:
            self.vector_slot[graph.step[name]] = self.parameter_slot[name]
        for name in self.stocks:
            self.vector_slot[graph.step[name]] = self.stock_slot[name]
        for name in self.delays:
            self.vector_slot[graph.step[name]] = self.delay_slot[name]
        for index in self.holds:
            self.vector_slot[index] = self._persistent()
        if graph.adaptive:
            self.vector_slot[graph.scalar("time")] = self._persistent()
            self.vector_slot[graph.scalar("step_time")] = self._persistent()

    def _emit_members(self, everything: set[int]) -> None:
        """Values of the member, and initial values. What later segments read keeps its register."""
        values = self.graph.values
        order = [i for i in sorted(everything) if values[i].rate is Rate.MEMBER and self._is_computed(i)]
        kept = {i for user in self.lane | self.save for i in (*values[user].operands, user)} | set(self.roots)
        kept |= set(self.flows) | set(self.inputs) | set(self.starts) | set(self.event_values)
        self._emit_sequence([("member", index) for index in order], kept)

    def _emit_starts(self) -> None:
        graph = self.graph
        self.delay_start_slots: list[tuple[int, int]] = []
        for name in self.stocks:
            self._start_register(graph.start[name], self.stock_slot[name])
        for index in self.holds:
            self._start_register(graph.hold_start[str(graph.values[index].label)], self.vector_slot[index])
        for name in self.delays:
            delay_time, initial = graph.delay_start[name]
            slots = (self._persistent(), self._persistent())
            self._start_register(delay_time, slots[0])
            self._start_register(initial, slots[1])
            self.delay_start_slots.append(slots)
        self.clock = self._emit_clock() if graph.adaptive else None
        self.free.clear()  # starting values were the last readers; later segments number their own temporaries

    def _start_register(self, index: int, slot: int) -> None:
        if self._is_scalar(index):
            self.code["member"].append((CODES["FILL"], slot, self._scalar(index), 0, 0))
        else:
            self.code["member"].append((CODES["COPY"], slot, self.vector_slot[index], 0, 0))

    def _emit_clock(self) -> Clock:
        """The clocks of an adaptive run and its events, whose times are values of the member."""
        rows = []
        for event in self.events:
            slots = [self._vector(value) for value in event.values()]
            table = event.table if isinstance(event, Breaks) else -1
            rows.append((table, *slots, *[-1] * (3 - len(slots))))
        slot = self.vector_slot
        return Clock(
            slot[self.graph.scalar("time")], slot[self.graph.scalar("step_time")],
            np.array(rows, dtype=np.int32).reshape(-1, 4),
        )

    def _emit_lanes(self) -> tuple[list[int], list[int]]:
        values = self.graph.values
        moving = [i for i in sorted(self.lane | self.save) if values[i].rate is Rate.LANE and self._is_computed(i)]
        sequence = [("lane", i) for i in moving if i in self.lane]
        sequence += [("save", i) for i in moving if i in self.save]
        if not self.varied:  # most likely one member
            sequence = side_by_side(values, sequence)
        kept = set(self.flows) | set(self.inputs) | set(self.roots) | set(self.holds)
        self._emit_sequence(sequence, kept)
        flow_slots = []
        for index in self.flows:
            slot = self._vector(index)
            if values[index].kind == "stock":  # stocks are updated in turn: a flow may not be a stock's own register
                copy = self._persistent()
                self.code["lane"].append((CODES["COPY"], copy, slot, 0, 0))
                slot = copy
            flow_slots.append(slot)
        return flow_slots, [self._vector(index) for index in self.inputs]

    def _emit_sequence(self, sequence: list[tuple[str, int]], kept: set[int]) -> None:
        """Linear scan: a register is free again after the last reader of its value."""
        values = self.graph.values
        inner = pairs(values, sequence, kept)
        fused = set(inner.values())
        sequence = [(segment, index) for segment, index in sequence if index not in fused]
        made = {index: pair(values, index, operand, self._is_scalar) for index, operand in inner.items()}
        reads = {index: set(made.get(index, values[index]).operands) for _, index in sequence}
        last = {operand: position for position, (_, index) in enumerate(sequence) for operand in reads[index]}
        inside = {index for _, index in sequence}
        for position, (segment, index) in enumerate(sequence):
            value = values[index]
            if value.kind == "hold":
                registers = [self._vector(operand) for operand in value.operands]
                self._append(segment, "HOLD", self.vector_slot[index], registers)
            else:
                if index in made:
                    operation, three = made[index].name, made[index].operands
                    registers = [self._scalar(i) if self._is_scalar(i) else self._vector(i) for i in three]
                else:
                    operation, registers = self._operands(value)
                slot = self._persistent() if index in kept else self._new_vector()
                self.vector_slot[index] = slot
                self._append(segment, operation, slot, registers)
            for operand in reads[index]:
                if operand in inside and operand not in kept and last[operand] == position:
                    self.free.append(self.vector_slot[operand])

    def _operands(self, value: Value) -> tuple[str, list[int]]:
        """The operation's variant for its operand kinds, and its registers."""
        kind, operands = value.kind, value.operands
        if kind == "TABLE":
            return kind, [self._vector(operands[0]), int(value.label)]  # type: ignore[call-overload]
        if kind == "UNIFORM":
            return kind, [self._vector(operands[0]), self.streams.setdefault(str(value.label), len(self.streams))]
        if kind == "GIVEN":
            return kind, [self.given.setdefault(str(value.label), len(self.given))]
        if len(operands) == 2 and kind not in TERNARY:
            left, right = operands
            if self._is_scalar(right) and kind in VECTOR_SCALAR:
                return f"{kind}_VS", [self._vector(left), self._scalar(right)]
            if self._is_scalar(left) and kind in SWAPPED:
                return f"{SWAPPED[kind]}_VS", [self._vector(right), self._scalar(left)]
            if self._is_scalar(left) and kind in SCALAR_VECTOR:
                return f"{kind}_SV", [self._scalar(left), self._vector(right)]
        return kind, [self._vector(operand) for operand in operands]

    def _floors(self) -> list[tuple[int, int]]:
        """What a step sets to zero with the stock that decides it; a stock itself after all that it decides."""
        floors = [(name, self.graph.non_negative[name]) for name in self.stocks if name in self.graph.non_negative]
        floors.sort(key=lambda floor: floor[0] == floor[1])
        return [(self.stock_slot[name], self.stock_slot[decides]) for name, decides in floors]

    def _assemble(
        self, flow_slots: list[int], input_slots: list[int], save_slots: list[tuple[int, int]]
    ) -> Program:
        delays = [
            (self.delay_slot[name], source, *start)
            for name, source, start in zip(self.delays, input_slots, self.delay_start_slots, strict=True)
        ]
        rows = [row for name in SEGMENTS for row in self.code[name]]
        return Program(
            code=np.array(rows, dtype=np.int32).reshape(-1, 5),
            bounds=np.cumsum([0, *(len(self.code[name]) for name in SEGMENTS)], dtype=np.int32),
            n_vectors=self.n_vectors,
            scalars=np.array(self.scalars, dtype=np.float64),
            parameters=self.varied,
            parameter_slots=np.array([self.parameter_slot[name] for name in self.varied], dtype=np.int32),
            stocks=tuple(self.stocks),
            stock_slots=np.array([self.stock_slot[name] for name in self.stocks], dtype=np.int32),
            flow_slots=np.array(flow_slots, dtype=np.int32),
            non_negative=np.array(self._floors(), dtype=np.int32).reshape(-1, 2),
            lists=np.array(self.lists, dtype=np.int32),
            delays=np.array(delays, dtype=np.int32).reshape(-1, 4),
            saves=self.saves,
            save_slots=np.array(save_slots, dtype=np.int32).reshape(-1, 2),
            tables=pack_tables(self.graph.tables),
            streams=tuple(self.streams),
            given=tuple(self.given),
            clock=self.clock,
        )


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
