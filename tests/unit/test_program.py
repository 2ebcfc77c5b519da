"""Programs: every rule that the kernel takes for granted is checked, and what is compiled is only what is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import villageflow as vf
from villageflow.errors import DesignError, ProgramError
from villageflow.program.emit import check_names, compile_model
from villageflow.program.opcodes import (
    BINARY,
    CODES,
    NAMES,
    SCALAR_VECTOR,
    SWAPPED,
    TERNARY,
    UNARY,
    VECTOR_SCALAR,
    kernel_text,
)
from villageflow.program.program import SCALARS, SEGMENTS, Program, Tables
from villageflow.program.reference import scalar_operation

MODEL = """{UTF-8}
x = INTEG(rate * x * look(x) - MIN(x, cap) + STEP(1, 2), start) ~~|
rate = 0.5 ~~|
start = 1 ~~|
cap = 7 ~~|
lag = 2 ~~|
square = rate * rate ~~|
look((0,1),(9,0)) ~~|
late = DELAY FIXED(x, lag, cap) ~~|
held = SAMPLE IF TRUE(x > 1, x, rate) ~~|
apart = INTEG(1, 5) ~~|
unused = apart * SIN(Time) ~~|
out = late + held + square ~~|
INITIAL TIME = 0 ~~|
FINAL TIME = 3 ~~|
TIME STEP = 1 ~~|
SAVEPER = 1 ~~|
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "m.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


@pytest.fixture(scope="module")
def program(model):
    return compile_model(model, varied=("rate", "lag"), saves=("out", "x", "time_step"))


# ---------------------------------------------------------------------------------- what the tape holds


def test_operations_are_numbered_once():
    assert len(set(NAMES)) == len(NAMES) == len(CODES)
    assert set(VECTOR_SCALAR) | set(SCALAR_VECTOR) <= set(BINARY)
    assert set(SWAPPED) <= set(VECTOR_SCALAR)
    assert all(SWAPPED[SWAPPED[name]] == name for name in SWAPPED)
    assert not set(UNARY) & set(BINARY) & set(TERNARY)
    for name, code in CODES.items():
        assert f"    OP_{name} = {code}\n" in kernel_text()


@pytest.mark.parametrize("name", sorted(SWAPPED))
def test_swapped_operations_give_the_same_value(name):
    special = [0.0, -0.0, 1.5, -2.0, float("inf"), float("nan")]
    for a in special:
        for b in special:
            one, other = scalar_operation(name, a, b), scalar_operation(SWAPPED[name], b, a)
            assert np.float64(one).tobytes() == np.float64(other).tobytes()


def test_only_what_is_saved_is_computed(model):
    small = compile_model(model, saves=("apart",))
    assert small.stocks == ("apart",)
    assert len(small.delays) == 0
    assert "SIN" not in small.listing()
    everything = compile_model(model, saves=("out", "unused"))
    assert set(everything.stocks) == {"x", "apart"}


def test_each_value_is_computed_as_rarely_as_it_changes(program, model):
    def operations(name, of=program):
        return [NAMES[op] for op in of.segment(name)[:, 0]]

    assert "MULTIPLY" in operations("member")  # rate * rate
    assert "GREATER" in operations("time")  # the event
    assert "HOLD" in operations("lane")
    assert operations("save")[-1].startswith("ADD")
    fixed = compile_model(model, saves=("square",))
    assert len(fixed.code) == 0
    assert 0.25 in fixed.scalars


def test_equal_expressions_are_computed_once(tmp_path):
    path = tmp_path / "m.mdl"
    controls = MODEL[MODEL.index("INITIAL TIME") :]
    path.write_text("x = INTEG(0, 2) ~~|\na = EXP(x) + EXP(x) ~~|\nb = EXP(x) * 3 ~~|\n" + controls)
    tape = compile_model(vf.read_model(path), saves=("a", "b"))
    assert sum(NAMES[op] == "EXP" for op in tape.code[:, 0]) == 1


def test_registers_are_used_again(tmp_path):
    path = tmp_path / "m.mdl"
    controls = MODEL[MODEL.index("INITIAL TIME") :]
    chain = "SIN(" * 60 + "x" + ")" * 60
    path.write_text(f"x = INTEG(0, 2) ~~|\na = {chain} ~~|\n" + controls)
    assert compile_model(vf.read_model(path), saves=("a",)).n_vectors < 12


