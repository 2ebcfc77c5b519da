"""From a specification and a panel to wide arrays by entity and period, with every lost observation counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.datasets.terms import evaluate, parse_formula
from villageflow.econometrics.estimate import Dropped
from villageflow.econometrics.sample import FEW_CLUSTERS, check_frame, demean
from villageflow.econometrics.staggered.spec import StaggeredSpec
from villageflow.errors import EstimationError, did_you_mean

Array: TypeAlias = "npt.NDArray[np.float64]"
Codes: TypeAlias = "npt.NDArray[np.intp]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"
FEW_IN_COHORT = 5
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Cohorts:
    """Outcome and covariates by entity and period.

    Parameters
    ----------
    entities : pandas.Index
        The n entities, sorted.
    times : (T,) array
        The periods of the panel, increasing; gaps between them are allowed.
    y : (n, T) array
        NaN where the outcome or a covariate is missing.
    x : (n, T, k) array
        In the order of ``terms``.
    terms : tuple of str
    cohort : (n,) array
        First treated time; infinite for those never treated in the panel.
    clusters : (n,) int array
        From 0 without gaps.
    dropped : tuple of Dropped
    notes : tuple of str
    """

    entities: pd.Index[Any]
    times: Array
    y: Array
    x: Array
    terms: tuple[str, ...]
    cohort: Array
    clusters: Codes
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]

    @property
    def observed(self) -> Mask:
        """(n, T): where the outcome and all covariates are known."""
        return np.asarray(np.isfinite(self.y))

    @property
    def treated_cohorts(self) -> Array:
        """First treated times, increasing: of all who are treated in the panel, or anticipate it there."""
        return np.unique(self.cohort[np.isfinite(self.cohort)])

    @property
    def n_clusters(self) -> int:
        return int(self.clusters.max()) + 1

    def without(self, out: Mask, reason: str) -> Cohorts:
        """The same less some (entity, period) observations, which are counted; entities without any are gone."""
        lost = out & self.observed
        if not lost.any():
            return self
        y = np.where(lost, np.nan, self.y)
        kept = np.asarray(np.isfinite(y).any(axis=1))
        dropped = (*self.dropped, Dropped(int(lost.sum()), reason))
        clusters = np.unique(self.clusters[kept], return_inverse=True)[1]
        return replace(
            self, entities=self.entities[kept], y=y[kept], x=self.x[kept], cohort=self.cohort[kept],
            clusters=clusters, dropped=dropped,
        )  # fmt: skip


def draw_cohorts(spec: StaggeredSpec, panel: pd.DataFrame) -> Cohorts:
    """Evaluate the terms, sort entities into cohorts, and refuse what the data cannot support.

    Entities treated from their first period on (less anticipation) have no period to compare with and are dropped, as
    are rows with a missing term. Cohorts first treated after the last period (and its anticipation) count as never
    treated.

    Raises
    ------
    EstimationError
        If the panel is not indexed (entity, time) without repeats, a name is unknown, a cohort or cluster is missing
        in the panel, not a number or varies within an entity, there are fewer than two periods, nobody is treated
        within the panel, nobody can be compared with, or covariates are collinear.
    """
    formula = parse_formula(spec.formula)
    if formula.endogenous:
        raise EstimationError(f"{spec.formula}: a staggered treatment takes no instruments. Leave out the bracket.")
    check_frame(panel)
    names = (formula.outcome, *formula.regressors)
    table = np.column_stack([evaluate(name, panel).to_numpy() for name in names])
    for name, column in zip(names, table.T, strict=True):
        if np.isinf(column).any():
            entity, time = panel.index[int(np.isinf(column).argmax())]
            raise EstimationError(f"{spec.formula}: {name} is infinite for {entity} in {time}. Leave it blank.")
    codes, entities = pd.factorize(panel.index.get_level_values(0), sort=True)
    entities = entities.rename(panel.index.names[0])
    cohort = _cohort_by_entity(spec, panel, codes, entities)
    clusters = _cluster_by_entity(spec, panel, codes, entities)
    time = panel.index.get_level_values(1).to_numpy(dtype=np.float64)
    keep = np.isin(time, spec.times) if spec.times else np.ones(len(time), dtype=bool)
    complete = keep & np.isfinite(table).all(axis=1)
    dropped = [Dropped(int((keep & ~complete).sum()), "with a missing value")]
    times = np.unique(time[complete])
    if len(times) < 2:
        raise EstimationError(
            f"{spec.formula}: complete rows in {len(times)} of the 2 periods or more that an effect needs, one before "
            "treatment and one after. Check times and missing values."
        )
    wide = np.full((len(entities), len(times), len(names)), np.nan)
    wide[codes[complete], np.searchsorted(times, time[complete])] = table[complete]
    cohort, notes = _close_end(cohort, times, spec)
    seen = np.isfinite(wide[:, :, 0]).any(axis=1)
    sample = Cohorts(
        entities[seen], times, wide[seen, :, 0], wide[seen, :, 1:], formula.regressors, cohort[seen],
        np.unique(clusters[seen], return_inverse=True)[1], tuple(item for item in dropped if item.n), notes,
    )  # fmt: skip
    always = sample.cohort - spec.anticipation <= times[0]
    reason = f"rows of {int(always.sum())} entities treated from the first period on"
    sample = sample.without(np.repeat(always[:, None], len(times), axis=1), reason)
    _refuse_unfit(spec, sample)
    return replace(sample, notes=(*sample.notes, *_cautions(spec, sample)))


def number(value: float) -> str:
    """A time as it is written in the panel: 2004, not 2004.0."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def last_before(g: float, spec: StaggeredSpec, times: Array) -> int:
    """Position of the last period before treatment, less anticipation."""
    return int(np.searchsorted(times, g - spec.anticipation)) - 1


