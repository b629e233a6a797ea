"""A daemon that takes files, whose work is what a test says: the desk is the real one, the transcribing is not."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from tests.support.durable_streams import provisioned
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, RESULTS_BUCKET
from transcriber.bus.object_store.bucket import Bucket
from transcriber.bus.object_store.reader import ObjectReader
from transcriber.clients.jobs_api import Jobs
from transcriber.errors import RequestError
from transcriber.files.endpoints import JobEndpoints
from transcriber.files.job_store import JobStore
from transcriber.schema.file_jobs import Submission
from transcriber.schema.messages import Progress
from transcriber.schema.subjects import CANCEL_SUBJECT, SUBMIT_SUBJECT, SUBMIT_URGENT_SUBJECT

RESULTS = {
    "txt": "one two\n",
    "json": '{"task": "transcribe", "text": "one two"}',
    "srt": "1\n00:00:00,000 --> 00:00:01,000\none two\n\n",
    "vtt": "WEBVTT\n\n",
}


class ScriptedFileService:
    """Takes submissions and cancellations.

    Attributes:
        submissions: what was submitted, in order.
        subjects: where it was, and empty submissions.
        refusal: how the next submissions are answered; None: well.
        questions: empty submissions, by which clients see that a daemon answers.
    """

    def __init__(self, connection, settings, work):
        self.jetstream = JetStream(connection)
        self.jobs = Jobs(connection, settings)
        self.desk = JobStore(self.jetstream, settings)
        self._answers = JobEndpoints(self.desk)
        self.files, self.results = Bucket(self.jetstream, FILES_BUCKET), Bucket(self.jetstream, RESULTS_BUCKET)
        self.submissions, self.subjects = [], []
        self.refusal: RequestError | None = None
        self._connection, self._work = connection, work
        self._tasks = set()

    async def start(self):
        for subject in (SUBMIT_SUBJECT, SUBMIT_URGENT_SUBJECT):
            await self._connection.subscribe(subject, self._submit)
        await self._connection.subscribe("transcriber.cancel", self._cancel)

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def progress(self, job, state, done_s=0.0, total_s=None, **fields):
        rate = 1000
        message = Progress(
            stream=job, session="1", rate=rate, start_frame=0, frames=round(done_s * rate), start=0, duration=done_s,
            received_at=datetime.now(UTC), state=state, total=total_s, **{"eta": None, "attempt": 1, "error": None} | fields,
        )  # fmt: skip
        await self._connection.publish(f"transcripts.{job}.progress", message.model_dump_json(by_alias=True).encode())

    async def change(self, job, **changes):
        kept = await self.desk.record(job)
        assert kept
        await self.desk.update(kept, **changes)

    async def finish(self, job, **changes):
        """Store results and the record of a job that is done."""
        for form, text in RESULTS.items():
            await self.results.put(f"{job}.{form}", pieces(text.encode()))
        done = {"state": "done", "results": tuple(f"{job}.{form}" for form in RESULTS), "ended_at": datetime.now(UTC)}
        await self.change(job, **done | changes)

    async def stored(self, name):
        """The bytes of a file in the store; None if there is none."""
        info = await self.files.info(name)
        return info and b"".join([piece async for piece in ObjectReader(self.files, info).pieces()])

    async def file_names(self):
        """Of all in the store, whole."""
        stream = await self._connection.client.jetstream().stream_info("OBJ_AUDIO_FILES", subjects_filter="$O.*.M.>")
        return stream.state.subjects or {}

    async def messages(self):
        """How many are in the store: of each file its chunks and its name."""
        return (await self.jetstream.call("STREAM.INFO.OBJ_AUDIO_FILES"))["state"]["messages"]

    async def _submit(self, message):
        self.subjects.append(message.subject)
        await self._answer(message, self._refused if self.refusal and message.data else self._answers.to_submission)

    async def _refused(self, *_):
        assert self.refusal
        raise self.refusal

    async def _cancel(self, message):
        await self._answer(message, self._answers.to_cancellation)

    async def _answer(self, message, answer):
        try:
            said, headers = await answer(message.data), None
        except RequestError as error:
            said = b""
            headers = {"Nats-Service-Error": str(error), "Nats-Service-Error-Code": str(error.code)}
        await self._connection.publish(message.reply, said, headers)
        if headers is None and message.subject != CANCEL_SUBJECT:
            submission = Submission.model_validate_json(message.data)
            self.submissions.append(submission)
            task = asyncio.create_task(self._work(self, submission))
            self._tasks.add(task)


@asynccontextmanager
async def scripted_file_service(broker, settings, work, **limits):
    """A stand-in at a broker where all is provisioned."""
    await provisioned(broker, files=True, **limits)
    async with connected(settings, "stand-in") as connection:
        office = ScriptedFileService(connection, settings, work)
        await office.start()
        try:
            yield office
        finally:
            await office.stop()


async def pieces(*parts):
    for part in parts:
        yield part
