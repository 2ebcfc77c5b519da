"""Ensembles ready to run: what `simulate` and `summarize` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from villageflow.ensemble.design import Design
from villageflow.ensemble.failure import diagnose, diagnose_adaptive, first_bad_steps
from villageflow.ensemble.schema import RESERVED, Labelled, dimension_coordinates, labelled
from villageflow.errors import DesignError, SimulationError
from villageflow.integrate.adaptive import run_adaptive
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.integrate.methods import ADAPTIVE
from villageflow.ir.model import Array, Kind, Model
from villageflow.names import variable_id
from villageflow.program.dormand_prince import Outcome
from villageflow.program.emit import check_names, compile_model
from villageflow.program.program import Program
from villageflow.timegrid import TimeGrid

Floats: TypeAlias = npt.NDArray[np.float64]
Members: TypeAlias = npt.NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_BASE = "base"


class Ensemble:
    """A model, its members and scenarios, ready to run.

    Attributes
    ----------
    model, design, grid, settings
        As given.
    saves : mapping of str to tuple of str
        The variables to keep, each with the scalars that it consists of.
    row : mapping of str to int
        Row of each scalar in what a run returns.
    scenarios : mapping of str to (mapping of str to float)
        Those of the design; the base case alone if it has none.
    varied : tuple of str
        Parameters that the design or a scenario sets.
    adaptive : bool
        Whether members choose their own steps.
    program : Program
    """

    def __init__(
        self, model: Model, design: Design, save: Sequence[str] | str | None, grid: TimeGrid, settings: RunSettings
    ) -> None:
        self.model, self.design, self.grid, self.settings = model, design, grid, settings
        self.saves = _saves(model, save)
        scalars = tuple(dict.fromkeys(i for ids in self.saves.values() for i in ids))
        self.row = {name: j for j, name in enumerate(scalars)}
        self.scenarios = design.scenarios or {_BASE: {}}
        changed = [name for values in design.scenarios.values() for name in values]
        self.varied = tuple(dict.fromkeys([*map(str, design.table.columns), *changed]))
        _check_reserved(model, self.varied)
        self.adaptive = settings.method == ADAPTIVE
        self.program = self.compile(scalars)

    def compile(self, saves: Sequence[str]) -> Program:
        """The program of these members that saves what is given."""
        return compile_model(
            self.model, varied=self.varied, saves=saves, given=self.settings.noise.given, adaptive=self.adaptive
        )

    def parameters(self, scenario: str, members: Members | slice = slice(None)) -> Floats:
        """Values of ``program.parameters`` under a scenario, (n_parameters, number of these members)."""
        return self.design.rows(self.varied, self.scenarios[scenario], self.model, members=members)

    def settings_of(self, members: Members) -> RunSettings:
        """The settings to run some of the members, with their random numbers."""
        return replace(self.settings, noise=self.settings.noise.of(members))

    def values(self, scenario: str, members: Members) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Saved values (n_scalars, n_times, n) of some members on one thread, and which of them finish."""
        parameters, settings = self.parameters(scenario, members), replace(self.settings_of(members), n_threads=1)
        if not self.adaptive:
            return run_program(self.program, self.grid, parameters, settings=settings)
        found = run_adaptive(self.program, self.grid, parameters, settings=settings)
        return found.values, found.outcome == Outcome.FINISHED

    def failure(self, scenario: str, failed: Members) -> SimulationError:
        """The error that names the first of the members that do not finish."""
        first = failed[:1]
        parameters, settings = self.parameters(scenario, first), self.settings_of(first)
        if self.adaptive:
            found = diagnose_adaptive(self.model, self.program, self.grid, parameters, settings)
            what, remedy = "did not finish", "loosen the tolerance"
        else:
            step = int(first_bad_steps(self.compile, self.program, self.grid, parameters, settings)[0])
            found = diagnose(self.model, self.program, self.grid, parameters, settings, step=step)
            what, remedy = "are not finite", "shorten the time step"
        where = f", scenario {scenario!r}" if self.design.scenarios else ""
        return SimulationError(
            f"{len(failed)} of {self.design.n_members} members {what}; member {first[0]}{where}: {found}; "
            f'{remedy}, mend the equation, or pass errors="flag" to keep the others'
        )

    def labelled(
        self, values: Sequence[Floats], dims: tuple[str, ...]
    ) -> tuple[dict[str, Labelled], dict[str, list[str]]]:
        """Saved variables by name, and the coordinates of their own dimensions.

        Parameters
        ----------
        values : sequence of (n_scalars, n_times, n) array
            One for each scenario: rows as in `row`, whatever the last axis is.
        dims : tuple of str
            Names of the scenarios, if the design has any, of the last axis and of time.
        """
        variables: dict[str, Labelled] = {}
        coords: dict[str, list[str]] = {}
        for name, ids in self.saves.items():
            array = self.model.arrays.get(name)
            if array is None:
                joined = self.joined([one[self.row[name]].T for one in values])
                variables[name] = labelled(self.model, name, joined, dims)
            else:
                own = dimension_coordinates(self.model, array)
                coords |= own
                joined = self.joined([self._array(array, one) for one in values])
                variables[name] = labelled(self.model, ids[0], joined, (*dims, *own))
                variables[name][2]["long_name"] = array.name
        return variables, coords

    def joined(self, arrays: Sequence[npt.NDArray[_Scalar]]) -> npt.NDArray[_Scalar]:
        """Arrays of each scenario as one, or the only one if the design has no scenarios."""
        return np.stack(arrays) if self.design.scenarios else arrays[0]

    def _array(self, array: Array, values: Floats) -> Floats:
        """Values of an array, (n, n_times, n_elements...)."""
        missing = np.full(values.shape[1:], np.nan)
        rows = [missing if i is None else values[self.row[i]] for i in array.ids]
        shape = tuple(len(self.model.dimensions[name].elements) for name in array.dimensions)
        return np.moveaxis(np.array(rows), 0, -1).swapaxes(0, 1).reshape(*missing.T.shape, *shape)


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
