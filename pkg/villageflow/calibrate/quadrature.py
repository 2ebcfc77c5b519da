"""Integrals over standard normal effects: modes by damped Newton in lockstep, then adaptive Gauss-Hermite quadrature.

A lane is one integral: the effects of one entity under one candidate. All lanes advance together, a lane's result never
depends on the others, and every arithmetic step is elementwise or in a fixed order, so that equal lanes give equal bits
whatever the batch. Arrays have the lane as last axis.

References
----------
.. [LiuPierce1994] Q. Liu and D. A. Pierce, "A note on Gauss-Hermite quadrature", Biometrika 81 (1994).
.. [PinheiroBates1995] J. C. Pinheiro and D. M. Bates, "Approximations to the log-likelihood function in the nonlinear
   mixed-effects model", Journal of Computational and Graphical Statistics 4 (1995).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from villageflow.calibrate.scales import Floats

LogDensity = Callable[[Floats, npt.NDArray[np.intp]], Floats]
"""(size, k) effects and the (k,) lanes they belong to -> (k,) log densities; minus infinity where undefined."""

_STEP: Final = 0.1
_SHORTEST: Final = 1e-6
_LONGEST_MOVE: Final = 4.0
_NOISE_FLOOR: Final = 1e-3
_SLACK: Final = 1e-9
_STUCK: Final = 1e8
_MAX_ROUNDS: Final = 60


@dataclass(frozen=True, eq=False)
class Integrals:
    """One integral for each lane.

    Attributes
    ----------
    value : (n,) array
        Natural logarithm; minus infinity where the density is undefined at the mean of the effects.
    mode : (size, n) array
        Where density times prior is largest.
    root : (size, size, n) array
        Lower Cholesky factor of minus the Hessian there; its inverse gives the posterior covariance.
    converged : (n,) bool array
        Whether Newton's next step is below 1e-7 posterior standard deviations (1e-4 with more than one node), or below
        1e-3 and the density too rough for more.
    """

    value: Floats
    mode: Floats
    root: Floats
    converged: npt.NDArray[np.bool_]

    def covariance(self) -> Floats:
        """Posterior covariance of the effects of each lane in the normal approximation, (size, size, n)."""
        size = len(self.mode)
        half = np.stack([_back(self.root, np.eye(size)[j][:, None] + 0 * self.mode) for j in range(size)], axis=1)
        return np.asarray(sum((half[:, None, k] * half[None, :, k] for k in range(size)), np.zeros_like(self.root)))


def integrate(log_density: LogDensity, n: int, size: int, *, nodes: int) -> Integrals:
    """Logarithm of the integral of a density over independent standard normal effects, for many lanes.

    Parameters
    ----------
    log_density : callable
        As `LogDensity`; without the density of the effects. Called with many lanes at once.
    n : int
        Number of lanes.
    size : int
        Number of effects of a lane.
    nodes : int
        Quadrature nodes for each effect; 1 is the Laplace approximation.

    Returns
    -------
    Integrals

    Notes
    -----
    The nodes are placed around the mode with the curvature there ([LiuPierce1994]_, [PinheiroBates1995]_), both found
    by differences of fourth order with steps of a tenth of the posterior standard deviation; the search ends closer to
    the mode for one node, whose value is as good as they are, than for more nodes, which only have to lie about right.
    Every search starts at zero.
    """
    state = find_modes(log_density, np.zeros((size, n)), LAPLACE if nodes == 1 else PLACING)
    value = np.full(n, -np.inf)
    at = np.flatnonzero(np.isfinite(state.value))
    if len(at):
        spread = -np.cumsum(np.log(np.stack([state.root[j, j, at] for j in range(size)])), axis=0)[-1]
        value[at] = spread + _log_sum(log_density, state, at, nodes)
    return Integrals(value, state.mode, state.root, state.converged)


def _log_sum(log_density: LogDensity, state: Modes, at: npt.NDArray[np.intp], nodes: int) -> Floats:
    """Logarithm of the weighted sum over the nodes; the node at the mode is known already."""
    size = len(state.mode)
    if nodes == 1:
        return state.value[at]
    grid, constants = _rule(size, nodes)
    terms = np.empty((grid.shape[1], len(at)))
    centre = (grid == 0).all(axis=0)
    terms[centre] = state.value[at]
    outer = grid[:, ~centre]
    if outer.shape[1]:
        effects = _placed(state, at, outer)
        lanes = np.tile(at, outer.shape[1])
        found = log_density(effects.reshape(size, -1), lanes).reshape(outer.shape[1], -1)
        terms[~centre] = np.where(np.isnan(found), -np.inf, found) - 0.5 * _squares(effects)
    terms += constants[:, None]
    top = terms.max(axis=0)
    return np.asarray(top + np.log(np.cumsum(np.exp(terms - top), axis=0)[-1]))


def _rule(size: int, nodes: int) -> tuple[Floats, Floats]:
    """Gauss-Hermite nodes in `size` dimensions, (size, points), and the logarithms of their weights."""
    points, weights = np.polynomial.hermite.hermgauss(nodes)
    grid = np.stack(np.meshgrid(*[points] * size, indexing="ij")).reshape(size, -1)
    parts = np.stack(np.meshgrid(*[np.log(weights)] * size, indexing="ij")).reshape(size, -1)
    return grid, np.cumsum(parts + grid**2 - 0.5 * np.log(np.pi), axis=0)[-1]


def _placed(state: Modes, at: npt.NDArray[np.intp], grid: Floats) -> Floats:
    """Effects at the nodes, around each lane's mode, (size, points, lanes)."""
    root, mode = state.root[:, :, at], state.mode[:, at]
    moved = [mode + np.sqrt(2.0) * _back(root, np.repeat(node[:, None], len(at), axis=1)) for node in grid.T]
    return np.stack(moved, axis=1)


