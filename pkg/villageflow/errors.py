"""The errors a user can meet, one class per kind of mistake.

Every message names the value, the place, the rule and the remedy. The command line prints the message as
one line and exits with code 1; anything that is not a `VillageflowError` is a bug of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VillageflowError(Exception):
    """Base of all errors that a user's input can cause. Its text is one line, whatever the names in it hold."""

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class ModelFileError(VillageflowError):
    """A file cannot be read as a model: missing, undecodable, malformed, or of an unknown kind."""


class UnsupportedError(VillageflowError):
    """A construct that this version does not run. It is refused by name and never replaced by a value."""


class LoweringError(VillageflowError):
    """Equations that cannot be resolved: undefined names, wrong arguments, algebraic loops."""


class ProgramError(VillageflowError):
    """A tape that breaks a rule the kernel relies on."""


class StoredFileError(VillageflowError):
    """A stored program or model that is damaged, of another kind, or of another version."""


class DesignError(VillageflowError):
    """Parameters, scenarios or run settings that do not fit the model."""


class SimulationError(VillageflowError):
    """A member whose trajectory is not finite."""


class DataError(VillageflowError):
    """A table that breaks its schema: missing column, duplicate key, value out of range."""


class EstimationError(VillageflowError):
    """A regression that the data cannot support as asked."""


class CalibrationError(VillageflowError):
    """A calibration problem that is not well posed, or a fit that did not succeed."""


class ReportError(VillageflowError):
    """A table, figure or paper that cannot be built from the results at hand."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A closing sentence that proposes the nearest known names; empty when none is near."""
    close = get_close_matches(name, sorted(set(known)), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(item) for item in close)}?" if close else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A closing sentence that proposes the nearest known names, or lists a few when none is near."""
    known = sorted(set(known))
    close = nearest(name, known)
    if close:
        return close
    if not known:
        return "There is none to choose from."
    shown = ", ".join(repr(item) for item in known[:8])
    return f"Known names: {shown}{', ...' if len(known) > 8 else ''}."
