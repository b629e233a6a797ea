"""A gateway whose daemons are scripted: the page's real files, and the interfaces that they use, told by a test what to say."""

import asyncio
import json
import threading
from contextlib import suppress
from typing import Any

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S
from transcriber.gateway.pages import ROUTES


class PageStub:
    """Served in a thread, as long as the ``with`` block, at ``url``.

    ``audio`` has each connection of a microphone: its query, its frames and its commands. ``key`` is what requests need, if set.
    """

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = None
        self.audio, self.uploads, self.figures = [], [], []
        self.position = None
        self._listeners, self._watchers = {}, set()

    def __enter__(self):
        app = Starlette(
            routes=[
                *ROUTES,
                Route("/v1/tickets", self._ticket, methods=["POST"]),
                Route("/v1/streams", self._streams),
                Route("/v1/jobs", self._jobs),
                Route("/v1/audio/transcriptions", self._transcribe, methods=["POST"]),
                WebSocketRoute("/v1/streams/{stream}/transcript", self._transcript),
                WebSocketRoute("/v1/streams/{stream}/audio", self._audio),
            ]
        )
        config = uvicorn.Config(app, port=self.port, log_level="error", ws="websockets-sansio", lifespan="off")
        self._server = uvicorn.Server(config)
        ready = threading.Event()

        async def serve():
            self._loop = asyncio.get_running_loop()
            started = self._server.startup

            async def startup(sockets=None):
                await started(sockets)
                ready.set()

            self._server.startup = startup  # type: ignore[method-assign]
            await self._server.serve()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(PATIENCE_S)

    def say(self, **message):
        """Send a message to the listeners of its stream."""
        self._call(
            lambda: [queue.put_nowait(json.dumps(message)) for queue in self._listeners.get(message["stream"], ())]
        )

    def show(self, event, data):
        """Send figures or metrics to the pages that watch; ``streams`` are what later ones get first."""
        if event == "streams":
            self.figures = data["streams"]
        found = ServerSentEvent(json.dumps(data), event=event)
        self._call(lambda: [queue.put_nowait(found) for queue in self._watchers])

    def listeners(self, stream):
        return len(self._listeners.get(stream, ()))

    def break_audio(self):
        """End the microphones' connections as if a network broke."""
        self._call(lambda: [connection["transport"].set() for connection in self.audio])

    def _call(self, what):
        async def call():
            what()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE_S)

    def _refused(self, connection):
        if self.key is None:
            return None
        if connection.headers.get("authorization") == f"Bearer {self.key}" or "ticket" in connection.query_params:
            return None
        return JSONResponse({"error": {"message": "a key is needed"}}, 401)

    async def _ticket(self, request):
        return self._refused(request) or JSONResponse({"ticket": "t.1", "expires_at": "2026-01-01T00:00:00Z"})

    async def _jobs(self, request):
        return self._refused(request) or JSONResponse({"jobs": []})

    async def _streams(self, request):
        if refused := self._refused(request):
            return refused
        if "text/event-stream" not in request.headers["accept"]:
            return JSONResponse({"streams": self.figures})

        async def changes():
            queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
            self._watchers.add(queue)
            try:
                yield ServerSentEvent(json.dumps({"streams": self.figures}), event="streams")
                while True:
                    yield await queue.get()
            finally:
                self._watchers.discard(queue)

        return EventSourceResponse(changes())

    async def _transcribe(self, request):
        async with request.form() as form:
            self.uploads.append({name: value for name, value in form.items() if isinstance(value, str)})
            self.uploads[-1]["bytes"] = len(await form["file"].read())
        segment: dict[str, Any] = {"id": 0, "start": 0.0, "end": 1.5, "text": " Tide <b>is</b> turning."}
        whole = {"text": segment["text"].strip(), "duration": 1.5, "segments": [segment], "gaps": []}
        return self._refused(request) or JSONResponse(whole)

    async def _transcript(self, websocket):
        await websocket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue()
        listeners = self._listeners.setdefault(websocket.path_params["stream"], set())
        listeners.add(queue)
        reading = asyncio.create_task(websocket.receive())
        try:
            while not reading.done():
                saying = asyncio.create_task(queue.get())
                await asyncio.wait({reading, saying}, return_when=asyncio.FIRST_COMPLETED)
                if saying.done():
                    await websocket.send_text(saying.result())
                saying.cancel()
        finally:
            reading.cancel()
            listeners.discard(queue)

    async def _audio(self, websocket):
        await websocket.accept()
        query = dict(websocket.query_params)
        broken = asyncio.Event()
        connection = {"query": query, "frames": [], "commands": [], "transport": broken}
        self.audio.append(connection)
        opening = {
            "type": "session",
            "session": query["session"],
            "position": self.position,
            "missing": [],
            "rate": 48000,
        }
        await websocket.send_text(json.dumps(opening))
        with suppress(WebSocketDisconnect):
            await self._read_audio(websocket, connection)

    async def _read_audio(self, websocket, connection):
        ending = asyncio.create_task(connection["transport"].wait())
        while True:
            reading = asyncio.create_task(websocket.receive())
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                reading.cancel()
                await websocket.close(1012)
                return
            message = reading.result()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                connection["frames"].append(message["bytes"])
                continue
            command = json.loads(message["text"])
            connection["commands"].append(command)
            if command["type"] == "end":
                await websocket.close(1000)
                return
