"""The steps of the paper: each names its inputs and products, calls the package and saves; none computes.

Run by ``./run reproduce`` (or ``./run pytask -c paper/pytask.toml``). A step that finds something writes its
numbers, exact and flat, into ``bld/numbers/<step>.json``; the record and the manuscript take them from
there. Seeds and settings are `fixed`, package source is `code`: both are hashed, so that a change rebuilds
what it touches.
"""

# ruff: noqa: B006, B008 - pytask reads dependencies and products from the defaults of arguments

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pytask import Product, task

from villageflow import datasets
from villageflow.econometrics import studies
from villageflow.report import numbers, record, tables
from villageflow.report.paper import build_paper
from villageflow.report.sources import PACKAGE, code, fixed

PAPER = Path(__file__).resolve().parent
BLD = PAPER / "bld"
MODELS = PAPER.parent / "models"
DATA = sorted((PACKAGE / "datasets").glob("*.csv"))

NUMBERS: list[Path] = []
SIMULATIONS: dict[str, Path] = {}
EXHIBITS: list[Path] = []


def _numbers(step: str) -> Path:
    """File for the numbers of a step; registered for the record and the manuscript."""
    NUMBERS.append(BLD / "numbers" / f"{step}.json")
    return NUMBERS[-1]


def _exhibits(*names: str) -> tuple[Path, ...]:
    """Files of tables and figures, below ``bld``; registered for the record and the manuscript."""
    paths = tuple(BLD / name for name in names)
    EXHIBITS.extend(paths)
    return paths


# --- data -------------------------------------------------------------------------------------


def task_data(
    data: list[Path] = DATA,
    source: str = code("villageflow.datasets", "villageflow.report.numbers"),
    produces: Annotated[Path, Product] = _numbers("data"),
) -> None:
    """Sizes of the panels and the national counts."""
    nation = datasets.load("nation", columns=["taobao_villages"])
    counties = datasets.load("counties")
    provinces = datasets.load("provinces", columns=["rural_population"])
    record.write_json(
        produces,
        record.merge_flat(
            numbers.panel_numbers(counties, "data.counties"),
            numbers.panel_numbers(provinces, "data.provinces"),
            numbers.frame_numbers(nation, "nation"),
        ),
    )


# --- estimates -------------------------------------------------------------------------------------

for _name in studies.study_names():

    @task(id=_name)
    def task_study(
        data: list[Path] = DATA,
        name: str = fixed(_name),
        source: str = code("villageflow.econometrics.studies", "villageflow.report.tables"),
        written: Annotated[tuple[Path, ...], Product] = _exhibits(
            *(f"studies/{_name}{suffix}" for suffix in (".csv", ".md", ".tex"))
        ),
        found: Annotated[Path, Product] = _numbers(_name),
    ) -> None:
        """The regressions of one study on its real panel."""
        result = studies.run_study(name, datasets.load(studies.STUDIES[name].panel))
        tables.write_tables(result, written[0].parent)
        record.write_json(found, numbers.study_numbers(result))


def task_placebo(
    data: list[Path] = DATA,
    seed: int = fixed(20140101),
    n_draws: int = fixed(200),
    source: str = code("villageflow.econometrics.studies", "villageflow.report.numbers"),
    produces: Annotated[Path, Product] = _numbers("placebo"),
) -> None:
    """What the county regressions find where there is neither crowding nor contagion."""
    placebo = studies.mean_reversion_placebo(datasets.load("counties"), n_draws=n_draws, seed=seed)
    record.write_json(produces, numbers.frame_numbers(placebo, "placebo"))


# --- record and paper -------------------------------------------------------------------------------------


def task_numbers(
    parts: list[Path] = NUMBERS,
    source: str = code("villageflow.report.record"),
    produces: Annotated[Path, Product] = BLD / "numbers.json",
) -> None:
    """All numbers in one flat mapping."""
    record.write_json(produces, record.merge_flat(*map(record.read_json, parts)))


def task_paper(
    manuscript: Path = PAPER / "manuscript.md",
    bibliography: Path = PAPER / "references.bib",
    lua_filter: Path = PAPER / "crossref.lua",
    results: Path = BLD / "numbers.json",
    exhibits: list[Path] = EXHIBITS,
    source: str = code("villageflow.report.paper"),
    pdf: Annotated[Path, Product] = BLD / "paper.pdf",
    tex: Annotated[Path, Product] = BLD / "paper.tex",
) -> None:
    """The paper as PDF and as LaTeX source."""
    paper = build_paper(
        manuscript, record.read_json(results), folder=BLD, bibliography=bibliography, lua_filter=lua_filter
    )
    if paper.unused_files:
        print(f"\n    not shown in the paper: {', '.join(paper.unused_files)}")


def task_record(
    simulations: dict[str, Path] = SIMULATIONS,
    results: Path = BLD / "numbers.json",
    files: list[Path] = [*EXHIBITS, BLD / "paper.pdf", BLD / "paper.tex"],
    source: str = code("villageflow.report.record"),
    produces: Annotated[Path, Product] = BLD / "record.json",
) -> None:
    """What is compared between two runs and with the committed record."""
    made = record.make_record(simulations, record.read_json(results), files, base=BLD)
    record.write_json(produces, made)