def posterior_nodes(log_density: LogDensity, n: int, size: int, *, nodes: int) -> tuple[Floats, Floats]:
    """Quadrature nodes with their weights under density times prior: averages over them are posterior means.

    Parameters
    ----------
    log_density : callable
        As `LogDensity`.
    n, size, nodes : int
        As for `integrate`.

    Returns
    -------
    effects : (size, points, n) array
    weights : (points, n) array
        Sum to one; NaN where the density is undefined at the mean of the effects.
    """
    state = find_modes(log_density, np.zeros((size, n)), PLACING)
    grid, constants = _rule(size, nodes)
    at = np.arange(n)
    effects = _placed(state, at, grid)
    found = log_density(effects.reshape(size, -1), np.tile(at, grid.shape[1])).reshape(grid.shape[1], -1)
    terms = np.where(np.isfinite(found), found, -np.inf) - 0.5 * _squares(effects) + constants[:, None]
    with np.errstate(invalid="ignore"):
        weights = np.exp(terms - terms.max(axis=0))
        return effects, weights / np.cumsum(weights, axis=0)[-1]


@dataclass(frozen=True)
class Accuracy:
    """Order of the differences; the step below which a search ends, in standard deviations; precision of the prior."""

    order: int
    tolerance: float
    prior: float = 1.0


LAPLACE: Final = Accuracy(4, 1e-7)
PLACING: Final = Accuracy(4, 1e-4)


@dataclass(eq=False)
class Modes:
    """Where the search of each lane is: mode, density times prior there, its slope and minus its Hessian."""

    mode: Floats
    value: Floats
    slope: Floats
    curvature: Floats
    root: Floats
    step: Floats
    damping: Floats
    decrement: Floats
    active: npt.NDArray[np.bool_]
    converged: npt.NDArray[np.bool_]

    @classmethod
    def start(cls, points: Floats) -> Modes:
        """Before the first round."""
        size, n = points.shape
        unit = np.repeat(np.eye(size)[:, :, None], n, axis=2)
        return cls(
            points.copy(), np.full(n, -np.inf), np.zeros((size, n)), unit, unit.copy(), np.full((size, n), _STEP),
            np.zeros(n), np.full(n, np.inf), np.ones(n, dtype=bool), np.zeros(n, dtype=bool),
        )


