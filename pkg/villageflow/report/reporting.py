"""The report of a calibration: everything that a reader needs to judge it or to run it again, as one JSON file.

References
----------
.. [Rahmandad2012] H. Rahmandad and J. D. Sterman, "Reporting guidelines for simulation-based research in social
   sciences", System Dynamics Review 28 (2012).
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from villageflow.calibrate.problem import Problem
from villageflow.calibrate.profiled import Profiles
from villageflow.calibrate.randomeffects import RandomEffectsResult
from villageflow.calibrate.result import FitResult
from villageflow.report.fits import Fit

_LIBRARIES: Final = ("villageflow", "numpy", "scipy", "pandas")
_COLUMNS: Final = ("unit", "scale", "distribution", "effect", "source")


def calibration_report(problem: Problem, result: Fit, profiles: Profiles | None = None) -> dict[str, Any]:
    """What was fitted, to what, how and with which errors, after [Rahmandad2012]_.

    Parameters
    ----------
    problem : Problem
        What was fitted.
    result : FitResult, RandomEffectsResult or FixedEffectsResult
        Its fit.
    profiles : Profiles, optional
        Profile likelihoods; without them only local identifiability is reported.

    Returns
    -------
    dict
        Plain values: model with digest, equations, units; parameters with unit, source, range, estimate, error,
        interval, verdict; data with digests and sources; objective; search with its starts; solver with the change at
        half a step; errors with the rule of their intervals; versions and seed. All columns of the parameters come
        from one covariance. No date, host or path.
    """
    return {
        "model": _model(problem),
        "parameters": _parameters(problem, result, profiles),
        "data": _data(problem),
        "objective": {
            "function": "log likelihood of the measurements in natural units, with all constants, never scaled",
            "value": float(result.loglik),
            "observables": [
                {"name": item.name, "formula": item.formula, "kind": item.kind, "noise": item.noise,
                 "noise_parameter": item.noise_parameter, "unit": item.unit, "centred": item.centred}
                for item in problem.observables
            ],
        },
        "search": {
            "method": "damped Newton from Latin hypercube starts, polished; villageflow.calibrate.climb",
            "starts": [float(value) if np.isfinite(value) else None for value in result.starts],
            "share_near_best": float(result.near_best),
            "converged": bool(result.converged),
            "at_bound": list(result.at_bound),
            "seed": result.seed,
        },
        "solver": _solver(problem, result),
        "errors": _errors(problem, result),
        "identifiability": _identifiability(result),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
    }


def save_report(report: dict[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _model(problem: Problem) -> dict[str, Any]:
    model = problem.model
    equations = [
        {"name": item.name, "equation": item.equation, "unit": item.units, "documentation": item.documentation}
        for item in model.variables.values()
    ]
    return {"name": model.name, "sha256": model.digest, "fixed": dict(problem.fixed), "equations": equations}


def _parameters(problem: Problem, result: Fit, profiles: Profiles | None) -> list[dict[str, Any]]:
    declared = problem.parameters.set_axis(list(problem.box.names), axis=0)
    verdicts = {} if profiles is None else {one.name: one for one in profiles.profiles}
    rows = []
    for name, found in _estimates(result).iterrows():
        row: dict[str, Any] = {"name": str(name)}
        if name in declared.index:
            given = declared.loc[str(name)]
            row |= {column: _plain(given[column]) for column in _COLUMNS if column in given.index}
            row["bounds"] = [_plain(given[side]) for side in ("lower", "upper")]
        row |= {str(column): _plain(value) for column, value in found.items()}
        if name in verdicts:
            one = verdicts[str(name)]
            row |= {"profile_lower": _plain(one.lower), "profile_upper": _plain(one.upper), "verdict": one.verdict}
        rows.append(row)
    return rows


def _estimates(result: Fit) -> pd.DataFrame:
    """Estimate, error, interval and whether at a bound, all from one covariance."""
    if isinstance(result, FitResult):
        return result.to_frame()[["estimate", "std_error", "lower", "upper", "at_bound"]]
    table = result.to_frame()
    found = pd.DataFrame({"estimate": table["estimate"], "std_error": table["clustered_error"]})
    if isinstance(result, RandomEffectsResult):
        found = found.join(result.conf_int())
    return found.assign(at_bound=table["at_bound"])


def _data(problem: Problem) -> dict[str, Any]:
    tables = {name: getattr(problem, name) for name in ("measurements", "holdout", "covariates")}
    described: dict[str, Any] = {
        name: {"rows": len(table), "sha256": hashlib.sha256(table.to_csv(index=False).encode()).hexdigest(),
               "sources": sorted(set(map(str, table["source_id"]))) if "source_id" in table.columns else []}
        for name, table in tables.items()
    }
    return {"entities": list(problem.entities)} | described


def _solver(problem: Problem, result: Fit) -> dict[str, Any]:
    found = {"method": problem.method or problem.model.method, "time_step": problem.time_step}
    if isinstance(result, FitResult):
        found["time_step"] = result.inputs.get("time_step")
        found["change_of_objective_at_half_step"] = _plain(result.inputs.get("loglik_change_at_half_step"))
    return found


def _errors(problem: Problem, result: Fit) -> dict[str, Any]:
    many = len(problem.entities)
    if isinstance(result, FitResult) and result.df is None:
        return {"covariance": "inverse Hessian", "clusters": None, "intervals": "normal"}
    return {"covariance": "sandwich clustered by entity", "clusters": many, "intervals": f"t({many - 1})"}


def _identifiability(result: Fit) -> dict[str, Any]:
    if isinstance(result, FitResult):
        return result.identifiability.to_dict()
    if isinstance(result, RandomEffectsResult):
        return {"shrinkage": {str(name): _plain(value) for name, value in result.shrinkage.items()},
                "notes": list(result.notes())}
    return {}


def _plain(value: Any) -> Any:
    """A number, word or truth for JSON; None for what is not known or not finite."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return value
    return float(value) if value is not None and np.isfinite(value) else None
