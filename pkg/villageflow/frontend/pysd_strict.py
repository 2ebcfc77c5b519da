"""PySD's translators, with the readings corrected that differ from the modelling languages or hide a mistake.

The translators evaluate the numbers, points and strings that they matched with Python's ``eval``, and one of their
patterns (the limits of a table) matches any text; here they evaluate literals only, so no text of a model file can
run. The rest of this file is grammar: signs and powers, NOT, MOD, commas, the order of points, names of functions.
`pysd_adapter` takes the translators from here.
"""

from __future__ import annotations

import ast
import copy
import math
import warnings
from typing import Any

from villageflow.frontend.peg import QuickVisitor, numbered, quick
from villageflow.frontend.text import MAX_NESTING

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what the translators themselves import
    from pysd.translators.structures import abstract_expressions as ae
    from pysd.translators.structures import abstract_model as am
    from pysd.translators.vensim import vensim_element, vensim_file, vensim_section, vensim_utils
    from pysd.translators.xmile import xmile_element, xmile_file, xmile_section, xmile_utils

__all__ = ["ae", "am", "is_translated", "vensim_element", "vensim_file", "vensim_section", "vensim_utils", "xmile_file"]

_INTERNAL = frozenset({
    "reference", "subscripts_ref", "arithmetic", "logic", "call", "with_lookup", "inline_lookup", "data", "negative",
    "stock",
})
"""Names of the translators' own building blocks, which they would let an equation call."""


def is_translated(function: str, *, vensim: bool) -> bool:
    """Whether a translator gives a function its meaning before any macro of that name could."""
    known = vensim_element.structures if vensim else xmile_element.structures
    return function in known and function not in _INTERNAL


class _StrictEquation(QuickVisitor):
    """What both equation visitors read otherwise than the modelling languages do, or read without a complaint."""

    elements: dict[str, Any]
    negatives: set[str]

    def visit_neg_expr(self, _: Any, parts: list[str]) -> str:
        """A sign is an operation of its own, applied after the powers that follow it: -2^2 is -4."""
        if parts[0] == "-":
            self.negatives.add(parts[2])
        return parts[2]

    def visit_exp_expr(self, _: Any, parts: list[str]) -> Any:
        """Powers group from the right, as in Vensim's records and the XMILE standard: 2^3^2 is 512."""
        ids = "".join(parts).strip().split("^")
        if len(ids) == 1 and ids[0] not in self.negatives:
            return ids[0]
        if len(ids) > MAX_NESTING:
            raise ValueError(f"more than {MAX_NESTING} powers in a row; simplify the equation")
        result: Any = None
        for item in reversed(ids):
            operand = self.elements[item]
            result = operand if result is None else ae.ArithmeticStructure(["^"], (operand, result))
            if item in self.negatives:
                self.negatives.remove(item)
                result = ae.ArithmeticStructure(["negative"], (result,))
        return self.add_element(result)

    def visit_array(self, node: Any, parts: list[str]) -> Any:
        """A list of numbers; the grammar also takes ``1 + 2`` for one, which is a sum."""
        if "," in node.text or ";" in node.text:
            return super().visit_array(node, parts)
        terms = [child.children[0].text for child in node.children[0].children]
        if not all(term.lstrip()[0] in "+-" for term in terms[1:]):
            raise ValueError(f"{node.text.strip()!r} has numbers without an operator or comma between them")
        values = [_literal("".join(term.split())) for term in terms]
        if len(values) == 1:
            return self.add_element(values[0])
        operators = ["+" if math.copysign(1.0, value) > 0 else "-" for value in values[1:]]
        return self.add_element(ae.ArithmeticStructure(operators, (values[0], *map(abs, values[1:]))))

    def visit_arguments(self, node: Any, parts: list[str]) -> Any:
        """Every argument but the last ends in a comma; the grammar lets commas be left out."""
        commas = [child.children[2].text for child in node.children]
        if commas and (commas[-1] or not all(commas[:-1])):
            raise ValueError(f"arguments are not separated by commas in ({node.text.strip()})")
        return super().visit_arguments(node, parts)

    def visit_call(self, node: Any, parts: list[str]) -> Any:
        """A wrong number of arguments is said in words."""
        function, arguments = self.elements[parts[0]], self.elements[parts[4]]
        if function.reference in _INTERNAL:
            return self.add_element(ae.CallStructure(function, arguments))
        try:
            return super().visit_call(node, parts)
        except (TypeError, KeyError):
            raise ValueError(f"{function.reference!r} does not take {len(arguments)} arguments") from None


class _VensimEquation(_StrictEquation, vensim_element.EquationVisitor):  # type: ignore[misc]
    """Adds the points of WITH LOOKUP."""

    def visit_call(self, node: Any, parts: list[str]) -> Any:
        function = self.elements[parts[0]]
        if function.reference == "lookup":  # in Vensim a building block, in XMILE a function
            return self.add_element(ae.CallStructure(function, self.elements[parts[4]]))
        return super().visit_call(node, parts)

    def visit_lookup_with_def(self, _: Any, parts: list[Any]) -> Any:
        if parts[10]:
            _literal(self.elements[parts[10]])
        return self.add_element(ae.InlineLookupsStructure(self.elements[parts[4]], _points(parts[11])))