def find_modes(log_density: LogDensity, points: Floats, accuracy: Accuracy) -> Modes:
    """Mode, value and Cholesky factor of each lane from (size, n) points; the value lacks the prior's constant."""
    size = len(points)
    state, stencil = Modes.start(points), offsets(size, accuracy.order)
    for _ in range(_MAX_ROUNDS):
        at = np.flatnonzero(state.active)
        if not len(at):
            break
        damped = cholesky(_positive(_damped(state.curvature[:, :, at], state.damping[at])))
        move = _back(damped, _forward(damped, state.slope[:, at]))
        longest = np.abs(move).max(axis=0)
        trial = state.mode[:, at] + move * (_LONGEST_MOVE / np.maximum(longest, _LONGEST_MOVE))
        effects = trial[:, None, :] + stencil.T[:, :, None] * state.step[:, None, at]
        found = log_density(effects.reshape(size, -1), np.tile(at, len(stencil))).reshape(len(stencil), -1)
        _advance(state, at, trial, np.where(np.isnan(found), -np.inf, found), accuracy)
    left = np.isfinite(state.value)
    state.root[:, :, left] = cholesky(_positive(state.curvature[:, :, left]))
    return state


def _advance(
    state: Modes, at: npt.NDArray[np.intp], trial: Floats, found: Floats, accuracy: Accuracy
) -> None:
    """Accept or refuse the trial of each active lane and decide which lanes are done."""
    value = found[0] - 0.5 * accuracy.prior * _squares(trial)
    whole = np.isfinite(found).all(axis=0)
    better = np.isfinite(value) & (value >= state.value[at] - _SLACK * np.maximum(1.0, np.abs(value)))
    refused = at[~better]
    state.active[refused[~np.isfinite(state.value[refused])]] = False  # undefined at the mean of the effects
    state.damping[refused] = np.maximum(8 * state.damping[refused], 1.0)
    stuck = refused[state.damping[refused] > _STUCK]
    state.active[stuck] = False
    state.converged[stuck] = state.decrement[stuck] < _NOISE_FLOOR
    kept = at[better]
    state.mode[:, kept], state.value[kept] = trial[:, better], value[better]
    torn = at[better & ~whole]  # a run fails beside the trial: look closer
    state.slope[:, torn], state.decrement[torn] = 0.0, np.inf
    state.curvature[:, :, torn] = np.eye(len(trial))[:, :, None]
    state.step[:, torn] *= 0.1
    state.active[torn[state.step[:, torn].max(axis=0) < _SHORTEST]] = False
    good = better & whole
    lanes = at[good]
    if len(lanes):
        _settle(state, lanes, trial[:, good], found[:, good], accuracy)


def _settle(
    state: Modes, lanes: npt.NDArray[np.intp], trial: Floats, found: Floats, accuracy: Accuracy
) -> None:
    """Derivatives at accepted trials, and whether the search ends there."""
    size, used = len(trial), state.step[:, lanes]
    slope, hessian = derivatives(found, used, accuracy.order)
    slope, curvature = slope - accuracy.prior * trial, accuracy.prior * np.eye(size)[:, :, None] - hessian
    state.slope[:, lanes], state.curvature[:, :, lanes] = slope, curvature
    diagonal = np.stack([curvature[j, j] for j in range(size)])
    fitting = np.clip(_STEP / np.sqrt(np.where(diagonal > 0, diagonal, np.inf)), _SHORTEST, _STEP)
    fitting = np.where(diagonal > 0, fitting, used)
    suits = (np.abs(np.log(used / fitting)) < 0.7).all(axis=0)
    state.step[:, lanes] = fitting
    state.damping[lanes] = np.where(state.damping[lanes] > 0.1, 0.1 * state.damping[lanes], 0.0)
    root = cholesky(curvature)
    with np.errstate(invalid="ignore"):
        decrement = np.sqrt(_squares(_forward(root, slope)))
    decrement = np.where(np.isnan(decrement), np.inf, decrement)
    rough = (decrement < _NOISE_FLOOR) & (decrement > 0.5 * state.decrement[lanes])
    done = suits & ((decrement <= accuracy.tolerance) | rough)
    state.decrement[lanes] = decrement
    state.active[lanes[done]], state.converged[lanes[done]] = False, True


