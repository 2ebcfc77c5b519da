"""Log densities against scipy, and the log likelihood of an ensemble against one written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import villageflow as vf
from villageflow.calibrate.likelihood import NOISE, STUDENT_DF, Observable
from villageflow.calibrate.problem import Problem

LOGISTIC = """{UTF-8}
level = INTEG(growth rate*level*(1-level/ceiling), initial level) ~ thing ~|
growth rate = 0.6 ~ 1/Year [0,5] ~|
ceiling = 900 ~ thing ~|
initial level = 5 ~ thing ~|
share = level/ceiling ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 16 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""

LOGIT = stats.norm  # of the logit; the Jacobian is added by hand below


def scipy_log_density(family: str, y: float, m: float, s: float) -> float:
    match family:
        case "normal":
            return stats.norm.logpdf(y, m, s)
        case "lognormal":
            return stats.lognorm.logpdf(y, s, scale=m)
        case "logitnormal":
            x = math.log(y / (1 - y))
            return LOGIT.logpdf(x, math.log(m / (1 - m)), s) - math.log(y) - math.log1p(-y)
        case "poisson":
            return stats.poisson.logpmf(y, m)
        case "negbinomial":
            return stats.nbinom.logpmf(y, s, s / (s + m))
        case "student":
            return stats.t.logpdf(y, STUDENT_DF, m, s)
        case "beta":
            return stats.beta.logpdf(y, m * s, (1 - m) * s)
    raise AssertionError(family)


def scipy_log_tails(family: str, y: float, m: float, s: float) -> tuple[float, float]:
    match family:
        case "normal":
            found = stats.norm(m, s)
        case "lognormal":
            found = stats.lognorm(s, scale=m)
        case "logitnormal":
            y, found = math.log(y / (1 - y)), stats.norm(math.log(m / (1 - m)), s)
        case "poisson":
            found = stats.poisson(m)
        case "negbinomial":
            found = stats.nbinom(s, s / (s + m))
        case "student":
            found = stats.t(STUDENT_DF, m, s)
        case "beta":
            found = stats.beta(m * s, (1 - m) * s)
    above = y - 1 if family in ("poisson", "negbinomial") else y
    return found.logcdf(y), found.logsf(above)


REAL = [(1.5, 2.0, 0.3), (-4.0, 0.0, 2.0), (1e6, 9e5, 1e5)]
COUNTS = [(0.0, 0.7), (3.0, 1.2), (7780.0, 7317.7)]
CASES = [
    *((family, y, m, s) for family in ("normal", "student") for y, m, s in REAL),
    *(("lognormal", y, m, s) for y, m, s in [(3.0, 2.0, 0.2), (1e-3, 2e-3, 1.5), (7780.0, 8000.0, 0.05)]),
    *(("logitnormal", y, m, s) for y, m, s in [(0.3, 0.4, 0.5), (0.999, 0.99, 1.0)]),
    *(("beta", y, m, s) for y, m, s in [(0.3, 0.4, 12.0), (0.02, 0.05, 200.0)]),
    *(("poisson", y, m, 1.0) for y, m in [(0.0, 0.7), (3.0, 1.2), (212.0, 258.0), (7780.0, 7317.7)]),
    *(("negbinomial", y, m, k) for y, m in COUNTS for k in (0.5, 30.0, 99.0, 101.0, 3e3)),
]


@pytest.mark.parametrize(("family", "y", "m", "s"), CASES)
def test_log_densities_are_those_of_scipy(family, y, m, s):
    found = NOISE[family].log_density(np.float64(y), np.float64(m), np.float64(s))
    assert found == pytest.approx(scipy_log_density(family, y, m, s), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("family", "y", "m", "s"), CASES)
def test_log_tail_probabilities_are_those_of_scipy(family, y, m, s):
    below, above = scipy_log_tails(family, y, m, s)
    arguments = np.float64(y), np.float64(m), np.float64(s)
    assert NOISE[family].log_below(*arguments) == pytest.approx(below, rel=1e-8, abs=1e-10)
    assert NOISE[family].log_above(*arguments) == pytest.approx(above, rel=1e-8, abs=1e-10)


def test_the_negative_binomial_keeps_its_digits_next_to_the_poisson():
    """The naive difference of log gammas loses eight digits here."""
    y, m = np.float64(7780.0), np.float64(7317.7)
    for k in (1e5, 1e8, 1e12):
        import mpmath

        with mpmath.workdps(60):
            k_, y_, m_ = mpmath.mpf(k), mpmath.mpf(7780), mpmath.mpf(float(m))
            exact = float(
                mpmath.loggamma(k_ + y_) - mpmath.loggamma(k_) - mpmath.loggamma(y_ + 1)
                + k_ * mpmath.log(k_ / (k_ + m_)) + y_ * mpmath.log(m_ / (k_ + m_))
            )
        assert NOISE["negbinomial"].log_density(y, m, np.float64(k)) == pytest.approx(exact, rel=1e-11)


