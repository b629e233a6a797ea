"""The chunks of one upload, in flight. In: pieces of bytes, cut anywhere. Out: chunks in a stream, in order, and their digest."""

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import Callable

from transcriber.bus.connection import HEADER_ROOM
from transcriber.bus.jetstream.client import Confirmed, JetStream
from transcriber.errors import ObjectError, UnansweredError

CHUNK_BYTES = 2**17
"""As of all clients."""

IN_FLIGHT = 8
"""Chunks not acknowledged yet: a megabyte."""

STORE_S = 60.0
"""How long a chunk may take: a megabyte at 20 kB a second."""

LANDING_S = 5.0
"""How long an abandoned upload waits for the chunks in flight."""

LOOK_S = 0.5
"""How often it is checked that the broker is there at all."""

DIGEST = "SHA-256="
"""Before the base64 of it."""


class Upload:
    """Event loop only.

    Attributes:
        chunk_bytes: of each chunk but the last.
        size, chunks: bytes, and chunks, that were sent so far.
    """

    def __init__(self, jetstream: JetStream, subject: str, on_sent: Callable[[int], object] | None) -> None:
        """``on_sent`` is called with the bytes that are stored so far."""
        self.chunk_bytes = min(CHUNK_BYTES, jetstream.client.max_payload - HEADER_ROOM)
        self.size = self.chunks = 0
        self._jetstream, self._subject, self._on_sent = jetstream, subject, on_sent
        self._rest = bytearray()
        self._hash = hashlib.sha256()
        self._in_flight: deque[tuple[int, asyncio.Task[Confirmed]]] = deque()
        self._stored_bytes = self._last_seq = 0
        self._reconnects = jetstream.reconnects

    @property
    def digest(self) -> str:
        """Of what was sent so far."""
        return DIGEST + base64.urlsafe_b64encode(self._hash.digest()).decode()

    async def add(self, piece: bytes) -> None:
        """Send it, as far as it fills chunks; waits while too many are in flight.

        Raises:
            UnansweredError, RefusedError: a chunk is not stored. ObjectError: they are not in order.
        """
        self._rest += piece
        while len(self._rest) >= self.chunk_bytes:
            await self._send(bytes(memoryview(self._rest)[: self.chunk_bytes]))
            del self._rest[: self.chunk_bytes]

    async def finish(self) -> None:
        """Send the rest, and wait until all is stored.

        Raises:
            As ``add``.
        """
        if self._rest:
            await self._send(bytes(self._rest))
        while self._in_flight:
            await self._wait_for_oldest()

    async def abandon(self) -> None:
        """Send no more. Chunks in flight are stored first, if they can be: one could otherwise be stored after all are removed."""
        tasks = {task for _, task in self._in_flight}
        if tasks and self._unbroken:
            await asyncio.wait(tasks, timeout=LANDING_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, chunk: bytes) -> None:
        if len(self._in_flight) >= IN_FLIGHT:
            await self._wait_for_oldest()
        self._hash.update(chunk)
        self.chunks += 1
        self.size += len(chunk)
        # Tasks begin in the order they are created, and a request is sent before it first waits.
        storing = self._jetstream.store(self._subject, chunk, {}, STORE_S)
        self._in_flight.append((len(chunk), asyncio.create_task(storing)))

    async def _wait_for_oldest(self) -> None:
        length, task = self._in_flight[0]
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_S)
            if not (task.done() or self._unbroken):
                raise UnansweredError("the broker was away while a chunk was in flight")
        stored = task.result()
        self._in_flight.popleft()
        if stored.seq <= self._last_seq:
            raise ObjectError("the broker has stored the chunks in another order")
        self._last_seq = stored.seq
        self._stored_bytes += length
        if self._on_sent:
            self._on_sent(self._stored_bytes)

    @property
    def _unbroken(self) -> bool:
        """Whether the connection has lasted since we began."""
        return self._jetstream.connected and self._jetstream.reconnects == self._reconnects
