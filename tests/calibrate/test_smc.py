"""Tempered particles: exact posteriors and evidences, modes in their right proportion, the same bits again."""

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
from villageflow.calibrate.posterior import log_posterior_of, posterior_summary, sample_posterior
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.scales import Box
from villageflow.calibrate.smc import sample_smc
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


def formula(parameters, function, values, spread=1.0):
    rows = pd.DataFrame({
        "observable": "y", "time": np.arange(len(values), dtype=float), "value": values, "comparator": "="
    })
    return Formula(parameters, function, (Observable("y", "y", "level", "normal", spread),), rows)


def flat(names, reach=10.0):
    return table(*((name, "lin", -reach, np.nan, reach, "uniform") for name in names))


def cut_normal(mean, sd, low, high):
    return stats.truncnorm((low - mean) / sd, (high - mean) / sd, loc=mean, scale=sd)


def bits(data):
    return [data[group][name].to_numpy().tobytes() for group in data.groups() for name in sorted(data[group].data_vars)]


def within(found, mean, sd, errors=4.5):
    """Means and deviations within Monte Carlo errors; that of a deviation as for a normal distribution."""
    assert abs(found["mean"] - mean) < errors * found["mean_error"]
    assert abs(found["sd"] - sd) < errors * found["mean_error"] / np.sqrt(2)


def evidence_within(data, log_evidence, errors=5.0, largest=0.2):
    """Eight islands give the error with seven degrees of freedom: five of them are 1.6 in a thousand."""
    attrs = data["posterior"].attrs
    assert 0 < attrs["log_evidence_error"] < largest
    assert abs(attrs["log_evidence"] - log_evidence) < errors * attrs["log_evidence_error"]


# --- where the answer is known -----------------------------------------------------------------------------------


def one_mean(values=(1.0, 2.0, 0.5, 1.5)):
    """A mean with a normal prior cut at its bounds, and known noise."""
    return formula(table(("mean", "lin", -1.0, 0.5, 3.0, "normal")), lambda v, t: v[0] + 0 * t, np.array(values))


def test_a_conjugate_normal_has_its_closed_form_and_its_evidence():
    target, prior_sd = one_mean(), 4.0 / 3.92
    values = target.measurements["value"].to_numpy()
    precision = 1 / prior_sd**2 + len(values)
    known = cut_normal((0.5 / prior_sd**2 + values.sum()) / precision, precision**-0.5, -1.0, 3.0)
    data = sample_smc(target, seed=1)
    found = posterior_summary(data).loc["mean"]
    within(found, known.mean(), known.std())
    assert_allclose(found[["q05", "q50", "q95"]].astype(float), known.ppf([0.05, 0.5, 0.95]), atol=0.05)
    prior = cut_normal(0.5, prior_sd, -1.0, 3.0)
    density = integrate.quad(lambda m: prior.pdf(m) * np.prod(stats.norm.pdf(values, m, 1.0)), -1.0, 3.0)[0]
    evidence_within(data, np.log(density), largest=0.05)
    assert data["posterior"].attrs["warning"] == ""


def test_a_linear_model_has_the_moments_and_the_evidence_of_least_squares():
    """Four coefficients, correlated; the prior is so wide that the evidence is that of a flat one."""
    rng = np.random.default_rng(3)
    mixing, noise = np.array([[1, 0.9, 0, 0], [0, 0.3, 0, 0], [0, 0, 1, 0], [0, 0, 2, 1]]), 0.2
    design = rng.normal(size=(9, 4)) @ mixing
    values = design @ np.array([1.0, -2.0, 0.5, 3.0]) + noise * rng.normal(size=9)
    target = formula(flat("abcd", 20.0), lambda v, t: np.einsum("jn,tj->nt", v[:, :, 0], design), values, noise)
    data = sample_smc(target, seed=2)
    covariance = noise**2 * np.linalg.inv(design.T @ design)
    means, residual_ss, _, _ = np.linalg.lstsq(design, values, rcond=None)
    found = posterior_summary(data)
    for name, mean, sd in zip("abcd", means, np.sqrt(np.diag(covariance)), strict=True):
        within(found.loc[name], mean, sd)
    drawn = np.stack([data["posterior"][name].to_numpy().ravel() for name in "abcd"])
    assert_allclose(np.corrcoef(drawn), covariance / np.sqrt(np.outer(*[np.diag(covariance)] * 2)), atol=0.1)
    log_volume = 2 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(covariance)[1]
    peak = -0.5 * residual_ss[0] / noise**2 - 9 * np.log(noise * np.sqrt(2 * np.pi))
    evidence_within(data, peak + log_volume - 4 * np.log(40.0), largest=0.15)


