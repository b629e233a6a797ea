"""Connections of tests, against a broker that goes away."""

import asyncio

from tests.support.connections import client_of
from tests.support.waiting import PATIENCE_S
from transcriber.testing.broker import EmbeddedBroker


async def test_a_connection_closes_though_its_broker_is_gone():
    gone = asyncio.Event()

    async def note():
        gone.set()

    async def silent(_error):
        """The broker is away on purpose."""

    with EmbeddedBroker() as broker:
        connection = client_of(broker.url, disconnected_cb=note, error_cb=silent)
        client = await connection.__aenter__()
    async with asyncio.timeout(PATIENCE_S):
        await gone.wait()
    await client.publish("pending", b"what close sends first")
    await connection.__aexit__(None, None, None)
    assert client.is_closed
