"""How often each covariance rejects a true null, on panels of villages that the shipped model simulates.

    ./run python tests/statistical/size_study.py

writes ``docs/econometrics_size.md``. Villages are members of one ensemble of `village_cluster`, drawn from its priors;
every replication draws villages, a regressor without effect, shocks and errors of measurement from a stream of its
own, so that a replication does not depend on how many there are or on which covariances are asked for. The covariances
are the package's own (`errors_of`, `wild_bootstrap`); only the sample is drawn once for a setting, and a test compares
the result with `estimate`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

import villageflow as vf
from villageflow import library
from villageflow.econometrics.bootstrap import wild_bootstrap
from villageflow.econometrics.covariance import errors_of, great_circle
from villageflow.econometrics.draw import draw_sample
from villageflow.econometrics.linear import linear_coefficients
from villageflow.econometrics.poisson import fit_poisson, poisson_coefficients
from villageflow.econometrics.sample import Sample, demean
from villageflow.econometrics.spec import (
    Clustered,
    Conley,
    Convention,
    Covariance,
    DriscollKraay,
    Jackknife,
    Robust,
    Spec,
    Unadjusted,
)

PAGE = Path(__file__).parents[2] / "docs" / "econometrics_size.md"
Floats = npt.NDArray[np.float64]

MODEL = "village_cluster"
N_POOL = 5000
POOL_SEED = 20
N_REPLICATIONS = 2000
SEED = 1
LEVEL = 0.95
N_DRAWS = 999
"""Of the wild bootstrap: 5 percent of one more is a whole number."""
MISCOUNT = 0.1
"""Standard deviation of the logarithm of counted over active stores."""
SHOCK = 0.6
"""Standard deviation of a shock to the logarithm of stores."""
FALSE_VALUE = 2.8
"""The false value of the coefficient, in standard deviations of the estimate: a z test rejects it in 80 percent."""
SPREAD = 2.58
"""Binomial standard errors that a rate may be away from 5 percent: 1 percent of true rates are further out."""


# --- villages ----------------------------------------------------------------------------------------------------


class Pool(NamedTuple):
    """Simulated villages: active stores (village, time) at the saved times (time,)."""

    stores: Floats
    times: Floats


@cache
def pool(n: int = N_POOL, seed: int = POOL_SEED) -> Pool:
    """Villages that differ in every constant with a prior, each with the dynamics of the model, four saves a year."""
    design = vf.Design.lhs(library.priors(MODEL), n=n, seed=seed)
    runs = vf.simulate(library.read(MODEL), design, save=["active stores"], errors="raise")
    return Pool(runs["active_stores"].to_numpy(), runs["time"].to_numpy())


@dataclass(frozen=True, eq=False)
class Layout:
    """Who lives where, the same in every replication of a setting.

    Parameters
    ----------
    n_periods : int
    county : (village,) int array
    place : (village, 2) array
        Latitude and longitude in degrees.
    reach : (village, source) array
        Weights that make a smooth field of unit variance of independent sources.
    """

    n_periods: int
    county: npt.NDArray[np.intp]
    place: Floats
    reach: Floats

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.county), self.n_periods


# --- regressors and shocks: (village, period) arrays of each, independent of each other ------------------------------

Draw = Callable[[np.random.Generator, Layout], tuple[Floats, Floats]]


def drawn_anew(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats]:
    return rng.normal(size=layout.shape), np.zeros(layout.shape)


def measured_unevenly(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats]:
    x = rng.normal(size=layout.shape)
    return x, SHOCK * np.abs(x) * rng.normal(size=layout.shape)


def persistent_in_villages(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats]:
    return _persistent(rng, layout.shape), np.zeros(layout.shape)


def persistent_in_counties(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats]:
    shape = layout.county.max() + 1, layout.n_periods
    x, shock = _persistent(rng, shape), _persistent(rng, shape)
    return x[layout.county], SHOCK * shock[layout.county]


def national_and_persistent(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats]:
    exposure, here, there = _exposed(rng, layout)
    return exposure * here + _persistent(rng, layout.shape), SHOCK * exposure * there


def national_for_two_periods(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats]:
    exposure, here, there = _exposed(rng, replace(layout, n_periods=layout.n_periods + 1))
    here, there = here[1:] + here[:-1] / 3, there[1:] + there[:-1] / 3
    return exposure * here, SHOCK * exposure * there


def near_alike(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats]:
    sources = rng.normal(size=(2, layout.reach.shape[1], layout.n_periods))
    return layout.reach @ sources[0], SHOCK * layout.reach @ sources[1]


def _persistent(rng: np.random.Generator, shape: tuple[int, int], rho: float = 0.8) -> Floats:
    """First-order autoregressions of unit variance along the last axis."""
    drawn = rng.normal(size=shape)
    for t in range(1, shape[1]):
        drawn[:, t] = rho * drawn[:, t - 1] + np.sqrt(1 - rho**2) * drawn[:, t]
    return drawn


def _exposed(rng: np.random.Generator, layout: Layout) -> tuple[Floats, Floats, Floats]:
    """Exposure of villages (village, 1) to national news, and two series of news (period,)."""
    return (rng.uniform(0, 2, size=(layout.shape[0], 1)), *rng.normal(size=(2, layout.n_periods)))


# --- settings ----------------------------------------------------------------------------------------------------


class Errors(NamedTuple):
    """A column of the table."""

    cov_type: Covariance
    convention: Convention = "linearmodels"
    wild: bool = False


COLUMNS: dict[str, Errors] = {
    "unadjusted": Errors(Unadjusted()),
    "robust": Errors(Robust()),
    "village": Errors(Clustered(("entity",))),
    "county": Errors(Clustered(("county",))),
    "village and period": Errors(Clustered(("entity", "time"))),
    "jackknife": Errors(Jackknife("county")),
    "wild bootstrap": Errors(Clustered(("county",)), wild=True),
    "Driscoll-Kraay": Errors(DriscollKraay()),
    "Conley": Errors(Conley("latitude", "longitude", 300.0)),
    "village, fixest": Errors(Clustered(("entity",)), "fixest"),
    "county, fixest": Errors(Clustered(("county",)), "fixest"),
    "village and period, fixest": Errors(Clustered(("entity", "time")), "fixest"),
}


@dataclass(frozen=True)
class Setting:
    """A design in which the coefficient of ``x`` is zero.

    Parameters
    ----------
    name, words : str
    draw : callable
        Regressor and shock.
    columns : tuple of str
        The covariances that are tried.
    meant : tuple of str
        Those of them whose assumptions hold here, with as many clusters or periods as their docstrings ask for.
    counties : tuple of int
        Villages in each county; empty if counties are squares of the map.
    first, step : float
        First period and distance of periods in years.
    n_villages, n_periods : int
    estimator : {"within", "poisson"}
    effects : tuple of str
    growth : bool
        The outcome is the change of the logarithm over two years instead of its level.
    alike : float
        Distance in km from which on smooth fields are independent.
    """

    name: str
    words: str
    draw: Draw
    columns: tuple[str, ...]
    meant: tuple[str, ...]
    counties: tuple[int, ...] = (2,) * 50
    n_villages: int = 100
    n_periods: int = 10
    first: float = 2010.0
    step: float = 1.0
    estimator: str = "within"
    effects: tuple[str, ...] = ("entity", "time")
    growth: bool = False
    alike: float = 200.0

    def spec(self, column: str) -> Spec:
        """The regression with the covariance of a column."""
        errors = COLUMNS[column]
        return Spec("y ~ x", self.estimator, self.effects, errors.cov_type, errors.convention)  # type: ignore[arg-type]


_FIXEST = tuple(name for name in COLUMNS if name.endswith("fixest"))
_BY_COUNTY = ("county", "jackknife", "county, fixest")
_LEAST_SQUARES = (
    "unadjusted", "robust", "village", "county", "village and period", "jackknife", "Driscoll-Kraay", *_FIXEST
)  # fmt: skip
_NO_COUNTY = ("unadjusted", "robust", "village", "village and period", "Driscoll-Kraay")
_POISSON = ("unadjusted", "robust", "village", "county", "village, fixest", "county, fixest")

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "anew",
        "The regressor is drawn anew in every village and year, so that products with the errors are independent.",
        drawn_anew, (*_LEAST_SQUARES, "Conley"),
        ("unadjusted", "robust", "village", "village, fixest", *_BY_COUNTY, "Conley"),
    ),
    Setting(
        "uneven",
        "Growth of 300 villages from 2014 to 2016, one observation each; the larger the regressor in absolute value, "
        "the worse growth is measured.",
        measured_unevenly, ("unadjusted", "robust", "county", "jackknife", "county, fixest"), ("robust", *_BY_COUNTY),
        counties=(6,) * 50, n_villages=300, n_periods=1, first=2016.0, effects=(), growth=True,
    ),
    Setting(
        "persistent",
        "The regressor is an autoregression (0.8) within each village, and so is what effects leave of the stores.",
        persistent_in_villages, (*_LEAST_SQUARES, "Conley"), ("village", "village, fixest", *_BY_COUNTY),
    ),
    Setting(
        "county",
        "Regressor and a shock to stores are autoregressions (0.8) that all four villages of a county share.",
        persistent_in_counties, _LEAST_SQUARES, _BY_COUNTY, counties=(4,) * 50, n_villages=200,
    ),
    Setting(
        "few counties", "As county, with 10 counties of 10 villages.",
        persistent_in_counties, (*_LEAST_SQUARES, "wild bootstrap"), ("jackknife", "wild bootstrap"),
        counties=(10,) * 10,
    ),
    Setting(
        "few unequal", "As county, with 12 counties of 1 to 40 villages.",
        persistent_in_counties, (*_LEAST_SQUARES, "wild bootstrap"), ("jackknife", "wild bootstrap"),
        counties=(40, 20, 10, 8, 6, 4, 3, 3, 2, 2, 1, 1),
    ),
    Setting(
        "national",
        "Villages differ in their exposure to national news. One series of news moves the regressor, another the "
        "stores, each anew every quarter; beside it the regressor is an autoregression (0.8) within each village.",
        national_and_persistent, (*_NO_COUNTY, _FIXEST[0], _FIXEST[2]),
        ("village and period", "village and period, fixest"), n_periods=40, step=0.25,
    ),
    Setting(
        "news, 96 quarters",
        "Only the exposure to national news moves the regressor; news are felt for two quarters. The whole run.",
        national_for_two_periods, _NO_COUNTY, ("Driscoll-Kraay",), counties=(1,) * 60,
        n_villages=60, n_periods=96, first=2006.25, step=0.25,
    ),
    Setting(
        "news, 40 quarters", "The same in the ten years from 2010.",
        national_for_two_periods, _NO_COUNTY, ("Driscoll-Kraay",), n_periods=40, step=0.25,
    ),
    Setting(
        "news, 6 quarters", "The same in a year and a half.",
        national_for_two_periods, _NO_COUNTY, (), n_periods=6, step=0.25,
    ),
    Setting(
        "near",
        "300 villages on a map of some 1,000 by 1,000 km; regressor and a shock to stores are smooth fields, alike "
        "within 130 km, drawn anew every year. Counties are 49 squares of the map.",
        near_alike, (*_LEAST_SQUARES, "Conley"), ("Conley",), counties=(), n_villages=300, alike=130.0,
    ),
    Setting(
        "far", "As near, with 150 villages that are alike within 200 km, so that fewer parts of the map differ.",
        near_alike, (*_LEAST_SQUARES, "Conley"), ("Conley",), counties=(), n_villages=150,
    ),
    Setting(
        "count, persistent", "As persistent, with a Poisson count of stores in place of the logarithm.",
        persistent_in_villages, _POISSON, ("village", "village, fixest", "county", "county, fixest"),
        estimator="poisson",
    ),
    Setting(
        "count, county", "As county, with a Poisson count of stores in place of the logarithm.",
        persistent_in_counties, _POISSON, ("county", "county, fixest"), counties=(4,) * 50, n_villages=200,
        estimator="poisson",
    ),
    Setting(
        "count, few", "As few counties, with a Poisson count of stores in place of the logarithm.",
        persistent_in_counties, (*_POISSON, "jackknife"), ("jackknife",), counties=(10,) * 10, estimator="poisson",
    ),
)  # fmt: skip


class Reason(NamedTuple):
    """Why rates of some cells are not what they are meant to be."""

    verdict: str
    settings: tuple[str, ...]
    columns: tuple[str, ...]
    words: str


_CLUSTERED = ("village", "county", "village, fixest", "county, fixest")
REASONS: tuple[Reason, ...] = (
    Reason(
        "below", ("anew", "persistent"), ("village", "county"),
        "the convention counts village effects as parameters although they are nested in the clusters, which makes "
        "errors too large by about 1/(2T); that of fixest does not.",
    ),
    Reason(
        "above", ("news, 96 quarters", "news, 40 quarters"), ("Driscoll-Kraay",),
        "few periods; Newey-West errors of one series on another, as long and as dependent, do no better (a test).",
    ),
    Reason(
        "above", ("far",), ("Conley",),
        "few parts of the map are independent of each other, more in *near*; the kernel weighs near pairs below one.",
    ),
    Reason(
        "above", ("few unequal",), ("wild bootstrap",),
        "one county holds two fifths of the villages; *few counties* is the same with equal ones.",
    ),
    Reason(
        "above", ("count, persistent", "count, county"), _CLUSTERED,
        "villages with many stores carry the estimate, so that fewer clusters count than there are.",
    ),
    Reason(
        "above", ("county", "national"), ("county, fixest", "village and period", "village and period, fixest"),
        "the smaller factor leaves what fifty clusters or forty periods are short of many.",
    ),
)  # fmt: skip


def setting(name: str) -> Setting:
    """A setting by its name."""
    return next(one for one in SETTINGS if one.name == name)


# --- replications ------------------------------------------------------------------------------------------------


@cache
def layout_of(setting: Setting) -> Layout:
    """The map of a setting."""
    rng = np.random.default_rng(np.random.SeedSequence(SEED, spawn_key=(zlib.crc32(setting.name.encode()),)))
    place = np.column_stack([rng.uniform(27, 36, setting.n_villages), rng.uniform(108, 118, setting.n_villages)])
    if setting.counties:
        county = np.repeat(np.arange(len(setting.counties)), setting.counties)
    else:
        squares = ((place - [27, 108]) / [9, 10] * 7).astype(int) @ [7, 1]
        county = np.unique(squares, return_inverse=True)[1]
    sources = np.stack(np.meshgrid(np.arange(26, 37.1, 0.25), np.arange(107, 119.1, 0.25)), axis=-1).reshape(-1, 2)
    reach = np.maximum(1 - great_circle(place, sources) / (setting.alike / 2), 0.0)
    return Layout(setting.n_periods, county, place, reach / np.linalg.norm(reach, axis=1, keepdims=True))


def draw_panel(setting: Setting, replication: int, seed: int = SEED) -> tuple[Floats, Floats]:
    """Outcome and regressor (village, period) of one replication; the regressor has no effect."""
    key = zlib.crc32(setting.name.encode()), replication
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    layout, (stores, times) = layout_of(setting), pool()
    chosen = rng.choice(len(stores), setting.n_villages, replace=False)
    x, shock = setting.draw(rng, layout)
    kept = np.searchsorted(times, setting.first + setting.step * np.arange(setting.n_periods) - 1e-9)
    active = stores[np.ix_(chosen, kept)]
    if setting.estimator == "poisson":
        return rng.poisson(active * np.exp(shock)).astype(np.float64), x
    y = _counted(rng, active) + shock
    if setting.growth:
        y -= _counted(rng, stores[np.ix_(chosen, kept - 8)])
    return y, x


def _counted(rng: np.random.Generator, active: Floats) -> Floats:
    return np.log1p(active * np.exp(MISCOUNT * rng.normal(size=active.shape)))


def as_panel(setting: Setting, y: Floats, x: Floats) -> pd.DataFrame:
    """The panel that a user would have, indexed (entity, time); quarters are counted from 0."""
    layout = layout_of(setting)
    index = pd.MultiIndex.from_product([range(n) for n in layout.shape], names=["entity", "time"])
    entity = index.get_level_values(0)
    latitude, longitude = layout.place[entity].T
    columns = {"county": layout.county[entity], "latitude": latitude, "longitude": longitude}
    return pd.DataFrame({"y": y.ravel(), "x": x.ravel(), **columns}, index=index)


@cache
def _template(setting: Setting, column: str) -> Sample:
    """The sample of a setting with the clusters and places of a column; outcome and regressor are replaced."""
    rng = np.random.default_rng(0)
    y, x = rng.uniform(1, 2, layout_of(setting).shape), rng.normal(size=layout_of(setting).shape)
    return draw_sample(setting.spec(column), as_panel(setting, y, x))


def intervals(setting: Setting, replication: int, seed: int, columns: Sequence[str]) -> Floats:
    """Of one replication, (column, 5): estimate of ``x``, standard error, ends of the 95 percent interval, p-value."""
    y, x = draw_panel(setting, replication, seed)
    fitted = _fit(setting, _filled(setting, "robust", y, x))
    rows = []
    for name in columns:
        spec = setting.spec(name)
        if COLUMNS[name].wild:
            panel, own = as_panel(setting, y, x), seed + replication
            wild = wild_bootstrap(spec, panel, "x", n_draws=N_DRAWS, level=LEVEL, seed=own)
            rows.append((wild.estimate, wild.estimate / wild.statistic, wild.lower, wild.upper, wild.p_value))
        else:
            sample = _filled(setting, name, y, x)
            errors = errors_of(spec, sample, fitted.influence, fitted.unadjusted, _refit(setting))
            rows.append(_t_or_normal(float(fitted.params[-1]), float(np.sqrt(errors.cov[-1, -1])), errors.df))
    return np.array(rows)


def _filled(setting: Setting, column: str, y: Floats, x: Floats) -> Sample:
    """The template with an outcome and a regressor; for Poisson less the villages that counted none."""
    template = _template(setting, column)
    columns = template.x.copy()
    columns[:, -1] = x.ravel()
    sample = replace(template, y=y.ravel(), x=columns)
    none = np.repeat(y.sum(axis=1) == 0, setting.n_periods)
    return sample.without(none) if setting.estimator == "poisson" and none.any() else sample


class Fit(NamedTuple):
    """Coefficients, contributions to them (observation, k), covariance under equal variances."""

    params: Floats
    influence: Floats
    unadjusted: Floats


def _fit(setting: Setting, sample: Sample) -> Fit:
    """`estimate` without its checks and without linearmodels: the sample is sound by construction."""
    if setting.estimator == "poisson":
        fitted = fit_poisson(setting.spec("robust"), sample)
        return Fit(fitted.params, fitted.influence, fitted.unadjusted)
    inner = demean(np.column_stack([sample.y, sample.x]), sample.effects)
    y, x = inner[:, 0], inner[:, 1:]
    bread = np.linalg.inv(x.T @ x)
    params = bread @ (x.T @ y)
    residuals = y - x @ params
    return Fit(params, (x * residuals[:, None]) @ bread, bread * (residuals @ residuals) / len(y))


def _refit(setting: Setting) -> Callable[[Sample], Floats]:
    if setting.estimator == "poisson":
        return lambda part: poisson_coefficients(setting.spec("robust"), part)
    return linear_coefficients


def _t_or_normal(estimate: float, error: float, df: float | None) -> tuple[float, float, float, float, float]:
    reach = error * float(special.ndtri(0.5 + LEVEL / 2) if df is None else special.stdtrit(df, 0.5 + LEVEL / 2))
    z = -abs(estimate) / error if error else -np.inf
    tail = special.ndtr(z) if df is None else special.stdtr(df, z)
    return estimate, error, estimate - reach, estimate + reach, 2 * float(tail)


def rejection_rates(setting: Setting, n: int, seed: int = SEED, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Rates over ``n`` replications by column.

    Returns
    -------
    pandas.DataFrame
        ``size``: share in which the true null is rejected at 5 percent. ``power``: share in which the interval leaves
        out the false value, `FALSE_VALUE` standard deviations of the estimate above zero. ``ratio``: mean standard
        error over that standard deviation; of the bootstrap, which has no standard error, missing. ``zero``: share in
        which the standard error is zero, which counts as a rejection.
    """
    names = list(setting.columns if columns is None else columns)
    found = np.stack([intervals(setting, i, seed, names) for i in range(n)], axis=1)  # (column, replication, 5)
    estimates, errors, lower, upper, p_values = np.moveaxis(found, 2, 0)
    deviation = estimates[0].std(ddof=1)
    false = FALSE_VALUE * deviation
    return pd.DataFrame(
        {
            "size": (p_values < 1 - LEVEL).mean(axis=1),
            "power": ((false < lower) | (false > upper)).mean(axis=1),
            "ratio": np.where([COLUMNS[name].wild for name in names], np.nan, errors.mean(axis=1) / deviation),
            "zero": (errors == 0).mean(axis=1),
        },
        index=pd.Index(names, name="column"),
    )


