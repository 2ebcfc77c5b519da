"""Whether two units, as written in a model or a table, are the same unit."""

from __future__ import annotations

import re
from collections import Counter

_NUMBERS = frozenset(("1", "dmnl", "dimensionless"))
_TOKEN = re.compile(r"\^[-+]?\d+|[()*/]|[^()*/^]+")


def same_unit(a: str, b: str) -> bool:
    """Whether two units are equal but for case, blanks and the order of factors.

    Parameters
    ----------
    a, b : str
        Such as ``RMB/(Year*person)`` and ``rmb / person / year``. Blank, ``1``, ``dmnl`` and ``dimensionless`` are
        the pure number.

    Returns
    -------
    bool
        Does not know synonyms, plurals or prefixes: ``Year`` and ``Years`` differ, and so do ``km`` and ``1000*m``.
    """
    return powers(a) == powers(b)


def powers(unit: str) -> dict[str, int]:
    """Power of every factor of a unit; text that is not a product or quotient of words is one factor."""
    text = re.sub(r"\s+", "", unit).casefold()
    if not text:
        return {}
    try:
        found, rest = _product(_TOKEN.findall(text))
    except (IndexError, ValueError):
        return {text: 1}
    return {text: 1} if rest else {word: power for word, power in found.items() if power}


def _product(tokens: list[str]) -> tuple[Counter[str], list[str]]:
    total, tokens = _factor(tokens)
    while tokens and tokens[0] in "*/":
        sign = 1 if tokens[0] == "*" else -1
        factor, tokens = _factor(tokens[1:])
        for word, power in factor.items():
            total[word] += sign * power
    return total, tokens


def _factor(tokens: list[str]) -> tuple[Counter[str], list[str]]:
    if not tokens:
        raise ValueError("nothing to read")
    if tokens[0] == "(":
        base, tokens = _product(tokens[1:])
        if tokens[0] != ")":
            raise ValueError(tokens[0])
        tokens = tokens[1:]
    elif tokens[0] in "*/)" or tokens[0][0] == "^":
        raise ValueError(tokens[0])
    else:
        base, tokens = Counter({} if tokens[0] in _NUMBERS else {tokens[0]: 1}), tokens[1:]
    if tokens and tokens[0][0] == "^":
        power, tokens = int(tokens[0][1:]), tokens[1:]
        base = Counter({word: own * power for word, own in base.items()})
    return base, tokens
