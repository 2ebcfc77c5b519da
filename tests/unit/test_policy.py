"""Policy ensembles: paired differences over the same draws, with honest Monte Carlo errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.analysis.policy import compare_policies, weighted_quantile
from villageflow.errors import CalibrationError, DesignError

MODEL = """{UTF-8}
level = INTEG(inflow*(1+policy), 0) ~ thing ~ Level. ~|
inflow = 2 ~ thing/Year ~|
policy = 0 ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 4 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
SCENARIOS = {"baseline": {}, "more": {"policy": 0.5}, "less": {"policy": -0.25}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tank.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def members(n: int, seed: int = 1) -> vf.Design:
    return vf.Design.from_frame(pd.DataFrame({"inflow": np.random.default_rng(seed).gamma(4.0, 0.5, n)}))


def policy_ensemble(model, design, scenarios, *, save, **options):
    runs = vf.simulate(model, design.with_scenarios(scenarios), save=save, errors="flag")
    return compare_policies(runs, **options)


def test_differences_are_paired(model):
    """Each member is compared with itself: the difference is exactly a share of its own baseline."""
    design = members(2000)
    found = policy_ensemble(model, design, SCENARIOS, save=["level"])
    inflow = design.table["inflow"].to_numpy()
    gap = found.differences["level"].sel(scenario="more", time=4)
    np.testing.assert_allclose(gap, np.quantile(0.5 * 4 * inflow, gap["quantile"], method="hazen"), rtol=1e-12)
    assert list(found.differences["scenario"].values) == ["more", "less"]
    assert found.differences["level_share_above"].sel(scenario="more", time=4).item() == pytest.approx(1)
    assert found.differences["level_share_above"].sel(scenario="less", time=4).item() == 0


def test_an_ensemble_shows_itself(model):
    found = policy_ensemble(model, members(20), SCENARIOS, save=["level"])
    assert repr(found).startswith("<villageflow.PolicyEnsemble: 20 members, more, less against baseline, of level;")


def test_fans_are_the_quantiles_of_each_scenario(model):
    design = members(501)
    found = policy_ensemble(model, design, SCENARIOS, save=["level"], quantiles=(0.1, 0.5, 0.9))
    inflow = design.table["inflow"].to_numpy()
    here = found.fans["level"].sel(scenario="baseline", time=3)
    np.testing.assert_allclose(here, np.quantile(3 * inflow, [0.1, 0.5, 0.9], method="hazen"), rtol=1e-12)
    assert found.fans["level_mean"].sel(scenario="baseline", time=3).item() == pytest.approx(3 * inflow.mean())
    assert found.fans["level"].attrs["units"] == "thing"
    assert found.n_members == found.n_effective == 501


def test_equal_weights_change_nothing(model):
    design = members(300)
    without = policy_ensemble(model, design, SCENARIOS, save=["level"])
    weighted = policy_ensemble(model, design, SCENARIOS, save=["level"], weights=np.full(300, 7.0))
    for name in without.fans.data_vars:
        np.testing.assert_allclose(without.fans[name], weighted.fans[name], rtol=1e-9)


def test_a_member_of_weight_zero_does_not_count(model):
    design = members(300)
    weights = (np.arange(300) < 200).astype(float)
    part = policy_ensemble(model, vf.Design(design.table.iloc[:200].reset_index(drop=True)), SCENARIOS, save=["level"])
    whole = policy_ensemble(model, design, SCENARIOS, save=["level"], weights=weights)
    assert whole.n_effective == pytest.approx(200)
    np.testing.assert_allclose(whole.fans["level"], part.fans["level"], rtol=1e-9)
    np.testing.assert_allclose(whole.fans["level_mean_se"], part.fans["level_mean_se"], rtol=1e-9)


def test_weighted_quantiles_are_those_of_repeated_members():
    rng = np.random.default_rng(3)
    values, counts = rng.normal(size=400), rng.integers(1, 5, 400)
    levels = np.linspace(0.05, 0.95, 19)
    found = weighted_quantile(values[None, :, None], counts / counts.sum(), levels)[:, 0, 0]
    repeated = np.quantile(np.repeat(values, counts), levels, method="hazen")
    np.testing.assert_allclose(found, repeated, atol=0.03)


def test_standard_errors_are_the_spread_over_repeated_ensembles(model):
    """Over 300 independent ensembles the estimates spread as the standard errors say."""
    n, tables = 400, []
    for seed in range(300):
        found = policy_ensemble(model, members(n, seed=seed), {"baseline": {}, "more": {"policy": 0.5}}, save=["level"])
        tables.append(found.at(4.0).set_index(["variable", "scenario", "what", "statistic"]))
    values = pd.concat([table["value"] for table in tables], axis=1)
    errors = pd.concat([table["std_error"] for table in tables], axis=1)
    ratio = errors.mean(axis=1) / values.std(axis=1)
    assert ((ratio > 0.8) & (ratio < 1.25)).all(), ratio


def test_a_member_that_fails_anywhere_is_left_out_everywhere(tmp_path):
    path = tmp_path / "fails.mdl"
    path.write_text(MODEL.replace("inflow*(1+policy)", "inflow+EXP(300*policy*inflow)"))
    design = vf.Design.from_frame(pd.DataFrame({"inflow": [1.0, 3.0, 9.0]}))
    found = policy_ensemble(vf.read_model(path), design, {"baseline": {}, "more": {"policy": 1.0}}, save=["level"])
    assert found.unfinished == 2 and found.n_members == 1
    assert found.fans["level"].sel(scenario="baseline", time=4).values == pytest.approx(8.0)


def test_scenarios_come_from_their_table_too(model):
    table = pd.DataFrame({"scenario": ["baseline", "more"], "name": ["policy", "policy"], "value": [0.0, 0.5]})
    first = policy_ensemble(model, members(50), table, save=["level"])
    second = policy_ensemble(model, members(50), {"baseline": {}, "more": {"policy": 0.5}}, save=["level"])
    np.testing.assert_array_equal(first.differences["level"], second.differences["level"])


def test_runs_without_scenarios_are_refused(model):
    with pytest.raises(CalibrationError, match="no scenarios"):
        compare_policies(vf.simulate(model, members(5), save=["level"]))


BAD = {
    "no baseline": ({"scenarios": {"more": {"policy": 0.5}}}, CalibrationError, "no scenario 'baseline'"),
    "quantiles that fall": ({"quantiles": (0.5, 0.1)}, CalibrationError, "must rise"),
    "a quantile of 1": ({"quantiles": (0.5, 1.0)}, CalibrationError, "between 0 and 1"),
    "weights of another length": ({"weights": np.ones(3)}, CalibrationError, r"shape \(3,\)"),
    "a negative weight": ({"weights": np.linspace(-1, 1, 20)}, CalibrationError, "not negative"),
    "weights that are all 0": ({"weights": np.zeros(20)}, CalibrationError, "not all 0"),
    "an unknown variable": ({"save": ["levle"]}, DesignError, "level"),
    "an unknown parameter": ({"scenarios": {"baseline": {}, "a": {"polcy": 1.0}}}, DesignError, "policy"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_gives_one_clear_line(model, case):
    changes, error, expected = BAD[case]
    given = {"scenarios": SCENARIOS, "save": ["level"]} | changes
    with pytest.raises(error, match=expected) as caught:
        policy_ensemble(model, members(20), **given)
    assert "\n" not in str(caught.value)


def test_a_time_that_is_not_saved_is_refused(model):
    with pytest.raises(CalibrationError, match="not a saved time"):
        policy_ensemble(model, members(20), SCENARIOS, save=["level"]).at(2.5)


ARRAYS = """{UTF-8}
kind: a, b ~~|
level[kind] = INTEG(inflow*(1+policy)*share[kind], 0) ~ thing ~ Level. ~|
share[a] = 1 ~ 1 ~|
share[b] = 3 ~ 1 ~|
partly[b] = level[b] ~ thing ~|
inflow = 2 ~ thing/Year ~|
policy = 0 ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 4 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 41.0)])
def test_an_array_is_compared_as_its_elements_are(weights, tmp_path):
    (tmp_path / "tanks.mdl").write_text(ARRAYS)
    model = vf.read_model(tmp_path / "tanks.mdl")
    whole, single = (
        policy_ensemble(model, members(40), SCENARIOS, save=names, weights=weights)
        for names in (["level", "partly"], ["level[a]", "level[b]"])
    )
    assert whole.fans["level"].dims == ("quantile", "scenario", "time", "kind")
    for found, expected in ((whole.fans, single.fans), (whole.differences, single.differences)):
        for name in (name for name in found.data_vars if str(name).startswith("level")):
            for kind in "ab":
                element = str(name).replace("level", f"level[{kind}]")
                np.testing.assert_array_equal(found[name].sel(kind=kind), expected[element])
    table = whole.at(4)
    assert list(table["variable"].unique()) == ["level[a]", "level[b]", "partly[b]"]
    pd.testing.assert_frame_equal(table[table["variable"] != "partly[b]"].reset_index(drop=True), single.at(4))
    assert whole.differences["partly_share_above"].sel(kind="a").isnull().all()
