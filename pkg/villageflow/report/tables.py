"""Regression tables as CSV, Markdown and LaTeX; one covariance per block of rows, and all of it said below.

A table has blocks; a block has columns, one estimate each, and a row of coefficients with a row of standard
errors per term. Estimates whose covariances differ in kind are never put side by side.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from villageflow.econometrics.estimate import Estimate, latex_escape
from villageflow.econometrics.studies import Block, StudyTable
from villageflow.errors import ReportError

_STATED = ("estimator", "errors", "reference", "clusters", "observations", "entities", "periods", "dropped")
_SHARED = ("outcome", "estimator", "errors")


@dataclass(frozen=True)
class _Grid:
    """A block as text: column heads, rows of equal length, and what holds for all columns."""

    title: str
    heads: tuple[str, ...]
    figures: tuple[tuple[str, ...], ...]
    stated: tuple[tuple[str, ...], ...]
    shared: str


def table_of(
    name: str, title: str, estimates: Mapping[str, Estimate], notes: Sequence[str] = ()
) -> StudyTable:
    """A table of one block from labelled estimates."""
    return StudyTable(name, title, (Block(title, tuple(estimates.items())),), tuple(notes))


def to_csv(table: StudyTable) -> str:
    """One row per block, column and term, full precision, and what must be stated repeated in every row.

    Raises
    ------
    ReportError
        If a block mixes covariances, is empty, or states nothing where something must be stated.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["estimate", "std_error", "statistic", "p_value", "lower", "upper"]
    writer.writerow(["block", "column", "outcome", "term", *head, *_STATED])
    for block in table.blocks:
        check_block(block)
        for label, result in block.columns:
            said = result.describe()
            for term, row in zip(result.params.index, result.to_frame()[head].to_numpy(), strict=True):
                figures = [repr(float(value)) for value in row]
                cells = [block.title, label, result.outcome, term, *figures, *(said[key] for key in _STATED)]
                writer.writerow(cells)
    return out.getvalue()


def to_markdown(table: StudyTable, *, decimals: int = 3) -> str:
    """Blocks as Markdown tables, standard errors in parentheses, statements as rows, notes as a list.

    Raises
    ------
    ReportError
        As `to_csv`.
    """
    lines = [f"**{table.title}**", ""]
    for grid in _grids(table, decimals):
        lines += [f"*{grid.title}*", "", _pipe(("", *grid.heads)), _pipe(("---",) * (len(grid.heads) + 1))]
        lines += [_pipe(row) for row in (*grid.figures, *grid.stated)]
        lines += ["", grid.shared, ""]
    return "\n".join([*lines, *(f"- {note}" for note in _notes(table))]) + "\n"


def to_latex(table: StudyTable, *, decimals: int = 3) -> str:
    """Blocks as panels of one tabular (package booktabs), notes as lines below it.

    Raises
    ------
    ReportError
        As `to_csv`.
    """
    grids = _grids(table, decimals)
    width = max(len(grid.heads) for grid in grids)
    lines = [f"% {table.title}", rf"\begin{{tabular}}{{l{'r' * width}}}", r"\toprule"]
    for i, grid in enumerate(grids):
        lines += [r"\midrule"] if i else []
        lines.append(rf"\multicolumn{{{width + 1}}}{{l}}{{\emph{{{latex_escape(grid.title)}}}}} \\")
        lines += [_ampersand(("", *grid.heads), width), r"\midrule"]
        lines += [_ampersand(row, width) for row in grid.figures]
        lines += [r"\midrule", *(_ampersand(row, width) for row in grid.stated)]
        box = rf"\parbox{{0.9\linewidth}}{{\strut {latex_escape(grid.shared)}\strut}}"
        lines.append(rf"\multicolumn{{{width + 1}}}{{l}}{{{box}}} \\")
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join([*lines, *(latex_escape(note) + r"\par" for note in _notes(table))]) + "\n"


