"""What county_takeoff shows beside its reference modes, at the values of its file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from modes.county_takeoff import (
    ACCESS_ALONE,
    INCLUSION,
    MODES,
    SAVED,
    STRUCTURE,
    THREE,
    UPSKILLING,
    YEARLY,
    budgets,
    mean_merchants,
)
from runs import Runs, base_runs

# a mode and the constant without which its mechanism is off
OFF = [
    ("RM-K01.1", {"switch_r38": 0.0}), ("RM-K01.2", {"imitation_gain": 0.0}), ("RM-K01.3", {"adoption_ceiling": 1e-4}),
    ("RM-K02.1", {"binding_competition": 1e3}), ("RM-K02.2", {"basic_weight": 0.0}), ("RM-K02.3", {"switch_r43": 0.0}),
    ("RM-K03.1", {"switch_r38": 0.0}), ("RM-K03.2", {"switch_r46": 0.0}),
    ("RM-K03.3", dict.fromkeys((f"switch_r{loop}" for loop in (38, 39, 43, 44, 45)), 0.0)),
    ("RM-K05.1", {"force_level": 1.0, "tie_cost": 1e12, "inclusion_half_point": 1e12, "trust_fall_time": 0.1}),
    ("RM-K05.2", {"switch_r38": 0.0}), ("RM-K05.3", {"switch_r46": 0.0}), ("RM-K05.4", {"mood_ceiling": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("rm_id", "off"), OFF, ids=[rm for rm, _ in OFF])
def test_a_mode_fails_without_its_mechanism(rm_id, off):
    run = Runs("county_takeoff", pd.DataFrame({name: [value] for name, value in off.items()}), SAVED)
    assert not MODES[rm_id](run)[0]


def gain(**yearly: float) -> float:
    """Mean merchants after the programme over those of free access, for yearly budgets of levers."""
    run = base_runs("county_takeoff", SAVED)
    levers = {f"policy_budget[{lever}]": value for lever, value in yearly.items()}
    return float((mean_merchants(run({**ACCESS_ALONE, **levers})) - mean_merchants(run(ACCESS_ALONE)))[0])


def test_complementarity_is_one_of_summed_budgets():
    """Together the three give more than the sum of each; but one budget is best spent on seed money and courses."""
    single = {lever: gain(**{lever: YEARLY}) for lever in THREE}
    assert gain(**dict.fromkeys(THREE, YEARLY)) > 1.3 * sum(single.values())
    assert max(single, key=single.get) == UPSKILLING
    assert gain(**dict.fromkeys(THREE, YEARLY / 3)) < 0.5 * single[UPSKILLING]
    assert gain(**dict.fromkeys(THREE, YEARLY)) < gain(upskilling=3 * YEARLY)


def test_structure_and_ties_need_merchants():
    """In a county with free access alone neither structure nor ties move adoption."""
    assert abs(gain(**{STRUCTURE: YEARLY})) < 10
    assert abs(gain(**{INCLUSION: YEARLY})) < 10


def test_ties_first_make_the_same_money_go_further():
    run = base_runs("county_takeoff", SAVED)
    summed = budgets(YEARLY, *THREE)
    order = {"lever_start[inclusion]": 2005.0, "lever_start[structure]": 2009.0}
    at_once, in_turn = (mean_merchants(run(changes))[0] for changes in (summed, {**summed, **order}))
    assert in_turn > at_once


def test_size_does_not_matter():
    """A county four times as large, with four times the money, has the same shares (X10)."""
    run = base_runs("county_takeoff", SAVED)
    small, large = run.archetype("suichang")(), run.archetype("suichang_census")()
    np.testing.assert_allclose(large["residents"], 4 * small["residents"], rtol=1e-9)
    np.testing.assert_allclose(large["online_villages"], 4 * small["online_villages"], rtol=1e-9)
