"""The adaptive method: the pair of Dormand and Prince, and the constants that choose its steps.

Both the kernel and its readable twin take their numbers from here.

References
----------
Dormand and Prince (1980), A family of embedded Runge-Kutta formulae, table 2: orders 5 and 4, seven stages.
Hairer, Norsett and Wanner (1993), Solving Ordinary Differential Equations I, sections II.4 (the proportional-integral
controller with beta = 0.04) and II.5.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

NODES: Final[npt.NDArray[np.float64]] = np.array([0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0])
"""Where in the step each stage is."""

WEIGHTS: Final[npt.NDArray[np.float64]] = np.array([
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [1 / 5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [3 / 40, 9 / 40, 0.0, 0.0, 0.0, 0.0, 0.0],
    [44 / 45, -56 / 15, 32 / 9, 0.0, 0.0, 0.0, 0.0],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0.0, 0.0, 0.0],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0.0, 0.0],
    [35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0],
    [71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40],
])
"""Row s < 7: how the net flows of earlier stages make stage s; stage 6 is the fifth-order result. Row 7: fifth-order
less fourth-order result, the estimate of the error."""

CONTROLLER: Final[npt.NDArray[np.float64]] = np.array([0.9, 0.17, 0.04, 0.2, 10.0, 1e-4, 0.2, 2.0**-48, 100_000.0])
"""In the order of `CONTROLLER_NAMES`."""

CONTROLLER_NAMES: Final = (
    "safety",             # aims at this share of the step that would just do
    "proportional",       # exponent of this step's error
    "integral",           # exponent of the error of the step before
    "least_factor",       # a step is at least this multiple of the one before
    "most_factor",        # and at most this
    "least_error",        # smaller errors count as this in the step after
    "rejected_exponent",  # exponent of the error of a rejected step
    "least_step",         # shortest step, relative to the time or the time step, whichever is larger
    "most_attempts",      # steps tried between two save points
)


class Outcome(IntEnum):
    """How a member ended; the kernel's numbers."""

    SAVED_NOT_FINITE = 0
    FINISHED = 1
    NOT_FINITE = 2
    STEP_UNDERFLOW = 3
    TOO_MANY_STEPS = 4
