"""One attempt at one file: out of the store, through the worker, back as documents.

In: the record of a job. Out: its text on ``transcripts.<job>.*``, ``progress`` meanwhile, its results in a bucket, and a record of
its progress and its end.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from transcriber.bus.jetstream.client import NO_RESOURCES, OUT_OF_STORAGE, STREAM_FULL
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.errors import (
    FencedError,
    MediaError,
    ObjectError,
    RefusedError,
    TextGoneError,
    UnansweredError,
    UnfitError,
)
from transcriber.files.job_store import StoredRecord
from transcriber.files.progress import FileProgress
from transcriber.files.results import result_names
from transcriber.files.text_stage import TextStage, file_settings
from transcriber.files.transcription import FileRuntime, FileTranscription
from transcriber.schema.file_jobs import JobRecord, most_attempts
from transcriber.schema.messages import JobState
from transcriber.tasks import cancel
from transcriber.telemetry import current_traceparent

log = logging.getLogger(__name__)

RETRY_S, RETRY_MAX_S = 5.0, 300.0
PERMANENT = MediaError, ObjectError, TextGoneError, UnfitError
"""What another attempt would not change."""

FULL = frozenset({STREAM_FULL, OUT_OF_STORAGE, NO_RESOURCES})
"""The broker may have room for the results later, or never: unlike its absence this counts as an attempt."""


@dataclass(frozen=True, slots=True)
class Over:
    """No attempt is to follow: the job is done, failed, or cancelled, and cleaned up."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt is to follow, by any daemon, after so many seconds; 0: at once."""

    after_s: float = 0.0


AttemptEnd = Over | Retry
"""How an attempt ends for the work queue."""


