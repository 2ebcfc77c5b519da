"""The public model corpus: every file with a record matches it, or stands in a table that says why not."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

import villageflow as vf
from villageflow.ensemble.simulate import time_grid
from villageflow.errors import UnsupportedError, VillageflowError
from villageflow.integrate.adaptive import run_adaptive
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.names import canonical
from villageflow.program.adaptive_reference import run_adaptive_reference
from villageflow.program.emit import compile_model
from villageflow.program.reference import run_reference
from villageflow.timegrid import TimeGrid

CORPUS = Path(__file__).parents[2].parent / "shared" / "conformance" / "test-models"

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(
        not CORPUS.is_dir(), reason=f"the model corpus is not beside the project, at {CORPUS}"
    ),
]

RELATIVE = 1e-5  # of a column's largest value: Vensim computes in single precision
FLOOR = 1e-12  # sin(pi) of the nearest double is 1.2e-16, where a record says 0

# Files that are refused by name, with what the message must say.  Folders of arrays, macros and data are listed
# by their beginning; each file below them is still a test of its own.
REFUSED_FOLDERS = {
    "tests/subscript": r"subscript|arrays|\?\?\?",
    "tests/except": "subscript",
    "tests/macro": "macro|MACRO",
    "tests/get_": "GET DIRECT|subscript|data variable",
    "tests/data_from": "data variable|subscript range",
    "tests/non_negative": "non-negative|malformed XML",
    "samples/bpowers-hares_and_lynxes_modules": "modules",
}
# fmt: off
_ARRAYS = [
    "allocate_available", "allocate_by_priority", "arithmetics", "arithmetics_exp",
    "array_with_line_break", "conditional_subscripts", "elm_count", "forecast", "invert_matrix",
    "min_max_1arg", "multiple_lines_def", "partial_range_definitions", "power", "reality_checks",
    "repeated_subscript", "sample_if_true", "smaller_range", "subrange_merge", "subset_duplicated_coord",
    "tabbed_arrays", "vector_order", "vector_select", "with_lookup",
]
# fmt: on
REFUSED_FOLDERS |= {f"tests/{folder}/": "subscript range|uses arrays" for folder in _ARRAYS}
REFUSED = {
    "samples/teacup/teacup.stmx": "non-negative stock",
    "samples/teacup/teacup_legacy.stmx": "non-negative stock",
    "samples/teacup/teacup_w_diagram.xmile": "non-negative stock",
    "tests/control_vars/test_control_vars.mdl": "INITIAL TIME depends on 'time'",
    "tests/delay_xmile/test_delay_xmile.xmile": "non-negative stock",
    "tests/delays/test_delays.mdl": "order of DELAY N is order_variable",
    "tests/dynamic_final_time/test_dynamic_final_time.mdl": "FINAL TIME depends on 'time'",
    "tests/smooth/test_smooth.mdl": "order of SMOOTH N is variable_order",
    # broken inputs: 'not' stands where XMILE has NOT with its operand, and a name holds what no name may
    "tests/logicals/test_logicals.stmx": "not understood from 'not THEN",
    "tests/special_characters_xmile/test_special_variable_names.stmx": "not understood from",
}
MISMATCHES = {
    "samples/Roessler_Chaos/roessler_chaos.mdl": "chaos: the rounding of Vensim's single precision grows to 1e-4",
    "tests/active_initial/test_active_initial.stmx": "the record is of the Vensim model, which this file is not",
    "tests/active_initial/test_active_initial.xmile": "the record is of the Vensim model, which this file is not",
}
# Files that draw: the draws of the record cannot be had again, so its noise is supplied and all else must follow.
NOISE = {"samples/Query_file/Query_file.mdl": ("kwhperstoveperday",)}
RECORDED_WITH = {"tests/zeroled_decimals/test_zeroled_decimals.xmile": "euler"}  # the file says RK4


def _files() -> list[str]:
    found = [path for path in CORPUS.glob("*/*/*") if path.suffix.lower() in (".mdl", ".xmile", ".stmx")]
    return sorted(path.relative_to(CORPUS).as_posix() for path in found if _record_path(path) is not None)


def _record_path(path: Path) -> Path | None:
    names = ("output.tab", "output.csv") if path.suffix.lower() == ".mdl" else ("output.csv", "output.tab")
    return next((path.parent / name for name in names if (path.parent / name).is_file()), None)


def expected_refusal(name: str) -> str | None:
    if name in REFUSED:
        return REFUSED[name]
    return next((message for start, message in REFUSED_FOLDERS.items() if name.startswith(start)), None)


def read_record(path: Path) -> tuple[list[str], list[list[str]]]:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
    rows = list(csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ","))
    return rows[0], rows[1:]


def half_of_last_digit(cell: str) -> float:
    match = re.fullmatch(r"[-+]?\d*(?:\.(\d*))?(?:[eE]([-+]?\d+))?", cell.strip())
    if match is None or not (match[1] or match[2]):
        return 0.0  # a whole number: taken as exact
    return 0.5000001 * 10.0 ** (int(match[2] or 0) - len(match[1] or ""))


@functools.cache
def read_model(name: str):
    return vf.read_model(CORPUS / name)


def compare(name: str, method: str | None = None) -> tuple[list[str], int]:
    """Differences from the record as text, and the number of columns compared."""
    model = read_model(name)
    header, rows = read_record(_record_path(CORPUS / name))
    columns = {canonical(title): j for j, title in enumerate(header) if j}
    saves = [column for column in columns if column in model.variables]
    times = np.array([float(row[0]) for row in rows])
    noise = {
        column: pd.Series([float(row[columns[column]]) for row in rows], index=times)
        for column in NOISE.get(name, ())
    }
    ds = vf.simulate(model, save=saves, method=method, noise=noise, errors="flag")
    at = np.abs(ds["time"].values - times[:, None]).argmin(axis=1)
    differences = []
    if np.abs(ds["time"].values[at] - times).max() > 1e-3:
        differences.append(f"recorded times {times[[0, -1]]} are not among those saved")
    for column in saves:
        cells = [row[columns[column]] if columns[column] < len(row) else "" for row in rows]
        told = np.array([cell.strip() not in ("", "?") for cell in cells])
        if not told.any():
            continue
        recorded = np.array([float(cell) if yes else np.nan for cell, yes in zip(cells, told, strict=True)])
        tolerance = np.maximum(RELATIVE * np.nanmax(np.abs(recorded)), FLOOR)
        tolerance = np.maximum(tolerance, [half_of_last_digit(cell) for cell in cells])
        values = ds[column].values[0, at]
        wrong = told & ~(np.abs(values - recorded) <= tolerance)
        if wrong.any():
            i = int(np.argmax(wrong))
            differences.append(f"{column} at {times[i]}: {values[i]!r}, recorded {cells[i]}")
    return differences, len(saves)


@pytest.mark.parametrize("name", _files())
def test_file_matches_its_record_or_is_refused_by_name(name):
    refusal = expected_refusal(name)
    if refusal is not None:
        with pytest.raises(VillageflowError, match=refusal) as caught:
            read_model(name)
        message = str(caught.value)
        assert Path(name).name in message
        assert "\n" not in message
        return
    differences, n_columns = compare(name, RECORDED_WITH.get(name))
    assert n_columns > 0, "no recorded column is a variable of the model"
    if name in MISMATCHES:
        assert differences, "matches now: take it out of MISMATCHES"
    else:
        assert not differences


def test_no_entry_of_a_table_is_stale():
    files = set(_files())
    assert set(REFUSED) | set(MISMATCHES) | set(RECORDED_WITH) | set(NOISE) <= files
    assert not set(REFUSED) & set(MISMATCHES)
    for start in REFUSED_FOLDERS:
        assert any(name.startswith(start) for name in files), start


@pytest.mark.parametrize("name", NOISE)
def test_noise_of_a_record_lies_in_the_range_of_our_own(name):
    """Without the record's draws, what depends on them differs and nothing else does."""
    model = read_model(name)
    header, rows = read_record(_record_path(CORPUS / name))
    position = {canonical(title): j for j, title in enumerate(header)}
    assert model.random_variables() == NOISE[name]
    for variable in NOISE[name]:
        recorded = np.array([float(row[position[variable]]) for row in rows])
        ours = vf.simulate(model, save=[variable])[variable].values[0]
        assert len(ours) == len(recorded)
        assert (ours != recorded).all()
        assert ks_2samp(ours, recorded).pvalue > 0.01


