"""Rosters of counties: who is a candidate, what is measured, how they are simulated, and what the fit holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from villageflow.calibrate.counties import (
    FEEDBACKS,
    candidate_counties,
    county_auxiliary,
    county_panel,
    county_simulator,
    fit_counties,
    listed_counties,
    parameters_of_counties,
    with_density,
)
from villageflow.calibrate.moments import Auxiliary
from villageflow.datasets import build
from villageflow.econometrics.studies import STUDIES, run_study
from villageflow.errors import CalibrationError

STILL = {
    "first_roster_scale": 0.12, "entry_rate": 0.33, "later_reach": 1.0, "own_effect": 0.0, "contagion": 0.0,
    "county_deviation": 2.0, "city_deviation": 1.5, "province_elasticity": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def candidates():
    return candidate_counties()


@pytest.fixture(scope="module")
def simulator(candidates):
    return county_simulator(parameters_of_counties(), candidates, n_simulations=8, seed=3)


@pytest.fixture(scope="module")
def still(simulator):
    return simulator.panels(np.array([[STILL[name] for name in simulator.parameters["name"]]]))[0]


def test_candidates_are_all_counties_of_provinces_with_a_village(candidates):
    rosters, provinces = build("counties"), build("provinces")
    totals = provinces["counties_total"].groupby(level=0).max()
    assert (candidates.groupby("province").size() == totals.reindex(sorted(set(rosters["province"])))).all()
    cities = rosters.groupby(level=0)[["province", "city"]].first().agg("/".join, axis=1)
    assert (candidates.loc[cities.index, "city"] == cities).all()
    assert not candidates[["lane", "element"]].duplicated().any() and candidates["density"].mean() == pytest.approx(1)
    n_cities = candidates.groupby("province")["city"].nunique()
    assert n_cities[["Zhejiang", "Guangdong", "Beijing"]].tolist() == [11, 21, 1]


def test_the_regressions_are_those_of_the_study(candidates):
    table = run_study("county_crowding", STUDIES["county_crowding"].prepare(build("counties")))
    moments = county_auxiliary(candidates).estimate(listed_counties())
    for block, name in (("Poisson (headline)", "Poisson"), ("log growth", "growth")):
        study = table[block, "own and elsewhere"]
        for term, value in study.params.items():
            assert moments.values[f"{name}: {term}"] == pytest.approx(value, rel=1e-9)
            # the study counts 82 cities with a village, the moments all 229 and no parameters
            assert moments.std_errors[f"{name}: {term}"] == pytest.approx(study.std_errors[term], rel=0.05)


@pytest.mark.parametrize("which", ["real", "simulated"])
def test_moments_by_hand_are_those_of_the_package(candidates, still, which):
    panel = listed_counties() if which == "real" else county_panel(still[0]["villages"], candidates)
    auxiliary = county_auxiliary(candidates)
    slow = Auxiliary(auxiliary.statistics, auxiliary.cluster).values(panel)
    pd.testing.assert_series_equal(auxiliary.values(panel), slow, rtol=1e-8)


def test_simulated_rosters_have_the_selection_of_the_real_one(still):
    real = listed_counties()
    for panel in still:
        assert panel.index.equals(real.index) and (panel["density"] == real["density"]).all()
        rosters = panel["villages"].unstack()
        listed = rosters.notna().all(axis=1)
        assert (rosters[listed].sum(axis=1) > 0).all() and rosters[~listed].isna().all(axis=None)
        assert (rosters[listed] % 1 == 0).all(axis=None) and 0.05 < listed.mean() < 0.25


def test_expected_villages_are_those_of_the_equations(simulator):
    """Potentials average to one within provinces: no feedback and no exits leave the means known."""
    means = simulator.columns(np.array([[STILL[name] for name in simulator.parameters["name"]]]))["villages"]
    per_county = means[0].mean(axis=1)  # (S, time)
    n = per_county.shape[0]
    error = per_county.std(axis=0, ddof=1) / np.sqrt(n)
    assert per_county[:, 0].mean() == pytest.approx(0.12, abs=4 * error[0] + 0.002)
    gone = 0.135 * 0.12  # at most, in the first year
    assert 0.12 + 0.33 - gone - 4 * error[1] - 0.01 < per_county[:, 1].mean() < 0.12 + 0.33 + 4 * error[1] + 0.01


def test_the_regression_finds_contagion_where_there_is_none(candidates, still):
    found = pd.DataFrame([county_auxiliary(candidates).values(panel) for panel in still])
    for name in ("Poisson", "growth"):
        near = found[f"{name}: log1p(lag(elsewhere))"]
        assert near.mean() > 3 * near.std() / np.sqrt(len(near))


def test_feedbacks_move_what_they_should(simulator):
    base = np.array([STILL[name] for name in simulator.parameters["name"]])
    values = np.array([base, base, base])
    for row, name in enumerate(FEEDBACKS, start=1):
        values[row, list(simulator.parameters["name"]).index(name)] = 0.6
    auxiliary = county_auxiliary(simulator.entities)
    none, own, near = (
        pd.DataFrame([auxiliary.values(panel) for panel in panels]).mean() for panels in simulator.panels(values)
    )
    assert own["growth: log1p(lag(villages))"] > none["growth: log1p(lag(villages))"] + 0.1
    # the Poisson coefficient hardly sees own villages: it rises and falls with the dispersion that they bring
    assert abs(own["Poisson: log1p(lag(villages))"] - none["Poisson: log1p(lag(villages))"]) < 0.1
    assert near["growth: log1p(lag(elsewhere))"] > none["growth: log1p(lag(elsewhere))"] + 0.1


def test_density_is_that_of_all_rosters(candidates):
    shown = with_density(candidates, pd.Series({("Zhejiang/金华市/义乌市", 2014): 5.0}))
    assert set(shown.loc[shown["province"] != "Zhejiang", "density"]) == {0.0}
    n = (candidates["province"] == "Zhejiang").sum()
    assert shown.loc[shown["province"] == "Zhejiang", "density"].iloc[0] == pytest.approx(len(candidates) / n)


def test_the_fit_holds_what_it_says():
    fit = fit_counties(seed=1, n_simulations=1, starts=1)
    both = list(FEEDBACKS)
    estimates, cov = fit.result.params[both].to_numpy(), fit.result.cov.loc[both, both].to_numpy()
    assert fit.wald == pytest.approx(estimates @ np.linalg.solve(cov, estimates))
    assert fit.p_value == pytest.approx(np.exp(-fit.wald / 2)) == stats.chi2.sf(fit.wald, 2)
    assert not set(FEEDBACKS) & set(fit.null.params.index) and fit.null.df == 19 - fit.null.rank
    assert (fit.yardstick["observed"] == fit.result.moments["observed"][fit.yardstick.index]).all()
    later = build("provinces")["taobao_villages"]
    for (area, year), row in fit.forecast.drop("CHINA", level=0).iterrows():
        assert row["observed"] == later[area, year] and row["lower"] < row["forecast"] < row["upper"]
    assert fit.forecast.loc[("CHINA", 2018), "steady"] == 1311 + 2 * (1311 - 780)
    assert fit.weakest.split()[0] in fit.result.params.index and "weakest direction" in fit.summary()


def test_an_unknown_spread_is_refused(candidates):
    with pytest.raises(CalibrationError, match="gamma or log"):
        county_simulator(parameters_of_counties(), candidates, spread="normal")
