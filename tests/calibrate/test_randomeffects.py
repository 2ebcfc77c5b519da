"""Random effects: the marginal likelihood is the exact one, the truth is recovered, and what is doubtful is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.tools.numdiff import approx_fprime, approx_hess

from villageflow.calibrate import marginal
from villageflow.calibrate.marginal import (
    RandomEffect,
    entity_marginals,
    marginal_log_likelihood,
    random_model,
)
from villageflow.calibrate.randomeffects import fit_random_effects
from villageflow.calibrate.scales import Box
from villageflow.errors import CalibrationError


class Rows:
    """Independent measurements of each entity; `density` gives their log densities (m, E, T)."""

    def __init__(self, box, density, n_entities, keep=None) -> None:
        self.box, self.density = Box.of(box), density
        self.entities = tuple(f"v{i}" for i in range(n_entities))
        self.keep = keep if keep is not None else np.arange(n_entities)
        self.lanes = 0

    def entity_log_likelihood(self, values):
        self.lanes += values.shape[0] * values.shape[1]
        return self.density(values, self.keep).sum(axis=-1)


QUIET = pytest.mark.filterwarnings("ignore")  # statsmodels warns while it searches
LINEAR = {
    "level": ("lin", -5, 5), "effect": ("lin", -5, 5), "error": ("log", 0.05, 5), "other": ("lin", -4, 4),
}


def linear(n_entities=20, n_times=6, seed=1, cov=((0.5, 0.2), (0.2, 0.3)), even=False):
    """A level and an effect of x that differ between entities, `other` an effect of a second covariate."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, n_entities, n_times))
    own = rng.multivariate_normal([0.4, 1.1], cov, size=n_entities)
    noise = rng.normal(0, 0.6, size=x.shape)
    if even:  # the means spread less than chance would have it
        noise -= 0.9 * noise.mean(axis=1, keepdims=True)
    y = own[:, :1] + own[:, 1:] * x - 0.5 * z + noise

    def density(values, keep):
        level, effect, error, other = (values[..., j:j + 1] for j in range(4))
        deviation = (y[keep] - level - effect * x[keep] - other * z[keep]) / error
        return -0.5 * deviation**2 - np.log(error) - 0.5 * np.log(2 * np.pi)

    target = Rows(LINEAR, density, n_entities)
    return target, x, z, y


def mixed(x, z, y, re_slope):
    groups = np.repeat(np.arange(len(y)), y.shape[1])
    fixed = np.column_stack([np.ones(y.size), x.ravel(), z.ravel()])
    return MixedLM(y.ravel(), fixed, groups, exog_re=fixed[:, :2] if re_slope else fixed[:, :1])


def exact_rows(theta, x, z, y):
    """Multivariate normal log density of each entity; theta: level, effect, error, other, sd, sd, correlation."""
    level, effect, error, other, sd, sd_effect, corr = theta
    cov = np.array([[sd**2, corr * sd * sd_effect], [corr * sd * sd_effect, sd_effect**2]])
    found = []
    for x_i, z_i, y_i in zip(x, z, y, strict=True):
        design = np.column_stack([np.ones_like(x_i), x_i])
        spread = design @ cov @ design.T + error**2 * np.eye(len(x_i))
        found.append(stats.multivariate_normal.logpdf(y_i, level + effect * x_i + other * z_i, spread))
    return np.array(found)


@QUIET
def test_a_random_intercept_is_that_of_statsmodels():
    target, x, z, y = linear(cov=((0.5, 0.0), (0.0, 1e-12)))
    found = fit_random_effects(target, ["level"], seed=1, nodes=1)
    other = mixed(x, z, y, re_slope=False).fit(reml=False, method=["bfgs", "powell"], gtol=1e-10)
    assert found.converged and found.nodes_agree and found.notes() == ()
    assert_allclose(found.loglik, other.llf, rtol=0, atol=1e-8)
    assert found.loglik >= other.llf - 1e-10
    params = found.params[["level", "effect", "other"]]
    assert_allclose(params, other.fe_params, rtol=1e-5)
    assert_allclose(found.params["sd(level)"] ** 2, np.asarray(other.cov_re).item(), rtol=1e-4)
    assert_allclose(found.params["error"] ** 2, other.scale, rtol=1e-4)
    # effects given the estimates: best linear unbiased predictors
    blup = np.array([np.asarray(value).item() for value in other.random_effects.values()])
    assert_allclose(found.modes["effect"], blup, rtol=0, atol=1e-5)


