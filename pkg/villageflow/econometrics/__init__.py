"""Panel regressions: one result object for all estimators, stated covariances and conventions.

Verbs take a formula and a panel; a `Spec`, `DynamicSpec` or `StaggeredSpec` is the same regression as data, which
`estimate` runs. ``studies`` holds the regressions of the paper as data, ``hypotheses`` what they are asked.
"""

from villageflow.econometrics.bootstrap import WildBootstrap, wild_bootstrap
from villageflow.econometrics.claims import Claim, Finding, judge_claims
from villageflow.econometrics.diagnostics import cross_section_dependence
from villageflow.econometrics.dynamic import DynamicSpec, Instruments, difference_gmm, system_gmm
from villageflow.econometrics.estimate import Diagnostic, Dropped, Estimate
from villageflow.econometrics.fit import (
    between,
    coefficients,
    correlated_random_effects,
    estimate,
    first_difference,
    iv,
    poisson,
    pooled,
    random_effects,
    within,
)
from villageflow.econometrics.robustness import (
    Choices,
    Restriction,
    alternative_errors,
    leave_one_out,
    specification_curve,
)
from villageflow.econometrics.spec import Clustered, Conley, DriscollKraay, Jackknife, Robust, Spec, Unadjusted
from villageflow.econometrics.staggered import (
    GroupTime,
    StaggeredSpec,
    bacon_decomposition,
    event_study,
    group_time_effects,
)
from villageflow.econometrics.stored import (
    StoredEstimate,
    pick_estimate,
    read_estimates,
    spec_of,
    store,
    write_estimates,
)

__all__ = [
    "Choices",
    "Claim",
    "Clustered",
    "Conley",
    "Diagnostic",
    "DriscollKraay",
    "Dropped",
    "DynamicSpec",
    "Estimate",
    "Finding",
    "GroupTime",
    "Instruments",
    "Jackknife",
    "Restriction",
    "Robust",
    "Spec",
    "StaggeredSpec",
    "StoredEstimate",
    "Unadjusted",
    "WildBootstrap",
    "alternative_errors",
    "bacon_decomposition",
    "between",
    "coefficients",
    "correlated_random_effects",
    "cross_section_dependence",
    "difference_gmm",
    "estimate",
    "event_study",
    "first_difference",
    "group_time_effects",
    "iv",
    "judge_claims",
    "leave_one_out",
    "pick_estimate",
    "poisson",
    "pooled",
    "random_effects",
    "read_estimates",
    "spec_of",
    "specification_curve",
    "store",
    "system_gmm",
    "wild_bootstrap",
    "within",
    "write_estimates",
]
