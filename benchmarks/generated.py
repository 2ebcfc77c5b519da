"""Models of any size: a chain of sectors, each with the constructs that large models are made of."""

from __future__ import annotations

from typing import Final

_SECTOR: Final = (
    "capacity {i} = INTEG(orders {i} - scrapping {i}, initial capacity {i})",
    "backlog {i} = INTEG(demand {i} - shipments {i}, 10)",
    "orders {i} = MAX(0, (desired {i} - capacity {i}) / adjustment time {i} + scrapping {i})",
    "scrapping {i} = capacity {i} / 20",
    "desired {i} = SMOOTH(demand {i}, adjustment time {i}) * pressure {i}",
    "pressure {i} = effect {i}(backlog {i} / (1 + shipments {i}))",
    "effect {i}((0,0.5),(1,1),(2,1.3),(4,1.6))",
    "shipments {i} = MIN(capacity {i}, backlog {i} / minimum delay {i})",
    "demand {i} = base {i} * (1 + 0.1 * shipments {before} / (1 + demand level {before}))",
    "demand level {i} = base {i} + 0.5 * EXP(-backlog {i} / 100)",
    "growing {i} = IF THEN ELSE(orders {i} > scrapping {i}, 1, 0)",
    "size {i} = (capacity {i} / initial capacity {i})^0.7",
    "initial capacity {i} = {capacity}",
    "adjustment time {i} = 4",
    "minimum delay {i} = 1.5",
    "base {i} = {capacity}",
)
_FIRST: Final = ("shipments 0 = 10", "demand level 0 = 10")
_CONTROLS: Final = ("INITIAL TIME = 0", "FINAL TIME = 10", "TIME STEP = 0.25", "SAVEPER = 1")


def model_text(n_equations: int) -> str:
    """A Vensim model of about this many equations, whole sectors."""
    equations = [*_FIRST, *_CONTROLS]
    for i in range(1, max(n_equations // len(_SECTOR), 1) + 1):
        equations += [line.format(i=i, before=i - 1, capacity=8 + i % 7) for line in _SECTOR]
    return "{UTF-8}\n" + "".join(f"{line} ~ 1 ~ |\n" for line in equations)
