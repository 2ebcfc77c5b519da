"""The tape: register operations in five segments, and the check that the kernel may run them unguarded.

==========  =======================================================  ===================
segment     holds what depends on                                    runs
==========  =======================================================  ===================
``run``     literals and the time grid                               once, over scalars
``member``  parameters of the member; initial values                 once for each block
``time``    time alone                                               each stage, over scalars
``lane``    stocks; whatever derivatives, holds and delays need      each stage
``save``    what only saved variables need                           at save points
==========  =======================================================  ===================
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from villageflow.errors import ProgramError
from villageflow.ir.model import owner
from villageflow.program.opcodes import CODES, LISTED, NAMES, ONE_BY_ONE, OPERANDS, PAIRS

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

SEGMENTS: Final = ("run", "member", "time", "lane", "save")
SCALARS: Final = ("time", "step_time", "initial_time", "final_time", "time_step", "saveper")
"""Scalar registers 0 to 5, written by the integrator. ``step_time`` is the time at which the step began."""
_STEPS: Final = np.array([[1, *(kind == "V" for kind in f"{OPERANDS[name]:<3}")] for name in NAMES])
"""From one of the operations that a count stands for to the next: of the destination and of three operands."""


@dataclass(frozen=True)
class Tables:
    """Table functions as one array of breakpoints.

    Attributes
    ----------
    offsets : (n_tables + 1,) int32
        First breakpoint of each table, and the end of the last.
    points : (n_points, 3) float64
        x, y and the slope to the right of each breakpoint.
    below : (n_tables,) float64
        Slope to the left of the first breakpoint.
    """

    offsets: Ints
    points: Floats
    below: Floats


@dataclass(frozen=True)
class Clock:
    """What a run adds that chooses its steps: time as registers of each member, and the events steps land on.

    Attributes
    ----------
    time, step_time : int
        Vector registers of the time of a stage and of the middle of its step.
    events : (n_events, 4) int32
        A table or -1, then vector registers or -1. Without a table: the first time, the period and the last time.
        With one: slope and offset of its argument over time.
    """

    time: int
    step_time: int
    events: Ints


@dataclass(frozen=True)
class Program:
    """A compiled model for one choice of varied parameters and saved variables.

    Attributes
    ----------
    code : (n_operations, 6) int32
        Operation, destination, three operands, count. With a count of r the operation is done r times, each time with
        the next destination and the next of each vector operand.
    bounds : (6,) int32
        Where each segment of `SEGMENTS` begins, and the end.
    n_vectors : int
        Number of vector registers.
    scalars : (n_scalars,) float64
        Scalar registers at the start: literals; the six of `SCALARS` come first.
    parameters : tuple of str
        Varied constants; `parameter_slots` their vector registers.
    stocks : tuple of str
        Stocks that the saved variables depend on; `stock_slots` and `flow_slots` their values and net flows.
    non_negative : (n, 2) int32
        Register of a stock that each step sets to zero, and of the stock whose fall below zero is the reason: for a
        stock that never falls below zero both are its own; in the order in which it is done.
    lists : (n,) int32
        Registers that operations with any number of operands read.
    delays : (n_delays, 4) int32
        Fixed delays: registers of output, input, delay time and initial value.
    saves : tuple of str
        Saved variables; `save_slots` (n_saves, 2) holds 1 for a scalar register else 0, and the register.
    tables : Tables
    streams : tuple of str
        Streams of random numbers, see `ir.nodes.Uniform`; empty where nothing that is saved draws.
    given : tuple of str
        Variables whose values are supplied when the program runs.
    clock : Clock or None
        None for a program of fixed steps.
    digest : str
        SHA-256 over everything above.
    """

    code: Ints
    bounds: Ints
    n_vectors: int
    scalars: Floats
    parameters: tuple[str, ...]
    parameter_slots: Ints
    stocks: tuple[str, ...]
    stock_slots: Ints
    flow_slots: Ints
    non_negative: Ints
    lists: Ints
    delays: Ints
    saves: tuple[str, ...]
    save_slots: Ints
    tables: Tables
    streams: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    clock: Clock | None = None

    def __post_init__(self) -> None:
        _validate(self)

    @cached_property
    def digest(self) -> str:
        h = hashlib.sha256()
        arrays = (
            self.code, self.bounds, self.scalars, self.parameter_slots, self.stock_slots, self.flow_slots,
            self.non_negative, self.lists, self.delays, self.save_slots, self.tables.offsets, self.tables.points,
            self.tables.below,
        )
        for array in arrays:
            h.update(repr((array.dtype.str, array.shape)).encode())
            h.update(np.ascontiguousarray(array).tobytes())
        h.update(repr((self.n_vectors, self.parameters, self.stocks, self.saves)).encode())
        if self.streams or self.given:
            h.update(repr((self.streams, self.given)).encode())
        if self.clock is not None:
            h.update(repr((self.clock.time, self.clock.step_time, self.clock.events.tolist())).encode())
        return h.hexdigest()

    @property
    def random_variables(self) -> tuple[str, ...]:
        """Variables whose equations draw random numbers in this program; empty where none does."""
        return tuple(dict.fromkeys(owner(stream) for stream in self.streams))

    @cached_property
    def unrolled(self) -> tuple[Ints, Ints]:
        """The same code and bounds with counts of 1, as registers of more than one member need it."""
        counts = self.code[:, 5]
        ends = np.concatenate([[0], np.cumsum(counts)])
        code = np.repeat(self.code, counts, axis=0)
        place = np.arange(len(code)) - np.repeat(ends[:-1], counts)
        code[:, 1:5] += (_STEPS[code[:, 0]] * place[:, None]).astype(np.int32)
        code[:, 5] = 1
        return code, ends[self.bounds].astype(np.int32)

    def segment(self, name: str) -> Ints:
        """The operations of one segment, (n, 6) int32."""
        index = SEGMENTS.index(name)
        return self.code[self.bounds[index]:self.bounds[index + 1]]

    def listing(self) -> str:
        """The tape as text, one operation a line: for people."""
        lines = []
        for name in SEGMENTS:
            lines.append(f"{name}:")
            for op, dst, a, b, c, count in self.segment(name):
                times = f"  x {count}" if count > 1 else ""
                lines.append(f"  {NAMES[op]:<18} {dst:>4} <- {a:>4} {b:>4} {c:>4}{times}")
        return "\n".join(lines)


def _validate(program: Program) -> None:
    """Prove what the kernel takes for granted: known operations, registers in range, written before read."""
    code, bounds = program.code, program.bounds
    if code.ndim != 2 or code.shape[1] != 6 or code.dtype != np.int32:
        raise ProgramError(f"code has shape {code.shape} and type {code.dtype}; it must be (n, 6) int32")
    if bounds.shape != (len(SEGMENTS) + 1,) or bounds[0] != 0 or bounds[-1] != len(code) or (np.diff(bounds) < 0).any():
        raise ProgramError(f"segment bounds {bounds.tolist()} do not divide {len(code)} operations")
    if len(program.scalars) < len(SCALARS):
        raise ProgramError(f"{len(program.scalars)} scalar registers; the first {len(SCALARS)} are reserved")
    n_scalars = len(program.scalars)
    scalar_written = set(range(n_scalars))
    scalar_written -= {slot for name in ("run", "time") for slot in _destinations(program.segment(name))}
    _validate_segment(program, "run", scalar_written, n_scalars, scalar_written)
    vector_written = set(program.parameter_slots.tolist())
    delay_outputs = set(program.delays[:, 0].tolist())
    for slot in vector_written | delay_outputs:
        if not 0 <= slot < program.n_vectors:
            raise ProgramError(f"a parameter or a delay is in register {slot}; there are {program.n_vectors}")
    holds = {int(row[1]) for row in program.segment("lane") if row[0] == CODES["HOLD"]}
    _validate_segment(program, "member", vector_written, program.n_vectors, scalar_written)
    missing = (holds | set(program.stock_slots.tolist()) | set(program.delays[:, 2:].ravel().tolist())) - vector_written
    if missing:
        raise ProgramError(f"vector register {min(missing)} holds a state but the member segment does not write it")
    vector_written |= delay_outputs
    states = delay_outputs | set(program.stock_slots.tolist())
    if program.clock is not None:
        states |= _validate_clock(program, program.clock, vector_written)
        vector_written |= states
    _validate_segment(program, "time", scalar_written, n_scalars, scalar_written)
    for name in ("lane", "save"):
        _validate_segment(program, name, vector_written, program.n_vectors, scalar_written)
    for name in ("lane", "save"):
        if overwritten := states & _destinations(program.segment(name)):
            raise ProgramError(f"segment {name!r} writes register {min(overwritten)}, which holds a stock or a delay")
    _validate_outputs(program, vector_written)


def _validate_clock(program: Program, clock: Clock, member_written: set[int]) -> set[int]:
    """The registers of the clocks, which nothing else may write; events are known before the run."""
    clocks = {clock.time, clock.step_time}
    if len(clocks) < 2 or clocks & member_written or not all(0 <= slot < program.n_vectors for slot in clocks):
        raise ProgramError(f"the clocks are in registers {clock.time} and {clock.step_time}, which others use")
    held = len(program.segment("time")) or (program.segment("lane")[:, 0] == CODES["HOLD"]).any()
    if held or len(program.delays) or len(program.non_negative) or program.streams or program.given:
        raise ProgramError(
            "a program with clocks has a delay, a hold, a non-negative stock, random numbers, a supplied series or a "
            "time segment, all of which go by fixed steps"
        )
    for table, *slots in clock.events.tolist():
        used = [slot for slot in slots if slot >= 0]
        if table >= len(program.tables.below) or slots[0] < 0 or (table >= 0 and len(used) != 2):
            raise ProgramError(f"event {[table, *slots]} is malformed")
        if missing := set(used) - member_written:
            raise ProgramError(f"an event reads register {min(missing)}, which the member segment does not write")
    return clocks


def _destinations(segment: Ints) -> set[int]:
    return {slot for row in segment.tolist() for slot in _written(row)}


def _written(row: list[int]) -> range:
    """Registers that an operation writes."""
    op, dst, _, entries, _, count = row
    return range(dst, dst + (entries if op == CODES["GATHER"] else count))


def _validate_segment(program: Program, name: str, written: set[int], n_slots: int, scalars: set[int]) -> None:
    over_scalars = name in ("run", "time")
    for number, row in enumerate(program.segment(name).tolist()):
        where = f"operation {number} of segment {name!r}"
        op, _, *operands, count = row
        if not 0 <= op < len(NAMES):
            raise ProgramError(f"{where} has the unknown code {op}")
        label, kinds = NAMES[op], OPERANDS[NAMES[op]]
        if over_scalars and ("S" in kinds or label == "HOLD" or label in PAIRS):
            raise ProgramError(f"{where} is {label}, which mixes vectors and scalars")
        if over_scalars and label in ("UNIFORM", "GIVEN"):
            raise ProgramError(f"{where} is {label}, which differs between members")
        if label == "HOLD" and name != "lane":
            raise ProgramError(f"{where} is HOLD; only the lane segment may hold values")
        if count < 1 or (count > 1 and label in ONE_BY_ONE):
            raise ProgramError(f"{where} is {label} with a count of {count}")
        _validate_number(program, where, label, operands)
        destinations = _written(row)
        if not 0 <= destinations[0] <= destinations[-1] < n_slots:
            raise ProgramError(f"{where} writes register {destinations[-1]}; there are {n_slots}")
        firsts = [slot for slot, kind in zip(operands, kinds, strict=False) if kind == "V"]
        vectors = [slot for first in firsts for slot in range(first, first + count)]
        scalar_operands = [slot for slot, kind in zip(operands, kinds, strict=False) if kind == "S"]
        if label in LISTED:
            vectors = program.lists[operands[0]:operands[0] + operands[1]].tolist()
        for slot in vectors:
            if slot not in written:
                raise ProgramError(f"{where} reads register {slot} before it is written")
        for slot in scalar_operands:
            if slot not in scalars:
                raise ProgramError(f"{where} reads scalar register {slot} before it is written")
        if both := set(destinations).intersection(vectors):
            raise ProgramError(f"{where} writes register {min(both)}, which it also reads")
        written.update(destinations)


def _validate_number(program: Program, where: str, label: str, operands: list[int]) -> None:
    """Check what stands in the place of an operand and is no register."""
    if label in LISTED:
        first, count = operands[:2]
        if not (count > 0 and 0 <= first <= len(program.lists) - count):
            raise ProgramError(f"{where} reads entries {first} to {first + count} of {len(program.lists)} listed")
    if label == "TABLE" and not 0 <= operands[1] < len(program.tables.below):
        raise ProgramError(f"{where} uses table {operands[1]}; there are {len(program.tables.below)}")
    if label == "UNIFORM" and not 0 <= operands[1] < len(program.streams):
        raise ProgramError(f"{where} draws from stream {operands[1]}; there are {len(program.streams)}")
    if label == "GIVEN" and not 0 <= operands[0] < len(program.given):
        raise ProgramError(f"{where} reads supplied series {operands[0]}; there are {len(program.given)}")


def _validate_outputs(program: Program, vector_written: set[int]) -> None:
    for what, slots in (("net flow", program.flow_slots), ("delay input", program.delays[:, 1])):
        for slot in slots.tolist():
            if slot not in vector_written:
                raise ProgramError(f"{what} register {slot} is never written")
    if stray := set(program.non_negative.ravel().tolist()) - set(program.stock_slots.tolist()):
        raise ProgramError(f"register {min(stray)} is kept from falling below zero but holds no stock")
    if len(program.flow_slots) != len(program.stock_slots):
        raise ProgramError(f"{len(program.flow_slots)} net flows but {len(program.stock_slots)} stocks")
    if shared := set(program.flow_slots.tolist()) & set(program.stock_slots.tolist()):
        raise ProgramError(f"a net flow is in register {min(shared)}, which holds a stock; stocks are updated in turn")
    for is_scalar, slot in program.save_slots.tolist():
        if is_scalar and not 0 <= slot < len(program.scalars):
            raise ProgramError(f"a saved variable reads scalar register {slot}; there are {len(program.scalars)}")
        if not is_scalar and slot not in vector_written:
            raise ProgramError(f"a saved variable reads register {slot}, which is never written")
    offsets = program.tables.offsets
    n_tables, n_points = len(program.tables.below), len(program.tables.points)
    if program.tables.points.shape != (n_points, 3):
        raise ProgramError(f"tables have points of shape {program.tables.points.shape}; it must be (n, 3)")
    if len(offsets) != n_tables + 1 or offsets[0] != 0 or (np.diff(offsets) < 1).any() or offsets[-1] != n_points:
        raise ProgramError("tables are not contiguous or one is empty")
    for label, names, slots in (("parameters", program.parameters, program.parameter_slots),
                                ("stocks", program.stocks, program.stock_slots),
                                ("saves", program.saves, program.save_slots)):
        if len(names) != len(slots):
            raise ProgramError(f"{len(names)} names but {len(slots)} registers of {label}")
