"""Files that a model reads: Vensim's GET XLS and GET DIRECT functions, and data files.

Files are read only from below the folder of the model, or from folders that the caller allows.
``docs/external_data.md`` states the layouts, what counts as missing, the limits and what is refused.

References
----------
Vensim Reference Guide, Data Functions: GET DIRECT CONSTANTS, GET DIRECT DATA, GET DIRECT LOOKUPS, GET DIRECT SUBSCRIPT.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from villageflow.errors import ModelFileError
from villageflow.frontend.datafile import Series, parse_data_file
from villageflow.frontend.sheets import (
    MAX_ROWS,
    Area,
    Book,
    Cell,
    Odd,
    Sheet,
    address,
    parse_address,
    parse_column,
    parse_number,
    read_limited,
)
from villageflow.frontend.workbooks import check_suffix, is_text, open_book

Floats = npt.NDArray[np.float64]

_DRIVE_OR_LINK = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class _Place:
    """The sheet that one call reads, with the words that name it in an error."""

    book: Book
    sheet: Sheet
    tab: str

    def fault(self, what: str, remedy: str) -> ModelFileError:
        return ModelFileError(f"{self.book.place(self.sheet.name)}: {what}; {remedy}")


class ExternalFiles:
    """The files that one model reads. Opened books are kept, so that each file is read once.

    Parameters
    ----------
    folder : Path
        The folder of the model. Files are named relative to it, and must lie below it.
    allowed : sequence of Path, optional
        Further folders below which files may lie.
    """

    def __init__(self, folder: Path, *, allowed: Sequence[Path] = ()) -> None:
        self._folders = tuple(Path(item).resolve() for item in (folder, *allowed))
        self._contents: dict[Path, bytes] = {}
        self._books: dict[tuple[Path, str], Book] = {}
        self._used: dict[Path, str] = {}

    @property
    def used(self) -> Mapping[Path, str]:
        """The files read so far, with the SHA-256 of their bytes in hexadecimal; by name where that is a link."""
        return MappingProxyType(self._used)

    def constants(self, file: str, tab: str, cell: str, shape: tuple[int, ...]) -> Floats:
        """Values of GET XLS CONSTANTS and GET DIRECT CONSTANTS.

        Parameters
        ----------
        file, tab : str
            The file, and its sheet; for delimited text the separator.
        cell : str
            The first cell, or a defined name. The last dimension runs to the right and the one before it down; a
            ``*`` at the end exchanges the two.
        shape : tuple of int
            ``()``, ``(n,)`` or ``(m, n)``.

        Returns
        -------
        array of that shape

        Raises
        ------
        ModelFileError
            A cell holds no number, also when it is empty; or the file, the sheet or the cells are not there.
        """
        if len(shape) > 2:
            raise ModelFileError(
                f"{file}, cell {cell}: {len(shape)} dimensions are asked for and a sheet has two; "
                "write one equation for each element of the others"
            )
        place = self._open(file, tab)
        cell, transposed = cell.strip().removesuffix("*"), cell.strip().endswith("*")
        start = _start(place, cell)
        rows, columns = (1, 1, *shape)[-2:]
        if transposed:
            rows, columns = columns, rows
        area = _fit(place, cell, start, Area(start.top, start.left, rows, columns))
        values = _numbers(place, area)
        if np.isnan(values).any():
            row, column = np.argwhere(np.isnan(values))[0]
            _refuse_missing(place, area.top + int(row), area.left + int(column))
        return (values.T if transposed else values).reshape(shape)

    def series(self, file: str, tab: str, time_row_or_column: str, cell: str, n: int) -> tuple[Floats, Floats]:
        """Times and values of GET XLS DATA and GET DIRECT DATA.

        Parameters
        ----------
        file, tab : str
            The file, and its sheet; for delimited text the separator.
        time_row_or_column : str
            The number of the row, the letters of the column, or a defined name that holds the times.
        cell : str
            The first value of the first series, or a defined name. Points run along the times, from this cell to the
            end of the sheet or of the name; series stand in consecutive rows or columns.
        n : int
            Number of series.

        Returns
        -------
        times : (t,) array
            Strictly increasing.
        values : (t, n) array
            NaN where one series has no value. A point without time, or without any value, is left out.

        Raises
        ------
        ModelFileError
            The times do not increase, a series has no value at all, a cell is neither number nor text; or the file,
            the sheet or the cells are not there.
        """
        return self._points(file, tab, time_row_or_column, cell, n, "time")

    def lookup(self, file: str, tab: str, x_row_or_column: str, cell: str, n: int) -> tuple[Floats, Floats]:
        """The x and y of GET XLS LOOKUPS and GET DIRECT LOOKUPS, laid out as in `series`: (t,) and (t, n) arrays."""
        return self._points(file, tab, x_row_or_column, cell, n, "x value")

    def subscripts(self, file: str, tab: str, first_cell: str, last_cell: str, prefix: str) -> list[str]:
        """The elements of GET XLS SUBSCRIPT and GET DIRECT SUBSCRIPT, each with the prefix before it.

        Cells are read across and then down, empty ones are passed over, and a whole number is written without its
        point. `last_cell` may be a cell, a column, a row, or empty: what it leaves open runs to the end of the sheet.
        `first_cell` may be a defined name, which then says where the elements end.
        """
        place = self._open(file, tab)
        area = _subscript_area(place, first_cell, last_cell.strip())
        elements: dict[str, None] = {}
        for row in range(area.top, area.top + area.rows):
            for column in range(area.left, area.left + area.columns):
                text = _element(place, row, column)
                if text and prefix + text in elements:
                    raise place.fault(f"the element {prefix + text!r} in cell {address(row, column)} is repeated",
                                      "give every element its own name")
                if text:
                    elements[prefix + text] = None
        if not elements:
            raise place.fault(f"no cell from {first_cell} to {last_cell or 'the end'} holds an element",
                              "correct the cells in the model")
        return list(elements)

    def data(self, file: str, *, encoding: str | None = None) -> Mapping[str, Series]:
        """The series of a data file, such as another model's output; see `datafile.read_data_file`."""
        return parse_data_file(file, self._read(self._find(file), file), encoding)

    # ------------------------------------------------------------------------------------------ files

    def _open(self, file: str, tab: str) -> _Place:
        path = self._find(file)
        check_suffix(file)
        key = (path, tab if is_text(file) else "")
        content = self._read(path, file)
        if key not in self._books:
            self._books[key] = open_book(file, content, tab)
        book = self._books[key]
        return _Place(book, book.sheet(tab), tab)

    def _find(self, file: str) -> Path:
        """The path of a file, when it lies where files may be read."""
        name = file.strip().replace("\\", "/")
        if not name or "\0" in name:
            raise ModelFileError(f"{file!r} is not the name of a file; name a file below the folder of the model")
        if name.startswith("?"):
            raise ModelFileError(
                f"{file!r} stands for a file that is chosen in Vensim's settings; write the name of the file itself"
            )
        if _DRIVE_OR_LINK.match(name):
            raise ModelFileError(f"{file!r} names a drive or a link; name a file below the folder of the model")
        try:
            path = (self._folders[0] / name).resolve()
        except (OSError, RuntimeError):  # such as a link to itself
            raise ModelFileError(f"{file!r} leads nowhere; name a file below the folder of the model") from None
        if not any(path.is_relative_to(folder) for folder in self._folders):
            raise ModelFileError(
                f"{file!r} lies outside of the folder of the model; move it there, or allow its folder when reading"
            )
        return path

    def _read(self, path: Path, file: str) -> bytes:
        if path not in self._contents:
            self._contents[path] = read_limited(path, file)
        named = self._folders[0] / file.strip().replace("\\", "/")
        if named.resolve() == Path(os.path.normpath(named)):
            named = path
        if named not in self._used:
            self._used[named] = hashlib.sha256(self._contents[path]).hexdigest()
        return self._contents[path]

    # ------------------------------------------------------------------------------------------ points

    def _points(self, file: str, tab: str, line: str, cell: str, n: int, what: str) -> tuple[Floats, Floats]:
        place = self._open(file, tab)
        start = _start(place, cell)
        across, xs = _line(place, line, start, named=parse_address(cell) is None)
        wanted = (n, xs.columns) if across else (xs.rows, n)
        area = _fit(place, cell, start, Area(start.top, start.left, *wanted))
        x, y = _numbers(place, xs).ravel(), _numbers(place, area)
        y = y.T if across else y
        at = np.flatnonzero(~np.isnan(x) & ~np.isnan(y).all(axis=1))
        if not at.size:
            raise place.fault(f"no {what} in {line} has a value in the series from {cell}",
                              "correct the cells in the model, or enter numbers")
        if (empty := np.flatnonzero(np.isnan(y[at]).all(axis=0))).size:
            j = int(empty[0])
            row, column = (area.top + j, area.left) if across else (area.top, area.left + j)
            raise place.fault(f"the series from cell {address(row, column)} holds no number",
                              "enter its values, or define fewer series in the model")
        for before, after in pairwise(at):
            if not x[after] > x[before]:
                row, column = (xs.top, xs.left + int(after)) if across else (xs.top + int(after), xs.left)
                raise place.fault(
                    f"the {what} {x[after]:g} in cell {address(row, column)} does not exceed the one before it, "
                    f"{x[before]:g}", "order the points, and keep other tables off these cells"
                )
        return x[at], np.ascontiguousarray(y[at])


