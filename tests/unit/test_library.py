"""The models that ship: names, files, priors and scenarios."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import villageflow as vf
from villageflow import library
from villageflow.ensemble.design import as_design
from villageflow.errors import ModelFileError


def test_names_are_folders_with_a_model_of_their_name():
    names = library.names()
    assert names == sorted(names)
    assert {"national_diffusion", "village_cluster"} <= set(names)
    for name in names:
        assert (library.path(name) / f"{name}.mdl").is_file()


@pytest.mark.parametrize("function", [library.path, library.read, library.priors, library.scenarios])
def test_unknown_name_is_refused_with_a_suggestion(function):
    with pytest.raises(
        ModelFileError,
        match=r"no model 'village_clustr' ships with villageflow. Did you mean 'village_cluster'",
    ):
        function("village_clustr")


@pytest.mark.parametrize(
    "name", ["../models/village_cluster", "", ".", "village_cluster/village_cluster.mdl"]
)
def test_name_is_no_path(name):
    with pytest.raises(ModelFileError, match=r"no model"):
        library.path(name)


def test_model_is_parsed_once():
    assert library.read("village_cluster") is library.read("village_cluster")


@pytest.mark.parametrize("name", library.names())
def test_shipped_model_runs_and_states_its_units(name):
    model = library.read(name)
    ds = vf.simulate(model)
    assert (ds["status"] == -1).all()
    assert all(np.isfinite(ds[variable].values).all() for variable in ds.data_vars)
    assert model.time_units
    assert repr(model).startswith(f"<villageflow.Model '{name}': ")


@pytest.mark.parametrize("name", library.names())
def test_priors_fit_their_model(name):
    priors = library.priors(name)
    assert isinstance(priors, pd.DataFrame)
    model = library.read(name)
    design = as_design(vf.Design.lhs(priors, n=8, seed=1), model)
    assert len(design.table.columns) == len(priors)


@pytest.mark.parametrize("name", library.names())
def test_scenarios_fit_their_model(name):
    design = vf.Design.lhs(library.priors(name), n=2, seed=1).with_scenarios(library.scenarios(name))
    assert len(as_design(design, library.read(name)).scenarios) >= 1


def test_model_cannot_be_changed():
    model = library.read("village_cluster")
    with pytest.raises(AttributeError):
        model.name = "other"


def test_shipped_file_and_library_read_the_same():
    path = library.path("village_cluster") / "village_cluster.mdl"
    assert vf.read_model(path).digest == library.read("village_cluster").digest
    assert vf.read_model(str(path)).variables.keys() == library.read("village_cluster").variables.keys()


def test_a_table_that_a_model_does_not_have_is_refused_by_name(monkeypatch, tmp_path):
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.mdl").write_text("", encoding="utf-8")
    (tmp_path / "with" / "loops.csv").write_text("", encoding="utf-8")
    monkeypatch.setattr(library, "folder", lambda: tmp_path)
    with pytest.raises(ModelFileError, match=r"model 'without' ships without loops\.csv; these have one: with$"):
        library.loops("without")
