"""Windows of a durable stream: stored payloads become entries of its event log.

In: payloads of a ``PayloadSource``, while the log has room; the rest waits on the broker. Out: what happened to the audio, each
entry with the point where audio resumes after it. Cuts depend on audio, settings and stored time stamps alone: the next daemon
cuts what is not stored yet in the same way.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from transcriber.audio.codecs.pcm_payload import IgnoredPart
from transcriber.audio.contention import REFUSALS, Contention, Verdict
from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.resume_point import ChannelResumePoint
from transcriber.audio.session import Flushed, Gap, Session, Silence, Window
from transcriber.audio.stream import Ended, Event, Started, Stream
from transcriber.durable.checkpoint import StreamResumePoint
from transcriber.durable.event_log import Entry, EventLog
from transcriber.durable.payload_source import Payload, PayloadSource
from transcriber.durable.taken_payloads import TakenPayload, TakenPayloads, known_offsets
from transcriber.engine.job import FILE_LANES, Lane
from transcriber.engine.worker import Worker
from transcriber.errors import BadInputError, EngineError
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.stream_output import CONTENTION_STATES, StreamOutput
from transcriber.schema.arrival import Arrival
from transcriber.schema.checkpoint import PlaceState
from transcriber.schema.messages import AnyMessage, GapReason

POLL_S = 0.5

MARGIN_S = 0.25
"""By our own clock a silence must last so much longer than by the broker's: what is in flight must not have ended it there."""

AUDIO_GONE = "the stream keeps its audio no longer"
"""Why a window that a daemon left behind cannot be cut again."""

KEEPALIVE_S = 1.0
"""How often a daemon that has no room for more audio keeps its request open."""


