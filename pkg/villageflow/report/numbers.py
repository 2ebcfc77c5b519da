"""Results as one flat mapping of names to exact numbers: what fills the paper and what runs are compared by.

A name is made of lower-case words joined by dots, from the general to the particular:
``county_crowding.poisson_headline.own.log1p_lag_villages.estimate``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from villageflow.econometrics.studies import StudyTable
from villageflow.errors import ReportError
from villageflow.report.record import Scalar


def slug(label: object) -> str:
    """A label as one word of a name: lower case, all but letters, digits and minus signs becomes ``_``."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    word = re.sub(r"[^a-z0-9\-]+", "_", str(label).lower()).strip("_")
    if not word:
        raise ReportError(f"{label!r} cannot be part of the name of a result; give it a letter or a digit")
    return word


def frame_numbers(frame: pd.DataFrame, prefix: str) -> dict[str, Scalar]:
    """Every cell of a table as ``prefix.row.column``; a missing cell has no name.

    A row with several labels (a MultiIndex) contributes one word per label.
    """
    found: dict[str, Scalar] = {}
    for index, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
        labels = index if isinstance(index, tuple) else (index,)
        for column, value in zip(frame.columns, row, strict=True):
            if pd.isna(value):
                continue
            _add(found, ".".join([prefix, *map(slug, labels), slug(column)]), value)
    return found


def panel_numbers(panel: pd.DataFrame, prefix: str) -> dict[str, Scalar]:
    """Size of a panel indexed (entity, time): rows, entities, periods, first and last time."""
    entities, times = panel.index.get_level_values(0), panel.index.get_level_values(1)
    return {
        f"{prefix}.n_rows": len(panel),
        f"{prefix}.n_entities": int(entities.nunique()),
        f"{prefix}.n_periods": int(times.nunique()),
        f"{prefix}.first": int(times.min()),
        f"{prefix}.last": int(times.max()),
    }


def study_numbers(table: StudyTable) -> dict[str, Scalar]:
    """Coefficients, errors, p-values, intervals and sample sizes of a study, as ``study.block.column...``."""
    found: dict[str, Scalar] = {}
    for block in table.blocks:
        for label, result in block.columns:
            prefix = f"{slug(table.name)}.{slug(block.title)}.{slug(label)}"
            for name, value in frame_numbers(result.to_frame(), prefix).items():
                _add(found, name, value)
            _add(found, f"{prefix}.nobs", result.nobs)
            _add(found, f"{prefix}.n_entities", result.n_entities)
            _add(found, f"{prefix}.n_periods", result.n_periods)
            if result.n_clusters is not None:
                _add(found, f"{prefix}.n_clusters", result.n_clusters)
            for name, test in result.diagnostics.items():
                if test.p_value is not None:
                    _add(found, f"{prefix}.{slug(name)}.p_value", test.p_value)
    return found


def markdown_table(frame: pd.DataFrame, formats: Mapping[str, str], *, label: str = "") -> str:
    """A table as Markdown, each column in its format (``.2f``, ``,d``), a missing cell blank.

    Columns without a format are texts and stand to the left; `label` is the head of the column of row names.
    """
    heads = [label, *map(str, frame.columns)]
    lines = [heads]
    for index, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
        name = ", ".join(map(str, index)) if isinstance(index, tuple) else str(index)
        lines.append([name, *(_cell(value, formats.get(column, "")) for column, value in zip(frame.columns, row))])
    lines.insert(1, [
        _rule(max(len(line[i]) for line in lines), right=i > 0 and frame.columns[i - 1] in formats)
        for i in range(len(heads))
    ])
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"


def _rule(width: int, *, right: bool) -> str:
    """Dashes as many as the column is wide: pandoc divides a long line between columns in this proportion.

    Within limits, or a long text would leave nothing to the short columns beside it.
    """
    dashes = "-" * (min(max(width, 5), 38) + 2)
    return f"{dashes}:" if right else f":{dashes}"


def _add(found: dict[str, Scalar], name: str, value: object) -> None:
    if name in found:
        raise ReportError(f"two results would be named {name!r}; make their labels differ")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ReportError(f"result {name!r} is {value}; leave it out and say why")
    if not isinstance(value, str | bool | int | float):
        raise ReportError(f"result {name!r} is a {type(value).__name__}; results are numbers or texts")
    found[name] = value


def _cell(value: object, spec: str) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    return format(value, spec).replace("-", "\u2212") if spec else str(value)
