"""The state of all streams on NATS.

In: a ``StreamWatch``, requests on ``transcriber.streams``. Out: ``StreamFigures``, on ``transcriber.streams.<instance>`` while anything
changes, and in reply to each request.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.errors import DeniedError
from transcriber.pipeline.stream_watch import StreamWatch
from transcriber.schema.stream_figures import StreamFigure, StreamFigures
from transcriber.schema.subjects import STREAMS_SUBJECT

log = logging.getLogger(__name__)

ENVELOPE_BYTES = 512
"""Of a page, beside its streams."""


class StreamReports:
    """Publishes the figures. Event loop only."""

    def __init__(self, connection: Connection, watch: StreamWatch, instance: str, interval_s: float) -> None:
        """``interval_s``: seconds between two messages, while anything changes."""
        self._connection, self._watch = connection, watch
        self._instance, self._interval_s = instance, interval_s

    async def start(self) -> None:
        """Answer requests; if the broker denies the subject, warn and continue.

        Raises:
            BrokerError: the broker is gone again.
        """
        try:
            await self._connection.subscribe(STREAMS_SUBJECT, self._answer)
        except DeniedError as error:
            log.warning("requests for the state of streams are not answered: %s", error)

    async def run(self) -> None:
        """Publish until cancelled."""
        reported: tuple[StreamFigure, ...] = ()
        while True:
            await asyncio.sleep(self._interval_s)
            figures = self._watch.look(time.monotonic())
            if figures != reported and await self._publish(f"{STREAMS_SUBJECT}.{self._instance}", figures):
                reported = figures

    async def _answer(self, request: NatsMessage) -> None:
        if request.reply:
            await self._publish(request.reply, self._watch.look(time.monotonic()))

    async def _publish(self, subject: str, figures: Sequence[StreamFigure]) -> bool:
        """Returns whether the client took all pages."""
        pages = to_pages(figures, self._instance, datetime.now(UTC), self._connection.room({}))
        return all([await self._connection.publish(subject, page) for page in pages])


def to_pages(figures: Sequence[StreamFigure], instance: str, at: datetime, room_bytes: int) -> list[bytes]:
    """The figures as ``StreamFigures``, each of at most ``room_bytes`` bytes or of one stream; one without any if there are none."""
    parts: list[list[StreamFigure]] = [[]]
    size_bytes = ENVELOPE_BYTES
    for figure in figures:
        own_bytes = len(figure.model_dump_json()) + 1
        if parts[-1] and size_bytes + own_bytes > room_bytes:
            parts.append([])
            size_bytes = ENVELOPE_BYTES
        parts[-1].append(figure)
        size_bytes += own_bytes
    return [
        StreamFigures(instance=instance, at=at, page=number, pages=len(parts), streams=tuple(part))
        .model_dump_json(by_alias=True)
        .encode()
        for number, part in enumerate(parts)
    ]
