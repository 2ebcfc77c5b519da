"""Expression nodes: small frozen classes, matched by type, free of file formats and of simulation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Extrapolation(Enum):
    """What a table function returns outside its points."""

    CLAMP = "clamp"
    EXTEND = "extend"


class Interpolation(Enum):
    """How a table function joins its points."""

    LINEAR = "linear"
    HOLD_BACKWARD = "hold backward"
    LOOK_FORWARD = "look forward"


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


@dataclass(frozen=True, slots=True)
class Ref:
    """A use of a variable, by canonical name."""

    name: str


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
    """A stock: its net flow and its initial value. Occurs only as the whole right-hand side."""

    net_flow: Expr
    initial: Expr


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


Expr: TypeAlias = Num | Ref | Call | TableCall | Stateful
Definition: TypeAlias = Expr | Integral | Table
