"""Is the time step short enough? Halve it until the results no longer change."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from villageflow.ensemble.design import DesignLike
from villageflow.ensemble.schema import FINISHED, MEMBER, STATUS, TIME
from villageflow.ensemble.simulate import integration_method, simulate, time_grid
from villageflow.errors import DesignError
from villageflow.integrate.methods import ADAPTIVE
from villageflow.ir.model import Model
from villageflow.timegrid import TimeGrid

Floats = npt.NDArray[np.float64]

_MOST_HALVINGS: Final = 20


@dataclass(frozen=True)
class Halving:
    """What halving one step changed.

    Attributes
    ----------
    step : float
        The step that was halved.
    change : float
        The largest change of any variable, relative to its size, among runs that were finite with both steps; infinite
        if there are none.
    variable : str
        Where it was largest; empty if nothing changed or could be compared.
    member : int
    time : float
        The member and the saved time of that change.
    order : float
        Observed order: by how many powers of two the change shrank from the step before; NaN on the first line.
    failed : int
        Runs (members, in every scenario) that were not finite with this step or with half of it.
    """

    step: float
    change: float
    variable: str
    member: int
    time: float
    order: float
    failed: int


@dataclass(frozen=True)
class StepCheck:
    """Result of `step_check`; as text it is a table and a verdict.

    Attributes
    ----------
    model, method : str
        What was run, and how.
    tolerance : float
    halvings : tuple of Halving
        One for each step tried, the longest first.
    met : bool
        Whether the last change was below the tolerance, and every run finite.
    step : float or None
        The recommended step: the longest one whose halving met that; None if none did.
    """

    model: str
    method: str
    tolerance: float
    halvings: tuple[Halving, ...]

    @property
    def met(self) -> bool:
        return _meets(self.halvings[-1], self.tolerance)

    @property
    def step(self) -> float | None:
        return self.halvings[-1].step if self.met else None

    def to_frame(self) -> pd.DataFrame:
        """One row for each step tried, with the columns of `Halving`."""
        names = [item.name for item in fields(Halving)]
        return pd.DataFrame([[getattr(row, name) for name in names] for row in self.halvings], columns=names)

    def __repr__(self) -> str:
        lines = [f"step check of {self.model} with {self.method}, tolerance {self.tolerance:g}"]
        lines.append(f"{'step':>12} {'max change':>11} {'order':>6} {'not finite':>10}  worst at")
        for row in self.halvings:
            where = f"{row.variable}, time {row.time:g}, member {row.member}" if row.variable else ""
            order = "" if math.isnan(row.order) else f"{row.order:.2f}"
            lines.append(f"{row.step:>12.7g} {row.change:>11.3g} {order:>6} {row.failed:>10}  {where}".rstrip())
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        first, last = self.halvings[0], self.halvings[-1]
        if not self.met and last.failed:
            return (
                f"not met: {last.failed} runs are not finite with a step of {last.step:.7g} or half of it; shorten the "
                "first step, or leave out members that never are finite"
            )
        if not self.met:
            return (
                f"not met: halving a step of {last.step:.7g} still changes results by {last.change:.3g}; "
                "look at the variable named, or allow more halvings"
            )
        what = "the step is short enough" if last is first else f"use a step of {last.step:.7g}"
        return f"met: {what}; halving it changes no result by more than {last.change:.3g} of its size"


def step_check(
    model: Model,
    design: DesignLike = None,
    *,
    save: Sequence[str] | str | None = None,
    tolerance: float = 0.01,
    time_step: float | None = None,
    final_time: float | None = None,
    method: str | None = None,
    halvings: int = 8,
) -> StepCheck:
    """Halve the time step until the results no longer change.

    Parameters
    ----------
    model : Model
        As `read_model` gives it.
    design : Design, DataFrame, dict or None
        Members to run, as `simulate` takes them; the worst of them counts.
    save : sequence of str, optional
        Variables to compare; default every stock and auxiliary.
    tolerance : float
        Largest change that counts as none, as a share of the variable's size: the largest absolute value that it has
        in that member's run, at any compared time, with either step.
    time_step : float, optional
        The first step; default the model's.
    final_time : float, optional
        Default as the model file has it.
    method : {"euler", "rk4"}, optional
        Default as the model file has it.
    halvings : int
        Most steps to halve, from 1 to 20.

    Returns
    -------
    StepCheck

    Raises
    ------
    DesignError
        Settings that do not fit the model, or a method that chooses its own steps.

    Notes
    -----
    Results are compared at the times that are saved with both steps; what happens between save points is not seen. A
    change below the tolerance is evidence, not a bound: with Euler, what is left is about twice the last change.
    What is defined per time step (DELAY FIXED, SAMPLE IF TRUE, pulses of one step, TIME STEP in equations) changes
    its meaning with the step, and is reported as it is. A member that is not finite with one step of a pair is left
    out of the change and counted in ``failed``; the tolerance is not met while there is one.

    Examples
    --------
    >>> step_check(model, tolerance=0.001)  # doctest: +SKIP
    """
    chosen = integration_method(model, method)
    if chosen == ADAPTIVE:
        raise DesignError(f'method "{ADAPTIVE}" chooses its own steps; give method="euler" or "rk4" to check a step')
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise DesignError(f"tolerance is {tolerance!r}; it must be a number greater than 0, such as 0.01")
    if not 1 <= halvings <= _MOST_HALVINGS:
        raise DesignError(f"halvings is {halvings!r}; it must be from 1 to {_MOST_HALVINGS}")
    grid = time_grid(model, time_step=time_step, final_time=final_time)

    def run(step: float) -> xr.Dataset:
        return simulate(
            model, design, save=save, time_step=step, final_time=grid.stop, save_every=grid.save_every, method=chosen,
            errors="flag",
        )

    rows: list[Halving] = []
    step, coarse = grid.step, run(grid.step)
    for _ in range(halvings):
        fine = run(step / 2)
        rows.append(_compare(grid, step, coarse, fine, rows[-1].change if rows else math.nan))
        if _meets(rows[-1], tolerance):
            break
        step, coarse = step / 2, fine
    return StepCheck(model.name, chosen, float(tolerance), tuple(rows))


def _meets(row: Halving, tolerance: float) -> bool:
    return row.change < tolerance and not row.failed


def _compare(grid: TimeGrid, step: float, coarse: xr.Dataset, fine: xr.Dataset, before: float) -> Halving:
    """The largest change between two runs, at the saved steps of the longer that the shorter saves too."""
    pair = [TimeGrid(grid.start, grid.stop, length, grid.save_every).save_steps() for length in (step, step / 2)]
    _, here, there = np.intersect1d(2 * pair[0], pair[1], return_indices=True)
    finite = np.all([ds[STATUS].to_numpy().reshape(-1) == FINISHED for ds in (coarse, fine)], axis=0)
    kept, n_members = np.flatnonzero(finite), coarse.sizes[MEMBER]
    failed = len(finite) - len(kept)
    worst = Halving(step, 0.0 if len(kept) else math.inf, "", 0, math.nan, math.nan, failed)
    for (name, old), (_, new) in zip(_scalars(coarse), _scalars(fine), strict=True):
        if not len(kept):
            break
        old, new = old[kept][:, here], new[kept][:, there]
        size = np.maximum(np.abs(old), np.abs(new)).max(axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            change = np.abs(new - old) / np.where(size > 0, size, 1.0)
        run, point = divmod(int(np.argmax(change)), change.shape[1])
        if change[run, point] > worst.change:
            time = grid.start + int(pair[0][here[point]]) * step
            worst = replace(
                worst, change=float(change[run, point]), variable=name, member=int(kept[run]) % n_members, time=time
            )
    if math.isfinite(before) and before > 0 and math.isfinite(worst.change) and worst.change > 0:
        return replace(worst, order=math.log2(before / worst.change))
    return worst


def _scalars(ds: xr.Dataset) -> Iterator[tuple[str, Floats]]:
    """Every variable, and every element of an array that the model defines, as (scenarios x members, times)."""
    for name, variable in ds.data_vars.items():
        if name == STATUS:
            continue
        own = variable.dims[variable.dims.index(TIME) + 1:]
        values = variable.to_numpy().reshape(-1, ds.sizes[TIME], math.prod(ds.sizes[d] for d in own))
        labels = itertools.product(*(variable[d].to_numpy().tolist() for d in own))
        for position, elements in enumerate(labels):
            if not np.isnan(values[..., position]).all():
                yield f"{name}[{','.join(map(str, elements))}]" if own else str(name), values[..., position]
