"""Figures of estimates: a specification curve, what single entities do, paths around an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from villageflow.econometrics.estimate import Estimate
from villageflow.errors import ReportError
from villageflow.report.plots import COLOURS, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Places: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.intp]]"


def robustness_figure(curve: pd.DataFrame, left_out: pd.DataFrame, *, label: str) -> Figure:
    """All specifications by size, and the main one without each entity.

    Parameters
    ----------
    curve : pandas.DataFrame
        As `villageflow.econometrics.robustness.specification_curve` gives it.
    left_out : pandas.DataFrame
        As `villageflow.econometrics.robustness.leave_one_out` gives it.
    label : str
        Of the vertical axis.

    Notes
    -----
    Colours tell apart the first word of the formula's label, which is the outcome, and the effects.
    """
    figure, (left, right) = new_figure(columns=2, height=3.0)
    found = curve.dropna(subset=["estimate"]).reset_index(drop=True)
    if found.empty:
        raise ReportError("no specification has an estimate; there is nothing to draw")
    groups = found["formula"].str.split().str[0] + ", " + found["effects"]
    for colour, (name, rows) in zip(COLOURS, found.groupby(groups, sort=True)):
        _bars(left, rows.index.to_numpy(), rows, colour, str(name))
    left.set_xlabel(f"specification, by size ({len(found)})")
    left.set_ylabel(label)
    legend(left, loc="upper left")
    _bars(right, np.arange(len(left_out)), left_out, COLOURS[0], None)
    ends = [0, len(left_out) - 1]
    right.set_xticks(ends, labels=[str(left_out.index[i]) for i in ends])
    right.set_xlabel(f"left out, one of {len(left_out)}")
    for ax in (left, right):
        ax.axhline(0, color="0.3", linewidth=0.8)
    return figure


def _bars(ax: Axes, place: Places, rows: pd.DataFrame, colour: str, label: str | None) -> None:
    centre = rows["estimate"].to_numpy()
    reach = np.vstack([centre - rows["lower"].to_numpy(), rows["upper"].to_numpy() - centre])
    ax.errorbar(
        place, centre, yerr=reach, fmt="o", color=colour, markersize=2, elinewidth=0.5, alpha=0.85, label=label
    )


def event_figure(paths: Mapping[str, Estimate], *, base: int, label: str, seed: int) -> Figure:
    """Effects by time since the event, with pointwise intervals (thick) and simultaneous bands (thin).

    Parameters
    ----------
    paths : mapping of str to Estimate
        By estimator, with coefficients ``e=...``.
    base : int
        The event time that the others are relative to; drawn at 0 without an interval.
    label : str
        Of the vertical axis.
    seed : int
        Of the simultaneous bands.
    """
    figure, (ax,) = new_figure(height=2.8)
    width = 0.16
    for number, (name, path) in enumerate(paths.items()):
        terms = [term for term in path.params.index if str(term).startswith("e=")]
        at = np.array([float(term.removeprefix("e=")) for term in terms]) + (number - (len(paths) - 1) / 2) * width
        pointwise = path.conf_int().loc[terms]
        bands = path.simultaneous_bands(terms=terms, seed=seed)
        colour = COLOURS[number]
        ax.vlines(at, bands["lower"], bands["upper"], color=colour, linewidth=0.8)
        ax.vlines(at, pointwise["lower"], pointwise["upper"], color=colour, linewidth=2.2)
        ax.plot(at, path.params[terms], "o", color=colour, markersize=3.5, label=name)
    ax.plot([base], [0], "s", color="0.3", markersize=3)
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.axvline(-0.5, color="0.6", linewidth=0.8, linestyle=":")
    ax.set_xlabel("years since the first listed village")
    ax.set_ylabel(label)
    legend(ax, loc="upper center")
    return figure
