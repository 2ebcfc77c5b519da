"""Model files to `SourceModel`, through PySD's translators and nothing else of PySD.

Only the parsers run: they give an abstract syntax tree of each equation, which `pysd_syntax` copies into our own
nodes. PySD's code generator and runtime are never imported; what the translators misread is corrected in `pysd_strict`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import parsimonious
from lxml import etree

from villageflow.errors import ModelFileError, UnsupportedError, VillageflowError
from villageflow.frontend.pysd_strict import vensim_element, vensim_file, vensim_section, vensim_utils, xmile_file
from villageflow.frontend.pysd_syntax import definition, xmile_meaning
from villageflow.frontend.text import read_bytes, vensim_text, xmile_root
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.names import canonical

SUFFIXES = (".mdl", ".xmile", ".stmx")

_LOG = logging.getLogger("villageflow")
_RECURSION = 20_000
_PARSER_FAULTS = (
    parsimonious.exceptions.ParseError,
    parsimonious.exceptions.VisitationError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    SyntaxError,
    RecursionError,
)


def read_source(path: str | Path) -> SourceModel:
    """Parse a model file.

    Parameters
    ----------
    path : str or Path
        A Vensim ``.mdl``, or an XMILE ``.xmile`` or ``.stmx`` file.

    Returns
    -------
    SourceModel

    Raises
    ------
    ModelFileError
        The file is missing, undecodable, malformed, or not a model.
    UnsupportedError
        It uses a construct that is not supported; the message names it. Subscripts, macros, external data,
        modules and non-negative stocks are refused, never dropped.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelFileError(f"{path}: {suffix or 'no suffix'} is not a kind of model file; use {', '.join(SUFFIXES)}")
    content = read_bytes(path)
    with _deep_recursion(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the translators warn about is checked and refused here
        if suffix == ".mdl":
            method, variables = "euler", _read_vensim(path, content)
        else:
            method, variables = _read_xmile(path, content)
    return SourceModel(path, hashlib.sha256(content).hexdigest(), method, tuple(variables))


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """The parser recurses some forty frames for each bracket; nesting itself is bounded by `text.MAX_NESTING`."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


# ---------------------------------------------------------------------------------------------- Vensim


class _CheckedVensimFile(vensim_file.VensimFile):  # type: ignore[misc]
    """A VensimFile over text that was decoded and checked before."""

    def __init__(self, path: Path, text: str) -> None:
        self._checked_text = text
        super().__init__(path)

    def _read(self, encoding: str | None) -> str:
        return self._checked_text


def _read_vensim(path: Path, content: bytes) -> list[SourceVariable]:
    text = vensim_text(path, content)
    parsed = _CheckedVensimFile(path, text)
    try:
        parsed.parse(parse_all=False)
    except _PARSER_FAULTS as error:
        raise ModelFileError(f"{path} cannot be read as a Vensim model: {_reason(error)}") from None
    main, *macros = parsed.sections
    if macros:
        raise UnsupportedError(f"{path.name} defines the macro {macros[0].name!r}; macros are not supported yet")
    if main is None:
        raise ModelFileError(f"{path} holds no equations; it is not a Vensim model")
    lines = _LineFinder(text)
    components = []
    for element in _vensim_elements(path, main):
        try:
            component = element.parse()
        except _PARSER_FAULTS as error:
            raise ModelFileError(
                f"{path.name}: cannot read the equation {_shorten(element.equation)!r}: {_reason(error)}"
            ) from None
        components.append((component, lines.find(component.name)))
    _refuse_ranges(path, [component.name for component, _ in components
                          if isinstance(component, vensim_element.SubscriptRange)])
    variables = []
    for component, line in components:
        if isinstance(component, (vensim_element.Constraint, vensim_element.TestInput)):
            _LOG.warning("%s: reality check %r is not run", path.name, component.name)
            continue
        variables.append(_vensim_variable(path, component, line))
    return variables


def _vensim_elements(path: Path, section: vensim_section.Section) -> list[Any]:
    """The elements of a section; unlike the translator, refuses text that belongs to no element."""
    try:
        tree = vensim_utils.Grammar.get("section_elements").parse(section.content)
    except parsimonious.exceptions.ParseError as error:
        raise ModelFileError(
            f"{path} cannot be read as a Vensim model: {_reason(error)}; every equation ends in '~ unit ~ text |'"
        ) from None
    entries, rest = tree.children
    if rest.text.strip():
        raise ModelFileError(f"{path.name}: an equation is not closed by '~ unit ~ text |': {_shorten(rest.text)!r}")
    elements = []
    for entry in (child.children[0] for child in entries):
        if entry.expr_name == "section":
            if not entry.text.lstrip().startswith("*"):  # the headline of a group of equations is a row of stars
                raise ModelFileError(
                    f"{path.name}: {_shorten(entry.text)!r} has a unit but no text; every equation ends in "
                    "'~ unit ~ text |'"
                )
            continue
        equation, units, text, flag = (entry.children[i].text for i in (0, 2, 4, 5))
        if flag.strip(" ~") and not flag.strip(" ~").startswith(":"):
            raise ModelFileError(f"{path.name}: two equations run together at {_shorten(text)!r}; close the first by |")
        try:
            elements.append(vensim_element.Element(equation.strip(), units.strip(), text.strip()))
        except ValueError:
            raise ModelFileError(
                f"{path.name}: {_shorten(equation)!r} has the unit {_shorten(units)!r}; limits are written "
                "[0, 10] or [0, ?]"
            ) from None
    return elements


def _vensim_variable(path: Path, component: Any, line: int | None) -> SourceVariable:
    name = component.name
    place = f"{path.name}, line {line}" if line else path.name
    if component.subscripts and component.subscripts[0]:
        subscripts = component.subscripts[0]
        raise UnsupportedError(f"{place}: {name!r} has subscripts {subscripts}; subscripts are not supported yet")
    try:
        component.parse()
        abstract = component.get_abstract_component()
    except _PARSER_FAULTS as error:
        raise ModelFileError(
            f"{place}: cannot read the equation of {name!r}, {_shorten(str(component.expression))!r}: {_reason(error)}"
        ) from None
    limits = component.limits or (None, None)
    if len(limits) not in (2, 3):
        raise ModelFileError(f"{place}: {name!r} has the limits {limits}; write [0, 10] or [0, ?]")
    return SourceVariable(
        name=name.strip('"'),
        id=canonical(name),
        definition=definition(abstract, f"{place}: {name!r}"),
        units=component.units.strip(),
        documentation=" ".join(component.documentation.replace("\\", " ").split()),
        limits=(_limit(limits[0]), _limit(limits[1])),
        line=line,
    )


def _limit(limit: float | None) -> float | None:
    return None if limit is None or math.isnan(limit) else limit


def _refuse_ranges(path: Path, ranges: list[str]) -> None:
    if ranges:
        raise UnsupportedError(
            f"{path.name} defines the subscript range {ranges[0]!r}; subscripts are not supported yet"
        )


class _LineFinder:
    """Line numbers of equations, found in file order: the translator keeps no positions."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._from = 0

    def find(self, name: str) -> int | None:
        pattern = r"\s+".join(re.escape(word) for word in name.split())
        match = re.compile(rf"(?:^|[|\n])\s*({pattern})\s*(?:[=\[(:<]|$)", re.MULTILINE).search(self._text, self._from)
        if match is None:
            return None
        self._from = match.end(1)
        return self._text.count("\n", 0, match.start(1)) + 1


# ----------------------------------------------------------------------------------------------- XMILE


class _CheckedXmileFile(xmile_file.XmileFile):  # type: ignore[misc]
    """An XmileFile over a tree that was parsed strictly before."""

    def __init__(self, path: Path, root: etree._Element) -> None:
        self._checked_root = root
        super().__init__(path)

    def _get_root(self) -> etree._Element:
        return self._checked_root


_REFUSED_XMILE = {
    "macro": "macros", "module": "modules", "conveyor": "conveyors", "queue": "queues", "oven": "ovens",
    "dim": "arrays", "group_by": "grouped arrays", "element": "arrays",
}


def _read_xmile(path: Path, content: bytes) -> tuple[str, list[SourceVariable]]:
    root = xmile_root(path, content)
    space = {"x": root.nsmap[None]}
    specs = root.find("x:sim_specs", space)
    if specs is None:
        raise ModelFileError(f"{path} has no sim_specs; an XMILE model states its start, stop and step there")
    _refuse_xmile_constructs(path, root, space)
    _check_xmile_elements(path, root, specs, space)
    parsed = _CheckedXmileFile(path, root)
    try:
        parsed.parse(parse_all=False)
        section = parsed.sections[0]
        section.parse(parse_all=False)
    except _PARSER_FAULTS as error:
        raise ModelFileError(f"{path} cannot be read as an XMILE model: {_reason(error)}") from None
    variables = []
    for element in section.components:
        variables.append(_xmile_variable(path, element, section.behaviors))
    return specs.get("method", "euler").strip().lower(), variables


def _refuse_xmile_constructs(path: Path, root: etree._Element, space: dict[str, str]) -> None:
    models = root.findall("x:model", space)
    if not models:
        raise ModelFileError(f"{path} has no model element; it is not an XMILE model")
    for rule in root.iterfind(".//x:model/x:behavior//x:non_negative", space):
        if (rule.text or "").strip().lower() != "false":
            raise UnsupportedError(
                f"{path.name}, line {rule.sourceline}: the model makes its stocks or flows non-negative; "
                "not supported yet"
            )
    for tag, plural in _REFUSED_XMILE.items():
        found = root.find(f".//x:model//x:variables//x:{tag}", space)
        if found is None and tag in ("macro", "dim"):
            found = root.find(f".//x:{tag}", space)
        if found is not None:
            owner = found.get("name") or (found.getparent().get("name") if found.getparent() is not None else "")
            raise UnsupportedError(f"{path.name}, line {found.sourceline}: {owner!r} uses {plural}; not supported yet")
    if len(models) > 1:
        raise UnsupportedError(f"{path.name} holds {len(models)} models; modules are not supported")


def _check_xmile_elements(path: Path, root: etree._Element, specs: etree._Element, space: dict[str, str]) -> None:
    """What the translator takes for granted."""
    for tag in ("start", "stop", "dt"):
        if specs.find(f"x:{tag}", space) is None:
            raise ModelFileError(f"{path.name}, line {specs.sourceline}: sim_specs has no <{tag}>; state it")
    if specs.find("x:savestep", space) is not None:
        raise UnsupportedError(
            f"{path.name}, line {specs.sourceline}: sim_specs has a <savestep>, which is not supported yet; "
            "remove it and say how often to save when running"
        )
    for element in root.iterfind(".//x:model//x:variables/*", space):
        place, kind = f"{path.name}, line {element.sourceline}", etree.QName(element).localname
        if kind not in ("stock", "flow", "aux", "gf"):
            continue
        if not element.get("name", "").strip():
            raise ModelFileError(f"{place}: a variable has no name; give it one")
        if element.find("x:init_eqn", space) is not None:
            raise UnsupportedError(f"{place}: {element.get('name')!r} has an <init_eqn>, which is not supported yet")
        n_equations = len(element.findall("x:eqn", space))
        if kind != "gf" and n_equations != 1:
            name = element.get("name")
            raise ModelFileError(f"{place}: {name!r} has {n_equations} equations; a scalar variable has one")


def _xmile_variable(path: Path, element: Any, behaviors: dict[str, bool]) -> SourceVariable:
    node = getattr(element, "node", None)
    line = node.sourceline if node is not None else None
    place = f"{path.name}, line {line}" if line else path.name
    name = element.name
    try:
        element.parse(behaviors)
        components = element.get_abstract_element().components
    except _PARSER_FAULTS as error:
        raise ModelFileError(f"{place}: cannot read the equation of {name!r}: {_reason(error)}") from None
    if len(components) != 1:
        raise ModelFileError(f"{place}: {name!r} has {len(components)} equations; a scalar variable has one")
    return SourceVariable(
        name=" ".join(name.split()),
        id=canonical(name),
        definition=xmile_meaning(definition(components[0], f"{place}: {name!r}")),
        units=element.units.strip(),
        documentation=" ".join(element.documentation.split()),
        limits=element.limits,
        line=line,
    )


def _reason(error: BaseException) -> str:
    """One line of a parser's complaint."""
    if isinstance(error, VillageflowError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, parsimonious.exceptions.ParseError):
        near = _shorten(error.text[error.pos:]) or "its end"
        return f"it is not understood from {near!r} on"
    first = re.sub(r"^\w+(Error|Exception): ", "", (str(error).strip().splitlines() or [""])[0])
    if isinstance(error, (AttributeError, LookupError)) or not first:
        return "a part of it is missing"
    return _shorten(first, 160)


def _shorten(text: str, limit: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
