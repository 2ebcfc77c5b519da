"""Policies compared over an ensemble: the same draws under every scenario, so that differences are paired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from villageflow.calibrate.scales import Floats
from villageflow.ensemble.schema import FINISHED, MEMBER, QUANTILE, SCENARIO, STATUS, TIME
from villageflow.ensemble.summarize import QUANTILES
from villageflow.errors import CalibrationError, did_you_mean
from villageflow.names import scalar_id

_SE: Final = "_se"

Variable: TypeAlias = tuple[tuple[str, ...], Floats, dict[str, str]]


@dataclass(frozen=True, eq=False)
class PolicyEnsemble:
    """Reductions of a policy ensemble over its members.

    Attributes
    ----------
    fans : Dataset
        For each saved variable its quantiles over members, dims (quantile, scenario, time) and those of an array, its
        ``<name>_mean``, and the Monte Carlo standard errors of both as ``<name>_se`` and ``<name>_mean_se``.
    differences : Dataset
        The same for each policy less the baseline, member by member, and ``<name>_share_above``: the share of members
        in which the policy is above the baseline. Quantiles of differences, not differences of quantiles.
    baseline : str
    n_members : int
        Members that count: finished under every scenario, with a weight above 0.
    n_effective : float
        ``(sum w)^2 / sum w^2``; equals `n_members` without weights.
    unfinished : int
        Members left out of every scenario because a run of theirs did not stay finite.
    """

    fans: xr.Dataset
    differences: xr.Dataset
    baseline: str
    n_members: int
    n_effective: float
    unfinished: int

    def __repr__(self) -> str:
        others = ", ".join(str(name) for name in self.differences[SCENARIO].to_numpy())
        variables = ", ".join(_names(self.fans))
        return (
            f"<villageflow.PolicyEnsemble: {self.n_members} members, {others or 'nothing'} against {self.baseline}, of "
            f"{variables}; {self.unfinished} members left out; see fans, differences and at(time)>"
        )

    def at(self, time: float) -> pd.DataFrame:
        """Quantiles and means at one saved time, and the differences to the baseline, one row each.

        Returns
        -------
        DataFrame
            Columns variable, scenario, what (level or difference), statistic, value, std_error. Each element of an
            array is a variable of its own, such as ``firms[maker]``.
        """
        rows = []
        for what, found in (("level", self.fans), ("difference", self.differences)):
            if not np.isclose(found[TIME].to_numpy(), time).any():
                raise CalibrationError(f"time {time:g} is not a saved time of the ensemble; use one of its times")
            now = found.sel({TIME: time}, method="nearest")
            for name in _names(found):
                for (element, place), scenario in product(_elements(now, name), now[SCENARIO].to_numpy()):
                    here = now.sel({SCENARIO: scenario, **place})
                    entries = [
                        (f"q{100 * float(level):02.0f}", here[name].sel({QUANTILE: level}),
                         here[name + _SE].sel({QUANTILE: level}))
                        for level in here[QUANTILE].to_numpy()
                    ]
                    entries.append(("mean", here[f"{name}_mean"], here[f"{name}_mean{_SE}"]))
                    here_is = (element, str(scenario), what)
                    rows += [(*here_is, label, float(value), float(error)) for label, value, error in entries]
        return pd.DataFrame(rows, columns=["variable", "scenario", "what", "statistic", "value", "std_error"])


def compare_policies(
    runs: xr.Dataset,
    *,
    baseline: str = "baseline",
    quantiles: Sequence[float] = QUANTILES,
    weights: Floats | None = None,
) -> PolicyEnsemble:
    """Reduce the runs of several scenarios over the same members.

    Parameters
    ----------
    runs : Dataset
        Result of `simulate` for a design with scenarios, with ``errors="flag"`` where members may fail.
    baseline : str
        Scenario that the others are compared with.
    quantiles : sequence of float
        Strictly between 0 and 1, rising.
    weights : (n_members,) array, optional
        Not negative; need not add up to 1. Default equal weights.

    Returns
    -------
    PolicyEnsemble

    Raises
    ------
    CalibrationError
        No such baseline, quantiles or weights out of order, or no member that stays finite under every scenario.

    Notes
    -----
    Standard errors are those of independent draws: for a mean the weighted standard deviation over the root of the
    effective number; for a quantile half the distance between the quantiles one binomial standard error on either
    side. For a Latin hypercube they are too large, if anything. They hold sampling of the members only.
    """
    if SCENARIO not in runs.dims:
        raise CalibrationError("the runs have no scenarios to compare; give the design some with with_scenarios")
    names = [str(name) for name in runs[SCENARIO].to_numpy()]
    if baseline not in names:
        raise CalibrationError(f"there is no scenario {baseline!r} to compare with. {did_you_mean(baseline, names)}")
    levels = np.asarray(quantiles, dtype=float)
    if not len(levels) or levels.min() <= 0 or levels.max() >= 1 or (np.diff(levels) <= 0).any():
        raise CalibrationError(f"quantiles are {tuple(quantiles)}; they must rise and lie between 0 and 1")
    weight = _weights(weights, runs.sizes[MEMBER])
    finished = (runs[STATUS].to_numpy() == FINISHED).all(axis=0)
    counted = finished & (weight > 0)
    weight = weight[counted]
    if not len(weight):
        raise CalibrationError(
            "no member with weight stays finite under every scenario; shorten the time step or narrow the prior"
        )
    variables = [str(name) for name in runs.data_vars if name != STATUS]
    own = {name: tuple(map(str, runs[name].dims[3:])) for name in variables}
    elements = {dim: runs[dim] for dims in own.values() for dim in dims}
    others = [name for name in names if name != baseline]
    fans: dict[str, Variable] = {}
    differences: dict[str, Variable] = {}
    for name in variables:
        values = runs[name].to_numpy()[:, counted]
        attributes = dict(runs[name].attrs)
        fans |= _reduced(name, values, weight, levels, attributes, own[name])
        base = values[[names.index(baseline)]]
        gaps = values[[names.index(other) for other in others]] - base
        differences |= _reduced(name, gaps, weight, levels, attributes, own[name])
        higher = np.where(np.isnan(gaps), np.nan, gaps > 0)
        above: Floats = np.einsum("sm...,m->s...", higher, weight / weight.sum())
        differences[f"{name}_share_above"] = ((SCENARIO, TIME, *own[name]), above, {"units": "1"})
    coords = {QUANTILE: levels, TIME: runs[TIME], **elements}
    return PolicyEnsemble(
        fans=xr.Dataset(fans, coords={**coords, SCENARIO: names}, attrs=runs.attrs),
        differences=xr.Dataset(
            differences, coords={**coords, SCENARIO: others}, attrs={**runs.attrs, "baseline": baseline}
        ),
        baseline=baseline,
        n_members=int(counted.sum()),
        n_effective=_effective(weight),
        unfinished=int((~finished).sum()),
    )


def _names(found: xr.Dataset) -> list[str]:
    return [str(name) for name in found.data_vars if f"{name}_mean" in found]


def _elements(found: xr.Dataset, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The ids of an array's elements with their places in it, those that the model does not define left out."""
    mean = found[f"{name}_mean"]
    own = [str(dim) for dim in mean.dims if dim != SCENARIO]
    for place in product(*(map(str, mean[dim].to_numpy()) for dim in own)):
        at = dict(zip(own, place, strict=True))
        if not own or not mean.sel(at).isnull().all():
            yield scalar_id(name, place), at


