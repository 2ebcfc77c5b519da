"""The arrays of a regression, and the algebra of groups: means, projections off absorbed effects, nesting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.sparse import linalg as splinalg

from villageflow.econometrics.estimate import Dropped
from villageflow.errors import EstimationError

Array: TypeAlias = "npt.NDArray[np.float64]"
Codes: TypeAlias = "npt.NDArray[np.intp]"
FEW_CLUSTERS = 40
"""Clusters below which errors clustered by them tend to be too small."""

_MOST_ROUNDS = 3_000
_PATIENCE = 300
_SETTLED = 1e-13


@dataclass(frozen=True, eq=False)
class Sample:
    """The arrays of a regression.

    Parameters
    ----------
    y : (n,) array
    x : (n, k) array
        In the order of ``terms``; a column of ones comes first if the regression has a constant, endogenous
        regressors come last.
    terms : tuple of str
    index : pandas.MultiIndex
        (entity, time) of every observation; where entity means are regressed, all at the first time.
    effects : tuple of (n,) int arrays
        Group of every observation, from 0 without gaps, one array per absorbed effect.
    clusters : tuple of (n,) int arrays
        As many as the errors are clustered by.
    n_periods : int
    dropped : tuple of Dropped
    notes : tuple of str
    n_endogenous : int
        How many columns of ``x``, from the last one, are endogenous.
    z : (n, l) array
        Excluded instruments, in the order of ``instruments``.
    instruments : tuple of str
    place : (n, 2) array or None
        Latitude and longitude in degrees, for Conley errors.
    means_of : tuple of int
        Columns of ``x`` whose entity means are its last columns.
    """

    y: Array
    x: Array
    terms: tuple[str, ...]
    index: pd.MultiIndex
    effects: tuple[Codes, ...]
    clusters: tuple[Codes, ...]
    n_periods: int
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    n_endogenous: int = 0
    z: Array = field(default_factory=lambda: np.empty((0, 0)))
    instruments: tuple[str, ...] = ()
    place: Array | None = None
    means_of: tuple[int, ...] = ()

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters, the smaller one of two; None if the errors are not clustered."""
        return min((n_groups(codes) for codes in self.clusters), default=None)

    @cached_property
    def n_absorbed(self) -> int:
        """Coefficients that the absorbed effects stand for, their constant included; see `rank_of_groups`."""
        return rank_of_groups(self.effects)

    def without(self, out: npt.NDArray[np.bool_]) -> Sample:
        """The sample less some observations; appended entity means are those of what is left."""
        keep = ~out
        x, index = self.x[keep], self.index[keep]
        if self.means_of:
            codes = entity_codes(index)
            x[:, -len(self.means_of) :] = group_means(x[:, list(self.means_of)], codes)[codes]
        return replace(
            self, y=self.y[keep], x=x, index=index, z=self.z[keep] if self.z.size else self.z,
            effects=tuple(dense(codes[keep]) for codes in self.effects),
            clusters=tuple(dense(codes[keep]) for codes in self.clusters),
            place=None if self.place is None else self.place[keep],
        )  # fmt: skip


def check_frame(panel: object) -> None:
    """Refuse what is no table at all."""
    if not isinstance(panel, pd.DataFrame):
        raise EstimationError(f"The panel is a {type(panel).__name__}. Give a pandas.DataFrame indexed (entity, time).")


def demean(values: Array, groups: tuple[Codes, ...], weights: Array | None = None) -> Array:
    """Residuals of columns after projection on group means.

    With several effects, the means of one after the other are taken out, there and back, and conjugate gradients
    shorten the way to where nothing moves any more. Effects that are hardly connected need many rounds; if there are
    two, their means are then found by elimination.

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
        If 3,000 rounds do not settle to 1e-13 of the scale of a column.

    References
    ----------
    Correia (2016), the symmetric Kaczmarz transform with conjugate gradients.
    """
    if not groups:
        return values
    columns = values.reshape(len(values), -1).astype(np.float64)
    columns -= columns.mean(axis=0)
    weight = np.ones(len(columns)) if weights is None else weights
    totals = [np.bincount(codes, weights) for codes in groups]
    there_and_back = [*range(len(groups)), *reversed(range(len(groups) - 1))]

    def sweep(part: Array) -> Array:
        for i in there_and_back:
            part = part - _sums(part if weights is None else part * weight[:, None], groups[i], totals[i])[groups[i]]
        return part

    if len(groups) == 1:
        return sweep(columns).reshape(values.shape)
    scale = np.sqrt((columns**2).mean(axis=0))
    n_rounds = 0
    while n_rounds < _MOST_ROUNDS:
        swept = sweep(columns)
        residual = columns - swept
        if bool((np.abs(residual).max(axis=0) <= _SETTLED * scale).all()):
            return swept.reshape(values.shape)
        if len(groups) == 2 and n_rounds >= _PATIENCE:
            swept = _eliminate(swept, groups, weight)
            return _eliminate(swept, groups, weight).reshape(values.shape)
        n_rounds += _conjugate_gradients(columns, residual, sweep, weight, 1e-2 * _SETTLED * scale)
    raise EstimationError(f"The effects could not be absorbed in {_MOST_ROUNDS:,} rounds. Use fewer or coarser ones.")


