"""The stored payloads of one audio subject: in order, each once, none missing.

In: what a durable pull consumer delivers. Out: payloads, for as long as somebody takes them; the rest waits on the broker.

A consumer is no queue that one could trust blindly: what is under way when a connection breaks is delivered again only
after ``ack_wait``, and new messages before it. So deliveries are counted, and at every hole, and whenever deliveries stop
without a word, the consumer is put back to the first payload that is not acknowledged; what is known already is passed over.
The count is only worth something while nobody else reads: the broker pins the consumer to one reader (ADR-42), and who finds
another one pinned leaves it alone.
"""

import asyncio
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from transcriber.bus.connection import HEADER_ROOM, Connection, Message
from transcriber.bus.jetstream.client import PIN_GROUP, JetStream
from transcriber.errors import FencedError, RefusedError, UnansweredError

log = logging.getLogger(__name__)

BATCH = 200
"""Payloads asked for at once: 20 s of 100 ms."""

BATCH_BYTES = 2**20
"""And no more than so many bytes, but always room for one message."""

PULL_S = 5.0
"""How long a request waits at the broker."""

HEARTBEAT_S = 1.0
STALE_S = 2 * HEARTBEAT_S
"""What the broker said so long ago may no longer be true."""

SILENCE_S = 4.0
"""A request of which nothing was heard for so long, not even a heartbeat, is lost."""

LAGGING_S = 2.0
"""Payloads that are older when they come may have waited long enough for others to be thrown away before them."""

RETRY_S = 0.2

_BROUGHT_ALL = ("Batch Completed", "MaxBytes")
"""What the broker says at the end of a request that was answered in full, by number or by bytes."""

_SHORT_REPLY = 9
"""Tokens of a reply subject without a domain."""


class Payload(NamedTuple):
    """One stored payload.

    Attributes:
        seq: its stream sequence.
        stored_at: when the broker stored it.
        data, headers: as published.
        lost_before: whether payloads before it may have been thrown away, by the stream's limits.
        missing: why there are no data, though there should be some; None if all is well.
    """

    seq: int
    stored_at: datetime
    data: bytes
    headers: Mapping[str, str] | None
    lost_before: bool = False
    missing: str | None = None


class _Delivery(NamedTuple):
    """What a delivery says of itself."""

    number: int  # counted from 1 since the consumer was put back
    seq: int
    stored_at: datetime
    pending: int


