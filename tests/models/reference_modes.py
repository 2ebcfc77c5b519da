"""Reference modes over prior and retained draws; writes the page on them and the map of the models.

    ./run modes

A mode is *shown* if it holds in at least 0.8 of the prior draws or 0.95 of the retained ones; any other is a finding,
and the model's ``reference_modes.csv`` says what fails. Same draws, same bits: the tests compare the page exactly.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

import pandas as pd
from runs import N_DRAWS, Runs, Truth, base_runs, prior_runs

import villageflow as vf
from villageflow import library
from villageflow.calibrate.facts import read_facts
from villageflow.datasets import read_table

PAGE = Path(__file__).parents[2] / "docs" / "reference_modes.md"
README = Path(__file__).parents[2] / "models" / "README.md"
SYSTEMS = README.with_name("systems.csv")
MARKS = ("<!-- systems -->\n", "<!-- end of systems -->\n")
N_MATCHED = 4000
N_RETAINED = 1000
FEWEST = 100
PRIOR_SHARE = 0.8
RETAINED_SHARE = 0.95
KINDS = {"q": "against a fact", "s": "sign, order or timing", "cf": "counterfactual"}


@cache
def retained_runs(name: str, saved: tuple[str, ...] = ()) -> Runs | None:
    """Draws that agree with the model's facts, at most `N_RETAINED`; None where it has no fact, or too few agree."""
    file = library.path(name) / "facts.csv"
    if not file.exists():
        return None
    model = library.read(name)
    facts = read_facts(file, model)
    if not any(fact.condition for fact in facts):
        return None
    match = vf.history_match(model, vf.Design.lhs(library.priors(name), n=N_MATCHED, seed=2), facts)
    if match.n_retained < FEWEST:
        return None
    return Runs(name, match.retained().table.head(N_RETAINED), saved)


@cache
def evaluate(name: str) -> pd.DataFrame:
    """One row for each reference mode of a model: whether it holds at its values, and in which share of draws."""
    module = importlib.import_module(f"modes.{name}")
    table = read_table(library.path(name) / "reference_modes.csv", "reference_modes").set_index("rm_id")
    saved = tuple(getattr(module, "SAVED", ()))
    sets = {"base": base_runs(name, saved), "prior": prior_runs(name, saved), "retained": retained_runs(name, saved)}
    if missing := set(table.index) ^ set(module.MODES):
        raise AssertionError(f"{name}: reference_modes.csv and modes/{name}.py do not name the same modes: {missing}")
    rows = []
    for rm_id, mode in module.MODES.items():
        held = {what: None if runs is None else _held(mode, runs) for what, runs in sets.items()}
        rows.append({"rm_id": rm_id, **table.loc[rm_id].to_dict(), **held})
    for runs in sets.values():
        if runs is not None:
            runs.forget()
    found = pd.DataFrame(rows)
    found["shown"] = (found["prior"] >= PRIOR_SHARE) | (found["retained"].fillna(0) >= RETAINED_SHARE)
    return found


def _held(mode, runs: Runs) -> float:
    truth: Truth = mode(runs)
    assert truth.shape == (len(runs),) and truth.dtype == bool, f"{mode.__name__} gives {truth.dtype}{truth.shape}"
    return float(truth.mean())


def section(name: str) -> str:
    """The part of the page on one model."""
    found = evaluate(name)
    lines = [f"## {name}", "", "| mode | | statement | base | prior | retained | |", "|---|---|---|---|---|---|---|"]
    for row in found.to_dict("records"):
        retained = "" if pd.isna(row["retained"]) else f"{row['retained']:.3f}"
        lines.append(
            f"| {row['rm_id']} | {row['kind']} | {row['statement']} | {'yes' if row['base'] == 1 else 'no'} | "
            f"{row['prior']:.3f} | {retained} | {'shown' if row['shown'] else 'finding'} |"
        )
    findings = found[~found["shown"]]
    if len(findings):
        lines += ["", "What fails where a mode is a finding:", ""]
        lines += [f"- **{row['rm_id']}.** {row['finding']}" for row in findings.to_dict("records")]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    names = library.names()
    tables = {name: evaluate(name) for name in names}
    total, shown = sum(map(len, tables.values())), sum(int(table["shown"].sum()) for table in tables.values())
    kinds = "; ".join(f"`{kind}` {text}" for kind, text in KINDS.items())
    head = f"""# Reference modes

{total} statements about behaviour, each a test that runs the model and can fail; {shown} are shown, {total - shown} are
findings. Written by `./run modes`; the tests compute it again and compare.

*base*: holds at the values of the model file. *prior*: share of {N_DRAWS:,} draws from the priors of
`parameters.csv` in which it holds. *retained*: share among at most {N_RETAINED:,} of {N_MATCHED:,} other draws that
agree with every conditioning fact of `facts.csv`; blank where the model has no such fact. A mode is shown at
{PRIOR_SHARE} of the prior or {RETAINED_SHARE} of the retained draws. Kinds: {kinds}.
A member whose run does not stay finite counts as one that does not show the mode. Priors were not narrowed to make a
mode hold; where thresholds, structure or assumed ranges were changed after a first look at shares, the README of the
model says so.

| model | modes | shown | findings |
|---|---|---|---|
"""
    rows = "".join(
        f"| {name} | {len(table)} | {int(table['shown'].sum())} | {int((~table['shown']).sum())} |\n"
        for name, table in tables.items()
    )
    return head + rows + "\n" + "\n".join(section(name) for name in names)


def system_table() -> str:
    """The map from systems to models and variables, as ``models/README.md`` has it."""
    lines = ["| system | | model | variables |", "|---|---|---|---|"]
    for row in pd.read_csv(SYSTEMS, dtype=str).to_dict("records"):
        names = ", ".join(f"`{name}`" for name in row["variables"].split())
        primary = row["role"] == "primary"
        model = f"**{row['model']}**" if primary else row["model"]
        lines.append(f"| {row['system'] if primary else ''} | {row['name'] if primary else ''} | {model} | {names} |")
    return "\n".join(lines) + "\n"


def write() -> None:
    """Write the page on reference modes and the map in the README of the models."""
    PAGE.write_text(page(), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    README.write_text(before + MARKS[0] + system_table() + MARKS[1] + rest.split(MARKS[1])[1], encoding="utf-8")


if __name__ == "__main__":
    write()
