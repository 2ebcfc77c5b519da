"""Macros, copied for each call: their equations with arguments in place of inputs.

The copies of one call have the dimensions of the equation that calls, so that each element has its own stocks.
Ids of what is added are ``#``, the owner's id, the number of the call and the name inside the macro.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from villageflow.ir.functions import arguments_of
from villageflow.ir.model import CONTROL_IDS
from villageflow.ir.nodes import Call, Expr, Integral, Num, Numbers, Ref, Series, Subscript, Table, Tables, Written
from villageflow.ir.source import Macro, SourceModel, SourceVariable
from villageflow.ir.walk import fold, nodes, rebuild
from villageflow.lower.budget import Budget
from villageflow.lower.faults import Faults
from villageflow.lower.vectors import VECTOR_FUNCTIONS

_MAX_DEPTH = 50


def expand_macros(source: SourceModel) -> SourceModel:
    """The same model without macros.

    Raises
    ------
    LoweringError
        A call with a wrong number of arguments, a macro that calls itself or uses a name that it does not define.
    UnsupportedError
        A macro called inside a function that runs over a dimension.
    """
    if not source.macros:
        return source
    expander = _Expander(source)
    expander.check_names()
    variables: list[SourceVariable] = []
    for variable in source.variables:
        variables += expander.variable(variable, 0)
    expander.faults.raise_all()
    return replace(source, variables=tuple(variables), macros=())


class _Expander:
    """Copies macros into the equations of one model."""

    def __init__(self, source: SourceModel) -> None:
        self.faults = Faults(source)
        self._source = source
        self._budget = Budget(source)
        self._macros = {macro.id: macro for macro in source.macros}
        self._names = {variable.id for variable in source.variables}
        self._calls: Counter[str] = Counter()

    def check_names(self) -> None:
        """Which of two meanings a name has in a call must not be a guess."""
        place = self._source.path.name
        for name, count in Counter(macro.id for macro in self._source.macros).items():
            if count > 1:
                self.faults.add(f"{place}: the macro {self._macros[name].name!r} is defined twice; keep one")
            if name in VECTOR_FUNCTIONS or arguments_of(name) is not None:
                self.faults.add(f"{place}: the macro {self._macros[name].name!r} has the name of a function; rename it")

    def variable(self, owner: SourceVariable, depth: int) -> list[SourceVariable]:
        """An equation, followed by what its macro calls add."""
        added: list[SourceVariable] = []

        def combine(node: Expr, operands: tuple[Expr, ...]) -> Expr:
            if not isinstance(node, Call) or node.function not in self._macros:
                return rebuild(node, operands)
            if depth >= _MAX_DEPTH:
                return self._fault(owner, f"calls the macro {node.function!r}, which calls itself")
            return self._call(owner, self._macros[node.function], operands, added, depth)

        definition = _map(owner.definition, combine)
        return [replace(owner, definition=definition), *added]

    def _fault(self, owner: SourceVariable, message: str, *, unsupported: bool = False) -> Expr:
        self.faults.add(message, owner, unsupported=unsupported)
        return Num(0.0)

    def _call(
        self, owner: SourceVariable, macro: Macro, arguments: tuple[Expr, ...], added: list[SourceVariable], depth: int
    ) -> Expr:
        n_inputs, n_outputs = len(macro.inputs), len(macro.outputs)
        if len(arguments) != n_inputs + n_outputs:
            return self._fault(
                owner,
                f"calls the macro {macro.name!r} with {len(arguments)} arguments; it takes {n_inputs + n_outputs}",
            )
        if any(isinstance(n, Ref) and any(s.over for s in n.subscripts) for a in arguments for n in nodes(a)):
            return self._fault(
                owner,
                f"calls the macro {macro.name!r} over a dimension marked with !; give the call a variable of its own",
                unsupported=True,
            )
        self._budget.spend(len(macro.variables) + n_inputs, f"the macro {macro.name!r}")
        self._calls[owner.id] += 1
        prefix = f"#{owner.id.removeprefix('#')} {self._calls[owner.id]} "
        subscripts = tuple(Subscript(name) for name in owner.subscripts)
        local: dict[str, Ref] = {v.id: Ref(prefix + v.id, subscripts) for v in macro.variables}
        for name, argument in zip(macro.inputs, arguments, strict=False):
            if isinstance(argument, Ref):  # as it is, since it may be a table
                local[name] = argument
            else:
                local[name] = Ref(prefix + name, subscripts)
                added.append(replace(owner, id=prefix + name, definition=argument))
        for variable in macro.variables:
            copy = replace(
                variable, id=prefix + variable.id, subscripts=owner.subscripts, exceptions=owner.exceptions,
                definition=self._renamed(variable, macro, local),
            )
            added += self.variable(copy, depth + 1)
        for name, target in zip(macro.outputs, arguments[n_inputs:], strict=True):
            self._output(owner, macro, local, name, target, added)
        if macro.id not in local:
            return self._fault(owner, f"calls the macro {macro.name!r}, which has no equation for {macro.name!r}")
        return local[macro.id]

    def _output(
        self, owner: SourceVariable, macro: Macro, local: Mapping[str, Ref], name: str, target: Expr,
        added: list[SourceVariable],
    ) -> None:
        if not isinstance(target, Ref) or name not in local:
            self._fault(owner, f"calls the macro {macro.name!r} with an output that is not a name, or that it lacks")
        elif target.name in self._names:
            self._fault(owner, f"gives the output {target.name!r} of {macro.name!r}, which has an equation of its own")
        else:
            self._names.add(target.name)
            added.append(replace(
                owner, id=target.name, name=target.name.replace("_", " "), definition=local[name],
                subscripts=tuple(s.name for s in target.subscripts) or owner.subscripts,
            ))

    def _renamed(self, variable: SourceVariable, macro: Macro, local: Mapping[str, Ref]) -> Written:
        """The equation with local names; a name that ends in ``$`` is one of the model."""

        def combine(node: Expr, operands: tuple[Expr, ...]) -> Expr:
            match node:
                case Ref(name) if name in local:
                    return local[name]
                case Ref(name) if name.endswith("$"):
                    return Ref(name[:-1], node.subscripts)
                case Ref(name) if name == "time" or name in CONTROL_IDS or node.subscripts:
                    return node
                case Ref(name):
                    return self._fault(
                        variable, f"uses {name!r}, which the macro {macro.name!r} does not define; write {name}$ for a "
                        "variable of the model"
                    )
                case Call(function) if function in local and function != macro.id:
                    return Call("lookup", (local[function], *operands))
            return rebuild(node, operands)

        return _map(variable.definition, combine)


def _map(definition: Written, combine: Callable[[Expr, tuple[Expr, ...]], Expr]) -> Written:
    match definition:
        case Integral(net_flow, initial, non_negative):
            return Integral(fold(net_flow, combine), fold(initial, combine), non_negative)
        case Table() | Tables() | Numbers() | Series():
            return definition
        case _:
            return fold(definition, combine)
