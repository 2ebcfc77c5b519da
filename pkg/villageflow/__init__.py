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
    from villageflow.calibrate.approximate import sample_approximate
    from villageflow.calibrate.bootstrap import bootstrap
    from villageflow.calibrate.draws import RandomConstant
    from villageflow.calibrate.filtered import fit_process_noise
    from villageflow.calibrate.fit import fit
    from villageflow.calibrate.fixedeffects import fit_fixed_effects
    from villageflow.calibrate.forecast import forecast
    from villageflow.calibrate.history import history_match
    from villageflow.calibrate.indirect import indirect_inference
    from villageflow.calibrate.likelihood import Observable
    from villageflow.calibrate.load import load_fit
    from villageflow.calibrate.marginal import RandomEffect
    from villageflow.calibrate.moments import Auxiliary
    from villageflow.calibrate.posterior import posterior_summary, sample_posterior
    from villageflow.calibrate.problem import Problem
    from villageflow.calibrate.processnoise import ProcessNoise
    from villageflow.calibrate.profile import profile
    from villageflow.calibrate.randomeffects import fit_random_effects
    from villageflow.calibrate.scores import last_times_out, leave_entities_out
    from villageflow.calibrate.simulators import EnsembleSimulator
    from villageflow.calibrate.smc import sample_smc
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
    "EnsembleSimulator": "villageflow.calibrate.simulators",
    "Observable": "villageflow.calibrate.likelihood",
    "Problem": "villageflow.calibrate.problem",
    "ProcessNoise": "villageflow.calibrate.processnoise",
    "RandomConstant": "villageflow.calibrate.draws",
    "RandomEffect": "villageflow.calibrate.marginal",
    "VillageflowError": "villageflow.errors",
    "bootstrap": "villageflow.calibrate.bootstrap",
    "causal_links": "villageflow.analysis.loops",
    "check": "villageflow.audit.check",
    "compare_policies": "villageflow.analysis.policy",
    "compile_model": "villageflow.program.emit",
    "diagram": "villageflow.report.diagram",
    "engine_info": "villageflow.integrate.kernel",
    "fit": "villageflow.calibrate.fit",
    "fit_fixed_effects": "villageflow.calibrate.fixedeffects",
    "fit_process_noise": "villageflow.calibrate.filtered",
    "fit_random_effects": "villageflow.calibrate.randomeffects",
    "forecast": "villageflow.calibrate.forecast",
    "history_match": "villageflow.calibrate.history",
    "indirect_inference": "villageflow.calibrate.indirect",
    "jacobian": "villageflow.ensemble.jacobian",
    "last_times_out": "villageflow.calibrate.scores",
    "leave_entities_out": "villageflow.calibrate.scores",
    "link_signs": "villageflow.analysis.loops",
    "load_fit": "villageflow.calibrate.load",
    "load_program": "villageflow.program.store",
    "loop_signs": "villageflow.analysis.loops",
    "posterior_summary": "villageflow.calibrate.posterior",
    "profile": "villageflow.calibrate.profile",
    "read_model": "villageflow.library",
    "read_panel": "villageflow.datasets",
    "sample_approximate": "villageflow.calibrate.approximate",
    "sample_posterior": "villageflow.calibrate.posterior",
    "sample_smc": "villageflow.calibrate.smc",
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
    "EnsembleSimulator",
    "Observable",
    "Problem",
    "ProcessNoise",
    "RandomConstant",
    "RandomEffect",
    "VillageflowError",
    "bootstrap",
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
    "fit_process_noise",
    "fit_random_effects",
    "forecast",
    "history_match",
    "indirect_inference",
    "jacobian",
    "last_times_out",
    "leave_entities_out",
    "library",
    "link_signs",
    "load_fit",
    "load_program",
    "loop_signs",
    "plot",
    "posterior_summary",
    "profile",
    "read_model",
    "read_panel",
    "sample_approximate",
    "sample_posterior",
    "sample_smc",
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
