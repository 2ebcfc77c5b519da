"""What to know of a panel before it is used: coverage, breaks, conflicts, gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.datasets.terms import check_index, columns_of, evaluate
from villageflow.errors import DataError

BREAK_Z: Final = 3.5
"""A year is listed if the median change of the entities is so many robust standard deviations from that of the other
years: the customary cut for the modified z score (Iglewicz and Hoaglin 1993)."""

OUTLIER_Z: Final = 10.0
"""An entity and year is listed if its change is so many robust standard deviations from the median change of the
year; the spread is that of the year or that of all years, whichever is larger. Higher than `BREAK_Z`, because one in
hundreds of fat-tailed changes passes 3.5 without anything being wrong."""

MIN_YEARS: Final = 6
"""With fewer yearly changes a spread says nothing, and no break is looked for."""

_MAD_TO_SD: Final = 1.4826
_MAX_GRID: Final = 10_000
_SHOWN: Final = 15


@dataclass(frozen=True)
class Identity:
    """Two terms that should be equal.

    Parameters
    ----------
    left, right : str
        Terms as in `villageflow.datasets.terms`.
    tolerance : float
        The share of the larger one by which they may differ.
    reason : str
        Why they should be equal, and why they may differ so much.
    within : tuple of str, optional
        Add up ``left`` over the entities of each time and of each value of these columns, where all have a value, and
        compare with ``right``, which they share. None compares entity by entity.
    """

    left: str
    right: str
    tolerance: float
    reason: str
    within: tuple[str, ...] | None = None


_EXACT: Final = 1e-9
IDENTITIES: Final = (
    Identity("(rural_population + urban_population)", "resident_population", _EXACT, "parts of the whole"),
    Identity("100 * rural_population", "(100 - urbanisation) * resident_population", 1e-3,
             "definition of urbanisation; population is rounded to 10,000 persons"),
    Identity("(survivors + entrants)", "unique1", _EXACT, "names of the later roster"),
    Identity("(survivors + exits_upper)", "unique0", _EXACT, "names of the earlier roster"),
    Identity("(alibaba_marketing_revenue + alibaba_commission_revenue)", "alibaba_merchant_fees", _EXACT,
             "parts of the whole"),
    Identity("alibaba_customer_management_revenue", "alibaba_merchant_fees", _EXACT, "one series under two names"),
    Identity("alibaba_customer_management_revenue_restated", "alibaba_customer_management_revenue", 1e-3,
             "one series, restated"),
    Identity("(migrant_workers_out + migrant_workers_local)", "migrant_workers_total", 1e-3,
             "parts of the whole; each is rounded to 10,000 persons"),
    Identity("(migrant_workers_out_individual + migrant_workers_out_whole_family)", "migrant_workers_out", 1e-3,
             "parts of the whole; each is rounded to 10,000 persons"),
    Identity("(migrant_workers_out_cross_province + migrant_workers_out_within_province)", "migrant_workers_out", 2e-3,
             "parts of the whole; each is rounded to 10,000 persons, in small regions one in a thousand"),
    Identity("rural_online_shops", "rural_online_shops_second_source", 0.01, "one figure from two sources"),
    Identity("taobao_villages", "nation_taobao_villages", _EXACT, "provinces add up to the published total", ()),
    Identity("villages", "nation_taobao_villages", _EXACT, "counties add up to the published total", ()),
    Identity("villages", "province_taobao_villages", _EXACT, "counties add up to the province", ("province",)),
)
"""What should be equal in the shipped data."""


@dataclass(frozen=True, eq=False)
class Quality:
    """What to know of a panel.

    Parameters
    ----------
    n_entities : int
    coverage : DataFrame
        Variable x time: share of all entities of the panel with a value, 0 to 1; 0 at times in its span without rows.
    breaks : DataFrame
        ``variable``, ``entity`` (blank: all), ``time`` (NaN: all), ``kind`` (documented: a warning of the codebook;
        detected: see `quality`), ``size`` (robust z score, NaN if documented), ``text``.
    conflicts : DataFrame
        One row per disagreement, or one per identity that holds: ``identity``, ``verdict`` (conflict, agrees),
        ``entity``, ``time``, ``left``, ``right``, ``difference`` (share of the larger side; of identities that hold the
        largest), ``tolerance``, ``n_compared``, ``reason``.
    gaps : DataFrame
        ``variable``, ``entity``, ``first``, ``last``, ``n_missing``, ``missing`` (tuple of times): times without a
        value between the first and the last one known.
    """

    n_entities: int
    coverage: pd.DataFrame
    breaks: pd.DataFrame
    conflicts: pd.DataFrame
    gaps: pd.DataFrame

    def to_markdown(self) -> str:
        """The report as text: coverage by variable, then breaks, conflicts and gaps, the largest first."""
        return "\n".join(_markdown(self))


def quality(panel: pd.DataFrame, *, identities: Sequence[Identity] = IDENTITIES) -> Quality:
    """Check a panel; nothing is changed or dropped.

    Parameters
    ----------
    panel : pandas.DataFrame
        Indexed (entity, time): shipped, built or a user's own; ``attrs`` may be empty.
    identities : sequence of Identity
        What should be equal; those whose columns are not in the panel are passed over.

    Returns
    -------
    Quality
        Breaks are looked for in changes from one unit of time to the next: of logs where a column is positive
        throughout, else of levels. A year is listed by `BREAK_Z`, an entity and year by `OUTLIER_Z`; the spread is
        the median absolute deviation. What is listed is unusual, not wrong, and a break that all years share, or one
        in a column with fewer than `MIN_YEARS` changes, is not found.

    Raises
    ------
    DataError
        If the panel is not indexed (entity, time) without repeats, or has two columns of one name.
    """
    check_index(panel, DataError)
    if not panel.columns.is_unique:
        twice = panel.columns[panel.columns.duplicated()][0]
        raise DataError(f"The panel has column {str(twice)!r} twice. Rename one of them.")
    panel = panel.sort_index(level=1, sort_remaining=False)
    names = [str(name) for name in panel.columns if _is_number(panel[name])]
    breaks = [*_documented(panel), *(row for name in names for row in _detected(name, panel))]
    conflicts = [row for item in identities for row in _compared(item, panel, names)]
    return Quality(
        n_entities=int(panel.index.get_level_values(0).nunique()),
        coverage=_coverage(panel),
        breaks=pd.DataFrame(breaks, columns=["variable", "entity", "time", "kind", "size", "text"]),
        conflicts=pd.DataFrame(conflicts, columns=_CONFLICT),
        gaps=pd.DataFrame([row for name in panel for row in _gaps(name, panel)], columns=_GAP),
    )


_CONFLICT: Final = [
    "identity", "verdict", "entity", "time", "left", "right", "difference", "tolerance", "n_compared", "reason"
]
_GAP: Final = ["variable", "entity", "first", "last", "n_missing", "missing"]


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)


def _coverage(panel: pd.DataFrame) -> pd.DataFrame:
    times = panel.index.get_level_values(1)
    share = panel.notna().groupby(times).sum().T / max(panel.index.get_level_values(0).nunique(), 1)
    share = share.reindex(columns=_grid(share.columns.to_numpy()), fill_value=0.0)
    share.index.name, share.columns.name = "variable", "time"
    share.attrs = {}
    return share


def _documented(panel: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    for name, text in panel.attrs.get("warnings", {}).items():
        if name in panel.columns:
            yield name, "", float("nan"), "documented", float("nan"), text


def _detected(name: str, panel: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Years, and then entities and years, whose change is unlike the others."""
    cells = panel[name].to_numpy(dtype="float64", na_value=np.nan)
    known = np.isfinite(cells)
    positive = bool((cells[known] > 0).all())
    frame = pd.DataFrame({"x": np.log(cells[known]) if positive else cells[known]}, index=panel.index[known])
    changes = evaluate("d(x)", frame).dropna()
    medians = changes.groupby(level=1).median()
    what = "log change" if positive else "change"
    warning = str(panel.attrs.get("warnings", {}).get(name, ""))
    if len(medians) < MIN_YEARS:
        return
    for time, change in medians.items():
        others = medians.drop(time).to_numpy()
        score = _score(change, others)
        if abs(score) > BREAK_Z:
            hint = f"; the codebook mentions {time:g}" if f"{time:g}" in warning else ""
            text = f"median {what} {change:.3g}, in other years {np.median(others):.3g}{hint}"
            yield name, "", time, "detected", score, text
    if changes.index.get_level_values(0).nunique() > 2:
        own = changes - changes.groupby(level=1).transform("median")
        of_year = own.groupby(level=1).transform(lambda year: _spread(year.to_numpy()))
        scores = (own / of_year.clip(lower=_spread(own.to_numpy())).replace(0.0, np.nan)).dropna()
        for i in np.flatnonzero(scores.abs() > OUTLIER_Z).tolist():
            key: Any = scores.index[i]
            text = f"{what} {changes.loc[key]:.3g}, median of the entities {medians.loc[key[1]]:.3g}"
            yield name, *key, "detected", float(scores.iloc[i]), text


