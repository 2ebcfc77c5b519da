"""Quantiles whose bits do not depend on the machine: arithmetic, square roots and the kernel's own exp and log.

A design table is where an ensemble begins, so its last bits matter as much as the engine's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from villageflow._kernels import _vmath

Floats = npt.NDArray[np.float64]


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
    """Quantiles of the standard normal, to about 1e-15 relative; infinite at 0 and 1."""
    return np.asarray(_vmath.apply("normal_quantile", np.ascontiguousarray(probability, dtype=np.float64)))


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
