"""The adaptive kernel against its slow twin, bit for bit, and against itself however a run is cut up."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from villageflow.errors import ProgramError, UnsupportedError
from villageflow.integrate import adaptive
from villageflow.integrate.adaptive import run_adaptive
from villageflow.integrate.drive import RunSettings, each_block
from villageflow.integrate.kernel import available_isas
from villageflow.ir.functions import COMPOSED, ELEMENTARY
from villageflow.ir.nodes import Call, Extrapolation, Integral, Interpolation, Num, Ref, Stateful, Table, TableCall
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.lower import lower
from villageflow.program import adaptive_reference
from villageflow.program.adaptive_reference import run_adaptive_reference
from villageflow.program.dormand_prince import CONTROLLER, NODES, WEIGHTS, Outcome
from villageflow.program.emit import compile_model
from villageflow.timegrid import TimeGrid

TIME, A, B, C, X, Y = (Ref(name) for name in ("time", "a", "b", "c", "x", "y"))
CONTROLS = {
    "initial_time": Num(0.0), "final_time": Num(8.0), "time_step": Num(1.0), "saveper": Ref("time_step")
}


def model_of(**definitions):
    """A model from expressions, without a file."""
    variables = tuple(
        SourceVariable(name, name, definition) for name, definition in (definitions | CONTROLS).items()
    )
    return lower(SourceModel(Path("made.mdl"), "", "euler", variables))


def call(function, *arguments):
    return Call(function, tuple(Num(float(x)) if isinstance(x, (int, float)) else x for x in arguments))


def season(points, argument, interpolation=Interpolation.LINEAR):
    x, y = zip(*points, strict=True)
    return TableCall(Table(x, y, Extrapolation.CLAMP, interpolation), argument)


POINTS = ((0.0, 1.0), (1.3, 4.0), (2.9, -2.0), (6.1, 0.5))
JUMPS = ((0.5, 1.0), (2.2, 1.0), (2.2, 5.0), (4.4, 5.0), (4.4, 0.0), (7.0, 3.0))
MANY = tuple((0.37 * k, float(k % 5)) for k in range(20))
FLOWS = {
    "step": call("multiply", call("step", 3, A), X),
    "pulse": call("pulse", A, call("abs", B)),
    "train": call("pulse_train", A, call("add", 0.6, call("abs", B)), 0.25, 7),
    "ramp": call("subtract", call("ramp", B, A, call("add", A, 2)), Y),
    "switch": call("if_then_else", call("less", call("multiply", B, TIME), A), X, call("negative", X)),
    "kinks": call("min", call("max", call("subtract", TIME, A), B), call("abs", call("subtract", A, TIME))),
    "integer": call("integer", call("multiply", TIME, B)),
    "modulo": call("modulo", call("subtract", TIME, A), call("add", 0.4, call("abs", B))),
    "season": season(POINTS, call("modulo", call("multiply", TIME, B), 6)),
    "table": season(POINTS, call("subtract", A, call("multiply", TIME, B))),
    "jumps": season(JUMPS, call("subtract", TIME, A)),
    "hold": season(POINTS, call("subtract", TIME, A), Interpolation.HOLD_BACKWARD),
    "forward": season(POINTS, call("subtract", TIME, A), Interpolation.LOOK_FORWARD),
    "long": season(MANY, TIME),
    "stiff": call("multiply", call("exp", call("multiply", C, 3)), call("subtract", call("sin", TIME), X)),
    "nothing": Num(0.0),
    "blow up": call("multiply", C, call("power", X, call("add", 1, B))),
    "division": call("divide", 1, call("subtract", TIME, A)),
}
MODELS = {
    name: model_of(
        a=Num(1.0), b=Num(0.5), c=Num(-1.0), x=Integral(call("add", flow, call("multiply", C, X)), A),
        y=Integral(call("subtract", call("sin", call("multiply", TIME, B)), Y), B), seen=call("add", flow, Y),
    )
    for name, flow in FLOWS.items()
}
VARIED = ("a", "b", "c")
SAVES = ("x", "y", "seen", "a")
GRID = TimeGrid(0.0, 8.0, 1.0, 2.0)
LATE = TimeGrid(1985.3, 1993.0, 0.1, 0.3)
MEMBERS = np.array([
    [1.0, 0.3, 2.0, -4.0, 5.0, 1990.0, 2.2000000000000002, 0.0, np.nan, 6.5, -0.0],
    [0.5, -1.3, 0.0, 2.0, 1.0, 0.25, 1.0, np.inf, 1.0, 0.7, 3.1],
    [-1.0, 0.3, -30.0, 1.5, 4.0, -2.0, 0.0, -1.0, 1.0, -1e4, -0.5],
])


@contextmanager
def few_attempts(most):
    """Kernel and twin give up early, so that stiff members are not slow."""
    short = CONTROLLER.copy()
    short[-1] = most
    with (
        mock.patch.object(adaptive, "CONTROLLER", short),
        mock.patch.dict(adaptive_reference._C, most_attempts=most),
    ):
        yield


def equal_to_twin(program, grid, parameters, tolerance=(1e-5, 1e-7), most_attempts=300.0, **how):
    """Run the kernel and the twin; compare every bit."""
    with few_attempts(most_attempts):
        found = run_adaptive(
            program, grid, parameters, settings=RunSettings("dopri5", tolerance=tolerance, **how)
        )
        for member in range(parameters.shape[1]):
            one = dict(zip(program.parameters, parameters[:, member].tolist(), strict=True))
            values, outcome, stopped = run_adaptive_reference(program, grid, one, tolerance)
            assert found.values[:, :, member].tobytes() == values.tobytes(), one
            assert (found.outcome[member], repr(float(found.stopped[member]))) == (outcome, repr(stopped)), one
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("grid", [GRID, LATE], ids=["coarse", "late"])
def test_kernel_equals_twin(name, grid):
    program = compile_model(MODELS[name], varied=VARIED, saves=SAVES, adaptive=True)
    equal_to_twin(program, grid, MEMBERS)


def test_every_outcome_occurs():
    """Also a value that is not finite where it is saved, though no stock minds."""
    model = model_of(
        a=Num(1.0), b=Num(1.0), c=Num(-1.0), x=Integral(FLOWS["stiff"], A),
        y=Integral(call("multiply", C, call("power", Y, 2)), B),
        seen=call("divide", 1, call("subtract", TIME, B)),
    )
    program = compile_model(model, varied=VARIED, saves=SAVES, adaptive=True)
    members = np.array([[1, 1, 1, -1, 1], [0.5, 2, 1, np.nan, 0], [-1, -1, 1, -1, 4]], dtype=float)
    found = equal_to_twin(program, GRID, members)
    assert [Outcome(number).name for number in found.outcome] == [
        "FINISHED", "SAVED_NOT_FINITE", "STEP_UNDERFLOW", "NOT_FINITE", "TOO_MANY_STEPS"
    ]
    assert np.isnan(found.stopped[:2]).all() and np.isfinite(found.stopped[2:]).all()


@pytest.mark.parametrize("name", ["step", "train", "season", "stiff"])
def test_blocks_threads_and_instruction_sets_move_no_bit(name):
    program = compile_model(MODELS[name], varied=VARIED, saves=SAVES, adaptive=True)
    members = np.tile(MEMBERS, 5)
    with few_attempts(500.0):
        found = {
            run_adaptive(
                program, GRID, members, settings=RunSettings("dopri5", n_threads=threads, block=block, isa=isa)
            ).values.tobytes()
            for isa in available_isas()
            for threads, block in [(1, 128), (1, 1), (2, 7), (2, 16)]
        }
    assert len(found) == 1


@pytest.mark.parametrize("name", ["switch", "modulo", "season"])
def test_what_is_varied_moves_no_bit(name):
    model = MODELS[name]
    values = {"a": 1.0, "b": 0.5, "c": -1.0}
    found = set()
    for varied in [(), ("a",), ("b", "c"), VARIED]:
        program = compile_model(model, varied=varied, saves=("x", "seen"), adaptive=True)
        table = np.array([[values[name]] for name in varied]).reshape(len(varied), 1)
        found.add(run_adaptive(program, GRID, table, settings=RunSettings("dopri5")).values.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("function", sorted(ELEMENTARY | COMPOSED))
def test_every_function_runs_or_is_refused(function):
    """Whatever an equation may call: of time, of parameters and of stocks."""
    arity = (ELEMENTARY | COMPOSED)[function]
    for argument in (A, TIME, X, Num(1.0)):
        expr = Call(function, tuple([argument] * arity))
        try:
            model = model_of(a=Num(1.0), b=Num(1.0), c=Num(1.0), x=Integral(A, B), y=Integral(expr, C), seen=expr)
            program = compile_model(model, varied=VARIED, saves=SAVES, adaptive=True)
        except UnsupportedError as error:
            assert "'seen'" in str(error) or "'y'" in str(error)
        else:
            equal_to_twin(program, GRID, MEMBERS[:, :3], most_attempts=20.0)


# ---------------------------------------------------------------------------------------- random models

SPECIAL = [0.0, -0.0, 1.0, 2.0, 0.5, -3.7, 1e-7, 5e-324, 1e300, 1e9, np.inf, np.nan]
numbers = st.one_of(st.sampled_from(SPECIAL), st.floats(-9, 9))
DECLARED = {"step": 2, "ramp": 3, "ramp_unending": 2, "pulse": 2, "pulse_train": 4, "zidz": 2, "safediv": 3}
FUNCTIONS = {
    name: arity for name, arity in (ELEMENTARY | DECLARED).items() if name not in ("equal", "not_equal")
}


def expressions(names):
    leaves = st.one_of(
        st.builds(Num, numbers), st.just(TIME), st.sampled_from([Ref(name) for name in names])
    )

    def combine(inner):
        return st.one_of(
            st.sampled_from(sorted(FUNCTIONS)).flatmap(
                lambda name: st.builds(Call, st.just(name), st.tuples(*[inner] * FUNCTIONS[name]))
            ),
            st.builds(
                lambda points, how, x: season(points, x, how),
                st.sampled_from([POINTS, JUMPS, MANY]), st.sampled_from(Interpolation), inner,
            ),
        )

    return st.recursive(leaves, combine, max_leaves=7)


@st.composite
def models(draw):
    definitions = {"a": Num(1.0), "b": Num(2.0), "c": Num(3.0)}
    for name in ("u", "v"):
        definitions[name] = draw(expressions(["a", "b", "x", *(["u"] if name == "v" else [])]))
    definitions["x"] = Integral(draw(expressions(["a", "c", "u", "v", "x", "y"])), A)
    definitions["y"] = Integral(call("subtract", Ref("u"), Y), B)
    return model_of(**definitions)


@settings(max_examples=120)
@given(
    model=models(), varied=st.sets(st.sampled_from(VARIED)), grid=st.sampled_from([GRID, LATE]),
    columns=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=6),
    block=st.sampled_from([1, 3, 128]), isa=st.sampled_from(available_isas()),
)
def test_kernel_equals_twin_on_random_models(model, varied, grid, columns, block, isa):
    varied = tuple(sorted(varied))
    try:
        program = compile_model(model, varied=varied, saves=("x", "y", "u", "v"), adaptive=True)
    except UnsupportedError:
        assume(False)
    table = np.array([[dict(zip(VARIED, column, strict=True))[name] for column in columns] for name in varied])
    table = table.reshape(len(varied), len(columns))
    equal_to_twin(program, grid, table, (1e-3, 1e-3), most_attempts=12.0, block=block, isa=isa)


# --------------------------------------------------------------------------------------------- the pieces


def test_the_pair_meets_the_conditions_of_its_orders():
    """Sums over the tableau that a method of order five, and its companion of order four, must give."""
    a, b, c = WEIGHTS[:7], WEIGHTS[6], NODES
    assert a.sum(axis=1) == pytest.approx(c, rel=1e-14)
    other = b - WEIGHTS[7]
    for weights, order in ((b, 5), (other, 4)):
        for power in range(order):
            assert weights @ c**power == pytest.approx(1 / (power + 1), rel=1e-13)
        assert weights @ (a @ c) == pytest.approx(1 / 6, rel=1e-13)
        assert weights @ (a @ c**2) == pytest.approx(1 / 12, rel=1e-13)
        assert weights @ (a @ (a @ c)) == pytest.approx(1 / 24, rel=1e-13)
        assert weights @ (c * (a @ c)) == pytest.approx(1 / 8, rel=1e-13)
    assert b @ (a @ (a @ (a @ c))) == pytest.approx(1 / 120, rel=1e-12)
    assert b @ (a @ c) ** 2 == pytest.approx(1 / 20, rel=1e-12)
    assert other @ c**4 != pytest.approx(1 / 5, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": 10_000}, "the clocks are in registers"),
        ({"time": 0}, "the clocks are in registers"),
        ({"events": np.array([[0, 0, -1, -1]], dtype=np.int32)}, "malformed"),
        ({"events": np.array([[99, 0, 0, -1]], dtype=np.int32)}, "malformed"),
        ({"events": np.array([[-1, -1, -1, -1]], dtype=np.int32)}, "malformed"),
        ({"events": np.array([[-1, 10_000, -1, -1]], dtype=np.int32)}, "an event reads register"),
    ],
)
def test_a_malformed_clock_is_refused(change, message):
    program = compile_model(MODELS["table"], varied=VARIED, saves=SAVES, adaptive=True)
    with pytest.raises(ProgramError, match=message):
        replace(program, clock=replace(program.clock, **change))


def test_stocks_that_a_step_keeps_from_falling_below_zero_are_refused():
    model = model_of(x=Integral(Num(-1.0), Num(1.0), non_negative=True))
    with pytest.raises(UnsupportedError, match="'x' uses a stock that each step keeps from falling below zero"):
        compile_model(model, saves=("x",), adaptive=True)


def test_raw_data_over_time_are_refused():
    model = model_of(x=season(POINTS, TIME, Interpolation.RAW))
    with pytest.raises(UnsupportedError, match="'x' uses raw data"):
        compile_model(model, saves=("x",), adaptive=True)


def test_a_clock_and_a_delay_exclude_each_other():
    delayed = Stateful("delay_fixed", (TIME, Num(2.0), Num(0.0)))
    program = compile_model(model_of(a=Num(1.0), b=delayed), saves=("b",))
    clock = compile_model(MODELS["step"], saves=("x",), adaptive=True).clock
    with pytest.raises(ProgramError):
        replace(program, clock=clock)


def test_the_digest_tells_events_apart():
    program = compile_model(MODELS["step"], varied=VARIED, saves=SAVES, adaptive=True)
    fixed = compile_model(MODELS["step"], varied=VARIED, saves=SAVES)
    bare = replace(program, clock=replace(program.clock, events=program.clock.events[:0]))
    assert len({program.digest, fixed.digest, bare.digest}) == 3


def test_progress_counts_every_member():
    seen = []
    each_block(lambda start: 3, 9, RunSettings("dopri5", block=3, progress=lambda *done: seen.append(done)))
    assert seen == [(3, 9), (6, 9), (9, 9)]
