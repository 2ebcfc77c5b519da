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

from villageflow.ensemble.design import Design, DesignLike, as_design, check_model
from villageflow.ensemble.failure import adaptive_status, diagnose, diagnose_adaptive, first_bad_steps
from villageflow.ensemble.noise import NoiseLike, as_noise
from villageflow.ensemble.provenance import provenance
from villageflow.ensemble.schema import (
    FINISHED,
    MEMBER,
    RESERVED,
    SCENARIO,
    STATUS,
    STATUS_TEXT,
    TIME,
    dimension_coordinates,
    labelled,
    time_coordinate,
)
from villageflow.errors import DesignError, SimulationError
from villageflow.integrate.adaptive import run_adaptive
from villageflow.integrate.drive import DEFAULT_TOLERANCE, Progress, RunSettings, run_program
from villageflow.integrate.methods import ADAPTIVE, method_named
from villageflow.ir.model import Array, Kind, Model
from villageflow.names import variable_id
from villageflow.program.emit import check_names, compile_model
from villageflow.program.graph import control_values
from villageflow.program.program import Program
from villageflow.timegrid import TimeGrid

OnError: TypeAlias = Literal["raise", "flag"]
Floats: TypeAlias = npt.NDArray[np.float64]

_MAX_RESULT_BYTES = 16 * 1024**3
_BASE = "base"


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
    if errors not in ("raise", "flag"):
        raise DesignError(f'errors is {errors!r}; it must be "raise" or "flag"')
    members = as_design(design, model)
    saves = _saves(model, save)
    grid = time_grid(model, time_step=time_step, final_time=final_time, save_every=save_every)
    n_threads = available_threads() if n_threads is None else n_threads
    chosen = integration_method(model, method)
    settings = RunSettings(
        chosen, n_threads, tolerance=_tolerance(chosen, tolerance),
        noise=as_noise(model, seed, noise, grid, members.n_members),
    )
    run = _Run(model, members, saves, grid, settings)
    scenarios = members.scenarios or {_BASE: {}}
    results = {
        name: run.scenario(values, _counted(progress, position, len(scenarios)))
        for position, (name, values) in enumerate(scenarios.items())
    }
    if errors == "raise":
        for name, result in results.items():
            run.raise_first_failure(name, result)
    return run.dataset(results)


def _counted(progress: Progress | None, done_before: int, n_scenarios: int) -> Progress | None:
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


def _saves(model: Model, save: Sequence[str] | str | None) -> dict[str, tuple[str, ...]]:
    """The variables to keep, each with the scalars that it consists of."""
    if save is None:
        names = [name for name, variable in model.variables.items() if variable.kind in (Kind.STOCK, Kind.AUXILIARY)]
        owners = {i: array.id for array in model.arrays.values() for i in array.ids if i is not None}
        names = [owners.get(name, name) for name in names]
    else:
        names = [variable_id(name) for name in ([save] if isinstance(save, str) else save)]
    saves = {}
    for name in names:
        array = model.arrays.get(name)
        saves[name] = (name,) if array is None else tuple(i for i in array.ids if i is not None)
        check_names(model, (), saves[name])
    dimensions = (name for variable in saves if variable in model.arrays for name in model.arrays[variable].dimensions)
    _check_reserved(model, [*saves, *dimensions])
    return saves


def _check_reserved(model: Model, names: Sequence[str]) -> None:
    for name in names:
        if name in RESERVED:
            raise DesignError(
                f"a variable or dimension of model {model.name!r} is called {name!r}, as a part of every result is; "
                "rename it, or name other variables in save="
            )


@dataclass(frozen=True)
class _Result:
    """One scenario: values (n_saves, n_times, n_members), status and parameters as run."""

    values: Floats
    status: npt.NDArray[np.int32]
    parameters: Floats


