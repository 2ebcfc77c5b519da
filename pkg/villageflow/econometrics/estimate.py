"""What a regression returns: one object for all estimators, every figure of a row from one covariance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.econometrics.spec import AnySpec, as_names, clusters_of
from villageflow.errors import EstimationError, did_you_mean

Series: TypeAlias = "pd.Series[Any]"
_MOST_DIGITS = 10
_LARGE = 1e6


@dataclass(frozen=True)
class Dropped:
    """Observations left out of a regression, and why."""

    n: int
    reason: str


@dataclass(frozen=True)
class Diagnostic:
    """A test or a measure of strength that goes with an estimate.

    Parameters
    ----------
    name : str
        What it is called, such as ``Hansen J``.
    statistic : float
        Its value.
    distribution : str
        Of the statistic under the null, such as ``chi2(25)``; blank for a measure without one.
    p_value : float or None
        None for a measure.
    says : str
        The null hypothesis, or what the measure is compared with, in words.
    """

    name: str
    statistic: float
    distribution: str = ""
    p_value: float | None = None
    says: str = ""

    def __str__(self) -> str:
        parts = [f"{self.statistic:.4g}", self.distribution, "" if self.p_value is None else f"p = {self.p_value:.4g}"]
        says = f"H0: {self.says}" if self.says and self.p_value is not None else self.says
        return ", ".join(part for part in parts if part) + (f" ({says})" if says else "")


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fitted regression.

    Parameters
    ----------
    spec : Spec, DynamicSpec or StaggeredSpec
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
        Number of clusters, the smaller one of two; None if the covariance is not clustered.
    dropped : tuple of Dropped
        Observations left out.
    r2 : float or None
        Share of the variance (within effects) that is explained; least squares only.
    log_likelihood : float or None
        Poisson only.
    notes : tuple of str
        Cautions found while fitting, such as few clusters.
    diagnostics : mapping of str to Diagnostic
        Tests that belong to the estimator, by name.
    residuals : pandas.Series or None
        Indexed (entity, time): outcome less fit, effects included; None where there is no single equation.
    influence : pandas.DataFrame or None
        (entity, term): how far each entity moves each coefficient, to first order and without small-sample factor;
        sums of outer products give the covariance clustered by entity, and stacked over estimates their joint one.
    """

    spec: AnySpec
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
    diagnostics: Mapping[str, Diagnostic] = field(default_factory=dict)
    residuals: Series | None = None
    influence: pd.DataFrame | None = None

    def __repr__(self) -> str:
        values = ", ".join(
            f"{term} = {value:.4g} ({error:.2g})"
            for term, value, error in zip(self.params.index, self.params, self.std_errors)
        )
        return (
            f"<villageflow.Estimate: {self.spec.formula}; {self.spec.words}; {self.nobs} observations\n {values}; "
            "see summary()>"
        )

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

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
        """Confidence intervals, (term, [lower, upper]), each by itself; ``level`` strictly between 0 and 1."""
        check_level(level)
        reach = self._distribution().ppf(0.5 + level / 2) * self.std_errors
        return pd.DataFrame({"lower": self.params - reach, "upper": self.params + reach})

    def simultaneous_bands(
        self, level: float = 0.95, *, terms: Sequence[str] | str | None = None, seed: int = 1, n_draws: int = 100_000
    ) -> pd.DataFrame:
        """Intervals that hold all coefficients at once with the given probability (sup-t bands).

        Parameters
        ----------
        level : float
            Strictly between 0 and 1.
        terms : str or sequence of str, optional
            The coefficients to hold; all by default.
        seed, n_draws : int
            Of the draws that give the quantile of the largest absolute statistic, jointly t with `df`.

        Returns
        -------
        pandas.DataFrame
            (term, [lower, upper]); ``attrs["critical_value"]`` is the multiple of the standard errors.

        Raises
        ------
        EstimationError
            If the level is out of range, a term is unknown, or one has no error.

        References
        ----------
        Montiel Olea and Plagborg-Moller (2019); Callaway and Sant'Anna (2021) by the multiplier bootstrap.
        """
        check_level(level)
        chosen = list(self.params.index if terms is None else self._known(terms))
        cov = self.cov.loc[chosen, chosen].to_numpy()
        error = np.sqrt(np.diag(cov))
        if not chosen or not (error > 0).all():
            raise EstimationError(f"{self.spec.formula}: bands need coefficients that all have an error. Name them.")
        values, vectors = np.linalg.eigh(cov / np.outer(error, error))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        draws = np.abs(rng.standard_normal((n_draws, len(chosen))) @ root.T)
        if self.df is not None:
            draws /= np.sqrt(rng.chisquare(self.df, n_draws) / self.df)[:, None]
        reach = float(np.quantile(draws.max(axis=1), level))
        centre = self.params[chosen]
        bands = pd.DataFrame({"lower": centre - reach * error, "upper": centre + reach * error})
        bands.attrs["critical_value"] = reach
        return bands

    def wald(self, terms: Sequence[str] | str | None = None, *, name: str = "Wald") -> Diagnostic:
        """Test that several coefficients are zero together: F with `df` in the denominator, else chi-squared.

        Raises
        ------
        EstimationError
            If no term is named or one is unknown, or their covariance is singular, as with no more clusters than terms.
        """
        chosen = list(self.params.index if terms is None else self._known(terms))
        if not chosen:
            raise EstimationError(f"{self.spec.formula}: no coefficient to test. Name one.")
        cov = self.cov.loc[chosen, chosen].to_numpy()
        if singular(cov):
            raise EstimationError(
                f"{self.spec.formula}: the covariance of {len(chosen)} coefficients is singular ({self.cov_label}). "
                "Test fewer of them together."
            )
        value, q = self.params[chosen].to_numpy(), len(chosen)
        statistic = float(value @ np.linalg.solve(cov, value))
        says = f"{', '.join(chosen)} = 0" if q <= 6 else f"{q} coefficients = 0"
        if self.df is None:
            return Diagnostic(name, statistic, f"chi2({q})", float(stats.chi2.sf(statistic, q)), says)
        return Diagnostic(
            name, statistic / q, f"F({q}, {self.df:.0f})", float(stats.f.sf(statistic / q, q, self.df)), says
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per term: estimate, std_error, statistic, p_value, lower, upper (95 percent)."""
        columns = [self.params.rename("estimate"), self.std_errors, self.statistics, self.pvalues]
        frame = pd.concat([*columns, self.conf_int()], axis=1)
        frame.index.name = "term"
        return frame

    def describe(self) -> dict[str, str]:
        """What a table must state beside the figures."""
        by = " and ".join(clusters_of(self.spec.cov_type))
        facts = {
            "outcome": self.outcome,
            "estimator": self.spec.words,
            "errors": self.cov_label,
            "reference": "normal" if self.df is None else f"t({self.df:.0f})",
            "clusters": "none" if self.n_clusters is None else f"{self.n_clusters} ({by})",
            "observations": str(self.nobs),
            "entities": str(self.n_entities),
            "periods": str(self.n_periods),
            "dropped": "; ".join(f"{item.n} {item.reason}" for item in self.dropped) or "none",
        }
        if self.r2 is not None:
            facts["R2"] = f"{self.r2:.3f}"
        if self.log_likelihood is not None:
            facts["log likelihood"] = f"{self.log_likelihood:.2f}"
        return facts | {name: str(found) for name, found in self.diagnostics.items()}

    def summary(self) -> str:
        """Table of estimates in plain text, then what `describe` says, then the notes."""
        rows = self._rows(4)
        table = pd.DataFrame([row[1:] for row in rows[1:]], index=[row[0] for row in rows[1:]], columns=rows[0][1:])
        lines = [self.spec.formula, table.to_string(), *(f"{key}: {value}" for key, value in self.describe().items())]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_markdown(self, decimals: int = 4) -> str:
        """A Markdown table of `to_frame`, then what `describe` says, then the notes.

        Parameters
        ----------
        decimals : int
            Least digits after the point; a small standard error brings more, so that it shows three of its own. Rows
            with an error below 1e-8, and figures of a million and more, are in scientific notation.
        """
        head, *rows = self._rows(decimals)
        lines = [_pipe(head), _pipe(["---"] * len(head)), *(_pipe(row) for row in rows), ""]
        lines += [f"- {key}: {value}" for key, value in self.describe().items()]
        return "\n".join([*lines, *(f"- note: {note}" for note in self.notes)]) + "\n"

    def to_latex(self, decimals: int = 4) -> str:
        """The same as `to_markdown` as a LaTeX tabular; needs the package booktabs."""
        head, *rows = ([latex_escape(cell) for cell in row] for row in self._rows(decimals))
        n = len(head)
        facts = [*self.describe().items(), *(("note", note) for note in self.notes)]
        said = [rf"\multicolumn{{{n}}}{{l}}{{{latex_escape(f'{k}: {v}')}}} \\" for k, v in facts]
        lines = [" & ".join(row) + r" \\" for row in (head, *rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\midrule", *said, r"\bottomrule"]
        start = rf"\begin{{tabular}}{{l{'r' * (n - 1)}}}"
        return "\n".join([start, *body, r"\end{tabular}"]) + "\n"

    def _rows(self, decimals: int) -> list[list[str]]:
        """`to_frame` as text, heads first."""
        if isinstance(decimals, bool) or not isinstance(decimals, int) or decimals < 0:
            raise EstimationError(f"decimals={decimals!r}: a whole number of digits is needed; texts are not written.")
        frame = self.to_frame()
        rows = [["term", *map(str, frame.columns)]]
        for term, (value, error, statistic, p_value, lower, upper) in zip(frame.index, frame.to_numpy()):
            digits = max(decimals, 2 - math.floor(math.log10(error))) if 0 < error < np.inf else decimals
            p_text = f"<{10**-decimals:.{decimals}f}" if p_value < 10**-decimals else f"{p_value:.{decimals}f}"
            value, error, lower, upper = (_figure(cell, digits, decimals) for cell in (value, error, lower, upper))
            rows.append([str(term), value, error, _figure(statistic, decimals, decimals), p_text, lower, upper])
        return rows

    def _known(self, terms: Sequence[str] | str) -> Sequence[str]:
        names = as_names("terms", terms)
        for term in names:
            check_term(term, self.params.index, self.spec)
        return names

    def _distribution(self) -> Any:
        return stats.norm() if self.df is None else stats.t(self.df)


def check_term(term: str, known: Iterable[str], spec: AnySpec) -> None:
    """Refuse a term that is not among those of an estimate."""
    known = list(map(str, known))
    if not isinstance(term, str) or term not in known:
        raise EstimationError(f"{spec.formula}: {term!r} is not a term. {did_you_mean(str(term), known)}")


def check_level(level: Any) -> None:
    """Refuse what is no probability of an interval."""
    if not isinstance(level, Real) or not 0 < float(level) < 1:
        raise EstimationError(f"level is {level!r}; it must be between 0 and 1, such as 0.95")


def singular(cov: Any) -> bool:
    """Whether a covariance matrix has no inverse, whatever the scales of the coefficients."""
    scale = np.sqrt(np.abs(np.diag(cov)))
    return not scale.all() or bool(np.linalg.matrix_rank(cov / np.outer(scale, scale), tol=1e-10) < len(scale))


def latex_escape(text: str) -> str:
    """Text with the characters that LaTeX treats as commands escaped."""
    for plain, escaped in (
        ("\\", r"\textbackslash "),
        *((c, "\\" + c) for c in "&%$#_{}"),
        ("~", r"\textasciitilde "),
        ("^", r"\textasciicircum "),
        ("|", r"\textbar "),
        ("<", r"\textless "),
        (">", r"\textgreater "),
    ):
        text = text.replace(plain, escaped)
    return text


def _figure(value: float, digits: int, decimals: int) -> str:
    """A number with fixed digits after the point; what would be too long to read in scientific notation."""
    if digits > _MOST_DIGITS or _LARGE <= abs(value) < np.inf:
        return f"{value:.{max(decimals, 2)}e}"
    return f"{value:.{digits}f}"


def _pipe(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
