"""The paper's tables, figures and numbers from what calibration and policy analysis found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from villageflow.analysis.policy import PolicyEnsemble
from villageflow.calibrate.history import HistoryMatch
from villageflow.calibrate.predict import Scores
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.result import FitResult
from villageflow.report.numbers import frame_numbers, markdown_table, slug
from villageflow.report.plots import COLOURS, fan, legend, new_figure
from villageflow.report.record import Scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_THOUSAND: Final = 1e3
_MILLION: Final = 1e6
_LEVELS: Final = {"p05": 0.05, "median": 0.5, "p95": 0.95}
_PLACEBO_TERMS: Final = {"log1p_lag_villages": "own", "log1p(lag(villages))": "own",
                         "log1p_lag_elsewhere": "elsewhere", "log1p(lag(elsewhere))": "elsewhere"}
_POLICY_START: Final = 2016.0
_BANDS: Final = 2


# ------------------------------------------------------------------------------------- national counts


def fit_table(result: FitResult) -> str:
    """Estimates as Markdown: standard error, bounds, and whether a bound holds the estimate."""
    table = pd.DataFrame({
        "estimate": result.params.map(_digits),
        "std. error": ["at bound" if n in result.at_bound else _digits(e) for n, e in result.std_errors.items()],
        "lower": result.transformed["lower"].map(_digits),
        "upper": result.transformed["upper"].map(_digits),
    })
    table.index = [_words(name) for name in table.index]
    return markdown_table(table, {}, label="parameter")


def comparison_table(comparison: pd.DataFrame) -> str:
    """Scores on the counts kept aside, model and benchmark curves, as Markdown."""
    table = pd.DataFrame({
        "free": comparison["n_params"],
        "log likelihood": comparison["loglik"],
        "log score": comparison["log_score"],
        "mean abs. error (%)": comparison["mean_absolute_error_percent"],
        "coverage of 90 %": comparison["coverage_90"],
    })
    table.index = [_words(name) for name in table.index]
    formats = {"free": "d", "log likelihood": ".1f", "log score": ".1f", "mean abs. error (%)": ".1f",
               "coverage of 90 %": ".2f"}
    return markdown_table(table, formats, label="forecast")


def fit_numbers(
    result: FitResult, scores: Scores, comparison: pd.DataFrame, *, in_logs: Scores
) -> dict[str, Scalar]:
    """Estimates, diagnostics, hold-out by year, the benchmark curves, and the score under errors normal in logs."""
    found = frame_numbers(pd.DataFrame({"estimate": result.params, "std_error": result.std_errors}), "national_fit")
    found |= {
        "national_fit.loglik": result.loglik,
        "national_fit.n_measurements": result.n_measurements,
        "national_fit.n_params": len(result.params),
        "national_fit.near_best": result.near_best,
        "national_fit.n_starts": len(result.starts),
        "national_fit.converged": result.converged,
        "national_fit.at_bound": ", ".join(map(_words, result.at_bound)) or "none",
        "national_fit.collinearity": result.identifiability.collinearity,
        "national_fit.weakest": result.identifiability.weakest,
        "national_fit.check.mean_absolute_error_percent": scores.mean_absolute_error,
        "national_fit.check.coverage": scores.coverage,
        "national_fit.check.n": len(scores.table),
        "national_fit.check.log_score": scores.log_score,
        "national_fit.lognormal.mean_absolute_error_percent": in_logs.mean_absolute_error,
    }
    for row in scores.table.to_dict("records"):
        year = int(row["time"])
        for name, column in (("observed", "observed"), ("predicted", "fitted"), ("q05", "q05"), ("q95", "q95"),
                             ("error_percent", "error_percent")):
            found[f"national_fit.check.{year}.{name}"] = float(row[column])
    benchmarks = comparison[["n_params", "mean_absolute_error_percent"]]
    return found | frame_numbers(benchmarks, "national_fit.forecast")


def national_figure(problem: Problem, result: FitResult) -> Figure:
    """Published counts, fitted path and its bands; the counts kept aside are hollow."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(columns=2, height=2.7)
    path = result.trajectory
    for ax in axes:
        ax.fill_between(path["time"], path["q05"], path["q95"], color=COLOURS[0], alpha=0.15, linewidth=0,
                        label="90 % of new counts")
        ax.fill_between(path["time"], path["fitted_q05"], path["fitted_q95"], color=COLOURS[0], alpha=0.35, linewidth=0,
                        label="90 %, parameters alone")
        ax.plot(path["time"], path["fitted"], color=COLOURS[0], label="fitted")
        ax.plot(problem.measurements["time"], problem.measurements["value"], "o", color=COLOURS[1], markersize=3.5,
                label="published, used")
        ax.plot(problem.holdout["time"], problem.holdout["value"], "o", color=COLOURS[1], markersize=3.5,
                markerfacecolor="white", label="published, kept aside")
        ax.axvline((problem.measurements["time"].max() + problem.holdout["time"].min()) / 2, color="0.4", linewidth=0.8)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_xlabel("year")
    axes[0].set_ylabel("listed villages (village)")
    axes[1].set_yscale("log")
    axes[1].set_ylim(0.5, None)
    axes[1].set_ylabel("the same, log scale")
    legend(axes[0], loc="upper left")
    return figure


