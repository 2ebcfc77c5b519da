"""The national counts of Taobao villages as a calibration problem: which counts, when, and with what error.

The observation model, and why
------------------------------
* **What and when.** A list is a census of the villages that pass the test and were found. Lists are published between
  August and December; each count is compared with the model's stock of known villages at year + 0.75.
* **Negative binomial counts.** A list has no sampling error, so the error stands for what the model leaves out: chance
  in when villages cross the threshold, which is of order sqrt(count) and rules 2009 and 2013, and shocks common to all
  villages or to the search, which are proportional and rule the later counts. The negative binomial has both,
  ``variance = mean + mean^2 / k``, with one parameter, and gives 3 and 20 villages the small weight that a normal error
  of the logarithm, one size for all counts, would not. ``noise="lognormal"`` is that alternative.
* **2009 and 2013 stay in, with detection in the model.** Both were counted in retrospect when the label was first
  published (X06). The model holds an incomplete detection before the label and a learning search after it as free
  parameters, so the early counts inform detection first and growth hardly; leaving them out would leave detection to
  its range, and inflating their error would count the same doubt twice.
* **2016 is 1,311**, the published headline; the roster has 1,312 rows. One of them enters.
* **2020 changed the rule for villages**, so the hold-out from 2020 on tests the model and a constant rule together.
* **Errors of neighbouring lists are not independent**: most villages of a list were on the one before.
  ``form="additions"`` takes net additions between lists instead of levels, for which independence is nearer the truth;
  both use the same counts, so they are two fits and never one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from villageflow.calibrate.likelihood import NOISE
from villageflow.calibrate.problem import Problem, observables_of
from villageflow.datasets.panel import table
from villageflow.datasets.schemas import read_table
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.ir.model import Model
from villageflow.library import path, priors, read

LISTED_AT: Final = 0.75
LAST_FITTED: Final = 2018
_FORMS: Final = {"levels": "listed_villages", "additions": "added_villages"}
_NOISE_ROWS: Final = {
    "negbinomial": ("count_dispersion", "dmnl", 1.0, 1e6),
    "lognormal": ("log_error", "dmnl", 1e-3, 2.0),
}


def national_problem(
    model: Model | None = None,
    *,
    form: str = "levels",
    noise: str = "negbinomial",
    last_fitted: int = LAST_FITTED,
    method: str | None = None,
) -> Problem:
    """The shipped national counts and the free parameters of ``national_diffusion``.

    Parameters
    ----------
    model : Model, optional
        Default the shipped model.
    form : {"levels", "additions"}
        Counts, or net additions between lists.
    noise : {"negbinomial", "lognormal"}
        Family of the error; its parameter is estimated.
    last_fitted : int
        Last year to fit; later ones are kept out.
    method : {"euler", "rk4"}, optional
        Default as the model file has it.

    Returns
    -------
    Problem

    Raises
    ------
    CalibrationError
        An unknown form or noise.
    """
    for value, known in ((form, _FORMS), (noise, _NOISE_ROWS)):
        if value not in known:
            raise CalibrationError(f"there is no {value!r} for the national counts. {did_you_mean(value, known)}")
    declared = read_table(path("national_diffusion") / "observables.csv", "observables")
    chosen = declared[declared["observable"] == _FORMS[form]].copy()
    name, unit, low, high = _NOISE_ROWS[noise]
    chosen["noise"], chosen["noise_parameter"] = noise, name
    shared = priors("national_diffusion").query("effect == 'shared'")
    error = pd.DataFrame([{
        "name": name, "unit": unit, "scale": "log", "lower": low, "upper": high, "distribution": "loguniform",
        "effect": "shared", "source": f"estimated: {NOISE[noise].parameter}",
    }])
    rows = national_measurements(form)
    kept = rows["time"] > last_fitted + 1
    return Problem(
        model=model or read("national_diffusion"), parameters=pd.concat([shared, error], ignore_index=True),
        observables=observables_of(chosen), measurements=rows[~kept], holdout=rows[kept],
        method=method,
    )


def national_measurements(form: str = "levels") -> pd.DataFrame:
    """Measurements made of the shipped national counts.

    Parameters
    ----------
    form : {"levels", "additions"}
        With ``additions`` the first row is the count of the first list, from the start of the model in 2003.

    Returns
    -------
    DataFrame
        entity, time, observable, value, comparator, source_id; from_time too for additions.
    """
    counts = table("villages_area_year").query("area_kind == 'nation' and variable == 'taobao_villages'")
    counts = counts.sort_values("year")
    time = counts["year"].to_numpy(dtype=float) + LISTED_AT
    value = counts["value"].to_numpy(dtype=float)
    rows = pd.DataFrame({
        "entity": counts["area"].to_numpy(), "time": time, "observable": _FORMS[form], "value": value,
        "comparator": "=", "source_id": counts["source_id"].to_numpy(),
    })
    if form == "additions":
        rows["value"] = np.diff(value, prepend=0.0)
        rows["from_time"] = np.concatenate([[2003.0], time[:-1]])
    return rows

