"""The kernel's elementary functions against mpmath, C99's table of special values, and themselves."""

import math
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest

from villageflow._kernels import _vmath

UNARY = ["exp", "log", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"]
ORACLE = {name: getattr(mpmath, name.replace("arc", "a")) for name in UNARY}
# In units of the last place: what millions of random points showed, plus a tenth or so.  The promise is 1 for
# exp, log and power and 2 for the rest.
# fmt: off
BOUND = {
    "exp": 0.85, "log": 0.9, "power": 0.9, "sin": 0.95, "cos": 0.95, "tan": 1.2, "arcsin": 0.9,
    "arccos": 1.0, "arctan": 1.5, "sinh": 0.9, "cosh": 1.0, "tanh": 1.6,
}
# fmt: on
INF, NAN = math.inf, math.nan
TINY, HUGE, NORMAL = 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308
# fmt: off
SPECIAL = np.array([
    0.0, TINY, NORMAL - TINY, NORMAL, 1e-300, 1e-17, 0.5, 1.0, 1.5, 2.0, 3.0, 709.7, 745.1, 2.0**52 + 1,
    2.0**53, 1e22, HUGE, INF, NAN,
])
# fmt: on
SPECIAL = np.concatenate([SPECIAL, -SPECIAL])


def bits(x):
    return np.asarray(x, dtype=np.float64).view(np.uint64)


def neighbours(x, steps=(1, 2, 5)):
    x = np.asarray(x, dtype=np.float64)
    return np.concatenate(
        [x]
        + [(bits(x) + np.uint64(s)).view(np.float64) for s in steps]
        + [(bits(x) - np.uint64(s)).view(np.float64) for s in steps]
    )


def log_uniform(rng, low, high, n):
    """Numbers spread evenly over the powers of two from low to high, subnormal ones included."""
    power = rng.uniform(low, high, n)
    whole = np.floor(power)
    return np.ldexp(2.0 ** (power - whole), whole.astype(int))


def signed(x):
    return np.concatenate([x, -x])


def near_quarter_turns(rng):
    turns = np.concatenate([np.arange(1, 40), rng.integers(1, 2**20, 150), 2 ** rng.integers(20, 53, 60)])
    return neighbours([float(int(k) * mpmath.pi / 2) for k in turns], (1, 2))


def samples(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    if name == "exp":
        subnormal = rng.uniform(-745.2, -708.3, 1600)
        steps = neighbours((np.arange(-1074, 1024, 9) + 0.5) * math.log(2))
        return np.concatenate(
            [
                rng.uniform(-745, 710, 4800),
                rng.uniform(-1, 1, 2400),
                signed(log_uniform(rng, -60, 9, 1600)),
                subnormal,
                steps,
            ]
        )
    if name == "log":
        near_one = 1 + np.concatenate([log_uniform(rng, -52, -1, 2000), -log_uniform(rng, -53, -1, 2000)])
        edges = neighbours(np.ldexp(math.sqrt(0.5), np.arange(-40, 40)))
        return np.concatenate(
            [
                log_uniform(rng, -1074, 1024, 6000),
                rng.uniform(0.4, 3, 4000),
                near_one,
                edges,
                [TINY, NORMAL, HUGE],
            ]
        )
    if name in ("sin", "cos", "tan"):
        limit = neighbours([1638400.0])  # where the long reduction takes over
        worst = [
            6381956970095103 * 2.0**797,
            6411027962775774 * 2.0**-48,
            HUGE,
            1e22,
            2.0**1000,
        ]  # the first two lie next to multiples of pi/2
        general = [
            rng.uniform(-10, 10, 3600),
            rng.uniform(0, 1.6e6, 2000),
            log_uniform(rng, -1074, 20, 1600),
            log_uniform(rng, 20, 1024, 2800),
        ]
        return np.concatenate([*general, near_quarter_turns(rng), limit, worst])
    if name in ("arcsin", "arccos"):
        near_one = 1 - log_uniform(rng, -53, 0, 1600)
        return np.concatenate(
            [
                rng.uniform(-1, 1, 6000),
                signed(near_one),
                signed(log_uniform(rng, -1074, 0, 1600)),
                signed(neighbours([0.5])),
                [1.0, -1.0],
            ]
        )
    if name == "arctan":
        edges = neighbours([0.25, 0.5, 1.0, 2.0])
        return np.concatenate([rng.uniform(-5, 5, 6000), signed(log_uniform(rng, -1074, 1024, 2800)), edges])
    edges = signed(neighbours([0.55, 1.0, 25.0, 709.78, 710.4, 710.4758]))
    return np.concatenate(
        [
            rng.uniform(-4, 4, 6000),
            rng.uniform(-710.4, 710.4, 2400),
            signed(log_uniform(rng, -1074, 9.4, 1600)),
            edges,
        ]
    )


def power_samples():
    rng = np.random.default_rng(7)
    n = 2500
    near_one = 1 + np.concatenate([log_uniform(rng, -52, -1, n), -log_uniform(rng, -53, -1, n)])
    wide = log_uniform(rng, -1074, 1024, n)
    middle = rng.uniform(0.5, 2.1, n)
    base = np.concatenate([near_one, wide, middle])
    size = rng.uniform(
        -745, 709, base.size
    )  # logarithm of the result: from the smallest subnormal to the largest double
    y = size / np.array([float(mpmath.log(b)) for b in base])
    ordinary = rng.uniform(0.001, 50, n), rng.uniform(-5, 5, n)
    integers = -rng.uniform(0.1, 30, 1200), rng.integers(-60, 60, 1200).astype(float)
    return np.concatenate([base, ordinary[0], integers[0]]), np.concatenate([y, ordinary[1], integers[1]])


def ulps(got, exact):
    """Error of got in units of the last place of exact; inf is right only for what rounds to it."""
    if math.isinf(got):
        return 0.0 if abs(exact) >= mpmath.mpf(HUGE) + mpmath.ldexp(1, 969) else INF
    exponent = max(int(mpmath.frexp(exact)[1]), -1021) if exact else -1021
    return float(abs(mpmath.mpf(got) - exact) * mpmath.ldexp(1, 53 - exponent))


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_are_accurate(name):
    x = samples(name)
    with mpmath.workprec(140):
        error = [
            ulps(got, ORACLE[name](mpmath.mpf(v)))
            for v, got in zip(x.tolist(), _vmath.apply(name, x).tolist(), strict=True)
        ]
    worst = int(np.argmax(error))
    assert error[worst] <= BOUND[name], f"{name}({x[worst].hex()})"


def test_power_is_accurate():
    x, y = power_samples()
    with mpmath.workprec(160):
        pairs = zip(x.tolist(), y.tolist(), _vmath.apply("power", x, y).tolist(), strict=True)
        error = [
            ulps(got, mpmath.mpf(a) ** (int(b) if b.is_integer() and abs(b) < 100 else mpmath.mpf(b)))
            for a, b, got in pairs
        ]
    worst = int(np.argmax(error))
    assert error[worst] <= BOUND["power"], f"power({x[worst].hex()}, {y[worst].hex()})"


# fmt: off
SPECIAL_VALUES = [
    ("exp", 0.0, 1.0), ("exp", -0.0, 1.0), ("exp", INF, INF), ("exp", -INF, 0.0), ("exp", 709.79, INF),
    ("exp", -745.2, 0.0), ("exp", -745.1, TINY), ("exp", HUGE, INF), ("exp", -HUGE, 0.0),
    ("log", 0.0, -INF), ("log", -0.0, -INF), ("log", 1.0, 0.0), ("log", INF, INF), ("log", -1.0, NAN),
    ("log", -INF, NAN), ("log", -TINY, NAN),
    ("sin", 0.0, 0.0), ("sin", -0.0, -0.0), ("sin", INF, NAN), ("sin", -INF, NAN), ("sin", TINY, TINY),
    ("sin", -TINY, -TINY),
    ("cos", 0.0, 1.0), ("cos", -0.0, 1.0), ("cos", INF, NAN), ("cos", -INF, NAN),
    ("tan", 0.0, 0.0), ("tan", -0.0, -0.0), ("tan", INF, NAN), ("tan", -INF, NAN), ("tan", -TINY, -TINY),
    ("arcsin", 0.0, 0.0), ("arcsin", -0.0, -0.0), ("arcsin", 1.0, math.pi / 2),
    ("arcsin", -1.0, -math.pi / 2), ("arcsin", 1.0 + 2**-52, NAN), ("arcsin", -INF, NAN),
    ("arcsin", -TINY, -TINY),
    ("arccos", 1.0, 0.0), ("arccos", -1.0, math.pi), ("arccos", 0.0, math.pi / 2),
    ("arccos", 1.0 + 2**-52, NAN), ("arccos", INF, NAN),
    ("arctan", 0.0, 0.0), ("arctan", -0.0, -0.0), ("arctan", INF, math.pi / 2),
    ("arctan", -INF, -math.pi / 2), ("arctan", -TINY, -TINY),
    ("sinh", 0.0, 0.0), ("sinh", -0.0, -0.0), ("sinh", INF, INF), ("sinh", -INF, -INF),
    ("sinh", 711.0, INF), ("sinh", -TINY, -TINY),
    ("cosh", 0.0, 1.0), ("cosh", -0.0, 1.0), ("cosh", INF, INF), ("cosh", -INF, INF), ("cosh", -711.0, INF),
    ("tanh", 0.0, 0.0), ("tanh", -0.0, -0.0), ("tanh", INF, 1.0), ("tanh", -INF, -1.0),
    ("tanh", -TINY, -TINY), ("tanh", 20.0, 1.0),
]
# fmt: on

# fmt: off
SPECIAL_POWERS = [
    *[(x, y, 1.0) for x in SPECIAL for y in (0.0, -0.0)], *[(1.0, y, 1.0) for y in SPECIAL],
    (0.0, -3.0, INF), (-0.0, -3.0, -INF), (0.0, -2.0, INF), (-0.0, -2.0, INF), (-0.0, -2.5, INF),
    (0.0, -INF, INF), (-0.0, -INF, INF), (0.0, 3.0, 0.0), (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0),
    (-0.0, 2.5, 0.0), (-0.0, INF, 0.0), (-0.0, 2.0**53, 0.0), (-0.0, 2.0**52 + 1, -0.0), (-1.0, INF, 1.0),
    (-1.0, -INF, 1.0), (-1.0, 2.0**52 + 1, -1.0), (-1.0, -(2.0**53), 1.0), (-1.0, HUGE, 1.0),
    (-1.0, 0.5, NAN), (-2.0, 0.5, NAN), (-2.0, -3.0, -0.125), (-2.0, 2.0, 4.0), (-2.0, 1e300, INF),
    (-2.0, -1e300, 0.0), (-2.0, 1023.5, NAN), (-TINY, 1.0, -TINY), (0.5, INF, 0.0), (0.5, -INF, INF),
    (2.0, INF, INF), (2.0, -INF, 0.0), (-0.5, -INF, INF), (-2.0, -INF, 0.0), (1 + 2**-52, INF, INF),
    (1 - 2**-53, INF, 0.0), (1 - 2**-53, -HUGE, INF), (INF, 2.0, INF), (INF, -2.0, 0.0), (INF, TINY, INF),
    (INF, INF, INF), (INF, -INF, 0.0), (-INF, 3.0, -INF), (-INF, 2.0, INF), (-INF, 2.5, INF),
    (-INF, -3.0, -0.0), (-INF, -2.0, 0.0), (-INF, -2.5, 0.0), (-INF, INF, INF), (NAN, 1.0, NAN),
    (2.0, NAN, NAN), (0.0, NAN, NAN), (INF, NAN, NAN), (-1.0, NAN, NAN), (NAN, INF, NAN), (NAN, NAN, NAN),
    (2.0, -1074.0, TINY), (2.0, -1075.0, 0.0), (2.0, 1023.0, 2.0**1023), (2.0, 1024.0, INF),
    (-2.0, 1025.0, -INF), (TINY, -1.0, INF), (3.0, TINY, 1.0), (10.0, 2.0, 100.0), (3.0, 5.0, 243.0),
    (4.0, 0.5, 2.0), (2.0, 10.0, 1024.0), (HUGE, 1.0, HUGE), (NORMAL - TINY, 1.0, NORMAL - TINY),
]
# fmt: on


def test_special_values_are_those_of_c99():
    for name, x, expected in [*SPECIAL_VALUES, *[(name, v, NAN) for name in UNARY for v in (NAN, -NAN)]]:
        assert bits(getattr(_vmath, name)(x)) == bits(expected), f"{name}({x}) is not {expected}"
    for x, y, expected in SPECIAL_POWERS:
        assert bits(_vmath.power(x, y)) == bits(expected), f"power({x}, {y}) is not {expected}"


def any_doubles(seed, n=3000):
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [
            rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64),
            rng.normal(size=n),
            rng.uniform(-800, 800, n),
            SPECIAL,
        ]
    )


