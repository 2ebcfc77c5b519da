"""The model as written: what a reader hands to lowering, before any name is resolved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from villageflow.ir.nodes import Definition


@dataclass(frozen=True, slots=True)
class SourceVariable:
    """One equation of a model file.

    Attributes
    ----------
    name : str
        As written, without outer quotes.
    id : str
        `names.canonical` of the name.
    definition : Definition
        Right-hand side.
    units, documentation : str
        As written, blanks trimmed; empty when absent.
    limits : tuple of (float or None)
        Lower and upper limit as declared.
    line : int or None
        Line of the file on which the equation begins, where it could be told.
    """

    name: str
    id: str
    definition: Definition
    units: str = ""
    documentation: str = ""
    limits: tuple[float | None, float | None] = (None, None)
    line: int | None = None


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A parsed model file.

    Attributes
    ----------
    path : Path
    digest : str
        SHA-256 of the file's bytes.
    method : str
        Integration method that the file declares, lower case; Vensim files count as ``euler``.
    variables : tuple of SourceVariable
        Its equations in file order.
    """

    path: Path
    digest: str
    method: str
    variables: tuple[SourceVariable, ...]

    def place(self, variable: SourceVariable) -> str:
        """Where a variable stands, for messages: ``file.mdl, line 12``."""
        where = self.path.name
        return f"{where}, line {variable.line}" if variable.line else where
