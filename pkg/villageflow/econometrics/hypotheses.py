"""The hypotheses on the shipped panels: which claims are made, what they rest on, what cannot be told."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import pandas as pd

from villageflow.datasets import build
from villageflow.econometrics.claims import Claim
from villageflow.econometrics.robustness import Choices, Restriction
from villageflow.econometrics.spec import Clustered, Jackknife, Spec, Unadjusted
from villageflow.econometrics.staggered import StaggeredSpec
from villageflow.econometrics.studies import prepare_counties
from villageflow.errors import EstimationError, did_you_mean


def claim_panels() -> dict[str, pd.DataFrame]:
    """The shipped panels that `CLAIMS` are about, by name, with the columns that they read.

    ``provinces`` has ``villages_where_any`` (missing where there is none) and ``first_listed``: the first year with a
    village on a roster, missing if there was none by 2016, when the last complete roster appeared; 2014 stands for
    2014 or before. ``nation`` has ``year``.
    """
    provinces, nation = build("provinces"), build("nation")
    villages = provinces["taobao_villages"]
    where_any = villages.where(villages > 0)
    years = provinces.index.get_level_values(1).to_series(index=provinces.index)
    rostered = (villages > 0) & years.isin(ROSTERS)
    first = years.where(rostered).groupby(level=0).transform("min").astype("float64")
    return {
        "provinces": provinces.assign(villages_where_any=where_any, first_listed=first),
        "counties": prepare_counties(build("counties")),
        "nation": nation.assign(year=nation.index.get_level_values(1).astype(float)),
    }


@cache
def _questions() -> pd.DataFrame:
    return pd.read_csv(Path(__file__).parent / "hypotheses.csv", dtype=str, encoding="utf-8").set_index("hypothesis")


def questions(status: str | None = None) -> pd.DataFrame:
    """All hypotheses, indexed by their number: model, question, sign, parameter, status, needed.

    Parameters
    ----------
    status : str, optional
        ``estimated`` or ``not answerable``; all by default.

    Raises
    ------
    EstimationError
        If no hypothesis has this status.
    """
    table = _questions()
    if status is None:
        return table.copy()
    if status not in set(table["status"]):
        raise EstimationError(f"No hypothesis has the status {status!r}. {did_you_mean(status, table['status'])}")
    return table[table["status"] == status].copy()


# --- the claims --------------------------------------------------------------------------------------------------

_LABEL = "lag(log1p(taobao_villages))"
_RURAL = "d(ln(rural_population))"
_OWN, _ELSEWHERE, _FURTHER = (f"log1p(lag({name}))" for name in ("villages", "elsewhere", "neighbours_province"))
_RETURN = "return hazard and income response of the population submodel (village_cluster, county_takeoff)"
_ENTRY = "imitation and ceiling of openings (village_cluster)"
_CONTAGION = "contagion share of the drift (national_diffusion)"
_DIFFUSION = "drift, decay and pool (national_diffusion)"
_CITY = Clustered(("city",))


def _provinces(formula: str, *times: int) -> Spec:
    return Spec(formula, "within", ("entity", "time"), Clustered(), times=times)


def _counties(formula: str, *effects: str) -> Spec:
    return Spec(formula, "poisson", effects, _CITY, times=(2015, 2016))


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "return_after_label", "H01", "The rural population grows faster the year after more villages are listed.",
        "provinces", _provinces(f"{_RURAL} ~ {_LABEL}", 2015, 2016, 2017), _LABEL, "+", _RETURN, primary=True,
        caution="net growth of the rural population, in which births, deaths and reclassified places are contained",
    ),
    Claim(
        "return_with_controls", "H01", "The same beside digital finance and product per head.", "provinces",
        _provinces(f"{_RURAL} ~ {_LABEL} + lag(digital_finance) + lag(ln(gdp_per_head))", 2015, 2016, 2017), _LABEL,
        "+", _RETURN,
    ),
    Claim(
        "return_two_years_after", "H01", "The same two years after.", "provinces",
        _provinces(f"{_RURAL} ~ lag(log1p(taobao_villages), 2)", 2016, 2017, 2018), "lag(log1p(taobao_villages), 2)",
        "+", _RETURN,
    ),
    Claim(
        "residents_after_label", "H01", "The resident population grows faster the year after.", "provinces",
        _provinces(f"d(ln(resident_population)) ~ {_LABEL}", 2015, 2016, 2017), _LABEL, "+", _RETURN,
    ),
    Claim(
        "return_and_digital_finance", "H01", "The rural population grows faster after digital finance spreads.",
        "provinces", _provinces(f"{_RURAL} ~ lag(digital_finance) + lag(ln(gdp_per_head))", *range(2012, 2023)),
        "lag(digital_finance)", "+", _RETURN, caution="product per head contains the population of the year before",
    ),
    Claim(
        "growth_before_label", "H01",
        "Villages do not explain growth of the rural population before they were listed.",
        "provinces", _provinces(f"lag({_RURAL}, 3) ~ {_LABEL}", 2015, 2016, 2017), _LABEL, "0",
        "none: a placebo outcome",
    ),
    Claim(
        "imitation", "H02", "Villages beget villages in their county, beyond regression to the mean.", "counties",
        _counties(f"villages ~ {_OWN}", "province*time"), _OWN, "+", _ENTRY, yardstick="placebo",
    ),
    Claim(
        "saturation", "H02", "Growth falls with the number of villages, net of noise in it.", "counties",
        Spec("d(log1p(villages)) ~ [lag(log1p(villages)) ~ lag(log1p(villages), 2)]", "iv2sls", ("province",), _CITY,
             times=(2016,)),
        "lag(log1p(villages))", "-", _ENTRY,
        caution="the count two years before is an instrument if its noise is independent of that a year later",
    ),
    Claim(
        "contagion", "H03", "Villages elsewhere in the city add villages, beyond regression to the mean.", "counties",
        _counties(f"villages ~ {_OWN} + {_ELSEWHERE}", "province*time"), _ELSEWHERE, "+", _CONTAGION,
        yardstick="placebo",
    ),
    Claim(
        "contagion_further_away", "H03", "So do villages in other cities of the province.", "counties",
        _counties(f"villages ~ {_OWN} + {_ELSEWHERE} + {_FURTHER}", "time"), _FURTHER, "+", _CONTAGION,
        yardstick="placebo", caution="without effects of provinces, which would absorb it",
    ),
    Claim(
        "advertising_over_commission", "H04", "What merchants pay for advertising grows faster than their commission.",
        "nation",
        Spec("ln(alibaba_marketing_revenue / alibaba_commission_revenue) ~ year", "within", (), Unadjusted()), "year",
        "+", "decisiveness of the contest and unpaid reach (village_cluster)", primary=True,
        caution="six fiscal years; commission is a share of the sales of some shops only",
    ),
    Claim(
        "growth_falls", "H14", "National growth falls with the number of villages.", "nation",
        Spec("d(ln(taobao_villages)) ~ lag(ln(taobao_villages))", "within", (), Unadjusted()),
        "lag(ln(taobao_villages))", "-", _DIFFUSION, caution="the rule for villages changed in 2020",
    ),
    Claim(
        "not_logistic", "H14", "A logistic curve leaves out that early growth falls fast (Gompertz).", "nation",
        Spec("d(ln(taobao_villages)) ~ lag(taobao_villages) + lag(ln(taobao_villages))", "within", (), Unadjusted()),
        "lag(ln(taobao_villages))", "-", _DIFFUSION, caution="the rule for villages changed in 2020",
    ),
    Claim(
        "growth_falls_in_provinces", "H14", "Growth in provinces falls with their number of villages.", "provinces",
        Spec("d(log1p(taobao_villages)) ~ lag(log1p(taobao_villages))", "within", ("time",), Clustered(),
             times=(2015, 2016)),
        "lag(log1p(taobao_villages))", "-", _DIFFUSION,
        caution="provinces without villages stay without and count as not growing",
    ),
    Claim(
        "growth_falls_where_listed", "H14", "The same among provinces that had a village the year before.", "provinces",
        Spec("d(ln(villages_where_any)) ~ lag(ln(villages_where_any))", "within", ("time",), Clustered(),
             times=(2015, 2016)),
        "lag(ln(villages_where_any))", "-", _DIFFUSION,
        caution="added after the claim before it was seen: zeros have no growth; noise in small counts gives a "
        "negative sign by itself",
    ),
)  # fmt: skip
"""All claims, fixed before their estimates but where the caution says otherwise."""


# --- what surrounds them -----------------------------------------------------------------------------------------

ROSTERS: Final = (2014, 2015, 2016)
"""Years with a complete roster."""

FIRST_LISTING: Final = {
    "group-time": StaggeredSpec("ln(rural_population) ~ 1", "first_listed", times=tuple(range(2011, 2017))),
    "imputation": StaggeredSpec(
        "ln(rural_population) ~ 1", "first_listed", method="imputation", control="not_yet",
        times=tuple(range(2011, 2017)),
    ),
}  # fmt: skip
"""The rural population around the first listed village of a province. Who was not listed by 2016 is the comparison,
and only until then. Interaction weights would repeat the group-time averages: without covariates, on a balanced panel
and against the never treated, the two are equal."""

_MUNICIPALITIES: Final = ("Beijing", "Shanghai", "Tianjin", "Chongqing")
_CONTROLS: Final = {
    "": "", " + finance": " + lag(digital_finance)", " + product": " + lag(ln(gdp_per_head))",
    " + finance + product": " + lag(digital_finance) + lag(ln(gdp_per_head))",
}  # fmt: skip
RETURN_CHOICES: Final = Choices(
    formulas={
        f"{outcome}{label}": (f"d(ln({outcome}_population)) ~ {_LABEL}{terms}", _LABEL)
        for outcome in ("rural", "resident")
        for label, terms in _CONTROLS.items()
    },
    effects={"province and year": ("entity", "time"), "year": ("time",)},
    samples={
        "2015-17": Restriction((2015, 2016, 2017)),
        "and 2019": Restriction((2015, 2016, 2017, 2019)),
        "without municipalities": Restriction((2015, 2016, 2017), _MUNICIPALITIES),
        "without Tibet and Xinjiang": Restriction((2015, 2016, 2017), ("Tibet", "Xinjiang")),
    },
    errors={"clustered": Clustered(), "jackknife": Jackknife()},
)
"""Ways to ask whether people come back after villages are listed (H01)."""
