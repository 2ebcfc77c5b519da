"""Problems with many entities: lanes are entities, errors are clustered by them, levels and series are their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import villageflow as vf
from villageflow.calibrate.fit import cluster, entity_scores, fit
from villageflow.calibrate.likelihood import Observable, log_terms
from villageflow.calibrate.problem import Problem
from villageflow.errors import CalibrationError

MODEL = """{UTF-8}
level = INTEG(growth rate*level*(1-level/ceiling)*push, initial level) ~ thing ~|
growth rate = 0.6 ~ 1/Year ~|
ceiling = 1 ~ thing ~|
initial level = 0.08 ~ thing ~|
push = 1 + STEP(0, 5) ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 12 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
TIMES = np.arange(1.0, 13.0)
SIZE = Observable("size", "level", "level", "lognormal", "spread", "thing")
CENTRED = Observable("size", "level", "level", "lognormal", "spread", "thing", True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "logistic.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def parameters(**changes):
    table = pd.DataFrame({
        "name": ["growth rate", "initial level", "spread"], "scale": ["log", "log", "log"],
        "lower": [0.1, 0.005, 0.01], "upper": [2.0, 0.5, 3.0], "effect": "shared",
    })
    return table.assign(**changes)


def path_of(growth, start, times=TIMES):
    return 1 / (1 + (1 / start - 1) * np.exp(-growth * times))


def rows(values, entities):
    table = [
        {"entity": entity, "time": time, "observable": "size", "value": value, "comparator": "=", "source_id": entity}
        for entity, path in zip(entities, values, strict=True)
        for time, value in zip(TIMES, path, strict=True)
    ]
    return pd.DataFrame(table)


def panel(n=8, seed=3, spread=0.1):
    rng = np.random.default_rng(seed)
    values = path_of(0.6, 0.08) * np.exp(spread * rng.normal(size=(n, len(TIMES))))
    return rows(values, [f"v{i}" for i in range(n)])


def make(model, measurements, **changes):
    given = {
        "model": model, "parameters": parameters(), "observables": (SIZE,), "measurements": measurements,
        "method": "rk4",
    }  # fmt: skip
    return Problem(**(given | changes))


def test_the_likelihood_is_the_sum_over_entities_each_under_its_own_parameters(model):
    problem = make(model, panel(3))
    values = np.array([[[0.5, 0.05, 0.1], [0.6, 0.08, 0.2], [0.9, 0.1, 0.3]], [[0.6, 0.08, 0.1]] * 3])
    found = problem.entity_log_likelihood(values)
    assert found.shape == (2, 3)
    for i, (_, own) in enumerate(problem.measurements.groupby("entity", sort=False)):
        alone = make(model, own)
        for j in range(2):
            by_hand = stats.norm.logpdf(np.log(own["value"]), np.log(path_of(*values[j, i, :2])), values[j, i, 2])
            assert_allclose(found[j, i], by_hand.sum() - np.log(own["value"]).sum(), rtol=1e-4)
            assert found[j, i] == pytest.approx(log_terms(alone, values[j, [i]], own).sum(), rel=1e-12)
    shared = problem.log_likelihood(pd.DataFrame(values[1, :1], columns=problem.box.names))
    assert_allclose(shared, found[1].sum())


def test_many_lanes_are_run_in_parts_with_the_same_bits(model, monkeypatch):
    problem = make(model, panel(4))
    values = problem.box.natural(np.random.default_rng(0).uniform(size=(7, 3)))
    whole = problem.locations(values, problem.measurements)
    monkeypatch.setattr("villageflow.calibrate.lanes._MAX_BYTES", 1000)
    assert_array_equal(problem.locations(values, problem.measurements), whole)


def test_entities_bring_initial_values_and_series_of_their_own(model):
    measured = panel(2)
    years = np.arange(13.0)
    brought = pd.DataFrame({
        "entity": ["v0", "v1", *["v0"] * 13, *["v1"] * 13], "name": ["ceiling"] * 2 + ["push"] * 26,
        "time": [np.nan, np.nan, *years, *years], "value": [1.0, 3.0, *np.ones(13), *np.where(years < 4, 0.0, 1.0)],
        "source_id": "made",
    })
    problem = make(model, measured, covariates=brought)
    at = np.array([[0.6, 0.08, 0.1]])
    found = problem.locations(at, problem.measurements)[0]
    assert_allclose(found[:12], path_of(0.6, 0.08), rtol=1e-4)
    late = 3 * path_of(0.6, 0.08 / 3, np.maximum(TIMES - 4, 0))
    assert_allclose(found[12:], late, rtol=1e-4)


def test_a_centred_observable_counts_movements_only(model):
    measured = panel(5)
    levels = measured.groupby("entity")["value"].transform("first") ** 2
    problem = make(model, measured, observables=(CENTRED,))
    moved = make(model, measured.assign(value=measured["value"] * levels), observables=(CENTRED,))
    values = np.array([[0.5, 0.05, 0.2], [0.8, 0.1, 0.1]])
    shift = np.log(levels).sum()  # the density of a number that is larger by a factor
    first, second = (log_terms(one, values, one.measurements).sum(axis=1) for one in (problem, moved))
    assert_allclose(first, second + shift, rtol=1e-10)
    frame = measured.assign(log=np.log(measured["value"]))
    for i, (growth, start, spread) in enumerate(values):
        gap = frame["log"] - np.log(np.tile(path_of(growth, start), 5))
        inner = gap - gap.groupby(frame["entity"]).transform("mean")
        by_hand = stats.norm.logpdf(inner, 0, spread).sum() - frame["log"].sum()
        assert_allclose(first[i], by_hand, rtol=1e-4)  # steps of an eighth of a year


def test_clustered_errors_are_the_sandwich_of_hessian_and_scores(model):
    problem = make(model, panel(12))
    plain = fit(problem, seed=1, cov_type="hessian")
    clustered = fit(problem, seed=1)
    assert (clustered.cov_type, clustered.df, clustered.n_entities) == ("clustered", 11.0, 12)
    assert (plain.cov_type, plain.df) == ("hessian", None)
    assert_array_equal(plain.params, clustered.params)
    natural = plain.params.to_numpy()
    scores = entity_scores(problem, natural)
    assert_allclose(scores.sum(axis=0), 0, atol=1e-2 * np.abs(scores).max())  # the maximum
    per_natural = scores / (problem.box.width * problem.box.slope(natural))
    bread = plain.cov.to_numpy()
    assert_allclose(clustered.cov, bread @ (per_natural.T @ per_natural) @ bread * 12 / 11, rtol=1e-8)
    wide = clustered.conf_int()
    reach = stats.t(11).ppf(0.975) * clustered.transformed["std_error"]
    assert_allclose(np.log(wide["upper"]) - np.log(clustered.params), reach, rtol=1e-8)
    assert "clustered by entity (12 of them" in clustered.summary()


def test_a_clustered_fit_comes_back_from_its_file(model, tmp_path):
    result = fit(make(model, panel(6)), seed=1)
    result.save(tmp_path / "fit.json")
    again = vf.load_fit(tmp_path / "fit.json")
    assert (again.cov_type, again.n_entities, again.df) == ("clustered", 6, 5.0)
    assert_array_equal(again.conf_int(), result.conf_int())


BAD = {
    "a covariate of nobody": ({"covariates": ("w9", "ceiling", np.nan, 1.0)}, "no measurement is of this entity"),
    "a covariate of some": ({"covariates": ("v0", "ceiling", np.nan, 1.0)}, "not for 'v1', which is measured"),
    "a free covariate": ({"covariates": ("v0", "growth rate", np.nan, 1.0)}, "a parameter of the problem too"),
    "an unknown covariate": ({"covariates": ("v0", "ceilin", np.nan, 1.0)}, "Did you mean"),
    "a series of a constant": ({"covariates": ("v0", "ceiling", 1.0, 1.0)}, "takes the place of an auxiliary"),
    "an infinite covariate": ({"covariates": ("v0", "ceiling", np.nan, np.inf)}, "known throughout"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_covariates_that_do_not_fit_are_named(model, case):
    changes, said = BAD[case]
    entity, name, time, value = changes["covariates"]
    table = pd.DataFrame([{"entity": entity, "name": name, "time": time, "value": value, "source_id": "made"}])
    with pytest.raises(CalibrationError, match=said):
        make(model, panel(2), covariates=table)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ((1.0, 12.0), "'push' from 1 to 12; the run needs it from 0 to 12: add rows"),
        ((0.0, 11.0), "'push' from 0 to 11; the run needs it from 0 to 12"),
        ((0.0,), "'push' from 0 to 0; the run needs it"),
    ],
)
def test_a_series_that_does_not_cover_the_run_is_refused_when_the_problem_is_made(model, times, said):
    table = pd.DataFrame([
        {"entity": entity, "name": "push", "time": time, "value": 1.0, "source_id": "made"}
        for entity in ("v0", "v1") for time in times
    ])
    with pytest.raises(CalibrationError, match=said):
        make(model, panel(2), covariates=table)
    with pytest.raises(CalibrationError, match="of others at 0 and not of v1"):
        make(model, panel(2), covariates=pd.concat([
            table.query("entity == 'v1'").assign(time=lambda t: t["time"] + 0.25), table.query("entity == 'v0'").assign(
                time=lambda t: t["time"] - t["time"].iloc[0])]))


@pytest.mark.parametrize("until", [6.0, 9.0])
def test_a_series_need_not_go_beyond_what_is_measured_or_held_out(model, until):
    whole = panel(2)
    table = pd.DataFrame([
        {"entity": entity, "name": "push", "time": time, "value": 1.0, "source_id": "made"}
        for entity in ("v0", "v1") for time in (0.0, until)
    ])
    given = {"covariates": table, "holdout": whole[(whole["time"] > 6) & (whole["time"] <= until)]}
    assert make(model, whole[whole["time"] <= 6], **given).locations(np.array([[0.6, 0.08, 0.1]]), whole[:2]).all()
    if until > 6:
        with pytest.raises(CalibrationError, match="the run needs it from 0 to 9"):
            make(model, whole[whole["time"] <= 6], **given | {"covariates": table.replace({"time": {9.0: 8.0}})})


def test_other_mistakes_are_named(model):
    with pytest.raises(CalibrationError, match="fit takes 'shared' ones"):
        fit(make(model, panel(4), parameters=parameters(effect=["random", "shared", "shared"])), seed=1)
    with pytest.raises(CalibrationError, match="'randm'"):
        make(model, panel(4), parameters=parameters(effect=["randm", "shared", "shared"]))
    with pytest.raises(CalibrationError, match="3 entities for 3 parameters"):
        fit(make(model, panel(3)), seed=1)
    with pytest.raises(CalibrationError, match="cov_type='sandwich' is not known"):
        fit(make(model, panel(4)), seed=1, cov_type="sandwich")
    with pytest.raises(CalibrationError, match="centred and has poisson noise"):
        make(model, panel(2), observables=(Observable("size", "level", "count", "poisson", None, "thing", True),))
    with pytest.raises(CalibrationError, match="a bound says nothing of a centred observable"):
        make(model, panel(2).assign(comparator=">="), observables=(CENTRED,))
    twice = pd.concat([panel(2), panel(2).iloc[[0]]])
    with pytest.raises(CalibrationError, match="are the same datum of v0"):
        make(model, twice)


def test_fit_and_its_parts_do_not_move_with_the_order_of_entities(model):
    measured = panel(5)
    turned = pd.concat([measured.query("entity == @name") for name in ("v3", "v0", "v4", "v2", "v1")])
    first, second = (fit(make(model, table), seed=1) for table in (measured, turned))
    assert_allclose(first.params, second.params, rtol=1e-6)
    assert_allclose(first.std_errors, second.std_errors, rtol=1e-4)
    assert cluster(make(model, measured), first).cov_type == "clustered"
