"""Likelihood of parameters that differ between entities, with their normal effects integrated out.

On the transformed scale of the box an entity's parameter is a shared location, which may depend on means of the entity
(correlated random effects), plus a normal effect. Quadrature integrates over the effects; the parameters of their
distribution stand beside the shared ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit
from scipy.stats import qmc

from villageflow.calibrate.quadrature import LogDensity, integrate, offsets
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import check_declared, checked_seed, enough_starts, parameter_names
from villageflow.errors import CalibrationError, did_you_mean

Mask = npt.NDArray[np.bool_]

MOST: Final = 3
"""Largest number of random parameters: product quadrature grows as a power of it."""
_MOST_NODES: Final = 51
_MOST_POINTS: Final = 2000
_LANES: Final = 2**16
_SMALLEST: Final = 1e-3
_LARGEST_CORRELATION: Final = 0.999
_FAR: Final = {"lin": np.inf, "log": 700.0, "logit": 36.0}


class EntityTarget(Protocol):
    """What can be fitted with random effects.

    Attributes
    ----------
    entities : tuple of str
    box : Box
        All free parameters, noise parameters too.
    """

    @property
    def entities(self) -> tuple[str, ...]: ...

    @property
    def box(self) -> Box: ...

    def entity_log_likelihood(self, values: Floats) -> Floats:
        """Log likelihood of each entity's measurements under its own parameters.

        Natural values (m, E, p) -> (m, E); minus infinity where a run fails. Row and entity stand alone: no element may
        depend on another row, nor on how many there are.
        """


@dataclass(frozen=True)
class RandomEffect:
    """A parameter of the box that differs between entities.

    Attributes
    ----------
    name : str
    covariates : tuple of str, or str
        Columns of the table of entity means on which the location depends.
    """

    name: str
    covariates: tuple[str, ...] | str = ()

    def __post_init__(self) -> None:
        given = (self.covariates,) if isinstance(self.covariates, str) else tuple(self.covariates)
        object.__setattr__(self, "covariates", given)


@dataclass(frozen=True, eq=False)
class RandomModel:
    """A target with its random effects, checked; `random_model` makes it.

    Attributes
    ----------
    target : EntityTarget
    random : tuple of RandomEffect
    box : Box
        What is estimated: the target's parameters (for a random one its location, between its own bounds); then
        ``slope(a, x)`` of a location on a centred covariate, ``sd(a)`` and, for correlated effects, ``corr(a, b)``.
        Slopes and standard deviations are in units of the transformed scale. With three correlated effects the last
        is ``corr(b, c | a)``, the partial correlation, so that every value within the bounds is a covariance.
    positions : (r,) int array
        Columns of the random parameters in the target's box.
    slopes : tuple of (int, str)
        Random parameter and covariate of each slope.
    centred : (n_slopes, E) array
        Covariates less their mean over entities.
    correlated : bool
    """

    target: EntityTarget
    random: tuple[RandomEffect, ...]
    box: Box
    positions: npt.NDArray[np.intp]
    slopes: tuple[tuple[int, str], ...]
    centred: Floats
    correlated: bool

    @property
    def deviations(self) -> slice:
        """Columns of the standard deviations."""
        first = self.target.box.size + len(self.slopes)
        return slice(first, first + len(self.random))

    def columns_of(self, effect: int) -> list[int]:
        """Columns that mean nothing without the variance of an effect: its deviation and its correlations."""
        pairs = _pairs(len(self.random)) if self.correlated else []
        own = [self.deviations.stop + k for k, pair in enumerate(pairs) if effect in pair]
        return [self.deviations.start + effect, *own]

    def locations(self, theta: Floats) -> Floats:
        """Locations on the transformed scale, (r, m, E), for natural values (m, q)."""
        n_entities = len(self.target.entities)
        shared = self.target.box.transformed(theta[:, :self.target.box.size])
        result = np.repeat(shared.T[self.positions][:, :, None], n_entities, axis=2)
        for k, (j, _) in enumerate(self.slopes):
            result[j] += theta[:, self.target.box.size + k, None] * self.centred[k]
        return result

    def factor(self, theta: Floats) -> Floats:
        """Lower factor of the covariance of the effects, (r, r, m)."""
        size, sd = len(self.random), theta[:, self.deviations].T
        result = np.zeros((size, size, len(theta)))
        partial = theta[:, self.deviations.stop:].T if self.correlated else np.zeros((3, len(theta)))
        rest = np.ones((size, len(theta)))
        for k, (j, i) in enumerate(_pairs(size)):
            result[i, j] = partial[k] * rest[i]
            rest[i] *= np.sqrt((1 - partial[k]) * (1 + partial[k]))
        for i in range(size):
            result[i, i] = rest[i]
        return np.asarray(result * sd[:, None, :])


def random_model(
    target: EntityTarget,
    random: Sequence[str | RandomEffect],
    *,
    correlated: bool = False,
    covariates: pd.DataFrame | None = None,
) -> RandomModel:
    """Check and prepare a model with random effects.

    Parameters
    ----------
    target : EntityTarget
        Parameters and likelihood of each entity.
    random : sequence of str or RandomEffect
        Parameters that differ between entities, at most three.
    correlated : bool
        Whether the effects of an entity may correlate with each other.
    covariates : DataFrame, optional
        Entity means, indexed by entity. Named by the effects that use them; centred here.

    Returns
    -------
    RandomModel

    Raises
    ------
    CalibrationError
        An unknown or repeated parameter, too many, an entity or a covariate that is missing or does not vary.

    Notes
    -----
    The bounds of a random parameter hold its location. An entity's own value may leave them, but not the support of
    its scale: positive on a log scale, between 0 and 1 on a logit scale, any number on a linear scale. A deviation
    lies between 1/1000 and one half of the bounds' width, a slope may carry the location over that width.
    """
    check_declared(target, "entities", "entity_log_likelihood")
    given: Sequence[str | RandomEffect] = [random] if isinstance(random, str | RandomEffect) else random
    effects = tuple(item if isinstance(item, RandomEffect) else RandomEffect(item) for item in given)
    box = target.box
    names = parameter_names([item.name for item in effects], box.names, "random parameter")
    effects = tuple(replace(item, name=name) for item, name in zip(effects, names, strict=True))
    _check_names(target, names)
    positions = np.array([box.names.index(name) for name in names])
    slopes = tuple((j, column) for j, item in enumerate(effects) for column in item.covariates)
    centred = np.array([_centred(covariates, column, target.entities) for _, column in slopes])
    ranges = {name: row for name, *row in zip(box.names, box.scales, box.lower, box.upper, strict=True)}
    for k, (j, column) in enumerate(slopes):
        reach = float(box.width[positions[j]] / np.ptp(centred[k]))
        ranges[f"slope({names[j]}, {column})"] = ["lin", -reach, reach]
    for name, width in zip(names, box.width[positions], strict=True):
        ranges[f"sd({name})"] = ["log", _SMALLEST * width, 0.5 * width]
    for j, i in _pairs(len(names)) if correlated else []:
        given = f" | {names[0]}" if j else ""
        ranges[f"corr({names[j]}, {names[i]}{given})"] = ["lin", -_LARGEST_CORRELATION, _LARGEST_CORRELATION]
    outer = Box.of({name: (scale, float(low), float(high)) for name, (scale, low, high) in ranges.items()})
    return RandomModel(target, effects, outer, positions, slopes, centred, correlated)


def _check_names(target: EntityTarget, names: list[str]) -> None:
    if not names:
        raise CalibrationError("random names no parameter; name at least one that differs between entities")
    for name in names:
        if names.count(name) > 1:
            raise CalibrationError(f"random parameter {name!r} is named twice; name it once")
    if len(names) > MOST:
        raise CalibrationError(
            f"{len(names)} random parameters ({', '.join(names)}); quadrature takes at most {MOST}, so share the others"
        )
    if len(target.entities) < 2 or len(set(target.entities)) < len(target.entities):
        raise CalibrationError(
            f"the target has {len(set(target.entities))} distinct of {len(target.entities)} entities; random effects "
            "need two or more, each named once"
        )


def _pairs(size: int) -> list[tuple[int, int]]:
    """Pairs of effects in the order of their correlations."""
    return [(j, i) for j in range(size) for i in range(j + 1, size)]


def _centred(covariates: pd.DataFrame | None, column: str, entities: tuple[str, ...]) -> Floats:
    """A covariate in the order of the entities, less its mean."""
    known = [] if covariates is None else [str(name) for name in covariates.columns]
    if covariates is None or column not in known:
        raise CalibrationError(f"the covariates have no column {column!r}. {did_you_mean(column, known)}")
    missing = [name for name in entities if name not in covariates.index]
    if missing or not covariates.index.is_unique:
        what = f"no row for entity {missing[0]!r}" if missing else "two rows for an entity"
        raise CalibrationError(f"the covariates have {what}; give one row for each, indexed by entity")
    values = covariates.loc[list(entities), column].to_numpy(dtype=float)
    finite = np.isfinite(values).all()
    if not finite or np.ptp(values) == 0:
        raise CalibrationError(
            f"covariate {column!r} {'does not vary' if finite else 'has a value that is not finite'}; a location can "
            "depend only on finite means that differ between entities"
        )
    return np.asarray(values - math.fsum(values) / len(values))


def marginal_log_likelihood(model: RandomModel, theta: Floats, *, nodes: int = 5) -> Floats:
    """Log likelihood with the effects integrated out, for many candidates.

    Parameters
    ----------
    model : RandomModel
        As `random_model` makes it.
    theta : (m, q) array
        Natural values in the order of ``model.box``; a standard deviation may be 0.
    nodes : int
        Quadrature nodes for each effect; 1 is the Laplace approximation.

    Returns
    -------
    (m,) array
        A row's value depends neither on the other rows nor on the order of the entities.
    """
    return np.array([math.fsum(row) if np.isfinite(row).all() else -np.inf for row in
                     entity_marginals(model, theta, nodes=nodes).value], dtype=float)


@dataclass(frozen=True, eq=False)
class Marginals:
    """Integrated log likelihood, and the effects, of each candidate and entity.

    Attributes
    ----------
    value : (m, E) array
    effects : (r, m, E) array
        Modes on the transformed scale, as deviations from the location.
    covariance : (r, r, m, E) array
        Of the effects given the data and the candidate, in the normal approximation at the mode.
    converged : (m, E) bool array
        Whether the mode was found.
    """

    value: Floats
    effects: Floats
    covariance: Floats
    converged: Mask


def entity_marginals(model: RandomModel, theta: Floats, *, nodes: int = 5) -> Marginals:
    """As `marginal_log_likelihood`, with each entity's share and effects."""
    if not (isinstance(nodes, int) and 1 <= nodes <= _MOST_NODES):
        raise CalibrationError(f"nodes is {nodes!r}; give a whole number from 1 (Laplace) to {_MOST_NODES}")
    size, n_entities = len(model.random), len(model.target.entities)
    if nodes > most_nodes(size):
        raise CalibrationError(
            f"{nodes} nodes for each of {size} effects are {nodes**size} runs of an entity; take at most "
            f"{most_nodes(size)} nodes"
        )
    block = max(1, _LANES // (n_entities * max(len(offsets(size)), nodes**size)))
    parts = [_block(model, theta[k:k + block], nodes) for k in range(0, len(theta), block)]
    return Marginals(*(
        np.concatenate([getattr(part, name) for part in parts], axis=-2)
        for name in ("value", "effects", "covariance", "converged")
    ))


def most_nodes(size: int) -> int:
    """Largest number of nodes for each of several effects."""
    return next(k for k in range(_MOST_NODES, 0, -1) if k**size <= _MOST_POINTS)


def _block(model: RandomModel, theta: Floats, nodes: int) -> Marginals:
    size, shape = len(model.random), (len(theta), len(model.target.entities))
    factor = model.factor(theta)
    log_density = density_of(model, theta)
    found = integrate(log_density, shape[0] * shape[1], size, nodes=nodes)
    root = np.repeat(factor, shape[1], axis=2)
    spread = found.covariance()
    half = np.stack([times(root, spread[:, j]) for j in range(size)], axis=1)
    cov = np.stack([times(root, half[j]) for j in range(size)])
    return Marginals(
        found.value.reshape(shape), times(root, found.mode).reshape(size, *shape), cov.reshape(size, size, *shape),
        found.converged.reshape(shape),
    )


def density_of(model: RandomModel, theta: Floats) -> LogDensity:
    """Log likelihood of an entity under a candidate, given its standard normal effects; lanes as in `entity_marginals`.

    A lane is a candidate and an entity, the entity fastest.
    """
    many = len(model.target.entities)

    def log_density(effects: Floats, lanes: npt.NDArray[np.intp]) -> Floats:
        return by_lane(model.target, natural_of(model, theta, effects, lanes), lanes % many)

    return log_density


def natural_of(model: RandomModel, theta: Floats, effects: Floats, lanes: npt.NDArray[np.intp]) -> Floats:
    """Natural values (k, p) of the target's parameters in lanes (k,) with standard normal effects (r, k)."""
    candidate, entity = np.divmod(lanes, len(model.target.entities))
    values = theta[candidate, :model.target.box.size]
    moved = model.locations(theta)[:, candidate, entity] + times(model.factor(theta)[:, :, candidate], effects)
    for j, position in enumerate(model.positions):
        values[:, position] = from_scale(model.target.box.scales[position], moved[j])
    return values


def times(factor: Floats, effects: Floats) -> Floats:
    """Lower triangular (r, r, n) times (r, n), in a fixed order."""
    return np.stack([np.cumsum(factor[i, :i + 1] * effects[:i + 1], axis=0)[-1] for i in range(len(effects))])


def from_scale(scale: str, transformed: Floats) -> Floats:
    """Natural values without the bounds of a box, but within the support of the scale."""
    inside = np.clip(transformed, -_FAR[scale], _FAR[scale])
    if scale == "log":
        return np.asarray(np.exp(inside))
    return np.asarray(expit(inside)) if scale == "logit" else np.asarray(inside)


def by_lane(target: EntityTarget, values: Floats, entity: npt.NDArray[np.intp]) -> Floats:
    """Log likelihood of single lanes, (k, p) values of the (k,) entities, packed into full rows."""
    n_entities = len(target.entities)
    order = np.argsort(entity, kind="stable")
    counts = np.bincount(entity, minlength=n_entities)
    row = np.empty(len(entity), dtype=np.intp)
    row[order] = np.arange(len(entity)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.empty((counts.max(), n_entities, values.shape[1]))
    table[:] = values[0]
    table[row, entity] = values
    most = max(1, _LANES // n_entities)
    found = [target.entity_log_likelihood(table[k:k + most]) for k in range(0, len(table), most)]
    return np.concatenate(found)[row, entity]


def check_entities(target: EntityTarget, *, starts: int, seed: int) -> None:
    """Name what no search could mend: entities without data, or whose data no start can explain."""
    starts, seed = enough_starts(starts), checked_seed(seed)
    points = qmc.LatinHypercube(d=target.box.size, rng=np.random.default_rng(seed)).random(starts)
    values = np.repeat(target.box.natural(points)[:, None, :], len(target.entities), axis=1)
    found = target.entity_log_likelihood(values)
    if found.shape != values.shape[:2]:
        raise CalibrationError(
            f"the target gives log likelihoods of shape {found.shape} for values of shape {values.shape}; it must give "
            "one for each row and entity"
        )
    empty = [name for name, column in zip(target.entities, found.T, strict=True) if (column == 0).all()]
    if empty:
        raise CalibrationError(
            f"the log likelihood of entity {empty[0]!r} is 0 at all {starts} starts ({len(empty)} such): it has no "
            "measurement; leave it out"
        )
    never = [name for name, column in zip(target.entities, found.T, strict=True) if not np.isfinite(column).any()]
    if never:
        raise CalibrationError(
            f"the log likelihood of entity {never[0]!r} is not finite at any of {starts} starts ({len(never)} such): "
            "the model cannot give its measurements within the bounds; widen them or check the rows"
        )


def part_of(box: Box, at: npt.NDArray[np.intp]) -> Box:
    """Some columns of a box."""
    return Box(tuple(box.names[j] for j in at), tuple(box.scales[j] for j in at), box.lower[at], box.upper[at])
