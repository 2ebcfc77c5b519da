"""From a specification and a panel to the arrays of a regression, with every lost observation counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.econometrics.estimate import Dropped, Spec
from villageflow.econometrics.terms import evaluate, parse_formula
from villageflow.errors import EstimationError, did_you_mean

Array: TypeAlias = "npt.NDArray[np.float64]"
Codes: TypeAlias = "npt.NDArray[np.intp]"
FEW_CLUSTERS = 40
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Sample:
    """The arrays of a regression.

    Parameters
    ----------
    y : (n,) array
    x : (n, k) array
        In the order of ``terms``; a column of ones comes first if there are no effects.
    terms : tuple of str
    index : pandas.MultiIndex
        (entity, time) of every observation.
    effects : tuple of (n,) int arrays
        Group of every observation, from 0 without gaps, one array per effect.
    clusters : (n,) int array or None
    dropped : tuple of Dropped
    notes : tuple of str
    """

    y: Array
    x: Array
    terms: tuple[str, ...]
    index: pd.MultiIndex
    effects: tuple[Codes, ...]
    clusters: Codes | None
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters, None if the errors are not clustered."""
        return None if self.clusters is None else int(self.clusters.max()) + 1


def draw_sample(spec: Spec, panel: pd.DataFrame) -> Sample:
    """Evaluate the terms, drop what cannot enter, and refuse what the data cannot support.

    Observations are dropped, and counted, when a term or group is missing, when their group in an effect has
    no other member (it has no say in the estimates) and, for Poisson, when all outcomes of their group are 0.

    Raises
    ------
    EstimationError
        If the panel is not indexed (entity, time) without repeats, a name is unknown, too few observations or
        clusters remain, or a regressor is absorbed by the effects or by other regressors: it is named.
    """
    _check_index(panel)
    formula = parse_formula(spec.formula)
    terms = formula.regressors
    table = pd.DataFrame({term: evaluate(term, panel) for term in (formula.outcome, *terms)})
    _refuse_infinite(table, spec)
    groups = [_group(name, panel) for name in spec.effects]
    cluster = _group(spec.cluster, panel) if spec.cov == "clustered" else None
    dropped: list[Dropped] = []
    keep = np.ones(len(panel), dtype=bool)
    if spec.times:
        keep &= panel.index.get_level_values(1).isin(spec.times)
    complete = table.notna().all(axis=1).to_numpy(copy=True)
    for codes in (*groups, *(() if cluster is None else (cluster,))):
        complete &= codes >= 0
    _count(dropped, keep & ~complete, "with a missing value")
    keep &= complete
    _prune(keep, table[formula.outcome].to_numpy(), groups, spec, dropped)
    y, x = table[formula.outcome].to_numpy()[keep], table[list(terms)].to_numpy()[keep]
    if not groups:
        x, terms = np.column_stack([np.ones(len(y)), x]), ("constant", *terms)
    effects = tuple(_dense(codes[keep]) for codes in groups)
    clusters = None if cluster is None else _dense(cluster[keep])
    index = panel.index[keep]
    assert isinstance(index, pd.MultiIndex)
    n_effects = sum(int(codes.max(initial=-1)) for codes in effects) + (1 if effects else 0)
    if not len(y):
        lost = "; ".join(f"{item.n} {item.reason}" for item in dropped) or "the times asked for are not there"
        raise EstimationError(f"{spec.formula}: no observation is left ({lost}). Check terms and times.")
    if len(y) <= len(terms) + n_effects:
        raise EstimationError(
            f"{spec.formula}: {len(y)} observations for {len(terms)} coefficients and {n_effects} effects. "
            "Use fewer effects or regressors, or more data."
        )
    _check_rank(x, terms, effects, spec)
    notes = _check_clusters(clusters, len(terms), spec)
    return Sample(y, x, terms, index, effects, clusters, tuple(dropped), notes)


def _refuse_infinite(table: pd.DataFrame, spec: Spec) -> None:
    for term in table.columns:
        bad = np.flatnonzero(np.isinf(table[term].to_numpy(dtype=float, na_value=np.nan)))
        if len(bad):
            entity, time = table.index[bad[0]]
            raise EstimationError(
                f"{spec.formula}: {term} is infinite for {entity!r} in {time} (and in {len(bad) - 1} more rows). "
                "Correct the value or leave it blank."
            )


def demean(values: Array, groups: tuple[Codes, ...], weights: Array | None = None) -> Array:
    """Residuals of columns after projection on group means, by alternating projections.

    Parameters
    ----------
    values : (n,) or (n, k) array
        The columns; not changed.
    groups : tuple of (n,) int arrays
        Group of every row, from 0 without gaps, one array per effect; none at all returns ``values``.
    weights : (n,) array, optional
        Positive weights; equal by default.

    Raises
    ------
    EstimationError
        If 10,000 rounds do not settle to 1e-13 of the scale of a column.
    """
    if not groups:
        return values
    columns = values.reshape(len(values), -1).astype(np.float64)
    scale = np.sqrt((columns**2).mean(axis=0)) + 1e-300
    weight = np.ones(len(columns)) if weights is None else weights
    totals = [np.bincount(codes, weight) for codes in groups]
    for _ in range(10_000):
        moved = np.zeros(columns.shape[1])
        for codes, total in zip(groups, totals, strict=True):
            means = np.column_stack([np.bincount(codes, weight * c) / total for c in columns.T])
            columns = columns - means[codes]
            moved = np.maximum(moved, np.abs(means).max(axis=0))
        if len(groups) == 1 or bool((moved <= 1e-13 * scale).all()):
            return columns.reshape(values.shape)
    raise EstimationError("The effects could not be absorbed in 10,000 rounds. Use fewer or coarser effects.")


