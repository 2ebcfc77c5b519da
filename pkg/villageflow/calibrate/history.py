"""History matching: which prior draws agree with every fact, and what that says about the parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from villageflow.calibrate.facts import Fact, check_times, facts_of, statistic_of, variables_of
from villageflow.calibrate.scales import Floats
from villageflow.ensemble.design import Design, check_model
from villageflow.ensemble.provenance import design_digest
from villageflow.ensemble.schema import FINISHED, STATUS
from villageflow.ensemble.simulate import simulate, time_grid
from villageflow.errors import CalibrationError
from villageflow.ir.model import Model

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
FEW: Final = 50
_MOVED: Final = 0.25
_NARROWED: Final = 0.9
_TRADED: Final = 0.2
_CHANCE: Final = 1e-3
_STRONGEST: Final = 10


@dataclass(frozen=True, eq=False)
class HistoryMatch:
    """Result of a history matching.

    Attributes
    ----------
    facts : tuple of Fact
    design : Design
        All draws.
    statistics : DataFrame
        Statistic of each fact (column) for each draw (row).
    implausibility : DataFrame
        Same shape; at most 1 where the draw agrees with the fact.
    survives : (n,) bool array
        Draws that agree with every conditioning fact and stayed finite.
    unfinished : int
        Draws whose run did not stay finite.
    by_fact : DataFrame
        For each fact: bounds, use, share of draws it excludes ``alone`` (whatever the others say), share it excludes
        ``uniquely`` (they survive every other condition), share of survivors that agree (1 for conditions),
        implausibility over all draws (smallest and median) and quantiles of the statistic.
    by_parameter : DataFrame
        Prior and retained quantiles, shift of the median in prior standard deviations, ratio of the retained to the
        prior interquartile range, p value of the test that retained and excluded draws have one distribution, the
        strongest trade-off, and a verdict in words.
    correlations : DataFrame
        The strongest rank correlations between parameters among the retained draws: what the data cannot tell apart.
    inputs : dict
        Model and design, by digest.
    """

    facts: tuple[Fact, ...]
    design: Design
    statistics: pd.DataFrame
    implausibility: pd.DataFrame
    survives: npt.NDArray[np.bool_]
    unfinished: int
    by_fact: pd.DataFrame
    by_parameter: pd.DataFrame
    correlations: pd.DataFrame
    inputs: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"<villageflow.HistoryMatch: {self.inputs['model']}, {self.n_retained} of {len(self.survives)} draws "
            f"({self.share:.2%}) agree with {sum(fact.condition for fact in self.facts)} facts; see summary()>"
        )

    @property
    def n_retained(self) -> int:
        """Number of draws that survive."""
        return int(self.survives.sum())

    @property
    def share(self) -> float:
        """Share of draws that survive."""
        return float(self.survives.mean())

    @property
    def std_error(self) -> float:
        """Monte Carlo standard error of the share, as for independent draws."""
        return float(np.sqrt(self.share * (1 - self.share) / len(self.survives)))

    def retained(self) -> Design:
        """The surviving draws as a design.

        Raises
        ------
        CalibrationError
            If no draw survives: nothing is widened to find one.
        """
        if not self.n_retained:
            raise CalibrationError(f"no draw survives. {self.nearest()}")
        table = self.design.table[self.survives].reset_index(drop=True)
        kind = f"{self.n_retained} retained of {self.design.kind}"
        return Design(table, seed=self.design.seed, kind=kind, units=self.design.units)

    def nearest(self) -> str:
        """How close the draws come: the smallest implausibility of each condition, and of all together."""
        conditions = [fact.fact_id for fact in self.facts if fact.condition]
        each = ", ".join(f"{name} {self.implausibility[name].min():.3g}" for name in conditions)
        together = self.implausibility[conditions].max(axis=1).min()
        return (
            f"Smallest implausibility by fact (1 = at the bound): {each}; the best draw misses its worst fact by "
            f"{together:.3g}. Reconsider the model, the prior or the facts"
        )

    def summary(self) -> str:
        """The finding in words and two tables."""
        conditions = sum(fact.condition for fact in self.facts)
        lines = [
            f"History matching of {self.inputs['model']}: {self.n_retained} of {len(self.survives)} draws "
            f"({self.share:.2%} ± {self.std_error:.2%}) agree with {conditions} facts; {self.unfinished} runs did not "
            "finish"
        ]
        if not self.n_retained:
            lines.append(self.nearest())
        with pd.option_context("display.width", 160, "display.max_columns", 20, "display.max_rows", 200):
            lines.append(str(self.by_fact[["use", "lower", "upper", "alone", "uniquely", "agree", "median"]].round(3)))
            verdicts = self.by_parameter["verdict"]
            hardly = verdicts.str.startswith("hardly")
            touched = verdicts[(verdicts != "untouched") & ~hardly]
            lines.append("\n".join(f"{name}: {verdict}" for name, verdict in touched.items()))
            lines.append(f"of {len(verdicts)} parameters {int(hardly.sum())} hardly moved and "
                         f"{int((verdicts == 'untouched').sum())} untouched")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is not finite becomes None."""
        return {
            "inputs": self.inputs,
            "n_draws": len(self.survives),
            "n_retained": self.n_retained,
            "share": self.share,
            "std_error": self.std_error,
            "unfinished": self.unfinished,
            "nearest": self.nearest(),
            "by_fact": _plain(self.by_fact),
            "by_parameter": _plain(self.by_parameter),
            "correlations": _plain(self.correlations),
        }

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def history_match(
    model: Model,
    design: Design,
    facts: Sequence[Fact] | pd.DataFrame,
    *,
    time_step: float | None = None,
    n_threads: int | None = None,
) -> HistoryMatch:
    """Keep the draws whose runs agree with every fact.

    Parameters
    ----------
    model : Model
        What to run.
    design : Design
        Draws from the prior, in one ensemble run.
    facts : sequence of Fact, or DataFrame
        Rows with fact_id, variable, statistic (value, minimum, maximum, mean, ratio, change, first_above), time,
        lower, upper, unit, use (condition or check), datum and note; to_time, level, tolerance and scale where the
        statistic or an open side needs them. See docs/tables.md and `villageflow.calibrate.facts.facts_of`.
    time_step : float, optional
        Default the model's own.
    n_threads : int, optional
        Default all processors; does not move a bit of the result.

    Returns
    -------
    HistoryMatch
        Also when nothing survives: then with the implausibility of each fact, and nothing is widened.

    Raises
    ------
    CalibrationError
        Facts that do not fit the model, or a design with scenarios or without parameters.

    References
    ----------
    .. [Craig1997] P. Craig et al., "Pressure matching for hydrocarbon reservoirs: a case study in the use of Bayes
       linear strategies for large computer experiments", Case Studies in Bayesian Statistics III (1997).
    """
    check_model(model)
    if not isinstance(design, Design):
        raise CalibrationError(f"the design is a {type(design).__name__}; draw one, such as Design.lhs(priors, ...)")
    if design.scenarios:
        raise CalibrationError("facts are about what happened: give a design without scenarios")
    if not len(design.table.columns):
        raise CalibrationError("the design varies no parameter; draw one from a prior")
    known = facts_of(facts, model) if isinstance(facts, pd.DataFrame) else tuple(facts)
    times = time_grid(model, time_step=time_step).save_times()
    for fact in known:
        check_times(fact, times)
    result = simulate(
        model, design, save=variables_of(known), time_step=time_step, errors="flag", n_threads=n_threads,
        final_time=max(fact.to_time for fact in known),
    )
    finished = result[STATUS].to_numpy() == FINISHED
    statistics = pd.DataFrame({fact.fact_id: statistic_of(fact, result) for fact in known})
    statistics.loc[~finished] = np.nan
    implausibility = pd.DataFrame(
        {fact.fact_id: fact.implausibility(statistics[fact.fact_id].to_numpy()) for fact in known}
    )
    agrees = implausibility.to_numpy() <= 1
    deciding = np.array([fact.condition for fact in known])
    survives = np.asarray(agrees[:, deciding].all(axis=1), dtype=bool)
    return HistoryMatch(
        facts=known,
        design=design,
        statistics=statistics,
        implausibility=implausibility,
        survives=survives,
        unfinished=int((~finished).sum()),
        by_fact=_by_fact(known, statistics, implausibility, survives),
        by_parameter=_by_parameter(design.table, survives),
        correlations=_correlations(design.table.loc[survives], _STRONGEST),
        inputs={
            "model": model.name, "model_sha256": model.digest,
            "design": design.kind, "design_sha256": design_digest(design),
        },
    )


