"""Quality of every shipped model: units, words, bounds, conservation, extremes, time step, tables."""

from __future__ import annotations

import importlib
import re
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import Runs, Series, base_runs, prior_runs

import villageflow as vf
from villageflow import library
from villageflow.analysis.loops import causal_links
from villageflow.audit.check import check
from villageflow.ir.nodes import Ref
from villageflow.ir.walk import nodes
from villageflow.names import canonical

NAMES = sorted(file.stem for file in (Path(__file__).parent / "quality").glob("*.py"))
# cumulated flows are sums of thousands of steps
CONSERVATION = 1e-9
BOUND = 1e-9


def quality(name: str):
    return importlib.import_module(f"quality.{name}")


def own_stocks(model) -> list[str]:
    """Stocks that the file writes, without those that delays are made of."""
    return [name for name in model.stocks if not name.startswith("#")]


def file_text(name: str) -> str:
    return (library.path(name) / f"{name}.mdl").read_text(encoding="utf-8")


def cases(attribute: str):
    return [
        pytest.param(name, case, id=f"{name}-{getattr(case, '__name__', case)}")
        for name in NAMES for case in getattr(quality(name), attribute)
    ]


def test_every_model_is_looked_at():
    assert library.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_check_finds_no_fault(name):
    """Words, units, dimensions, embedded numbers, use, tables, and loops with their polarity."""
    findings = check(library.read(name), library.path(name))
    assert [finding for finding in findings if not finding.advice] == []
    signed = {finding.place.partition("[")[0] for finding in findings if finding.check == "ranges"}
    assert signed <= {stock.partition("[")[0] for stock in quality(name).SIGNED}


@pytest.mark.parametrize("name", NAMES)
def test_file_form(name):
    text = file_text(name)
    assert text.startswith("{UTF-8}\n")
    assert max(map(len, text.splitlines())) < 200
    assert re.findall(r"(?m)^\t\.(\w+)$", text)[-1] == "Control"
    for variable in library.read(name).variables.values():
        assert len(variable.documentation) > 15, variable.name


@pytest.mark.parametrize("name", NAMES)
def test_what_nothing_reads_is_a_named_output(name):
    model = library.read(name)
    links = causal_links(model)
    read = {source for sources in links.values() for source in sources}
    for stock in model.stocks.values():
        read |= {node.name for node in nodes(stock.initial) if isinstance(node, Ref)}
    readme = (library.path(name) / "README.md").read_text(encoding="utf-8")
    outputs = {variable.partition("[")[0] for variable in model.auxiliaries if variable not in read}
    outputs -= {variable.partition("[")[0] for variable in read}
    missing = sorted(output for output in outputs if f"`{output}`" not in readme)
    assert missing == [], "outputs that the README does not name"


