"""The command line: results in files, one line and exit code 1 for every mistake."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
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


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"villageflow {metadata.version('villageflow')}\n"


def test_noise_seed_chooses_the_draws(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = LOGISTIC.replace("growth= rate*", "growth= rate*RANDOM UNIFORM(0.5, 1.5, 0)*")
    model.write_text(noisy)
    written = []
    for seed in (0, 5, 5):
        run, ensemble = model.parent / "run.csv", model.parent / "members.nc"
        assert call(monkeypatch, "run", model, "--output", run, "--noise-seed", seed) == 0
        assert call(monkeypatch, "ensemble", model, "--output", ensemble, "--members", 3, "--noise-seed", seed) == 0
        with xr.open_dataset(ensemble) as ds:
            assert (ds.attrs["noise_seed"], ds.attrs["seed"]) == (seed, 1)
            written.append((run.read_text(), ds["stores_in_village"].values.tobytes()))
    assert written[0][0] != written[1][0]
    assert written[0][1] != written[1][1]
    assert written[1] == written[2]


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


def test_ensemble_writes_quantiles_alone(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = model.parent / "bands.nc"
    arguments = ("--members", 50, "--quantiles", "0.1,0.9", "--save", "growth", "--output", out)
    assert call(monkeypatch, "ensemble", model, *arguments) == 0
    assert "50 runs, 0 not finite, 1 variables, 11 times" in capsys.readouterr().out
    with xr.open_dataset(out, engine="h5netcdf") as ds:
        assert dict(ds.sizes) == {"quantile": 2, "time": 11}
        assert set(ds.data_vars) == {"growth", "growth_mean", "finished"}
    table = model.parent / "bands.csv"
    assert call(monkeypatch, "ensemble", model, *arguments[:-1], table) == 0
    assert len(table.read_text().splitlines()) == 23


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
        (["run", "{model}", "--tolerance", "1e-3"], "tolerance is for method"),
        (["run", "{model}", "--method", "dopri5", "--tolerance", "0"], "greater than 0"),
        (["step-check", "{model}", "--method", "dopri5"], "chooses its own steps"),
        (["step-check", "{model}", "--halvings", "0"], "from 1 to 20"),
        (["run", "{model}", "--time-step", "x"], "time-step"),
        (["run", "{model}", "--time-step", "0"], "greater than 0"),
        (["run", "{model}", "--output", "out.xlsx"], ".xlsx"),
        (["run", "{model}", "--output", "no_such_folder/out.csv"], "does not exist"),
        (["run", "{model}", "--params", "missing.csv"], "missing.csv"),
        (["ensemble", "{model}", "--members", "0", "--output", "{folder}/o.nc"], "at least 1"),
        (["ensemble", "{model}", "--quantiles", "low", "--output", "{folder}/o.nc"], "write --quantiles 0.05,0.5"),
        (["ensemble", "{model}", "--quantiles", "0.5,0.1", "--output", "{folder}/o.nc"], "must rise"),
        (["ensemble", "{model}", "--priors", "{model}", "--output", "{folder}/o.nc"], "logistic.mdl"),
        (["estimate", "no_such_study"], "No study"),
        (["data", "no_such_table"], "no_such_table"),
        (["nonsense"], "No such command"),
        (["run", "village_clutser"], "Did you mean 'village_cluster'"),
        (["info", "no_such_folder/village_cluster.mdl"], "does not exist"),
        (["ensemble", "village_clutser", "--output", "{folder}/o.nc"], "Did you mean 'village_cluster'"),
        (["run", "{model}", "--set", "=3"], "NAME=VALUE"),
        (["run", "{model}", "--set", "rate=1", "--set", "Rate=0.5"], "twice"),
        (["estimate", "county_crowding", "--output", "{model}"], "is no folder"),
        (["fit", "national", "--output", "{folder}"], "cannot be written"),
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


def test_run_with_steps_of_variable_length(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "rk45", "--tolerance", "1e-9", "--save", "Stores in Village"]
    assert call(monkeypatch, "run", model, *options) == 0
    last = capsys.readouterr().out.splitlines()[-1].split(",")
    assert float(last[-1]) == pytest.approx(100 / (1 + 99 * np.exp(-5)), rel=1e-7)


def test_every_verb_that_reads_a_model_takes_its_data(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.write_text(LOGISTIC.replace("rate= 0.5 ~", "rate ~"))
    data = tmp_path / "rate.csv"
    data.write_text("Time,rate\n0,0.5\n10,0.4\n")
    for verb in ("run", "info", "step-check"):
        assert call(monkeypatch, verb, model) == 1
        assert "give one with data_files= (--data on the command line)" in capsys.readouterr().err
        assert call(monkeypatch, verb, model, "--data", data) in (0, 2)
        assert capsys.readouterr().err == ""


def test_step_check_prints_a_table_and_tells_by_its_code(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "step-check", model, "--tolerance", "0.002") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step check of logistic with euler, tolerance 0.002"
    assert lines[-1].startswith("met: use a step of 0.0")
    assert call(monkeypatch, "step-check", model, "--tolerance", "1e-9", "--halvings", "2", "--set", "rate=0.4") == 2
    assert "not met: halving a step of 0.0625" in capsys.readouterr().out


def test_info_tells_time_stocks_and_constants(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = LOGISTIC.replace("INITIAL TIME= 0", "INITIAL TIME= 0 * start shift")
    model.write_text(text.replace("growth=", "start shift= 2 ~~|\ngrowth="))
    assert call(monkeypatch, "info", model) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "time       0 to 10, step 0.125, saved every 1" in lines
    assert "  stores_in_village  store" in lines
    assert lines[lines.index("constants, which --set and a design can change") + 1:][:3] == [
        "  rate          0.5  1/Year", "  ceiling       100  store", "  first_stores    1  store",
    ]
    assert "  start_shift  2  sets the time grid" in lines


def test_info_of_a_time_grid_that_cannot_be_told(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.write_text(LOGISTIC.replace("FINAL TIME= 10", "FINAL TIME= -1"))
    assert call(monkeypatch, "info", model) == 0
    assert "time       cannot be told: final time" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["run", "ensemble"])
def test_help_names_the_page_on_tables(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, verb, "--help") == 0
    assert "docs/tables.md" in capsys.readouterr().out
    assert (Path(__file__).parents[2] / "docs" / "tables.md").is_file()


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
    assert call(monkeypatch, "fit", "national", "--output", out) == 0
    assert "log likelihood" in capsys.readouterr().out
    assert vf.load_fit(out).converged
    assert call(monkeypatch, "fit", "nothing") == 1
    assert "Known names: 'national'" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out.csv")

    monkeypatch.setattr(pd.DataFrame, "to_csv", refuse)
    assert call(monkeypatch, "run", model) == 1
    assert capsys.readouterr().err.strip() == (
        "villageflow: out.csv: No space left on device; give another place to write to"
    )


def test_parameters_of_a_file_and_the_line_merge_by_name(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = model.parent / "values.csv"
    values.write_text("name,value\nrate,1\n")
    assert call(monkeypatch, "run", model, "--params", values, "--set", "Rate=0", "--save", "growth") == 0
    assert set(capsys.readouterr().out.splitlines()[1:]) == {f"{t}.0,0.0" for t in range(11)}


def test_missing_kernels_are_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['villageflow._kernels._vmath'] = None; sys.argv = ['villageflow', 'info']\n"
        "from villageflow.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "build them with" in result.stderr


def test_archetypes_beside_a_model_of_the_user_are_taken(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("run", model, "--save", "stores in village", "--final-time", 1, "--archetype")
    assert call(monkeypatch, *arguments, "town") == 1
    assert "no archetypes.csv beside" in capsys.readouterr().err
    (model.parent / "archetypes.csv").write_text("archetype,name,value,unit,source\ntown,first stores,7,store,x\n")
    assert call(monkeypatch, *arguments, "town") == 0
    assert capsys.readouterr().out.splitlines()[1] == "0.0,7.0"
    assert call(monkeypatch, *arguments, "town", "--set", "first stores=9") == 0
    assert capsys.readouterr().out.splitlines()[1] == "0.0,9.0"
    assert call(monkeypatch, *arguments, "twon") == 1
    assert "model 'logistic' has no archetype 'twon'. Did you mean 'town'?" in capsys.readouterr().err


def test_what_comes_on_top_replaces_an_array_or_its_elements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = tmp_path / "values.csv"
    values.write_text("name,element,value\ninitial firms,maker,50\ninitial firms,supplier,60\n")
    common = ("run", "workshop_cluster", "--save", "firms", "--final-time", 2000.25, "--archetype", "shaji")

    def first(*options: object) -> list[float]:
        assert call(monkeypatch, *common, *options) == 0
        return [float(cell) for cell in capsys.readouterr().out.splitlines()[1].split(",")[1:]]

    assert first() == [0, 0, 0, 60]
    assert first("--params", values) == [0, 50, 60, 60]
    assert first("--params", values, "--set", "initial firms=3") == [3, 3, 3, 3]
    values.write_text("name,value\nInitial Firms,4\n")
    assert first("--params", values, "--set", "Initial Firms[Maker]=5") == [4, 5, 4, 4]
    values.write_text("name,value\ninitial firms[maker],4\nInitial Firms[Maker],5\n")
    assert call(monkeypatch, *common, "--params", values) == 1
    assert "row 3, column 'name': 'Initial Firms[Maker]' sets 'initial_firms[maker]', as" in capsys.readouterr().err


def test_a_shipped_model_is_found_where_its_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resilience").mkdir()
    assert call(monkeypatch, "info", "resilience") == 0
    assert call(monkeypatch, "ensemble", "resilience", "--members", 3, "--save", "buffer", "--output", "x.nc") == 0
    assert call(monkeypatch, "info", ".") == 1
    assert "no model '.' ships with villageflow" in capsys.readouterr().err


def test_a_mistake_in_the_options_names_the_help_of_its_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "diagram", "resilience") == 1
    assert capsys.readouterr().err == "villageflow: Missing option '--output'; see villageflow diagram --help\n"
    assert call(monkeypatch, "rum") == 1
    assert capsys.readouterr().err.endswith("; see villageflow --help\n")


def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "villageflow", "models"], capture_output=True, text=True, check=True)
    assert "village_cluster" in done.stdout
