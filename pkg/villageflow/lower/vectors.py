"""Functions of arrays, written out over their elements.

==========================  =========================================================================
SUM, PROD, VMIN, VMAX       over every dimension marked with ``!`` (in XMILE: every ``*``, or the whole array)
ELMCOUNT, SIZE              the number of elements, known before the run
VECTOR SELECT               the chosen action over the elements whose selection is not zero
VECTOR SORT ORDER, RANK     by counting, for each element, the elements that come before it; equal ones keep their order
VECTOR REORDER, ELM MAP     the element whose number is the argument
INVERT MATRIX               Gauss-Jordan elimination with the largest pivot of the column
ALLOCATE ...                the price at which all shares together take what is available
==========================  =========================================================================

Intermediate values become variables of their own (`Scalariser.hide`), so that the work of one vector is done once
for all its elements.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Final

from villageflow.ir.nodes import NOT_AVAILABLE, Call, Expr, Num, Ref, Subscript
from villageflow.ir.walk import children
from villageflow.lower.inverse import inverse

if TYPE_CHECKING:
    from villageflow.lower.arrays import Elements, Scalariser

_REDUCTIONS: Final = {
    "sum": "add", "prod": "multiply", "vmin": "min", "vmax": "max", "vmin_xmile": "min", "vmax_xmile": "max",
    "mean": "add",
}
_MAX_MATRIX: Final = 32
_SELECT_ACTIONS: Final = range(11)
_RECTANGULAR: Final = Num(1.0)


def call(function: str, *arguments: Expr) -> Call:
    """A short spelling of `Call`."""
    return Call(function, arguments)


def vector_function(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    """A function of arrays for one element of the left side; the name is one of `VECTOR_FUNCTIONS`."""
    meaning, arity = VECTOR_FUNCTIONS[node.function]
    if len(node.arguments) != arity:
        return scalars.fault(f"calls {node.function!r} with {len(node.arguments)} arguments; it takes {arity}")
    return meaning(scalars, node, own)


# ------------------------------------------------------------------------------------------ reductions

def _reduction(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    argument = node.arguments[0]
    over = _run_over(scalars, [argument], own)
    if over is None:
        return scalars.fault(f"calls {node.function!r} without a dimension to run over; mark one with !")
    terms = [scalars.scalar(argument, elements, over_all=True) for elements in over]
    total = reduce(lambda a, b: call(_REDUCTIONS[node.function], a, b), terms)
    return call("divide", total, Num(float(len(terms)))) if node.function == "mean" else total


def _run_over(scalars: Scalariser, arguments: Iterable[Expr], own: Elements) -> list[dict[str, str]] | None:
    """The elements of each combination of the dimensions that arguments run over; None if they run over none."""
    names: dict[str, None] = {}
    todo = list(arguments)
    while todo:
        node = todo.pop()
        if isinstance(node, Ref):
            names |= dict.fromkeys(scalars.run_over_by(node, own))
        elif not (isinstance(node, Call) and node.function in _BINDING):
            todo.extend(reversed(children(node)))
    if not names:
        return None
    parts = [scalars.dimensions.elements(name) for name in names]
    scalars.budget.spend(math.prod(map(len, parts)), f"a function over {', '.join(names)}")
    keys = [f"{name}!" for name in names]
    return [{**own, **dict(zip(keys, combination, strict=True))} for combination in itertools.product(*parts)]


def _count(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    argument = node.arguments[0]
    if isinstance(argument, Ref):
        if argument.name in scalars.dimensions and not argument.subscripts:
            return Num(float(len(scalars.dimensions[argument.name].elements)))
        over = _run_over(scalars, [argument], own)
        if over is not None:
            return Num(float(len(over)))
    return scalars.fault(f"calls {node.function!r} with something that is not a dimension")


def _select(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    selection, expression, missing, action, error = node.arguments
    over = _run_over(scalars, (selection, expression), own)
    if over is None:
        return scalars.fault("calls 'vector_select' without a dimension to run over; mark one with !")
    if not isinstance(error, Num) or error.value not in (0.0, 1.0, 2.0, 3.0):
        return scalars.fault("calls 'vector_select' with an error action that is not one of the numbers 0 to 3")
    pairs = [
        (scalars.hide("selection", scalars.scalar(selection, elements)),
         scalars.hide("selected", scalars.scalar(expression, elements)))
        for elements in over
    ]
    chosen = [call("not_equal", weight, Num(0.0)) for weight, _ in pairs]
    n_chosen = scalars.hide("chosen", reduce(lambda a, b: call("add", a, b), chosen))
    none = call("equal", n_chosen, Num(0.0))
    wanted = scalars.scalar(action, own)
    if isinstance(wanted, Num):
        if wanted.value not in _SELECT_ACTIONS:
            return scalars.fault(f"calls 'vector_select' with the action {wanted.value:g}; it is one of 0 to 10")
        result = _selected(int(wanted.value), pairs, n_chosen)
    else:
        wanted = scalars.hide("action", wanted)
        result = Num(math.nan)
        for number in reversed(_SELECT_ACTIONS):
            is_it = call("equal", wanted, Num(float(number)))
            result = call("if_then_else", is_it, _selected(number, pairs, n_chosen), result)
    result = call("if_then_else", none, scalars.scalar(missing, own), result)
    if error.value in (1.0, 3.0):
        result = call("if_then_else", none, Num(math.nan), result)
    if error.value in (2.0, 3.0):
        result = call("if_then_else", call("greater", n_chosen, Num(1.0)), Num(math.nan), result)
    return result


_SELECT: Final = (("add", 0.0), ("multiply", 1.0), ("min", math.inf), ("max", -math.inf), ("add", 0.0))
_POWER_ACTION: Final = 5


def _selected(action: int, pairs: Sequence[tuple[Expr, Expr]], n_chosen: Expr) -> Expr:
    """Actions 0 to 4 weigh the values with the selection, 6 to 10 do not; 5 multiplies values to its power."""
    operation, neutral = ("multiply", 1.0) if action == _POWER_ACTION else _SELECT[action % (_POWER_ACTION + 1)]
    terms = []
    for weight, value in pairs:
        term = value
        if action < _POWER_ACTION:
            term = call("multiply", weight, value)
        elif action == _POWER_ACTION:
            term = call("power", value, weight)
        terms.append(call("if_then_else", call("not_equal", weight, Num(0.0)), term, Num(neutral)))
    total = reduce(lambda a, b: call(operation, a, b), terms)
    return call("divide", total, n_chosen) if action in (4, 10) else total


# --------------------------------------------------------------------------------------------- vectors

def _vector(scalars: Scalariser, argument: Expr, own: Elements) -> tuple[list[dict[str, str]], int, Elements] | None:
    """A vector over the last subscript of a reference.

    Returns
    -------
    combinations : list
        Elements for each place of the vector.
    place : int
        Place, from 0, that goes with the left side.
    outer : mapping
        Elements of the left side that do not choose the place.
    """
    if not isinstance(argument, Ref) or not argument.subscripts:
        return None
    last = argument.subscripts[-1].name
    if last not in scalars.dimensions:
        return None
    source = scalars.source_of(last, own)
    element = scalars.element_of(last, own)
    if source is None or element is None:
        return None
    elements = scalars.dimensions.elements(last)
    scalars.budget.spend(len(elements), f"a function over {last}")
    outer = {name: value for name, value in own.items() if name != source}
    return [{**own, last: item} for item in elements], elements.index(element), outer


def _shared(
    scalars: Scalariser, node: Call, outer: Elements, make: Callable[[], list[Expr]], label: str
) -> tuple[Expr, ...]:
    """What all elements of one vector share, made once."""
    key = (id(node), tuple(sorted(outer.items())))
    if key not in scalars.known:
        scalars.known[key] = tuple(scalars.hide(label, expr) for expr in make())
    return scalars.known[key]


def _places(scalars: Scalariser, node: Call, own: Elements) -> tuple[tuple[Expr, ...], int] | None:
    """For each element of a vector the number of elements that come before it, and the place of the left side."""
    vector = _vector(scalars, node.arguments[0], own)
    if vector is None:
        scalars.fault(f"calls {node.function!r} with something that is not an array over a dimension of its left side")
        return None
    combinations, place, outer = vector

    def make() -> list[Expr]:
        values = [scalars.hide("value", scalars.scalar(node.arguments[0], elements)) for elements in combinations]
        scalars.budget.spend(len(values) ** 2, "a sorted array")
        upward = scalars.hide("upward", call("greater", scalars.scalar(node.arguments[1], own), Num(0.0)))
        return [_before(values, i, upward) for i in range(len(values))]

    return _shared(scalars, node, outer, make, "place"), place


def _before(values: Sequence[Expr], i: int, upward: Expr) -> Expr:
    counted: list[Expr] = [Num(0.0)]
    for j, other in enumerate(values):
        if j != i:
            smaller, larger = ("less_equal", "greater_equal") if j < i else ("less", "greater")
            up, down = call(smaller, other, values[i]), call(larger, other, values[i])
            counted.append(call("if_then_else", upward, up, down))
    return reduce(lambda a, b: call("add", a, b), counted)


def _sort_order(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    found = _places(scalars, node, own)
    if found is None:
        return Num(0.0)
    places, wanted = found
    terms = [
        call("multiply", Num(float(i)), call("equal", place, Num(float(wanted)))) for i, place in enumerate(places)
    ]
    return reduce(lambda a, b: call("add", a, b), terms)


def _rank(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    found = _places(scalars, node, own)
    return Num(0.0) if found is None else call("add", found[0][found[1]], Num(1.0))


def _reorder(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    vector = _vector(scalars, node.arguments[0], own)
    if vector is None:
        return scalars.fault(
            "calls 'vector_reorder' with something that is not an array over a dimension of its left side"
        )
    combinations, _, outer = vector

    def make() -> list[Expr]:
        return [scalars.scalar(node.arguments[0], elements) for elements in combinations]

    values = _shared(scalars, node, outer, make, "value")
    return _numbered(scalars, values, scalars.scalar(node.arguments[1], own))


def _element_map(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    reference, offset = node.arguments
    base = reference.subscripts[-1].name if isinstance(reference, Ref) and reference.subscripts else ""
    if not isinstance(reference, Ref) or not scalars.dimensions.is_element(base):
        return scalars.fault("calls 'vector_elm_map' with something that is not an array at an element")
    elements = scalars.dimensions.elements(scalars.declared_at(reference.name, len(reference.subscripts) - 1))
    if base not in elements:
        return scalars.fault(f"calls 'vector_elm_map' at {base!r}, which {reference.name!r} does not have")
    scalars.budget.spend(len(elements), "'vector_elm_map'")
    values = [
        scalars.scalar(Ref(reference.name, (*reference.subscripts[:-1], Subscript(element))), own)
        for element in elements
    ]
    start = Num(float(elements.index(base)))
    return _numbered(scalars, values, call("add", start, scalars.scalar(offset, own)))


def _numbered(scalars: Scalariser, values: Sequence[Expr], number: Expr) -> Expr:
    """The value whose number, from 0, is given (its whole part); not available outside."""
    index = scalars.hide("index", call("integer", number))
    result: Expr = Num(NOT_AVAILABLE)
    for i in reversed(range(len(values))):
        result = call("if_then_else", call("equal", index, Num(float(i))), values[i], result)
    return result


# -------------------------------------------------------------------------------------------- matrices

def _invert(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    matrix, size = node.arguments
    if not isinstance(matrix, Ref) or len(matrix.subscripts) < 2:
        return scalars.fault("calls 'invert_matrix' with something that is not a matrix")
    row, column = (subscript.name for subscript in matrix.subscripts[-2:])
    if row not in own or column not in own:
        return scalars.fault(f"inverts {matrix.name!r} over dimensions that its left side does not have")
    rows, columns = scalars.dimensions.elements(row), scalars.dimensions.elements(column)
    n = len(rows)
    stated = scalars.scalar(size, own)
    if len(columns) != n or not (isinstance(stated, Num) and stated.value == n):
        return scalars.fault(f"inverts {matrix.name!r}, {n} by {len(columns)}, with a stated size that is not {n}")
    if n > _MAX_MATRIX:
        return scalars.fault(f"inverts a matrix of {n} rows; at most {_MAX_MATRIX} are supported", unsupported=True)
    outer = {name: value for name, value in own.items() if name not in (row, column)}

    def make() -> list[Expr]:
        entries = [[scalars.scalar(matrix, {**own, row: r, column: c}) for c in columns] for r in rows]
        return [entry for line in inverse(entries, scalars.hide) for entry in line]

    entries = _shared(scalars, node, outer, make, "inverse")
    return entries[rows.index(own[row]) * n + columns.index(own[column])]


# ------------------------------------------------------------------------------------------ allocation

def _allocate_available(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    request, profile, available = node.arguments
    vector = _vector(scalars, request, own)
    if vector is None or not isinstance(profile, Ref) or not profile.subscripts:
        return scalars.fault("calls 'allocate_available' with requests that are not over a dimension of its left side")
    combinations, place, outer = vector
    first = profile.subscripts[-1].name
    kinds = scalars.dimensions.elements(scalars.declared_at(profile.name, len(profile.subscripts) - 1))
    start = kinds.index(first) if first in kinds else len(kinds)
    if len(kinds) - start < 4:
        return scalars.fault(f"calls 'allocate_available' with {profile.name!r}, which has no four values of a profile")

    def make() -> list[Expr]:
        rows: list[Expr] = [scalars.scalar(available, own)]
        for elements in combinations:
            rows.append(scalars.hide("request", scalars.scalar(request, elements)))
            for kind in kinds[start:start + 3]:  # the fourth matters to profiles that are not supported only
                entry = Ref(profile.name, (*profile.subscripts[:-1], Subscript(kind)))
                rows.append(scalars.hide("profile", scalars.scalar(entry, elements)))
        return [Call("allocation price", tuple(rows)), *rows[1:]]

    price, *rows = _shared(scalars, node, outer, make, "price")
    wanted, kind, priority, width = rows[4 * place:4 * place + 4]
    return _allocation(price, wanted, kind, priority, width)


def _allocate_by_priority(scalars: Scalariser, node: Call, own: Elements) -> Expr:
    request, priority, _, width, supply = node.arguments
    vector = _vector(scalars, request, own)
    if vector is None:
        return scalars.fault(
            "calls 'allocate_by_priority' with requests that are not over a dimension of its left side"
        )
    combinations, place, outer = vector

    def make() -> list[Expr]:
        rows: list[Expr] = [scalars.scalar(supply, own)]
        broad = scalars.hide("width", scalars.scalar(width, own))
        for elements in combinations:
            rows += [
                scalars.hide("request", scalars.scalar(request, elements)), _RECTANGULAR,
                scalars.hide("priority", scalars.scalar(priority, elements)), broad,
            ]
        return [Call("allocation price", tuple(rows)), *rows[1:]]

    price, *rows = _shared(scalars, node, outer, make, "price")
    wanted, kind, own_priority, broad = rows[4 * place:4 * place + 4]
    return _allocation(price, wanted, kind, own_priority, broad)


def _allocation(price: Expr, request: Expr, kind: Expr, priority: Expr, width: Expr) -> Expr:
    """What one party gets at a price: its request times the share of its profile above the price."""
    distance = call("divide", call("subtract", price, priority), width)
    return call("multiply", request, call("allocation share", kind, distance))


_Meaning = Callable[["Scalariser", Call, "Elements"], Expr]
VECTOR_FUNCTIONS: Final[dict[str, tuple[_Meaning, int]]] = {
    **dict.fromkeys(_REDUCTIONS, (_reduction, 1)),
    "elmcount": (_count, 1),
    "size": (_count, 1),
    "vector_select": (_select, 5),
    "vector_sort_order": (_sort_order, 2),
    "vector_rank": (_rank, 2),
    "vector_reorder": (_reorder, 2),
    "vector_elm_map": (_element_map, 2),
    "invert_matrix": (_invert, 2),
    "allocate_available": (_allocate_available, 3),
    "allocate_by_priority": (_allocate_by_priority, 5),
}
_BINDING: Final = frozenset({*_REDUCTIONS, "vector_select", "elmcount", "size"})
