"""Publishes messages to ``transcripts.<stream>.<type>``, in the order they were put.

In: functions that build messages. Out: JSON on NATS, with id and trace context.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from transcriber.bus.connection import Connection
from transcriber.bus.message_size import fitted
from transcriber.logs import RateLimited
from transcriber.schema.messages import AnyMessage, message_id
from transcriber.telemetry import Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Outgoing:
    build: Callable[[], AnyMessage]
    traceparent: str
    rev: int
    channel: int


class Publisher:
    """Event loop only. One task sends, so order is kept.

    Attributes:
        unsent: messages that the client did not take: too large, or the broker was away too long.
    """

    def __init__(self, connection: Connection, prefix: str, telemetry: Telemetry, warnings: RateLimited) -> None:
        self.unsent = 0
        self._connection = connection
        self._prefix = prefix
        self._telemetry, self._warnings = telemetry, warnings
        self._outbox: asyncio.Queue[_Outgoing] = asyncio.Queue()

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        """Send what ``build`` returns; it is called just before, so that timings in it are complete.

        ``rev`` and ``channel`` go into the message's id; nothing else distinguishes two messages of one type at one frame.
        """
        self._outbox.put_nowait(_Outgoing(build, traceparent, rev, channel))

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            outgoing = await self._outbox.get()
            await self._send(outgoing)
            self._outbox.task_done()

    async def drained(self, timeout_s: float) -> None:
        """Wait until everything that was put is with the client, or the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._outbox.join()
        except TimeoutError:
            self.unsent += self._outbox.qsize()

    async def _send(self, outgoing: _Outgoing) -> None:
        message = outgoing.build()
        headers = {
            "Nats-Msg-Id": message_id(
                message.stream, message.session, message.start_frame, message.type, outgoing.rev, outgoing.channel
            ),
            "traceparent": outgoing.traceparent,
        }
        payload = message.model_dump_json(by_alias=True).encode()
        if len(payload) > (room_bytes := self._connection.room(headers)):
            counters = partial(self._telemetry.counters, message.stream)
            message = fitted(message, room_bytes, counters, self._warnings)
            payload = message.model_dump_json(by_alias=True).encode()
        subject = f"{self._prefix}.{message.stream}.{message.type}"
        if not await self._connection.publish(subject, payload, headers):
            self.unsent += 1
            if self.unsent == 1:
                log.warning("a %s was not sent: too large, or the broker is away too long", message.type)
