"""The verb `fit_process_noise`: maximum likelihood with process noise, and what the fit says about itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.calibrate.climb import Optimum, covariance, maximise
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.processnoise import NoisyProblem, ProcessNoise
from villageflow.calibrate.result import CLUSTERED_NOTE, ERRORS_NOTE, STEP_MATTERS
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import check_declared, checked_seed, enough_starts
from villageflow.calibrate.stored import save_fields
from villageflow.errors import CalibrationError, did_you_mean

_LOG = logging.getLogger("villageflow")
FORMAT: Final = "villageflow process noise 1"
_STEP: Final = 1e-4
_LAGS: Final = 10
_DOUBTFUL: Final = 0.01


@dataclass(frozen=True, eq=False)
class ProcessNoiseResult:
    """A maximum-likelihood fit with process noise.

    Attributes
    ----------
    params, std_errors : Series
        Estimates in natural units and their standard errors (delta method); NaN for what a bound holds.
    cov : DataFrame
        Covariance in natural units.
    box : Box
        Free parameters with scale and bounds.
    transformed_cov : DataFrame
        Covariance on the transformed scale.
    loglik : float
        Log likelihood in natural units, with all constants.
    loglik_change_at_half_step : float
        Change at the estimate with half the time step and twice the substeps.
    n_measurements : int
    at_bound : tuple of str
        Parameters that a bound holds; a standard deviation of process noise at its lower bound is not told from zero.
    converged : bool
    near_best : float
        Share of starts that ended within 1e-2 of the best log likelihood.
    starts : (n_starts,) array
        Log likelihood at the end of each start.
    states, innovations : DataFrame
        At the estimate, see `NoisyProblem.states`.
    checks : DataFrame
        Of the innovations, see `innovation_checks`.
    breaks : str
        Where the state moves an event or a condition, an effect that the filter leaves out; blank if nowhere.
    seed : int
    cov_type : {"hessian", "clustered"}
        Inverse Hessian, or the sandwich of it and the scores of entities.
    n_entities : int
    df : float or None
        Degrees of freedom of the t distribution behind intervals, entities less one; None for the normal.
    """

    params: pd.Series[float]
    std_errors: pd.Series[float]
    cov: pd.DataFrame
    box: Box
    transformed_cov: pd.DataFrame
    loglik: float
    loglik_change_at_half_step: float
    n_measurements: int
    at_bound: tuple[str, ...]
    converged: bool
    near_best: float
    starts: Floats
    states: pd.DataFrame
    innovations: pd.DataFrame
    checks: pd.DataFrame
    breaks: str
    seed: int
    cov_type: str
    n_entities: int
    df: float | None

    def __repr__(self) -> str:
        values = ", ".join(f"{name} = {value:.6g}" for name, value in self.params.items())
        found = f"{'converged' if self.converged else 'NOT converged'}, log likelihood {self.loglik:.4f}"
        what = f"{self.n_measurements} measurements, {found}"
        return f"<villageflow.ProcessNoiseResult: {what}\n {values}; see summary()>"

    def save(self, path: str | Path) -> None:
        """Write everything as JSON, which `villageflow.load_fit` reads back to the last bit."""
        save_fields(self, FORMAT, path)

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Intervals in natural units, symmetric on the transformed scale; NaN for what a bound holds.

        Parameters
        ----------
        level : float
            Strictly between 0 and 1.

        Returns
        -------
        DataFrame
            By parameter, lower and upper, within the bounds.

        Raises
        ------
        CalibrationError
            If the level is out of range.
        """
        if not 0 < level < 1:
            raise CalibrationError(f"level is {level}; it must be between 0 and 1, such as 0.95")
        known = stats.norm() if self.df is None else stats.t(self.df)
        reach = float(known.ppf(0.5 + level / 2)) * np.sqrt(np.diag(self.transformed_cov))
        centre = self.box.transformed(np.array(self.params, dtype=np.float64))
        ends = np.column_stack([self.box.from_transformed(centre + side * reach) for side in (-1, 1)])
        ends[~np.isfinite(reach)] = np.nan
        return pd.DataFrame(ends, index=self.params.index, columns=["lower", "upper"])

    def to_frame(self) -> pd.DataFrame:
        """One row for each parameter: estimate, standard error, 95 % interval, scale, whether at a bound."""
        return pd.DataFrame({
            "estimate": self.params, "std_error": self.std_errors,
            "lower": self.conf_int()["lower"], "upper": self.conf_int()["upper"], "scale": self.box.scales,
            "at_bound": self.params.index.isin(self.at_bound),
        })

    def notes(self) -> tuple[str, ...]:
        """What a reader must know before using the estimates; empty if nothing."""
        found = []
        if not self.converged:
            found.append("the search did not converge: more starts, tighter bounds or fewer parameters")
        if self.at_bound:
            held = ", ".join(self.at_bound)
            found.append(f"at a bound: {held}; their errors are not defined, others take them as known")
        if not abs(self.loglik_change_at_half_step) <= STEP_MATTERS:
            found.append(
                "half the step and twice the substeps change the log likelihood by "
                f"{self.loglik_change_at_half_step:+.2g}; shorten the step, use rk4 or more substeps"
            )
        if self.breaks:
            found.append(f"the filter leaves out what noise does to {self.breaks}")
        found += [
            f"the innovations of {name} are correlated over time (p = {row['p_value']:.2g}): process noise of these "
            "stocks does not explain them" for name, row in self.checks.iterrows() if row["p_value"] < _DOUBTFUL
        ]
        return tuple(found)

    def summary(self) -> str:
        """Table of estimates with the diagnostics that a reader needs to judge them."""
        lines = [
            f"Maximum likelihood with process noise (extended Kalman filter): {self.n_measurements} measurements of "
            f"{self.n_entities} entities, {len(self.params)} free parameters, log likelihood {self.loglik:.6f}",
            f"{'parameter':<28}{'estimate':>14}{'std. error':>14}{'lower':>12}{'upper':>12}  scale",
        ]
        for (name, row), low, high in zip(self.to_frame().iterrows(), self.box.lower, self.box.upper, strict=True):
            error = "at bound" if row["at_bound"] else f"{row['std_error']:.6g}"
            lines.append(
                f"{name:<28}{row['estimate']:>14.6g}{error:>14}{low:>12.6g}{high:>12.6g}  "
                f"{row['scale']}"
            )
        lines.append(
            f"converged: {'yes' if self.converged else 'NO'}; {self.near_best:.0%} of {len(self.starts)} starts within "
            f"0.01 of the best; half the step and twice the substeps: {self.loglik_change_at_half_step:+.2g}"
        )
        for name, row in self.checks.iterrows():
            lines.append(
                f"innovations of {name}: mean {row['mean']:.2f}, standard deviation {row['std_dev']:.2f} (0 and 1 if "
                f"the model is right), Q({row['lags']:.0f}) = {row['q']:.2f}, p = {row['p_value']:.2g}"
            )
        errors = ERRORS_NOTE if self.cov_type == "hessian" else CLUSTERED_NOTE.format(n=self.n_entities)
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes()), errors])


