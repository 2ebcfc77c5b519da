"""Stock-flow models of rural e-commerce: ensembles, panel estimates, calibration.

Public names load on first use, so that ``import villageflow`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import villageflow.report.plots as plot
    from villageflow import datasets, econometrics, library
    from villageflow.analysis.loops import causal_links, link_signs, loop_signs
    from villageflow.analysis.policy import compare_policies
    from villageflow.analysis.step import step_check
    from villageflow.audit.check import check
    from villageflow.calibrate.fit import fit
    from villageflow.calibrate.fixedeffects import fit_fixed_effects
    from villageflow.calibrate.history import history_match
    from villageflow.calibrate.indirect import indirect_inference
    from villageflow.calibrate.likelihood import Observable
    from villageflow.calibrate.moments import Auxiliary
    from villageflow.calibrate.posterior import sample_posterior
    from villageflow.calibrate.problem import Problem
    from villageflow.calibrate.profile import profile
    from villageflow.calibrate.randomeffects import fit_random_effects
    from villageflow.calibrate.load import load_fit
    from villageflow.datasets import read_panel
    from villageflow.ensemble.design import Design
    from villageflow.ensemble.jacobian import jacobian
    from villageflow.ensemble.simulate import simulate
    from villageflow.ensemble.summarize import summarize
    from villageflow.errors import VillageflowError
    from villageflow.integrate.kernel import engine_info
    from villageflow.library import read_model
    from villageflow.program.emit import compile_model
    from villageflow.program.store import load_program, save_program
    from villageflow.report.diagram import diagram

_HOME = {
    "Auxiliary": "villageflow.calibrate.moments",
    "Design": "villageflow.ensemble.design",
    "Observable": "villageflow.calibrate.likelihood",
    "Problem": "villageflow.calibrate.problem",
    "VillageflowError": "villageflow.errors",
    "causal_links": "villageflow.analysis.loops",
    "check": "villageflow.audit.check",
    "compare_policies": "villageflow.analysis.policy",
    "compile_model": "villageflow.program.emit",
    "diagram": "villageflow.report.diagram",
    "engine_info": "villageflow.integrate.kernel",
    "fit": "villageflow.calibrate.fit",
    "fit_fixed_effects": "villageflow.calibrate.fixedeffects",
    "fit_random_effects": "villageflow.calibrate.randomeffects",
    "history_match": "villageflow.calibrate.history",
    "indirect_inference": "villageflow.calibrate.indirect",
    "jacobian": "villageflow.ensemble.jacobian",
    "link_signs": "villageflow.analysis.loops",
    "load_fit": "villageflow.calibrate.load",
    "load_program": "villageflow.program.store",
    "loop_signs": "villageflow.analysis.loops",
    "profile": "villageflow.calibrate.profile",
    "read_model": "villageflow.library",
    "read_panel": "villageflow.datasets",
    "sample_posterior": "villageflow.calibrate.posterior",
    "save_program": "villageflow.program.store",
    "simulate": "villageflow.ensemble.simulate",
    "step_check": "villageflow.analysis.step",
    "summarize": "villageflow.ensemble.summarize",
}
_MODULES = {
    "datasets": "villageflow.datasets",
    "econometrics": "villageflow.econometrics",
    "library": "villageflow.library",
    "plot": "villageflow.report.plots",
}

__all__ = [
    "Auxiliary",
    "Design",
    "Observable",
    "Problem",
    "VillageflowError",
    "causal_links",
    "check",
    "compare_policies",
    "compile_model",
    "datasets",
    "diagram",
    "econometrics",
    "engine_info",
    "fit",
    "fit_fixed_effects",
    "fit_random_effects",
    "history_match",
    "indirect_inference",
    "jacobian",
    "library",
    "link_signs",
    "load_fit",
    "load_program",
    "loop_signs",
    "plot",
    "profile",
    "read_model",
    "read_panel",
    "sample_posterior",
    "save_program",
    "simulate",
    "step_check",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'villageflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
