"""Process noise: the filter's likelihood is the exact one where the model is linear, and that of the book elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.datasets
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, linalg, stats
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.tools.numdiff import approx_hess
from statsmodels.tsa.statespace.structural import UnobservedComponents

import villageflow as vf
from villageflow.calibrate.filtered import fit_process_noise, innovation_checks
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.processnoise import NoisyProblem, ProcessNoise
from villageflow.errors import CalibrationError

ENDS = """INITIAL TIME = {0} ~ Year ~|
FINAL TIME = {1} ~ Year ~|
TIME STEP = {2} ~ Year ~|
SAVEPER = {3} ~ Year ~|
"""
LEVEL = "{UTF-8}\nlevel = INTEG(0*start, start) ~ 1 ~|\nstart = 1000 ~ 1 ~|\n" + ENDS.format(1871, 1970, 1, 1)
TWO = """{UTF-8}
planned = INTEG(inflow - opening, 8) ~ store ~|
open = INTEG(opening - closing*open, 3) ~ store ~|
inflow = 2 ~ store/Year ~|
opening = planned/delay ~ store/Year ~|
delay = 1.5 ~ Year ~|
closing = 0.4 ~ 1/Year ~|
all = planned + 0.5*open ~ store ~|
""" + ENDS.format(0, 8, 0.0078125, 0.25)
LOGISTIC = """{UTF-8}
stores = INTEG(growth*stores*(1 - stores/ceiling), first) ~ store ~|
growth = 0.7 ~ 1/Year ~|
ceiling = 100 ~ store ~|
first = 5 ~ store ~|
""" + ENDS.format(0, 12, 0.03125, 0.5)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def read_text(text, name="model"):
        path = folder / f"{name}{abs(hash(text))}.mdl"
        path.write_text(text)
        return vf.read_model(path)

    return read_text


def rows(table):
    """Measurements from (entity, time, observable, value) or with from_time after them."""
    frame = pd.DataFrame(table, columns=["entity", "time", "observable", "value", "from_time"][:len(table[0])])
    return frame.assign(comparator="=", source_id=[f"s{i}" for i in range(len(frame))])


def of(entity, frame):
    return frame[frame["entity"] == entity]


def table(*ranges):
    return pd.DataFrame(ranges, columns=["name", "scale", "lower", "upper"])


# --- a local level: statsmodels and Durbin and Koopman ----------------------------------------------------------


@pytest.fixture(scope="module")
def nile(read):
    flow = statsmodels.datasets.nile.load_pandas().data["volume"].to_numpy()
    measurements = rows([("nile", 1871.0 + i, "flow", value) for i, value in enumerate(flow)])
    problem = Problem(
        model=read(LEVEL), parameters=table(("error", "log", 20, 500)),
        observables=(Observable("flow", "level", "level", "normal", "error"),), measurements=measurements,
    )

    def noisy(initial):
        return NoisyProblem(
            problem=problem, process_noise=[ProcessNoise("level", "drift", "additive", initial)],
            parameters=table(("drift", "log", 5, 200)),
        )

    reference = UnobservedComponents(flow, "llevel")
    reference.loglikelihood_burn = 0
    return noisy, reference


def test_likelihood_states_and_innovations_of_a_local_level_are_those_of_statsmodels(nile):
    noisy, reference = nile
    target = noisy(300.0)
    reference.ssm.initialize_known(np.array([1000.0]), np.array([[300.0**2]]))
    points = pd.DataFrame({"error": np.sqrt([15099, 9000.0]), "drift": np.sqrt([1469.1, 4000.0])})
    expected = [reference.loglike(pair) for pair in points.to_numpy() ** 2]
    assert_allclose(target.log_likelihood(points), expected, rtol=0, atol=1e-9)
    known = reference.smooth([15099, 1469.1])
    states, innovations = target.states(points.to_numpy()[0])
    assert_allclose(states["filtered"], known.filtered_state[0], rtol=1e-12)
    assert_allclose(states["filtered_sd"] ** 2, known.filtered_state_cov[0, 0], rtol=1e-12)
    assert_allclose(states["smoothed"], known.smoothed_state[0], rtol=1e-12)
    assert_allclose(states["smoothed_sd"] ** 2, known.smoothed_state_cov[0, 0], rtol=1e-11)
    assert_allclose(innovations["standardised"], known.standardized_forecasts_error[0], rtol=0, atol=1e-11)
    assert_allclose(innovations["predicted"], known.forecasts[0], rtol=1e-12)


def test_the_spread_of_the_start_may_be_a_parameter(nile):
    noisy, _ = nile
    named = replace(
        noisy(0.0), process_noise=[ProcessNoise("level", "drift", "additive", "Spread at start")],
        parameters=table(("drift", "log", 5, 200), ("spread at start", "log", 1, 1e5)),
    )
    point = pd.DataFrame({"error": [120.0], "drift": 40.0, "spread_at_start": 300.0})
    assert_array_equal(named.log_likelihood(point), noisy(300.0).log_likelihood(point))


def test_the_nile_has_the_variances_of_durbin_and_koopman_and_the_errors_of_the_hessian(nile):
    """Section 2.2.5: 15099 and 1469.1 under a diffuse start, here one of 10000 about 1000."""
    noisy, reference = nile
    target = noisy(1e4)
    result = fit_process_noise(
        target.problem, target.process_noise, parameters=target.parameters, seed=1, substeps=2
    )
    assert result.converged and result.at_bound == () and result.cov_type == "hessian"
    assert_allclose(result.params.to_numpy() ** 2, [15099, 1469.1], rtol=2e-4)
    assert result.loglik_change_at_half_step == pytest.approx(0.0, abs=1e-9)  # nothing moves the level but noise
    reference.ssm.initialize_known(np.array([1000.0]), np.array([[1e8]]))
    hessian = approx_hess(np.log(result.params.to_numpy()), lambda x: reference.loglike(np.exp(2 * x)))
    errors = np.sqrt(np.diag(np.linalg.inv(-hessian)))
    assert_allclose(result.std_errors, errors * result.params, rtol=1e-3)
    low, high = np.exp(np.log(result.params["drift"]) + 1.959964 * errors[1] * np.array([-1, 1]))
    assert_allclose(result.conf_int().loc["drift"], [low, high], rtol=2e-3)
    text = result.summary()
    assert "log likelihood" in text and "innovations of flow" in text and "NO;" not in text
    assert list(result.to_frame().index) == ["error", "drift"]
    known = acorr_ljungbox(result.innovations["standardised"], lags=[10])
    assert result.checks.loc["flow", "q"] == pytest.approx(float(known["lb_stat"].iloc[0]), rel=0.1)


def test_the_statistic_of_ljung_and_box_is_that_of_statsmodels_for_one_entity_and_pooled_for_more():
    values = np.random.default_rng(2).normal(size=60)
    values -= values.mean()
    one = pd.DataFrame({"entity": "a", "time": np.arange(60), "observable": "y", "standardised": values})
    found, known = innovation_checks(one).loc["y"], acorr_ljungbox(values, lags=[10]).iloc[0]
    assert_allclose([found["q"], found["p_value"]], [known["lb_stat"], known["lb_pvalue"]], rtol=1e-12)
    panel = pd.DataFrame({"entity": np.repeat([*"abcdefghij"], 6), "observable": "y", "standardised": values})
    pairs = values.reshape(10, 6)
    share = (pairs[:, 1:] * pairs[:, :-1]).sum() / (values**2).sum()
    assert innovation_checks(panel).loc["y", "q"] == pytest.approx(60 * 62 / 50 * share**2, rel=1e-12)
    moved = np.cumsum(values)
    assert innovation_checks(one.assign(standardised=moved)).loc["y", "p_value"] < 1e-6


# --- two linear stocks: a dense Gaussian likelihood ---------------------------------------------------------------

NOISE = np.array([0.6, 0.35])
START = np.array([0.5, 0.2])
ERRORS = {"open": 0.4, "all": 0.3, "net": 0.25}
FORMS = {"open": np.array([0.0, 1.0]), "all": np.array([1.0, 0.5]), "net": np.array([0.0, 1.0])}


def exact(measurements, delay, closing):
    """Mean and covariance of the measurements of one entity, and of them with the stocks at time 4."""
    a = np.array([[-1 / delay, 0.0], [1 / delay, -closing]])
    steady = -np.linalg.solve(a, [2.0, 0.0])

    def variance(t):
        block = linalg.expm(np.block([[-a, np.diag(NOISE**2)], [np.zeros((2, 2)), a.T]]) * t)
        move = block[2:, 2:].T
        return move @ block[:2, 2:] + move @ np.diag(START**2) @ move.T

    def shared(t, s):
        return (linalg.expm(a * (t - s)) @ variance(s)) if t >= s else shared(s, t).T

    rows_of, extra = measurements.to_dict("records"), [(4.0, np.array([1.0, 0.0])), (4.0, np.array([0.0, 1.0]))]
    parts = [[(row["time"], FORMS[row["observable"]])] for row in rows_of]
    for part, row in zip(parts, rows_of, strict=True):
        if row["observable"] == "net":
            part.append((row["from_time"], -FORMS["net"]))
    parts += [[one] for one in extra]
    mean = [sum(form @ (steady + linalg.expm(a * t) @ ([8, 3] - steady)) for t, form in part) for part in parts]
    cov = np.array([[
        sum(f @ shared(t, s) @ g for t, f in one for s, g in other) for other in parts] for one in parts
    ])
    spread = [ERRORS[row["observable"]] ** 2 for row in rows_of] + [0.0, 0.0]
    return np.array(mean), cov + np.diag(spread)


@pytest.fixture(scope="module")
def linear(read):
    """Three entities with times of their own, two observables at some times, and net flows that overlap."""
    rng = np.random.default_rng(5)
    nets = [
        ("a", 2.0, 0.5), ("a", 3.0, 1.0), ("a", 6.0, 4.0), ("a", 8.0, 6.0), ("b", 2.0, 0.25), ("b", 8.0, 5.0),
        ("c", 1.0, 0.0), ("c", 6.0, 1.0), ("c", 8.0, 7.0),
    ]
    parts = [(entity, stop, "net", rng.normal(), start) for entity, stop, start in nets]
    ends = {(entity, stop) for entity, stop, _ in nets}
    for entity, times in (("a", [0.5, 1, 2, 3, 4, 6]), ("b", [1, 4, 8]), ("c", [0, 0.25, 2, 5])):
        for time in map(float, times):
            parts.append((entity, time, "all", 8.0 + rng.normal(), np.nan))
            if (entity, time) not in ends:  # one variable is measured once at a time
                parts.append((entity, time, "open", 4.0 + rng.normal(), np.nan))
    observables = tuple(
        Observable(name, {"net": "open"}.get(name, name), "net_flow" if name == "net" else "level", "normal", error)
        for name, error in ERRORS.items()
    )
    measurements = rows(parts)
    problem = Problem(
        model=read(TWO), parameters=table(("delay", "log", 0.5, 5), ("closing", "log", 0.1, 1)), method="rk4",
        observables=observables, measurements=measurements,
    )
    noise = [ProcessNoise(stock, "noise of " + stock, "additive", start)
             for stock, start in zip(("planned", "open"), START, strict=True)]
    return NoisyProblem(
        problem=problem, process_noise=noise, substeps=256,
        parameters=table(("noise of planned", "log", 0.01, 2), ("noise of open", "log", 0.01, 2)),
    )


@pytest.mark.parametrize(("delay", "closing"), [(1.5, 0.4), (0.8, 0.15)])
def test_a_linear_model_has_the_likelihood_of_one_dense_normal_distribution(linear, delay, closing):
    values = np.array([[[delay, closing, *NOISE]] * 3])
    found = linear.entity_log_likelihood(values)[0]
    for entity, value in zip(linear.entities, found, strict=True):
        own = of(entity, linear.problem.measurements)
        mean, cov = exact(own, delay, closing)
        n = len(own)
        expected = stats.multivariate_normal.logpdf(own["value"], mean[:n], cov[:n, :n])
        assert value == pytest.approx(expected, abs=1e-6)
    point = pd.DataFrame([values[0, 0]], columns=linear.box.names)
    assert linear.log_likelihood(point)[0] == pytest.approx(found.sum(), abs=1e-10)


def test_smoothed_stocks_are_the_conditional_mean_and_deviation(linear):
    states, innovations = linear.states(np.array([1.5, 0.4, *NOISE]))
    for entity in linear.entities:
        own = of(entity, linear.problem.measurements)
        mean, cov = exact(own, 1.5, 0.4)
        n = len(own)
        weights = np.linalg.solve(cov[:n, :n], cov[:n, n:]).T
        expected = mean[n:] + weights @ (own["value"] - mean[:n])
        deviation = np.sqrt(np.diag(cov[n:, n:] - weights @ cov[:n, n:]))
        found = of(entity, states[states["time"] == 4]).set_index("stock").loc[["planned", "open"]]
        assert_allclose(found["smoothed"], expected, atol=1e-6)
        assert_allclose(found["smoothed_sd"], deviation, atol=1e-6)
    assert len(innovations) == len(linear.problem.measurements)


def test_more_substeps_come_closer(linear):
    point = pd.DataFrame([[1.5, 0.4, *NOISE]], columns=linear.box.names)
    best = linear.log_likelihood(point)[0]
    gaps = [abs(replace(linear, substeps=m).log_likelihood(point)[0] - best) for m in (2, 4, 8)]
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2] > 0
    uneven = replace(linear, substeps=6).log_likelihood(point)[0]  # of 32 steps
    assert gaps[2] < abs(uneven - best) < gaps[1]


def test_uneven_pieces_add_the_whole_noise(read):
    """Three, five and seven steps, whatever the pieces: the variance of a random walk grows by one a step."""
    steps = np.cumsum([1, 2, 3, 5, 7, 4])
    problem = Problem(
        model=read(LEVEL), parameters=table(("start", "lin", 0, 2000)),
        observables=(Observable("flow", "level", "level", "normal", 1.5),),
        measurements=rows([("a", 1871.0 + step, "flow", 1000.0 + step % 3) for step in steps]),
    )
    cov = np.minimum.outer(steps, steps) * 4.0 + 1.5**2 * np.eye(6)
    expected = stats.multivariate_normal.logpdf(1000.0 + steps % 3, np.full(6, 1000.0), cov)
    for substeps in (2, 4, 6, 8):
        noisy = NoisyProblem(
            problem=problem, process_noise=[ProcessNoise("level", 2.0, "additive")], substeps=substeps
        )
        assert noisy.log_likelihood(pd.DataFrame({"start": [1000.0]}))[0] == pytest.approx(expected, abs=1e-10)


# --- a logistic stock: the filter in closed form ------------------------------------------------------------------


def book_filter(times, values, growth, ceiling, first, sigma, error):
    """Extended Kalman filter of ln S with the logistic curve in closed form."""

    def moved(log, t):
        return log + growth * t - np.log1p(np.exp(log) * np.expm1(growth * t) / ceiling)

    def slope(log, t):
        return 1 / (1 + np.exp(log) * np.expm1(growth * t) / ceiling)

    now, mean, variance, value = 0.0, np.log(first), 0.0, 0.0
    for time, observed in zip(times, values, strict=True):
        span = time - now
        whole = slope(mean, span)
        added = integrate.quad(lambda s, m=mean, w=whole: (w / slope(m, s)) ** 2, 0, span, epsabs=1e-13)[0]
        mean, variance, now = moved(mean, span), whole**2 * variance + sigma**2 * added, time
        spread = variance + error**2
        innovation = np.log(observed) - mean
        value += stats.norm.logpdf(innovation, 0, np.sqrt(spread)) - np.log(observed)
        mean, variance = mean + variance / spread * innovation, variance * error**2 / spread
    return value, np.exp(mean), np.sqrt(variance)


TIMES = np.array([1.0, 1.5, 3, 4, 6, 8, 9, 12])
STORES = np.array([9.0, 14, 22, 41, 80, 71, 105, 90])


@pytest.fixture(scope="module")
def logistic(read):
    problem = Problem(
        model=read(LOGISTIC), method="rk4",
        measurements=rows([("a", *pair) for pair in zip(TIMES, ["stores"] * 8, STORES)]),
        parameters=table(("growth", "log", 0.2, 2), ("first", "log", 1, 20), ("error", "log", 0.01, 1)),
        observables=(Observable("stores", "stores", "level", "lognormal", "error"),),
    )
    return NoisyProblem(
        problem=problem, process_noise=[ProcessNoise("Stores", "drift")], parameters=table(("drift", "log", 0.01, 1)),
        substeps=96,
    )


def test_a_logistic_stock_has_the_likelihood_of_the_filter_in_closed_form(logistic):
    points = pd.DataFrame({
        "growth": [0.7, 0.4, 1.1], "first": [5.0, 8.0, 3.0], "error": [0.1, 0.3, 0.05], "drift": [0.2, 0.05, 0.5],
    })
    expected = [book_filter(TIMES, STORES, row.growth, 100.0, row.first, row.drift, row.error) for row in
                points.itertuples()]
    assert_allclose(logistic.log_likelihood(points), [one[0] for one in expected], rtol=0, atol=1e-6)
    states, _ = logistic.states(points.to_numpy()[0])
    last = states.iloc[-1]
    assert last["filtered"] == pytest.approx(expected[0][1], rel=1e-6)
    assert last["filtered_sd"] == pytest.approx(expected[0][1] * expected[0][2], rel=1e-6)
    assert last["smoothed"] == pytest.approx(last["filtered"], rel=1e-12)


# --- without noise, the problem itself ----------------------------------------------------------------------------

RICH = """{UTF-8}
stores[kind] = INTEG(growth[kind]*stores[kind]*(1 - SUM(stores[kind!])/ceiling) + help - lost[kind], first[kind]) ~ 1 ~|
kind: shop, workshop ~~|
growth[kind] = 0.6, 0.4 ~ 1/Year ~|
first[kind] = 5, 3 ~ 1 ~|
ceiling = 80 ~ 1 ~|
help = IF THEN ELSE(Time - INITIAL TIME < 2, 0.5, 0) + STEP(push, 2004.1) + pull*(FINAL TIME - Time)/10 ~ 1/Year ~|
push = 1 ~ 1/Year ~|
pull = 0.3 ~ 1/Year ~|
lost[kind] = DELAY3(0.1*stores[kind], 1.2) ~ 1/Year ~|
felt = SMOOTH(SUM(stores[kind!]), 0.7) ~ 1 ~|
share = stores[shop]/SUM(stores[kind!]) ~ 1 ~|
""" + ENDS.format(2001, 2011, 0.1, 0.5)


@pytest.fixture(scope="module")
def rich(read):
    rng = np.random.default_rng(3)
    parts = []
    for entity, last in (("north", 2009), ("south", 2010.5)):
        for time in np.arange(2002, last, 1.5):
            parts += [
                (entity, time, "shops", 20 * np.exp(rng.normal()), np.nan),
                (entity, time, "felt", 20 * np.exp(rng.normal()), np.nan),
                (entity, time, "share", 0.5 + 0.1 * rng.random(), np.nan),
                (entity, time, "opened", rng.normal(), time - 1.0),
            ]
    known = (2001, 2003.2, 2011)
    series = [(entity, "pull", time, 0.1 * time % 0.7) for entity in ("north", "south") for time in known]
    own = [("north", "first[shop]", np.nan, 4.0), ("south", "first[shop]", np.nan, 9.0)]
    return Problem(
        model=read(RICH.replace("pull = 0.3", "pull = 0.3 + 0*Time")), measurements=rows(parts), fixed={"push": 0.8},
        parameters=table(("growth[shop]", "log", 0.2, 2), ("ceiling", "log", 40, 200), ("error", "log", 0.05, 2)),
        observables=(
            Observable("shops", "stores[shop]", "level", "lognormal", "error"),
            Observable("felt", "felt", "level", "lognormal", 0.7),
            Observable("share", "share", "share", "logitnormal", 0.4),
            Observable("opened", "stores[workshop]", "net_flow", "normal", 1.3),
        ),
        covariates=pd.DataFrame([*series, *own], columns=["entity", "name", "time", "value"]).assign(source_id="made"),
    )


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_without_noise_the_likelihood_is_that_of_the_problem(rich, method):
    """Arrays, smooths, delays, events, the ends of the run in equations, covariates, net flows, every kind of noise."""
    problem = replace(rich, method=method)
    points = pd.DataFrame({"growth[shop]": [0.5, 0.9], "ceiling": [70.0, 150.0], "error": [0.3, 1.0]})
    for kind in ("proportional", "additive"):
        still = NoisyProblem(problem=problem, process_noise=[ProcessNoise("stores[shop]", 0.0, kind)])
        assert_allclose(still.log_likelihood(points), problem.log_likelihood(points), rtol=1e-10)
        moving = replace(still, process_noise=[ProcessNoise("stores[shop]", 0.3, kind)])
        assert (np.abs(moving.log_likelihood(points) - problem.log_likelihood(points)) > 0.1).all()
    assert {"stores[shop]", "stores[workshop]"} < set(still.space.uncertain)
    assert any(name.startswith("#") for name in still.space.uncertain)


def test_stocks_that_noise_does_not_reach_are_known_and_left_out(read):
    text = TWO.replace("opening = planned/delay", "opening = 3/delay + 0*planned")
    problem = Problem(
        model=read(text.replace(" + 0*planned", "")), method="rk4", parameters=table(("delay", "log", 0.5, 5)),
        observables=(Observable("planned", "planned", "level", "normal", 1.0),
                     Observable("open", "open", "level", "normal", 1.0)),
        measurements=rows([("a", 2.0, "planned", 7.0), ("a", 2.0, "open", 4.0)]),
    )
    noisy = NoisyProblem(problem=problem, process_noise=[ProcessNoise("open", 0.5, "additive")])
    assert noisy.space.uncertain == ("open",)
    states, innovations = noisy.states(np.array([1.5]))
    assert set(states["stock"]) == {"open"}
    assert innovations.set_index("observable").loc["planned", "std_dev"] == pytest.approx(1.0, rel=1e-12)


# --- the same bits -------------------------------------------------------------------------------------------------


def test_neither_the_order_of_entities_and_rows_nor_the_company_of_lanes_moves_a_bit(rich):
    points = pd.DataFrame({"growth[shop]": [0.5, 0.9, 0.7], "ceiling": [70.0, 150.0, 90.0], "error": [0.3, 1.0, 0.5]})
    noisy = NoisyProblem(problem=rich, process_noise=[ProcessNoise("stores[shop]", 0.2)])
    turned = replace(noisy, problem=replace(rich, measurements=rich.measurements.iloc[::-1]))
    assert turned.entities == noisy.entities[::-1]
    found = noisy.log_likelihood(points)
    assert_array_equal(turned.log_likelihood(points), found)
    many = noisy.log_likelihood(pd.concat([points] * 70, ignore_index=True))
    assert_array_equal(many, np.tile(found, 70))
    assert_array_equal(noisy.log_likelihood(points.iloc[1:2]), found[1:2])


def test_entities_with_parameters_of_their_own_stand_alone(rich):
    """What random effects need."""
    noisy = NoisyProblem(problem=rich, process_noise=[ProcessNoise("stores[shop]", 0.2)])
    values = np.array([[[0.5, 70.0, 0.3], [0.9, 150.0, 1.0]]])
    each = [noisy.entity_log_likelihood(np.repeat(values[:, j:j + 1], 2, axis=1))[0, j] for j in range(2)]
    assert_array_equal(noisy.entity_log_likelihood(values)[0], each)


def test_the_order_of_entities_moves_no_bit_of_a_fit(read):
    rng = np.random.default_rng(8)
    entities = [*"cabfedhg"]
    path = [*zip(TIMES[::2], STORES[::2])]
    parts = [(e, time, "stores", store * np.exp(0.2 * rng.normal())) for e in entities for time, store in path]
    text = LOGISTIC.replace("0.03125", "0.25")
    problem = Problem(
        model=read(text), measurements=rows(parts), method="rk4", parameters=table(("growth", "log", 0.2, 2)),
        observables=(Observable("stores", "stores", "level", "lognormal", 0.15),),
    )
    turned = replace(problem, measurements=problem.measurements.iloc[::-1])
    first, again = (
        fit_process_noise(one, [ProcessNoise("stores", "drift")], parameters=table(("drift", "log", 0.01, 1)), seed=2)
        for one in (problem, turned)
    )
    assert first.cov_type == "clustered" and first.df == 7.0 and first.n_entities == 8
    assert_array_equal(first.params, again.params)
    assert_array_equal(first.std_errors, again.std_errors)
    assert first.loglik == again.loglik and (first.starts == again.starts).all()
    clustered_by_hand(problem, first)


def clustered_by_hand(problem, result):
    """The sandwich from differences of the log likelihood of each entity alone."""
    centre, names = np.log(result.params.to_numpy()), list(result.params.index)

    def terms(x):
        found = []
        for entity in problem.entities:
            alone = replace(problem, measurements=of(entity, problem.measurements))
            noisy = NoisyProblem(problem=alone, process_noise=[ProcessNoise("stores", "drift")],
                                 parameters=table(("drift", "log", 0.01, 1)))
            found.append(noisy.log_likelihood(pd.DataFrame([np.exp(x)], columns=names))[0])
        return np.array(found)

    steps = 1e-4 * np.eye(2)
    scores = np.array([(terms(centre + step) - terms(centre - step)) / 2e-4 for step in steps])
    whole = NoisyProblem(problem=problem, process_noise=[ProcessNoise("stores", "drift")],
                         parameters=table(("drift", "log", 0.01, 1)))
    hessian = approx_hess(centre, lambda x: whole.log_likelihood(pd.DataFrame([np.exp(x)], columns=names))[0])
    bread = np.linalg.inv(-hessian)
    cov = bread @ scores @ scores.T @ bread * 8 / 7
    assert_allclose(result.transformed_cov.to_numpy(), cov, rtol=1e-2)


# --- what cannot be done is said ------------------------------------------------------------------------------------


def test_a_run_that_fails_has_no_density(logistic):
    points = pd.DataFrame({"growth": [0.7, 0.7], "first": [5.0, -2.0], "error": 0.1, "drift": 0.2})
    found = logistic.log_likelihood(points)
    assert np.isfinite(found[0]) and found[1] == -np.inf


def test_a_condition_on_the_state_is_named_in_the_notes(read):
    text = LOGISTIC.replace("growth*stores*", "IF THEN ELSE(stores > 50, 0.5, 1)*growth*stores*")
    problem = Problem(
        model=read(text), parameters=table(("growth", "log", 0.2, 2)), measurements=rows([("a", 4.0, "stores", 30.0)]),
        observables=(Observable("stores", "stores", "level", "lognormal", 0.2),),
    )
    noisy = NoisyProblem(problem=problem, process_noise=[ProcessNoise("stores", 0.1)])
    assert noisy.breaks == "a comparison in 'stores'"


BAD_MODELS = {
    "DELAY FIXED": ("late = DELAY FIXED(stores, 1, 5) ~ 1 ~|\n", "uses DELAY FIXED or PREVIOUS in 'late'"),
    "SAMPLE": ("kept = SAMPLE IF TRUE(stores > 9, stores, 5) ~ 1 ~|\n", "uses SAMPLE IF TRUE in 'kept'"),
    "INITIAL": ("began = INITIAL(2*stores) ~ 1 ~|\n", "uses INITIAL in 'began'"),
    "random": ("luck = RANDOM NORMAL(-1, 1, 0, 1, 7) ~ 1 ~|\n", "uses random numbers in 'luck'"),
}


@pytest.mark.parametrize("case", sorted(BAD_MODELS))
def test_a_model_that_remembers_more_than_its_stocks_is_refused_by_name(read, logistic, case):
    line, said = BAD_MODELS[case]
    model = read(LOGISTIC.replace("ceiling = 100", line + "ceiling = 100"))
    with pytest.raises(CalibrationError, match=said) as caught:
        replace(logistic, problem=replace(logistic.problem, model=model))
    assert "\n" not in str(caught.value)


def poisson(problem):
    return replace(problem, observables=(Observable("stores", "stores", "count", "poisson"),),
                   parameters=problem.parameters.iloc[:2])


BAD = {
    "no stock": (lambda n: {"process_noise": [ProcessNoise("growth", "drift")]}, "'growth', no stock of .*'stores'"),
    "twice": (lambda n: {"process_noise": [ProcessNoise("stores", "drift")] * 2}, "given twice for 'stores'"),
    "none": (lambda n: {"process_noise": []}, "there is no process noise"),
    "kind": (lambda n: {"process_noise": [ProcessNoise("stores", "drift", "log")]}, "kind 'log'"),
    "below zero": (lambda n: {"process_noise": [ProcessNoise("stores", -0.1)]}, "std_dev -0.1; it must be 0 or more"),
    "no row": (lambda n: {"process_noise": [ProcessNoise("stores", "shock")]}, "names 'shock', which has no row"),
    "useless row": (lambda n: {"process_noise": [ProcessNoise("stores", 0.1)]}, "'drift' is of no process noise"),
    "lower bound": (lambda n: {"parameters": table(("drift", "lin", 0, 1))}, "lower bound 0; a deviation"),
    "a name of the model": (
        lambda n: {"process_noise": [ProcessNoise("stores", "growth")], "parameters": table(("growth", "log", 0.1, 1))},
        "'growth' is a name of the model"),
    "odd substeps": (lambda n: {"substeps": 3}, "substeps is 3; Simpson's rule needs an even number"),
    "counts": (lambda n: {"problem": poisson(n.problem)}, "'stores' has poisson noise, which a Kalman filter"),
    "centred": (
        lambda n: {"problem": replace(n.problem, observables=(replace(n.problem.observables[0], centred=True),))},
        "'stores' is centred"),
    "a bound": (
        lambda n: {"problem": replace(n.problem, measurements=n.problem.measurements.assign(comparator=">="))},
        "stores of a at 1 is a bound"),
    "adaptive steps": (lambda n: {"problem": replace(n.problem, method="dopri5")}, "needs fixed steps"),
    "starts at zero": (
        lambda n: {"problem": replace(n.problem, parameters=n.problem.parameters.drop(index=1), fixed={"first": 0.0})},
        "proportional, and a starts with 0; start above 0"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_the_filter_cannot_take_is_refused_by_name(logistic, case):
    change, said = BAD[case]
    with pytest.raises(CalibrationError, match=said) as caught:
        replace(logistic, **change(logistic))
    assert "\n" not in str(caught.value)


def test_a_stock_that_steps_keep_above_zero_takes_no_additive_noise(read, logistic):
    model = logistic.problem.model
    kept = replace(model, stocks={name: replace(stock, non_negative=True) for name, stock in model.stocks.items()})
    problem = replace(logistic.problem, model=kept)
    with pytest.raises(CalibrationError, match="keep it from falling below zero"):
        replace(logistic, problem=problem, process_noise=[ProcessNoise("stores", "drift", "additive")])


def test_settings_of_a_fit_are_checked(rich, logistic):
    noise = {"process_noise": logistic.process_noise, "parameters": logistic.parameters}
    with pytest.raises(CalibrationError, match="starts is 5"):
        fit_process_noise(logistic.problem, **noise, seed=1, starts=5)
    with pytest.raises(CalibrationError, match="cov_type='robust' is not known"):
        fit_process_noise(logistic.problem, **noise, seed=1, cov_type="robust")
    own = replace(rich, parameters=rich.parameters.assign(effect=["random", "shared", "shared"]))
    with pytest.raises(CalibrationError, match="has effect 'random'"):
        fit_process_noise(own, [ProcessNoise("stores[shop]", 0.1)], seed=1)
    still = [ProcessNoise("stores[shop]", 0.1)]
    with pytest.raises(CalibrationError, match="clustered errors would be singular"):
        fit_process_noise(rich, still, seed=1)
