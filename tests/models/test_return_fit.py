"""Leaving and return in the provinces: the folder is the code, numbers are the sources', and estimates are those of
a regression that knows nothing of the model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from numpy.testing import assert_allclose, assert_array_equal

import villageflow as vf
from villageflow.calibrate.fit import cluster
from villageflow.calibrate.folder import read_problem, write_problem
from villageflow.calibrate.returns import HAZARDS, NET, model_file, responses, return_fit, return_problem
from villageflow.datasets.panel import quietly_loaded
from villageflow.errors import CalibrationError

FOLDER = vf.library.folder() / "problems" / "population_return"


@pytest.fixture(scope="module")
def problem():
    return return_problem()


@pytest.fixture(scope="module")
def result(problem):
    return vf.fit(problem, seed=1, cov_type="hessian", n_draws=50)


@pytest.fixture(scope="module")
def panel():
    return quietly_loaded("provinces")


def series(problem, name):
    rows = problem.covariates[problem.covariates["name"] == name]
    return rows.pivot(index="time", columns="entity", values="value")


def regressors(problem, panel, rows):
    """Log income of the year before, and listed villages as a mark from 2015, of each row."""
    keys = list(zip(rows["entity"], rows["time"].astype(int), strict=True))
    return pd.DataFrame({
        "growth": rows["value"].to_numpy(), "entity": rows["entity"].to_numpy(), "year": [time - 1 for _, time in keys],
        "income": [-np.log(panel.loc[(who, time - 2), "urban_rural_income_ratio"]) for who, time in keys],
        "villages": [
            np.log1p(panel.loc[(who, 2016), "taobao_villages"]) if time - 1 >= 2015 else 0.0 for who, time in keys
        ],
    })


def test_the_folder_is_what_the_code_writes(problem, tmp_path):
    write_problem(problem, tmp_path, model="population_return.mdl")
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {path.name for path in FOLDER.iterdir()} - {"population_return.mdl"}
    for name in written:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_the_folder_is_read_as_the_same_problem(problem):
    again = read_problem(FOLDER)
    at = pd.DataFrame(problem.box.natural(np.full((1, problem.box.size), 0.4)), columns=problem.box.names)
    assert_array_equal(problem.log_likelihood(at), again.log_likelihood(at))
    assert (again.method, again.time_step) == ("rk4", 1.0)


def test_what_is_measured_is_the_growth_of_the_source(problem, panel):
    people = panel["rural_population"].unstack()
    for rows, years in ((problem.measurements, range(2012, 2020)), (problem.holdout, (2021, 2022))):
        assert sorted(set(rows["time"])) == [year + 1.0 for year in years]
        assert len(rows) == 31 * len(years)
        ends = [np.log(people.loc[who, time - 1]) for who, time in zip(rows["entity"], rows["time"], strict=True)]
        starts = [np.log(people.loc[who, time - 2]) for who, time in zip(rows["entity"], rows["time"], strict=True)]
        assert_allclose(rows["value"], np.subtract(ends, starts), atol=1e-9)
    with_census = return_problem(census=True).measurements
    assert set(with_census["time"]) - set(problem.measurements["time"]) == {2021.0}


def test_levels_are_the_counts_and_start_from_the_own_count(panel):
    problem = return_problem(form="levels")
    people = panel["rural_population"].unstack()
    for row in problem.measurements.to_dict("records"):
        assert row["value"] == people.loc[row["entity"], row["time"] - 1]
    start = problem.covariates[problem.covariates["name"] == "initial_rural_population"].set_index("entity")["value"]
    assert_array_equal(start, people.loc[start.index, 2011])


def test_no_list_is_invented(problem, panel):
    listed = panel["taobao_villages"].unstack()
    mark, yearly = series(problem, "acting_villages"), series(return_problem(exposure="yearly"), "acting_villages")
    assert (mark.loc[2012.0] == 0).all() and (yearly.loc[2012.0] == 0).all()
    for time in (2015.0, 2023.0):
        assert_array_equal(mark.loc[time], listed.loc[mark.columns, 2016])
    for year in (2014, 2015, 2016):
        assert_array_equal(yearly.loc[year + 1.0], listed.loc[yearly.columns, year])
    assert mark.loc[2015.0, "Zhejiang"] == 506 and mark.loc[2015.0, "Gansu"] == 0
    measured = return_problem(exposure="yearly")
    assert set(measured.measurements["time"]) == {2016.0, 2017.0, 2018.0} and not len(measured.holdout)


def test_what_all_provinces_share_drops_out_of_income_and_exposure(problem):
    pairs = (("income_ratio", "reference_income_ratio", 0), ("acting_villages", "reference_exposure", 1))
    for own, mean, plus in pairs:
        relative = np.log(plus + series(problem, own)) - np.log(series(problem, mean))
        assert_allclose(relative.mean(axis=1), 0.0, atol=1e-8)


def test_estimates_are_those_of_a_regression_with_year_effects(problem, result, panel):
    """Slopes by least squares over the same rows, without a stock, a logit, or a likelihood."""
    rows = problem.measurements
    table = regressors(problem, panel, rows)
    found = smf.ols("growth ~ income + villages + C(year)", table).fit(
        cov_type="cluster", cov_kwds={"groups": table["entity"].astype("category").cat.codes.to_numpy()}
    )
    ours = responses({**problem.model.constants, **result.params})
    for term, name in (("income", "income_response"), ("villages", "village_response")):
        assert abs(ours[name] - found.params[term]) < 0.25 * found.bse[term], name
        scale = ours[name] / result.params[name.replace("response", "pull")]
        assert scale * cluster(problem, result).std_errors[name.replace("response", "pull")] == pytest.approx(
            found.bse[term], rel=0.25
        )
    assert result.residuals["fitted"].mean() == pytest.approx(rows["value"].mean(), abs=1e-3)


def test_known_pulls_are_found_again(problem):
    known = {"leaving_propensity": 0.05, "income_pull": 4.0, "village_pull": -0.5, "growth_error": 0.01}
    at = np.array([[known[name] for name in problem.box.names]])
    noise = 0.01 * np.random.default_rng(20111231).standard_normal(len(problem.measurements))
    made = problem.measurements.assign(value=problem.locations(at, problem.measurements)[0] + noise)
    again = vf.calibrate.problem.Problem(
        model=problem.model, parameters=problem.parameters, observables=problem.observables, measurements=made,
        covariates=problem.covariates, method="rk4", time_step=1.0,
    )
    found = vf.fit(again, seed=1, n_draws=50)
    errors = found.transformed["std_error"]
    assert abs(np.log(found.params["leaving_propensity"] / 0.05)) < 3 * errors["leaving_propensity"] < 0.1
    assert abs(found.params["income_pull"] - 4.0) < 3 * errors["income_pull"] < 3.0
    assert abs(found.params["village_pull"] + 0.5) < 3 * errors["village_pull"] < 0.3


def test_only_the_net_flow_is_known(result):
    """Return at six times its hazard is made up for by leaving: growth stays."""
    low, high = (
        vf.fit(return_problem(fixed={"return_propensity": value}), seed=1, n_draws=50) for value in (0.1, 0.6)
    )
    assert high.params["leaving_propensity"] > 1.4 * low.params["leaving_propensity"]
    assert high.residuals["fitted"].mean() == pytest.approx(low.residuals["fitted"].mean(), abs=1e-3)
    assert result.identifiability.practical_rank == len(NET) and result.identifiability.collinearity < 2


def test_errors_of_levels_depend_more_than_errors_of_growth(problem, result):
    levels = return_problem(form="levels")
    plain = vf.fit(levels, seed=1, cov_type="hessian", n_draws=50)
    ratios = [
        (cluster(one, found).std_errors / found.std_errors)[list(NET)] for one, found in
        ((problem, result), (levels, plain))
    ]
    assert (ratios[0] > 1.5).all() and (ratios[1] > ratios[0]).all()


def test_those_away_follow_the_national_survey(problem, result):
    """The survey was used to set one constant, the settling; its path of seven years is the check."""
    start = problem.covariates[problem.covariates["name"] == "initial_rural_population"]["value"].to_numpy()
    table = pd.DataFrame({"initial_rural_population": start, "leaving_propensity": result.params["leaving_propensity"]})
    runs = vf.simulate(problem.model, table, save=["away"], method="rk4")["away"].sum("member")
    survey = quietly_loaded("nation").loc["CHINA", "migrant_workers_out"].loc[2011:2017].astype(float)
    assert_allclose(runs.sel(time=survey.index.to_numpy() + 1.0), survey, rtol=0.025)


def test_persons_are_moved_and_none_is_lost():
    model = vf.read_model(model_file())
    settled = vf.simulate(
        model, {"natural_increase": [0.0], "settling": [0.0]}, save=["away", "rural_population"], method="rk4"
    )
    total = (settled["away"] + settled["rural_population"]).to_numpy()
    assert_allclose(total, total[:, :1] * np.ones_like(total), rtol=1e-12)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"form": "level"}, "levels"), ({"exposure": "rosters"}, "roster"), ({"free": ("home_share",)}, "home_share")],
)
def test_what_is_not_known_is_named(asked, said):
    with pytest.raises(CalibrationError, match=said):
        return_problem(**asked)


@pytest.mark.statistical
def test_tables():
    """Random leaving halves the unexplained variance; forecasts are those of arithmetic; nothing rests on the pulls."""
    found = return_fit(1)
    table = found.estimates.set_index(["fit", "parameter"])
    pulls = table.loc[table.index.isin(["income_pull", "village_pull"], level=1)]
    assert ((pulls["lower"] < 0) & (pulls["upper"] > 0)).all()
    spread = [table.loc[(fit, "growth_error"), "estimate"] for fit in ("growth, random leaving", "growth")]
    assert spread[0] ** 2 < 0.55 * spread[1] ** 2
    people = np.log(quietly_loaded("provinces")["rural_population"].unstack())
    mean = people.diff(axis=1).loc[:, 2012:2019].mean(axis=1)
    scores = found.scores.set_index("forecast")
    for year, column in ((2021, "mae_2021"), (2022, "mae_2022")):
        own = people[2020] + (year - 2020) * mean - people[year]
        assert scores.loc["own mean growth", column] == pytest.approx(100 * own.abs().mean(), abs=1e-6)
        still = people[2020] - people[year]
        assert scores.loc["no change", column] == pytest.approx(100 * still.abs().mean(), abs=1e-6)
        with_both, without = scores.loc["model", column], scores.loc["model, without both", column]
        assert abs(with_both - without) < 0.02
    rank = found.identifiability.set_index("n_free")
    assert rank.loc[len(HAZARDS), "practical_rank"] < len(HAZARDS) and rank.loc[len(HAZARDS), "collinearity"] > 100
    verdicts = found.verdicts.set_index("name")["verdict"]
    assert verdicts["return_propensity"] != "bounded"
    assert np.ptp(found.responses["mean_growth"]) < 2e-3
