"""Text out. In: ``GET|WS /v1/streams/<stream>/transcript``. Out: the stream's messages as they are, until the client goes."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import Field
from sse_starlette import ServerSentEvent
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from transcriber.asyncapi import TRANSCRIPT_MODELS
from transcriber.bus.jetstream.client import JetStream
from transcriber.errors import TranscriberError
from transcriber.gateway.api_error import ApiError, ErrorBody, as_api_error
from transcriber.gateway.event_stream import EventStream
from transcriber.gateway.openapi.operation import Content, Parameter, answer, events_of, operation
from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.sockets import FAILED, POLICY, accept, close, refuse
from transcriber.gateway.streams.channel import Channel, Channels, item_of
from transcriber.gateway.streams.commands import STREAM, checked_stream
from transcriber.gateway.streams.listeners import STOPPING, Item, Listener
from transcriber.gateway.streams.storage import Storage, stored_from
from transcriber.schema.messages import AnyMessage
from transcriber.tasks import cancel, to_its_end

MAX_SEQ_DIGITS = 16

_PARAMETERS = (
    STREAM,
    Parameter(
        "from",
        "query",
        Annotated[int, Field(ge=0, lt=10**MAX_SEQ_DIGITS)],
        "stream sequence from which on what is stored comes first; absent: from now on",
    ),
    Parameter("Last-Event-ID", "header", str, "of an event source that connects again: from the next one on"),
)


def channels_of(connection: HTTPConnection) -> Channels:
    """The channels of a request's application."""
    state = connection.app.state
    if not hasattr(state, "channels"):
        runtime = runtime_of(connection)
        prefix = runtime.settings.transcript_subject_prefix
        state.channels = Channels(runtime.connection, prefix, runtime.stopping, runtime.figures)
    channels: Channels = state.channels
    return channels


@asynccontextmanager
async def channel_of(connection: HTTPConnection, stream: str) -> AsyncIterator[Channel]:
    """The channel of a stream, as long as the context; one that reads what is stored, if the client asks for that.

    Raises:
        UnansweredError, BrokerError: the broker is away, or denies it.
    """
    channels = channels_of(connection)
    stored = "from" in connection.query_params or "last-event-id" in connection.headers
    channel = await channels.enter(stream, stored=stored)
    try:
        yield channel
    finally:
        await to_its_end(channels.leave(stream, channel))  # a client that leaves cancels each wait in here


def first_sequence(connection: HTTPConnection, channel: Channel) -> int | None:
    """From which stream sequence on the client wants what is stored; None: from now on.

    Raises:
        ApiError: 400, it is no sequence, or nothing is stored.
    """
    after = connection.headers.get("last-event-id", "")
    if after.isdecimal() and after.isascii() and len(after) <= MAX_SEQ_DIGITS and channel.storage:
        return int(after) + 1
    given = connection.query_params.get("from")
    if given is None:
        return None
    if not (given.isdecimal() and given.isascii() and len(given) <= MAX_SEQ_DIGITS):
        raise ApiError(400, "from must be a stream sequence", param="from", code="invalid_value")
    if channel.storage is None:
        raise ApiError(400, "the text of this stream is not stored: DURABLE=1", param="from", code="not_stored")
    return max(1, int(given))


async def items(channel: Channel, jetstream: JetStream, listener: Listener, seq: int | None) -> AsyncIterator[Item]:
    """What is stored from ``seq`` on, then what comes, each once."""
    following = seq or 0
    if seq is not None and channel.storage:
        async for item in _stored(jetstream, channel.storage, seq, channel.next_seq):
            yield item
            following = (item.seq or 0) + 1
    async for batch in listener.batches():
        for item in batch:
            if item.seq is None or item.seq >= following:
                yield item


async def _stored(jetstream: JetStream, storage: Storage, seq: int, end_seq: int) -> AsyncIterator[Item]:
    async for page in stored_from(jetstream, storage, seq):
        for stored in page:
            if stored.seq >= end_seq:
                return
            if item := item_of(stored.payload, stored.seq):
                yield item


@operation(
    "the text of a stream as it comes, as events",
    tag="streams",
    access="listen",
    parameters=_PARAMETERS,
    answers={
        200: answer(
            "the stream's messages; `id` is the stream sequence of what is stored",
            events_of(
                {model.model_fields["type"].default: model for model in TRANSCRIPT_MODELS} | {"error": ErrorBody}
            ),
        )
    },
    refusals=(400,),
    details="Text of a stream",
)
async def transcript(request: Request) -> Response:
    """``GET``: Server-Sent Events; ``id`` is the stream sequence of what is stored."""
    stream = checked_stream(request.path_params["stream"])
    runtime = runtime_of(request)
    await runtime.note_read(runtime.keys.authorise(request, "listen", stream), "transcript", stream=stream)
    events = _events(request, stream)
    await anext(events)  # what refuses it is a status, not an event
    return EventStream(events)


async def _events(request: Request, stream: str) -> AsyncGenerator[ServerSentEvent, None]:
    """The first one is not for the client: that there is nothing to refuse."""
    jetstream = channels_of(request).jetstream
    async with channel_of(request, stream) as channel:
        seq = first_sequence(request, channel)
        with channel.audience.listener() as listener:
            listening = ServerSentEvent(comment="listening")
            yield listening
            yield listening
            try:
                async for item in items(channel, jetstream, listener, seq):
                    yield ServerSentEvent(item.data, event=item.event, id=None if item.seq is None else str(item.seq))
            except TranscriberError as error:
                listener.close(str(error))
            if listener.dropped and listener.dropped != STOPPING:
                body = ApiError(429, listener.dropped, code="dropped").body
                yield ServerSentEvent(json.dumps(body), event="error")


@operation(
    "the same by WebSocket",
    tag="streams",
    access="listen",
    parameters=_PARAMETERS,
    answers={101: answer("a WebSocket", {"application/json": Content({"server": AnyMessage})})},
    refusals=(400,),
    details="Text of a stream",
)
async def transcript_socket(websocket: WebSocket) -> None:
    """``WS``: a text frame a message."""
    try:
        stream = checked_stream(websocket.path_params["stream"])
        runtime = runtime_of(websocket)
        await runtime.note_read(runtime.keys.authorise(websocket, "listen", stream), "transcript", stream=stream)
        async with channel_of(websocket, stream) as channel:
            seq = first_sequence(websocket, channel)
            with channel.audience.listener() as listener:
                await accept(websocket)
                await _serve(websocket, channel, listener, seq)
    except TranscriberError as error:
        await refuse(websocket, as_api_error(error))


async def _serve(websocket: WebSocket, channel: Channel, listener: Listener, seq: int | None) -> None:
    async def send() -> None:
        async for item in items(channel, channels_of(websocket).jetstream, listener, seq):
            await websocket.send_text(item.data)

    async def read() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass  # nothing that a client says matters

    tasks = {asyncio.create_task(work) for work in (send(), read(), listener.closed())}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel(tasks)
    code, why = POLICY, listener.dropped
    for task in done:
        error = task.exception()
        if isinstance(error, TranscriberError):
            code, why = FAILED, str(error)
        elif error is not None and not isinstance(error, WebSocketDisconnect):
            raise error
    if why and why != STOPPING:
        await close(websocket, code, why)
