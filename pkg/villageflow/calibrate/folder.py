"""A calibration problem as a folder of tables, read and written."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from villageflow import library
from villageflow.calibrate.problem import Problem, observables_of
from villageflow.datasets.schemas import read_table
from villageflow.datasets.values import row_id
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.ir.model import Model

SETTINGS: Final = "problem.csv"
_OPTIONAL: Final = {"holdout": "measurements", "covariates": "covariates", "fixed": "values"}
_TABLES: Final = ("problem", "parameters", "observables", "measurements", *_OPTIONAL)
_NEAR: Final = 0.87
"""Likeness of names from which a file is taken for a table misspelt: ``hold_outs``, not ``parameters_old``."""
_MODEL_FILES: Final = (".mdl", ".xmile", ".stmx")
_WRITTEN: Final = ("name", "formula", "kind", "noise", "noise_parameter", "unit", "centred")


def read_problem(folder: str | Path) -> Problem:
    """Read a problem.

    Parameters
    ----------
    folder : str or Path
        With ``problem.csv`` (settings ``model``: a file of the folder or the name of a shipped model, and if wanted
        ``method`` and ``time_step``), ``parameters.csv``, ``observables.csv``, ``measurements.csv`` and, if wanted,
        ``holdout.csv``, ``covariates.csv``, ``fixed.csv``; docs/tables.md has the columns. Parameters with the effect
        ``none`` keep the values of the model. Other files are left alone, but for a ``.csv`` whose name is nearly that
        of a table.

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
    _check_files(folder)
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
        fixed=_fixed(folder, found["fixed"]) if "fixed" in found else {},
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
        What ``problem.csv`` names: a shipped model, or a model file of the folder. The model is neither written nor
        copied: put its file into the folder, before or after.

    Raises
    ------
    CalibrationError
        If the parameters lack a column that a file needs (unit, distribution, source), the model is neither shipped
        nor named as a model file, or the folder cannot be written.
    """
    folder = Path(folder)
    needed = ("unit", "distribution", "source")
    missing = [name for name in needed if name not in problem.parameters]
    if missing:
        raise CalibrationError(f"the parameters have no column {missing[0]!r}; a file needs {', '.join(needed)}")
    parameters = problem.parameters if "mode" in problem.parameters else problem.parameters.assign(mode=np.nan)
    _check_model_name(folder, model)
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            if len(table) or name not in _OPTIONAL:
                table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    except OSError as error:
        raise CalibrationError(
            f"the folder {folder} cannot be written ({error.strerror or error}); choose one that can"
        ) from None


def _check_files(folder: Path) -> None:
    """Refuse a table whose name is misspelt, which would be left out without a word."""
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".csv"):
        plain = path.stem.casefold().replace("-", "").replace("_", "").replace(" ", "")
        if path.name not in {f"{name}.csv" for name in _TABLES} and (
            near := get_close_matches(plain, _TABLES, n=1, cutoff=_NEAR)
        ):
            raise CalibrationError(
                f"{path} is no table of a problem and would be left out. Did you mean {near[0] + '.csv'!r}? Rename or "
                "remove it"
            )


def _check_model_name(folder: Path, model: object) -> None:
    where = "the model of a problem's folder is"
    if not isinstance(model, str):
        raise CalibrationError(f"{where} {model!r:.60}, a {type(model).__name__}; give its name as text")
    if Path(model).suffix.lower() in _MODEL_FILES or (Path(model).suffix and (folder / model).is_file()):
        return
    if model not in library.names():
        raise CalibrationError(
            f"{where} {model!r}, neither a shipped model nor a file with a suffix of {', '.join(_MODEL_FILES)}. "
            f"{did_you_mean(model, library.names())}"
        )


def _fixed(folder: Path, table: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for line, row in zip(table.attrs["lines"], table.to_dict("records"), strict=True):
        name = row_id(row)
        if name in found:
            raise CalibrationError(f"{folder / 'fixed.csv'}: row {line} sets {name!r}, as a row before; keep one")
        found[name] = float(row["value"])
    return found


def _model(folder: Path, name: str) -> Model:
    return library.read_model(folder / name) if Path(name).suffix else library.read(name)


def _number(folder: Path, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise CalibrationError(f"{folder / SETTINGS}: time_step is {text!r}; it must be a number") from None
