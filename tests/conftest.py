"""Settings of the whole suite."""

from hypothesis import settings

settings.register_profile("modelsmith", deadline=None)
settings.load_profile("modelsmith")
"""Examples have no time limit of their own: a busy machine is no failure."""
