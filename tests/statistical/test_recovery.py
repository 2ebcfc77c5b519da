"""Estimators give back the parameters that panels were simulated with: the evidence page on fewer and other draws."""

from __future__ import annotations

import numpy as np
import pytest
from evidence.page import BIAS, bias_in_deviations
from evidence.record import replications, summary
from evidence.studies import STUDIES

N, FIRST = 40, 100_000
"""Replications, and the number of the first one, far from those of the page."""
RECOVERED = (
    "stores, one", "stores, many", "stores, indirect", "stores, random effects", "migration, many",
    "migration, indirect", "diffusion, one", "diffusion, indirect",
)  # fmt: skip


def found(name):
    """Bias of each parameter in standard deviations, by the first interval of a study."""
    study = STUDIES[name]
    table = summary(study, replications(study, FIRST, N))
    table = table[table["truth"].notna()].drop_duplicates("parameter").set_index("parameter")
    assert set(table.index) == set(study.truth) and not table["mean"].isna().any()
    return table.apply(bias_in_deviations, axis=1)


@pytest.mark.statistical
@pytest.mark.parametrize("name", RECOVERED)
def test_bias_is_below_a_quarter_of_a_standard_deviation(name):
    """Up to three Monte Carlo errors, each one over root n."""
    assert (found(name).abs() < BIAS + 3 / np.sqrt(N)).all()


@pytest.mark.statistical
def test_fixed_effects_leave_the_spread_too_small():
    """One effect for five times: the maximum of the likelihood divides the squares by 5 instead of 4."""
    study = STUDIES["stores, fixed effects"]
    table = summary(study, replications(study, FIRST, N)).drop_duplicates("parameter").set_index("parameter")
    spread = table.loc["spread"]
    assert spread["mean"] == pytest.approx(spread["truth"] * np.sqrt(4 / 5), abs=4 * spread["sd"] / np.sqrt(N))
    assert bias_in_deviations(spread) < -1
