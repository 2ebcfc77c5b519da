"""Results to files and text: the formats that the command line writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from villageflow.ensemble.simulate import time_grid
from villageflow.errors import DesignError, ReportError
from villageflow.ir.model import Kind, Model

SUFFIXES = (".csv", ".nc")


def check_output(path: Path) -> Path:
    """Refuse an output that could not be written, before anything is computed."""
    if path.suffix.lower() not in SUFFIXES:
        kinds = " or ".join(SUFFIXES)
        raise ReportError(f"{path}: results are written as {kinds}; {path.suffix or 'no suffix'} is neither")
    if path.is_dir():
        raise ReportError(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise ReportError(f"{path}: the folder {path.parent} does not exist; make it first")
    return path


def run_frame(model: Model, ds: xr.Dataset) -> pd.DataFrame:
    """One run as a table: ``time`` and one column for each variable, named as the model writes it.

    An array has a column for each element, ``Name[Element,Element]``.

    Parameters
    ----------
    model : Model
        What was run.
    ds : Dataset
        Result of one member.
    """
    columns: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {"time": ds["time"].to_numpy()}
    for name in map(str, ds.data_vars):
        if name in model.arrays:
            values = ds[name].isel(member=0).to_numpy()
            for i, column in zip(model.arrays[name].ids, values.reshape(len(values), -1).T, strict=True):
                if i is not None:
                    columns[model.variables[i].name] = column
        elif name in model.variables:
            columns[model.variables[name].name] = ds[name].isel(member=0).to_numpy()
    return pd.DataFrame(columns)


def save_run(model: Model, ds: xr.Dataset, path: Path) -> None:
    """Write one run as ``.csv`` (see `run_frame`) or ``.nc``."""
    if path.suffix.lower() == ".csv":
        run_frame(model, ds).to_csv(path, index=False, lineterminator="\n")
    else:
        save_netcdf(ds, path)


def save_ensemble(ds: xr.Dataset, path: Path) -> None:
    """Write an ensemble as ``.nc``, or ``.csv`` with one row for each scenario, member or quantile, and time."""
    if path.suffix.lower() == ".csv":
        ds.drop_vars("status", errors="ignore").to_dataframe().to_csv(path, lineterminator="\n")
    else:
        save_netcdf(ds, path)


def save_netcdf(ds: xr.Dataset, path: Path) -> None:
    """Write netCDF-4 without dates, so that equal results give equal files."""
    path.unlink(missing_ok=True)
    ds.to_netcdf(path, engine="h5netcdf")


def describe(model: Model) -> str:
    """A model as text: time span, stocks with units, constants with value and unit."""
    counts = {kind: sum(1 for v in model.variables.values() if v.kind is kind) for kind in Kind}
    stocks = [name for name, variable in model.variables.items() if variable.kind is Kind.STOCK]
    lines = [
        f"model      {model.name}",
        f"sha256     {model.digest}",
        f"method     {model.method}",
        f"time       {_time(model)}",
        f"time unit  {model.time_units or 'not stated'}",
        "variables  " + ", ".join(f"{count} {kind.value}" for kind, count in counts.items() if count),
        "",
        "stocks",
        *_aligned([(name, model.variables[name].units) for name in stocks]),
        "",
        "constants, which --set and a design can change",
        *_aligned([
            (name, f"{value:.10g}", model.variables[name].units)
            for name, value in model.constants.items() if name not in model.structural
        ]),
    ]
    if model.structural:
        fixed = [(name, f"{model.constants[name]:.10g}", f"sets {what}") for name, what in model.structural.items()]
        lines += ["", "constants that cannot be changed", *_aligned(fixed)]
    return "\n".join(lines)


def _time(model: Model) -> str:
    try:
        grid = time_grid(model)
    except DesignError as error:
        return f"cannot be told: {error}"
    return f"{grid.start:g} to {grid.stop:g}, step {grid.step:g}, saved every {grid.save_every:g}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as indented text in columns; names and units to the left, numbers (of rows of three) to the right."""
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))] if rows else []
    return [
        "  " + "  ".join(
            cell.rjust(width) if j == 1 and len(row) == 3 else cell.ljust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ] or ["  none"]
