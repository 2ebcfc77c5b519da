"""The grammar of formulas: text to a tree of columns, numbers, transforms, products and sums.

    outcome ~ term + term + [endogenous + endogenous ~ instrument + instrument]

    term   = factor (("*" | "/") factor)*
    factor = number | column | function "(" sum ["," whole number] ")" | "(" sum ")"
    sum    = term (("+" | "-") term)*

A column is written as it is if it is made of letters, digits, ``_`` and ``.``, otherwise between backquotes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from villageflow.errors import EstimationError, did_you_mean

SHIFTS: Final = frozenset(("lag", "lead", "d"))
"""Transforms that take a number of periods as their second argument."""

FUNCTIONS: Final = frozenset(("ln", "log1p", "exp", "mean")) | SHIFTS
"""The transforms of a term."""

MAX_DEPTH: Final = 50
"""How deep parentheses may be nested: more than a reader can follow, and far from Python's own limit."""

_TOKEN: Final = re.compile(
    r"(?P<number>(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+(?![\w.]))"
    r"|(?P<name>[\w.]+)|`(?P<quoted>[^`]+)`|(?P<mark>[-+*/(),~\[\]])|(?P<blank>\s+)|(?P<wrong>.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Formula:
    """An outcome, its exogenous regressors, and endogenous ones with the instruments that are left out."""

    outcome: str
    regressors: tuple[str, ...]
    endogenous: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    stop: int


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Column:
    name: str


@dataclass(frozen=True)
class Call:
    """A function of an expression; ``shift`` is the number of periods, 1 unless given."""

    function: str
    inner: Node
    shift: int
    text: str = field(compare=False)


@dataclass(frozen=True)
class Step:
    """An operator and its right operand, with the operand as written."""

    operator: str
    operand: Node
    text: str = field(compare=False)


@dataclass(frozen=True)
class Chain:
    """A product or a sum, from left to right."""

    first: Node
    steps: tuple[Step, ...]
    text: str = field(compare=False)


Node: TypeAlias = Number | Column | Call | Chain


def parse_formula(text: str) -> Formula:
    """Read ``outcome ~ term + term + [endogenous ~ instrument + instrument]``.

    Parameters
    ----------
    text : str
        The bracket may be left out, and so may the terms before it; ``1`` alone stands for no regressor.

    Returns
    -------
    Formula
        Terms as written. Effects are not part of a formula. Does not count instruments.

    Raises
    ------
    EstimationError
        If there is not exactly one ``~`` outside and inside a bracket, a bracket is not closed, there are several,
        a term is blank or cannot be read, or a term occurs twice anywhere in the formula.
    """
    said = f"Formula {short(text)}"
    sides = _split(text, "~", said)
    if len(sides) != 2:
        raise EstimationError(f"{said} needs exactly one '~'. Write 'outcome ~ term + term'.")
    terms = _split(sides[1], "+", said)
    brackets = [term for term in terms if "[" in _marks(term)]
    if "[" in _marks(sides[0]) or len(brackets) > 1:
        raise EstimationError(f"{said} has more than one bracket, or one left of '~'. Write one, after the terms.")
    exogenous = [term for term in terms if term not in brackets]
    parts = {"outcome": sides[:1], "regressor": [] if exogenous == ["1"] else exogenous}
    if brackets:
        if not (brackets[0].startswith("[") and brackets[0].endswith("]")):
            raise EstimationError(f"{said}: {short(brackets[0])} is not a term. Write '+' before the bracket.")
        inner = _split(brackets[0][1:-1], "~", said)
        if len(inner) != 2:
            raise EstimationError(f"{said} needs exactly one '~' in its bracket. Write '[endogenous ~ instrument]'.")
        parts |= {"endogenous term": _split(inner[0], "+", said), "instrument": _split(inner[1], "+", said)}
    seen: dict[Node, str] = {}
    for role, names in parts.items():
        for name in names:
            _check_term(name, role, seen, said)
    return Formula(sides[0], *(tuple(names) for role, names in parts.items() if role != "outcome"))


def _check_term(term: str, role: str, seen: dict[Node, str], said: str) -> None:
    if not term:
        raise EstimationError(f"{said} has a blank term. Write 'outcome ~ term + term'.")
    if term == "1":
        raise EstimationError(f"{said} has the term '1', which means no regressor. Drop it; effects are an option.")
    node = parse_term(term)
    if node in seen:
        roles = "" if seen[node] == role else f", as {seen[node]} and as {role}"
        raise EstimationError(f"{said} names {short(term)} twice{roles}. Drop one of them.")
    seen[node] = role


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "blank":
            yield _Token(str(match.lastgroup), match[0], match.start(), match.end())


def _marks(text: str) -> list[str]:
    return [token.text for token in _tokens(text) if token.kind == "mark"]


def _split(text: str, mark: str, said: str) -> list[str]:
    """The pieces of a text between marks that are outside parentheses and brackets."""
    closing = {"(": ")", "[": "]"}
    pieces, start, awaited = [], 0, list[str]()
    for token in _tokens(text):
        if token.kind != "mark":
            continue
        if token.text in closing:
            awaited.append(closing[token.text])
        elif token.text in (")", "]"):
            if not awaited or awaited.pop() != token.text:
                raise EstimationError(f"{said} has a {token.text!r} that closes nothing. Balance the brackets.")
        elif token.text == mark and not awaited:
            pieces.append(text[start:token.start].strip())
            start = token.stop
    if awaited:
        raise EstimationError(f"{said} lacks a {awaited[-1]!r}. Balance the brackets.")
    return [*pieces, text[start:].strip()]


_ELSEWHERE: Final = {
    "+": "put a sum in parentheses", "-": "put a sum in parentheses", ":": "write a product as x*z",
    "*": "write a power as x*x", "^": "write a power as x*x",
}  # fmt: skip
"""Marks that mean something in other formula languages, and what is written here."""


class _Parser:
    """Recursive descent over the tokens of one term."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._chain("*/", self._factor)
        if self._at < len(self._tokens):
            raise self._unexpected()
        return node

    def _sum(self) -> Node:
        return self._chain("+-", lambda: self._chain("*/", self._factor))

    def _chain(self, operators: str, read: Callable[[], Node]) -> Node:
        begin = self._at
        first, steps = read(), []
        while (sign := self._peek("mark")) and sign in operators:
            self._at += 1
            start = self._at
            steps.append(Step(sign, read(), self._since(start)))
        return Chain(first, tuple(steps), self._since(begin)) if steps else first

    def _factor(self) -> Node:
        if (number := self._take("number")) is not None:
            if not math.isfinite(value := float(number)):
                raise EstimationError(f"Term {short(self._text)}: {number[:20]} is too large. Write a smaller number.")
            return Number(value)
        if (quoted := self._take("quoted")) is not None:
            return Column(quoted[1:-1])
        begin = self._at
        name = self._take("name")
        if self._peek("mark") == "(":
            inner, shift = self._inside(name)
            return inner if name is None else Call(name, inner, shift, self._since(begin))
        if name is None:
            raise self._unexpected()
        return Column(name)

    def _inside(self, function: str | None) -> tuple[Node, int]:
        """What stands in parentheses after a function or, if None, by itself."""
        begin, shift = self._at, 1
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise EstimationError(
                f"Term {short(self._text)}: parentheses are nested more than {MAX_DEPTH} deep. Make a column."
            )
        inner = self._sum()
        if function is not None and self._peek("mark") == ",":
            self._at += 1
            text = self._take("number") or ""
            if function in FUNCTIONS and function not in SHIFTS:
                raise EstimationError(f"Term {short(self._text)}: {function} takes one argument. Write {function}(x).")
            if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
                raise EstimationError(
                    f"Term {short(self._text)}: {function} takes a whole number of periods from 1, as {function}(x, 2)."
                )
            shift = int(text)
        if self._peek("mark") != ")":
            raise self._unexpected(opened=self._tokens[begin].start)
        self._at += 1
        self._depth -= 1
        if function is not None and function not in FUNCTIONS:
            inside = self._since(begin)
            if function == "log":
                raise EstimationError(f"Transform 'log' is not known. Use ln{inside}, or log1p{inside} for counts.")
            if function in ("C", "i", "factor"):
                named = f"effects=({inside[1:-1]!r},)"
                raise EstimationError(f"Transform {short(function)} is not known. Groups are effects: {named}.")
            raise EstimationError(f"Transform {short(function)} is not known. {did_you_mean(function, FUNCTIONS)}")
        return inner, shift

    def _peek(self, kind: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at].kind == kind:
            return self._tokens[self._at].text
        return None

    def _take(self, kind: str) -> str | None:
        text = self._peek(kind)
        self._at += text is not None
        return text

    def _since(self, begin: int) -> str:
        return self._text[self._tokens[begin].start : self._tokens[self._at - 1].stop]

    def _unexpected(self, opened: int | None = None) -> EstimationError:
        said = f"Term {short(self._text)}"
        if self._at >= len(self._tokens):
            lacks = "is blank" if not self._tokens else "ends too early" if opened is None else "lacks a ')'"
            return EstimationError(f"{said} {lacks}. Write a column, a product, or a transform such as lag(x).")
        token = self._tokens[self._at]
        hint = _ELSEWHERE.get(token.text, "put a name with other characters in backquotes")
        return EstimationError(f"{said}: {token.text!r} at character {token.start + 1} does not belong; {hint}.")


def parse_term(term: str) -> Node:
    """The tree of one term; two terms that differ in blanks alone have equal trees.

    Raises
    ------
    EstimationError
        If the term is blank, cannot be read, nests too deep, or has an unknown transform.
    """
    return _Parser(term).whole()


def short(text: str) -> str:
    """A text in quotes for a message, its end left out if it is long."""
    return repr(text) if len(text) <= 200 else repr(text[:197] + "...")
