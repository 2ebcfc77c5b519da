"""Three stock-flow systems with known truth: migration, stores in competition, diffusion among users."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import villageflow as vf
from villageflow import library
from villageflow.ir.model import Model

YEARS = 12
STEP = 0.125
SPREAD = 0.1
"""Standard deviation of lognormal errors of measurement; the models are smooth, so that nothing else is random."""

_TIMES = """
INITIAL TIME = 0 ~ Year ~|
FINAL TIME = {years} ~ Year ~|
TIME STEP = {step} ~ Year ~|
SAVEPER = {save} ~ Year ~|
"""
_AROUND_MIGRATION = """
online income = income per online worker*workers ecom ~ RMB/Year ~|
income per online worker = 30000 ~ RMB/(Year*person) ~|
labour demand = most online workers/(1+EXP(-(Time-INITIAL TIME-takeoff)/takeoff time)) ~ person ~|
most online workers = 900 ~ person ~|
takeoff = 5 ~ Year ~|
takeoff time = 1.2 ~ Year ~|
switch B27 = 1 ~ dmnl ~|
switch B28 = 1 ~ dmnl ~|
switch R24 = 1 ~ dmnl ~|
switch R26 = 1 ~ dmnl ~|
"""
_STORES = """{UTF-8}
stores = INTEG(openings-closures, first stores) ~ store ~|
openings = imitation*stores*(1-stores/places) ~ store/Year ~|
closures = stores*(closing+competition*stores/places) ~ store/Year ~|
imitation = 0.9 ~ 1/Year ~|
places = 400 ~ store ~|
closing = 0.1 ~ 1/Year ~|
competition = 0.5 ~ 1/Year ~|
first stores = 10 ~ store ~|
"""
_DIFFUSION = """{UTF-8}
watchers = INTEG(adoption-purchases-lapse*watchers, first watchers) ~ person ~|
buyers = INTEG(purchases-lapse*buyers, 0) ~ person ~|
users = watchers+buyers ~ person ~|
adoption = (reachable-users)*(spontaneous+word of mouth*users/reachable) ~ person/Year ~|
purchases = purchase hazard*watchers ~ person/Year ~|
reachable = 2000 ~ person ~|
spontaneous = 0.02 ~ 1/Year ~|
word of mouth = 1 ~ 1/Year ~|
purchase hazard = 0.5 ~ 1/Year ~|
lapse = 0.06 ~ 1/Year ~|
first watchers = 20 ~ person ~|
"""


@dataclass(frozen=True)
class System:
    """A model with parameters to recover and variables to measure.

    Attributes
    ----------
    name, words : str
    parameters : tuple of (name, truth, lower, upper)
        Structural ones, natural units; all are searched on the log scale.
    observables : tuple of (variable, unit)
    starts : tuple of (constant, median)
        Initial conditions that the entities of a panel bring with them.
    own : str
        The parameter that differs between entities where there are effects.
    """

    name: str
    words: str
    parameters: tuple[tuple[str, float, float, float], ...]
    observables: tuple[tuple[str, str], ...]
    starts: tuple[tuple[str, float], ...]
    own: str

    @property
    def truth(self) -> Mapping[str, float]:
        """True values of the structural parameters."""
        return {name: value for name, value, _, _ in self.parameters}


MIGRATION = System(
    "migration",
    "the shipped submodel of population (eight stocks, return and leaving of migrants), closed by an income "
    "that follows online workers and a given S-curve of labour demand",
    (
        ("return_propensity", 0.35, 0.05, 2.0),
        ("leaving_propensity", 0.08, 0.01, 0.6),
        ("income_pull", 1.5, 0.3, 6.0),
    ),
    (("workers_away", "person"), ("return_flow", "person/Year")),
    (("initial_workers_away", 1150.0), ("initial_workers_farm", 1200.0)),
    "return_propensity",
)
STORES = System(
    "stores",
    "one stock of stores with imitation, crowding of places and closures by competition",
    (("imitation", 0.9, 0.3, 2.7), ("places", 400.0, 80.0, 2000.0), ("competition", 0.5, 0.1, 2.5)),
    (("stores", "store"), ("closures", "store/Year")),
    (("first_stores", 10.0),),
    "imitation",
)
DIFFUSION = System(
    "diffusion",
    "watchers and buyers: Bass adoption, purchases, lapse",
    (("word_of_mouth", 1.0, 0.3, 3.0), ("spontaneous", 0.02, 0.002, 0.2), ("purchase_hazard", 0.5, 0.1, 2.5)),
    (("watchers", "person"), ("buyers", "person")),
    (("first_watchers", 20.0),),
    "word_of_mouth",
)
SYSTEMS = (MIGRATION, STORES, DIFFUSION)


@cache
def model_of(name: str, save: float = 1.0) -> Model:
    """The model of a system that saves every ``save`` years."""
    shipped = library.folder() / "submodels" / "population.mdl"
    text = {
        "migration": lambda: shipped.read_text(encoding="utf-8") + _AROUND_MIGRATION,
        "stores": lambda: _STORES,
        "diffusion": lambda: _DIFFUSION,
    }[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.mdl"
        path.write_text(text + _TIMES.format(years=YEARS, step=STEP, save=save), encoding="utf-8")
        return vf.read_model(path)
