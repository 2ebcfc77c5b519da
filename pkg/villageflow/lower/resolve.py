"""Names and functions of a source model, checked: every reference is defined, every call has its arguments."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from villageflow.errors import did_you_mean
from villageflow.ir.functions import LISTED, UNDEFINED, arguments_of
from villageflow.ir.model import CONTROL_IDS, Kind
from villageflow.ir.nodes import (
    Call,
    Definition,
    Expr,
    Extrapolation,
    Integral,
    Interpolation,
    Num,
    Ref,
    Table,
    TableCall,
)
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.ir.walk import fold, rebuild
from villageflow.lower.faults import Faults

TIME = "time"
_PREDEFINED = {"dt": "time_step", "starttime": "initial_time", "stoptime": "final_time"}
_TABLE_FUNCTIONS = {
    "lookup": (None, None),
    "lookup_extrapolate": (Extrapolation.EXTEND, Interpolation.LINEAR),
    "lookup_forward": (Extrapolation.CLAMP, Interpolation.LOOK_FORWARD),
    "lookup_backward": (Extrapolation.CLAMP, Interpolation.HOLD_BACKWARD),
}


_DATA_FUNCTIONS = {"get_data_between_times": 3, "get_data_first_time": 1, "get_data_last_time": 1}


@dataclass(frozen=True)
class Resolved:
    """Equations by id with every name known; kinds by id."""

    definitions: dict[str, Definition]
    kinds: dict[str, Kind]
    lookups: dict[str, Table]


def resolve(source: SourceModel, data: frozenset[str]) -> Resolved:
    """Check and normalise every equation; all faults are gathered and raised together.

    Parameters
    ----------
    source : SourceModel
        Of scalars.
    data : frozenset of str
        Ids of those that are data over time.
    """
    faults = Faults(source)
    for name, count in Counter(variable.id for variable in source.variables).items():
        if count > 1:
            faults.add(f"{source.path.name} defines {name!r} {count} times; keep one")
    kinds = {variable.id: _kind(variable) for variable in source.variables}
    lookups = {v.id: v.definition for v in source.variables if isinstance(v.definition, Table)}
    for missing in CONTROL_IDS:
        if missing not in kinds:
            faults.add(f"{source.path.name} does not define {missing.replace('_', ' ').upper()}")
    for variable in source.variables:
        if variable.id in CONTROL_IDS and isinstance(variable.definition, (Integral, Table)):
            faults.add("is a stock or a lookup; the time grid is set by numbers", variable)
        if variable.id == TIME:
            faults.add("is the name of the clock; rename the variable", variable)
    resolver = _Resolver(source, kinds, lookups, data, faults)
    definitions = {v.id: resolver.definition(v) for v in source.variables if v.id not in lookups}
    faults.raise_all()
    return Resolved(definitions, kinds, lookups)


def _kind(variable: SourceVariable) -> Kind:
    if variable.id in CONTROL_IDS:
        return Kind.CONTROL
    match variable.definition:
        case Table():
            return Kind.LOOKUP
        case Integral():
            return Kind.STOCK
        case Num() | Call("negative", (Num(),)):
            return Kind.CONSTANT
        case _:
            return Kind.AUXILIARY


class _Resolver:
    """One pass over all equations that collects faults instead of stopping at the first."""

    def __init__(
        self, source: SourceModel, kinds: dict[str, Kind], lookups: dict[str, Table], data: frozenset[str],
        faults: Faults,
    ) -> None:
        self._faults = faults
        self._source = source
        self._kinds = kinds
        graphs = {
            v.id: v.definition.table
            for v in source.variables
            if isinstance(v.definition, TableCall) and isinstance(v.definition.table, Table)
        }
        self._data = {name: table for name, table in graphs.items() if name in data}
        # in XMILE the graph of an auxiliary is also a table that others may look up
        self._tables = lookups if source.is_vensim else lookups | graphs
        self._owner = source.variables[0] if source.variables else None

    def definition(self, variable: SourceVariable) -> Definition:
        self._owner = variable
        match variable.definition:
            case Table():
                return variable.definition
            case Integral(net_flow, initial, non_negative):
                return Integral(self._expression(net_flow), self._expression(initial), non_negative)
            case _:
                return self._expression(variable.definition)  # type: ignore[arg-type]

    def _expression(self, expr: Expr) -> Expr:
        resolved = fold(expr, self._node)
        return self._bare_lookup((resolved,)) or resolved

    def _bare_lookup(self, operands: tuple[Expr, ...]) -> Expr | None:
        """The fault of an operand that is a lookup, which has no value of its own."""
        for operand in operands:
            if isinstance(operand, Ref) and self._kinds.get(operand.name) is Kind.LOOKUP:
                return self._fault(f"uses the lookup {operand.name!r} without an argument; write {operand.name}(x)")
        return None

    def _fault(self, message: str, *, unsupported: bool = False) -> Expr:
        self._faults.add(message, self._owner, unsupported=unsupported)
        return Num(0.0)

    def _node(self, node: Expr, operands: tuple[Expr, ...]) -> Expr:
        match node:
            case Ref(name):
                return self._reference(name)
            case Call(function):
                return self._call(function, operands)
            case _:
                return self._bare_lookup(operands) or rebuild(node, operands)

    def _reference(self, name: str) -> Expr:
        if name in self._kinds or name == TIME:
            return Ref(name)  # a lookup is an error unless a call takes it up: see _call
        if not self._source.is_vensim:  # names that XMILE predefines
            if name in _PREDEFINED:
                return Ref(_PREDEFINED[name])
            if name == "pi":
                return Call("pi", ())
        known = did_you_mean(name, self._kinds) if self._faults.will_show() else ""
        return self._fault(f"refers to {name!r}, which is not defined. {known}".rstrip())

    def _call(self, function: str, operands: tuple[Expr, ...]) -> Expr:
        if function in _TABLE_FUNCTIONS and len(operands) == 2:
            return self._table_function(function, operands)
        if function in _DATA_FUNCTIONS and len(operands) == _DATA_FUNCTIONS[function]:
            return self._data_function(function, operands)
        is_lookup = self._kinds.get(function) is Kind.LOOKUP
        arity = arguments_of(function)
        if arity is None and not is_lookup and function not in LISTED and function != "get_time_value":
            reason = f": {UNDEFINED[function]}" if function in UNDEFINED else ""
            return self._fault(f"uses the function {function!r}, which is not supported{reason}", unsupported=True)
        if fault := self._bare_lookup(operands):
            return fault
        if is_lookup:
            if len(operands) != 1:
                return self._fault(f"calls the lookup {function!r} with {len(operands)} arguments; it takes 1")
            return TableCall(function, operands[0])
        if function == "get_time_value" and len(operands) == 3:
            return self._time_value(*operands)
        if function in LISTED:
            return Call(function, operands)
        least, most = arity or (3, 3)  # of get_time_value
        if not least <= len(operands) <= most:
            takes = f"{least}" if least == most else f"{least} to {most}"
            return self._fault(f"calls {function!r} with {len(operands)} arguments; it takes {takes}")
        return Call(function, operands)

    def _time_value(self, relative_to: Expr, offset: Expr, measure: Expr) -> Expr:
        """The time of the model, or the time at which it starts, moved by an offset."""
        if relative_to not in (Num(0.0), Num(1.0)) or measure != Num(0.0):
            return self._fault(
                "calls 'get_time_value' for a date or for the clock of the computer; only the time of the model "
                "(0 or 1, offset, 0) is supported", unsupported=True,
            )
        return Call("add", (Ref(TIME if relative_to == Num(0.0) else "initial_time"), offset))

    def _table_function(self, function: str, operands: tuple[Expr, ...]) -> Expr:
        table, argument = operands
        if fault := self._bare_lookup((argument,)):
            return fault
        if not isinstance(table, Ref) or table.name not in self._tables:
            return self._fault(f"calls {function!r} with a first argument that is not a lookup")
        base = self._tables[table.name]
        extrapolation, interpolation = _TABLE_FUNCTIONS[function]
        if extrapolation is None or interpolation is None:
            return TableCall(base, argument)
        return TableCall(Table(base.x, base.y, extrapolation, interpolation), argument)

    def _data_function(self, function: str, operands: tuple[Expr, ...]) -> Expr:
        """Functions of a data variable: its first or last time, or its value at any time, joined as the call says."""
        data = operands[0]
        if not isinstance(data, Ref) or data.name not in self._data:
            return self._fault(f"calls {function!r} with a first argument that is not a data variable")
        table = self._data[data.name]
        if len(operands) == 1:
            return Num(table.x[0 if function == "get_data_first_time" else -1])
        time, mode = operands[1:]
        value = mode.arguments[0] if isinstance(mode, Call) and mode.function == "negative" else mode
        if not isinstance(value, Num):
            return self._fault(f"calls {function!r} with a mode that is not a number: -1, 0 or 1")
        side = -value.value if mode is not value else value.value
        joined = Interpolation.LOOK_FORWARD if side >= 1 else Interpolation.HOLD_BACKWARD if side <= -1 else (
            Interpolation.LINEAR
        )
        return TableCall(Table(table.x, table.y, Extrapolation.CLAMP, joined), time)
