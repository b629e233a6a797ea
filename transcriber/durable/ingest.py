"""The durable path: every audio subject that JetStream stores for this daemon, one ``DurableStream`` each.

In: deliveries of the consumers, all to one inbox. Out: streams that are found, started, and drained.
"""

import asyncio
import logging
from functools import partial

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.bus.jetstream import provision
from transcriber.durable.consumer import Consumer
from transcriber.durable.stream import DurableStream
from transcriber.durable.unserved import UnservedStreams
from transcriber.engine.pool import WorkerPool
from transcriber.engine.queue_slots import QueueSlots
from transcriber.errors import JetStreamError, RefusedError, UnansweredError
from transcriber.pipeline.ingest import Ingest
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.subjects import STREAM_NAME
from transcriber.tasks import cancel

log = logging.getLogger(__name__)

FIND_S = 1.0
"""Seconds between searches for new subjects."""

INBOX_BYTES = 2**26
"""What may wait in the NATS client; each stream requests a megabyte at a time."""


class DurableIngest(Ingest[DurableStream]):
    """Event loop only."""

    def __init__(self, connection: Connection, pool: WorkerPool, runtime: Runtime) -> None:
        super().__init__()
        self._connection = connection
        self._pool = pool
        self._slots = {worker: QueueSlots(worker) for worker in pool.workers}
        self._runtime = runtime
        self._inbox = connection.client.new_inbox()
        self._subscribed = False
        self._draining = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.tasks = self._tasks.values()
        self._unserved = UnservedStreams(connection, runtime)
        self._resets = 0  # of streams that are over
        connection.on_back = self._on_back

    @property
    def subscribed(self) -> bool:
        return self._subscribed and not self._draining

    @property
    def fenced(self) -> int:
        """Streams of which another daemon is the owner."""
        return sum(stream.fenced for stream in list(self.streams.values()))

    @property
    def resets(self) -> int:
        """How often a consumer was reset."""
        return self._resets + sum(stream.consumer.resets for stream in list(self.streams.values()))

    @property
    def lag_s(self) -> float:
        """Of the stream with the most lag: how long ago the oldest audio was stored that could be text by now."""
        return max((stream.lag_s for stream in list(self.streams.values())), default=0.0)

    async def subscribe(self) -> None:
        """Make or check what is needed of JetStream, and begin to take audio.

        Raises:
            StartError: something is missing, or denied.
        """
        settings = self._runtime.settings
        await self._settle_streams()
        await self._connection.subscribe(f"{self._inbox}.*.*", self._on_message, pending_bytes=INBOX_BYTES)
        if not settings.wildcard:
            name = settings.audio_subject.rpartition(".")[2]
            await self._settle_consumer(name)
            self._serve(name)
        self._subscribed = True

    async def sweep(self) -> None:
        """Look for new streams, and after those that are over, until cancelled.

        Raises:
            Whatever a stream raised: that is a crash.
        """
        while True:
            if self._runtime.settings.wildcard and not self._draining:
                await self._find_streams()
            await self._pause()
            for name, task in list(self._tasks.items()):
                if task.done():
                    task.result()
                    self._forget(name)

    async def _pause(self) -> None:
        """Until it is time to look again, or a stream is over."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=FIND_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(FIND_S)

    async def drain(self) -> None:
        """Take no more audio."""
        self._draining = True
        for stream in self.streams.values():
            stream.drain()

    def close(self) -> None:
        """Nothing ends: the next owner resumes the sessions."""

    async def finish(self, timeout_s: float) -> None:
        """Store what the workers have transcribed."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=timeout_s)
            await cancel(late)

    async def _find_streams(self) -> None:
        """Serve each stream that has something to do."""
        try:
            await self._unserved.find(self.streams, self._serve_found)
        except (JetStreamError, UnansweredError, RefusedError) as error:
            if self._connection.connected:
                self._runtime.warnings.warning("jetstream", "new streams are not found: %s", error)

    def _serve_found(self, name: str) -> bool:
        """Serve a stream, if its name is valid and there is a slot; returns whether it need not be offered again."""
        if self._draining:  # since the request: what is served now would not be drained, nor find a slot in the queue
            return False
        if not STREAM_NAME.fullmatch(name):
            self._not_served(name, "its name is not valid")
            return True
        if not self._has_slot():
            self._not_served(name, "too many")
            return False
        self._serve(name)
        return True

    def _has_slot(self) -> bool:
        """Whether there is one more; a stream that has nothing to do gives up its own."""
        if sum(not stream.giving_way for stream in self.streams.values()) < self._runtime.daemon.max_streams:
            return True
        resting = next((stream for stream in self.streams.values() if stream.resting), None)
        if resting:
            resting.give_way()
        return resting is not None

    def _not_served(self, name: str, why: str) -> None:
        self._runtime.warnings.warning("not_served", "stream not served: %s", why, stream=ascii(name[:64]))

    async def _settle_streams(self) -> None:
        settings = self._runtime.settings
        if settings.provision:
            await provision.ensure_streams(self._connection, settings)
        else:
            await provision.check_streams(self._connection, settings)

    async def _settle_consumer(self, name: str) -> None:
        settings = self._runtime.settings
        if settings.provision:
            await provision.ensure_consumer(self._connection, settings, name)
        else:
            await provision.check_consumer(self._connection, settings, name)

    async def _repair(self, name: str) -> None:
        """Make or check the consumer of an audio stream, and the streams that it needs."""
        try:
            await self._settle_consumer(name)
        except JetStreamError:
            await self._settle_streams()
            await self._settle_consumer(name)

    def _serve(self, name: str) -> None:
        settings = self._runtime.settings
        worker = self._pool.assign()
        consumer = Consumer(
            self._connection, f"{self._inbox}.{name}", settings.audio_stream, provision.consumer_name(name),
            provision.stored_subject(settings, name),
        )  # fmt: skip
        stream = self.streams[name] = DurableStream(
            name, worker, self._slots[worker], consumer, self._runtime, partial(self._repair, name)
        )
        self._tasks[name] = asyncio.create_task(stream.run(pinned=not settings.wildcard), name=f"stream {name}")

    def _forget(self, name: str) -> None:
        del self._tasks[name]
        stream = self.streams.pop(name)
        self._unserved.over(name, stream.done_seq)
        self._resets += stream.consumer.resets
        self._pool.release(stream.worker)

    async def _on_message(self, message: NatsMessage) -> None:
        """A payload arrives on its own subject, a heartbeat on that of the request: its stream is the last token but one."""
        head, _, last = message.subject.rpartition(".")
        name = head.rpartition(".")[2] if message.subject.startswith(self._inbox) else last
        if stream := self.streams.get(name):
            stream.consumer.deliver(message)

    def _on_back(self) -> None:
        for stream in self.streams.values():
            stream.consumer.connection_lost()
