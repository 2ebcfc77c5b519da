"""The translators' grammars, matched and visited faster: the same language, the same results, in linear time.

Parsimonious spends a node on every character of a name or a comment, remembers every expression at every position,
and shows a visitor each level of precedence that an operand merely passes. Here

- what holds no rule that a visitor looks into (`_WHOLE`) is one regular expression. Its groups are atomic, because an
  expression of the grammar never gives back what it took;
- only rules that several others use are remembered, since only they are tried twice at the same place;
- what matches no character shares one node for each expression, whose place says nothing;
- a chain ``x (_ operator _ x)*`` looks for its operator before it makes any node;
- a visitor goes straight through the levels that hold one operand alone (`_LEVELS`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import parsimonious
from parsimonious import expressions as pe
from parsimonious.nodes import Node

re = pe.re  # the module of the grammar's own patterns
Matcher = Callable[[str, int, dict[int, Any], parsimonious.ParseError], Any]
"""The node that matches a text at a position, or None; given what is remembered, and the furthest failure so far."""

_WHOLE = frozenset({"basic_id", "escape_group", "doc", "_"})
_LEVELS = {  # operand that a level passes on, and the part that must be empty for that
    "final_expr": (0, 1), "logic2_expr": (0, 1), "logic_expr": (2, 0), "comp_expr": (0, 1), "add_expr": (0, 1),
    "mod_expr": (0, 1), "prod_expr": (0, 1), "neg_expr": (2, 0),
}
_CLOSING_QUOTE = re.compile(r'(?<!\\)"')


class Grammar:
    """A grammar of parsimonious, prepared once."""

    def __init__(self, grammar: parsimonious.Grammar) -> None:
        self._rule = grammar.default_rule
        self._match = _Preparation(self._rule).matcher(self._rule)

    def parse(self, text: str) -> Node:
        """The tree of a whole text; a `ParseError` has the furthest position that a rule was tried at in vain."""
        error = parsimonious.ParseError(text)
        node = self._match(text, 0, {}, error)
        if node is None:
            raise error
        if node.end < len(text):
            raise parsimonious.IncompleteParseError(text, node.end, self._rule)
        return node


def quick(grammars: type) -> type:
    """A translator's store of grammars that prepares each of them."""

    class Quick(grammars):  # type: ignore[misc]
        _prepared: ClassVar[dict[str, Grammar]] = {}

        @classmethod
        def get(cls, grammar: str, subs: Mapping[str, str] = MappingProxyType({})) -> Grammar:
            if grammar not in cls._prepared:
                cls._prepared[grammar] = Grammar(super().get(grammar, subs))
            return cls._prepared[grammar]

    return Quick


def numbered(elements: dict[str, Any], element: Any) -> str:
    """Add a part of an equation under a key that is no text of an equation; the translators draw random ones."""
    key = f"@{len(elements)}"
    elements[key] = element
    return key


class QuickVisitor(parsimonious.NodeVisitor):  # type: ignore[misc]
    """Mixed into a visitor of parsimonious: finds its methods once, and wraps no error in a picture of the tree."""

    negatives: set[str]

    def visit(self, node: Node) -> Any:
        """The visitor's result for a node."""
        name = node.expr.name
        while name in _LEVELS or name == "exp_expr":
            passed, empty = _LEVELS.get(name, (0, 1))
            children = node.children
            if len(children) == 1 or children[empty].children:  # XMILE's final_expr is a choice
                break
            if name == "exp_expr":  # where a sign takes effect
                result = self.visit(children[passed])
                return result if result not in self.negatives else self.visit_exp_expr(node, [result, ""])
            node = children[passed]
            name = node.expr.name
        method: Any = getattr(self, "visit_" + name, self.generic_visit)
        return method(node, [self.visit(child) for child in node.children])


