"""The lowered model: variables by id, equations by kind, ready to be compiled to a tape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from villageflow.ir.dimensions import Dimension
from villageflow.ir.nodes import Call, Expr, Integral, Table, Uniform
from villageflow.ir.walk import nodes


class Kind(Enum):
    """What a variable is."""

    STOCK = "stock"
    AUXILIARY = "auxiliary"
    CONSTANT = "constant"
    LOOKUP = "lookup"
    CONTROL = "control"


CONTROL_IDS = ("initial_time", "final_time", "time_step", "saveper")
"""Canonical names of the variables that set the time grid."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the model file.

    Attributes
    ----------
    id : str
        Canonical name.
    name : str
        As written.
    kind : Kind
    units, documentation : str
        As written; empty when absent.
    limits : tuple of (float or None)
        Declared range.
    equation : str
        Right-hand side in canonical text, see `ir.text`.
    """

    id: str
    name: str
    kind: Kind
    units: str
    documentation: str
    limits: tuple[float | None, float | None]
    equation: str


@dataclass(frozen=True, slots=True)
class Array:
    """A variable with dimensions, whose elements are variables of their own.

    Attributes
    ----------
    id : str
        Canonical name.
    name : str
        As written.
    dimensions : tuple of str
        Canonical names of its dimensions.
    ids : tuple of (str or None)
        Its elements, the last dimension fastest; None where the model defines none.
    """

    id: str
    name: str
    dimensions: tuple[str, ...]
    ids: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Memory of SAMPLE IF TRUE: takes `input` at the steps at which `condition` holds."""

    condition: Expr
    input: Expr
    initial: Expr


@dataclass(frozen=True, slots=True)
class FixedDelay:
    """Memory of DELAY FIXED: `input` of `delay_time` ago, `initial` until then."""

    input: Expr
    delay_time: Expr
    initial: Expr


def owner(stream: str) -> str:
    """The variable whose equation draws from a stream, see `nodes.Uniform`."""
    return stream.rpartition(" ")[0]


@dataclass(frozen=True, eq=False)
class Equations:
    """Equations by kind, free of functions with memory.

    Attributes
    ----------
    stocks : mapping of str to Integral
        Declared stocks, and those that smooths, delays and trends expand to (ids that begin with ``#``).
    auxiliaries : mapping of str to Expr
    holds : mapping of str to Hold
    delays : mapping of str to FixedDelay
    initials : mapping of str to Expr
        Arguments of INITIAL: evaluated at the start, kept for the run.
    lookups : mapping of str to Table
    """

    stocks: Mapping[str, Integral]
    auxiliaries: Mapping[str, Expr]
    holds: Mapping[str, Hold]
    delays: Mapping[str, FixedDelay]
    initials: Mapping[str, Expr]
    lookups: Mapping[str, Table]

    def start_expression(self, name: str) -> Expr | None:
        """What gives a variable its value at the start; None for what needs no equation there, such as time."""
        if name in self.stocks:
            return self.stocks[name].initial
        if name in self.holds:
            hold = self.holds[name]
            return Call("if_then_else", (hold.condition, hold.input, hold.initial))
        if name in self.delays:
            return self.delays[name].initial
        if name in self.initials:
            return self.initials[name]
        return self.auxiliaries.get(name)

    def random_variables(self) -> tuple[str, ...]:
        """Variables whose own equation draws random numbers."""
        expressions = [*self.auxiliaries.values(), *self.initials.values()]
        for stock in self.stocks.values():
            expressions += [stock.net_flow, stock.initial]
        for hold in self.holds.values():
            expressions += [hold.condition, hold.input, hold.initial]
        for delay in self.delays.values():
            expressions += [delay.input, delay.delay_time, delay.initial]
        streams = [node.stream for expr in expressions for node in nodes(expr) if isinstance(node, Uniform)]
        return tuple(dict.fromkeys(owner(stream) for stream in streams))


@dataclass(frozen=True, repr=False, eq=False)
class Model(Equations):
    """A stock-flow model, resolved and expanded. Immutable; `simulate` never writes to it. Equal only to itself.

    Attributes
    ----------
    name : str
        Stem of the file's name.
    digest : str
        SHA-256 of the file's bytes.
    method : str
        Integration method that the file declares.
    variables : mapping of str to Variable
        Every variable of the file, in file order; of an array, every element.
    arrays : mapping of str to Array
        The arrays that elements belong to.
    dimensions : mapping of str to Dimension
    constants : mapping of str to float
        Value of every constant; the parameters that a design may vary.
    controls : mapping of str to Expr
        Expressions of the time grid.
    initial_order : tuple of str
        Variables whose value at the start is needed, in evaluation order.
    step_order : tuple of str
        Auxiliaries and held values, in evaluation order.
    structural : mapping of str to str
        Constants that no design may vary, with what they set: the order of a delay, the time grid.
    """

    name: str
    digest: str
    method: str
    variables: Mapping[str, Variable]
    arrays: Mapping[str, Array]
    dimensions: Mapping[str, Dimension]
    constants: Mapping[str, float]
    controls: Mapping[str, Expr]
    initial_order: tuple[str, ...]
    step_order: tuple[str, ...]
    structural: Mapping[str, str]

    def __repr__(self) -> str:
        return (
            f"<villageflow.Model {self.name!r}: {sum(1 for s in self.stocks if not s.startswith('#'))} stocks, "
            f"{len(self.auxiliaries)} auxiliaries, {len(self.constants)} constants>"
        )

    @property
    def time_units(self) -> str:
        """Unit of time as declared on TIME STEP, or empty."""
        step = self.variables.get("time_step")
        return step.units if step else ""