def margin(n: int) -> float:
    """Monte Carlo error of a rate of 5 percent over ``n`` replications, `SPREAD` binomial standard errors."""
    return SPREAD * float(np.sqrt(LEVEL * (1 - LEVEL) / n))


# --- the page ----------------------------------------------------------------------------------------------------

Rates = Mapping[str, pd.DataFrame]
"""Name of a setting -> `rejection_rates`."""

MAIN = tuple(name for name in COLUMNS if name not in _FIXEST)
FACTORS = tuple(column for name in _FIXEST for column in (name.removesuffix(", fixest"), name))


def size_cell(setting: Setting, column: str, size: float, n: int) -> str:
    """A rate in percent: bold where the covariance is meant to hold, with an arrow where it does not."""
    shown = f"{100 * size:.1f}"
    if column not in setting.meant:
        return shown
    return f"**{shown}**" + {"within": "", "above": " ↑", "below": " ↓"}[verdict(size, n)]


def verdict(size: float, n: int) -> str:
    """Whether a rate is within the Monte Carlo error of 5 percent, above or below."""
    away = size - (1 - LEVEL)
    return "within" if abs(away) <= margin(n) else "above" if away > 0 else "below"


def size_table(rates: Rates, columns: Sequence[str], n: int) -> str:
    """Settings by covariances, rates of rejection in percent."""
    return _table(rates, columns, lambda one, column, found: size_cell(one, column, found["size"], n))


