"""What the readers of the two languages hand over."""

from __future__ import annotations

from dataclasses import dataclass

from villageflow.ir.dimensions import Dimension
from villageflow.ir.source import Macro, SourceVariable


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of a `SourceModel` that a language decides; see there."""

    method: str
    variables: tuple[SourceVariable, ...]
    dimensions: tuple[Dimension, ...] = ()
    macros: tuple[Macro, ...] = ()
