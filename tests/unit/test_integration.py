"""The integrators and the functions of time against solutions known by hand."""

from __future__ import annotations

import numpy as np
import pytest

import villageflow as vf

CONTROLS = (
    "INITIAL TIME = {start} ~~|\nFINAL TIME = {stop} ~~|\nTIME STEP = {step} ~~|\nSAVEPER = {save} ~~|\n"
)


@pytest.fixture
def run(tmp_path):
    """Equations to the values of one variable at every saved time."""

    def simulate(
        equations, variable="y", *, start=0, stop=10, step=1, save="TIME STEP", method="euler", **arguments
    ):
        path = tmp_path / "m.mdl"
        controls = CONTROLS.format(start=start, stop=stop, step=step, save=save)
        path.write_text("{UTF-8}\n" + " ~~|\n".join([*equations, controls]))
        ds = vf.simulate(vf.read_model(path), save=[variable], method=method, **arguments)
        return ds[variable].values[0], ds["time"].values

    return simulate


def order_of_convergence(errors, steps):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


# ------------------------------------------------------------------------------------- known solutions

LOGISTIC = ["y = INTEG(r * y * (1 - y / K), 2)", "r = 0.7", "K = 50"]
OSCILLATOR = ["y = INTEG(v, 1)", "v = INTEG(-w * w * y, 0)", "w = 1.3"]
CASCADE = ["y = DELAY3I(inflow, 4, 0)", "inflow = 6"]


def logistic(t):
    return 50 / (1 + 24 * np.exp(-0.7 * t))


def oscillator(t):
    return np.cos(1.3 * t)


def cascade(t):
    x = t * 3 / 4
    return 6 * (1 - np.exp(-x) * (1 + x + x * x / 2))


@pytest.mark.parametrize(
    ("equations", "solution"),
    [(LOGISTIC, logistic), (OSCILLATOR, oscillator), (CASCADE, cascade)],
    ids=["logistic", "oscillator", "cascade"],
)
@pytest.mark.parametrize(
    ("method", "order", "steps"),
    [("euler", 1, [2.0**-k for k in range(7, 11)]), ("rk4", 4, [2.0**-k for k in range(3, 7)])],
)
def test_order_of_convergence(run, equations, solution, method, order, steps):
    errors = []
    for step in steps:
        values, times = run(equations, stop=8, step=step, save=1, method=method)
        errors.append(np.abs(values - solution(times)).max())
    assert order_of_convergence(errors, steps) == pytest.approx(order, abs=0.12)
    if method == "rk4":
        assert errors[-1] < 1e-6 * np.abs(solution(times)).max()


def test_one_step_by_hand(run):
    values, _ = run(["y = INTEG(-y, 1)"], stop=0.5, step=0.5)
    assert values[1] == 0.5
    values, _ = run(["y = INTEG(-y, 1)"], stop=0.5, step=0.5, method="rk4")
    h = 0.5
    assert values[1] == pytest.approx(1 - h + h**2 / 2 - h**3 / 6 + h**4 / 24, rel=1e-15)


def test_stocks_advance_together(run):
    """Each step uses the stocks of the step before, whatever their order in the file."""
    for equations in (["y = INTEG(x, 1)", "x = INTEG(y, 2)"], ["x = INTEG(y, 2)", "y = INTEG(x, 1)"]):
        values, _ = run(equations, stop=2)
        assert values.tolist() == [1, 3, 6]


def test_time_dependent_flow_is_exact_where_the_rule_is(run):
    """Simpson's rule, which RK4 is for a function of time, is exact for a cubic."""
    values, times = run(["y = INTEG(Time^3, 0)"], stop=4, step=0.5, method="rk4")
    assert values == pytest.approx(times**4 / 4, rel=1e-14)


# ------------------------------------------------------------------------------------ functions of time


