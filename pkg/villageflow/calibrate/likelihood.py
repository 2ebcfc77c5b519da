"""Log densities of observations in natural units, and the log likelihood of many parameter vectors at once.

Every density is a log density of the observed number itself: it is never scaled by a time step, a weight or the
number of observations, so that values can be compared between step lengths and models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from villageflow.calibrate.scales import Box, Floats

STUDENT_DF: Final = 4.0

Density = Callable[[Floats, Floats, Floats], Floats]
Draw = Callable[[np.random.Generator, Floats, Floats], Floats]


@dataclass(frozen=True)
class Noise:
    """One family of observation noise.

    Attributes
    ----------
    log_density : callable
        ``(value, location, parameter)``, arrays that broadcast; log density or log probability of the value.
    log_below, log_above : callable
        Log probability of an observation at most, at least, the value.
    spread : callable
        ``(location, parameter)``: standard deviation of an observation (for lognormal and logitnormal to first order
        in the parameter; for student its scale).
    draw : callable
        ``(generator, location, parameter)``: one observation for each location.
    parameter : str
        What the parameter means; blank if there is none.
    support : {"real", "positive", "unit", "count"}
        Where observations may lie.
    """

    log_density: Density
    log_below: Density
    log_above: Density
    spread: Callable[[Floats, Floats], Floats]
    draw: Draw
    parameter: str
    support: str


def _normal(value: Floats, location: Floats, sd: Floats) -> Floats:
    return -0.5 * ((value - location) / sd) ** 2 - np.log(sd) - 0.5 * math.log(2 * math.pi)


def _lognormal(value: Floats, location: Floats, sd: Floats) -> Floats:
    return np.asarray(_normal(np.log(value), np.log(location), sd) - np.log(value))


def _logitnormal(value: Floats, location: Floats, sd: Floats) -> Floats:
    return np.asarray(_normal(special.logit(value), special.logit(location), sd) - np.log(value) - np.log1p(-value))


def _poisson(value: Floats, location: Floats, _: Floats) -> Floats:
    return np.asarray(special.xlogy(value, location) - location - special.gammaln(value + 1))


def _negbinomial(value: Floats, location: Floats, k: Floats) -> Floats:
    counted = _log_rising(value, k) - special.gammaln(value + 1)
    return np.asarray(counted - (k + value) * np.log1p(location / k) + special.xlogy(value, location))


def _log_rising(value: Floats, k: Floats) -> Floats:
    """``ln gamma(k + value) - ln gamma(k) - value ln k`` without the cancellation of large `k`."""
    direct = special.gammaln(k + value) - special.gammaln(k) - value * np.log(k)
    ratio = value / k
    stirling = k * (np.log1p(ratio) - ratio) + (value - 0.5) * np.log1p(ratio) + _tail(k + value) - _tail(k)
    return np.where(k > 100.0, stirling, direct)


def _tail(x: Floats) -> Floats:
    """Stirling's series beyond ``(x - 1/2) ln x - x``, for x > 100 exact to rounding."""
    return (1 / 12 - (1 / 360 - 1 / (1260 * x**2)) / x**2) / x


def _student(value: Floats, location: Floats, scale: Floats) -> Floats:
    df = STUDENT_DF
    constant = special.gammaln((df + 1) / 2) - special.gammaln(df / 2) - 0.5 * math.log(df * math.pi)
    return np.asarray(constant - np.log(scale) - (df + 1) / 2 * np.log1p(((value - location) / scale) ** 2 / df))


def _beta(value: Floats, location: Floats, precision: Floats) -> Floats:
    a, b = location * precision, (1 - location) * precision
    return np.asarray(special.xlogy(a - 1, value) + special.xlog1py(b - 1, -value) - special.betaln(a, b))


