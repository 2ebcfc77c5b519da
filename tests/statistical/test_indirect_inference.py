"""Indirect inference on a biased regression is not biased, and its test of the simulator rejects as often as it says.

The design is that of `test_dynamic_bias`: y = 0.7 lag(y) + 0.5 x + a + e, 100 entities, 8 periods and a lag. The
auxiliary model is the within regression, whose bias in the first coefficient is -0.17. Parameters are the two
coefficients; a, the shocks of x and e are drawn afresh for the simulated panels, once, and fixed over the search.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from test_dynamic_bias import BETA, BURN_IN, RHO, simulate_panel

from villageflow.calibrate.indirect import indirect_inference
from villageflow.calibrate.moments import Auxiliary, Coefficients, ResidualDeviation
from villageflow.econometrics.fit import coefficients
from villageflow.econometrics.spec import Spec

N, T, S = 100, 8, 10
WITHIN = Spec("y ~ lag(y) + x", effects=("entity",))
PARAMETERS = pd.DataFrame({
    "name": ["rho", "beta"], "scale": ["lin", "lin"], "lower": [0.0, -1.0], "upper": [0.95, 2.0],
})


class DynamicPanels:
    """Panels of the design for other coefficients, from draws that are made once.

    ``feedback`` is how far y of the period before moves x: 0 in the design.
    """

    def __init__(self, seed, *, n_simulations=S, feedback=0.0):
        rng = np.random.default_rng(seed)
        self.n_simulations, self.feedback = n_simulations, feedback
        n_steps = BURN_IN + T + 1
        self.a = rng.normal(size=(n_simulations, N))
        self.v, self.e = rng.normal(size=(2, n_steps, n_simulations, N))
        self.index = pd.MultiIndex.from_product([range(N), range(T + 1)], names=["entity", "time"])

    def panels(self, values):
        rho, beta = (values[:, j, None, None] for j in (0, 1))
        y, x = self.a / (1 - rho), np.zeros((len(values), *self.a.shape))
        kept = np.empty((2, T + 1, *y.shape))
        for t, (v, e) in enumerate(zip(self.v, self.e)):
            x = 0.5 * x + 0.3 * self.a + self.feedback * y + v
            y = rho * y + beta * x + self.a + e
            if t >= BURN_IN:
                kept[:, t - BURN_IN] = y, x
        flat = np.moveaxis(kept, 1, -1).reshape(2, len(values), self.n_simulations, -1)
        return [[pd.DataFrame({"y": flat[0, i, s], "x": flat[1, i, s]}, index=self.index, copy=False)
                 for s in range(self.n_simulations)] for i in range(len(values))]


class Found(NamedTuple):
    """What a replication found: rho, its error and interval, and the p-value of the distance."""

    rho: float
    error: float
    lower: float
    upper: float
    p_value: float


def replicate(replication, *, auxiliary, seed=2, starts=2, **settings):
    panel = settings.pop("panel", simulate_panel)(seed, replication)
    simulator = DynamicPanels([seed, replication, 1])
    found = indirect_inference(simulator, auxiliary, panel, PARAMETERS, seed=replication, starts=starts, **settings)
    lower, upper = found.conf_int().loc["rho"]
    p_value = np.nan if found.p_value is None else found.p_value
    return Found(found.params["rho"], found.std_errors["rho"], lower, upper, p_value)