@QUIET
def test_correlated_effects_and_both_errors_are_those_of_the_exact_density():
    target, x, z, y = linear()
    found = fit_random_effects(target, ["level", "effect"], seed=1, nodes=1, correlated=True)
    other = mixed(x, z, y, re_slope=True).fit(reml=False, method=["bfgs", "powell"], gtol=1e-10)
    assert found.converged and found.nodes_agree
    assert_allclose(found.loglik, other.llf, rtol=0, atol=1e-7)
    theta = found.params.to_numpy()
    assert list(found.params.index[4:]) == ["sd(level)", "sd(effect)", "corr(level, effect)"]
    assert_allclose(found.loglik, exact_rows(theta, x, z, y).sum(), rtol=0, atol=1e-9)
    assert_allclose(found.correlation.loc["level", "effect"], theta[6], rtol=1e-12)
    information = -approx_hess(theta, lambda point: exact_rows(point, x, z, y).sum(), epsilon=1e-4)
    bread = np.linalg.inv(information)
    assert_allclose(found.std_errors, np.sqrt(np.diag(bread)), rtol=3e-5)
    scores = approx_fprime(theta, lambda point: exact_rows(point, x, z, y), centered=True)
    sandwich = bread @ scores.T @ scores @ bread * len(y) / (len(y) - 1)
    assert_allclose(found.clustered_errors, np.sqrt(np.diag(sandwich)), rtol=3e-5)
    at = found.conf_int().loc["level"]
    reach = stats.t.ppf(0.975, len(y) - 1) * found.clustered_errors["level"]
    assert_allclose([at["lower"], at["upper"]], theta[0] + np.array([-reach, reach]), rtol=1e-10)


def test_three_correlated_effects_have_the_covariance_they_name():
    """Against a multivariate normal, for any point of the box and any number of nodes."""
    target, x, z, y = linear(n_entities=5)
    model = random_model(target, ["level", "effect", "other"], correlated=True)
    assert model.box.names[-3:] == ("corr(level, effect)", "corr(level, other)", "corr(effect, other | level)")
    theta = model.box.natural(np.random.default_rng(2).uniform(0.3, 0.7, size=(4, model.box.size)))
    exact = []
    for row in theta:
        (level, effect, error, other), sd, (ab, ac, bc_a) = row[:4], row[4:7], row[7:]
        bc = ab * ac + bc_a * np.sqrt((1 - ab**2) * (1 - ac**2))
        cov = np.array([[1, ab, ac], [ab, 1, bc], [ac, bc, 1]]) * np.outer(sd, sd)
        total = 0.0
        for x_i, z_i, y_i in zip(x, z, y, strict=True):
            design = np.column_stack([np.ones_like(x_i), x_i, z_i])
            spread = design @ cov @ design.T + error**2 * np.eye(len(x_i))
            total += stats.multivariate_normal.logpdf(y_i, design @ [level, effect, other], spread)
        exact.append(total)
    for nodes in (1, 2, 3):
        assert_allclose(marginal_log_likelihood(model, theta, nodes=nodes), exact, rtol=1e-10)


COUNTS = {"rate": ("log", 0.02, 500)}


def counts(n_entities=30, n_times=3, sd=1.3, seed=4, rate=0.6):
    rng = np.random.default_rng(seed)
    y = rng.poisson(rate * np.exp(rng.normal(0, sd, size=(n_entities, 1))), size=(n_entities, n_times))
    constant = stats.poisson.logpmf(y, 1.0) + 1.0
    target = Rows(COUNTS, lambda values, keep: y[keep] * np.log(values) - values + constant[keep], n_entities)
    return target, y


def brute_force(y, rate, sd):
    def density(effect, row):
        return np.exp(stats.poisson.logpmf(row, rate * np.exp(effect)).sum()) * stats.norm.pdf(effect, 0, sd)

    settings = {"epsabs": 0.0, "epsrel": 1e-12, "limit": 400, "points": [-2.0, 0.0, 2.0]}
    return np.array([np.log(integrate.quad(density, -9 * sd, 9 * sd, args=(row,), **settings)[0]) for row in y])


