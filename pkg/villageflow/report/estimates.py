"""Estimates of a formula on a user's own file, and the claims of the paper, as text and as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from villageflow.datasets import build, read_panel, recipe_names
from villageflow.datasets.quality import Quality
from villageflow.datasets.reading import read_cells
from villageflow.datasets.terms import columns_of, parse_formula
from villageflow.econometrics.claims import Finding, findings_table, judge_claims
from villageflow.econometrics.estimate import Estimate
from villageflow.econometrics.fit import estimate
from villageflow.econometrics.hypotheses import CLAIMS, claim_panels
from villageflow.econometrics.spec import Spec, as_covariance
from villageflow.econometrics.stored import store
from villageflow.econometrics.studies import STUDIES, run_study
from villageflow.errors import DataError, ReportError, did_you_mean
from villageflow.names import split_names
from villageflow.report.numbers import frame_numbers, markdown_table, slug
from villageflow.report.record import Scalar

_UNSTATED: Final = "unstated"


def estimate_formula(
    formula: str, data: str, *, keys: tuple[str, str], options: Mapping[str, str], output: Path | None = None
) -> str:
    """Run one regression on a file or an analysis panel.

    Parameters
    ----------
    formula : str
        ``outcome ~ term + term``.
    data : str
        A CSV file, or the name of an analysis panel.
    keys : (str, str)
        Columns of the file that hold entity and time.
    options : mapping of str to str
        estimator, effects, cov, cluster, convention, as on the command line.
    output : Path, optional
        A file to write instead of the text: .csv, .md, .tex or .json.

    Returns
    -------
    str
        The summary, or the name of the file.

    Raises
    ------
    VillageflowError
        As `villageflow.datasets.read_panel` and `villageflow.econometrics.estimate`; also if the output has another
        ending. Columns that the formula does not read are kept as text, to absorb or to cluster by.
    """
    if output is not None:
        _check_output(output, data)
    panel = _panel(formula, data, keys)
    names = {keys[0]: "entity", keys[1]: "time"}  # as the panel calls the columns that identify a row
    given: dict[str, Any] = {"formula": formula, "convention": options["convention"]}
    if options["estimator"]:
        given["estimator"] = options["estimator"]
    if options["effects"]:
        given["effects"] = () if options["effects"] == "none" else _named(options["effects"], names)
    if options["cov"] or options["cluster"]:
        cluster = _named(options["cluster"], names) if options["cluster"] else "entity"
        given["cov_type"] = as_covariance(options["cov"] or "clustered", cluster)
    spec = Spec(**given)
    found = estimate(spec, panel)
    if output is None:
        said = panel.attrs.get("warnings", {})
        warnings = [f"data: {column}: {said[column]}" for column in sorted(_read(formula)) if column in said]
        return "\n".join([found.summary(), *warnings])
    text = _WRITERS[output.suffix.lower()](found, panel, data)
    output.write_text(text, encoding="utf-8", newline="\n")
    return str(output)


def _named(text: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """Names from a list joined by commas, each of columns joined by ``*``, under the names of the panel."""
    return tuple("*".join(names.get(part, part) for part in name.split("*")) for name in split_names(text))


def _check_output(output: Path, data: str) -> None:
    if output.suffix.lower() not in _WRITERS:
        raise ReportError(f"{output} does not end in {', '.join(_WRITERS)}; name such a file")
    if output.is_dir() or not output.parent.is_dir():
        raise ReportError(f"{output} cannot be written; name a file in a folder that exists")
    if output.exists() and Path(data).exists() and output.samefile(data):
        raise ReportError(f"{output} is the file with the data; name another one for the estimate")


def claims_text() -> str:
    """All claims with their findings, as a Markdown table."""
    return claims_table(judge_claims(CLAIMS, claim_panels()))


def claims_table(findings: tuple[Finding, ...], *, primary: bool | None = None) -> str:
    """Findings as a Markdown table: claim, stated sign, estimate, interval, p-value as it counts, verdict.

    Parameters
    ----------
    findings : tuple of Finding
        What was judged.
    primary : bool, optional
        Only those of primary hypotheses, or only the others.
    """
    table = findings_table(findings)
    if primary is not None:
        table = table[table["primary"] == primary]
    shown = pd.DataFrame({
        "claim": table["claim"],
        "sign": table["sign"].replace("-", "\N{MINUS SIGN}"),
        "estimate": table["estimate"].map(_number),
        "from": table["lower"].map(_number),
        "to": table["upper"].map(_number),
        "p": table["adjusted"].map(_probability),
        "detectable": table["detectable"].map(_number),
        "n": table["nobs"].map(str),
        "finding": table["verdict"],
    })
    shown.index = pd.Index(table["hypothesis"])
    return markdown_table(shown, dict.fromkeys(("estimate", "from", "to", "p", "detectable", "n"), ""), label="")


def specifications_table(findings: tuple[Finding, ...]) -> str:
    """What stands behind each claim, as Markdown: specification, method, parameter that it informs, caution."""
    claims = [found.claim for found in findings]
    methods = [found.method.removesuffix(", linearmodels convention") for found in findings]
    shown = pd.DataFrame({
        "specification": [
            f"`{claim.spec.formula}`; {claim.spec.words}; {method}" for claim, method in zip(claims, methods)
        ],
        "informs, and caution": [
            claim.informs + (f". Caution: {claim.caution}" if claim.caution else "") for claim in claims
        ],
    })
    shown.index = pd.Index([f"{claim.hypothesis}: {claim.name.replace('_', ' ')}" for claim in claims])
    return markdown_table(shown, {}, label="claim")


def claims_numbers(findings: tuple[Finding, ...]) -> dict[str, Scalar]:
    """Every figure of the findings as ``claims.<name>.<figure>``, and how many of each verdict."""
    table = findings_table(findings)
    figures = ["estimate", "lower", "upper", "p_value", "adjusted", "detectable", "yardstick", "nobs", "verdict"]
    found = frame_numbers(table[figures], "claims")
    found |= {"claims.n": len(table), "claims.n_primary": int(table["primary"].sum())}
    for verdict in ("as stated", "against the stated sign", "not told apart from nothing"):
        found[f"claims.n_{slug(verdict)}"] = int((table["verdict"] == verdict).sum())
    return found


def robustness_numbers(curve: pd.DataFrame, left_out: pd.DataFrame, errors: pd.DataFrame) -> dict[str, Scalar]:
    """Spread of a specification curve, the entities that matter most, and the widest and narrowest interval."""
    found: dict[str, Scalar] = {
        "robustness.n": len(curve), "robustness.n_refused": int(curve["refused"].notna().sum()),
        "robustness.lowest": float(curve["estimate"].min()), "robustness.median": float(curve["estimate"].median()),
        "robustness.highest": float(curve["estimate"].max()),
        "robustness.share_positive": float((curve["estimate"] > 0).mean()),
        "robustness.share_significant": float((curve["p_value"] < 0.05).mean()),
        "robustness.left_out.lowest": float(left_out["estimate"].min()),
        "robustness.left_out.lowest_name": str(left_out["estimate"].idxmin()),
        "robustness.left_out.highest": float(left_out["estimate"].max()),
        "robustness.left_out.highest_name": str(left_out["estimate"].idxmax()),
        "robustness.errors.lowest_p": float(errors["p_value"].min()),
        "robustness.errors.highest_p": float(errors["p_value"].max()),
    }  # fmt: skip
    return found


def event_numbers(paths: Mapping[str, Estimate], comparisons: pd.DataFrame) -> dict[str, Scalar]:
    """Paths around an event with their tests, and how a two-way coefficient is put together."""
    found: dict[str, Scalar] = {}
    for name, path in paths.items():
        prefix = f"event.{slug(name)}"
        found |= frame_numbers(path.to_frame(), prefix)
        found[f"{prefix}.overall"] = path.diagnostics["overall"].statistic
        found[f"{prefix}.pretrends_p_value"] = path.diagnostics["pre-trends"].p_value or 0.0
        found[f"{prefix}.critical_value"] = float(path.simultaneous_bands(seed=1).attrs["critical_value"])
        found[f"{prefix}.n_entities"] = path.n_entities
    forbidden = comparisons["kind"] == "later vs earlier"
    found["event.two_way"] = float((comparisons["weight"] * comparisons["estimate"]).sum())
    found["event.forbidden_weight"] = float(comparisons.loc[forbidden, "weight"].sum())
    return found


def bounds_table(bounds: pd.DataFrame) -> str:
    """Bounds as Markdown: quantity, years, from, to, what they rest on."""
    shown = pd.DataFrame({
        "from": bounds["lower"].map("{:.1%}".format), "to": bounds["upper"].map("{:.1%}".format),
        "rests on": bounds["from"],
    })
    return markdown_table(shown, {"from": "", "to": ""}, label="quantity")


def needs_table(table: pd.DataFrame) -> str:
    """Hypotheses that the data cannot answer, as Markdown, with what would be needed."""
    return markdown_table(table[["question", "needed"]], {}, label="")


def errors_table(errors: pd.DataFrame) -> str:
    """One coefficient under other errors, as Markdown."""
    shown = pd.DataFrame({
        "std. error": ["" if pd.isna(value) else _number(value) for value in errors["std_error"]],
        "from": errors["lower"].map(_number),
        "to": errors["upper"].map(_number),
        "p": errors["p_value"].map(_probability),
    })
    shown.index = pd.Index([str(name).removesuffix(", linearmodels convention") for name in errors.index])
    return markdown_table(shown, dict.fromkeys(("std. error", "from", "to", "p"), ""), label="errors")


def stored_estimates(
    findings: tuple[Finding, ...], panels: Mapping[str, pd.DataFrame]
) -> list[dict[str, Any]]:
    """The estimates behind all claims and all studies, as `villageflow.econometrics.stored` writes them."""
    kept = [
        store(
            found.claim.name, found.claim.panel, found.estimate, panels[found.claim.panel],
            hypothesis=found.claim.hypothesis, claim=found.claim.says, term=found.claim.term, sign=found.claim.sign,
            primary=found.claim.primary, informs=found.claim.informs, value=found.value, yardstick=found.yardstick,
            lower=found.lower, upper=found.upper, p_value=found.p_value, adjusted=found.adjusted, method=found.method,
            verdict=found.verdict,
            caution=found.claim.caution,
        )
        for found in findings
    ]  # fmt: skip
    for name, study in STUDIES.items():
        table = run_study(name, build(study.panel))
        panel = study.prepare(build(study.panel))
        kept += [
            store(f"{name}/{block.title}/{label}", study.panel, result, panel, hypothesis=" ".join(study.hypotheses))
            for block in table.blocks
            for label, result in block.columns
        ]
    return kept


def quality_text(qualities: Mapping[str, Quality]) -> str:
    """Reports on several panels, one after the other."""
    return "\n".join(f"# {name}\n\n{found.to_markdown()}" for name, found in qualities.items())


def quality_numbers(qualities: Mapping[str, Quality]) -> dict[str, Scalar]:
    """How many breaks, conflicts and gaps each panel has."""
    found: dict[str, Scalar] = {}
    for name, one in qualities.items():
        detected = one.breaks["kind"] == "detected"
        found |= {
            f"quality.{name}.n_documented": int((~detected).sum()), f"quality.{name}.n_detected": int(detected.sum()),
            f"quality.{name}.n_checks": int(one.conflicts["identity"].nunique()),
            f"quality.{name}.n_gaps": len(one.gaps),
            f"quality.{name}.n_conflicts": int((one.conflicts["verdict"] == "conflict").sum()),
            f"quality.{name}.n_agree": int((one.conflicts["verdict"] == "agrees").sum()),
        }  # fmt: skip
    return found


def merges_text(audit: pd.DataFrame) -> str:
    """The joins behind a panel as Markdown: what was joined on which keys, rows in, matched, lost on either side."""
    shown = audit.reset_index()[["name", "keys", "rows_left", "rows_right", "matched", "left_only", "right_only"]]
    shown.columns = pd.Index(["joined", "on", "rows", "rows joined", "matched", "rows alone", "joined alone"])
    formats = dict.fromkeys(("rows", "rows joined", "matched", "rows alone", "joined alone"), "d")
    return markdown_table(shown.set_index("joined"), formats, label="joined")


def _probability(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _panel(formula: str, data: str, keys: tuple[str, str]) -> pd.DataFrame:
    if not data:
        raise DataError(f"A formula needs a panel. Give --data with a CSV file, or one of {', '.join(recipe_names())}.")
    if data in recipe_names():
        return build(data)
    if not Path(data).is_file() and not Path(data).suffix:
        raise DataError(f"{data!r} is no file and no panel. {did_you_mean(data, recipe_names())}")
    wanted, columns = _read(formula), read_cells(data).columns
    for option, key in zip(("entity", "time"), keys):
        if key not in columns:
            near = did_you_mean(key, columns)
            raise DataError(f"{data}: there is no column {key!r}. Name one with --{option}. {near}")
    numbers = [name for name in columns if name in wanted and name not in keys]
    labels = [name for name in columns if name not in wanted and name not in keys]
    return read_panel(
        data, entity=keys[0], time=keys[1], units=dict.fromkeys(numbers, _UNSTATED), labels=labels,
        extra_units=(_UNSTATED,),
    )  # fmt: skip


def _read(formula: str) -> set[str]:
    read = parse_formula(formula)
    terms = (read.outcome, *read.regressors, *read.endogenous, *read.instruments)
    return {column for term in terms for column in columns_of(term)}


def _as_json(found: Estimate, panel: pd.DataFrame, data: str) -> str:
    return json.dumps(store("estimate", Path(data).name, found, panel), indent=1, allow_nan=False) + "\n"


_WRITERS: Final[Mapping[str, Callable[[Estimate, pd.DataFrame, str], str]]] = {
    ".csv": lambda found, *_: found.to_frame().to_csv(lineterminator="\n"),
    ".md": lambda found, *_: found.to_markdown(),
    ".tex": lambda found, *_: found.to_latex(),
    ".json": _as_json,
}
