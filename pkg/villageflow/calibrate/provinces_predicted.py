"""What the fit of the provinces predicts: counts held out, national totals, and what they owe to fixed constants.

Predictions are draws: parameters from the normal approximation with the clustered covariance, then the effect of each
province given its fitted counts and these parameters, then counts. They hold neither the error of the structure, of
demand and of changes of rules nor shocks common to provinces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from villageflow.calibrate.likelihood import NOISE
from villageflow.calibrate.marginal import RandomModel, entity_marginals, from_scale
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.provinces import (
    FIXED_ONES,
    LAST_FITTED,
    LISTED_AT,
    SIZE,
    fit_provinces,
    held_climb,
    numerics,
    profile_table,
    provincial_measurements,
    provincial_model,
    provincial_problem,
    verdict,
)
from villageflow.calibrate.randomeffects import RandomEffectsResult
from villageflow.calibrate.scales import Floats
from villageflow.datasets.panel import table
from villageflow.errors import CalibrationError

N_DRAWS: Final = 400
LEVELS: Final = (0.05, 0.5, 0.95)
METHODS: Final = ("model", "last_value", "growth", "trend")
_GRID: Final = np.linspace(-8.0, 8.0, 65)
"""Of an effect around its mode, in conditional standard deviations."""
_FEW_DRAWS: Final = 100


@dataclass(frozen=True, eq=False)
class ProvincialFit:
    """The fit of the provinces with what it predicts.

    Attributes
    ----------
    problem : Problem
    result : RandomEffectsResult
    numerics : Series
        Log likelihood at the estimate by number of nodes, and with half the step.
    profiles, sensitivity, holdout, totals, skill : DataFrame
        As `profile_table`, `sensitivity_table`, `holdout_table`, `totals_table`, `skill_table`.
    """

    problem: Problem
    result: RandomEffectsResult
    numerics: pd.Series[float]
    profiles: pd.DataFrame
    sensitivity: pd.DataFrame
    holdout: pd.DataFrame
    totals: pd.DataFrame
    skill: pd.DataFrame


def provincial_fit(seed: int, *, starts: int = 20, n_draws: int = N_DRAWS) -> ProvincialFit:
    """Fit the provinces, profile the fit and score its predictions.

    Parameters
    ----------
    seed : int
        Of the starts and the draws; equal seeds give equal results.
    starts : int
        Latin hypercube starts, at least 20.
    n_draws : int
        Draws of parameters and effects behind the predictions.

    Returns
    -------
    ProvincialFit
    """
    problem = provincial_problem()
    result = fit_provinces(problem, seed=seed, starts=starts)
    predictions = predict_counts(problem, result, n_draws=n_draws, seed=seed)
    holdout, totals = holdout_table(predictions, problem), totals_table(predictions)
    return ProvincialFit(
        problem, result, numerics(problem, result), profile_table(problem, result),
        sensitivity_table(problem, result, seed=seed), holdout, totals, skill_table(holdout, totals),
    )


@dataclass(frozen=True, eq=False)
class Predictions:
    """Draws of the counts of all provinces, given the counts that were fitted.

    Attributes
    ----------
    provinces : tuple of str
    years : tuple of int
    size : (D,) array
        Negative binomial size.
    means : (D, years, provinces) array
        What the model gives.
    counts : (D, years, provinces) array
        One count for each, errors independent.
    """

    provinces: tuple[str, ...]
    years: tuple[int, ...]
    size: Floats
    means: Floats
    counts: Floats


def predict_counts(
    problem: Problem, result: RandomEffectsResult, *, n_draws: int = N_DRAWS, seed: int, last: int = 2022
) -> Predictions:
    """Counts of all provinces from 2014 on, with the uncertainty of parameters, effects and observations.

    Parameters
    ----------
    problem : Problem
        As `provincial_problem` makes it.
    result : RandomEffectsResult
        Its fit.
    n_draws : int
        Draws of the parameters, from the normal approximation with the clustered covariance; for each one draw of every
        effect from its distribution given the fitted counts and these parameters, taken on a grid, not as normal.
    seed : int
        Of the draws.
    last : int
        Last year.

    Returns
    -------
    Predictions

    Raises
    ------
    CalibrationError
        If a parameter of the fit lies at a bound, where it has no covariance.
    """
    if result.at_bound:
        raise CalibrationError(
            f"{result.at_bound[0]} is at a bound and has no covariance to draw from; widen its bounds or fix it"
        )
    model, rng = provincial_model(problem), np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    root = np.linalg.cholesky(result.transformed_clustered_cov.to_numpy(dtype=float))
    centre = model.box.transformed(np.asarray(result.params, dtype=np.float64))
    theta = model.box.from_transformed(centre + rng.standard_normal((n_draws, len(centre))) @ root.T)
    values = draw_values(model, theta, rng)
    years = tuple(range(2014, last + 1))
    means = _means(problem, values, years)
    size = theta[:, model.box.names.index(SIZE)]
    counts = NOISE["negbinomial"].draw(rng, means, size[:, None, None])
    return Predictions(problem.entities, years, size, means, counts)


def _means(problem: Problem, values: Floats, years: Sequence[int]) -> Floats:
    """What the model gives for parameters of every province, (D, E, p) to (D, years, E)."""
    provinces = problem.entities
    rows = pd.DataFrame({
        "entity": list(provinces) * len(years), "time": np.repeat(years, len(provinces)) + LISTED_AT,
        "observable": "provincial_list",
    })
    return problem.locations(values, rows).reshape(len(values), len(years), len(provinces))


def draw_values(model: RandomModel, theta: Floats, rng: np.random.Generator) -> Floats:
    """Parameters of every province, (D, E, p): shared ones as drawn, the random one given the province's counts."""
    target, j = model.target, int(model.positions[0])
    found = entity_marginals(model, theta, nodes=1)
    mode, spread = found.effects[0], np.sqrt(found.covariance[0, 0])
    centre = model.locations(theta)[0]
    n_draws, n_entities = mode.shape
    grid = mode[:, None, :] + _GRID[:, None] * spread[:, None, :]
    values = np.tile(theta[:, None, None, :target.box.size], (1, len(_GRID), n_entities, 1))
    values[..., j] = from_scale(target.box.scales[j], centre[:, None, :] + grid)
    flat = values.reshape(-1, n_entities, target.box.size)
    density = target.entity_log_likelihood(flat).reshape(grid.shape)
    density -= 0.5 * (grid / theta[:, model.deviations][:, :, None]) ** 2
    weight = np.cumsum(np.exp(density - density.max(axis=1, keepdims=True)), axis=1)
    below = weight < rng.random((n_draws, 1, n_entities)) * weight[:, -1:, :]
    cell = _GRID[below.sum(axis=1)] + (rng.random((n_draws, n_entities)) - 0.5) * (_GRID[1] - _GRID[0])
    drawn = values[:, 0].copy()
    drawn[..., j] = from_scale(target.box.scales[j], centre + mode + cell * spread)
    return drawn


