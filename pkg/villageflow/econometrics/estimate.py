"""What a regression returns: one object for all estimators, every figure of a row from one covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

Series: TypeAlias = "pd.Series[Any]"
Estimator = Literal["within", "poisson"]
Covariance = Literal["clustered", "driscoll-kraay", "robust", "unadjusted"]
Convention = Literal["linearmodels", "stata"]


@dataclass(frozen=True)
class Spec:
    """A regression as data: enough to run it again, on this panel or on a simulated one.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term``; see `villageflow.econometrics.terms`.
    estimator : {"within", "poisson"}
        Least squares or Poisson pseudo maximum likelihood, both with the effects absorbed.
    effects : tuple of str
        ``entity``, ``time``, a column, or columns joined by ``*`` for one effect per combination.
    cov : {"clustered", "driscoll-kraay", "robust", "unadjusted"}
        The covariance of the estimates.
    cluster : str
        ``entity``, ``time`` or a column; used when ``cov`` is clustered.
    convention : {"linearmodels", "stata"}
        Which small-sample factor and which reference distribution.
    times : tuple of int
        Periods of the outcome to keep; all if empty.
    """

    formula: str
    estimator: Estimator = "within"
    effects: tuple[str, ...] = ("entity", "time")
    cov: Covariance = "clustered"
    cluster: str = "entity"
    convention: Convention = "linearmodels"
    times: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """Observations left out of a regression, and why."""

    n: int
    reason: str


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fitted regression.

    Parameters
    ----------
    spec : Spec
        What was asked.
    params : pandas.Series
        Coefficients by term.
    cov : pandas.DataFrame
        Their covariance, (term, term). Errors, statistics, p-values and intervals all follow from it.
    cov_label : str
        The covariance in words: type, cluster level, small-sample convention.
    df : float or None
        Degrees of freedom of the t distribution; None for the normal.
    nobs, n_entities, n_periods : int
        Size of the estimation sample after drops.
    n_clusters : int or None
        Number of clusters; None if the covariance is not clustered.
    dropped : tuple of Dropped
        Observations left out.
    r2 : float or None
        Share of the variance within effects that is explained; least squares only.
    log_likelihood : float or None
        Poisson only.
    notes : tuple of str
        Cautions found while fitting, such as few clusters.
    """

    spec: Spec
    params: Series
    cov: pd.DataFrame
    cov_label: str
    df: float | None
    nobs: int
    n_entities: int
    n_periods: int
    n_clusters: int | None
    dropped: tuple[Dropped, ...] = ()
    r2: float | None = None
    log_likelihood: float | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = ", ".join(
            f"{term} = {value:.4g} ({error:.2g})"
            for term, value, error in zip(self.params.index, self.params, self.std_errors)
        )
        return (
            f"<villageflow.Estimate: {self.spec.formula}; {self.estimator_label}; {self.nobs} observations\n {values}; "
            "see summary()>"
        )

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    @property
    def estimator_label(self) -> str:
        """The estimator in words, with its effects."""
        effects = " and ".join(name.replace("*", " by ") for name in self.spec.effects)
        kind = {"within": "least squares", "poisson": "Poisson pseudo maximum likelihood"}
        return f"{kind[self.spec.estimator]}, {effects + ' effects' if effects else 'no effects'}"

    @property
    def outcome(self) -> str:
        """The term on the left."""
        return self.spec.formula.split("~")[0].strip()

    @property
    def std_errors(self) -> Series:
        """Square roots of the diagonal of `cov`."""
        return pd.Series(np.sqrt(np.diag(self.cov)), index=self.params.index, name="std_error")

    @property
    def statistics(self) -> Series:
        """Coefficients over standard errors: t if `df` is given, else z."""
        return (self.params / self.std_errors).rename("statistic")

    @property
    def pvalues(self) -> Series:
        """Two-sided p-values of a zero coefficient."""
        tail = self._distribution().sf(self.statistics.abs())
        return pd.Series(2 * tail, index=self.params.index, name="p_value")

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Confidence intervals, (term, [lower, upper]); ``level`` strictly between 0 and 1."""
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; it must be between 0 and 1")
        reach = self._distribution().ppf(0.5 + level / 2) * self.std_errors
        return pd.DataFrame({"lower": self.params - reach, "upper": self.params + reach})

    def to_frame(self) -> pd.DataFrame:
        """One row per term: estimate, std_error, statistic, p_value, lower, upper (95 percent)."""
        columns = [self.params.rename("estimate"), self.std_errors, self.statistics, self.pvalues]
        frame = pd.concat([*columns, self.conf_int()], axis=1)
        frame.index.name = "term"
        return frame

    def describe(self) -> dict[str, str]:
        """What a table must state beside the figures."""
        clusters = "none" if self.n_clusters is None else f"{self.n_clusters} ({self.spec.cluster})"
        facts = {
            "outcome": self.outcome,
            "estimator": self.estimator_label,
            "errors": self.cov_label,
            "reference": "normal" if self.df is None else f"t({self.df:.0f})",
            "clusters": clusters,
            "observations": str(self.nobs),
            "entities": str(self.n_entities),
            "periods": str(self.n_periods),
            "dropped": "; ".join(f"{item.n} {item.reason}" for item in self.dropped) or "none",
        }
        if self.r2 is not None:
            facts["R2 within"] = f"{self.r2:.3f}"
        if self.log_likelihood is not None:
            facts["log likelihood"] = f"{self.log_likelihood:.2f}"
        return facts

    def summary(self) -> str:
        """Table of estimates in plain text, then what `describe` says, then the notes."""
        table = self.to_frame().to_string(float_format=lambda value: f"{value:.4f}", index_names=False)
        lines = [self.spec.formula, table, *(f"{key}: {value}" for key, value in self.describe().items())]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_markdown(self, decimals: int = 4) -> str:
        """A Markdown table of `to_frame`, then what `describe` says, then the notes."""
        frame = self.to_frame()
        head = ["term", *frame.columns]
        rows = [
            [str(t), *(f"{v:.{decimals}f}" for v in row)] for t, row in zip(frame.index, frame.to_numpy())
        ]
        lines = [_pipe(head), _pipe(["---"] * len(head)), *(_pipe(row) for row in rows), ""]
        lines += [f"- {key}: {value}" for key, value in self.describe().items()]
        return "\n".join([*lines, *(f"- note: {note}" for note in self.notes)]) + "\n"

    def to_latex(self, decimals: int = 4) -> str:
        """The same as `to_markdown` as a LaTeX tabular; needs the package booktabs."""
        frame = self.to_frame()
        rows = [
            " & ".join([latex_escape(str(t)), *(f"{v:.{decimals}f}" for v in row)]) + r" \\"
            for t, row in zip(frame.index, frame.to_numpy())
        ]
        n = frame.shape[1] + 1
        facts = [*self.describe().items(), *(("note", note) for note in self.notes)]
        said = [rf"\multicolumn{{{n}}}{{l}}{{{latex_escape(f'{k}: {v}')}}} \\" for k, v in facts]
        head = " & ".join(latex_escape(str(name)) for name in ["term", *frame.columns]) + r" \\"
        body = [r"\toprule", head, r"\midrule", *rows, r"\midrule", *said, r"\bottomrule"]
        start = rf"\begin{{tabular}}{{l{'r' * (n - 1)}}}"
        return "\n".join([start, *body, r"\end{tabular}"]) + "\n"

    def _distribution(self) -> Any:
        return stats.norm() if self.df is None else stats.t(self.df)


def latex_escape(text: str) -> str:
    """Text with the characters that LaTeX treats as commands escaped."""
    for plain, escaped in (
        ("\\", r"\textbackslash "),
        *((c, "\\" + c) for c in "&%$#_{}"),
        ("~", r"\textasciitilde "),
        ("^", r"\textasciicircum "),
    ):
        text = text.replace(plain, escaped)
    return text


def _pipe(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
