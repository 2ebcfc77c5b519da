"""From PySD's abstract syntax to nodes: what an equation says, in our own words, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from villageflow.errors import ModelFileError, UnsupportedError
from villageflow.frontend.pysd_strict import ae, am
from villageflow.ir.nodes import (
    Call,
    Definition,
    Expr,
    Extrapolation,
    Integral,
    Interpolation,
    Num,
    Ref,
    Stateful,
    Table,
    TableCall,
)
from villageflow.ir.walk import fold, rebuild
from villageflow.names import canonical

NOT_AVAILABLE = -(2.0**109)
"""Value of Vensim's ``:NA:``."""

_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "^": "power"}
_LOGIC = {
    "=": "equal", "<>": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
    "and": "and", "or": "or",
}
_OPERATORS = frozenset({*_ARITHMETIC.values(), *_LOGIC.values(), "negative", "not"} - {"power"})
_RENAMED = {"xpulse": "pulse_volume", "xpulse_train": "pulse_volume_train", "xramp": "ramp_unending"}
_UNSUPPORTED: dict[type, str] = {
    ae.GetConstantsStructure: "GET DIRECT CONSTANTS",
    ae.GetDataStructure: "GET DIRECT DATA",
    ae.GetLookupsStructure: "GET DIRECT LOOKUPS",
    ae.AllocateAvailableStructure: "ALLOCATE AVAILABLE",
    ae.AllocateByPriorityStructure: "ALLOCATE BY PRIORITY",
    ae.DataStructure: "a data variable",
}


def definition(component: am.AbstractComponent, place: str) -> Definition:
    """The right-hand side of one equation.

    Parameters
    ----------
    component : AbstractComponent
        As the translator gives it.
    place : str
        File, line and name, for messages.

    Returns
    -------
    Definition

    Raises
    ------
    UnsupportedError, ModelFileError
        A construct that is not supported, named; a table that is not one.
    """
    syntax = component.ast
    if isinstance(component, am.AbstractData):
        raise UnsupportedError(f"{place} is a data variable; external data are not supported yet")
    if isinstance(syntax, ae.LookupsStructure):
        return _table(syntax, place)
    if isinstance(syntax, ae.IntegStructure):
        if syntax.non_negative:
            raise UnsupportedError(
                f"{place} is a non-negative stock; Stella's non-negative stocks are not supported yet"
            )
        return Integral(_expr(syntax.flow, place), _expr(syntax.initial, place))
    return _expr(syntax, place)


def xmile_meaning(definition: Definition) -> Definition:
    """The same equation with XMILE's SAFEDIV, which looks for a divisor of exactly zero, told from Vensim's XIDZ.

    INT and MOD keep Vensim's meaning (towards zero, sign of the dividend): that is what the one record of them has.
    """

    def rename(node: Expr, operands: tuple[Expr, ...]) -> Expr:
        if isinstance(node, Call) and node.function == "zidz":
            return Call("safediv", (*operands, Num(0.0)))
        if isinstance(node, Call) and node.function == "xidz":
            return Call("safediv", operands)
        return rebuild(node, operands)

    match definition:
        case Table():
            return definition
        case Integral(net_flow, initial):
            return Integral(fold(net_flow, rename), fold(initial, rename))
        case _:
            return fold(definition, rename)


def _expr(syntax: Any, place: str) -> Expr:
    """Copy one syntax tree into nodes; depth is bounded by `text.MAX_NESTING`."""

    def go(item: Any) -> Expr:
        return _expr(item, place)

    match syntax:
        case bool() | int() | float():
            return Num(NOT_AVAILABLE if math.isnan(syntax) else float(syntax))
        case ae.ReferenceStructure(reference, subscripts):
            if subscripts is not None:
                raise UnsupportedError(f"{place} uses {reference!r} with subscripts; subscripts are not supported yet")
            return Ref(canonical(reference))
        case ae.ArithmeticStructure(operators, arguments):
            return _operators(operators, [go(item) for item in arguments], _ARITHMETIC, place)
        case ae.LogicStructure(operators, arguments):
            return _logic(operators, [go(item) for item in arguments], place)
        case ae.InlineLookupsStructure(argument, lookups):
            return TableCall(_table(lookups, place), go(argument))
        case ae.CallStructure(function, arguments):
            return _call(function, [go(item) for item in arguments], place)
        case ae.IntegStructure():
            raise UnsupportedError(f"{place} has INTEG inside a larger expression; give the stock a name of its own")
        case ae.InitialStructure(initial):
            return Call("initial", (go(initial),))
        case ae.GameStructure(expression):
            return go(expression)  # without a player a game variable is its equation
    if type(syntax) in _UNSUPPORTED:
        raise UnsupportedError(f"{place} uses {_UNSUPPORTED[type(syntax)]}, which is not supported yet")
    return _stateful(syntax, go, place)


