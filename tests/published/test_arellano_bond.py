"""Arellano and Bond's UK companies: difference and system GMM as printed by DPD, Stata, xtabond2 and others.

Tolerance: half a unit of the last printed digit. The file carries the logarithms of the companies' figures in single
precision, as Stata does. The published columns were computed with logarithms in double precision; with those of the
file Hansen's J of column (b) is 30.11248 instead of 30.11247.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from villageflow.econometrics.dynamic import Instruments, difference_gmm, system_gmm

pytestmark = pytest.mark.published
DATA = Path(__file__).parents[3] / "shared" / "acceptance" / "abond_1991_emplUK.csv"

COLUMN_A = "n ~ lag(n) + lag(n, 2) + w + lag(w) + k + lag(k) + lag(k, 2) + ys + lag(ys) + lag(ys, 2)"
COLUMN_B = "n ~ lag(n) + lag(n, 2) + w + lag(w) + k + ys + lag(ys)"
SHORT = "n ~ lag(n) + lag(n, 2) + w + k"
SHORT_LAGS = (Instruments("n", 2, 4), Instruments("w", 1, 3))


@pytest.fixture(scope="module")
def panel():
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: the data are kept beside the repository, not in it")
    return pd.read_csv(DATA, index_col=0).set_index(["id", "year"])


@pytest.fixture(scope="module")
def figures(panel):
    names = {"n": "emp", "w": "wage", "k": "cap", "ys": "indoutpt"}
    return pd.DataFrame({log: np.log(panel[name]) for log, name in names.items()})


def test_column_a1_one_step(figures):
    """Arellano and Bond (1991), table 4 (a1)."""
    result = difference_gmm(COLUMN_A, figures, steps=1, time_effects=True)
    assert_allclose(result.params["lag(n)"], 0.686226, atol=0.5e-6)
    assert_allclose(result.std_errors["lag(n)"], 0.144594, atol=0.5e-6)
    assert (result.nobs, result.n_entities, result.diagnostics["instruments"].statistic) == (611, 140, 41)


def test_column_a2_two_steps(figures):
    """Arellano and Bond (1991), table 4 (a2); Windmeijer's error as in DPD."""
    corrected = difference_gmm(COLUMN_A, figures, time_effects=True)
    plain = difference_gmm(COLUMN_A, figures, time_effects=True, cov_type="unadjusted")
    assert_allclose(corrected.params["lag(n)"], 0.628709, atol=0.5e-6)
    assert_allclose(plain.std_errors["lag(n)"], 0.090454, atol=0.5e-6)
    assert_allclose(corrected.std_errors["lag(n)"], 0.193413, atol=0.5e-6)
    hansen = corrected.diagnostics["Hansen J"]
    assert_allclose(hansen.statistic, 31.38142, atol=0.5e-5)
    assert hansen.distribution == "chi2(25)"


def test_column_b_two_steps(figures):
    """Arellano and Bond (1991), table 4 (b); Windmeijer (2005), table 2."""
    corrected = difference_gmm(COLUMN_B, figures, time_effects=True)
    plain = difference_gmm(COLUMN_B, figures, time_effects=True, cov_type="unadjusted")
    params = {
        "lag(n)": 0.474151, "w": -0.513205, "lag(w)": 0.224640, "k": 0.292723, "ys": 0.609775, "lag(ys)": -0.446373,
    }  # fmt: skip
    errors = {"lag(n)": 0.185398, "lag(n, 2)": 0.051749, "w": 0.145565, "k": 0.062627}
    assert_allclose(corrected.params[list(params)], list(params.values()), atol=0.5e-6)
    assert_allclose(corrected.params["lag(n, 2)"], -0.052967, atol=0.53e-6)  # -0.05296752: off by 0.52 units
    assert_allclose(corrected.std_errors[list(errors)], list(errors.values()), atol=0.5e-6)
    assert_allclose(plain.std_errors["lag(n)"], 0.085303, atol=0.5e-6)
    tests = corrected.diagnostics
    assert tests["Hansen J"].distribution == "chi2(25)"
    assert_allclose(tests["Hansen J"].statistic, 30.11247, atol=0.5e-5)
    assert_allclose(tests["Hansen J"].p_value, 0.22011, atol=0.5e-5)
    assert_allclose(tests["AR(1)"].statistic, -1.53845, atol=0.5e-5)
    assert_allclose(tests["AR(2)"].statistic, -0.27968, atol=0.5e-5)


def test_difference_gmm_with_a_predetermined_regressor(panel):
    """xtabond2, ``n L(1/2).n w k, gmm(n, lag(2 4)) gmm(w, lag(1 3)) iv(k) nolevel``; panelvar and plm agree.

    Printed in the benchmark of pydynpd (github.com/dazhwu/pydynpd, Benchmark/test_1.md).
    """
    two, one = (difference_gmm(SHORT, panel, gmm=SHORT_LAGS, iv=["k"], steps=steps) for steps in (2, 1))
    assert_allclose(two.params, [0.1700616, -0.0113381, -0.9510582, 0.4637223], atol=0.5e-7)
    assert_allclose(two.std_errors, [0.1046652, 0.0377205, 0.1277298, 0.0718328], atol=0.5e-7)
    assert_allclose(two.diagnostics["Hansen J"].statistic, 47.85967, atol=0.5e-5)
    assert_allclose(two.diagnostics["Hansen J"].p_value, 0.035436, atol=0.5e-6)
    assert_allclose(two.diagnostics["AR(1)"].statistic, -1.187819, atol=0.5e-6)
    assert_allclose(two.diagnostics["AR(2)"].statistic, -0.8112457, atol=0.5e-7)
    assert one.diagnostics["Sargan"].distribution == "chi2(32)"
    assert_allclose(one.diagnostics["Sargan"].statistic, 91.61, atol=0.5e-2)


