"""``/v1/jobs``. In: requests. Out: the key's own jobs, and with the scope ``admin`` all of them."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from transcriber.errors import TranscriberError
from transcriber.gateway.api_error import ApiError, ErrorBody, as_api_error
from transcriber.gateway.event_stream import EventStream
from transcriber.gateway.keys import Key
from transcriber.gateway.openapi.operation import Content, Parameter, answer, events_of, json_of, operation
from transcriber.gateway.runtime import GatewayRuntime, runtime_of
from transcriber.schema.file_jobs import JOB_ID, RESULT_FORMS, Answer, JobRecord, is_job_id
from transcriber.schema.messages import JobState
from transcriber.tasks import cancel as cancel_tasks

MEDIA_TYPES = {
    "json": "application/json",
    "srt": "application/x-subrip",
    "vtt": "text/vtt; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
NO_STORE = {"Cache-Control": "no-store"}

_JOB = Parameter(
    "job",
    "path",
    Annotated[str, Field(pattern=rf"^({JOB_ID}|{JOB_ID.removeprefix('job=')})$")],
    "its id, with `job=` or without",
    example="01JABCDEFGHJKMNPQRSTVWXYZ0",
)


class JobList(BaseModel):
    """The records of a key's jobs, the latest first."""

    model_config = ConfigDict(extra="forbid")

    jobs: tuple[JobRecord, ...]


class JobProgress(BaseModel):
    """How far a job is."""

    model_config = ConfigDict(extra="forbid")

    job: str
    state: JobState
    done_s: float
    total_s: float | None
    eta_s: float | None


@operation(
    "jobs of the key; with the scope admin all of them",
    tag="jobs",
    access="transcribe",
    answers={200: answer("their records", json_of(JobList), Cache_Control="`no-store`")},
    details="Jobs",
)
async def jobs(request: Request) -> Response:
    """``GET /v1/jobs``: the latest first."""
    runtime, key = _authorised(request)
    found = [record for record in await runtime.jobs.records() if _may_see(key, record)]
    return JSONResponse({"jobs": [_body(record) for record in reversed(found)]}, headers=NO_STORE)


@operation(
    "a job",
    tag="jobs",
    access="transcribe",
    parameters=(_JOB,),
    answers={200: answer("its record", json_of(JobRecord), Cache_Control="`no-store`")},
    refusals=(404,),
    details="Jobs",
)
async def job(request: Request) -> Response:
    """``GET /v1/jobs/<id>``."""
    _, record, _ = await _record(request)
    return JSONResponse(_body(record), headers=NO_STORE)


@operation(
    "cancel a job",
    tag="jobs",
    access="transcribe",
    parameters=(_JOB,),
    answers={
        200: answer("it is cancelled", json_of(Answer)),
        202: answer("a daemon still has it, or it has ended otherwise", json_of(Answer)),
    },
    refusals=(404, 409),
    details="Jobs",
)
async def cancel(request: Request) -> Response:
    """``DELETE /v1/jobs/<id>``: the state after it; 202 while a daemon still has it."""
    runtime, record, key = await _record(request)
    answer = await runtime.jobs.cancel(record.submission.job, by=key.submitter)
    return JSONResponse(answer.model_dump(mode="json"), 200 if answer.state == "cancelled" else 202)


@operation(
    "the progress of a job",
    tag="jobs",
    access="transcribe",
    parameters=(_JOB,),
    answers={
        200: answer(
            "`progress` as it comes, at the end `job`, or `error`",
            events_of({"progress": JobProgress, "job": JobRecord, "error": ErrorBody}),
        )
    },
    refusals=(404,),
    details="Jobs",
)
async def events(request: Request) -> Response:
    """``GET /v1/jobs/<id>/events``: ``progress`` as it comes, and ``job`` with the record at the end."""
    runtime, record, _ = await _record(request)
    return EventStream(_events(runtime, record.submission.job))


