"""Server-Sent Events for readers that do not read."""

import asyncio
import types

from sse_starlette import ServerSentEvent

from transcriber.gateway import event_stream
from transcriber.gateway.event_stream import EventStream
from transcriber.telemetry.gateway_figures import GatewayFigures


async def test_a_reader_that_takes_nothing_in_time_is_dropped_and_counted_and_nothing_is_raised(monkeypatch):
    monkeypatch.setattr(event_stream, "SEND_S", 0.01)
    figures, gone, closed = GatewayFigures(), asyncio.Event(), []
    app = types.SimpleNamespace(state=types.SimpleNamespace(runtime=types.SimpleNamespace(figures=figures)))

    async def events():
        try:
            while True:
                yield ServerSentEvent("text")
        finally:
            closed.append(True)

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "headers": [], "app": app, "state": {"abort": gone.set}}
    await EventStream(events())(scope, receive, send)

    assert gone.is_set()
    assert closed == [True]
    assert figures.readers_dropped == {"queue": 0, "time": 1}
