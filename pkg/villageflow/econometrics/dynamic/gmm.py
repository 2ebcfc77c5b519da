"""Linear GMM on stacked panel equations: instruments from lags, one and two steps, and the tests that go with them.

Everything here is arrays with one block per entity, rows in the order of time; missing rows are zero. Rows of the
differenced equation come first, rows of the level equation, if any, after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from villageflow.errors import EstimationError

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

TOLERANCE: Final = 1e-10
"""Share of its length below which a column is a combination of others, and of the largest one an eigenvalue is zero."""


@dataclass(frozen=True, eq=False)
class Stack:
    """The equations of all entities.

    Parameters
    ----------
    y : (entity, row) array
    x : (entity, row, term) array
    z : (entity, row, instrument) array
    used : (entity, row) bool array
        The rows that exist. `y`, `x` and `z` are zero elsewhere.
    n_differenced : int
        The first so many rows are differenced, one per period from the second on; the rest are levels, one per
        period, or there are none.
    level_only : (instrument,) bool array
        GMM-style instruments of the level equation.
    """

    y: Array
    x: Array
    z: Array
    used: Mask
    n_differenced: int
    level_only: Mask


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients and what their tests need.

    Parameters
    ----------
    params : (term,) array
    classical : (term, term) array
        One step: covariance for errors independent and of equal variance. Two steps: without correction.
    robust : (term, term) array
        One step: the sandwich over entities. Two steps: with the correction of Windmeijer.
    projection : (term, instrument) array
        What moments are multiplied by to move the coefficients.
    moments : (entity, instrument) array
        Instruments times residuals.
    residuals : (entity, row) array
    sigma2 : float
        Variance of the error: half the mean square of the differenced residuals.
    overidentification : float
        Sargan's statistic after one step, Hansen's after two.
    rank : int
        Number of instruments that are not combinations of others.
    weight_rank : int
        Rank of the matrix whose inverse is the weight of the last step.
    steps : {1, 2}
    """

    params: Array
    classical: Array
    robust: Array
    projection: Array
    moments: Array
    residuals: Array
    sigma2: float
    overidentification: float
    rank: int
    weight_rank: int
    steps: Literal[1, 2]


# --- instruments -------------------------------------------------------------------------------------------------


def lagged_levels(values: Array, used: Mask, first: int, last: int, *, collapse: bool) -> Array:
    """Lags of a level as instruments of the differenced equation.

    Parameters
    ----------
    values : (entity, period) array
        NaN where not known.
    used : (entity, period - 1) bool array
        Rows of the differenced equation, from the second period on.
    first, last : int
        Lags, counted from the period of the row.
    collapse : bool
        One column per lag; else one per lag and period.

    Returns
    -------
    (entity, period - 1, instrument) array
        Zero where a lag is not known. Columns without any value are left out.

    References
    ----------
    Holtz-Eakin, Newey and Rosen (1988); Arellano and Bond (1991); Roodman (2009) for collapsed columns.
    """
    lags = [_shifted(values, lag)[:, 1:] for lag in range(first, min(last, values.shape[1] - 1) + 1)]
    return _columns(lags, used, collapse=collapse)


def lagged_difference(values: Array, used: Mask, lag: int, *, collapse: bool) -> Array:
    """One lag of a difference as instruments of the level equation; shapes as `lagged_levels`, with all periods.

    References
    ----------
    Arellano and Bover (1995); Blundell and Bond (1998). Further lags add nothing to those of the differences.
    """
    change = values - _shifted(values, 1)
    return _columns([_shifted(change, lag)], used, collapse=collapse)


def _shifted(values: Array, lag: int) -> Array:
    moved = np.full_like(values, np.nan)
    moved[:, lag:] = values[:, : values.shape[1] - lag]
    return moved


def _columns(lags: Sequence[Array], used: Mask, *, collapse: bool) -> Array:
    found = [np.where(used & np.isfinite(lag), lag, 0.0) for lag in lags]
    if not found:
        return np.zeros((*used.shape, 0))
    if collapse:
        made = np.stack(found, axis=2)
    else:
        made = np.concatenate([lag[:, :, None] * np.eye(used.shape[1]) for lag in found], axis=2)
    return made[:, :, np.any(made != 0, axis=(0, 1))]


