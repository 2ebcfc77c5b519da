"""The verb `summarize`: exact quantiles of what is never kept whole, the same from any threads, chunks and sample."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import villageflow as vf
from villageflow.ensemble import summarize as module
from villageflow.errors import DesignError, SimulationError

GROWTH = """{UTF-8}
stores = INTEG(rate * stores, start) ~ store ~|
rate = 0.5 ~ 1/Week ~|
start = 8 ~ store ~|
steps = INTEGER(rate * 3) ~~|
same = start * 0 + 2 ~~|
root = SQRT(rate) * stores ~~|
INITIAL TIME = 0 ~ Week ~|
FINAL TIME = 3 ~ Week ~|
TIME STEP = 0.5 ~ Week ~|
SAVEPER = 1 ~ Week ~|
"""
LEVELS = (0.001, 0.05, 0.37, 0.5, 0.9, 0.9999)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "growth.mdl"
    path.write_text(GROWTH)
    return vf.read_model(path)


def draws(n, low=0.0, high=1.0):
    rng = np.random.default_rng(5)
    return pd.DataFrame({"rate": rng.uniform(low, high, n), "start": rng.lognormal(2.0, 1.0, n)})


def expected(full, name, levels=LEVELS):
    kept = full[name].isel(member=(full["status"] == -1).to_numpy())
    return np.quantile(kept.to_numpy(), levels, axis=0, method="hazen")


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 1000, 20_000])
def test_quantiles_are_those_of_numpy_to_the_last_bit(model, n):
    full = vf.simulate(model, draws(n), save=["stores", "steps", "same"])
    found = vf.summarize(model, draws(n), quantiles=LEVELS, save=["stores", "steps", "same"])
    for name in ("stores", "steps", "same"):
        np.testing.assert_array_equal(found[name].to_numpy(), expected(full, name))
        np.testing.assert_allclose(found[f"{name}_mean"], full[name].mean("member"), rtol=1e-13)
    assert int(found["finished"]) == found.attrs["n_members"] == n


def test_members_in_order_of_their_result_give_the_same(model):
    table = draws(5000).sort_values("start")
    full = vf.simulate(model, table, save="stores")
    found = vf.summarize(model, table, quantiles=LEVELS, save="stores")
    np.testing.assert_array_equal(found["stores"].to_numpy(), expected(full, "stores"))


def test_threads_and_chunks_move_no_quantile(model, monkeypatch):
    once = vf.summarize(model, draws(3000), quantiles=LEVELS, n_threads=1)
    xr.testing.assert_identical(vf.summarize(model, draws(3000), quantiles=LEVELS, n_threads=3), once)
    monkeypatch.setattr(module, "_CHUNK", (100, 100))
    chunked = vf.summarize(model, draws(3000), quantiles=LEVELS)
    for name in ("stores", "root"):
        np.testing.assert_array_equal(chunked[name], once[name])


def test_bounds_that_miss_are_widened(model, monkeypatch):
    runs = []
    whole = module._Reduction._all_members

    def watched(self, targets):
        runs.append(len(targets.level))
        return whole(self, targets)

    monkeypatch.setattr(module, "_MARGIN", -1.0)  # lower bounds above the quantile, upper ones below
    monkeypatch.setattr(module._Reduction, "_all_members", watched)
    full = vf.simulate(model, draws(4000), save="stores")
    found = vf.summarize(model, draws(4000), quantiles=LEVELS, save="stores")
    assert len(runs) == 2
    assert 0 < runs[1] <= runs[0]
    np.testing.assert_array_equal(found["stores"].to_numpy(), expected(full, "stores"))


def test_only_part_of_the_values_is_kept(model, monkeypatch):
    kept = []
    whole = module._Reduction._all_members

    def watched(self, targets):
        part = whole(self, targets)
        kept.extend(len(values) for values in part.between)
        return part

    monkeypatch.setattr(module._Reduction, "_all_members", watched)
    vf.summarize(model, draws(100_000), quantiles=[0.5], save=["stores", "same"])
    assert len(kept) == 8
    assert max(kept) < 12_000
    assert kept[-1] == 0  # equal values are counted, not kept


def test_failed_members_are_left_out_and_counted(model):
    table = draws(2000, low=-0.2)
    full = vf.simulate(model, table, save=["root"], errors="flag")
    found = vf.summarize(model, table, quantiles=LEVELS, save=["root"], errors="flag")
    assert 0 < int(found["finished"]) == int((full["status"] == -1).sum()) < 2000
    np.testing.assert_array_equal(found["root"].to_numpy(), expected(full, "root"))


def test_failure_is_raised_as_by_simulate(model):
    table = draws(300, low=-0.2)
    with pytest.raises(SimulationError) as of_simulate:
        vf.simulate(model, table, save=["root"])
    with pytest.raises(SimulationError) as of_summarize:
        vf.summarize(model, table, save=["root"])
    assert str(of_summarize.value) == str(of_simulate.value)


def test_no_member_left_is_an_error(model):
    with pytest.raises(SimulationError, match="none of the 5 members stays finite"):
        vf.summarize(model, draws(5, low=-0.2, high=-0.1), save=["root"], errors="flag")


def test_scenarios_are_reduced_each(model):
    design = vf.Design.from_frame(draws(500)).with_scenarios({"slow": {"rate": 0.1}, "base": {}})
    full = vf.simulate(model, design, save="stores")
    found = vf.summarize(model, design, quantiles=LEVELS, save="stores")
    assert found["stores"].dims == ("scenario", "quantile", "time")
    assert found["finished"].to_numpy().tolist() == [500, 500]
    for scenario in ("slow", "base"):
        wanted = np.quantile(full["stores"].sel(scenario=scenario), LEVELS, axis=0, method="hazen")
        np.testing.assert_array_equal(found["stores"].sel(scenario=scenario), wanted)


def test_variables_carry_unit_and_provenance(model):
    found = vf.summarize(model, draws(10), save="stores")
    full = vf.simulate(model, draws(10), save="stores")
    assert found["stores"].attrs == found["stores_mean"].attrs == full["stores"].attrs
    assert found["quantile"].to_numpy().tolist() == list(module.QUANTILES)
    assert {**full.attrs, "n_members": 10} == found.attrs


def test_progress_counts_members(model):
    told = []
    vf.summarize(model, draws(40_000), save="stores", progress=lambda done, total: told.append((done, total)))
    assert told == [(16_384, 40_000), (32_768, 40_000), (40_000, 40_000)]


@pytest.mark.parametrize("quantiles", [(), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (0.6, 0.4), (math.nan,), [[0.5]]])
def test_quantiles_out_of_order_are_refused(model, quantiles):
    with pytest.raises(DesignError, match="must rise and lie strictly between 0 and 1"):
        vf.summarize(model, draws(5), quantiles=quantiles)


def test_what_does_not_fit_into_memory_is_refused(model, monkeypatch):
    monkeypatch.setattr(module, "_MAX_BYTES", 10_000)
    with pytest.raises(DesignError, match=r"5 quantiles of 1 variables x 4 times over 5000 members would take"):
        vf.summarize(model, draws(5000), save="stores")


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_points_between_are_rounded_as_by_numpy(low, step, weight):
    place = np.quantile([low, low + step], weight)
    assert module._between(low, low + step, weight) == place
