"""The prepared grammars take the texts that parsimonious takes, give the same trees, and need linear time."""

from __future__ import annotations

import contextlib
import time

import parsimonious
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from villageflow.frontend.peg import _WHOLE, Grammar
from villageflow.frontend.pysd_adapter import _deep_recursion
from villageflow.frontend.pysd_strict import vensim_element, vensim_utils, xmile_element, xmile_utils

OPERATIONS = {
    vensim_utils: vensim_element.parsing_ops,
    xmile_utils: xmile_element.parsing_ops,
}
KINDS = [
    (vensim_utils, "components"),
    (vensim_utils, "element_object"),
    (vensim_utils, "section_elements"),
    (vensim_utils, "file_sections"),
    (vensim_utils, "lookups"),
    (xmile_utils, "equations"),
]
# fmt: off
PIECES = [
    "a", "net flow", "x1", "é", '"a b"', '"q~\\"|"', '"', "\\", "$", "'", " ", "\t", "1", "2.5", "1e3", "-", "+", "*",
    "/", "^", "<", ">", "=", "<>", ":AND:", ":NOT:", ":NA:", " and ", "not ", " mod ", "(", ")", "[", "]", ",", "!",
    "~", "|", ":", ":=", "==", "->", "<->", "(1,2)", "[(0,0)-(1,1)],", "WITH LOOKUP(", "IF ", " THEN ", " ELSE ",
    "MAX(", ":EXCEPT:", ":RAW:", "TABBED ARRAY(", ":MACRO: f(a)", ":END OF MACRO:", "{UTF-8}",
]
# fmt: on


def slow_grammar(translator, kind):
    """The translator's own, behind the prepared one."""
    return super(translator.Grammar, translator.Grammar).get(kind, OPERATIONS[translator])


def outcome(grammar, text):
    """Tree or failure, without the parts of what a prepared grammar matches as a whole, or places inside of it."""
    try:
        return shape(grammar.parse(text))
    except parsimonious.IncompleteParseError as error:
        return "ends", error.pos
    except parsimonious.ParseError:
        return "fails"


def shape(node):
    whole = node.expr_name in _WHOLE or node.expr_name == "element"
    place = (node.start, node.end) if node.text else "nowhere"
    return node.expr_name, place, [] if whole else [shape(child) for child in node.children]


@settings(max_examples=400)
@given(kind=st.sampled_from(KINDS), pieces=st.lists(st.sampled_from(PIECES), max_size=14))
@example(kind=KINDS[2], pieces=['"', "\\", '"', "~", "~", "|", '"', "a", "~", '"', "|"])
@example(kind=KINDS[2], pieces=["a", "~", '"', "~", "|", "a", "~", "~", "|"])
def test_prepared_grammar_gives_the_same_trees(kind, pieces):
    translator, name = kind
    text = "".join(pieces)
    quick = translator.Grammar.get(name, OPERATIONS[translator])
    assert isinstance(quick, Grammar)
    assert outcome(quick, text) == outcome(slow_grammar(translator, name), text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("section_elements", '\\"~' * 20_000),
        ("section_elements", '"' + '\\"' * 30_000),
        ("components", '"' + '\\"' * 30_000),
        ("components", "a" * 60_000),
        ("components", "+".join(["a b"] * 12_000)),
        ("components", "-" * 30_000),
        ("components", "MAX(" * 150 + "1" + ",2)" * 150),
        ("components", "(" * 199 + "x" + ")" * 198),
        ("lookups", "(" + "(1,2)," * 10_000 + ")"),
        ("element_object", "a" + "[b]" * 20_000),
    ],
)
def test_matching_takes_linear_time(kind, text):
    begun = time.process_time()
    with _deep_recursion(), contextlib.suppress(parsimonious.ParseError):
        vensim_utils.Grammar.get(kind, vensim_element.parsing_ops).parse(text)
    assert time.process_time() - begun < 5
