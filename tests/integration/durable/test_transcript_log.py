"""The chain of stored messages of one stream, on a real JetStream: each follows upon the last one, or is not stored."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bench.chaos.readers import read_texts
from tests.support.durable_streams import provisioned
from tests.support.waiting import PATIENCE_S, settled
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import load_settings
from transcriber.durable.transcript_log import TranscriptLog
from transcriber.errors import FencedError, UnansweredError
from transcriber.logs import RateLimited
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.messages import Status
from transcriber.telemetry import Telemetry


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


async def ids(publisher):
    return [text.id for text in await read_texts(publisher)]


async def test_empty_ledger_says_nothing_and_the_last_message_all(broker, publisher):
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
    assert await ids(publisher) == ["one", "two"]


async def test_of_two_writers_the_one_who_comes_late_is_fenced_off(broker, publisher):
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

    assert await ids(publisher) == ["one", "two"]


async def test_text_of_this_daemon_that_it_did_not_read_is_read_before_more_is_stored(broker, publisher):
    """As after an old copy answered, or a request was still on its way: what follows the older text would be stored twice."""
    await provisioned(broker)
    async with ledger_of(broker, "a") as ledger, ledger_of(broker, "a") as outdated:
        await outdated.read()
        await ledger.read()
        await ledger.append(status("a", 1), "one", "")
        await ledger.append(status("a", 2), "two", "")
        for name in ("one", "one more"):
            with pytest.raises(UnansweredError, match="read again"):
                await outdated.append(status("a", 1), name, "")
        await outdated.read()
        await outdated.append(status("a", 3), "three", "")

    assert await ids(publisher) == ["one", "two", "three"]


async def test_streams_do_not_fence_each_other(broker, publisher):
    await provisioned(broker)
    async with ledger_of(broker, "a") as one, ledger_of(broker, "b", "other") as other:
        await one.read()
        await other.read()
        await one.append(status("a", 1), "one", "")
        await other.append(status("b", 1).model_copy(update={"stream": "other"}), "other", "")
        await one.append(status("a", 2), "two", "")

    assert await ids(publisher) == ["one", "other", "two"]


async def test_lost_answer_stores_nothing_twice(broker, publisher, monkeypatch):
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

    assert await ids(publisher) == lost == ["s:1:0:0:status:1", "s:1:0:0:status:10", "s:1:0:0:status:2"]


async def test_id_that_is_used_again_loses_nothing(broker, publisher):
    await provisioned(broker)
    async with ledger_of(broker, "a") as ledger, asyncio.timeout(PATIENCE_S):
        await ledger.read()
        for _ in range(3):
            await ledger.append(status("a", 7), "same", "")

    assert await ids(publisher) == ["same", "same:1", "same:2"]


async def test_purge_leaves_the_ledger_alive(broker, publisher):
    await provisioned(broker)
    async with ledger_of(broker, "a") as ledger, asyncio.timeout(PATIENCE_S):
        await ledger.read()
        await ledger.append(status("a", 1), "one", "")
        await publisher.jetstream().purge_stream("TRANSCRIPTS")
        await ledger.append(status("a", 2), "two", "")
        await ledger.append(status("a", 3), "three", "")

    assert await ids(publisher) == ["two", "three"]


@pytest.mark.parametrize("payload", [b"\xff", b"[]", b'{"checkpoint": {"seq": -1}}', b'{"checkpoint": 3}', b"{}"])
async def test_what_is_no_checkpoint_is_none(broker, publisher, payload):
    await provisioned(broker)
    await publisher.jetstream().publish("transcripts.s.status", payload)
    async with ledger_of(broker, "a") as ledger:
        assert await ledger.read() is None
        assert ledger.last_seq == 1
        await ledger.append(status("a", 1), "one", "")
        await publisher.jetstream().publish("transcripts.s.status", payload)
        with pytest.raises(FencedError, match="no daemon"):
            await ledger.append(status("a", 2), "two", "")


@pytest.mark.parametrize("answer", [b"", b"thanks", b"1", b"[]", b"{}", b'{"error": "no"}', b'{"seq": "1"}'])
async def test_an_answer_that_is_not_the_brokers_is_no_confirmation_and_no_crash(broker, publisher, answer):
    """As of a client that answers whatever is published."""

    async def reply(message):
        await message.respond(answer)

    await publisher.subscribe("elsewhere", cb=reply)
    await settled(publisher)
    connection = Connection()
    await connection.open(load_settings(nats_url=broker.url), name="test")
    try:
        with pytest.raises(UnansweredError):
            await JetStream(connection).store("elsewhere", b"", {})
    finally:
        await connection.close()