def _table(rates: Rates, columns: Sequence[str], cell: Callable[[Setting, str, pd.Series], str]) -> str:
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, found in rates.items():
        cells = [cell(setting(name), column, found.loc[column]) if column in found.index else "" for column in columns]
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _power_cell(one: Setting, column: str, found: pd.Series) -> str:
    return f"{100 * found['power']:.0f}" if column in one.meant else ""


def _ratio_cell(one: Setting, column: str, found: pd.Series) -> str:
    return "" if np.isnan(found["ratio"]) else f"{found['ratio']:.2f}"


def conclusions(rates: Rates, n: int) -> str:
    """One paragraph of findings for all, one line for each covariance."""
    cells = [
        (name, column, float(found.loc[column, "size"]), column in setting(name).meant)
        for name, found in rates.items() for column in found.index
    ]  # fmt: skip
    meant = [size for _, _, size, holds in cells if holds]
    outside = [size for size in meant if verdict(size, n) != "within"]
    others = [size for _, _, size, holds in cells if not holds]
    far = sum(size > 2 * (1 - LEVEL) for size in others)
    rest = f"; the others lie between {_percent(min(outside))} and {_percent(max(outside))} percent" if outside else ""
    lines = [
        f"Of {len(meant)} rates that are meant to be 5 percent, {len(meant) - len(outside)} are within the Monte Carlo "
        f"error{rest}. Of {len(others)} rates of covariances that are not meant for their setting, {far} are above 10 "
        f"percent, the highest is {_percent(max(others))}.",
        "",
    ]
    for column in COLUMNS:
        own = [(name, size, holds) for name, of, size, holds in cells if of == column]
        lines.append(f"- **{column}**: {_finding(own, n)}.")
    return "\n".join(lines) + "\n"


