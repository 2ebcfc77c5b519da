"""The two verbs, least squares and Poisson with absorbed effects, and the covariances behind them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linprog
from scipy.special import gammaln

from villageflow.econometrics.estimate import Convention, Covariance, Estimate, Spec
from villageflow.econometrics.sample import Array, Sample, demean, draw_sample, nested
from villageflow.errors import EstimationError, did_you_mean

_LOG = logging.getLogger("villageflow")
_CHOICES = {
    "estimator": ("within", "poisson"),
    "cov": ("clustered", "driscoll-kraay", "robust", "unadjusted"),
    "convention": ("linearmodels", "stata"),
}


def within(
    formula: str,
    panel: pd.DataFrame,
    *,
    effects: Iterable[str] | str = ("entity", "time"),
    cov: Covariance = "clustered",
    cluster: str = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Least squares with absorbed effects: two-way fixed effects by default.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term`` over the columns of the panel; the transforms are those of
        `villageflow.econometrics.terms.evaluate`.
    panel : pandas.DataFrame
        Indexed (entity, time).
    effects : iterable of str, or str
        ``entity``, ``time``, a column, or columns joined by ``*``; at most two. None at all adds a constant.
    cov : {"clustered", "driscoll-kraay", "robust", "unadjusted"}
        Driscoll-Kraay uses the Bartlett kernel with floor(4 (T/100)^(2/9)) lags; it relies on many periods.
    cluster : str
        ``entity``, ``time`` or a column.
    convention : {"linearmodels", "stata"}
        ``linearmodels``: the factors of that package, N/(N-K) with K counting absorbed effects unless they are
        nested in the clusters. ``stata``: factor
        G/(G-1) (N-1)/(N-K) for clusters and N/(N-K) for robust errors, K counting one constant and the
        effects not nested in the clusters. Under both, p-values and intervals use t with G-1 degrees of freedom
        for clusters, T-1 for Driscoll-Kraay, else N-K with all absorbed effects.
    times : iterable of int
        Periods of the outcome to use; lags may reach before them. All by default.

    Returns
    -------
    Estimate

    Raises
    ------
    EstimationError
        As `villageflow.econometrics.sample.draw_sample`, or for an unknown or undefined choice.

    Notes
    -----
    Does not correct the bias of a lagged outcome under entity effects (Nickell 1981), which is of order 1/T.
    """
    spec = Spec(formula, "within", _effects(effects), cov, cluster, convention, tuple(times))
    return _logged(estimate(spec, panel))


