"""Instrumental variables on arrays, by linearmodels, with the diagnostics of weak instruments that it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import linalg, stats

from villageflow.econometrics.covariance import errors_of
from villageflow.econometrics.estimate import Diagnostic, singular
from villageflow.econometrics.linear import Fitted, least_squares
from villageflow.econometrics.sample import Array, Sample, demean
from villageflow.econometrics.spec import Clustered, Jackknife, Robust, Spec, Unadjusted
from villageflow.errors import EstimationError

WEAK_BIAS = 0.1
"""Worst bias of two-stage least squares, relative to its benchmark, against which the effective F is tested."""


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns of which the effects are taken out: outcome, all regressors, exogenous regressors, instruments.

    ``raw_z`` are all exogenous columns, instruments included, as they were before.
    """

    y: Array
    x: Array
    exogenous: Array
    z: Array
    raw_z: Array

    @property
    def endogenous(self) -> Array:
        return self.x[:, self.exogenous.shape[1] :]

    @property
    def all_z(self) -> Array:
        return np.hstack([self.exogenous, self.z])


def fit_instrumental(spec: Spec, sample: Sample) -> Fitted:
    """Two-stage least squares, limited-information maximum likelihood, or two-step GMM.

    The weights of GMM are those of the covariance that was asked for (clustered, robust or homoskedastic).
    """
    columns = _take_out(sample)
    x, all_z = columns.x, columns.all_z
    first_stage = least_squares(all_z, x, columns.raw_z)[0]
    model = _model(spec, sample, columns)
    params = np.asarray(model.params, dtype=np.float64)
    residuals = columns.y - x @ params
    variance = float(residuals @ residuals) / len(residuals)
    if spec.estimator == "ivgmm":
        weight, cross = np.asarray(model.weight_matrix), x.T @ all_z
        pull = all_z @ (np.linalg.inv(cross @ weight @ cross.T) @ cross @ weight).T
        unadjusted = variance * (pull.T @ pull)
    else:
        kappa = float(model.kappa) if spec.estimator == "ivliml" else 1.0
        projected = all_z @ first_stage
        bread = np.linalg.inv((x - kappa * (x - projected)).T @ x)
        pull, unadjusted = projected @ bread, variance * bread
    return Fitted(params, pull * residuals[:, None], unadjusted, residuals, pull**2)


def instrumental_diagnostics(spec: Spec, sample: Sample) -> dict[str, Diagnostic]:
    """Strength of the instruments, tests that hold whatever their strength, over-identification, endogeneity."""
    columns = _take_out(sample)
    names = sample.terms[columns.exogenous.shape[1] :]
    found: dict[str, Diagnostic] = {}
    joint = _reduced_form(spec, sample, columns, columns.y)
    if len(names) == 1:
        found["effective F"] = _effective_f(spec, sample, columns)
        says = f"{names[0]} = 0, valid with weak instruments"
        if not singular(joint.cov):
            parts = [_interval(*part) for part in anderson_rubin_set(spec, sample)]
            says += f"; 95 % set {' and '.join(parts) or 'empty'}"
    else:
        for j, name in enumerate(names):
            first = _reduced_form(spec, sample, columns, columns.endogenous[:, j])
            key = f"first-stage F, {name}"
            found[key] = first.wald(key, "no strength for this regressor; says nothing of all together")
        says = f"{' = '.join(names)} = 0, valid with weak instruments"
    found["Anderson-Rubin"] = joint.wald("Anderson-Rubin", says)
    plain = _plain(spec)
    defined = isinstance(plain.cov_type, (Unadjusted, Robust, Clustered)) and len(sample.clusters) < 2
    if columns.z.shape[1] > len(names) and defined:
        found["Hansen J"] = _overidentification(plain, sample, columns)
    found["endogeneity"] = _endogeneity(spec, sample, columns)
    return found


