"""From a specification and a panel to the arrays of a regression, with every lost observation counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from villageflow.datasets.terms import Formula, evaluate, parse_formula
from villageflow.econometrics.estimate import Dropped
from villageflow.econometrics.sample import (
    FEW_CLUSTERS,
    Array,
    Codes,
    Sample,
    both,
    check_frame,
    demean,
    dense,
    entity_codes,
    group_means,
    n_groups,
    nested,
)
from villageflow.econometrics.spec import Clustered, Conley, DriscollKraay, Spec, clusters_of
from villageflow.errors import EstimationError, did_you_mean

_TOLERANCE = 1e-9


def draw_sample(spec: Spec, panel: pd.DataFrame) -> Sample:
    """Evaluate the terms, drop what cannot enter, and refuse what the data cannot support.

    Observations are dropped, and counted, when a term or group is missing, when their group in an effect has
    no other member (it has no say in the estimates) and, for Poisson, when all outcomes of their group are 0.

    Raises
    ------
    EstimationError
        If the panel is not indexed (entity, time) without repeats, a name is unknown, too few observations, periods
        or clusters remain, or a regressor or instrument is absorbed by the effects or by others: it is named.
    """
    _check_panel(spec, panel)
    formula = parse_formula(spec.formula)
    _check_formula(spec, formula)
    table = _table(spec, formula, panel)
    groups = [_group(name, panel) for name in spec.absorbed]
    clusters = [_group(name, panel) for name in clusters_of(spec.cov_type)]
    place = _place(spec, panel)
    dropped: list[Dropped] = []
    keep = _usable(spec, panel, table, [*groups, *clusters], place, dropped)
    _prune(keep, table[:, 0], groups, spec, dropped)
    rows = np.flatnonzero(keep)
    index = panel.index[rows]
    assert isinstance(index, pd.MultiIndex)
    regressors = (*formula.regressors, *formula.endogenous)
    k = len(regressors)
    sample = Sample(
        y=table[rows, 0], x=table[rows, 1 : k + 1], terms=regressors, index=index,
        effects=tuple(dense(codes[rows]) for codes in groups),
        clusters=tuple(dense(codes[rows]) for codes in clusters), n_periods=index.get_level_values(1).nunique(),
        dropped=tuple(dropped), n_endogenous=len(formula.endogenous), z=table[rows, k + 1 :],
        instruments=formula.instruments, place=None if place is None else place[rows],
    )  # fmt: skip
    _check_size(sample, spec)
    if spec.estimator == "between":
        sample = _entity_means(sample, spec)
    elif spec.estimator == "correlated_random":
        sample = _with_means(sample, spec)
    if not groups and spec.estimator != "first_difference":
        _check_constant(sample, spec)
        sample = replace(
            sample, x=np.hstack([np.ones((len(sample.y), 1)), sample.x]), terms=("constant", *sample.terms),
            means_of=tuple(column + 1 for column in sample.means_of),
        )  # fmt: skip
    _check_size(sample, spec)
    _check_rank(sample, spec)
    return replace(sample, notes=_check_clusters(sample, spec))


# --- terms -------------------------------------------------------------------------------------------------------


def _check_panel(spec: Spec, panel: pd.DataFrame) -> None:
    """Refuse what is not a panel: not indexed (entity, time), times that are no numbers, a key blank or twice."""
    check_frame(panel)
    if panel.index.nlevels != 2:
        raise EstimationError("The panel is not indexed (entity, time). Use set_index([entity, time]).")
    times = panel.index.get_level_values(1)
    if not pd.api.types.is_numeric_dtype(times):
        raise EstimationError("The times of the panel are not numbers. Use years as whole numbers.")
    for name, keys in (("entity", panel.index.get_level_values(0)), ("time", times)):
        if keys.hasnans:
            rows = np.flatnonzero(keys.isna())
            first = ", ".join(str(row + 1) for row in rows[:3])
            raise EstimationError(f"The panel has {len(rows)} rows without {name}, first row {first}. Name it.")
    if not panel.index.is_unique:
        found = panel.index[panel.index.duplicated()].unique()
        rest = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise EstimationError(f"The panel has {_places(found)} twice{rest}. Keep one of the rows.")
    unknown = [time for time in spec.times if time not in set(times)]
    if unknown and len(panel):
        span = f"{times.min()} to {times.max()}"
        raise EstimationError(f"{spec.formula}: times={unknown[0]!r} is not in the panel, which has {span}.")


def _check_formula(spec: Spec, formula: Formula) -> None:
    instrumental = spec.estimator.startswith("iv")
    if instrumental and not formula.endogenous:
        raise EstimationError(
            f"{spec.formula}: no instruments. Write 'outcome ~ term + [endogenous ~ instrument + instrument]'."
        )
    if formula.endogenous and not instrumental:
        raise EstimationError(
            f"{spec.formula}: {spec.estimator!r} takes no instruments. Use iv(method='2sls'), 'liml' or "
            "'gmm'; as data estimator='iv2sls', 'ivliml' or 'ivgmm'."
        )
    if len(formula.instruments) < len(formula.endogenous):
        raise EstimationError(
            f"{spec.formula}: {len(formula.instruments)} instruments for {len(formula.endogenous)} endogenous "
            "regressors; the equation is not identified. Add instruments."
        )
    if not formula.regressors and not formula.endogenous and (spec.absorbed or spec.estimator == "first_difference"):
        beside = "the effects" if spec.absorbed else "first differences, which take no constant"
        raise EstimationError(f"{spec.formula}: no regressor is left beside {beside}. Add a term.")


def _check_constant(sample: Sample, spec: Spec) -> None:
    if {"constant", "`constant`"} & {*sample.terms, *sample.instruments}:
        raise EstimationError(
            f"{spec.formula}: 'constant' is what the constant of a regression without effects is called. "
            "Rename the column."
        )


def _table(spec: Spec, formula: Formula, panel: pd.DataFrame) -> Array:
    """Outcome, regressors, endogenous regressors and instruments as columns."""
    terms = (formula.outcome, *formula.regressors, *formula.endogenous, *formula.instruments)
    wrap = "d({})" if spec.estimator == "first_difference" else "{}"
    columns = [evaluate(wrap.format(term), panel).to_numpy(dtype=np.float64) for term in terms]
    for term, values in zip(terms, columns, strict=True):
        wrong = np.isinf(values)
        if wrong.any():
            raise EstimationError(
                f"{spec.formula}: {term} is infinite for {_first(panel.index, wrong)}. "
                "Correct the value or leave it blank."
            )
    return np.column_stack(columns)


def _places(index: pd.Index[Any]) -> str:
    return ", ".join(f"{entity} at {time}" for entity, time in index[:3])


def _first(index: pd.Index[Any], wrong: Any) -> str:
    """The first rows in which something is wrong, and how many there are."""
    n = int(wrong.sum())
    return _places(index[np.flatnonzero(wrong)[:3]]) + (f" and so on, {n} rows in all" if n > 3 else "")


def _place(spec: Spec, panel: pd.DataFrame) -> Array | None:
    if not isinstance(spec.cov_type, Conley):
        return None
    columns = []
    for name, most in ((spec.cov_type.latitude, 90.0), (spec.cov_type.longitude, 180.0)):
        degrees = evaluate(name, panel)
        wrong = (degrees.abs() > most).to_numpy()
        if wrong.any():
            raise EstimationError(
                f"{name!r} is {degrees[wrong].iloc[0]:g} for {_first(panel.index, wrong)}; degrees are within "
                f"{most:g} of 0. Give latitude and longitude in degrees."
            )
        columns.append(degrees.to_numpy())
    return np.column_stack(columns)


def _group(name: str, panel: pd.DataFrame) -> Codes:
    """Group of every row of the panel, -1 where it is missing."""
    joint, missing = np.zeros(len(panel), dtype=np.intp), np.zeros(len(panel), dtype=bool)
    for part in name.split("*"):
        if part in ("entity", "time"):
            codes = pd.factorize(panel.index.get_level_values(0 if part == "entity" else 1))[0]
        elif part in panel.columns:
            codes = pd.factorize(panel[part])[0]
        else:
            known = ["entity", "time", *map(str, panel.columns)]
            raise EstimationError(f"{part!r} is not an effect or cluster. {did_you_mean(part, known)}")
        missing |= codes < 0
        joint = both(joint, np.maximum(codes, 0)) if "*" in name else np.asarray(codes, dtype=np.intp)
    return np.where(missing, -1, joint)


# --- what stays --------------------------------------------------------------------------------------------------


def _usable(
    spec: Spec, panel: pd.DataFrame, table: Array, groups: list[Codes], place: Array | None, dropped: list[Dropped]
) -> Any:
    """Rows of the times asked for in which nothing is missing."""
    keep = np.ones(len(panel), dtype=bool)
    if spec.times:
        keep &= panel.index.get_level_values(1).isin(spec.times)
    complete = ~np.isnan(table).any(axis=1)
    for codes in groups:
        complete &= codes >= 0
    if place is not None:
        complete &= np.isfinite(place).all(axis=1)
    _count(dropped, keep & ~complete, "with a missing value")
    keep &= complete
    negative = keep & (table[:, 0] < 0)
    if spec.estimator == "poisson" and negative.any():
        outcome = spec.formula.split("~")[0].strip()
        raise EstimationError(
            f"{spec.formula}: {outcome} is negative for {_first(panel.index, negative)}. Poisson needs values >= 0."
        )
    return keep


def _prune(keep: Any, y: Array, groups: list[Codes], spec: Spec, dropped: list[Dropped]) -> None:
    """Drop groups of one and, for Poisson, groups of zeros, until none is left; changes ``keep`` and ``dropped``."""
    while groups:
        before = int(keep.sum())
        for name, codes in zip(spec.absorbed, groups, strict=True):
            label = name.replace("*", " by ")
            if spec.estimator == "poisson":
                totals = np.bincount(codes[keep], y[keep], minlength=n_groups(codes))
                zero = keep & (totals[codes] == 0)
                n_zero = len(np.unique(codes[zero]))
                _count(dropped, zero, f"in {n_zero} {label} groups whose outcomes are all zero")
                keep &= ~zero
            sizes = np.bincount(codes[keep], minlength=n_groups(codes))
            alone = keep & (sizes[codes] == 1)
            _count(dropped, alone, f"alone in their {label} group")
            keep &= ~alone
        if int(keep.sum()) == before:
            return


def _count(dropped: list[Dropped], mask: Any, reason: str) -> None:
    n = int(mask.sum())
    for i, item in enumerate(dropped):
        if item.reason == reason:
            dropped[i] = Dropped(item.n + n, reason)
            return
    if n:
        dropped.append(Dropped(n, reason))


def _entity_means(sample: Sample, spec: Spec) -> Sample:
    """One row per entity: the means of its observations."""
    codes = entity_codes(sample.index)
    first = np.unique(codes, return_index=True)[1]
    for name, cluster in zip(clusters_of(spec.cov_type), sample.clusters):
        if not nested(codes, cluster):
            raise EstimationError(f"{spec.formula}: {name!r} varies within an entity. Cluster by entity or above.")
    entities, times = (sample.index.get_level_values(level) for level in (0, 1))
    return replace(
        sample, y=group_means(sample.y[:, None], codes)[:, 0], x=group_means(sample.x, codes),
        index=pd.MultiIndex.from_product([entities[first], [times.min()]], names=sample.index.names),
        clusters=tuple(dense(cluster[first]) for cluster in sample.clusters),
        place=None if sample.place is None else sample.place[first],
    )  # fmt: skip


def _with_means(sample: Sample, spec: Spec) -> Sample:
    """Add the entity mean of every regressor that varies within entities and on average between them."""
    codes = entity_codes(sample.index)
    means = group_means(sample.x, codes)
    spread = [np.abs(part).max(axis=0) for part in (sample.x - means[codes], means - means.mean(axis=0))]
    varies = np.minimum(*spread) > _TOLERANCE * np.abs(sample.x).max(axis=0)
    if not varies.any():
        raise EstimationError(
            f"{spec.formula}: no regressor varies both within entities and between their means, so that none has "
            "a mean to add. Use random_effects."
        )
    columns = tuple(int(column) for column in np.flatnonzero(varies))
    terms = tuple(f"mean({sample.terms[column]})" for column in columns)
    return replace(
        sample, x=np.hstack([sample.x, means[codes][:, varies]]), terms=(*sample.terms, *terms), means_of=columns
    )


# --- what the data support ---------------------------------------------------------------------------------------


def _check_size(sample: Sample, spec: Spec) -> None:
    n, k = len(sample.y), len(sample.terms) + max(len(sample.instruments) - sample.n_endogenous, 0)
    if not n:
        lost = "; ".join(f"{item.n} {item.reason}" for item in sample.dropped) or "the panel has no rows"
        raise EstimationError(f"{spec.formula}: no observation is left ({lost}). Check terms and times.")
    if n <= k + sum(map(n_groups, sample.effects)) and n <= k + sample.n_absorbed:
        unit = "entities" if spec.estimator == "between" else "observations"
        raise EstimationError(
            f"{spec.formula}: {n} {unit} for {k} coefficients and {sample.n_absorbed} effects. "
            "Use fewer effects or regressors, or more data."
        )
    if spec.estimator in ("random", "correlated_random") and sample.n_periods < 2:
        raise EstimationError(f"{spec.formula}: one period; random effects need two or more. Use between or pooled.")
    lags = spec.cov_type.lags if isinstance(spec.cov_type, (DriscollKraay, Conley)) else None
    if lags and lags >= sample.n_periods:
        raise EstimationError(
            f"{spec.formula}: lags={lags} for {sample.n_periods} periods; errors so far apart are never seen. "
            f"Use at most {sample.n_periods - 1} lags."
        )
    if isinstance(spec.cov_type, DriscollKraay):
        if spec.estimator == "between":
            raise EstimationError(f"{spec.formula}: means have no periods for Driscoll-Kraay errors. Use 'robust'.")
        if sample.n_periods <= len(sample.terms):
            raise EstimationError(
                f"{spec.formula}: {sample.n_periods} periods for {len(sample.terms)} coefficients; the Driscoll-Kraay "
                "covariance would be singular. Use cov_type='clustered' or drop regressors."
            )


def _check_rank(sample: Sample, spec: Spec) -> None:
    """Refuse regressors, then instruments, that are absorbed or a combination of those before them."""
    exogenous = sample.x.shape[1] - sample.n_endogenous
    _independent(sample.x, sample.terms, sample, spec)
    if sample.instruments:
        columns = np.hstack([sample.x[:, :exogenous], sample.z])
        _independent(columns, (*sample.terms[:exogenous], *sample.instruments), sample, spec)


def _independent(columns: Array, names: tuple[str, ...], sample: Sample, spec: Spec) -> None:
    inner = demean(columns, sample.effects)
    length = np.sqrt((columns**2).sum(axis=0))
    basis: list[Array] = []
    for j, name in enumerate(names):
        left = inner[:, j].copy()
        if np.sqrt(left @ left) <= _TOLERANCE * length[j]:
            if not length[j]:
                changes = spec.estimator == "first_difference"
                said = "is absorbed by first differences: it does not change" if changes else "is zero everywhere"
                raise EstimationError(f"{spec.formula}: {name!r} {said}. Drop the term.")
            by = " and ".join(spec.absorbed)
            raise EstimationError(f"{spec.formula}: {name!r} is absorbed by {by}. Drop the term or the effect.")
        for vector in basis:
            left -= (vector @ left) * vector
        if np.sqrt(left @ left) <= _TOLERANCE * length[j]:
            raise EstimationError(
                f"{spec.formula}: {name!r} is a combination of {', '.join(map(repr, names[:j]))}"
                f"{' and the effects' if sample.effects else ''}. Drop one of them."
            )
        basis.append(left / np.sqrt(left @ left))


def _check_clusters(sample: Sample, spec: Spec) -> tuple[str, ...]:
    notes = []
    for name, codes in zip(clusters_of(spec.cov_type), sample.clusters):
        n = n_groups(codes)
        if n <= len(sample.terms):
            raise EstimationError(
                f"{spec.formula}: {n} clusters ({name}) for {len(sample.terms)} coefficients; the covariance would "
                "be singular. Cluster at a finer level or drop regressors."
            )
        if n < FEW_CLUSTERS and isinstance(spec.cov_type, Clustered):
            notes.append(
                f"only {n} clusters ({name}): below {FEW_CLUSTERS} the errors tend to be too small; "
                "use cov_type='jackknife' or wild_bootstrap"
            )
        if len(sample.instruments) > n:
            n_z = len(sample.instruments)
            notes.append(f"{n_z} instruments for {n} clusters ({name}): tests of them are unreliable")
    return tuple(notes)
