"""Which words may be units of a table column, and how compound units are written."""

from __future__ import annotations

import re
from collections.abc import Iterable

from villageflow.errors import DataError, did_you_mean

BASE_UNITS = frozenset(
    (
        *("1", "fraction", "percent", "ratio", "index", "flag", "rank"),
        *(
            "person",
            "household",
            "family",
            "worker",
            "migrant",
            "returnee",
            "merchant",
            "vendor",
            "firm",
            "employer",
        ),
        *("store", "shop", "brand", "listing", "page", "order", "item", "parcel", "line"),
        *("village", "town", "county", "city", "province", "region", "cluster", "platform", "workshop"),
        *("second", "minute", "hour", "day", "week", "month", "quarter", "year"),
        *("yuan", "CNY", "RMB", "USD", "AUD", "EUR"),
        *("m", "km", "m2", "km2", "ha", "mu", "kg", "t", "kWh"),
        *("visit", "film", "level", "course", "observation"),
    )
)
"""Words that stand for a unit; a leading k, M or G multiplies by 1e3, 1e6 or 1e9."""

_PIECE = re.compile(r"([^\W\d]\w*|1)(?:\^-?\d+)?")


def check_unit(unit: str, *, where: str, extra: Iterable[str] = ()) -> str:
    """Return ``unit`` if every word in it is known.

    Parameters
    ----------
    unit : str
        Such as ``yuan/person/month``, ``store/(person*year)``, ``1/year``, ``km^2``; ``1`` for a pure number.
    where : str
        Start of the error message: the file or call, and the column.
    extra : iterable of str
        Further words to accept.

    Returns
    -------
    str
        The unit, unchanged. Does not simplify or convert units.

    Raises
    ------
    DataError
        If the unit is blank, is not a product or quotient of words, or has an unknown word.
    """
    known = BASE_UNITS | set(extra)
    pieces = re.split(r"[*/]", re.sub(r"[()\s]", "", unit))
    for piece in pieces:
        match = _PIECE.fullmatch(piece)
        if match is None:
            raise DataError(
                f"{where}: {unit!r} is not a unit. Write words joined by * and /, 1 for a number."
            )
        word = match.group(1)
        if word not in known and not (word[0] in "kMG" and word[1:] in known):
            raise DataError(
                f"{where}: unit {unit!r} has the unknown word {word!r}. "
                f"{did_you_mean(word, known)} Other words: pass extra_units=({word!r},)."
            )
    return unit
