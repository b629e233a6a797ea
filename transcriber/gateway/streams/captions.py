"""Captions. In: ``GET /v1/streams/<stream>/transcript.vtt``. Out: WebVTT of a stored session, or of what comes, until its end."""

from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from transcriber.bus.jetstream.client import JetStream
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.event_stream import cut_off
from transcriber.gateway.openapi.operation import Content, Parameter, answer, operation
from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.streams.commands import STREAM, checked_stream
from transcriber.gateway.streams.sessions import latest_session, session_messages
from transcriber.gateway.streams.storage import text_storage_of
from transcriber.gateway.streams.transcript import channel_of
from transcriber.schema.messages import ANY_MESSAGE
from transcriber.text.captions import Cues
from transcriber.text.results import Result, render
from transcriber.text.revisions import with_revisions

VTT = "text/vtt; charset=utf-8"


@operation(
    "captions of a stream",
    tag="streams",
    access="listen",
    parameters=(
        STREAM,
        Parameter(
            "session", "query", str, "which one, where text is stored; absent: the latest, or, live, from now on"
        ),
    ),
    answers={200: answer("WebVTT; live, until the session ends", {"text/vtt": Content({"type": "string"})})},
    refusals=(400, 404),
    details="Text of a stream",
)
async def captions(request: Request) -> Response:
    """``GET``: of the session ``session``; else, where text is stored, of the latest one, and live, of what comes from now on."""
    stream = checked_stream(request.path_params["stream"])
    runtime = runtime_of(request)
    key = runtime.keys.authorise(request, "listen", stream)
    session = request.query_params.get("session")
    text = await text_storage_of(runtime.connection, f"{runtime.settings.transcript_subject_prefix}.{stream}")
    if text is None:
        if session is not None:
            raise ApiError(400, "the text of this stream is not stored: DURABLE=1", param="session", code="not_stored")
        await runtime.note_read(key, "captions", stream=stream)
        live = _live(request, stream)
        await anext(live)  # what refuses it is a status
        return _LiveCaptions(live)
    jetstream = JetStream(runtime.connection)
    session = session or await latest_session(jetstream, text)
    messages = [one async for one in session_messages(jetstream, text, session)] if session else []
    if not messages:
        raise ApiError(
            404, f"no text of {stream} is stored, or none of this session", param="session", code="not_found"
        )
    await runtime.note_read(key, "captions", stream=stream, session=session)
    return Response(render(with_revisions(messages), Result("vtt")), media_type=VTT)


class _DroppedError(Exception):
    """The captions end before their session does."""


class _LiveCaptions(StreamingResponse):
    """Closes its text when the client leaves, as ``EventStream`` does; cut off where the text is not whole."""

    def __init__(self, text: AsyncGenerator[str, None]) -> None:
        super().__init__(text, media_type=VTT, headers={"Cache-Control": "no-store"})
        self._text = text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except _DroppedError:
            await cut_off(scope, receive)
        finally:
            await self._text.aclose()


async def _live(request: Request, stream: str) -> AsyncGenerator[str, None]:
    """The first one is not for the client: that there is nothing to refuse.

    Raises:
        _DroppedError: the listener is dropped.
    """
    cues = Cues("vtt")
    async with channel_of(request, stream) as channel:
        with channel.audience.listener() as listener:
            yield ""
            yield cues.head
            async for batch in listener.batches():
                for item in batch:
                    if text := cues.add(ANY_MESSAGE.validate_json(item.data)):
                        yield text
                if cues.ended:
                    return
            raise _DroppedError(listener.dropped)
