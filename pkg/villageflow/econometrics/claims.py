"""Claims about a panel: stated beforehand, estimated once, judged by one rule.

A `Claim` is a sign that theory gives to one coefficient of one specification. `judge_claims` estimates all of them and
says of each whether the panel agrees with the sign, contradicts it, or cannot tell. Claims of primary hypotheses stand
for themselves; the p-values of the others are adjusted together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.econometrics.bootstrap import wild_bootstrap
from villageflow.econometrics.estimate import Estimate, check_term
from villageflow.econometrics.fit import coefficients, estimate
from villageflow.econometrics.placebo import mean_reversion_placebo
from villageflow.econometrics.sample import FEW_CLUSTERS
from villageflow.econometrics.spec import Spec, check_choice, not_a_spec
from villageflow.econometrics.studies import prepare_counties
from villageflow.errors import EstimationError, did_you_mean

LEVEL = 0.95
_POWER = 0.8


@dataclass(frozen=True)
class Claim:
    """A sign that was stated before the estimate.

    Parameters
    ----------
    name : str
        One word, unique.
    hypothesis : str
        Such as ``H01``; a row of `questions`.
    says : str
        The claim in words.
    panel : {"provinces", "counties", "nation"}
        A recipe of `villageflow.datasets.build`.
    spec : Spec
    term : str
        The coefficient.
    sign : {"+", "-", "0"}
        What is expected; 0 marks a placebo outcome, which should show nothing.
    informs : str
        The structural parameter that the coefficient moves with, and of which model.
    primary : bool
        Whether the hypothesis was marked as primary; then its p-value is not adjusted.
    yardstick : {"zero", "placebo"}
        What the coefficient is compared with: zero, or its mean where there is regression to the mean alone.
    caution : str
        What to keep in mind beside the notes of the estimate.
    """

    name: str
    hypothesis: str
    says: str
    panel: Literal["provinces", "counties", "nation"]
    spec: Spec
    term: str
    sign: Literal["+", "-", "0"]
    informs: str
    primary: bool = False
    yardstick: Literal["zero", "placebo"] = "zero"
    caution: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.spec, Spec):
            raise not_a_spec(self.spec, "Spec")
        check_choice("sign", self.sign, ("+", "-", "0"))
        check_choice("yardstick", self.yardstick, ("zero", "placebo"))
        if self.yardstick == "placebo" and self.panel != "counties":
            raise EstimationError(
                f"Claim {self.name!r}: the yardstick 'placebo' draws counties anew, and the panel is {self.panel!r}. "
                "Use panel='counties', or yardstick='zero'."
            )


@dataclass(frozen=True, eq=False)
class Finding:
    """What the panel says of a claim.

    Parameters
    ----------
    claim : Claim
    estimate : Estimate
    value : float
        The coefficient, less the yardstick.
    yardstick : float
        0, or the mean of the placebo.
    lower, upper : float
        The 95 percent interval of ``value``.
    p_value : float
        Two-sided, of ``value`` = 0.
    adjusted : float
        The p-value as it counts: as it is for primary claims, else adjusted by Benjamini and Hochberg.
    method : str
        Where interval and p-value come from.
    detectable : float
        The smallest effect that a test at 5 percent finds with a probability of 80 percent here.
    """

    claim: Claim
    estimate: Estimate
    value: float
    yardstick: float
    lower: float
    upper: float
    p_value: float
    adjusted: float
    method: str
    detectable: float

    @property
    def verdict(self) -> str:
        """One of: as stated, against the stated sign, not told apart from nothing, nothing found, something found."""
        significant = self.adjusted < 1 - LEVEL
        if self.claim.sign == "0":
            return "something found" if significant else "nothing found"
        if not significant:
            return "not told apart from nothing"
        return "as stated" if (self.value > 0) == (self.claim.sign == "+") else "against the stated sign"


def judge_claims(
    claims: Sequence[Claim],
    panels: Mapping[str, pd.DataFrame],
    *,
    n_draws: int = 9_999,
    n_placebo: int = 999,
    seed: int = 1,
) -> tuple[Finding, ...]:
    """Estimate every claim on its panel.

    Parameters
    ----------
    claims : sequence of Claim
        What to judge.
    panels : mapping of str to DataFrame
        By name; claims with the yardstick ``placebo`` are about the panel ``counties``.
    n_draws : int
        Of the wild bootstrap, which gives interval and p-value of least squares with fewer than forty clusters.
    n_placebo : int
        Panels drawn for the yardstick of counts.
    seed : int
        Of both.

    Returns
    -------
    tuple of Finding
        In the order of the claims. Nothing is selected by what is found.

    Raises
    ------
    EstimationError
        If two claims have one name, a panel is missing, a term is not of its regression, or a regression is refused.
    """
    _check(claims, panels)
    counted = {claim.name: claim.spec for claim in claims if claim.yardstick == "placebo"}
    draws = {}
    if counted:
        draws = mean_reversion_placebo(
            panels["counties"], counted, prepare=prepare_counties, n_draws=n_placebo, seed=seed
        )
    raw = [_find(claim, panels[claim.panel], draws.get((claim.name, claim.term)), n_draws, seed) for claim in claims]
    others = [found["p_value"] for claim, found in zip(claims, raw) if not claim.primary]
    adjusted = iter(stats.false_discovery_control(others) if others else ())
    return tuple(
        Finding(claim, adjusted=found["p_value"] if claim.primary else float(next(adjusted)), **found)
        for claim, found in zip(claims, raw)
    )


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as a table indexed by claim, ready to print."""
    rows = {
        found.claim.name: {
            "hypothesis": found.claim.hypothesis,
            "claim": found.claim.says,
            "primary": found.claim.primary,
            "sign": found.claim.sign,
            "estimate": found.value,
            "lower": found.lower,
            "upper": found.upper,
            "p_value": found.p_value,
            "adjusted": found.adjusted,
            "detectable": found.detectable,
            "verdict": found.verdict,
            "yardstick": found.yardstick,
            "nobs": found.estimate.nobs,
            "method": found.method,
            "informs": found.claim.informs,
        }
        for found in findings
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def _check(claims: Sequence[Claim], panels: Mapping[str, pd.DataFrame]) -> None:
    names = [claim.name for claim in claims]
    for claim in claims:
        if claim.panel not in panels:
            known = did_you_mean(str(claim.panel), map(str, panels))
            raise EstimationError(f"Claim {claim.name!r}: there is no panel {claim.panel!r}. {known}".rstrip())
        if names.count(claim.name) > 1:
            raise EstimationError(f"Two claims are called {claim.name!r}. Name them apart.")
        check_term(claim.term, coefficients(claim.spec, panels[claim.panel]).index, claim.spec)


def _find(
    claim: Claim, panel: pd.DataFrame, placebo: Any, n_draws: int, seed: int
) -> dict[str, Any]:
    found = estimate(claim.spec, panel)
    value, error = float(found.params[claim.term]), float(found.std_errors[claim.term])
    normal = stats.norm() if found.df is None else stats.t(found.df)
    reach = float(normal.ppf(0.5 + LEVEL / 2) + normal.ppf(_POWER))
    if claim.yardstick == "placebo":
        if placebo is None:
            raise EstimationError(f"{claim.spec.formula}: no placebo panel supports it. Use more of them (n_placebo).")
        centre = float(placebo.mean())
        low, high = np.quantile(placebo, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        further = np.sum(np.abs(placebo - centre) >= abs(value - centre))
        return {
            "estimate": found, "value": value - centre, "yardstick": centre, "lower": value - float(high),
            "upper": value - float(low), "p_value": float((1 + further) / (1 + len(placebo))),
            "method": f"{len(placebo)} placebo panels", "detectable": reach * float(placebo.std(ddof=1)),
        }  # fmt: skip
    few = found.n_clusters is not None and found.n_clusters < FEW_CLUSTERS
    if few and claim.spec.estimator == "within":
        wild = wild_bootstrap(claim.spec, panel, claim.term, n_draws=n_draws, seed=seed, level=LEVEL)
        lower, upper, p_value, method = wild.lower, wild.upper, wild.p_value, wild.label
        error = (upper - lower) / 2 / float(normal.ppf(0.5 + LEVEL / 2))
    else:
        interval = found.conf_int(LEVEL)
        lower, upper = (float(interval[end][claim.term]) for end in ("lower", "upper"))
        method = found.cov_label
        p_value = float(found.pvalues[claim.term])
    return {
        "estimate": found, "value": value, "yardstick": 0.0, "lower": lower, "upper": upper, "p_value": p_value,
        "method": method, "detectable": reach * error,
    }  # fmt: skip
