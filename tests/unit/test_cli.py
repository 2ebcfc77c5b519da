"""The command line: results in files, one line and exit code 1 for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import villageflow as vf
from villageflow import cli

LOGISTIC = """{UTF-8}
Stores in Village= INTEG (growth, first stores) ~ store ~ Stores. |
growth= rate*Stores in Village*(1-Stores in Village/ceiling) ~ store/Year ~ Growth. |
rate= 0.5 ~ 1/Year [0,2] ~ Rate. |
ceiling= 100 ~ store ~ Ceiling. |
first stores= 1 ~ store ~ Start. |
FINAL TIME= 10 ~ Year ~ End. |
INITIAL TIME= 0 ~ Year ~ Start. |
SAVEPER= 1 ~ Year ~ Saving period. |
TIME STEP= 0.125 ~ Year ~ Step. |
"""
PRIORS = (
    "name,element,unit,scale,lower,mode,upper,distribution,effect,source,note\n"
    "rate,,1/Year,lin,0.2,0.5,0.9,triangular,none,assumed: test,\n"
)
SCENARIOS = (
    "scenario,name,element,value,from_time,to_time,note\nsmall,ceiling,,50,,,\nlarge,ceiling,,200,,,\n"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "logistic.mdl"
    path.write_text(LOGISTIC)
    (tmp_path / "parameters.csv").write_text(PRIORS)
    (tmp_path / "scenarios.csv").write_text(SCENARIOS)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["villageflow", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_run_writes_names_as_in_the_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = model.parent / "out.csv"
    assert call(monkeypatch, "run", model, "--output", out) == 0
    table = pd.read_csv(out)
    assert list(table.columns) == ["time", "Stores in Village", "growth"]
    expected = vf.simulate(vf.read_model(model))
    np.testing.assert_array_equal(table["Stores in Village"], expected["stores_in_village"][0])


def test_run_prints_and_takes_parameters(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = model.parent / "values.csv"
    values.write_text("name,value\nceiling,50\n")
    arguments = ("--params", values, "--set", "rate=0", "--save", "growth", "--time-step", "0.5", "--final-time", "2")
    assert call(monkeypatch, "run", model, *arguments, "--method", "rk4", "--save-every", "1") == 0
    assert capsys.readouterr().out == "time,growth\n0.0,0.0\n1.0,0.0\n2.0,0.0\n"


def test_ensemble_writes_netcdf_with_scenarios(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = model.parent / "out.nc"
    arguments = ("--members", 50, "--seed", 3, "--scenarios", model.parent / "scenarios.csv", "--output", out)
    assert call(monkeypatch, "ensemble", model, *arguments) == 0
    with xr.open_dataset(out, engine="h5netcdf") as ds:
        assert dict(ds.sizes) == {"scenario": 2, "member": 50, "time": 11}
        assert ds.attrs["seed"] == 3
        assert ds["stores_in_village"].attrs["units"] == "store"
        assert float(ds["rate"].min()) >= 0.2


def test_equal_calls_write_equal_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [model.parent / "a.nc", model.parent / "b.nc"]
    for path, threads in zip(files, (1, 2), strict=True):
        assert call(monkeypatch, "ensemble", model, "--members", 300, "--threads", threads, "--output", path) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "missing.mdl"], "does not exist"),
        (["run", "{model}", "--bogus"], "No such option"),
        (["run", "{model}", "--set", "rte=1"], "Did you mean 'rate'"),
        (["run", "{model}", "--set", "rate"], "NAME=VALUE"),
        (["run", "{model}", "--set", "rate=3"], "outside the limits"),
        (["run", "{model}", "--set", "growth=3"], "only constants can be parameters"),
        (["run", "{model}", "--save", "nothing"], "has no variable"),
        (["run", "{model}", "--method", "gear"], "not supported"),
        (["run", "{model}", "--time-step", "x"], "time-step"),
        (["run", "{model}", "--time-step", "0"], "greater than 0"),
        (["run", "{model}", "--output", "out.xlsx"], ".xlsx"),
        (["run", "{model}", "--output", "no_such_folder/out.csv"], "does not exist"),
        (["run", "{model}", "--params", "missing.csv"], "missing.csv"),
        (["ensemble", "{model}", "--members", "0", "--output", "{folder}/o.nc"], "at least 1"),
        (["ensemble", "{model}", "--priors", "{model}", "--output", "{folder}/o.nc"], "logistic.mdl"),
        (["estimate", "no_such_study"], "No study"),
        (["data", "no_such_table"], "no_such_table"),
        (["nonsense"], "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    arguments: list[str], part: str, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(model.parent)
    filled = [text.format(model=model, folder=model.parent) for text in arguments]
    assert call(monkeypatch, *filled) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("villageflow: ")
    assert part in lines[0]


def test_a_member_that_is_not_finite_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", model, "--set", "ceiling=0") == 1
    message = capsys.readouterr().err
    assert "growth" in message
    assert "time 0" in message


def test_listings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, part in ((["models"], "village_cluster"), (["data"], "counties"), (["info"], "isa"),
                            (["info", "village_cluster"], "stock"), (["estimate"], "county_crowding")):
        assert call(monkeypatch, *arguments) == 0
        assert part in capsys.readouterr().out


def test_the_installed_command_answers() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from villageflow.cli import main; main()", "--help"],
        capture_output=True, text=True, check=False,
    )
    assert result.returncode == 0
    assert "ensemble" in result.stdout


def test_import_is_light() -> None:
    code = "import sys, villageflow; print(sorted({'pandas', 'xarray', 'pysd', 'statsmodels'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_fit_prints_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fit.json"
    assert call(monkeypatch, "fit", "national_diffusion", "--output", out) == 0
    assert "log likelihood" in capsys.readouterr().out
    assert vf.load_fit(out).converged
    assert call(monkeypatch, "fit", "nothing") == 1
    assert "national_diffusion" in capsys.readouterr().err
