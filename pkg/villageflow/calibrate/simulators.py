"""Panels from a model: a `Simulator` for indirect inference that runs all parameters, panels and entities together.

Where a model draws nothing itself, noise is put on what it says; where it draws (entries one by one, say), its own
numbers are common to all parameter vectors. Both kinds of draw are quantiles at uniform numbers that are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from villageflow.calibrate.draws import RandomConstant, count_quantile
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.scales import Box, Floats
from villageflow.ensemble.design import Design, as_design
from villageflow.ensemble.noise import NoiseLike, as_noise
from villageflow.ensemble.runs import Ensemble
from villageflow.ensemble.simulate import available_threads, run_settings, time_grid
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.integrate.drive import run_program
from villageflow.ir.model import Model
from villageflow.names import variable_id

Bools: TypeAlias = npt.NDArray[np.bool_]
Selection: TypeAlias = Callable[[pd.DataFrame, Floats], Bools]

NOISES: Final = ("normal", "lognormal", "poisson", "negbinomial")
_COUNTS: Final = ("poisson", "negbinomial")
_KINDS: Final = ("level", "count", "share", "net_flow")
_MAX_BYTES: Final = 2**28
"""Of saved paths at once; more parameter vectors are run in turn, which moves no bit."""


@dataclass(frozen=True, eq=False)
class _Cells:
    """The lanes and scalars in which a random constant is drawn for an entity.

    Attributes
    ----------
    lane : (k,) array of int
    scalar : (k,) array of str
    normal : (S, k) array
        Standard normal numbers.
    share : (k, g) array or None
        Makes of the cells the means over the entities of each group.
    group : (k,) array of int or None
        Group of each cell.
    """

    lane: npt.NDArray[np.intp]
    scalar: npt.NDArray[np.object_]
    normal: Floats
    share: Floats | None
    group: npt.NDArray[np.intp] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsembleSimulator:
    """Simulated panels of a model for `villageflow.calibrate.indirect.indirect_inference`.

    Parameters
    ----------
    model : Model
    parameters : DataFrame
        Rows with name, scale, lower, upper, as for `indirect_inference`: constants of the model, deviations and
        locations of `random`, noise parameters of `observables`.
    entities : DataFrame
        Indexed by entity, one row for each candidate. Columns ``lane`` and ``element``, if given, say in which run and
        which element of the arrays an entity lives; without them each entity is a run of its own. A lane's entities
        need not be next to each other. All other columns are labels that every row of a panel gets.
    times : tuple of float
        Of the panel; saved times of the model.
    observables : tuple of Observable or str
        Columns of the panel: a variable with noise (normal, lognormal, poisson, negbinomial), or the name of a
        variable that is read as it is. ``net_flow`` is the change since the time before, missing at the first.
    constants : DataFrame
        Indexed by lane: values of constants (or elements of arrays) that lanes bring with them.
    inputs : mapping
        Exogenous series as for `villageflow.simulate`, with one column for each lane.
    random : tuple of RandomConstant
    selection : callable, optional
        ``(entities, values)`` to a mask (entity,) of those that are kept; ``values`` is the first observable,
        (entity, time). All are kept by default.
    unselected : {"drop", "blank"}
        What becomes of the rows of the others.
    known : DataFrame, optional
        Indexed (entity, time), columns of observables, whose blank cells are blank in every simulated panel.
    smooth : bool
        Counts of `observables` as draws that are continuous in their mean, see `count_quantile`.
    n_simulations : int
        Panels for each parameter vector, S.
    seed : int
        Of all draws; those of panel s, lane, element and time are the same for all parameters and calls.
    time_step, method
        As for `villageflow.simulate`; fixed steps only.

    Notes
    -----
    A panel with a run that does not stay finite is blank. Random functions of the model draw what
    member s G + g of a design of S G members draws, G the number of lanes, for every parameter vector alike.
    """

    model: Model
    parameters: pd.DataFrame
    entities: pd.DataFrame
    times: tuple[float, ...]
    observables: tuple[Observable | str, ...]
    constants: pd.DataFrame = field(default_factory=pd.DataFrame)
    inputs: NoiseLike = field(default_factory=dict)
    random: tuple[RandomConstant, ...] = ()
    selection: Selection | None = None
    unselected: Literal["drop", "blank"] = "drop"
    known: pd.DataFrame | None = None
    smooth: bool = True
    n_simulations: int = 10
    seed: int = 0
    time_step: float | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    def panels(self, values: Floats) -> list[list[pd.DataFrame]]:
        """S panels for each row of an (n, p) array of natural values."""
        columns = self.columns(values)
        kept = None if self.selection is None else self._kept(next(iter(columns.values())))
        return [
            [self._panel({name: cells[i, s] for name, cells in columns.items()}, None if kept is None else kept[i, s])
             for s in range(self.n_simulations)]
            for i in range(len(values))
        ]  # fmt: skip

    def columns(self, values: Floats) -> dict[str, Floats]:
        """What `panels` has before selection, by observable: (n, S, entity, time) arrays."""
        values = np.asarray(values, dtype=float).reshape(-1, len(self._box.names))
        paths = self._paths(values)
        return {
            _name(item): self._observed(item, position, paths[variable_id(_formula(item))], values)
            for position, item in enumerate(self.observables)
        }

    # --- runs ----------------------------------------------------------------------------------------------------

    @cached_property
    def _box(self) -> Box:
        return Box.from_table(self.parameters)

    @cached_property
    def _lane_of(self) -> pd.Series[Any]:
        """Label of the run of each entity."""
        return self.entities["lane"] if "lane" in self.entities else self.entities.index.to_series()

    @cached_property
    def _lanes(self) -> list[object]:
        """Labels of the runs, in order of appearance."""
        return list(dict.fromkeys(self._lane_of))

    @cached_property
    def _place(self) -> npt.NDArray[np.intp]:
        """Lane of each entity."""
        place = {label: position for position, label in enumerate(self._lanes)}
        return np.array([place[label] for label in self._lane_of], dtype=np.intp)

    def _paths(self, values: Floats) -> dict[str, Floats]:
        """Of each variable, (n, S, entity, time)."""
        names = sorted({variable_id(_formula(item)) for item in self.observables})
        n_lanes = self.n_simulations * len(self._lanes)
        at_once = max(1, _MAX_BYTES // (8 * n_lanes * self._n_saved(names) * len(self.times)))
        parts = [self._run(values[first : first + at_once], names) for first in range(0, len(values), at_once)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _n_saved(self, names: list[str]) -> int:
        return sum(len(self.model.arrays[name].ids) if name in self.model.arrays else 1 for name in names)

    def _run(self, values: Floats, names: list[str]) -> dict[str, Floats]:
        """One engine call for these parameter vectors."""
        n, n_lanes = len(values), self.n_simulations * len(self._lanes)
        design = as_design(Design(self._table(values)), self.model)
        grid = time_grid(self.model, time_step=self.time_step, final_time=max(self.times))
        settings = run_settings(self.model, self.method, None, available_threads())
        common = as_noise(self.model, self.seed, None, grid, n_lanes, inputs=self._inputs())
        settings = replace(settings, noise=common.of(np.tile(np.arange(n_lanes), n)))
        run = Ensemble(self.model, design, names, grid, settings)
        saved, healthy = run_program(run.program, grid, run.parameters("base"), settings=settings)
        whole = healthy.reshape(n * self.n_simulations, -1).all(axis=1)
        saved[:, :, ~np.repeat(whole, len(self._lanes))] = np.nan
        saves = grid.save_times()
        when = [int(np.argmin(np.abs(saves - time))) for time in self.times]
        saved = saved[:, when].reshape(len(saved), len(when), n, self.n_simulations, len(self._lanes))
        found = {}
        for name in names:
            rows = np.array([run.row[scalar] for scalar in self._scalars(name)])
            found[name] = np.ascontiguousarray(np.moveaxis(saved[rows, :, :, :, self._place], [0, 1], [2, 3]))
        return found

    def _scalars(self, name: str) -> list[str]:
        """The scalar in which each entity finds a variable."""
        array = self.model.arrays.get(name)
        if array is None:
            return [name] * len(self.entities)
        elements = self.entities["element"]
        known = {element: variable_id(f"{name}[{element}]") for element in pd.unique(elements)}
        return [known[element] for element in elements]

    def _table(self, values: Floats) -> pd.DataFrame:
        """Constants of every lane of every panel of every parameter vector."""
        n, lanes, names = len(values), len(self._lanes), self.model.constants
        repeats = self.n_simulations * lanes
        table = {name: np.repeat(self._one(name, values), repeats) for name in self._box.names if name in names}
        for name in self.constants.columns:
            own = self.constants[name].reindex(self._lanes).to_numpy(dtype=float)
            table[variable_id(str(name))] = np.tile(own, n * self.n_simulations)
        for item, cells in zip(self.random, self._cells, strict=True):
            location, deviation = (self._one(given, values)[:, None, None] for given in (item.location, item.deviation))
            drawn = item.values(location, deviation, cells.normal)
            if cells.share is not None:
                drawn = drawn / (drawn @ cells.share)[:, :, cells.group]
            for scalar in dict.fromkeys(cells.scalar):
                here = cells.scalar == scalar
                column = np.broadcast_to(location, (n, self.n_simulations, lanes)).copy()
                column[:, :, cells.lane[here]] = drawn[:, :, here]
                table[scalar] = column.ravel()
        return pd.DataFrame(table)

    def _one(self, given: float | str, values: Floats) -> Floats:
        """A number, or the values of a parameter, (n,)."""
        return values[:, self._box.names.index(given)] if isinstance(given, str) else np.full(len(values), float(given))

    @cached_property
    def _cells(self) -> list[_Cells]:
        """Where each random constant is drawn, with its numbers."""
        found = []
        for position, item in enumerate(self.random):
            scalars = np.array(self._scalars(variable_id(item.name)), dtype=object)
            cells = pd.DataFrame({"lane": self._place, "scalar": scalars})
            number = cells.groupby(["lane", "scalar"], sort=False).ngroup().to_numpy()
            first = np.unique(number, return_index=True)[1]
            normal = self._rng(0, position).normal(size=(self.n_simulations, len(first)))
            share = group = None
            if item.relative_to:
                group = pd.factorize(self.entities[item.relative_to])[0]
                counts = np.zeros((len(first), group.max() + 1))
                np.add.at(counts, (number, group), 1.0)
                share, group = counts / counts.sum(axis=0), group[first]
            found.append(_Cells(self._place[first], scalars[first], normal, share, group))
        return found

    def _inputs(self) -> dict[str, pd.DataFrame]:
        return {
            name: pd.DataFrame(np.tile(frame.to_numpy(dtype=float), self.n_simulations), index=frame.index)
            for name, frame in ((name, pd.DataFrame(given)[self._lanes]) for name, given in self.inputs.items())
        }

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    # --- what is observed ----------------------------------------------------------------------------------------

    def _observed(self, item: Observable | str, position: int, paths: Floats, values: Floats) -> Floats:
        if isinstance(item, str):
            return paths
        if item.kind == "net_flow":
            paths = np.diff(paths, axis=-1, prepend=np.nan)
        parameter = np.zeros(len(values)) if item.noise_parameter is None else self._one(item.noise_parameter, values)
        shape, wide = paths.shape[1:], parameter[:, None, None, None]
        rng = self._rng(1, position)
        if item.noise not in _COUNTS:
            noise = wide * rng.normal(size=shape)
            return np.asarray(paths + noise if item.noise == "normal" else paths * np.exp(noise))
        uniform, mean = rng.random(shape), paths
        if item.noise == "negbinomial":
            mean = paths * special.gammaincinv(wide, rng.random(shape)) / wide
        return count_quantile(mean, uniform, smooth=self.smooth)

    def _kept(self, values: Floats) -> Bools:
        assert self.selection is not None
        return np.array([[self.selection(self.entities, panel) for panel in row] for row in values], dtype=bool)

    @cached_property
    def _frame(self) -> pd.DataFrame:
        """A panel without observables: index and labels."""
        n_times = len(self.times)
        index = pd.MultiIndex.from_product([self.entities.index, self.times], names=["entity", "time"])
        labels = self.entities.drop(columns=["lane", "element"], errors="ignore")
        return labels.loc[np.repeat(self.entities.index, n_times)].set_axis(index)

    @cached_property
    def _blank(self) -> dict[str, Bools]:
        """Cells that are not known in the real panel, by observable, in the order of the rows."""
        if self.known is None:
            return {}
        known = self.known.reindex(self._frame.index)
        return {str(name): known[name].isna().to_numpy() for name in known.columns}

    def _panel(self, cells: Mapping[str, Floats], kept: Bools | None) -> pd.DataFrame:
        rows = None if kept is None else np.repeat(kept, len(self.times))
        columns = {}
        for name, values in cells.items():
            flat = values.ravel()
            if name in self._blank:
                flat = np.where(self._blank[name], np.nan, flat)
            columns[name] = np.where(rows, flat, np.nan) if rows is not None and self.unselected == "blank" else flat
        panel = self._frame.assign(**columns)
        return panel[rows] if rows is not None and self.unselected == "drop" else panel


# --- faults --------------------------------------------------------------------------------------------------------


def _name(item: Observable | str) -> str:
    return variable_id(item) if isinstance(item, str) else item.name


def _formula(item: Observable | str) -> str:
    return item if isinstance(item, str) else item.formula


def _check(made: EnsembleSimulator) -> None:
    """Refuse what does not fit together, at once."""
    faults = [*_faults_of_entities(made), *_faults_of_names(made), *_faults_of_observables(made)]
    if made.n_simulations < 1:
        faults.append(f"n_simulations is {made.n_simulations}; it is one or more")
    if made.unselected not in ("drop", "blank"):
        faults.append(f"unselected is {made.unselected!r}; use drop or blank")
    saves = time_grid(made.model, time_step=made.time_step).save_times()
    if absent := [time for time in made.times if not np.isclose(saves, time).any()]:
        faults.append(f"time {absent[0]:g} is no saved time of {made.model.name!r}; choose one of {saves[0]:g}, ...")
    if faults:
        raise CalibrationError("; ".join(faults))


def _faults_of_entities(made: EnsembleSimulator) -> list[str]:
    entities, faults = made.entities, []
    if not len(entities) or not entities.index.is_unique:
        faults.append("entities needs one row for each of one or more entities; an entity is there twice or none is")
    arrays = [name for name in map(_formula, made.observables) if variable_id(name) in made.model.arrays]
    if arrays and "element" not in entities:
        faults.append(f"{arrays[0]!r} is an array; entities needs a column element")
    lanes = pd.Index(pd.unique(entities["lane"])) if "lane" in entities else entities.index
    if len(made.constants.columns) and len(absent := lanes.difference(made.constants.index)):
        faults.append(f"constants has no row for {absent[0]!r}; give every lane one")
    for name, given in made.inputs.items():
        if not isinstance(given, pd.DataFrame) or len(lanes.difference(given.columns)):
            faults.append(f"inputs for {name!r} needs a DataFrame indexed by time with a column for each lane")
    return faults


def _faults_of_names(made: EnsembleSimulator) -> list[str]:
    names, faults = Box.from_table(made.parameters).names, []
    constants = {*made.model.constants, *made.model.arrays}
    used = {name for item in made.random for name in (item.location, item.deviation) if isinstance(name, str)}
    noisy = [item for item in made.observables if isinstance(item, Observable)]
    used |= {item.noise_parameter for item in noisy if isinstance(item.noise_parameter, str)}
    for name in sorted(used.difference(names)):
        faults.append(f"{name!r} is no parameter. {did_you_mean(name, names)}")
    for name in names:
        if name not in made.model.constants and name not in used:
            faults.append(f"parameter {name!r} is no constant of {made.model.name!r} and moves nothing else")
    for item in made.random:
        if item.relative_to and item.relative_to not in made.entities:
            faults.append(f"random constant {item.name!r}: {item.relative_to!r} is no column of the entities")
    drawn = [variable_id(item.name) for item in made.random]
    for name in drawn:
        if name not in constants:
            faults.append(f"random constant {name!r} is not in the model. {did_you_mean(name, constants)}")
        if name in names or name in {variable_id(str(column)) for column in made.constants.columns}:
            faults.append(f"{name!r} is random and given as well; keep one")
    return faults


def _faults_of_observables(made: EnsembleSimulator) -> list[str]:
    faults = [] if made.observables else ["there is no observable; give one or more"]
    for item in made.observables:
        name = variable_id(_formula(item))
        if name not in made.model.variables and name not in made.model.arrays:
            faults.append(f"{name!r} is no variable of the model. {did_you_mean(name, made.model.variables)}")
        if isinstance(item, Observable) and item.noise not in NOISES:
            faults.append(f"observable {item.name!r} has noise {item.noise!r}; panels know {', '.join(NOISES)}")
        if isinstance(item, Observable) and item.kind not in _KINDS:
            faults.append(f"observable {item.name!r} is of kind {item.kind!r}; panels know {', '.join(_KINDS)}")
        if isinstance(item, Observable) and item.noise_parameter is None and item.noise != "poisson":
            faults.append(f"observable {item.name!r} has {item.noise} noise without a parameter; name one")
    return faults
