"""The Cython extensions, and nothing else: all metadata stand in pyproject.toml."""

from __future__ import annotations

import os
import platform
import runpy
from pathlib import Path

import setuptools
from Cython.Build import cythonize

KERNELS = Path("pkg/villageflow/_kernels")
CHECKED = os.environ.get("VILLAGEFLOW_CHECKED_KERNELS") == "1"
X86 = platform.machine().lower() in ("x86_64", "amd64")
# Neither of these may be relaxed: contraction and fast-math would make results differ between machines.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
INSTRUCTION_SETS = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
if not X86:
    INSTRUCTION_SETS = {"base": []}


def write_opcodes() -> None:
    """Write the kernel's constants from the one table of operations, without importing the package."""
    text = runpy.run_path("pkg/villageflow/program/opcodes.py")["cython_constants"]()
    target = KERNELS / "_opcodes.pxi"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def extension(name: str, flags: list[str]) -> setuptools.Extension:
    return setuptools.Extension(
        f"villageflow._kernels.{name}", [str(KERNELS / f"{name}.pyx")], extra_compile_args=FLAGS + flags,
        depends=[str(path) for path in (*KERNELS.glob("*.pxi"), *KERNELS.glob("*.pxd"))],
    )


write_opcodes()
base = next(iter(INSTRUCTION_SETS.values()))
extensions = [extension("_vmath", base), extension("_cpu", [])]
extensions += [extension(f"_tape_{name}", flags) for name, flags in INSTRUCTION_SETS.items()]
setuptools.setup(
    ext_modules=cythonize(
        extensions,
        include_path=["pkg"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": CHECKED,
            "wraparound": False,
            "initializedcheck": CHECKED,
            "cdivision": True,
            "freethreading_compatible": True,
        },
    )
)
