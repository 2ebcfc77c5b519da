"""What merchants pay to the platform, as far as published accounts and bounds of sales go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def squeeze_bounds(nation: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """What merchants pay to the platform per shop and over sales, as far as accounts and bounds go.

    Parameters
    ----------
    nation, bounds : pandas.DataFrame
        The panels ``nation`` and ``nation_bounds`` of `villageflow.datasets.load`.

    Returns
    -------
    pandas.DataFrame
        Indexed by quantity: ``first``, ``last`` (years), ``lower``, ``upper``, ``unit``, ``from`` (which figures).
        Bounds are arithmetic on published figures: they hold no sampling error, and assume that a rounded figure is
        right to its last digit.

    Notes
    -----
    Fiscal years end on 31 March. Shops are known at the end of two calendar years, so growth of fees is taken
    between the fiscal years that end before and after: the bounds are the smaller and the larger of the two.
    """
    years, limits = nation.droplevel(0), bounds.droplevel(0)["value"]
    fees = years["alibaba_merchant_fees"].fillna(years["alibaba_customer_management_revenue"])
    rounding = 0.05e6  # a figure of 6.6 trillion stands for 6.55 to 6.65
    before = fees[2016] / limits[2016, "alibaba_china_retail_gmv"]
    sales = limits[2020, "alibaba_china_retail_gmv"]
    after = fees[2020] / (sales + rounding), fees[2020] / (sales - rounding)
    grown = sorted(np.log(fees[year + 1] / fees[year]) for year in (2016, 2017))
    shops = float(np.log(years["rural_online_shops"][2017] / years["rural_online_shops"][2016]))
    rows: dict[str, dict[str, Any]] = {
        "fees over sales, 2016": _bound(2016, 2016, 0.0, before, "1", "fees over sales of at least 3 trillion yuan"),
        "fees over sales, 2020": _bound(2020, 2020, *after, "1", "fees over sales of 6.6 trillion yuan, rounded"),
        "rise of fees over sales": _bound(2016, 2020, after[0] - before, after[1], "1", "the two rows above"),
        "growth of fees per rural shop": _bound(
            2016, 2017, grown[0] - shops, grown[1] - shops, "1/year",
            "log growth of fees less that of rural shops, if fees of rural shops grew like all",
        ),
    }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("quantity")


def _bound(first: int, last: int, lower: float, upper: float, unit: str, origin: str) -> dict[str, Any]:
    return {
        "first": first, "last": last, "lower": float(lower), "upper": float(upper), "unit": unit, "from": origin,
    }  # fmt: skip
