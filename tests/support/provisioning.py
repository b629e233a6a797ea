"""What ``transcriber provision`` prints, and fixtures around a broker with JetStream."""

import nats
import pytest

from transcriber.bus.jetstream.provision import provision
from transcriber.config import load_settings

FIRST = ["stream AUDIO created", "stream TRANSCRIPTS created"]
AGAIN = ["stream AUDIO unchanged", "stream TRANSCRIPTS unchanged"]


@pytest.fixture
async def jetstream(broker):
    client = await nats.connect(broker.url)
    yield client.jetstream()
    await client.close()


@pytest.fixture
def settings(broker):
    return lambda **changed: load_settings(nats_url=broker.url, **changed)


async def provisioned(settings, *streams, check=False):
    """What the command says, a line an object, and whether all is right."""
    said: list[str] = []
    right = await provision(settings, streams, check=check, say=said.append)
    return [line.removesuffix("\n") for line in said], right
