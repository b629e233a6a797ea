"""Server-Sent Events. In: an async generator of them. Out: a response."""

from collections.abc import AsyncGenerator
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send


class EventStream(EventSourceResponse):
    """Closes its events when the client leaves, which would otherwise be left to the garbage collector."""

    def __init__(self, events: AsyncGenerator[ServerSentEvent, None], **options: Any) -> None:
        super().__init__(events, **options)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()
