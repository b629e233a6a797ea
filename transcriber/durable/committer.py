"""The tale of a durable stream: its log becomes stored messages.

In: entries of an ``EventLog``. Out: messages in a ``TranscriptLog``, each with the place where audio goes on after it. Only then is the
audio before that place acknowledged.
"""

import asyncio
import logging
from datetime import UTC, datetime

from transcriber.durable.backfill import Backfill
from transcriber.durable.checkpoint import checkpoint
from transcriber.durable.event_log import Entry, EventLog
from transcriber.durable.payload_source import PayloadSource
from transcriber.durable.second_pass import StoredSecondPass
from transcriber.durable.transcript_log import TranscriptLog
from transcriber.engine.job import Job, Outcome
from transcriber.errors import EngineError
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.sinks import BufferedSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.messages import message_id

log = logging.getLogger(__name__)


class Committer:
    """Event loop only."""

    def __init__(
        self,
        entries: EventLog,
        report: StreamOutput,
        told: BufferedSink,
        ledger: TranscriptLog,
        feed: PayloadSource,
        runtime: Runtime,
        backfill: Backfill | None = None,
        second_pass: StoredSecondPass | None = None,
    ) -> None:
        """``report`` puts into ``told`` what it tells; ``backfill`` and ``second_pass`` are to know what is stored."""
        self._log, self._report, self._told = entries, report, told
        self._ledger, self._feed, self._runtime = ledger, feed, runtime
        self._backfill, self._second_pass = backfill, second_pass

    async def run(self) -> None:
        """Tell and store, until the log is closed and as much of it is stored as the worker has heard.

        Raises:
            FencedError: another daemon has stored something.
            RefusedError: it cannot be stored.
        """
        while True:
            await self._log.wait_for_news()
            if (entry := self._log.oldest) is None:
                return
            if entry.window and entry.job:
                outcome = await self._outcome(entry, entry.job)
                if isinstance(outcome, EngineError) and outcome.reason == "shutdown":
                    return
                self._log.attempts = 0
                self._report.window(entry.window, entry.arrival.wall, entry.job, outcome)
            elif entry.tell:
                entry.tell()
            await self._store(entry)
            self._log.told()

    async def _outcome(self, entry: Entry, job: Job) -> Outcome:
        """What became of a window; whisper is asked more than once before it is given up."""
        for _ in range(self._runtime.settings.max_attempts - 1 if self._log.patient else 0):
            outcome = await entry.heard
            if not isinstance(outcome, EngineError) or outcome.reason != "engine_error" or not entry.given:
                return outcome
            log.info("a window is tried again", extra={"stream": job.stream, "error": str(outcome)})
            entry.heard = asyncio.get_running_loop().create_future()
            await self._log.give(entry, job)
        return await entry.heard

    async def _store(self, entry: Entry) -> None:
        if not (messages := self._told.take()):
            return
        report = self._report.sessions.get(entry.after.session) if entry.after.session else None
        instance = self._runtime.telemetry.instance
        owed_from = self._second_pass.owed_from(self._ledger.last_seq) if self._second_pass else None
        mark = checkpoint(entry.after, report, instance=instance, attempts=self._log.attempts, owed_from=owed_from)
        for build, traceparent, rev, channel in messages:
            message = build()
            stamp: dict[str, object] = {"lag_s": age_s(entry.arrival.wall), "checkpoint": mark}
            if message.first_seq is None:  # a revision is about older ones
                stamp |= {"first_seq": entry.first_seq, "last_seq": entry.last_seq}
            message = message.model_copy(update=stamp)
            identity = message.stream, message.session, message.start_frame, message.type
            previous_seq = self._ledger.last_seq
            stored = await self._ledger.append(message, message_id(*identity, rev, channel), traceparent)
            for reader in (self._backfill, self._second_pass):
                if reader:
                    reader.stored(stored, previous_seq)
        await self._feed.acknowledge(mark.seq)


def age_s(at: datetime) -> float:
    """Seconds from ``at`` until now; 0 if the broker's clock is ahead of ours."""
    return max(0.0, (datetime.now(UTC) - at).total_seconds())
