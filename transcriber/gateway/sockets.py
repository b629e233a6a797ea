"""WebSockets that are refused. In: one that is not accepted yet, an error. Out: an HTTP response, or a close code."""

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from transcriber.gateway.api_error import ApiError

DONE, POLICY, TOO_LARGE, FAILED, RESTART, FULL = 1000, 1008, 1009, 1011, 1012, 1013
"""Close codes; the server itself sends ``RESTART`` when it stops."""


async def refuse(websocket: WebSocket, error: ApiError) -> None:
    """Answer a handshake with the error's status and body."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(JSONResponse(error.body, error.status, error.headers))
    else:
        await websocket.close(POLICY)
