"""Models of any size: a chain of sectors with the constructs of large models, and arrays of any number of elements."""

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
_ARRAYS: Final = (
    "population[d] = INTEG(births[d] - deaths[d] + inflow[d] - outflow[d], initial population[d])",
    "capital[d] = INTEG(investment[d] - depreciation[d], 10)",
    "goods[d] = INTEG(output[d] - sales[d], 5)",
    "births[d] = 0.01 * birth rate[d] * population[d] * crowding[d]",
    "deaths[d] = population[d] / life time",
    "crowding[d] = 1 / (1 + population[d] / (100 + total))",
    "total = SUM(population[d!])",
    "share[d] = population[d] / total",
    "inflow[d] = 0.01 * total * share[d] * attractiveness[d] / mean attractiveness",
    "outflow[d] = 0.01 * population[d]",
    "attractiveness[d] = EXP(-0.01 * price[d]) * (1 + 0.1 * wage[d])",
    "mean attractiveness = SUM(attractiveness[d!] * share[d!])",
    "price[d] = MAX(0.1, 10 - 0.1 * goods[d])",
    "wage[d] = output[d] / MAX(population[d], 1)",
    "output[d] = capital[d]^0.3 * MAX(population[d], 1)^0.7",
    "sales[d] = MIN(goods[d] / 2, population[d] * 0.2)",
    "investment[d] = IF THEN ELSE(price[d] > 2, 0.2 * output[d], 0.1 * output[d])",
    "depreciation[d] = capital[d] * 0.05",
    "smoothed[d] = SMOOTH(sales[d], 4)",
    "life time = 60",
)
_CONTROLS: Final = ("INITIAL TIME = 0", "FINAL TIME = 10", "TIME STEP = 0.25", "SAVEPER = 1")


def model_text(n_equations: int) -> str:
    """A Vensim model of about this many equations, whole sectors."""
    equations = [*_FIRST, *_CONTROLS]
    for i in range(1, max(n_equations // len(_SECTOR), 1) + 1):
        equations += [line.format(i=i, before=i - 1, capacity=8 + i % 7) for line in _SECTOR]
    return "{UTF-8}\n" + "".join(f"{line} ~ 1 ~ |\n" for line in equations)


def array_text(n_elements: int) -> str:
    """A Vensim model of twenty equations, most of them over one dimension."""
    elements, numbers = (", ".join(form(i) for i in range(n_elements)) for form in ("e{}".format, _number))
    head = (f"d: {elements}", f"initial population[d] = {numbers}", f"birth rate[d] = {numbers}")
    return "{UTF-8}\n" + "".join(f"{line} ~ 1 ~ |\n" for line in (*head, *_ARRAYS, *_CONTROLS))


def _number(i: int) -> str:
    return f"{1 + 3 * i % 7}.5"
