"""What our own clients share. In: settings. Out: a connection for a while, and messages as an iterator."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg
from pydantic import ValidationError

from transcriber.bus.connection import Connection
from transcriber.config import Settings
from transcriber.schema.messages import ANY_MESSAGE, AnyMessage

log = logging.getLogger(__name__)

Received = Msg
"""A message as it came: ``subject``, ``data``, ``headers``."""


@asynccontextmanager
async def connected(settings: Settings, name: str) -> AsyncIterator[Connection]:
    """A connection under ``name`` that is watched, and closed at the end.

    Raises:
        StartError: no broker, or it refuses us.
    """
    connection = Connection()
    await connection.open(settings, name)
    watching = asyncio.create_task(connection.watch())
    try:
        yield connection
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await connection.close()


async def subscribe(connection: Connection, *subjects: str) -> AsyncIterator[Received]:
    """Subscribe now; what is received from now on comes from the iterator, which never ends by itself.

    Raises:
        BrokerError: the broker denies a subject; from the iterator: the connection is closed for good.
    """
    inbox: asyncio.Queue[Received | None] = asyncio.Queue()

    async def take(message: Received) -> None:
        inbox.put_nowait(message)

    async def received() -> AsyncIterator[Received]:
        while message := await inbox.get():
            yield message
        connection.closed.result()

    connection.closed.add_done_callback(lambda _: inbox.put_nowait(None))
    for subject in subjects:
        await connection.subscribe(subject, take)
    return received()


def parse_transcript(message: Received) -> AnyMessage | None:
    """The transcript in a message; None, with a warning, if it is none."""
    try:
        return ANY_MESSAGE.validate_json(message.data)
    except ValidationError:
        log.warning("skipped a message on %s that is no transcript", message.subject)
        return None
