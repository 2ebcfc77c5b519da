"""A user's own panel: the same checks as the shipped ones, each fault in one clear line."""

from __future__ import annotations

import numpy as np
import pytest

from villageflow import datasets
from villageflow.errors import DataError

ROWS = ["village,year,stores,sales,county", "A,2015,3,1.5,x", "A,2016,,2.5,x", "B,2015,0,0,y"]
UNITS = {"stores": "store", "sales": "Myuan/year"}


def read(tmp_path, rows, **options):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    options = {"entity": "village", "time": "year", "units": UNITS, "labels": ("county",)} | options
    return datasets.read_panel(path, **options)


def test_a_panel_is_indexed_with_units_and_missing_stays_missing(tmp_path):
    panel = read(tmp_path, [ROWS[0], *ROWS[:0:-1]])
    assert panel.index.tolist() == [("A", 2015), ("A", 2016), ("B", 2015)]
    assert panel.index.names == ["entity", "time"]
    assert np.isnan(panel.loc[("A", 2016), "stores"]) and panel.loc[("B", 2015), "stores"] == 0
    assert panel.attrs["units"] == UNITS and panel.attrs["sources"]["sales"] == ("mine.csv",)
    assert panel["county"].tolist() == ["x", "x", "y"]


def test_times_may_be_fractions(tmp_path):
    panel = read(tmp_path, [row.replace("2016", "2015.5") for row in ROWS])
    assert panel.index.get_level_values("time").tolist() == [2015.0, 2015.5, 2015.0]


CASES = {
    "missing column": (ROWS, {"units": {**UNITS, "profit": "yuan/year"}}, "column 'profit' is missing"),
    "missing entity": (ROWS, {"entity": "vilage"}, "column 'vilage' is missing.*Did you mean 'village'"),
    "missing unit": (ROWS, {"units": {"stores": "store"}}, "column 'sales' has no unit"),
    "text without label": (ROWS, {"labels": ()}, "column 'county' has no unit"),
    "unknown unit": (ROWS, {"units": {**UNITS, "stores": "stroe"}}, "unknown word 'stroe'.*'store'"),
    "malformed unit": (ROWS, {"units": {**UNITS, "stores": "store//year"}}, "is not a unit"),
    "duplicate key": ([*ROWS, "A,2016,4,1,x"], {}, r"row 5, column 'village, year': 'A, 2016' repeats row 3"),
    "not a number": ([*ROWS, "C,2015,many,1,x"], {}, "row 5, column 'stores': 'many' is not a number"),
    "thousands": ([*ROWS, 'C,2015,"1,200",1,x'], {}, "row 5, column 'stores': '1,200' is not a number"),
    "nan as text": ([*ROWS, "C,2015,nan,1,x"], {}, "'nan' is not a number.*Leave the cell blank"),
    "blank entity": ([*ROWS, ",2015,1,1,x"], {}, "row 5, column 'village': '' is blank"),
    "blank time": ([*ROWS, "C,,1,1,x"], {}, "row 5, column 'year': '' is blank"),
    "time not a number": ([*ROWS, "C,y2015,1,1,x"], {}, "row 5, column 'year': 'y2015'"),
    "ragged": ([*ROWS, "C,2015,1"], {}, "row 5 has 3 cells"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_panels_are_refused_in_one_line(tmp_path, case):
    rows, options, said = CASES[case]
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, rows, **options)
    assert "mine.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_extra_units_are_accepted(tmp_path):
    panel = read(tmp_path, ROWS, units={**UNITS, "stores": "teapot/year"}, extra_units=("teapot",))
    assert panel.attrs["units"]["stores"] == "teapot/year"


@pytest.mark.parametrize(
    ("cell", "said"), [("True", "Write 1 and 0"), ("NA", "Leave the cell blank"), ("nan", "Leave the cell blank")]
)
def test_booleans_and_marks_of_missing_values_are_told_how_to_be_written(tmp_path, cell, said):
    path = tmp_path / "panel.csv"
    path.write_text(f"village,year,x\na,2014,1\na,2015,{cell}\n")
    with pytest.raises(DataError, match=said):
        datasets.read_panel(path, entity="village", time="year", units={"x": "1"})


def test_one_label_or_column_may_be_a_bare_word(tmp_path):
    path = tmp_path / "panel.csv"
    path.write_text("village,year,county,x\na,2014,c,1\na,2015,c,2\n")
    panel = datasets.read_panel(path, entity="village", time="year", units={"x": "1"}, labels="county")
    assert list(panel["county"]) == ["c", "c"]
