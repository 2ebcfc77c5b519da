"""Bad input: case by case, and the one error that names column, first rows, rule and remedy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from villageflow.econometrics import (
    Conley,
    DriscollKraay,
    Spec,
    between,
    coefficients,
    correlated_random_effects,
    estimate,
    first_difference,
    iv,
    poisson,
    pooled,
    random_effects,
    within,
)
from villageflow.econometrics.spec import Clustered
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
    "effect twice": ("y ~ x", {"effects": ("entity", "entity")}, "give a tuple of different names"),
    "one effect per row": ("y ~ x", {"effects": "entity*time"}, "no observation is left .188 alone in their entity by"),
    "nothing beside effects": ("y ~ 1", {}, "no regressor is left beside the effects"),
    "three clusters": ("y ~ x", {"cluster": ("entity", "time", "group")}, "one or two different names"),
    "cluster twice": ("y ~ x", {"cluster": ("group", "group")}, "one or two different names"),
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
    "effects": (lambda: Spec("y ~ x", effects="entity"), "effects='entity': give a tuple"),
    "clusters": (lambda: Clustered("entity"), "cluster='entity'"),
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


def test_what_is_not_a_specification_is_refused(panel):
    with pytest.raises(EstimationError, match="str is no specification"):
        estimate("y ~ x", panel)


@pytest.mark.parametrize("column", ["y", "x"])
def test_an_infinite_value_is_named(panel, column):
    spoiled = panel.copy()
    entity, time = spoiled.index[3]
    spoiled.loc[(entity, time), column] = np.inf
    with pytest.raises(EstimationError, match=rf"{column} is infinite for {entity} at {time}"):
        within("y ~ x", spoiled)
