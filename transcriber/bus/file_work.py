"""One attempt at one file: out of the store, through the worker, back as documents.

In: the record of a job. Out: its text on ``transcripts.<job>.*``, ``progress`` meanwhile, its results in a bucket, and a record that
says how far it is and how it ended.
"""

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.bus.decoding import OpenFile, open_file
from transcriber.bus.file_feed import FileFeed, first_frame
from transcriber.bus.file_results import check_whole, stored_messages, write_results
from transcriber.bus.file_text import FileText, file_settings
from transcriber.bus.jetstream import JetStream
from transcriber.bus.jobs import JobDesk, Kept
from transcriber.bus.object_reader import ObjectReader, StoredSource
from transcriber.bus.object_store import Bucket
from transcriber.bus.places import Places
from transcriber.bus.stream_report import Surroundings
from transcriber.cancelling import cancel
from transcriber.engine.worker import Worker
from transcriber.errors import FencedError, MediaError, ObjectError, RefusedError, TextGoneError, UnansweredError
from transcriber.jobs import JobRecord
from transcriber.messages import Checkpoint, JobState, Progress
from transcriber.telemetry import session_traceparent

log = logging.getLogger(__name__)

RETRY_S, RETRY_MAX_S = 5.0, 300.0
FOREVER = MediaError, ObjectError, TextGoneError
"""What another attempt would not mend."""

PROGRESS_S = 1.0
RECORD_S = 2.0
"""A record is stored so often while its job runs: that is how soon a cancellation is noticed at the latest."""


@dataclass(frozen=True, slots=True)
class FileRoom:
    """What all files of a daemon share."""

    jetstream: JetStream
    desk: JobDesk
    inputs: Bucket
    results: Bucket
    around: Surroundings


