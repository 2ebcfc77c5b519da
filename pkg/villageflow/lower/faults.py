"""Faults of a pass over all equations, gathered and raised together."""

from __future__ import annotations

from villageflow.errors import LoweringError, UnsupportedError
from villageflow.ir.source import SourceModel, SourceVariable

_SHOWN = 6


class Faults:
    """What is wrong with the equations of a model."""

    def __init__(self, source: SourceModel) -> None:
        self._source = source
        self._faults: dict[str, None] = {}
        self._unsupported: dict[str, None] = {}

    def add(self, message: str, variable: SourceVariable | None = None, *, unsupported: bool = False) -> None:
        """Note a fault, of an equation or of the whole file."""
        if variable is not None:
            message = f"{self._source.place(variable)}: {variable.name!r} {message}"
        (self._unsupported if unsupported else self._faults)[message] = None

    def will_show(self) -> bool:
        """Whether the next fault is among those whose text is shown; others need no advice, which is slow to find."""
        return len(self._faults) < _SHOWN

    def raise_all(self) -> None:
        """Raise the faults noted so far; constructs that are not supported first."""
        if self._unsupported:
            raise UnsupportedError(self._listing(list(self._unsupported), "use what is not supported"))
        if self._faults:
            raise LoweringError(self._listing(list(self._faults), "could not be resolved"))

    def _listing(self, faults: list[str], what: str) -> str:
        if len(faults) == 1:
            return faults[0]
        shown = "; ".join(faults[:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        return f"{self._source.path.name}: {len(faults)} faults, equations that {what}: {shown}{more}"
