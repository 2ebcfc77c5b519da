"""The tools that are compared: each a function from a model file to a table of its run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Set
from pathlib import Path

import numpy as np
import pandas as pd
import pysd
import records
import simlin

from villageflow.names import canonical


def run_pysd(name: str, wanted: Set[str]) -> pd.DataFrame:
    """The run with PySD's own defaults, in a copy of the folder: PySD writes a program beside the model."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree((records.CORPUS / name).parent, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
        path = Path(folder) / Path(name).name
        read = pysd.read_vensim if records.kind(name) == ".mdl" else pysd.read_xmile
        model = read(str(path), data_files=records.data_files(name) or None)
        saves = [title for title in model.doc["Real Name"] if canonical(title) in wanted]
        table = model.run(return_columns=saves)
    return table.rename_axis("time").reset_index()


def run_pysimlin(name: str, wanted: Set[str]) -> pd.DataFrame:
    """The run as pysimlin does it by default, with its names as the records have them.

    pysimlin calls the time step ``dt`` and does not tell the saving period, which is taken from the saved times; the
    name of a module's variable is joined to the module's by a point.
    """
    with simlin.load(str(records.CORPUS / name)).simulate() as run:
        run.run_to_end()
        series = {title.replace("\N{MIDDLE DOT}", "."): run.get_series(title) for title in run.get_var_names()}
    series.setdefault("time_step", series["dt"])
    series.setdefault("saveper", np.full(len(series["time"]), np.diff(series["time"][:2], append=np.nan)[0]))
    frame = pd.DataFrame(series)
    return frame[[title for title in frame if title == "time" or records.key(title).partition("[")[0] in wanted]]


TOOLS: dict[str, Callable[[str, Set[str]], pd.DataFrame]] = {
    "villageflow": records.run_villageflow,
    "PySD": run_pysd,
    "pysimlin": run_pysimlin,
}
