"""How far a model file may be written out: in proportion to its size, so that no small file takes long to read."""

from __future__ import annotations

from typing import Final

from villageflow.errors import UnsupportedError
from villageflow.ir.source import SourceModel

_LEAST: Final = 100_000
_FOR_EACH_BYTE: Final = 2


class Budget:
    """Counts the equations and terms that elements, macros, and functions of arrays and of memory are written out to.

    Parameters
    ----------
    source : SourceModel
        The limit is 100,000, or two for each byte of the file if that is more.
    """

    def __init__(self, source: SourceModel) -> None:
        self._name = source.path.name
        self.limit = max(_LEAST, _FOR_EACH_BYTE * source.size)
        self._spent = 0

    def spend(self, count: int, what: str) -> None:
        """Count something before it is made.

        Raises
        ------
        UnsupportedError
            The limit is passed; `what` says by what.
        """
        self._spent += count
        if self._spent > self.limit:
            raise UnsupportedError(
                f"{self._name}: written out element by element the model has more than {self.limit:,} equations and "
                f"terms, at {what}; make its dimensions smaller, or use fewer of them together"
            )
