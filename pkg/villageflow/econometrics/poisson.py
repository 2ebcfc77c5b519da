"""Poisson pseudo maximum likelihood with absorbed effects, on arrays."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from scipy.special import gammaln

from villageflow.econometrics.linear import Fitted, least_squares
from villageflow.econometrics.sample import Array, Sample, demean
from villageflow.econometrics.spec import Spec
from villageflow.errors import EstimationError

_MOST_STEPS = 200
_SETTLED = 1e-11
_FURTHEST = 300.0
"""Largest logarithm of a mean; what goes further is on its way to no finite estimate."""


def fit_poisson(spec: Spec, sample: Sample) -> Fitted:
    """Coefficients by iteratively reweighted least squares on demeaned columns; the mean is exp(x b + effects)."""
    params, eta = _irls(spec, sample)
    mu = np.exp(eta)
    root = np.sqrt(mu)[:, None]
    inner = demean(sample.x, sample.effects, mu)
    bread = least_squares(root * inner, root[:, 0], root * sample.x)[1]
    pull = inner @ bread
    return Fitted(
        params=params,
        influence=pull * (sample.y - mu)[:, None],
        unadjusted=bread,
        residuals=sample.y - mu,
        shares=mu[:, None] * pull**2,
        log_likelihood=float(np.sum(sample.y * eta - mu - gammaln(sample.y + 1))),
    )


def poisson_coefficients(spec: Spec, sample: Sample) -> Array:
    """The coefficients of `fit_poisson` alone; groups that a part of a sample leaves with zeros only are taken out."""
    while True:
        zero = np.zeros(len(sample.y), dtype=bool)
        for codes in sample.effects:
            zero |= np.bincount(codes, sample.y)[codes] == 0
        if not zero.any() or zero.all():
            return _irls(spec, sample)[0]
        sample = sample.without(zero)


def _irls(spec: Spec, sample: Sample) -> tuple[Array, Array]:
    """Coefficients and linear predictor (n,)."""
    y, x = sample.y, sample.x
    if not (y > 0).any():
        raise EstimationError(f"{spec.formula}: every outcome is zero. Poisson has no finite estimate.")
    mu = (y + y.mean()) / 2
    eta = np.log(mu)
    for _ in range(_MOST_STEPS):
        work = eta + (y - mu) / mu
        inner = demean(np.column_stack([work, x]), sample.effects, mu)
        root = np.sqrt(mu)[:, None]
        try:
            params, _ = least_squares(root * inner[:, 1:], root[:, 0] * inner[:, 0], root * x)
        except EstimationError:  # weights fell to zero where a regressor varies
            break
        last, eta = eta, work - (inner[:, 0] - inner[:, 1:] @ params)
        if np.abs(eta).max() > _FURTHEST:
            break
        mu = np.exp(eta)
        if np.sqrt(mu @ (eta - last) ** 2 / mu.sum()) <= _SETTLED:
            if (mu[y == 0] < 1e-8 * y.mean()).any():
                _refuse_separation(spec, sample)
            return params, eta
    _refuse_separation(spec, sample)
    raise EstimationError(f"{spec.formula}: Poisson did not settle in {_MOST_STEPS} steps. Rescale the variables.")


def _refuse_separation(spec: Spec, sample: Sample) -> None:
    """Refuse if a combination of regressors and effects is 0 where y > 0 and, where y = 0, never negative.

    Then the mean of the zeros with a positive value can fall for ever and no finite estimate exists. The
    combination is sought by a linear programme: the largest sum over the zeros, coefficients within 1.
    """
    zero = sample.y == 0
    columns = sample.x / np.abs(sample.x).max(axis=0)
    rows = np.arange(len(zero))
    parts = [sparse.csr_array((np.ones(len(rows)), (rows, codes))) for codes in sample.effects]
    design = sparse.csr_array(sparse.hstack([sparse.csr_array(columns), *parts]))
    found = linprog(
        -np.asarray(design[zero].sum(axis=0)).ravel(),
        A_ub=-design[zero],
        b_ub=np.zeros(int(zero.sum())),
        A_eq=design[~zero],
        b_eq=np.zeros(int((~zero).sum())),
        bounds=(-1.0, 1.0),
    )
    if found.x is None:
        return
    separated = zero & (design @ found.x > 1e-6)
    if separated.any():
        entity, time = sample.index[int(separated.argmax())]
        raise EstimationError(
            f"{spec.formula}: {int(separated.sum())} zero outcomes are predicted perfectly, the first is "
            f"{entity} at {time}; no finite estimate exists. Drop them, or the regressor that tells them."
        )
