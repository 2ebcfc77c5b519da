"""The figures that ship with the package, each with its source, and the reader for a user's own panel.

``load(name)`` gives a panel indexed (entity, time) with units, timing, sources and warnings in ``attrs``;
``table(name)`` gives a table as it is on disk, with the source of every row.
"""

from villageflow.datasets.panel import codebook, facts, load, names, read_panel, sources, table

__all__ = ["codebook", "facts", "load", "names", "read_panel", "sources", "table"]
