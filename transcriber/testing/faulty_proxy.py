"""A bad network between a client and a server. In: TCP connections. Out: the same, but slow, silent, cut or half closed."""

import asyncio
import contextlib
import socket
import struct
from typing import Self, cast

_PIECE_BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)
"""Linger for no time: what closes, closes with RST."""


class FaultyProxy:
    """Forwards each TCP connection to a port of 127.0.0.1, as long as the ``async with`` block lasts. Event loop only.

    Attributes:
        port: where it listens.
        delay_s: how long each piece is held, in both directions; order is kept.
        accepted: connections that came so far.
    """

    def __init__(self, target_port: int) -> None:
        """Proxy to ``target_port``, without faults at first."""
        self.target_port = target_port
        self.port = 0
        self.delay_s = 0.0
        self.accepted = 0
        self._open = asyncio.Event()
        self._open.set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._silenced: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:PORT``."""
        return f"nats://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.cut()

    def black_hole(self, on: bool) -> None:
        """On: keep connections, old and new, and forward nothing. Off: forward again, first what was held."""
        if on:
            self._open.clear()
        else:
            self._open.set()

    async def cut(self) -> None:
        """Reset every connection; the next one is accepted."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def half_close(self) -> None:
        """Close the server's direction (FIN) of the connections there are; the client's stays open."""
        for writer in self._clients - self._silenced:
            writer.write_eof()
            self._silenced.add(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = cast("asyncio.Task[None]", asyncio.current_task())
        self._links.add(link)
        self._clients.add(writer)
        broker_writer = None
        try:
            await self._open.wait()
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, broker_writer))
                pumps.create_task(self._pump(broker_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # whatever happened to one side, both end here
        finally:
            for each in filter(None, (writer, broker_writer)):
                with contextlib.suppress(OSError):
                    each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.transport.abort()
            self._clients.discard(writer)
            self._silenced.discard(writer)
            self._links.discard(link)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward until the sender closes; two tasks, so that a delay does not limit the throughput."""
        loop = asyncio.get_running_loop()
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)

        async def take() -> None:
            while piece := await reader.read(_PIECE_BYTES):
                await held.put((loop.time(), piece))
                await self._open.wait()
            await held.put((loop.time(), b""))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(take())
            while True:
                came_s, piece = await held.get()
                await asyncio.sleep(came_s + self.delay_s - loop.time())
                await self._open.wait()
                if not piece:
                    break
                if writer not in self._silenced:
                    writer.write(piece)
                    await writer.drain()
            if writer not in self._silenced:
                writer.write_eof()