def _log(probability: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(probability)


def _negbinomial_below(value: Floats, location: Floats, k: Floats) -> Floats:
    return _log(special.betainc(k, np.floor(value) + 1, k / (k + location)))


def _negbinomial_above(value: Floats, location: Floats, k: Floats) -> Floats:
    """Not the complement of a probability near 1, which would lose the digits of a far tail; certain at 0."""
    least = np.ceil(value)
    return _log(np.where(least > 0, special.betainc(np.maximum(least, 1.0), k, location / (k + location)), 1.0))


def _poisson_below(value: Floats, location: Floats, _: Floats) -> Floats:
    return _log(special.gammaincc(np.floor(value) + 1, location))


def _poisson_above(value: Floats, location: Floats, _: Floats) -> Floats:
    least = np.ceil(value)
    return _log(np.where(least > 0, special.gammainc(np.maximum(least, 1.0), location), 1.0))


NOISE: Final[Mapping[str, Noise]] = {
    "normal": Noise(
        _normal,
        lambda y, m, s: special.log_ndtr((y - m) / s),
        lambda y, m, s: special.log_ndtr((m - y) / s),
        lambda m, s: np.broadcast_to(s, np.shape(m)),
        lambda rng, m, s: rng.normal(m, s),
        "standard deviation",
        "real",
    ),
    "lognormal": Noise(
        _lognormal,
        lambda y, m, s: special.log_ndtr(np.log(y / m) / s),
        lambda y, m, s: special.log_ndtr(np.log(m / y) / s),
        lambda m, s: m * s,
        lambda rng, m, s: m * np.exp(rng.normal(0.0, s, np.shape(m))),
        "standard deviation of the logarithm",
        "positive",
    ),
    "logitnormal": Noise(
        _logitnormal,
        lambda y, m, s: special.log_ndtr((special.logit(y) - special.logit(m)) / s),
        lambda y, m, s: special.log_ndtr((special.logit(m) - special.logit(y)) / s),
        lambda m, s: m * (1 - m) * s,
        lambda rng, m, s: special.expit(rng.normal(special.logit(m), s)),
        "standard deviation of the logit",
        "unit",
    ),
    "beta": Noise(
        _beta,
        lambda y, m, k: _log(special.betainc(m * k, (1 - m) * k, y)),
        lambda y, m, k: _log(special.betainc((1 - m) * k, m * k, 1 - y)),
        lambda m, k: np.sqrt(m * (1 - m) / (1 + k)),
        lambda rng, m, k: rng.beta(m * k, (1 - m) * k),
        "precision",
        "unit",
    ),
    "poisson": Noise(
        _poisson,
        _poisson_below,
        _poisson_above,
        lambda m, _: np.sqrt(m),
        lambda rng, m, _: rng.poisson(m).astype(float),
        "",
        "count",
    ),
    "negbinomial": Noise(
        _negbinomial,
        _negbinomial_below,
        _negbinomial_above,
        lambda m, k: np.sqrt(m + m**2 / k),
        lambda rng, m, k: rng.poisson(m * rng.gamma(np.broadcast_to(k, np.shape(m)), 1.0 / k)).astype(float),
        "dispersion k: variance = mean + mean^2 / k",
        "count",
    ),
    "student": Noise(
        _student,
        lambda y, m, s: _log(special.stdtr(STUDENT_DF, (y - m) / s)),
        lambda y, m, s: _log(special.stdtr(STUDENT_DF, (m - y) / s)),
        lambda m, s: np.broadcast_to(s, np.shape(m)),
        lambda rng, m, s: m + s * rng.standard_t(STUDENT_DF, np.shape(m)),
        "scale, with 4 degrees of freedom",
        "real",
    ),
}


@dataclass(frozen=True)
class Observable:
    """How one observed quantity comes from the model.

    Attributes
    ----------
    name : str
    formula : str
        One variable of the model.
    kind : {"level", "net_flow", "share", "count"}
        Value at the time of the measurement; or, for ``net_flow``, the change of a stock over the interval from
        ``from_time`` to ``time``, which is the integral of its net flow.
    noise : str
        A key of `NOISE`. The model gives the mean (normal, poisson, negbinomial, beta) or the median.
    noise_parameter : str or float, optional
        A number, or the name of a free parameter.
    unit : str
    centred : bool
        Whether each entity has a level of its own in the measurements (a factor for lognormal noise, a constant for
        normal noise) that the model does not explain: it is estimated within, and takes one degree of freedom per
        entity. Only movements count then; the spread is estimated too small by the share of levels in measurements.
    """

    name: str
    formula: str
    kind: str
    noise: str
    noise_parameter: str | float | None = None
    unit: str = ""
    centred: bool = False


CENTRED: Final = ("normal", "lognormal")
"""Noise whose level can be taken out exactly."""


class Target(Protocol):
    """What a fit needs: free parameters, observables, and locations for many parameter vectors at once."""

    @property
    def box(self) -> Box:
        """Free parameters."""

    @property
    def observables(self) -> tuple[Observable, ...]:
        """Observables."""

    def positions(self, rows: pd.DataFrame) -> npt.NDArray[np.intp]:
        """Position of each row's entity among those of the target."""

    def locations(self, values: Floats, rows: pd.DataFrame) -> Floats:
        """Locations of the rows for each parameter vector, (n, p) to (n, len(rows)); NaN where a run failed."""


def noise_values(target: Target, observable: Observable, values: Floats, rows: pd.DataFrame) -> Floats:
    """Noise parameter of an observable for each parameter vector, (n, 1), or (n, len(rows)) where entities differ."""
    parameter = observable.noise_parameter
    if isinstance(parameter, str):
        column = values[..., target.box.names.index(parameter)]
        return column[:, None] if values.ndim == 2 else column[:, target.positions(rows)]
    return np.full((len(values), 1), math.nan if parameter is None else float(parameter))


def noise_of_rows(target: Target, values: Floats, rows: pd.DataFrame) -> Floats:
    """Noise parameter of each row for each parameter vector, (n, len(rows)); NaN where the noise has none."""
    result, names = np.full((len(values), len(rows)), math.nan), rows["observable"].to_numpy()
    entity = target.positions(rows) if values.ndim == 3 else None
    for observable in target.observables:
        at, parameter = np.flatnonzero(names == observable.name), observable.noise_parameter
        if isinstance(parameter, str):
            column = values[..., target.box.names.index(parameter)]
            result[:, at] = column[:, None] if entity is None else column[:, entity[at]]
        elif parameter is not None:
            result[:, at] = float(parameter)
    return result


def log_terms(target: Target, values: Floats, rows: pd.DataFrame, locations: Floats | None = None) -> Floats:
    """Log density of each row for each parameter vector.

    Parameters
    ----------
    target : Target
        Gives the locations.
    values : (n, p) or (n, E, p) array
        Natural values of the free parameters, the same for all entities or each its own.
    rows : DataFrame
        Measurements, checked by `Problem`.
    locations : (n, len(rows)) array, optional
        When they are known already.

    Returns
    -------
    (n, len(rows)) array
        ``=`` gives the log density, ``>=`` and ``<=`` the log probability of an observation beyond the bound; minus
        infinity where the run failed or the location lies outside the support.
    """
    if locations is None:
        locations = target.locations(values, rows)
    return log_densities(target, rows, centred(target, rows, locations), noise_of_rows(target, values, rows))


def log_densities(target: Target, rows: pd.DataFrame, locations: Floats, spread: Floats) -> Floats:
    """As `log_terms`, for given locations and noise parameters of each row, both (n, len(rows)); elementwise."""
    result = np.full(locations.shape, -np.inf)
    names, comparators = rows["observable"].to_numpy(), rows["comparator"].to_numpy()
    observed = rows["value"].to_numpy(dtype=float)
    for observable in target.observables:
        noise = NOISE[observable.noise]
        for comparator, density in (("=", noise.log_density), (">=", noise.log_above), ("<=", noise.log_below)):
            at = np.flatnonzero((names == observable.name) & (comparators == comparator))
            if len(at):
                with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                    terms = density(observed[at], locations[:, at], spread[:, at])
                inside = _inside(noise.support, locations[:, at]) & ~np.isnan(terms)
                result[:, at] = np.where(inside, terms, -np.inf)
    return result


def centred(target: Target, rows: pd.DataFrame, locations: Floats) -> Floats:
    """Locations moved to the level of each entity's measurements, where an observable is centred."""
    moved, observed = locations, rows["value"].to_numpy(dtype=float)
    for item, at in centred_groups(target, rows):
        moved = moved.copy() if moved is locations else moved
        into, back = (np.log, np.exp) if item.noise == "lognormal" else (np.asarray, np.asarray)
        with np.errstate(invalid="ignore", divide="ignore"):
            path = into(locations[:, at])
            moved[:, at] = back(path + (into(observed[at]) - path).mean(axis=1, keepdims=True))
    return moved


def centred_groups(target: Target, rows: pd.DataFrame) -> Iterator[tuple[Observable, npt.NDArray[np.intp]]]:
    """Rows of each centred observable and entity, which share a level."""
    names, entity = rows["observable"].to_numpy(), target.positions(rows)
    for item in target.observables:
        for one in np.unique(entity[names == item.name]) if item.centred else ():
            yield item, np.flatnonzero((names == item.name) & (entity == one))


def log_likelihood(target: Target, values: Floats, rows: pd.DataFrame) -> Floats:
    """Log likelihood of each parameter vector, (n,): the sum of `log_terms`, from one ensemble run."""
    return np.asarray(log_terms(target, values, rows).sum(axis=1))


def _inside(support: str, locations: Floats) -> npt.NDArray[np.bool_]:
    if support == "real":
        return np.isfinite(locations)
    return np.isfinite(locations) & (locations > 0) & (locations < (1 if support == "unit" else np.inf))
