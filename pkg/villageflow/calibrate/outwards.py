"""Profiles from the estimate outwards: all sides of all parameters in lockstep, the others optimised at each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BarycentricInterpolator
from scipy.stats import qmc

from villageflow.calibrate.climb import (
    Objective,
    newton_round,  # its lanes here hold a parameter each
)
from villageflow.calibrate.scales import Floats

TOLERANCE: Final = 1e-6
"""Of an end: fall of the log likelihood relative to the threshold, or distance relative to that from the estimate."""
BETTER: Final = 1e-3
"""Log likelihood above that of the fit from which another optimum counts as better."""

_GAIN: Final = 1e-7
EDGE: Final = 1e-7
STEP: Final = 1e-3
_MAX_ROUNDS: Final = 100
_PASSES: Final = 4


def on_lanes(objective: Objective, lanes: Floats, free: npt.NDArray[np.intp]) -> Objective:
    """The objective over the free coordinates of each lane; batches hold equally many points for each, in order."""

    def part(batch: Floats) -> Floats:
        each = len(batch) // len(lanes)
        whole = np.repeat(lanes, each, axis=0)
        np.put_along_axis(whole, np.repeat(free, each, axis=0), batch, axis=1)
        return objective(whole)

    return part


@dataclass(frozen=True, eq=False)
class Side:
    """Profile of parameter j from the estimate outwards, in the unit box, ordered by distance."""

    j: int
    sign: int
    threshold: float
    stride: float
    units: Floats
    values: Floats

    @property
    def along(self) -> Floats:
        return np.asarray(np.abs(self.units[:, self.j] - self.units[0, self.j]))

    @property
    def room(self) -> float:
        start = float(self.units[0, self.j])
        return 1.0 - start if self.sign > 0 else start

    @property
    def fall(self) -> Floats:
        return np.asarray(self.values[0] - self.values)

    @property
    def crossing(self) -> int | None:
        """First point at which the fall reaches the threshold."""
        beyond = np.flatnonzero(self.fall >= self.threshold * (1 - TOLERANCE))
        return int(beyond[0]) if len(beyond) else None

    def at(self, distance: float) -> float:
        if distance >= self.room:
            return 1.0 if self.sign > 0 else 0.0
        return float(self.units[0, self.j] + self.sign * distance)

    def depth(self) -> Floats:
        """Signed root of twice the fall: a straight line where the profile is a parabola."""
        return np.asarray(np.sign(self.fall) * np.sqrt(2 * np.abs(self.fall)))

    def lanes(self, distance: float, drawn: Floats) -> Floats:
        """Starts at a distance: the nearest point, the line through the two nearest, and the drawn ones."""
        near = np.argsort(np.abs(self.along - distance), kind="stable")[:2]
        rows = [self.units[near[0]]]
        if len(near) == 2:
            a, b = near
            share = (distance - self.along[a]) / (self.along[b] - self.along[a])
            rows.append(np.clip(self.units[a] + share * (self.units[b] - self.units[a]), 0.0, 1.0))
        lanes = np.vstack([*rows, drawn])
        lanes[:, self.j] = self.at(distance)
        return lanes

    def merged(self, units: Floats, values: Floats) -> Side:
        units, values = np.vstack([self.units, units]), np.append(self.values, values)
        order = np.argsort(np.abs(units[:, self.j] - units[0, self.j]), kind="stable")
        return replace(self, units=units[order], values=values[order])


@dataclass(frozen=True, eq=False)
class Search:
    """Objective on the unit box, with the random starts of every point."""

    objective: Objective
    seed: int
    starts: int

    def climb(self, lanes: Floats, held: Sequence[int] | None) -> tuple[Floats, Floats]:
        """Newton's method in lockstep over all but the held parameter of each lane."""
        size = lanes.shape[1]
        free = np.array([np.delete(np.arange(size), [] if held is None else held[i]) for i in range(len(lanes))])
        points, values = np.take_along_axis(lanes, free, axis=1), self.objective(lanes)
        active, steps = np.isfinite(values), np.full(points.shape, STEP)
        for _ in range(_MAX_ROUNDS):
            at = np.flatnonzero(active)
            if not len(at) or not points.shape[1]:
                break
            part = on_lanes(self.objective, lanes[at], free[at])
            points[at], better, steps[at] = newton_round(part, points[at], values[at], steps[at])
            active[at] = better > values[at] + _GAIN
            values[at] = np.maximum(better, values[at])
        whole = lanes.copy()
        np.put_along_axis(whole, free, points, axis=1)
        return whole, values

    def add(self, sides: list[Side], wanted: list[list[float]], starts: list[int]) -> list[Side]:
        """Sides with the profile at more distances, the best of all starts at each."""
        lanes, held, owner = [], [], []
        for i, (side, distances) in enumerate(zip(sides, wanted, strict=True)):
            for k, distance in enumerate(distances):
                own = side.lanes(distance, self._drawn(side, len(side.values) + k, starts[i]))
                lanes.append(own)
                held += [side.j] * len(own)
                owner += [(i, k)] * len(own)
        if not lanes:
            return sides
        units, values = self.climb(np.vstack(lanes), held)
        best: dict[tuple[int, int], int] = {}
        for lane, key in enumerate(owner):
            if key not in best or values[lane] > values[best[key]]:
                best[key] = lane
        found = list(sides)
        for (i, _), lane in best.items():
            found[i] = found[i].merged(units[[lane]], values[[lane]])
        return found

    def _drawn(self, side: Side, number: int, starts: int) -> Floats:
        size = side.units.shape[1]
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(side.j, side.sign > 0, number)))
        return np.asarray(qmc.LatinHypercube(d=size, rng=rng).random(starts)) if starts else np.empty((0, size))


