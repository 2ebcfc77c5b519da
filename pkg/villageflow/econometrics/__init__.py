"""Panel regressions: least squares and Poisson with absorbed effects, one result object, stated conventions.

``within`` and ``poisson`` are the verbs; ``studies`` holds the regressions of the paper as data.
"""

from villageflow.econometrics.estimate import Dropped, Estimate, Spec
from villageflow.econometrics.fit import coefficients, estimate, poisson, within

__all__ = ["Dropped", "Estimate", "Spec", "coefficients", "estimate", "poisson", "within"]