# ------------------------------------------------------------------------------------- history matching


def facts_table(match: HistoryMatch) -> str:
    """Facts with their range and the share of draws that each excludes, as Markdown."""
    found = match.by_fact
    table = pd.DataFrame({
        "what": [
            f"{_words(row['variable'])}, {_words(row['statistic'])} ({row['unit']})" for _, row in found.iterrows()
        ],
        "used": ["yes" if use == "condition" else "" for use in found["use"]],
        "from": found["lower"].map(_bound), "to": found["upper"].map(_bound),
        "excludes": found["alone"], "only this": found["uniquely"], "retained agree": found["agree"],
    })
    formats = {"from": "", "to": "", "excludes": ".0%", "only this": ".0%", "retained agree": ".0%"}
    return markdown_table(table, formats, label="fact")


def placebo_table(placebo: pd.DataFrame) -> str:
    """Coefficients beside what regression to the mean alone gives, as Markdown.

    Parameters
    ----------
    placebo : DataFrame
        Result of `econometrics.studies.mean_reversion_placebo`, indexed (block, column, term).
    """
    table = pd.DataFrame({
        "block": [str(block) for block, _, _ in placebo.index],
        "column": [str(column) for _, column, _ in placebo.index],
        "estimate": placebo["estimate"], "placebo": placebo["placebo_mean"],
        "from": placebo["lower"], "to": placebo["upper"], "draws below": placebo["share_below"],
    })
    table.index = pd.Index([_PLACEBO_TERMS.get(str(term), str(term)) for _, _, term in placebo.index])
    table = table.sort_index(kind="stable")
    formats = dict.fromkeys(("estimate", "placebo", "from", "to"), ".3f") | {"draws below": ".0%"}
    return markdown_table(table, formats, label="on")


def placebo_numbers(placebo: pd.DataFrame) -> dict[str, Scalar]:
    """Every cell, and how many coefficients lie outside the range of the placebo."""
    outside = (placebo["estimate"] < placebo["lower"]) | (placebo["estimate"] > placebo["upper"])
    return frame_numbers(placebo, "placebo") | {
        "placebo.n_coefficients": len(placebo), "placebo.n_outside": int(outside.sum()),
        "placebo.n_draws": int(placebo["n_draws"].min()),
    }


