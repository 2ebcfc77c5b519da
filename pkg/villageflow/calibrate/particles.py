"""Sequential Monte Carlo: islands of particles that go from the prior to a target by a ladder of levels.

At each level an island weights its particles by how the target has changed, draws them again in proportion, by one
systematic draw [Kitagawa1996]_ that keeps their order, and moves them by random-walk Metropolis steps that leave the
target as it is [DelMoral2006]_. A step is a scaled difference of two particles as they were drawn [TerBraak2006]_: it
has the covariance of the weighted particles, and where these are in several modes also the extent of each. Both are
of the other half of the island: a particle and its siblings must have no part in their own steps. Islands never see
each other, so that what differs between them is Monte Carlo error; they advance in lockstep, and each step of all
particles of all islands is one call of the engine.

References
----------
.. [Kitagawa1996] G. Kitagawa, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space models", Journal
   of Computational and Graphical Statistics 5 (1996).
.. [DelMoral2006] P. Del Moral, A. Doucet and A. Jasra, "Sequential Monte Carlo samplers", Journal of the Royal
   Statistical Society B 68 (2006).
.. [RobertsRosenthal2001] G. Roberts and J. Rosenthal, "Optimal scaling for various Metropolis-Hastings algorithms",
   Statistical Science 16 (2001).
.. [TerBraak2006] C. ter Braak, "A Markov chain Monte Carlo version of the genetic algorithm differential evolution",
   Statistics and Computing 16 (2006).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from villageflow.calibrate.climb import Objective
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.scales import Floats
from villageflow.errors import CalibrationError

ROUNDS: Final = 20
"""Times as many draws from the prior as an island has particles, at most, to find that many with a finite score."""
FACTOR: Final = 2.38
"""First scale of the random walk, in standard deviations over the root of the dimension [RobertsRosenthal2001]_."""
ACCEPTED: Final = 0.234
"""Share of accepted moves that the scale is led to."""
JUMPS: Final = 10
"""Every such move is a whole difference, which can lead from one mode to another."""

Asking = Generator[Floats, Floats, "Island"]
"""Gives transformed values, (k, p), is sent their scores, (k,), and ends with an island."""


class Ladder(Protocol):
    """Targets from the prior to the last one: the prior density times a factor, of the score, that has a level."""

    @property
    def first(self) -> float:
        """Level of the prior."""

    @property
    def last(self) -> float:
        """Level of the last target."""

    def following(self, score: Floats, level: float) -> float:
        """The next level for an island with these scores, (n,); the same if the ladder leads no further."""

    def log_factor(self, score: Floats, level: float) -> Floats:
        """Logarithm of the target's density over the prior's, up to a constant, (n,)."""


@dataclass(frozen=True, eq=False)
class Island:
    """Particles after some stages.

    Attributes
    ----------
    points : (n, p) array
        On the transformed scale.
    log_prior, score : (n,) arrays
        Log prior density, and what the ladder needs to know of a particle.
    accepted : (n,) array
        Share of the moves of the last stage that were accepted.
    levels, log_constants, acceptance, scales : (1 + stages,) arrays
        After the prior and after each stage: level; log of the target's integral over that of the prior, in which
        draws without a finite score count as 0; share of accepted moves; scale of the random walk. An island that has
        ended repeats its level.
    ended : bool
        Whether the ladder leads no further.
    """

    points: Floats
    log_prior: Floats
    score: Floats
    accepted: Floats
    levels: Floats
    log_constants: Floats
    acceptance: Floats
    scales: Floats
    ended: bool | np.bool_


NAMES: Final = tuple(field.name for field in fields(Island))


def stacked(islands: Sequence[Island]) -> dict[str, Any]:
    """Arrays of all islands by name, with the island as first axis."""
    return {name: np.stack([getattr(island, name) for island in islands]) for name in NAMES}


def unstacked(arrays: dict[str, Any]) -> list[Island]:
    """The islands of `stacked`."""
    return [Island(**{name: arrays[name][i] for name in NAMES}) for i in range(len(arrays["ended"]))]


def drawn(
    score: Objective, priors: Priors, ladder: Ladder, *, islands: int, particles: int, seed: int
) -> list[Island]:
    """Islands before their first stage: draws from the prior that have a finite score.

    Raises
    ------
    CalibrationError
        An island in which fewer than one draw in 20 has one.
    """
    asking = [_drawn(priors, ladder, particles, _stream(seed, island, 0)) for island in range(islands)]
    return _together(asking, score)


def advanced(
    islands: Sequence[Island], score: Objective, priors: Priors, ladder: Ladder, *, moves: int, seed: int
) -> list[Island]:
    """One stage of every island that has not ended.

    Parameters
    ----------
    islands : sequence of Island
        After equally many stages.
    score : callable
        Transformed values, (k, p), to scores, (k,), that are not finite where the target is zero at every level.
    priors : Priors
        Of the parameters.
    ladder : Ladder
        From the prior to the target.
    moves : int
        Metropolis steps of each particle.
    seed : int
        Each stage of each island has a generator of its own, so that none has to be stored.

    Returns
    -------
    list of Island
    """
    stage = len(islands[0].levels)
    return _together(
        [_advanced(own, priors, ladder, moves, _stream(seed, i, stage)) for i, own in enumerate(islands)], score
    )


def _stream(seed: int, island: int, stage: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(island, stage)))


def _together(asking: Sequence[Asking], score: Objective) -> list[Island]:
    """Run to their end, with all that is asked at once in one call."""
    ended: dict[int, Island] = {}
    sent: dict[int, Floats | None] = dict.fromkeys(range(len(asking)))
    while sent:
        asked: dict[int, Floats] = {}
        for i, scores in sent.items():
            try:
                asked[i] = next(asking[i]) if scores is None else asking[i].send(scores)
            except StopIteration as end:
                ended[i] = end.value
        sizes = [len(points) for points in asked.values()]
        found = score(np.concatenate([*asked.values()])) if sum(sizes) else np.empty(0)
        sent = {i: found[end - size:end] for i, size, end in zip(asked, sizes, np.cumsum(sizes), strict=True)}
    return [ended[i] for i in range(len(asking))]


def _drawn(priors: Priors, ladder: Ladder, particles: int, rng: np.random.Generator) -> Asking:
    points, scores, tried, size = np.empty((0, priors.box.size)), np.empty(0), 0, priors.box.size
    for _ in range(ROUNDS):
        new = priors.box.transformed(priors.draw(rng, particles))
        found = yield new
        alive, tried = np.isfinite(found), tried + particles
        points, scores = np.vstack([points, new[alive]]), np.concatenate([scores, found[alive]])
        if len(points) >= particles:
            break
    else:
        raise CalibrationError(
            f"of {tried} draws from the prior {len(points)} can be compared with the data, and an island starts from "
            f"{particles}: the model must stay finite and within what can be measured in more of the prior; narrow it"
        )
    log_share = np.array([np.log(len(points) / tried)])
    points, scores = points[:particles], scores[:particles]
    return Island(
        points, priors.log_density(points), scores, np.zeros(particles), np.array([ladder.first]), log_share,
        np.array([np.nan]), np.array([FACTOR / np.sqrt(size)]), ended=False,
    )


def _advanced(island: Island, priors: Priors, ladder: Ladder, moves: int, rng: np.random.Generator) -> Asking:
    before, log_constant, scale = (float(one[-1]) for one in (island.levels, island.log_constants, island.scales))
    level = before if island.ended else ladder.following(island.score, before)
    if level == before:
        return _longer(island, level, log_constant, np.nan, scale, ended=True)
    log_weights = ladder.log_factor(island.score, level) - ladder.log_factor(island.score, before)
    weights = np.exp(log_weights - log_weights.max())
    log_constant += float(log_weights.max() + np.log(weights.mean()))
    chosen = _systematic(weights, float(rng.random()))
    parts: dict[str, Any] = {name: getattr(island, name)[chosen] for name in ("points", "log_prior", "score")}
    island, scale = yield from _moved(replace(island, **parts), scale, level, priors, ladder, moves, rng)
    return _longer(island, level, log_constant, float(island.accepted.mean()), scale, ended=level == ladder.last)


def _moved(
    island: Island, scale: float, level: float, priors: Priors, ladder: Ladder, moves: int, rng: np.random.Generator
) -> Generator[Floats, Floats, tuple[Island, float]]:
    """The island after its moves, and the scale.

    With ten parameters steps from all particles gave an evidence a third too large; those from the other half do not.
    """
    ends = points = island.points
    log_prior, score = island.log_prior, island.score
    n, accepted = len(points), np.zeros(len(points))
    first, half = np.arange(n) < n // 2, n // 2
    for move in range(moves):
        jumps = move % JUMPS == JUMPS - 1
        one, two = np.where(first, rng.integers(half, n, size=(2, n)), rng.integers(half, size=(2, n)))
        new = points + (1.0 if jumps else scale / np.sqrt(2)) * (ends[one] - ends[two])
        new_prior, new_score = priors.log_density(new), np.full(n, -np.inf)
        inside = np.isfinite(new_prior)
        new_score[inside] = yield new[inside]
        able, gain = np.flatnonzero(np.isfinite(new_score)), np.full(n, -np.inf)
        gain[able] = new_prior[able] - log_prior[able]
        gain[able] += ladder.log_factor(new_score[able], level) - ladder.log_factor(score[able], level)
        accepts = np.log1p(-rng.random(n)) < gain
        points = np.where(accepts[:, None], new, points)
        log_prior, score = np.where(accepts, new_prior, log_prior), np.where(accepts, new_score, score)
        accepted += accepts / moves
        if not jumps:
            scale *= float(np.exp(accepts.mean() - ACCEPTED))
    return replace(island, points=points, log_prior=log_prior, score=score, accepted=accepted), scale


def _longer(
    island: Island, level: float, log_constant: float, acceptance: float, scale: float, *, ended: bool
) -> Island:
    """With one more stage in its history."""
    new = {"levels": level, "log_constants": log_constant, "acceptance": acceptance, "scales": scale}
    history: dict[str, Any] = {name: np.append(getattr(island, name), value) for name, value in new.items()}
    return replace(island, **history, ended=ended)


def _systematic(weights: Floats, uniform: float) -> npt.NDArray[np.intp]:
    """Positions drawn in proportion to the weights, in order, each within one of its expected number."""
    n, cumulated = len(weights), np.cumsum(weights)
    at = np.searchsorted(cumulated, (uniform + np.arange(n)) / n * cumulated[-1], side="right")
    return np.asarray(np.minimum(at, np.flatnonzero(weights)[-1]))
