"""What a result says about its origin: enough to run it again, nothing that differs between machines."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from typing import Final

import numpy as np

from villageflow.ensemble.design import Design
from villageflow.ensemble.noise import noise_digest
from villageflow.integrate.drive import RunSettings
from villageflow.ir.model import Model
from villageflow.program.program import Program
from villageflow.timegrid import TimeGrid

_ROWS: Final = 65_536


def provenance(
    model: Model, program: Program, grid: TimeGrid, design: Design, settings: RunSettings
) -> dict[str, str | int | float]:
    """Attributes of a result.

    Returns
    -------
    dict
        Model and its digest, program digest, design (kind, seed, digest of its table), method (and tolerances of an
        adaptive one), time grid, package version; the seed of random numbers if any are drawn, names and digest of
        supplied series if any are used. No date, host or path: equal inputs give equal attributes.
    """
    attributes: dict[str, str | int | float] = {
        "model": model.name,
        "model_sha256": model.digest,
        "program_sha256": program.digest,
        "villageflow_version": _package_version(),
        "method": settings.method,
        "initial_time": grid.start,
        "final_time": grid.stop,
        "time_step": grid.step,
        "save_every": grid.save_every,
        "design": design.kind,
        "design_sha256": design_digest(design),
    }
    if program.clock is not None:
        attributes["relative_tolerance"], attributes["absolute_tolerance"] = settings.tolerance
    if design.seed is not None:
        attributes["seed"] = design.seed
    if program.streams:
        attributes["noise_seed"] = settings.noise.seed
    if program.given:
        attributes["noise_given"] = ", ".join(sorted(settings.noise.given))
        attributes["noise_sha256"] = noise_digest(settings.noise)
    return attributes


@cache
def _package_version() -> str:
    return version("villageflow")


def design_digest(design: Design) -> str:
    """SHA-256 of the design's names and values."""
    h = hashlib.sha256(repr((list(design.table.columns), sorted(design.scenarios.items()))).encode())
    values = design.table.to_numpy(dtype=float)
    for first in range(0, len(values), _ROWS):
        h.update(np.ascontiguousarray(values[first:first + _ROWS]).tobytes())
    return h.hexdigest()
