"""Audio to the broker. In: pieces, their headers. Out: published, or stored and acknowledged, in order; how far it got."""

import asyncio
from typing import Protocol

from transcriber.bus.connection import Connection
from transcriber.clients.durable_publish import StoringPublisher
from transcriber.errors import UnansweredError

AWAY_S = 0.05
"""Between looks whether the broker is back, or takes something."""
FLUSH_S = 5.0
PENDING_BYTES = 2**18
"""Of live audio that the client has and the socket to the broker has not."""


class AudioSink(Protocol):
    """Where a socket's audio goes. ``put`` waits while the broker is away, so that the socket is not read meanwhile."""

    @property
    def duplicates(self) -> int:
        """Payloads that were stored before they were put, and so are not stored again."""
        ...

    async def put(self, data: bytes, headers: dict[str, str], message_id: str) -> None: ...

    async def confirm(self) -> bool:
        """Whether the broker has everything that was put."""
        ...


class DurableSink:
    """One message at a time: the order of what is stored is that of the socket, whatever is retried."""

    def __init__(self, connection: Connection, subject: str) -> None:
        self._subject = subject
        self._publisher = StoringPublisher(connection)

    @property
    def duplicates(self) -> int:
        return self._publisher.duplicates

    async def put(self, data: bytes, headers: dict[str, str], message_id: str) -> None:
        """Store it.

        Raises:
            BrokerError: no stream stores the subject any more. ConnectionError: the connection is closed for good.
        """
        await self._publisher.put(self._subject, data, headers | {"Nats-Msg-Id": message_id})

    async def confirm(self) -> bool:
        return True


class LiveSink:
    """Messages that nobody acknowledges; the broker has them once a PING behind them is answered."""

    duplicates = 0

    def __init__(self, connection: Connection, subject: str) -> None:
        self._connection, self._subject = connection, subject

    async def put(self, data: bytes, headers: dict[str, str], message_id: str) -> None:  # noqa: ARG002 - of stored messages
        """Publish it, when there is a broker.

        Raises:
            ConnectionError: the connection is closed for good. UnansweredError: the client does not take it.
        """
        await self._room()
        if not await self._connection.publish(self._subject, data, headers):
            raise UnansweredError("the broker did not take a message of audio")

    async def confirm(self) -> bool:
        return self._connection.connected and await self._connection.flush(FLUSH_S)

    async def _room(self) -> None:
        client = self._connection.client
        while not self._connection.connected or client.pending_data_size > PENDING_BYTES:
            if self._connection.closed.done():
                self._connection.closed.result()
            if self._connection.connected:
                await client.written(AWAY_S)
            else:
                await asyncio.sleep(AWAY_S)


class Progress:
    """How far the broker has a session's audio.

    Attributes:
        frames: offset of the frame after the last one; None for encoded audio.
        size_bytes: since this socket was opened.
        changed: set at each change.
    """

    def __init__(self, frames: int | None) -> None:
        self.frames, self.size_bytes = frames, 0
        self.changed = asyncio.Event()

    def add(self, frames: int | None, size_bytes: int) -> None:
        """So many bytes more, up to this frame."""
        self.frames = frames
        self.size_bytes += size_bytes
        self.changed.set()
