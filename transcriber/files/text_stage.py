"""One file becomes stored text: a durable stream whose audio comes out of the object store.

In: the pieces of a file. Out: its messages in a ``TranscriptLog``, each with the place where to go on. Whoever takes over after a
death reads the file again up to there, and cuts what is not stored yet the same way.
"""

import asyncio
from collections.abc import Awaitable, Callable

from transcriber.bus.jetstream.client import JetStream
from transcriber.config import Settings
from transcriber.durable.checkpoint import cursor_of, restored
from transcriber.durable.committer import Committer
from transcriber.durable.event_log import EventLog
from transcriber.durable.transcript_log import TranscriptLog
from transcriber.durable.windower import Windower
from transcriber.engine.job import Lane
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.files.payloads import FilePayloads
from transcriber.pipeline.runtime import RequestOptions, Runtime
from transcriber.pipeline.sinks import BufferedSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.file_jobs import Submission
from transcriber.tasks import cancel

NO_HOLE_IS_TOO_LONG_S = 1e9


def file_settings(settings: Settings, submission: Submission) -> Settings:
    """How a file is heard: in long windows cut at pauses, which are the same whoever cuts them."""
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
        self, submission: Submission, worker: Worker, places: QueueSlots, jetstream: JetStream, runtime: Runtime
    ) -> None:
        """``runtime`` has the settings of this file; windows wait for their turn in ``places``."""
        self._job, self._wish = submission.job, RequestOptions(submission.task == "translate", submission.prompt)
        self._worker, self._places, self._runtime = worker, places, runtime
        self._ledger = TranscriptLog(jetstream, submission.job, runtime, runtime.telemetry.counters())
        self._report: StreamOutput | None = None
        self._log: EventLog | None = None
        self._taking: asyncio.Task[None] | None = None
        self._stopping = False
        self._done_s = 0.0

    async def stored_s(self) -> float:
        """Seconds of the file whose text is stored, by any daemon: its pieces are a second each, as a rule.

        Raises:
            RefusedError, UnansweredError.
        """
        found = await self._ledger.read()
        return float(found.seq - 1) if found else 0.0

    async def run(self, read: Callable[[Checkpoint], Awaitable[FilePayloads]]) -> bool:
        """Until all of it is stored, which may have been so before, or until it is stopped; returns which.

        ``read`` opens the file where its argument says to go on.

        Raises:
            FencedError: another daemon has this file.
            RefusedError, UnansweredError: the text cannot be stored.
            MediaError: there is no audio in it that could be read.
        """
        found = await self._ledger.read()
        if found and found.session is None and found.seq > 1:
            return True
        found = found or Checkpoint(instance="", seq=1, attempts=0, session=None)
        tasks = self._begin(found, await read(found))
        taking, telling = tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                await asyncio.wait({telling})
            elif taking.done() and not taking.cancelled() and taking.exception() is None and self._log is not None:
                await self._told(self._log, telling)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            self._log = None
            await cancel(tasks)
        return not self._stopping

    def stop(self) -> bool:
        """Take no more audio; what the worker does not finish is the next daemon's. False if ``run`` will not end because of that."""
        self._stopping = True
        if self._taking:
            self._taking.cancel()
        if self._log is not None:
            self._log.close()
        return self._log is not None

    @property
    def done_s(self) -> float:
        """Seconds of the file that became text, silence or a gap."""
        for session in self._report.sessions if self._report else ():
            self._done_s = session.account.settled / session.rate
        return self._done_s

    def _begin(self, found: Checkpoint, feed: FilePayloads) -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        """Take and tell, from where the last stored message says."""
        runtime, told = self._runtime, BufferedSink()
        self._report = report = StreamOutput(self._job, runtime, told, self._wish)
        session = restored(found.session, runtime.settings, runtime.network) if found.session else None
        if session and found.session:
            report.add(session).restore(found.session)
        cursor = cursor_of(found, session)
        self._log = EventLog(self._worker, self._places, report.jobs, cursor, found.attempts)
        intake = Windower(self._log, report, feed, self._worker, runtime, Lane.FILE)
        tale = Committer(self._log, report, told, self._ledger, feed, runtime)
        if self._stopping:
            self._log.close()
        self._taking = asyncio.create_task(intake.run(lambda: True))
        return self._taking, asyncio.create_task(tale.run())

    @staticmethod
    async def _told(log: EventLog, telling: asyncio.Task[None]) -> None:
        """All was taken: wait until all is stored, or cannot be."""
        emptied = asyncio.create_task(log.emptied())
        await asyncio.wait({emptied, telling}, return_when=asyncio.FIRST_COMPLETED)
        await cancel({emptied})