def test_enough_nodes_give_the_integral_and_laplace_does_not():
    target, y = counts()
    model = random_model(target, ["rate"])
    theta = np.array([[0.6, 1.3], [0.4, 0.7]])
    exact = np.array([brute_force(y, *row) for row in theta])
    errors = {k: np.abs(entity_marginals(model, theta, nodes=k).value - exact).max() for k in (1, 3, 5, 9, 25, 41)}
    assert errors[41] < 1e-8
    assert errors[1] > 1e-3
    assert errors[3] > errors[5] > errors[9] > errors[25] > errors[41]


def test_a_fit_whose_likelihood_depends_on_the_nodes_is_flagged():
    target, y = counts(sd=0.9, rate=1.5)
    found = fit_random_effects(target, ["rate"], seed=1, nodes=9)
    by = found.loglik_by_nodes
    assert abs(by[1] - by[9]) > 3 * abs(by[5] - by[9]) > 0
    assert not found.nodes_agree
    assert any("depends on the number of nodes" in note for note in found.notes())
    assert "note: the log likelihood depends on the number of nodes" in found.summary()
    assert_allclose(found.loglik, brute_force(y, *found.params).sum(), rtol=0, atol=2e-3)
    many, _ = counts(sd=0.3, rate=100.0, n_times=10)
    assert fit_random_effects(many, ["rate"], seed=1).nodes_agree


GROWTH = {
    "ceiling": ("log", 50, 5000), "rate": ("log", 0.1, 3), "midpoint": ("lin", 0, 12), "error": ("log", 0.01, 1),
}


def growth(n_entities=15, n_times=8, seed=6):
    rng = np.random.default_rng(seed)
    time = np.arange(1.0, n_times + 1)
    own = np.exp(rng.normal(0, [0.5, 0.25], size=(n_entities, 2)))

    def path(ceiling, rate, midpoint):
        return np.log(ceiling) - np.log1p(np.exp(-rate * (time - midpoint)))

    y = path(500 * own[:, :1], 0.8 * own[:, 1:], 5.0) + rng.normal(0, 0.1, size=(n_entities, n_times))

    def density(values, keep):
        deviation = (y[keep] - path(*(values[..., j:j + 1] for j in range(3)))) / values[..., 3:]
        return -0.5 * deviation**2 - np.log(values[..., 3:]) - 0.5 * np.log(2 * np.pi) - y[keep]

    return Rows(GROWTH, density, n_entities), own


def test_effects_on_the_log_scale_are_recovered():
    target, own = growth()
    found = fit_random_effects(target, ["ceiling", "rate"], seed=1, nodes=3)
    assert found.converged and found.at_bound == () and found.near_best >= 0.5
    low, high = found.conf_int(0.999)["lower"], found.conf_int(0.999)["upper"]
    true = {"ceiling": 500, "rate": 0.8, "midpoint": 5, "error": 0.1, "sd(ceiling)": 0.5, "sd(rate)": 0.25}
    for name, value in true.items():
        assert low[name] < value < high[name], name
    modes = found.modes.pivot(index="entity", columns="parameter", values="value").loc[list(target.entities)]
    for j, name in enumerate(["ceiling", "rate"]):
        assert np.corrcoef(np.log(modes[name]), np.log(own[:, j]))[0, 1] > 0.9
        assert 0 < found.shrinkage[name] < 0.3
    assert (found.modes["std_dev"] > 0).all() and not found.modes["outside"].any()
    assert set(found.to_frame().columns) >= {"estimate", "std_error", "clustered_error", "at_bound"}


