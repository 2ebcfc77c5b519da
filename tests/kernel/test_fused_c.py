"""The benchmark's fused C computes what the engine computes: otherwise their times could not be compared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.ensemble.simulate import time_grid

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ALL_OPERATIONS = """{UTF-8}
x = INTEG(IF THEN ELSE(x > 2 :AND: Time < 3, a, -b * x) + share(x) - SQRT(ABS(y)), a) ~~|
y = INTEG(SIN(Time) * a + MIN(x, b) - MAX(y, 0.1) * 0.2 + EXP(-x) / LN(2 + x^2), b) ~~|
share((0,0.5),(1,0.1),(2,0.7)) ~~|
seen = SMOOTH3(x, 2) + STEP(a, 2) + PULSE(1, 1) + RAMP(0.1, 1, 3) ~~|
other = MODULO(y, 0.3) + XIDZ(a, x - x, b) + ARCTAN(x) + INTEGER(y * 3) + TANH(y) + ABS(x)^b ~~|
a = 1.2 ~~|
b = 0.4 ~~|
INITIAL TIME = 0 ~~|
FINAL TIME = 5 ~~|
TIME STEP = 0.125 ~~|
SAVEPER = 1 ~~|
"""
HELD = """{UTF-8}
x = INTEG(SAMPLE IF TRUE(Time > 1, x, 1), 1) ~~|
INITIAL TIME = 0 ~~|
FINAL TIME = 5 ~~|
TIME STEP = 1 ~~|
SAVEPER = 1 ~~|
"""


@pytest.fixture(scope="module")
def fused():
    spec = importlib.util.spec_from_file_location("fused_c", BENCHMARKS / "fused_c.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(fused, model, design, saves, *, block):
    table = np.ascontiguousarray(design.to_numpy().T)
    found = fused.fused_c(model, list(design.columns), saves, time_grid(model), block=block)(table)
    ds = vf.simulate(model, design, save=saves)
    wanted = np.array([ds[name].to_numpy().T for name in saves])
    assert found.shape == wanted.shape
    scale = np.abs(wanted).max(axis=(1, 2), keepdims=True)
    assert (np.abs(found - wanted) <= 1e-9 * scale).all()


@pytest.mark.parametrize("block", [1, 32])
def test_every_kind_of_operation(fused, tmp_path, block):
    path = tmp_path / "operations.mdl"
    path.write_text(ALL_OPERATIONS)
    rng = np.random.default_rng(1)
    design = pd.DataFrame({"a": rng.uniform(1, 1.5, 70), "b": rng.uniform(0.3, 0.5, 70)})
    compare(fused, vf.read_model(path), design, ["x", "y", "seen", "other"], block=block)


@pytest.mark.parametrize("name", ["village_cluster", "national_diffusion"])
def test_shipped_models(fused, name):
    model = vf.library.read(name)
    priors = vf.datasets.read_table(vf.library.path(name) / "parameters.csv", "parameters")
    design = vf.Design.lhs(priors, n=20, seed=1).table
    compare(fused, model, design, [stock for stock in model.stocks if stock in model.variables], block=64)


def test_memory_is_refused_by_name(fused, tmp_path):
    path = tmp_path / "held.mdl"
    path.write_text(HELD)
    with pytest.raises(fused.UnsupportedError, match="no memory for"):
        fused.fused_c(vf.read_model(path), [], ["x"], time_grid(vf.read_model(path)), block=8)


def test_generated_model_has_about_as_many_equations_as_asked(tmp_path):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from generated import model_text
    finally:
        sys.path.remove(str(BENCHMARKS))
    path = tmp_path / "generated.mdl"
    path.write_text(model_text(100))
    model = vf.read_model(path)
    assert abs(len(model.variables) - 100) <= 16
    ds = vf.simulate(model)
    assert float(ds["capacity_1"].std()) > 0
