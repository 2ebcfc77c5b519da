"""Maximisation on the unit box: many starts in lockstep, every batch one call of the objective.

Damped Newton ascent: gradient and Hessian come from the objective's own slopes where it has them, else from central
differences; the Hessian's eigenvalues are taken as curvatures by size, and several dampings are tried at once. The best
end is polished with steps that fit the curvature, so that the optimum repeats to many digits.

References
----------
.. [Marquardt1963] D. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", J. SIAM 11 (1963).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from villageflow.calibrate.scales import Floats
from villageflow.errors import CalibrationError

Objective = Callable[[Floats], Floats]
Derivatives = Callable[[Floats], tuple[Floats, Floats]]
"""(n, p) points to exact gradients (n, p) and approximate Hessians (n, p, p)."""
OnRound = Callable[[int, int, float], None]
"""Called after each round with its number, the number of searches still under way and the best objective."""

_STEP: Final = 1e-3
_SHORTEST: Final = 1e-5
_DAMPING: Final = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
_REACH: Final = 0.35
_EDGE: Final = 1e-7
_GAIN: Final = 1e-7
_MAX_ROUNDS: Final = 200
_POLISH_ROUNDS: Final = 30
NEAR: Final = 1e-2


@dataclass(frozen=True)
class Optimum:
    """The best point found, and what the search says about it.

    Attributes
    ----------
    unit : (p,) array
        In the unit box.
    value : float
    gradient : (p,) array
        Central differences, per unit of the box.
    hessian : (p, p) array
        Of the objective, per unit of the box.
    at_bound : (p,) bool array
        Held by a bound: the objective still rises beyond it.
    ends : (n_starts,) array
        Objective where each start ended; minus infinity for a start from which no run was possible.
    converged : bool
        Newton's next step is below 1e-5 standard errors and the free part of the Hessian is negative definite.
    """

    unit: Floats
    value: float
    gradient: Floats
    hessian: Floats
    at_bound: npt.NDArray[np.bool_]
    ends: Floats
    converged: bool

    @property
    def near_best(self) -> float:
        """Share of starts that ended within 1e-2 of the best."""
        return float(np.mean(self.ends >= self.value - NEAR))


def maximise(
    objective: Objective,
    size: int,
    *,
    starts: int,
    seed: int,
    given: Floats | None = None,
    slopes: Derivatives | None = None,
    exact: bool = False,
    progress: OnRound | None = None,
) -> Optimum:
    """Maximise an objective on the unit box.

    Parameters
    ----------
    objective : callable
        (n, size) array to (n,) values; minus infinity where undefined. Called with many points at once.
    size : int
        Number of parameters.
    starts : int
        Latin hypercube starts.
    seed : int
        Of the starts; nothing else is random.
    given : (k, size) array, optional
        Further starts, before the others.
    slopes : callable, optional
        Derivatives that guide the search in place of differences of the objective.
    exact : bool
        Whether the gradients of `slopes` are those of the objective everywhere; then the end is polished with them.
    progress : callable, optional
        Called after every round.

    Returns
    -------
    Optimum

    Raises
    ------
    CalibrationError
        If the objective is minus infinity at every start.
    """
    points = qmc.LatinHypercube(d=size, rng=np.random.default_rng(seed)).random(starts)
    if given is not None:
        points = np.vstack([given, points])
    values = objective(points)
    if not np.isfinite(values).any():
        raise CalibrationError(
            f"the likelihood is zero at all {len(points)} starts: the model cannot give the measurements within the "
            "bounds"
        )
    active, steps = np.isfinite(values), np.full(points.shape, _STEP)
    for number in range(1, _MAX_ROUNDS + 1):
        at = np.flatnonzero(active)
        if not len(at):
            break
        points[at], better, steps[at] = newton_round(objective, points[at], values[at], steps[at], slopes)
        active[at] = better > values[at] + _GAIN
        values[at] = np.maximum(better, values[at])
        if progress is not None:
            progress(number, int(active.sum()), float(values.max()))
    best = int(np.argmax(values))
    polished = _polish(_Surface(objective, slopes if exact else None), points[best], float(values[best]))
    unit, value, gradient, hessian, converged = polished
    values[best] = max(value, values[best])
    return Optimum(unit, value, gradient, hessian, _held(unit, gradient), values, converged)


def newton_round(
    objective: Objective, points: Floats, values: Floats, steps: Floats, slopes: Derivatives | None = None
) -> tuple[Floats, Floats, Floats]:
    """One Newton round for every start: its best candidate, the value there, and the next difference steps.

    A step is a tenth of the distance over which the objective bends by one half along its axis, so that a narrow ridge
    is seen as one.
    """
    size = points.shape[1]
    gradients, hessians = differences(objective, points, steps) if slopes is None else slopes(points)
    fitting = _fitting(hessians)
    candidates = np.repeat(points[:, None, :], len(_DAMPING), axis=1)
    for i, (point, gradient, hessian) in enumerate(zip(points, gradients, hessians, strict=True)):
        free = ~_held(point, gradient)
        if free.any() and np.isfinite(gradient).all() and np.isfinite(hessian).all():
            moves = _steps(gradient[free], hessian[np.ix_(free, free)])
            candidates[i][:, free] = np.clip(point[free] + moves, 0.0, 1.0)
    tried = objective(candidates.reshape(-1, size)).reshape(len(points), -1)
    tried = np.where(np.isnan(tried), -np.inf, tried)
    chosen = np.argmax(tried, axis=1)
    rows = np.arange(len(points))
    reached = tried[rows, chosen]
    improved = reached > values
    return np.where(improved[:, None], candidates[rows, chosen], points), np.where(improved, reached, values), fitting


def _fitting(hessians: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        steps = 0.1 / np.sqrt(np.abs(np.diagonal(hessians, axis1=1, axis2=2)))
    return np.where(np.isfinite(steps), np.clip(steps, _SHORTEST, _STEP), _STEP)


def _steps(gradient: Floats, hessian: Floats) -> Floats:
    """Damped Newton steps, one row for each damping, none longer than the reach."""
    curvature, basis = np.linalg.eigh(hessian)
    size = np.maximum(np.abs(curvature), 1e-8 * max(float(np.abs(curvature).max()), 1e-8))
    along = basis.T @ gradient
    rows = []
    for damping in _DAMPING:
        step = basis @ (along / (size + damping * size.max()))
        longest = float(np.abs(step).max())
        rows.append(step * min(1.0, _REACH / longest) if longest > 0 else step)
    return np.array(rows)


def differences(objective: Objective, points: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """Gradients (n, p) and Hessians (n, p, p) by central differences with (n, p) steps, from one call of the objective.

    Within a step of the box's edge the differences are taken a step inside it and the gradient is carried back along
    the Hessian.
    """
    n, size = points.shape
    offsets = _offsets(size) * steps[:, None, :]
    centres = np.clip(points, steps, 1.0 - steps)
    batch = (centres[:, None, :] + offsets).reshape(-1, size)
    values = objective(batch).reshape(n, -1)
    centre, up, down = values[:, 0], values[:, 1:size + 1], values[:, size + 1:2 * size + 1]
    with np.errstate(invalid="ignore"):
        gradients = (up - down) / (2 * steps)
        hessians = np.empty((n, size, size))
        position = 2 * size + 1
        for i in range(size):
            hessians[:, i, i] = (up[:, i] - 2 * centre + down[:, i]) / steps[:, i] ** 2
            for j in range(i + 1, size):
                both, neither = values[:, position], values[:, position + 1]
                mixed = both - up[:, i] - up[:, j] + 2 * centre - down[:, i] - down[:, j] + neither
                hessians[:, i, j] = hessians[:, j, i] = mixed / (2 * steps[:, i] * steps[:, j])
                position += 2
        gradients = gradients + np.einsum("nij,nj->ni", hessians, points - centres)
    return gradients, hessians


def _offsets(size: int) -> Floats:
    """Centre, up and down each axis, and for each pair of axes both up and both down."""
    axes = np.eye(size)
    pairs = [sign * (axes[i] + axes[j]) for i in range(size) for j in range(i + 1, size) for sign in (1, -1)]
    return np.vstack([np.zeros(size), axes, -axes, *pairs])


def _held(unit: Floats, gradient: Floats) -> npt.NDArray[np.bool_]:
    held = ((unit <= _EDGE) & (gradient < 0)) | ((unit >= 1 - _EDGE) & (gradient > 0))
    return np.asarray(held, dtype=bool)


@dataclass(frozen=True)
class _Surface:
    """An objective near its maximum, with exact slopes if it has them."""

    value: Objective
    slopes: Derivatives | None

    def over(self, unit: Floats, free: npt.NDArray[np.intp]) -> _Surface:
        """The objective over some coordinates, the others held."""

        def whole(points: Floats) -> Floats:
            result = np.repeat(unit[None, :], len(points), axis=0)
            result[:, free] = points
            return result

        def slopes(points: Floats) -> tuple[Floats, Floats]:
            assert self.slopes is not None
            gradients, hessians = self.slopes(whole(points))
            return gradients[:, free], hessians[:, free][:, :, free]

        return _Surface(lambda points: self.value(whole(points)), None if self.slopes is None else slopes)

    def hessian(self, point: Floats, steps: Floats) -> Floats:
        """Differences of exact gradients, or second differences of the objective."""
        if self.slopes is None:
            return np.asarray(differences(self.value, point[None, :], steps[None, :])[1][0])
        centre, axes = np.clip(point, steps, 1 - steps), np.diag(steps)
        gradients = self.slopes(np.vstack([centre + axes, centre - axes]))[0]
        rows = (gradients[:len(point)] - gradients[len(point):]) / (2 * steps[:, None])
        return np.asarray((rows + rows.T) / 2)

    def gradient(self, point: Floats, steps: Floats) -> Floats:
        """Exact, or fourth-order central differences; two steps within the box's edge these are taken inside it."""
        if self.slopes is not None:
            return np.asarray(self.slopes(point[None, :])[0][0])
        centre = np.clip(point, 2 * steps, 1 - 2 * steps)
        axes = np.diag(steps)
        batch = np.vstack([centre + axes, centre - axes, centre + 2 * axes, centre - 2 * axes])
        value = self.value(batch).reshape(4, -1)
        return np.asarray((8 * (value[0] - value[1]) - (value[2] - value[3])) / (12 * steps))


