"""Random bits and the distribution functions behind random functions, against what was published and mpmath."""

from __future__ import annotations

import math
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from villageflow._kernels import _vmath
from villageflow.program import noise

INF, NAN = math.inf, math.nan
SOURCE = Path(__file__).parents[2] / "pkg/villageflow/_kernels/_distributions.pxd"

# ------------------------------------------------------------------------------------------------ Philox

# Known answers of Salmon et al. (2011), as their library Random123 publishes them: counter, key, result.
ALL = 0xFFFFFFFF
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL, ALL, ALL, ALL), (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert _vmath.philox(counter, key) == expected
    assert noise.philox(counter, key) == expected


def test_philox_and_its_twin_agree():
    rng = np.random.default_rng(1)
    for words in rng.integers(0, 2**32, (2000, 6)).tolist():
        assert _vmath.philox(words[:4], words[4:]) == noise.philox(tuple(words[:4]), tuple(words[4:]))


def test_a_uniform_number_lies_inside_the_interval_and_uses_52_bits():
    key = (1, 2)
    values = np.array([noise.uniform(key, member, 3, 0.0) for member in range(2000)])
    assert ((values > 0) & (values < 1)).all()
    scaled = values * 2.0**53
    assert (scaled % 2 == 1).all(), "every number is an odd multiple of 2**-53"
    assert len(np.unique(values)) == 2000
    assert noise.uniform(key, 0, 3, -0.0) == noise.uniform(key, 0, 3, 0.0)
    assert math.isnan(noise.uniform(key, 0, 3, NAN))


def test_keys_are_those_of_sha256_and_differ():
    keys = noise.stream_keys(7, ("demand 1", "demand 2", "supply 1"))
    assert keys.shape == (3, 2)
    assert len({tuple(row) for row in keys.tolist()}) == 3
    assert noise.stream_keys(8, ("demand 1",)).tolist() != keys[:1].tolist()
    # the first bytes of: printf '0 noise 1' | sha256sum
    assert noise.stream_keys(0, ("noise 1",)).astype("<u4").tobytes().hex() == "0ef980afddd7f51b"


# ------------------------------------------------------------------------------------------------ normal


def test_polynomial_is_the_interpolant_that_the_source_names():
    with mpmath.workdps(80):
        pivot, n, end = mpmath.mpf(4), 24, mpmath.mpf(39)

        def function(y):
            t = pivot * (1 + y) / (1 - y)
            return (1 + 2 * t) * mpmath.exp(t * t / 2) * mpmath.erfc(t / mpmath.sqrt(2)) / 2

        low, high = mpmath.mpf(-1), (end - pivot) / (end + pivot)
        nodes = [
            (low + high) / 2 + (high - low) / 2 * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n)) for i in range(n)
        ]
        matrix = mpmath.matrix([[node**k for k in range(n)] for node in nodes])
        solved = mpmath.lu_solve(matrix, mpmath.matrix([function(node) for node in nodes]))
        expected = [float(value) for value in solved][::-1]
    table = SOURCE.read_text(encoding="utf-8").split("static const double g[24] = {")[1].split("}")[0]
    assert [float.fromhex(number) for number in re.findall(r"-?0x[0-9a-fp.+-]+", table)] == expected


def relative(got, exact):
    return float(abs((mpmath.mpf(float(got)) - exact) / exact))


def test_normal_probability_is_accurate_in_both_tails():
    rng = np.random.default_rng(2)
    z = np.concatenate([rng.uniform(-37.5, 9, 3000), rng.normal(0, 1, 3000), [-1e-300, -0.0, 0.0]])
    with mpmath.workdps(40):
        values = _vmath.apply("normal_probability", z)
        assert max(relative(p, mpmath.ncdf(float(x))) for p, x in zip(values, z, strict=True)) < 8e-16


def test_normal_quantile_is_accurate_in_both_tails():
    rng = np.random.default_rng(3)
    p = np.concatenate([rng.random(600), 10.0 ** -rng.uniform(0, 307, 600), 1 - 10.0 ** -rng.uniform(1, 15, 200)])
    with mpmath.workdps(40):
        for probability, z in zip(p, _vmath.apply("normal_quantile", p), strict=True):
            exact, z = mpmath.mpf(float(probability)), mpmath.mpf(float(z))
            found = mpmath.ncdf(z) - exact if z < 0 else (1 - exact) - mpmath.ncdf(-z)
            error = abs(found) / mpmath.npdf(z)  # in z
            assert error < 1e-15 * max(abs(z), 0.1), probability


def test_special_values_of_the_normal():
    assert [_vmath.normal_probability(z) for z in (-INF, -0.0, 0.0, INF, -40.0, 40.0)] == [0, 0.5, 0.5, 1, 0, 1]
    assert [_vmath.normal_quantile(p) for p in (0.0, 0.5, 1.0)] == [-INF, 0.0, INF]
    for bad in (NAN, -0.1, 1.1, INF, -INF):
        assert math.isnan(_vmath.normal_quantile(bad))
    assert math.isnan(_vmath.normal_probability(NAN))
    z = np.linspace(-38, 8, 20001)
    assert (np.diff(_vmath.apply("normal_probability", z)) >= 0).all()
    p = np.concatenate([np.logspace(-300, -1, 5000), np.linspace(0.1, 0.999, 20001)])
    assert (np.diff(_vmath.apply("normal_quantile", p)) >= 0).all()


