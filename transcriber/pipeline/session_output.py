"""The messages of one session.

In: events, and transcripts of its windows. Out: its ``status``, ``partial``, ``final``, ``revision``, ``silence``, ``gap`` and
``end``, for a ``MessageSink``.
"""

import math
import re
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.config import Settings, mask
from transcriber.engine.job import Job
from transcriber.engine.transcript import Transcript
from transcriber.pipeline.channel_state import ChannelState
from transcriber.pipeline.passages import Passage
from transcriber.pipeline.revision import published_turns
from transcriber.pipeline.sinks import MessageSink
from transcriber.pipeline.speakers import clipped, labels, speaker_of_most, turns_of
from transcriber.schema.checkpoint import SessionState
from transcriber.schema.messages import (
    MAX_DETAIL,
    End,
    Final,
    Gap as GapMessage,
    Partial,
    Revision,
    Silence as SilenceMessage,
    Status,
    StreamState,
    Timing,
    Turn,
    Word,
    message_id,
)
from transcriber.schema.stream_figures import MAX_MISSING
from transcriber.telemetry import session_traceparent


class SessionOutput:
    """Everything that is published of one session goes through here. Event loop only.

    Attributes:
        language: as its publisher has set it; None: that of the settings.
        prompt: names and terms that its publisher expects; whisper sees it before the text so far.
        speakers: one for each channel that is transcribed separately, or one for all.
        parent: ``traceparent`` of the latest payload that had one.
        stalled, silent: states that were published.
        shown_state: the latest that lasts: all but ``flushed``.
        last_text_at: when the latest words were sent; None: none were.
        lag_s: seconds from the arrival (durable: the storage) of the audio of the latest text, silence or gap until that was sent.
        counted_overlap: frames received twice, as far as they are counted.
        odd_unit: whether a warning was logged that offsets do not count frames.
        noticed: whether a warning was logged about the mixed channels.
        missing: the latest gaps of frames that were never received: first frame, and how many.
        statuses, unknown_gaps: how many were published; several can have the same frame, and their ids must differ.
    """

    def __init__(
        self, stream: str, session: Session, settings: Settings, sink: MessageSink, publisher: MessageSink
    ) -> None:
        """Partials go to ``publisher``, as the next one replaces a lost one; all else to ``sink``."""
        self.language: str | None = None
        self.prompt = ""
        self._settings = settings
        self.speakers = [ChannelState(settings) for _ in range(session.channels)]
        self.parent: str | None = None
        self.stalled = self.silent = self.odd_unit = False
        self.shown_state: StreamState = "started"
        self.last_text_at: datetime | None = None
        self.lag_s = 0.0
        self.counted_overlap = 0
        self.noticed = False
        self._stream = stream
        self._session = session
        self._sink, self._publisher = sink, publisher
        self._own_traceparent = session_traceparent(stream, session.id)
        self.statuses = self.unknown_gaps = 0
        self.missing: deque[tuple[int, int]] = deque(maxlen=MAX_MISSING)

    def state(self) -> dict[str, Any]:
        """What another daemon needs to resume, as fields of a ``SessionState``."""
        return {
            "traceparent": self.parent,
            "statuses": self.statuses,
            "unknown_gaps": self.unknown_gaps,
            "speakers": tuple(speaker.state() for speaker in self.speakers),
        }

    def restore(self, state: SessionState) -> None:
        """Resume from another daemon's state."""
        self.language, self.prompt, self.parent = state.language, state.prompt, state.traceparent
        self.statuses, self.unknown_gaps = state.statuses, state.unknown_gaps
        self.shown_state = "resumed"
        self.speakers = [ChannelState(self._settings, speaker) for speaker in state.speakers]

    def status(self, state: StreamState, frame: int | None = None) -> None:
        """The state changed at ``frame``; default: now."""
        at = self._session.clock if frame is None else frame
        self._put(Status(**self._range(at, 0, datetime.now(UTC)), state=state), rev=self.statuses)
        self.statuses += 1
        if state != "flushed":
            self.shown_state = state

    def gap(self, gap: Gap, received_at: datetime, traceparent: str | None = None) -> None:
        self.unknown_gaps += not gap.frames
        if gap.frames and gap.outcome is FrameOutcome.LOST:
            self.missing.append((gap.start_frame, gap.frames))
        self._note_sent(received_at)
        message = GapMessage(
            **self._range(gap.start_frame, gap.frames, received_at),
            reason=gap.reason,
            speaker=self._label(gap.channel),
            detail=None if gap.detail is None else _one_line(gap.detail),
            flushed=gap.flushed,
        )
        rev = 0 if gap.frames else self.unknown_gaps
        self._put(message, rev=rev, channel=gap.channel or 0, traceparent=traceparent)

    def silence(self, silence: Silence, received_at: datetime) -> None:
        self._note_sent(received_at)
        place = self._range(silence.start_frame, silence.frames, received_at)
        message = SilenceMessage(**place, speaker=self._label(silence.channel), flushed=silence.flushed)
        self._put(message, channel=silence.channel)

    def final(
        self,
        window: Window,
        job: Job,
        transcript: Transcript,
        *,
        received_at: datetime,
        traceparent: str,
        record: Callable[[Timing], None],
    ) -> None:
        """``record`` gets the timing, which is complete only when the message is sent."""

        def build() -> Final:
            timing = _timing(job, transcript)
            record(timing)
            self._note_sent(received_at, transcript.text)
            fields = self._transcribed(window, window.channel, transcript, received_at, job)
            return Final(
                **fields,
                rev=0,
                model=job.model,
                timing=timing,
                speech_final=window.cut.speech_final,
                flushed=window.flushed,
            )

        self._sink.put(build, traceparent, channel=window.channel)

    def revision(self, window: Window, job: Job, transcript: Transcript, *, instead: GapMessage) -> None:
        """Text for what was published as a gap."""
        gap_id = message_id(self._stream, self._session.id, instead.start_frame, instead.type, 0, window.channel)
        fields = self._transcribed(window, window.channel, transcript, instead.received_at, job) | {
            "last_segment": window.number,
            "replaces": (gap_id,),
            "speech_final": window.cut.speech_final,
            "first_seq": instead.first_seq,
            "last_seq": instead.last_seq,
        }
        self._put_revision(fields, job, transcript, window.channel)

    def second_pass(self, passage: Passage, channel: int, job: Job, transcript: Transcript) -> None:
        """Better text for several windows; times of ``transcript`` count from the passage's start."""
        last = passage.parts[-1]
        fields = self._transcribed(
            passage, channel, transcript, last.received_at or datetime.now(UTC), job, published_turns(passage)
        ) | {
            "last_segment": last.number,
            "replaces": tuple(part.message_id for part in passage.finals),
            "speech_final": last.over,
            "first_seq": passage.parts[0].first_seq,
            "last_seq": last.last_seq,
        }
        self._put_revision(fields, job, transcript, channel)

    def _put_revision(self, fields: dict[str, Any], job: Job, transcript: Transcript, channel: int) -> None:
        def build() -> Revision:
            return Revision(**fields, rev=1, model=job.model, timing=_timing(job, transcript))

        self._sink.put(build, self.parent or self._own_traceparent, 1, channel)

    def partial(self, window: Window, job: Job, transcript: Transcript, *, rev: int, received_at: datetime) -> None:
        """Text so far; ``window`` is the open one as far as it was transcribed."""

        def build() -> Partial:
            self._note_sent(received_at, transcript.text)
            fields = self._transcribed(window, window.channel, transcript, received_at, job)
            return Partial(**fields, rev=rev, model=job.model, timing=_timing(job, transcript), speech_final=False)

        self._publisher.put(build, self.parent or self._own_traceparent, rev, window.channel)

    def end(self) -> None:
        """The session's frame account; the last of its messages."""
        session = self._session
        account = {"received": session.received} | {
            outcome.name.lower(): session.account[outcome] for outcome in FrameOutcome
        }
        self._put(
            End(
                **self._range(0, session.clock, datetime.now(UTC)),
                segments=session.segments,
                **{f"{name}_frames": frames for name, frames in account.items()},
                **{f"{name}_s": frames / session.rate for name, frames in account.items()},
            )
        )

    def _put(
        self,
        message: Status | SilenceMessage | GapMessage | End,
        *,
        rev: int = 0,
        channel: int = 0,
        traceparent: str | None = None,
    ) -> None:
        self._sink.put(lambda: message, traceparent or self.parent or self._own_traceparent, rev, channel)

    def _note_sent(self, received_at: datetime, text: str = "") -> None:
        """Text, a silence or a gap is sent, of audio that arrived at ``received_at``."""
        now = datetime.now(UTC)
        self.lag_s = max(0.0, (now - received_at).total_seconds())
        if text.strip():
            self.last_text_at = now

    @property
    def mixed(self) -> bool:
        """Whether all who speak are in one channel, where voices may tell who does; a session stays as it began."""
        return len(self.speakers) == 1

    def _label(self, channel: int | None) -> str | None:
        """The channel's ``speaker``, where channels are transcribed separately."""
        return None if channel is None or self.mixed else str(channel)

    def check_silence(self, frame: int) -> None:
        """Publish ``silent`` when audio has no words for a while, and ``resumed`` when it has again."""
        quiet_frames = min(speaker.quiet_frames for speaker in self.speakers)
        silent = quiet_frames >= self._settings.silence_timeout_secs * self._session.rate
        if silent != self.silent:
            self.silent = silent
            self.status("silent" if silent else "resumed", frame)

    def _transcribed(
        self,
        window: Window | Passage,
        channel: int,
        transcript: Transcript,
        received_at: datetime,
        job: Job,
        turns_before: tuple[Turn, ...] | None = None,
    ) -> dict[str, Any]:
        """The fields of text, of a window or of several together; ``turns_before`` were published, and count where ``job`` has found none."""
        start_s, rate = window.start_frame / self._session.rate, self._session.rate
        words, speaker = _words(transcript, start_s), self._label(channel)
        turns = turns_of(job.speakers, start_s - job.lead_s)
        turns = turns_before if turns is None else turns
        if turns is not None:
            times = [(word.start, word.end) for word in words or ()]
            before = labels(times, turns_before or ())
            found = [one or other for one, other in zip(labels(times, turns), before, strict=True)]
            speaker = speaker_of_most(found)
            words = words and tuple(
                word.model_copy(update={"speaker": one}) for word, one in zip(words, found, strict=True)
            )
            turns = clipped(turns, start_s, (window.start_frame + window.frames) / rate)
        return self._range(window.start_frame, window.frames, received_at) | {
            "segment": window.number,
            "text": transcript.text,
            "suppressed": transcript.suppressed,
            "words": words,
            "language": transcript.language,
            "confidence": None if transcript.avg_logprob is None else math.exp(transcript.avg_logprob),
            "avg_logprob": transcript.avg_logprob,
            "no_speech_prob": transcript.no_speech_prob,
            "speaker": speaker,
            "turns": turns,
            "captured_at": window.captured_at,
        }

    def _range(self, start_frame: int, frames: int, received_at: datetime) -> dict[str, Any]:
        """The fields that every message has."""
        rate = self._session.rate
        return {
            "stream": self._stream,
            "session": self._session.id,
            "rate": rate,
            "start_frame": start_frame,
            "frames": frames,
            "start": start_frame / rate,
            "duration": frames / rate,
            "received_at": received_at,
        }


def _one_line(text: str) -> str:
    """``text`` as a ``detail``: printable ASCII, whatever of a publisher's it quotes."""
    line = re.sub(r"[^ -~]", lambda odd: odd[0].encode("unicode_escape").decode(), mask(text))
    return line if len(line) <= MAX_DETAIL else f"{line[: MAX_DETAIL - 3]}..."


def _timing(job: Job, transcript: Transcript) -> Timing:
    """Where the time went, if the message is sent now."""
    now_s = time.monotonic()
    return Timing(
        queue_ms=1000 * (job.started_s - job.enqueued_s),
        processing_ms=1000 * transcript.processing_s,
        handover_ms=1000 * (now_s - job.finished_s),
        end_to_end_ms=1000 * (now_s - job.arrived_s),
        rtf=transcript.processing_s / job.duration_s,
    )


def _words(transcript: Transcript, start_s: float) -> tuple[Word, ...] | None:
    """The words in seconds of the session; the window begins at ``start_s``."""
    if transcript.words is None:
        return None
    return tuple(
        Word(word=w.word, start=start_s + w.start_s, end=start_s + w.end_s, confidence=w.confidence)
        for w in transcript.words
    )
