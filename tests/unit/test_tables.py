"""Tables state what they must and never put different covariances side by side."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from villageflow.econometrics import poisson, within
from villageflow.econometrics.studies import Block, StudyTable
from villageflow.errors import ReportError
from villageflow.report.tables import table_of, to_csv, to_latex, to_markdown, write_tables


@pytest.fixture(scope="module")
def fits():
    rng = np.random.default_rng(4)
    index = pd.MultiIndex.from_product([range(45), range(5)], names=["entity", "time"])
    panel = pd.DataFrame(rng.normal(size=(225, 3)), index=index, columns=["y", "x", "z_1"])
    panel["n"] = rng.poisson(2.0, 225)
    panel["small"] = panel["y"] / 1000
    return {
        "short": within("y ~ x", panel),
        "long": within("y ~ x + z_1", panel),
        "small": within("small ~ x", panel),
        "robust": within("y ~ x", panel, cov_type="robust"),
        "stata": within("y ~ x", panel, convention="stata"),
        "by time": within("y ~ x", panel, cluster="time"),
        "poisson": poisson("n ~ x", panel),
    }


@pytest.fixture
def table(fits):
    return table_of("mine", "A title", {"short": fits["short"], "long": fits["long"]}, ["A note."])


def test_csv_has_full_precision_and_states_everything(table, fits):
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [(row["column"], row["term"]) for row in rows] == [("short", "x"), ("long", "x"), ("long", "z_1")]
    for row in rows:
        result = fits[row["column"]]
        assert float(row["std_error"]) == result.std_errors[row["term"]]
        assert float(row["p_value"]) == result.pvalues[row["term"]]
        assert (row["observations"], row["entities"], row["periods"]) == ("225", "45", "5")
        assert row["estimator"] == "least squares, entity and time effects"
        assert (
            row["errors"] == "clustered by entity, linearmodels convention"
            and row["clusters"] == "45 (entity)"
        )


@pytest.mark.parametrize("render", [to_markdown, to_latex])
def test_printed_tables_state_estimator_errors_and_sample(table, render):
    text = render(table)
    for word in (
        "A title",
        "A note.",
        "least squares",
        "clustered by entity",
        "45 (entity)",
        "225",
        "t(44)",
    ):
        assert word in text
    assert "Standard errors in parentheses" in text


def test_latex_is_balanced_and_escaped(table):
    text = to_latex(table)
    assert r"z\_1" in text and "z_1" not in text.replace(r"\_", "")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert text.count("{") == text.count("}")


def test_small_errors_keep_two_significant_digits(fits):
    text = to_markdown(table_of("small", "Small", {"only": fits["small"]}), decimals=3)
    assert "(0.000)" not in text and f"({fits['small'].std_errors['x']:.6f})" in text


@pytest.mark.parametrize("other", ["robust", "stata", "by time", "poisson"])
@pytest.mark.parametrize("render", [to_csv, to_markdown, to_latex])
def test_different_covariances_in_one_block_are_refused(fits, other, render):
    mixed = table_of("mixed", "Mixed", {"first": fits["short"], "second": fits[other]})
    with pytest.raises(ReportError, match=r"mixes covariances: 'first' has .*'second' has"):
        render(mixed)
    apart = StudyTable(
        "apart", "Apart", (Block("A", (("a", fits["short"]),)), Block("B", (("b", fits[other]),))), ()
    )
    assert "B" in render(apart)


def test_a_statement_that_is_blank_is_refused(fits):
    silent = replace(fits["short"], cov_label="")
    with pytest.raises(ReportError, match="does not state its errors"):
        to_csv(table_of("silent", "Silent", {"first": silent}))


def test_empty_and_ambiguous_tables_are_refused(fits):
    with pytest.raises(ReportError, match="no columns"):
        to_markdown(StudyTable("none", "None", (Block("A", ()),), ()))
    with pytest.raises(ReportError, match="no blocks"):
        to_markdown(StudyTable("none", "None", (), ()))
    twice = Block("A", (("a", fits["short"]), ("a", fits["long"])))
    with pytest.raises(ReportError, match="label twice"):
        to_csv(StudyTable("twice", "Twice", (twice,), ()))


def test_files_are_written_and_are_the_same_again(table, tmp_path):
    paths = write_tables(table, tmp_path / "new")
    assert [path.name for path in paths] == ["mine.csv", "mine.md", "mine.tex"]
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_tables(table, tmp_path / "new")] == first
