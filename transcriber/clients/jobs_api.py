"""The client side of jobs. In: the bytes of a file, a ``Submission``. Out: its progress, its record, its results.

A job's record is authoritative. Its progress messages are not stored: they are faster, and a missed one costs no more
than the time until the record is read again.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from nats.aio.msg import Msg
from pydantic import ValidationError

from transcriber.bus.client_session import parse_transcript
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.admin import STREAM_NOT_FOUND
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, RECORDS, RESULTS_BUCKET
from transcriber.bus.jetstream.provision import FILES_COMMAND
from transcriber.bus.object_store.bucket import Bucket
from transcriber.bus.object_store.reader import ObjectReader
from transcriber.clients.service_client import STOPPING, call_service
from transcriber.config import Settings
from transcriber.errors import JetStreamError, ObjectError, RefusedError, RequestError, UnansweredError
from transcriber.files.job_store import JobStore
from transcriber.schema.audit import REQUESTED_BY
from transcriber.schema.file_jobs import Answer, Cancellation, JobRecord, Submission
from transcriber.schema.messages import ENDED_STATES, JobState, Progress
from transcriber.schema.subjects import CANCEL_SUBJECT, SUBMIT_SUBJECT, SUBMIT_URGENT_SUBJECT

log = logging.getLogger(__name__)

SETTING = "FILES"

ASK_S = 30.0
"""For an answer to a submission or a cancellation; the record of a job is stored meanwhile."""

LOOK_S, SOON_S = 2.0, 0.2
"""Intervals of reading a record: usually, and once it must change."""

HINT = f"files need JetStream, FILES=1 and `{FILES_COMMAND}`"

NOTHING = "-"
"""Name of an object, and of a job, that does not exist."""

OnProgress = Callable[[JobState, float, float | None, float | None], None]
"""Called with the state, the seconds done, the total if known, and the seconds left."""


class Jobs:
    """Event loop only."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._prefix = settings.transcript_subject_prefix
        self._jetstream = JetStream(connection)
        self._store = JobStore(self._jetstream, settings)
        self._files = Bucket(self._jetstream, FILES_BUCKET)
        self._results = Bucket(self._jetstream, RESULTS_BUCKET)

    async def check(self, *, urgent: bool = False) -> None:
        """Check that files can be transcribed, urgent ones or others, before a long one is uploaded in vain.

        Raises:
            BrokerError: the broker does not permit to submit them.
            UnansweredError: no daemon serves files, or there is no JetStream.
            JetStreamError: their buckets or records do not exist.
        """
        try:
            # Any daemon that serves files refuses it.
            await call_service(self._connection, _submit_subject(urgent), b"", ASK_S, setting=SETTING)
        except RequestError:
            for bucket in (self._files, self._results):
                with _explained(f"bucket {bucket.name}"):
                    await bucket.info(NOTHING)
            await self.record(f"job={NOTHING}")

    async def upload(self, name: str, pieces: AsyncIterator[bytes], on_sent: Callable[[int], object]) -> None:
        """Store a file under an unused name; ``on_sent`` is called with the bytes stored so far.

        Raises:
            As ``Bucket.put``.
        """
        with _explained(f"bucket {FILES_BUCKET}"):
            await self._files.put(name, pieces, on_sent)

    async def submit(self, submission: Submission, *, urgent: bool = False, traceparent: str | None = None) -> Answer:
        """Submit a job for a stored file, to run before others if ``urgent``. If it is refused the file is deleted.

        Raises:
            RequestError: it is refused. UnansweredError: it may have been accepted.
        """
        try:
            headers = {"traceparent": traceparent} if traceparent else None
            return await self._ask(_submit_subject(urgent), submission, headers)
        except RequestError as error:
            if error.code == STOPPING:  # retries ran out of time: it may be queued
                raise UnansweredError(str(error)) from None
            with suppress(UnansweredError, RefusedError):  # the refusal matters more
                await self._files.delete(submission.object)
            raise

    async def cancel(self, job: str, *, by: str = "") -> Answer:
        """Stop a job; ``by``: who asks for it, for the audit.

        Raises:
            RequestError, UnansweredError.
        """
        return await self._ask(CANCEL_SUBJECT, Cancellation(job=job), {REQUESTED_BY: by} if by else None)

    async def record(self, job: str) -> JobRecord | None:
        """The record of a job; None if there is none.

        Raises:
            JetStreamError: the stream of records does not exist. UnansweredError, RefusedError.
        """
        with _explained(f"stream {RECORDS}"):
            kept = await self._store.record(job)
        return kept and kept.record

    async def records(self) -> list[JobRecord]:
        """The records of the latest jobs, a thousand at most, the latest last.

        Raises:
            As ``record``.
        """
        with _explained(f"stream {RECORDS}"):
            await self._store.record(f"job={NOTHING}")  # raises if there is no such stream; reading a page does not
            return [kept.record for kept in reversed(await self._store.records())]

    @asynccontextmanager
    async def watch(self, job: str, on_progress: OnProgress) -> AsyncIterator["JobWatch"]:
        """Watch a job's progress, best from before it is submitted."""
        watch = JobWatch(self, self._connection, job, on_progress)
        subscription = await self._connection.subscribe(f"{self._prefix}.{job}.progress", watch.on_message)
        try:
            yield watch
        finally:
            await self._connection.unsubscribe(subscription)

    async def result(self, job: str, form: str) -> AsyncGenerator[bytes, None]:
        """The bytes of a result, in order.

        Raises:
            ObjectError: there is none, or it cannot be read. JetStreamError, UnansweredError, RefusedError.
        """
        name = f"{job}.{form}"
        with _explained(f"bucket {RESULTS_BUCKET}"):
            info = await self._results.info(name)
        if info is None:
            raise ObjectError(f"there is no {name} in the bucket {RESULTS_BUCKET}, or no longer")
        reader = ObjectReader(self._results, info)
        try:
            async for piece in reader.pieces():
                yield piece
        finally:
            await reader.close()

    async def _ask(
        self, subject: str, question: Submission | Cancellation, headers: dict[str, str] | None = None
    ) -> Answer:
        payload = question.model_dump_json().encode()
        answer = await call_service(self._connection, subject, payload, ASK_S, setting=SETTING, headers=headers)
        try:
            return Answer.model_validate_json(answer.data)
        except ValidationError:
            raise RequestError(500, f"the answer on {subject} cannot be read") from None


