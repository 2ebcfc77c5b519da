"""What is replicated: a study is a design with known truth, the estimator that is tried on it, and its intervals."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import test_clustered_fit as clustered
import test_dynamic_bias as dynamic
import test_indirect_inference as matched
import test_posterior_calibration as posterior
from scipy import stats

import villageflow as vf
from evidence.closed import ClosedStores
from evidence.matching import Moments, Panels
from evidence.panels import Design
from evidence.systems import DIFFUSION, MIGRATION, STORES, System
from villageflow.calibrate.fit import cluster, fit
from villageflow.calibrate.indirect import indirect_inference
from villageflow.calibrate.likelihood import Observable
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.profile import profile
from villageflow.calibrate.ranks import rank_statistics
from villageflow.ir.model import Model

SEED = 2026
LEVEL = 0.95
TEST, RANKS, FLAG = "test", "ranks", "flag"
"""Columns that are no intervals: a p-value, a rank among posterior draws, 1 for what is flagged."""


class Row(NamedTuple):
    """What one replication says of one parameter by one interval; NaN ends where there is no interval."""

    parameter: str
    interval: str
    estimate: float
    lower: float = np.nan
    upper: float = np.nan


@dataclass(frozen=True, eq=False)
class Study:
    """A Monte Carlo study.

    Attributes
    ----------
    name, words : str
    kind : str
        Estimator, the table of the page that it belongs to.
    truth : mapping of str to float
    intervals : mapping of str to bool
        Intervals that are tried; whether they are meant for the design.
    n : int
        Replications.
    replicate : callable
        Number of a replication -> its rows; every draw is from a stream that the number and `SEED` name.
    """

    name: str
    words: str
    kind: str
    truth: Mapping[str, float]
    intervals: Mapping[str, bool]
    n: int
    replicate: Callable[[int], list[Row]] = field(repr=False)


def seed_of(name: str, replication: int) -> np.random.SeedSequence:
    """The stream of a replication of a study."""
    return np.random.SeedSequence(SEED, spawn_key=(zlib.crc32(name.encode()), replication))


# --- estimators --------------------------------------------------------------------------------------------------


def _rows(interval: str, params: pd.Series[float], ends: pd.DataFrame) -> list[Row]:
    lower, upper = ends.to_numpy(dtype=float).T
    return [Row(str(name), interval, *map(float, row)) for name, *row in zip(params.index, params, lower, upper)]


def _wald(params: pd.Series[float], errors: pd.Series[float], df: float = np.inf) -> pd.DataFrame:
    """Intervals of positive parameters that are symmetric in logs, as the package forms them."""
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, df)) * errors / params
    return pd.DataFrame({"lower": params * np.exp(-reach), "upper": params * np.exp(reach)})


def by_fit(problem: Problem, replication: int) -> list[Row]:
    """`fit` with the inverse Hessian and, of several entities, with errors clustered by entity."""
    plain = fit(problem, seed=replication, cov_type="hessian", n_draws=2)
    rows = _rows("Hessian", plain.params, plain.conf_int(LEVEL))
    if len(problem.entities) > 1:
        grouped = cluster(problem, plain)
        rows += _rows("clustered", grouped.params, grouped.conf_int(LEVEL))
    return rows


def by_profile(problem: Problem, replication: int, parameter: str) -> list[Row]:
    """Profile likelihood beside the interval of the inverse Hessian; an open side covers everything on it."""
    plain = fit(problem, seed=replication, n_draws=2)
    found = profile(problem, plain, parameters=[parameter], points=4, starts=1, seed=replication).to_frame()
    ends = found[["lower", "upper"]].astype(float).fillna({"lower": -np.inf, "upper": np.inf})
    own = plain.params[[parameter]]
    return _rows("profile", own, ends) + _rows("Hessian", own, plain.conf_int(LEVEL).loc[[parameter]])


def by_random_effects(target: Problem | ClosedStores, own: str, replication: int) -> list[Row]:
    """`fit_random_effects` with both kinds of errors."""
    found = vf.fit_random_effects(target, [own], seed=replication)
    return [
        *_rows("information", found.params, _wald(found.params, found.std_errors)),
        *_rows("sandwich", found.params, found.conf_int(LEVEL)),
    ]


def by_fixed_effects(target: Problem | ClosedStores, own: str, replication: int) -> list[Row]:
    """`fit_fixed_effects` with both kinds of errors."""
    found = vf.fit_fixed_effects(target, [own], seed=replication)
    many = len(target.entities) - 1
    return [
        *_rows("Hessian", found.params, _wald(found.params, found.std_errors)),
        *_rows("clustered", found.params, _wald(found.params, found.clustered_errors, many)),
    ]


# --- studies of the systems --------------------------------------------------------------------------------------


def _fitted(name: str, words: str, design: Design, n: int, *, hessian: bool = True) -> Study:
    many = design.n_entities > 1

    def replicate(i: int) -> list[Row]:
        return by_fit(design.problem(np.random.default_rng(seed_of(name, i))), i)

    intervals = {"Hessian": hessian, **({"clustered": True} if many else {})}
    kind = "fit, many entities" if many else "fit, one entity"
    return Study(name, words, kind, design.truth, intervals, n, replicate)


def _profiled(name: str, words: str, design: Design, n: int, *, meant: bool) -> Study:
    def replicate(i: int) -> list[Row]:
        return by_profile(design.problem(np.random.default_rng(seed_of(name, i))), i, "places")

    return Study(
        name, words, "profile likelihood", {"places": design.truth["places"]},
        {"profile": meant, "Hessian": False}, n, replicate,
    )  # fmt: skip


def _random(design: Design, n: int, *, closed: bool = False) -> Study:
    name, own = f"{design.system.name}, random effects", design.system.own
    truth = {**design.truth, f"sd({own})": design.effect}
    intervals = {"information": True, "sandwich": True}
    return Study(
        name, _differing(design), "random effects", truth, intervals, n,
        lambda i: by_random_effects(_target(design, name, i, closed), own, i),
    )  # fmt: skip


def _fixed(design: Design, n: int, *, closed: bool = False) -> Study:
    name, own = f"{design.system.name}, fixed effects", design.system.own
    truth = {name: value for name, value in design.truth.items() if name != own}
    intervals = {"Hessian": False, "clustered": False}
    return Study(
        name, f"{_differing(design)}, and is free for each", "fixed effects", truth, intervals, n,
        lambda i: by_fixed_effects(_target(design, name, i, closed), own, i),
    )  # fmt: skip


def _differing(design: Design) -> str:
    which = "stores" if design.measured else "both variables"
    return (
        f"{design.n_entities} entities, {which} in {design.n_times} years; `{design.system.own}` is lognormal over the "
        f"entities with standard deviation {design.effect} in logs"
    )


def _target(design: Design, name: str, i: int, closed: bool) -> Problem | ClosedStores:
    problem = design.problem(np.random.default_rng(seed_of(name, i)))
    return ClosedStores(design, problem) if closed else problem


def _matched(system: System, n: int, *, without: str = "", n_entities: int = 60) -> Study:
    """Indirect inference; with a simulator that lacks a parameter only its test is of interest."""
    design = Design(system, n_entities=n_entities, n_times=8, effect=0.3)
    more = f", {without} left out" if without else f", {n_entities} entities" if n_entities > 60 else ""
    name = f"{system.name}, indirect{more}"

    def replicate(i: int) -> list[Row]:
        real, drawn = (list(map(int, part.generate_state(2))) for part in seed_of(name, i).spawn(2))
        once = Panels(design, real, n_simulations=1)
        panel = once.panels(np.array([list(once.truth.values())]))[0][0]
        simulator = Panels(design, drawn, without=without)
        found = indirect_inference(simulator, Moments.of(design), panel, simulator.table(), seed=i, starts=2)
        assert found.p_value is not None
        rows = [] if without else _rows("indirect inference", found.params, found.conf_int())
        return [*rows, Row("J", TEST, found.p_value)]

    which = f"a simulator without {without}, which the panels have" if without else "the right simulator"
    words = f"{n_entities} entities, 8 years, 10 simulated panels, diagonal weights, {which}"
    truth = {} if without else Panels(design, [0]).truth
    meant = {} if without else {"indirect inference": True}
    return Study(name, words, "indirect inference", truth, {**meant, TEST: not without}, n, replicate)


# --- studies whose design belongs to a test ----------------------------------------------------------------------


@cache
def _model(name: str, text: str) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.mdl"
        path.write_text(text, encoding="utf-8")
        return vf.read_model(path)


def _share() -> Study:
    def replicate(i: int) -> list[Row]:
        problem = clustered.problem_of(_model("share", clustered.MODEL), i)
        return [row for row in by_fit(problem, i) if row.parameter != "spread"]

    return Study(
        "share, persistent errors",
        "30 entities, 12 years, errors with persistence 0.7, a level of its own for each entity taken out",
        "fit, many entities", {"growth_rate": clustered.GROWTH, "initial_share": clustered.START},
        {"Hessian": False, "clustered": True}, 1000, replicate,
    )  # fmt: skip


def _nickell() -> Study:
    def replicate(i: int) -> list[Row]:
        panel = dynamic.simulate_panel(2, i)
        rows = []
        for name, estimator in (("within", dynamic.within_by_hand), ("difference GMM", dynamic.two_step_difference)):
            value, error, reach = estimator(panel)
            rows.append(Row("rho", name, float(value), float(value - reach * error), float(value + reach * error)))
        found = matched.replicate(i, matched.BIASED)
        return [*rows, Row("rho", "indirect inference", found.rho, found.lower, found.upper)]

    return Study(
        "dynamic panel", "100 entities, 8 periods and a lag, rho 0.7", "dynamic panel", {"rho": dynamic.RHO},
        {"within": False, "difference GMM": False, "indirect inference": False}, 300, replicate,
    )  # fmt: skip


def _loop_test(weights: str, *, omitted: bool, n: int) -> Study:
    def replicate(i: int) -> list[Row]:
        panel = matched.with_loop(i) if omitted else None
        found = matched.replicate(i, matched.LOOP, weights=weights, panel=panel, n_simulations=5)
        return [Row("J", TEST, found.p_value)]

    name = f"dynamic panel, {weights} weights" + (", feedback left out" if omitted else "")
    words = "as the dynamic panel, with a second regression and five simulated panels"
    if omitted:
        words += "; the panels have a loop from y to x that the simulator lacks"
    return Study(name, words, "indirect inference", {}, {TEST: not omitted}, n, replicate)


def _ranks() -> Study:
    """Ten ranks for each replication, which is the least that `rank_statistics` draws."""

    def replicate(i: int) -> list[Row]:
        rows = pd.DataFrame({
            "entity": "v", "time": np.tile(np.arange(1.0, 7.0), 2), "observable": np.repeat(["youth", "age"], 6),
            "value": 10.0, "comparator": "=", "source_id": [f"s{k}" for k in range(12)],
        })
        problem = Problem(
            model=_model("ageing", posterior.MODEL), method="rk4", measurements=rows, parameters=posterior.PARAMETERS,
            observables=(
                Observable("youth", "young", "level", "lognormal", "spread", "thing"),
                Observable("age", "old", "count", "poisson", None, "thing"),
            ),
        )  # fmt: skip
        found = rank_statistics(
            problem, lambda drawn: replace(problem, measurements=drawn), n_replications=10, walkers=16, steps=500,
            n_draws=N_RANKED, seed=int(seed_of("posterior ranks", i).generate_state(1)[0]),
        )
        return [Row(str(name), RANKS, float(rank)) for name in found.ranks for rank in found.ranks[name]]

    words = "two stocks, lognormal and Poisson noise, four kinds of prior; ranks of the truth among 49 draws"
    return Study("posterior ranks", words, "posterior", {}, {RANKS: True}, 10, replicate)


N_RANKED = 49
_PRODUCT = """{UTF-8}
level = INTEG(effort*skill*level*(1-level/900), 5) ~ thing ~|
effort = 1 ~ 1 ~|
skill = 0.6 ~ 1/Year ~|
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = 10 ~ Year ~|
TIME STEP = 0.125 ~ Year ~|
SAVEPER = 1 ~ Year ~|
"""


def _product() -> Study:
    name, frees = "product", (("effort", "skill"), ("skill",))

    def problem(rng: np.random.Generator, free: tuple[str, ...]) -> Problem:
        times = np.arange(1.0, 11.0)
        path = 900 / (1 + (900 / 5 - 1) * np.exp(-0.6 * times))
        rows = pd.DataFrame({
            "entity": "v", "time": times, "observable": "size", "value": path * np.exp(0.1 * rng.normal(size=10)),
            "comparator": "=", "source_id": "simulated",
        })
        return Problem(
            model=_model("product", _PRODUCT), method="rk4", measurements=rows,
            parameters=pd.DataFrame({"name": list(free), "scale": "log", "lower": 0.1, "upper": 4.0}),
            observables=(Observable("size", "level", "level", "lognormal", 0.1, "thing"),),
        )

    def flagged(i: int, free: tuple[str, ...]) -> Row:
        found = fit(problem(np.random.default_rng(seed_of(name, i)), free), seed=i, n_draws=2)
        return Row(" and ".join(free), FLAG, float(found.identifiability.rank < len(free)))

    words = "two constants that act through their product alone, and one of them alone"
    return Study(name, words, "identifiability", {}, {FLAG: True}, 20, lambda i: [flagged(i, free) for free in frees])


def _studies() -> Iterable[Study]:
    yield from _recovered(STORES, one=1000, many=400, indirect=1000)
    yield _share()
    effects = Design(STORES, n_entities=30, n_times=5, effect=0.3, measured=("stores",), free=("imitation", "places"))
    yield _random(effects, 1000, closed=True)
    yield _fixed(effects, 400, closed=True)
    short = Design(STORES, n_times=5, measured=("stores",), free=("imitation", "places"), noise_known=True)
    yield _profiled(
        "stores, before the ceiling", "one entity, stores in 5 years, which end before growth slows down; errors of "
        "known size", short, 1000, meant=True,
    )  # fmt: skip
    yield _nickell()
    for weights in ("diagonal", "optimal"):
        yield _loop_test(weights, omitted=False, n=600)
        yield _loop_test(weights, omitted=True, n=100)
    yield _matched(STORES, 100, without="competition")
    yield _matched(STORES, 1000, n_entities=240)
    yield _product()
    yield from _recovered(MIGRATION, one=400, many=400, indirect=400)
    yield from _recovered(DIFFUSION, one=400, many=400, indirect=400)
    yield _fitted(
        "stores, persistent errors", "60 entities with initial conditions of their own, stores in 8 years, errors with "
        "persistence 0.7",
        Design(STORES, n_entities=60, n_times=8, persistence=0.7, measured=("stores",), free=("imitation", "places")),
        1000, hessian=False,
    )  # fmt: skip
    yield _fitted(
        "stores, one, short", "one entity, both variables in 6 years: 12 numbers for 4 parameters",
        Design(STORES, n_times=6), 400, hessian=False,
    )  # fmt: skip
    yield _profiled(
        "stores, before the ceiling, errors unknown", "the same with the size of the errors estimated",
        replace(short, noise_known=False), 400, meant=False,
    )  # fmt: skip
    yield _ranks()


def _recovered(system: System, *, one: int, many: int, indirect: int) -> Iterable[Study]:
    """One entity, many entities, and many entities that differ, by indirect inference."""
    yield _fitted(
        f"{system.name}, one", "one entity, both variables in 48 quarters, independent errors",
        Design(system, n_times=48, save=0.25), one,
    )  # fmt: skip
    yield _fitted(
        f"{system.name}, many", "30 entities with initial conditions of their own, 8 years, independent errors",
        Design(system, n_entities=30, n_times=8), many,
    )  # fmt: skip
    yield _matched(system, indirect)


STUDIES: Mapping[str, Study] = {study.name: study for study in _studies()}
