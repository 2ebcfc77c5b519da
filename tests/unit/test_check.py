"""The checks of a model as a document, and of the tables beside it: each sees its own fault and nothing else."""

from __future__ import annotations

import pytest

import villageflow as vf
from villageflow.audit.check import check_all
from villageflow.audit.dimensions import unit_faults
from villageflow.cli import app
from villageflow.errors import ModelFileError

TEXT = """{UTF-8}
stores = INTEG(openings - closures, first stores) ~ store [0,?] ~ Stores that trade. ~|
openings = imitation * stores * room ~ store/Year ~ Stores that open. ~|
room = 1 - stores / ceiling ~ dmnl ~ Share of places that are free. ~|
closures = stores / life ~ store/Year ~ Stores that close. ~|
first stores = 2 ~ store ~ At the start. ~|
imitation = 0.8 ~ 1/Year [0,5] ~ Openings a store and year. ~|
ceiling = 300 ~ store ~ Places for stores. ~|
life = 8 ~ Year ~ Mean life of a store. ~|
INITIAL TIME = 0 ~ Year ~ Start. ~|
FINAL TIME = 8 ~ Year ~ End. ~|
TIME STEP = 0.125 ~ Year ~ Step. ~|
SAVEPER = 1 ~ Year ~ Saved. ~|
"""
PRIORS = "name,unit,scale,lower,mode,upper,distribution,effect,source\nlife,Year,lin,4,8,12,triangular,none,survey\n"
LOOPS = "loop,name,polarity,variables,switch,note\n"
TABLES = {
    "parameters.csv": PRIORS,
    "scenarios.csv": "scenario,name,value\nbase,,\nfast,imitation,2\n",
    "archetypes.csv": "archetype,name,value,unit,source\nsmall,ceiling,40,store,survey\n",
    "loops.csv": LOOPS + "R1,imitation,R,stores > openings,,\nB1,crowding,B,stores > room > openings,,\n",
}


@pytest.fixture
def folder(tmp_path):
    """A folder that passes every check."""
    home = tmp_path / "shops"
    home.mkdir()
    (home / "shops.mdl").write_text(TEXT, encoding="utf-8")
    for name, text in TABLES.items():
        (home / name).write_text(text, encoding="utf-8")
    return home


def findings(folder):
    return vf.check(vf.read_model(folder / "shops.mdl"), folder)


def test_a_sound_model_has_no_finding(folder):
    assert findings(folder) == []


