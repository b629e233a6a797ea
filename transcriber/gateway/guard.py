"""What every request passes. In: an ASGI scope. Out: its request id, its limits, a line in the log, its metrics and its span.

No line has a path, a query, text or audio: the route's template, the status, the time, the request's id and the key's name.
"""

import asyncio
import logging
import re
import time
from typing import Any

from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from transcriber.config import Settings
from transcriber.gateway.api_error import ApiError, note
from transcriber.gateway.sockets import FULL, accept, close
from transcriber.telemetry.gateway import GatewayTelemetry, RequestAccount
from transcriber.telemetry.gateway_figures import CLOSED_FULL
from transcriber.ulid import new_ulid

log = logging.getLogger(__name__)

UPLOADS = "/v1/audio/"
BODY_BYTES = 2**20
"""Of a request that is no upload; and of an upload's fields beside its file."""
BODY_S = 30.0
"""Between two pieces of a body."""
GONE = 499
"""The status of a request that ended before its answer began: the client has left."""
PROBES = ("/livez", "/readyz")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def traceparent(connection: HTTPConnection) -> str:
    """For what the request puts on the bus: of its span; without tracing the client's own; empty if there is none."""
    account: RequestAccount = connection.scope["state"]["account"]
    return account.traceparent


def session_parent(connection: HTTPConnection) -> str:
    """The same for a session of audio, which may last for weeks: empty, unless the client wants it all in one trace."""
    account: RequestAccount = connection.scope["state"]["account"]
    return account.traceparent if account.given else ""


class Guard:
    """ASGI middleware; outside it is none but CORS, whose headers its own answers need. Event loop only."""

    def __init__(self, app: ASGIApp, settings: Settings, telemetry: GatewayTelemetry) -> None:
        self._app, self._settings, self._telemetry = app, settings, telemetry
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        probe = scope["path"] in PROBES
        account = None if probe else self._begin(scope)
        request = _Guarded(scope, receive, send, self._body_limit(scope), account)
        self._open += not probe
        try:
            if self._open > self._settings.gateway_max_connections and not probe:
                await _refuse_full(scope, request)
            else:
                await self._serve(scope, request)
        finally:
            self._open -= not probe
            if release := scope["state"].pop("release", None):
                release()
            request.end()

    def _begin(self, scope: Scope) -> RequestAccount:
        headers = HTTPConnection(scope).headers
        socket = scope["type"] == "websocket"
        return self._telemetry.begin(scope.get("method", "GET"), headers.get("traceparent", ""), socket=socket)

    async def _serve(self, scope: Scope, request: "_Guarded") -> None:
        try:
            request.check_length()
            await self._app(scope, request.receive, request.send)
        except ClientDisconnect:  # nobody is there to be answered
            request.gone = True
        except asyncio.CancelledError:  # the server's, when it stops
            if request.status is None and scope["type"] == "http":
                await _answer(
                    scope, request, ApiError(503, "the gateway stops", code="stopping", headers={"Retry-After": "1"})
                )
        except Exception as error:  # of the guard itself, or past Starlette's handlers
            if request.status is not None or scope["type"] != "http":
                raise
            refused = error if isinstance(error, ApiError) else ApiError(500, "an error of ours")
            await _answer(scope, request, refused)
            if refused is not error:
                raise  # uvicorn logs it

    def _body_limit(self, scope: Scope) -> int:
        upload = scope["path"].startswith(UPLOADS)
        return BODY_BYTES + (self._settings.file_max_bytes if upload else 0)


async def _refuse_full(scope: Scope, request: "_Guarded") -> None:
    full = ApiError(503, "too many connections", code="too_many_connections", headers={"Retry-After": "1"})
    if scope["type"] == "websocket":
        note(HTTPConnection(scope), full)
        websocket = WebSocket(scope, request.receive, request.send)
        await accept(websocket)
        await close(websocket, FULL, "too many connections")
    else:
        await _answer(scope, request, full)


async def _answer(scope: Scope, request: "_Guarded", error: ApiError) -> None:
    note(HTTPConnection(scope), error)
    await JSONResponse(error.body, error.status, error.headers)(scope, request.receive, request.send)


class _Guarded:
    """One request. Its body is limited in size, and each of its pieces in time."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, body_limit: int, account: RequestAccount | None
    ) -> None:
        self._account = account
        self._scope, self._receive, self._send = scope, receive, send
        self._left_bytes, self._body_limit = body_limit, body_limit
        self._more = scope["type"] == "http"
        self._began_s = time.monotonic()
        self.status: int | None = None
        self.gone = False
        state: dict[str, Any] = scope.setdefault("state", {})
        self._headers = HTTPConnection(scope).headers
        given = self._headers.get("x-request-id", "")
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else new_ulid()
        state["account"] = account

    def check_length(self) -> None:
        """Refuse a body that says it is too large, before a byte of it is read."""
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_limit:
            raise self._too_large()

    async def receive(self) -> Message:
        if not self._more:
            message = await self._receive()
            self._count(message.get("bytes"), message.get("text"))
            return message
        try:
            message = await asyncio.wait_for(self._receive(), BODY_S)
        except TimeoutError:
            raise ApiError(408, f"no piece of the body for {BODY_S:g} s", headers={"Connection": "close"}) from None
        self._more = bool(message.get("more_body"))
        self._left_bytes -= len(message.get("body", b""))
        self._count(message.get("body"), None)
        if self._left_bytes < 0:
            raise self._too_large()
        return message

    def _count(self, data: bytes | None, text: str | None) -> None:
        """Bytes that came."""
        if self._account and (data or text):
            self._account.received(len(data or b"") + len((text or "").encode(errors="replace")))

    async def send(self, message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start", "websocket.accept"}:
            self.status = message.get("status", 101)
            ours = (b"x-request-id", self._scope["state"]["request_id"].encode())
            message = {**message, "headers": [*message.get("headers", ()), ours]}
            self._open(message)
        elif message["type"] == "websocket.close":
            self.status = self.status or 403
            if message.get("code") == FULL:
                self._scope["state"].setdefault("error_code", CLOSED_FULL)
        await self._send(message)

    def _open(self, message: Message) -> None:
        """Begin to count what has no end."""
        if self._account and self._route:
            if message["type"] == "websocket.accept":
                self._account.opened(self._route.rpartition("/")[2], self._route)
            elif any(name == b"content-type" and value.startswith(_EVENTS) for name, value in message["headers"]):
                self._account.opened("events", self._route)

    @property
    def _route(self) -> str:
        """Its template; empty if there is none."""
        return getattr(self._scope.get("route"), "path", "")

    def end(self) -> None:
        """All is over: a line in the log, its metrics and its span; of a probe none."""
        if self._account is None:
            return
        state = self._scope["state"]
        self._account.code = state.get("error_code")
        status = GONE if self.gone and self.status is None else self.status
        self._account.end(self._route, status, path=self._scope["path"], request_id=state["request_id"])
        log.info(
            "request",
            extra={
                "method": self._scope.get("method", "WS"),
                "route": self._route or "-",
                "status": self.status or 0,
                "ms": round(1000 * (time.monotonic() - self._began_s)),
                "request_id": state["request_id"],
                "trace_id": self._account.trace_id,
                "key": state.get("key_name", ""),
            },
        )

    def _too_large(self) -> ApiError:
        # The connection stays open: the rest of the body is discarded, and a client that is still sending reads why.
        return ApiError(413, f"the body may have {self._body_limit} bytes")


_EVENTS = b"text/event-stream"
