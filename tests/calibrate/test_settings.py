"""Settings and names that verbs share: one clear line for a mistake, any spelling for a name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate.marginal import RandomEffect
from villageflow.calibrate.settings import parameter_names
from villageflow.errors import CalibrationError

MODEL = """{UTF-8}
level = INTEG(growth rate*level*(1-level), initial level) ~ thing ~|
growth rate = 0.6 ~ 1/Year ~|
initial level = 0.08 ~ thing ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 6 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "logistic.mdl"
    path.write_text(MODEL)
    model, rng = vf.read_model(path), np.random.default_rng(1)
    runs = vf.simulate(model, {"growth rate": 0.6 * np.exp(0.2 * rng.normal(size=6))}, save=["level"])["level"]
    rows = pd.DataFrame([
        {"entity": f"v{i}", "time": float(t), "observable": "level", "comparator": "=", "source_id": f"{i} {t}",
         "value": float(runs.sel(member=i, time=t)) * np.exp(0.05 * rng.normal())}
        for i in range(6) for t in range(1, 7)
    ])  # fmt: skip
    parameters = pd.DataFrame({
        "name": ["growth rate", "spread"], "scale": "log", "lower": [0.2, 0.01], "upper": [2.0, 1.0],
    })
    return vf.Problem(
        model=model, parameters=parameters, measurements=rows,
        observables=(vf.Observable("level", "level", "level", "lognormal", "spread", "thing"),),
    )  # fmt: skip


VERBS = {
    "fit": lambda p, seed: vf.fit(p, seed=seed),
    "random effects": lambda p, seed: vf.fit_random_effects(p, ["growth_rate"], seed=seed),
    "fixed effects": lambda p, seed: vf.fit_fixed_effects(p, ["growth_rate"], seed=seed),
    "process noise": lambda p, seed: vf.fit_process_noise(p, vf.ProcessNoise("level", 0.1), seed=seed),
    "posterior": lambda p, seed: vf.sample_posterior(p, seed=seed, steps=100),
    "particles": lambda p, seed: vf.sample_smc(p, seed=seed),
}


@pytest.mark.parametrize("seed", [-1, None, "a", 1.5, True])
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_seed_is_a_whole_number(problem, verb, seed):
    with pytest.raises(CalibrationError, match=r"seed is .*; it must be") as caught:
        VERBS[verb](problem, seed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["folder", None, 3])
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_what_is_no_problem_is_refused(verb, given):
    with pytest.raises(CalibrationError, match=r"the problem is a .*; give a Problem: read_problem"):
        VERBS[verb](given, 1)


@pytest.mark.parametrize("run", [
    lambda p: vf.fit(p, seed=1, starts="many"), lambda p: vf.fit(p, seed=1, n_draws=0),
    lambda p: vf.fit_random_effects(p, ["growth_rate"], seed=1, starts=25.5),
    lambda p: vf.sample_posterior(p, seed=1, steps="a"), lambda p: vf.sample_posterior(p, seed=1, walkers=None),
    lambda p: vf.sample_smc(p, seed=1, particles=10.5), lambda p: vf.sample_smc(p, seed=1, moves="a"),
])  # fmt: skip
def test_counts_are_whole_numbers(problem, run):
    with pytest.raises(CalibrationError, match="it must be a whole number of at least"):
        run(problem)


def test_names_are_taken_alone_and_in_any_spelling(problem):
    assert parameter_names("Growth Rate", problem.box.names, "x") == ["growth_rate"]
    assert RandomEffect("growth_rate", "exposure").covariates == ("exposure",)
    one = vf.fit_random_effects(problem, "growth rate", seed=1)
    assert one.params.index.tolist() == ["growth_rate", "spread", "sd(growth_rate)"]
    with pytest.raises(CalibrationError, match=r"random parameter 3 is no name"):
        vf.fit_random_effects(problem, [3], seed=1)
    with pytest.raises(CalibrationError, match=r"'growht rate' is not a free parameter. Did you mean 'growth_rate'"):
        vf.fit_random_effects(problem, ["growht rate"], seed=1)


def test_the_fit_of_another_kind_is_named(problem, tmp_path):
    random = vf.fit_random_effects(problem, "growth_rate", seed=1)
    with pytest.raises(CalibrationError, match="the fit is a RandomEffectsResult; profile takes"):
        vf.profile(problem, random, seed=1)
    with pytest.raises(CalibrationError, match="cannot be written"):
        random.save(tmp_path / "none" / "fit.json")
    with pytest.raises(CalibrationError, match="the file is None"):
        vf.load_fit(None)


def test_a_fit_with_process_noise_comes_back(problem, tmp_path):
    made = vf.fit_process_noise(problem, vf.ProcessNoise("level", 0.1), seed=1)
    made.save(tmp_path / "fit.json")
    back = vf.load_fit(tmp_path / "fit.json")
    assert back.summary() == made.summary()
    pd.testing.assert_frame_equal(back.states, made.states, check_exact=True, check_dtype=False)


def test_a_file_that_is_no_state_is_named(problem, tmp_path):
    for name, content in (("junk.npz", b"junk"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CalibrationError, match="damaged or something else") as caught:
            vf.sample_posterior(problem, seed=1, steps=100, resume=tmp_path / name)
        assert "pickle" not in str(caught.value)
    with pytest.raises(CalibrationError, match="cannot be written"):
        vf.sample_posterior(problem, seed=1, steps=100, resume=tmp_path / "none" / "chain.npz")
