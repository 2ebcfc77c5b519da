"""Simulated panels of a model: what is drawn, how smooth it is, and that nothing else moves it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import villageflow as vf
from villageflow.calibrate import simulators
from villageflow.calibrate.draws import RandomConstant, count_quantile
from villageflow.calibrate.indirect import indirect_inference
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.moments import Auxiliary, Coefficients, Mean, StandardDeviation
from villageflow.calibrate.simulators import EnsembleSimulator
from villageflow.econometrics.spec import Spec
from villageflow.errors import CalibrationError

GROWTH = """{UTF-8}
place: (p1-p3) ~ dmnl ~ Places. |
stores= INTEG (growth*help*stores, start) ~ store ~ Stores. |
help= 1 ~ dmnl ~ Help from outside. |
level= 0*Time+1 ~ dmnl ~ A series that data replace. |
helped= level*stores ~ store ~ Stores times the series. |
growth= 0.2 ~ 1/Year ~ Growth. |
start= 4 ~ store ~ First stores. |
size[place]= 1 ~ store ~ Sizes. |
drawn[place]= INTEG (RANDOM POISSON(0, 1000, size[place]*growth, 0, 1, 0)/TIME STEP, 0) ~ store ~ Counted one by one. |
INITIAL TIME= 0 ~ Year ~ . |
FINAL TIME= 4 ~ Year ~ . |
TIME STEP= 0.125 ~ Year ~ . |
SAVEPER= 1 ~ Year ~ . |
"""
TIMES = (0.0, 1.0, 2.0, 3.0)
ENTITIES = pd.DataFrame({"region": ["n", "n", "s", "s", "s"]}, index=list("abcde"))
PARAMETERS = pd.DataFrame(
    [("growth", "lin", 0.0, 0.5), ("spread", "lin", 0.01, 1.0)], columns=["name", "scale", "lower", "upper"]
)
STARTS = (RandomConstant("start", "log", 4.0, "spread"),)
COUNT = Observable("count", "stores", "count", "poisson")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "growth.mdl"
    path.write_text(GROWTH, encoding="utf-8")
    return vf.read_model(path)


@pytest.fixture
def simulator(model):
    return EnsembleSimulator(
        model=model, parameters=PARAMETERS, entities=ENTITIES, times=TIMES, observables=(COUNT,), random=STARTS,
        n_simulations=3, seed=5,
    )  # fmt: skip


def many(simulator, n, **changes):
    return replace(simulator, entities=pd.DataFrame(index=range(n)), **changes)


# --- draws ---------------------------------------------------------------------------------------------------------


def test_whole_draws_are_the_quantiles_of_the_poisson_distribution():
    rng = np.random.default_rng(0)
    mean, uniform = np.exp(rng.uniform(-7, 9, 4000)), rng.random(4000)
    np.testing.assert_array_equal(count_quantile(mean, uniform, smooth=False), stats.poisson.ppf(uniform, mean))
    edges = count_quantile(np.array([0.0, 1.0, np.nan]), np.array([0.5, 1 - 2**-53, 0.5]), smooth=False)
    assert edges[0] == 0 and edges[1] > 10 and np.isnan(edges[2])


@pytest.mark.parametrize("mean", [0.05, 0.4, 3.0, 60.0, 800.0])
def test_smooth_draws_have_the_mean_of_the_counts_and_a_twelfth_more_variance(mean):
    uniform = (np.arange(100_000) + 0.5) / 100_000
    draws = count_quantile(np.array(mean), uniform, smooth=True)
    assert draws.mean() == pytest.approx(mean, rel=1e-4, abs=1e-4)
    assert draws.var() == pytest.approx(mean + 1 / 12, rel=1e-3)


def test_smooth_draws_move_without_jumps():
    mean, uniform = np.linspace(0.01, 12, 4_001), np.random.default_rng(1).random(20)[:, None]
    moves = np.diff(count_quantile(mean, uniform, smooth=True), axis=1)
    whole = np.diff(count_quantile(mean, uniform, smooth=False), axis=1)
    assert moves.min() > -1e-9 and moves.max() < 0.2 and whole.max() == 1.0


def test_random_constants_have_their_distributions():
    normal = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    for scale, known in {
        "lin": stats.norm(0.3, 0.7), "log": stats.lognorm(0.7, scale=0.3),
        "gamma": stats.gamma(1 / 0.49, scale=0.3 * 0.49),
    }.items():  # fmt: skip
        found = RandomConstant("x", scale, 0.3, 0.7).values(np.array(0.3), np.array(0.7), normal)
        np.testing.assert_allclose(found, known.ppf(stats.norm.cdf(normal)), rtol=1e-9)
    share = RandomConstant("x", "logit", 0.3, 0.7).values(np.array(0.3), np.array(0.7), normal)
    assert np.median(share) == pytest.approx(0.3, abs=1e-4) and 0 < share.min() < share.max() < 1


# --- panels --------------------------------------------------------------------------------------------------------


def test_panels_without_noise_are_the_solution_of_the_model(simulator):
    exact = replace(simulator, observables=("stores",))
    cells = exact.columns(np.array([[0.3, 0.5]]))["stores"][0]
    growth = (1 + 0.3 / 8) ** (8 * np.array(TIMES))
    np.testing.assert_allclose(cells / cells[:, :, :1], np.broadcast_to(growth, cells.shape), rtol=1e-12)
    again = exact.columns(np.array([[0.3, 0.25]]))["stores"][0]
    np.testing.assert_allclose(np.log(cells / 4)[:, :, 0], 2 * np.log(again / 4)[:, :, 0], rtol=1e-10)


def test_noise_is_on_the_scale_it_says(simulator):
    noisy = (
        Observable("a", "stores", "level", "normal", 0.5), Observable("b", "stores", "level", "lognormal", 0.5),
        Observable("c", "stores", "count", "negbinomial", 2.0), Observable("d", "stores", "net_flow", "normal", 1e-9),
    )  # fmt: skip
    simulator = many(simulator, 3000, observables=(*noisy, "stores"), smooth=False)
    cells = simulator.columns(np.array([[0.1, 0.01]]))
    true = cells["stores"]
    assert (cells["a"] - true).std() == pytest.approx(0.5, rel=0.02)
    assert np.log(cells["b"] / true).std() == pytest.approx(0.5, rel=0.02)
    assert cells["c"].var() == pytest.approx(np.mean(true + true**2 / 2), rel=0.05)
    np.testing.assert_allclose(cells["d"][..., 1:], np.diff(true, axis=-1), atol=1e-7)
    assert np.isnan(cells["d"][..., 0]).all()


def test_entities_bring_their_constants_and_series(simulator):
    starts = pd.DataFrame({"start": [1.0, 2.0, 3.0, 4.0, 5.0]}, index=ENTITIES.index)
    series = pd.DataFrame({name: [1.0, 2.0 + k] for k, name in enumerate("edcba")}, index=[0.0, 2.0])
    series.loc[3.0] = series.loc[2.0]
    plain = replace(
        simulator, parameters=PARAMETERS.iloc[:1], random=(), constants=starts.iloc[::-1], inputs={"level": series},
        observables=("stores", "helped"),
    )  # fmt: skip
    cells = plain.columns(np.array([[0.0]]))
    np.testing.assert_array_equal(cells["stores"][0, 1, :, 0], starts["start"])
    np.testing.assert_array_equal((cells["helped"] / cells["stores"])[0, 0, :, 3], [6.0, 5.0, 4.0, 3.0, 2.0])


def test_a_panel_does_not_depend_on_what_else_is_simulated(simulator, monkeypatch):
    values = np.array([[0.1, 0.3], [0.4, 0.2], [0.2, 0.9]])
    whole = simulator.panels(values)
    alone = [simulator.panels(values[[2]])[0], simulator.panels(values[::-1])[0]]
    monkeypatch.setattr(simulators, "_MAX_BYTES", 1)
    monkeypatch.setattr(simulators, "available_threads", lambda: 1)
    for panels in (*alone, replace(simulator).panels(values)[2]):
        for one, other in zip(whole[2], panels, strict=True):
            pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_numbers_drawn_by_the_model_are_common_to_all_parameters(simulator, model):
    entities = pd.DataFrame({"lane": ["x", "x", "y"], "element": ["p1", "p3", "p2"]}, index=list("abc"))
    drawing = replace(
        simulator, entities=entities, parameters=PARAMETERS.iloc[:1], random=(), observables=("drawn",), n_simulations=2
    )
    cells = drawing.columns(np.array([[0.5], [0.1], [0.5]]))["drawn"]
    np.testing.assert_array_equal(cells[0], cells[2])
    assert (cells[0] >= cells[1]).all() and (cells[0] != cells[1]).any()
    direct = vf.simulate(model, {"growth": [0.5] * 4}, save=["drawn"], seed=5, final_time=3)["drawn"].to_numpy()
    np.testing.assert_array_equal(cells[0, 1], [direct[2, :, 0], direct[2, :, 2], direct[3, :, 1]])


def test_values_relative_to_a_group_average_to_one(simulator):
    grouped = replace(
        simulator, random=(RandomConstant("start", "gamma", 1.0, "spread", relative_to="region"),),
        observables=("stores",),
    )  # fmt: skip
    first = pd.DataFrame(grouped.columns(np.array([[0.1, 0.8]]))["stores"][0, :, :, 0].T, index=ENTITIES["region"])
    np.testing.assert_allclose(first.groupby(level=0).mean(), 1.0, rtol=1e-12)
    assert first.std().min() > 0.1


def test_selection_and_missing_cells_are_those_of_the_real_panel(simulator):
    known = pd.DataFrame(
        {"count": 1.0}, index=pd.MultiIndex.from_product([ENTITIES.index, TIMES], names=["entity", "time"])
    )
    known.loc[("a", 2.0)] = np.nan
    few = replace(
        simulator, selection=lambda entities, cells: (entities.index != "b") & (cells[:, 0] >= 0), known=known,
        smooth=False,
    )  # fmt: skip
    dropped, blank = few.panels(np.array([[0.1, 0.3]]))[0][1], replace(few, unselected="blank")
    assert list(dropped.index.unique(0)) == ["a", "c", "d", "e"] and list(dropped.columns) == ["region", "count"]
    assert np.isnan(dropped.loc[("a", 2.0), "count"]) and dropped["count"].isna().sum() == 1
    other = blank.panels(np.array([[0.1, 0.3]]))[0][1]
    assert other.loc["b", "count"].isna().all() and len(other) == 20
    pd.testing.assert_frame_equal(other.drop(index="b", level=0), dropped)


def test_a_run_that_does_not_stay_finite_blanks_its_panel_only(simulator):
    wide = PARAMETERS.assign(upper=[1e300, 1.0])
    cells = replace(simulator, parameters=wide, observables=("stores",)).columns(np.array([[1e299, 0.1], [0.1, 0.1]]))
    assert np.isnan(cells["stores"][0]).all() and np.isfinite(cells["stores"][1]).all()


# --- moments ---------------------------------------------------------------------------------------------------------

COUNTS = Auxiliary((
    Coefficients(Spec("log1p(count) ~ log1p(lag(count))", "within", ("time",))), Mean("count"),
    StandardDeviation("count"),
))  # fmt: skip


def test_moments_of_smooth_draws_are_continuous_in_the_parameters(simulator):
    """A hundredth of a step moves them a hundredth as far; those of whole draws stand still or jump."""
    point, move = np.array([0.2, 0.4]), np.array([1e-2, 1e-2])

    def moved(simulator, share):
        panels = simulator.panels(np.array([point, point + share * move]))
        before, after = (np.mean([COUNTS.values(panel) for panel in row], axis=0) for row in panels)
        return (after - before) / share

    smooth, whole = many(simulator, 60), many(simulator, 60, smooth=False)
    np.testing.assert_allclose(moved(smooth, 1e-3), moved(smooth, 1e-4), rtol=0.05)
    assert (moved(smooth, 1e-5) != 0).all() and (moved(whole, 1e-5) == 0).all()
    assert not np.allclose(moved(whole, 1e-1), moved(whole, 1e-2), rtol=0.5)


def test_smooth_moments_have_the_expectation_of_whole_ones_where_that_is_said(simulator):
    """Means agree; variances differ by 1/12; the slope of a logarithm does not: it is off by the zeros."""
    point = np.array([[0.2, 0.4]])
    both = (many(simulator, 2000, smooth=kind, n_simulations=8).panels(point)[0] for kind in (True, False))
    smooth, whole = (np.array([COUNTS.values(panel) for panel in panels]) for panels in both)
    error = np.sqrt(np.var(smooth - whole, axis=0, ddof=1) / 8)
    assert abs(np.mean(smooth[:, 1] - whole[:, 1])) < 4 * error[1] and error[1] < 0.01
    excess = smooth[:, 2] ** 2 - whole[:, 2] ** 2
    assert excess.mean() == pytest.approx(1 / 12, abs=4 * excess.std(ddof=1) / np.sqrt(8))


def test_indirect_inference_recovers_growth_and_spread(simulator):
    real = many(simulator, 300, n_simulations=1, seed=77).panels(np.array([[0.25, 0.5]]))[0][0]
    found = indirect_inference(many(simulator, 300), COUNTS, real, PARAMETERS, seed=1, starts=1)
    assert found.converged and not found.at_bound
    assert (abs(found.params - [0.25, 0.5]) < 3.5 * found.std_errors).all() and (found.std_errors < 0.1).all()
    assert not any("smooth" in note for note in found.notes)


@pytest.mark.parametrize(("changes", "words"), [
    ({"times": (0.0, 1.3)}, "1.3 is no saved time"),
    ({"observables": ("stors",)}, "no variable"),
    ({"observables": (Observable("x", "stores", "level", "beta", 1.0),)}, "noise 'beta'"),
    ({"observables": (Observable("x", "stores", "level", "normal"),)}, "without a parameter"),
    ({"observables": ("drawn",)}, "column element"),
    ({"random": ()}, "'spread' is no constant"),
    ({"random": (RandomConstant("start", "log", 4.0, "sprad"),)}, "'sprad' is no parameter"),
    ({"random": (RandomConstant("start", "log", 4.0, "spread", relative_to="x"),)}, "no column of the entities"),
    ({"constants": pd.DataFrame({"start": [1.0]}, index=["a"])}, "random and given"),
    ({"constants": pd.DataFrame({"help": [1.0]}, index=["a"])}, "no row for 'b'"),
    ({"inputs": {"level": [1.0, 2.0]}}, "column for each lane"),
    ({"unselected": "keep"}, "drop or blank"),
    ({"constants": pd.DataFrame({"Growth": 1.0}, index=list("abcde"))}, "'growth' is a parameter and a column"),
    ({"constants": pd.DataFrame({"help": 1.0}, index=list("abcdea"))}, "two rows for 'a'"),
    ({"constants": pd.DataFrame({"help": 1.0, "Help": 2.0}, index=list("abcde"))}, "two spellings"),
    ({"constants": pd.DataFrame({"help": ["x"] * 5}, index=list("abcde"))}, "'help' that is no finite number"),
    ({"observables": ("stores", Observable("stores", "helped", "level", "normal", 1.0))}, "two observables have the"),
    ({"observables": (replace(COUNT, name="region"),)}, "'region' is an observable and a column"),
    ({"observables": (replace(COUNT, centred=True),)}, "is centred"),
    ({"observables": (replace(COUNT, noise_parameter="growth"),)}, "poisson noise with a parameter"),
    *(({"observables": (Observable("x", "stores", "level", "normal", bad),)}, f"parameter {bad:g}; it must be finite")
      for bad in (0.0, -1.0, float("nan"))),
    ({"observables": (Observable("x", "stores", "level", "normal", "growth"),)}, "noise with parameter 0; .* bounds"),
    ({"times": (2.0, 1.0)}, "times is .2.0, 1.0.; give one or more times, increasing"),
    ({"times": (1.0, 1.0)}, "each once"),
    ({"times": ()}, "one or more times"),
    ({"random": (RandomConstant("start", "log", "growth", "spread"),)}, "log scale has location 0; .* above 0"),
    ({"random": (RandomConstant("start", "gamma", 1.0, "growth"), RandomConstant("help", "lin", 1.0, "spread"))},
     "gamma scale has deviation 0"),
    ({"random": STARTS * 2}, "'start' is random twice"),
    ({"random": (RandomConstant("size", "log", 1.0, "spread"),)}, "'size' is an array"),
    ({"random": (RandomConstant("size", "log", 1.0, "spread"),), "entities": ENTITIES.assign(element="p9")},
     "element 'p9', which 'size' lacks"),
    ({"random": (RandomConstant("start", "log", 4.0, "spread", "region"),),
      "entities": ENTITIES.assign(region=[None, *"nsss"])}, "'region' is blank"),
    ({"known": pd.DataFrame({"cuont": 1.0}, index=pd.MultiIndex.from_product([["a"], TIMES]))}, "Did you mean 'count'"),
    ({"known": pd.DataFrame({"count": 1.0}, index=pd.MultiIndex.from_product([["z"], TIMES]))}, "no row of these"),
    ({"known": pd.DataFrame({"count": [1.0]}, index=["a"])}, "known needs an index"),
    ({"method": "dopri5"}, "method is 'dopri5'; panels need fixed steps"),
    ({"method": "RK4 Auto"}, "fixed steps"),
])  # fmt: skip
def test_what_does_not_fit_together_is_refused(simulator, changes, words):
    refused(words, lambda: replace(simulator, **changes))


@pytest.mark.parametrize(("changes", "words"), [
    ({"model": None}, "model is a NoneType; give a model"),
    ({"parameters": None}, "parameters is a NoneType"),
    ({"parameters": ["growth"]}, "parameters is a list"),
    ({"parameters": PARAMETERS[:0]}, "parameters is an empty table"),
    ({"parameters": PARAMETERS.assign(lower="low")}, "lower 'low'; give a finite number"),
    ({"entities": list("abc")}, "entities is a list"),
    ({"entities": ENTITIES[:0]}, "one row for each"),
    ({"entities": ENTITIES.assign(lane=[None, *"abcd"])}, "no lane for 'a'"),
    ({"constants": {"help": 1.0}}, "constants is a dict"),
    ({"inputs": [1.0]}, "inputs is a list"),
    ({"inputs": {3: ENTITIES}}, "inputs has the name 3"),
    ({"entities": ENTITIES.assign(lane=[["x"]] * 5)}, "lane that is no plain label"),
    ({"selection": "all"}, "selection is a str"),
    ({"known": [1.0]}, "known is a list"),
    ({"times": None}, "times is a NoneType"),
    ({"times": ("2014",)}, "times has '2014'"),
    ({"observables": (None,)}, "observables has None"),
    ({"observables": (Observable("x", "stores", "level", "normal", [1.0]),)}, "noise parameter .1.0."),
    ({"random": ("start",)}, "random has a str"),
    *(({"n_simulations": bad}, "n_simulations is .* whole number of at least 1") for bad in (0, 2.5, "3", None, True)),
    *(({"seed": bad}, "seed is .* whole number from 0 on") for bad in ("a", -1, None, True, 1.0)),
])  # fmt: skip
def test_arguments_of_another_type_are_refused(simulator, changes, words):
    refused(words, lambda: replace(simulator, **changes))


@pytest.mark.parametrize(("scale", "location", "deviation", "words"), [
    ("log", -4.0, 0.5, "log scale has location -4; it must be finite and above 0"),
    ("gamma", 0.0, 0.5, "gamma scale has location 0"),
    ("logit", 1.5, 0.5, "logit scale has location 1.5; it must be between 0 and 1"),
    ("lin", np.nan, 0.5, "lin scale has location nan; it must be finite"),
    ("lin", 1.0, -0.5, "deviation -0.5; it must be finite and at least 0"),
    ("gamma", 1.0, 0.0, "deviation 0; it must be finite and above 0"),
    ("log", None, 0.5, "location None; give a number or a name"),
    ("log", 1.0, True, "deviation True"),
])  # fmt: skip
def test_random_constants_that_their_scale_cannot_have_are_refused(scale, location, deviation, words):
    refused(words, lambda: RandomConstant("start", scale, location, deviation))


@pytest.mark.parametrize(("values", "words"), [
    ([0.1, 0.3], r"shape \(2,\); give an \(n, 2\) array"),
    ([[0.1]], r"shape \(1, 1\)"),
    (np.empty((0, 2)), r"shape \(0, 2\)"),
    ([["a", "b"]], "array of numbers"),
    ([[0.1, np.nan]], "row 0 of the values has spread = nan"),
    ([[0.1, 0.3], [0.1, -0.3]], "deviation -0.3"),
])  # fmt: skip
def test_values_that_cannot_be_simulated_are_refused(simulator, values, words):
    refused(words, lambda: simulator.panels(values))
    refused(words, lambda: simulator.columns(values))


def test_a_selection_gives_a_mask_of_entities(simulator):
    wrong = replace(simulator, selection=lambda entities, cells: cells > 0)
    refused("selection gave bool values of shape .5, 4.", lambda: wrong.panels([[0.1, 0.3]]))


def test_single_items_and_lists_are_taken_as_tuples(simulator):
    one = replace(simulator, observables=COUNT, random=STARTS[0], times=list(TIMES))
    for here, there in zip(one.panels([[0.1, 0.3]])[0], simulator.panels([[0.1, 0.3]])[0], strict=True):
        pd.testing.assert_frame_equal(here, there)
    assert list(replace(simulator, observables="stores").columns([[0.1, 0.3]])) == ["stores"]


# --- real panel, parameters and simulator ------------------------------------------------------------------------


def test_the_order_of_the_parameter_table_moves_nothing(simulator):
    real = many(simulator, 60, n_simulations=1, seed=77).panels([[0.25, 0.5]])[0][0]
    one, other = (
        indirect_inference(many(simulator, 60), COUNTS, real, table, seed=1, starts=1)
        for table in (PARAMETERS, PARAMETERS.iloc[::-1])
    )
    pd.testing.assert_series_equal(one.params, other.params, check_exact=True)
    assert not one.at_bound and one.params["growth"] == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize(("changes", "words"), [
    ({"parameters": PARAMETERS[:1]}, "'spread' is a parameter of the simulator and not of parameters"),
    ({"parameters": pd.concat([PARAMETERS, PARAMETERS[:1].assign(name="help")])},
     "'help' is a parameter of parameters and not of the simulator"),
    ({"parameters": PARAMETERS.assign(lower=[0.0, -0.5])}, "deviation -"),
    ({"panel": lambda real: real.rename(index=str, level=0)}, "no entity of the real one, which has '0' .* have 0"),
    ({"panel": lambda real: real.rename(index=lambda time: time + 2014, level=1)}, "no time of the real one"),
])  # fmt: skip
def test_what_the_simulator_does_not_simulate_is_refused(simulator, changes, words):
    real = many(simulator, 40, n_simulations=1, seed=77).panels([[0.25, 0.5]])[0][0]
    table, change = changes.get("parameters", PARAMETERS), changes.get("panel", lambda panel: panel)
    refused(words, lambda: indirect_inference(many(simulator, 40), COUNTS, change(real), table, seed=1, starts=6))


def refused(words, call):
    with pytest.raises(CalibrationError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
