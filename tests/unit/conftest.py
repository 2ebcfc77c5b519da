"""Workbooks that tests write: with openpyxl, and by hand for the old format that nothing here writes."""

from __future__ import annotations

import struct

import openpyxl
import pytest
from openpyxl.workbook.defined_name import DefinedName


@pytest.fixture
def write_xlsx():
    return _write_xlsx


@pytest.fixture
def write_xls():
    return _write_xls



def _write_xlsx(path, rows, *, names=(), local=(), sheet="Data"):
    book = openpyxl.Workbook()
    cells = book.active
    cells.title = sheet
    for row in rows:
        cells.append(row)
    for name, text in names:
        book.defined_names[name] = DefinedName(name, attr_text=text)
    for name, text in local:
        cells.defined_names[name] = DefinedName(name, attr_text=text)
    book.save(path)
    return path


def _record(kind, body):
    return struct.pack("<HH", kind, len(body)) + body


def _write_xls(path, cells, *, names=(), sheet="Data"):
    """A workbook stream of Excel 97 without its container, which readers accept; no program here writes .xls."""
    version = struct.pack("<HHHHII", 0x0600, 0x0005, 0, 1997, 0, 0)
    named = b""
    for name, scope, top, bottom, left, right in names:
        formula = struct.pack("<BHHHHH", 0x3B, 0, top, bottom, left, right)
        head = struct.pack("<HBBHHHBBBB", 0, 0, len(name), len(formula), 0, scope, 0, 0, 0, 0)
        named += _record(0x18, head + b"\0" + name.encode() + formula)
    tables = _record(0x42, struct.pack("<H", 1200)) + _record(0x1AE, b"\x01\x00\x01\x04")
    tables += _record(0x17, struct.pack("<HHHH", 1, 0, 0, 0)) + named + _record(0x0A, b"")
    title = struct.pack("<BBBB", 0, 0, len(sheet), 0) + sheet.encode()
    start = len(_record(0x809, version)) + 4 + 4 + len(title) + len(tables)
    content = _record(0x809, version) + _record(0x85, struct.pack("<I", start) + title) + tables
    content += _record(0x809, version[:2] + struct.pack("<H", 0x0010) + version[4:])
    for (row, column), value in cells.items():
        at = struct.pack("<HHH", row, column, 0)
        if isinstance(value, bool):
            content += _record(0x205, at + struct.pack("<BB", value, 0))
        elif isinstance(value, str) and value.startswith("#"):
            content += _record(0x205, at + struct.pack("<BB", {"#N/A": 42, "#DIV/0!": 7}[value], 1))
        elif isinstance(value, str):
            content += _record(0x204, at + struct.pack("<HB", len(value), 0) + value.encode("latin-1"))
        else:
            content += _record(0x203, at + struct.pack("<d", value))
    path.write_bytes(content + _record(0x0A, b""))
    return path
