"""The record of results: what was computed, written so that two runs and two machines can be compared.

A record has three parts, and each is compared by its own rule:

- *simulations*: one SHA-256 per variable over its float64 bytes. The engine promises equal bits on every
  machine, so these must be equal.
- *estimates*: a flat mapping of names to numbers, exact to the last bit. They pass through BLAS and the C
  library, so two machines may differ; the tolerance of each quantity, with its reason, is a row of a table.
- *files*: one SHA-256 per result file. Equal between two runs on one machine; between machines only the list
  of names is compared, because a table or a figure of an estimate may differ in a last digit.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from villageflow.errors import ReportError

Scalar: TypeAlias = str | bool | int | float
Record: TypeAlias = dict[str, Any]

TOLERANCE_COLUMNS = ["quantity", "rtol", "atol", "reason"]


@dataclass(frozen=True)
class Tolerance:
    """How far a quantity may be from the committed record: ``|a - b| <= atol + rtol * |b|``.

    Parameters
    ----------
    quantity : str
        Name of the quantity or a pattern with ``*``; the first row that matches counts.
    rtol, atol : float
        Relative and absolute part, both >= 0.
    reason : str
        Why the two may differ at all. It is part of the record and never empty.
    """

    quantity: str
    rtol: float
    atol: float
    reason: str


@dataclass(frozen=True)
class Difference:
    """One quantity that breaks its rule, with both values as text."""

    quantity: str
    expected: str
    actual: str
    rule: str


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as canonical JSON: sorted keys, exact floats, one value per line, no NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_plain(value, ""), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a mapping that `write_json` wrote."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReportError(f"{path} does not exist; run the step that writes it") from error
    except ValueError as error:
        raise ReportError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(value, dict):
        raise ReportError(f"{path} holds a {type(value).__name__}; a results file is one mapping of names to values")
    return value


def merge_flat(*parts: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """One flat mapping out of several; a name that occurs in two of them is an error."""
    merged: dict[str, Scalar] = {}
    for part in parts:
        twice = sorted(set(merged) & set(part))
        if twice:
            raise ReportError(f"result {twice[0]!r} is written by two steps; give one of them another name")
        merged.update(part)
    return merged


def array_digest(values: np.ndarray[Any, Any]) -> str:
    """SHA-256 over the little-endian bytes of an array in C order.

    Floating-point numbers are taken as float64 and integers as int64; nothing is rounded, and signed zeros
    and the bits of a NaN count.
    """
    kind = values.dtype.kind
    if kind not in "fiub":
        raise ReportError(f"an array of type {values.dtype} has no place in the record; numbers only")
    plain = np.ascontiguousarray(values, dtype="<f8" if kind == "f" else "<i8")
    return hashlib.sha256(plain.tobytes()).hexdigest()


def dataset_digest(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Dims, shape and digest of every numeric variable and coordinate of a simulation result."""
    return {
        str(name): {
            "dims": [str(dim) for dim in array.dims],
            "shape": list(array.shape),
            "sha256": array_digest(array.values),
        }
        for name, array in sorted(dataset.variables.items(), key=lambda item: str(item[0]))
        if array.dtype.kind in "fiub"
    }


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_record(
    simulations: Mapping[str, xr.Dataset | Path],
    estimates: Mapping[str, Scalar],
    files: Iterable[Path],
    *,
    base: Path,
) -> Record:
    """Gather the record of one run.

    Parameters
    ----------
    simulations : mapping of str to Dataset or path of a netCDF file
        Results of the engine, by name of the experiment.
    estimates : mapping of str to scalar
        Flat, exact values of everything that was estimated or fitted.
    files : iterable of paths
        Result files (tables, figures, paper), inside `base`.
    base : Path
        Folder to which the file names are relative.

    Returns
    -------
    dict
        ``{"simulations": ..., "estimates": ..., "files": ...}``, ready for `write_json`.
    """
    record: Record = {"simulations": {}, "estimates": dict(estimates), "files": {}}
    for name, source in simulations.items():
        if isinstance(source, Path):
            with xr.open_dataset(source, engine="h5netcdf", decode_times=False) as dataset:
                record["simulations"][name] = dataset_digest(dataset)
        else:
            record["simulations"][name] = dataset_digest(source)
    for path in sorted(files):
        record["files"][path.relative_to(base).as_posix()] = file_digest(path)
    return record


