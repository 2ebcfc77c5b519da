"""A problem as a folder: what is written is what is read, and the command fits it whatever its effects."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import villageflow as vf
from villageflow.calibrate.folder import read_problem, write_problem
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.load import load_fit
from villageflow.calibrate.national import national_problem
from villageflow.calibrate.problem import Problem
from villageflow.cli import main
from villageflow.errors import CalibrationError, VillageflowError
from villageflow.report.reporting import calibration_report

MODEL = """{UTF-8}
level = INTEG(growth rate*level*(1-level)*push, initial level) ~ thing ~|
growth rate = 0.6 ~ 1/Year ~|
initial level = 0.08 ~ thing ~|
push = 1 + STEP(0, 5) ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 8 ~ Year ~|
TIME STEP = 0.25 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
N, TIMES = 8, np.arange(1.0, 9.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "logistic.mdl").write_text(MODEL)
    return tmp_path


def declared(folder, effect="shared"):
    model = vf.read_model(folder / "logistic.mdl")
    rng = np.random.default_rng(5)
    growth = 0.6 * np.exp(0.25 * rng.normal(size=N)) if effect != "shared" else np.full(N, 0.6)
    runs = vf.simulate(model, {"growth rate": growth}, save=["level"], method="rk4")["level"].sel(time=TIMES)
    values = runs.to_numpy() * np.exp(0.05 * rng.normal(size=runs.shape))
    table = pd.DataFrame({
        "entity": np.repeat([f"v{i}" for i in range(N)], len(TIMES)), "time": np.tile(TIMES, N), "observable": "level",
        "value": values.ravel(), "comparator": "=", "source_id": "made",
    })
    parameters = pd.DataFrame({
        "name": ["growth rate", "spread"], "unit": ["1/Year", "1"], "scale": ["log"] * 2, "lower": [0.2, 0.01],
        "upper": [2.0, 1.0], "distribution": "loguniform", "effect": [effect, "shared"], "source": "assumed",
    })
    brought = pd.DataFrame({
        "entity": [f"v{i}" for i in range(N)] * 2, "name": ["push"] * 2 * N, "time": [0.0] * N + [8.0] * N,
        "value": 1.0, "source_id": "made",
    })
    return Problem(
        model=model, parameters=parameters,
        observables=(Observable("level", "level", "level", "lognormal", "spread", "thing"),),
        measurements=table[table["time"] < 8], holdout=table[table["time"] == 8], covariates=brought,
        fixed={"initial level": 0.08}, method="rk4", time_step=0.125,
    )  # fmt: skip


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["villageflow", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_a_problem_comes_back_from_its_folder(folder):
    problem = declared(folder)
    write_problem(problem, folder, model="logistic.mdl")
    again = read_problem(folder)
    assert (again.method, again.time_step, again.fixed) == ("rk4", 0.125, {"initial_level": 0.08})
    assert again.entities == problem.entities and again.effects == problem.effects
    assert again.observables == problem.observables
    at = problem.box.natural(np.random.default_rng(1).uniform(size=(3, 2)))
    for rows, others in ((problem.measurements, again.measurements), (problem.holdout, again.holdout)):
        assert_array_equal(problem.locations(at, rows), again.locations(at, others))
        assert_array_equal(rows["value"], others["value"])


def test_the_shipped_problem_comes_back_too(tmp_path):
    problem = national_problem(method="rk4")
    write_problem(
        Problem(
            model=problem.model, parameters=problem.parameters.fillna({"distribution": "loguniform"}),
            observables=problem.observables, measurements=problem.measurements, holdout=problem.holdout, method="rk4",
        ), tmp_path, model="national_diffusion",
    )  # fmt: skip
    again = read_problem(tmp_path)
    at = pd.DataFrame(problem.box.natural(np.full((1, problem.box.size), 0.5)), columns=problem.box.names)
    assert_array_equal(problem.log_likelihood(at), again.log_likelihood(at))


@pytest.mark.parametrize("effect", ["shared", "random", "fixed"])
def test_the_command_fits_shared_random_and_fixed_effects(folder, effect, monkeypatch, capsys):
    write_problem(declared(folder, effect), folder, model="logistic.mdl")
    whole, table = folder / "fit.json", folder / "fit.csv"
    assert call(monkeypatch, "fit", folder, "--output", whole) == 0
    printed = capsys.readouterr().out
    assert "spread" in printed and ("growth_rate" in printed or "8 effects" in printed)
    found = load_fit(whole)
    assert found.summary() == printed.rstrip("\n")
    assert call(monkeypatch, "fit", folder, "--output", table) == 0
    estimates = pd.read_csv(table, index_col=0)["estimate"]
    assert_array_equal(estimates, found.params)
    capsys.readouterr()
    assert call(monkeypatch, "fit", folder, "--output", folder / "fit.txt") == 1
    assert "neither .json" in capsys.readouterr().err


@pytest.mark.parametrize("effect", ["shared", "random", "fixed"])
def test_a_report_holds_all_that_a_reader_needs(folder, effect, monkeypatch):
    problem = declared(folder, effect)
    write_problem(problem, folder, model="logistic.mdl")
    whole, told = folder / "fit.json", folder / "report.json"
    assert call(monkeypatch, "fit", folder, "--output", whole, "--report", told) == 0
    found, report = load_fit(whole), json.loads(told.read_text())
    estimates = {row["name"]: row for row in report["parameters"]}
    assert list(estimates) == list(found.params.index)
    for name, value in found.params.items():
        assert estimates[name]["estimate"] == value
        errors = found.std_errors if effect == "shared" else found.clustered_errors
        assert estimates[name]["std_error"] == errors[name]
    assert estimates["spread"]["source"] == "assumed" and estimates["spread"]["unit"] == "1"
    assert report["objective"]["value"] == found.loglik and report["search"]["converged"]
    assert report["errors"] == {"covariance": "sandwich clustered by entity", "clusters": N, "intervals": "t(7)"}
    assert report["data"]["measurements"]["rows"] == 56 and report["data"]["holdout"]["rows"] == 8
    assert {row["name"] for row in report["model"]["equations"]} >= {"growth rate", "level"}
    assert str(folder) not in told.read_text()
    moved = replace(problem, measurements=problem.measurements.assign(value=lambda rows: rows["value"] * 1.001))
    other = calibration_report(moved, found)
    assert other["data"]["measurements"]["sha256"] != report["data"]["measurements"]["sha256"]
    assert other["data"]["covariates"] == report["data"]["covariates"]


def test_a_report_has_the_verdicts_of_profiles(folder):
    problem = declared(folder)
    found = vf.fit(problem, seed=1, n_draws=10)
    profiles = vf.profile(problem, found, seed=1, starts=1, points=4)
    rows = {row["name"]: row for row in calibration_report(problem, found, profiles)["parameters"]}
    for name in found.params.index:
        assert rows[name]["verdict"] == profiles[name].verdict == "bounded"
        assert rows[name]["profile_lower"] == profiles[name].lower < rows[name]["estimate"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("problem.csv", "setting,value\nmethod,rk4\n", "no setting 'model'"),
        ("problem.csv", "setting,value\nmodel,logistic.mdl\nsolver,rk4\n", "row 3"),
        ("problem.csv", "setting,value\nmodel,logistics.mdl\n", "does not exist"),
        ("problem.csv", "setting,value\nmodel,logistic.mdl\ntime_step,short\n", "must be a number"),
        ("measurements.csv", "entity,time\nv0,1\n", "measurements.csv"),
        ("covariates.csv", "entity,name,time,value,source_id\nv0,push,,1,made\n", "push"),
        ("fixed.csv", "name,value\ninitial level,0.1\nInitial_Level,0.2\n", "row 3 sets 'initial_level', as a row"),
        ("fixed.csv", "name,value\ninitial level,\n", "fixed.csv"),
        ("fixed.csv", "name,value\ninitial level,low\n", "fixed.csv"),
        ("covariate.csv", "", "covariate.csv is no table of a problem.*Did you mean 'covariates.csv'"),
        ("Hold-Out.csv", "", "Did you mean 'holdout.csv'"),
        ("mesurements.csv", "", "Did you mean 'measurements.csv'"),
    ],
)
def test_a_broken_folder_is_named_in_one_line(folder, name, text, said, monkeypatch, capsys):
    write_problem(declared(folder), folder, model="logistic.mdl")
    (folder / name).write_text(text)
    with pytest.raises(VillageflowError, match=said):
        read_problem(folder)
    assert call(monkeypatch, "fit", folder) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["cities.csv", "parameters_old.csv", "fit.csv", "covariate.txt", "facts.csv"])
