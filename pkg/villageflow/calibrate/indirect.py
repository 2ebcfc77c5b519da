"""Indirect inference: parameters whose simulated panels give the same regressions and means as the real one.

The auxiliary model may be biased. It is biased in the same way on both sides, so that the bias cancels. Simulated
moments are the same with an auxiliary model of plain means and deviations.

References
----------
.. [Gourieroux1993] C. Gourieroux, A. Monfort and E. Renault, "Indirect inference", Journal of Applied Econometrics 8
   (1993).
.. [Gourieroux2010] C. Gourieroux, P. C. B. Phillips and J. Yu, "Indirect inference for dynamic panel models", Journal
   of Econometrics 157 (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from villageflow.calibrate.climb import OnRound
from villageflow.calibrate.descent import Nearest, box_of, descend, hypercube, slopes
from villageflow.calibrate.draws import is_number
from villageflow.calibrate.matched import IndirectResult, weighted_chi2
from villageflow.calibrate.moments import Auxiliary, Moments
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import checked_seed, whole
from villageflow.datasets.terms import check_index
from villageflow.errors import CalibrationError, VillageflowError, did_you_mean

Bools: TypeAlias = npt.NDArray[np.bool_]
Weights: TypeAlias = Literal["diagonal", "identity", "optimal"]
WEIGHTS: Final[tuple[Weights, ...]] = ("diagonal", "identity", "optimal")
STEP: Final = 0.005
"""Of the differences, in widths of a parameter's range on its scale."""

_NULL: Final = 1e-5
_FEW: Final = 10
_ROUGH: Final = 0.1
_NEAR: Final = 1e-2
_APART: Final = 0.05


@runtime_checkable
class Simulator(Protocol):
    """What makes panels like the real one from parameters.

    A simulated panel has the entities, times and exogenous columns of the real one and has passed through the same
    selection, missingness and measurement. The draws behind a simulation are common random numbers: fixed once, the
    same for all parameters, and not dependent on what else is simulated in the call. A moment must be smooth in the
    parameters: replace a discrete draw by its expectation or by a smoothed draw, or declare a step over which many
    draws change.

    A simulator that has a parameter table as its attribute ``parameters`` is asked with values in the order of that
    table, whatever the order of the table of `indirect_inference`; both must have the same names.
    """

    @property
    def n_simulations(self) -> int:
        """Panels for each parameter vector, S."""

    def panels(self, values: Floats) -> Sequence[Sequence[pd.DataFrame]]:
        """S panels for each row of an (n, p) array of natural values, columns in the order of the parameters.

        Where the model cannot be simulated, a panel has blank cells: what cannot be measured on it counts as a failure.
        """


