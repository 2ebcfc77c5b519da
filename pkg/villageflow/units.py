"""Whether two units, as written in a model or a table, are the same unit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

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
    total: Counter[str] = Counter()
    for word, power in _as_written(unit).items():
        total[word.casefold()] += power
    return {word: power for word, power in total.items() if power}


def product_unit(factors: Iterable[tuple[str, int]]) -> str:
    """The unit of a product, such as ``Myuan/(person*year)``.

    Parameters
    ----------
    factors : iterable of (str, int)
        The unit of every factor and its power, -1 for a divisor.

    Returns
    -------
    str
        ``1`` for the pure number. A word is spelled as where it was met first, words are in alphabetical order.
        Does not know prefixes: the unit of ``1000 * x`` is that of ``x``.
    """
    total: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for unit, sign in factors:
        for word, power in _as_written(unit).items():
            total[spelling.setdefault(word.casefold(), word)] += sign * power
    above, below = _joined(total, 1), _joined(total, -1)
    return f"{above.strip('()') or '1'}/{below}" if below else above.strip("()") or "1"


def _joined(total: Counter[str], sign: int) -> str:
    """The words whose power has this sign as a product, in parentheses if there are several."""
    found = [(word, sign * total[word]) for word in sorted(total, key=str.casefold) if sign * total[word] > 0]
    words = [word if power == 1 else f"{word}^{power}" for word, power in found]
    return f"({'*'.join(words)})" if len(words) > 1 else "".join(words)


def _as_written(unit: str) -> dict[str, int]:
    """Power of every factor, in the case of the text, in which a word may occur in two spellings."""
    text = re.sub(r"\s+", "", unit)
    if not text:
        return {}
    try:
        found, rest = _product(_TOKEN.findall(text))
    except (IndexError, ValueError, RecursionError):
        return {text: 1}
    return {text: 1} if rest else dict(found)


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
        base, tokens = Counter({} if tokens[0].casefold() in _NUMBERS else {tokens[0]: 1}), tokens[1:]
    if tokens and tokens[0][0] == "^":
        power, tokens = int(tokens[0][1:]), tokens[1:]
        base = Counter({word: own * power for word, own in base.items()})
    return base, tokens
