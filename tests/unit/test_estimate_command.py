"""``villageflow estimate``: the same figures as in Python, files of four kinds, and one line for every mistake."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from villageflow.cli import main
from villageflow.econometrics import within

HEADER = "village,year,county,stores,profit\n"


@pytest.fixture
def panel_file(tmp_path):
    rng = np.random.default_rng(4)
    rows = [
        f"v{i},{year},c{i % 5},{rng.integers(2, 60)},{rng.uniform(1, 9):.3f}"
        for i in range(20)
        for year in range(2014, 2018)
    ]
    path = tmp_path / "stores.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["villageflow", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


KEYS = ("--entity", "village", "--time", "year")
FORMULA = "ln(stores) ~ lag(ln(profit))"


def in_python(path):
    frame = pd.read_csv(path).set_index(["village", "year"])
    return within(FORMULA, frame, cluster="county")


def test_a_formula_on_a_file_gives_what_python_gives(panel_file, monkeypatch, capsys):
    assert call(monkeypatch, "estimate", FORMULA, "--data", panel_file, *KEYS, "--cluster", "county") == 0
    printed, expected = capsys.readouterr().out, in_python(panel_file)
    assert printed.startswith(expected.summary().splitlines()[0])
    assert f"{expected.params.iloc[0]:.4f}" in printed and "clusters: 5 (county)" in printed


@pytest.mark.parametrize("suffix", [".csv", ".md", ".tex", ".json"])
def test_files_hold_the_estimate(panel_file, suffix, monkeypatch, capsys):
    path = panel_file.with_suffix(suffix) if suffix != ".csv" else panel_file.with_name("out.csv")
    options = ["--data", panel_file, *KEYS, "--cluster", "county", "--output", path]
    assert call(monkeypatch, "estimate", FORMULA, *options) == 0
    assert capsys.readouterr().out.strip() == str(path)
    expected, text = in_python(panel_file), path.read_text()
    if suffix == ".json":
        held = json.loads(text)
        assert held["params"] == pytest.approx([expected.params.iloc[0]], rel=1e-12) and held["panel"] == "stores.csv"
    elif suffix == ".csv":
        assert pd.read_csv(path)["std_error"][0] == pytest.approx(expected.std_errors.iloc[0], rel=1e-12)
    else:
        assert "least squares" in text and "county" in text


def test_keys_go_by_their_own_names_in_effects_and_clusters(panel_file, monkeypatch, capsys):
    options = ["--data", panel_file, *KEYS, "--effects", "village,county*year", "--cluster", "village"]
    assert call(monkeypatch, "estimate", "stores ~ profit", *options) == 0
    assert "entity and county by time effects" in capsys.readouterr().out


def test_a_file_without_an_ending_and_an_ending_in_capitals_are_taken(panel_file, monkeypatch, capsys):
    bare = panel_file.rename(panel_file.with_suffix(""))
    out = bare.with_name("OUT.CSV")
    assert call(monkeypatch, "estimate", "stores ~ profit", "--data", bare, *KEYS, "--output", out) == 0
    assert out.read_text().startswith("term,estimate")


def test_a_column_that_a_key_would_hide_is_refused(panel_file, monkeypatch, capsys):
    panel_file.write_text(panel_file.read_text().replace("county", "time", 1))
    assert call(monkeypatch, "estimate", "stores ~ profit", "--data", panel_file, *KEYS) == 1
    assert "column 'time' stands beside 'year'" in capsys.readouterr().err


def test_a_shipped_panel_says_what_to_beware_of(monkeypatch, capsys):
    options = ["--data", "counties", "--estimator", "poisson", "--effects", "province*time", "--cluster", "city"]
    assert call(monkeypatch, "estimate", "villages ~ log1p(lag(villages))", *options) == 0
    printed = capsys.readouterr()
    assert "data: villages: only counties that were listed at least once" in printed.out
    assert "digital" not in printed.out + printed.err


def test_studies_and_claims_are_listed(monkeypatch, capsys):
    assert call(monkeypatch, "estimate") == 0
    assert capsys.readouterr().out.split() == [
        "county_crowding", "rural_population", "villages_and_rural_population", "claims",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["y ~ x"], "Give --data"),
        (["y ~ x", "--data", "county"], "Did you mean 'counties'"),
        (["y ~ x", "--data", "no.csv", *KEYS], "does not exist"),
        (["stores ~ x", "--data", "{file}", *KEYS], "'x' is not in the panel"),
        (["stores ~ profit", "--data", "{file}"], "no column 'entity'. Name one with --entity"),
        (["stores ~ profit", "--data", "{file}", *KEYS, "--output", "{file}"], "is the file with the data"),
        (["stores ~ profit", "--data", "{file}", *KEYS, "--output", "none/x.csv"], "a folder that exists"),
        (["claims", "--data", "counties"], "--data is for a formula"),
        (["county_crowding", "--cov", "robust"], "--cov is for a formula"),
        (["county_crowding", "--output", "o.md"], "is no folder"),
        (["stores ~ profit", "--data", "{file}", *KEYS, "--cov", "hac"], "cov_type='hac' is not known"),
        (["stores ~ profit", "--data", "{file}", *KEYS, "--cluster", "town"], "'town' is not an effect or cluster"),
        (["stores ~ profit", "--data", "{file}", *KEYS, "--estimator", "ols"], "estimator='ols' is not known"),
        (["stores ~ profit", "--data", "{file}", *KEYS, "--convention", "r"], "convention='r' is not known"),
        (["stores ~ county", "--data", "{file}", *KEYS], "county"),
        (["stores ~ profit", "--data", "{file}", *KEYS, "--output", "x.xlsx"], "does not end in"),
        (["claims", "--output", "folder"], "claims are printed"),
        (["stores ~ ln(profit - 5)", "--data", "{file}", *KEYS], "ln(profit - 5) is not defined for"),
    ],
)
def test_a_mistake_is_one_line(panel_file, options, said, monkeypatch, capsys):
    monkeypatch.chdir(panel_file.parent)
    filled = [text.format(file=panel_file) if "{file}" in text else text for text in options]
    assert call(monkeypatch, "estimate", *filled) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1
    assert said in captured.err


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("v0,2014,c0,3,4\n", "row 82"),
        ("v30,2014,c0,three,4\n", "three"),
        ("v30,,c0,3,4\n", "is blank"),
    ],
)
def test_a_bad_row_is_named(panel_file, row, said, monkeypatch, capsys):
    panel_file.write_text(panel_file.read_text() + row)
    assert call(monkeypatch, "estimate", "stores ~ profit", "--data", panel_file, *KEYS) == 1
    captured = capsys.readouterr().err
    assert len(captured.strip().splitlines()) == 1 and said in captured
