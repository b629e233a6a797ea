"""What holds for all tests: the same environment for every user, and no deadline for Hypothesis."""

import logging

import pytest
from hypothesis import HealthCheck, settings

from tests.support import environment

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(trylast=True)
def pytest_configure():
    """Before any test or its process is there; pytest has by now seen what its caller's terminal is."""
    environment.settle()


@pytest.fixture(autouse=True)
def log():
    """A command that runs in the test's process writes its log where pytest reads it; the next test's is elsewhere."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
