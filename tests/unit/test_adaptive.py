"""Steps of variable length: accuracy, events, independence of members, failures and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import villageflow as vf
from villageflow.errors import DesignError, SimulationError, UnsupportedError

CONTROLS = "INITIAL TIME = {start} ~~|\nFINAL TIME = {stop} ~~|\nTIME STEP = {step} ~~|\nSAVEPER = {save} ~~|\n"


@pytest.fixture
def read(tmp_path):
    def read_equations(*equations, start=0, stop=10, step=1, save="TIME STEP"):
        path = tmp_path / "m.mdl"
        controls = CONTROLS.format(start=start, stop=stop, step=step, save=save)
        path.write_text("{UTF-8}\n" + " ~~|\n".join([*equations, controls]))
        return vf.read_model(path)

    return read_equations


def run(model, design=None, **arguments):
    """Values of y, (members, times), and the times."""
    ds = vf.simulate(model, design, save="y", method="dopri5", **arguments)
    return ds["y"].values, ds["time"].values


# ---------------------------------------------------------------------------------------------- accuracy

PROBLEMS = {
    "decay": (["y = INTEG(-0.8 * y, 5)"], lambda t: 5 * np.exp(-0.8 * t)),
    "logistic": (["y = INTEG(0.7 * y * (1 - y / 50), 2)"], lambda t: 50 / (1 + 24 * np.exp(-0.7 * t))),
    "oscillator": (["y = INTEG(v, 1)", "v = INTEG(-1.69 * y, 0)"], lambda t: np.cos(1.3 * t)),
    "forced": (
        ["y = INTEG(-y + SIN(2 * Time), 1)"],
        lambda t: 1.4 * np.exp(-t) + (np.sin(2 * t) - 2 * np.cos(2 * t)) / 5,
    ),
    "step response": (
        ["y = INTEG((STEP(3, 2.35) - y) / 1.7, 1)"],
        lambda t: np.exp(-t / 1.7) + np.where(t > 2.35, 3 * (1 - np.exp(-np.maximum(t - 2.35, 0) / 1.7)), 0),
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_error_falls_with_the_tolerance(read, name):
    """The error of a step is held below the tolerance, so that the error of the run is proportional to it."""
    equations, solution = PROBLEMS[name]
    model = read(*equations, save=10, step=10)
    tolerances = np.array([1e-4, 1e-6, 1e-8, 1e-10])
    errors = []
    for tolerance in tolerances:
        values, times = run(model, tolerance=tolerance)
        errors.append(np.abs(values[0] - solution(times)).max())
    assert np.all(np.array(errors) < 200 * tolerances)
    assert np.polyfit(np.log(tolerances), np.log(errors), 1)[0] == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("name", ["decay", "logistic", "oscillator", "forced"])
def test_order_of_convergence_is_five(read, name):
    """With a tolerance that accepts every step the save points set the length of the steps."""
    equations, solution = PROBLEMS[name]
    steps = [0.5, 0.25, 0.125, 0.0625]
    errors = []
    for step in steps:
        values, times = run(read(*equations, step=step), tolerance=1e6)
        errors.append(np.abs(values[0] - solution(times)).max())
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("tolerance", [1e-5, 1e-9])
def test_equals_another_solver(read, tolerance):
    model = read(
        "y = INTEG(a * y - 0.4 * y * z, 10)", "z = INTEG(0.1 * y * z - 0.4 * z, 5)", "a = 1.1", stop=40,
    )
    values, times = run(model, {"a": [1.1, 0.9]}, tolerance=tolerance)
    for member, a in enumerate([1.1, 0.9]):
        other = solve_ivp(
            lambda t, x, a=a: [a * x[0] - 0.4 * x[0] * x[1], 0.1 * x[0] * x[1] - 0.4 * x[1]], (0, 40), [10, 5],
            method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12,
        )
        assert values[member] == pytest.approx(other.y[0], rel=300 * tolerance, abs=300 * tolerance)


def test_relative_and_absolute_tolerance_are_apart(read):
    """Far below the absolute tolerance a stock is not followed, whatever the relative one."""
    model = read("y = INTEG(y * COS(Time * 3), 1e-3)", step=10, save=10)
    exact = 1e-3 * np.exp(np.sin(30) / 3)
    errors = [
        abs(run(model, tolerance=tolerance)[0][0, -1] - exact) / exact for tolerance in [(1e-9, 1e-12), (1e-9, 1e-2)]
    ]
    assert errors[0] < 1e-7 < 1e-4 < errors[1]


def test_save_points_are_hit_exactly_and_move_little(read):
    equations = ["y = Time", "x = INTEG(SIN(Time), 0)"]
    for step in (0.1, 0.3, 1):
        values, times = run(read(*equations, step=step, start=1985.5, stop=1988.5))
        assert values[0].tolist() == times.tolist() == [1985.5 + k * step for k in range(round(3 / step) + 1)]


# ------------------------------------------------------------------------------------------------ events

TIGHT = 1e-12


@pytest.mark.parametrize(
    ("flow", "integral"),
    [
        ("STEP(6, at)", lambda t, at: 6 * np.maximum(t - at, 0)),
        ("PULSE(at, 1.3)", lambda t, at: np.clip(t - at, 0, 1.3)),
        ("RAMP(2, at, at + 1.5)", lambda t, at: np.clip(t - at, 0, 1.5) ** 2 + 3 * np.maximum(t - at - 1.5, 0)),
        ("IF THEN ELSE(Time > at, 2, 5)", lambda t, at: 5 * np.minimum(t, at) + 2 * np.maximum(t - at, 0)),
        ("IF THEN ELSE(2 * Time - at <= at, 5, 2)", lambda t, at: 5 * np.minimum(t, at) + 2 * np.maximum(t - at, 0)),
        ("IF THEN ELSE(at / 2 < Time / 2, 2, 5)", lambda t, at: 5 * np.minimum(t, at) + 2 * np.maximum(t - at, 0)),
        ("MAX(Time - at, 0)", lambda t, at: np.maximum(t - at, 0) ** 2 / 2),
        ("MIN(at, Time)", lambda t, at: t**2 / 2 - np.maximum(t - at, 0) ** 2 / 2),
        ("ABS(at - Time)", lambda t, at: at**2 / 2 + (t - at) * np.abs(t - at) / 2),
        ("INTEGER(Time - at + 20)", lambda t, at: _integer(t - at + 20) - _integer(20 - at)),
        (
            "QUANTUM(Time - at + 21, 1.5)",
            lambda t, at: 2.25 * (_integer((t - at + 21) / 1.5) - _integer((21 - at) / 1.5)),
        ),
        (
            "IF THEN ELSE(GET TIME VALUE(0, 0.5, 0) > at + 0.5, 2, 5)",
            lambda t, at: 5 * np.minimum(t, at) + 2 * np.maximum(t - at, 0),
        ),
        ("MODULO(Time + 20 - at, 1.7)", lambda t, at: _saw(t + 20 - at, 1.7) - _saw(20 - at, 1.7)),
    ],
)
def test_events_between_save_points_are_integrated_exactly(read, flow, integral):
    """Whatever the tolerance: every step lies on one side, where these flows are polynomials of low order."""
    model = read(f"y = INTEG({flow}, 0)", "at = 1", stop=9, step=3)
    at = np.array([0.7, 2.25, 3.0, 3.3, 5.000001, 8.99])
    for tolerance in (1e-3, 1e-9):
        values, times = run(model, {"at": at}, tolerance=tolerance)
        for member, moment in enumerate(at):
            assert values[member] == pytest.approx(integral(times, moment), rel=TIGHT, abs=TIGHT)


def _integer(x):
    """Integral of INTEGER from 0."""
    whole = np.floor(x + 1e-9)
    return whole * (whole - 1) / 2 + whole * (x - whole)


def _saw(x, period):
    """Integral of MODULO from 0."""
    whole = np.floor(x / period + 1e-9)
    return whole * period**2 / 2 + (x - whole * period) ** 2 / 2


def test_pulse_trains(read):
    model = read("y = INTEG(PULSE TRAIN(first, 0.4, 1.7, 8), 0)", "first = 0", stop=12, step=4)
    first = np.array([0, 0.35, 2.0, 7.9, 8.1])
    values, times = run(model, {"first": first}, tolerance=1e-3)
    for member, begin in enumerate(first):
        starts = np.arange(begin, 8, 1.7)
        ends = np.minimum(starts + 0.4, 8)
        exact = [sum(np.clip(t - starts, 0, ends - starts)) for t in times]
        assert values[member] == pytest.approx(exact, rel=TIGHT, abs=TIGHT)


@pytest.mark.parametrize("function", ["TABBED", "TABXL", "JUMP"])
@pytest.mark.parametrize("argument", ["Time", "Time * 2 - lag", "8 - Time"])
def test_points_of_tables_over_time_are_events(read, function, argument):
    """The integral of a piecewise line is the sum of its pieces' parabolas, whatever the tolerance."""
    points = {
        "TABBED": "((0,1),(1.3,4),(2.9,-2),(6.1,0.5))",
        "TABXL": "((0,1),(0.5,4),(3.3,-2),(7.7,0.5),(12,2))",
        "JUMP": "((0,1),(2.2,1),(2.2,5),(4.4,5),(4.4,0),(9,3))",
    }[function]
    model = read(f"y = INTEG(f({argument}), 0)", f"f{points[0]}{points[1:-1]})", "lag = 0", stop=9, step=4.5)
    x, y = np.array(eval(points)).T  # noqa: S307 - the literal above
    lags = np.array([0.0, 0.8])
    values, times = run(model, {"lag": lags}, tolerance=1e-2)
    for member, lag in enumerate(lags):
        line = {"Time": (1, 0), "Time * 2 - lag": (2, -lag), "8 - Time": (-1, 8)}[argument]
        exact = [_table_integral(x, y, *line, t) for t in times]
        assert values[member] == pytest.approx(exact, rel=1e-9, abs=1e-9)


