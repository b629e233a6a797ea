"""Fixtures: a real nats-server, clients of it, and ports that nobody else takes."""

import nats
import pytest

from tests.support.ports import free_port
from tests.support.transcripts import TranscriptListener
from transcriber.testing import daemon
from transcriber.testing.broker import EmbeddedBroker


@pytest.fixture(scope="session", autouse=True)
def ports():
    """Brokers that are started again, and daemons that start slowly, find their ports free."""
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
async def publisher(broker):
    """A publisher's connection."""
    client = await nats.connect(broker.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    yield client
    await client.close()


@pytest.fixture
async def listener(broker):
    """A subscriber to all that the daemon publishes."""
    async with TranscriptListener(broker.url) as subscribed:
        yield subscribed


@pytest.fixture
async def publisher_to():
    """Makes a publisher's connection to any broker."""
    clients = []

    async def connect(broker):
        clients.append(await nats.connect(broker.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close()
