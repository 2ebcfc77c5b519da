"""The stores of `evidence.systems` solved in closed form: a target whose likelihood costs next to nothing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from evidence.panels import Design
from evidence.systems import STORES
from villageflow.calibrate.problem import Problem

Floats = npt.NDArray[np.float64]


class ClosedStores:
    """Parameters and likelihood of each entity, as `Problem.entity_log_likelihood` up to the error of the step.

    With r = imitation - closing the stock is logistic, with the ceiling places r / (imitation + competition).

    Parameters
    ----------
    design : Design
        Of the stores, of which only the stock is measured.
    problem : Problem
        Drawn from it.
    """

    CLOSING = 0.1

    def __init__(self, design: Design, problem: Problem) -> None:
        assert design.system is STORES and design.measured == ("stores",)
        self.design, self.box, self.entities = design, problem.box, problem.entities
        self.observed = np.log(problem.measurements["value"].to_numpy().reshape(len(self.entities), -1))
        first = problem.covariates.set_index("entity")["value"].reindex(list(self.entities))
        self.first = first.to_numpy()[:, None]

    def entity_log_likelihood(self, values: Floats) -> Floats:
        """Lognormal log likelihood, (n, E, p) to (n, E)."""
        given = dict(zip(self.box.names, np.moveaxis(values[..., None], -2, 0), strict=True))
        imitation, places, competition = (given.get(name, true) for name, true in STORES.truth.items())
        rate = imitation - self.CLOSING
        ceiling = places * rate / (imitation + competition)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            path = np.log(ceiling) - np.log1p((ceiling / self.first - 1) * np.exp(-rate * self.design.times))
        squares = np.sum(((self.observed - path) / given["spread"]) ** 2, axis=-1)
        constant = self.design.n_times * (np.log(given["spread"][..., 0]) + 0.5 * math.log(2 * math.pi))
        return np.asarray(-0.5 * squares - constant - self.observed.sum(axis=1))