# --- estimation --------------------------------------------------------------------------------------------------


def solve(stack: Stack, steps: Literal[1, 2]) -> Solution:
    """Coefficients that bring the moments of instruments and errors nearest to zero.

    Parameters
    ----------
    stack : Stack
        With as many independent instruments as terms, or more.
    steps : {1, 2}
        The first step is efficient where errors are independent and of equal variance; the second weighs the moments
        by what their covariance over entities was after the first.

    Returns
    -------
    Solution
        A singular covariance of the moments has a generalized inverse: compare `rank` and `weight_rank`.

    Raises
    ------
    EstimationError
        If that covariance is of too low a rank for a second step.

    References
    ----------
    Arellano and Bond (1991); Blundell and Bond (1998), with the first-step weight of Roodman (2009), h(3);
    Windmeijer (2005) for the covariance of two steps.
    """
    across = stack.z.transpose(0, 2, 1)
    zx, zy = across @ stack.x, (across @ stack.y[:, :, None])[:, :, 0]
    total, target = zx.sum(axis=0), zy.sum(axis=0)
    root = first_root(stack)
    rank = weight_rank = root.shape[1]
    classical, projection = _step(total, root)
    params = projection @ target
    moments = zy - zx @ params
    robust = _outer(moments @ projection.T)
    if steps == 2:
        first, first_robust = moments, robust
        root = inverse_root(_outer(first))
        weight_rank = root.shape[1]
        if weight_rank < len(params) or dependent(root.T @ total):
            raise EstimationError(
                f"the covariance of the moments has rank {weight_rank}, too little to weigh them for {len(params)} "
                "coefficients; groups are too few, or the fit is perfect. Use steps=1."
            )
        classical, projection = _step(total, root)
        params = projection @ target
        moments = zy - zx @ params
        pull = root @ (moments.sum(axis=0) @ root)
        robust = _corrected(classical, first_robust, projection, zx, first, pull)
    residuals = stack.y - stack.x @ params
    sigma2 = _variance(stack, residuals)
    statistic = float(np.sum((moments.sum(axis=0) @ root) ** 2))
    if steps == 1:
        classical, statistic = sigma2 * classical, statistic / sigma2
    return Solution(
        params, classical, robust, projection, moments, residuals, sigma2, statistic, rank, weight_rank, steps
    )


def first_root(stack: Stack) -> Array:
    """Root of the weight of the first step, (instrument, rank): the weight is its product with itself."""
    weighed = np.einsum("rs,nsl->nrl", error_covariance(stack), stack.z, optimize=True)
    return inverse_root(np.tensordot(stack.z, weighed, axes=((0, 1), (0, 1))))


def _step(total: Array, root: Array) -> tuple[Array, Array]:
    """Inverse of the weighted cross products, and what moments are multiplied by."""
    q, r = np.linalg.qr(root.T @ total)
    back = np.linalg.solve(r, np.eye(len(r)))
    return back @ back.T, back @ q.T @ root.T


def _corrected(bread: Array, first: Array, projection: Array, zx: Array, moments: Array, pull: Array) -> Array:
    """Covariance of two steps, with what the weight owes to the first step (Windmeijer 2005, equation 3.2)."""
    change = np.einsum("n,nlk->lk", moments @ pull, zx) + moments.T @ np.einsum("l,nlk->nk", pull, zx)
    d = projection @ change
    corrected: Array = bread + d @ bread + bread @ d.T + d @ first @ d.T
    return corrected


def error_covariance(stack: Stack) -> Array:
    """Covariance of the rows of one entity, (row, row), when errors are independent and of variance one."""
    n_rows = stack.used.shape[1]
    periods = stack.n_differenced + 1
    make = np.concatenate([np.diff(np.eye(periods), axis=0), np.eye(periods)])[:n_rows]
    covariance: Array = make @ make.T
    return covariance


def _variance(stack: Stack, residuals: Array) -> float:
    rows = slice(None, stack.n_differenced)
    return float(np.sum(residuals[:, rows] ** 2)) / (2 * int(stack.used[:, rows].sum()))


def _outer(rows: Array) -> Array:
    product: Array = rows.T @ rows
    return product


