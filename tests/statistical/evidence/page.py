"""The page that the stored summaries give: tables with their Monte Carlo errors, verdicts, and reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from evidence.record import SIZE
from evidence.studies import FLAG, RANKS, SEED, STUDIES, TEST
from evidence.systems import SPREAD, STEP, SYSTEMS

PAGE = Path(__file__).parents[3] / "docs" / "statistical_evidence.md"
BIAS = 0.25
"""Bound on the bias, in standard deviations of the estimate."""
BAND = (0.92, 0.97)
"""Coverage that an interval of 95 percent must have."""
ERROR_RATE = 0.05
"""Chance that a table with all true coverages at the ends of the band has a cell outside of its bounds."""
FAILS = 0.88
"""Coverage below which an interval that is not meant for a design fails visibly."""
SMALLEST_P = 0.01
POWER = 0.8
_FIXED = "fixed effects"
_DYNAMIC = "dynamic panel"


class Reason(NamedTuple):
    """Why some cells are not what they are meant to be; empty names match everything."""

    what: str
    studies: tuple[str, ...]
    parameters: tuple[str, ...]
    words: str


REASONS: tuple[Reason, ...] = (
    Reason(
        "bias", ("stores, one", "stores, one, short"), ("spread",),
        "maximum likelihood divides by the number of measurements, not by what is left of it after the parameters. "
        "Three parameters of a linear model lower the size of normal errors by 0.26 of its standard deviation for 96 "
        "measurements, and by 0.78 for 12",
    ),
    Reason(
        "J", ("stores, indirect", "migration, indirect"), ("J",),
        "presumably the covariance of the moments, which comes from 60 entities: with 240 (*stores, indirect, 240 "
        "entities*) J rejects within its bound, though Monte Carlo errors do not tell the two apart. For *migration* "
        "that was not tried",
    ),
)


# --- verdicts ----------------------------------------------------------------------------------------------------


def bias_in_deviations(row: pd.Series) -> float:
    """Mean less truth over the standard deviation of the estimates; its Monte Carlo error is one over root n."""
    return float((row["mean"] - row["truth"]) / row["sd"])


def coverage_bounds(n: int, n_cells: int) -> tuple[float, float]:
    """Shares of ``n`` that coverage in the band gives in all cells of a table but with chance `ERROR_RATE`."""
    tail = ERROR_RATE / 2 / n_cells
    low, high = stats.binom.ppf(tail, n, BAND[0]) / n, stats.binom.ppf(1 - tail, n, BAND[1]) / n
    return float(low), float(high)


def margin(share: float, n: int) -> float:
    """Monte Carlo error of a share."""
    return float(np.sqrt(share * (1 - share) / n))


def estimates(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of estimated parameters, one for each estimator: those that recovery is read from."""
    own = table[table["truth"].notna()]
    return own[~own.duplicated(["study", "parameter", "mean"])]


def intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of intervals of parameters with whether the interval is meant for the study."""
    own = table[~table["interval"].isin([TEST, RANKS, FLAG])]
    meant = [STUDIES[row.study].intervals[row.interval] for row in own.itertuples()]
    return own.assign(meant=meant, kind=[STUDIES[name].kind for name in own["study"]])


def biased(table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose bias is out of its bound, of the estimators that are held to it."""
    own = estimates(table)
    held = [STUDIES[name].kind not in (_FIXED, _DYNAMIC) for name in own["study"]]
    own = own[held]
    return own[own.apply(bias_in_deviations, axis=1).abs() >= BIAS]


