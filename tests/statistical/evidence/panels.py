"""Panels drawn from a system: who is measured, when, with which errors, and the problem that a user would declare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

import villageflow as vf
from evidence.systems import SPREAD, System, model_of
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.ensemble.schema import FINISHED, STATUS

Floats = npt.NDArray[np.float64]
DIFFERENCE = 0.4
"""Standard deviation of the logarithm of the entities' initial conditions."""


@dataclass(frozen=True)
class Design:
    """How panels of a system are drawn and what is fitted to them.

    Attributes
    ----------
    system : System
    n_entities : int
        One has the median initial conditions; several bring their own.
    n_times : int
    save : float
        Years from one measurement to the next; the first is at ``save``.
    persistence : float
        Of errors of measurement within an entity, a stationary first-order autregression in each observable.
    effect : float
        Standard deviation of the logarithm of `System.own` over entities; 0 where all have the same.
    free : tuple of str
        Structural parameters that are fitted, all if empty; others are fixed at the truth.
    measured : tuple of str
        Observables, all if empty.
    noise_known : bool
        The standard deviation of the errors is given.
    """

    system: System
    n_entities: int = 1
    n_times: int = 12
    save: float = 1.0
    persistence: float = 0.0
    effect: float = 0.0
    free: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    noise_known: bool = False

    @property
    def times(self) -> Floats:
        """Times of measurement, (n_times,)."""
        return self.save * np.arange(1.0, self.n_times + 1)

    @property
    def observables(self) -> tuple[tuple[str, str], ...]:
        """Variables that are measured, with their units."""
        return tuple(item for item in self.system.observables if not self.measured or item[0] in self.measured)

    @property
    def truth(self) -> dict[str, float]:
        """True values of what is fitted, in the order of the parameter table; of an effect the median."""
        chosen = {name: value for name, value in self.system.truth.items() if not self.free or name in self.free}
        return chosen if self.noise_known else {**chosen, "spread": SPREAD}

    def table(self) -> pd.DataFrame:
        """The parameter table of what is fitted."""
        rows = [row for row in self.system.parameters if row[0] in self.truth]
        rows += [] if self.noise_known else [("spread", SPREAD, SPREAD / 8, SPREAD * 8)]
        table = pd.DataFrame(rows, columns=["name", "truth", "lower", "upper"]).drop(columns="truth")
        return table.assign(scale="log", effect="shared")

    def entities(self, rng: np.random.Generator) -> pd.DataFrame:
        """Initial conditions and own value of each entity, indexed by entity; medians for a single one."""
        size = self.n_entities
        spread = DIFFERENCE if size > 1 else 0.0
        columns = {name: middle * np.exp(spread * rng.normal(size=size)) for name, middle in self.system.starts}
        own = self.system.truth[self.system.own] * np.exp(self.effect * rng.normal(size=size))
        return pd.DataFrame({**columns, self.system.own: own}, index=[f"v{i}" for i in range(size)])

    def paths(self, constants: pd.DataFrame) -> Floats:
        """Simulated values (row of constants, observable, time); NaN for a run that did not stay finite."""
        names = [name for name, _ in self.observables]
        model = model_of(self.system.name, self.save)
        runs = vf.simulate(model, constants, save=names, method="rk4", errors="flag")
        kept = np.searchsorted(runs["time"].to_numpy(), self.times - 1e-9)
        found = np.stack([runs[name].to_numpy()[:, kept] for name in names], axis=1)
        found[runs[STATUS].to_numpy() != FINISHED] = np.nan
        return found

    def errors(self, rng: np.random.Generator, size: int) -> Floats:
        """Standard normal errors (size, observable, time) with the persistence of the design."""
        drawn = rng.normal(size=(size, len(self.observables), self.n_times))
        for t in range(1, self.n_times):
            fresh = np.sqrt(1 - self.persistence**2) * drawn[..., t]
            drawn[..., t] = self.persistence * drawn[..., t - 1] + fresh
        return drawn

    def problem(self, rng: np.random.Generator) -> Problem:
        """A problem with measurements drawn at the truth."""
        who = self.entities(rng)
        values = self.paths(who) * np.exp(SPREAD * self.errors(rng, self.n_entities))
        names = [name for name, _ in self.observables]
        index = pd.MultiIndex.from_product([who.index, names, self.times], names=["entity", "observable", "time"])
        rows = pd.DataFrame({"value": values.ravel()}, index=index).reset_index()
        truth = self.system.truth
        brought = who.drop(columns=self.system.own).rename_axis("entity").reset_index().melt("entity", var_name="name")
        single = self.n_entities == 1
        return Problem(
            model=model_of(self.system.name, self.save), parameters=self.table(), method="rk4",
            observables=tuple(
                Observable(name, name, "level", "lognormal", SPREAD if self.noise_known else "spread", unit)
                for name, unit in self.observables
            ),
            measurements=rows.assign(comparator="=", source_id="simulated"),
            covariates=pd.DataFrame(columns=["entity", "name", "time", "value", "source_id"]) if single
            else brought.assign(time=np.nan, source_id="simulated"),
            fixed={name: value for name, value in truth.items() if name not in self.truth},
        )
