"""The stored payloads of one audio subject: in order, each once, none missing.

In: what a durable pull consumer delivers. Out: payloads, while they are taken; the rest waits on the broker.

A consumer alone does not keep that promise: what is in flight when a connection breaks is delivered again only after
``ack_wait``, and new messages before it. So deliveries are counted, and at every hole, and whenever deliveries stop without
notice, the consumer is reset to the first payload that is not acknowledged; what was received already is skipped. The count
holds only while there is one reader: the broker pins the consumer to it (ADR-42), and a daemon that finds another one pinned
does not read.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from transcriber.bus.connection import HEADER_ROOM, Connection, NatsMessage
from transcriber.bus.jetstream.certainty import confirm_leader
from transcriber.bus.jetstream.client import PIN_GROUP, JetStream
from transcriber.durable.delivery_order import Delivery, DeliveryOrder, parse_delivery
from transcriber.durable.payload_source import Payload
from transcriber.durable.pull_request import BATCH, BATCH_BYTES, HEARTBEAT_S, PullRequest
from transcriber.errors import FencedError, RefusedError, UnansweredError

log = logging.getLogger(__name__)

LAGGING_S = 2.0
"""Before payloads that are older when they arrive, others may have been removed by the stream's limits."""

RETRY_S = 0.2

_COMPLETED = ("Batch Completed", "MaxBytes")
"""The broker's words at the end of a request that was answered in full, by number or by bytes."""


class _ReadyPayloads:
    """Payloads that arrived and were not taken yet."""

    def __init__(self) -> None:
        self._payloads: deque[Payload] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._payloads)

    @property
    def half_empty(self) -> bool:
        """Whether more should be requested."""
        return len(self) < BATCH // 2 and self._bytes < BATCH_BYTES // 2

    def append(self, payload: Payload) -> None:
        self._payloads.append(payload)
        self._bytes += len(payload.data)

    def popleft(self) -> Payload:
        payload = self._payloads.popleft()
        self._bytes -= len(payload.data)
        return payload