def _table_integral(x, y, slope, offset, t):
    """Of a clamped table of ``slope * time + offset`` from 0 to t, by the trapezoids between its points."""

    def antiderivative(value):
        total = (min(value, x[0]) - x[0]) * y[0] + max(value - x[-1], 0) * y[-1]
        for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False):
            if x1 > x0:
                width = np.clip(value, x0, x1) - x0
                total += width * (y0 + (y1 - y0) / (x1 - x0) * width / 2)
        return total

    return (antiderivative(slope * t + offset) - antiderivative(offset)) / slope


def test_seasonal_tables(read):
    """A table of MODULO(Time, 4) has the points of every season as events."""
    model = read(
        "y = INTEG(f(MODULO(Time, 4)), 0)", "f((0,1),(1,3),(3,0),(4,1))", "z = INTEG(hot, 0)",
        "hot = IF THEN ELSE(MODULO(Time, 4) < 1.5, 1, 0)", stop=24, step=6,
    )
    ds = vf.simulate(model, save=["y", "z"], method="dopri5", tolerance=1e-2)
    assert ds["y"].values[0] == pytest.approx(_seasons([0, 6, 12, 18, 24]), rel=TIGHT)
    assert ds["z"].values[0] == pytest.approx([0, 3, 4.5, 7.5, 9], rel=TIGHT)


