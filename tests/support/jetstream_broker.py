"""A fixture: a real nats-server with JetStream, and what is in its store's files."""

import pytest

from transcriber.testing.broker import EmbeddedBroker


@pytest.fixture
def broker(tmp_path):
    """A real nats-server with JetStream, whose store is the test's own."""
    with EmbeddedBroker(store=tmp_path / "store") as running:
        yield running


def on_disk(tmp_path, *needles):
    """Those of ``needles`` that are in any file of the store of ``broker``."""
    files = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    return [needle for needle in needles if any(needle in data for data in files)]
