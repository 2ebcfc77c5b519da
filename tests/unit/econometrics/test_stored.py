"""Estimates as a file: what was written is what is read, and the hash tells other data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from villageflow.datasets import build
from villageflow.econometrics import (
    Clustered,
    Conley,
    DynamicSpec,
    Instruments,
    Spec,
    StaggeredSpec,
    coefficients,
    estimate,
    pick_estimate,
    read_estimates,
    spec_of,
    store,
    within,
    write_estimates,
)
from villageflow.econometrics.hypotheses import claim_panels
from villageflow.econometrics.stored import sample_hash
from villageflow.econometrics.studies import STUDIES
from villageflow.errors import EstimationError


@pytest.fixture
def panel():
    rng = np.random.default_rng(2)
    index = pd.MultiIndex.from_product([list("abcdefgh"), range(2010, 2015)], names=["entity", "time"])
    frame = pd.DataFrame(rng.normal(size=(len(index), 3)), index=index, columns=["x", "y", "other"])
    return frame.assign(group=[name < "e" for name, _ in index])


def test_an_estimate_comes_back_exactly(panel, tmp_path):
    found = within("y ~ lag(x)", panel)
    path = tmp_path / "estimates.json"
    write_estimates(path, [store("b", "mine", found, panel, sign="+"), store("a", "mine", found, panel)])
    read = read_estimates(path)
    assert list(read) == ["a", "b"]
    one = pick_estimate(read, "b")
    assert_array_equal(one.params, found.params)
    assert_array_equal(one.cov, found.cov)
    assert list(one.cov.columns) == ["lag(x)"] and one.df == found.df and one.n_clusters == 8
    assert one.spec["formula"] == "y ~ lag(x)" and one.spec["errors"] == "Clustered" and one.about == {"sign": "+"}
    with pytest.raises(EstimationError, match="No estimate is called 'c'"):
        pick_estimate(read, "c")


def test_the_hash_depends_on_what_was_read_and_on_nothing_else(panel):
    def hashed(frame, formula="y ~ lag(x)"):
        return sample_hash(within(formula, frame, effects=("entity", "group*time")), frame)

    same = hashed(panel)
    assert hashed(panel.sample(frac=1, random_state=3)) == same
    assert hashed(panel.assign(other=0.0)) == same
    assert hashed(panel.drop(columns="other")) == same
    touched = panel.copy()
    touched.iloc[0, 0] = np.nextafter(touched.iloc[0, 0], 9)
    assert hashed(touched) != same
    assert hashed(panel.assign(group=~panel["group"])) != same
    assert hashed(panel, "y ~ x") != same


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is not a file of estimates"),
        ('{"format": "villageflow estimates 0", "estimates": []}', "is not a file of estimates"),
        ('{"format": "villageflow estimates 1", "estimates": [{"name": "a"}]}', "estimate 1 is damaged"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, text, said):
    path = tmp_path / "estimates.json"
    path.write_text(text)
    with pytest.raises(EstimationError, match=said):
        read_estimates(path)
    with pytest.raises(EstimationError, match="does not exist"):
        read_estimates(tmp_path / "none.json")


def test_two_estimates_of_one_name_are_refused(panel, tmp_path):
    row = store("a", "mine", within("y ~ x", panel), panel)
    with pytest.raises(EstimationError, match="'a'"):
        write_estimates(tmp_path / "x.json", [row, row])
    assert json.dumps(row, allow_nan=False)


def test_what_did_not_go_through_store_is_refused(panel, tmp_path):
    found = within("y ~ x", panel)
    for given in ([found], found, [{"params": []}]):
        with pytest.raises(EstimationError, match=r"cannot be written. Use store\(name, recipe, estimate, panel\)"):
            write_estimates(tmp_path / "x.json", given)


@pytest.mark.parametrize(
    "spec",
    [
        Spec("y ~ x", "first_difference", cov_type=Conley("other", "x", 50, lags=1), times=(2011, 2012)),
        Spec("y ~ x", effects=(), cov_type="robust", convention="stata"),
        DynamicSpec("y ~ lag(y) + x", gmm=(Instruments("y", 2, 3),), iv=("x",), collapse=True),
        StaggeredSpec("y ~ 1", "first", control="not_yet", cov_type=Clustered("group")),
    ],
)
def test_a_specification_comes_back(panel, tmp_path, spec):
    stored = replace(within("y ~ x", panel), spec=spec)
    panel = panel.assign(first=np.nan)
    write_estimates(str(tmp_path / "x.json"), [store("a", "mine", stored, panel)])
    read = read_estimates(tmp_path / "x.json")["a"]
    assert spec_of(read) == spec
    with pytest.raises(EstimationError, match="specification of 'a' is damaged"):
        spec_of(replace(read, spec={**read.spec, "errors": "Bootstrapped"}))


def test_every_stored_estimate_is_found_again_on_the_panels_that_its_docstring_names():
    panels = claim_panels()
    kept = read_estimates(Path(__file__).parents[3] / "results" / "estimates.json")
    assert len(kept) > 30
    for name, stored in kept.items():
        found = estimate(spec_of(stored), panels[stored.panel])
        assert list(found.params.index) == list(stored.params.index), name
        assert_allclose(found.params, stored.params, rtol=1e-7, err_msg=name)
        assert_allclose(found.cov, stored.cov, rtol=1e-7, atol=1e-14, err_msg=name)
        assert sample_hash(found, panels[stored.panel]) == stored.sample_hash, name


def test_estimates_of_a_study_need_no_more_than_its_own_panel():
    kept = read_estimates(Path(__file__).parents[3] / "results" / "estimates.json")
    for name, stored in kept.items():
        if "/" in name:
            panel = STUDIES[name.split("/")[0]].prepare(build(stored.panel))
            assert_allclose(coefficients(spec_of(stored), panel), stored.params, rtol=1e-7, err_msg=name)
