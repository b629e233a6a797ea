"""A client's connection. In: settings. Out: a connection for the time of a context, and messages as an iterator."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import ValidationError

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.config import Settings
from transcriber.schema.messages import ANY_MESSAGE, AnyMessage

log = logging.getLogger(__name__)


@asynccontextmanager
async def connected(settings: Settings, name: str) -> AsyncIterator[Connection]:
    """A connection under ``name``, watched, and closed at the end.

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


async def subscribe(connection: Connection, *subjects: str) -> AsyncIterator[NatsMessage]:
    """Subscribe now; the iterator yields everything received from now on, and never ends by itself.

    Raises:
        BrokerError: the broker denies a subject; from the iterator: the connection is closed for good.
    """
    inbox: asyncio.Queue[NatsMessage | None] = asyncio.Queue()

    async def take(message: NatsMessage) -> None:
        inbox.put_nowait(message)

    async def received() -> AsyncIterator[NatsMessage]:
        while message := await inbox.get():
            yield message
        connection.closed.result()

    connection.closed.add_done_callback(lambda _: inbox.put_nowait(None))
    for subject in subjects:
        await connection.subscribe(subject, take)
    return received()


def parse_transcript(message: NatsMessage) -> AnyMessage | None:
    """The message parsed; None, with a warning, if it does not fit the schema."""
    try:
        return ANY_MESSAGE.validate_json(message.data)
    except ValidationError:
        log.warning("skipped a message on %s that is no transcript", message.subject)
        return None
