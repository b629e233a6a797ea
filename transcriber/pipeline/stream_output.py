"""What is published of one stream: its sessions' messages and frame accounts, as windows become text, silences and gaps.

In: events of the audio and outcomes of jobs, in order. Out: metrics, spans, and messages for a ``MessageSink``. Live and durable
mode, clips and files differ in how they handle audio, not in what they publish.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

from transcriber.audio.codecs.pcm_payload import IgnoredPart
from transcriber.audio.contention import Verdict
from transcriber.audio.frame_account import FrameOutcome
from transcriber.audio.headers import AudioHeaders
from transcriber.audio.session import Flushed, Gap, Session, Silence, Window
from transcriber.audio.stream import Ended, Event, Started
from transcriber.audio.vad.detector import speech_probability, speech_seconds
from transcriber.diarization.job_speakers import JobSpeakers, passage_speakers
from transcriber.diarization.voices import KnownVoices
from transcriber.engine.job import Job, Lane, Outcome, Settle
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.pipeline.passages import Passage, PassageAudio
from transcriber.pipeline.runtime import RequestOptions, Runtime
from transcriber.pipeline.second_pass import SecondPass
from transcriber.pipeline.session_output import SessionOutput
from transcriber.pipeline.sinks import MessageSink
from transcriber.schema.arrival import Arrival
from transcriber.schema.messages import AnyMessage, StreamState, Timing, message_id
from transcriber.telemetry import Counters, sampled, valid_traceparent

log = logging.getLogger(__name__)

CONTENTION_STATES: dict[Verdict, StreamState] = {
    Verdict.CONTENTION_BEGUN: "contended",
    Verdict.CONTENTION_OVER: "resumed",
}
"""States of a stream with two publishers."""


class StreamOutput:
    """Event loop only.

    Attributes:
        name: of the stream or of the file's job; of a clip, which is no stream, the id of its session.
        sessions: the open one and those with text pending, each with its output.
        counters: of the stream. Those of a clip or file are discarded: its reply or results say what is missing, and alerts
            are about streams.
        jobs: counters of jobs, for clips and files as well.
        settings: of the stream.
        second_pass: transcribes passages again; None: switched off, or not in live mode.
    """

    def __init__(self, name: str, runtime: Runtime, sink: MessageSink, options: RequestOptions | None = None) -> None:
        """Partials go to the publisher of ``runtime``, all other messages to ``sink``.

        Clips and files have ``options``; without, it is a stream, whose latency is measured.
        """
        self.name, self._options = name, options
        self.sessions: dict[Session, SessionOutput] = {}
        telemetry, self.settings = runtime.telemetry, runtime.stream(name)
        self.counters = telemetry.counters(name) if options is None else Counters()
        self.jobs = self.counters if options is None else telemetry.counters()
        self._runtime, self._sink = runtime, sink
        self.second_pass: SecondPass | None = None

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        """Publish a message made elsewhere: a ``MessageSink``."""
        self._sink.put(build, traceparent, rev, channel)

    def received(
        self,
        session: Session | None,
        events: Sequence[Event],
        headers: AudioHeaders,
        arrival: Arrival,
        worker: Worker,
        *,
        published: bool = True,
    ) -> None:
        """A live payload: its headers, its events, and perhaps a partial.

        ``session`` is the open one after the payload; windows among the ``events`` go to ``worker``. ``published``: whether a
        publisher sent the payload; else the daemon ends the stream.
        """
        if session in self.sessions:
            self.note(session, headers)
            if events:
                self.warn_about_audio(session)
            if published:
                self.stalled(session, stalled=False)
        self.handle(events, headers, arrival, worker)
        if session:
            self.request_partials(session, worker, arrival)

    def handle(self, events: Sequence[Event], headers: AudioHeaders, arrival: Arrival, worker: Worker) -> None:
        """Publish events of live audio, in order; windows go to ``worker``."""
        for event in events:
            match event:
                case Started(session):
                    self.started(session, headers)
                case Window():
                    self._enqueue(event, arrival, worker)
                case Silence():
                    self.silence(event, arrival.wall)
                case Gap():
                    self.gap(event, arrival.wall)
                case Flushed():
                    self.flushed(event)
                case IgnoredPart():
                    self.odd(event)
                case Ended(session):
                    self.ended(session)

    def _enqueue(self, window: Window, arrival: Arrival, worker: Worker) -> None:
        job = self.job(window, partial(self.window, window, arrival.wall), Lane.FINAL, arrival)
        refused = worker.queue.try_put(job)
        if refused is not job:
            self.jobs.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, worker.queue.full_error(refused.lane))

    def started(self, session: Session, headers: AudioHeaders) -> None:
        output = self.add(session)
        self.note(session, headers)
        output.status("started", 0)

    def add(self, session: Session) -> SessionOutput:
        """Add ``session``."""
        output = SessionOutput(self.name, session, self._runtime.settings, self._sink, self._runtime.publisher)
        self.sessions[session] = output
        return output

    def note(self, session: Session, headers: AudioHeaders) -> None:
        """Apply headers to the session."""
        output, parent, language = self.sessions[session], headers.traceparent, headers.language
        # Mostly they repeat the payload before.
        if parent and parent != output.parent and valid_traceparent(parent):
            output.parent = parent
        if language and language != output.language:
            allowed = self._runtime.settings.languages
            if not self._runtime.model.supports(language):
                self.odd(IgnoredPart("header", f"Language {language} is none that the model knows"))
            elif allowed and language not in allowed:
                self.odd(IgnoredPart("header", f"Language {language} is not in WHISPER_LANGUAGES"))
            else:
                output.language = language
        if headers.prompt is not None:
            output.prompt = headers.prompt
        if session.overlap > output.counted_overlap:
            output.counted_overlap = session.overlap
            self.counters.chunks_dropped["overlap"] += 1

    def warn_about_audio(self, session: Session) -> None:
        """Warn, once a session, of what shows in its audio only after more than one payload."""
        output = self.sessions[session]
        if session.offsets and session.offsets.unit != 1 and not output.odd_unit:
            output.odd_unit = True
            self._runtime.warnings.warning(
                "offset", "Audio-Offset counts %g a frame, and is read so", session.offsets.unit, stream=self.name
            )
        if session.mix_report.opposed and not output.noticed and (odd := session.mix_report.warning(session.rate)):
            output.noticed = True
            self._runtime.warnings.warning("opposed", odd, stream=self.name, session=session.id)

    def ignored(self, headers: Iterable[str]) -> None:
        """Headers that are ignored, each with its reason in one line."""
        for line in headers:
            self.odd(IgnoredPart("header", line))

    def odd(self, odd: IgnoredPart) -> None:
        """Something in a payload was ignored; the payload is transcribed all the same."""
        self.counters.chunks_odd[odd.reason] += 1
        kind = odd.detail.partition(" ")[0] if odd.reason == "header" else odd.reason  # each header is logged
        self._runtime.warnings.warning(kind, "ignored: %s", odd.detail, stream=self.name)

    def contended(self, detail: str) -> None:
        """A payload is another publisher's, and skipped."""
        self.counters.chunks_dropped["contended"] += 1
        self._runtime.warnings.warning("contended", "payload skipped: %s", detail, stream=self.name)

    def refused(self, reason: str, *, count: bool = True) -> None:
        """A payload cannot be read; ``count``: count it as dropped, which is done once a payload."""
        self.counters.chunks_dropped["bad_input"] += count
        self._runtime.warnings.warning("bad_input", "payload skipped: %s", reason, stream=self.name)

    def stalled(self, session: Session, *, stalled: bool) -> None:
        """Whether nothing arrives, not even heartbeats; published when it changes."""
        output = self.sessions[session]
        if output.stalled != stalled:
            output.stalled = stalled
            output.status("stalled" if stalled else "resumed")

    def job(self, window: Window, settle: Settle, lane: Lane, arrival: Arrival) -> Job:
        """A job to transcribe ``window``."""
        output, speech = self.sessions[window.session], window.cut.speech
        settings = self.settings.of(window.policy.changes)
        speaker, by_voice = output.speakers[window.channel], self._options is None and output.mixed
        return Job(
            stream=(self._options and self._options.requester) or self.name,
            samples=window.cut.samples,
            lead_s=window.cut.lead_s,
            language=output.language or settings.language,
            settle=settle,
            lane=lane,
            translate=self._options is not None and self._options.translate,
            vocabulary=settings.vocabulary(output.prompt if self._options is None else self._options.prompt),
            prompt=speaker.prompt,
            history=speaker.history,
            deterministic=settings.durable,
            speech_s=None if speech is None else speech_seconds(speech, settings.speech_threshold),
            speech_prob=None if speech is None else speech_probability(speech),
            speakers=speaker.speakers_of(window, lane, self._runtime.labeller) if by_voice else None,
            arrived_s=arrival.at_s,
        )

    def window(self, window: Window, received_at: datetime, job: Job, outcome: Outcome) -> None:
        """Publish a window's outcome: a ``final``, or a ``gap``."""
        session, kind = window.session, "final" if isinstance(outcome, Transcript) else "gap"
        output = self.sessions[session]
        traceparent = self._runtime.telemetry.job_span(
            job,
            session=session.id,
            message_id=message_id(self.name, session.id, window.start_frame, kind, 0, window.channel),
            error=None if isinstance(outcome, Transcript) else outcome.reason,
            parent=output.parent,
        )
        if isinstance(outcome, Transcript):
            session.account.settle(FrameOutcome.TRANSCRIBED, window.start_frame, window.frames, window.channel)
            session.segments += 1
            self.jobs.jobs_redone += outcome.redone
            self.jobs.jobs_shortened += outcome.lead_s < job.lead_s
            self._note_language(window, outcome)
            if outcome.suppressed:
                self.counters.text_suppressed[outcome.suppressed] += 1
            self.counters.text_trimmed += outcome.trimmed and not outcome.suppressed
            self.note_speakers(job)
            own = output.speakers[window.channel].final(window, outcome, job)
            output.final(
                window,
                job,
                own,
                received_at=received_at,
                traceparent=traceparent,
                record=partial(self._record, traceparent),
            )
            output.check_silence(window.start_frame + window.frames)
            if self.second_pass:
                final_id = message_id(self.name, session.id, window.start_frame, "final", 0, window.channel)
                self.second_pass.final(window, own, job, final_id, received_at)
        else:
            session.account.settle(FrameOutcome.DROPPED, window.start_frame, window.frames, window.channel)
            output.speakers[window.channel].failed(window, outcome.reason)
            self.jobs.jobs_dropped[outcome.reason] += 1
            about: dict[str, object] = {"stream": self.name, "lost_s": window.frames / session.rate}
            if sampled(traceparent):
                about["traceparent"] = traceparent
            self._runtime.warnings.warning(outcome.reason, "window not transcribed: %s", outcome, **about)
            place = window.start_frame, window.frames
            gap = Gap(
                session, *place, outcome.reason, window.places, window.channel, str(outcome), flushed=window.flushed
            )
            self._publish_gap(gap, received_at, traceparent)
        self.end_if_complete(session)

    def note_speakers(self, job: Job) -> None:
        """Count, and warn, that the speakers of a window or passage were not looked for, or not found."""
        if isinstance(job.speakers, JobSpeakers) and (why := job.speakers.left_out):
            self.counters.speakers_left_out[why] += 1
            if why == "failed":
                error = job.speakers.error
                self._runtime.warnings.warning("speakers", "who speaks was not found: %s", error, stream=self.name)

    def _note_language(self, window: Window, transcript: Transcript) -> None:
        """Count and log that a speaker's detected language changed."""
        before = self.sessions[window.session].speakers[window.channel].spoken.language
        now = transcript.spoken.language if transcript.spoken else None
        if before and now and now != before:
            self.jobs.language_changes += 1
            log.info(
                "another language is spoken",
                extra={
                    "stream": self.name,
                    "session": window.session.id,
                    "segment": window.number,
                    "before": before,
                    "language": now,
                },
            )

    def silence(self, silence: Silence, received_at: datetime) -> None:
        """A window without speech, which is not transcribed."""
        session, output = silence.session, self.sessions[silence.session]
        self.counters.chunks_filtered += 1
        session.account.settle(FrameOutcome.SILENT, silence.start_frame, silence.frames, silence.channel)
        output.speakers[silence.channel].silence(silence.start_frame, silence.frames)
        output.silence(silence, received_at)
        output.check_silence(silence.start_frame + silence.frames)
        if self.second_pass:
            self.second_pass.silence(silence)

    def gap(self, gap: Gap, received_at: datetime) -> None:
        """Frames are missing, known in number or not, or unusable."""
        if gap.reason == "bad_input" and gap.frames:
            self.refused(gap.detail or "")
        gap.session.account.settle(gap.outcome, gap.start_frame, gap.frames, gap.channel)
        self._publish_gap(gap, received_at)

    def flushed(self, flushed: Flushed) -> None:
        """A flush with nothing to end, or too little."""
        self.counters.flushes_empty += 1
        self.sessions[flushed.session].status("flushed", flushed.frame)

    def ended(self, session: Session) -> None:
        """``session`` has no more audio; its ``end`` follows its last window."""
        session.closed = True
        self.end_if_complete(session)

    def passage_job(self, session: Session, passage: Passage, sound: PassageAudio, settle: Settle) -> Job:
        """A job to transcribe a passage again."""
        output, labeller = self.sessions[session], self._runtime.labeller
        return Job(
            stream=self.name,
            samples=sound.samples,
            lead_s=sound.lead_s,
            language=passage.language or output.language or self.settings.now.language,
            settle=settle,
            lane=Lane.SECOND_PASS,
            vocabulary=self.settings.now.vocabulary(output.prompt),
            deterministic=True,
            speech_s=sound.speech_s,
            speech_prob=sound.speech_prob,
            speakers=passage_speakers(labeller, sound.samples, passage.known) if labeller and output.mixed else None,
            arrived_s=time.monotonic(),
        )

    def known_voices(self, session: Session, channel: int) -> KnownVoices:
        """As of the last window that was published."""
        return self.sessions[session].speakers[channel].known

    def revised(self, session: Session, channel: int, passage: Passage, job: Job, transcript: Transcript) -> None:
        """Publish a revision of a passage."""
        self.counters.revisions += 1
        self.sessions[session].second_pass(passage, channel, job, transcript)

    def request_partials(self, session: Session, worker: Worker, arrival: Arrival) -> None:
        """Ask for partials of the open windows, while the worker is idle."""
        interval_s = self.settings.now.partial_interval_secs
        if not interval_s or not worker.queue.idle:
            return
        for channel, speaker in enumerate(self.sessions[session].speakers):
            cutter, number = session.cutter(channel), session.number(channel)
            ahead = speaker.closes(number, cutter)
            if ahead or speaker.partial_due(number, cutter, interval_s):
                window = session.closing_window(channel) if ahead else session.open_window(channel)
                job = self.job(window, partial(self._publish_partial, window, arrival.wall), Lane.PARTIAL, arrival)
                job.speculative = ahead
                if worker.queue.try_put(job) is None:
                    speaker.partial_requested(cutter, ahead=ahead)

    def _publish_partial(self, window: Window, received_at: datetime, job: Job, outcome: Outcome) -> None:
        """An open window was transcribed so far; or not, as something else was more urgent."""
        session = window.session
        output = self.sessions.get(session)
        if output is None or session.closed or window.number != session.number(window.channel):
            return  # its final is on the way
        speaker = output.speakers[window.channel]
        if isinstance(outcome, Transcript) and (shown := speaker.partial(window, outcome)):
            self.counters.partials += 1
            output.partial(window, job, shown, rev=speaker.rev, received_at=received_at)

    def _publish_gap(self, gap: Gap, received_at: datetime, traceparent: str | None = None) -> None:
        output = self.sessions[gap.session]
        self.counters.gaps[gap.reason] += 1
        for speaker in output.speakers if gap.channel is None else (output.speakers[gap.channel],):
            if not gap.bridged:
                speaker.interrupted()
        output.gap(gap, received_at, traceparent)
        if self.second_pass and not gap.bridged:
            self.second_pass.gap(gap)

    def _record(self, traceparent: str, timing: Timing) -> None:
        if self._options is not None:
            return
        self._runtime.telemetry.record_job(
            self.name,
            queue_ms=timing.queue_ms,
            processing_ms=timing.processing_ms,
            end_to_end_ms=timing.end_to_end_ms,
            traceparent=traceparent,
        )

    def end_if_complete(self, session: Session) -> None:
        """Publish the ``end`` of ``session``, if nothing of it is pending any more."""
        if not session.complete or (self.second_pass and self.second_pass.holds(session)):
            return
        if output := self.sessions.pop(session, None):
            output.end()
