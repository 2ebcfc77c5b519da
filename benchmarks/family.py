"""Speed of every shipped model over draws from its priors."""

from __future__ import annotations

import time
from dataclasses import dataclass

import villageflow as vf
from villageflow.ensemble.simulate import time_grid

N_SAVED = 5


@dataclass(frozen=True)
class Family:
    """One model: its size, and how long an ensemble takes."""

    name: str
    stocks: int
    equations: int
    steps: int
    seconds: float


def family(members: int) -> list[Family]:
    """Seconds for an ensemble of every shipped model, compiling included, slowest first."""
    found = []
    for name in vf.library.names():
        model = vf.library.read(name)
        design = vf.Design.lhs(vf.library.priors(name), n=members, seed=1)
        saved = [stock for stock in model.stocks if not stock.startswith("#")][:N_SAVED]
        started = time.perf_counter()
        vf.simulate(model, design, save=saved, save_every=1.0)
        seconds = time.perf_counter() - started
        n_stocks, n_equations = len(model.stocks), len(model.stocks) + len(model.auxiliaries)
        found.append(Family(name, n_stocks, n_equations, time_grid(model).n_steps, seconds))
    return sorted(found, key=lambda one: -one.seconds)
