"""Durable streams that are over: nobody serves them again, and their places are others'."""

import asyncio
import signal
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bench.chaos.readers import consumers
from tests.support.daemon import Daemon
from tests.support.durable_streams import (
    ENV,
    WINDOW,
    provisioned,
    store,
    store_windows,
    until_acknowledged,
    until_ended,
    until_stored,
)
from tests.support.file_jobs import before
from tests.support.messages import payloads_on
from tests.support.waiting import PATIENCE_S, until
from transcriber.bus.client_session import connected
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import load_settings
from transcriber.durable import unserved
from transcriber.durable.unserved import UnservedStreams
from transcriber.errors import UnansweredError

LOOK = "$JS.API.STREAM.INFO.AUDIO"
FOR_EVER = {"STREAM_IDLE_SECS": 3600}
SOON = {"STREAM_IDLE_SECS": 0.5, "FAKE_SET": "transcriber.durable.pull_request:PULL_S=2"}
"""A stream that is over is left within seconds."""


def noting(names, *, there_is_room=True):
    """Takes note of who is to be served."""

    def serve(name):
        names.append(name)
        return there_is_room

    return serve


def call(name, stream):
    return f"$JS.API.CONSUMER.{name}.AUDIO.transcriber-{stream}"


async def speech(publisher, stream, levels, first=0):
    """A session that says its end."""
    await store_windows(publisher, stream, levels, first=first, offsets=False)
    await store(publisher, stream, b"", end=1)


@asynccontextmanager
async def left(publisher, stream, broker, folder):
    """A daemon that has served a stream, and serves it no more."""
    unpinned = await payloads_on(publisher, call("UNPIN", stream))  # when it comes, and when it goes
    async with Daemon(broker.url, folder, **ENV, **SOON) as daemon:
        await until(lambda: len(unpinned) == 2, "the stream to be left")
        yield daemon


async def looks(publisher, count):
    """Wait until the daemon has looked for streams so often."""
    seen = await payloads_on(publisher, LOOK)
    await until(lambda: len(seen) > count, "looks")


async def test_a_stream_that_is_over_gives_its_place_to_the_one_that_comes(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, **ENV, **FOR_EVER, MAX_STREAMS=1) as daemon:
        for number, name in enumerate("abc", 1):
            await speech(publisher, name, [number])
            found = await until_ended(publisher, name)
            assert found.text == [str(number)]
        await speech(publisher, "a", [4])
        found = await until_ended(publisher, "a", sessions=2)

    assert found.text == ["1", "4"]
    assert "fenced off" not in daemon.log()
    found.check(WINDOW, WINDOW)


async def test_a_stream_with_an_open_session_keeps_its_place(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, **ENV, **FOR_EVER, MAX_STREAMS=1) as daemon:
        await store_windows(publisher, "a", [1])
        await until_stored(publisher, lambda found: found.text == ["1"], "a")
        await speech(publisher, "b", [2])
        await until(lambda: "stream not served: too many" in daemon.log(), "the refusal")
        await store_windows(publisher, "a", [3], first=1)
        await store(publisher, "a", b"", end=1)
        found = await until_ended(publisher, "a")
        await until_ended(publisher, "b")

    assert found.text == ["1", "3"]
    found.check(2 * WINDOW)


async def test_a_stream_that_is_over_is_not_served_again_as_its_audio_ages(broker, tmp_path, publisher):
    await provisioned(broker)
    await speech(publisher, "s", [1, 2, 3])
    await store(publisher, "s", b"")  # a heartbeat, of which nothing is published
    async with left(publisher, "s", broker, tmp_path):
        await until_acknowledged(publisher)
        pulls = await payloads_on(publisher, call("MSG.NEXT", "s"))
        for kept in (3, 2, 1):
            await publisher.jetstream().purge_stream("AUDIO", subject="audio.s", keep=kept)
            await looks(publisher, 2)
        found = await until_ended(publisher)

    assert pulls == []
    found.check(3 * WINDOW)


async def test_audio_is_found_where_as_much_goes_as_comes(broker, tmp_path, publisher):
    """A stream that is full has always as many messages."""
    await provisioned(broker)
    config = (await publisher.jetstream().stream_info("AUDIO")).config
    await publisher.jetstream().update_stream(config.evolve(max_msgs=4))
    await speech(publisher, "s", [1, 2, 3])
    async with left(publisher, "s", broker, tmp_path):
        await looks(publisher, 2)
        await speech(publisher, "s", [4, 5, 6])
        found = await until_ended(publisher, sessions=2)

    assert found.text == ["1", "2", "3", "4", "5", "6"]
    found.check(3 * WINDOW, 3 * WINDOW)


async def test_the_next_daemon_serves_only_what_has_something_to_do(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, **ENV) as first:
        await speech(publisher, "a", [1])
        await until_ended(publisher, "a")
        await until_acknowledged(publisher, "a")
        await first.stop()
    await speech(publisher, "b", [2])
    pulls = await payloads_on(publisher, call("MSG.NEXT", "a"))
    async with Daemon(broker.url, tmp_path, **ENV, **FOR_EVER, MAX_STREAMS=1):
        found = await until_ended(publisher, "b")
        await looks(publisher, 2)

    assert found.text == ["2"]
    assert pulls == []


