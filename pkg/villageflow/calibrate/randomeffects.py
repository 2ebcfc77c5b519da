"""Random effects by marginal maximum likelihood: the verb `fit_random_effects` and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.stats import t

from villageflow.calibrate.climb import OnRound, Optimum, covariance, maximise, standard_errors
from villageflow.calibrate.effectslopes import Sloped, marginal_slopes
from villageflow.calibrate.marginal import (
    EntityTarget,
    Mask,
    RandomEffect,
    RandomModel,
    check_entities,
    entity_marginals,
    from_scale,
    marginal_log_likelihood,
    most_nodes,
    part_of,
    random_model,
)
from villageflow.calibrate.quadrature import derivatives, offsets
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import share
from villageflow.calibrate.stored import save_fields

FORMAT: Final = "villageflow random effects 1"
NODES_MATTER: Final = 1e-2
"""Spread of the log likelihood over 1, 5 and 9 nodes above which a result is flagged; as for two starts that agree."""
CHECKED_NODES: Final = (1, 5, 9)
_NO_GAIN: Final = 1e-4
_FEWEST_NODES: Final = 3
"""With which slopes can guide a search; Laplace's approximation has one node and no average."""
_STEP: Final = 0.1


@dataclass(frozen=True, eq=False)
class RandomEffectsResult:
    """A fit with random effects.

    Attributes
    ----------
    params : Series
        Estimates in natural units. For a random parameter the location: its median, or with covariates the median at
        their mean. Deviations and slopes are in units of the transformed scale.
    scales : Series
    bounds : DataFrame
        Lower and upper bound in natural units.
    transformed_cov, transformed_clustered_cov : DataFrame
        Covariance on the transformed scale from the observed information, and the sandwich clustered by entity with
        the factor E / (E - 1). NaN for what a bound holds.
    slope : Series
        Derivative of natural by transformed value.
    loglik : float
        Marginal log likelihood with all constants.
    loglik_by_nodes : mapping of int to float
        At the estimate with 1, 5 and 9 nodes for each effect, with those of the fit and, for a fit with 9 or more, with
        twice as many.
    nodes : int
        With which the fit was made.
    at_bound : tuple of str
        Parameters that a bound holds; also a deviation of 0 and its correlations.
    zero : tuple of str
        Random parameters whose deviation is 0.
    converged : bool
    near_best : float
        Share of starts that ended within 1e-2 of the best log likelihood.
    starts : (n_starts,) array
        Log likelihood at the end of each start.
    seed : int
    modes : DataFrame
        For each random parameter and entity: mode of the effect and its conditional standard deviation (given the
        estimates, whose own error it leaves out) on the transformed scale, the natural value, and whether that lies
        outside the bounds of the location.
    shrinkage : Series
        Mean conditional variance over the variance of the effects: near 0 the entity's own data decide, near 1 nothing
        but the population does.
    correlation : DataFrame
        Of the effects.
    modes_found : bool
        Whether the search for the modes converged for every entity.
    """

    params: pd.Series[float]
    scales: pd.Series[str]
    bounds: pd.DataFrame
    transformed_cov: pd.DataFrame
    transformed_clustered_cov: pd.DataFrame
    slope: pd.Series[float]
    loglik: float
    loglik_by_nodes: Mapping[int, float]
    nodes: int
    at_bound: tuple[str, ...]
    zero: tuple[str, ...]
    converged: bool
    near_best: float
    starts: Floats
    seed: int
    modes: pd.DataFrame
    shrinkage: pd.Series[float]
    correlation: pd.DataFrame
    modes_found: bool

    def save(self, path: str | Path) -> None:
        """Write everything as JSON, which `villageflow.load_fit` reads back to the last bit."""
        save_fields(self, FORMAT, path)

    def __repr__(self) -> str:
        values = ", ".join(f"{name} = {value:.6g}" for name, value in self.params.items())
        found = f"{'converged' if self.converged else 'NOT converged'}, log likelihood {self.loglik:.4f}"
        return f"<villageflow.RandomEffectsResult: {self.n_entities} entities, {found}\n {values}; see summary()>"

    @property
    def n_entities(self) -> int:
        """Number of entities, the clusters of the sandwich."""
        return self.modes["entity"].nunique()

    @property
    def std_errors(self) -> pd.Series[float]:
        """From the observed information (delta method), natural units."""
        return _errors(self.transformed_cov) * self.slope

    @property
    def clustered_errors(self) -> pd.Series[float]:
        """From the sandwich clustered by entity (delta method), natural units."""
        return _errors(self.transformed_clustered_cov) * self.slope

    @property
    def nodes_agree(self) -> bool:
        """Whether 1, 5 and 9 nodes give the same log likelihood to 1e-2."""
        return bool(np.ptp([self.loglik_by_nodes[k] for k in CHECKED_NODES]) <= NODES_MATTER)

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Intervals with the clustered errors and t(E - 1), formed on the transformed scale; natural units."""
        box = Box(tuple(self.params.index), tuple(self.scales), self.bounds["lower"].to_numpy(dtype=float),
                  self.bounds["upper"].to_numpy(dtype=float))
        known = float(t.ppf(0.5 + share("level", level) / 2, self.n_entities - 1))
        reach = known * _errors(self.transformed_clustered_cov)
        with np.errstate(divide="ignore"):
            centre = box.transformed(np.array(self.params, dtype=np.float64))
        ends = (centre + sign * reach.to_numpy() for sign in (-1, 1))
        values = [[float(from_scale(*pair)) for pair in zip(box.scales, end, strict=True)] for end in ends]
        return pd.DataFrame({"lower": values[0], "upper": values[1]}, index=self.params.index)

    def to_frame(self) -> pd.DataFrame:
        """One row for each parameter: estimate, both errors, clustered 95 % interval, scale, whether at a bound."""
        return pd.DataFrame({
            "estimate": self.params, "std_error": self.std_errors, "clustered_error": self.clustered_errors,
            **self.conf_int(), "scale": self.scales, "at_bound": self.params.index.isin(self.at_bound),
        })

    def notes(self) -> tuple[str, ...]:
        """What a reader must know before using the estimates; empty if nothing."""
        found = []
        if not self.converged:
            found.append("the search did not converge: more starts, tighter bounds or fewer parameters")
        if not self.modes_found:
            found.append("the effects of an entity have no clear mode: the integral may be wrong")
        if not self.nodes_agree:
            spread = ", ".join(f"{value:.6f} ({nodes})" for nodes, value in self.loglik_by_nodes.items())
            off = abs(self.loglik - self.loglik_by_nodes[max(self.loglik_by_nodes)])
            found.append(
                f"the log likelihood depends on the number of nodes: {spread}; that of this fit is off by {off:.1g}, "
                "use more nodes unless it is small"
            )
        found += [
            f"sd({name}) is 0, on the boundary: the other errors take it as known; test it with half the p value of "
            "chi2(1)" for name in self.zero
        ]
        others = [name for name in self.at_bound if self.params[name] != 0 or not self.zero]
        if others:
            found.append(f"at a bound: {', '.join(others)}; their errors are not defined")
        n_free = len(self.params) - len(self.at_bound)
        if self.n_entities <= n_free:
            found.append(f"{self.n_entities} entities for {n_free} parameters: the sandwich is not of full rank")
        if self.modes["outside"].any():
            found.append(f"{int(self.modes['outside'].sum())} modes lie outside the bounds of their location")
        return tuple(found)

    def summary(self) -> str:
        """Table of estimates with the diagnostics that a reader needs to judge them."""
        lines = [
            f"Marginal maximum likelihood: {self.n_entities} entities, {len(self.params)} parameters, {self.nodes} "
            f"nodes, log likelihood {self.loglik:.6f}",
            f"{'parameter':<28}{'estimate':>14}{'std. error':>14}{'clustered':>14}{'lower':>12}{'upper':>12}  scale",
        ]
        ranges = self.bounds[["lower", "upper"]].to_numpy(dtype=float)
        for (name, row), (low, high) in zip(self.to_frame().iterrows(), ranges, strict=True):
            errors = ["at bound" if row["at_bound"] else f"{row[key]:.6g}" for key in ("std_error", "clustered_error")]
            lines.append(
                f"{name:<28}{row['estimate']:>14.6g}{errors[0]:>14}{errors[1]:>14}"
                f"{low:>12.6g}{high:>12.6g}  {row['scale']}"
            )
        nodes = ", ".join(f"{value:.6f} with {k}" for k, value in self.loglik_by_nodes.items())
        shrinkage = ", ".join(f"{name} {value:.2f}" for name, value in self.shrinkage.items())
        return "\n".join([
            *lines,
            f"converged: {'yes' if self.converged else 'NO'}; {self.near_best:.0%} of {len(self.starts)} starts within "
            "0.01 of the best",
            f"log likelihood by nodes: {nodes}",
            f"shrinkage towards the population: {shrinkage}",
            *(f"note: {note}" for note in self.notes()),
            f"Clustered errors are a sandwich over entities; use them with t({self.n_entities - 1}), as conf_int() "
            "does. The others take the model of effects and noise as true.",
        ])


def _errors(cov: pd.DataFrame) -> pd.Series[float]:
    return pd.Series(np.sqrt(np.diag(cov)), index=cov.index)


def fit_random_effects(
    target: EntityTarget,
    random: Sequence[str | RandomEffect],
    *,
    seed: int,
    starts: int = 20,
    nodes: int = 5,
    correlated: bool = False,
    covariates: pd.DataFrame | None = None,
    progress: OnRound | None = None,
) -> RandomEffectsResult:
    """Fit parameters and variances of random effects by marginal maximum likelihood.

    Parameters
    ----------
    target : EntityTarget
        Parameters and likelihood of each entity.
    random : sequence of str or RandomEffect
        Parameters that differ between entities, at most three.
    seed : int
        Of the starts; nothing else is random.
    starts : int
        Latin hypercube starts over the bounds on the transformed scale, at least 20.
    nodes : int
        Quadrature nodes for each effect; 1 is the Laplace approximation.
    correlated : bool
        Whether the effects of an entity may correlate with each other.
    covariates : DataFrame, optional
        Entity means for correlated random effects, indexed by entity.
    progress : callable, optional
        Called after each round of the search with its number, the starts still climbing and the best log likelihood.

    Returns
    -------
    RandomEffectsResult

    Raises
    ------
    CalibrationError
        As `random_model`; too few starts; an entity without measurements or that no start can explain.

    Notes
    -----
    A standard deviation whose lowest value costs less than 1e-4 of log likelihood is set to 0 and the rest is fitted
    again: it is at its bound. Priors of the parameters are not used.
    """
    model = random_model(target, random, correlated=correlated, covariates=covariates)
    check_entities(target, starts=starts, seed=seed)
    free = np.ones(model.box.size, dtype=bool)
    search = partial(_search, nodes=nodes, starts=starts, seed=seed, progress=progress)
    found, theta = search(model, free)
    while (needless := _needless(model, free, theta, nodes, found.value)) is not None:
        free[model.columns_of(needless)] = False
        found, theta = search(model, free)
    return _result(model, free, found, theta, nodes=nodes, seed=seed)


def _search(
    model: RandomModel, free: Mask, *, nodes: int, starts: int, seed: int, progress: OnRound | None
) -> tuple[Optimum, Floats]:
    """The best point over the free columns, the others at 0, and its natural values."""
    at = np.flatnonzero(free)
    box = part_of(model.box, at)

    def objective(unit: Floats) -> Floats:
        theta = np.zeros((len(unit), len(free)))
        theta[:, at] = box.natural(unit)
        return marginal_log_likelihood(model, theta, nodes=nodes)

    def slopes(unit: Floats) -> tuple[Floats, Floats]:
        theta = np.zeros((len(unit), len(free)))
        theta[:, at] = box.natural(unit)
        scores, hessians = marginal_slopes(model, theta, nodes=nodes)
        width = box.width
        return scores[:, :, at].sum(axis=1) * width, hessians[:, at][:, :, at] * np.outer(width, width)

    known = isinstance(model.target, Sloped) and model.target.fixed_steps and nodes >= _FEWEST_NODES
    found = maximise(objective, box.size, starts=starts, seed=seed, slopes=slopes if known else None, progress=progress)
    theta = np.zeros(len(free))
    theta[at] = np.where(found.unit == 0, box.lower, np.where(found.unit == 1, box.upper, box.natural(found.unit)))
    return found, theta


def _needless(model: RandomModel, free: Mask, theta: Floats, nodes: int, value: float) -> int | None:
    """The random effect whose standard deviation may as well be 0, if there is one."""
    left = [j for j in range(len(model.random)) if free[model.deviations][j]]
    if not left:
        return None
    points = np.repeat(theta[None, :], len(left), axis=0)
    for row, j in enumerate(left):
        points[row, model.columns_of(j)] = 0.0
    reached = marginal_log_likelihood(model, points, nodes=nodes)
    return left[int(np.argmax(reached))] if reached.max() >= value - _NO_GAIN else None


def _result(
    model: RandomModel, free: Mask, found: Optimum, theta: Floats, *, nodes: int, seed: int
) -> RandomEffectsResult:
    at = np.flatnonzero(free)
    held = np.ones(len(free), dtype=bool)
    held[at] = found.at_bound
    cov, clustered = _covariances(model, found, theta, held, nodes)
    slope = np.where(free, model.box.slope(theta), 0.0)
    names = list(model.box.names)

    def table(values: Floats) -> pd.DataFrame:
        return pd.DataFrame(values, index=names, columns=names)

    finer = min(2 * nodes + 1, most_nodes(len(model.random))) if nodes >= CHECKED_NODES[-1] else nodes
    checked = sorted({*CHECKED_NODES, nodes, finer})
    by_nodes = {k: float(marginal_log_likelihood(model, theta[None, :], nodes=k)[0]) for k in checked}
    return RandomEffectsResult(
        params=pd.Series(theta, index=names),
        scales=pd.Series(model.box.scales, index=names),
        bounds=pd.DataFrame({"lower": model.box.lower, "upper": model.box.upper}, index=names),
        transformed_cov=table(cov),
        transformed_clustered_cov=table(clustered),
        slope=pd.Series(slope, index=names),
        loglik=found.value,
        loglik_by_nodes=by_nodes,
        nodes=nodes,
        at_bound=tuple(name for name, fixed in zip(names, held, strict=True) if fixed),
        zero=tuple(item.name for j, item in enumerate(model.random) if theta[model.deviations][j] == 0),
        converged=found.converged,
        near_best=found.near_best,
        starts=found.ends,
        seed=seed,
        **_effects(model, theta),
    )


def _covariances(
    model: RandomModel, found: Optimum, theta: Floats, held: Mask, nodes: int
) -> tuple[Floats, Floats]:
    """Inverse of the observed information and clustered sandwich on the transformed scale, NaN for what is held."""
    q = len(theta)
    cov, clustered = np.full((q, q), np.nan), np.full((q, q), np.nan)
    at = np.flatnonzero(~held)
    errors = standard_errors(found.hessian, found.at_bound)[~found.at_bound]
    if not len(at) or np.isnan(errors).any():
        return cov, clustered
    unit = found.unit[~found.at_bound]
    steps = np.minimum(_STEP * errors, np.maximum(0.5 * np.minimum(unit, 1 - unit), 1e-9))
    points = np.repeat(theta[None, :], len(offsets(len(at))), axis=0)
    inner = part_of(model.box, at)
    points[:, at] = inner.natural(unit + offsets(len(at)) * steps)
    values = entity_marginals(model, points, nodes=nodes).value
    n_entities = values.shape[1]
    scores, hessians = derivatives(values, np.repeat(steps[:, None], n_entities, axis=1))
    bread = covariance(hessians.sum(axis=2), np.zeros(len(at), dtype=bool))
    meat = scores @ scores.T * (n_entities / (n_entities - 1))
    width = np.outer(inner.width, inner.width)
    cov[np.ix_(at, at)] = bread * width
    clustered[np.ix_(at, at)] = bread @ meat @ bread * width
    return cov, clustered


def _effects(model: RandomModel, theta: Floats) -> dict[str, Any]:
    """Modes with their deviations, shrinkage and the correlation of the effects at the estimate."""
    found = entity_marginals(model, theta[None, :], nodes=1)
    names = [item.name for item in model.random]
    locations = model.locations(theta[None, :])[:, 0]
    parts, shrinkage = [], {}
    for j, (name, position) in enumerate(zip(names, model.positions, strict=True)):
        effect, variance = found.effects[j, 0], found.covariance[j, j, 0]
        box = model.target.box
        value = from_scale(box.scales[position], locations[j] + effect)
        parts.append(pd.DataFrame({
            "entity": model.target.entities, "parameter": name, "effect": effect, "std_dev": np.sqrt(variance),
            "value": value, "outside": (value < box.lower[position]) | (value > box.upper[position]),
        }))
        deviation = theta[model.deviations][j]
        shrinkage[name] = float(np.mean(variance) / deviation**2) if deviation > 0 else 1.0
    factor = model.factor(theta[None, :])[:, :, 0]
    length = np.sqrt((factor**2).sum(axis=1))
    scaled = factor / np.where(length > 0, length, 1.0)[:, None]
    return {
        "modes": pd.concat(parts, ignore_index=True),
        "shrinkage": pd.Series(shrinkage),
        "correlation": pd.DataFrame(scaled @ scaled.T, index=names, columns=names),
        "modes_found": bool(found.converged.all()),
    }
