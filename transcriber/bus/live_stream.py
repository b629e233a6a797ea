"""One live stream: payloads in, what became of them out.

In: messages of one subject. Out: jobs for the stream's worker, and ``status``, ``final``, ``gap`` and
``end`` for the publisher.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.session import Gap, Session, Window
from transcriber.audio.stream import Ended, Event, Started, Stream
from transcriber.bus.publisher import Publisher
from transcriber.config import Settings
from transcriber.engine.job import Job, SpeechModel, Transcript
from transcriber.engine.worker import Outcome, Worker
from transcriber.errors import BadInputError, EngineError
from transcriber.logs import RateLimited
from transcriber.messages import (
    End,
    Final,
    Gap as GapMessage,
    GapReason,
    Status,
    StreamState,
    Timing,
    Word,
    message_id,
)
from transcriber.telemetry import Telemetry, session_traceparent, valid_traceparent
from transcriber.ulid import new_ulid

QUEUE_FULL = EngineError("the queue is full", reason="queue_full")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all streams of a daemon share."""

    settings: Settings
    model: SpeechModel
    publisher: Publisher
    telemetry: Telemetry
    warnings: RateLimited


@dataclass(frozen=True, slots=True)
class _Arrival:
    """When a payload came: monotonic seconds, and the wall clock."""

    at_s: float = field(default_factory=time.monotonic)
    wall: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class _Report:
    """What has been told about one session, beside its account.

    Attributes:
        language: what the publisher asked for, or what was detected once.
        own_traceparent: for what is published while the publisher sends none.
        parent: ``traceparent`` of the latest payload that had one.
        quiet_frames: frames since the last word.
        overlap: frames that came twice, as far as they are counted.
        stalled, silent: the states that were published.
        statuses, unknown_gaps: how many so far; they tell apart what happens at one frame.
    """

    language: str | None
    own_traceparent: str
    parent: str | None = None
    quiet_frames: int = 0
    overlap: int = 0
    stalled: bool = False
    silent: bool = False
    statuses: int = 0
    unknown_gaps: int = 0

    @property
    def traceparent(self) -> str:
        return self.parent or self.own_traceparent


