"""Posterior sampling: exact where the answer is known, the same bits again, a warning where it cannot be believed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

import villageflow as vf
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.posterior import posterior_summary, sample_posterior
from villageflow.calibrate.priors import Prior, Priors
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.ranks import rank_statistics, uniformity
from villageflow.calibrate.scales import Box
from villageflow.ensemble.design import quantile
from villageflow.errors import CalibrationError


@dataclass(frozen=True)
class Formula:
    """A target in closed form: locations of the measurements from the parameters and the times."""

    parameters: pd.DataFrame
    function: Callable
    observables: tuple[Observable, ...]
    measurements: pd.DataFrame

    @property
    def box(self):
        return Box.from_table(self.parameters)

    def positions(self, rows):
        return np.zeros(len(rows), dtype=np.intp)

    def locations(self, values, rows):
        return self.function(values.T[:, :, None], rows["time"].to_numpy()[None, :])


def table(*rows):
    return pd.DataFrame(rows, columns=["name", "scale", "lower", "mode", "upper", "distribution"])


def formula(parameters, function, values, noise="normal", spread=1.0):
    rows = pd.DataFrame({
        "observable": "y", "time": np.arange(len(values), dtype=float), "value": values, "comparator": "="
    })
    return Formula(parameters, function, (Observable("y", "y", "level", noise, spread),), rows)


def level(v, t):
    return v[0] + 0 * t


def conjugate(values=(1.0, 2.0, 0.5, 1.5), spread=1.0):
    """A mean with a normal prior cut at its bounds and known noise: the posterior is a cut normal too."""
    return formula(table(("mean", "lin", -1.0, 0.5, 3.0, "normal")), level, np.array(values), spread=spread)


def cut_normal(mean, sd, low, high):
    return stats.truncnorm((low - mean) / sd, (high - mean) / sd, loc=mean, scale=sd)


def exact(target):
    """The posterior of `conjugate`."""
    values, prior_sd = target.measurements["value"], 4.0 / 3.92
    precision = 1 / prior_sd**2 + len(values)
    return cut_normal((0.5 / prior_sd**2 + values.sum()) / precision, precision**-0.5, -1.0, 3.0)


def bits(data):
    return [data[group][name].to_numpy().tobytes() for group in data.groups() for name in sorted(data[group].data_vars)]


# --- priors ------------------------------------------------------------------------------------------------------

PRIORS = {
    "flat": (0.2, np.nan, 0.9, None),
    "uniform": (0.2, np.nan, 0.9, stats.uniform(0.2, 0.7)),
    "loguniform": (0.2, np.nan, 0.9, stats.loguniform(0.2, 0.9)),
    "triangular": (0.2, 0.35, 0.9, stats.triang(0.15 / 0.7, loc=0.2, scale=0.7)),
    "normal": (0.2, 0.35, 0.9, cut_normal(0.35, 0.7 / 3.92, 0.2, 0.9)),
    "lognormal": (0.2, 0.35, 0.9, None),
}


@pytest.mark.parametrize("scale", ["lin", "log", "logit"])
@pytest.mark.parametrize("kind", sorted(PRIORS))
def test_a_prior_density_integrates_to_one_is_scipy_s_and_has_the_quantiles_of_a_design(kind, scale):
    low, mode, high, known = PRIORS[kind]
    rows = table(("a", scale, low, mode, high, kind.replace("flat", "")))
    priors = Priors.of(Box.from_table(rows), rows)
    box = priors.box

    def density(z):
        return float(np.exp(priors.log_density(np.array([[z]])))[0])

    def z(x):
        return float(box.transformed(np.array([x]))[0])

    ends = [z(low), z(high)]
    kink = None if np.isnan(mode) else [z(mode)]
    assert integrate.quad(density, *ends, points=kink, epsabs=1e-12)[0] == pytest.approx(1.0, abs=1e-10)
    assert density(ends[0] - 1e-9) == density(ends[1] + 1e-9) == 0.0
    assert all(np.isfinite(density(one)) for one in ends)
    for share in (0.1, 0.5, 0.8):  # the distribution function inverts the quantiles that designs are drawn by
        declared = kind != "flat"
        at = z(quantile(rows.iloc[0], np.array([share]))[0]) if declared else ends[0] + share * (ends[1] - ends[0])
        below = [one for one in kink or [] if one < at] or None
        assert integrate.quad(density, ends[0], at, points=below)[0] == pytest.approx(share, abs=1e-9)
    if known is not None:
        x = np.linspace(low + 1e-6, high - 1e-6, 9)
        assert_allclose(priors.each[0].log_density(x), known.logpdf(x), rtol=1e-9, atol=1e-9)


def test_a_lognormal_prior_is_the_normal_of_the_logarithm():
    x, logs = np.array([0.21, 0.4, 0.85]), np.log([0.2, 0.35, 0.9])
    known = cut_normal(logs[1], (logs[2] - logs[0]) / 3.92, logs[0], logs[2])
    found = Prior("lognormal", 0.2, 0.35, 0.9).log_density(x)
    assert_allclose(found, known.logpdf(np.log(x)) - np.log(x), rtol=1e-9)


@pytest.mark.parametrize("mode", [1.0, 5.0])
def test_a_triangle_may_have_its_mode_at_a_bound(mode):
    found = Prior("triangular", 1.0, mode, 5.0)
    assert found.log_density(np.array([mode]))[0] == pytest.approx(np.log(0.5))
    assert found.log_density(np.array([6.0 - mode]))[0] == -np.inf
    assert found.log_density(np.array([3.0]))[0] == pytest.approx(np.log(0.25))


def test_draws_from_the_prior_have_its_distribution_and_priors_are_independent():
    rows = table(("a", "log", 0.2, 0.35, 0.9, "normal"), ("b", "log", 1.0, np.nan, 9.0, None))
    priors = Priors.of(Box.from_table(rows), rows)
    drawn = priors.draw(np.random.default_rng(5), 4000)
    assert stats.kstest(drawn[:, 0], PRIORS["normal"][3].cdf).pvalue > 1e-3
    assert stats.kstest(drawn[:, 1], stats.loguniform(1.0, 9.0).cdf).pvalue > 1e-3
    both = priors.log_density(np.log(drawn[:5]))
    alone = PRIORS["normal"][3].logpdf(drawn[:5, 0]) + np.log(drawn[:5, 0]) - np.log(np.log(9.0))
    assert_allclose(both, alone, rtol=1e-9)


# --- where the answer is known -----------------------------------------------------------------------------------


def within(found, mean, sd, errors=4.5):
    """Means and deviations within Monte Carlo errors; that of a deviation as for a normal distribution."""
    assert abs(found["mean"] - mean) < errors * found["mean_error"]
    assert abs(found["sd"] - sd) < errors * found["mean_error"] / np.sqrt(2)


def test_a_conjugate_normal_has_its_closed_form():
    target = conjugate()
    data = sample_posterior(target, seed=1, steps=3000)
    found, known = posterior_summary(data).loc["mean"], exact(target)
    within(found, known.mean(), known.std())
    quantiles = found[["q05", "q50", "q95"]].astype(float)
    assert_allclose(quantiles, known.ppf([0.05, 0.5, 0.95]), atol=6 * found["mean_error"])
    assert found["mean_error"] < 0.03 * found["sd"]
    assert data["posterior"].attrs["warning"] == "" and found["rhat"] < 1.01 and found["ess_bulk"] > 400


def test_the_prior_on_the_natural_scale_is_kept_when_walkers_move_in_logs():
    """Without measurements that matter the posterior is the prior, whatever the scale."""
    for scale in ("log", "logit", "lin"):
        rows = table(("a", scale, 0.05, np.nan, 0.95, "uniform"), ("b", scale, 0.05, 0.2, 0.9, "triangular"))
        target = formula(rows, lambda v, t: 0 * (v[0] + t), np.zeros(1))
        found = posterior_summary(sample_posterior(target, seed=3, steps=1000))
        within(found.loc["a"], 0.5, 0.9 / np.sqrt(12))
        known = stats.triang(0.15 / 0.85, loc=0.05, scale=0.85)
        within(found.loc["b"], known.mean(), known.std())


CHAIN = """{UTF-8}
young = INTEG(-growing*young, 100) ~ thing ~|
old = INTEG(growing*young-leaving*old, 10) ~ thing ~|
growing = 0.4 ~ 1/Year ~|
leaving = 0.2 ~ 1/Year ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 8 ~ Year ~|
TIME STEP = 0.0625 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


