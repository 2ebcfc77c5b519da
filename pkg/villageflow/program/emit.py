"""Model to tape: choose what to compute and where, and give every value a register."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from villageflow.errors import DesignError, did_you_mean
from villageflow.ir.model import Kind, Model
from villageflow.program.events import Breaks
from villageflow.program.fuse import Strip, one_by_one, operations, pairs
from villageflow.program.graph import Graph, Rate, build_graph
from villageflow.program.needs import Needs
from villageflow.program.opcodes import CODES, LISTED, OPERANDS, for_kinds
from villageflow.program.program import SCALARS, SEGMENTS, Clock, Program
from villageflow.program.strips import in_strips
from villageflow.program.tables import pack_tables
from villageflow.program.tangent import differentiate, tangent_name


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
        self.needs = Needs(graph, saves)
        self.code: dict[str, list[tuple[int, ...]]] = {name: [] for name in SEGMENTS}
        self.scalars: list[float] = [0.0] * len(SCALARS)
        self.scalar_slot: dict[int, int] = {}
        self.vector_slot: dict[int, int] = {}
        self.filled: dict[tuple[int, ...], int] = {}
        self.gathered: dict[tuple[int, ...], int] = {}
        self.streams: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.n_vectors = 0
        self.free: dict[int, list[int]] = {}
        self.lists: list[int] = []

    # -- registers --------------------------------------------------------------------------------

    def _new_vectors(self, count: int) -> int:
        """The first of `count` registers that follow each other."""
        free = self.free.get(count)
        return free.pop() if free else self._persistent(count)

    def _persistent(self, count: int = 1) -> int:
        self.n_vectors += count
        return self.n_vectors - count

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
        return self._filled((index,)) if self._is_scalar(index) else self.vector_slot[index]

    def _filled(self, run: tuple[int, ...]) -> int:
        """The first of the vector registers that scalars are spread to, one after the other."""
        slot = self.filled.get(run)
        if slot is None:
            slot = self.filled[run] = self._persistent(len(run))
            equal = len(set(run)) == 1
            for place, index in enumerate(run[:1] if equal else run):
                target = "lane" if self.graph.values[index].rate is Rate.TIME else "member"
                self._append(target, "FILL", slot + place, [self._scalar(index)], len(run) if equal else 1)
        return slot

    def _neighbours(self, run: tuple[int, ...], segment: str) -> int:
        """The first of vector registers that follow each other and hold the values of a run; gathered if need be."""
        if all(map(self._is_scalar, run)):
            return self._filled(run)
        if run not in self.gathered:
            slots = [self._vector(index) for index in run]
            if slots == [*range(slots[0], slots[0] + len(run))]:
                return slots[0]
            self.gathered[run] = self._new_vectors(len(run))
            self._append(segment, "GATHER", self.gathered[run], slots)
        return self.gathered[run]

    # -- code -------------------------------------------------------------------------------------

    def program(self) -> Program:
        graph, needs = self.graph, self.needs
        everything = needs.start | needs.lane | needs.save
        for rate, segment in ((Rate.RUN, "run"), (Rate.TIME, "time")):
            for index in sorted(everything):
                if graph.values[index].rate is rate:
                    self._emit_scalar(index, segment)
        self._assign_states()
        self._emit_members(everything)
        self._emit_starts()
        flow_slots, input_slots = self._emit_lanes()
        save_slots = [
            (1, self._scalar(root)) if self._is_scalar(root) else (0, self.vector_slot[root]) for root in needs.roots
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

    def _append(self, segment: str, operation: str, dst: int, operands: list[int], count: int = 1) -> None:
        if operation in LISTED:
            self.lists += operands
            operands = [len(self.lists) - len(operands), len(operands)]
        a, b, c = (*operands, 0, 0, 0)[:3]
        self.code[segment].append((CODES[operation], dst, a, b, c, count))

    def _assign_states(self) -> None:
        graph = self.graph
        self.parameter_slot = {name: self._persistent() for name in self.varied}
        self.stock_slot = {name: self._persistent() for name in self.needs.stocks}
        self.delay_slot = {name: self._persistent() for name in self.needs.delays}
        for name in self.varied:
            self.vector_slot[graph.step[name]] = self.parameter_slot[name]
        for name in self.needs.stocks:
            self.vector_slot[graph.step[name]] = self.stock_slot[name]
        for name in self.needs.delays:
            self.vector_slot[graph.step[name]] = self.delay_slot[name]
        for index in self.needs.holds:
            self.vector_slot[index] = self._persistent()
        if graph.adaptive:
            self.vector_slot[graph.scalar("time")] = self._persistent()
            self.vector_slot[graph.scalar("step_time")] = self._persistent()

    def _emit_members(self, everything: set[int]) -> None:
        """Values of the member, and initial values. What later segments read keeps its register."""
        values = self.graph.values
        order = [i for i in sorted(everything) if values[i].rate is Rate.MEMBER and self._is_computed(i)]
        needs = self.needs
        kept = {i for user in needs.lane | needs.save for i in (*values[user].operands, user)}
        kept.update(needs.roots, needs.flows, needs.inputs, needs.starts, needs.event_values)
        sequence = [("member", index) for index in order]
        self._emit_strips(one_by_one(operations(values, sequence, kept, self._is_scalar)), kept)

    def _emit_starts(self) -> None:
        graph = self.graph
        self.delay_start_slots: list[tuple[int, int]] = []
        for name in self.needs.stocks:
            self._start_register(graph.start[name], self.stock_slot[name])
        for index in self.needs.holds:
            self._start_register(graph.hold_start[str(graph.values[index].label)], self.vector_slot[index])
        for name in self.needs.delays:
            delay_time, initial = graph.delay_start[name]
            slots = (self._persistent(), self._persistent())
            self._start_register(delay_time, slots[0])
            self._start_register(initial, slots[1])
            self.delay_start_slots.append(slots)
        self.clock = self._emit_clock() if graph.adaptive else None
        self.free.clear()  # starting values were the last readers; later segments number their own temporaries

    def _start_register(self, index: int, slot: int) -> None:
        if self._is_scalar(index):
            self._append("member", "FILL", slot, [self._scalar(index)])
        else:
            self._append("member", "COPY", slot, [self.vector_slot[index]])

    def _emit_clock(self) -> Clock:
        """The clocks of an adaptive run and its events, whose times are values of the member."""
        rows = []
        for event in self.needs.events:
            slots = [self._vector(value) for value in event.values()]
            table = event.table if isinstance(event, Breaks) else -1
            rows.append((table, *slots, *[-1] * (3 - len(slots))))
        slot = self.vector_slot
        return Clock(
            slot[self.graph.scalar("time")], slot[self.graph.scalar("step_time")],
            np.array(rows, dtype=np.int32).reshape(-1, 4),
        )

    def _emit_lanes(self) -> tuple[list[int], list[int]]:
        values, needs = self.graph.values, self.needs
        moving = [i for i in sorted(needs.lane | needs.save) if values[i].rate is Rate.LANE and self._is_computed(i)]
        sequence = [("lane", i) for i in moving if i in needs.lane]
        sequence += [("save", i) for i in moving if i in needs.save]
        kept = {*needs.flows, *needs.inputs, *needs.roots, *needs.holds}
        alone = not self.varied  # most likely one member
        found = operations(values, sequence, kept, self._is_scalar, with_sums=alone)
        self._emit_strips(in_strips(self.graph, found) if alone else one_by_one(found), kept)
        flow_slots = []
        for index in needs.flows:
            slot = self._vector(index)
            if values[index].kind == "stock":  # stocks are updated in turn: a flow may not be a stock's own register
                copy = self._persistent()
                self._append("lane", "COPY", copy, [slot])
                slot = copy
            flow_slots.append(slot)
        return flow_slots, [self._vector(index) for index in needs.inputs]

    def _emit_strips(self, strips: list[Strip], kept: set[int]) -> None:
        """Linear scan: registers are free again after the last reader of what is in them."""
        strips = pairs(strips, kept)
        strip_of = {index: run for run in (strip.values for strip in strips) for index in run}
        last: dict[tuple[int, ...], int] = {}
        read: list[dict[tuple[int, ...], None]] = []
        for position, strip in enumerate(strips):
            runs = dict.fromkeys(strip.runs())
            read.append(runs | dict.fromkeys(strip_of[index] for run in runs for index in run if index in strip_of))
            last |= dict.fromkeys(read[-1], position)
        mine = set(strip_of.values())
        for position, strip in enumerate(strips):
            self._emit_strip(strip, kept)
            for run in read[position]:
                if last[run] == position and run in self.gathered:
                    self._release(run, self.gathered.pop(run))
                elif last[run] == position and run in mine and kept.isdisjoint(run):
                    self._release(run, self.vector_slot[run[0]])

    def _release(self, run: tuple[int, ...], slot: int) -> None:
        self.free.setdefault(len(run), []).append(slot)

    def _emit_strip(self, strip: Strip, kept: set[int]) -> None:
        operation, count = strip.operations[0], len(strip.operations)
        name, registers, kinds = operation.name, [], ""
        for kind, run in zip(OPERANDS[name] or "V" * len(operation.operands), strip.runs(), strict=True):
            one = kind == "S" and len(set(run)) == 1
            registers.append(self._scalar(run[0]) if one else self._neighbours(run, operation.segment))
            kinds += "S" if one else "V"
        registers += self._number(operation.index)
        if name != "HOLD":
            slot = self._new_vectors(count) if kept.isdisjoint(strip.values) else self._persistent(count)
            self.vector_slot |= {index: slot + place for place, index in enumerate(strip.values)}
        self._append(operation.segment, for_kinds(name, kinds), self.vector_slot[operation.index], registers, count)

    def _number(self, index: int) -> list[int]:
        """What an operation has besides registers: the number of a table, a stream or a supplied series."""
        value = self.graph.values[index]
        match value.kind:
            case "TABLE":
                return [int(value.label)]  # type: ignore[call-overload]
            case "UNIFORM":
                return [self.streams.setdefault(str(value.label), len(self.streams))]
            case "GIVEN":
                return [self.given.setdefault(str(value.label), len(self.given))]
        return []

    def _floors(self) -> list[tuple[int, int]]:
        """What a step sets to zero with the stock that decides it; a stock itself after all that it decides."""
        decides = self.graph.non_negative
        floors = [(name, decides[name]) for name in self.needs.stocks if name in decides]
        floors.sort(key=lambda floor: floor[0] == floor[1])
        return [(self.stock_slot[name], self.stock_slot[other]) for name, other in floors]

    def _assemble(
        self, flow_slots: list[int], input_slots: list[int], save_slots: list[tuple[int, int]]
    ) -> Program:
        delays = [
            (self.delay_slot[name], source, *start)
            for name, source, start in zip(self.needs.delays, input_slots, self.delay_start_slots, strict=True)
        ]
        rows = [row for name in SEGMENTS for row in self.code[name]]
        return Program(
            code=np.array(rows, dtype=np.int32).reshape(-1, 6),
            bounds=np.cumsum([0, *(len(self.code[name]) for name in SEGMENTS)], dtype=np.int32),
            n_vectors=self.n_vectors,
            scalars=np.array(self.scalars, dtype=np.float64),
            parameters=self.varied,
            parameter_slots=np.array([self.parameter_slot[name] for name in self.varied], dtype=np.int32),
            stocks=tuple(self.needs.stocks),
            stock_slots=np.array([self.stock_slot[name] for name in self.needs.stocks], dtype=np.int32),
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