def test_step_at_a_grid_point_is_integrated_exactly_by_rk4(run):
    values, times = run(["y = INTEG(STEP(6, 3), 0)"], step=0.5, method="rk4")
    assert values.tolist() == (6 * np.maximum(times - 3, 0)).tolist()
    values, times = run(["y = INTEG(PULSE(3, 2), 0)"], step=0.5, method="rk4")
    assert values.tolist() == np.clip(times - 3, 0, 2).tolist()


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_sum_of_tenths_is_not_before_its_time(run, method):
    """0.1 * 30 is 3.0000000000000004 and 0.1 * 3 is 0.30000000000000004; both are on time."""
    for begin in (0.3, 0.7, 3, 3.3):
        values, times = run([f"y = STEP(1, {begin})"], stop=4, step=0.1, method=method)
        assert values.tolist() == (np.round(times, 6) >= begin).tolist()


@pytest.mark.parametrize(
    ("expression", "on"),
    [
        ("STEP(1, 0)", range(11)),
        ("STEP(1, -5)", range(11)),
        ("STEP(1, 11)", []),
        ("STEP(1, 2.4)", range(2, 11)),  # half a step of tolerance
        ("STEP(1, 2.6)", range(3, 11)),
        ("PULSE(3, 2)", [3, 4]),
        ("PULSE(3, 0)", [3]),
        ("PULSE(-1, 3)", [0, 1]),
        ("PULSE(9, 100)", [9, 10]),
        ("PULSE(3, -1)", []),
        ("PULSE TRAIN(1, 1, 3, 100)", [1, 4, 7, 10]),
        ("PULSE TRAIN(1, 2, 3, 6)", [1, 2, 4, 5]),
        ("PULSE TRAIN(1, 0, 4, 9)", [1, 5]),
        ("PULSE TRAIN(1, 3, 0, 2)", [1, 2, 3]),
        ("PULSE TRAIN(0, 1, 1, 5)", [0, 1, 2, 3, 4]),
        ("PULSE TRAIN(5, 1, 2, 5)", []),
    ],
)
def test_when_events_are_on(run, expression, on):
    values, _ = run([f"y = {expression}"])
    assert np.flatnonzero(values).tolist() == list(on)
    assert set(values) <= {0.0, 1.0}


def test_ramp(run):
    values, times = run(["y = RAMP(2, 3, 7)"])
    assert values.tolist() == (2 * np.clip(times - 3, 0, 4)).tolist()
    values, _ = run(["y = RAMP(2, 7, 3)"])
    assert not values.any()
    values, times = run(["y = RAMP(-0.5, -2, 4)"])
    assert values.tolist() == (-0.5 * (np.minimum(times, 4) + 2)).tolist()


def test_ramp_follows_the_stages_of_rk4(run):
    values, times = run(["y = INTEG(RAMP(2, 2, 100), 0)"], method="rk4")
    assert values == pytest.approx(np.maximum(times - 2, 0) ** 2, rel=1e-15)


# --------------------------------------------------------------------------------------- held values


def test_sample_if_true_holds_between_samples(run):
    values, _ = run(["y = SAMPLE IF TRUE(MODULO(Time, 3) = 1, Time * 10, -1)"])
    assert values.tolist() == [-1, 10, 10, 10, 40, 40, 40, 70, 70, 70, 100]


def test_sample_if_true_at_the_start(run):
    values, _ = run(["y = SAMPLE IF TRUE(Time < 1, Time + 5, -1)"], stop=2)
    assert values.tolist() == [5, 5, 5]
    values, _ = run(["y = INTEG(1, h)", "h = SAMPLE IF TRUE(Time < 1, Time + 5, -1)"], stop=2)
    assert values.tolist() == [5, 6, 7]


def test_sample_if_true_is_taken_once_a_step_inside_rk4(run):
    """The held value feeds the flow: sampled at t = 0, 1, 2, ... only, its integral is a sum of them."""
    values, _ = run(["y = INTEG(h, 0)", "h = SAMPLE IF TRUE(1, Time, 0)"], stop=4, method="rk4")
    assert values.tolist() == [0, 0, 1, 3, 6]


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_fixed_delay_moves_once_a_step(run, method):
    values, _ = run(["y = DELAY FIXED(Time, 3, -1)"], method=method)
    assert values.tolist() == [-1, -1, -1, 0, 1, 2, 3, 4, 5, 6, 7]
    values, _ = run(["y = INTEG(d, 0)", "d = DELAY FIXED(Time, 2, 0)"], stop=5, method=method)
    assert values.tolist() == [0, 0, 0, 0, 1, 3]


