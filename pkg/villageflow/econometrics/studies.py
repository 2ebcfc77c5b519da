"""The regressions on the shipped panels, each declared once as data, and a placebo for what selection does.

Counties: villages on own lagged villages (crowding) and on lagged villages elsewhere in the city (contagion).
Provinces: growth of the rural population on digital finance, income ratio, product and urbanisation, and on
Taobao villages. The panels are arguments, so that the same studies run on simulated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from villageflow.datasets.recipes import elsewhere, neighbours_province
from villageflow.datasets.terms import evaluate
from villageflow.econometrics.dynamic import DynamicSpec, Instruments
from villageflow.econometrics.estimate import Estimate
from villageflow.econometrics.fit import coefficients, estimate
from villageflow.econometrics.placebo import mean_reversion_placebo
from villageflow.econometrics.spec import AnySpec, Clustered, Covariance, DriscollKraay, Estimator, Spec
from villageflow.errors import EstimationError, did_you_mean


@dataclass(frozen=True)
class Column:
    """One declared regression of a study."""

    label: str
    spec: AnySpec


@dataclass(frozen=True)
class Study:
    """A study as data: recipe of its panel, what is added to that, regressions by block, what to know."""

    title: str
    panel: str
    hypotheses: tuple[str, ...]
    prepare: Callable[[pd.DataFrame], pd.DataFrame]
    blocks: Mapping[str, tuple[Column, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """Estimates that stand side by side: same kind of covariance in all columns."""

    title: str
    columns: tuple[tuple[str, Estimate], ...]


@dataclass(frozen=True, eq=False)
class StudyTable:
    """What a study found, ready for `villageflow.report.tables`."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]

    def __getitem__(self, key: tuple[str, str]) -> Estimate:
        """The estimate at (block title, column label)."""
        for block in self.blocks:
            for label, result in block.columns:
                if (block.title, label) == key:
                    return result
        raise KeyError(key)


def study_names() -> tuple[str, ...]:
    """The names that `run_study` knows."""
    return tuple(sorted(STUDIES))


def run_study(name: str, panel: pd.DataFrame) -> StudyTable:
    """Run all regressions of a study.

    Parameters
    ----------
    name : str
        One of `study_names`.
    panel : pandas.DataFrame
        The panel that ``STUDIES[name].panel`` names, such as ``datasets.build("counties")``.

    Returns
    -------
    StudyTable
        One estimate per declared column; nothing is chosen by what was found.

    Raises
    ------
    EstimationError
        If the study is unknown or the panel does not support one of its regressions.
    """
    study = _study(name)
    prepared = study.prepare(panel)
    blocks = tuple(
        Block(title, tuple((column.label, estimate(column.spec, prepared)) for column in columns))
        for title, columns in study.blocks.items()
    )
    return StudyTable(name, study.title, blocks, study.notes)


def prepare_counties(panel: pd.DataFrame) -> pd.DataFrame:
    """Add to a county panel what is counted from its column villages.

    ``elsewhere`` and ``neighbours_province`` as in `villageflow.datasets.build`. ``villages_listed``,
    ``growth_listed`` : villages, and their growth, where the county had at least one the year before, else missing;
    such a county has rows whatever happened next, so this sample is not selected on the outcome.
    """
    counted = panel.assign(
        villages=panel["villages"].astype("float64"),
        elsewhere=elsewhere(panel),
        neighbours_province=neighbours_province(panel),
    )
    listed = evaluate("lag(villages)", counted) > 0
    return counted.assign(
        villages_listed=counted["villages"].where(listed),
        growth_listed=evaluate("d(log1p(villages))", counted).where(listed),
    )


def study_placebo(
    panel: pd.DataFrame, name: str = "county_crowding", *, n_draws: int = 200, seed: int = 20140101
) -> pd.DataFrame:
    """Every coefficient of a county study beside what regression to the mean alone gives.

    Parameters
    ----------
    panel : pandas.DataFrame
        The county panel: indexed (entity, time), columns province, city, villages.
    name : str
        A study on that panel.
    n_draws, seed : int
        As for `villageflow.econometrics.placebo.mean_reversion_placebo`.

    Returns
    -------
    pandas.DataFrame
        Indexed (block, column, term): ``estimate`` on the data, ``placebo_mean``, ``placebo_sd``, ``lower``
        and ``upper`` (2.5 and 97.5 percent of the draws), ``share_below`` (draws below the estimate),
        ``n_draws`` (draws in which the regression could be run).
    """
    study = _study(name)
    specs = {(title, column.label): column.spec for title, columns in study.blocks.items() for column in columns}
    draws = mean_reversion_placebo(panel, specs, prepare=study.prepare, n_draws=n_draws, seed=seed)
    prepared = study.prepare(panel)
    rows = {}
    for key, spec in specs.items():
        for term, value in coefficients(spec, prepared).items():
            rows[(*key, str(term))] = _summary(float(value), draws[key, str(term)])
    frame = pd.DataFrame(rows).T
    frame.index.names = ["block", "column", "term"]
    return frame.astype({"n_draws": "int64"})


