"""A calibration problem refuses what is not well posed, with one line that says what and how to mend it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.calibrate.checks import COMPARATORS
from villageflow.calibrate.likelihood import NOISE, Observable
from villageflow.calibrate.national import national_measurements, national_problem
from villageflow.calibrate.problem import Problem, observables_of
from villageflow.calibrate.scales import Box
from villageflow.errors import CalibrationError, DesignError

MODEL = """{UTF-8}
level = INTEG(growth rate*level*(1-level/ceiling), initial level) ~ thing ~|
growth rate = 0.6 ~ 1/Year ~|
ceiling = 900 ~ thing ~|
initial level = 5 ~ thing ~|
share = level/ceiling ~ 1 ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 16 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""
COUNT = Observable("stores", "level", "count", "negbinomial", "dispersion", "thing")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "logistic.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


def parameters(**changes) -> pd.DataFrame:
    table = pd.DataFrame({
        "name": ["growth rate", "ceiling", "dispersion"], "scale": ["log", "log", "log"],
        "lower": [0.1, 100.0, 1.0], "upper": [2.0, 5000.0, 1e4], "effect": ["shared"] * 3,
    })
    return table.assign(**changes)


def rows(times=(4.0, 8.0, 12.0), values=(40.0, 300.0, 700.0), **changes) -> pd.DataFrame:
    table = pd.DataFrame({
        "entity": "v", "time": times, "observable": "stores", "value": values, "comparator": "=",
        "source_id": [f"s{time:g}" for time in times],
    })
    return table.assign(**changes)


def make(model, **changes) -> Problem:
    given = {"model": model, "parameters": parameters(), "observables": (COUNT,), "measurements": rows()}
    return Problem(**(given | changes))


def test_a_problem_shows_itself(model):
    assert repr(make(model)) == (
        "<villageflow.Problem: logistic, 3 free parameters (growth_rate, ceiling, dispersion), 3 measurements, 0 held "
        "out, observables stores>"
    )


@pytest.mark.parametrize("given", [COUNT, pd.DataFrame({"observable": ["stores"]}), ["stores"], "stores", None])
def test_observables_are_a_tuple_of_them(model, given):
    with pytest.raises(CalibrationError, match=r"give a tuple of Observable, such as \(observable,\)"):
        make(model, observables=given)


def test_units_of_the_parameters_are_compared(model):
    assert make(model, parameters=parameters(unit=["1/year", "Thing", "any"]))
    with pytest.raises(CalibrationError, match="'ceiling' is in 'kg', model 'logistic' has it in 'thing'"):
        make(model, parameters=parameters(unit=["1/Year", "kg", "dmnl"]))


def test_a_problem_needs_a_model_that_is_read():
    with pytest.raises(DesignError, match="read the file first"):
        make("logistic.mdl")


def test_the_docstring_names_every_family_and_comparator():
    for word in (*NOISE, *(f"``{sign}``" for sign in COMPARATORS)):
        assert word in (Problem.__doc__ or ""), word


def test_a_good_problem_is_accepted_and_frozen(model):
    found = make(model, holdout=rows((14.0,), (800.0,)), fixed={"initial level": 6})
    assert found.box.names == ("growth_rate", "ceiling", "dispersion")
    assert found.fixed == {"initial_level": 6.0}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.fixed = {}


def net(measured: pd.DataFrame, **changes):
    added = dataclasses.replace(COUNT, name="added", kind="net_flow")
    return {"observables": (COUNT, added), "measurements": measured.assign(**changes)}