def two_modes(left, right):
    """Normal modes at both sides of 0 in the first parameter, with their spreads in each parameter."""
    size = len(left)

    def function(v, t):
        at = np.broadcast_to(v, (size, v.shape[1], t.shape[1]))[t[0].astype(int), :, np.arange(size)].T
        sign = np.where(v[0] > 0, 1, -1)
        return (at - sign * np.where(t == 0, 6.0, 2.0)) / np.where(sign > 0, right, left)

    weights = np.prod([left, right], axis=1)
    log_evidence = np.log(weights.sum()) - size * np.log(20.0)
    target = formula(flat([f"x{i}" for i in range(size)]), function, np.zeros(size))
    return target, weights[1] / weights.sum(), log_evidence


def test_two_modes_have_their_weights_where_walkers_of_one_ensemble_do_not_pass():
    """A plate and a rod: the difference of two walkers that fits the one does not fit the other."""
    target, share, log_evidence = two_modes([0.01, 0.8, 0.8], [0.5, 0.05, 0.1])
    data = sample_smc(target, seed=1)
    shares = (data["posterior"]["x0"] > 0).mean("draw").to_numpy()
    error = shares.std(ddof=1) / np.sqrt(8)
    assert error < 0.05 and abs(shares.mean() - share) < 5 * error
    evidence_within(data, log_evidence)
    walkers = sample_posterior(target, seed=1, steps=1000)
    sides = (walkers["posterior"]["x0"] > 0).mean("draw").to_numpy()
    assert np.mean((sides == 0) | (sides == 1)) > 0.3  # many walkers never pass
    assert "effective draws" in walkers["posterior"].attrs["warning"]


def test_a_ridge_is_followed_from_end_to_end():
    """Only the product is measured: the posterior of one factor is as wide as its prior."""
    rows = table(("a", "log", 0.1, np.nan, 10.0, "loguniform"), ("b", "log", 0.1, np.nan, 10.0, "triangular"))
    rows.loc[1, "mode"] = 2.0
    target = formula(rows, lambda v, t: v[0] * v[1] + 0 * t, np.full(4, 1.5), spread=0.02)
    data = sample_smc(target, seed=1)
    grid = np.linspace(np.log(0.1), np.log(10.0), 3001)
    a, b = np.exp(grid)[:, None], np.exp(grid)[None, :]
    kind = stats.triang(1.9 / 9.9, loc=0.1, scale=9.9)
    weight = kind.pdf(b) * b * np.exp(-0.5 * 4 * ((a * b - 1.5) / 0.02) ** 2) * (grid[1] - grid[0]) / np.log(100.0)
    found, total = posterior_summary(data), weight.sum()
    for name, axis in (("a", 1), ("b", 0)):
        own, x = weight.sum(axis=axis) / total, np.exp(grid)
        mean = (own * x).sum()
        assert abs(found.loc[name, "mean"] - mean) < 4.5 * found.loc[name, "mean_error"]
    log_evidence = np.log(total * (grid[1] - grid[0])) - 4 * np.log(0.02 * np.sqrt(2 * np.pi))
    evidence_within(data, log_evidence)


def test_where_the_model_cannot_run_there_is_no_density_and_the_evidence_counts_it():
    rows = table(("a", "lin", -3.0, np.nan, 3.0, "uniform"))
    target = formula(rows, lambda v, t: np.where(v[0] > -1.5, np.nan, v[0] + 0 * t), np.zeros(1))
    data = sample_smc(target, seed=2)
    known = cut_normal(0.0, 1.0, -3.0, -1.5)
    within(posterior_summary(data).loc["a"], known.mean(), known.std())
    evidence_within(data, np.log((stats.norm.cdf(-1.5) - stats.norm.cdf(-3.0)) / 6))
    assert (data["posterior"]["a"] <= -1.5).all()


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
    """Means, deviations and log evidence on a grid of the closed form, with scipy's densities alone."""
    grids = [np.linspace(0.05, 2.0, 401), np.linspace(0.01, 0.9, 301), np.geomspace(0.05, 2.0, 120)]
    prior = [stats.triang(0.25 / 1.95, loc=0.05, scale=1.95), cut_normal(0.2, 0.89 / 3.92, 0.01, 0.9),
             stats.loguniform(0.05, 2.0)]
    growing, leaving, spread = np.ix_(*grids)
    log_weight, rows = np.zeros((401, 301, 120)), problem.measurements
    for name, which in (("youth", 0), ("age", 1)):
        for time, value in rows.loc[rows["observable"] == name, ["time", "value"]].to_numpy():
            gap = np.log(value / chain_paths(growing, leaving + 1e-9, time)[which])
            log_weight = log_weight - 0.5 * (gap / spread) ** 2 - np.log(spread * value * np.sqrt(2 * np.pi))
    for axis, (grid, one) in enumerate(zip(grids, prior, strict=True)):
        with np.errstate(divide="ignore"):
            log_prior = one.logpdf(grid) + np.log(np.gradient(grid))
        log_weight = log_weight + np.expand_dims(log_prior, [i for i in range(3) if i != axis])
    weight = np.exp(log_weight - log_weight.max())
    found = []
    for axis, grid in enumerate(grids):
        own = weight.sum(axis=tuple(i for i in range(3) if i != axis)) / weight.sum()
        mean = (own * grid).sum()
        found.append((mean, np.sqrt((own * (grid - mean) ** 2).sum())))
    return found, float(np.log(weight.sum()) + log_weight.max())


