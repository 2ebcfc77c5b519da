"""Settings of all tests: property tests draw the same examples everywhere, and are never timed."""

from hypothesis import settings

settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")
