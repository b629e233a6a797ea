"""Answers without end: what refuses them, and how they end, with a real nats-server."""

import asyncio
import types
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from starlette.requests import Request

from tests.support.durable_streams import provisioned
from tests.support.messages import end, said, started
from tests.support.waiting import PATIENCE_S, settled, until
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.streams.captions import captions
from transcriber.gateway.streams.listeners import MOST_ITEMS
from transcriber.gateway.streams.transcript import transcript
from transcriber.schema.messages import Final, Revision, Silence, Word, message_id
from transcriber.telemetry.gateway_figures import GatewayFigures
from transcriber.testing.broker import EmbeddedBroker

TEXT = "transcripts.s.*"


def message(number):
    return (
        Silence(
            stream="s", session="one", rate=16_000, start_frame=number, frames=1, start=0, duration=0,
            received_at=datetime.now(UTC), speaker=None,
        )
        .model_dump_json(by_alias=True)
        .encode()
    )  # fmt: skip


@pytest.fixture
def broker(tmp_path):
    with EmbeddedBroker(store=tmp_path / "store") as running:
        yield running


async def unaudited(*_, **__):
    """There is no audit."""


class Gateway:
    """What handlers see of a gateway, on a real connection."""

    def __init__(self, connection, settings):
        self.connection, self.stopping = connection, asyncio.Event()
        runtime = types.SimpleNamespace(
            connection=connection, settings=settings, stopping=self.stopping, figures=GatewayFigures(),
            keys=types.SimpleNamespace(authorise=lambda *_: None), note_read=unaudited,
        )  # fmt: skip
        self.app = types.SimpleNamespace(state=types.SimpleNamespace(runtime=runtime))

    @property
    def subjects(self):
        """Of the text that it is subscribed to."""
        return [one.subject for one in self.connection.client._subs.values() if one.subject.startswith("transcripts.")]

    async def get(self, handler, query=""):
        """A client that has asked and been answered."""
        return await Client(self, query).ask(handler)


class Client:
    """One request.

    Attributes:
        body: what has come of its answer.
        whole: whether that is all.
        gone: set when its connection is dropped, by either side.
    """

    def __init__(self, gateway, query):
        self.gone, self.body, self.whole = asyncio.Event(), "", False
        self._scope = {
            "type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query.encode(),
            "path_params": {"stream": "s"}, "app": gateway.app, "state": {"abort": self.gone.set},
        }  # fmt: skip

    async def ask(self, handler):
        self._answer = await handler(Request(self._scope))
        return self

    async def read(self):
        await self._answer(self._scope, self._receive, self._send)

    @asynccontextmanager
    async def reading(self):
        """It leaves at the end."""
        reading = asyncio.create_task(self.read())
        yield
        self.gone.set()
        await asyncio.wait_for(reading, PATIENCE_S)

    async def has(self, text):
        await until(lambda: text in self.body, text)

    async def _receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event):
        if event["type"] == "http.response.body":
            self.body += event["body"].decode()
            self.whole = not event["more_body"]


@pytest.fixture
async def gateway(broker):
    settings = load_settings(nats_url=broker.url)
    async with connected(settings, "test") as connection:
        yield Gateway(connection, settings)


async def test_what_refuses_text_is_known_before_its_answer_begins(gateway):
    for handler in (transcript, captions):
        client = await gateway.get(handler)
        assert gateway.subjects == [TEXT]
        async with client.reading():
            await client.has("WEBVTT" if handler is captions else "listening")
        assert gateway.subjects == []
    with pytest.raises(ApiError, match="not stored"):
        await gateway.get(transcript, "from=1")
    assert gateway.subjects == []


async def test_text_that_is_stored_from_now_on_is_read_beside_who_heard_it_live(gateway, broker, publisher):
    early = await gateway.get(transcript)
    async with early.reading():
        await early.has("listening")
        await provisioned(broker)
        stored = publisher.jetstream()
        await stored.publish("transcripts.s.silence", message(1))
        late = await gateway.get(transcript, "from=0")
        async with late.reading():
            await late.has("id: 1")
            await stored.publish("transcripts.s.silence", message(2))
            await late.has("id: 2")
            await early.has('"start_frame":2')
        assert gateway.subjects == [TEXT]

    for client in (early, late):
        assert [client.body.count(f'"start_frame":{number},') for number in (1, 2)] == [1, 1]
    assert gateway.subjects == []


@pytest.mark.parametrize("why", ["slow", "stopping"])
async def test_live_captions_that_are_not_whole_are_cut_off(gateway, publisher, why):
    client = await gateway.get(captions)
    if why == "slow":
        for number in range(MOST_ITEMS + 1):
            await publisher.publish("transcripts.s.silence", message(number))
        await settled(publisher)
        await gateway.connection.flush(PATIENCE_S)
        await until(lambda: not any(one.pending_msgs for one in gateway.connection.client._subs.values()))
    else:
        gateway.stopping.set()
    async with asyncio.timeout(PATIENCE_S):
        await client.read()

    assert client.gone.is_set()
    assert not client.whole
    assert gateway.subjects == []


def by_voices(kind, *labels, **more):
    """Two words, each with a label."""
    words = [
        Word(word=word, start=start, end=start + 2, confidence=1, speaker=label)
        for word, start, label in zip(("Ready?", "Aye."), (0.0, 2.0), labels, strict=True)
    ]
    return said(kind, "Ready? Aye.", 0, words=tuple(words), speaker=labels[0], **more)


async def test_captions_name_voices_and_of_a_stored_session_as_its_revision_says(gateway, broker, publisher):
    live = await gateway.get(captions)
    spoken = by_voices(Final, "A", "B")
    async with live.reading():
        for one in (started(), spoken, end(5)):
            await publisher.publish(f"transcripts.s.{one.type}", one.model_dump_json(by_alias=True).encode())
        await until(lambda: live.whole)

    await provisioned(broker)
    replaced = (message_id("s", "a", 0, "final", 0),)
    revision = by_voices(Revision, "B", "A", replaces=replaced, last_segment=0)
    for one in (started(), spoken, revision, end(5)):
        stored = one.model_copy(update={"stream": "s"})
        await publisher.jetstream().publish(f"transcripts.s.{one.type}", stored.model_dump_json(by_alias=True).encode())
    whole = (await gateway.get(captions))._answer.body.decode()

    assert [line for line in live.body.splitlines() if line.startswith("<v")] == [
        "<v Speaker A>Ready?",
        "<v Speaker B>Aye.",
    ]
    assert [line for line in whole.splitlines() if line.startswith("<v")] == [
        "<v Speaker B>Ready?",
        "<v Speaker A>Aye.",
    ]
