"""One live stream: payloads in, what became of them out.

In: messages of one subject. Out: jobs for the stream's worker, and what is to be told for the publisher.
"""

import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from transcriber.audio.account import Fate
from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.speech import Network, speech_probability, speech_seconds
from transcriber.audio.stream import Ended, Event, Started, Stream
from transcriber.bus.publisher import Publisher
from transcriber.bus.report import SessionReport
from transcriber.config import Settings
from transcriber.engine.job import Job, Lane, Outcome, Settle, SpeechModel, Transcript
from transcriber.engine.worker import Worker
from transcriber.errors import BadInputError, EngineError
from transcriber.logs import RateLimited
from transcriber.messages import GapReason, Timing, message_id
from transcriber.telemetry import Telemetry, valid_traceparent
from transcriber.ulid import new_ulid

QUEUE_FULL = EngineError("the queue is full", reason="queue_full")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all streams of a daemon share."""

    settings: Settings
    model: SpeechModel
    network: Network | None
    publisher: Publisher
    telemetry: Telemetry
    warnings: RateLimited


@dataclass(frozen=True, slots=True)
class _Arrival:
    """When a payload came: monotonic seconds, and the wall clock."""

    at_s: float = field(default_factory=time.monotonic)
    wall: datetime = field(default_factory=lambda: datetime.now(UTC))


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
            settings.input, settings.cutting, around.network, max_hole_s=settings.max_hole_secs, new_id=new_ulid
        )
        self._counters = around.telemetry.counters(name)
        self._reports: dict[Session, SessionReport] = {}  # of the open session and of those that still wait for text
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
            # Short windows cost as much as long ones: they are for when nobody waits.
            eager = not self.worker.queue.depth
            events = self._audio.feed(payload, parsed, self._lost_before(number), eager=eager)
            if payload:
                self.heard_s = live_s
        except BadInputError as error:
            self._counters.chunks_dropped["bad_input"] += 1
            self._around.warnings.warning("bad_input", "payload skipped: %s", error, stream=self.name)
            events = self._audio.skip()
        if self.session in self._reports:
            self._note(self.session, parsed)
        self._handle(events, parsed, arrival)
        if self._around.settings.partial_interval_secs and self.session and self.worker.queue.idle:
            self._guess(self.session, arrival)

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
        """Tell when nothing comes any more, not even a heartbeat; what is open need not wait for the next word."""
        timeout_s = self._around.settings.heartbeat_timeout_secs
        if self.session and live_s - self.seen_s >= timeout_s and not self._reports[self.session].stalled:
            self._reports[self.session].stalled = True
            self._reports[self.session].status("stalled")
        if live_s - self.heard_s >= timeout_s:
            self._handle(self._audio.pause(), NO_HEADERS, _Arrival())

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
                    report = SessionReport(self.name, session, self._around.settings, self._around.publisher)
                    self._reports[session] = report
                    report.status("started", 0)
                    self._note(session, headers)
                case Window():
                    self._enqueue(event, arrival)
                case Silence():
                    self._silence(event, arrival.wall)
                case Gap(session):
                    session.account.settle(Fate.LOST, event.start_frame, event.frames)
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
        if session.overlap > report.counted_overlap:
            report.counted_overlap = session.overlap
            self._counters.chunks_dropped["overlap"] += 1
        if report.stalled:
            report.stalled = False
            report.status("resumed")

    def _job(self, window: Window, settle: Settle, lane: Lane, arrival: _Arrival) -> Job:
        report, speech = self._reports[window.session], window.cut.speech
        return Job(
            stream=self.name,
            samples=window.cut.samples,
            language=report.language,
            settle=settle,
            lane=lane,
            context=report.speakers[window.channel].context,
            speech_s=None if speech is None else speech_seconds(speech, self._around.settings.speech_threshold),
            speech_prob=None if speech is None else speech_probability(speech),
            arrived_s=arrival.at_s,
        )

    def _enqueue(self, window: Window, arrival: _Arrival) -> None:
        job = self._job(window, partial(self._settle, window, arrival.wall), Lane.FINAL, arrival)
        refused = self.worker.queue.try_put(job)
        if refused is not job:
            self._counters.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, QUEUE_FULL)

    def _settle(self, window: Window, received_at: datetime, job: Job, outcome: Outcome) -> None:
        """A window became text, or it did not."""
        session, kind = window.session, "final" if isinstance(outcome, Transcript) else "gap"
        traceparent = self._around.telemetry.job_span(
            job,
            session=session.id,
            message_id=message_id(self.name, session.id, window.start_frame, kind, 0, window.channel),
            error=None if isinstance(outcome, Transcript) else outcome.reason,
            parent=self._reports[session].parent,
        )
        if isinstance(outcome, Transcript):
            session.account.settle(Fate.TRANSCRIBED, window.start_frame, window.frames, window.channel)
            session.segments += 1
            self._counters.jobs_redone += outcome.redone
            if outcome.suppressed:
                self._counters.text_suppressed[outcome.suppressed] += 1
            self._reports[session].final(
                window,
                job,
                self._reports[session].speakers[window.channel].final(window, outcome),
                model=self._around.model.name,
                received_at=received_at,
                traceparent=traceparent,
                record=self._record,
            )
            # A detected language stays.
            self._reports[session].language = self._reports[session].language or (
                outcome.language if outcome.text else None
            )
            self._listen_for_silence(session, window.start_frame + window.frames)
        else:
            session.account.settle(Fate.DROPPED, window.start_frame, window.frames, window.channel)
            self._counters.jobs_dropped[outcome.reason] += 1
            lost_s = window.frames / session.rate
            self._around.warnings.warning(
                outcome.reason, "window not transcribed: %s", outcome, stream=self.name, lost_s=lost_s
            )
            gap = Gap(session, window.start_frame, window.frames, outcome.reason, window.places, window.channel)
            self._gap(gap, received_at, traceparent)
        self._end_if_complete(session)

    def _guess(self, session: Session, arrival: _Arrival) -> None:
        """Have the open windows heard as far as they go, while the worker has nothing else to do."""
        interval_s = self._around.settings.partial_interval_secs
        for channel, speaker in enumerate(self._reports[session].speakers):
            cutter = session.cutter(channel)
            if speaker.due(session.number(channel), cutter, interval_s):
                window = session.open_window(channel)
                job = self._job(window, partial(self._settle_guess, window, arrival.wall), Lane.PARTIAL, arrival)
                if self.worker.queue.try_put(job) is None:
                    speaker.asked(cutter)

    def _settle_guess(self, window: Window, received_at: datetime, job: Job, outcome: Outcome) -> None:
        """An open window was heard so far; or it was not, as something else was more urgent."""
        session = window.session
        if session is not self.session or window.number != session.number(window.channel):
            return  # its final is on the way
        speaker = self._reports[session].speakers[window.channel]
        if isinstance(outcome, Transcript) and (shown := speaker.partial(window, outcome)):
            self._counters.partials += 1
            self._reports[session].partial(
                window, job, shown, rev=speaker.rev, model=self._around.model.name, received_at=received_at
            )

    def _silence(self, silence: Silence, received_at: datetime) -> None:
        """Nobody speaks in this window, so it need not be heard."""
        session, report = silence.session, self._reports[silence.session]
        self._counters.chunks_filtered += 1
        session.account.settle(Fate.SILENT, silence.start_frame, silence.frames, silence.channel)
        report.speakers[silence.channel].silence(silence.start_frame, silence.frames)
        report.silence(silence, received_at)
        self._listen_for_silence(session, silence.start_frame + silence.frames)

    def _listen_for_silence(self, session: Session, frame: int) -> None:
        """Tell when audio comes but no word, and when words are back."""
        report = self._reports[session]
        quiet_frames = min(speaker.quiet_frames for speaker in report.speakers)
        silent = quiet_frames >= self._around.settings.silence_timeout_secs * session.rate
        if silent != report.silent:
            report.silent = silent
            report.status("silent" if silent else "resumed", frame)

    def _gap(self, gap: Gap, received_at: datetime, traceparent: str | None = None) -> None:
        report = self._reports[gap.session]
        self._counters.gaps[gap.reason] += 1
        for speaker in report.speakers if gap.channel is None else (report.speakers[gap.channel],):
            speaker.interrupted()
        report.gap(gap, received_at, traceparent)

    def _record(self, timing: Timing) -> None:
        self._around.telemetry.record_job(
            self.name,
            queue_ms=timing.queue_ms,
            processing_ms=timing.processing_ms,
            end_to_end_ms=timing.end_to_end_ms,
        )

    def _end_if_complete(self, session: Session) -> None:
        if session.complete:
            self._reports.pop(session).end()