def test_effects_that_correlate_with_a_covariate_need_its_means():
    """Good villages advertise more: plain random effects credit the advertising."""
    rng = np.random.default_rng(8)
    means = rng.normal(size=50)
    x = means[:, None] + 0.6 * rng.normal(size=(50, 3))
    y = 1.0 + 1.5 * x.mean(axis=1)[:, None] + 0.3 * rng.normal(size=(50, 1)) + 0.5 * x + rng.normal(size=x.shape)

    def density(values, keep):
        deviation = (y[keep] - values[..., :1] - values[..., 1:2] * x[keep]) / values[..., 2:]
        return -0.5 * deviation**2 - np.log(values[..., 2:]) - 0.5 * np.log(2 * np.pi)

    box = {"level": ("lin", -6, 6), "effect": ("lin", -4, 4), "error": ("log", 0.1, 5)}
    target = Rows(box, density, 50)
    plain = fit_random_effects(target, ["level"], seed=1, nodes=1)
    table = pd.DataFrame({"x_mean": x.mean(axis=1)}, index=target.entities)[::-1]
    found = fit_random_effects(target, [RandomEffect("level", ("x_mean",))], seed=1, nodes=1, covariates=table)
    assert abs(plain.params["effect"] - 0.5) > 4 * plain.clustered_errors["effect"]
    assert abs(found.params["effect"] - 0.5) < 2.5 * found.clustered_errors["effect"]
    slope = "slope(level, x_mean)"
    assert abs(found.params[slope] - 1.5) < 2.5 * found.clustered_errors[slope]
    # the effect of a balanced Mundlak regression is the within estimate
    within_x, within_y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    assert_allclose(found.params["effect"], (within_x * within_y).sum() / (within_x**2).sum(), rtol=1e-6)


def test_bits_depend_neither_on_the_batch_nor_on_the_order_of_the_entities(monkeypatch):
    target, _ = growth(n_entities=12)
    model = random_model(target, ["ceiling", "rate"], correlated=True)
    theta = model.box.natural(np.random.default_rng(3).uniform(0.2, 0.8, size=(40, model.box.size)))
    for nodes in (1, 3):
        whole = marginal_log_likelihood(model, theta, nodes=nodes)
        assert np.isfinite(whole).all()
        single = [marginal_log_likelihood(model, row[None, :], nodes=nodes)[0] for row in theta]
        assert_array_equal(single, whole)
        assert_array_equal(marginal_log_likelihood(model, theta[::-1], nodes=nodes)[::-1], whole)
        order = np.random.default_rng(4).permutation(12)
        shuffled = Rows(GROWTH, target.density, 12, keep=order)
        assert_array_equal(marginal_log_likelihood(_same(model, shuffled), theta, nodes=nodes), whole)
        with monkeypatch.context() as patch:
            patch.setattr(marginal, "_LANES", 200)
            assert_array_equal(marginal_log_likelihood(model, theta, nodes=nodes), whole)


def test_a_fit_repeats_and_does_not_depend_on_the_order_of_the_entities():
    target, _, _, _ = linear(n_entities=12)
    order = np.random.default_rng(4).permutation(12)
    shuffled = Rows(LINEAR, target.density, 12, keep=order)
    first, again, other = (fit_random_effects(item, ["level"], seed=3, nodes=1) for item in (target, target, shuffled))
    assert_array_equal(first.params, again.params)
    assert_array_equal(first.params, other.params)
    assert_allclose(first.clustered_errors, other.clustered_errors, rtol=1e-9)
    assert_array_equal(first.modes["effect"].to_numpy()[order], other.modes["effect"])


def test_a_variance_of_zero_is_at_its_bound():
    target, x, z, y = linear(n_entities=12, cov=((1e-12, 0), (0, 0.4)), seed=2, even=True)
    found = fit_random_effects(target, ["level", "effect"], seed=1, nodes=1)
    assert found.zero == ("level",)
    assert found.at_bound == ("sd(level)",)
    assert found.params["sd(level)"] == 0 and found.shrinkage["level"] == 1 and found.converged
    assert np.isnan(found.std_errors["sd(level)"]) and np.isfinite(found.std_errors["effect"])
    assert any("sd(level) is 0, on the boundary" in note for note in found.notes())
    alone = fit_random_effects(target, ["effect"], seed=1, nodes=1)
    assert_allclose(found.loglik, alone.loglik, rtol=0, atol=1e-9)
    assert_allclose(found.std_errors["effect"], alone.std_errors["effect"], rtol=1e-6)
    assert exact_rows([*found.params[:4], 0.05, found.params["sd(effect)"], 0], x, z, y).sum() < found.loglik
    three = random_model(target, ["level", "effect", "other"], correlated=True)
    dropped = [three.box.names[j] for j in three.columns_of(0)]
    assert dropped == ["sd(level)", "corr(level, effect)", "corr(level, other)"]


