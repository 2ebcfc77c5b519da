"""The verb `summarize`: quantiles and means of ensembles too large to keep.

Exact order statistics of what is never kept whole. A random sample of the members gives, for each quantile of each
saved value, two bounds that almost surely enclose it. Then all members run, in chunks: values below the bounds are
counted, values between them kept, some percent of all. The counts tell which of the kept values is the quantile, and
whether the bounds did enclose it; those that did not are widened, and the members run once more. The sample moves no
bit of a result, because an order statistic is what it is however it is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from villageflow.ensemble.design import DesignLike, as_design
from villageflow.ensemble.noise import NoiseLike, as_noise
from villageflow.ensemble.provenance import provenance
from villageflow.ensemble.runs import Ensemble, Members
from villageflow.ensemble.schema import QUANTILE, SCENARIO, TIME, time_coordinate
from villageflow.ensemble.simulate import OnError, check_on_error, counted, run_settings, time_grid
from villageflow.errors import DesignError, SimulationError
from villageflow.integrate.drive import Progress
from villageflow.ir.model import Model

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
_T = TypeVar("_T")

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
FINISHED_COUNT: Final = "finished"
FINISHED_TEXT: Final = "members that stay finite, over which quantiles and means are taken"
_MEAN: Final = "_mean"

_SAMPLE: Final = (64, 32_768)  # members in the sample, a sixteenth of all within these limits
_SAMPLE_BYTES: Final = 256 * 1024**2
_CHUNK: Final = (256, 16_384)  # members in a chunk, as many as _CHUNK_BYTES hold within these limits
_CHUNK_BYTES: Final = 32 * 1024**2
_MAX_BYTES: Final = 4 * 1024**3
_MARGIN: Final = 6.0  # standard deviations of a sample quantile's rank


def summarize(
    model: Model,
    design: DesignLike = None,
    *,
    quantiles: Sequence[float] = QUANTILES,
    save: Sequence[str] | str | None = None,
    time_step: float | None = None,
    final_time: float | None = None,
    save_every: float | None = None,
    method: str | None = None,
    tolerance: float | tuple[float, float] | None = None,
    seed: int = 0,
    noise: NoiseLike | None = None,
    inputs: NoiseLike | None = None,
    errors: OnError = "raise",
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Run a model for every member of a design and keep quantiles and means over the members.

    Parameters
    ----------
    model, design, save, time_step, final_time, save_every, method, tolerance, seed, noise, inputs, n_threads, progress
        As for `simulate`.
    quantiles : sequence of float
        Strictly between 0 and 1, rising.
    errors : {"raise", "flag"}
        Raise on a member that does not stay finite, or leave it out and count it.

    Returns
    -------
    xarray.Dataset
        For each saved variable its quantiles, dims (quantile, time), and its ``<name>_mean``, dims (time); with
        ``scenario`` first if the design has scenarios, and the dimensions of the model last where a variable is an
        array. ``finished`` is the number of members that they are taken over: those that stay finite; in
        ``n_members`` of the attributes are all.

    Raises
    ------
    DesignError
        As `simulate`; quantiles out of order; too many saved values for the memory that bounds would take.
    SimulationError
        As `simulate` with ``errors="raise"``; in any case when no member stays finite.

    Notes
    -----
    A quantile is Hazen's, linear between members that stand at (rank - 1/2)/n: that of
    ``numpy.quantile(..., method="hazen")`` and of `compare_policies`, to the last bit. Threads, blocks and the sample
    move no bit; the order of the members moves the last bits of a mean. Members have equal weights. Each member runs
    once, and about one in thirty once more.
    """
    check_on_error(errors)
    levels = _levels(quantiles)
    members = as_design(design, model)
    grid = time_grid(model, time_step=time_step, final_time=final_time, save_every=save_every)
    settings = run_settings(model, method, tolerance, n_threads)
    settings = replace(settings, noise=as_noise(model, seed, noise, grid, members.n_members, inputs=inputs))
    run = Ensemble(model, members, save, grid, settings)
    _check_names(run)
    reduced = {}
    for position, scenario in enumerate(run.scenarios):
        found = _Reduction(run, scenario, levels, counted(progress, position, len(run.scenarios))).reduce()
        if errors == "raise" and len(found.failed):
            raise run.failure(scenario, found.failed)
        if not found.finished:
            raise SimulationError(
                f"none of the {run.design.n_members} members stays finite; shorten the time step or narrow the prior"
            )
        reduced[scenario] = found
    return _dataset(run, levels, reduced)