def _finding(own: Sequence[tuple[str, float, bool]], n: int) -> str:
    """What the rates of one covariance say."""
    parts = []
    for word, said in (("within", "holds in"), ("above", "rejects too often in"), ("below", "rejects too rarely in")):
        named = [f"*{name}* ({_percent(size)})" for name, size, holds in own if holds and verdict(size, n) == word]
        if named:
            parts.append(f"{said} {', '.join(named)}")
    if not parts:
        parts = ["meant for none of these settings"]
    others = sorted((size, name) for name, size, holds in own if not holds)
    if len(others) > 1:
        (low, least), (high, most) = others[0], others[-1]
        parts.append(f"where it is not meant to, {_percent(low)} (*{least}*) to {_percent(high)} percent (*{most}*)")
    elif others:
        parts.append(f"where it is not meant to, {_percent(others[0][0])} percent (*{others[0][1]}*)")
    return "; ".join(parts)


def reasons(rates: Rates, n: int) -> str:
    """One line for each reason of an arrow, and for each arrow without one."""
    arrows = [
        (verdict(size, n), name, column)
        for name, found in rates.items() for column, size in found["size"].items()
        if column in setting(name).meant and verdict(size, n) != "within"
    ]  # fmt: skip
    lines, explained = [], set()
    for reason in REASONS:
        own = [a for a in arrows if a[0] == reason.verdict and a[1] in reason.settings and a[2] in reason.columns]
        explained |= set(own)
        if own:
            lines.append(f"- {'; '.join(f'{column} in *{name}*' for _, name, column in own)}: {reason.words}")
    lines += [f"- {a[2]} in *{a[1]}*: not looked into." for a in arrows if a not in explained]
    return "\n".join(lines) + "\n"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def _zeros(rates: Rates) -> str:
    """A sentence on standard errors of zero, if there were any."""
    found = [
        f"{column} in *{name}* ({_percent(share)} percent)"
        for name, table in rates.items() for column, share in table["zero"].items() if share > 0
    ]  # fmt: skip
    if not found:
        return "No standard error was zero."
    return f"A standard error of zero (from a negative variance) counts as a rejection: {', '.join(found)}."


