"""The labelled form of results: names of dimensions, and what every variable carries."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from villageflow.ir.model import Array, Model
from villageflow.timegrid import TimeGrid

Labelled: TypeAlias = tuple[tuple[str, ...], npt.NDArray[np.float64], dict[str, str]]

MEMBER: Final = "member"
TIME: Final = "time"
SCENARIO: Final = "scenario"
STATUS: Final = "status"
QUANTILE: Final = "quantile"
RESERVED: Final = frozenset({MEMBER, TIME, SCENARIO, STATUS})
FINISHED: Final = -1

STATUS_TEXT: Final = (
    "-1 = finished; k = first step at which a stock, or a value that was saved, was not finite (0 = at the start); "
    "with steps of variable length also the first step of the time grid that was not reached"
)


def labelled(model: Model, name: str, values: npt.NDArray[np.float64], dims: tuple[str, ...]) -> Labelled:
    """A data variable with unit, name as written and documentation."""
    variable = model.variables.get(name)
    attributes = {"long_name": name, "units": "", "description": "", "kind": "stock"}
    if variable is not None:
        attributes = {
            "long_name": variable.name,
            "units": variable.units,
            "description": variable.documentation,
            "kind": variable.kind.value,
        }
    return dims, values, attributes


def time_coordinate(model: Model, times: npt.NDArray[np.float64]) -> xr.Variable:
    """The time axis with its unit."""
    return xr.Variable(TIME, times, {"long_name": "Time", "units": model.time_units})


def dimension_coordinates(model: Model, array: Array) -> dict[str, list[str]]:
    """The dimensions of an array with their elements as written; one that occurs again gets a number."""
    coordinates: dict[str, list[str]] = {}
    for name in array.dimensions:
        again = sum(1 for key in coordinates if key == name or key.startswith(f"{name}_"))
        coordinates[f"{name}_{again + 1}" if name in coordinates else name] = list(model.dimensions[name].labels)
    return coordinates


@lru_cache(maxsize=16)
def axes(model: Model, n_members: int, grid: TimeGrid) -> xr.Coordinates:
    """The coordinates that every result has, made once: their indexes cost more than a short run's values."""
    return xr.Dataset(coords={MEMBER: np.arange(n_members), TIME: time_coordinate(model, grid.save_times())}).coords