@pytest.mark.parametrize("name", NAMES)
def test_step_is_exact_and_short(name):
    model = library.read(name)
    step = vf.simulate(model, save=own_stocks(model)[0]).attrs["time_step"]
    assert np.log2(step).is_integer()
    priors = library.priors(name)
    times = priors[(priors["unit"] == "Year") & priors["name"].str.contains("time|delay|life")]
    assert (times["lower"] / 4 >= step).all(), times[times["lower"] / 4 < step]["name"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_the_values_of_the_file(name):
    model = library.read(name)
    for row in library.priors(name).to_dict("records"):
        element = row["element"] if isinstance(row["element"], str) else ""
        names = [canonical(row["name"]) + (f"[{element}]" if element else "")]
        if names[0] in model.arrays:
            names = [element for element in model.arrays[names[0]].ids if element]
        for constant in names:
            assert row["mode"] == pytest.approx(model.constants[constant], rel=1e-12), constant
        assert row["effect"] in ("none", "shared"), names


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_but_the_baseline_moves_an_outcome(name):
    table, run = library.scenarios(name), base_runs(name)
    assert "baseline" in set(table["scenario"])
    design = vf.Design.from_frame(run.table).with_scenarios(table)
    result = vf.simulate(run.model, design, save=list(quality(name).OUTCOMES))
    for scenario in result["scenario"].values:
        moved = any(
            not np.array_equal(result[v].sel(scenario=scenario).values, run()[v]) for v in quality(name).OUTCOMES
        )
        assert moved == (scenario != "baseline"), scenario


@pytest.mark.parametrize("name", NAMES)
def test_every_switch_is_a_loop_and_matters(name):
    run = base_runs(name)
    switches = {constant for constant in run.model.constants if constant.startswith("switch_")}
    assert switches == set(library.loops(name)["switch"].dropna())
    stocks = own_stocks(run.model)
    on = run()
    for switch in sorted(switches):
        assert run.model.constants[switch] == 1
        off = run({switch: 0.0})
        effect = max(np.abs(off[n] - on[n]).max() / max(np.abs(on[n]).max(), 1e-300) for n in stocks if n in on)
        effect = max([effect, *(_moved(off, on, array) for array in run.model.arrays if array in on)])
        assert effect > 1e-3, switch


def _moved(off: Series, on: Series, name: str) -> float:
    return float(np.abs(off[name] - on[name]).max() / max(np.abs(on[name]).max(), 1e-300))


def outside(result: Series, model) -> list[str]:
    """Variables that leave the range that the model declares."""
    found = []
    for name in result:
        ids = [element for element in model.arrays[name].ids if element] if name in model.arrays else [name]
        low = max((model.variables[i].limits[0] for i in ids if model.variables[i].limits[0] is not None), default=None)
        high = min((model.variables[i].limits[1] for i in ids if model.variables[i].limits[1] is not None),
                   default=None)
        values = result[name]
        size = max(float(np.abs(values).max(initial=0.0)), 1.0)
        if (low is not None and values.min() < low - BOUND * size) or (
            high is not None and values.max() > high + BOUND * size
        ):
            found.append(name)
    return found


@cache
def bounded(name: str) -> tuple[str, ...]:
    """Arrays and variables with a declared range that a run computes."""
    model = library.read(name)
    members = {element: array.id for array in model.arrays.values() for element in array.ids if element}
    return tuple(dict.fromkeys(
        members.get(variable.id, variable.id) for variable in model.variables.values()
        if variable.limits != (None, None) and variable.id not in model.constants and variable.id not in model.lookups
    ))


@pytest.mark.parametrize("name", NAMES)
def test_declared_ranges_hold_over_the_prior(name):
    run = prior_runs(name, bounded(name))
    result = run()
    run.forget()
    assert result.finished.all()
    assert outside(result, run.model) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_archetype_runs_within_the_declared_ranges(name):
    archetypes = dict.fromkeys(library.archetypes(name)["archetype"])
    run = base_runs(name, bounded(name))
    for archetype in archetypes:
        result = run.archetype(archetype)()
        assert result.finished.all(), archetype
        assert outside(result, run.model) == [], archetype


@pytest.mark.parametrize(("name", "changes"), cases("EXTREMES"))
def test_extreme_conditions(name, changes):
    run = base_runs(name, bounded(name))
    result = run(changes)
    assert result.finished.all()
    assert outside(result, run.model) == []


@pytest.mark.parametrize(("name", "words"), cases("EXPECTED"))
def test_what_must_follow_from_an_extreme_follows(name, words):
    assert quality(name).EXPECTED[words](base_runs(name)), words


@lru_cache(maxsize=64)
def every_step(name: str, switch: str) -> tuple[Series, float]:
    """Three members, the values of the file and two draws, with every step saved and one switch off."""
    model = library.read(name)
    table = vf.Design.lhs(library.priors(name), n=3, seed=7).table
    table.loc[0] = [float(model.constants[column]) for column in table.columns]
    if switch:
        table[switch] = 0.0
    step = vf.simulate(model, save=own_stocks(model)[0]).attrs["time_step"]
    return Series(vf.simulate(model, vf.Design.from_frame(table), save_every=step)), step


@pytest.mark.parametrize(("name", "law"), cases("CONSERVED"))
def test_conservation(name, law):
    """Persons, goods and money balance at every step, with all loops on and with each loop off."""
    for switch in ("", *library.loops(name)["switch"].dropna()):
        left, right, scale = law(*every_step(name, switch))
        tolerance = CONSERVATION * float(np.abs(scale).max())
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance, err_msg=switch or "all on")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("against", ["half the step", "rk4"])
def test_integration_error(name, against):
    model, outcomes = library.read(name), list(quality(name).OUTCOMES)
    coarse = vf.simulate(model, save=outcomes)
    options = {"time_step": coarse.attrs["time_step"] / 2} if against == "half the step" else {"method": "rk4"}
    fine = vf.simulate(model, save=outcomes, **options)
    for outcome in outcomes:
        error = np.abs(coarse[outcome].values - fine[outcome].values).max() / np.abs(fine[outcome].values).max()
        assert error < 0.01, (outcome, error)


