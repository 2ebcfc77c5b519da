"""County teen employment and minimum wages, 2003-2007: figures printed in the documentation of the R package ``did``.

Callaway and Sant'Anna (2021); estimates with outcome regression, never-treated controls and varying base period.
Tolerance: half a unit of the last printed digit. The printed errors are from a bootstrap, so they are not compared
here; analytic ones are, with csdid, in ``tests/unit/econometrics/test_staggered.py``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from numpy.testing import assert_allclose

from villageflow.econometrics.staggered import event_study, group_time_effects

pytestmark = pytest.mark.published
DATA = Path(__file__).parents[3] / "shared" / "acceptance" / "callaway_santanna_mpdta.csv"
HALF = 0.5e-4
CELLS = {
    2004: [-0.0105, -0.0704, -0.1373, -0.1008],
    2006: [0.0065, -0.0028, -0.0046, -0.0412],
    2007: [0.0305, -0.0027, -0.0311, -0.0261],
}
PATH = [0.0305, -0.0006, -0.0245, -0.0199, -0.0510, -0.1373, -0.1008]


@pytest.fixture(scope="module")
def panel():
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there: the county panel is not part of the repository")
    return pd.read_csv(DATA).set_index(["countyreal", "year"])


@pytest.fixture(scope="module")
def effects(panel):
    return group_time_effects("lemp ~ 1", panel, cohort="first.treat")


@pytest.mark.parametrize("cohort", CELLS)
def test_effects_by_cohort_and_period(effects, cohort):
    named = [f"g={cohort}, t={year}" for year in range(2004, 2008)]
    assert_allclose(effects.estimate.params[named], CELLS[cohort], rtol=0, atol=HALF)
    assert len(effects.estimate.params) == 12


def test_path_over_event_time(effects):
    found = effects.aggregate("dynamic")
    assert list(found.params.index) == [f"e={e}" for e in range(-3, 4)]
    assert_allclose(found.params, PATH, rtol=0, atol=HALF)


@pytest.mark.parametrize(
    ("kind", "printed", "half"),
    [("dynamic_overall", -0.0772, HALF), ("group_overall", -0.0310, HALF), ("simple", -0.0400, HALF)],
)
def test_overall_effects(effects, kind, printed, half):
    assert_allclose(effects.aggregate(kind).params["overall"], printed, rtol=0, atol=half)


def test_effects_after_treatment_do_not_depend_on_the_base_period(panel, effects):
    path, varying = event_study("lemp ~ 1", panel, cohort="first.treat"), effects.aggregate("dynamic")
    late = [f"e={e}" for e in range(4)]
    assert_allclose(path.params[late], varying.params[late], rtol=1e-12)
    assert_allclose(path.std_errors[late], varying.std_errors[late], rtol=1e-12)
    assert "e=-1" not in path.params.index
