"""Stock-flow models of rural e-commerce: ensembles, panel estimates, calibration.

Public names load on first use, so that ``import villageflow`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import villageflow.report.plots as plot
    from villageflow import datasets, econometrics, library
    from villageflow.datasets import read_panel
    from villageflow.ensemble.design import Design
    from villageflow.ensemble.simulate import simulate
    from villageflow.errors import VillageflowError
    from villageflow.integrate.kernel import engine_info
    from villageflow.library import read_model

_HOME = {
    "Design": "villageflow.ensemble.design",
    "VillageflowError": "villageflow.errors",
    "engine_info": "villageflow.integrate.kernel",
    "read_model": "villageflow.library",
    "read_panel": "villageflow.datasets",
    "simulate": "villageflow.ensemble.simulate",
}
_MODULES = {
    "datasets": "villageflow.datasets",
    "econometrics": "villageflow.econometrics",
    "library": "villageflow.library",
    "plot": "villageflow.report.plots",
}

__all__ = [
    "Design",
    "VillageflowError",
    "datasets",
    "econometrics",
    "engine_info",
    "library",
    "plot",
    "read_model",
    "read_panel",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'villageflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