def test_other_files_of_a_folder_are_left_alone(folder, name):
    write_problem(declared(folder), folder, model="logistic.mdl")
    (folder / name).write_text("anything\n")
    assert read_problem(folder).fixed == {"initial_level": 0.08}


@pytest.mark.parametrize(
    ("where", "model", "said"),
    [
        (".", "national_difusion", "'national_difusion', neither a shipped model.*Did you mean 'national_diffusion'"),
        (".", "logistic", "'logistic', neither a shipped model nor a file with a suffix of .mdl"),
        (".", "logistic.txt", "'logistic.txt', neither"),
        (".", None, "None, a NoneType; give its name as text"),
        ("logistic.mdl", "logistic.mdl", "logistic.mdl cannot be written .*; choose one that can"),
        ("logistic.mdl/below", "logistic.mdl", "below cannot be written .*; choose one that can"),
    ],
)
def test_a_problem_that_cannot_be_written_is_said_in_one_line(folder, where, model, said):
    with pytest.raises(CalibrationError, match=said) as caught:
        write_problem(declared(folder), folder / where, model=model)
    assert "\n" not in str(caught.value)


def test_what_is_no_problem_is_refused(tmp_path, folder, monkeypatch, capsys):
    with pytest.raises(CalibrationError, match="is no folder"):
        read_problem(tmp_path / "none")
    assert call(monkeypatch, "fit", "nationl") == 1
    assert "Did you mean 'national'" in capsys.readouterr().err
    problem = declared(folder)
    bare = Problem(
        model=problem.model, parameters=problem.parameters.drop(columns="source"), observables=problem.observables,
        measurements=problem.measurements,
    )
    with pytest.raises(CalibrationError, match="no column 'source'"):
        write_problem(bare, tmp_path / "x", model="logistic.mdl")
