"""The provinces: counts and model are those of the nation, folders what the code writes, predictions as stated."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import villageflow as vf
from villageflow.calibrate.folder import read_problem, write_problem
from villageflow.calibrate.marginal import entity_marginals
from villageflow.calibrate.problems import PROBLEMS
from villageflow.calibrate.provinces import (
    FIXED_ONES,
    MODEL_FILE,
    NODES,
    digital_finance,
    provincial_measurements,
    provincial_model,
    provincial_problem,
    verdict,
)
from villageflow.calibrate.provinces_predicted import (
    METHODS,
    Predictions,
    draw_values,
    holdout_table,
    provincial_fit,
    rules,
    skill_table,
    totals_table,
)
from villageflow.datasets.panel import table
from villageflow.errors import CalibrationError
from villageflow.library import folder

FOLDER = folder() / "problems"
OWN = {"villages_in_pool", "initial_seed_villages", "initial_seed_share", "one_year", "retrospective_detection"}
YEARS = np.arange(2013, 2023) + 0.75


@pytest.fixture(scope="module")
def problem():
    return provincial_problem()


@pytest.fixture(scope="module")
def model(problem):
    return provincial_model(problem)


@pytest.fixture(scope="module")
def readme() -> str:
    return (FOLDER / "provinces" / "README.md").read_text(encoding="utf-8")


def said(readme: str, name: str) -> list[float]:
    """Numbers of a row of a table of the README."""
    row = re.search(rf"^\| `?{re.escape(name)}`?[^|]*\|(.*)\|$", readme, re.MULTILINE)
    return [float(cell.strip().replace(",", "").replace("%", "")) for cell in row.group(1).split("|")]


def theta_of(model, readme):
    return np.array([[said(readme, name)[0] for name in model.box.names]])


# The counts


def test_every_province_is_counted_in_each_roster_and_they_add_up_to_the_nation(problem) -> None:
    counts = problem.measurements.pivot(index="entity", columns="time", values="value")
    assert counts.shape == (31, 3) and counts.notna().all().all()
    nation = table("villages_area_year").query("area_kind == 'nation' and variable == 'taobao_villages'")
    national = nation.set_index("year")["value"]
    assert list(counts.sum()) == [national[2014], national[2015], national[2016] + 1]  # the roster has one row more


def test_counts_and_zeros_are_those_of_the_county_rosters(problem) -> None:
    counties = table("villages_county_year").groupby(["province", "year"])["villages"].sum()
    rows = problem.measurements
    found = [counties.get((entity, int(time)), 0) for entity, time in zip(rows["entity"], rows["time"], strict=True)]
    assert found == list(rows["value"])
    assert (rows["value"] == 0).sum() > 30


def test_what_is_held_out_lies_after_what_is_fitted(problem) -> None:
    assert sorted(problem.holdout["time"].value_counts().to_dict().items()) == [(2017.75, 3), (2018.75, 6)]
    assert problem.measurements["time"].max() == 2016.75
    assert len(provincial_measurements()) == len(problem.measurements) + len(problem.holdout)


def test_pools_share_the_villages_of_the_nation_by_rural_residents(problem) -> None:
    pools = problem.covariates.set_index("entity")["value"]
    national = vf.library.read("national_diffusion").constants["villages_in_pool"]
    assert pools.sum() == pytest.approx(national, abs=16)
    people = table("provinces").query("variable == 'rural_population' and year == 2013").set_index("province")["value"]
    assert (pools / people * people.sum() / national).to_numpy() == pytest.approx(np.ones(31), abs=1e-3)


# The model


def test_with_the_pool_of_the_nation_it_is_the_national_model_without_its_two_national_feedbacks(problem) -> None:
    national = vf.simulate(
        vf.library.read("national_diffusion"), {"programme_gain": 0.0, "dilution_elasticity": 0.0},
        save=["taobao_villages"], method="rk4",
    )
    same = {"villages_in_pool": 550_000.0, "retrospective_detection": 0.0239}
    own = vf.simulate(problem.model, same, save=["taobao_villages"], method="rk4", time_step=0.25)
    expected, found = (run["taobao_villages"].sel(time=YEARS).to_numpy().ravel() for run in (national, own))
    assert found == pytest.approx(expected, rel=0.01)  # demand is a straight line of the logarithm within a year


def test_constants_and_demand_are_those_of_the_nation(problem) -> None:
    national = vf.library.read("national_diffusion")
    shared = [name for name in problem.model.constants if name not in OWN]
    assert len(shared) > 20
    assert [problem.model.constants[name] for name in shared] == [national.constants[name] for name in shared]
    years = np.arange(2003.0, 2027.0)
    demand = vf.simulate(problem.model, save=["log_rural_demand"])["log_rural_demand"].sel(time=years)
    sales = vf.simulate(national, save=["rural_online_sales"], method="rk4")["rural_online_sales"].sel(time=years)
    expected = np.log(sales.to_numpy() / national.constants["reference_rural_sales"])
    assert demand.to_numpy().ravel() == pytest.approx(expected.ravel(), abs=6e-5)


def test_villages_are_conserved_and_counts_are_proportional_to_the_pool(problem) -> None:
    stocks = ["unseeded_villages", "latent_villages", "seed_villages", "unlisted_villages", "taobao_villages",
              "lapsed_villages"]
    run = vf.simulate(problem.model, {"villages_in_pool": [1000.0, 3000.0]}, save=stocks, method="rk4", time_step=0.25)
    total = sum(run[name].to_numpy() for name in stocks)
    assert total == pytest.approx(np.broadcast_to([[1000.0], [3000.0]], total.shape), rel=1e-12)
    counts = run["taobao_villages"].to_numpy()
    assert counts[1] == pytest.approx(3 * counts[0], rel=1e-10)


# The folders


@pytest.mark.parametrize("name", ["national", "provinces"])
def test_the_committed_folder_is_what_the_code_writes_and_can_be_read(name, problem, tmp_path) -> None:
    if name == "national":
        source, of = PROBLEMS["national"](), "national_diffusion"
        source = replace(source, parameters=source.parameters.fillna({"distribution": "loguniform"}))
    else:
        source, of = problem, MODEL_FILE
    write_problem(source, tmp_path, model=of)
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == sorted(path.name for path in (FOLDER / name).glob("*.csv"))
    for path in written:
        assert path.read_bytes() == (FOLDER / name / path.name).read_bytes(), path.name
    again = read_problem(FOLDER / name)
    assert again.entities == source.entities and again.effects == source.effects
    middle = pd.DataFrame([dict(zip(source.box.names, source.box.natural(np.full(source.box.size, 0.5)), strict=True))])
    assert again.log_likelihood(middle) == source.log_likelihood(middle)


# The likelihood and the draws


def density_of(problem, model, theta, province, effects):
    """The density of a province's counts and effect at many effects, by SciPy's negative binomial and normal."""
    rows = problem.measurements[problem.measurements["entity"] == province]
    size, deviation = float(theta[0, 2]), float(theta[0, -1])
    values = np.tile(theta[:, None, :3], (len(effects), 31, 1))
    centre = model.locations(theta)[0, 0, problem.entities.index(province)]
    values[..., 0] = np.exp(centre + effects)[:, None]
    means = problem.locations(values, rows)
    terms = stats.nbinom.logpmf(rows["value"].to_numpy(), size, size / (size + means)).sum(axis=1)
    return np.exp(terms) * stats.norm.pdf(effects, 0, deviation)


@pytest.fixture(scope="module")
def drawn(model, readme):
    return draw_values(model, np.repeat(theta_of(model, readme), 300, axis=0), np.random.default_rng(3))[:, :, 0]


@pytest.mark.parametrize("province", ["Gansu", "Henan"])
def test_marginal_likelihood_and_draws_of_the_effect_are_those_of_numerical_integration(
    province, problem, model, readme, drawn
) -> None:
    theta = theta_of(model, readme)
    i, deviation = problem.entities.index(province), float(theta[0, -1])
    effects = np.linspace(-6 * deviation, 4 * deviation, 601)
    heights = density_of(problem, model, theta, province, effects)
    total = integrate.simpson(heights, x=effects)
    assert entity_marginals(model, theta, nodes=NODES).value[0, i] == pytest.approx(np.log(total), abs=5e-3)
    sample = np.log(drawn[:, i]) - model.locations(theta)[0, 0, i]
    mean = integrate.simpson(effects * heights, x=effects) / total
    spread = np.sqrt(integrate.simpson((effects - mean) ** 2 * heights, x=effects) / total)
    assert sample.mean() == pytest.approx(mean, abs=3 * spread / np.sqrt(300))
    assert sample.std() == pytest.approx(spread, rel=0.15)


def test_the_location_of_a_province_moves_with_its_index(problem, model, readme) -> None:
    theta = theta_of(model, readme)
    index = digital_finance().loc[list(problem.entities), "digital_finance_index"]
    slope, locations = theta[0, 3], model.locations(theta)[0, 0]
    assert np.diff(locations) == pytest.approx(slope * np.diff(index), abs=1e-9)


# The tables


def made(problem) -> Predictions:
    """Two hundred draws of counts that are the counts of 2016, all provinces alike but for a factor of the year."""
    years = tuple(range(2014, 2023))
    counts = problem.measurements.query("time == 2016.75")["value"].to_numpy()
    factor = 1.0 + 0.5 * (np.array(years) - 2016)
    means = np.maximum(factor[:, None] * counts[None, :], 1e-9) * np.linspace(0.5, 1.5, 200)[:, None, None]
    return Predictions(problem.entities, years, np.full(200, 25.0), means, means)


def test_holdout_table_has_medians_intervals_and_log_scores(problem) -> None:
    found = holdout_table(made(problem), problem).set_index(["province", "year"])
    row, counts = found.loc[("Zhejiang", 2018)], np.array([62.0, 280.0, 506.0])
    assert row["observed"] == 1172 and row["model"] == pytest.approx(2 * 506)
    assert (row["low"], row["high"]) == pytest.approx((2 * 506 * 0.55, 2 * 506 * 1.45))
    assert row["covered"]
    means = 2 * 506 * np.linspace(0.5, 1.5, 200)
    expected = np.log(np.mean(stats.nbinom.pmf(1172, 25.0, 25.0 / (25.0 + means))))
    assert row["model_score"] == pytest.approx(expected, abs=1e-9)
    assert row["last_value_score"] == pytest.approx(stats.nbinom.logpmf(1172, 25.0, 25.0 / (25.0 + 506)), abs=1e-9)
    assert row["growth"] == pytest.approx(506 * (506 / 280) ** 2)
    assert rules(counts, 2018) == {"last_value": 506, "growth": row["growth"], "trend": 506 + 2 * 226}


def test_totals_add_up_and_the_rest_is_what_the_reports_say(problem) -> None:
    found = totals_table(made(problem)).set_index(["area", "year"])
    reported = table("villages_area_year").query("area_kind == 'aggregate' and variable == 'taobao_villages'")
    rest = reported[reported["area"].str.startswith("REST")].set_index("year")["value"]
    assert [found.loc[("REST", year), "observed"] for year in (2017, 2018)] == [rest[2017], rest[2018]]
    assert found.loc[("CHINA", 2018), "model"] == pytest.approx(2 * 1312)
    assert found.loc[("CHINA", 2018), "error_percent"] == pytest.approx(100 * (2624 / 3202 - 1))
    assert found.loc[("CHINA", 2022), "trend"] == 1312 + 6 * (1312 - 780)
    assert found.loc[("REST", 2018), "last_value"] == 1312 - (506 + 262 + 201 + 108 + 107 + 91)
    assert list(found.xs("CHINA")["fitted"]) == [True] * 3 + [False] * 6


def test_skill_is_the_mean_over_provinces_of_the_last_year_and_over_national_years(problem) -> None:
    predictions = made(problem)
    holdout, totals = holdout_table(predictions, problem), totals_table(predictions)
    found = skill_table(holdout, totals)
    six = holdout[holdout["year"] == 2018]
    assert list(found.index) == list(METHODS) and len(six) == 6
    assert found.loc["last_value", "provinces_error"] == pytest.approx(
        np.mean([100 * abs(row.last_value - row.observed) / row.observed for row in six.itertuples()])
    )
    nation = totals[(totals["area"] == "CHINA") & (totals["year"] > 2016)]
    assert found.loc["trend", "nation_error"] == pytest.approx(
        np.mean([100 * abs(row.trend - row.observed) / row.observed for row in nation.itertuples()])
    )


@pytest.mark.parametrize(("gains", "expected"), [
    ([-3.0, 0.0, -2.0], "bounded"), ([-1.0, 0.0, -2.0], "one-sided"), ([-0.5, 0.0, 1.0], "flat"),
    ([-2.0, -1.0, 1.0], "one-sided"),
])
def test_verdicts(gains, expected) -> None:
    assert verdict(np.array(gains)) == expected


def test_a_constant_that_is_not_tried_is_refused() -> None:
    with pytest.raises(CalibrationError, match="connection_hazard"):
        provincial_problem(also_free="connection_hazard")


# The fit


def test_the_readme_is_at_the_top_of_the_likelihood(model, readme) -> None:
    theta = theta_of(model, readme)
    errors = np.array([said(readme, name)[1] for name in model.box.names])
    centre = model.box.transformed(theta[0])
    steps = 0.5 * np.diag(errors)
    values = entity_marginals(
        model, model.box.from_transformed(np.vstack([centre, centre + steps, centre - steps])), nodes=NODES
    ).value.sum(axis=1)
    written = float(re.search(r"log likelihood (-\d+\.\d+)", readme).group(1))
    assert values[0] == pytest.approx(written, abs=0.01)
    assert (values[1:] < values[0]).all()


@pytest.mark.statistical
def test_the_readme_says_what_the_fit_finds(readme) -> None:
    fit = provincial_fit(1)
    result = fit.result
    assert result.converged and result.near_best > 0.5 and not result.at_bound
    steps = fit.numerics - result.loglik
    assert abs(steps["31 nodes"]) < 0.01 and abs(steps["half step"]) < 1e-3
    errors = np.sqrt(np.diag(result.transformed_clustered_cov))
    for name, error in zip(result.params.index, errors, strict=True):
        value, written = said(readme, name)[:2]
        assert value == pytest.approx(result.params[name], rel=0.01)
        assert written == pytest.approx(error, rel=0.02, abs=6e-4)
    totals = fit.totals.set_index(["area", "year"])["model"]
    found = [totals["CHINA", year] for year in range(2014, 2023)]
    assert said(readme, "model, median") == pytest.approx(found, rel=0.03)
    for name, verdicts in fit.sensitivity.groupby("parameter")["verdict"]:
        assert name in FIXED_ONES and re.search(rf"`{name}`[^.]*{verdicts.iloc[0]}", readme)
