"""What to run: a table of members, and scenarios that all members share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import qmc

from villageflow.datasets.values import row_id
from villageflow.ensemble.quantiles import exponential, logarithm, triangular, truncated_normal
from villageflow.errors import DesignError, did_you_mean
from villageflow.ir.model import Model
from villageflow.names import variable_id
from villageflow.program.emit import check_names
from villageflow.units import same_unit

Floats: TypeAlias = npt.NDArray[np.float64]
Scenarios: TypeAlias = Mapping[str, Mapping[str, float]]
T = TypeVar("T")


@dataclass(frozen=True)
class Design:
    """A table of members, and optionally scenarios over it.

    Attributes
    ----------
    table : DataFrame
        One row for each member, one column for each varied parameter (canonical names). The table itself is the
        record: it can be stored and run again whatever drew it.
    scenarios : mapping of str to (mapping of str to float)
        Parameters that a scenario replaces, for every member alike (common random numbers). Empty: none.
    seed : int or None
        Seed that drew the table.
    kind : str
        How the table was made, for the record.
    units : mapping of str to str
        Units of the parameters, where the priors state them; compared with the model's when the design is run.
    """

    table: pd.DataFrame
    scenarios: Scenarios = field(default_factory=dict)
    seed: int | None = None
    kind: str = "table"
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = list(self.table.columns)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DesignError(f"the design table has two columns for {twice!r}; keep one")

    def __repr__(self) -> str:
        scenarios = f", scenarios {', '.join(self.scenarios)}" if self.scenarios else ""
        names = [str(name) for name in self.table.columns]
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        varied = f"{len(names)} parameters ({shown})" if names else "no parameter"
        return f"<villageflow.Design: {self.n_members} members, {varied}{scenarios}; {self.kind}>"

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(self.table)

    def rows(
        self,
        names: Sequence[str],
        changes: Mapping[str, float],
        model: Model,
        *,
        members: npt.NDArray[np.int64] | slice = slice(None),
    ) -> Floats:
        """Values of parameters for the members of a scenario.

        Parameters
        ----------
        names : sequence of str
            Parameters, in the order of the rows.
        changes : mapping of str to float
            What the scenario replaces.
        model : Model
            Gives the value of what neither the scenario nor the table has.
        members : array of int or slice
            Default all.

        Returns
        -------
        (n_parameters, n_members) array
        """
        columns = {name: self.table[name].to_numpy(dtype=float) for name in names if name in self.table.columns}
        n_members = len(members) if isinstance(members, np.ndarray) else len(range(*members.indices(self.n_members)))
        values = np.empty((len(names), n_members))
        for row, name in zip(values, names, strict=True):
            if name in changes:
                row[:] = changes[name]
            else:
                row[:] = columns[name][members] if name in columns else model.constants[name]
        return values

    @classmethod
    def lhs(cls, priors: pd.DataFrame, *, n: int, seed: int) -> Design:
        """Latin hypercube over priors.

        Parameters
        ----------
        priors : DataFrame
            Rows of ``parameters.csv``, see `quantile`. A column ``unit`` is compared with the model when it is run.
        n : int
            Number of members.
        seed : int
            Of the draw.

        Returns
        -------
        Design
        """
        _check_prior_table(priors, n, seed)
        sampler = qmc.LatinHypercube(d=len(priors), rng=np.random.default_rng(seed))
        table, units = _from_unit(priors, sampler.random(n)), units_of(priors)
        return cls(table, seed=seed, kind=f"latin hypercube, n = {n}", units=units)

    @classmethod
    def sobol(cls, priors: pd.DataFrame, *, n: int, seed: int) -> Design:
        """Scrambled Sobol points over priors; `n` must be a power of two."""
        _check_prior_table(priors, n, seed)
        if n & (n - 1):
            near = 2 ** n.bit_length()
            raise DesignError(f"a Sobol design has {n} members; it must be a power of two, such as {near}")
        sampler = qmc.Sobol(d=len(priors), rng=np.random.default_rng(seed))
        table, units = _from_unit(priors, sampler.random(n)), units_of(priors)
        return cls(table, seed=seed, kind=f"scrambled Sobol, n = {n}", units=units)

    @classmethod
    def draws(cls, priors: pd.DataFrame, *, n: int, seed: int) -> Design:
        """Independent draws from priors; member `i` stays the same when `n` grows."""
        _check_prior_table(priors, n, seed)
        streams = [np.random.SeedSequence(seed, spawn_key=(i,)) for i in range(n)]
        rows = np.array([np.random.default_rng(stream).random(len(priors)) for stream in streams])
        table, units = _from_unit(priors, rows.reshape(n, len(priors))), units_of(priors)
        return cls(table, seed=seed, kind=f"independent draws, n = {n}", units=units)

    @classmethod
    def grid(cls, **values: Sequence[float]) -> Design:
        """Every combination of the given values, the last parameter fastest."""
        names = [variable_id(name) for name in values]
        try:
            rows = [[float(value) for value in row] for row in itertools.product(*values.values())]
        except (TypeError, ValueError):
            raise DesignError("a grid takes a list of numbers for each parameter, such as x=[1, 2]") from None
        return cls(pd.DataFrame(rows, columns=names, dtype=float), kind="grid")

    @classmethod
    def from_frame(cls, table: pd.DataFrame) -> Design:
        """The rows of a table; columns are parameter names in any spelling."""
        if not isinstance(table, pd.DataFrame):
            raise DesignError(
                f"the members are a {type(table).__name__}; from_frame takes a DataFrame with one row for each member, "
                "and a dict goes straight to simulate"
            )
        names = [variable_id(str(name)) for name in table.columns]
        try:
            values = table.to_numpy(dtype=float)
        except (TypeError, ValueError) as error:
            raise DesignError(f"the design table holds a cell that is not a number ({error})") from None
        return cls(pd.DataFrame(values, columns=names))

    def with_scenarios(self, scenarios: Scenarios | pd.DataFrame) -> Design:
        """The same members under several scenarios.

        Parameters
        ----------
        scenarios : mapping or DataFrame
            Name to (parameter to value), or the rows of ``scenarios.csv``. A scenario without a parameter is the
            base case; in a table, a row with blank name and value. Changes limited to a span of time are refused: give
            the model a start time instead.

        Returns
        -------
        Design
        """
        if isinstance(scenarios, pd.DataFrame):
            scenarios = scenario_values(scenarios)
        changed: dict[str, dict[str, float]] = {}
        for scenario, values in scenarios.items():
            changed[scenario] = {variable_id(name): _number(value, scenario, name) for name, value in values.items()}
            if len(changed[scenario]) < len(values):
                raise DesignError(f"scenario {scenario!r} sets a parameter in two spellings; keep one")
        return replace(self, scenarios=changed)


_ONE_RUN: Final = Design(pd.DataFrame(index=range(1)), kind="one run")

DesignLike: TypeAlias = "Design | pd.DataFrame | Mapping[str, float | Sequence[float] | Floats] | None"


def as_design(design: DesignLike, model: Model) -> Design:
    """Convert what a caller gave into a `Design` whose names and values fit the model.

    Raises
    ------
    DesignError
        An unknown name, a name that is not a constant, a value that is not finite or lies outside the limits that
        the model declares, a unit that is not the model's, or columns of different length.
    """
    check_model(model)
    match design:
        case None:
            converted = _ONE_RUN
        case Design():
            converted = design
        case pd.DataFrame():
            converted = Design.from_frame(design)
        case Mapping():
            converted = Design.from_frame(_broadcast(design))
        case _:
            raise DesignError(f"a design is a {type(design).__name__}; give a Design, a DataFrame or a dict of values")
    if converted.n_members == 0:
        raise DesignError("the design has no member; give at least one row")
    converted = _over_elements(converted, model)
    check_names(model, [str(name) for name in converted.table.columns], ())
    for name in converted.table.columns:
        _check_values(model, str(name), converted.table[name].to_numpy(dtype=float), "member")
    _check_units(model, converted)
    for scenario, values in converted.scenarios.items():
        for name, value in values.items():
            try:
                check_names(model, [name], ())
            except DesignError as error:
                raise DesignError(f"scenario {scenario!r}: {error}") from None
            _check_values(model, name, np.array([value]), f"scenario {scenario!r}, value")
    return converted


def _over_elements(design: Design, model: Model) -> Design:
    """A parameter that names an array stands for each of its elements."""

    def spread(values: Mapping[str, T]) -> dict[str, T]:
        found: dict[str, T] = {}
        for name, value in values.items():
            array = model.arrays.get(str(name))
            ids = [str(name)] if array is None else [i for i in array.ids if i is not None]
            if twice := next((i for i in ids if i in found), None):
                raise DesignError(f"the design sets {twice!r} by the array and by the element; keep one")
            found |= dict.fromkeys(ids, value)
        return found

    if not any(name in model.arrays for name in (*design.table.columns, *itertools.chain(*design.scenarios.values()))):
        return design
    table = pd.DataFrame(spread(dict(design.table.items())), index=design.table.index)  # type: ignore[arg-type]
    scenarios = {scenario: spread(values) for scenario, values in design.scenarios.items()}
    return replace(design, table=table, scenarios=scenarios, units=spread(design.units))


def check_model(model: object) -> None:
    """Refuse what is no model, such as the path of one."""
    if not isinstance(model, Model):
        raise DesignError(
            f"the model is {model!r:.80}, a {type(model).__name__}; read the file first: villageflow.read_model(path), "
            "or villageflow.library.read(name) for a shipped one"
        )


def _broadcast(values: Mapping[str, float | Sequence[float] | Floats]) -> pd.DataFrame:
    columns = {}
    for name, value in values.items():
        try:
            columns[name] = np.atleast_1d(np.asarray(value, dtype=float))
        except (TypeError, ValueError):
            raise DesignError(f"{name!r} is {value!r}; a parameter is a number or a list of numbers") from None
        if columns[name].ndim != 1:
            raise DesignError(f"{name!r} has {columns[name].ndim} dimensions; a parameter has one value a member")
    lengths = {len(column) for column in columns.values()} - {1}
    if len(lengths) > 1:
        shown = ", ".join(f"{name} ({len(column)})" for name, column in columns.items())
        raise DesignError(f"parameters have different numbers of members: {shown}; use Design.grid for combinations")
    n = lengths.pop() if lengths else 1
    return pd.DataFrame({name: np.broadcast_to(column, n) for name, column in columns.items()}, index=range(n))


def _check_units(model: Model, design: Design) -> None:
    for name in map(str, design.table.columns):
        check_unit(model, name, design.units.get(name, ""))


def check_unit(model: Model, name: str, unit: str) -> None:
    """Refuse a unit of a parameter that is not the model's; one that is blank on either side is not compared."""
    own = model.variables[name].units
    if own and unit and not same_unit(own, unit):
        raise DesignError(
            f"the prior of {name!r} is in {unit!r}, model {model.name!r} has it in {own!r}; convert the bounds and the "
            "unit of the prior, or correct the unit"
        )


