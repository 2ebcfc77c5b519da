"""The kernel against its slow twin, bit for bit, and against itself however a run is cut up."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import villageflow as vf
from villageflow.errors import VillageflowError
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas, engine_info, kernel, selected_isa
from villageflow.ir.functions import COMPOSED, ELEMENTARY
from villageflow.ir.nodes import (
    Call,
    Expr,
    Extrapolation,
    Integral,
    Interpolation,
    Num,
    Ref,
    Stateful,
    Table,
    TableCall,
)
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.lower import lower
from villageflow.program import emit, opcodes
from villageflow.program.emit import compile_model
from villageflow.program.opcodes import NAMES
from villageflow.program.reference import run_reference
from villageflow.timegrid import TimeGrid

INF, NAN = math.inf, math.nan
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    2.0,
    3.0,
    1e-7,
    5e-324,
    -2.2e-308,
    1e300,
    -1.7e308,
    745.5,
    INF,
    -INF,
    NAN,
]
CONTROLS = {
    "initial_time": Num(0.0),
    "final_time": Num(2.0),
    "time_step": Num(1.0),
    "saveper": Ref("time_step"),
}
GRID = TimeGrid(0.0, 2.0, 1.0, 1.0)


def model_of(**definitions):
    """A model from expressions, without a file."""
    variables = tuple(
        SourceVariable(name, name, definition) for name, definition in (definitions | CONTROLS).items()
    )
    return lower(SourceModel(Path("made.mdl"), "", "euler", variables))


def run(program, columns, grid=GRID, method="euler", **settings):
    parameters = np.array([columns[name] for name in program.parameters], dtype=float)
    n_members = len(next(iter(columns.values()))) if columns else 1
    values, healthy = run_program(
        program,
        grid,
        parameters.reshape(len(program.parameters), n_members),
        settings=RunSettings(method, **settings),
    )
    return values, healthy


def assert_equals_reference(program, columns, grid=GRID, method="euler"):
    values, _ = run(program, columns, grid, method)
    for member in range(values.shape[2]):
        one = {name: column[member] for name, column in columns.items()}
        expected = run_reference(program, grid, one, method)
        if values[:, :, member].tobytes() != expected.tobytes():
            where = np.argwhere(values[:, :, member].view(np.uint64) != expected.view(np.uint64))[0]
            name = program.saves[where[0]]
            raise AssertionError(
                f"{name}: kernel {values[where[0], where[1], member]!r}, twin {expected[tuple(where)]!r}, {one}"
            )


# --------------------------------------------------------------- every operation, every kind of operand

P, Q, R = Ref("p"), Ref("q"), Ref("r")  # members
S, T = Ref("s"), Ref("t")  # stocks
CLOCK, STEP = Ref("time"), Ref("time_step")
STATES = {
    "p": Num(1.0),
    "q": Num(2.0),
    "r": Num(3.0),
    "s": Integral(Num(0.0), P),
    "t": Integral(Num(0.0), Q),
    "u": Integral(Num(0.0), R),
}
PAIRS = [
    (P, Q),
    (S, T),
    (S, P),
    (P, S),
    (P, CLOCK),
    (CLOCK, P),
    (S, CLOCK),
    (CLOCK, S),
    (CLOCK, CLOCK),
    (CLOCK, STEP),
    (S, STEP),
    (STEP, P),
    (P, P),
]
PAIRS += [(x, Num(c)) for x in (P, S, CLOCK, STEP) for c in SPECIAL]
PAIRS += [(Num(c), x) for x in (P, S, CLOCK, STEP) for c in SPECIAL]
TWO = [name for name, arity in ELEMENTARY.items() if arity == 2]
MEMBERS = np.array(list(itertools.product(SPECIAL, SPECIAL))).T


def calls(function: str) -> list[Expr]:
    match ELEMENTARY[function]:
        case 1:
            return [Call(function, (x,)) for x in (P, S, CLOCK, STEP)]
        case 2:
            return [Call(function, pair) for pair in PAIRS]
    leaves = (P, S, CLOCK, Num(0.0), Num(NAN), Num(2.0))
    return [Call(function, three) for three in itertools.product(leaves, leaves, (Q, T, CLOCK, Num(-0.0)))]


@pytest.mark.parametrize("function", sorted(ELEMENTARY))
def test_operation_over_special_values(function):
    model = model_of(**STATES, **{f"a{i}": expr for i, expr in enumerate(calls(function))})
    program = compile_model(
        model, varied=("p", "q", "r"), saves=tuple(f"a{i}" for i in range(len(calls(function))))
    )
    some = slice(None) if ELEMENTARY[function] == 1 else slice(None, None, 3)
    columns = {"p": MEMBERS[0, some], "q": MEMBERS[1, some], "r": np.ones_like(MEMBERS[0, some])}
    assert_equals_reference(program, columns, TimeGrid(0.0, 1.0, 1.0, 1.0))


def test_negative_zero_of_a_literal_is_kept():
    program = compile_model(model_of(**STATES, a=Call("divide", (P, Num(-0.0)))), varied=("p",), saves=("a",))
    assert run(program, {"p": [1.0]})[0][0, 0, 0] == -INF


def test_all_operations_are_emitted_by_these_tests():
    definitions = {
        f"{function}_{i}": expr for function in ELEMENTARY for i, expr in enumerate(calls(function))
    }
    definitions["held"] = Stateful("sample_if_true", (CLOCK, S, Num(1.0)))
    definitions["looked_up"] = TableCall(TABLES[0], S)
    definitions["priced"] = Call("allocation price", (S, P, Num(3.0), Q, R))
    definitions |= {"noise": Call("random_0_1", ()), "given": Call("random_0_1", ())}
    definitions["drawn"] = Call("random_normal", (P, Q, S, R, Num(0.0)))
    definitions["counted"] = Call("random_poisson", (P, Q, S, R, T, Num(0.0)))
    definitions["shaped"] = Call("random_beta", (P, Q, S, T, R, Num(1.0), Num(0.0)))
    definitions["priced"] = Call("allocation price", (T, P, Num(1.0), Q, R))
    model = model_of(**STATES, **definitions)
    program = compile_model(model, varied=("p", "q", "r"), saves=tuple(definitions), given=("given",))
    rolled = {"SUM", "GATHER"}  # test_strips.py has them
    assert set(NAMES) - {NAMES[code] for code in program.code[:, 0]} <= {*opcodes.PAIRS, *rolled}


def fused_calls() -> dict[str, Expr]:
    """For each pair an expression that is emitted as that pair and nothing else."""
    found = {}
    for i, (first, second, third_first, kinds) in enumerate(opcodes.PAIRS.values()):
        alone = Call("max", (S, Num(-1e308 + i * 1e300)))  # shared with no other expression
        a, b, c = (CLOCK if kind == "S" else value for kind, value in zip(kinds, (alone, T, P), strict=True))
        if kinds[0] == "S":
            b = alone
        inner = Call(first.lower(), (a, b))
        found[f"a{i}"] = Call(second.lower(), (c, inner) if third_first else (inner, c))
    return found


def test_every_pair_is_emitted_and_equals_the_twin_and_its_two_operations(monkeypatch):
    model = model_of(**STATES, **fused_calls())
    saves = tuple(fused_calls())
    program = compile_model(model, varied=("p", "q", "r"), saves=saves)
    assert set(opcodes.PAIRS) <= {NAMES[code] for code in program.code[:, 0]}
    columns = {"p": MEMBERS[0], "q": MEMBERS[1], "r": np.ones_like(MEMBERS[0])}
    assert_equals_reference(program, {name: column[::3] for name, column in columns.items()})
    monkeypatch.setattr(emit, "pairs", lambda strips, _: strips)
    emit._compiled.cache_clear()
    alone = compile_model(model, varied=("p", "q", "r"), saves=saves)
    emit._compiled.cache_clear()
    assert not set(opcodes.PAIRS) & {NAMES[code] for code in alone.code[:, 0]}
    for isa in available_isas():
        fused, plain = (run(one, columns, isa=isa)[0] for one in (program, alone))
        assert fused.tobytes() == plain.tobytes()


def test_a_value_that_is_read_twice_or_saved_is_not_fused():
    inner = Call("multiply", (S, P))
    model = model_of(
        **STATES, a=Call("add", (inner, Q)), b=Call("subtract", (inner, T)), c=Call("divide", (S, P)),
        d=Call("add", (Ref("c"), T)),
    )
    program = compile_model(model, varied=("p", "q"), saves=("a", "b", "c", "d"))
    assert not set(opcodes.PAIRS) & {NAMES[code] for code in program.code[:, 0]}


# ---------------------------------------------------------------------------------------------- tables


def table(n, extrapolation=Extrapolation.CLAMP, interpolation=Interpolation.LINEAR):
    rng = np.random.default_rng(n)
    x = np.sort(rng.normal(0, 10, n)).round(2)
    if n > 2:
        x[n // 2] = x[n // 2 - 1]  # a vertical step
    return Table(tuple(x.tolist()), tuple(rng.normal(0, 3, n).tolist()), extrapolation, interpolation)


TABLES = [
    table(n, extrapolation, interpolation)
    for n in (1, 2, 3, 15, 16, 17, 18, 33, 100)
    for extrapolation, interpolation in [
        (Extrapolation.CLAMP, Interpolation.LINEAR),
        (Extrapolation.EXTEND, Interpolation.LINEAR),
        (Extrapolation.CLAMP, Interpolation.LOOK_FORWARD),
        (Extrapolation.CLAMP, Interpolation.HOLD_BACKWARD),
    ]
]


def test_tables_at_around_and_beyond_their_points():
    saves = tuple(f"a{i}_{j}" for i in range(len(TABLES)) for j in range(3))
    definitions = {
        f"a{i}_{j}": TableCall(t, x) for i, t in enumerate(TABLES) for j, x in enumerate((P, S, CLOCK))
    }
    program = compile_model(model_of(**STATES, **definitions), varied=("p",), saves=saves)
    at = np.array(sorted({x for t in TABLES for x in t.x}))[::4]
    points = np.concatenate([SPECIAL, at, np.nextafter(at, INF), np.nextafter(at, -INF)])
    assert_equals_reference(program, {"p": points}, TimeGrid(0.0, 1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "made", TABLES, ids=lambda t: f"{len(t.x)} {t.extrapolation.value} {t.interpolation.value}"
)
def test_table_against_its_definition(made):
    program = compile_model(model_of(**STATES, a=TableCall(made, P)), varied=("p",), saves=("a",))
    x, y = np.array(made.x), np.array(made.y)
    at = np.concatenate([x, (x[1:] + x[:-1]) / 2, [x[0] - 5, x[-1] + 5]])
    values = run(program, {"p": at})[0][0, 0]
    for point, value in zip(at, values, strict=True):
        inside = np.clip(point, x[0], x[-1])
        if point < x[0] and x[:2].tolist() == [x[0], x[0]]:
            assert value == y[0]  # a vertical step at the first point has no slope to extend
            continue
        k = int(np.searchsorted(x, inside, side="right")) - 1  # at a vertical step the later point counts
        match made.interpolation:
            case Interpolation.HOLD_BACKWARD:
                expected = y[k]
            case Interpolation.LOOK_FORWARD:
                expected = y[min(int(np.searchsorted(x, inside, side="left")), len(y) - 1)]
            case _:
                extend = made.extrapolation is Extrapolation.EXTEND and len(x) > 1
                low = min(k, len(x) - 2) if extend else k
                slope = 0.0
                if low + 1 < len(x) and x[low + 1] > x[low]:
                    slope = (y[low + 1] - y[low]) / (x[low + 1] - x[low])
                expected = y[low] + ((point if extend else inside) - x[low]) * slope
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-12), point


# ------------------------------------------------------------------------------- one run, cut up anyhow


@pytest.fixture(scope="module")
def ensemble():
    """A model with every kind of memory, and 100 members of it, some of which fail."""
    model = model_of(
        rate=Num(0.3),
        capacity=Num(50.0),
        lag=Num(3.0),
        noise=Num(0.1),
        power=Num(2.0),
        start=Num(1.0),
        stock=Integral(Call("subtract", (Ref("growth"), Ref("loss"))), Ref("start")),
        other=Integral(Call("sin", (Call("multiply", (CLOCK, Ref("rate"))),)), Num(0.5)),
        growth=Call("multiply", (Ref("rate"), Call("multiply", (Ref("stock"), Ref("room"))))),
        room=Call(
            "subtract",
            (Num(1.0), Call("power", (Call("divide", (Ref("stock"), Ref("capacity"))), Ref("power")))),
        ),
        loss=Call("multiply", (Ref("noise"), Stateful("delay_fixed", (Ref("growth"), Ref("lag"), Num(0.0))))),
        held=Stateful("sample_if_true", (Call("greater", (Ref("other"), Num(1.0))), Ref("stock"), Num(-1.0))),
        smooth=Stateful("smooth", (Ref("stock"), Ref("lag"), Ref("stock"), Num(3.0))),
        looked=TableCall(TABLES[8], Ref("other")),
        event=Call("pulse_train", (Num(2.0), Num(1.0), Ref("lag"), Num(9.0))),
        first=Call("initial", (Ref("growth"),)),
        logs=Call("ln", (Ref("stock"),)),
        total=Call(
            "add", (Ref("held"), Call("add", (Ref("smooth"), Call("add", (Ref("looked"), Ref("event"))))))
        ),
    )
    rng = np.random.default_rng(7)
    columns = {
        "rate": rng.uniform(0.1, 2.5, 100),
        "capacity": rng.uniform(10, 90, 100),
        "lag": rng.uniform(0.5, 9, 100),
        "noise": rng.uniform(-1, 1, 100),
        "power": np.where(np.arange(100) % 3, 2.0, 1.7),
        "start": np.where(np.arange(100) % 10, 1.0, 1e200),
    }
    saves = ("stock", "other", "growth", "held", "smooth", "looked", "event", "first", "logs", "total")
    return model, columns, saves


LONG = TimeGrid(0.0, 12.0, 0.25, 1.1)
METHODS = pytest.mark.parametrize("method", ["euler", "rk4"])


def program_of(ensemble):
    model, columns, saves = ensemble
    return compile_model(model, varied=tuple(columns), saves=saves)


@METHODS
def test_kernel_equals_reference(ensemble, method):
    _, columns, _ = ensemble
    few = {name: column[:24] for name, column in columns.items()}
    assert_equals_reference(program_of(ensemble), few, LONG, method)


@METHODS
def test_bits_do_not_depend_on_block_or_threads(ensemble, method):
    _, columns, _ = ensemble
    program = program_of(ensemble)
    expected, healthy = run(program, columns, LONG, method, block=100, n_threads=1)
    assert 0 < healthy.sum() < 100
    for block, n_threads in itertools.product((1, 7, 64, 100, 1000), (1, 2)):
        values, same = run(program, columns, LONG, method, block=block, n_threads=n_threads)
        assert values.tobytes() == expected.tobytes(), (block, n_threads)
        assert same.tobytes() == healthy.tobytes()


@METHODS
def test_member_stands_alone(ensemble, method):
    _, columns, _ = ensemble
    program = program_of(ensemble)
    expected, healthy = run(program, columns, LONG, method)
    shuffled = np.random.default_rng(1).permutation(100)
    values, same = run(
        program, {name: column[shuffled] for name, column in columns.items()}, LONG, method, block=13
    )
    assert values.tobytes() == np.ascontiguousarray(expected[:, :, shuffled]).tobytes()
    assert (same == healthy[shuffled]).all()
    for member in (0, 10, 37, 99):
        alone, _ = run(program, {name: column[[member]] for name, column in columns.items()}, LONG, method)
        assert alone[:, :, 0].tobytes() == np.ascontiguousarray(expected[:, :, member]).tobytes()


@METHODS
def test_isas_give_the_same_bits(ensemble, method):
    _, columns, _ = ensemble
    program = program_of(ensemble)
    expected, _ = run(program, columns, LONG, method)
    for isa in available_isas():
        values, _ = run(program, columns, LONG, method, isa=isa)
        assert values.tobytes() == expected.tobytes(), isa


@pytest.mark.parametrize("function", sorted(ELEMENTARY))
def test_isas_agree_on_special_values(function):
    expressions = calls(function)
    saves = tuple(f"a{i}" for i in range(len(expressions)))
    model = model_of(**STATES, **dict(zip(saves, expressions, strict=True)))
    program = compile_model(model, varied=("p", "q", "r"), saves=saves)
    rng = np.random.default_rng(3)
    odd = np.exp(rng.uniform(-300, 300, 120)) * rng.choice([-1, 1], 120)
    columns = {
        "p": np.concatenate([MEMBERS[0], odd]),
        "q": np.concatenate([MEMBERS[1], odd[::-1]]),
        "r": np.ones(len(odd) + len(MEMBERS[0])),
    }
    results = [run(program, columns, isa=isa)[0].tobytes() for isa in available_isas()]
    assert len(set(results)) == 1


@METHODS
def test_set_of_varied_parameters_moves_no_bit(ensemble, method):
    model, columns, saves = ensemble
    for varied in [
        (),
        *itertools.combinations(columns, 1),
        *itertools.combinations(columns, 3),
        tuple(columns),
    ]:
        program = compile_model(model, varied=varied, saves=saves)
        values, _ = run(program, {name: [model.constants[name]] for name in varied}, LONG, method)
        if not varied:
            expected = values
        assert values.tobytes() == expected.tobytes(), varied


@pytest.mark.parametrize("function", sorted({**ELEMENTARY, **COMPOSED}.keys() - {"get_time_value"}))  # takes literals
def test_operand_that_varies_moves_no_bit(function):
    """A constant as a literal is folded, chosen or specialised; varied, it is computed. Both must agree."""
    arity = {**ELEMENTARY, **COMPOSED}[function]
    names = ("p", "q", "r", "w")[:arity]
    for values in itertools.product((0.0, -0.0, 1.0, 2.0, 0.7, -3.0, 1e-7), repeat=min(arity, 2)):
        constants = dict(zip(("p", "q", "r", "w"), (*values, *(1.5, 3.0, 0.3, 2.0))[:4], strict=False))
        model = model_of(
            **{name: Num(value) for name, value in constants.items()},
            s=Integral(Num(0.1), Num(1.3)),
            a=Call(function, tuple(map(Ref, names))),
            b=Call(function, tuple(map(Ref, ("s", *names)[:arity]))),
            c=Call(function, tuple(map(Ref, (*names[1:], "s")))) if arity else Call(function, ()),
        )
        results = []
        for varied in ((), *itertools.combinations(names, 1), names):
            program = compile_model(model, varied=varied, saves=("a", "b", "c"))
            results.append(run(program, {name: [constants[name]] for name in varied})[0].tobytes())
        assert len(set(results)) == 1, constants


@METHODS
def test_saved_variables_move_no_bit(ensemble, method):
    model, columns, saves = ensemble
    expected, _ = run(program_of(ensemble), columns, LONG, method)
    for save in [*((name,) for name in saves), saves[::-1], saves[3:6]]:
        values, _ = run(compile_model(model, varied=tuple(columns), saves=save), columns, LONG, method)
        for j, name in enumerate(save):
            assert values[j].tobytes() == expected[saves.index(name)].tobytes(), save


def test_delay_times_of_one_block_may_differ_widely():
    model = model_of(
        lag=Num(1.0),
        s=Integral(Num(1.0), Num(0.0)),
        a=Stateful("delay_fixed", (Ref("s"), Ref("lag"), Num(-1.0))),
    )
    program = compile_model(model, varied=("lag",), saves=("a",))
    lags = np.array(
        [
            0.0,
            1.0,
            1.4,
            1.4995,
            1.5 - 2e-6,
            1.5 - 5e-7,
            1.5,
            1.6,
            2.5,
            5.0,
            50.0,
            1e9,
            1e300,
            INF,
            -1.0,
            -INF,
            NAN,
            2.0,
        ]
    )
    for method, block in itertools.product(("euler", "rk4"), (1, 4, 100)):
        values, _ = run(program, {"lag": lags}, TimeGrid(0.0, 20.0, 1.0, 1.0), method, block=block)
        for member, lag in enumerate(lags):
            expected = run_reference(program, TimeGrid(0.0, 20.0, 1.0, 1.0), {"lag": lag}, method)
            assert values[:, :, member].tobytes() == expected.tobytes(), lag


def test_not_a_number_is_canonical_in_results():
    definitions = {
        "a": Call("divide", (P, P)),
        "b": Call("negative", (Call("sqrt", (P,)),)),
        "c": Call("subtract", (Q, Q)),
    }
    program = compile_model(model_of(**STATES, **definitions), varied=("p", "q"), saves=("a", "b", "c"))
    values, healthy = run(
        program,
        {"p": [0.0, -1.0, NAN], "q": [INF, -INF, np.array(0xFFF8000000000001, np.uint64).view(float)]},
    )
    bad = values[np.isnan(values)]
    assert len(bad) > 6
    assert {value.tobytes() for value in bad} == {np.float64(NAN).tobytes()}
    assert not healthy.any()


# ------------------------------------------------------------------------------------ choice of a build


def test_engine_info_names_the_build():
    info = engine_info()
    assert info["isa"] == selected_isa()
    assert set(info["available"]) == set(available_isas())


def test_unknown_build_is_refused(monkeypatch):
    monkeypatch.setenv("VILLAGEFLOW_ISA", "v9")
    with pytest.raises(VillageflowError, match="VILLAGEFLOW_ISA is 'v9'"):
        selected_isa()
    with pytest.raises(VillageflowError, match="_tape_v9"):
        kernel("v9")


def test_environment_chooses_the_build_and_moves_no_bit():
    code = (
        "import hashlib, villageflow as vf\n"
        "m = vf.library.read('village_cluster')\n"
        "ds = vf.simulate(m, vf.Design.lhs(vf.library.priors('village_cluster'), n=20, seed=1), errors='flag')\n"
        "h = hashlib.sha256()\n"
        "for name in sorted(ds.data_vars): h.update(ds[name].values.tobytes())\n"
        "print(vf.engine_info()['isa'], h.hexdigest())\n"
    )
    seen = []
    for isa in available_isas():
        environment = os.environ | {"VILLAGEFLOW_ISA": isa}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        seen.append(done.stdout.split())
    assert [isa for isa, _ in seen] == list(available_isas())
    assert len({digest for _, digest in seen}) == 1
    assert vf.engine_info()["isa"] in available_isas()
