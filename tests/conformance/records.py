"""The public model corpus: its files, what the modelling tools recorded for them, and the rule of comparison.

The rule: every recorded column is a variable of the model, and at every recorded time differs from the record by no
more than 1e-5 of the column's largest absolute value, or half of the last recorded digit, whichever is more.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import villageflow as vf
from villageflow.names import canonical
from villageflow.report.output import run_frame

CORPUS = Path(__file__).parents[2].parent / "shared" / "conformance" / "test-models"
KINDS = (".mdl", ".xmile", ".stmx")

RELATIVE = 1e-5  # of a column's largest value: Vensim computes in single precision
FLOOR = 1e-12  # sin(pi) of the nearest double is 1.2e-16, where a record says 0
SHOWN = 2  # differences that a summary tells

# Which record belongs to a file.  Beside files of Vensim and of Stella there may be records of both: Stella's tells the
# names and initial values of its own file, which are not always those of Vensim's.
_RECORDS = {
    ".mdl": ("output.tab", "output.csv"),
    ".xmile": ("output_stella.csv", "output_stella1006.csv", "output.csv", "output.tab"),
    ".stmx": ("output_stella.csv", "output_stella1006.csv", "output.csv", "output.tab"),
}
_OWN_RECORD = {"tests/data_from_other_model/model_to_generate_data.mdl": ("data.tab",)}
_DATA_FILES = {"tests/data_from_other_model/test_data_from_other_model.mdl": ("data.tab",)}
_NOT_TOLD = ("", "?")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """A recorded column; ``cells``, ``values`` and ``half_digit`` (n_times,); nan where the record is silent."""

    title: str
    cells: tuple[str, ...]
    values: Floats
    half_digit: Floats

    @property
    def relative(self) -> float:
        """1e-5 of the largest absolute value."""
        told = np.abs(self.values[np.isfinite(self.values)])
        return max(RELATIVE * float(told.max(initial=0.0)), FLOOR)

    @property
    def variable(self) -> str:
        """The canonical name of the variable, without elements."""
        return key(self.title).partition("[")[0]


@dataclass(frozen=True)
class Record:
    """A recorded run; the time column is a column like any other."""

    time: Column
    columns: tuple[Column, ...]

    @property
    def variables(self) -> set[str]:
        return {column.variable for column in self.columns}


def files() -> list[str]:
    """Every model file of the corpus that has a record, as paths below the corpus."""
    found = [path for path in CORPUS.glob("*/*/*") if path.suffix.lower() in KINDS]
    names = sorted(path.relative_to(CORPUS).as_posix() for path in found)
    return [name for name in names if record_path(name) is not None]


def kind(name: str) -> str:
    return Path(name).suffix.lower()


def record_path(name: str) -> Path | None:
    """The record of a model file, if it has one."""
    folder = (CORPUS / name).parent
    candidates = _OWN_RECORD.get(name, _RECORDS[kind(name)])
    return next((folder / each for each in candidates if (folder / each).is_file()), None)


def data_files(name: str) -> list[str]:
    """Recorded data that a model reads without naming a file: every tool has to be told."""
    return [str((CORPUS / name).parent / each) for each in _DATA_FILES.get(name, ())]


def read_record(path: Path) -> Record:
    """Read a record: UTF-8 or Latin-1, any line end, tabs or commas. Short rows are silent at their end."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]
    titles, *rows = csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ",")
    columns = [
        _column(title, tuple(row[j].strip() if j < len(row) else "" for row in rows)) for j, title in enumerate(titles)
    ]
    return Record(columns[0], tuple(column for column in columns[1:] if np.isfinite(column.values).any()))


def _column(title: str, cells: tuple[str, ...]) -> Column:
    values = np.array([np.nan if cell in _NOT_TOLD else float(cell) for cell in cells])
    return Column(title, cells, values, np.array([_half_of_last_digit(cell) for cell in cells]))


def _half_of_last_digit(cell: str) -> float:
    """Half a unit of the last digit after the point; a whole number is taken as exact."""
    match = re.fullmatch(r"[-+]?\d*(?:\.(\d*))?(?:[eE]([-+]?\d+))?", cell)
    if match is None or not (match[1] or match[2]):
        return 0.0
    return 0.5000001 * 10.0 ** (int(match[2] or 0) - len(match[1] or ""))


def key(title: str) -> str:
    """One spelling for a column's title: ``Inflow A[Entry 1, Column 2]`` and ``inflow_a[entry_1,column_2]``."""
    title = title.strip().replace('\\"', '"')  # a quote within a quoted name
    name, bracket, elements = title.partition("[") if title.endswith("]") else (title, "", "")
    if not bracket:
        return canonical(name)
    return f"{canonical(name)}[{','.join(canonical(element) for element in elements[:-1].split(','))}]"


def compare(record: Record, frame: pd.DataFrame, *, rounding: bool = True) -> tuple[str, ...]:
    """Every difference of a run from its record as text: none means that it matches.

    Parameters
    ----------
    record : Record
        What the modelling tool recorded.
    frame : DataFrame
        ``time`` and one column for each variable, or for each element of an array; titles in any spelling.
    rounding : bool
        Allow for half of the last recorded digit; without, 1e-5 of the largest value is all that is allowed.
    """
    run = {key(str(title)): frame[title].to_numpy(dtype=float) for title in frame.columns}
    at = np.abs(run["time"] - record.time.values[:, None]).argmin(axis=1)
    differences = [_difference(record, record.time, run["time"][at], rounding)]
    for column in record.columns:
        values = run.get(key(column.title))
        if values is None:
            differences.append(f"{column.title} is not a variable of the run")
        else:
            differences.append(_difference(record, column, values[at], rounding))
    return tuple(difference for difference in differences if difference)


def _difference(record: Record, column: Column, values: Floats, rounding: bool) -> str:
    """Where a column first differs; empty if it does not."""
    tolerance = np.maximum(column.half_digit, column.relative) if rounding else column.relative
    near = (values == column.values) | (np.abs(values - column.values) <= tolerance)
    wrong = ~np.isnan(column.values) & ~near
    if not wrong.any():
        return ""
    first = int(np.argmax(wrong))
    when = record.time.cells[first]
    return f"{column.title} at {when}: {values[first]:.9g}, recorded {column.cells[first]}"


def summary(differences: tuple[str, ...]) -> str:
    """The first differences in one line."""
    rest = len(differences) - SHOWN
    more = f"; {rest} more column{'s' if rest > 1 else ''}" if rest > 0 else ""
    return "; ".join(differences[:SHOWN]) + more


def run_villageflow(name: str, wanted: Set[str], **settings: Any) -> pd.DataFrame:
    """The run as the file asks for it.

    Parameters
    ----------
    name : str
        The file.
    wanted : set of str
        Canonical names of the variables to save.
    **settings
        Of `villageflow.simulate`, where a test asks for something else than the file does.
    """
    model = vf.read_model(CORPUS / name, data_files=data_files(name))
    saves = [variable for variable in (*model.arrays, *model.variables) if variable in wanted]
    return run_frame(model, vf.simulate(model, save=saves, errors="flag", **settings))
