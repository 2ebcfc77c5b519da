"""What the GET functions of a model read: cells, names, series, elements, and delimited text."""

from __future__ import annotations

import datetime
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from villageflow.errors import ModelFileError
from villageflow.frontend import sheets, workbooks
from villageflow.frontend.external import ExternalFiles
from villageflow.frontend.sheets import address, parse_address, parse_column


@pytest.fixture
def files(tmp_path):
    return ExternalFiles(tmp_path)


TABLE = [["year", "a", "b"], [2000, 1.5, 10], [2001, 2.5, None], [2003, 4.5, 30]]
NAMES = [("years", "Data!$A$2:$A$4"), ("both", "Data!$B$2:$C$4"), ("corner", "Data!$B$2")]

# --- addresses ----------------------------------------------------------------------------------------------------


@given(st.integers(0, sheets.MAX_ROWS - 1), st.integers(0, sheets.MAX_COLUMNS - 1))
def test_an_address_is_read_as_it_is_written(row, column):
    assert parse_address(address(row, column)) == (row, column)
    assert parse_address(f"$ {address(row, column)}") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("B2", (1, 1)), (" $b$12 ", (11, 1)), ("aa1", (0, 26)), ("XFD1048576", (1048575, 16383)),
     ("XFE1", None), ("A1048577", None), ("A0", None), ("time1", None), ("4", None), ("A", None), ("", None)],
)  # fmt: skip
def test_addresses(text, expected):
    assert parse_address(text) == expected


def test_columns():
    texts = ("a", "Z", "AA", "XFD", "XFE", "1", "")
    assert [parse_column(text) for text in texts] == [0, 25, 26, 16383, None, None, None]


# --- constants ----------------------------------------------------------------------------------------------------

GRID = [["", 1, 2, 3], ["", 4, 5, 6]]


@pytest.mark.parametrize("suffix", [".xlsx", ".XLSX", ".xlsm", ".xls", ".csv", ".tab", ".txt"])
def test_constants_run_across_then_down_and_a_star_exchanges_the_two(tmp_path, write_xlsx, write_xls, files, suffix):
    path, tab = tmp_path / f"grid{suffix}", "Data"
    if suffix == ".xls":
        write_xls(path, {(i, j): float(v) for i, row in enumerate(GRID) for j, v in enumerate(row) if v != ""})
    elif suffix.lower() in workbooks.WORKBOOK_SUFFIXES:
        write_xlsx(path, GRID)
    else:
        tab = ""
        path.write_text("\n".join(("," if suffix == ".csv" else "\t").join(map(str, row)) for row in GRID))
    read = files.constants
    np.testing.assert_array_equal(read(path.name, tab, "b1", ()), np.array(1.0), strict=True)
    np.testing.assert_array_equal(read(path.name, tab, "B1", (3,)), [1.0, 2, 3], strict=True)
    np.testing.assert_array_equal(read(path.name, tab, "B1", (2, 3)), [[1.0, 2, 3], [4, 5, 6]], strict=True)
    np.testing.assert_array_equal(read(path.name, tab, "B1*", (2,)), [1.0, 4], strict=True)
    np.testing.assert_array_equal(read(path.name, tab, "B1*", (3, 2)), [[1.0, 4], [2, 5], [3, 6]], strict=True)
    np.testing.assert_array_equal(read(path.name, tab, "$C$2*", ()), np.array(5.0), strict=True)


