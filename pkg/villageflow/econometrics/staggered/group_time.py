"""Effects by cohort and period from two-period comparisons (Callaway and Sant'Anna 2021)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from villageflow.econometrics.spec import Clustered
from villageflow.econometrics.staggered.aggregate import Cell, GroupTime, count_unused, group_time, not_estimated
from villageflow.econometrics.staggered.cohorts import Array, Cohorts, Mask, draw_cohorts, last_before
from villageflow.econometrics.staggered.spec import Adjustment, Base, Control, StaggeredSpec
from villageflow.errors import EstimationError

_ROUNDS = 50
_OVERLAP = 0.999
_CONDITION = 1e10


class _NotEstimableError(Exception):
    """Why a cell has no estimate; caught here and listed in the notes."""


def group_time_effects(
    formula: str,
    panel: pd.DataFrame,
    *,
    cohort: str,
    control: Control = "never",
    anticipation: int = 0,
    base: Base = "varying",
    cluster: str = "entity",
    adjustment: Adjustment = "regression",
) -> GroupTime:
    """Average effects on the treated by cohort and period, from comparisons of changes [1]_.

    The effect on cohort g in t is the change of its outcome since a base period, less that of entities not treated
    in either, who have the same covariates. Rests on parallel trends given covariates and, before treatment, no
    effect earlier than ``anticipation``.

    Parameters
    ----------
    formula : str
        ``outcome ~ 1`` or ``outcome ~ covariate + covariate``. Covariates are taken in the base period.
    panel : pandas.DataFrame
        Indexed (entity, time). Needs not be balanced: a cell uses the entities known in both its periods.
    cohort, control, anticipation, base, adjustment
        As in `StaggeredSpec`. Under ``varying`` a period before treatment is compared with the period before it, under
        ``universal`` with the last before treatment.
    cluster : str
        ``entity``, or a column that is constant within entities.

    Returns
    -------
    GroupTime
        Its method `aggregate` gives event-time paths and other averages.

    Raises
    ------
    EstimationError
        As `draw_cohorts` and `StaggeredSpec`, or if no cell can be estimated. Single cells that cannot are listed in
        the notes: nobody to compare with, more covariates than controls, or no overlap of covariates.

    Notes
    -----
    Errors come from influence functions, with those of estimated weights; no bootstrap. Propensity scores are logits
    fitted by maximum likelihood, without trimming. Does not use sampling weights.

    References
    ----------
    .. [1] Callaway and Sant'Anna (2021), Journal of Econometrics 225.
    .. [2] Sant'Anna and Zhao (2020), Journal of Econometrics 219.
    """
    spec = StaggeredSpec(
        formula, cohort, control=control, anticipation=anticipation, base=base, adjustment=adjustment,
        cov_type=Clustered((cluster,)), target="group_time",
    )  # fmt: skip
    return compare_changes(spec, draw_cohorts(spec, panel))


def compare_changes(spec: StaggeredSpec, sample: Cohorts) -> GroupTime:
    """All cells of a sample, each from two of its periods."""
    cells, effects, influences = [], [], []
    failed: list[tuple[str, str]] = []
    used = np.zeros_like(sample.observed)
    for g, now, base in _pairs(spec, sample):
        treated = sample.cohort == g
        known = sample.observed[:, now] & sample.observed[:, base]
        take = (treated | _controls(spec, sample, g, max(now, base))) & known
        cell = Cell(g, float(sample.times[now]), float(sample.times[base]), int((treated & take).sum()))
        change = (sample.y[:, now] - sample.y[:, base])[take]
        try:
            effect, psi = _difference(change, treated[take] * 1.0, sample.x[take, base], spec.adjustment)
        except _NotEstimableError as reason:
            failed.append((cell.label, str(reason)))
            continue
        influence = np.zeros(len(sample.entities))
        influence[take] = psi / len(change)
        used[take, now] = used[take, base] = True
        cells.append(cell)
        effects.append(effect)
        influences.append(influence)
    if not cells:
        said = "; ".join(not_estimated(failed)) or "no cohort has a period before treatment and one after"
        raise EstimationError(f"{spec.formula}: {said}. Use control='not_yet', fewer covariates, or more data.")
    return group_time(
        spec, count_unused(sample, used), tuple(cells), np.array(effects), np.column_stack(influences),
        notes=not_estimated(failed),
    )  # fmt: skip


def _pairs(spec: StaggeredSpec, sample: Cohorts) -> Iterator[tuple[float, int, int]]:
    """Cohort, period and base period (as positions) of every cell."""
    for g in sample.treated_cohorts:
        last = last_before(g, spec, sample.times)
        for now in range(len(sample.times)):
            if now > last or (spec.base == "universal" and now != last):
                yield float(g), now, last
            elif spec.base == "varying" and now > 0:
                yield float(g), now, now - 1


def _controls(spec: StaggeredSpec, sample: Cohorts, g: float, latest: int) -> Mask:
    if spec.control == "never":
        return np.asarray(np.isinf(sample.cohort))
    return np.asarray((sample.cohort > sample.times[latest] + spec.anticipation) & (sample.cohort != g))


def _design(covariates: Array) -> Array:
    """A constant and the covariates in standard units, which moves no estimate."""
    spread = covariates.std(axis=0)
    unit = (covariates - covariates.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.column_stack([np.ones(len(unit)), unit])


def _difference(change: Array, d: Array, covariates: Array, adjustment: Adjustment) -> tuple[float, Array]:
    """Effect on the treated and its influence function, with mean 0 and the variance of sqrt(n) times the estimate.

    One formula holds for the three: outcome changes less a regression on the controls (absent from ``ipw``), among
    the treated, less the same among the controls, weighted like the treated (absent from ``regression``, where it
    is 0 by construction).
    """
    if not d.any():
        raise _NotEstimableError("no treated entity is known in both periods")
    if d.all():
        raise _NotEstimableError("nobody to compare with")
    x = _design(covariates)
    n, k = x.shape
    control = 1.0 - d
    treat = d / d.mean()
    line, line_moves = np.zeros(k), np.zeros((n, k))
    if adjustment != "ipw" or k == 1:
        bread = _inverse((x * control[:, None]).T @ x / n, "covariates are collinear among its controls")
        line = bread @ (x.T @ (control * change) / n)
        line_moves = (x * (control * (change - x @ line))[:, None]) @ bread
    rest = change - x @ line
    effect = float(np.mean(treat * rest))
    influence = treat * (rest - effect)
    weight, score_moves = np.zeros(n), np.zeros((n, k))
    if adjustment != "regression" and k > 1:
        odds, score_moves = _odds(d, x)
        weight = control * odds / np.mean(control * odds)
        level = float(np.mean(weight * rest))
        shift = (weight * (rest - level)) @ x / n
        influence = influence - weight * (rest - level) - score_moves @ shift
        effect -= level
    if adjustment != "ipw" or k == 1:
        influence = influence - line_moves @ ((treat - weight) @ x / n)
    return effect, influence


def _odds(d: Array, x: Array) -> tuple[Array, Array]:
    """Odds of treatment from a logit, and how far each entity moves its coefficients (times n)."""
    n, k = x.shape
    theta = np.zeros(k)
    for _ in range(_ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        bread = _inverse((x * (p * (1 - p))[:, None]).T @ x / n, "covariates separate treated and controls")
        step = bread @ (x.T @ (d - p) / n)
        theta = theta + step
        if np.abs(step).max() < 1e-12:
            break
    if p.max() > _OVERLAP:
        raise _NotEstimableError("covariates of treated and controls do not overlap")
    return p / (1 - p), (x * (d - p)[:, None]) @ bread


def _inverse(matrix: Array, reason: str) -> Array:
    if np.linalg.cond(matrix) > _CONDITION:
        raise _NotEstimableError(reason)
    return np.asarray(np.linalg.inv(matrix))
