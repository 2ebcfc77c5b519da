"""Exogenous series in place of auxiliaries: for all members or one each, exact, differentiated, refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import villageflow as vf
from villageflow.errors import DesignError

MODEL = """{UTF-8}
stock = INTEG(flow, start) ~ thing ~|
flow = rate * driver ~ thing/Year ~|
driver = 2 + STEP(1, 3) ~ thing ~|
rate = 0.5 ~ 1/Year ~|
start = 1 ~ thing ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 5 ~ Year ~|
TIME STEP = 0.5 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "driven.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


YEARS = np.arange(6.0)
DRIVER = pd.DataFrame({0: YEARS + 1, 1: YEARS * 0, 2: YEARS**2}, index=YEARS)
DESIGN = {"rate": [0.5, 1.0, 0.25]}


def test_each_member_follows_its_own_series_held_from_year_to_year(model):
    ds = vf.simulate(model, DESIGN, inputs={"Driver": DRIVER}, save=["stock", "driver"])
    assert_array_equal(ds["driver"], DRIVER.T)
    before = np.vstack([np.zeros(3), np.cumsum(DRIVER.to_numpy()[:-1], axis=0)]).T
    assert_allclose(ds["stock"], 1 + np.array([[0.5], [1.0], [0.25]]) * before)
    assert ds.attrs["noise_given"] == "driver"


def test_a_member_alone_has_the_same_bits(model):
    together = vf.simulate(model, DESIGN, inputs={"driver": DRIVER}, save=["stock"])
    alone = vf.simulate(model, {"rate": 0.25}, inputs={"driver": DRIVER[2]}, save=["stock"])
    assert_array_equal(together["stock"][2], alone["stock"][0])


def test_one_series_serves_all_members_and_what_is_supplied_no_longer_moves(model):
    ds = vf.simulate(model, DESIGN, inputs={"driver": np.full(11, 4.0)}, save=["stock"])
    assert_allclose(ds["stock"][:, -1], 1 + 20 * np.array([0.5, 1.0, 0.25]))
    plain = vf.simulate(model, DESIGN, save=["stock"])
    assert not np.allclose(plain["stock"], ds["stock"])


def test_derivatives_are_those_of_the_driven_path(model):
    found = vf.jacobian(model, ["rate", "start"], DESIGN, inputs={"driver": DRIVER}, save=["stock"])["stock"]
    ds = vf.simulate(model, DESIGN, inputs={"driver": DRIVER}, save=["stock"])["stock"]
    rates = np.array([[0.5], [1.0], [0.25]])
    assert_allclose(found.sel(parameter="rate"), (ds - 1) / rates)
    assert (found.sel(parameter="start") == 1).all()


def test_quantiles_take_inputs_too(model):
    ds = vf.summarize(model, pd.DataFrame(DESIGN), save=["stock"], quantiles=[0.5], inputs={"driver": DRIVER})
    runs = vf.simulate(model, DESIGN, inputs={"driver": DRIVER}, save=["stock"])["stock"]
    assert_allclose(np.ravel(ds["stock"]), np.quantile(runs, 0.5, axis=0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rate": DRIVER}, "'rate', a constant .* set it in the design"),
        ({"stock": DRIVER}, "'stock', no auxiliary"),
        ({"drivr": DRIVER}, "Did you mean 'driver'"),
        ({"time step": DRIVER}, "part of the time grid"),
        ({"driver": DRIVER.iloc[:3]}, "inputs for 'driver' runs from 0 to 2; the run needs it from 0 to 5"),
        ({"driver": DRIVER, "Driver": DRIVER}, "twice, or in two spellings"),
        ({"driver": DRIVER[[0, 1]]}, "has the shape"),
        ({"driver": DRIVER.where(DRIVER < 20)}, "nan at step"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(model, given, said):
    with pytest.raises(DesignError, match=said):
        vf.simulate(model, DESIGN, inputs=given)
