"""Predictive distributions of panels, as joint draws: of fitted entities, of new ones, and of sums over entities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logsumexp

from villageflow.calibrate.checks import COVARIATES, checked_covariates
from villageflow.calibrate.drawn import Fitted, check_fitted, check_problem, entity_values, stream
from villageflow.calibrate.likelihood import NOISE, Observable, noise_of_rows
from villageflow.calibrate.predict import LEVELS, measured
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scales import Floats
from villageflow.calibrate.settings import checked_seed, share, whole
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.names import variable_id

N_DRAWS: Final = 1000
_NOISE, _LEVEL = 2, 3
_KEYS: Final = ("entity", "observable", "time", "from_time")


@dataclass(frozen=True, eq=False)
class Draws:
    """Joint draws of quantities: a column is one draw of the parameters and effects of all entities together.

    Attributes
    ----------
    rows : DataFrame
        What is drawn: entity, observable, time and, with net flows, from_time.
    fitted : (len(rows), n_draws) array
        The quantity as the model gives it, in units of the observable: error of the parameters and effects alone. NaN
        where a run failed or left the support of the noise.
    observed : (len(rows), n_draws) array
        One new observation for each, with noise.
    """

    rows: pd.DataFrame
    fitted: Floats
    observed: Floats

    def __repr__(self) -> str:
        n, many = self.fitted.shape[1], self.rows["entity"].nunique()
        return f"<villageflow.{type(self).__name__}: {len(self.rows)} rows of {many} entities, {n} draws>"

    def quantiles(self, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
        """Quantiles of the fitted value and of a new observation.

        Parameters
        ----------
        levels : sequence of float
            Between 0 and 1.

        Returns
        -------
        DataFrame
            The rows with ``fitted_q05``... and ``q05``..., and ``failed``: the share of draws without a value, which
            the quantiles leave out. NaN where every draw failed.

        Raises
        ------
        CalibrationError
            If a level is out of range, or there is none.
        """
        given: object = levels
        if isinstance(given, str) or not isinstance(given, Iterable) or not (each := list(given)):
            raise CalibrationError(f"levels is {given!r}; give a sequence of numbers, such as (0.05, 0.5, 0.95)")
        levels = [share("level", level) for level in each]
        names, table = [_label(level) for level in levels], self.rows.copy()
        for before, drawn in (("fitted_", self.fitted), ("", self.observed)):
            found = np.full((len(drawn), len(names)), np.nan)
            for row, values in enumerate(drawn):
                alive = values[np.isfinite(values)]
                if len(alive):
                    found[row] = np.quantile(alive, levels)
            table[[before + name for name in names]] = found
        return table.assign(failed=1 - np.isfinite(self.observed).mean(axis=1))

    def total(self, name: str = "total") -> Draws:
        """Sums over entities, draw by draw, for each observable and time.

        Parameters
        ----------
        name : str
            Of the sum, in the column ``entity``.

        Returns
        -------
        Draws
            Parameters that entities share move their sum together; effects and noise of entities are independent. A
            draw that failed for one entity has no sum.

        Raises
        ------
        CalibrationError
            If the sums of two times would be of different entities.
        """
        keys = [key for key in _KEYS[1:] if key in self.rows]
        members: dict[str, tuple[float, set[str]]] = {}
        number = self.rows.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
        rows, parts = [], []
        for group in range(number.max() + 1):
            at = np.flatnonzero(number == group)
            row = {key: self.rows[key].iloc[at[0]] for key in keys}
            own = set(self.rows["entity"].iloc[at])
            first, known = members.setdefault(str(row["observable"]), (row["time"], own))
            if own != known:
                other = sorted(own ^ known)[0]
                raise CalibrationError(
                    f"the sum of {row['observable']!r} has {other!r} at one of the times {first:g} and {row['time']:g} "
                    "alone; predict all times for the same entities"
                )
            rows.append({"entity": name, **row})
            parts.append([drawn[at].sum(axis=0) for drawn in (self.fitted, self.observed)])
        sums = np.array(parts)
        return Draws(pd.DataFrame(rows), sums[:, 0], sums[:, 1])


@dataclass(frozen=True, eq=False, repr=False)
class Forecast(Draws):
    """Predictive distribution of measurements, as `forecast` gives it.

    Attributes
    ----------
    noise : (len(rows), n_draws) array
        Noise parameter of each draw; NaN where the family has none.
    families : tuple of str
        Family of noise of each row.
    """

    noise: Floats
    families: tuple[str, ...]

    def log_scores(self, values: Floats) -> Floats:
        """Log predictive density of measured values, (len(rows),): the density averaged over the draws.

        A draw that failed counts as density zero. Each value alone: the joint density of several is another number.
        """
        found = np.empty(len(self.rows))
        for row, (family, value) in enumerate(zip(self.families, measured(values, len(found)), strict=True)):
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                terms = NOISE[family].log_density(np.array(value), self.fitted[row], self.noise[row])
            terms = np.where(np.isnan(terms), -np.inf, terms)
            found[row] = logsumexp(terms) - np.log(len(terms)) if np.isfinite(terms).any() else -np.inf
        return found


def _label(level: float) -> str:
    text = f"{100 * level:g}"
    return f"q0{text}" if level < 0.1 else f"q{text}"


@dataclass(frozen=True, eq=False, kw_only=True)
class _Lanes(Problem):
    """The model of a problem with a lane for each of some entities, whether or not anything of them is measured."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Nothing but the covariates has changed."""
        object.__setattr__(self, "covariates", checked_covariates(self))

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """The named ones."""
        return self.names