def history_numbers(match: HistoryMatch) -> dict[str, Scalar]:
    """Counts, the fact that excludes most, the parameter that moves most, the strongest trade-off."""
    conditions = match.by_fact[match.by_fact["use"] == "condition"]
    hardest = str(conditions["alone"].idxmax())
    found: dict[str, Scalar] = {
        "history.n_draws": len(match.survives),
        "history.n_survivors": match.n_retained,
        "history.share": match.share,
        "history.share_std_error": match.std_error,
        "history.unfinished": match.unfinished,
        "history.n_facts": len(conditions),
        "history.n_parameters": len(match.by_parameter),
        "history.most_excluding": hardest,
        "history.most_excluding_variable": _words(str(conditions.loc[hardest, "variable"])),
        "history.most_excluding_share": float(conditions["alone"].max()),
        "history.n_untouched": int((match.by_parameter["verdict"] == "untouched").sum()),
    }
    if match.n_retained:
        learned = str(match.by_parameter["spread_ratio"].idxmin())
        pair = match.correlations.iloc[0]
        found |= {
            "history.most_learned": _words(learned),
            "history.most_learned_ratio": float(match.by_parameter["spread_ratio"].min()),
            "history.trade_off_first": _words(str(pair["first"])),
            "history.trade_off_second": _words(str(pair["second"])),
            "history.trade_off_correlation": float(pair["rank_correlation"]),
        }
    return found | frame_numbers(match.by_fact[["alone", "agree_prior"]], "history.fact")


# ------------------------------------------------------------------------------------- policies


def contest_numbers(runs: xr.Dataset, year: float) -> dict[str, Scalar]:
    """What the contest for visibility takes, member by member.

    Parameters
    ----------
    runs : Dataset
        Scenarios ``contest`` and ``no_contest``: ``profit_agent`` and ``village_revenue``.
    year : float
        A saved time.

    Returns
    -------
    dict
        Quantiles of agent profit under both, of the share of it that the contest takes (members that earn something
        without it), and `squeeze_numbers` of both.
    """
    found: dict[str, Scalar] = {}
    at_year = {}
    for scenario in ("contest", "no_contest"):
        part = runs.sel(scenario=scenario, drop=True)
        found |= squeeze_numbers(part, prefix=f"contest.{scenario}")
        at_year[scenario] = part["profit_agent"].sel(time=year).to_numpy()
        for label, level in _LEVELS.items():
            found[f"contest.{scenario}.profit_agent.{label}"] = _quantile(at_year[scenario], level)
    earns = at_year["no_contest"] > 0
    taken = 1 - at_year["contest"][earns] / at_year["no_contest"][earns]
    found["contest.share_earning"] = float(earns.mean())
    for label, level in _LEVELS.items():
        found[f"contest.taken.{label}"] = _quantile(taken, level)
    return found


def squeeze_numbers(runs: xr.Dataset, *, prefix: str = "squeeze") -> dict[str, Scalar]:
    """When agent profit and village revenue peak, and in which share of members profit peaks first.

    ``share_rising`` counts the members in which profit rises before it falls and revenue peaks within the run;
    ``share_first_of_rising`` those of them in which profit peaks first. A largest value in the first or last year is no
    peak.

    Parameters
    ----------
    runs : Dataset
        One scenario: ``profit_agent`` and ``village_revenue``, dims member and time.
    prefix : str
        First part of the names.
    """
    times = runs["time"].to_numpy()
    peaks = {
        name: times[runs[variable].transpose("member", "time").to_numpy().argmax(axis=1)]
        for name, variable in (("profit_peak_year", "profit_agent"), ("revenue_peak_year", "village_revenue"))
    }
    found: dict[str, Scalar] = {}
    for name, values in peaks.items():
        for label, level in _LEVELS.items():
            found[f"{prefix}.{name}.{label}"] = _quantile(values, level)
    first = peaks["profit_peak_year"] < peaks["revenue_peak_year"]
    rising = (peaks["profit_peak_year"] > times[0]) & (peaks["revenue_peak_year"] < times[-1])
    if rising.any():
        found[f"{prefix}.share_first_of_rising"] = float(first[rising].mean())
    found[f"{prefix}.share_rising"] = float(rising.mean())
    found[f"{prefix}.share_of_members"] = float(first.mean())
    found[f"{prefix}.share_peak_at_start"] = float((peaks["profit_peak_year"] == times[0]).mean())
    gap = np.median(peaks["revenue_peak_year"] - peaks["profit_peak_year"])
    found[f"{prefix}.years_between.median"] = float(gap)
    return found


