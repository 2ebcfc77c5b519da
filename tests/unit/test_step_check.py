"""Halving the time step: what changes, by how much, where, and when it is enough."""

from __future__ import annotations

import math

import numpy as np
import pytest

import villageflow as vf
from villageflow.errors import DesignError

CONTROLS = "INITIAL TIME = 0 ~~|\nFINAL TIME = {stop} ~~|\nTIME STEP = {step} ~~|\nSAVEPER = {save} ~~|\n"


@pytest.fixture
def read(tmp_path):
    def read_equations(*equations, stop=8, step=0.5, save="TIME STEP"):
        path = tmp_path / "m.mdl"
        path.write_text("{UTF-8}\n" + " ~~|\n".join([*equations, CONTROLS.format(stop=stop, step=step, save=save)]))
        return vf.read_model(path)

    return read_equations


def test_changes_are_those_of_the_runs(read):
    """The table against runs made and compared by hand."""
    model = read("y = INTEG(-k * y, 1)", "k = 0.5", "x = y * 3", save=2)
    found = vf.step_check(model, {"k": [0.5, 0.9]}, tolerance=1e-4, halvings=3)
    assert not found.met
    assert found.step is None
    runs = [
        vf.simulate(model, {"k": [0.5, 0.9]}, save="y", time_step=0.5 / 2**n)["y"].values for n in range(4)
    ]
    for n, row in enumerate(found.halvings):
        change = np.abs(runs[n] - runs[n + 1]) / np.maximum(runs[n], runs[n + 1]).max(axis=1, keepdims=True)
        member, point = np.unravel_index(np.argmax(change), change.shape)
        assert (row.step, row.member, row.time) == (0.5 / 2**n, member, 2.0 * point)
        assert row.change == pytest.approx(change.max(), rel=1e-12)
        assert row.variable in ("y", "x")
        assert row.failed == 0


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("rk4", 4)])
def test_observed_order_is_the_method_s(read, method, order):
    model = read("y = INTEG(v, 1)", "v = INTEG(-1.69 * y, 0)", step=0.0625)
    found = vf.step_check(model, tolerance=1e-30, method=method, halvings=4)
    assert found.method == method
    assert math.isnan(found.halvings[0].order)
    assert [row.order for row in found.halvings[1:]] == pytest.approx([order] * 3, abs=0.2)


def test_the_first_step_that_is_enough_is_recommended(read):
    model = read("y = INTEG(-0.5 * y, 1)", save=1)
    found = vf.step_check(model, tolerance=0.01)
    changes = [row.change for row in found.halvings]
    assert found.met
    assert found.step == found.halvings[-1].step == 0.5 / 2 ** (len(changes) - 1)
    assert changes[-1] < 0.01 <= changes[-2]
    again = vf.step_check(model, tolerance=0.01, time_step=found.step)
    assert again.step == found.step
    assert "the step is short enough" in repr(again)
    exact = np.exp(-0.5 * np.arange(9))
    values = vf.simulate(model, save="y", time_step=found.step)["y"].values[0]
    assert np.abs(values - exact).max() < 2.1 * changes[-1]


def test_what_goes_by_the_step_never_converges(read):
    """A pulse of one step is half as long with half of the step."""
    found = vf.step_check(read("y = INTEG(PULSE(2, 0), 0)"), tolerance=0.1, halvings=4)
    assert [row.change for row in found.halvings] == pytest.approx([0.5] * 4)
    assert not found.met
    assert "not met: halving a step of 0.0625 still changes results by 0.5" in repr(found)
    delayed = vf.step_check(read("y = DELAY FIXED(Time, 0.75, 0)"), tolerance=1e-9, halvings=4)
    assert delayed.met
    assert delayed.step == 0.25


def test_the_check_is_not_met_while_a_member_is_not_finite(read):
    """Explicit Euler is unstable for steps longer than 2 / k, and overflows."""
    model = read("y = INTEG(-k * y, 1)", "k = 1", step=1, stop=2000, save=100)
    found = vf.step_check(model, {"k": [0.1, 6]}, tolerance=0.5)
    assert [row.failed for row in found.halvings] == [1, 1, 0]
    assert all(row.change < 1e-3 for row in found.halvings)
    assert found.met
    assert found.step == 0.25
    stopped = vf.step_check(model, {"k": [0.1, 6]}, tolerance=0.5, halvings=2)
    assert not stopped.met
    assert "not met: 1 runs are not finite with a step of 0.5 or half of it" in repr(stopped)


def test_a_model_that_always_fails(read):
    found = vf.step_check(read("y = INTEG(LN(k) - y, 1)", "k = 1"), {"k": [-1]}, tolerance=0.2, halvings=2)
    assert not found.met
    assert [row.change for row in found.halvings] == [math.inf] * 2
    assert "not met" in repr(found)


def test_scenarios_are_members_too(read):
    model = read("y = INTEG(-k * y, 1)", "k = 0.1", save=1)
    design = vf.Design.grid(k=[0.1, 0.2]).with_scenarios({"slow": {"k": 0.1}, "fast": {"k": 1.5}})
    found = vf.step_check(model, design, tolerance=1e-6, halvings=1)
    assert found.halvings[0].change == vf.step_check(model, {"k": 1.5}, tolerance=1e-6, halvings=1).halvings[0].change


def test_elements_of_arrays_are_compared_one_by_one(read):
    model = read("d: slow, fast", "y[d] = INTEG(-k[d] * y[d], 1)", "k[d] = 0.1, 1.5", save=1)
    found = vf.step_check(model, tolerance=1e-6, halvings=1)
    alone = vf.step_check(read("y = INTEG(-k * y, 1)", "k = 1.5", save=1), tolerance=1e-6, halvings=1)
    assert found.halvings[0].variable == "y[fast]"
    assert found.halvings[0].change == alone.halvings[0].change


def test_save_points_that_only_some_steps_have(read):
    """Every 1.25 with a step of 0.5 is saved at 0, 1.5, 2.5, 4, 5, 6.5, 7.5; only common times are compared.

    With a step of h the integral of the integral of 1 is t (t - h) / 2.
    """
    found = vf.step_check(read("y = INTEG(1, 0)", "x = INTEG(y, 0)", save=1.25), tolerance=1e-9, halvings=2)
    assert [row.change for row in found.halvings] == pytest.approx([0.25 / (7.5 - 0.25), 0.125 / (7.5 - 0.125)])
    assert [(row.variable, row.time) for row in found.halvings] == [("x", 7.5)] * 2


def test_a_result_that_never_changes(read):
    found = vf.step_check(read("y = 3", "x = INTEG(0, 0)", "z = y"))
    assert found.met
    assert found.halvings[0].change == 0
    assert found.halvings[0].variable == ""


def test_as_a_table(read):
    frame = vf.step_check(read("y = INTEG(-y, 1)"), tolerance=0.02).to_frame()
    assert list(frame.columns) == ["step", "change", "variable", "member", "time", "order", "failed"]
    assert frame["step"].tolist() == [0.5 / 2**n for n in range(len(frame))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "dopri5"}, "chooses its own steps"),
        ({"method": "gear"}, "not supported"),
        ({"tolerance": 0}, "tolerance is 0"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"halvings": 0}, "from 1 to 20"),
        ({"halvings": 21}, "from 1 to 20"),
        ({"time_step": -1}, "greater than 0"),
    ],
)
def test_settings_that_do_not_fit(read, arguments, message):
    with pytest.raises(DesignError, match=message):
        vf.step_check(read("y = INTEG(1, 0)"), **arguments)
