"""Figures: fans of an ensemble, paths of a few series, ends of a search. Matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from villageflow.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""

_STYLE: Final[Any] = {
    "font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False, "axes.labelsize": 8.5,
    "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.4, "figure.dpi": 150,
    "svg.hashsalt": "villageflow", "pdf.fonttype": 42, "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.5,
}


def new_figure(*, columns: int = 1, width: float = 6.3, height: float = 2.8) -> tuple[Figure, list[Axes]]:
    """A figure of one row in the package's style.

    Parameters
    ----------
    columns : int
        Number of panels.
    width, height : float
        Inches.
    """
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure = _figure_class()(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


@cache
def _figure_class() -> type[Figure]:
    """A figure that notebooks show without a plotting backend being chosen first."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", metadata={"Software": None})
            return buffer.getvalue()

    return ShownFigure


def fan(
    values: xr.DataArray,
    *,
    ax: Axes | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    colour: str = COLOURS[0],
    label: str | None = None,
    scale: float = 1.0,
    unit: str | None = None,
) -> Axes:
    """Median and central bands over members.

    Parameters
    ----------
    values : DataArray
        Dimensions ``member`` and ``time``; members that are not finite are left out and counted in the label.
    ax : Axes, optional
        Default: a new figure.
    levels : sequence of float
        Central probabilities of the bands.
    colour : str
        Of the median and, paler, of the bands.
    label : str, optional
        Name in the legend.
    scale : float
        Values are divided by it.
    unit : str, optional
        Unit of the divided values; default the variable's.

    Returns
    -------
    Axes
    """
    if not isinstance(values, xr.DataArray):
        raise ReportError(f"a fan draws one variable, not a {type(values).__name__}; select one, such as ds['profit']")
    if set(values.dims) != {"member", "time"}:
        raise ReportError(f"a fan needs the dimensions member and time; {values.name!r} has {tuple(values.dims)}")
    if ax is None:
        ax = new_figure()[1][0]
    table = values.transpose("time", "member").to_numpy() / scale
    keep = np.isfinite(table).all(axis=0)
    if not keep.any():
        raise ReportError(f"no member of {values.name!r} is finite; there is nothing to draw")
    left_out = int((~keep).sum())
    times = values["time"].to_numpy()
    for level in sorted(levels, reverse=True):
        low, high = np.quantile(table[:, keep], [(1 - level) / 2, (1 + level) / 2], axis=1)
        ax.fill_between(times, low, high, color=colour, alpha=0.18, linewidth=0)
    text = label if not left_out else f"{label or ''} ({left_out} not finite left out)".strip()
    ax.plot(times, np.median(table[:, keep], axis=1), color=colour, label=text)
    _label_axes(ax, values, unit)
    return ax


def lines(
    series: Mapping[str, xr.DataArray], *, ax: Axes | None = None, scale: float = 1.0, unit: str | None = None
) -> Axes:
    """Paths over time, one colour each.

    Parameters
    ----------
    series : mapping of str to DataArray
        Legend name to values with the one dimension ``time``.
    ax : Axes, optional
        Default: a new figure.
    scale : float
        Values are divided by it.
    unit : str, optional
        Unit of the divided values; default that of the first series.
    """
    if not isinstance(series, Mapping) or isinstance(series, xr.Dataset):
        raise ReportError(
            f"lines takes a dict of legend name to values, not a {type(series).__name__}; "
            "give {'name': ds['profit'][0]}"
        )
    for label, values in series.items():
        if not isinstance(values, xr.DataArray):
            raise ReportError(f"{label!r} is a {type(values).__name__}; give a DataArray, such as ds['profit'][0]")
    if ax is None:
        ax = new_figure()[1][0]
    for (label, values), colour in zip(series.items(), COLOURS * (1 + len(series) // len(COLOURS)), strict=False):
        if values.dims != ("time",):
            raise ReportError(f"{label!r} has the dimensions {tuple(values.dims)}; a path has time alone: select first")
        ax.plot(values["time"].to_numpy(), values.to_numpy() / scale, color=colour, label=label)
        _label_axes(ax, values, unit)
    if len(series) > 1:
        legend(ax)
    return ax


def waterfall(ends: npt.ArrayLike, *, ax: Axes | None = None) -> Axes:
    """How far below the best log likelihood each start of a search ended, from the best to the worst.

    Parameters
    ----------
    ends : (n_starts,) array
        ``starts`` of a fit. A flat beginning says that many starts found the same optimum; steps are other optima.
    ax : Axes, optional
        Default: a new figure.

    Returns
    -------
    Axes
        With starts that could not be run counted in the label of the axis.
    """
    values = np.asarray(ends, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).any():
        raise ReportError("a waterfall needs the log likelihoods at which starts ended; give fit.starts")
    if ax is None:
        ax = new_figure(width=3.4)[1][0]
    below = np.sort(values.max() - values[np.isfinite(values)])
    ax.plot(np.arange(1, len(below) + 1), below, marker="o", markersize=3, color=COLOURS[0], clip_on=False)
    ax.set_yscale("symlog", linthresh=1e-3)
    ax.set_ylim(bottom=0)
    failed = len(values) - len(below)
    ax.set_xlabel("start, by where it ended" + (f" ({failed} not run)" if failed else ""))
    ax.set_ylabel("log likelihood below the best")
    return ax


def legend(ax: Axes, *, loc: Any = "best") -> None:
    """A legend in the package's style."""
    ax.legend(loc=loc, frameon=False, fontsize=7)


def _label_axes(ax: Axes, values: xr.DataArray, unit: str | None) -> None:
    unit = values.attrs.get("units", "") if unit is None else unit
    name = values.attrs.get("long_name", str(values.name))
    if not ax.get_ylabel():
        ax.set_ylabel(f"{name} ({unit})" if unit else str(name))
    ax.set_xlabel(values["time"].attrs.get("units", "time").lower() or "time")


def save_figure(figure: Figure, path: str | Path, *, alt: str) -> Path:
    """Write a vector figure whose bytes depend on its content alone.

    Parameters
    ----------
    figure : Figure
        What to write.
    path : str or Path
        Ends in ``.svg``, ``.pdf`` or ``.png``; a folder that does not exist is made.
    alt : str
        What the figure shows, for readers who cannot see it; kept in the file.

    Returns
    -------
    Path
    """
    import matplotlib as mpl

    path = Path(path)
    metadata: dict[str, Any] = {
        ".svg": {"Date": None, "Description": alt}, ".pdf": {"CreationDate": None, "Subject": alt},
        ".png": {"Description": alt, "Software": None},
    }.get(path.suffix.lower(), {})
    if not metadata:
        raise ReportError(f"{path}: figures are written as .svg, .pdf or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        figure.savefig(path, metadata=metadata)
    return path