def holdout_table(predictions: Predictions, problem: Problem) -> pd.DataFrame:
    """Predictions of the counts held out, beside those of three rules that need no model.

    Parameters
    ----------
    predictions : Predictions
        Of the fit of the problem.
    problem : Problem
        As `provincial_problem` makes it.

    Returns
    -------
    DataFrame
        province, year, observed; ``model`` (median), its 90 % interval ``low`` and ``high`` and whether it covers; what
        the rules of `rules` give; log score of each, for the rules negative binomial with the median size of the
        fit.
    """
    rows, size = problem.holdout, np.array([np.median(predictions.size)])
    fitted = problem.measurements.pivot(index="time", columns="entity", values="value")
    found = []
    for row in rows.to_dict("records"):
        year, observed = int(row["time"]), np.array([row["value"]])
        t, i = predictions.years.index(year), predictions.provinces.index(row["entity"])
        low, middle, high = np.quantile(predictions.counts[:, t, i], LEVELS)
        terms = _log_probability(observed, predictions.means[:, t, i], predictions.size)
        simple = rules(fitted[row["entity"]].to_numpy(), year)
        scores = {name: float(_log_probability(observed, np.array([at]), size)[0]) for name, at in simple.items()}
        scores["model"] = float(logsumexp(terms) - np.log(len(terms)))
        found.append({
            "province": row["entity"], "year": year, "observed": row["value"], "low": low, "high": high,
            "covered": bool(low <= row["value"] <= high), "model": middle, **simple,
            **{f"{name}_score": scores[name] for name in METHODS},
        })
    return pd.DataFrame(found)


def _log_probability(observed: Floats, mean: Floats, size: Floats) -> Floats:
    return NOISE["negbinomial"].log_density(observed, mean, size)


def rules(fitted: Floats, year: int) -> dict[str, float]:
    """What three rules make of the counts of 2014 to 2016.

    Parameters
    ----------
    fitted : (3,) array
        Counts of 2014, 2015 and 2016.
    year : int
        To predict, after 2016.

    Returns
    -------
    dict
        ``last_value``; ``growth``, the last ratio again each year; ``trend``, the last addition again each year.
    """
    before, last, ahead = float(fitted[-2]), float(fitted[-1]), year - LAST_FITTED
    return {"last_value": last, "growth": last * (last / before) ** ahead, "trend": last + (last - before) * ahead}


