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

import pandas as pd
import xarray as xr
from pytask import Product, task

from villageflow import datasets, library
from villageflow.analysis.policy import compare_policies
from villageflow.calibrate.counties import fit_counties
from villageflow.calibrate.curves import compare_with_curves
from villageflow.calibrate.facts import read_facts
from villageflow.calibrate.fit import fit
from villageflow.calibrate.history import history_match
from villageflow.calibrate.load import load_fit
from villageflow.calibrate.national import national_problem
from villageflow.calibrate.predict import score
from villageflow.calibrate.problems import PROBLEMS
from villageflow.calibrate.provinces_predicted import provincial_fit
from villageflow.calibrate.returns import return_fit
from villageflow.econometrics import estimate, hypotheses, studies
from villageflow.econometrics.claims import judge_claims
from villageflow.econometrics.robustness import alternative_errors, leave_one_out, specification_curve
from villageflow.econometrics.squeeze import squeeze_bounds
from villageflow.econometrics.staggered import bacon_decomposition
from villageflow.econometrics.stored import write_estimates
from villageflow.ensemble.design import Design
from villageflow.ensemble.simulate import simulate
from villageflow.report import estimates, exhibits, numbers, panel_exhibits, record, tables
from villageflow.report.coverage import coverage_figure
from villageflow.report.estimate_figures import event_figure, robustness_figure
from villageflow.report.output import save_netcdf
from villageflow.report.paper import build_paper
from villageflow.report.plots import save_figure
from villageflow.report.sources import PACKAGE, code, fixed

PAPER = Path(__file__).resolve().parent
BLD = PAPER / "bld"
DATA = sorted((PACKAGE / "datasets").glob("*.csv"))
MODELS = library.folder()
NATION = sorted((MODELS / "national_diffusion").glob("*.[cm][sd][vl]"))
VILLAGE = sorted((MODELS / "village_cluster").glob("*.[cm][sd][vl]"))
PROBLEMS_OF_PANELS = sorted(path for path in (MODELS / "problems").glob("*/*.*") if path.suffix in (".mdl", ".csv"))
SAVES = (
    "active_stores", "stores[agent]", "stores[brand]", "profit[agent]", "profit[brand]", "profit_average",
    "village_revenue", "ad_cost_share[agent]", "workers_away", "resident_workers", "return_flow", "leave_flow",
)
POLICIES = ("baseline", "no_ad_contest", "free_traffic_quota", "county_support", "shared_brand")

NUMBERS: list[Path] = []
SIMULATIONS: dict[str, Path] = {}
EXHIBITS: list[Path] = []


def _numbers(step: str) -> Path:
    """File for the numbers of a step; registered for the record and the manuscript."""
    NUMBERS.append(BLD / "numbers" / f"{step}.json")
    return NUMBERS[-1]


def _word(element: str) -> str:
    """An element of an array as one word: ``profit[agent]`` -> ``profit_agent``, which exhibits and numbers go by."""
    return element.replace("[", "_").removesuffix("]")


def _plain(runs: xr.Dataset) -> xr.Dataset:
    """Runs with elements of arrays named by one word."""
    return runs.rename({name: _word(str(name)) for name in runs.data_vars})


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


def task_quality(
    data: list[Path] = DATA,
    source: str = code("villageflow.datasets", "villageflow.report.coverage", "villageflow.report.estimates"),
    report: Annotated[Path, Product] = BLD / "quality.md",
    written: Annotated[tuple[Path, ...], Product] = _exhibits(
        "tables/merges.md", "figures/coverage.svg", "figures/coverage.pdf"
    ),
    found: Annotated[Path, Product] = _numbers("quality"),
) -> None:
    """Coverage, breaks, conflicts and gaps of the panels, and the audit of their joins."""
    qualities = {name: datasets.quality(datasets.build(name)) for name in datasets.recipe_names()}
    report.write_text(estimates.quality_text(qualities), encoding="utf-8", newline="\n")
    written[0].write_text(estimates.merges_text(datasets.merges_table(datasets.build("counties"))), encoding="utf-8")
    figure = coverage_figure(datasets.quality(datasets.load("provinces")))
    for path in written[1:]:
        save_figure(figure, path, alt="Years and variables for which provinces have values.")
    record.write_json(found, estimates.quality_numbers(qualities))


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
        result = studies.run_study(name, datasets.build(studies.STUDIES[name].panel))
        tables.write_tables(result, written[0].parent)
        record.write_json(found, numbers.study_numbers(result))


