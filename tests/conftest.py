"""What holds for all tests: the same environment for every user, and no deadline for Hypothesis."""

import pytest
from hypothesis import HealthCheck, settings

from tests.support import environment

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(trylast=True)
def pytest_configure():
    """Before any test or its process is there; pytest has by now seen what its caller's terminal is."""
    environment.settle()