class FileAttempt:
    """Event loop only."""

    def __init__(self, shared: FileRuntime, stored: StoredRecord, worker: Worker, slots: QueueSlots) -> None:
        record = stored.record
        self._shared, self._worker = shared, worker
        self._job = record.submission.job
        self._runtime = replace(
            shared.runtime, settings=file_settings(shared.runtime.settings, record.submission), live=None
        )
        self._text = TextStage(record.submission, worker, slots, shared.jetstream, self._runtime)
        self._progress = FileProgress(shared.jobs, stored, self._text, shared.runtime)
        self._transcription = FileTranscription(shared, self._text, self._progress, self._runtime)
        self._transcribing: asyncio.Task[dict[str, Any] | None] | None = None
        self._stopping = False

    async def run(self) -> AttemptEnd:
        """Until the job is over, or the attempt has failed.

        Raises:
            FencedError: another daemon has it.
            UnansweredError, RefusedError: not even the record can be read or written.
        """
        current_traceparent.set(self._record.traceparent or "")
        end = Over() if self._record.over else await self._try()
        if not self._record.over:
            return end
        try:
            await self._clean_up()
        except UnansweredError as error:
            self._runtime.warnings.warning("files", "a file is over, but not removed yet: %s", error, job=self._job)
            return Retry(RETRY_S)
        return Over()

    async def stop(self) -> None:
        """The daemon stops: another one resumes."""
        self._stopping = True
        if not self._text.stop() and self._transcribing:
            await cancel([self._transcribing])

    @property
    def job(self) -> str:
        """Its id."""
        return self._job

    @property
    def _record(self) -> JobRecord:
        return self._progress.record

    async def _try(self) -> AttemptEnd:
        """One attempt, and who owns the job where that changed."""
        try:
            return await self._begin()
        except FencedError:
            stored = await self._shared.jobs.record(self._job)
            if stored and stored.record.over:
                self._progress.stored = stored
                if stored.record.state == "cancelled":
                    self._publish_end()
                return Over()
            if stored and stored.record.state == "queued":  # it was recorded while the attempt began
                return Retry()
            if stored is None or stored.seq != self._progress.stored.seq:
                raise
            # The owner before has stored some text since, and does not know yet that the record is ours.
            await self._take_back()
            return Retry()

    async def _begin(self) -> AttemptEnd:
        if self._stopping:
            return Retry()
        done_s = await self._text.stored_s()
        attempts = self._record.next_attempt(done_s, self._runtime.settings.file_window_secs)
        if attempts > self._most_attempts:
            return await self._fail(self._record.error or "the daemons that tried it did not come back")
        await self._progress.save(
            state="running",
            attempts=attempts,
            from_s=done_s,
            instance=self._runtime.telemetry.instance,
            started_at=self._record.started_at or datetime.now(UTC),
        )
        log.info("file started", extra={"job": self._job, "attempt": attempts})
        return await self._continue()

    async def _continue(self) -> AttemptEnd:
        """The attempt, which is now recorded; returns as ``run``."""
        try:
            made = await self._attempt()
        except PERMANENT as error:
            await self._end("failed", error=str(error))
        except FencedError:
            raise
        except (UnansweredError, RefusedError) as error:
            self._runtime.warnings.warning("files", "a file cannot continue yet: %s", error, job=self._job)
            if isinstance(error, RefusedError) or error.code in FULL:
                return await self._fail(str(error))
            await self._take_back(error=str(error))  # that the broker does not answer is not the file's fault
            return Retry(RETRY_S)
        except Exception as error:  # whatever is in a file must not end the live streams
            log.exception("a file failed", extra={"job": self._job})
            return await self._fail(f"{type(error).__name__}: {error}")
        else:
            if made is None:
                if self._worker.crashed:
                    return await self._fail("a worker died over it")
                await self._take_back()  # nor that the daemon stops
                return Retry()
            await self._end("done", **made)
        return Over()

    async def _fail(self, error: str) -> AttemptEnd:
        """An attempt has failed, perhaps the last one."""
        await self._progress.save(error=error)
        attempts = self._record.attempts
        if attempts < self._most_attempts:
            return Retry(min(RETRY_MAX_S, RETRY_S * 2 ** (attempts - 1)))
        await self._end("failed", error=f"given up after {attempts} attempts: {error}")
        return Over()

    async def _take_back(self, **changes: Any) -> None:
        """The attempt does not count."""
        await self._progress.save(attempts=self._record.attempts - 1, **changes)

    @property
    def _most_attempts(self) -> int:
        return most_attempts(self._runtime.settings.max_attempts)

    async def _attempt(self) -> dict[str, Any] | None:
        """Make text and results, and publish the progress; returns fields of the record, None if it was stopped before."""
        if self._stopping:  # while the record was stored
            return None
        over = asyncio.Event()
        publishing = asyncio.create_task(self._progress.publish_until(over))
        self._transcribing = transcribing = asyncio.create_task(self._transcription.run())
        try:
            await asyncio.wait({publishing, transcribing}, return_when=asyncio.FIRST_COMPLETED)
            over.set()
            if publishing.done():  # another daemon owns it, or it was cancelled
                await cancel([transcribing])
            else:
                await asyncio.wait({publishing})  # it may be storing the record
        finally:
            await cancel([publishing, transcribing])
        publishing.result()
        return None if transcribing.cancelled() else transcribing.result()

    async def _end(self, state: JobState, **changes: Any) -> None:
        await self._progress.save(state=state, ended_at=datetime.now(UTC), **{"eta_s": None} | changes)
        self._publish_end()

    def _publish_end(self) -> None:
        """It is over, and that was not published yet."""
        log.info("file %s", self._record.state, extra={"job": self._job, "error": self._record.error})
        self._progress.publish()
        self._runtime.telemetry.counters().files[self._record.state] += 1

    async def _clean_up(self) -> None:
        """Remove the input, unless it failed and may be inspected, and the results of what is not done.

        Raises:
            UnansweredError: it is not all removed.
        """
        record, submission = self._record, self._record.submission
        with suppress(RefusedError, ObjectError):  # the buckets' limits remove it
            if record.state != "failed" and not submission.keep:
                await self._shared.inputs.delete(submission.object, record.digest)
            if record.state != "done":
                for name in result_names(self._job):
                    await self._shared.results.delete(name)