def _seasons(times):
    x, y = np.array([0, 1, 3, 4.0]), np.array([1, 3, 0, 1.0])
    season = _table_integral(x, y, 1, 0, 4)
    return [season * (t // 4) + _table_integral(x, y, 1, 0, t % 4) for t in times]


def test_an_event_at_a_save_point_is_saved_as_after_it(read):
    """As with fixed steps, and also where rounding puts the save point just before the event."""
    for begin in (0.3, 0.7, 3, 3.3, 8.6):
        model = read(f"y = STEP(1, {begin})", "x = INTEG(y, 0)", step=0.1)
        values, times = run(model)
        assert values[0].tolist() == (np.round(times, 6) >= begin).tolist()
        fixed = vf.simulate(model, save="y", method="rk4")["y"].values
        assert values.tolist() == fixed.tolist()


def test_events_closer_than_rounding_are_one(read):
    model = read(
        "y = INTEG(STEP(1, 2.5) + STEP(1, at) + STEP(1, 4 - 1e-10) + STEP(1, 0 + 1e-10), 0)", "at = 1", stop=8, step=4
    )
    values, times = run(model, {"at": [2.5 + 1e-10, 2.5 - 1e-15]})
    exact = np.maximum(times - 2.5, 0) * 2 + np.maximum(times - 4, 0) + times
    assert values == pytest.approx(np.array([exact, exact]), abs=1e-8)


def test_a_switch_by_a_stock_is_found_by_the_error(read):
    """Its time is not known before; the error of the step that crosses it shortens the steps."""
    model = read("y = INTEG(IF THEN ELSE(x > 3.21, -5, 2), 0)", "x = INTEG(1, 0)", step=10)
    for tolerance in (1e-4, 1e-6, 1e-8):
        values, _ = run(model, tolerance=tolerance)
        assert values[0, -1] == pytest.approx(2 * 3.21 - 5 * 6.79, abs=1000 * tolerance)


# ------------------------------------------------------------------------------------ members stand alone


@pytest.fixture
def mixed(read):
    """Members that need very different steps, with events at different times."""
    return read(
        "y = INTEG(speed * (target - y) + f(Time), 1)", "target = STEP(4, at) + SIN(w * Time)", "speed = 1", "at = 1",
        "w = 1", "f((0,0),(2.5,1),(7,0))", step=2,
    )


DESIGN = {
    "speed": [0.1, 1, 30, 200, 2, 3, 4.4, 0.01, 9],
    "at": [0.3, 1, 2.5, 3, 3.3, 9, 12, -1, 4],
    "w": [0.1, 1, 2, 9, 30, 3, 0, 1, 1],
}


def test_no_member_moves_another(mixed):
    together, _ = run(mixed, DESIGN)
    for member in range(9):
        alone, _ = run(mixed, {name: [column[member]] for name, column in DESIGN.items()})
        assert alone[0].tobytes() == together[member].tobytes()
    backwards, _ = run(mixed, {name: column[::-1] for name, column in DESIGN.items()}, n_threads=2)
    assert backwards[::-1].tobytes() == together.tobytes()


def test_what_is_saved_or_varied_moves_no_bit(read, mixed):
    values, _ = run(mixed)
    ds = vf.simulate(mixed, {"at": 1, "w": 1}, method="dopri5")
    assert ds["y"].values.tobytes() == values.tobytes()
    equations = ["y = INTEG(1 - y, 0)", "fast = INTEG(50 * (SIN(Time) - fast), 0)", "seen = STEP(fast, 2.2)"]
    alone, _ = run(read(*equations))
    ds = vf.simulate(read(*equations), method="dopri5")
    assert ds["y"].values.tobytes() == alone.tobytes()


# -------------------------------------------------------------------------------------------- failures


def test_a_member_that_blows_up_is_flagged_and_leaves_the_others_alone(read):
    """y' = y^2 from y0 is infinite at 1 / y0."""
    model = read("y = INTEG(y * y, start)", "start = 1", stop=4, step=0.5)
    ds = vf.simulate(model, {"start": [0.1, 1 / 2.1, 1 / 1.3]}, save="y", method="dopri5", errors="flag")
    assert ds["status"].values.tolist() == [-1, 5, 3]
    assert np.isnan(ds["y"].values[1]).tolist() == [False] * 5 + [True] * 4
    assert np.isnan(ds["y"].values[2]).tolist() == [False] * 3 + [True] * 6
    exact = 0.1 / (1 - 0.1 * ds["time"].values)
    assert ds["y"].values[0] == pytest.approx(exact, rel=1e-5)
    with pytest.raises(SimulationError) as caught:
        vf.simulate(model, {"start": [0.1, 0.5]}, save="y", method="dopri5", save_every=4)
    for part in ("1 of 2 members", "member 1", "step underflow at time 2:", "'y'", "start = 0.5", 'errors="flag"'):
        assert part in str(caught.value), part


def test_a_stiff_member_runs_out_of_steps(read):
    model = read("y = INTEG(-k * (y - COS(Time)), 0)", "k = 1", stop=3)
    ds = vf.simulate(model, {"k": [1, 1e3, 1e7]}, save="y", method="dopri5", errors="flag")
    assert ds["status"].values.tolist() == [-1, -1, 1]
    with pytest.raises(SimulationError, match=r"member 0: too many steps between two save points, at time .*: 'y'"):
        vf.simulate(model, {"k": [1e7]}, save="y", method="dopri5")


@pytest.mark.parametrize(
    ("equations", "status", "message"),
    [
        (["y = INTEG(a, 1)", "a = LN(-p)"], 0, "'a' is nan at time 0 with p = 2"),
        (["y = INTEG(SQRT(p - 0.7 - Time), 1)"], 3, "step underflow at time 1.3"),
        (["y = INTEG(1, 0)", "a = SQRT(p - 0.3 - y)"], 4, "'a' is nan at time 2 with"),
        (["y = INTEG(1e200 * 1e200 * p, 0)"], 0, "the net flow of 'y' is not finite at time 0"),
        (["y = INTEG(1, LN(-p))"], 0, "'y' is nan at time 0"),
        (["y = INTEG(PULSE(1, p - 2), 0)"], 0, "the net flow of 'y' is not finite at time 0"),
    ],
)
def test_failures_are_named(read, equations, status, message):
    model = read(*equations, "p = 2", stop=3, step=0.5)
    arguments = {"save": ["y"] + ["a"] * (len(equations) > 1), "method": "rk45"}
    ds = vf.simulate(model, {"p": [2]}, errors="flag", **arguments)
    assert ds["status"].values.tolist() == [status]
    with pytest.raises(SimulationError, match=message.replace(".", r"\.")):
        vf.simulate(model, {"p": [2]}, **arguments)


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("equations", "what"),
    [
        (["y = DELAY FIXED(Time, 2, 0)"], "'y' uses DELAY FIXED"),
        (["y = SAMPLE IF TRUE(Time > 3, 1, 0)"], "'y' uses SAMPLE IF TRUE"),
        (["y = x", "x = 1 / TIME STEP"], "'x' uses TIME STEP"),
        (["y = INTEG(1, TIME STEP)"], "'y' uses TIME STEP"),
        (["y = 1", "x = INTEG(DELAY FIXED(Time, 2, 0), 0)"], "'x' uses DELAY FIXED"),
        (["y = x * 2", "x = RANDOM UNIFORM(0, 1, 0)"], "'x' uses a random function"),
        (["y = INTEG(0, x)", "x = RANDOM NORMAL(0, 5, 1, 1, 0)"], "'x' uses a random function"),
        (["y = DELAY N(Time, 2, 0, 3)"], "'y' uses TIME STEP"),
        (["y = PULSE(3, 0)"], "'y' uses a PULSE of width 0"),
        (["y = STEP(1, x)", "x = INTEG(1, 0)"], "'y' uses STEP at times that depend on a stock"),
        (["y = RAMP(1, x, 5)", "x = INTEG(1, 0)"], "'y' uses RAMP at times"),
        (["y = PULSE(x, 2)", "x = INTEG(1, 0)"], "'y' uses PULSE at times"),
        (["y = PULSE TRAIN(0, 1, x, 9)", "x = INTEG(1, 1)"], "'y' uses PULSE TRAIN at times"),
        (["y = STEP(1, Time + 1)"], "'y' uses STEP at times"),
        (["y = IF THEN ELSE(Time = 5, 1, 0)"], "'y' uses a test whether time equals a value"),
        (["y = IF THEN ELSE(MODULO(Time, 5) <> 0, 1, 0)"], "'y' uses a test whether time equals a value"),
    ],
)
def test_what_goes_by_the_time_step_is_refused_by_name(read, equations, what):
    model = read(*equations)
    with pytest.raises(UnsupportedError) as caught:
        vf.simulate(model, save="y", method="dopri5")
    assert what in str(caught.value)
    assert "method euler or rk4" in str(caught.value)
    vf.simulate(model, save="y", method="rk4", errors="flag")


def test_a_series_in_place_of_a_random_variable_is_refused(read):
    model = read("y = INTEG(x, 0)", "x = RANDOM UNIFORM(0, 1, 0)", stop=3)
    with pytest.raises(UnsupportedError, match="'x' uses a supplied series, which has one value for each time step"):
        vf.simulate(model, noise={"x": [1, 2, 3, 4]}, method="dopri5")


def test_several_refusals_are_listed_together(read):
    model = read("y = DELAY FIXED(x, 2, 0)", "x = TIME STEP * SAMPLE IF TRUE(1, 2, 3)")
    with pytest.raises(UnsupportedError, match=r"'y' uses DELAY FIXED.*'x' uses (TIME STEP|SAMPLE).*; 'x' uses"):
        vf.simulate(model, method="dopri5")


def test_what_nothing_needs_is_not_refused(read):
    values, times = run(read("y = INTEG(1, 0)", "x = DELAY FIXED(y, 2, 0)", "z = STEP(1, TIME STEP * 2)"))
    assert values[0] == pytest.approx(times)


def test_steps_that_time_decides_may_be_compared(read):
    model = read("y = INTEG(IF THEN ELSE(INTEGER(Time) = 3, 1, 0), 0)", step=5)
    assert run(model)[0][0] == pytest.approx([0, 1, 1], rel=TIGHT)


@pytest.mark.parametrize(
    ("name", "method"), [("RK45", "dopri5"), ("RK4 Auto", "dopri5"), ("rk4_auto", "dopri5"), ("RK4 Fixed", "rk4")]
)
def test_names_of_other_programs(read, name, method):
    assert vf.simulate(read("y = INTEG(1, 0)"), method=name).attrs["method"] == method


@pytest.mark.parametrize("name", ["gear", "rk2", "RK2 Auto", "Diff", "leapfrog", ""])
def test_methods_that_are_not_offered(read, name):
    with pytest.raises(DesignError, match=r"method is '.*', which is not supported.*; give method= one of euler, rk4"):
        vf.simulate(read("y = INTEG(1, 0)"), method=name)


@pytest.mark.parametrize("tolerance", [0, -1, np.nan, np.inf, "tight", (1e-3,), (1e-3, 0), (1, 2, 3)])
def test_tolerances_that_are_none(read, tolerance):
    with pytest.raises(DesignError, match="tolerance is"):
        vf.simulate(read("y = INTEG(1, 0)"), method="dopri5", tolerance=tolerance)


def test_tolerance_is_for_steps_of_variable_length(read):
    with pytest.raises(DesignError, match="tolerance is for method"):
        vf.simulate(read("y = INTEG(1, 0)"), tolerance=1e-3)
    ds = vf.simulate(read("y = INTEG(1, 0)"), method="dopri5", tolerance=(1e-3, 1e-5))
    assert (ds.attrs["relative_tolerance"], ds.attrs["absolute_tolerance"]) == (1e-3, 1e-5)
