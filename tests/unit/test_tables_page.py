"""The page on tables: its examples are read, and it names every column and every allowed word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import villageflow as vf
from villageflow.calibrate.facts import OPTIONAL, REQUIRED, STATISTICS, USES, read_facts
from villageflow.calibrate.problem import observables_of
from villageflow.datasets.schemas import SCHEMAS, read_table
from villageflow.ensemble.design import Design

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
SECTIONS = {
    re.split(r"[:\n]", text)[0].strip(): text
    for text in re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
}
CHECKED = ("parameters", "values", "scenarios", "observables", "measurements", "archetypes", "loops", "reference_modes")
MODEL = """{UTF-8}
stores = INTEG(imitation * stores * (1 - stores / ceiling), 2) ~ store ~|
imitation = 0.8 ~ 1/Year ~|
ceiling = 300 ~ store ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 10 ~ Year ~|
TIME STEP = 0.0625 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


def example(section: str, folder: Path) -> Path:
    path = folder / "example.csv"
    path.write_text(re.findall(r"```csv\n(.*?)```", SECTIONS[section], re.DOTALL)[0], "utf-8")
    return path


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "stores.mdl"
    path.write_text(MODEL)
    return vf.read_model(path)


@pytest.mark.parametrize("name", CHECKED)
def test_the_section_of_a_checked_table(name, tmp_path):
    table = read_table(example(name, tmp_path), name)
    assert len(table) == 2
    for column, field in SCHEMAS[name].fields.items():
        for word in (column, *field.allowed) if name != "values" else ():
            assert f"`{word}`" in SECTIONS[name], (column, word)


def test_the_examples_fit_together(tmp_path, model):
    design = Design.lhs(read_table(example("parameters", tmp_path), "parameters"), n=4, seed=1)
    design = design.with_scenarios(read_table(example("scenarios", tmp_path), "scenarios"))
    assert vf.simulate(model, design).sizes["scenario"] == 2
    declared = observables_of(read_table(example("observables", tmp_path), "observables"))
    assert [item.noise_parameter for item in declared] == ["dispersion", 0.1]


def test_the_section_on_facts(tmp_path, model):
    assert len(read_facts(example("facts", tmp_path), model)) == 2
    for word in (*REQUIRED, *OPTIONAL, *STATISTICS, *USES):
        assert f"`{word}`" in SECTIONS["facts"], word


def test_the_section_on_a_panel(tmp_path):
    path = example("A panel of your own", tmp_path)
    panel = vf.read_panel(path, entity="village", time="year", units={"stores": "store"}, labels=["county"])
    assert panel["stores"].isna().tolist() == [False, True]


def test_a_measured_net_flow_may_come_from_a_file(tmp_path):
    path = tmp_path / "m.csv"
    head = "entity,time,observable,value,comparator,source_id,from_time"
    path.write_text(f"{head}\na,2,x,5,=,s,1\na,3,x,5,=,s,\n")
    assert read_table(path, "measurements")["from_time"].isna().tolist() == [False, True]
    path.write_text(f"{head}\na,2,x,5,=,s,3\n")
    with pytest.raises(vf.VillageflowError, match="from_time <= time"):
        read_table(path, "measurements")