BAD = {
    "an unknown variable": ({"observables": (dataclasses.replace(COUNT, formula="levle"),)}, "Did you mean 'level'"),
    "an unknown kind": ({"observables": (dataclasses.replace(COUNT, kind="counts"),)}, "Did you mean 'count'"),
    "an unknown noise": ({"observables": (dataclasses.replace(COUNT, noise="gauss"),)}, "has noise 'gauss'"),
    "noise without parameter": (
        {"observables": (dataclasses.replace(COUNT, noise_parameter=None),)}, "without a parameter",
    ),
    "noise parameter 0": ({"observables": (dataclasses.replace(COUNT, noise_parameter=0.0),)}, "must be above 0"),
    "noise without a row": ({"parameters": parameters().iloc[:2]}, "'dispersion' has no row"),
    "no observable": ({"observables": ()}, "no observable"),
    "an observable twice": ({"observables": (COUNT, COUNT)}, "declared twice"),
    "net flow of an auxiliary": (
        {"observables": (dataclasses.replace(COUNT, formula="share", kind="net_flow"),)}, "no stock",
    ),
    "no measurement": ({"measurements": rows().iloc[:0]}, "no measurement"),
    "a time before the run": ({"measurements": rows((-1.0,), (4.0,))}, "outside the run, 0 to 16"),
    "a time after the run": ({"measurements": rows((17.0,), (4.0,))}, "outside the run"),
    "a time between saves": ({"measurements": rows((4.5,), (4.0,))}, "not a saved time"),
    "a time that is no number": ({"measurements": rows((np.nan,), (4.0,))}, "outside the run"),
    "a measurement twice": ({"measurements": rows((4.0, 4.0), (40.0, 41.0))}, "each datum enters once"),
    "a datum fitted and held out": ({"holdout": rows((8.0,), (300.0,))}, "each datum enters once"),
    "a quantity under two names": (
        {
            "observables": (COUNT, dataclasses.replace(COUNT, name="shops")),
            "measurements": rows((4.0, 4.0), (40.0, 45.0), observable=["stores", "shops"]),
        },
        "same datum",
    ),
    "a source's number for two quantities": (
        {
            "observables": (COUNT, dataclasses.replace(COUNT, name="part", formula="share", unit="")),
            "measurements": rows((4.0, 4.0), (40.0, 40.0), observable=["stores", "part"], source_id="a"),
        },
        "same datum",
    ),
    "a negative count": ({"measurements": rows((4.0,), (-3.0,))}, "whole number of 0 or more"),
    "a broken count": ({"measurements": rows((4.0,), (3.5,))}, "whole number of 0 or more"),
    "a value that is missing": ({"measurements": rows((4.0,), (np.nan,))}, "leave the row out"),
    "a share of 1": (
        {"observables": (dataclasses.replace(COUNT, formula="share", kind="share", noise="beta", unit="1"),),
         "measurements": rows((4.0,), (1.0,))},
        "between 0 and 1",
    ),
    "money of 0 under lognormal noise": (
        {"observables": (dataclasses.replace(COUNT, noise="lognormal"),), "measurements": rows((4.0,), (0.0,))},
        "above 0",
    ),
    "an unknown observable": ({"measurements": rows(observable="store")}, "Did you mean 'stores'"),
    "an unknown comparator": ({"measurements": rows(comparator="~")}, "comparator '~'"),
    "a blank source": ({"measurements": rows(source_id="")}, "no source_id"),
    "a missing column": ({"measurements": rows().drop(columns="entity")}, "no column 'entity'"),
    "an unknown column": ({"measurements": rows().assign(weight=2.0)}, "unknown column 'weight'"),
    "an effect of one entity": (
        {"parameters": parameters(effect=["random", "shared", "shared"])}, "there is one entity",
    ),
    "a net flow without start": (net(rows(observable=["stores", "stores", "added"])), "needs a from_time"),
    "a start after its end": (
        net(rows(observable=["stores", "stores", "added"]), from_time=[np.nan, np.nan, 13.0]), "needs a from_time",
    ),
    "a level with a start": ({"measurements": rows(from_time=1.0)}, "belongs to net flows"),
    "no free parameter": ({"parameters": parameters().iloc[:0], "observables": (
        dataclasses.replace(COUNT, noise="poisson", noise_parameter=None),)}, "no free parameter"),
    "a parameter twice": ({"parameters": pd.concat([parameters(), parameters()])}, "two rows"),
    "an unknown parameter": (
        {"parameters": parameters(name=["growth", "ceiling", "dispersion"])}, "'growth' cannot be set",
    ),
    "a stock as parameter": (
        {"parameters": parameters(name=["level", "ceiling", "dispersion"])}, "'level' cannot be set",
    ),
    "bounds out of order": ({"parameters": parameters(lower=[3.0, 100.0, 1.0])}, "below its upper bound"),
    "a log scale from 0": ({"parameters": parameters(lower=[0.0, 100.0, 1.0])}, "bounds above 0"),
    "a logit scale beyond 1": ({"parameters": parameters(scale=["logit", "log", "log"])}, "between 0 and 1"),
    "an unknown scale": ({"parameters": parameters(scale=["ln", "log", "log"])}, "scale 'ln'"),
    "an effect that differs by entity": ({"parameters": parameters(effect=["random", "shared", "shared"])}, "'random'"),
    "free and fixed": ({"fixed": {"ceiling": 800}}, "both free and fixed"),
    "an unknown fixed constant": ({"fixed": {"ceeling": 800}}, "'ceeling' cannot be set"),
    "two spellings of a fixed constant": (
        {"fixed": {"initial level": 5, "Initial_Level": 6}}, "twice, as 'initial level' and as 'Initial_Level'",
    ),
    "a fixed NaN": ({"fixed": {"initial level": np.nan}}, "'initial level' to nan; it must be a finite number"),
    "a fixed word": ({"fixed": {"initial level": "five"}}, "to 'five'; it must be a finite number"),
    "a fixed True": ({"fixed": {"initial level": True}}, "to True; it must be"),
    "a fixed list": ({"fixed": [("initial level", 5)]}, "fixed is a list"),
    "a fixed 3": ({"fixed": {3: 5.0}}, "fixed names 3"),
    "another method": ({"method": "rk5"}, "'rk5'"),
    "a negative step": ({"time_step": -1.0}, "must be greater than 0"),
    "an unused noise parameter": (
        {"observables": (dataclasses.replace(COUNT, noise_parameter=20.0),)},
        "'dispersion' cannot be set: no observable has it as its noise_parameter",
    ),
    "another unit": ({"observables": (dataclasses.replace(COUNT, unit="apple"),)},
                     "is in 'apple', model 'logistic' has 'level' in 'thing'"),
    "an unknown distribution": (
        {"parameters": parameters(distribution="gauss", mode=1.0, lower=[0.1, 0.1, 0.1])}, "'gauss' is not known",
    ),
    "a mode outside": ({"parameters": parameters(distribution="triangular", mode=[9.0, 200.0, 2.0])}, "has mode 9"),
    "a mode that is missing": ({"parameters": parameters(distribution="normal")}, "has mode nan outside its bounds"),
    "a word for a mode": (
        {"parameters": parameters(distribution="triangular", mode=["mid", 200.0, 2.0])}, "has the mode 'mid'",
    ),
    "a word for a bound": ({"parameters": parameters(lower=[0.1, "low", 1.0])}, "parameter row 1: lower is 'low'"),
    "a date for a time": (
        {"measurements": rows().assign(time=pd.to_datetime(["2014", "2015", "2016"]))}, "row 0: time is Timestamp(",
    ),
    "a word for a value": ({"measurements": rows(value=["40", "many", 700])}, "measurement row 1: value is 'many'"),
    "a word held out": ({"holdout": rows((14.0,), ("many",))}, "hold-out row 0: value is 'many'"),
    "a word for a covariate": (
        {"covariates": pd.DataFrame({"entity": ["v"], "name": ["initial level"], "time": [None], "value": ["x"],
                                     "source_id": ["a"]})}, "covariate row 0: value is 'x'",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_gives_one_clear_line(model, case):
    changes, expected = BAD[case]
    with pytest.raises(CalibrationError) as caught:
        make(model, **changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entity", [np.nan, None, "", " "])
@pytest.mark.parametrize("table", ["measurements", "holdout"])
def test_a_row_without_an_entity_is_refused(model, table, entity):
    bad = rows((2.0, 14.0), (30.0, 800.0)).assign(entity=["v", entity])
    with pytest.raises(CalibrationError, match=r"row 1 \(stores at 14\): has no entity; say who is measured"):
        make(model, **{table: bad})


@pytest.mark.parametrize("table", ["parameters", "measurements", "holdout", "covariates"])
@pytest.mark.parametrize("given", [[{"name": "ceiling"}], None, "rows.csv"])
def test_a_table_is_a_table(model, table, given):
    with pytest.raises(CalibrationError, match=rf"the {table} are .*, a {type(given).__name__}; give a DataFrame"):
        make(model, **{table: given})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"centred": "no"}, "centred='no'; it must be True or False"),
        ({"centred": 1}, "centred=1; it must be"),
        ({"noise_parameter": True}, "noise parameter True; it must be a number above 0 or the name"),
        ({"noise_parameter": -1}, "noise parameter -1; it must be above 0"),
        ({"noise_parameter": np.int64(0)}, "noise parameter 0; it must be above 0"),
        ({"noise_parameter": np.nan}, "noise parameter nan; it must be above 0"),
        ({"noise_parameter": np.inf}, "noise parameter inf; it must be above 0 and finite"),
        ({"noise_parameter": [1.0]}, r"noise parameter \[1.0\]; it must be a number"),
        ({"noise": "poisson", "noise_parameter": 2.0}, "noise parameter 2.0, and poisson noise has none"),
        ({"noise": "poisson"}, "noise parameter 'dispersion', and poisson noise has none"),
        ({"name": 3}, "the name 3, which is no text"),
        ({"name": ""}, "the name '', which is no text"),
        ({"formula": None}, "the formula None, which is no text"),
        ({"noise": None}, "the noise None, which is no text"),
        ({"unit": np.nan}, "the unit nan, which is no text; leave it out"),
    ],
)
def test_an_observable_that_is_not_well_formed_is_refused(model, changes, said):
    with pytest.raises(CalibrationError, match=said) as caught:
        make(model, observables=(dataclasses.replace(COUNT, **changes),))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", ["", " ", "Thing", "thing*1"])
