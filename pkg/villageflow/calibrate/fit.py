"""The verb `fit`: maximum likelihood with multiple starts, and what the optimum says about itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd

from villageflow.calibrate.climb import Derivatives, OnRound, Optimum, covariance, maximise
from villageflow.calibrate.identify import identify, spreads
from villageflow.calibrate.likelihood import Target, log_likelihood
from villageflow.calibrate.predict import N_DRAWS, predict
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.result import STEP_MATTERS, FitResult
from villageflow.calibrate.scales import Floats, given_starts
from villageflow.calibrate.settings import check_declared, checked_seed, enough_starts, whole
from villageflow.calibrate.slopes import Differentiable, slopes_of
from villageflow.ensemble.simulate import time_grid
from villageflow.errors import CalibrationError, did_you_mean

_LOG = logging.getLogger("villageflow")
_STEP = 1e-4


def fit(
    problem: Problem,
    *,
    seed: int,
    starts: int = 20,
    given: pd.DataFrame | None = None,
    cov_type: str | None = None,
    n_draws: int = N_DRAWS,
    progress: OnRound | None = None,
) -> FitResult:
    """Fit a calibration problem by maximum likelihood.

    Parameters
    ----------
    problem : Problem
        What to fit.
    seed : int
        Of the starts and of the draws behind the bands; equal seeds give equal results.
    starts : int
        Latin hypercube starts over the bounds on the transformed scale, at least 20.
    given : DataFrame, optional
        Further starts, such as the estimate of another method: a column for each free parameter, natural units.
    cov_type : {"clustered", "hessian"}, optional
        Sandwich with the scores of entities, the default where there are several, or the inverse Hessian, which takes
        errors as independent.
    n_draws : int
        Draws behind the bands.
    progress : callable, optional
        Called after each round of the search with its number, the starts still climbing and the best log likelihood.

    Returns
    -------
    FitResult

    Raises
    ------
    CalibrationError
        Fewer than 20 starts, a given start outside the bounds, a likelihood of zero at every start, parameters that
        differ between entities, or no more entities than parameters under clustered errors.

    Notes
    -----
    Where the method has fixed steps the search follows exact derivatives of the trajectories; errors too come from
    them if no parameter moves an event or a condition, and from differences of the log likelihood otherwise.
    Priors are not used: the bounds are, flat on the transformed scale. Halving the step is tried at the estimate; a
    change of the log likelihood by more than 1e-3 is a warning, logged to ``villageflow`` and in the summary.

    Examples
    --------
    >>> result = fit(problem, seed=1)  # doctest: +SKIP
    >>> print(result.summary())  # doctest: +SKIP
    """
    check_declared(problem, "effects")
    seed, n_draws = checked_seed(seed), whole("n_draws", n_draws, 1)
    own = [name for name, effect in problem.effects.items() if effect != "shared"]
    if own:
        raise CalibrationError(
            f"parameter {own[0]!r} has effect {problem.effects[own[0]]!r}; fit takes 'shared' ones, "
            "fit_random_effects others"
        )
    cov_type = cov_type or ("clustered" if len(problem.entities) > 1 else "hessian")
    if cov_type not in ("clustered", "hessian"):
        known = did_you_mean(cov_type, ("clustered", "hessian"))
        raise CalibrationError(f"cov_type={cov_type!r} is not known. {known}")
    grid = time_grid(problem.model, time_step=problem.time_step)
    inputs: dict[str, Any] = {
        "model": problem.model.name,
        "model_sha256": problem.model.digest,
        "method": problem.method or problem.model.method,
        "time_step": grid.step,
        "fixed": dict(problem.fixed),
        "observables": [
            f"{item.name}: {item.kind} of {item.formula}, {item.noise}({item.noise_parameter})"
            for item in problem.observables
        ],
    }
    result = fit_target(
        problem, problem.measurements, inputs, starts=starts, seed=seed, given=given, progress=progress
    )
    result = replace(result, n_entities=len(problem.entities))
    if cov_type == "clustered":
        result = cluster(problem, result)
    finer = replace(problem, time_step=grid.step / 2)
    at_half_step = finer.log_likelihood(pd.DataFrame([result.params]))[0]
    change = float(at_half_step - result.loglik)
    if not abs(change) <= STEP_MATTERS:
        _LOG.warning(
            "fit of %s: half the step changes the log likelihood by %+.2g; shorten the step or use rk4",
            problem.model.name, change,
        )
    inputs["loglik_change_at_half_step"] = change
    result = replace(result, inputs=inputs)
    return replace(result, trajectory=predict(problem, result, _trajectory_rows(problem), n_draws=n_draws))


def cluster(problem: Problem, result: FitResult) -> FitResult:
    """A fit with the covariance clustered by entity in place of the inverse Hessian.

    Parameters
    ----------
    problem : Problem
        What was fitted.
    result : FitResult
        With the inverse Hessian.

    Returns
    -------
    FitResult
        Covariance A B A G/(G-1), A the inverse Hessian and B the sum of outer products of the scores of G entities.

    Raises
    ------
    CalibrationError
        If there are no more entities than parameters that no bound holds.
    """
    box, names, many = problem.box, result.params.index, len(problem.entities)
    free = np.flatnonzero(~names.isin(result.at_bound))
    if many <= len(free):
        raise CalibrationError(
            f"{many} entities for {len(free)} parameters; clustered errors would be singular. Use cov_type='hessian' "
            "(--cov-type hessian)"
        )
    natural: Floats = np.asarray(result.params, dtype=np.float64)
    scores = entity_scores(problem, natural) / box.width
    bread = result.transformed_cov.to_numpy(dtype=float)
    cov = np.full(bread.shape, np.nan)
    inner = bread[np.ix_(free, free)]
    cov[np.ix_(free, free)] = inner @ (scores[:, free].T @ scores[:, free]) @ inner * many / (many - 1)
    errors, slope = np.sqrt(np.diag(cov)), box.slope(natural)
    return replace(
        result, cov_type="clustered", df=float(many - 1),
        std_errors=pd.Series(errors * slope, index=names),
        cov=pd.DataFrame(cov * np.outer(slope, slope), index=names, columns=names),
        transformed=result.transformed.assign(std_error=errors),
        transformed_cov=pd.DataFrame(cov, index=names, columns=names),
    )


def entity_scores(problem: Problem, natural: Floats) -> Floats:
    """Derivative of each entity's log likelihood by the parameters, per width of their ranges, (E, p).

    Exact where the engine's derivatives are all of it; else central differences, within the bounds, at a bound
    one-sided.
    """
    box = problem.box
    if problem.fixed_steps and problem.smooth:
        return np.asarray(problem.entity_slopes(natural[None, :])[0][0] * box.slope(natural) * box.width)
    unit = box.unit(natural)
    up, down = (np.clip(unit + side * _STEP * np.eye(len(unit)), 0.0, 1.0) for side in (1, -1))
    values = box.natural(np.vstack([up, down]))
    many = np.broadcast_to(values[:, None, :], (len(values), len(problem.entities), len(unit)))
    terms = problem.entity_log_likelihood(many)
    return np.asarray(((terms[:len(unit)] - terms[len(unit):]) / np.diag(up - down)[:, None]).T)


def _slopes(target: Target, rows: pd.DataFrame) -> Derivatives | None:
    """Gradient and Gauss-Newton Hessian on the unit box, for a target whose engine can differentiate."""
    if not isinstance(target, Differentiable) or not target.fixed_steps:
        return None

    def slopes(unit: Floats) -> tuple[Floats, Floats]:
        natural = target.box.natural(unit)
        found = slopes_of(target, natural, rows)
        factor = np.array([target.box.slope(row) for row in natural]) * target.box.width
        curvature = found.curvature(lambda terms: terms.sum(axis=1))
        return found.scores.sum(axis=1) * factor, curvature * factor[:, :, None] * factor[:, None, :]

    return slopes


def fit_target(
    target: Target, rows: pd.DataFrame, inputs: Mapping[str, Any], *, starts: int, seed: int,
    given: pd.DataFrame | None = None, progress: OnRound | None = None,
) -> FitResult:
    """Fit any target, a problem or a benchmark curve, by the same means; leaves the trajectory empty."""
    starts = enough_starts(starts)
    box, slopes = target.box, _slopes(target, rows)

    def objective(unit: Floats) -> Floats:
        return log_likelihood(target, box.natural(unit), rows)

    found = maximise(
        objective, box.size, starts=starts, seed=seed, given=given_starts(box, given), slopes=slopes,
        exact=slopes is not None and cast(Differentiable, target).smooth, progress=progress,
    )
    names = list(box.names)
    natural = np.where(found.unit == 0, box.lower, np.where(found.unit == 1, box.upper, box.natural(found.unit)))
    width, slope = box.width, box.slope(natural)
    cov = covariance(found.hessian, found.at_bound) * np.outer(width, width)
    errors = np.sqrt(np.diag(cov))
    with np.errstate(invalid="ignore"):
        correlation = pd.DataFrame(cov / np.outer(errors, errors), index=names, columns=names)
    at_bound = tuple(name for name, held in zip(names, found.at_bound, strict=True) if held)
    return FitResult(
        params=pd.Series(natural, index=names),
        std_errors=pd.Series(errors * slope, index=names),
        cov=pd.DataFrame(cov * np.outer(slope, slope), index=names, columns=names),
        transformed=pd.DataFrame(
            {
                "estimate": box.transformed(natural), "std_error": errors, "scale": box.scales,
                "lower": box.lower, "upper": box.upper,
            },
            index=names,
        ),
        transformed_cov=pd.DataFrame(cov, index=names, columns=names),
        loglik=found.value,
        n_measurements=len(rows),
        at_bound=at_bound,
        converged=found.converged,
        near_best=found.near_best,
        starts=found.ends,
        gradient_norm=_gradient_norm(found),
        hessian_eigenvalues=_eigenvalues(found, width),
        residuals=_residuals(target, rows, natural),
        trajectory=pd.DataFrame(),
        identifiability=identify(target, rows, found.unit, correlation),
        seed=seed,
        inputs=dict(inputs),
    )


def _gradient_norm(found: Optimum) -> float:
    errors = np.sqrt(np.diag(covariance(found.hessian, found.at_bound)))
    scaled = np.abs(found.gradient * errors)[~found.at_bound]
    return float(scaled.max()) if len(scaled) else 0.0


def _eigenvalues(found: Optimum, width: Floats) -> Floats:
    free = np.flatnonzero(~found.at_bound)
    hessian = found.hessian[np.ix_(free, free)] / np.outer(width[free], width[free])
    return np.asarray(np.linalg.eigvalsh(hessian)) if np.isfinite(hessian).all() else np.full(len(free), np.nan)


def _residuals(target: Target, rows: pd.DataFrame, natural: Floats) -> pd.DataFrame:
    locations = target.locations(natural[None, :], rows)
    deviation = spreads(target, natural[None, :], rows, locations)[0]
    observed = rows["value"].to_numpy(dtype=float)
    return pd.DataFrame({
        "observable": rows["observable"].to_numpy(),
        "time": rows["time"].to_numpy(dtype=float),
        "observed": observed,
        "fitted": locations[0],
        "std_dev": deviation,
        "standardised": (observed - locations[0]) / deviation,
    })


def _trajectory_rows(problem: Problem) -> pd.DataFrame:
    """Every saved time from the first to the last measurement; for net flows the measured intervals."""
    measured = pd.concat([problem.measurements, problem.holdout], ignore_index=True)
    parts = []
    for item in problem.observables:
        own = measured[measured["observable"] == item.name]
        if not len(own):
            continue
        if item.kind == "net_flow":
            parts.append(own[["observable", "time", "from_time"]].sort_values("time"))
            continue
        times = problem.save_times
        times = times[(times >= own["time"].min() - 1e-6) & (times <= own["time"].max() + 1e-6)]
        parts.append(pd.DataFrame({"observable": item.name, "time": times}))
    return pd.concat(parts, ignore_index=True)
