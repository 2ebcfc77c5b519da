"""Results as files: JSON with every digit, in which each value says what it is; nothing in a file is ever run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from villageflow.calibrate.scales import Box
from villageflow.errors import CalibrationError


def save_fields(result: Any, kind: str, path: str | Path) -> None:
    """Write the fields of a result as JSON under the name of its format."""
    fields = {item.name: plain(getattr(result, item.name)) for item in dataclasses.fields(result)}
    text = json.dumps({"format": kind} | fields, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a file.

    Raises
    ------
    CalibrationError
        Where it cannot be written.
    """
    try:
        Path(path).write_text(text, encoding="utf-8")
    except (OSError, TypeError) as error:
        why = getattr(error, "strerror", None) or f"a {type(path).__name__} is no path"
        raise CalibrationError(f"{path}: cannot be written ({why}); name a file in a folder that exists") from None


def plain(value: Any) -> Any:
    """A value for JSON that `restored` turns back."""
    match value:
        case None | bool() | str():
            return value
        case int() | np.integer():
            return int(value)
        case float() | np.floating():
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        case np.bool_():
            return bool(value)
        case tuple():
            return {"tuple": [plain(item) for item in value]}
        case np.ndarray():
            return {"array": [plain(item) for item in value.ravel().tolist()], "shape": list(value.shape)}
        case pd.Series():
            return {"series": plain(value.to_numpy()), "index": _labels(value.index), "name": plain(value.name)}
        case pd.DataFrame():
            columns = [plain(value[name].to_numpy()) for name in value.columns]
            return {"frame": columns, "columns": _labels(value.columns), "index": _labels(value.index)}
        case Box():
            bounds = [plain(value.lower), plain(value.upper)]
            return {"box": bounds, "names": list(value.names), "scales": list(value.scales)}
        case Mapping():
            return {"mapping": [[plain(key), plain(item)] for key, item in value.items()]}
    raise AssertionError(type(value))


def _labels(index: pd.Index[Any]) -> Any:
    return {"labels": [plain(label) for label in index.tolist()], "name": plain(index.name)}


def restored(stored: Any) -> Any:
    """What `plain` was given."""
    if not isinstance(stored, dict):
        return stored
    match next(iter(stored)):
        case "float":
            return float(stored["float"])
        case "tuple":
            return tuple(restored(item) for item in stored["tuple"])
        case "array":
            return np.array([restored(item) for item in stored["array"]]).reshape(stored["shape"])
        case "series":
            return pd.Series(restored(stored["series"]), index=restored(stored["index"]), name=stored["name"])
        case "frame":
            index, columns = restored(stored["index"]), restored(stored["columns"])
            table = pd.DataFrame(dict(enumerate(map(restored, stored["frame"]))), index=index)
            return table.set_axis(columns, axis=1)
        case "labels":
            return pd.Index([restored(item) for item in stored["labels"]], name=stored["name"])
        case "box":
            lower, upper = map(restored, stored["box"])
            return Box(tuple(stored["names"]), tuple(stored["scales"]), lower, upper)
        case "mapping":
            return {restored(key): restored(item) for key, item in stored["mapping"]}
        case kind:
            raise ValueError(f"no kind {kind!r}")