def entity_least_squares(
    y: Array, x: Array, names: Sequence[str], entity: Codes, said: str
) -> tuple[Array, Array, Array]:
    """Least squares with entity effects, and how far each entity moves the coefficients.

    Parameters
    ----------
    y : (rows,) array
        The outcome.
    x : (rows, k) array
        The regressors.
    names : sequence of str
        What a column is called when it has to be refused.
    entity : (rows,) int array
        From 0 without gaps.
    said : str
        Where this happens, for the error.

    Returns
    -------
    params : (k,) array
    influence : (entity, k) array
        Bread times score, to first order.
    residuals : (rows,) array

    Raises
    ------
    EstimationError
        If a column is a combination of the entity effects and the columns before it: it is named.
    """
    inner = demean(np.column_stack([y, x]), (entity,))
    out, inner = inner[:, 0], inner[:, 1:]
    length = np.sqrt((x**2).sum(axis=0))
    q, r = np.linalg.qr(inner)
    if inner.shape[1] > inner.shape[0]:
        raise EstimationError(f"{said}: {inner.shape[0]} observations for {inner.shape[1]} coefficients.")
    lost = np.flatnonzero(np.abs(np.diag(r)) <= _TOLERANCE * length)
    if len(lost):
        raise EstimationError(
            f"{said}: {names[lost[0]]} is a combination of the entity effects and what comes before it "
            f"({', '.join(names[: lost[0]][-3:]) or 'nothing'}). Leave it out, or use method='group_time'."
        )
    params = np.asarray(np.linalg.solve(r, q.T @ out), dtype=np.float64)
    residuals = out - inner @ params
    bread_rows = np.linalg.solve(r, (q * residuals[:, None]).T).T
    n = int(entity.max()) + 1
    influence = np.zeros((n, len(params)))
    np.add.at(influence, entity, bread_rows)
    return params, influence, residuals


# --- what is known by entity -------------------------------------------------------------------------------------


def _cohort_by_entity(spec: StaggeredSpec, panel: pd.DataFrame, codes: Codes, entities: pd.Index[Any]) -> Array:
    name = spec.cohort
    if name not in panel.columns:
        raise EstimationError(f"Cohort column {name!r} is not in the panel. {did_you_mean(name, panel.columns)}")
    column = panel[name]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise EstimationError(
            f"Cohort column {name!r} is not numeric. It holds the first treated time; blank, 0 or infinite for never."
        )
    given = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if (given < 0).any():
        entity, _ = panel.index[int((given < 0).argmax())]
        raise EstimationError(
            f"Cohort column {name!r} is {given[given < 0][0]:g} for {entity}: a first treated time is positive. "
            "Count periods from 1; blank, 0 or infinite stands for never treated."
        )
    if (given == 0).any() and panel.index.get_level_values(1).min() <= 0:
        raise EstimationError(
            f"Cohort column {name!r} holds 0, which stands for never treated, and the panel reaches to a period 0: "
            "leave it blank for never, and count periods from 1."
        )
    given = np.where(np.isnan(given) | (given == 0), np.inf, given)
    low, high = np.full(len(entities), np.inf), np.zeros(len(entities))
    np.minimum.at(low, codes, given)
    np.maximum.at(high, codes, given)
    if (low != high).any():
        at = int((low != high).argmax())
        values = " and ".join("never" if np.isinf(v) else number(v) for v in (low[at], high[at]))
        raise EstimationError(
            f"Cohort column {name!r} varies within {entities[at]} ({values}). A treatment is kept: give every row of "
            "the entity its first treated time."
        )
    return low


