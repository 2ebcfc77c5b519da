"""Expression nodes: small frozen classes, matched by type, free of file formats and of simulation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

NOT_AVAILABLE: Final = -(2.0**109)
"""Value of Vensim's ``:NA:``."""


class Extrapolation(Enum):
    """What a table function returns outside its points."""

    CLAMP = "clamp"
    EXTEND = "extend"


class Interpolation(Enum):
    """How a table function joins its points."""

    LINEAR = "linear"
    HOLD_BACKWARD = "hold backward"
    LOOK_FORWARD = "look forward"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Table:
    """A table function: points (x, y) with x not decreasing.

    Attributes
    ----------
    x, y : tuple of float
        Same length, at least 1.
    extrapolation : Extrapolation
    interpolation : Interpolation
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    extrapolation: Extrapolation = Extrapolation.CLAMP
    interpolation: Interpolation = Interpolation.LINEAR


@dataclass(frozen=True, slots=True)
class Num:
    """A literal."""

    value: float


EVERY: Final = "*"
"""Name of a subscript that runs over the dimension at its place."""


@dataclass(frozen=True, slots=True)
class Subscript:
    """A subscript of a reference: an element or a dimension by canonical name.

    Attributes
    ----------
    name : str
    over : bool
        Whether a function such as SUM runs over it (``!`` in Vensim, ``*`` in XMILE).
    """

    name: str
    over: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """A use of a variable, by canonical name; `lower.arrays` leaves none with subscripts."""

    name: str
    subscripts: tuple[Subscript, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function applied to arguments; `function` is a key of `ir.functions.FUNCTIONS`."""

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class TableCall:
    """A table function, inline or by the canonical name of a lookup variable, applied to one argument."""

    table: Table | str
    argument: Expr


@dataclass(frozen=True, slots=True)
class Integral:
    """A stock: its net flow and its initial value. Occurs only as the whole right-hand side.

    Attributes
    ----------
    net_flow, initial : Expr
    non_negative : bool
        Whether a step that would take it below zero ends at zero.
    """

    net_flow: Expr
    initial: Expr
    non_negative: bool = False


@dataclass(frozen=True, slots=True)
class Numbers:
    """The literal of an array: as many values as the dimensions of the left side have elements, the last fastest."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """Table functions of an array, one for each element of the left side, the last dimension fastest."""

    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Data over time, one table for each element of the left side; a scalar has one.

    Attributes
    ----------
    tables : tuple of Table
        Points (time, value).
    """

    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Stateful:
    """A function with memory that lowering expands, such as ``smooth`` of order 3.

    Attributes
    ----------
    function : str
        One of ``smooth, delay, delay_n, delay_fixed, trend, forecast, sample_if_true``.
    arguments : tuple of Expr
        As the function has them; smooths and delays end with initial value and order.
    """

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Uniform:
    """A random number in (0, 1), new at each step and for each member: what random functions are lowered to.

    Attributes
    ----------
    stream : str
        Canonical name of the variable whose equation draws, and the number of the call in it, joined by a blank.
        Equal streams are equal numbers.
    seed : Expr
        The call's own seed: a part of what names the stream, which may differ between members and steps.
    """

    stream: str
    seed: Expr


Expr: TypeAlias = Num | Ref | Call | TableCall | Stateful | Uniform
Definition: TypeAlias = Expr | Integral | Table
"""The right-hand side of a scalar equation."""
Written: TypeAlias = Definition | Numbers | Tables | Series
"""The right-hand side of an equation as a model file has it, which may stand for all elements of an array."""
