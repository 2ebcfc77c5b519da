"""Quantiles whose bits do not depend on the machine: arithmetic, square roots and the kernel's own exp and log.

A design table is where an ensemble begins, so its last bits matter as much as the engine's.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from villageflow._kernels import _vmath

Floats = npt.NDArray[np.float64]

_SPLIT: Final = 0.425
_NEAR: Final = 5.0

# Rational approximations of Wichura's AS 241, from the highest power down: centre, tail, far tail.
_CENTRE: Final = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_TAIL: Final = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258,
        3.64784832476320460504,
        5.76949722146069140550,
        4.63033784615654529590,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940,
        2.05319162663775882187,
        1.0,
    ),
)
_FAR: Final = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580,
        5.46378491116411436990,
        6.65790464350110377720,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)


def exponential(values: Floats) -> Floats:
    """exp of an array, by the kernel."""
    return np.asarray(_vmath.apply("exp", np.ascontiguousarray(values, dtype=np.float64)))


def logarithm(value: float) -> float:
    """Natural logarithm of a number, by the kernel."""
    return float(_vmath.log(value))


def triangular(probability: Floats, lower: float, mode: float, upper: float) -> Floats:
    """Quantiles of the triangular distribution on [lower, upper]."""
    width, peak = upper - lower, (mode - lower) / (upper - lower)
    rising = np.sqrt(probability * peak)
    falling = 1.0 - np.sqrt((1.0 - probability) * (1.0 - peak))
    return lower + width * np.where(probability < peak, rising, falling)


def truncated_normal(probability: Floats, lower: float, mode: float, upper: float, sd: float) -> Floats:
    """Quantiles of the normal distribution around `mode`, truncated to [lower, upper]."""
    low, high = normal_probability((lower - mode) / sd), normal_probability((upper - mode) / sd)
    return mode + sd * normal_quantile(low + probability * (high - low))


def normal_quantile(probability: Floats) -> Floats:
    """Quantiles of the standard normal, to about 1e-15 relative; infinite at 0 and 1.

    References
    ----------
    M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988).
    """
    p = np.ascontiguousarray(probability, dtype=np.float64)
    q = p - 0.5
    centre = q * _ratio(_CENTRE, 0.180625 - q * q)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        r = np.sqrt(-np.asarray(_vmath.apply("log", np.minimum(p, 1.0 - p))))
        tail = np.where(r <= _NEAR, _ratio(_TAIL, r - 1.6), _ratio(_FAR, r - _NEAR))
    tail = np.where(np.isinf(r), np.inf, tail)
    return np.where(np.abs(q) <= _SPLIT, centre, np.where(q < 0, -tail, tail))


def normal_probability(z: float) -> float:
    """Distribution function of the standard normal, to about 1e-15 absolute.

    References
    ----------
    G. Marsaglia, "Evaluating the normal distribution", Journal of Statistical Software 11 (2004).
    """
    if z != z or abs(z) > 8.0:
        return z if z != z else float(z > 0)
    term = total = z
    k = 1.0
    while total + term != total:
        k += 2.0
        term *= z * z / k
        total += term
    return 0.5 + total * float(_vmath.exp(-0.5 * z * z)) * 0.3989422804014326779


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    top, bottom = (_polynomial(part, x) for part in coefficients)
    return top / bottom


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