def test_a_two_stock_posterior_and_its_evidence_are_those_of_quadrature(two_stocks):
    data = sample_smc(two_stocks, seed=1)
    found, (known, log_evidence) = posterior_summary(data), quadrature(two_stocks)
    for name, (mean, sd) in zip(found.index, known, strict=True):
        within(found.loc[name], mean, sd)
    evidence_within(data, log_evidence)
    attrs = data["posterior"].attrs
    assert attrs["warning"] == "" and attrs["model_sha256"] == two_stocks.model.digest
    for name, low, high in zip(found.index, two_stocks.box.lower, two_stocks.box.upper, strict=True):
        assert low <= float(data["posterior"][name].min()) and float(data["posterior"][name].max()) <= high


# --- the same bits again -----------------------------------------------------------------------------------------

SMALL = {"seed": 4, "particles": 100, "islands": 3, "moves": 5}


def test_equal_seeds_give_equal_bits_and_leave_the_global_generator_alone(two_stocks):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (sample_smc(two_stocks, **SMALL | {"seed": seed}) for seed in (4, 4, 5))
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert bits(first) == bits(again) and bits(first) != bits(other)
    assert first["posterior"].attrs == again["posterior"].attrs


class InBlocks:
    """A problem whose runs are made a few at a time, from the last to the first."""

    def __init__(self, whole):
        self.whole = whole

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def locations(self, values, rows):
        parts = [self.whole.locations(values[max(0, end - 13):end], rows) for end in range(len(values), 0, -13)]
        return np.concatenate(parts[::-1])


def test_neither_blocks_of_runs_nor_further_islands_move_a_bit(two_stocks):
    whole = sample_smc(two_stocks, **SMALL)
    more = sample_smc(two_stocks, **SMALL | {"islands": 4})
    for name in two_stocks.box.names:
        assert_array_equal(more["posterior"][name][:3], whole["posterior"][name])
    assert_array_equal(more["sample_stats"]["log_evidence"][:3], whole["sample_stats"]["log_evidence"])
    assert bits(sample_smc(InBlocks(two_stocks), **SMALL)) == bits(whole)


class KilledError(Exception):
    pass


def test_a_run_that_is_killed_goes_on_with_the_same_bits(two_stocks, tmp_path):
    whole, file = sample_smc(two_stocks, **SMALL), tmp_path / "population.npz"

    def killed(stage, temperature, mean):
        if stage == 2:
            raise KilledError

    with pytest.raises(KilledError):
        sample_smc(two_stocks, **SMALL, resume=file, progress=killed)
    with np.load(file, allow_pickle=False) as stored:
        assert stored["points"].shape == (3, 100, 3) and stored["levels"].shape == (3, 3)
    seen = []
    resumed = sample_smc(two_stocks, **SMALL, resume=file, progress=lambda *at: seen.append(at))
    assert bits(resumed) == bits(whole) and resumed["posterior"].attrs == whole["posterior"].attrs
    assert seen[0][0] == 3 and seen[-1][1] == 1.0 and [at[1] for at in seen] == sorted(at[1] for at in seen)
    assert seen[-1][2] == pytest.approx(float(whole["sample_stats"]["lp"].mean()))
    assert bits(sample_smc(two_stocks, **SMALL, resume=file, progress=pytest.fail)) == bits(whole)
    assert not list(tmp_path.glob("*.part"))


def test_a_file_of_another_run_is_refused(two_stocks, tmp_path):
    file = tmp_path / "population.npz"
    sample_smc(two_stocks, **SMALL, resume=file)
    with pytest.raises(CalibrationError, match=r"population in .* run with another seed \(4; now 5\)"):
        sample_smc(two_stocks, **SMALL | {"seed": 5}, resume=file)
    with pytest.raises(CalibrationError, match="other moves"):
        sample_smc(two_stocks, **SMALL | {"moves": 6}, resume=file)
    with pytest.raises(CalibrationError, match="other measurements"):
        fewer = replace(two_stocks, measurements=two_stocks.measurements.iloc[1:])
        sample_smc(fewer, **SMALL, resume=file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CalibrationError, match="cannot be read as a population") as caught:
        sample_smc(two_stocks, **SMALL, resume=file)
    assert "\n" not in str(caught.value)