class _Silence:
    """How long nothing has arrived, by our own clock, counted only while the broker says that it has no more."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def reset(self) -> None:
        """Something has arrived, or may have."""
        self._since_s = None

    def elapsed_s(self) -> float:
        """Seconds so far, less what may be in flight."""
        now_s = time.monotonic()
        self._since_s = now_s if self._since_s is None else self._since_s
        return now_s - self._since_s - MARGIN_S


class Windower:
    """Event loop only.

    Attributes:
        heard_at: when audio was last stored.
        resuming: whether the session was begun by another daemon, and no window of it has been given to the worker since.
    """

    def __init__(
        self,
        log: EventLog,
        output: StreamOutput,
        source: PayloadSource,
        worker: Worker,
        runtime: Runtime,
        lane: Lane = Lane.FINAL,
    ) -> None:
        """Resume at the log's resume point; windows are put into ``lane``."""
        self._lane = lane
        resume_point, settings = log.resume_point, runtime.settings
        self.heard_at = resume_point.heard_at
        self._log, self._output, self._source, self._worker, self._runtime = log, output, source, worker, runtime
        self.resuming = resume_point.session is not None
        self._lost = False  # audio is gone before the next payload
        self._stalled = False  # as last written to the log
        self._taken = TakenPayloads(resume_point.seq - 1)
        self._no_payload, self._no_audio = _Silence(), _Silence()
        self._contention = Contention(settings.input, resume_point.contenders)
        self._audio = Stream(
            settings.input,
            output.settings,
            runtime.network,
            max_hole_s=settings.max_hole_secs,
            new_id=lambda: str(self._taken.last_seq),
            exact_offsets=lane in FILE_LANES,
            session=resume_point.session,
        )

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._audio.session

    async def run(self, may_end: Callable[[], bool]) -> None:
        """Take audio until there is no session, nothing arrives, and it ``may_end``.

        Raises:
            FencedError, RefusedError: as the source.
        """
        if self._log.resume_point.ending:
            await self._write_events(self._audio.end(), NO_HEADERS, self._latest)
        while True:
            while not self._log.has_room:
                try:
                    async with asyncio.timeout(KEEPALIVE_S):
                        await self._log.wait_for_room()
                except TimeoutError:
                    await self._source.keepalive()
            payload = await self._source.next(POLL_S)
            if payload is not None:
                await self._take(payload)
            elif self._source.exhausted:
                return
            elif not self._source.idle:
                self._no_payload.reset()
                self._no_audio.reset()
            elif await self._wait() and may_end():
                self._source.stop_pulling()

    def mark_lost(self, channels: Sequence[PlaceState]) -> None:
        """Audio after ``channels`` is gone; where text of one channel is stored further than another's, the rest is a gap."""
        if (session := self.session) is None:
            return
        self._lost = True
        for number, channel in enumerate(channels):
            if missing := session.places[number].frame - channel.frame:
                gap = Gap(session, channel.frame, missing, "shutdown", session.places, number, AUDIO_GONE)
                self._write(partial(self._output.gap, gap, self._latest.wall), self._log.resume_point, self._latest)

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        """Have a message stored after all that has happened so far: a ``MessageSink``."""
        publish = partial(self._output.put, build, traceparent, rev, channel)
        self._write(publish, self._log.resume_point, self._latest)

    async def _take(self, payload: Payload) -> None:
        """One payload, and its events."""
        self._no_payload.reset()
        if self.heard_at:
            await self._pass_time((payload.stored_at - self.heard_at).total_seconds())
        arrival, headers = Arrival(time.monotonic(), payload.stored_at), parse_headers(payload.headers)
        self._output.ignored(headers.ignored)
        lost_before, self._lost = payload.lost_before or self._lost, False
        session, heard_before, previous_seq = self.session, self.heard_at, self._taken.last_seq
        before, received, offsets = (
            (session.clock, session.received, known_offsets(session)) if session else (0, 0, None)
        )
        contenders, at_s = self._contention.now, payload.stored_at.timestamp()
        verdict = self._contention.judge(headers, at_s) if payload.data else Verdict.ACCEPTED
        self._taken.last_seq = payload.seq
        self._output.counters.chunks_received += 1
        try:
            if verdict in REFUSALS:
                self._lost = lost_before
                headers, events = NO_HEADERS, self._contend(verdict)
            else:
                events = self._decode(payload, headers, "lost_input" if lost_before else None)
            if payload.data and verdict not in REFUSALS:
                self.heard_at = payload.stored_at
                self._no_audio.reset()
        except BadInputError as error:
            self._lost = lost_before  # still to be reported
            self._output.refused(str(error))
            events = self._audio.skip(str(error), headers, end=headers.end, flush=headers.flush)
            if not session and self.session:
                self.heard_at = payload.stored_at  # a session that it opens may end by itself, too
        begun = next((number for number, event in enumerate(events) if isinstance(event, Started)), None)
        if begun is None:
            if session:
                clock = session.clock - (session.received - received)
                taken = TakenPayload(payload.seq, before, clock, received, offsets, contenders, heard_before)
                self._taken.append(taken)
            await self._write_events(events, headers, arrival)
        else:
            # What comes before it is of the session before, to which this payload does not belong.
            self._taken.last_seq = previous_seq
            await self._write_events(events[:begun], headers, arrival)
            self._taken.last_seq = payload.seq
            self._taken.begin(TakenPayload(payload.seq, 0, 0, 0, None, contenders, heard_before))
            await self._write_events(events[begun:], headers, arrival)
        self._note(headers, verdict, arrival, any_events=bool(events))

    def _note(self, headers: AudioHeaders, verdict: Verdict, arrival: Arrival, *, any_events: bool) -> None:
        """What a payload says beside its audio."""
        if self.session is None:
            self._contention.reset()
            return
        self._output.note(self.session, headers)
        if any_events:
            self._output.warn_about_audio(self.session)
        if state := CONTENTION_STATES.get(verdict):
            status = partial(self._output.sessions[self.session].status, state, self.session.clock)
            self._write(status, self._log.resume_point, arrival)
        self._write_stalled(self.session, arrival, stalled=False)
        if not self.wary:
            self._output.request_partials(self.session, self._worker, arrival)

    @property
    def wary(self) -> bool:
        """Whether the next window may have killed a daemon: then only attempts that are counted may be made at it."""
        return self.resuming or self._log.attempts > 0

    def _decode(self, payload: Payload, headers: AudioHeaders, lost_before: GapReason | None) -> Sequence[Event]:
        if payload.missing:
            raise BadInputError(payload.missing)
        return self._audio.feed(payload.data, headers, lost_before)

    def _contend(self, verdict: Verdict) -> Sequence[Event]:
        """A payload of a second publisher is not transcribed."""
        self._output.contended(self._contention.detail)
        return self._audio.skip(self._contention.detail) if verdict is Verdict.CONTENTION_BEGUN else []

    async def _pass_time(self, silent_s: float) -> None:
        """No audio was stored for so long."""
        settings = self._runtime.settings
        events = self._audio.time_out(
            silent_s, pause_s=settings.heartbeat_timeout_secs, end_s=settings.stream_idle_secs
        )
        if events:
            await self._write_events(events, NO_HEADERS, self._latest)
        if self.session is None:
            self._contention.reset()

    async def _wait(self) -> bool:
        """Nothing arrives; returns whether the stream may be left without missing anything."""
        settings = self._runtime.settings
        quiet_s = self._no_payload.elapsed_s()
        await self._pass_time(self._no_audio.elapsed_s())
        if self.session and quiet_s >= settings.heartbeat_timeout_secs:
            self._write_stalled(self.session, self._latest, stalled=True)
        if self.session or len(self._log):
            return False
        # A heartbeat between sessions is about nothing that will be stored.
        await self._source.acknowledge(self._taken.last_seq + 1)
        return quiet_s >= settings.stream_idle_secs

    @property
    def _latest(self) -> Arrival:
        """Of the last audio that arrived."""
        return Arrival(time.monotonic(), self.heard_at or datetime.now(UTC))

    async def _write_events(self, events: Sequence[Event], headers: AudioHeaders, arrival: Arrival) -> None:
        """Write them to the log, in order; windows go to the worker when it has room."""
        ending = {event.session for event in events if isinstance(event, Ended)}
        for event in events:
            match event:
                case Started(session):
                    session_output = self._output.add(session)
                    self._output.note(session, headers)
                    self._stalled = False
                    after = self._after(session, session.begin)
                    self._write(partial(session_output.status, "started", 0), after, arrival)
                case Window():
                    await self._write_window(event, arrival, ending=event.session in ending)
                case Silence():
                    first_seq, publish = self._seq_of(event), partial(self._output.silence, event, arrival.wall)
                    after = self._after_window(event, ending=event.session in ending)
                    self._write(publish, after, arrival, first_seq)
                case Gap():
                    publish = partial(self._output.gap, event, arrival.wall)
                    after = self._after(event.session, event.places, ending=event.session in ending)
                    self._write(publish, after, arrival)
                case Flushed(session, frame):
                    after = self._after(session, session.places, flushed_at=frame)
                    self._write(partial(self._output.flushed, event), after, arrival)
                case IgnoredPart():
                    self._output.odd(event)
                case Ended(session):
                    after = StreamResumePoint(self._taken.last_seq + 1)
                    self._write(partial(self._output.ended, session), after, arrival)

    def _write_stalled(self, session: Session, arrival: Arrival, *, stalled: bool) -> None:
        if self._stalled != stalled:
            self._stalled = stalled
            publish = partial(self._output.stalled, session, stalled=stalled)
            self._write(publish, self._log.resume_point, arrival)

    async def _write_window(self, window: Window, arrival: Arrival, *, ending: bool) -> None:
        attempts = 0
        if self.resuming:
            # The attempt is stored first, so that a crash counts.
            self.resuming = False
            attempts = self._log.attempts
            await self._write(partial(self._attempt, window), self._log.resume_point, arrival).stored.wait()
        first_seq = self._seq_of(window)
        after = self._after_window(window, ending=ending)
        entry = self._write(None, after, arrival, first_seq)
        entry.window = window
        entry.job = job = self._output.job(window, partial(self._log.settle, entry), self._lane, arrival)
        if attempts >= self._runtime.settings.max_attempts:
            self._log.settle(entry, job, EngineError(f"{attempts} daemons began with it and did not come back"))
        else:
            await self._log.give(entry, job)

    def _attempt(self, window: Window) -> None:
        self._log.attempts += 1
        self._output.sessions[window.session].status("resumed", window.start_frame)

    def _write(
        self,
        publish: Callable[[], None] | None,
        after: StreamResumePoint,
        arrival: Arrival,
        first_seq: int | None = None,
    ) -> Entry:
        last_seq = self._taken.last_seq
        return self._log.write(Entry(publish, after, first_seq or last_seq, last_seq, arrival))

    def _seq_of(self, event: Window | Silence) -> int:
        """The payload in which it begins."""
        return self._taken.holding(event.session, event.start_frame, self._upcoming(event.session)).seq

    def _after_window(self, window: Window | Silence, *, ending: bool) -> StreamResumePoint:
        flushed_at = window.start_frame + window.frames if window.flushed else None
        return self._after(window.session, window.places, ending=ending, flushed_at=flushed_at)

    def _after(
        self,
        session: Session,
        channels: tuple[ChannelResumePoint, ...],
        *,
        ending: bool = False,
        flushed_at: int | None = None,
    ) -> StreamResumePoint:
        """Where audio resumes if the next windows begin at ``channels``; ``ending`` if the session's end follows.

        ``flushed_at``: where a flush is answered by that; None: none is.
        """
        session_output, before = self._output.sessions[session], self._log.resume_point
        if flushed_at is None and before.session is session:
            flushed_at = before.flushed_at
        return self._taken.resume_point(
            session,
            channels,
            self._upcoming(session),
            flushed_at=flushed_at,
            ending=ending,
            language=session_output.language,
            prompt=session_output.prompt,
        )

    def _upcoming(self, session: Session) -> TakenPayload:
        """The next payload, if it follows without a hole."""
        return TakenPayload(
            self._taken.last_seq + 1,
            session.clock,
            session.clock,
            session.received,
            known_offsets(session),
            self._contention.now,
            self.heard_at,
        )