@pytest.mark.parametrize("suffix", [".xlsx", ".xls"])
def test_a_name_covers_just_the_cells_that_are_needed(tmp_path, write_xlsx, write_xls, files, suffix):
    name = f"book{suffix}"
    if suffix == ".xlsx":
        write_xlsx(tmp_path / name, [row[1:] for row in GRID], names=[("Both", "'Data'!$A$1:$C$2")],
                   local=[("first", "Data!$A$1"), ("down", "Data!$A$1:$A$2")])
    else:
        cells = {(i, j): float(v) for i, row in enumerate(GRID) for j, v in enumerate(row[1:])}
        write_xls(tmp_path / name, cells,
                  names=[("Both", 0, 0, 1, 0, 2), ("first", 1, 0, 0, 0, 0), ("down", 1, 0, 1, 0, 0)])
    np.testing.assert_array_equal(files.constants(name, "data", "both", (2, 3)), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(files.constants(name, "data", "down*", (2,)), [1, 4])
    np.testing.assert_array_equal(files.constants(name, "data", "FIRST", (3,)), [1, 2, 3])  # one cell: where it starts
    with pytest.raises(ModelFileError, match=r"'down' covers 2 x 1 cells, and the model needs 1 x 2 .*the \*"):
        files.constants(name, "Data", "down", (2,))
    with pytest.raises(ModelFileError, match=r"'nobody' is neither a cell.*nor a defined name"):
        files.constants(name, "Data", "nobody", ())


def test_a_name_of_the_sheet_goes_before_one_of_the_workbook(tmp_path, write_xlsx, write_xls, files):
    write_xlsx(tmp_path / "a.xlsx", [[1, 2]], names=[("rate", "Data!$A$1")], local=[("rate", "Data!$B$1")])
    write_xls(tmp_path / "a.xls", {(0, 0): 1.0, (0, 1): 2.0}, names=[("rate", 0, 0, 0, 0, 0), ("rate", 1, 0, 0, 1, 1)])
    assert files.constants("a.xlsx", "Data", "rate", ()) == 2
    assert files.constants("a.xls", "Data", "rate", ()) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [(None, "B1 is empty"), ("text", "B1 holds the text 'text'"), (True, "B1 holds a logical value"),
     (datetime.date(2020, 1, 1), "B1 holds a date"), (datetime.timedelta(days=1), "B1 holds a date or time"),
     ("#DIV/0!", "B1 holds the error #DIV/0!"), ("#N/A", "B1 holds the text '#N/A'"),
     ("5%", "'5%', which is not a plain"),
     ("1,234", "'1,234', which is not a plain"), ("inf", "'inf'"), ("1e999", "not finite"),
     ("2020-01-01", "'2020-01-01', which is not a plain")],
)  # fmt: skip
def test_a_constant_that_is_no_number_is_refused_with_its_cell(tmp_path, write_xlsx, files, value, message):
    write_xlsx(tmp_path / "a.xlsx", [[1, value, 3]])
    with pytest.raises(ModelFileError, match=f"a.xlsx, sheet 'Data': cell .*{message}"):
        files.constants("a.xlsx", "Data", "A1", (3,))


@pytest.mark.parametrize(
    ("value", "message"),
    [(True, "A1 holds a logical value"), ("#DIV/0!", "A1 holds the error #DIV/0!"), ("x", "A1 holds the text 'x'")],
)
def test_a_constant_of_an_old_workbook_that_is_no_number(tmp_path, write_xls, files, value, message):
    write_xls(tmp_path / "a.xls", {(0, 0): value})
    with pytest.raises(ModelFileError, match=message):
        files.constants("a.xls", "Data", "A1", ())


def test_a_number_stored_as_text_is_a_number(tmp_path, write_xlsx, files):
    write_xlsx(tmp_path / "a.xlsx", [[" 1.5e3 ", "-.5", "+7."]])
    assert files.constants("a.xlsx", "Data", "A1", (3,)).tolist() == [1500, -0.5, 7]


def test_more_than_two_dimensions_are_refused(tmp_path, files):
    with pytest.raises(ModelFileError, match="3 dimensions"):
        files.constants("a.xlsx", "Data", "A1", (1, 2, 3))


def test_cells_beyond_the_sheet_are_empty(tmp_path, write_xlsx, files):
    write_xlsx(tmp_path / "a.xlsx", [[1]])
    with pytest.raises(ModelFileError, match="cell ZZ99 is empty"):
        files.constants("a.xlsx", "Data", "ZZ99", ())


# --- formulas -----------------------------------------------------------------------------------------------------


def test_a_formula_without_its_result_is_refused(tmp_path, write_xlsx, files):
    write_xlsx(tmp_path / "a.xlsx", [[1, "=A1+1"], [2, 5]])
    message = r"B1 holds a formula without its result; open .* and save"
    with pytest.raises(ModelFileError, match=message):
        files.constants("a.xlsx", "Data", "A1", (2,))
    with pytest.raises(ModelFileError, match=message):
        files.series("a.xlsx", "Data", "A", "B1", 1)


