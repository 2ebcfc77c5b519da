"""Regressions on the own past of the outcome by GMM: Arellano and Bond in differences, Blundell and Bond as a system.

``difference_gmm`` and ``system_gmm`` are the verbs, ``DynamicSpec`` the same as data.
"""

from villageflow.econometrics.dynamic.estimate import difference_gmm, dynamic_estimate, system_gmm
from villageflow.econometrics.dynamic.spec import DynamicSpec, Instruments

__all__ = ["DynamicSpec", "Instruments", "difference_gmm", "dynamic_estimate", "system_gmm"]
