"""What the README of national_diffusion says of the fit is what the fit finds."""

from __future__ import annotations

import re

import pytest

import villageflow as vf
from villageflow.calibrate.predict import predict
from villageflow.calibrate.problems import PROBLEMS


@pytest.fixture(scope="module")
def problem():
    return PROBLEMS["national"]()


@pytest.fixture(scope="module")
def result(problem):
    return vf.fit(problem, seed=1)


@pytest.fixture(scope="module")
def readme() -> str:
    return (vf.library.path("national_diffusion") / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["reference_village_sales", "sales_dispersion", "retrospective_detection"])
def test_estimates(name, result, readme) -> None:
    value, error = re.search(rf"\| `{name}`[^|]*\| ([\d.,]+)[^|]*\| ([\d.]+) \|", readme).groups()
    decimals = len(value.partition(".")[2])
    assert float(value.replace(",", "")) == pytest.approx(result.params[name], abs=0.51 * 10**-decimals)
    assert float(error) == pytest.approx(result.transformed.loc[name, "std_error"], abs=0.0051)


def test_path(problem, result, readme) -> None:
    row = re.search(r"^\| model \| (.*) \|$", readme, re.MULTILINE).group(1)
    written = [int(cell.replace(",", "")) for cell in row.split(" | ")]
    held_out = predict(problem, result, problem.holdout)["fitted"]
    found = [*result.residuals["fitted"], *held_out]
    assert written == [round(value) for value in found]


def test_size_and_collinearity(result, readme) -> None:
    size = int(re.search(r"negative binomial size \((\d+)\)", readme).group(1))
    assert size == round(result.params["count_dispersion"])
    assert "from 13 to above 30" in readme
    assert round(result.identifiability.collinearity) == 13
