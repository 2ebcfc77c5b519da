"""Workbooks and delimited text, opened as books. Nothing is computed, no macro runs and no link is followed.

Workbooks are read with openpyxl (.xlsx, .xlsm) and xlrd (.xls), because both also tell the defined names.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

from villageflow.errors import ModelFileError
from villageflow.frontend.sheets import (
    Area,
    Book,
    Cell,
    Odd,
    Sheet,
    check_size,
    decode,
    parse_address,
    parsing,
    split_cells,
    trimmed,
)

MAX_UNPACKED_BYTES = 256 * 1024 * 1024  # of the parts of an .xlsx together
WORKBOOK_SUFFIXES = (".xlsx", ".xlsm", ".xls")
TEXT_SUFFIXES = (".csv", ".tab", ".tsv", ".txt")

_AREA = re.compile(r"(?:'((?:[^']|'')+)'|([^'!]+))!(\$?[A-Za-z]{1,3}\$?[0-9]+)(?::(\$?[A-Za-z]{1,3}\$?[0-9]+))?")


def open_book(name: str, content: bytes, tab: str) -> Book:
    """The book in the bytes of a file; `tab` holds the separator when it is a text file, and is else not used.

    Parameters
    ----------
    name : str
        The file as the model names it; its suffix says what it is, in upper or lower case.
    content : bytes
        All of the file.
    tab : str
        The second argument of the model's call.
    """
    suffix = Path(name).suffix.lower()
    if suffix in TEXT_SUFFIXES:
        return _TextBook(name, content, tab)
    with parsing(name):
        return (_XlsxBook if content.startswith(b"PK") else _XlsBook)(name, content)


def check_suffix(name: str) -> None:
    """Refuse by name a kind of file that is not read."""
    suffix = Path(name).suffix.lower()
    if suffix not in WORKBOOK_SUFFIXES + TEXT_SUFFIXES:
        raise ModelFileError(
            f"{name}: {suffix or 'no suffix'} is not a kind of file that is read; "
            f"save it as one of {', '.join(WORKBOOK_SUFFIXES + TEXT_SUFFIXES)}"
        )


def is_text(name: str) -> bool:
    """Whether a file is delimited text, by its suffix."""
    return Path(name).suffix.lower() in TEXT_SUFFIXES


# ---------------------------------------------------------------------------------------------- delimited text


class _TextBook(Book):
    """Delimited text as a book of one sheet, whatever the model calls it."""

    def __init__(self, name: str, content: bytes, tab: str) -> None:
        super().__init__(name, [""])
        self._content = content
        self._separator = _separator(name, tab)

    def title(self, tab: str) -> str:
        return ""

    def place(self, title: str) -> str:
        return self.name

    def _read(self, title: str) -> Sheet:
        rows = split_cells(self.name, decode(self.name, self._content), self._separator)
        return Sheet(title, tuple(trimmed([cell or None for cell in row]) for row in rows))

    def _area(self, title: str, name: str) -> tuple[str, Area] | None:
        return None


def _separator(name: str, tab: str) -> str:
    """The separator that the model gives in place of a sheet; a word stands for none, as for an empty text."""
    if tab == "\\t":
        return "\t"
    if len(tab) == 1 and not tab.isalnum() and tab not in "\"'.+-\r\n":
        return tab
    if tab == "" or tab[0].isalnum():
        return "," if Path(name).suffix.lower() == ".csv" else "\t"
    raise ModelFileError(f"{name}: {tab!r} is not a separator; give one character, such as ',' or ';', or '\\t'")


# ---------------------------------------------------------------------------------------------- .xlsx and .xlsm


class _XlsxBook(Book):
    def __init__(self, name: str, content: bytes) -> None:
        _check_archive(name, content)
        self._content = content
        self._workbook = self._load(data_only=True)
        self._uncomputed: dict[str, frozenset[tuple[int, int]]] = {}
        super().__init__(name, [sheet.title for sheet in self._workbook.worksheets])

    def _load(self, *, data_only: bool) -> Any:
        import openpyxl  # a tenth of a second that only models with workbooks pay

        return openpyxl.load_workbook(io.BytesIO(self._content), read_only=True, data_only=data_only, keep_links=False)

    def _read(self, title: str) -> Sheet:
        cells = self._workbook[title]
        cells.reset_dimensions()  # as declared they may be wrong, or as large as a sheet can be
        rows = []
        n_cells = 0
        for i, row in enumerate(cells.iter_rows(values_only=True)):
            n_cells += len(row)
            check_size(self.place(title), i, n_cells)
            rows.append(trimmed([_xlsx_cell(value) for value in row]))
        return Sheet(title, tuple(rows))

    def uncomputed(self, sheet: Sheet) -> frozenset[tuple[int, int]]:
        if sheet.name not in self._uncomputed:
            with parsing(self.place(sheet.name)):
                self._uncomputed[sheet.name] = self._find_uncomputed(sheet)
        return self._uncomputed[sheet.name]

    def _find_uncomputed(self, sheet: Sheet) -> frozenset[tuple[int, int]]:
        """The formulas of a sheet none of which has a result; an empty result beside others is an empty text."""
        cells = self._load(data_only=False)[sheet.name]
        cells.reset_dimensions()
        formulas = frozenset(
            (i, j) for i, row in enumerate(cells.iter_rows()) for j, cell in enumerate(row) if cell.data_type == "f"
        )
        if any(sheet.cell(i, j) is not None for i, j in formulas):
            return frozenset()
        return formulas

    def _area(self, title: str, name: str) -> tuple[str, Area] | None:
        for names in (self._workbook[title].defined_names, self._workbook.defined_names):
            for known, definition in names.items():
                if known.casefold() == name:
                    return _parse_area(self.name, known, definition.attr_text or "")
        return None


def _check_archive(name: str, content: bytes) -> None:
    """Refuse parts that unpack to too much together, and XML with entities, before anything is parsed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())  # reading never gives more than declared
        if unpacked > MAX_UNPACKED_BYTES:
            raise ModelFileError(
                f"{name} unpacks to {unpacked:,} bytes; a workbook may have at most {MAX_UNPACKED_BYTES:,}"
            )
        for part in archive.infolist():
            if part.filename.lower().endswith((".xml", ".rels")) and _declares_type(archive, part):
                raise ModelFileError(
                    f"{name}: its part {part.filename!r} declares a document type or entities; "
                    "save the workbook again in a spreadsheet program"
                )