class _Preparation:
    """Turns the expressions of a grammar into functions that match them."""

    def __init__(self, start: pe.Expression) -> None:
        self._matchers: dict[int, Matcher] = {}
        self._users = Counter(id(member) for expr in _reachable(start) for member in _members(expr))

    def matcher(self, expr: pe.Expression) -> Matcher:
        """The function that matches an expression; made once, also where rules contain each other."""
        key = id(expr)
        if key not in self._matchers:
            ahead: list[Matcher] = []
            self._matchers[key] = lambda text, pos, memo, error: ahead[0](text, pos, memo, error)
            made = self._make(expr)
            if isinstance(expr, pe.Compound) and expr.name and expr.name not in _WHOLE and self._users[key] > 1:
                made = _remembering(made, key)
            ahead.append(made)
            self._matchers[key] = made
        return self._matchers[key]

    def _make(self, expr: pe.Expression) -> Matcher:
        if expr.name == "element":
            return _element(expr)
        if expr.name in _WHOLE or isinstance(expr, pe.Regex):
            return _pattern(expr, re.compile(_atomic(expr)).match)
        match expr:
            case pe.Literal():
                return _literal(expr)
            case pe.Sequence() if parts := _chain_parts(expr):
                first, blanks, operator = parts
                return _chain(expr, self.matcher(first), self.matcher(blanks), self.matcher(operator))
            case pe.Sequence():
                return _sequence(expr, [self.matcher(member) for member in expr.members])
            case pe.OneOf():
                return _one_of(expr, [self.matcher(member) for member in expr.members])
            case pe.Lookahead():
                return _lookahead(expr, self.matcher(expr.members[0]))
            case pe.Quantifier():
                return _quantifier(expr, self.matcher(expr.members[0]))
        raise AssertionError(expr)


def _members(expr: pe.Expression) -> tuple[pe.Expression, ...]:
    """The expressions that an expression tries; a chain tries its operand in one place."""
    if parts := _chain_parts(expr):
        return parts
    return expr.members if isinstance(expr, pe.Compound) else ()


def _reachable(start: pe.Expression) -> Iterator[pe.Expression]:
    seen, todo = {id(start)}, [start]
    while todo:
        expr = todo.pop()
        yield expr
        for member in _members(expr):
            if id(member) not in seen:
                seen.add(id(member))
                todo.append(member)


def _chain_parts(expr: pe.Expression) -> tuple[pe.Expression, pe.Expression, pe.Expression] | None:
    """Operand, blanks and operator of ``x (_ operator _ x)*``, also with ``?``."""
    if isinstance(expr, pe.Sequence) and len(expr.members) == 2 and isinstance(tail := expr.members[1], pe.Quantifier):
        inner = tail.members[0]
        if tail.min == 0 and isinstance(inner, pe.Sequence) and len(inner.members) == 4:
            before, operator, after, operand = inner.members
            if operand is expr.members[0] and before is after and before.name == "_":
                return operand, before, operator
    return None


def _atomic(expr: pe.Expression) -> str:
    """A regular expression for the same text: every group is atomic, as every expression of a grammar is."""
    match expr:
        case pe.Regex():
            flags = "".join(letter for letter, flag in (("i", re.I), ("m", re.M), ("s", re.S)) if expr.re.flags & flag)
            return f"(?{flags}:{expr.re.pattern})" if flags else f"(?:{expr.re.pattern})"
        case pe.Literal():
            return str(re.escape(expr.literal))
        case pe.Sequence():
            return f"(?>{''.join(map(_atomic, expr.members))})"
        case pe.OneOf():
            return f"(?>{'|'.join(map(_atomic, expr.members))})"
        case pe.Quantifier():
            most = "" if expr.max == float("inf") else expr.max
            return f"(?>(?:{_atomic(expr.members[0])}){{{expr.min},{most}}})"
    raise AssertionError(expr)


# ------------------------------------------------------------------------------------------- matchers


def _missed(expr: pe.Expression, pos: int, error: parsimonious.ParseError) -> Node | None:
    """Remember the furthest failure; of unnamed expressions only before any named one, as parsimonious does."""
    if pos >= error.pos and (expr.name or error.expr is None or not error.expr.name):
        error.pos, error.expr = pos, expr
    return None


