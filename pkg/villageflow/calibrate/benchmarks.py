"""What a forecast has to beat: the last value, and an autoregression with entity effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from villageflow.calibrate.predict import measured
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scales import Floats
from villageflow.errors import CalibrationError

AR1_NOTE: Final = (
    "ar1: the coefficient of least squares with entity effects is biased downwards (Nickell 1981), by about one plus "
    "itself over the number of times; it is a forecast to beat and no estimate of persistence"
)
_N_DRAWS: Final = 1000
_SAME: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Normals:
    """Normal predictive distributions of values or, where `logged`, of their logarithms.

    Attributes
    ----------
    mean, sd : (n,) arrays
    logged : (n,) bool array
    """

    mean: Floats
    sd: Floats
    logged: npt.NDArray[np.bool_]

    @property
    def observed(self) -> Floats:
        """Evenly spaced quantiles in the place of draws, (n, 1000)."""
        reach = stats.norm.ppf((np.arange(_N_DRAWS) + 0.5) / _N_DRAWS)
        found = self.mean[:, None] + self.sd[:, None] * reach
        with np.errstate(over="ignore"):
            return np.asarray(np.where(self.logged[:, None], np.exp(found), found))

    def log_scores(self, values: Floats) -> Floats:
        """Log density of measured values, (n,); minus infinity for a value that is not positive where `logged`."""
        values = measured(values, len(self.mean))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(values)
            found = stats.norm.logpdf(np.where(self.logged, logs, values), self.mean, self.sd)
            found = found - np.where(self.logged, logs, 0.0)
        return np.where(self.logged & ~(values > 0), -np.inf, found)


@dataclass(frozen=True, eq=False)
class _Series:
    """Times and values of each entity in the order of time; logarithms if all values are positive."""

    of: dict[str, tuple[Floats, Floats]]
    logged: bool

    @classmethod
    def read(cls, problem: Problem, observable: str) -> _Series:
        """Measurements that are no bounds."""
        table = problem.measurements
        table = table[(table["observable"] == observable) & (table["comparator"] == "=")].sort_values("time")
        logged = bool((table["value"] > 0).all())
        of = {}
        for entity, own in table.groupby("entity", sort=True):
            values = own["value"].to_numpy(dtype=float)
            of[str(entity)] = own["time"].to_numpy(dtype=float), np.log(values) if logged else values
        if not of:
            raise CalibrationError(f"nothing is measured of observable {observable!r} in the years or entities to fit")
        return cls(of, logged)


def naive(problem: Problem, rows: pd.DataFrame) -> Normals:
    """The last value of an entity; for a new one the mean of the others at the time.

    Parameters
    ----------
    problem : Problem
        What is known: its measurements.
    rows : DataFrame
        What to predict: entity, observable, time.

    Returns
    -------
    Normals
        Of logarithms where all measurements are positive. The variance of a last value grows with the time since then,
        as that of a random walk with the steps of all entities; that of a mean is the variance between the others. If
        less than two others are measured at the time the nearest one at which two are is taken.

    Raises
    ------
    CalibrationError
        If the measurements are too few or do not vary.
    """
    return _predicted(problem, rows, _walk)


def _walk(series: _Series, observable: str) -> Callable[[str, float], tuple[float, float]]:
    steps = np.concatenate([np.diff(values) for _, values in series.of.values()])
    gaps = np.concatenate([np.diff(times) for times, _ in series.of.values()])
    rate = float((steps**2).sum() / gaps.sum()) if len(gaps) else np.nan
    at = pd.Series({
        (time, entity): value for entity, (times, values) in series.of.items()
        for time, value in zip(times, values, strict=True)
    })  # fmt: skip
    by_time = at.groupby(level=0).agg(["mean", "var", "size"])
    by_time = by_time[by_time["size"] >= 2]

    def moments(entity: str, time: float) -> tuple[float, float]:
        if entity in series.of:
            times, values = series.of[entity]
            return float(values[-1]), rate * max(time - float(times[-1]), 0.0)
        if not len(by_time):
            raise CalibrationError(f"no two entities are measured at the same time of observable {observable!r}")
        near = by_time.iloc[int(np.argmin(np.abs(by_time.index.to_numpy(dtype=float) - time)))]
        return float(near["mean"]), float(near["var"] * (1 + 1 / near["size"]))

    return moments


def ar1(problem: Problem, rows: pd.DataFrame) -> Normals:
    """A first-order autoregression with entity effects, by least squares.

    Parameters
    ----------
    problem : Problem
        What is known: its measurements.
    rows : DataFrame
        What to predict: entity, observable, time.

    Returns
    -------
    Normals
        Of logarithms where all measurements are positive. A period is the commonest distance of two neighbouring
        measurements; others are not used. A known entity goes on from its last value with its own effect; a new one
        begins like the others at their commonest first time and has their mean effect, with the covariance of first
        values and effects between them. The effects hold error of estimation, and the coefficient is biased
        (`AR1_NOTE`); its own error is left out.

    Raises
    ------
    CalibrationError
        If the measurements are too few or do not vary.
    """
    return _predicted(problem, rows, _autoregression)


def _autoregression(series: _Series, observable: str) -> Callable[[str, float], tuple[float, float]]:
    gaps = np.concatenate([np.diff(times) for times, _ in series.of.values()])
    found, counts = np.unique(np.round(gaps, 6), return_counts=True)
    step = float(found[np.argmax(counts)]) if len(found) else np.nan
    pairs = {}
    for entity, (times, values) in series.of.items():
        use = np.flatnonzero(np.abs(np.diff(times) - step) < _SAME)
        if len(use):
            pairs[entity] = values[use], values[use + 1]
    n_left = sum(len(x) for x, _ in pairs.values()) - len(pairs) - 1
    within = np.hstack([np.array([x - x.mean(), y - y.mean()]) for x, y in pairs.values()] or [np.empty((2, 0))])
    if n_left < 1 or not (within[0] ** 2).sum() > 0:
        raise CalibrationError(
            f"observable {observable!r} has too few neighbouring measurements for an autoregression with entity effects"
        )
    rho = float(within[0] @ within[1] / (within[0] @ within[0]))
    variance = float(((within[1] - rho * within[0]) ** 2).sum() / n_left)
    effects = {entity: float(y.mean() - rho * x.mean()) for entity, (x, y) in pairs.items()}
    mean_effect = float(np.mean(list(effects.values())))
    firsts, counts = np.unique([times[0] for times, _ in series.of.values()], return_counts=True)
    start = float(firsts[np.argmax(counts)])
    begun = np.array([[effects[entity], series.of[entity][1][0]] for entity in effects])
    spread = np.cov(begun.T) * (1 + 1 / len(begun)) if len(begun) > 1 else np.full((2, 2), np.nan)

    def moments(entity: str, time: float) -> tuple[float, float]:
        known = entity in series.of
        since = float(series.of[entity][0][-1]) if known else start
        h = max(round((time - since) / step), 1 if known else 0)
        weights = np.array([(rho ** np.arange(h)).sum(), rho**h])
        noise = variance * float((rho ** (2 * np.arange(h))).sum())
        if known:
            return float(weights @ [effects.get(entity, mean_effect), series.of[entity][1][-1]]), noise
        return float(weights @ begun.mean(axis=0)), noise + float(weights @ spread @ weights)

    return moments


def _predicted(
    problem: Problem, rows: pd.DataFrame, method: Callable[[_Series, str], Callable[[str, float], tuple[float, float]]]
) -> Normals:
    """Mean and variance of each row, one observable after the other."""
    moments, logged = np.empty((len(rows), 2)), np.empty(len(rows), dtype=bool)
    names = rows["observable"].to_numpy()
    for name in dict.fromkeys(names):
        series = _Series.read(problem, str(name))
        predict, at = method(series, str(name)), np.flatnonzero(names == name)
        logged[at] = series.logged
        entities, times = rows["entity"].to_numpy()[at], rows["time"].to_numpy(dtype=float)[at]
        moments[at] = [predict(str(entity), float(time)) for entity, time in zip(entities, times, strict=True)]
        if not (moments[at, 1] > 0).all():
            raise CalibrationError(f"the measurements of observable {name!r} are too few or do not vary")
    return Normals(moments[:, 0], np.sqrt(moments[:, 1]), logged)


BENCHMARKS: Final[Mapping[str, Callable[[Problem, pd.DataFrame], Normals]]] = {"naive": naive, "ar1": ar1}
"""Both, by the names that tables give them."""
