"""Replications in two processes, kept as they come; and what they say, a row for each study, parameter and interval.

Raw replications go to ``.run/evidence``, a file for each study, so that a run that was killed goes on where it stopped.
A replication does not depend on the process that makes it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from evidence.studies import FLAG, N_RANKED, RANKS, STUDIES, TEST, Row, Study
from villageflow.calibrate.ranks import uniformity
from villageflow.errors import VillageflowError

ROOT = Path(__file__).parents[3]
RAW = ROOT / ".run" / "evidence"
STORED = ROOT / "tests" / "statistical" / "evidence.csv"
SIZE = 0.05
_BLOCK = 10
_COLUMNS = ["replication", *Row._fields]


def replications(study: Study, first: int, n: int) -> pd.DataFrame:
    """Rows of ``n`` replications from ``first``; one that is refused has NaN in the place of every estimate."""
    parts = []
    for i in range(first, first + n):
        try:
            rows = study.replicate(i)
        except VillageflowError:
            rows = [
                Row(name, interval, np.nan)
                for interval in study.intervals for name in (["J"] if interval == TEST else study.truth)
            ]  # fmt: skip
        parts += [(i, *row) for row in rows]
    return pd.DataFrame(parts, columns=_COLUMNS)


def collect(study: Study, pool: ProcessPoolExecutor, folder: Path = RAW) -> pd.DataFrame:
    """All replications of a study: those that are stored, then the others."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study.name.replace(', ', '_').replace(' ', '-')}.csv"
    rows = _kept(path) if path.exists() else pd.DataFrame(columns=_COLUMNS)
    done = int(rows["replication"].max()) + 1 if len(rows) else 0
    started = time.perf_counter()
    blocks = [(study.name, first, min(_BLOCK, study.n - first)) for first in range(done, study.n, _BLOCK)]
    for fresh in pool.map(_block, *zip(*blocks, strict=True)) if blocks else ():
        rows = pd.concat([rows, fresh], ignore_index=True) if len(rows) else fresh
        rows.to_csv(path.with_suffix(".part"), index=False)
        path.with_suffix(".part").replace(path)  # a run that is killed leaves the last whole block
    print(f"{study.name}: {max(0, study.n - done)} made in {time.perf_counter() - started:.0f} s", flush=True)
    return rows[rows["replication"] < study.n]


def _kept(path: Path) -> pd.DataFrame:
    """Stored replications with every digit."""
    numbers = {"estimate": float, "lower": float, "upper": float}
    return pd.read_csv(path, dtype=dict.fromkeys(numbers, str)).astype(numbers)


def workers(n: int) -> ProcessPoolExecutor:
    """Processes with a processor each: threads within a replication would only wait for each other."""
    places = multiprocessing.Value("i", 0)
    return ProcessPoolExecutor(n, initializer=_settle, initargs=(places,))


def _settle(places: multiprocessing.sharedctypes.Synchronized[int]) -> None:
    logging.getLogger("villageflow").setLevel(logging.ERROR)  # a warning of each replication is no news
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        with places.get_lock():
            own, places.value = places.value, places.value + 1
        os.sched_setaffinity(0, {mine[own % len(mine)]})


def _block(name: str, first: int, n: int) -> pd.DataFrame:
    return replications(STUDIES[name], first, n)


# --- what they say -----------------------------------------------------------------------------------------------


def summary(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each parameter and interval.

    Returns
    -------
    pandas.DataFrame
        ``n`` replications, of which ``lost`` gave no interval and count as not covering, or no p-value; ``truth``,
        ``mean`` and ``sd`` of the estimates; ``covered``: share of intervals that hold the truth, with ``below`` and
        ``above``, shares of those that end below it and begin above it. Of a test ``covered`` is the share of p-values
        that do not reject at 5 percent, of ranks the p-value of their uniformity, of a flag the share that is flagged.
    """
    found = []
    for (parameter, interval), own in rows.groupby(["parameter", "interval"], sort=False):
        estimate = own["estimate"].to_numpy(dtype=float)
        truth = study.truth.get(str(parameter), np.nan)
        lower, upper = own["lower"].to_numpy(dtype=float), own["upper"].to_numpy(dtype=float)
        below, above, lost = np.nan, np.nan, np.isnan(estimate)
        if interval == TEST:
            covered = float(np.mean(estimate[~lost] >= SIZE))
        elif interval == RANKS:
            covered = float(uniformity(own[["estimate"]], N_RANKED)["p_value"].iloc[0])
        elif interval == FLAG:
            covered = float(np.mean(estimate))
        else:
            covered = float(np.mean((lower <= truth) & (truth <= upper)))
            below, above, lost = np.mean(upper < truth), np.mean(lower > truth), np.isnan(lower) | np.isnan(upper)
        found.append((
            study.name, parameter, interval, len(own), int(lost.sum()), truth, np.nanmean(estimate),
            np.nanstd(estimate, ddof=1), covered, below, above,
        ))  # fmt: skip
    columns = ["study", "parameter", "interval", "n", "lost", "truth", "mean", "sd", "covered", "below", "above"]
    return pd.DataFrame(found, columns=columns)


def run(n_workers: int = 2) -> Iterator[pd.DataFrame]:
    """Summaries of all studies in turn."""
    with workers(n_workers) as pool:
        for study in STUDIES.values():
            yield summary(study, collect(study, pool))


def store(parts: list[pd.DataFrame]) -> None:
    """Write the summaries, six digits."""
    pd.concat(parts, ignore_index=True).to_csv(STORED, index=False, float_format="%.6g")


def stored() -> pd.DataFrame:
    """The summaries that are committed."""
    return pd.read_csv(STORED)
