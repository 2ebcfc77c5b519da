"""Where parameters live: natural values, their transformed scale, and the unit box of the optimiser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from villageflow.datasets.values import row_id
from villageflow.errors import CalibrationError, did_you_mean

Floats: TypeAlias = npt.NDArray[np.float64]

SCALES: Final = ("lin", "log", "logit")


def as_table(given: Any, what: str, schema: str) -> pd.DataFrame:
    """A table with its rows numbered from 0; refuses what is no DataFrame, such as a list of rows or a path."""
    if not isinstance(given, pd.DataFrame):
        raise CalibrationError(
            f"the {what} are {given!r:.60}, a {type(given).__name__}; give a DataFrame, as "
            f'villageflow.datasets.read_table(path, "{schema}") reads it'
        )
    return given.reset_index(drop=True)


def as_number(value: Any) -> float | None:
    """A cell as a float, NaN where it is blank; None for what is no number, such as text, a date or True."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return np.nan if pd.isna(value) else float(value)
    except (TypeError, ValueError):
        return None


def with_floats(table: pd.DataFrame, columns: Iterable[str], what: str) -> pd.DataFrame:
    """The table with those of its columns as float64.

    Parameters
    ----------
    table : DataFrame
        Rows numbered from 0.
    columns : iterable of str
        Columns of numbers; one that the table lacks is passed over.
    what : str
        What to call a row in messages.

    Raises
    ------
    CalibrationError
        A cell that is no number, such as text or a date, with its row and column. Text that reads as a number is one.
    """
    found = table.copy()
    for column in table.columns.intersection([*columns]):
        if table[column].dtype.kind in "iuf":
            found[column] = table[column].to_numpy(dtype=float, na_value=np.nan)
            continue
        numbers = [as_number(value) for value in table[column]]
        if None in numbers:
            row = numbers.index(None)
            raise CalibrationError(
                f"{what} row {row}: {column} is {table[column].iloc[row]!r}; it must be a number"
                + (", such as 2016.75 for a time" if "time" in column else "")
            )
        found[column] = np.array(numbers, dtype=float)
    return found


@dataclass(frozen=True)
class Box:
    """Free parameters with scale and bounds; maps natural values, transformed values and the unit box.

    Attributes
    ----------
    names : tuple of str
        Canonical names, one for each column of every array below.
    scales : tuple of {"lin", "log", "logit"}
        Transformed value: the value itself, its natural logarithm, or ``ln(x / (1 - x))``.
    lower, upper : (p,) arrays
        Bounds in natural units, ``lower < upper``.
    """

    names: tuple[str, ...]
    scales: tuple[str, ...]
    lower: Floats
    upper: Floats

    @classmethod
    def of(cls, ranges: Mapping[str, tuple[str, float, float]]) -> Box:
        """From name -> (scale, lower, upper).

        Raises
        ------
        CalibrationError
            A bound that is not finite, not in order, or outside its scale.
        """
        for name, (scale, low, high) in ranges.items():
            if scale not in SCALES:
                raise CalibrationError(f"parameter {name!r} has scale {scale!r}. {did_you_mean(scale, SCALES)}")
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise CalibrationError(
                    f"parameter {name!r} is free on [{low:g}, {high:g}]; a free parameter needs a finite lower bound "
                    "below its upper bound, or move it to fixed="
                )
            if (scale != "lin" and low <= 0) or (scale == "logit" and high >= 1):
                needs = "bounds above 0" if scale == "log" else "bounds between 0 and 1"
                raise CalibrationError(
                    f"parameter {name!r} is on the {scale} scale with [{low:g}, {high:g}]; it needs {needs}"
                )
        names = tuple(ranges)
        bounds = np.array([[low, high] for _, low, high in ranges.values()], dtype=float).reshape(len(names), 2)
        return cls(names, tuple(scale for scale, _, _ in ranges.values()), bounds[:, 0], bounds[:, 1])

    @classmethod
    def from_table(cls, parameters: pd.DataFrame) -> Box:
        """From the rows of a ``parameters.csv``: name, scale, lower, upper."""
        parameters = as_table(parameters, "parameters", "parameters")
        for column in ("name", "scale", "lower", "upper"):
            if column not in parameters.columns:
                raise CalibrationError(f"the parameter table lacks column {column!r} (of name, scale, lower, upper)")
        ranges: dict[str, tuple[str, float, float]] = {}
        table = with_floats(parameters, ("lower", "upper"), "parameter")
        for row in table.to_dict("records"):
            name = row_id(row)
            if name in ranges:
                raise CalibrationError(f"parameter {name!r} has two rows; keep one")
            ranges[name] = (str(row["scale"]), row["lower"], row["upper"])
        return cls.of(ranges)

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return len(self.names)

    def transformed(self, natural: Floats) -> Floats:
        """Natural to transformed values; (..., p) arrays."""
        result = np.array(natural, dtype=float)
        for j, scale in enumerate(self.scales):
            if scale == "log":
                result[..., j] = np.log(result[..., j])
            elif scale == "logit":
                result[..., j] = logit(result[..., j])
        return result

    def from_transformed(self, transformed: Floats) -> Floats:
        """Transformed to natural values, clipped to the bounds (which undoes rounding at the edge)."""
        result = np.array(transformed, dtype=float)
        for j, scale in enumerate(self.scales):
            if scale == "log":
                result[..., j] = np.exp(result[..., j])
            elif scale == "logit":
                result[..., j] = expit(result[..., j])
        return np.asarray(np.clip(result, self.lower, self.upper))

    @property
    def width(self) -> Floats:
        """Width of the bounds on the transformed scale, (p,)."""
        return self.transformed(self.upper) - self.transformed(self.lower)

    def natural(self, unit: Floats) -> Floats:
        """Unit box to natural values; (..., p) arrays."""
        return self.from_transformed(self.transformed(self.lower) + unit * self.width)

    def unit(self, natural: Floats) -> Floats:
        """Natural values to the unit box; (..., p) arrays."""
        return (self.transformed(natural) - self.transformed(self.lower)) / self.width

    def slope(self, natural: Floats) -> Floats:
        """Derivative of the natural by the transformed value, (p,): the factor of the delta method."""
        kinds = np.array(self.scales)
        return np.where(kinds == "lin", 1.0, np.where(kinds == "log", natural, natural * (1 - natural)))


def given_starts(box: Box, table: pd.DataFrame | None) -> Floats | None:
    """Starts that a user gives, in natural units by parameter, as points of the unit box.

    Raises
    ------
    CalibrationError
        A parameter without a column, a column that is none, or a value outside the bounds.
    """
    if table is None:
        return None
    for name in [*box.names, *map(str, table.columns)]:
        if name not in box.names or name not in table.columns:
            fault = "no column for the free parameter" if name in box.names else "a column that is no free parameter:"
            raise CalibrationError(f"the given starts have {fault} {name!r}. {did_you_mean(name, box.names)}")
    values = table[list(box.names)].to_numpy(dtype=float)
    outside = np.argwhere(~((values >= box.lower) & (values <= box.upper)))
    if len(outside):
        row, j = outside[0]
        raise CalibrationError(
            f"row {row} of the given starts has {box.names[j]} = {values[row, j]:g}; it must be within its bounds "
            f"[{box.lower[j]:g}, {box.upper[j]:g}]"
        )
    return box.unit(values)
