"""The verb `load_fit`: any fit from the file that its ``save`` wrote."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from villageflow.calibrate import filtered, fixedeffects, matched, randomeffects
from villageflow.calibrate.result import stored_fit
from villageflow.calibrate.scales import Box
from villageflow.calibrate.stored import restored
from villageflow.errors import CalibrationError

_RESULTS: Final[dict[str, type[Any]]] = {
    filtered.FORMAT: filtered.ProcessNoiseResult,
    fixedeffects.FORMAT: fixedeffects.FixedEffectsResult,
    matched.FORMAT: matched.IndirectResult,
    randomeffects.FORMAT: randomeffects.RandomEffectsResult,
}

_KINDS: Final[dict[str, Any]] = {
    "pd.DataFrame": pd.DataFrame, "pd.Series": pd.Series, "Series": pd.Series, "Floats": np.ndarray, "Box": Box,
    "Mapping": dict, "tuple": tuple, "str": str, "bool": bool, "int": int, "float | None": (float, type(None)),
    "float": float,
}


def load_fit(path: str | Path) -> Any:
    """Read a fit from its file.

    Parameters
    ----------
    path : path
        What the method ``save`` of a fit wrote.

    Returns
    -------
    FitResult, RandomEffectsResult, FixedEffectsResult, IndirectResult or ProcessNoiseResult
        What was kept, to the last bit.

    Raises
    ------
    CalibrationError
        If the file is missing or is not such a fit.
    """
    if not isinstance(path, str | Path):
        raise CalibrationError(f"the file is {path!r}; give the path of what a fit's save wrote")
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: cannot be read as a fit ({error})") from None
    kind = stored.get("format") if isinstance(stored, dict) else None
    try:
        if kind in _RESULTS:
            made = _RESULTS[kind]
            return made(**{item.name: _field(item, stored[item.name]) for item in dataclasses.fields(made)})
        return stored_fit(stored, path)
    except KeyError as error:
        fault = f"lacks {error}"
    except (TypeError, ValueError, AttributeError, IndexError, RecursionError, StopIteration) as error:
        fault = f"has a value of the wrong kind ({error})"
    raise CalibrationError(f"{path}: the fit {fault}; it was cut short or edited, so fit again")


def _field(item: dataclasses.Field[Any], stored: Any) -> Any:
    """A field of a result, if it is of the kind that the result declares."""
    value = restored(stored)
    wanted = next(kind for name, kind in _KINDS.items() if str(item.type).startswith(name))
    if not isinstance(value, wanted):
        raise TypeError(f"{item.name}: {type(value).__name__}")
    return value
