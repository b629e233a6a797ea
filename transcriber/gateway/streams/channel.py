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
from transcriber.errors import RefusedError, UnansweredError
from transcriber.gateway.streams.listeners import Audience, Item
from transcriber.gateway.streams.storage import Storage, stored_from, text_storage_of
from transcriber.schema.messages import ANY_MESSAGE
from transcriber.tasks import cancel
from transcriber.telemetry.gateway_figures import GatewayFigures

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
        storage: of its text; None in live mode, which lasts for its listeners: what they have had has no stream sequence.
        next_seq: stream sequence from which on listeners get what is stored.
        users: how many have entered it.
    """

    def __init__(self, connection: Connection, jetstream: JetStream, subject: str, audience: Audience) -> None:
        self.audience = audience
        self.storage: Storage | None = None
        self.next_seq = 1
        self.users = 0
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
        self.storage = await text_storage_of(self._connection, self._subject)
        if self.storage:
            self.next_seq = self.storage.last_seq + 1
        self._subscription = await self._connection.subscribe(f"{self._subject}.*", self._take)
        if self.storage:
            self._reading = asyncio.create_task(self._read_on(self.storage))
            self._more.set()  # what was stored before we had subscribed

    async def close(self) -> None:
        """Unsubscribe."""
        if self._subscription:
            await self._connection.unsubscribe(self._subscription)
        if self._reading:
            await cancel([self._reading])

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

    def __init__(self, connection: Connection, prefix: str, stopping: asyncio.Event, figures: GatewayFigures) -> None:
        self.jetstream = JetStream(connection)
        self._connection, self._prefix, self._stopping, self._figures = connection, prefix, stopping, figures
        self._open: dict[str, Channel] = {}
        self._users: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def enter(self, stream: str, *, stored: bool = False) -> Channel:
        """The channel of a stream; ``leave`` must follow. With ``stored`` one that reads what is stored, if anything is.

        Raises:
            UnansweredError, BrokerError: the broker is away, or denies it.
        """
        self._users[stream] = self._users.get(stream, 0) + 1
        try:
            async with self._locks.setdefault(stream, asyncio.Lock()):
                channel = self._open.get(stream)
                if channel is None or (stored and channel.storage is None and await self._is_stored(stream)):
                    channel = self._open[stream] = await self._opened(stream)
                channel.users += 1
                return channel
        except BaseException:
            await self.leave(stream, None)
            raise

    async def _opened(self, stream: str) -> Channel:
        audience = Audience(self._stopping, self._figures)
        channel = Channel(self._connection, self.jetstream, f"{self._prefix}.{stream}", audience)
        try:
            await channel.open()
        except BaseException:
            await channel.close()
            raise
        return channel

    async def _is_stored(self, stream: str) -> bool:
        return await text_storage_of(self._connection, f"{self._prefix}.{stream}") is not None

    async def leave(self, stream: str, channel: Channel | None) -> None:
        """One user less; a channel without any is closed."""
        self._users[stream] -= 1
        if channel:
            channel.users -= 1
        async with self._locks[stream]:
            if channel and not channel.users:
                if self._open.get(stream) is channel:
                    del self._open[stream]
                await channel.close()
            if not self._users.get(stream):  # another one that left may have waited, too, and have removed both
                self._users.pop(stream, None)
                self._locks.pop(stream, None)
