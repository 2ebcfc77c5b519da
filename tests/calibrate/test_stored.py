"""Fits come back from their files to the last bit; what is no fit is named and never run."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from villageflow.calibrate.load import load_fit
from villageflow.calibrate.matched import FORMAT, IndirectResult
from villageflow.calibrate.scales import Box
from villageflow.calibrate.stored import plain, restored
from villageflow.errors import CalibrationError

VALUES = {
    "none": None, "text": "ä", "flag": True, "count": 3, "number": 0.1 + 0.2, "missing": float("nan"),
    "infinite": float("-inf"), "tuple": ("a", 1.0), "array": np.array([[1.0, np.nan], [np.inf, -0.0]]),
    "flags": np.array([True, False]), "mapping": {1: -2.5, 5: 0.0},
}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_values_come_back_as_they_were(name):
    value = VALUES[name]
    back = restored(json.loads(json.dumps(plain(value), allow_nan=False)))
    assert type(back) is type(value)
    np.testing.assert_equal(back, value)


def test_tables_come_back_with_their_labels():
    table = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", "y"]}, index=pd.Index([2014, 2015], name="year"))
    back = restored(json.loads(json.dumps(plain(table))))
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    pd.testing.assert_series_equal(restored(json.loads(json.dumps(plain(table["a"])))), table["a"])


def indirect() -> IndirectResult:
    names = ["growth", "sd"]
    square = pd.DataFrame([[1.0, 0.1], [0.1, np.nan]], index=names, columns=names)
    moments = pd.DataFrame({"observed": [1.0, 2.0, 3.0]}, index=pd.Index(["m1", "m2", "m3"], name="moment"))
    return IndirectResult(
        pd.Series([0.3, 0.2], index=names), square, Box.of({"growth": ("lin", 0, 1), "sd": ("log", 0.1, 1)}), moments,
        1.5, 1, None, moments.assign(growth=1.0), square, np.array([3.0, 0.1]), 2, "", (), "diagonal", 10, 50, "entity",
        7, 0.01, pd.DataFrame({"distance": [0.5]}), True, 400, 0, "", ("a note",),
    )


def test_an_indirect_fit_comes_back_to_the_last_bit(tmp_path):
    made = indirect()
    made.save(tmp_path / "fit.json")
    back = load_fit(tmp_path / "fit.json")
    for item in dataclasses.fields(made):
        one, other = getattr(made, item.name), getattr(back, item.name)
        if isinstance(one, pd.DataFrame):
            pd.testing.assert_frame_equal(other, one, check_exact=True)
        elif isinstance(one, pd.Series):
            pd.testing.assert_series_equal(other, one, check_exact=True)
        elif isinstance(one, Box):
            assert (other.names, other.scales) == (one.names, one.scales)
        else:
            np.testing.assert_equal(other, one)


@pytest.mark.parametrize("change", [
    {"params": {}}, {"params": {"shell": "rm"}}, {"box": {"box": [1]}}, {"cov": None}, {"moments": 3}, {"seed": None},
])
def test_a_file_that_was_edited_is_named(tmp_path, change):
    made, path = indirect(), tmp_path / "fit.json"
    made.save(path)
    stored = json.loads(path.read_text()) | change
    path.write_text(json.dumps(stored))
    with pytest.raises(CalibrationError, match=r"fit\.json: the fit (has a value of the wrong kind|lacks)"):
        load_fit(path)


def test_a_fit_that_lacks_a_field_is_named(tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(json.dumps({"format": FORMAT}))
    with pytest.raises(CalibrationError, match="the fit lacks 'params'; it was cut short or edited"):
        load_fit(path)
    path.write_text("[" * 100_000)
    with pytest.raises(CalibrationError, match="cannot be read as a fit"):
        load_fit(path)
