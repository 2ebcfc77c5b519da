"""The model as written: what a reader hands to lowering, before any name is resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from villageflow.ir.dimensions import Dimension
from villageflow.ir.nodes import Written


@dataclass(frozen=True, slots=True)
class SourceVariable:
    """One equation of a model file.

    Attributes
    ----------
    name : str
        As written, without outer quotes.
    id : str
        `names.canonical` of the name.
    definition : Written
        Right-hand side.
    units, documentation : str
        As written, blanks trimmed; empty when absent.
    limits : tuple of (float or None)
        Lower and upper limit as declared.
    line : int or None
        Line of the file on which the equation begins, where it could be told.
    subscripts : tuple of str
        Dimensions and elements on the left side, canonical; several equations may define parts of one array.
    exceptions : tuple of (tuple of str)
        Parts of the left side that the equation leaves out (``:EXCEPT:``).
    """

    name: str
    id: str
    definition: Written
    units: str = ""
    documentation: str = ""
    limits: tuple[float | None, float | None] = (None, None)
    line: int | None = None
    subscripts: tuple[str, ...] = ()
    exceptions: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro: equations over its arguments, copied for each call.

    Attributes
    ----------
    name, id : str
        As written, and canonical; the variable of this name is the value of a call.
    inputs : tuple of str
        Canonical names of the arguments.
    outputs : tuple of str
        Canonical names of further results, given after the arguments.
    variables : tuple of SourceVariable
        Its equations.
    """

    name: str
    id: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    variables: tuple[SourceVariable, ...]


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
    dimensions : tuple of Dimension
        Subscript ranges, in file order.
    macros : tuple of Macro
    files : mapping of Path to str
        Other files that were read for it, with the SHA-256 of their bytes.
    size : int
        Of the file, in bytes.
    """

    path: Path
    digest: str
    method: str
    variables: tuple[SourceVariable, ...]
    dimensions: tuple[Dimension, ...] = ()
    macros: tuple[Macro, ...] = ()
    files: Mapping[Path, str] = field(default_factory=dict)
    size: int = 0

    @property
    def is_vensim(self) -> bool:
        """Whether the file speaks Vensim's language and not XMILE."""
        return self.path.suffix.lower() == ".mdl"

    def place(self, variable: SourceVariable) -> str:
        """Where a variable stands, for messages: ``file.mdl, line 12``."""
        where = self.path.name
        return f"{where}, line {variable.line}" if variable.line else where