def searched(search: Search, sides: list[Side], points: int) -> list[Side]:
    """Outwards to the ends, a grid up to them, and every point again from its neighbours, until no end moves."""
    for _ in range(_PASSES):
        for _ in range(_MAX_ROUNDS):
            ahead = [_next(side) for side in sides]
            if beaten(sides) or all(distance is None for distance in ahead):
                break
            starts = [search.starts if side.crossing is None else 0 for side in sides]
            sides = search.add(sides, [[] if distance is None else [distance] for distance in ahead], starts)
        if beaten(sides):
            return sides
        gaps = [_gaps(side, points) for side in sides]
        sides = _swept(search, search.add(sides, gaps, [search.starts] * len(sides)))
        if beaten(sides) or all(_next(side) is None for side in sides):
            return sides
    return sides


def beaten(sides: list[Side]) -> bool:
    return any(float(side.fall.min()) < -BETTER for side in sides)


def _next(side: Side) -> float | None:
    """Where to look next: outwards until the threshold is crossed or the bound met, then for the crossing itself."""
    along, depth, goal, beyond = side.along, side.depth(), float(np.sqrt(2 * side.threshold)), side.crossing
    if beyond is None:
        last = float(along[-1])
        if last >= side.room:
            return None
        growth = float(np.clip(1.1 * goal / depth[-1], 1.3, 3.0)) if depth[-1] > 0 else 3.0
        reach = growth * last if last > 0 else side.stride
        return side.room if reach > 0.8 * side.room else reach
    a, b = float(along[beyond - 1]), float(along[beyond])
    if side.fall[beyond] <= side.threshold * (1 + TOLERANCE) or b - a <= TOLERANCE * b:
        return None
    near = slice(max(beyond - 2, 0), beyond + 1)
    if len(along) % 4 and np.isfinite(depth[beyond]) and np.diff(depth[near]).min() > 0:
        guess = float(BarycentricInterpolator(depth[near], along[near])(goal))
        if a < guess < b:
            return guess
    return (a + b) / 2


def _gaps(side: Side, points: int) -> list[float]:
    """Even distances up to the end that no point is near."""
    along = side.along
    end = float(along[-1 if side.crossing is None else side.crossing])
    even = end * np.arange(1, points) / points
    return [float(at) for at in even if np.abs(along - at).min() > 0.25 * end / points]


def _swept(search: Search, sides: list[Side]) -> list[Side]:
    """Every point again from where its neighbours ended, until none gains."""
    for _ in range(_PASSES):
        pairs = [
            (i, k, near) for i, side in enumerate(sides) for k in range(1, len(side.values)) for near in (k - 1, k + 1)
            if near < len(side.values)
        ]
        if not pairs:
            return sides
        lanes = np.array([sides[i].units[near] for i, _, near in pairs])
        held = [sides[i].j for i, _, _ in pairs]
        lanes[np.arange(len(pairs)), held] = [sides[i].units[k, sides[i].j] for i, k, _ in pairs]
        units, values = search.climb(lanes, held)
        sides = [replace(side, units=side.units.copy(), values=side.values.copy()) for side in sides]
        moved = False
        for (i, k, _), unit, value in zip(pairs, units, values, strict=True):
            if value > sides[i].values[k] + 10 * _GAIN:
                sides[i].units[k], sides[i].values[k], moved = unit, value, True
        if not moved:
            break
    return sides
