"""Vensim model files: sections, ranges, equations and macros."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import parsimonious

from villageflow.errors import ModelFileError, UnsupportedError
from villageflow.frontend.datafile import DataFiles
from villageflow.frontend.external import ExternalFiles
from villageflow.frontend.faults import PARSER_FAULTS, reason, shorten
from villageflow.frontend.parsed import Parsed
from villageflow.frontend.pysd_strict import is_translated, vensim_element, vensim_utils
from villageflow.frontend.pysd_syntax import Context, at, definition
from villageflow.frontend.ranges import Range, most_elements, resolve_ranges
from villageflow.frontend.text import vensim_text
from villageflow.frontend.vensim_text import (
    LineFinder,
    Section,
    join_lines,
    n_ranged,
    outputs_as_arguments,
    quote_names,
    split_sections,
    text_value,
    with_equation,
    with_texts,
)
from villageflow.ir.dimensions import Dimensions
from villageflow.ir.source import Macro, SourceVariable
from villageflow.names import canonical

_LOG = logging.getLogger("villageflow")

Located: TypeAlias = tuple[Any, int | None]


def read_vensim(path: Path, content: bytes, files: ExternalFiles, data: DataFiles) -> Parsed:
    """Parse a Vensim ``.mdl`` file.

    Parameters
    ----------
    path : Path
        For messages.
    content : bytes
        Of the file.
    files : ExternalFiles
        Reader of the spreadsheets that the model names.
    data : DataFiles
        Values of data variables without an equation.
    """
    main, *macros = split_sections(path, vensim_text(path, content))
    if not main.text.strip():
        raise ModelFileError(f"{path} holds no equations; it is not a Vensim model")
    outputs = {canonical(macro.name): len(macro.outputs) for macro in macros}
    components = _components(path, main, outputs)
    ranges = [component for component, _ in components if isinstance(component, vensim_element.SubscriptRange)]
    dimensions = resolve_ranges(path.name, [_range(path, item, files) for item in ranges], most_elements(len(content)))
    reader = _Reader(path, Dimensions(dimensions), files, data)
    return Parsed(
        "euler",
        tuple(reader.variables(components)),
        dimensions,
        tuple(_macro(reader, macro, outputs) for macro in macros),
    )


def _macro(reader: _Reader, section: Section, outputs: dict[str, int]) -> Macro:
    if is_translated(canonical(section.name), vensim=True):
        raise ModelFileError(
            f"{reader.path.name}, line {section.line}: the macro {section.name!r} has the name of a function; rename it"
        )
    components = _components(reader.path, section, outputs)
    for component, _ in components:
        if isinstance(component, vensim_element.SubscriptRange):
            raise UnsupportedError(
                f"{reader.path.name}: macro {section.name!r} defines the subscript range {component.name!r}; define it "
                "outside the macro"
            )
    return Macro(
        section.name, canonical(section.name), tuple(map(canonical, section.inputs)),
        tuple(map(canonical, section.outputs)), tuple(reader.variables(components)),
    )


def _components(path: Path, section: Section, outputs: dict[str, int]) -> list[Located]:
    """Left sides of a section's equations, parsed, with their lines."""
    lines = LineFinder(section)
    components = []
    elements = _elements(path, section)
    texts = dict(found for found in (text_value(element.equation) for element in elements) if found is not None)
    quoted = quote_names(path, [element.equation for element in elements])
    most = most_elements(len(section.text))
    if sum(map(n_ranged, quoted)) > most:
        raise ModelFileError(f"{path.name}: its ranges of elements stand for more than {most:,}; make them smaller")
    for element, equation in zip(elements, quoted, strict=True):
        line = lines.find(element.equation)
        if text_value(equation) is not None:
            continue
        element.equation = outputs_as_arguments(with_equation(with_texts(equation, texts)), outputs)
        try:
            component = element.parse()
        except PARSER_FAULTS as error:
            raise ModelFileError(
                f"{path.name}: cannot read the equation {shorten(element.equation)!r}: {reason(error)}"
            ) from None
        components.append((component, line))
    return components


