"""What islands of particles say: draws in natural units, diagnostics, faults, and the error of what they estimate.

References
----------
.. [Vehtari2021] A. Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", Bayesian
   Analysis 16 (2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from villageflow.calibrate.particles import Island
from villageflow.calibrate.posterior import FEWEST_EFFECTIVE, LARGEST_RHAT, diagnostics, quiet_arviz
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.scales import Floats
from villageflow.calibrate.settings import whole
from villageflow.errors import CalibrationError
from villageflow.ir.model import Model

if TYPE_CHECKING:
    from arviz import InferenceData

MOVES_EACH: Final = 5
"""Metropolis steps for each parameter, by default."""
FEWEST_MOVES: Final = 20
FEWEST_PARTICLES: Final = 100
FEWEST_EACH: Final = 10
"""Particles for each parameter, at least: steps are differences of particles."""
LOWEST_ACCEPTANCE: Final = 0.05


def checked_moves(size: int, seed: int, particles: int, islands: int, moves: int | None) -> int:
    """The number of moves for as many parameters, after all numbers are found to be in range."""
    moves = max(FEWEST_MOVES, MOVES_EACH * size) if moves is None else moves
    least = max(FEWEST_PARTICLES, FEWEST_EACH * size)
    for name, count, fewest, why in (
        ("seed", seed, 0, ""), ("particles", particles, least, f" for {size} parameters"),
        ("islands", islands, 2, ", to be compared"), ("moves", moves, 1, ""),
    ):
        if whole(name, count, 0) < fewest:
            raise CalibrationError(f"{name} is {count}; it must be at least {fewest}{why}")
    return moves


def check_repeats(model: Model) -> None:
    """Refuse a model that draws random numbers: they go by the position in an ensemble, and a particle has none."""
    if names := model.random_variables():
        raise CalibrationError(
            f"model {model.name!r} draws random numbers ({', '.join(names)}), so that a particle run again is another; "
            "replace them by their means"
        )


def mean_of_logs(logs: Floats) -> tuple[float, float]:
    """Logarithm of the mean of numbers given by their logarithms, and the relative standard error of that mean."""
    shares = np.exp(logs - logs.max())
    error = shares.std(ddof=1) / shares.mean() / np.sqrt(len(shares))
    return float(logs.max() + np.log(shares.mean())), float(error)


def inference_data(
    priors: Priors, islands: Sequence[Island], attrs: Mapping[str, Any], *, by_draw: Mapping[str, Floats],
    constant: str, level: str, faults: Sequence[str], observed: xr.Dataset | None = None,
) -> InferenceData:
    """Particles of equal weight as draws, a chain for each island.

    Parameters
    ----------
    priors : Priors
        Of the parameters.
    islands : sequence of Island
        At least two, of equal size.
    attrs : mapping
        Of the result; thinning, acceptance and the warning are added.
    by_draw : mapping of str to (E, n) array
        Statistics of the particles beside their acceptance.
    constant, level : str
        What to call the islands' log normalising constant and the levels of their stages.
    faults : sequence of str
        What is known to be wrong; what the particles show is added: R-hat between islands [Vehtari2021]_, effective
        sample sizes and accepted moves.
    observed : Dataset, optional
        The measurements.

    Returns
    -------
    arviz.InferenceData
        That `villageflow.calibrate.posterior.posterior_summary` takes.
    """
    box, points = priors.box, np.stack([island.points for island in islands])
    accepted = np.stack([island.accepted for island in islands])
    table = diagnostics(box, points.transpose(1, 0, 2), 1, independent=True)
    said = [*faults, *_faults(table, float(accepted.mean()))]
    warning = "; ".join(said) + ": take more particles or more moves" if said else ""
    attrs = {**attrs, "thin": 1, "chains": "independent", "acceptance": float(accepted.mean()), "warning": warning}
    natural = box.from_transformed(points)
    coords = {"chain": np.arange(len(islands)), "draw": np.arange(points.shape[1])}
    drawn = {name: (("chain", "draw"), natural[:, :, j]) for j, name in enumerate(box.names)}
    posterior = xr.Dataset(drawn, coords=coords, attrs=attrs)
    for j, (column, prior) in enumerate(zip(box.names, priors.each, strict=True)):
        own = {"prior": str(prior), "scale": box.scales[j], "lower": prior.lower, "upper": prior.upper}
        posterior[column].attrs = own | dict(zip(table.columns, table.to_numpy()[j].tolist(), strict=True))
    by_stage = {level: "levels", "stage_acceptance": "acceptance", "scale": "scales"}
    stats: dict[str, Any] = {
        **{name: (("chain", "draw"), values) for name, values in (*by_draw.items(), ("acceptance", accepted))},
        **{name: (("chain", "stage"), np.stack([getattr(island, of) for island in islands]))
           for name, of in by_stage.items()},
        constant: ("chain", np.array([island.log_constants[-1] for island in islands])),
    }  # fmt: skip
    groups = {"posterior": posterior, "sample_stats": xr.Dataset(stats, coords=coords)}
    if observed is not None:
        groups["observed_data"] = observed
    data: InferenceData = quiet_arviz().InferenceData(attrs=attrs, **groups)
    return data


def _faults(table: pd.DataFrame, acceptance: float) -> list[str]:
    found = []
    for column, sign, limit, words in (
        ("rhat", 1, LARGEST_RHAT, f"R-hat between islands is above {LARGEST_RHAT}"),
        ("ess_bulk", -1, FEWEST_EFFECTIVE, f"fewer than {FEWEST_EFFECTIVE} effective draws"),
        ("ess_tail", -1, FEWEST_EFFECTIVE, f"fewer than {FEWEST_EFFECTIVE} in the tails"),
    ):
        values = table[column].to_numpy()
        bad, worst = ~(sign * values <= sign * limit), int(np.argmax(sign * values))
        if bad.any():
            where = f"worst {table.index[worst]} with {values[worst]:.4g}"
            found.append(f"{words} ({bad.sum()} of {len(bad)} parameters, {where})")
    if acceptance < LOWEST_ACCEPTANCE:
        found.append(f"only {acceptance:.1%} of the last moves were accepted")
    return found