def forecast(
    problem: Problem,
    result: Fitted,
    rows: pd.DataFrame,
    *,
    seed: int,
    n_draws: int = N_DRAWS,
    covariates: pd.DataFrame | None = None,
    means: pd.DataFrame | None = None,
) -> Forecast:
    """Predict measurements of entities, with the error of the parameters and with noise.

    Parameters
    ----------
    problem : Problem
        What was fitted.
    result : FitResult, RandomEffectsResult or FixedEffectsResult
        Its fit.
    rows : DataFrame
        What to predict: entity, observable, time and, for net flows, from_time; any saved time of the model, also
        beyond the last measurement. An entity that the problem does not measure is new.
    seed : int
        Of all draws. Those of an entity do not depend on the other rows nor on their order.
    n_draws : int
        Joint draws of parameters, effects and noise.
    covariates : DataFrame, optional
        What the new entities bring with them, in the form of ``problem.covariates``, which has those of the others. A
        series must reach the last time that is predicted: it is taken as known.
    means : DataFrame, optional
        Entity means of correlated random effects, indexed by entity; of new entities too.

    Returns
    -------
    Forecast

    Raises
    ------
    CalibrationError
        A row that the model cannot give, a covariate that is missing, means that are no numbers, a result of another
        verb, a fit without covariance, or a centred observable of a new entity, whose level nobody knows.

    Notes
    -----
    Parameters are drawn from the normal approximation on their scale, within their bounds, with the covariance of the
    fit: clustered by entity for random and fixed effects. For each of these draws the random effects of a fitted
    entity are drawn from their distribution given its measurements (mode and curvature, found again for every draw of
    the parameters), those of a new one from the population. Fixed effects of a fitted entity follow the joint Hessian;
    a new entity is drawn from a normal distribution with mean and covariance of the effects, which are wider than
    those of the population by the error of the estimates. The level of a centred observable is drawn around its
    estimate from the entity's own measurements. Errors of an entity are taken as independent over time, and neither
    the error of the model's structure nor that of future covariates is in it.
    """
    check_problem(problem)
    check_fitted(result)
    seed, n_draws = checked_seed(seed), whole("n_draws", n_draws, 1)
    rows = _checked(problem, rows)
    names = tuple(sorted(set(rows["entity"]), key=str))
    lanes = _lanes(problem, names, covariates)
    values = entity_values(problem, result, names, n_draws=n_draws, seed=seed, means=means)
    known = _level_rows(problem, rows)
    found = lanes.locations(values, pd.concat([rows, known], ignore_index=True))
    fitted, noise = found[:, :len(rows)].T.copy(), noise_of_rows(lanes, values, rows).T
    kinds = {item.name: item for item in problem.observables}
    items = [kinds[name] for name in rows["observable"]]
    for at, item in enumerate(items):
        if item.centred:
            fitted[at] = _at_level(rows.iloc[at], item, fitted[at], known, found[:, len(rows):], noise[at], seed)
        fitted[at] = np.where(_inside(NOISE[item.noise].support, fitted[at]), fitted[at], np.nan)
    observed = _observed(rows, items, fitted, noise, seed)
    return Forecast(rows, fitted, observed, noise, tuple(item.noise for item in items))


