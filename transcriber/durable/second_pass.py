"""The second pass over stored text: passages are transcribed again from the stored audio, when the worker is idle.

In: the messages of a stream as they are stored, and after a restart those that an earlier daemon had not done with. Out: jobs for
the worker, and ``revision`` messages, stored after the messages of that time; they may follow the session's ``end``.

Which windows make a passage depends on the stored messages alone, so the next daemon finds the same ones.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from transcriber.audio.session import Session, Silence, Window
from transcriber.audio.window_policy import WindowPolicies
from transcriber.bus.jetstream.client import FENCE
from transcriber.diarization.voices import KnownVoices
from transcriber.durable.stored_audio import StoredAudio
from transcriber.engine.job import Job, Lane
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.errors import RefusedError, UnansweredError
from transcriber.pipeline.channel_state import known_voices
from transcriber.pipeline.passages import Part, PartAudio, Passage, PassageAudio, Passages, audio_of
from transcriber.pipeline.revision import revise_text_or_speakers
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.second_pass import MOST_TRIES
from transcriber.pipeline.sinks import MessageSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.pipeline.word_alignment import PlacedWord
from transcriber.schema.checkpoint import Checkpoint, SpeakerState
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
from transcriber.text.phrases import CHANNELS

log = logging.getLogger(__name__)

OWED_S = 3600.0
"""Where more speech waits for its second pass, the oldest keeps its text."""

IDLE_POLL_S = 0.1
RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class _Waiting:
    """A passage that waits for its second pass; ``rate`` in Hz is the stream's."""

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
        sink: MessageSink,
        may_attempt: Callable[[], bool],
    ) -> None:
        """What is put into ``sink`` is stored after all messages before.

        ``may_attempt`` returns False while a crash would be blamed on something else.
        """
        self._name, self._worker, self._audio, self._runtime = name, worker, audio, runtime
        self._sink, self._may_attempt = sink, may_attempt
        self._counters = runtime.telemetry.counters(name)
        self._sessions: dict[str, dict[int, Passages]] = {}  # by channel
        self._speakers: dict[str, tuple[SpeakerState, ...]] = {}  # of open sessions, as of the last stored message
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._suspicious = False  # the first that waits may be what an earlier daemon died of
        self._skip_stored: asyncio.Future[None] | None = None  # resolves when it is stored that we skip it

    @property
    def done(self) -> bool:
        """Whether no passage waits."""
        return not self._waiting

    def owed_from(self, last_seq: int) -> int:
        """Sequence of a stored message: the next daemon must read those that follow; ``last_seq`` is of the last one."""
        firsts = [one.passage.parts[0] for one in self._waiting]
        firsts += [part for channels in self._sessions.values() for one in channels.values() if (part := one.first)]
        return min((part.stored_after for part in firsts), default=last_seq)

    def stored(self, message: AnyMessage, previous_seq: int) -> None:
        """``message`` was stored, right after that of ``previous_seq``."""
        self._note_voices(message)
        match message:
            case Status() if self._skip_stored and not self._skip_stored.done():
                self._skip_stored.set_result(None)
            case Final():
                self._add(
                    message, self._passages(message).add(Part.of_final(message, _final_id(message), previous_seq))
                )
            case SilenceMessage():
                self._add(message, self._passages(message).add(Part("", 0, message.start_frame, message.frames)))
            case Gap():
                for channel, passages in self._sessions.get(message.session, {}).items():
                    if message.speaker is None or channel == _channel(message):
                        passages.gap(message.start_frame, message.frames)
            case Revision():
                # An earlier daemon has revised it, or we have.
                done = set(message.replaces)
                self._waiting = deque(
                    one for one in self._waiting if done.isdisjoint(part.message_id for part in one.passage.finals)
                )
            case End():
                for channel, passages in self._sessions.pop(message.session, {}).items():
                    self._wait_for(message, channel, passages.end())
                self._speakers.pop(message.session, None)

    def _note_voices(self, message: AnyMessage) -> None:
        """Which voices its session had shown when it was stored; they are decoded where a passage waits."""
        state = message.checkpoint and message.checkpoint.session
        if state and state.id == message.session:
            self._speakers[state.id] = state.speakers

    def _known_voices(self, session: str, channel: int) -> KnownVoices:
        speakers = self._speakers.get(session, ())
        return known_voices(speakers[channel]) if channel < len(speakers) else ()

    async def read_back(self, seq: int, *, ours: bool) -> None:
        """Find what was stored after message ``seq`` and not revised; ``ours``: the last of it by this daemon.

        Raises:
            UnansweredError, RefusedError.
        """
        settings = self._runtime.settings
        subject = f"{settings.transcript_subject_prefix}.{self._name}.*"
        found: list[tuple[AnyMessage, int]] = []
        async for stored in self._audio.jetstream.messages(settings.transcript_stream, subject, seq + 1):
            with contextlib.suppress(ValueError):  # of another version, or not ours
                found.append((ANY_MESSAGE.validate_json(stored.payload), int(stored.headers.get(FENCE, 0))))
        # Reading may begin within a passage of another speaker that was revised.
        done = {name for message, _ in found if isinstance(message, Revision) for name in message.replaces}
        for message, previous_seq in found:
            if not isinstance(message, Final) or _final_id(message) not in done:
                self.stored(message, previous_seq)
        self._suspicious = bool(self._waiting) and not ours

    async def run(self) -> None:
        """Transcribe what waits while the worker is idle, until cancelled."""
        if self._suspicious:
            await self._skip_suspect(self._waiting[0])
        while True:
            queue = self._worker.queue
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            elif not (queue.idle and queue.has_room(Lane.SECOND_PASS) and self._may_attempt()):
                await asyncio.sleep(IDLE_POLL_S)
            else:
                await self._try_first()

    async def _skip_suspect(self, one: _Waiting) -> None:
        """An earlier daemon may have died of it: skip it, and store that first, so that the next daemon skips it, too."""
        self._suspicious = False
        self._skip(one, "suspect")
        first = one.passage.parts[0]
        status = Status(
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
        self._skip_stored = asyncio.get_running_loop().create_future()
        # The session has published less than one status for each message that was stored before.
        self._sink.put(lambda: status, session_traceparent(self._name, one.session), first.stored_after)
        await self._skip_stored

    def _passages(self, message: Final | SilenceMessage) -> Passages:
        channels = self._sessions.setdefault(message.session, {})
        voices = self._runtime.settings.speakers == "voices" and message.speaker not in CHANNELS
        return channels.setdefault(_channel(message), Passages(message.rate, in_order=True, voices=voices))

    def _add(self, message: Final | SilenceMessage, passages: list[Passage]) -> None:
        self._wait_for(message, _channel(message), passages)

    def _wait_for(self, message: AnyMessage, channel: int, passages: list[Passage]) -> None:
        for passage in passages:
            known = self._known_voices(message.session, channel)
            self._waiting.append(_Waiting(message.session, channel, message.rate, replace(passage, known=known)))
            self._arrived.set()
        while sum(one.passage.frames / one.rate for one in self._waiting) > OWED_S:
            self._skip(self._waiting[0], "busy")

    async def _try_first(self) -> None:
        one = self._waiting[0]
        try:
            await self._transcribe(one)
        except (UnansweredError, RefusedError) as error:
            log.debug("%s: %s", self._name, error)
            if isinstance(error, RefusedError):
                self._retry(one, "gone")
            await asyncio.sleep(RETRY_S)

    def _retry(self, one: _Waiting, why: SkippedRevision) -> None:
        """It failed; after ``MOST_TRIES`` it is skipped."""
        one.tries += 1
        if one.tries >= MOST_TRIES:
            self._skip(one, why)

    async def _transcribe(self, one: _Waiting) -> None:
        """Transcribe a passage again, and publish its revision."""
        first, last = one.passage.parts[0], one.passage.parts[-1]
        checkpoint = await self._audio.checkpoint(first.stored_after, one.session)
        found = await self._cut_again(one, checkpoint, last.last_seq) if checkpoint else None
        if checkpoint is None or checkpoint.session is None or found is None:
            self._skip(one, "gone")
            return
        session, pieces = found
        # Text that was stored before it, by an earlier daemon or by this one.
        channel, written = checkpoint.session.places[one.channel], checkpoint.session.speakers[one.channel].written
        before = tuple(PlacedWord(*word) for word in written.words) if channel.goes_on else ()
        one.passage = replace(one.passage, before=before)
        sound = audio_of(one.passage, pieces)
        output = StreamOutput(self._name, self._runtime, self._sink)
        output.add(session).restore(checkpoint.session)
        answered = await self._worker.transcribe(lambda settle: output.passage_job(session, one.passage, sound, settle))
        if answered is None:
            raise UnansweredError("the worker has other things to do")
        job, outcome = answered
        if not await self._audio.is_text_kept(first.stored_after):  # purged while it was transcribed
            self._skip(one, "gone")
        elif isinstance(outcome, Transcript):
            self._revise(one, output, session, job, outcome, sound)
        elif outcome.reason != "shutdown":
            self._retry(one, "busy")

    def _revise(
        self,
        one: _Waiting,
        output: StreamOutput,
        session: Session,
        job: Job,
        transcript: Transcript,
        sound: PassageAudio,
    ) -> None:
        output.note_speakers(job)
        better = revise_text_or_speakers(one.passage, job, transcript, one.rate, sound)
        if not isinstance(better, Transcript):
            self._skip(one, better)
            return
        if one in self._waiting:
            self._waiting.remove(one)
            output.revised(session, one.channel, one.passage, job, better)

    async def _cut_again(
        self, one: _Waiting, checkpoint: Checkpoint, last_seq: int | None
    ) -> tuple[Session, list[PartAudio]] | None:
        """The audio of the passage; None if it is not cut as it was, as by a daemon with another environment."""
        for policies in self._audio.ways(checkpoint, one.channel):
            if found := await self._cut_as(policies, one, checkpoint, last_seq):
                return found
        return None

    async def _cut_as(
        self, policies: WindowPolicies, one: _Waiting, checkpoint: Checkpoint, last_seq: int | None
    ) -> tuple[Session, list[PartAudio]] | None:
        wanted = deque((part.start_frame, part.frames) for part in one.passage.parts)
        pieces: list[PartAudio] = []
        async for event in self._audio.events(checkpoint, last_seq, policies):
            if not isinstance(event, Window | Silence) or event.session.id != one.session:
                continue
            if event.channel != one.channel or (event.start_frame, event.frames) != wanted[0]:
                continue
            wanted.popleft()
            pieces.append(PartAudio.of(event))
            if not wanted:
                return event.session, pieces
        return None

    def _skip(self, one: _Waiting, why: SkippedRevision) -> None:
        """Its text stays as it is."""
        if one in self._waiting:
            self._waiting.remove(one)
            self._counters.revisions_left_out[why] += 1


def _final_id(final: Final) -> str:
    return message_id(final.stream, final.session, final.start_frame, final.type, 0, _channel(final))


def _channel(message: Final | SilenceMessage | Gap) -> int:
    return int(message.speaker) if message.speaker in CHANNELS else 0
