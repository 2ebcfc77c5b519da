"""Subscript ranges as written, resolved to dimensions with their elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from villageflow.errors import ModelFileError
from villageflow.ir.dimensions import Dimension
from villageflow.names import canonical


@dataclass(frozen=True, slots=True)
class Range:
    """A subscript range of a model file.

    Attributes
    ----------
    name : str
        As written.
    members : tuple of str
        Elements and other ranges, as written.
    maps : tuple of (str, tuple of str or None)
        Other ranges that it is mapped to, with the subscripts there in its own order; None: element by element.
    alias : bool
        Whether it is another name (``<->``) of the one range in `members`.
    """

    name: str
    members: tuple[str, ...]
    maps: tuple[tuple[str, tuple[str, ...] | None], ...] = ()
    alias: bool = False


def most_elements(size: int) -> int:
    """How many elements the dimensions of a model file of `size` bytes may have together."""
    return max(100_000, 2 * size)


def resolve_ranges(place: str, ranges: Sequence[Range], most: int) -> tuple[Dimension, ...]:
    """The dimensions that ranges stand for.

    Parameters
    ----------
    place : str
        The file's name, for messages.
    ranges : sequence of Range
        In file order.
    most : int
        Elements that they may have together.

    Raises
    ------
    ModelFileError
        Too many elements, a range twice, one that holds itself, an element twice in one range, or a mapping of
        different length.
    """
    by_id: dict[str, Range] = {}
    for item in ranges:
        if canonical(item.name) in by_id:
            raise ModelFileError(f"{place} defines the subscript range {item.name!r} twice; keep one")
        by_id[canonical(item.name)] = item
    labels: dict[str, tuple[str, ...]] = {}
    for key in by_id:
        labels[key] = _labels(place, key, by_id, most)
        most -= len(labels[key])
    elements = {key: tuple(map(canonical, names)) for key, names in labels.items()}
    for key, members in elements.items():
        if len(set(members)) < len(members):
            twice = next(label for label in labels[key] if members.count(canonical(label)) > 1)
            raise ModelFileError(f"{place}: the subscript range {by_id[key].name!r} holds {twice!r} twice; keep one")
    return tuple(
        Dimension(item.name, key, elements[key], labels[key], _maps(place, item, elements))
        for key, item in by_id.items()
    )


def _labels(place: str, key: str, by_id: Mapping[str, Range], most: int) -> tuple[str, ...]:
    """Elements of a range as written, with ranges inside it replaced by their own."""
    found: list[str] = []
    todo: list[tuple[str, tuple[str, ...]]] = [(member, (key,)) for member in reversed(by_id[key].members)]
    while todo:
        if len(found) + len(todo) > most:
            raise ModelFileError(f"{place}: its dimensions have too many elements, at {by_id[key].name!r}; use fewer")
        member, above = todo.pop()
        inner = canonical(member)
        if inner in above:
            raise ModelFileError(f"{place}: the subscript range {by_id[key].name!r} holds itself; name its elements")
        if inner in by_id:
            todo += [(name, (*above, inner)) for name in reversed(by_id[inner].members)]
        elif by_id[above[-1]].alias:
            raise ModelFileError(f"{place}: {by_id[key].name!r} is another name of {member!r}, which is not a range")
        else:
            found.append(" ".join(member.strip().strip('"').split()))
    if not found:
        raise ModelFileError(f"{place}: the subscript range {by_id[key].name!r} has no elements; give it some")
    return tuple(found)


def _maps(
    place: str, item: Range, elements: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[tuple[str, ...], ...]]:
    own = elements[canonical(item.name)]
    maps: dict[str, tuple[tuple[str, ...], ...]] = {}
    for target, listed in item.maps:
        key = canonical(target)
        if key not in elements:
            raise ModelFileError(f"{place}: {item.name!r} is mapped to {target!r}, which is not a subscript range")
        parts = elements[key] if listed is None else tuple(map(canonical, listed))
        if len(parts) != len(own):
            raise ModelFileError(
                f"{place}: {item.name!r} has {len(own)} elements and is mapped to {len(parts)} of {target!r}; "
                "a mapping names one for each"
            )
        maps[key] = tuple(elements.get(part, (part,)) for part in parts)
    if item.alias:
        whole = canonical(item.members[0])
        maps[whole] = tuple((element,) for element in elements[whole])
    return maps