def _elements(path: Path, section: Section) -> list[Any]:
    """The elements of a section; unlike the translator, refuses text that belongs to no element."""
    try:
        tree = vensim_utils.Grammar.get("section_elements").parse(join_lines(section.text))
    except parsimonious.exceptions.ParseError as error:
        raise ModelFileError(
            f"{path} cannot be read as a Vensim model: {reason(error)}; every equation ends in '~ unit ~ text |'"
        ) from None
    entries, rest = tree.children
    if rest.text.strip():
        raise ModelFileError(f"{path.name}: an equation is not closed by '~ unit ~ text |': {shorten(rest.text)!r}")
    elements = []
    for entry in (child.children[0] for child in entries):
        if entry.expr_name == "section":
            if not entry.text.lstrip().startswith("*"):  # the headline of a group of equations is a row of stars
                raise ModelFileError(
                    f"{path.name}: {shorten(entry.text)!r} has a unit but no text; every equation ends in "
                    "'~ unit ~ text |'"
                )
            continue
        equation, units, text, flag = (entry.children[i].text for i in (0, 2, 4, 5))
        if flag.strip(" ~") and not flag.strip(" ~").startswith(":"):
            raise ModelFileError(f"{path.name}: two equations run together at {shorten(text)!r}; close the first by |")
        try:
            elements.append(vensim_element.Element(equation.strip(), units.strip(), text.strip()))
        except ValueError:
            raise ModelFileError(
                f"{path.name}: {shorten(equation)!r} has the unit {shorten(units)!r}; limits are written "
                "[0, 10] or [0, ?]"
            ) from None
    return elements


def _range(path: Path, component: Any, files: ExternalFiles) -> Range:
    listed = component.definition
    if isinstance(listed, str):
        return Range(component.name, (listed,), alias=True)
    if isinstance(listed, dict):
        with at(f"{path.name}: {component.name!r}"):
            listed = files.subscripts(
                listed["file"], listed["tab"], listed["firstcell"], listed["lastcell"], listed["prefix"]
            )
    maps = tuple((name, tuple(parts) if parts is not None else None) for name, parts in component.mapping)
    return Range(component.name, tuple(listed), maps)


class _Reader:
    """Turns parsed components into variables."""

    def __init__(self, path: Path, dimensions: Dimensions, files: ExternalFiles, data: DataFiles) -> None:
        self.path, self._dimensions, self._files, self._data = path, dimensions, files, data

    def variables(self, components: Iterable[Located]) -> list[SourceVariable]:
        variables = []
        for component, line in components:
            if isinstance(component, (vensim_element.Constraint, vensim_element.TestInput)):
                _LOG.warning("%s: reality check %r is not run", self.path.name, component.name)
            elif not isinstance(component, vensim_element.SubscriptRange):
                variables.append(self._variable(component, line))
        return variables

    def _variable(self, component: Any, line: int | None) -> SourceVariable:
        name = component.name
        place = f"{self.path.name}, line {line}" if line else self.path.name
        try:
            component.parse()
            abstract = component.get_abstract_component()
        except PARSER_FAULTS as error:
            raise ModelFileError(
                f"{place}: cannot read the equation of {name!r}, {shorten(str(component.expression))!r}: "
                f"{reason(error)}"
            ) from None
        limits = component.limits or (None, None)
        if len(limits) not in (2, 3):
            raise ModelFileError(f"{place}: {name!r} has the limits {limits}; write [0, 10] or [0, ?]")
        subscripts = tuple(map(canonical, component.subscripts[0]))
        exceptions = tuple(tuple(map(canonical, group)) for group in component.subscripts[1])
        context = Context(f"{place}: {name!r}", canonical(name), subscripts, self._dimensions, self._files, self._data)
        return SourceVariable(
            name=" ".join(name.strip('"').split()),
            id=canonical(name),
            definition=definition(abstract, context),
            units=component.units.strip(),
            documentation=" ".join(component.documentation.replace("\\", " ").split()),
            limits=(_limit(limits[0]), _limit(limits[1])),
            line=line,
            subscripts=subscripts,
            exceptions=exceptions,
        )


def _limit(limit: float | None) -> float | None:
    return None if limit is None or math.isnan(limit) else limit
