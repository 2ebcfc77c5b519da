"""The adaptive method in plain Python, one member at a time: slow, readable, and bit for bit equal to the kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from villageflow._kernels import _vmath
from villageflow.program.dormand_prince import CONTROLLER, CONTROLLER_NAMES, NODES, WEIGHTS, Outcome
from villageflow.program.events import SAME_TIME
from villageflow.program.noise import Noise
from villageflow.program.program import Clock, Program
from villageflow.program.reference import NAN, MemberRun
from villageflow.timegrid import TimeGrid

_C = dict(zip(CONTROLLER_NAMES, CONTROLLER.tolist(), strict=True))
_NODES = NODES.tolist()
_WEIGHTS = WEIGHTS.tolist()


def run_adaptive_reference(
    program: Program, grid: TimeGrid, parameters: Mapping[str, float], tolerance: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], Outcome, float]:
    """Run one member with steps of its own.

    Parameters
    ----------
    program : Program
        Compiled with ``adaptive=True``.
    grid : TimeGrid
        Start, end and save points; the first step tried is the time step.
    parameters : mapping of str to float
        A value for every varied parameter of the program.
    tolerance : (float, float)
        Relative and absolute.

    Returns
    -------
    values : (n_saves, n_times) array
        The saved variables; NaN from the save point on that was not reached.
    outcome : Outcome
    stopped : float
        Time at which the member stopped, or NaN.
    """
    assert program.clock is not None
    run = _AdaptiveRun(program, grid, parameters, program.clock, tolerance)
    return run.run(), run.outcome, run.stopped


class _AdaptiveRun(MemberRun):
    """Registers of one member, its time, its step and how it fares."""

    def __init__(
        self, program: Program, grid: TimeGrid, parameters: Mapping[str, float], clock: Clock,
        tolerance: tuple[float, float],
    ) -> None:
        super().__init__(program, grid, parameters, Noise(), 0)
        self.clock, self.tolerance, self.same = clock, tolerance, SAME_TIME * grid.step
        self.time, self.proposed, self.error_before, self.rejected = grid.start, grid.step, 1.0, False
        self.before = self.stocks()
        self.outcome, self.stopped = Outcome.FINISHED, NAN

    def run(self) -> npt.NDArray[np.float64]:
        program, grid = self.program, self.grid
        steps = grid.save_steps().tolist()
        out = np.full((len(program.saves), len(steps)), NAN)
        for point, k in enumerate([*steps, grid.n_steps]):
            self._advance_to(grid.start + k * grid.step)
            if self.outcome > Outcome.FINISHED or point == len(steps):
                break
            self._evaluate(self.time, self.time, self.before)
            self.execute("save", self.vector, 0)
            values = [
                (self.scalar if is_scalar else self.vector)[slot] for is_scalar, slot in program.save_slots.tolist()
            ]
            if not all(map(math.isfinite, values)):
                self.outcome = Outcome.SAVED_NOT_FINITE
            out[:, point] = values
        if self.outcome is Outcome.FINISHED and not all(map(math.isfinite, self.before)):
            self.outcome = Outcome.SAVED_NOT_FINITE
        out[np.isnan(out)] = NAN
        return out

    def _evaluate(self, time: float, middle: float, stocks: list[float]) -> list[float]:
        """Net flows at a time, with what jumps as it is in the middle of the step."""
        self.vector[self.clock.time], self.vector[self.clock.step_time] = time, middle
        self.set_stocks(stocks)
        self.execute("lane", self.vector, 0)
        return [self.vector[slot] for slot in self.program.flow_slots.tolist()]

    def _advance_to(self, until: float) -> None:
        """Steps to the next save point, each of them onto the next event at the latest."""
        attempts = 0
        target = self.time
        while self.time < until:
            if not target > self.time:
                target = self._event_after(self.time, until)
            left = target - self.time
            tried = left if self.proposed >= left else (0.5 * left if 2.0 * self.proposed > left else self.proposed)
            flows, after = self._attempt(tried)
            if not all(map(math.isfinite, [*self.before, *flows[0]])):
                return self._stop(Outcome.NOT_FINITE)
            attempts += 1
            error = self._error(tried, flows, after)
            if error <= 1.0:
                lands = self.proposed >= left
                self._accept(error, tried, after)
                self.time = target if lands else self.time + tried
                if self.time == until:
                    return None
            else:
                factor = _C["safety"] * _vmath.power(error, -_C["rejected_exponent"])
                self.proposed = tried * max(factor, _C["least_factor"])
                self.rejected = True
                if self.proposed < _C["least_step"] * max(abs(self.time), self.grid.step):
                    return self._stop(Outcome.STEP_UNDERFLOW)
            if not attempts < _C["most_attempts"]:
                return self._stop(Outcome.TOO_MANY_STEPS)
        return None

    def _stop(self, outcome: Outcome) -> None:
        self.outcome, self.stopped = outcome, self.time

    def _attempt(self, tried: float) -> tuple[list[list[float]], list[float]]:
        """Net flows of the seven stages, and the stocks at the end of the step."""
        flows: list[list[float]] = []
        stocks = self.before
        for node, weights in zip(_NODES, _WEIGHTS, strict=False):
            if flows:
                sums = _weighted(weights, flows)
                stocks = [x + tried * s for x, s in zip(self.before, sums, strict=True)]
            flows.append(self._evaluate(self.time + node * tried, self.time + 0.5 * tried, stocks))
        return flows, stocks

    def _error(self, tried: float, flows: list[list[float]], after: list[float]) -> float:
        """The largest error over stocks, relative to what the tolerances allow."""
        relative, absolute = self.tolerance
        worst = 0.0
        for x, x_before, e in zip(after, self.before, _weighted(_WEIGHTS[-1], flows), strict=True):
            level = abs(x) if abs(x) > abs(x_before) else abs(x_before)
            ratio = abs(tried * e) / (absolute + relative * level)
            worst = max(worst, ratio if math.isfinite(ratio) and math.isfinite(x) else math.inf)
        return worst

    def _accept(self, error: float, tried: float, after: list[float]) -> None:
        self.before = after
        now, before = -_C["proportional"], _C["integral"]
        factor = _C["safety"] * _vmath.power(error, now) * _vmath.power(self.error_before, before)
        factor = min(max(factor, _C["least_factor"]), _C["most_factor"])
        if self.rejected:
            factor = min(factor, 1.0)
        self.rejected = False
        self.error_before = max(error, _C["least_error"])
        grown = tried * factor
        cut = tried < self.proposed  # short for an event or a save point, which says little about the next step
        self.proposed = self.proposed if cut and self.proposed > grown else grown

    def _event_after(self, now: float, until: float) -> float:
        """The first event after `now`, or `until`; what is the same time as either is left out."""
        soon, late = now + self.same, until - self.same
        best = until
        for table, a, b, c in self.clock.events.tolist():
            at = self.vector[a]
            if table >= 0:
                at = self._break_after(table, at, self.vector[b], soon)
            elif b >= 0 and not at > soon and self.vector[b] > 0.0:
                period = self.vector[b]
                at += _whole((soon - at) / period) * period
                if not at > soon:
                    at += period
            if table < 0 and c >= 0 and at > self.vector[c]:
                continue
            if soon < at < late and at < best:
                best = at
        return best

    def _break_after(self, table: int, slope: float, offset: float, soon: float) -> float:
        """The first time after `soon` at which ``slope * time + offset`` is at a point of the table, or NaN."""
        tables = self.program.tables
        x = tables.points[tables.offsets[table]:tables.offsets[table + 1], 0].tolist()
        value = slope * soon + offset
        if not (slope > 0.0 or slope < 0.0) or value != value:
            return NAN
        ahead = [xk for xk in x if xk > value] if slope > 0.0 else [xk for xk in reversed(x) if xk < value]
        return next((at for at in ((xk - offset) / slope for xk in ahead) if at > soon), NAN)


def _weighted(weights: list[float], flows: list[list[float]]) -> list[float]:
    """Sums over stages, in the order of the stages; a weight of zero takes no part after the first."""
    total = [flow * weights[0] for flow in flows[0]]
    for weight, flow in zip(weights[1:], flows[1:], strict=False):
        if weight != 0.0:
            total = [t + weight * f for t, f in zip(total, flow, strict=True)]
    return total


def _whole(periods: float) -> float:
    """The next whole number above `periods`."""
    return math.floor(periods) + 1.0 if math.isfinite(periods) else periods