def inverse_root(matrix: Array) -> Array:
    """Root of the inverse of a symmetric matrix that is not negative, (row, rank); generalized if it is singular.

    Rows and columns are scaled to a unit diagonal first, so that the rank does not depend on units.
    """
    size = np.sqrt(np.diag(matrix))
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    values, vectors = np.linalg.eigh(matrix * np.outer(scale, scale))
    kept = values > TOLERANCE * max(values.max(initial=0.0), np.finfo(float).tiny)
    root: Array = vectors[:, kept] * scale[:, None] / np.sqrt(values[kept])
    return root


# --- tests -------------------------------------------------------------------------------------------------------


def serial_correlation(stack: Stack, found: Solution, lag: int, *, robust: bool) -> float | None:
    """Arellano and Bond's test that differenced errors ``lag`` periods apart are not correlated.

    Parameters
    ----------
    stack : Stack
        The equations.
    found : Solution
        Their solution.
    lag : int
        At least 1.
    robust : bool
        Whether the coefficients' covariance is the robust one. The products of residuals are taken from the data but
        for one step without it, where they follow from `Solution.sigma2`.

    Returns
    -------
    float or None
        Standard normal under the null; None where no entity has residuals so far apart.

    References
    ----------
    Arellano and Bond (1991), equations 8 to 10.
    """
    n = stack.n_differenced
    now = np.where(np.arange(stack.used.shape[1]) < n, found.residuals, 0.0)
    before = np.zeros_like(now)
    before[:, lag:n] = now[:, : max(n - lag, 0)]
    before *= stack.used
    if not np.any((before != 0) & (now != 0)):
        return None
    slope = np.einsum("nr,nrk->k", before, stack.x)
    products = np.sum(before * now, axis=1)
    if found.steps == 1 and not robust:
        spread = found.sigma2 * before @ error_covariance(stack)
        own, crossed = np.sum(spread * before), np.einsum("nrl,nr->l", stack.z, spread * stack.used)
    else:
        own, crossed = products @ products, found.moments.T @ products
    cov = found.robust if robust else found.classical
    variance = own - 2 * slope @ found.projection @ crossed + slope @ cov @ slope
    return float(products.sum() / np.sqrt(variance)) if variance > 0 else None


def level_instruments(stack: Stack, found: Solution) -> tuple[float, int] | None:
    """Hansen's statistic less that without the GMM-style instruments of the level equation.

    Both use the moments' covariance after the first step with all instruments, so that the difference is not negative.

    Returns
    -------
    (statistic, degrees of freedom) or None
        None where the other instruments do not identify the coefficients, there are no more of them with those of the
        level equation, or the moments' covariance is singular.

    References
    ----------
    Roodman (2009); Eichenbaum, Hansen and Singleton (1988).
    """
    rest = ~stack.level_only
    z = stack.z[:, :, rest]
    total = np.einsum("nrl,nrk->lk", z, stack.x, optimize=True)
    target = np.einsum("nrl,nr->l", z, stack.y, optimize=True)
    root = inverse_root(_outer(solve(stack, 1).moments[:, rest]))
    df = found.rank - root.shape[1]
    if df < 1 or found.weight_rank < found.rank or root.shape[1] < total.shape[1] or dependent(root.T @ total):
        return None
    sums = target - total @ (_step(total, root)[1] @ target)
    return found.overidentification - float(np.sum((sums @ root) ** 2)), df


def dependent(columns: Array) -> dict[int, tuple[int, ...]]:
    """Columns that are combinations of columns before them, each with the ones that it combines.

    Parameters
    ----------
    columns : (row, column) array
        A column of zeros combines none.
    """
    length = np.linalg.norm(columns, axis=0)
    unit = columns / np.where(length > 0, length, 1.0)
    kept: list[int] = []
    found: dict[int, tuple[int, ...]] = {}
    for j in range(columns.shape[1]):
        before = unit[:, kept]
        weights: Any = np.linalg.lstsq(before, unit[:, j], rcond=None)[0]
        if np.linalg.norm(unit[:, j] - before @ weights) > TOLERANCE:
            kept.append(j)
        else:
            found[j] = tuple(kept[i] for i in np.flatnonzero(np.abs(weights) > 1e-6))
    return found
