"""The chain of stored messages of one stream, on a real JetStream: each follows upon the last one, or is not stored."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.chaos.readers import read_texts
from tests.harness import PATIENCE_S
from tests.stored import provisioned
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import load_settings
from transcriber.durable.transcript_log import TranscriptLog
from transcriber.engine.job import Job, Lane
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.queue_slots import QueueSlots
from transcriber.errors import FencedError, UnansweredError
from transcriber.logs import RateLimited
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.messages import Status
from transcriber.telemetry import Telemetry
from transcriber.testing.broker import EmbeddedBroker


@pytest.fixture
def broker(tmp_path):
    with EmbeddedBroker(store=tmp_path / "store") as running:
        yield running


@contextlib.asynccontextmanager
async def ledger_of(broker, instance, name="s"):
    settings = load_settings(nats_url=broker.url)
    connection = Connection()
    await connection.open(settings, name=instance)
    runtime: Any = SimpleNamespace(
        settings=settings, telemetry=Telemetry(settings, instance), warnings=RateLimited(logging.getLogger("test"))
    )
    try:
        yield TranscriptLog(JetStream(connection), name, runtime, runtime.telemetry.counters())
    finally:
        await connection.close()


def status(instance, seq, session="1", frame=0):
    return Status(
        stream="s",
        session=session,
        rate=16_000,
        start_frame=frame,
        frames=0,
        start=frame / 16_000,
        duration=0.0,
        received_at=datetime.now(UTC),
        first_seq=seq,
        last_seq=seq,
        lag_s=0.0,
        checkpoint=Checkpoint(instance=instance, seq=seq, attempts=0, session=None),
        state="started",
    )


async def ids(mouth):
    return [text.id for text in await read_texts(mouth)]


async def test_empty_ledger_says_nothing_and_the_last_message_all(broker, mouth):
    await provisioned(broker)
    async with ledger_of(broker, "a") as ledger:
        assert await ledger.read() is None
        assert ledger.stored_at is None
        await ledger.append(status("a", 3), "one", "")
        await ledger.append(status("a", 4), "two", "")
    async with ledger_of(broker, "b") as other:
        found = await other.read()

    assert (found.instance, found.seq) == ("a", 4)
    assert other.stored_at is not None
    assert await ids(mouth) == ["one", "two"]


async def test_of_two_writers_the_one_who_comes_late_is_fenced_off(broker, mouth):
    await provisioned(broker)
    async with ledger_of(broker, "a") as first, ledger_of(broker, "b") as second:
        await first.read()
        await second.read()
        await first.append(status("a", 1), "one", "")
        with pytest.raises(FencedError, match="a"):
            await second.append(status("b", 1), "one", "")
        with pytest.raises(FencedError, match="a"):
            await second.append(status("b", 1), "another", "")
        assert (await second.read()).instance == "a"
        await second.append(status("b", 2), "two", "")
        with pytest.raises(FencedError, match="b"):
            await first.append(status("a", 2), "two", "")

    assert await ids(mouth) == ["one", "two"]


async def test_streams_do_not_fence_each_other(broker, mouth):
    await provisioned(broker)
    async with ledger_of(broker, "a") as one, ledger_of(broker, "b", "other") as other:
        await one.read()
        await other.read()
        await one.append(status("a", 1), "one", "")
        await other.append(status("b", 1).model_copy(update={"stream": "other"}), "other", "")
        await one.append(status("a", 2), "two", "")

    assert await ids(mouth) == ["one", "other", "two"]


async def test_lost_answer_stores_nothing_twice(broker, mouth, monkeypatch):
    await provisioned(broker)
    store, lost = JetStream.store, []

    async def deaf(self, subject, payload, headers):
        confirmed = await store(self, subject, payload, headers)
        if headers["Nats-Msg-Id"] not in lost:
            lost.append(headers["Nats-Msg-Id"])
            raise UnansweredError("lost on the way")
        return confirmed

    monkeypatch.setattr(JetStream, "store", deaf)
    async with ledger_of(broker, "a") as ledger:
        await ledger.read()
        for name in ("s:1:0:0:status:1", "s:1:0:0:status:10", "s:1:0:0:status:2"):
            await ledger.append(status("a", 1), name, "")

    assert await ids(mouth) == lost == ["s:1:0:0:status:1", "s:1:0:0:status:10", "s:1:0:0:status:2"]


async def test_id_that_is_used_again_loses_nothing(broker, mouth):
    await provisioned(broker)
    async with ledger_of(broker, "a") as ledger, asyncio.timeout(PATIENCE_S):
        await ledger.read()
        for _ in range(3):
            await ledger.append(status("a", 7), "same", "")

    assert await ids(mouth) == ["same", "same:1", "same:2"]


async def test_purge_leaves_the_ledger_alive(broker, mouth):
    await provisioned(broker)
    async with ledger_of(broker, "a") as ledger, asyncio.timeout(PATIENCE_S):
        await ledger.read()
        await ledger.append(status("a", 1), "one", "")
        await mouth.jetstream().purge_stream("TRANSCRIPTS")
        await ledger.append(status("a", 2), "two", "")
        await ledger.append(status("a", 3), "three", "")

    assert await ids(mouth) == ["two", "three"]


@pytest.mark.parametrize("payload", [b"\xff", b"[]", b'{"checkpoint": {"seq": -1}}', b'{"checkpoint": 3}', b"{}"])
async def test_what_is_no_checkpoint_is_none(broker, mouth, payload):
    await provisioned(broker)
    await mouth.jetstream().publish("transcripts.s.status", payload)
    async with ledger_of(broker, "a") as ledger:
        assert await ledger.read() is None
        assert ledger.last_seq == 1
        await ledger.append(status("a", 1), "one", "")
        await mouth.jetstream().publish("transcripts.s.status", payload)
        with pytest.raises(FencedError, match="no daemon"):
            await ledger.append(status("a", 2), "two", "")


async def test_place_that_was_promised_is_not_lost_to_somebody_faster():
    """Between the promise and its keeping another one takes the place: whoever was promised it waits on, and first."""
    queue = JobQueue(1)
    worker: Any = SimpleNamespace(queue=queue, on_room=[])
    places = QueueSlots(worker)
    taken = []

    async def take(name):
        await places.free()
        refused = queue.try_put(
            Job(stream=name, samples=np.zeros(0, np.float32), language=None, settle=lambda *_: None, lane=Lane.FINAL)
        )
        assert refused is None, f"{name} was promised a place"
        taken.append(name)

    await take("a")
    waiting = asyncio.create_task(take("b"))
    await asyncio.sleep(0)
    queue.get()
    worker.on_room[0]()
    await take("c")  # does not wait, as nobody else seems to
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.get()
    worker.on_room[0]()
    await waiting

    assert taken == ["a", "c", "b"]


async def test_a_place_is_not_promised_to_somebody_who_was_cancelled():
    queue = JobQueue(1)
    worker: Any = SimpleNamespace(queue=queue, on_room=[])
    places = QueueSlots(worker)
    job = Job(stream="a", samples=np.zeros(0, np.float32), language=None, settle=lambda *_: None, lane=Lane.FINAL)
    assert queue.try_put(job) is None
    cancelled, waiting = asyncio.create_task(places.free()), asyncio.create_task(places.free())
    await asyncio.sleep(0)
    queue.get()
    cancelled.cancel()  # and does not know it yet
    worker.on_room[0]()
    async with asyncio.timeout(PATIENCE_S):
        await waiting
    assert cancelled.cancelled()


@pytest.mark.parametrize("answer", [b"", b"thanks", b"1", b"[]", b"{}", b'{"error": "no"}', b'{"seq": "1"}'])
async def test_an_answer_of_somebody_else_is_no_confirmation_and_no_crash(broker, mouth, answer):
    """As of a client that answers whatever is published."""

    async def reply(message):
        await message.respond(answer)

    await mouth.subscribe("elsewhere", cb=reply)
    await mouth.flush()
    connection = Connection()
    await connection.open(load_settings(nats_url=broker.url), name="test")
    try:
        with pytest.raises(UnansweredError):
            await JetStream(connection).store("elsewhere", b"", {})
    finally:
        await connection.close()
