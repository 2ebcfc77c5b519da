"""Sizes of the covariances on panels of the village model: machinery, page, and the page against other seeds."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import special
from size_study import (
    COLUMNS,
    FACTORS,
    LEVEL,
    MAIN,
    N_POOL,
    N_REPLICATIONS,
    PAGE,
    SEED,
    SETTINGS,
    as_panel,
    conclusions,
    draw_panel,
    intervals,
    margin,
    reasons,
    rejection_rates,
    setting,
    verdict,
)

from villageflow.econometrics import estimate

NAMES = [one.name for one in SETTINGS]
OTHER_SEED = 2
MEANT = [(one.name, column) for one in SETTINGS for column in one.meant]
NOT_MEANT = [
    ("uneven", "unadjusted"),
    ("persistent", "unadjusted"), ("persistent", "robust"), ("persistent", "Driscoll-Kraay"), ("persistent", "Conley"),
    ("county", "unadjusted"), ("county", "village"),
    ("few counties", "village"), ("few unequal", "county"),
    ("national", "unadjusted"), ("national", "village"), ("news, 6 quarters", "Driscoll-Kraay"),
    ("near", "village"), ("far", "village"),
    ("count, persistent", "unadjusted"), ("count, persistent", "robust"), ("count, county", "village"),
]  # fmt: skip


def page_rates():
    """The sizes on the page: name of a setting -> frame as of `rejection_rates`, with sizes only."""
    text = PAGE.read_text(encoding="utf-8")
    tables = [part for part in text.split("\n\n") if part.startswith("| | ")][:2]
    found = {name: {} for name in NAMES}
    for table, columns in zip(tables, (MAIN, FACTORS), strict=True):
        header, _, *rows = table.splitlines()
        assert tuple(cell.strip() for cell in header.strip("| ").split("|")) == columns
        for row in rows:
            name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
            sizes = [re.sub("[^0-9.]", "", cell) for cell in cells]
            found[name] |= {column: float(size) / 100 for column, size in zip(columns, sizes, strict=True) if size}
    return {name: pd.DataFrame({"size": sizes}).loc[list(setting(name).columns)] for name, sizes in found.items()}


def assert_near(measured, n, expected, m):
    """Two rates of ``n`` and ``m`` replications differ by no more than four standard errors of the difference."""
    rate = (n * measured + m * expected + 1) / (n + m + 2)
    assert abs(measured - expected) <= 4 * np.sqrt(rate * (1 - rate) * (1 / n + 1 / m)) + 0.0005


def newey_west_size(n_periods, lags, n):
    """Size of the regression of a series on another of the same kind, by hand: what a kernel over time can reach."""
    rng = np.random.default_rng(OTHER_SEED)
    rejected = 0
    for _ in range(n):
        x, y = (z[1:] + z[:-1] / 3 for z in rng.normal(size=(2, n_periods + 1)))
        x, y = x - x.mean(), y - y.mean()
        b = x @ y / (x @ x)
        score = x * (y - b * x)
        spread = score @ score + 2 * sum((1 - j / (lags + 1)) * score[j:] @ score[:-j] for j in range(1, lags + 1))
        t = b * (x @ x) / np.sqrt(spread * n_periods / (n_periods - 2))
        rejected += abs(t) > special.stdtrit(n_periods - 1, 0.975)
    return rejected / n


# --- the machinery -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_intervals_are_those_of_estimate(name):
    one = setting(name)
    y, x = draw_panel(one, 0)
    columns = [column for column in one.columns if not COLUMNS[column].wild]
    for column, found in zip(columns, intervals(one, 0, SEED, columns)):
        result = estimate(one.spec(column), as_panel(one, y, x))
        lower, upper = result.conf_int(LEVEL).loc["x"]
        expected = result.params["x"], result.std_errors["x"], lower, upper, result.pvalues["x"]
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12, err_msg=column)


def test_a_replication_does_not_depend_on_what_else_is_asked():
    one = setting("few counties")
    both = intervals(one, 3, SEED, ["village", "wild bootstrap"])
    np.testing.assert_array_equal(both[1], intervals(one, 3, SEED, ["wild bootstrap"])[0])
    assert not np.array_equal(both, intervals(one, 4, SEED, ["village", "wild bootstrap"]))


def test_robust_errors_hold_for_independent_draws_and_unadjusted_ones_fail_for_persistent_ones():
    holds = rejection_rates(setting("anew"), 200, OTHER_SEED, ["robust"]).loc["robust", "size"]
    fails = rejection_rates(setting("persistent"), 200, OTHER_SEED, ["unadjusted"]).loc["unadjusted", "size"]
    assert 0.01 <= holds <= 0.11
    assert fails >= 0.15


# --- the page ----------------------------------------------------------------------------------------------------


def test_page_states_its_seeds_and_settings():
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"{N_POOL:,} members" in text and f"each of {N_REPLICATIONS:,} replications (seed {SEED})" in text
    for one in SETTINGS:
        assert f"- *{one.name}*: {one.words}" in text


@pytest.mark.parametrize(("name", "columns"), [("uneven", ["unadjusted", "robust"]), ("persistent", ["village"])])
def test_page_has_the_rates_of_this_tree(name, columns):
    found = rejection_rates(setting(name), N_REPLICATIONS, columns=columns)["size"]
    listed = page_rates()[name].loc[columns, "size"]
    np.testing.assert_allclose(found, listed, atol=0.00051, err_msg="run ./run python tests/statistical/size_study.py")


def test_page_concludes_what_its_table_says():
    assert conclusions(page_rates(), N_REPLICATIONS) in PAGE.read_text(encoding="utf-8")


def test_page_gives_a_reason_for_every_rate_outside_of_the_monte_carlo_error():
    text = reasons(page_rates(), N_REPLICATIONS)
    assert text in PAGE.read_text(encoding="utf-8")
    assert "not looked into" not in text, "look into it and give a reason in size_study.py"


def test_verdict_is_by_the_monte_carlo_error():
    assert margin(2000) == pytest.approx(0.01257, abs=1e-5)
    assert [verdict(rate, 2000) for rate in (0.037, 0.038, 0.062, 0.063)] == ["below", "within", "within", "above"]


# --- the page against other seeds --------------------------------------------------------------------------------


@pytest.mark.statistical
@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_the_page_are_met_with_another_seed(name):
    n = 100 if "wild bootstrap" in setting(name).columns else 300
    found = rejection_rates(setting(name), n, OTHER_SEED)["size"]
    for column, listed in page_rates()[name]["size"].items():
        assert_near(found[column], n, listed, N_REPLICATIONS)


@pytest.mark.statistical
@pytest.mark.parametrize("name", NAMES)
def test_the_coefficient_is_zero(name):
    estimates = np.array([intervals(setting(name), i, OTHER_SEED, ["robust"])[0, 0] for i in range(300)])
    assert abs(estimates.mean()) < 4 * estimates.std(ddof=1) / np.sqrt(len(estimates))


@pytest.mark.parametrize(("name", "column"), MEANT)
def test_no_covariance_fails_grossly_where_it_is_meant_to_hold(name, column):
    assert 0.02 < page_rates()[name].loc[column, "size"] < 0.12


@pytest.mark.parametrize(("name", "column"), NOT_MEANT)
def test_covariances_fail_visibly_where_they_are_not_meant_to_hold(name, column):
    assert column not in setting(name).meant
    assert page_rates()[name].loc[column, "size"] > 2 * (1 - LEVEL)


@pytest.mark.statistical
@pytest.mark.parametrize(("name", "lags"), [("news, 96 quarters", 3), ("news, 40 quarters", 3)])
def test_driscoll_kraay_does_as_well_as_newey_west_on_a_single_series(name, lags):
    n = 1000
    found = rejection_rates(setting(name), n, OTHER_SEED, ["Driscoll-Kraay"]).loc["Driscoll-Kraay", "size"]
    assert_near(found, n, newey_west_size(setting(name).n_periods, lags, 4000), 4000)


@pytest.mark.statistical
def test_poisson_with_few_clusters_needs_the_t_distribution():
    n = 400
    found = np.stack([intervals(setting("count, few"), i, OTHER_SEED, ["jackknife"])[0] for i in range(n)])
    t = np.abs(found[:, 0] / found[:, 1])
    used = np.mean(found[:, 4] < 0.05)
    assert used == np.mean(t > special.stdtrit(9, 0.975)) <= 0.05 + margin(n)
    assert used < np.mean(t > special.ndtri(0.975))


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("name", "column"),
    [("persistent", "village"), ("few counties", "jackknife"), ("news, 40 quarters", "Driscoll-Kraay")],
)
def test_a_false_value_is_rejected_far_more_often_than_the_true_one(name, column):
    found = rejection_rates(setting(name), 200, OTHER_SEED, [column]).loc[column]
    assert found["power"] > 0.5 > 4 * found["size"]
