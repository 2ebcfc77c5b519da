"""Estimates as a file that other steps read: what was asked, what was found, and a hash of the sample behind it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from villageflow.datasets.terms import columns_of, parse_formula
from villageflow.econometrics.dynamic import DynamicSpec, Instruments
from villageflow.econometrics.estimate import Estimate, Series
from villageflow.econometrics.spec import (
    AnySpec,
    Clustered,
    Conley,
    Covariance,
    DriscollKraay,
    Jackknife,
    Robust,
    Spec,
    Unadjusted,
    clusters_of,
)
from villageflow.econometrics.staggered import StaggeredSpec
from villageflow.errors import EstimationError, did_you_mean

_FORMAT: Final = "villageflow estimates 1"
_KINDS: Final[dict[str, Callable[..., AnySpec]]] = {
    "Spec": Spec, "DynamicSpec": DynamicSpec, "StaggeredSpec": StaggeredSpec,
}  # fmt: skip
_ERRORS: Final[dict[str, Callable[..., Covariance]]] = {
    kind.__name__: kind for kind in (Unadjusted, Robust, Clustered, Jackknife, DriscollKraay, Conley)
}


@dataclass(frozen=True, eq=False)
class StoredEstimate:
    """An estimate as it was stored.

    Parameters
    ----------
    name : str
    panel : str
        The recipe of `villageflow.datasets.build`. Some regressions read columns that are added to it (``elsewhere``,
        ``villages_listed``, ``growth_listed``, ``villages_where_any``, ``year``): the estimates of
        ``results/estimates.json`` are run again by ``estimate(spec_of(stored), claim_panels()[stored.panel])``, with
        `villageflow.econometrics.hypotheses.claim_panels`. Those of a study, ``study/block/column``, need no more than
        ``STUDIES[study].prepare(datasets.build(stored.panel))`` of `villageflow.econometrics.studies`.
    spec : mapping
        Everything that was asked, under the names of the specification.
    params : pandas.Series
    cov : pandas.DataFrame
        Covariance, (term, term).
    cov_label : str
    df : float or None
        None for the normal.
    nobs, n_entities, n_periods : int
    n_clusters : int or None
    sample_hash : str
        SHA-256 of the cells that the regression read; see `sample_hash`.
    about : mapping
        What else was stored with it, such as hypothesis and stated sign.
    """

    name: str
    panel: str
    spec: Mapping[str, Any]
    params: Series
    cov: pd.DataFrame
    cov_label: str
    df: float | None
    nobs: int
    n_entities: int
    n_periods: int
    n_clusters: int | None
    sample_hash: str
    about: Mapping[str, Any]


def store(name: str, recipe: str, estimate: Estimate, panel: pd.DataFrame, **about: Any) -> dict[str, Any]:
    """An estimate as a mapping that JSON can hold.

    Parameters
    ----------
    name : str
        Unique among what is written together.
    recipe : str
        The recipe of the panel.
    estimate : Estimate
        What was found.
    panel : pandas.DataFrame
        What it was estimated on.
    **about
        Texts and numbers to keep beside it.
    """
    spec = asdict(estimate.spec)  # type: ignore[call-overload]
    return {
        "name": name, "panel": recipe,
        "spec": spec | {"kind": type(estimate.spec).__name__, "errors": type(estimate.spec.cov_type).__name__},
        "estimator": estimate.spec.words, "terms": [str(term) for term in estimate.params.index],
        "params": [float(value) for value in estimate.params],
        "cov": [[float(value) for value in row] for row in estimate.cov.to_numpy()], "cov_label": estimate.cov_label,
        "df": estimate.df, "nobs": estimate.nobs, "n_entities": estimate.n_entities,
        "n_periods": estimate.n_periods, "n_clusters": estimate.n_clusters,
        "sample_hash": sample_hash(estimate, panel), "about": about,
    }  # fmt: skip


def spec_of(stored: StoredEstimate) -> AnySpec:
    """The specification of a stored estimate, ready for `villageflow.econometrics.estimate`.

    Raises
    ------
    EstimationError
        If it was stored under names that no specification has.
    """
    asked: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.spec.items()
    }
    try:
        kind, errors = _KINDS[asked.pop("kind")], _ERRORS[asked.pop("errors")]
        asked["cov_type"] = errors(**asked["cov_type"])
        if "gmm" in asked:
            asked["gmm"] = tuple(Instruments(**lags) for lags in asked["gmm"])
        return kind(**asked)
    except (KeyError, TypeError) as cause:
        raise EstimationError(f"The specification of {stored.name!r} is damaged ({cause!r}). Store it again.") from None


def sample_hash(estimate: Estimate, panel: pd.DataFrame) -> str:
    """SHA-256 of the cells that a regression read: two estimates with the same hash saw the same data.

    Parameters
    ----------
    estimate : Estimate
        Whose sample it is.
    panel : pandas.DataFrame
        What it was estimated on.

    Returns
    -------
    str
        Over the columns that formula, effects and clusters name, for all rows of the panel, sorted, as exact texts,
        and over the rows of the sample. Row order does not matter, and neither do columns that were not read.
    """
    formula = parse_formula(estimate.spec.formula)
    terms = [formula.outcome, *formula.regressors, *formula.endogenous, *formula.instruments]
    names = {column for term in terms for column in columns_of(term)}
    groups = (*getattr(estimate.spec, "effects", ()), *clusters_of(estimate.spec.cov_type))
    cohort = getattr(estimate.spec, "cohort", None)
    names |= {part for name in groups for part in name.split("*") if part in panel.columns}
    names |= {cohort} if cohort else set()
    digest = hashlib.sha256()
    for column in sorted(names):
        digest.update(f"\n{column}\n".encode())
        for key, value in sorted(zip(map(_text, panel.index), map(_text, panel[column]))):
            digest.update(f"{key}\t{value}\n".encode())
    if estimate.residuals is not None:
        digest.update("\n".join(sorted(map(_text, estimate.residuals.index))).encode())
    return digest.hexdigest()


def write_estimates(path: str | Path, stored: Iterable[Mapping[str, Any]]) -> None:
    """Write estimates that `store` made as JSON, sorted by name.

    Raises
    ------
    EstimationError
        If a name occurs twice, or an estimate did not go through `store`.
    """
    path, rows = Path(path), [stored] if isinstance(stored, (Estimate, Mapping)) else list(stored)
    for row in rows:
        if not isinstance(row, Mapping) or "name" not in row:
            raise EstimationError(f"{type(row).__name__} cannot be written. Use store(name, recipe, estimate, panel).")
    rows.sort(key=lambda row: str(row["name"]))
    names = [row["name"] for row in rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise EstimationError(f"Two estimates are called {twice[0]!r}. Name them apart.")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": _FORMAT, "estimates": rows}, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_estimates(path: str | Path) -> dict[str, StoredEstimate]:
    """Read a file that `write_estimates` wrote.

    Parameters
    ----------
    path : str or Path
        Such as ``results/estimates.json`` of a checkout.

    Returns
    -------
    dict of str to StoredEstimate
        By name; a name that is missing raises KeyError, `pick_estimate` says which names there are.

    Raises
    ------
    EstimationError
        If the file is missing, is no JSON, or does not hold estimates of this format.
    """
    path = Path(path)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EstimationError(f"{path} does not exist. Run './run reproduce', or name another file.") from None
    except (OSError, ValueError) as cause:
        raise EstimationError(f"{path} cannot be read as JSON ({cause}). Name a file of estimates.") from None
    if not isinstance(held, dict) or held.get("format") != _FORMAT or not isinstance(held.get("estimates"), list):
        raise EstimationError(f"{path} is not a file of estimates ({_FORMAT!r}). Write it with write_estimates.")
    found: dict[str, StoredEstimate] = {}
    for number, row in enumerate(held["estimates"], start=1):
        try:
            found[row["name"]] = _restored(row)
        except (KeyError, TypeError, ValueError) as cause:
            raise EstimationError(f"{path}: estimate {number} is damaged ({cause!r}). Write the file again.") from None
    return found


def pick_estimate(estimates: Mapping[str, StoredEstimate], name: str) -> StoredEstimate:
    """One estimate by name.

    Raises
    ------
    EstimationError
        If there is none of this name; near names are proposed.
    """
    if name not in estimates:
        raise EstimationError(f"No estimate is called {name!r}. {did_you_mean(name, estimates)}")
    return estimates[name]


def _restored(row: Mapping[str, Any]) -> StoredEstimate:
    terms = pd.Index(row["terms"], name="term")
    cov = np.asarray(row["cov"], dtype=np.float64)
    if cov.shape != (len(terms), len(terms)):
        raise ValueError(f"cov is {cov.shape} for {len(terms)} terms")
    return StoredEstimate(
        name=row["name"], panel=row["panel"], spec=row["spec"],
        params=pd.Series(row["params"], index=terms, name="estimate", dtype="float64"),
        cov=pd.DataFrame(cov, index=terms, columns=terms), cov_label=row["cov_label"], df=row["df"],
        nobs=row["nobs"], n_entities=row["n_entities"], n_periods=row["n_periods"], n_clusters=row["n_clusters"],
        sample_hash=row["sample_hash"], about=row["about"],
    )  # fmt: skip


def _text(value: Any) -> str:
    """A cell or a key as exact text; whole numbers read the same in any type."""
    if isinstance(value, tuple):
        return "\t".join(map(_text, value))
    if pd.isna(value):
        return ""
    if isinstance(value, str):
        return value
    return repr(int(value)) if float(value).is_integer() else repr(float(value))
