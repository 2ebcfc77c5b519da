"""Moments of a panel: each is what it says, and their covariance is that of resampled entities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from villageflow.calibrate.moments import (
    Auxiliary,
    Coefficients,
    Mean,
    ResidualDeviation,
    StandardDeviation,
    means_at,
)
from villageflow.econometrics.dynamic import DynamicSpec
from villageflow.econometrics.fit import estimate
from villageflow.econometrics.spec import Spec
from villageflow.errors import CalibrationError, EstimationError

WITHIN = Spec("ln(stores) ~ lag(ln(stores)) + price", effects=("entity",))
POOLED = Spec("ln(stores) ~ price", effects=())
EVERYTHING = Auxiliary((
    Coefficients(WITHIN), ResidualDeviation(WITHIN), Coefficients(POOLED, ("price",), "pooled"),
    Mean("ln(stores)"), StandardDeviation("ln(stores)"), *means_at("price", (2001, 2005)),
    StandardDeviation("price", (2003,)),
))


def simulated(seed=1, n=80, years=range(2000, 2007)):
    """Unbalanced: a tenth of the rows are absent, and of another tenth the price is not known."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([[f"v{i:03d}" for i in range(n)], years], names=["entity", "time"])
    effect = np.repeat(rng.normal(size=n), len(years))
    price = 0.5 * effect + rng.normal(size=len(index))
    log_stores = 1 + effect + 0.4 * price + rng.normal(size=len(index)) * 0.5
    panel = pd.DataFrame({"stores": np.exp(log_stores), "price": price}, index=index)
    panel["county"] = np.repeat(np.arange(n) // 4, len(years))
    panel.loc[rng.random(len(panel)) < 0.1, "price"] = np.nan
    return panel[rng.random(len(panel)) > 0.1]


def resampled(panel, rng):
    """Entities drawn with replacement, each draw an entity of its own."""
    rows = pd.Series(range(len(panel))).groupby(pd.factorize(panel.index.get_level_values(0))[0]).apply(np.array)
    drawn = [rows.iloc[j] for j in rng.integers(len(rows), size=len(rows))]
    taken = np.concatenate(drawn)
    entities = np.repeat(np.arange(len(drawn)), [len(part) for part in drawn])
    times = panel.index.get_level_values(1)[taken]
    return panel.iloc[taken].set_axis(pd.MultiIndex.from_arrays([entities, times], names=["entity", "time"]))


def test_every_moment_is_what_it_says():
    panel = simulated()
    found = EVERYTHING.values(panel)
    stores = np.log(panel["stores"])
    at = panel.index.get_level_values(1)
    fitted = estimate(WITHIN, panel)
    expected = {
        "lag(ln(stores))": fitted.params["lag(ln(stores))"],
        "price": fitted.params["price"],
        "residual deviation of ln(stores) ~ lag(ln(stores)) + price": np.sqrt(np.mean(fitted.residuals**2)),
        "pooled: price": estimate(POOLED, panel).params["price"],
        "mean of ln(stores)": stores.mean(),
        "deviation of ln(stores)": stores.std(ddof=0),
        "mean of price at 2001": panel["price"][at == 2001].mean(),
        "mean of price at 2005": panel["price"][at == 2005].mean(),
        "deviation of price at 2003": panel["price"][at == 2003].std(ddof=0),
    }
    assert list(found.index) == list(expected)
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-12)


def test_moments_with_and_without_covariance_are_equal():
    panel = simulated()
    pd.testing.assert_series_equal(EVERYTHING.values(panel), EVERYTHING.estimate(panel).values)


def test_the_covariance_is_symmetric_and_has_the_errors_of_each_regression_on_its_diagonal():
    panel = simulated()
    found = EVERYTHING.estimate(panel)
    assert found.n_clusters == 80
    np.testing.assert_array_equal(found.cov, found.cov.T)
    for spec, names in ((WITHIN, ["lag(ln(stores))", "price"]), (POOLED, ["pooled: price"])):
        errors = estimate(spec, panel).std_errors[-len(names):]
        np.testing.assert_allclose(found.std_errors[names], errors, rtol=0.01)  # another small-sample factor
    one = panel["price"][panel.index.get_level_values(1) == 2001].dropna()
    # an entity without the year has an influence of zero, and is still one of the clusters
    expected = one.std(ddof=0) / np.sqrt(len(one)) * np.sqrt(80 / 79)
    assert found.std_errors["mean of price at 2001"] == pytest.approx(expected, rel=1e-12)


