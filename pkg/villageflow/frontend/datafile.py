"""Data files: another model's output or measured series, as delimited text or in Vensim's .dat format.

References
----------
Vensim Reference Guide, Preparing, Using and Exporting Data: .dat Format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from villageflow.errors import ModelFileError
from villageflow.frontend.sheets import decode, parse_number, read_limited, split_cells
from villageflow.frontend.workbooks import TEXT_SUFFIXES, WORKBOOK_SUFFIXES
from villageflow.names import variable_id

Floats: TypeAlias = npt.NDArray[np.float64]
Series: TypeAlias = tuple[Floats, Floats]


def read_data_file(path: str | Path, *, encoding: str | None = None) -> Mapping[str, Series]:
    """The series of a data file.

    Parameters
    ----------
    path : str or Path
        A ``.csv``, ``.tab``, ``.tsv`` or ``.txt`` file separated by tabs or commas, or a Vensim ``.dat`` file.

        Delimited text has the names in its first row and the times in its first column, or the times in its first
        row and the names in its first column. The corner cell may hold anything.
    encoding : str, optional
        Of a file that is not UTF-8 (or UTF-16 with its byte-order mark), such as ``latin-1``.

    Returns
    -------
    mapping of str to (times, values)
        By name as written, such as ``Name[Element,Element]``, in the order of the file. Both are (t,) arrays of the
        points that have a value, times strictly increasing; a series without any value has t = 0.

    Raises
    ------
    ModelFileError
        The file is missing, of another kind (``.vdf`` and ``.vdfx`` are not read), or breaks a rule above. The file
        may lie anywhere: whoever gives the path allows it.
    """
    path = Path(path)
    return parse_data_file(str(path), read_limited(path, str(path)), encoding)


def parse_data_file(name: str, content: bytes, encoding: str | None = None) -> dict[str, Series]:
    """The series in the bytes of a data file called `name`; see `read_data_file`."""
    suffix = Path(name).suffix.lower()
    if suffix == ".dat":
        return _dat_series(name, decode(name, content, encoding).split("\n"))
    if suffix not in TEXT_SUFFIXES:
        remedy = "save it as .csv, .tab or .dat"
        if suffix in (".vdf", ".vdfx"):
            remedy = "its binary format is not published; export the run in Vensim as .tab, .csv or .dat"
        elif suffix in WORKBOOK_SUFFIXES:
            remedy = "save the sheet as .csv, or read it in the model with GET DIRECT DATA"
        raise ModelFileError(f"{name}: {suffix or 'no suffix'} is not a kind of data file; {remedy}")
    text = decode(name, content, encoding)
    first = next((line for line in text.split("\n") if line.strip()), "")
    rows = split_cells(name, text, "\t" if "\t" in first else ",")
    numbered = [(i, row) for i, row in enumerate(rows, start=1) if any(row)]
    return _table_series(name, numbered)


def _table_series(name: str, rows: Sequence[tuple[int, tuple[str, ...]]]) -> dict[str, Series]:
    if not rows or len(rows[0][1]) < 2:
        raise ModelFileError(f"{name} has no second column; separate times and series by tabs or commas")
    header = rows[0][1]
    width = len(header)
    for line, row in rows:
        if any(row[width:]):
            raise ModelFileError(
                f"{name}, line {line} has more cells than the {width} of the first row; "
                "put names that hold a separator in double quotes"
            )
    cells = [[*row[:width], *[""] * (width - len(row))] for _, row in rows]
    places = [[f"line {line}, column {j}" for j in range(1, width + 1)] for line, _ in rows]
    if _all_numbers(header[1:]):  # times run across
        if _all_numbers([row[0] for row in cells[1:]]):
            raise ModelFileError(f"{name} has numbers in its first row and first column; one of them must hold names")
        cells, places = ([list(column) for column in zip(*table, strict=True)] for table in (cells, places))
    times = [_value(name, place[0], row[0]) for place, row in zip(places[1:], cells[1:], strict=True)]
    found: dict[str, Series] = {}
    for j, title in enumerate(cells[0][1:], start=1):
        values = [_value(name, place[j], row[j]) for place, row in zip(places[1:], cells[1:], strict=True)]
        if not title and not any(value is not None for value in values):
            continue
        if not title or title in found:
            what = f"repeats the name {title!r}" if title else "has values without a name"
            raise ModelFileError(f"{name}, {places[0][j]} {what}; give every series a name of its own")
        if title.count("[") != title.count("]"):
            raise ModelFileError(
                f"{name}, {places[0][j]} holds a part of a name, {title!r}; put names with commas in double quotes"
            )
        points = [
            (time, value, place[0])
            for time, value, place in zip(times, values, places[1:], strict=True)
            if time is not None and value is not None
        ]
        found[title] = _series(name, title, points)
    return found


def _all_numbers(cells: Sequence[str]) -> bool:
    told = [cell for cell in cells if cell]
    return bool(told) and all(_is_number(cell) for cell in told)


def _is_number(cell: str) -> bool:
    try:
        return parse_number(cell) is not None
    except ValueError:
        return False


def _value(name: str, place: str, cell: str) -> float | None:
    """A number, or None for an empty cell and the marks of a missing value; other text is refused."""
    try:
        value = parse_number(cell)
    except ValueError as error:
        raise ModelFileError(f"{name}, {place} holds {error}; enter a plain number, or leave it empty") from None
    if value is None and cell not in ("", "?", ":NA:", "#N/A"):
        raise ModelFileError(f"{name}, {place} holds the text {cell[:40]!r}; enter a plain number, or leave it empty")
    return value


def _series(name: str, title: str, points: Sequence[tuple[float, float, str]]) -> Series:
    for (before, _, _), (after, _, place) in pairwise(points):
        if not after > before:
            raise ModelFileError(
                f"{name}, {place}: the time {after:g} of {title!r} does not exceed the one before it, {before:g}; "
                "order the points and give each time once"
            )
    return np.array([time for time, _, _ in points]), np.array([value for _, value, _ in points])


def _dat_series(name: str, lines: Sequence[str]) -> dict[str, Series]:
    """Series of a line with a name and lines of time and value; what follows these is a comment.

    A name that returns adds its points to the series that it had before.
    """
    points: dict[str, list[tuple[float, float, str]]] = {}
    title = None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) > 1 and _is_number(words[0]) and (_is_number(words[1]) or words[1] == ":NA:"):
            if title is None:
                raise ModelFileError(f"{name}, line {number}: values stand before the first name; add its name")
            time, value = parse_number(words[0]), parse_number(words[1])
            if time is not None and value is not None:
                points[title].append((time, value, f"line {number}"))
            continue
        title = _dat_name(f"{name}, line {number}", line.strip())
        points.setdefault(title, [])
    if not points:
        raise ModelFileError(f"{name} holds no series; write each as its name and then lines of time and value")
    return {title: _series(name, title, sorted(found, key=lambda point: point[0])) for title, found in points.items()}


def _dat_name(place: str, line: str) -> str:
    """The name in a line that holds one, with its subscripts and without the comment behind a slash."""
    after = line.find('"', 1) + 1 if line.startswith('"') else 0  # a quoted name may hold a slash
    rest, mark, base = line[after:].partition("/")[0].partition("<")
    title = (line[:after] + rest).strip()
    if mark:
        raise ModelFileError(f"{place}: the time base '<{base.strip()}' is not read; give the times of the model")
    if not title or _is_number(title.split()[0]):
        raise ModelFileError(
            f"{place}: {line[:40]!r} is neither a name nor a time and a value; "
            "write each series as its name and then lines of time and value"
        )
    return title


class DataFiles:
    """The series of several data files, by the identifier of the variable.

    Parameters
    ----------
    paths : sequence of str or Path
        Files as `read_data_file` takes them.

    Raises
    ------
    ModelFileError
        A file cannot be read, or two files have a series of one name.
    """

    def __init__(self, paths: Sequence[str | Path] = ()) -> None:
        self._series: dict[str, Series] = {}
        self.used: dict[Path, str] = {}
        owners: dict[str, str] = {}
        for path in map(Path, paths):
            content = read_limited(path, str(path))
            self.used[path.resolve()] = hashlib.sha256(content).hexdigest()
            for title, series in parse_data_file(str(path), content).items():
                name = variable_id(title)
                if name in owners:
                    raise ModelFileError(f"{path}: {title!r} is also in {owners[name]}; give one file that has it")
                owners[name] = str(path)
                self._series[name] = series

    def series(self, name: str) -> Series | None:
        """Times and values of a variable or of one element of an array; None where no file has it."""
        return self._series.get(name)
