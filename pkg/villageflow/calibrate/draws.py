"""Random numbers as functions of parameters and of uniform or normal numbers that are drawn once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.scales import Floats
from villageflow.errors import CalibrationError

Ints: TypeAlias = npt.NDArray[np.intp]

NOISES: Final = ("normal", "lognormal", "poisson", "negbinomial")
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
        Its median in natural units (of ``gamma`` the mean), not on the scale: a number, or the name of a parameter.
        Above 0 on ``log`` and ``gamma``, between 0 and 1 on ``logit``.
    deviation : float or str
        Standard deviation on the scale (of ``gamma`` over the mean): a number, or the name of a parameter. At least 0,
        for ``gamma`` above 0.
    relative_to : str
        A column of the entities: in every simulation values are divided by their mean over the entities with the same
        label, so that groups differ by what they bring with them alone. Blank: they are left as drawn.

    Raises
    ------
    CalibrationError
        A scale that is not known, a name that is no text, or a location or deviation that does not fit the scale.
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
        if not isinstance(self.name, str) or not isinstance(self.relative_to, str):
            raise CalibrationError(
                f"random constant {self.name!r} relative to {self.relative_to!r}: give names, such as 'start'"
            )
        for word in ("location", "deviation"):
            given = getattr(self, word)
            if isinstance(given, str):
                continue
            if not is_number(given):
                raise CalibrationError(f"random constant {self.name!r} has {word} {given!r}; give a number or a name")
            if fault := self.fault(word, np.array([given], dtype=float)):
                raise CalibrationError(fault)

    def fault(self, word: Literal["location", "deviation"], values: Floats) -> str:
        """What is wrong with values of the location or the deviation on this scale; blank if nothing is."""
        fits, rule = np.isfinite(values), "finite"
        if word == "deviation" and self.scale != "gamma":
            fits, rule = fits & (values >= 0), "finite and at least 0"
        elif word == "location" and self.scale == "logit":
            fits, rule = (values > 0) & (values < 1), "between 0 and 1"
        elif word == "deviation" or self.scale != "lin":
            fits, rule = fits & (values > 0), "finite and above 0"
        return "" if fits.all() else (
            f"random constant {self.name!r} on the {self.scale} scale has {word} {values[~fits][0]:g}; it must be "
            f"{rule}, in the number or within the bounds of the parameter"
        )  # fmt: skip

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


@dataclass(frozen=True, eq=False)
class Cells:
    """The lanes and scalars in which a random constant is drawn for an entity.

    Attributes
    ----------
    lane : (k,) array of int
    scalar : (k,) array of str
    normal : (S, k) array
        Standard normal numbers.
    share : (k, g) array or None
        Makes of the cells the means over the entities of each group.
    group : (k,) array of int or None
        Group of each cell.
    """

    lane: Ints
    scalar: npt.NDArray[np.object_]
    normal: Floats
    share: Floats | None
    group: Ints | None

    @classmethod
    def of(
        cls, lane: Ints, scalar: npt.NDArray[np.object_], *, group: Ints | None, rng: np.random.Generator,
        n_simulations: int,
    ) -> Cells:
        """Draw for the lane and scalar of each entity, once where entities share both.

        Parameters
        ----------
        lane, scalar : (entity,) arrays
            Where each entity finds the constant.
        group : (entity,) array of int or None
            Over which values are relative.
        rng : Generator
            Of the numbers.
        n_simulations : int
            Rows of them, S.
        """
        places = pd.DataFrame({"lane": lane, "scalar": scalar})
        number = places.groupby(["lane", "scalar"], sort=False).ngroup().to_numpy()
        first = np.unique(number, return_index=True)[1]
        normal = rng.normal(size=(n_simulations, len(first)))
        if group is None:
            return cls(lane[first], scalar[first], normal, None, None)
        counts = np.zeros((len(first), group.max() + 1))
        np.add.at(counts, (number, group), 1.0)
        return cls(lane[first], scalar[first], normal, counts / counts.sum(axis=0), group[first])

    def relative(self, drawn: Floats) -> Floats:
        """Values over the mean of their group, (n, S, k); as they are where there is none."""
        return drawn if self.share is None else drawn / (drawn @ self.share)[:, :, self.group]


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


def is_number(given: object) -> TypeGuard[float]:
    """Whether something is one number, and no truth value."""
    return isinstance(given, int | float | np.number) and not isinstance(given, bool)


def noise_fault(item: Observable, values: Floats) -> str:
    """What is wrong with values of the noise parameter of an observable; blank if nothing is."""
    wrong = values[~((values > 0) & (values < np.inf))]
    return "" if not len(wrong) else (
        f"observable {item.name!r} has {item.noise} noise with parameter {wrong[0]:g}; it must be finite and above 0, "
        "in the number or within the bounds of the parameter"
    )  # fmt: skip


def noisy(item: Observable, paths: Floats, parameter: Floats, rng: np.random.Generator, *, smooth: bool) -> Floats:
    """What is measured of the paths.

    Parameters
    ----------
    item : Observable
        The noise of which is one of `NOISES`.
    paths : (n, S, entity, time) array
        What the model says.
    parameter : (n,) array
        Of the noise; not used for ``poisson``.
    rng : Generator
        Draws are the same for all n.
    smooth : bool
        Counts as in `count_quantile`.
    """
    shape, wide = paths.shape[1:], parameter[:, None, None, None]
    if item.noise in ("normal", "lognormal"):
        noise = wide * rng.normal(size=shape)
        return np.asarray(paths + noise if item.noise == "normal" else paths * np.exp(noise))
    uniform, mean = rng.random(shape), paths
    if item.noise == "negbinomial":
        mean = paths * special.gammaincinv(wide, rng.random(shape)) / wide
    return count_quantile(mean, uniform, smooth=smooth)
