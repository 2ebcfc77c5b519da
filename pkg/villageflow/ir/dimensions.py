"""Dimensions of arrays: subscript ranges, their elements, and how one maps to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension, or a part of one: an ordered set of elements.

    Attributes
    ----------
    name, id : str
        As written, and canonical.
    elements : tuple of str
        Canonical names, in order.
    labels : tuple of str
        The elements as written.
    maps : mapping of str to (tuple of (tuple of str))
        For each dimension that it is mapped to, the elements there that belong to each of its own.
    """

    name: str
    id: str
    elements: tuple[str, ...]
    labels: tuple[str, ...]
    maps: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


class Dimensions:
    """All dimensions of a model, by canonical name."""

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self._by_id = {dimension.id: dimension for dimension in dimensions}
        self._members: dict[str, frozenset[str]] = {}
        self._matching: dict[tuple[str, str], dict[str, str]] = {}
        self._holders: dict[str, list[Dimension]] = {}
        self.labels: dict[str, str] = {}
        self._position: dict[str, int] = {}
        root_size: dict[str, int] = {}
        for dimension in dimensions:
            for position, (element, label) in enumerate(zip(dimension.elements, dimension.labels, strict=True), 1):
                self.labels.setdefault(element, label)
                self._holders.setdefault(element, []).append(dimension)
                if len(dimension.elements) > root_size.get(element, 0):
                    root_size[element] = len(dimension.elements)
                    self._position[element] = position

    def __contains__(self, name: str) -> bool:
        return name in self._by_id

    def __getitem__(self, name: str) -> Dimension:
        return self._by_id[name]

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self._by_id.values())

    def is_element(self, name: str) -> bool:
        """Whether any dimension has an element of this name."""
        return name in self._position

    def position(self, element: str) -> int:
        """Number of an element, from 1, in the largest dimension that holds it (the first of equals)."""
        return self._position[element]

    def elements(self, subscript: str) -> tuple[str, ...]:
        """The elements that a subscript stands for: those of a dimension, or itself."""
        return self._by_id[subscript].elements if subscript in self._by_id else (subscript,)

    def members(self, subscript: str) -> frozenset[str]:
        """The same as a set."""
        if subscript not in self._members:
            self._members[subscript] = frozenset(self.elements(subscript))
        return self._members[subscript]

    def matching(self, wanted: str, given: str, element: str) -> str | None:
        """The element of dimension `wanted` that goes with `element` of dimension `given`, by mapping; None if none."""
        if wanted == given:
            return element
        if (wanted, given) not in self._matching:
            self._matching[wanted, given] = self._pairs(self._by_id[wanted], self._by_id[given])
        return self._matching[wanted, given].get(element)

    @staticmethod
    def _pairs(wanted: Dimension, given: Dimension) -> dict[str, str]:
        """By element of `given`, that of `wanted`: the first whose mapping names it, else the one that it names."""
        pairs: dict[str, str] = {}
        for own, group in zip(wanted.elements, wanted.maps.get(given.id, ()), strict=False):
            for element in group:
                pairs.setdefault(element, own)
        for element, group in zip(given.elements, given.maps.get(wanted.id, ()), strict=False):
            if len(group) == 1:
                pairs.setdefault(element, group[0])
        return pairs

    def smallest(self, elements: Sequence[str]) -> Dimension | None:
        """The smallest dimension that holds all the elements; None if none does."""
        wanted = set(elements)
        holders = self._holders.get(next(iter(wanted), ""), ())
        fitting = [d for d in holders if wanted <= self.members(d.id)]
        return min(fitting, key=lambda d: len(d.elements)) if fitting else None
