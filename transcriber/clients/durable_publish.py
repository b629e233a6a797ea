"""Publishing to JetStream. In: payloads. Out: each is stored, in order, however long that takes.

The broker recognises a duplicate by its ``Nats-Msg-Id``, ``<stream>:<session>:<offset>``, within its stream's
``duplicate_window``: two minutes by default. If an acknowledgement was lost and the broker was away for longer, the one
payload in flight is stored twice, and transcribed once, because of its offset.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from nats import errors as nats_errors

from transcriber.bus.connection import Connection
from transcriber.clients.payloads import Payload, end_payload
from transcriber.errors import BrokerError

log = logging.getLogger(__name__)

BUFFER_BYTES = 2**26
"""Of a real-time source, buffered in memory while the broker is away: 11 minutes of 48 kHz, mono, 16 bit."""
FAST_BUFFER_BYTES = 2**18
"""Of a file with ``fast``, which is read as fast as it is stored."""
ANSWER_TIMEOUT_S = 2.0
"""For a PubAck; a later one only costs a duplicate, which the broker does not store."""
RETRY_S = 0.1
PATIENCE_S = 5.0
"""On cancellation: how long to wait for a broker that stores nothing."""

_SILENT = "the broker is away or does not answer"


async def store_all(
    connection: Connection,
    subject: str,
    payloads: AsyncGenerator[Payload, None],
    always: dict[str, str],
    *,
    fast: bool,
    on_stored: Callable[[int], None],
) -> int:
    """Read and store concurrently, so that a live source is read while the broker is away; returns the frames read.

    When cancelled, payloads already read are still stored, and then the end, unless the broker stores nothing for ``PATIENCE_S``.
    ``on_stored`` is called with the frames stored so far.

    Raises:
        BrokerError: no stream stores this subject.
        ConnectionError: the connection is closed for good.
    """
    publisher = StoringPublisher(connection)
    outbox = _Outbox(FAST_BUFFER_BYTES if fast else BUFFER_BYTES, warn=not fast)

    async def read() -> None:
        async with aclosing(payloads):
            async for payload in payloads:
                await outbox.put(payload)

    async def send() -> None:
        stream = subject.rpartition(".")[2]
        async for payload in outbox.payloads():
            message_id = f"{stream}:{payload.headers['Audio-Session']}:{payload.headers['Audio-Offset']}"
            await publisher.put(subject, payload.data, payload.headers | {"Nats-Msg-Id": message_id})
            on_stored(payload.end_frame)

    # A task each: nats-py swallows a cancellation that coincides with an answer, and then nothing would stop.
    reading, sending = asyncio.create_task(read()), asyncio.create_task(send())
    try:
        await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
        outbox.close(always)
        await asyncio.wait({sending})
    except asyncio.CancelledError:
        reading.cancel()
        await asyncio.wait({reading})
        outbox.close(always)
        waiting = -1
        while not sending.done() and waiting != len(outbox):
            waiting = len(outbox)
            await asyncio.wait({sending}, timeout=PATIENCE_S)
        if len(outbox):
            log.warning("stopped with %d payloads that are not stored", len(outbox))
        raise
    finally:
        for task in (reading, sending):
            task.cancel()
        await asyncio.gather(reading, sending, return_exceptions=True)
    sending.result()
    reading.result()
    if publisher.duplicates:
        log.warning("%d payloads had been stored before: a recording needs a session of its own", publisher.duplicates)
    return outbox.end_frame


class _Outbox:
    """Payloads read and not stored yet, in order. ``put`` waits while it is full.

    Attributes:
        end_frame: offset of the frame after the last payload.
    """

    def __init__(self, limit_bytes: int, *, warn: bool) -> None:
        self.end_frame = 0
        self._limit_bytes = limit_bytes
        self._warn = warn
        self._waiting: deque[Payload] = deque()
        self._bytes = 0
        self._closed = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, payload: Payload) -> None:
        """Add a payload, and wait for room for the next one."""
        self._take(payload)
        if self._bytes >= self._limit_bytes:
            if self._warn:
                log.warning("reading pauses: %d MB wait for the broker", self._bytes // 10**6)
            self._room.clear()
            await self._room.wait()

    def close(self, always: dict[str, str]) -> None:
        """Add the end, once."""
        if not self._closed:
            self._closed = True
            self._take(end_payload(always, self.end_frame))

    async def payloads(self) -> AsyncIterator[Payload]:
        """Each payload until the end; it is removed when the next one is requested."""
        while self._waiting or not self._closed:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
            yield self._waiting[0]
            self._bytes -= len(self._waiting.popleft().data)
            if self._bytes < self._limit_bytes // 2:
                self._room.set()

    def _take(self, payload: Payload) -> None:
        self._waiting.append(payload)
        self._bytes += len(payload.data)
        self.end_frame = payload.end_frame
        self._more.set()


class StoringPublisher:
    """Stores one message at a time, so that order is kept; logs each hindrance once, and once that storing resumes.

    Event loop only.

    Attributes:
        duplicates: messages that the broker had before they were first sent.
    """

    def __init__(self, connection: Connection) -> None:
        self.duplicates = 0
        self._connection = connection
        self._any_stored = False
        self._hindered: set[str] = set()
        self._hindered_since_s = 0.0

    async def put(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        """Store a message with a ``Nats-Msg-Id``; returns when the broker has acknowledged it.

        Raises:
            BrokerError: no stream stores this subject, and nothing was stored before.
            ConnectionError: the connection is closed for good.
        """
        first = True
        while hindrance := await self._try(subject, payload, headers, first=first):
            first = False
            self._log_hindrance(hindrance)
            await asyncio.sleep(RETRY_S)
        if self._hindered:
            log.warning("storing resumed", extra={"after_s": round(time.monotonic() - self._hindered_since_s, 1)})
            self._hindered.clear()
        self._any_stored = True

    async def _try(self, subject: str, payload: bytes, headers: dict[str, str], *, first: bool) -> str:
        """The hindrance; empty if the message is stored."""
        if self._connection.closed.done():
            self._connection.closed.result()
        if (
            not self._connection.connected
        ):  # else each try would be buffered in the client, and sent once the broker is back
            return _SILENT
        try:
            answer = await self._connection.client.request(subject, payload, timeout=ANSWER_TIMEOUT_S, headers=headers)
        except nats_errors.NoRespondersError:
            missing = f"no JetStream stream stores {subject}"
            if not self._any_stored:
                raise BrokerError(f"{missing}: transcriber provision makes one") from None
            return missing
        except (nats_errors.Error, OSError):
            return _SILENT
        try:
            ack = json.loads(answer.data)
            if error := ack.get("error"):
                return f"{error['description']} ({error['err_code']})"
            known = ack["seq"] > 0 and ack.get("duplicate", False)
        except (ValueError, AttributeError, LookupError, TypeError):
            return f"a responder that is not JetStream answers on {subject}"
        self.duplicates += first and known
        return ""

    def _log_hindrance(self, hindrance: str) -> None:
        if not self._hindered:
            self._hindered_since_s = time.monotonic()
        if hindrance not in self._hindered:
            self._hindered.add(hindrance)
            log.warning("not stored yet, retrying: %s", hindrance)
