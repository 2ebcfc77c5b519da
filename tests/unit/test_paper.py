"""The paper: numbers come from results, an unknown one stops the build, the PDF has the same bytes twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from villageflow.errors import ReportError
from villageflow.report.paper import bare_numbers, build_paper, fill

PAPER = Path(__file__).parents[2] / "paper"
RESULTS = {"county.n": 1234, "county.rho": -0.12345, "share": 0.256, "period": "2014-2016", "ok": True}

MANUSCRIPT = """---
title: Test
---

# Model

See @eq:growth, @fig:path and @tbl:fit, after Bass [@bass1969].

$$ \\dot{s} = q s (1 - s) $$ {#eq:growth}

# Results

The lag enters with {{county.rho:.2f}} in {{county.n:,}} counties.

![Stores over time.](figures/path){#fig:path}

{{include tables/fit.md}}

: Estimates. {#tbl:fit}
"""
BIBLIOGRAPHY = """@article{bass1969,
author={Bass, Frank M.}, title={A New Product Growth for Model Consumer Durables},
journal={Management Science}, volume={15}, number={5}, pages={215--227}, year={1969}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tables").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "tables/fit.md").write_text("| term | estimate |\n|:-----|---------:|\n| lag  | 0.10     |\n")
    line = '<path d="M0 20 L40 0" stroke="red"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20">{line}</svg>'
    (tmp_path / "figures/path.svg").write_text(svg)
    (tmp_path / "figures/unseen.svg").write_text(svg)
    (tmp_path / "manuscript.md").write_text(MANUSCRIPT)
    (tmp_path / "references.bib").write_text(BIBLIOGRAPHY)
    return tmp_path


def build(folder: Path, text: str = MANUSCRIPT):
    (folder / "manuscript.md").write_text(text)
    return build_paper(
        folder / "manuscript.md",
        RESULTS,
        folder=folder,
        bibliography=folder / "references.bib",
        lua_filter=PAPER / "crossref.lua",
    )


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{county.n}}", "1234"),
        ("{{county.n:,d}}", "1,234"),
        ("{{ county.rho:.2f }}", "\u22120.12"),
        ("{{share:.0%}}", "26%"),
        ("{{period}}", "2014-2016"),
        ("plain {braces} and $x_{i}$", "plain {braces} and $x_{i}$"),
    ],
)
def test_a_placeholder_takes_the_result_in_the_format_it_names(text, filled):
    assert fill(text, RESULTS).text == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb {{county.rh:.2f}}", r"line 2: no result is named 'county\.rh'. Did you mean 'county\.rho'"),
        ("{{county.rho}}", "say how many"),
        ("{{county.rho:>20}}", "not a number format"),
        ("{{county.rho:d}}", "cannot be written as 'd'"),
        ("{{period:.2f}}", "takes no format"),
        ("{{ok}}", "write the sentence from a number"),
        ("{{a b}}", "is not a key"),
        ("{{county.n", "not closed"),
        ("{{include tables/none.md}}", "does not exist"),
        ("{{include ../secret.md}}", "outside the results folder"),
    ],
)
def test_a_placeholder_that_cannot_be_filled_is_an_error(tmp_path, text, message):
    with pytest.raises(ReportError, match=message):
        fill(text, RESULTS, folder=tmp_path, name="manuscript.md")


def test_all_faults_are_reported_at_once():
    with pytest.raises(ReportError, match="2 placeholders"):
        fill("{{x}} and {{y}}", RESULTS)


def test_the_pdf_and_the_latex_source_have_the_same_bytes_twice(folder):
    paper = build(folder)
    first = paper.pdf.read_bytes(), paper.tex.read_bytes()
    assert first[0].startswith(b"%PDF")
    assert b"figures/path.pdf" in first[1]
    again = build(folder)
    assert (again.pdf.read_bytes(), again.tex.read_bytes()) == first


def test_results_that_the_text_does_not_use_are_listed(folder):
    paper = build(folder)
    assert paper.unused_keys == ("ok", "period", "share")
    assert paper.unused_files == ("figures/unseen",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[@bass1969]", "[@nobody2001]"), "nobody2001"),
        (("@fig:path and", "@fig:nowhere and"), "fig:nowhere refers to nothing"),
        (("@fig:path and ", ""), "never refers to @fig:path"),
        (("figures/path)", "figures/none)"), "none"),
        (("{#tbl:fit}", "{#fig:path}"), "must begin with tbl"),
    ],
)
def test_a_dangling_citation_reference_or_figure_stops_the_build(folder, change, message):
    with pytest.raises(ReportError, match=message):
        build(folder, MANUSCRIPT.replace(*change))


def manuscript() -> str:
    return (PAPER / "manuscript.md").read_text(encoding="utf-8")


def test_no_digit_is_typed_into_a_sentence_about_results():
    assert bare_numbers(manuscript(), after="Data") == []


def test_every_reference_is_cited():
    cited = set(re.findall(r"@([a-z][a-z0-9]+)\b(?!:)", manuscript()))
    listed = set(re.findall(r"^@\w+\{(\w+),", (PAPER / "references.bib").read_text(), re.MULTILINE))
    assert listed == cited


def test_the_manuscript_builds_with_any_results(tmp_path):
    """Citations, references, equations and tables are sound, whatever the numbers are."""
    text = manuscript()
    for path in re.findall(r"\{\{include ([^}]+)\}\}", text):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("| fact | share |\n|:-----|------:|\n| one  | 0.10  |\n")
    for path in re.findall(r"\]\((figures/\w+)\)", text):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / f"{path}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"/>')
    keys = re.findall(r"\{\{([\w.\-]+)(:[^}]*)?\}\}", text)
    results = {key: 0.5 if "." in spec or "%" in spec else 7 if spec else "seven" for key, spec in keys}
    paper = build_paper(
        PAPER / "manuscript.md",
        results,
        folder=tmp_path,
        bibliography=PAPER / "references.bib",
        lua_filter=PAPER / "crossref.lua",
    )
    assert paper.pdf.stat().st_size > 50_000
    assert paper.unused_keys == paper.unused_files == ()


def test_digits_typed_into_result_sentences_are_found():
    model = "\n# Model\n\nAbout 7 stocks.\n"
    text = f"{model}\n# Data\n\n## 2 panels\n\nIn 2014 the $1 + x$ of {{{{n:.2f}}}} was 0.31 [@a2001].\n"
    assert [line for line, _ in bare_numbers(text, after="Data")] == [10]
    with pytest.raises(ReportError, match="no heading"):
        bare_numbers(text, after="Outlook")
