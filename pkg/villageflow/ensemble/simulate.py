"""The verb `simulate`: model and design in, labelled results out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from villageflow.ensemble.design import DesignLike, as_design, check_model
from villageflow.ensemble.failure import adaptive_status, first_bad_steps
from villageflow.ensemble.noise import NoiseLike, as_noise
from villageflow.ensemble.provenance import provenance
from villageflow.ensemble.runs import Ensemble
from villageflow.ensemble.schema import (
    FINISHED,
    MEMBER,
    SCENARIO,
    STATUS,
    STATUS_TEXT,
    TIME,
    axes,
    labelled,
)
from villageflow.errors import DesignError
from villageflow.integrate.adaptive import run_adaptive
from villageflow.integrate.drive import DEFAULT_TOLERANCE, Progress, RunSettings, run_program
from villageflow.integrate.methods import ADAPTIVE, method_named
from villageflow.ir.model import Model
from villageflow.program.graph import control_values
from villageflow.timegrid import TimeGrid

OnError: TypeAlias = Literal["raise", "flag"]
Floats: TypeAlias = npt.NDArray[np.float64]

_MAX_RESULT_BYTES = 16 * 1024**3


def simulate(
    model: Model,
    design: DesignLike = None,
    *,
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
    """Run a model for every member of a design.

    Parameters
    ----------
    model : Model
        As `read_model` gives it.
    design : Design, DataFrame, dict or None
        Members. A dict maps parameters to one value or to one value for each member; None is one run as the model
        file has it.
    save : sequence of str, optional
        Variables to keep, in any spelling: scalars, arrays, or elements such as ``population[young]``; default every
        stock and auxiliary. Only what they depend on is computed.
    time_step, final_time, save_every : float, optional
        In the model's time unit; default as the model file has it.
    method : {"euler", "rk4", "dopri5"}, optional
        Default as the model file has it. "dopri5" is the pair of Dormand and Prince: each member chooses its steps, and
        lands on save points and on the events of functions of time; see docs/engine.md. The names of Vensim
        ("RK4 Auto") and of XMILE ("rk45") are known.
    tolerance : float or (float, float), optional
        For "dopri5": the error that one step may have in each stock, relative to the stock and absolute in its unit;
        one number is both. Default 1e-6.
    seed : int
        Of the model's random functions, which give each member other numbers and every scenario the same. Not the
        seed that drew the design.
    noise : mapping, optional
        Series that take the place of variables whose equations draw, see `ensemble.noise.as_noise`.
    inputs : mapping, optional
        Series that take the place of auxiliaries, in the same forms: exogenous data, for all members or for each its
        own. Held from each time to the next, not interpolated.
    errors : {"raise", "flag"}
        Raise on a member that does not stay finite, or keep it and mark it in ``status``.
    n_threads : int, optional
        Default: the processors this process may use. Does not move a bit of the result.
    progress : callable, optional
        Called with (runs done, runs in all).

    Returns
    -------
    xarray.Dataset
        Dimensions ``member, time``, after ``scenario`` if the design has scenarios, before the dimensions of the model
        where a variable is an array (an element that the model does not define is NaN). Variables carry ``units`` and
        ``long_name``; varied parameters are coordinates; ``status`` is -1 for a finished member, else the first step
        at which it was not finite (with "dopri5": the first step of the time grid that it did not reach); attributes
        say what was run.

    Raises
    ------
    DesignError
        Names, values or settings that do not fit the model.
    UnsupportedError
        With "dopri5": what is defined per time step, such as DELAY FIXED, SAMPLE IF TRUE and TIME STEP in equations.
    SimulationError
        With ``errors="raise"``: names the member, its parameters, the variable and the time.

    Notes
    -----
    Does not interpolate between steps.

    Examples
    --------
    >>> ds = simulate(model, {"imitation": [0.8, 1.2]}, save=["active_stores"])  # doctest: +SKIP
    """
    check_on_error(errors)
    members = as_design(design, model)
    grid = time_grid(model, time_step=time_step, final_time=final_time, save_every=save_every)
    settings = run_settings(model, method, tolerance, n_threads)
    settings = replace(settings, noise=as_noise(model, seed, noise, grid, members.n_members, inputs=inputs))
    run = Ensemble(model, members, save, grid, settings)
    _check_size(run)
    results = {
        name: _scenario(run, name, counted(progress, position, len(run.scenarios)))
        for position, name in enumerate(run.scenarios)
    }
    if errors == "raise":
        for name, result in results.items():
            failed = np.flatnonzero(result.status != FINISHED)
            if len(failed):
                raise run.failure(name, failed)
    return _dataset(run, results)


def check_on_error(errors: str) -> None:
    """Refuse what is not `OnError`."""
    if errors not in ("raise", "flag"):
        raise DesignError(f'errors is {errors!r}; it must be "raise" or "flag"')


def counted(progress: Progress | None, done_before: int, n_scenarios: int) -> Progress | None:
    """Progress over all scenarios, each of which counts its own members."""
    if progress is None:
        return None
    return lambda done, total: progress(done_before * total + done, n_scenarios * total)


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def time_grid(
    model: Model, *, time_step: float | None = None, final_time: float | None = None, save_every: float | None = None
) -> TimeGrid:
    """The time grid of a model file, with what is given replaced."""
    check_model(model)
    overrides = {"time_step": time_step, "final_time": final_time, "saveper": save_every}
    try:
        given = tuple((name, float(value)) for name, value in overrides.items() if value is not None)
    except (TypeError, ValueError):
        written = ", ".join(f"{name} = {value!r}" for name, value in overrides.items() if value is not None)
        raise DesignError(f"the time grid is set by numbers, not by {written}") from None
    return _time_grid(model, given)


@lru_cache(maxsize=64)
def _time_grid(model: Model, given: tuple[tuple[str, float], ...]) -> TimeGrid:
    try:
        values = control_values(model, dict(given))
    except KeyError as error:
        name = str(error.args[0]).replace("_", " ").upper()
        raise DesignError(
            f"model {model.name!r}: {name} depends on itself or on more than arithmetic with constants"
        ) from None
    return TimeGrid(values["initial_time"], values["final_time"], values["time_step"], values["saveper"])


def run_settings(
    model: Model, method: str | None, tolerance: float | tuple[float, float] | None, n_threads: int | None
) -> RunSettings:
    """How to run, with the defaults of the model and of the machine."""
    chosen = integration_method(model, method)
    n_threads = available_threads() if n_threads is None else n_threads
    return RunSettings(chosen, n_threads, tolerance=_tolerance(chosen, tolerance))


def integration_method(model: Model, method: str | None) -> str:
    """The method asked for, or the model's."""
    if method is not None:
        return method_named(method)
    return method_named(model.method, f"the method that model {model.name!r} asks for")