def test_the_influence_of_an_entity_is_what_leaving_it_out_changes():
    panel = simulated(n=200)
    influence = EVERYTHING.estimate(panel).influence
    whole = EVERYTHING.values(panel)
    for entity in ("v003", "v017", "v111"):
        without = EVERYTHING.values(panel.drop(entity, level=0))
        change, spread = whole - without, influence.std()
        assert (abs(change - influence.loc[entity]) < 0.15 * np.maximum(abs(change), spread)).all()


def test_influences_sum_to_zero():
    influence = EVERYTHING.estimate(simulated()).influence
    assert (influence.sum().abs() < 1e-10 * influence.abs().sum()).all()


def test_the_joint_covariance_is_that_of_resampled_entities():
    panel, rng = simulated(n=150), np.random.default_rng(5)
    found = EVERYTHING.estimate(panel)
    draws = np.array([EVERYTHING.values(resampled(panel, rng)).to_numpy() for _ in range(200)])
    errors = found.std_errors.to_numpy()
    # Monte Carlo error of a deviation: 1/sqrt(2 * 200) = 5 percent; of a correlation: 1/sqrt(200) = 0.07
    np.testing.assert_allclose(draws.std(axis=0, ddof=1) / errors, 1, atol=0.18)
    correlation = found.cov.to_numpy() / np.outer(errors, errors)
    assert abs(np.corrcoef(draws.T) - correlation).max() < 0.25
    assert abs(correlation[0, 1:]).max() > 0.1  # stacked, not one by one


def test_clusters_coarser_than_entities_add_influences_up():
    panel = simulated()
    fine = EVERYTHING.estimate(panel)
    coarse = Auxiliary(EVERYTHING.statistics, "county").estimate(panel)
    assert coarse.n_clusters == 20 and coarse.cluster == "county"
    county = panel["county"].groupby(level=0).first()
    np.testing.assert_allclose(coarse.influence, fine.influence.groupby(county).sum(), rtol=1e-10, atol=1e-15)
    stacked = coarse.influence.to_numpy()
    np.testing.assert_allclose(coarse.cov, stacked.T @ stacked * 20 / 19, rtol=1e-12)


def test_other_estimators_serve_as_auxiliary_models():
    panel = simulated(n=60).dropna()
    count = Spec("stores ~ price", "poisson", ("entity",))
    changes = Spec("ln(stores) ~ price", "first_difference", ())
    dynamic = DynamicSpec("ln(stores) ~ lag(ln(stores)) + price")
    parts = tuple(Coefficients(spec, ("price",), name) for name, spec in
                  (("poisson", count), ("changes", changes), ("gmm", dynamic)))
    found = Auxiliary((*parts, ResidualDeviation(changes))).estimate(panel)
    for name, spec in (("poisson", count), ("changes", changes), ("gmm", dynamic)):
        fitted = estimate(spec, panel)
        assert found.values[f"{name}: price"] == pytest.approx(fitted.params["price"], rel=1e-9)
    assert (found.std_errors > 0).all()


def test_the_order_of_rows_does_not_matter():
    panel = simulated()
    other = EVERYTHING.estimate(panel.sample(frac=1, random_state=1))
    found = EVERYTHING.estimate(panel)
    np.testing.assert_allclose(other.values, found.values, rtol=1e-10)
    np.testing.assert_allclose(other.cov, found.cov, rtol=1e-8, atol=1e-14)


def refused(auxiliary, panel, pattern, error=CalibrationError):
    with pytest.raises(error, match=pattern) as caught:
        auxiliary.estimate(panel)
    assert "\n" not in str(caught.value)


