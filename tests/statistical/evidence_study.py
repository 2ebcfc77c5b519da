"""Monte Carlo evidence for the calibration layer: recovery, coverage, size and power, with known truth.

    ./run python tests/statistical/evidence_study.py

writes ``tests/statistical/evidence.csv`` and from it ``docs/statistical_evidence.md``. Replications are kept in
``.run/evidence`` as they come, so that a run can be stopped and goes on; remove a file there to make a study anew.
``--page`` writes the page alone.
"""

from __future__ import annotations

import sys

from evidence.page import write
from evidence.record import run, store, stored


def main() -> None:
    """Make what is missing, then the table and the page."""
    if "--page" not in sys.argv[1:]:
        store(list(run()))
    write(stored())


if __name__ == "__main__":
    main()
