"""One spelling for every name: how names as written in a model or table become identifiers."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[\s_]+")


def canonical(name: str) -> str:
    """The identifier of a name: lower case, outer quotes dropped, runs of blanks and `_` joined by one `_`.

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
    text = name.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"')
    text = text.replace("\\n", " ")
    return _SEPARATORS.sub("_", text.strip()).strip("_").lower() or "_"
