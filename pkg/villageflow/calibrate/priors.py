"""Prior densities of free parameters, on the transformed scale on which they are sampled, and draws from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import ndtr

from villageflow.calibrate.scales import Box, Floats, as_number
from villageflow.datasets.values import row_id
from villageflow.ensemble.design import quantile
from villageflow.errors import CalibrationError, DesignError

FLAT: Final = "flat"
"""Distribution of a parameter that declares none: uniform on its transformed scale between its bounds."""
_WIDTH: Final = 3.92
"""Of the bounds in standard deviations of ``normal`` and ``lognormal``, as `villageflow.ensemble.design.quantile`."""


@dataclass(frozen=True)
class Prior:
    """Prior of one parameter.

    Attributes
    ----------
    distribution : str
        ``uniform``, ``loguniform``, ``triangular``, ``normal``, ``lognormal``, or `FLAT`.
    lower, mode, upper : float
        In natural units; the mode is NaN where the distribution has no use of it.
    """

    distribution: str
    lower: float
    mode: float
    upper: float

    def __str__(self) -> str:
        mode = "" if math.isnan(self.mode) else f", mode {self.mode:g}"
        return f"{self.distribution} on [{self.lower:g}, {self.upper:g}]{mode}"

    def log_density(self, natural: Floats) -> Floats:
        """Log density per natural unit within the bounds, with all constants; not defined for `FLAT`."""
        low, mode, high = self.lower, self.mode, self.upper
        match self.distribution:
            case "uniform":
                return np.full(natural.shape, -math.log(high - low))
            case "loguniform":
                return -np.log(natural) - math.log(math.log(high / low))
            case "triangular":
                return _log_triangular(natural, low, mode, high)
            case "normal":
                return _log_truncated(natural, low, mode, high)
            case "lognormal":
                logs = math.log(low), math.log(mode), math.log(high)
                return _log_truncated(np.log(natural), *logs) - np.log(natural)
        raise AssertionError(self.distribution)


def _log_triangular(x: Floats, low: float, mode: float, high: float) -> Floats:
    rising = (x - low) / (mode - low) if mode > low else np.ones(x.shape)
    falling = (high - x) / (high - mode) if mode < high else np.ones(x.shape)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.minimum(rising, falling)) + math.log(2 / (high - low)))


def _log_truncated(x: Floats, low: float, mode: float, high: float) -> Floats:
    sd = (high - low) / _WIDTH
    inside = float(ndtr((high - mode) / sd) - ndtr((low - mode) / sd))
    return np.asarray(-0.5 * ((x - mode) / sd) ** 2 - math.log(inside * sd * math.sqrt(2 * math.pi)))


@lru_cache(maxsize=256)
def _prior(name: str, kind: str, low: float, mode: float, high: float) -> Prior:
    """A prior that has a density; remembered, for problems are made anew for every resample of their data."""
    row = {"name": name, "lower": low, "upper": high, "distribution": kind, "mode": mode}
    try:
        quantile(pd.Series(row), np.array([0.5]))
    except DesignError as error:
        raise CalibrationError(f"the prior of {name!r} has no density: {error}") from None
    return Prior(kind, low, math.nan if kind in ("uniform", "loguniform") else mode, high)


@dataclass(frozen=True)
class Priors:
    """Independent priors of the free parameters.

    Attributes
    ----------
    box : Box
        The free parameters; a prior has their bounds.
    each : tuple of Prior
        In the order of ``box.names``.
    """

    box: Box
    each: tuple[Prior, ...]

    @classmethod
    def of(cls, box: Box, parameters: pd.DataFrame | None) -> Priors:
        """From the rows of a ``parameters.csv``: columns ``distribution`` and ``mode``, which may be missing or blank.

        Raises
        ------
        CalibrationError
            An unknown distribution, a mode outside the bounds, or a lognormal or loguniform that reaches 0.
        """
        rows = {} if parameters is None else {row_id(row): row for row in parameters.to_dict("records")}
        each = []
        for name, low, high in zip(box.names, box.lower, box.upper, strict=True):
            row = rows.get(name, {})
            kind = row.get("distribution")
            if kind is None or pd.isna(kind) or not str(kind):
                each.append(Prior(FLAT, float(low), math.nan, float(high)))
                continue
            mode: Any = row.get("mode")
            peak = math.nan if mode is None else as_number(mode)
            if peak is None:
                raise CalibrationError(f"the prior of {name!r} has the mode {mode!r}; it must be a number, or blank")
            each.append(_prior(name, str(kind), float(low), peak, float(high)))
        return cls(box, tuple(each))

    def log_density(self, transformed: Floats) -> Floats:
        """Log prior density on the transformed scale.

        Parameters
        ----------
        transformed : (n, p) array
            Transformed values.

        Returns
        -------
        (n,) array
            Per unit of the transformed values, with the constants of truncation, so that it integrates to one over the
            bounds: the density in natural units times the derivative of the natural by the transformed value
            (1, x or x(1 - x)). Minus infinity outside the bounds.
        """
        box = self.box
        low, high = box.transformed(box.lower), box.transformed(box.upper)
        total = np.where(((transformed >= low) & (transformed <= high)).all(axis=1), 0.0, -np.inf)
        inside = np.flatnonzero(np.isfinite(total))
        natural = box.from_transformed(transformed[inside])
        slopes = np.log(box.slope(natural))
        for j, prior in enumerate(self.each):
            if prior.distribution == FLAT:
                total[inside] -= math.log(high[j] - low[j])
            else:
                total[inside] += prior.log_density(natural[:, j]) + slopes[:, j]
        return total

    def draw(self, rng: np.random.Generator, n: int) -> Floats:
        """Independent draws in natural units, (n, p), by quantiles."""
        unit = rng.random((n, self.box.size))
        drawn = self.box.natural(unit)
        for j, (name, prior) in enumerate(zip(self.box.names, self.each, strict=True)):
            if prior.distribution != FLAT:
                row = {"name": name, "lower": prior.lower, "mode": prior.mode, "upper": prior.upper}
                drawn[:, j] = quantile(pd.Series({**row, "distribution": prior.distribution}), unit[:, j])
        return drawn