def missed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of intervals that are meant for their design and whose coverage is out of its bounds."""
    own = intervals(table)
    own = own[own["meant"]]
    bounds = np.array([coverage_bounds(n, len(own)) for n in own["n"]])
    return own[(own["covered"] < bounds[:, 0]) | (own["covered"] > bounds[:, 1])]


# --- tables ------------------------------------------------------------------------------------------------------


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def recovery_table(table: pd.DataFrame, kinds: Callable[[str], bool]) -> str:
    """A line for each study: bias of every parameter in standard deviations."""
    own, rows = estimates(table), []
    for name, study in STUDIES.items():
        found = own[own["study"] == name]
        if kinds(study.kind) and len(found):
            cells = []
            for _, row in found.iterrows():
                bias = bias_in_deviations(row)
                shown = f"**{bias:+.2f}**" if abs(bias) >= BIAS else f"{bias:+.2f}"
                cells.append(f"{row['parameter']} {shown}")
            n = int(found["n"].iloc[0])
            rows.append([name, study.kind, f"{n:,}", f"{1 / np.sqrt(n):.2f}", ", ".join(cells)])
    return _table(["study", "estimator", "replications", "MC error", "bias"], rows)


def coverage_table(table: pd.DataFrame) -> str:
    """A line for each study and interval: coverage of every parameter in percent."""
    every = intervals(table)
    n_cells, rows = int(every["meant"].sum()), []
    for (name, interval), own in every[every["kind"] != _DYNAMIC].groupby(["study", "interval"], sort=False):
        cells, n = [], int(own["n"].iloc[0])
        low, high = coverage_bounds(n, n_cells)
        for _, row in own.iterrows():
            share = float(row["covered"])
            arrow = "" if low <= share <= high else " ↓" if share < low else " ↑"
            shown = f"**{100 * share:.1f}**{arrow}" if row["meant"] else f"{100 * share:.1f}"
            cells.append(f"{row['parameter']} {shown}")
        bounds = f"{100 * low:.1f} to {100 * high:.1f}" if own["meant"].iloc[0] else "not meant"
        rows.append([str(name), str(interval), f"{n:,}", bounds, ", ".join(cells)])
    return _table(["study", "interval", "replications", "bounds", "coverage"], rows)


def sides_table(table: pd.DataFrame) -> str:
    """Of profiles and what stands beside them: intervals that miss on each side, in percent."""
    own = intervals(table)
    own = own[own["kind"] == "profile likelihood"]
    return _table(
        ["study", "interval", "ends below the truth", "begins above it"],
        [
            [row.study, row.interval, f"{100 * row.below:.1f}", f"{100 * row.above:.1f}"]
            for row in own.itertuples()
        ],
    )


def test_table(table: pd.DataFrame) -> str:
    """Rejections of the simulator by J at 5 percent."""
    rows = []
    for row in table[table["interval"] == TEST].itertuples():
        right = STUDIES[row.study].intervals[TEST]
        share = 1 - row.covered
        good = abs(share - SIZE) <= 2 * margin(SIZE, row.n) if right else share > POWER
        shown = f"{100 * share:.1f}" if good else f"**{100 * share:.1f}**"
        bound = f"5 ± {200 * margin(SIZE, row.n):.1f}" if right else f"above {100 * POWER:.0f}"
        rows.append([row.study, "right" if right else "lacks a loop", f"{row.n:,}", shown, bound])
    return _table(["study", "simulator", "replications", "rejected", "bound"], rows)


def dynamic_table(table: pd.DataFrame) -> str:
    """The biased regression, GMM and indirect inference."""
    rows = []
    for row in table[table["study"] == _DYNAMIC].itertuples():
        error, share = row.sd / np.sqrt(row.n), row.covered
        rows.append([
            row.interval, f"{row.mean - row.truth:+.4f} ± {error:.4f}", f"{row.sd:.4f}",
            f"{100 * share:.1f} ± {100 * margin(share, row.n):.1f}",
        ])  # fmt: skip
    return _table(["estimator", "bias of rho", "standard deviation", "coverage"], rows)


def ranks_table(table: pd.DataFrame) -> str:
    """Uniformity of the ranks by parameter."""
    own = table[table["interval"] == RANKS]
    return _table(
        ["parameter", "ranks", "p-value of uniformity"],
        [[row.parameter, f"{row.n:,}", f"{row.covered:.3f}"] for row in own.itertuples()],
    )


def flags_table(table: pd.DataFrame) -> str:
    """How often a problem is flagged as not identified."""
    own = table[table["interval"] == FLAG]
    return _table(
        ["free", "replications", "flagged"],
        [[row.parameter, f"{row.n:,}", f"{100 * row.covered:.0f} %"] for row in own.itertuples()],
    )


# --- what they say -----------------------------------------------------------------------------------------------


def conclusions(table: pd.DataFrame) -> str:
    """Counts of what is within its bounds, and the intervals that are not meant for their design."""
    own = estimates(table)
    held = sum(STUDIES[name].kind not in (_FIXED, _DYNAMIC) for name in own["study"])
    every = intervals(table)
    meant = int(every["meant"].sum())
    lines = [
        f"- Of {held} biases that are held to {BIAS} standard deviations, {held - len(biased(table))} are within.",
        f"- Of {meant} coverages of intervals that are meant for their design, {meant - len(missed(table))} are within "
        "their bounds.",
    ]
    wrong = every[(every["interval"] == "Hessian") & ~every["meant"] & (every["kind"] == "fit, many entities")]
    wrong = wrong[wrong["parameter"] != "spread"]
    shares = ", ".join(f"{100 * row.covered:.1f} ({row.study}, {row.parameter})" for row in wrong.itertuples())
    below = int((wrong["covered"] < FAILS).sum())
    lines.append(
        f"- The inverse Hessian under persistent errors, for which it is not meant: {shares}; {below} of {len(wrong)} "
        f"below {100 * FAILS:.0f}."
    )
    lost = table[table["lost"] > 0]
    named = "; ".join(
        f"{row.study}, {row.parameter}, {row.interval}: {row.lost} of {row.n}" for row in lost.itertuples()
    )
    lines.append(f"- Replications without an interval, which count as misses: {named or 'none'}.")
    return "\n".join(lines) + "\n"


def outside(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """What is out of its bounds: what, study, parameter, and the cell in words."""
    found = []
    for _, row in biased(table).iterrows():
        words = f"bias of {row['parameter']} in *{row['study']}* ({bias_in_deviations(row):+.2f})"
        found.append(("bias", row["study"], row["parameter"], words))
    for _, row in missed(table).iterrows():
        share = 100 * row["covered"]
        words = f"{row['interval']} interval of {row['parameter']} in *{row['study']}* ({share:.1f})"
        found.append(("coverage", row["study"], row["parameter"], words))
    for row in table[table["interval"] == TEST].itertuples():
        share, right = 1 - row.covered, STUDIES[row.study].intervals[TEST]
        if not (abs(share - SIZE) <= 2 * margin(SIZE, row.n) if right else share > POWER):
            found.append(("J", row.study, "J", f"J in *{row.study}* ({100 * share:.1f})"))
    for row in table[(table["interval"] == RANKS) & (table["covered"] <= SMALLEST_P)].itertuples():
        found.append(("ranks", row.study, row.parameter, f"ranks of {row.parameter} ({row.covered:.3f})"))
    return found


def reasons(table: pd.DataFrame) -> str:
    """One line for each reason of a cell out of its bounds, and for each such cell without one."""
    cells, lines, explained = outside(table), [], set()
    for reason in REASONS:
        own = [
            cell for cell in cells
            if cell[0] == reason.what and cell[1] in reason.studies
            and (not reason.parameters or cell[2] in reason.parameters)
        ]  # fmt: skip
        explained |= set(own)
        if own:
            lines.append(f"- {'; '.join(cell[3] for cell in own)}: {reason.words}.")
    lines += [f"- {cell[3]}: not looked into." for cell in cells if cell not in explained]
    return "\n".join(lines or ["Nothing is."]) + "\n"


def page(table: pd.DataFrame) -> str:
    """The page on evidence."""
    systems: Mapping[str, str] = {system.name: system.words for system in SYSTEMS}
    listed = "\n".join(f"- *{name}*: {words}." for name, words in systems.items())
    known = list(dict.fromkeys(table["study"]))
    studies = "\n".join(f"- *{name}* ({STUDIES[name].kind}): {STUDIES[name].words}." for name in known)
    n_cells = int(intervals(table)["meant"].sum())
    return f"""# Evidence for the calibration layer