def task_placebo(
    data: list[Path] = DATA,
    seed: int = fixed(20140101),
    n_draws: int = fixed(200),
    source: str = code("villageflow.econometrics.studies", "villageflow.report.exhibits"),
    written: Annotated[tuple[Path, ...], Product] = _exhibits("tables/placebo.md"),
    produces: Annotated[Path, Product] = _numbers("placebo"),
) -> None:
    """What the county regressions find where there is neither crowding nor contagion."""
    placebo = studies.study_placebo(datasets.build("counties"), n_draws=n_draws, seed=seed)
    written[0].write_text(exhibits.placebo_table(placebo), encoding="utf-8")
    record.write_json(produces, exhibits.placebo_numbers(placebo))


def task_claims(
    data: list[Path] = DATA,
    questions: Path = PACKAGE / "econometrics" / "hypotheses.csv",
    seed: int = fixed(20150101),
    n_draws: int = fixed(9_999),
    n_placebo: int = fixed(999),
    source: str = code("villageflow.econometrics.hypotheses", "villageflow.report.estimates"),
    stored: Annotated[Path, Product] = BLD / "estimates.json",
    written: Annotated[tuple[Path, ...], Product] = _exhibits(
        "tables/claims_primary.md", "tables/claims_other.md", "tables/squeeze_bounds.md", "tables/needed.md",
        "tables/specifications.md",
    ),
    found: Annotated[Path, Product] = _numbers("claims"),
) -> None:
    """The hypotheses on the real panels: each claim with its sign, estimate and interval; bounds; what is needed."""
    panels = hypotheses.claim_panels()
    findings = judge_claims(hypotheses.CLAIMS, panels, n_draws=n_draws, n_placebo=n_placebo, seed=seed)
    bounds = squeeze_bounds(datasets.load("nation"), datasets.load("nation_bounds"))
    written[0].write_text(estimates.claims_table(findings, primary=True), encoding="utf-8")
    written[1].write_text(estimates.claims_table(findings, primary=False), encoding="utf-8")
    written[2].write_text(estimates.bounds_table(bounds), encoding="utf-8")
    written[3].write_text(estimates.needs_table(hypotheses.questions("not answerable")), encoding="utf-8")
    written[4].write_text(estimates.specifications_table(findings), encoding="utf-8")
    kept = estimates.stored_estimates(findings, panels)
    write_estimates(stored, kept)
    hashes = {f"claims.sample_hash.{row['name']}": str(row["sample_hash"]) for row in kept}
    record.write_json(
        found,
        record.merge_flat(
            estimates.claims_numbers(findings), hashes,
            numbers.frame_numbers(bounds[["lower", "upper"]], "squeeze_bounds"),
        ),
    )


def task_robustness(
    data: list[Path] = DATA,
    seed: int = fixed(20160101),
    source: str = code("villageflow.econometrics.hypotheses", "villageflow.report.estimate_figures"),
    curve: Annotated[Path, Product] = BLD / "specifications.csv",
    written: Annotated[tuple[Path, ...], Product] = _exhibits(
        "tables/errors.md", *(f"figures/{name}.{kind}" for name in ("robustness", "event") for kind in ("svg", "pdf"))
    ),
    found: Annotated[Path, Product] = _numbers("robustness"),
) -> None:
    """The headline on return under other choices, without single provinces, under other errors; first listings."""
    panel, main = hypotheses.claim_panels()["provinces"], hypotheses.CLAIMS[0]
    specifications = specification_curve(hypotheses.RETURN_CHOICES, panel)
    specifications.to_csv(curve, index=False, lineterminator="\n")
    left_out = leave_one_out(main.spec, panel, main.term)
    errors = alternative_errors(main.spec, panel, main.term, seed=seed)
    written[0].write_text(estimates.errors_table(errors), encoding="utf-8")
    paths = {name: estimate(spec, panel) for name, spec in hypotheses.FIRST_LISTING.items()}
    years = panel[panel.index.get_level_values(1).isin(hypotheses.FIRST_LISTING["imputation"].times)]
    comparisons = bacon_decomposition("ln(rural_population) ~ 1", years, cohort="first_listed")
    drawn = {
        "robustness": (
            robustness_figure(specifications, left_out, label="growth per log point of villages"),
            "Coefficients of all specifications by size, and of the main one without each province.",
        ),
        "event": (
            event_figure(paths, base=-1, label="log rural population", seed=seed),
            "Effects on the rural population by year since the first listed village, with intervals and bands.",
        ),
    }
    for path in written[1:]:
        figure, alt = drawn[path.stem]
        save_figure(figure, path, alt=alt)
    record.write_json(
        found,
        record.merge_flat(
            estimates.robustness_numbers(specifications, left_out, errors), estimates.event_numbers(paths, comparisons)
        ),
    )


# --- calibration ------------------------------------------------------------------------------------


def task_national_fit(
    data: list[Path] = DATA,
    model: list[Path] = NATION,
    seed: int = fixed(20090101),
    starts: int = fixed(40),
    source: str = code("villageflow.calibrate.national", "villageflow.calibrate.fit"),
    produces: Annotated[Path, Product] = BLD / "national_fit.json",
) -> None:
    """National counts of 2009 to 2018 by maximum likelihood."""
    fit(PROBLEMS["national"](), seed=seed, starts=starts).save(produces)


