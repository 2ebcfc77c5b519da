"""Fixtures that run the shipped models, once at their own values and once over draws from their priors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import villageflow as vf

MODELS = ("village_cluster", "national_diffusion")
N_DRAWS = 1000

Floats = npt.NDArray[np.float64]


class Series(Mapping[str, Floats]):
    """Results of one ensemble: name -> (member, time) array, with look-up by time."""

    def __init__(self, dataset: object) -> None:
        self._dataset = dataset
        self.time: Floats = dataset["time"].values  # type: ignore[index]

    def __getitem__(self, name: str) -> Floats:
        if name in self._dataset:  # type: ignore[operator]
            return self._dataset[name].values  # type: ignore[index]
        array, _, element = name.removesuffix("]").partition("[")
        whole = self._dataset[array]  # type: ignore[index]
        return whole.sel({whole.dims[-1]: element}).values

    def __iter__(self):
        return iter(self._dataset.data_vars)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._dataset.data_vars)  # type: ignore[attr-defined]

    def at(self, name: str, time: float) -> Floats:
        """Values at one saved time, for each member."""
        position = int(np.argmin(np.abs(self.time - time)))
        assert abs(self.time[position] - time) < 1e-9, f"{time} is not a saved time"
        return self[name][:, position]

    def span(self, name: str, start: float, end: float) -> Floats:
        """Values at the saved times from start to end, both included."""
        inside = (self.time >= start - 1e-9) & (self.time <= end + 1e-9)
        return self[name][:, inside]


class Runs:
    """A model and a table of members; calling it runs all members with some constants changed."""

    def __init__(self, name: str, table: pd.DataFrame) -> None:
        self.name = name
        self.model = vf.library.read(name)
        self.table = table
        self._cache: dict[object, Series] = {}

    def values(self, name: str) -> Floats:
        """Values of a constant over the members."""
        if name in self.table.columns:
            return self.table[name].to_numpy(dtype=float)
        return np.full(len(self.table), float(self.model.constants[name]))

    def __call__(self, times: Mapping[str, float] | None = None, **changes: float) -> Series:
        """Run with constants replaced (`changes`) or multiplied (`times`)."""
        key = (tuple(sorted((times or {}).items())), tuple(sorted(changes.items())))
        if key not in self._cache:
            table = self.table.copy()
            for name, factor in (times or {}).items():
                table[name] = factor * self.values(name)
            for name, value in changes.items():
                table[name] = float(value)
            design = vf.Design.from_frame(table) if len(table.columns) else None
            self._cache[key] = Series(vf.simulate(self.model, design))
        return self._cache[key]


def _base(name: str) -> Runs:
    constants = vf.library.read(name).constants
    first = str(vf.library.priors(name)["name"].iloc[0])
    return Runs(name, pd.DataFrame({first: [float(constants[first])]}))


def _prior(name: str) -> Runs:
    return Runs(name, vf.Design.lhs(vf.library.priors(name), n=N_DRAWS, seed=1).table)


@pytest.fixture(scope="session")
def village_base() -> Runs:
    """village_cluster at the values of the model file."""
    return _base("village_cluster")


@pytest.fixture(scope="session")
def village_prior() -> Runs:
    """village_cluster over draws from its prior."""
    return _prior("village_cluster")


@pytest.fixture(scope="session")
def nation_base() -> Runs:
    """national_diffusion at the values of the model file."""
    return _base("national_diffusion")


@pytest.fixture(scope="session")
def nation_prior() -> Runs:
    """national_diffusion over draws from its prior."""
    return _prior("national_diffusion")


@pytest.fixture(params=MODELS)
def base(request: pytest.FixtureRequest) -> Runs:
    """Each shipped model at its own values."""
    return request.getfixturevalue(
        {"village_cluster": "village_base", "national_diffusion": "nation_base"}[request.param]
    )


@pytest.fixture(params=MODELS)
def prior(request: pytest.FixtureRequest) -> Runs:
    """Each shipped model over draws from its prior."""
    return request.getfixturevalue(
        {"village_cluster": "village_prior", "national_diffusion": "nation_prior"}[request.param]
    )


@pytest.fixture
def model_file(base: Runs) -> Path:
    """File of the model of `base`."""
    return vf.library.path(base.name) / f"{base.name}.mdl"