Whether estimators give back parameters that are known, whether their intervals hold them as often as they say, whether
tests reject as often as they say, on panels that are simulated at the truth (seed {SEED}) and fitted by the verbs
of the package. Written by `./run python tests/statistical/evidence_study.py` from `tests/statistical/evidence.csv`,
which it also makes; `tests/statistical/test_recovery.py` and `test_coverage.py` repeat parts of it with other draws.

{conclusions(table)}
## Systems

{listed}

All run by RK4 with a step of {STEP:g} years and are measured with lognormal errors of standard deviation {SPREAD:g}
(`spread`), independent unless a study says otherwise. Two more are those of tests: a share that grows along a logistic
curve, and the dynamic panel of Nickell (1981).

## Studies

{studies}

## Recovery

Bias in standard deviations of the estimate, natural units; its Monte Carlo error is one over the root of the number of
replications. **Bold**: {BIAS} or more.

{recovery_table(table, lambda kind: kind not in (_FIXED, _DYNAMIC))}
Parameters that are free for every entity leave a bias in the shared ones that does not fall with the number of
entities; it is expected here, and shown:

{recovery_table(table, lambda kind: kind == _FIXED)}
## Coverage

Percent of 95 % intervals that hold the truth. **Bold**: the interval is meant for the design. It must then cover
between {100 * BAND[0]:.0f} and {100 * BAND[1]:.0f} percent; the bounds in the table are these, widened by the binomial
quantiles at which a table of {n_cells} such cells has one outside by chance in {100 * ERROR_RATE:.0f} percent of
repetitions at most. ↑ and ↓ mark bold cells outside of them.

{coverage_table(table)}
Where the data end before growth slows down the likelihood of the ceiling falls off more slowly upwards. Percent of
intervals that miss:

{sides_table(table)}
## The test of the simulator

Percent of panels at which J rejects at 5 percent; two Monte Carlo errors around it. **Bold**: out of its bound.

{test_table(table)}
## A biased regression

Lagged outcome under entity effects, where the regression itself is biased (C2: -0.170, difference GMM -0.073, indirect
inference below 0.005 in absolute value), with Monte Carlo errors.

{dynamic_table(table)}
## Posterior

Ranks of the truth among posterior draws are uniform if sampler, prior and likelihood fit each other; every p-value
should be above {SMALLEST_P:g}.

{ranks_table(table)}
## What is not identified

Two constants that act through their product alone must be flagged, one of them alone must not.

{flags_table(table)}
## Why cells are out of their bounds

{reasons(table)}"""


def write(table: pd.DataFrame) -> None:
    """Write the page."""
    PAGE.write_text(page(table), encoding="utf-8")
