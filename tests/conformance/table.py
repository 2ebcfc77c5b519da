"""What is known about files that do not match, and the numbers of files that do.

``exceptions.csv`` lists every file with a record that villageflow does not match. Its ``cause`` is

========== ==========================================================================================================
refused    a construct is refused; ``text`` is part of the message
ours       villageflow differs and should not; ``text`` says how
record     the record is not what the file says, or cannot be met; ``text`` says why
broken     the file holds no model (``???`` for an equation, malformed XML): it counts in no score, and is refused
           with a message that holds ``text``
========== ==========================================================================================================

``peers.csv`` gives the cause of differences of PySD.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

CAUSES = ("refused", "ours", "record", "broken")

# Matched files of each kind by villageflow, and XMILE and Stella files together by PySD 3.14.3, as `page.py` counts
# them: it fails when one of these is not what it finds.
MATCHED = {".mdl": 144, ".xmile": 51, ".stmx": 35}
PYSD_XMILE_AND_STELLA = 81


@dataclass(frozen=True)
class Entry:
    """Why a file does not match its record."""

    cause: str
    text: str

    @property
    def is_refusal(self) -> bool:
        return self.cause in ("refused", "broken")


def exceptions() -> dict[str, Entry]:
    return {row["file"]: Entry(row["cause"], row["text"]) for row in _rows("exceptions.csv")}


def peer_causes() -> dict[str, str]:
    """Cause of PySD's difference, by file."""
    return {row["file"]: row["cause"] for row in _rows("peers.csv")}


def _rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