def _by_fact(
    facts: tuple[Fact, ...], statistics: pd.DataFrame, implausibility: pd.DataFrame, survives: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    agrees = implausibility <= 1
    conditions = [fact.fact_id for fact in facts if fact.condition]
    rows = []
    for fact in facts:
        own = agrees[fact.fact_id].to_numpy()
        others = agrees[[name for name in conditions if name != fact.fact_id]].all(axis=1).to_numpy()
        found = statistics[fact.fact_id].to_numpy()
        rows.append({
            "fact_id": fact.fact_id, "use": "condition" if fact.condition else "check", "variable": fact.variable,
            "statistic": fact.statistic, "unit": fact.unit, "lower": fact.lower, "upper": fact.upper,
            "alone": float((~own).mean()),
            "uniquely": float((others & ~own).mean()) if fact.condition else np.nan,
            "agree": float(own[survives].mean()) if survives.any() else np.nan,
            "agree_prior": float(own.mean()),
            "least_implausible": float(implausibility[fact.fact_id].min()),
            "median_implausible": float(implausibility[fact.fact_id].median()),
            **_quantiles(found, (0.05, 0.5, 0.95), ("q05", "median", "q95")),
            **_quantiles(found[survives], (0.05, 0.5, 0.95), ("retained_q05", "retained_median", "retained_q95")),
        })
    return pd.DataFrame(rows).set_index("fact_id")


def _quantiles(values: Floats, levels: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return dict.fromkeys(names, np.nan)
    return {name: float(np.quantile(known, level, method="lower")) for name, level in zip(names, levels, strict=True)}


def _by_parameter(table: pd.DataFrame, survives: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """One row for each parameter, with a verdict; a difference must be large and beyond chance to count."""
    kept = table.loc[survives]
    partners = _partners(kept)
    rows = []
    for name in map(str, table.columns):
        prior, posterior = table[name].to_numpy(dtype=float), kept[name].to_numpy(dtype=float)
        row: dict[str, Any] = {"parameter": name}
        row |= {f"prior_q{100 * level:02.0f}": float(np.quantile(prior, level)) for level in QUANTILES}
        row |= {
            f"retained_q{100 * level:02.0f}": float(np.quantile(posterior, level)) if len(posterior) else np.nan
            for level in QUANTILES
        }
        partner, correlation = partners.get(name, ("", np.nan))
        enough = len(posterior) >= FEW and len(posterior) < len(prior)
        spread = row["prior_q75"] - row["prior_q25"]
        known = len(posterior) > 0 and spread > 0
        row["shift"] = (row["retained_q50"] - row["prior_q50"]) / prior.std() if known else np.nan
        row["spread_ratio"] = (row["retained_q75"] - row["retained_q25"]) / spread if known else np.nan
        row["p_value"] = float(stats.ks_2samp(posterior, prior[~survives], method="asymp").pvalue) if enough else np.nan
        row["traded_with"], row["correlation"] = partner, correlation
        row["verdict"] = _verdict(row, len(posterior), len(table.columns))
        rows.append(row)
    return pd.DataFrame(rows).set_index("parameter")


def _verdict(row: dict[str, Any], n_retained: int, n_parameters: int) -> str:
    if not n_retained:
        return "nothing retained"
    if n_retained < FEW:
        return f"too few draws retained ({n_retained}) to say"
    words = []
    beyond_chance = np.isnan(row["p_value"]) or row["p_value"] < _CHANCE / n_parameters
    if beyond_chance and abs(row["shift"]) >= _MOVED:
        way = "up" if row["shift"] > 0 else "down"
        words.append(f"moved {way} by {abs(row['shift']):.2f} prior standard deviations")
    if beyond_chance and row["spread_ratio"] <= _NARROWED:
        words.append(f"narrowed to {row['spread_ratio']:.2f} of the prior spread")
    if row["traded_with"]:
        words.append(f"traded off against {row['traded_with']} ({row['correlation']:+.2f})")
    if not words and beyond_chance and not np.isnan(row["p_value"]):
        return f"hardly moved ({row['shift']:+.2f} prior standard deviations)"
    return "; ".join(words) or "untouched"


def _partners(kept: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """For each parameter the one it is most correlated with among the retained, if beyond chance."""
    if len(kept) < FEW or kept.shape[1] < 2:
        return {}
    ranks = stats.rankdata(kept.to_numpy(dtype=float), axis=0)
    correlation = _corrcoef(ranks)
    np.fill_diagonal(correlation, 0.0)
    n_pairs = kept.shape[1] * (kept.shape[1] - 1) / 2
    least = max(_TRADED, float(stats.norm.isf(_CHANCE / 2 / n_pairs)) / np.sqrt(len(kept)))
    found = {}
    for position, name in enumerate(map(str, kept.columns)):
        other = int(np.argmax(np.abs(correlation[position])))
        if abs(correlation[position, other]) >= least:
            found[name] = (str(kept.columns[other]), float(correlation[position, other]))
    return found


def _correlations(kept: pd.DataFrame, n: int) -> pd.DataFrame:
    names = [str(name) for name in kept.columns]
    if len(kept) < FEW or len(names) < 2:
        return pd.DataFrame(columns=["first", "second", "rank_correlation"])
    correlation = _corrcoef(stats.rankdata(kept.to_numpy(dtype=float), axis=0))
    first, second = np.triu_indices(len(names), 1)
    values = correlation[first, second]
    order = np.argsort(-np.abs(values), kind="stable")[:n]
    return pd.DataFrame({
        "first": [names[i] for i in first[order]],
        "second": [names[i] for i in second[order]],
        "rank_correlation": values[order],
    })


def _corrcoef(ranks: Floats) -> Floats:
    centred = ranks - ranks.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    size[size == 0] = 1.0
    return np.asarray((centred / size).T @ (centred / size))


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): None if isinstance(value, float) and not np.isfinite(value) else value for key, value in row.items()}
        for row in table.reset_index().to_dict("records")
    ]