def test_listing_shows_every_operation(program):
    text = program.listing()
    assert all(f"{name}:" in text for name in SEGMENTS)
    assert len(text.splitlines()) == len(program.code) + len(SEGMENTS)


def test_digest_depends_on_every_part(program):
    def changed(**parts):
        return replace(program, **parts).digest

    digests = {
        program.digest,
        changed(scalars=program.scalars + np.arange(len(program.scalars)) * 1e-9),
        changed(stocks=("z",)),
        changed(saves=("a", "b", "c")),
        changed(n_vectors=program.n_vectors + 1),
        changed(parameters=("lag", "rate")),
        changed(tables=replace(program.tables, below=program.tables.below + 1)),
        changed(tables=replace(program.tables, points=program.tables.points + 1)),
        changed(save_slots=program.save_slots[::-1].copy()),
    }
    assert len(digests) == 9
    assert replace(program).digest == program.digest


def test_digest_does_not_depend_on_the_session(model):
    again = compile_model.__wrapped__ if hasattr(compile_model, "__wrapped__") else compile_model
    assert (
        again(model, varied=("rate",), saves=("x",)).digest
        == compile_model(model, varied=("rate",), saves=("x",)).digest
    )


@pytest.mark.parametrize(
    ("varied", "saves", "match"),
    [
        (("rat",), (), "no constant 'rat'. Did you mean 'rate'"),
        (("x",), (), "'x' is a stock"),
        ((), ("outt",), "no variable 'outt'. Did you mean 'out'"),
        ((), ("look",), "'look' is a lookup"),
        ((), ("#x 1 smooth_1",), "no variable"),
    ],
)
def test_names_that_do_not_fit(model, varied, saves, match):
    with pytest.raises(DesignError, match=match):
        check_names(model, varied, saves)


# ------------------------------------------------------------------------------------------- validation


def tape(rows=(), bounds=None, **parts):
    """A small program: registers 0 (parameter) and 1 (stock), and rows as (segment, operation, four numbers, count)."""
    start = ("member", "COPY", 1, 0, 0, 0)
    rows = [start, *rows] if not any(row[:3] == ("member", "COPY", 1) for row in rows) else list(rows)
    rows = sorted(rows, key=lambda row: SEGMENTS.index(row[0]))
    code = [[CODES.get(op, op), *(*rest, 1)[:5]] for _, op, *rest in rows]
    code = np.array(code, dtype=np.int32).reshape(-1, 6)
    counts = [sum(row[0] == name for row in rows) for name in SEGMENTS]
    whole = {
        "code": code,
        "bounds": np.cumsum([0, *counts], dtype=np.int32)
        if bounds is None
        else np.array(bounds, dtype=np.int32),
        "n_vectors": 4,
        "scalars": np.zeros(len(SCALARS) + 2),
        "parameters": ("p",),
        "parameter_slots": np.array([0], np.int32),
        "stocks": ("s",),
        "stock_slots": np.array([1], np.int32),
        "flow_slots": np.array([0], np.int32),
        "non_negative": np.zeros(0, np.int32),
        "lists": np.zeros(0, np.int32),
        "delays": np.zeros((0, 4), np.int32),
        "saves": ("s",),
        "save_slots": np.array([[0, 1]], np.int32),
        "tables": Tables(np.array([0, 1], np.int32), np.zeros((1, 3)), np.zeros(1)),
    }
    return Program(**(whole | parts))


def test_small_program_is_valid():
    made = tape(
        [
            ("run", "ADD", 6, 4, 4, 0),
            ("time", "SIN", 7, 0, 0, 0),
            ("lane", "ADD_VS", 2, 1, 7, 0),
            ("lane", "TABLE", 3, 2, 0, 0),
        ]
    )
    assert made.segment("lane").shape == (2, 6)


