"""Bad input: case by case, and the one error that names column, first rows, rule and remedy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from villageflow.econometrics import (
    Conley,
    DriscollKraay,
    DynamicSpec,
    Jackknife,
    Spec,
    StaggeredSpec,
    alternative_errors,
    between,
    coefficients,
    correlated_random_effects,
    difference_gmm,
    estimate,
    event_study,
    first_difference,
    group_time_effects,
    iv,
    leave_one_out,
    poisson,
    pooled,
    random_effects,
    wild_bootstrap,
    within,
)
from villageflow.econometrics.spec import Clustered, as_covariance
from villageflow.errors import EstimationError

BAD = {
    "no tilde": ("y x", {}, "exactly one '~'"),
    "blank term": ("y ~ x +", {}, "blank term"),
    "term twice": ("y ~ x + x", {}, "'x' twice"),
    "unknown column": ("y ~ xx", {}, "'xx' is not in the panel.*Did you mean"),
    "unknown transform": ("y ~ log(x)", {}, r"Transform 'log' is not known. Use ln\(x\)"),
    "misspelt transform": ("y ~ lgo1p(x)", {}, "Did you mean 'log1p'"),
    "log of negative": ("y ~ ln(x)", {}, r"ln\(x\) is not defined for .* at 20"),
    "text column": ("y ~ word", {}, "'word' is not numeric"),
    "absorbed": ("y ~ x + fixed", {}, "'fixed' is absorbed by entity and time"),
    "collinear": ("y ~ x + twice", {}, "'twice' is a combination of 'x' and the effects"),
    "unknown effect": ("y ~ x", {"effects": ("entitty",)}, "'entitty' is not an effect.*'entity'"),
    "unknown cluster": ("y ~ x", {"cluster": "vilage"}, "'vilage' is not an effect or cluster"),
    "unknown covariance": ("y ~ x", {"cov_type": "hac"}, "cov_type='hac' is not known"),
    "unknown convention": ("y ~ x", {"convention": "R"}, "convention='R' is not known"),
    "stata kraay": ("y ~ x", {"cov_type": "driscoll-kraay", "convention": "stata"}, "not defined for"),
    "too few clusters": ("y ~ x + z", {"cluster": "half"}, "2 clusters .half. for 2 coefficients"),
    "unknown time": ("y ~ x", {"times": (1999, 2010)}, "times=1999 is not in the panel, which has 2010 to 2013"),
    "effect twice": ("y ~ x", {"effects": ("entity", "entity")}, "a tuple of different names"),
    "one effect per row": ("y ~ x", {"effects": "entity*time"}, "no observation is left .188 alone in their entity by"),
    "nothing beside effects": ("y ~ 1", {}, "no regressor is left beside the effects"),
    "three clusters": ("y ~ x", {"cluster": ("entity", "time", "group")}, "one or two different names"),
    "cluster twice": ("y ~ x", {"cluster": ("group", "group")}, "a tuple of different names"),
    "no covariance": ("y ~ x", {"cov_type": None}, "cov_type=None is not known. Known names: 'clustered'"),
    "covariance of another type": ("y ~ x", {"cov_type": 3}, "cov_type=3 is not known"),
    "Conley without places": ("y ~ x", {"cov_type": Conley}, r"Conley\('latitude', 'longitude', cutoff=100\)"),
    "effects None": ("y ~ x", {"effects": None}, r"effects=None: write effects=\(\) for none"),
    "effects of another type": ("y ~ x", {"effects": 3}, "effects=3: give a name, or a tuple"),
    "cluster None": ("y ~ x", {"cluster": None}, "cluster=None: give a name"),
    "convention None": ("y ~ x", {"convention": None}, "convention=None is not known"),
    "one time": ("y ~ x", {"times": 2012}, r"times=2012: give several numbers, such as \[2015, 2016\]"),
    "time as text": ("y ~ x", {"times": "2012"}, "times='2012': give several numbers"),
    "times as texts": ("y ~ x", {"times": ["2012"]}, "times holds '2012', and times are numbers"),
    "times None": ("y ~ x", {"times": None}, "times=None: give several numbers"),
    "formula None": (None, {}, "formula=None is no text. Write 'outcome ~ term"),
    "lags of kraay": ("y ~ x", {"cov_type": DriscollKraay(4)}, "lags=4 for 4 periods.*at most 3 lags"),
    "lags of Conley": ("y ~ x", {"cov_type": Conley("lat", "lon", 9, lags=5)}, "lags=5 for 4 periods"),
    "column constant": ("y ~ x + constant", {"effects": ()}, "'constant' is what the constant .*Rename the column"),
    "instruments": ("v ~ z + [w ~ p]", {}, r"'within' takes no instruments. Use iv\(method='2sls'\), 'liml' or 'gmm'"),
    "two jackknife clusters": ("y ~ x", {"cov_type": "jackknife", "cluster": ("entity", "time")}, "Name one"),
    "cluster of robust": ("y ~ x", {"cov_type": "robust", "cluster": "group"}, "has no use beside cov_type='robust'"),
    "singular kraay": ("y ~ x + z + p + q", {"cov_type": "driscoll-kraay"}, "4 periods for 4 coefficients"),
    "stata conley": ("y ~ x", {"cov_type": Conley("lat", "lon", 9), "convention": "stata"}, "not defined for Conley"),
    "no latitude": ("y ~ x", {"cov_type": Conley("latt", "lon", 9)}, "'latt' is not in the panel.*'lat'"),
    "not degrees": ("y ~ x", {"cov_type": Conley("metres", "lon", 9)}, "'metres' is 5000 for 0 at 2011, .*Give lat"),
    "zero": ("y ~ x + none", {}, "'none' is zero everywhere"),
    "ratio by zero": ("y ~ x / none", {}, "none is a divisor and zero for 0 at 2011"),
    "text in a number": ("y ~ mixed", {}, "Column 'mixed' is not numeric: 'n/a' for 0 at 2011"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_data_cannot_support_is_refused_by_name(panel, case):
    formula, options, said = BAD[case]
    frame = panel.assign(
        word="a",
        fixed=panel.index.get_level_values(0) * 1.0,
        twice=2 * panel["x"],
        half=panel.index.get_level_values(0) % 2,
        metres=5000.0,
        none=0.0,
        constant=panel["z"],
        mixed=["n/a", *map(str, range(len(panel) - 1))],
    )
    with pytest.raises(EstimationError, match=said):
        within(formula, frame, **options)


def test_more_coefficients_than_observations_are_refused(panel):
    with pytest.raises(EstimationError, match=r"no observation is left .4 alone in their time group"):
        within("y ~ x + z", panel.loc[[1]], effects=("time",), cov_type="unadjusted")
    with pytest.raises(EstimationError, match="4 observations for 2 coefficients and 3 effects"):
        within("y ~ x + z", panel.loc[[1, 2]].query("time < 2012"), cov_type="unadjusted")


PANELS = {
    "not indexed": (lambda p: p.reset_index(), r"not indexed \(entity, time\). Use set_index"),
    "a row twice": (lambda p: pd.concat([p, p.iloc[:1]]), "has 0 at 2011 twice. Keep one"),
    "rows twice": (lambda p: pd.concat([p, p.iloc[:5]]), r"0 at 2011, 0 at 2012, 0 at 2013 twice \(and 2 more\)"),
    "named times": (lambda p: p.rename(index={2010: "first"}, level=1), "times of the panel are not numbers"),
    "blank entity": (lambda p: renamed(p, 0), "2 rows without entity, first row 1, 3"),
    "blank time": (lambda p: renamed(p, 1), "2 rows without time, first row 1, 3"),
    "an array": (lambda p: p.to_numpy(), "The panel is a ndarray. Give a pandas.DataFrame"),
    "empty": (lambda p: p.iloc[:0], "no observation is left"),
    "all missing": (lambda p: p.assign(x=np.nan), "no observation is left .188 with a missing value"),
}


def renamed(panel, level):
    """The panel with a blank key in the first and third row."""
    keys = [list(panel.index.get_level_values(i)) for i in (0, 1)]
    keys[level][0] = keys[level][2] = np.nan
    return panel.set_axis(pd.MultiIndex.from_arrays(keys, names=panel.index.names))


@pytest.mark.parametrize("case", PANELS)
def test_panels_that_are_not_panels_are_refused(panel, case):
    spoil, said = PANELS[case]
    with pytest.raises(EstimationError, match=said):
        within("y ~ x", spoil(panel))
    with pytest.raises(EstimationError, match=said):
        coefficients(Spec("y ~ x"), spoil(panel))


ESTIMATORS = {
    "random, one period": (random_effects, "y ~ x", {"times": (2011,)}, "one period; random effects need two or more"),
    "random, no freedom": (random_effects, "y ~ x + z", {"few": 3}, "variance of the effects cannot be estimated"),
    "no mean to add": (correlated_random_effects, "y ~ flat", {}, "no regressor varies both within entities and"),
    "difference of one period": (first_difference, "y ~ x", {"times": (2010,)}, "no observation is left .* missing"),
    "difference of a constant": (first_difference, "y ~ x + flat", {}, "'flat' is absorbed by first differences"),
    "difference of nothing": (first_difference, "y ~ 1", {}, "first differences, which take no constant"),
    "within, one period": (within, "y ~ x", {"times": (2011,)}, "no observation is left .* alone in their entity"),
    "means by time": (between, "y ~ x", {"cov_type": "clustered", "cluster": "time"}, "'time' varies within an entity"),
    "means of few": (between, "y ~ x + z", {"few": 3}, "3 entities for 3 coefficients"),
    "means of kraay": (between, "y ~ x", {"cov_type": "driscoll-kraay"}, "means have no periods for Driscoll-Kraay"),
    "negative count": (poisson, "z ~ x", {}, r"z is negative for \d+ at 20.*rows in all. Poisson needs values >= 0"),
    "instruments, few": (iv, "v ~ [w ~ p + q + r]", {"few": 2}, "8 observations for 3 coefficients and 5 effects"),
}


@pytest.mark.parametrize("case", ESTIMATORS)
def test_each_estimator_refuses_what_it_cannot_do(panel, make_panel, case):
    verb, formula, options, said = ESTIMATORS[case]
    frame = make_panel(gaps=False).loc[: options["few"] - 1] if "few" in options else panel
    with pytest.raises(EstimationError, match=said):
        verb(formula, frame, **({"cov_type": "unadjusted"} | {k: v for k, v in options.items() if k != "few"}))


CHOICES = {
    "estimator": (lambda: Spec("y ~ x", "wthin"), "estimator='wthin' is not known. Did you mean 'within'"),
    "convention": (lambda: Spec("y ~ x", convention="Stata"), "convention='Stata' is not known. Did you mean 'stata'"),
    "no estimator near": (lambda: Spec("y ~ x", "gls"), "Use 'within', 'random', .* 'ivliml', 'ivgmm'"),
    "a verb": (lambda: Spec("y ~ x", "pooled"), r"Use 'within' with effects=\(\)"),
    "no estimator": (lambda: Spec("y ~ x", None), "estimator=None is not known"),
    "no formula": (lambda: Spec(5), "formula=5 is no text"),
    "a dynamic formula": (lambda: DynamicSpec(None), "formula=None is no text"),
    "no lags": (lambda: DynamicSpec("y ~ lag(y)", gmm=5), "gmm holds 5"),
    "no instruments": (lambda: DynamicSpec("y ~ lag(y)", iv=5), "iv=5: give a name"),
    "no cohort": (lambda: StaggeredSpec("y ~ 1", None), "cohort=None: name the column"),
    "covariance of arrays": (lambda: Spec("y ~ x", cov_type=np.zeros(2)), "cov_type=.* is not known"),
    "a staggered formula": (lambda: StaggeredSpec(None, "first"), "formula=None is no text"),
    "covariance": (lambda: Spec("y ~ x", cov_type=7), "cov_type=7 is not known"),
    "effects": (lambda: Spec("y ~ x", effects=5), "effects=5: give a name"),
    "effects of random": (lambda: Spec("y ~ x", "random", ("time",)), r"effects=\('time',\): 'random' absorbs none"),
    "effects of means": (lambda: Spec("y ~ x", "between", "entity"), "'between' absorbs none. Leave them out"),
    "times": (lambda: Spec("y ~ x", times=2012), "times=2012: give several numbers"),
    "clusters": (lambda: Clustered(7), "cluster=7: give a name"),
    "jackknife": (lambda: Jackknife(("entity",)), r"cluster=\('entity',\): the jackknife .* Name one"),
    "half a lag": (lambda: DriscollKraay(1.5), "lags=1.5: a number of periods of 0 or more"),
    "lags of a truth": (lambda: DriscollKraay(True), "lags=True"),
    "cutoff as text": (lambda: Conley("lat", "lon", "9"), "cutoff='9': a distance in km above 0"),
    "latitude": (lambda: Conley(31.0, "lon", 9), "latitude=31.0: name a column"),
    "no clusters": (lambda: Clustered(()), "one or two different names"),
    "lags": (lambda: DriscollKraay(-1), "lags=-1: a number of periods of 0 or more"),
    "cutoff": (lambda: Conley("lat", "lon", 0), "cutoff=0: a distance in km above 0"),
    "kernel": (lambda: Conley("lat", "lon", 9, "triangle"), "kernel='triangle' is not known. Use 'bartlett'"),
    "Conley lags": (lambda: Conley("lat", "lon", 9, lags=-2), "lags=-2"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices_that_do_not_exist_are_refused_at_once(case):
    make, said = CHOICES[case]
    with pytest.raises(EstimationError, match=said):
        make()


def test_more_effects_than_a_convention_can_count_are_refused(make_panel):
    panel = make_panel(n_entities=12, n_periods=3, gaps=False)
    entity, time = (panel.index.get_level_values(level) for level in (0, 1))
    panel = panel.assign(a=entity // 2, b=entity // 2 * 3 + time)
    options = {"effects": ("entity", "b", "a"), "cov_type": "robust"}
    with pytest.raises(EstimationError, match="36 observations for 3 coefficients and 34 effects, as fixest"):
        within("y ~ x + z + p", panel, convention="fixest", **options)
    assert within("y ~ x + z + p", panel, convention="stata", **options).df == 36 - 3 - 24


def test_the_bands_of_nothing_and_levels_out_of_range_are_refused(panel):
    found = pooled("y ~ x", panel)
    for level in (0, 1, 95):
        with pytest.raises(EstimationError, match="must be between 0 and 1"):
            found.conf_int(level)
        with pytest.raises(EstimationError, match="must be between 0 and 1"):
            found.simultaneous_bands(level)
    with pytest.raises(EstimationError, match="bands need coefficients"):
        found.simultaneous_bands(terms=[])
    with pytest.raises(EstimationError, match=r"'xx' is not a term. Did you mean 'x'"):
        found.simultaneous_bands(terms=["xx"])
    with pytest.raises(EstimationError, match="terms=3: give a name"):
        found.wald(3)
    for level in ("95", None):
        with pytest.raises(EstimationError, match="must be between 0 and 1"):
            found.conf_int(level)


def test_the_name_of_a_file_is_no_number_of_digits(panel):
    found = pooled("y ~ x", panel)
    for call in (found.to_markdown, found.to_latex):
        for given in ("x.md", -1, 2.5):
            with pytest.raises(EstimationError, match=r"decimals=.*a whole number of digits is needed"):
                call(given)


def test_one_term_may_be_a_bare_word(panel):
    found = pooled("y ~ x + z", panel)
    assert found.wald("constant") == found.wald(["constant"])
    assert list(found.simultaneous_bands(terms="x").index) == ["x"]


def test_what_is_not_a_specification_is_refused(panel):
    for call in (estimate, coefficients):
        with pytest.raises(EstimationError, match="str is no specification"):
            call("y ~ x", panel)
    for call in (wild_bootstrap, leave_one_out, alternative_errors):
        for given in ("y ~ x", *([] if call is leave_one_out else [DynamicSpec("y ~ lag(y)")])):
            with pytest.raises(EstimationError, match=r"is no specification that serves here. Use Spec"):
                call(given, panel, "x")


@pytest.mark.parametrize("given", [None, 5, "zz", [], np.zeros(2)])
def test_every_verb_refuses_what_is_no_panel(given):
    calls = (
        lambda: within("y ~ x", given), lambda: difference_gmm("y ~ lag(y)", given),
        lambda: event_study("y ~ 1", given, cohort="first"), lambda: group_time_effects("y ~ 1", given, cohort="first"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(EstimationError, match=r"The panel is a .* Give a pandas.DataFrame"):
            call()


def test_a_specification_is_as_generous_as_the_verbs():
    spec = Spec("y ~ x", effects=["entity"], cov_type="jackknife", times=np.array([2012, 2013]))
    assert spec == Spec("y ~ x", "within", ("entity",), Jackknife(), times=(2012, 2013))
    assert [type(time) for time in spec.times] == [int, int] and hash(spec) == hash(replace(spec))
    assert Spec("y ~ x", effects="entity").effects == ("entity",)
    for given in ("clustered", Clustered, Clustered("entity"), Clustered(["entity"]), None):
        assert Spec("y ~ x", cov_type=given).cov_type == Clustered(("entity",))
    assert Clustered("city").by == ("city",) and DynamicSpec("y ~ lag(y)", cov_type="unadjusted").words
    assert as_covariance(Jackknife, "city") == Jackknife("city")
    assert DriscollKraay(np.int64(2)) == DriscollKraay(2)


VERBS = {
    "within": within, "poisson": poisson, "iv2sls": iv, "random": random_effects, "between": between,
    "correlated_random": correlated_random_effects, "first_difference": first_difference,
}


@pytest.mark.parametrize("estimator", VERBS)
def test_verb_and_specification_have_the_same_defaults(panel, estimator):
    formula = "v ~ z + [w ~ p]" if estimator == "iv2sls" else "count ~ x"
    assert VERBS[estimator](formula, panel).spec == Spec(formula, estimator)


def test_with_effects_a_column_may_be_called_constant(panel):
    found = within("y ~ constant", panel.assign(constant=panel["x"]))
    assert found.params["constant"] == within("y ~ x", panel).params["x"]


@pytest.mark.parametrize("column", ["y", "x"])
def test_an_infinite_value_is_named(panel, column):
    spoiled = panel.copy()
    entity, time = spoiled.index[3]
    spoiled.loc[(entity, time), column] = np.inf
    with pytest.raises(EstimationError, match=rf"{column} is infinite for {entity} at {time}"):
        within("y ~ x", spoiled)
