"""Predictions of a fit with parameter and predictive intervals, and their scores on measurements kept out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from villageflow.calibrate.likelihood import NOISE, Target, log_terms, noise_values
from villageflow.calibrate.result import FitResult
from villageflow.calibrate.scales import Floats
from villageflow.calibrate.settings import whole
from villageflow.errors import CalibrationError

N_DRAWS: Final = 4000
LEVELS: Final = (0.05, 0.5, 0.95)
_FITTED: Final = ("fitted_q05", "fitted_q50", "fitted_q95")
_PREDICTED: Final = ("q05", "q50", "q95")


def measured(values: object, n: int) -> Floats:
    """Measured values of n rows, (n,).

    Raises
    ------
    CalibrationError
        Another number of values, or one that is no finite number.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise CalibrationError(f"the measured values are {values!r:.60}; give one number for each row") from None
    if found.shape != (n,):
        count = len(found) if found.ndim == 1 else f"an array of shape {found.shape} of"
        raise CalibrationError(f"{count} values for {n} rows; give one measured value for each row")
    if not np.isfinite(found).all():
        at = int(np.argmin(np.isfinite(found)))
        raise CalibrationError(f"the measured value of row {at} is {found[at]}; leave out rows without a measurement")
    return found


def predict(target: Target, result: FitResult, rows: pd.DataFrame, *, n_draws: int = N_DRAWS) -> pd.DataFrame:
    """Predictions of rows.

    Parameters
    ----------
    target : Problem or other target
        What was fitted.
    result : FitResult
        Its fit.
    rows : DataFrame
        With observable, time and, for net flows, from_time: for example ``problem.holdout``.
    n_draws : int
        Draws from the normal approximation of the estimates on the transformed scale.

    Returns
    -------
    DataFrame
        Observable, time, ``fitted`` at the estimate; 5, 50 and 95 % quantiles of the fitted value over the draws
        (``fitted_q05``...) and of a new observation (``q05``...). Neither holds the error of the model's structure. NaN
        if the fit has no covariance.

    Raises
    ------
    CalibrationError
        An observable that was not fitted, a row without a time, a result of another verb, or a number of draws below 1.
    """
    n_draws = whole("n_draws", n_draws, 1)
    if not isinstance(result, FitResult):
        raise CalibrationError(f"the result is a {type(result).__name__}; give a FitResult, as fit gives it")
    known = [item.name for item in target.observables]
    for name in rows["observable"].unique():
        if name not in known:
            raise CalibrationError(f"no observable {name!r} was fitted; known are {', '.join(known)}")
    timeless = np.flatnonzero(rows["time"].isna())
    if len(timeless):
        raise CalibrationError(f"row {timeless[0]} to predict has the time nan; give a saved time of the model")
    if not len(rows):
        return pd.DataFrame(columns=["observable", "time", "fitted", *_FITTED, *_PREDICTED])
    estimate = result.params.to_numpy(dtype=float)[None, :]
    drawn = result.draws(n_draws, result.seed) if result.has_covariance else estimate
    values: Floats = np.vstack([estimate, drawn])
    locations = target.locations(values, rows)
    table = pd.DataFrame({"observable": rows["observable"].to_numpy(), "time": rows["time"].to_numpy(dtype=float)})
    table["fitted"] = locations[0]
    if not result.has_covariance:
        return table.assign(**dict.fromkeys((*_FITTED, *_PREDICTED), np.nan))
    alive = 1 + np.flatnonzero(np.isfinite(locations[1:]).all(axis=1))
    observations = draw_observations(target, values[alive], rows, locations[alive], result.seed)
    for names, sample in ((_FITTED, locations[alive]), (_PREDICTED, observations)):
        for name, quantiles in zip(names, np.quantile(sample, LEVELS, axis=0), strict=True):
            table[name] = quantiles
    return table


def draw_observations(target: Target, values: Floats, rows: pd.DataFrame, locations: Floats, seed: int) -> Floats:
    """One observation of each row for each parameter vector, from a stream of its own."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    drawn = np.empty(locations.shape)
    names = rows["observable"].to_numpy()
    for item in target.observables:
        at = np.flatnonzero(names == item.name)
        drawn[:, at] = NOISE[item.noise].draw(
            rng, locations[:, at], noise_values(target, item, values, rows.iloc[at])
        )
    return drawn


@dataclass(frozen=True, eq=False)
class Scores:
    """How a fit predicts measurements that it has not seen.

    Attributes
    ----------
    table : DataFrame
        The predictions with observed value, error in per cent of the observed value, whether the 90 % interval covers
        it, and its log score.
    log_score : float
        Sum of the log predictive densities, parameters integrated over the normal approximation: higher is better.
    mean_absolute_error : float
        Mean absolute error in per cent.
    coverage : float
        Share of measurements within the 90 % predictive interval.
    """

    table: pd.DataFrame
    log_score: float
    mean_absolute_error: float
    coverage: float


def score(target: Target, result: FitResult, rows: pd.DataFrame, *, n_draws: int = N_DRAWS) -> Scores:
    """Score predictions on measurements kept out of the fit.

    Parameters
    ----------
    target : Problem or other target
        What was fitted.
    result : FitResult
        Its fit.
    rows : DataFrame
        Measurements, such as ``problem.holdout``; all with comparator ``=``.
    n_draws : int
        Draws behind the predictive distribution.

    Returns
    -------
    Scores

    Raises
    ------
    CalibrationError
        If there is nothing to score, or a row is a bound.
    """
    if not len(rows):
        raise CalibrationError("there is no measurement to score; give the problem a hold-out")
    if (rows["comparator"] != "=").any():
        raise CalibrationError("a bound cannot be scored in per cent; keep rows with comparator '='")
    table = predict(target, result, rows, n_draws=n_draws)
    observed = rows["value"].to_numpy(dtype=float)
    table["observed"] = observed
    table["error_percent"] = 100 * (table["fitted"] - observed) / observed
    mean_error = float(table["error_percent"].abs().mean())
    if not result.has_covariance:
        return Scores(table.assign(covered=np.nan, log_score=np.nan), np.nan, mean_error, np.nan)
    terms = log_terms(target, result.draws(n_draws, result.seed), rows)
    table["covered"] = (table["q05"] <= observed) & (observed <= table["q95"])
    table["log_score"] = logsumexp(terms, axis=0) - np.log(len(terms))
    return Scores(table, float(table["log_score"].sum()), mean_error, float(table["covered"].mean()))
