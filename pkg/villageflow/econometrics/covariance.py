"""Covariances from the influence of single observations, with the factors of the named conventions.

An estimate moves, to first order, by the sum of what each observation contributes (its *influence*: bread times
score). Every covariance here is a way of saying which contributions may be dependent: none, those of a cluster, of a
period, of near places. What is left to a convention is the small-sample factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from villageflow.econometrics.sample import (
    FEW_CLUSTERS,
    Array,
    Codes,
    Sample,
    both,
    entity_codes,
    n_groups,
    nested,
    rank_of_groups,
)
from villageflow.econometrics.spec import (
    Clustered,
    Conley,
    DriscollKraay,
    Jackknife,
    Robust,
    Spec,
    Unadjusted,
)
from villageflow.errors import EstimationError

_EARTH_KM = 6371.0088
_VANISHED = 1e-3
FEW_PERIODS = 40


@dataclass(frozen=True, eq=False)
class Errors:
    """A covariance and what must be said of it.

    Parameters
    ----------
    cov : (k, k) array
    label : str
    df : float or None
        Of the t distribution; None for the normal.
    notes : tuple of str
    """

    cov: Array
    label: str
    df: float | None
    notes: tuple[str, ...] = ()


def errors_of(
    spec: Spec, sample: Sample, influence: Array, unadjusted: Array, refit: Callable[[Sample], Array]
) -> Errors:
    """The covariance that a specification asks for.

    Parameters
    ----------
    spec : Spec
        What was asked.
    sample : Sample
        Of which the estimates are.
    influence : (n, k) array
        What every observation contributes to the estimates.
    unadjusted : (k, k) array
        Covariance under homoskedasticity, with the residual variance divided by n.
    refit : callable
        Estimates (k,) on another sample; only the jackknife calls it.

    Raises
    ------
    EstimationError
        If a convention is not defined for the covariance, a Conley variance is negative, or an estimate does not
        exist without one of the clusters.
    """
    k = influence.shape[1]
    detail, notes = "", tuple[str, ...]()
    df = float(_left(spec, sample, k, sample.effects)) if not sample.clusters else 0.0
    match spec.cov_type:
        case Unadjusted():
            cov = unadjusted * _plain_factor(spec, sample, k)
        case Robust():
            cov = _outer(influence) * _plain_factor(spec, sample, k)
        case Clustered():
            cov, notes = _clustered(influence, sample.clusters)
            cov, df = cov * _cluster_factor(spec, sample, k), _fewest(sample) - 1.0
        case Jackknife():
            cov = _jackknife(spec, sample, refit) * _jackknife_factor(spec, sample, k)
            df = _fewest(sample) - 1.0
        case DriscollKraay(lags=lags):
            _only_linearmodels(spec)
            used = int(4 * (sample.n_periods / 100) ** (2 / 9)) if lags is None else lags
            cov = _kernel_over_time(_sums_by_time(influence, sample), used) * _plain_factor(spec, sample, k)
            detail, df = f", Bartlett kernel, {used} lags", sample.n_periods - 1.0
            if sample.n_periods < FEW_PERIODS:
                few = f"below some {FEW_PERIODS} Driscoll-Kraay errors tend to be too small"
                notes = (f"only {sample.n_periods} periods: {few}",)
        case Conley() as conley:
            _only_linearmodels(spec)
            cov, notes = _conley(conley, influence, sample, spec)
            cov = cov * _plain_factor(spec, sample, k)
    label = f"{spec.cov_type.words}{detail}, {_CONVENTION_WORDS[spec.convention]} convention"
    normal = spec.estimator in ("poisson", "ivgmm") and not sample.clusters
    normal |= spec.estimator == "poisson" and spec.convention != "linearmodels"  # as Stata and fixest have it
    return Errors(cov, label, None if normal else df, notes)


def _fewest(sample: Sample) -> int:
    assert sample.n_clusters is not None
    return sample.n_clusters


def unequal_clusters(spec: Spec, sample: Sample, shares: Array) -> tuple[str, ...]:
    """A note where clustered errors rest on far fewer clusters than there are.

    The effective number of clusters of a coefficient is G / (1 + v), v the squared coefficient of variation over
    clusters of what each adds to its variance.

    Parameters
    ----------
    spec : Spec
        What was asked.
    sample : Sample
        Of which the estimates are.
    shares : (n, k) array
        What every observation adds to the variance of every coefficient under independent errors.

    References
    ----------
    Carter, Schnepel and Steigerwald (2017), with independent errors within clusters.
    """
    if not isinstance(spec.cov_type, Clustered):
        return ()
    notes = []
    for name, codes in zip(spec.cov_type.by, sample.clusters, strict=True):
        parts = sums_by(shares, codes)
        effective = parts.sum(axis=0) ** 2 / (parts**2).sum(axis=0)
        least, g = int(np.argmin(effective)), n_groups(codes)
        if effective[least] < min(FEW_CLUSTERS, g) / 2:
            advice = "; use cov_type='jackknife' or wild_bootstrap" if g >= FEW_CLUSTERS else ""  # else it is said
            term = sample.terms[least]
            notes.append(
                f"{g} clusters ({name}) are so unequal that they count as {effective[least]:.1f} for {term!r}{advice}"
            )
    return tuple(notes)


_CONVENTION_WORDS = {"linearmodels": "linearmodels", "stata": "Stata", "fixest": "fixest"}


# --- factors -----------------------------------------------------------------------------------------------------


def _left(spec: Spec, sample: Sample, k: int, effects: tuple[Codes, ...]) -> int:
    """Observations less coefficients and effects, which Stata counts by their rank, the others one by one."""
    if spec.convention == "stata":
        n_effects = rank_of_groups(effects)
    else:
        n_effects = sum(map(n_groups, effects)) - max(len(effects) - 1, 0)
    left = len(sample.y) - k - n_effects
    if left <= 0:
        raise EstimationError(
            f"{spec.formula}: {len(sample.y)} observations for {k} coefficients and {n_effects} effects, as "
            f"{spec.convention} counts them. Use convention='stata', which leaves out those that others imply."
        )
    return left


def _plain_factor(spec: Spec, sample: Sample, k: int) -> float:
    """N/(N-K), all absorbed effects counted, or 1 where the convention makes no correction."""
    n = len(sample.y)
    if spec.estimator == "poisson":
        plain = isinstance(spec.cov_type, Unadjusted)
        if spec.convention == "fixest":
            return (n - 1 if plain else n) / _left(spec, sample, k, sample.effects)
        return 1.0 if plain or spec.convention == "linearmodels" else n / (n - 1)
    if spec.estimator.startswith("iv") and spec.convention == "linearmodels":
        return 1.0
    return n / _left(spec, sample, k, sample.effects)


def _cluster_factor(spec: Spec, sample: Sample, k: int) -> float:
    """The factor of clustered errors; docs/econometrics.md has the table."""
    n, g = len(sample.y), _fewest(sample)
    if spec.convention == "linearmodels":
        if spec.estimator == "poisson" or spec.estimator.startswith("iv"):
            return 1.0
        lone = len(sample.effects) == 1 and all(nested(sample.effects[0], codes) for codes in sample.clusters)
        return n / _left(spec, sample, k, () if lone else sample.effects)
    if spec.estimator == "poisson" and spec.convention == "stata":
        return g / (g - 1)
    counted = tuple(codes for codes in sample.effects if not any(nested(codes, outer) for outer in sample.clusters))
    constant = 1 if sample.effects and not counted else 0
    return g / (g - 1) * (n - 1) / _left(spec, sample, k + constant, counted)


def _jackknife_factor(spec: Spec, sample: Sample, k: int) -> float:
    """(G-1)/G as MacKinnon, Nielsen and Webb and Stata have it; pyfixest uses the factor of its clustered errors."""
    g = _fewest(sample)
    return _cluster_factor(spec, sample, k) if spec.convention == "fixest" else (g - 1) / g


def _only_linearmodels(spec: Spec) -> None:
    if spec.convention != "linearmodels":
        raise EstimationError(
            f"convention={spec.convention!r} is not defined for {spec.cov_type.words} errors. Use 'linearmodels'."
        )


# --- who may depend on whom --------------------------------------------------------------------------------------


def _outer(rows: Array) -> Array:
    return np.asarray(rows.T @ rows)


def sums_by(influence: Array, codes: Codes) -> Array:
    """Contributions added up by group, (groups, k)."""
    return np.column_stack([np.bincount(codes, column, n_groups(codes)) for column in influence.T])


def _clustered(influence: Array, clusters: tuple[Codes, ...]) -> tuple[Array, tuple[str, ...]]:
    """One way, or two ways less their intersection; a negative eigenvalue of the difference is set to 0.

    A variance that vanishes by this would make every test reject: then the larger of the one-way covariances is taken.
    """
    if len(clusters) == 1:
        return _outer(sums_by(influence, clusters[0])), ()
    one, other, common = (_outer(sums_by(influence, codes)) for codes in (*clusters, both(*clusters)))
    repaired, notes = _without_negative(one + other - common, one + other, "two-way")
    a, b = np.diag(one), np.diag(other)
    if not notes or (np.diag(repaired) > _VANISHED * np.minimum(a, b)).all():
        return repaired, notes
    larger = one if np.sum(a / (a + b)) >= np.sum(b / (a + b)) else other
    return larger, ("the two-way covariance was not positive; the larger of the one-way covariances was taken",)


def _without_negative(cov: Array, size: Array, name: str) -> tuple[Array, tuple[str, ...]]:
    """A covariance less what is negative of it, judged on the scale of the diagonal of ``size``."""
    scale = np.sqrt(np.abs(np.diag(size)))
    scale[scale == 0] = 1.0
    values, vectors = np.linalg.eigh(cov / np.outer(scale, scale))
    if values.min(initial=0.0) >= -1e-12:
        return cov, ()
    repaired = (vectors * np.maximum(values, 0.0)) @ vectors.T * np.outer(scale, scale)
    return repaired, (f"the {name} covariance had a negative eigenvalue, which was set to 0",)


def _jackknife(spec: Spec, sample: Sample, refit: Callable[[Sample], Array]) -> Array:
    """Sum of outer products of what leaving out a cluster changes (CRV3, no factor)."""
    codes, full = sample.clusters[0], refit(sample)
    moved = []
    for group in range(n_groups(codes)):
        try:
            moved.append(refit(sample.without(codes == group)) - full)
        except (EstimationError, np.linalg.LinAlgError, ValueError) as cause:  # ValueError: linearmodels, on rank
            entity, time = sample.index[int((codes == group).argmax())]
            raise EstimationError(
                f"{spec.formula}: no estimate without the cluster of {entity} at {time} ({cause}). "
                "Use cov_type='clustered', or drop what only this cluster identifies."
            ) from None
    return _outer(np.asarray(moved))


def _sums_by_time(influence: Array, sample: Sample) -> Array:
    """Contributions by period, (periods, k), periods without observations 0."""
    times = np.asarray(sample.index.get_level_values(1), dtype=np.float64)
    step = np.diff(np.unique(times)).min(initial=np.inf)
    return sums_by(influence, np.rint((times - times.min()) / step).astype(np.intp))


def _kernel_over_time(sums: Array, lags: int) -> Array:
    """Newey and West: lagged products weighted by 1 - lag/(lags + 1)."""
    cov = _outer(sums)
    for lag in range(1, min(lags, len(sums) - 1) + 1):
        product = sums[lag:].T @ sums[:-lag]
        cov += (1 - lag / (lags + 1)) * (product + product.T)
    return cov


def _conley(conley: Conley, influence: Array, sample: Sample, spec: Spec) -> tuple[Array, tuple[str, ...]]:
    """Products of near places in the same period, then of the same entity over a few periods."""
    assert sample.place is not None
    times = np.asarray(sample.index.get_level_values(1))
    k = influence.shape[1]
    cov = np.zeros((k, k))
    for time in np.unique(times):
        now = times == time
        for rows in np.array_split(np.flatnonzero(now), max(1, int(now.sum()) // 2000)):
            distance = great_circle(sample.place[rows], sample.place[now])
            weight = np.maximum(1 - distance / conley.cutoff, 0.0)
            if conley.kernel == "uniform":
                weight = (distance <= conley.cutoff).astype(np.float64)
            cov += influence[rows].T @ weight @ influence[now]
    entity = entity_codes(sample.index)
    for lag in range(1, conley.lags + 1):
        earlier = {(code, time): row for row, (code, time) in enumerate(zip(entity, times))}
        keys = [((code, time - lag), row) for (code, time), row in earlier.items()]
        pairs = [(row, earlier[key]) for key, row in keys if key in earlier]
        if pairs:
            now_rows, before = np.asarray(pairs).T
            product = influence[now_rows].T @ influence[before]
            cov += (1 - lag / (conley.lags + 1)) * (product + product.T)
    if (np.diag(cov) <= 0).any():
        term = sample.terms[int(np.argmin(np.diag(cov)))]
        raise EstimationError(
            f"{spec.formula}: the Conley variance of {term!r} is not positive. Use kernel='bartlett' or another cutoff."
        )
    return _without_negative((cov + cov.T) / 2, _outer(influence), "Conley")


def great_circle(a: Array, b: Array) -> Array:
    """Distances in km between places given as latitude and longitude in degrees, (m, 2) and (n, 2) -> (m, n)."""
    lat_a, lon_a = np.radians(a).T[:, :, None]
    lat_b, lon_b = np.radians(b).T[:, None, :]
    half = np.sin((lat_b - lat_a) / 2) ** 2 + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    return np.asarray(2 * _EARTH_KM * np.arcsin(np.sqrt(np.minimum(half, 1.0))))
