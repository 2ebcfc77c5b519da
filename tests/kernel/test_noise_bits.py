"""Random numbers: one for each use, whoever else runs and however the run is cut up."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas
from villageflow.ir.functions import RANDOM
from villageflow.ir.nodes import Call, Integral, Num, Ref, Stateful
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.lower import lower
from villageflow.program.emit import compile_model
from villageflow.program.noise import Noise
from villageflow.program.opcodes import NAMES
from villageflow.program.reference import run_reference
from villageflow.timegrid import TimeGrid

CONTROLS = {"initial_time": Num(0.0), "final_time": Num(3.0), "time_step": Num(0.25), "saveper": Num(0.25)}
GRID = TimeGrid(0.0, 3.0, 0.25, 0.25)
METHODS = pytest.mark.parametrize("method", ["euler", "rk4"])


def model_of(name="made.mdl", **definitions):
    variables = tuple(SourceVariable(n, n, definition) for n, definition in (definitions | CONTROLS).items())
    return lower(SourceModel(Path(name), "", "euler", variables))


def call(function, *arguments):
    return Call(function, tuple(Num(float(a)) if isinstance(a, (int, float)) else Ref(a) for a in arguments))


# Every random function, with arguments that are literals, differ between members, or move.
CALLS = {
    "random_0_1": call("random_0_1"),
    "random_uniform": call("random_uniform", "p", "s", 1),
    "random_normal": call("random_normal", -3, "s", "p", "q", "seed"),
    "random_exponential": call("random_exponential", 0.1, "s", 0, "q", 2),
    "random_triangular": call("random_triangular", 0, "s", -1, "q", 9, 2),
    "random_beta": call("random_beta", 0.1, 2.5, "q", "s", 0, 3, 2),
    "random_weibull": call("random_weibull", 0.1, 9, "q", 0, "s", 2),
    "random_poisson": call("random_poisson", 1, 40, "s", 0, 1, "time"),
    "random_binomial": call("random_binomial", 1, 40, "fraction", 20, 0, 1, 0),
    "random_negative_binomial": call("random_negative_binomial", 0, 90, "fraction", 4, 0, 1, 0),
    "random_pink_noise": call("random_pink_noise", "p", "q", 2, 0),
    "random": call("random", 1, "s"),
    "uniform": call("uniform", 1, "s", 4),
    "normal": call("normal", "p", "q"),
    "exprnd": call("exprnd", "s", 2, 0.5),
    "lognormal": call("lognormal", "p", "q", 3),
    "beta": call("beta", "q", 2),
    "gamma": call("gamma", "s", "q"),
    "binomial": call("binomial", 20, "fraction", 3),
    "montecarlo": call("montecarlo", "s"),
}
STATES = {
    "p": Num(1.0),
    "q": Num(2.0),
    "fraction": Num(0.3),
    "seed": Num(5.0),
    "s": Integral(Call("multiply", (Num(0.4), Ref("s"))), Num(4.0)),
}
COLUMNS = {
    "p": np.linspace(0.1, 2.0, 60),
    "q": np.linspace(0.2, 4.0, 60),
    "fraction": np.linspace(0.0, 1.0, 60),
    "seed": np.arange(60.0) % 7,
}


def test_every_random_function_is_here():
    assert set(CALLS) == set(RANDOM)


@pytest.fixture(scope="module")
def model():
    return model_of(**STATES, **CALLS, moved=Integral(Ref("random_normal"), Ref("random_poisson")))


SAVES = (*CALLS, "moved")


def run(program, columns, method="euler", **settings):
    n_members = len(next(iter(columns.values()))) if columns else 1
    parameters = np.array([columns[name] for name in program.parameters], dtype=float)
    shaped = np.ascontiguousarray(parameters.reshape(len(program.parameters), n_members))
    return run_program(program, GRID, shaped, settings=RunSettings(method, **settings))[0]


@METHODS
def test_kernel_equals_reference(model, method):
    program = compile_model(model, varied=tuple(COLUMNS), saves=SAVES, given=("random", "exprnd"))
    n_steps = GRID.n_steps + 1
    given = {"random": np.linspace(0, 1, n_steps)[:, None], "exprnd": np.random.default_rng(1).random((n_steps, 60))}
    noise = Noise(seed=99, members=np.arange(60)[::-1] + 1000, given=given)
    values = run(program, COLUMNS, method, noise=noise)
    for member in range(0, 60, 5):
        one = {name: column[member] for name, column in COLUMNS.items()}
        expected = run_reference(program, GRID, one, method, noise=noise, member=member)
        for j, name in enumerate(SAVES):
            assert values[j, :, member].tobytes() == expected[j].tobytes(), (name, member)


@METHODS
def test_bits_do_not_depend_on_block_threads_or_build(model, method):
    program = compile_model(model, varied=tuple(COLUMNS), saves=SAVES)
    expected = run(program, COLUMNS, method, block=60)
    for block, n_threads in itertools.product((1, 7, 64), (1, 2)):
        assert run(program, COLUMNS, method, block=block, n_threads=n_threads).tobytes() == expected.tobytes()
    for isa in available_isas():
        assert run(program, COLUMNS, method, isa=isa).tobytes() == expected.tobytes(), isa


def test_member_keeps_its_numbers_in_any_company(model):
    program = compile_model(model, varied=tuple(COLUMNS), saves=SAVES)
    expected = run(program, COLUMNS)
    first = run(program, {name: column[:9] for name, column in COLUMNS.items()})
    assert first.tobytes() == np.ascontiguousarray(expected[:, :, :9]).tobytes()
    some = np.random.default_rng(2).permutation(60)[:20]
    again = run(program, {name: column[some] for name, column in COLUMNS.items()}, noise=Noise(members=some))
    assert again.tobytes() == np.ascontiguousarray(expected[:, :, some]).tobytes()
    assert Noise(members=some).of(np.array([3, 1])).members.tolist() == some[[3, 1]].tolist()


def test_what_is_varied_or_saved_moves_no_bit(model):
    expected = run(compile_model(model, saves=SAVES), {})
    for varied in [*itertools.combinations(COLUMNS, 1), tuple(COLUMNS)]:
        columns = {name: [model.constants[name]] for name in varied}
        values = run(compile_model(model, varied=varied, saves=SAVES), columns)
        assert values.tobytes() == expected.tobytes(), varied
    for j, name in enumerate(SAVES):
        assert run(compile_model(model, saves=(name,)), {})[0].tobytes() == expected[j].tobytes(), name


def test_numbers_are_the_same_in_every_stage_of_a_step():
    """With RK4 the integral of a number that is drawn once a step is that of Euler's method."""
    model = model_of(noise=call("random_0_1"), total=Integral(Ref("noise"), Num(0.0)))
    program = compile_model(model, saves=("total", "noise"))
    euler, rk4 = (run(program, {}, method)[:, :, 0] for method in ("euler", "rk4"))
    assert (euler[1] == rk4[1]).all()
    np.testing.assert_allclose(rk4[0], euler[0], rtol=1e-14)
    np.testing.assert_allclose(np.diff(euler[0]), 0.25 * euler[1, :-1], rtol=1e-14)


