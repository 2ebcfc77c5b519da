"""What a two-way fixed effects coefficient of a staggered treatment is made of (Goodman-Bacon 2021)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from villageflow.econometrics.staggered.cohorts import Array, Mask, draw_cohorts, number
from villageflow.econometrics.staggered.spec import StaggeredSpec
from villageflow.errors import EstimationError

_COLUMNS = ["kind", "treated_cohort", "control_cohort", "estimate", "weight"]


def bacon_decomposition(formula: str, panel: pd.DataFrame, *, cohort: str) -> pd.DataFrame:
    """The two-by-two comparisons behind a two-way fixed effects coefficient, with their weights [1]_.

    Parameters
    ----------
    formula : str
        ``outcome ~ 1``; covariates are not decomposed.
    panel : pandas.DataFrame
        Indexed (entity, time), balanced.
    cohort : str
        As in `StaggeredSpec`. Entities treated from the first period on are dropped; those first treated between two
        periods of the panel count as first treated in the later one.

    Returns
    -------
    pandas.DataFrame
        One row per comparison: ``kind``, which is ``treated vs never``, ``earlier vs later`` (controls not yet treated)
        or ``later vs earlier`` (controls already treated, which is wrong where effects grow); ``treated_cohort``,
        ``control_cohort`` (infinite for never), ``estimate`` and ``weight``. Weights are positive and sum to 1.
        ``attrs["two_way"]`` is the coefficient, the weighted sum; ``attrs["dropped"]`` what was left out.

    Raises
    ------
    EstimationError
        As `draw_cohorts`; if the formula has covariates, the panel is not balanced, or only one cohort is left.

    References
    ----------
    .. [1] Goodman-Bacon (2021), Journal of Econometrics 225.
    """
    sample = draw_cohorts(StaggeredSpec(formula, cohort, control="not_yet"), panel)
    if sample.terms:
        raise EstimationError(f"{formula}: the decomposition takes no covariates. Write 'outcome ~ 1'.")
    if not sample.observed.all():
        i, j = np.argwhere(~sample.observed)[0]
        raise EstimationError(
            f"{formula}: the panel is not balanced: {sample.entities[i]} has no complete row in "
            f"{number(sample.times[j])}. Keep the entities known in all periods."
        )
    first = np.append(sample.times, np.inf)[np.searchsorted(sample.times, sample.cohort)]
    groups, size = np.unique(first, return_counts=True)
    if len(groups) < 2:
        raise EstimationError(f"{formula}: all entities are first treated in {number(groups[0])}; nothing is compared.")
    path = np.array([sample.y[first == g].mean(axis=0) for g in groups])
    rows = _comparisons(groups, size / size.sum(), path, sample.times)
    found = pd.DataFrame(rows, columns=_COLUMNS)
    found["weight"] /= found["weight"].sum()
    found.attrs["two_way"] = _two_way(sample.y, sample.times >= first[:, None])
    found.attrs["dropped"] = [f"{item.n} {item.reason}" for item in sample.dropped]
    return found


def _comparisons(
    groups: Array, share: Array, path: Array, times: Array
) -> list[tuple[str, float, float, float, float]]:
    """Every pair of groups, early before late; weights up to one factor."""
    rows = []
    treated_time = np.array([(times >= g).mean() for g in groups])
    for k, early in enumerate(groups):
        for other in range(k + 1, len(groups)):
            late, pair = groups[other], float(share[k] * share[other])
            d_early, d_late = treated_time[k], treated_time[other]
            kind = "treated vs never" if np.isinf(late) else "earlier vs later"
            gap = path[k] - path[other]
            estimate = gap[(times >= early) & (times < late)].mean() - gap[times < early].mean()
            rows.append((kind, early, late, float(estimate), pair * (d_early - d_late) * (1 - d_early)))
            if np.isfinite(late):
                estimate = gap[(times >= early) & (times < late)].mean() - gap[times >= late].mean()
                weight = pair * d_late * (d_early - d_late)
                rows.append(("later vs earlier", late, early, float(estimate), weight))
    return rows


def _two_way(y: Array, treated: Mask) -> float:
    d = treated - treated.mean(axis=1, keepdims=True) - treated.mean(axis=0) + treated.mean()
    return float((d * y).sum() / (d * d).sum())