def test_the_unit_of_an_observable_is_compared_where_it_is_given(model, unit):
    assert make(model, observables=(dataclasses.replace(COUNT, unit=unit),))


def test_whole_numbers_and_text_that_reads_as_a_number_are_numbers(model):
    found = make(model, measurements=rows(value=["40", 300, 700.0]).astype({"time": int}))
    assert found.measurements[["time", "value"]].dtypes.eq(float).all()
    assert list(found.measurements["value"]) == [40.0, 300.0, 700.0]
    nullable = make(model, measurements=rows().astype({"time": "Int64", "value": "Float64"}))
    pd.testing.assert_frame_equal(nullable.measurements, make(model).measurements)


def test_a_table_without_a_free_parameter_is_refused(model):
    with pytest.raises(CalibrationError, match="no column for the free parameter 'ceiling'"):
        make(model).log_likelihood(pd.DataFrame({"growth_rate": [1.0]}))


def test_a_count_of_zero_is_a_datum(model):
    assert len(make(model, measurements=rows((4.0,), (0.0,))).measurements) == 1


def test_observables_are_read_from_their_table():
    table = pd.DataFrame({
        "observable": ["a", "b", "c"], "formula": ["x", "y", "z"], "kind": ["level"] * 3,
        "noise": ["normal", "poisson", "normal"], "noise_parameter": ["2.5", None, "Error Size"], "unit": ["1"] * 3,
    })
    assert [item.noise_parameter for item in observables_of(table)] == [2.5, None, "error_size"]