class _VensimLookup(QuickVisitor, vensim_element.LookupsVisitor):  # type: ignore[misc]
    """The points of a lookup variable."""

    def visit_regularLookup(self, _: Any, parts: list[Any]) -> None:  # noqa: N802 - a rule of the grammar
        if parts[0]:
            _literal(parts[0])
        self.translation = _points(parts[2])


class _VensimElement(QuickVisitor, vensim_element.ElementsComponentVisitor):  # type: ignore[misc]
    """Keeps what a subscript range is mapped to, element by element; the translator keeps the name alone.

    `mapping` becomes a list of (name of the other range, list of its subscripts, or None for "in the same order").
    """

    literal: Any
    subscripts: Any

    def visit_literal_subscript(self, _: Any, __: list[str]) -> str:
        self.literal, self.subscripts = self.subscripts, []
        return ""

    def visit_subscript_mapping(self, node: Any, _: list[str]) -> None:
        text = node.text.strip()
        if text.startswith("("):
            name, _, listed = text[1:-1].partition(":")
            self.mapping.append((name.strip(), [item.strip() for item in listed.split(",")]))
        else:
            self.mapping.append((text, None))

    def visit_subscript_definition(self, _: Any, __: list[str]) -> None:
        definition = self.subscripts if isinstance(self.subscripts, dict) else self.literal
        self.component = vensim_element.SubscriptRange(self.name, definition, self.mapping)


class _XmileElement:
    """Reads the equation, the initial value and the graph of one element of an array from that element."""

    node: Any
    _common: list[Any] | None = None

    def _parse_component(self, node: Any, behaviors: dict[str, bool]) -> Any:
        whole, self.node = self.node, self._view(node)
        try:
            return super()._parse_component(node, behaviors)  # type: ignore[misc]
        finally:
            self.node = whole

    def _view(self, node: Any) -> Any:
        """The variable as if this element were all of it."""
        if node is self.node:
            return node
        own = {child.tag for child in node}
        view = self.node.makeelement(self.node.tag, self.node.attrib, self.node.nsmap)
        shared = [child for child in self._shared(node.tag) if child.tag not in own]
        view.extend(copy.deepcopy(child) for child in (*shared, *node))
        return view

    def _shared(self, element: str) -> list[Any]:
        """What all elements have in common; looked for once, since each look goes through all of them."""
        if self._common is None:
            self._common = [child for child in self.node if child.tag != element]
        return self._common


class _XmileAux(_XmileElement, xmile_element.Aux):  # type: ignore[misc]
    pass


class _XmileFlow(_XmileElement, xmile_element.Flow):  # type: ignore[misc]
    pass


class _XmileStock(_XmileElement, xmile_element.Stock):  # type: ignore[misc]
    pass


class _XmileEquation(_StrictEquation, xmile_element.EquationVisitor):  # type: ignore[misc]
    """Adds NOT and MOD."""

    def visit_logic_expr(self, node: Any, parts: list[str]) -> Any:
        """Tools of XMILE disagree on whether NOT or the comparison comes first, so neither is guessed."""
        if parts[0] and node.children[2].children[1].text:
            raise ValueError(
                "NOT stands before a comparison; put brackets around the comparison, or around NOT and its operand"
            )
        return super().visit_logic_expr(node, parts)

    def visit_mod_expr(self, node: Any, parts: list[str]) -> Any:
        """The translator lets MOD wait for the products around it; other tools do not, so neither is guessed."""
        left, rest = node.children
        if rest.text and (left.children[1].text or rest.children[0].children[3].children[1].text):
            raise ValueError("mod stands beside * or /; put brackets around what comes first")
        return super().visit_mod_expr(node, parts)


def _points(text: str) -> ae.LookupsStructure:
    """The points of a Vensim table in the order of the file; the translator would sort them."""
    points = _literal(f"[{text}]")
    x, y = (tuple(float(point[i]) for point in points) for i in (0, 1))
    return ae.LookupsStructure(x, y, (min(x), max(x)), (min(y), max(y)), "interpolate")


def _xmile_lookup(*arguments: Any, **points: Any) -> Any:
    """The translator takes ``LOOKUP(table, x)`` for the points of a table; here each is what it is."""
    if points:
        return ae.LookupsStructure(**points)
    return ae.CallStructure(ae.ReferenceStructure("lookup"), arguments)


def _literal(text: str) -> Any:
    """A number, a string, or a list of points; nothing that would have to be evaluated."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{text!r} is not a number or a list of points") from None
    if isinstance(value, (int, float)) and not math.isfinite(value):
        raise ValueError(f"{text!r} is too large for a number")
    return value


for _module in (vensim_element, xmile_element):
    _module.eval = _literal  # shadows the builtin inside the translators
vensim_element.EquationVisitor = _VensimEquation
vensim_element.ElementsComponentVisitor = _VensimElement
vensim_element.LookupsVisitor = _VensimLookup
xmile_element.EquationVisitor = _XmileEquation
xmile_section.Aux, xmile_section.Flow, xmile_section.Stock = _XmileAux, _XmileFlow, _XmileStock
xmile_element.structures = {**xmile_element.structures, "lookup": _xmile_lookup}
xmile_element.parsing_ops = {**xmile_element.parsing_ops, "not_ops": r"not\b"}  # else "notes" is read as NOT es
for _module in (vensim_utils, xmile_utils):
    _module.Grammar = quick(_module.Grammar)
    _module.add_element = numbered