def indirect_inference(
    simulator: Simulator,
    auxiliary: Auxiliary,
    panel: pd.DataFrame,
    parameters: pd.DataFrame,
    *,
    weights: Weights = "diagonal",
    seed: int,
    starts: int = 8,
    step: float = STEP,
    progress: OnRound | None = None,
) -> IndirectResult:
    """Estimate parameters by matching the moments of simulated panels to those of the real one.

    Parameters
    ----------
    simulator : Simulator
        Makes panels from parameters, with common random numbers.
    auxiliary : Auxiliary
        The moments, at least as many as parameters.
    panel : pandas.DataFrame
        The real one, indexed (entity, time).
    parameters : pandas.DataFrame
        Rows with name, scale (``lin``, ``log``, ``logit``), lower, upper. If the simulator has a table of its own, the
        names must be those; rows are put in its order, scales and bounds may differ.
    weights : {"diagonal", "identity", "optimal"}
        One over the variance of each moment, ones, or the inverse of their covariance. The last one is efficient
        and needs many more clusters than moments.
    seed : int
        Of the starts; the simulator's draws have their own.
    starts : int
        Latin hypercube starts over the bounds on the transformed scale.
    step : float
        Of all differences, in widths of a parameter's range on its scale, at most 0.1; much larger than the noise of
        the simulated moments.
    progress : callable, optional
        Called after each round of the search with its number, the starts still walking and the smallest distance.

    Returns
    -------
    IndirectResult

    Raises
    ------
    CalibrationError
        Fewer moments than parameters, a choice that is not known, other parameters than those of the simulator, draws
        that are not common to all calls, simulated panels that share no entity or no time with the real one, a
        panel without a covariance of its moments, or an auxiliary model that runs at no start.

    Notes
    -----
    ``theta = argmin g' W g`` with ``g = b - b_S(theta)``, b the moments of the panel and b_S the mean over S simulated
    panels. With J the derivative of b_S and V the covariance of b, the covariance of the estimate is
    ``L V L' (1 + 1/S)`` with the sensitivity matrix ``L = (J'WJ)^-1 J'W`` [Andrews2017]_. It takes the simulator as
    true for the moments used, which ``S/(1+S) g'Wg`` tests if there are more moments than parameters: chi-squared
    under optimal weights, else a weighted sum of chi-squared.

    A parameter vector at which the auxiliary model cannot be run on one of the panels is taken as infinitely far.

    References
    ----------
    .. [Andrews2017] I. Andrews, M. Gentzkow and J. M. Shapiro, "Measuring the sensitivity of parameter estimates to
       estimation moments", Quarterly Journal of Economics 132 (2017).

    Examples
    --------
    >>> result = indirect_inference(simulator, auxiliary, panel, parameters, seed=1)  # doctest: +SKIP
    >>> print(result.summary())  # doctest: +SKIP
    """
    _check_types(simulator, auxiliary, panel, progress)
    _check_choices(weights, starts, step)
    seed, box = checked_seed(seed), _in_order(box_of(parameters), simulator)
    observed = auxiliary.estimate(panel)
    if len(observed.values) < box.size:
        raise CalibrationError(
            f"{len(observed.values)} moments for {box.size} parameters: not identified. Add moments, or fix parameters."
        )
    binding = _Binding(simulator, auxiliary, observed, box)
    binding.check_draws(hypercube(box.size, starts, seed), panel)
    root = _root(weights, observed)

    def residuals(unit: Floats) -> Floats:
        return np.asarray((binding.mean(unit) - observed.values.to_numpy()) @ root)

    found = descend(residuals, box.size, starts=starts, seed=seed, step=step, progress=progress)
    if not np.isfinite(found.value):
        raise CalibrationError(
            f"the auxiliary model could not be run on simulated panels at any of {starts} starts "
            f"({binding.first_failure}). Narrow the bounds or change the auxiliary model."
        )
    return _result(binding, found, root, weights, seed, step)


def _check_types(simulator: object, auxiliary: object, panel: object, progress: object) -> None:
    if isinstance(simulator, type) or not isinstance(simulator, Simulator):
        raise CalibrationError(
            f"simulator is {_kind(simulator)}, which has no panels and n_simulations; give an EnsembleSimulator"
        )
    if not isinstance(auxiliary, Auxiliary):
        raise CalibrationError(f"auxiliary is {_kind(auxiliary)}; give an Auxiliary with the moments to match")
    if not isinstance(panel, pd.DataFrame):
        raise CalibrationError(f"panel is {_kind(panel)}; give a DataFrame indexed (entity, time)")
    check_index(panel, CalibrationError)
    if progress is not None and not callable(progress):
        raise CalibrationError(f"progress is {_kind(progress)}; give a function, or None")