def anderson_rubin_set(spec: Spec, sample: Sample, level: float = 0.95) -> tuple[tuple[float, float], ...]:
    """Confidence set of the one endogenous coefficient that holds however weak the instruments are.

    Returns
    -------
    tuple of (lower, upper)
        Disjoint intervals from left to right, infinite ends where the set is not bounded, none at all if every
        value is rejected (then the instruments are not valid).

    Raises
    ------
    EstimationError
        If there is more than one endogenous regressor.

    References
    ----------
    Anderson and Rubin (1949); Andrews, Stock and Sun (2019) on robust errors.
    """
    columns = _take_out(sample)
    if columns.endogenous.shape[1] != 1:
        raise EstimationError(
            f"{spec.formula}: an Anderson-Rubin interval needs one endogenous regressor, "
            f"and there are {columns.endogenous.shape[1]}. Use the joint test in diagnostics."
        )
    centre, scale = _centre(columns)
    near, far = columns.y - centre * columns.endogenous[:, 0], -scale * columns.endogenous[:, 0]
    at_near, at_far, at_both = (_reduced_form(spec, sample, columns, part) for part in (near, far, near + far))
    if singular(at_near.cov) or singular(at_far.cov):
        raise EstimationError(
            f"{spec.formula}: the covariance of {len(at_near.params)} instruments is singular "
            f"({spec.cov_type.words}), so that there is no Anderson-Rubin interval. Use fewer instruments."
        )
    q = len(at_near.params)
    critical = float(stats.chi2.ppf(level, q) if at_near.df is None else q * stats.f.ppf(level, q, at_near.df))
    # a value centre + scale t is accepted where the matrix c0 + c1 t + c2 t^2 has no negative eigenvalue
    c0 = at_near.cov - np.outer(at_near.params, at_near.params) / critical
    c2 = at_far.cov - np.outer(at_far.params, at_far.params) / critical
    mixed = np.outer(at_near.params, at_far.params) / critical
    c1 = at_both.cov - at_near.cov - at_far.cov - mixed - mixed.T
    return tuple(
        (float(centre + scale * low), float(centre + scale * high)) for low, high in _not_negative(c0, c1, c2)
    )


def _centre(columns: _Columns) -> tuple[float, float]:
    """Two-stage least squares and its homoskedastic error, between which numbers are of order 1."""
    projected = columns.all_z @ least_squares(columns.all_z, columns.x, columns.raw_z)[0]
    params, bread = least_squares(projected, columns.y, projected)
    left = columns.y - columns.x @ params
    return float(params[-1]), float(np.sqrt(bread[-1, -1] * (left @ left) / len(left)))


def _not_negative(c0: Array, c1: Array, c2: Array) -> list[tuple[float, float]]:
    """Where the symmetric matrix c0 + c1 t + c2 t^2 has no negative eigenvalue, as intervals from left to right.

    The determinant changes sign only at real eigenvalues of the quadratic eigenvalue problem; between them one
    point decides.
    """
    size = np.sqrt(np.abs(np.diag(c0)) + np.abs(np.diag(c1)) + np.abs(np.diag(c2)))
    c0, c1, c2 = (c / np.outer(size, size) for c in (c0, c1, c2))
    q, one = len(c0), np.eye(len(c0))
    left = np.block([[np.zeros((q, q)), one], [-c0, -c1]])
    right = np.block([[one, np.zeros((q, q))], [np.zeros((q, q)), c2]])
    roots = linalg.eigvals(left, right)
    roots = roots[np.isfinite(roots)]
    real = np.sort(roots.real[np.abs(roots.imag) <= 1e-6 * (1 + np.abs(roots))])
    reach = 2 * np.abs(real).max(initial=1.0)
    edges = [-np.inf, *real.tolist(), np.inf]
    found: list[tuple[float, float]] = []
    for low, high in pairwise(edges):
        inner, outer = (float(np.clip(end, -reach, reach)) for end in (low, high))
        t = (inner + outer) / 2
        if np.linalg.eigvalsh(c0 + c1 * t + c2 * t * t)[0] >= 0:
            if found and found[-1][1] == low:
                found[-1] = (found[-1][0], high)
            else:
                found.append((low, high))
    return found


def _take_out(sample: Sample) -> _Columns:
    inner = demean(np.column_stack([sample.y, sample.x, sample.z]), sample.effects)
    k, exogenous = sample.x.shape[1], sample.x.shape[1] - sample.n_endogenous
    return _Columns(
        inner[:, 0], inner[:, 1 : k + 1], inner[:, 1 : exogenous + 1], inner[:, k + 1 :],
        np.hstack([sample.x[:, :exogenous], sample.z]),
    )  # fmt: skip


def _model(spec: Spec, sample: Sample, columns: _Columns) -> Any:
    from linearmodels.iv import IV2SLS, IVGMM, IVLIML

    n_exogenous = columns.exogenous.shape[1]
    parts = (
        columns.y, columns.exogenous if n_exogenous else None, columns.endogenous, columns.z
    )  # fmt: skip
    if spec.estimator == "iv2sls":
        return IV2SLS(*parts).fit(cov_type="unadjusted")
    if spec.estimator == "ivliml":
        return IVLIML(*parts).fit(cov_type="unadjusted")
    options: Mapping[str, Any]
    match spec.cov_type:
        case Clustered() if len(sample.clusters) == 1:
            options = {"weight_type": "clustered", "clusters": sample.clusters[0]}
        case Robust():
            options = {"weight_type": "robust"}
        case Unadjusted():
            options = {"weight_type": "unadjusted"}
        case _:
            raise EstimationError(
                f"{spec.formula}: GMM weights are not defined for {spec.cov_type.words} errors. "
                "Use cov_type='clustered' with one cluster, 'robust' or 'unadjusted', or two stages "
                "(iv(method='2sls'), as data 'iv2sls')."
            )
    return IVGMM(*parts, **options).fit(iter_limit=2)


