"""Which streams there are. In: what daemons report of theirs. Out: ``GET /v1/streams``, as JSON or as it changes."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import ValidationError
from sse_starlette import ServerSentEvent
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.gateway.event_stream import EventStream
from transcriber.gateway.keys import Key
from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.streams.listeners import SEND_S, Audience
from transcriber.schema.messages import Metrics
from transcriber.schema.stream_figures import StreamFigure, StreamFigures
from transcriber.schema.subjects import STREAMS_SUBJECT

log = logging.getLogger(__name__)

METRICS_SUBJECT = "transcriber.metrics"

ANSWER_S, FURTHER_S = 0.5, 0.05
"""For the first answer of a daemon, and for those of others after it."""

STALE_S = 60.0
"""A daemon that reports nothing for so long, neither streams nor metrics, is gone."""


METRICS_BYTES = 2**18
"""Of a metrics message that is sent on."""


class FiguresBoard:
    """The latest figures of every daemon. Event loop only.

    Attributes:
        audience: of each change: ``streams``, without data, and ``metrics`` with the message.
    """

    def __init__(self, connection: Connection, stopping: asyncio.Event) -> None:
        self._connection = connection
        self._pages: dict[str, dict[int, StreamFigures]] = {}
        self._reported_s: dict[str, float] = {}  # by instance
        self.audience = Audience(stopping)
        self._starting = asyncio.Lock()
        self._started = False
        self._inbox = ""
        self._answered = asyncio.Event()

    async def refresh(self) -> None:
        """Have the daemons report; returns soon, also if none does.

        Raises:
            BrokerError: the broker is away.
        """
        async with self._starting:
            if not self._started:
                self._inbox = self._connection.client.new_inbox()
                for subject in (f"{STREAMS_SUBJECT}.*", self._inbox):
                    await self._connection.subscribe(subject, self._take_figures)
                await self._connection.subscribe(f"{METRICS_SUBJECT}.*", self._take_metrics)
                self._started = True
        self._answered.clear()
        await self._connection.publish(STREAMS_SUBJECT, b"", reply=self._inbox)
        try:
            await asyncio.wait_for(self._answered.wait(), ANSWER_S)
        except TimeoutError:
            return
        await asyncio.sleep(FURTHER_S)

    def figures(self, key: Key) -> list[StreamFigure]:
        """Of the streams that ``key`` may see, by name."""
        now_s = time.monotonic()
        for instance in [name for name, at_s in self._reported_s.items() if now_s - at_s > STALE_S]:
            del self._reported_s[instance]
            self._pages.pop(instance, None)
        found = [figure for pages in self._pages.values() for page in pages.values() for figure in page.streams]
        return sorted((one for one in found if key.may_use(one.stream)), key=lambda one: (one.stream, one.session))

    def figure(self, stream: str, session: str) -> StreamFigure | None:
        """Of one session; None if no daemon has reported it."""
        return next(
            (
                figure
                for pages in self._pages.values()
                for page in pages.values()
                for figure in page.streams
                if (figure.stream, figure.session) == (stream, session)
            ),
            None,
        )

    async def _take_figures(self, message: NatsMessage) -> None:
        self._answered.set()
        try:
            figures = StreamFigures.model_validate_json(message.data)
        except ValidationError:
            if message.subject != self._inbox:  # there, "no responders" is expected
                log.debug("skipped a message on %s that is no figures", message.subject)
            return
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
        state.figures_board = FiguresBoard(runtime.connection, runtime.stopping)
    board: FiguresBoard = state.figures_board
    return board


async def streams(request: Request) -> Response:
    """``GET /v1/streams``."""
    key = runtime_of(request).keys.authorise(request, "listen")
    board = board_of(request)
    await board.refresh()
    if "text/event-stream" in request.headers.get("accept", ""):
        return EventStream(_changes(board, key), send_timeout=SEND_S)
    return JSONResponse(_body(board, key), headers={"Cache-Control": "no-store"})


async def _changes(board: FiguresBoard, key: Key) -> AsyncGenerator[ServerSentEvent, None]:
    with board.audience.listener() as listener:
        yield _event(board, key)
        async for items in listener.batches():
            if any(item.event == "streams" for item in items):
                yield _event(board, key)
            for item in items:
                if item.event == "metrics" and "*" in key.streams:  # they are of all streams
                    yield ServerSentEvent(item.data, event="metrics")


def _event(board: FiguresBoard, key: Key) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(_body(board, key)), event="streams")


def _body(board: FiguresBoard, key: Key) -> dict[str, Any]:
    return {"streams": [figure.model_dump(mode="json") for figure in board.figures(key)]}