def _kind(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"


def _check_choices(weights: object, starts: object, step: object) -> None:
    if weights not in WEIGHTS:
        raise CalibrationError(f"weights={weights!r} is not known. {did_you_mean(str(weights), WEIGHTS)}")
    whole("starts", starts, 1)
    if not is_number(step) or not 0 < step <= 0.1:
        raise CalibrationError(f"step is {step!r}; it is a share of a parameter's range, above 0 and at most 0.1")


def _in_order(box: Box, simulator: Simulator) -> Box:
    """The box with its parameters in the order in which the simulator reads them, if it says."""
    own = getattr(simulator, "parameters", None)
    if not isinstance(own, pd.DataFrame):
        return box
    names = box_of(own).names
    for name in (*names, *box.names):
        if (name in names) != (name in box.names):
            where, other = ("the simulator", "parameters") if name in names else ("parameters", "the simulator")
            raise CalibrationError(
                f"{name!r} is a parameter of {where} and not of {other}; both tables need the same names"
            )
    order = [box.names.index(name) for name in names]
    return Box(names, tuple(box.scales[j] for j in order), box.lower[order], box.upper[order])


def _root(weights: Weights, observed: Moments) -> Floats:
    """R with W = R R'."""
    if weights == "identity":
        return np.eye(len(observed.values))
    if weights == "diagonal":
        return np.diag(1 / observed.std_errors.to_numpy())
    spread = observed.std_errors.to_numpy()
    correlation = observed.cov.to_numpy() / np.outer(spread, spread)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(correlation)).T / spread[:, None])


class _Binding:
    """Simulated moments at points of the unit box, and what failed on the way."""

    def __init__(self, simulator: Simulator, auxiliary: Auxiliary, observed: Moments, box: Box) -> None:
        self.simulator, self.auxiliary, self.observed, self.box = simulator, auxiliary, observed, box
        self.n_simulations = whole("n_simulations of the simulator", simulator.n_simulations, 1)
        self.n_panels = self.n_failures = 0
        self.first_failure = self.other_rows = ""

    def check_draws(self, points: Floats, real: pd.DataFrame) -> None:
        """Refuse a simulator whose panels differ between two calls or are of other entities or times than the real one.

        Where only some rows differ, that is taken down.
        """
        once, both = self._panels(points[:1])[0], self._panels(points[[0, -1]])
        again = both[0]
        for some in (once, *both):
            for one in some:
                if not isinstance(one, pd.DataFrame):
                    raise CalibrationError(f"the simulator gave {_kind(one)} as a panel; it must give DataFrames")
                check_index(one, CalibrationError)
        # all of them together: what one simulation selects need not be what another one or reality does
        _check_overlap(real, [one.index for some in both for one in some if len(one)])
        for number, (one, other) in enumerate(zip(once, again, strict=True), start=1):
            if not one.equals(other):
                values = self.box.natural(points[0])
                at = ", ".join(f"{name} = {value:.4g}" for name, value in zip(self.box.names, values, strict=True))
                raise CalibrationError(
                    f"simulated panel {number} at {at} differs between two calls of {type(self.simulator).__name__}: "
                    "its random numbers are not common to all calls. Draw them once, before the search."
                )
            n_absent, n_new = len(real.index.difference(one.index)), len(one.index.difference(real.index))
            if (n_absent or n_new) and not self.other_rows:
                self.other_rows = (
                    f"simulated panel {number} lacks {n_absent} rows of the real one and has {n_new} that it lacks; "
                    "the selection of both must be the same"
                )

    def mean(self, unit: Floats) -> Floats:
        """Mean over the panels, (n, m); NaN where the auxiliary model could not be run on one of them."""
        return np.asarray(self.moments(unit).mean(axis=1))

    def moments(self, unit: Floats) -> Floats:
        """Moments of every panel, (n, S, m)."""
        names = self.observed.values.index
        result = np.full((len(unit), self.n_simulations, len(names)), np.nan)
        for i, panels in enumerate(self._panels(unit)):
            for s, panel in enumerate(panels):
                self.n_panels += 1
                try:
                    values = self.auxiliary.values(panel)
                    if not values.index.equals(names):
                        raise CalibrationError(f"the moments are {', '.join(map(str, values.index))}")
                    if not np.isfinite(values.to_numpy()).all():
                        raise CalibrationError(f"moment {values.index[~np.isfinite(values)][0]!r} is not finite")
                    result[i, s] = values.to_numpy()
                except VillageflowError as cause:
                    self.n_failures += 1
                    self.first_failure = self.first_failure or str(cause).rstrip(".")
        return result

    def _panels(self, unit: Floats) -> Sequence[Sequence[pd.DataFrame]]:
        panels = self.simulator.panels(self.box.natural(unit))
        if not isinstance(panels, Sequence) or not all(isinstance(some, Sequence) for some in panels):
            raise CalibrationError("the simulator must give a list of panels for each parameter vector")
        sizes = [len(some) for some in panels]
        if sizes != [self.n_simulations] * len(unit):
            raise CalibrationError(
                f"the simulator gave {sizes} panels for {len(unit)} parameter vectors; it declares "
                f"{self.n_simulations} for each"
            )
        return panels


