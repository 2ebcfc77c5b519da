"""The functions and operators an equation may use: one table of names, arities and meaning.

The names are the translators' names in lower case. `lower` gives each a meaning in terms of tape operations or
stocks; a name that is not here is refused.
"""

from __future__ import annotations

from typing import Final

ELEMENTARY: Final[dict[str, int]] = {
    # operators
    "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "power": 2, "negative": 1,
    "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2, "equal": 2, "not_equal": 2,
    "and": 2, "or": 2, "not": 1,
    # functions of their arguments alone
    "abs": 1, "exp": 1, "ln": 1, "sqrt": 1, "integer": 1, "min": 2, "max": 2, "modulo": 2,
    "sin": 1, "cos": 1, "tan": 1, "arcsin": 1, "arccos": 1, "arctan": 1, "sinh": 1, "cosh": 1, "tanh": 1,
    "if_then_else": 3, "xidz": 3,
    "allocation share": 2,  # a blank in a name: no equation can call it
}
"""Functions that are one tape operation, with their number of arguments."""

COMPOSED: Final[dict[str, int]] = {
    "log": 2, "log10": 1, "zidz": 2, "pi": 0,
    "safediv": 3, "quantum": 2, "get_time_value": 3,
    "step": 2, "ramp": 3, "ramp_unending": 2,
    "pulse": 2, "pulse_train": 4, "pulse_volume": 2, "pulse_volume_train": 3,
    "initial": 1, "active_initial": 2,
}
"""Functions that lowering writes in terms of the elementary ones, time and initial values."""

LISTED: Final = frozenset({"allocation price"})
"""Functions of any number of arguments, which only lowering writes."""

FUNCTIONS: Final[dict[str, int]] = ELEMENTARY | COMPOSED
