"""Clients that leave while their upload is a job."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.waiting import PATIENCE_S, until
from transcriber.errors import RequestError
from transcriber.gateway.transcriptions.handler import _accepted
from transcriber.gateway.transcriptions.job import UploadedJob
from transcriber.gateway.transcriptions.options import read_options
from transcriber.tasks import cancel


class Daemon:
    """Everything that a job asks of the runtime; what happened, in order."""

    class settings:  # noqa: N801 - an attribute
        transcript_subject_prefix = "transcripts"

    connected, submitter = True, "gateway:"

    def __init__(self):
        self.jobs: Any = 0
        self.events: list[str] = []
        self.submitting, self.accepts, self.waiting = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.refusal: RequestError | None = None

    @asynccontextmanager
    async def watch(self, *_):
        yield self

    async def record(self):
        self.waiting.set()
        await asyncio.Event().wait()

    async def submit(self, _submission, **_):
        self.submitting.set()
        await self.accepts.wait()
        if self.refusal:
            raise self.refusal
        self.events.append("accepted")

    async def cancel(self, _job, by=""):
        self.events.append("cancelled")

    async def subscribe(self, *_):
        return self

    async def unsubscribe(self, _subscription):
        self.events.append("unsubscribed")


class Runtime:
    def __init__(self, daemon):
        self.jobs, self.connection, self.settings, self.figures = daemon, daemon, daemon.settings, Daemon()


@pytest.fixture
async def daemon():
    return Daemon()


@pytest.fixture
async def job(daemon):
    runtime: Any = Runtime(daemon)
    return UploadedJob(runtime, daemon, "a.wav", "")


OPTIONS = read_options({"model": ["whisper-1"]}, "transcribe")


async def test_a_client_that_leaves_while_its_job_is_submitted_leaves_none(daemon, job):
    working = asyncio.create_task(job.result(OPTIONS, "json"))
    await daemon.submitting.wait()
    leaving = asyncio.create_task(cancel([working]))
    daemon.accepts.set()
    await leaving

    await until(lambda: daemon.events == ["accepted", "cancelled"], "the cancellation")


async def test_a_client_that_leaves_before_its_events_begin_leaves_no_job(daemon, job):
    events = job.events(OPTIONS)
    beginning = asyncio.create_task(anext(events))
    await daemon.submitting.wait()
    leaving = asyncio.create_task(cancel([beginning]))
    daemon.accepts.set()
    await leaving

    await until(lambda: daemon.events == ["accepted", "cancelled", "unsubscribed"], "the cancellation")


@pytest.mark.parametrize(
    "before", [lambda events: events, _accepted], ids=["of its events", "before it is sent anything"]
)
async def test_a_client_that_leaves_cancels_the_job_once(daemon, job, before):
    daemon.accepts.set()
    events = before(job.events(OPTIONS))
    async with asyncio.timeout(PATIENCE_S):
        await anext(events)
        await daemon.waiting.wait()
        await events.aclose()

    assert daemon.events == ["accepted", "cancelled", "unsubscribed"]


async def test_a_job_that_is_refused_is_not_cancelled(daemon, job):
    daemon.refusal = RequestError(429, "full")
    daemon.accepts.set()

    with pytest.raises(RequestError):
        await anext(job.events(OPTIONS))

    assert daemon.events == ["unsubscribed"]
