"""Estimates as a file: what was written is what is read, and the hash tells other data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from villageflow.econometrics import within
from villageflow.econometrics.stored import pick_estimate, read_estimates, sample_hash, store, write_estimates
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