FAULTS = {
    "list beyond": (
        [("lane", "ALLOCATION_PRICE", 2, 1, 2, 0)],
        {"lists": np.array([1, 1], np.int32)},
        "reads entries 1 to 3 of 2 listed",
    ),
    "list of none": (
        [("lane", "ALLOCATION_PRICE", 2, 0, 0, 0)],
        {"lists": np.array([1, 1], np.int32)},
        "reads entries 0 to 0 of 2 listed",
    ),
    "listed before written": (
        [("lane", "ALLOCATION_PRICE", 2, 0, 2, 0)],
        {"lists": np.array([1, 3], np.int32)},
        "reads register 3 before it is written",
    ),
    "count of none": ([("lane", "COPY", 2, 1, 0, 0, 0)], {}, "COPY with a count of 0"),
    "count of a hold": ([("lane", "HOLD", 1, 0, 0, 0, 2)], {}, "HOLD with a count of 2"),
    "count of a draw": ([("lane", "UNIFORM", 2, 0, 0, 0, 2)], {"streams": ("a",)}, "UNIFORM with a count of 2"),
    "count of a list": (
        [("lane", "SUM", 2, 0, 2, 0, 2)],
        {"lists": np.array([1, 1], np.int32)},
        "SUM with a count of 2",
    ),
    "last destination beyond": ([("lane", "FILL", 2, 0, 0, 0, 3)], {}, "writes register 4; there are 4"),
    "last operand before written": ([("lane", "COPY", 2, 1, 0, 0, 2)], {}, "reads register 2 before it is written"),
    "destinations that are read": (
        [("lane", "COPY", 2, 1, 0, 0), ("lane", "COPY", 2, 1, 0, 0, 2)],
        {},
        "writes register 2, which it also reads",
    ),
    "count that writes a stock": ([("lane", "FILL", 0, 0, 0, 0, 2)], {}, "writes register 1, which holds a stock"),
    "gathered beyond": (
        [("lane", "GATHER", 3, 0, 2, 0)],
        {"lists": np.array([1, 1], np.int32)},
        "writes register 4; there are 4",
    ),
    "gathered to what is read": (
        [("lane", "COPY", 3, 1, 0, 0), ("lane", "GATHER", 2, 0, 2, 0)],
        {"lists": np.array([1, 3], np.int32)},
        "writes register 3, which it also reads",
    ),
    "not below zero without a stock": (
        [],
        {"non_negative": np.array([0], np.int32)},
        "register 0 is kept from falling below zero but holds no stock",
    ),
    "unknown code": (
        [("lane", 999, 2, 1, 1, 0)],
        {},
        "operation 0 of segment 'lane' has the unknown code 999",
    ),
    "negative code": ([("lane", -1, 2, 1, 1, 0)], {}, "unknown code -1"),
    "destination beyond": ([("lane", "COPY", 4, 1, 0, 0)], {}, "writes register 4; there are 4"),
    "destination negative": ([("lane", "COPY", -1, 1, 0, 0)], {}, "writes register -1"),
    "scalar destination beyond": ([("run", "COPY", 8, 4, 0, 0)], {}, "writes register 8; there are 8"),
    "read before written": ([("lane", "COPY", 2, 3, 0, 0)], {}, "reads register 3 before it is written"),
    "second operand": ([("lane", "ADD", 2, 1, 3, 0)], {}, "reads register 3"),
    "third operand": ([("lane", "IF_THEN_ELSE", 2, 1, 1, 3)], {}, "reads register 3"),
    "operand negative": ([("lane", "COPY", 2, -1, 0, 0)], {}, "reads register -1"),
    "vector of VS": ([("lane", "ADD_VS", 2, 3, 4, 0)], {}, "reads register 3 before"),
    "vector of SV": ([("lane", "SUBTRACT_SV", 2, 4, 3, 0)], {}, "reads register 3 before"),
    "first of a pair": ([("lane", "MULTIPLY_VV_ADD_V", 2, 3, 1, 1)], {}, "reads register 3 before"),
    "second of a pair": ([("lane", "MULTIPLY_VS_ADD_V", 2, 1, 8, 1)], {}, "reads scalar register 8"),
    "third of a pair": ([("lane", "SUBTRACT_SV_INTO_V", 2, 4, 1, 3)], {}, "reads register 3 before"),
    "scalar third of a pair": ([("lane", "ADD_VV_ADD_S", 2, 1, 1, -1)], {}, "reads scalar register -1"),
    "pair that writes what it reads": ([("lane", "ADD_VV_ADD_V", 3, 1, 1, 3)], {}, "reads register 3"),
    "pair over scalars": ([("time", "ADD_VV_ADD_V", 6, 4, 4, 4)], {}, "ADD_VV_ADD_V, which mixes"),
    "scalar of VS": ([("lane", "ADD_VS", 2, 1, 8, 0)], {}, "reads scalar register 8"),
    "scalar of SV": ([("lane", "SUBTRACT_SV", 2, 8, 1, 0)], {}, "reads scalar register 8"),
    "scalar of FILL": ([("lane", "FILL", 2, -1, 0, 0)], {}, "reads scalar register -1"),
    "scalar of later": (
        [("run", "COPY", 6, 7, 0, 0), ("time", "COPY", 7, 0, 0, 0)],
        {},
        "reads register 7 before",
    ),
    "save reads what lane does not write": (
        [("save", "COPY", 2, 3, 0, 0)],
        {},
        "segment 'save' reads register 3",
    ),
    "member reads a lane": (
        [("member", "COPY", 2, 3, 0, 0), ("lane", "COPY", 3, 1, 0, 0)],
        {},
        "'member' reads register 3",
    ),
    "UNIFORM over scalars": ([("run", "UNIFORM", 6, 4, 0, 0)], {"streams": ("a 1",)}, "UNIFORM, which differs"),
    "GIVEN over scalars": ([("time", "GIVEN", 6, 0, 0, 0)], {"given": ("a",)}, "GIVEN, which differs"),
    "stream beyond": ([("lane", "UNIFORM", 2, 1, 1, 0)], {"streams": ("a 1",)}, "draws from stream 1; there are 1"),
    "stream negative": ([("lane", "UNIFORM", 2, 1, -1, 0)], {"streams": ("a 1",)}, "draws from stream -1"),
    "seed before written": ([("lane", "UNIFORM", 2, 3, 0, 0)], {"streams": ("a 1",)}, "reads register 3 before"),
    "series beyond": ([("lane", "GIVEN", 2, 0, 0, 0)], {}, "reads supplied series 0; there are 0"),
    "series negative": ([("save", "GIVEN", 2, -1, 0, 0)], {"given": ("a",)}, "reads supplied series -1"),
    "FILL over scalars": ([("run", "FILL", 6, 4, 0, 0)], {}, "FILL, which mixes"),
    "VS over scalars": ([("time", "ADD_VS", 6, 4, 4, 0)], {}, "ADD_VS, which mixes"),
    "SV over scalars": ([("time", "SUBTRACT_SV", 6, 4, 4, 0)], {}, "SUBTRACT_SV, which mixes"),
    "HOLD over scalars": ([("time", "HOLD", 6, 4, 4, 0)], {}, "HOLD"),
    "HOLD in save": ([("save", "HOLD", 1, 0, 0, 0)], {}, "only the lane segment may hold"),
    "HOLD without a start": (
        [("lane", "HOLD", 2, 0, 1, 0)],
        {},
        "register 2 holds a state but the member segment",
    ),
    "writes what it reads": ([("lane", "ADD", 1, 1, 0, 0)], {}, "writes register 1, which it also reads"),
    "table beyond": ([("lane", "TABLE", 2, 1, 1, 0)], {}, "uses table 1; there are 1"),
    "table negative": ([("lane", "TABLE", 2, 1, -1, 0)], {}, "uses table -1"),
    "table over scalars": ([("time", "TABLE", 6, 0, 7, 0)], {}, "uses table 7"),
    "stock without a start": ([], {"stock_slots": np.array([2], np.int32)}, "register 2 holds a state"),
    "flow never written": (
        [],
        {"flow_slots": np.array([3], np.int32)},
        "net flow register 3 is never written",
    ),
    "delay input never written": (
        [],
        {"delays": np.array([[2, 3, 0, 1]], np.int32)},
        "delay input register 3 is never written",
    ),
    "delay without a start": ([], {"delays": np.array([[2, 1, 3, 1]], np.int32)}, "register 3 holds a state"),
    "save never written": (
        [],
        {"save_slots": np.array([[0, 3]], np.int32)},
        "reads register 3, which is never written",
    ),
    "save beyond": ([], {"save_slots": np.array([[1, 8]], np.int32)}, "scalar register 8; there are 8"),
    "save negative": ([], {"save_slots": np.array([[1, -1]], np.int32)}, "scalar register -1"),
    "too few scalars": ([], {"scalars": np.zeros(5)}, "5 scalar registers; the first 6"),
    "bounds too short": ([], {"bounds": [0, 0, 1, 1, 1]}, "do not divide"),
    "bounds not from 0": ([], {"bounds": [1, 1, 1, 1, 1, 1]}, "do not divide"),
    "bounds not to the end": ([], {"bounds": [0, 0, 0, 0, 0, 0]}, "do not divide"),
    "bounds decrease": ([], {"bounds": [0, 2, 1, 1, 1, 1]}, "do not divide"),
    "code of another shape": ([], {"code": np.zeros((1, 4), np.int32)}, r"shape \(1, 4\)"),
    "code of another type": ([], {"code": np.zeros((1, 6), np.int64)}, "type int64"),
    "names of parameters": ([], {"parameters": ("p", "q")}, "2 names but 1 registers of parameters"),
    "names of stocks": ([], {"stocks": ()}, "0 names but 1 registers of stocks"),
    "names of saves": ([], {"saves": ("a", "b")}, "2 names but 1 registers of saves"),
    "empty table": (
        [],
        {"tables": Tables(np.array([0, 0], np.int32), np.zeros((0, 3)), np.zeros(1))},
        "tables are not",
    ),
    "table beyond its points": (
        [],
        {"tables": Tables(np.array([0, 2], np.int32), np.zeros((1, 3)), np.zeros(1))},
        "tables are not",
    ),
    "tables without a name": (
        [],
        {"tables": Tables(np.array([0], np.int32), np.zeros((0, 3)), np.zeros(1))},
        "tables are not",
    ),
    # what the check must also see, since the kernel reads and writes through it
    "parameter beyond": (
        [],
        {"parameters": ("p", "q"), "parameter_slots": np.array([0, 4], np.int32)},
        "register 4; there are 4",
    ),
    "parameter negative": (
        [],
        {"parameters": ("p", "q"), "parameter_slots": np.array([0, -1], np.int32)},
        "register -1",
    ),
    "delay output beyond": ([], {"delays": np.array([[4, 1, 0, 1]], np.int32)}, "register 4"),
    "delay output negative": ([], {"delays": np.array([[-1, 1, 0, 1]], np.int32)}, "register -1"),
    "tables do not start at 0": (
        [],
        {"tables": Tables(np.array([-1, 1], np.int32), np.zeros((1, 3)), np.zeros(1))},
        "tables are not",
    ),
    "points of another shape": (
        [],
        {"tables": Tables(np.array([0, 1], np.int32), np.zeros((1, 2)), np.zeros(1))},
        "tables",
    ),
    "flows do not pair with stocks": ([], {"flow_slots": np.zeros(0, np.int32)}, "0 net flows but 1 stocks"),
    "lane writes a stock": (
        [("lane", "COPY", 1, 0, 0, 0)],
        {},
        "'lane' writes register 1, which holds a stock",
    ),
    "save writes a delay": (
        [("save", "COPY", 2, 0, 0, 0)],
        {"delays": np.array([[2, 1, 0, 1]], np.int32)},
        "'save' writes register 2",
    ),
    "net flow is another stock's register": (
        [("member", "COPY", 2, 0, 0, 0)],
        {
            "stocks": ("s", "t"),
            "stock_slots": np.array([1, 2], np.int32),
            "flow_slots": np.array([0, 1], np.int32),
        },
        "net flow is in register 1, which holds a stock",
    ),
    "scalar read before the time segment writes it": (
        [("member", "ADD_VS", 2, 0, 6, 0), ("time", "SIN", 6, 0, 0, 0)],
        {},
        "scalar register 6 before",
    ),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_fault_is_found(fault):
    rows, parts, match = FAULTS[fault]
    with pytest.raises(ProgramError, match=match):
        tape(rows, **parts)
