"""What the tests of durable mode share: a broker that stores, and what it has stored, read back and checked."""

import asyncio
import contextlib
import time
from itertools import pairwise
from uuid import uuid4

import nats

from bench.chaos.readers import consumers, read_texts
from tests.support.audio import level
from tests.support.daemon import Daemon
from tests.support.waiting import PATIENCE_S
from transcriber.bus.jetstream.provision import provision
from transcriber.config import load_settings
from transcriber.schema.messages import End, Final, Gap, Partial, Silence, Status
from transcriber.testing.verify import account_errors

RATE = 16_000
WINDOW = RATE // 2
ENV = {"DURABLE": 1, "PROVISION": 1, "INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}
"""A daemon of short windows."""

TILES = Final | Silence | Gap


async def provisioned(broker, *streams, **settings):
    """Streams and consumers, as a cluster's job makes them."""
    await provision(load_settings(nats_url=broker.url, **settings), streams, check=False, say=lambda _: None)


async def store(publisher, stream, payload, **headers):
    """Publish one payload and wait until it is stored; ``offset=3`` becomes ``Audio-Offset: 3``. Returns its sequence."""
    names = {"offset": "Audio-Offset", "end": "Audio-End", "session": "Audio-Session", "content_type": "Content-Type"}
    named = {names.get(name, name): str(value) for name, value in headers.items()} | {"Nats-Msg-Id": uuid4().hex}
    while True:
        with contextlib.suppress(nats.errors.Error):
            return (await publisher.jetstream().publish(f"audio.{stream}", payload, timeout=1, headers=named)).seq


async def store_windows(publisher, stream, levels, *, first=0, offsets=True):
    """A payload for each window, from window number ``first`` on."""
    for number, value in enumerate(levels, first):
        place = {"offset": number * WINDOW} if offsets else {}
        await store(publisher, stream, level(value, WINDOW), **place)


class Stored:
    """The stored messages of one stream, in their order.

    Attributes:
        ids: their ``Nats-Msg-Id``.
    """

    def __init__(self, texts, stream):
        own = [text for text in texts if text.message.stream == stream]
        self.messages = [text.message for text in own]
        self.ids = [text.id for text in own]

    def of(self, kind):
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def text(self):
        return [final.text for final in self.of(Final)]

    @property
    def gaps(self):
        return [(gap.reason, gap.start_frame, gap.frames) for gap in self.of(Gap)]

    @property
    def sessions(self):
        return list(dict.fromkeys(message.session for message in self.messages))

    def check(self, *frames):
        """Each session has one start, one end, and so many frames, in tiles that are stored in their order."""
        assert len(set(self.ids)) == len(self.ids)
        assert not self.of(Partial)
        assert len(self.sessions) == len(frames), self.sessions
        for session, length in zip(self.sessions, frames, strict=True):
            own = [message for message in self.messages if message.session == session]
            assert [message.state for message in own if isinstance(message, Status)].count("started") == 1
            assert isinstance(own[-1], End)
            assert account_errors(own, length) == []
            for speaker in {message.speaker for message in own if isinstance(message, TILES)}:
                tiles = [m for m in own if isinstance(m, TILES) and m.speaker == speaker]
                assert all(a.start_frame <= b.start_frame for a, b in pairwise(tiles))


async def stored(publisher, stream="s"):
    return Stored(await read_texts(publisher), stream)


async def until_stored(publisher, condition, stream="s"):
    """Wait until what is stored of a stream fulfils ``condition``; returns it."""
    found, seen = None, -1
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                last_seq = (await publisher.jetstream().stream_info("TRANSCRIPTS")).state.last_seq
                if last_seq != seen and condition(found := await stored(publisher, stream)):
                    return found
                seen = last_seq
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"in vain: {found and [(m.type, m.start_frame) for m in found.messages]}") from None


async def until_ended(publisher, stream="s", sessions=1):
    """Wait for so many sessions to end; returns what is stored of the stream."""
    return await until_stored(publisher, lambda found: len(found.of(End)) >= sessions, stream)


async def until_acknowledged(publisher, stream="s"):
    """Wait until nothing is left for the consumer of a stream."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (await consumers(publisher))[stream].pending:
        assert time.monotonic() < deadline_s, "not all is acknowledged"
        await asyncio.sleep(0.05)


LASTING = {"HEARTBEAT_TIMEOUT_SECS": 100, "STREAM_IDLE_SECS": 300}
"""A session outlasts its daemons, however long the next one takes to start on a busy machine."""


class Restarted:
    """One place for a daemon, in which another is started whenever one dies; as long as the ``async with`` block lasts.

    Attributes:
        deaths: how many ended by themselves.
        daemon: the present one.
    """

    def __init__(self, broker, folder, **env):
        self.deaths = 0
        self.daemon = Daemon(broker.url, folder, **LASTING | env)

    async def __aenter__(self):
        self.daemon.start()
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_):
        self._supervisor.cancel()
        await self.daemon.__aexit__()

    async def kill(self):
        """SIGKILL; the next one starts at once."""
        self.deaths -= 1
        self.daemon.process.kill()
        self.daemon.process.wait()

    async def _supervise(self):
        while True:
            if self.daemon.process.poll() is not None:
                self.deaths += 1
                self.daemon.start()
            await asyncio.sleep(0.01)
