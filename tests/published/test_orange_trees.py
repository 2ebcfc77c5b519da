"""The orange trees of Draper and Smith: a logistic stock whose carrying capacity differs between trees.

Figures of Pinheiro and Bates (2000) and of SAS NLMIXED, by exact marginal maximum likelihood (row D8 of the acceptance
table). The capacity enters linearly with a normal effect, so that one quadrature node is exact already.
"""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import villageflow as vf
from villageflow.calibrate.randomeffects import fit_random_effects
from villageflow.calibrate.scales import Box

pytestmark = pytest.mark.published

DATA = Path(__file__).parents[3] / "shared" / "acceptance" / "orange_trees.csv"
BOX = Box.of({
    "asymptote": ("lin", 50, 400), "midpoint": ("lin", 200, 2000), "scale": ("lin", 50, 1500),
    "error": ("log", 0.5, 100),
})
PUBLISHED = {  # estimate and its tolerance; standard error, half a unit of its last digit being 0.0005
    "asymptote": (192.0531, 1e-4, 15.658),  # the maximum is at 192.05315082: printed cut, not rounded
    "midpoint": (727.9063, 0.5e-4, 35.249),
    "scale": (348.0730, 0.5e-4, 27.080),
    "sd(asymptote)": (31.6463, 0.5e-4, None),
    "error": (7.8430, 0.5e-4, None),
}
MODEL = """{UTF-8}
size = INTEG(growth, initial size) ~ mm ~|
growth = size*(1-size/asymptote)/scale ~ mm/Day ~|
initial size = asymptote/(1+EXP(midpoint/scale)) ~ mm ~|
asymptote = 190 ~ mm ~|
midpoint = 700 ~ Day ~|
scale = 350 ~ Day ~|
INITIAL TIME = 0 ~ Day ~|
FINAL TIME = 1582 ~ Day ~|
TIME STEP = 1 ~ Day ~|
SAVEPER = 1 ~ Day ~|
"""


class Trees:
    """Circumferences with independent normal errors around a path."""

    def __init__(self, path) -> None:
        if not DATA.exists():
            pytest.skip(f"{DATA} is not there: the acceptance data lie beside the checkout")
        table = pd.read_csv(DATA).pivot(index="tree", columns="age_days", values="circumference_mm")
        self.entities, self.box, self.path = tuple(str(tree) for tree in table.index), BOX, path
        self.ages, self.size = table.columns.to_numpy(dtype=int), table.to_numpy(dtype=float)

    def entity_log_likelihood(self, values):
        error = values[..., 3:]
        deviation = (self.size - self.path(values, self.ages)) / error
        return np.sum(-0.5 * deviation**2 - np.log(error) - 0.5 * np.log(2 * np.pi), axis=-1)


def closed_form(values, ages):
    asymptote, midpoint, scale = (values[..., j:j + 1] for j in range(3))
    return asymptote / (1 + np.exp(-(ages - midpoint) / scale))


def engine(model):
    """One lane of the ensemble for each candidate and tree."""

    def path(values, ages):
        lanes, found = values.reshape(-1, values.shape[-1]), []
        for k in range(0, len(lanes), 4096):
            table = pd.DataFrame(lanes[k:k + 4096, :3], columns=["asymptote", "midpoint", "scale"])
            run = vf.simulate(model, table, save=["size"], method="rk4")
            found.append(run["size"].to_numpy()[:, ages])
        return np.concatenate(found).reshape(*values.shape[:2], len(ages))

    return path


@pytest.fixture(scope="module", params=["closed form", "engine"])
def fitted(request, tmp_path_factory):
    path = closed_form
    if request.param == "engine":
        file = tmp_path_factory.mktemp("model") / "tree.mdl"
        file.write_text(MODEL)
        path = engine(vf.read_model(file))
    return fit_random_effects(Trees(path), ["asymptote"], seed=1, nodes=1)


def test_estimates_and_errors_are_the_published_ones(fitted):
    assert fitted.converged and fitted.at_bound == () and fitted.near_best == 1.0
    for name, (estimate, tolerance, error) in PUBLISHED.items():
        assert_allclose(fitted.params[name], estimate, rtol=0, atol=tolerance, err_msg=name)
        if error is not None:
            assert_allclose(fitted.std_errors[name], error, rtol=0, atol=0.5e-3, err_msg=name)


def test_the_estimate_is_the_maximum_of_the_closed_form_in_thirty_digits(fitted):
    """Independent of the package: the marginal likelihood of a linear effect, differentiated with mpmath."""
    trees = Trees(closed_form)

    def marginal(asymptote, midpoint, scale, error, sd):
        shape = [1 / (1 + mpmath.exp(-(int(age) - midpoint) / scale)) for age in trees.ages]
        square, n = sum(value**2 for value in shape), len(shape)
        total = mpmath.mpf(0)
        for tree in trees.size:
            left = [float(size) - asymptote * value for size, value in zip(tree, shape, strict=True)]
            along = sum(a * b for a, b in zip(left, shape, strict=True))
            ratio = error**2 + sd**2 * square
            form = sum(value**2 for value in left) / error**2 - along**2 * sd**2 / error**2 / ratio
            total -= (n * mpmath.log(2 * mpmath.pi) + (n - 1) * mpmath.log(error**2) + mpmath.log(ratio) + form) / 2
        return total

    with mpmath.workdps(30):
        point = [mpmath.mpf(value) for value in fitted.params]
        assert list(fitted.params.index) == ["asymptote", "midpoint", "scale", "error", "sd(asymptote)"]
        assert abs(marginal(*point) - fitted.loglik) < 1e-8
        for j, error in enumerate(fitted.std_errors):
            order = tuple(int(k == j) for k in range(5))
            assert abs(mpmath.diff(marginal, point, order)) * error < 1e-6


def test_the_likelihood_is_the_published_one_with_any_number_of_nodes(fitted):
    assert_allclose(fitted.loglik, -131.571885, rtol=0, atol=0.5e-6)
    assert fitted.nodes_agree
    assert_allclose(list(fitted.loglik_by_nodes.values()), fitted.loglik, rtol=0, atol=1e-8)


def test_the_modes_are_the_predictors_of_a_linear_model(fitted):
    """Given the other estimates the model is linear in the effect: mode and deviation have a closed form."""
    trees = Trees(closed_form)
    asymptote, midpoint, scale, error, sd = fitted.params[["asymptote", "midpoint", "scale", "error", "sd(asymptote)"]]
    shape = 1 / (1 + np.exp(-(trees.ages - midpoint) / scale))
    precision = shape @ shape / error**2 + 1 / sd**2
    expected = (trees.size - asymptote * shape) @ shape / error**2 / precision
    assert_allclose(fitted.modes["effect"], expected, rtol=1e-6)
    assert_allclose(fitted.modes["std_dev"], precision**-0.5, rtol=1e-6)
    assert_allclose(fitted.shrinkage["asymptote"], 1 / precision / sd**2, rtol=1e-6)
