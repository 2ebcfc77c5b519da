"""Portable quantile functions against scipy, and their bits against numpy's choice of instructions."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import special, stats

import villageflow as vf
from villageflow.ensemble.quantiles import normal_probability, normal_quantile, triangular, truncated_normal

P = np.concatenate([np.linspace(0, 1, 2001)[1:-1], 10.0 ** -np.arange(1, 300, 7), 1 - 10.0 ** -np.arange(1, 15)])


def test_normal_quantile() -> None:
    np.testing.assert_allclose(normal_quantile(P), special.ndtri(P), rtol=4e-15, atol=1e-16)
    np.testing.assert_array_equal(normal_quantile(np.array([0.0, 0.5, 1.0])), [-np.inf, 0.0, np.inf])


@pytest.mark.parametrize("z", [-9.0, -5.5, -1.96, -0.3, 0.0, 1e-9, 0.7, 2.5, 6.0, 9.0])
def test_normal_probability(z: float) -> None:
    assert normal_probability(z) == pytest.approx(special.ndtr(z), abs=3e-15)


@pytest.mark.parametrize(("lower", "mode", "upper"), [(0.0, 1.0, 3.0), (-2.0, -2.0, 5.0), (1.0, 4.0, 4.0)])
def test_against_scipy(lower: float, mode: float, upper: float) -> None:
    width, sd = upper - lower, (upper - lower) / 3.92
    np.testing.assert_allclose(
        triangular(P, lower, mode, upper),
        stats.triang.ppf(P, (mode - lower) / width, lower, width),
        rtol=1e-12,
        atol=1e-14,
    )
    inner = P[(P > 1e-6) & (P < 1 - 1e-6)]
    np.testing.assert_allclose(
        truncated_normal(inner, lower, mode, upper, sd),
        stats.truncnorm.ppf(inner, (lower - mode) / sd, (upper - mode) / sd, mode, sd),
        rtol=1e-9,
        atol=1e-9,
    )


def test_a_design_has_the_same_bits_whatever_instructions_numpy_uses() -> None:
    code = (
        "import hashlib, villageflow as vf\n"
        "for name in vf.library.names():\n"
        "    table = vf.Design.lhs(vf.library.priors(name), n=500, seed=7).table\n"
        "    print(hashlib.sha256(table.to_numpy().tobytes()).hexdigest())\n"
    )
    from numpy._core._multiarray_umath import __cpu_dispatch__ as dispatched

    plain = {k: v for k, v in os.environ.items() if k not in ("NPY_DISABLE_CPU_FEATURES", "GLIBC_TUNABLES")}
    pinned = plain | {"NPY_DISABLE_CPU_FEATURES": " ".join(dispatched)}
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
        for env in (plain, pinned)
    ]
    assert found[0] == found[1]
    assert len(found[0].split()) == len(vf.library.names()) > 0
