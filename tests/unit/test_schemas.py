"""Tables that break their schema: one line with file, row, column, value, rule and remedy."""

from __future__ import annotations

import pytest

from villageflow.datasets.schemas import SCHEMAS, read_table
from villageflow.ensemble.design import scenario_values
from villageflow.errors import DataError

HEAD = "name,element,unit,scale,lower,mode,upper,distribution,effect,source,note"
GOOD = "imitation,,1/year,log,0.5,1.15,2,lognormal,shared,S1-18,"


def write(tmp_path, *lines):
    path = tmp_path / "parameters.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_good_table_is_read_with_types(tmp_path):
    frame = read_table(write(tmp_path, HEAD, GOOD), "parameters")
    assert frame.loc[0, "mode"] == 1.15 and frame["element"].isna().all()
    assert list(frame.columns) == list(SCHEMAS["parameters"].fields)


def test_optional_columns_may_be_absent(tmp_path):
    head = "name,unit,scale,lower,mode,upper,distribution,effect,source"
    frame = read_table(write(tmp_path, head, "a,1,lin,0,1,2,uniform,none,x"), "parameters")
    assert frame["note"].isna().all() and frame["element"].isna().all()


CASES = {
    "missing column": ([HEAD.replace("unit,", ""), GOOD.replace("1/year,", "")], "column 'unit' is missing"),
    "misspelt column": ([HEAD.replace("scale", "scal"), GOOD], "Did you mean 'scal'"),
    "unknown column": ([HEAD.replace("note", "remark"), GOOD], "'remark' is not part of this table"),
    "column twice": ([HEAD.replace("note", "name"), GOOD], "names column 'name' twice"),
    "blank unit": ([HEAD, GOOD.replace("1/year", "")], "row 2, column 'unit': '' is blank"),
    "not a number": (
        [HEAD, GOOD.replace("1.15", "1,15x").replace("1,15x", "abc")],
        "row 2, column 'mode': 'abc'",
    ),
    "infinite": ([HEAD, GOOD.replace("1.15", "inf")], "row 2, column 'mode': 'inf' is not a number"),
    "unknown scale": ([HEAD, GOOD.replace("log,", "ln,", 1)], "'ln' is not one of lin, log, logit"),
    "unknown effect": ([HEAD, GOOD.replace("shared", "common")], "'common' is not one of none, shared"),
    "mode above upper": ([HEAD, GOOD.replace("1.15", "2.5")], "breaks lower <= mode <= upper"),
    "log at zero": ([HEAD, GOOD.replace("0.5", "0")], "log needs values above 0"),
    "logit above one": ([HEAD, GOOD.replace("log,", "logit,", 1)], "logit values between 0 and 1"),
    "duplicate": ([HEAD, GOOD, "", GOOD], "row 4, column 'name, element': 'imitation' repeats row 2"),
    "ragged": ([HEAD, GOOD + ",extra"], "row 2 has 12 cells, the header has 11"),
    "no rows": ([HEAD], "no rows"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_tables_are_refused_in_one_line(tmp_path, case):
    lines, said = CASES[case]
    path = write(tmp_path, *lines)
    with pytest.raises(DataError) as caught:
        read_table(path, "parameters")
    message = str(caught.value)
    assert said in message and str(path) in message and "\n" not in message


def test_further_faults_are_counted(tmp_path):
    first = GOOD.replace("1.15", "abc").replace("0.5", "x")
    path = write(tmp_path, HEAD, first, GOOD.replace("shared", "no").replace("imitation", "other"))
    with pytest.raises(DataError, match=r"\(2 more in this file\)"):
        read_table(path, "parameters")


def test_rows_are_counted_in_lines_of_the_file(tmp_path):
    quoted = 'a,,1,lin,0,1,2,uniform,none,x,"two\nlines"'
    with pytest.raises(DataError, match="row 4, column 'mode'"):
        read_table(write(tmp_path, HEAD, quoted, GOOD.replace("1.15", "abc")), "parameters")


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: does not exist"):
        read_table(tmp_path / "none.csv", "parameters")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path, "parameters")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"is not UTF-8 text .*Save it as UTF-8"):
        read_table(binary, "parameters")


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(tmp_path, mark, name):
    path = write(tmp_path, HEAD.replace(",", mark), GOOD.replace(",", mark).replace("0.5", "0,5"))
    with pytest.raises(DataError, match=f"is separated by {name}, not by commas. Save it as CSV with commas"):
        read_table(path, "parameters")


def test_all_missing_columns_are_named_at_once(tmp_path):
    with pytest.raises(DataError) as caught:
        read_table(write(tmp_path, "name,lower,upper,distrbution", "a,0,1,uniform"), "parameters")
    said = str(caught.value)
    assert "columns 'unit', 'scale', 'mode', 'distribution', 'effect', 'source' are missing" in said
    assert "needs name, unit, scale, lower, mode, upper, distribution, effect, source." in said
    assert "Did you mean 'distrbution'?" in said and "Known names" not in said


@pytest.mark.parametrize("distribution", ["uniform", "loguniform"])
def test_mode_may_be_blank_where_it_is_not_used(tmp_path, distribution):
    line = GOOD.replace("1.15", "").replace("lognormal", distribution)
    assert read_table(write(tmp_path, HEAD, line), "parameters")["mode"].isna().all()


def test_mode_may_not_be_blank_where_it_is_used(tmp_path):
    with pytest.raises(DataError, match="row 2, column 'mode': '' is blank; distribution lognormal needs it"):
        read_table(write(tmp_path, HEAD, GOOD.replace("1.15", "")), "parameters")


def test_scenario_without_changes(tmp_path):
    frame = read_table(write(tmp_path, "scenario,name,value", "base,,", "high,x,2"), "scenarios")
    assert scenario_values(frame) == {"base": {}, "high": {"x": 2.0}}
    for row, said in (("base,,1", "column 'name': '' is blank"), ("base,x,", "column 'value': '' is blank; name x")):
        with pytest.raises(DataError, match=said):
            read_table(write(tmp_path, "scenario,name,value", row), "scenarios")


def test_unknown_schema_is_refused(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'scenarios'"):
        read_table(write(tmp_path, HEAD, GOOD), "scenario")


@pytest.mark.parametrize(
    ("schema", "head", "row", "said"),
    [
        (
            "measurements",
            "entity,time,observable,value,comparator,source_id",
            "a,2011,x,1,~,S1",
            "not one of =",
        ),
        ("observables", "observable,formula,kind,noise,noise_parameter,unit", "x,x,rate,normal,,1", "level"),
        ("scenarios", "scenario,name,value,from_time,to_time", "s,a,1,2020,2010", "from_time <= to_time"),
        ("reference_modes", "rm_id,system,kind,statement,finding", "R1,V01,z,words,", "q, s, cf"),
        ("archetypes", "archetype,name,value,unit,source", "a,imitation,fast,1/Year,x", "'fast' is not a number"),
        ("archetypes", "archetype,name,value,unit,source", "a,imitation,1,,x", "column 'unit': '' is blank"),
        ("loops", "loop,name,polarity,variables,switch", "R1,word of mouth,+,a > b,", "R, B"),
    ],
)
def test_the_other_tables_are_checked_too(tmp_path, schema, head, row, said):
    with pytest.raises(DataError, match=said):
        read_table(write(tmp_path, head, row), schema)
