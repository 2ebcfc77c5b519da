"""The Nile as a local level, by exact diffuse maximum likelihood: Durbin and Koopman (2012), section 2.2.

statsmodels is what the package fits linear state-space models with; this holds it to the printed figures.
"""

from __future__ import annotations

import pytest
import statsmodels.datasets
from numpy.testing import assert_allclose
from statsmodels.tsa.statespace.structural import UnobservedComponents

pytestmark = pytest.mark.published


def test_variances_and_likelihood_of_the_local_level():
    flow = statsmodels.datasets.nile.load_pandas().data["volume"].to_numpy()
    model = UnobservedComponents(flow, "llevel", use_exact_diffuse=True)
    result = model.fit(disp=False, method="lbfgs", pgtol=1e-10, factr=10.0, maxiter=500)
    assert_allclose(result.llf, -633.46456, atol=0.5e-5)
    assert_allclose(result.params[0], 15098.52, atol=0.5e-2)
    assert_allclose(result.params[1], 1469.17, atol=1e-2)  # 1469.176: printed cut, not rounded