class FileWork:
    """Event loop only."""

    def __init__(self, room: FileRoom, kept: Kept, worker: Worker, places: Places) -> None:
        record = kept.record
        self._kept = kept
        self._progress: dict[str, Any] = {}  # what is newer than the record
        self._room = room
        self._job = record.submission.job
        self._around = replace(room.around, settings=file_settings(room.around.settings, record.submission))
        self._text = FileText(record.submission, worker, places, room.jetstream, self._around)
        self._feed: FileFeed | None = None
        self._file: OpenFile | None = None
        self._began_s, self._done_before_s = time.monotonic(), record.done_s
        self._total_s = record.total_s

    async def run(self) -> float | None:
        """Until the job is over, or cannot go on here; returns after how many seconds it is to be tried again, None if never.

        Raises:
            FencedError: another daemon has it.
            UnansweredError, RefusedError: not even the record can be written.
        """
        if self._record.over:
            await self._remove_input()
            return None
        # A window is given up before its file is: each of its attempts is one at the file, too.
        if self._record.attempts >= 2 * self._around.settings.max_attempts:
            await self._end("failed", error=f"given up after {self._record.attempts} attempts: {self._record.error}")
            return None
        instance, begun = self._around.telemetry.instance, self._record.started_at or datetime.now(UTC)
        attempts = self._record.attempts + 1
        try:
            await self._save(state="running", attempts=attempts, instance=instance, started_at=begun)
            log.info("a file is begun", extra={"job": self._job, "attempt": attempts})
            if await self._attempt():
                return None
            await self._save(attempts=self._record.attempts - 1)  # that we stop is not the file's fault
        except FOREVER as error:
            await self._end("failed", error=str(error))
            return None
        except FencedError:
            if not await self._cancelled():
                raise
            return None
        except (UnansweredError, RefusedError) as error:
            self._around.warnings.warning("files", "a file cannot go on yet: %s", error, job=self._job)
            return RETRY_S
        except Exception as error:  # whatever is in a file must not take the live streams with it
            log.exception("a file failed", extra={"job": self._job})
            await self._save(error=f"{type(error).__name__}: {error}")
            return float(min(RETRY_MAX_S, RETRY_S * 2 ** (self._record.attempts - 1)))
        return 0.0

    @property
    def _record(self) -> JobRecord:
        return self._kept.record

    def stop(self) -> None:
        """The daemon stops: another one goes on."""
        self._text.stop()

    async def _attempt(self) -> bool:
        """The text and the results; False if it was stopped before."""
        async with AsyncExitStack() as stack:
            over = asyncio.Event()
            telling = asyncio.create_task(self._tell(over))
            stack.push_async_callback(asyncio.wait, {telling})
            stack.callback(over.set)
            writing = asyncio.create_task(self._text.run(partial(self._read, stack)))
            stack.push_async_callback(cancel, [writing])
            await asyncio.wait({telling, writing}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                telling.result()
            if not writing.result():
                return False
        messages = stored_messages(self._room.jetstream, self._around.settings, self._job)
        account = await check_whole(messages)
        results = await write_results(self._room.results, self._record.submission, messages)
        error = str(self._feed.error) if self._feed and self._feed.error else None
        await self._end(
            "done", done_s=account.duration, total_s=account.duration, eta_s=0.0, results=results, error=error
        )
        return True

    async def _read(self, stack: AsyncExitStack, found: Checkpoint) -> FileFeed:
        """The audio, from where ``found`` stands; ``stack`` closes it."""
        name, bucket = self._record.submission.object, self._room.inputs
        info = await bucket.info(name)
        if info is None:
            raise ObjectError(f"{name!r} is no longer in the bucket {bucket.name}")
        if info.digest != self._record.digest:
            raise ObjectError(f"{name!r} was replaced after it was submitted")
        reader = ObjectReader(bucket, info)
        source = StoredSource(reader)
        stack.push_async_callback(reader.close)
        stack.callback(source.close)
        self._file = await stack.enter_async_context(open_file(source, first_frame(found)))
        media = self._file.media
        if media.frames:
            self._total_s = media.frames / media.format.rate
        self._feed = FileFeed(
            self._job, media.format, media.frames, self._file.pieces, self._record.submitted_at, found
        )
        return self._feed

    async def _cancelled(self) -> bool:
        """Whether it is over because somebody has said so."""
        kept = await self._room.desk.record(self._job)
        if kept is None or not kept.record.over:
            return False
        self._kept = kept
        await self._close()
        return True

    async def _end(self, state: JobState, **changes: Any) -> None:
        await self._save(state=state, ended_at=datetime.now(UTC), **changes)
        log.info("a file is %s", state, extra={"job": self._job, "error": self._record.error})
        await self._close()

    async def _close(self) -> None:
        """It is over."""
        self._say()
        self._around.telemetry.counters().files[self._record.state] += 1
        await self._remove_input()

    async def _remove_input(self) -> None:
        """Whatever was submitted is needed no more, unless it failed, and somebody wants to look."""
        submission = self._record.submission
        if self._record.state != "failed" and not submission.keep:
            with suppress(UnansweredError, RefusedError):  # the limits of the bucket take it
                await self._room.inputs.delete(submission.object)

    # How far it is.

    async def _tell(self, over: asyncio.Event) -> None:
        """Say it every second, until it is ``over``. Not to be cancelled: a record must not be changed without our knowing.

        Raises:
            FencedError: the record is another's now.
        """
        recorded_s = self._began_s
        while not over.is_set():
            self._say()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), PROGRESS_S)
            self._progress = self._look()
            if time.monotonic() - recorded_s >= RECORD_S:
                recorded_s = time.monotonic()
                with suppress(UnansweredError):  # if text cannot be stored either, that is known
                    await self._save()

    def _look(self) -> dict[str, Any]:
        """How far it is, as fields of a record."""
        done_s, total_s = max(self._record.done_s, self._text.done_s), self._total_s
        heard_s, took_s = done_s - self._done_before_s, time.monotonic() - self._began_s
        left_s = max(0.0, total_s - done_s) if total_s is not None else None
        eta_s = took_s * left_s / heard_s if left_s is not None and heard_s > 0 else None
        # It gets on: what went wrong before is no reason to give up.
        attempts = {"attempts": 1} if heard_s > 0 else {}
        return {"done_s": done_s, "total_s": total_s, "eta_s": eta_s} | attempts

    async def _save(self, **changes: Any) -> None:
        """Store the record with ``changes``, and how far it is.

        Raises:
            FencedError: somebody else has changed it.
            UnansweredError, RefusedError.
        """
        self._kept = await self._room.desk.update(self._kept, **self._progress | changes)

    def _say(self) -> None:
        record = self._record.model_copy(update=self._progress if not self._record.over else {})
        rate = self._file.media.format.rate if self._file else TARGET_SAMPLE_RATE
        message = Progress(
            stream=self._job, session=self._job, rate=rate, start_frame=0, frames=round(rate * record.done_s), start=0.0,
            duration=record.done_s, received_at=datetime.now(UTC), state=record.state, total=record.total_s,
            eta=record.eta_s, attempt=record.attempts, error=record.error,
        )  # fmt: skip
        self._around.publisher.put(lambda: message, session_traceparent(self._job, self._job), rev=time.time_ns())
