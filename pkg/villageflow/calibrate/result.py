"""What a fit found: estimates, errors and diagnostics, as frozen values that can be stored and read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from villageflow.calibrate.identify import Identifiability
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.stored import write_text
from villageflow.errors import CalibrationError

_FORMAT: Final = "villageflow fit 2"
STEP_MATTERS: Final = 1e-3
"""Change of the log likelihood on halving the step above which a fit warns."""
ERRORS_NOTE: Final = (
    "Standard errors come from the Hessian of the log likelihood alone: they take the observation model as true, "
    "errors as independent and the number of measurements as large, and hold parameters at a bound fixed."
)
CLUSTERED_NOTE: Final = (
    "Standard errors are a sandwich clustered by entity ({n} of them, t with one degree of freedom less): errors may "
    "be dependent within an entity and of any size; they hold parameters at a bound fixed."
)


@dataclass(frozen=True, eq=False)
class FitResult:
    """A maximum-likelihood fit.

    Attributes
    ----------
    params, std_errors : Series
        Estimates in natural units and their standard errors (delta method); NaN for what a bound holds.
    cov : DataFrame
        Covariance in natural units.
    transformed : DataFrame
        Estimate and standard error on the transformed scale, with the scale; lower and upper bound in natural units.
    transformed_cov : DataFrame
        Covariance on the transformed scale.
    loglik : float
        Log likelihood in natural units, with all constants.
    n_measurements : int
    at_bound : tuple of str
        Parameters that a bound holds.
    converged : bool
    near_best : float
        Share of starts that ended within 1e-2 of the best log likelihood.
    starts : (n_starts,) array
        Log likelihood at the end of each start.
    gradient_norm : float
        Largest derivative over what no bound holds, per standard error: close to 0 at a maximum.
    hessian_eigenvalues : array
        Of the Hessian on the transformed scale over what no bound holds; all negative at a maximum.
    residuals : DataFrame
        Measurements with fitted value, standard deviation of the noise and standardised residual.
    trajectory : DataFrame
        Fitted path with 5 %, 50 % and 95 % quantiles of the fitted value (parameters) and of an observation.
    identifiability : Identifiability
    seed : int
    inputs : mapping
        Model and its digest, method, step, observables: what was fitted; and the change of the log likelihood at the
        estimate when the step is halved.
    cov_type : {"hessian", "clustered"}
        Inverse Hessian, or the sandwich of it and the scores of entities.
    n_entities : int
    df : float or None
        Degrees of freedom of the t distribution behind intervals, entities less one; None for the normal.
    """

    params: pd.Series[float]
    std_errors: pd.Series[float]
    cov: pd.DataFrame
    transformed: pd.DataFrame
    transformed_cov: pd.DataFrame
    loglik: float
    n_measurements: int
    at_bound: tuple[str, ...]
    converged: bool
    near_best: float
    starts: Floats
    gradient_norm: float
    hessian_eigenvalues: Floats
    residuals: pd.DataFrame
    trajectory: pd.DataFrame
    identifiability: Identifiability
    seed: int
    inputs: Mapping[str, Any]
    cov_type: str = "hessian"
    n_entities: int = 1
    df: float | None = None

    def __repr__(self) -> str:
        values = ", ".join(f"{name} = {_short(float(value))}" for name, value in self.params.items())
        converged = "converged" if self.converged else "NOT converged"
        return (
            f"<villageflow.FitResult: {self.inputs['model']}, {self.n_measurements} measurements, {converged}, log "
            f"likelihood {self.loglik:.4f}\n {values}; see summary()>"
        )

    @property
    def box(self) -> Box:
        """Free parameters with scale and bounds."""
        table = self.transformed
        return Box.of({
            str(name): (str(row["scale"]), float(row["lower"]), float(row["upper"])) for name, row in table.iterrows()
        })

    @property
    def has_covariance(self) -> bool:
        """Whether the Hessian is negative definite over what no bound holds, so that errors and draws exist."""
        free = ~self.transformed.index.isin(self.at_bound)
        return bool(np.isfinite(self.transformed["std_error"].to_numpy(dtype=float)[free]).all())

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Intervals in natural units, symmetric on the transformed scale; NaN for what a bound holds.

        Parameters
        ----------
        level : float
            Strictly between 0 and 1.

        Returns
        -------
        DataFrame
            By parameter, lower and upper, within the bounds.

        Raises
        ------
        CalibrationError
            If the level is out of range.
        """
        if not 0 < level < 1:
            raise CalibrationError(f"level is {level}; it must be between 0 and 1, such as 0.95")
        known = stats.norm() if self.df is None else stats.t(self.df)
        reach = float(known.ppf(0.5 + level / 2)) * self.transformed["std_error"].to_numpy(dtype=float)
        centre, box = self.transformed["estimate"].to_numpy(dtype=float), self.box
        ends = [box.from_transformed(centre + side * reach) for side in (-1, 1)]
        held = ~np.isfinite(reach)
        table = np.column_stack([np.where(held, np.nan, end) for end in ends])
        return pd.DataFrame(table, index=self.params.index, columns=["lower", "upper"])

    def to_frame(self) -> pd.DataFrame:
        """One row for each parameter: estimate, std_error, 95 % interval lower and upper, scale, whether at a bound."""
        interval = self.conf_int()
        return pd.DataFrame({
            "estimate": self.params, "std_error": self.std_errors, **interval, "scale": self.transformed["scale"],
            "at_bound": self.params.index.isin(self.at_bound),
        })

    def draws(self, n: int, seed: int) -> Floats:
        """Draws from the normal approximation on the transformed scale, within the bounds, in natural units.

        Parameters
        ----------
        n : int
            Number of draws.
        seed : int
            Of the draws.

        Returns
        -------
        (n, p) array
            What a bound holds stays there. A draw outside the bounds is drawn again; should less than a draw in
            two hundred fall inside, it is put on the bound.

        Raises
        ------
        CalibrationError
            If the fit has no covariance.
        """
        box, centre = self.box, self.transformed["estimate"].to_numpy(dtype=float)
        free = np.flatnonzero(~self.transformed.index.isin(self.at_bound))
        cov = self.transformed_cov.to_numpy(dtype=float)[np.ix_(free, free)]
        if not self.has_covariance:
            raise CalibrationError(
                "the Hessian at the estimate is not negative definite, so there is no covariance to draw from; fix or "
                f"drop a parameter (weakest direction: {self.identifiability.weakest})"
            )
        values = np.repeat(centre[None, :], n, axis=0)
        natural: Floats = np.repeat(self.params.to_numpy(dtype=float)[None, :], n, axis=0)
        if not len(free):
            return natural
        curvature, basis = np.linalg.eigh(cov)
        root = basis * np.sqrt(np.maximum(curvature, 0.0))
        low, high = box.transformed(box.lower)[free], box.transformed(box.upper)[free]
        rng, todo = np.random.default_rng(seed), np.arange(n)
        for _ in range(200):
            values[np.ix_(todo, free)] = centre[free] + rng.standard_normal((len(todo), len(free))) @ root.T
            inside = ((values[:, free] >= low) & (values[:, free] <= high)).all(axis=1)
            todo = np.flatnonzero(~inside)
            if not len(todo):
                break
        natural[:, free] = box.from_transformed(values)[:, free]
        return natural

    def summary(self) -> str:
        """Table of estimates with the diagnostics that a reader needs to judge them."""
        lines = [
            f"Maximum likelihood: {self.inputs['model']}, {self.n_measurements} measurements, "
            f"{len(self.params)} free parameters, log likelihood {self.loglik:.6f}",
            f"{'parameter':<28}{'estimate':>14}{'std. error':>14}{'lower':>12}{'upper':>12}  scale",
        ]
        for name in self.params.index:
            row = self.transformed.loc[name]
            error = "at bound" if name in self.at_bound else _short(float(self.std_errors[name]))
            lines.append(
                f"{name:<28}{_short(float(self.params[name])):>14}{error:>14}{_short(float(row['lower'])):>12}"
                f"{_short(float(row['upper'])):>12}  {row['scale']}"
            )
        found = self.identifiability
        alike = "; ".join(f"{a} and {b} ({r:+.3f})" for a, b, r in found.alike) or "none"
        lines += [
            f"converged: {'yes' if self.converged else 'NO'}; {self.near_best:.0%} of {len(self.starts)} starts within "
            f"0.01 of the best; largest derivative per standard error {self.gradient_norm:.1e}",
            *self._step_line(),
            f"eigenvalues of the Hessian: {', '.join(f'{value:.4g}' for value in self.hessian_eigenvalues)}",
            f"at a bound: {', '.join(self.at_bound) or 'none'}",
            f"identifiability (noise parameters are left out): rank {found.rank} of {len(found.names)} "
            f"({found.practical_rank} above noise), collinearity index {found.collinearity:.3g}; correlated above "
            f"0.95: {alike}",
            f"weakest direction: {found.weakest}",
            self._errors_line(),
        ]
        return "\n".join(lines)

    def _errors_line(self) -> str:
        return ERRORS_NOTE if self.cov_type == "hessian" else CLUSTERED_NOTE.format(n=self.n_entities)

    def _step_line(self) -> list[str]:
        change = self.inputs.get("loglik_change_at_half_step")
        if change is None:
            return []
        how = f"{self.inputs['method']}, step {self.inputs['time_step']:g}"
        line = f"{how}: half the step changes the log likelihood by {change:+.2g}"
        return [line if abs(change) <= STEP_MATTERS else f"WARNING {line}; shorten the step or use rk4"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; NaN becomes None."""
        return {
            "format": _FORMAT,
            "inputs": dict(self.inputs),
            "seed": self.seed,
            "loglik": self.loglik,
            "n_measurements": self.n_measurements,
            "at_bound": list(self.at_bound),
            "converged": self.converged,
            "near_best": self.near_best,
            "gradient_norm": self.gradient_norm,
            "starts": _plain(self.starts),
            "hessian_eigenvalues": _plain(self.hessian_eigenvalues),
            "params": {str(name): _number(value) for name, value in self.params.items()},
            "std_errors": {str(name): _number(value) for name, value in self.std_errors.items()},
            "cov": [_plain(row) for row in self.cov.to_numpy()],
            "transformed": _records(self.transformed.rename_axis("name").reset_index()),
            "transformed_cov": [_plain(row) for row in self.transformed_cov.to_numpy()],
            "residuals": _records(self.residuals),
            "trajectory": _records(self.trajectory),
            "identifiability": self.identifiability.to_dict(),
            "cov_type": self.cov_type,
            "n_entities": self.n_entities,
            "df": self.df,
            "errors": self._errors_line(),
        }

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON; numbers keep every digit."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        write_text(path, text + "\n")


def stored_fit(stored: Any, path: str | Path) -> FitResult:
    """A fit from what `FitResult.to_dict` gave, read from a file."""
    if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
        raise CalibrationError(f"{path}: is not a fit written by this version; it needs format {_FORMAT!r}")
    transformed = pd.DataFrame(stored["transformed"]).set_index("name")
    names = transformed.index
    found = stored["identifiability"]
    return FitResult(
        params=_series(stored["params"]),
        std_errors=_series(stored["std_errors"]),
        cov=pd.DataFrame(np.array(stored["cov"], dtype=float), index=names, columns=names),
        transformed=transformed.astype({"estimate": float, "std_error": float}),
        transformed_cov=pd.DataFrame(np.array(stored["transformed_cov"], dtype=float), index=names, columns=names),
        loglik=stored["loglik"],
        n_measurements=stored["n_measurements"],
        at_bound=tuple(stored["at_bound"]),
        converged=stored["converged"],
        near_best=stored["near_best"],
        starts=np.array([-np.inf if value is None else value for value in stored["starts"]]),
        gradient_norm=stored["gradient_norm"],
        hessian_eigenvalues=np.array(stored["hessian_eigenvalues"], dtype=float),
        residuals=pd.DataFrame(stored["residuals"]),
        trajectory=pd.DataFrame(stored["trajectory"]),
        identifiability=Identifiability(
            tuple(found["names"]), np.array(found["singular_values"]), found["rank"], found["practical_rank"],
            found["collinearity"], found["weakest"], tuple((a, b, r) for a, b, r in found["alike"]),
        ),
        seed=stored["seed"],
        inputs=stored["inputs"],
        cov_type=stored["cov_type"],
        n_entities=stored["n_entities"],
        df=stored["df"],
    )


def _series(values: Mapping[str, float | None]) -> pd.Series[float]:
    numbers = [math.nan if value is None else value for value in values.values()]
    return pd.Series(numbers, index=list(values), dtype=float)


def _short(value: float) -> str:
    return f"{value:.6g}"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(values: Floats) -> list[float | None]:
    return [_number(value) for value in values]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): _number(value) if isinstance(value, float) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]
