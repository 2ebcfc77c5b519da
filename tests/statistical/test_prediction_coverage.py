"""Coverage of predictive intervals of a panel, for villages that were fitted and for new ones.

Design: a logistic stock in 24 villages with random growth (0.6 a year, standard deviation 0.25 in logs) and lognormal
errors (0.1), observed for 6 years. Years 7 to 9 of the same villages and all years of 24 new ones are predicted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate.forecast import forecast
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scores import last_times_out, leave_entities_out

MODEL = """{UTF-8}
level = INTEG(growth rate*level*(1-level/ceiling), initial level) ~ thing ~|
growth rate = 0.6 ~ 1/Year ~|
initial level = 4 ~ thing ~|
ceiling = 100 ~ thing ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 9 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
N, T, GROWTH, SPREAD, NOISE, START = 24, 6, 0.6, 0.25, 0.1, 4.0
TIMES = np.arange(1.0, 10.0)
PARAMETERS = pd.DataFrame({
    "name": ["growth rate", "initial level", "sigma"], "scale": ["log"] * 3, "lower": [0.2, 1.0, 0.02],
    "upper": [2.0, 15.0, 0.5], "effect": ["random", "shared", "shared"],
})
OBSERVED = Observable("level", "level", "level", "lognormal", "sigma", "thing")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "logistic.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def made(seed):
    """Rows of 2 N villages, the second half new; the logistic path is the exact one."""
    rng = np.random.default_rng(np.random.SeedSequence(31, spawn_key=(seed,)))
    growth = GROWTH * np.exp(SPREAD * rng.normal(size=(2 * N, 1)))
    path = 100 / (1 + (100 / START - 1) * np.exp(-growth * TIMES))
    values = path * np.exp(NOISE * rng.normal(size=path.shape))
    return pd.DataFrame({
        "entity": np.repeat([f"v{i:02d}" for i in range(2 * N)], len(TIMES)), "time": np.tile(TIMES, 2 * N),
        "observable": "level", "value": values.ravel(), "comparator": "=", "source_id": "simulated",
    })


def covered(model, replications):
    """Share of values within the 90 percent bands by replication: fitted villages, new ones, sums; and bands of the
    fitted value, which lack the noise, for fitted villages."""
    found = []
    for seed in range(replications):
        table = made(seed)
        new = table["entity"] >= f"v{N:02d}"
        later = ~new & (table["time"] > T)
        problem = Problem(
            model=model, parameters=PARAMETERS, observables=(OBSERVED,), measurements=table[~new & ~later], method="rk4"
        )
        result = vf.fit_random_effects(problem, ["growth_rate"], seed=1, nodes=1)
        shares = []
        for at in (later, new):
            drawn = forecast(problem, result, table[at], seed=seed, n_draws=600)
            bands, values = drawn.quantiles((0.05, 0.95)), table.loc[at, "value"].to_numpy()
            shares.append(np.mean((bands["q05"] <= values) & (values <= bands["q95"])))
            if at is later:
                sums = drawn.total().quantiles((0.05, 0.95))
                total = table[at].groupby("time")["value"].sum().to_numpy()
                shares.append(np.mean((sums["q05"] <= total) & (total <= sums["q95"])))
                shares.append(np.mean((bands["fitted_q05"] <= values) & (values <= bands["fitted_q95"])))
        found.append(shares)
    return dict(zip(("fitted", "sums", "without_noise", "new"), np.array(found).T, strict=True))


@pytest.mark.statistical
def test_bands_hold_nine_in_ten(model):
    """Within three Monte Carlo errors, clustered by replication, and two points for estimated variances."""
    found = covered(model, 40)
    for name in ("fitted", "sums", "new"):
        error = found[name].std(ddof=1) / np.sqrt(len(found[name]))
        assert abs(found[name].mean() - 0.9) < 3 * error + 0.02, (name, found[name].mean(), error)
    assert found["without_noise"].mean() < 0.8


@pytest.mark.statistical
def test_random_effects_of_the_right_model_forecast_better_than_the_benchmarks(model):
    """Clearly for later years of known villages; of a new one the mean of the others says nearly as much."""
    table = made(500)
    problem = Problem(
        model=model, parameters=PARAMETERS, observables=(OBSERVED,), method="rk4",
        measurements=table[table["entity"] < f"v{N:02d}"],
    )

    def refit(part):
        return vf.fit_random_effects(part, ["growth_rate"], seed=1, nodes=1)

    for found in (
        leave_entities_out(problem, refit, folds=3, seed=1), last_times_out(problem, refit, last_fitted=T, seed=1)
    ):
        assert 0.75 < found.table.loc[("level", "model"), "coverage"] <= 1
        for row in found.differences.to_dict("records"):
            assert row["log_score"] > 0 > row["crps"], found.summary()
    later = found.differences
    assert (later["log_score"] > 2 * later["log_score_se"]).all() and (later["crps"] < -2 * later["crps_se"]).all()