def page(rates: Rates, n: int, minutes: float) -> str:
    """The page on size."""
    bucket = next((limit for limit in (5, 10, 15, 30, 60) if minutes <= limit), None)
    took = f"less than {bucket} minutes" if bucket else "more than an hour"
    listed = "\n".join(f"- *{name}*: {_in_words(setting(name))}" for name in rates)
    plain, meant = _percent(margin(n)), 100 * (1 - LEVEL)
    return f"""# Size of the tests

How often a true null is rejected at {meant:.0f} percent, by covariance, in panels of villages from `{MODEL}`.
Written by `./run python tests/statistical/size_study.py`; the tests compute parts of it again and compare.

Villages are {N_POOL:,} members of one ensemble over the priors of the model (Latin hypercube, seed {POOL_SEED});
each of {n:,} replications (seed {SEED}) draws villages from it without replacement. The outcome is the logarithm of
one plus active stores, counted with an error of {100 * MISCOUNT:.0f} percent, plus a shock (standard deviation {SHOCK})
where the setting has one. The regressor is independent of the villages, shocks have mean zero given the regressor: its
coefficient is zero, although two-way effects, absorbed where nothing else is said, are no model of the stores. The
page took {took} on one core.

Rates in percent. **Bold**: the covariance is meant for the setting, that is, what it assumes holds, with the number
of clusters or periods that it asks for. The Monte Carlo error of a rate of {meant:.0f} is {plain} ({SPREAD} binomial
standard errors, which one true rate in a hundred exceeds); ↑ and ↓ mark bold rates outside of it. Blank: not tried.
Clusters are named; jackknife (CRV3) and wild bootstrap ({N_DRAWS} draws, Rademacher weights) are by county. Conley
errors have a Bartlett kernel to {_cutoff():.0f} km, Driscoll-Kraay errors the default lags. The convention is that of
linearmodels.

{size_table(rates, MAIN, n)}
## Settings

{listed}

## What to conclude

{conclusions(rates, n)}
{_zeros(rates)}

Why rates that are meant to be 5 percent are not:

{reasons(rates, n)}
## Small-sample factors

The same errors under two conventions. Where two effects are absorbed, that of linearmodels counts both as parameters
although one may be nested in the clusters; that of fixest and Stata does not, and multiplies by G/(G-1).

{size_table(rates, FACTORS, n)}
## Power

Percent of replications in which a false value is rejected, {FALSE_VALUE} standard deviations of the estimate from the
true one; a normal test that knew this standard deviation would reject it in 80 percent. Only covariances that are meant
for the setting.

{_table(rates, MAIN, _power_cell)}
## Standard errors

Mean standard error over the standard deviation of the estimates.

{_table(rates, MAIN, _ratio_cell)}"""


def _in_words(one: Setting) -> str:
    n, t = one.n_villages, one.n_periods
    unit = "quarters" if one.step < 1 else "years"
    when = f"{t} {unit} from {one.first:g}" if t > 1 else f"the year {one.first:g}"
    g = len(np.unique(layout_of(one).county))
    counties = f", {g} counties" if any("county" in column or column == "jackknife" for column in one.columns) else ""
    return f"{one.words} {n} villages{counties}, {when}{'' if one.effects else ', no effects'}."


def _cutoff() -> float:
    conley = COLUMNS["Conley"].cov_type
    assert isinstance(conley, Conley)
    return conley.cutoff


def main() -> None:
    """Write the page."""
    start = time.perf_counter()
    rates = {}
    for one in SETTINGS:
        rates[one.name] = rejection_rates(one, N_REPLICATIONS)
        print(f"{one.name}: {time.perf_counter() - start:.0f} s", flush=True)
    PAGE.write_text(page(rates, N_REPLICATIONS, (time.perf_counter() - start) / 60), encoding="utf-8")


if __name__ == "__main__":
    main()
