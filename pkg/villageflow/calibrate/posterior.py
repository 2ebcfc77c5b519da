"""Posterior of a calibration problem by an affine-invariant ensemble of walkers, with what says whether to believe it.

Walkers move on the transformed scale of `villageflow.calibrate.scales.Box`. A step moves one half of them given the
other half, then the other; each half is one call of the engine.

References
----------
.. [Goodman2010] J. Goodman and J. Weare, "Ensemble samplers with affine invariance", Communications in Applied
   Mathematics and Computational Science 5 (2010).
.. [ForemanMackey2013] D. Foreman-Mackey et al., "emcee: the MCMC hammer", PASP 125 (2013).
.. [TerBraak2006] C. ter Braak, "A Markov chain Monte Carlo version of the genetic algorithm differential evolution",
   Statistics and Computing 16 (2006).
.. [Vehtari2021] A. Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", Bayesian
   Analysis 16 (2021).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr

from villageflow.calibrate.chains import Chain, Progress, extended, loaded, started
from villageflow.calibrate.climb import Objective
from villageflow.calibrate.likelihood import log_likelihood
from villageflow.calibrate.priors import Priors
from villageflow.calibrate.profile import Measured
from villageflow.calibrate.scales import Box, Floats
from villageflow.calibrate.settings import check_declared, checked_seed, whole
from villageflow.errors import CalibrationError

if TYPE_CHECKING:
    from arviz import InferenceData

LONG_ENOUGH: Final = 50
"""Autocorrelation times in a chain whose autocorrelation time can be believed."""
LARGEST_RHAT: Final = 1.01
FEWEST_EFFECTIVE: Final = 400
BURN_IN: Final = 5
"""Autocorrelation times left out at the start."""
FEWEST_DRAWS: Final = 100
QUANTILES: Final = (0.05, 0.5, 0.95)

_LOG = logging.getLogger("villageflow")
_STUCK: Final = 0.2


def sample_posterior(
    problem: Measured,
    *,
    seed: int,
    walkers: int = 32,
    steps: int = 5000,
    thin: int = 1,
    resume: str | Path | None = None,
    progress: Progress | None = None,
) -> InferenceData:
    """Sample the posterior of a calibration problem.

    Parameters
    ----------
    problem : Problem
        With shared parameters only; or any other target with measurements. Priors are the columns ``distribution`` and
        ``mode`` of its parameters; a parameter without them is flat on its transformed scale between its bounds.
    seed : int
        Of the starts and of the moves; equal seeds give equal bits.
    walkers : int
        Even, and at least twice as many as there are parameters. More of them cost little on a small panel: with ten
        parameters take 128 rather than more steps.
    steps : int
        Moves of each walker, with the burn-in; a multiple of `thin`.
    thin : int
        Keep every such step.
    resume : path, optional
        ``.npz`` file that holds the chain and the state of the generator, written every 100 kept draws. If it is
        there the run goes on from it, with the bits of an uninterrupted run, also to more steps than were planned.
    progress : callable, optional
        Called after each kept draw with steps done, steps in all and the mean log posterior density of the walkers.

    Returns
    -------
    arviz.InferenceData
        ``posterior`` in natural units, with a chain for each walker, after the burn-in; ``sample_stats``: ``lp``, the
        log posterior density per transformed unit, and ``acceptance``, the share of moves accepted since the last
        kept draw; ``warmup_posterior`` and ``warmup_sample_stats``: the burn-in; ``observed_data``. Attributes of
        ``posterior`` (and of the whole): seed, digests, burn-in and its rule, and ``warning``, blank if all is well;
        of each variable: prior, bounds, scale, R-hat, effective sample sizes and autocorrelation time.

    Raises
    ------
    CalibrationError
        A parameter that differs between entities, a setting out of range, no start with a finite density, or a file
        of another run.

    Notes
    -----
    Walkers start at the best of 64 times as many draws from the prior. Half of the moves are stretches
    [Goodman2010]_, half follow the difference of two other walkers [TerBraak2006]_; emcee [ForemanMackey2013]_
    makes them.

    The burn-in ends 5 autocorrelation times of the slowest parameter after the mean density of the walkers has first
    reached the 5 % quantile of its second half, and is at least a tenth and at most one half of the chain. The
    autocorrelation time, in steps, is the larger of those of single walkers and of the mean over walkers, and needs a
    chain 50 times as long to be believed. Walkers of one ensemble depend on each other, so R-hat [Vehtari2021]_
    compares four parts of it: the even and the odd walkers, in the first and in the second half of the draws. Effective
    sample sizes take walkers as chains. A shorter chain, an R-hat above 1.01, fewer than 400 effective draws and a
    walker that hardly moves are warnings, logged to ``villageflow``. None of them sees a mode that no walker has
    visited.

    A run of the model that does not stay finite has the density zero. A centred observable enters with its level
    estimated within, which makes its spread too small; see `villageflow.calibrate.likelihood.Observable`.
    """
    data = sampled(problem, seed=seed, walkers=walkers, steps=steps, thin=thin, resume=resume, progress=progress)
    if said := data["posterior"].attrs["warning"]:
        _LOG.warning("posterior of %s: %s", data["posterior"].attrs["model"] or "the target", said)
    return data


def sampled(
    problem: Measured, *, seed: int, walkers: int, steps: int, thin: int = 1, resume: str | Path | None = None,
    progress: Progress | None = None,
) -> InferenceData:
    """What `sample_posterior` gives, without a word in the log."""
    check_declared(problem, "measurements")
    _check(problem, seed, walkers, steps, thin)
    priors = Priors.of(problem.box, getattr(problem, "parameters", None))
    log_posterior = log_posterior_of(problem, priors)
    identity = identity_of(problem, priors) | {"seed": str(seed), "walkers": str(walkers), "thin": str(thin)}
    file = None if resume is None else Path(resume)
    if file is not None and file.exists():
        chain = loaded(file, identity, log_posterior)
    else:
        chain = started(log_posterior, priors, walkers, seed)
    chain = extended(log_posterior, chain, steps // thin, thin, file, identity, progress)
    return _inference_data(problem, priors, chain, thin, identity)


def log_posterior_of(problem: Measured, priors: Priors) -> Objective:
    """Log posterior density, up to the evidence, per unit of the transformed values: (n, p) to (n,)."""
    box = problem.box

    def log_posterior(transformed: Floats) -> Floats:
        found = priors.log_density(transformed)
        inside = np.flatnonzero(np.isfinite(found))
        if len(inside):
            terms = log_likelihood(problem, box.from_transformed(transformed[inside]), problem.measurements)
            found[inside] += np.where(np.isfinite(terms), terms, -np.inf)
        return found

    return log_posterior


def posterior_summary(data: InferenceData) -> pd.DataFrame:
    """Mean, standard deviation, 5, 50 and 95 % quantiles and diagnostics of each parameter, in natural units.

    Parameters
    ----------
    data : InferenceData
        As `sample_posterior` gives it, or a part of its draws.

    Returns
    -------
    DataFrame
        By parameter: mean, sd, q05, q50, q95, ``mean_error`` (Monte Carlo standard error of the mean), rhat, ess_bulk,
        ess_tail, tau (steps).
    """
    posterior = data["posterior"]
    box = Box.of({
        str(name): (str(item.attrs["scale"]), float(item.attrs["lower"]), float(item.attrs["upper"]))
        for name, item in posterior.data_vars.items()
    })
    values = np.stack([posterior[name].transpose("draw", "chain").to_numpy() for name in box.names], axis=-1)
    thin = int(posterior.attrs["thin"])
    table = diagnostics(box, box.transformed(values), thin, independent=posterior.attrs.get("chains") == "independent")
    pooled = values.reshape(-1, box.size)
    numbers = {"mean": pooled.mean(axis=0), "sd": pooled.std(axis=0, ddof=1)}
    for level, row in zip(QUANTILES, np.quantile(pooled, QUANTILES, axis=0), strict=True):
        numbers[f"q{100 * level:02.0f}"] = row
    front = pd.DataFrame(numbers, index=table.index)
    front["mean_error"] = front["sd"] * np.sqrt(_tau(values) / len(pooled))
    return front.join(table)


# --- what a chain depends on ---------------------------------------------------------------------------------------


def identity_of(problem: Measured, priors: Priors) -> dict[str, str]:
    """What a chain depends on, as short texts."""
    model, box = getattr(problem, "model", None), priors.box
    covariates = getattr(problem, "covariates", None)
    rows = zip(box.names, box.scales, box.lower.tolist(), box.upper.tolist(), priors.each, strict=True)
    settings = {name: getattr(problem, name, None) for name in ("time_step", "method")}
    return {
        "model": "" if model is None else str(model.digest),
        "parameters": sha256(repr([(*row[:-1], row[-1].distribution, row[-1].mode) for row in rows])),
        "observables": sha256(repr(problem.observables)),
        "measurements": sha256(problem.measurements.to_csv(index=False)),
        "covariates": "" if covariates is None else sha256(covariates.to_csv(index=False)),
        "fixed": json.dumps(dict(sorted(getattr(problem, "fixed", {}).items()))),
        "settings": json.dumps(settings),
        "sampler": f"emcee {version('emcee')}",
    }


def sha256(text: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _check(problem: Measured, seed: int, walkers: int, steps: int, thin: int) -> None:
    for name, effect in getattr(problem, "effects", {}).items():
        if effect != "shared":
            raise CalibrationError(
                f"parameter {name!r} has effect {effect!r}; sample_posterior takes 'shared' ones: declare it shared, "
                "or use fit_random_effects or fit_fixed_effects"
            )
    size = problem.box.size
    checked_seed(seed)
    whole("walkers", walkers, 2)
    whole("thin", thin, 1)
    whole("steps", steps, 1)
    if walkers < max(2 * size, 4) or walkers % 2:
        raise CalibrationError(
            f"walkers is {walkers} for {size} parameters; give an even number of at least {max(2 * size, 4)}"
        )
    if thin < 1 or steps % thin:
        raise CalibrationError(f"thin is {thin} with {steps} steps; it must be at least 1 and divide the steps")
    if steps // thin < FEWEST_DRAWS:
        raise CalibrationError(
            f"steps is {steps} with thin {thin}, which keeps {steps // thin} draws of a walker; a posterior needs at "
            f"least {FEWEST_DRAWS}, better some thousands"
        )


# --- what it says ------------------------------------------------------------------------------------------------


def quiet_arviz() -> Any:
    """The library, without what it says when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz


