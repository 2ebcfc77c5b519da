"""Benchmark curves: what three numbers and a formula make of the same measurements under the same likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.fit import fit_target
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.predict import N_DRAWS, score
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.result import FitResult
from villageflow.calibrate.scales import Box, Floats
from villageflow.errors import CalibrationError, did_you_mean

_TINY: Final = 1e-300
Curve = Callable[[Floats, Floats, Floats, Floats], Floats]


def _logistic(time: Floats, ceiling: Floats, rate: Floats, midpoint: Floats) -> Floats:
    return np.asarray(ceiling / (1 + np.exp(-rate * (time - midpoint))))


def _gompertz(time: Floats, level: Floats, growth: Floats, slowing: Floats) -> Floats:
    """Growth rate falls exponentially; the ceiling is level * exp(growth / slowing)."""
    return level * np.exp(-growth / slowing * np.expm1(-slowing * time))


def _bass(time: Floats, ceiling: Floats, innovation: Floats, imitation: Floats) -> Floats:
    total = innovation + imitation
    decay = np.exp(-total * time)
    return -ceiling * np.expm1(-total * time) / (1 + imitation / innovation * decay)


_CURVES: Final[Mapping[str, tuple[Curve, tuple[str, str, str]]]] = {
    "logistic": (_logistic, ("ceiling", "rate", "midpoint")),
    "gompertz": (_gompertz, ("level", "growth", "slowing")),
    "bass": (_bass, ("ceiling", "innovation", "imitation")),
}
CURVES: Final = tuple(_CURVES)


@dataclass(frozen=True, eq=False)
class CurveTarget:
    """A growth curve in place of the model, with the problem's own observation model.

    Attributes
    ----------
    curve : {"logistic", "gompertz", "bass"}
    box : Box
        Ceiling, rates and midpoint, then the noise parameters of the problem.
    observables : tuple of Observable
        One level or count.
    origin : float
        Time zero of the curve: the start of the model's run for Bass, the last fitted time for Gompertz, else 0.
    """

    curve: str
    box: Box
    observables: tuple[Observable, ...]
    origin: float

    def positions(self, rows: pd.DataFrame) -> npt.NDArray[np.intp]:
        """Zero: a curve is of one entity."""
        return np.zeros(len(rows), dtype=np.intp)

    def locations(self, values: Floats, rows: pd.DataFrame) -> Floats:
        """Values of the curve, (n, len(rows))."""
        time = rows["time"].to_numpy(dtype=float)[None, :]
        function = _CURVES[self.curve][0]
        with np.errstate(over="ignore", under="ignore"):
            path = function(time - self.origin, *values[:, :3].T[:, :, None])
        return np.maximum(path, _TINY)


def curve_target(problem: Problem, curve: str) -> CurveTarget:
    """A benchmark curve for a problem with one cumulative observable.

    Parameters
    ----------
    problem : Problem
        Whose measurements and noise to use.
    curve : {"logistic", "gompertz", "bass"}
        Which curve.

    Returns
    -------
    CurveTarget
        A ceiling lies between half the largest fitted value and a thousand times it; a level (Gompertz at the last
        fitted time) within a factor of ten of the largest; rates between 0.01 and 10 per time unit, but innovation and
        slowing down to 1e-9 and 1e-4; a midpoint between the first measurement and three spans after the last.

    Raises
    ------
    CalibrationError
        An unknown curve, or a problem with more than one observable, or with a net flow.
    """
    if curve not in _CURVES:
        raise CalibrationError(f"there is no benchmark curve {curve!r}. {did_you_mean(curve, _CURVES)}")
    if len(problem.observables) != 1 or problem.observables[0].kind == "net_flow":
        raise CalibrationError("a benchmark curve needs a problem with one observable, a level or a count")
    rows = problem.measurements
    largest, first, last = rows["value"].max(), rows["time"].min(), rows["time"].max()
    known: dict[str, tuple[str, float, float]] = {
        "ceiling": ("log", 0.5 * float(largest), 1e3 * float(largest)),
        "level": ("log", 0.1 * float(largest), 10 * float(largest)),
        "midpoint": ("lin", float(first), float(last + 3 * (last - first))),
        "innovation": ("log", 1e-9, 10.0),
        "slowing": ("log", 1e-4, 10.0),
    }
    ranges = {name: known.get(name, ("log", 0.01, 10.0)) for name in _CURVES[curve][1]}
    noise = problem.observables[0].noise_parameter
    if isinstance(noise, str):
        at = problem.box.names.index(noise)
        ranges[noise] = (problem.box.scales[at], float(problem.box.lower[at]), float(problem.box.upper[at]))
    origin = {"bass": float(problem.save_times[0]), "gompertz": float(last)}.get(curve, 0.0)
    return CurveTarget(curve, Box.of(ranges), problem.observables, origin)


def fit_curve(target: CurveTarget, rows: pd.DataFrame, *, seed: int, starts: int = 20) -> FitResult:
    """Fit a benchmark curve by the same likelihood, optimiser and errors as the model."""
    return fit_target(target, rows, {"model": f"{target.curve} curve"}, starts=starts, seed=seed)


def compare_with_curves(
    problem: Problem, result: FitResult, *, seed: int, starts: int = 20, n_draws: int = N_DRAWS
) -> pd.DataFrame:
    """Scores of a fit on its hold-out beside those of the benchmark curves.

    Parameters
    ----------
    problem : Problem
        With a hold-out.
    result : FitResult
        Its fit.
    seed : int
        Of the starts and draws of the curves.
    starts : int
        Starts of each curve.
    n_draws : int
        Draws behind each predictive distribution.

    Returns
    -------
    DataFrame
        One row for the model, each curve and the last change carried forward: log likelihood of the fit, number of
        free parameters, parameters at a bound, log score, mean absolute error in per cent, coverage of the 90 %
        interval, and the error in per cent at each time kept out. Carrying forward is a point forecast: it has no log
        score and no interval.
    """
    rows = []
    candidates: list[tuple[str, Problem | CurveTarget, FitResult]] = [(problem.model.name, problem, result)]
    for curve in CURVES:
        target = curve_target(problem, curve)
        candidates.append((curve, target, fit_curve(target, problem.measurements, seed=seed, starts=starts)))
    for name, candidate, found in candidates:
        scores = score(candidate, found, problem.holdout, n_draws=n_draws)
        errors = dict(zip(scores.table["time"], scores.table["error_percent"], strict=True))
        rows.append({
            "forecast": name,
            "loglik": found.loglik,
            "n_params": len(found.params),
            "at_bound": ", ".join(found.at_bound),
            "log_score": scores.log_score,
            "mean_absolute_error_percent": scores.mean_absolute_error,
            "coverage_90": scores.coverage,
            **{f"error_percent_{time:g}": value for time, value in errors.items()},
        })
    return pd.DataFrame([*rows, _carried_forward(problem)]).set_index("forecast")


def _carried_forward(problem: Problem) -> dict[str, object]:
    known = problem.measurements.sort_values("time")
    times, values = known["time"].to_numpy(dtype=float), known["value"].to_numpy(dtype=float)
    pace = (values[-1] - values[-2]) / (times[-1] - times[-2])
    ahead = problem.holdout["time"].to_numpy(dtype=float)
    observed = problem.holdout["value"].to_numpy(dtype=float)
    errors = 100 * (values[-1] + pace * (ahead - times[-1]) - observed) / observed
    return {
        "forecast": "last change carried forward",
        "loglik": np.nan,
        "n_params": 0,
        "at_bound": "",
        "log_score": np.nan,
        "mean_absolute_error_percent": float(np.abs(errors).mean()),
        "coverage_90": np.nan,
        **{f"error_percent_{time:g}": float(value) for time, value in zip(ahead, errors, strict=True)},
    }
