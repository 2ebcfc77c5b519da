"""What an estimate says of itself: text, Markdown, LaTeX, frame, notes, log."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from numpy.testing import assert_allclose

from villageflow.econometrics import (
    between,
    correlated_random_effects,
    first_difference,
    iv,
    poisson,
    pooled,
    random_effects,
    within,
)


def test_few_clusters_are_noted_and_logged(panel, caplog):
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        result = within("y ~ x", panel, cluster="group")
    assert any("only 12 clusters (group)" in note for note in result.notes)
    assert "only 12 clusters" in caplog.text


def test_results_print_everything_a_table_must_state(panel):
    result = within("y ~ x + z", panel)
    for text in (result.to_markdown(), result.to_latex()):
        for word in ("least squares", "clustered by entity", "observations: ", "entities: 50", "periods: 4"):
            assert word in text
    frame = result.to_frame()
    assert_allclose(frame["statistic"], frame["estimate"] / frame["std_error"])
    assert list(frame.columns) == ["estimate", "std_error", "statistic", "p_value", "lower", "upper"]


def test_one_effect_may_be_a_bare_word(panel):
    assert within("y ~ x", panel, effects="entity").spec.effects == ("entity",)
    assert poisson("count ~ x", panel, effects="entity").spec == poisson("count ~ x", panel, effects=["entity"]).spec


def test_an_estimate_shows_itself(panel):
    found = within("y ~ x + z", panel)
    assert len(repr(found).splitlines()) == 2
    assert "y ~ x + z" in repr(found) and f"x = {found.params['x']:.4g}" in repr(found)
    assert found._repr_markdown_() == found.to_markdown()
    said = found.summary()
    assert f"{found.std_errors['z']:.4f}" in said and "observations: " in said
    noted = poisson("count ~ x", panel, cluster="group")
    assert noted.notes and f"note: {noted.notes[0]}" in noted.summary()


VERBS = {
    "least squares, entity and time effects": (within, "y ~ x + z"),
    "least squares, no effects": (pooled, "y ~ x + z"),
    "random effects": (random_effects, "y ~ x + z"),
    "random effects with entity means of the regressors (Mundlak)": (correlated_random_effects, "y ~ x + z"),
    "least squares in first differences": (first_difference, "y ~ x + z"),
    "least squares between entity means": (between, "y ~ x + z"),
    "Poisson pseudo maximum likelihood": (poisson, "count ~ x + z"),
    "two-stage least squares": (iv, "v ~ z + [w ~ p + q]"),
}


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_gives_the_same_kind_of_result(panel, words):
    verb, formula = VERBS[words]
    found = verb(formula, panel)
    names = list(found.params.index)
    assert words in found.describe()["estimator"] and found.describe()["outcome"] == formula.split(" ")[0]
    assert list(found.cov.index) == list(found.cov.columns) == names
    assert_allclose(np.sqrt(np.diag(found.cov)), found.std_errors)
    for text in (found.summary(), found.to_markdown(), found.to_latex(), found._repr_markdown_()):
        for key, value in found.describe().items():
            assert key.replace("_", r"\_") in text or key in text
            assert all(word in text for word in value.split(" ")[:1] if word.isalnum())
    rows = found.to_markdown().splitlines()
    assert rows[0].count("|") == rows[1].count("|") == rows[2].count("|") == 8
    assert found.to_latex().count("\\begin{tabular}") == found.to_latex().count("\\end{tabular}") == 1
    assert found.residuals.index.isin(panel.index).all() or words.startswith("least squares between")


def test_a_pipe_in_a_name_does_not_break_the_table(panel):
    found = within("y ~ `a|b`", panel.rename(columns={"x": "a|b"}))
    row = found.to_markdown().splitlines()[2]
    assert row.startswith(r"| `a\|b` |") and row.replace(r"\|", "").count("|") == 8
    assert r"a\textbar b" in found.to_latex()


def test_small_errors_get_more_digits_and_small_p_values_a_bound(panel):
    found = pooled("y ~ x + z", panel.assign(x=1e6 * panel["x"]))
    row = found.to_markdown().splitlines()[3].split("|")
    assert float(row[2]) == pytest.approx(found.params["x"], rel=5e-3)
    assert float(row[3]) == pytest.approx(found.std_errors["x"], rel=5e-3)
    assert row[5].strip() == "<0.0001"
    assert "&" in found.to_latex() and r"\textless 0.0001" in found.to_latex()
    assert "<0.0001" in found.summary()
    large = within("y ~ x + z", panel.assign(y=1e6 * panel["y"]))
    assert large.to_markdown(2).splitlines()[2].split("|")[2].strip() == f"{large.params['x']:.2f}"


def test_an_exact_fit_and_large_figures_are_in_scientific_notation(panel):
    exact = within("y ~ x", panel.assign(y=2 * panel["x"] + panel["flat"]))
    row = [cell.strip() for cell in exact.to_markdown().splitlines()[2].split("|")[1:-1]]
    assert all(len(cell) <= 11 for cell in row) and row[1] == "2.0000e+00"
    assert "e+" in row[3] and float(row[3]) == pytest.approx(exact.statistics["x"], rel=1e-4)
    large = within("y ~ x", panel.assign(y=1e9 * panel["y"]))
    cell = large.to_markdown().splitlines()[2].split("|")[2].strip()
    assert "e+0" in cell and float(cell) == pytest.approx(large.params["x"], rel=1e-4)
