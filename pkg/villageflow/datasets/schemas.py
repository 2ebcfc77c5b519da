"""The schemas of all tables, shipped and user-made, and the one function that reads a table by its schema.

Cells are converted here, with the line of the file at hand; pandera checks the converted table. Every fault
becomes one line: file, row, column, value, rule, remedy. Unknown columns are faults. pandera is imported on
first use, because the import is slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from villageflow.datasets.fields import Domain, Field, Needs, Order, TableSchema
from villageflow.datasets.reading import (
    RawTable,
    check_columns,
    fault,
    parse_number,
    raise_faults,
    read_cells,
)
from villageflow.errors import DataError, did_you_mean

_TEXT = Field()
_NOTE = Field(required=False, nullable=True)
_NUMBER = Field("number")
_YEAR = Field("integer", low=1900, high=2100)
_COUNT = Field("integer", low=0)
_COMPARATORS = ("=", ">=", "<=", "~", "forecast")
_LONG = {"year": _YEAR, "variable": _TEXT, "value": _NUMBER, "unit": _TEXT, "source_id": _TEXT}
_OPTIONAL = Field(required=False, nullable=True)

SCHEMAS: Mapping[str, TableSchema] = {
    "parameters": TableSchema(
        {
            "name": _TEXT,
            "element": _OPTIONAL,
            "unit": _TEXT,
            "scale": Field(allowed=("lin", "log", "logit")),
            "lower": _NUMBER,
            "mode": Field("number", nullable=True),
            "upper": _NUMBER,
            "distribution": Field(allowed=("uniform", "loguniform", "triangular", "normal", "lognormal")),
            "effect": Field(allowed=("none", "shared", "fixed", "random")),
            "source": _TEXT,
            "note": _NOTE,
        },
        key=("name", "element"),
        orders=(Order(("lower", "mode", "upper")),),
        domains=(Domain(("lower", "upper")),),
        needs=(Needs("mode", "distribution", ("triangular", "normal", "lognormal")),),
    ),
    "settings": TableSchema(
        {"setting": Field(allowed=("model", "method", "time_step")), "value": _TEXT}, key=("setting",)
    ),
    "values": TableSchema({"name": _TEXT, "element": _OPTIONAL, "value": _NUMBER}, key=("name", "element")),
    "scenarios": TableSchema(
        {
            "scenario": _TEXT,
            "name": Field(nullable=True),
            "element": _OPTIONAL,
            "value": Field("number", nullable=True),
            "from_time": Field("number", required=False, nullable=True),
            "to_time": Field("number", required=False, nullable=True),
            "note": _NOTE,
        },
        key=("scenario", "name", "element", "from_time"),
        orders=(Order(("from_time", "to_time")),),
        needs=(Needs("value", "name"), Needs("name", "value")),
    ),
    "observables": TableSchema(
        {
            "observable": _TEXT,
            "formula": _TEXT,
            "kind": Field(allowed=("level", "net_flow", "share", "count")),
            "noise": Field(
                allowed=("normal", "lognormal", "logitnormal", "beta", "poisson", "negbinomial", "student")
            ),
            "noise_parameter": Field(nullable=True),
            "unit": _TEXT,
            "centred": Field("integer", required=False, nullable=True, low=0, high=1),
        },
        key=("observable",),
    ),
    "covariates": TableSchema(
        {
            "entity": _TEXT,
            "name": _TEXT,
            "time": Field("number", nullable=True),
            "value": _NUMBER,
            "source_id": _TEXT,
        },
        key=("entity", "name", "time"),
    ),
    "measurements": TableSchema(
        {
            "entity": _TEXT,
            "time": _NUMBER,
            "observable": _TEXT,
            "value": _NUMBER,
            "comparator": Field(allowed=("=", ">=", "<=")),
            "source_id": _TEXT,
            "from_time": Field("number", required=False, nullable=True),
        },
        key=("entity", "time", "observable", "comparator"),
        orders=(Order(("from_time", "time")),),
    ),
    "reference_modes": TableSchema(
        {
            "rm_id": _TEXT,
            "system": _TEXT,
            "kind": Field(allowed=("q", "s", "cf")),
            "statement": _TEXT,
            "finding": _NOTE,
        },
        key=("rm_id",),
    ),
    "archetypes": TableSchema(
        {
            "archetype": _TEXT,
            "name": _TEXT,
            "element": _OPTIONAL,
            "value": _NUMBER,
            "unit": _TEXT,
            "source": _TEXT,
            "note": _NOTE,
        },
        key=("archetype", "name", "element"),
    ),
    "loops": TableSchema(
        {
            "loop": _TEXT,
            "name": _TEXT,
            "polarity": Field(allowed=("R", "B")),
            "variables": _TEXT,
            "switch": Field(nullable=True),
            "note": _NOTE,
        },
        key=("loop",),
    ),
    "sources": TableSchema(
        {"source_id": _TEXT, "citation": _TEXT, "location": _TEXT, "licence": _TEXT}, key=("source_id",)
    ),
    "codebook": TableSchema(
        {
            "table": _TEXT,
            "column": _TEXT,
            "label": _TEXT,
            "unit": _TEXT,
            "type": Field(allowed=("key", "text", "integer", "number", "variable")),
            "timing": _TEXT,
            "missing": _TEXT,
            "warning": Field(nullable=True),
        },
        key=("table", "column"),
    ),
    "villages_county_year": TableSchema(
        {
            "province": _TEXT,
            "city": _TEXT,
            "county": _TEXT,
            "year": _YEAR,
            "villages": _COUNT,
            "towns": _COUNT,
            "in_roster": Field("integer", low=0, high=1),
            "source_id": _TEXT,
        },
        key=("province", "city", "county", "year"),
        orders=(Order(("towns", "villages")),),
    ),
    "villages_area_year": TableSchema(
        {
            "area": _TEXT,
            "area_kind": Field(allowed=("province", "nation", "aggregate")),
            **_LONG,
            "value": Field("number", low=0),
            "note": _NOTE,
        },
        key=("area", "year", "variable"),
    ),
    "villages_entry_exit": TableSchema(
        {
            "province": _TEXT,
            "from_year": _YEAR,
            "to_year": _YEAR,
            **dict.fromkeys(("listed0", "listed1", "unique0", "unique1"), _COUNT),
            **dict.fromkeys(("survivors", "entrants", "exits_upper", "exits_lower"), _COUNT),
            "source_id": _TEXT,
        },
        key=("province", "from_year"),
        orders=(Order(("from_year", "to_year")), Order(("exits_lower", "exits_upper"))),
    ),
    "counties_province_year": TableSchema(
        {"province": _TEXT, **_LONG, "note": _NOTE}, key=("province", "year", "variable")
    ),
    "provinces": TableSchema({"province": _TEXT, **_LONG}, key=("province", "year", "variable")),
    "nation": TableSchema(
        {"area": _TEXT, **_LONG, "comparator": Field(allowed=_COMPARATORS), "note": _NOTE},
        key=("area", "year", "variable", "comparator"),
    ),
    "migrant_workers": TableSchema(
        {"region": _TEXT, **_LONG, "note": _NOTE}, key=("region", "year", "variable")
    ),
    "demonstration_counties": TableSchema(
        {"area": _TEXT, **_LONG, "note": _NOTE}, key=("area", "year", "variable")
    ),
    "published_estimates": TableSchema(
        {
            "estimate_id": _TEXT,
            "study": _TEXT,
            "outcome": _TEXT,
            "treatment": _TEXT,
            "estimate": Field("number", nullable=True),
            "std_error": Field("number", nullable=True, low=0),
            "significance": Field(nullable=True),
            "nobs": Field("integer", nullable=True, low=1),
            "sample": Field(nullable=True),
            "specification": Field(nullable=True),
            "source_id": _TEXT,
            "note": _NOTE,
        },
        key=("estimate_id",),
    ),
    "facts": TableSchema(
        {
            "fact_id": _TEXT,
            "place": _TEXT,
            "entity": _TEXT,
            "variable": _TEXT,
            "value_low": Field("number", nullable=True),
            "value_high": Field("number", nullable=True),
            "comparator": Field(allowed=("=", "~", ">", "<")),
            "unit": _TEXT,
            "year": _TEXT,
            "year_from": Field("integer", nullable=True, low=1900, high=2100),
            "year_to": Field("integer", nullable=True, low=1900, high=2100),
            "statement": _TEXT,
            "usable_as": Field(
                allowed=(
                    "context",
                    "parameter prior",
                    "initial condition",
                    "calibration target",
                    "validation reference mode",
                )
            ),
            "source_id": _TEXT,
            "paragraph": _TEXT,
            "caution": Field(nullable=True),
        },
        key=("fact_id",),
        orders=(Order(("value_low", "value_high")), Order(("year_from", "year_to"))),
    ),
}


def read_table(path: str | Path, schema_name: str) -> pd.DataFrame:
    """Read a CSV file and check it against a registered schema.

    Parameters
    ----------
    path : str or Path
        A CSV file in UTF-8 with one header line.
    schema_name : str
        A key of `SCHEMAS`, such as ``parameters``.

    Returns
    -------
    pandas.DataFrame
        One row per record, columns in the order of the schema. Numbers are float64, integers Int64, text is
        str; blank cells are missing. Units stay as written: they are checked to be present, not understood.
        ``attrs`` holds the path and the line of each row.

    Raises
    ------
    DataError
        If the file cannot be read or breaks the schema; one line with file, row (line of the file), column,
        value, rule and remedy of the first fault, and how many more there are.
    """
    if schema_name not in SCHEMAS:
        raise DataError(f"No table schema is called {schema_name!r}. {did_you_mean(schema_name, SCHEMAS)}")
    schema = SCHEMAS[schema_name]
    raw = read_cells(path)
    check_columns(raw, required=[n for n, f in schema.fields.items() if f.required], known=schema.fields)
    faults: list[str] = []
    frame = pd.DataFrame(
        {
            name: _column(raw, name, field, faults)
            if name in raw.columns
            else pd.Series([None] * len(raw.records), dtype="object")
            for name, field in schema.fields.items()
        }
    )
    faults += _pandera_faults(frame, schema_name, raw)
    raise_faults(raw.path, faults)
    frame.attrs.update(path=str(raw.path), lines=list(raw.lines))
    return frame


def _column(raw: RawTable, name: str, field: Field, faults: list[str]) -> pd.Series[Any]:
    position = raw.columns.index(name)
    cells = [record[position] for record in raw.records]
    if field.kind == "text":
        return pd.Series([cell or None for cell in cells], dtype="object")
    values: list[float | None] = []
    for line, cell in zip(raw.lines, cells, strict=True):
        value = parse_number(cell, field.kind) if cell else None
        if cell and value is None:
            word = "a whole number" if field.kind == "integer" else "a number"
            faults.append(fault(line, name, cell, f"is not {word}", "Write it without unit or separators."))
        values.append(value)
    return pd.Series(values, dtype="float64" if field.kind == "number" else "Int64")


def _pandera_faults(frame: pd.DataFrame, schema_name: str, raw: RawTable) -> list[str]:
    import pandera.errors

    try:
        _pandera_schema(schema_name).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        cases = errors.failure_cases.sort_values("index", kind="stable")
        found = (
            _fault_of(frame, SCHEMAS[schema_name], raw, int(row), str(column), str(check))
            for row, column, check in zip(cases["index"], cases["column"], cases["check"], strict=True)
        )
        return list(dict.fromkeys(text for text in found if text))
    return []


def _fault_of(
    frame: pd.DataFrame, schema: TableSchema, raw: RawTable, row: int, column: str, check: str
) -> str:
    """One failure case as text; empty if the cell was already reported when it was converted."""

    def cells(names: Iterable[str]) -> str:
        return ", ".join(str(value) for value in frame.loc[row, list(names)].dropna())

    line = raw.lines[row]
    if check == "multiple_fields_uniqueness":
        keys = frame[list(schema.key)].astype("object").fillna("")
        same = keys == keys.loc[row]
        first = int(same.all(axis=1).to_numpy().argmax())
        if first == row:
            return ""
        rule = f"repeats row {raw.lines[first]}; these columns identify a row"
        return fault(line, ", ".join(schema.key), cells(schema.key), rule, "Keep one of the rows.")
    rule, _, listed = check.partition(":")
    names = listed.split(",")
    if rule == "order":
        rule = f"breaks {' <= '.join(names)}"
        return fault(line, ", ".join(names), cells(names), rule, "Correct the values.")
    if rule == "domain":
        rule = "is outside the scale: log needs values above 0, logit values between 0 and 1"
        return fault(line, ", ".join(names), cells(names), rule, "Correct the bounds or the scale.")
    if rule == "needs":
        column, by = names
        blank = column not in raw.columns or not raw.records[row][raw.columns.index(column)]
        rule = f"is blank; {by} {frame.loc[row, by]!s} needs it"
        return fault(line, column, "", rule, "Fill the cell.") if blank else ""
    if check == "not_nullable":
        blank = column not in raw.columns or not raw.records[row][raw.columns.index(column)]
        return fault(line, column, "", "is blank", "Fill the cell.") if blank else ""
    cell = frame.loc[row, column]
    return fault(line, column, cell.item() if isinstance(cell, np.generic) else cell, check, "Correct the cell.")


@cache
def _pandera_schema(schema_name: str) -> Any:
    import pandera.pandas as pa

    schema = SCHEMAS[schema_name]

    def checks(field: Field) -> list[Any]:
        found = []
        if field.allowed:
            found.append(pa.Check.isin(field.allowed, error=f"is not one of {', '.join(field.allowed)}"))
        if field.low is not None:
            found.append(pa.Check.ge(field.low, error=f"is below {field.low:g}"))
        if field.high is not None:
            found.append(pa.Check.le(field.high, error=f"is above {field.high:g}"))
        return found

    def in_order(columns: tuple[str, ...]) -> Any:
        def check(table: pd.DataFrame) -> pd.Series[Any]:
            values = table[list(columns)].astype("float64")
            return (values.ffill(axis=1).diff(axis=1).fillna(0.0) >= 0).all(axis=1)

        return pa.Check(check, error=f"order:{','.join(columns)}", ignore_na=False)

    def in_domain(domain: Domain) -> Any:
        def check(table: pd.DataFrame) -> pd.Series[Any]:
            values = table[list(domain.columns)]
            above, below = ~(values <= 0).any(axis=1), ~(values >= 1).any(axis=1)
            scale = table[domain.scale]
            return ~((scale.isin(["log", "logit"]) & ~above) | ((scale == "logit") & ~below))

        return pa.Check(check, error=f"domain:{','.join(domain.columns)}", ignore_na=False)

    def in_need(needs: Needs) -> Any:
        def check(table: pd.DataFrame) -> pd.Series[Any]:
            asks = table[needs.by].isin(needs.among) if needs.among else table[needs.by].notna()
            return ~asks | table[needs.column].notna()

        return pa.Check(check, error=f"needs:{needs.column},{needs.by}", ignore_na=False)

    return pa.DataFrameSchema(
        {
            name: pa.Column(None, nullable=field.nullable or not field.required, checks=checks(field))
            for name, field in schema.fields.items()
        },
        checks=[
            *(in_order(order.columns) for order in schema.orders),
            *(in_domain(domain) for domain in schema.domains),
            *(in_need(needs) for needs in schema.needs),
        ],
        unique=list(schema.key),
        strict=True,
    )
