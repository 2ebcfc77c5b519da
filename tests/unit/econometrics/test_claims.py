"""Claims and their verdicts: what was stated is what is judged, on data that agree, contradict, or say nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from villageflow import datasets
from villageflow.econometrics import Clustered, Spec, within
from villageflow.econometrics.claims import Claim, findings_table, judge_claims
from villageflow.econometrics.hypotheses import CLAIMS, claim_panels, questions
from villageflow.econometrics.squeeze import squeeze_bounds
from villageflow.errors import EstimationError


def made(slope, n=60, seed=5):
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([range(n), range(2010, 2016)], names=["entity", "time"])
    x = rng.normal(size=len(index))
    return pd.DataFrame({"x": x, "y": slope * x + rng.normal(size=len(index))}, index=index)


def claim(name="c", sign="+", primary=False):
    return Claim(name, "H99", "x raises y", "provinces", Spec("y ~ x"), "x", sign, "a slope", primary=primary)


@pytest.mark.parametrize(
    ("slope", "sign", "verdict"),
    [
        (0.5, "+", "as stated"),
        (-0.5, "+", "against the stated sign"),
        (-0.5, "-", "as stated"),
        (0.0, "+", "not told apart from nothing"),
        (0.0, "0", "nothing found"),
        (0.5, "0", "something found"),
    ],
)
def test_the_verdict_follows_from_sign_and_p_value(slope, sign, verdict):
    (found,) = judge_claims([claim(sign=sign)], {"provinces": made(slope)})
    assert found.verdict == verdict
    result = within("y ~ x", made(slope))
    assert_allclose((found.value, found.p_value), (result.params["x"], result.pvalues["x"]))
    assert_allclose((found.lower, found.upper), result.conf_int().loc["x"])


def test_few_clusters_are_judged_by_the_bootstrap():
    (found,) = judge_claims([claim()], {"provinces": made(0.5, n=12)}, n_draws=999)
    assert "wild cluster" in found.method and found.estimate.n_clusters == 12


def test_p_values_of_primary_claims_are_not_adjusted_and_the_others_together():
    claims = [claim("first", primary=True), *(claim(f"c{i}") for i in range(4))]
    panels = {"provinces": made(0.12)}
    found = judge_claims(claims, panels)
    raw = [one.p_value for one in found]
    assert found[0].adjusted == raw[0]
    assert_allclose([one.adjusted for one in found[1:]], stats.false_discovery_control(raw[1:]))


def test_the_smallest_detectable_effect_is_found_with_the_stated_power():
    (found,) = judge_claims([claim()], {"provinces": made(0.0)})
    hits = 0
    for seed in range(100):
        (one,) = judge_claims([claim()], {"provinces": made(found.detectable, seed=1000 + seed)})
        hits += one.verdict == "as stated"
    assert 65 <= hits <= 92  # 80 of 100, with three binomial standard errors


def test_a_claim_that_cannot_be_judged_is_refused_by_name():
    panels = {"provinces": made(0.5)}
    for changes, said in (
        ({"sign": "positive"}, "sign='positive' is not known"),
        ({"yardstick": "nothing"}, "yardstick='nothing' is not known"),
        ({"yardstick": "placebo"}, "draws counties anew, and the panel is 'provinces'"),
        ({"spec": "y ~ x"}, "str is no specification"),
    ):
        with pytest.raises(EstimationError, match=said):
            replace(claim(), **changes)
    for claims, said in (
        ([replace(claim(), panel="province")], "'c': there is no panel 'province'. Did you mean 'provinces'"),
        ([replace(claim(), panel="counties", yardstick="placebo")], "there is no panel 'counties'"),
        ([replace(claim(), term="xx")], "'xx' is not a term. Did you mean 'x'"),
        ([claim(), claim()], "Two claims are called 'c'"),
    ):
        with pytest.raises(EstimationError, match=said):
            judge_claims(claims, panels)


@pytest.fixture(scope="module")
def shipped():
    panels = claim_panels()
    return panels, judge_claims(CLAIMS, panels, n_draws=199, n_placebo=19)


def test_declared_claims_are_well_formed_and_estimated(shipped):
    _, findings = shipped
    names = [one.name for one in CLAIMS]
    assert len(set(names)) == len(names)
    answered = set(questions("estimated").index)
    assert {one.hypothesis for one in CLAIMS} == answered == {"H01", "H02", "H03", "H04", "H14"}
    assert {one.hypothesis for one in CLAIMS if one.primary} == {"H01", "H04"}
    table = findings_table(findings)
    numbers = table[["estimate", "p_value", "adjusted", "detectable"]].astype(float)
    assert np.isfinite(numbers).all().all()
    assert (table["lower"] <= table["estimate"]).all() and (table["estimate"] <= table["upper"]).all()
    for found in findings:
        assert found.claim.term in found.estimate.params.index
        if found.claim.yardstick == "placebo":
            assert_allclose(found.value + found.yardstick, found.estimate.params[found.claim.term])


def test_samples_of_the_claims_are_those_that_the_data_hold(shipped):
    _, findings = shipped
    sizes = {found.claim.name: found.estimate.nobs for found in findings}
    assert sizes["return_after_label"] == 31 * 3
    assert sizes["return_and_digital_finance"] == 31 * 11
    assert sizes["advertising_over_commission"] == 6
    assert sizes["growth_falls"] == 9
    assert sizes["saturation"] == 227


def test_first_listing_is_the_first_roster_with_a_village(shipped):
    panels, _ = shipped
    first = panels["provinces"]["first_listed"].groupby(level=0).first()
    assert first.value_counts().to_dict() == {2014.0: 10, 2015.0: 7, 2016.0: 2}
    villages = datasets.load("provinces", columns=["taobao_villages"])["taobao_villages"].unstack()
    assert (villages.loc[first[first == 2015].index, 2014] == 0).all()
    assert (villages.loc[first[first.isna()].index, 2016] == 0).all()


def test_every_question_has_an_answer_or_says_what_it_needs():
    table = questions()
    assert len(table) == 50 and not table.isna().any().any()
    assert (table["needed"].str.len() > 20).all()
    with pytest.raises(EstimationError, match="Did you mean 'estimated'"):
        questions("estimate")


def test_bounds_of_the_squeeze_are_arithmetic_on_published_figures():
    nation, bounds = datasets.load("nation"), datasets.load("nation_bounds")
    found = squeeze_bounds(nation, bounds)
    assert (found["lower"] <= found["upper"]).all()
    assert_allclose(found.loc["fees over sales, 2016", "upper"], 78225 / 3_000_000)
    ends = found.loc["fees over sales, 2020", ["lower", "upper"]].astype(float)
    assert_allclose(ends, [246482 / 6.65e6, 246482 / 6.55e6])
    rise = found.loc["rise of fees over sales"]
    assert_allclose(rise["lower"], 246482 / 6.65e6 - 78225 / 3e6)
    growth = found.loc["growth of fees per rural shop"]
    shops = np.log(9856 / 8163)
    assert_allclose(growth["lower"], np.log(111596 / 78225) - shops)
    assert_allclose(growth["upper"], np.log(160810 / 111596) - shops)


def test_a_placebo_yardstick_is_taken_off(shipped):
    panels, findings = shipped
    imitation = next(found for found in findings if found.claim.name == "imitation")
    assert imitation.yardstick > 1 and abs(imitation.value) < 0.2
    assert imitation.claim.spec.cov_type == Clustered(("city",))
    assert set(panels) == {"provinces", "counties", "nation"}
