"""Slopes of the marginal likelihood: those of entities averaged over what is left of their effects.

By Fisher's identity the derivative of an integrated log likelihood is the posterior mean of the derivative of what is
integrated; by Louis' the second derivative is the mean of the second plus the variance of the first. Quadrature nodes
give the means, the engine the derivatives: one run at the nodes in place of a difference for each pair of parameters.

References
----------
.. [Louis1982] T. A. Louis, "Finding the observed information matrix when using the EM algorithm", Journal of the Royal
   Statistical Society B 44 (1982).
"""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from villageflow.calibrate.marginal import EntityTarget, RandomModel, density_of, natural_of, times
from villageflow.calibrate.quadrature import posterior_nodes
from villageflow.calibrate.scales import Floats

_STEP: Final = 1e-5


@runtime_checkable
class Sloped(EntityTarget, Protocol):
    """A target that also gives the slopes of each entity's log likelihood."""

    @property
    def fixed_steps(self) -> bool:
        """Whether it can: the engine differentiates methods with fixed steps."""

    def entity_slopes(self, values: Floats) -> tuple[Floats, Floats]:
        """First and approximate second derivatives by each entity's own parameters, natural units.

        (m, E, p) to (m, E, p) and (m, E, p, p).
        """


def marginal_slopes(model: RandomModel, theta: Floats, *, nodes: int) -> tuple[Floats, Floats]:
    """Derivatives of the marginal log likelihood by the transformed parameters of ``model.box``.

    Parameters
    ----------
    model : RandomModel
        Of a `Sloped` target.
    theta : (m, q) array
        Natural values, as for `marginal_log_likelihood`.
    nodes : int
        Quadrature nodes for each effect, at least 3; the fewer, the less exact.

    Returns
    -------
    scores : (m, E, q) array
        Of each entity; NaN where it cannot be run.
    hessians : (m, q, q) array
        Of the sum, but for the bending of the trajectories [Louis1982]_.
    """
    target = model.target
    assert isinstance(target, Sloped)
    m, many, size = len(theta), len(target.entities), len(model.random)
    effects, weights = posterior_nodes(density_of(model, theta), m * many, size, nodes=nodes)
    points = effects.shape[1]
    lanes, flat = np.tile(np.arange(m * many), points), effects.reshape(size, -1)
    natural = natural_of(model, theta, flat, lanes)
    first, second = target.entity_slopes(natural.reshape(points * m, many, -1))
    inner = np.array([target.box.slope(row) for row in natural])
    moves = _moves(model, theta, flat, lanes) * inner[:, :, None]
    scores = np.einsum("lp,lpq->lq", first.reshape(inner.shape), moves)
    bent = np.einsum("lpq,lpr->lqr", np.einsum("lpr,lps->lrs", second.reshape(*inner.shape, -1), moves), moves)
    bent += scores[:, :, None] * scores[:, None, :]

    def mean(values: Floats) -> Floats:
        weighed = weights.reshape(-1, *[1] * (values.ndim - 1))
        # a node outside the support of the data has the weight 0 and no derivative
        found = np.where(weighed == 0, 0.0, weighed * values).reshape(points, m, many, *values.shape[1:])
        return np.asarray(found.sum(axis=0))

    score = mean(scores)
    return score, (mean(bent) - score[..., :, None] * score[..., None, :]).sum(axis=1)


def _moves(model: RandomModel, theta: Floats, effects: Floats, lanes: npt.NDArray[np.intp]) -> Floats:
    """Derivatives of the target's transformed parameters by the transformed outer ones, (lanes, p, q)."""
    size, q, p = len(model.random), theta.shape[1], model.target.box.size
    candidate, entity = np.divmod(lanes, len(model.target.entities))
    found = np.zeros((len(lanes), p, q))
    found[:, np.arange(p), np.arange(p)] = 1.0
    for k, (j, _) in enumerate(model.slopes):
        found[:, model.positions[j], p + k] = model.centred[k][entity]
    spread = times(model.factor(theta)[:, :, candidate], effects)
    for j in range(size):
        found[:, model.positions[j], model.deviations.start + j] = spread[j]  # by the logarithm of the deviation
    for column in range(model.deviations.stop, q):
        step = _STEP * np.eye(q)[column]
        change = (model.factor(theta + step) - model.factor(theta - step)) / (2 * _STEP)
        found[:, model.positions, column] = times(change[:, :, candidate], effects).T
    return found
