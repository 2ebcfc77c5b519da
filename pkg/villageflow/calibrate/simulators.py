"""Panels from a model: a `Simulator` for indirect inference that runs all parameters, panels and entities together.

Where a model draws nothing itself, noise is put on what it says; where it draws (entries one by one, say), its own
numbers are common to all parameter vectors. Both kinds of draw are quantiles at uniform numbers that are made once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.descent import box_of
from villageflow.calibrate.draws import NOISES, Cells, RandomConstant, is_number, noise_fault, noisy
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import checked_seed, whole
from villageflow.ensemble.design import Design, as_design
from villageflow.ensemble.noise import NoiseLike, as_noise
from villageflow.ensemble.runs import Ensemble
from villageflow.ensemble.simulate import available_threads, integration_method, run_settings, time_grid
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.integrate.drive import run_program
from villageflow.integrate.methods import ADAPTIVE
from villageflow.ir.model import Model
from villageflow.names import variable_id

Bools: TypeAlias = npt.NDArray[np.bool_]
Selection: TypeAlias = Callable[[pd.DataFrame, Floats], Bools]

_KINDS: Final = ("level", "count", "share", "net_flow")
_MAX_BYTES: Final = 2**28
"""Of saved paths at once; more parameter vectors are run in turn, which moves no bit."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsembleSimulator:
    """Simulated panels of a model for `villageflow.calibrate.indirect.indirect_inference`.

    Parameters
    ----------
    model : Model
    parameters : DataFrame
        Rows with name, scale, lower, upper, as for `indirect_inference`: constants of the model, deviations and
        locations of `random`, noise parameters of `observables`, whose bounds must fit what they are.
    entities : DataFrame
        Indexed by entity, one row for each candidate. Columns ``lane`` and ``element``, if given, say in which run and
        which element of the arrays an entity lives; without them each entity is a run of its own. A lane's entities
        need not be next to each other. All other columns are labels that every row of a panel gets.
    times : tuple of float
        Of the panel, increasing; saved times of the model.
    observables : tuple of Observable or str
        Columns of the panel: a variable with noise (normal, lognormal, poisson, negbinomial), or the name of a
        variable that is read as it is. ``net_flow`` is the change since the time before, missing at the first. Noise
        parameters are above 0; ``centred`` is not simulated.
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

    Raises
    ------
    CalibrationError
        Arguments of another type, what names nothing, or what is given twice: a parameter in `constants`, two
        observables of one name, a random constant that is also given.

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
        for name in ("times", "observables", "random"):
            given = getattr(self, name)
            one = is_number(given) or isinstance(given, str | Observable | RandomConstant)
            object.__setattr__(self, name, (given,) if one else tuple(given) if isinstance(given, list) else given)
        _check_types(self)
        _check(self)

    def panels(self, values: Floats) -> list[list[pd.DataFrame]]:
        """S panels for each row of an (n, p) array of natural values, columns in the order of `parameters`.

        Raises
        ------
        CalibrationError
            Another shape, a value that is not finite, or one that its random constant or noise cannot have.
        """
        columns = self.columns(values)
        kept = None if self.selection is None else self._kept(next(iter(columns.values())))
        return [
            [self._panel({name: cells[i, s] for name, cells in columns.items()}, None if kept is None else kept[i, s])
             for s in range(self.n_simulations)]
            for i in range(len(next(iter(columns.values()))))
        ]  # fmt: skip

    def columns(self, values: Floats) -> dict[str, Floats]:
        """What `panels` has before selection, by observable: (n, S, entity, time) arrays."""
        values = self._checked(values)
        paths = self._paths(values)
        return {
            _name(item): self._observed(item, position, paths[variable_id(_formula(item))], values)
            for position, item in enumerate(self.observables)
        }

    def _checked(self, values: object) -> Floats:
        """Parameter vectors that can be simulated."""
        names = self._box.names
        try:
            found = np.asarray(values, dtype=float)
        except (TypeError, ValueError):
            raise CalibrationError(f"values are {values!r}; give an (n, {len(names)}) array of numbers") from None
        if found.ndim != 2 or found.shape[1] != len(names) or not len(found):
            raise CalibrationError(
                f"values have the shape {found.shape}; give an (n, {len(names)}) array, one or more rows of "
                f"{', '.join(names)}"
            )
        if not np.isfinite(found).all():
            row, j = np.argwhere(~np.isfinite(found))[0]
            raise CalibrationError(f"row {row} of the values has {names[j]} = {found[row, j]:g}; give a finite number")
        if faults := _faults_of_values(self, found):
            raise CalibrationError("; ".join(faults))
        return found

    # --- runs ----------------------------------------------------------------------------------------------------

    @cached_property
    def _box(self) -> Box:
        return box_of(self.parameters)

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
            drawn = cells.relative(item.values(location, deviation, cells.normal))
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
    def _cells(self) -> list[Cells]:
        """Where each random constant is drawn, with its numbers."""
        found = []
        for position, item in enumerate(self.random):
            scalars = np.array(self._scalars(variable_id(item.name)), dtype=object)
            group = pd.factorize(self.entities[item.relative_to])[0] if item.relative_to else None
            rng = self._rng(0, position)
            found.append(Cells.of(self._place, scalars, group=group, rng=rng, n_simulations=self.n_simulations))
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
        return noisy(item, paths, parameter, self._rng(1, position), smooth=self.smooth)

    def _kept(self, values: Floats) -> Bools:
        assert self.selection is not None
        masks = [np.asarray(self.selection(self.entities, panel)) for row in values for panel in row]
        for mask in masks:
            if mask.dtype != bool or mask.shape != (len(self.entities),):
                raise CalibrationError(
                    f"selection gave {mask.dtype} values of shape {mask.shape}; it must give True or False for each of "
                    f"{len(self.entities)} entities"
                )
        return np.reshape(masks, (*values.shape[:2], len(self.entities)))

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


def _check_types(made: EnsembleSimulator) -> None:
    """Refuse arguments that are not what they should be, before anything is read from them."""
    rules: tuple[tuple[str, Any, str], ...] = (
        ("model", Model, "a model, as read_model gives it"),
        ("entities", pd.DataFrame, "a DataFrame indexed by entity"),
        ("times", tuple, "a tuple of times"),
        ("observables", tuple, "a tuple of observables or names of variables"),
        ("constants", pd.DataFrame, "a DataFrame indexed by lane"),
        ("inputs", Mapping, "a mapping from names to DataFrames"),
        ("random", tuple, "a tuple of RandomConstants"),
        ("selection", Callable | None, "a function of entities and values, or None"),
        ("known", pd.DataFrame | None, "a DataFrame indexed (entity, time), or None"),
        ("smooth", bool, "True or False"),
    )
    for name, kind, words in rules:
        given = getattr(made, name)
        if not isinstance(given, kind):
            raise CalibrationError(f"{name} is a {type(given).__name__}; give {words}")
    if others := [item for item in made.random if not isinstance(item, RandomConstant)]:
        raise CalibrationError(f"random has a {type(others[0]).__name__}; give RandomConstants")
    for item in made.observables:
        named = (item.name, item.formula) if isinstance(item, Observable) else (item,)
        if not all(isinstance(name, str) and name.strip() for name in named):
            raise CalibrationError(f"observables has {item!r}; give Observables, or names of variables")
        noise = item.noise_parameter if isinstance(item, Observable) else None
        if not (noise is None or isinstance(noise, str) or is_number(noise)):
            raise CalibrationError(f"observable {named[0]!r} has noise parameter {noise!r}; give a number or a name")
    if wrong := [time for time in made.times if not is_number(time) or not np.isfinite(time)]:
        raise CalibrationError(f"times has {wrong[0]!r}; give finite numbers")
    for name, table in (("entities", made.entities), ("constants", made.constants), ("known", made.known)):
        if table is not None and (double := _twice(table.columns)):
            raise CalibrationError(f"{name} has column {double[0]!r} twice; keep one")
    for name in ("lane", "element"):
        if name in made.entities and (blank := made.entities[name].isna()).any():
            raise CalibrationError(f"entities has no {name} for {made.entities.index[blank][0]!r}; give it one")
        if name in made.entities and not made.entities[name].map(pd.api.types.is_hashable).all():
            raise CalibrationError(f"entities has a {name} that is no plain label; give texts or numbers")
    if strange := [name for name in made.inputs if not isinstance(name, str)]:
        raise CalibrationError(f"inputs has the name {strange[0]!r}; give names of variables as text")
    box_of(made.parameters)
    whole("n_simulations", made.n_simulations, 1)
    checked_seed(made.seed)


def _check(made: EnsembleSimulator) -> None:
    """Refuse what does not fit together, at once."""
    faults = [*_faults_of_entities(made), *_faults_of_lanes(made), *_faults_of_names(made)]
    faults += [*_faults_of_observables(made), *_faults_of_times(made)]
    if not faults:
        box = made._box
        faults += _faults_of_values(made, np.array([box.lower, box.upper]))
    if made.unselected not in ("drop", "blank"):
        faults.append(f"unselected is {made.unselected!r}; use drop or blank")
    if faults:
        raise CalibrationError("; ".join(faults))


def _faults_of_times(made: EnsembleSimulator) -> list[str]:
    faults = []
    if integration_method(made.model, made.method) == ADAPTIVE:
        faults.append(f"method is {made.method or made.model.method!r}; panels need fixed steps: give euler or rk4")
    if not made.times or (np.diff(made.times) <= 0).any():
        faults.append(f"times is {made.times}; give one or more times, increasing and each once")
    saves = time_grid(made.model, time_step=made.time_step).save_times()
    if absent := [time for time in made.times if not np.isclose(saves, time).any()]:
        faults.append(f"time {absent[0]:g} is no saved time of {made.model.name!r}; choose one of {saves[0]:g}, ...")
    return faults


def _faults_of_values(made: EnsembleSimulator, values: Floats) -> list[str]:
    """Of parameter vectors that random constants or noise cannot have."""
    faults = []
    for constant in made.random:
        faults.append(constant.fault("location", made._one(constant.location, values)))
        faults.append(constant.fault("deviation", made._one(constant.deviation, values)))
    for item in made.observables:
        if isinstance(item, Observable) and item.noise_parameter is not None:
            faults.append(noise_fault(item, made._one(item.noise_parameter, values)))
    return [fault for fault in faults if fault]


def _faults_of_entities(made: EnsembleSimulator) -> list[str]:
    entities, faults = made.entities, []
    if not len(entities) or not entities.index.is_unique or entities.index.nlevels > 1:
        faults.append("entities needs one row for each of one or more entities, indexed by entity")
    drawn = [item.name for item in made.random]
    arrays = [name for name in (*map(_formula, made.observables), *drawn) if variable_id(name) in made.model.arrays]
    if arrays and "element" not in entities:
        faults.append(f"{arrays[0]!r} is an array; entities needs a column element")
    for name in arrays if "element" in entities else ():
        known = made.model.arrays[variable_id(name)].ids
        if absent := [at for at in pd.unique(entities["element"]) if variable_id(f"{name}[{at}]") not in known]:
            faults.append(f"entities has element {absent[0]!r}, which {name!r} lacks; use elements of the array")
    for item in made.random:
        if item.relative_to and item.relative_to not in entities:
            faults.append(f"random constant {item.name!r}: {item.relative_to!r} is no column of the entities")
        elif item.relative_to and entities[item.relative_to].isna().any():
            faults.append(f"random constant {item.name!r}: {item.relative_to!r} is blank for an entity; label all")
    if label := [name for name in map(_name, made.observables) if name in entities]:
        faults.append(f"{label[0]!r} is an observable and a column of the entities; rename one")
    if made.known is not None:
        faults += _faults_of_known(made, made.known)
    return faults


def _faults_of_known(made: EnsembleSimulator, known: pd.DataFrame) -> list[str]:
    names = [_name(item) for item in made.observables]
    if strange := [str(name) for name in known.columns if name not in names]:
        return [f"known has a column {strange[0]!r}, which is no observable. {did_you_mean(strange[0], names)}"]
    if known.index.nlevels != 2 or not known.index.is_unique:
        return ["known needs an index (entity, time) without repeats"]
    rows = pd.MultiIndex.from_product([made.entities.index, made.times])
    return [] if known.index.isin(rows).any() else ["known has no row of these entities and times; compare the labels"]


def _faults_of_lanes(made: EnsembleSimulator) -> list[str]:
    entities, constants, faults = made.entities, made.constants, []
    lanes = pd.Index(pd.unique(entities["lane"])) if "lane" in entities else entities.index
    if len(constants.columns) and len(absent := lanes.difference(constants.index)):
        faults.append(f"constants has no row for {absent[0]!r}; give every lane one")
    if double := _twice(constants.index):
        faults.append(f"constants has two rows for {double[0]!r}; keep one")
    for name, column in constants.items():
        if not np.isfinite(pd.to_numeric(column, errors="coerce")).all():
            faults.append(f"constants has a value of {name!r} that is no finite number; correct it")
    for name, given in made.inputs.items():
        if not isinstance(given, pd.DataFrame) or _twice(given.columns) or len(lanes.difference(given.columns)):
            faults.append(f"inputs for {name!r} needs a DataFrame indexed by time with a column for each lane")
    return faults


def _faults_of_names(made: EnsembleSimulator) -> list[str]:
    names, faults = made._box.names, []
    known = {*made.model.constants, *made.model.arrays}
    used = {name for item in made.random for name in (item.location, item.deviation) if isinstance(name, str)}
    noisy_items = [item for item in made.observables if isinstance(item, Observable)]
    used |= {item.noise_parameter for item in noisy_items if isinstance(item.noise_parameter, str)}
    for name in sorted(used.difference(names)):
        faults.append(f"{name!r} is no parameter. {did_you_mean(name, names)}")
    for name in names:
        if name not in made.model.constants and name not in used:
            faults.append(f"parameter {name!r} is no constant of {made.model.name!r} and moves nothing else")
    drawn = [variable_id(item.name) for item in made.random]
    strange = [name for name in drawn if name not in known]
    faults += [f"random constant {name!r} is not in the model. {did_you_mean(name, known)}" for name in strange]
    arrays = made.model.arrays
    scalars = [str(one) for name in drawn for one in (arrays[name].ids if name in arrays else (name,))]
    columns = [variable_id(str(column)) for column in made.constants.columns]
    faults += [f"{name!r} is random twice; keep one" for name in _twice(scalars)]
    faults += [f"constants has {name!r} twice, in two spellings; keep one" for name in _twice(columns)]
    for name in dict.fromkeys(scalars):
        if name in names or name in columns:
            faults.append(f"{name!r} is random and given as well; keep one")
    faults += [f"{name!r} is a parameter and a column of constants; keep one" for name in columns if name in names]
    return faults


def _faults_of_observables(made: EnsembleSimulator) -> list[str]:
    faults = [] if made.observables else ["there is no observable; give one or more"]
    faults += [f"two observables have the name {name!r}; rename one" for name in _twice(map(_name, made.observables))]
    for item in made.observables:
        name = variable_id(_formula(item))
        if name not in made.model.variables and name not in made.model.arrays:
            faults.append(f"{name!r} is no variable of the model. {did_you_mean(name, made.model.variables)}")
        if isinstance(item, str):
            continue
        if item.noise not in NOISES:
            faults.append(f"observable {item.name!r} has noise {item.noise!r}; panels know {', '.join(NOISES)}")
        if item.kind not in _KINDS:
            faults.append(f"observable {item.name!r} is of kind {item.kind!r}; panels know {', '.join(_KINDS)}")
        if item.noise_parameter is None and item.noise != "poisson":
            faults.append(f"observable {item.name!r} has {item.noise} noise without a parameter; name one")
        if item.noise_parameter is not None and item.noise == "poisson":
            faults.append(f"observable {item.name!r} has poisson noise with a parameter; leave it out")
        if item.centred:
            faults.append(f"observable {item.name!r} is centred; panels have levels of their own: leave it out")
    return faults


def _twice(labels: Iterable[Any]) -> list[Any]:
    """What is there more than once, in order."""
    return [label for label, count in Counter(labels).items() if count > 1]