def test_two_calls_are_two_numbers_and_one_variable_is_one():
    model = model_of(
        noise=call("random_0_1"),
        same=Call("subtract", (Ref("noise"), Ref("noise"))),
        two=Call("subtract", (call("random_0_1"), call("random_0_1"))),
        held=Stateful("sample_if_true", (Num(1.0), Ref("noise"), Num(0.0))),
        other=call("random_0_1"),
    )
    program = compile_model(model, saves=("noise", "same", "two", "held", "other"))
    assert program.streams == ("noise 1", "two 1", "two 2", "other 1")
    assert program.random_variables == ("noise", "two", "other")
    noise, same, two, held, other = run(program, {})[:, :, 0]
    assert (same == 0).all()
    assert (two != 0).all()
    assert (held == noise).all()
    assert (other != noise).all()
    assert len(np.unique(noise)) == GRID.n_steps + 1


def test_start_has_the_number_of_step_0_and_keeps_it():
    model = model_of(
        noise=call("random_0_1"),
        first=Call("initial", (Ref("noise"),)),
        own=Call("initial", (call("random_0_1"),)),
        stock=Integral(Num(0.0), Ref("noise")),
        inside=Integral(Num(0.0), call("random_0_1")),
    )
    noise, first, own, stock, inside = run(
        compile_model(model, saves=("noise", "first", "own", "stock", "inside")), {}
    )[:, :, 0]
    assert (first == noise[0]).all()
    assert (stock == noise[0]).all()
    assert len({noise[0], own[0], inside[0]}) == 3


