"""Fixtures for the tests with real servers."""

import nats
import pytest
from hypothesis import HealthCheck, settings

from tests import environment
from tests.harness import Ears, free_port
from transcriber.testing import daemon
from transcriber.testing.broker import EmbeddedBroker

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.hookimpl(trylast=True)
def pytest_configure():
    """Before any test or its process is there; pytest has by now seen what its caller's terminal is."""
    environment.settle()


@pytest.fixture(scope="session", autouse=True)
def ports():
    """Brokers that come back, and daemons that start slowly, find their ports free."""
    original = EmbeddedBroker.__init__

    def init(self, *arguments, port=None, **options):
        original(self, *arguments, port=free_port() if port is None else port, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddedBroker, "__init__", init)
        patch.setattr(daemon, "_free_port", free_port)
        yield


@pytest.fixture
def broker():
    """A real nats-server on a free port."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
async def mouth(broker):
    """A publisher's connection."""
    client = await nats.connect(broker.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    yield client
    await client.close()


@pytest.fixture
async def ears(broker):
    """A listener to everything."""
    async with Ears(broker.url) as listener:
        yield listener


@pytest.fixture
async def mouth_of():
    """Makes a publisher's connection to any broker."""
    clients = []

    async def connect(broker):
        clients.append(await nats.connect(broker.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close()
