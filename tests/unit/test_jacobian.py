"""The verb `jacobian`: known sensitivities, flags, kinks, failures as data, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.ensemble import jacobian as jacobian_module
from villageflow.errors import DesignError, SimulationError
from villageflow.integrate.drive import RunSettings, run_program
from villageflow.program.emit import compile_model, compile_tangents
from villageflow.program.reference import run_reference
from villageflow.program.tangent import tangent_name
from villageflow.timegrid import TimeGrid

CONTROLS = "INITIAL TIME = 0 ~ Week ~|\nFINAL TIME = {stop} ~ Week ~|\nTIME STEP = {step} ~ Week ~|\nSAVEPER = 1 ~~|\n"
DECAY = """
Level = INTEG(-Loss Rate * Level, start) ~ item ~ What is left. |
Loss Rate = 0.3 ~ 1/Week ~ Share lost. |
start = 8 ~ item ~|
out = 2 * Level ~ item ~|
"""
LOGISTIC = """
x = INTEG(r * x * (1 - x / K), x0) ~~|
r = 0.7 ~~|
K = 50 ~~|
x0 = 2 ~~|
"""


@pytest.fixture
def read(tmp_path):
    def make(text, *, stop=6, step=0.5):
        path = tmp_path / "m.mdl"
        path.write_text("{UTF-8}\n" + text + CONTROLS.format(stop=stop, step=step))
        return vf.read_model(path)

    return make


def derivative(model, variable, parameter, **arguments):
    return vf.jacobian(model, [parameter], save=[variable], **arguments)[variable].values[0, 0]


def flag(model, parameter, save):
    ds = vf.jacobian(model, [parameter], save=[save])
    return ds["flag"].item(), ds["flag_reason"].item()


# ------------------------------------------------------------------------------------------ known sensitivities


def test_decay_by_hand(read):
    """Euler multiplies by 1 - kh a step, Runge-Kutta by the first terms of the exponential."""
    model = read(DECAY)
    ds = vf.jacobian(model, ["loss rate", "start"], save="level")
    n, h, k = np.arange(7) * 2, 0.5, 0.3
    assert ds["level"].sel(parameter="start").values[0] == pytest.approx((1 - k * h) ** n, rel=1e-14)
    expected = -8 * n * h * (1 - k * h) ** (n - 1)
    assert ds["level"].sel(parameter="loss_rate").values[0] == pytest.approx(expected, rel=1e-14)
    z = -k * h
    grown = 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24
    expected = 8 * n * grown ** (n - 1) * -h * (1 + z + z**2 / 2 + z**3 / 6)
    assert derivative(model, "level", "loss_rate", method="rk4") == pytest.approx(expected, rel=1e-14)


def test_logistic_growth_approaches_its_sensitivities(read):
    model = read(LOGISTIC, stop=10, step=2.0**-7)
    ds = vf.jacobian(model, ["r", "K", "x0"], save=["x"], method="rk4")
    t, r, K, x0 = ds["time"].values, 0.7, 50.0, 2.0
    grown = np.exp(r * t)
    bottom = K + x0 * (grown - 1)
    expected = {
        "r": K * x0 * t * grown * (K - x0) / bottom**2,
        "k": x0**2 * grown * (grown - 1) / bottom**2,
        "x0": K**2 * grown / bottom**2,
    }
    for name, values in expected.items():
        assert ds["x"].sel(parameter=name).values[0] == pytest.approx(values, rel=1e-9, abs=1e-12)


def test_parameters_of_initial_values_alone(read):
    model = read("x = INTEG(1, a ^ 2 + INITIAL(b * Time) + b) ~~|\na = 3 ~~|\nb = 5 ~~|\n")
    assert derivative(model, "x", "a").tolist() == [6] * 7
    assert derivative(model, "x", "b").tolist() == [1] * 7


def test_active_initial_has_two_sides(read):
    model = read("x = INTEG(0, y) ~~|\ny = ACTIVE INITIAL(2 * a, 3 * b) ~~|\na = 1 ~~|\nb = 1 ~~|\n")
    ds = vf.jacobian(model, ["a", "b"])
    assert ds["x"].values[0, :, -1].tolist() == [0, 3]
    assert ds["y"].values[0, :, -1].tolist() == [2, 0]


def test_initial_values_of_smooths_and_delays(read):
    """A steady input leaves every stage where it starts: the derivative is that of the steady state."""
    model = read("s = SMOOTH3(a, t) ~~|\nd = DELAY3(a, t) ~~|\nc = INTEG(0, 0) ~~|\na = 4 ~~|\nt = 3 ~~|\n")
    ds = vf.jacobian(model, ["a", "t"], save=["s", "d"])
    for name in ("s", "d"):
        assert ds[name].sel(parameter="a").values[0] == pytest.approx(np.ones(7), rel=1e-14)
        assert ds[name].sel(parameter="t").values[0] == pytest.approx(np.zeros(7), abs=1e-14)


def test_fixed_delays_carry_derivatives(read):
    model = read("y = DELAY FIXED(a * Time, 2, b) ~~|\na = 3 ~~|\nb = 5 ~~|\n")
    assert derivative(model, "y", "a").tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert derivative(model, "y", "b").tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_held_values_carry_derivatives(read):
    model = read("y = SAMPLE IF TRUE(Time = 2 :OR: Time = 4, a * Time, b) ~~|\na = 3 ~~|\nb = 5 ~~|\n")
    for method in ("euler", "rk4"):
        assert derivative(model, "y", "a", method=method).tolist() == [0, 0, 2, 2, 4, 4, 4]
        assert derivative(model, "y", "b", method=method).tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_ramp_start_is_a_kink_with_a_derivative(read):
    model = read("y = RAMP(a, b, 4) ~~|\na = 3 ~~|\nb = 1.5 ~~|\n")
    assert derivative(model, "y", "b").tolist() == [0, 0, -3, -3, -3, -3, -3]
    assert derivative(model, "y", "a").tolist() == [0, 0, 0.5, 1.5, 2.5, 2.5, 2.5]
    assert flag(model, "b", "y") == ("smooth", "")


def test_a_constant_that_is_saved_is_its_own_derivative(read):
    ds = vf.jacobian(read(DECAY), ["loss rate", "start"], save=["loss rate"])
    assert ds["loss_rate"].values[0, :, -1].tolist() == [1, 0]


# -------------------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("equation", "expected", "reason"),
    [
        ("y = STEP(2, p)", "events", "the time of an event in 'y'"),
        ("y = PULSE(p, 1)", "events", "the time of an event in 'y'"),
        ("y = PULSE(1, p)", "events", "a comparison in 'y', the time of an event in 'y'"),  # a width of 0 is one step
        ("y = PULSE TRAIN(p, 1, 2, 9)", "events", "the time of an event in 'y'"),
        # an interval of 0 is one pulse
        ("y = PULSE TRAIN(1, 1, p, 9)", "events", "the time of an event in 'y', a comparison in 'y'"),
        ("y = RANDOM BETA(0, 1, p, 2, 0, 1, 1)", "events", "the shape of a distribution in 'y'"),
        ("y = RANDOM POISSON(0, 99, p, 0, 1, 1)", "events", "the shape of a distribution in 'y'"),
        ("y = IF THEN ELSE(Time > p, 1, 2)", "events", "the time of an event in 'y'"),
        ("y = DELAY FIXED(x, p, 0)", "events", "the delay time of DELAY FIXED in 'y'"),
        ("y = INTEGER(p) * x", "events", "a whole number in 'y'"),
        ("y = IF THEN ELSE(x > p, 1, 2)", "events", "a comparison in 'y'"),
        ("y = IF THEN ELSE(p, 1, 2)", "events", "a condition in 'y'"),
        ("y = SAMPLE IF TRUE(x > p, x, 0)", "events", "a comparison in 'y'"),
        ("y = LOOKUP BACKWARD(look, p)", "events", "a table with steps in 'y'"),
        ("y = MODULO(x, p)", "partly", "a remainder in 'y'"),
        ("y = DELAY N(x, p, 0, 3)", "partly", "the number of stages of DELAY N in 'y'"),
        ("y = p * STEP(1, p)", "partly", "the time of an event in 'y'"),
        ("y = IF THEN ELSE(x > p, x, p)", "partly", "a comparison in 'y'"),
        ("y = MIN(x, p) + MAX(x, p) + ABS(p) + look(p) + ZIDZ(x, p) + p ^ 2", "smooth", ""),
        ("y = RAMP(1, p, 5)", "smooth", ""),
        ("y = SMOOTH(x, p)", "smooth", ""),
        ("y = x", "none", ""),
        ("y = p - p", "smooth", ""),
    ],
)
def test_what_the_derivative_leaves_out_is_flagged(read, equation, expected, reason):
    model = read(f"{equation} ~~|\nx = INTEG(1 + 0 * y, 3) ~~|\np = 2 ~~|\nlook((0,0),(5,7)) ~~|\n")
    assert flag(model, "p", "y") == (expected, reason)
    if expected in ("events", "none"):
        assert not derivative(model, "y", "p").any()


def test_flags_follow_states_and_look_at_what_is_saved_only(read):
    model = read(
        "x = INTEG(a, 0) ~~|\nSeen Late = INTEG(STEP(1, b), 0) ~~|\nwarning = IF THEN ELSE(x > 3, 1, 0) ~~|\n"
        "a = 1 ~~|\nb = 2 ~~|\n"
    )
    assert flag(model, "a", "x") == ("smooth", "")
    assert flag(model, "a", "warning") == ("events", "a comparison in 'warning'")
    assert flag(model, "b", "Seen Late") == ("events", "the time of an event in 'Seen Late'")
    ds = vf.jacobian(model, ["a", "b"])
    assert ds["flag"].values.tolist() == ["partly", "events"]
    both = vf.jacobian(model, ["b", "a"], save=["x", "warning"])
    assert both["flag"].values.tolist() == ["none", "partly"]
    assert both["x"].values[0, :, -1].tolist() == [0, 6]


def test_many_reasons_are_shortened(read):
    equations = "".join(f"y{i} = STEP({i}, p + {i}) ~~|\n" for i in range(1, 6))
    reason = vf.jacobian(read(equations + "p = 2 ~~|\n"), "p")["flag_reason"].item()
    assert reason.count("the time of an event") == 3 and reason.endswith(", and 2 more")


# ------------------------------------------------------------------------------------------------------- labels


def test_labels_dimensions_and_units(read):
    model = read(DECAY)
    ds = vf.jacobian(model, ["start", "Loss Rate"], {"loss_rate": [0.1, 0.2, 0.3]})
    assert ds["level"].dims == ("member", "parameter", "time")
    assert set(ds.data_vars) == {"level", "out", "status"}
    assert ds["parameter"].values.tolist() == ["start", "loss_rate"]
    assert ds["parameter_units"].values.tolist() == ["item", "1/Week"]
    assert ds["loss_rate"].values.tolist() == [0.1, 0.2, 0.3]
    assert ds["level"].attrs["long_name"] == "Derivative of Level"
    assert ds["level"].attrs["units"] == "item per unit of the parameter"
    assert ds["status"].dims == ("member", "parameter") and (ds["status"] == -1).all()
    assert ds.attrs["model"] == "m" and ds.attrs["method"] == "euler"


def test_one_name_is_one_parameter(read):
    assert vf.jacobian(read(DECAY), "loss rate", save="out").sizes == {"member": 1, "parameter": 1, "time": 7}


def test_a_member_is_differentiated_at_its_own_values(read):
    model = read(LOGISTIC)
    design = pd.DataFrame({"r": [0.2, 0.5, 0.9], "K": [30.0, 40.0, 60.0]})
    together = vf.jacobian(model, ["r", "x0", "K"], design)
    for member in range(3):
        alone = vf.jacobian(model, ["r", "x0", "K"], design.iloc[[member]])
        assert together["x"].values[member].tobytes() == alone["x"].values[0].tobytes()


def test_scenarios_are_a_dimension(read):
    model = read(LOGISTIC)
    design = vf.Design.grid(r=[0.2, 0.5]).with_scenarios({"base": {}, "roomy": {"K": 80.0}})
    ds = vf.jacobian(model, ["K", "x0"], design, save=["x"])
    assert ds["x"].dims == ("scenario", "member", "parameter", "time")
    assert ds["status"].dims == ("scenario", "member", "parameter")
    roomy = vf.jacobian(model, ["K", "x0"], {"r": [0.2, 0.5], "K": 80.0}, save=["x"])
    assert ds["x"].sel(scenario="roomy").values.tobytes() == roomy["x"].values.tobytes()


# --------------------------------------------------------------------------------------------------------- bits


def test_chunks_threads_and_company_move_no_bit(read, monkeypatch):
    model = read(LOGISTIC)
    design = {"r": np.linspace(0.1, 0.9, 40)}
    one = vf.jacobian(model, ["r", "x0", "K"], design, n_threads=1)
    two = vf.jacobian(model, ["r", "x0", "K"], design, n_threads=2)
    alone = vf.jacobian(model, ["K"], design)
    monkeypatch.setattr(jacobian_module, "_AT_ONCE", 100)
    chunked = vf.jacobian(model, ["r", "x0", "K"], design)
    assert one["x"].values.tobytes() == two["x"].values.tobytes() == chunked["x"].values.tobytes()
    assert one["x"].sel(parameter="k").values.tobytes() == alone["x"].values[:, 0].tobytes()


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_plain_values_keep_their_bits_and_the_slow_twin_agrees(read, method):
    model = read(DECAY + "late = DELAY FIXED(out, 2, start) ~~|\nheld = SAMPLE IF TRUE(Time > 3, late, 0) ~~|\n")
    varied, saves = ("loss_rate", "start"), ("level", "late", "held")
    plain = compile_model(model, varied=varied, saves=saves)
    both = compile_tangents(model, varied=varied, directions=varied, saves=(*saves, *map(tangent_name, saves)))
    grid = TimeGrid(0, 6, 0.5, 1)
    lane = np.array([[0.3], [8.0], [0.7], [-1.0]])
    values, _ = run_program(both, grid, lane, settings=RunSettings(method))
    expected, _ = run_program(plain, grid, lane[:2], settings=RunSettings(method))
    assert values[:3].tobytes() == expected.tobytes()
    inputs = dict(zip(both.parameters, lane[:, 0], strict=True))
    assert values[:, :, 0].tobytes() == run_reference(both, grid, inputs, method).tobytes()


def test_what_does_not_move_costs_nothing(read):
    """Tangents that are zero for every direction are not computed."""
    model = read(LOGISTIC + "y = INTEG(SIN(y) * q - EXP(y), 1) ~~|\nq = 1 ~~|\nz = x + y ~~|\n")
    program = compile_tangents(model, varied=("x0",), directions=("x0",), saves=(tangent_name("z"),))
    assert set(program.stocks) == {"x", "d x"}
    assert "EXP" not in program.listing() and "SIN" not in program.listing()


# ------------------------------------------------------------------------------------------------------- arrays

ARRAYS = """
age: young, old ~~|
People[age] = INTEG(growth[age] * People[age], start) ~ person ~|
growth[young] = 0.1 ~~|
growth[old] = 0.2 ~~|
start = 100 ~ person ~|
total = SUM(People[age!]) ~~|
"""


def test_arrays_are_variables_and_parameters(read):
    ds = vf.jacobian(read(ARRAYS), ["Growth", "start"], save=["people", "total", "people[old]"])
    assert ds["parameter"].values.tolist() == ["growth[young]", "growth[old]", "start"]
    assert ds["people"].dims == ("member", "parameter", "time", "age")
    n, h = np.arange(7) * 2, 0.5
    own = ds["people"].sel(age="old", parameter="growth[old]").values[0]
    assert own == pytest.approx(100 * n * h * (1 + 0.2 * h) ** (n - 1), rel=1e-14)
    assert not ds["people"].sel(age="old", parameter="growth[young]").any()
    assert ds["people"].sum("age").values == pytest.approx(ds["total"].values, rel=1e-14)
    assert (ds["people[old]"].values == ds["people"].sel(age="old").values).all()


def test_one_element_is_a_parameter(read):
    ds = vf.jacobian(read(ARRAYS), "growth[Old]", {"growth[old]": [0.1, 0.3]}, save="total")
    assert ds["parameter"].values.tolist() == ["growth[old]"] and ds["total"].shape == (2, 1, 7)


def test_a_dimension_may_not_have_the_name_of_a_label(read):
    with pytest.raises(DesignError, match=r"dimension .* 'parameter', as a part of every Jacobian"):
        vf.jacobian(read(ARRAYS.replace("age", "parameter")), "start")


# ------------------------------------------------------------------------- stocks that do not fall below zero

XMILE = """<?xml version="1.0" encoding="utf-8"?>
<xmile version="1.0" xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0"><header><name>m</name></header>
<sim_specs method="{method}"><start>0</start><stop>4</stop><dt>0.5</dt></sim_specs><model><variables>
<stock name="x"><eqn>begin</eqn><inflow>fill</inflow><outflow>drain</outflow><non_negative/></stock>
<flow name="fill"><eqn>gain * Time</eqn></flow><flow name="drain"><eqn>loss</eqn></flow>
<stock name="y"><eqn>0</eqn><inflow>seen</inflow></stock><flow name="seen"><eqn>x</eqn></flow>
<aux name="gain"><eqn>1.1</eqn></aux><aux name="loss"><eqn>2</eqn></aux><aux name="begin"><eqn>1.3</eqn></aux>
</variables></model></xmile>
"""


@pytest.mark.parametrize("method", ["Euler", "RK4"])
def test_a_stock_kept_at_zero_has_no_derivative_there(tmp_path, method):
    """The model is piecewise linear in its parameters: small differences are exact to rounding."""
    path = tmp_path / "m.xmile"
    path.write_text(XMILE.format(method=method))
    model = vf.read_model(path)
    names = ["gain", "loss", "begin"]
    ds = vf.jacobian(model, names, save=["x", "y"])
    values = vf.simulate(model, save=["x"])["x"].values[0]
    assert (values == 0).sum() > 1 and values[-1] > 0
    for name in names:
        base = model.constants[name]
        moved = vf.simulate(model, {name: [base - 1e-4, base + 1e-4]}, save=["x", "y"])
        for variable in ("x", "y"):
            found = ds[variable].sel(parameter=name).values[0]
            expected = np.diff(moved[variable].values, axis=0)[0] / 2e-4
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert not ds["x"].values[0, :, values == 0].any()
    alone = compile_tangents(model, varied=("begin",), directions=("begin",), saves=(tangent_name("x"),))
    lane = {"begin": 1.3, tangent_name("begin"): 1.0}
    expected = run_reference(alone, TimeGrid(0, 4, 0.5, 0.5), lane, method.lower())
    assert ds["x"].sel(parameter="begin").values[0].tobytes() == expected[0].tobytes()


# --------------------------------------------------------------------------------------------------- allocation

ALLOCATION = """
who: a, b, c ~~|
request[who] = 3, 4, 5 ~~|
pprofile: ptype, ppriority, pwidth, pextra ~~|
profile[who, ptype] = {kind} ~~|
profile[a, ppriority] = 1 ~~|
profile[b, ppriority] = 2.2 ~~|
profile[c, ppriority] = 3 ~~|
profile[who, pwidth] = 2.5 ~~|
profile[who, pextra] = 0 ~~|
supply = INTEG(inflow, 4) ~~|
inflow = 0.31 ~~|
got[who] = ALLOCATE AVAILABLE(request[who], profile[who, ptype], supply) ~~|
"""


@pytest.mark.parametrize("kind", [3, 4])
def test_allocation_equals_differences(read, kind):
    model = read(ALLOCATION.format(kind=kind))
    names = ["request[a]", "request[c]", "profile[b,ppriority]", "profile[a,pwidth]", "inflow"]
    ds = vf.jacobian(model, names, save=["got"])
    assert ds["flag"].values.tolist() == ["smooth"] * 5
    for name in names:
        reach = 1e-3 * np.array([1.0, 0.5, 0.25])
        base = model.constants[name]
        values = vf.simulate(model, {name: [*(base + reach), *(base - reach)]}, save=["got"])["got"].values
        coarse, middle, fine = (values[:3] - values[3:]) / (2 * reach[:, None, None])
        expected = (64 * fine - 20 * middle + coarse) / 45
        assert ds["got"].sel(parameter=name).values[0] == pytest.approx(expected, rel=1e-7, abs=1e-8)


# ----------------------------------------------------------------------------------------------------- failures

ROOT = "y = SQRT(a - 1) * b ~~|\nx = INTEG(y + b, 0) ~~|\na = 1 ~~|\nb = 2 ~~|\n"


def test_infinite_derivative_of_a_finite_trajectory_is_an_error(read):
    with pytest.raises(SimulationError) as caught:
        vf.jacobian(read(ROOT), ["b", "a"], {"a": [2, 1]})
    text = str(caught.value)
    assert "member 1" in text and "'y' with respect to 'a' is inf at time 0 (step 0)" in text and "a = 1" in text


def test_flagged_failures_are_kept(read):
    ds = vf.jacobian(read(ROOT), ["b", "a"], {"a": [2, 1]}, errors="flag")
    assert ds["status"].values.tolist() == [[-1, -1], [-1, 0]]
    assert np.isfinite(ds["y"].values[0]).all() and np.isfinite(ds["y"].values[1, 0]).all()
    assert not np.isfinite(ds["y"].values[1, 1]).any()


def test_derivative_that_fails_later_names_its_step(read):
    model = read("x = INTEG(1, 0) ~~|\ny = SQRT(a - x) ~~|\na = 2 ~~|\n", stop=2, step=0.5)
    ds = vf.jacobian(model, "a", errors="flag")
    assert ds["status"].values.tolist() == [[4]]
    with pytest.raises(SimulationError, match=r"'y' with respect to 'a' is .* at time 2 \(step 4\)"):
        vf.jacobian(model, "a")


def test_failing_trajectory_is_reported_as_simulate_does(read):
    model = read("x = INTEG(gain * x, start) ~~|\ngain = 4 ~~|\nstart = 1e300 ~~|\n", stop=6)
    with pytest.raises(SimulationError, match="member 0"):
        vf.jacobian(model, ["gain"], {"gain": [100.0, 0.1]})
    ds = vf.jacobian(model, ["gain", "start"], {"gain": [100.0, 0.1]}, errors="flag")
    plain = vf.simulate(model, {"gain": [100.0, 0.1]}, errors="flag")
    assert ds["status"].values.tolist() == [[plain["status"][0].item()] * 2, [-1, -1]]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (["level"], "stock"),
        (["loss"], "no constant 'loss'"),
        (["start", "Start"], "'start' twice"),
        ([], "no parameter"),
        ([3], "names of constants"),
        (["time step"], "only constants"),
    ],
)
def test_what_is_no_parameter_is_refused(read, parameters, said):
    with pytest.raises(DesignError, match=said):
        vf.jacobian(read(DECAY), parameters)


def test_constants_of_structure_are_refused(read):
    model = read("s = DELAY N(x, 2, 0, stages) ~~|\nx = 3 ~~|\nstages = 3 ~~|\n")
    with pytest.raises(DesignError, match="order of a delay"):
        vf.jacobian(model, ["stages"])


def test_names_of_the_result_are_refused_as_variables(read):
    model = read("flag = INTEG(p, 0) ~~|\np = 1 ~~|\n")
    with pytest.raises(DesignError, match="'flag', as a part of every Jacobian"):
        vf.jacobian(model, ["p"])


def test_too_large_a_result_is_refused(read, monkeypatch):
    monkeypatch.setattr(jacobian_module, "_MAX_RESULT_BYTES", 100)
    with pytest.raises(DesignError, match="name fewer variables"):
        vf.jacobian(read(DECAY), ["start"])


def test_settings_are_those_of_simulate(read):
    with pytest.raises(DesignError, match="errors is"):
        vf.jacobian(read(DECAY), ["start"], errors="ignore")
    ds = vf.jacobian(read(DECAY), ["start"], time_step=0.25, final_time=2, save_every=0.5, method="rk4")
    assert ds["time"].values.tolist() == [0, 0.5, 1, 1.5, 2] and ds.attrs["method"] == "rk4"


def test_steps_must_be_fixed(read):
    with pytest.raises(DesignError, match="'dopri5'; derivatives need fixed steps"):
        vf.jacobian(read(DECAY), ["start"], method="dopri5")


def test_derivative_of_a_drawn_path(read):
    """A random input is the same whatever the parameter is: the derivative is that of the path that was drawn."""
    model = read("x = INTEG(gain * RANDOM NORMAL(-5, 5, 0, 1, 1) - 0.1 * x, 0) ~~|\ngain = 2 ~~|")
    ds = vf.simulate(model, {"gain": [2.0, 3.0, 4.0]}, save=["x"], seed=7)
    jac = vf.jacobian(model, ["gain"], {"gain": [2.0, 3.0, 4.0]}, save=["x"], seed=7)
    assert jac["x"].values[:, 0] == pytest.approx(ds["x"].values / [[2.0], [3.0], [4.0]], rel=1e-13)
    assert not np.allclose(jac["x"].values[0], jac["x"].values[1])
    other = vf.jacobian(model, ["gain"], {"gain": [2.0]}, save=["x"], seed=8)
    assert not np.allclose(jac["x"].values[0], other["x"].values[0])


def test_derivative_with_supplied_noise(read):
    model = read("shock = RANDOM 0 1() ~~|\nx = INTEG(gain * shock, 0) ~~|\ngain = 2 ~~|", stop=3, step=1)
    jac = vf.jacobian(model, ["gain"], save=["x"], noise={"shock": [1.0, 2.0, 3.0, 4.0]})
    assert jac["x"].values[0, 0].tolist() == [0.0, 1.0, 3.0, 6.0]


@pytest.mark.parametrize(
    "draw",
    [
        "RANDOM NORMAL(low, high, mean, sd, 1)",
        "RANDOM UNIFORM(low, high, 1)",
        "RANDOM EXPONENTIAL(low + 2, high + 2, mean, sd, 1)",
        "RANDOM TRIANGULAR(low, high, low - 0.5, mean, high + 0.5, 1)",
    ],
)
def test_derivative_of_a_distribution(read, draw):
    model = read(f"y = {draw} ~~|\nlow = -1.5 ~~|\nhigh = 2 ~~|\nmean = 0.3 ~~|\nsd = 0.8 ~~|", stop=3, step=1)
    names = [name for name in ("low", "high", "mean", "sd") if name in draw]
    jac = vf.jacobian(model, names, save=["y"])["y"].values[0]
    h = 1e-5
    for name, found in zip(names, jac, strict=True):
        base = model.constants[name]
        moved = (base - 2 * h, base - h, base + h, base + 2 * h)
        y = [vf.simulate(model, {name: value}, save=["y"])["y"].values[0] for value in moved]  # each the first member
        expected = (y[0] - 8 * y[1] + 8 * y[2] - y[3]) / (12 * h)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