def test_a_name_means_one_thing_in_the_family():
    """A name in two models, or in a shared core, has the same equation and documentation; constants the same unit.

    The ports of a core, which it reads and each model supplies, share the unit.
    """
    cores = {path.stem: path.read_text(encoding="utf-8") for path in (library.folder() / "submodels").glob("*.mdl")}
    texts = {**{name: file_text(name) for name in NAMES}, **cores}
    ports = set().union(*map(ports_of, cores.values()))
    seen: dict[str, tuple[str, str, str, str]] = {}
    for source, text in texts.items():
        for variable, equation, unit, words in blocks(text):
            is_constant = re.fullmatch(r"[-+0-9.eE]+", equation) is not None
            meaning = ("constant", unit, "") if is_constant else (equation, unit, words)
            if variable.partition("[")[0] in ports:
                meaning = ("port", unit.partition(" [")[0], "")
            if variable.isupper():
                continue
            if variable in seen:
                assert seen[variable][1:] == meaning, (variable, source, seen[variable][0])
            seen.setdefault(variable, (source, *meaning))


def ports_of(core: str) -> set[str]:
    """Names that a core reads and does not define."""
    own = {name.partition("[")[0] for name, *_ in blocks(core)}
    text = ",".join(re.sub(r"\[[^\]]*\]", "", equation) for _, equation, _, _ in blocks(core))
    return {word.strip() for word in re.split(r"[-+*/^(),<>=]", text)} - own


def test_a_core_occurs_whole():
    """A group that has the name of a shared core holds all of its variables."""
    for path in (library.folder() / "submodels").glob("*.mdl"):
        core = {variable for variable, *_ in blocks(path.read_text(encoding="utf-8"))}
        users = [name for name in NAMES if f"\t.{path.stem}\n" in file_text(name)]
        assert users, f"no model uses {path.name}"
        for name in users:
            assert core <= {variable for variable, *_ in blocks(file_text(name))}, (path.stem, name)


def blocks(text: str):
    """(name, equation, unit, documentation) of every variable of a .mdl file, white space made plain."""
    body = re.sub(r"(?s)\*{10,}.*?\|", "", text.removeprefix("{UTF-8}"))
    for block in body.split("|"):
        parts = [" ".join(part.split()) for part in block.split("~")]
        if len(parts) == 3 and parts[1]:
            name, _, right = parts[0].partition("=")
            yield name.strip(), right.strip(), parts[1], parts[2]


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_complete(name):
    for table in ("parameters", "scenarios", "archetypes", "facts", "reference_modes", "loops"):
        assert (library.path(name) / f"{table}.csv").is_file(), table
    priors = library.priors(name)
    assert priors["source"].notna().all()
    assert isinstance(prior_runs(name), Runs) and isinstance(priors, pd.DataFrame)
