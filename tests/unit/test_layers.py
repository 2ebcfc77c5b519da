"""Imports go one way: a module may import only from layers to its left, siblings not from each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pkg" / "villageflow"
ROOT = PACKAGE.parents[1]

# From left to right; names in one tuple are siblings.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("names",),
    ("timegrid",),
    ("units",),
    ("sealed",),
    ("ir",),
    ("frontend", "lower"),
    ("program",),
    ("datasets",),
    ("cache",),
    ("library",),
    ("integrate",),
    ("ensemble",),
    ("econometrics",),
    ("calibrate",),
    ("analysis",),
    ("report",),
    ("audit", "explore"),
    ("cli",),
    ("__main__",),
)
KERNELS = "_kernels"
MAY_IMPORT_KERNELS = {"program", "integrate", "ensemble", "calibrate"}
OUTSIDE = {"models", "paper", "notebooks", "tests", "benchmarks"}

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def layer_of(module: str) -> str:
    """``villageflow.ir.nodes`` -> ``ir``; the package itself -> ``""``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def module_of(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, *, is_package: bool) -> list[tuple[int, str]]:
    """Every module that a file imports, also inside functions, as (line, dotted name)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parents = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            # `from villageflow import ir` names a layer in its last part
            found += [(node.lineno, f"{base}.{alias.name}" if base == "villageflow" else base) for alias in node.names]
    return found


def fault(importer: str, imported: str) -> str | None:
    """Why a module may not import another one; None when it may."""
    target = imported.split(".")[0]
    if target in OUTSIDE:
        return f"the package never imports {target}/"
    if target != "villageflow":
        return None
    here, there = layer_of(importer), layer_of(imported)
    if not here:
        return None  # the package's __init__ only forwards names and sees every layer
    if here == KERNELS:
        return None if there == KERNELS else "kernels import nothing from the package"
    if here not in RANK:
        return f"{here!r} is in no layer; add it to LAYERS"
    if there == KERNELS:
        return None if here in MAY_IMPORT_KERNELS else f"{here!r} may not import kernels"
    if not there:
        return "import the module that defines the name, not the package"
    if there not in RANK:
        return f"{there!r} is in no layer"
    if here != there and RANK[there] >= RANK[here]:
        return f"{there!r} is not to the left of {here!r}"
    return None


def faults(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        module = module_of(path, package)
        source = path.read_text(encoding="utf-8")
        for line, imported in imports(source, module, is_package=path.stem == "__init__"):
            reason = fault(module, imported)
            if reason:
                found.append(f"{path.relative_to(package.parent)}:{line} imports {imported}: {reason}")
    return found


def test_imports_go_one_way():
    found = faults(PACKAGE)
    assert not found, "\n".join(found)


def test_every_folder_and_module_is_in_a_layer():
    present = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert present - {"__init__", "__main__"} <= set(RANK) | {KERNELS}


def test_kernels_import_nothing_from_the_package():
    for path in (PACKAGE / KERNELS).rglob("*.p[yx][xdi]"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            words = line.split()
            imported = words[1] if len(words) > 1 and words[0] in {"import", "from", "cimport"} else ""
            assert not imported.startswith("villageflow") or layer_of(imported) == KERNELS, f"{path.name}:{number}"


def test_models_hold_no_code():
    assert [path.name for path in (ROOT / "models").rglob("*.py") if path.name != "__init__.py"] == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("villageflow.lower.order", "villageflow.ir.nodes", True),
        ("villageflow.lower.order", "villageflow.frontend.text", False),
        ("villageflow.frontend.text", "villageflow.lower.order", False),
        ("villageflow.ir.nodes", "villageflow.ir.walk", True),
        ("villageflow.ir.nodes", "villageflow.program.emit", False),
        ("villageflow.program.reference", "villageflow._kernels._vmath", True),
        ("villageflow.report.tables", "villageflow._kernels._vmath", False),
        ("villageflow._kernels._tape", "villageflow.errors", False),
        ("villageflow.audit.lint", "villageflow.explore.app", False),
        ("villageflow.report.paper", "villageflow", False),
        ("villageflow.report.paper", "paper.tasks", False),
        ("villageflow.unheard.of", "villageflow.errors", False),
        ("villageflow.report.paper", "numpy", True),
    ],
)
def test_the_rule_itself(importer, imported, allowed):
    assert (fault(importer, imported) is None) is allowed


@pytest.mark.parametrize(
    "statement",
    ["import villageflow.cli", "from villageflow import cli", "from .. import cli", "from ..cli import main"],
)
def test_every_way_to_write_an_import_is_seen(tmp_path, statement):
    (tmp_path / "villageflow" / "ir").mkdir(parents=True)
    (tmp_path / "villageflow/ir/nodes.py").write_text(f"def f():\n    {statement}\n")
    assert len(faults(tmp_path / "villageflow")) == 1
