"""One durable stream: stored payloads in, stored text out, each second of audio in one message, whichever process dies.

In: the audio of one subject, from a ``Consumer``. Out: messages in a ``TranscriptLog``. Between them the ``Windower`` writes an
``EventLog`` of what happened to the audio, and the ``Committer`` stores its messages. The last stored message is all that the next
daemon needs, and one daemon at a time is the owner of the stream.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum

from transcriber.audio.session import Session
from transcriber.durable.backfill import Backfill
from transcriber.durable.checkpoint import restore_resume_point, restore_session, without_audio
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
from transcriber.pipeline.session_output import SessionOutput
from transcriber.pipeline.sinks import BufferedSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.checkpoint import Checkpoint
from transcriber.tasks import cancel

log = logging.getLogger(__name__)

RETRY_S = 0.5

OTHER_POLL_S, OTHER_GONE_S = 0.5, 5.0
"""A daemon that was fenced off checks on the owner so often, and takes over when nothing has moved for so long."""


class _Audio(Enum):
    """What there is of the audio that a checkpoint resumes with."""

    WHOLE = "all that was not taken yet"
    REMOVED = "the stream's limits removed its beginning"
    RECREATED = "none of it: the audio stream was recreated"


class DurableStream:
    """Event loop only.

    Attributes:
        name: the subject's last token.
        worker: takes all windows of this stream.
        consumer: its audio.
        fenced: whether another daemon is the owner at present.
        giving_way: it takes no more audio, and ends when no request of ours waits at the broker.
        done_seq: when it is over, all payloads up to this sequence are done with; None: that is not certain.
    """

    def __init__(
        self,
        name: str,
        worker: Worker,
        slots: QueueSlots,
        consumer: Consumer,
        runtime: Runtime,
        repair: Callable[[], Awaitable[None]],
    ) -> None:
        """``repair`` makes or checks what ``consumer`` needs of JetStream; it may raise ``JetStreamError``."""
        self.name = name
        self.worker = worker
        self.consumer = consumer
        self.fenced = self.giving_way = False
        self.done_seq: int | None = None
        self._slots = slots
        self._runtime = runtime
        self._repair = repair
        self._transcripts = TranscriptLog(consumer.jetstream, name, runtime, runtime.telemetry.counters(name))
        self._windowing: asyncio.Task[None] | None = None
        self._exhausting: asyncio.Task[None] | None = None
        self._stopping = self._missing = False
        self._begin(Checkpoint(instance="", seq=1, attempts=0, session=None))

    def _begin(self, checkpoint: Checkpoint) -> None:
        """Resume where ``checkpoint`` says."""
        runtime, sink = self._runtime, BufferedSink()
        self._output = output = StreamOutput(self.name, runtime, sink)
        state = checkpoint.session
        session = restore_session(state, runtime.settings, output.settings, runtime.network) if state else None
        if session and state:
            output.add(session).restore(state)
        slots = self._slots if runtime.settings.durable else None
        resume_point = restore_resume_point(checkpoint, session)
        self._log = EventLog(self.worker, slots, output.jobs, resume_point, checkpoint.attempts)
        self._windower = Windower(self._log, output, self.consumer, self.worker, runtime)
        audio = StoredAudio(self.consumer.jetstream, self.consumer.subject, runtime, output.settings)
        shared = self.name, self.worker, audio, runtime, self._windower, self._may_attempt
        self._backfill = Backfill(*shared) if runtime.settings.backfill else None
        self._second_pass = StoredSecondPass(*shared) if runtime.settings.second_pass else None
        self._committer = Committer(
            self._log, output, sink, self._transcripts, self.consumer, runtime, self._backfill, self._second_pass
        )
        self.consumer.start(checkpoint.seq)

    def _may_attempt(self) -> bool:
        """Whether a crash could not be blamed on a window that earlier daemons may have died of."""
        return not (self._windower.wary and (self.session or len(self._log)))

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._windower.session

    @property
    def outputs(self) -> Mapping[Session, SessionOutput]:
        """The open session and those with text pending; none while another daemon is the owner."""
        return {} if self.fenced else self._output.sessions

    @property
    def stalled(self) -> bool:
        output = self._output.sessions.get(self.session) if self.session else None
        return output is not None and output.stalled

    @property
    def resting(self) -> bool:
        """Whether there is nothing to do, as far as is known, or nothing that could be done: the consumer is missing."""
        if self.giving_way or self._missing:
            return not self.giving_way
        serving = self._windowing is not None and not self._windowing.done()
        return serving and self.consumer.idle and not (self.session or len(self._log)) and self._owes_nothing

    @property
    def _owes_nothing(self) -> bool:
        return all(work.done for work in (self._backfill, self._second_pass) if work)

    @property
    def lag_s(self) -> float:
        """How long ago the oldest audio was stored that could be text by now; 0 if all of it is."""
        if oldest := self._log.oldest:
            return age_s(oldest.arrival.wall)
        return age_s(self._windower.heard_at) if self._windower.heard_at and self.consumer.pending else 0.0

    async def run(self, *, pinned: bool) -> None:
        """Serve the stream: until it is over, unless it is ``pinned``, or until it is drained."""
        await self._repair_until_whole()
        while not self._stopping:
            try:
                await self._wait_for_ownership()
                await self._resume()
                if not self._stopping:  # resuming may take long
                    await self._serve(pinned=pinned)
            except FencedError as error:
                self._yield_ownership(str(error))
            except RefusedError as error:
                self._runtime.warnings.warning("jetstream", "was refused: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
                await self._repair_until_whole()
            except UnansweredError as error:
                self._runtime.warnings.warning("jetstream", "cannot continue yet: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
            else:
                break
        if self.giving_way:  # a request that waits there would look like another daemon to the next owner
            self._exhausting = asyncio.create_task(self.consumer.wait_until_exhausted())
            await asyncio.wait({self._exhausting})
        if await self.consumer.release():
            self.done_seq = self.consumer.taken_seq

    def drain(self) -> None:
        """Take no more audio; what the worker does not finish is the next daemon's."""
        self._stopping, self.giving_way = True, False
        for task in (self._windowing, self._exhausting):
            if task:
                task.cancel()
        self._log.close()

    def give_way(self) -> None:
        """There is nothing to do here, and another stream that has something to do needs the slot."""
        self.drain()
        self.giving_way = True
        self.consumer.stop_pulling()

    async def _repair_until_whole(self) -> None:
        """Retry until all that is missing is there, made by us or by others."""
        while not self._stopping:
            try:
                await self._repair()
            except (JetStreamError, BrokerError) as error:
                self._missing = True
                self._runtime.warnings.warning("missing", "cannot continue: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
            else:
                self._missing = False
                return

    # One owner at a time.

    async def _wait_for_ownership(self) -> None:
        """Wait until no other daemon requests this audio; once fenced off, also until nothing has moved in it for a while."""
        seen, since_s = None, time.monotonic()
        while not self._stopping:
            info = await self.consumer.info()
            others = info["num_waiting"] - (self.consumer.pulling and not self.fenced)
            if others > 0:
                self._yield_ownership("it asks for audio")
            found = others, info["delivered"], info["ack_floor"]
            if seen is not None and found != seen:
                since_s = time.monotonic()
            seen = found
            if others <= 0 and time.monotonic() - since_s >= (OTHER_GONE_S if self.fenced else 0):
                await self.consumer.claim()
                break
            await asyncio.sleep(OTHER_POLL_S)
        self.fenced = False

    def _yield_ownership(self, why: str) -> None:
        if not self.fenced:
            self.fenced = True
            log.warning("fenced off: another daemon transcribes this stream", extra={"stream": self.name, "why": why})

    async def _resume(self) -> None:
        """After the last stored message; without one, from the first payload that was never acknowledged."""
        checkpoint = await self._transcripts.read()
        if checkpoint is None:
            info = await self.consumer.info()
            # A consumer that was recreated knows where it was to begin, not what was acknowledged before.
            seq = max(int(info["ack_floor"]["stream_seq"]) + 1, int(info["config"].get("opt_start_seq", 1)))
            checkpoint = Checkpoint(instance="", seq=seq, attempts=0, session=None)
        channels = checkpoint.session.places if checkpoint.session else ()
        found = await self._stored_audio(checkpoint)
        if found is not _Audio.WHOLE and await self.consumer.confirm_leader():
            found = await self._stored_audio(checkpoint)
        if found is _Audio.RECREATED:
            log.warning("the audio stream was recreated", extra={"stream": self.name})
        if lost := found is not _Audio.WHOLE:
            checkpoint = without_audio(checkpoint, 1 if found is _Audio.RECREATED else checkpoint.seq)
        self._begin(checkpoint)
        if lost:
            self._windower.mark_lost(channels)
        if self._backfill:
            await self._backfill.read_back()
        if self._second_pass:
            owed_from = self._transcripts.last_seq if checkpoint.owed_from is None else checkpoint.owed_from
            ours = checkpoint.instance == self._runtime.telemetry.instance
            await self._second_pass.read_back(owed_from, ours=ours)
        if checkpoint.session:
            extra = {"stream": self.name, "session": checkpoint.session.id, "seq": checkpoint.seq}
            log.info("session resumed", extra=extra)

    async def _stored_audio(self, checkpoint: Checkpoint) -> _Audio:
        """What there is of the audio from ``checkpoint`` on, as far as the broker that answers knows."""
        made_at, last_seq = await self.consumer.stream_history()
        if checkpoint.seq > last_seq + 1 or (self._transcripts.stored_at and made_at > self._transcripts.stored_at):
            return _Audio.RECREATED
        resumes = checkpoint.session is not None and checkpoint.seq <= last_seq
        return _Audio.REMOVED if resumes and await self.consumer.is_dropped(checkpoint.seq) else _Audio.WHOLE

    async def _serve(self, *, pinned: bool) -> None:
        """Cut windows and store their text, until one of the two ends."""
        later = [work for work in (self._backfill, self._second_pass) if work]
        self._windowing = asyncio.create_task(self._windower.run(lambda: not pinned and self._owes_nothing))
        committing = asyncio.create_task(self._committer.run())
        tasks = {self._windowing, committing, *(asyncio.create_task(work.run()) for work in later)}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                await asyncio.wait({committing})
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            await cancel(tasks)
