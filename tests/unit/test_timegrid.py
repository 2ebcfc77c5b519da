"""The time grid: steps, saved steps, and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from villageflow.errors import DesignError
from villageflow.timegrid import TimeGrid


@pytest.mark.parametrize(
    ("grid", "n_steps"),
    [
        ((0, 10, 1, 1), 10),
        ((0, 0, 1, 1), 0),
        ((0, 1, 0.1, 0.1), 10),
        ((0, 3, 0.1, 1), 30),
        ((0, 1, 0.3, 1), 3),
        ((0, 1, 0.4, 1), 3),
        ((0, 0.4, 1, 1), 0),
        ((0, 0.5, 1, 1), 1),
        ((1985.3, 2018.3, 1 / 12, 1), 396),
        ((-5, 5, 2, 2), 5),
    ],
)
def test_number_of_steps(grid, n_steps):
    assert TimeGrid(*grid).n_steps == n_steps


@pytest.mark.parametrize(
    ("grid", "steps"),
    [
        ((0, 10, 1, 1), range(11)),
        ((0, 10, 1, 3), [0, 3, 6, 9]),
        ((0, 10, 1, 2.5), [0, 3, 5, 8, 10]),
        ((0, 10, 1, 0.3), range(11)),
        ((0, 10, 1, 1e-12), range(11)),
        ((0, 10, 1, 1e300), [0]),
        ((0, 1, 0.1, 0.3), [0, 3, 6, 9]),
        ((0, 1, 0.1, 0.7), [0, 7]),
        ((0, 100, 0.1, 0.1), range(1001)),
        ((0, 30, 1 / 3, 1), range(0, 91, 3)),
        ((0, 0, 1, 1), [0]),
    ],
)
def test_saved_steps(grid, steps):
    assert TimeGrid(*grid).save_steps().tolist() == list(steps)


def test_times_are_not_accumulated():
    grid = TimeGrid(0.0, 100.0, 0.1, 0.1)
    assert grid.time_at(30) == 30 * 0.1
    assert grid.save_times().tolist() == [k * 0.1 for k in range(1001)]


@pytest.mark.parametrize(
    ("grid", "match"),
    [
        ((math.nan, 1, 1, 1), "start is nan"),
        ((0, math.inf, 1, 1), "final time is inf"),
        ((0, 1, math.nan, 1), "time step is nan"),
        ((0, 1, 1, math.inf), "saving period is inf"),
        ((0, 1, 0, 1), "time step is 0; it must be greater"),
        ((0, 1, -1, 1), "time step is -1"),
        ((0, 1, 1, 0), "saving period is 0"),
        ((1, 0, 1, 1), "final time 0 lies before the initial time 1"),
        ((0, 1, 1e-12, 1), "more than 100,000,000 steps"),
        ((-1e308, 1e308, 1, 1), "more than"),
        ((0, 1, 5e-324, 1), "more than"),
    ],
)
def test_refused(grid, match):
    with pytest.raises(DesignError, match=match):
        TimeGrid(*grid)


@given(st.floats(-1e4, 1e4), st.floats(0, 1e3), st.floats(0.1, 1e3), st.floats(1e-3, 1e5))
def test_saved_steps_cover_the_run(start, span, step, save_every):
    grid = TimeGrid(start, start + span, step, save_every)
    steps = grid.save_steps()
    assert steps[0] == 0
    assert steps[-1] <= grid.n_steps
    assert (np.diff(steps) >= 1).all()
    assert abs(grid.time_at(grid.n_steps) - grid.stop) <= step / 2 * (1 + 1e-6) + 1e-9
    assert (np.diff(steps) <= math.ceil(save_every / step) + 1).all()
    assert (grid.n_steps - steps[-1]) * step <= save_every + step
