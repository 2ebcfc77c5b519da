"""What profile likelihoods say: intervals, verdicts and the points behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd

from villageflow.errors import CalibrationError, did_you_mean

Verdict: TypeAlias = Literal["bounded", "one-sided", "flat", "better optimum found"]


@dataclass(frozen=True, eq=False)
class Profile:
    """Profile likelihood of one parameter.

    Attributes
    ----------
    name : str
    estimate : float
        Natural units, as all values.
    lower, upper : float
        Where the log likelihood has fallen by the threshold. Infinite where it has not by the bound of the parameter,
        or only because another parameter met its own bound: the measurements give no end there. NaN when a better
        optimum was found.
    verdict : {"bounded", "one-sided", "flat", "better optimum found"}
        Two ends, one, or none; or the fit was not the maximum, and nothing is said.
    threshold : float
        Fall of the log likelihood that ends the interval.
    threshold_note : str
        Where the threshold comes from.
    note : str
        What the verdict rests on, in words.
    points : DataFrame
        One row for each value tried, ascending: every free parameter (its own value, the others at their optimum), the
        log likelihood ``loglik``, and ``at_bound``, the other parameters on their bounds.
    """

    name: str
    estimate: float
    lower: float
    upper: float
    verdict: Verdict
    threshold: float
    threshold_note: str
    note: str
    points: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Profiles:
    """Profiles of the parameters of a fit.

    Attributes
    ----------
    profiles : tuple of Profile
        In the order asked for.
    level : float
    loglik : float
        Log likelihood at the estimates.
    better : Series or None
        All parameters at a better optimum, should one have been found.
    better_loglik : float
        Log likelihood there; NaN without one.
    seed : int
    """

    profiles: tuple[Profile, ...]
    level: float
    loglik: float
    better: pd.Series[float] | None
    better_loglik: float
    seed: int

    def __getitem__(self, name: str) -> Profile:
        """Profile of a parameter."""
        found = {one.name: one for one in self.profiles}
        if name not in found:
            raise CalibrationError(f"parameter {name!r} was not profiled. {did_you_mean(name, found)}")
        return found[name]

    def __repr__(self) -> str:
        said = ", ".join(f"{one.name} {one.verdict}" for one in self.profiles)
        return f"<villageflow.Profiles at {self.level:g}: {said}; see summary()>"

    def to_frame(self) -> pd.DataFrame:
        """By parameter: estimate, lower, upper, verdict, threshold, note."""
        columns = ("estimate", "lower", "upper", "verdict", "threshold", "note")
        rows = [[getattr(one, column) for column in columns] for one in self.profiles]
        return pd.DataFrame(rows, index=[one.name for one in self.profiles], columns=list(columns))

    def summary(self) -> str:
        """Table of intervals and verdicts, then the threshold and the note of each."""
        table = self.to_frame().drop(columns="note")
        notes = [f"{one.name}: {one.note}. Threshold {one.threshold_note}." for one in self.profiles]
        return "\n".join([self._head(), table.to_string(float_format=lambda value: f"{value:.6g}"), *notes])

    def to_markdown(self) -> str:
        """The same as `summary` in Markdown."""
        head = ["parameter", "estimate", "lower", "upper", "verdict", "threshold"]
        rows = [
            [one.name, *(f"{value:.6g}" for value in (one.estimate, one.lower, one.upper)), one.verdict,
             f"{one.threshold:.4g}"]
            for one in self.profiles
        ]
        lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
        notes = [f"- {one.name}: {one.note}. Threshold {one.threshold_note}." for one in self.profiles]
        return "\n".join([self._head(), "", *lines, "", *notes]) + "\n"

    def _head(self) -> str:
        head = f"Profile likelihood, level {self.level:g}, log likelihood of the fit {self.loglik:.6f}"
        if self.better is None:
            return head
        at = ", ".join(f"{name} = {value:.6g}" for name, value in self.better.items())
        return f"{head}; BETTER OPTIMUM {self.better_loglik:.6f} at {at}: fit again with more starts"