def _spread(values: npt.NDArray[np.float64]) -> float:
    return _MAD_TO_SD * float(np.median(np.abs(values - np.median(values))))


def _score(value: float, others: npt.NDArray[np.float64]) -> float:
    """Robust z score; 0 where the others do not vary."""
    spread = _spread(others)
    return float((value - np.median(others)) / spread) if spread else 0.0


def _compared(item: Identity, panel: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    needed = {*columns_of(item.left), *columns_of(item.right)}
    if not needed <= set(names) or not set(item.within or ()) <= set(panel.columns):
        return
    left, right = evaluate(item.left, panel), evaluate(item.right, panel)
    if item.within is not None:
        keys = [*(panel[name].to_numpy() for name in item.within), panel.index.get_level_values(1)]
        complete = left.notna().groupby(keys).all()
        left, right = left.groupby(keys).sum().where(complete), right.groupby(keys).first()
    both = pd.DataFrame({"left": left, "right": right}).dropna()
    if both.empty:
        return
    size = both.abs().max(axis=1)
    gap = ((both["left"] - both["right"]).abs() / size.where(size > 0, 1.0)).to_numpy()
    identity = f"{'sum of ' if item.within is not None else ''}{item.left} = {item.right}"
    tail = (item.tolerance, len(both), item.reason)
    if not (gap > item.tolerance).any():
        yield identity, "agrees", "", np.nan, np.nan, np.nan, float(gap.max()), *tail
    for i in np.flatnonzero(gap > item.tolerance).tolist():
        key = both.index[i]
        entity, time = ("/".join(map(str, key[:-1])), key[-1]) if isinstance(key, tuple) else ("", key)
        yield identity, "conflict", entity, time, both["left"].iloc[i], both["right"].iloc[i], float(gap[i]), *tail


def _gaps(name: Any, panel: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    known = panel[name].notna().unstack(level=1, fill_value=False)
    known = known.reindex(columns=_grid(known.columns.to_numpy()), fill_value=False)
    table = known.to_numpy(dtype=bool)
    inside = np.logical_or.accumulate(table, axis=1) & np.logical_or.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    times, entities = known.columns.to_numpy(), known.index.tolist()
    for i in np.flatnonzero((inside & ~table).any(axis=1)).tolist():
        span, missing = times[inside[i]], times[inside[i] & ~table[i]]
        yield str(name), entities[i], span[0].item(), span[-1].item(), len(missing), tuple(missing.tolist())


def _grid(times: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """All times from the first to the last in the panel's smallest step; its own times if that would be too many."""
    times = np.sort(times)
    if len(times) < 2:
        return times
    step = np.diff(times).min()
    n = round(float(times[-1] - times[0]) / float(step)) + 1
    grid = times[0] + step * np.arange(min(n, _MAX_GRID + 1))
    return grid if n <= _MAX_GRID and np.isin(times, grid).all() else times


def _markdown(found: Quality) -> Iterator[str]:
    times = found.coverage.columns
    yield f"{found.n_entities} entities, {len(times)} times, {len(found.coverage)} variables."
    yield from ("", "## Coverage", "")
    rows = []
    for name, shares in found.coverage.iterrows():
        held = shares[shares > 0]
        span = f"{held.index[0]:g}-{held.index[-1]:g}" if len(held) else "none"
        rows.append((name, span, len(held), f"{shares.mean():.0%}", f"{held.mean():.0%}" if len(held) else ""))
    yield from _table(("variable", "span", "times", "of all cells", "of times with any"), rows)
    yield from ("", "## Breaks", "")
    detected = found.breaks[found.breaks["kind"] == "detected"].sort_values("size", key=abs, ascending=False)
    detected = pd.concat([detected[detected["entity"] == ""], detected[detected["entity"] != ""]])
    shown = pd.concat([found.breaks[found.breaks["kind"] == "documented"], detected.head(_SHOWN)])
    yield from _table(("variable", "entity", "time", "kind", "z", "what"), shown.itertuples(index=False, name=None))
    if len(detected) > _SHOWN:
        yield f"\n{len(detected) - _SHOWN} more were detected."
    yield from ("", "## Conflicts", "")
    order = found.conflicts.sort_values(["verdict", "difference"], ascending=False, kind="stable")
    yield from _table(_CONFLICT, order.itertuples(index=False, name=None))
    yield from ("", "## Gaps", "")
    total = found.gaps.groupby("variable", sort=False).agg(n=("entity", "size"), m=("n_missing", "sum")).reset_index()
    yield from _table(("variable", "entities with a gap", "missing times"), total.itertuples(index=False, name=None))


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    if not lines:
        yield "None."
        return
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    yield from lines


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return " ".join(str(value).split()).replace("|", "\\|")