def _weights(weights: Floats | None, n: int) -> Floats:
    if weights is None:
        return np.ones(n)
    found = np.asarray(weights, dtype=float)
    if found.shape != (n,):
        raise CalibrationError(f"weights have shape {found.shape}; give one for each of the {n} members")
    if not np.isfinite(found).all() or (found < 0).any() or found.sum() <= 0:
        raise CalibrationError("weights must be finite, not negative, and not all 0")
    return found


def _effective(weight: Floats) -> float:
    return float(weight.sum() ** 2 / (weight**2).sum())


def _reduced(
    name: str, values: Floats, weight: Floats, levels: Floats, attributes: dict[str, str], own: tuple[str, ...]
) -> dict[str, Variable]:
    """Quantiles and mean over members of a (scenario, member, time, *own) array, with their standard errors."""
    shape = (values.shape[0], *values.shape[2:])
    values = values.reshape(*values.shape[:2], -1)
    share, effective = weight / weight.sum(), _effective(weight)
    spread = np.sqrt(levels * (1 - levels) / effective)
    wanted = np.concatenate([levels, np.clip(levels - spread, 0, 1), np.clip(levels + spread, 0, 1)])
    equal = np.ptp(weight) == 0
    found = np.quantile(values, wanted, axis=1, method="hazen") if equal else weighted_quantile(values, share, wanted)
    n = len(levels)
    mean = np.einsum("smt,m->st", values, share)
    with np.errstate(over="ignore"):
        variance = np.einsum("smt,m->st", (values - mean[:, None, :]) ** 2, share)
    dims = (QUANTILE, SCENARIO, TIME, *own)
    return {
        name: (dims, found[:n].reshape(n, *shape), attributes),
        name + _SE: (dims, ((found[2 * n:] - found[n:2 * n]) / 2).reshape(n, *shape), attributes),
        f"{name}_mean": (dims[1:], mean.reshape(shape), attributes),
        f"{name}_mean{_SE}": (dims[1:], np.sqrt(variance / max(effective - 1, 1)).reshape(shape), attributes),
    }


def weighted_quantile(values: Floats, share: Floats, levels: Floats) -> Floats:
    """Quantiles over the second axis of a (scenario, member, time) array: (level, scenario, time).

    Linear between members, each at the middle of its weight; equal weights give the Hazen definition.
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    carried = share[order]
    middle = np.cumsum(carried, axis=1) - carried / 2
    result = np.empty((len(levels), values.shape[0], values.shape[2]))
    for i in range(values.shape[0]):
        for k in range(values.shape[2]):
            result[:, i, k] = np.interp(levels, middle[i, :, k], ordered[i, :, k])
    return result