def task_national_check(
    data: list[Path] = DATA,
    model: list[Path] = NATION,
    fitted: Path = BLD / "national_fit.json",
    seed: int = fixed(20190101),
    source: str = code("villageflow.calibrate.curves", "villageflow.report.exhibits"),
    written: Annotated[tuple[Path, ...], Product] = _exhibits(
        "tables/national_fit.md", "tables/national_check.md", "figures/national_fit.svg", "figures/national_fit.pdf"
    ),
    found: Annotated[Path, Product] = _numbers("national_fit"),
) -> None:
    """The counts of 2019 to 2022, kept aside, and growth curves fitted to the same counts."""
    problem, result = PROBLEMS["national"](), load_fit(fitted)
    comparison = compare_with_curves(problem, result, seed=seed)
    in_logs = national_problem(method="rk4", noise="lognormal")
    alternative = score(in_logs, fit(in_logs, seed=seed), in_logs.holdout)
    written[0].write_text(exhibits.fit_table(result), encoding="utf-8")
    written[1].write_text(exhibits.comparison_table(comparison), encoding="utf-8")
    figure = exhibits.national_figure(problem, result)
    for path in written[2:]:
        save_figure(figure, path, alt="Published counts of Taobao villages and the fitted national model.")
    scores = score(problem, result, problem.holdout)
    record.write_json(found, exhibits.fit_numbers(result, scores, comparison, in_logs=alternative))


def task_provinces(
    data: list[Path] = DATA,
    model: list[Path] = PROBLEMS_OF_PANELS,
    seed: int = fixed(20140101),
    source: str = code("villageflow.calibrate.provinces_predicted", "villageflow.report.panel_exhibits"),
    kept: Annotated[Path, Product] = BLD / "provinces_fit.json",
    written: Annotated[tuple[Path, ...], Product] = _exhibits(
        "tables/provinces.md", "tables/provinces_holdout.md", "tables/provinces_skill.md", "figures/provinces.svg",
        "figures/provinces.pdf",
    ),
    found: Annotated[Path, Product] = _numbers("provinces"),
) -> None:
    """Counts of provinces of 2014 to 2016 with random effects, and what they predict."""
    fitted = provincial_fit(seed)
    fitted.result.save(kept)
    shown = (panel_exhibits.provinces_table, panel_exhibits.provinces_holdout, panel_exhibits.skill_table)
    for path, draw in zip(written, shown):
        path.write_text(draw(fitted), encoding="utf-8")
    figure = panel_exhibits.provinces_figure(fitted)
    for path in written[len(shown):]:
        save_figure(figure, path, alt="National totals as sums over provinces; counts of six provinces kept aside.")
    record.write_json(found, panel_exhibits.provinces_numbers(fitted))


def task_returns(
    data: list[Path] = DATA,
    model: list[Path] = PROBLEMS_OF_PANELS,
    seed: int = fixed(20110101),
    source: str = code("villageflow.calibrate.returns", "villageflow.report.panel_exhibits"),
    written: Annotated[tuple[Path, ...], Product] = _exhibits("tables/returns.md", "tables/returns_scores.md"),
    found: Annotated[Path, Product] = _numbers("returns"),
) -> None:
    """Leaving and return on the rural population of provinces."""
    fitted = return_fit(seed)
    written[0].write_text(panel_exhibits.returns_table(fitted), encoding="utf-8")
    written[1].write_text(panel_exhibits.returns_scores(fitted), encoding="utf-8")
    record.write_json(found, panel_exhibits.returns_numbers(fitted))


def task_counties(
    data: list[Path] = DATA,
    model: list[Path] = PROBLEMS_OF_PANELS,
    seed: int = fixed(20160101),
    source: str = code("villageflow.calibrate.counties", "villageflow.report.panel_exhibits"),
    kept: Annotated[Path, Product] = BLD / "counties_fit.json",
    written: Annotated[tuple[Path, ...], Product] = _exhibits(
        "tables/counties.md", "tables/counties_moments.md", "tables/counties_forecast.md"
    ),
    found: Annotated[Path, Product] = _numbers("counties"),
) -> None:
    """Crowding and contagion of counties by indirect inference on the regressions of the rosters."""
    fitted = fit_counties(seed=seed)
    fitted.result.save(kept)
    shown = (panel_exhibits.counties_table, panel_exhibits.counties_moments, panel_exhibits.counties_forecast)
    for path, draw in zip(written, shown, strict=True):
        path.write_text(draw(fitted), encoding="utf-8")
    record.write_json(found, panel_exhibits.counties_numbers(fitted))