def _remembering(matcher: Matcher, key: int) -> Matcher:
    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        known = memo.get(key)
        if known is None:
            known = memo[key] = {}
        if pos in known:
            return known[pos]
        node = known[pos] = matcher(text, pos, memo, error)
        return node

    return match


def _pattern(expr: pe.Expression, search: Callable[[str, int], Any]) -> Matcher:
    nothing = Node(expr, "", 0, 0)

    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        found = search(text, pos)
        if found is None:
            return _missed(expr, pos, error)
        end = found.end()
        return Node(expr, text, pos, end) if end > pos else nothing

    return match


def _element(expr: pe.Expression) -> Matcher:
    """Text up to ``~`` or ``|``, in which a quoted name may hold both.

    Beyond the last quote that closes a name no name is looked for: each such search would read the rest of the text.
    """
    named, plain = re.compile(_atomic(expr)).match, re.compile("[^~|]*").match

    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node:
        if -1 not in memo:
            memo[-1] = max((quote.end() for quote in _CLOSING_QUOTE.finditer(text)), default=0)
        end = named(text, pos, memo[-1]).end() if pos < memo[-1] else pos
        return Node(expr, text, pos, plain(text, end).end() if end >= memo[-1] else end)

    return match


def _literal(expr: pe.Literal) -> Matcher:
    literal, length = expr.literal, len(expr.literal)

    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        if text.startswith(literal, pos):
            return Node(expr, text, pos, pos + length)
        return _missed(expr, pos, error)

    return match


def _sequence(expr: pe.Sequence, matchers: list[Matcher]) -> Matcher:
    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        end, children = pos, []
        for matcher in matchers:
            node = matcher(text, end, memo, error)
            if node is None:
                return _missed(expr, pos, error)
            children.append(node)
            if node.end > end:
                end = node.end
        return Node(expr, text, pos, end, children)

    return match


def _chain(expr: pe.Sequence, operand: Matcher, blanks: Matcher, operator: Matcher) -> Matcher:
    tail, most = expr.members[1], expr.members[1].max
    link, nothing = tail.members[0], Node(tail, "", 0, 0)

    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        first = operand(text, pos, memo, error)
        if first is None:
            return _missed(expr, pos, error)
        end, size = first.end, len(text)
        links: list[Node] = []
        while end < size and len(links) < most:
            before = blanks(text, end, memo, error)
            sign = operator(text, max(end, before.end), memo, error)
            if sign is None:
                break
            after = blanks(text, sign.end, memo, error)
            following = operand(text, max(sign.end, after.end), memo, error)
            if following is None:
                break
            links.append(Node(link, text, end, following.end, [before, sign, after, following]))
            end = following.end
        return Node(expr, text, pos, end, [first, Node(tail, text, first.end, end, links) if links else nothing])

    return match


def _one_of(expr: pe.OneOf, matchers: list[Matcher]) -> Matcher:
    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        for matcher in matchers:
            node = matcher(text, pos, memo, error)
            if node is not None:
                return Node(expr, text, pos, max(pos, node.end), [node])
        return _missed(expr, pos, error)

    return match


def _lookahead(expr: pe.Lookahead, matcher: Matcher) -> Matcher:
    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        if (matcher(text, pos, memo, error) is None) == expr.negativity:
            return Node(expr, text, pos, pos)
        return _missed(expr, pos, error)

    return match


def _quantifier(expr: pe.Quantifier, matcher: Matcher) -> Matcher:
    least, most, nothing = expr.min, expr.max, Node(expr, "", 0, 0)

    def match(text: str, pos: int, memo: dict[int, Any], error: parsimonious.ParseError) -> Node | None:
        end, size = pos, len(text)
        children: list[Node] = []
        while end < size and len(children) < most:
            node = matcher(text, end, memo, error)
            if node is None:
                break
            children.append(node)
            if node.end <= end and len(children) >= least:  # else it would match nothing for ever
                break
            end = max(end, node.end)
        if len(children) < least:
            return _missed(expr, pos, error)
        return Node(expr, text, pos, end, children) if children else nothing

    return match
