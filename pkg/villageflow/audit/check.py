"""The verb `check`: what is wrong with a model as a document, and with the tables beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from villageflow import library
from villageflow.analysis.loops import causal_links, loop_signs
from villageflow.audit.dimensions import unit_faults
from villageflow.calibrate.facts import read_facts
from villageflow.datasets.schemas import read_table
from villageflow.datasets.values import check_values
from villageflow.ensemble.design import Design, as_design, check_model
from villageflow.errors import ModelFileError, VillageflowError
from villageflow.ir.model import CONTROL_IDS, Kind, Model
from villageflow.ir.nodes import Ref
from villageflow.ir.walk import nodes
from villageflow.names import variable_id

CHECKS: Final = {
    "documentation": "every variable says what it is",
    "units": "every variable has a unit",
    "dimensions": "every equation has the unit of its variable",
    "embedded numbers": "equations hold no number but 0, 1, 2 and -1: others are constants with a name",
    "use": "every constant is read by an equation",
    "ranges": "every stock states its least and greatest value",
    "tables": "the tables beside the model fit it",
    "loops": "every loop that loops.csv claims is there, with the stated polarity",
}
_ADVICE: Final = frozenset(("ranges",))
_PLAIN: Final = frozenset((0.0, 1.0, 2.0))
_NUMBER: Final = re.compile(r"(?<![\w.\]])\d+(?:\.\d*)?(?:e[-+]?\d+)?(?![\w.])")
_QUOTED: Final = re.compile(r'"[^"]*"|\[[^\]]*\]')
_SUFFIXES: Final = (".mdl", ".xmile", ".stmx")
_LOOP_DRAWS: Final = 100


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    check : str
        One of `CHECKS`.
    place : str
        Variable or file.
    message : str
        What, by which rule.
    """

    check: str
    place: str
    message: str

    @property
    def advice(self) -> bool:
        """Whether it is a hint that most models ignore without harm."""
        return self.check in _ADVICE


def check(model: Model, folder: str | Path | None = None) -> list[Finding]:
    """Check a model as a document, without running it, and the tables of its folder.

    Parameters
    ----------
    model : Model
        As `read_model` gives it.
    folder : str or Path, optional
        Where ``parameters.csv``, ``scenarios.csv``, ``archetypes.csv``, ``facts.csv``, ``reference_modes.csv`` and
        ``loops.csv`` may be; those that are there are read and compared with the model, and the signs of the loops'
        links are taken over draws from the priors.

    Returns
    -------
    list of Finding
        In the order of `CHECKS`; empty where nothing is wrong. Says nothing about whether a model is right.

    Raises
    ------
    ModelFileError
        `folder` is no folder.
    """
    check_model(model)
    if folder is not None and not Path(folder).is_dir():
        raise ModelFileError(f"{folder} is no folder; give the one that holds the model's tables")
    found = [*_documented(model), *_dimensions(model), *_numbers(model), *_unread(model), *_unbounded(model)]
    if folder is not None:
        found += [*_tables(model, Path(folder)), *_loops(model, Path(folder))]
    return sorted(found, key=lambda finding: list(CHECKS).index(finding.check))


def _documented(model: Model) -> Iterator[Finding]:
    for variable in model.variables.values():
        if not variable.documentation.strip():
            yield Finding("documentation", variable.id, "has no documentation")
        if not variable.units.strip() and variable.kind is not Kind.LOOKUP:
            yield Finding("units", variable.id, "has no unit; a pure number has dmnl")


def _dimensions(model: Model) -> Iterator[Finding]:
    for name, fault in unit_faults(model).items():
        yield Finding("dimensions", name, fault)


def _numbers(model: Model) -> Iterator[Finding]:
    for variable in model.variables.values():
        if variable.kind not in (Kind.STOCK, Kind.AUXILIARY):
            continue
        text = _QUOTED.sub(" ", variable.equation)
        odd = dict.fromkeys(number for number in _NUMBER.findall(text) if float(number) not in _PLAIN)
        if odd:
            yield Finding("embedded numbers", variable.id, f"has {', '.join(odd)} in its equation; name them")


