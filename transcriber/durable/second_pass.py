"""The second pass over stored text: what has been said is heard again from the stored audio, when the worker has nothing else to do.

In: the messages of a stream as they are stored, and after a restart those of which an earlier daemon had not done with. Out: jobs for the
worker, and ``revision`` messages, stored after whatever has been told by then; they may come after the session's ``end``.

Which windows make a passage depends on the stored messages alone, so whoever comes after us finds the same ones.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from transcriber.audio.session import Session, Silence, Window
from transcriber.bus.jetstream.client import FENCE
from transcriber.durable.stored_audio import StoredAudio
from transcriber.engine.job import Job, Lane
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.errors import RefusedError, UnansweredError
from transcriber.pipeline.passages import Part, PartAudio, Passage, PassageAudio, Passages, audio_of
from transcriber.pipeline.revision import revise
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.second_pass import MOST_TRIES
from transcriber.pipeline.sinks import MessageSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.pipeline.word_alignment import PlacedWord
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.messages import (
    ANY_MESSAGE,
    AnyMessage,
    End,
    Final,
    Gap,
    Revision,
    Silence as SilenceMessage,
    SkippedRevision,
    Status,
    message_id,
)
from transcriber.telemetry import session_traceparent

log = logging.getLogger(__name__)

OWED_S = 3600.0
"""Of more speech that waits for its second pass, the oldest stays as it was told."""

IDLE_POLL_S = 0.1
RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class _Waiting:
    """A passage that nobody has heard again; ``rate`` in Hz is the stream's."""

    session: str
    channel: int
    rate: int
    passage: Passage
    tries: int = 0


