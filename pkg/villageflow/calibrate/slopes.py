"""Derivatives of the log likelihood: exact along trajectories, by the rules of the engine.

The chain has three links. The engine gives how a location moves with each parameter; a centred observable takes the
mean movement of its entity out; the density of a row depends on its own location and noise parameter only, so that its
derivatives are elementwise differences of fourth order, without a run of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from villageflow.calibrate.likelihood import (
    NOISE,
    Target,
    centred,
    centred_groups,
    log_densities,
    noise_of_rows,
)
from villageflow.calibrate.quadrature import derivatives, offsets
from villageflow.calibrate.scales import Floats

_STEP: Final = 1e-3


@runtime_checkable
class Differentiable(Target, Protocol):
    """A target that also gives the derivatives of its locations.

    Attributes
    ----------
    fixed_steps : bool
        Whether it can: the engine differentiates methods with fixed steps.
    smooth : bool
        Whether they are all of it: no parameter also moves an event or a condition, whose effect they leave out.
    """

    @property
    def fixed_steps(self) -> bool: ...

    @property
    def smooth(self) -> bool: ...

    def location_slopes(self, values: Floats, rows: pd.DataFrame) -> tuple[Floats, Floats]:
        """Locations and their derivatives by the natural parameters, (n, p) or (n, E, p) to (n, rows), (n, rows, p)."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """First derivatives of each row's log density, and what they say of the second.

    Attributes
    ----------
    terms : (n, rows) array
        Log densities.
    scores : (n, rows, p) array
        By the natural parameters; NaN where the run failed.
    directions : (2, n, rows, p) array
        Derivatives of each row's location and noise parameter.
    bending : (2, 2, n, rows) array
        Second derivatives of the density by them.
    """

    terms: Floats
    scores: Floats
    directions: Floats
    bending: Floats

    def curvature(self, total: Callable[[Floats], Floats]) -> Floats:
        """Second derivatives of the log likelihood but for the bending of the trajectories (generalised Gauss-Newton).

        Parameters
        ----------
        total : callable
            Sums an (n, rows) array over rows: to (n,), or to (n, groups).

        Returns
        -------
        (n, p, p) or (n, groups, p, p) array
        """
        size = self.scores.shape[-1]
        bent = np.einsum("abnr,bnrq->anrq", self.bending, self.directions)
        each = {
            (i, j): total((self.directions[..., i] * bent[..., j]).sum(axis=0))
            for i in range(size) for j in range(i, size)
        }
        rows = [np.stack([each[min(i, j), max(i, j)] for j in range(size)], axis=-1) for i in range(size)]
        return np.stack(rows, axis=-2)


def slopes_of(target: Differentiable, values: Floats, rows: pd.DataFrame) -> Slopes:
    """Derivatives of the log likelihood of the rows.

    Parameters
    ----------
    target : Differentiable
        Such as a `Problem` that runs with fixed steps.
    values : (n, p) or (n, E, p) array
        Natural values of the free parameters, shared by all entities or each its own.
    rows : DataFrame
        Measurements, checked by `Problem`.

    Returns
    -------
    Slopes
    """
    locations, moves = target.location_slopes(values, rows)
    locations, moves = _centred(target, rows, locations, moves)
    spread = noise_of_rows(target, values, rows)
    steps = np.stack([_step(target, rows, locations, spread), _STEP * np.abs(spread)])
    stencil = offsets(2)[:, :, None, None]
    known = ~np.isnan(spread)
    moved = stencil * np.where(np.isnan(steps), 0.0, steps)
    terms = np.stack([
        log_densities(target, rows, locations + at, np.where(known, spread + along, spread)) for at, along in moved
    ])
    shape = locations.shape
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = derivatives(terms.reshape(len(stencil), -1), steps.reshape(2, -1))
    first, second = first.reshape(2, *shape), second.reshape(2, 2, *shape)
    first[1], second[1], second[:, 1] = (np.where(known, part, 0.0) for part in (first[1], second[1], second[:, 1]))
    directions = np.stack([moves, _noise_directions(target, rows, moves.shape)])
    return Slopes(terms[0], (first[..., None] * directions).sum(axis=0), directions, second)


def _centred(target: Target, rows: pd.DataFrame, locations: Floats, moves: Floats) -> tuple[Floats, Floats]:
    """Locations at the level of the measurements, and how they move then."""
    moved, found = centred(target, rows, locations), moves
    for item, at in centred_groups(target, rows):
        found = found.copy() if found is moves else found
        with np.errstate(invalid="ignore", divide="ignore"):
            before, after = (
                path[:, at, None] if item.noise == "lognormal" else 1.0 for path in (locations, moved)
            )
            relative = moves[:, at] / before
            found[:, at] = after * (relative - relative.mean(axis=1, keepdims=True))
    return moved, found


def _step(target: Target, rows: pd.DataFrame, locations: Floats, spread: Floats) -> Floats:
    """Difference steps in the location that stay within its support."""
    steps, names = np.empty(locations.shape), rows["observable"].to_numpy()
    for item in target.observables:
        at, support = np.flatnonzero(names == item.name), NOISE[item.noise].support
        room = np.abs(spread[:, at]) if support == "real" else np.abs(locations[:, at])
        steps[:, at] = _STEP * (room * np.abs(1 - locations[:, at]) if support == "unit" else room)
    return steps


def _noise_directions(target: Target, rows: pd.DataFrame, shape: tuple[int, ...]) -> Floats:
    """Derivative of each row's noise parameter by the parameters: 1 for its own, else 0."""
    result, names = np.zeros(shape), rows["observable"].to_numpy()
    for item in target.observables:
        if isinstance(item.noise_parameter, str):
            result[:, np.flatnonzero(names == item.name), target.box.names.index(item.noise_parameter)] = 1.0
    return result
