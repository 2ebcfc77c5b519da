"""A calibration problem as a folder of tables, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from villageflow import library
from villageflow.calibrate.problem import Problem, observables_of
from villageflow.datasets.schemas import read_table
from villageflow.datasets.values import row_values
from villageflow.errors import CalibrationError
from villageflow.ir.model import Model

SETTINGS: Final = "problem.csv"
_OPTIONAL: Final = {"holdout": "measurements", "covariates": "covariates", "fixed": "values"}
_WRITTEN: Final = ("name", "formula", "kind", "noise", "noise_parameter", "unit", "centred")


def read_problem(folder: str | Path) -> Problem:
    """Read a problem.

    Parameters
    ----------
    folder : str or Path
        With ``problem.csv`` (settings ``model``: a file of the folder or the name of a shipped model, and if wanted
        ``method`` and ``time_step``), ``parameters.csv``, ``observables.csv``, ``measurements.csv`` and, if wanted,
        ``holdout.csv``, ``covariates.csv``, ``fixed.csv``; docs/tables.md has the columns. Parameters with the effect
        ``none`` keep the values of the model.

    Returns
    -------
    Problem

    Raises
    ------
    VillageflowError
        If a file is missing or breaks its schema, or the problem is not well posed: one line with file, row and rule.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CalibrationError(f"{folder} is no folder; a problem is a folder with {SETTINGS} and its tables")
    table = read_table(folder / SETTINGS, "settings")
    settings = dict(zip(table["setting"], table["value"]))
    if "model" not in settings:
        raise CalibrationError(f"{folder / SETTINGS}: no setting 'model'; name a file of the folder or a shipped model")
    parameters = read_table(folder / "parameters.csv", "parameters")
    found = {
        name: read_table(folder / f"{name}.csv", schema)
        for name, schema in _OPTIONAL.items()
        if (folder / f"{name}.csv").is_file()
    }
    given: dict[str, pd.DataFrame] = {name: found[name] for name in ("holdout", "covariates") if name in found}
    return Problem(
        model=_model(folder, settings["model"]),
        parameters=parameters[parameters["effect"] != "none"],
        observables=observables_of(read_table(folder / "observables.csv", "observables")),
        measurements=read_table(folder / "measurements.csv", "measurements"),
        fixed=row_values(found["fixed"]) if "fixed" in found else {},
        time_step=_number(folder, settings.get("time_step")),
        method=settings.get("method"),
        **given,
    )


def write_problem(problem: Problem, folder: str | Path, *, model: str) -> None:
    """Write the tables of a problem.

    Parameters
    ----------
    problem : Problem
        What to write.
    folder : str or Path
        Made if it is missing; tables of the same names are replaced.
    model : str
        What ``problem.csv`` names: a model file that stands or will stand in the folder, or a shipped model. The file
        itself is not written.

    Raises
    ------
    CalibrationError
        If the parameters lack a column that a file needs (unit, distribution, source).
    """
    folder = Path(folder)
    needed = ("unit", "distribution", "source")
    missing = [name for name in needed if name not in problem.parameters]
    if missing:
        raise CalibrationError(f"the parameters have no column {missing[0]!r}; a file needs {', '.join(needed)}")
    parameters = problem.parameters if "mode" in problem.parameters else problem.parameters.assign(mode=np.nan)
    settings = {"model": model, "method": problem.method, "time_step": problem.time_step}
    rows = [(name, str(value)) for name, value in settings.items() if value is not None]
    observables = pd.DataFrame([{name: getattr(item, name) for name in _WRITTEN} for item in problem.observables])
    observables = observables.rename(columns={"name": "observable"})
    tables = {
        "problem": pd.DataFrame(rows, columns=["setting", "value"]),
        "parameters": parameters.assign(effect=list(problem.effects.values())),
        "observables": observables.assign(centred=observables["centred"].astype(int)),
        "measurements": problem.measurements,
        "holdout": problem.holdout,
        "covariates": problem.covariates,
        "fixed": pd.DataFrame(sorted(problem.fixed.items()), columns=["name", "value"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if len(table) or name not in _OPTIONAL:
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def _model(folder: Path, name: str) -> Model:
    return library.read_model(folder / name) if Path(name).suffix else library.read(name)


def _number(folder: Path, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise CalibrationError(f"{folder / SETTINGS}: time_step is {text!r}; it must be a number") from None