FAULTS = {
    "no words": ("Stores that open. ", "", "documentation", "openings"),
    "no unit": ("~ store/Year ~ Stores that open.", "~ ~ Stores that open.", "units", "openings"),
    "other unit": ("~ store/Year ~ Stores that close.", "~ store ~ Stores that close.", "dimensions", "closures"),
    "units joined": ("1 - stores / ceiling", "1 - stores / ceiling + 0 * first stores", "dimensions", "room"),
    "number": ("imitation * stores * room", "1.5 * imitation * stores * room", "embedded numbers", "openings"),
    "unused": ("life = 8", "spare = 3 ~ dmnl ~ Spare words. ~|\nlife = 8", "use", "spare"),
    "no range": ("~ store [0,?] ~", "~ store ~", "ranges", "stores"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_file_is_seen(fault, folder):
    old, new, kind, place = FAULTS[fault]
    assert TEXT.count(old) == 1
    (folder / "shops.mdl").write_text(TEXT.replace(old, new), encoding="utf-8")
    found = findings(folder)
    assert (kind, place) in {(finding.check, finding.place) for finding in found}
    assert {finding.check for finding in found} <= {kind, "dimensions"}
    assert all("\n" not in finding.message for finding in found)


TABLE_FAULTS = {
    "unknown parameter": ("archetypes.csv", "small,ceiling", "small,cieling", "row 2, column 'name': 'cieling'"),
    "outside the bounds": ("scenarios.csv", "fast,imitation,2", "fast,imitation,7", "row 3, column 'value': '7'"),
    "other unit": ("archetypes.csv", "40,store", "40,shop", "row 2, column 'unit': 'shop'"),
    "missing unit": ("archetypes.csv", "40,store", "40,", "row 2, column 'unit': '' is blank"),
    "duplicate row": (
        "archetypes.csv", "small,ceiling,40,store,survey\n",
        "small,ceiling,40,store,survey\nsmall,ceiling,41,store,survey\n", "row 3, column 'archetype, name, element'",
    ),
    "prior of no constant": ("parameters.csv", "life,Year", "live,Year", "'live'"),
    "prior outside": ("parameters.csv", "life,Year,lin,4,8,12", "imitation,1/Year,lin,4,5,12", "outside"),
    "no link": ("loops.csv", "stores > openings", "stores > closures > openings", "no link closures > openings"),
    "polarity": ("loops.csv", "imitation,R,", "imitation,B,", "is stated as B; its links have the signs ++"),
    "switch": ("loops.csv", "stores > openings,,", "stores > openings,first_stores,", "its switch 'first_stores'"),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_each_fault_of_a_table_is_one_line_with_file_and_row(fault, folder):
    name, old, new, said = TABLE_FAULTS[fault]
    text = TABLES[name]
    assert text.count(old) == 1
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    found = findings(folder)
    assert [finding for finding in found if said in finding.message], found
    assert all("\n" not in finding.message for finding in found)


def test_a_sign_that_depends_on_state_needs_a_note(folder):
    text = TEXT.replace("imitation * stores * room", "imitation * (stores - stores^2 / ceiling)")
    (folder / "shops.mdl").write_text(text.replace("room = 1 - stores / ceiling ~ dmnl", "room = 1 ~ dmnl"), "utf-8")
    loops = LOOPS + "R1,imitation,R,stores > openings,,"
    (folder / "loops.csv").write_text(loops + "\n", encoding="utf-8")
    assert any("depends on state: stores > openings" in finding.message for finding in findings(folder))
    (folder / "loops.csv").write_text(loops + "turns at half of the ceiling\n", encoding="utf-8")
    assert not any(finding.check == "loops" and "depends" in finding.message for finding in findings(folder))


@pytest.mark.parametrize(
    ("equation", "unit", "fits"),
    [
        ("stores / life", "store/Year", True),
        ("SQRT(stores * ceiling)", "store", True),
        ("stores^2 / ceiling", "store", True),
        ("LN(stores)", "dmnl", False),
        ("EXP(stores / ceiling)", "dmnl", True),
        ("MAX(stores, 0)", "store", True),
        ("MAX(stores, 1)", "store", False),
        ("IF THEN ELSE(stores > ceiling, stores, life)", "store", False),
        ("IF THEN ELSE(Time > life, stores, ceiling)", "store", True),
        ("STEP(stores, life)", "store", True),
        ("STEP(stores, ceiling)", "store", False),
        ("RAMP(imitation, life, FINAL TIME)", "dmnl", True),
        ("XIDZ(stores, life, openings)", "store/Year", True),
        ("ZIDZ(stores, ceiling)", "dmnl", True),
        ("SMOOTH(stores, life)", "store", True),
        ("stores * TIME STEP", "Year*store", True),
    ],
)
def test_units_of_operations(equation, unit, fits, tmp_path):
    path = tmp_path / "extra.mdl"
    path.write_text(TEXT + f"extra = {equation} ~ {unit} ~ Looked at. ~|\n", encoding="utf-8")
    assert (unit_faults(vf.read_model(path)) == {}) is fits


def test_every_shipped_model_and_folders_are_found(folder):
    assert [name for name, _ in check_all(str(folder.parent))] == ["shops"]
    assert [name for name, _ in check_all(str(folder / "shops.mdl"))] == ["shops"]
    assert [name for name, _ in check_all("national_diffusion")] == ["national_diffusion"]
    empty = folder.parent / "empty"
    empty.mkdir()
    with pytest.raises(ModelFileError, match="no folder below it holds a model of its own name"):
        list(check_all(str(empty)))


def test_the_command_exits_with_2_for_a_fault_and_0_for_a_hint(folder):
    from typer.testing import CliRunner

    runner = CliRunner()
    assert runner.invoke(app, ["check", str(folder)]).exit_code == 0
    (folder / "shops.mdl").write_text(TEXT.replace("~ store [0,?] ~", "~ store ~"), encoding="utf-8")
    done = runner.invoke(app, ["check", str(folder)])
    assert done.exit_code == 0 and "hint: stores" in done.output
    (folder / "shops.mdl").write_text(TEXT.replace("Stores that open. ", ""), encoding="utf-8")
    done = runner.invoke(app, ["check", str(folder)])
    assert done.exit_code == 2 and "documentation: openings" in done.output


def test_loops_are_read_in_any_spelling(folder):
    (folder / "loops.csv").write_text(LOOPS + "R1,imitation,R,Stores > Openings,Imitation,\n", encoding="utf-8")
    assert findings(folder) == []


def test_a_missing_folder_of_tables_is_refused(folder):
    with pytest.raises(ModelFileError, match="nowhere is no folder"):
        vf.check(vf.read_model(folder / "shops.mdl"), folder / "nowhere")


@pytest.mark.parametrize(("table", "text", "said"), [
    ("archetypes.csv",
     "archetype,name,value,unit,source\na,Ceiling,40,store,x\nb,ceiling,4,store,x\na,ceiling,5,store,x\n",
     "row 4, column 'name': 'ceiling' sets 'ceiling', as row 2 does"),
    ("scenarios.csv", "scenario,name,value\na,Imitation,2\na,imitation,3\n", "sets 'imitation', as row 2 does"),
    ("parameters.csv", PRIORS.replace("life,Year", "life,Day") + "imitation,1/Year,lin,1,2,7,triangular,none,survey\n",
     "row 2, column 'unit': 'Day' is not the unit of 'life'. The model has 'Year'."),
    ("parameters.csv", PRIORS + "imitation,1/Year,lin,1,2,7,triangular,none,survey\n",
     "row 3, column 'upper': '7' is outside [0, 5], the range of 'imitation'"),
])
def test_a_table_says_row_and_column_of_its_fault(table, text, said, folder):
    (folder / table).write_text(text, encoding="utf-8")
    (finding,) = findings(folder)
    assert (finding.check, finding.place) == ("tables", table)
    assert said in finding.message
