"""The rows of a dynamic panel by calendar time: differences and levels, their instruments, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from villageflow.datasets.terms import evaluate, parse_formula
from villageflow.econometrics.dynamic import gmm
from villageflow.econometrics.dynamic.gmm import Array, Mask, Stack
from villageflow.econometrics.dynamic.spec import DynamicSpec
from villageflow.econometrics.estimate import Dropped
from villageflow.econometrics.sample import check_frame
from villageflow.errors import EstimationError

Series: TypeAlias = "pd.Series[Any]"
MAX_PERIODS: Final = 1000
"""Beyond it a panel is not short, and its times are rather dates than periods."""


@dataclass(frozen=True, eq=False)
class DynamicSample:
    """The equations of a panel.

    Parameters
    ----------
    stack : Stack
    names : tuple of str
        Terms of ``stack.x``: those of the formula, period dummies, the constant.
    entities : pandas.Index
        Those with a row, sorted.
    times : (period,) array
        All periods from the first to the last of the panel.
    level_y, level_x, level_used : arrays
        The level equation, (entity, period) and (entity, period, term), whether or not it is estimated.
    main : slice
        The rows of the stack that are counted and have residuals.
    lagged_outcome : int or None
        The term that is the outcome a period earlier.
    dropped : tuple of Dropped
    index_names : tuple
    """

    stack: Stack
    names: tuple[str, ...]
    entities: Any
    times: Any
    level_y: Array
    level_x: Array
    level_used: Mask
    main: slice
    lagged_outcome: int | None
    dropped: tuple[Dropped, ...]
    index_names: tuple[Any, ...]

    @property
    def n_rows(self) -> int:
        """Number of observations."""
        return int(self.stack.used[:, self.main].sum())

    @property
    def n_periods(self) -> int:
        """Number of periods with an observation."""
        return int(self.stack.used[:, self.main].any(axis=0).sum())

    @property
    def unvarying(self) -> Mask:
        """(term,): which terms are the same in all periods of an entity."""
        return _unvarying(self.level_x, self.stack.x[:, : self.stack.n_differenced])

    def series(self, rows: Array) -> Series:
        """Values by row of the stack, (entity, row), as a series of the observations, indexed (entity, time)."""
        used = self.stack.used[:, self.main]
        entity, period = np.nonzero(used)
        times = self.times[len(self.times) - used.shape[1] :]
        index = pd.MultiIndex.from_arrays([self.entities[entity], times[period]], names=self.index_names)
        return pd.Series(rows[:, self.main][used], index)

    def levels(self) -> tuple[Array, Array, Any]:
        """Outcome, regressors and entity number of the level rows."""
        return self.level_y[self.level_used], self.level_x[self.level_used], np.nonzero(self.level_used)[0]


@dataclass(frozen=True, eq=False)
class _Grid:
    """Entities by all periods from the first to the last."""

    panel: pd.DataFrame
    entities: Any
    times: Any
    row: Any
    column: Any

    def values(self, term: str) -> Array:
        """A term, (entity, period), NaN where not known."""
        found = evaluate(term, self.panel).to_numpy(np.float64)
        if np.isinf(found).any():
            entity, time = self.panel.index[int(np.isinf(found).argmax())]
            raise EstimationError(f"{term!r} is infinite for {entity} at {time}. Drop the row or mend the value.")
        filled = np.full((len(self.entities), len(self.times)), np.nan)
        filled[self.row, self.column] = found
        return filled


def draw_dynamic_sample(spec: DynamicSpec, panel: pd.DataFrame) -> DynamicSample:
    """The equations of a specification on a panel.

    Raises
    ------
    EstimationError
        As `villageflow.econometrics.dynamic.difference_gmm`.
    """
    check_frame(panel)
    formula = parse_formula(spec.formula)
    grid = _grid(formula.outcome, panel)
    y = grid.values(formula.outcome)
    x = np.stack([grid.values(term) for term in formula.regressors], axis=2)
    kept = np.isin(grid.times, spec.times) if spec.times else np.full(len(grid.times), True)
    known = np.isfinite(y) & np.isfinite(x).all(axis=2)
    level, change = known & kept, known[:, 1:] & known[:, :-1] & kept[1:]
    if not change.any():
        raise _too_short(spec, y)
    own, own_names = _period_columns(spec, grid.times, level, change)
    x = np.concatenate([x, np.broadcast_to(own, (*y.shape, own.shape[1]))], axis=2)
    own_rows = _stacked(x[:, :, len(formula.regressors) :], level, change, system=spec.system)
    x_rows = _stacked(x, level, change, system=spec.system)
    names = (*formula.regressors, *own_names)
    _check_terms(spec, names, np.where(level[:, :, None], x, 0.0), x_rows)
    parts = [*_standard(spec, grid, level, change), own_rows, *_lagged(spec, grid, level, change)]
    some = (level if spec.system else change).any(axis=1)
    sample = DynamicSample(
        stack=Stack(
            y=_stacked(y[:, :, None], level, change, system=spec.system)[some, :, 0],
            x=x_rows[some],
            z=np.concatenate(parts, axis=2)[some],
            used=(np.concatenate([change, level], axis=1) if spec.system else change)[some],
            n_differenced=change.shape[1],
            level_only=_marked(spec, parts),
        ),
        names=names,
        entities=grid.entities[some],
        times=grid.times,
        level_y=np.where(level, y, 0.0)[some],
        level_x=np.where(level[:, :, None], x, 0.0)[some],
        level_used=level[some],
        main=slice(change.shape[1], None) if spec.system else slice(None, change.shape[1]),
        lagged_outcome=_lagged_outcome(formula.outcome, formula.regressors),
        dropped=_dropped(spec, grid, level, change),
        index_names=tuple(panel.index.names),
    )
    _check_identified(spec, sample)
    return sample


def _grid(outcome: str, panel: pd.DataFrame) -> _Grid:
    evaluate(outcome, panel)  # refuses what is not indexed (entity, time) without repeats
    if not len(panel):
        raise EstimationError("The panel has no rows. Select fewer conditions.")
    row, entities = pd.factorize(panel.index.get_level_values(0), sort=True)
    times = panel.index.get_level_values(1).to_numpy(np.float64)
    if (row < 0).any() or not np.isfinite(times).all() or np.any(times != np.round(times)):
        raise EstimationError("The index of the panel has a blank or a time that is not a whole number. Count periods.")
    first, n_periods = times.min(), int(times.max() - times.min()) + 1
    if n_periods > MAX_PERIODS:
        raise EstimationError(
            f"The times of the panel run from {first:g} to {times.max():g}: {n_periods} periods, and {MAX_PERIODS} are "
            "the most. GMM with lagged instruments is meant for short panels; count periods, not days."
        )
    kind = panel.index.get_level_values(1).to_numpy().dtype
    periods = (first + np.arange(n_periods)).astype(kind if kind.kind in "iuf" else np.int64)
    return _Grid(panel, entities, periods, row, (times - first).astype(int))


def _stacked(values: Array, level: Mask, change: Mask, *, system: bool) -> Array:
    """Differences and, in a system, levels, (entity, row, column); zero where a row or a value is missing."""
    rows = np.where(change[:, :, None], np.diff(values, axis=1), 0.0)
    if system:
        rows = np.concatenate([rows, np.where(level[:, :, None], values, 0.0)], axis=1)
    return np.nan_to_num(rows, nan=0.0)


def _period_columns(spec: DynamicSpec, times: Any, level: Mask, change: Mask) -> tuple[Array, tuple[str, ...]]:
    """Period dummies and, in a system, the constant, (period, column), with their names."""
    columns, names = [], []
    if spec.time_effects:
        here = np.flatnonzero(level.any(axis=0))[1:] if spec.system else np.flatnonzero(change.any(axis=0)) + 1
        columns += [np.arange(len(times)) == period for period in here]
        names += [f"time {times[period]:.0f}" for period in here]
    if spec.system:
        columns.append(np.full(len(times), True))
        names.append("const")
    return np.array(columns, np.float64).reshape(len(names), len(times)).T, tuple(names)


def _standard(spec: DynamicSpec, grid: _Grid, level: Mask, change: Mask) -> list[Array]:
    """Terms that are their own instruments."""
    made = []
    for term in spec.standard:
        made.append(_stacked(grid.values(term)[:, :, None], level, change, system=spec.system))
        if not made[-1].any():
            raise EstimationError(f"{spec.formula}: the instrument {term!r} does not vary over time. Drop it from iv.")
    return made


def _lagged(spec: DynamicSpec, grid: _Grid, level: Mask, change: Mask) -> list[Array]:
    """Columns of lags: for each term those of the differenced equation, then in a system those of the level one."""
    made = []
    for item in spec.lags:
        values, last = grid.values(item.variable), len(grid.times) if item.last is None else item.last
        part = gmm.lagged_levels(values, change, item.first, last, collapse=spec.collapse)
        if not part.shape[2]:
            raise EstimationError(
                f"{spec.formula}: no difference has a value of {item}, to be its instrument; the panel runs from "
                f"{grid.times[0]:g} to {grid.times[-1]:g}. Use earlier lags or a longer panel."
            )
        if spec.system:
            lag = max(item.first - 1, 0)
            also = gmm.lagged_difference(values, level, lag, collapse=spec.collapse)
            part = np.pad(part, ((0, 0), (0, level.shape[1]), (0, 0)))
            made += [part, np.pad(also, ((0, 0), (change.shape[1], 0), (0, 0)))]
        else:
            made.append(part)
    return made


def _marked(spec: DynamicSpec, parts: list[Array]) -> Mask:
    """Which columns are the level equation's alone: the second part of each term's lags in a system."""
    n_lagged = 2 * len(spec.lags) if spec.system else 0
    first = len(parts) - n_lagged
    return np.concatenate(
        [np.full(part.shape[2], i >= first and (i - first) % 2 == 1) for i, part in enumerate(parts)]
    )


def _dropped(spec: DynamicSpec, grid: _Grid, level: Mask, change: Mask) -> tuple[Dropped, ...]:
    n_panel = int(np.isin(grid.times[grid.column], spec.times).sum()) if spec.times else len(grid.row)
    n_level, n_change = int(level.sum()), int(change.sum())
    counts = [(n_panel - n_level, "with a term that is not known")]
    if not spec.system:
        counts.append((n_level - n_change, "without the period before"))
    return tuple(Dropped(n, reason) for n, reason in counts if n)


def _lagged_outcome(outcome: str, regressors: tuple[str, ...]) -> int | None:
    plain = ["".join(term.split()) for term in (outcome, *regressors)]
    found = [i for i, term in enumerate(plain[1:]) if term in (f"lag({plain[0]})", f"lag({plain[0]},1)")]
    return found[0] if found else None


# --- what is refused ---------------------------------------------------------------------------------------------


def _too_short(spec: DynamicSpec, y: Array) -> EstimationError:
    terms = parse_formula(spec.formula).regressors
    needed = 2 + max(_depth(term, ("lag", "d")) for term in terms) + max(_depth(term, ("lead",)) for term in terms)
    run, longest = np.zeros(len(y), int), 0
    for known in np.isfinite(y).T:
        run = np.where(known, run + 1, 0)
        longest = max(longest, int(run.max()))
    have = f"no outcome is known for more than {longest}" if longest < needed else "never are all terms known in them"
    return EstimationError(
        f"{spec.formula}: the panel is too short. A difference needs {needed} consecutive periods, lags included, and "
        f"{have}{' in the chosen times' if spec.times else ''}. Use fewer lags or a longer panel."
    )


def _depth(term: str, shifts: tuple[str, ...]) -> int:
    """How many periods away from its own a term reads through some functions."""
    text = re.sub(r"`[^`]*`", "x", term)
    deepest = [0]
    functions = [""]
    before, last = "", ""
    for token in re.findall(r"[\w.]+|\S", text):
        if token == "(":
            functions.append(last)
            deepest.append(0)
        elif token == ")":
            by = int(last) if before == "," else 1
            inside = deepest.pop() + by * (functions.pop() in shifts)
            deepest[-1] = max(deepest[-1], inside)
        before, last = last, token
    return deepest[0]


def _unvarying(levels: Array, changes: Array) -> Mask:
    return np.asarray(np.abs(changes).max(axis=(0, 1)) <= 1e-12 * np.abs(levels).max(axis=(0, 1)))


def _check_terms(spec: DynamicSpec, names: tuple[str, ...], levels: Array, rows: Array) -> None:
    """Regressors that vary within entities, unless levels are used too, and are not combinations of others."""
    if not spec.system and (still := [name for name, fixed in zip(names, _unvarying(levels, rows)) if fixed]):
        raise EstimationError(
            f"{spec.formula}: differencing absorbs {_listed(still)}, the same in all periods of an entity. Drop it, or "
            "use system_gmm."
        )
    n_regressors = len(parse_formula(spec.formula).regressors)
    order = [*range(n_regressors, len(names)), *range(n_regressors)]  # a regressor is named, not a dummy
    triangle = np.linalg.qr(rows.reshape(-1, len(names))[:, order])[1]  # combinations are the same in fewer rows
    if together := gmm.dependent(triangle):
        told = [
            f"{names[order[j]]!r} is {'a combination of ' + _listed([names[order[i]] for i in of]) if of else 'zero'}"
            for j, of in together.items()
        ]
        raise EstimationError(f"{spec.formula}: {'; '.join(told)}. Drop it, as its coefficient is not defined.")


def _check_identified(spec: DynamicSpec, sample: DynamicSample) -> None:
    stack, names = sample.stack, sample.names
    said, n_terms = f"{spec.formula}: ", len(names)
    root = gmm.first_root(stack)
    if root.shape[1] < n_terms:
        raise EstimationError(
            f"{said}{root.shape[1]} independent instruments for {n_terms} coefficients. Add lags to gmm or terms to iv."
        )
    lost = gmm.dependent(root.T @ np.einsum("nrl,nrk->lk", stack.z, stack.x, optimize=True))
    if lost:
        told = [f"{names[j]!r} from {_listed([names[i] for i in of]) or 'zero'}" for j, of in lost.items()]
        raise EstimationError(f"{said}the instruments do not tell {'; '.join(told)}. Add lags to gmm or terms to iv.")


def _listed(names: list[str]) -> str:
    periods = [name for name in names if name.startswith("time ")]
    shown = [repr(name) for name in names if name not in periods]
    if len(periods) > 3:
        return ", ".join([*shown, "the period dummies"])
    return ", ".join([*shown, *map(repr, periods)])