def with_results(path, results):
    """Put results into the formulas that openpyxl stores without any."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    part = "xl/worksheets/sheet1.xml"
    for cell, result, kind in results:
        text = parts[part].decode()
        start = text.index(f'<c r="{cell}"')
        end = text.index("</c>", start)
        formula = text[text.index("<f>", start) : text.index("</f>", start) + 4]
        parts[part] = (text[:start] + f'<c r="{cell}" t="{kind}">{formula}<v>{result}</v>' + text[end:]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_the_stored_result_of_a_formula_is_read_and_an_empty_text_is_missing(tmp_path, write_xlsx, files):
    path = write_xlsx(tmp_path / "a.xlsx", [[1, "=A1+1"], [2, '=""'], [3, 9]])
    with_results(path, [("B1", "2", "n"), ("B2", "", "str")])
    times, values = files.series("a.xlsx", "Data", "A", "B1", 1)
    assert (times.tolist(), values.ravel().tolist()) == ([1, 3], [2, 9])


# --- series -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "cell"), [("A", "B2"), ("a", "b2"), ("years", "both"), ("years", "B2"), ("A", "both"),
                                            ("years", "corner"), ("A", "corner")])  # fmt: skip
def test_series_run_down(tmp_path, write_xlsx, files, line, cell):
    write_xlsx(tmp_path / "a.xlsx", TABLE, names=NAMES)
    for read in (files.series, files.lookup):
        times, values = read("a.xlsx", "Data", line, cell, 2)
        np.testing.assert_array_equal(times, [2000.0, 2001, 2003], strict=True)
        np.testing.assert_array_equal(values, [[1.5, 10], [2.5, np.nan], [4.5, 30]], strict=True)


@pytest.mark.parametrize(("line", "cell"), [("1", "B2"), ("years", "both"), ("1", "both"), ("years", "B2")])
def test_series_run_across(tmp_path, write_xlsx, files, line, cell):
    write_xlsx(tmp_path / "a.xlsx", zip(*TABLE, strict=True),
               names=[("years", "Data!$B$1:$D$1"), ("both", "Data!$B$2:$D$3")])
    times, values = files.series("a.xlsx", "Data", line, cell, 2)
    np.testing.assert_array_equal(times, [2000.0, 2001, 2003], strict=True)
    np.testing.assert_array_equal(values, [[1.5, 10], [2.5, np.nan], [4.5, 30]], strict=True)


def test_points_without_time_or_value_are_left_out(tmp_path, write_xlsx, files):
    rows = [[1, 10], [None, 20], ["note", 30], [4, None], [5, "text"], [6, "#N/A"], [7, ":NA:"], [8, 80], [None, None]]
    write_xlsx(tmp_path / "a.xlsx", rows)
    times, values = files.series("a.xlsx", "Data", "A", "B1", 1)
    assert (times.tolist(), values.tolist()) == ([1, 8], [[10], [80]])


def test_a_column_that_is_also_a_name_is_a_column_beside_a_cell(tmp_path, write_xlsx, files):
    write_xlsx(tmp_path / "a.xlsx", [[1, 10, 5], [2, 20, 6]], names=[("a", "Data!$C$1:$C$2"), ("y", "Data!$B$1:$B$2")])
    assert files.series("a.xlsx", "Data", "A", "B1", 1)[0].tolist() == [1, 2]
    assert files.series("a.xlsx", "Data", "A", "y", 1)[0].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("rows", "line", "cell", "n", "message"),
    [
        ([[1, 5], [1, 6]], "A", "B1", 1, "the time 1 in cell A2 does not exceed the one before it, 1"),
        ([[2, 1, 3], [5, 6, 7]], "1", "A2", 1, "the time 1 in cell B1 does not exceed"),
        ([[1, None], [2, None]], "A", "B1", 1, "no time in A has a value in the series from B1"),
        ([["x", 1], ["y", 2]], "A", "B1", 1, "no time in A has a value"),
        ([[1, 5], [2, 6]], "A", "B1", 2, "the series from cell C1 holds no number"),
        ([[1, 2], [5, 6]], "1", "A2", 2, "the series from cell A3 holds no number"),
        ([[1, 5], [2, 6]], "A", "B9", 1, "there are no cells at B9"),
        ([[1, 5], [2, 6]], "1", "Z9", 1, "there are no cells at Z9"),
        ([[1, 5], [2, 6]], "0", "B1", 1, "'0' is neither a row number, the letters of a column"),
        ([[1, 5], [2, 6]], "1048577", "B1", 1, "is neither a row number"),
        ([[1, 5], [2, 6]], "nobody", "B1", 1, "'nobody' is neither a row number"),
        ([[1, 5], [2, "3%"]], "A", "B1", 1, "cell B2 holds '3%', which is not a plain number"),
    ],
)
def test_faults_of_a_series_name_the_cell(tmp_path, write_xlsx, files, rows, line, cell, n, message):
    write_xlsx(tmp_path / "a.xlsx", rows)
    with pytest.raises(ModelFileError, match=message) as caught:
        files.series("a.xlsx", "Data", line, cell, n)
    assert str(caught.value).startswith("a.xlsx, sheet 'Data': ")
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("years", "Data!$A$1:$B$2", "covers 2 x 2 cells"), ("years", "Other!$A$1:$A$2", "lies on sheet 'Other'"),
     ("years", "SUM(Data!$A$1:$A$2)", "must be one block"), ("years", "Data!$A$1,Data!$A$2", "must be one block"),
     ("years", "Data!$A$1:$A$3", "no time"), ("years", "#REF!", "must be one block"),
     ("years", "[1]Data!$A$1:$A$2", "lies on sheet")],
)  # fmt: skip
def test_a_name_that_is_not_one_line_is_refused(tmp_path, write_xlsx, files, name, text, message):
    write_xlsx(tmp_path / "a.xlsx", [[1, 5], [2, 6]], names=[(name, text), ("data", "Data!$B$8:$B$10")])
    with pytest.raises(ModelFileError, match=message):
        files.series("a.xlsx", "Data", "years", "data", 1)


# --- subscripts ---------------------------------------------------------------------------------------------------

ELEMENTS = [["x", "one", 2, None], [None, 3.5, " four ", 5]]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [("B1", "C2", ["one", "2", "3.5", "four"]), ("B1", "", ["one", "2", "3.5", "four", "5"]), ("b1", "1", ["one", "2"]),
     ("B1", "B", ["one", "3.5"]), ("A1", "A9", ["x"]), ("named", "", ["2", "four"])],
)  # fmt: skip
def test_subscripts_are_read_across_then_down(tmp_path, write_xlsx, files, first, last, expected):
    write_xlsx(tmp_path / "a.xlsx", ELEMENTS, names=[("named", "Data!$C$1:$C$2")])
    assert files.subscripts("a.xlsx", "Data", first, last, "") == expected
    assert files.subscripts("a.xlsx", "Data", first, last, "E") == ["E" + text for text in expected]


def test_faults_of_subscripts(tmp_path, write_xlsx, files):
    write_xlsx(tmp_path / "a.xlsx", [["x", "x"], [True, 1]])
    for cells, message in ((("A1", "B1"), "'x' in cell B1 is repeated"), (("A2", "B2"), "A2 holds a logical value"),
                           (("C1", "C2"), "no cell from C1 to C2"), (("A1", "!"), "the last cell '!'")):  # fmt: skip
        with pytest.raises(ModelFileError, match=message):
            files.subscripts("a.xlsx", "Data", *cells, "")


# --- delimited text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tab", "text"),
    [("a.csv", "", "t,x\n1,5\n2,6"),
     ("a.csv", ",", '"t" , "x, y"\r\n1, 5\r\n2, 6\r\n'), ("a.CSV", "Sheet1", "t,x\r1,5\r2,6\r"),
     ("a.tab", "", "t\tx\n1\t5\n2\t6"), ("a.txt", "\\t", "t\tx\n1\t5\n2\t6"), ("a.tsv", ";", "t;x\n1;5\n2;6"),
     ("a.csv", ";", "\ufefft;x\n1;5\n2;6"), ("a.csv", "\t", "t\tx\n1\t5\n2\t6"), ("a.txt", " ", "t x\n1 5\n2 6")],
)  # fmt: skip
def test_separators_and_line_ends(tmp_path, files, name, tab, text):
    (tmp_path / name).write_bytes(text.encode())
    times, values = files.series(name, tab, "A", "B2", 1)
    assert (times.tolist(), values.ravel().tolist()) == ([1, 2], [5, 6])


def test_text_in_utf_16_is_read_by_its_mark(tmp_path, files):
    (tmp_path / "a.txt").write_bytes("é\tx\n1\t5".encode("utf-16"))
    assert files.constants("a.txt", "", "B2", ()) == 5


def test_one_file_may_be_read_with_two_separators(tmp_path, files):
    (tmp_path / "a.csv").write_text("1;2,3")
    assert files.constants("a.csv", ";", "A1", ()) == 1
    assert files.constants("a.csv", ",", "B1", ()) == 3
    assert len(files.used) == 1


@pytest.mark.parametrize(
    ("content", "tab", "message"),
    [(b"1,2\n\xff,3", "", "a.csv, line 2: the bytes are not UTF-8"), (b"1,\0", "", "null characters"),
     (b"1,2", "ab;", None), (b"1,2", ";;", "';;' is not a separator"), (b"1,2", "\n", "is not a separator"),
     (b"1,\"2", ",", None), (b"5,1,234", ",", None), (b"1," + b"9" * 200_000, "", "line 1: field larger")],
)  # fmt: skip
def test_text_files_that_cannot_be_read(tmp_path, files, content, tab, message):
    (tmp_path / "a.csv").write_bytes(content)
    if message is None:
        assert files.constants("a.csv", tab, "A1", ()) in (1, 5)
    else:
        with pytest.raises(ModelFileError, match=message):
            files.constants("a.csv", tab, "A1", ())


def test_a_decimal_comma_is_refused(tmp_path, files):
    (tmp_path / "a.csv").write_text("1,5;2")
    with pytest.raises(ModelFileError, match="cell A1 holds '1,5', which is not a plain number"):
        files.constants("a.csv", ";", "A1", ())
