"""``WS /v1/realtime``. In: a WebSocket. Out: a stream of its own on NATS, ``rt-`` and a ULID, for as long as it is open."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from typing import Any, Literal

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from transcriber.bus.client_session import parse_transcript
from transcriber.bus.connection import NatsMessage
from transcriber.errors import BrokerError, UnansweredError
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.guard import session_parent
from transcriber.gateway.openapi.operation import Parameter, answer, operation
from transcriber.gateway.realtime.conversation import Conversation, Event, Payload
from transcriber.gateway.realtime.daemons import daemon_listens
from transcriber.gateway.realtime.session_settings import RefusedEventError, SessionSettings, check_model
from transcriber.gateway.runtime import GatewayRuntime, runtime_of
from transcriber.gateway.sockets import FULL, POLICY, accept, close, refuse
from transcriber.tasks import cancel
from transcriber.ulid import new_ulid

log = logging.getLogger(__name__)

PROTOCOL = "realtime"
"""What OpenAI's clients in a browser offer, beside one with their key."""

MAX_UNSENT = 1000
"""Events for a client that reads slowly."""
READ_S = 10.0
"""In which a client must take an event."""
BEGIN_S, ANSWER_S = 10.0, 60.0
"""In which a daemon must say that it has begun, and in which it must say more: its longest window is half a minute."""
WATCH_S = 1.0


@operation(
    "OpenAI's Realtime interface, by WebSocket",
    tag="realtime",
    access="transcribe",
    parameters=(
        Parameter("intent", "query", Literal["transcription"], "the type of the session", required=True),
        Parameter("model", "query", str, "its name, or one that SDKs send", example="whisper-1"),
    ),
    answers={101: answer("a WebSocket, whose text frames are OpenAI's events")},
    refusals=(400, 404),
    details="OpenAI Realtime",
)
async def realtime(websocket: WebSocket) -> None:
    """One session."""
    runtime = runtime_of(websocket)
    try:
        runtime.keys.authorise(websocket, "transcribe")
        names = await _model_names(runtime)
        settings = _first_settings(websocket, names)
    except ApiError as error:
        await refuse(websocket, error)
        return
    await accept(websocket, PROTOCOL)
    stream = f"rt-{new_ulid()}"
    try:
        if not await daemon_listens(runtime.connection, f"{runtime.settings.audio_prefix}.{stream}"):
            await websocket.close(FULL, "no daemon takes streams")
            return
        session = _Socket(websocket, runtime, stream, Conversation(stream, settings, names, new_ulid))
        await session.run()
    except (BrokerError, UnansweredError):
        await close(websocket, FULL, "the broker does not answer")
    except WebSocketDisconnect:
        pass


class _Socket:
    """An accepted WebSocket and its stream. Event loop only."""

    def __init__(self, websocket: WebSocket, runtime: GatewayRuntime, stream: str, conversation: Conversation) -> None:
        self._websocket, self._connection, self._figures = websocket, runtime.connection, runtime.figures
        self._parent = session_parent(websocket)
        self._audio = f"{runtime.settings.audio_prefix}.{stream}"
        self._transcripts = f"{runtime.settings.transcript_subject_prefix}.{stream}.*"
        self._conversation = conversation
        self._unsent: asyncio.Queue[Event] = asyncio.Queue(MAX_UNSENT)
        self._over: asyncio.Future[tuple[int, str] | None] = asyncio.get_running_loop().create_future()
        self._answers, self._unanswered_s = 0, 0.0

    async def run(self) -> None:
        """Serve it to its end.

        Raises:
            BrokerError: the broker denies the transcripts, or is gone.
        """
        subscription = await self._connection.subscribe(self._transcripts, self._on_message)
        tasks = [asyncio.create_task(work()) for work in (self._read, self._write, self._watch)]
        try:
            watched: set[asyncio.Future[Any]] = {self._over, *tasks}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            crashed = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        finally:
            await cancel(tasks)
            await self._connection.unsubscribe(subscription)
            await self._do(self._conversation.end())
        if error := next(filter(None, crashed), None):
            raise error
        if self._over.done() and (closing := self._over.result()):
            await close(self._websocket, *closing)

    async def _read(self) -> None:
        await self._do(self._conversation.greeting())
        while (frame := await self._websocket.receive())["type"] != "websocket.disconnect":
            text = frame.get("text")
            await self._do(self._conversation.receive(frame.get("bytes") or b"" if text is None else text))
        self._end(None)

    async def _write(self) -> None:
        while True:
            event = await self._unsent.get()
            try:
                async with asyncio.timeout(READ_S):
                    await self._websocket.send_text(json.dumps(event))  # ASCII: what a client sent may be no Unicode
            except TimeoutError:
                self._end((POLICY, "events are read too slowly"), slow="time")
                return
            except (WebSocketDisconnect, RuntimeError):  # the latter: Starlette's, once it is closed
                self._end(None)
                return

    async def _watch(self) -> None:
        """End what no daemon answers."""
        while True:
            await asyncio.sleep(WATCH_S)
            patience_s = ANSWER_S if self._answers else BEGIN_S
            if self._unanswered_s and time.monotonic() - self._unanswered_s > patience_s:
                self._end((FULL, "no daemon answers"))

    async def _on_message(self, message: NatsMessage) -> None:
        """Take a message of the daemon; runs in the subscription's task."""
        if parsed := parse_transcript(message):
            self._answers += 1
            self._unanswered_s = 0.0
            await self._do(self._conversation.receive_message(parsed))

    async def _do(self, effects: Sequence[Event | Payload]) -> None:
        # Events first: while a payload waits, an answer to it must not overtake them.
        for event in effects:
            if isinstance(event, Payload):
                continue
            if self._unsent.full():
                self._end((POLICY, "events are read too slowly"), slow="queue")
            else:
                self._unsent.put_nowait(event)
        for payload in effects:
            if isinstance(payload, Payload):
                self._unanswered_s = self._unanswered_s or time.monotonic()
                headers = payload.headers | ({"traceparent": self._parent} if self._parent else {})
                if not await self._connection.publish(self._audio, payload.data, headers):
                    self._end((FULL, "the broker does not take audio"))

    def _end(self, closing: tuple[int, str] | None, slow: str | None = None) -> None:
        if not self._over.done():
            self._over.set_result(closing)
            if slow:
                self._figures.readers_dropped[slow] += 1


async def _model_names(runtime: GatewayRuntime) -> frozenset[str]:
    """Of the models that are loaded; none if no daemon answers requests, which need not be those that take streams."""
    try:
        return frozenset(await runtime.models.all())
    except ApiError:
        return frozenset()


def _first_settings(websocket: WebSocket, names: frozenset[str]) -> SessionSettings:
    """The settings of the query.

    Raises:
        ApiError: it asks for what is not here.
    """
    if websocket.query_params.get("intent") != "transcription":
        raise ApiError(400, "only sessions with intent=transcription", param="intent", code="invalid_value")
    model = websocket.query_params.get("model")
    if model is None:
        return SessionSettings()
    try:
        check_model(model, names, "model")
    except RefusedEventError as error:
        raise ApiError(404, str(error), param="model", code=error.code) from None
    return SessionSettings(model=model)


ROUTES: Sequence[BaseRoute] = (WebSocketRoute("/v1/realtime", realtime),)