def _cluster_by_entity(spec: StaggeredSpec, panel: pd.DataFrame, codes: Codes, entities: pd.Index[Any]) -> Codes:
    name = spec.cluster
    if name == "entity":
        return np.arange(len(entities))
    if name not in panel.columns:
        known = ["entity", *map(str, panel.columns)]
        raise EstimationError(f"{name!r} is not a cluster. {did_you_mean(name, known)}")
    groups, _ = pd.factorize(panel[name].to_numpy(dtype=object), sort=False)
    if (groups < 0).any():
        entity, time = panel.index[int((groups < 0).argmax())]
        raise EstimationError(f"Cluster {name!r} is missing for {entity} in {time}. Fill it, or drop the entity.")
    first = np.zeros(len(entities), dtype=np.intp)
    first[codes] = groups
    varies = first[codes] != groups
    if varies.any():
        entity = entities[codes[int(varies.argmax())]]
        raise EstimationError(
            f"Cluster {name!r} varies within {entity}: influences are those of whole entities. Use a level that "
            "contains them, or 'entity'."
        )
    return first


# --- checks ------------------------------------------------------------------------------------------------------


def _close_end(cohort: Array, times: Array, spec: StaggeredSpec) -> tuple[Array, tuple[str, ...]]:
    """Cohorts treated after the panel and its anticipation are never treated in it."""
    late = np.isfinite(cohort) & (cohort > times[-1] + spec.anticipation)
    if not late.any():
        return cohort, ()
    said = f"{int(late.sum())} entities first treated after {number(times[-1])} are taken as never treated"
    return np.where(late, np.inf, cohort), (said,)


def _refuse_unfit(spec: StaggeredSpec, sample: Cohorts) -> None:
    if not (sample.cohort <= sample.times[-1]).any():
        lost = "; ".join(f"{item.n} {item.reason}" for item in sample.dropped) or "nothing was dropped"
        raise EstimationError(
            f"{spec.formula}: nobody is first treated after {number(sample.times[0])} and up to "
            f"{number(sample.times[-1])} ({lost}). Check the cohort column {spec.cohort!r} and the periods."
        )
    if spec.control == "never" and not np.isinf(sample.cohort).any():
        raise EstimationError(
            f"{spec.formula}: control='never', but every entity is treated by {number(sample.times[-1])}. "
            "Use control='not_yet'."
        )
    if sample.n_clusters < 2:
        raise EstimationError(f"{spec.formula}: one cluster ({spec.cluster}) has no errors. Use a finer level.")
    x = np.column_stack([np.ones(int(sample.observed.sum())), sample.x[sample.observed]])
    r = np.abs(np.diag(np.linalg.qr(x, mode="r")))
    lost_terms = np.flatnonzero(r <= _TOLERANCE * np.sqrt((x**2).sum(axis=0))[: len(r)])
    if len(lost_terms):
        j = int(lost_terms[0])
        before = ", ".join(("the constant", *map(repr, sample.terms[: j - 1])))
        raise EstimationError(f"{spec.formula}: {sample.terms[j - 1]!r} is a combination of {before}. Drop it.")


def _cautions(spec: StaggeredSpec, sample: Cohorts) -> tuple[str, ...]:
    said = []
    what = "entities" if spec.cluster == "entity" else f"clusters ({spec.cluster})"
    for g in np.unique(sample.cohort):
        size = len(np.unique(sample.clusters[sample.cohort == g]))
        if size < FEW_IN_COHORT:
            name = f"cohort {number(g)} has" if np.isfinite(g) else "the never treated have"
            said.append(f"{name} {size} {what}: errors are not reliable below {FEW_IN_COHORT}")
    if sample.n_clusters < FEW_CLUSTERS:
        said.append(
            f"only {sample.n_clusters} clusters ({spec.cluster}): below {FEW_CLUSTERS} the errors tend to be too small"
        )
    return tuple(said)
