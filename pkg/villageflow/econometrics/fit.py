"""The verbs: regressions by formula on a panel, all with the same options and the same result."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from villageflow.econometrics.covariance import errors_of, sums_by, unequal_clusters
from villageflow.econometrics.draw import draw_sample
from villageflow.econometrics.dynamic import DynamicSpec, dynamic_estimate
from villageflow.econometrics.estimate import Estimate
from villageflow.econometrics.instruments import fit_instrumental, instrumental_diagnostics
from villageflow.econometrics.linear import Fitted, fit_linear, linear_coefficients
from villageflow.econometrics.poisson import fit_poisson, poisson_coefficients
from villageflow.econometrics.sample import Array, Sample, entity_codes
from villageflow.econometrics.spec import (
    AnySpec,
    Convention,
    CovarianceLike,
    Estimator,
    Names,
    Spec,
    as_covariance,
    not_a_spec,
)
from villageflow.econometrics.staggered import StaggeredSpec, staggered_estimate
from villageflow.errors import EstimationError

_LOG = logging.getLogger("villageflow")
_IV: Final[dict[str, Estimator]] = {"2sls": "iv2sls", "liml": "ivliml", "gmm": "ivgmm"}


def within(
    formula: str,
    panel: pd.DataFrame,
    *,
    effects: Names = ("entity", "time"),
    cov_type: CovarianceLike = "clustered",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Least squares with absorbed effects: two-way fixed effects by default.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term`` over the columns of the panel; the terms are those of
        `villageflow.datasets.terms.evaluate`.
    panel : pandas.DataFrame
        Indexed (entity, time).
    effects : iterable of str, or str
        ``entity``, ``time``, a column, or columns joined by ``*``, in any number. None at all adds a constant.
    cov_type : str or covariance
        ``clustered``, ``jackknife`` (CRV3, for few clusters), ``driscoll-kraay``, ``robust``, ``unadjusted``, or a
        class of `villageflow.econometrics.spec` such as ``Conley("latitude", "longitude", 100)``.
    cluster : str or tuple of str
        ``entity``, ``time`` or a column, or two of them; used by ``clustered`` and ``jackknife``.
    convention : {"linearmodels", "stata", "fixest"}
        Small-sample factors; docs/econometrics.md has the table and the conversions. Under all of them, p-values
        and intervals use t with G-1 degrees of freedom for clusters, T-1 for Driscoll-Kraay, else N-K with all
        absorbed effects.
    times : iterable of int
        Periods of the outcome to use; lags may reach before them. All by default.

    Returns
    -------
    Estimate

    Raises
    ------
    EstimationError
        As `villageflow.econometrics.draw.draw_sample`, or for an unknown or undefined choice.

    Notes
    -----
    Does not correct the bias of a lagged outcome under entity effects (Nickell 1981), which is of order 1/T; see
    `villageflow.econometrics.difference_gmm`. Two-way effects are no estimate of a treatment that starts at
    different times; see `villageflow.econometrics.event_study`.
    """
    return _run(formula, panel, "within", effects, cov_type, cluster, convention, times)