def _check_overlap(real: pd.DataFrame, simulated: list[pd.Index[Any]]) -> None:
    """Refuse simulated panels that have no entity or no time of the real one."""
    for level, word in enumerate(("entity", "time")):
        ours = real.index.unique(level)
        theirs = [index.unique(level) for index in simulated]
        if theirs and not any(ours.isin(labels).any() for labels in theirs):
            raise CalibrationError(
                f"the simulated panels have no {word} of the real one, which has {ours.tolist()[0]!r} where they have "
                f"{theirs[0].tolist()[0]!r}; simulate the entities and times of the real panel, under the same labels"
            )


# --- what the nearest point says ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Near:
    """The simulated moments near the estimate, to first order; parameters in widths of their range.

    Attributes
    ----------
    slopes : (m, p) array
        0 for what a bound holds.
    lever : (p, m) array
        What the estimate makes of a change of the observed moments; 0 for what a bound holds.
    singular : array
        Of the slopes in errors of the moments, without what a bound holds.
    rank : int
    null : str
        Directions beyond the rank, in words.
    kink : float
        How much the slopes change with the step, as a share of the largest of each parameter.
    """

    slopes: Floats
    lever: Floats
    singular: Floats
    rank: int
    null: str
    kink: float


def _near(binding: _Binding, found: Nearest, centre: Floats, root: Floats, step: float) -> _Near:
    point, free = found.unit[None, :], ~found.held
    once, twice = (slopes(binding.mean, point, centre[None, :], h)[0] for h in (step, 2 * step))
    inner = (4 * once - twice) / 3 * free  # the error of the step of order two cancels
    errors = binding.observed.std_errors.to_numpy()[:, None]
    _, singular, directions = np.linalg.svd(inner[:, free] / errors)
    rank = int(np.sum(singular > _NULL * max(singular.max(initial=0.0), 1e-300)))
    lever = np.zeros(inner.T.shape)
    lever[free] = np.linalg.pinv(root.T @ inner[:, free], rcond=_NULL) @ root.T
    change, size = (np.abs(item[:, free] / errors).max(axis=0, initial=0.0) for item in (once - twice, once))
    kink = float(np.max(change / np.where(size > 0, size, 1.0), initial=0.0))
    null = "; ".join(_words(binding.box.names, free, direction) for direction in directions[rank:])
    return _Near(inner, lever, singular, rank, null, kink)