async def test_what_a_dead_daemon_had_still_to_publish_or_to_acknowledge_the_next_one_does(broker, tmp_path, publisher):
    """All words are published, but not the end; then all is published, but not acknowledged."""
    async with Daemon(broker.url, tmp_path, **ENV) as first:
        await store_windows(publisher, "s", [1])
        await until_stored(publisher, lambda found: found.text == ["1"])
        await first.stop(signal.SIGKILL)
    last = before("durable.consumer:Consumer.acknowledge:1")
    async with Daemon(broker.url, tmp_path, **ENV, **last, STREAM_IDLE_SECS=1) as second:
        found = await until_ended(publisher)
        assert await second.ended() == -signal.SIGKILL
    assert (await consumers(publisher))["s"].pending
    async with Daemon(broker.url, tmp_path, **ENV):
        await until_acknowledged(publisher)

    assert found.text == ["1"]
    found.check(WINDOW)


async def test_a_stream_without_a_consumer_holds_no_place_that_others_need(broker, tmp_path, publisher):
    await provisioned(broker, "b")
    await speech(publisher, "a", [1])
    env = ENV | FOR_EVER | {"PROVISION": 0, "MAX_STREAMS": 1}
    async with Daemon(broker.url, tmp_path, **env) as daemon:
        await until(lambda: "there is no consumer transcriber-a" in daemon.log(), "the stream that cannot be served")
        await speech(publisher, "b", [2])
        found = await until_ended(publisher, "b")
        await provisioned(broker, "a")
        await until_ended(publisher, "a")

    assert found.text == ["2"]


async def test_the_consumer_of_a_stream_that_came_and_went_is_removed_and_one_that_was_provisioned_is_not(
    broker, tmp_path, publisher
):
    await provisioned(broker, "kept")
    async with Daemon(broker.url, tmp_path, **ENV, **SOON, AUDIO_MAX_AGE_SECS=3) as daemon:
        for name in ("kept", "s"):
            await speech(publisher, name, [1])
            await until_ended(publisher, name)
        async with asyncio.timeout(PATIENCE_S):
            while "s" in await consumers(publisher):  # noqa: ASYNC110 - the broker does not say
                await asyncio.sleep(0.05)
        await looks(publisher, 2)
        names = set(await consumers(publisher))
        await speech(publisher, "s", [2])
        found = await until_ended(publisher, "s", sessions=2)
        thresholds = [
            (await publisher.jetstream().consumer_info("AUDIO", f"transcriber-{name}")).config.inactive_threshold
            for name in ("s", "kept")
        ]
        status, _ = await daemon.stop()

    assert status == 0
    assert names == {"kept"}
    assert found.text == ["1", "2"]
    assert thresholds == [3, None]


async def test_all_of_which_there_may_be_something_new_are_asked_for_in_turn(broker, publisher, monkeypatch):
    monkeypatch.setattr(unserved, "MOST_DOUBTS", 1)
    await provisioned(broker)
    config = (await publisher.jetstream().stream_info("AUDIO")).config
    await publisher.jetstream().update_stream(config.evolve(max_msgs=6))
    names: list[str] = ["a", "b", "c"]
    found: list[str] = []
    settings = load_settings(nats_url=broker.url, durable=True)
    runtime: Any = SimpleNamespace(settings=settings)

    async with connected(settings, "test") as connection:
        streams = UnservedStreams(connection, runtime)
        await streams.find((), noting(found))
        for name in names * 2:
            streams.over(name, await store(publisher, name, b"old"))
        await streams.find((), noting(found))
        at_first = list(found)
        for name in names * 2:  # as many as before of each
            await store(publisher, name, b"new")
        for _ in names:
            await streams.find(found, noting(found))

    assert at_first == []
    assert sorted(found) == names


async def test_a_stream_that_waits_for_a_place_is_asked_for_again_if_nobody_answered(broker, publisher):
    await provisioned(broker)
    await store(publisher, "a", b"new")
    settings = load_settings(nats_url=broker.url, durable=True)
    runtime: Any = SimpleNamespace(settings=settings)
    served: list[str] = []

    async with connected(settings, "test") as connection:
        streams = UnservedStreams(connection, runtime)
        await streams.find((), lambda _: False)
        answering, streams._jetstream = streams._jetstream, JetStream(Connection())
        with pytest.raises(UnansweredError):
            await streams.find((), lambda _: False)
        streams._jetstream = answering
        await streams.find((), noting(served))

    assert served == ["a"]


async def test_where_there_is_no_place_nobody_else_is_asked_for(broker, publisher):
    await provisioned(broker)
    names = [f"s{number}" for number in range(2 * unserved.AT_ONCE)]
    for name in names:
        await store(publisher, name, b"new")
    settings = load_settings(nats_url=broker.url, durable=True)
    runtime: Any = SimpleNamespace(settings=settings)
    offered: list[str] = []
    served: list[str] = []

    async with connected(settings, "test") as connection:
        streams = UnservedStreams(connection, runtime)
        await streams.find((), noting(offered, there_is_room=False))
        asked = await payloads_on(publisher, "$JS.API.STREAM.MSG.GET.TRANSCRIPTS")
        await streams.find((), lambda _: False)
        few = len(asked)
        await streams.find((), noting(served))

    assert len(offered) == 1
    assert 0 < few <= unserved.AT_ONCE
    assert sorted(served) == sorted(names)