@pytest.mark.parametrize("missing", ["observable", "formula", "kind", "noise"])
def test_a_column_that_observables_lack_is_named(missing):
    table = pd.DataFrame({"observable": ["a"], "formula": ["x"], "kind": ["level"], "noise": ["normal"]})
    with pytest.raises(CalibrationError, match=f"no column '{missing}'; they need observable, formula, kind, noise"):
        observables_of(table.drop(columns=missing))


@pytest.mark.parametrize("centred", [2, "no", 0.5, -1])
def test_centred_is_0_or_1_in_a_table(centred):
    table = pd.DataFrame({"observable": ["a"], "formula": ["x"], "kind": ["level"], "noise": ["normal"]})
    for good, read in ((1, True), (0, False), (np.nan, False), (True, True), (None, False)):
        assert observables_of(table.assign(centred=good))[0].centred is read
    with pytest.raises(CalibrationError, match=rf"observable row 0 \(a\): centred is {centred}; it must be 0 or 1"):
        observables_of(table.assign(centred=centred))


def test_the_scales_are_inverse_to_each_other():
    box = Box.of({"a": ("lin", -1.0, 3.0), "b": ("log", 1e-3, 1e4), "c": ("logit", 0.01, 0.9)})
    unit = np.random.default_rng(1).random((50, 3))
    natural = box.natural(unit)
    np.testing.assert_allclose(box.unit(natural), unit, atol=1e-12)
    assert (natural >= box.lower).all() and (natural <= box.upper).all()
    step = 1e-6
    slope = [
        (box.from_transformed(box.transformed(natural[0]) + step * e) - natural[0])[j] / step
        for j, e in enumerate(np.eye(3))
    ]
    np.testing.assert_allclose(box.slope(natural[0]), slope, rtol=1e-4)


@pytest.mark.parametrize("form", ["levels", "additions"])
def test_the_national_counts_enter_once_and_whole(form):
    found = national_problem(form=form)
    used = pd.concat([found.measurements, found.holdout])
    total = used["value"].max() if form == "levels" else used["value"].sum()
    assert total == 7780
    assert len(used) == 11
    assert list(found.measurements["time"] - 0.75) == [2009, 2013, 2014, 2015, 2016, 2017, 2018]
    assert list(found.holdout["time"] - 0.75) == [2019, 2020, 2021, 2022]
    if form == "levels":
        assert found.measurements.set_index("time")["value"][2016.75] == 1311


def test_levels_and_additions_cannot_be_fitted_together():
    levels, added = national_problem(), national_problem(form="additions")
    both = pd.concat([national_measurements(), national_measurements("additions")], ignore_index=True)
    with pytest.raises(CalibrationError, match="same datum"):
        Problem(
            model=levels.model, parameters=levels.parameters, observables=(*levels.observables, *added.observables),
            measurements=both,
        )


def test_an_unknown_form_of_the_counts_is_refused():
    with pytest.raises(CalibrationError, match="Did you mean 'levels'"):
        national_problem(form="level")