@pytest.mark.parametrize("name", ["normal_probability", "normal_quantile"])
def test_a_scalar_and_every_block_size_give_the_same_bits(name):
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(0, 12, 1500), rng.random(1500), [INF, -INF, NAN, 0.0, -0.0, 1.0]])
    expected = np.array([getattr(_vmath, name)(value) for value in x])
    for block in (1, 3, 8, 64, 5000):
        assert _vmath.apply(name, x, block=block).tobytes() == expected.tobytes()


# ------------------------------------------------------------------------------------------------ counts

POISSON = [(0.0, mean, stats.poisson(mean)) for mean in (1e-6, 0.3, 1.0, 4.5, 80.0, 1234.5, 2e5)]
BINOMIAL = [
    (-p / (1 - p), (n + 1) * p / (1 - p), stats.binom(n, p))
    for n in (1, 2, 17, 400, 30000)
    for p in (1e-5, 0.03, 0.31, 0.5)
]
NEGATIVE = [(1 - p, (n - 1) * (1 - p), stats.nbinom(n, p)) for n in (1, 2, 30, 500) for p in (1e-3, 0.2, 0.5, 0.99)]


@pytest.mark.parametrize(("a", "b", "known"), POISSON + BINOMIAL + NEGATIVE)
def test_counts_are_those_of_the_distribution(a, b, known):
    rng = np.random.default_rng(5)
    for p in [1e-12, 1e-4, *rng.random(40), 1 - 1e-6]:
        count = _vmath.count_quantile(p, a, b)
        assert known.cdf(count) >= p * (1 - 1e-11)
        assert count == 0 or known.cdf(count - 1) <= p * (1 + 1e-11)
        assert _vmath.count_probability(count, a, b) == pytest.approx(known.cdf(count), rel=1e-11)
        assert _vmath.count_probability(count + 0.7, a, b) == _vmath.count_probability(count, a, b)


def test_counts_at_the_ends_and_beyond():
    assert [_vmath.count_probability(x, 0.0, 3.0) for x in (-1.0, -INF, INF)] == [0, 0, 1]
    assert [_vmath.count_quantile(p, 0.0, 0.0) for p in (0.0, 0.5, 1.0)] == [0, 0, 0]
    assert _vmath.count_quantile(1.0, -1.0, 6.0) == 5  # of five trials
    for a, b in [(1.0, 1.0), (0.0, -1.0), (NAN, 1.0), (0.0, NAN), (-INF, INF), (0.0, 1e22), (0.0, INF)]:
        assert math.isnan(_vmath.count_quantile(0.5, a, b)), (a, b)
        assert math.isnan(_vmath.count_probability(2.0, a, b)), (a, b)
    for p in (NAN, -0.1, 1.1):
        assert math.isnan(_vmath.count_quantile(p, 0.0, 3.0))
    assert math.isnan(_vmath.count_quantile(0.5, 0.9999999999, 0.0))  # too many counts matter


# ------------------------------------------------------------------------------------------ gamma and beta

SHAPES = [(a, b) for a in (0.05, 0.5, 1.0, 3.7, 40.0, 900.0) for b in (0.3, 1.0, 2.2, 75.0, 5000.0, INF)]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_gamma_and_beta_probabilities_are_accurate(a, b):
    with mpmath.workdps(50):
        for p in (1e-6, 0.03, 0.4, 0.7, 0.999):
            x = _vmath.beta_quantile(p, a, b)
            if b == INF:
                exact = mpmath.gammainc(a, 0, x, regularized=True)
            else:
                exact = mpmath.betainc(a, b, 0, x, regularized=True)
            assert relative(_vmath.beta_probability(x, a, b), exact) < 1e-12
            if 1e-290 < x < 0.999 or b == INF:  # near 1 the digits of x are fewer than those of its probability
                assert relative(p, exact) < 1e-11


def test_gamma_and_beta_over_many_shapes():
    rng = np.random.default_rng(6)
    for a, b in 10.0 ** rng.uniform(-3, 6, (300, 2)):
        gamma = rng.gamma(a)
        if gamma > 1e-300:
            found, known = _vmath.beta_probability(gamma, a, INF), special.gammainc(a, gamma)
            assert found == pytest.approx(known, rel=1e-8)
        x = rng.beta(a, b)
        if 1e-300 < x < 1 - 1e-6:
            assert _vmath.beta_probability(x, a, b) == pytest.approx(special.betainc(a, b, x), rel=1e-7)
        for p in (1e-14, 1e-3, 0.2, 0.8, 1 - 1e-12):
            gamma = _vmath.beta_quantile(p, a, INF)
            if gamma > 1e-290:
                assert _vmath.beta_probability(gamma, a, INF) == pytest.approx(p, rel=1e-8)


def test_gamma_and_beta_at_the_ends_and_beyond():
    assert [_vmath.beta_quantile(p, 2.0, 3.0) for p in (0.0, 1.0)] == [0, 1]
    assert [_vmath.beta_quantile(p, 2.0, INF) for p in (0.0, 1.0)] == [0, INF]
    assert [_vmath.beta_probability(x, 2.0, 3.0) for x in (-1.0, 0.0, 1.0, INF)] == [0, 0, 1, 1]
    assert [_vmath.beta_probability(x, 2.0, INF) for x in (-1.0, 0.0, INF)] == [0, 0, 1]
    for a, b in [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (NAN, 1.0), (1.0, NAN), (INF, 1.0), (2e6, 1.0), (1.0, 2e6)]:
        assert math.isnan(_vmath.beta_quantile(0.5, a, b)), (a, b)
        assert math.isnan(_vmath.beta_probability(0.5, a, b)), (a, b)
    for p in (NAN, -0.1, 1.1):
        assert math.isnan(_vmath.beta_quantile(p, 2.0, 3.0))
    assert math.isnan(_vmath.beta_probability(NAN, 2.0, 3.0))
