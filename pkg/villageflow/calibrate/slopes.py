"""Derivatives of the log likelihood: exact along trajectories, by the rules of the engine.

The chain has three links. The engine gives how a location moves with each parameter; a centred observable takes the
mean movement of its entity out; the density of a row depends on its own location and noise parameter only, so that its
derivatives are elementwise differences of fourth order, without a run of the model.
"""

from __future__ import annotations

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
        """Locations and their derivatives by the natural parameters, (n, p) to (n, rows) and (n, rows, p)."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """First derivatives of each row's log density, and the curvature that follows from first derivatives alone.

    Attributes
    ----------
    terms : (n, rows) array
        Log densities.
    scores : (n, rows, p) array
        By the natural parameters; NaN where the run failed.
    curvature : (n, p, p) array
        Sum over rows of the second derivatives of the density along the first derivatives of location and noise
        parameter (generalised Gauss-Newton): the Hessian but for the bending of the trajectories.
    """

    terms: Floats
    scores: Floats
    curvature: Floats


def slopes_of(target: Differentiable, values: Floats, rows: pd.DataFrame) -> Slopes:
    """Derivatives of the log likelihood of the rows.

    Parameters
    ----------
    target : Differentiable
        Such as a `Problem` that runs with fixed steps.
    values : (n, p) array
        Natural values of the free parameters, shared by all entities.
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
    scores = (first[..., None] * directions).sum(axis=0)
    bent = np.einsum("abnr,bnrq->anrq", second, directions)
    return Slopes(terms[0], scores, np.einsum("anrp,anrq->npq", directions, bent))


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
