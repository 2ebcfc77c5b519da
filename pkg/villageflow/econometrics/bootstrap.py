"""Wild cluster bootstrap with the null imposed, for tests and intervals with few clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from villageflow.econometrics.covariance import errors_of, sums_by
from villageflow.econometrics.draw import draw_sample
from villageflow.econometrics.estimate import check_level, check_term
from villageflow.econometrics.linear import fit_linear, least_squares
from villageflow.econometrics.sample import Array, Codes, Sample, demean, n_groups
from villageflow.econometrics.spec import Clustered, Spec, not_a_spec
from villageflow.errors import EstimationError

Weights = Literal["rademacher", "webb"]
_WEBB = np.sqrt([1.5, 1.0, 0.5])
_MOST_CELLS = 10_000_000
_WIDEST = 1000.0
"""Standard errors from the estimate at which the search for an end of the interval stops: no end within reach."""


@dataclass(frozen=True)
class WildBootstrap:
    """A test of one coefficient by the wild cluster restricted bootstrap, and the interval that inverts it.

    Parameters
    ----------
    term : str
    estimate, statistic : float
        Coefficient, and its t under the clustered covariance of the specification.
    p_value : float
        Share of draws whose statistic is larger in absolute value; ties, such as the estimate itself, do not count.
    lower, upper : float
        Ends of the interval around the estimate in which no value is rejected; infinite where none was found.
    level : float
    n_draws : int
        Draws, or 2^G if all sign patterns were enumerated.
    enumerated : bool
    n_clusters : int
    label : str
        The method in words.
    """

    term: str
    estimate: float
    statistic: float
    p_value: float
    lower: float
    upper: float
    level: float
    n_draws: int
    enumerated: bool
    n_clusters: int
    label: str


def wild_bootstrap(
    spec: Spec,
    panel: pd.DataFrame,
    term: str,
    *,
    n_draws: int = 9_999,
    weights: Weights = "rademacher",
    level: float = 0.95,
    seed: int = 1,
) -> WildBootstrap:
    """Test that a coefficient is zero by the wild cluster restricted bootstrap (WCR) of least squares.

    Parameters
    ----------
    spec : Spec
        Least squares (``within`` or ``first_difference``) with errors clustered one way.
    panel : pandas.DataFrame
        Indexed (entity, time).
    term : str
        The coefficient.
    n_draws : int
        Draws of weights, at least 99; if the 2^G sign patterns of G clusters are no more, all of them are taken.
    weights : {"rademacher", "webb"}
        Signs, or six points, which give more patterns where clusters are fewer than ten and not enumerated.
    level : float
        Of the interval.
    seed : int
        Of the draws; not used where they are enumerated.

    Returns
    -------
    WildBootstrap
        The null is imposed on the residuals, effects are taken out of every drawn outcome anew, and the same
        small-sample factor is in the statistic and its draws, so that p-values do not depend on the convention.

    Raises
    ------
    EstimationError
        If the specification is of another kind, the term is unknown, a setting is out of range, or the clusters are
        so few that their sign patterns cannot reject at this level.

    References
    ----------
    Cameron, Gelbach and Miller (2008); Roodman, MacKinnon, Nielsen and Webb (2019).
    """
    _check(spec, n_draws, weights, level)
    sample = draw_sample(spec, panel)
    check_term(term, sample.terms, spec)
    n = n_groups(sample.clusters[0])
    _check_patterns(spec, n, weights, level)
    signs, enumerated = _draw(n, n_draws, weights, seed)
    how = f"all {len(signs)} sign patterns" if enumerated else f"{len(signs)} draws, {weights} weights"
    label = f"wild cluster restricted bootstrap, {spec.cov_type.words}, {how}"
    estimate, statistic, p, (lower, upper) = _invert(spec, sample, sample.terms.index(term), signs, level)
    return WildBootstrap(term, estimate, statistic, p, lower, upper, level, len(signs), enumerated, n, label)


def _check(spec: object, n_draws: int, weights: str, level: float) -> None:
    if not isinstance(spec, Spec):
        raise not_a_spec(spec, "Spec")
    if spec.estimator not in ("within", "first_difference"):
        raise EstimationError(f"The wild bootstrap is for least squares, not {spec.words}. Use cov_type='jackknife'.")
    if not isinstance(spec.cov_type, Clustered) or len(spec.cov_type.by) != 1:
        raise EstimationError(f"The wild bootstrap needs errors clustered one way, not {spec.cov_type.words}.")
    if n_draws < 99:
        raise EstimationError(f"n_draws is {n_draws}; use at least 99, better 9999.")
    if weights not in ("rademacher", "webb"):
        raise EstimationError(f"weights={weights!r} is not known. Use 'rademacher' or 'webb'.")
    check_level(level)


def _check_patterns(spec: Spec, n: int, weights: str, level: float) -> None:
    """Refuse a level that the sign patterns of so few clusters cannot reach."""
    if weights == "rademacher" and 2.0 ** (1 - n) > 1 - level:
        raise EstimationError(
            f"{spec.formula}: {n} clusters have {2 ** (n - 1)} sign patterns up to sign, too few for a level of "
            f"{level:g}. Use weights='webb'."
        )


def _draw(groups: int, n_draws: int, weights: str, seed: int) -> tuple[Array, bool]:
    """Weights (draws, groups), and whether they are all there are."""
    if weights == "rademacher" and groups < 31 and 2**groups <= n_draws + 1:
        patterns = (np.arange(2**groups)[:, None] >> np.arange(groups)) & 1
        return np.asarray(1.0 - 2.0 * patterns, dtype=np.float64), True
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    points = np.array([1.0, -1.0] if weights == "rademacher" else [*_WEBB, *-_WEBB], dtype=np.float64)
    drawn: Array = points[rng.integers(len(points), size=(n_draws, groups))]
    return drawn, False


def _invert(
    spec: Spec, sample: Sample, place: int, signs: Array, level: float
) -> tuple[float, float, float, tuple[float, float]]:
    """Estimate, its t statistic, the p-value of zero, and the interval of values that are not rejected."""
    fitted, codes = fit_linear(spec, sample), sample.clusters[0]
    errors = errors_of(spec, sample, fitted.influence, fitted.unadjusted, lambda _: fitted.params)
    estimate, error = float(fitted.params[place]), float(np.sqrt(errors.cov[place, place]))
    statistics = _statistics(sample, place, codes, signs)
    plain = float(np.sqrt((np.bincount(codes, fitted.influence[:, place]) ** 2).sum()))  # no small-sample factor

    def p_value(null: float) -> float:
        """Share of draws under a null that are further out than the estimate; rounding breaks no tie."""
        return float(np.mean(np.abs(statistics(null)) > abs(estimate - null) / plain * (1 + 1e-9)))

    lower, upper = (_end(p_value, estimate, side * error, 1 - level) for side in (-1, 1))
    return estimate, estimate / error, p_value(0.0), (lower, upper)


def _statistics(sample: Sample, place: int, codes: Codes, signs: Array) -> Callable[[float], Array]:
    """A function from a null value to the statistics of all draws under it, without the small-sample factor.

    Numerator and cluster scores of a draw are linear in its weights, and the restricted residuals are linear in the
    null value: two matrices of groups by groups give every statistic.
    """
    inner = demean(np.column_stack([sample.y, sample.x]), sample.effects)
    others = np.delete(inner[:, 1:], place, axis=1)

    raw = np.delete(sample.x, place, axis=1)

    def without_others(columns: Array) -> Array:
        taken = demean(columns, sample.effects)
        return taken - others @ least_squares(others, taken, raw)[0] if raw.shape[1] else taken

    x = without_others(inner[:, [place + 1]])[:, 0]
    length, n = x @ x, n_groups(codes)
    parts = []
    for residual in (without_others(inner[:, [0]])[:, 0], x):
        scores = np.empty((n, n))
        for some in np.array_split(np.arange(n), 1 + n * len(x) // _MOST_CELLS):
            drawn = without_others((codes[:, None] == some) * residual[:, None])
            drawn -= np.outer(x, x @ drawn) / length
            scores[:, some] = sums_by(x[:, None] * drawn, codes)
        parts.append((np.bincount(codes, x * residual), scores))
    (top_y, scores_y), (top_x, scores_x) = parts

    def statistics(null: float) -> Array:
        top = signs @ (top_y - null * top_x)
        scores = signs @ (scores_y - null * scores_x).T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.nan_to_num(top / np.sqrt((scores**2).sum(axis=1)), nan=0.0))

    return statistics


def _end(p_value: Callable[[float], float], centre: float, step: float, alpha: float) -> float:
    """Where the p-value first falls to ``alpha`` or below on one side of the estimate, to 1e-6 of a standard error."""
    near, far = 0.0, 1.0
    while p_value(centre + far * step) > alpha:
        near, far = far, 2 * far
        if far > _WIDEST:
            return float(np.sign(step) * np.inf)
    while far - near > 1e-6:
        middle = (near + far) / 2
        near, far = (middle, far) if p_value(centre + middle * step) > alpha else (near, middle)
    return centre + far * step