def pooled(
    formula: str,
    panel: pd.DataFrame,
    *,
    cov_type: CovarianceLike = "clustered",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Least squares with a constant and no effects; parameters as for `within`."""
    return _run(formula, panel, "within", (), cov_type, cluster, convention, times)


def random_effects(
    formula: str,
    panel: pd.DataFrame,
    *,
    cov_type: CovarianceLike = "clustered",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Random entity effects by the variance components of Swamy and Arora (1972); parameters as for `within`.

    Needs effects that are not correlated with the regressors: `correlated_random_effects` tests it.
    """
    return _run(formula, panel, "random", (), cov_type, cluster, convention, times)


def correlated_random_effects(
    formula: str,
    panel: pd.DataFrame,
    *,
    cov_type: CovarianceLike = "clustered",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Random effects with the entity means of the regressors beside them; parameters as for `within`.

    The coefficients of regressors that vary over time are those within entities. ``diagnostics["Mundlak"]`` tests
    that the means are not needed, under whatever covariance was asked for: it takes the place of the classical
    Hausman test, which holds under homoskedastic errors only and may be negative.

    References
    ----------
    Mundlak (1978); Wooldridge (2019) for unbalanced panels.
    """
    return _run(formula, panel, "correlated_random", (), cov_type, cluster, convention, times)


def first_difference(
    formula: str,
    panel: pd.DataFrame,
    *,
    effects: Names = (),
    cov_type: CovarianceLike = "clustered",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Least squares on changes over one unit of time, without a constant; parameters as for `within`.

    A change over a gap in time is missing. ``effects=("time",)`` absorbs what is common to the changes of a period.
    """
    return _run(formula, panel, "first_difference", effects, cov_type, cluster, convention, times)


def between(
    formula: str,
    panel: pd.DataFrame,
    *,
    cov_type: CovarianceLike = "robust",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Least squares between the means of entities, each with the same weight; parameters as for `within`.

    Entities are independent observations here: errors are ``robust`` by default, of the verb as of its `Spec`.
    """
    return _run(formula, panel, "between", (), cov_type, cluster, convention, times)


def poisson(
    formula: str,
    panel: pd.DataFrame,
    *,
    effects: Names = ("entity", "time"),
    cov_type: CovarianceLike = "clustered",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Poisson pseudo maximum likelihood with absorbed effects.

    Only the mean has to be right, E[y] = exp(x b + effects): the outcome need not be Poisson and may be 0. Groups
    whose outcomes are all zero are dropped and counted; observations that a regressor separates are refused.
    The reference is normal; with clusters under ``linearmodels`` (a package without this estimator) it is t(G-1). Does
    not model over-dispersion; the clustered errors allow for it.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term``; the outcome itself is a count or another value of 0 or more, not its logarithm.
    panel, effects, cov_type, cluster, convention, times
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
    return _run(formula, panel, "poisson", effects, cov_type, cluster, convention, times)


def iv(
    formula: str,
    panel: pd.DataFrame,
    *,
    method: str = "2sls",
    effects: Names = ("entity", "time"),
    cov_type: CovarianceLike = "clustered",
    cluster: Names = "entity",
    convention: Convention = "linearmodels",
    times: Iterable[int] = (),
) -> Estimate:
    """Instrumental variables with absorbed effects.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + [endogenous + endogenous ~ instrument + instrument]``.
    panel, effects, cov_type, cluster, convention, times
        As for `within`. linearmodels applies no small-sample factor here.
    method : {"2sls", "liml", "gmm"}
        Two-stage least squares, limited-information maximum likelihood, two-step GMM with the weights of
        ``cov_type``.

    Returns
    -------
    Estimate
        ``diagnostics`` holds the effective F of Montiel Olea and Pflueger (2013) (one endogenous regressor; else
        first-stage F tests), the Anderson-Rubin test and, for one endogenous regressor, its 95 percent set, Hansen's
        J if over-identified, and a test of endogeneity, all under ``cov_type``.

    Raises
    ------
    EstimationError
        As `within`; also if there are fewer instruments than endogenous regressors, or the weights of GMM are not
        defined for the covariance.
    """
    if not isinstance(method, str) or method not in _IV:
        raise EstimationError(f"method={method!r} is not known. Use '2sls', 'liml' or 'gmm'.")
    return _run(formula, panel, _IV[method], effects, cov_type, cluster, convention, times)


def estimate(spec: AnySpec, panel: pd.DataFrame) -> Estimate:
    """Run a specification on a panel; the verbs are its faces. Does not log its notes."""
    match spec:
        case DynamicSpec():
            return dynamic_estimate(spec, panel)
        case StaggeredSpec():
            return staggered_estimate(spec, panel)
        case Spec():
            return _estimate(spec, panel)
    raise not_a_spec(spec)


def coefficients(spec: AnySpec, panel: pd.DataFrame) -> pd.Series[Any]:
    """The coefficients of `estimate`, for simulated panels: of a `Spec` without covariance and several times faster."""
    if not isinstance(spec, Spec):
        return estimate(spec, panel).params
    sample = draw_sample(spec, panel)
    params = _coefficients(spec, sample)
    return pd.Series(params, index=pd.Index(sample.terms, name="term"), name="estimate")


def _run(
    formula: str, panel: pd.DataFrame, estimator: Estimator, effects: Names, cov_type: CovarianceLike,
    cluster: Names, convention: Convention, times: Iterable[int],
) -> Estimate:  # fmt: skip
    if effects is None:
        raise EstimationError("effects=None: write effects=() for none, or name them.")
    spec = Spec(formula, estimator, effects, as_covariance(cov_type, cluster), convention, times)
    return logged(_estimate(spec, panel))


def logged(result: Estimate) -> Estimate:
    """The result, after its notes have gone to the log as warnings."""
    for note in result.notes:
        _LOG.warning("%s: %s", result.spec.formula, note)
    return result


def _estimate(spec: Spec, panel: pd.DataFrame) -> Estimate:
    sample = draw_sample(spec, panel)
    fitted = _fit(spec, sample)
    errors = errors_of(spec, sample, fitted.influence, fitted.unadjusted, lambda part: _coefficients(spec, part))
    names = pd.Index(sample.terms, name="term")
    diagnostics = dict(fitted.diagnostics)
    if sample.instruments:
        diagnostics |= instrumental_diagnostics(spec, sample)
    entities = pd.unique(sample.index.get_level_values(0))
    result = Estimate(
        spec=spec,
        params=pd.Series(fitted.params, index=names, name="estimate"),
        cov=pd.DataFrame(errors.cov, index=names, columns=names),
        cov_label=errors.label,
        df=errors.df,
        nobs=len(sample.y),
        n_entities=len(entities),
        n_periods=sample.n_periods,
        n_clusters=sample.n_clusters,
        dropped=sample.dropped,
        r2=fitted.r2,
        log_likelihood=fitted.log_likelihood,
        notes=(*sample.notes, *errors.notes, *_cautions(spec, sample, fitted)),
        diagnostics=diagnostics,
        residuals=pd.Series(fitted.residuals, index=sample.index, name="residual"),
        influence=pd.DataFrame(
            sums_by(fitted.influence, entity_codes(sample.index)),
            index=pd.Index(entities, name="entity"),
            columns=names,
        ),
    )
    if spec.estimator == "correlated_random":
        means = list(names[-len(sample.means_of) :])
        return replace(result, diagnostics=diagnostics | {"Mundlak": result.wald(means, name="Mundlak")})
    return result


def _cautions(spec: Spec, sample: Sample, fitted: Fitted) -> tuple[str, ...]:
    """Notes on clusters that are too unequal, and on an outcome of which nothing is left to estimate errors from."""
    if np.abs(fitted.residuals).max() > 1e-9 * np.abs(sample.y).max():
        return unequal_clusters(spec, sample, fitted.shares)
    return ("regressors and effects give the outcome exactly: errors and tests mean nothing",)


def _fit(spec: Spec, sample: Sample) -> Fitted:
    if spec.estimator == "poisson":
        return fit_poisson(spec, sample)
    if sample.instruments:
        return fit_instrumental(spec, sample)
    return fit_linear(spec, sample)


def _coefficients(spec: Spec, sample: Sample) -> Array:
    if spec.estimator == "poisson":
        return poisson_coefficients(spec, sample)
    if spec.estimator in ("within", "first_difference", "between"):
        return linear_coefficients(sample)
    return _fit(spec, sample).params
