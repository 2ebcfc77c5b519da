"""Tables, numbers and figures of estimates: what is drawn and written is what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from villageflow import datasets
from villageflow.econometrics import Clustered, Spec, estimate, read_estimates
from villageflow.econometrics.claims import Claim, judge_claims
from villageflow.econometrics.hypotheses import CLAIMS, FIRST_LISTING, claim_panels, questions
from villageflow.econometrics.robustness import Choices, Restriction, leave_one_out, specification_curve
from villageflow.econometrics.squeeze import squeeze_bounds
from villageflow.econometrics.staggered import bacon_decomposition
from villageflow.econometrics.stored import sample_hash
from villageflow.errors import ReportError
from villageflow.report import estimates
from villageflow.report.estimate_figures import event_figure, robustness_figure

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def panels():
    return claim_panels()


@pytest.fixture(scope="module")
def findings(panels):
    chosen = [claim for claim in CLAIMS if claim.yardstick == "zero"]
    return judge_claims(chosen, panels, n_draws=199)


def test_the_table_of_claims_has_a_row_for_each_and_says_how_it_ended(findings):
    table = estimates.claims_table(findings).splitlines()
    assert len(table) == 2 + len(findings)
    primary = estimates.claims_table(findings, primary=True).splitlines()
    assert len(primary) == 2 + sum(found.claim.primary for found in findings)
    for row, found in zip(table[2:], findings, strict=True):
        assert found.claim.says in row and found.verdict in row and f"| {found.estimate.nobs} |" in row
    assert "<0.001" in table[2 + [found.claim.name for found in findings].index("growth_falls")]


def test_every_claim_states_its_specification_what_it_informs_and_its_caution(findings):
    rows = estimates.specifications_table(findings).splitlines()[2:]
    for row, found in zip(rows, findings, strict=True):
        claim = found.claim
        assert f"`{claim.spec.formula}`" in row and claim.spec.words in row
        assert claim.informs in row and claim.caution in row


def test_numbers_of_claims_count_verdicts(findings):
    numbers = estimates.claims_numbers(findings)
    found = {verdict: sum(one.verdict == verdict for one in findings) for verdict in {one.verdict for one in findings}}
    assert numbers["claims.n_as_stated"] == found["as stated"]
    assert numbers["claims.return_after_label.estimate"] == findings[0].value
    assert numbers["claims.return_after_label.verdict"] == findings[0].verdict


def test_the_committed_estimates_are_those_of_the_shipped_panels(panels):
    """Hashes tell whether data or specifications have moved since the estimates were committed."""
    stored = read_estimates(ROOT / "results" / "estimates.json")
    assert {claim.name for claim in CLAIMS} <= set(stored)
    for claim in CLAIMS:
        kept, panel = stored[claim.name], panels[claim.panel]
        fresh = estimate(claim.spec, panel)
        assert kept.sample_hash == sample_hash(fresh, panel), claim.name
        np.testing.assert_allclose(kept.params, fresh.params, rtol=1e-7)
        np.testing.assert_allclose(kept.cov, fresh.cov, rtol=1e-6)
        assert kept.about["sign"] == claim.sign and kept.about["informs"] == claim.informs


def test_the_event_figure_draws_every_path_with_bands_wider_than_intervals(panels):
    paths = {name: estimate(spec, panels["provinces"]) for name, spec in FIRST_LISTING.items()}
    figure = event_figure(paths, base=-1, label="effect", seed=3)
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(paths)
    bands, intervals = ax.collections[0].get_segments(), ax.collections[1].get_segments()
    path = next(iter(paths.values()))
    assert len(bands) == len(intervals) == len(path.params)
    for band, interval in zip(bands, intervals, strict=True):
        assert np.ptp(band[:, 1]) > np.ptp(interval[:, 1])
    years = panels["provinces"][panels["provinces"].index.get_level_values(1).isin(range(2011, 2017))]
    comparisons = bacon_decomposition("ln(rural_population) ~ 1", years, cohort="first_listed")
    numbers = estimates.event_numbers(paths, comparisons)
    assert 0 < numbers["event.forbidden_weight"] < 1
    assert numbers["event.group-time.overall"] == path.diagnostics["overall"].statistic


def test_the_robustness_figure_shows_every_specification_and_every_province(panels):
    claim = CLAIMS[0]
    choices = Choices(
        formulas={"rural": (claim.spec.formula, claim.term)}, effects={"both": ("entity", "time"), "year": ("time",)},
        samples={"all": Restriction((2015, 2016, 2017))}, errors={"clustered": Clustered()},
    )  # fmt: skip
    curve = specification_curve(choices, panels["provinces"])
    left_out = leave_one_out(claim.spec, panels["provinces"], claim.term)
    left, right = robustness_figure(curve, left_out, label="slope").axes
    drawn = np.concatenate([line.get_ydata() for line in left.lines[:-1]])
    np.testing.assert_allclose(np.sort(drawn), curve["estimate"])
    np.testing.assert_allclose(right.lines[0].get_ydata(), left_out["estimate"])
    with pytest.raises(ReportError, match="no specification has an estimate"):
        robustness_figure(curve.assign(estimate=np.nan), left_out, label="slope")


def test_other_tables_hold_their_rows(panels):
    bounds = squeeze_bounds(datasets.load("nation"), datasets.load("nation_bounds"))
    assert f"{bounds['upper'].iloc[0]:.1%}" in estimates.bounds_table(bounds)
    needed = questions("not answerable")
    assert len(estimates.needs_table(needed).splitlines()) == 2 + len(needed) == 47
    audit = datasets.merges_table(datasets.build("counties"))
    text = estimates.merges_text(audit)
    assert len(text.splitlines()) == 2 + len(audit)
    numbers = estimates.quality_numbers({"nation": datasets.quality(datasets.build("nation"))})
    assert numbers["quality.nation.n_conflicts"] >= 2


def test_a_claim_on_a_made_panel_prints(panels):
    index = pd.MultiIndex.from_product([[f"e{i}" for i in range(50)], range(4)], names=["entity", "time"])
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(200, 2)), index=index, columns=["x", "y"])
    claim = Claim("c", "H99", "x raises y", "provinces", Spec("y ~ x"), "x", "-", "a slope")
    text = estimates.claims_table(judge_claims([claim], {"provinces": frame}))
    assert "| H99 | x raises y | \N{MINUS SIGN} |" in text
