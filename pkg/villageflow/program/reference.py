"""The tape in plain Python, one member at a time: slow, readable, and bit for bit equal to the kernel.

It uses the kernel's own scalar functions (their accuracy is tested apart), so any difference of bits is a fault of
the kernel's loops, registers or compilation. It is an oracle for tests and for readers, never a fallback.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np
import numpy.typing as npt

from villageflow._kernels import _vmath
from villageflow.program.noise import Noise, stream_keys, uniform
from villageflow.program.opcodes import LISTED, NAMES, OPERANDS, PAIRS, XIDZ_ZERO
from villageflow.program.program import SCALARS, Program
from villageflow.timegrid import TimeGrid

NAN = math.nan


def _divide(a: float, b: float) -> float:
    if b != 0.0:
        return a / b
    return NAN if a != a or a == 0.0 else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _modulo(a: float, b: float) -> float:
    """Remainder with the sign of `a`, as Vensim has it."""
    if math.isinf(a) or b == 0.0 or a != a or b != b:
        return NAN
    return math.fmod(a, b)


def _compare(test: Callable[[float, float], bool]) -> Callable[[float, float], float]:
    """A comparison with a value that is not a number is not a number, so that no fault is hidden by a branch."""
    return lambda a, b: NAN if a != a or b != b else float(test(a, b))


def _truth(test: Callable[[bool, bool], bool]) -> Callable[[float, float], float]:
    return lambda a, b: NAN if a != a or b != b else float(test(a != 0.0, b != 0.0))


def _integer(a: float) -> float:
    return math.copysign(float(math.trunc(a)), a) if math.isfinite(a) else a


_OPERATIONS: dict[str, Callable[..., float]] = {
    "COPY": lambda a: a,
    "NEGATIVE": lambda a: -a,
    "ABS": abs,
    "EXP": _vmath.exp,
    "LN": _vmath.log,
    "SQRT": lambda a: math.sqrt(a) if a >= 0.0 else NAN,
    "INTEGER": _integer,
    "NOT": lambda a: NAN if a != a else float(a == 0.0),
    "SIN": _vmath.sin,
    "COS": _vmath.cos,
    "TAN": _vmath.tan,
    "ARCSIN": _vmath.arcsin,
    "ARCCOS": _vmath.arccos,
    "ARCTAN": _vmath.arctan,
    "SINH": _vmath.sinh,
    "COSH": _vmath.cosh,
    "TANH": _vmath.tanh,
    "NORMAL_PROBABILITY": _vmath.normal_probability,
    "NORMAL_QUANTILE": _vmath.normal_quantile,
    "ADD": lambda a, b: a + b,
    "SUBTRACT": lambda a, b: a - b,
    "MULTIPLY": lambda a, b: a * b,
    "DIVIDE": _divide,
    "POWER": _vmath.power,
    "MODULO": _modulo,
    "MIN": lambda a, b: a if a < b or a != a else b,
    "MAX": lambda a, b: a if a > b or a != a else b,
    "LESS": _compare(lambda a, b: a < b),
    "LESS_EQUAL": _compare(lambda a, b: a <= b),
    "GREATER": _compare(lambda a, b: a > b),
    "GREATER_EQUAL": _compare(lambda a, b: a >= b),
    "EQUAL": _compare(lambda a, b: a == b),
    "NOT_EQUAL": _compare(lambda a, b: a != b),
    "AND": _truth(lambda a, b: a and b),
    "OR": _truth(lambda a, b: a or b),
    "IF_THEN_ELSE": lambda c, a, b: NAN if c != c else (a if c != 0.0 else b),
    "ALLOCATION_SHARE": _vmath.allocation_share,
    "ALLOCATION_PRICE": lambda *values: _vmath.allocation_price(np.array(values)),
    "SUM": lambda *values: reduce(lambda a, b: a + b, values),
    "XIDZ": lambda a, b, x: x if abs(b) < XIDZ_ZERO else a / b,
    "COUNT_PROBABILITY": _vmath.count_probability,
    "COUNT_QUANTILE": _vmath.count_quantile,
    "BETA_PROBABILITY": _vmath.beta_probability,
    "BETA_QUANTILE": _vmath.beta_quantile,
}


def scalar_operation(name: str, *operands: float) -> float:
    """One operation on numbers, with the bits that the kernel gives; a result that is not a number is `math.nan`."""
    result = float(_OPERATIONS[name](*operands))
    return result if result == result else NAN


def run_reference(
    program: Program,
    grid: TimeGrid,
    parameters: Mapping[str, float],
    method: str = "euler",
    *,
    noise: Noise | None = None,
    member: int = 0,
) -> npt.NDArray[np.float64]:
    """Run one member.

    Parameters
    ----------
    program : Program
        What to run.
    grid : TimeGrid
        When.
    parameters : mapping of str to float
        A value for every varied parameter of the program.
    method : {"euler", "rk4"}
        Integration method.
    noise : Noise, optional
        Random numbers, and values of ``program.given``.
    member : int
        Place of the member in the run whose noise it is.

    Returns
    -------
    (n_saves, n_times) array
        The saved variables at ``grid.save_times()``.
    """
    return MemberRun(program, grid, parameters, noise or Noise(), member).trajectory(method)


class MemberRun:
    """Registers and memory of one member."""

    def __init__(
        self, program: Program, grid: TimeGrid, parameters: Mapping[str, float], noise: Noise, member: int
    ) -> None:
        self.program, self.grid, self.step = program, grid, 0
        self.keys, self.member = stream_keys(noise.seed, program.streams).tolist(), noise.member(member)
        columns = [noise.given[name] for name in program.given]
        self.given = [values[:, member if values.shape[1] > 1 else 0].tolist() for values in columns]
        self.scalar = [float(value) for value in program.scalars]
        self.vector = [NAN] * program.n_vectors
        for name, slot in zip(program.parameters, program.parameter_slots.tolist(), strict=True):
            self.vector[slot] = float(parameters[name])
        values = {
            "initial_time": grid.start, "final_time": grid.stop, "time_step": grid.step, "saveper": grid.save_every
        }
        for slot, name in enumerate(SCALARS):
            self.scalar[slot] = values.get(name, grid.start)
        self.execute("run", self.scalar, 0)
        self.execute("member", self.vector, 0)
        self.buffers = [self._buffer(*row) for row in program.delays.tolist()]

    def _buffer(self, output: int, source: int, delay_time: int, initial: int) -> list[float]:
        duration = self.vector[delay_time]
        start = self.vector[initial] if duration == duration else NAN
        return [start] * delay_steps(duration, self.grid.step, self.grid.n_steps + 1)

    def trajectory(self, method: str) -> npt.NDArray[np.float64]:
        grid, program = self.grid, self.program
        steps = grid.save_steps().tolist()
        out = np.empty((len(program.saves), len(steps)))
        for k in range(grid.n_steps + 1):
            for (output, *_), buffer in zip(program.delays.tolist(), self.buffers, strict=True):
                self.vector[output] = buffer[k % len(buffer)]
            flows = self._stage(k, 0.0, first=True)
            for (_, source, *_), buffer in zip(program.delays.tolist(), self.buffers, strict=True):
                buffer[k % len(buffer)] = self.vector[source]
            if k in steps:
                self.execute("save", self.vector, 0)
                out[:, steps.index(k)] = [
                    (self.scalar if is_scalar else self.vector)[slot] for is_scalar, slot in program.save_slots.tolist()
                ]
            if k < grid.n_steps:
                self._advance(k, flows, method)
        out[np.isnan(out)] = NAN
        return out

    def _advance(self, k: int, flows: list[float], method: str) -> None:
        self._take_step(k, flows, method)
        for slot, decides in self.program.non_negative.tolist():
            if self.vector[decides] < 0.0:
                self.vector[slot] = 0.0

    def _take_step(self, k: int, flows: list[float], method: str) -> None:
        step = self.grid.step
        before = self.stocks()
        if method == "euler":
            self.set_stocks([x + step * f for x, f in zip(before, flows, strict=True)])
            return
        half, sixth = 0.5 * step, step / 6.0
        total = flows
        for offset, weight, reach in ((0.5, 2.0, half), (0.5, 2.0, half), (1.0, 1.0, step)):
            self.set_stocks([x + reach * f for x, f in zip(before, flows, strict=True)])
            flows = self._stage(k, offset, first=False)
            total = [t + weight * f for t, f in zip(total, flows, strict=True)]
        self.set_stocks([x + sixth * t for x, t in zip(before, total, strict=True)])

    def _stage(self, k: int, offset: float, *, first: bool) -> list[float]:
        self.scalar[0] = self.grid.start + (k + offset) * self.grid.step
        self.scalar[1] = self.grid.start + k * self.grid.step
        self.step = k
        self.execute("time", self.scalar, 0)
        self.execute("lane", self.vector, 0 if first else 1)
        return [self.vector[slot] for slot in self.program.flow_slots.tolist()]

    def stocks(self) -> list[float]:
        return [self.vector[slot] for slot in self.program.stock_slots.tolist()]

    def set_stocks(self, values: list[float]) -> None:
        for slot, value in zip(self.program.stock_slots.tolist(), values, strict=True):
            self.vector[slot] = value

    def execute(self, segment: str, registers: list[float], stage: int) -> None:
        for op, dst, a, b, c, count in self.program.segment(segment).tolist():
            name = NAMES[op]
            if name == "GATHER":
                registers[dst:dst + b] = [registers[slot] for slot in self.program.lists[a:a + b].tolist()]
            elif name != "HOLD" or stage == 0:
                step = [int(kind == "V") for kind in f"{OPERANDS[name]:<3}"]  # scalars are the same for all
                for k in range(count):
                    slots = (a + k * step[0], b + k * step[1], c + k * step[2])
                    registers[dst + k] = self._operation(name, registers, slots, dst)

    def _operation(self, name: str, registers: list[float], slots: tuple[int, ...], dst: int) -> float:
        a, b = slots[:2]
        if name == "HOLD":
            return scalar_operation("IF_THEN_ELSE", registers[a], registers[b], registers[dst])
        if name == "FILL":
            return self.scalar[a]
        if name == "UNIFORM":
            return uniform(self.keys[b], self.member, self.step, registers[a])
        if name == "GIVEN":
            return float(self.given[a][self.step])
        if name == "TABLE":
            return self._table(registers[a], b)
        if name in LISTED:
            return scalar_operation(name, *(registers[slot] for slot in self.program.lists[a:a + b].tolist()))
        if name in PAIRS:
            return self._pair(name, registers, slots)
        if name.endswith("_VS"):
            return scalar_operation(name[:-3], registers[a], self.scalar[b])
        if name.endswith("_SV"):
            return scalar_operation(name[:-3], self.scalar[a], registers[b])
        return scalar_operation(name, *(registers[slot] for slot in slots[:len(OPERANDS[name])]))

    def _pair(self, name: str, registers: list[float], slots: tuple[int, ...]) -> float:
        first, second, third_first, kinds = PAIRS[name]
        a, b, c = ((registers if kind == "V" else self.scalar)[slot] for kind, slot in zip(kinds, slots, strict=True))
        inner = scalar_operation(first, a, b)
        return scalar_operation(second, c, inner) if third_first else scalar_operation(second, inner, c)

    def _table(self, x: float, index: int) -> float:
        tables = self.program.tables
        points = tables.points[tables.offsets[index]:tables.offsets[index + 1]].tolist()
        if x != x:
            return NAN
        x0, y0, _ = points[0]
        result: float = y0 + (x - x0) * float(tables.below[index])
        for xk, yk, slope in points:
            if x >= xk:
                result = yk + (x - xk) * slope
        return result


def delay_steps(delay_time: float, step: float, most: int) -> int:
    """Steps that DELAY FIXED holds a value: the nearest whole number, halves up, from 1 to the whole run."""
    steps = delay_time / step + 0.5 + 1e-6
    if not steps < most:
        return most
    return math.floor(steps) if steps >= 1.0 else 1