def chain_paths(growing, leaving, times):
    """Both stocks in closed form."""
    young = 100 * np.exp(-growing * times)
    passed = 100 * growing / (leaving - growing) * (np.exp(-growing * times) - np.exp(-leaving * times))
    return young, 10 * np.exp(-leaving * times) + passed


@pytest.fixture(scope="module")
def two_stocks(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "chain.mdl"
    path.write_text(CHAIN)
    times, rng = np.arange(1.0, 7.0), np.random.default_rng(8)
    rows = pd.concat([
        pd.DataFrame({
            "entity": "v", "time": times, "observable": name, "value": stock * np.exp(rng.normal(0, 0.3, 6)),
            "comparator": "=", "source_id": name,
        })
        for name, stock in zip(("youth", "age"), chain_paths(0.4, 0.2, times), strict=True)
    ], ignore_index=True)
    return Problem(
        model=vf.read_model(path), method="rk4", measurements=rows,
        observables=tuple(
            Observable(name, stock, "level", "lognormal", "spread", "thing")
            for name, stock in (("youth", "young"), ("age", "old"))
        ),
        parameters=table(
            ("growing", "log", 0.05, 0.3, 2.0, "triangular"), ("leaving", "lin", 0.01, 0.2, 0.9, "normal"),
            ("spread", "log", 0.05, np.nan, 2.0, "loguniform"),
        ),
    )


def quadrature(problem):
    """Means and deviations by a grid over the closed form, with scipy's densities: nothing of the package in it."""
    grids = [np.linspace(0.05, 2.0, 401), np.linspace(0.01, 0.9, 301), np.geomspace(0.05, 2.0, 120)]
    prior = [stats.triang(0.25 / 1.95, loc=0.05, scale=1.95), cut_normal(0.2, 0.89 / 3.92, 0.01, 0.9),
             stats.loguniform(0.05, 2.0)]
    growing, leaving = (grid[None, :] if i else grid[:, None] for i, grid in enumerate(grids[:2]))
    squares, rows = 0.0, problem.measurements
    for name, which in (("youth", 0), ("age", 1)):
        for time, value in rows.loc[rows["observable"] == name, ["time", "value"]].to_numpy():
            squares = squares + np.log(value / chain_paths(growing, leaving + 1e-9, time)[which]) ** 2
    spread = grids[2][None, None, :]
    log_weight = -0.5 * squares[:, :, None] / spread**2 - len(rows) * np.log(spread)
    for axis, (grid, one) in enumerate(zip(grids, prior, strict=True)):
        width = np.gradient(grid)
        log_weight = log_weight + np.expand_dims(one.logpdf(grid) + np.log(width), [i for i in range(3) if i != axis])
    weight = np.exp(log_weight - log_weight.max())
    found = []
    for axis, grid in enumerate(grids):
        own = weight.sum(axis=tuple(i for i in range(3) if i != axis))
        own = own / own.sum()
        mean = (own * grid).sum()
        found.append((mean, np.sqrt((own * (grid - mean) ** 2).sum())))
    return found


def metropolis(problem, n=40000):
    """A random walk in natural units, of scipy and numpy alone; means and their errors by batches."""
    rng, rows = np.random.default_rng(0), problem.measurements
    times, values = (rows[column].to_numpy().reshape(2, 6) for column in ("time", "value"))

    def density(at):
        growing, leaving, spread = at
        if not (0.05 < growing < 2 and 0.01 < leaving < 0.9 and 0.05 < spread < 2):
            return -np.inf
        gap = np.log(values / np.array(chain_paths(growing, leaving, times[0]))) / spread
        prior = min((growing - 0.05) / 0.25, (2 - growing) / 1.7)
        normal = ((leaving - 0.2) / (0.89 / 3.92)) ** 2
        return -0.5 * (gap**2).sum() - 13 * np.log(spread) + np.log(prior) - 0.5 * normal

    at, found = np.array([0.4, 0.2, 0.3]), np.empty((n, 3))
    now = density(at)
    for i, (move, luck) in enumerate(zip(rng.normal(0, [0.06, 0.05, 0.09], (n, 3)), rng.random(n), strict=True)):
        new = density(at + move)
        if np.log(luck) < new - now:
            at, now = at + move, new
        found[i] = at
    batches = found[2000:].reshape(40, -1, 3).mean(axis=1)
    return batches.mean(axis=0), batches.std(axis=0, ddof=1) / np.sqrt(40)


def test_a_two_stock_posterior_is_that_of_quadrature_and_of_another_sampler(two_stocks):
    data = sample_posterior(two_stocks, seed=1, walkers=32, steps=1500)
    found = posterior_summary(data)
    assert (found["rhat"] < 1.02).all() and (found["ess_bulk"] > 400).all()
    for name, (mean, sd) in zip(found.index, quadrature(two_stocks), strict=True):
        within(found.loc[name], mean, sd)
    means, errors = metropolis(two_stocks)
    assert (np.abs(found["mean"] - means) < 4.5 * np.hypot(found["mean_error"], errors)).all()
    for name, low, high in zip(found.index, two_stocks.box.lower, two_stocks.box.upper, strict=True):
        drawn = data["posterior"][name]
        assert low <= float(drawn.min()) and float(drawn.max()) <= high


def test_a_run_that_fails_has_no_density_and_bounds_hold():
    target = formula(
        table(("a", "lin", -3.0, np.nan, 3.0, "uniform")), lambda v, t: np.where(v[0] > 0.5, np.nan, v[0] + 0 * t),
        np.zeros(1),
    )
    data = sample_posterior(target, seed=2, steps=2000)
    known = cut_normal(0.0, 1.0, -3.0, 0.5)
    within(posterior_summary(data).loc["a"], known.mean(), known.std())
    assert ((data["posterior"]["a"] >= -3.0) & (data["posterior"]["a"] <= 0.5)).all()
    assert np.isfinite(data["sample_stats"]["lp"]).all()


def test_monte_carlo_errors_are_as_large_as_the_scatter_between_seeds():
    """Three parameters, so that moves reject; without the dependence between walkers errors would be too small."""
    rows = table(*((name, "lin", -9.0, np.nan, 9.0, "uniform") for name in "abc"))
    target = formula(
        rows, lambda v, t: np.select([t == 0, t == 1], [v[0] + v[1], 3 * v[1]], v[2] - v[0]), np.zeros(3)
    )
    found = [posterior_summary(sample_posterior(target, seed=seed, steps=600)) for seed in range(8)]
    scores = np.array([one["mean"] / one["mean_error"] for one in found])
    low, high = stats.chi2(scores.size).ppf([1e-4, 1 - 1e-4]) / scores.size
    assert low < (scores**2).mean() < high


# --- the same bits again -----------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone(two_stocks):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (sample_posterior(two_stocks, seed=seed, walkers=8, steps=100) for seed in (4, 4, 5))
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert bits(first) == bits(again) and bits(first) != bits(other)
    assert first["posterior"].attrs == again["posterior"].attrs


class KilledError(Exception):
    pass


@pytest.mark.parametrize("thin", [1, 3])
def test_a_run_that_is_killed_goes_on_with_the_same_bits(two_stocks, tmp_path, thin):
    target = two_stocks if thin == 1 else conjugate()
    settings = {"seed": 4, "walkers": 8, "steps": 240 * thin, "thin": thin}
    whole = sample_posterior(target, **settings)
    file = tmp_path / "chain.npz"

    def killed(done, total, mean):
        if done == 130 * thin:
            raise KilledError

    with pytest.raises(KilledError):
        sample_posterior(target, **settings, resume=file, progress=killed)
    with np.load(file, allow_pickle=False) as stored:
        assert stored["points"].shape == (101, 8, target.box.size)  # 100 draws and the start; 30 steps are lost
    seen = []
    resumed = sample_posterior(target, **settings, resume=file, progress=lambda *at: seen.append(at))
    assert seen[0][0] == 101 * thin and seen[-1][:2] == (240 * thin, 240 * thin)
    assert bits(resumed) == bits(whole) and resumed["posterior"].attrs == whole["posterior"].attrs
    assert not list(tmp_path.glob("*.part"))
    finished = sample_posterior(target, **settings, resume=file, progress=pytest.fail)
    assert bits(finished) == bits(whole)
    longer = settings | {"steps": 330 * thin}
    assert bits(sample_posterior(target, **longer, resume=file)) == bits(sample_posterior(target, **longer))
    assert bits(sample_posterior(target, **settings, resume=file)) == bits(whole)  # a shorter one, of the same file


def test_a_file_of_another_run_is_refused(two_stocks, tmp_path):
    file = tmp_path / "chain.npz"
    settings = {"seed": 4, "walkers": 8, "steps": 100, "resume": file}
    sample_posterior(two_stocks, **settings)
    with pytest.raises(CalibrationError, match=r"run with another seed \(4; now 5\)"):
        sample_posterior(two_stocks, **settings | {"seed": 5})
    with pytest.raises(CalibrationError, match="other walkers"):
        sample_posterior(two_stocks, **settings | {"walkers": 10})
    fewer = replace(two_stocks, measurements=two_stocks.measurements.iloc[1:])
    with pytest.raises(CalibrationError, match="other measurements"):
        sample_posterior(fewer, **settings)
    wider = two_stocks.parameters.assign(mode=[0.3, 0.25, np.nan])
    with pytest.raises(CalibrationError, match="other parameters"):
        sample_posterior(replace(two_stocks, parameters=wider), **settings)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CalibrationError, match="cannot be read as a chain") as caught:
        sample_posterior(two_stocks, **settings)
    assert "\n" not in str(caught.value)


