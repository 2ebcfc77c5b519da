"""Specification curves, leaving entities out, other errors: each row is the regression that it names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from villageflow.econometrics import Clustered, Jackknife, Spec, within
from villageflow.econometrics.robustness import (
    Choices,
    Restriction,
    alternative_errors,
    leave_one_out,
    specification_curve,
)
from villageflow.errors import EstimationError


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(8)
    index = pd.MultiIndex.from_product([[f"e{i}" for i in range(14)], range(2010, 2016)], names=["entity", "time"])
    x, z = rng.normal(size=(2, len(index)))
    frame = pd.DataFrame({"x": x, "z": z, "y": 0.4 * x + rng.normal(size=len(index))}, index=index)
    return frame.assign(region=[name[-1] for name, _ in index], fixed=1.0)


def choices(**changes):
    given = {
        "formulas": {"plain": ("y ~ x", "x"), "with z": ("y ~ x + z", "x")},
        "effects": {"both": ("entity", "time"), "none": ()},
        "samples": {
            "all": Restriction(), "late": Restriction((2013, 2014, 2015)), "without e3": Restriction((), ("e3",)),
        },
        "errors": {"clustered": Clustered(), "jackknife": Jackknife()},
    }
    return Choices(**(given | changes))


def test_every_combination_is_estimated_once_and_rows_are_the_regressions_they_name(panel):
    asked = choices()
    curve = specification_curve(asked, panel)
    assert len(curve) == len(asked) == 24
    assert not curve.duplicated(["formula", "effects", "sample", "errors"]).any()
    assert curve["estimate"].is_monotonic_increasing and curve["refused"].isna().all()
    row = curve.query("formula == 'with z' and effects == 'both' and sample == 'without e3' and errors == 'clustered'")
    by_hand = within("y ~ x + z", panel.drop("e3", level=0))
    assert_allclose(row["estimate"], by_hand.params["x"])
    assert_allclose(row[["lower", "upper"]].to_numpy()[0], by_hand.conf_int().loc["x"])


def test_what_the_data_do_not_support_is_listed_with_its_reason(panel):
    curve = specification_curve(choices(formulas={"good": ("y ~ x", "x"), "bad": ("y ~ fixed", "fixed")}), panel)
    refused = curve[curve["refused"].notna()]
    assert len(refused) == 12 and refused["estimate"].isna().all() and refused.index.min() == 12
    assert refused["refused"].str.contains("fixed").all()


def test_a_term_or_entity_that_is_not_there_is_listed_with_its_name(panel):
    samples = {"all": Restriction(), "without e33": Restriction(without="e33")}
    asked = choices(formulas={"good": ("y ~ x", "x"), "bad": ("y ~ x", "zz")}, samples=samples)
    refused = specification_curve(asked, panel).set_index(["formula", "sample"])["refused"]
    assert refused["good", "all"].isna().all()
    assert refused["bad", "all"].str.contains("'zz' is not a term").all()
    assert refused["good", "without e33"].str.contains("'e33' is not an entity of the panel. Did you mean 'e3'").all()


def test_choices_that_are_no_choices_are_refused():
    with pytest.raises(EstimationError, match=r"formulas\['plain'\] is 'y ~ x'. Write a pair"):
        choices(formulas={"plain": "y ~ x"})
    with pytest.raises(EstimationError, match=r"samples\['all'\] is \(\). Write Restriction"):
        choices(samples={"all": ()})


def test_leaving_out_an_entity_is_the_regression_without_it(panel):
    spec = Spec("y ~ x")
    table = leave_one_out(spec, panel, "x")
    assert sorted(table.index) == sorted(panel.index.unique(0))
    for entity in ("e0", "e9"):
        assert_allclose(table.loc[entity, "estimate"], within("y ~ x", panel.drop(entity, level=0)).params["x"])
    by_region = leave_one_out(spec, panel, "x", by="region")
    assert_allclose(by_region.loc["1", "estimate"], within("y ~ x", panel[panel["region"] != "1"]).params["x"])
    assert table.dtypes[["nobs", "n_entities"]].astype(str).tolist() == ["int64", "int64"]
    with pytest.raises(EstimationError, match="'w' is not a term"):
        leave_one_out(spec, panel, "w")
    with pytest.raises(EstimationError, match=r"by='regoin' is neither 'entity' nor a column. Did you mean 'region'"):
        leave_one_out(spec, panel, "x", by="regoin")


def test_other_errors_are_of_the_same_coefficient(panel):
    table = alternative_errors(Spec("y ~ x"), panel, "x", n_draws=199)
    assert len(table) == 7
    clustered = table.loc["clustered by entity, linearmodels convention"]
    assert_allclose(clustered["std_error"], within("y ~ x", panel).std_errors["x"])
    wild = table[table.index.str.startswith("wild")].iloc[0]
    assert np.isnan(wild["std_error"]) and wild["lower"] < 0.4 < wild["upper"]
    with pytest.raises(EstimationError, match=r"'w' is not a term. Known names: 'x'"):
        alternative_errors(Spec("y ~ x"), panel, "w")
    with pytest.raises(EstimationError, match="'w' is not in the panel"):
        alternative_errors(Spec("y ~ w", "poisson"), panel, "w")
    by_region = alternative_errors(Spec("y ~ x", cov_type=Jackknife("region")), panel, "x", n_draws=199)
    assert any("clustered by region, jackknife" in name for name in by_region.index)
    by_time = alternative_errors(Spec("y ~ x", cov_type="clustered"), panel, "x", n_draws=199)
    assert list(by_time.index) == list(table.index)
    assert len(alternative_errors(Spec("y ~ x", cov_type=Clustered("time")), panel, "x", n_draws=199)) == 6