@pytest.mark.parametrize(
    ("delay_time", "steps"),
    [(0, 1), (-3, 1), (0.2, 1), (1.4, 1), (1.6, 2), (2.5, 3), (100, 100), (1e300, 100)],
)
def test_fixed_delay_of_odd_length(run, delay_time, steps):
    values, times = run([f"y = DELAY FIXED(Time, {delay_time}, -1)"])
    assert values.tolist() == np.where(times >= steps, times - steps, -1).tolist()


def test_fixed_delays_in_a_row_and_of_members(run, tmp_path):
    run(["y = DELAY FIXED(d, lag, 0)", "d = DELAY FIXED(Time + 1, 2, 0)", "lag = 1"])
    ds = vf.simulate(vf.read_model(tmp_path / "m.mdl"), {"lag": [1, 2, 5]}, save="y")
    for member, lag in enumerate([1, 2, 5]):
        t = ds["time"].values
        assert ds["y"].values[member].tolist() == np.where(t >= lag + 2, t - lag - 1, 0).tolist()


# -------------------------------------------------------------------------------------- initial values


def test_initial_keeps_the_value_of_the_start(run):
    values, _ = run(["y = INITIAL(x * 2) + Time", "x = INTEG(1, 5)"], stop=3, start=1)
    assert values.tolist() == [11, 12, 13]


def test_active_initial_cuts_a_loop_at_the_start_only(run):
    equations = ["x = INTEG(y, 3 * y)", "y = ACTIVE INITIAL(x / 2, 4)"]
    assert run(equations, "x", stop=2)[0].tolist() == [12, 18, 27]
    assert run(equations, "y", stop=2)[0].tolist() == [6, 9, 13.5]


def test_initial_values_are_solved_in_the_order_of_need(run):
    values, _ = run(
        ["y = INTEG(0, a)", "a = b + 1", "b = x * 2", "x = INTEG(1, c)", "c = d", "d = 7"], stop=1
    )
    assert values.tolist() == [15, 15]


def test_time_in_an_initial_value_is_the_start(run):
    values, _ = run(["y = INTEG(0, Time + TIME STEP + FINAL TIME)"], start=3, stop=5, step=0.5)
    assert values[0] == 8.5


# --------------------------------------------------------------------------------- smooths and delays


@pytest.mark.parametrize(
    "function",
    [
        "SMOOTH(x, 4)",
        "SMOOTH3(x, 4)",
        "SMOOTH N(x, 4, x, 5)",
        "DELAY1(x, 4)",
        "DELAY3(x, 4)",
        "DELAY N(x, 4, x, 5)",
        "SMOOTHI(x, 4, 8)",
        "SMOOTH3I(x, 4, 8)",
        "DELAY1I(x, 4, 8)",
        "DELAY3I(x, 4, 8)",
    ],
)
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_constant_input_is_a_steady_state(run, function, method):
    values, _ = run([f"y = {function}", "x = 8"], step=0.25, method=method)
    assert values == pytest.approx(8, rel=1e-14)


@pytest.mark.parametrize(
    "function", ["SMOOTHI(x, 4, 2)", "SMOOTH3I(x, 4, 2)", "DELAY1I(x, 4, 2)", "DELAY3I(x, 4, 2)"]
)
def test_given_initial_value_is_the_first_output(run, function):
    values, _ = run([f"y = {function}", "x = 8"], step=0.25, stop=80)
    assert values[0] == pytest.approx(2, rel=1e-15)
    assert values[-1] == pytest.approx(8, rel=1e-6)


