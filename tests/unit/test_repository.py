"""The repository as a whole: what a reader or a replicator finds is complete and agrees with itself."""

from __future__ import annotations

import ast
import os
import platform
import re
import stat
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAX_FILE_BYTES = 1_000_000

# Written in parts so that this file does not hold what it looks for.
INDEX_ADDRESS = re.compile("pypi" r"\.org|python" "hosted|npm" r"js\.(org|com)|deb\.deb" r"ian\.org")
FOLDERS = "|".join(("home", "Users", "work", "root", "tmp"))
MACHINE_PATH = re.compile(rf"(?:^|[^\w.])/(?:{FOLDERS})/")


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git tracks or would track: everything that is not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts() -> list[tuple[str, str]]:
    found = []
    for path in tracked():
        raw = path.read_bytes()
        if b"\0" not in raw:
            found.append((relative(path), raw.decode("utf-8")))
    return found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


# --- the lock file ---------------------------------------------------------------------------------


@cache
def locked() -> dict[str, list[Requirement]]:
    text = (ROOT / "requirements.lock").read_text()
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def declared() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"]
    return [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(item for extra in extras.values() for item in extra),
    ]


@pytest.mark.parametrize("text", declared())
def test_the_lock_covers_every_dependency_and_extra(text):
    wanted = Requirement(text)
    pinned = locked().get(canonicalize_name(wanted.name))
    assert pinned, f"{wanted.name} is not in requirements.lock"
    for requirement in pinned:
        version = next(iter(requirement.specifier)).version
        assert wanted.specifier.contains(version, prereleases=True), f"{requirement} does not satisfy {wanted}"


def test_every_pin_is_exact_and_has_hashes():
    text = (ROOT / "requirements.lock").read_text()
    for name, requirements in locked().items():
        for requirement in requirements:
            assert [item.operator for item in requirement.specifier] == ["=="], name
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
    assert all("--hash=sha256:" in block for block in blocks[1:])


def test_the_environment_is_the_lock():
    """What runs is what is pinned; a forgotten set-up would test something else."""
    environment = {"extra": ""}
    for name, requirements in locked().items():
        wanted = [item for item in requirements if item.marker is None or item.marker.evaluate(environment)]
        for item in wanted:
            assert item.specifier.contains(metadata.version(name), prereleases=True), f"{name} differs"


def test_every_imported_library_is_declared():
    known = {canonicalize_name(Requirement(text).name) for text in declared()}
    providers = metadata.packages_distributions()
    for path in (ROOT / "pkg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"villageflow"}:
                given_by = {canonicalize_name(name) for name in providers.get(top, [])}
                assert given_by & known, f"{relative(path)}:{node.lineno} imports {top}, which is not declared"


# --- files -----------------------------------------------------------------------------------------


def test_no_file_names_a_package_index():
    assert lines_with(INDEX_ADDRESS) == []


def test_no_file_holds_a_path_of_one_machine():
    assert [line for line in lines_with(MACHINE_PATH) if not line.startswith("tests/unit/test_repository.py")] == []


def test_no_file_is_large_empty_stored_twice_or_a_notebook_with_outputs():
    seen: dict[bytes, str] = {}
    for path in tracked():
        name, raw = relative(path), path.read_bytes()
        assert path.suffix not in {".ipynb", ".zip", ".pkl", ".pickle", ".xlsx", ".dta"}, name
        assert len(raw) <= MAX_FILE_BYTES, f"{name} has {len(raw)} bytes"
        if path.name in {"__init__.py", "py.typed"} or path.suffix == ".pyi":
            continue  # may be empty; kernels built per instruction set have stubs of their own
        assert raw, f"{name} is empty"
        assert raw not in seen, f"{name} is the same as {seen[raw]}"
        seen[raw] = name


def test_text_files_are_utf8_with_unix_line_ends():
    for name, text in texts():
        assert "\r" not in text, name
        assert text.endswith("\n") or not text, name


@pytest.mark.parametrize("name", ["run", ".ci/run"])
def test_scripts_can_be_executed(name):
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR


# --- metadata --------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere():
    version = PROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE)
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest is not None and newest[1] == version


def test_every_changelog_entry_begins_with_the_results_that_change():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for entry in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        first = re.search(r"^### (.+)$", entry, re.MULTILINE)
        assert first is not None and first[1] == "Results that change", entry.splitlines()[0]


def test_the_readme_begins_with_the_two_commands_and_has_the_template_sections():
    readme = (ROOT / "README.md").read_text()
    assert readme.index("./run reproduce") < 400
    assert readme.index("./run test") < 400
    headings = re.findall(r"^#+ (.+)$", readme, re.MULTILINE)
    for wanted in (
        "Data availability and provenance",
        "Statement about rights",
        "Computational requirements",
        "Controlled randomness",
        "Description of programs",
        "Instructions to replicators",
        "List of tables, figures and programs",
        "References",
    ):
        assert wanted in headings, wanted


def test_the_readmes_examples_run(tmp_path):
    """In a folder with the models and with the files that the text shows, each after its name."""
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "models").symlink_to(ROOT / "models")
    for name, text in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```", readme, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(text)
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stores.svg").is_file()
    assert "converged: yes" in done.stdout and "WARNING" not in done.stdout


def test_the_readme_lists_the_verbs_of_the_command_line():
    readme = (ROOT / "README.md").read_text()
    listed = {
        name for row in re.findall(r"^\| (`.+?) \|", readme, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", row)
    }
    from villageflow.cli import app

    offered = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    assert listed == offered


def test_every_link_between_the_documents_leads_somewhere():
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "figures/" in target or "{{" in target:
                continue  # products of the workflow
            assert (path.parent / target).exists(), f"{relative(path)} links to {target}"


def test_licences_of_code_and_data_are_there():
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    for name in PROJECT["project"]["license-files"]:
        assert (ROOT / name).is_file(), name


# --- randomness and bits ---------------------------------------------------------------------------


def test_seeds_are_declared_where_they_are_used():
    """Every task that draws takes its seed as a hashed argument, and no global generator is used anywhere."""
    global_state = re.compile(r"\bnp\.random\.(?!default_rng|SeedSequence|Generator|Philox|PCG64)\w+\(|^import random$")
    for path in tracked():
        if path.suffix == ".py" and path.parts[len(ROOT.parts)] in {
            "pkg",
            "paper",
            "notebooks",
            "benchmarks",
        }:
            text = path.read_text(encoding="utf-8")
            assert not global_state.search(text), relative(path)
            assert not re.search(r"default_rng\(\s*\)|SeedSequence\(\s*\)", text), relative(path)
    tasks = (ROOT / "paper/tasks.py").read_text()
    for argument in re.findall(r"\bseed: int = (\S+)", tasks):
        assert argument.startswith("fixed("), argument


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="only x86-64 has these settings")
@pytest.mark.skipif("VILLAGEFLOW_RUN" not in os.environ, reason="started without ./run")
def test_run_pins_what_moves_bits():
    import numpy as np
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    assert not [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    assert os.environ["OPENBLAS_CORETYPE"] == "Nehalem"
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "-FMA" in os.environ["GLIBC_TUNABLES"]
    assert np.__version__ == next(
        next(iter(item.specifier)).version
        for item in locked()["numpy"]
        if item.marker is None or item.marker.evaluate()
    )


def test_the_whole_example_of_calibration_runs(tmp_path):
    text = (ROOT / "docs" / "calibration.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "converged: yes" in done.stdout and "slope(entry, exposure)" in done.stdout
