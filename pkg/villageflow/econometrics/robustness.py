"""How far an estimate depends on choices that could have been made otherwise, on single entities, on its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from villageflow.econometrics.bootstrap import wild_bootstrap
from villageflow.econometrics.estimate import Estimate
from villageflow.econometrics.fit import estimate
from villageflow.econometrics.spec import (
    Clustered,
    Covariance,
    DriscollKraay,
    Estimator,
    Jackknife,
    Robust,
    Spec,
    Unadjusted,
)
from villageflow.errors import EstimationError, did_you_mean


@dataclass(frozen=True)
class Restriction:
    """A part of a panel: periods of the outcome to keep (all if empty), entities to leave out."""

    times: tuple[int, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choices:
    """Defensible ways to run one regression; every combination is a specification.

    Parameters
    ----------
    formulas : mapping of str to (str, str)
        By label, the formula and its term of interest.
    effects : mapping of str to tuple of str
    samples : mapping of str to Restriction
    errors : mapping of str to covariance
    estimator : str
        The same for all, so that coefficients mean the same.
    """

    formulas: Mapping[str, tuple[str, str]]
    effects: Mapping[str, tuple[str, ...]]
    samples: Mapping[str, Restriction]
    errors: Mapping[str, Covariance]
    estimator: Estimator = "within"

    def __len__(self) -> int:
        return len(self.formulas) * len(self.effects) * len(self.samples) * len(self.errors)


def specification_curve(choices: Choices, panel: pd.DataFrame) -> pd.DataFrame:
    """Every combination of the choices.

    Parameters
    ----------
    choices : Choices
        What to combine.
    panel : pandas.DataFrame
        Indexed (entity, time).

    Returns
    -------
    pandas.DataFrame
        One row per combination, by estimate: formula, effects, sample, errors (labels), estimate, std_error, lower,
        upper (95 percent), p_value, nobs, n_entities, and ``refused``: the reason where the data do not support a
        combination, which then has no estimate and comes last. Does not average specifications or test them jointly:
        they share their data.

    References
    ----------
    Simonsohn, Simmons and Nelson (2020).
    """
    rows = []
    combinations = product(
        choices.formulas.items(), choices.effects.items(), choices.samples.items(), choices.errors.items()
    )
    for (formula_label, (formula, term)), (effects_label, effects), (sample_label, part), (errors_label, errors) in (
        combinations
    ):
        spec = Spec(formula, choices.estimator, effects, errors, times=part.times)
        labels = {
            "formula": formula_label, "effects": effects_label, "sample": sample_label, "errors": errors_label,
        }  # fmt: skip
        found: Mapping[str, float | str]
        try:
            found = _row(estimate(spec, without(panel, part.without)), term)
        except EstimationError as cause:
            found = {"refused": str(cause)}
        rows.append({**labels, **found})
    columns = ["estimate", "std_error", "lower", "upper", "p_value", "nobs", "n_entities", "refused"]
    table = pd.DataFrame(rows).reindex(columns=["formula", "effects", "sample", "errors", *columns])
    return table.sort_values("estimate", kind="stable", ignore_index=True)


def leave_one_out(spec: Spec, panel: pd.DataFrame, term: str, *, by: str = "entity") -> pd.DataFrame:
    """The estimate without each entity, or each group of them, in turn.

    Parameters
    ----------
    spec : Spec
        The regression.
    panel : pandas.DataFrame
        Indexed (entity, time).
    term : str
        The coefficient.
    by : str
        ``entity``, or a column that groups entities.

    Returns
    -------
    pandas.DataFrame
        Indexed by what was left out, by estimate: estimate, std_error, lower, upper, p_value, nobs, n_entities. Who
        is not in the sample is not listed.

    Raises
    ------
    EstimationError
        If the term is unknown, or the regression is refused without one of the entities.
    """
    whole = estimate(spec, panel)
    if term not in whole.params.index:
        raise EstimationError(f"{spec.formula}: {term!r} is not a term. {did_you_mean(term, whole.params.index)}")
    assert whole.residuals is not None
    groups = panel.index.get_level_values(0).to_series(index=panel.index) if by == "entity" else panel[by]
    used = pd.unique(groups[groups.index.isin(whole.residuals.index)])
    rows = {group: _row(estimate(spec, panel[groups != group]), term) for group in used}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "without"
    return table.sort_values("estimate", kind="stable")


def alternative_errors(
    spec: Spec, panel: pd.DataFrame, term: str, *, n_draws: int = 9_999, seed: int = 1
) -> pd.DataFrame:
    """One coefficient under every covariance that is defined for it.

    Parameters
    ----------
    spec : Spec
        With clustered errors; the clusters are kept where a covariance has any.
    panel : pandas.DataFrame
        Indexed (entity, time).
    term : str
        The coefficient.
    n_draws, seed : int
        Of the wild bootstrap, which is for least squares only.

    Returns
    -------
    pandas.DataFrame
        Indexed by the errors in words: std_error, lower, upper (95 percent), p_value, notes. The wild bootstrap has
        no standard error. Two-way errors need more periods than regressors; what is refused is left out.
    """
    by = spec.cov_type.by if isinstance(spec.cov_type, Clustered) else ("entity",)
    covariances: list[Covariance] = [Unadjusted(), Robust(), Clustered(by), Jackknife(by[0])]
    covariances += [Clustered((by[0], "time")), DriscollKraay()]
    rows: dict[str, dict[str, float | str]] = {}
    for cov_type in covariances:
        try:
            found = estimate(replace(spec, cov_type=cov_type), panel)
        except EstimationError:
            continue
        row = _row(found, term)
        kept = {key: row[key] for key in ("std_error", "lower", "upper", "p_value")}
        rows[found.cov_label] = {**kept, "notes": "; ".join(found.notes)}
    if spec.estimator in ("within", "first_difference"):
        wild = wild_bootstrap(replace(spec, cov_type=Clustered(by[:1])), panel, term, n_draws=n_draws, seed=seed)
        rows[wild.label] = {
            "std_error": np.nan, "lower": wild.lower, "upper": wild.upper, "p_value": wild.p_value, "notes": "",
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def without(panel: pd.DataFrame, entities: tuple[str, ...]) -> pd.DataFrame:
    """A panel less some of its entities."""
    return panel[~panel.index.get_level_values(0).isin(entities)] if entities else panel


def _row(found: Estimate, term: str) -> dict[str, float]:
    names = ["estimate", "std_error", "lower", "upper", "p_value"]
    (row,) = found.to_frame().loc[[term], names].to_dict("records")
    sizes = {"nobs": float(found.nobs), "n_entities": float(found.n_entities)}
    return {str(name): float(value) for name, value in row.items()} | sizes
