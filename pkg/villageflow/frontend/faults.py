"""What the parsers raise, and how their complaints become one line."""

from __future__ import annotations

import re
from typing import Final

import parsimonious

from villageflow.errors import VillageflowError

PARSER_FAULTS: Final = (
    parsimonious.exceptions.ParseError,
    parsimonious.exceptions.VisitationError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    SyntaxError,
    RecursionError,
)


def reason(error: BaseException) -> str:
    """One line of a parser's complaint."""
    if isinstance(error, VillageflowError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, parsimonious.exceptions.ParseError):
        near = shorten(error.text[error.pos:]) or "its end"
        return f"it is not understood from {near!r} on"
    first = re.sub(r"^\w+(Error|Exception): ", "", (str(error).strip().splitlines() or [""])[0])
    if isinstance(error, (AttributeError, LookupError)) or not first:
        return "a part of it is missing"
    return shorten(first, 160)


def shorten(text: str, limit: int = 60) -> str:
    """Text on one line, cut at `limit`."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
