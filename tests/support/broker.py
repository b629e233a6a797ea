"""Fixtures: a real nats-server, clients of it, and ports that nobody else takes."""

import contextlib

import pytest

from tests.support.connections import client_of
from tests.support.ports import free_port
from tests.support.transcripts import TranscriptListener
from transcriber.testing import daemon
from transcriber.testing.broker import EmbeddedBroker

ROOM = "jetstream { max_file_store: 1TB }"
"""What streams may reserve: without it, three quarters of what the disk has left, which may be less than our defaults."""


@pytest.fixture(scope="session", autouse=True)
def ports():
    """Brokers that are started again, and daemons that start slowly, find their ports free; and no disk is too small."""
    original = EmbeddedBroker.__init__

    def init(self, *arguments, port=None, store=None, config="", **options):
        if store and "jetstream" not in config and {"-c", "--config"}.isdisjoint(arguments):
            config += ROOM
        original(self, *arguments, port=free_port() if port is None else port, store=store, config=config, **options)

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
    async with client_of(broker.url) as client:
        yield client


@pytest.fixture
async def listener(broker):
    """A subscriber to all that the daemon publishes."""
    async with TranscriptListener(broker.url) as subscribed:
        yield subscribed


@pytest.fixture
async def publisher_to():
    """Makes a publisher's connection to any broker."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(broker):
            return await stack.enter_async_context(client_of(broker.url))

        yield connect
