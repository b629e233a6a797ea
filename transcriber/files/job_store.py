"""Jobs: their queue, and a record of each.

In: submissions and cancellations, from clients; changes, from the daemon that has a job. Out: one message in the work queue, and
one record, which each change replaces. A change must name the latest state of its record: where the broker refuses it as
outdated, another client or daemon has changed the record meanwhile.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from transcriber.bus.jetstream.certainty import surely
from transcriber.bus.jetstream.client import FENCE, STREAM_FULL, WRONG_LAST_SEQUENCE, JetStream, Stored
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, JOBS, RECORDS
from transcriber.bus.object_store.bucket import Bucket
from transcriber.config import Settings
from transcriber.engine.job import ModelFacts, unsupported_reason
from transcriber.errors import FencedError, RefusedError, RequestError, UnansweredError
from transcriber.logs import RateLimited
from transcriber.schema.base import first_line
from transcriber.schema.file_jobs import Answer, JobRecord, Submission, is_job_id
from transcriber.schema.messages import ENDED_STATES
from transcriber.schema.subjects import JOB_SUBJECT, RECORD_SUBJECT, URGENT_JOB_SUBJECT

log = logging.getLogger(__name__)

RETRY_S = 0.2

PAGE = 256
"""Records of one request."""

CANCEL_TRIES = 10
"""Attempts of a cancellation at a record that others change at the same time."""

_OBJECT = TypeAdapter(dict[str, Any])
UNREAD = "this daemon cannot read the job; a newer version wrote it, or it is damaged"


class StoredRecord(NamedTuple):
    """A record, and the sequence under which it is stored; 0: it is not stored yet."""

    record: JobRecord
    seq: int


class JobStore:
    """Event loop only."""

    def __init__(self, jetstream: JetStream, settings: Settings, model: ModelFacts | None = None) -> None:
        """``model`` must be able to do what submissions ask; None where none are accepted."""
        self._jetstream, self._settings, self._model = jetstream, settings, model
        self._files = Bucket(jetstream, FILES_BUCKET)
        self._warnings = RateLimited(log)

    async def submit(
        self,
        submission: Submission,
        *,
        urgent: bool = False,
        traceparent: str | None = None,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """Queue a job; one that is known already is not queued again, nor made urgent. ``first`` is done before it is queued.

        Raises:
            RequestError: no such file (404), too large (413), the id is another job's (409), the model cannot do it (400).
            UnansweredError: it may be queued or not; the same submission again does no harm. RefusedError, ObjectError.
        """
        if current := await self.record(submission.job):
            return _same(current.record, submission)
        if current := await self._waiting(submission.job):  # in either queue
            _same(current.record, submission)
            return await self._first_record(current.record, submission)
        info = await surely(self._jetstream, self._files.stream, partial(self._files.info, submission.object))
        if info is None:
            raise RequestError(404, f"there is no {submission.object!r} in {FILES_BUCKET}")
        if info.size > self._settings.file_max_bytes:
            raise RequestError(413, f"the file has {info.size} bytes: FILE_MAX_BYTES={self._settings.file_max_bytes}")
        if self._model and (
            lack := unsupported_reason(self._model, submission.language, submission.task, self._settings.languages)
        ):
            raise RequestError(400, lack)
        record = JobRecord(
            submission=submission,
            state="queued",
            size=info.size,
            digest=info.digest,
            urgent=urgent,
            traceparent=traceparent,
            submitted_at=datetime.now(UTC),
        )
        if first:
            await first()
        # The queue first: a job without a record has all that it needs, a record without a job would wait for ever.
        await self._queue(record)
        return await self._first_record(record, submission)

    async def cancel(self, job: str, first: Callable[[], Awaitable[None]] | None = None) -> Answer:
        """End a job that is not over. Its daemon notices when it next changes the record. ``first`` is done before it is ended.

        Raises:
            RequestError: there is no such job (404), or it cannot be reached (503).
            UnansweredError, RefusedError.
        """
        for _ in range(CANCEL_TRIES):
            current = await self.record(job) or await self._waiting(job)
            current = current or await surely(self._jetstream, RECORDS, partial(self.record, job))
            if current is None:
                raise RequestError(404, f"there is no job {job!r}")
            if not current.record.over:
                if first:
                    await first()
                try:
                    current = await self.update(current, state="cancelled", ended_at=datetime.now(UTC), eta_s=None)
                except FencedError:
                    continue
            return Answer(job=job, state=current.record.state)
        raise RequestError(503, f"{job!r} changes too fast; retry")

    async def record(self, job: str) -> StoredRecord | None:
        """The record of a job; None if there is none.

        Raises:
            UnansweredError, RefusedError.
        """
        stored = await self._jetstream.message(RECORDS, last_by_subj=f"{RECORD_SUBJECT}.{job}")
        return _stored_record(stored) if stored else None

    async def records(self, count: int = 1000) -> list[StoredRecord]:
        """Of the jobs that were submitted last, the latest first.

        Raises:
            UnansweredError, RefusedError.
        """
        found: list[StoredRecord] = []
        async for page in self.pages():
            found += page
            found.sort(key=lambda current: current.record.submitted_at, reverse=True)
            del found[count:]
        return found

    async def pages(self) -> AsyncIterator[list[StoredRecord]]:
        """All records, a page at a time.

        Raises:
            UnansweredError, RefusedError.
        """
        seq = 1
        while page := await self._jetstream.page(RECORDS, seq=seq, next_by_subj=f"{RECORD_SUBJECT}.*", batch=PAGE):
            yield [record for record in map(_stored_record, page) if record]
            seq = page[-1].seq + 1

    async def update(self, current: StoredRecord, **changes: Any) -> StoredRecord:
        """Change a record that has not changed since.

        Raises:
            FencedError: it has: it was cancelled, or another daemon has the job.
            UnansweredError: it may be changed or not; a retry does no harm. RefusedError.
        """
        record = current.record.model_copy(update=changes)
        subject = f"{RECORD_SUBJECT}.{record.submission.job}"
        try:
            stored = await self._jetstream.store(subject, record.stored(), {FENCE: str(current.seq)})
        except RefusedError as error:
            if error.code != WRONG_LAST_SEQUENCE:
                raise
            found = await self.record(record.submission.job)
            if found is None and current.seq and await self._waiting(record.submission.job):
                # Removed by its stream's limits: store it again. A job that was purged is not in the queue either.
                return await self.update(StoredRecord(current.record, 0), **changes)
            if found is None or found.record != record:
                raise FencedError(f"{record.submission.job!r} was changed meanwhile") from None
            return found  # ours, whose answer was lost
        return StoredRecord(record, stored.seq)

    async def update_patiently(self, current: StoredRecord, **changes: Any) -> StoredRecord:
        """As ``update``, however long the broker is away.

        Raises:
            FencedError, RefusedError.
        """
        while True:
            try:
                return await self.update(current, **changes)
            except UnansweredError as error:
                job = current.record.submission.job
                self._warnings.warning("records", "a record is not stored yet: %s", error, job=job)
                await asyncio.sleep(RETRY_S)

    async def fail_unread(self, job: str, data: bytes) -> None:
        """Record a job that cannot be read as failed, unless it is over; ``data``: as it was queued, where it has no record.

        Raises:
            FencedError: its record was changed meanwhile. UnansweredError, RefusedError.
        """
        if not is_job_id(job):
            return
        subject = f"{RECORD_SUBJECT}.{job}"
        stored = await self._jetstream.message(RECORDS, last_by_subj=subject)
        fields = _fields(stored.payload if stored else data)
        if fields is None or fields.get("state") in ENDED_STATES:
            return
        # As plain JSON: the version that wrote it can read the rest.
        failed = {"state": "failed", "ended_at": datetime.now(UTC).isoformat(), "eta_s": None, "error": UNREAD}
        payload = _OBJECT.dump_json(fields | failed)
        try:
            await self._jetstream.store(subject, payload, {FENCE: str(stored.seq if stored else 0)})
        except RefusedError as error:
            if error.code != WRONG_LAST_SEQUENCE:
                raise
            raise FencedError(f"{job!r} was changed meanwhile") from None

    async def _first_record(self, record: JobRecord, submission: Submission) -> Answer:
        """Store the record of a job that is queued."""
        try:
            await self.update(StoredRecord(record, 0))
        except FencedError:  # a daemon has it already, or the same submission arrived twice
            if current := await self.record(submission.job):
                return _same(current.record, submission)
        return Answer(job=submission.job, state="queued")

    async def _waiting(self, job: str) -> StoredRecord | None:
        """A job in the queue whose record is not stored yet."""
        for subject in (JOB_SUBJECT, URGENT_JOB_SUBJECT):
            stored = await self._jetstream.message(JOBS, last_by_subj=f"{subject}.{job}")
            if stored and (current := _stored_record(stored)):
                return StoredRecord(current.record, 0)
        return None

    async def _queue(self, record: JobRecord) -> None:
        subject = f"{URGENT_JOB_SUBJECT if record.urgent else JOB_SUBJECT}.{record.submission.job}"
        try:
            # Not by its id, which the broker would forget: a job that waits is known by its subject.
            await self._jetstream.store(subject, record.stored(), {FENCE: "0"})
        except RefusedError as error:
            if error.code != WRONG_LAST_SEQUENCE:  # it waits already
                raise
        except UnansweredError as error:
            if error.code == STREAM_FULL:
                raise RequestError(429, "too many jobs wait") from None
            raise


def parse_record(data: bytes) -> JobRecord | None:
    """A record as it is stored; None, with a warning, if it is not valid."""
    try:
        return JobRecord.model_validate_json(data)
    except ValidationError as error:
        log.warning("skipped an invalid job record: %s", first_line(error))
        return None


def _fields(data: bytes) -> dict[str, Any] | None:
    """Those of a JSON object; None if it is none."""
    try:
        return _OBJECT.validate_json(data)
    except ValidationError:
        return None


def _stored_record(stored: Stored) -> StoredRecord | None:
    record = parse_record(stored.payload)
    return StoredRecord(record, stored.seq) if record else None


def _same(record: JobRecord, submission: Submission) -> Answer:
    """The answer to a submission of a job that is known."""
    if record.submission.object != submission.object:
        raise RequestError(409, f"{submission.job!r} is another job already")
    return Answer(job=submission.job, state=record.state)