def test_a_density_that_ends_is_integrated_where_it_is_defined():
    """A run that fails for some values gives them no weight, also beside the mode."""
    rng = np.random.default_rng(5)
    y = 0.3 + 0.2 * np.abs(rng.normal(size=(6, 2)))

    def density(values, keep):
        level = values[..., :1]
        with np.errstate(invalid="ignore"):
            inside = -0.5 * ((y[keep] - level) / 0.5) ** 2 + 0 * y[keep]
        return np.where(level > 0.1, inside, -np.inf)

    target = Rows({"level": ("lin", 0.0, 1.0)}, density, 6)
    model = random_model(target, ["level"])
    theta = np.array([[0.3, 0.4], [0.05, 0.4]])
    found = entity_marginals(model, theta, nodes=9)
    for value, row in zip(found.value[0], y, strict=True):
        exact = np.log(integrate.quad(
            lambda a, row=row: np.exp(-2 * ((row - a) ** 2).sum()) * stats.norm.pdf(a, 0.3, 0.4), 0.1, 4, epsabs=1e-12,
        )[0])
        assert abs(value - exact) < 0.25  # quadrature is not made for an edge
    assert (found.value[1] == -np.inf).all()  # undefined at the location itself


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"random": ["lvel"]}, "random parameter 'lvel' is not a free parameter. Did you mean 'level'"),
        ({"random": []}, "random names no parameter"),
        ({"random": ["level", "level"]}, "random parameter 'level' is named twice"),
        ({"random": ["level", "effect", "error", "other"]},
         "4 random parameters .level, effect, error, other.; quadrature takes at most 3"),
        ({"starts": 5}, "starts is 5; a fit needs at least 20"),
        ({"nodes": 50, "random": ["level", "effect"]}, "50 nodes for each of 2 effects .* at most 44 nodes"),
        ({"nodes": 0}, "nodes is 0; give a whole number from 1"),
        ({"random": [RandomEffect("level", ("x",))]}, "the covariates have no column 'x'"),
        ({"random": [RandomEffect("level", ("x",))], "covariates": pd.DataFrame({"x": [1.0]}, index=["v0"])},
         "no row for entity 'v1'"),
        ({"random": [RandomEffect("level", ("x",))], "covariates": pd.DataFrame({"x": 1.0}, index=["v0", "v1", "v2"])},
         "covariate 'x' does not vary"),
        ({"random": [RandomEffect("level", ("x",))],
          "covariates": pd.DataFrame({"x": [1.0, np.nan, 2.0]}, index=["v0", "v1", "v2"])},
         "covariate 'x' has a value that is not finite"),
        ({"empty": True}, "the log likelihood of entity 'v1' is 0 at all 20 starts .1 such.: it has no measurement"),
        ({"broken": True}, "the log likelihood of entity 'v2' is not finite at any of 20 starts .1 such."),
        ({"short": True}, "log likelihoods of shape .20, 2. for values of shape .20, 3, 4."),
        ({"one": True}, "the target has 1 distinct of 1 entities"),
        ({"twice": True}, "the target has 2 distinct of 3 entities"),
    ],
)
def test_a_faulty_call_is_refused_with_its_remedy(change, message):
    target, _, _, _ = linear(n_entities=1 if "one" in change else 3)
    given = target.entity_log_likelihood
    effects = {
        "empty": lambda values: given(values) * [1.0, 0.0, 1.0],
        "broken": lambda values: given(values) + np.array([0.0, 0.0, -np.inf]),
        "short": lambda values: given(values)[:, :2],
    }
    for name, changed in effects.items():
        if name in change:
            target.entity_log_likelihood = changed
    if "twice" in change:
        target.entities = ("a", "b", "a")
    settings = {key: value for key, value in change.items() if key in ("starts", "nodes", "covariates")}
    with pytest.raises(CalibrationError, match=message):
        fit_random_effects(target, change.get("random", ["level"]), seed=1, **settings)


def _same(model, target):
    return type(model)(target, model.random, model.box, model.positions, model.slopes, model.centred, model.correlated)

