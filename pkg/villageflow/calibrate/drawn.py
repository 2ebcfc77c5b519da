"""Draws of every entity's parameters from what a fit says of them: of those that were fitted, and of new ones."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.climb import covariance
from villageflow.calibrate.fixedeffects import FixedEffectsResult
from villageflow.calibrate.marginal import (
    RandomEffect,
    RandomModel,
    entity_marginals,
    from_scale,
    part_of,
    random_model,
)
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.quadrature import cholesky, derivatives, offsets
from villageflow.calibrate.randomeffects import RandomEffectsResult
from villageflow.calibrate.result import FitResult
from villageflow.calibrate.scales import Box, Floats
from villageflow.errors import CalibrationError

Fitted: TypeAlias = FitResult | RandomEffectsResult | FixedEffectsResult
"""What the verbs of fitting give."""

_LOG = logging.getLogger("villageflow")
_ROUNDS: Final = 200
_STEP: Final = 0.1
_PARAMETERS, _EFFECTS = 0, 1


def stream(seed: int, *key: int | str) -> np.random.Generator:
    """A stream of its own for each key, whatever else is drawn; a name counts by its digest."""
    words = [
        word for part in key
        for word in ([part] if isinstance(part, int) else np.frombuffer(hashlib.sha256(part.encode()).digest(), "<u4"))
    ]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(map(int, words))))


def check_problem(problem: object) -> None:
    """Refuse what is no problem, such as the path of one or a problem with process noise."""
    if not isinstance(problem, Problem):
        raise CalibrationError(f"the problem is {problem!r:.60}, a {type(problem).__name__}; give a Problem")


def check_fitted(result: object) -> None:
    """Refuse what no verb of `Fitted` gives."""
    if not isinstance(result, Fitted):
        raise CalibrationError(
            f"the result is a {type(result).__name__}; give a FitResult, RandomEffectsResult or FixedEffectsResult, as "
            "fit, fit_random_effects and fit_fixed_effects give them"
        )


def entity_values(
    problem: Problem, result: Fitted, names: tuple[str, ...], *, n_draws: int, seed: int,
    means: pd.DataFrame | None = None,
) -> Floats:
    """Parameters of entities, drawn.

    Parameters
    ----------
    problem : Problem
        What was fitted. An entity that it does not measure is new.
    result : FitResult, RandomEffectsResult or FixedEffectsResult
        Its fit.
    names : tuple of str
        Entities, fitted or new.
    n_draws, seed : int
        The draws of an entity do not depend on which others are asked for.
    means : DataFrame, optional
        Entity means for correlated random effects, as they were fitted; of new entities too.

    Returns
    -------
    (n_draws, len(names), p) array
        Natural values in the order of ``problem.box.names``.

    Raises
    ------
    CalibrationError
        A result of another problem or without covariance, or entity means that are missing.
    """
    wanted, known = _names_of(result), set(problem.box.names)
    if not known <= wanted or (isinstance(result, FitResult) and known != wanted):
        raise CalibrationError(
            f"the fit is of {', '.join(sorted(wanted))} and the problem has the free parameters "
            f"{', '.join(problem.box.names)}; give the problem that was fitted"
        )
    if isinstance(result, FitResult):
        return np.repeat(result.draws(n_draws, seed)[:, None, :], len(names), axis=1)
    fitted = set(problem.measurements["entity"])
    if fitted != set(_entities_of(result)):
        raise CalibrationError("the fit is not of the entities that the problem measures; give the problem it is of")
    if isinstance(result, RandomEffectsResult):
        return _random(_model_of(problem, result, means), result, names, n_draws, seed, means)
    return _fixed(_joint(problem, result), names, n_draws, seed)


def _names_of(result: Fitted) -> set[str]:
    own = set(result.effects["parameter"]) if isinstance(result, FixedEffectsResult) else set()
    return {str(name) for name in {*result.params.index, *own}}


def _entities_of(result: RandomEffectsResult | FixedEffectsResult) -> tuple[str, ...]:
    table = result.modes if isinstance(result, RandomEffectsResult) else result.effects
    return tuple(dict.fromkeys(table["entity"]))


def _normal_draws(centre: Floats, cov: Floats, low: Floats, high: Floats, n: int, seed: int) -> Floats:
    """Draws of a normal distribution within bounds, (n, q), from centre (q,), covariance (q, q) and bounds (q,).

    A draw outside is drawn again; should less than a draw in two hundred fall inside, it is put on the bound. A
    covariance that is not known is refused.
    """
    if not np.isfinite(cov).all():
        raise CalibrationError(
            "the fit has no covariance to draw parameters from: its Hessian is not definite; fix or drop a parameter"
        )
    curvature, basis = np.linalg.eigh(cov)
    root = basis * np.sqrt(np.maximum(curvature, 0.0))
    rng, todo = stream(seed, _PARAMETERS), np.arange(n)
    found = np.repeat(centre[None, :], n, axis=0)
    for _ in range(_ROUNDS if len(centre) else 0):
        z = rng.standard_normal((len(todo), len(centre)))
        found[todo] = centre + sum(z[:, [j]] * root[:, j] for j in range(len(centre)))  # in a fixed order
        todo = np.flatnonzero(~((found >= low) & (found <= high)).all(axis=1))
        if not len(todo):
            break
    return np.asarray(np.clip(found, low, high))


def _effect_draws(names: tuple[str, ...], n: int, size: int, seed: int) -> Floats:
    """Standard normal draws of each entity, (size, n, len(names))."""
    drawn = [stream(seed, _EFFECTS, str(name)).standard_normal((n, size)) for name in names]
    return np.moveaxis(np.array(drawn).reshape(len(names), n, size), (0, 1, 2), (2, 1, 0))


def _times(root: Floats, effects: Floats) -> Floats:
    """Lower factors (r, r, ...) times (r, ...), in a fixed order."""
    size = len(effects)
    rows = [np.asarray(sum((root[i, j] * effects[j] for j in range(i + 1)), 0.0)) for i in range(size)]
    return np.stack(rows).astype(np.float64, copy=False)


def _root(cov: Floats) -> Floats:
    """Lower factors of (r, r, ...) covariances; a variance of zero has the factor zero."""
    flat = cov.reshape(*cov.shape[:2], -1)
    return np.asarray(np.nan_to_num(cholesky(flat)).reshape(cov.shape))


def _model_of(problem: Problem, result: RandomEffectsResult, means: pd.DataFrame | None) -> RandomModel:
    """The model with random effects that was fitted, from the names of its parameters."""
    names, index = list(dict.fromkeys(result.modes["parameter"])), set(result.params.index)
    if means is not None and not isinstance(means, pd.DataFrame):
        raise CalibrationError(f"means= is a {type(means).__name__}; give a DataFrame indexed by entity")
    columns = [] if means is None else [str(column) for column in means.columns]
    random = [
        RandomEffect(name, tuple(column for column in columns if f"slope({name}, {column})" in index)) for name in names
    ]
    correlated = any(str(name).startswith("corr(") for name in index)
    model = random_model(problem, random, correlated=correlated, covariates=means)
    missing = [name for name in result.params.index if name not in model.box.names]
    if missing:
        raise CalibrationError(f"the fit has {missing[0]}; give means= with that column, as the fit had")
    return model


def _random(
    model: RandomModel, result: RandomEffectsResult, names: tuple[str, ...], n: int, seed: int,
    means: pd.DataFrame | None,
) -> Floats:
    """Effects of fitted entities given their data, of new ones from the population; both for each drawn parameter."""
    theta, target = _thetas(model.box, result, n, seed), model.target
    z = _effect_draws(names, n, len(model.random), seed)
    place = {name: position for position, name in enumerate(target.entities)}
    old = np.array([j for j, name in enumerate(names) if name in place], dtype=np.intp)
    new = np.array([j for j, name in enumerate(names) if name not in place], dtype=np.intp)
    moved = np.empty_like(z)
    if len(old):
        at = [place[names[j]] for j in old]
        given = entity_marginals(model, theta, nodes=1)
        unclear = int((~given.converged[:, at]).sum())
        if unclear:
            _LOG.warning("forecast: %d of %d draws of an entity's effects have no clear mode", unclear, n * len(at))
        centre = (model.locations(theta) + given.effects)[:, :, at]
        moved[:, :, old] = centre + _times(_root(given.covariance[:, :, :, at]), z[:, :, old])
    if len(new):
        centre = _new_locations(model, theta, [names[j] for j in new], means)
        moved[:, :, new] = centre + _times(model.factor(theta)[:, :, :, None], z[:, :, new])
    values = np.repeat(theta[:, None, :target.box.size], len(names), axis=1)
    for j, position in enumerate(model.positions):
        values[:, :, position] = from_scale(target.box.scales[position], moved[j])
    return values


def _thetas(box: Box, result: RandomEffectsResult, n: int, seed: int) -> Floats:
    """Draws of locations, slopes, deviations and correlations, natural (n, q); what a bound holds stays there."""
    theta: Floats = np.repeat(result.params.reindex(list(box.names)).to_numpy(dtype=float)[None, :], n, axis=0)
    free = np.array([j for j, name in enumerate(box.names) if name not in result.at_bound], dtype=np.intp)
    cov = result.transformed_clustered_cov.reindex(index=list(box.names), columns=list(box.names))
    inner = part_of(box, free)
    low, high = inner.transformed(inner.lower), inner.transformed(inner.upper)
    centre, spread = inner.transformed(theta[0, free]), cov.to_numpy(dtype=float)[np.ix_(free, free)]
    theta[:, free] = inner.from_transformed(_normal_draws(centre, spread, low, high, n, seed))
    return theta


def _new_locations(model: RandomModel, theta: Floats, names: list[str], means: pd.DataFrame | None) -> Floats:
    """Locations of new entities on the transformed scale, (r, n, len(names))."""
    box = model.target.box
    shared = box.transformed(theta[:, :box.size])
    found = np.repeat(shared.T[model.positions][:, :, None], len(names), axis=2)
    for k, (j, column) in enumerate(model.slopes):
        assert means is not None  # _model_of has found the slope in it
        missing = [name for name in names if name not in means.index]
        if missing:
            raise CalibrationError(f"means= has no row for the new entity {missing[0]!r}; add one with {column!r}")
        of_fitted = means.loc[list(model.target.entities), column].to_numpy(dtype=float)
        own = pd.to_numeric(means.loc[names, column], errors="coerce").to_numpy(dtype=float)
        for name, value, given in zip(names, own, means.loc[names, column].tolist(), strict=True):
            if not np.isfinite(value):
                raise CalibrationError(f"means= has {column!r} of the new entity {name!r} as {given!r}; give a number")
        away = own - math.fsum(of_fitted) / len(of_fitted)
        found[j] += theta[:, box.size + k, None] * away
    return found


@dataclass(frozen=True, eq=False)
class _Joint:
    """Normal approximation of shared and own parameters of fixed effects, on the transformed scale.

    Estimates (E, p); columns of the free shared (q) and of the own parameters (r); covariance of the shared ones,
    clustered by entity (q, q); response of the own ones to them (r, q, E) and their covariance given them (r, r, E),
    both zero along what a bound holds.
    """

    box: Box
    entities: tuple[str, ...]
    estimates: Floats
    shared: npt.NDArray[np.intp]
    own: npt.NDArray[np.intp]
    cov: Floats
    response: Floats
    given: Floats


def _joint(problem: Problem, result: FixedEffectsResult) -> _Joint:
    """From differences of each entity's log likelihood at the estimate."""
    box, entities = problem.box, problem.entities
    names = list(dict.fromkeys(result.effects["parameter"]))
    table = result.effects.pivot(index="entity", columns="parameter").loc[list(entities)]
    natural, errors = (
        np.stack([
            table[column, name].to_numpy(dtype=float) if name in names else np.full(len(entities), common[name])
            for name in box.names
        ], axis=1)
        for column, common in (("value", result.params), ("std_error", result.std_errors))
    )
    held = np.array([table["at_bound", name] for name in names], dtype=bool)
    bound = {*names, *result.at_bound}
    shared = np.array([j for j, name in enumerate(box.names) if name not in bound], dtype=np.intp)
    own = np.array([box.names.index(name) for name in names], dtype=np.intp)
    estimates, slope = box.transformed(natural), np.array([box.slope(row) for row in natural])
    at = np.concatenate([shared, own])
    slopes, hessians = _differences(problem, estimates, errors / slope, at, held)
    return _Joint(box, entities, estimates, shared, own, *_reduced(slopes, hessians, held))