def _unread(model: Model) -> Iterator[Finding]:
    read = {name for names in causal_links(model).values() for name in names}
    others = [*(stock.initial for stock in model.stocks.values()), *model.initials.values(), *model.controls.values()]
    for hold in model.holds.values():
        others += [hold.condition, hold.input, hold.initial]
    for delay in model.delays.values():
        others += [delay.input, delay.delay_time, delay.initial]
    read |= {node.name for expr in others for node in nodes(expr) if isinstance(node, Ref)}
    for name in model.constants:
        if name not in read and name not in CONTROL_IDS:
            yield Finding("use", name, "is a constant that no equation reads")


def _unbounded(model: Model) -> Iterator[Finding]:
    for name in model.stocks:
        variable = model.variables.get(name)
        if variable is not None and variable.limits == (None, None):
            yield Finding("ranges", name, "states no range; write [0,?] after its unit if it cannot be negative")


def _tables(model: Model, folder: Path) -> Iterator[Finding]:
    def priors(path: Path) -> None:
        table = read_table(path, "parameters")
        for bound in ("lower", "upper"):
            check_values(table, model, column=bound)
        as_design(Design.lhs(table, n=2, seed=1), model)

    def values(schema: str) -> None:
        check_values(read_table(folder / f"{schema}.csv", schema), model)

    readers: dict[str, Callable[[Path], object]] = {
        "parameters.csv": priors,
        "scenarios.csv": lambda path: values("scenarios"),
        "archetypes.csv": lambda path: values("archetypes"),
        "facts.csv": lambda path: read_facts(path, model),
        "reference_modes.csv": lambda path: read_table(path, "reference_modes"),
    }
    for name, reader in readers.items():
        if (folder / name).exists():
            try:
                reader(folder / name)
            except VillageflowError as error:
                yield Finding("tables", name, str(error))


def _loops(model: Model, folder: Path) -> Iterator[Finding]:
    if not (folder / "loops.csv").exists():
        return
    try:
        table = read_table(folder / "loops.csv", "loops")
        chains = {
            row["loop"]: [variable_id(name) for name in row["variables"].split(" > ")]
            for row in table.to_dict("records")
        }
        signs = loop_signs(model, chains, _draws(model, folder / "parameters.csv")).set_index("loop")
    except VillageflowError as error:
        yield Finding("loops", "loops.csv", str(error))
        return
    read = causal_links(model)
    for row in table.to_dict("records"):
        name, seen = row["loop"], signs.loc[row["loop"]]
        if seen["polarity"] != row["polarity"]:
            yield Finding("loops", name, f"is stated as {row['polarity']}; its links have the signs {seen['signs']}")
        if seen["depends"] and not isinstance(row["note"], str):
            message = f"has links whose sign depends on state: {seen['depends']}; say so in its note"
            yield Finding("loops", name, message)
        if isinstance(row["switch"], str):
            near = {*chains[name], *(source for target in chains[name] for source in read[target])}
            switch = variable_id(row["switch"])
            if switch not in model.constants or not any(switch in read.get(target, ()) for target in near):
                yield Finding("loops", name, f"its switch {row['switch']!r} is not in its equations or those they read")


def _draws(model: Model, priors: Path) -> Design | None:
    """Draws from the priors; none without a file, or with a faulty one, which is a finding of its own."""
    if not priors.exists():
        return None
    try:
        return as_design(Design.lhs(read_table(priors, "parameters"), n=_LOOP_DRAWS, seed=1), model)
    except VillageflowError:
        return None


def check_all(what: str) -> Iterator[tuple[str, list[Finding]]]:
    """Check a model file, a shipped model by its name, or every model of a folder and of the folders below it.

    Parameters
    ----------
    what : str
        A model in a folder of its own name is checked with the tables there, any other file alone.

    Raises
    ------
    ModelFileError
        Nothing to check at that place, or a file that cannot be read.
    """
    path = Path(what)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.parent.name == file.stem)
        if not files:
            raise ModelFileError(f"{what}: no folder below it holds a model of its own name, such as tea/tea.mdl")
    else:
        files = [path if path.suffix or path.exists() else library.path(what) / f"{what}.mdl"]
    for file in files:
        yield file.stem, check(library.read_model(file), file.parent if file.parent.name == file.stem else None)
