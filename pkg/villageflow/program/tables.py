"""Table functions as breakpoints: where each piece begins, its value there and its slope."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from villageflow.ir.nodes import NOT_AVAILABLE, Extrapolation, Interpolation, Table
from villageflow.program.program import Tables


def pack_tables(tables: Sequence[Table]) -> Tables:
    """All tables of a program as one array of breakpoints."""
    offsets, points, below = [0], [], []
    for table in tables:
        rows, slope_below = breakpoints(table)
        points += rows
        below.append(slope_below)
        offsets.append(len(points))
    return Tables(
        np.array(offsets, dtype=np.int32),
        np.array(points, dtype=np.float64).reshape(-1, 3),
        np.array(below, dtype=np.float64),
    )


def slope_table(table: Table) -> Table:
    """The derivative of a table: the slope of the piece in use, at a breakpoint that of the piece to its right."""
    rows, below = breakpoints(table)
    first = max(float(np.nextafter(table.x[0], -np.inf)), -sys.float_info.max)
    x, slopes = (first, *(row[0] for row in rows)), (below, *(row[2] for row in rows))
    return Table(x, slopes, Extrapolation.CLAMP, Interpolation.HOLD_BACKWARD)


def jumps(table: Table) -> bool:
    """Whether a table has a step: it is not interpolated, or two points share an x."""
    steps = any(
        x0 == x1 and y0 != y1 for x0, x1, y0, y1 in zip(table.x, table.x[1:], table.y, table.y[1:], strict=False)
    )
    return steps or table.interpolation is not Interpolation.LINEAR


def breakpoints(table: Table) -> tuple[list[tuple[float, float, float]], float]:
    """Rows of x, y and the slope to the right, and the slope to the left of the first."""
    x, y = table.x, table.y
    slopes = [
        (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0 for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False)
    ]
    if table.interpolation is not Interpolation.LINEAR:
        slopes = [0.0] * len(slopes)
    extend = table.extrapolation is Extrapolation.EXTEND and slopes
    ends = (slopes[0], slopes[-1]) if extend else (0.0, 0.0)
    if table.interpolation is Interpolation.LOOK_FORWARD:
        return _forward(x, y), 0.0
    if table.interpolation is Interpolation.RAW:
        return _raw(x, y), 0.0
    return [(xk, yk, slope) for xk, yk, slope in zip(x, y, [*slopes, ends[1]], strict=True)], ends[0]


def _forward(x: tuple[float, ...], y: tuple[float, ...]) -> list[tuple[float, float, float]]:
    """Look-forward takes the next point's value just after each point, so its breaks lie one step of bits later."""
    rows = [(x[0], y[0], 0.0)]
    for xk, yk in zip(x, y[1:], strict=False):
        rows.append((float(np.nextafter(xk, np.inf)), yk, 0.0))
    return rows


def _raw(x: tuple[float, ...], y: tuple[float, ...]) -> list[tuple[float, float, float]]:
    """Raw data are available at their own times only, which may miss those of the steps by rounding."""
    points = dict(zip(x, y, strict=True))  # of points at one time the last
    times = list(points)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    rows = []
    for xk, before, after in zip(times, [math.inf, *gaps], [*gaps, math.inf], strict=True):
        reach = min(1e-6 * max(1.0, abs(xk)), before / 4, after / 4)
        rows += [(xk - reach, points[xk], 0.0), (max(xk + reach, math.nextafter(xk, math.inf)), NOT_AVAILABLE, 0.0)]
    return [(min(rows[0][0] - 1.0, math.nextafter(rows[0][0], -math.inf)), NOT_AVAILABLE, 0.0), *rows]