class Consumer:
    """One consumer. Event loop only.

    Attributes:
        jetstream: requests to the broker that has it.
        subject: of its payloads.
        resets: how often the consumer was reset, not counting the start.
        taken_seq: stream sequence of the last payload that was taken.
    """

    def __init__(self, connection: Connection, inbox: str, stream: str, consumer: str, subject: str) -> None:
        """Whatever arrives on ``<inbox>.*`` must be passed to ``deliver``."""
        self.jetstream = JetStream(connection)
        self.subject = subject
        self.resets = self.taken_seq = 0
        self._connection = connection
        self._inbox, self._stream, self._name = inbox, stream, consumer
        self._order = DeliveryOrder()
        self._pull = PullRequest()
        self._ready = _ReadyPayloads()
        self._arrived = asyncio.Event()
        self._replies: dict[int, str] = {}  # reply subjects of what is not acknowledged, by stream sequence
        self._unacked_seq = 0  # what is before it is acknowledged
        self._stream_first_seq: int | None = None  # as it was since the last request; None: not known

    @property
    def idle(self) -> bool:
        """Whether the broker has said, since the last payload and just now, that it has no more."""
        return self._order.idle and self._pull.fresh

    @property
    def exhausted(self) -> bool:
        """Whether no request of ours waits at the broker any more, since ``stop_pulling``."""
        return self._pull.stopped and not self._pull.open

    @property
    def pending(self) -> int:
        """Payloads that wait on the broker, as far as is known."""
        return self._order.pending

    @property
    def pulling(self) -> bool:
        """Whether a request of ours is open."""
        return self._pull.open

    async def info(self) -> dict[str, Any]:
        """JetStream's answer to ``CONSUMER.INFO``.

        Raises:
            UnansweredError, RefusedError.
        """
        return {"num_waiting": 0} | await self.jetstream.call(f"CONSUMER.INFO.{self._stream}.{self._name}")

    async def stream_history(self) -> tuple[datetime, int]:
        """When the stream was created, and its last sequence.

        Raises:
            UnansweredError, RefusedError.
        """
        found = await self.jetstream.call(f"STREAM.INFO.{self._stream}")
        return datetime.fromisoformat(found["created"]), int(found["state"]["last_seq"])

    async def is_dropped(self, seq: int) -> bool:
        """Whether the stream's limits have removed the message of that sequence: they take the oldest of all.

        What a purge takes out of the middle is another stream's, or was done with: nothing of this one is missing.

        Raises:
            UnansweredError, RefusedError.
        """
        if await self.jetstream.message(self._stream, seq=seq) is not None:
            return False
        found = await self.jetstream.call(f"STREAM.INFO.{self._stream}")
        return int(found["state"]["first_seq"]) > seq

    async def confirm_leader(self) -> bool:
        """As of ``bus.jetstream.certainty``, for the stream of the audio."""
        return await confirm_leader(self.jetstream, self._stream)

    def start(self, seq: int) -> None:
        """Read from stream sequence ``seq`` on."""
        self._order.start(seq)
        self._ready = _ReadyPayloads()
        self._replies.clear()
        self._unacked_seq, self.taken_seq = seq, seq - 1
        self._pull.stopped = False

    def connection_lost(self) -> None:
        """The connection broke, and with it whatever was in flight."""
        self._order.mark_lost()
        self._arrived.set()

    async def claim(self) -> None:
        """Become the one reader, in place of any other.

        Raises:
            UnansweredError, RefusedError.
        """
        call = f"CONSUMER.UNPIN.{self._stream}.{self._name}"
        await self.jetstream.call(call, {"group": PIN_GROUP})
        self._pull.pin = None

    async def release(self) -> bool:
        """Let the next reader start at once; returns whether the broker has certainly received the acknowledgements."""
        if not self._connection.connected:
            return False
        try:
            # Its answer follows all that was sent before.
            if not await self.has_other_reader() and self._pull.pin:
                await self.claim()
        except (UnansweredError, RefusedError):
            return False
        return not self._order.lost

    async def has_other_reader(self) -> bool:
        """Whether the broker has pinned the consumer to another reader.

        Raises:
            UnansweredError, RefusedError.
        """
        groups = (await self.info()).get("priority_groups") or [{}]
        return groups[0].get("pinned_client_id") not in {None, "", self._pull.pin}

    async def next(self, timeout_s: float) -> Payload | None:
        """The next payload; None if none arrived in time.

        Raises:
            RefusedError: there is no such consumer, or it is denied to us.
            FencedError: another daemon reads it.
        """
        loop, deadline_s = asyncio.get_running_loop(), time.monotonic() + timeout_s
        while not self._ready:
            self._arrived.clear()  # first: what arrives during the request must wake us, too
            if not await self._keep_pulling() or (left_s := deadline_s - time.monotonic()) <= 0:
                return None
            # Not asyncio.timeout, which costs several times as much: with a live source there is one wait a payload.
            timer = loop.call_later(min(left_s, HEARTBEAT_S), self._arrived.set)
            try:
                await self._arrived.wait()
            finally:
                timer.cancel()
            if self._pull.silent:
                self._order.mark_lost()
        self._pull.stopped = False
        payload = await self._check_limits(self._ready.popleft())
        self.taken_seq = payload.seq
        if self._ready.half_empty and not self._order.lost:
            await self._request()
        return payload

    async def keepalive(self) -> None:
        """No payloads are taken for a while: keep a request open, so that other daemons see that there is a reader."""
        if not self._order.lost:
            await self._request(1)

    def stop_pulling(self) -> None:
        """Request no more, until a payload arrives."""
        self._pull.stopped = True

    async def wait_until_exhausted(self) -> None:
        """After ``stop_pulling``, where no payloads are taken any more: until no request of ours waits at the broker."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pull.longest_s):
                while self._pull.open and not self._order.lost:
                    self._arrived.clear()
                    await self._arrived.wait()

    async def acknowledge(self, before_seq: int) -> None:
        """All payloads before stream sequence ``before_seq`` are done with."""
        self._unacked_seq = max(self._unacked_seq, before_seq)
        done = [seq for seq in self._replies if seq < self._unacked_seq]
        if done and self._connection.connected:  # otherwise the reset does it
            await self._connection.publish(self._replies[max(done)], b"+ACK")
        for seq in done:
            del self._replies[seq]
        self._order.acknowledged(self._unacked_seq)

    def deliver(self, message: NatsMessage) -> None:
        """A message for this consumer: a payload, a heartbeat, or the end of a request."""
        self._pull.arrived_s = time.monotonic()
        if message.reply.startswith("$JS.ACK."):
            if delivery := parse_delivery(message.reply):
                self._on_payload(message, delivery)
        elif message.subject.endswith(f".{self._pull.number}"):
            self._on_status(message.headers or {})
        self._arrived.set()

    def _on_payload(self, message: NatsMessage, delivery: Delivery) -> None:
        same_reader = self._pull.on_payload((message.headers or {}).get("Nats-Pin-Id"))
        if not self._order.accept(delivery, same_reader=same_reader):
            return
        self._replies[delivery.seq] = message.reply
        if delivery.seq > self._order.received:
            self._order.received = delivery.seq
            self._ready.append(Payload(delivery.seq, delivery.stored_at, message.data, message.headers))

    def _on_status(self, headers: Mapping[str, str]) -> None:
        status = headers.get("Status")
        if status == "100":
            with suppress(ValueError):  # not the broker's: any client that knows the inbox may write to it
                delivered = int(headers.get("Nats-Last-Consumer", 0))
                self._order.heartbeat(delivered, all_taken=not self._ready)
            return
        self._pull.remaining = 0
        if status == "423":
            self._pull.pin = None  # our requests paused for too long, or another daemon has claimed the consumer
        # Expired, or answered in full; anything else says that something is wrong.
        reason = "".join(headers.values())
        if status not in {"404", "408"} and not any(completed in reason for completed in _COMPLETED):
            self._order.mark_lost()

    async def _keep_pulling(self) -> bool:
        """Make sure that payloads can arrive; returns whether they can."""
        if self._order.lost:
            try:
                await self._reset()
            except UnansweredError as error:
                log.debug("%s: %s", self._name, error)
                await asyncio.sleep(RETRY_S)
                return False
        if self._replies and next(iter(self._replies)) < self._unacked_seq:
            await self.acknowledge(self._unacked_seq)  # what was delivered again after it was acknowledged
        await self._request()
        return True

    async def _reset(self) -> None:
        if await self.has_other_reader():
            raise FencedError("it reads the audio")
        if self._order.was_reset:
            self.resets += 1
            log.info("consumer reset", extra={"consumer": self._name, "seq": self._unacked_seq})
            if self._order.stuck:
                await self._fetch_next()
        self._replies.clear()  # of the count before
        self._pull.forget()
        with self._order.resetting(self._unacked_seq):
            from_seq = max(1, self._unacked_seq)
            found = await self.jetstream.message(self._stream, seq=from_seq, next_by_subj=self.subject)
            self._order.expect_first(found.seq if found else None)
            await self.jetstream.reset_consumer(self._stream, self._name, from_seq)

    async def _fetch_next(self) -> None:
        """The last reset brought nothing new: fetch the next payload, if any, since the client may not be able to read it."""
        after = self._order.received + 1
        found = await self.jetstream.message(self._stream, seq=after, next_by_subj=self.subject)
        # It may have arrived meanwhile, and more after it.
        if found and found.seq > self._order.received:
            self._order.hide(found.seq)
            self._ready.append(Payload(found.seq, found.stored_at, found.payload, found.headers))

    async def _request(self, batch: int = BATCH) -> None:
        """Request more, unless a request is open."""
        if self._pull.open or self._pull.stopped or not self._connection.connected:
            return
        self._stream_first_seq = None
        body = self._pull.next(batch, self._connection.client.max_payload + HEADER_ROOM)
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}",
            body,
            reply=f"{self._inbox}.{self._pull.number}",
        )

    async def _check_limits(self, payload: Payload) -> Payload:
        """``payload``, marked if the stream's limits may have removed others before it."""
        if not self.taken_seq or payload.seq == self.taken_seq + 1:
            return payload
        if (datetime.now(UTC) - payload.stored_at).total_seconds() <= LAGGING_S:
            return payload
        if self._stream_first_seq is None:
            try:
                state = (await self.jetstream.call(f"STREAM.INFO.{self._stream}"))["state"]
            except UnansweredError:
                return payload
            self._stream_first_seq = int(state["first_seq"])
        return payload._replace(lost_before=self._stream_first_seq > self.taken_seq + 1)