def _checked(problem: Problem, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the columns and times that the model can give, as float64."""
    if not isinstance(rows, pd.DataFrame):
        raise CalibrationError(f"the rows to predict are a {type(rows).__name__}; give a DataFrame")
    for column in _KEYS[:3]:
        if column not in rows:
            raise CalibrationError(f"the rows to predict have no column {column!r}; they need {', '.join(_KEYS[:3])}")
    if not len(rows):
        raise CalibrationError("there is no row to predict; give at least one")
    found = _numbered(rows[[key for key in _KEYS if key in rows]].reset_index(drop=True))
    twice = found.duplicated()
    if twice.any():
        again = found[twice].iloc[0]
        raise CalibrationError(f"{again['observable']} of {again['entity']} at {again['time']:g} is asked for twice")
    kinds, times = {item.name: item for item in problem.observables}, problem.save_times
    for position, row in enumerate(found.to_dict("records")):
        where = f"row {position} to predict ({row['observable']} of {row['entity']} at {row['time']:g})"
        if row["observable"] not in kinds:
            raise CalibrationError(f"{where}: no such observable. {did_you_mean(str(row['observable']), kinds)}")
        start = row.get("from_time", np.nan)
        if (kinds[row["observable"]].kind == "net_flow") != bool(np.isfinite(start)) or start >= row["time"]:
            raise CalibrationError(f"{where}: from_time is {start:g}; net flows, and no others, need one before time")
        for time in (row["time"], start):
            if np.isfinite(time) and np.abs(times - time).min() > 1e-6:
                raise CalibrationError(
                    f"{where}: {time:g} is not a saved time of the model, which runs from {times[0]:g} to "
                    f"{times[-1]:g}; choose one that is, or let the model run longer"
                )
    return found


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with times as float64, none of them without entity, observable or time; from_time may be blank."""
    found = rows.copy()
    for column in rows:
        wrong = rows[column].isna()
        if column in ("time", "from_time"):
            found[column] = pd.to_numeric(rows[column], errors="coerce").astype(float)
            wrong = ~np.isfinite(found[column]) & (rows[column].notna() | (column == "time"))
        if wrong.any():
            at = int(np.argmax(wrong))
            given = rows[column].tolist()[at]
            raise CalibrationError(f"row {at} to predict: {column} is {given!r}; give it, or leave the row out")
    return found


def _lanes(problem: Problem, names: tuple[str, ...], covariates: pd.DataFrame | None) -> _Lanes:
    """Lanes of the named entities with the covariates of each."""
    brought = problem.covariates
    if covariates is not None:
        if not isinstance(covariates, pd.DataFrame) or not set(COVARIATES) <= set(covariates.columns):
            raise CalibrationError(f"covariates= needs to be a DataFrame with the columns {', '.join(COVARIATES)}")
        covariates = covariates.assign(name=[variable_id(str(name)) for name in covariates["name"]])
        twice = sorted(set(covariates["entity"]) & set(problem.entities))
        if twice:
            raise CalibrationError(f"the problem has the covariates of {twice[0]!r}; give those of new entities only")
        brought = pd.concat([part for part in (brought, covariates) if len(part)] or [brought], ignore_index=True)
    brought = brought[brought["entity"].isin(names)]
    for name in problem.covariates["name"].unique():
        missing = sorted(set(names) - set(brought.loc[brought["name"] == name, "entity"]))
        if missing:
            raise CalibrationError(f"the covariate {name!r} of the new entity {missing[0]!r} is missing; add it")
    own = {item.name: getattr(problem, item.name) for item in fields(Problem)}
    return _Lanes(**{**own, "covariates": brought}, names=names)


def _level_rows(problem: Problem, rows: pd.DataFrame) -> pd.DataFrame:
    """Measurements from which the levels of centred observables are known."""
    centred = {item.name for item in problem.observables if item.centred}
    known = problem.measurements[problem.measurements["observable"].isin(centred)]
    pairs = set(zip(known["entity"], known["observable"], strict=True))
    for entity, name in zip(rows["entity"], rows["observable"], strict=True):
        if name in centred and (entity, name) not in pairs:
            raise CalibrationError(
                f"observable {name!r} is centred and {entity!r} has no measurement of it, so its level is not known; "
                "leave the row out"
            )
    return known[known["entity"].isin(rows["entity"])].reset_index(drop=True)


def _at_level(
    row: pd.Series[Any], item: Observable, fitted: Floats, known: pd.DataFrame, paths: Floats, noise: Floats, seed: int
) -> Floats:
    """Fitted values (n,) at the level of the entity's measurements, whose error is that of their mean."""
    at = np.flatnonzero((known["entity"] == row["entity"]) & (known["observable"] == item.name))
    into, back = (np.log, np.exp) if item.noise == "lognormal" else (np.asarray, np.asarray)
    z = stream(seed, _LEVEL, str(row["entity"]), item.name).standard_normal(len(fitted))
    with np.errstate(invalid="ignore", divide="ignore"):
        level = (into(known["value"].to_numpy(dtype=float)[at]) - into(paths[:, at])).mean(axis=1)
        return np.asarray(back(into(fitted) + level + noise / np.sqrt(len(at)) * z))


def _observed(
    rows: pd.DataFrame, items: Sequence[Observable], fitted: Floats, noise: Floats, seed: int
) -> Floats:
    """A new observation of each row and draw, each row from a stream of its own."""
    found = np.full(fitted.shape, np.nan)
    for at, (row, item) in enumerate(zip(rows.to_dict("records"), items, strict=True)):
        alive, key = np.flatnonzero(np.isfinite(fitted[at])), f"{row['time']:.6f} {row.get('from_time', np.nan):.6f}"
        rng = stream(seed, _NOISE, str(row["entity"]), item.name, key)
        found[at, alive] = NOISE[item.noise].draw(rng, fitted[at, alive], noise[at, alive])
    return found


def _inside(support: str, fitted: Floats) -> npt.NDArray[np.bool_]:
    """Where noise can be drawn: a positive quantity or a count may be zero for certain."""
    if support == "real":
        return np.isfinite(fitted)
    if support == "unit":
        return (fitted > 0) & (fitted < 1)
    return np.isfinite(fitted) & (fitted >= 0)
