"""The likelihood of a model whose stocks are moved by noise of their own: an extended Kalman filter and its smoother.

Between measurements the engine moves the state and gives the transition matrix; process noise enters with the weights
of Simpson's rule at intermediate steps. A measurement moves the state along the derivatives of what is observed.

References
----------
.. [Jazwinski1970] A. H. Jazwinski, "Stochastic Processes and Filtering Theory", Academic Press (1970), chapter 8.
.. [DurbinKoopman2012] J. Durbin and S. J. Koopman, "Time Series Analysis by State Space Methods", Oxford University
   Press (2012), sections 4.4, 6.4 and 10.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from villageflow.calibrate.scales import Floats
from villageflow.calibrate.statespace import StateSpace

Mask: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Link:
    """The scale on which the noise of an observation is normal.

    Attributes
    ----------
    into, back : callable
        To that scale and from it.
    slope : callable
        Derivative of `into`.
    """

    into: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


LINKS: Final[Mapping[str, Link]] = {
    "normal": Link(np.asarray, np.asarray, np.ones_like),
    "lognormal": Link(np.log, np.exp, np.reciprocal),
    "logitnormal": Link(logit, expit, lambda x: np.asarray(1 / (x * (1 - x)))),
}
"""Noise of observables that a Kalman filter can take."""


@dataclass(frozen=True, eq=False)
class Visit:
    """A step at which something is measured, or from which a net flow is.

    Attributes
    ----------
    step : int
        Of the grid.
    measured : tuple of (int, array, array)
        Position of an observable; its (E,) values, NaN where an entity has none; and the (E,) places of the copies
        that net flows start from, -1 where the observable is none.
    copies : tuple of (int, str, array)
        Place of a copy, the stock to copy after the measurements, and for which entities, (E,) bool.
    """

    step: int
    measured: tuple[tuple[int, Floats, Places], ...]
    copies: tuple[tuple[int, str, Mask], ...]


@dataclass(frozen=True, eq=False)
class Filter:
    """An extended Kalman filter for the lanes of a `StateSpace`.

    The coordinates of the state are the uncertain stocks, some as logarithms, and after them copies of stocks at the
    starts of the net flows that are under way.

    Attributes
    ----------
    space : StateSpace
    logs : (coordinates,) bool array
        Coordinates that are logarithms.
    visits : tuple of Visit
        By step.
    links : tuple of Link
        Of the observables.
    substeps : int
        Pieces of each interval between visits, even; fewer where the interval has fewer steps.
    """

    space: StateSpace
    logs: Mask
    visits: tuple[Visit, ...]
    links: tuple[Link, ...]
    substeps: int

    def run(
        self, constants: Floats, noise: Floats, initial: Floats, spreads: Floats, *, record: list[Event] | None = None
    ) -> Floats:
        """Log likelihood of each lane.

        Parameters
        ----------
        constants : (v, lanes) array
            As `StateSpace.constants` gives them.
        noise : (uncertain, lanes) array
            Variance of the process noise per unit of time, on the coordinates.
        initial : (uncertain, lanes) array
            Variance of the state at the start.
        spreads : (observables, lanes) array
            Standard deviations of the observation noise on the links' scale.
        record : list, optional
            Takes what `smoothed` needs.

        Returns
        -------
        (lanes,) array
            Minus infinity where a run failed, or what is observed left its support.
        """
        n_lanes = initial.shape[1]
        belief = _Belief(
            self.space.start(constants), np.zeros((len(self.logs) - len(noise), n_lanes)),
            np.zeros((len(self.logs), len(self.logs), n_lanes)), np.zeros(n_lanes),
        )
        diagonal = np.arange(len(noise))
        belief.cov[diagonal, diagonal] = initial
        at = 0
        with np.errstate(all="ignore"):
            for visit in self.visits:
                parts = _parts(at, visit.step, self.substeps)
                for start, stop, before, after in parts:
                    belief.cov[diagonal, diagonal] += before * self.space.grid.step * noise
                    self._move(belief, constants, start, stop, record)
                    belief.cov[diagonal, diagonal] += after * self.space.grid.step * noise
                at = visit.step
                if visit.measured:
                    self._update(belief, visit, constants, spreads, record)
                for copy in visit.copies:
                    self._copy(belief, *copy, record)
                if record is not None:
                    record.append(Seen(at, belief.stocks.copy(), belief.cov.copy()))
        return np.where(np.isfinite(belief.loglik), belief.loglik, -np.inf)

    def _move(
        self, belief: _Belief, constants: Floats, first: int, last: int, record: list[Event] | None
    ) -> None:
        before, at = belief.stocks, self._at
        belief.stocks, moved = self.space.move(constants, before, first, last)
        size, transition = len(moved), np.zeros(belief.cov.shape)
        transition[:size, :size] = moved * self._slope(before[at])[None, :] / self._slope(belief.stocks[at])[:, None]
        for place in range(size, len(self.logs)):
            transition[place, place] = 1.0
        belief.cov = times(times(transition, belief.cov), transition.swapaxes(0, 1))
        if record is not None:
            record.append(Moved(transition))

    @cached_property
    def _at(self) -> Places:
        """Positions of the uncertain stocks among all."""
        return np.array([self.space.stocks.index(name) for name in self.space.uncertain], dtype=np.intp)

    def _slope(self, stocks: Floats) -> Floats:
        """Derivative of the uncertain stocks by their coordinates; no logarithm of what is not above 0."""
        return np.where(self.logs[:len(stocks), None], np.where(stocks > 0, stocks, np.nan), 1.0)

    def _update(
        self, belief: _Belief, visit: Visit, constants: Floats, spreads: Floats, record: list[Event] | None
    ) -> None:
        """One observable after the other; all are linear in the state about the prediction."""
        located, slopes = self.space.observe(constants, belief.stocks, visit.step)
        slopes = slopes * self._slope(belief.stocks[self._at])[None]
        n_lanes = belief.stocks.shape[1]
        shift = np.zeros((len(self.logs), n_lanes))
        for position, own, places in visit.measured:
            link, tiled = self.links[position], np.tile(own, n_lanes // len(own))
            measured = np.isfinite(tiled)
            location, slope = located[position], np.zeros_like(shift)
            slope[:slopes.shape[1]] = slopes[position]
            for place in np.unique(places[places >= 0]):
                started = np.tile(places == place, n_lanes // len(own))
                row, copy = slopes.shape[1] + place, belief.copies[place]
                location = np.where(started, location - copy, location)
                slope[row] = np.where(started, -copy if self.logs[row] else -1.0, 0.0)
            gradient = np.where(measured, slope * link.slope(location), 0.0)
            innovation = link.into(tiled) - link.into(location) - total(gradient * shift)
            along = total(belief.cov * gradient[None], axis=1)
            variance = total(gradient * along) + spreads[position] ** 2
            gain = np.where(measured, along / variance, 0.0)
            innovation = np.where(measured, innovation, 0.0)
            shift += gain * innovation
            belief.cov -= gain[:, None] * along[None, :]
            density = -0.5 * (np.log(2 * np.pi * variance) + innovation**2 / variance) + np.log(link.slope(tiled))
            belief.loglik += np.where(measured, density, 0.0)
            if record is not None:
                record.append(Updated(visit.step, position, measured, gradient, gain, innovation, variance))
        belief.shift(shift, self.logs, self._at)

    def _copy(
        self, belief: _Belief, place: int, stock: str, entities: Mask, record: list[Event] | None
    ) -> None:
        """A coordinate becomes the copy of a stock."""
        chosen = np.tile(entities, belief.stocks.shape[1] // len(entities))
        belief.copies[place] = np.where(chosen, belief.stocks[self.space.stocks.index(stock)], belief.copies[place])
        row = len(self.space.uncertain) + place
        source = self.space.uncertain.index(stock) if stock in self.space.uncertain else None
        cov = belief.cov
        for axes in (cov, cov.swapaxes(0, 1)):
            axes[row] = np.where(chosen, 0.0 if source is None else axes[source], axes[row])
        if record is not None:
            record.append(Copied(row, source, chosen))

    def smoothed(self, record: list[Event]) -> Iterator[tuple[Seen, Floats, Floats]]:
        """Each visit of a recorded run, the last first, with what later measurements say of it.

        Yields
        ------
        seen : Seen
        shift : (uncertain, lanes) array
            From filtered to smoothed coordinates.
        variance : (uncertain, lanes) array
            Of the smoothed coordinates.
        """
        shape = next(item.cov.shape for item in record if isinstance(item, Seen))
        size, score, information = len(self.space.uncertain), np.zeros(shape[1:]), np.zeros(shape)
        for item in reversed(record):
            match item:
                case Seen(cov=cov):
                    less = times(times(cov, information), cov)
                    diagonal = np.arange(size)
                    yield item, total(cov * score[None], axis=1)[:size], (cov - less)[diagonal, diagonal]
                case Moved(transition):
                    back = transition.swapaxes(0, 1)
                    score = total(back * score[None], axis=1)
                    information = times(times(back, information), transition)
                case Updated(gradient=gradient, gain=gain, innovation=innovation, variance=variance):
                    through = total(information * gain[None], axis=1)
                    score = score + gradient * (innovation / variance - total(gain * score))
                    cross = gradient[:, None] * through[None, :]
                    within = (1 / variance + total(gain * through)) * gradient[:, None] * gradient[None, :]
                    information = information - cross - cross.swapaxes(0, 1) + within
                case Copied(row, source, chosen):
                    for axes in (score, information, information.swapaxes(0, 1)):
                        if source is not None:
                            axes[source] += np.where(chosen, axes[row], 0.0)
                        axes[row] = np.where(chosen, 0.0, axes[row])


@dataclass
class _Belief:
    """What is known at a step: stocks, copies of stocks, covariance of the coordinates, log likelihood so far."""

    stocks: Floats
    copies: Floats
    cov: Floats
    loglik: Floats

    def shift(self, by: Floats, logs: Mask, at: Places) -> None:
        """Move the mean along the coordinates."""
        whole = np.vstack([self.stocks[at], self.copies])
        whole = np.where(logs[:, None], whole * np.exp(by), whole + by)
        self.stocks[at], self.copies = whole[:len(at)], whole[len(at):]


@dataclass(frozen=True, eq=False)
class Moved:
    """A run of the engine: its transition matrix on the coordinates."""

    transition: Floats


@dataclass(frozen=True, eq=False)
class Updated:
    """A measurement: where, and what it did in each lane; `measured` says in which it was one."""

    step: int
    observable: int
    measured: Mask
    gradient: Floats
    gain: Floats
    innovation: Floats
    variance: Floats


@dataclass(frozen=True, eq=False)
class Copied:
    """A coordinate that became the copy of another, or of a stock that is known exactly (None)."""

    row: int
    source: int | None
    chosen: Mask


@dataclass(frozen=True, eq=False)
class Seen:
    """The state after all measurements of a visit."""

    step: int
    stocks: Floats
    cov: Floats


Event: TypeAlias = Moved | Updated | Copied | Seen


def times(left: Floats, right: Floats) -> Floats:
    """Product of the matrices of each lane, by elementwise operations alone: a lane's bits do not depend on others."""
    result = left[:, 0, None] * right[None, 0]
    for k in range(1, left.shape[1]):
        result += left[:, k, None] * right[None, k]
    return np.asarray(result)


def total(values: Floats, axis: int = 0) -> Floats:
    """Sum along an axis, one term after the other in each lane."""
    terms = np.moveaxis(values, axis, 0)
    result: Floats = terms[0].copy()
    for term in terms[1:]:
        result += term
    return result


def _parts(first: int, last: int, substeps: int) -> Iterator[tuple[int, int, float, float]]:
    """Pieces of an interval with the weights of Simpson's rule, in steps, before and after each piece.

    One step has the weights of the trapezoidal rule. Pieces differ by one step at most, so that no weight is negative.
    """
    n = last - first
    if n == 1:
        yield first, last, 0.5, 0.5
    if n < 2:
        return
    pieces = min(substeps, n - n % 2)
    marks = [first + (n * k + pieces // 2) // pieces for k in range(pieces + 1)]
    for a, b, c in zip(marks[:-2:2], marks[1:-1:2], marks[2::2], strict=True):
        left, right, both = b - a, c - b, c - a
        middle = both**3 / (6 * left * right)
        yield a, b, both / 6 * (2 - right / left), middle
        yield b, c, 0.0, both / 6 * (2 - left / right)
