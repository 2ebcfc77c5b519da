"""Objects as text: every class of a model comes back as it was, and no text makes anything else."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from enum import Enum

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from villageflow.errors import StoredFileError
from villageflow.ir import dimensions, model, nodes
from villageflow.ir.codec import Codec, dataclasses_of
from villageflow.ir.model import Model, Variable
from villageflow.ir.nodes import Call, Integral, Num, Ref, Stateful


class Colour(Enum):
    RED = "r"
    BLUE = "b"


@dataclasses.dataclass(frozen=True)
class Leaf:
    number: float
    text: str = ""
    colour: Colour = Colour.RED


@dataclasses.dataclass(frozen=True)
class Whole:
    """One field of every form."""

    pair: tuple[int, str]
    many: tuple[Leaf, ...]
    named: Mapping[str, Leaf]
    keyed: Mapping[tuple[str, ...], tuple[float | None, ...]]
    either: Leaf | str | None
    flag: bool
    integers: npt.NDArray[np.int32]
    floats: npt.NDArray[np.float64]


CODEC = Codec(Whole, (Whole, Leaf))


def whole(**changes):
    values = {
        "pair": (-3, "é\n|\U0001f600"),
        "many": (Leaf(1.0), Leaf(-0.0, "b", Colour.BLUE), Leaf(1.0)),
        "named": {"z": Leaf(0.0), "a": Leaf(5e-324), "": Leaf(1e308)},
        "keyed": {("a", "b"): (1.5, None), (): ()},
        "either": Leaf(0.1),
        "flag": True,
        "integers": np.array([[1, -2], [3, 2**31 - 1]], dtype=np.int32),
        "floats": np.array([0.1, -0.0, np.nan, np.inf]),
    }
    return Whole(**(values | changes))


def same(a, b) -> bool:
    """Equal to the bit, also for what is not a number and for signs of zero."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a)
        )
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and repr(a) == repr(b)


@pytest.mark.parametrize("either", [Leaf(2.0), "text", None])
def test_every_form_comes_back(either):
    value = whole(either=either)
    assert same(CODEC.read(CODEC.write(value)), value)


@given(st.floats(allow_nan=True, allow_infinity=True), st.text())
def test_every_number_and_text_comes_back(number, text):
    value = whole(many=(Leaf(number, text),), named={text: Leaf(-number)})
    assert same(CODEC.read(CODEC.write(value)), value)


def test_zeros_of_either_sign_stay_apart():
    found = CODEC.read(CODEC.write(whole(many=(Leaf(0.0), Leaf(-0.0), Leaf(0.0)))))
    assert [math.copysign(1.0, leaf.number) for leaf in found.many] == [1.0, -1.0, 1.0]


def test_equal_objects_are_written_once():
    rows = json.loads(CODEC.write(whole(many=(Leaf(1.0),) * 50, named={}, either=None)))["rows"]
    assert len(rows) == 2


# ------------------------------------------------------------------------------------------- models

