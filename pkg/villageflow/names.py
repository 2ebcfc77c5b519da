"""One spelling for every name: how names as written in a model or table become identifiers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_SUBSCRIPTS = re.compile(r"\[.*?\]")
_SEPARATORS = re.compile(r"[\s_]+")


def canonical(name: str) -> str:
    """The identifier of a name: lower case, outer quotes dropped, runs of blanks and `_` joined by one `_`.

    A letter with its accent beside it is the same as one composed of both (Unicode's form NFC).

    Parameters
    ----------
    name : str
        A variable name as written, such as ``Teacup Temperature`` or ``"Net flow (m3)"``.

    Returns
    -------
    str
        ``teacup_temperature`` and ``net_flow_(m3)``. Punctuation inside quotes is kept: two different
        quoted names stay different. Does not check that the result is a Python identifier.
    """
    text = unicodedata.normalize("NFC", name.strip())
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"')
    text = text.replace("\\n", " ")
    return _SEPARATORS.sub("_", text.strip()).strip("_").lower() or "_"


def scalar_id(name: str, elements: Sequence[str]) -> str:
    """The identifier of one element of an array, such as ``population[young,female]``; `name` itself for a scalar."""
    return f"{name}[{','.join(elements)}]" if elements else name


def array_of(identifier: str) -> str:
    """An identifier without its subscripts: equal for the elements of an array, and for what lowering adds to them."""
    return _SUBSCRIPTS.sub("", identifier)


def variable_id(name: str, element: str = "") -> str:
    """The identifier of a variable as a user writes it: ``Population[Young, Female]``, or the elements apart.

    Parameters
    ----------
    name : str
        A scalar, an array, or an element of an array with its subscripts in brackets.
    element : str
        Subscripts that a table gives apart from the name, joined by commas; blank for none.
    """
    text = name.strip()
    if text.endswith("]") and "[" in text and not text.startswith('"'):
        text, _, inside = text[:-1].partition("[")
        element = f"{inside},{element}" if element.strip() else inside
    elements = [canonical(part) for part in element.split(",")] if element.strip() else []
    return scalar_id(canonical(text), elements)


def split_names(text: str) -> list[str]:
    """Names from a list joined by commas; commas inside brackets belong to a name."""
    return [part.strip() for part in re.split(r",(?![^\[\]]*\])", text) if part.strip()]
