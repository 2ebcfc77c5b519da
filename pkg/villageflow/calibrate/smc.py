"""Posterior and evidence of a calibration problem by tempered particles, where walkers of one ensemble get stuck.

Particles begin as draws from the prior; the likelihood enters by a power that rises from 0 to 1. What has several modes
or a bent ridge at the end is flat at the start, so that each mode gets its weight while it can still be reached.

References
----------
.. [DelMoral2006] P. Del Moral, A. Doucet and A. Jasra, "Sequential Monte Carlo samplers", Journal of the Royal
   Statistical Society B 68 (2006).
.. [Jasra2011] A. Jasra, D. Stephens, A. Doucet and T. Tsagaris, "Inference for Levy-driven stochastic volatility models
   via adaptive sequential Monte Carlo", Scandinavian Journal of Statistics 38 (2011).
.. [Vehtari2021] A. Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", Bayesian
   Analysis 16 (2021).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from villageflow.calibrate.climb import Objective
from villageflow.calibrate.islands import check_repeats, checked_moves, inference_data, mean_of_logs
from villageflow.calibrate.likelihood import log_likelihood
from villageflow.calibrate.particles import NAMES, Island, advanced, drawn, stacked, unstacked
from villageflow.calibrate.posterior import identity_of, observed, sha256
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.profile import Measured
from villageflow.calibrate.scales import Floats
from villageflow.calibrate.settings import check_declared
from villageflow.calibrate.states import store, stored
from villageflow.errors import CalibrationError

if TYPE_CHECKING:
    from arviz import InferenceData

Progress = Callable[[int, float, float], None]
"""Called with the stages done, the temperature that all islands have reached, and the mean log posterior density."""

ESS_KEPT: Final = 0.5
"""Share of particles that is effective after each rise of the temperature."""
LARGEST_SPREAD: Final = 1.0
"""Standard deviation of the islands' log evidence above which they do not see the same posterior."""

_LOG = logging.getLogger("villageflow")
_SAME: Final = 1e-6
_HALVINGS: Final = 60


def sample_smc(
    problem: Measured,
    *,
    seed: int,
    particles: int = 500,
    islands: int = 8,
    moves: int | None = None,
    resume: str | Path | None = None,
    progress: Progress | None = None,
) -> InferenceData:
    """Sample the posterior of a calibration problem, and compute its evidence, by sequential Monte Carlo.

    Parameters
    ----------
    problem : Problem
        As for `villageflow.calibrate.posterior.sample_posterior`: shared parameters, with the priors of their table.
    seed : int
        Of everything; equal seeds give equal bits.
    particles : int
        Of each island, at least 100 and ten times as many as there are parameters. A mode needs to hold some of them
        in the prior to be found.
    islands : int
        Independent repetitions, at least 2: their scatter is the error of the evidence. The first ones do not move
        when more are asked for.
    moves : int, optional
        Metropolis steps of each particle at each temperature; by default five for each parameter, at least 20.
    resume : path, optional
        ``.npz`` file that holds the particles, written at each temperature. If it is there the run goes on from it,
        with the bits of an uninterrupted run.
    progress : callable, optional
        Called at each temperature with the stages done, the temperature that every island has reached, and the mean
        log posterior density of all particles.

    Returns
    -------
    arviz.InferenceData
        ``posterior`` in natural units: a chain for each island, a draw for each particle, all of equal weight;
        `villageflow.calibrate.posterior.posterior_summary` makes a table of it. ``sample_stats``: ``lp``, the log
        posterior density per transformed unit; ``acceptance``, the share of a particle's last moves accepted; by
        island ``log_evidence``; by island and stage ``temperature``, ``stage_acceptance`` and ``scale``.
        ``observed_data``. Attributes of ``posterior`` (and of the whole): ``log_evidence`` with its standard error
        ``log_evidence_error``, seed, digests, and ``warning``, blank if all is well; of each variable: prior, bounds,
        scale, R-hat, effective sample sizes and autocorrelation time.

    Raises
    ------
    CalibrationError
        A parameter that differs between entities, a model that draws random numbers, a setting out of range, too few
        draws from the prior with a finite density, or a file of another run.

    Notes
    -----
    The target at a temperature is prior times likelihood to that power [DelMoral2006]_. Each island chooses its next
    temperature by bisection so that half of its particles are effective [Jasra2011]_, draws particles again, and moves
    them by a normal random walk with the covariance of its weighted particles. The scale starts at 2.38 over the root
    of the number of parameters and follows the share of accepted moves.

    The evidence is the density of the measurements, of the given comparators, under prior and model: its logarithms
    may be compared between models of the same measurements. It is the mean over islands; the error is that of the mean.
    It holds the priors' widths: a wider prior for what the data do not tell costs evidence. Temperatures and scales
    that follow the particles leave a bias of the order of one over the number of particles. With a centred
    observable, whose likelihood is no density of the measurements, it is NaN.

    Islands have equal weight, so each should be large enough to hold every mode. R-hat [Vehtari2021]_ compares
    islands. Particles of one island that stem from the same particle stand side by side, so autocorrelations along an
    island tell how much they have in common, and effective sample sizes take islands as chains. An R-hat above 1.01,
    fewer than 400 effective draws, moves that are hardly ever accepted and log evidences of islands with a standard
    deviation above 1 are warnings, logged to ``villageflow``. None of them sees a mode that held no particle in any
    island.
    """
    _check_target(problem)
    check_declared(problem, "measurements")
    moves = checked_moves(problem.box.size, seed, particles, islands, moves)
    priors = Priors.of(problem.box, getattr(problem, "parameters", None))
    counts = {"seed": seed, "particles": particles, "islands": islands, "moves": moves}
    identity = identity_of(problem, priors) | {"sampler": "tempered particles"}
    identity |= {name: str(count) for name, count in counts.items()}
    file, score = None if resume is None else Path(resume), _score_of(problem)
    if file is not None and file.exists():
        found = _loaded(file, identity, score)
    else:
        found = drawn(score, priors, Tempering(), islands=islands, particles=particles, seed=seed)
    while not all(island.ended for island in found):
        found = advanced(found, score, priors, Tempering(), moves=moves, seed=seed)
        if file is not None:
            store(file, stacked(found), identity)
        if progress is not None:
            reached = min(float(island.levels[-1]) for island in found)
            density = float(np.mean([island.log_prior + island.score for island in found]))
            progress(len(found[0].levels) - 1, reached, density)
    data = _inference_data(problem, priors, found, counts, identity)
    if said := data["posterior"].attrs["warning"]:
        _LOG.warning("posterior of %s: %s", data["posterior"].attrs["model"] or "the target", said)
    return data