def _levels(quantiles: Sequence[float]) -> Floats:
    levels = np.asarray(quantiles, dtype=float)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all() or (np.diff(levels) <= 0).any():
        raise DesignError(f"quantiles are {quantiles!r}; they must rise and lie strictly between 0 and 1")
    return levels


def _check_names(run: Ensemble) -> None:
    made = {QUANTILE, FINISHED_COUNT, *(name + _MEAN for name in run.saves)}
    for name in run.saves:
        if name in made:
            raise DesignError(
                f"a variable of model {run.model.name!r} is called {name!r}, as a part of every summary is; rename it, "
                "or name other variables in save="
            )


@dataclass(frozen=True)
class _Reduced:
    """One scenario: quantiles (n_levels, n_columns) and means (n_columns,), over so many members; who failed."""

    quantiles: Floats
    means: Floats
    finished: int
    failed: Members


@dataclass(frozen=True)
class _Targets:
    """Quantiles to find: number of the level, column, and two bounds that may enclose it; all (n_targets,)."""

    level: Counts
    column: Counts
    low: Floats
    high: Floats

    def only(self, chosen: Counts) -> _Targets:
        """Some of the targets, with bounds that enclose everything."""
        everything = np.full(len(chosen), np.inf)
        return _Targets(self.level[chosen], self.column[chosen], -everything, everything)


@dataclass(frozen=True)
class _Part:
    """What some members add: how many finished and who failed, sums, and for each target the counts of values below
    the lower bound, up to it and up to the upper one, and the values between both."""

    finished: int
    failed: Members
    sums: Floats
    counts: Counts
    between: list[Floats]


