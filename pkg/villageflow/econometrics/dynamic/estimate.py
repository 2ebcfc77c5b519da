"""Dynamic panels: difference GMM (Arellano and Bond) and system GMM (Blundell and Bond)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.datasets.terms import columns_of, parse_formula
from villageflow.econometrics.dynamic.gmm import Solution, level_instruments, serial_correlation, solve
from villageflow.econometrics.dynamic.sample import DynamicSample, draw_dynamic_sample
from villageflow.econometrics.dynamic.spec import DynamicSpec, Instruments, as_lags
from villageflow.econometrics.estimate import Diagnostic, Estimate
from villageflow.econometrics.spec import Clustered, CovarianceLike, Unadjusted, as_covariance, as_names
from villageflow.errors import EstimationError

__all__ = ["DynamicSpec", "Instruments", "difference_gmm", "dynamic_estimate", "system_gmm"]
FEW_GROUPS: Final = 40


def difference_gmm(
    formula: str,
    panel: pd.DataFrame,
    *,
    gmm: Iterable[Instruments] | Instruments = (),
    iv: Iterable[str] | None = None,
    collapse: bool = False,
    steps: Literal[1, 2] = 2,
    time_effects: bool = False,
    cov_type: CovarianceLike = "clustered",
) -> Estimate:
    """First differences with lagged levels as instruments: short panels with a lagged outcome and entity effects.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term`` over the columns of the panel.
    panel : pandas.DataFrame
        Indexed (entity, time), times in whole numbers; may have gaps. A difference needs both periods; an instrument
        that is not known is zero, and no row is lost for it.
    gmm, iv, collapse, steps, time_effects, cov_type
        As in `DynamicSpec`.

    Returns
    -------
    Estimate
        `nobs` counts differences, `residuals` are those of the differenced equation.

    Raises
    ------
    EstimationError
        If the panel is too short, a regressor does not vary within entities or is a combination of others, lags do not
        reach any value, instruments are fewer than coefficients or do not tell them apart, or a value is infinite.

    Notes
    -----
    Errors must not be correlated over time: see ``AR(2)``. Weak where the outcome is close to a random walk. Does not
    add a constant, which would be a trend in levels.

    References
    ----------
    Arellano and Bond (1991); Windmeijer (2005).
    """
    cov = as_covariance(cov_type)
    spec = DynamicSpec(formula, as_lags(gmm), _names(iv), False, collapse, steps, time_effects, cov)
    return dynamic_estimate(spec, panel)


def system_gmm(
    formula: str,
    panel: pd.DataFrame,
    *,
    gmm: Iterable[Instruments] | Instruments = (),
    iv: Iterable[str] | None = None,
    collapse: bool = False,
    steps: Literal[1, 2] = 2,
    time_effects: bool = False,
    cov_type: CovarianceLike = "clustered",
) -> Estimate:
    """Differences instrumented by lagged levels, together with levels instrumented by lagged differences.

    Parameters, errors and references are those of `difference_gmm`, and Blundell and Bond (1998). The constant is
    called ``const``. `nobs` counts levels, `residuals` are those of the level equation, entity effect included.

    Notes
    -----
    Differences of the lagged instruments must not be correlated with the entity effect, which for the outcome means
    that entities start near the path that they keep to: see ``difference-in-Hansen``. Terms of `iv` must not be
    correlated with it at all, as they serve in the level equation as they are.
    """
    cov = as_covariance(cov_type)
    spec = DynamicSpec(formula, as_lags(gmm), _names(iv), True, collapse, steps, time_effects, cov)
    return dynamic_estimate(spec, panel)


def _names(iv: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if iv is None else as_names("iv", iv)


def dynamic_estimate(spec: DynamicSpec, panel: pd.DataFrame) -> Estimate:
    """Run a specification on a panel; see `difference_gmm` and `system_gmm`."""
    sample = draw_dynamic_sample(spec, panel)
    try:
        found = solve(sample.stack, spec.steps)
    except EstimationError as error:
        raise EstimationError(f"{spec.formula}: {error}") from None
    robust = spec.cov_type == Clustered()
    tests = _diagnostics(spec, sample, found, robust)
    names = list(sample.names)
    influence = pd.DataFrame(found.moments @ found.projection.T, sample.entities, names)
    return Estimate(
        spec=spec,
        params=pd.Series(found.params, names, name="estimate"),
        cov=pd.DataFrame(found.robust if robust else found.classical, names, names),
        cov_label=_label(spec),
        df=None,
        nobs=sample.n_rows,
        n_entities=len(sample.entities),
        n_periods=sample.n_periods,
        n_clusters=len(sample.entities) if robust else None,
        dropped=sample.dropped,
        notes=_notes(spec, sample, found, tests),
        diagnostics=tests,
        residuals=sample.series(found.residuals),
        influence=influence,
    )


def _label(spec: DynamicSpec) -> str:
    correction = "uncorrected" if spec.cov_type == Unadjusted() else "Windmeijer correction"
    return ", ".join([spec.cov_type.words, *([correction] if spec.steps == 2 else []), "no small-sample factor"])


# --- tests and cautions ------------------------------------------------------------------------------------------


def _diagnostics(
    spec: DynamicSpec, sample: DynamicSample, found: Solution, robust: bool
) -> dict[str, Diagnostic]:
    n_terms, n_groups = len(sample.names), len(sample.entities)
    tests: dict[str, Diagnostic] = {}
    if found.rank > n_terms:
        if spec.steps == 2:
            says = "instruments are valid"
            tests["Hansen J"] = _chi2("Hansen J", found.overidentification, found.rank - n_terms, says)
        else:
            says = "instruments are valid, if errors are independent and of equal variance; not robust"
            tests["Sargan"] = _chi2("Sargan", found.overidentification, found.rank - n_terms, says)
    if spec.system and spec.steps == 2 and (apart := level_instruments(sample.stack, found)):
        says = "lagged differences are valid in the level equation"
        tests["difference-in-Hansen"] = _chi2("difference-in-Hansen", *apart, says)
    for lag in (1, 2):
        z = serial_correlation(sample.stack, found, lag, robust=robust)
        if z is not None:
            says = f"differenced errors {lag} apart are not correlated" + (" (they are by construction)" * (lag == 1))
            tests[f"AR({lag})"] = Diagnostic(f"AR({lag})", z, "N(0, 1)", float(2 * stats.norm.sf(abs(z))), says)
    tests["instruments"] = Diagnostic("instruments", float(found.rank), says=f"for {n_groups} groups")
    return tests


def _chi2(name: str, statistic: float, df: int, says: str) -> Diagnostic:
    return Diagnostic(name, statistic, f"chi2({df})", float(stats.chi2.sf(statistic, df)), says)


def _notes(
    spec: DynamicSpec, sample: DynamicSample, found: Solution, tests: Mapping[str, Diagnostic]
) -> tuple[str, ...]:
    notes = []
    n_groups, n_columns = len(sample.entities), sample.stack.z.shape[2]
    hansen, second = tests.get("Hansen J"), tests.get("AR(2)")
    if found.rank < n_columns:
        notes.append(f"{n_columns - found.rank} of {n_columns} instruments are combinations of others")
    if found.rank > n_groups:
        notes.append(f"{found.rank} instruments for {n_groups} groups: estimates lean to least squares and Hansen's "
                     "test has little power; collapse or use fewer lags")
    if found.weight_rank < found.rank:
        notes.append(f"the covariance of the moments is singular (rank {found.weight_rank} of {found.rank}); the "
                     "second step uses its generalized inverse, and Hansen's test is not to be trusted")
    if hansen is not None and hansen.p_value is not None and hansen.p_value > 0.99:
        notes.append(f"Hansen p = {hansen.p_value:.4f}: so close to 1 that instruments may be too many for the test")
    if second is None:
        notes.append("AR(2) cannot be computed: no entity has differences two periods apart")
    elif second.p_value is not None and second.p_value < 0.05:
        notes.append(f"AR(2) is rejected (p = {second.p_value:.4f}): second lags are not valid instruments")
    if n_groups < FEW_GROUPS:
        notes.append(f"{n_groups} groups: the normal distribution is meant for many, some {FEW_GROUPS} or more")
    if spec.steps == 2 and spec.cov_type == Unadjusted():
        notes.append("two-step errors without Windmeijer's correction are too small")
    if spec.system and spec.steps == 1:
        what = "Sargan's test ignores" if spec.cov_type == Clustered() else "Sargan's test and unadjusted errors ignore"
        notes.append(f"{what} the entity effect in the errors of the level equation; use two steps")
    return (*notes, *_instrument_notes(spec, sample), *_outside_bounds(sample, found))


def _instrument_notes(spec: DynamicSpec, sample: DynamicSample) -> list[str]:
    formula = parse_formula(spec.formula)
    lagged = [set(columns_of(term)) for term in (formula.outcome, *(item.variable for item in spec.lags))]
    bare = [t for t in formula.regressors if t not in spec.standard and set(columns_of(t)) not in lagged]
    notes = []
    if bare:
        notes.append(f"no instruments of their own: {', '.join(bare)}; name exogenous ones in iv, others in gmm")
    early = [str(item) for item in spec.lags if item.first < 2 and _plain(item.variable) == _plain(formula.outcome)]
    if early:
        notes.append(f"the first lag of the outcome is correlated with differenced errors: {', '.join(early)}")
    if spec.system and spec.standard:
        notes.append(f"in the level equation {', '.join(spec.standard)} must not be correlated with entity effects; if "
                     "they may be, name them in gmm instead of iv")
    still = [name for name, fixed in zip(formula.regressors, sample.unvarying) if fixed]
    if still:
        notes.append(f"only the level equation tells the coefficients of {', '.join(still)}")
    return notes


def _plain(term: str) -> str:
    return "".join(term.split())


def _outside_bounds(sample: DynamicSample, found: Solution) -> list[str]:
    """Bond's informal check: least squares is too high on the lagged outcome, within estimates are too low."""
    if sample.lagged_outcome is None:
        return []
    y, x, entity = sample.levels()
    j = sample.lagged_outcome
    pooled = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0][j]
    count = np.maximum(np.bincount(entity), 1)
    both = np.column_stack([y, x])
    means = np.stack([np.bincount(entity, column) / count for column in both.T], axis=1)
    inner = both - means[entity]
    within = np.linalg.lstsq(inner[:, 1:], inner[:, 0], rcond=None)[0][j]
    low, high = sorted((float(within), float(pooled)))
    if low <= found.params[j] <= high:
        return []
    estimate = f"{sample.names[j]} = {found.params[j]:.4f}"
    return [f"{estimate} is outside the bounds of within ({within:.4f}) and pooled least squares ({pooled:.4f})"]
