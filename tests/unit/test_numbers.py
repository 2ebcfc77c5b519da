"""Flat names of results: predictable, unique, exact."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from villageflow import datasets
from villageflow.econometrics.studies import run_study
from villageflow.errors import ReportError
from villageflow.report.numbers import frame_numbers, markdown_table, slug, study_numbers


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("Poisson (headline)", "poisson_headline"),
        ("log1p(lag(villages))", "log1p_lag_villages"),
        (2016.0, "2016"),
        ("D-11", "d-11"),
    ],
)
def test_slug_makes_one_word(label, word):
    assert slug(label) == word


def test_slug_refuses_what_leaves_nothing():
    with pytest.raises(ReportError, match="letter or a digit"):
        slug("()")


def test_every_cell_of_a_table_gets_a_name_and_missing_ones_do_not():
    frame = pd.DataFrame({"estimate": [0.1, np.nan], "n": [3, 4]}, index=["a b", "c"])
    assert frame_numbers(frame, "fit") == {"fit.a_b.estimate": 0.1, "fit.a_b.n": 3, "fit.c.n": 4}
    nested = frame.set_index(pd.MultiIndex.from_tuples([("x", 2014), ("x", 2015)]))
    assert "fit.x.2014.estimate" in frame_numbers(nested, "fit")


def test_labels_that_become_the_same_name_are_refused():
    frame = pd.DataFrame({"a b": [1.0], "a_b": [2.0]}, index=["x"])
    with pytest.raises(ReportError, match=r"two results would be named 'p\.x\.a_b'"):
        frame_numbers(frame, "p")


def test_a_study_becomes_numbers_that_agree_with_its_estimates():
    table = run_study("county_crowding", datasets.load("counties"))
    numbers = study_numbers(table)
    own = table["Poisson (headline)", "own"]
    prefix = "county_crowding.poisson_headline.own"
    assert numbers[f"{prefix}.log1p_lag_villages.estimate"] == own.params.iloc[0]
    assert numbers[f"{prefix}.nobs"] == own.nobs
    assert numbers[f"{prefix}.n_clusters"] == own.n_clusters


def test_a_table_as_markdown():
    frame = pd.DataFrame({"fact": ["stores|2016", "share"], "value": [-350.4, np.nan]}, index=["S1-18", "D-09"])
    assert markdown_table(frame, {"value": ",.0f"}, label="id").splitlines() == [
        "| id | fact | value |",
        "| :------- | :------------- | -------: |",
        r"| S1-18 | stores\|2016 | −350 |",
        "| D-09 | share |  |",
    ]
