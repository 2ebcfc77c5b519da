"""What the paper shows of calibrations on panels: provinces by random effects, their people, counties by matching."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from villageflow.report.numbers import frame_numbers, markdown_table
from villageflow.report.plots import COLOURS, legend, new_figure
from villageflow.report.record import Scalar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from villageflow.calibrate.counties import CountyFit
    from villageflow.calibrate.provinces_predicted import ProvincialFit
    from villageflow.calibrate.returns import ReturnTables

_RULES: Final = {
    "model": "model", "last_value": "last value", "growth": "last ratio again", "trend": "last addition again",
}


# ------------------------------------------------------------------------------------------- provinces


def provinces_table(found: ProvincialFit) -> str:
    """Estimates with clustered intervals and the verdict of the profile, as Markdown."""
    table, verdicts = found.result.to_frame(), found.profiles.groupby("parameter", sort=False)["verdict"].first()
    shown = pd.DataFrame({
        "estimate": table["estimate"].map(_digits),
        "95 % interval": _between(found.result.conf_int()),
        "identified": verdicts.reindex(table.index),
    })
    shown.index = [_words(name) for name in shown.index]
    return markdown_table(shown, {}, label="parameter")


def provinces_holdout(found: ProvincialFit) -> str:
    """Counts held out in 2018 beside model, interval and the ratio carried forward, as Markdown."""
    rows = found.holdout[found.holdout["year"] == found.holdout["year"].max()].set_index("province")
    interval = rows.rename(columns={"low": "lower", "high": "upper"})
    shown = pd.DataFrame({
        "listed": rows["observed"], "model": rows["model"], "90 % interval": _between(interval, ",.0f"),
        "last ratio again": rows["growth"],
    })
    return markdown_table(shown, dict.fromkeys(("listed", "model", "last ratio again"), ",.0f"), label="province")


def provinces_numbers(found: ProvincialFit) -> dict[str, Scalar]:
    """Estimates, agreement of nodes, verdicts, hold-out, totals and skill."""
    result = found.result
    estimates = result.to_frame()[["estimate", "std_error", "clustered_error"]].join(result.conf_int())
    gains = found.sensitivity.set_index(["parameter", "value"])
    numbers: dict[str, Scalar] = {
        "provinces.loglik": result.loglik, "provinces.n_entities": result.n_entities, "provinces.nodes": result.nodes,
        "provinces.near_best": result.near_best, "provinces.converged": result.converged,
        "provinces.n_measurements": len(found.problem.measurements),
        "provinces.n_zeros": int((found.problem.measurements["value"] == 0).sum()),
        "provinces.n_holdout": len(found.holdout), "provinces.n_covered": int(found.holdout["covered"].sum()),
        "provinces.shrinkage": float(result.shrinkage.iloc[0]),
    }
    totals = found.totals.set_index(["area", "year"])[["observed", "low", "model", "high", "error_percent"]]
    holdout = found.holdout.set_index(["province", "year"])[["observed", "low", "model", "high"]]
    kinds = found.sensitivity.groupby("parameter", sort=False)["verdict"].first()
    return (
        numbers | frame_numbers(estimates, "provinces")
        | frame_numbers(found.numerics.to_frame("loglik"), "provinces.numerics")
        | frame_numbers(holdout, "provinces.holdout") | frame_numbers(totals, "provinces.total")
        | frame_numbers(found.skill, "provinces.skill")
        | frame_numbers(gains.drop(columns="verdict"), "provinces.fixed")
        | frame_numbers(kinds.to_frame(), "provinces.fixed")
    )


def provinces_figure(found: ProvincialFit) -> Figure:
    """National totals as sums over provinces, and the six provinces kept aside."""
    figure, axes = new_figure(columns=2, height=2.7)
    nation = found.totals[found.totals["area"] == "CHINA"]
    axes[0].fill_between(nation["year"], nation["low"], nation["high"], color=COLOURS[0], alpha=0.2, linewidth=0,
                         label="90 % of new counts")
    axes[0].plot(nation["year"], nation["model"], color=COLOURS[0], label="sum over provinces")
    for fitted, face, label in ((True, COLOURS[1], "published, used"), (False, "white", "published, kept aside")):
        rows = nation[nation["fitted"] == fitted]
        axes[0].plot(rows["year"], rows["observed"], "o", color=COLOURS[1], markersize=3.5, markerfacecolor=face,
                     label=label)
    axes[0].set_ylabel("listed villages (village)")
    axes[0].set_xlabel("year")
    legend(axes[0], loc="upper left")
    rows = found.holdout[found.holdout["year"] == found.holdout["year"].max()].sort_values("observed")
    at = range(len(rows))
    axes[1].hlines(at, rows["low"], rows["high"], color=COLOURS[0], alpha=0.5)
    axes[1].plot(rows["model"], at, "o", color=COLOURS[0], markersize=3.5, label="model, 90 % interval")
    axes[1].plot(rows["observed"], at, "o", color=COLOURS[1], markersize=3.5, markerfacecolor="white",
                 label="listed in 2018")
    axes[1].set_yticks(list(at), rows["province"])
    axes[1].set_xscale("log", base=2)
    axes[1].xaxis.set_major_formatter("{x:,.0f}")
    axes[1].set_xlabel("listed villages (village), log scale")
    legend(axes[1], loc="lower right")
    return figure


def skill_table(found: ProvincialFit) -> str:
    """Errors of model and rules on what was kept aside, as Markdown."""
    shown = found.skill.set_axis([_RULES[name] for name in found.skill.index]).rename(columns={
        "provinces_error": "provinces 2018, error (%)", "provinces_log_score": "log score",
        "nation_error": "nation 2017 to 2022, error (%)",
    })
    return markdown_table(shown, dict.fromkeys(shown.columns, ".1f"), label="forecast")


# ---------------------------------------------------------------------------------------------- people


def returns_table(found: ReturnTables) -> str:
    """Estimates of leaving and its pulls under several fits, clustered intervals, ratio of errors, as Markdown."""
    rows = found.estimates[found.estimates["parameter"].isin(
        ["leaving_propensity", "income_pull", "village_pull", "sd(leaving_propensity)"]
    )]
    shown = pd.DataFrame({
        "fit": rows["fit"].where(~rows["fit"].duplicated(), ""), "estimate": rows["estimate"].map(_digits),
        "95 % interval": _between(rows),
        "clustered over Hessian error": rows["ratio"],
    }).set_axis(rows["parameter"].map(_words), axis=0)
    return markdown_table(shown, {"clustered over Hessian error": ".1f"}, label="parameter")


def returns_scores(found: ReturnTables) -> str:
    """Errors of forecasts of the rural population, as Markdown."""
    shown = found.scores.set_index("forecast").rename(columns={
        "mae_2021": "error 2021 (%)", "mae_2022": "error 2022 (%)", "bias_2022": "bias 2022 (%)",
        "nearer": "nearer than own mean growth",
    })
    formats = dict.fromkeys(shown.columns[:3], ".2f") | {"nearer than own mean growth": ",d"}
    return markdown_table(shown, formats, label="forecast")


def returns_numbers(found: ReturnTables) -> dict[str, Scalar]:
    """Every figure of the tables."""
    estimates = found.estimates.set_index(["fit", "parameter"])
    verdicts = found.verdicts.set_index("name")[["estimate", "lower", "upper", "verdict"]]
    finite = verdicts.where(verdicts.map(lambda cell: isinstance(cell, str) or abs(cell) < float("inf")))
    return (
        frame_numbers(estimates, "returns") | frame_numbers(found.scores.set_index("forecast"), "returns.score")
        | frame_numbers(found.responses.set_index(["constant", "value"]), "returns.fixed")
        | frame_numbers(finite, "returns.profile")
        | frame_numbers(found.identifiability.set_index("n_free").drop(columns="weakest"), "returns.free")
    )


# -------------------------------------------------------------------------------------------- counties


def counties_table(found: CountyFit) -> str:
    """Estimates by indirect inference with intervals, as Markdown."""
    table = found.result.to_frame()
    shown = pd.DataFrame({
        "estimate": table["estimate"].map(_digits),
        "std. error": ["at bound" if held else _digits(error) for held, error in
                       zip(table["at_bound"], table["std_error"], strict=True)],
        "95 % interval": _between(table),
    }).set_axis([_words(name) for name in table.index], axis=0)
    return markdown_table(shown, {}, label="parameter")


def counties_moments(found: CountyFit) -> str:
    """Regression coefficients on the rosters, and on simulated rosters without feedbacks and at the estimate."""
    moments = found.result.moments.loc[found.yardstick.index]
    shown = pd.DataFrame({
        "rosters": found.yardstick["observed"], "std. error": found.yardstick["std_error"],
        "simulated, no feedback": found.yardstick["without_feedbacks"], "simulated, estimate": moments["simulated"],
    })
    return markdown_table(shown, dict.fromkeys(shown.columns, ".3f"), label="coefficient")


def counties_forecast(found: CountyFit) -> str:
    """Villages after the last roster, forecast and observed, as Markdown."""
    rows = found.forecast
    shown = pd.DataFrame({
        "listed": rows["observed"], "forecast": rows["forecast"],
        "95 % interval": _between(rows, ",.0f"),
        "last addition again": rows["steady"],
    })
    return markdown_table(
        shown, dict.fromkeys(("listed", "forecast", "last addition again"), ",.0f"), label="area, year"
    )


def counties_numbers(found: CountyFit) -> dict[str, Scalar]:
    """Estimates, tests, coefficients and forecasts."""
    result = found.result
    numbers: dict[str, Scalar] = {
        "counties.n_simulations": result.n_simulations, "counties.n_moments": len(result.moments),
        "counties.j": result.j_statistic, "counties.j_without": found.null.j_statistic,
        "counties.wald": found.wald, "counties.wald_p": found.p_value, "counties.condition": result.condition,
        "counties.converged": result.converged, "counties.weakest": _words(found.weakest),
        "counties.at_bound": ", ".join(map(_words, result.at_bound)) or "none",
        "counties.n_clusters": result.n_clusters,
    }
    for name, value in (("j_p", result.p_value), ("j_without_p", found.null.p_value)):
        if value is not None:
            numbers[f"counties.{name}"] = value
    table = result.to_frame().drop(columns="at_bound")
    return (
        numbers | frame_numbers(table, "counties") | frame_numbers(found.yardstick, "counties.coefficient")
        | frame_numbers(result.moments[["simulated"]].loc[found.yardstick.index], "counties.at_estimate")
        | frame_numbers(found.forecast, "counties.forecast")
    )


# ---------------------------------------------------------------------------------------------- shared


def _between(table: pd.DataFrame, spec: str = "") -> pd.Series[Any]:
    """Intervals as texts, from columns lower and upper."""
    def written(value: float) -> str:
        return (format(value, spec) if spec else _digits(value)).replace("-", "\u2212")

    ends = zip(table["lower"], table["upper"], strict=True)
    return pd.Series(
        ["" if pd.isna(low) else f"{written(low)} to {written(high)}" for low, high in ends], index=table.index,
        dtype=object,
    )


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _digits(value: float) -> str:
    """Three significant digits."""
    if not math.isfinite(value):
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("-", "\u2212")
