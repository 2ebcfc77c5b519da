"""What a table schema is made of: columns, and rules across columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from villageflow.datasets.reading import Kind


@dataclass(frozen=True)
class Field:
    """One column of a schema.

    Parameters
    ----------
    kind : {"text", "number", "integer"}
        How a cell is converted; blank cells are missing.
    required : bool
        Whether a file without the column is refused. An optional column that is absent is added, all missing.
    nullable : bool
        Whether single cells may be blank.
    allowed : tuple of str
        The values a text cell may take; empty means any.
    low, high : float, optional
        Inclusive bounds of a number.
    """

    kind: Kind = "text"
    required: bool = True
    nullable: bool = False
    allowed: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Order:
    """A rule across columns: ``columns`` must not decrease from left to right where they are given."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Domain:
    """A rule across columns: where ``scale`` is log, ``columns`` are above 0; where logit, also below 1."""

    columns: tuple[str, ...]
    scale: str = "scale"


@dataclass(frozen=True)
class Needs:
    """A rule across columns: where ``by`` is given, and is one of ``among`` if that is not empty, so is ``column``."""

    column: str
    by: str
    among: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableSchema:
    """Fields by name, the columns that identify a row, and the rules across columns."""

    fields: Mapping[str, Field]
    key: tuple[str, ...]
    orders: tuple[Order, ...] = ()
    domains: tuple[Domain, ...] = ()
    needs: tuple[Needs, ...] = ()
