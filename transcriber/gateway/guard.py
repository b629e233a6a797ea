"""What every request passes. In: an ASGI scope. Out: its request id, its limits, a line in the log.

No line has a path, a query, text or audio: the route's template, the status, the time, the request's id and the key's name.
"""

import asyncio
import logging
import re
import time
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from transcriber.config import Settings
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.sockets import FULL
from transcriber.telemetry.traceparent import session_traceparent, valid_traceparent
from transcriber.ulid import new_ulid

log = logging.getLogger(__name__)

UPLOADS = "/v1/audio/"
BODY_BYTES = 2**20
"""Of a request that is no upload; and of an upload's fields beside its file."""
BODY_S = 30.0
"""Between two pieces of a body."""
PROBES = ("/livez", "/readyz")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(connection: HTTPConnection) -> str:
    """The client's ``X-Request-ID``, or one of ours."""
    found: str = connection.scope["state"]["request_id"]
    return found


def traceparent(connection: HTTPConnection) -> str:
    """The client's ``traceparent``, or one that follows from the request's id, not sampled: for the daemon's spans."""
    given = connection.headers.get("traceparent", "")
    return given if valid_traceparent(given) else session_traceparent("gateway", request_id(connection))


class Guard:
    """ASGI middleware, the outermost. Event loop only."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        request = _Guarded(scope, receive, send, self._body_limit(scope))
        probe = scope["path"] in PROBES
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
            if not probe:
                request.log()

    async def _serve(self, scope: Scope, request: "_Guarded") -> None:
        try:
            request.check_length()
            await self._app(scope, request.receive, request.send)
        except ApiError as error:  # of the guard itself, or past Starlette's handlers
            if request.status is not None or scope["type"] != "http":
                raise
            await JSONResponse(error.body, error.status, error.headers)(scope, request.receive, request.send)

    def _body_limit(self, scope: Scope) -> int:
        upload = scope["path"].startswith(UPLOADS)
        return BODY_BYTES + (self._settings.file_max_bytes if upload else 0)


async def _refuse_full(scope: Scope, request: "_Guarded") -> None:
    if scope["type"] == "websocket":
        websocket = WebSocket(scope, request.receive, request.send)
        await websocket.accept()
        await websocket.close(FULL, "too many connections")
    else:
        full = ApiError(503, "too many connections", headers={"Retry-After": "1"})
        await JSONResponse(full.body, full.status, full.headers)(scope, request.receive, request.send)


class _Guarded:
    """One request. Its body is limited in size, and each of its pieces in time."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_limit: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._left_bytes, self._body_limit = body_limit, body_limit
        self._more = scope["type"] == "http"
        self._began_s = time.monotonic()
        self.status: int | None = None
        state: dict[str, Any] = scope.setdefault("state", {})
        self._headers = HTTPConnection(scope).headers
        given = self._headers.get("x-request-id", "")
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else new_ulid()

    def check_length(self) -> None:
        """Refuse a body that says it is too large, before a byte of it is read."""
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_limit:
            raise self._too_large()

    async def receive(self) -> Message:
        if not self._more:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), BODY_S)
        except TimeoutError:
            raise ApiError(408, f"no piece of the body for {BODY_S:g} s", headers=_CLOSE) from None
        self._more = bool(message.get("more_body"))
        self._left_bytes -= len(message.get("body", b""))
        if self._left_bytes < 0:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start", "websocket.accept"}:
            self.status = message.get("status", 101)
            ours = (b"x-request-id", self._scope["state"]["request_id"].encode())
            message = {**message, "headers": [*message.get("headers", ()), ours]}
        elif message["type"] == "websocket.close" and self.status is None:
            self.status = 403
        await self._send(message)

    def log(self) -> None:
        """One line, when all is over."""
        state, route = self._scope["state"], self._scope.get("route")
        log.info(
            "request",
            extra={
                "method": self._scope.get("method", "WS"),
                "route": getattr(route, "path", "-"),
                "status": self.status or 0,
                "ms": round(1000 * (time.monotonic() - self._began_s)),
                "request_id": state["request_id"],
                "key": state.get("key_name", ""),
            },
        )

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body may have {self._body_limit} bytes", headers=_CLOSE)


_CLOSE = {"Connection": "close"}
