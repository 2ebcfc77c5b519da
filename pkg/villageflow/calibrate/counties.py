"""County growth of Taobao villages: crowding and contagion by indirect inference on the regression of the study.

The regression of `villageflow.econometrics.studies` on the rosters of 2014-2016 is run on simulated rosters as well.
What lasting differences between counties, small counts and a roster that has only counties that were ever listed do to
it is then on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from villageflow import library
from villageflow.calibrate.countymoments import ROSTERS, STATISTICS, CountyAuxiliary
from villageflow.calibrate.draws import RandomConstant
from villageflow.calibrate.indirect import indirect_inference
from villageflow.calibrate.matched import IndirectResult
from villageflow.calibrate.scales import Floats
from villageflow.calibrate.simulators import Bools, EnsembleSimulator
from villageflow.datasets import build, read_table
from villageflow.datasets.panel import quietly_loaded
from villageflow.datasets.recipes import elsewhere
from villageflow.econometrics.estimate import Series
from villageflow.errors import CalibrationError

Spread: TypeAlias = Literal["gamma", "log"]

FEEDBACKS: Final = ("own_effect", "contagion")
STEP: Final = 0.05
"""Of the differences, in widths of a range: counts are whole, and within such a step very many of them change."""

FORECAST: Final = (2017, 2018)
_TIMES: Final = (*ROSTERS, *FORECAST)
_PLACES: Final = 18
_DRAWS: Final = 200


@dataclass(frozen=True, eq=False)
class CountyFit:
    """What the rosters of 2014-2016 say about crowding and contagion, and what they do not.

    Attributes
    ----------
    result : IndirectResult
        With both feedbacks free.
    null : IndirectResult
        Without feedbacks: entries of a county depend on its potential and the year alone.
    wald, p_value : float
        Of no feedbacks, chi-squared with two degrees of freedom.
    weakest : str
        The direction in which the moments move least, in words.
    forecast : DataFrame
        By area and year: ``observed`` villages, ``forecast`` with ``lower`` and ``upper`` (95 percent, errors of
        parameters and chance), ``steady`` (as many more every year as from 2015 to 2016), ``inside``. The model gives
        the growth since 2016, and the roster of 2016 the level. Nothing after 2016 was fitted.
    """

    result: IndirectResult
    null: IndirectResult
    wald: float
    p_value: float
    weakest: str
    forecast: pd.DataFrame

    @property
    def yardstick(self) -> pd.DataFrame:
        """Coefficients of the regressions: ``observed``, ``std_error``, and what they are without feedbacks."""
        rows = self.null.moments[self.null.moments.index.str.contains(":")]
        names = {"simulated": "without_feedbacks", "simulated_sd": "sd_without_feedbacks"}
        return rows[["observed", "std_error", *names]].rename(columns=names)

    def summary(self) -> str:
        """All of it as text."""
        return "\n".join([
            self.result.summary(),
            f"weakest direction: {self.weakest}",
            f"no feedbacks: Wald chi2(2) = {self.wald:.4g}, p = {self.p_value:.4g}; "
            f"J without feedbacks: {self.null.j_statistic:.4g}, p = {self.null.p_value:.4g}",
            self.yardstick.to_string(float_format="{:.4g}".format),
            self.forecast.to_string(float_format="{:.4g}".format),
        ])  # fmt: skip


def fit_counties(
    *, seed: int, n_simulations: int = 10, starts: int = 2, spread: Spread = "gamma"
) -> CountyFit:
    """Estimate own effect and contagion on the shipped rosters.

    Parameters
    ----------
    seed : int
        Of the simulated rosters, the starts and the forecast.
    n_simulations : int
        Rosters for each parameter vector.
    starts : int
        Of the search.
    spread : {"gamma", "log"}
        Distribution of what counties and cities offer, see `county_simulator`.

    Returns
    -------
    CountyFit

    Notes
    -----
    The density of provinces is taken from the rosters, as if known; its error is not in the intervals. The exit rate
    is fixed by the entry and exit counts of the rosters.
    """
    candidates, panel = candidate_counties(), listed_counties()
    auxiliary, table = county_auxiliary(candidates), parameters_of_counties()
    simulator = county_simulator(table, candidates, n_simulations=n_simulations, seed=seed, spread=spread)
    result = indirect_inference(simulator, auxiliary, panel, table, seed=seed, starts=starts, step=STEP)
    without = table[~table["name"].isin(FEEDBACKS)]
    still = county_simulator(without, candidates, n_simulations=n_simulations, seed=seed, spread=spread)
    null = indirect_inference(still, auxiliary, panel, without, seed=seed, starts=starts, step=STEP)
    both = list(FEEDBACKS)
    wald = float(result.params[both] @ np.linalg.inv(result.cov.loc[both, both]) @ result.params[both])
    forecast = _forecast(result, candidates, seed, spread)
    return CountyFit(result, null, wald, float(stats.chi2.sf(wald, 2)), _weakest(result), forecast)


def county_auxiliary(candidates: pd.DataFrame) -> CountyAuxiliary:
    """The auxiliary model: both headline regressions of the study and moments beside them, clustered by city.

    Parameters
    ----------
    candidates : DataFrame
        As `candidate_counties`.
    """
    return CountyAuxiliary(STATISTICS, "city", candidates)


# --- counties and candidates ---------------------------------------------------------------------------------------


def parameters_of_counties() -> pd.DataFrame:
    """The shipped parameter table of the county model."""
    return read_table(_folder() / "parameters.csv", "parameters")


def candidate_counties() -> pd.DataFrame:
    """Every county of the provinces with a listed county, named where it was listed.

    Returns
    -------
    DataFrame
        Indexed by county, by province and city: ``province``, ``city``, ``lane`` (the city), ``element`` (its place
        there), ``density`` as `with_density`. The number of counties is ``counties_total`` of the shipped data (of
        2021), that of cities is in ``cities.csv`` beside the model. Cities of a province have equally many counties,
        or as many as were listed.

    Notes
    -----
    Which city an unlisted county belongs to is not in the data. Provinces without a listed county are left out.
    """
    listed = _rosters()[["province", "city"]].groupby(level=0).first()
    totals = build("provinces")["counties_total"].groupby(level=0).max()
    cities = pd.read_csv(_folder() / "cities.csv").set_index("province")["cities"]
    rows = [
        row
        for province, own in listed.groupby("province")
        for row in _province(str(province), own, int(cities[province]), int(totals[province]))
    ]
    table = pd.DataFrame(rows, columns=["entity", "province", "city", "element"]).set_index("entity")
    return with_density(table.assign(lane=table["city"]), _rosters()["villages"].astype("float64"))


def with_density(candidates: pd.DataFrame, villages: Series) -> pd.DataFrame:
    """Candidates with ``density``: villages per county of the province over all rosters, relative to all candidates.

    Parameters
    ----------
    candidates : DataFrame
        With ``province``.
    villages : Series
        Indexed (entity, time); missing for counties that were never listed.
    """
    own = villages.groupby(level=0).sum().reindex(candidates.index).fillna(0.0)
    return candidates.assign(density=own.groupby(candidates["province"]).transform("mean") / own.mean())


def _province(province: str, listed: pd.DataFrame, n_cities: int, n_counties: int) -> Iterator[tuple[str, ...]]:
    """Rows of the candidates of a province: those that were listed, and others until the number is right."""
    named = {f"{province}/{city}": list(rows.index) for city, rows in listed.groupby("city")}
    labels = [*named, *(f"{province}/city {k}" for k in range(len(named) + 1, n_cities + 1))]
    sizes = np.array([len(named.get(label, [])) for label in labels])
    for _ in range(n_counties - int(sizes.sum())):
        sizes[int(np.argmin(sizes))] += 1
    for label, size in zip(labels, sizes, strict=True):
        known = named.get(label, [])
        unlisted = (f"{label}/county {k}" for k in range(len(known) + 1, size + 1))
        for place, entity in enumerate([*known, *unlisted], start=1):
            yield entity, province, label, f"c{place}"


def county_panel(villages: Series, candidates: pd.DataFrame) -> pd.DataFrame:
    """The panel of the auxiliary model, from the villages of counties that were ever listed.

    Parameters
    ----------
    villages : Series
        Indexed (entity, time); missing or not a number for counties that were never listed.
    candidates : DataFrame
        As `candidate_counties`.

    Returns
    -------
    DataFrame
        ``province``, ``city``, ``density``, ``villages``, ``elsewhere`` (villages in the other counties of the city),
        ``unlisted`` (1 in years without a village, of counties that were ever listed), ``listed`` (1 if ever listed).
    """
    index = pd.MultiIndex.from_product([candidates.index, ROSTERS], names=["entity", "time"])
    places = candidates.loc[np.repeat(candidates.index, len(ROSTERS)), ["province", "city", "density"]].set_axis(index)
    panel = places.assign(villages=villages.reindex(index).to_numpy(dtype=float))
    known = panel["villages"].notna()
    return panel.assign(
        elsewhere=elsewhere(panel), unlisted=(panel["villages"] == 0).astype(float).where(known),
        listed=known.astype(float),
    )  # fmt: skip


def listed_counties() -> pd.DataFrame:
    """The rosters of 2014-2016 as `county_panel`."""
    return county_panel(_rosters()["villages"].astype("float64"), candidate_counties())


# --- simulated rosters -----------------------------------------------------------------------------------------------


def county_simulator(
    parameters: pd.DataFrame,
    candidates: pd.DataFrame,
    *,
    n_simulations: int = 10,
    seed: int = 1,
    spread: Spread = "gamma",
    times: tuple[float, ...] = ROSTERS,
) -> EnsembleSimulator:
    """Simulated rosters of all candidate counties, of which only those ever listed in 2014-2016 are seen.

    Parameters
    ----------
    parameters : DataFrame
        Rows of `parameters_of_counties`; a constant that is left out keeps the value of the model: no feedback.
    candidates : DataFrame
        As `candidate_counties`.
    n_simulations, seed
        Rosters for each parameter vector, and their numbers.
    spread : {"gamma", "log"}
        Whether potentials of counties (relative to their city) and cities (to their province) are gamma distributed or
        lognormal, before each is divided by its mean in the group.
    times : tuple of float
        Of the panels, beginning with 2014-2016.

    Returns
    -------
    EnsembleSimulator
        Entries and exits are drawn within the model, whole villages at a time, and react to villages that are there.
        They are not smoothed, because zeros decide who is listed: use differences of `STEP`.
    """
    if spread not in ("gamma", "log"):
        raise CalibrationError(f"spread is {spread!r}; use gamma or log")
    cities = candidates.groupby("lane", sort=False)
    by_place = {f"present[c{k}]": (cities.size() >= k).astype(float) for k in range(1, _PLACES + 1)}
    constants = pd.DataFrame(by_place).assign(
        province_density=cities["density"].first(), exit_rate=_exit_rate()
    )
    random = tuple(
        RandomConstant(f"{who}_potential", spread, 1.0, f"{who}_deviation", relative_to=above)
        for who, above in (("county", "city"), ("city", "province"))
    )
    return EnsembleSimulator(
        model=library.read_model(_folder() / "county_villages.mdl"), parameters=parameters, entities=candidates,
        times=times, observables=("villages",), constants=constants, random=random, selection=_ever_listed,
        unselected="blank", n_simulations=n_simulations, seed=seed,
    )  # fmt: skip


@cache
def _exit_rate() -> float:
    """Exits between the rosters (upper counts) per year in which a county had a village."""
    exits, villages = quietly_loaded("entry_exit")["exits_upper"].sum(), _rosters()["villages"]
    return float(exits / (villages[villages.index.get_level_values(1) < ROSTERS[-1]] > 0).sum())


def _ever_listed(_: pd.DataFrame, villages: Floats) -> Bools:
    return np.asarray((villages[:, : len(ROSTERS)] > 0).any(axis=1))


@cache
def _rosters() -> pd.DataFrame:
    return build("counties")


def _folder() -> Path:
    return library.folder() / "problems" / "counties"


# --- what is weak, and what came after -------------------------------------------------------------------------------


def _weakest(result: IndirectResult) -> str:
    """The right singular vector of the least singular value, in widths of the ranges."""
    free = [name for name in result.params.index if name not in result.at_bound]
    width = result.box.width * result.box.slope(result.params.to_numpy())
    scaled = result.jacobian.to_numpy() * width / result.moments["std_error"].to_numpy()[:, None]
    _, singular, directions = np.linalg.svd(scaled[:, result.params.index.isin(free)])
    last = pd.Series(directions[len(free) - 1], index=free)
    last = last[last.abs() > 0.2 * last.abs().max()].sort_values(key=np.abs, ascending=False)
    words = " with ".join(f"{name} {'up' if part * last.iloc[0] > 0 else 'down'}" for name, part in last.items())
    return f"{words}; its whole range moves the moments by {singular[-1]:.2g} errors"


def _forecast(
    result: IndirectResult, candidates: pd.DataFrame, seed: int, spread: Spread
) -> pd.DataFrame:
    """Villages after 2016 by area beside what was observed; one simulated future for each draw of the parameters."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    box, params = result.box, result.params.to_numpy()
    cov = result.cov.fillna(0.0).to_numpy() / np.outer(box.slope(params), box.slope(params))
    draws = box.from_transformed(rng.multivariate_normal(box.transformed(params), cov, size=_DRAWS // 10))
    table = parameters_of_counties()
    simulator = county_simulator(
        table[table["name"].isin(box.names)], candidates, seed=seed + 1, spread=spread, times=_TIMES
    )
    futures = simulator.columns(draws)["villages"].reshape(_DRAWS, len(candidates), len(_TIMES))
    observed = quietly_loaded("provinces", ["taobao_villages"])["taobao_villages"].unstack().loc[:, list(_TIMES)]
    observed.loc["CHINA"] = quietly_loaded("nation", ["taobao_villages"])["taobao_villages"].loc["CHINA"]
    province, rows = candidates["province"].to_numpy(), []
    for area, year in ((area, year) for area in observed.index for year in FORECAST):
        own = observed.loc[area].astype(float)
        inside = province == area if area != "CHINA" else np.full(len(province), True)
        if np.isnan(own[year]) or not inside.any():
            continue
        totals = futures[:, inside].sum(axis=1)
        growth = totals[:, _TIMES.index(year)] / np.where(totals[:, 2] > 0, totals[:, 2], np.nan)
        lower, middle, upper = np.nanquantile(growth, [0.025, 0.5, 0.975]) * own[2016]
        steady = own[2016] + (own[2016] - own[2015]) * (year - 2016)
        rows.append((area, year, own[year], middle, lower, upper, steady, lower <= own[year] <= upper))
    names = ["area", "year", "observed", "forecast", "lower", "upper", "steady", "inside"]
    return pd.DataFrame(rows, columns=names).set_index(["area", "year"])
