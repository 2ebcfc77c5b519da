"""The declared regressions on the shipped panels: samples, clusters, structure, and the placebo."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from villageflow import datasets
from villageflow.econometrics import Clustered, Spec, estimate
from villageflow.econometrics.placebo import mean_reversion_placebo
from villageflow.econometrics.studies import (
    STUDIES,
    prepare_counties,
    run_study,
    study_names,
    study_placebo,
)
from villageflow.errors import EstimationError
from villageflow.report.tables import check_block

POISSON, GROWTH = "Poisson (headline)", "log growth"


@pytest.fixture(scope="module")
def panels():
    return {name: datasets.build(name) for name in ("counties", "provinces")}


@pytest.fixture(scope="module")
def tables(panels):
    return {name: run_study(name, panels[STUDIES[name].panel]) for name in study_names()}


def test_declared_studies_run_and_blocks_hold_one_covariance(tables):
    assert set(tables) == {"county_crowding", "rural_population", "villages_and_rural_population"}
    for table in tables.values():
        assert table.notes
        for block in table.blocks:
            check_block(block)
            for _, result in block.columns:
                frame = result.to_frame()
                assert np.isfinite(frame.to_numpy()).all()
                assert_allclose(frame["std_error"], np.sqrt(np.diag(result.cov)))
                assert_allclose((frame["upper"] + frame["lower"]) / 2, frame["estimate"], atol=1e-12)


def test_county_samples_and_clusters(tables, panels):
    table = tables["county_crowding"]
    pooled = table[POISSON, "own and elsewhere"]
    assert (pooled.nobs, pooled.n_entities, pooled.n_periods, pooled.n_clusters) == (454, 227, 2, 74)
    assert pooled.nobs + sum(item.n for item in pooled.dropped) == 2 * 235
    assert pooled.spec.effects == ("province*time",) and pooled.spec.cov_type == Clustered(("city",))
    assert [table[POISSON, year].nobs for year in ("2015", "2016")] == [227, 227]
    listed = (panels["counties"]["villages"] > 0).unstack("time")[[2014, 2015]].sum().sum()
    before = table[POISSON, "listed before"]
    assert listed == 261 == before.nobs + sum(d.n for d in before.dropped if "missing" not in d.reason)


def test_elsewhere_is_the_city_less_the_county(panels):
    prepared = prepare_counties(panels["counties"])
    city = prepared.reset_index().query("city == '菏泽市' and time == 2015")
    assert_array_equal(city["elsewhere"] + city["villages"], city["villages"].sum())
    assert prepared["villages_listed"].notna().sum() == 261


def test_province_samples_and_errors(tables):
    table = tables["rural_population"]
    for column in ("all four", "without income ratio", "without urbanisation"):
        clustered, kraay = table["clustered by province", column], table["Driscoll-Kraay", column]
        assert (clustered.nobs, clustered.n_clusters, clustered.n_periods) == (341, 31, 11)
        assert_allclose(clustered.params, kraay.params)
        assert not np.allclose(clustered.std_errors, kraay.std_errors)
    assert table["clustered by province", "urbanisation two years before"].nobs == 310


def test_no_study_uses_population_of_the_other_export(tables):
    for name in ("rural_population", "villages_and_rural_population"):
        for column in (c for block in STUDIES[name].blocks.values() for c in block):
            assert max(column.spec.times) <= 2022 and min(column.spec.times) >= 2012
            depth = 2 if "lag(lag" in column.spec.formula else 1
            assert min(column.spec.times) - depth >= 2011


def test_village_samples_are_the_years_that_are_known(tables):
    table = tables["villages_and_rural_population"]
    first, second = (table["clustered by province", label] for label in ("villages of 2014-16", "and 2018"))
    assert (first.nobs, first.n_periods, second.nobs, second.n_periods) == (93, 3, 99, 4)


def test_studies_do_not_depend_on_row_order_or_on_the_run(panels):
    first = run_study("county_crowding", panels["counties"])
    again = run_study("county_crowding", panels["counties"])
    shuffled = run_study("county_crowding", panels["counties"].sample(frac=1, random_state=5))
    for block in first.blocks:
        for label, result in block.columns:
            assert_array_equal(result.to_frame(), again[block.title, label].to_frame())
            assert_allclose(result.to_frame(), shuffled[block.title, label].to_frame(), rtol=1e-6, atol=1e-9)


def test_placebo_is_reproducible_draw_by_draw_and_covers_every_coefficient(panels, tables):
    few = study_placebo(panels["counties"], n_draws=3, seed=7)
    assert_array_equal(few, study_placebo(panels["counties"], n_draws=3, seed=7))
    assert (few["n_draws"] == 3).all()
    for (block, column, term), row in few.iterrows():
        assert row["estimate"] == pytest.approx(
            tables["county_crowding"][block, column].params[term], rel=1e-9
        )


def test_placebo_finds_mean_reversion_where_there_is_no_crowding(panels):
    found = study_placebo(panels["counties"], n_draws=12)
    own = "log1p(lag(villages))"
    assert found.loc[(GROWTH, "own", own), "upper"] < 0
    elsewhere = found.loc[(POISSON, "own and elsewhere", "log1p(lag(elsewhere))")]
    assert elsewhere["placebo_mean"] > 0


def test_poisson_study_recovers_crowding_and_contagion_put_into_a_simulated_panel(panels):
    rng = np.random.default_rng(11)
    frame = panels["counties"][["province", "city", "county"]].copy()
    big = pd.concat([frame.rename(index=lambda e, k=k: f"{e}-{k}", level=0) for k in range(3)])
    big["city"] = [f"{c}-{e[-1]}" for c, e in zip(big["city"], big.index.get_level_values(0), strict=True)]
    villages = pd.Series(rng.poisson(6.0, len(big)).astype(float), index=big.index)
    before = prepare_counties(big.assign(villages=villages))
    for year in (2015, 2016):
        lagged = before.xs(year - 1, level=1)
        mean = np.exp(0.5 + 0.6 * np.log1p(lagged["villages"]) + 0.2 * np.log1p(lagged["elsewhere"]))
        villages.loc[(slice(None), year)] = rng.poisson(mean.loc[villages.xs(year, level=1).index])
        before = prepare_counties(big.assign(villages=villages))
    spec = STUDIES["county_crowding"].blocks[POISSON][1].spec
    result = estimate(spec, before)
    assert (np.abs(result.params - [0.6, 0.2]) < 4 * result.std_errors).all()
    assert (result.std_errors < 0.05).all()


def test_unknown_study_is_refused(panels):
    with pytest.raises(EstimationError, match="Did you mean 'county_crowding'"):
        run_study("county_crowd", panels["counties"])
    with pytest.raises(EstimationError, match="at least 2"):
        study_placebo(panels["counties"], n_draws=1)


def test_a_draw_of_the_placebo_depends_on_the_seed_and_its_number_only(panels):
    spec = {"own": Spec("villages ~ log1p(lag(villages))", "poisson", ("time",), Clustered(("city",)))}
    draws = {
        n: mean_reversion_placebo(panels["counties"], spec, prepare=prepare_counties, n_draws=n, seed=3)
        for n in (2, 5)
    }
    ((few,), (many,)) = (tuple(found.values()) for found in draws.values())
    assert_array_equal(few, many[:2])
    assert len(set(many)) == 5