async def _events(runtime: GatewayRuntime, name: str) -> AsyncGenerator[ServerSentEvent, None]:
    latest: dict[str, Any] = {}
    more = asyncio.Event()

    def on_progress(state: JobState, done_s: float, total_s: float | None, eta_s: float | None) -> None:
        progress = JobProgress(job=name, state=state, done_s=done_s, total_s=total_s, eta_s=eta_s)
        found = progress.model_dump(mode="json")
        if found != latest:
            latest.update(found)
            more.set()

    async with runtime.jobs.watch(name, on_progress) as watch:
        ending = asyncio.create_task(watch.record())
        stopping = asyncio.create_task(runtime.stopping.wait())
        changing = asyncio.create_task(more.wait())
        try:
            while not (ending.done() or stopping.done()):
                await asyncio.wait({ending, stopping, changing}, return_when=asyncio.FIRST_COMPLETED)
                if changing.done():
                    more.clear()
                    changing = asyncio.create_task(more.wait())
                    # A client that does not read gets the latest state only, once it does.
                    yield ServerSentEvent(json.dumps(latest), event="progress")
            if ending.done():
                yield _last(ending)
        finally:
            await cancel_tasks((ending, stopping, changing))


def _last(ending: "asyncio.Task[JobRecord]") -> ServerSentEvent:
    try:
        return ServerSentEvent(json.dumps(_body(ending.result())), event="job")
    except TranscriberError as error:
        return ServerSentEvent(json.dumps(as_api_error(error).body), event="error")


@operation(
    "the result of a job",
    tag="jobs",
    access="transcribe",
    parameters=(_JOB, Parameter("form", "path", Literal[RESULT_FORMS], "of the result")),
    answers={
        200: answer(
            "as the form says; JSON is a `verbose_json` of ours",
            {
                kind.partition(";")[0]: Content({} if kind.endswith("json") else {"type": "string"})
                for kind in MEDIA_TYPES.values()
            },
        )
    },
    refusals=(404, 409),
    details="Jobs",
)
async def result(request: Request) -> Response:
    """``GET /v1/jobs/<id>/transcript.<form>``."""
    runtime, record, key = await _record(request)
    form = request.path_params["form"]
    if form not in RESULT_FORMS:
        raise ApiError(404, f"a result is {', '.join(RESULT_FORMS)}", code="not_found")
    if record.state != "done":
        raise ApiError(409, f"the job is {record.line}", code="not_done")
    await runtime.note_read(key, f"result.{form}", job=record.submission.job)
    pieces = runtime.jobs.result(record.submission.job, form)
    try:
        first = await anext(pieces, b"")  # so that what is not there is an error, and not an empty document
    except BaseException:
        await pieces.aclose()
        raise
    return StreamingResponse(_all(first, pieces), media_type=MEDIA_TYPES[form])


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def _authorised(request: Request) -> tuple[GatewayRuntime, Key]:
    runtime = runtime_of(request)
    return runtime, runtime.keys.authorise(request, "transcribe")


async def _record(request: Request) -> tuple[GatewayRuntime, JobRecord, Key]:
    """The record of the path's job, and who asks for it.

    Raises:
        ApiError: 404, there is none, or it is another key's.
    """
    runtime, key = _authorised(request)
    given = request.path_params["job"]
    name = given if given.startswith("job=") else f"job={given}"
    record = await runtime.jobs.record(name) if is_job_id(name) else None
    if record is None or not _may_see(key, record):
        raise ApiError(404, "there is no such job", code="not_found")
    return runtime, record, key


def _may_see(key: Key, record: JobRecord) -> bool:
    return "admin" in key.scopes or record.submission.by == key.submitter


def _body(record: JobRecord) -> dict[str, Any]:
    return record.model_dump(mode="json")


ROUTES: Sequence[BaseRoute] = [
    Route("/v1/jobs", jobs, methods=["GET"]),
    Route("/v1/jobs/{job}", job, methods=["GET"]),
    Route("/v1/jobs/{job}", cancel, methods=["DELETE"]),
    Route("/v1/jobs/{job}/events", events, methods=["GET"]),
    Route("/v1/jobs/{job}/transcript.{form}", result, methods=["GET"]),
]
