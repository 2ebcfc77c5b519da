"""Chains of an ensemble of walkers: where they start, how they move, and the file from which they go on.

emcee draws from a Mersenne twister; its state is set from the seed here, and never shared with anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.random import MT19937

from villageflow.calibrate.climb import Objective
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.scales import Floats
from villageflow.calibrate.states import store, stored
from villageflow.errors import CalibrationError

Progress = Callable[[int, int, float], None]
"""Called with steps done, steps in all, and the mean log posterior density of the walkers."""

CANDIDATES: Final = 64
"""Draws from the prior for each walker; the best become the starts."""
STRETCHES: Final = 0.5
"""Share of stretch moves; the others follow differences of walkers."""
_ROUNDS: Final = 20
_EVERY: Final = 100
_SAME: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Chain:
    """Kept draws on the transformed scale; the first row is the start, which is no draw.

    Attributes
    ----------
    points : (1 + draws, walkers, p) array
    log_posterior : (1 + draws, walkers) array
    acceptance : (1 + draws, walkers) array
        Share of the moves since the last row that were accepted.
    keys : (624,) array
    position, has_gauss, gauss : int, int, float
        With the keys the state of the Mersenne twister after the last row.
    """

    points: Floats
    log_posterior: Floats
    acceptance: Floats
    keys: Any
    position: int
    has_gauss: int
    gauss: float

    @property
    def draws(self) -> int:
        """Kept draws of a walker."""
        return len(self.points) - 1


def started(log_posterior: Objective, priors: Priors, walkers: int, seed: int) -> Chain:
    """The chain before its first step: the best draws from the prior, and the generator of the moves."""
    starts, moves = (np.random.SeedSequence(seed, spawn_key=(i,)) for i in range(2))
    rng, size = np.random.default_rng(starts), priors.box.size
    points, values = np.empty((0, size)), np.empty(0)
    for _ in range(_ROUNDS):
        drawn = priors.box.transformed(priors.draw(rng, CANDIDATES * walkers))
        found = log_posterior(drawn)
        alive = np.isfinite(found)
        points, values = np.vstack([points, drawn[alive]]), np.concatenate([values, found[alive]])
        if len(points) >= walkers:
            break
    else:
        tried = _ROUNDS * CANDIDATES * walkers
        raise CalibrationError(
            f"of {tried} draws from the prior {len(points)} can give the measurements, and {walkers} walkers need a "
            "start each; the model must stay finite and within the support of the noise in more of the prior: narrow it"
        )
    best = np.argsort(-values, kind="stable")[:walkers]
    state: Any = MT19937(moves).state["state"]
    acceptance = np.zeros((1, walkers))
    return Chain(points[None, best], values[None, best], acceptance, state["key"], int(state["pos"]), 0, 0.0)


def extended(
    log_posterior: Objective, chain: Chain, draws: int, thin: int, file: Path | None, identity: Mapping[str, str],
    progress: Progress | None,
) -> Chain:
    """The chain with as many draws as asked for, kept in the file on the way."""
    import emcee  # type: ignore[import-untyped]

    if chain.draws >= draws:
        end = 1 + draws
        return Chain(chain.points[:end], chain.log_posterior[:end], chain.acceptance[:end], chain.keys, 0, 0, 0.0)
    walkers, size = chain.points.shape[1:]
    moves = [(emcee.moves.StretchMove(), STRETCHES), (emcee.moves.DEMove(), 1 - STRETCHES)]
    sampler = emcee.EnsembleSampler(walkers, size, log_posterior, moves=moves, vectorize=True)
    random_state = ("MT19937", chain.keys, chain.position, chain.has_gauss, chain.gauss)
    state = emcee.State(chain.points[-1], log_prob=chain.log_posterior[-1], random_state=random_state, copy=True)
    more = draws - chain.draws
    points = np.concatenate([chain.points, np.empty((more, walkers, size))])
    values = np.concatenate([chain.log_posterior, np.empty((more, walkers))])
    acceptance = np.concatenate([chain.acceptance, np.empty((more, walkers))])
    row, moved, last = chain.draws, np.zeros(walkers), chain.points[-1].copy()
    stepping = sampler.sample(state, iterations=more * thin, store=False, skip_initial_state_check=True)
    for step, state in enumerate(stepping, start=1):
        moved += (state.coords != last).any(axis=1)
        last = state.coords.copy()
        if step % thin:
            continue
        row += 1
        points[row], values[row], acceptance[row] = last, state.log_prob, moved / thin
        moved[:] = 0.0
        if row % _EVERY == 0 or row == draws:
            end = row + 1
            found = Chain(points[:end], values[:end], acceptance[:end], *state.random_state[1:])
            if file is not None:
                store(file, vars(found), identity)
        if progress is not None:
            progress(row * thin, draws * thin, float(values[row].mean()))
    return found


def loaded(file: Path, identity: Mapping[str, str], log_posterior: Objective) -> Chain:
    """The chain of a file, if it is of this run."""
    parts = stored(file, tuple(Chain.__dataclass_fields__), identity, what="chain")
    scalars = {"position": int(parts["position"]), "has_gauss": int(parts["has_gauss"]), "gauss": float(parts["gauss"])}
    chain = Chain(**{**parts, **scalars})
    again = log_posterior(chain.points[-1])
    apart = np.abs(again - chain.log_posterior[-1]).max()
    if not apart <= _SAME:
        raise CalibrationError(
            f"the chain in {file} has log posterior densities that differ by {apart:.3g} from those of this problem; "
            "resume with the model and version that began it, or name another file"
        )
    return chain
