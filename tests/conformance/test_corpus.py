"""The public model corpus: every file with a record matches it, or stands in `exceptions.csv` with the cause."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import records
import table
from scipy.stats import ks_2samp

import villageflow as vf
from villageflow.ensemble.simulate import time_grid
from villageflow.errors import UnsupportedError, VillageflowError
from villageflow.integrate.adaptive import run_adaptive
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.program.adaptive_reference import run_adaptive_reference
from villageflow.program.emit import compile_model
from villageflow.program.reference import run_reference
from villageflow.timegrid import TimeGrid

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
FILES = records.files()
EXCEPTIONS = table.exceptions()
RUNNING = [name for name in FILES if name not in EXCEPTIONS or not EXCEPTIONS[name].is_refusal]

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(not FILES, reason=f"the model corpus is not beside the project, at {records.CORPUS}"),
]


@functools.cache
def record_of(name):
    return records.read_record(records.record_path(name))


@functools.cache
def model_of(name):
    return vf.read_model(records.CORPUS / name, data_files=records.data_files(name))


def differences(name, **settings):
    record = record_of(name)
    return records.compare(record, records.run_villageflow(name, record.variables, **settings))


@pytest.mark.parametrize("name", FILES)
def test_file_matches_its_record_or_is_an_exception_with_a_cause(name):
    exception = EXCEPTIONS.get(name)
    if exception is None:
        assert not differences(name)
    elif exception.is_refusal:
        with pytest.raises(VillageflowError) as caught:
            differences(name)
        message = str(caught.value)
        assert exception.text in message
        assert Path(name).name in message
        assert "\n" not in message
    else:
        assert differences(name), "matches now: take it out of exceptions.csv"


def test_no_exception_is_stale():
    assert set(EXCEPTIONS) <= set(FILES)
    assert {exception.cause for exception in EXCEPTIONS.values()} <= set(table.CAUSES)
    assert all(exception.text for exception in EXCEPTIONS.values())
    assert set(table.peer_causes()) <= set(FILES)


def test_numbers_of_matched_files_are_those_of_the_page():
    matched = [name for name in FILES if name not in EXCEPTIONS]
    counts = {kind: sum(1 for name in matched if records.kind(name) == kind) for kind in records.KINDS}
    assert counts == table.MATCHED
    text = PAGE.read_text(encoding="utf-8")
    for kind, number in counts.items():
        sound = [n for n in FILES if records.kind(n) == kind and (n in matched or EXCEPTIONS[n].cause != "broken")]
        assert f"| `{kind}` | {len(sound)} | {number} |" in text


def test_more_xmile_and_stella_files_match_than_in_pysd():
    assert table.MATCHED[".xmile"] + table.MATCHED[".stmx"] > table.PYSD_XMILE_AND_STELLA


def test_every_recorded_column_is_compared():
    name = "samples/teacup/teacup.mdl"
    record = record_of(name)
    frame = records.run_villageflow(name, record.variables)
    assert not records.compare(record, frame)
    for column in record.columns:
        title = next(title for title in frame if records.key(title) == records.key(column.title))
        assert records.compare(record, frame.drop(columns=title)) == (f"{column.title} is not a variable of the run",)
        moved = frame.assign(**{title: frame[title] + 2 * column.relative + 2 * column.half_digit.max()})
        assert [text.partition(" at ")[0] for text in records.compare(record, moved)] == [column.title]


def test_record_with_empty_cells_bare_carriage_returns_and_latin_1_is_read(tmp_path):
    path = tmp_path / "output.tab"
    path.write_bytes('Time\t"Fl\xf6w A[x 1,Y]"\tonce\tnever\r0\t1.50\t3\t\r1\t2\t?\r'.encode("latin-1"))
    record = records.read_record(path)
    assert record.time.values.tolist() == [0.0, 1.0]
    assert [records.key(column.title) for column in record.columns] == ["fl\xf6w_a[x_1,y]", "once"]
    assert record.columns[0].half_digit == pytest.approx([0.005, 0], rel=1e-6)
    np.testing.assert_array_equal(record.columns[1].values, [3.0, np.nan])


def test_spellings_of_one_column_have_one_key():
    spellings = ['Inflow A[Entry 1,Column 2]', 'inflow_a[entry_1, column_2]', '"Inflow A"["Entry 1",Column 2]']
    assert {records.key(title) for title in spellings} == {"inflow_a[entry_1,column_2]"}


def test_file_whose_record_was_made_with_another_method_matches_with_that():
    name = "tests/zeroled_decimals/test_zeroled_decimals.xmile"
    assert EXCEPTIONS[name].cause == "record"
    assert model_of(name).method == "rk4"
    assert not differences(name, method="euler")


def test_file_that_draws_matches_its_record_with_the_recorded_draws():
    """Without the record's draws, what depends on them differs; they lie in the range of our own."""
    name, drawn = "samples/Query_file/Query_file.mdl", "kwhperstoveperday"
    assert EXCEPTIONS[name].cause == "record"
    record = record_of(name)
    recorded = next(column for column in record.columns if column.variable == drawn).values
    assert not differences(name, noise={drawn: pd.Series(recorded, index=record.time.values)})
    assert model_of(name).random_variables() == (drawn,)
    ours = vf.simulate(model_of(name), save=[drawn])[drawn].values[0]
    assert len(ours) == len(recorded)
    assert (ours != recorded).all()
    assert ks_2samp(ours, recorded).pvalue > 0.01


@pytest.mark.parametrize("name", RUNNING)
def test_reference_and_kernel_give_the_same_bits(name):
    model = model_of(name)
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


# Files that go by the time step: fixed delays, samples, raw data, stocks kept from falling below zero.
PER_STEP = (
    "samples/Query_file/", "samples/teacup/teacup.stmx", "samples/teacup/teacup_legacy.stmx",
    "samples/teacup/teacup_w_diagram.xmile", "tests/comparisons/", "tests/data_from_other_model/test_",
    "tests/delay_fixed/", "tests/delay_numeric_error/", "tests/delay_pipeline/", "tests/delay_xmile/",
    "tests/delays/", "tests/forecast/", "tests/non_negative_", "tests/sample_if_true/", "tests/subscripted_delays/",
    "tests/time/", "tests/vector_order/", "tests/vector_select/",
)


@pytest.mark.parametrize("name", RUNNING)
def test_adaptive_kernel_and_its_reference_give_the_same_bits(name):
    """Every model but those that go by the time step, which are refused by name."""
    model = model_of(name)
    saves = tuple(
        v for v, variable in model.variables.items() if variable.kind.value in ("stock", "auxiliary")
    )
    whole = time_grid(model)
    grid = TimeGrid(whole.start, whole.start + min(whole.n_steps, 40) * whole.step, whole.step, 4 * whole.step)
    varied = tuple(sorted(set(model.constants) - model.structural.keys()))[:2]
    if name.startswith(PER_STEP):
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