def test_a_formula_that_has_changed_behind_a_file_is_found_out(tmp_path):
    target, settings = conjugate(), {"seed": 1, "walkers": 4, "steps": 100, "resume": tmp_path / "chain.npz"}
    sample_posterior(target, **settings)
    with pytest.raises(CalibrationError, match="differ by"):
        sample_posterior(replace(target, function=lambda v, t: v[0] + 0.1 * t), **settings)


# --- form --------------------------------------------------------------------------------------------------------


def test_the_result_is_inference_data_that_comes_back_from_its_file(two_stocks, tmp_path):
    data = sample_posterior(two_stocks, seed=4, walkers=8, steps=200, thin=2)
    posterior, attrs = data["posterior"], data["posterior"].attrs
    assert list(posterior.data_vars) == ["growing", "leaving", "spread"]
    burnt = attrs["burn_in"] // 2
    assert 10 <= burnt <= 50 and posterior.sizes == {"chain": 8, "draw": 100 - burnt}
    assert data["warmup_posterior"].sizes == {"chain": 8, "draw": burnt}
    assert posterior["draw"].to_numpy()[0] == burnt + 1 and posterior["draw"].to_numpy()[-1] == 100
    assert set(data["sample_stats"].data_vars) == {"lp", "acceptance"}
    assert 0 < attrs["acceptance"] < 1
    assert float(data["sample_stats"]["acceptance"].mean()) == pytest.approx(attrs["acceptance"])
    assert data["observed_data"].sizes == {"measurement": 12}
    assert attrs["model_sha256"] == two_stocks.model.digest and attrs["seed"] == 4
    assert posterior["growing"].attrs["prior"] == "triangular on [0.05, 2], mode 0.3"
    assert posterior["leaving"].attrs["upper"] == 0.9 and posterior["leaving"].attrs["tau"] > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        data.to_netcdf(str(tmp_path / "posterior.nc"), engine="h5netcdf")
        again = arviz.from_netcdf(str(tmp_path / "posterior.nc"), engine="h5netcdf")
    assert bits(again) == bits(data)
    pd.testing.assert_frame_equal(posterior_summary(again), posterior_summary(data))


