"""Whether a daemon takes streams. In: a connection. Out: the broker's answer."""

import asyncio

from transcriber.bus.connection import Connection, NatsError
from transcriber.errors import BrokerError
from transcriber.tasks import cancel

PROBE_S = 0.1
"""For the broker's answer that nobody listens, which is here when it has confirmed the probe. A daemon answers nothing."""
BROKER_S = 5.0


async def daemon_listens(connection: Connection, subject: str) -> bool:
    """Whether somebody has subscribed to a stream's audio: a heartbeat is sent to it.

    Raises:
        BrokerError: the broker denies the subject, or does not answer.
    """
    probe = asyncio.create_task(connection.request(subject, b"", BROKER_S))
    try:
        if not await connection.flush(BROKER_S):
            raise BrokerError("the broker does not answer")
        await asyncio.wait([probe], timeout=PROBE_S)
        if not probe.done():
            return True
        probe.result()  # JetStream's, where it stores audio
    except (NatsError, TimeoutError):
        return False
    else:
        return True
    finally:
        await cancel([probe])
