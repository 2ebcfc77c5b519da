"""Effects of a treatment that entities take up at different times: by cohort and period, along event time, on average.

``group_time_effects`` and ``event_study`` are the verbs, ``StaggeredSpec`` the same as data, ``bacon_decomposition``
shows which comparisons a two-way fixed effects coefficient mixes.
"""

from villageflow.econometrics.staggered.aggregate import Cell, GroupTime
from villageflow.econometrics.staggered.bacon import bacon_decomposition
from villageflow.econometrics.staggered.event_study import event_study, staggered_estimate
from villageflow.econometrics.staggered.group_time import group_time_effects
from villageflow.econometrics.staggered.spec import StaggeredSpec

__all__ = [
    "Cell",
    "GroupTime",
    "StaggeredSpec",
    "bacon_decomposition",
    "event_study",
    "group_time_effects",
    "staggered_estimate",
]
