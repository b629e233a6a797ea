"""nats-py's client with workarounds for faults of version 2.16 on the wire, which are here and nowhere else.

One malformed message from any publisher, a callback that raises, or a PONG whose waiter has given up ends nats-py's read loop or
desynchronises its parser while ``is_connected`` stays true; a reconnect waits without limit for a hung broker to take unsent
data. So messages that cannot be parsed are counted, and broken connections are aborted.
"""

import asyncio
import re
from contextlib import suppress
from typing import Any, cast
from weakref import WeakSet

from nats.aio.client import Client, Srv
from nats.aio.transport import TcpTransport, Transport
from nats.errors import Error
from nats.protocol import parser

# nats-py lets the space before an HMSG's total length be a line end, so a header block of one white space and a payload
# of digits are read as the total length: the parser loses its place, and one publisher can forge messages of another.
parser.HMSG_RE = re.compile(rb"\AHMSG[ \t]+([^\s]+)[ \t]+([0-9]+)[ \t]+(([^\s]+)[ \t]+)?([0-9]+)[ \t]+([0-9]+)\r\n")


def _writelines(self: Transport, payload: list[bytes]) -> None:
    self.write(b"".join(payload))


# From Python 3.12 on asyncio's own raises TypeError where the peer has gone, which nats-py does not expect, and in some
# releases what it buffers does not count for drain. Python 3.11's was this.
TcpTransport.writelines = _writelines  # type: ignore[method-assign]


class NoTlsError(Error):
    """The broker has no TLS, and we were asked for it."""

    def __str__(self) -> str:
        return "TLS is asked for, and the broker has none"


class GuardedClient(Client):
    """nats-py's client, whose read loop survives any message. Event loop only.

    Attributes:
        malformed: messages that could not be parsed (subject, reply or headers are not UTF-8, ...).
        received: messages, PINGs and PONGs read from the broker.
    """

    def __init__(self) -> None:
        super().__init__()
        self.malformed = 0
        self.received = 0
        self._attempt: asyncio.Task[Any] | None = None
        self._superseded: WeakSet[asyncio.Task[Any]] = WeakSet()

    @property
    def reconnecting(self) -> bool:
        """A reconnect is under way."""
        return not self.is_connected and self._reconnection_task is not None and not self._reconnection_task.done()

    def probe(self) -> None:
        """Send a PING; unlike ``flush`` and ``rtt`` this never waits."""
        self._pongs.append(asyncio.get_running_loop().create_future())
        with suppress(OSError, RuntimeError):  # the transport is closed, which nats-py has not noticed
            cast("Transport", self._transport).write(b"PING\r\n")

    async def written(self, patience_s: float) -> None:
        """Wait until the socket has taken what is pending, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                flushed: asyncio.Future[None] | None = await self._flush_pending(force_flush=True)
                if flushed is not None:
                    await asyncio.wait([flushed])  # which, unlike await, does not cancel it: the flusher would end

    def abort(self) -> None:
        """Drop the connection with everything unsent."""
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    def reconnect(self) -> None:
        """Connect again, to the next server, whatever nats-py's state is."""
        self._status = Client.RECONNECTING
        self._ps.reset()
        if self._reconnection_task is not None:
            self._reconnection_task.cancel()
        self._reconnection_task = asyncio.get_running_loop().create_task(self._attempt_reconnect())

    async def _attempt_reconnect(self) -> None:
        # Else it would wait without limit for a peer that is gone to take what is unsent.
        self.abort()
        # Python 3.11's wait_for loses a cancellation that comes just as what it waits for ends: the attempt would go on for ever,
        # beside its successor or after the client was closed.
        if self._attempt is not None:
            self._superseded.add(self._attempt)
        self._attempt = asyncio.current_task()
        with suppress(asyncio.InvalidStateError):  # both end the one future that stands for reconnecting
            await super()._attempt_reconnect()

    async def _connect_to_server(self, server: Srv) -> None:
        # A client that connects for the first time calls itself closed between its attempts.
        task = asyncio.current_task()
        if task in self._superseded or (task is self._attempt and self.is_closed):
            raise asyncio.CancelledError  # which was lost
        await super()._connect_to_server(server)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # Where the broker, or who sits before it, says that TLS is not required, nats-py sends the credentials in the clear.
        if initial_connection and "tls" in self.options and not self.options["tls_handshake_first"]:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise NoTlsError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        try:
            return await super()._flush_pending(force_flush)
        except (OSError, RuntimeError) as error:
            # The transport is closed, which nats-py has not noticed: its reader is dead. The publishing caller gets no
            # error, and what is unsent waits for the reconnect.
            await self._process_op_err(error)

    async def _process_ping(self) -> None:
        self.received += 1
        await super()._process_ping()

    async def _process_pong(self) -> None:
        self.received += 1
        if self._pongs and self._pongs[0].done():  # of a flush that timed out: nats-py would raise
            self._pongs.pop(0)
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        # Any message proves the connection alive: under load PONGs wait behind messages for longer than the ping limit.
        self.received += 1
        self._pings_outstanding = 0
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception:  # noqa: BLE001 - any publisher can cause one, and each would end the read loop
            self.malformed += 1