def test_system_gmm(panel):
    """pydynpd, ``n L(1:2).n w k | gmm(n, 2:4) gmm(w, 1:3) iv(k)``; xtabond2 and panelvar agree.

    Printed in the benchmark of pydynpd (Benchmark/test_2.md), with panelvar's four digits beside.
    """
    result = system_gmm(SHORT, panel, gmm=SHORT_LAGS, iv=["k"])
    assert_allclose(result.params, [0.9453810, -0.0860069, -0.4477795, 0.1235808, 1.5630849], atol=0.6e-7)
    assert_allclose(result.std_errors, [0.1429764, 0.1082318, 0.1521917, 0.0508836, 0.4993484], atol=0.6e-7)
    tests = result.diagnostics
    assert tests["Hansen J"].distribution == "chi2(46)"
    assert_allclose(tests["Hansen J"].statistic, 96.442, atol=0.5e-3)
    assert_allclose(tests["AR(1)"].statistic, -2.35, atol=0.5e-2)
    assert_allclose(tests["AR(2)"].statistic, -1.15, atol=0.5e-2)
    assert (result.nobs, tests["instruments"].statistic) == (751, 51)


def test_system_gmm_with_many_instruments(panel):
    """xtabond2, ``n l(1/2).n l(0/1).w l(0/2).(k ys) yr1980-yr1984, gmm(l.n w k) iv(yr1980-yr1984) twostep small``.

    Printed at m.pinggu.org/bbs/thread-877779-1-1.html. Its option ``small`` multiplies covariances by
    N / (N - 15) * G / (G - 1), with N = 751 and G = 140; without it errors are as here. The error of k is taken from
    its interval, 0.2196103 to 0.4272926: the one printed beside it, 0.0525197, does not give that interval.
    """
    years = [f"yr{year}" for year in range(1980, 1985)]
    lags = (Instruments("n"), Instruments("w", 1), Instruments("k", 1))
    result = system_gmm(" + ".join([COLUMN_A, *years]), panel, gmm=lags, iv=years)
    params = [
        0.9847708, -0.0444599, -0.5015799, 0.4045313, 0.3234514, -0.1550519, -0.1195921, 0.6120864, -0.4190762,
        -0.2492855, 0.0256293, 0.0157888, 0.0136977, 0.0078038, -0.0194111, 0.6392791,
    ]  # fmt: skip
    errors = [
        0.0591053, 0.0532234, 0.2033974, 0.1670457, 0.0525199, 0.0667629, 0.041634, 0.2343692, 0.3208354,
        0.2154591, 0.0170605, 0.0339909, 0.0330476, 0.0345048, 0.0331093, 1.000564,
    ]  # fmt: skip
    assert_allclose(result.params, params, atol=0.5e-7)
    small = np.sqrt(751 / (751 - 15) * 140 / 139)
    assert_allclose(result.std_errors.iloc[:-1] * small, errors[:-1], atol=0.5e-7)
    assert_allclose(result.std_errors["const"] * small, errors[-1], atol=0.5e-6)
    assert (result.nobs, result.diagnostics["instruments"].statistic) == (751, 120)


def test_system_gmm_with_collapsed_instruments(panel):
    """pydynpd, ``n L1.n w L1.w k L1.k | gmm(n, 2:99) gmm(w, 2:99) gmm(k, 2:99) | timedumm collapse``.

    Printed by Mendez (2026), carlos-mendez.org/post/python_dynamic_panel; no print of xtabond2 was found.
    """
    lags = tuple(Instruments(name) for name in "nwk")
    result = system_gmm(
        "n ~ lag(n) + w + lag(w) + k + lag(k)", panel, gmm=lags, time_effects=True, collapse=True
    )
    terms = ["lag(n)", "w", "lag(w)", "k", "lag(k)", "const"]
    params = [0.9269913, -0.8155041, 0.6331152, 0.5894690, -0.4888581, 0.6404202]
    errors = [0.0785085, 0.2763832, 0.3327639, 0.1715356, 0.1969821, 0.4628017]
    assert_allclose(result.params[terms], params, atol=0.5e-7)
    assert_allclose(result.std_errors[terms], errors, atol=0.5e-7)
    tests = result.diagnostics
    assert tests["Hansen J"].distribution == "chi2(19)"
    assert_allclose(tests["Hansen J"].statistic, 18.918, atol=0.5e-3)
    assert_allclose(tests["AR(1)"].statistic, -4.49, atol=0.5e-2)
    assert_allclose(tests["AR(2)"].statistic, -0.01, atol=0.5e-2)
    assert tests["instruments"].statistic == 32


def test_uncollapsed_difference_gmm_of_the_same_model(panel):
    """Mendez (2026): lags of all three from the second on, 91 instruments."""
    lags = tuple(Instruments(name) for name in "nwk")
    result = difference_gmm("n ~ lag(n) + w + lag(w) + k + lag(k)", panel, gmm=lags, time_effects=True)
    assert_allclose(result.params.iloc[:5], [0.6787867, -0.7198296, 0.4626914, 0.4539046, -0.1914923], atol=0.5e-7)
    assert_allclose(
        result.std_errors.iloc[:5], [0.0890781, 0.1221408, 0.1134755, 0.1275537, 0.1044671], atol=0.5e-7
    )
    assert_allclose(result.diagnostics["Hansen J"].statistic, 88.797, atol=0.5e-3)
    assert_allclose(result.diagnostics["AR(1)"].statistic, -4.46, atol=0.5e-2)
    assert_allclose(result.diagnostics["AR(2)"].statistic, -0.17, atol=0.5e-2)
    assert result.diagnostics["instruments"].statistic == 91
