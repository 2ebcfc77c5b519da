"""The shipped models run in PySD and in pysimlin as they do here."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import villageflow as vf
from villageflow.names import canonical, variable_id

# exp, log and pow of three mathematical libraries, over 1,500 steps
RTOL = 1e-8


def compare(ours, theirs, names):
    """Every variable equal at every saved time, relative to the largest value of the variable."""
    worst = {}
    for name in names:
        left, right = ours[name].values[0], np.asarray(theirs[name], dtype=float)
        scale = np.maximum(np.abs(left), 1e-9 * np.abs(left).max() + 1e-300)
        worst[name] = float((np.abs(left - right) / scale).max())
    failing = {name: error for name, error in worst.items() if not error < RTOL}
    assert not failing, failing


@pytest.mark.filterwarnings("ignore")
def test_pysd(base, model_file, tmp_path):
    import pysd  # translating a file writes beside it

    copy = shutil.copy(model_file, tmp_path)
    model = pysd.read_vensim(str(copy))
    wanted = [*base.model.stocks, *base.model.auxiliaries]
    ours = vf.simulate(base.model, save=wanted)
    names = {canonical(name) for name in model.doc["Real Name"]}
    assert {name.partition("[")[0] for name in wanted} <= names
    table = model.run(return_columns=[base.model.variables[name].name for name in wanted], progress=False)
    np.testing.assert_allclose(table.index.to_numpy(dtype=float), ours["time"].values)
    compare(ours, {variable_id(name): table[name] for name in table}, wanted)


def test_pysimlin(base, model_file):
    import simlin

    model = simlin.load(str(model_file))
    wanted = [*base.model.stocks, *base.model.auxiliaries]
    ours = vf.simulate(base.model, save=wanted)
    with model.simulate() as run:
        run.run_to_end()
        series = {variable_id(name): run.get_series(name) for name in run.get_var_names()}
    assert set(wanted) <= set(series)
    np.testing.assert_allclose(series["time"], ours["time"].values)
    compare(ours, series, wanted)
