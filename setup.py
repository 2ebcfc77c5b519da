"""The Cython extensions, and nothing else: all metadata stand in pyproject.toml."""

from __future__ import annotations

import os
import platform
import runpy
import tempfile
from pathlib import Path

import setuptools
from Cython.Build import cythonize
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.errors import CompileError
from setuptools._distutils.sysconfig import customize_compiler

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
    """Write what the kernel takes from the one table of operations, without importing the package."""
    text = runpy.run_path("pkg/villageflow/program/opcodes.py")["kernel_text"]()
    target = KERNELS / "_opcodes.pxi"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def understood(flags: list[str]) -> bool:
    """Whether the compiler knows the flags: older ones lack the names of the wider instruction sets."""
    compiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.c")
        source.write_text("int nothing;\n")
        try:
            compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
        except CompileError:
            return False
    return True


def extension(name: str, flags: list[str]) -> setuptools.Extension:
    return setuptools.Extension(
        f"villageflow._kernels.{name}", [str(KERNELS / f"{name}.pyx")], extra_compile_args=FLAGS + flags,
        depends=[str(path) for path in (*KERNELS.glob("*.pxi"), *KERNELS.glob("*.pxd"))],
    )


write_opcodes()
builds = {name: flags for name, flags in INSTRUCTION_SETS.items() if understood(flags)}
if not builds:
    raise SystemExit("setup.py: the C compiler knows no x86-64 level; use gcc 11, clang 12 or newer (CC=...)")
base = next(iter(builds.values()))
extensions = [extension("_vmath", base), extension("_cpu", [])]
extensions += [extension(f"_tape_{name}", flags) for name, flags in builds.items()]
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