def test_numbers_do_not_depend_on_the_rest_of_the_model():
    alone = model_of(noise=call("random_normal", -9, 9, 0, 1, 0))
    among = model_of(
        before=call("random_normal", -9, 9, 0, 1, 0), noise=call("random_normal", -9, 9, 0, 1, 0), x=Ref("before")
    )
    one = run(compile_model(alone, saves=("noise",)), {})
    other = run(compile_model(among, saves=("x", "noise")), {})
    assert one[0].tobytes() == other[1].tobytes()


def test_seed_argument_is_a_part_of_the_stream():
    model = model_of(
        seed=Num(0.0),
        a=call("random_uniform", 0, 1, "seed"),
        b=call("random_uniform", 0, 1, 0),
        c=call("random_uniform", 0, 1, "time"),
    )
    program = compile_model(model, varied=("seed",), saves=("a", "b", "c"))
    seeds = np.array([0.0, 0.0, 1.0, 2.0, 2.5, 1e9, -0.0])
    values = run(program, {"seed": seeds}, noise=Noise(members=np.zeros(7, dtype=np.int64)))
    assert len(np.unique(values[0, 0])) == 5
    assert values[0, 0, 0] == values[0, 0, 1] == values[0, 0, 6]
    assert (values[1] == values[1][:, :1]).all()
    ill = run(program, {"seed": np.array([np.nan])})
    assert np.isnan(ill[0]).all()


def test_noise_seed_of_vensim_is_the_seed_of_calls_without_one():
    definitions = {"noise_seed": Num(3.0), "a": call("random_uniform", 0, 1, 0), "b": call("random_uniform", 0, 1, 5)}
    for name, moves in (("m.mdl", True), ("m.xmile", False)):
        program = compile_model(model_of(name, **definitions), varied=("noise_seed",), saves=("a", "b"))
        values = run(program, {"noise_seed": [1.0, 2.0]}, noise=Noise(members=np.array([0, 0])))
        assert (values[0, 0, 0] != values[0, 0, 1]) is np.bool_(moves)
        assert values[1, 0, 0] == values[1, 0, 1]


def test_only_what_is_saved_draws():
    model = model_of(noise=call("random_0_1"), calm=Ref("time"), loud=Ref("noise"))
    assert compile_model(model, saves=("calm",)).streams == ()
    assert compile_model(model, saves=("loud",)).streams == ("noise 1",)
    replaced = compile_model(model, saves=("loud",), given=("noise",))
    assert (replaced.streams, replaced.given) == ((), ("noise",))


def test_bounds_without_a_number_in_them_are_not_numbers(model):
    program = compile_model(model, varied=("p",), saves=("random_uniform", "random_normal"))
    assert np.isnan(run(program, {"p": [1e6]})[0]).all()


def test_calls_of_literals_are_folded_but_for_the_number():
    program = compile_model(model_of(n=call("random_normal", -3, 3, 0, 1, 0)), saves=("n",))
    names = [NAMES[op] for op in program.code[:, 0]]
    assert names.count("NORMAL_QUANTILE") == names.count("UNIFORM") == 1
    assert "NORMAL_PROBABILITY" not in names
    assert len(names) < 14
