"""Captions. In: ``GET /v1/streams/<stream>/transcript.vtt``. Out: WebVTT of a stored session, or of what comes, until its end."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from transcriber.bus.jetstream.client import JetStream
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.streams.commands import checked_stream
from transcriber.gateway.streams.storage import Storage, stored_messages
from transcriber.gateway.streams.transcript import channel_of, channels_of
from transcriber.schema.messages import ANY_MESSAGE, AnyMessage
from transcriber.text.captions import Cues
from transcriber.text.results import Result, render
from transcriber.text.revisions import with_revisions

VTT = "text/vtt; charset=utf-8"


async def captions(request: Request) -> Response:
    """``GET``: of the session ``session``; else, where text is stored, of the latest one, and live, of what comes from now on."""
    stream = checked_stream(request.path_params["stream"])
    runtime_of(request).keys.authorise(request, "listen", stream)
    session = request.query_params.get("session")
    async with channel_of(request, stream) as channel:
        storage = channel.storage
    if storage is None:
        if session is not None:
            raise ApiError(400, "the text of this stream is not stored: DURABLE=1", param="session", code="not_stored")
        return StreamingResponse(_live(request, stream), media_type=VTT, headers={"Cache-Control": "no-store"})
    messages = await _of_session(channels_of(request).jetstream, storage, session)
    if not messages:
        raise ApiError(
            404, f"no text of {stream} is stored, or none of this session", param="session", code="not_found"
        )
    return Response(render(with_revisions(messages), Result("vtt")), media_type=VTT)


async def _of_session(jetstream: JetStream, storage: Storage, session: str | None) -> list[AnyMessage]:
    """The stored messages of a session, None: of the latest one.

    Raises:
        UnansweredError, RefusedError.
    """
    found: list[AnyMessage] = []
    latest = session
    async for message in stored_messages(jetstream, storage):
        if session is None and message.session != latest and message.type == "status":
            latest, found = message.session, []
        if message.session == latest:
            found.append(message)
    return found


async def _live(request: Request, stream: str) -> AsyncIterator[str]:
    cues = Cues("vtt")
    async with channel_of(request, stream) as channel:
        with channel.audience.listener() as listener:
            yield cues.head
            async for batch in listener.batches():
                for item in batch:
                    if text := cues.add(ANY_MESSAGE.validate_json(item.data)):
                        yield text
                if cues.ended:
                    return
