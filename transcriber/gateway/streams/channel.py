"""The text of one stream for any number of listeners. In: one subscription, and what is stored. Out: items, each once, in order.

Messages of a NATS subscription have no stream sequence. Where text is stored, one that arrives says only that there is more to
read, and the stored ones are read from JetStream; partials and progress, which are not stored, are passed on as they come.
"""

import asyncio
import logging
import time
from typing import Any

from pydantic import ValidationError

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.bus.jetstream.client import JetStream, Stored
from transcriber.bus.jetstream.provision import STORED_TYPES
from transcriber.errors import BrokerError, RefusedError, UnansweredError
from transcriber.gateway.streams.listeners import Audience, Item
from transcriber.gateway.streams.storage import Storage, storage_of, stored_from
from transcriber.schema.messages import ANY_MESSAGE

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between looks for stored text of which no message came, as after the broker was away."""
SOON_S = 0.02
"""A message is with us before it is stored: between looks for it, for at most ``STORED_S``."""
STORED_S = 2.0


def item_of(payload: bytes, seq: int | None) -> Item | None:
    """A transcript message as an item; None if it is none."""
    try:
        message = ANY_MESSAGE.validate_json(payload)
    except ValidationError:
        return None
    plain = b"\n" not in payload and b"\r" not in payload
    data = payload.decode() if plain else message.model_dump_json(by_alias=True)
    return Item(message.type, data, seq)


class Channel:
    """One stream's text. Event loop only.

    Attributes:
        audience: its listeners.
        storage: of its text; None in live mode.
        next_seq: stream sequence from which on listeners get what is stored.
    """

    def __init__(self, connection: Connection, jetstream: JetStream, subject: str, stopping: asyncio.Event) -> None:
        self.audience = Audience(stopping)
        self.storage: Storage | None = None
        self.next_seq = 1
        self._connection, self._jetstream, self._subject = connection, jetstream, subject
        self._subscription: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._awaited: dict[str, float] = {}  # Nats-Msg-Id to when it came
        self._more = asyncio.Event()

    async def open(self) -> None:
        """Subscribe.

        Raises:
            UnansweredError, BrokerError: the broker is away, or denies it.
        """
        self.storage = await storage_of(self._connection, f"{self._subject}.final")
        if self.storage:
            self.storage = Storage(self.storage.name, f"{self._subject}.*", self.storage.last_seq)
            self.next_seq = self.storage.last_seq + 1
        self._subscription = await self._connection.subscribe(f"{self._subject}.*", self._take)
        if self.storage:
            self._reading = asyncio.create_task(self._read_on(self.storage))
            self._more.set()  # what was stored before we had subscribed

    async def close(self) -> None:
        """Unsubscribe."""
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._subscription and self._connection.connected:
            await self._subscription.unsubscribe()

    async def _take(self, message: NatsMessage) -> None:
        if self.storage and message.subject.rpartition(".")[2] in STORED_TYPES:
            if name := (message.headers or {}).get("Nats-Msg-Id"):
                self._awaited[name] = time.monotonic()
            self._more.set()
        elif item := item_of(message.data, None):
            self.audience.put(*item)

    async def _read_on(self, storage: Storage) -> None:
        while True:
            wait_s = SOON_S if self._awaited else LOOK_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._more.wait()
            except TimeoutError:
                pass
            self._more.clear()
            try:
                async for page in stored_from(self._jetstream, storage, self.next_seq):
                    for stored in page:
                        self._put(stored)
            except (UnansweredError, RefusedError) as error:
                log.debug("text is not read: %s", error)
                await asyncio.sleep(SOON_S)
            now_s = time.monotonic()
            self._awaited = {name: at_s for name, at_s in self._awaited.items() if now_s - at_s < STORED_S}

    def _put(self, stored: Stored) -> None:
        self.next_seq = stored.seq + 1
        self._awaited.pop(stored.headers.get("Nats-Msg-Id", ""), None)
        if item := item_of(stored.payload, stored.seq):
            self.audience.put(*item)


class Channels:
    """The channels that have listeners. Event loop only."""

    def __init__(self, connection: Connection, prefix: str, stopping: asyncio.Event) -> None:
        self.jetstream = JetStream(connection)
        self._connection, self._prefix, self._stopping = connection, prefix, stopping
        self._open: dict[str, Channel] = {}
        self._users: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def enter(self, stream: str) -> Channel:
        """The channel of a stream; ``leave`` must follow.

        Raises:
            UnansweredError, BrokerError: the broker is away, or denies it.
        """
        self._users[stream] = self._users.get(stream, 0) + 1
        try:
            async with self._locks.setdefault(stream, asyncio.Lock()):
                if stream not in self._open:
                    channel = Channel(self._connection, self.jetstream, f"{self._prefix}.{stream}", self._stopping)
                    try:
                        await channel.open()
                    except BaseException:
                        await channel.close()
                        raise
                    self._open[stream] = channel
                return self._open[stream]
        except BaseException:
            await self.leave(stream)
            raise

    async def leave(self, stream: str) -> None:
        """One user less; without any the channel is closed."""
        self._users[stream] -= 1
        async with self._locks[stream]:
            if self._users[stream]:
                return
            channel = self._open.pop(stream, None)
            if channel:
                try:
                    await channel.close()
                except (BrokerError, OSError) as error:
                    log.debug("closing a channel: %s", error)
            if not self._users[stream]:
                del self._users[stream], self._locks[stream]