def write_tables(table: StudyTable, folder: str | Path, *, decimals: int = 3) -> tuple[Path, ...]:
    """Write ``<name>.csv``, ``<name>.md`` and ``<name>.tex`` into a folder, which is made if it is missing.

    Parameters
    ----------
    table : StudyTable
        What `villageflow.econometrics.studies.run_study` or `table_of` returns.
    folder : str or Path
        Where to write; files of the same names are replaced.
    decimals : int
        Least digits after the point in Markdown and LaTeX; small errors get more, the CSV all.

    Returns
    -------
    tuple of Path
        The three files.

    Raises
    ------
    ReportError
        As `to_csv`.
    """
    folder = Path(folder)
    texts = {
        ".csv": to_csv(table),
        ".md": to_markdown(table, decimals=decimals),
        ".tex": to_latex(table, decimals=decimals),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{table.name}{suffix}" for suffix in texts)
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def check_block(block: Block) -> None:
    """Refuse a block that has no columns, repeats a label, mixes covariances, or leaves a statement blank.

    Covariances are alike if type, cluster level, small-sample convention and kind of estimator agree; degrees
    of freedom may differ between columns, because their samples do.
    """
    if not block.columns:
        raise ReportError(f"Block {block.title!r} has no columns. Give it at least one estimate.")
    labels = [label for label, _ in block.columns]
    if len(set(labels)) < len(labels):
        raise ReportError(f"Block {block.title!r} uses a column label twice: {labels}. Name them apart.")
    first_label, first = block.columns[0]
    for label, result in block.columns:
        if _kind(result) != _kind(first):
            raise ReportError(
                f"Block {block.title!r} mixes covariances: {first_label!r} has {first.cov_label!r}, "
                f"{label!r} has {result.cov_label!r}. Put them into blocks of their own."
            )
        said = result.describe()
        for key in _STATED:
            if not said.get(key):
                raise ReportError(f"Column {label!r} of block {block.title!r} does not state its {key}.")


def _kind(result: Estimate) -> tuple[str, ...]:
    return result.spec.kind


def _grids(table: StudyTable, decimals: int) -> list[_Grid]:
    if not table.blocks:
        raise ReportError(f"Table {table.name!r} has no blocks. Give it at least one.")
    return [_grid(block, decimals) for block in table.blocks]


def _grid(block: Block, decimals: int) -> _Grid:
    check_block(block)
    results = [result for _, result in block.columns]
    figures: list[tuple[str, ...]] = []
    for term in dict.fromkeys(term for result in results for term in result.params.index):
        errors = [r.std_errors[term] if term in r.params.index else None for r in results]
        digits = max(_digits(error, decimals) for error in errors if error is not None)
        pairs = list(zip(results, errors, strict=True))
        figures.append((term, *("" if e is None else f"{r.params[term]:.{digits}f}" for r, e in pairs)))
        figures.append(("", *("" if e is None else f"({e:.{digits}f})" for e in errors)))
    said = [r.describe() | {"dropped": str(sum(item.n for item in r.dropped))} for r in results]
    keys = dict.fromkeys(key for one in said for key in one)
    same = [key for key in keys if key in _SHARED and len({one[key] for one in said}) == 1]
    stated = tuple((key, *(one.get(key, "") for one in said)) for key in keys if key not in same)
    shared = "; ".join([*(f"{key}: {said[0][key]}" for key in same), *_reasons(block)])
    return _Grid(block.title, tuple(label for label, _ in block.columns), tuple(figures), stated, shared)


def _reasons(block: Block) -> list[str]:
    """Why observations were dropped, once for all columns that share the reasons."""
    labels: dict[str, list[str]] = {}
    for label, result in block.columns:
        if result.dropped:
            labels.setdefault(result.describe()["dropped"], []).append(label)
    return [f"dropped in {', '.join(named)}: {text}" for text, named in labels.items()]


def _digits(error: float, decimals: int) -> int:
    """Digits after the point that show two significant ones of a standard error, at least ``decimals``."""
    return max(decimals, 1 - math.floor(math.log10(error))) if error > 0 else decimals


def _notes(table: StudyTable) -> list[str]:
    """What holds for the whole table, then the cautions of its estimates, each once."""
    found = ["Standard errors in parentheses.", *table.notes]
    found += [note for block in table.blocks for _, result in block.columns for note in result.notes]
    return list(dict.fromkeys(found))


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _ampersand(cells: Sequence[str], width: int) -> str:
    filled = [*cells, *[""] * (width + 1 - len(cells))]
    return " & ".join(latex_escape(cell) for cell in filled) + r" \\"
