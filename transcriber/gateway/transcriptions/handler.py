"""One upload, from its form to its answer. In: a request. Out: a response; the client's departure ends the work."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from sse_starlette import ServerSentEvent
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from transcriber.clients.service_client import call_service
from transcriber.errors import RequestError, UnansweredError
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.event_stream import EventStream
from transcriber.gateway.guard import traceparent
from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.transcriptions.answers import MEDIA_TYPES, delta, done, json_answer, parse_verbose
from transcriber.gateway.transcriptions.form import UploadForm
from transcriber.gateway.transcriptions.job import UploadedJob, guarded
from transcriber.gateway.transcriptions.options import SpeechOptions, check_names, read_options
from transcriber.schema.subjects import REQUEST_SUBJECT
from transcriber.tasks import cancel
from transcriber.text.results import Task

HEADER_ROOM = 2**13
"""Bytes of a request for its prompt and other headers."""
REQUEST_S = 120.0
"""For the answer to a request; the daemon's own limit, REQUEST_TIMEOUT_SECS, is shorter."""

TOO_LARGE = 413
RESULTS = {"text": "txt", "srt": "srt", "vtt": "vtt"}
JOB_HEADER = "X-Transcriber-Job"

_Result = TypeVar("_Result")


async def answer_upload(request: Request, task: Task) -> Response:
    """``POST /v1/audio/transcriptions`` and ``/translations``.

    Raises:
        TranscriberError: as the API's error says.
    """
    try:
        return await _Upload(request, task).answer()
    except ClientDisconnect:
        return Response(status_code=499)  # for the log


class _Upload:
    """Event loop only."""

    def __init__(self, request: Request, task: Task) -> None:
        self._request, self._task = request, task
        self._runtime = runtime_of(request)
        self._key = self._runtime.keys.authorise(request, "transcribe")
        self._form = UploadForm(request.headers.get("content-type", ""), request.stream())

    async def answer(self) -> Response:
        pieces = self._form.file()
        head, whole = await self._head(pieces)
        if not whole:
            check_names(self._form.fields, self._task)
            job = self._job()
            await job.store(_chain(head, pieces))
            try:
                options = await self._options()
            except ApiError:
                await job.discard()
                raise
            return await self._run(job, options)
        options = await self._options()
        if not any(head):
            raise ApiError(400, "the file is empty", param="file")
        if options.speakers is None:
            answer = await self._until_gone(self._ask(b"".join(head), options))
            if answer is not None:
                return answer
        job = self._job()
        await job.store(_chain(head, pieces))
        return await self._run(job, options)

    def _job(self) -> UploadedJob:
        return UploadedJob(self._runtime, self._key, self._form.file_name or "", traceparent(self._request))

    async def _head(self, pieces: AsyncIterator[bytes]) -> tuple[list[bytes], bool]:
        """The file up to the size of a request, and whether that is all of it."""
        head: list[bytes] = []
        left_bytes = self._runtime.connection.room({}) - HEADER_ROOM
        async for piece in pieces:
            head.append(piece)
            left_bytes -= len(piece)
            if left_bytes < 0:
                return head, False
        return head, True

    async def _options(self) -> SpeechOptions:
        """What the form asks for, and a model has."""
        options = read_options(self._form.fields, self._task)
        model = await self._runtime.models.resolve(options.model)
        if options.language and model.languages and options.language not in model.languages:
            raise ApiError(400, f"{model.name} does not know {options.language}", param="language")
        return options

    async def _ask(self, audio: bytes, options: SpeechOptions) -> Response | None:
        """The answer of a request; None if the audio, or its text, is too long for one."""
        headers: dict[str, str] = {
            "Response-Format": options.format if options.format in RESULTS and not options.stream else "verbose_json",
            "Task": options.task,
        }
        headers |= {"traceparent": parent} if (parent := traceparent(self._request)) else {}
        headers |= {"Language": options.language} if options.language else {}
        headers |= {"Prompt": options.prompt} if options.prompt else {}
        began_s = time.monotonic()
        try:
            reply = await call_service(
                self._runtime.connection,
                REQUEST_SUBJECT,
                audio,
                REQUEST_S,
                setting="SERVICE",
                headers=headers,
                patient=False,
            )
        except RequestError as error:
            if error.code == TOO_LARGE:
                return None
            raise
        except UnansweredError as error:
            if time.monotonic() - began_s >= REQUEST_S:
                raise ApiError(504, str(error), headers={"x-should-retry": "false"}) from None
            raise
        given = reply.headers or {}
        said = {f"X-Transcriber-{name}": given[name] for name in ("Gaps", "Suppressed") if name in given}
        if options.stream:
            whole = parse_verbose(reply.data, segments=options.has_segments)
            return EventStream(_lines(_all_at_once(whole, options)), headers=said)
        return _response(reply.data, options, said)

    async def _run(self, job: UploadedJob, options: SpeechOptions) -> Response:
        headers = {JOB_HEADER: job.id}
        if options.stream:
            events = _accepted(job.events(options))
            await anext(events)  # what refuses it is a status, not an event
            return EventStream(events, headers=headers)
        data = await self._until_gone(job.result(options, RESULTS.get(options.format, "json")))
        return _response(data, options, headers)

    async def _until_gone(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """What ``work`` returns; it is cancelled if the client leaves.

        Raises:
            ClientDisconnect: it has left.
        """
        tasks = working, leaving = asyncio.create_task(work), asyncio.create_task(self._gone())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientDisconnect
            return working.result()
        finally:
            await cancel([task for task in (working, leaving) if not task.done()])

    async def _gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass


def _response(data: bytes, options: SpeechOptions, headers: dict[str, str]) -> Response:
    if media_type := MEDIA_TYPES.get(options.format):
        return Response(data, media_type=media_type, headers=headers)
    whole = parse_verbose(data, segments=options.has_segments)
    return JSONResponse(json_answer(whole, options), headers=headers)


async def _lines(events: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[ServerSentEvent, None]:
    async with aclosing(events):
        async for event in events:
            yield ServerSentEvent(json.dumps(event, ensure_ascii=False), sep="\n")


async def _accepted(events: AsyncGenerator[dict[str, Any] | None, None]) -> AsyncGenerator[ServerSentEvent, None]:
    """An event for nobody once the job is accepted, and then its events.

    They have a comment in front: browsers give a page the headers, which have the job's id, with the first bytes of the body.
    """
    async with aclosing(events):
        await anext(events)
        yield ServerSentEvent()
        yield ServerSentEvent(comment="accepted", sep="\n")
        async with aclosing(_lines(guarded(events))) as lines:
            async for line in lines:
                yield line


async def _all_at_once(whole: dict[str, Any], options: SpeechOptions) -> AsyncGenerator[dict[str, Any], None]:
    if whole["text"]:
        yield delta(whole["text"])
    yield done(whole, options)


async def _chain(head: list[bytes], pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for piece in head:
        yield piece
    head.clear()
    async for piece in pieces:
        yield piece
