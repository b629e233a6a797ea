"""One attempt at one file: out of the store, through the worker, back as documents.

In: the record of a job. Out: its text on ``transcripts.<job>.*``, ``progress`` meanwhile, its results in a bucket, and a record that
says how far it is and how it ended.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
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

log = logging.getLogger(__name__)

RETRY_S, RETRY_MAX_S = 5.0, 300.0
FOREVER = MediaError, ObjectError, TextGoneError, UnfitError
"""What another attempt would not mend."""

FULL = frozenset({STREAM_FULL, OUT_OF_STORAGE, NO_RESOURCES})
"""That the broker has no room for the results may be mended in time, or never: unlike its absence it counts as an attempt."""


class FileAttempt:
    """Event loop only."""

    def __init__(self, room: FileRuntime, kept: StoredRecord, worker: Worker, places: QueueSlots) -> None:
        record = kept.record
        self._room, self._worker = room, worker
        self._job = record.submission.job
        self._runtime = replace(room.runtime, settings=file_settings(room.runtime.settings, record.submission))
        self._text = TextStage(record.submission, worker, places, room.jetstream, self._runtime)
        self._state = FileProgress(room.desk, kept, self._text, room.runtime)
        self._maker = FileTranscription(room, self._text, self._state, self._runtime)
        self._making: asyncio.Task[dict[str, Any] | None] | None = None
        self._stopping = False

    async def run(self) -> float | None:
        """Until the job is over, or cannot go on here; returns after how many seconds it is to be tried again, None if never.

        Raises:
            FencedError: another daemon has it.
            UnansweredError, RefusedError: not even the record can be read or written.
        """
        again_s = None if self._record.over else await self._try()
        if not self._record.over:
            return again_s
        try:
            await self._clean_up()
        except UnansweredError as error:
            self._runtime.warnings.warning("files", "a file is over, but not removed yet: %s", error, job=self._job)
            return RETRY_S
        return None

    async def stop(self) -> None:
        """The daemon stops: another one goes on."""
        self._stopping = True
        if not self._text.stop() and self._making:
            await cancel([self._making])

    @property
    def job(self) -> str:
        """Its id."""
        return self._job

    @property
    def _record(self) -> JobRecord:
        return self._state.record

    async def _try(self) -> float | None:
        """One attempt, whatever comes of it."""
        try:
            return await self._begin()
        except FencedError:
            kept = await self._room.desk.record(self._job)
            if kept and kept.record.over:
                self._state.kept = kept
                if kept.record.state == "cancelled":
                    self._tell_end()
                return None
            if kept and kept.record.state == "queued":  # it was recorded while we began
                return 0.0
            if kept is None or kept.seq != self._state.kept.seq:
                raise
            # Who had it before has stored some text since, and does not know yet that the record is ours.
            await self._take_back()
            return 0.0

    async def _begin(self) -> float | None:
        if self._stopping:
            return 0.0
        done_s = await self._text.stored_s()
        attempts = self._record.next_attempt(done_s, self._runtime.settings.file_window_secs)
        if attempts > self._most_attempts:
            return await self._fail(self._record.error or "the daemons that tried it did not come back")
        await self._state.save(
            state="running",
            attempts=attempts,
            from_s=done_s,
            instance=self._runtime.telemetry.instance,
            started_at=self._record.started_at or datetime.now(UTC),
        )
        log.info("a file is begun", extra={"job": self._job, "attempt": attempts})
        return await self._go_on()

    async def _go_on(self) -> float | None:
        """The attempt, which the record now knows of; returns as ``run``."""
        try:
            made = await self._attempt()
        except FOREVER as error:
            await self._end("failed", error=str(error))
        except FencedError:
            raise
        except (UnansweredError, RefusedError) as error:
            self._runtime.warnings.warning("files", "a file cannot go on yet: %s", error, job=self._job)
            if isinstance(error, RefusedError) or error.code in FULL:
                return await self._fail(str(error))
            await self._take_back(error=str(error))  # that nobody answers is not the file's fault
            return RETRY_S
        except Exception as error:  # whatever is in a file must not take the live streams with it
            log.exception("a file failed", extra={"job": self._job})
            return await self._fail(f"{type(error).__name__}: {error}")
        else:
            if made is None:
                if self._worker.crashed:
                    return await self._fail("a worker died over it")
                await self._take_back()  # nor that we stop
                return 0.0
            await self._end("done", **made)
        return None

    async def _fail(self, error: str) -> float | None:
        """An attempt has failed; returns after how many seconds there is to be another, None if that was the last."""
        await self._state.save(error=error)
        attempts = self._record.attempts
        if attempts < self._most_attempts:
            return float(min(RETRY_MAX_S, RETRY_S * 2 ** (attempts - 1)))
        await self._end("failed", error=f"given up after {attempts} attempts: {error}")
        return None

    async def _take_back(self, **changes: Any) -> None:
        """The attempt does not count."""
        await self._state.save(attempts=self._record.attempts - 1, **changes)

    @property
    def _most_attempts(self) -> int:
        return most_attempts(self._runtime.settings.max_attempts)

    async def _attempt(self) -> dict[str, Any] | None:
        """Make text and results, and say how far that is; returns what the record is to say, None if it was stopped before."""
        if self._stopping:  # while the record was stored
            return None
        over = asyncio.Event()
        telling = asyncio.create_task(self._state.tell(over))
        self._making = making = asyncio.create_task(self._maker.make())
        try:
            await asyncio.wait({telling, making}, return_when=asyncio.FIRST_COMPLETED)
            over.set()
            if telling.done():  # it is not ours any more
                await cancel([making])
            else:
                await asyncio.wait({telling})  # a record must not be changed without our knowing
        finally:
            await cancel([telling, making])
        telling.result()
        return None if making.cancelled() else making.result()

    async def _end(self, state: JobState, **changes: Any) -> None:
        await self._state.save(state=state, ended_at=datetime.now(UTC), **{"eta_s": None} | changes)
        self._tell_end()

    def _tell_end(self) -> None:
        """It is over, and nobody has said so yet."""
        log.info("a file is %s", self._record.state, extra={"job": self._job, "error": self._record.error})
        self._state.say()
        self._runtime.telemetry.counters().files[self._record.state] += 1

    async def _clean_up(self) -> None:
        """Remove what is needed no more: the input, unless it failed and somebody wants to look, and results of what is not done.

        Raises:
            UnansweredError: it is not all removed.
        """
        record, submission = self._record, self._record.submission
        with suppress(RefusedError, ObjectError):  # the limits of the buckets take it
            if record.state != "failed" and not submission.keep:
                await self._room.inputs.delete(submission.object, record.digest)
            if record.state != "done":
                for name in result_names(self._job):
                    await self._room.results.delete(name)
