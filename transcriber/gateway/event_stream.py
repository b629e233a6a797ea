"""Server-Sent Events. In: an async generator of them. Out: a response."""

from collections.abc import AsyncGenerator
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from transcriber.gateway.runtime import runtime_of

SEND_S = 10.0
"""For a client to take what is sent."""


class EventStream(EventSourceResponse):
    """Drops a client that takes nothing, and closes its events when the client leaves, else left to the garbage collector."""

    def __init__(self, events: AsyncGenerator[ServerSentEvent, None], **options: Any) -> None:
        super().__init__(events, send_timeout=SEND_S, **options)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            runtime_of(HTTPConnection(scope)).figures.readers_dropped["time"] += 1
            await cut_off(scope, receive)  # what is not read cannot be ended
        finally:
            await self._events.aclose()


async def cut_off(scope: Scope, receive: Receive) -> None:
    """Drop the connection, so that an answer that has begun does not look whole; returns once it is gone."""
    scope["state"]["abort"]()
    while (await receive())["type"] != "http.disconnect":
        pass
