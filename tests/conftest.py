"""What holds for all tests: the same environment for every user, and what Hypothesis may do.

A change is tested with the same examples wherever it runs: so what fails is the change, and fails again. New ones are looked for by
``--hypothesis-profile explore``, each week and by hand (CONTRIBUTING.md).
"""

import logging

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support import environment

settings.register_profile(
    "explore",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    # Before Python 3.12 to explain traces each line: so slowly that the test's time is over before its example is printed.
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeatable")


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
