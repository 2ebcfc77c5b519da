"""Random numbers as functions of parameters and of uniform or normal numbers that are drawn once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import special

from villageflow.calibrate.scales import Floats
from villageflow.errors import CalibrationError

_SCALES: Final = ("log", "logit", "lin", "gamma")
_SEARCHED: Final = 200.0
"""Mean up to which the quantile is summed from 0."""


@dataclass(frozen=True)
class RandomConstant:
    """A constant that is drawn for every lane, or for every element of an array in it.

    Parameters
    ----------
    name : str
        A constant of the model, or an array of constants.
    scale : {"log", "logit", "lin", "gamma"}
        On which it is normal; or ``gamma`` for a gamma distribution, whose upper tail is thinner than on ``log``.
    location : float or str
        Its median in natural units (of ``gamma`` the mean): a number, or the name of a parameter.
    deviation : float or str
        Standard deviation on the scale (of ``gamma`` over the mean): a number, or the name of a parameter.
    relative_to : str
        A column of the entities: in every simulation values are divided by their mean over the entities with the same
        label, so that groups differ by what they bring with them alone. Blank: they are left as drawn.
    """

    name: str
    scale: Literal["log", "logit", "lin", "gamma"]
    location: float | str
    deviation: float | str
    relative_to: str = ""

    def __post_init__(self) -> None:
        if self.scale not in _SCALES:
            known = ", ".join(_SCALES)
            raise CalibrationError(f"random constant {self.name!r} has scale {self.scale!r}; use one of {known}")

    def values(self, location: Floats, deviation: Floats, normal: Floats) -> Floats:
        """Natural values from standard normal numbers; arrays that broadcast."""
        if self.scale == "lin":
            return location + deviation * normal
        if self.scale == "logit":
            return np.asarray(special.expit(special.logit(location) + deviation * normal))
        if self.scale == "gamma":
            shape = 1 / np.asarray(deviation) ** 2
            return np.asarray(location * special.gammaincinv(shape, special.ndtr(normal)) / shape)
        return np.asarray(location * np.exp(deviation * normal))


def count_quantile(mean: Floats, uniform: Floats, *, smooth: bool) -> Floats:
    """Poisson counts as quantiles at given uniform numbers.

    Parameters
    ----------
    mean : array, >= 0
        Not a number where there is no mean.
    uniform : array in (0, 1)
        Broadcasts to the means.
    smooth : bool
        Add ``w - 1/2``, w the place of the uniform number within the probability of its count: continuous and
        monotone in the mean. The expectation is the mean exactly, the variance larger by 1/12, and almost no cell is
        exactly 0: functions of a count that are not linear, shares of zeros and a selection on zeros are not those
        of counts.

    Returns
    -------
    array
        The smallest k with P(K <= k) >= uniform.
    """
    mean, uniform = np.broadcast_arrays(np.asarray(mean, dtype=float), uniform)
    rates, at = mean.ravel(), uniform.ravel()
    count = np.full(rates.shape, np.nan)
    large = rates > _SEARCHED
    if large.any():
        rough = np.ceil(special.pdtrik(at[large], rates[large]))
        lower = np.maximum(rough - 1, 0)
        count[large] = np.where(special.pdtr(lower, rates[large]) >= at[large], lower, rough)
    low = np.flatnonzero(rates <= _SEARCHED)
    term = np.exp(-rates[low])
    below, k = term.copy(), 0
    while len(low):
        done = at[low] <= below
        # where rounding keeps the sum below the last uniform number, further terms add nothing
        done |= (term < 1e-300) & (k > rates[low])
        count[low[done]] = k
        low, term, below, k = low[~done], term[~done], below[~done], k + 1
        term = term * rates[low] / k
        below = below + term
    if smooth:
        known = ~np.isnan(count)
        before = np.where(count[known] > 0, special.pdtr(np.maximum(count[known] - 1, 0), rates[known]), 0.0)
        here = special.pdtr(count[known], rates[known]) - before
        count[known] += np.clip((at[known] - before) / np.where(here > 0, here, 1.0), 0.0, 1.0) - 0.5
    return count.reshape(mean.shape)
