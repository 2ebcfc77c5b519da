"""Intervals, bands and tests of staggered effects over many panels drawn from a known design.

Design: 200 areas of 3 entities over 8 periods. Areas are treated from 4, 5 or 7 on or never, with probability 1/4 each.
The effect on an entity is (0.3 + 0.1 e) g / 4, times 1 plus a normal of its own with standard deviation 0.5. Errors are
AR(1) with 0.6; half of their variance is that of the area. What shares the treatment shares the shocks, so errors have
to be clustered by area. For the methods with estimated weights the truth is the mean over the cohorts of the
population, for imputation that over the entities at hand, as documented.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from villageflow.econometrics.staggered import event_study

pytestmark = pytest.mark.statistical
METHODS = ("group_time", "interaction_weighted", "imputation")
AREAS, MEMBERS, PERIODS = 200, 3, 8
N_PANELS = 1000
MARGIN = (
    0.01  # how far 200 clusters (50 per cohort) and linearised errors may be from the limit, beside Monte Carlo error
)


def shocks(rng, n):
    """AR(1) with coefficient 0.6 and variance 1, (n, PERIODS)."""
    path = np.empty((n, PERIODS))
    path[:, 0] = rng.normal(size=n)
    for t in range(1, PERIODS):
        path[:, t] = 0.6 * path[:, t - 1] + 0.8 * rng.normal(size=n)
    return path


def draw(seed):
    """A panel with cohort, area and the mean effect on its cohort in its period."""
    rng = np.random.default_rng(np.random.SeedSequence(20260101, spawn_key=(seed,)))
    n = AREAS * MEMBERS
    area = np.repeat(np.arange(AREAS), MEMBERS)
    g = rng.choice([np.inf, 4.0, 5.0, 7.0], size=AREAS)[area]
    e = np.arange(1, PERIODS + 1) - g[:, None]
    mean = np.where(e >= 0, (0.3 + 0.1 * np.maximum(e, 0)) * np.where(np.isinf(g), 0, g)[:, None] / 4, 0.0)
    own = mean * (1 + 0.5 * rng.normal(size=n))[:, None]
    errors = np.sqrt(0.5) * (shocks(rng, AREAS)[area] + shocks(rng, n))
    y = rng.normal(size=n)[:, None] + 0.2 * np.arange(PERIODS) + own + errors
    index = pd.MultiIndex.from_product([range(n), range(1, PERIODS + 1)], names=["entity", "time"])
    columns = {"y": y.ravel(), "mean": mean.ravel(), "g": np.repeat(g, PERIODS), "area": np.repeat(area, PERIODS)}
    return pd.DataFrame(columns, index=index)


def truth(names, panel, method):
    """The effect that a method estimates, by event time."""
    if method != "imputation":
        reached = {e: [g for g in (4, 5, 7) if g + e <= PERIODS] for e in range(5)}
        mean = {f"e={e}": (0.3 + 0.1 * e) * np.mean(gs) / 4 for e, gs in reached.items() if gs}
        return np.array([mean.get(name, 0.0) for name in names])
    treated = panel[np.isfinite(panel["g"])]
    e = (treated.index.get_level_values(1) - treated["g"]).astype(int)
    return treated["mean"].groupby("e=" + e.astype(str)).mean()[names].to_numpy()


@cache
def replications(method):
    """(intervals by area, intervals by entity, bands, p-values of the pre-trend test) over all panels."""
    found = []
    for seed in range(N_PANELS):
        panel = draw(seed)
        by_area, by_entity = (
            event_study("y ~ 1", panel, cohort="g", method=method, cluster=cluster) for cluster in ("area", "entity")
        )
        true = truth(by_area.params.index, panel, method)
        boxes = (by_area.conf_int(), by_entity.conf_int(), by_area.simultaneous_bands(n_draws=10_000))
        inside = [((box["lower"] <= true) & (true <= box["upper"])).to_numpy() for box in boxes]
        found.append((inside[0], inside[1], inside[2].all(), by_area.diagnostics["pre-trends"].p_value))
    return tuple(np.array(part) for part in zip(*found))


def near(share, level):
    return abs(share - level) < 3 * np.sqrt(level * (1 - level) / N_PANELS) + MARGIN


@pytest.mark.parametrize("method", METHODS)
def test_intervals_cover_at_each_event_time(method):
    assert near(replications(method)[0].mean(axis=0), 0.95).all()


@pytest.mark.parametrize("method", METHODS)
def test_bands_hold_the_whole_path(method):
    assert near(replications(method)[2].mean(), 0.95)


@pytest.mark.parametrize("method", METHODS)
def test_the_test_of_trends_before_treatment_has_its_size(method):
    assert near((replications(method)[3] < 0.05).mean(), 0.05)


@pytest.mark.parametrize("method", METHODS)
def test_errors_below_the_level_of_assignment_fail(method):
    """The negative control: clustered by entity, areas are taken for independent entities."""
    assert replications(method)[1].mean() < 0.88
