"""What a step of the workflow depends on besides its input files: package source, settings and versions.

pytask hashes files, not imported modules or plain arguments, so a changed seed or a mended estimator would be
skipped silently. `code` and `fixed` turn both into declared dependencies.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from villageflow.errors import ReportError

PACKAGE = Path(__file__).resolve().parents[1]
KERNEL_SOURCES = (".pyx", ".pxd", ".pxi", ".h", ".pyi", ".py")
NUMERICAL = ("numpy", "scipy", "pandas", "xarray", "statsmodels", "linearmodels", "matplotlib", "pysd")


def code(*modules: str) -> Any:
    """A dependency on the source of the named modules of villageflow and of everything they import.

    Also on the versions of Python and of the numerical libraries. Only imports written in the files count
    (inside functions too); the package's own ``__init__``, which only forwards names, does not, and data
    files must be declared as paths. Used as the default of an argument that the task itself does not read.

    Parameters
    ----------
    *modules : str
        Dotted names such as ``"villageflow.econometrics"``.
    """
    return fixed(code_digest(*modules))


def fixed(value: Any) -> Any:
    """A dependency on a value (a seed, a number of draws, a list of variables) that pytask hashes.

    Used as the default of a task's argument, ``def task_fit(seed: int = fixed(1), ...)``; the task receives
    the value.
    """
    from pytask import PythonNode

    return PythonNode(value=value, hash=value_digest)


def value_digest(value: Any) -> str:
    """SHA-256 of a value written as canonical JSON; paths count by their text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_digest(*modules: str) -> str:
    """SHA-256 over the files of `import_closure` and the versions that can move a result."""
    digest = hashlib.sha256()
    for name in NUMERICAL:
        digest.update(f"{name}=={metadata.version(name)}\n".encode())
    digest.update(f"python=={platform.python_version()}\n".encode())
    for path in import_closure(*modules):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def import_closure(*modules: str, package: Path = PACKAGE) -> list[Path]:
    """Files of the package that the named modules reach through their import statements, sorted.

    A kernel counts with the sources of all kernels, or with the compiled files where the sources are not
    installed.
    """
    seen: set[Path] = set()
    waiting = [_module_file(name, package) for name in modules]
    if None in waiting:
        raise ReportError(f"there is no module {modules[waiting.index(None)]!r} in {package}")
    while waiting:
        path = waiting.pop()
        if path is None or path in seen:
            continue
        seen.add(path)
        waiting.extend(_imported_files(path, package))
    if any(path.parent.name == "_kernels" for path in seen):
        kernels = package / "_kernels"
        sources = [path for path in kernels.iterdir() if path.suffix in KERNEL_SOURCES]
        has_sources = any(path.suffix == ".pyx" for path in sources)
        seen.update(sources if has_sources else kernels.glob("*.so"))
    return sorted(seen)


def _imported_files(path: Path, package: Path) -> list[Path | None]:
    if path.suffix != ".py":
        return []
    found: list[Path | None] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == package.name:
                found.extend(_with_parents(name, package))
    return found


def _with_parents(name: str, package: Path) -> list[Path | None]:
    parts = name.split(".")
    return [_module_file(".".join(parts[: n + 1]), package) for n in range(1, len(parts))]


def _module_file(name: str, package: Path) -> Path | None:
    base = package.joinpath(*name.split(".")[1:])
    for path in (
        base.with_suffix(".py"),
        base / "__init__.py",
        base.with_suffix(".pyx"),
        base.with_suffix(".pyi"),
    ):
        if path.is_file():
            return path
    return None
