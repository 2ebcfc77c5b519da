"""Designs: which members, from which priors, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import villageflow as vf
from villageflow.ensemble.design import Design, as_design, quantile, scenario_values
from villageflow.errors import DesignError

MODEL = """{UTF-8}
Contact Rate = 0.3 ~ 1/Day [0, 2] ~|
capacity = 50 ~ person [?, 1000] ~|
lag = 3 ~~|
stages = 3 ~~|
horizon = 4 ~~|
y = INTEG(Contact Rate * y * (1 - y / capacity), 1) ~ person ~|
smooth = SMOOTH N(y, lag, y, stages) ~~|
lk((0,0),(1,1)) ~~|
z = lk(y) ~~|
INITIAL TIME = 0 ~~|
FINAL TIME = horizon * 1 ~~|
TIME STEP = 1 ~~|
SAVEPER = 1 ~~|
"""
PRIORS = pd.DataFrame(
    [
        ("Contact Rate", 0.1, 0.3, 0.9, "uniform"),
        ("capacity", 1.0, 10.0, 100.0, "loguniform"),
        ("lag", 1.0, 2.0, 5.0, "triangular"),
    ],
    columns=["name", "lower", "mode", "upper", "distribution"],
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("design") / "m.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


# ------------------------------------------------------------------------------------------- sampling


def test_latin_hypercube_puts_one_member_in_each_stratum():
    table = Design.lhs(PRIORS, n=50, seed=3).table
    assert list(table.columns) == ["contact_rate", "capacity", "lag"]
    unit = (table["contact_rate"] - 0.1) / 0.8
    assert sorted(np.floor(unit * 50)) == list(range(50))
    unit = np.log(table["capacity"]) / np.log(100)
    assert sorted(np.floor(unit * 50)) == list(range(50))


@pytest.mark.parametrize("make", [Design.lhs, Design.sobol, Design.draws])
def test_design_is_a_function_of_its_seed(make):
    one, same, other = (make(PRIORS, n=16, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one.table, same.table)
    assert (one.table != other.table).all(axis=None)
    assert (one.seed, one.n_members) == (1, 16)
    assert "16" in one.kind


def test_members_of_independent_draws_stay_when_there_are_more():
    few, many = Design.draws(PRIORS, n=5, seed=4).table, Design.draws(PRIORS, n=50, seed=4).table
    pd.testing.assert_frame_equal(few, many.head(5))


def test_sobol_points_are_balanced():
    unit = (Design.sobol(PRIORS, n=64, seed=1).table["contact_rate"] - 0.1) / 0.8
    assert sorted(np.floor(unit * 64)) == list(range(64))


def test_grid_has_every_combination_the_last_fastest():
    table = Design.grid(**{"Contact Rate": [0.1, 0.2]}, lag=[1, 2, 3]).table
    assert table.to_numpy().tolist() == [[0.1, 1], [0.1, 2], [0.1, 3], [0.2, 1], [0.2, 2], [0.2, 3]]
    assert list(table.columns) == ["contact_rate", "lag"]
    assert Design.grid().n_members == 1


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Design.lhs(PRIORS, n=0, seed=1), "0 members; it needs at least 1"),
        (lambda: Design.draws(PRIORS, n=-2, seed=1), "-2 members"),
        (lambda: Design.sobol(PRIORS, n=48, seed=1), "48 members; it must be a power of two, such as 64"),
        (lambda: Design.lhs(PRIORS, n=4, seed=-1), "seed is -1"),
        (lambda: Design.lhs(PRIORS.drop(columns="mode"), n=4, seed=1), "no column 'mode'"),
        (lambda: Design.lhs(PRIORS.head(0), n=4, seed=1), "no row"),
        (lambda: Design.lhs(pd.concat([PRIORS, PRIORS]), n=4, seed=1), "two rows for 'contact_rate'"),
        (lambda: Design.lhs({"lag": (1, 2)}, n=4, seed=1), "the priors are a dict; give a DataFrame"),
        (lambda: Design.sobol([1], n=4, seed=1), "the priors are a list"),
        (lambda: Design.from_frame({"lag": [1]}), "the members are a dict; from_frame takes a DataFrame"),
        (lambda: Design.grid(lag=3), "list of numbers"),
        (lambda: Design.grid(lag=["a"]), "list of numbers"),
        (lambda: Design.grid(**{"lag": [1], "Lag ": [2]}), "two columns for 'lag'"),
        (lambda: Design.from_frame(pd.DataFrame([[1, 2]], columns=["lag", "LAG"])), "two columns for 'lag'"),
        (lambda: Design.from_frame(pd.DataFrame({"lag": ["much"]})), "not a number"),
        (lambda: Design(pd.DataFrame([[1.0, 2.0]], columns=["lag", "lag"])), "two columns for 'lag'"),
    ],
)
def test_design_that_cannot_be_made(make, match):
    with pytest.raises(DesignError, match=match):
        make()


# --------------------------------------------------------------------------------------------- priors


def prior(distribution, lower=1.0, mode=2.0, upper=5.0):
    return pd.Series(
        {"name": "x", "lower": lower, "mode": mode, "upper": upper, "distribution": distribution}
    )


P = np.array([0.0, 0.1, 0.5, 0.9, 1.0])


def test_quantiles_of_uniform_and_loguniform():
    assert quantile(prior("uniform"), P) == pytest.approx(1 + 4 * P)
    assert quantile(prior("loguniform"), P) == pytest.approx(5**P)
    assert quantile(prior("loguniform", mode=math.nan), P) == pytest.approx(5**P)
    assert quantile(prior("uniform", mode=math.nan), P) == pytest.approx(1 + 4 * P)


def test_quantiles_of_triangular():
    below = 1 / 4  # probability of a value below the mode
    assert quantile(prior("triangular"), np.array([0.0, below, 1.0])) == pytest.approx([1, 2, 5])
    assert quantile(prior("triangular"), np.array([below / 4])) == pytest.approx([1.5])
    assert quantile(prior("triangular", mode=1.0), np.array([0.0, 0.75, 1.0])) == pytest.approx([1, 3, 5])


@pytest.mark.parametrize("distribution", ["normal", "lognormal"])
def test_quantiles_of_a_centred_normal(distribution):
    lower, mode, upper = (1.0, 3.0, 5.0) if distribution == "normal" else (1.0, 5.0, 25.0)
    values = quantile(prior(distribution, lower, mode, upper), P)
    assert values[[0, 2, 4]] == pytest.approx([lower, mode, upper])
    scale = np.asarray if distribution == "normal" else np.log
    sd = (scale(upper) - scale(lower)) / 3.92
    cut = stats.truncnorm(-1.96, 1.96, scale(mode), sd)
    assert scale(values)[[1, 3]] == pytest.approx(cut.ppf([0.1, 0.9]))


@pytest.mark.parametrize("distribution", ["uniform", "loguniform", "triangular", "normal", "lognormal"])
def test_quantiles_rise_within_their_bounds(distribution):
    values = quantile(prior(distribution), np.linspace(0, 1, 1001))
    assert (np.diff(values) >= 0).all()
    assert values.min() >= 1
    assert values.max() <= 5
    assert (quantile(prior(distribution, 3.0, 3.0, 3.0), P) == 3).all()


@pytest.mark.parametrize("mode", [None, "", "unknown"])
def test_the_mode_of_a_uniform_prior_is_not_read(mode):
    assert quantile(prior("uniform", mode=mode), P) == pytest.approx(1 + 4 * P)
    assert quantile(prior("loguniform", mode=mode), P) == pytest.approx(5**P)
    with pytest.raises(DesignError):
        quantile(prior("triangular", mode=mode), P)


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (prior("uniform", 5, 2, 1), "lower bound 5 above its upper bound 1"),
        (prior("loguniform", 0, 1, 2), "lower bound 0; it must be above 0"),
        (prior("lognormal", -1, 1, 2), "must be above 0"),
        (prior("triangular", mode=9), "mode 9 outside"),
        (prior("normal", mode=math.nan), "mode nan outside"),
        (prior("lognormal", mode=0), "mode 0 outside"),
        (prior("uniform", math.nan), "must be finite"),
        (prior("uniform", upper=math.inf), "must be finite"),
        (prior("uniform", lower="low"), "not a number"),
        (prior("unifrom"), "'unifrom' is not known. Did you mean 'uniform'"),
    ],
)
def test_prior_that_is_none(made, match):
    with pytest.raises(DesignError, match=match):
        quantile(made, P)


# ---------------------------------------------------------------------------------- fitting the model


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"contact_rte": 1}, "no constant 'contact_rte'. Did you mean 'contact_rate'"),
        ({"y": 1}, "'y' is a stock of model 'm'; only constants"),
        ({"smooth": 1}, "'smooth' is an? auxiliary"),
        ({"lk": 1}, "'lk' is a lookup"),
        ({"final time": 1}, "'final_time' is a control"),
        ({"stages": 2}, "cannot vary"),
        ({"horizon": 2}, "cannot vary"),
        ({"contact rate": 2.5}, r"'contact_rate' is 2.5 at member 0, outside the limits \[0, 2\]"),
        ({"contact rate": [1, -0.1]}, "-0.1 at member 1"),
        ({"capacity": [1e9]}, r"outside the limits \[-inf, 1000\]"),
        ({"lag": math.nan}, "'lag' is nan at member 0; a parameter must be a finite number"),
        ({"lag": [1, math.inf]}, "'lag' is inf at member 1"),
        ({"lag": None}, "nan"),
        ({"lag": "much"}, "'lag' is 'much'"),
        ({"lag": [[1, 2], [3, 4]]}, "'lag' has 2 dimensions"),
        ({"lag": [1, 2], "capacity": [1, 2, 3]}, r"different numbers of members: lag \(2\), capacity \(3\)"),
        ({"lag": []}, "no member"),
        ({"lag": [], "capacity": 3}, "no member"),
        ({"lag": 1, "LAG": 2}, "two columns for 'lag'"),
        (pd.DataFrame({"lag": []}), "no member"),
        ([1, 2], "a design is a list"),
        (3, "a design is an? int"),
    ],
)
def test_design_that_does_not_fit(model, given, match):
    with pytest.raises(DesignError, match=match):
        as_design(given, model)


def test_numbers_spread_over_members(model):
    table = as_design({"Contact Rate": 1, "lag": [1, 2, 3], "capacity": np.array([5.0])}, model).table
    assert table.to_numpy().tolist() == [[1, 1, 5], [1, 2, 5], [1, 3, 5]]
    assert as_design({}, model).n_members == 1
    assert as_design(None, model).n_members == 1
    assert as_design(pd.DataFrame(index=range(3)), model).n_members == 3


def test_index_and_order_of_a_frame_do_not_matter(model):
    frame = pd.DataFrame({"lag": [1, 2], "Capacity": [3, 4]}, index=["b", "a"])
    ds = vf.simulate(model, frame, save="y")
    assert ds["lag"].values.tolist() == [1, 2]
    assert ds["capacity"].values.tolist() == [3, 4]
    assert ds["member"].values.tolist() == [0, 1]


def with_units(*units):
    return PRIORS.assign(unit=list(units))


@pytest.mark.parametrize("make", [Design.lhs, Design.sobol, Design.draws])
def test_units_of_the_priors_must_be_those_of_the_model(model, make):
    good = make(with_units("1 / day", "Person", "Year"), n=4, seed=1)  # the model states no unit for lag
    assert as_design(good, model).units == {"contact_rate": "1 / day", "capacity": "Person", "lag": "Year"}
    with pytest.raises(DesignError, match=r"'contact_rate' is in '1/Year', model 'm' has it in '1/Day'; convert"):
        as_design(make(with_units("1/Year", "person", ""), n=4, seed=1), model)
    with pytest.raises(DesignError, match="'capacity' is in 'store'"):
        vf.simulate(model, make(with_units("1/Day", "store", ""), n=4, seed=1).with_scenarios({"a": {}}))
    assert make(with_units(None, math.nan, ""), n=4, seed=1).units == {"lag": ""}


def test_units_of_the_shipped_priors_are_those_of_the_models():
    for name in vf.library.names():
        priors = vf.library.priors(name)
        own = priors[priors["name"].isin(vf.library.read(name).constants)]
        design = as_design(Design.lhs(own, n=2, seed=1), vf.library.read(name))
        assert len(design.units) == len(own)


def test_a_design_shows_itself():
    made = Design.lhs(PRIORS, n=4, seed=1).with_scenarios({"base": {}, "high": {"lag": 2}})
    assert repr(made) == (
        "<villageflow.Design: 4 members, 3 parameters (contact_rate, capacity, lag), scenarios base, high; "
        "latin hypercube, n = 4>"
    )
    assert "no parameter" in repr(Design(pd.DataFrame(index=range(2))))


@pytest.mark.parametrize("wrong", ["village_cluster", None, 3])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(DesignError, match=r"read the file first: villageflow.read_model"):
        vf.simulate(wrong, {"lag": 1})


# ------------------------------------------------------------------------------------------ scenarios


def test_scenarios_from_a_table():
    table = pd.DataFrame(
        [("base", "", math.nan, ""), ("high", "Contact Rate", 1.5, ""), ("high", "lag", 2, math.nan)],
        columns=["scenario", "name", "value", "from_time"],
    )
    assert scenario_values(table) == {"base": {}, "high": {"contact_rate": 1.5, "lag": 2.0}}


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([("a", "lag", 1, 5)], "'a' limits 'lag' to a span of time"),
        ([("a", "lag", 1, ""), ("a", "Lag", 2, "")], "sets 'lag' twice"),
        ([("a", "lag", "much", "")], "sets 'lag' to 'much'"),
        ([("a", "", 3, "")], "scenario 'a' sets 3 without a name"),
        ([("a", "lag", None, "")], "sets 'lag' to nan|sets 'lag' to None"),
    ],
)
def test_scenario_table_that_is_refused(rows, match):
    with pytest.raises(DesignError, match=match):
        scenario_values(pd.DataFrame(rows, columns=["scenario", "name", "value", "from_time"]))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"lagg": 1}, "scenario 'a': .*'lagg'. Did you mean 'lag'"),
        ({"Contact Rate": 3}, "scenario 'a', value 0, outside the limits"),
        ({"lag": math.nan}, "must be a finite number"),
        ({"y": 1}, "'y' is a stock"),
    ],
)
def test_scenario_that_does_not_fit(model, values, match):
    design = Design.grid(lag=[1, 2]).with_scenarios({"a": values})
    with pytest.raises(DesignError, match=match):
        as_design(design, model)


@pytest.mark.parametrize(
    ("values", "match"),
    [({"lag": "much"}, "'much'"), ({"lag": [1, 2]}, "one number"), ({"lag": 1, "LAG": 2}, "two spellings")],
)
def test_scenario_that_is_none(values, match):
    with pytest.raises(DesignError, match=match):
        Design.grid(lag=[1]).with_scenarios({"a": values})


def test_constant_that_sets_the_time_grid_is_refused_in_its_own_words(model):
    with pytest.raises(DesignError, match="'horizon' sets the time grid"):
        as_design({"horizon": 2}, model)
