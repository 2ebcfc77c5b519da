"""What a caller says about random numbers, checked: a seed, and series that take the place of random variables."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from villageflow.ensemble.schema import MEMBER, TIME
from villageflow.errors import DesignError, did_you_mean
from villageflow.ir.model import CONTROL_IDS, Model
from villageflow.names import variable_id
from villageflow.program.noise import Noise
from villageflow.timegrid import TimeGrid

Floats: TypeAlias = npt.NDArray[np.float64]
NoiseLike: TypeAlias = Mapping[str, "Floats | Sequence[float] | pd.Series | pd.DataFrame | xr.DataArray"]

_SEEDS = 2**63


def as_noise(
    model: Model, seed: int, given: NoiseLike | None, grid: TimeGrid, n_members: int, *, inputs: NoiseLike | None = None
) -> Noise:
    """Convert a seed and supplied series into `Noise` that fits the model, the time grid and the members.

    Parameters
    ----------
    model : Model
        Whose random variables may be supplied.
    seed : int
        From 0 to 2**63 - 1.
    given : mapping or None
        Series by variable, in any spelling. An array has one value for each step, the first and the last included,
        after a row for each member if members differ. A Series or DataFrame is indexed by time, with a column for
        each member; a DataArray has the dimension ``time`` and may have ``member``. Values that carry times are held
        until the next one.
    grid : TimeGrid
        Of the run.
    n_members : int
        Of the design.
    inputs : mapping or None
        Series by auxiliary, in the same forms, that take the place of its equation.

    Raises
    ------
    DesignError
        A seed or a name that does not fit; a series that is too short, too long, unordered or not finite.
    """
    series: dict[str, Floats] = {}
    for word, supplied, check in (("noise", given, _check_variable), ("inputs", inputs, _check_input)):
        for written, values in (supplied or {}).items():
            name = variable_id(written)
            if name in series:
                raise DesignError(f"{word} gives {name!r} twice, or in two spellings; keep one")
            check(model, name)
            series[name] = np.ascontiguousarray(_steps(f"{word} for {name!r}", values, grid, n_members).T)
    return Noise(_seed(seed), given=series)


def noise_digest(noise: Noise) -> str:
    """SHA-256 of the supplied series."""
    h = hashlib.sha256()
    for name, values in sorted(noise.given.items()):
        h.update(repr((name, values.shape)).encode())
        h.update(values.tobytes())
    return h.hexdigest()


def _seed(seed: int) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if isinstance(seed, (bool, np.bool_)) or not 0 <= number < _SEEDS:
        raise DesignError(f"seed is {seed!r}; it must be a whole number from 0 to 2**63 - 1")
    return number


def _check_variable(model: Model, name: str) -> None:
    drawing = [other for other in model.random_variables() if other in model.auxiliaries]
    if name in drawing:
        return
    if name in model.random_variables():
        raise DesignError(
            f"noise gives {name!r}, a stock of model {model.name!r}; give its random call a variable of its own and "
            "supply that"
        )
    if name in model.variables:
        known = f"supply {', '.join(map(repr, drawing[:8]))}" if drawing else "no variable of it does"
        raise DesignError(f"noise gives {name!r}, whose equation in model {model.name!r} draws no number; {known}")
    raise DesignError(f"noise gives {name!r}, which model {model.name!r} does not have. {did_you_mean(name, drawing)}")


def _check_input(model: Model, name: str) -> None:
    if name in model.auxiliaries and name not in CONTROL_IDS:
        return
    if name in model.constants:
        raise DesignError(f"inputs gives {name!r}, a constant of model {model.name!r}; set it in the design")
    if name in model.variables:
        kind = "part of the time grid" if name in CONTROL_IDS else "no auxiliary"
        raise DesignError(f"inputs gives {name!r}, {kind} of model {model.name!r}; only auxiliaries can be supplied")
    raise DesignError(f"inputs gives {name!r}, which model {model.name!r} does not have. "
                      f"{did_you_mean(name, model.auxiliaries)}")


def _steps(said: str, values: object, grid: TimeGrid, n_members: int) -> Floats:
    """A series as (1 or n_members, n_steps + 1)."""
    times: npt.NDArray[np.generic] | None = None
    if isinstance(values, xr.DataArray):
        if TIME not in values.dims or set(values.dims) - {TIME, MEMBER}:
            raise DesignError(f"{said} has the dimensions {values.dims}; it has time, and may have member")
        times, values = values[TIME].to_numpy(), values.transpose(..., TIME).to_numpy()
    elif isinstance(values, (pd.Series, pd.DataFrame)):
        times, values = values.index.to_numpy(), values.to_numpy().T
    try:
        found: Floats = np.asarray(values, dtype=float)
        at = None if times is None else np.asarray(times, dtype=float)
    except (TypeError, ValueError):
        raise DesignError(f"{said} holds what is not a number; give one number for each step") from None
    n_steps, rows = grid.n_steps + 1, np.atleast_2d(found)
    if at is not None and at.shape == rows.shape[-1:]:
        rows = rows[:, _held(said, at, grid)]
    if rows.ndim != 2 or rows.shape not in ((1, n_steps), (n_members, n_steps)):
        raise DesignError(
            f"{said} has the shape {found.shape}; the run has {n_steps} steps, the first and the last "
            f"included, and {n_members} members: give ({n_steps},), ({n_members}, {n_steps}) or a series with times"
        )
    if not np.isfinite(rows).all():
        row, step = np.argwhere(~np.isfinite(rows))[0]
        raise DesignError(f"{said} is {rows[row, step]} at step {step}; it must be finite throughout")
    return rows


def _held(said: str, times: Floats, grid: TimeGrid) -> npt.NDArray[np.int64]:
    """For each step the last time that is not after it, with half a step of tolerance."""
    if not (np.diff(times) > 0).all():
        raise DesignError(f"{said} has times that do not increase; order them and keep each once")
    first, last = grid.time_at(0), grid.time_at(grid.n_steps)
    now = grid.start + (np.arange(grid.n_steps + 1) + 0.5) * grid.step
    if not len(times) or not (times[0] < now[0] and times[-1] > last - 0.5 * grid.step):
        covered = f"runs from {times[0]:g} to {times[-1]:g}" if len(times) else "has no time"
        raise DesignError(f"{said} {covered}; the run needs it from {first:g} to {last:g}")
    return np.searchsorted(times, now, side="left").astype(np.int64) - 1
