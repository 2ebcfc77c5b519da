"""Profile likelihood: which interval the measurements give each parameter, and whether they give one at all.

A parameter is held at values further and further from its estimate while all others are optimised again. Its interval
ends where the log likelihood has fallen by a threshold. All sides of all parameters move outwards in lockstep.

References
----------
.. [Chandler2007] R. E. Chandler and S. Bate, "Inference for clustered data using the independence loglikelihood",
   Biometrika 94 (2007).
.. [Pauli2011] F. Pauli, W. Racugno and L. Ventura, "Bayesian composite marginal likelihoods", Statistica Sinica 21
   (2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.calibrate.climb import Objective, covariance, differences
from villageflow.calibrate.likelihood import Target, log_likelihood
from villageflow.calibrate.outwards import BETTER, EDGE, STEP, TOLERANCE, Search, Side, beaten, on_lanes, searched
from villageflow.calibrate.profiled import Profile, Profiles, Verdict
from villageflow.calibrate.result import FitResult
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import check_declared, checked_seed, parameter_names, share, whole
from villageflow.errors import CalibrationError

__all__ = ["BETTER", "TOLERANCE", "Measured", "Profile", "Profiles", "Verdict", "profile"]


class Measured(Target, Protocol):
    """A target that has its measurements, as a `Problem` has."""

    @property
    def measurements(self) -> pd.DataFrame:
        """Rows that were fitted."""


def profile(
    problem: Measured,
    result: FitResult,
    *,
    parameters: Sequence[str] | None = None,
    level: float = 0.95,
    points: int = 8,
    starts: int = 4,
    seed: int,
) -> Profiles:
    """Profile the likelihood of a fitted problem and give a verdict on each parameter.

    Parameters
    ----------
    problem : Problem
        What was fitted, with shared parameters only; or any other target with measurements.
    result : FitResult
        Its fit.
    parameters : sequence of str, optional
        What to profile, all by default; the order moves no number.
    level : float
        Of the intervals, strictly between 0 and 1.
    points : int
        Values on each side of the estimate up to the end, evenly spaced on the transformed scale, at least 4.
    starts : int
        Latin hypercube starts at each of them and at each step outwards, beside those from the neighbours; at least 1.
    seed : int
        Of the starts; equal seeds give equal results.

    Returns
    -------
    Profiles

    Raises
    ------
    CalibrationError
        An unknown parameter, a setting out of range, or a fit that is not of this problem.

    Notes
    -----
    The threshold is half the square of the quantile behind `FitResult.conf_int`: 1.92 at 95 % for the normal. For a
    clustered fit it is multiplied by the ratio of the sandwich to the Hessian variance of the parameter, the vertical
    scaling of [Chandler2007]_ for one parameter, so that a parabola gives the interval of `FitResult.conf_int`; for
    a parameter at a bound, which has no variance, by the mean ratio over all directions [Pauli2011]_.

    An end is met to a relative `TOLERANCE`. It is the first one outwards: what lies beyond is not searched. An end
    is not counted if letting go the bounds that other parameters met on the way would win back more than half of the
    fall (a second-order estimate). A parameter at a bound is one-sided at best. When a point more than `BETTER` above
    the fit is met the search stops, and no parameter has an interval.
    """
    check_declared(problem, "measurements")
    if (kind := type(result)) is not FitResult:
        raise CalibrationError(f"the fit is a {kind.__name__}; profile takes what fit gives, of shared parameters")
    box, seed = problem.box, checked_seed(seed)
    names = list(box.names) if parameters is None else parameter_names(parameters, box.names, "profiled parameter")
    _check(problem, result, names, level, points, starts)

    def objective(unit: Floats) -> Floats:
        values = log_likelihood(problem, box.natural(unit), problem.measurements)
        return np.where(np.isnan(values), -np.inf, values)

    natural: Floats = np.asarray(result.params, dtype=np.float64)
    unit = np.clip(box.unit(natural), 0.0, 1.0)
    top = float(objective(unit[None, :])[0])
    if not abs(top - result.loglik) <= BETTER:
        raise CalibrationError(
            f"the fit has log likelihood {result.loglik:.6f} and this problem {top:.6f} at its estimates; both must be "
            "of the same measurements, so fit this problem"
        )
    limits = _thresholds(objective, box, result, unit, level)
    search = Search(objective, seed, starts)
    sides = []
    for j in sorted(box.names.index(name) for name in names):
        threshold, _, error = limits[j]
        for sign in (-1, 1):
            side = Side(j, sign, threshold, 0.0, unit[None, :], np.array([top]))
            stride = 0.5 * float(np.sqrt(2 * threshold)) * error
            sides.append(replace(side, stride=stride if 0 < stride < side.room / 8 else side.room / 8))
    sides = searched(search, sides, points)
    better, better_loglik = None, float("nan")
    if beaten(sides):
        best = max(sides, key=lambda side: float(side.values.max()))
        ends, values = search.climb(best.units[[int(np.argmax(best.values))]], None)
        better, better_loglik = pd.Series(box.natural(ends[0]), index=list(box.names)), float(values[0])
    made = {
        box.names[low.j]: _verdict(objective, box, result, (low, high), limits[low.j][1], better_loglik)
        for low, high in zip(sides[::2], sides[1::2], strict=True)
    }
    return Profiles(tuple(made[name] for name in names), level, top, better, better_loglik, seed)


def _check(problem: Measured, result: FitResult, names: list[str], level: float, points: int, starts: int) -> None:
    box, fitted = problem.box, result.box
    if not names or len(set(names)) < len(names):
        raise CalibrationError(f"parameters is {names}; name each parameter to profile once, or leave it out for all")
    share("level", level)
    whole("points", points, 4)
    whole("starts", starts, 1)
    for name, effect in getattr(problem, "effects", {}).items():
        if effect != "shared":
            raise CalibrationError(f"parameter {name!r} has effect {effect!r}; profile takes 'shared' ones, fix it")
    same = (fitted.names, fitted.scales) == (box.names, box.scales)
    if not (same and np.array_equal([fitted.lower, fitted.upper], [box.lower, box.upper])):
        raise CalibrationError(
            f"the fit is of {', '.join(fitted.names)}, the problem of {', '.join(box.names)}; names, scales and bounds "
            "must be the same, so profile the problem that was fitted"
        )


def _thresholds(
    objective: Objective, box: Box, result: FitResult, unit: Floats, level: float
) -> list[tuple[float, str, float]]:
    """For each parameter the threshold, where it comes from, and the Hessian error in the unit box."""
    known = stats.norm() if result.df is None else stats.t(result.df)
    base = 0.5 * float(known.ppf(0.5 + level / 2)) ** 2
    kind = "chi-squared quantile" if result.df is None else f"square of the t({result.df:g}) quantile"
    errors = result.transformed["std_error"].to_numpy(dtype=float) / box.width
    said = f"is half the {kind}"
    if result.cov_type != "clustered":
        return [(base, said, float(error)) for error in errors]
    free, plain = np.flatnonzero(np.isfinite(errors)), f"{said}, not scaled: the Hessian gives no variance"
    if not len(free):
        return [(base, plain, float("nan"))] * box.size
    steps, part = np.clip(0.05 * errors[free], 1e-6, 0.02), on_lanes(objective, unit[None, :], free[None, :])
    for _ in range(2):
        hessian = differences(part, unit[None, free], steps[None, :])[1][0]
        bread = covariance(hessian, np.zeros(len(free), dtype=bool))
        hessian_errors = np.sqrt(np.diag(bread))
        steps = np.where(np.isfinite(hessian_errors), np.clip(0.05 * hessian_errors, 1e-6, 0.02), steps)
    if not np.isfinite(bread).all():
        return [(base, plain, float("nan"))] * box.size
    width = box.width[free]
    sandwich = result.transformed_cov.to_numpy(dtype=float)[np.ix_(free, free)] / np.outer(width, width)
    mean = float(np.trace(-hessian @ sandwich)) / len(free)
    found = [(mean * base, f"{said}, times {mean:.4g}, the mean ratio of sandwich to Hessian variance", float("nan"))]
    found = found * box.size
    for position, j in enumerate(free):
        ratio = float(sandwich[position, position] / bread[position, position])
        note = f"{said}, times {ratio:.4g}, the ratio of its sandwich to its Hessian variance"
        found[j] = (ratio * base, note, float(hessian_errors[position]))
    return found


def _verdict(
    objective: Objective, box: Box, result: FitResult, sides: tuple[Side, Side], threshold_note: str, better: float
) -> Profile:
    low, high = sides
    j, held = low.j, [box.names.index(name) for name in result.at_bound]
    leaning = [_leaning(objective, side, held) for side in sides]
    closed = [side.crossing is not None and not on for side, on in zip(sides, leaning, strict=True)]
    ends = [
        float(box.natural(side.units[side.crossing])[j]) if shut else side.sign * np.inf
        for side, shut in zip(sides, closed, strict=True)
    ]
    verdicts: tuple[Verdict, ...] = ("flat", "one-sided", "bounded")
    verdict = verdicts[sum(closed)]
    note = "the log likelihood falls by the threshold on both sides"
    if np.isfinite(better):
        verdict, ends = "better optimum found", [np.nan, np.nan]
        note = f"there is an optimum with log likelihood {better:.6f}, above the fit's; fit again with more starts"
    elif not all(closed):
        open_sides = [side for side, shut in zip(sides, closed, strict=True) if not shut]
        said = [_open_words(box, side, on) for side, on, shut in zip(sides, leaning, closed, strict=True) if not shut]
        note = "; ".join([*said, *_compensation(box, open_sides)])
    return Profile(
        box.names[j], float(result.params.iloc[j]), ends[0], ends[1], verdict, low.threshold, threshold_note, note,
        _table(box, low, high),
    )


def _table(box: Box, low: Side, high: Side) -> pd.DataFrame:
    units = np.vstack([low.units[:0:-1], high.units])
    natural = np.where(units == 0, box.lower, np.where(units == 1, box.upper, box.natural(units)))
    table = pd.DataFrame(natural, columns=list(box.names))
    edges = (units <= EDGE) | (units >= 1 - EDGE)
    edges[:, low.j] = False
    names = [", ".join(box.names[k] for k in np.flatnonzero(row)) for row in edges]
    return table.assign(loglik=np.append(low.values[:0:-1], high.values), at_bound=names)


def _leaning(objective: Objective, side: Side, held: list[int]) -> list[int]:
    """Other parameters at bounds without which, to second order, more than half of the fall would not be."""
    if side.crossing is None or not np.isfinite(side.values[side.crossing]):
        return []
    point = side.units[side.crossing]
    edge = (point <= EDGE) | (point >= 1 - EDGE)
    edge[[side.j, *held]] = False
    if not edge.any():
        return []
    free = np.delete(np.arange(len(point)), side.j)
    part = on_lanes(objective, point[None, :], free[None, :])
    gradients, hessians = differences(part, point[None, free], np.full((1, len(free)), 0.1 * STEP))
    pull = np.where(edge[free], gradients[0], 0.0)
    gain = float(np.abs(pull).sum())  # of a whole width more at this slope
    inverse = covariance(hessians[0], np.zeros(len(free), dtype=bool))
    if np.isfinite(inverse).all():
        gain = min(gain, 0.5 * float(pull @ inverse @ pull))
    return [int(k) for k in np.flatnonzero(edge)] if not gain <= 0.5 * side.threshold else []


def _open_words(box: Box, side: Side, leaning: list[int]) -> str:
    where = "above" if side.sign > 0 else "below"
    if leaning:
        return f"no end {where}: it falls only because {', '.join(box.names[k] for k in leaning)} meets a bound"
    bound = float((box.upper if side.sign > 0 else box.lower)[side.j])
    if side.room == 0:
        return f"no end {where} by construction: the estimate is at its bound {bound:.6g}"
    return f"no end {where}: at the bound {bound:.6g} the log likelihood has fallen by {max(0.0, side.fall[-1]):.2g}"


def _compensation(box: Box, sides: list[Side]) -> list[str]:
    """What the other parameters do on open sides; a combination that stays is what is identified."""
    j = sides[0].j
    points = np.vstack([side.units[:side.crossing] for side in sides])
    fall = np.concatenate([side.fall[:side.crossing] for side in sides])
    edge = (points <= EDGE) | (points >= 1 - EDGE)
    inner = ~np.delete(edge, j, axis=1).any(axis=1)
    if inner.sum() > 2:  # before another parameter meets a bound
        points, fall = points[inner], fall[inner]
    others = [k for k in range(box.size) if k != j and np.ptp(points[:, k]) > 0.02]
    moved = (points - points[0]) * box.width
    if not others or not np.ptp(moved[:, j]) > 0:
        return []
    weights = np.linalg.lstsq(moved[:, others], moved[:, j], rcond=1e-6)[0]
    if np.abs(moved[:, j] - moved[:, others] @ weights).max() > 0.01 * np.ptp(moved[:, j]):
        return [f"{', '.join(box.names[k] for k in others)} makes up for it"]
    parts = sorted([(j, 1.0), *((k, -float(weight)) for k, weight in zip(others, weights, strict=True))])
    if all(box.scales[k] == "log" for k, _ in parts):
        words = " * ".join(box.names[k] if f"{w:.2f}" == "1.00" else f"{box.names[k]}^{w:.2f}" for k, w in parts)
    else:
        plain = {"lin": "{}", "log": "ln {}", "logit": "logit {}"}
        words = " + ".join(f"{w:.3g} {plain[box.scales[k]].format(box.names[k])}" for k, w in parts)
    exact = float(fall.max()) < 0.01 * sides[0].threshold
    return [f"only {words} is identified" if exact else f"{words} is known better than {box.names[j]}"]
