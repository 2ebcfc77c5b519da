"""The time grid of a run: the only place that divides by the time step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from villageflow.errors import DesignError

_MAX_STEPS = 100_000_000


@dataclass(frozen=True)
class TimeGrid:
    """Start, stop, step and saving period of a run, in the model's time unit.

    Times are ``start + k * step``, never accumulated. When the span is not a whole number of steps the run
    ends at the last step that does not pass `stop` by more than half a step. Saved are the first step and
    every step at or first after ``start + j * save_every``, so a saving period that is not a multiple of the
    step loses no save point.
    """

    start: float
    stop: float
    step: float
    save_every: float

    def __post_init__(self) -> None:
        for label, value in (("start", self.start), ("final time", self.stop), ("time step", self.step),
                             ("saving period", self.save_every)):
            if not math.isfinite(value):
                raise DesignError(f"{label} is {value!r}; it must be a finite number")
        if self.step <= 0:
            raise DesignError(f"time step is {self.step!r}; it must be greater than 0")
        if self.stop < self.start:
            raise DesignError(f"final time {self.stop!r} lies before the initial time {self.start!r}")
        if self.save_every <= 0:
            raise DesignError(f"saving period is {self.save_every!r}; it must be greater than 0")
        if (self.stop - self.start) / self.step > _MAX_STEPS:
            raise DesignError(
                f"a step of {self.step!r} from {self.start!r} to {self.stop!r} asks for more than {_MAX_STEPS:,} "
                "steps; enlarge the time step"
            )

    @property
    def n_steps(self) -> int:
        """Number of steps after the start."""
        return math.floor((self.stop - self.start) / self.step + 0.5)

    def time_at(self, step: int) -> float:
        """Time of step `step`."""
        return self.start + step * self.step

    def save_steps(self) -> np.ndarray:
        """Indices of the steps that are saved, int64, increasing, the first always 0; not to be written to."""
        return self._save_steps

    @cached_property
    def _save_steps(self) -> np.ndarray:
        ratio = max(self.save_every / self.step, 1.0)
        n_saves = math.floor(self.n_steps / ratio + 1e-9) + 1
        wanted = np.arange(n_saves) * ratio
        steps = np.unique(np.ceil(wanted - 1e-6).astype(np.int64))
        steps = steps[steps <= self.n_steps]
        steps.flags.writeable = False
        return steps

    def save_times(self) -> np.ndarray:
        """Times of the saved steps, float64."""
        return self.start + self.save_steps() * self.step
