"""Books of sheets of cells: what a file of any format looks like to its reader, and the limits of all formats."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from villageflow.errors import ModelFileError, VillageflowError, did_you_mean, nearest

MAX_BYTES = 64 * 1024 * 1024
MAX_CELLS = 5_000_000  # of one sheet, counting empty ones left of the last cell of a row
MAX_ROWS = 1_048_576  # of an .xlsx sheet; also the largest row number of an address
MAX_COLUMNS = 16_384

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MISSING = ("", ":NA:", "#N/A")
_ERROR = re.compile(r"#[A-Z0-9/_]+[!?]?")
_INFINITY = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_ADDRESS = re.compile(r"\$?([A-Za-z]{1,3})\$?([1-9][0-9]{0,6})")


@dataclass(frozen=True)
class Odd:
    """A cell that holds neither a number nor text; `what` says what it is, such as ``a date``."""

    what: str


Cell: TypeAlias = float | str | Odd | None


@dataclass(frozen=True)
class Area:
    """A block of cells; rows and columns count from 0."""

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Sheet:
    """The cells of one sheet, row by row; rows end at their last cell."""

    name: str
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def n_rows(self) -> int:
        return len(self.rows)

    @property
    def n_columns(self) -> int:
        return max(map(len, self.rows), default=0)

    def cell(self, row: int, column: int) -> Cell:
        """The cell at (row, column); None when it is empty or outside of the sheet."""
        if row >= len(self.rows) or column >= len(self.rows[row]):
            return None
        return self.rows[row][column]


class Book:
    """A file of sheets. Subclasses read one format; sheets are read when first asked for, and kept."""

    def __init__(self, name: str, tabs: Iterable[str]) -> None:
        self.name = name
        self._tabs = tuple(tabs)
        self._sheets: dict[str, Sheet] = {}

    def sheet(self, tab: str) -> Sheet:
        """The sheet of that name; upper and lower case are the same unless two sheets differ in nothing else."""
        title = self.title(tab)
        if title not in self._sheets:
            with parsing(f"{self.name}, sheet {title!r}"):
                self._sheets[title] = self._read(title)
        return self._sheets[title]

    def title(self, tab: str) -> str:
        if tab in self._tabs:
            return tab
        for title in self._tabs:
            if title.casefold() == tab.casefold():
                return title
        raise ModelFileError(f"{self.name} has no sheet {tab!r}. {did_you_mean(tab, self._tabs)}".rstrip())

    def area(self, tab: str, name: str) -> Area | None:
        """The cells that a defined name covers; a name of the sheet goes before one of the workbook.

        Raises
        ------
        ModelFileError
            The name is a formula, several blocks, or lies on another sheet. None when there is no such name.
        """
        title = self.title(tab)
        with parsing(f"{self.name}, name {name!r}"):
            found = self._area(title, name.casefold())
        if found is None:
            return None
        where, area = found
        if where.casefold() != title.casefold():
            raise ModelFileError(
                f"{self.name}: the name {name!r} lies on sheet {where!r}, and the model reads sheet {title!r}; "
                "name the same sheet in both"
            )
        return area

    def uncomputed(self, sheet: Sheet) -> frozenset[tuple[int, int]]:
        """The (row, column) of the formulas of a sheet that was stored without any result."""
        return frozenset()

    def place(self, title: str) -> str:
        return f"{self.name}, sheet {title!r}"

    def _read(self, title: str) -> Sheet:
        raise NotImplementedError

    def _area(self, title: str, name: str) -> tuple[str, Area] | None:
        raise NotImplementedError


def read_limited(path: Path, name: str) -> bytes:
    """The bytes of a regular file of at most `MAX_BYTES`; errors call it `name`."""
    try:
        if not path.exists():
            known = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
            raise ModelFileError(f"{name} does not exist. {nearest(path.name, known)}".rstrip())
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelFileError(f"{name} is not a file; give the name of a data file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelFileError(f"{name} cannot be read: {error.strerror}; check its name and permissions") from None
    if len(content) > MAX_BYTES:
        raise ModelFileError(f"{name} has more than {MAX_BYTES:,} bytes; split it into smaller files")
    return content


def decode(name: str, content: bytes, encoding: str | None = None) -> str:
    """Text in UTF-8, in UTF-16 with its byte-order mark, or as declared; every line end becomes a line feed."""
    if encoding is None:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "UTF-16" if wide else "UTF-8"
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise ModelFileError(f"{name}: {encoding!r} is not a text encoding; give one such as 'latin-1'") from None
    except UnicodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", content[: getattr(error, "start", 0)])) + 1
        raise ModelFileError(
            f"{name}, line {line}: the bytes are not {encoding}; save the file as UTF-8 or give its encoding"
        ) from None
    if "\0" in text:
        raise ModelFileError(f"{name} holds null characters; it is not a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split_cells(name: str, text: str, separator: str) -> tuple[tuple[str, ...], ...]:
    """The cells of delimited text, stripped of blanks; double quotes enclose a cell."""
    rows: list[tuple[str, ...]] = []
    n_cells = 0
    try:
        for row in csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=separator != " "):
            n_cells += len(row)
            check_size(name, len(rows), n_cells)
            rows.append(tuple(cell.strip() for cell in row))
    except csv.Error as error:
        raise ModelFileError(f"{name}, line {len(rows) + 1}: {error}; save it again as delimited text") from None
    return tuple(rows)


def parse_number(cell: Cell) -> float | None:
    """The number in a cell; None for an empty cell, ``:NA:``, ``#N/A`` and text with letters or without digits.

    Raises
    ------
    ValueError
        The cell holds a date, a logical value, an error of the spreadsheet, a number that is not finite, or text that
        may be meant as a number, such as ``1,234`` or ``5%``. The message says what it holds.
    """
    if isinstance(cell, Odd):
        raise ValueError(cell.what)
    if isinstance(cell, str):
        text = cell.strip()
        if text in _MISSING:
            return None
        if _ERROR.fullmatch(text):
            raise ValueError(f"the error {text}")
        if not _NUMBER.fullmatch(text):
            digits = any(map(str.isdigit, text)) and not any(map(str.isalpha, text))
            if digits or _INFINITY.fullmatch(text):
                raise ValueError(f"{text[:40]!r}, which is not a plain number")
            return None
        cell = float(text)
    if cell is not None and not math.isfinite(cell):
        raise ValueError("a number that is not finite")
    return cell


def parse_address(text: str) -> tuple[int, int] | None:
    """``B12`` or ``$b$12`` as (row, column) from 0; None when it is not a cell of a sheet."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    row, column = int(match[2]) - 1, parse_column(match[1])
    return None if column is None or row >= MAX_ROWS else (row, column)


