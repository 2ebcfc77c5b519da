"""The verb `simulate`: labelled results, failures as data, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow.ensemble.simulate import time_grid
from villageflow.errors import DesignError, SimulationError

CONTROLS = """
INITIAL TIME = 0 ~ Week ~|
FINAL TIME = 6 ~ Week ~|
TIME STEP = 0.5 ~ Week ~|
SAVEPER = 1 ~ Week ~|
"""
GROWTH = """{UTF-8}
Open Stores = INTEG(entry - exit, start) ~ store [0, ?] ~ Stores that sell. |
entry = rate * Open Stores ~ store/Week ~ New stores. |
exit = Open Stores / life ~ store/Week ~|
rate = 0.5 ~ 1/Week [-2, 2] ~ Growth. |
life = 10 ~ Week ~|
start = 8 ~ store ~|
table((0,0),(10,1)) ~~|
share = table(Open Stores) ~ dmnl ~|
"""
# doubles each step and then some: finite until 8e300 * 3^k overflows
BLOWUP = """{UTF-8}
x = INTEG(gain * x, start) ~~|
gain = 4 ~~|
start = 1e300 ~~|
calm = 1 ~~|
root = SQRT(limit - x) ~~|
limit = 1 ~~|
"""


@pytest.fixture
def read(tmp_path):
    def make(text, name="growth.mdl"):
        path = tmp_path / name
        path.write_text(text + CONTROLS)
        return vf.read_model(path)

    return make


@pytest.fixture
def model(read):
    return read(GROWTH)


# --------------------------------------------------------------------------------------------- labels


def test_default_result_is_one_member_with_every_stock_and_auxiliary(model):
    ds = vf.simulate(model)
    assert set(ds.data_vars) == {"open_stores", "entry", "exit", "share", "status"}
    assert dict(ds.sizes) == {"member": 1, "time": 7}
    assert ds["open_stores"].dims == ("member", "time")
    assert ds["time"].values.tolist() == list(range(7))
    assert ds["open_stores"].values[0, 0] == 8
    step = 1 + 0.5 * (0.5 - 0.1)
    assert ds["open_stores"].values[0, 1] == pytest.approx(8 * step**2, rel=1e-14)


def test_variables_carry_unit_name_and_text(model):
    ds = vf.simulate(model, {"rate": 0.1})
    assert ds["open_stores"].attrs == {
        "long_name": "Open Stores",
        "units": "store",
        "description": "Stores that sell.",
        "kind": "stock",
    }
    assert ds["rate"].attrs["units"] == "1/Week"
    assert ds["rate"].attrs["kind"] == "constant"
    assert ds["time"].attrs == {"long_name": "Time", "units": "Week"}
    assert ds["status"].dtype == np.int32
    assert "-1 = finished" in ds["status"].attrs["long_name"]


def test_varied_parameters_are_coordinates(model):
    ds = vf.simulate(model, {"rate": [0.1, 0.2], "life": 5}, save="open stores")
    assert set(ds.coords) == {"member", "time", "rate", "life"}
    assert ds["rate"].dims == ("member",)
    assert ds["life"].values.tolist() == [5, 5]


def test_saved_parameter_is_a_variable(model):
    ds = vf.simulate(model, {"rate": [0.1, 0.2]}, save=["rate", "time_step", "life"])
    assert ds["rate"].dims == ("member", "time")
    assert ds["rate"].values[:, 3].tolist() == [0.1, 0.2]
    assert set(ds["time_step"].values.ravel()) == {0.5}
    assert set(ds["life"].values.ravel()) == {10}


def test_saves_in_any_spelling_are_kept_once_in_order(model):
    ds = vf.simulate(model, save=["Entry", "OPEN_STORES", "entry"])
    assert [name for name in ds.data_vars if name != "status"] == ["entry", "open_stores"]
    assert set(vf.simulate(model, save="Entry").data_vars) == {"entry", "status"}
    assert set(vf.simulate(model, save=[]).data_vars) == {"status"}


def test_provenance_is_complete_and_reproducible(model):
    ds = vf.simulate(model, vf.Design.grid(rate=[0.1, 0.2]))
    assert ds.attrs == vf.simulate(model, vf.Design.grid(rate=[0.1, 0.2])).attrs
    assert ds.attrs["model"] == "growth"
    assert (
        len(ds.attrs["model_sha256"])
        == len(ds.attrs["program_sha256"])
        == len(ds.attrs["design_sha256"])
        == 64
    )
    assert (ds.attrs["method"], ds.attrs["design"]) == ("euler", "grid")
    assert [ds.attrs[k] for k in ("initial_time", "final_time", "time_step", "save_every")] == [0, 6, 0.5, 1]
    other = vf.simulate(model, vf.Design.grid(rate=[0.1, 0.3]))
    assert ds.attrs["design_sha256"] != other.attrs["design_sha256"]
    assert ds.attrs["program_sha256"] == other.attrs["program_sha256"]
    assert vf.simulate(model, method="rk4").attrs["method"] == "rk4"


def test_result_survives_storage(model, tmp_path):
    ds = vf.simulate(model, vf.Design.grid(rate=[0.1, 0.2]).with_scenarios({"a": {}, "b": {"life": 3}}))
    ds.to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    import xarray as xr

    with xr.open_dataset(tmp_path / "r.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), ds)


# ------------------------------------------------------------------------------------------- settings


def test_time_settings_replace_those_of_the_file(model):
    ds = vf.simulate(model, time_step=0.25, final_time=3, save_every=0.5, method="rk4", save="open stores")
    assert ds["time"].values.tolist() == [k / 2 for k in range(7)]
    assert ds["open_stores"].values[0] == pytest.approx(8 * np.exp(0.4 * ds["time"].values), rel=1e-6)
    assert time_grid(model).n_steps == 12


def test_time_step_given_reaches_equations_that_use_it(read):
    model = read("y = TIME STEP * 2 ~~|\nz = FINAL TIME + SAVEPER ~~|")
    ds = vf.simulate(model, time_step=0.25, final_time=9, save_every=3)
    assert set(ds["y"].values.ravel()) == {0.5}
    assert set(ds["z"].values.ravel()) == {12}


def test_controls_that_depend_on_each_other_follow(read, tmp_path):
    path = tmp_path / "c.mdl"
    path.write_text(
        "y = 1 ~~|\nINITIAL TIME = 2 ~~|\nFINAL TIME = INITIAL TIME + years ~~|\nyears = 3 ~~|\n"
        "TIME STEP = 1/4 ~~|\nSAVEPER = 2 * TIME STEP ~~|"
    )
    model = vf.read_model(path)
    assert vf.simulate(model)["time"].values.tolist() == [2, 2.5, 3, 3.5, 4, 4.5, 5]
    assert vf.simulate(model, time_step=1)["time"].values.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"time_step": 0}, "time step is 0.0"),
        ({"time_step": -1}, "time step is -1.0"),
        ({"time_step": np.nan}, "time step is nan"),
        ({"time_step": "small"}, "'small'"),
        ({"time_step": [1, 2]}, "set by numbers"),
        ({"final_time": -1}, "lies before"),
        ({"final_time": np.inf}, "finite"),
        ({"save_every": 0}, "saving period is 0.0"),
        ({"method": "rk5"}, "'rk5', which is not supported; give method= one of euler, rk4"),
        ({"errors": "ignore"}, "errors is 'ignore'"),
        ({"n_threads": 0}, "n_threads is 0"),
        ({"n_threads": -2}, "n_threads is -2"),
        ({"save": ["stores"]}, "no variable 'stores'. Did you mean 'open_stores'"),
        ({"save": ["table"]}, "'table' is a lookup"),
        ({"save": "time"}, "no variable 'time'"),
        ({"design": {"rat": 1}}, "no constant 'rat'. Did you mean 'rate'"),
        ({"design": {"open stores": 1}}, "is a stock"),
        ({"design": {"rate": 3}}, "outside the limits"),
    ],
)
def test_refused_settings(model, arguments, match):
    with pytest.raises(DesignError, match=match) as caught:
        vf.simulate(model, **arguments)
    assert len(str(caught.value).splitlines()) == 1


def test_result_that_does_not_fit_into_memory_is_refused(model):
    with pytest.raises(DesignError, match="GB; name fewer variables"):
        vf.simulate(model, vf.Design.grid(rate=np.zeros(1000)), time_step=1e-5, save_every=1e-5)


@pytest.mark.parametrize("name", ["status", "member", "scenario"])
def test_variable_called_like_a_part_of_the_result(read, name):
    model = read(f"{name} = INTEG(1, 0) ~~|\ny = 2 * 2 ~~|")
    with pytest.raises(DesignError, match=f"called '{name}'"):
        vf.simulate(model)
    assert vf.simulate(model, save=["y"])["y"].values[0, 0] == 4


@pytest.mark.parametrize("name", ["status", "member", "scenario"])
def test_parameter_called_like_a_part_of_the_result(read, name):
    model = read(f"{name} = 3 ~~|\ny = {name} * 2 ~~|")
    with pytest.raises(DesignError, match=f"'{name}'"):
        vf.simulate(model, {name: [1, 2]}, save=["y"])


def test_progress_is_told_from_the_calling_thread(model):
    import threading

    for n_threads in (1, 2):
        told = []
        vf.simulate(
            model,
            {"rate": np.linspace(0, 1, 600)},
            n_threads=n_threads,
            progress=lambda done, total, told=told: told.append((done, total, threading.current_thread())),
        )
        assert [done for done, _, _ in told] == [256, 512, 600]
        assert {total for _, total, _ in told} == {600}
        assert {thread for _, _, thread in told} == {threading.current_thread()}


def test_error_in_a_progress_callback_reaches_the_caller(model):
    class StopError(Exception):
        pass

    def stop(done, total):
        raise StopError

    with pytest.raises(StopError):
        vf.simulate(model, {"rate": np.linspace(0, 1, 300)}, n_threads=2, progress=stop)


def test_model_and_design_are_not_written_to(model):
    frame = pd.DataFrame({"rate": [0.1, 0.2]})
    before, constants = frame.copy(), dict(model.constants)
    first = vf.simulate(model, frame)
    first["open_stores"].values[:] = 0
    pd.testing.assert_frame_equal(frame, before)
    assert model.constants == constants
    assert vf.simulate(model, frame)["open_stores"].values[0, 0] == 8


# ------------------------------------------------------------------------------------------ scenarios


def test_scenarios_share_their_members(model):
    design = vf.Design.grid(rate=[0.1, 0.2, 0.3]).with_scenarios(
        {"base": {}, "short": {"life": 4}, "fast": {"rate": 1.5}}
    )
    ds = vf.simulate(model, design, save="open stores")
    assert dict(ds.sizes) == {"scenario": 3, "member": 3, "time": 7}
    assert ds["open_stores"].dims == ("scenario", "member", "time")
    assert ds["scenario"].values.tolist() == ["base", "short", "fast"]
    assert ds["rate"].values.tolist() == [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [1.5, 1.5, 1.5]]
    assert ds["life"].values.tolist() == [[10] * 3, [4] * 3, [10] * 3]
    assert ds["status"].dims == ("scenario", "member")
    for scenario, changes in design.scenarios.items():
        alone = vf.simulate(
            model, pd.DataFrame({"rate": [0.1, 0.2, 0.3]}).assign(**changes), save="open stores"
        )
        assert (
            ds["open_stores"].sel(scenario=scenario).values.tobytes() == alone["open_stores"].values.tobytes()
        )


def test_scenario_of_a_parameter_nobody_varies(model):
    ds = vf.simulate(model, vf.Design.grid(rate=[0.1]).with_scenarios({"a": {"Start": 2}, "b": {}}))
    assert ds["open_stores"].values[:, 0, 0].tolist() == [2, 8]


# ------------------------------------------------------------------------------------------- failures


def hand_steps(gain, start=1e300, step=0.5):
    x, k = start, 0
    while np.isfinite(x):
        x, k = x + step * (gain * x), k + 1
    return k


def test_flagged_members_say_the_first_bad_step(read):
    gains = [0.0, 4.0, 40.0, 1e9]
    ds = vf.simulate(read(BLOWUP), {"gain": gains}, save="x", errors="flag", final_time=20)
    expected = [-1, *(hand_steps(gain) for gain in gains[1:])]
    assert ds["status"].values.tolist() == expected
    assert expected[1:] == [18, 7, 1]
    assert np.isfinite(ds["x"].values[0]).all()
    for member, first in enumerate(expected[1:], start=1):
        assert np.isfinite(ds["x"].values[member, ds["time"].values < first * 0.5]).all()
        assert not np.isfinite(ds["x"].values[member, ds["time"].values >= first * 0.5]).any()


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_failure_at_the_start_is_step_zero(read, method):
    model = read("x = INTEG(1, SQRT(a)) ~~|\na = 4 ~~|")
    ds = vf.simulate(model, {"a": [4, -1, 0]}, errors="flag", method=method)
    assert ds["status"].values.tolist() == [-1, 0, -1]


def test_failure_of_a_saved_auxiliary_is_flagged(read):
    ds = vf.simulate(read(BLOWUP), {"gain": 0, "limit": [5.0], "start": 7}, save="root", errors="flag")
    assert ds["status"].values.tolist() == [0]
    model = read("y = 1 / (Time - at) ~~|\nat = 3 ~~|")
    ds = vf.simulate(model, {"at": [3, 5, -1]}, errors="flag")
    assert ds["status"].values.tolist() == [6, 10, -1]


def test_failed_member_leaves_the_others_alone(read):
    model = read(BLOWUP)
    mixed = vf.simulate(model, {"gain": [1.0, 1e9, 2.0]}, save="x", errors="flag")
    alone = vf.simulate(model, {"gain": [1.0, 2.0]}, save="x")
    assert mixed["x"].values[[0, 2]].tobytes() == alone["x"].values.tobytes()


def test_failure_is_raised_with_member_parameters_variable_and_time(read):
    with pytest.raises(SimulationError) as caught:
        vf.simulate(read(BLOWUP), {"gain": [1.0, 40.0, 1e9], "calm": [5, 6, 7]}, save=["x", "calm"])
    message = str(caught.value)
    for part in (
        "2 of 3 members",
        "member 1",
        "'x' is inf",
        "time 3.5",
        "step 7",
        "gain = 40",
        "calm = 6",
        'errors="flag"',
    ):
        assert part in message, part
    assert len(message.splitlines()) == 1


def test_failure_names_the_auxiliary_that_a_stock_caught_it_from(read):
    model = read("s = INTEG(inflow, 0) ~~|\ninflow = 1 / (Time - at) ~~|\nat = 3 ~~|\nother = LN(-1) ~~|")
    with pytest.raises(SimulationError, match=r"'inflow' is inf at time 2.5 .step 5."):
        vf.simulate(model, {"at": [2.5]}, save=["s"])


def test_failure_names_the_scenario(read):
    design = vf.Design.grid(calm=[1, 2]).with_scenarios({"mild": {"gain": 1}, "wild": {"gain": 1e9}})
    with pytest.raises(
        SimulationError, match=r"member 0, scenario 'wild': 'x' is inf at time 0.5 .step 1. with"
    ):
        vf.simulate(read(BLOWUP), design, save="x")


def test_failure_inside_a_smooth_names_its_owner(read):
    model = read("slow = SMOOTH(a, tau) ~~|\na = 1 ~~|\ntau = 1 ~~|\ny = slow * 2 ~~|")
    with pytest.raises(SimulationError, match=r"'slow' is nan at time 0\.5"):
        vf.simulate(model, {"tau": [1, 0]}, save="y")


def test_many_failures_are_each_traced(read):
    gains = np.array([4.0, 40.0, 1e9] * 50)
    ds = vf.simulate(read(BLOWUP), {"gain": gains}, save="x", errors="flag", final_time=20)
    assert ds["status"].values.tolist() == [18, 7, 1] * 50


def test_an_auxiliary_counts_where_it_is_saved(read):
    model = read("y = 1 / (Time - at) ~~|\nat = 3 ~~|")
    often = vf.simulate(model, {"at": [2.5]}, errors="flag", save_every=0.5)
    seldom = vf.simulate(model, {"at": [2.5]}, errors="flag", save_every=1)
    assert often["status"].values.tolist() == [5]
    assert seldom["status"].values.tolist() == [-1]
    assert np.isfinite(seldom["y"]).all()


def test_a_stock_counts_at_every_step(read):
    model = read("s = INTEG(1 / (Time - at), 0) ~~|\nat = 3 ~~|")
    for save_every in (0.5, 1, 2):
        status = vf.simulate(model, {"at": [2.5]}, errors="flag", save_every=save_every)["status"]
        assert status.values.tolist() == [6]
