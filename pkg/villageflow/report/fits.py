"""Fits of any declared problem, by the effects of its parameters, and as files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from villageflow.calibrate.climb import OnRound
from villageflow.calibrate.fit import fit
from villageflow.calibrate.fixedeffects import FixedEffectsResult, fit_fixed_effects
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.randomeffects import RandomEffectsResult, fit_random_effects
from villageflow.calibrate.result import FitResult
from villageflow.errors import CalibrationError, ReportError

Fit: TypeAlias = FitResult | RandomEffectsResult | FixedEffectsResult


def fit_any(
    problem: Problem,
    *,
    seed: int,
    starts: int,
    cov_type: str | None = None,
    output: Path | None = None,
    progress: OnRound | None = None,
) -> Fit:
    """Fit a problem as the effects of its parameters ask for: shared, random or fixed.

    Parameters
    ----------
    problem : Problem
        What to fit.
    seed, starts : int
        As for `villageflow.calibrate.fit.fit`.
    cov_type : {"clustered", "hessian"}, optional
        Errors of a fit with shared parameters; others give both.
    output : Path, optional
        Where the fit will be saved; checked before anything is run.
    progress : callable, optional
        As for `villageflow.calibrate.fit.fit`.

    Raises
    ------
    CalibrationError
        If some parameters are random and some fixed, or errors are chosen where both are given.
    ReportError
        If the output ends in neither ``.json`` nor ``.csv``.
    """
    kinds = {kind: [name for name, effect in problem.effects.items() if effect == kind] for kind in ("random", "fixed")}
    if all(kinds.values()):
        raise CalibrationError(
            f"{kinds['random'][0]!r} is random and {kinds['fixed'][0]!r} is fixed; "
            "a fit takes one kind beside shared ones"
        )
    if cov_type is not None and any(kinds.values()):
        raise CalibrationError(f"cov_type={cov_type!r} is for shared parameters; a fit with effects gives both errors")
    if output is not None and output.suffix.lower() not in (".json", ".csv"):
        raise ReportError(f"{output} ends in neither .json (the whole fit) nor .csv (its table); name such a file")
    if kinds["random"]:
        return fit_random_effects(problem, kinds["random"], seed=seed, starts=starts, progress=progress)
    if kinds["fixed"]:
        return fit_fixed_effects(problem, kinds["fixed"], seed=seed, starts=starts, progress=progress)
    return fit(problem, seed=seed, starts=starts, cov_type=cov_type, progress=progress)


def save_any(result: Fit, output: Path) -> None:
    """Write a fit: JSON that `villageflow.load_fit` reads, or a CSV table of estimates."""
    if output.suffix.lower() == ".json":
        result.save(output)
    else:
        result.to_frame().to_csv(output, lineterminator="\n")