def test_most_scalar_models_match():
    matched = [name for name in _files() if expected_refusal(name) is None and name not in MISMATCHES]
    assert len(matched) >= 125


def test_file_whose_record_was_made_with_another_method():
    name = "tests/zeroled_decimals/test_zeroled_decimals.xmile"
    assert read_model(name).method == "rk4"
    assert compare(name)[0]


@pytest.mark.parametrize("name", [name for name in _files() if expected_refusal(name) is None])
def test_reference_and_kernel_give_the_same_bits(name):
    model = read_model(name)
    saves = tuple(
        v for v, variable in model.variables.items() if variable.kind.value in ("stock", "auxiliary")
    )
    whole = time_grid(model)
    n_steps = min(whole.n_steps, 60)
    grid = TimeGrid(whole.start, whole.start + n_steps * whole.step, whole.step, whole.step)
    varied = tuple(sorted(set(model.constants) - model.structural.keys()))[:2]
    program = compile_model(model, varied=varied, saves=saves)
    parameters = {constant: model.constants[constant] for constant in varied}
    columns = np.array([[value] for value in parameters.values()]).reshape(len(varied), 1)
    for method in ("euler", "rk4"):
        values, _ = run_program(program, grid, columns, settings=RunSettings(method))
        expected = run_reference(program, grid, parameters, method)
        assert values[:, :, 0].tobytes() == expected.tobytes(), method


PER_STEP = ("comparisons/", "delay_fixed/", "delay_numeric_error/", "delay_pipeline/", "time/")


@pytest.mark.parametrize("name", [name for name in _files() if expected_refusal(name) is None])
def test_adaptive_kernel_and_its_reference_give_the_same_bits(name):
    """Every model but those that go by the time step, which are refused by name."""
    model = read_model(name)
    saves = tuple(
        v for v, variable in model.variables.items() if variable.kind.value in ("stock", "auxiliary")
    )
    whole = time_grid(model)
    grid = TimeGrid(whole.start, whole.start + min(whole.n_steps, 40) * whole.step, whole.step, 4 * whole.step)
    varied = tuple(sorted(set(model.constants) - model.structural.keys()))[:2]
    if name.removeprefix("tests/").startswith(PER_STEP):
        with pytest.raises(UnsupportedError, match=r"cannot run with steps of variable length: '.*' uses "):
            compile_model(model, varied=varied, saves=saves, adaptive=True)
        return
    program = compile_model(model, varied=varied, saves=saves, adaptive=True)
    parameters = {constant: model.constants[constant] for constant in varied}
    columns = np.array([[value] for value in parameters.values()]).reshape(len(varied), 1)
    for tolerance in (1e-3, 1e-6):
        found = run_adaptive(program, grid, columns, settings=RunSettings("dopri5", tolerance=(tolerance, tolerance)))
        expected, outcome, _ = run_adaptive_reference(program, grid, parameters, (tolerance, tolerance))
        assert found.values[:, :, 0].tobytes() == expected.tobytes()
        assert found.outcome[0] == outcome