def test_collinear_moments_are_named():
    thrice = Auxiliary((Mean("price"), Mean("2 * price", name="twice"), StandardDeviation("ln(stores)")))
    refused(thrice, simulated(), r"'mean of price', 'twice' are combinations")


def test_a_moment_that_does_not_vary_is_named():
    refused(Auxiliary((Mean("price"), Mean("0 * price"))), simulated(), r"'mean of 0 \* price' does not vary")
    refused(Auxiliary((StandardDeviation("0 * price"),)), simulated(), "does not vary")


def test_fewer_clusters_than_moments_are_refused():
    refused(Auxiliary(means_at("price", (2001, 2002, 2003))), simulated(n=3), "3 clusters .entity. for 3 moments")


@pytest.mark.parametrize(
    ("statistic", "pattern"),
    [
        (Coefficients(WITHIN, ("prise",)), "'prise' is not a term .* Did you mean 'price'"),
        (Mean("price", (1999,)), "time 1999 is not in the panel, which has 2000 to 2006"),
    ],
)
def test_unknown_terms_and_times_are_named(statistic, pattern):
    refused(Auxiliary((statistic,)), simulated(), pattern)


def test_an_unknown_column_is_named():
    refused(Auxiliary((Mean("ln(shops)"),)), simulated(), "shops", EstimationError)


def test_a_term_that_is_never_known_is_refused():
    refused(Auxiliary((Mean("price"),)), simulated().assign(price=np.nan), "not known in any row")
    refused(Auxiliary((Mean("price"),)), simulated().assign(price=np.inf), "is infinite in a row")


def test_two_moments_of_one_name_are_refused():
    refused(Auxiliary((Coefficients(WITHIN), Coefficients(POOLED))), simulated(), "two moments are called 'price'")


def test_clusters_that_vary_or_are_missing_within_entities_are_refused():
    statistics = (Mean("price"),)
    refused(Auxiliary(statistics, "county"), simulated().assign(county=lambda p: range(len(p))), "varies within")
    refused(Auxiliary(statistics, "county"), simulated().assign(county=np.nan), "is missing within")
    refused(Auxiliary(statistics, "province"), simulated(), "'province' is not a column")


def test_residuals_of_what_is_not_least_squares_are_refused():
    with pytest.raises(CalibrationError, match="'poisson' is not least squares"):
        ResidualDeviation(Spec("stores ~ price", "poisson"))


def test_an_auxiliary_model_needs_statistics():
    with pytest.raises(CalibrationError, match="one or more"):
        Auxiliary(())
    with pytest.raises(CalibrationError, match="Spec is no statistic"):
        Auxiliary((WITHIN,))


def test_a_panel_that_is_not_indexed_is_refused():
    refused(Auxiliary((Mean("price"),)), simulated().reset_index(), "not indexed")


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Coefficients("y ~ x"), "coefficients of a str; give a Spec"),
    (lambda: Coefficients(WITHIN, "price"), "terms 'price'; give a tuple"),
    (lambda: Coefficients(WITHIN, name=None), "has name None"),
    (lambda: ResidualDeviation("y ~ x"), "residual deviation of a str"),
    (lambda: ResidualDeviation(DynamicSpec("stores ~ lag(stores)")), "residual deviation of a DynamicSpec"),
    (lambda: Mean(None), "Mean of None; give a term"),
    (lambda: Mean("price", 2001), "times 2001; give a tuple of numbers"),
    (lambda: StandardDeviation("price", ("2001",)), "StandardDeviation of 'price' at times .'2001',."),
    (lambda: Auxiliary(Mean("price")), "a tuple of one or more statistics"),
    (lambda: Auxiliary((Mean("price"),), None), "cluster is None"),
    (lambda: Auxiliary((Mean("price"),)).values([1.0]), "the panel is a list"),
    (lambda: Auxiliary((Mean("price"),)).estimate(None), "the panel is a NoneType"),
])  # fmt: skip
def test_arguments_of_another_type_are_refused(make, words):
    with pytest.raises(CalibrationError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