def policy_numbers(found: PolicyEnsemble, variables: Sequence[str], years: Sequence[float]) -> dict[str, Scalar]:
    """Quantiles by scenario, and what each policy adds within members, with Monte Carlo standard errors.

    Names are ``policy.scenario.variable.year`` and ``p05``, ``median``, ``p95``; for policies also ``gain_mean``,
    ``gain_mean_std_error``, ``gain_median`` and ``share_above_baseline``.
    """
    numbers: dict[str, Scalar] = {
        "policy.n_members": found.n_members,
        "policy.n_scenarios": int(found.fans.sizes["scenario"]),
        "policy.unfinished": found.unfinished,
    }
    for variable in variables:
        for year in years:
            for scenario in found.fans["scenario"].values:
                head = f"policy.{slug(scenario)}.{slug(variable)}.{slug(year)}"
                here = found.fans.sel(scenario=scenario, time=year)
                for label, level in _LEVELS.items():
                    numbers[f"{head}.{label}"] = float(here[variable].sel(quantile=level))
                if scenario != found.baseline:
                    gap = found.differences.sel(scenario=scenario, time=year)
                    numbers[f"{head}.gain_mean"] = float(gap[f"{variable}_mean"])
                    numbers[f"{head}.gain_mean_std_error"] = float(gap[f"{variable}_mean_se"])
                    numbers[f"{head}.gain_median"] = float(gap[variable].sel(quantile=0.5))
                    numbers[f"{head}.share_above_baseline"] = float(gap[f"{variable}_share_above"])
    return numbers


def decline_numbers(runs: xr.Dataset, *, first: float, last: float) -> dict[str, Scalar]:
    """How far a baseline declines between two saved times, and whether brand owners still earn more than agents.

    Parameters
    ----------
    runs : Dataset
        One scenario: ``active_stores``, ``profit_agent`` and ``profit_brand``.
    first, last : float
        Saved times.
    """
    stores = runs["active_stores"].sel(time=last).to_numpy()
    peak = runs["active_stores"].max("time").to_numpy()
    agent, brand = runs["profit_agent"].sel(time=last).to_numpy(), runs["profit_brand"].sel(time=last).to_numpy()
    return {
        "decline.stores_first.median": float(runs["active_stores"].sel(time=first).median()),
        "decline.stores_last.median": float(np.median(stores)),
        "decline.share_under_a_tenth_of_peak": float((stores < 0.1 * peak).mean()),
        "decline.share_under_one_store": float((stores < 1).mean()),
        "decline.share_brand_below_agent": float((brand < agent).mean()),
    }


def policy_table(found: PolicyEnsemble, columns: Mapping[str, tuple[str, float]], year: float) -> str:
    """Median and central 90 % in one year, scenarios in rows, as Markdown.

    Parameters
    ----------
    found : PolicyEnsemble
        Reductions with the quantiles 0.05, 0.5 and 0.95.
    columns : mapping of str to (str, float)
        Variable to its heading and the number its values are divided by.
    year : float
        A saved time.
    """
    rows = {}
    for scenario in found.fans["scenario"].values:
        here = found.fans.sel(scenario=scenario, time=year)
        rows[_words(str(scenario))] = {
            heading: "{1} ({0} to {2})".format(
                *(_short(float(here[variable].sel(quantile=level)) / scale) for level in _LEVELS.values())
            )
            for variable, (heading, scale) in columns.items()
        }
    return markdown_table(pd.DataFrame.from_dict(rows, orient="index"), {}, label="scenario")