@pytest.mark.parametrize("family", sorted(NOISE))
def test_draws_have_the_stated_centre_and_spread(family):
    m, s = (0.3, 40.0) if family == "beta" else (0.3, 0.2) if family == "logitnormal" else (50.0, 4.0)
    if family == "lognormal":
        s = 0.1
    noise = NOISE[family]
    drawn = noise.draw(np.random.default_rng(5), np.full(200_000, m), np.full(200_000, s))
    spread = float(noise.spread(np.float64(m), np.float64(s)))
    scale = math.sqrt(STUDENT_DF / (STUDENT_DF - 2)) if family == "student" else 1.0
    centre = np.median if family in ("lognormal", "logitnormal", "student") else np.mean
    assert centre(drawn) == pytest.approx(m, abs=0.01 * spread)
    assert drawn.std() == pytest.approx(spread * scale, rel=0.03)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "logistic.mdl"
    path.write_text(LOGISTIC)
    return vf.read_model(path)


def rows(*entries: tuple[float, str, float, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [("v", time, name, value, comparator, f"s{i}") for i, (time, name, value, comparator) in enumerate(entries)],
        columns=["entity", "time", "observable", "value", "comparator", "source_id"],
    )


def problem(model, **changes):
    arguments = {
        "model": model,
        "parameters": pd.DataFrame({
            "name": ["growth rate", "ceiling", "noise"], "scale": ["log"] * 3, "lower": [0.1, 100.0, 0.01],
            "upper": [2.0, 5000.0, 2.0],
        }),
        "observables": (
            Observable("stores", "level", "count", "poisson"),
            Observable("part", "share", "share", "logitnormal", "noise"),
            Observable("added", "level", "net_flow", "normal", 2.0),
        ),
        "measurements": pd.concat([
            rows((2, "stores", 20, "="), (5, "stores", 60, ">="), (8, "part", 0.5, "=")).assign(from_time=np.nan),
            rows((12, "added", 171.0, "=")).assign(from_time=10.0, source_id="t"),
        ], ignore_index=True),
    }
    return Problem(**(arguments | changes))


def by_hand(model, growth, ceiling, noise, step=0.125):
    level = {0.0: 5.0}
    now = 5.0
    for k in range(round(16 / step)):
        now += step * growth * now * (1 - now / ceiling)
        level[(k + 1) * step] = now
    return (
        stats.poisson.logpmf(20, level[2]) + stats.poisson.logsf(59, level[5])
        + scipy_log_density("logitnormal", 0.5, level[8] / ceiling, noise)
        + stats.norm.logpdf(171.0, level[12] - level[10], 2.0)
    )


def test_the_log_likelihood_of_an_ensemble_is_that_of_each_run_alone(model):
    table = pd.DataFrame({"growth_rate": [0.5, 0.6, 0.9], "ceiling": [500.0, 900.0, 700.0], "noise": [0.2, 0.5, 1.0]})
    found = problem(model).log_likelihood(table)
    expected = [by_hand(model, *row) for row in table.itertuples(index=False)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
    alone = [problem(model).log_likelihood(table.iloc[[i]])[0] for i in range(3)]
    assert list(found) == alone


def test_the_log_likelihood_does_not_scale_with_the_time_step(model):
    table = pd.DataFrame({"growth_rate": [0.6], "ceiling": [900.0], "noise": [0.5]})
    coarse, fine = (
        problem(model, method="rk4", time_step=step).log_likelihood(table)[0] for step in (0.125, 0.0625)
    )
    assert abs(coarse - fine) < 1e-3
    euler = [problem(model, time_step=step).log_likelihood(table)[0] for step in (0.125, 0.0625)]
    assert abs(euler[0] - euler[1]) > 1e-3  # Euler's own error shows, so the test above can fail


def test_a_run_that_fails_has_likelihood_zero_and_spoils_no_other(tmp_path):
    path = tmp_path / "broken.mdl"
    path.write_text(LOGISTIC.replace("growth rate*level*(1-level/ceiling)", "EXP(growth rate*level)"))
    broken = problem(vf.read_model(path))
    table = pd.DataFrame({"growth_rate": [1.9, 0.1], "ceiling": [900.0, 900.0], "noise": [0.5, 0.5]})
    found = broken.log_likelihood(table)
    assert found[0] == -np.inf
    assert found[1] == broken.log_likelihood(table.iloc[[1]])[0]
