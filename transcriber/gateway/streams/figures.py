"""Which streams there are. In: what daemons report of theirs. Out: ``GET /v1/streams``, as JSON or as it changes."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from sse_starlette import ServerSentEvent
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from transcriber.bus.connection import Connection, MessageSubscription, NatsMessage
from transcriber.gateway.api_error import ApiError, ErrorBody
from transcriber.gateway.event_stream import EventStream
from transcriber.gateway.keys import Key
from transcriber.gateway.openapi.operation import answer, events_of, json_of, operation
from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.streams.listeners import STOPPING, Audience, Listener
from transcriber.schema.messages import Metrics
from transcriber.schema.stream_figures import StreamFigure, StreamFigures
from transcriber.schema.subjects import STREAMS_SUBJECT

log = logging.getLogger(__name__)

METRICS_SUBJECT = "transcriber.metrics"

ANSWER_S, FURTHER_S = 2.0, 0.05
"""For the first answer of a daemon, and for those of others after it."""

STALE_S = 60.0
"""A daemon that reports nothing for so long, neither streams nor metrics, is gone."""
LOOK_S = STALE_S / 2
"""Between looks whether one is gone, for those who are told of changes."""

METRICS_BYTES = 2**18
"""Of a metrics message that is sent on."""


class FiguresBoard:
    """The latest figures of every daemon. Event loop only.

    Attributes:
        audience: of each change: ``streams``, without data, and ``metrics`` with the message.
    """

    def __init__(self, connection: Connection, audience: Audience) -> None:
        self._connection = connection
        self._pages: dict[str, dict[int, StreamFigures]] = {}
        self._reported_s: dict[str, float] = {}  # by instance
        self.audience = audience
        self._starting = asyncio.Lock()
        self._started = False
        self._inbox = ""
        self._answered = asyncio.Event()
        self._reports = 0

    async def refresh(self) -> bool:
        """Have the daemons report; returns soon, also if none does, and whether one did.

        Raises:
            BrokerError: the broker is away.
        """
        async with self._starting:
            if not self._started:
                await self._start()
                self._started = True
        self._answered.clear()
        reports = self._reports
        await self._connection.publish(STREAMS_SUBJECT, b"", reply=self._inbox)
        try:
            await asyncio.wait_for(self._answered.wait(), ANSWER_S)
        except TimeoutError:
            return False
        await asyncio.sleep(FURTHER_S)
        return self._reports > reports

    async def _start(self) -> None:
        self._inbox = self._connection.client.new_inbox()
        takers = {f"{STREAMS_SUBJECT}.*": self._take_figures, self._inbox: self._take_figures}
        takers[f"{METRICS_SUBJECT}.*"] = self._take_metrics
        begun: list[MessageSubscription] = []
        try:
            for subject, take in takers.items():
                begun.append(await self._connection.subscribe(subject, take))
        except BaseException:
            for one in begun:  # else the next attempt would have each message twice
                await self._connection.unsubscribe(one)
            raise

    def figures(self, key: Key) -> list[StreamFigure]:
        """Of the streams that ``key`` may see, by name."""
        found = (figure for page in self._present() for figure in page.streams)
        return sorted((one for one in found if key.may_use(one.stream)), key=lambda one: (one.stream, one.session))

    def figure(self, stream: str, session: str) -> StreamFigure | None:
        """Of one session, the latest; None if no daemon reports it."""
        pages = sorted(self._present(), key=lambda page: page.at, reverse=True)
        found = (figure for page in pages for figure in page.streams)
        return next((one for one in found if (one.stream, one.session) == (stream, session)), None)

    def _present(self) -> list[StreamFigures]:
        """The pages of the daemons that are not gone."""
        now_s = time.monotonic()
        for instance in [name for name, at_s in self._reported_s.items() if now_s - at_s > STALE_S]:
            del self._reported_s[instance]
            self._pages.pop(instance, None)
        return [page for pages in self._pages.values() for page in pages.values()]

    async def _take_figures(self, message: NatsMessage) -> None:
        self._answered.set()
        try:
            figures = StreamFigures.model_validate_json(message.data)
        except ValidationError:
            if message.subject != self._inbox:  # there, "no responders" is expected
                log.debug("skipped a message on %s that is no figures", message.subject)
            return
        self._reports += 1
        known = self._pages.setdefault(figures.instance, {})
        if (held := known.get(figures.page)) and held.at > figures.at:
            return
        known[figures.page] = figures
        for page in [page for page in known if page >= figures.pages]:
            del known[page]
        self._reported_s[figures.instance] = time.monotonic()
        self.audience.put("streams", "")

    async def _take_metrics(self, message: NatsMessage) -> None:
        if len(message.data) > METRICS_BYTES:
            return
        try:
            metrics = Metrics.model_validate_json(message.data)
        except ValidationError:
            return
        if metrics.instance in self._pages:
            self._reported_s[metrics.instance] = time.monotonic()
        self.audience.put("metrics", metrics.model_dump_json(by_alias=True))


def board_of(connection: HTTPConnection) -> FiguresBoard:
    """The board of a request's application."""
    state = connection.app.state
    if not hasattr(state, "figures_board"):
        runtime = runtime_of(connection)
        state.figures_board = FiguresBoard(runtime.connection, Audience(runtime.stopping, runtime.figures))
    board: FiguresBoard = state.figures_board
    return board


class StreamList(BaseModel):
    """The streams that a key may see, by name."""

    model_config = ConfigDict(extra="forbid")

    streams: tuple[StreamFigure, ...]


@operation(
    "the streams that daemons report",
    tag="streams",
    access="listen",
    answers={
        200: answer(
            "once; as events, whenever they change",
            {
                **json_of(StreamList),
                **events_of({"streams": StreamList, "metrics": Metrics, "error": ErrorBody}),
            },
        )
    },
    details="Streams",
)
async def streams(request: Request) -> Response:
    """``GET /v1/streams``."""
    key = runtime_of(request).keys.authorise(request, "listen")
    board = board_of(request)
    await board.refresh()
    if "text/event-stream" in request.headers.get("accept", ""):
        return EventStream(_changes(board, key))
    return JSONResponse(_body(board, key), headers={"Cache-Control": "no-store"})


async def _changes(board: FiguresBoard, key: Key) -> AsyncGenerator[ServerSentEvent, None]:
    with board.audience.listener() as listener:
        looking = asyncio.create_task(_look(listener))
        try:
            body = _body(board, key)
            yield ServerSentEvent(json.dumps(body), event="streams")
            async for items in listener.batches():
                before, body = body, _body(board, key)
                if body != before or any(item.event == "streams" for item in items):
                    yield ServerSentEvent(json.dumps(body), event="streams")
                for item in items:
                    if item.event == "metrics" and "*" in key.streams:  # they are of all streams
                        yield ServerSentEvent(item.data, event="metrics")
        finally:
            looking.cancel()
        if listener.dropped and listener.dropped != STOPPING:
            yield ServerSentEvent(json.dumps(ApiError(429, listener.dropped, code="dropped").body), event="error")


async def _look(listener: Listener) -> None:
    """A daemon that is gone says nothing, so that nothing else would wake the listener."""
    while True:
        await asyncio.sleep(LOOK_S)
        listener.put("look", "", None)


def _body(board: FiguresBoard, key: Key) -> dict[str, Any]:
    return StreamList(streams=tuple(board.figures(key))).model_dump(mode="json")