def parse_column(text: str) -> int | None:
    """``A`` as 0, ``aa`` as 26; None when it is not a column of a sheet."""
    letters = text.strip().upper()
    if re.fullmatch("[A-Z]{1,3}", letters) is None:
        return None
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1 if number <= MAX_COLUMNS else None


def address(row: int, column: int) -> str:
    """(0, 26) as ``AA1``."""
    letters = ""
    column += 1
    while column:
        column, digit = divmod(column - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return f"{letters}{row + 1}"


@contextmanager
def parsing(place: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about drawings, validations and styles, which are not read
            yield
    except VillageflowError:
        raise
    except Exception as error:  # the readers answer a damaged file with any exception there is
        reason = f"{type(error).__name__}: {error}"[:200]
        raise ModelFileError(
            f"{place} cannot be read as a workbook ({reason}); open it in a spreadsheet program and save it as .xlsx"
        ) from None


def check_size(place: str, n_rows: int, n_cells: int) -> None:
    if n_rows >= MAX_ROWS or n_cells > MAX_CELLS:
        raise ModelFileError(
            f"{place} has more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells; keep the data in smaller sheets"
        )


def trimmed(row: list[Cell]) -> tuple[Cell, ...]:
    while row and row[-1] is None:
        row.pop()
    return tuple(row)
