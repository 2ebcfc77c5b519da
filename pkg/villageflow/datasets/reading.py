"""Cells of a CSV file as text with their lines, and the one-line form of every fault found in them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from villageflow.errors import DataError, did_you_mean, nearest

Kind = Literal["text", "number", "integer"]


@dataclass(frozen=True)
class RawTable:
    """The cells of a file as text, with the line each record starts on; blank cells are ``""``."""

    path: Path
    columns: tuple[str, ...]
    records: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]


def read_cells(path: str | Path) -> RawTable:
    """Read a CSV file as text, keeping the line of every record.

    Raises
    ------
    DataError
        If the file is missing, is not UTF-8 text, is separated by semicolons or tabs, has no header or no rows,
        repeats a column name, or has a record with more or fewer cells than the header. Does not convert cells.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: does not exist. Check the path and the name of the file.") from None
    except UnicodeDecodeError as cause:
        raise DataError(
            f"{path}: is not UTF-8 text (byte 0x{cause.object[cause.start]:02x} at position {cause.start}). "
            "Save it as UTF-8, in a spreadsheet 'CSV UTF-8'."
        ) from None
    except OSError as cause:
        raise DataError(f"{path}: cannot be read ({cause.strerror}). Give a CSV file.") from None
    reader = csv.reader(text.splitlines(keepends=True))
    columns: tuple[str, ...] = ()
    records: list[tuple[str, ...]] = []
    lines: list[int] = []
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = tuple(cell.strip() for cell in cells)
                _check_separator(path, columns)
            elif len(cells) != len(columns):
                raise DataError(
                    f"{path}: row {line} has {len(cells)} cells, the header has {len(columns)}. "
                    "Quote cells that contain a comma."
                )
            else:
                records.append(tuple(cell.strip() for cell in cells))
                lines.append(line)
    except csv.Error as cause:
        raise DataError(f"{path}: row {start} is not CSV ({cause}). Give a CSV file.") from None
    if not columns or not records:
        raise DataError(f"{path}: no rows. Give a header line and at least one row.")
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: the header names column {repeated[0]!r} twice. Rename one of them.")
    return RawTable(path, columns, tuple(records), tuple(lines))


def _check_separator(path: Path, columns: tuple[str, ...]) -> None:
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and mark in columns[0]:
            raise DataError(f"{path}: is separated by {name}, not by commas. Save it as CSV with commas.")


def check_columns(raw: RawTable, *, required: Iterable[str], known: Iterable[str] | None = None) -> None:
    """Refuse a table without a required column or, if ``known`` is given, with a column outside it."""
    needed = tuple(required)
    if missing := [name for name in needed if name not in raw.columns]:
        shown = ", ".join(map(repr, missing))
        said = f"columns {shown} are missing" if len(missing) > 1 else f"column {shown} is missing"
        hints = [nearest(name, set(raw.columns) - set(needed)) for name in missing]
        raise DataError(" ".join(filter(None, (
            f"{raw.path}: {said} in the header (row 1). The table needs {', '.join(needed)}.", *hints,
        ))))
    for name in raw.columns if known is not None else ():
        if name not in (expected := tuple(known or ())):
            raise DataError(
                f"{raw.path}: row 1, column {name!r} is not part of this table. "
                f"Remove or rename it. {did_you_mean(name, expected)}"
            )


def parse_number(cell: str, kind: Kind) -> float | None:
    """The number in a cell, or None if it is not one, such as an infinity, ``nan`` or ``1,000``."""
    if "_" in cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return None if kind == "integer" and value != int(value) else value


def fault(line: int, column: str, value: object, rule: str, remedy: str) -> str:
    """One fault of a table as text: row, column, value, rule, remedy."""
    return f"row {line}, column {column!r}: {value!r} {rule}. {remedy}"


def raise_faults(path: Path, faults: list[str]) -> None:
    """Raise the first of the faults of a pass, with the number of the others; return if there are none."""
    if faults:
        more = f" ({len(faults) - 1} more in this file)" if len(faults) > 1 else ""
        raise DataError(f"{path}: {faults[0]}{more}")