def fit_process_noise(
    problem: Problem,
    process_noise: Iterable[ProcessNoise] | ProcessNoise,
    *,
    seed: int,
    parameters: pd.DataFrame | None = None,
    starts: int = 20,
    cov_type: str | None = None,
    substeps: int = 4,
) -> ProcessNoiseResult:
    """Fit a calibration problem whose stocks are moved by noise of their own.

    Parameters
    ----------
    problem : Problem
        What to fit; see `NoisyProblem` for what it may hold.
    process_noise : iterable of ProcessNoise
        Which stocks are noisy, how, and by how much.
    seed : int
        Of the starts; equal seeds give equal results.
    parameters : DataFrame, optional
        Rows of the standard deviations that `process_noise` names, as in ``parameters.csv``: name, scale, lower, upper.
    starts : int
        Latin hypercube starts over the bounds on the transformed scale, at least 20.
    cov_type : {"clustered", "hessian"}, optional
        Sandwich with the scores of entities, the default where there are several, or the inverse Hessian.
    substeps : int
        Pieces of each interval between measurement times, see `NoisyProblem`.

    Returns
    -------
    ProcessNoiseResult

    Raises
    ------
    CalibrationError
        What `NoisyProblem` refuses; fewer than 20 starts, a likelihood of zero at every start, parameters that differ
        between entities, or no more entities than parameters under clustered errors.

    Notes
    -----
    Priors are not used. Half the time step with twice the substeps is tried at the estimate; a change of the log
    likelihood by more than 1e-3 is a warning, logged to ``villageflow`` and in the summary.

    Examples
    --------
    >>> noise = [ProcessNoise("stores", "drift")]  # doctest: +SKIP
    >>> rows = pd.DataFrame({"name": ["drift"], "scale": ["log"], "lower": [0.01], "upper": [1.0]})  # doctest: +SKIP
    >>> print(fit_process_noise(problem, noise, parameters=rows, seed=1).summary())  # doctest: +SKIP
    """
    check_declared(problem, "entities")
    seed = checked_seed(seed)
    process_noise = [process_noise] if isinstance(process_noise, ProcessNoise) else process_noise
    cov_type = cov_type or ("clustered" if len(problem.entities) > 1 else "hessian")
    _check_settings(problem, starts, cov_type)
    given = {} if parameters is None else {"parameters": parameters}
    target = NoisyProblem(problem=problem, process_noise=tuple(process_noise), substeps=substeps, **given)
    box = target.box
    found = maximise(lambda unit: target.total(box.natural(unit)), box.size, starts=starts, seed=seed)
    natural = np.where(found.unit == 0, box.lower, np.where(found.unit == 1, box.upper, box.natural(found.unit)))
    cov = _covariance(target, found, natural, cov_type)
    slope, names = box.slope(natural), list(box.names)
    finer = replace(target, problem=replace(problem, time_step=target.space.grid.step / 2), substeps=2 * substeps)
    change = float(finer.total(natural[None, :])[0] - found.value)
    if not abs(change) <= STEP_MATTERS:
        _LOG.warning(
            "process noise of %s: half the step and twice the substeps change the log likelihood by %+.2g; shorten the "
            "step, use rk4 or more substeps", problem.model.name, change,
        )
    states, innovations = target.states(natural)
    return ProcessNoiseResult(
        params=pd.Series(natural, index=names),
        std_errors=pd.Series(np.sqrt(np.diag(cov)) * slope, index=names),
        cov=pd.DataFrame(cov * np.outer(slope, slope), index=names, columns=names),
        box=box,
        transformed_cov=pd.DataFrame(cov, index=names, columns=names),
        loglik=found.value,
        loglik_change_at_half_step=change,
        n_measurements=len(problem.measurements),
        at_bound=tuple(name for name, held in zip(names, found.at_bound, strict=True) if held),
        converged=found.converged,
        near_best=found.near_best,
        starts=found.ends,
        states=states,
        innovations=innovations,
        checks=innovation_checks(innovations),
        breaks=target.breaks,
        seed=seed,
        cov_type=cov_type,
        n_entities=len(problem.entities),
        df=float(len(problem.entities) - 1) if cov_type == "clustered" else None,
    )


