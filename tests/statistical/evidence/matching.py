"""Indirect inference on the systems: a simulator of panels whose entities differ, and the moments that it must give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from evidence.panels import DIFFERENCE, Design
from evidence.systems import SPREAD
from villageflow.calibrate.moments import Auxiliary, Coefficients, Mean, ResidualDeviation, StandardDeviation
from villageflow.econometrics.spec import Spec

Floats = npt.NDArray[np.float64]
S = 10
DEVIATION = "deviation"
"""Name of the parameter that is the standard deviation of the entities' own values."""


class Panels:
    """A simulator of panels of a design, from draws that are made once.

    Parameters
    ----------
    design : Design
        With an effect. Parameters are its structural ones and the deviation of the effect; errors are known.
    seed : sequence of int
        Of the draws.
    n_simulations : int
    without : str
        A parameter that is left out of the parameter table and 0 in the simulations; blank for none.
    """

    def __init__(self, design: Design, seed: Sequence[int], *, n_simulations: int = S, without: str = "") -> None:
        rng = np.random.default_rng(np.random.SeedSequence(list(seed)))
        self.design, self.n_simulations, self.without = design, n_simulations, without
        size = n_simulations * design.n_entities
        self.starts = {
            name: middle * np.exp(DIFFERENCE * rng.normal(size=size)) for name, middle in design.system.starts
        }
        self.own, self.errors = rng.normal(size=size), SPREAD * design.errors(rng, size)
        self.index = pd.MultiIndex.from_product([range(design.n_entities), design.times], names=["entity", "time"])

    @property
    def truth(self) -> dict[str, float]:
        """True values of what is estimated."""
        known = {name: value for name, value in self.design.system.truth.items() if name != self.without}
        return {**known, DEVIATION: self.design.effect}

    def table(self) -> pd.DataFrame:
        """The parameter table."""
        table = pd.DataFrame(self.design.system.parameters, columns=["name", "truth", "lower", "upper"])
        table.loc[len(table)] = [DEVIATION, self.design.effect, self.design.effect / 6, self.design.effect * 3]
        return table[table["name"] != self.without].drop(columns="truth").assign(scale="log").reset_index(drop=True)

    def panels(self, values: Floats) -> list[list[pd.DataFrame]]:
        """S panels for each row of values, with the variables in natural units."""
        given = pd.DataFrame(values, columns=list(self.truth))
        lanes = given.loc[given.index.repeat(len(self.own))].reset_index(drop=True)
        constants = lanes.drop(columns=DEVIATION).assign(
            **{name: np.tile(drawn, len(values)) for name, drawn in self.starts.items()}
        )
        own = self.design.system.own
        constants[own] *= np.exp(lanes[DEVIATION] * np.tile(self.own, len(values)))
        if self.without:
            constants[self.without] = 0.0
        names = [name for name, _ in self.design.observables]
        shape = len(values), self.n_simulations, self.design.n_entities, len(names), self.design.n_times
        paths = self.design.paths(constants).reshape(shape) * np.exp(self.errors.reshape(shape[1:]))
        paths[~(paths > 0)] = np.nan  # a run that overshoots in a few steps cannot be measured in logs
        flat = np.moveaxis(paths, 3, 2).reshape(*shape[:2], len(names), -1)
        return [
            [pd.DataFrame(dict(zip(names, panel, strict=True)), index=self.index, copy=False) for panel in some]
            for some in flat
        ]


class Moments(Auxiliary):
    """The moments of a panel by plain arrays; a test compares them with those of the package.

    For each variable the coefficient of ``d(ln(y)) ~ lag(ln(y))`` within entities and the deviation of its residuals,
    the mean of ``ln(y)`` at the first, a middle and the last time, and its deviation between entities at the last.
    """

    @classmethod
    def of(cls, design: Design) -> Moments:
        """The moments of a design's variables."""
        found: list[Coefficients | ResidualDeviation | Mean | StandardDeviation] = []
        times = design.times[[0, design.n_times // 2, -1]]
        for name, _ in design.observables:
            growth = Spec(f"d(ln({name})) ~ lag(ln({name}))", effects=("entity",))
            found += [Coefficients(growth, name=name), ResidualDeviation(growth, name=f"{name}: residuals")]
            found += [Mean(f"ln({name})", (float(time),), name=f"{name}: mean at {time:g}") for time in times]
            found.append(StandardDeviation(f"ln({name})", (float(times[-1]),), name=f"{name}: deviation"))
        (one, _), (other, _) = design.observables
        ratio = StandardDeviation(f"ln({other}/{one})", (float(times[0]),), name="ratio: deviation")
        return cls((*found, ratio))

    def plain(self) -> Auxiliary:
        """The same by the package."""
        return Auxiliary(self.statistics)

    def values(self, panel: pd.DataFrame) -> pd.Series[float]:
        """As `Auxiliary.values`, for a balanced panel in order."""
        times = panel.index.levels[1]
        logs = {name: np.log(panel[name].to_numpy().reshape(-1, len(times))) for name in panel.columns}
        found: dict[str, float] = {}
        for name, y in logs.items():
            change, before = (item - item.mean(axis=1, keepdims=True) for item in (np.diff(y, axis=1), y[:, :-1]))
            slope = float((change * before).sum() / (before**2).sum())
            found[f"{name}: lag(ln({name}))"] = slope
            found[f"{name}: residuals"] = float(np.sqrt(np.mean((change - slope * before) ** 2)))
            for at in (0, len(times) // 2, len(times) - 1):
                found[f"{name}: mean at {times[at]:g}"] = float(y[:, at].mean())
            found[f"{name}: deviation"] = float(y[:, -1].std())
        one, other = logs.values()
        found["ratio: deviation"] = float((other - one)[:, 0].std())
        return pd.Series(found, index=pd.Index(found, name="moment"), name="value")
