"""The coverage of a panel as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from villageflow.datasets.quality import Quality
from villageflow.errors import ReportError
from villageflow.report.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

_ROW: Final = 0.15
_MAX_ROWS: Final = 120


def coverage_figure(quality: Quality) -> Figure:
    """Share of entities with a value, variable by time: white is none, the darker the more.

    Parameters
    ----------
    quality : Quality
        As `villageflow.datasets.quality` gives it.

    Returns
    -------
    Figure
        6.3 inches wide, as high as the variables need, in the order of the panel.

    Raises
    ------
    ReportError
        If the panel has no cell, or more than 120 variables, which no page holds.
    """
    table = quality.coverage
    if table.empty:
        raise ReportError("the panel has no variable or no time; there is nothing to draw")
    if len(table) > _MAX_ROWS:
        raise ReportError(f"the panel has {len(table)} variables, a page holds {_MAX_ROWS}; select columns first")
    figure, (ax,) = new_figure(height=1.1 + _ROW * len(table))
    times = table.columns.to_numpy(dtype=float)
    half = np.diff(times) / 2 if len(times) > 1 else np.array([0.5])
    edges = np.concatenate([[times[0] - half[0]], times + np.append(half, half[-1])])
    shares = 100 * table.to_numpy(dtype=float)
    mesh = ax.pcolormesh(
        edges, np.arange(len(table) + 1), np.where(shares > 0, shares, np.nan), vmin=0, vmax=100, linewidth=0.4,
        cmap=_colours(), edgecolor="white",
    )
    ax.grid(False)
    ax.invert_yaxis()
    ax.set_yticks(np.arange(len(table)) + 0.5, labels=[str(name) for name in table.index], fontsize=6)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_ylabel("variable")
    years = bool((times == np.round(times)).all() and times[0] >= 1500 and times[-1] <= 2500)
    ax.set_xlabel("year" if years else "time")
    ax.xaxis.set_major_locator(_locator())
    bar = figure.colorbar(mesh, ax=ax, fraction=0.03, pad=0.02)
    bar.set_label("entities with a value (percent)", fontsize=8.5)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def _colours() -> Colormap:
    """One hue, so that order is lightness, which every reader sees."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("coverage", ["#d3e6f3", COLOURS[0], "#00273f"])


def _locator() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=8)