def _check_settings(problem: Problem, starts: int, cov_type: str) -> None:
    own = [name for name, effect in problem.effects.items() if effect != "shared"]
    if own:
        raise CalibrationError(
            f"parameter {own[0]!r} has effect {problem.effects[own[0]]!r}; fit_process_noise takes 'shared' ones, "
            "fit_random_effects of a NoisyProblem others"
        )
    if cov_type not in ("clustered", "hessian"):
        known = did_you_mean(cov_type, ("clustered", "hessian"))
        raise CalibrationError(f"cov_type={cov_type!r} is not known. {known}")
    enough_starts(starts)


def _covariance(target: NoisyProblem, found: Optimum, natural: Floats, cov_type: str) -> Floats:
    """Inverse Hessian or sandwich on the transformed scale, NaN for what a bound holds."""
    box, many = target.box, len(target.entities)
    bread = covariance(found.hessian, found.at_bound) * np.outer(box.width, box.width)
    if cov_type == "hessian":
        return bread
    free = np.flatnonzero(~found.at_bound)
    if many <= len(free):
        raise CalibrationError(
            f"{many} entities for {len(free)} parameters; clustered errors would be singular. Use cov_type='hessian' "
            "(--cov-type hessian)"
        )
    unit = box.unit(natural)
    up, down = (np.clip(unit + side * _STEP * np.eye(len(unit)), 0.0, 1.0) for side in (1, -1))
    values = box.natural(np.vstack([up, down]))
    terms = target.entity_log_likelihood(np.broadcast_to(values[:, None, :], (len(values), many, len(unit))))
    terms = terms[:, np.argsort(target.entities, kind="stable")]
    scores = ((terms[:len(unit)] - terms[len(unit):]) / np.diag(up - down)[:, None] / box.width[:, None])[free]
    cov = np.full(bread.shape, np.nan)
    inner = bread[np.ix_(free, free)]
    cov[np.ix_(free, free)] = inner @ (scores @ scores.T) @ inner * many / (many - 1)
    return cov


def innovation_checks(innovations: pd.DataFrame) -> pd.DataFrame:
    """Whether standardised innovations look like independent standard normal numbers.

    Parameters
    ----------
    innovations : DataFrame
        Entity, time, observable and standardised, in the order of time, see `NoisyProblem.states`.

    Returns
    -------
    DataFrame
        By observable: ``n``, ``mean``, ``std_dev`` about zero, ``lags``, and the statistic of Ljung and Box with its p
        value. Products at a lag are those of the same entity, summed over entities; gaps in time are not looked at.
        One entity has the statistic of [LjungBox1978]_ about a mean of zero. Lags are a fifth of the longest series, at
        least 1 and at most 10. The number of fitted parameters is not taken off the degrees of freedom, so that with
        few measurements the test rejects too rarely. NaN where no entity has two measurements.

    References
    ----------
    .. [LjungBox1978] G. Ljung and G. Box, "On a measure of lack of fit in time series models", Biometrika 65 (1978).
    """
    rows = {}
    for name, own in innovations.groupby("observable", sort=False):
        series = [part["standardised"].to_numpy(dtype=float) for _, part in own.groupby("entity", sort=True)]
        n, square = len(own), sum(float(one @ one) for one in series)
        longest = max(map(len, series))
        lags = min(_LAGS, max(1, longest // 5), longest - 1)
        q = 0.0
        for lag in range(1, lags + 1):
            pairs = sum(max(len(one) - lag, 0) for one in series)
            shared = sum(float(one[lag:] @ one[:-lag]) for one in series)
            q += n * (n + 2) / pairs * (shared / square) ** 2
        rows[name] = {
            "n": n, "mean": float(own["standardised"].mean()), "std_dev": float(np.sqrt(square / n)), "lags": lags,
            "q": q if lags else np.nan, "p_value": float(stats.chi2.sf(q, lags)) if lags else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
