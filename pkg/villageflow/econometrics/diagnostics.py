"""Tests on the residuals of an estimate."""

from __future__ import annotations

import numpy as np
from scipy import stats

from villageflow.econometrics.estimate import Diagnostic, Estimate
from villageflow.errors import EstimationError

_FEWEST_COMMON = 3


def cross_section_dependence(estimate: Estimate, *, seed: int = 1) -> Diagnostic:
    """Test that residuals of different entities are not correlated within a period.

    Parameters
    ----------
    estimate : Estimate
        With residuals.
    seed : int
        Of the weights, which are drawn where time effects are absorbed.

    Returns
    -------
    Diagnostic
        The CD statistic of Pesaran (2015), unbalanced panels by common periods; normal under the null for many
        entities. Time effects make residuals of a period add up to zero and CD far too negative: where they are
        absorbed, residuals are weighted by random signs [1]_, which loses power but keeps the size.

    Raises
    ------
    EstimationError
        If there are no residuals, or no two entities share three periods.

    References
    ----------
    .. [1] Juodis and Reese (2022).
    """
    if estimate.residuals is None:
        raise EstimationError(f"{estimate.spec.formula}: {estimate.spec.words} keeps no residuals to test.")
    table = estimate.residuals.unstack(level=1)
    effects = getattr(estimate.spec, "absorbed", ())
    weighted = any("time" in name.split("*") for name in effects) or getattr(estimate.spec, "time_effects", False)
    values = table.to_numpy(dtype=np.float64)
    if weighted:
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        values = values * rng.choice([-1.0, 1.0], size=(len(values), 1))
    total, pairs, size = 0.0, 0, 0.0
    known = np.isfinite(values)
    for i in range(len(values) - 1):
        common = known[i] & known[i + 1 :]
        count = common.sum(axis=1)
        use = count >= _FEWEST_COMMON
        own = np.where(common, values[i], 0.0)[use]
        other = np.where(common, values[i + 1 :], 0.0)[use]
        if not weighted:
            own = np.where(common[use], own - own.sum(axis=1, keepdims=True) / count[use, None], 0.0)
            other = np.where(common[use], other - other.sum(axis=1, keepdims=True) / count[use, None], 0.0)
        length = np.sqrt((own**2).sum(axis=1) * (other**2).sum(axis=1))
        correlation = np.divide((own * other).sum(axis=1), length, out=np.zeros_like(length), where=length > 0)
        total += float((np.sqrt(count[use]) * correlation).sum())
        size += float(np.abs(correlation).sum())
        pairs += int(use.sum())
    if not pairs:
        raise EstimationError(
            f"{estimate.spec.formula}: no two entities share {_FEWEST_COMMON} periods. Use a longer panel."
        )
    statistic = total / np.sqrt(pairs)
    name = "weighted CD" if weighted else "CD"
    says = f"no dependence between entities; mean absolute correlation {size / pairs:.2f}"
    return Diagnostic(name, float(statistic), "N(0, 1)", float(2 * stats.norm.sf(abs(statistic))), says)
