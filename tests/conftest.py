"""What holds for all tests that draw their examples: the same ones in each run, however long one of them takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("searching", settings.get_profile("steady"), derandomize=False)
settings.load_profile("steady")
"""``pytest --hypothesis-profile=searching`` draws others each time."""