def poisson(
    formula: str,
    panel: pd.DataFrame,
    *,
    effects: Iterable[str] | str = ("entity", "time"),
    cov: Covariance = "clustered",
    cluster: str = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Poisson pseudo maximum likelihood with absorbed effects.

    Only the mean has to be right, E[y] = exp(x b + effects): the outcome need not be Poisson and may be 0. Groups
    whose outcomes are all zero are dropped and counted; observations that a regressor separates are refused.
    ``linearmodels`` applies no small-sample factor (that package has no Poisson), ``stata`` applies G/(G-1); both use
    the normal distribution. Does not model over-dispersion; the clustered errors allow for it.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term``; the outcome itself is a count or another value of 0 or more, not its logarithm.
    panel : pandas.DataFrame
        Indexed (entity, time).
    effects : iterable of str, or str
        As for `within`, in any number.
    cov : {"clustered", "robust", "unadjusted"}
        Driscoll-Kraay is not available.
    cluster, convention, times
        As for `within`.

    Returns
    -------
    Estimate

    Raises
    ------
    EstimationError
        As `within`; also if the outcome is negative, if a combination of regressors separates zero outcomes
        from the others (no finite estimate), or if the iterations do not settle.

    References
    ----------
    Santos Silva and Tenreyro (2006); Correia, Guimaraes and Zylkin (2020) on separation.
    """
    spec = Spec(formula, "poisson", _effects(effects), cov, cluster, convention, tuple(times))
    return _logged(estimate(spec, panel))


def _effects(given: Iterable[str] | str) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def estimate(spec: Spec, panel: pd.DataFrame) -> Estimate:
    """Run a specification on a panel; `within` and `poisson` are its two faces. Does not log its notes."""
    _check_choices(spec)
    if spec.convention == "stata" and spec.cov not in ("clustered", "robust"):
        raise EstimationError(f"convention='stata' is not defined for cov={spec.cov!r}. Use 'linearmodels'.")
    sample = draw_sample(spec, panel)
    return _fit_within(spec, sample) if spec.estimator == "within" else _fit_poisson(spec, sample)


def coefficients(spec: Spec, panel: pd.DataFrame) -> pd.Series[Any]:
    """The coefficients of `estimate` without a covariance: several times faster, for simulated panels."""
    _check_choices(spec)
    sample = draw_sample(spec, panel)
    if spec.estimator == "poisson":
        params = _irls(spec, sample)[0]
    else:
        inner = demean(np.column_stack([sample.y, sample.x]), sample.effects)
        params = np.asarray(np.linalg.lstsq(inner[:, 1:], inner[:, 0], rcond=None)[0], dtype=np.float64)
    return pd.Series(params, index=pd.Index(sample.terms, name="term"), name="estimate")


def _check_choices(spec: Spec) -> None:
    for name, known in _CHOICES.items():
        value = getattr(spec, name)
        if value not in known:
            raise EstimationError(f"{name}={value!r} is not known. {did_you_mean(value, known)}")


def _logged(result: Estimate) -> Estimate:
    for note in result.notes:
        _LOG.warning("%s: %s", result.spec.formula, note)
    return result


def _finish(
    spec: Spec,
    sample: Sample,
    params: Array,
    cov: Array,
    *,
    cov_label: str,
    df: float | None,
    r2: float | None = None,
    log_likelihood: float | None = None,
) -> Estimate:
    names = pd.Index(sample.terms, name="term")
    notes = sample.notes
    n_periods = sample.index.get_level_values(1).nunique()
    if spec.cov == "driscoll-kraay" and n_periods < 15:
        notes += (f"only {n_periods} periods: Driscoll-Kraay errors are unreliable below about 15",)
    return Estimate(
        spec=spec,
        params=pd.Series(params, index=names, name="estimate"),
        cov=pd.DataFrame(cov, index=names, columns=names),
        cov_label=cov_label,
        df=df,
        nobs=len(sample.y),
        n_entities=sample.index.get_level_values(0).nunique(),
        n_periods=n_periods,
        n_clusters=sample.n_clusters,
        dropped=sample.dropped,
        r2=r2,
        log_likelihood=log_likelihood,
        notes=notes,
    )


def _fit_within(spec: Spec, sample: Sample) -> Estimate:
    from linearmodels.panel import PanelOLS

    if len(spec.effects) > 2:
        raise EstimationError(
            f"{spec.formula}: {len(spec.effects)} effects. Least squares takes at most two."
        )
    index = sample.index
    other = [codes for name, codes in zip(spec.effects, sample.effects) if name not in ("entity", "time")]
    model = PanelOLS(
        pd.Series(sample.y, index=index, name="outcome"),
        pd.DataFrame(sample.x, index=index, columns=list(sample.terms)),
        entity_effects="entity" in spec.effects,
        time_effects="time" in spec.effects,
        other_effects=pd.DataFrame(np.column_stack(other), index=index) if other else None,
    )
    options: dict[str, Any] = {"cov_type": spec.cov}
    label = {"robust": "robust to heteroskedasticity", "unadjusted": "homoskedastic"}.get(spec.cov, "")
    if spec.cov == "clustered":
        label = f"clustered by {spec.cluster}"
        options["clusters"] = pd.DataFrame(sample.clusters, index=index)
    elif spec.cov == "driscoll-kraay":
        bandwidth = int(4 * (index.get_level_values(1).nunique() / 100) ** (2 / 9))
        label = f"Driscoll-Kraay, Bartlett kernel, {bandwidth} lags"
        options |= {"cov_type": "kernel", "kernel": "bartlett", "bandwidth": bandwidth}
    result = model.fit(**options)
    params = result.params.to_numpy()
    inner = demean(np.column_stack([sample.y, sample.x]), sample.effects)
    residuals = inner[:, 0] - inner[:, 1:] @ params
    total = inner[:, 0] if sample.effects else sample.y - sample.y.mean()
    r2 = float(1 - residuals @ residuals / (total @ total))
    if spec.convention == "linearmodels":
        df = _degrees_of_freedom(spec, sample, float(result.df_resid))
        label += ", linearmodels convention"
        return _finish(spec, sample, params, result.cov.to_numpy(), cov_label=label, df=df, r2=r2)
    bread: Array = np.asarray(np.linalg.inv(inner[:, 1:].T @ inner[:, 1:]), dtype=np.float64)
    cov, df = _stata(sample, bread, inner[:, 1:] * residuals[:, None])
    label += ", Stata convention"
    return _finish(spec, sample, params, cov, cov_label=label, df=df, r2=r2)


def _degrees_of_freedom(spec: Spec, sample: Sample, otherwise: float) -> float:
    """Of the t distribution: what is independent is a cluster, or a period, and not an observation."""
    if spec.cov == "clustered" and sample.n_clusters is not None:
        return float(sample.n_clusters - 1)
    if spec.cov == "driscoll-kraay":
        return float(sample.index.get_level_values(1).nunique() - 1)
    return otherwise


def _stata(sample: Sample, bread: Array, scores: Array) -> tuple[Array, float]:
    """The sandwich with Stata's small-sample factor, and its degrees of freedom."""
    n, k = scores.shape
    clusters = sample.clusters
    counted = [e for e in sample.effects if clusters is None or not nested(e, clusters)]
    n_params = k + (1 if sample.effects else 0) + sum(int(codes.max()) for codes in counted)
    cov = _sandwich(bread, scores, sample)
    if sample.n_clusters is None:
        return cov * n / (n - n_params), float(n - n_params)
    g = sample.n_clusters
    return cov * (g / (g - 1)) * ((n - 1) / (n - n_params)), float(g - 1)


def _sandwich(bread: Array, scores: Array, sample: Sample) -> Array:
    """bread x outer product of scores, summed by cluster if there are clusters, x bread; no factor."""
    if sample.clusters is not None:
        scores = np.column_stack([np.bincount(sample.clusters, column) for column in scores.T])
    return np.asarray(bread @ (scores.T @ scores) @ bread)


def _fit_poisson(spec: Spec, sample: Sample) -> Estimate:
    if spec.cov == "driscoll-kraay":
        raise EstimationError("Driscoll-Kraay errors are not available for Poisson. Use cov='clustered'.")
    if not (sample.y > 0).any():
        raise EstimationError(f"{spec.formula}: every outcome is zero. Poisson has no finite estimate.")
    params, eta = _irls(spec, sample)
    mu = np.exp(eta)
    inner = demean(sample.x, sample.effects, mu)
    bread: Array = np.asarray(np.linalg.inv(inner.T @ (mu[:, None] * inner)), dtype=np.float64)
    cov = bread if spec.cov == "unadjusted" else _sandwich(bread, inner * (sample.y - mu)[:, None], sample)
    labels = {
        "clustered": f"clustered by {spec.cluster}",
        "robust": "robust sandwich",
        "unadjusted": "Poisson",
    }
    label = f"{labels[spec.cov]}, no small-sample factor"
    if spec.convention == "stata":
        groups = sample.n_clusters or len(sample.y)
        cov = cov * groups / (groups - 1)
        label = f"{labels[spec.cov]}, Stata convention"
    llf = float(np.sum(sample.y * eta - mu - gammaln(sample.y + 1)))
    return _finish(spec, sample, params, cov, cov_label=label, df=None, log_likelihood=llf)


def _irls(spec: Spec, sample: Sample) -> tuple[Array, Array]:
    """Coefficients and linear predictor (n,) by iteratively reweighted least squares on demeaned columns."""
    y, x = sample.y, sample.x
    mu = (y + y.mean()) / 2
    eta, last = np.log(mu), np.inf
    for _ in range(200):
        work = eta + (y - mu) / mu
        inner = demean(np.column_stack([work, x]), sample.effects, mu)
        root = np.sqrt(mu)[:, None]
        params = np.linalg.lstsq(root * inner[:, 1:], root[:, 0] * inner[:, 0], rcond=None)[0]
        eta = work - (inner[:, 0] - inner[:, 1:] @ params)
        mu = np.exp(np.clip(eta, -700.0, 700.0))
        deviance = 2 * float(
            np.sum(np.where(y > 0, y * np.log(np.where(y > 0, y, 1.0) / mu), 0.0) - (y - mu))
        )
        if abs(last - deviance) <= 1e-14 * (abs(deviance) + 1.0):
            if (mu[y == 0] < 1e-8).any():
                _refuse_separation(spec, sample)
            return params, eta
        last = deviance
    _refuse_separation(spec, sample)
    raise EstimationError(
        f"{spec.formula}: Poisson did not settle in 200 iterations. Rescale the regressors."
    )


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