def test_smooth_is_an_exponential(run):
    values, times = run(["y = SMOOTHI(8, 4, 2)"], step=0.125, method="rk4")
    assert values == pytest.approx(8 - 6 * np.exp(-times / 4), rel=1e-8)


@pytest.mark.parametrize(
    "function", ["DELAY1I(x, 4, 0)", "DELAY3I(x, 4, 0)", "DELAY N(x, 4, 0, 7)", "DELAY FIXED(x, 4, 0)"]
)
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_what_enters_a_delay_leaves_it(run, function, method):
    values, _ = run(
        ["y = INTEG(out, 0)", f"out = {function}", "x = PULSE(1, 2) * 5"], stop=120, step=0.125, method=method
    )
    assert values[0] == 0
    assert values[-1] == pytest.approx(10, rel=1e-9)


def test_content_of_a_delay_follows_its_time(run):
    """A delay conserves what it holds when its delay time changes; a smooth would not."""
    equations = ["y = INTEG(x - out, 4 * 3)", "out = DELAY1(x, tau)", "x = 3", "tau = 4 + STEP(4, 5)"]
    values, _ = run(equations, stop=200, step=0.25)
    assert values[0] == 12
    assert values[-1] == pytest.approx(24, rel=1e-9)


def test_delay_n_with_more_stages_than_steps_drops_some(run):
    equations = ["y = DELAY N(x, 2, 0, {})", "x = STEP(1, 0)"]
    short, _ = run([equations[0].format(8), equations[1]], step=1)
    fitting, _ = run([equations[0].format(2), equations[1]], step=1)
    assert short.tolist() == fitting.tolist()


def test_trend_of_exponential_growth_is_its_rate(run):
    equations = ["y = TREND(x, 5, 0.03)", "x = 7 * EXP(0.03 * Time)"]
    values, _ = run(equations, stop=400, step=0.125, save=1)
    assert values[0] == pytest.approx(0.03, rel=1e-12)
    assert values[-1] == pytest.approx(0.03, rel=0.01)


def test_trend_and_forecast_of_a_constant(run):
    assert run(["y = TREND(x, 5, 0)", "x = 7"])[0].tolist() == [0] * 11
    assert run(["y = FORECAST(x, 5, 10)", "x = 7"])[0] == pytest.approx(7, rel=1e-15)


def test_forecast_extends_a_trend(run):
    values, times = run(["y = FORECAST(x, 5, 10)", "x = 7 * EXP(0.01 * Time)"], stop=300, step=0.125, save=1)
    now = 7 * np.exp(0.01 * times[-1])
    average = now / 1.05
    assert values[-1] == pytest.approx(now * (1 + (now - average) / (5 * average) * 10), rel=2e-3)


# ------------------------------------------------------------------------------------------- time grid


def test_span_that_is_no_whole_number_of_steps(run):
    values, times = run(["y = INTEG(1, 0)"], stop=1, step=0.3)
    assert times == pytest.approx([0, 0.3, 0.6, 0.9])
    values, times = run(["y = INTEG(1, 0)"], stop=1, step=0.4)
    assert times.tolist() == [0, 0.4, 0.8, 0.4 * 3]  # ends at the step nearest to the final time
    assert values == pytest.approx(times)


def test_save_period_that_is_no_multiple_of_the_step(run):
    values, times = run(["y = INTEG(1, 0)"], stop=10, step=1, save=2.5)
    assert times.tolist() == [0, 3, 5, 8, 10]
    assert values.tolist() == times.tolist()


def test_start_that_is_not_zero(run):
    values, times = run(["y = Time"], start=1985.5, stop=1986.5, step=0.125)
    assert values.tolist() == times.tolist() == [1985.5 + k / 8 for k in range(9)]


def test_saving_less_often_moves_no_bit(run):
    every, times = run(LOGISTIC, stop=8, step=0.1, method="rk4")
    some, at = run(LOGISTIC, stop=8, step=0.1, save=0.7, method="rk4")
    assert some.tolist() == every[np.searchsorted(times, at)].tolist()
