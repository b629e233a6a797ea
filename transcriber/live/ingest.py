"""Live ingest: all streams of a plain NATS subject, one ``LiveStream`` each.

In: messages from NATS. Out: payloads handed to their streams, which are ended when idle and marked when stalled.
"""

import asyncio
import logging
import time

from transcriber.bus.connection import Connection, MessageSubscription, NatsError, NatsMessage, SlowConsumerError
from transcriber.engine.pool import WorkerPool
from transcriber.live.decode_queue import DecodeQueue, PayloadHandler
from transcriber.live.stream import LiveStream
from transcriber.pipeline.decoder_pool import DecoderPool
from transcriber.pipeline.ingest import Ingest
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.subjects import STREAM_NAME

log = logging.getLogger(__name__)

SWEEP_S = 0.5
"""Seconds between checks for idle and stalled streams."""

DRAIN_S = 1.0
"""Seconds at shutdown to take what the broker has already sent."""


class LiveClock:
    """Seconds that count only while audio could arrive: connected, and the event loop on time. Event loop only."""

    def __init__(self) -> None:
        self._paused_s = 0.0
        self._paused_at_s: float | None = None

    def now_s(self) -> float:
        return (time.monotonic() if self._paused_at_s is None else self._paused_at_s) - self._paused_s

    def pause(self) -> None:
        if self._paused_at_s is None:
            self._paused_at_s = time.monotonic()

    def resume(self) -> None:
        if self._paused_at_s is not None:
            self._paused_s += time.monotonic() - self._paused_at_s
            self._paused_at_s = None

    def discount(self, late_s: float) -> None:
        """Do not count ``late_s`` seconds in which the event loop was held up."""
        self._paused_s += late_s


class LiveIngest(Ingest[LiveStream]):
    """Event loop only.

    Attributes:
        streams: those with an open session, or with text pending.
        fenced, lag_s, resets: figures of durable mode; always 0 here.
    """

    fenced, lag_s, resets = 0, 0.0, 0

    def __init__(self, connection: Connection, pool: WorkerPool, runtime: Runtime) -> None:
        super().__init__()
        self._connection = connection
        self._pool = pool
        self._runtime = runtime
        self._clock = LiveClock()
        self._subscription: MessageSubscription | None = None
        self._messages = 0  # taken from the subscription
        # Not the pool of the clips: 16 clips of 25 s at once would hold up live chunks for most of a second.
        self._decoders = DecoderPool()
        connection.on_lost = self._clock.pause
        connection.on_back = self._on_reconnected

    @property
    def subscribed(self) -> bool:
        return self._subscription is not None

    async def subscribe(self) -> None:
        """Subscribe to the audio subject.

        Raises:
            BrokerError: the broker denies the subject.
        """
        settings = self._runtime.settings
        self._subscription = await self._connection.subscribe(
            settings.audio_subject,
            self._on_message,
            pending_bytes=settings.pending_bytes_limit,
            on_drop=self._on_drop,
        )

    async def sweep(self) -> None:
        """End idle streams and mark stalled ones, until cancelled."""
        due_s = time.monotonic()
        while True:
            due_s += SWEEP_S
            await asyncio.sleep(due_s - time.monotonic())
            late_s = time.monotonic() - due_s
            if late_s > SWEEP_S:
                # The loop was held up, so payloads wait in the socket: the silence is ours, not the publisher's.
                self._clock.discount(late_s)
                due_s += late_s
            if self._connection.connected and not self._pending:
                self._check_streams()

    async def drain(self) -> None:
        """Unsubscribe and take what has already been sent; what is encoded is decoded, too."""
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                await subscription.drain()  # type: ignore[no-untyped-call]
                encoded = [stream for stream in self.streams.values() if stream.encoded]
                for stream in encoded:
                    stream.end()
                await asyncio.gather(*(stream.decoded() for stream in encoded))
        except (TimeoutError, NatsError, OSError) as error:
            log.warning("not all that was sent could be taken: %s", str(error) or "too slow")

    def close(self) -> None:
        """End every session; the open windows go to the queue."""
        for stream in list(self.streams.values()):
            stream.stop_second_pass()
            stream.end_now()
        self._decoders.close()

    async def finish(self, timeout_s: float) -> None:
        """Nothing to do: messages are with the publisher already."""

    @property
    def _pending(self) -> int:
        """Messages that wait in the NATS client."""
        return self._subscription.pending_msgs if self._subscription else 0

    async def _on_message(self, message: NatsMessage) -> None:
        self._messages += 1
        name = message.subject.rpartition(".")[2]
        stream = self.streams.get(name) or self._open(name)
        if stream is not None:
            stream.receive(message.data, message.headers, self._messages, self._clock.now_s())
            if stream.finished:
                self._release(stream)

    def _open(self, name: str) -> LiveStream | None:
        """A new stream; None, counted as dropped, if the name is invalid or there are too many."""
        if not STREAM_NAME.fullmatch(name):
            self._refuse("bad_input", name)
            return None
        if len(self.streams) >= self._runtime.daemon.max_streams:
            self._refuse("too_many_streams", name)
            return None
        worker, live_s = self._pool.assign(), self._clock.now_s()
        stream = self.streams[name] = LiveStream(name, worker, self._runtime, live_s, self._new_decode_queue)
        return stream

    def _refuse(self, reason: str, name: str) -> None:
        """Count a payload for which there is no stream."""
        counters = self._runtime.telemetry.counters()
        counters.chunks_received += 1
        counters.chunks_dropped[reason] += 1
        self._runtime.warnings.warning(
            reason, "payload not taken: %s", reason.replace("_", " "), stream=ascii(name[:64])
        )

    def _new_decode_queue(self, handler: PayloadHandler) -> DecodeQueue:
        """The queue for a stream's encoded chunks."""
        return DecodeQueue(
            self._decoders, handler, self._decoding_ended, max_hole_s=self._runtime.settings.max_hole_secs
        )

    def _decoding_ended(self, task: asyncio.Task[None]) -> None:
        """A decode queue's task ended; if a handler raised, that is a crash, as in any message handler."""
        if not task.cancelled() and (error := task.exception()) and not self._connection.closed.done():
            self._connection.closed.set_exception(error)

    def _release(self, stream: LiveStream) -> None:
        del self.streams[stream.name]
        self._pool.release(stream.worker)

    def _check_streams(self) -> None:
        live_s = self._clock.now_s()
        for stream in list(self.streams.values()):
            if live_s - stream.last_audio_s >= self._runtime.settings.stream_idle_secs and not stream.decoding:
                stream.end()
            stream.check_speech(live_s)
            stream.check_stalled(live_s)
            stream.run_second_pass()
            if stream.finished:
                self._release(stream)

    def _on_drop(self, dropped: SlowConsumerError) -> None:
        """The client dropped the newest message of a subject; it still holds older ones."""
        stream = self.streams.get(dropped.subject.rpartition(".")[2])
        if stream is not None:
            stream.dropped_after(self._messages + self._pending)
            self._runtime.warnings.warning("slow_consumer", "the NATS client dropped a payload", stream=stream.name)
        else:
            self._runtime.telemetry.counters().chunks_dropped["slow_consumer"] += 1

    def _on_reconnected(self) -> None:
        self._clock.resume()
        for stream in self.streams.values():
            stream.reconnected()
