"""What the measurements can tell apart near the estimate: scaled sensitivities and their singular values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from villageflow.calibrate.likelihood import NOISE, Target, noise_values
from villageflow.calibrate.scales import Floats

_STEP: Final = 1e-3
_SAME: Final = 0.95
_RELATIVE: Final = 1e-6
_NOTICED: Final = 1.0
_COLLINEAR: Final = 15.0


@dataclass(frozen=True, eq=False)
class Identifiability:
    """Local identifiability of the parameters that move the fitted values.

    Attributes
    ----------
    names : tuple of str
        Parameters of the model; noise parameters do not move fitted values and are left out.
    singular_values : (p,) array
        Of the sensitivities in standard deviations of the noise per width of the parameter's range, falling. A value
        below 1 means that the whole range in that direction moves the fitted values by less than one deviation.
    rank : int
        Number of singular values above 1e-6 of the largest.
    practical_rank : int
        Number of singular values above 1.
    collinearity : float
        Collinearity index of all parameters together [Brun2001]_; above 15 they are not estimable together.
    weakest : str
        The direction of the smallest singular value in words.
    alike : tuple of (str, str, float)
        Pairs whose estimates correlate above 0.95 in size.

    References
    ----------
    .. [Brun2001] R. Brun, P. Reichert and H. Künsch, "Practical identifiability analysis of large environmental
       simulation models", Water Resources Research 37 (2001).
    """

    names: tuple[str, ...]
    singular_values: Floats
    rank: int
    practical_rank: int
    collinearity: float
    weakest: str
    alike: tuple[tuple[str, str, float], ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "names": list(self.names),
            "singular_values": [float(value) for value in self.singular_values],
            "rank": self.rank,
            "practical_rank": self.practical_rank,
            "collinearity": self.collinearity,
            "weakest": self.weakest,
            "alike": [list(pair) for pair in self.alike],
        }


def identify(target: Target, rows: pd.DataFrame, unit: Floats, correlation: pd.DataFrame) -> Identifiability:
    """Local identifiability at an estimate.

    Parameters
    ----------
    target : Target
        What was fitted.
    rows : DataFrame
        Measurements.
    unit : (p,) array
        Estimate in the unit box.
    correlation : DataFrame
        Correlation of the estimates on the transformed scale; NaN for what a bound holds.

    Returns
    -------
    Identifiability
    """
    noise = {item.noise_parameter for item in target.observables}
    moving = [j for j, name in enumerate(target.box.names) if name not in noise]
    names = tuple(target.box.names[j] for j in moving)
    scaled = _sensitivities(target, rows, unit, moving)
    _, values, directions = np.linalg.svd(scaled)
    padded = np.zeros(len(moving))
    padded[:len(values)] = values
    lengths = np.linalg.norm(scaled, axis=0)
    normed = scaled / np.where(lengths > 0, lengths, 1.0)
    smallest = float(np.linalg.eigvalsh(normed.T @ normed).min()) if len(moving) else 1.0
    alike = correlation.to_numpy(dtype=float)
    pairs = [
        (target.box.names[i], target.box.names[j], float(alike[i, j]))
        for i, j in zip(*np.triu_indices(target.box.size, 1), strict=True)
        if abs(alike[i, j]) > _SAME
    ]
    return Identifiability(
        names, padded, int(np.sum(padded > _RELATIVE * max(padded.max(initial=0.0), 1e-300))),
        int(np.sum(padded > _NOTICED)), float(1 / np.sqrt(max(smallest, 1e-16))),
        _words(names, directions[-1], padded[-1]) if len(moving) else "no parameter of the model is free", tuple(pairs),
    )


def _sensitivities(target: Target, rows: pd.DataFrame, unit: Floats, moving: list[int]) -> Floats:
    """Change of fitted values per width of each range, in standard deviations of the noise; (rows, moving)."""
    up, down = (np.clip(unit + sign * _STEP * np.eye(len(unit))[moving], 0.0, 1.0) for sign in (1, -1))
    points = target.box.natural(np.vstack([unit[None, :], up, down]))
    locations = target.locations(points, rows)
    widths = (up - down)[np.arange(len(moving)), moving]
    slopes = (locations[1:1 + len(moving)] - locations[1 + len(moving):]) / widths[:, None]
    return (slopes / spreads(target, points[:1], rows, locations[:1])).T


def spreads(target: Target, values: Floats, rows: pd.DataFrame, locations: Floats) -> Floats:
    """Standard deviation of the observation noise of each row for each parameter vector."""
    result = np.empty(locations.shape)
    names = rows["observable"].to_numpy()
    for item in target.observables:
        at = np.flatnonzero(names == item.name)
        result[:, at] = NOISE[item.noise].spread(locations[:, at], noise_values(target, item, values, rows.iloc[at]))
    return result


def _words(names: tuple[str, ...], direction: Floats, size: float) -> str:
    leading = np.argsort(-np.abs(direction), kind="stable")
    sign = 1.0 if direction[leading[0]] > 0 else -1.0
    parts = [
        f"{names[j]} {'up' if sign * direction[j] > 0 else 'down'}"
        for j in leading if abs(direction[j]) >= 0.25 * abs(direction[leading[0]])
    ]
    moved = f"moves the fitted values by {size:.2g} standard deviations of the noise over the width of the ranges"
    return f"{' with '.join(parts)}: {moved}"
