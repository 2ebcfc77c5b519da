"""How far an estimate depends on choices that could have been made otherwise, on single entities, on its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from villageflow.econometrics.bootstrap import wild_bootstrap
from villageflow.econometrics.estimate import Estimate, check_term
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
    as_times,
    clusters_of,
    not_a_spec,
)
from villageflow.errors import EstimationError, did_you_mean


@dataclass(frozen=True)
class Restriction:
    """A part of a panel: periods of the outcome to keep (all if empty), entities to leave out."""

    times: tuple[int, ...] = ()
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", as_times(self.times))
        one = isinstance(self.without, str)  # the name of an entity, not its letters
        object.__setattr__(self, "without", (self.without,) if one else tuple(self.without))


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

    def __post_init__(self) -> None:
        for label, pair in self.formulas.items():
            if isinstance(pair, str) or len(pair) != 2:
                raise EstimationError(f"formulas[{label!r}] is {pair!r}. Write a pair: the formula and its term.")
        for label, part in self.samples.items():
            if not isinstance(part, Restriction):
                raise EstimationError(f"samples[{label!r}] is {part!r}. Write Restriction(times=..., without=...).")

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
        combination, or do not have the term or an entity to leave out; it then has no estimate and comes last. Does
        not average specifications or test them jointly: they share their data.

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
    sizes = {"nobs": "Int64", "n_entities": "Int64"}  # missing where a combination is refused
    return table.astype(sizes).sort_values("estimate", kind="stable", ignore_index=True)


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
        If the term or the column is unknown, or the regression is refused without one of the entities.
    """
    whole = estimate(spec, panel)
    check_term(term, whole.params.index, spec)
    if not isinstance(by, str) or by not in ("entity", *panel.columns):
        known = ["entity", *map(str, panel.columns)]
        raise EstimationError(f"by={by!r} is neither 'entity' nor a column. {did_you_mean(str(by), known)}")
    if whole.residuals is None:
        raise EstimationError(f"{spec.formula}: {spec.words} does not tell which entities it used.")
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

    Raises
    ------
    EstimationError
        If the specification is no `Spec`, the term is unknown, or every covariance is refused.
    """
    if not isinstance(spec, Spec):
        raise not_a_spec(spec, "Spec")
    by = clusters_of(spec.cov_type) or ("entity",)
    covariances: list[Covariance] = [Unadjusted(), Robust(), Clustered(by), Jackknife(by[0])]
    covariances += [*([] if by[0] == "time" else [Clustered((by[0], "time"))]), DriscollKraay()]
    rows: dict[str, dict[str, float | str]] = {}
    refused = []
    for cov_type in covariances:
        try:
            found = estimate(replace(spec, cov_type=cov_type), panel)
        except EstimationError as cause:
            refused.append(cause)
            continue
        row = _row(found, term)
        kept = {key: row[key] for key in ("std_error", "lower", "upper", "p_value")}
        rows[found.cov_label] = {**kept, "notes": "; ".join(found.notes)}
    if not rows:
        raise refused[0]
    if spec.estimator in ("within", "first_difference"):
        wild = wild_bootstrap(replace(spec, cov_type=Clustered(by[:1])), panel, term, n_draws=n_draws, seed=seed)
        rows[wild.label] = {
            "std_error": np.nan, "lower": wild.lower, "upper": wild.upper, "p_value": wild.p_value, "notes": "",
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def without(panel: pd.DataFrame, entities: tuple[str, ...]) -> pd.DataFrame:
    """A panel less some of its entities, all of which it must have."""
    known = panel.index.get_level_values(0)
    if unknown := [name for name in entities if name not in known]:
        raise EstimationError(
            f"{unknown[0]!r} is not an entity of the panel. {did_you_mean(str(unknown[0]), map(str, known))}"
        )
    return panel[~panel.index.get_level_values(0).isin(entities)] if entities else panel


def _row(found: Estimate, term: str) -> dict[str, float]:
    check_term(term, found.params.index, found.spec)
    names = ["estimate", "std_error", "lower", "upper", "p_value"]
    (row,) = found.to_frame().loc[[term], names].to_dict("records")
    return {str(name): float(value) for name, value in row.items()} | {
        "nobs": found.nobs, "n_entities": found.n_entities,
    }  # fmt: skip
