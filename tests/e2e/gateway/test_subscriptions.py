"""What a real gateway stays subscribed to at a real broker once its clients have left, however they leave."""

import asyncio
import contextlib
import json

import pytest
from websockets.asyncio.client import connect

from tests.support.durable_streams import provisioned
from tests.support.gateway import http_client, shared_gateway
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S
from transcriber.testing.broker import EmbeddedBroker

__all__ = ["http_client", "shared_gateway"]

TEXTS = "transcripts."


@pytest.fixture(scope="module")
def monitor():
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def broker(tmp_path_factory, monitor):
    store = tmp_path_factory.mktemp("store")
    with EmbeddedBroker("--http_port", monitor.rpartition(":")[2], store=store) as broker:
        asyncio.run(provisioned(broker))
        yield broker


async def subscribed(client, monitor):
    """The subjects of text that the broker's clients are subscribed to."""
    connections = (await client.get(f"{monitor}/connz?subs=1")).json()["connections"]
    subjects = (subject for one in connections for subject in one.get("subscriptions_list", ()))
    return sorted(subject for subject in subjects if subject.startswith(TEXTS))


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            pass


@contextlib.asynccontextmanager
async def listening(client, stream):
    async with client.stream("GET", f"/v1/streams/{stream}/transcript") as answer:
        lines = answer.aiter_lines()  # which close the answer when they are forgotten
        assert await anext(lines) == ": listening"
        yield lines


async def test_the_last_listener_of_a_stored_stream_ends_its_subscription(client, monitor):
    async def are(*subjects):
        return await subscribed(client, monitor) == list(subjects)

    async with listening(client, "s"), listening(client, "s"):
        await until(lambda: are("transcripts.s.*"))
    await until(are)

    assert await subscribed(client, monitor) == []


async def test_who_leaves_while_the_broker_is_away_is_not_subscribed_when_it_is_back(broker, gateway, client, monitor):
    async def answers(status):
        return (await client.get("/readyz")).status_code == status

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(listening(client, "s"))
        await stack.enter_async_context(connect(f"{gateway.websocket_url}/v1/streams/t/transcript"))
        spoken = await stack.enter_async_context(connect(f"{gateway.websocket_url}/v1/realtime?intent=transcription"))
        assert json.loads(await spoken.recv())["type"] == "session.created"
        before = await subscribed(client, monitor)
        broker.stop()
        await until(lambda: answers(503))
        ended = len(gateway.requests())

    async def left():
        routes = [line["route"] for line in gateway.requests()[ended:]]
        return routes.count("/v1/streams/{stream}/transcript") == 2 and "/v1/realtime" in routes

    await until(left)
    broker.start()
    await until(lambda: answers(200))
    await client.get("/v1/streams")  # what it was subscribed to is sent before

    assert [subject.split(".")[1][:3] for subject in before] == ["rt-", "s", "t"]
    assert await subscribed(client, monitor) == []
