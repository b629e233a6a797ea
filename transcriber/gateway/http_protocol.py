"""HTTP whose headers are limited in size and time. In: bytes of a client. Out: ASGI requests, or a 431, or a closed connection.

The parser keeps a header of any length, and the server waits for its end without limit.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from transcriber.gateway.api_error import ApiError
from transcriber.telemetry.gateway_figures import GatewayFigures, refusal_of

HEADER_BYTES = 2**16
HEADER_S = 10.0
"""From the connection, or a request's first byte, to the end of the request's headers."""
LINGER_S = 2.0
"""For a client that is still sending to read why it is refused; what it sends is discarded."""
TAKE_S = 15.0
"""In which a client takes at least some of what is sent; closing alone would wait for it to take all. Longer than what those wait
who can tell it why."""


class Impatient(asyncio.Protocol):
    """Drops the connection of a client that takes nothing any more.

    Attributes:
        figures: of the gateway, where what never becomes a request is counted.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    figures = GatewayFigures()
    _untaken_bytes = 0
    _taking: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_taking()
        super().connection_lost(exc)

    def count(self, error: ApiError) -> None:
        """A refusal of what never becomes a request."""
        if reason := refusal_of(error.status, error.code):
            self.figures.refusals[reason] += 1

    def abort(self) -> None:
        """Drop the connection, and what waits for the client."""
        self.transport.abort()

    def _await_taking(self) -> None:
        self._untaken_bytes = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(TAKE_S, self._look)

    def _look(self) -> None:
        if self.transport.get_write_buffer_size() >= self._untaken_bytes:
            self.abort()
        else:
            self._await_taking()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


class GuardedProtocol(Impatient, HttpToolsProtocol):
    """One connection. Event loop only."""

    max_connections = 2**16

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._header_bytes = 0
        self._in_headers, self._refused = True, False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.close()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self._refuse(_too_long())
        if self._timer is None and self._forgotten:
            self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timer()

    def on_headers_complete(self) -> None:
        self._in_headers, self._header_bytes = False, 0
        self._stop_timer()
        if (answering := self._answering) is not None:
            self._refused = True  # of pipelined requests the server would keep any number
            answering.keep_alive = False
            raise _EndOfParsing
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEADER_BYTES:  # all in one read
            self._refuse(_too_long())
            raise _EndOfParsing
        super().on_headers_complete()
        self.scope["state"]["abort"] = self.transport.abort

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers = True

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, msg))

    @property
    def _answering(self) -> RequestResponseCycle | None:
        """The request whose answer is not complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    @property
    def _forgotten(self) -> bool:
        """Whether no timer of the server's applies: after an answer, any byte ends that for the next request."""
        ours = self.transport.get_protocol() is self  # no WebSocket by now
        return (
            self._answering is None
            and ours
            and self.timeout_keep_alive_task is None
            and not self.transport.is_closing()
        )

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(HEADER_S, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._header_bytes:  # else a connection that is kept in store, as browsers do
            self.figures.refusals["time"] += 1
        self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        if self._refused:
            return
        self._refused = True
        self._stop_timer()
        self.count(error)
        if (answering := self._answering) is not None:
            answering.disconnected = True
            answering.message_event.set()
        if answering is None or not answering.response_started:
            self.transport.write(error.raw)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)


class _EndOfParsing(Exception):  # noqa: N818 - it is none
    """Raised in a callback of the parser: it reads no further."""


def _too_long() -> ApiError:
    return ApiError(431, f"the request's headers have more than {HEADER_BYTES} bytes")
