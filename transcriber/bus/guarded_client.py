"""nats-py's client, made safe: what nats-py 2.16 does badly on the wire is mended here and nowhere else.

One malformed message from any publisher, a callback that raises, or the answer to a PING for which nobody waits any more
ends nats-py's read loop or puts its parser out of step while ``is_connected`` stays true; a reconnect waits for ever until a
broker that hangs has taken what is unsent. So: messages that cannot be parsed are counted, and broken connections are aborted.
"""

import asyncio
import re
from contextlib import suppress
from typing import Any, cast

from nats.aio.client import Client
from nats.aio.transport import TcpTransport, Transport
from nats.protocol import parser

# nats-py lets the space before an HMSG's total length be a line end, so a header block of one white space and a payload
# of digits are read as the total length: the parser loses its place, and a publisher can put words in another's mouth.
parser.HMSG_RE = re.compile(rb"\AHMSG[ \t]+([^\s]+)[ \t]+([0-9]+)[ \t]+(([^\s]+)[ \t]+)?([0-9]+)[ \t]+([0-9]+)\r\n")


def _writelines(self: Transport, payload: list[bytes]) -> None:
    self.write(b"".join(payload))


# From Python 3.12 on asyncio's own raises TypeError where the peer has gone, which nats-py does not expect, and in some
# releases what it takes does not count for drain. Before, it was this.
TcpTransport.writelines = _writelines  # type: ignore[method-assign]


class GuardedClient(Client):
    """nats-py's client, whose read loop survives any message.

    Attributes:
        malformed: messages that could not be parsed (subject, reply or headers are not UTF-8, ...).
        received: what came from the broker and was read: messages, PINGs, PONGs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.malformed = 0
        self.received = 0

    @property
    def reconnecting(self) -> bool:
        """A reconnect is under way."""
        return not self.is_connected and self._reconnection_task is not None and not self._reconnection_task.done()

    def probe(self) -> None:
        """Ask the broker to say something; unlike ``flush`` and ``rtt`` it never waits."""
        self._pongs.append(asyncio.get_running_loop().create_future())
        with suppress(OSError, RuntimeError):  # the transport is closed, and nobody noticed
            cast("Transport", self._transport).write(b"PING\r\n")

    def abort(self) -> None:
        """Drop the connection with all that is unsent in it."""
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    def reconnect(self) -> None:
        """Connect anew, to the next server, whatever the client believes its state to be."""
        self._status = Client.RECONNECTING
        self._ps.reset()
        if self._reconnection_task is not None:
            self._reconnection_task.cancel()
        self._reconnection_task = asyncio.get_running_loop().create_task(self._attempt_reconnect())

    async def _attempt_reconnect(self) -> None:
        # Else it would wait until a peer that is gone has taken what is unsent: for ever.
        self.abort()
        await super()._attempt_reconnect()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        try:
            return await super()._flush_pending(force_flush)
        except (OSError, RuntimeError) as error:
            # The transport is closed and nobody noticed: the reader is dead. Who publishes is not to blame, and what is
            # unsent waits for the reconnect.
            await self._process_op_err(error)

    async def _process_ping(self) -> None:
        self.received += 1
        await super()._process_ping()

    async def _process_pong(self) -> None:
        self.received += 1
        if self._pongs and self._pongs[0].done():  # a flush that had lost its patience: nats-py would raise
            self._pongs.pop(0)
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        # What comes is proof enough: under load the answers to our pings wait behind it for longer than they may.
        self.received += 1
        self._pings_outstanding = 0
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception:  # noqa: BLE001 - any publisher can make any of them, and each would end the read loop
            self.malformed += 1
