"""Settings of all tests: property tests draw the same examples everywhere, and are never timed; no model is cached."""

import os

from hypothesis import settings

os.environ["VILLAGEFLOW_CACHE"] = ""

settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")