class Consumer:
    """One consumer. Event loop only.

    Attributes:
        resets: how often the consumer had to be put back, beside the start.
        taken: stream sequence of the last payload that was handed out.
        jetstream, subject: where the consumer is, and what it reads.
    """

    def __init__(self, connection: Connection, inbox: str, stream: str, consumer: str, subject: str) -> None:
        """Whatever comes to ``<inbox>.*`` must be given to ``deliver``."""
        self.resets = 0
        self.taken = 0
        self._idle = False
        self._connection = connection
        self.jetstream = JetStream(connection)
        self.subject = subject
        self._inbox, self._stream, self._consumer = inbox, stream, consumer
        self._ready: deque[Payload] = deque()
        self._ready_bytes = 0
        self._replies: dict[int, str] = {}  # of what is not acknowledged, by stream sequence
        self._news = asyncio.Event()
        self._from_seq = 0  # what is before it is acknowledged
        self._received = 0  # the highest stream sequence that came
        self._delivered = _Delivery(0, 0, datetime.now(UTC), 0)  # the latest
        self._hidden: set[int] = set()  # what the client could not read when it was delivered
        self._broken = True
        self._putting_back = False
        self._leaving = False
        self._stuck_at = -1  # ``_received`` when the consumer was last put back
        self._pull = 0  # number of the open request; its predecessors' farewells are no news
        self._left = 0  # what it may still bring; 0: none is open
        self._heard_s = 0.0
        self._first_seq: int | None = None  # of the stream, as it was since the last request; None: not asked
        self._pin: str | None = None  # what the broker calls us while we are the one reader
        self._next_seq: int | None = (
            None  # what the first delivery must be after the consumer was put back, if it is there
        )

    @property
    def idle(self) -> bool:
        """Whether the broker has said, since the last payload and just now, that it has no more."""
        return self._idle and not self._broken and time.monotonic() - self._heard_s < STALE_S

    @property
    def left(self) -> bool:
        """Whether nothing of ours waits at the broker any more, since ``leave``."""
        return self._leaving and not self.pulling

    @property
    def pending(self) -> int:
        """Payloads that wait on the broker, as far as is known."""
        return self._delivered.pending

    async def info(self) -> dict[str, Any]:
        """What the broker says of the consumer.

        Raises:
            UnansweredError, RefusedError.
        """
        return {"num_waiting": 0} | await self.jetstream.call(f"CONSUMER.INFO.{self._stream}.{self._consumer}")

    async def history(self) -> tuple[datetime, int]:
        """When the stream was made, and its last sequence.

        Raises:
            UnansweredError, RefusedError.
        """
        found = await self.jetstream.call(f"STREAM.INFO.{self._stream}")
        return datetime.fromisoformat(found["created"]), int(found["state"]["last_seq"])

    async def has(self, seq: int) -> bool:
        """Whether the stream still has the message of that sequence.

        Raises:
            UnansweredError, RefusedError.
        """
        return await self.jetstream.message(self._stream, seq=seq) is not None

    @property
    def pulling(self) -> bool:
        """Whether a request of ours is open."""
        return self._left > 0

    def start(self, seq: int) -> None:
        """Hand out from stream sequence ``seq`` on."""
        self._ready.clear()
        self._ready_bytes = 0
        self._replies.clear()
        self._hidden.clear()
        self._from_seq, self.taken, self._received = seq, seq - 1, seq - 1
        self._stuck_at = -1
        self._broken, self._leaving = True, False

    def lost(self) -> None:
        """The connection broke, and with it whatever was under way."""
        self._broken = True
        self._news.set()

    async def claim(self) -> None:
        """Become the one reader, whoever was it before.

        Raises:
            UnansweredError, RefusedError.
        """
        await self.jetstream.call(f"CONSUMER.UNPIN.{self._stream}.{self._consumer}", {"group": PIN_GROUP})
        self._pin = None

    async def release(self) -> bool:
        """Let the next reader have it at once; returns whether the broker has surely heard what was acknowledged."""
        if not self._connection.connected:
            return False
        try:
            # Its answer follows upon all that we have said.
            if not await self.has_other_reader() and self._pin:
                await self.claim()
        except (UnansweredError, RefusedError):
            return False
        return not self._broken

    async def has_other_reader(self) -> bool:
        """Whether the consumer is somebody else's.

        Raises:
            UnansweredError, RefusedError.
        """
        groups = (await self.info()).get("priority_groups") or [{}]
        return groups[0].get("pinned_client_id") not in {None, "", self._pin}

    async def next(self, timeout_s: float) -> Payload | None:
        """The next payload; None if none came in time.

        Raises:
            RefusedError: there is no such consumer, or it is not ours to use.
            FencedError: somebody else reads.
        """
        loop, deadline_s = asyncio.get_running_loop(), time.monotonic() + timeout_s
        while not self._ready:
            self._news.clear()  # first: what comes while we ask is news, too
            if not await self._keep_pulling() or (left_s := deadline_s - time.monotonic()) <= 0:
                return None
            # Not asyncio.timeout, which costs several times as much, and of a live source each payload is waited for.
            timer = loop.call_later(min(left_s, HEARTBEAT_S), self._news.set)
            try:
                await self._news.wait()
            finally:
                timer.cancel()
            self._broken |= self.pulling and time.monotonic() - self._heard_s > SILENCE_S
        self._leaving = False
        payload = await self._check_limits(self._ready.popleft())
        self.taken = payload.seq
        self._ready_bytes -= len(payload.data)
        if len(self._ready) < BATCH // 2 and self._ready_bytes < BATCH_BYTES // 2 and not self._broken:
            await self._ask()
        return payload

    async def stay(self) -> None:
        """Nobody takes payloads for the time being. Let those who look see all the same that somebody is there."""
        if not self._broken:
            await self._ask(1)

    def leave(self) -> None:
        """Ask for no more, until something comes."""
        self._leaving = True

    async def gone(self) -> None:
        """After ``leave``, where nobody takes any more: wait until nothing of ours waits at the broker."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PULL_S + HEARTBEAT_S):
                while self.pulling and not self._broken:
                    self._news.clear()
                    await self._news.wait()

    async def acknowledge(self, before_seq: int) -> None:
        """All payloads before stream sequence ``before_seq`` are done with."""
        self._from_seq = max(self._from_seq, before_seq)
        done = [seq for seq in self._replies if seq < self._from_seq]
        if done and self._connection.connected:  # else it is said when the consumer is put back
            await self._connection.publish(self._replies[max(done)], b"+ACK")
        for seq in done:
            del self._replies[seq]
        self._hidden = {seq for seq in self._hidden if seq >= self._from_seq}

    def deliver(self, message: Message) -> None:
        """Something came for this consumer."""
        self._heard_s = time.monotonic()
        if message.reply.startswith("$JS.ACK."):
            if delivery := _delivery(message.reply):
                self._take(message, delivery)
        elif message.subject.endswith(f".{self._pull}"):
            self._hear(message.headers or {})
        self._news.set()

    def _take(self, message: Message, delivery: _Delivery) -> None:
        self._idle = False
        self._left = max(0, self._left - 1)
        # Whatever comes to us shows what we are called; only headers that a publisher has spoiled do not.
        before, self._pin = self._pin, (message.headers or {}).get("Nats-Pin-Id") or self._pin
        if self._broken:
            return  # it comes again, once the consumer is put back
        self._hidden.discard(delivery.seq)
        expected = self._delivered.number + 1 + self._hidden_after(self._delivered.seq, delivery.seq)
        if delivery.number != expected or before not in {None, self._pin} or not self._is_next(delivery):
            # While it is put back, what was under way before may still come.
            self._broken |= not self._putting_back
            return
        self._delivered = delivery
        self._replies[delivery.seq] = message.reply
        if delivery.seq > self._received:
            self._received = delivery.seq
            self._put(Payload(delivery.seq, delivery.stored_at, message.data, message.headers))

    def _is_next(self, delivery: _Delivery) -> bool:
        return delivery.number > 1 or self._next_seq in {None, delivery.seq}

    def _hear(self, headers: Mapping[str, str]) -> None:
        """A heartbeat, or the end of a request."""
        if headers.get("Status") == "100":
            try:
                last = int(headers.get("Nats-Last-Consumer", 0))
            except ValueError:
                return  # not the broker's: anybody may write to us who knows where
            # Delivered, and not seen: lost on the way, or not readable.
            self._broken |= last > self._delivered.number + self._hidden_after(self._delivered.seq)
            self._idle = not (self._broken or self._ready)
            return
        self._left = 0
        if headers.get("Status") == "423":
            self._pin = None  # we asked for nothing for too long, or somebody else has taken over
        # Its time is up, or it brought all that it may; anything else says that something is wrong.
        said = "".join(headers.values())
        self._broken |= headers.get("Status") not in {"404", "408"} and not any(all_ in said for all_ in _BROUGHT_ALL)

    def _hidden_after(self, seq: int, before: int = sys.maxsize) -> int:
        return sum(seq < hidden < before for hidden in self._hidden) if self._hidden else 0

    async def _keep_pulling(self) -> bool:
        """See to it that payloads can come; whether they can."""
        if self._broken:
            try:
                await self._put_back()
            except UnansweredError as error:
                log.debug("%s: %s", self._consumer, error)
                await asyncio.sleep(RETRY_S)
                return False
        if self._replies and next(iter(self._replies)) < self._from_seq:
            await self.acknowledge(self._from_seq)  # what came once more, after it was done with
        await self._ask()
        return True

    async def _put_back(self) -> None:
        if await self.has_other_reader():
            raise FencedError("it reads the audio")
        if self._stuck_at >= 0:
            self.resets += 1
            log.info("consumer put back", extra={"consumer": self._consumer, "seq": self._from_seq})
            if self._stuck_at == self._received:
                await self._fetch_next()
        self._replies.clear()  # of another count
        self._delivered = self._delivered._replace(number=0, seq=self._from_seq - 1)
        self._left, self._idle = 0, False
        self._pull += 1  # that the old one ends with its consumer, where it is made again, is no news
        self._broken, self._putting_back = False, True
        try:
            found = await self.jetstream.message(self._stream, seq=max(1, self._from_seq), next_by_subj=self.subject)
            self._next_seq = found.seq if found else None
            await self.jetstream.put_back(self._stream, self._consumer, max(1, self._from_seq))
        except BaseException:
            self._broken = True
            raise
        finally:
            self._putting_back = False
        self._stuck_at = self._received

    async def _fetch_next(self) -> None:
        """Putting it back brought nothing new. If there is more, ask for it by name: the client may not be able to read it."""
        found = await self.jetstream.message(self._stream, seq=self._received + 1, next_by_subj=self.subject)
        # It may have come meanwhile, and more after it.
        if found and found.seq > self._received:
            self._hidden.add(found.seq)
            self._received = found.seq
            self._put(Payload(found.seq, found.stored_at, found.payload, found.headers))

    def _put(self, payload: Payload) -> None:
        self._ready.append(payload)
        self._ready_bytes += len(payload.data)

    async def _ask(self, batch: int = BATCH) -> None:
        """Request more, unless a request is open."""
        if self.pulling or self._leaving or not self._connection.connected:
            return
        self._pull += 1
        self._left = batch
        self._heard_s = time.monotonic()
        self._first_seq = None
        request = {
            "group": PIN_GROUP,
            **({"id": self._pin} if self._pin else {}),
            "batch": batch,
            "max_bytes": max(BATCH_BYTES, self._connection.client.max_payload + HEADER_ROOM),
            "expires": int(PULL_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            json.dumps(request).encode(),
            reply=f"{self._inbox}.{self._pull}",
        )

    async def _check_limits(self, payload: Payload) -> Payload:
        """``payload``, and whether the stream's limits may have cost others before it."""
        if not self.taken or payload.seq == self.taken + 1:
            return payload
        if (datetime.now(UTC) - payload.stored_at).total_seconds() <= LAGGING_S:
            return payload
        if self._first_seq is None:
            try:
                state = (await self.jetstream.call(f"STREAM.INFO.{self._stream}"))["state"]
            except UnansweredError:
                return payload
            self._first_seq = int(state["first_seq"])
        return payload._replace(lost_before=self._first_seq > self.taken + 1)


def _delivery(reply: str) -> _Delivery | None:
    """``$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<times>.<seq>.<number>.<ns>.<pending>[.<token>]``; None: not the broker's."""
    tokens = reply.split(".")
    # Servers of a domain name it and the account, and may add a token at the end.
    times = 4 if len(tokens) == _SHORT_REPLY else 6
    try:
        seq, number, stored_ns, pending = map(int, tokens[times + 1 : times + 5])
        return _Delivery(number, seq, datetime.fromtimestamp(stored_ns / 1e9, UTC), pending)
    except (ValueError, OverflowError, OSError):
        return None