def _tolerance(method: str, tolerance: float | tuple[float, float] | None) -> tuple[float, float]:
    if tolerance is None:
        return DEFAULT_TOLERANCE, DEFAULT_TOLERANCE
    if method != ADAPTIVE:
        raise DesignError(f'tolerance is for method="{ADAPTIVE}"; method {method!r} has fixed steps: see time_step=')
    try:
        relative, absolute = tolerance if isinstance(tolerance, (tuple, list)) else (tolerance, tolerance)
        return float(relative), float(absolute)
    except (TypeError, ValueError):
        raise DesignError(
            f"tolerance is {tolerance!r}; it must be one number, or two: (relative, absolute)"
        ) from None


@dataclass(frozen=True)
class _Result:
    """One scenario: values (n_saves, n_times, n_members), status and parameters as run."""

    values: Floats
    status: npt.NDArray[np.int32]
    parameters: Floats


def _check_size(run: Ensemble) -> None:
    n_runs, n_times = len(run.scenarios) * run.design.n_members, len(run.grid.save_steps())
    size = 8 * n_runs * len(run.row) * n_times
    if size > _MAX_RESULT_BYTES:
        raise DesignError(
            f"{n_runs} runs x {n_times} times x {len(run.row)} variables need {size / 1024**3:.1f} GB; "
            "name fewer variables in save=, save less often, or keep only quantiles: villageflow.summarize"
        )


def _scenario(run: Ensemble, scenario: str, progress: Progress | None) -> _Result:
    parameters = run.parameters(scenario)
    settings = replace(run.settings, progress=progress)
    if run.adaptive:
        found = run_adaptive(run.program, run.grid, parameters, settings=settings)
        return _Result(found.values, adaptive_status(found, run.grid), parameters)
    values, healthy = run_program(run.program, run.grid, parameters, settings=settings)
    status = np.full(run.design.n_members, FINISHED, dtype=np.int32)
    failed = np.flatnonzero(~healthy)
    if len(failed):
        settings = run.settings_of(failed)
        status[failed] = first_bad_steps(run.compile, run.program, run.grid, parameters[:, failed], settings)
    return _Result(values, status, parameters)


def _dataset(run: Ensemble, results: Mapping[str, _Result]) -> xr.Dataset:
    model, design = run.model, run.design
    dims = (SCENARIO, MEMBER, TIME) if design.scenarios else (MEMBER, TIME)
    variables, own = run.labelled([result.values for result in results.values()], dims)
    status = run.joined([result.status for result in results.values()])
    data: dict[str, object] = {**variables, STATUS: (dims[:-1], status, {"long_name": STATUS_TEXT, "units": "1"})}
    coords: dict[str, object] = dict(own)
    if design.scenarios:
        coords[SCENARIO] = list(results)
    changed = {name for values in design.scenarios.values() for name in values}
    for j, name in enumerate(run.varied):
        if name not in run.row:
            rows = [result.parameters[j] for result in results.values()]
            shared = name not in changed
            values = rows[0] if shared else run.joined(rows)
            coords[name] = labelled(model, name, values, (MEMBER,) if shared else dims[:-1])
    attributes = provenance(model, run.program, run.grid, design, run.settings)
    ds = xr.Dataset(data, coords=axes(model, design.n_members, run.grid), attrs=attributes)
    return ds.assign_coords(coords) if coords else ds
