"""Least squares on arrays: absorbed effects, first differences, entity means, and random effects by linearmodels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular

from villageflow.econometrics.estimate import Diagnostic
from villageflow.econometrics.sample import Array, Sample, demean, entity_codes, group_means
from villageflow.econometrics.spec import Spec
from villageflow.errors import EstimationError

_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Fitted:
    """What an estimator found on a sample.

    Parameters
    ----------
    params : (k,) array
    influence : (n, k) array
        Contribution of every observation to the estimates, to first order.
    unadjusted : (k, k) array
        Covariance under homoskedasticity, with the residual variance divided by n.
    residuals : (n,) array
        Outcome less fit, effects included.
    shares : (n, k) array
        What every observation adds to the variance of every coefficient, up to scale, if errors were independent and
        as variable as the estimator assumes.
    r2, log_likelihood : float or None
    diagnostics : mapping of str to Diagnostic
    """

    params: Array
    influence: Array
    unadjusted: Array
    residuals: Array
    shares: Array
    r2: float | None = None
    log_likelihood: float | None = None
    diagnostics: Mapping[str, Diagnostic] = field(default_factory=dict)


def fit_linear(spec: Spec, sample: Sample) -> Fitted:
    """Least squares with absorbed effects, in first differences or between entity means; random effects."""
    if spec.estimator in ("random", "correlated_random"):
        return _random_effects(spec, sample)
    inner = demean(np.column_stack([sample.y, sample.x]), sample.effects)
    y, x = inner[:, 0], inner[:, 1:]
    params, bread = least_squares(x, y, sample.x)
    residuals = y - x @ params
    centred = y if sample.effects or "constant" not in sample.terms else y - y.mean()
    total, left, pull = float(centred @ centred), float(residuals @ residuals), x @ bread
    r2 = 1 - left / total if total else None
    return Fitted(params, pull * residuals[:, None], bread * left / len(y), residuals, pull**2, r2)


def linear_coefficients(sample: Sample) -> Array:
    """The coefficients of `fit_linear` alone; not of random effects.

    Raises
    ------
    EstimationError
        If they are not determined, which a sample that was drawn excludes and a part of it may not.
    """
    inner = demean(np.column_stack([sample.y, sample.x]), sample.effects)
    return least_squares(inner[:, 1:], inner[:, 0], sample.x)[0]


def least_squares(x: Array, y: Array, raw: Array) -> tuple[Array, Array]:
    """Coefficients and (x'x)^-1, by orthogonal triangles of columns that are brought to one scale.

    Parameters
    ----------
    x : (n, k) array
        Regressors.
    y : (n,) or (n, m) array
        Outcomes.
    raw : (n, k) array
        The columns before anything was taken out of them: what is left of one is compared with its length.

    Raises
    ------
    EstimationError
        If the coefficients are not determined.
    """
    scale = np.sqrt((raw**2).sum(axis=0))
    if not scale.all() or len(x) < x.shape[1]:
        raise EstimationError(f"{x.shape[1]} coefficients are not determined by {len(x)} observations. Drop terms.")
    q, r = np.linalg.qr(x / scale)
    if (np.abs(np.diag(r)) <= _TOLERANCE).any():
        rank = int((np.abs(np.diag(r)) > _TOLERANCE).sum())
        raise EstimationError(f"{x.shape[1]} coefficients, of which the observations determine {rank}. Drop terms.")
    inverse = solve_triangular(r, np.eye(len(r))) / scale[:, None]
    return np.asarray(inverse @ (q.T @ y)), np.asarray(inverse @ inverse.T)


def _random_effects(spec: Spec, sample: Sample) -> Fitted:
    """Quasi-demeaned least squares; the variance components are those of Swamy and Arora, by linearmodels."""
    from linearmodels.panel import RandomEffects

    index = sample.index
    model = RandomEffects(
        pd.Series(sample.y, index=index, name="outcome"),
        pd.DataFrame(sample.x, index=index, columns=list(sample.terms)),
    )
    try:
        result = model.fit(cov_type="unadjusted")
    except ValueError as cause:  # no degrees of freedom within or between
        raise EstimationError(f"{spec.formula}: {cause}") from None
    codes = entity_codes(index)
    theta = result.theta["theta"].reindex(pd.unique(index.get_level_values(0))).to_numpy(dtype=np.float64)
    columns = np.column_stack([sample.y, sample.x])
    inner = columns - theta[codes, None] * group_means(columns, codes)[codes]
    y, x = inner[:, 0], inner[:, 1:]
    params, bread = least_squares(x, y, sample.x)
    residuals, pull = y - x @ params, x @ bread
    parts = result.variance_decomposition
    share = float(parts["Effects"] / (parts["Effects"] + parts["Residual"]))
    diagnostics = {
        "theta": Diagnostic("theta", float(np.mean(theta)), says="share of the entity mean taken out, on average"),
        "effects share": Diagnostic("effects share", share, says="of the variance given the regressors"),
    }
    return Fitted(
        params, pull * residuals[:, None], bread * (residuals @ residuals) / len(y), sample.y - sample.x @ params,
        pull**2, diagnostics=diagnostics,
    )  # fmt: skip