class LiveStream:
    """Event loop only.

    Attributes:
        name: the subject's last token.
        worker: takes all windows of this stream.
        seen_s, heard_s: live time of the last payload, and of the last one with audio.
    """

    def __init__(self, name: str, worker: Worker, around: Surroundings, live_s: float) -> None:
        settings = around.settings
        self.name = name
        self.worker = worker
        self.seen_s = self.heard_s = live_s
        self._around = around
        self._audio = Stream(
            settings.input, window_s=settings.buffer_duration_secs, max_hole_s=settings.max_hole_secs, new_id=new_ulid
        )
        self._counters = around.telemetry.counters(name)
        self._reports: dict[Session, _Report] = {}  # of the open session and of those that still wait for text
        self._drops: deque[int] = deque()  # numbers of the messages after which the client dropped some
        self._reconnected = False

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._audio.session

    @property
    def over(self) -> bool:
        """Whether no session is open and none waits for its text."""
        return not self._reports

    @property
    def stalled(self) -> bool:
        session = self.session
        report = self._reports.get(session) if session else None
        return report is not None and report.stalled

    def receive(self, payload: bytes, headers: Mapping[str, str] | None, number: int, live_s: float) -> None:
        """Take message ``number`` of the subscription, at ``live_s`` of live time."""
        arrival = _Arrival()
        self._counters.chunks_received += 1
        self.seen_s = live_s
        parsed = NO_HEADERS
        try:
            parsed = parse_headers(headers)
            events = self._audio.feed(payload, parsed, self._lost_before(number))
            if payload:
                self.heard_s = live_s
        except BadInputError as error:
            self._counters.chunks_dropped["bad_input"] += 1
            self._around.warnings.warning("bad_input", "payload skipped: %s", error, stream=self.name)
            events = self._audio.skip()
        if self.session in self._reports:
            self._note(self.session, parsed)
        self._handle(events, parsed, arrival)

    def dropped_after(self, number: int) -> None:
        """The NATS client dropped a message that came after message ``number``."""
        self._counters.chunks_dropped["slow_consumer"] += 1
        if not self._drops or self._drops[-1] != number:
            self._drops.append(number)

    def reconnected(self) -> None:
        """The connection was away: something may have been lost."""
        self._reconnected = True

    def end(self) -> None:
        """No more audio will come: idle, or shutdown."""
        self._handle(self._audio.end(self._lost_before(sys.maxsize)), NO_HEADERS, _Arrival())

    def check_stalled(self, live_s: float) -> None:
        """Tell when nothing comes any more, not even a heartbeat."""
        late = live_s - self.seen_s >= self._around.settings.heartbeat_timeout_secs
        if self.session and late and not self._reports[self.session].stalled:
            self._reports[self.session].stalled = True
            self._status(self.session, "stalled")

    def _lost_before(self, number: int) -> GapReason | None:
        """Why messages may be missing before message ``number``, if they may."""
        reason: GapReason | None = "lost_input" if self._reconnected else None
        self._reconnected = False
        while self._drops and self._drops[0] < number:
            self._drops.popleft()
            reason = "slow_consumer"
        return reason

    def _handle(self, events: list[Event], headers: AudioHeaders, arrival: _Arrival) -> None:
        """Act on what happened, in the order in which it happened."""
        for event in events:
            match event:
                case Started(session):
                    self._reports[session] = _Report(self._default_language, session_traceparent(self.name, session.id))
                    self._status(session, "started")
                    self._note(session, headers)
                case Window():
                    self._enqueue(event, arrival)
                case Gap():
                    self._gap(event, arrival.wall)
                case Ended(session):
                    session.closed = True
                    self._end_if_complete(session)

    def _note(self, session: Session, headers: AudioHeaders) -> None:
        """What the headers say about the session; and something came, so it is not stalled."""
        report = self._reports[session]
        if headers.traceparent and valid_traceparent(headers.traceparent):
            report.parent = headers.traceparent
        if headers.language and self._around.model.supports(headers.language):
            report.language = headers.language
        elif headers.language:
            self._around.warnings.warning(
                "language", "the model does not know language %s", headers.language, stream=self.name
            )
        if session.overlap > report.overlap:
            report.overlap = session.overlap
            self._counters.chunks_dropped["overlap"] += 1
        if report.stalled:
            report.stalled = False
            self._status(session, "resumed")

    @property
    def _default_language(self) -> str | None:
        language = self._around.settings.whisper_language
        return None if language == "auto" else language

    def _enqueue(self, window: Window, arrival: _Arrival) -> None:
        job = Job(
            stream=self.name,
            samples=window.samples,
            language=self._reports[window.session].language,
            settle=partial(self._settle, window, arrival.wall),
            arrived_s=arrival.at_s,
        )
        refused = self.worker.queue.try_put(job)
        if refused is not job:
            self._counters.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, QUEUE_FULL)

    def _settle(self, window: Window, received_at: datetime, job: Job, outcome: Outcome) -> None:
        """A window became text, or it did not."""
        session = window.session
        if isinstance(outcome, Transcript):
            session.transcribed += window.frames
            session.segments += 1
            self._final(window, received_at, job, outcome)
            self._listen_for_silence(window, outcome)
        else:
            session.dropped += window.frames
            self._counters.jobs_dropped[outcome.reason] += 1
            self._around.warnings.warning(
                outcome.reason,
                "window not transcribed: %s",
                outcome,
                stream=self.name,
                lost_s=window.frames / session.rate,
            )
            self._gap(Gap(session, window.start_frame, window.frames, outcome.reason), received_at)
        self._end_if_complete(session)

    def _listen_for_silence(self, window: Window, transcript: Transcript) -> None:
        """Tell when audio comes but no word, and when words are back; pin a detected language."""
        session, report = window.session, self._reports[window.session]
        if transcript.text:
            report.quiet_frames = 0
            report.language = report.language or transcript.language
        else:
            report.quiet_frames += window.frames
        silent = report.quiet_frames >= self._around.settings.silence_timeout_secs * session.rate
        if silent != report.silent:
            report.silent = silent
            self._status(session, "silent" if silent else "resumed", window.start_frame + window.frames)

    # What is published.

    def _final(self, window: Window, received_at: datetime, job: Job, transcript: Transcript) -> None:
        session = window.session
        traceparent = self._around.telemetry.job_span(
            job,
            session=session.id,
            message_id=message_id(self.name, session.id, window.start_frame, "final", 0),
            parent=self._reports[session].parent,
        )
        self._around.publisher.put(partial(self._build_final, window, received_at, job, transcript), traceparent)

    def _build_final(self, window: Window, received_at: datetime, job: Job, transcript: Transcript) -> Final:
        now_s = time.monotonic()
        timing = Timing(
            queue_ms=1000 * (job.started_s - job.enqueued_s),
            processing_ms=1000 * transcript.processing_s,
            handover_ms=1000 * (now_s - job.finished_s),
            end_to_end_ms=1000 * (now_s - job.arrived_s),
            rtf=transcript.processing_s / job.duration_s,
        )
        self._around.telemetry.record_job(
            self.name,
            queue_ms=timing.queue_ms,
            processing_ms=timing.processing_ms,
            end_to_end_ms=timing.end_to_end_ms,
            rtf=timing.rtf,
        )
        start_s = window.start_frame / window.session.rate
        return Final(
            **self._range(window.session, window.start_frame, window.frames, received_at),
            segment=window.number,
            rev=0,
            text=transcript.text,
            suppressed=None,
            words=None
            if transcript.words is None
            else tuple(
                Word(word=w.word, start=start_s + w.start_s, end=start_s + w.end_s, confidence=w.confidence)
                for w in transcript.words
            ),
            language=transcript.language,
            confidence=None if transcript.avg_logprob is None else math.exp(transcript.avg_logprob),
            avg_logprob=transcript.avg_logprob,
            no_speech_prob=transcript.no_speech_prob,
            speech_final=False,
            speaker=None,
            model=self._around.model.name,
            timing=timing,
            captured_at=window.captured_at,
        )

    def _gap(self, gap: Gap, received_at: datetime) -> None:
        report = self._reports[gap.session]
        report.unknown_gaps += not gap.frames
        self._counters.gaps[gap.reason] += 1
        message = GapMessage(**self._range(gap.session, gap.start_frame, gap.frames, received_at), reason=gap.reason)
        self._around.publisher.put(lambda: message, report.traceparent, rev=0 if gap.frames else report.unknown_gaps)

    def _status(self, session: Session, state: StreamState, frame: int | None = None) -> None:
        report = self._reports[session]
        at = session.clock if frame is None else frame
        message = Status(**self._range(session, at, 0, datetime.now(UTC)), state=state)
        self._around.publisher.put(lambda: message, report.traceparent, rev=report.statuses)
        report.statuses += 1

    def _end_if_complete(self, session: Session) -> None:
        if not session.complete:
            return
        account = {
            "received": session.received,
            "lost": session.lost,
            "transcribed": session.transcribed,
            "silent": session.silent,
            "dropped": session.dropped,
        }
        message = End(
            **self._range(session, 0, session.clock, datetime.now(UTC)),
            segments=session.segments,
            **{f"{name}_frames": frames for name, frames in account.items()},
            **{f"{name}_s": frames / session.rate for name, frames in account.items()},
        )
        self._around.publisher.put(lambda: message, self._reports.pop(session).traceparent)

    def _range(self, session: Session, start_frame: int, frames: int, received_at: datetime) -> dict[str, Any]:
        """The fields that every message has."""
        return {
            "stream": self.name,
            "session": session.id,
            "rate": session.rate,
            "start_frame": start_frame,
            "frames": frames,
            "start": start_frame / session.rate,
            "duration": frames / session.rate,
            "received_at": received_at,
        }
