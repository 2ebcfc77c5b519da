"""The wild bootstrap against one that runs every regression again."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from villageflow.econometrics import Spec, first_difference, pooled, wild_bootstrap, within
from villageflow.econometrics.spec import Clustered
from villageflow.errors import EstimationError

GROUP = Clustered(("group",))


@pytest.fixture(scope="module")
def few(make_panel):
    """Eight groups of five entities, which time effects cut across."""
    panel = make_panel(n_entities=40, n_periods=5)
    return panel.assign(group=panel.index.get_level_values(0) % 8)


def dummies(frame, effects):
    parts = [pd.get_dummies(frame.index.get_level_values(name), dtype=float).to_numpy() for name in effects]
    return np.hstack([*parts, np.ones((len(frame), 0 if parts else 1))])


def by_brute_force(frame, effects, signs, null=0.0):
    """Statistics of all draws: dummies in every regression, outcomes rebuilt from restricted fits."""
    d = dummies(frame, effects)
    x, z, y = (frame[name].to_numpy() for name in ("x", "z", "y"))
    codes = pd.factorize(frame["group"])[0]

    def t_statistic(outcome):
        design = np.column_stack([x, z, d])
        params = np.linalg.lstsq(design, outcome, rcond=None)[0]
        residual = outcome - design @ params
        pinv = np.linalg.pinv(design)[0]
        meat = np.bincount(codes, pinv * residual)
        return (params[0] - null) / np.sqrt((meat**2).sum())

    restricted = np.column_stack([z, d])
    fit = restricted @ np.linalg.lstsq(restricted, y - null * x, rcond=None)[0] + null * x
    drawn = [t_statistic(fit + (y - fit) * sign[codes]) for sign in signs]
    return t_statistic(y), np.array(drawn)


@pytest.mark.parametrize("effects", [(), ("entity",), ("entity", "time"), ("time",)])
def test_enumerated_p_values_equal_a_bootstrap_that_runs_each_regression(few, effects):
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=8)))
    for frame in (few, few.assign(y=few["y"] - 0.4 * few["x"])):
        found = wild_bootstrap(Spec("y ~ x + z", "within", effects, GROUP), frame, "x")
        statistic, drawn = by_brute_force(frame, effects, signs)
        assert found.p_value == np.mean(np.abs(drawn) > abs(statistic) * (1 + 1e-9))
        assert found.enumerated and found.n_draws == 256 and found.n_clusters == 8
    assert found.p_value > 0


def test_the_interval_ends_where_a_bootstrap_of_that_null_rejects(few):
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=8)))
    found = wild_bootstrap(Spec("y ~ x + z", cov_type=GROUP), few, "x")
    for end, inside in ((found.lower, 1), (found.upper, -1)):
        p = []
        for null in (end + inside * 1e-4, end - inside * 1e-4):
            statistic, drawn = by_brute_force(few, ("entity", "time"), signs, null)
            p.append(np.mean(np.abs(drawn) > abs(statistic) * (1 + 1e-9)))
        assert p[0] > 0.05 >= p[1]
    assert found.lower < found.estimate < found.upper


def test_estimate_and_statistic_are_those_of_the_verbs(few):
    two_way = ("entity", "time")
    cases = ((within, "within", two_way), (pooled, "within", ()), (first_difference, "first_difference", ()))
    for verb, estimator, effects in cases:
        for convention in ("linearmodels", "fixest"):
            found = wild_bootstrap(Spec("y ~ x + z", estimator, effects, GROUP, convention), few, "z", n_draws=999)
            options = {"cluster": "group", "convention": convention}
            plain = verb("y ~ x + z", few, **options)
            assert_allclose([found.estimate, found.statistic], [plain.params["z"], plain.statistics["z"]], rtol=1e-9)


def test_neither_convention_nor_scale_nor_the_other_regressor_moves_a_p_value(few):
    plain = wild_bootstrap(Spec("y ~ x", cov_type=GROUP), few, "x")
    stata = wild_bootstrap(Spec("y ~ x", cov_type=GROUP, convention="stata"), few, "x")
    scaled = wild_bootstrap(Spec("y ~ x", cov_type=GROUP), few.assign(x=1e9 * few["x"]), "x")
    assert plain.p_value == stata.p_value == scaled.p_value
    assert_allclose(scaled.lower * 1e9, plain.lower, rtol=1e-5)


def test_drawn_weights_come_near_full_enumeration_and_follow_the_seed(few):
    spec = Spec("y ~ x + z", cov_type=GROUP)
    frame = few.assign(y=few["y"] - 0.3 * few["x"])
    exact = wild_bootstrap(spec, frame, "x").p_value
    some = [wild_bootstrap(spec, frame, "x", weights="webb", n_draws=4999, seed=seed) for seed in (1, 1, 2)]
    assert some[0] == some[1] and some[0].p_value != some[2].p_value
    assert not some[0].enumerated and "webb weights" in some[0].label
    assert abs(some[0].p_value - exact) < 0.08
    many = few.assign(group=few.index.get_level_values(0))
    drawn = wild_bootstrap(Spec("y ~ x + z"), many, "x", n_draws=999)
    assert not drawn.enumerated and drawn.n_clusters == 40


def test_columns_in_parts_give_the_same(few, monkeypatch):
    spec = Spec("y ~ x + z", cov_type=GROUP)
    whole = wild_bootstrap(spec, few, "x")
    monkeypatch.setattr("villageflow.econometrics.bootstrap._MOST_CELLS", 300)
    parts = wild_bootstrap(spec, few, "x")
    assert parts.p_value == whole.p_value
    assert_allclose(parts.upper, whole.upper, rtol=1e-9)


def test_the_size_is_right_with_eight_clusters_where_that_of_clustered_errors_is_not():
    rejected = {"bootstrap": 0, "normal": 0}
    n = 200
    for seed in range(n):
        rng = np.random.default_rng([3, seed])
        group = np.repeat(np.arange(8), 12)
        index = pd.MultiIndex.from_arrays([np.arange(96), np.zeros(96, dtype=int)], names=["entity", "time"])
        frame = pd.DataFrame({"x": rng.normal(size=8)[group] + rng.normal(size=96), "group": group}, index=index)
        frame["y"] = rng.normal(size=8)[group] + rng.normal(size=96)
        found = wild_bootstrap(Spec("y ~ x", "within", (), GROUP), frame, "x", level=0.9)
        rejected["bootstrap"] += found.p_value <= 0.05
        rejected["normal"] += abs(found.statistic) > 1.96
    assert 0.02 <= rejected["bootstrap"] / n <= 0.09
    assert rejected["normal"] / n > 0.12


REFUSED = {
    "poisson": (Spec("count ~ x", "poisson", cov_type=GROUP), {}, "for least squares, not Poisson"),
    "two-way": (Spec("y ~ x", cov_type=Clustered(("entity", "time"))), {}, "clustered one way"),
    "term": (Spec("y ~ x", cov_type=GROUP), {"term": "xx"}, "'xx' is not a term"),
    "draws": (Spec("y ~ x", cov_type=GROUP), {"n_draws": 9}, "n_draws is 9"),
    "weights": (Spec("y ~ x", cov_type=GROUP), {"weights": "mammen"}, "weights='mammen'"),
    "level": (Spec("y ~ x", cov_type=GROUP), {"level": 95}, "level is 95"),
    "five": (Spec("y ~ x", cov_type=Clustered(("time",))), {}, "5 clusters have 16 sign patterns up to sign"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_bootstrap_cannot_do_is_refused_by_name(few, case):
    spec, options, said = REFUSED[case]
    with pytest.raises(EstimationError, match=said):
        wild_bootstrap(spec, few, **({"term": "x"} | options))
