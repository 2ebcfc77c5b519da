"""attention_channels: modes fail without their mechanism, and the table of the three modes is what the model says."""

from __future__ import annotations

import pandas as pd
import pytest
from modes.attention_channels import MODES, SAVED
from quality.attention_channels import COMPARED, comparison
from runs import Runs, base_runs

from villageflow import library

NAME = "attention_channels"
# the mechanism of each mode, taken out: the mode may not hold in the run that is left
WITHOUT = {
    "RM-C01.1": {"word_of_mouth[live]": 0.0},
    "RM-C01.2": {"word_of_mouth[live]": 0.0},
    "RM-C03.1": {"star_reach": 0.0},
    "RM-C03.2": {"switch_b51": 0.0},
    "RM-C06.1": {"word_of_mouth[video]": 0.0},
    "RM-C06.2": {"switch_r65": 0.0},
    "RM-C06.3": {"false_claim_gain": 0.0, "switch_b57": 0.0},
    "RM-C06.4": {"effort_half_point": 1e-9},
    "RM-C06.5": {"fan_attention_weight": 0.0, "switch_r98": 0.0, "label_share_of_sales": 0.0},
    "RM-C07.1": {"false_claim_damage": 0.0},
    "RM-C07.2": {"mode_sensitivity": 0.0},
    "RM-N14.1": {"promotion_effectiveness": 0.0},
    "RM-N14.2": {"switch_b87": 0.0, "switch_b88": 0.0},
    "RM-N14.3": {"promotion_effectiveness": 0.0, "experience_gain": 0.0},
    "RM-G03.1": {"practice_gain": 0.0, "reinvestment_gain": 0.0, "differentiation_life": 0.1},
    "RM-G03.2": {"practice_gain": 0.0, "reinvestment_gain": 0.0},
}


def with_changes(changes: dict[str, float]) -> Runs:
    base = base_runs(NAME, SAVED)
    return Runs(NAME, base.table.assign(**changes), SAVED)


def test_modes_at_the_values_of_the_file():
    held = {rm_id for rm_id, mode in MODES.items() if mode(base_runs(NAME, SAVED)).all()}
    assert held == set(WITHOUT)


@pytest.mark.parametrize("rm_id", WITHOUT)
def test_a_mode_fails_without_its_mechanism(rm_id):
    assert not MODES[rm_id](with_changes(WITHOUT[rm_id])).any()


def test_comparison_is_what_the_model_says():
    """The rows that the model fills in, computed again; the table of sources holds the others."""
    table = pd.read_csv(library.path(NAME) / "comparison.csv")
    said = comparison(base_runs(NAME, COMPARED))
    told = table[table["variable"].notna()].reset_index(drop=True)
    assert told[["mode", "attribute", "statement", "variable"]].to_numpy().tolist() == said.to_numpy().tolist()
    assert set(told["variable"]) <= set(library.read(NAME).arrays)
    counts = table.groupby("mode")["attribute"].nunique()
    assert (counts == 8).all() and len(table) == 24
    readme = (library.path(NAME) / "README.md").read_text(encoding="utf-8")
    assert all(row.statement in readme for row in table.itertuples())
