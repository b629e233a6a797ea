"""How WebSockets begin and end. In: one that is not accepted yet, or is to be closed. Out: a handshake, a close code and its reason."""

import asyncio
from contextlib import suppress

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from transcriber.gateway.api_error import ApiError, note

DONE, BAD_TEXT, POLICY, TOO_LARGE, FAILED, FULL = 1000, 1007, 1008, 1009, 1011, 1013
"""Close codes; 1012 the server itself sends when it stops."""

CLOSE_S = 2.0
"""For a socket that is not read to take the reason why it is closed."""
CLOSING = "closing"
"""In the scope's ``state``, once there is a reason to close."""
REASON_CHARS = 100
"""Of a reason: a close frame has room for 123 bytes."""


async def accept(websocket: WebSocket, protocol: str | None = None) -> None:
    """Accept, under ``protocol`` if that is offered, else the first that is: a browser expects one of those it offered."""
    offered: list[str] = websocket.scope.get("subprotocols") or []
    await websocket.accept(protocol if protocol in offered else next(iter(offered), None))


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close with a reason, as far as the client takes it: it may be gone, or not read."""
    setattr(websocket.state, CLOSING, True)
    with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
        async with asyncio.timeout(CLOSE_S):
            await websocket.close(code, reason[:REASON_CHARS])


async def nowhere(websocket: WebSocket) -> None:
    """Where no WebSocket is: 404."""
    await refuse(websocket, ApiError(404, "Not Found"))


async def refuse(websocket: WebSocket, error: ApiError) -> None:
    """Answer a handshake with the error's status and body."""
    note(websocket, error)
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(JSONResponse(error.body, error.status, error.headers))
    else:
        await websocket.close(POLICY)