def task_history(
    model: list[Path] = VILLAGE,
    seed: int = fixed(20060101),
    n_draws: int = fixed(40_000),
    source: str = code("villageflow.calibrate.history", "villageflow.report.exhibits"),
    retained: Annotated[Path, Product] = BLD / "retained.csv",
    report: Annotated[Path, Product] = BLD / "history.json",
    written: Annotated[tuple[Path, ...], Product] = _exhibits("tables/history_facts.md"),
    found: Annotated[Path, Product] = _numbers("history"),
) -> None:
    """Prior draws of the village model that agree with the facts about one village."""
    village = library.read("village_cluster")
    design = Design.lhs(library.priors("village_cluster"), n=n_draws, seed=seed)
    match = history_match(village, design, read_facts(library.path("village_cluster") / "facts.csv", village))
    match.save(report)
    match.retained().table.to_csv(retained, index=False, lineterminator="\n")
    written[0].write_text(exhibits.facts_table(match), encoding="utf-8")
    record.write_json(found, exhibits.history_numbers(match))


# --- experiments ------------------------------------------------------------------------------------

SIMULATIONS["policy"] = BLD / "policy.nc"
SIMULATIONS["contest"] = BLD / "contest.nc"


def task_contest(
    model: list[Path] = VILLAGE,
    retained: Path = BLD / "retained.csv",
    n_members: int = fixed(10_000),
    source: str = code("villageflow.ensemble.simulate", "villageflow.report.exhibits"),
    runs: Annotated[Path, Product] = SIMULATIONS["contest"],
    found: Annotated[Path, Product] = _numbers("contest"),
) -> None:
    """The same draws with the contest for visibility and without it from the start."""
    design = Design.from_frame(pd.read_csv(retained, nrows=n_members))
    design = design.with_scenarios({"contest": {}, "no_contest": {"contest_decisiveness": 0.0}})
    saves = ("profit[agent]", "village_revenue", "active_stores")
    compared = _plain(simulate(library.read("village_cluster"), design, save=saves, save_every=1.0))
    save_netcdf(compared, runs)
    record.write_json(found, exhibits.contest_numbers(compared, 2016.0))


def task_policies(
    model: list[Path] = VILLAGE,
    retained: Path = BLD / "retained.csv",
    n_members: int = fixed(10_000),
    source: str = code("villageflow.ensemble.simulate", "villageflow.report.output"),
    runs: Annotated[Path, Product] = SIMULATIONS["policy"],
) -> None:
    """A baseline and four policies over the same retained draws."""
    design = Design.from_frame(pd.read_csv(retained, nrows=n_members))
    scenarios = library.scenarios("village_cluster").query("scenario in @POLICIES")
    village = library.read("village_cluster")
    save_netcdf(_plain(simulate(village, design.with_scenarios(scenarios), save=SAVES, save_every=1.0)), runs)


def task_policy_exhibits(
    runs: Path = SIMULATIONS["policy"],
    source: str = code("villageflow.report.exhibits"),
    written: Annotated[tuple[Path, ...], Product] = _exhibits(
        "tables/policies.md",
        *(f"figures/{name}.svg" for name in ("ad_squeeze", "policy_fan", "return_migration")),
        *(f"figures/{name}.pdf" for name in ("ad_squeeze", "policy_fan", "return_migration")),
    ),
    found: Annotated[Path, Product] = _numbers("policy"),
) -> None:
    """Fans, the squeeze and return migration."""
    shown = {
        "active_stores": ("active stores", 1.0), "profit_agent": ("profit of an agent (1,000 RMB)", 1e3),
        "village_revenue": ("village revenue (m RMB)", 1e6), "resident_workers": ("resident workers", 1.0),
    }
    with xr.open_dataset(runs, engine="h5netcdf") as opened:
        policy = opened.load()
    found_policies = compare_policies(policy)
    written[0].write_text(exhibits.policy_table(found_policies, shown, 2030.0), encoding="utf-8")
    drawn = {
        "ad_squeeze": (exhibits.squeeze_figure, "Profit of stores by type, and agent profit against village revenue."),
        "policy_fan": (exhibits.policy_figure, "Active stores and agent profit under a baseline and four policies."),
        "return_migration": (exhibits.migration_figure, "Resident workers under policies; return and leaving flows."),
    }
    for path in written[1:]:
        draw, alt = drawn[path.stem]
        save_figure(draw(policy), path, alt=alt)
    years = (2010.0, 2016.0, 2020.0, 2030.0)
    squeeze = exhibits.squeeze_numbers(policy.sel(scenario="baseline", drop=True))
    decline = exhibits.decline_numbers(policy.sel(scenario="baseline", drop=True), first=2016.0, last=2030.0)
    shares = exhibits.policy_numbers(found_policies, [_word(name) for name in SAVES], years)
    record.write_json(found, record.merge_flat(shares, squeeze, decline))


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
