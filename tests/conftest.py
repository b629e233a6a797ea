"""Fixtures for the tests with real servers."""

import nats
import pytest

from tests.harness import Ears
from transcriber.demo.broker import EmbeddedBroker


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
