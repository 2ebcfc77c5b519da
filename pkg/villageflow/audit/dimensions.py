"""Whether every equation has the unit that its variable states."""

from __future__ import annotations

from typing import TypeAlias

from pint.util import UnitsContainer

from villageflow.ir.model import Model
from villageflow.ir.nodes import Call, Expr, Num, Ref, TableCall, Uniform
from villageflow.ir.walk import fold
from villageflow.units import powers

Unit: TypeAlias = UnitsContainer | None
"""Powers of base units; None where a variable states no unit: it fits any."""

_PURE = UnitsContainer()
_SAME = frozenset(("add", "subtract", "min", "max", "negative", "abs", "integer", "modulo", "quantum", "initial",
                   "active_initial"))
_COMPARED = frozenset(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"))
_PURE_ARGUMENTS = frozenset(("exp", "ln", "log", "log10", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh",
                             "cosh", "tanh", "and", "or", "not"))


class _FaultError(Exception):
    """One inconsistency, in words."""


def unit_faults(model: Model) -> dict[str, str]:
    """Equations whose unit is not the one that their variable states.

    Parameters
    ----------
    model : Model
        As `read_model` gives it.

    Returns
    -------
    dict of str to str
        Variable -> what does not fit; empty where all units agree. A variable without a unit fits any, and so do the
        literal 0 and a whole right-hand side that is a literal; other literals are pure numbers. Units are words:
        nothing is converted, ``Year`` and ``Month`` differ. Table functions take any argument and give the unit that
        is expected of them.
    """
    units = {name: _unit(variable.units) for name, variable in model.variables.items()}
    units |= {name: _unit(model.time_units) for name in ("time", "initial_time", "final_time", "time_step", "saveper")}
    found: dict[str, str] = {}
    for name, expr in model.auxiliaries.items():
        _compare(found, name, expr, units.get(name), units)
    for name, stock in model.stocks.items():
        rate = _divided(units.get(name), units["time"])
        _compare(found, name, stock.net_flow, rate, units, "net flow")
        _compare(found, name, stock.initial, units.get(name), units, "initial value")
    return found


def _compare(
    found: dict[str, str], name: str, expr: Expr, stated: Unit, units: dict[str, Unit], what: str = "equation"
) -> None:
    if name.startswith("#") or name in found or isinstance(expr, Num):
        return
    try:
        unit = fold(expr, lambda node, operands: _of(node, operands, units))
    except _FaultError as fault:
        found[name] = f"its {what} {fault}"
        return
    if unit is not None and stated is not None and unit != stated:
        found[name] = f"its {what} has the unit {_shown(unit)}; {_shown(stated)} is stated"


def _of(node: Expr, operands: tuple[Unit, ...], units: dict[str, Unit]) -> Unit:
    match node:
        case Num():
            return _PURE
        case Ref(name=name):
            return units.get(name)
        case Uniform() | TableCall():
            return None
        case Call(function=function, arguments=arguments):
            return _call(function, arguments, operands, units["time"])
    raise AssertionError(node)


def _call(function: str, arguments: tuple[Expr, ...], operands: tuple[Unit, ...], time: Unit) -> Unit:
    if function in _SAME:
        return _common(function, arguments, operands)
    if function in _COMPARED:
        _common(function, arguments, operands)
        return _PURE
    if function in _PURE_ARGUMENTS:
        return _pure(function, operands)
    match function, operands:
        case "multiply", (a, b):
            return None if a is None or b is None else a * b
        case "divide" | "zidz", (a, b):
            return _divided(a, b)
        case "xidz" | "safediv", (a, b, _):
            return _common(function, (arguments[0], arguments[2]), (_divided(a, b), operands[2]))
        case "sqrt", (a,):
            return None if a is None else UnitsContainer(a**0.5)
        case "power", (a, _):
            exponent = arguments[1]
            if isinstance(exponent, Num) and a is not None:
                return UnitsContainer(a**exponent.value)
            return _pure(function, operands)
        case "if_then_else", (_, _, _):
            return _common(function, arguments[1:], operands[1:])
        case "step", (height, start):
            _common(function, (), (_written(arguments[1], start), time))
            return height
        case "ramp", (slope, start, end):
            _common(function, (), (_written(arguments[1], start), _written(arguments[2], end), time))
            return None if slope is None or time is None else slope * time
        case "pulse", (start, width):
            _common(function, (), (_written(arguments[0], start), _written(arguments[1], width), time))
            return _PURE
    return None


def _common(function: str, arguments: tuple[Expr, ...], operands: tuple[Unit, ...]) -> Unit:
    """The unit that all operands share; a literal 0 fits any."""
    zero = [isinstance(argument, Num) and argument.value == 0 for argument in arguments]
    known = [unit for position, unit in enumerate(operands)
             if unit is not None and not (position < len(zero) and zero[position])]
    for unit in known[1:]:
        if unit != known[0]:
            raise _FaultError(f"joins {_shown(known[0])} and {_shown(unit)} by {function.upper().replace('_', ' ')}")
    return known[0] if known else None


def _pure(function: str, operands: tuple[Unit, ...]) -> Unit:
    for unit in operands:
        if unit is not None and unit != _PURE:
            raise _FaultError(f"takes {function.upper().replace('_', ' ')} of {_shown(unit)}; it needs a pure number")
    return _PURE


def _written(argument: Expr, unit: Unit) -> Unit:
    """A time written as a number fits."""
    return None if isinstance(argument, Num) else unit


def _divided(a: Unit, b: Unit) -> Unit:
    return None if a is None or b is None else a / b


def _unit(text: str) -> Unit:
    return UnitsContainer(powers(text)) if text.strip() else None


def _shown(unit: UnitsContainer) -> str:
    """Such as RMB/(year*store)."""
    exponents = {str(word): float(str(power)) for word, power in unit.items()}

    def side(sign: float) -> list[str]:
        found = sorted((word, sign * power) for word, power in exponents.items() if sign * power > 0)
        return [word if power == 1 else f"{word}^{power:g}" for word, power in found]

    above, below = side(1.0), side(-1.0)
    if not above and not below:
        return "dmnl"
    under = f"({'*'.join(below)})" if len(below) > 1 else "".join(below)
    return ("*".join(above) or "1") + (f"/{under}" if below else "")
