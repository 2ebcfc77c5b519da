"""XMILE and Stella model files: checks, dimensions, equations and macros."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from villageflow.errors import ModelFileError, UnsupportedError
from villageflow.frontend.datafile import DataFiles
from villageflow.frontend.external import ExternalFiles
from villageflow.frontend.faults import PARSER_FAULTS, reason
from villageflow.frontend.parsed import Parsed
from villageflow.frontend.pysd_strict import is_translated, xmile_file
from villageflow.frontend.pysd_syntax import Context, definition, xmile_meaning
from villageflow.frontend.ranges import Range, most_elements, resolve_ranges
from villageflow.frontend.text import xmile_root
from villageflow.ir.dimensions import Dimensions
from villageflow.ir.source import Macro, SourceVariable
from villageflow.names import canonical

_REFUSED = {
    "module": "modules", "conveyor": "conveyors", "queue": "queues", "oven": "ovens", "group_by": "grouped arrays",
    "multiplier": "flows that convert units", "leak": "leaks", "overflow": "overflows",
}
_KINDS = frozenset({"stock", "flow", "aux", "gf", "group"})


class _CheckedXmileFile(xmile_file.XmileFile):  # type: ignore[misc]
    """An XmileFile over a tree that was parsed strictly before."""

    def __init__(self, path: Path, root: etree._Element) -> None:
        self._checked_root = root
        super().__init__(path)

    def _get_root(self) -> etree._Element:
        return self._checked_root


def read_xmile(path: Path, content: bytes) -> Parsed:
    """Parse an XMILE ``.xmile`` or Stella ``.stmx`` file.

    Parameters
    ----------
    path : Path
        For messages.
    content : bytes
        Of the file.
    """
    root = xmile_root(path, content)
    space = {"x": root.nsmap[None]}
    specs = root.find("x:sim_specs", space)
    if specs is None:
        raise ModelFileError(f"{path} has no sim_specs; an XMILE model states its start, stop and step there")
    _refuse_constructs(path, root, space)
    _check_specs(path, specs, space)
    _check_variables(path, root, space)
    _check_non_negative(path, root, space)
    _settle_behavior(root, space)
    _join_macro_names(root, space)
    macros = [_macro(path, root, element, space) for element in root.findall("x:macro", space)]
    for element in root.findall("x:macro", space):
        root.remove(element)
    dimensions = resolve_ranges(path.name, _ranges(path, root, space), most_elements(len(content)))
    variables = _variables(path, root, Dimensions(dimensions))
    return Parsed(specs.get("method", "euler").strip().lower(), variables, dimensions, tuple(macros))


def _ranges(path: Path, root: etree._Element, space: dict[str, str]) -> list[Range]:
    ranges = []
    for dim in root.findall("x:dimensions/x:dim", space):
        elements = dim.findall("x:elem", space)
        for named in (dim, *elements):
            if not named.get("name", "").strip():
                raise ModelFileError(f"{path.name}, line {named.sourceline}: a dimension or an element has no name")
        ranges.append(Range(dim.get("name"), tuple(element.get("name") for element in elements)))
    return ranges


def _join_macro_names(root: etree._Element, space: dict[str, str]) -> None:
    """Calls of a macro whose name has blanks get the underscores that the grammar asks for."""
    names = [macro.get("name", "").split() for macro in root.findall("x:macro", space)]
    parts = [r"[\s_]+".join(map(re.escape, words)) for words in names if len(words) > 1]
    if not parts:
        return
    call = re.compile(rf"\b(?:{'|'.join(sorted(parts, key=len, reverse=True))})(?=\s*\()", re.IGNORECASE)
    for equation in root.iterfind(".//x:eqn", space):
        equation.text = call.sub(lambda found: "_".join(found[0].split()), equation.text or "")


def _refuse_constructs(path: Path, root: etree._Element, space: dict[str, str]) -> None:
    models = root.findall("x:model", space)
    if not models:
        raise ModelFileError(f"{path} has no model element; it is not an XMILE model")
    for tag, plural in _REFUSED.items():
        found = root.find(f".//x:model//x:variables//x:{tag}", space)
        if found is not None:
            owner = found.get("name") or (found.getparent().get("name") if found.getparent() is not None else "")
            raise UnsupportedError(f"{path.name}, line {found.sourceline}: {owner!r} uses {plural}; not supported yet")
    if len(models) > 1:
        raise UnsupportedError(f"{path.name} holds {len(models)} models; modules are not supported")


def _check_non_negative(path: Path, root: etree._Element, space: dict[str, str]) -> None:
    for rule in root.iterfind(".//x:non_negative", space):
        if (rule.text or "").strip().lower() not in ("", "true", "false"):
            raise ModelFileError(
                f"{path.name}, line {rule.sourceline}: <non_negative> holds {rule.text.strip()!r}; write true or false"
            )


def _settle_behavior(root: etree._Element, space: dict[str, str]) -> None:
    """The translator looks for ``behavior`` beside the model only, and takes ``false`` for yes."""
    for behavior in root.findall("x:model/x:behavior", space):
        behavior.getparent().remove(behavior)
        root.append(behavior)
    for rule in root.findall("x:behavior//x:non_negative", space):
        if (rule.text or "").strip().lower() == "false":
            rule.getparent().remove(rule)


def _check_specs(path: Path, specs: etree._Element, space: dict[str, str]) -> None:
    for tag in ("start", "stop", "dt"):
        n_found = len(specs.findall(f"x:{tag}", space))
        if n_found != 1:
            what = f"{n_found} <{tag}>; state it once" if n_found else f"no <{tag}>; state it"
            raise ModelFileError(f"{path.name}, line {specs.sourceline}: sim_specs has {what}")
    reciprocal = specs.find("x:dt", space).get("reciprocal", "false")
    if reciprocal.strip().lower() not in ("true", "false"):
        raise ModelFileError(
            f"{path.name}, line {specs.sourceline}: <dt> has reciprocal={reciprocal!r}; write true or false"
        )
    if specs.find("x:savestep", space) is not None:
        raise UnsupportedError(
            f"{path.name}, line {specs.sourceline}: sim_specs has a <savestep>, which is not supported yet; "
            "remove it and say how often to save when running"
        )


def _check_variables(path: Path, root: etree._Element, space: dict[str, str]) -> None:
    """What the translator takes for granted."""
    sizes = {dim.get("name"): len(dim.findall("x:elem", space)) for dim in root.findall("x:dimensions/x:dim", space)}
    for element in root.iterfind(".//x:variables/*", space):
        place, kind = f"{path.name}, line {element.sourceline}", etree.QName(element).localname
        name = element.get("name", "").strip()
        if kind not in _KINDS and etree.QName(element).namespace == space["x"]:
            raise UnsupportedError(f"{place}: {name!r} is of the kind <{kind}>, which is not supported")
        if kind not in _KINDS or kind == "group":
            continue
        if not name:
            raise ModelFileError(f"{place}: a variable has no name; give it one")
        if element.find("x:init_eqn", space) is not None:
            raise UnsupportedError(f"{place}: {name!r} has an <init_eqn>, which is not supported yet")
        parts = element.findall("x:element", space)
        if any(not part.get("subscript", "").strip() for part in parts):
            raise ModelFileError(f"{place}: an element of {name!r} has no subscript; name it")
        if kind == "gf":
            continue
        n_wanted = 1 if parts else _n_equations(element, space, sizes)
        for part in parts or [element]:
            n_equations = len(part.findall("x:eqn", space))
            if n_equations not in (1, n_wanted):
                what = f"element {part.get('subscript')!r}" if parts else "it"
                raise ModelFileError(f"{place}: {name!r} has {n_equations} equations for {what}; there must be one")


def _n_equations(element: etree._Element, space: dict[str, str], sizes: Mapping[str | None, int]) -> int:
    """Equations that a variable may have: one, or over one dimension one for each of its elements."""
    own = [dim.get("name") for dim in element.findall("x:dimensions/x:dim", space)]
    return sizes.get(own[0], 1) if len(own) == 1 else 1


def _macro(path: Path, root: etree._Element, element: etree._Element, space: dict[str, str]) -> Macro:
    """A macro: its variables, and its equation as a variable of the macro's name."""
    name = element.get("name", "").strip()
    place = f"{path.name}, line {element.sourceline}"
    equation = element.find("x:eqn", space)
    if not name or equation is None:
        raise ModelFileError(f"{place}: a macro needs a name and an <eqn>; write them")
    if is_translated(canonical(name), vensim=False):
        raise ModelFileError(f"{place}: the macro {name!r} has the name of a function; rename it")
    inside = f"{{{space['x']}}}"
    whole = etree.Element(root.tag, nsmap=root.nsmap)
    whole.append(copy.deepcopy(root.find("x:sim_specs", space)))
    variables = etree.SubElement(etree.SubElement(whole, f"{inside}model"), f"{inside}variables")
    for child in element.findall("x:variables/*", space):
        variables.append(copy.deepcopy(child))
    result = etree.SubElement(variables, f"{inside}aux", name=name)
    result.append(copy.deepcopy(equation))
    controls = {"initial_time", "final_time", "time_step", "saveper"}
    inputs = tuple(canonical(parm.text or "") for parm in element.findall("x:parm", space))
    parsed = [variable for variable in _variables(path, whole, Dimensions(())) if variable.id not in controls]
    return Macro(name, canonical(name), inputs, (), tuple(parsed))