def _polish(surface: _Surface, unit: Floats, value: float) -> tuple[Floats, float, Floats, Floats, bool]:
    """Newton's method over what no bound holds, then the derivatives at the end.

    The Hessian of a held parameter is NaN and its gradient is one-sided.
    """
    steps = np.full(len(unit), 0.1 * _STEP)
    for _ in range(2):
        gradients, hessians = differences(surface.value, unit[None, :], steps[None, :])
        gradient, steps = gradients[0], _fitting(hessians)[0]
    held = _held(unit, gradient)
    unit = np.where(held, np.round(unit), unit)
    free = np.flatnonzero(~held)
    full_gradient, full_hessian = np.zeros(len(unit)), np.full((len(unit), len(unit)), np.nan)
    converged = True
    if len(free):
        inner = surface.over(unit, free)
        end, value, slope, curvature, converged = _newton(inner, unit[free], value, steps[free])
        unit[free], full_gradient[free], full_hessian[np.ix_(free, free)] = end, slope, curvature
    for j in np.flatnonzero(held):
        inside = unit.copy()
        inside[j] += _STEP if unit[j] < 0.5 else -_STEP
        full_gradient[j] = (float(surface.value(inside[None, :])[0]) - value) / (inside[j] - unit[j])
    return unit, value, full_gradient, full_hessian, converged and bool(np.all(_held(unit, full_gradient)[held]))


