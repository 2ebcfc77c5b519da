"""Tests on residuals: brute force, size without dependence, power against it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from villageflow.econometrics import Diagnostic, Spec, cross_section_dependence, estimate, pooled, within
from villageflow.errors import EstimationError


def by_pairs(table, weights=None):
    """The CD statistic by a loop over pairs of rows."""
    parts = []
    for i, j in combinations(range(len(table)), 2):
        common = np.isfinite(table[i]) & np.isfinite(table[j])
        if common.sum() < 3:
            continue
        a, b = table[i, common], table[j, common]
        if weights is None:
            parts.append(np.sqrt(common.sum()) * np.corrcoef(a, b)[0, 1])
        else:
            rho = a @ b / np.sqrt((a @ a) * (b @ b))
            parts.append(np.sqrt(common.sum()) * weights[i] * weights[j] * rho)
    return np.sum(parts) / np.sqrt(len(parts))


def test_the_statistic_equals_a_loop_over_pairs_by_their_common_periods(make_panel):
    panel = make_panel(n_periods=7, seed=2)
    panel = panel.sample(frac=0.8, random_state=1).sort_index()
    found = within("y ~ x + z", panel, effects="entity")
    test = cross_section_dependence(found)
    table = found.residuals.unstack().to_numpy()
    assert_allclose(test.statistic, by_pairs(table), rtol=1e-10)
    assert_allclose(test.p_value, 2 * stats.norm.sf(abs(test.statistic)), rtol=1e-12)
    assert test.name == "CD" and test.distribution == "N(0, 1)" and "no dependence" in test.says
    assert f"p = {test.p_value:.4g} (H0: no dependence" in str(test)


def test_time_effects_bring_random_signs(make_panel):
    found = within("y ~ x + z", make_panel(n_periods=20, seed=2))
    test = cross_section_dependence(found, seed=9)
    table = found.residuals.unstack().to_numpy()
    signs = np.random.default_rng(np.random.SeedSequence(9)).choice([-1.0, 1.0], size=(len(table), 1))[:, 0]
    assert_allclose(test.statistic, by_pairs(table, signs), rtol=1e-10)
    assert test.name == "weighted CD"
    assert by_pairs(table) < -2  # what the signs are for


def test_only_effects_that_were_absorbed_count(panel):
    random = estimate(Spec("y ~ x + z", "random"), panel)
    assert random.spec.absorbed == () and cross_section_dependence(random).name == "CD"


@pytest.mark.parametrize("effects", [("entity",), ("entity", "time")])
@pytest.mark.parametrize("missing", [0.0, 0.25])
def test_the_size_is_right_without_dependence_and_cd_has_power_against_a_factor(effects, missing):
    n, reps = 30, 100
    rejected = {"none": 0, "factor": 0}
    index = pd.MultiIndex.from_product([range(n), range(12)], names=["entity", "time"])
    for seed in range(reps):
        rng = np.random.default_rng([1, seed])
        keep = rng.random(len(index)) >= missing
        frame = pd.DataFrame({"x": rng.normal(size=len(index))}, index=index)
        noise, load = rng.normal(size=(n, 12)), rng.normal(size=(n, 1)) + (0.0 if "time" in effects else 1.0)
        for name, errors in (("none", noise), ("factor", noise + 2 * load * rng.normal(size=12))):
            frame["y"] = frame["x"] + errors.ravel()
            test = cross_section_dependence(within("y ~ x", frame[keep], effects=effects, cov_type="robust"), seed=seed)
            rejected[name] += test.p_value < 0.05
    assert stats.binom.sf(rejected["none"] - 1, reps, 0.05) > 0.001
    assert stats.binom.cdf(rejected["none"], reps, 0.05) > 0.001
    if "time" not in effects:  # random signs lose most of the power
        assert rejected["factor"] / reps > 0.5


def test_short_panels_and_estimates_without_residuals_are_refused(panel):
    short = panel[panel.index.get_level_values(1) < 2012]
    with pytest.raises(EstimationError, match="no two entities share 3 periods"):
        cross_section_dependence(pooled("y ~ x", short))
    from dataclasses import replace

    with pytest.raises(EstimationError, match="keeps no residuals"):
        cross_section_dependence(replace(pooled("y ~ x", panel), residuals=None))


def test_a_measure_without_a_p_value_has_no_null():
    assert str(Diagnostic("theta", 0.5, says="share taken out")) == "0.5 (share taken out)"
    assert str(Diagnostic("Wald", 2.0, "F(1, 9)", 0.2, "x = 0")) == "2, F(1, 9), p = 0.2 (H0: x = 0)"
    assert str(Diagnostic("Wald", 2.0, "F(1, 9)", 0.2)) == "2, F(1, 9), p = 0.2"
