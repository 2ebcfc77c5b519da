"""Every reference mode of every shipped model, over prior and retained draws, against the committed page."""

from __future__ import annotations

import importlib

import pandas as pd
import pytest
from reference_modes import PAGE, evaluate, section

from villageflow import library

CASES = [(name, rm) for name in library.names() for rm in importlib.import_module(f"modes.{name}").MODES]


@pytest.mark.parametrize(("name", "rm_id"), CASES, ids=[rm for _, rm in CASES])
def test_mode(name, rm_id):
    """A mode that is shown says so; one that is not says what fails; the page has the shares of this tree."""
    row = evaluate(name).set_index("rm_id").loc[rm_id]
    finding = "" if pd.isna(row["finding"]) else row["finding"]
    if row["shown"]:
        assert not finding, f"{rm_id} is shown ({row['prior']:.3f}, {row['retained']:.3f}); delete its finding"
    else:
        assert len(finding) > 40, f"{rm_id} holds in {row['prior']:.3f} of the prior draws; say what fails"


@pytest.mark.parametrize("name", library.names())
def test_page(name):
    assert section(name) in PAGE.read_text(encoding="utf-8"), "run ./run modes and look at what moved"


def test_modes_have_one_home():
    ids = [rm for _, rm in CASES]
    assert len(ids) == len(set(ids))