def totals_table(predictions: Predictions) -> pd.DataFrame:
    """Sums over provinces beside the national counts and the known sums of provinces without a count of their own.

    Parameters
    ----------
    predictions : Predictions
        From 2014 on.

    Returns
    -------
    DataFrame
        area (``CHINA``, or ``REST``: the nation less the provinces known one by one), year, ``fitted`` (whether the
        counts behind the sum were), observed, ``low``, ``high`` (90 %), ``covered``, ``model`` (median), its error in
        per cent of the observed and, where nothing was fitted, what `rules` gives.
    """
    known, years = provincial_measurements(), predictions.years
    nation = table("villages_area_year").query("area_kind == 'nation' and variable == 'taobao_villages'")
    national = nation.set_index("year")["value"]
    everyone = np.ones(len(predictions.provinces), dtype=bool)
    areas = [("CHINA", year, everyone, float(national[year])) for year in years]
    later = known[known["time"] > LAST_FITTED + 1]
    for time in np.unique(later["time"]):
        rows, year = later[later["time"] == time], int(time)
        rest = ~np.isin(predictions.provinces, rows["entity"])
        areas.append(("REST", year, rest, float(national[year] - rows["value"].sum())))
    found = []
    for area, year, chosen, value in areas:
        drawn = predictions.counts[:, years.index(year), chosen].sum(axis=1)
        low, middle, high = np.quantile(drawn, LEVELS)
        counted = known[known["entity"].isin(np.array(predictions.provinces)[chosen])].groupby("time")["value"].sum()
        found.append({
            "area": area, "year": year, "fitted": year <= LAST_FITTED, "observed": value, "low": low, "high": high,
            "covered": bool(low <= value <= high), "model": middle, "error_percent": 100 * (middle / value - 1),
            **(rules(counted.to_numpy()[:3], year) if year > LAST_FITTED else {}),
        })
    return pd.DataFrame(found)


def skill_table(holdout: pd.DataFrame, totals: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error in per cent of model and rules, and their log scores on the provinces.

    Parameters
    ----------
    holdout : DataFrame
        As `holdout_table`.
    totals : DataFrame
        As `totals_table`.

    Returns
    -------
    DataFrame
        Indexed by `METHODS`: error over the provinces in 2018, their log score in 2018, error over the national totals
        from 2017 on.
    """
    six = holdout[holdout["year"] == holdout["year"].max()]
    nation = totals[(totals["area"] == "CHINA") & ~totals["fitted"]]
    rows = {}
    for name in METHODS:
        rows[name] = {
            "provinces_error": float((100 * (six[name] / six["observed"] - 1)).abs().mean()),
            "provinces_log_score": float(six[f"{name}_score"].sum()),
            "nation_error": float((100 * (nation[name] / nation["observed"] - 1)).abs().mean()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def sensitivity_table(problem: Problem, result: RandomEffectsResult, *, seed: int) -> pd.DataFrame:
    """What the fit and the predictions owe to constants that are fixed.

    Parameters
    ----------
    problem : Problem
        As `provincial_problem` makes it.
    result : RandomEffectsResult
        Its fit.
    seed : int
        Of the draws of the effects.

    Returns
    -------
    DataFrame
        parameter; value, those of `FIXED_ONES` and, in between, the fixed one; ``gain`` of log likelihood over the fit
        with all free parameters optimised again; ``verdict``, as `verdict`; ``total_2018`` and ``total_2022``, medians
        of the national total over draws of the effects at these parameters, without noise.
    """
    params, parts = result.params.to_numpy(dtype=float), []
    for name, (_, _, tried) in FIXED_ONES.items():
        wider = provincial_problem(also_free=name)
        model = provincial_model(wider)
        j, values = model.box.names.index(name), np.sort(np.append(tried, problem.model.constants[name]))
        lanes, logliks = held_climb(
            model, np.insert(np.tile(params, (len(values), 1)), j, values, axis=1), np.full(len(values), j)
        )
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, j)))
        drawn = [draw_values(model, np.tile(lane, (_FEW_DRAWS, 1)), rng) for lane in lanes]
        totals = np.array([np.median(_means(wider, each, (2018, 2022)).sum(axis=2), axis=0) for each in drawn])
        gain = logliks - result.loglik
        parts.append(pd.DataFrame({
            "parameter": name, "value": values, "gain": gain, "verdict": verdict(gain), "total_2018": totals[:, 0],
            "total_2022": totals[:, 1],
        }))
    return pd.concat(parts, ignore_index=True)
