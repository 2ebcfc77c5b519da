"""Settings that verbs share, checked: seeds and whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from villageflow.errors import CalibrationError, did_you_mean
from villageflow.names import variable_id


def checked_seed(seed: object) -> int:
    """A seed.

    Raises
    ------
    CalibrationError
        What is not a whole number from 0 on; None would give a run that nobody can repeat.
    """
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer) or seed < 0:
        raise CalibrationError(f"seed is {seed!r}; it must be a whole number from 0 on, such as 1")
    return int(seed)


def whole(name: str, value: object, least: int) -> int:
    """A whole number that is large enough.

    Parameters
    ----------
    name : str
        Of the setting, for the message.
    value : object
        As it was given.
    least : int
        Smallest that is allowed.

    Raises
    ------
    CalibrationError
        Anything else.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise CalibrationError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return int(value)


def enough_starts(starts: object) -> int:
    """Starts of a search, at least 20."""
    if isinstance(starts, int | np.integer) and not isinstance(starts, bool) and starts < 20:
        raise CalibrationError(f"starts is {starts}; a fit needs at least 20 to tell a local from the best optimum")
    return whole("starts", starts, 20)


def share(name: str, value: object) -> float:
    """A number strictly between 0 and 1, such as a level.

    Raises
    ------
    CalibrationError
        Anything else.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number) or not 0 < float(value) < 1:
        raise CalibrationError(f"{name} is {value!r}; it must be a number between 0 and 1, such as 0.95")
    return float(value)


def check_declared(problem: object, *needed: str) -> None:
    """Refuse what is no problem, such as a folder's name.

    Parameters
    ----------
    problem : object
        As it was given.
    *needed : str
        What it must have beside its free parameters.
    """
    if not all(hasattr(problem, name) for name in ("box", *needed)):
        raise CalibrationError(
            f"the problem is a {type(problem).__name__} ({problem!r:.60}); give a Problem: read_problem(folder) makes "
            "one of tables"
        )


def parameter_names(given: Sequence[str] | str, known: Sequence[str], what: str) -> list[str]:
    """Names of free parameters, one alone or several, as they are or in any spelling.

    Raises
    ------
    CalibrationError
        What is no free parameter; `what` says what the names are for.
    """
    found = []
    for name in [given] if isinstance(given, str) else given:
        if not isinstance(name, str):
            raise CalibrationError(f"{what} {name!r} is no name; give names of free parameters: {', '.join(known)}")
        own = name if name in known else variable_id(name)
        if own not in known:
            raise CalibrationError(f"{what} {name!r} is not a free parameter. {did_you_mean(name, known)}")
        found.append(own)
    return found