@pytest.mark.parametrize("name", [*UNARY, "power"])
def test_a_scalar_and_every_block_size_give_the_same_bits(name):
    a = any_doubles(1)
    b = [np.random.default_rng(2).permutation(any_doubles(3))] if name == "power" else []
    if b:
        special = np.array([(x, y) for x in SPECIAL for y in SPECIAL])
        a, b = np.concatenate([a, special[:, 0]]), [np.concatenate([b[0], special[:, 1]])]
    scalar = np.array(
        [getattr(_vmath, name)(*values) for values in zip(a.tolist(), *(v.tolist() for v in b), strict=True)]
    )
    for block in (1, 3, 8, 64, 65, 256, 100_000):
        np.testing.assert_array_equal(bits(_vmath.apply(name, a, *b, block=block)), bits(scalar))
    assert set(bits(scalar[np.isnan(scalar)])) <= {bits(NAN)[()]}  # one NaN, whatever came in


@pytest.mark.parametrize("rare", [None, -1.0, 0.0, 5e-324, INF, NAN])
def test_a_rare_argument_moves_no_bit_of_its_block(rare):
    rng = np.random.default_rng(4)
    x, y = rng.lognormal(0, 3, 500), rng.uniform(-9, 9, 500)
    x[::7], y[::7] = 0.0, np.abs(y[::7])  # zero to a positive power is not rare
    if rare is not None:
        x[100], y[300] = rare, rare
    power = [_vmath.power(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    np.testing.assert_array_equal(bits(_vmath.apply("power", x, y)), bits(np.array(power)))
    np.testing.assert_array_equal(bits(_vmath.apply("exp", y)), bits(np.array([_vmath.exp(b) for b in y.tolist()])))


@pytest.mark.parametrize("name", ["sin", "tan", "arcsin", "arctan", "sinh", "tanh", "cos", "cosh"])
def test_odd_and_even_functions_are_so_exactly(name):
    x = np.abs(samples(name))
    positive, negative = _vmath.apply(name, x), _vmath.apply(name, -x)
    np.testing.assert_array_equal(negative, positive if name in ("cos", "cosh") else -positive)


@pytest.mark.parametrize("name", ["exp", "log", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"])
def test_monotonic_functions_do_not_turn_back(name):
    x = samples(name)
    x = np.sort(np.abs(x)) if name == "cosh" else np.sort(x)
    x = x[
        np.append(True, np.diff(x) > 8 * np.spacing(np.abs(x[:-1])))
    ]  # nearer points may differ by rounding alone
    change = np.diff(_vmath.apply(name, x)[np.isfinite(_vmath.apply(name, x))])
    assert (change <= 0).all() if name == "arccos" else (change >= 0).all()


def test_identities_hold_to_rounding():
    x = np.random.default_rng(11).uniform(-50, 50, 4000)
    np.testing.assert_allclose(_vmath.apply("sin", x) ** 2 + _vmath.apply("cos", x) ** 2, 1.0, rtol=4e-16)
    np.testing.assert_allclose(_vmath.apply("log", _vmath.apply("exp", x)), x, rtol=1e-15, atol=3e-16)
    half = _vmath.apply("power", np.abs(x), np.full(x.size, 0.5))
    assert (np.abs(half - np.sqrt(np.abs(x))) <= np.spacing(half)).all()


def test_apply_refuses_what_it_cannot_do():
    a = np.ones(3)
    for arguments, message in [
        (("gamma", a), "gamma"),
        (("exp", a, a), "one array"),
        (("power", a), "two arrays"),
        (("power", a, a[:2]), "3 elements"),
    ]:
        with pytest.raises(ValueError, match=message):
            _vmath.apply(*arguments)


def test_polynomials_are_the_interpolants_that_the_source_names():
    """Recomputes every coefficient from the recipe in the design note."""
    source = Path(__file__).parents[2] / "pkg/villageflow/_kernels/_vmath.pxd"
    with mpmath.workdps(80):
        sqrt = mpmath.sqrt
        remainders = {
            "(exp r - 1 - r)/r^2": (11, lambda r: (mpmath.exp(r) - 1 - r) / r**2),
            "(2 atanh(s)/s - 2)/z": (7, lambda z: (2 * mpmath.atanh(sqrt(z)) / sqrt(z) - 2) / z),
            "(atanh(s)/s - 1 - z/3)/z^2": (8, lambda z: (mpmath.atanh(sqrt(z)) / sqrt(z) - 1 - z / 3) / z**2),
            "(sin(r)/r - 1)/z": (6, lambda z: (mpmath.sin(sqrt(z)) / sqrt(z) - 1) / z),
            "(cos r - 1 + z/2)/z^2": (6, lambda z: (mpmath.cos(sqrt(z)) - 1 + z / 2) / z**2),
            "(atan(a)/a - 1)/z": (13, lambda z: (mpmath.atan(sqrt(z)) / sqrt(z) - 1) / z),
            "(asin(x)/x - 1)/z": (13, lambda z: (mpmath.asin(sqrt(z)) / sqrt(z) - 1) / z),
            "(sinh(t)/t - 1)/z": (8, lambda z: (mpmath.sinh(sqrt(z)) / sqrt(z) - 1) / z),
            "(tanh(t)/t - 1)/z": (11, lambda z: (mpmath.tanh(sqrt(z)) / sqrt(z) - 1) / z),
        }
        stated = re.findall(r"/\* (.+) on \[(.+), (.+)\] \*/\n((?: +(?:p = |\+ ).+\n)+)", source.read_text())
        assert {name for name, *_ in stated} == set(remainders)
        for name, low, high, lines in stated:
            n, function = remainders[name]
            middle, radius = (
                (mpmath.mpf(high) + mpmath.mpf(low)) / 2,
                (mpmath.mpf(high) - mpmath.mpf(low)) / 2,
            )
            nodes = [middle + radius * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
            powers = mpmath.matrix(n, n)
            for i, node in enumerate(nodes):
                for j in range(n):
                    powers[i, j] = node**j
            expected = {
                float(c) for c in mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes]))
            }
            assert {float.fromhex(c) for c in re.findall(r"-?0x[0-9a-f.]+p[+-]\d+", lines)} == expected, name
