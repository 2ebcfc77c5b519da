"""Data files: every layout gives the same series, and a fault is named with its line."""

from __future__ import annotations

import pytest

from villageflow.errors import ModelFileError
from villageflow.frontend.datafile import read_data_file
from villageflow.frontend.external import ExternalFiles


def lists(series):
    return {name: (times.tolist(), values.tolist()) for name, (times, values) in series.items()}


EXPECTED = {"x": ([0, 1, 2], [5, 6, 7]), "y[A,B]": ([0, 2], [-1, 1e-3]), "z": ([], [])}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tab", "Time\tx\ty[A,B]\tz\n0\t5\t-1\t\n1\t6\t\t\n2\t7\t1e-3\n"),
        ("a.csv", 'Time,x,"y[A,B]",z\r\n0,5,-1,\r\n1,6,?,\r\n\r\n2,7,1e-3,\r\n'),
        ("a.CSV", 'Time (Month),x,"y[A,B]",z\r0,5,-1,\r1,6,:NA:,\r2,7,1e-3,\r'),
        ("a.csv", "\ufeffTime\tx\ty[A,B]\tz\n0\t5\t-1\n1\t6\n2\t7\t.001\t\t\t\n"),
        ("a.tsv", "Time\t0\t1\t2\nx\t5\t6\t7\ny[A,B]\t-1\t\t1e-3\nz\t\t\t\n"),
        ("a.txt", "\tx\ty[A,B]\tz\n0\t5\t-1\n1\t6\n2\t7\t.001\n"),
        ("a.dat", "x\n0\t5\n1\t6\n2\t7\ny[A,B] / a comment\n0 -1 first\n1 :NA:\n2 1e-3\n\nz\n"),
        ("a.dat", "x\r\n0\t5\r\n2\t7\r\ny[A,B]\r\n0 -1\r\n2 1e-3\r\nz\r\nx\r\n1 6\r\n"),
    ],
)
def test_data_files_in_every_layout(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert lists(read_data_file(tmp_path / name)) == EXPECTED
    files = ExternalFiles(tmp_path)
    assert lists(files.data(name)) == EXPECTED
    assert list(files.used) == [(tmp_path / name).resolve()]


def test_a_declared_encoding_is_used(tmp_path):
    (tmp_path / "a.csv").write_bytes("t,été\n0,1".encode("latin-1"))
    with pytest.raises(ModelFileError, match="line 1: the bytes are not UTF-8; save the file as UTF-8 or give its"):
        read_data_file(tmp_path / "a.csv")
    assert lists(read_data_file(tmp_path / "a.csv", encoding="latin-1")) == {"été": ([0], [1])}
    assert lists(ExternalFiles(tmp_path).data("a.csv", encoding="latin-1")) == {"été": ([0], [1])}
    with pytest.raises(ModelFileError, match="'hex' is not a text encoding"):
        read_data_file(tmp_path / "a.csv", encoding="hex")


def test_quoted_names_of_a_dat_file_may_hold_a_slash(tmp_path):
    (tmp_path / "a.dat").write_text('"a/b < c"[X] / comment\n0 1\n')
    assert lists(read_data_file(tmp_path / "a.dat")) == {'"a/b < c"[X]': ([0], [1])}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "t,x\n0,1\n0,2", "line 3, column 1: the time 0 of 'x' does not exceed the one before it, 0"),
        ("a.csv", "t,1,0\nx,5,6", "line 1, column 3: the time 0 of 'x'"),
        ("a.csv", "t,x,x\n0,1,2", "line 1, column 3 repeats the name 'x'"),
        ("a.csv", "t,x,\n0,1,2", "line 1, column 3 has values without a name"),
        ("a.csv", "t,x\n0,high", "line 2, column 2 holds the text 'high'"),
        ("a.csv", "t,x\n\nsoon,1", "line 3, column 1 holds the text 'soon'"),
        ("a.csv", 't,x\n0,"1,000"', "line 2, column 2 holds '1,000', which is not a plain number"),
        ("a.csv", "t,y[A,B],z\n0,1,2,3", "line 1, column 2 holds a part of a name, 'y.A'; put names with commas"),
        ("a.csv", "t,x\n0,1,2", "line 2 has more cells than the 2 of the first row"),
        ("a.csv", "0,1\n2,3", "numbers in its first row and first column"),
        ("a.csv", "t;x\n0;1", "has no second column"),
        ("a.csv", "", "has no second column"),
        ("a.dat", "0 1\n", "line 1: values stand before the first name"),
        ("a.dat", "x\n0 1\n0 2\n", "line 3: the time 0 of 'x'"),
        ("a.dat", "x <weeks>\n0 1\n", "line 1: the time base '<weeks>' is not read"),
        ("a.dat", "x\n0\n", "line 2: '0' is neither a name nor a time and a value"),
        ("a.dat", "\n", "holds no series"),
        ("a.vdf", "", "vdf is not a kind of data file; its binary format is not published; export the run"),
        ("a.VDFX", "", "vdfx is not a kind of data file"),
        ("a.xlsx", "", "xlsx is not a kind of data file; save the sheet as .csv, or read it .* GET DIRECT DATA"),
        ("a.nc", "", "nc is not a kind of data file; save it as"),
    ],
)
def test_faults_of_a_data_file_name_the_place(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelFileError, match=message):
        read_data_file(tmp_path / name)


def test_a_missing_data_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"gone.tab does not exist"):
        read_data_file(tmp_path / "gone.tab")
    with pytest.raises(ModelFileError, match="lies outside"):
        ExternalFiles(tmp_path).data("../gone.tab")
