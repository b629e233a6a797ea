"""One file becomes stored text: a durable stream whose audio is in the object store.

In: the payloads of a file. Out: its messages in a ``TranscriptLog``, each with the point where audio resumes after it. The daemon
that resumes after a crash reads the file from there, and cuts what is not stored yet in the same way.
"""

import asyncio

from transcriber.bus.jetstream.client import JetStream
from transcriber.config import Settings
from transcriber.durable.checkpoint import restore_resume_point, restore_session
from transcriber.durable.committer import Committer
from transcriber.durable.event_log import EventLog
from transcriber.durable.payload_source import PayloadSource
from transcriber.durable.transcript_log import TranscriptLog
from transcriber.durable.windower import Windower
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.pipeline.runtime import RequestOptions, Runtime
from transcriber.pipeline.sinks import BufferedSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.file_jobs import Submission
from transcriber.tasks import cancel

NO_HOLE_IS_TOO_LONG_S = 1e9


def file_settings(settings: Settings, submission: Submission) -> Settings:
    """How a file is transcribed: in long windows cut at pauses, which every daemon cuts in the same way."""
    apart = submission.speakers or settings.speakers
    return settings.model_copy(
        update={
            "durable": True,
            "backfill": False,
            "second_pass": False,
            "buffer_duration_secs": settings.file_window_secs,
            "buffer_cut": "quiet",
            "left_context_secs": 0.0,
            "endpoint_silence_secs": 0.0,
            "partial_interval_secs": 0.0,
            "max_hole_secs": NO_HOLE_IS_TOO_LONG_S,
            "speakers": "channels" if apart == "channels" else "mix",
            "whisper_language": submission.language or settings.whisper_language,
        }
    )


class TextStage:
    """Event loop only."""

    def __init__(
        self, submission: Submission, worker: Worker, slots: QueueSlots, jetstream: JetStream, runtime: Runtime
    ) -> None:
        """``runtime`` has the settings of this file; windows wait for their turn in ``slots``."""
        self._job, self._options = submission.job, RequestOptions(submission.task == "translate", submission.prompt)
        self._worker, self._slots, self._runtime = worker, slots, runtime
        self._transcripts = TranscriptLog(jetstream, submission.job, runtime, runtime.telemetry.counters())
        self._output: StreamOutput | None = None
        self._log: EventLog | None = None
        self._windowing: asyncio.Task[None] | None = None
        self._stopping = False
        self._done_s = 0.0

    async def stored_s(self) -> float:
        """Seconds of the file whose text is stored, by any daemon: its pieces are a second each, as a rule.

        Raises:
            RefusedError, UnansweredError.
        """
        checkpoint = await self._transcripts.read()
        return float(checkpoint.seq - 1) if checkpoint else 0.0

    async def checkpoint(self) -> Checkpoint | None:
        """Where ``run`` must resume; None if all text is stored.

        Raises:
            RefusedError, UnansweredError.
        """
        checkpoint = await self._transcripts.read()
        if checkpoint and checkpoint.session is None and checkpoint.seq > 1:
            return None
        return checkpoint or Checkpoint(instance="", seq=1, attempts=0, session=None)

    async def run(self, checkpoint: Checkpoint, payloads: PayloadSource) -> bool:
        """Store the text of ``payloads``, which begin at ``checkpoint``; False if it was stopped before all was stored.

        Raises:
            FencedError: another daemon has this file.
            RefusedError, UnansweredError: the text cannot be stored.
            MediaError: there is no audio in it that could be read.
        """
        tasks = self._begin(checkpoint, payloads)
        windowing, committing = tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                await asyncio.wait({committing})
            elif (
                windowing.done()
                and not windowing.cancelled()
                and windowing.exception() is None
                and self._log is not None
            ):
                await self._wait_until_stored(self._log, committing)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            self._log = None
            await cancel(tasks)
        return not self._stopping

    def stop(self) -> bool:
        """Take no more audio; what the worker does not finish is the next daemon's. False if ``run`` is not running."""
        self._stopping = True
        if self._windowing:
            self._windowing.cancel()
        if self._log is not None:
            self._log.close()
        return self._log is not None

    @property
    def done_s(self) -> float:
        """Seconds of the file that became text, silence or a gap."""
        for session in self._output.sessions if self._output else ():
            self._done_s = session.account.settled / session.rate
        return self._done_s

    def _begin(self, checkpoint: Checkpoint, payloads: PayloadSource) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        """Cut windows, and store their text."""
        runtime, sink, state = self._runtime, BufferedSink(), checkpoint.session
        self._output = output = StreamOutput(self._job, runtime, sink, self._options)
        session = restore_session(state, runtime.settings, output.settings, runtime.network) if state else None
        if session and state:
            output.add(session).restore(state)
        resume_point = restore_resume_point(checkpoint, session)
        self._log = EventLog(self._worker, self._slots, output.jobs, resume_point, checkpoint.attempts)
        windower = Windower(self._log, output, payloads, self._worker, runtime, self._slots.lane)
        committer = Committer(self._log, output, sink, self._transcripts, payloads, runtime)
        if self._stopping:
            self._log.close()
        self._windowing = asyncio.create_task(windower.run(lambda: True))
        return self._windowing, asyncio.create_task(committer.run())

    @staticmethod
    async def _wait_until_stored(log: EventLog, committing: asyncio.Task[None]) -> None:
        """All audio was taken: wait until all is stored, or cannot be."""
        emptied = asyncio.create_task(log.wait_until_empty())
        await asyncio.wait({emptied, committing}, return_when=asyncio.FIRST_COMPLETED)
        await cancel({emptied})
