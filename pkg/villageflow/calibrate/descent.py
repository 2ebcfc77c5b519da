"""Least squares on the unit box: many starts in lockstep, every batch one call of the residuals.

Levenberg-Marquardt steps on a Jacobian by central differences with a wide, declared step; between two differentiations
the Jacobian is updated by what each step taught [Broyden1965]_. Where a call costs many simulations this takes fewer
of them than the curvature of the sum of squares, which `villageflow.calibrate.climb` needs for a likelihood.

References
----------
.. [Broyden1965] C. G. Broyden, "A class of methods for solving nonlinear simultaneous equations", Mathematics of
   Computation 19 (1965).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import qmc

from villageflow.calibrate.climb import OnRound
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import checked_seed, whole
from villageflow.errors import CalibrationError

Residuals = Callable[[Floats], Floats]

_REACH: Final = 0.35
_ROUGH: Final = 1e-4
_FINE: Final = 1e-8
_MOST_ROUNDS: Final = 100
_HARDEST: Final = 1e8
_POOR: Final = 0.25


@dataclass(frozen=True, eq=False)
class Nearest:
    """Where the sum of squared residuals is least.

    Attributes
    ----------
    unit : (p,) array
        In the unit box.
    value : float
        Sum of squares there.
    held : (p,) bool array
        Held by a bound: the sum of squares still falls beyond it.
    ends : (n_starts, p) array
        Where each start ended, the best one after its polish; NaN for a start from which no run was possible.
    values : (n_starts,) array
        Sum of squares there; infinite for such a start.
    converged : bool
        The last step on a fresh Jacobian was below 1e-8 of the box or promised to lower the sum by less than 1e-8 of
        it, or no damping brought a lower sum.
    """

    unit: Floats
    value: float
    held: npt.NDArray[np.bool_]
    ends: Floats
    values: Floats
    converged: bool


def descend(
    residuals: Residuals, size: int, *, starts: int, seed: int, step: float, progress: OnRound | None = None
) -> Nearest:
    """Minimise a sum of squares on the unit box.

    Parameters
    ----------
    residuals : callable
        (n, size) array to (n, m) array; a row with NaN where undefined. Called with many points at once.
    size : int
        Number of parameters.
    starts : int
        Latin hypercube starts.
    seed : int
        Of the starts; nothing else is random.
    step : float
        Of the central differences, in widths of the box.
    progress : callable, optional
        Called after each round with its number, the starts still walking and the smallest sum of squares.

    Returns
    -------
    Nearest
        With an infinite value if the residuals are undefined at every start.
    """
    points = hypercube(size, starts, seed)
    walks = [_Walk(point, row) for point, row in zip(points, residuals(points), strict=True)]
    for walk in walks:
        walk.active = bool(np.isfinite(walk.cost))
    if any(walk.active for walk in walks):
        _walk(residuals, walks, step, _ROUGH, progress)
        best = min(walks, key=lambda walk: walk.cost)
        best.active, best.jacobian, best.damping, best.settled = True, None, 0.0, False
        _walk(residuals, [best], step, _FINE, progress)
    best = min(walks, key=lambda walk: walk.cost)
    ends = np.array([walk.unit if np.isfinite(walk.cost) else np.full(size, np.nan) for walk in walks])
    costs = np.array([walk.cost for walk in walks])
    return Nearest(best.unit, best.cost, best.held(), ends, costs, best.settled)


def hypercube(size: int, starts: int, seed: int) -> Floats:
    """The starts of `descend`, (starts, size).

    Raises
    ------
    CalibrationError
        A seed that is no whole number from 0 on, or less than one start.
    """
    starts, rng = whole("starts", starts, 1), np.random.default_rng(checked_seed(seed))
    return np.asarray(qmc.LatinHypercube(d=size, rng=rng).random(starts))


def box_of(parameters: object) -> Box:
    """The box of a parameter table, which is found to be one.

    Parameters
    ----------
    parameters : object
        As it was given: should be a DataFrame with name, scale, lower, upper.

    Raises
    ------
    CalibrationError
        No table, no row, a bound that is no number, or what `Box.from_table` refuses.
    """
    if not isinstance(parameters, pd.DataFrame) or not len(parameters):
        found = "an empty table" if isinstance(parameters, pd.DataFrame) else f"a {type(parameters).__name__}"
        raise CalibrationError(
            f"parameters is {found}; give a DataFrame with one or more rows of name, scale, lower, upper"
        )
    columns = parameters.columns
    if not columns.is_unique:
        raise CalibrationError(f"the parameter table has column {columns[columns.duplicated()][0]!r} twice; keep one")
    for column in ("lower", "upper"):
        if column in columns and not pd.api.types.is_numeric_dtype(parameters[column]):
            numbers = pd.to_numeric(parameters[column], errors="coerce")
            if numbers.isna().any():
                wrong = parameters[column][numbers.isna()].iloc[0]
                raise CalibrationError(f"the parameter table has {column} {wrong!r}; give a finite number")
    return Box.from_table(parameters)


@dataclass(eq=False)
class _Walk:
    """One start on its way."""

    unit: Floats
    residual: Floats
    jacobian: Floats | None = None
    fresh: bool = False
    damping: float = 0.0
    active: bool = True
    settled: bool = False
    target: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def cost(self) -> float:
        return _cost(self.residual)

    def held(self) -> npt.NDArray[np.bool_]:
        """At a bound beyond which the sum of squares falls."""
        if self.jacobian is None:
            return np.zeros(len(self.unit), dtype=bool)
        slope = self.jacobian.T @ self.residual
        return np.asarray(((self.unit <= 0) & (slope > 0)) | ((self.unit >= 1) & (slope < 0)))

    def aim(self) -> None:
        """Set the next point to try."""
        assert self.jacobian is not None
        free = ~self.held()
        move = np.zeros(len(self.unit))
        if free.any():
            jacobian = self.jacobian[:, free]
            lengths = np.linalg.norm(jacobian, axis=0)
            lengths = np.where(lengths > 0, lengths, 1.0)
            stacked = np.vstack([jacobian / lengths, np.sqrt(self.damping) * np.eye(len(lengths))])
            right = np.concatenate([-self.residual, np.zeros(free.sum())])
            move[free] = np.linalg.lstsq(stacked, right, rcond=1e-9)[0] / lengths
        longest = float(np.abs(move).max())
        self.target = np.clip(self.unit + move * min(1.0, _REACH / max(longest, 1e-300)), 0.0, 1.0)

    def take(self, residual: Floats, tolerance: float) -> None:
        """Judge the point that was tried."""
        assert self.jacobian is not None
        move = self.target - self.unit
        before, after = self.cost, _cost(residual)
        hoped = before - _cost(self.residual + self.jacobian @ move)
        short = float(np.abs(move).max()) < tolerance or abs(hoped) <= tolerance * before
        fresh, self.fresh = self.fresh, False
        if after < before:
            learned = residual - self.residual - self.jacobian @ move
            good = before - after >= _POOR * hoped
            self.jacobian = self.jacobian + np.outer(learned, move) / float(move @ move) if good else None
            self.unit, self.residual = self.target, residual
            self.damping = 0.1 * self.damping if self.damping > 1e-6 else 0.0
        elif fresh:
            self.fresh, self.damping = True, max(10 * self.damping, 1e-3)
        else:
            self.jacobian = None
        if (short and (fresh or tolerance >= _ROUGH)) or self.damping > _HARDEST:
            self.active, self.settled = False, True


def _walk(
    residuals: Residuals, walks: list[_Walk], step: float, tolerance: float, progress: OnRound | None
) -> None:
    """Move all active walks until they settle."""
    for number in range(1, _MOST_ROUNDS + 1):
        active = [walk for walk in walks if walk.active]
        if not active:
            break
        stale = [walk for walk in active if walk.jacobian is None]
        if stale:
            units, centres = (np.array([getattr(walk, name) for walk in stale]) for name in ("unit", "residual"))
            for walk, jacobian in zip(stale, slopes(residuals, units, centres, step), strict=True):
                walk.jacobian, walk.fresh = jacobian, True
        for walk in active:
            walk.aim()
        tried = residuals(np.array([walk.target for walk in active]))
        for walk, row in zip(active, tried, strict=True):
            walk.take(row, tolerance)
        if progress is not None:
            progress(number, sum(walk.active for walk in walks), min(walk.cost for walk in walks))
    stale = [walk for walk in walks if walk.jacobian is None and np.isfinite(walk.cost)]
    for walk in stale:
        walk.jacobian = slopes(residuals, walk.unit[None, :], walk.residual[None, :], step)[0]


def slopes(residuals: Residuals, points: Floats, centres: Floats, step: float) -> Floats:
    """Derivatives by central differences.

    Parameters
    ----------
    residuals : callable
        As for `descend`.
    points : (n, p) array
        Where.
    centres : (n, m) array
        The residuals there.
    step : float
        In widths of the box. Nearer than two steps to a bound it shrinks, down to an eighth, and on the bound the
        difference is one-sided. Where one side is undefined the other one is used, and 0 if both are.

    Returns
    -------
    (n, m, p) array
    """
    n, size = points.shape
    axes = np.eye(size)
    steps = np.clip(np.minimum(points, 1 - points) / 2, step / 8, step)[:, :, None] * axes
    up, down = (np.clip(points[:, None, :] + sign * steps, 0.0, 1.0) for sign in (1, -1))
    found = residuals(np.concatenate([up, down], axis=1).reshape(-1, size)).reshape(n, 2 * size, -1)
    high, low = found[:, :size], found[:, size:]
    wide = np.einsum("njj->nj", up) - points, points - np.einsum("njj->nj", down)
    beyond, before = (np.asarray(np.isfinite(side).all(axis=2)) for side in (high, low))
    high, low = (np.where(ok[:, :, None], side, centres[:, None, :]) for ok, side in ((beyond, high), (before, low)))
    width = np.where(beyond, wide[0], 0.0) + np.where(before, wide[1], 0.0)
    return np.asarray(((high - low) / np.where(width > 0, width, 1.0)[:, :, None]).transpose(0, 2, 1))


def _cost(residual: Floats) -> float:
    total = float(residual @ residual)
    return total if np.isfinite(total) else np.inf
