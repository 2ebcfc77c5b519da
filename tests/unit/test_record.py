"""The record of results: exact where the engine promises bits, tolerant only where a row says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from villageflow.errors import ReportError
from villageflow.report import record

RULE = record.Tolerance("fit.*", rtol=1e-6, atol=0.0, reason="BLAS")


def made(values: np.ndarray, estimates: dict[str, record.Scalar], base: Path) -> record.Record:
    (base / "table.csv").write_text("a,b\n")
    dataset = xr.Dataset({"stores": (("member", "time"), values)}, coords={"time": [2006.0, 2007.0]})
    return record.make_record({"policy": dataset}, estimates, [base / "table.csv"], base=base)


@pytest.fixture
def expected(tmp_path):
    return made(np.array([[1.0, 2.0]]), {"fit.q": 1.15, "county.n": 235}, tmp_path)


def test_equal_records_agree(expected, tmp_path):
    again = made(np.array([[1.0, 2.0]]), {"fit.q": 1.15, "county.n": 235}, tmp_path)
    assert record.compare(expected, again) == []
    assert record.describe([]) == "the results agree with the committed record"


def test_one_bit_of_a_simulation_is_a_difference(expected, tmp_path):
    other = made(np.array([[1.0, np.nextafter(2.0, 3.0)]]), {"fit.q": 1.15, "county.n": 235}, tmp_path)
    differences = record.compare(expected, other, [RULE])
    assert [item.quantity for item in differences] == ["policy/stores"]
    assert "bit for bit" in record.describe(differences)


def test_shape_counts_even_when_the_bytes_are_equal(expected, tmp_path):
    flat = xr.Dataset({"stores": ("time", [1.0, 2.0])}, coords={"time": [2006.0, 2007.0]})
    other = record.make_record({"policy": flat}, expected["estimates"], [tmp_path / "table.csv"], base=tmp_path)
    assert [item.rule for item in record.compare(expected, other)] == ["shape"]


@pytest.mark.parametrize(("value", "agrees"), [(1.15 * (1 + 5e-7), True), (1.15 * (1 + 5e-6), False)])
def test_an_estimate_agrees_within_its_tolerance(expected, tmp_path, value, agrees):
    other = made(np.array([[1.0, 2.0]]), {"fit.q": value, "county.n": 235}, tmp_path)
    assert (record.compare(expected, other, [RULE]) == []) is agrees
    assert record.compare(expected, other) != []


def test_a_result_that_appears_or_goes_is_a_difference(expected, tmp_path):
    other = made(np.array([[1.0, 2.0]]), {"fit.q": 1.15, "county.entities": 235}, tmp_path)
    assert {(item.quantity, item.actual) for item in record.compare(expected, other)} == {
        ("county.n", "missing"),
        ("county.entities", "present"),
    }


def test_json_keeps_every_bit_and_refuses_what_is_not_a_number(tmp_path):
    path = tmp_path / "r.json"
    values = {"b": 0.1 + 0.2, "a": np.float64(1e-300), "n": np.int64(3), "list": [1, 2.5]}
    record.write_json(path, values)
    assert record.read_json(path) == {"a": 1e-300, "b": 0.1 + 0.2, "list": [1, 2.5], "n": 3}
    first = path.read_bytes()
    record.write_json(path, dict(reversed(values.items())))
    assert path.read_bytes() == first
    with pytest.raises(ReportError, match=r"result 'fit\.se' is nan"):
        record.write_json(path, {"fit": {"se": float("nan")}})
    with pytest.raises(ReportError, match="is a set"):
        record.write_json(path, {"x": {1}})


def test_a_dataset_on_disk_has_the_digest_of_the_one_in_memory(expected, tmp_path):
    dataset = xr.Dataset({"stores": (("member", "time"), [[1.0, 2.0]])}, coords={"time": [2006.0, 2007.0]})
    dataset.to_netcdf(tmp_path / "policy.nc", engine="h5netcdf")
    stored = record.make_record({"policy": tmp_path / "policy.nc"}, {}, [], base=tmp_path)
    assert stored["simulations"] == expected["simulations"]


def test_array_digest_sees_signed_zeros_and_refuses_text():
    assert record.array_digest(np.array([0.0])) != record.array_digest(np.array([-0.0]))
    assert record.array_digest(np.asfortranarray(np.eye(3))) == record.array_digest(np.eye(3))
    with pytest.raises(ReportError, match="numbers only"):
        record.array_digest(np.array(["a"]))


def test_a_name_used_by_two_steps_is_refused():
    with pytest.raises(ReportError, match=r"'fit\.q' is written by two steps"):
        record.merge_flat({"fit.q": 1.0}, {"fit.q": 2.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quantity,rtol\nx,1\n", "has the columns"),
        ("quantity,rtol,atol,reason\nx,1e-6,0,\n", "a reason"),
        ("quantity,rtol,atol,reason\nx,-1,0,why\n", "rtol >= 0"),
        ("quantity,rtol,atol,reason\nx,small,0,why\n", "must be numbers"),
    ],
)
def test_a_table_of_tolerances_is_checked(tmp_path, text, message):
    path = tmp_path / "tolerances.csv"
    path.write_text(text)
    with pytest.raises(ReportError, match=message):
        record.read_tolerances(path)


def test_a_missing_or_broken_results_file_is_named(tmp_path):
    with pytest.raises(ReportError, match="does not exist"):
        record.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("[1, 2")
    with pytest.raises(ReportError, match="not a JSON file"):
        record.read_json(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ReportError, match="one mapping"):
        record.read_json(tmp_path / "list.json")
