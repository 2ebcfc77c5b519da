"""Derivatives of whole models against two independent oracles: complex steps and high-order differences.

A complex step runs the plain program over complex numbers with an imaginary part of 1e-40 in one parameter; the
imaginary part of the result is the derivative, with no difference taken.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import villageflow as vf
from villageflow.ensemble.simulate import time_grid
from villageflow.errors import VillageflowError
from villageflow.ir.model import Kind
from villageflow.program.emit import compile_model
from villageflow.program.opcodes import NAMES, PAIRS, XIDZ_ZERO
from villageflow.program.program import SCALARS
from villageflow.program.reference import delay_steps

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "conformance" / "test-models"
H = 1e-40
MODELS = {
    "village": ROOT / "benchmarks/village.mdl",
    "village_cluster": ROOT / "models/village_cluster/village_cluster.mdl",
    "national_diffusion": ROOT / "models/national_diffusion/national_diffusion.mdl",
}

UNDEFINED = {
    "samples/Workforce/workforce.mdl": "starts on a point of a table: the side that counts is a matter of rounding",
    "tests/arithmetics/test_arithmetics.mdl": "a negative base has no derivative with respect to its exponent",
    "tests/arithmetics_exp/test_arithmetics_exp.mdl": "divides by zero on the way to a finite value",
}

# every kind of memory, of initial value and of branch, with parameters in all of them
EVERYTHING = """{UTF-8}
x = INTEG(gain * x * (1 - x / room) - loss * x + push, begin * 2) ~~|
gain = 0.7 ~~|
room = 50 ~~|
loss = 0.1 ~~|
begin = 1.5 ~~|
push = STEP(height, 2) + RAMP(slope, ramp start, 6) + PULSE(3, 1) * height ~~|
height = 0.8 ~~|
slope = 0.3 ~~|
ramp start = 2.3 ~~|
smoothed = SMOOTH3(x, span) ~~|
delayed = DELAY3I(x, span, begin) ~~|
many = DELAY N(x * gain, span, begin, 4) ~~|
span = 3.2 ~~|
trend = TREND(x, span, gain / 10) ~~|
outlook = FORECAST(x, span, 2) ~~|
late = DELAY FIXED(x * gain, 1.5, begin) ~~|
held = SAMPLE IF TRUE(MODULO(Time, 2) < 0.4, x * gain, begin) ~~|
first = INITIAL(late + x * loss) ~~|
active = ACTIVE INITIAL(x * loss, begin ^ 2) ~~|
z = INTEG(active - z / span, active) ~~|
capped = MIN(x, cap) + MAX(x / 2, cap) + ABS(x - cap) ~~|
cap = 17.3 ~~|
looked = look(x / room) ^ bend ~~|
bend = 1.3 ~~|
look((0,0.1),(0.3,0.5),(0.7,0.6),(1.1,1.9)) ~~|
waves = SIN(x / 9) * COS(gain) + TAN(loss) + ARCTAN(x) * TANH(x / cap) + SINH(loss) / COSH(gain) ~~|
arcs = ARCSIN(loss) + ARCCOS(x / (x + room)) + SQRT(x) * LN(x + 1) + EXP(-x / room) ~~|
safe = ZIDZ(x, cap) + XIDZ(gain, x - x, loss) + MODULO(x * gain, cap) ~~|
choice = IF THEN ELSE(x > cap, x * gain, cap * loss) + INTEGER(x) * loss + IF THEN ELSE(x > 1 :AND: Time > 3, x, 0) ~~|
INITIAL TIME = 0 ~~|
FINAL TIME = 10 ~~|
TIME STEP = 0.1 ~~|
SAVEPER = 1 ~~|
"""


# ----------------------------------------------------------------------------- a run over complex numbers


def _where(test, a, b):
    return np.where(test, a, b).astype(complex)


def _compare(test):
    return lambda a, b: test(a.real, b.real).astype(complex)


def _power(a, b):
    below = a.real < 0
    sign = np.where(below & (np.mod(b.real, 2) == 1), -1.0, 1.0)
    result = sign * np.exp(b * np.log(np.where(below, -a, np.where(a == 0, 1.0, a))))
    return np.where(a == 0, np.where(b.real == 0, 1.0, 0.0), result)


COMPLEX = {
    "COPY": lambda a: a, "NEGATIVE": lambda a: -a, "ABS": lambda a: _where(a.real >= 0, a, -a),
    "EXP": np.exp, "LN": np.log, "SQRT": np.sqrt, "INTEGER": lambda a: np.trunc(a.real).astype(complex),
    "NOT": lambda a: (a.real == 0).astype(complex), "SIN": np.sin, "COS": np.cos, "TAN": np.tan,
    "ARCSIN": np.arcsin, "ARCCOS": np.arccos, "ARCTAN": np.arctan, "SINH": np.sinh, "COSH": np.cosh, "TANH": np.tanh,
    "ADD": np.add, "SUBTRACT": np.subtract, "MULTIPLY": np.multiply, "DIVIDE": np.divide, "POWER": _power,
    "MODULO": lambda a, b: a - np.trunc(a.real / b.real) * b,
    "MIN": lambda a, b: _where(a.real < b.real, a, b), "MAX": lambda a, b: _where(a.real > b.real, a, b),
    "LESS": _compare(np.less), "LESS_EQUAL": _compare(np.less_equal), "GREATER": _compare(np.greater),
    "GREATER_EQUAL": _compare(np.greater_equal), "EQUAL": _compare(np.equal), "NOT_EQUAL": _compare(np.not_equal),
    "AND": _compare(np.logical_and), "OR": _compare(np.logical_or),
    "IF_THEN_ELSE": lambda c, a, b: _where(c.real != 0, a, b),
    "XIDZ": lambda a, b, x: _where(np.abs(b.real) < XIDZ_ZERO, x, a / np.where(np.abs(b.real) < XIDZ_ZERO, 1.0, b)),
}  # fmt: skip


class ComplexRun:
    """A program over complex registers, one lane for each column of parameters."""

    def __init__(self, program, grid, parameters):
        self.program, self.grid = program, grid
        lanes = parameters.shape[1]
        self.vector = np.zeros((program.n_vectors, lanes), dtype=complex)
        self.scalar = np.repeat(program.scalars[:, None], lanes, axis=1).astype(complex)
        self.vector[program.parameter_slots] = parameters
        start = [grid.start, grid.start, grid.start, grid.stop, grid.step, grid.save_every]
        self.scalar[: len(SCALARS)] = np.array(start)[:, None]
        self.execute("run", self.scalar)
        self.execute("member", self.vector)
        self.buffers = [
            [[self.vector[initial, lane]] * delay_steps(self.vector[time, lane].real, grid.step, grid.n_steps + 1)
             for lane in range(lanes)]
            for _, _, time, initial in program.delays.tolist()
        ]  # fmt: skip

    def pair(self, name, registers, slots):
        first, second, third_first, kinds = PAIRS[name]
        a, b, c = (
            (self.scalar if kind == "S" else registers)[slot] for kind, slot in zip(kinds, slots, strict=True)
        )
        inner = COMPLEX[first](a, b)
        return COMPLEX[second](c, inner) if third_first else COMPLEX[second](inner, c)

    def execute(self, segment, registers, first=True):
        for op, dst, a, b, c, count in self.program.segment(segment).tolist():
            name = NAMES[op]
            assert count == 1
            if name == "HOLD":
                if first:
                    registers[dst] = _where(registers[a].real != 0, registers[b], registers[dst])
            elif name == "FILL":
                registers[dst] = self.scalar[a]
            elif name == "TABLE":
                registers[dst] = self.table(registers[a], b)
            elif name in PAIRS:
                registers[dst] = self.pair(name, registers, (a, b, c))
            elif name.endswith("_VS"):
                registers[dst] = COMPLEX[name[:-3]](registers[a], self.scalar[b])
            elif name.endswith("_SV"):
                registers[dst] = COMPLEX[name[:-3]](self.scalar[a], registers[b])
            else:
                function = COMPLEX[name]
                n = function.nin if isinstance(function, np.ufunc) else function.__code__.co_argcount
                registers[dst] = function(*(registers[slot] for slot in (a, b, c)[:n]))

    def table(self, x, index):
        tables = self.program.tables
        points = tables.points[tables.offsets[index] : tables.offsets[index + 1]]
        result = points[0, 1] + (x - points[0, 0]) * tables.below[index]
        for xk, yk, slope in points:
            result = np.where(x.real >= xk, yk + (x - xk) * slope, result)
        return result

    def stage(self, k, offset):
        self.scalar[0] = self.grid.start + (k + offset) * self.grid.step
        self.scalar[1] = self.grid.start + k * self.grid.step
        self.execute("time", self.scalar)
        self.execute("lane", self.vector, first=offset == 0)
        return self.vector[self.program.flow_slots]

    def trajectory(self, method):
        program, grid, saved = self.program, self.grid, set(self.grid.save_steps().tolist())
        out = []
        for k in range(grid.n_steps + 1):
            for (output, *_), lanes in zip(program.delays.tolist(), self.buffers, strict=True):
                self.vector[output] = [buffer[k % len(buffer)] for buffer in lanes]
            flows = self.stage(k, 0.0)
            for (_, source, *_), lanes in zip(program.delays.tolist(), self.buffers, strict=True):
                for lane, buffer in enumerate(lanes):
                    buffer[k % len(buffer)] = self.vector[source, lane]
            if k in saved:
                self.execute("save", self.vector)
                slots = program.save_slots.tolist()
                out.append([(self.scalar if is_scalar else self.vector)[slot].copy() for is_scalar, slot in slots])
            before, total = self.vector[program.stock_slots], flows.copy()
            if method == "rk4":
                for offset, weight in ((0.5, 2.0), (0.5, 2.0), (1.0, 1.0)):
                    self.vector[program.stock_slots] = before + offset * grid.step * flows
                    flows = self.stage(k, offset)
                    total = total + weight * flows
                total = total / 6
            self.vector[program.stock_slots] = before + grid.step * total
            for slot, decides in program.non_negative.tolist():
                self.vector[slot] = _where(self.vector[decides].real < 0, 0.0, self.vector[slot])
        return np.array(out).transpose(1, 2, 0)  # (n_saves, n_lanes, n_times)


def complex_step(model, names, saves, method, grid):
    """Derivatives (n_saves, n_parameters, n_times) and the plain values (n_saves, n_times)."""
    base = np.array([model.constants[name] for name in names], dtype=complex)
    program = compile_model(model, varied=names, saves=saves)
    lanes = np.repeat(base[:, None], len(names), axis=1) + 1j * H * np.eye(len(names))
    with np.errstate(all="ignore"):
        found = ComplexRun(program, grid, lanes).trajectory(method)
    return found.imag / H, found[:, 0].real


def assert_equal_to_complex_steps(model, names, method, *, tolerance=1e-10, final_time=None):
    saves = [name for name, item in model.variables.items() if item.kind in (Kind.STOCK, Kind.AUXILIARY)]
    ds = vf.jacobian(model, names, save=saves, method=method, final_time=final_time)
    expected, values = complex_step(model, tuple(names), tuple(saves), method, time_grid(model, final_time=final_time))
    found = np.stack([ds[name].values[0] for name in saves])
    parameter = np.array([abs(model.constants[name]) or 1.0 for name in names])
    rounding = 1e-12 * np.abs(values).max(axis=1)[:, None] / parameter  # what is left of a derivative that cancels
    allowed = tolerance * np.abs(expected).max(axis=2) + rounding
    excess = np.abs(found - expected) - allowed[:, :, None]
    worst = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[worst] <= 0, (saves[worst[0]], names[worst[1]], worst[2], found[worst], expected[worst])


def constants(model):
    return [name for name in model.constants if name not in model.structural]


@pytest.fixture(scope="module", params=sorted(MODELS))
def shipped(request):
    return vf.read_model(MODELS[request.param])


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    path = tmp_path_factory.mktemp("derivatives") / "everything.mdl"
    path.write_text(EVERYTHING)
    return vf.read_model(path)


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_shipped_models_equal_complex_steps(shipped, method):
    """By Euler's method to the end; by Runge-Kutta's, for the sake of time, over the first quarter."""
    grid = time_grid(shipped)
    final_time = grid.start + (grid.stop - grid.start) / 4 if method == "rk4" else None
    assert_equal_to_complex_steps(shipped, constants(shipped), method, tolerance=1e-9, final_time=final_time)


def sixth_order(model, name, save, method, step):
    """Central differences at three step lengths, extrapolated twice: (n_saves, n_times)."""
    value = model.constants[name]
    reach = step * (abs(value) or 1.0) * np.array([1.0, 0.5, 0.25])
    ds = vf.simulate(model, {name: [*(value + reach), *(value - reach)]}, save=save, method=method)
    values = np.stack([ds[variable].values for variable in save])
    coarse, middle, fine = np.moveaxis((values[:, :3] - values[:, 3:]) / (2 * reach[:, None]), 1, 0)
    return (64 * fine - 20 * middle + coarse) / 45


@pytest.mark.parametrize("method", ["euler", "rk4"])
@pytest.mark.parametrize("source", ["village", "national_diffusion"])
def test_differences_of_high_order_agree_to_seven_digits(source, method):
    model = vf.read_model(MODELS[source])
    save = ["stores", "profit_per_store", "residents"] if source == "village" else ["rural_users", "sellers"]
    names = [name for name in constants(model) if not name.startswith("switch_")]  # which limits keep at 0 or 1
    ds = vf.jacobian(model, names, save=save, method=method)
    names = [name for name in names if ds["flag"].sel(parameter=name) == "smooth"]
    assert len(names) >= 20
    for name in names:
        found = np.stack([ds[variable].sel(parameter=name).values[0] for variable in save])
        scale = np.abs(found).max(axis=1, keepdims=True) + 1e-300
        errors = [np.abs(sixth_order(model, name, save, method, step) - found) / scale for step in (1e-2, 1e-3, 1e-4)]
        assert min(error.max() for error in errors) < 1e-7, name  # the best step: a longer one may meet a kink


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_every_construct_equals_complex_steps(everything, method):
    assert_equal_to_complex_steps(everything, constants(everything), method)


def _corpus():
    files = CORPUS.glob("*/*/*") if CORPUS.is_dir() else ()
    return sorted(str(path.relative_to(CORPUS)) for path in files if path.suffix == ".mdl")


def _operations(model):
    saves = [name for name, item in model.variables.items() if item.kind in (Kind.STOCK, Kind.AUXILIARY)]
    return compile_model(model, varied=constants(model), saves=saves).code[:, 0].tolist()


@pytest.mark.conformance
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the model corpus is not beside the project, at {CORPUS}")
def test_corpus_equals_complex_steps():
    """All but allocation and random functions, which have tests of their own."""
    compared = 0
    for file in _corpus():
        if file in UNDEFINED:
            continue
        try:
            model = vf.read_model(CORPUS / file)
            vf.simulate(model)
        except VillageflowError:
            continue  # not supported; which ones are is told by the conformance tests
        if len(model.variables) > 100:
            continue  # for the sake of time
        names = constants(model)[:3]
        functions = {NAMES[op].removesuffix("_VS").removesuffix("_SV") for op in _operations(model)}
        if names and (model.stocks or model.auxiliaries) and functions <= {*COMPLEX, "TABLE", "FILL", "HOLD"}:
            assert_equal_to_complex_steps(model, names, model.method, tolerance=1e-8)
            compared += 1
    assert compared > 60