# ---------------------------------------------------------------------------------------------- places in a sheet


def _start(place: _Place, cell: str) -> Area:
    """The cells that an address (one cell) or a defined name covers."""
    text = cell.strip()
    at = parse_address(text)
    if at is not None:
        return Area(*at, 1, 1)
    area = place.book.area(place.tab, text)
    if area is None:
        raise place.fault(f"{text!r} is neither a cell, such as B2, nor a defined name of the workbook",
                          "correct it in the model")
    return area


def _fit(place: _Place, cell: str, start: Area, wanted: Area) -> Area:
    """The block that is wanted; a name of several cells must cover just that."""
    if (start.rows, start.columns) not in ((1, 1), (wanted.rows, wanted.columns)):
        raise place.fault(
            f"the name {cell.strip()!r} covers {start.rows} x {start.columns} cells, and the model needs "
            f"{wanted.rows} x {wanted.columns} (rows x columns)",
            "correct the name, the subscripts or, for constants, the * that exchanges rows and columns",
        )
    if wanted.top >= MAX_ROWS or not wanted.rows * wanted.columns:
        raise place.fault(f"there are no cells at {cell.strip()}", "correct the cell in the model")
    return wanted


def _line(place: _Place, line: str, start: Area, *, named: bool) -> tuple[bool, Area]:
    """Whether the points run across, and the cells of their times.

    A row or column is read from beside the first value to the end of the data's name or of the sheet. Letters name a
    column unless the data are given by a name too and the workbook has a name of these letters.
    """
    text = line.strip()
    whole = start.rows * start.columns == 1
    if re.fullmatch("[1-9][0-9]{0,6}", text) and int(text) <= MAX_ROWS:
        count = place.sheet.n_columns - start.left if whole else start.columns
        return True, Area(int(text) - 1, start.left, 1, max(count, 0))
    column = parse_column(text)
    if column is not None and not (named and place.book.area(place.tab, text) is not None):
        count = place.sheet.n_rows - start.top if whole else start.rows
        return False, Area(start.top, column, max(count, 0), 1)
    area = place.book.area(place.tab, text)
    if area is None:
        raise place.fault(
            f"{text!r} is neither a row number, the letters of a column, nor a defined name of the workbook",
            "correct it in the model",
        )
    if area.rows > 1 and area.columns > 1:
        raise place.fault(f"the name {text!r} covers {area.rows} x {area.columns} cells",
                          "name cells of one row or one column")
    return area.columns > 1, area


