"""How well a model forecasts what it has not seen, entities or last times left out, beside simple benchmarks.

References
----------
.. [Gneiting2007] T. Gneiting and A. E. Raftery, "Strictly proper scoring rules, prediction, and estimation", Journal of
   the American Statistical Association 102 (2007).
.. [Hyndman2006] R. J. Hyndman and A. B. Koehler, "Another look at measures of forecast accuracy", International Journal
   of Forecasting 22 (2006).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

import numpy as np
import pandas as pd

from villageflow.calibrate.benchmarks import AR1_NOTE, BENCHMARKS
from villageflow.calibrate.drawn import Fitted, check_problem, stream
from villageflow.calibrate.forecast import N_DRAWS, forecast
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scales import Floats
from villageflow.calibrate.settings import checked_seed, whole
from villageflow.errors import CalibrationError

MODEL: Final = "model"
SCORES: Final = ("log_score", "crps", "scaled_error")
_ENDS: Final = (0.05, 0.5, 0.95)
_KEYS: Final = ("entity", "observable", "time", "from_time")

Refit: TypeAlias = Callable[[Problem], Fitted]
"""Fits a problem: ``lambda problem: fit_random_effects(problem, ["growth_rate"], seed=1)``."""


class Predictive(Protocol):
    """A predictive distribution of some rows."""

    @property
    def observed(self) -> Floats:
        """Draws or evenly spaced quantiles of a new observation, (rows, n)."""

    def log_scores(self, values: Floats) -> Floats:
        """Log predictive density of measured values, (rows,)."""


Forecaster: TypeAlias = Callable[[Problem, pd.DataFrame], Predictive]
"""From a problem with what is known, and rows to predict."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of a model and of benchmarks on measurements that none of them has seen.

    Attributes
    ----------
    rows : DataFrame
        For each method and measurement: fold, entity, observable, time, value; median (``point``), 5 and 95 % quantiles
        (``lower``, ``upper``) and whether they hold the value; ``log_score`` (higher is better), ``crps`` (in units of
        the observable, lower is better) and ``scaled_error``: distance of value and median over the mean absolute step
        of the entity's series in the fit, of all entities if it has none.
    how : str
        What was left out.
    notes : tuple of str
        What a reader must know.
    """

    rows: pd.DataFrame
    how: str
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<villageflow.Comparison: {self.how}; see summary()>"

    @property
    def table(self) -> pd.DataFrame:
        """Means by observable and method: log_score, crps, mase (of ``scaled_error``), coverage of the 90 % interval.

        With the numbers of measurements and entities. A method that could not predict a measurement has NaN.
        """
        grouped = self.rows.groupby(["observable", "method"], sort=False)
        means = {score: grouped[score].agg(_mean) for score in (*SCORES, "covered")}
        found = pd.DataFrame(means).rename(columns={"scaled_error": "mase", "covered": "coverage"})
        return found.assign(measurements=grouped.size(), entities=grouped["entity"].nunique())

    @property
    def differences(self) -> pd.DataFrame:
        """Mean score of the model less that of each benchmark, with standard errors clustered by entity.

        By observable and benchmark: log_score, crps, mase and the same with ``_se``. Errors of an entity's forecasts
        may depend on each other; that forecasts share their training data is not in the error. NaN with one entity.
        """
        found = []
        for observable, part in self.rows.groupby("observable", sort=False):
            wide = part.pivot(index=["entity", "time"], columns="method", values=list(SCORES))
            for method in dict.fromkeys(part["method"]):
                if method == MODEL:
                    continue
                row: dict[str, object] = {"observable": observable, "benchmark": method}
                for score, name in zip(SCORES, ("log_score", "crps", "mase"), strict=True):
                    away = wide[score][MODEL] - wide[score][method]
                    row |= dict(zip((name, f"{name}_se"), _clustered(away), strict=True))
                found.append(row)
        columns = [name for score in ("log_score", "crps", "mase") for name in (score, f"{score}_se")]
        return pd.DataFrame(found, columns=["observable", "benchmark", *columns]).set_index(["observable", "benchmark"])

    def summary(self) -> str:
        """Both tables with the notes."""
        return "\n".join([
            f"Forecasts, {self.how}", self.table.to_string(float_format=_short), "",
            "Model less benchmark, standard errors clustered by entity (log score: higher is better; others: lower):",
            self.differences.to_string(float_format=_short), *(f"note: {note}" for note in self.notes),
        ])


def _mean(values: pd.Series[float]) -> float:
    return float(values.astype(float).mean(skipna=False))


def _short(value: float) -> str:
    return f"{value:.4g}"


def _clustered(away: pd.Series[float]) -> tuple[float, float]:
    """Mean and its standard error clustered by entity, with the factor G / (G - 1)."""
    mean = _mean(away)
    sums = (away - mean).groupby(level="entity").agg(lambda part: part.sum(skipna=False)).to_numpy(dtype=float)
    if len(sums) < 2 or not np.isfinite(mean):
        return mean, np.nan
    return mean, float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(away))


def leave_entities_out(
    problem: Problem,
    refit: Refit,
    *,
    seed: int,
    folds: int = 5,
    n_draws: int = N_DRAWS,
    means: pd.DataFrame | None = None,
    benchmarks: Mapping[str, Forecaster] = BENCHMARKS,
) -> Comparison:
    """Score forecasts of entities by a fit of the others.

    Parameters
    ----------
    problem : Problem
        With many entities. Its hold-out is not used.
    refit : callable
        Fits a problem that lacks some of the entities, by any verb.
    seed : int
        Of the folds and of the draws of the forecasts.
    folds : int
        Groups of entities that are left out in turn, as equal in size as can be; as many as entities for one at a time.
    n_draws : int
        Draws behind each forecast of the model.
    means : DataFrame, optional
        Entity means of correlated random effects, as `refit` uses them, of all entities.
    benchmarks : mapping of str to callable
        Other forecasts, from a problem and rows.

    Returns
    -------
    Comparison
        The entities left out are predicted as new ones: their covariates are known, nothing else.

    Raises
    ------
    CalibrationError
        Folds that do not suit the number of entities, a centred observable, or a fit that cannot be made.
    """
    seed, n_draws = _checked(problem, refit, seed, n_draws, benchmarks)
    entities = sorted(set(problem.measurements["entity"]))
    if whole("folds", folds, 2) > len(entities):
        raise CalibrationError(f"folds is {folds}; it must be 2 to {len(entities)}, the number of entities")
    order = stream(seed, "folds").permutation(len(entities))
    table = problem.measurements

    def parts() -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        for part in np.array_split(order, folds):
            left = table["entity"].isin([entities[at] for at in part])
            yield table[~left], table[left]

    model = _forecaster(problem, refit, seed, n_draws, means)
    found, notes = _scored(problem, parts(), {MODEL: model, **benchmarks})
    return Comparison(found, f"{len(entities)} entities left out in {folds} folds", notes)


def last_times_out(
    problem: Problem,
    refit: Refit,
    *,
    last_fitted: float,
    seed: int,
    n_draws: int = N_DRAWS,
    means: pd.DataFrame | None = None,
    benchmarks: Mapping[str, Forecaster] = BENCHMARKS,
) -> Comparison:
    """Score forecasts of the last times by a fit of the earlier ones.

    Parameters
    ----------
    problem : Problem
        Later rows of its hold-out are scored too; earlier ones are not used.
    refit : callable
        Fits a problem that lacks the later measurements, by any verb.
    last_fitted : float
        Last time to fit.
    seed : int
        Of the draws of the forecasts.
    n_draws : int
        Draws behind each forecast of the model.
    means : DataFrame, optional
        Entity means of correlated random effects, as `refit` uses them; made of the times that are fitted.
    benchmarks : mapping of str to callable
        Other forecasts, from a problem and rows.

    Returns
    -------
    Comparison
        An entity that is measured later only is predicted as a new one. Covariates are known throughout, which the
        benchmarks do not use: where they are data of the later times these are no forecasts in real time.

    Raises
    ------
    CalibrationError
        If nothing is measured before or after the last time to fit, or a fit cannot be made.
    """
    seed, n_draws = _checked(problem, refit, seed, n_draws, benchmarks)
    timed = isinstance(last_fitted, int | float | np.number) and not isinstance(last_fitted, bool)
    if not timed or not np.isfinite(last_fitted):
        raise CalibrationError(f"last_fitted is {last_fitted!r}; it must be a time, a finite number such as 2020")
    early = problem.measurements["time"] <= last_fitted + 1e-6
    later = pd.concat([problem.measurements[~early], problem.holdout], ignore_index=True)
    later = later[later["time"] > last_fitted + 1e-6]
    if not early.any() or not len(later):
        where = "after" if early.any() else "up to"
        raise CalibrationError(f"nothing is measured {where} last_fitted={last_fitted:g}; choose a time within them")
    model = _forecaster(problem, refit, seed, n_draws, means)
    found, notes = _scored(problem, iter([(problem.measurements[early], later)]), {MODEL: model, **benchmarks})
    return Comparison(found, f"times after {last_fitted:g} left out", notes)


def _checked(
    problem: object, refit: object, seed: object, n_draws: object, benchmarks: Mapping[str, Forecaster]
) -> tuple[int, int]:
    """Seed and number of draws, once what is to be called can be."""
    check_problem(problem)
    if not callable(refit):
        raise CalibrationError(f"refit is {refit!r:.60}; give a callable, such as lambda problem: fit(problem, seed=1)")
    remedy = "give a mapping of names to callables, such as {'naive': naive}"
    if not isinstance(benchmarks, Mapping):
        raise CalibrationError(f"benchmarks is a {type(benchmarks).__name__}; {remedy}")
    for name, method in benchmarks.items():
        if not isinstance(name, str) or name == MODEL:
            raise CalibrationError(f"a benchmark has the name {name!r}; give it a text other than {MODEL!r}")
        if not callable(method):
            raise CalibrationError(f"the benchmark {name!r} is {method!r:.60}, which cannot be called; {remedy}")
    return checked_seed(seed), whole("n_draws", n_draws, 1)


def _forecaster(
    problem: Problem, refit: Refit, seed: int, n_draws: int, means: pd.DataFrame | None
) -> Forecaster:
    """The model: fitted again, with the covariates of the entities that the fit has not seen."""

    def predict(known: Problem, rows: pd.DataFrame) -> Predictive:
        other = problem.covariates[~problem.covariates["entity"].isin(known.entities)]
        other = other[other["entity"].isin(rows["entity"])]
        return forecast(
            known, refit(known), rows, seed=seed, n_draws=n_draws, covariates=other if len(other) else None, means=means
        )

    return predict


def _scored(
    problem: Problem, parts: Iterator[tuple[pd.DataFrame, pd.DataFrame]], methods: Mapping[str, Forecaster]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Scores of all methods on measurements left out, fold by fold, and notes."""
    found, notes = [], dict.fromkeys([AR1_NOTE] if "ar1" in methods else [])
    for fold, (fitted, left) in enumerate(parts, start=1):
        entities = set(fitted["entity"])
        covariates = problem.covariates[problem.covariates["entity"].isin(entities)]
        known = replace(problem, measurements=fitted, holdout=problem.holdout.iloc[:0], covariates=covariates)
        exact = left[left["comparator"] == "="].reset_index(drop=True)
        if len(exact) < len(left):
            notes[f"fold {fold}: {len(left) - len(exact)} measurements are bounds and are not scored"] = None
        if not len(exact):
            continue
        rows = exact[[key for key in _KEYS if key in exact]]
        table = exact[["entity", "observable", "time", "value"]].assign(fold=fold)
        steps = _naive_errors(fitted, exact)
        for name, method in methods.items():
            try:
                predictive = method(known, rows)
            except CalibrationError as error:
                if name == MODEL:
                    raise CalibrationError(f"fold {fold} of the scores: {error}") from error
                scores = dict.fromkeys((*SCORES, "point", "lower", "upper", "covered"), np.full(len(exact), np.nan))
                notes[f"{name} cannot predict in fold {fold}: {error}"] = None
            else:
                _check_predictive(name, predictive, len(rows))
                scores = _scores(predictive, exact["value"].to_numpy(dtype=float), steps)
            found.append(table.assign(method=name, **scores))
    if not found:
        raise CalibrationError("all measurements left out are bounds, which cannot be scored; leave others out")
    return pd.concat(found, ignore_index=True), tuple(notes)


