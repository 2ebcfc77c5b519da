"""The counts of Taobao villages of 31 provinces as a calibration problem with random effects, and what it predicts.

How a province runs, and why
----------------------------
* **A model of its own**, ``models/problems/provinces/provincial_diffusion.mdl``: the village, threshold and measurement
  equations of ``national_diffusion`` with national demand as a table. Platform users, sellers and prices are the
  nation's, so that 31 copies of that half would be 31 times the same numbers.
* **Two national feedbacks are left out**: programmes (R34) and dilution of demand (B33) act through the national count.
  As given series they would carry the counts of 2017 and 2018, which are held out, into the fit. Without them
  ``national_diffusion`` and this file with the nation's pool are the same model (a test). Demand does enter to 2026; it
  was set on rural online sales of 2016, 2017 and 2021. Predictions are conditional on that path.
* **Pool**: the nation's 550,000 villages by rural residents of 2013. Every equation is proportional to the pool, so
  that a wrong number of villages is a wrong level, which the random effect takes up.
* **One random effect**, the median sales of seed villages in 2016: where a province stands before the threshold. Its
  location may move with the digital finance index of 2013, the year before the first roster (correlated random
  effects). The index is made from the payments of the group that owns the platform: an association, not a cause.
  Suitability, size and number of villages act on the level alone and are in the same effect. An effect of seeding in
  its place, under which all provinces grow at one rate, fits about as well; the counts do not tell which it is.
* **Shared and free**: dispersion of log sales (how steep the tail is at the threshold, hence how fast counts grow) and
  negative binomial size. Contagion and recognition time are fixed as in ``national_diffusion``: freed one by one they
  gain less than 1.92, and predictions depend on them (`sensitivity_table`). The recognition time was settled there with
  the counts to 2018 in view, so that predictions are not blind. Detection before the label is what the national lists
  to 2016 give.
* **Zeros are data**: the rosters of 2014 to 2016 are complete, their rows add up to the national totals.
* **Levels, not additions**: counts of small provinces fall between rosters (Hunan from 3 to 1), which no additions can
  express. Errors of one province are then dependent; intervals use the sandwich over provinces.
* **Held out**: 2017 (three provinces), 2018 (six). These are the provinces with most villages, chosen on the outcome;
  the rest of the nation, known as a sum, and the national totals to 2022 stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.marginal import (
    RandomEffect,
    RandomModel,
    marginal_log_likelihood,
    random_model,
)
from villageflow.calibrate.outwards import Search
from villageflow.calibrate.problem import Problem, observables_of
from villageflow.calibrate.randomeffects import RandomEffectsResult, fit_random_effects
from villageflow.calibrate.scales import Floats
from villageflow.datasets.panel import table
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.library import folder, read_model

LISTED_AT: Final = 0.75
LAST_FITTED: Final = 2016
BASE_YEAR: Final = 2013
NODES: Final = 15
"""Quadrature nodes: the effects of provinces without a village are skewed, and five nodes are not enough."""
CHECKED_NODES: Final = (1, 5, 9, 15, 31)

MODEL_FILE: Final = "provincial_diffusion.mdl"
_POOL: Final = 550_000
_LEVEL: Final = "reference_village_sales"
SIZE: Final = "count_dispersion"
_COVARIATE: Final = "digital_finance_index"
_FREE: Final = pd.DataFrame(
    [
        (_LEVEL, "RMB/(Year*village)", "log", 1e2, 1e8, "random", "wider than for the nation: medians of provinces"),
        ("sales_dispersion", "dmnl", "log", 0.75, 6.0, "shared", "wider than for the nation"),
        (SIZE, "dmnl", "log", 1.0, 1e3, "shared", "estimated: variance = mean + mean^2 / k"),
    ],
    columns=["name", "unit", "scale", "lower", "upper", "effect", "source"],
)
FIXED_ONES: Final[Mapping[str, tuple[str, str, tuple[float, ...]]]] = {
    "contagion_hazard": ("1/Year", "lin", (0.0, 0.6, 3.0)),
    "recognition_time": ("Year", "log", (0.5, 2.0, 10.0, 20.0)),
}
"""Constants that are fixed, with other values to try: unit, scale and values, whose ends are the bounds."""
_THRESHOLD: Final = 1.92
"""Half of the 95 % quantile of chi-squared with one degree of freedom."""
_FAR: Final = 4.0
"""Standard errors from the estimate; a parabola falls by 8 there."""


def provincial_problem(*, also_free: str | None = None) -> Problem:
    """The counts of 31 provinces and the free parameters of the provincial model.

    Parameters
    ----------
    also_free : str, optional
        A key of `FIXED_ONES` that is free too, within the ends of its values.

    Returns
    -------
    Problem
        Counts of 2014 to 2016 to fit, of 2017 and 2018 held out; the pool of each province as a covariate. RK4 with
        steps of a quarter of a year.

    Raises
    ------
    CalibrationError
        An unknown constant.
    """
    parameters = _FREE
    if also_free is not None:
        if also_free not in FIXED_ONES:
            raise CalibrationError(f"{also_free!r} is not tried as free. {did_you_mean(also_free, FIXED_ONES)}")
        unit, scale, values = FIXED_ONES[also_free]
        row = (also_free, unit, scale, values[0], values[-1], "shared", "tried as free; fixed in the fit")
        parameters = pd.concat([_FREE, pd.DataFrame([row], columns=_FREE.columns)], ignore_index=True)
    counted = pd.DataFrame([{
        "observable": "provincial_list", "formula": "taobao_villages", "kind": "count", "noise": "negbinomial",
        "noise_parameter": SIZE, "unit": "village",
    }])
    rows = provincial_measurements()
    kept = rows["time"] > LAST_FITTED + 1
    uniform = [f"{'log' if scale == 'log' else ''}uniform" for scale in parameters["scale"]]
    return Problem(
        model=read_model(folder() / "problems" / "provinces" / MODEL_FILE),
        parameters=parameters.assign(distribution=uniform), observables=observables_of(counted),
        measurements=rows[~kept], holdout=rows[kept], covariates=_pools(), method="rk4", time_step=0.25,
    )


def provincial_measurements() -> pd.DataFrame:
    """Counts of villages of every province and year that is known, as measurements; a true zero is a row."""
    counts = table("villages_area_year").query("area_kind == 'province' and variable == 'taobao_villages'")
    counts = counts.sort_values(["area", "year"])
    return pd.DataFrame({
        "entity": counts["area"].to_numpy(), "time": counts["year"].to_numpy(dtype=float) + LISTED_AT,
        "observable": "provincial_list", "value": counts["value"].to_numpy(dtype=float), "comparator": "=",
        "source_id": counts["source_id"].to_numpy(),
    })


def digital_finance() -> pd.DataFrame:
    """Digital finance index of 2013 by province, index points."""
    return _of_base_year(_COVARIATE).to_frame(_COVARIATE)


def _of_base_year(variable: str) -> pd.Series[float]:
    rows = table("provinces")
    rows = rows[(rows["variable"] == variable) & (rows["year"] == BASE_YEAR)].sort_values("province")
    return pd.Series(rows["value"].to_numpy(dtype=float), index=rows["province"].to_numpy())


def _pools() -> pd.DataFrame:
    rural = _of_base_year("rural_population")
    return pd.DataFrame({
        "entity": rural.index, "name": "villages_in_pool", "time": np.nan,
        "value": (_POOL * rural / rural.sum()).round(), "source_id": "S09",
    })


def fit_provinces(problem: Problem, *, seed: int, starts: int = 20) -> RandomEffectsResult:
    """Fit the provinces by marginal maximum likelihood with `NODES` quadrature nodes.

    Parameters
    ----------
    problem : Problem
        As `provincial_problem` makes it.
    seed : int
        Of the starts.
    starts : int
        Latin hypercube starts, at least 20.

    Returns
    -------
    RandomEffectsResult
    """
    return fit_random_effects(
        problem, [RandomEffect(_LEVEL, (_COVARIATE,))], seed=seed, starts=starts, nodes=NODES,
        covariates=digital_finance(),
    )


def provincial_model(problem: Problem) -> RandomModel:
    """The problem with its random effect and the covariate of its location."""
    return random_model(problem, [RandomEffect(_LEVEL, (_COVARIATE,))], covariates=digital_finance())


def numerics(problem: Problem, result: RandomEffectsResult) -> pd.Series[float]:
    """Log likelihood at the estimate with other numbers of nodes and with half the step."""
    theta: Floats = np.asarray(result.params, dtype=np.float64)[None, :]
    model, halved = provincial_model(problem), provincial_model(replace(problem, time_step=0.125))
    found = [float(marginal_log_likelihood(model, theta, nodes=k)[0]) for k in CHECKED_NODES]
    found.append(float(marginal_log_likelihood(halved, theta, nodes=NODES)[0]))
    return pd.Series(found, index=[*(f"{k} nodes" for k in CHECKED_NODES), "half step"])


def profile_table(problem: Problem, result: RandomEffectsResult) -> pd.DataFrame:
    """Profile of the marginal likelihood of the free parameters, far from the estimate on both sides.

    Parameters
    ----------
    problem : Problem
        As `provincial_problem` makes it.
    result : RandomEffectsResult
        Its fit.

    Returns
    -------
    DataFrame
        parameter; value: the estimate and four standard errors away, or the bound; ``gain`` of log likelihood over the
        fit when the parameter is held there and all others are optimised again; ``verdict``, as `verdict`.

    Notes
    -----
    The threshold takes the errors of a province as independent given its effect; the sandwich of the fit does not.
    """
    model = provincial_model(problem)
    params: Floats = np.asarray(result.params, dtype=np.float64)
    centre, cov = model.box.transformed(params), result.transformed_cov.to_numpy(dtype=float)
    held = np.repeat(np.arange(model.box.size), 2)
    out = np.tile([-_FAR, _FAR], model.box.size)[:, None]
    lanes = model.box.from_transformed(centre + out * cov[held] / np.sqrt(np.diag(cov))[held, None])
    gain = held_climb(model, lanes, held)[1] - result.loglik
    parts = []
    for j, name in enumerate(model.box.names):
        own = np.flatnonzero(held == j)
        gains = np.insert(gain[own], 1, 0.0)
        values = np.insert(lanes[own, j], 1, params[j])
        parts.append(pd.DataFrame({"parameter": name, "value": values, "gain": gains, "verdict": verdict(gains)}))
    return pd.concat(parts, ignore_index=True)


def held_climb(model: RandomModel, lanes: Floats, held: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Optimise all but one parameter of each lane.

    Parameters
    ----------
    model : RandomModel
        As `provincial_model` makes it.
    lanes : (n, q) array
        Starts, natural values.
    held : (n,) int array
        Column of each lane that keeps its value.

    Returns
    -------
    (n, q) array
        Natural values.
    (n,) array
        Log likelihood there.
    """

    def objective(unit: Floats) -> Floats:
        return marginal_log_likelihood(model, model.box.natural(unit), nodes=NODES)

    units = np.clip(model.box.unit(lanes), 0.0, 1.0)
    found, logliks = Search(objective, seed=0, starts=0).climb(units, [int(j) for j in held])
    return model.box.natural(found), logliks


def verdict(gains: Floats) -> str:
    """*bounded*, *one-sided* or *flat*: on how many sides of its top a log likelihood falls by 1.92."""
    top = int(np.argmax(gains))
    closed = [bool((gains[top] - side >= _THRESHOLD).any()) for side in (gains[:top], gains[top + 1:])]
    return ("flat", "one-sided", "bounded")[sum(closed)]