def _differences(
    problem: Problem, estimates: Floats, errors: Floats, at: npt.NDArray[np.intp], held: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Gradient (q + r, E) and Hessian of each entity's log likelihood: a tenth of an error, less beside a bound."""
    box, q = problem.box, len(at) - len(held)
    low, high = box.transformed(box.lower), box.transformed(box.upper)
    near = np.maximum(0.5 * np.minimum(estimates - low, high - estimates), 1e-9 * (high - low))
    steps = np.minimum(_STEP * np.nan_to_num(errors, nan=1.0), near)[:, at].T
    moves = offsets(len(at)).T[:, :, None] * steps[:, None, :]
    moves[q:] = np.where(held[:, None, :], 0.0, moves[q:])
    points = np.repeat(estimates[None, :, :], moves.shape[1], axis=0)
    points[:, :, at] += np.moveaxis(moves, 0, 2)
    natural = np.stack([from_scale(scale, points[..., j]) for j, scale in enumerate(box.scales)], axis=-1)
    return derivatives(problem.entity_log_likelihood(natural), steps)


def _reduced(slopes: Floats, hessians: Floats, held: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Clustered covariance of the shared parameters, response of the own ones, and their covariance given them."""
    (r, n), q = held.shape, len(slopes) - len(held)
    response, given = np.zeros((r, q, n)), np.zeros((r, r, n))
    scores, total = slopes[:q].T, hessians[:q, :q].sum(axis=2)
    for i in range(n):
        at = np.flatnonzero(~held[:, i])
        cross, inner = hessians[q + at, :q, i], hessians[..., i][np.ix_(q + at, q + at)]
        inverse = covariance(inner, np.zeros(len(at), dtype=bool))
        given[..., i][np.ix_(at, at)] = inverse
        response[at, :, i] = inverse @ cross
        total += cross.T @ inverse @ cross
    bread = covariance(total, np.zeros(q, dtype=bool))
    return bread @ scores.T @ scores @ bread * (n / max(n - 1, 1)), response, given


def _fixed(joint: _Joint, names: tuple[str, ...], n: int, seed: int) -> Floats:
    """Own parameters of fitted entities given the shared ones; a new entity is a normal draw with their mean and
    covariance over the fitted ones, which is wider than the population by the error of the estimates."""
    box, many = joint.box, len(joint.entities)
    low, high = box.transformed(box.lower), box.transformed(box.upper)
    centre = joint.estimates[0, joint.shared]
    shared = _normal_draws(centre, joint.cov, low[joint.shared], high[joint.shared], n, seed)
    own = joint.estimates[:, joint.own].T[:, None, :] + np.einsum("rqi,dq->rdi", joint.response, shared - centre)
    z, place = _effect_draws(names, n, len(own), seed), {name: i for i, name in enumerate(joint.entities)}
    mean = own.mean(axis=2)
    apart = own - mean[:, :, None]
    population = _root(np.einsum("rdi,sdi->rsd", apart, apart) * (1 + 1 / many) / (many - 1))
    given = _root(joint.given)
    values = np.tile(joint.estimates[0], (n, len(names), 1))
    values[:, :, joint.shared] = shared[:, None, :]
    for j, name in enumerate(names):
        if name in place:
            moved = own[:, :, place[name]] + _times(given[:, :, place[name], None], z[:, :, j])
        else:
            moved = mean + _times(population, z[:, :, j])
        values[:, j, joint.own] = moved.T
    return box.from_transformed(values)
