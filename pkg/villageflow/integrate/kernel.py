"""Which build of the tape kernel runs: the widest instruction set of the processor, or the one asked for."""

from __future__ import annotations

import importlib
import os
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from villageflow._kernels import _cpu
from villageflow.errors import VillageflowError

_BUILDS: Final = {2: "v2", 3: "v3", 4: "v4"}
ISA_VARIABLE: Final = "VILLAGEFLOW_ISA"


@cache
def available_isas() -> tuple[str, ...]:
    """The builds that this processor can run and this installation has, narrowest first. All give the same bits."""
    level = _cpu.level()
    wanted = [name for number, name in _BUILDS.items() if number <= level]
    return tuple(name for name in wanted if find_spec(f"villageflow._kernels._tape_{name}")) or ("base",)


def selected_isa() -> str:
    """The build in use: ``VILLAGEFLOW_ISA`` if set, else the widest available."""
    available = available_isas()
    wanted = os.environ.get(ISA_VARIABLE, "")
    if wanted and wanted not in available:
        raise VillageflowError(
            f"{ISA_VARIABLE} is {wanted!r}; this processor runs {', '.join(available)}: unset it or choose one of these"
        )
    return wanted or available[-1]


@cache
def kernel(isa: str) -> ModuleType:
    """The kernel module of a build."""
    try:
        return importlib.import_module(f"villageflow._kernels._tape_{isa}")
    except ImportError as error:
        raise VillageflowError(
            f"the compiled kernel _tape_{isa} cannot be loaded ({error}); build it with: pip install -e . "
            "(a C compiler is needed)"
        ) from None


def engine_info() -> dict[str, object]:
    """What runs here.

    Returns
    -------
    dict
        ``isa``: build in use; ``available``: builds that this processor can run; ``version``: of the package.
    """
    from importlib.metadata import version

    return {"isa": selected_isa(), "available": list(available_isas()), "version": version("villageflow")}