class _Reduction:
    """One scenario of an ensemble, reduced."""

    def __init__(self, run: Ensemble, scenario: str, levels: Floats, progress: Progress | None) -> None:
        self.run, self.scenario, self.levels, self.progress = run, scenario, levels, progress
        self.n_members, self.n_columns = run.design.n_members, len(run.row) * len(run.grid.save_steps())
        per_member = 8 * self.n_columns
        self.chunk = int(np.clip(_CHUNK_BYTES // per_member, *_CHUNK))
        wanted = min(int(np.clip(self.n_members // 16, *_SAMPLE)), max(_SAMPLE_BYTES // per_member, _SAMPLE[0]))
        self.n_sample = min(wanted, self.n_members)
        kept = np.minimum(2 * _MARGIN * np.sqrt(levels * (1 - levels) / self.n_sample), 1.0).sum()
        if (size := per_member * self.n_members * kept) > _MAX_BYTES:
            raise DesignError(
                f"{len(levels)} quantiles of {len(run.row)} variables x {len(run.grid.save_steps())} times over "
                f"{self.n_members} members would take {size / 1024**3:.1f} GB; name fewer variables in save=, or save "
                "less often"
            )

    def reduce(self) -> _Reduced:
        targets = self._sampled_targets()
        part = self._all_members(targets)
        quantiles = np.full((len(self.levels), self.n_columns), np.nan)
        missed = self._find(targets, part, quantiles) if part.finished else np.empty(0, dtype=np.int64)
        if len(missed):
            wider = targets.only(missed)
            self._find(wider, self._all_members(wider), quantiles)
        return _Reduced(quantiles, part.sums / max(part.finished, 1), part.finished, part.failed)

    def _sampled_targets(self) -> _Targets:
        """Bounds that enclose every quantile, unless the sample is off by `_MARGIN` standard deviations."""
        edges = np.linspace(0, self.n_members, self.n_sample + 1).astype(np.int64)
        members = edges[:-1] + (np.random.default_rng(0).random(self.n_sample) * np.diff(edges)).astype(np.int64)
        sample = np.concatenate([values for values, _ in self._each(members, self._values)], axis=1)
        sample.sort(axis=1)
        n = sample.shape[1]
        low, high = (np.full((len(self.levels), self.n_columns), bound) for bound in (-np.inf, np.inf))
        for row, level in enumerate(self.levels):
            margin = _MARGIN * math.sqrt(n * level * (1 - level)) + 1
            lower, upper = math.floor(n * level - margin), math.ceil(n * level + margin)
            if lower >= 0:
                low[row] = sample[:, lower]
            if upper < n:
                high[row] = sample[:, upper]
        level, column = np.indices(low.shape)
        return _Targets(level.ravel(), column.ravel(), low.ravel(), high.ravel())

    def _all_members(self, targets: _Targets) -> _Part:
        parts = []
        for part in self._each(np.arange(self.n_members), lambda members: self._part(members, targets)):
            parts.append(part)
            if self.progress is not None:
                self.progress(min(len(parts) * self.chunk, self.n_members), self.n_members)
        return _Part(
            finished=sum(part.finished for part in parts),
            failed=np.concatenate([part.failed for part in parts]),
            sums=np.sum([part.sums for part in parts], axis=0),
            counts=np.sum([part.counts for part in parts], axis=0),
            between=[np.concatenate(chunks) for chunks in zip(*(part.between for part in parts), strict=True)],
        )

    def _each(self, members: Members, task: Callable[[Members], _T]) -> Iterator[_T]:
        """Results of a task for each chunk of members, in order."""
        chunks = [members[first:first + self.chunk] for first in range(0, len(members), self.chunk)]
        with ThreadPoolExecutor(self.run.settings.n_threads) as pool:
            yield from pool.map(task, chunks)

    def _values(self, members: Members) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Saved values (n_columns, n_finished) of the members that stay finite, and which do."""
        values, healthy = self.run.values(self.scenario, members)
        values = values.reshape(self.n_columns, len(members))
        return values if healthy.all() else np.ascontiguousarray(values[:, healthy]), healthy

    def _part(self, members: Members, targets: _Targets) -> _Part:
        values, healthy = self._values(members)
        counts = np.empty((len(targets.level), 3), dtype=np.int64)
        between = []
        for count, column, low, high in zip(counts, targets.column, targets.low, targets.high, strict=True):
            row = values[column]
            above = row > low
            count[:] = np.count_nonzero(row < low), len(row) - np.count_nonzero(above), np.count_nonzero(row <= high)
            between.append(row[above & (row < high)])
        return _Part(values.shape[1], members[~healthy], values.sum(axis=1), counts, between)

    def _find(self, targets: _Targets, part: _Part, quantiles: Floats) -> Counts:
        """Enter the quantiles; returns which targets lie outside their bounds."""
        n = part.finished
        places = np.clip(n * self.levels + 0.5 - 1, 0, n - 1)  # Hazen's, among the order statistics from 0
        missed = []
        for target, (level, column) in enumerate(zip(targets.level, targets.column, strict=True)):
            rank = int(places[level])
            bounds = float(targets.low[target]), float(targets.high[target])
            low, high = (
                _order_statistic(wanted, bounds, part.counts[target], part.between[target])
                for wanted in (rank, min(rank + 1, n - 1))
            )
            if low is None or high is None:
                missed.append(target)
            else:
                quantiles[level, column] = _between(low, high, places[level] - rank)
        return np.array(missed, dtype=np.int64)


def _order_statistic(rank: int, bounds: tuple[float, float], counts: Counts, between: Floats) -> float | None:
    """The value of a rank, from 0; None outside the bounds. Reorders `between`."""
    below_low, upto_low, upto_high = counts
    if not below_low <= rank < upto_high:
        return None
    if rank < upto_low:
        return bounds[0]
    position = rank - int(upto_low)
    if position >= len(between):
        return bounds[1]
    between.partition(position)
    return float(between[position])


def _between(low: float, high: float, weight: float) -> float:
    """A point on the way from one number to the other, rounded as `numpy.quantile` does it."""
    step = high - low
    return high - step * (1 - weight) if weight >= 0.5 else low + step * weight


def _dataset(run: Ensemble, levels: Floats, reduced: Mapping[str, _Reduced]) -> xr.Dataset:
    times = run.grid.save_times()
    dims = (SCENARIO, QUANTILE, TIME) if run.design.scenarios else (QUANTILE, TIME)

    def rows(values: Floats) -> Floats:
        return values.T.reshape(len(run.row), len(times), -1)

    quantiles, own = run.labelled([rows(one.quantiles) for one in reduced.values()], dims)
    means, _ = run.labelled([rows(one.means) for one in reduced.values()], dims)
    data: dict[str, object] = {}
    for name, variable in quantiles.items():
        mean_dims, values, attributes = means[name]
        data[name] = variable
        data[name + _MEAN] = xr.Variable(mean_dims, values, attributes).isel({QUANTILE: 0})
    finished = run.joined([np.array(one.finished) for one in reduced.values()])
    data[FINISHED_COUNT] = (dims[:-2], finished, {"long_name": FINISHED_TEXT, "units": "1"})
    coords: dict[str, object] = {**own, QUANTILE: levels, TIME: time_coordinate(run.model, times)}
    if run.design.scenarios:
        coords[SCENARIO] = list(reduced)
    origin = provenance(run.model, run.program, run.grid, run.design, run.settings)
    return xr.Dataset(data, coords=coords, attrs={**origin, "n_members": run.design.n_members})
