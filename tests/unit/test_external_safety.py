"""Files that a model names lie where they may, stay within limits, and never crash their reader."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from villageflow.errors import ModelFileError, VillageflowError
from villageflow.frontend import sheets, workbooks
from villageflow.frontend.external import ExternalFiles


@pytest.fixture
def files(tmp_path):
    return ExternalFiles(tmp_path)


# --- where files may lie ------------------------------------------------------------------------------------------


def test_files_are_read_from_below_the_folder_or_where_allowed(tmp_path):
    inside, outside, allowed = (tmp_path / name for name in ("model", "outside", "allowed"))
    for folder in (inside / "sub", outside, allowed):
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("7")
    (inside / "link.csv").symlink_to(outside / "a.csv")
    (inside / "linked").symlink_to(outside)
    (inside / "loop.csv").symlink_to(inside / "loop.csv")
    (inside / "near.csv").symlink_to(inside / "sub" / "a.csv")
    files = ExternalFiles(inside, allowed=[allowed])
    for name in ("sub/a.csv", "sub\\a.csv", ".\\sub/../sub/a.csv", "../allowed/a.csv", str(allowed / "a.csv"),
                 "near.csv"):
        assert files.constants(name, "", "A1", ()) == 7
    for name in ("../outside/a.csv", "..\\outside\\a.csv", str(outside / "a.csv"), "link.csv", "linked/a.csv",
                 "../modelling/a.csv", "/etc/hostname.csv"):
        with pytest.raises(ModelFileError, match="lies outside of the folder of the model; move it there, or allow"):
            files.constants(name, "", "A1", ())
    for name, message in (
        ("?data", "chosen in Vensim's settings"), ("C:\\a.csv", "names a drive"), ("c:a.csv", "names a drive"),
        ("https://example.org/a.csv", "names a drive or a link"), ("", "is not the name of a file"),
        ("a\0.csv", "is not the name"), ("loop.csv", "leads nowhere|does not exist"), ("sub.csv", "does not exist"),
        ("x" * 5000 + ".csv", "cannot be read|does not exist"),
    ):  # fmt: skip
        with pytest.raises(ModelFileError, match=message):
            files.constants(name, "", "A1", ())
    plain = {(inside / "sub" / "a.csv").resolve(), (allowed / "a.csv").resolve()}
    assert set(files.used) == plain | {inside.resolve() / "near.csv"}


def test_the_model_may_lie_in_a_linked_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.csv").write_text("7")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert ExternalFiles(tmp_path / "link").constants("a.csv", "", "A1", ()) == 7


def test_what_is_not_a_file_is_refused(tmp_path, files):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("folder.csv", "pipe.csv"):
        with pytest.raises(ModelFileError, match="is not a file"):
            files.constants(name, "", "A1", ())


@pytest.mark.parametrize("name", ["a.ods", "a.xlsb", "a.vdf", "a.py", "a"])
def test_other_kinds_of_files_are_refused(tmp_path, files, name):
    (tmp_path / name).write_text("1")
    with pytest.raises(ModelFileError, match=r"is not a kind of file that is read; save it as one of .xlsx"):
        files.constants(name, "", "A1", ())


def test_a_missing_file_or_sheet_is_named_with_its_nearest(tmp_path, write_xlsx, files):
    write_xlsx(tmp_path / "data.xlsx", [[1]], sheet="Rates")
    with pytest.raises(ModelFileError, match=r"dta.xlsx does not exist. Did you mean 'data.xlsx'"):
        files.constants("dta.xlsx", "Rates", "A1", ())
    with pytest.raises(ModelFileError, match=r"data.xlsx has no sheet 'rate'. Did you mean 'Rates'"):
        files.constants("data.xlsx", "rate", "A1", ())
    assert files.constants("data.xlsx", "RATES", "A1", ()) == 1


def test_each_file_is_read_once_and_its_hash_is_told(tmp_path, write_xlsx, files):
    path = write_xlsx(tmp_path / "a.xlsx", [[1, 2]])
    content = path.read_bytes()
    assert dict(files.used) == {}
    files.constants("a.xlsx", "Data", "A1", ())
    path.unlink()
    assert files.constants("a.xlsx", "Data", "B1", ()) == 2
    assert dict(files.used) == {path.resolve(): hashlib.sha256(content).hexdigest()}
    with pytest.raises(TypeError):
        files.used[path] = ""


# --- limits -------------------------------------------------------------------------------------------------------


def repack(path, change):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts.update({name: edit(parts.get(name, b"")) for name, edit in change.items()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_workbook_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, write_xlsx, files):
    path = write_xlsx(tmp_path / "a.xlsx", [[1]])
    repack(path, {"xl/media/image.png": lambda _: b"\0" * (workbooks.MAX_UNPACKED_BYTES + 1)})
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ModelFileError, match=r"a.xlsx unpacks to .* bytes; a workbook may have at most"):
        files.constants("a.xlsx", "Data", "A1", ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_workbook_with_entities_is_refused(tmp_path, write_xlsx, files, encoding):
    path = write_xlsx(tmp_path / "a.xlsx", [[1]])
    bomb = '<!DOCTYPE x [<!ENTITY a "b">]>'.encode(encoding)
    repack(path, {"xl/worksheets/sheet1.xml": lambda content: bomb + content})
    with pytest.raises(ModelFileError, match=r"'xl/worksheets/sheet1.xml' declares a document type or entities"):
        files.constants("a.xlsx", "Data", "A1", ())


@pytest.mark.parametrize("row", [2_000_000, 4_000_000_000])
def test_a_row_number_beyond_any_sheet_is_refused(tmp_path, write_xlsx, files, row):
    path = write_xlsx(tmp_path / "a.xlsx", [[1]])
    repack(path, {"xl/worksheets/sheet1.xml": lambda content: content.replace(b'r="1"', b'r="%d"' % row)
                  .replace(b'"A1"><v>', b'"A%d"><v>' % row)})
    with pytest.raises(ModelFileError, match=r"more than 1,048,576 rows|cannot be read as a workbook"):
        files.constants("a.xlsx", "Data", "A1", ())


def test_limits_of_size(tmp_path, write_xlsx, write_xls, files, monkeypatch):
    (tmp_path / "a.csv").write_text("1,2,3\n4,5,6\n")
    write_xlsx(tmp_path / "a.xlsx", [[1, 2, 3], [4, 5, 6]])
    write_xls(tmp_path / "a.xls", {(i, j): 1.0 for i in range(2) for j in range(3)})
    monkeypatch.setattr(sheets, "MAX_CELLS", 5)
    for name in ("a.csv", "a.xlsx", "a.xls"):
        with pytest.raises(ModelFileError, match=r"more than .* 5 cells"):
            files.constants(name, "Data", "A1", ())
    monkeypatch.setattr(sheets, "MAX_BYTES", 8)
    with pytest.raises(ModelFileError, match="has more than 8 bytes"):
        ExternalFiles(tmp_path).constants("a.csv", "", "A1", ())


def test_a_wrong_declaration_of_size_inside_a_sheet_is_passed_over(tmp_path, write_xlsx, files):
    path = write_xlsx(tmp_path / "a.xlsx", [[1, 2], [3, 4]])
    repack(path, {"xl/worksheets/sheet1.xml": lambda content: content.replace(b'ref="A1:B2"', b'ref="A1:A1"')})
    assert files.constants("a.xlsx", "Data", "A1", (2, 2)).tolist() == [[1, 2], [3, 4]]


def attempt(folder, name, tab="Data"):
    """Read a file in every way; anything but a result or an error of ours is a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for read in (
            lambda files: files.constants(name, tab, "A1", (2, 2)),
            lambda files: files.constants(name, tab, "years", ()),
            lambda files: files.series(name, tab, "A", "B1", 1),
            lambda files: files.series(name, tab, "1", "A2", 2),
            lambda files: files.lookup(name, tab, "years", "both", 2),
            lambda files: files.subscripts(name, tab, "A1", "", ""),
            lambda files: files.data(name),
        ):
            try:
                read(ExternalFiles(folder))
            except VillageflowError as error:
                assert "\n" not in str(error)


FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # the container of old workbooks, and of protected new ones
HEADS = [b"", b"PK\x03\x04", OLE, b"\x09\x08\x10\x00\x00\x06\x05\x00", b"\xff\xfe", b"\xef\xbb\xbf"]
PARTS = ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml",
         "[Content_Types].xml", "xl/_rels/workbook.xml.rels"]  # fmt: skip
KINDS = ["g.xlsx", "g.xlsm", "g.xls", "g.csv", "g.tab", "g.dat"]


@FUZZ
@given(st.sampled_from(KINDS), st.sampled_from(HEADS), st.binary(max_size=600))
def test_garbage_never_crashes(tmp_path, name, head, body):
    (tmp_path / name).write_bytes(head + body)
    attempt(tmp_path, name)


@FUZZ
@given(st.sampled_from(KINDS[3:]), st.text(max_size=200), st.sampled_from(["", ",", "\\t", ";", '"', "x", " "]))
def test_any_text_never_crashes(tmp_path, name, text, tab):
    (tmp_path / name).write_text(text, encoding="utf-8", errors="replace")
    attempt(tmp_path, name, tab)


@FUZZ
@given(st.data())
def test_a_damaged_workbook_never_crashes(tmp_path, write_xlsx, write_xls, data):
    """Bytes changed inside the parts of a workbook that is else whole, so that every parser is reached."""
    if data.draw(st.booleans()):
        name = "g.xls"
        write_xls(tmp_path / name, {(i, j): float(i + j) for i in range(3) for j in range(3)},
                  names=[("years", 0, 0, 2, 0, 0), ("both", 1, 0, 2, 1, 2)])
        content = bytearray((tmp_path / name).read_bytes())
        change = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
        for at, byte in data.draw(st.lists(change, max_size=6)):
            content[at] = byte
        (tmp_path / name).write_bytes(content)
    else:
        name = "g.xlsx"
        path = write_xlsx(tmp_path / name, [["year", "a"], [2000, 1.5], [2001, None]],
                          names=[("years", "Data!$A$2:$A$3"), ("both", "Data!$B$2:$C$3")])
        part = data.draw(st.sampled_from(PARTS))
        cut = data.draw(st.integers(0, 2000))
        insert = data.draw(st.sampled_from([b"", b"9", b"<", b'"', b"\xff", b"-", b"</row>", b"e"]))
        drop = data.draw(st.integers(0, 4))
        repack(path, {part: lambda content: content[:cut] + insert + content[cut + drop :]})
    attempt(tmp_path, name)


def test_a_protected_workbook_is_told_apart(tmp_path, files):
    (tmp_path / "a.xlsx").write_bytes(OLE + b"\0" * 600)
    with pytest.raises(ModelFileError, match=r"is not an .xlsx workbook, or is protected"):
        files.constants("a.xlsx", "Data", "A1", ())


def test_a_new_workbook_with_the_old_suffix_is_read(tmp_path, write_xlsx, files):
    write_xlsx(tmp_path / "a.xlsx", [[7]]).rename(tmp_path / "a.xls")
    assert files.constants("a.xls", "Data", "A1", ()) == 7


def test_readers_print_nothing(tmp_path, capsys):
    (tmp_path / "a.xls").write_bytes(OLE + bytes(range(256)) * 8)
    attempt(tmp_path, "a.xls")
    assert capsys.readouterr() == ("", "")
