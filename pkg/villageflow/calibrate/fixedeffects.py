"""Fixed effects: parameters that are free for every entity, concentrated out of the likelihood.

For given shared parameters each entity's own are found alone; the shared ones are searched over what is left. The end
is polished in all parameters jointly, and errors come from the joint Hessian.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from villageflow.calibrate.climb import OnRound, Optimum, covariance, maximise, standard_errors
from villageflow.calibrate.marginal import MOST, EntityTarget, Mask, by_lane, check_entities, from_scale, part_of
from villageflow.calibrate.quadrature import Accuracy, derivatives, find_modes, offsets
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import check_declared, parameter_names
from villageflow.calibrate.stored import save_fields
from villageflow.errors import CalibrationError

FORMAT: Final = "villageflow fixed effects 1"
BIAS_NOTE: Final = (
    "A fixed effect leaves the shared parameters unbiased for short series only where it enters additively or as a "
    "scale; otherwise, and for noise parameters always, the bias is of the order of one over the number of times."
)
_INNER: Final = Accuracy(4, 1e-7, prior=0.0)
_GRID: Final = (7, 5, 4)
_EDGE: Final = 1e-6
_STEP: Final = 0.1
_LANES: Final = 2**17
_POLISH: Final = 8


@dataclass(frozen=True, eq=False)
class FixedEffectsResult:
    """A fit with fixed effects.

    Attributes
    ----------
    params, std_errors, clustered_errors : Series
        Shared parameters in natural units; errors from the joint Hessian, and from the sandwich clustered by entity
        with the factor E / (E - 1), by the delta method. NaN for what a bound holds.
    effects : DataFrame
        Entity, parameter, natural value, its standard error (with that of the shared parameters), and whether a bound
        holds it.
    loglik : float
        With all constants.
    at_bound : tuple of str
        Shared parameters that a bound holds.
    converged : bool
        The search converged, and the last joint Newton step is below 1e-5 standard errors.
    near_best : float
        Share of starts that ended within 1e-2 of the best log likelihood.
    starts : (n_starts,) array
    seed : int
    """

    params: pd.Series[float]
    std_errors: pd.Series[float]
    clustered_errors: pd.Series[float]
    effects: pd.DataFrame
    loglik: float
    at_bound: tuple[str, ...]
    converged: bool
    near_best: float
    starts: Floats
    seed: int

    def save(self, path: str | Path) -> None:
        """Write everything as JSON, which `villageflow.load_fit` reads back to the last bit."""
        save_fields(self, FORMAT, path)

    def __repr__(self) -> str:
        found = f"{'converged' if self.converged else 'NOT converged'}, log likelihood {self.loglik:.4f}"
        return f"<villageflow.FixedEffectsResult: {self.effects['entity'].nunique()} entities, {found}; see summary()>"

    def to_frame(self) -> pd.DataFrame:
        """One row for each shared parameter."""
        return pd.DataFrame({
            "estimate": self.params, "std_error": self.std_errors, "clustered_error": self.clustered_errors,
            "at_bound": self.params.index.isin(self.at_bound),
        })

    def summary(self) -> str:
        """Table of the shared parameters, with what a reader must know."""
        held, n_entities = int(self.effects["at_bound"].sum()), self.effects["entity"].nunique()
        return "\n".join([
            f"Fixed effects: {n_entities} entities, {len(self.params)} shared parameters, {len(self.effects)} effects, "
            f"log likelihood {self.loglik:.6f}",
            self.to_frame().to_string(),
            f"converged: {'yes' if self.converged else 'NO'}; {self.near_best:.0%} of {len(self.starts)} starts within "
            "0.01 of the best",
            f"effects at a bound: {held}; shared parameters at a bound: {', '.join(self.at_bound) or 'none'}",
            f"Clustered errors are a sandwich over entities, for use with t({n_entities - 1}). {BIAS_NOTE}",
        ])


@dataclass(frozen=True, eq=False)
class _Model:
    """A target split into shared (q) and own (r) parameters."""

    target: EntityTarget
    shared: npt.NDArray[np.intp]
    own: npt.NDArray[np.intp]

    def log_likelihood(self, shared: Floats, own: Floats, entity: npt.NDArray[np.intp]) -> Floats:
        """Of single lanes, (k,), at units (k, q) and (r, k)."""
        box, values = self.target.box, np.empty((len(entity), self.target.box.size))
        values[:, self.shared] = part_of(box, self.shared).natural(shared)
        inner = part_of(box, self.own)
        low = inner.transformed(inner.lower)
        for j, column in enumerate(self.own):
            natural = from_scale(box.scales[column], low[j] + own[j] * inner.width[j])
            values[:, column] = np.clip(natural, box.lower[column], box.upper[column])
        return by_lane(self.target, values, entity)


def fit_fixed_effects(
    target: EntityTarget, fixed: Sequence[str], *, seed: int, starts: int = 20, progress: OnRound | None = None
) -> FixedEffectsResult:
    """Fit shared parameters together with parameters that are free for every entity.

    Parameters
    ----------
    target : EntityTarget
        Parameters and likelihood of each entity.
    fixed : sequence of str
        Parameters that are free for every entity within their bounds, at most three.
    seed : int
        Of the starts; nothing else is random.
    starts : int
        Latin hypercube starts for the shared parameters, at least 20.
    progress : callable, optional
        Called after each round of the search with its number, the starts still climbing and the best log likelihood.

    Returns
    -------
    FixedEffectsResult

    Raises
    ------
    CalibrationError
        An unknown or repeated parameter, none or too many, nothing shared, an entity without measurements.

    Notes
    -----
    The likelihood of an entity is searched from the best of a coarse grid over the bounds of its own parameters. Only
    effects that enter additively or as a scale concentrate out without a bias of order 1 / T in the shared parameters;
    noise parameters are biased in any case. Random effects are the default for short series.
    """
    model = _model(target, fixed)
    check_entities(target, starts=starts, seed=seed)

    def objective(unit: Floats) -> Floats:
        block = max(1, _LANES // (len(target.entities) * len(offsets(len(model.own)))))
        rows = [_concentrated(model, unit[k:k + block])[0] for k in range(0, len(unit), block)]
        return np.array([math.fsum(row) if np.isfinite(row).all() else -np.inf for row in np.concatenate(rows)])

    found = maximise(objective, len(model.shared), starts=starts, seed=seed, progress=progress)
    point, small = _polish(model, _start(model, found))
    box = part_of(target.box, model.shared)
    natural = np.where(point.shared == 0, box.lower, np.where(point.shared == 1, box.upper, box.natural(point.shared)))
    scale, names = box.width * box.slope(natural), list(box.names)
    cov, clustered, deviations = _covariances(model, point)
    return FixedEffectsResult(
        params=pd.Series(natural, index=names),
        std_errors=pd.Series(np.sqrt(np.diag(cov)) * scale, index=names),
        clustered_errors=pd.Series(np.sqrt(np.diag(clustered)) * scale, index=names),
        effects=_effects(model, point.own, deviations, point.held),
        loglik=point.value,
        at_bound=tuple(name for name, held in zip(names, found.at_bound, strict=True) if held),
        converged=found.converged and small,
        near_best=found.near_best,
        starts=found.ends,
        seed=seed,
    )


def _model(target: EntityTarget, fixed: Sequence[str]) -> _Model:
    check_declared(target, "entities", "entity_log_likelihood")
    names = target.box.names
    fixed = parameter_names(fixed, names, "fixed effect")
    if not 1 <= len(fixed) <= MOST or len(set(fixed)) < len(fixed) or len(fixed) == len(names):
        raise CalibrationError(
            f"fixed effects are [{', '.join(fixed)}] of the parameters {', '.join(names)}; name one to {MOST}, each "
            "once, and leave at least one shared"
        )
    own = np.array([names.index(name) for name in fixed])
    return _Model(target, np.array([j for j in range(len(names)) if j not in own]), own)


def _concentrated(model: _Model, shared: Floats) -> tuple[Floats, Floats, Floats]:
    """Best log likelihood (m, E) for shared units (m, q), with own units and their standard errors (r, m, E)."""
    r, shape = len(model.own), (len(shared), len(model.target.entities))
    n = shape[0] * shape[1]

    def log_density(effects: Floats, lanes: npt.NDArray[np.intp]) -> Floats:
        return model.log_likelihood(shared[lanes // shape[1]], expit(effects), lanes % shape[1])

    axis = logit((np.arange(_GRID[r - 1]) + 0.5) / _GRID[r - 1])
    grid = np.stack(np.meshgrid(*[axis] * r, indexing="ij")).reshape(r, -1)
    lanes = np.tile(np.arange(n), grid.shape[1])
    tried = log_density(np.repeat(grid, n, axis=1), lanes).reshape(-1, n)
    best = np.argmax(np.where(np.isnan(tried), -np.inf, tried), axis=0)
    state = find_modes(log_density, grid[:, best], _INNER)
    unit = expit(state.mode)
    diagonal = np.stack([state.curvature[j, j] for j in range(r)])
    spread = unit * (1 - unit) / np.sqrt(np.where(diagonal > 0, diagonal, np.inf))
    return state.value.reshape(shape), unit.reshape(r, *shape), spread.reshape(r, *shape)


@dataclass(frozen=True, eq=False)
class _Point:
    """All parameters in the unit box: shared (q,), own (r, E) with what a bound holds, step sizes, log likelihood."""

    shared: Floats
    free: npt.NDArray[np.intp]
    own: Floats
    held: Mask
    sizes: Floats
    value: float


@dataclass(frozen=True, eq=False)
class _Reduced:
    """Derivatives at a point after the own parameters have answered.

    Scores (E, q) and Hessian (q, q) of the free shared parameters; slopes (E, r) along the own ones, their response to
    the shared ones (E, r, q) and minus the inverse of their Hessian (E, r, r); zero along what a bound holds.
    """

    scores: Floats
    hessian: Floats
    slopes: Floats
    response: Floats
    inverse: Floats

    @property
    def cov(self) -> Floats:
        """Inverse of minus the Hessian; NaN if that is not definite."""
        return covariance(self.hessian, np.zeros(len(self.hessian), dtype=bool))


def _start(model: _Model, found: Optimum) -> _Point:
    """Where the concentrated search ended."""
    values, own, spread = _concentrated(model, found.unit[None, :])
    held = (own[:, 0] < _EDGE) | (own[:, 0] > 1 - _EDGE)
    free = np.flatnonzero(~found.at_bound)
    errors = standard_errors(found.hessian, found.at_bound)[free]
    errors = np.where(np.isfinite(errors), errors, _EDGE / _STEP)
    sizes = np.vstack([np.repeat(errors[:, None], held.shape[1], axis=1), np.maximum(spread[:, 0], _EDGE)])
    return _Point(
        found.unit, free, np.where(held, np.round(own[:, 0]), own[:, 0]), held, sizes, math.fsum(values[0])
    )


def _reduced(model: _Model, point: _Point) -> _Reduced:
    (r, n), q = point.own.shape, len(point.free)
    centre = np.vstack([np.repeat(point.shared[point.free, None], n, axis=1), point.own])
    steps = np.minimum(_STEP * point.sizes, np.maximum(0.5 * np.minimum(centre, 1 - centre), 1e-9))
    moves = offsets(q + r).T[:, :, None] * steps[:, None, :]
    moves[q:] = np.where(point.held[:, None, :], 0.0, moves[q:])
    points = (centre[:, None, :] + moves).reshape(q + r, -1)
    shared = np.repeat(point.shared[None, :], points.shape[1], axis=0)
    shared[:, point.free] = points[:q].T
    values = model.log_likelihood(shared, points[q:], np.tile(np.arange(n), moves.shape[1]))
    slopes, hessians = (np.moveaxis(part, -1, 0) for part in derivatives(values.reshape(-1, n), steps))
    scores, total = slopes[:, :q].copy(), hessians[:, :q, :q].sum(axis=0)
    response, inverse = np.zeros((n, r, q)), np.zeros((n, r, r))
    for i, (slope, hessian) in enumerate(zip(slopes, hessians, strict=True)):
        at = np.flatnonzero(~point.held[:, i])
        cross = hessian[q + at, :q]
        inverse[i][np.ix_(at, at)] = -np.linalg.inv(hessian[np.ix_(q + at, q + at)])
        response[i][at] = inverse[i][np.ix_(at, at)] @ cross
        scores[i] += response[i][at].T @ slope[q + at]
        total += cross.T @ response[i][at]
    return _Reduced(scores, total, np.where(point.held.T, 0.0, slopes[:, q:]), response, inverse)


def _polish(model: _Model, point: _Point) -> tuple[_Point, bool]:
    """Joint Newton steps; whether the last is below 1e-5 standard errors."""
    small, n = False, point.own.shape[1]
    for _ in range(_POLISH):
        at = _reduced(model, point)
        cov = at.cov
        if np.isnan(cov).any():
            return point, False
        move = cov @ at.scores.sum(axis=0)
        own = at.response @ move + np.einsum("irs,is->ir", at.inverse, at.slopes)
        shared = point.shared.copy()
        shared[point.free] = np.clip(shared[point.free] + move, 0.0, 1.0)
        moved = np.clip(point.own + own.T, 0.0, 1.0)
        reached = math.fsum(model.log_likelihood(np.repeat(shared[None, :], n, axis=0), moved, np.arange(n)))
        relative = float(np.max(np.abs(move) / np.sqrt(np.diag(cov)), initial=0.0))
        small = relative <= 1e-5
        if not reached >= point.value - 1e-10 * max(1.0, abs(point.value)):
            break
        point = replace(point, shared=shared, own=moved, value=reached)
        if relative <= 1e-8:
            break
    return point, small


def _covariances(model: _Model, point: _Point) -> tuple[Floats, Floats, Floats]:
    """Of the shared parameters by the joint Hessian and clustered (q, q), deviations of the own (r, E); unit box."""
    at, n, q = _reduced(model, point), point.own.shape[1], len(point.shared)
    bread = at.cov
    cov, clustered = np.full((q, q), np.nan), np.full((q, q), np.nan)
    cov[np.ix_(point.free, point.free)] = bread
    clustered[np.ix_(point.free, point.free)] = bread @ (at.scores.T @ at.scores * (n / max(n - 1, 1))) @ bread
    variance = np.einsum("irr->ri", at.inverse) + np.einsum("irq,qs,irs->ri", at.response, bread, at.response)
    return cov, clustered, np.where(point.held, np.nan, np.sqrt(np.where(variance > 0, variance, np.nan)))


def _effects(model: _Model, own: Floats, deviations: Floats, held: Mask) -> pd.DataFrame:
    box: Box = part_of(model.target.box, model.own)
    natural = box.natural(own.T)
    slope = np.stack([box.slope(row) for row in natural]) * box.width
    return pd.concat([
        pd.DataFrame({
            "entity": model.target.entities, "parameter": name, "value": natural[:, j],
            "std_error": deviations[j] * slope[:, j], "at_bound": held[j],
        })
        for j, name in enumerate(box.names)
    ], ignore_index=True)
