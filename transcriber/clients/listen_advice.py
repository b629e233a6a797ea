"""Advice to a listener who sees nothing. In: a connection, messages. Out: the messages, and one line on stderr if there are none."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from transcriber.bus.connection import Connection, NatsError, NatsMessage
from transcriber.config import Settings
from transcriber.errors import BrokerError
from transcriber.schema.file_jobs import is_job_id

ADVISE_S = 2.0
"""Seconds without a message until stderr says what is missing."""
PING = "$SRV.PING.transcriber"
_ANSWER_S = 1.0


async def advised(
    messages: AsyncIterator[NatsMessage], advice: Callable[[], Awaitable[str]]
) -> AsyncIterator[NatsMessage]:
    """``messages``; if there is none within ``ADVISE_S`` seconds, stderr shows what ``advice`` returns, once."""
    advising = asyncio.create_task(_advise(advice))
    try:
        async for message in messages:
            advising.cancel()
            yield message
    finally:
        advising.cancel()


async def _advise(advice: Callable[[], Awaitable[str]]) -> None:
    await asyncio.sleep(ADVISE_S)
    text = await advice()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def missing(connection: Connection, settings: Settings, stream: str | None) -> str:
    """What a listener waits for: the broker, a daemon, or a stream."""
    if not connection.connected:
        return "no broker: the connection is lost, and is tried again"
    daemon: bool | None
    try:
        await connection.request(PING, b"", _ANSWER_S)
        daemon = True
    except (NatsError, TimeoutError):
        daemon = False
    except BrokerError:  # not permitted to ask
        daemon = None
    what = f"{settings.transcript_subject_prefix}.{stream or '*'}.*"
    if daemon is False:
        return (
            f"no daemon answers at {connection.server}: transcriber serve --nats-url ... starts one; waiting for {what}"
        )
    if stream is not None and is_job_id(stream):
        return f"nothing new about {stream}: transcriber jobs {stream} shows what is known of it"
    audio = f"{settings.audio_prefix}.{stream or '<stream>'}"
    head = "no stream" if daemon else "nothing"
    here = "a daemon is there" if daemon else "this user may not ask for daemons"
    return f"{head} yet: {here}; waiting for {what}, which it sends when there is audio on {audio}"
