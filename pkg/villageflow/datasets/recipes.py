"""Analysis panels of the shipped data: which tables are joined, and which columns are derived, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from villageflow.datasets.join import DESCRIBED, add_column, derive, join
from villageflow.datasets.panel import quietly_loaded
from villageflow.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Part:
    """A table that is joined.

    Parameters
    ----------
    panel : str
        A shipped panel or, if ``built``, another recipe.
    columns : tuple of str
        The columns to take.
    on : mapping of str to str
        As in `join`: key of the panel to index level of the part.
    prefix : str
        Put before the names of the columns, so that a figure of the nation is not read as one of a province.
    """

    panel: str
    columns: tuple[str, ...]
    on: Mapping[str, str] = field(default_factory=lambda: {"entity": "entity", "time": "time"})
    prefix: str = ""
    built: bool = False


@dataclass(frozen=True)
class Recipe:
    """A shipped panel, the parts joined to it, columns counted from it, and columns derived by terms."""

    base: str
    parts: tuple[Part, ...]
    counted: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    derived: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)


def recipe_names() -> tuple[str, ...]:
    """The names that `build` knows, in alphabetical order."""
    return tuple(sorted(_RECIPES))


def build(name: str) -> pd.DataFrame:
    """An analysis panel of the shipped data.

    Parameters
    ----------
    name : str
        ``provinces`` : 31 provinces, 2005-2024: covariates, Taobao villages and towns, counties with a village, entry
        and exit between rosters, demonstration counties, national series (prefix ``nation_``), and ``gdp_per_head``
        (yuan per person and year), ``digital_finance`` (index over 100), ``rural_share``.
        ``counties`` : 235 counties, 2014-2016: villages, covariates of the province (prefix ``province_``),
        ``elsewhere`` and ``neighbours_province``.
        ``nation`` : national series, 2009-2022, growth rates, and quotients such as retail sales per rural shop.

    Returns
    -------
    pandas.DataFrame
        Indexed (entity, time); ``attrs`` as in `load`, and ``merges`` with the audit of every join. Nothing is
        interpolated or imputed, and no year is moved: a join is on the year that a figure is filed under, and
        ``attrs["timing"]`` says what that means. Alibaba's fiscal year t ends on 31 March of t, so nine months of it
        lie in t-1: write ``lead(nation_alibaba_merchant_fees)`` for the fiscal year that begins in t. The warnings of
        columns are in ``attrs`` and are not logged.

    Raises
    ------
    DataError
        If no recipe has this name.
    """
    if name not in _RECIPES:
        raise DataError(f"No analysis panel is called {name!r}. {did_you_mean(name, _RECIPES)}")
    recipe = _RECIPES[name]
    panel = quietly_loaded(recipe.base)
    for part in recipe.parts:
        columns = list(part.columns)
        other = build(part.panel)[columns] if part.built else quietly_loaded(part.panel, columns)
        panel = join(panel, _prefixed(other, part.prefix), on=part.on, name=part.panel)
    if recipe.counted is not None:
        panel = recipe.counted(panel)
    panel = derive(panel, units=recipe.units, **recipe.derived)
    panel.attrs["warnings"] |= recipe.warnings
    return panel


def elsewhere(panel: pd.DataFrame) -> pd.Series[Any]:
    """Villages in the other counties of the city in the year.

    Parameters
    ----------
    panel : pandas.DataFrame
        Indexed (entity, time) with columns province, city, villages; one row per county.

    Returns
    -------
    pandas.Series
        float64. Complete although only counties that were ever listed have rows, because the others have none.
    """
    return _total(panel, "province", "city") - panel["villages"].astype("float64")


def neighbours_province(panel: pd.DataFrame) -> pd.Series[Any]:
    """Villages in the other cities of the province in the year; as `elsewhere` in all else."""
    return _total(panel, "province") - _total(panel, "province", "city")


def _total(panel: pd.DataFrame, *places: str) -> pd.Series[Any]:
    keys = [*(panel[place].to_numpy() for place in places), panel.index.get_level_values(1)]
    return panel["villages"].astype("float64").groupby(keys).transform("sum")


def _count_around(panel: pd.DataFrame) -> pd.DataFrame:
    for name, values, label in (
        ("elsewhere", elsewhere(panel), "Taobao villages in the other counties of the city"),
        ("neighbours_province", neighbours_province(panel), "Taobao villages in the other cities of the province"),
    ):
        panel = add_column(panel, name, values, unit="village", label=label, read=("villages",))
    return panel


def _prefixed(panel: pd.DataFrame, prefix: str) -> pd.DataFrame:
    attrs = dict(panel.attrs) | {
        key: {f"{prefix}{name}": value for name, value in panel.attrs.get(key, {}).items()} for key in DESCRIBED
    }
    panel = panel.add_prefix(prefix)
    panel.attrs = attrs
    return panel


_BY_YEAR: Final = {"time": "time"}
_PROVINCE_COVARIATES: Final = (
    "gdp", "resident_population", "rural_population", "urbanisation", "digital_finance_index", "digital_finance",
    "urban_rural_income_ratio", "government_expenditure", "secondary_value_added", "gdp_per_head", "rural_share",
    "counties_with_village", "taobao_villages",
)

_RECIPES: Final[Mapping[str, Recipe]] = {
    "provinces": Recipe(
        base="provinces",
        parts=(
            Part("counties_by_province",
                 ("counties_with_village", "counties_with_village_thesis_sample", "counties_total")),
            Part("entry_exit", ("unique0", "unique1", "survivors", "entrants", "exits_upper", "exits_lower")),
            Part("demonstration_counties",
                 ("demonstration_counties_new", "demonstration_counties_cumulative", "in_2016_programme_call",
                  "in_2017_programme_call")),
            Part("nation",
                 ("alibaba_merchant_fees", "alibaba_customer_management_revenue", "rural_online_retail",
                  "taobao_villages"), _BY_YEAR, "nation_"),
        ),
        derived={
            "gdp_per_head": "1e6 * gdp / resident_population",
            "digital_finance": "digital_finance_index / 100",
            "rural_share": "rural_population / resident_population",
        },
        units={"gdp_per_head": "yuan/(person*year)"},
    ),
    "counties": Recipe(
        base="counties",
        parts=(
            Part("provinces", _PROVINCE_COVARIATES, {"province": "entity", "time": "time"}, "province_", built=True),
            Part("nation", ("alibaba_merchant_fees", "rural_online_retail", "taobao_villages"), _BY_YEAR, "nation_"),
        ),
        counted=_count_around,
    ),
    "nation": Recipe(
        base="nation",
        parts=(
            Part("demonstration_counties", ("demonstration_counties_new", "demonstration_counties_cumulative")),
        ),
        derived={
            "merchant_fees_growth": "d(ln(alibaba_merchant_fees))",
            "commission_share": "alibaba_commission_revenue / alibaba_merchant_fees",
            "villages_growth": "d(ln(taobao_villages))",
            "towns_growth": "d(ln(taobao_towns))",
            "rural_online_retail_growth": "d(ln(rural_online_retail))",
            "migrant_workers_growth": "d(ln(migrant_workers_total))",
            "online_shops": "100 * rural_online_shops_second_source / rural_share_of_all_online_shops",
            "fees_per_shop": "1e6 * alibaba_merchant_fees / online_shops",
            "retail_per_rural_shop": "1e6 * rural_online_retail / rural_online_shops",
            "sales_per_village": "taobao_village_sales / taobao_villages",
        },
        units={
            "online_shops": "shop",
            "fees_per_shop": "yuan/(shop*year)",
            "retail_per_rural_shop": "yuan/(shop*year)",
        },
        warnings={
            "fees_per_shop": "fees of the fiscal year to 31 March over all online shops at the end of the year, whether"
            " they pay Alibaba or not: below what a paying shop pays",
        },
    ),
}