def _variables(path: Path, root: etree._Element, dimensions: Dimensions) -> tuple[SourceVariable, ...]:
    parsed = _CheckedXmileFile(path, root)
    try:
        parsed.parse(parse_all=False)
        section = parsed.sections[0]
        section.parse(parse_all=False)
    except PARSER_FAULTS as error:
        raise ModelFileError(f"{path} cannot be read as an XMILE model: {reason(error)}") from None
    return tuple(
        variable
        for element in section.components
        for variable in _parts(path, element, section.behaviors, dimensions)
    )


def _parts(path: Path, element: Any, behaviors: dict[str, bool], dimensions: Dimensions) -> list[SourceVariable]:
    """The equations of one variable: one, or one for each element of an array that is defined by parts."""
    node = getattr(element, "node", None)
    line = node.sourceline if node is not None else None
    place = f"{path.name}, line {line}" if line else path.name
    name = element.name
    try:
        element.parse(behaviors)
        components = element.get_abstract_element().components
    except PARSER_FAULTS as error:
        raise ModelFileError(f"{place}: cannot read the equation of {name!r}: {reason(error)}") from None
    variables = []
    for component in components:
        subscripts = tuple(map(canonical, component.subscripts[0]))
        context = Context(
            f"{place}: {name!r}", canonical(name), subscripts, dimensions, ExternalFiles(path.parent), DataFiles()
        )
        variables.append(SourceVariable(
            name=" ".join(name.split()),
            id=canonical(name),
            definition=xmile_meaning(definition(component, context)),
            units=element.units.strip(),
            documentation=" ".join(element.documentation.split()),
            limits=element.limits,
            line=line,
            subscripts=subscripts,
        ))
    return variables
