"""What regressions on a short roster of counts give where nothing is to be found: regression to the mean, measured."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
import pandas as pd

from villageflow.econometrics.fit import coefficients
from villageflow.econometrics.spec import AnySpec
from villageflow.errors import EstimationError

Key = TypeVar("Key", bound=Hashable)


def mean_reversion_placebo(
    panel: pd.DataFrame,
    specs: Mapping[Key, AnySpec],
    *,
    prepare: Callable[[pd.DataFrame], pd.DataFrame],
    n_draws: int,
    seed: int,
) -> dict[tuple[Key, str], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Coefficients of regressions on counts drawn around fixed means, where there is neither crowding nor contagion.

    Counts are drawn as Poisson around a fixed county mean that grows with its province: m(c, t) = sum over t
    of the county's villages x share of year t in its province's villages. Counties without any village in a
    draw lose their rows, as in the rosters. What the regressions then find is due to noise in the lagged
    count, to ln(1 + x) and to selection alone: the yardstick for the estimates, in place of 1 or 0.

    Parameters
    ----------
    panel : pandas.DataFrame
        The county panel: indexed (entity, time), columns province and villages, and what ``prepare`` reads.
    specs : mapping of any key to a specification
        The regressions.
    prepare : callable
        Adds to a panel the columns that are counted from ``villages``.
    n_draws : int
        Number of simulated panels, at least 2.
    seed : int
        Seed of the draws; draw i depends on the seed and i only.

    Returns
    -------
    dict of (key, term) to (draws,) array
        The coefficients, in the order of the draws; a draw that does not support a regression is left out of it.

    Raises
    ------
    EstimationError
        If there are fewer than two draws.

    Notes
    -----
    The means are plugged in from the data, noise included, and counted anew with noise on top: on the own lag the
    placebo reverts more than the data would without crowding, so it leans towards finding none. Counties that were
    never listed have mean zero here.
    """
    if n_draws < 2:
        raise EstimationError(f"n_draws is {n_draws}; use at least 2.")
    villages = panel["villages"].astype("float64")
    by_year = villages.groupby([panel["province"].to_numpy(), panel.index.get_level_values(1)]).transform("sum")
    by_province = villages.groupby(panel["province"].to_numpy()).transform("sum")
    mean = (villages.groupby(level=0).transform("sum") * by_year / by_province).to_numpy()
    found: dict[tuple[Key, str], list[float]] = {}
    for draw in range(n_draws):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(draw,)))
        drawn = panel.assign(villages=rng.poisson(mean))
        drawn = prepare(drawn[drawn["villages"].groupby(level=0).transform("sum") > 0])
        for key, spec in specs.items():
            try:
                params = coefficients(spec, drawn)
            except EstimationError:
                continue  # this draw does not support the regression; the number of draws shows it
            for term, value in params.items():
                found.setdefault((key, str(term)), []).append(float(value))
    return {key: np.asarray(values) for key, values in found.items()}