# --- regressions on all exogenous columns ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Tested:
    """Coefficients, their covariance, and the degrees of freedom of a test that they are zero."""

    params: Array
    cov: Array
    df: float | None

    def wald(self, name: str, says: str) -> Diagnostic:
        q = len(self.params)
        if singular(self.cov):
            return Diagnostic(name, np.nan, says=f"not defined: the covariance of {q} coefficients is singular")
        statistic = float(self.params @ np.linalg.solve(self.cov, self.params))
        if self.df is None:
            return Diagnostic(name, statistic, f"chi2({q})", float(stats.chi2.sf(statistic, q)), says)
        p_value = float(stats.f.sf(statistic / q, q, self.df))
        return Diagnostic(name, statistic / q, f"F({q}, {self.df:.0f})", p_value, says)


def _plain(spec: Spec) -> Spec:
    """Least squares under the covariance asked for, which is the clustered one in place of the jackknife."""
    cov_type = Clustered((spec.cov_type.by,)) if isinstance(spec.cov_type, Jackknife) else spec.cov_type
    return replace(spec, estimator="within", cov_type=cov_type)


def _regress(spec: Spec, sample: Sample, outcome: Array, regressors: Array, last: int) -> _Tested:
    """Least squares on columns without effects; the last coefficients are kept."""
    params, bread = least_squares(regressors, outcome, regressors)
    residuals = outcome - regressors @ params
    influence = (regressors @ bread) * residuals[:, None]
    unadjusted = bread * (residuals @ residuals) / len(residuals)
    named = replace(sample, terms=tuple(f"instrument {j + 1}" for j in range(len(params))))
    found = errors_of(_plain(spec), named, influence, unadjusted, lambda _: params)
    return _Tested(params[-last:], found.cov[-last:, -last:], found.df)


def _reduced_form(spec: Spec, sample: Sample, columns: _Columns, outcome: Array) -> _Tested:
    """Coefficients of the instruments."""
    return _regress(spec, sample, outcome, columns.all_z, columns.z.shape[1])


def _effective_f(spec: Spec, sample: Sample, columns: _Columns) -> Diagnostic:
    """Effective first-stage F with the conservative critical value of Montiel Olea and Pflueger (2013)."""
    x, z = columns.endogenous[:, 0], columns.z
    if columns.exogenous.shape[1]:
        x, z = (part - columns.exogenous @ np.linalg.lstsq(columns.exogenous, part, rcond=None)[0] for part in (x, z))
    unit, _ = np.linalg.qr(z / np.sqrt((z**2).sum(axis=0)))
    first = _regress(spec, sample, columns.endogenous[:, 0], np.hstack([columns.exogenous, unit]), unit.shape[1])
    trace = float(np.trace(first.cov))
    statistic = float(first.params @ first.params) / trace
    need = 1 / WEAK_BIAS
    largest = float(np.linalg.eigvalsh(first.cov)[-1])
    df = trace**2 * (1 + 2 * need) / (float(np.sum(first.cov**2)) + 2 * need * trace * largest)
    critical = float(stats.ncx2.ppf(0.95, df, need * df)) / df
    p_value = float(stats.ncx2.sf(statistic * df, df, need * df))
    return Diagnostic(
        "effective F", statistic, "", p_value,
        f"weak instruments: a bias of 2SLS above {WEAK_BIAS:.0%}; rejected at 5 % above {critical:.1f}",
    )  # fmt: skip


def _overidentification(plain: Spec, sample: Sample, columns: _Columns) -> Diagnostic:
    """The minimum of the criterion of two-step GMM."""
    says = "all instruments are valid, given that some are"
    if (sample.n_clusters or len(sample.y)) <= columns.all_z.shape[1]:
        n_moments = columns.all_z.shape[1]
        return Diagnostic("Hansen J", np.nan, says=f"not defined: {n_moments} moments for no more clusters")
    found = _model(replace(plain, estimator="ivgmm"), sample, columns).j_stat
    return Diagnostic("Hansen J", float(found.stat), f"chi2({found.df})", float(found.pval), says)


def _endogeneity(spec: Spec, sample: Sample, columns: _Columns) -> Diagnostic:
    """Whether residuals of the first stage matter beside the regressors (control function)."""
    first = columns.endogenous - columns.all_z @ least_squares(columns.all_z, columns.endogenous, columns.raw_z)[0]
    tested = _regress(spec, sample, columns.y, np.hstack([columns.x, first]), first.shape[1])
    return tested.wald("endogeneity", "least squares and instruments estimate the same")


def _interval(lower: float, upper: float) -> str:
    return f"{'(-inf' if np.isinf(lower) else f'[{lower:.4g}'}, {'inf)' if np.isinf(upper) else f'{upper:.4g}]'}"
