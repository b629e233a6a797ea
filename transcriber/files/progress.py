"""How far a file is: for those who listen every second, and in its record every few.

In: what its text says. Out: ``progress`` messages, and a record that only one daemon at a time can change.
"""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.files.job_store import JobStore, StoredRecord
from transcriber.files.text_stage import TextStage
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.file_jobs import JobRecord
from transcriber.schema.messages import Progress
from transcriber.telemetry import session_traceparent

PROGRESS_S = 1.0
RECORD_S = 2.0
"""A record is stored so often while its job runs: that is how soon a cancellation is noticed at the latest."""


class FileProgress:
    """Event loop only.

    Attributes:
        kept: the record, as we know that it is stored.
    """

    def __init__(self, desk: JobStore, kept: StoredRecord, text: TextStage, runtime: Runtime) -> None:
        self.kept = kept
        self._desk, self._text, self._runtime = desk, text, runtime
        self._job = kept.record.submission.job
        self._progress: dict[str, Any] = {}  # what is newer than the record
        self._began_s, self._done_before_s = time.monotonic(), kept.record.done_s
        self._total_s, self._rate = kept.record.total_s, TARGET_SAMPLE_RATE

    @property
    def record(self) -> JobRecord:
        """As it was last stored."""
        return self.kept.record

    def learn(self, frames: int | None, rate: int) -> None:
        """The file has so many ``frames``, if that is known, at ``rate`` Hz."""
        self._rate = rate
        if frames:
            self._total_s = frames / rate

    async def save(self, **changes: Any) -> None:
        """Store the record with ``changes``, and how far it is, however long the broker is away.

        Raises:
            FencedError: somebody else has changed it.
            RefusedError.
        """
        self.kept = await self._desk.update_patiently(self.kept, **self._progress | changes)

    async def tell(self, over: asyncio.Event) -> None:
        """Say it every second, until it is ``over``.

        Raises:
            FencedError: the record is another's now.
        """
        recorded_s = self._began_s
        while not over.is_set():
            self.say()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), PROGRESS_S)
            self._progress = self._look()
            if time.monotonic() - recorded_s >= RECORD_S:
                recorded_s = time.monotonic()
                await self.save()

    def say(self) -> None:
        """Say how far it is."""
        record = self.record.model_copy(update=self._progress if not self.record.over else {})
        message = Progress(
            stream=self._job, session=self._job, rate=self._rate, start_frame=0,
            frames=round(self._rate * record.done_s), start=0.0, duration=record.done_s,
            received_at=datetime.now(UTC), state=record.state, total=record.total_s, eta=record.eta_s,
            attempt=record.attempts, error=record.error,
        )  # fmt: skip
        self._runtime.publisher.put(lambda: message, session_traceparent(self._job, self._job), rev=time.time_ns())

    def _look(self) -> dict[str, Any]:
        """How far it is, as fields of a record."""
        done_s, total_s = max(self.record.done_s, self._text.done_s), self._total_s
        if total_s is not None and done_s > total_s:
            total_s = None  # others follow the file that told its length
        heard_s, took_s = done_s - self._done_before_s, time.monotonic() - self._began_s
        left_s = max(0.0, total_s - done_s) if total_s is not None else None
        eta_s = took_s * left_s / heard_s if left_s is not None and heard_s > 0 else None
        return {"done_s": done_s, "total_s": total_s, "eta_s": eta_s}
