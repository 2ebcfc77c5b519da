"""Posterior under facts that are only bounds or orders: draws from the prior given that a run agrees with every fact.

Where few draws from the prior agree, `villageflow.calibrate.history.history_match` has few to show. Here particles go
there by themselves: the implausibility that is let through falls step by step until the worst fact is met.

References
----------
.. [Beaumont2009] M. Beaumont, J.-M. Cornuet, J.-M. Marin and C. Robert, "Adaptive approximate Bayesian computation",
   Biometrika 96 (2009).
.. [DelMoral2012] P. Del Moral, A. Doucet and A. Jasra, "An adaptive sequential Monte Carlo method for approximate
   Bayesian computation", Statistics and Computing 22 (2012).
.. [Au2001] S. K. Au and J. Beck, "Estimation of small failure probabilities in high dimensions by subset simulation",
   Probabilistic Engineering Mechanics 16 (2001).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from villageflow.calibrate.facts import Fact, check_times, facts_of, statistic_of, variables_of
from villageflow.calibrate.islands import check_repeats, checked_moves, inference_data, mean_of_logs
from villageflow.calibrate.particles import Island, advanced, drawn
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.scales import Box, Floats
from villageflow.ensemble.design import Design, check_model, units_of
from villageflow.ensemble.schema import FINISHED, STATUS
from villageflow.ensemble.simulate import simulate, time_grid
from villageflow.errors import CalibrationError
from villageflow.ir.model import Model

if TYPE_CHECKING:
    from arviz import InferenceData

ISLANDS: Final = 8
KEPT: Final = 0.5
"""Share of particles that each fall of the tolerance lets through."""
STALLED: Final = 0.01
"""The tolerance stops where the best particle is closer to it than this share of its distance from 1."""
QUANTILES: Final = (0.05, 0.5, 0.95)

_LOG = logging.getLogger("villageflow")
_HELD: Final = 0.5


@dataclass(frozen=True, eq=False)
class ApproximateMatch:
    """Draws from the prior given the facts, or how near they can come.

    Attributes
    ----------
    facts : tuple of Fact
    data : arviz.InferenceData
        ``posterior`` in natural units, a chain for each island; `villageflow.calibrate.posterior.posterior_summary`
        makes a table of it. ``sample_stats``: ``implausibility`` of the worst condition and ``acceptance`` of the last
        moves by draw; ``tolerance``, ``stage_acceptance`` and ``scale`` by island and stage; ``log_share`` by island.
    statistics, implausibility : DataFrame
        A column for each fact, checks too, a row for each draw, island after island.
    schedule : DataFrame
        By stage: mean over islands of the tolerance, of the share of the prior within it, and of accepted moves.
    by_fact : DataFrame
        For each fact: bounds, use, share of draws that agree, median and largest implausibility of the draws,
        quantiles of the statistic; of conditions ``least``, the smallest implausibility that any run had (also when
        it is the only condition, if the facts cannot be met), and ``least_others``, the smallest that all other
        conditions together had: at most 1 if a run met them all.
    share, std_error : float
        Share of the prior within the last tolerance, and its Monte Carlo standard error; an island that stopped
        above 1 while others did not counts as 0 and has no draws.
    stopped_by : tuple of str
        The facts that hold the tolerance above 1; empty if every draw agrees with every condition.
    inputs : dict
        Model, by digest, and settings.
    """

    facts: tuple[Fact, ...]
    data: InferenceData
    statistics: pd.DataFrame
    implausibility: pd.DataFrame
    schedule: pd.DataFrame
    by_fact: pd.DataFrame
    share: float
    std_error: float
    stopped_by: tuple[str, ...]
    inputs: dict[str, Any]

    def __repr__(self) -> str:
        met = "agree with every fact" if not self.stopped_by else f"come within {self.tolerance:.4g}"
        return (
            f"<villageflow.ApproximateMatch: {self.inputs['model']}, {len(self.implausibility)} draws {met}, "
            f"{self.share:.3g} of the prior; see summary()>"
        )

    @property
    def tolerance(self) -> float:
        """Implausibility within which all draws are; 1 if they agree with every condition."""
        return float(self.data["sample_stats"]["tolerance"][:, -1].max())

    def retained(self) -> Design:
        """The draws as a design.

        Raises
        ------
        CalibrationError
            If the facts cannot be met: nothing is widened.
        """
        if self.stopped_by:
            raise CalibrationError(f"no draw agrees with every fact. {self.nearest()}")
        posterior = self.data["posterior"]
        table = pd.DataFrame({str(name): posterior[name].to_numpy().ravel() for name in posterior.data_vars})
        kind = f"{len(table)} draws given {sum(fact.condition for fact in self.facts)} facts"
        return Design(table, seed=self.inputs["seed"], kind=kind, units=self.inputs["units"])

    def nearest(self) -> str:
        """Which facts hold the tolerance above 1, and how; blank if none does."""
        if not self.stopped_by:
            return ""
        names, least = ", ".join(self.stopped_by), self.by_fact["least"]
        if least[list(self.stopped_by)].max() > 1:
            each = ", ".join(f"{name} {least[name]:.3g}" for name in self.stopped_by)
            why = f"no run meets {names}: smallest implausibility {each} (1 = at the bound)"
        elif len(self.stopped_by) == 1:
            why = f"{names} is met by some runs, but not by any that meets the others"
        else:
            why = f"{names} are met each by some runs, but not together"
        return (
            f"The tolerance stops at {self.tolerance:.4g}, above 1: {why}. Reconsider the model, the prior or the facts"
        )

    def summary(self) -> str:
        """The finding in words, the schedule and a table of the facts."""
        lines = [
            f"Approximate Bayesian computation of {self.inputs['model']}: {len(self.implausibility)} draws, tolerance "
            f"{self.tolerance:.4g} after {len(self.schedule) - 1} stages; {self.share:.3g} ± {self.std_error:.1g} of "
            "the prior is within",
            *filter(None, [self.nearest(), self.data["posterior"].attrs["warning"]]),
        ]
        shown = ["use", "lower", "upper", "agree", "median_implausible", "least", "least_others", "median"]
        with pd.option_context("display.width", 160, "display.max_columns", 20, "display.max_rows", 200):
            lines += [str(self.schedule.round(4)), str(self.by_fact[shown].round(3))]
        return "\n".join(lines)


def sample_approximate(
    model: Model,
    parameters: pd.DataFrame,
    facts: Sequence[Fact] | pd.DataFrame,
    *,
    seed: int,
    particles: int = 500,
    moves: int | None = None,
    time_step: float | None = None,
    n_threads: int | None = None,
) -> ApproximateMatch:
    """Draw from the prior of the parameters given that the run agrees with every fact.

    Parameters
    ----------
    model : Model
        What to run.
    parameters : DataFrame
        Priors, as in ``parameters.csv``: name, scale, lower, mode, upper, distribution; flat on the scale without a
        distribution. See docs/tables.md.
    facts : sequence of Fact, or DataFrame
        As for `villageflow.calibrate.history.history_match`: conditions decide, checks are only compared.
    seed : int
        Of everything; equal seeds give equal bits.
    particles : int
        Of each of the 8 islands, at least 100 and ten times as many as there are parameters.
    moves : int, optional
        Metropolis steps of each particle at each tolerance; by default five for each parameter, at least 20.
    time_step : float, optional
        Default the model's own.
    n_threads : int, optional
        Default all processors; does not move a bit of the result.

    Returns
    -------
    ApproximateMatch
        Also when the facts cannot be met: then `stopped_by` names those in the way, and a warning is logged to
        ``villageflow``.

    Raises
    ------
    CalibrationError
        Facts that do not fit the model, a model that draws random numbers, a setting out of range, a prior without a
        density, or one of which too few draws have a finite implausibility of every condition.

    Notes
    -----
    The distance is the implausibility of the worst condition, as facts.csv scales it. Each island sets its tolerance so
    that half of its particles are within it, but not below 1, draws particles again and moves them by a random walk
    that stays within it [DelMoral2012]_; the weights of [Beaumont2009]_ are not needed as moves leave the target as it
    is. At 1 nothing is approximate: the draws are those that `history_match` retains, and the product of the shares let
    through estimates the share that it would retain [Au2001]_. The tolerance stops above 1 where the best particle is
    no nearer to 1 than it, by 1 %. A region of agreement that no particle came near is not found.
    """
    check_model(model)
    check_repeats(model)
    priors = Priors.of(Box.from_table(parameters), parameters)
    moves = checked_moves(priors.box.size, seed, particles, ISLANDS, moves)
    known = facts_of(facts, model) if isinstance(facts, pd.DataFrame) else tuple(facts)
    times = time_grid(model, time_step=time_step).save_times()
    for fact in known:
        check_times(fact, times)
    runs = _Runs(model, priors.box, known, units_of(parameters), time_step, n_threads)
    islands = _tightened(runs, priors, seed, particles, moves)
    if not any(island.levels[-1] <= Tightening.last for island in islands):
        runs.alone(lambda one: _tightened(one, priors, seed, particles, moves))
    found = _match(runs, priors, islands, {"seed": seed, "particles": particles, "moves": moves})
    for said in filter(None, [found.nearest(), found.data["posterior"].attrs["warning"]]):
        _LOG.warning("facts of %s: %s", model.name, said)
    return found


def _tightened(runs: _Runs, priors: Priors, seed: int, particles: int, moves: int) -> list[Island]:
    """Islands at the last tolerance that they reach."""
    try:
        islands = drawn(runs.worst, priors, Tightening(), islands=ISLANDS, particles=particles, seed=seed)
    except CalibrationError as error:
        raise CalibrationError(f"{error} ({runs.never()})") from None
    while not all(island.ended for island in islands):
        islands = advanced(islands, runs.worst, priors, Tightening(), moves=moves, seed=seed)
    return islands


class Tightening:
    """Prior within a tolerance that falls to 1; the score is the implausibility of the worst condition."""

    first, last = np.inf, 1.0

    def following(self, score: Floats, level: float) -> float:
        """The median of the particles, but not below 1; the same tolerance where they come no nearer."""
        if level - score.min() < STALLED * (level - self.last):
            return level
        nearer = score[score < level]
        return max(self.last, min(float(np.quantile(score, KEPT, method="lower")), float(nearer.max())))

    def log_factor(self, score: Floats, level: float) -> Floats:
        """Zero within the tolerance, minus infinity beyond."""
        return np.asarray(np.where(score <= level, 0.0, -np.inf))


@dataclass(eq=False)
class _Runs:
    """Runs the model, and keeps how near to each condition any run has come."""

    model: Model
    box: Box
    facts: tuple[Fact, ...]
    units: Mapping[str, str]
    time_step: float | None
    n_threads: int | None
    least: Floats = field(init=False)
    least_others: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.conditions = tuple(fact for fact in self.facts if fact.condition)
        self.least, self.least_others = np.full((2, len(self.conditions)), np.inf)

    def worst(self, transformed: Floats) -> Floats:
        """Implausibility of the worst condition."""
        _, found = self.compared(transformed, self.conditions)
        ranked = np.argsort(found, axis=1)
        worst: Floats = found.max(axis=1)
        others = np.tile(worst[:, None], found.shape[1])
        rows = np.arange(len(found))
        others[rows, ranked[:, -1]] = found[rows, ranked[:, -2]] if found.shape[1] > 1 else 0.0
        self.least = np.minimum(self.least, found.min(axis=0))
        self.least_others = np.minimum(self.least_others, others.min(axis=0))
        return worst

    def compared(self, transformed: Floats, facts: Sequence[Fact]) -> tuple[Floats, Floats]:
        """Statistics and implausibility, (n, facts); of a run that did not stay finite NaN and infinite."""
        table = pd.DataFrame(self.box.from_transformed(transformed), columns=list(self.box.names))
        result = simulate(
            self.model, Design(table, units=self.units), save=variables_of(facts), time_step=self.time_step,
            final_time=max(fact.to_time for fact in facts), errors="flag", n_threads=self.n_threads,
        )
        failed = result[STATUS].to_numpy() != FINISHED
        statistics = np.stack([np.where(failed, np.nan, statistic_of(fact, result)) for fact in facts], axis=1)
        each = [fact.implausibility(values) for fact, values in zip(facts, statistics.T, strict=True)]
        return statistics, np.stack(each, axis=1)

    def alone(self, approach: Callable[[_Runs], object]) -> None:
        """Go for each condition that no run has met as if it were the only one, to know how near it can come."""
        for i in np.flatnonzero(self.least > Tightening.last):
            one = replace(self, facts=(self.conditions[i],))
            approach(one)
            self.least[i] = min(self.least[i], one.least[0])

    def never(self) -> str:
        """What is in the way of a finite implausibility."""
        names = [fact.fact_id for fact, least in zip(self.conditions, self.least, strict=True) if np.isinf(least)]
        return f"no run has a finite {', '.join(names)}" if names else "no condition alone is in the way"


def _match(runs: _Runs, priors: Priors, islands: list[Island], settings: Mapping[str, Any]) -> ApproximateMatch:
    facts, names = runs.facts, [fact.fact_id for fact in runs.facts]
    logs, faults = np.array([island.log_constants[-1] for island in islands]), []
    met = np.array([island.levels[-1] <= Tightening.last for island in islands])
    if met.any() and not met.all():
        stopped = max(float(island.levels[-1]) for island in islands)
        faults = [f"{(~met).sum()} of {len(met)} islands stopped at tolerances of up to {stopped:.4g} and are left out"]
        if met.sum() == 1:
            raise CalibrationError(f"{faults[0]}; one island is too few to compare: take more particles or more moves")
        logs[~met] = -np.inf
        islands = [island for island, meets in zip(islands, met, strict=True) if meets]
    statistics, implausibility = (
        pd.DataFrame(found, columns=names)
        for found in runs.compared(np.concatenate([island.points for island in islands]), facts)
    )
    log_share, error = mean_of_logs(logs)
    attrs = {
        **settings, "model": runs.model.name, "model_sha256": runs.model.digest,
        "sampler": "particles within a falling tolerance", "log_share": log_share, "log_share_error": error,
    }  # fmt: skip
    by_fact = _by_fact(runs, statistics, implausibility)
    tolerance = max(float(island.levels[-1]) for island in islands)
    levels, constants, acceptance = (
        np.stack([getattr(island, name) for island in islands]) for name in ("levels", "log_constants", "acceptance")
    )
    going = np.isfinite(acceptance)
    schedule = pd.DataFrame({
        "tolerance": levels.mean(axis=0),
        "share": np.exp(constants).mean(axis=0),
        "acceptance": np.where(going, acceptance, 0).sum(axis=0) / np.maximum(going.sum(axis=0), 1),
    })
    schedule.loc[~going.any(axis=0), "acceptance"] = np.nan
    schedule.index.name = "stage"
    worst = {"implausibility": np.stack([island.score for island in islands])}
    data = inference_data(
        priors, islands, attrs, by_draw=worst, constant="log_share", level="tolerance", faults=faults
    )
    return ApproximateMatch(
        facts=facts, data=data, statistics=statistics,
        implausibility=implausibility, schedule=schedule, by_fact=by_fact, share=float(np.exp(log_share)),
        std_error=float(np.exp(log_share) * error),
        stopped_by=_stopped_by(by_fact, implausibility, tolerance) if tolerance > 1 else (),
        inputs={"model": runs.model.name, "model_sha256": runs.model.digest, "units": dict(runs.units), **settings},
    )


def _by_fact(runs: _Runs, statistics: pd.DataFrame, implausibility: pd.DataFrame) -> pd.DataFrame:
    near = {
        fact.fact_id: {"least": float(least), "least_others": float(others)}
        for fact, least, others in zip(runs.conditions, runs.least, runs.least_others, strict=True)
    }
    rows = []
    for fact in runs.facts:
        own, found = implausibility[fact.fact_id], statistics[fact.fact_id]
        levels = np.quantile(found, QUANTILES, method="lower")
        rows.append({
            "fact_id": fact.fact_id, "use": "condition" if fact.condition else "check", "variable": fact.variable,
            "statistic": fact.statistic, "unit": fact.unit, "lower": fact.lower, "upper": fact.upper,
            "agree": float((own <= 1).mean()), "median_implausible": float(own.median()),
            "largest_implausible": float(own.max()),
            **near.get(fact.fact_id, {"least": np.nan, "least_others": np.nan}),
            **dict(zip(("q05", "median", "q95"), levels.tolist(), strict=True)),
        })
    return pd.DataFrame(rows).set_index("fact_id")


def _stopped_by(by_fact: pd.DataFrame, implausibility: pd.DataFrame, tolerance: float) -> tuple[str, ...]:
    """Conditions that no run meets; if there are none, those that press against the tolerance in most draws."""
    conditions = by_fact[by_fact["use"] == "condition"]
    never = conditions.index[conditions["least"] > 1]
    if len(never):
        return tuple(map(str, never))
    pressed = implausibility[conditions.index].median() >= 1 + _HELD * (tolerance - 1)
    worst = implausibility[conditions.index].idxmax(axis=1).value_counts().index[0]
    return tuple(str(name) for name in conditions.index if pressed[name] or name == worst)