def _newton(
    surface: _Surface, point: Floats, value: float, steps: Floats
) -> tuple[Floats, float, Floats, Floats, bool]:
    """Newton steps, with differences scaled by the standard errors."""
    none_held = np.zeros(len(point), dtype=bool)
    small, share = False, 0.05 if surface.slopes is None else 5e-4
    for _ in range(_POLISH_ROUNDS):
        hessian = surface.hessian(point, steps)
        error = standard_errors(hessian, none_held)
        if np.isnan(error).any():
            break
        fitting = np.clip(share * error, 1e-6, 0.02)
        if np.any(np.abs(np.log(fitting / steps)) > 0.7):
            steps = fitting
            continue
        move = -np.linalg.solve(hessian, surface.gradient(point, 0.4 * steps))
        target = np.clip(point + move, 0.0, 1.0)
        reached = float(surface.value(target[None, :])[0])
        if not reached >= value - 1e-8:
            break
        small = bool(np.all(np.abs(move) <= 1e-5 * error))
        point, value = target, reached
        if float(np.abs(move / error).max()) < 1e-8:
            break
    hessian = surface.hessian(point, steps)
    definite = not np.isnan(standard_errors(hessian, none_held)).any()
    return point, value, surface.gradient(point, 0.4 * steps), hessian, small and definite


def covariance(hessian: Floats, held: npt.NDArray[np.bool_]) -> Floats:
    """Inverse of minus the Hessian over what no bound holds; NaN elsewhere, or everywhere if it is not definite."""
    result = np.full(hessian.shape, np.nan)
    free = np.flatnonzero(~held)
    if not len(free):
        return result
    information = -hessian[np.ix_(free, free)]
    if np.isfinite(information).all():
        curvature = np.linalg.eigvalsh(information)
        if curvature[0] > len(free) * np.finfo(float).eps * curvature[-1]:  # above what rounding makes of zero
            result[np.ix_(free, free)] = np.linalg.inv(information)
    return result


def standard_errors(hessian: Floats, held: npt.NDArray[np.bool_]) -> Floats:
    """Square roots of the diagonal of `covariance`, (p,)."""
    return np.asarray(np.sqrt(np.diag(covariance(hessian, held))))