def _declares_type(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    tail = b""
    with archive.open(part) as stream:
        while chunk := stream.read(1 << 20):
            window = (tail + chunk).replace(b"\0", b"")  # UTF-16 too
            if b"<!DOCTYPE" in window or b"<!ENTITY" in window:
                return True
            tail = chunk[-32:]
    return False


def _xlsx_cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return Odd("a logical value")
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    return Odd("a date or time")


def _parse_area(book: str, name: str, text: str) -> tuple[str, Area]:
    match = _AREA.fullmatch(text.strip())
    first = parse_address(match[3]) if match else None
    last = parse_address(match[4] or match[3]) if match else None
    if match is None or first is None or last is None or last < first or last[1] < first[1]:
        raise ModelFileError(f"{book}: the name {name!r} stands for {text!r}; it must be one block of cells")
    (top, left), (bottom, right) = first, last
    sheet = match[2] if match[1] is None else match[1].replace("''", "'")
    return sheet, Area(top, left, bottom - top + 1, right - left + 1)


# ---------------------------------------------------------------------------------------------- .xls


class _XlsBook(Book):
    def __init__(self, name: str, content: bytes) -> None:
        import xlrd

        if Path(name).suffix.lower() != ".xls":
            raise ModelFileError(f"{name} is not an .xlsx workbook, or is protected; save it as .xlsx without password")
        # xlrd prints its complaints unless it is given another place for them
        self._workbook: Any = xlrd.open_workbook(
            file_contents=content, logfile=io.StringIO(), on_demand=True, ragged_rows=True
        )
        super().__init__(name, self._workbook.sheet_names())

    def _read(self, title: str) -> Sheet:
        sheet = self._workbook.sheet_by_name(title)
        rows = []
        n_cells = 0
        for i in range(sheet.nrows):
            cells = sheet.row(i)
            n_cells += len(cells)
            check_size(self.place(title), i, n_cells)
            rows.append(trimmed([_xls_cell(cell) for cell in cells]))
        return Sheet(title, tuple(rows))

    def _area(self, title: str, name: str) -> tuple[str, Area] | None:
        scopes = (self._workbook.sheet_names().index(title), -1)
        named = [item for item in self._workbook.name_obj_list if item.name.casefold() == name]
        for item in sorted((item for item in named if item.scope in scopes), key=lambda item: -item.scope):
            try:
                sheet, top, bottom, left, right = item.area2d(clipped=False)
            except Exception:  # a formula: xlrd reports it, or stumbles over it
                raise ModelFileError(f"{self.name}: the name {item.name!r} must be one block of cells") from None
            return sheet.name, Area(top, left, bottom - top, right - left)
        return None


def _xls_cell(cell: Any) -> Cell:
    import xlrd

    match cell.ctype:
        case xlrd.XL_CELL_NUMBER:
            return float(cell.value)
        case xlrd.XL_CELL_TEXT:
            return cell.value or None
        case xlrd.XL_CELL_DATE:
            return Odd("a date or time")
        case xlrd.XL_CELL_BOOLEAN:
            return Odd("a logical value")
        case xlrd.XL_CELL_ERROR:
            return str(xlrd.error_text_from_code.get(cell.value, "#ERROR!"))
        case _:
            return None