def _study(name: str) -> Study:
    if name not in STUDIES:
        raise EstimationError(f"No study is called {name!r}. {did_you_mean(name, STUDIES)}")
    return STUDIES[name]


def _as_it_is(panel: pd.DataFrame) -> pd.DataFrame:
    return panel


def _summary(actual: float, draws: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    lower, upper = np.quantile(draws, [0.025, 0.975])
    return {
        "estimate": actual,
        "placebo_mean": float(draws.mean()),
        "placebo_sd": float(draws.std(ddof=1)),
        "lower": float(lower),
        "upper": float(upper),
        "share_below": float((draws < actual).mean()),
        "n_draws": float(len(draws)),
    }


def _columns(base: Spec, formulas: Mapping[str, str], **times: tuple[int, ...]) -> tuple[Column, ...]:
    """Columns that share everything but the formula and, where named by position, the times."""
    found = []
    for i, (label, formula) in enumerate(formulas.items(), start=1):
        spec = replace(base, formula=formula, times=times.get(f"column_{i}", base.times))
        found.append(Column(label, spec))
    return tuple(found)


def _county_base(estimator: Estimator) -> Spec:
    return Spec("", estimator, effects=("province*time",), cov_type=Clustered(("city",)), times=(2015, 2016))


def _province_base(cov: Covariance, times: tuple[int, ...]) -> Spec:
    return Spec("", "within", effects=("entity", "time"), cov_type=cov, times=times)


_OWN, _ELSEWHERE = "log1p(lag(villages))", "log1p(lag(elsewhere))"
_GROWTH = "d(ln(rural_population))"
_FINANCE, _RATIO = "lag(digital_finance)", "lag(urban_rural_income_ratio)"
_PRODUCT, _URBAN = "lag(ln(gdp_per_head))", "lag(urbanisation)"
_LABEL = "lag(log1p(taobao_villages))"
_ALL_YEARS = tuple(range(2012, 2023))
_PROVINCE_FORMULAS = {
    "all four": f"{_GROWTH} ~ {_FINANCE} + {_RATIO} + {_PRODUCT} + {_URBAN}",
    "without income ratio": f"{_GROWTH} ~ {_FINANCE} + {_PRODUCT} + {_URBAN}",
    "without urbanisation": f"{_GROWTH} ~ {_FINANCE} + {_RATIO} + {_PRODUCT}",
    "urbanisation two years before": f"{_GROWTH} ~ {_FINANCE} + {_RATIO} + {_PRODUCT} + lag({_URBAN})",
}

_DYNAMIC = DynamicSpec(
    f"ln(rural_population) ~ lag(ln(rural_population)) + {_FINANCE} + {_PRODUCT}",
    gmm=(Instruments("ln(rural_population)", 2, 4), Instruments("ln(gdp_per_head)", 2, 4)),
    iv=(_FINANCE,), collapse=True, time_effects=True, times=_ALL_YEARS,
)  # fmt: skip

STUDIES: Mapping[str, Study] = {
    "county_crowding": Study(
        title="Taobao villages by county, 2015 and 2016, on villages one year before",
        panel="counties",
        hypotheses=("H02", "H03"),
        prepare=prepare_counties,
        blocks={
            "Poisson (headline)": _columns(
                _county_base("poisson"),
                {
                    "own": f"villages ~ {_OWN}",
                    "own and elsewhere": f"villages ~ {_OWN} + {_ELSEWHERE}",
                    "2015": f"villages ~ {_OWN} + {_ELSEWHERE}",
                    "2016": f"villages ~ {_OWN} + {_ELSEWHERE}",
                    "listed before": f"villages_listed ~ {_OWN} + {_ELSEWHERE}",
                },
                column_3=(2015,),
                column_4=(2016,),
            ),
            "log growth": _columns(
                _county_base("within"),
                {
                    "own": f"d(log1p(villages)) ~ {_OWN}",
                    "own and elsewhere": f"d(log1p(villages)) ~ {_OWN} + {_ELSEWHERE}",
                    "2015": f"d(log1p(villages)) ~ {_OWN} + {_ELSEWHERE}",
                    "2016": f"d(log1p(villages)) ~ {_OWN} + {_ELSEWHERE}",
                    "listed before": f"growth_listed ~ {_OWN} + {_ELSEWHERE}",
                },
                column_3=(2015,),
                column_4=(2016,),
            ),
        },
        notes=(
            "Regressors are ln(1 + x) of counts, because many lagged counts are zero. Poisson "
            "keeps zero outcomes and estimates the log of the expected count; log growth is ln(1 + "
            "villages) less its lag, and its coefficient compares with the Poisson one less 1.",
            "Growth in proportion to the villages a county has does not give a coefficient of 1: ln(1 "
            "+ x) compresses small counts and noise in the lag flattens. The yardstick of both "
            "coefficients is the placebo, in which there is neither crowding nor contagion.",
            "Elsewhere: villages in the other counties of the same city, complete because counties "
            "without rows have no villages.",
            "No county effects: with two periods the lag would be biased downwards by about half or "
            "more (Nickell), so own villages also stand for lasting differences between counties.",
            "Only counties listed at least once in 2014-2016 have rows. The column 'listed before' "
            "keeps counties with a village the year before, which have rows whatever happened next: "
            "no selection on the outcome. Regression to the mean remains in every column.",
        ),
    ),
    "rural_population": Study(
        title="Growth of the rural population of 31 provinces, 2012-2022",
        panel="provinces",
        hypotheses=("H01",),
        prepare=_as_it_is,
        blocks={
            "clustered by province": _columns(
                _province_base(Clustered(), _ALL_YEARS), _PROVINCE_FORMULAS, column_4=_ALL_YEARS[1:]
            ),
            "Driscoll-Kraay": _columns(
                _province_base(DriscollKraay(), _ALL_YEARS), _PROVINCE_FORMULAS, column_4=_ALL_YEARS[1:]
            ),
            "difference GMM": (Column("collapsed instruments", _DYNAMIC),),
        },
        notes=(
            "Regressors are one year before: a level at the end of the year before is given when the "
            "growth of the year begins, while product per head and urbanisation of the same year "
            "contain the population itself. Digital finance is the index over 100, urbanisation is in "
            "percent.",
            "Rural population is resident population times one minus urbanisation, so urbanisation of "
            "the same year is the outcome in other words and no regressor. Its lag still shares the "
            "rural population of the year before with the outcome, and error in it gives a positive "
            "coefficient by itself: hence a column without it and one with its second lag, from 2013, "
            "the first year for which that comes from one export.",
            "With province effects a regressor that contains the past population is predetermined, "
            "not exogenous: a bias of order 1/11 remains (Nickell). Difference GMM avoids it: levels on "
            "their lag, lags two to four of rural population and product as collapsed instruments, two steps "
            "with Windmeijer's correction. The estimates describe; they do not say what a change of digital "
            "finance would do.",
            "The income ratio comes from an interpolated series with changes of definition: a column "
            "goes without.",
            "Most of the variation of the digital finance index is common to all provinces and taken "
            "by the year effects. The two blocks have the same coefficients and differ in their "
            "errors only.",
        ),
    ),
    "villages_and_rural_population": Study(
        title="Growth of the rural population on Taobao villages the year before, by province",
        panel="provinces",
        hypotheses=("H01",),
        prepare=_as_it_is,
        blocks={
            "clustered by province": _columns(
                _province_base(Clustered(), (2015, 2016, 2017, 2019)),
                {
                    "villages of 2014-16": f"{_GROWTH} ~ {_LABEL}",
                    "and 2018": f"{_GROWTH} ~ {_LABEL}",
                    "with controls": f"{_GROWTH} ~ {_LABEL} + {_FINANCE} + {_PRODUCT} + {_URBAN}",
                },
                column_1=(2015, 2016, 2017),
            )
        },
        notes=(
            "Rosters appear in the autumn or winter of a year and population is counted at its end, "
            "so villages of one year stand before the growth of the next. Villages enter as ln(1 + "
            "villages).",
            "Villages of 2018 are known for the six provinces with most of them: those rows are "
            "selected on the regressor. Villages of 2017, known for three provinces, are not used.",
            "With three or four periods Driscoll-Kraay errors have no meaning and are not given.",
        ),
    ),
}
