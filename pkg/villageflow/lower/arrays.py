"""Arrays to scalars: one equation for each element, with every subscript resolved.

A dimension on the right side means the element that the left side has of it, or of a dimension that it is mapped to;
one with ``!`` is run over by the function around it. Each element is a variable of its own, so that a loop that only
seems to be one, because it goes through several elements, is none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from villageflow.errors import did_you_mean
from villageflow.ir.dimensions import Dimensions
from villageflow.ir.model import Array
from villageflow.ir.nodes import (
    EVERY,
    Call,
    Definition,
    Expr,
    Integral,
    Num,
    Numbers,
    Ref,
    Series,
    Subscript,
    Table,
    TableCall,
    Tables,
    Written,
)
from villageflow.ir.source import SourceModel, SourceVariable
from villageflow.ir.walk import fold, rebuild
from villageflow.lower.budget import Budget
from villageflow.lower.faults import Faults
from villageflow.lower.vectors import VECTOR_FUNCTIONS, vector_function
from villageflow.names import scalar_id

Elements: TypeAlias = Mapping[str, str]
"""Element of each dimension of the left side, and of each dimension that is run over (key with ``!``)."""


_DIGITS = 9  # of the number of an element; none has more


@dataclass(frozen=True)
class Scalars:
    """The model with one equation for each element, and the arrays they belong to."""

    source: SourceModel
    arrays: dict[str, Array]
    data: frozenset[str]
    """Ids of the scalars that are data over time."""


def scalarise(source: SourceModel) -> Scalars:
    """Write every equation of an array once for each of its elements.

    Raises
    ------
    LoweringError
        Subscripts that are not defined or do not fit, elements defined twice; every fault is listed.
    UnsupportedError
        A function of arrays that is not supported.
    """
    scalariser = Scalariser(source)
    scalariser.check_dimensions()
    variables = [scalar for variable in source.variables for scalar in scalariser.equations(variable)]
    scalariser.faults.raise_all()
    hidden = tuple(scalariser.hidden)
    arrays = _arrays(source, variables, scalariser.dimensions)
    return Scalars(replace(source, variables=(*variables, *hidden)), arrays, frozenset(scalariser.data))


def _arrays(source: SourceModel, scalars: list[SourceVariable], dimensions: Dimensions) -> dict[str, Array]:
    """The arrays, each over the smallest dimensions that hold all its elements."""
    defined = {scalar.id for scalar in scalars}
    elements: dict[str, list[tuple[str, ...]]] = {}
    names: dict[str, str] = {}
    for variable in source.variables:
        if variable.subscripts:
            parts = [dimensions.elements(subscript) for subscript in variable.subscripts]
            elements.setdefault(variable.id, []).extend(itertools.product(*parts))
            names.setdefault(variable.id, variable.name)
    written = {variable.id: variable.subscripts for variable in reversed(source.variables)}
    arrays = {}
    for name, combinations in elements.items():
        spans = []
        for place, subscript in enumerate(written[name]):
            used = list(dict.fromkeys(combination[place] for combination in combinations))
            spans.append(_span(subscript, used, dimensions))
        product = itertools.product(*(dimensions.elements(span) for span in spans))
        ids = (scalar_id(name, combination) for combination in product)
        arrays[name] = Array(name, names[name], tuple(spans), tuple(i if i in defined else None for i in ids))
    return arrays


def _span(subscript: str, used: list[str], dimensions: Dimensions) -> str:
    if subscript in dimensions and dimensions.members(subscript).issuperset(used):
        return subscript
    found = dimensions.smallest(used)
    assert found is not None, used  # `Scalariser.equations` has refused elements of different dimensions
    return found.id


class Scalariser:
    """Equations of one model; collects faults instead of stopping at the first."""

    def __init__(self, source: SourceModel) -> None:
        self.source = source
        self.dimensions = Dimensions(source.dimensions)
        self.faults = Faults(source)
        self.budget = Budget(source)
        self.hidden: list[SourceVariable] = []
        self.known: dict[tuple[object, ...], tuple[Expr, ...]] = {}
        self._declared = self._declarations()
        self._names = {variable.id for variable in source.variables}
        self._defined: set[str] = set()
        self.data: set[str] = set()
        self._count = 0
        self.owner = source.variables[0] if source.variables else None

    def _declarations(self) -> dict[str, tuple[str, ...]]:
        """For each array, the dimension at each place: as written, or the smallest that holds the elements."""
        subscripts: dict[str, list[tuple[str, ...]]] = {}
        for variable in self.source.variables:
            subscripts.setdefault(variable.id, []).append(variable.subscripts)
        declared = {}
        for name, written in subscripts.items():
            places = []
            for column in zip(*written, strict=False):
                used = [element for subscript in column for element in self.dimensions.elements(subscript)]
                whole = self.dimensions.smallest(used)
                places.append(column[0] if column[0] in self.dimensions or whole is None else whole.id)
                if whole is not None and column[0] in self.dimensions and not (
                    self.dimensions.members(column[0]).issuperset(used)
                ):
                    places[-1] = whole.id
            declared[name] = tuple(places)
        return declared

    def check_dimensions(self) -> None:
        """A dimension may share its name with nothing, since its elements are the coordinates of results."""
        for variable in self.source.variables:
            if variable.id in self.dimensions:
                self.faults.add("has the name of a dimension; rename one of them", variable)
        if "time" in self.dimensions:
            self.faults.add(f"{self.source.path.name}: the dimension 'time' has the name of the clock; rename it")

    # -- left side --------------------------------------------------------------------------------

    def equations(self, variable: SourceVariable) -> Iterator[SourceVariable]:
        """The scalar equations of one equation as written."""
        self.owner = variable
        if not self._left_side_is_sound(variable):
            return
        parts = [self.dimensions.elements(subscript) for subscript in variable.subscripts]
        n_elements = math.prod(map(len, parts))
        self.budget.spend(n_elements, repr(variable.name))
        if self._wrong_count(variable.definition, n_elements):
            return
        excepted = self._excepted(variable)
        for position, elements in enumerate(itertools.product(*parts)):
            if elements in excepted:
                continue
            name = scalar_id(variable.id, elements)
            if name in self._defined and elements:
                self.faults.add(f"defines the element {name!r} a second time; keep one equation for it", variable)
                continue
            self._defined.add(name)
            if isinstance(variable.definition, Series):
                self.data.add(name)
            own = dict(zip(variable.subscripts, elements, strict=True))
            if not self.source.is_vensim:  # in XMILE an equation of one element still has the dimensions of the array
                own |= dict(zip(self._declared[variable.id], elements, strict=True))
            yield replace(
                variable,
                name=_label(variable.name, elements, self.dimensions),
                id=name,
                definition=self._definition(variable.definition, position, own),
                subscripts=(),
                exceptions=(),
            )

    def _left_side_is_sound(self, variable: SourceVariable) -> bool:
        sound = True
        for subscript in itertools.chain(variable.subscripts, *variable.exceptions):
            if subscript not in self.dimensions and not self.dimensions.is_element(subscript):
                known = [d.id for d in self.dimensions] + list(self.dimensions.labels)
                self.faults.add(f"has the subscript {subscript!r}, which is not defined. "
                                f"{did_you_mean(subscript, known)}".rstrip(), variable)
                sound = False
        declared = self._declared[variable.id]
        if len(variable.subscripts) != len(declared):
            self.faults.add(f"has {len(variable.subscripts)} subscripts here and another number elsewhere", variable)
            sound = False
        if len(set(variable.subscripts)) < len(variable.subscripts) and any(
            variable.subscripts.count(s) > 1 for s in variable.subscripts if s in self.dimensions
        ):
            self.faults.add("has one dimension twice on its left side; use another name of it (<->)", variable)
            sound = False
        for place, whole in enumerate(declared[:len(variable.subscripts)]):
            if sound and not self.dimensions.members(variable.subscripts[place]) <= self.dimensions.members(whole):
                self.faults.add(f"has elements at subscript {place + 1} that no one dimension holds", variable)
                sound = False
        for group in variable.exceptions:
            if len(group) != len(variable.subscripts):
                self.faults.add(f"has an exception of {len(group)} subscripts; it needs {len(declared)}", variable)
                sound = False
        return sound

    def _wrong_count(self, definition: Written, n_elements: int) -> bool:
        match definition:
            case Numbers(values) | Tables(values) | Series(values) if len(values) != n_elements:
                what = "element" if n_elements == 1 else "elements"
                self.faults.add(f"has {len(values)} values for {n_elements} {what}; give one for each", self.owner)
                return True
        return False

    def _excepted(self, variable: SourceVariable) -> set[tuple[str, ...]]:
        """The combinations of elements of the left side that the equation leaves out."""
        excepted: set[tuple[str, ...]] = set()
        for group in variable.exceptions:
            places = [
                self.dimensions.members(part) & self.dimensions.members(whole)
                for part, whole in zip(group, variable.subscripts, strict=True)
            ]
            self.budget.spend(math.prod(map(len, places)), f"the exceptions of {variable.name!r}")
            excepted.update(itertools.product(*places))
        return excepted

    def _definition(self, definition: Written, position: int, own: Elements) -> Definition:
        match definition:
            case Numbers(values):
                return Num(values[position])
            case Tables(tables):
                return tables[position]
            case Series(tables):
                return TableCall(tables[position], Ref("time"))
            case Table():
                return definition
            case Integral(net_flow, initial, non_negative):
                return Integral(self.scalar(net_flow, own), self.scalar(initial, own), non_negative)
            case _:
                return self.scalar(definition, own)

    # -- right side -------------------------------------------------------------------------------

    def scalar(self, expr: Expr, own: Elements, *, over_all: bool = False) -> Expr:
        """An expression for one element.

        Parameters
        ----------
        expr : Expr
            As written.
        own : mapping of str to str
            Element of each dimension of the left side.
        over_all : bool
            Whether an array without subscripts stands for all its elements, as inside SUM in XMILE.
        """
        def whole(node: Expr) -> bool:
            return isinstance(node, Call) and node.function in VECTOR_FUNCTIONS and node.function not in self._names

        def combine(node: Expr, operands: tuple[Expr, ...]) -> Expr:
            if isinstance(node, Ref):
                return self.reference(node, own, over_all=over_all)
            if whole(node):
                assert isinstance(node, Call)
                return vector_function(self, node, own)
            return rebuild(node, operands)

        return fold(expr, combine, whole)

    def reference(self, ref: Ref, own: Elements, *, over_all: bool = False) -> Expr:
        """A reference for one element: a scalar variable, or the number of an element."""
        declared = self._declared.get(ref.name, ())
        if not ref.subscripts:
            if ref.name not in self._names:
                return self._number_of(ref, own)
            if not declared:
                return ref
            if self.source.is_vensim:
                return self.fault(f"uses the array {ref.name!r} without subscripts; write {ref.name}[...]")
            ref = Ref(ref.name, tuple(Subscript(name, over_all) for name in declared))
        if ref.name in self._names and len(ref.subscripts) != len(declared):
            return self.fault(f"uses {ref.name!r} with {len(ref.subscripts)} subscripts; it has {len(declared)}")
        elements = []
        for place, subscript in enumerate(ref.subscripts):
            element = self._element(ref, subscript, declared[place] if place < len(declared) else "", own)
            if element is None:
                return Num(0.0)
            elements.append(element)
        return Ref(scalar_id(ref.name, elements))

    def _number_of(self, ref: Ref, own: Elements) -> Expr:
        """A dimension or an element used as a number: the place of the element in its largest dimension."""
        if ref.name in self.dimensions:
            element = self.element_of(ref.name, own)
            if element is None:
                return self.fault(f"uses the dimension {ref.name!r}, which its left side does not have")
            return Num(float(self.dimensions.position(element)))
        if self.dimensions.is_element(ref.name):
            return Num(float(self.dimensions.position(ref.name)))
        return ref  # not defined, or the clock: `resolve` tells

    def _element(self, ref: Ref, subscript: Subscript, declared: str, own: Elements) -> str | None:
        name = declared if subscript.name == EVERY else subscript.name
        if subscript.over or subscript.name == EVERY:
            if f"{name}!" not in own:
                self.fault(f"runs over {name!r} of {ref.name!r} outside of a function such as SUM")
            return own.get(f"{name}!")
        if name in self.dimensions:
            element = self.element_of(name, own) or (None if self.source.is_vensim else own.get(f"{name}!"))
            if element is None:
                self.fault(
                    f"uses {ref.name!r} over {name!r}, which its left side does not have and is not mapped to; "
                    "name an element, run over it with !, or map the two"
                )
            return element
        is_number = not self.source.is_vensim and name.isdecimal() and declared != ""
        if is_number and name not in self.dimensions.members(declared):
            elements = self.dimensions.elements(declared)
            if 1 <= int(name[:_DIGITS]) <= len(elements):
                return elements[int(name) - 1]
        if self.dimensions.is_element(name):
            return name
        known = [d.id for d in self.dimensions] + list(self.dimensions.labels)
        self.fault(f"uses {ref.name!r} with the subscript {name!r}, which is not defined. "
                   f"{did_you_mean(name, known)}".rstrip())
        return None

    def element_of(self, name: str, own: Elements) -> str | None:
        """The element of a dimension that goes with the left side; None if none does."""
        source = self.source_of(name, own)
        return None if source is None else self.dimensions.matching(name, source, own[source])

    def source_of(self, name: str, own: Elements) -> str | None:
        """The dimension of the left side that tells the element of another dimension."""
        if name in own:
            return name
        for given, element in own.items():
            if given in self.dimensions and self.dimensions.matching(name, given, element) is not None:
                return given
        return None

    # -- help for `vectors` -----------------------------------------------------------------------

    def run_over_by(self, ref: Ref, own: Elements) -> list[str]:
        """The dimensions that a reference inside SUM and the like runs over.

        In XMILE also those without a mark that the left side does not have, and all of an array without subscripts.
        """
        declared = self._declared.get(ref.name, ())
        if not ref.subscripts:
            return [] if self.source.is_vensim else list(declared)
        names = []
        for place, subscript in enumerate(ref.subscripts):
            every = subscript.name == EVERY
            free = not self.source.is_vensim and subscript.name in self.dimensions and (
                self.element_of(subscript.name, own) is None
            )
            if subscript.over or every or free:
                names.append(declared[place] if every and place < len(declared) else subscript.name)
        return names

    def declared_at(self, name: str, place: int) -> str:
        """The dimension of an array at one place; the empty name if it has none there."""
        declared = self._declared.get(name, ())
        return declared[place] if place < len(declared) else ""

    def fault(self, message: str, *, unsupported: bool = False) -> Expr:
        """Note a fault of the equation at hand; returns a placeholder."""
        self.faults.add(message, self.owner, unsupported=unsupported)
        return Num(0.0)

    def hide(self, label: str, expr: Expr) -> Expr:
        """A variable of the package's own that holds an intermediate value; numbers and references stay as they are."""
        if isinstance(expr, (Num, Ref)):
            return expr
        assert self.owner is not None
        self._count += 1
        self.budget.spend(1, repr(self.owner.name))
        name = f"#{self.owner.id} {self._count} {label}"
        self.hidden.append(replace(
            self.owner, name=self.owner.name, id=name, definition=expr, subscripts=(), exceptions=()
        ))
        return Ref(name)


def _label(name: str, elements: tuple[str, ...], dimensions: Dimensions) -> str:
    """Name of an element as Vensim writes it: ``Population[Young,Female]``."""
    return scalar_id(name, [dimensions.labels[element] for element in elements])