def _check_predictive(name: str, predictive: object, n: int) -> None:
    """Refuse what is no `Predictive` of n rows."""
    shape = np.shape(getattr(predictive, "observed", ()))
    if len(shape) != 2 or shape[0] != n or not callable(getattr(predictive, "log_scores", None)):
        raise CalibrationError(
            f"the benchmark {name!r} gives a {type(predictive).__name__}; it must give an object with observed, an "
            f"array ({n} rows, draws), and log_scores(values), such as Normals"
        )


def _scores(predictive: Predictive, values: Floats, steps: Floats) -> dict[str, Floats]:
    drawn = predictive.observed
    lower, point, upper = (np.array([_quantile(row, level) for row in drawn]) for level in _ENDS)
    covered = np.where(np.isnan(point), np.nan, ((lower <= values) & (values <= upper)).astype(float))
    return {
        "point": point, "lower": lower, "upper": upper, "covered": covered,
        "log_score": predictive.log_scores(values), "crps": crps(drawn, values),
        "scaled_error": np.abs(values - point) / steps,
    }


def _quantile(drawn: Floats, level: float) -> float:
    alive = drawn[np.isfinite(drawn)]
    return float(np.quantile(alive, level)) if len(alive) else np.nan


def crps(drawn: Floats, values: Floats) -> Floats:
    """Continuous ranked probability score of the distribution that puts equal weight on each draw.

    Parameters
    ----------
    drawn : (rows, n) array
        Draws; those that are not finite are left out.
    values : (rows,) array
        Measured values, in the same units.

    Returns
    -------
    (rows,) array
        ``E|X - y| - E|X - X'| / 2``, X and X' independent draws [Gneiting2007]_: 0 for certainty that is right, for one
        draw the absolute error. NaN without a draw.
    """
    found = np.full(len(drawn), np.nan)
    for row, (sample, value) in enumerate(zip(drawn, values, strict=True)):
        alive = np.sort(sample[np.isfinite(sample)])
        n = len(alive)
        if n:
            found[row] = np.abs(alive - value).mean() - (2 * np.arange(1, n + 1) - n - 1) @ alive / n**2
    return found


def _naive_errors(fitted: pd.DataFrame, rows: pd.DataFrame) -> Floats:
    """Mean absolute step of the series of each row's entity and observable, or of all entities [Hyndman2006]_."""
    exact = fitted[fitted["comparator"] == "="].sort_values("time")
    steps = exact.assign(step=exact.groupby(["entity", "observable"])["value"].diff().abs())
    own, every = steps.groupby(["entity", "observable"])["step"].mean(), steps.groupby("observable")["step"].mean()
    pairs = pd.MultiIndex.from_frame(rows[["entity", "observable"]])
    found = own.reindex(pairs).to_numpy(dtype=float)
    pooled = every.reindex(rows["observable"]).to_numpy(dtype=float)
    found = np.where(found > 0, found, pooled)
    return np.where(found > 0, found, np.nan)
