"""The verb `jacobian`: exact derivatives of trajectories with respect to parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from villageflow.ensemble.design import Design, DesignLike, as_design
from villageflow.ensemble.failure import first_bad_steps, parameters_shown, variable_shown
from villageflow.ensemble.noise import NoiseLike, as_noise
from villageflow.ensemble.schema import FINISHED, MEMBER, SCENARIO, STATUS, TIME
from villageflow.ensemble.simulate import OnError, available_threads, simulate, time_grid
from villageflow.errors import DesignError, SimulationError
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.ir.model import Model
from villageflow.names import variable_id
from villageflow.program.emit import check_names, compile_tangents
from villageflow.program.influence import influences
from villageflow.program.program import Program
from villageflow.program.tangent import tangent_name
from villageflow.timegrid import TimeGrid

Floats = npt.NDArray[np.float64]

PARAMETER: Final = "parameter"
FLAG: Final = "flag"
REASON: Final = "flag_reason"

_FIXED_STEPS: Final = ("euler", "rk4")
_MAX_RESULT_BYTES: Final = 16 * 1024**3
_AT_ONCE: Final = 32_000_000  # values that one call of the kernel may save


def jacobian(
    model: Model,
    parameters: Sequence[str] | str,
    design: DesignLike = None,
    *,
    save: Sequence[str] | str | None = None,
    time_step: float | None = None,
    final_time: float | None = None,
    save_every: float | None = None,
    method: str | None = None,
    errors: OnError = "raise",
    n_threads: int | None = None,
    seed: int = 0,
    noise: NoiseLike | None = None,
    inputs: NoiseLike | None = None,
) -> xr.Dataset:
    """Derivatives of trajectories with respect to constants of the model, for every member of a design.

    The derivatives are exact: every operation of the run is differentiated by its rule, none is a difference. They
    are those of the values that `simulate` gives, with its time step and method.

    Parameters
    ----------
    model : Model
        As `read_model` gives it.
    parameters : sequence of str
        Constants of the model, in any spelling; also such as enter initial values only. An array stands for each of
        its elements, ``rate[young]`` for one.
    design : Design, DataFrame, dict or None
        Members at which to differentiate, as in `simulate`. A parameter that the design does not vary has the value
        of the model file.
    save : sequence of str, optional
        Variables to differentiate, in any spelling; default every stock and auxiliary.
    time_step, final_time, save_every, n_threads
        As in `simulate`.
    method : {"euler", "rk4"}, optional
        Default as the model file has it.
    seed, noise, inputs
        Random numbers and supplied series, as in `simulate`; the derivatives are those of the path with them.
    errors : {"raise", "flag"}
        Raise on a trajectory or a derivative that does not stay finite, or keep it and mark it in ``status``.

    Returns
    -------
    xarray.Dataset
        Each saved variable holds its derivative, with dimensions ``member, parameter, time``, after ``scenario`` if
        the design has scenarios and before its own if it is an array, in units of the variable per unit of the
        parameter. Coordinates along ``parameter``
        are ``parameter_units``, ``flag`` and ``flag_reason``. ``flag`` is ``smooth``; or ``partly``: the parameter
        also moves an event, a condition or a whole number, whose effect on the results the derivative leaves out; or
        ``events``: it moves nothing else, and the derivative is zero by rule; or ``none``: no saved variable depends
        on it. ``status`` (member, parameter) is -1, else the first step at which the trajectory, or its derivative,
        was not finite.

    Raises
    ------
    DesignError
        Names, values or settings that do not fit the model.
    SimulationError
        With ``errors="raise"``: names the member, the variable, the parameter and the time.

    Notes
    -----
    At a kink (MIN, MAX, ABS, a point of a table, IF THEN ELSE) the derivative is that of the branch in use. Does not
    give second derivatives, and no derivatives with respect to the points of a table or to the time grid.
    See docs/derivatives.md.

    Examples
    --------
    >>> ds = jacobian(model, ["imitation"], save=["active_stores"])  # doctest: +SKIP
    >>> ds["active_stores"].sel(parameter="imitation")  # doctest: +SKIP
    """
    members = as_design(design, model)
    names = _parameters(model, parameters)
    _check_method(model, method)
    n_threads = available_threads() if n_threads is None else n_threads
    base = simulate(
        model, members, save=save, time_step=time_step, final_time=final_time, save_every=save_every, method=method,
        errors=errors, n_threads=n_threads, seed=seed, noise=noise, inputs=inputs,
    )
    grid = time_grid(model, time_step=time_step, final_time=final_time, save_every=save_every)
    saves = {str(name): _elements(model, str(name)) for name in base.data_vars if name != STATUS}
    _check_reserved(model, [str(name) for name in (*base.data_vars, *base.dims)])
    drawn = as_noise(model, seed, noise, grid, members.n_members, inputs=inputs)
    run = _Run(model, members, names, saves, grid, RunSettings(str(base.attrs["method"]), n_threads, noise=drawn))
    statuses = base[STATUS].values.reshape(-1, members.n_members)
    scenarios: Mapping[str, Mapping[str, float]] = members.scenarios or {"": {}}
    results = [
        run.scenario(name, changes, status, errors)
        for (name, changes), status in zip(scenarios.items(), statuses, strict=True)
    ]
    return _dataset(run, base, results)


def _parameters(model: Model, parameters: Sequence[str] | str) -> tuple[str, ...]:
    if not isinstance(parameters, str) and any(not isinstance(name, str) for name in parameters):
        raise DesignError(f"the parameters are {parameters!r:.80}; give the names of constants")
    given = [variable_id(name) for name in ([parameters] if isinstance(parameters, str) else parameters)]
    names = [element for name in given for element in _elements(model, name)]
    check_names(model, names, ())
    if not names:
        raise DesignError("there is no parameter to differentiate by; name at least one constant")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DesignError(f"the parameters name {twice!r} twice; keep one")
    return tuple(names)


def _elements(model: Model, name: str) -> tuple[str, ...]:
    """The scalars that a variable consists of."""
    array = model.arrays.get(name)
    return (name,) if array is None else tuple(element for element in array.ids if element is not None)


def _check_method(model: Model, method: str | None) -> None:
    chosen = method or model.method
    if chosen not in _FIXED_STEPS:
        whose = "method is" if method else f"model {model.name!r} asks for the method"
        raise DesignError(f"{whose} {chosen!r}; derivatives need fixed steps: give method= {' or '.join(_FIXED_STEPS)}")


@dataclass(frozen=True)
class _Result:
    """One scenario: derivatives (n_saves, n_members, n_parameters, n_times) and status (n_members, n_parameters)."""

    values: Floats
    status: npt.NDArray[np.int32]


class _Run:
    """What all scenarios of one call share. A lane is a member and a direction, the direction fastest."""

    def __init__(
        self, model: Model, design: Design, names: tuple[str, ...], variables: Mapping[str, tuple[str, ...]],
        grid: TimeGrid, settings: RunSettings,
    ) -> None:
        self.model, self.design, self.names, self.variables = model, design, names, variables
        self.grid, self.settings = grid, settings
        saves = self.saves = tuple(dict.fromkeys(element for elements in variables.values() for element in elements))
        self.row = {name: j for j, name in enumerate(saves)}
        changed = [name for values in design.scenarios.values() for name in values]
        self.varied = tuple(dict.fromkeys([*map(str, design.table.columns), *changed, *names]))
        given = frozenset(settings.noise.given)
        self.influence = influences(model, varied=self.varied, parameters=names, saves=saves, given=given)
        self.directions = tuple(name for name in names if self.influence[name].smooth)
        self.program = self._compile(tuple(map(tangent_name, saves)))
        self.n_times = len(grid.save_steps())
        size = 8 * max(len(design.scenarios), 1) * design.n_members * len(names) * len(saves) * self.n_times
        if size > _MAX_RESULT_BYTES:
            raise DesignError(
                f"{design.n_members} members x {len(names)} parameters x {self.n_times} times x {len(saves)} variables "
                f"need {size / 1024**3:.1f} GB; name fewer variables in save=, or save less often"
            )

    def _compile(self, saves: Sequence[str]) -> Program:
        given = self.settings.noise.given
        return compile_tangents(self.model, varied=self.varied, directions=self.directions, saves=saves, given=given)

    def scenario(
        self, scenario: str, changes: Mapping[str, float], status: npt.NDArray[np.int32], errors: OnError
    ) -> _Result:
        """Derivatives of the members of one scenario, of which `status` tells how they ended."""
        n_members, n_directions = self.design.n_members, len(self.directions)
        rows = self.design.rows(self.varied, changes, self.model)
        result = _Result(
            np.zeros((len(self.saves), n_members, len(self.names), self.n_times)),
            np.repeat(status[:, None], len(self.names), axis=1),
        )
        places = [self.names.index(name) for name in self.directions]
        at_once = max(1, _AT_ONCE // max(1, n_directions * len(self.saves) * self.n_times))
        for first in range(0, n_members if n_directions else 0, at_once):
            members = slice(first, min(first + at_once, n_members))
            lanes = self._lanes(rows[:, members])
            owners = np.repeat(np.arange(members.start, members.stop), n_directions)
            settings = replace(self.settings, noise=self.settings.noise.of(owners))
            values, healthy = run_program(self.program, self.grid, lanes, settings=settings)
            split = values.reshape(len(self.saves), self.n_times, -1, n_directions)
            result.values[:, members, places] = split.transpose(0, 2, 3, 1)
            ill = np.flatnonzero(~healthy & np.repeat(status[members] == FINISHED, n_directions))
            if len(ill):
                settings = replace(self.settings, noise=self.settings.noise.of(owners[ill]))
                found = first_bad_steps(self._compile, self.program, self.grid, lanes[:, ill], settings)
                member, direction = np.divmod(ill, n_directions)
                result.status[first + member, np.array(places)[direction]] = found
                if errors == "raise":
                    where = f"member {first + member[0]}" + (f", scenario {scenario!r}" if scenario else "")
                    settings = replace(settings, noise=self.settings.noise.of(owners[ill[:1]]))
                    self._raise(where, self.directions[direction[0]], lanes[:, ill[:1]], int(found[0]), settings)
        return result

    def _lanes(self, rows: Floats) -> Floats:
        n_directions = len(self.directions)
        seeds = np.tile(np.eye(n_directions), rows.shape[1])
        return np.ascontiguousarray(np.vstack([np.repeat(rows, n_directions, axis=1), seeds]))

    def _raise(self, where: str, parameter: str, lane: Floats, step: int, settings: RunSettings) -> None:
        watched = (*self.program.stocks, *self.program.saves)
        every_step = TimeGrid(self.grid.start, self.grid.stop, self.grid.step, self.grid.step)
        values, _ = run_program(self._compile(watched), every_step, np.ascontiguousarray(lane), settings=settings)
        culprit = int(np.argmax(~np.isfinite(values[:, step, 0])))
        name = watched[culprit].removeprefix(tangent_name(""))
        shown = parameters_shown(self.varied, lane[:len(self.varied), 0])
        raise SimulationError(
            f"{where}: the derivative of {variable_shown(self.model, name)!r} with respect to {parameter!r} is "
            f"{values[culprit, step, 0]} at time {self.grid.time_at(step):g} (step {step}) with {shown}, although the "
            'trajectory is finite; move the parameter off this point, or pass errors="flag" to keep the others'
        )


def _check_reserved(model: Model, saves: Sequence[str]) -> None:
    for name in saves:
        if name in (PARAMETER, f"{PARAMETER}_units", FLAG, REASON):
            raise DesignError(
                f"a variable or dimension of model {model.name!r} is called {name!r}, as a part of every Jacobian is; "
                "rename it, or name other variables in save="
            )


def _dataset(run: _Run, base: xr.Dataset, results: list[_Result]) -> xr.Dataset:
    """Labels as `simulate` has them, with one dimension more."""
    scenarios = bool(run.design.scenarios)
    lead = (SCENARIO, MEMBER) if scenarios else (MEMBER,)

    def join(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.stack(arrays) if scenarios else arrays[0]

    data: dict[str, object] = {}
    for name in run.variables:
        attributes = dict(base[name].attrs)
        attributes["units"] = f"{attributes['units'] or '1'} per unit of the parameter"
        attributes["long_name"] = f"Derivative of {attributes['long_name']}"
        arrays = join([_array(run, name, result) for result in results])
        data[name] = ((*lead, PARAMETER, TIME, *base[name].dims[len(lead) + 1:]), arrays, attributes)
    data[STATUS] = ((*lead, PARAMETER), join([result.status for result in results]), {
        "long_name": f"{base[STATUS].attrs['long_name']}, or a derivative was not finite", "units": "1",
    })
    found = [run.influence[name] for name in run.names]
    units = [run.model.variables[name].units for name in run.names]
    coords: dict[str, object] = {str(name): base.coords[name] for name in base.coords}
    coords[PARAMETER] = list(run.names)
    coords[f"{PARAMETER}_units"] = (PARAMETER, np.array(units, dtype=object))
    coords[FLAG] = (PARAMETER, np.array([item.flag for item in found], dtype=object))
    coords[REASON] = (PARAMETER, np.array([item.reason for item in found], dtype=object))
    return xr.Dataset(data, coords=coords, attrs=base.attrs | {"program_sha256": run.program.digest})


def _array(run: _Run, name: str, result: _Result) -> Floats:
    """Derivatives of a variable, (n_members, n_parameters, n_times) and then its own dimensions if it is an array."""
    array = run.model.arrays.get(name)
    values = result.values
    if array is None:
        return np.asarray(values[run.row[name]])
    missing = np.full(values.shape[1:], np.nan)
    rows = [missing if element is None else values[run.row[element]] for element in array.ids]
    shape = tuple(len(run.model.dimensions[dimension].elements) for dimension in array.dimensions)
    return np.moveaxis(np.array(rows), 0, -1).reshape(*missing.shape, *shape)
