"""One durable stream: stored payloads in, stored text out, each second of audio in one message, whatever dies.

In: the audio of one subject, from a ``Consumer``. Out: messages in a ``TranscriptLog``. Between them the ``Windower`` writes an ``EventLog`` of what
happened to the audio, and the ``Committer`` stores what is told of it. The last stored message is all that the next daemon needs;
and of all daemons one has the stream.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from transcriber.audio.session import Session
from transcriber.durable.backfill import Backfill
from transcriber.durable.checkpoint import cursor_of, cut_loose, restored
from transcriber.durable.committer import Committer, age_s
from transcriber.durable.consumer import Consumer
from transcriber.durable.event_log import EventLog
from transcriber.durable.second_pass import StoredSecondPass
from transcriber.durable.stored_audio import StoredAudio
from transcriber.durable.transcript_log import TranscriptLog
from transcriber.durable.windower import Windower
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.errors import BrokerError, FencedError, JetStreamError, RefusedError, UnansweredError
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.sinks import BufferedSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.checkpoint import Checkpoint
from transcriber.tasks import cancel

log = logging.getLogger(__name__)

RETRY_S = 0.5

OTHER_POLL_S, OTHER_GONE_S = 0.5, 5.0
"""A daemon that was fenced off looks so often for the other one, and takes over when nothing has moved for so long."""


class DurableStream:
    """Event loop only.

    Attributes:
        name: the subject's last token.
        worker: takes all windows of this stream.
        feed: where its audio comes from.
        fenced: whether another daemon has this stream at present.
        giving_way: it takes no more, and ends when nothing of it waits at the broker.
        read: when it is over, the last payload of those that are all done with; None: that is not sure.
    """

    def __init__(
        self,
        name: str,
        worker: Worker,
        places: QueueSlots,
        feed: Consumer,
        runtime: Runtime,
        repair: Callable[[], Awaitable[None]],
    ) -> None:
        """``repair`` sees that all is there that ``feed`` needs of JetStream; it may raise ``JetStreamError``."""
        self.name = name
        self.worker = worker
        self.feed = feed
        self.fenced = self.giving_way = False
        self.read: int | None = None
        self._places = places
        self._runtime = runtime
        self._repair = repair
        self._ledger = TranscriptLog(feed.jetstream, name, runtime, runtime.telemetry.counters(name))
        self._taking: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._stopping = self._missing = False
        self._begin(Checkpoint(instance="", seq=1, attempts=0, session=None))

    def _begin(self, found: Checkpoint) -> None:
        """Go on where the last stored message says."""
        runtime, told = self._runtime, BufferedSink()
        self._report = report = StreamOutput(self.name, runtime, told)
        session = restored(found.session, runtime.settings, runtime.network) if found.session else None
        if session and found.session:
            report.add(session).restore(found.session)
        places = self._places if runtime.settings.durable else None
        self._log = EventLog(self.worker, places, report.jobs, cursor_of(found, session), found.attempts)
        self._intake = Windower(self._log, report, self.feed, self.worker, runtime)
        audio = StoredAudio(self.feed.jetstream, self.feed.subject, runtime)
        later = self.name, self.worker, audio, runtime, self._intake, self._is_well
        self._backfill = Backfill(*later) if runtime.settings.backfill else None
        self._second_pass = StoredSecondPass(*later) if runtime.settings.second_pass else None
        self._tale = Committer(
            self._log, report, told, self._ledger, self.feed, runtime, self._backfill, self._second_pass
        )
        self.feed.start(found.seq)

    def _is_well(self) -> bool:
        """Whether no window is suspected, or may soon be, that an earlier daemon died of it."""
        return not (self._intake.wary and (self.session or len(self._log)))

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._intake.session

    @property
    def stalled(self) -> bool:
        report = self._report.sessions.get(self.session) if self.session else None
        return report is not None and report.stalled

    @property
    def resting(self) -> bool:
        """Whether there is nothing to do, as far as is known, or nothing that could be done: the consumer is missing."""
        if self.giving_way or self._missing:
            return not self.giving_way
        serving = self._taking is not None and not self._taking.done()
        return serving and self.feed.idle and not (self.session or len(self._log)) and self._owes_nothing

    @property
    def _owes_nothing(self) -> bool:
        return all(work.done for work in (self._backfill, self._second_pass) if work)

    @property
    def lag_s(self) -> float:
        """How long ago the oldest audio was stored that could be text by now; 0 if all of it is."""
        if oldest := self._log.oldest:
            return age_s(oldest.arrival.wall)
        return age_s(self._intake.heard_at) if self._intake.heard_at and self.feed.pending else 0.0

    async def run(self, *, pinned: bool) -> None:
        """Serve the stream: until it is over, unless it is ``pinned``, or until it is drained."""
        await self._mend()
        while not self._stopping:
            try:
                await self._wait_for_turn()
                await self._go_on()
                if not self._stopping:  # it may be long ago that we were told
                    await self._serve(pinned=pinned)
            except FencedError as error:
                self._step_back(str(error))
            except RefusedError as error:
                self._runtime.warnings.warning("jetstream", "was refused: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
                await self._mend()
            except UnansweredError as error:
                self._runtime.warnings.warning("jetstream", "cannot go on yet: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
            else:
                break
        if self.giving_way:  # what waits there would look like another daemon to whoever serves it next
            self._leaving = asyncio.create_task(self.feed.wait_until_exhausted())
            await asyncio.wait({self._leaving})
        if await self.feed.release():
            self.read = self.feed.taken_seq

    def drain(self) -> None:
        """Take no more audio; what the worker does not finish is the next daemon's."""
        self._stopping, self.giving_way = True, False
        for task in (self._taking, self._leaving):
            if task:
                task.cancel()
        self._log.close()

    def give_way(self) -> None:
        """There is nothing to do here, and no place for another stream that has something to do."""
        self.drain()
        self.giving_way = True
        self.feed.stop_pulling()

    async def _mend(self) -> None:
        """Until all that is missing is there, be it that somebody else makes it."""
        while not self._stopping:
            try:
                await self._repair()
            except (JetStreamError, BrokerError) as error:
                self._missing = True
                self._runtime.warnings.warning("missing", "cannot go on: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
            else:
                self._missing = False
                return

    # One daemon at a time.

    async def _wait_for_turn(self) -> None:
        """Wait until nobody else asks for this audio; once fenced off, until nobody has moved on in it for a while, either."""
        seen, since_s = None, time.monotonic()
        while not self._stopping:
            info = await self.feed.info()
            others = info["num_waiting"] - (self.feed.pulling and not self.fenced)
            if others > 0:
                self._step_back("it asks for audio")
            found = others, info["delivered"], info["ack_floor"]
            if seen is not None and found != seen:
                since_s = time.monotonic()
            seen = found
            if others <= 0 and time.monotonic() - since_s >= (OTHER_GONE_S if self.fenced else 0):
                await self.feed.claim()
                break
            await asyncio.sleep(OTHER_POLL_S)
        self.fenced = False

    def _step_back(self, why: str) -> None:
        if not self.fenced:
            self.fenced = True
            log.warning("fenced off: another daemon transcribes this stream", extra={"stream": self.name, "why": why})

    async def _go_on(self) -> None:
        """From the last stored message on; without one, from what was never acknowledged."""
        found = await self._ledger.read()
        if found is None:
            info = await self.feed.info()
            # One that was made again knows nothing of what was acknowledged, but where it was to begin.
            seq = max(int(info["ack_floor"]["stream_seq"]) + 1, int(info["config"].get("opt_start_seq", 1)))
            found = Checkpoint(instance="", seq=seq, attempts=0, session=None)
        made_at, last_seq = await self.feed.stream_history()
        places, torn = found.session.places if found.session else (), True
        if found.seq > last_seq + 1 or (self._ledger.stored_at and made_at > self._ledger.stored_at):
            log.warning("the stream of the audio was made anew", extra={"stream": self.name})
            found = cut_loose(found, 1)
        elif found.session and found.seq <= last_seq and not await self.feed.is_stored(found.seq):
            found = cut_loose(found, found.seq)  # the limits of the stream took it
        else:
            torn = False
        self._begin(found)
        if torn:
            self._intake.mark_lost(places)
        if self._backfill:
            await self._backfill.read_back()
        if self._second_pass:
            owed_from = self._ledger.last_seq if found.owed_from is None else found.owed_from
            await self._second_pass.read_back(owed_from, ours=found.instance == self._runtime.telemetry.instance)
        if found.session:
            log.info("goes on", extra={"stream": self.name, "session": found.session.id, "seq": found.seq})

    async def _serve(self, *, pinned: bool) -> None:
        """Take and tell; until one of them ends."""
        later = [work for work in (self._backfill, self._second_pass) if work]
        self._taking = asyncio.create_task(self._intake.run(lambda: not pinned and self._owes_nothing))
        telling = asyncio.create_task(self._tale.run())
        tasks = {self._taking, telling, *(asyncio.create_task(work.run()) for work in later)}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                await asyncio.wait({telling})
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            await cancel(tasks)