class StoredSecondPass:
    """Of one stream. Event loop only."""

    def __init__(
        self,
        name: str,
        worker: Worker,
        audio: StoredAudio,
        runtime: Runtime,
        outbox: MessageSink,
        may_try: Callable[[], bool],
    ) -> None:
        """What is put into ``outbox`` is stored after all that was told before.

        ``may_try`` says whether the death of us would not be laid to the charge of something else.
        """
        self._name, self._worker, self._audio, self._runtime = name, worker, audio, runtime
        self._outbox, self._may_try = outbox, may_try
        self._counters = runtime.telemetry.counters(name)
        self._sessions: dict[str, dict[int, Passages]] = {}  # by channel
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._suspicious = False  # the first that waits may be what an earlier daemon died of
        self._marked: asyncio.Future[None] | None = None  # resolves when it is stored that we leave it

    @property
    def done(self) -> bool:
        """Whether no passage waits."""
        return not self._waiting

    def owed_from(self, last_seq: int) -> int:
        """Sequence of a stored message: whoever comes after us must read those that follow; ``last_seq`` is of the last one."""
        firsts = [one.passage.parts[0] for one in self._waiting]
        firsts += [part for channels in self._sessions.values() for one in channels.values() if (part := one.first)]
        return min((part.stored_after for part in firsts), default=last_seq)

    def stored(self, message: AnyMessage, previous_seq: int) -> None:
        """``message`` was stored, right after that of ``previous_seq``."""
        match message:
            case Status() if self._marked and not self._marked.done():
                self._marked.set_result(None)
            case Final():
                self._add(message, self._of(message).add(Part.of_final(message, _final_id(message), previous_seq)))
            case SilenceMessage():
                self._add(message, self._of(message).add(Part("", 0, message.start_frame, message.frames)))
            case Gap():
                for channel, passages in self._sessions.get(message.session, {}).items():
                    if message.speaker is None or channel == _channel(message):
                        passages.gap(message.start_frame, message.frames)
            case Revision():
                # An earlier daemon has heard it, or we have.
                done = set(message.replaces)
                self._waiting = deque(
                    one for one in self._waiting if done.isdisjoint(part.message_id for part in one.passage.finals)
                )
            case End():
                for channel, passages in self._sessions.pop(message.session, {}).items():
                    self._wait_for(message, channel, passages.end())

    async def read_back(self, seq: int, *, ours: bool) -> None:
        """What was told after message ``seq``, and nobody has heard again; ``ours``: the last of it by ourselves.

        Raises:
            UnansweredError, RefusedError.
        """
        settings = self._runtime.settings
        subject = f"{settings.transcript_subject_prefix}.{self._name}.*"
        found: list[tuple[AnyMessage, int]] = []
        async for stored in self._audio.jetstream.messages(settings.transcript_stream, subject, seq + 1):
            with contextlib.suppress(ValueError):  # of another version, or not ours
                found.append((ANY_MESSAGE.validate_json(stored.payload), int(stored.headers.get(FENCE, 0))))
        # We may begin in the midst of a passage of another speaker, who is done with it.
        done = {name for message, _ in found if isinstance(message, Revision) for name in message.replaces}
        for message, previous_seq in found:
            if not isinstance(message, Final) or _final_id(message) not in done:
                self.stored(message, previous_seq)
        self._suspicious = bool(self._waiting) and not ours

    async def run(self) -> None:
        """Hear what waits while nothing else is to be done, until cancelled."""
        if self._suspicious:
            await self._leave_suspect(self._waiting[0])
        while True:
            queue = self._worker.queue
            if not self._waiting:
                self._news.clear()
                await self._news.wait()
            elif not (queue.idle and queue.has_room(Lane.SECOND_PASS) and self._may_try()):
                await asyncio.sleep(IDLE_POLL_S)
            else:
                await self._try_first()

    async def _leave_suspect(self, one: _Waiting) -> None:
        """An earlier daemon may have died of it, and ours shall be the last: so whoever comes after us finds that it is left."""
        self._suspicious = False
        self._leave(one, "suspect")
        first = one.passage.parts[0]
        mark = Status(
            stream=self._name,
            session=one.session,
            rate=one.rate,
            start_frame=first.start_frame,
            frames=0,
            start=first.start_frame / one.rate,
            duration=0.0,
            received_at=datetime.now(UTC),
            state="resumed",
        )
        self._marked = asyncio.get_running_loop().create_future()
        # The session told less than one status for each message that was stored before.
        self._outbox.put(lambda: mark, session_traceparent(self._name, one.session), first.stored_after)
        await self._marked

    def _of(self, message: Final | SilenceMessage) -> Passages:
        channels = self._sessions.setdefault(message.session, {})
        return channels.setdefault(_channel(message), Passages(message.rate, in_order=True))

    def _add(self, message: Final | SilenceMessage, passages: list[Passage]) -> None:
        self._wait_for(message, _channel(message), passages)

    def _wait_for(self, message: AnyMessage, channel: int, passages: list[Passage]) -> None:
        for passage in passages:
            self._waiting.append(_Waiting(message.session, channel, message.rate, passage))
            self._news.set()
        while sum(one.passage.frames / one.rate for one in self._waiting) > OWED_S:
            self._leave(self._waiting[0], "busy")

    async def _try_first(self) -> None:
        one = self._waiting[0]
        try:
            await self._hear(one)
        except (UnansweredError, RefusedError) as error:
            log.debug("%s: %s", self._name, error)
            if isinstance(error, RefusedError):
                self._try_again(one, "gone")
            await asyncio.sleep(RETRY_S)

    def _try_again(self, one: _Waiting, why: SkippedRevision) -> None:
        """It did not work; nor for ever."""
        one.tries += 1
        if one.tries >= MOST_TRIES:
            self._leave(one, why)

    async def _hear(self, one: _Waiting) -> None:
        """Hear a passage again, and tell."""
        first, last = one.passage.parts[0], one.passage.parts[-1]
        mark = await self._audio.mark(first.stored_after, one.session)
        found = await self._cut_again(one, mark, last.last_seq) if mark else None
        if mark is None or mark.session is None or found is None:
            self._leave(one, "gone")
            return
        session, pieces = found
        # What was told before it, be it by an earlier daemon.
        place, written = mark.session.places[one.channel], mark.session.speakers[one.channel].written
        before = tuple(PlacedWord(*word) for word in written.words) if place.goes_on else ()
        one.passage = replace(one.passage, before=before)
        sound = audio_of(one.passage, pieces)
        report = StreamOutput(self._name, self._runtime, self._outbox)
        report.add(session).restore(mark.session)
        answered = await self._worker.transcribe(lambda settle: report.passage_job(session, one.passage, sound, settle))
        if answered is None:
            raise UnansweredError("the worker has other things to do")
        job, outcome = answered
        if isinstance(outcome, Transcript):
            self._tell(one, report, session, job, outcome, sound)
        elif outcome.reason != "shutdown":
            self._try_again(one, "busy")

    def _tell(
        self, one: _Waiting, report: StreamOutput, session: Session, job: Job, answer: Transcript, sound: PassageAudio
    ) -> None:
        better = revise(one.passage, answer, one.rate, sound)
        if not isinstance(better, Transcript):
            self._leave(one, better)
            return
        if one in self._waiting:
            self._waiting.remove(one)
            report.revised(session, one.channel, one.passage, job, better)

    async def _cut_again(
        self, one: _Waiting, mark: Checkpoint, last_seq: int | None
    ) -> tuple[Session, list[PartAudio]] | None:
        """What can be heard of the passage; None if it is not cut as it was, as after other settings."""
        wanted = deque((part.start_frame, part.frames) for part in one.passage.parts)
        pieces: list[PartAudio] = []
        async for event in self._audio.events(mark, last_seq):
            if not isinstance(event, Window | Silence) or event.session.id != one.session:
                continue
            if event.channel != one.channel or (event.start_frame, event.frames) != wanted[0]:
                continue
            wanted.popleft()
            pieces.append(PartAudio.of(event, self._runtime.settings.speech_threshold))
            if not wanted:
                return event.session, pieces
        return None

    def _leave(self, one: _Waiting, why: SkippedRevision) -> None:
        """Its text stays as it was told."""
        if one in self._waiting:
            self._waiting.remove(one)
            self._counters.revisions_left_out[why] += 1


def _final_id(final: Final) -> str:
    return message_id(final.stream, final.session, final.start_frame, final.type, 0, _channel(final))


def _channel(message: Final | SilenceMessage | Gap) -> int:
    return int(message.speaker or 0)
