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
    "safediv": 3, "quantum": 2,
    "step": 2, "ramp": 3, "ramp_unending": 2,
    "pulse": 2, "pulse_train": 4, "pulse_volume": 2, "pulse_volume_train": 3,
    "initial": 1, "active_initial": 2,
}
"""Functions that lowering writes in terms of the elementary ones, time and initial values."""

LISTED: Final = frozenset({"allocation price"})
"""Functions of any number of arguments, which only lowering writes."""

RANDOM: Final[dict[str, tuple[int, int]]] = {
    # Vensim: the seed last
    "random_0_1": (0, 0), "random_uniform": (3, 3), "random_normal": (5, 5), "random_exponential": (5, 5),
    "random_triangular": (6, 6), "random_poisson": (6, 6), "random_binomial": (7, 7),
    "random_negative_binomial": (7, 7), "random_beta": (7, 7), "random_weibull": (6, 6), "random_pink_noise": (4, 4),
    # XMILE: parameters, then seed, least and greatest value, which may be left out
    "random": (2, 3), "uniform": (2, 3), "normal": (2, 5), "exprnd": (1, 4), "lognormal": (2, 3),
    "beta": (2, 5), "gamma": (2, 5), "binomial": (2, 5), "montecarlo": (1, 2),
}
"""Functions that draw random numbers, with the least and the greatest number of arguments."""

UNDEFINED: Final[dict[str, str]] = {
    "random_gamma": "two pages of Vensim's manual give it different means",
    "random_lookup": "Vensim's manual does not say how the density runs between its points",
    "poisson": "its mean is that of a draw in the XMILE standard and that of a unit of time in Stella",
}
"""Functions that are refused because their sources leave their meaning open, with what is open."""

FUNCTIONS: Final[dict[str, int]] = ELEMENTARY | COMPOSED


def arguments_of(function: str) -> tuple[int, int] | None:
    """The least and the greatest number of arguments of a function; None if it is not supported."""
    if function in RANDOM:
        return RANDOM[function]
    return (FUNCTIONS[function], FUNCTIONS[function]) if function in FUNCTIONS else None
