"""What matched moments say: estimates, errors, the distance that is left, and which moment moves which parameter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.stored import save_fields
from villageflow.econometrics.estimate import Series
from villageflow.errors import CalibrationError

FORMAT: Final = "villageflow indirect inference 1"
FEW_CLUSTERS: Final = 50
"""Clusters below which intervals use t with one degree of freedom less than there are clusters."""

_N_TERMS: Final = 200_000


@dataclass(frozen=True, eq=False)
class IndirectResult:
    """An estimate by indirect inference.

    Attributes
    ----------
    params : Series
        Estimates in natural units.
    cov : DataFrame
        Their covariance, with the factor 1 + 1/S; NaN for what a bound holds, and everywhere if the moments do not
        identify the parameters.
    box : Box
        Parameters with scale and bounds.
    moments : DataFrame
        By moment: ``observed``, ``simulated`` (mean over the panels at the estimate), ``std_error`` (of the observed
        one), ``gap`` (observed less simulated over the error of both), ``simulated_sd`` (between the simulated
        panels: far from std_error, the simulator's noise is not that of the panel).
    j_statistic : float
        S/(1+S) times the weighted distance.
    df : int
        Moments less rank.
    p_value : float or None
        Of the distance, if the simulator is right; None without over-identification.
    jacobian : DataFrame
        (moment, parameter): derivatives of the simulated moments in natural units; 0 for what a bound holds.
    sensitivity : DataFrame
        (parameter, moment): how far an estimate moves for one unit of the observed moment.
    singular_values : array
        Of the Jacobian in errors of the moments per width of each parameter's range, falling; without what a bound
        holds.
    rank : int
        Number of singular values above 1e-5 of the largest.
    null_direction : str
        The direction that no moment sees, in words; blank if there is none.
    at_bound : tuple of str
        Parameters that a bound holds.
    weights : str
    n_simulations : int
        S.
    n_clusters : int
        G.
    cluster : str
    seed : int
    step : float
        Of the differences, in widths of a range.
    starts : DataFrame
        By start: where it ended in natural units, ``distance`` and ``reached_best``.
    converged : bool
    n_panels, n_failures : int
        Simulated panels on which the auxiliary model was run, and on which it could not be.
    first_failure : str
        Why; blank without failure.
    notes : tuple of str
    """

    params: Series
    cov: pd.DataFrame
    box: Box
    moments: pd.DataFrame
    j_statistic: float
    df: int
    p_value: float | None
    jacobian: pd.DataFrame
    sensitivity: pd.DataFrame
    singular_values: Floats
    rank: int
    null_direction: str
    at_bound: tuple[str, ...]
    weights: str
    n_simulations: int
    n_clusters: int
    cluster: str
    seed: int
    step: float
    starts: pd.DataFrame
    converged: bool
    n_panels: int
    n_failures: int
    first_failure: str
    notes: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write everything as JSON, which `villageflow.load_fit` reads back to the last bit."""
        save_fields(self, FORMAT, path)

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name} = {value:.4g} ({error:.2g})"
            for name, value, error in zip(self.params.index, self.params, self.std_errors, strict=True)
        )
        return f"<villageflow.IndirectResult: {len(self.moments)} moments\n {values}; see summary()>"

    @property
    def std_errors(self) -> Series:
        """Square roots of the diagonal of `cov`."""
        return pd.Series(np.sqrt(np.diag(self.cov)), index=self.params.index, name="std_error")

    @property
    def reference(self) -> str:
        """The distribution of the intervals: t below 50 clusters, else normal."""
        return f"t({self.n_clusters - 1})" if self.n_clusters < FEW_CLUSTERS else "normal"

    @property
    def condition(self) -> float:
        """Largest over smallest singular value; infinite if the rank is not full."""
        if self.null_direction or not len(self.singular_values):
            return float("inf")
        return float(self.singular_values[0] / self.singular_values[-1])

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Confidence intervals, (parameter, [lower, upper]), each by itself.

        Parameters
        ----------
        level : float
            Strictly between 0 and 1.

        Returns
        -------
        DataFrame
            Symmetric on the parameter's scale and carried to natural units; not cut at the bounds. NaN where there
            is no standard error.
        """
        if not 0 < level < 1:
            raise CalibrationError(f"level is {level}; it must be between 0 and 1, such as 0.95")
        known = stats.t(self.n_clusters - 1) if self.n_clusters < FEW_CLUSTERS else stats.norm()
        natural = self.params.to_numpy(dtype=float)
        centre = self.box.transformed(natural)
        reach = known.ppf(0.5 + level / 2) * self.std_errors.to_numpy(dtype=float) / self.box.slope(natural)
        ends = {"lower": self._back(centre - reach), "upper": self._back(centre + reach)}
        return pd.DataFrame(ends, index=self.params.index)

    def _back(self, transformed: Floats) -> Floats:
        inverse = {"lin": float, "log": np.exp, "logit": expit}
        return np.array([inverse[scale](value) for scale, value in zip(self.box.scales, transformed, strict=True)])

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """One row per parameter: estimate, std_error, lower, upper (of the interval), at_bound."""
        at_bound = pd.Series(self.params.index.isin(self.at_bound), index=self.params.index, name="at_bound")
        return pd.concat([self.params, self.std_errors, self.conf_int(level), at_bound], axis=1)

    def summary(self, level: float = 0.95) -> str:
        """Estimates and moments as text, with what a reader needs to judge them."""
        tested = "no more moments than parameters: nothing left to test"
        if self.p_value is not None:
            kind = f"chi2({self.df})" if self.weights == "optimal" else f"weighted chi2({self.df})"
            tested = f"{self.j_statistic:.4g}, {kind}, p = {self.p_value:.4g}"
        lines = [
            f"Indirect inference: {len(self.moments)} moments, {len(self.params)} parameters, {self.weights} weights, "
            f"{self.n_simulations} simulated panels",
            self.to_frame(level).to_string(float_format="{:.6g}".format),
            f"intervals: {level:.0%}, {self.reference}; {self.n_clusters} clusters ({self.cluster})",
            self.moments.to_string(float_format="{:.6g}".format),
            "move of each estimate for one std_error of each observed moment:",
            (self.sensitivity * self.moments["std_error"]).T.to_string(float_format="{:.3g}".format),
            f"J: {tested}",
            f"identification: rank {self.rank} of {len(self.singular_values)}, condition {self.condition:.3g}; "
            f"at a bound: {', '.join(self.at_bound) or 'none'}",
        ]
        if self.null_direction:
            lines.append(f"NOT IDENTIFIED: {self.null_direction} moves no moment; no errors are given")
        lines += [
            f"search: {'settled' if self.converged else 'NOT settled'}; {int(self.starts['reached_best'].sum())} of "
            f"{len(self.starts)} starts reached the best (seed {self.seed}, step {self.step:g} of a range)",
            f"auxiliary model not run: {self.n_failures} of {self.n_panels} simulated panels"
            + (f" (first: {self.first_failure})" if self.n_failures else ""),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def weighted_chi2(value: float, weights: Floats) -> float:
    """Probability that a weighted sum of independent chi-squared variables, one degree each, exceeds a value.

    Parameters
    ----------
    value : float
        Of 0 or more.
    weights : (k,) array
        Positive. Equal ones give the chi-squared distribution with k degrees of freedom.

    Returns
    -------
    float
        By inversion of the characteristic function, right to about 1e-5.

    References
    ----------
    Imhof (1961); Davies (1973) for the error of the grid.
    """
    largest = float(weights.max())
    if largest <= 0:
        return float(value <= 0)
    shares, at = np.maximum(weights, 0.0) / largest, value / largest
    if np.ptp(shares) < 1e-9:
        return float(stats.chi2.sf(at, len(shares)))
    grid = (np.arange(_N_TERMS) + 0.5) * 2 * np.pi / (at + 40 + 10 * shares.sum())
    angle = 0.5 * (sum(np.arctan(2 * share * grid) for share in shares)) - grid * at
    size = np.exp(-0.25 * sum(np.log1p((2 * share * grid) ** 2) for share in shares))
    return float(np.clip(0.5 + np.sum(np.sin(angle) * size / (np.arange(_N_TERMS) + 0.5)) / np.pi, 0.0, 1.0))
