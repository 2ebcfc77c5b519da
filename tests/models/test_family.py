"""The family as a whole: every system of the study has a home, and the map of the models is true."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from reference_modes import README, SYSTEMS, system_table

from villageflow import library

STUDY = Path(__file__).resolve().parents[3] / "shared" / "study" / "reference_modes.csv"
COUNTS = {"V": 16, "P": 2, "K": 5, "C": 7, "N": 17, "G": 6}
ALL = [f"{letter}{number:02d}" for letter, count in COUNTS.items() for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def systems():
    return pd.read_csv(SYSTEMS, dtype=str)


def test_each_of_the_53_systems_has_one_primary_home(systems):
    assert len(ALL) == 53
    assert systems[systems["role"] == "primary"]["system"].tolist() == ALL
    assert set(systems["role"]) <= {"primary", "secondary"}
    assert not systems.duplicated(["system", "model"]).any()
    assert set(systems["model"]) == set(library.names())


def test_the_variables_that_stand_for_a_system_are_in_its_model(systems):
    for row in systems.to_dict("records"):
        model = library.read(row["model"])
        names = row["variables"].split()
        assert names, row
        unknown = [name for name in names if name not in model.variables and name not in model.arrays]
        assert unknown == [], (row["system"], row["model"])


def test_a_system_is_tested_where_it_is_at_home(systems):
    """Every reference mode stands in a model that the map gives for its system."""
    homes = set(zip(systems["system"], systems["model"], strict=True))
    tested = set()
    for name in library.names():
        modes = pd.read_csv(library.path(name) / "reference_modes.csv", dtype=str)
        for row in modes.to_dict("records"):
            assert row["rm_id"].startswith(f"RM-{row['system']}."), row["rm_id"]
            assert (row["system"], name) in homes, (row["rm_id"], name)
            tested.add(row["system"])
    assert tested == set(ALL)


def test_the_readme_has_the_map():
    assert system_table() in README.read_text(encoding="utf-8"), "run ./run modes"


@pytest.mark.skipif(not STUDY.exists(), reason="../shared/study is not there; it has the list of reference modes")
def test_every_reference_mode_of_the_study_is_in_a_model():
    study = pd.read_csv(STUDY, dtype=str).set_index("rm_id")
    ours = pd.concat(
        [pd.read_csv(library.path(name) / "reference_modes.csv", dtype=str) for name in library.names()]
    ).set_index("rm_id")
    assert sorted(set(study.index) - set(ours.index)) == []
    for rm_id, row in ours.iterrows():
        assert rm_id in study.index, rm_id
        assert (row["system"], row["kind"]) == (study.loc[rm_id, "system"], study.loc[rm_id, "kind"]), rm_id