def nested(inner: Codes, outer: Codes) -> bool:
    """Whether every group of ``inner`` lies within one group of ``outer``."""
    return len(np.unique(np.column_stack([inner, outer]), axis=0)) == int(inner.max()) + 1


def _check_index(panel: pd.DataFrame) -> None:
    if panel.index.nlevels != 2:
        raise EstimationError("The panel is not indexed (entity, time). Use set_index([entity, time]).")
    if not pd.api.types.is_numeric_dtype(panel.index.get_level_values(1)):
        raise EstimationError("The times of the panel are not numbers. Use years as whole numbers.")
    repeated = panel.index.duplicated()
    if repeated.any():
        entity, time = panel.index[int(repeated.argmax())]
        raise EstimationError(f"The panel has {entity} at {time} twice. Keep one of the rows.")


def _group(name: str, panel: pd.DataFrame) -> Codes:
    """Group of every row of the panel, -1 where it is missing."""
    parts: list[Any] = []
    for part in name.split("*"):
        if part in ("entity", "time"):
            parts.append(panel.index.get_level_values(0 if part == "entity" else 1))
        elif part in panel.columns:
            parts.append(panel[part])
        else:
            known = ["entity", "time", *panel.columns]
            raise EstimationError(f"{part!r} is not an effect or cluster. {did_you_mean(part, known)}")
    codes = [pd.factorize(pd.Series(np.asarray(part, dtype=object)))[0] for part in parts]
    joint, _ = pd.factorize(pd.MultiIndex.from_arrays(codes)) if len(codes) > 1 else (codes[0], None)
    return np.where(np.min(codes, axis=0) < 0, -1, joint)


def _prune(keep: Any, y: Array, groups: list[Codes], spec: Spec, dropped: list[Dropped]) -> None:
    """Drop groups of one and, for Poisson, groups of zeros, until none is left; changes ``keep``."""
    if spec.estimator == "poisson" and (y[keep] < 0).any():
        raise EstimationError(
            f"{spec.formula}: the outcome is negative somewhere. Poisson needs values >= 0."
        )
    while True:
        before = int(keep.sum())
        for name, codes in zip(spec.effects, groups, strict=True):
            label = name.replace("*", " by ")
            if spec.estimator == "poisson":
                totals = np.bincount(codes[keep], y[keep], minlength=int(codes.max()) + 1)
                zero = keep & (totals[codes] == 0)
                n_groups = len(np.unique(codes[zero]))
                _count(dropped, zero, f"in {n_groups} {label} groups whose outcomes are all zero")
                keep &= ~zero
            sizes = np.bincount(codes[keep], minlength=int(codes.max()) + 1)
            alone = keep & (sizes[codes] == 1)
            _count(dropped, alone, f"alone in their {label} group")
            keep &= ~alone
        if int(keep.sum()) == before:
            return


def _count(dropped: list[Dropped], mask: Any, reason: str) -> None:
    if mask.any():
        dropped.append(Dropped(int(mask.sum()), reason))


def _dense(codes: Codes) -> Codes:
    return np.unique(codes, return_inverse=True)[1]


def _check_rank(x: Array, terms: tuple[str, ...], effects: tuple[Codes, ...], spec: Spec) -> None:
    inner = demean(x, effects)
    length = np.sqrt((x**2).sum(axis=0))
    basis: list[Array] = []
    for j, term in enumerate(terms):
        left = inner[:, j].copy()
        if np.sqrt(left @ left) <= _TOLERANCE * length[j]:
            by = " and ".join(spec.effects) if effects else "nothing: it is zero"
            raise EstimationError(
                f"{spec.formula}: {term!r} is absorbed by {by}. Drop the term or the effect."
            )
        for vector in basis:
            left -= (vector @ left) * vector
        if np.sqrt(left @ left) <= _TOLERANCE * length[j]:
            raise EstimationError(
                f"{spec.formula}: {term!r} is a combination of {', '.join(map(repr, terms[:j]))}"
                f"{' and the effects' if effects else ''}. Drop one of them."
            )
        basis.append(left / np.sqrt(left @ left))


def _check_clusters(clusters: Codes | None, n_terms: int, spec: Spec) -> tuple[str, ...]:
    if clusters is None:
        return ()
    n = int(clusters.max()) + 1
    if n <= n_terms:
        raise EstimationError(
            f"{spec.formula}: {n} clusters ({spec.cluster}) for {n_terms} coefficients; the covariance would "
            "be singular. Cluster at a finer level or drop regressors."
        )
    if n < FEW_CLUSTERS:
        return (f"only {n} clusters ({spec.cluster}): below {FEW_CLUSTERS} the errors tend to be too small",)
    return ()
