"""No file can do more to `read_model` than be refused: see `fuzzing` for what is promised and how files are made."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest

WORKER = Path(fuzzing.__file__)
N_HOSTILE = len(fuzzing.HOSTILE)
SECONDS = 900  # of a whole batch on a busy machine; the worker holds each file to its own limit


def read_batch(first: int, count: int) -> int:
    """Reads a batch in a process of its own; returns how many of its files are models."""
    command = [sys.executable, str(WORKER), str(first), str(count)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, f"{run.stdout}{run.stderr[-2000:]}"
    summary = re.search(rf"read {count} files, (\d+) of them models", run.stdout)
    assert summary is not None, run.stdout
    return int(summary[1])


def test_hostile_files_are_refused_in_time():
    assert read_batch(0, N_HOSTILE) < N_HOSTILE


def test_damaged_files_are_models_or_refused():
    n_models = read_batch(N_HOSTILE, 300)
    assert 10 < n_models < 290, "the damage is too light or too heavy to test anything"


@pytest.mark.statistical
def test_many_damaged_files_are_models_or_refused():
    assert read_batch(1000, 10_000) > 100
