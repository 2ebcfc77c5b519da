"""Random models: whatever the equations are, the kernel and its slow twin give the same bits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.kernel import available_isas
from villageflow.ir.functions import COMPOSED, ELEMENTARY, RANDOM
from villageflow.ir.nodes import (
    Call,
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
from villageflow.program.emit import compile_model, compile_tangents
from villageflow.program.influence import influences
from villageflow.program.reference import run_reference
from villageflow.program.tangent import tangent_name
from villageflow.timegrid import TimeGrid

SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    0.5,
    -3.7,
    1e-7,
    5e-324,
    2e-308,
    1e308,
    1e22,
    745.2,
    math.inf,
    -math.inf,
    math.nan,
]
PARAMETERS = ("p1", "p2", "p3")
STOCKS = ("s1", "s2")
AUXILIARIES = ("a1", "a2", "a3", "a4")

numbers = st.one_of(st.sampled_from(SPECIAL), st.floats(-50, 50), st.floats())
PARTICULAR = ("active_initial", "get_time_value")  # the latter takes literals
FUNCTIONS = {name: arity for name, arity in (ELEMENTARY | COMPOSED).items() if name not in PARTICULAR}
FUNCTIONS |= {name: most for name, (_, most) in RANDOM.items()}


@st.composite
def tables(draw):
    n = draw(st.sampled_from([1, 2, 3, 5, 16, 17, 40]))
    x = sorted(draw(st.lists(st.floats(-20, 20), min_size=n, max_size=n)))
    y = draw(st.lists(st.floats(-1e3, 1e3), min_size=n, max_size=n))
    interpolation = draw(st.sampled_from(Interpolation))
    extrapolation = draw(st.sampled_from(Extrapolation))
    if interpolation is not Interpolation.LINEAR:
        extrapolation = Extrapolation.CLAMP
    return Table(tuple(x), tuple(y), extrapolation, interpolation)


def _small(expr):
    """Counts of a large mean are many sums: bounded, so that an example takes no time."""
    return Call("min", (Call("max", (expr, Num(-30.0))), Num(30.0)))


def expressions(names):
    leaves = st.one_of(st.builds(Num, numbers), st.sampled_from([Ref(name) for name in names]))

    def combine(inner):
        def call(name):
            return st.builds(
                lambda arguments: Call(name, tuple(map(_small, arguments) if name in RANDOM else arguments)),
                st.lists(inner, min_size=FUNCTIONS[name], max_size=FUNCTIONS[name]),
            )

        return st.one_of(
            st.sampled_from(sorted(FUNCTIONS)).flatmap(call),
            st.builds(TableCall, tables(), inner),
            st.builds(lambda c, x, i: Stateful("sample_if_true", (c, x, i)), inner, inner, inner),
            st.builds(
                lambda x, d, i: Stateful("delay_fixed", (x, d, i)),
                inner,
                st.sampled_from([Ref("p1"), Num(2.0)]),
                inner,
            ),
            st.builds(lambda x, d: Stateful("smooth", (x, d, Num(1.0), Num(2.0))), inner, inner),
        )

    return st.recursive(leaves, combine, max_leaves=8)


@st.composite
def models(draw):
    """Auxiliaries use what comes before them, stocks start from parameters, flows use everything."""
    names = ["time", "time_step", *PARAMETERS, *STOCKS]
    definitions = {name: Num(float(i)) for i, name in enumerate(PARAMETERS)}
    for name in AUXILIARIES:
        definitions[name] = draw(expressions(tuple(names)))
        names.append(name)
    for name, start in zip(STOCKS, PARAMETERS, strict=False):
        definitions[name] = Integral(draw(expressions(tuple(names))), Ref(start))
    definitions |= {"initial_time": Num(draw(st.sampled_from([0.0, -3.0, 1985.25]))), "final_time": Num(1e6)}
    definitions |= {"time_step": Num(draw(st.sampled_from([1.0, 0.1, 0.3]))), "saveper": Ref("time_step")}
    variables = tuple(SourceVariable(name, name, definition) for name, definition in definitions.items())
    return lower(SourceModel(Path("random.mdl"), "", "euler", variables))


@settings(max_examples=120)
@given(
    model=models(),
    varied=st.sets(st.sampled_from(PARAMETERS)),
    columns=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=9),
    method=st.sampled_from(["euler", "rk4"]),
    block=st.sampled_from([1, 3, 128]),
    isa=st.sampled_from(available_isas()),
    save_every=st.sampled_from([1, 2.5]),
)
def test_kernel_equals_reference(model, varied, columns, method, block, isa, save_every):
    varied = tuple(sorted(varied))
    program = compile_model(model, varied=varied, saves=AUXILIARIES + STOCKS)
    start, step = _number(model, "initial_time"), _number(model, "time_step")
    grid = TimeGrid(start, start + 6 * step, step, save_every * step)
    members = [dict(zip(PARAMETERS, column, strict=True)) for column in columns]
    table = np.array([[member[name] for member in members] for name in varied]).reshape(
        len(varied), len(members)
    )
    values, healthy = run_program(program, grid, table, settings=RunSettings(method, block=block, isa=isa))
    for j, member in enumerate(members):
        expected = run_reference(program, grid, member, method, member=j)
        assert values[:, :, j].tobytes() == expected.tobytes()
        assert not healthy[j] or np.isfinite(expected).all()


def _number(model, name):
    expr = model.controls[name]
    return expr.value if isinstance(expr, Num) else -expr.arguments[0].value


@settings(max_examples=50)
@given(model=models(), values=st.tuples(numbers, numbers, numbers), method=st.sampled_from(["euler", "rk4"]))
def test_what_is_varied_and_what_is_saved_move_no_bit(model, values, method):
    """A constant given as a parameter at its own value is the same model as with the constant as a literal."""
    constants = dict(model.constants) | dict(zip(PARAMETERS, values, strict=True))
    model = type(model)(
        **{field: getattr(model, field) for field in model.__dataclass_fields__} | {"constants": constants}
    )
    start, step = _number(model, "initial_time"), _number(model, "time_step")
    grid = TimeGrid(start, start + 4 * step, step, step)
    results = {}
    for varied, saves in [
        ((), AUXILIARIES),
        (PARAMETERS, AUXILIARIES),
        (("p2",), AUXILIARIES),
        (("p1", "p3"), AUXILIARIES[::-1]),
    ]:
        program = compile_model(model, varied=varied, saves=saves)
        table = np.array([[constants[name]] for name in varied]).reshape(len(varied), 1)
        run, _ = run_program(program, grid, table, settings=RunSettings(method))
        for j, name in enumerate(saves):
            results.setdefault(name, set()).add(run[j].tobytes())
    assert all(len(bits) == 1 for bits in results.values())


@settings(max_examples=60)
@given(
    model=models(),
    moved=st.sets(st.sampled_from(PARAMETERS), min_size=1),
    values=st.tuples(numbers, numbers, numbers),
    seeds=st.tuples(*[st.floats(-2, 2)] * 3),
    method=st.sampled_from(["euler", "rk4"]),
    isa=st.sampled_from(available_isas()),
)
def test_differentiated_programs(model, moved, values, seeds, method, isa):
    """Values beside their tangents have the bits that they have alone; the slow twin agrees on both."""
    moved, saves = tuple(sorted(moved)), AUXILIARIES + STOCKS
    both = compile_tangents(
        model, varied=PARAMETERS, directions=moved, saves=(*saves, *map(tangent_name, saves))
    )
    start, step = _number(model, "initial_time"), _number(model, "time_step")
    grid = TimeGrid(start, start + 6 * step, step, step)
    lane = np.array([*values, *seeds[: len(moved)]])[:, None]
    run, _ = run_program(both, grid, lane, settings=RunSettings(method, isa=isa))
    plain = compile_model(model, varied=PARAMETERS, saves=saves)
    alone, _ = run_program(plain, grid, lane[: len(PARAMETERS)], settings=RunSettings(method, isa=isa))
    assert run[: len(saves)].tobytes() == alone.tobytes()
    expected = run_reference(both, grid, dict(zip(both.parameters, lane[:, 0], strict=True)), method)
    assert run[:, :, 0].tobytes() == expected.tobytes()


@settings(max_examples=40)
@given(model=models(), moved=st.sampled_from(PARAMETERS), method=st.sampled_from(["euler", "rk4"]))
def test_no_influence_is_missed(model, moved, method):
    """A parameter whose change moves a bit of what is saved is never flagged as one without effect."""
    influence = influences(model, varied=PARAMETERS, parameters=(moved,), saves=AUXILIARIES)[moved]
    start, step = _number(model, "initial_time"), _number(model, "time_step")
    grid = TimeGrid(start, start + 4 * step, step, step)
    program = compile_model(model, varied=PARAMETERS, saves=AUXILIARIES)
    table = np.repeat(np.array([0.5, 1.5, 2.5])[:, None], 2, axis=1)
    table[PARAMETERS.index(moved), 1] += 0.71
    run, _ = run_program(program, grid, table, settings=RunSettings(method))
    if run[:, :, 0].tobytes() != run[:, :, 1].tobytes():
        assert influence.flag != "none"
