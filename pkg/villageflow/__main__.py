"""``python -m villageflow`` is the ``villageflow`` command."""

from villageflow.cli import main

main()
