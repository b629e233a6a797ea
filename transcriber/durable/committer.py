"""The entries of a durable stream's log become stored messages.

In: entries of an ``EventLog``. Out: messages in a ``TranscriptLog``, each with the point where audio resumes after it. Only then is
the audio before that point acknowledged.
"""

import asyncio
import logging
from datetime import UTC, datetime

from transcriber.durable.backfill import Backfill
from transcriber.durable.checkpoint import make_checkpoint
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
        output: StreamOutput,
        sink: BufferedSink,
        transcripts: TranscriptLog,
        source: PayloadSource,
        runtime: Runtime,
        backfill: Backfill | None = None,
        second_pass: StoredSecondPass | None = None,
    ) -> None:
        """``output`` puts its messages into ``sink``; ``backfill`` and ``second_pass`` are notified of what is stored."""
        self._log, self._output, self._sink = entries, output, sink
        self._transcripts, self._source, self._runtime = transcripts, source, runtime
        self._backfill, self._second_pass = backfill, second_pass

    async def run(self) -> None:
        """Store, until the log is closed and all that the worker has finished is stored.

        Raises:
            FencedError: another daemon has stored something.
            RefusedError: it cannot be stored.
            UnansweredError: the stored text must be read again first.
        """
        while True:
            await self._log.wait_for_entry()
            if (entry := self._log.oldest) is None:
                return
            if entry.window and entry.job:
                outcome = await self._outcome(entry, entry.job)
                if isinstance(outcome, EngineError) and outcome.reason == "shutdown":
                    return
                self._log.attempts = 0
                self._output.window(entry.window, entry.arrival.wall, entry.job, outcome)
            elif entry.publish:
                entry.publish()
            await self._store(entry)
            self._log.pop_stored()

    async def _outcome(self, entry: Entry, job: Job) -> Outcome:
        """Of a window; where whisper fails it is retried before it is given up."""
        for _ in range(self._runtime.settings.max_attempts - 1 if self._log.patient else 0):
            outcome = await entry.outcome
            if not isinstance(outcome, EngineError) or outcome.reason != "engine_error" or not entry.given:
                return outcome
            log.info("window retried", extra={"stream": job.stream, "error": str(outcome)})
            entry.outcome = asyncio.get_running_loop().create_future()
            await self._log.give(entry, job)
        return await entry.outcome

    async def _store(self, entry: Entry) -> None:
        if not (messages := self._sink.take()):
            return
        session_output = self._output.sessions.get(entry.after.session) if entry.after.session else None
        checkpoint = make_checkpoint(
            entry.after,
            session_output,
            instance=self._runtime.telemetry.instance,
            attempts=self._log.attempts,
            owed_from=self._second_pass.owed_from(self._transcripts.last_seq) if self._second_pass else None,
        )
        for build, traceparent, rev, channel in messages:
            message = build()
            fields: dict[str, object] = {"lag_s": age_s(entry.arrival.wall), "checkpoint": checkpoint}
            if message.first_seq is None:  # a revision is about older ones
                fields |= {"first_seq": entry.first_seq, "last_seq": entry.last_seq}
            message = message.model_copy(update=fields)
            identity = message.stream, message.session, message.start_frame, message.type
            previous_seq = self._transcripts.last_seq
            stored = await self._transcripts.append(message, message_id(*identity, rev, channel), traceparent)
            for reader in (self._backfill, self._second_pass):
                if reader:
                    reader.stored(stored, previous_seq)
        await self._source.acknowledge(checkpoint.seq)


def age_s(at: datetime) -> float:
    """Seconds from ``at`` until now; 0 if the broker's clock is ahead of ours."""
    return max(0.0, (datetime.now(UTC) - at).total_seconds())
