"""The county regressions of the study, with means, deviations and shares, as the auxiliary model of its simulator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.moments import Auxiliary, Coefficients, Mean, StandardDeviation, Statistic, means_at
from villageflow.calibrate.scales import Floats
from villageflow.econometrics.estimate import Series
from villageflow.econometrics.spec import AnySpec, Clustered, Spec
from villageflow.econometrics.studies import STUDIES
from villageflow.errors import CalibrationError

Codes = npt.NDArray[np.intp]

ROSTERS: Final = (2014, 2015, 2016)
"""Years with a complete roster."""

_MOST_ROUNDS: Final = 30


def _of_study(block: str) -> AnySpec:
    """The regression of the study itself."""
    return next(
        column.spec for column in STUDIES["county_crowding"].blocks[block] if column.label == "own and elsewhere"
    )


_CITY: Final = Clustered(("city",))
POISSON: Final = _of_study("Poisson (headline)")
GROWTH: Final = _of_study("log growth")
NEAR: Final = Spec("log1p(villages) ~ log1p(elsewhere)", "within", ("province",), _CITY, times=(2014,))
TWO_LAGS: Final = Spec(
    "d(log1p(villages)) ~ log1p(lag(villages)) + log1p(lag(villages, 2))", "within", ("province",), _CITY, times=(2016,)
)
STATISTICS: Final[tuple[Statistic, ...]] = (
    Coefficients(POISSON, name="Poisson"),
    Coefficients(GROWTH, name="growth"),
    Coefficients(NEAR, name="2014"),
    Coefficients(TWO_LAGS, name="growth 2016"),
    *means_at("villages", ROSTERS),
    *(StandardDeviation("log1p(villages)", (year,)) for year in ROSTERS),
    *means_at("unlisted", ROSTERS),
    *means_at("villages * density", (2014, 2016)),
    Mean("listed", (2016,)),
)


@dataclass(frozen=True)
class CountyAuxiliary(Auxiliary):
    """The regressions of the county study with means, deviations and shares, measured on plain arrays.

    `estimate` is that of `Auxiliary`; `values` gives the same numbers, some fifty times faster, from the columns
    ``villages`` and ``density``.
    """

    candidates: pd.DataFrame | None = None

    @cached_property
    def _codes(self) -> tuple[Codes, Codes]:
        """Province and city of each candidate."""
        assert self.candidates is not None
        return pd.factorize(self.candidates["province"])[0], pd.factorize(self.candidates["city"])[0]

    @cached_property
    def _names(self) -> pd.Index[str]:
        own, near = "log1p(lag(villages))", "log1p(lag(elsewhere))"
        names = [f"{name}: {term}" for name in ("Poisson", "growth") for term in (own, near)]
        names += ["2014: log1p(elsewhere)", f"growth 2016: {own}", "growth 2016: log1p(lag(villages, 2))"]
        for what in ("mean of villages", "deviation of log1p(villages)", "mean of unlisted"):
            names += [f"{what} at {year}" for year in ROSTERS]
        names += [f"mean of villages * density at {year}" for year in (2014, 2016)]
        return pd.Index([*names, "mean of listed at 2016"], name="moment")

    def values(self, panel: pd.DataFrame) -> Series:
        """The moments of a panel; candidates in their order, three rosters each, blank for what was never listed."""
        provinces, cities = self._codes
        every = panel["villages"].to_numpy(dtype=float).reshape(-1, len(ROSTERS))
        if len(every) != len(provinces):
            raise CalibrationError(f"the panel has {len(every)} candidate counties; the auxiliary {len(provinces)}")
        listed = ~np.isnan(every).any(axis=1)
        if not listed.any():
            raise CalibrationError("no county of the panel is listed; raise the entries or narrow the bounds")
        villages, province = every[listed], provinces[listed]
        density = panel["density"].to_numpy(dtype=float)[:: len(ROSTERS)][listed]
        around = np.column_stack([np.bincount(cities[listed], year)[cities[listed]] for year in villages.T]) - villages
        logs, near = np.log1p(villages), np.log1p(around)
        lags = np.column_stack([logs[:, :2].ravel(), near[:, :2].ravel()])
        group = (2 * province[:, None] + np.arange(2)).ravel()
        found = [
            *_poisson(villages[:, 1:].ravel(), lags, group), *_within(np.diff(logs).ravel(), lags, group),
            *_within(logs[:, 0], near[:, :1], province), *_within(logs[:, 2] - logs[:, 1], logs[:, 1::-1], province),
            *villages.mean(axis=0), *logs.std(axis=0), *(villages == 0).mean(axis=0),
            *(villages[:, ::2] * density[:, None]).mean(axis=0), listed.mean(),
        ]  # fmt: skip
        return pd.Series(found, index=self._names, name="value")


def _within(y: Floats, x: Floats, group: Codes) -> Floats:
    """Least squares within groups; not a number without variation."""
    size = np.bincount(group)[group]
    y, x = (item - _sums(item, group)[group] / (size if item.ndim == 1 else size[:, None]) for item in (y, x))
    return _solve(x.T @ x, np.asarray(x.T @ y))


def _poisson(y: Floats, x: Floats, group: Codes) -> Floats:
    """Poisson regression with effects of groups, which are concentrated out of the likelihood."""
    total = np.bincount(group, y)
    params: Floats = np.eye(x.shape[1])[0]  # growth in proportion, near which the counts are
    for _ in range(_MOST_ROUNDS):
        weight = np.exp(x @ params - (x @ params).max())
        mean = weight * (total / np.bincount(group, weight).clip(1e-300))[group]
        inner = _sums(mean[:, None] * x, group)[total > 0]
        information = x.T @ (mean[:, None] * x) - inner.T @ (inner / total[total > 0, None])
        move = _solve(information, x.T @ (y - mean))
        params = params + move / max(1.0, float(np.abs(move).max()))
        if not np.abs(move).max() > 1e-10:
            return params
    return np.full(len(params), np.nan)


def _sums(values: Floats, group: Codes) -> Floats:
    """Sums of rows by group."""
    if values.ndim == 1:
        return np.asarray(np.bincount(group, values), dtype=float)
    return np.array([np.bincount(group, column) for column in values.T], dtype=float).T


def _solve(matrix: Floats, right: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:
        return np.full(len(right), np.nan)