def sample(annotation):
    """A value of an annotation."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return tuple(sample(argument) for argument in arguments if argument is not Ellipsis)
    if origin is not None and issubclass(origin, Mapping):
        return {sample(arguments[0]): sample(arguments[1])}
    if arguments:  # a union: the first option that is not a deeper expression
        return sample(Num if Num in arguments else arguments[0])
    if issubclass(annotation, Enum):
        return list(annotation)[-1]
    if dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        return annotation(*(sample(hints[field.name]) for field in dataclasses.fields(annotation)))
    return {str: "a b", bool: True, int: 3, float: -0.1}[annotation]


@pytest.mark.parametrize("cls", dataclasses_of(nodes, dimensions, model), ids=lambda cls: cls.__name__)
def test_every_class_of_a_model_comes_back(cls):
    codec = Codec(cls, dataclasses_of(nodes, dimensions, model))
    value = sample(cls)
    assert same(codec.read(codec.write(value)), value)


def test_every_class_that_a_model_can_hold_is_known():
    assert {cls.__name__ for cls in dataclasses_of(nodes, dimensions, model)} >= {
        "Model", "Variable", "Array", "Dimension", "Hold", "FixedDelay", "Num", "Ref", "Call", "Table", "TableCall",
        "Integral", "Stateful",
    }  # fmt: skip


MODELS = Codec(Model, dataclasses_of(nodes, dimensions, model))


def with_equation(expr):
    return dataclasses.replace(sample(Model), auxiliaries={"deep": expr})


def test_depth_costs_nothing():
    expr = Num(1.0)
    for i in range(50_000):
        expr = Call("add", (expr, Ref(f"x{i % 7}")))
    found = MODELS.read(MODELS.write(with_equation(expr))).auxiliaries["deep"]
    depth = 0
    while isinstance(found, Call):
        found, depth = found.arguments[0], depth + 1
    assert depth == 50_000
    assert found == Num(1.0)


def test_shared_parts_stay_shared():
    expr = Ref("x")
    for _ in range(200):
        expr = Stateful("smooth", (expr, Num(2.0), expr, Num(1.0)))
    text = MODELS.write(with_equation(expr))
    assert len(text) < 60_000
    found = MODELS.read(text).auxiliaries["deep"]
    assert found.arguments[0] is found.arguments[2]


# ------------------------------------------------------------------------------------------ refusals


def hostile(change):
    stored = json.loads(CODEC.write(whole()))
    change(stored)
    return json.dumps(stored)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", "null", "1", '"x"', "[" * 100_000, '{"classes": [], "rows": []}',
        '{"classes": [["Whole"]], "rows": [[0]]}', '{"classes": [["Popen", "args"]], "rows": [[0, "ls"]]}',
        '{"classes": [["Leaf", "number", "text", "colour"]], "rows": [[0, 1.0, "", "RED"]]}',
        '{"classes": [[]], "rows": []}', '{"classes": [7], "rows": []}', '{"classes": {"Leaf": 1}, "rows": []}',
    ],
)  # fmt: skip
def test_text_that_is_no_object_is_refused(text):
    with pytest.raises(StoredFileError):
        CODEC.read(text)


def _last(stored):
    return stored["rows"][-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["classes"][0].append("more"),
        lambda s: s["classes"][0].reverse(),
        lambda s: s["classes"].insert(0, ["os"]),
        lambda s: s["rows"].append([0, 1.0, "", "GREEN"]),
        lambda s: s["rows"].append([0, 1, "", "RED"]),
        lambda s: s["rows"].append([0, True, "", "RED"]),
        lambda s: s["rows"].append([0, 1.0, None, "RED"]),
        lambda s: s["rows"].append([0, 1.0, "", "__class__"]),
        lambda s: s["rows"].append([0, 1.0, "", ["RED"]]),
        lambda s: s["rows"].append([0, 1.0, ""]),
        lambda s: s["rows"].append([9, 1.0, "", "RED"]),
        lambda s: s["rows"].append([-1, 1.0, "", "RED"]),
        lambda s: s["rows"].append([True, 1.0, "", "RED"]),
        lambda s: s["rows"].append([]),
        lambda s: s["rows"].append("abc"),
        lambda s: s["rows"].append(None),
        lambda s: s["rows"].append({"0": 1}),
        lambda s: s["rows"].pop(),
        lambda s: _last(s).__setitem__(1, [1, "a", "b"]),
        lambda s: _last(s).__setitem__(1, ["a", 1]),
        lambda s: _last(s).__setitem__(2, [len(s["rows"]) - 1]),  # itself
        lambda s: _last(s).__setitem__(2, [len(s["rows"])]),
        lambda s: _last(s).__setitem__(2, [-1]),
        lambda s: _last(s).__setitem__(2, {"0": 0}),
        lambda s: _last(s).__setitem__(2, [0.0]),
        lambda s: _last(s).__setitem__(3, [["a", 0]]),
        lambda s: _last(s).__setitem__(4, [[["a"]]]),
        lambda s: _last(s).__setitem__(4, [[["a"], [1]]]),
        lambda s: _last(s).__setitem__(4, 5),
        lambda s: _last(s).__setitem__(5, 1.5),
        lambda s: _last(s).__setitem__(5, [0]),
        lambda s: _last(s).__setitem__(6, 1),
        lambda s: _last(s).__setitem__(7, ["<i4", [2, 2], "AAAA"]),
        lambda s: _last(s).__setitem__(7, ["<f8", [0], ""]),
        lambda s: _last(s).__setitem__(7, ["|O", [0], ""]),
        lambda s: _last(s).__setitem__(7, ["<i4", [-1], ""]),
        lambda s: _last(s).__setitem__(7, ["<i4", [0.0], ""]),
        lambda s: _last(s).__setitem__(7, ["<i4", [10**30], "AAAA"]),
        lambda s: _last(s).__setitem__(7, ["<i4", [1], "AAAA====%"]),
        lambda s: _last(s).__setitem__(7, ["<i4", [1] * 200, "AAAAAA=="]),
        lambda s: _last(s).__setitem__(7, ["<i4", [1], 5]),
        lambda s: _last(s).__setitem__(7, "AAAA"),
    ],
)
def test_every_value_must_fit_its_field(change):
    with pytest.raises(StoredFileError):
        CODEC.read(hostile(change))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(st.data())
def test_nothing_else_escapes_from_a_changed_text(data):
    stored = json.loads(CODEC.write(whole()))
    place = data.draw(st.sampled_from(["classes", "rows"]))
    row = data.draw(st.integers(0, len(stored[place]) - 1))
    column = data.draw(st.integers(0, len(stored[place][row]) - 1))
    stored[place][row][column] = data.draw(JSON)
    try:
        found = CODEC.read(json.dumps(stored))
    except StoredFileError:
        return
    assert same(CODEC.read(CODEC.write(found)), found)  # a value that fits is a value


def test_forms_that_look_alike_are_refused_when_the_codec_is_made():
    for annotation in ("int | Leaf", "str | Colour", "tuple[int, ...] | tuple[str, str]", "object", "list[int]"):
        cls = dataclasses.make_dataclass("Odd", [("field", annotation)], frozen=True)
        cls.__module__ = __name__
        with pytest.raises((TypeError, NameError)):
            Codec(cls, (cls, Leaf))


def test_a_class_that_was_not_given_is_refused_when_the_codec_is_made():
    with pytest.raises(TypeError, match="Leaf is not among the classes"):
        Codec(Whole, (Whole,))


def test_a_value_of_the_wrong_class_is_not_written():
    with pytest.raises(TypeError):
        CODEC.write(whole(either=5.5))
    with pytest.raises((TypeError, KeyError)):
        CODEC.write(whole(many=(Variable,)))
    with pytest.raises(TypeError, match="array"):
        CODEC.write(whole(integers=np.array([1.0])))
    assert Integral in dataclasses_of(nodes)
