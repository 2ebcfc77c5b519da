"""The calibration problems that ship, as the paper fits them; each also stands as a folder in ``models/problems``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from villageflow.calibrate.national import national_problem
from villageflow.calibrate.problem import Problem
from villageflow.calibrate.provinces import provincial_problem
from villageflow.calibrate.returns import return_problem

PROBLEMS: Final[Mapping[str, Callable[[], Problem]]] = {
    "national": lambda: national_problem(method="rk4"),
    "provinces": provincial_problem,
    "population_return": return_problem,
}
