"""Tables that set values of a model's constants, checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from villageflow.datasets.reading import fault, raise_faults
from villageflow.errors import ModelFileError, did_you_mean
from villageflow.ir.model import Model
from villageflow.names import variable_id
from villageflow.units import same_unit


def check_values(table: pd.DataFrame, model: Model, *, column: str = "value") -> None:
    """Check the values that a table sets against a model.

    Parameters
    ----------
    table : DataFrame
        As `read_table` reads archetypes, scenarios, values or, for one of their bounds, parameters.
    model : Model
        Whose constants are set.
    column : str
        Where the values are.

    Raises
    ------
    DataError
        One line with file and row of each name that is no constant, constant that is set twice, unit that is another
        than in the model, and value outside the range that the model declares.
    """
    faults: list[str] = []
    seen: dict[tuple[object, str], int] = {}
    lines = table.attrs.get("lines", range(2, len(table) + 2))
    for line, row in zip(lines, table.to_dict("records"), strict=True):
        if not isinstance(row["name"], str):  # a scenario without changes
            continue
        name = row_id(row)
        for element in model.arrays[name].ids if name in model.arrays else (name,):
            if element is None:
                continue
            first = seen.setdefault((row.get("archetype", row.get("scenario")), element), line)
            if first != line:
                rule = f"sets {element!r}, as row {first} does"
                faults.append(fault(line, "name", str(row["name"]), rule, "Keep one of the rows."))
            faults += _faults(element, line, row, model, column)
    raise_faults(Path(table.attrs.get("path", "table")), faults)


def _faults(name: str, line: int, row: Mapping[Any, Any], model: Model, column: str) -> list[str]:
    if name not in model.constants:
        rule = f"is no constant of model {model.name!r}"
        return [fault(line, "name", name, rule, did_you_mean(name, model.constants))]
    variable, found = model.variables[name], []
    if isinstance(unit := row.get("unit"), str) and not same_unit(unit, variable.units):
        found.append(fault(line, "unit", unit, f"is not the unit of {name!r}", f"The model has {variable.units!r}."))
    (low, high), value = variable.limits, row[column]
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"[{'?' if low is None else f'{low:g}'}, {'?' if high is None else f'{high:g}'}]"
        rule = f"is outside {bounds}, the range of {name!r}"
        found.append(fault(line, column, f"{value:g}", rule, "Choose a value within it."))
    return found


def row_id(row: Mapping[Any, Any] | pd.Series) -> str:
    """The constant that a row names, with its element where one is given."""
    element = row.get("element")
    return variable_id(str(row["name"]), "" if element is None or pd.isna(element) else str(element))


def row_values(table: pd.DataFrame) -> dict[str, float]:
    """The values of a table's rows, by the constants that they name."""
    return {row_id(row): float(row["value"]) for row in table.to_dict("records")}


def archetype_values(table: pd.DataFrame, archetype: str, model: Model) -> dict[str, float]:
    """The values of one archetype of a table, by the constants that they set.

    Raises
    ------
    ModelFileError
        If the table has no such archetype.
    """
    known = list(dict.fromkeys(table["archetype"]))
    if archetype not in known:
        raise ModelFileError(f"model {model.name!r} has no archetype {archetype!r}. {did_you_mean(archetype, known)}")
    return row_values(table[table["archetype"] == archetype])


def values_on_top(model: Model, below: dict[str, float], above: dict[str, float]) -> dict[str, float]:
    """Values of which the later replace the earlier, also where one names an array and the other its elements."""
    def elements(name: str) -> list[str]:
        return [element for element in model.arrays[name].ids if element] if name in model.arrays else [name]

    replaced = {element for name in above for element in elements(name)}
    kept = {element: value for name, value in below.items() for element in elements(name) if element not in replaced}
    return kept | above
