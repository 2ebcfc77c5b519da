"""States of runs in files, from which a run that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from villageflow.errors import CalibrationError

_DIGEST: Final = 60
"""Characters from which a text is a digest, which tells a reader nothing."""


def store(file: Path, arrays: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """Write a whole new ``.npz`` file, then put it in the place of the old one: a kill leaves one or the other."""
    beside = file.with_name(file.name + ".part")
    try:
        with beside.open("wb") as stream:
            np.savez(stream, identity=np.array(json.dumps(dict(identity))), **arrays)
        beside.replace(file)
    except OSError as error:
        raise CalibrationError(
            f"{file}: cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from None


def stored(file: Path, names: Sequence[str], identity: Mapping[str, str], *, what: str) -> dict[str, Any]:
    """The arrays in a file, if they are of this run.

    Parameters
    ----------
    file : Path
        Written by `store`.
    names : sequence of str
        The arrays wanted.
    identity : mapping of str to str
        What the run depends on; the file must have the same.
    what : str
        What to call the state in messages.

    Returns
    -------
    dict of str to array

    Raises
    ------
    CalibrationError
        A file that cannot be read, or that is of another run.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            known = json.loads(str(arrays["identity"]))
            found = {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError):
        raise CalibrationError(
            f"{file} cannot be read as a {what}: it is damaged or something else; remove it to start anew, or name "
            "another file"
        ) from None
    for name, value in identity.items():
        if (before := str(known.get(name))) != value:
            short = f" ({before}; now {value})" if max(len(before), len(value)) < _DIGEST else ""
            raise CalibrationError(
                f"the {what} in {file} was run with {'other' if name.endswith('s') else 'another'} {name}{short}; "
                "resume with what began it, or name another file"
            )
    return found
