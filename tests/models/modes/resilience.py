"""Reference modes of resilience: whether each member of a set of runs shows what a statement says."""

from __future__ import annotations

import numpy as np
from runs import Floats, Mode, Runs, Series, Truth

FIRST, SECOND = 2020.0625, 2023.0625
SAVED = ("performance", "performance_loss", "listed_farm_sales", "streamed_farm_sales", "online_farm_sales")


def depth(series: Series) -> Floats:
    """Deepest drop of performance under the trend, for each member."""
    return 1 - series["performance"].min(axis=1)


def half_recovery(series: Series) -> Floats:
    """Time from the largest loss of production until half of it is made good; infinite where it is not by the end."""
    loss = series["performance_loss"]
    top = loss.argmax(axis=1)
    past = np.arange(loss.shape[1]) >= top[:, None]
    back = past & (loss <= loss.max(axis=1, keepdims=True) / 2)
    return np.where(back.any(axis=1), series.time[back.argmax(axis=1)] - series.time[top], np.inf)


def lost(series: Series, start: float) -> Floats:
    """Mean loss of production in the two years from the start of a shock, whether buffers replaced it or not."""
    return series.span("performance_loss", start, start + 2).mean(axis=1)


def year_mean(series: Series, name: str, year: int) -> Floats:
    """Mean of a variable over the saved times of a year, for each member."""
    return series.span(name, year, year + 0.9375).mean(axis=1)


def k04_1(run: Runs) -> Truth:
    """More capability: a smaller drop, a faster half-recovery, a higher end; a quarter, a quarter and 0.02 overall."""
    series = [run(normal_capability=level) for level in (0.1, 0.5, 0.9)]
    drops, halves, ends = ([of(s) for s in series] for of in (depth, half_recovery, lambda s: s.end("performance")))
    ordered = (drops[0] > drops[1]) & (drops[1] > drops[2]) & (halves[0] >= halves[1]) & (halves[1] >= halves[2])
    ordered &= (ends[0] < ends[1]) & (ends[1] < ends[2])
    clear = (drops[2] <= 0.75 * drops[0]) & (halves[2] <= 0.75 * halves[0]) & (ends[2] >= ends[0] + 0.02)
    return ordered & clear


def k04_2(run: Runs) -> Truth:
    """A second equal shock three years later takes at least a twentieth less production than the first, and relatively
    less than without adaptation."""
    again = {"second_shock_size": run.values("shock_size"), "second_shock_length": run.values("shock_length")}

    adapted, rigid = run(again), run(again, switch_b41=0.0)
    second_over_first, without = (lost(series, SECOND) / lost(series, FIRST) for series in (adapted, rigid))
    return (second_over_first <= 0.95) & (second_over_first < without)


def k04_3(run: Runs) -> Truth:
    """Without adaptation buffers cut the drop of a shock of three months by a fifth and that of two years by at most a
    twentieth; with adaptation performance is better at the end of the long shock."""
    rigid = {"switch_b41": 0.0}
    (short, bare_short), (long, bare_long) = (
        (depth(run(rigid, shock_length=length)), depth(run(rigid, shock_length=length, normal_buffer=0.0)))
        for length in (0.25, 2.0)
    )
    end = FIRST + 2
    better = run(shock_length=2.0).at("performance", end) > run(rigid, shock_length=2.0).at("performance", end)
    return (short <= 0.8 * bare_short) & (long >= 0.95 * bare_long) & better


def k04_4(run: Runs) -> Truth:
    """The epidemic lowers listed sales of farm goods in 2020 and raises streamed ones; online sales of 2020 exceed
    those of 2019; without sellers who turn to streams their growth is at least two points lower."""
    live, calm, listed = run(), run(shock_size=0.0), run(live_channel_open=0.0)
    struck = year_mean(live, "listed_farm_sales", 2020) < year_mean(calm, "listed_farm_sales", 2020)
    taken = year_mean(live, "streamed_farm_sales", 2020) > year_mean(calm, "streamed_farm_sales", 2020)
    growth, without = (
        year_mean(series, "online_farm_sales", 2020) / year_mean(series, "online_farm_sales", 2019) - 1
        for series in (live, listed)
    )
    return struck & taken & (growth > 0) & (growth >= without + 0.02)


MODES: dict[str, Mode] = {"RM-K04.1": k04_1, "RM-K04.2": k04_2, "RM-K04.3": k04_3, "RM-K04.4": k04_4}
