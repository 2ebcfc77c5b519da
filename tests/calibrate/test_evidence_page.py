"""The evidence page is what the stored summaries give, and the summaries are what the replications say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from evidence.closed import ClosedStores
from evidence.matching import Moments, Panels
from evidence.page import PAGE, coverage_bounds, outside, page, reasons
from evidence.panels import Design
from evidence.record import STORED, collect, replications, stored, summary
from evidence.studies import RANKS, STUDIES, TEST, Row, Study, seed_of
from evidence.systems import STORES, SYSTEMS
from numpy.testing import assert_allclose
from scipy import stats

ALL_AT_ONCE = SimpleNamespace(map=map)
"""A pool of no processes."""


@pytest.fixture(scope="module")
def table():
    return stored()


# --- the page ----------------------------------------------------------------------------------------------------


def test_page_is_what_the_stored_summaries_give(table):
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(table), "run ./run python tests/statistical/evidence_study.py --page"


def test_stored_summaries_are_those_of_the_declared_studies(table):
    assert list(dict.fromkeys(table["study"])) == list(STUDIES), f"make {STORED.name} anew"
    for name, own in table.groupby("study"):
        study = STUDIES[name]
        ranks = len(own) and (own["interval"] == RANKS).all()
        assert (own["n"] == study.n * (10 if ranks else 1)).all()
        truth = own.set_index("parameter")["truth"].dropna().to_dict()
        assert truth == pytest.approx(dict(study.truth))
        assert set(own["interval"]) == set(study.intervals)


def test_every_cell_out_of_its_bounds_has_a_reason(table):
    assert "not looked into" not in reasons(table), "look into it and give a reason in evidence/page.py"


def test_another_number_moves_the_page(table):
    moved = table.copy()
    at = moved.index[(moved["study"] == "stores, one") & (moved["parameter"] == "imitation")][0]
    moved.loc[at, "covered"] = 0.85
    assert page(moved) != page(table)
    assert [cell[:3] for cell in outside(moved) if cell not in outside(table)] == [
        ("coverage", "stores, one", "imitation")
    ]
    assert "not looked into" in reasons(moved)


def test_bounds_are_binomial_quantiles_that_share_the_error_rate():
    low, high = coverage_bounds(1000, 50)
    assert stats.binom.cdf(round(1000 * low) - 1, 1000, 0.92) <= 0.0005 < stats.binom.cdf(round(1000 * low), 1000, 0.92)
    assert stats.binom.sf(round(1000 * high), 1000, 0.97) <= 0.0005 < stats.binom.sf(round(1000 * high) - 1, 1000, 0.97)
    assert coverage_bounds(400, 50)[0] < low < 0.92 and 0.97 < high < coverage_bounds(400, 50)[1]


# --- summaries and replications ----------------------------------------------------------------------------------


def test_summary_counts_what_covers_and_what_is_lost():
    study = Study("made", "", "", {"a": 1.0}, {"one": True}, 4, lambda i: [])
    ends = [(0.5, 2.0), (1.5, 2.0), (0.0, 0.9), (np.nan, np.nan)]
    rows = pd.DataFrame(
        [(i, *Row("a", "one", 1.0 + i, *pair)) for i, pair in enumerate(ends)]
        + [(i, *Row("J", TEST, p)) for i, p in enumerate((0.04, 0.2, 0.5, 0.01))],
        columns=["replication", *Row._fields],
    )
    one, test = summary(study, rows).to_dict("records")
    assert (one["n"], one["lost"], one["mean"]) == (4, 1, 2.5) and one["sd"] == pytest.approx(np.sqrt(5 / 3))
    assert (one["covered"], one["below"], one["above"]) == (0.25, 0.25, 0.25)
    assert test["covered"] == 0.5 and np.isnan(test["truth"])


def test_replications_depend_neither_on_the_block_nor_on_a_stop(tmp_path, monkeypatch):
    def replicate(i):
        return [Row("a", "one", *np.random.default_rng(seed_of("toy", i)).normal(size=3))]

    study = Study("toy", "", "", {"a": 0.0}, {"one": True}, 25, replicate)
    monkeypatch.setitem(STUDIES, "toy", study)
    whole = collect(study, ALL_AT_ONCE, tmp_path / "whole")
    collect(replace(study, n=10), ALL_AT_ONCE, tmp_path / "parts")
    resumed = collect(study, ALL_AT_ONCE, tmp_path / "parts")
    pd.testing.assert_frame_equal(whole, resumed, check_exact=True)
    pd.testing.assert_frame_equal(replications(study, 13, 1), whole[13:14].reset_index(drop=True), check_exact=True)
    assert list(whole["replication"]) == list(range(25)) and whole["estimate"].nunique() == 25


def test_a_replication_repeats_and_another_one_has_other_draws():
    once, again = (replications(STUDIES["stores, indirect"], i, 1) for i in (3, 3))
    pd.testing.assert_frame_equal(once, again, check_exact=True)
    streams = [seed_of(name, i).generate_state(2).tolist() for name in STUDIES for i in range(50)]
    assert len({tuple(state) for state in streams}) == 50 * len(STUDIES)


# --- shortcuts are what they stand for ---------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_moments_by_hand_are_those_of_the_package(system):
    panels = Panels(Design(system, n_entities=12, n_times=8, effect=0.3), [1], n_simulations=1)
    panel = panels.panels(np.array([list(panels.truth.values())]))[0][0]
    moments = Moments.of(panels.design)
    pd.testing.assert_series_equal(moments.values(panel), moments.plain().values(panel), rtol=1e-9)


def test_stores_in_closed_form_are_those_of_the_engine():
    design = Design(STORES, n_entities=5, n_times=5, effect=0.3, measured=("stores",), free=("imitation", "places"))
    problem = design.problem(np.random.default_rng(1))
    values = problem.box.natural(np.random.default_rng(2).uniform(0.3, 0.7, size=(20, 5, 3)).reshape(-1, 3))
    values = values.reshape(20, 5, 3)
    closed = ClosedStores(design, problem)
    assert_allclose(
        closed.entity_log_likelihood(values), problem.entity_log_likelihood(values), rtol=1e-4, atol=2e-3
    )


def test_errors_have_the_persistence_of_the_design():
    drawn = Design(STORES, n_times=8, persistence=0.7).errors(np.random.default_rng(1), 40_000)
    assert_allclose(drawn.std(axis=0), 1.0, atol=0.02)
    assert_allclose((drawn[..., 1:] * drawn[..., :-1]).mean(axis=0), 0.7, atol=0.03)
    assert_allclose((drawn[:, 0] * drawn[:, 1]).mean(axis=0), 0.0, atol=0.03)
