"""Frozen dataclasses as JSON and back: exact, without recursion over their depth, and safe to read.

An object is a row: the number of its class, then its fields. Rows of equal text are one row. A field that holds an
object holds the number of its row, which comes before its owner's, so neither depth nor sharing costs anything::

    {"classes": [["Num", "value"], ["Call", "function", "arguments"]],
     "rows": [[0, 2.0], [1, "add", [0, 0]]]}

The last row is the whole. Which value a field may hold is read off its annotation:

==========================================  ================================================================
annotation                                  in JSON
==========================================  ================================================================
``str``, ``bool``, ``int``, ``None``        itself
``float``                                   a number with a point or an exponent; ``NaN`` and ``Infinity``
an `Enum`                                   the name of the member
a dataclass                                 the number of its row
``tuple[X, ...]``, ``tuple[X, Y]``          an array
``Mapping[str, X]``                         an object, in the order of the mapping
``Mapping[K, X]``                           an array of pairs
``NDArray[T]``                              ``[type, shape, base64]``, little-endian, the last axis fastest
``X | Y``                                   as the one that applies; two that look alike in JSON are refused
==========================================  ================================================================
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from villageflow.errors import StoredFileError

Json = Any
Write = Callable[[Any, dict[int, int]], Json]
"""Value to JSON, given the rows of the objects written so far, by identity."""
Read = Callable[[Json, list[Any]], Any]
"""JSON to value, given the objects read so far; raises `_UnfitError`."""
Parts = Callable[[Any, list[Any]], None]
"""Adds the objects that a value holds to a list."""


class _UnfitError(Exception):
    """A stored value that its place cannot hold."""


@dataclasses.dataclass(frozen=True)
class _Form:
    """How values of one annotation are stored.

    Attributes
    ----------
    json_type : type
        What they look like in JSON.
    holds : callable
        Whether a value is one of them.
    write, read, parts : callable
    """

    json_type: type
    holds: Callable[[Any], bool]
    write: Write
    read: Read
    parts: Parts


def dataclasses_of(*modules: types.ModuleType) -> tuple[type, ...]:
    """The dataclasses that modules define."""
    return tuple(
        item for module in modules for item in vars(module).values()
        if isinstance(item, type) and dataclasses.is_dataclass(item) and item.__module__ == module.__name__
    )


class Codec:
    """Objects of some dataclasses as text.

    Parameters
    ----------
    root : type
        Class of the whole.
    classes : iterable of type
        Every dataclass that may occur in it, and `root`. No other class is ever made.
    """

    def __init__(self, root: type, classes: Iterable[type]) -> None:
        self._root = root
        self._classes = {cls.__name__: cls for cls in classes}
        self._fields: dict[type, list[tuple[str, _Form]]] = {}
        for cls in self._classes.values():
            hints = typing.get_type_hints(cls)
            self._fields[cls] = [(field.name, self._form(hints[field.name])) for field in dataclasses.fields(cls)]

    # -- writing ----------------------------------------------------------------------------------

    def write(self, value: Any) -> str:
        """The text of an object of the root class."""
        numbers: dict[int, int] = {}  # row of each object, by identity
        known: dict[str, int] = {}
        rows: list[list[Json]] = []
        classes: dict[type, int] = {}
        todo: list[tuple[Any, bool]] = [(value, False)]
        while todo:
            item, ready = todo.pop()
            if id(item) in numbers:
                continue
            cls = type(item)
            fields = self._fields[cls]
            if not ready:
                parts: list[Any] = []
                for name, form in fields:
                    form.parts(getattr(item, name), parts)
                if parts:
                    todo.append((item, True))
                    todo.extend([(part, False) for part in reversed(parts)])
                    continue
            row = [classes.setdefault(cls, len(classes))]
            row += [form.write(getattr(item, name), numbers) for name, form in fields]
            key = repr(row)
            if key not in known:
                known[key] = len(rows)
                rows.append(row)
            numbers[id(item)] = known[key]
        table = [[cls.__name__, *(name for name, _ in self._fields[cls])] for cls in classes]
        return json.dumps({"classes": table, "rows": rows}, separators=(",", ":"))

    # -- reading ----------------------------------------------------------------------------------

    def read(self, text: str) -> Any:
        """The object of a text.

        Raises
        ------
        StoredFileError
            The text is none that `write` gives: a class or field that is not known, a value of the wrong type.
        """
        try:
            stored = json.loads(text)
            readers = [self._reader(entry) for entry in stored["classes"]]
            objects: list[Any] = []
            for row in stored["rows"]:
                cls, forms = readers[_index(row[0], readers)]
                if len(row) != len(forms) + 1:
                    raise _UnfitError(f"a {cls.__name__} with {len(row) - 1} fields")
                objects.append(cls(*[read(part, objects) for read, part in zip(forms, row[1:], strict=True)]))
        except _UnfitError as error:
            raise StoredFileError(f"holds what this version cannot read: {error}") from None
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise StoredFileError(f"holds what this version cannot read ({type(error).__name__})") from None
        if not objects or type(objects[-1]) is not self._root:
            raise StoredFileError(f"does not hold a {self._root.__name__}")
        return objects[-1]

    def _reader(self, entry: list[str]) -> tuple[type, list[Read]]:
        name, *fields = entry
        cls = self._classes.get(name)
        if cls is None:
            raise _UnfitError(f"the class {name!r}")
        own = [field for field, _ in self._fields[cls]]
        if own != fields:
            raise _UnfitError(f"a {name} with the fields {fields}; it has {own}")
        return cls, [form.read for _, form in self._fields[cls]]

    # -- forms ------------------------------------------------------------------------------------

    def _form(self, annotation: Any) -> _Form:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is tuple:
            return self._tuple(arguments)
        if origin in (typing.Union, types.UnionType):
            return self._union(arguments)
        if origin is not None and issubclass(origin, Mapping):
            return self._mapping(*arguments)
        if annotation in (str, int, bool, float, None, type(None)):
            return _PLAIN[annotation]
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return _enum(annotation)
        if dataclasses.is_dataclass(annotation):
            return self._object((annotation,))
        if origin is not None and origin.__name__ == "ndarray":
            return _array(typing.get_args(arguments[1])[0])
        raise TypeError(f"no stored form for {annotation}")

    def _object(self, classes: tuple[Any, ...]) -> _Form:
        if unknown := [cls.__name__ for cls in classes if self._classes.get(cls.__name__) is not cls]:
            raise TypeError(f"{unknown[0]} is not among the classes of this codec")
        allowed = frozenset(classes)

        def read(part: Json, objects: list[Any]) -> Any:
            found = objects[_index(part, objects)]
            if type(found) not in allowed:
                raise _UnfitError(f"a {type(found).__name__} where it may not stand")
            return found

        return _Form(
            int, lambda value: type(value) in allowed, lambda value, numbers: numbers[id(value)], read,
            lambda value, parts: parts.append(value),
        )

    def _union(self, options: tuple[Any, ...]) -> _Form:
        classes = tuple(option for option in options if dataclasses.is_dataclass(option))
        forms = [self._form(option) for option in options if option not in classes]
        forms += [self._object(classes)] if classes else []
        by_json = {form.json_type: form for form in forms}
        if len(by_json) < len(forms):
            raise TypeError(f"values of {options} cannot be told apart")

        def form_of(value: Any) -> _Form:
            for form in forms:
                if form.holds(value):
                    return form
            raise TypeError(f"{value!r} is none of {options}")

        def read(part: Json, objects: list[Any]) -> Any:
            if type(part) not in by_json:
                raise _UnfitError(f"{part!r:.40} where it may not stand")
            return by_json[type(part)].read(part, objects)

        return _Form(
            object, lambda value: any(form.holds(value) for form in forms),
            lambda value, numbers: form_of(value).write(value, numbers), read,
            lambda value, parts: form_of(value).parts(value, parts),
        )

    def _tuple(self, arguments: tuple[Any, ...]) -> _Form:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            item = self._form(arguments[0])
            write_item, read_item, item_parts = item.write, item.read, item.parts

            def parts(value: Any, found: list[Any]) -> None:
                for part in value:
                    item_parts(part, found)

            return _Form(
                list, lambda value: isinstance(value, tuple),
                lambda value, numbers: [write_item(part, numbers) for part in value],
                lambda part, objects: tuple([read_item(one, objects) for one in _typed(part, list)]), parts,
            )
        forms = [self._form(argument) for argument in arguments]

        def fixed_parts(value: Any, found: list[Any]) -> None:
            for form, part in zip(forms, value, strict=True):
                form.parts(part, found)

        return _Form(
            list, lambda value: isinstance(value, tuple),
            lambda value, numbers: [form.write(part, numbers) for form, part in zip(forms, value, strict=True)],
            lambda part, objects: tuple(
                [form.read(one, objects) for form, one in zip(forms, _typed(part, list), strict=True)]
            ),
            fixed_parts,
        )

    def _mapping(self, key: Any, item: Any) -> _Form:
        keys, items = self._form(key), self._form(item)

        def parts(value: Any, found: list[Any]) -> None:
            for name, part in value.items():
                keys.parts(name, found)
                items.parts(part, found)

        def holds(value: Any) -> bool:
            return isinstance(value, Mapping)

        if key is str:
            return _Form(
                dict, holds, lambda value, numbers: {name: items.write(part, numbers) for name, part in value.items()},
                lambda part, objects: {name: items.read(one, objects) for name, one in _typed(part, dict).items()},
                parts,
            )
        return _Form(
            list, holds,
            lambda value, numbers: [[keys.write(k, numbers), items.write(v, numbers)] for k, v in value.items()],
            lambda part, objects: {keys.read(k, objects): items.read(v, objects) for k, v in _typed(part, list)},
            parts,
        )


def _nothing(value: Any, parts: list[Any]) -> None:
    """A value that holds no object."""


def _plain(kind: type) -> _Form:
    def read(part: Json, objects: list[Any]) -> Any:
        if type(part) is not kind:
            raise _UnfitError(f"{part!r:.40} where a {kind.__name__} belongs")
        return part

    return _Form(kind, lambda value: type(value) is kind, lambda value, _: kind(value), read, _nothing)


_NONE = _Form(type(None), lambda value: value is None, lambda value, _: None, lambda part, _: None, _nothing)
_PLAIN: dict[Any, _Form] = {kind: _plain(kind) for kind in (str, int, bool, float)} | {type(None): _NONE, None: _NONE}


def _enum(kind: type[Enum]) -> _Form:
    def read(part: Json, objects: list[Any]) -> Enum:
        if type(part) is not str or part not in kind.__members__:
            raise _UnfitError(f"{part!r:.40} where a {kind.__name__} belongs")
        return kind[part]

    return _Form(str, lambda value: isinstance(value, kind), lambda value, _: value.name, read, _nothing)


def _array(scalar: type) -> _Form:
    """Arrays of one type of number."""
    import numpy as np  # models hold no arrays, and are read without it

    kind = np.dtype(scalar).newbyteorder("<")

    def write(value: Any, _: dict[int, int]) -> Json:
        if value.dtype != np.dtype(scalar):
            raise TypeError(f"an array of {value.dtype} where one of {kind} belongs")
        return [kind.str, list(value.shape), base64.b64encode(value.astype(kind).tobytes()).decode()]

    def read(part: Json, objects: list[Any]) -> Any:
        name, shape, text = _typed(part, list)
        if name != kind.str or any(type(size) is not int or size < 0 for size in _typed(shape, list)):
            raise _UnfitError(f"an array of {name!r:.40} and shape {shape!r:.40} where one of {kind.str!r} belongs")
        content = base64.b64decode(_typed(text, str), validate=True)
        if len(content) != math.prod(shape) * kind.itemsize:
            raise _UnfitError(f"an array of shape {shape!r:.40} with {len(content)} bytes")
        return np.frombuffer(content, dtype=kind).astype(scalar).reshape(shape)

    return _Form(list, lambda value: isinstance(value, np.ndarray), write, read, _nothing)


def _index(number: Json, items: list[Any]) -> int:
    if type(number) is not int or not 0 <= number < len(items):
        raise _UnfitError(f"{number!r:.40} where the number of a row belongs")
    return number


def _typed(part: Json, kind: type) -> Any:
    if type(part) is not kind:
        raise _UnfitError(f"{part!r:.40} where a {kind.__name__} belongs")
    return part