def _result(
    binding: _Binding, found: Nearest, root: Floats, weights: Weights, seed: int, step: float
) -> IndirectResult:
    box, observed, factor = binding.box, binding.observed, 1 + 1 / binding.n_simulations
    unit, errors, cov = found.unit, observed.std_errors.to_numpy(), observed.cov.to_numpy()
    natural = np.where(unit == 0, box.lower, np.where(unit == 1, box.upper, box.natural(unit)))
    simulated = binding.moments(unit[None, :])[0]
    centre = simulated.mean(axis=0)
    gap = observed.values.to_numpy() - centre
    near = _near(binding, found, centre, root, step)
    scale = box.width * box.slope(natural)
    sensitivity = near.lever * scale[:, None]
    known = ~found.held & (not near.null)
    spread = np.where(np.outer(known, known), sensitivity @ cov @ sensitivity.T * factor, np.nan)
    distance, df = float(np.sum((root.T @ gap) ** 2)) / factor, len(gap) - near.rank
    left = root.T @ (np.eye(len(gap)) - near.slopes @ near.lever)
    mix = np.ones(df) if weights == "optimal" else np.linalg.eigvalsh(left @ cov @ left.T)[::-1][:df]
    close = found.values <= found.value + _NEAR * (np.mean(errors**2) if weights == "identity" else 1.0)
    names, of_moments = pd.Index(box.names, name="parameter"), observed.values.index
    ends = pd.DataFrame(box.natural(found.ends), columns=list(box.names)).rename_axis("start")
    return IndirectResult(
        params=pd.Series(natural, index=names, name="estimate"),
        cov=pd.DataFrame(spread, index=names, columns=names),
        box=box,
        moments=pd.DataFrame({
            "observed": observed.values, "simulated": centre, "std_error": errors,
            "gap": gap / (errors * np.sqrt(factor)),
            "simulated_sd": simulated.std(axis=0, ddof=1) if len(simulated) > 1 else np.nan,
        }),
        j_statistic=distance,
        df=df,
        p_value=weighted_chi2(distance, mix) if df else None,
        jacobian=pd.DataFrame(near.slopes / scale, index=of_moments, columns=names),
        sensitivity=pd.DataFrame(sensitivity, index=names, columns=of_moments),
        singular_values=near.singular,
        rank=near.rank,
        null_direction=near.null,
        at_bound=tuple(name for name, held in zip(box.names, found.held, strict=True) if held),
        weights=weights,
        n_simulations=binding.n_simulations,
        n_clusters=observed.n_clusters,
        cluster=observed.cluster,
        seed=seed,
        step=step,
        starts=ends.assign(distance=found.values, reached_best=close),
        converged=found.converged,
        n_panels=binding.n_panels,
        n_failures=binding.n_failures,
        first_failure=binding.first_failure,
        notes=_notes(binding, found, found.ends[close], near),
    )


def _words(names: tuple[str, ...], free: Bools, direction: Floats) -> str:
    """A direction in which no moment moves, in words."""
    part = np.zeros(len(names))
    part[free] = direction
    leading = np.argsort(-np.abs(part), kind="stable")
    sign = np.sign(part[leading[0]])
    return " with ".join(
        f"{names[j]} {'up' if sign * part[j] > 0 else 'down'}"
        for j in leading if abs(part[j]) >= 0.01 * abs(part[leading[0]])
    )


def _notes(binding: _Binding, found: Nearest, close: Floats, near: _Near) -> tuple[str, ...]:
    n, notes = binding.n_simulations, [binding.other_rows] if binding.other_rows else []
    if n < _FEW:
        notes.append(f"{n} simulated panels; below {_FEW} they add more than a tenth to the variance")
    if near.kink > _ROUGH:
        notes.append(
            f"derivatives change by {near.kink:.0%} when the step doubles: the simulated moments are not smooth or "
            "bend within a step, so that errors are rough. Smooth the draws, or change the step."
        )
    if near.rank and not near.null:
        if near.singular[-1] < 1:
            notes.append(
                f"weak: in one direction the whole range of the parameters moves the moments by "
                f"{near.singular[-1]:.2g} errors; add a moment or fix a parameter"
            )
        if float(np.abs(close - found.unit).max()) > _APART:
            notes.append("starts ended far apart with the same distance: the moments do not tell the ends apart")
    if found.held.any():
        notes.append("errors and J take what a bound holds as known")
    if not found.converged:
        notes.append("the search has not settled; use more starts or a larger step")
    return tuple(notes)