def test_diagnostics_are_those_of_arviz_and_of_the_two_halves(two_stocks):
    data = sample_posterior(two_stocks, seed=4, walkers=8, steps=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        logs = np.log(data["posterior"]["growing"].to_numpy())
        found = posterior_summary(data).loc["growing"]
        assert found["ess_bulk"] == pytest.approx(float(arviz.ess(logs, method="bulk")), rel=1e-6)
    for name in ("rhat", "ess_bulk", "ess_tail", "tau"):
        assert data["posterior"]["growing"].attrs[name] == pytest.approx(found[name], rel=1e-9)


def test_a_chain_that_is_too_short_says_so(two_stocks, caplog):
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        data = sample_posterior(two_stocks, seed=4, walkers=8, steps=100)
    said = data["posterior"].attrs["warning"]
    assert "fewer than 50 autocorrelation times (3 of 3 parameters, worst" in said
    assert "fewer than 400 effective draws" in said and "take more steps" in said
    assert caplog.messages == [f"posterior of chain: {said}"]


def test_two_modes_that_walkers_hardly_pass_between_are_warned_of():
    """Starts lie in both modes and stay there; no walker is stuck, yet draws are few."""
    rows = table(("a", "lin", -10.0, np.nan, 10.0, "uniform"))
    target = formula(rows, lambda v, t: np.abs(v[0]) + 0 * t, np.full(25, 8.0))
    data = sample_posterior(target, seed=1, steps=600)
    assert {float(np.sign(one)) for one in data["posterior"]["a"].to_numpy()[:, 0]} == {-1.0, 1.0}
    assert "fewer than 400 effective draws (1 of 1 parameters, worst a" in data["posterior"].attrs["warning"]


def test_progress_has_steps_and_the_objective(two_stocks):
    seen = []
    data = sample_posterior(two_stocks, seed=4, walkers=8, steps=200, thin=2, progress=lambda *at: seen.append(at))
    assert [at[:2] for at in seen] == [(step, 200) for step in range(2, 201, 2)]
    assert seen[-1][2] == pytest.approx(float(data["sample_stats"]["lp"].to_numpy()[:, -1].mean()))


BAD = {
    "too few walkers": ({"walkers": 4}, "walkers is 4 for 3 parameters; give an even number of at least 6"),
    "odd walkers": ({"walkers": 9}, "walkers is 9 for 3 parameters; give an even number"),
    "too few steps": ({"steps": 99}, "steps is 99 with thin 1, which keeps 99 draws of a walker"),
    "too much thinning": ({"steps": 400, "thin": 5}, "which keeps 80 draws"),
    "no thinning": ({"thin": 0}, "thin is 0; it must be a whole number of at least 1"),
    "uneven thinning": ({"steps": 1000, "thin": 3}, "must be at least 1 and divide the steps"),
    "a negative seed": ({"seed": -1}, "seed is -1; it must be a whole number"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_settings_give_one_clear_line(two_stocks, case):
    settings, said = BAD[case]
    with pytest.raises(CalibrationError, match=said) as caught:
        sample_posterior(two_stocks, **{"seed": 1, **settings})
    assert "\n" not in str(caught.value)


def test_what_cannot_be_sampled_is_named(two_stocks):
    rows = two_stocks.measurements
    panel = pd.concat([rows, rows.assign(entity="w")], ignore_index=True)
    each = two_stocks.parameters.assign(effect=["random", "shared", "shared"])
    with pytest.raises(CalibrationError, match=r"'growing' has effect 'random'.*fit_random_effects"):
        sample_posterior(replace(two_stocks, measurements=panel, parameters=each), seed=1)
    with pytest.raises(CalibrationError, match=r"prior of 'growing' has no density: .*mode 3 outside its bounds"):
        sample_posterior(replace(two_stocks, parameters=two_stocks.parameters.assign(mode=3.0)), seed=1)
    with pytest.raises(CalibrationError, match=r"prior of 'growing' has no density: .*'gamma' is not known"):
        sample_posterior(replace(two_stocks, parameters=two_stocks.parameters.assign(distribution="gamma")), seed=1)
    never = replace(conjugate(), function=lambda v, t: np.nan * (v[0] + t))
    with pytest.raises(CalibrationError, match="of 5120 draws from the prior 0 can give the measurements"):
        sample_posterior(never, seed=1, walkers=4)


def test_starts_are_drawn_again_until_there_are_enough():
    rare = replace(conjugate(), function=lambda v, t: np.where(np.abs(v[0] - 1) < 0.01, v[0], np.nan) + 0 * t)
    data = sample_posterior(rare, seed=1, walkers=8, steps=100)
    assert np.isfinite(data["sample_stats"]["lp"]).all()


# --- simulation-based calibration --------------------------------------------------------------------------------


def test_ranks_of_a_conjugate_model_are_uniform_and_a_wrong_noise_is_found_out():
    target = conjugate(np.zeros(3))
    settings = {"n_replications": 30, "seed": 2, "walkers": 16, "steps": 100, "n_draws": 19}
    found = rank_statistics(target, lambda rows: replace(target, measurements=rows), **settings)
    assert found.uniformity.loc["mean", "p_value"] > 1e-3 and found.uniformity.loc["mean", "df"] == 5
    assert found.ranks.shape == (30, 1) and found.redrawn == 0 and found.fewest_effective > 19
    wrong = replace(target, observables=(Observable("y", "y", "level", "normal", 0.05),))
    bad = rank_statistics(target, lambda rows: replace(wrong, measurements=rows), **settings)
    assert bad.uniformity.loc["mean", "p_value"] < 1e-4
    few = settings | {"n_replications": 10}
    first = rank_statistics(target, lambda rows: replace(target, measurements=rows), **few)
    pd.testing.assert_frame_equal(first.ranks, found.ranks.iloc[:10])


def test_uniformity_counts_ranks_in_bins_of_known_probability():
    even = uniformity(pd.DataFrame({"a": np.repeat(np.arange(100), 2)}), 99)
    assert_allclose(even.loc["a"].astype(float), [0.0, 19, 1.0])
    edge = uniformity(pd.DataFrame({"a": np.zeros(100)}), 99)
    assert edge.loc["a", "chi_squared"] == pytest.approx(19 * 100)
    uneven = uniformity(pd.DataFrame({"a": np.arange(15)}), 14)
    assert uneven.loc["a", "df"] == 2 and uneven.loc["a", "p_value"] == pytest.approx(1.0)


def test_what_cannot_be_ranked_is_named():
    target = conjugate()

    def again(rows):
        return replace(target, measurements=rows)

    with pytest.raises(CalibrationError, match="n_replications is 9"):
        rank_statistics(target, again, n_replications=9, seed=1)
    with pytest.raises(CalibrationError, match="n_draws is 5"):
        rank_statistics(target, again, n_replications=20, seed=1, n_draws=5)
    bound = again(target.measurements.assign(comparator=">="))
    with pytest.raises(CalibrationError, match="a bound cannot be simulated"):
        rank_statistics(bound, again, n_replications=20, seed=1)
    centred = replace(target, observables=(replace(target.observables[0], centred=True),))
    with pytest.raises(CalibrationError, match="'y' is centred"):
        rank_statistics(centred, again, n_replications=20, seed=1)
    never = replace(target, function=lambda v, t: np.nan * (v[0] + t))
    with pytest.raises(CalibrationError, match="none of 1000 draws"):
        rank_statistics(never, again, n_replications=20, seed=1)