class JobWatch:
    """One job that is watched. Event loop only."""

    def __init__(self, jobs: Jobs, connection: Connection, job: str, on_progress: OnProgress) -> None:
        self._jobs, self._connection, self._job, self._on_progress = jobs, connection, job, on_progress
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def on_message(self, message: Msg) -> None:
        """Take a progress message."""
        progress = parse_transcript(message)
        if not isinstance(progress, Progress):
            return
        self._on_progress(progress.state, progress.duration, progress.total, progress.eta)
        if progress.state in ENDED_STATES and not self._over.done():
            self._over.set_result(None)

    async def record(self) -> JobRecord:
        """Its record, once the job has ended; however long the broker is away.

        Raises:
            ObjectError: the record was deleted. JetStreamError, RefusedError.
            ConnectionError: the connection is closed for good.
        """
        watched = {self._over, self._connection.closed}
        while True:
            record = await self._read_record()
            if record and record.over:
                return record
            if self._over.done():
                await asyncio.sleep(SOON_S)
            else:
                await asyncio.wait(watched, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if self._connection.closed.done():
                self._connection.closed.result()

    async def _read_record(self) -> JobRecord | None:
        """The current record; None if it cannot be read now."""
        try:
            record = await self._jobs.record(self._job)
        except UnansweredError as error:
            log.debug("%s: %s", self._job, error)
            return None
        if record is None:
            raise ObjectError(f"nothing is known of {self._job} any more")
        self._on_progress(record.state, record.done_s, record.total_s, record.eta_s)
        return record


def _submit_subject(urgent: bool) -> str:
    return SUBMIT_URGENT_SUBJECT if urgent else SUBMIT_SUBJECT


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Errors of JetStream where nothing was provisioned, with advice."""
    try:
        yield
    except RefusedError as error:
        if error.code == STREAM_NOT_FOUND:
            raise JetStreamError(f"there is no {what}: {HINT}") from None
        raise
    except UnansweredError as error:
        if error.code:  # the broker said why
            raise
        raise UnansweredError(f"{error}; {HINT}") from None
