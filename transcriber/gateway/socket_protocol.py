"""WebSockets that cannot be flooded. In: bytes of a client. Out: ASGI messages; or a status, or a close code, and the reason.

The server itself leaves a handshake that it cannot read without an answer, keeps any number of fragments, answers pings of a
client that reads nothing, and logs a traceback for text that is not UTF-8.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.frames import Frame

from transcriber.gateway.api_error import ApiError
from transcriber.gateway.http_protocol import LINGER_S, Impatient
from transcriber.gateway.sockets import BAD_TEXT, CLOSING, POLICY, TOO_LARGE

MAX_FRAGMENTS = 1024
"""Of a message."""
MAX_PINGS, PINGS_S = 100, 1.0
"""Of a client, within so long."""


class GuardedSocketProtocol(Impatient, WebSocketsSansIOProtocol):
    """One connection, once it is to be a WebSocket. Event loop only."""

    _pings, _pings_since_s = 0, 0.0
    _received_s = 0.0

    def data_received(self, data: bytes) -> None:
        self._received_s = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not (self.handshake_initiated or self.close_sent):
            self._refuse_handshake(self.conn.handshake_exc)

    def eof_received(self) -> None:
        if not self.handshake_complete:
            self.disconnected = True  # before we have answered: nothing can be sent

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MAX_FRAGMENTS:
            self._fail(TOO_LARGE, f"a message has more than {MAX_FRAGMENTS} fragments")
        elif not self.close_sent:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        now_s = self.loop.time()
        if now_s - self._pings_since_s > PINGS_S:
            self._pings, self._pings_since_s = 0, now_s
        self._pings += 1
        if self._pings > MAX_PINGS:
            self._fail(POLICY, f"more than {MAX_PINGS} pings within {PINGS_S:g} s")
        elif self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # the client does not read: its pongs are dropped

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            self.frames = [b"".join(self.frames)]
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                self._fail(BAD_TEXT, "a text frame is not UTF-8")
                return
        super().send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        if self.read_paused or self._received_s > self.ping_sent_at:
            # It is we who do not read, as while the broker is away: the pong waits behind audio.
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def handle_parser_exception(self) -> None:
        if self.close_sent:  # what still comes is discarded
            return
        sent = self.conn.close_sent  # None: there were frames before the handshake was answered
        code, reason = (sent.code, sent.reason) if sent else (1006, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.handshake_complete = self.disconnected = True  # or there will be no handshake; nothing more can be sent
        self.writable.set()
        self._linger()

    def abort(self) -> None:
        over = self.close_sent or self.transport.is_closing() or self.scope["state"].get(CLOSING)
        self.figures.readers_dropped["time"] += not over  # else it has ended, and who was dropped is counted
        super().abort()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True  # also one that is refused, which the server else logs as an error

    def _fail(self, code: int, reason: str) -> None:
        """Close with a reason, without waiting for the client."""
        self.frames = []
        if not (self.close_sent or self.transport.is_closing()):
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def _linger(self) -> None:
        """Close, but not before the client could read why: if it is still sending, closing at once would reset it."""
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _refuse_handshake(self, error: Exception) -> None:
        too_long = isinstance(error, HeaderLineTooLong | RequestLineTooLong | TooManyHeaders)
        self.handshake_complete = True
        refusal = ApiError(431 if too_long else 400, f"no WebSocket: {error}")
        self.count(refusal)
        self.transport.write(refusal.raw)
        self._linger()