def _stateful(syntax: Any, go: Callable[[Any], Expr], place: str) -> Expr:
    match syntax:
        case ae.SmoothStructure(source, time, initial, order) | ae.SmoothNStructure(source, time, initial, order):
            return _staged("smooth", [source, time, initial], order, go)
        case ae.DelayStructure(source, time, initial, order):
            return _staged("delay", [source, time, initial], order, go)
        case ae.DelayNStructure(source, time, initial, order):
            return _staged("delay_n", [source, time, initial], order, go)
        case ae.DelayFixedStructure(source, time, initial):
            return Stateful("delay_fixed", (go(source), go(time), go(initial)))
        case ae.TrendStructure(source, time, initial):
            return Stateful("trend", (go(source), go(time), go(initial)))
        case ae.ForecastStructure(source, time, horizon, initial):
            return Stateful("forecast", (go(source), go(time), go(horizon), go(initial)))
        case ae.SampleIfTrueStructure(condition, source, initial):
            return Stateful("sample_if_true", (go(condition), go(source), go(initial)))
    raise UnsupportedError(f"{place} uses {type(syntax).__name__}, which is not supported")


def _staged(function: str, arguments: list[Any], order: Any, go: Callable[[Any], Expr]) -> Expr:
    """A smooth or delay; lowering turns an order that is a constant of the model into its number."""
    return Stateful(function, (*map(go, arguments), go(order)))


def _operators(operators: list[str], operands: list[Expr], names: dict[str, str], place: str) -> Expr:
    if operators == ["negative"]:
        return Call("negative", (operands[0],))
    if [operator.strip(":").lower() for operator in operators] == ["not"]:
        return Call("not", (operands[0],))
    result = operands[0]
    for operator, operand in zip(operators, operands[1:], strict=True):
        key = operator.strip(":").lower()
        if key not in names:
            raise UnsupportedError(f"{place} uses the operator {operator!r}, which is not supported")
        result = Call(names[key], (result, operand))
    return result


def _logic(operators: list[str], operands: list[Expr], place: str) -> Expr:
    """AND binds before OR; the translator gives a chain of both in the order of the text."""
    groups = [[operands[0]]]
    for operator, operand in zip(operators, operands[1:], strict=False):
        if operator.strip(":").lower() == "or":
            groups.append([operand])
        else:
            groups[-1].append(operand)
    if len(groups) == 1:
        return _operators(operators, operands, _LOGIC, place)
    terms = [_operators([":AND:"] * (len(group) - 1), group, _LOGIC, place) for group in groups]
    return _operators([":OR:"] * (len(terms) - 1), terms, _LOGIC, place)


def _call(function: Any, arguments: list[Expr], place: str) -> Expr:
    if not isinstance(function, ae.ReferenceStructure) or function.subscripts is not None:
        raise UnsupportedError(f"{place} calls a subscripted function; subscripts are not supported yet")
    name = canonical(function.reference)
    name = _RENAMED.get(name, name)
    if name in _OPERATORS:
        raise UnsupportedError(f"{place} uses the function {name!r}, which is not supported")
    if name in ("lookup", "lookup_extrapolate", "lookup_forward", "lookup_backward") and len(arguments) == 2:
        table, argument = arguments
        if isinstance(table, Ref):
            return Call(name, (table, argument))
    return Call(name, tuple(arguments))


def _table(lookups: ae.LookupsStructure, place: str) -> Table:
    x = tuple(float(value) for value in lookups.x)
    y = tuple(float(value) for value in lookups.y)
    if len(x) != len(y) or not x:
        raise ModelFileError(f"{place}: a table has {len(x)} x values and {len(y)} y values; it needs as many of each")
    if not all(math.isfinite(value) for value in x + y):
        raise ModelFileError(f"{place}: a table holds a value that is not a finite number")
    if any(later < earlier for earlier, later in pairwise(x)):
        raise ModelFileError(f"{place}: the x values of a table decrease; order its points")
    extrapolation = Extrapolation.EXTEND if lookups.type == "extrapolate" else Extrapolation.CLAMP
    interpolation = Interpolation.HOLD_BACKWARD if lookups.type == "hold_backward" else Interpolation.LINEAR
    return Table(x, y, extrapolation, interpolation)
