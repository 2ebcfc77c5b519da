"""ruff and mypy as part of the suite, so that one command and one closing line cover everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("ruff", ["check", "--no-fix", "--output-format", "concise", "."]), ("mypy", ["--no-error-summary"])],
)
def test_static_checks_pass(tool, arguments):
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = "\n".join(line[:240] for line in (done.stdout + done.stderr).splitlines())
    assert done.returncode == 0, f"\n{said}"
