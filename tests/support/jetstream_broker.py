"""A fixture: a real nats-server with JetStream."""

import pytest

from transcriber.testing.broker import EmbeddedBroker


@pytest.fixture
def broker(tmp_path):
    """A real nats-server with JetStream, whose store is the test's own."""
    with EmbeddedBroker(store=tmp_path / "store") as running:
        yield running