def squeeze_figure(runs: xr.Dataset, *, mark_every: int = 4) -> Figure:
    """Left: profit by store type over time. Right: agent profit against village revenue, medians, years marked.

    Parameters
    ----------
    runs : Dataset
        Scenarios ``baseline`` and ``no_ad_contest``.
    mark_every : int
        Years between the marks.
    """
    figure, (left, right) = new_figure(columns=2, height=2.9)
    base = runs.sel(scenario="baseline", drop=True)
    types = (("profit_brand", "brand store", COLOURS[2]), ("profit_average", "average", COLOURS[6]),
             ("profit_agent", "agent store", COLOURS[0]))
    for variable, label, colour in types:
        fan(base[variable], ax=left, levels=(0.5,), colour=colour, label=label, scale=_THOUSAND)
    left.set_ylabel("profit of a store (1,000 RMB/year)")
    legend(left)
    parts = (("baseline", COLOURS[0], float(runs["time"].min())), ("no_ad_contest", COLOURS[1], _POLICY_START))
    for scenario, colour, start in parts:
        label = _words(scenario)
        part = runs[["village_revenue", "profit_agent"]].sel(scenario=scenario, time=slice(start, None))
        middle = part.median("member")
        x, y = middle["village_revenue"] / _MILLION, middle["profit_agent"] / _THOUSAND
        right.plot(x, y, color=colour, label=label)
        years = middle["time"].to_numpy()
        for year in years[(years % mark_every == 0) & (years == np.floor(years))]:
            at = int(np.argmin(np.abs(years - year)))
            right.plot(x[at], y[at], "o", color=colour, markersize=3)
            if scenario == "baseline":
                right.annotate(f"{year:.0f}", (float(x[at]), float(y[at])), textcoords="offset points", xytext=(4, 3),
                               fontsize=7)
    right.set_xlabel("revenue of the village (million RMB/year)")
    right.set_ylabel("profit of an agent store (1,000 RMB/year)")
    right.set_ylim(0, None)
    legend(right, loc="center left")
    return figure


def policy_figure(runs: xr.Dataset) -> Figure:
    """Active stores and profit of an agent store by scenario: medians, and the central half."""
    figure, axes = new_figure(columns=2, height=2.9)
    panels = (("active_stores", 1.0, "active stores (store)"),
              ("profit_agent", _THOUSAND, "profit of an agent store (1,000 RMB/year)"))
    for ax, (variable, scale, label) in zip(axes, panels, strict=True):
        _scenario_fans(ax, runs[variable], scale)
        ax.set_ylabel(label)
    legend(axes[1])
    return figure


def migration_figure(runs: xr.Dataset) -> Figure:
    """Left: resident workers by scenario. Right: returning and leaving workers of the baseline."""
    figure, (left, right) = new_figure(columns=2, height=2.9)
    _scenario_fans(left, runs["resident_workers"], 1.0)
    left.set_ylabel("resident workers (person)")
    legend(left, loc="lower right")
    base = runs.sel(scenario="baseline", drop=True)
    for variable, label, colour in (("return_flow", "return", COLOURS[0]), ("leave_flow", "leave", COLOURS[1])):
        fan(base[variable], ax=right, levels=(0.5, 0.9), colour=colour, label=label)
    right.set_ylabel("workers who move (person/year)")
    legend(right)
    return figure


def _scenario_fans(ax: Axes, values: xr.DataArray, scale: float) -> None:
    """Medians of all scenarios; the central half of the first two, more would hide each other."""
    for i, (scenario, colour) in enumerate(zip(values["scenario"].values, COLOURS, strict=False)):
        levels = (0.5,) if i < _BANDS else ()
        fan(values.sel(scenario=scenario, drop=True), ax=ax, levels=levels, colour=colour, label=_words(str(scenario)),
            scale=scale)


def _quantile(values: np.ndarray[Any, Any], level: float) -> float:
    """By the definition that `analysis.policy` uses."""
    return float(np.quantile(values, level, method="hazen"))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _digits(value: float) -> str:
    """Four significant digits, never in powers of ten below a million."""
    if not np.isfinite(value):
        return ""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.3g}"
    decimals = max(0, 3 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{decimals}f}"


def _short(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("-", "\u2212")


def _bound(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return f"{value:g}" if abs(value) < _MILLION else f"{value / _MILLION:g}\u00a0m"
