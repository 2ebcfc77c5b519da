"""Integration methods: the ones offered, and what modelling programs call them."""

from __future__ import annotations

from typing import Final

from villageflow.errors import DesignError

ADAPTIVE: Final = "dopri5"
METHODS: Final = ("euler", "rk4", ADAPTIVE)

_ALIASES: Final = {
    "rk4 fixed": "rk4",   # Vensim
    "rk4 auto": ADAPTIVE,  # Vensim: its own formula differs, what it promises does not
    "rk45": ADAPTIVE,     # XMILE: mixed fourth and fifth order
}
_REFUSED: Final = {
    "diff": "Euler that stores auxiliaries one step late",
    "rk2": "second-order Runge-Kutta",
    "rk2 fixed": "second-order Runge-Kutta",
    "rk2 auto": "second-order Runge-Kutta with steps of variable length",
    "gear": "Gear's method for stiff models",
}


def method_named(name: str, whose: str = "method") -> str:
    """The method that a name stands for, in any spelling of `METHODS`, of Vensim or of XMILE.

    Raises
    ------
    DesignError
        A method that is not offered; the message begins with `whose`.
    """
    plain = " ".join(str(name).lower().replace("_", " ").replace("-", " ").split())
    method = _ALIASES.get(plain, plain)
    if method not in METHODS:
        what = f" ({_REFUSED[plain]})" if plain in _REFUSED else ""
        raise DesignError(
            f"{whose} is {name!r}, which is not supported{what}; give method= one of {', '.join(METHODS)}"
        )
    return method
