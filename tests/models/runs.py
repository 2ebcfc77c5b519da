"""Runs of a shipped model over one table of members: what the tests of reference modes and of quality are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd

import villageflow as vf
from villageflow import library

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.bool_]
Mode = Callable[["Runs"], Truth]
"""A statement about runs that can be false: one truth value for each member."""

N_DRAWS = 1000
KEPT = 8
SEED = 1


class Series(Mapping[str, Floats]):
    """Results of one ensemble: variable, or element such as ``stores[agent]``, -> (member, time) array."""

    def __init__(self, dataset: object) -> None:
        self._dataset = dataset
        self.time: Floats = dataset["time"].values  # type: ignore[index]
        self.finished: Truth = dataset["status"].values == -1  # type: ignore[index]

    def __getitem__(self, name: str) -> Floats:
        if name in self._dataset:  # type: ignore[operator]
            return self._dataset[name].values  # type: ignore[index]
        array, _, elements = name.removesuffix("]").partition("[")
        whole = self._dataset[array]  # type: ignore[index]
        return whole.sel(dict(zip(whole.dims[2:], elements.split(","), strict=True))).values

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._dataset.data_vars if name != "status")  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._dataset.data_vars) - 1  # type: ignore[attr-defined]

    def at(self, name: str, time: float) -> Floats:
        """Values at one saved time, for each member."""
        position = int(np.argmin(np.abs(self.time - time)))
        assert abs(self.time[position] - time) < 1e-9, f"{time} is not a saved time"
        return self[name][:, position]

    def span(self, name: str, start: float, end: float) -> Floats:
        """Values at the saved times from start to end, both included."""
        inside = (self.time >= start - 1e-9) & (self.time <= end + 1e-9)
        return self[name][:, inside]

    def end(self, name: str) -> Floats:
        """Values at the last saved time, for each member."""
        return self[name][:, -1]

    def change(self, name: str) -> Floats:
        """Values less those at the start."""
        return self[name] - self[name][:, :1]

    def integral(self, name: str, step: float) -> Floats:
        """Integral of a flow by Euler's rule since the start, at the saved times; every step must be saved."""
        flow = self[name]
        return np.concatenate([np.zeros_like(flow[:, :1]), np.cumsum(flow[:, :-1], axis=1) * step], axis=1)

    def peak_time(self, name: str) -> Floats:
        """Saved time of the highest value, for each member."""
        return self.time[self[name].argmax(axis=1)]


class Runs:
    """A model and a table of members; calling it runs all members with some constants changed.

    Parameters
    ----------
    name : str
        Of a shipped model.
    table : DataFrame
        A column for each constant that differs from the model file, a row for each member.
    saved : sequence of str
        Variables and elements that the results hold; empty for all.
    """

    def __init__(self, name: str, table: pd.DataFrame, saved: Sequence[str] = ()) -> None:
        self.name = name
        self.model = library.read(name)
        self.table = table
        self._saved = list(saved) or None
        self._cache: dict[object, Series] = {}
        self._archetypes: dict[str, Runs] = {}

    def __len__(self) -> int:
        return len(self.table)

    def forget(self) -> None:
        """Drop results: those of a thousand members under dozens of changes fill the memory."""
        self._cache.clear()
        self._archetypes.clear()

    def values(self, name: str) -> Floats:
        """Values of a constant over the members."""
        if name in self.table.columns:
            return self.table[name].to_numpy(dtype=float)
        return np.full(len(self.table), float(self.model.constants[name]))

    def archetype(self, name: str) -> Runs:
        """The same members with the values of an archetype in place of their own."""
        if name not in self._archetypes:
            table = self.table.copy()
            for constant, value in library.archetype(self.name, name).items():
                table[constant] = value
            self._archetypes[name] = Runs(self.name, table, self._saved or ())
        return self._archetypes[name]

    def __call__(
        self, changes: Mapping[str, float | Floats] | None = None, *, times: Mapping[str, float] | None = None,
        **more: float,
    ) -> Series:
        """Run with constants replaced (`changes`, by id, and keywords) or multiplied (`times`)."""
        changes = {**(changes or {}), **more}
        parts = [(name, np.asarray(value, dtype=float).tobytes()) for name, value in changes.items()]
        key = (tuple(sorted((times or {}).items())), tuple(sorted(parts)))
        if key not in self._cache:
            table = self.table.copy()
            for name, factor in (times or {}).items():
                table[name] = factor * self.values(name)
            for name, value in changes.items():
                table[name] = value
            design = vf.Design.from_frame(table)
            self._cache[key] = Series(vf.simulate(self.model, design, save=self._saved, errors="flag"))
            if len(self._cache) > KEPT:  # results of a thousand members are large; the first one is the plain run
                del self._cache[list(self._cache)[1]]
        return self._cache[key]


@cache
def base_runs(name: str, saved: tuple[str, ...] = ()) -> Runs:
    """One member at the values of the model file."""
    constants = library.read(name).constants
    first = next(constant for constant in constants)
    return Runs(name, pd.DataFrame({first: [float(constants[first])]}), saved)


@cache
def prior_runs(name: str, saved: tuple[str, ...] = ()) -> Runs:
    """Draws from the prior, the same for every test."""
    return Runs(name, vf.Design.lhs(library.priors(name), n=N_DRAWS, seed=SEED).table, saved)
