"""Simulation-based calibration: whether a sampler gives the posterior of the model that it was told.

References
----------
.. [Talts2018] S. Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration",
   arXiv:1804.06788 (2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.calibrate.likelihood import log_terms
from villageflow.calibrate.posterior import sampled
from villageflow.calibrate.predict import draw_observations
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.profile import Measured
from villageflow.calibrate.scales import Floats
from villageflow.errors import CalibrationError

_PER_BIN: Final = 5
_MOST_BINS: Final = 20
_TRIES: Final = 1000


@dataclass(frozen=True, eq=False)
class RankStatistics:
    """Ranks of true values among draws from their posterior.

    Attributes
    ----------
    true : DataFrame
        Parameters drawn from the prior, a row for each replication.
    ranks : DataFrame
        How many of the `n_draws` posterior draws are smaller, 0 to `n_draws`; same shape.
    n_draws : int
    uniformity : DataFrame
        By parameter: chi_squared, df and p_value of the test that all ranks are equally likely.
    fewest_effective : float
        Smallest effective sample size of any parameter in any replication; ranks need `n_draws` or more.
    redrawn : int
        Draws from the prior that the model could not run or the noise not take: the prior is that without them.
    """

    true: pd.DataFrame
    ranks: pd.DataFrame
    n_draws: int
    uniformity: pd.DataFrame
    fewest_effective: float
    redrawn: int


def rank_statistics(
    problem: Measured,
    make_problem: Callable[[pd.DataFrame], Measured],
    *,
    n_replications: int,
    seed: int,
    walkers: int = 32,
    steps: int = 2000,
    n_draws: int = 99,
) -> RankStatistics:
    """Draw parameters from the prior, simulate their measurements, sample the posterior, and rank the truth in it.

    Parameters
    ----------
    problem : Problem
        Prior and observation model; of its measurements only the values are replaced.
    make_problem : callable
        The problem with other measurements: ``lambda rows: replace(problem, measurements=rows)``.
    n_replications : int
        At least 10.
    seed : int
        A replication has a stream of its own: the first ones do not move when more are asked for.
    walkers, steps : int
        Of each posterior; see `villageflow.calibrate.posterior.sample_posterior`.
    n_draws : int
        Posterior draws to rank among, evenly spaced over those kept.

    Returns
    -------
    RankStatistics
        Ranks are uniform if prior, likelihood and sampler fit each other [Talts2018]_; this says nothing on whether
        the model fits the world.

    Raises
    ------
    CalibrationError
        Measurements that are bounds, a centred observable, or a prior under which the model cannot run.
    """
    _check(problem, n_replications, n_draws)
    names = list(problem.box.names)
    priors = Priors.of(problem.box, getattr(problem, "parameters", None))
    true, ranks = np.empty((n_replications, len(names))), np.empty((n_replications, len(names)))
    fewest, redrawn = np.inf, 0
    for i in range(n_replications):
        sequence = np.random.SeedSequence(seed, spawn_key=(i,))
        own, rng = int(sequence.generate_state(1)[0]), np.random.default_rng(sequence)
        true[i], rows, tries = _simulated(problem, priors, rng, own)
        redrawn += tries
        data = sampled(make_problem(rows), seed=own, walkers=walkers, steps=steps)
        for j, name in enumerate(names):
            item = data["posterior"][name]
            drawn = item.transpose("draw", "chain").to_numpy().ravel()
            at = np.linspace(0, len(drawn) - 1, n_draws).round().astype(int)
            ranks[i, j] = (drawn[at] < true[i, j]).sum()
            fewest = min(fewest, float(item.attrs["ess_bulk"]))
    table = pd.DataFrame(ranks.astype(int), columns=names)
    return RankStatistics(
        pd.DataFrame(true, columns=names), table, n_draws, uniformity(table, n_draws), fewest, redrawn
    )


def uniformity(ranks: pd.DataFrame, n_draws: int) -> pd.DataFrame:
    """Chi-squared test of equally likely ranks 0 to `n_draws`, with at least 5 expected in each of at most 20 bins.

    Parameters
    ----------
    ranks : DataFrame
        A column for each parameter.
    n_draws : int
        Largest possible rank.

    Returns
    -------
    DataFrame
        By parameter: chi_squared, df, p_value.
    """
    most = min(_MOST_BINS, max(2, len(ranks) // _PER_BIN), n_draws + 1)
    edges = np.floor(np.linspace(0, n_draws + 1, most + 1))
    expected = np.diff(edges) / (n_draws + 1) * len(ranks)
    rows = []
    for name in ranks.columns:
        found = stats.chisquare(np.histogram(ranks[name], edges - 0.5)[0], expected)
        rows.append({"chi_squared": float(found.statistic), "df": most - 1, "p_value": float(found.pvalue)})
    return pd.DataFrame(rows, index=pd.Index(ranks.columns, name="parameter"))


def _simulated(
    problem: Measured, priors: Priors, rng: np.random.Generator, seed: int
) -> tuple[Floats, pd.DataFrame, int]:
    """Parameters from the prior, the measurements they give, and how many parameters were drawn in vain."""
    rows = problem.measurements
    for tries in range(_TRIES):
        values = priors.draw(rng, 1)
        locations = problem.locations(values, rows)
        if not np.isfinite(log_terms(problem, values, rows, locations)).all():  # a location outside the support
            continue
        drawn = draw_observations(problem, values, rows, locations, seed)[0]
        found = rows.assign(value=drawn)
        if "source_id" in rows.columns:
            found["source_id"] = [f"replication {seed} row {i}" for i in range(len(rows))]
        return values[0], found, tries
    raise CalibrationError(
        f"none of {_TRIES} draws from the prior gives a run within the support of the noise; narrow the prior"
    )


def _check(problem: Measured, n_replications: int, n_draws: int) -> None:
    if n_replications < 10:
        raise CalibrationError(f"n_replications is {n_replications}; ranks need at least 10, better some hundreds")
    if n_draws < 9:
        raise CalibrationError(f"n_draws is {n_draws}; ranks need at least 9 posterior draws")
    if (problem.measurements["comparator"] != "=").any():
        raise CalibrationError("a bound cannot be simulated; keep rows with comparator '=' to rank parameters")
    for item in problem.observables:
        if item.centred:
            raise CalibrationError(
                f"observable {item.name!r} is centred, and its likelihood is no density of the measurements; rank a "
                "problem with centred off"
            )
