"""Effects by cohort and period, their averages, and the influence of every entity on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from villageflow.econometrics.estimate import Diagnostic, Dropped, Estimate
from villageflow.econometrics.staggered.cohorts import Array, Codes, Cohorts, Mask, number
from villageflow.econometrics.staggered.spec import AGGREGATIONS, Aggregation, StaggeredSpec
from villageflow.errors import EstimationError, did_you_mean

Series: TypeAlias = "pd.Series[Any]"
_Found: TypeAlias = "tuple[float, Array]"
"""A value and the influence of every entity on it."""
_CONVENTION_WORDS = {"linearmodels": "linearmodels", "stata": "Stata", "fixest": "fixest"}
_TINY = 1e-10


@dataclass(frozen=True, eq=False)
class Cell:
    """The effect on one cohort in one period.

    Parameters
    ----------
    cohort, time, base : float
        ``base`` is the period that ``time`` is compared with.
    n_treated : int
        Entities of the cohort behind it.
    """

    cohort: float
    time: float
    base: float
    n_treated: int

    @property
    def label(self) -> str:
        return f"g={number(self.cohort)}, t={number(self.time)}"


@dataclass(frozen=True, eq=False)
class GroupTime:
    """Effects by cohort and period.

    Parameters
    ----------
    estimate : Estimate
        One coefficient per cell, named like ``g=2004, t=2006``.
    cells : tuple of Cell
        In the order of the coefficients.
    cohorts : pandas.Series
        First treated time by entity; infinite for the never treated.
    clusters : pandas.Series
        Cluster by entity, from 0 without gaps.
    weights : (entity, cell) array
        1 where an entity counts towards the weight of a cell in an average, else 0: the whole cohort for
        ``group_time``, those observed in the cell for the other methods.
    random_weights : bool
        Whether the weights are estimates of population shares, whose own error enters (as for ``group_time`` and
        ``interaction_weighted``), or the effect is that on the entities at hand (``imputation``).
    """

    estimate: Estimate
    cells: tuple[Cell, ...]
    cohorts: Series
    clusters: Series
    weights: Array
    random_weights: bool

    def __repr__(self) -> str:
        return (
            f"<villageflow.GroupTime: {self.estimate.spec.formula}; {len(self.cells)} effects by cohort and period of "
            f"{self.estimate.n_entities} entities; see estimate.summary() and aggregate()>"
        )

    @property
    def influence(self) -> pd.DataFrame:
        """(entity, cell): how far each entity moves each effect; their sum of squares is the variance."""
        assert self.estimate.influence is not None
        return self.estimate.influence

    @property
    def sizes(self) -> Series:
        """Entities by cohort, infinite for the never treated."""
        return self.cohorts.value_counts().sort_index().rename("entities")

    def aggregate(self, kind: Aggregation) -> Estimate:
        """Averages of the effects, weighted by the entities behind them.

        Parameters
        ----------
        kind : str
            ``dynamic``: by event time e = t - g, named ``e=-3``; ``group``: by cohort over periods from treatment on;
            ``calendar``: by period over cohorts treated by then; ``simple``: one over all cells from treatment on.
            ``dynamic_overall`` is the plain mean over e >= 0, ``calendar_overall`` that over periods,
            ``group_overall`` the mean over cohorts weighted by their entities.

        Returns
        -------
        Estimate
            With the diagnostics ``overall`` (but for a single coefficient) and, for ``dynamic``, ``pre-trends``.
            Does not balance cohorts over event times: at long ones only early cohorts are left.

        Raises
        ------
        EstimationError
            If the kind is not known, or no effect from treatment on was estimated.
        """
        if kind not in AGGREGATIONS:
            raise EstimationError(f"kind={kind!r} is not known. {did_you_mean(str(kind), AGGREGATIONS)}")
        spec = self.estimate.spec
        assert isinstance(spec, StaggeredSpec)
        by, _, overall = kind.partition("_")
        averages = self._averages(by)
        total = self._overall(by, averages)
        if overall or by == "simple":
            return self._estimate(replace(spec, target=kind), {"overall": total})
        names = {key: f"{_SIGN[by]}={number(key)}" for key in averages}
        found = self._estimate(replace(spec, target=kind), {names[key]: found for key, found in averages.items()})
        error = float(np.sqrt(covariance(total[1][:, None], self.clusters.to_numpy(), spec)[0, 0]))
        said = f"standard error {error:.4g}; {_OVERALL_WORDS[by]}"
        diagnostics = {"overall": Diagnostic("overall", total[0], says=said)}
        if by == "dynamic":
            found, tested = with_pretrends(found, [names[e] for e in averages if e < -spec.anticipation])
            diagnostics |= tested
        return replace(found, diagnostics=diagnostics)

    def _averages(self, by: str) -> dict[float, _Found]:
        """Every average, by event time, cohort or period, in order."""
        g = np.array([cell.cohort for cell in self.cells])
        t = np.array([cell.time for cell in self.cells])
        after = t >= g
        if not after.any():
            raise EstimationError(f"{self.estimate.spec.formula}: no effect from treatment on could be estimated.")
        key = {"dynamic": t - g, "group": g, "calendar": t, "simple": 0 * t}[by]
        chosen = np.ones_like(after) if by == "dynamic" else after
        return {float(k): self._mean(chosen & (key == k)) for k in np.unique(key[chosen])}

    def _mean(self, chosen: Mask) -> _Found:
        """Mean of some cells by the entities behind them; with the error of the weights, if they have one."""
        effects, counted = self.estimate.params.to_numpy()[chosen], self.weights[:, chosen]
        return self._weigh(effects, self.influence.to_numpy()[:, chosen], counted)

    def _overall(self, by: str, averages: dict[float, _Found]) -> _Found:
        late = [key for key in averages if by != "dynamic" or key >= 0]
        effects = np.array([averages[key][0] for key in late])
        influence = np.column_stack([averages[key][1] for key in late])
        if by == "group":
            return self._weigh(effects, influence, (self.cohorts.to_numpy()[:, None] == np.array(late)) * 1.0)
        return float(effects.mean()), influence.mean(axis=1)

    def _weigh(self, effects: Array, influence: Array, counted: Array) -> _Found:
        n = counted.sum()
        share = counted.sum(axis=0) / n
        value = float(share @ effects)
        weighting = counted @ (effects - value) / n if self.random_weights else 0.0
        return value, influence @ share + weighting

    def _estimate(self, spec: StaggeredSpec, averages: dict[str, _Found]) -> Estimate:
        influence = np.column_stack([influence for _, influence in averages.values()])
        params = pd.Series({name: value for name, (value, _) in averages.items()}, name="estimate")
        return replace(self.estimate, **_figures(spec, params, influence, self.clusters), diagnostics={})


_SIGN = {"dynamic": "e", "group": "g", "calendar": "t"}
_OVERALL_WORDS = {
    "dynamic": "mean over event times >= 0",
    "group": "mean over cohorts, weighted by entities",
    "calendar": "mean over periods",
}


def group_time(
    spec: StaggeredSpec, sample: Cohorts, cells: tuple[Cell, ...], effects: Array, influence: Array,
    *, weights: Array | None = None, notes: tuple[str, ...] = (),
) -> GroupTime:  # fmt: skip
    """The result of a method from its effects (cell,) and influences (entity, cell).

    ``weights`` as in `GroupTime`; the whole cohort by default.
    """
    g = np.array([cell.cohort for cell in cells])
    if weights is None:
        weights = (sample.cohort[:, None] == g) * 1.0
    params = pd.Series(effects, index=[cell.label for cell in cells], name="estimate")
    clusters = pd.Series(sample.clusters, index=sample.entities)
    found = Estimate(
        **_figures(replace(spec, target="group_time"), params, influence, clusters),
        nobs=int(sample.observed.sum()), n_entities=int(sample.observed.any(axis=1).sum()),
        n_periods=int(sample.observed.any(axis=0).sum()), n_clusters=sample.n_clusters, dropped=sample.dropped,
        notes=(*sample.notes, *notes),
    )  # fmt: skip
    early = [cell.label for cell in cells if cell.time < cell.cohort - spec.anticipation]
    found = replace(found, diagnostics=with_pretrends(found, early)[1])
    cohorts = pd.Series(sample.cohort, index=sample.entities)
    return GroupTime(found, cells, cohorts, clusters, weights, random_weights=spec.method != "imputation")


def covariance(influence: Array, clusters: Codes, spec: StaggeredSpec) -> Array:
    """Covariance from influences (entity, term), added up within clusters."""
    n = int(clusters.max()) + 1
    sums = np.column_stack([np.bincount(clusters, column, n) for column in influence.T])
    factor = 1.0 if spec.convention == "linearmodels" else n / (n - 1)
    return np.asarray(sums.T @ sums * factor)


def with_pretrends(found: Estimate, early: list[str]) -> tuple[Estimate, dict[str, Diagnostic]]:
    """The joint test of the effects before treatment; a note where there is none."""
    if not early:
        said = "no effect before treatment is estimated, so trends before it are not tested"
    elif float(found.std_errors[early].min()) <= _TINY * float(found.params.abs().max()):
        said = "trends before treatment are not tested: an effect there has no error"
    else:
        try:
            test = found.wald(early, name="pre-trends")
            return found, {"pre-trends": replace(test, says="effects before treatment = 0")}
        except EstimationError:
            said = f"trends before treatment are not tested: {found.n_clusters} clusters for {len(early)} effects"
    return replace(found, notes=(*found.notes, said)), {}


def not_estimated(reasons: list[tuple[str, str]], shown: int = 6) -> tuple[str, ...]:
    """A note that lists cells without an estimate, each with its reason."""
    if not reasons:
        return ()
    listed = "; ".join(f"{label} ({reason})" for label, reason in reasons[:shown])
    more = f"; and {len(reasons) - shown} more" if len(reasons) > shown else ""
    return (f"{len(reasons)} effect{'s are' if len(reasons) > 1 else ' is'} not estimated: {listed}{more}",)


def count_unused(sample: Cohorts, used: Mask) -> Cohorts:
    """The sample with the observations that enter no comparison dropped and counted, entities kept."""
    n = int((sample.observed & ~used).sum())
    if not n:
        return sample
    dropped = (*sample.dropped, Dropped(n, "in no comparison"))
    return replace(sample, y=np.where(used, sample.y, np.nan), dropped=dropped)


def _figures(spec: StaggeredSpec, params: Series, influence: Array, clusters: Series) -> dict[str, Any]:
    """Coefficients and all that follows from their influences."""
    terms = params.index
    cov = covariance(influence, clusters.to_numpy(), spec)
    return {
        "spec": spec,
        "params": params,
        "cov": pd.DataFrame(cov, index=terms, columns=terms),
        "cov_label": (
            f"influence functions {spec.cov_type.words}, {_CONVENTION_WORDS[spec.convention]} convention, "
            f"t({clusters.max()})"
        ),
        "df": float(clusters.max()),  # clusters less one
        "influence": pd.DataFrame(influence, index=clusters.index, columns=terms),
    }
