"""Every GET call of the public model corpus gives the cells that another reader sees, and what Vensim recorded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from villageflow.errors import ModelFileError
from villageflow.frontend.datafile import read_data_file
from villageflow.frontend.external import ExternalFiles

CORPUS = Path(__file__).parents[2].parent / "shared" / "conformance" / "test-models"

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(
        not CORPUS.is_dir(), reason=f"the model corpus is not beside the project, at {CORPUS}"
    ),
]

CALL = re.compile(r"GET[ _](?:XLS|DIRECT)[ _](DATA|CONSTANTS|LOOKUPS|SUBSCRIPT)\s*\(([^)]*)\)", re.IGNORECASE)

# How many series or which shape a call fills, where it is not one number; the reader of models knows it from the
# subscripts on the left.
SHAPES = {
    ("get_constants_incomplete_subscript", "B5"): (3, 2),
    ("get_constants_incomplete_subscript", "B2"): (3,),
    ("get_constants_subranges", "A1"): (3,),
    ("get_mixed_definitions", "C8*"): (2,),
    ("get_mixed_definitions", "var_dim*"): (4,),
    ("get_subscript_3d_arrays_xls", "C4"): (3, 2),
    ("get_subscript_3d_arrays_xls", "E4"): (3, 2),
    ("get_values_order", "var1all*"): (4,),
    ("get_values_order", "var4subdim*"): (2,),
    ("get_xls_cellrange", "valuev*"): (6,),
    ("get_xls_cellrange", "value1"): (6,),
    ("get_xls_cellrange", "value2"): (6,),
    ("with_lookup", "var1_"): (3, 3),
    ("get_data_args_3d_xls", "C5"): 2,
    ("get_data_args_3d_xls", "C7"): 2,
    ("get_lookups_data_3d_xls", "C5"): 2,
    ("get_lookups_data_3d_xls", "C7"): 2,
    ("get_lookups_subset", "C5"): 2,
    ("get_mixed_definitions", "C5"): 2,
    ("get_mixed_definitions", "data_dim"): 4,
    ("get_with_missing_values_xlsx", "C5"): 2,
    ("vector_order", "revenue"): 5,
    ("vector_order", "revenue_A"): 5,
    ("vector_order", "revenue_B"): 5,
    ("vector_order", "revenue_C"): 5,
}
# Defined names as another program shows them; the other reader knows no names.
NAMES = {
    ("get_mixed_definitions", "var_d1"): "B3", ("get_mixed_definitions", "var_d3"): "B4",
    ("get_mixed_definitions", "var_dim"): "B6", ("get_mixed_definitions", "data_d1"): "E3:I3",
    ("get_mixed_definitions", "data_d3"): "E4:I4", ("get_mixed_definitions", "data_dim"): "E6:I9",
    ("get_mixed_definitions", "time"): "E2:I2",
    ("get_values_order", "var1all"): "B3", ("get_values_order", "var2t1"): "B9",
    ("get_values_order", "var2t2"): "B10", ("get_values_order", "var2t3"): "B11",
    ("get_values_order", "var2t4"): "B12", ("get_values_order", "var4subdim"): "E10",
    ("get_xls_cellrange", "Time1"): "B4:G4", ("get_xls_cellrange", "Timev"): "B9:B14",
    ("get_xls_cellrange", "value1"): "B5:G5", ("get_xls_cellrange", "valuev"): "C9:C14",
    ("get_xls_cellrange", "Time2"): "B3:G3", ("get_xls_cellrange", "value2"): "B4:G4",
    ("vector_order", "revenue_A"): "B8:AZ12", ("vector_order", "revenue_B"): "B14:AZ18",
    ("vector_order", "revenue_C"): "B20:AZ24", ("vector_order", "revenue"): "B2:AZ6",
    ("vector_order", "time_index"): "B1:AZ1", ("with_lookup", "var1_"): "C5",
}  # fmt: skip
# What a call of get_constants or get_data names is stored under another name.
RENAMED = {"data.xls": "data.xlsx", "data down.xls": "data down.xlsx", "data across.xls": "data across.xlsx",
           "data.csv": "data down.csv"}  # fmt: skip


def calls() -> list[tuple[str, str, tuple[str, ...]]]:
    found = set()
    for path in sorted(CORPUS.glob("tests/*/*.mdl")):
        for match in CALL.finditer(path.read_text(encoding="utf-8", errors="replace")):
            found.add((path.parent.name, match[1].upper(), tuple(re.findall(r"'([^']*)'", match[2]))))
    return sorted(found)


def raw_cells(folder: str, file: str, tab: str) -> np.ndarray:
    """All cells of a sheet as pandas reads them, text as NaN."""
    path = CORPUS / "tests" / folder / file
    if path.suffix == ".csv":
        table = pd.read_csv(path, header=None, sep=tab, dtype=str).apply(lambda column: column.str.strip())
    else:
        table = pd.read_excel(path, header=None, sheet_name=tab, engine="calamine")
    return table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)


def corner(text: str) -> tuple[int, int]:
    letters, digits = re.fullmatch("([A-Z]+)([0-9]+)", text).groups()
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - 64
    return int(digits) - 1, column - 1


def raw_series(raw, folder, line, cell, n):
    top, left = corner(NAMES.get((folder, cell), cell).partition(":")[0])
    line = NAMES.get((folder, line), line)
    if ":" in line:
        start, end = (corner(part) for part in line.split(":"))
        across = start[0] == end[0]
        count = max(end[0] - start[0], end[1] - start[1]) + 1
        at = start[0] if across else start[1]
    else:
        across = line.isdigit()
        at = int(line) - 1 if across else corner(line + "1")[1]
        count = raw.shape[across] - (left if across else top)
    if across:
        return raw[at, left : left + count], raw[top : top + n, left : left + count].T
    return raw[top : top + count, at], raw[top : top + count, left : left + n]


@pytest.mark.parametrize(("folder", "kind", "arguments"), calls(), ids=lambda part: " ".join(part) if
                         isinstance(part, tuple) else part)
def test_call_gives_the_cells_that_another_reader_sees(folder, kind, arguments):
    files = ExternalFiles(CORPUS / "tests" / folder)
    file, tab, *rest = arguments
    if file in RENAMED:
        with pytest.raises(ModelFileError, match=f"{file} does not exist.*'{RENAMED[file]}'"):
            files.constants(file, tab, "A1", ())
        file = RENAMED[file]
        arguments = (file, *arguments[1:])
    raw = raw_cells(folder, file, tab)
    shape = SHAPES.get((folder, rest[-1]), ())
    if kind == "CONSTANTS":
        values = files.constants(*arguments, shape)
        cell = rest[0].removesuffix("*")
        top, left = corner(NAMES.get((folder, cell), cell).partition(":")[0])
        rows, columns = (1, 1, *shape)[-2:]
        block = raw[top:, left:][:columns, :rows].T if rest[0].endswith("*") else raw[top:, left:][:rows, :columns]
        np.testing.assert_array_equal(values, block.reshape(shape), strict=True)
    elif kind == "SUBSCRIPT":
        (top, left), (bottom, right) = corner(rest[0]), corner(rest[1])
        block = raw[top : bottom + 1, left : right + 1].ravel()
        assert files.subscripts(*arguments) == [f"{rest[2]}{number:.0f}" for number in block]
    else:
        n = shape if isinstance(shape, int) else 1  # a name may also be read as constants
        read = files.series if kind == "DATA" else files.lookup
        times, values = read(*arguments, n)
        x, y = raw_series(raw, folder, rest[0], rest[1], n)
        told = ~np.isnan(x) & ~np.isnan(y).all(axis=1)
        np.testing.assert_array_equal(times, x[told], strict=True)
        np.testing.assert_array_equal(values, y[told], strict=True)
        assert values.shape == (times.size, n) and times.size > 1
    assert [path.name for path in files.used] == [file]


def test_the_corpus_has_calls_of_every_kind():
    kinds = [kind for _, kind, _ in calls()]
    assert len(kinds) >= 45
    assert {kind: kinds.count(kind) > 1 for kind in set(kinds)} == dict.fromkeys(
        ("DATA", "CONSTANTS", "LOOKUPS", "SUBSCRIPT"), True
    )


def test_a_gap_is_bridged_as_vensim_recorded():
    files = ExternalFiles(CORPUS / "tests/get_with_missing_values_xlsx")
    recorded = read_data_file(CORPUS / "tests/get_with_missing_values_xlsx/output.tab")
    for row, column in (("8", "3"), ("10", "4")):
        x, y = files.lookup("input.xlsx", "Hoja1", row, "A9", 1)
        times, values = recorded[f"out lookup{column}"]
        np.testing.assert_array_equal(np.interp(times, x, y[:, 0]), values)
        times, values = recorded[f"out data interp{column}"]
        np.testing.assert_array_equal(np.interp(times, x, y[:, 0]), values)
    times, y = files.series("input.xlsx", "Hoja1", "1", "C5", 2)
    for j, element in enumerate("AB"):
        told = ~np.isnan(y[:, j])
        at, values = recorded[f"out data interp2[{element}]"]
        np.testing.assert_array_equal(np.interp(at, times[told], y[told, j]), values)


def test_output_of_another_model():
    series = read_data_file(CORPUS / "tests/data_from_other_model/data.tab")
    times, values = series["var 3dim[C,E,B]"]
    assert times[0] == 0 and times.size == values.size > 10
    assert series["FINAL TIME"][0].tolist() == [0.0]
    assert values[:3].tolist() == [2, 2, 2]


RECORDS = sorted(path for path in CORPUS.glob("*/*/output.*") if path.suffix in (".csv", ".tab"))
LATIN = "unicode_characters/output.tab"


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_record_of_the_corpus_is_a_data_file(path):
    encoding = None
    if path.as_posix().endswith(LATIN):
        with pytest.raises(ModelFileError, match=r"line 1: the bytes are not UTF-8; .*give its encoding"):
            read_data_file(path)
        encoding = "latin-1"
    series = read_data_file(path, encoding=encoding)
    assert series
    assert all(times.shape == values.shape for times, values in series.values())
