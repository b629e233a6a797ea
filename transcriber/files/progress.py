"""Progress of a file: published every second, and stored in its record every few.

In: the seconds that are text. Out: ``progress`` messages, and a record that only one daemon at a time can change.
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
"""A record is stored so often while its job runs: a cancellation is noticed within that time."""


class FileProgress:
    """Event loop only.

    Attributes:
        stored: the record, as last stored.
    """

    def __init__(self, jobs: JobStore, stored: StoredRecord, text: TextStage, runtime: Runtime) -> None:
        self.stored = stored
        self._jobs, self._text, self._runtime = jobs, text, runtime
        self._job = stored.record.submission.job
        self._newer: dict[str, Any] = {}  # fields that are newer than the record
        self._began_s, self._done_before_s = time.monotonic(), stored.record.done_s
        self._total_s, self._rate = stored.record.total_s, TARGET_SAMPLE_RATE

    @property
    def record(self) -> JobRecord:
        """As last stored."""
        return self.stored.record

    def set_length(self, frames: int | None, rate: int) -> None:
        """The file has ``frames`` at ``rate`` Hz; None: not known."""
        self._rate = rate
        if frames:
            self._total_s = frames / rate

    async def save(self, **changes: Any) -> None:
        """Store the record with ``changes`` and the progress, however long the broker is away.

        Raises:
            FencedError: another daemon or a cancellation has changed it.
            RefusedError.
        """
        self.stored = await self._jobs.update_patiently(self.stored, **self._newer | changes)

    async def publish_until(self, over: asyncio.Event) -> None:
        """Publish the progress every second, until the attempt is ``over``.

        Raises:
            FencedError: another daemon or a cancellation has changed the record.
        """
        recorded_s = self._began_s
        while not over.is_set():
            self.publish()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), PROGRESS_S)
            self._newer = self._estimate()
            if time.monotonic() - recorded_s >= RECORD_S:
                recorded_s = time.monotonic()
                await self.save()

    def publish(self) -> None:
        """Publish a ``progress`` message."""
        record = self.record.model_copy(update=self._newer if not self.record.over else {})
        message = Progress(
            stream=self._job, session=self._job, rate=self._rate, start_frame=0,
            frames=round(self._rate * record.done_s), start=0.0, duration=record.done_s,
            received_at=datetime.now(UTC), state=record.state, total=record.total_s, eta=record.eta_s,
            attempt=record.attempts, error=record.error,
        )  # fmt: skip
        traceparent = record.traceparent or session_traceparent(self._job, self._job)
        self._runtime.publisher.put(lambda: message, traceparent, rev=time.time_ns())

    def _estimate(self) -> dict[str, Any]:
        """The progress, as fields of a record."""
        done_s, total_s = max(self.record.done_s, self._text.done_s), self._total_s
        if total_s is not None and done_s > total_s:
            total_s = None  # it is longer than its container claims
        new_s, took_s = done_s - self._done_before_s, time.monotonic() - self._began_s
        left_s = max(0.0, total_s - done_s) if total_s is not None else None
        eta_s = took_s * left_s / new_s if left_s is not None and new_s > 0 else None
        return {"done_s": done_s, "total_s": total_s, "eta_s": eta_s}