class Tempering:
    """Prior times likelihood to a power that rises to 1; the score is the log likelihood."""

    first, last = 0.0, 1.0

    def following(self, score: Floats, level: float) -> float:
        """The power at which half of the particles are effective, by bisection; always higher."""
        low, high = level, self.last
        if self._effective(score, high - level) >= ESS_KEPT:
            return high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self._effective(score, middle - level) >= ESS_KEPT:
                low = middle
            else:
                high = middle
        return high

    def log_factor(self, score: Floats, level: float) -> Floats:
        """The tempered log likelihood."""
        return level * score

    def _effective(self, score: Floats, rise: float) -> float:
        """Share of the particles that is effective after a rise."""
        weights = np.exp(rise * (score - score.max()))
        return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def _score_of(problem: Measured) -> Objective:
    """Log likelihood of transformed values; minus infinity where the model cannot give the measurements."""

    def score(transformed: Floats) -> Floats:
        terms = log_likelihood(problem, problem.box.from_transformed(transformed), problem.measurements)
        return np.where(np.isfinite(terms), terms, -np.inf)

    return score


def _loaded(file: Path, identity: Mapping[str, str], score: Objective) -> list[Island]:
    islands = unstacked(stored(file, NAMES, identity, what="population"))
    again = score(np.concatenate([island.points for island in islands]))
    apart = np.abs(again - np.concatenate([island.score for island in islands])).max()
    if not apart <= _SAME:
        raise CalibrationError(
            f"the population in {file} has log likelihoods that differ by {apart:.3g} from those of this problem; "
            "resume with the model and version that began it, or name another file"
        )
    return islands


def _check_target(problem: Measured) -> None:
    if (model := getattr(problem, "model", None)) is not None:
        check_repeats(model)
    for name, effect in getattr(problem, "effects", {}).items():
        if effect != "shared":
            raise CalibrationError(
                f"parameter {name!r} has effect {effect!r}; sample_smc takes 'shared' ones: declare it shared, or use "
                "fit_random_effects or fit_fixed_effects"
            )


def _inference_data(
    problem: Measured, priors: Priors, islands: list[Island], counts: Mapping[str, int], identity: Mapping[str, str]
) -> InferenceData:
    logs = np.array([island.log_constants[-1] for island in islands])
    centred = any(item.centred for item in problem.observables)
    log_evidence, error = (math.nan, math.nan) if centred else mean_of_logs(logs)
    faults = []
    if (spread := float(logs.std(ddof=1))) > LARGEST_SPREAD:
        faults = [f"log evidence differs between islands by a standard deviation of {spread:.3g}"]
    model = getattr(problem, "model", None)
    attrs: dict[str, Any] = {
        **counts, "model": "" if model is None else str(model.name), "model_sha256": identity["model"],
        "problem_sha256": sha256(json.dumps(dict(identity))), "sampler": identity["sampler"],
        "log_evidence": log_evidence, "log_evidence_error": error,
    }  # fmt: skip
    lp = np.stack([island.log_prior + island.score for island in islands])
    return inference_data(
        priors, islands, attrs, by_draw={"lp": lp}, constant="log_evidence", level="temperature", faults=faults,
        observed=observed(problem),
    )
