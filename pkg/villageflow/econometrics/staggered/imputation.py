"""Effects by cohort and period as outcomes less imputed ones (Borusyak, Jaravel and Spiess 2024)."""

from __future__ import annotations

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
from villageflow.econometrics.staggered.interaction import behind, path_cells, path_regression
from villageflow.econometrics.staggered.spec import StaggeredSpec
from villageflow.errors import EstimationError


def impute(spec: StaggeredSpec, sample: Cohorts) -> GroupTime:
    """Entity and period effects from untreated observations, carried on to the treated ones.

    The effects are those on the entities at hand: averages take their shares as given. Errors are the conservative ones
    of the paper, with effects that differ within a cohort and period counted as noise. Effects before treatment come
    from a regression of their own among untreated observations, with a path for every cohort as in `fit_paths`; where
    nobody is never treated, the last cohort has none, and where the panel is too thin nobody has.

    Raises
    ------
    EstimationError
        If no treated outcome can be imputed, a covariate does not vary within entities or is collinear, or the
        untreated observations of some period do not connect with the others.
    """
    untreated = np.asarray(sample.observed & (sample.times < sample.cohort[:, None] - spec.anticipation))
    never_seen = ~np.asarray(untreated.any(axis=1))
    if never_seen.any():
        out = np.repeat(never_seen[:, None], len(sample.times), axis=1)
        sample = sample.without(out, f"rows of {int(never_seen.sum())} entities not observed before treatment")
        untreated = untreated[~never_seen]
    cells, failed = _cells(spec, sample, np.asarray(untreated.any(axis=0)))
    if not cells:
        said = "; ".join(not_estimated(failed)) or "no treated outcome is observed"
        raise EstimationError(f"{spec.formula}: no outcome can be imputed: {said}. Use other times or more data.")
    effects, influence = _effects(spec, sample, untreated, cells)
    last = sample.cohort.max()
    early, unknown, _ = path_cells(spec, sample, untreated, sample.cohort >= last)
    failed += unknown
    if np.isfinite(last):
        failed.append((f"g={number(last)} before treatment", "nobody is never treated"))
    if early:
        try:
            before, moves = path_regression(spec, sample, untreated, early)
            effects, influence = np.concatenate([before, effects]), np.column_stack([moves, influence])
        except EstimationError:
            failed += [(cell.label, "too few untreated observations for a path of its own") for cell in early]
            early = ()
    everything = (*early, *cells)
    order = sorted(range(len(everything)), key=lambda k: (everything[k].cohort, everything[k].time))
    in_order = tuple(everything[k] for k in order)
    blind = np.broadcast_to(~untreated.any(axis=0), sample.y.shape)
    sample_used = sample.without(blind, "in periods in which everybody is treated")
    return group_time(
        spec, sample_used, in_order, effects[order], influence[:, order],
        weights=behind(sample, in_order), notes=not_estimated(failed),
    )  # fmt: skip


def _cells(spec: StaggeredSpec, sample: Cohorts, known: Mask) -> tuple[tuple[Cell, ...], list[tuple[str, str]]]:
    """Cohorts and periods with treated outcomes, where the period effect is known and where it is not."""
    cells, failed = [], []
    for g in sample.treated_cohorts:
        base = last_before(g, spec, sample.times)
        members = np.asarray((sample.cohort == g)[:, None] & sample.observed)
        for now in range(base + 1, len(sample.times)):
            n = int(members[:, now].sum())
            cell = Cell(float(g), float(sample.times[now]), float(sample.times[base]), n)
            if n and known[now]:
                cells.append(cell)
            else:
                failed.append((cell.label, "nobody not yet treated" if n else "no treated outcome is observed"))
    return tuple(cells), failed


def _effects(spec: StaggeredSpec, sample: Cohorts, untreated: Mask, cells: tuple[Cell, ...]) -> tuple[Array, Array]:
    """Means of outcome less imputed outcome (cell,), and influences (entity, cell)."""
    i, j = np.nonzero(untreated)
    known = np.unique(j)
    x = np.column_stack([j[:, None] == known[1:], sample.x[i, j]]).astype(np.float64)
    names = [*(f"the effect of period {number(t)}" for t in sample.times[known[1:]]), *map(repr, sample.terms)]
    params, moves, _ = entity_least_squares(sample.y[i, j], x, names, i, spec.formula)
    period = np.zeros(len(sample.times))
    period[known[1:]] = params[: len(known) - 1]
    rest = sample.y - period - sample.x @ params[len(known) - 1 :]
    n_before = untreated.sum(axis=1)
    gap = rest - (np.where(untreated, rest, 0.0).sum(axis=1) / n_before)[:, None]
    share = untreated[:, known[1:]] / n_before[:, None]
    level = np.where(untreated[:, :, None], sample.x, 0.0).sum(axis=1) / n_before[:, None]
    effects, influence = np.zeros(len(cells)), np.zeros((len(sample.entities), len(cells)))
    for k, (cell, member) in enumerate(zip(cells, behind(sample, cells).T > 0)):
        now = int(np.searchsorted(sample.times, cell.time))
        effects[k] = gap[member, now].mean()
        reach = np.concatenate([
            (known[1:] == now) - share[member].mean(axis=0),
            (sample.x[member, now] - level[member]).mean(axis=0),
        ])  # fmt: skip
        influence[:, k] = -moves @ reach
        influence[member, k] += (gap[member, now] - effects[k]) / member.sum()
    return effects, influence