def _tau(transformed: Floats) -> Floats:
    """Integrated autocorrelation time in draws, (draws, walkers, p) to (p,); infinite if a walker never moves.

    The larger of the mean over walkers and that of the ensemble's mean, in which walkers that move together count.
    """
    import emcee  # type: ignore[import-untyped]

    with np.errstate(invalid="ignore", divide="ignore"):
        single, mean = (
            emcee.autocorr.integrated_time(values, tol=0)
            for values in (transformed, transformed.mean(axis=1, keepdims=True))
        )
    return np.where(np.isfinite(single), np.fmax(single, mean), np.inf)


def _ess(values: Floats, method: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(quiet_arviz().ess(np.ascontiguousarray(values.T), method=method))


def _rhat(values: Floats, *, independent: bool) -> float:
    """Of independent chains, or of the even and the odd walkers, in the two halves of the draws; (draws, walkers)."""
    groups = values.T if independent else np.stack([values[:, first::2].ravel() for first in range(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(quiet_arviz().rhat(np.ascontiguousarray(groups), method="rank"))


def diagnostics(box: Box, transformed: Floats, thin: int, *, independent: bool = False) -> pd.DataFrame:
    """R-hat, effective sample sizes and autocorrelation time in steps, from (draws, walkers, p) transformed values."""
    each = [transformed[:, :, j] for j in range(box.size)]
    return pd.DataFrame({
        "rhat": [_rhat(values, independent=independent) for values in each],
        "ess_bulk": [_ess(values, "bulk") for values in each],
        "ess_tail": [_ess(values, "tail") for values in each],
        "tau": thin * _tau(transformed),
    }, index=pd.Index(box.names, name="parameter"))


def _burn_in(transformed: Floats, log_posterior: Floats) -> int:
    """Draws to leave out, by the rule of `sample_posterior`."""
    draws = len(transformed)
    half, level = draws // 2, log_posterior.mean(axis=1)
    arrived = int(np.argmax(level >= np.quantile(level[half:], 0.05)))
    longest = arrived + BURN_IN * float(_tau(transformed[half:]).max())
    return min(max(math.ceil(min(longest, draws)), draws // 10), half)


def _warnings(table: pd.DataFrame, steps: int, acceptance: Floats) -> str:
    found = []
    for column, bad, words in (
        ("tau", table["tau"] * LONG_ENOUGH > steps, f"the {steps} steps after the burn-in are fewer than {LONG_ENOUGH} "
         "autocorrelation times"),
        ("rhat", ~(table["rhat"] <= LARGEST_RHAT), f"R-hat is above {LARGEST_RHAT}"),
        ("ess_bulk", ~(table["ess_bulk"] >= FEWEST_EFFECTIVE), f"fewer than {FEWEST_EFFECTIVE} effective draws"),
        ("ess_tail", ~(table["ess_tail"] >= FEWEST_EFFECTIVE), f"fewer than {FEWEST_EFFECTIVE} in the tails"),
    ):
        if bad.any():
            values = table[column].to_numpy()
            worst = int(np.argmax(values) if column in ("tau", "rhat") else np.argmin(values))
            where = f"worst {table.index[worst]} with {values[worst]:.4g}"
            found.append(f"{words} ({bad.sum()} of {len(bad)} parameters, {where})")
    stuck = np.flatnonzero(acceptance < _STUCK * np.median(acceptance))
    if len(stuck):
        found.append(f"walkers {', '.join(map(str, stuck))} hardly move")
    return "" if not found else "; ".join(found) + ": take more steps, or look for parameters that trade off"


def _inference_data(
    problem: Measured, priors: Priors, chain: Chain, thin: int, identity: Mapping[str, str]
) -> InferenceData:
    box, points = problem.box, chain.points[1:]
    burnt = _burn_in(points, chain.log_posterior[1:])
    table = diagnostics(box, points[burnt:], thin)
    said = _warnings(table, thin * (len(points) - burnt), chain.acceptance[1 + burnt:].mean(axis=0))
    model = getattr(problem, "model", None)
    name = "" if model is None else str(model.name)
    attrs: dict[str, Any] = {
        "seed": int(identity["seed"]), "thin": thin, "steps": thin * len(points), "walkers": points.shape[1],
        "model": name, "model_sha256": identity["model"], "problem_sha256": sha256(json.dumps(dict(identity))),
        "sampler": identity["sampler"], "burn_in": thin * burnt,
        "burn_in_rule": f"until the mean density arrives, then {BURN_IN} autocorrelation times; 10 to 50 % of all",
        "acceptance": float(chain.acceptance[1 + burnt:].mean()), "warning": said,
    }  # fmt: skip
    groups: dict[str, xr.Dataset] = {}
    for prefix, part in (("", slice(1 + burnt, None)), ("warmup_", slice(1, 1 + burnt))):
        natural = box.from_transformed(chain.points[part])
        groups[f"{prefix}posterior"] = _by_walker({n: natural[:, :, j] for j, n in enumerate(box.names)}, part.start)
        stats = {"lp": chain.log_posterior[part], "acceptance": chain.acceptance[part]}
        groups[f"{prefix}sample_stats"] = _by_walker(stats, part.start)
    posterior = groups["posterior"].assign_attrs(attrs)
    for j, (column, prior) in enumerate(zip(box.names, priors.each, strict=True)):
        own = {"prior": str(prior), "scale": box.scales[j], "lower": prior.lower, "upper": prior.upper}
        found = zip(table.columns, table.to_numpy()[j].tolist(), strict=True)
        posterior[column].attrs.update(own | dict(found))
    groups["posterior"] = posterior
    groups["observed_data"] = observed(problem)
    data: InferenceData = quiet_arviz().InferenceData(attrs=attrs, **groups)
    return data


def observed(problem: Measured) -> xr.Dataset:
    """The measurements, as a group of the result."""
    rows = problem.measurements
    kept = [column for column in ("entity", "time", "from_time", "observable", "comparator") if column in rows.columns]
    coords = {c: ("measurement", rows[c].to_numpy(dtype=None if "time" in c else str)) for c in kept}
    return xr.Dataset({"value": ("measurement", rows["value"].to_numpy(dtype=float))}, coords=coords)


def _by_walker(values: Mapping[str, Floats], first: int) -> xr.Dataset:
    """From (draws, walkers) arrays; draws are numbered from 1 at the first kept step."""
    shape = next(iter(values.values())).shape
    coords = {"chain": np.arange(shape[1]), "draw": np.arange(first, first + shape[0])}
    return xr.Dataset({name: (("chain", "draw"), one.T) for name, one in values.items()}, coords=coords)