def _subscript_area(place: _Place, first: str, last: str) -> Area:
    start = _start(place, first)
    if start.rows * start.columns > 1:
        return start
    bottom, right = place.sheet.n_rows - 1, place.sheet.n_columns - 1
    if (end := parse_address(last)) is not None:
        bottom, right = end
    elif (column := parse_column(last)) is not None:
        right = column
    elif re.fullmatch("[1-9][0-9]{0,6}", last):
        bottom = int(last) - 1
    elif last:
        raise place.fault(f"the last cell {last!r} is not a cell, a column or a row", "correct it in the model")
    bottom, right = min(bottom, place.sheet.n_rows - 1), min(right, place.sheet.n_columns - 1)
    return Area(start.top, start.left, max(bottom - start.top + 1, 0), max(right - start.left + 1, 0))


# ---------------------------------------------------------------------------------------------- what cells hold


def _numbers(place: _Place, area: Area) -> Floats:
    """The numbers of a block, (rows, columns); NaN where a cell is empty or holds text."""
    values = np.full((area.rows, area.columns), np.nan)
    for i in range(area.rows):
        for j in range(area.columns):
            row, column = area.top + i, area.left + j
            value = _number(place, row, column, place.sheet.cell(row, column))
            if value is not None:
                values[i, j] = value
            elif (row, column) in place.book.uncomputed(place.sheet):
                raise place.fault(f"cell {address(row, column)} holds a formula without its result",
                                  "open the file in a spreadsheet program and save it")
    return values


def _number(place: _Place, row: int, column: int, cell: Cell) -> float | None:
    try:
        return parse_number(cell)
    except ValueError as error:
        raise place.fault(f"cell {address(row, column)} holds {error}",
                          "enter a plain number, or leave it empty") from None


def _refuse_missing(place: _Place, row: int, column: int) -> None:
    held = place.sheet.cell(row, column)
    what = "is empty" if held is None else f"holds the text {str(held)[:40]!r}"
    raise place.fault(f"cell {address(row, column)} {what} where a constant is needed",
                      "enter a number, or correct the cell in the model")


def _element(place: _Place, row: int, column: int) -> str:
    """The text of an element; empty for an empty cell."""
    cell = place.sheet.cell(row, column)
    if isinstance(cell, Odd):
        raise place.fault(f"cell {address(row, column)} holds {cell.what}", "enter the name of an element as text")
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return (cell or "").strip()