def _sums(columns: Array, codes: Codes, totals: Array | Codes) -> Array:
    """Group sums over totals, (groups, k)."""
    return np.column_stack([np.bincount(codes, column) for column in columns.T]) / totals[:, None]


def _conjugate_gradients(
    columns: Array, residual: Array, sweep: Callable[[Array], Array], weight: Array, small: Array
) -> int:
    """Change ``columns`` until what a sweep takes out is small, or starts to grow by rounding; rounds that it took."""
    direction, square = residual.copy(), weight @ residual**2
    floor, best = weight.sum() * small**2, square.copy()
    for done in range(1, _PATIENCE + 1):
        moved = direction - sweep(direction)
        curvature = weight @ (direction * moved)
        step = np.divide(square, curvature, out=np.zeros_like(square), where=curvature > 0)
        columns -= step * direction
        residual = residual - step * moved
        last, square = square, weight @ residual**2
        if bool((square <= floor).all()) or bool((square > 1e6 * best).any()):
            return done
        best = np.minimum(best, square)
        direction = residual + np.divide(square, last, out=np.zeros_like(square), where=last > 0) * direction
    return _PATIENCE


def _eliminate(columns: Array, groups: tuple[Codes, ...], weight: Array) -> Array:
    """Residuals on two effects by a sparse factorization of the equations of the smaller one."""
    one, two = sorted(groups, key=n_groups, reverse=True)
    totals = np.bincount(one, weight)
    cross = sparse.csr_array(sparse.coo_array((weight, (one, two))))
    shares = sparse.csr_array(cross / totals[:, None])
    matrix = sparse.csc_array(sparse.diags_array(np.bincount(two, weight)) - cross.T @ shares)
    parts = sparse.csgraph.connected_components(sparse.csr_array(cross.T @ cross), directed=False)[1]
    ground = np.zeros(n_groups(two))  # the effects of a part are known up to a constant: one of them is set to zero
    ground[np.unique(parts, return_index=True)[1]] = 1.0
    solver = splinalg.splu(sparse.csc_array(matrix + sparse.diags_array(ground * np.bincount(two, weight))))
    first = _sums(columns * weight[:, None], one, totals)
    right = _sums(columns * weight[:, None], two, np.ones(n_groups(two))) - cross.T @ first
    columns = columns - solver.solve(np.asarray(right))[two]
    return columns - _sums(columns * weight[:, None], one, totals)[one]


def group_means(values: Array, codes: Codes) -> Array:
    """Mean of every column by group, (groups, k)."""
    return _sums(values, codes, np.bincount(codes))


def n_groups(codes: Codes) -> int:
    """Number of groups of codes that run from 0 without gaps."""
    return int(codes.max(initial=-1)) + 1


def dense(codes: Codes) -> Codes:
    """The same groups with codes from 0 without gaps."""
    return np.unique(codes, return_inverse=True)[1].ravel()


def both(a: Codes, b: Codes) -> Codes:
    """One group per combination of two groupings."""
    return dense(a * (n_groups(b) + 1) + b)


def nested(inner: Codes, outer: Codes) -> bool:
    """Whether every group of ``inner`` lies within one group of ``outer``."""
    return n_groups(both(inner, outer)) == n_groups(inner)


def rank_of_groups(groups: tuple[Codes, ...]) -> int:
    """Rank of the dummies of all groupings together.

    Two groupings lose one for every part in which their groups are connected. Of three and more, each loses what it
    loses beside the one before it with which it has most parts: the rank is then an upper bound.
    """
    rank = 0
    for i, codes in enumerate(groups):
        rank += n_groups(codes) - max((_n_parts(codes, other) for other in groups[:i]), default=0)
    return rank


def _n_parts(a: Codes, b: Codes) -> int:
    n, links = n_groups(a), (np.ones(len(a)), (a, b + n_groups(a)))
    graph = sparse.coo_array(links, shape=(n + n_groups(b),) * 2)
    return int(sparse.csgraph.connected_components(graph, directed=False, return_labels=False))


def entity_codes(index: pd.MultiIndex) -> Codes:
    """Entity of every observation, from 0 in the order of appearance."""
    return np.asarray(pd.factorize(index.get_level_values(0))[0], dtype=np.intp)
