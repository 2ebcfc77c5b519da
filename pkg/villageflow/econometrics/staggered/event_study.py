"""The three methods behind one verb, and the same as data."""

from __future__ import annotations

import logging

import pandas as pd

from villageflow.econometrics.estimate import Estimate
from villageflow.econometrics.spec import Clustered
from villageflow.econometrics.staggered.cohorts import draw_cohorts
from villageflow.econometrics.staggered.group_time import compare_changes
from villageflow.econometrics.staggered.imputation import impute
from villageflow.econometrics.staggered.interaction import fit_paths
from villageflow.econometrics.staggered.spec import Adjustment, Control, Method, StaggeredSpec

_LOG = logging.getLogger("villageflow")
_METHODS = {"group_time": compare_changes, "interaction_weighted": fit_paths, "imputation": impute}


def event_study(
    formula: str,
    panel: pd.DataFrame,
    *,
    cohort: str,
    method: Method = "group_time",
    control: Control | None = None,
    anticipation: int = 0,
    cluster: str = "entity",
    adjustment: Adjustment = "regression",
) -> Estimate:
    """The path of the effect over time since treatment.

    Parameters
    ----------
    formula : str
        ``outcome ~ 1`` or ``outcome ~ covariate + covariate``.
    panel : pandas.DataFrame
        Indexed (entity, time). Needs not be balanced.
    cohort, method, anticipation, adjustment
        As in `StaggeredSpec`.
    control : {"never", "not_yet"}, optional
        As in `StaggeredSpec`; ``not_yet`` for imputation and ``never`` for the others by default.
    cluster : str
        ``entity``, or a column that is constant within entities.

    Returns
    -------
    Estimate
        Coefficients ``e=-3``, ..., by event time; the last period before treatment (less anticipation), ``e=-1``
        without gaps in time, is the base and has none. Diagnostics: ``pre-trends``, the joint test of those before
        treatment, and ``overall``, the mean from treatment on. `Estimate.simultaneous_bands` holds the whole path.

    Raises
    ------
    EstimationError
        As `draw_cohorts`, `StaggeredSpec` and the methods.

    Notes
    -----
    A passed test of pre-trends does not show that trends are parallel after treatment (Roth 2022). For changes from one
    period to the next before treatment, see `group_time_effects`.
    """
    chosen = control or ("not_yet" if method == "imputation" else "never")
    spec = StaggeredSpec(
        formula, cohort, method=method, control=chosen, anticipation=anticipation, adjustment=adjustment,
        cov_type=Clustered((cluster,)),
    )  # fmt: skip
    found = staggered_estimate(spec, panel)
    for note in found.notes:
        _LOG.warning("%s: %s", spec.formula, note)
    return found


def staggered_estimate(spec: StaggeredSpec, panel: pd.DataFrame) -> Estimate:
    """Run a specification on a panel. Does not log its notes."""
    effects = _METHODS[spec.method](spec, draw_cohorts(spec, panel))
    return effects.estimate if spec.target == "group_time" else effects.aggregate(spec.target)
