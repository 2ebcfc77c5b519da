"""Random functions as a modeller meets them: distributions, seeds, scenarios, supplied series, mistakes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import villageflow as vf
from villageflow.errors import DesignError, LoweringError, SimulationError, UnsupportedError
from villageflow.program.noise import stream_keys, uniform

CONTROLS = """
INITIAL TIME = 0 ~~|
FINAL TIME = 99 ~~|
TIME STEP = 1 ~~|
SAVEPER = 1 ~~|
"""
XMILE = """<xmile version="1.0" xmlns="http://docs.oasis-open.org/xmile/ns/XMILE/v1.0">
<header><vendor>v</vendor><product version="1">p</product></header>
<sim_specs><start>0</start><stop>{stop}</stop><dt>{dt}</dt></sim_specs>
<model><variables><aux name="x"><eqn>{equation}</eqn></aux></variables></model></xmile>"""
N_MEMBERS = 200


def vensim(tmp_path, equations):
    path = tmp_path / "m.mdl"
    path.write_text("{UTF-8}\n" + equations + CONTROLS)
    return vf.read_model(path)


def xmile(tmp_path, equation, stop=99, dt=1):
    path = tmp_path / "m.xmile"
    path.write_text(XMILE.format(equation=equation, stop=stop, dt=dt))
    return vf.read_model(path)


def members(n=N_MEMBERS):
    return pd.DataFrame(index=range(n))


def draws(model, name="x", n=N_MEMBERS, **settings):
    """(n, n_times) values of a variable."""
    return vf.simulate(model, members(n), save=[name], **settings)[name].values


# ------------------------------------------------------------------------------------------ distributions


def cut(known, low, high):
    """Distribution function and mean of a continuous distribution between bounds."""
    below, above = known.cdf(low), known.cdf(high)

    def cdf(x):
        return np.clip((known.cdf(x) - below) / (above - below), 0, 1)

    return cdf, known.expect(lambda x: x, lb=low, ub=high, conditional=True)


NORMAL = stats.norm(3, 2)
CONTINUOUS = {
    "RANDOM 0 1()": (stats.uniform(), -1, 2),
    "RANDOM UNIFORM(-2, 5, 0)": (stats.uniform(-2, 7), -2, 5),
    "RANDOM NORMAL(-90, 90, 3, 2, 0)": (NORMAL, -90, 90),
    "RANDOM NORMAL(2, 4, 3, 2, 0)": (NORMAL, 2, 4),
    "RANDOM NORMAL(11, 99, 3, 2, 0)": (NORMAL, 11, 99),
    "RANDOM NORMAL(-99, -7, 3, 2, 0)": (NORMAL, -99, -7),
    "RANDOM EXPONENTIAL(0, 900, 0, 3, 0)": (stats.expon(0, 3), 0, 900),
    "RANDOM EXPONENTIAL(2, 5, 1, 3, 0)": (stats.expon(1, 3), 2, 5),
    "RANDOM TRIANGULAR(-9, 9, 0, 1, 4, 0)": (stats.triang(0.25, 0, 4), 0, 4),
    "RANDOM TRIANGULAR(0.5, 3, 0, 1, 4, 0)": (stats.triang(0.25, 0, 4), 0.5, 3),
    "RANDOM TRIANGULAR(-9, 9, 0, 0, 4, 0)": (stats.triang(0, 0, 4), 0, 4),
    "RANDOM TRIANGULAR(-9, 9, 0, 4, 4, 0)": (stats.triang(1, 0, 4), 0, 4),
    "RANDOM BETA(-9, 9, 2, 3, 0, 1, 0)": (stats.beta(2, 3), 0, 1),
    "RANDOM BETA(2, 4, 0.5, 0.7, 1, 5, 0)": (stats.beta(0.5, 0.7, 1, 5), 2, 4),
    "RANDOM WEIBULL(0, 900, 1.5, 0, 1, 0)": (stats.weibull_min(1.5, scale=1 / math.gamma(1 + 1 / 1.5)), 0, 900),
    "RANDOM WEIBULL(2, 5, 0.8, 1, 3, 0)": (stats.weibull_min(0.8, 1, 3 / math.gamma(1 + 1 / 0.8)), 2, 5),
}
IN_XMILE = {
    "RANDOM(-2, 5)": (stats.uniform(-2, 7), -2, 5),
    "UNIFORM(-2, 5, 9)": (stats.uniform(-2, 7), -2, 5),
    "NORMAL(3, 2)": (NORMAL, -90, 90),
    "NORMAL(3, 2, 7, 2, 4)": (NORMAL, 2, 4),
    "EXPRND(3)": (stats.expon(0, 3), 0, 900),
    "EXPRND(3, 1, 2, 5)": (stats.expon(0, 3), 2, 5),
    "LOGNORMAL(1, 0.5)": (stats.lognorm(0.5, scale=math.e), 0, 900),
    "BETA(2, 3)": (stats.beta(2, 3), 0, 1),
    "GAMMA(2.5, 3)": (stats.gamma(2.5, scale=3), 0, 900),
}


def assert_fits(values, known, low, high):
    values = values.ravel()
    assert ((values >= low) & (values <= high)).all()
    cdf, mean = cut(known, low, high)
    assert stats.kstest(values, cdf).pvalue > 0.005
    assert abs(values.mean() - mean) < 4 * values.std() / math.sqrt(values.size)


@pytest.mark.parametrize("equation", CONTINUOUS)
def test_vensim_draws_fit_their_distribution(tmp_path, equation):
    assert_fits(draws(vensim(tmp_path, f"x = {equation} ~~|\n")), *CONTINUOUS[equation])


@pytest.mark.parametrize("equation", IN_XMILE)
def test_xmile_draws_fit_their_distribution(tmp_path, equation):
    assert_fits(draws(xmile(tmp_path, equation)), *IN_XMILE[equation])


def test_weibull_has_the_mean_of_its_stretch(tmp_path):
    for shape in (0.4, 1, 2, 9):
        values = draws(vensim(tmp_path, f"x = RANDOM WEIBULL(0, 1e9, {shape}, 0, 7, 0) ~~|\n"))
        assert abs(values.mean() - 7) < 5 * values.std() / math.sqrt(values.size)


DISCRETE = {
    "RANDOM POISSON(0, 99, 4.5, 0, 1, 0)": (stats.poisson(4.5), 0, 99),
    "RANDOM POISSON(2.5, 6, 4.5, 0, 1, 0)": (stats.poisson(4.5), 3, 6),
    "RANDOM BINOMIAL(0, 99, 0.3, 12, 0, 1, 0)": (stats.binom(12, 0.3), 0, 12),
    "RANDOM BINOMIAL(0, 99, 0.8, 12, 0, 1, 0)": (stats.binom(12, 0.8), 0, 12),
    "RANDOM BINOMIAL(7, 10, 0.8, 12, 0, 1, 0)": (stats.binom(12, 0.8), 7, 10),
    "RANDOM NEGATIVE BINOMIAL(0, 99, 0.4, 3, 0, 1, 0)": (stats.nbinom(3, 0.4, 3), 3, 99),
    "RANDOM NEGATIVE BINOMIAL(5, 9, 0.4, 3, 0, 1, 0)": (stats.nbinom(3, 0.4, 3), 5, 9),
}


def assert_counts_fit(values, known, low, high):
    values = values.ravel()
    assert (values == np.round(values)).all()
    assert ((values >= low) & (values <= high)).all()
    support = np.arange(low, high + 1)
    share = known.pmf(support) / (known.cdf(high) - known.cdf(low - 1))
    expected, observed = share * values.size, np.array([(values == k).sum() for k in support])
    rare = expected < 10
    expected = np.append(expected[~rare], expected[rare].sum() + 1e-9)
    observed = np.append(observed[~rare], observed[rare].sum() + 1e-9)
    keep = expected > 1
    assert stats.chisquare(observed[keep], expected[keep] * observed[keep].sum() / expected[keep].sum()).pvalue > 0.005


@pytest.mark.parametrize("equation", DISCRETE)
def test_counts_fit_their_distribution(tmp_path, equation):
    assert_counts_fit(draws(vensim(tmp_path, f"x = {equation} ~~|\n")), *DISCRETE[equation])


def test_xmile_counts_fit_their_distribution(tmp_path):
    assert_counts_fit(draws(xmile(tmp_path, "BINOMIAL(12, 0.3, 5)")), stats.binom(12, 0.3), 0, 12)
    assert (draws(xmile(tmp_path, "BINOMIAL(12, 1.3)")) == 12).all()
    happened = draws(xmile(tmp_path, "MONTECARLO(30)", stop=24.75, dt=0.25))
    assert_counts_fit(happened, stats.bernoulli(0.075), 0, 1)
    assert (draws(xmile(tmp_path, "MONTECARLO(101)")) == 0).all()


def test_counts_are_stretched_and_shifted(tmp_path):
    values = draws(vensim(tmp_path, "x = RANDOM POISSON(-99, 99, 4, 3, -2, 0) ~~|\n"))
    assert set(np.unique(values)) <= set(3.0 - 2.0 * np.arange(40))
    assert_counts_fit((3 - values) / 2, stats.poisson(4), 0, 40)


def test_large_and_small_means_of_counts(tmp_path):
    for mean in (0.0, 1e-3, 5e4):
        values = draws(vensim(tmp_path, f"x = RANDOM POISSON(0, 1e9, {mean}, 0, 1, 0) ~~|\n"), n=20)
        assert abs(values.mean() - mean) <= 5 * math.sqrt(mean / values.size)


def test_pink_noise_has_the_mean_the_deviation_and_the_memory_asked_for(tmp_path):
    model = vensim(tmp_path, "x = RANDOM PINK NOISE(5, 2, 8, 0) ~~|\n")
    values = draws(model, n=4000)
    assert abs(values.mean(axis=0) - 5).max() < 5 * 2 / math.sqrt(4000)
    np.testing.assert_allclose(values.std(axis=0), 2, rtol=0.06)
    later = (values[:, 40] - 5) * (values[:, 45] - 5)
    assert later.mean() / 4 == pytest.approx((1 - 1 / 8) ** 5, abs=0.06)
    halved = draws(model, n=4000, time_step=0.5)
    np.testing.assert_allclose(halved.std(axis=0), 2, rtol=0.06)


# ------------------------------------------------------------------------------------------- independence


def test_members_steps_and_streams_are_independent(tmp_path):
    model = vensim(tmp_path, "x = RANDOM 0 1() ~~|\ny = RANDOM 0 1() ~~|\n")
    ds = vf.simulate(model, members(1000), save=["x", "y"])
    x, y = ds["x"].values - 0.5, ds["y"].values - 0.5
    limit = 4.5 / math.sqrt(x[1:, :-1].size) / 12

    for other in (y, np.roll(x, 1, axis=0), np.roll(x, 1, axis=1), np.roll(x, 2, axis=1), np.roll(y, 1, axis=1)):
        assert abs((x * other).mean()) < limit
    assert len(np.unique(ds["x"].values)) == x.size
    between = np.corrcoef(x)[np.triu_indices(1000, 1)] * math.sqrt(x.shape[1])
    assert 0.97 < between.std() < 1.03


def test_seeds_give_independent_numbers(tmp_path):
    model = vensim(tmp_path, "x = RANDOM 0 1() ~~|\n")
    first, second = (draws(model, seed=seed) - 0.5 for seed in (0, 1))
    assert abs((first * second).mean()) < 4.5 / math.sqrt(first.size) / 12


def test_a_number_is_that_of_the_documented_key_and_counter(tmp_path):
    model = vensim(tmp_path, "My Noise = RANDOM 0 1() + 0 * RANDOM UNIFORM(0, 1, 7) ~~|\n")
    values = draws(model, "my_noise", n=3, seed=12)
    key = stream_keys(12, ["my_noise 1"])[0].tolist()
    assert values[2, 5] == uniform(key, 2, 5, 0.0)


# ------------------------------------------------------------------------------------------- the same draws

NOISY = """demand = base + RANDOM NORMAL(-30, 30, 0, sd, 0) ~~|
stock = INTEG(supply - demand, 100) ~~|
supply = gain * (100 - stock) ~~|
base = 10 ~~|
sd = 3 ~~|
gain = 0.5 ~~|
"""


@pytest.fixture
def noisy(tmp_path):
    return vensim(tmp_path, NOISY)


def test_scenarios_share_their_numbers(noisy):
    design = vf.Design.grid(gain=[0.2, 0.5, 0.9]).with_scenarios({"base": {}, "more": {"base": 20.0}})
    ds = vf.simulate(noisy, design, save=["demand", "stock"])
    base, more = (ds["demand"].sel(scenario=name).values for name in ("base", "more"))
    np.testing.assert_allclose(more - base, 10, rtol=1e-12)
    alone = vf.simulate(noisy, {"gain": [0.2, 0.5, 0.9], "base": 20.0}, save=["demand"])
    assert alone["demand"].values.tobytes() == more.tobytes()


def test_members_keep_their_numbers_when_the_ensemble_grows(noisy):
    small = vf.simulate(noisy, members(3), save=["demand"])["demand"].values
    large = vf.simulate(noisy, members(500), save=["demand"], n_threads=2)["demand"].values
    assert small.tobytes() == large[:3].tobytes()
    assert len(np.unique(large[:, 0])) == 500


def test_seed_is_recorded_where_numbers_are_drawn(noisy, tmp_path):
    assert vf.simulate(noisy, seed=np.int64(5), save=["demand"]).attrs["noise_seed"] == 5
    assert vf.simulate(noisy, save=["demand"]).attrs["noise_seed"] == 0
    assert "noise_seed" not in vf.simulate(noisy, save=["base"]).attrs
    drawn = vf.simulate(noisy, members(2), seed=1, save=["demand"])["demand"].values
    assert drawn.tobytes() == vf.simulate(noisy, members(2), seed=1, save=["demand"])["demand"].values.tobytes()
    assert drawn.tobytes() != vf.simulate(noisy, members(2), seed=2, save=["demand"])["demand"].values.tobytes()


def test_time_step_and_saving_do_not_move_numbers_of_a_step(noisy):
    every = vf.simulate(noisy, save=["demand"])["demand"].values
    fewer = vf.simulate(noisy, save=["demand"], save_every=9)["demand"].values
    assert fewer.tobytes() == np.ascontiguousarray(every[:, ::9]).tobytes()


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True, 2**63])
def test_bad_seed_is_refused(noisy, seed):
    with pytest.raises(DesignError, match=r"seed is .*whole number from 0"):
        vf.simulate(noisy, seed=seed)


# ------------------------------------------------------------------------------------------ supplied series


def test_result_is_had_again_from_its_exported_noise(noisy):
    first = vf.simulate(noisy, members(4), seed=3)
    again = vf.simulate(noisy, members(4), noise={"Demand": first["demand"]})
    assert again["stock"].values.tobytes() == first["stock"].values.tobytes()
    assert "noise_seed" not in again.attrs
    assert again.attrs["noise_given"] == "demand"
    other = vf.simulate(noisy, members(4), noise={"demand": first["demand"] + 1})
    assert other.attrs["noise_sha256"] != again.attrs["noise_sha256"]


def test_series_in_every_form(noisy):
    values = np.arange(100.0) % 7
    times = pd.Index(np.arange(100.0), name="Time")
    expected = vf.simulate(noisy, members(3), noise={"demand": values})["stock"].values
    assert (expected == expected[0]).all()
    rows = np.tile(values, (3, 1))
    for series in (
        values.tolist(),
        rows,
        pd.Series(values, index=times),
        pd.DataFrame(rows.T, index=times),
        pd.Series(np.append(values, 9.0), index=np.append(times, 150.0)),
    ):
        given = vf.simulate(noisy, members(3), noise={"demand": series})
        assert given["stock"].values.tobytes() == expected.tobytes()
        assert given["demand"].values[1].tolist() == values.tolist()


def test_series_with_times_is_held_until_its_next_time(noisy):
    series = pd.Series([1.0, 2.0, 3.0], index=[0.0, 30.0000001, 99.0])
    held = vf.simulate(noisy, save=["demand"], noise={"demand": series})["demand"].values[0]
    assert held.tolist() == [1.0] * 30 + [2.0] * 69 + [3.0]


def test_series_differ_by_member_and_follow_failed_members(tmp_path):
    model = vensim(tmp_path, "noise = RANDOM 0 1() ~~|\nx = LN(noise) ~~|\n")
    values = np.ones((5, 100))
    values[3, 40:] = -1.0
    ds = vf.simulate(model, members(5), noise={"noise": values}, save=["x"], errors="flag")
    assert ds["status"].values.tolist() == [-1, -1, -1, 40, -1]
    with pytest.raises(SimulationError, match=r"member 3: 'x' is nan at time 40"):
        vf.simulate(model, members(5), noise={"noise": values}, save=["x"])


def test_failed_member_is_diagnosed_with_its_own_numbers(tmp_path):
    model = vensim(tmp_path, "noise = RANDOM 0 1() ~~|\nx = LN(noise - 0.001) ~~|\n")
    ds = vf.simulate(model, members(40), errors="flag")
    noise, status = ds["noise"].values, ds["status"].values
    bad = noise <= 0.001
    assert (status == np.where(bad.any(axis=1), bad.argmax(axis=1), -1)).all()
    assert 0 < (status >= 0).sum() < 40
    member = int(np.flatnonzero(status >= 0)[0])
    with pytest.raises(SimulationError, match=rf"member {member}: 'x' is .* at time {status[member]} "):
        vf.simulate(model, members(40))


GOOD = np.zeros(100)
MISTAKES = {
    "unknown": ({"demnad": GOOD}, "'demnad', which model 'm' does not have.*demand"),
    "not random": ({"supply": GOOD}, "'supply', whose equation in model 'm' draws no number; supply 'demand'"),
    "twice": ({"demand": GOOD, "Demand": GOOD}, "in two spellings"),
    "short": ({"demand": GOOD[1:]}, r"shape \(99,\); the run has 100 steps.*give \(100,\), \(2, 100\)"),
    "members": ({"demand": np.zeros((3, 100))}, r"shape \(3, 100\)"),
    "cube": ({"demand": np.zeros((2, 2, 100))}, r"shape \(2, 2, 100\)"),
    "text": ({"demand": ["a"] * 100}, "not a number"),
    "not finite": ({"demand": np.where(np.arange(100) == 7, np.nan, 0)}, "nan at step 7"),
    "late": ({"demand": pd.Series(GOOD, index=np.arange(100) + 5.0)}, "from 5 to 104; the run needs it from 0 to 99"),
    "early": ({"demand": pd.Series(GOOD[:9], index=np.arange(9.0))}, "from 0 to 8; the run needs it from 0 to 99"),
    "empty": ({"demand": pd.Series([], dtype=float)}, "has no time"),
    "unordered": ({"demand": pd.Series(GOOD, index=np.arange(100.0)[::-1])}, "times that do not increase"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistaken_series_is_refused(noisy, mistake):
    noise, match = MISTAKES[mistake]
    with pytest.raises(DesignError, match=match):
        vf.simulate(noisy, members(2), noise=noise)


def test_series_with_strange_dimensions_is_refused(noisy):
    series = vf.simulate(noisy)["demand"].rename(member="draw")
    with pytest.raises(DesignError, match=r"dimensions.*draw"):
        vf.simulate(noisy, noise={"demand": series})


def test_stock_that_draws_cannot_be_supplied(tmp_path):
    model = vensim(tmp_path, "x = INTEG(RANDOM 0 1(), 0) ~~|\n")
    with pytest.raises(DesignError, match="'x', a stock of model 'm'; give its random call a variable"):
        vf.simulate(model, noise={"x": GOOD})


# ------------------------------------------------------------------------------------------ bad arguments

ILL = [
    "RANDOM UNIFORM(5, 1, 0)",
    "RANDOM NORMAL(5, 1, 0, 1, 0)",
    "RANDOM NORMAL(-5, 5, 0, -1, 0)",
    "RANDOM NORMAL(50, 60, 0, 1, 0)",
    "RANDOM NORMAL(1, 2, 0, 0, 0)",
    "RANDOM EXPONENTIAL(-5, -1, 0, 1, 0)",
    "RANDOM TRIANGULAR(0, 9, 0, 5, 4, 0)",
    "RANDOM TRIANGULAR(0, 9, 4, 4, 4, 0)",
    "RANDOM TRIANGULAR(5, 9, 0, 1, 4, 0)",
    "RANDOM BETA(0, 1, 0, 1, 0, 1, 0)",
    "RANDOM BETA(2, 3, 1, 1, 0, 1, 0)",
    "RANDOM WEIBULL(0, 9, -1, 0, 1, 0)",
    "RANDOM WEIBULL(-9, -1, 1, 0, 1, 0)",
    "RANDOM POISSON(0, 9, -1, 0, 1, 0)",
    "RANDOM POISSON(1.2, 1.8, 1, 0, 1, 0)",
    "RANDOM BINOMIAL(0, 9, 1.2, 5, 0, 1, 0)",
    "RANDOM BINOMIAL(0, 9, -0.2, 5, 0, 1, 0)",
    "RANDOM BINOMIAL(0, 9, 0.2, 5.5, 0, 1, 0)",
    "RANDOM NEGATIVE BINOMIAL(0, 9, 0, 5, 0, 1, 0)",
    "RANDOM NEGATIVE BINOMIAL(0, 9, 1.5, 5, 0, 1, 0)",
    "RANDOM NEGATIVE BINOMIAL(0, 9, 0.5, 0, 0, 1, 0)",
    "RANDOM PINK NOISE(0, 1, 0.4, 0)",
]


@pytest.mark.parametrize("equation", ILL)
def test_arguments_without_a_distribution_are_named(tmp_path, equation):
    with pytest.raises(SimulationError, match="'x' is nan at time"):
        vf.simulate(vensim(tmp_path, f"x = {equation} ~~|\n"))


SURE = {
    "RANDOM UNIFORM(2, 2, 0)": 2,
    "RANDOM NORMAL(-5, 5, 3, 0, 0)": 3,
    "RANDOM NORMAL(3, 5, 3, 0, 0)": 3,
    "RANDOM EXPONENTIAL(0, 9, 4, 0, 0)": 4,
    "RANDOM POISSON(0, 9, 0, 0, 1, 0)": 0,
    "RANDOM POISSON(0, 9, 3, 7, 0, 0)": 7,
    "RANDOM BINOMIAL(0, 9, 1, 5, 0, 1, 0)": 5,
    "RANDOM BINOMIAL(0, 9, 0, 5, 0, 1, 0)": 0,
    "RANDOM NEGATIVE BINOMIAL(0, 9, 1, 5, 0, 1, 0)": 5,
}


@pytest.mark.parametrize("equation", SURE)
def test_certain_outcomes(tmp_path, equation):
    assert (draws(vensim(tmp_path, f"x = {equation} ~~|\n"), n=3) == SURE[equation]).all()


def test_a_deviation_of_zero_switches_noise_off_for_one_member(noisy):
    ds = vf.simulate(noisy, {"sd": [0.0, 3.0]}, save=["demand"])
    assert (ds["demand"].values[0] == 10).all()
    assert ds["demand"].values[1].std() > 1


@pytest.mark.parametrize(
    ("equation", "match"),
    [
        ("RANDOM NORMAL(0, 1, 2, 3)", "'random_normal' with 4 arguments; it takes 5"),
        ("RANDOM UNIFORM()", "'random_uniform' with .* arguments; it takes 3"),
    ],
)
def test_wrong_number_of_arguments(tmp_path, equation, match):
    with pytest.raises(LoweringError, match=match):
        vensim(tmp_path, f"x = {equation} ~~|\n")


def test_optional_arguments_are_counted(tmp_path):
    with pytest.raises(LoweringError, match="'normal' with 6 arguments; it takes 2 to 5"):
        xmile(tmp_path, "NORMAL(0, 1, 2, -3, 3, 1)")


def test_functions_of_uncertain_meaning_are_refused_with_the_reason(tmp_path):
    with pytest.raises(UnsupportedError, match=r"'random_gamma', which is not supported: .*different means"):
        vensim(tmp_path, "x = RANDOM GAMMA(0, 9, 2, 0, 1, 0) ~~|\n")
    with pytest.raises(UnsupportedError, match=r"'poisson', which is not supported: .*Stella"):
        xmile(tmp_path, "POISSON(3)")


@pytest.mark.parametrize("control", ["TIME STEP", "FINAL TIME"])
def test_time_grid_cannot_be_drawn(tmp_path, control):
    path = tmp_path / "m.mdl"
    text = "{UTF-8}\nx = RANDOM UNIFORM(1, 2, 0) ~~|\n" + CONTROLS
    path.write_text(text.replace(f"{control} = ", f"{control} = x + "))
    with pytest.raises(DesignError, match=f"{control} depends"):
        vf.simulate(vf.read_model(path))


def test_delay_time_that_is_drawn_counts_as_changing(tmp_path):
    fixed = vensim(tmp_path, "x = DELAY N(Time, 3, 0, 3) ~~|\n")
    drawn = vensim(tmp_path, "x = DELAY N(Time, RANDOM UNIFORM(2, 4, 0), 0, 3) ~~|\n")
    assert (len(fixed.delays), len(drawn.delays)) == (0, 1)  # of the outflow, which follows a step late


# ------------------------------------------------------------------------------------- arrays and macros

ARRAY = """region: north, south ~~|
demand[region] = RANDOM NORMAL(-30, 30, base[region], 1, 0) ~~|
base[region] = 4, 6 ~~|
total = SUM(demand[region!]) ~~|
each[region] = RANDOM 0 1() ~~|
"""


def test_elements_have_streams_of_their_own(tmp_path):
    model = vensim(tmp_path, ARRAY)
    assert model.random_variables() == ("demand[north]", "demand[south]", "each[north]", "each[south]")
    ds = vf.simulate(model, members(50))
    demand = ds["demand"].values
    assert abs(np.corrcoef((demand - [4, 6]).reshape(-1, 2).T)[0, 1]) < 0.05
    np.testing.assert_allclose(demand.sum(axis=-1), ds["total"].values)
    key = stream_keys(0, ["each[south] 1"])[0].tolist()
    assert ds["each"].sel(region="south").values[3, 7] == uniform(key, 3, 7, 0.0)
    again = vf.simulate(model, members(50), noise={"Demand[South]": ds["demand"].sel(region="south", drop=True)})
    assert again["total"].values.tobytes() == ds["total"].values.tobytes()


def test_uses_of_a_macro_have_streams_of_their_own(tmp_path):
    path = tmp_path / "m.mdl"
    macro = """{UTF-8}
:MACRO: JITTER(x)
JITTER = x + RANDOM 0 1() ~~|
:END OF MACRO:
a = JITTER(0) ~~|
b = JITTER(0) ~~|
"""
    path.write_text(macro + CONTROLS)
    ds = vf.simulate(vf.read_model(path), members(20))
    assert (ds["a"] != ds["b"]).all()
    assert abs(np.corrcoef(ds["a"].values.ravel(), ds["b"].values.ravel())[0, 1]) < 0.1
