"""From PySD's abstract syntax to nodes: what an equation says, in our own words, or refused by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from villageflow.errors import ModelFileError, UnsupportedError
from villageflow.frontend.datafile import DataFiles
from villageflow.frontend.external import ExternalFiles
from villageflow.frontend.pysd_strict import ae, am
from villageflow.frontend.text import EVERY_SUBSCRIPT
from villageflow.ir.dimensions import Dimensions
from villageflow.ir.nodes import (
    EVERY,
    NOT_AVAILABLE,
    Call,
    Expr,
    Extrapolation,
    Integral,
    Interpolation,
    Num,
    Numbers,
    Ref,
    Series,
    Stateful,
    Subscript,
    Table,
    TableCall,
    Tables,
    Written,
)
from villageflow.ir.walk import fold, rebuild
from villageflow.names import canonical, scalar_id

Floats: TypeAlias = npt.NDArray[np.float64]

_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "^": "power"}
_LOGIC = {
    "=": "equal", "<>": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
    "and": "and", "or": "or",
}
_OPERATORS = frozenset({*_ARITHMETIC.values(), *_LOGIC.values(), "negative", "not"} - {"power"})
_RENAMED = {"xpulse": "pulse_volume", "xpulse_train": "pulse_volume_train", "xramp": "ramp_unending"}
_DATA = {
    None: Interpolation.LINEAR, "interpolate": Interpolation.LINEAR, "raw": Interpolation.RAW,
    "hold_backward": Interpolation.HOLD_BACKWARD, "look_forward": Interpolation.LOOK_FORWARD,
}
_WHOLE = {
    ae.GetConstantsStructure: "GET DIRECT CONSTANTS", ae.GetDataStructure: "GET DIRECT DATA",
    ae.GetLookupsStructure: "GET DIRECT LOOKUPS", ae.IntegStructure: "INTEG",
}


@dataclass(frozen=True, slots=True)
class Context:
    """Where an equation stands, and what it may refer to.

    Attributes
    ----------
    place : str
        File, line and name, for messages.
    id : str
        Canonical name of the variable.
    subscripts : tuple of str
        Of the left side.
    dimensions : Dimensions
    files : ExternalFiles
        Reader of the spreadsheets that the model names.
    data : DataFiles
        Values of data variables without an equation.
    """

    place: str
    id: str
    subscripts: tuple[str, ...]
    dimensions: Dimensions
    files: ExternalFiles
    data: DataFiles

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions on the left side; elements have none."""
        return tuple(len(self.dimensions[name].elements) for name in self.subscripts if name in self.dimensions)


def definition(component: am.AbstractComponent, context: Context) -> Written:
    """The right-hand side of one equation.

    Parameters
    ----------
    component : AbstractComponent
        As the translator gives it.
    context : Context
        Where it stands.

    Returns
    -------
    Written

    Raises
    ------
    UnsupportedError, ModelFileError
        A construct that is not supported, named; a table that is not one; a file that cannot be read.
    """
    syntax, place = component.ast, context.place
    match syntax:
        case np.ndarray():
            if syntax.ndim > 1 and context.shape and syntax.shape[-1] != context.shape[-1]:
                raise ModelFileError(
                    f"{place} has rows of {syntax.shape[-1]} numbers; each row, up to a semicolon, holds one for each "
                    f"of the {context.shape[-1]} elements of the last dimension"
                )
            return Numbers(tuple(float(value) for value in syntax.ravel()))
        case ae.LookupsStructure():
            return _table(syntax, place)
        case ae.IntegStructure(flow, initial, non_negative):
            return Integral(_expr(flow, place), _expr(initial, place), bool(non_negative))
        case ae.GetConstantsStructure(file, tab, cell):
            with at(place):
                values = context.files.constants(file, tab, cell, context.shape)
            return Numbers(tuple(float(value) for value in values.ravel()))
        case ae.GetLookupsStructure(file, tab, x, cell):
            with at(place):
                points = context.files.lookup(file, tab, x, cell, math.prod(context.shape))
            tables = _columns(points, Interpolation.LINEAR, place)
            return Tables(tables) if context.subscripts else tables[0]
        case ae.GetDataStructure(file, tab, time, cell):
            with at(place):
                points = context.files.series(file, tab, time, cell, math.prod(context.shape))
            return Series(_columns(points, _interpolation(component, place), place))
        case ae.DataStructure():
            return _data_variable(component, context)
    return _expr(syntax, place)