class _Run:
    """What all scenarios of one call share."""

    def __init__(
        self, model: Model, design: Design, saves: Mapping[str, tuple[str, ...]], grid: TimeGrid, settings: RunSettings
    ) -> None:
        self.model, self.design, self.saves, self.grid, self.settings = model, design, saves, grid, settings
        scalars = tuple(dict.fromkeys(i for ids in saves.values() for i in ids))
        self.row = {name: j for j, name in enumerate(scalars)}
        changed = [name for values in design.scenarios.values() for name in values]
        self.varied = tuple(dict.fromkeys([*map(str, design.table.columns), *changed]))
        _check_reserved(model, self.varied)
        self.adaptive = settings.method == ADAPTIVE
        self.program = self._compile(scalars)
        n_runs = max(len(design.scenarios), 1) * design.n_members
        size = 8 * n_runs * len(scalars) * len(grid.save_steps())
        if size > _MAX_RESULT_BYTES:
            raise DesignError(
                f"{n_runs} runs x {len(grid.save_steps())} times x {len(scalars)} variables need "
                f"{size / 1024**3:.1f} GB; "
                "name fewer variables in save=, or save less often"
            )

    def _compile(self, saves: Sequence[str]) -> Program:
        return compile_model(
            self.model, varied=self.varied, saves=saves, given=self.settings.noise.given, adaptive=self.adaptive
        )

    def scenario(self, changes: Mapping[str, float], progress: Progress | None) -> _Result:
        parameters = self.design.rows(self.varied, changes, self.model)
        settings = replace(self.settings, progress=progress)
        if self.adaptive:
            found = run_adaptive(self.program, self.grid, parameters, settings=settings)
            return _Result(found.values, adaptive_status(found, self.grid), parameters)
        values, healthy = run_program(self.program, self.grid, parameters, settings=settings)
        status = np.full(self.design.n_members, FINISHED, dtype=np.int32)
        failed = np.flatnonzero(~healthy)
        if len(failed):
            settings = self._settings_of(failed)
            status[failed] = first_bad_steps(self._compile, self.program, self.grid, parameters[:, failed], settings)
        return _Result(values, status, parameters)

    def _settings_of(self, members: npt.NDArray[np.int64]) -> RunSettings:
        """The settings to run some members again, with the random numbers that they had."""
        return replace(self.settings, noise=self.settings.noise.of(members))

    def raise_first_failure(self, scenario: str, result: _Result) -> None:
        failed = np.flatnonzero(result.status != FINISHED)
        if not len(failed):
            return
        member = int(failed[0])
        parameters = result.parameters[:, [member]]
        settings = self._settings_of(failed[:1])
        if self.adaptive:
            found = diagnose_adaptive(self.model, self.program, self.grid, parameters, settings)
            what, remedy = "did not finish", "loosen the tolerance"
        else:
            step = int(result.status[member])
            found = diagnose(self.model, self.program, self.grid, parameters, settings, step=step)
            what, remedy = "are not finite", "shorten the time step"
        where = f", scenario {scenario!r}" if self.design.scenarios else ""
        raise SimulationError(
            f"{len(failed)} of {len(result.status)} members {what}; member {member}{where}: {found}; "
            f'{remedy}, mend the equation, or pass errors="flag" to keep the others'
        )

    def dataset(self, results: Mapping[str, _Result]) -> xr.Dataset:
        model, design = self.model, self.design
        scenarios = list(results) if design.scenarios else None
        dims = (SCENARIO, MEMBER, TIME) if scenarios else (MEMBER, TIME)

        def join(arrays: list[Floats]) -> Floats:
            return np.stack(arrays) if scenarios else arrays[0]

        coords: dict[str, object] = {}
        variables = {}
        for name, ids in self.saves.items():
            array = model.arrays.get(name)
            if array is None:
                values = join([result.values[self.row[name]].T for result in results.values()])
                variables[name] = labelled(model, name, values, dims)
            else:
                own = dimension_coordinates(model, array)
                coords |= own
                values = join([self._array(array, result) for result in results.values()])
                variables[name] = labelled(model, ids[0], values, (*dims, *own))
                variables[name][2]["long_name"] = array.name
        status = np.stack([result.status for result in results.values()])
        data: dict[str, object] = dict(variables)
        data[STATUS] = (dims[:-1], status if scenarios else status[0], {"long_name": STATUS_TEXT, "units": "1"})
        coords[MEMBER] = np.arange(design.n_members)
        coords[TIME] = time_coordinate(model, self.grid.save_times())
        if scenarios:
            coords[SCENARIO] = scenarios
        changed = {name for values in design.scenarios.values() for name in values}
        for j, name in enumerate(self.varied):
            if name not in self.row:
                rows = [result.parameters[j] for result in results.values()]
                shared = name not in changed
                values = rows[0] if shared else join(rows)
                coords[name] = labelled(model, name, values, (MEMBER,) if shared else dims[:-1])
        attributes = provenance(model, self.program, self.grid, design, self.settings)
        return xr.Dataset(data, coords=coords, attrs=attributes)

    def _array(self, array: Array, result: _Result) -> Floats:
        """Values of an array, (n_members, n_times, n_elements...)."""
        missing = np.full(result.values.shape[1:], np.nan)
        rows = [missing if i is None else result.values[self.row[i]] for i in array.ids]
        shape = tuple(len(self.model.dimensions[name].elements) for name in array.dimensions)
        return np.moveaxis(np.array(rows), 0, -1).swapaxes(0, 1).reshape(*missing.T.shape, *shape)