def test_a_formula_that_has_changed_behind_a_file_is_found_out(tmp_path):
    target, file = one_mean(), tmp_path / "population.npz"
    sample_smc(target, **SMALL, resume=file)
    with pytest.raises(CalibrationError, match="log likelihoods that differ by"):
        sample_smc(replace(target, function=lambda v, t: v[0] + 0.1 * t), **SMALL, resume=file)


# --- form --------------------------------------------------------------------------------------------------------


def test_the_result_is_inference_data_that_comes_back_from_its_file(two_stocks, tmp_path):
    data = sample_smc(two_stocks, **SMALL)
    posterior, sample_stats = data["posterior"], data["sample_stats"]
    assert posterior.sizes == {"chain": 3, "draw": 100} and data["observed_data"].sizes == {"measurement": 12}
    temperature = sample_stats["temperature"].to_numpy()
    assert (temperature[:, 0] == 0).all() and (temperature[:, -1] == 1).all() and (np.diff(temperature) >= 0).all()
    values = np.stack([posterior[name].to_numpy() for name in two_stocks.box.names], axis=-1)
    priors = Priors.of(two_stocks.box, two_stocks.parameters)
    density = log_posterior_of(two_stocks, priors)(two_stocks.box.transformed(values[0]))
    assert_allclose(sample_stats["lp"][0], density, rtol=1e-9)
    logs = sample_stats["log_evidence"].to_numpy()
    assert posterior.attrs["log_evidence"] == pytest.approx(np.log(np.exp(logs).mean()))
    found = posterior_summary(data)
    for name in ("rhat", "ess_bulk", "ess_tail", "tau"):
        assert posterior["growing"].attrs[name] == pytest.approx(found.loc["growing", name], rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        logs = np.log(posterior["growing"].to_numpy())
        assert posterior["growing"].attrs["rhat"] == pytest.approx(float(arviz.rhat(logs)), abs=1e-3)
        data.to_netcdf(str(tmp_path / "posterior.nc"), engine="h5netcdf")
        again = arviz.from_netcdf(str(tmp_path / "posterior.nc"), engine="h5netcdf")
    assert bits(again) == bits(data)
    pd.testing.assert_frame_equal(posterior_summary(again), found)


def test_islands_that_differ_say_so(caplog):
    """One move among two narrow modes: islands keep the shares of their first particles."""
    target, _, _ = two_modes([0.05] * 6, [0.04] * 6)
    with caplog.at_level(logging.WARNING, logger="villageflow"):
        data = sample_smc(target, seed=1, particles=100, moves=1)
    said = data["posterior"].attrs["warning"]
    assert "R-hat between islands is above 1.01 (6 of 6 parameters, worst" in said
    assert "log evidence differs between islands" in said and said.endswith("take more particles or more moves")
    assert caplog.messages == [f"posterior of the target: {said}"]


def test_a_centred_observable_has_no_evidence():
    target = one_mean()
    target = replace(target, observables=(replace(target.observables[0], centred=True),))
    attrs = sample_smc(target, **SMALL)["posterior"].attrs
    assert np.isnan(attrs["log_evidence"]) and np.isnan(attrs["log_evidence_error"])


BAD = {
    "few particles": ({"particles": 99}, "particles is 99; it must be at least 100 for 3 parameters"),
    "one island": ({"islands": 1}, "islands is 1; it must be at least 2, to be compared"),
    "no move": ({"moves": 0}, "moves is 0; it must be at least 1"),
    "a negative seed": ({"seed": -1}, "seed is -1; it must be a whole number"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_settings_give_one_clear_line(two_stocks, case):
    settings, said = BAD[case]
    with pytest.raises(CalibrationError, match=said) as caught:
        sample_smc(two_stocks, **{"seed": 1, **settings})
    assert "\n" not in str(caught.value)


def test_what_cannot_be_sampled_is_named(two_stocks, tmp_path):
    path = tmp_path / "random.mdl"
    path.write_text(CHAIN.replace("-growing*young,", "-growing*young*RANDOM UNIFORM(0.9, 1.1, 1),"))
    with pytest.raises(CalibrationError, match=r"draws random numbers \(young\)"):
        sample_smc(replace(two_stocks, model=vf.read_model(path)), seed=1)
    rows = two_stocks.measurements
    panel = pd.concat([rows, rows.assign(entity="w")], ignore_index=True)
    each = two_stocks.parameters.assign(effect=["random", "shared", "shared"])
    with pytest.raises(CalibrationError, match=r"'growing' has effect 'random'.*fit_random_effects"):
        sample_smc(replace(two_stocks, measurements=panel, parameters=each), seed=1)
    never = replace(one_mean(), function=lambda v, t: np.nan * (v[0] + t))
    with pytest.raises(CalibrationError, match="of 2000 draws from the prior 0 can be compared with the data"):
        sample_smc(never, **SMALL)