def _check_values(model: Model, name: str, values: Floats, what: str) -> None:
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DesignError(f"{name!r} is {values[bad]} at {what} {bad}; a parameter must be a finite number")
    lower, upper = model.variables[name].limits
    low, high = -math.inf if lower is None else lower, math.inf if upper is None else upper
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        bad = int(outside[0])
        raise DesignError(
            f"{name!r} is {float(values[bad])!r} at {what} {bad}, outside the limits [{low:g}, {high:g}] that model "
            f"{model.name!r} declares; choose a value within them"
        )


def scenario_values(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Rows of ``scenarios.csv`` as scenario -> parameter -> value, in file order."""
    scenarios: dict[str, dict[str, float]] = {}
    for row in table.to_dict("records"):
        scenario = str(row["scenario"])
        values = scenarios.setdefault(scenario, {})
        if any(pd.notna(row.get(column)) and row.get(column) != "" for column in ("from_time", "to_time")):
            raise DesignError(
                f"scenario {scenario!r} limits {row['name']!r} to a span of time, which is not supported; "
                "give the model a start time as a parameter"
            )
        value = row.get("value")
        if pd.isna(row.get("name")) or not str(row["name"]):
            if pd.notna(value) and str(value):
                raise DesignError(f"scenario {scenario!r} sets {value!r} without a name; name the parameter")
        else:
            name = row_id(row)
            if name in values:
                raise DesignError(f"scenario {scenario!r} sets {name!r} twice; keep one row")
            values[name] = _number(value, scenario, name)
    return scenarios


def _number(value: object, scenario: str, name: str) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DesignError(f"scenario {scenario!r} sets {name!r} to {value!r}; a parameter is one number") from None


_PRIOR_COLUMNS = ("name", "lower", "mode", "upper", "distribution")


def _check_prior_table(priors: pd.DataFrame, n: int, seed: int) -> None:
    if not isinstance(priors, pd.DataFrame):
        raise DesignError(
            f"the priors are a {type(priors).__name__}; give a DataFrame with the rows of a parameters.csv, as "
            'villageflow.datasets.read_table(path, "parameters") reads it (docs/tables.md)'
        )
    if n < 1:
        raise DesignError(f"a design has {n} members; it needs at least 1")
    if seed < 0:
        raise DesignError(f"seed is {seed}; it must be at least 0")
    if missing := [column for column in _PRIOR_COLUMNS if column not in priors.columns]:
        raise DesignError(f"the priors have no column {missing[0]!r}; they need {', '.join(_PRIOR_COLUMNS)}")
    if not len(priors):
        raise DesignError("the priors have no row; give at least one parameter")


def _from_unit(priors: pd.DataFrame, unit: Floats) -> pd.DataFrame:
    columns: dict[str, Floats] = {}
    for position, (_, row) in enumerate(priors.iterrows()):
        name = row_id(row)
        if name in columns:
            raise DesignError(f"the priors have two rows for {name!r}; keep one")
        columns[name] = quantile(row, unit[:, position])
    return pd.DataFrame(columns)


def units_of(priors: pd.DataFrame) -> dict[str, str]:
    """Units of the parameters, by canonical name, where the priors state them."""
    if "unit" not in priors.columns:
        return {}
    return {row_id(row): str(row["unit"]) for row in priors.to_dict("records") if pd.notna(row["unit"])}


def quantile(prior: pd.Series, probability: Floats) -> Floats:
    """Quantiles of a prior.

    Parameters
    ----------
    prior : Series
        With ``name, lower, mode, upper, distribution``. ``uniform`` and ``triangular`` lie on [lower, upper];
        ``loguniform`` is uniform in the logarithm; the two uniform ones do not use the mode. ``normal`` and
        ``lognormal`` (normal in the logarithm) are centred on the mode with a standard deviation of
        (upper - lower) / 3.92 on that scale, and truncated to [lower, upper]: the median is the mode only where the
        mode is in the middle. Equal bounds are a fixed value.
    probability : (n,) array
        In [0, 1].

    Returns
    -------
    (n,) array
        Always within [lower, upper].
    """
    kind, name = str(prior["distribution"]), prior["name"]
    peaked = kind not in ("uniform", "loguniform")
    try:
        lower, upper = float(prior["lower"]), float(prior["upper"])
        mode = float(prior["mode"]) if peaked else math.nan
    except (TypeError, ValueError):
        raise DesignError(f"parameter {name!r} has a bound or mode that is not a number") from None
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise DesignError(f"parameter {name!r} has the bounds {lower:g} and {upper:g}; they must be finite numbers")
    if not lower <= upper:
        raise DesignError(f"parameter {name!r} has lower bound {lower:g} above its upper bound {upper:g}")
    if lower == upper:
        return np.full_like(probability, lower)
    if peaked and not lower <= mode <= upper:
        raise DesignError(f"parameter {name!r} has mode {mode:g} outside its bounds [{lower:g}, {upper:g}]")
    if kind in ("loguniform", "lognormal"):
        if lower <= 0:
            raise DesignError(f"parameter {name!r} is {kind} with lower bound {lower:g}; it must be above 0")
        logs = logarithm(lower), logarithm(mode) if kind == "lognormal" else math.nan, logarithm(upper)
        values = exponential(_on_scale(kind.removeprefix("log"), *logs, probability))
    else:
        values = _on_scale(kind, lower, mode, upper, probability)
    return np.clip(values, lower, upper)


_DISTRIBUTIONS = ("uniform", "loguniform", "triangular", "normal", "lognormal")


def _on_scale(kind: str, lower: float, mode: float, upper: float, probability: Floats) -> Floats:
    width = upper - lower
    match kind:
        case "uniform":
            return lower + width * probability
        case "triangular":
            return triangular(probability, lower, mode, upper)
        case "normal":
            return truncated_normal(probability, lower, mode, upper, width / 3.92)
    raise DesignError(f"distribution {kind!r} is not known. {did_you_mean(kind, _DISTRIBUTIONS)}")
