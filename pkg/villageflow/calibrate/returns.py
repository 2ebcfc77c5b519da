"""Rural population of the provinces as a calibration problem: what is measured when, and with what error.

The observation model, and why
------------------------------
* **What and when.** Residents of rural places at the end of a year; the end of 2011 is time 2012. The statistical
  office derives them from yearly sample surveys and fits the series to the censuses of 2010 and 2020, so neighbouring
  *levels* share their error. What is fitted is therefore the log growth from one year's end to the next
  (``form="growth"``), for which independent errors are nearer the truth, and intervals are clustered by province.
  ``form="levels"`` takes the same counts as levels, to show what that does to the errors; the two are never one fit.
* **The start** of each province is its own count of 2011, a covariate, which is not measured again.
* **Normal errors of growth.** Their tails are heavier than normal (Shanghai +6.6 per cent in 2015); with a sandwich the
  normal is a quasi-likelihood, consistent for the mean, and a heavier-tailed family would weigh provinces by how smooth
  their series is.
* **The census.** The series to 2019 is the revised one that runs into the census, so its total does not jump in 2020,
  but single provinces do (Hubei -5.9, Guangdong -4.6, Zhejiang -0.7 per cent), and the pandemic is in the same year.
  The growth from 2019 to 2020 is left out: the series is split there. ``census=True`` fits it too.
* **Held out** are 2021 and 2022. Later years come from another export and from another formula, and are not used.
* **Net growth is not migration.** It holds births less deaths, places that are counted as urban from one year to the
  next although nobody moves, and moves between provinces. The leaving propensity is the sum of what it has to be.
* **Income** is urban over rural disposable income per head of the year before, relative to its geometric mean over
  provinces in that year. Definitions changed in 2010-12 and in 2015 for all provinces; relative to the mean such a jump
  drops out, and with it the common fall of the ratio, which a panel of one nation cannot tell from other trends.
* **Listed villages** are known for every province in the rosters of 2014 to 2016 alone. ``exposure="roster"`` takes the
  roster of 2016 as a lasting mark of a province from 2015 on: it says which provinces are exposed, not how many
  villages they had in later years. ``exposure="yearly"`` uses each roster in the year after it and nothing else, so
  that only growth of 2015, 2016 and 2017 is measured.
* **Those away** are not measured by province. They start at the nation's share of migrant workers outside their
  township (2011), and ``settling`` keeps their total near the national survey to 2017; both are assumed to be alike
  everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from villageflow import library
from villageflow.calibrate.fit import cluster, fit
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.profile import profile
from villageflow.calibrate.randomeffects import RandomEffectsResult, fit_random_effects
from villageflow.calibrate.scales import Floats
from villageflow.datasets.panel import table
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.ir.model import Model

FIRST: Final = 2011
LAST_FITTED: Final = 2019
LAST: Final = 2022
CENSUS: Final = 2020
ROSTERS: Final = (2014, 2015, 2016)
_DIGITS: Final = 9
_FORMS: Final = {
    "growth": Observable("growth", "rural growth", "net_flow", "normal", "growth_error", "dmnl"),
    "levels": Observable("rural_population", "rural population", "level", "lognormal", "level_error", "person"),
}
_EXPOSURES: Final = ("roster", "yearly")
_RANGES: Final = (
    ("leaving_propensity", "1/Year", "log", 0.002, 0.3, "modelmap 3.1, widened: all that makes places urban is in it"),
    ("income_pull", "dmnl", "lin", -20.0, 20.0, "assumed: either sign, ten times the range of village_cluster"),
    ("village_pull", "dmnl", "lin", -3.0, 3.0, "assumed: either sign"),
    ("return_propensity", "1/Year", "log", 0.02, 2.0, "modelmap 3.1, widened"),
    ("reference_home_share", "dmnl", "logit", 0.01, 0.6, "assumed: the logit of village_cluster at 0.37 gives 0.14"),
    ("settling", "1/Year", "log", 0.005, 0.5, "assumed: half of those away settle within 1.4 to 140 years"),
    ("natural_increase", "1/Year", "lin", -0.02, 0.03, "assumed: from deaths of old places to births of young ones"),
    ("growth_error", "dmnl", "log", 0.001, 0.2, "estimated: standard deviation"),
    ("level_error", "dmnl", "log", 0.001, 0.5, "estimated: standard deviation of the logarithm"),
)
NET: Final = ("leaving_propensity", "income_pull", "village_pull")
HAZARDS: Final = (*NET, "return_propensity", "reference_home_share", "settling", "natural_increase")
_YARDSTICK: Final = "own mean growth"
_NEITHER: Final = ", without both"
_WITHOUT: Final = {
    "": (), ", without income": ("income_pull",), ", without villages": ("village_pull",),
    _NEITHER: ("income_pull", "village_pull"),
}
_ALTERNATIVES: Final = {
    "return_propensity": (0.1, 0.35, 0.7), "reference_home_share": (0.07, 0.28), "settling": (0.03, 0.18),
    "natural_increase": (0.0, 0.008),
}
_RESPONSES: Final = {"income_response": "income_pull", "village_response": "village_pull"}
_DRAWS: Final = 100


def model_file() -> str:
    """Path of the shipped model."""
    return str(library.folder() / "problems" / "population_return" / "population_return.mdl")


def return_problem(
    model: Model | None = None,
    *,
    form: str = "growth",
    exposure: str = "roster",
    free: tuple[str, ...] = NET,
    random: tuple[str, ...] = (),
    census: bool = False,
    fixed: Mapping[str, float] | None = None,
) -> Problem:
    """The rural population of 31 provinces, and the parameters of ``population_return`` that it may inform.

    Parameters
    ----------
    model : Model, optional
        Default the shipped model.
    form : {"growth", "levels"}
        Log growth over each year, or levels at its end.
    exposure : {"roster", "yearly"}
        The roster of 2016 as a lasting mark from 2015 on, or each roster in the year after it.
    free : tuple of str
        Structural parameters, of `HAZARDS`; the parameter of the noise is always free. `NET` are those that a net flow
        can tell apart.
    random : tuple of str
        Those of `free` that differ between provinces.
    census : bool
        Whether the growth from 2019 to 2020, or the level of 2020, is fitted too.
    fixed : mapping of str to float, optional
        Constants set to other values than those of the model.

    Returns
    -------
    Problem

    Raises
    ------
    CalibrationError
        An unknown form, exposure or parameter.
    """
    for value, known in ((form, tuple(_FORMS)), (exposure, _EXPOSURES), *((name, HAZARDS) for name in free)):
        if value not in known:
            raise CalibrationError(f"there is no {value!r} for the rural population. {did_you_mean(value, known)}")
    observable = _FORMS[form]
    rows = _measurements(observable)
    if exposure == "yearly":
        rows = rows[(rows["time"] - 2).isin(ROSTERS)]
    years = rows["time"].astype(int) - 1
    fitted = (years <= LAST_FITTED) | ((years == CENSUS) & census)
    return Problem(
        model=model or library.read_model(model_file()),
        parameters=_parameters((*free, str(observable.noise_parameter)), random),
        observables=(observable,), measurements=rows[fitted], holdout=rows[years > CENSUS],
        covariates=_covariates(exposure), fixed=fixed or {}, method="rk4", time_step=1.0,
    )


def _parameters(names: Sequence[str], random: Sequence[str]) -> pd.DataFrame:
    columns = ("name", "unit", "scale", "lower", "upper", "source")
    rows = pd.DataFrame([dict(zip(columns, row, strict=True)) for row in _RANGES if row[0] in names])
    rows.insert(5, "distribution", ["loguniform" if scale == "log" else "uniform" for scale in rows["scale"]])
    rows.insert(6, "effect", ["random" if name in random else "shared" for name in rows["name"]])
    return rows


def _wide(name: str, variable: str, years: Sequence[int]) -> tuple[pd.DataFrame, str]:
    """A variable of a shipped table by year and province, and its sources."""
    rows = table(name)
    rows = rows[(rows["variable"] == variable) & rows["year"].isin(years)]
    if "area" in rows:
        rows = rows[rows["area_kind"] == "province"].rename(columns={"area": "province"})
    wide = rows.pivot(index="year", columns="province", values="value").sort_index()
    return wide.astype(float), "+".join(sorted(set(rows["source_id"])))


def _measurements(observable: Observable) -> pd.DataFrame:
    """Every year to `LAST`: 31 provinces by 11 years."""
    values, source = _wide("provinces", "rural_population", range(FIRST, LAST + 1))
    if observable.kind == "net_flow":
        logs = values.map(math.log)
        values = (logs - logs.shift(1)).round(_DIGITS)
    long = values.loc[FIRST + 1:].melt(ignore_index=False).reset_index()
    found = pd.DataFrame({
        "entity": long["province"], "time": long["year"] + 1.0, "observable": observable.name, "value": long["value"],
        "comparator": "=", "source_id": source,
    })
    return found.assign(from_time=found["time"] - 1.0) if observable.kind == "net_flow" else found


def _covariates(exposure: str) -> pd.DataFrame:
    start, people = _wide("provinces", "rural_population", [FIRST])
    ratios, incomes = _wide("provinces", "urban_rural_income_ratio", range(FIRST, LAST + 1))
    ratios.index = ratios.index + 1.0
    lists, rosters = _wide("villages_area_year", "taobao_villages", ROSTERS)
    villages = _acting(lists.reindex(columns=start.columns).fillna(0.0), exposure)
    return pd.concat([
        _long(start.set_axis([np.nan]), "initial rural population", people),
        _long(ratios, "income ratio", incomes),
        _long(_means(ratios), "reference income ratio", incomes),
        _long(villages, "acting villages", rosters),
        _long(_means(1.0 + villages), "reference exposure", rosters),
    ], ignore_index=True)


def _acting(lists: pd.DataFrame, exposure: str) -> pd.DataFrame:
    """Listed villages by the time from which they act: none before the first complete roster; the last one stays."""
    none = 0.0 * lists.loc[[ROSTERS[0]]].set_axis([FIRST + 1.0])
    if exposure == "roster":
        acting = lists.loc[[ROSTERS[-1]]].set_axis([ROSTERS[0] + 1.0])
    else:
        acting = lists.set_axis([year + 1.0 for year in ROSTERS])
    return pd.concat([none, acting, acting.iloc[[-1]].set_axis([LAST + 1.0])])


def _means(values: pd.DataFrame) -> pd.DataFrame:
    """Geometric mean over provinces at each time, for each of them."""
    means = [round(math.exp(math.fsum(map(math.log, row)) / len(row)), _DIGITS) for row in values.to_numpy()]
    return pd.DataFrame(np.repeat(np.array(means)[:, None], values.shape[1], axis=1), values.index, values.columns)


def _long(values: pd.DataFrame, name: str, source: str) -> pd.DataFrame:
    long = values.rename_axis(index="time").melt(var_name="entity", ignore_index=False).reset_index()
    return long.assign(name=name, source_id=source)[["entity", "name", "time", "value", "source_id"]]


@dataclass(frozen=True, eq=False)
class ReturnTables:
    """What the panel of provinces says of leaving and return.

    Attributes
    ----------
    estimates : DataFrame
        For each ``fit`` and ``parameter`` the estimate, the errors from the Hessian and clustered by province
        (``hessian_error``, ``clustered_error``, natural units), their ``ratio``, and the clustered 95 % interval
        (``lower``, ``upper``). Fits: ``growth``; ``levels``; ``growth, 2020 too``; ``growth, yearly rosters``; and
        ``growth, random leaving``, where each province has a leaving propensity of its own.
    responses : DataFrame
        One row for each value of a constant that is fixed (``constant``, ``value``): the estimates, the log likelihood,
        and what stays: ``mean_growth`` of the rural population per year and what `responses` gives.
    verdicts : DataFrame
        Profile likelihoods with the return propensity free as well: interval, verdict and note of both propensities.
    identifiability : DataFrame
        With three, four and seven structural parameters free (``n_free``): rank of the sensitivities above noise
        (``practical_rank``), ``collinearity`` index, and the ``weakest`` direction in words.
    scores : DataFrame
        Errors of forecasts of the log rural population from the end of 2020, in per cent: mean absolute error at the
        end of 2021 and 2022, bias in 2022, and the number of provinces nearer than their own mean growth in 2022.
    """

    estimates: pd.DataFrame
    responses: pd.DataFrame
    verdicts: pd.DataFrame
    identifiability: pd.DataFrame
    scores: pd.DataFrame


def return_fit(seed: int) -> ReturnTables:
    """Fit, profile and score the rural population of provinces.

    Parameters
    ----------
    seed : int
        Of all starts.

    Returns
    -------
    ReturnTables
    """
    growth = return_problem()
    varying = return_problem(random=("leaving_propensity",))
    problems = {
        "growth": growth, "levels": return_problem(form="levels"), "growth, 2020 too": return_problem(census=True),
        "growth, yearly rosters": return_problem(exposure="yearly"),
    }
    pooled = {name: _pooled(problem, seed) for name, problem in problems.items()}
    effects = fit_random_effects(varying, ["leaving_propensity"], seed=seed)
    own = pd.DataFrame({
        "estimate": effects.params, "hessian_error": effects.std_errors, "clustered_error": effects.clustered_errors,
    }).join(effects.conf_int())
    estimates = pd.concat({**pooled, "growth, random leaving": own}, names=["fit", "parameter"]).reset_index()
    estimates.insert(5, "ratio", estimates["clustered_error"] / estimates["hessian_error"])
    return ReturnTables(
        estimates, _responses(seed), _verdicts(seed), _identifiability(seed), _scores(growth, varying, effects, seed)
    )


def _pooled(problem: Problem, seed: int) -> pd.DataFrame:
    """Estimates with both kinds of errors."""
    plain = fit(problem, seed=seed, cov_type="hessian", n_draws=_DRAWS)
    clustered = cluster(problem, plain)
    return pd.DataFrame({
        "estimate": plain.params, "hessian_error": plain.std_errors, "clustered_error": clustered.std_errors,
    }).join(clustered.conf_int())


def _responses(seed: int) -> pd.DataFrame:
    rows = []
    for name, values in _ALTERNATIVES.items():
        for value in values:
            problem = return_problem(fixed={name: value})
            result = fit(problem, seed=seed, cov_type="hessian", n_draws=_DRAWS)
            found = responses({**problem.model.constants, name: value, **result.params})
            rows.append({
                "constant": name, "value": value, **result.params, "loglik": result.loglik,
                "mean_growth": float(result.residuals["fitted"].mean()), **found,
            })
    return pd.DataFrame(rows)


def responses(constants: Mapping[str, float]) -> dict[str, float]:
    """Slopes of growth by the logs of relative income and of relative exposure, at their means at the end of 2011.

    Parameters
    ----------
    constants : mapping of str to float
        All constants of the model.

    Returns
    -------
    dict of str to float
        ``income_response`` and ``village_response``, per year.
    """
    share, back = constants["reference_home_share"], constants["return_propensity"] * constants["initial_away_ratio"]
    slope = share * (1.0 - share) * (back + constants["leaving_propensity"])
    return {name: slope * constants[pull] for name, pull in _RESPONSES.items()}


def _verdicts(seed: int) -> pd.DataFrame:
    problem = return_problem(free=HAZARDS[:4])
    result = fit(problem, seed=seed, n_draws=_DRAWS)
    found = profile(problem, result, parameters=["leaving_propensity", "return_propensity"], seed=seed)
    return pd.DataFrame([
        {name: getattr(item, name) for name in ("name", "estimate", "lower", "upper", "verdict", "note")}
        for item in found.profiles
    ])


def _identifiability(seed: int) -> pd.DataFrame:
    rows = []
    for n_free in (len(NET), 4, len(HAZARDS)):
        found = fit(return_problem(free=HAZARDS[:n_free]), seed=seed, n_draws=_DRAWS).identifiability
        rows.append({
            "n_free": n_free, "practical_rank": found.practical_rank, "collinearity": found.collinearity,
            "weakest": found.weakest,
        })
    return pd.DataFrame(rows)


def _scores(growth: Problem, varying: Problem, effects: RandomEffectsResult, seed: int) -> pd.DataFrame:
    """Forecasts from the level of 2020: of the model, pooled and with random leaving, and without any model."""
    held = growth.holdout.pivot(index="entity", columns="time", values="value")
    past = growth.measurements.pivot(index="entity", columns="time", values="value")
    forecasts = {
        "no change": 0.0 * held,
        _YARDSTICK: _steady(past.mean(axis=1), held),
        "growth of 2019": _steady(past[LAST_FITTED + 1.0], held),
        "mean growth of all": 0.0 * held + float(past.to_numpy().mean()),
    }
    for said, zero in _WITHOUT.items():
        free = tuple(name for name in NET if name not in zero)
        problem = return_problem(free=free, fixed=dict.fromkeys(zero, 0.0))
        params = np.asarray(fit(problem, seed=seed, n_draws=_DRAWS).params, dtype=np.float64)
        forecasts[f"model{said}"] = _forecast(problem, np.repeat(params[None, None, :], len(held), axis=1))
    bare = return_problem(free=NET[:1], random=NET[:1], fixed=dict.fromkeys(NET[1:], 0.0))
    without = fit_random_effects(bare, NET[:1], seed=seed)
    for said, problem, result in (("", varying, effects), (_NEITHER, bare, without)):
        centre = np.asarray(result.params[list(problem.box.names)], dtype=np.float64)
        values = np.repeat(centre[None, :], len(held), axis=0)
        values[:, problem.box.names.index(NET[0])] = result.modes["value"]
        forecasts[f"model, random leaving{said}"] = _forecast(problem, values[None])
    errors = {name: 100.0 * (table - held).cumsum(axis=1).to_numpy() for name, table in forecasts.items()}
    yardstick = np.abs(errors[_YARDSTICK][:, 1])
    return pd.DataFrame([
        {
            "forecast": name, "mae_2021": float(np.abs(e[:, 0]).mean()), "mae_2022": float(np.abs(e[:, 1]).mean()),
            "bias_2022": float(e[:, 1].mean()), "nearer": int((np.abs(e[:, 1]) < yardstick).sum()),
        }
        for name, e in errors.items()
    ])


def _steady(rate: pd.Series[float], like: pd.DataFrame) -> pd.DataFrame:
    """The same growth of a province in every year."""
    return pd.DataFrame(np.repeat(rate.to_numpy()[:, None], like.shape[1], axis=1), like.index, like.columns)


def _forecast(problem: Problem, values: Floats) -> pd.DataFrame:
    """Growth that the model gives for the years held out, by province and time."""
    rows = problem.holdout.assign(value=problem.locations(values, problem.holdout)[0])
    return rows.pivot(index="entity", columns="time", values="value")
