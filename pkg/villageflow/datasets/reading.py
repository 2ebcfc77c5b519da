"""Cells of a CSV file as text with their lines, and the one-line form of every fault found in them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from villageflow.errors import DataError, did_you_mean

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
        If the file is missing, is not UTF-8 text, has no header or no rows, repeats a column name, or has a
        record with more or fewer cells than the header. Does not convert cells.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({cause}). Give a CSV file.") from None
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


def check_columns(raw: RawTable, *, required: Iterable[str], known: Iterable[str] | None = None) -> None:
    """Refuse a table without a required column or, if ``known`` is given, with a column outside it."""
    for name in required:
        if name not in raw.columns:
            raise DataError(
                f"{raw.path}: column {name!r} is missing. Add it to the header (row 1). "
                f"{did_you_mean(name, raw.columns)}"
            )
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