def read_tolerances(path: Path) -> tuple[Tolerance, ...]:
    """Read the table of tolerances (columns quantity, rtol, atol, reason)."""
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != TOLERANCE_COLUMNS:
            raise ReportError(
                f"{path} has the columns {reader.fieldnames}; a table of tolerances has {TOLERANCE_COLUMNS}"
            )
        return tuple(_tolerance(row, f"{path}, line {reader.line_num}") for row in reader)


def compare(expected: Record, actual: Record, tolerances: Iterable[Tolerance] = ()) -> list[Difference]:
    """Differences between a run and the committed record, each judged by the rule of its part.

    Without a matching tolerance an estimate must be equal. A quantity that one side lacks is a difference.
    """
    return [
        *_compare_simulations(_flatten(expected["simulations"]), _flatten(actual["simulations"])),
        *_compare_estimates(expected["estimates"], actual["estimates"], tuple(tolerances)),
        *_compare_names(expected["files"], actual["files"]),
    ]


def describe(differences: list[Difference], *, n_shown: int = 40) -> str:
    """A readable report; one line when there is nothing to report."""
    if not differences:
        return "the results agree with the committed record"
    lines = [f"{len(differences)} results differ from the committed record:"]
    for item in differences[:n_shown]:
        lines.append(f"  {item.quantity}: expected {item.expected}, got {item.actual} ({item.rule})")
    if len(differences) > n_shown:
        lines.append(f"  ... and {len(differences) - n_shown} more")
    return "\n".join(lines)


def _plain(value: Any, place: str) -> Any:
    """Objects that JSON can hold; numpy scalars are converted, a number that is not finite is refused."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{place}.{key}" if place else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ReportError(f"result {place!r} is {value}; a result that is not a number must be left out and explained")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ReportError(f"result {place!r} is a {type(value).__name__}; results are numbers, texts, lists and mappings")


def _tolerance(row: dict[str, str], place: str) -> Tolerance:
    try:
        rule = Tolerance(row["quantity"], float(row["rtol"]), float(row["atol"]), row["reason"].strip())
    except (TypeError, ValueError) as error:
        raise ReportError(f"{place}: rtol and atol must be numbers ({error})") from error
    if not rule.reason or not (rule.rtol >= 0 and rule.atol >= 0):
        raise ReportError(f"{place}: a tolerance needs rtol >= 0, atol >= 0 and a reason")
    return rule


def _flatten(simulations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{run}/{name}": entry for run, variables in simulations.items() for name, entry in variables.items()}


def _compare_simulations(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[Difference]:
    found = _compare_names(expected, actual)
    for name in sorted(set(expected) & set(actual)):
        here, there = expected[name], actual[name]
        if (here["dims"], here["shape"]) != (there["dims"], there["shape"]):
            found.append(
                Difference(name, f"{here['dims']} {here['shape']}", f"{there['dims']} {there['shape']}", "shape")
            )
        elif here["sha256"] != there["sha256"]:
            found.append(
                Difference(name, here["sha256"][:12], there["sha256"][:12], "simulations are equal bit for bit")
            )
    return found


def _compare_estimates(
    expected: Mapping[str, Scalar], actual: Mapping[str, Scalar], tolerances: tuple[Tolerance, ...]
) -> list[Difference]:
    found = _compare_names(expected, actual)
    for name in sorted(set(expected) & set(actual)):
        here, there = expected[name], actual[name]
        rule = next((item for item in tolerances if fnmatchcase(name, item.quantity)), None)
        if not _close(here, there, rule):
            text = f"rtol {rule.rtol:g}, atol {rule.atol:g}: {rule.reason}" if rule else "no tolerance: equal"
            found.append(Difference(name, repr(here), repr(there), text))
    return found


def _close(expected: Scalar, actual: Scalar, rule: Tolerance | None) -> bool:
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in (expected, actual))
    if rule is None or not numbers:
        return expected == actual
    return abs(float(actual) - float(expected)) <= rule.atol + rule.rtol * abs(float(expected))


def _compare_names(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[Difference]:
    missing = [
        Difference(name, "present", "missing", "every result is there") for name in sorted(set(expected) - set(actual))
    ]
    added = [
        Difference(name, "absent", "present", "no result is added silently")
        for name in sorted(set(actual) - set(expected))
    ]
    return missing + added
