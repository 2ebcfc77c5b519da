"""Indirect inference where the answer is known in closed form, and what it says when there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from scipy.special import expit, logit

from villageflow.calibrate.descent import descend
from villageflow.calibrate.indirect import WEIGHTS, indirect_inference
from villageflow.calibrate.matched import weighted_chi2
from villageflow.calibrate.moments import Auxiliary, Mean, StandardDeviation, means_at
from villageflow.errors import CalibrationError

S = 4
LINE = np.array([[1.0, 0.2], [0.5, 1.0], [0.3, -0.6], [1.5, 0.7]])
NOISE = np.array([[1.0, 0, 0, 0], [0.6, 0.8, 0, 0], [0.2, 0.1, 2.0, 0], [0.5, 0.2, 0.3, 0.4]])
TRUE = np.array([0.4, -0.3])
COLUMNS = ("m1", "m2", "m3", "m4")
MEANS = Auxiliary(tuple(Mean(name) for name in COLUMNS))


def box(*rows):
    return pd.DataFrame(list(rows), columns=["name", "scale", "lower", "upper"])


BOX = box(("a", "lin", -2.0, 2.0), ("b", "lin", -3.0, 1.5))


class Panels:
    """Panels of columns whose means are a function of the parameters, plus noise that is drawn once."""

    def __init__(self, curve, seed, *, n_entities=60, n_simulations=S, noise=NOISE):
        self.curve, self.n_simulations = curve, n_simulations
        rng = np.random.default_rng(seed)
        self.noise = rng.normal(size=(n_simulations, n_entities, len(noise))) @ noise.T
        self.index = pd.MultiIndex.from_product([range(n_entities), [2000]], names=["entity", "time"])

    def panels(self, values):
        return [[self.panel(row, noise) for noise in self.noise] for row in values]

    def panel(self, row, noise):
        return pd.DataFrame(self.curve(row) + noise, index=self.index, columns=COLUMNS[:noise.shape[1]])


def line(row):
    return LINE @ row


def observed(seed=0, curve=line, truth=TRUE, **settings):
    return Panels(curve, seed, n_simulations=1, **settings).panels(np.array([truth]))[0][0]


def weight(name, cov):
    return {"identity": np.eye(len(cov)), "diagonal": np.diag(1 / np.diag(cov)), "optimal": np.linalg.inv(cov)}[name]


# --- where the answer is known -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS)
def test_linear_moments_have_the_closed_form(weights):
    panel, simulator = observed(), Panels(line, 1)
    found = indirect_inference(simulator, MEANS, panel, BOX, weights=weights, seed=3)
    b, moved = panel.mean().to_numpy(), simulator.noise.mean(axis=(0, 1))
    cov = np.cov(panel.to_numpy().T, ddof=1) * 59 / 60 / 59  # divisor n, times G / (G - 1), over n
    w = weight(weights, cov)
    lever = np.linalg.solve(LINE.T @ w @ LINE, LINE.T @ w)
    np.testing.assert_allclose(found.params, lever @ (b - moved), rtol=1e-7)
    np.testing.assert_allclose(found.sensitivity, lever, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.jacobian, LINE, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.cov, (1 + 1 / S) * lever @ cov @ lever.T, rtol=1e-6)
    gap = b - moved - LINE @ found.params.to_numpy()
    assert found.j_statistic == pytest.approx(S / (1 + S) * gap @ w @ gap, rel=1e-6)
    assert found.df == 2 and found.converged and found.at_bound == () and found.starts["reached_best"].all()
    np.testing.assert_allclose(found.moments["observed"] - found.moments["simulated"], gap, atol=1e-7)


def test_the_test_of_the_distance_is_chi_squared_or_a_weighted_sum():
    panel, simulator = observed(), Panels(line, 1)
    optimal = indirect_inference(simulator, MEANS, panel, BOX, weights="optimal", seed=3)
    assert optimal.p_value == pytest.approx(stats.chi2.sf(optimal.j_statistic, 2), rel=1e-10)
    diagonal = indirect_inference(simulator, MEANS, panel, BOX, weights="diagonal", seed=3)
    cov = MEANS.estimate(panel).cov.to_numpy()
    w, rng = weight("diagonal", cov), np.random.default_rng(0)
    lever = np.linalg.solve(LINE.T @ w @ LINE, LINE.T @ w)
    gaps = rng.multivariate_normal(np.zeros(4), cov, size=200_000) @ (np.eye(4) - LINE @ lever).T
    beyond = np.mean(np.einsum("ni,ij,nj->n", gaps, w, gaps) > diagonal.j_statistic)
    assert diagonal.p_value == pytest.approx(beyond, abs=3 * np.sqrt(0.25 / 200_000))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_covariance_is_that_of_repeated_samples(weights):
    reported = np.mean([
        indirect_inference(
            Panels(line, [2, i], n_entities=200), MEANS, observed([1, i], n_entities=200), BOX, weights=weights, seed=1,
            starts=1,
        ).cov.to_numpy() for i in range(12)
    ], axis=0)  # fmt: skip
    rng, cov = np.random.default_rng(7), NOISE @ NOISE.T / 200
    w = weight(weights, cov)
    lever = np.linalg.solve(LINE.T @ w @ LINE, LINE.T @ w)  # the closed form, which the verb reproduces
    real = rng.multivariate_normal(np.zeros(4), cov, size=20_000)
    simulated = rng.multivariate_normal(np.zeros(4), cov / S, size=20_000)
    errors = np.sqrt(np.diag(np.cov(lever @ (real - simulated).T)))
    # the error of a deviation from 12 x 200 entities: 1/sqrt(2 * 2400) = 1.4 percent
    np.testing.assert_allclose(np.sqrt(np.diag(reported)), errors, rtol=0.05)


def test_the_sensitivity_is_how_the_estimate_follows_the_observed_moments():
    def curve(row):
        a, b = row
        return np.array([np.exp(a), a * b, np.sin(b) + a, b**3 + b])

    truth = np.array([0.4, 0.8])
    panel, simulator = observed(curve=curve, truth=truth), Panels(curve, 1, n_simulations=2)
    ranges = box(("a", "log", 0.05, 2.0), ("b", "lin", 0.0, 1.5))
    for weights in ("diagonal", "optimal"):
        # small gaps: the sensitivity leaves out how the Jacobian itself moves, as its definition does
        small = panel - panel.mean() + curve(truth) + simulator.noise.mean(axis=(0, 1))
        found = indirect_inference(simulator, MEANS, small, ranges, weights=weights, seed=3)
        assert found.params.to_numpy() == pytest.approx(truth, abs=1e-6)
        for column in COLUMNS:
            ends = [
                indirect_inference(
                    simulator, MEANS, small.assign(**{column: small[column] + move}), ranges, weights=weights, seed=3,
                    starts=1,
                ).params for move in (1e-3, -1e-3)
            ]  # fmt: skip
            followed = (ends[0] - ends[1]) / 2e-3
            np.testing.assert_allclose(found.sensitivity[f"mean of {column}"], followed, rtol=2e-3, atol=2e-4)


def test_as_many_moments_as_parameters_leave_nothing_to_test():
    two = Auxiliary((Mean("m1"), Mean("m2")))
    found = indirect_inference(Panels(line, 1), two, observed(), BOX, seed=3)
    assert found.df == 0 and found.p_value is None
    assert found.j_statistic == pytest.approx(0, abs=1e-12)
    assert found.moments["gap"].abs().max() < 1e-6
    assert "nothing left to test" in found.summary()
    for weights in ("identity", "optimal"):  # weights do not matter
        other = indirect_inference(Panels(line, 1), two, observed(), BOX, seed=4, weights=weights)
        np.testing.assert_allclose(other.params, found.params, rtol=1e-7)
        np.testing.assert_allclose(other.cov, found.cov, rtol=1e-6)


def test_a_simulator_of_the_wrong_form_is_rejected():
    def without(row):
        return LINE @ row * [1, 1, 1, 0]

    for weights in WEIGHTS:
        panel = observed(n_entities=200)
        right = indirect_inference(Panels(line, 1, n_entities=200), MEANS, panel, BOX, weights=weights, seed=3)
        wrong = indirect_inference(Panels(without, 1, n_entities=200), MEANS, panel, BOX, weights=weights, seed=3)
        assert right.p_value > 0.05 and wrong.p_value < 0.01


# --- scales, intervals, search -----------------------------------------------------------------------------------


def scaled(row):
    return np.array([np.log(row[0]), logit(row[1]), 0.0, 0.0])


def test_intervals_are_symmetric_on_the_scale_and_use_t_below_fifty_clusters():
    ranges = box(("size", "log", 0.01, 100.0), ("share", "logit", 0.01, 0.99))
    two = Auxiliary((Mean("m1"), Mean("m2")))
    truth = np.array([2.0, 0.3])
    for n, reach in ((49, stats.t(48).ppf(0.95)), (50, stats.norm.ppf(0.95))):
        panel, simulator = observed(curve=scaled, truth=truth, n_entities=n), Panels(scaled, 1, n_entities=n)
        found = indirect_inference(simulator, two, panel, ranges, seed=3)
        error = two.estimate(panel).std_errors.to_numpy() * np.sqrt(1 + 1 / S)  # on the scale the moments are linear
        centre = np.array([np.log(found.params["size"]), logit(found.params["share"])])
        for sign, column in ((-1, "lower"), (1, "upper")):
            end = centre + sign * reach * error
            np.testing.assert_allclose(found.conf_int(0.9)[column], [np.exp(end[0]), expit(end[1])], rtol=1e-5)
        slope = [found.params["size"], found.params["share"] * (1 - found.params["share"])]
        np.testing.assert_allclose(found.std_errors, error * slope, rtol=1e-5)
    with pytest.raises(CalibrationError, match=r"level is 95"):
        found.conf_int(95)


def test_equal_seeds_give_equal_results_and_others_the_same_optimum():
    panel = observed()
    one, two, other = (indirect_inference(Panels(line, 1), MEANS, panel, BOX, seed=s) for s in (3, 3, 4))
    pd.testing.assert_frame_equal(one.to_frame(), two.to_frame(), check_exact=True)
    pd.testing.assert_frame_equal(one.starts, two.starts, check_exact=True)
    np.testing.assert_allclose(one.params, other.params, rtol=1e-7)


def test_the_nearest_point_is_that_of_an_independent_optimiser():
    def residuals(points):
        x, y = 4 * points.T - 2
        return np.column_stack([10 * (y - x**2), 1 - x, 0.3 * np.sin(3 * x * y), x + y - 1.5])

    found = descend(residuals, 2, starts=12, seed=1, step=1e-3)
    other = min(
        (optimize.least_squares(lambda p: residuals(p[None, :])[0], start, xtol=1e-15, ftol=1e-15, gtol=1e-15,
                                bounds=(0, 1)) for start in np.random.default_rng(0).random((20, 2))),
        key=lambda end: end.cost,
    )  # fmt: skip
    np.testing.assert_allclose(found.unit, other.x, atol=1e-5)
    assert found.value == pytest.approx(2 * other.cost, rel=1e-6)
    assert found.converged and not found.held.any()


def test_a_bound_that_holds_is_reported_and_taken_as_known():
    ranges = box(("a", "lin", -2.0, 2.0), ("b", "lin", 0.5, 1.5))
    panel, simulator = observed(), Panels(line, 1)
    found = indirect_inference(simulator, MEANS, panel, ranges, seed=3)
    assert found.at_bound == ("b",) and found.params["b"] == 0.5
    assert np.isnan(found.std_errors["b"]) and found.std_errors["a"] > 0
    assert found.conf_int().loc["b"].isna().all()
    assert found.df == 3 and found.rank == 1 and "errors and J take what a bound holds as known" in found.notes
    w = weight("diagonal", MEANS.estimate(panel).cov.to_numpy())
    lever = LINE[:, 0] @ w / (LINE[:, 0] @ w @ LINE[:, 0])
    moved = panel.mean().to_numpy() - simulator.noise.mean(axis=(0, 1))
    assert found.params["a"] == pytest.approx(lever @ (moved - 0.5 * LINE[:, 1]), rel=1e-6)


def test_all_parameters_at_a_bound_are_no_failure():
    ranges = box(("a", "lin", 1.5, 2.0), ("b", "lin", 1.0, 1.5))
    found = indirect_inference(Panels(line, 1), MEANS, observed(), ranges, seed=3)
    assert found.at_bound == ("a", "b") and found.df == 4 and found.rank == 0
    assert found.cov.isna().all(axis=None) and "at a bound: a, b" in found.summary()


# --- what cannot be known ----------------------------------------------------------------------------------------


def product(row):
    return np.array([row[0] * row[1], np.sqrt(row[0] * row[1]), row[2], 0.1 * row[2]])


@pytest.mark.parametrize("scale", ["log", "lin"])
def test_a_product_is_identified_and_its_factors_are_not(scale):
    ranges = box(("a", scale, 0.1, 10.0), ("b", scale, 0.1, 10.0), ("c", "lin", -5.0, 5.0))
    panel = observed(curve=product, truth=np.array([2.0, 0.8, 1.0]))
    found = indirect_inference(Panels(product, 1), MEANS, panel, ranges, seed=3)
    assert found.rank == 2 and found.condition == np.inf and found.df == 2
    assert found.null_direction in ("a up with b down", "b up with a down")
    assert found.std_errors.isna().all() and found.conf_int().isna().all(axis=None)
    assert f"NOT IDENTIFIED: {found.null_direction} moves no moment" in found.summary()


def test_parameters_that_hardly_move_a_moment_are_called_weak():
    def weak(row):
        return np.array([row[0], row[0] + 1e-3 * row[1], 0.0, 0.0])

    two = Auxiliary((Mean("m1"), Mean("m2")))
    panel = Panels(weak, 1).panels(np.array([TRUE]))[0][0]
    found = indirect_inference(Panels(weak, 1, n_simulations=1), two, panel, BOX, seed=3)
    assert not found.null_direction and any(note.startswith("weak:") for note in found.notes)
    assert found.std_errors["b"] > 4.5  # the range itself


def test_two_ends_with_the_same_distance_are_reported():
    def square(row):
        return np.array([row[0] ** 2, 0.0, 0.0, 0.0])

    ranges = box(("a", "lin", -2.0, 2.0),)
    panel = observed(curve=square, truth=np.array([1.2]))
    found = indirect_inference(Panels(square, 1), Auxiliary((Mean("m1"),)), panel, ranges, seed=3)
    assert set(np.sign(found.starts["a"])) == {-1, 1} and found.starts["reached_best"].all()
    assert any("far apart" in note for note in found.notes)


class Counts:
    """Counts from uniform draws: a step function of their mean."""

    def __init__(self, seed, n_simulations=20):
        self.n_simulations = n_simulations
        self.uniform = np.random.default_rng(seed).random((n_simulations, 300))
        self.index = pd.MultiIndex.from_product([range(300), [2000]], names=["entity", "time"])

    def panels(self, values):
        return [[pd.DataFrame({"m1": stats.poisson.ppf(u, row[0])}, index=self.index) for u in self.uniform]
                for row in values]


def test_discrete_draws_need_a_wide_step_and_a_narrow_one_is_noticed():
    ranges = box(("mean", "log", 1.0, 10.0),)
    panel = Counts(1, 1).panels(np.array([[3.0]]))[0][0]
    run = {"auxiliary": Auxiliary((Mean("m1"),)), "panel": panel, "parameters": ranges, "seed": 3, "starts": 2}
    narrow, wide = (indirect_inference(Counts(2), **run, step=step) for step in (1e-6, 0.05))
    assert any("not smooth" in note for note in narrow.notes)
    assert not wide.notes
    assert abs(wide.params["mean"] - 3) < 3 * wide.std_errors["mean"]
    expected = panel["m1"].std() / np.sqrt(300) * np.sqrt(1 + 1 / 20)
    assert wide.std_errors["mean"] == pytest.approx(expected, rel=0.03)


# --- simulators --------------------------------------------------------------------------------------------------


def test_where_the_auxiliary_model_cannot_be_run_the_search_goes_elsewhere():
    class Partly(Panels):
        def panel(self, row, noise):
            panel = super().panel(row, noise)
            return panel * np.nan if row[0] > 1 else panel

    found = indirect_inference(Partly(line, 1), MEANS, observed(), BOX, seed=3)
    whole = indirect_inference(Panels(line, 1), MEANS, observed(), BOX, seed=3)
    assert 0 < found.n_failures < found.n_panels and whole.n_failures == 0
    assert "is not known in any row" in found.first_failure and "mean of m1" in found.summary()
    np.testing.assert_allclose(found.params, whole.params, rtol=1e-6)
    assert np.isinf(found.starts["distance"]).any() == found.starts["a"].isna().any()


def test_rows_that_the_real_panel_lacks_are_noted():
    panel = observed()
    found = indirect_inference(Panels(line, 1), MEANS, panel.iloc[:-2], BOX, seed=3, starts=1)
    assert any("panel 1 lacks 0 rows of the real one and has 2 that it lacks" in note for note in found.notes)
    assert not any("rows" in note for note in indirect_inference(
        Panels(line, 1), MEANS, panel.iloc[::-1], BOX, seed=3, starts=1
    ).notes)  # fmt: skip


def test_a_model_that_runs_at_no_start_is_an_error_with_the_reason():
    class Never(Panels):
        def panel(self, row, noise):
            return super().panel(row, noise).drop(columns="m2")

    refused("could not be run on simulated panels at any of 8 starts .*'m2'", simulator=Never(line, 1))


def refused(pattern, **changes):
    given = {"simulator": Panels(line, 1), "auxiliary": MEANS, "panel": observed(), "parameters": BOX, "seed": 3}
    with pytest.raises(CalibrationError, match=pattern) as caught:
        indirect_inference(**(given | changes))
    assert "\n" not in str(caught.value)


def test_new_draws_in_every_call_are_refused_by_name():
    class Fresh(Panels):
        def panel(self, row, noise):
            self.rng = getattr(self, "rng", np.random.default_rng(0))
            return super().panel(row, noise + self.rng.normal(size=noise.shape))

    refused("simulated panel 1 at a = .* differs between two calls of Fresh", simulator=Fresh(line, 1))


def test_draws_that_depend_on_the_rest_of_the_call_are_refused():
    class Shared(Panels):
        def panels(self, values):
            self.size = len(values)
            return super().panels(values)

        def panel(self, row, noise):
            return super().panel(row, noise) + 0.01 * self.size

    refused("differs between two calls of Shared", simulator=Shared(line, 1))


def test_a_wrong_number_of_panels_is_refused():
    class Short(Panels):
        def panels(self, values):
            return [some[1:] for some in super().panels(values)]

    refused(r"gave \[3\] panels for 1 parameter vectors; it declares 4", simulator=Short(line, 1))
    for bad in (0, 2.5, True):
        simulator = Panels(line, 1)
        simulator.n_simulations = bad
        refused("n_simulations of the simulator is .* at least 1", simulator=simulator)


def test_what_is_no_list_of_panels_is_refused():
    class Strange(Panels):
        def panels(self, values):
            return self.made(values)

    for made, words in (
        (lambda values: None, "list of panels for each"),
        (lambda values: [None] * len(values), "list of panels for each"),
        (lambda values: [[1.0] * S] * len(values), "gave a float as a panel"),
        (lambda values: [[observed().reset_index()] * S] * len(values), "not indexed"),
    ):  # fmt: skip
        simulator = Strange(line, 1)
        simulator.made = made
        refused(words, simulator=simulator)


def test_a_panel_of_other_entities_or_times_is_refused():
    panel = observed()
    refused("have no entity of the real one, which has '0'", panel=panel.rename(index=str, level=0))
    refused("have no time of the real one, which has 2001 where they have 2000",
            panel=panel.rename(index={2000: 2001}, level=1))  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "changes"),
    [
        ("1 moments for 2 parameters: not identified", {"auxiliary": Auxiliary((Mean("m1"),))}),
        ("weights='diag' is not known. Did you mean 'diagonal'", {"weights": "diag"}),
        *(("starts is .* whole number of at least 1", {"starts": bad}) for bad in (0, 2.5, "8", None)),
        *(("step is .* at most 0.1", {"step": bad}) for bad in (0.5, 0, -0.1, "a", None, True, np.nan)),
        *(("seed is .* whole number from 0 on", {"seed": bad}) for bad in ("a", -1, None, True)),
        ("weights=None is not known", {"weights": None}),
        ("simulator is a NoneType", {"simulator": None}),
        ("simulator is the class Panels", {"simulator": Panels}),
        ("auxiliary is a Mean; give an Auxiliary", {"auxiliary": Mean("m1")}),
        ("panel is a list", {"panel": [1.0]}),
        ("progress is a bool", {"progress": True}),
        ("parameters is a NoneType", {"parameters": None}),
        ("parameters is an empty table", {"parameters": BOX[:0]}),
        ("upper 'x'; give a finite number", {"parameters": BOX.assign(upper="x")}),
        ("has column 'lower' twice", {"parameters": pd.concat([BOX, BOX[["lower"]]], axis=1)}),
        ("time 1999 is not in the panel", {"auxiliary": Auxiliary(means_at("m1", (1999, 2000)))}),
        ("lacks column 'scale'", {"parameters": BOX.drop(columns="scale")}),
        ("60 clusters .entity. for 61 moments",
         {"auxiliary": Auxiliary(tuple(Mean(f"{i} * m1") for i in range(61)))}),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(pattern, changes):
    refused(pattern, **changes)


def test_means_and_deviations_are_simulated_moments():
    class Normal(Panels):
        def panel(self, row, noise):
            return pd.DataFrame(row[0] + row[1] * noise, index=self.index, columns=["m1"])

    one = np.array([[1.0]])
    panel = Normal(None, 0, n_simulations=1, noise=one).panels(np.array([[2.0, 1.5]]))[0][0]
    ranges = box(("centre", "lin", -5.0, 5.0), ("spread", "log", 0.1, 10.0))
    auxiliary, simulator = Auxiliary((Mean("m1"), StandardDeviation("m1"))), Normal(None, 1, noise=one)
    found = indirect_inference(simulator, auxiliary, panel, ranges, seed=1)
    drawn = simulator.noise[..., 0]
    spread = panel["m1"].std(ddof=0) / np.mean(drawn.std(axis=1))
    np.testing.assert_allclose(found.params, [panel["m1"].mean() - spread * drawn.mean(), spread], rtol=1e-6)


def test_the_weighted_sum_of_chi_squared_has_its_known_quantiles():
    assert weighted_chi2(5.0, np.ones(3)) == pytest.approx(stats.chi2.sf(5, 3), abs=1e-12)
    assert weighted_chi2(5.0, np.array([2.0])) == pytest.approx(stats.chi2.sf(2.5, 1), abs=1e-12)
    # two equal pairs are exponentials of mean 2a and 2b: their sum has a closed form
    a, b, x = 1.0, 0.3, 7.0
    exact = (2 * a * np.exp(-x / (2 * a)) - 2 * b * np.exp(-x / (2 * b))) / (2 * a - 2 * b)
    assert weighted_chi2(x, np.array([a, a, b, b])) == pytest.approx(exact, abs=1e-7)
    nearly = weighted_chi2(3.0, np.array([1.0, 1e-7]))
    assert nearly == pytest.approx(stats.chi2.sf(3, 1), abs=1e-5)


def test_the_summary_says_what_a_reader_needs():
    found = indirect_inference(Panels(line, 1), MEANS, observed(n_entities=60), BOX, seed=3)
    text = found.summary()
    for part in ("4 moments, 2 parameters, diagonal weights, 4 simulated panels", "60 clusters (entity)", "normal",
                 "weighted chi2(2)", "for one std_error of each", "rank 2 of 2", "at a bound: none",
                 "8 of 8 starts reached the best", "auxiliary model not run: 0 of", "below 10 they add"):
        assert part in text
    assert list(found.to_frame()) == ["estimate", "std_error", "lower", "upper", "at_bound"]
    assert list(found.moments) == ["observed", "simulated", "std_error", "gap", "simulated_sd"]
    assert repr(found).startswith("<villageflow.IndirectResult: 4 moments")