@contextmanager
def at(place: str) -> Iterator[None]:
    """Adds to the error of a file the equation that refers to it."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{place}: {error}") from None


def _interpolation(component: Any, place: str) -> Interpolation:
    keyword = getattr(component, "keyword", None)
    if keyword in _DATA:
        return _DATA[keyword]
    raise UnsupportedError(f"{place} is data with the keyword :{str(keyword).upper()}:, which is not supported")


def _columns(points: tuple[Floats, Floats], interpolation: Interpolation, place: str) -> tuple[Table, ...]:
    """One table for each column, without the points that have no value."""
    x, values = points
    tables = []
    for column in values.T:
        told = ~np.isnan(column)
        if not told.any():
            raise ModelFileError(f"{place}: a series has no value; fill its cells")
        tables.append(Table(tuple(x[told].tolist()), tuple(column[told].tolist()), interpolation=interpolation))
    return tuple(tables)


def _data_variable(component: Any, context: Context) -> Series:
    """Data without an equation: its values stand in the files that the caller gave."""
    interpolation = _interpolation(component, context.place)
    parts = [context.dimensions.elements(subscript) for subscript in context.subscripts]
    tables: list[Table] = []
    for elements in itertools.product(*parts):
        points = context.data.series(scalar_id(context.id, elements))
        if points is None:
            raise ModelFileError(
                f"{context.place} is a data variable without an equation, and no data file has a series "
                f"{scalar_id(context.id, elements)!r}; give one with data_files= (--data on the command line)"
            )
        tables.extend(_columns((points[0], points[1][:, None]), interpolation, context.place))
    return Series(tuple(tables))


def xmile_meaning(definition: Written) -> Written:
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
        case Table() | Tables() | Numbers() | Series():
            return definition
        case Integral(net_flow, initial, non_negative):
            return Integral(fold(net_flow, rename), fold(initial, rename), non_negative)
        case _:
            return fold(definition, rename)


def _expr(syntax: Any, place: str, known: dict[int, Expr] | None = None) -> Expr:
    """Copy one syntax tree into nodes, a part that stands at several places once; `text.MAX_NESTING` bounds depth."""
    copies = {} if known is None else known

    def go(item: Any) -> Expr:
        if id(item) not in copies:
            copies[id(item)] = _expr(item, place, copies)
        return copies[id(item)]

    match syntax:
        case bool() | int() | float():
            return Num(NOT_AVAILABLE if math.isnan(syntax) else float(syntax))
        case ae.ReferenceStructure(reference, subscripts):
            return Ref(canonical(reference), _subscripts(subscripts))
        case ae.ArithmeticStructure(operators, arguments):
            return _operators(operators, [go(item) for item in arguments], _ARITHMETIC, place)
        case ae.LogicStructure(operators, arguments):
            return _logic(operators, [go(item) for item in arguments], place)
        case ae.InlineLookupsStructure(argument, lookups):
            return TableCall(_table(lookups, place), go(argument))
        case ae.CallStructure(function, arguments):
            if text := next((item for item in arguments if isinstance(item, str)), None):
                raise UnsupportedError(
                    f"{place} uses the function {canonical(function.reference)!r}, which is not supported with the "
                    f"text {text!r}"
                )
            return _call(function, [go(item) for item in arguments], place)
        case str():
            raise UnsupportedError(f"{place} uses the text {syntax!r} where a number is needed; it is not supported")
        case np.ndarray():
            raise UnsupportedError(f"{place} has a list of numbers inside an expression; give it a variable of its own")
        case ae.InitialStructure(initial):
            return Call("initial", (go(initial),))
        case ae.GameStructure(expression):
            return go(expression)  # without a player a game variable is its equation
        case ae.AllocateAvailableStructure(request, profile, available):
            return Call("allocate_available", (go(request), go(profile), go(available)))
        case ae.AllocateByPriorityStructure(request, priority, size, width, supply):
            return Call("allocate_by_priority", (go(request), go(priority), go(size), go(width), go(supply)))
    if type(syntax) in _WHOLE:
        raise UnsupportedError(
            f"{place} has {_WHOLE[type(syntax)]} inside a larger expression; give it a variable of its own"
        )
    return _stateful(syntax, go, place)


def _subscripts(syntax: Any) -> tuple[Subscript, ...]:
    if syntax is None:
        return ()
    found = []
    for written in syntax.subscripts:
        name = canonical(written.rstrip(" !"))
        every = name == EVERY_SUBSCRIPT
        found.append(Subscript(EVERY if every else name, every or written.rstrip().endswith("!")))
    return tuple(found)


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
    name = canonical(function.reference)
    if function.subscripts is not None:  # only a table function has subscripts
        return Call("lookup", (Ref(name, _subscripts(function.subscripts)), *arguments))
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
        x, y = (tuple(column) for column in zip(*sorted(zip(x, y, strict=True), key=lambda p: p[0]), strict=True))
    extrapolation = Extrapolation.EXTEND if lookups.type == "extrapolate" else Extrapolation.CLAMP
    interpolation = Interpolation.HOLD_BACKWARD if lookups.type == "hold_backward" else Interpolation.LINEAR
    return Table(x, y, extrapolation, interpolation)
