"""Effects by cohort and period from one regression with a path for every cohort (Sun and Abraham 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from villageflow.econometrics.staggered.aggregate import Cell, GroupTime, group_time, not_estimated
from villageflow.econometrics.staggered.cohorts import (
    Array,
    Cohorts,
    Mask,
    entity_least_squares,
    last_before,
    number,
)
from villageflow.econometrics.staggered.spec import StaggeredSpec
from villageflow.errors import EstimationError


def fit_paths(spec: StaggeredSpec, sample: Cohorts) -> GroupTime:
    """Two-way fixed effects with one coefficient per treated cohort and period, but for the last before treatment.

    The cohorts without a path carry the period effects: the never treated; under ``not_yet`` also the last cohort, and
    the periods in which it is treated are left out. Effects are averaged later by the observations behind them.

    Raises
    ------
    EstimationError
        If nobody is left to compare with, or a covariate does not vary within entities or is collinear.
    """
    last = np.inf
    if spec.control == "not_yet":
        last = sample.treated_cohorts[-1]
        late = np.broadcast_to(sample.times >= last - spec.anticipation, sample.y.shape)
        sample = sample.without(late, f"in periods in which cohort {number(last)} is treated")
    alone = np.broadcast_to(sample.observed.sum(axis=1, keepdims=True) == 1, sample.y.shape)
    sample = sample.without(alone, "alone in their entity group")
    cells, failed, lost = path_cells(spec, sample, sample.observed, sample.cohort >= last)
    if not cells:
        said = "; ".join(not_estimated(failed)) or "one cohort alone is treated, and nobody never"
        raise EstimationError(f"{spec.formula}: no effect can be estimated: {said}. Use method='group_time'.")
    sample = sample.without(lost, "that nobody can be compared with")
    effects, influence = path_regression(spec, sample, sample.observed, cells)
    return group_time(
        spec, sample, cells, effects, influence,
        weights=behind(sample, cells), notes=not_estimated(failed),
    )  # fmt: skip


def path_cells(
    spec: StaggeredSpec, sample: Cohorts, rows: Mask, reference: Mask
) -> tuple[tuple[Cell, ...], list[tuple[str, str]], Mask]:
    """Cells with a coefficient of their own, those that cannot have one, and the rows behind these.

    Parameters
    ----------
    spec : StaggeredSpec
        Which anticipation.
    sample : Cohorts
        Entities by period.
    rows : (n, T) bool array
        Observations of the regression.
    reference : (n,) bool array
        Entities without a path.
    """
    cells, failed, lost = [], [], np.zeros_like(rows)
    compared = np.asarray((rows & reference[:, None]).any(axis=0))
    for g in np.unique(sample.cohort[~reference]):
        members = np.asarray((sample.cohort == g)[:, None] & rows)
        base = last_before(g, spec, sample.times)
        for now in np.flatnonzero(members.any(axis=0)):
            n = int(members[:, now].sum())
            cell = Cell(float(g), float(sample.times[now]), float(sample.times[base]), n)
            if not members[:, base].any() or not compared[base]:
                failed.append((cell.label, f"base period {number(cell.base)} is not known"))
            elif not compared[now]:
                failed.append((cell.label, "nobody to compare with"))
            else:
                if now != base:
                    cells.append(cell)
                continue
            lost[:, now] |= members[:, now]
    return tuple(cells), failed, lost


def path_regression(spec: StaggeredSpec, sample: Cohorts, rows: Mask, cells: Sequence[Cell]) -> tuple[Array, Array]:
    """Coefficients (cell,) and influences (entity, cell) of least squares with entity and period effects."""
    i, j = np.nonzero(rows)
    entity, codes = np.unique(i, return_inverse=True)
    g, t = sample.cohort[i], sample.times[j]
    periods = sample.times[np.unique(j)][1:]
    own = [(g == cell.cohort) & (t == cell.time) for cell in cells]
    x = np.column_stack([*(t == period for period in periods), sample.x[i, j], *own]).astype(np.float64)
    names = [
        *(f"the effect of period {number(period)}" for period in periods),
        *map(repr, sample.terms),
        *(cell.label for cell in cells),
    ]
    params, found, _ = entity_least_squares(sample.y[i, j], x, names, codes, spec.formula)
    influence = np.zeros((len(sample.entities), len(cells)))
    first = x.shape[1] - len(cells)
    influence[entity] = found[:, first:]
    return params[first:], influence


def behind(sample: Cohorts, cells: Sequence[Cell]) -> Array:
    """(entity, cell): 1 where an entity is observed in the cell."""
    now = np.searchsorted(sample.times, [cell.time for cell in cells])
    member = sample.cohort[:, None] == np.array([cell.cohort for cell in cells])
    return np.asarray(member & sample.observed[:, now], dtype=np.float64)