def offsets(size: int, order: int = 4) -> Floats:
    """Stencil of `derivatives` in steps, (points, size).

    The centre; one step (of fourth order also two) up and down each axis; for each pair of axes the same with both.
    """
    axes, reach = np.eye(size), (1, -1, 2, -2)[:order]
    single = [sign * axis for axis in axes for sign in reach]
    double = [sign * (axes[i] + axes[j]) for i in range(size) for j in range(i + 1, size) for sign in reach]
    return np.vstack([np.zeros(size), *single, *double])


def derivatives(values: Floats, steps: Floats, order: int = 4) -> tuple[Floats, Floats]:
    """Gradient (size, n) and Hessian (size, size, n) by central differences of second or fourth order.

    From values (points, n) at `offsets` times steps (size, n).
    """
    size, n = steps.shape
    away = values[1:] - values[0]
    axis, pairs = away[:order * size].reshape(size, order, n), away[order * size:].reshape(-1, order, n)
    slope, hessian = np.empty((size, n)), np.empty((size, size, n))
    position = 0
    for i in range(size):
        slope[i] = _odd(axis[i]) / steps[i]
        hessian[i, i] = 2 * _even(axis[i]) / steps[i] ** 2
        for j in range(i + 1, size):
            both = pairs[position] - axis[i] - axis[j]
            hessian[i, j] = hessian[j, i] = _even(both) / (steps[i] * steps[j])
            position += 1
    return slope, hessian


def _odd(away: Floats) -> Floats:
    """First-order coefficient per step of values one (and two) steps up and down, less the centre."""
    near = (away[0] - away[1]) / 2
    return np.asarray(near if len(away) == 2 else (4 * near - (away[2] - away[3]) / 4) / 3)


def _even(away: Floats) -> Floats:
    """Second-order coefficient per square step."""
    near = (away[0] + away[1]) / 2
    return np.asarray(near if len(away) == 2 else (4 * near - (away[2] + away[3]) / 8) / 3)


def cholesky(matrix: Floats) -> Floats:
    """Lower factors of (size, size, n) symmetric matrices; NaN where one is not positive definite."""
    size = len(matrix)
    root = np.zeros_like(matrix)
    with np.errstate(invalid="ignore", divide="ignore"):
        for j in range(size):
            for i in range(j, size):
                rest = matrix[i, j].copy()
                for k in range(j):
                    rest -= root[i, k] * root[j, k]
                root[i, j] = np.sqrt(np.where(rest > 0, rest, np.nan)) if i == j else rest / root[j, j]
    return root


def _forward(root: Floats, right: Floats) -> Floats:
    """Solve root x = right."""
    result = np.empty_like(right)
    for i in range(len(right)):
        rest = right[i].copy()
        for k in range(i):
            rest -= root[i, k] * result[k]
        result[i] = rest / root[i, i]
    return result


def _back(root: Floats, right: Floats) -> Floats:
    """Solve root' x = right."""
    result = np.empty_like(right)
    for i in reversed(range(len(right))):
        rest = right[i].copy()
        for k in range(i + 1, len(right)):
            rest -= root[k, i] * result[k]
        result[i] = rest / root[i, i]
    return result


def _damped(curvature: Floats, damping: Floats) -> Floats:
    result = curvature.copy()
    for j in range(len(result)):
        result[j, j] += damping * np.maximum(np.abs(result[j, j]), 1.0)
    return result


def _positive(matrix: Floats) -> Floats:
    """The matrix where it is positive definite; elsewhere its diagonal is raised until it dominates."""
    size, result = len(matrix), matrix.copy()
    bad = np.isnan(cholesky(matrix)).any(axis=(0, 1))
    for j in range(size):
        rest = sum((np.abs(matrix[j, k]) for k in range(size) if k != j), np.zeros(matrix.shape[2]))
        result[j, j] = np.where(bad, np.maximum(np.abs(matrix[j, j]), 1.0) + rest, result[j, j])
    return result


def _squares(effects: Floats) -> Floats:
    """Sum of squares over the effects, in a fixed order."""
    return np.asarray(np.cumsum(effects**2, axis=0)[-1])
