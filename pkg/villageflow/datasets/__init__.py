"""The figures that ship with the package, each with its source, and the readers for a user's own tables.

``load(name)`` gives a panel indexed (entity, time) with units, timing, sources and warnings in ``attrs``;
``table(name)`` gives a table as it is on disk, with the source of every row;
``read_table(path, schema_name)`` reads a user's priors, scenarios or other declared table;
``build(name)`` gives an analysis panel, ``join`` and ``derive`` make one, ``quality`` says what to know of it.
"""

from villageflow.datasets.join import derive, join, merges_table
from villageflow.datasets.panel import codebook, facts, load, names, read_panel, sources, table
from villageflow.datasets.quality import quality
from villageflow.datasets.recipes import build, recipe_names
from villageflow.datasets.schemas import read_table

__all__ = [
    "build", "codebook", "derive", "facts", "join", "load", "merges_table", "names", "quality", "read_panel",
    "read_table", "recipe_names", "sources", "table",
]
