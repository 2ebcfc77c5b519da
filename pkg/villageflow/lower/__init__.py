"""Lowering: from equations as written to a `Model` whose every construct the tape can run."""

from __future__ import annotations

from villageflow.ir.model import Model
from villageflow.ir.source import SourceModel
from villageflow.lower.arrays import scalarise
from villageflow.lower.expand import expand
from villageflow.lower.macros import expand_macros
from villageflow.lower.order import order
from villageflow.lower.resolve import resolve

__all__ = ["lower"]


def lower(source: SourceModel) -> Model:
    """Copy macros, write arrays out, resolve names, expand functions with memory into stocks, order the equations.

    Parameters
    ----------
    source : SourceModel
        As a reader of `frontend` gives it.

    Returns
    -------
    Model

    Raises
    ------
    LoweringError
        Undefined names or subscripts, wrong arguments or algebraic loops; every fault of a pass is listed.
    UnsupportedError
        A function that is not supported.
    """
    scalars = scalarise(expand_macros(source))
    return order(scalars, expand(scalars.source, resolve(scalars.source, scalars.data)))
