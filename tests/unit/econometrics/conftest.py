"""One simulated panel for the tests of the estimators."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


def _make_panel(n_entities=50, n_periods=4, seed=3, gaps=True):
    """Counts and a continuous outcome with two-way effects; slopes 0.5 and -0.3; some rows missing.

    ``w`` is endogenous with slope 0.7 in ``v``, and ``p``, ``q``, ``r`` are its instruments; ``lat`` and ``lon`` are
    places.
    """
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([range(n_entities), range(2010, 2010 + n_periods)])
    index.names = ["entity", "time"]
    n = len(index)
    effect = np.repeat(rng.normal(size=n_entities), n_periods) + np.tile(rng.normal(size=n_periods), n_entities)
    x = rng.normal(size=n) + 0.5 * effect
    z = rng.normal(size=n)
    line = 0.5 * x - 0.3 * z + effect
    panel = pd.DataFrame({"x": x, "z": z}, index=index)
    panel["y"] = line + rng.normal(size=n) * (1 + (x > 0))
    panel["count"] = rng.poisson(np.exp(line - 1.0)).astype(float)
    panel["group"] = np.repeat(rng.integers(0, 12, size=n_entities), n_periods)
    panel["flat"] = np.repeat(rng.normal(size=n_entities), n_periods)
    panel["p"], panel["q"], panel["r"] = rng.normal(size=(3, n))
    error = rng.normal(size=n)
    pushed = 0.6 * panel["p"] + 0.4 * panel["q"] - 0.3 * panel["r"]
    panel["w"] = pushed + 0.3 * z + effect + 0.6 * error + rng.normal(size=n)
    panel["v"] = 0.7 * panel["w"] - 0.3 * z + effect + error * (1 + (x > 0))
    panel["lat"] = np.repeat(rng.uniform(25, 35, size=n_entities), n_periods)
    panel["lon"] = np.repeat(rng.uniform(110, 120, size=n_entities), n_periods)
    return panel.drop(panel.index[::17]) if gaps else panel


@pytest.fixture(scope="session")
def make_panel():
    return _make_panel


@pytest.fixture(scope="session")
def panel():
    return _make_panel()
