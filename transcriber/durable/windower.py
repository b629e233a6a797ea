"""The intake of a durable stream: stored payloads become entries of its log.

In: payloads of a ``Consumer``, as long as the log has room; the rest waits on the broker. Out: what happened to the audio, each entry
with the place where audio goes on after it. Cuts depend on audio, settings and stored time stamps alone: whoever comes after
us cuts what is not stored yet the same way again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol

from transcriber.audio.contention import REFUSALS, Contenders, Contention, Verdict
from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.offsets import Known
from transcriber.audio.payload import Odd
from transcriber.audio.session import ChannelResumePoint, Gap, Session, Silence, Window, replay_from
from transcriber.audio.stream import Ended, Event, Started, Stream
from transcriber.durable.checkpoint import StreamResumePoint
from transcriber.durable.consumer import Payload
from transcriber.durable.event_log import Entry, EventLog
from transcriber.engine.job import Lane
from transcriber.engine.worker import Worker
from transcriber.errors import BadInputError, EngineError
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.stream_output import CONTENTION_STATES, StreamOutput
from transcriber.schema.arrival import Arrival
from transcriber.schema.messages import AnyMessage, GapReason, PlaceState

POLL_S = 0.5

MARGIN_S = 0.25
"""By our own clock a silence must be so much longer than by the broker's: what is under way must not have ended it there."""

AUDIO_GONE = "the stream keeps its audio no longer"
"""Why a window that a daemon left behind cannot be cut again."""

STAY_S = 1.0
"""A daemon that has no room for more audio shows so often that it is there."""


class PayloadSource(Protocol):
    """Where audio comes from, with numbers by which it can be had again; a ``Consumer`` is one.

    Attributes:
        idle: whether there surely is no more just now.
        left: whether there will be no more.
    """

    @property
    def idle(self) -> bool: ...

    @property
    def left(self) -> bool: ...

    async def next(self, timeout_s: float) -> Payload | None:
        """The next payload; None if none came in time."""
        ...

    def leave(self) -> None:
        """No more is wanted."""
        ...

    async def stay(self) -> None:
        """More is wanted, but not yet."""
        ...

    async def acknowledge(self, seq: int) -> None:
        """What comes before ``seq`` is never needed again."""
        ...


class _Fed(NamedTuple):
    """A payload that was taken.

    Attributes:
        before, clock: the session's clock before it, and where its frames begin: there is a hole between, or nothing.
        received, offsets: those of the session before it; None: there were none yet.
        contenders: who published before it.
        heard_before: when audio was last stored before it.
    """

    seq: int
    before: int
    clock: int
    received: int
    offsets: Known | None
    contenders: Contenders | None
    heard_before: datetime | None


class _Silence:
    """For how long nothing has come, though it could. Counted by our own clock, only while the broker says that it has no more."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def broken(self) -> None:
        self._since_s = None

    def goes_on(self) -> float:
        """Seconds so far, less what may be under way."""
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
        entries: EventLog,
        report: StreamOutput,
        feed: PayloadSource,
        worker: Worker,
        runtime: Runtime,
        lane: Lane = Lane.FINAL,
    ) -> None:
        """Go on where the log's cursor stands; windows are put into ``lane``."""
        self._lane = lane
        cursor, settings = entries.cursor, runtime.settings
        self.heard_at = cursor.heard_at
        self._log, self._report, self._feed, self._worker, self._runtime = entries, report, feed, worker, runtime
        self.resuming = cursor.session is not None
        self._torn = False  # audio is gone before the next payload
        self._stalled = False  # what was written down of it
        self._fed: deque[_Fed] = deque()  # of the open session, from the first payload that a replay would need
        self._fed_seq = cursor.seq - 1  # the last payload taken
        self._quiet, self._without_audio = _Silence(), _Silence()
        self._contention = Contention(settings.input, cursor.contenders)
        self._audio = Stream(
            settings.input,
            settings.cutting,
            runtime.network,
            max_hole_s=settings.max_hole_secs,
            new_id=lambda: str(self._fed_seq),
            exact_offsets=lane is Lane.FILE,
            session=cursor.session,
        )

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._audio.session

    async def run(self, over: Callable[[], bool]) -> None:
        """Take audio, for as long as there is a session, or anything comes, or it is not ``over``.

        Raises:
            FencedError, RefusedError: as the feed.
        """
        if self._log.cursor.ending:
            await self._happened(self._audio.end(), NO_HEADERS, self._latest)
        while True:
            while not self._log.has_room:
                try:
                    async with asyncio.timeout(STAY_S):
                        await self._log.wait_for_room()
                except TimeoutError:
                    await self._feed.stay()
            payload = await self._feed.next(POLL_S)
            if payload is not None:
                await self._take(payload)
            elif self._feed.left:
                return
            elif not self._feed.idle:
                self._quiet.broken()
                self._without_audio.broken()
            elif await self._wait() and over():
                self._feed.leave()

    def tear(self, places: Sequence[PlaceState]) -> None:
        """Audio came after ``places``, and is gone; where one speaker's words are told further than another's, these will never be."""
        if (session := self.session) is None:
            return
        self._torn = True
        for channel, place in enumerate(places):
            if missing := session.places[channel].frame - place.frame:
                gap = Gap(session, place.frame, missing, "shutdown", session.places, channel, AUDIO_GONE)
                self._write(partial(self._report.gap, gap, self._latest.wall), self._log.cursor, self._latest)

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        """Have a message stored after all that has happened so far: a ``MessageSink``."""
        self._write(partial(self._report.put, build, traceparent, rev, channel), self._log.cursor, self._latest)

    async def _take(self, payload: Payload) -> None:
        """One payload, and what it brings about."""
        self._quiet.broken()
        if self.heard_at:
            await self._pass_time((payload.stored_at - self.heard_at).total_seconds())
        arrival, headers = Arrival(time.monotonic(), payload.stored_at), parse_headers(payload.headers)
        self._report.ignored(headers.ignored)
        lost_before, self._torn = payload.lost_before or self._torn, False
        session, heard_before, previous_seq = self.session, self.heard_at, self._fed_seq
        before, received, offsets = (session.clock, session.received, _known(session)) if session else (0, 0, None)
        contenders, at_s = self._contention.now, payload.stored_at.timestamp()
        verdict = self._contention.judge(headers, at_s) if payload.data else Verdict.HEARD
        self._fed_seq = payload.seq
        self._report.counters.chunks_received += 1
        try:
            if verdict in REFUSALS:
                self._torn = lost_before
                headers, events = NO_HEADERS, self._contend(verdict)
            else:
                events = self._hear(payload, headers, "lost_input" if lost_before else None)
            if payload.data and verdict not in REFUSALS:
                self.heard_at = payload.stored_at
                self._without_audio.broken()
        except BadInputError as error:
            self._torn = lost_before  # that is still to be told
            self._report.refused(str(error))
            events = self._audio.skip(str(error), end=headers.end)
            if not session and self.session:
                self.heard_at = payload.stored_at  # a session that it opens may end by itself, too
        begun = next((number for number, event in enumerate(events) if isinstance(event, Started)), None)
        if begun is None:
            if session:
                fresh = session.received - received
                self._fed.append(
                    _Fed(payload.seq, before, session.clock - fresh, received, offsets, contenders, heard_before)
                )
            await self._happened(events, headers, arrival)
        else:
            # What comes before it is of the session before, to which this payload does not belong.
            self._fed_seq = previous_seq
            await self._happened(events[:begun], headers, arrival)
            self._fed_seq = payload.seq
            self._fed = deque([_Fed(payload.seq, 0, 0, 0, None, contenders, heard_before)])
            await self._happened(events[begun:], headers, arrival)
        if self.session is None:
            self._contention.over()
        else:
            self._report.note(self.session, headers)
            if events:
                self._report.warn_about_audio(self.session)
            self._tell_contended(self.session, verdict, arrival)
            self._tell_stalled(self.session, arrival, stalled=False)
            self._guess(self.session, arrival)

    def _guess(self, session: Session, arrival: Arrival) -> None:
        if not self.wary:
            self._report.request_partials(session, self._worker, arrival)

    @property
    def wary(self) -> bool:
        """Whether what comes next may have killed a daemon: only an attempt that is counted may be made of it."""
        return self.resuming or self._log.attempts > 0

    def _hear(self, payload: Payload, headers: AudioHeaders, lost_before: GapReason | None) -> Sequence[Event]:
        if payload.missing:
            raise BadInputError(payload.missing)
        return self._audio.feed(payload.data, headers, lost_before)

    def _contend(self, verdict: Verdict) -> Sequence[Event]:
        """A payload is of another publisher, and not heard."""
        self._report.contended(self._contention.detail)
        return self._audio.skip(self._contention.detail) if verdict is Verdict.NOTICED else []

    async def _pass_time(self, silent_s: float) -> None:
        """No audio was stored for so long."""
        settings = self._runtime.settings
        over = self._audio.rest(silent_s, pause_s=settings.heartbeat_timeout_secs, end_s=settings.stream_idle_secs)
        if over:
            await self._happened(over, NO_HEADERS, self._latest)
        if self.session is None:
            self._contention.over()

    async def _wait(self) -> bool:
        """Nothing comes; returns whether nothing of it will be missed."""
        settings = self._runtime.settings
        quiet_s = self._quiet.goes_on()
        await self._pass_time(self._without_audio.goes_on())
        if self.session and quiet_s >= settings.heartbeat_timeout_secs:
            self._tell_stalled(self.session, self._latest, stalled=True)
        if self.session or len(self._log):
            return False
        await self._feed.acknowledge(self._fed_seq + 1)  # a heartbeat between sessions has nothing that is told of it
        return quiet_s >= settings.stream_idle_secs

    @property
    def _latest(self) -> Arrival:
        """Of the audio that has already come."""
        return Arrival(time.monotonic(), self.heard_at or datetime.now(UTC))

    async def _happened(self, events: Sequence[Event], headers: AudioHeaders, arrival: Arrival) -> None:
        """Write it down, in order; windows are given to the worker when it has room."""
        ending = {event.session for event in events if isinstance(event, Ended)}
        for event in events:
            match event:
                case Started(session):
                    report = self._report.add(session)
                    self._report.note(session, headers)
                    self._stalled = False
                    start = (ChannelResumePoint(0, 0, 0, 0),) * session.channels
                    self._write(partial(report.status, "started", 0), self._stand(session, start), arrival)
                case Window():
                    await self._give(event, arrival, ending=event.session in ending)
                case Silence():
                    first_seq, tell = self._seq_of(event), partial(self._report.silence, event, arrival.wall)
                    after = self._stand(event.session, event.places, ending=event.session in ending)
                    self._write(tell, after, arrival, first_seq)
                case Gap():
                    tell = partial(self._report.gap, event, arrival.wall)
                    after = self._stand(event.session, event.places, ending=event.session in ending)
                    self._write(tell, after, arrival)
                case Odd():
                    self._report.odd(event)
                case Ended(session):
                    self._write(partial(self._report.ended, session), StreamResumePoint(self._fed_seq + 1), arrival)

    def _tell_stalled(self, session: Session, arrival: Arrival, *, stalled: bool) -> None:
        if self._stalled != stalled:
            self._stalled = stalled
            self._write(partial(self._report.stalled, session, stalled=stalled), self._log.cursor, arrival)

    def _tell_contended(self, session: Session, verdict: Verdict, arrival: Arrival) -> None:
        if state := CONTENTION_STATES.get(verdict):
            tell = partial(self._report.sessions[session].status, state, session.clock)
            self._write(tell, self._log.cursor, arrival)

    async def _give(self, window: Window, arrival: Arrival, *, ending: bool) -> None:
        """A window for the worker."""
        died = 0
        if self.resuming:
            # Whoever comes after us knows that we tried, even if this window is the death of us.
            self.resuming = False
            died = self._log.attempts
            await self._write(partial(self._try, window), self._log.cursor, arrival).stored.wait()
        first_seq = self._seq_of(window)
        after = self._stand(window.session, window.places, ending=ending)
        entry = self._write(None, after, arrival, first_seq)
        entry.window = window
        entry.job = job = self._report.job(window, partial(self._log.hear, entry), self._lane, arrival)
        if died >= self._runtime.settings.max_attempts:
            self._log.hear(entry, job, EngineError(f"{died} daemons began with it and did not come back"))
        else:
            await self._log.give(entry, job)

    def _try(self, window: Window) -> None:
        self._log.attempts += 1
        self._report.sessions[window.session].status("resumed", window.start_frame)

    def _write(
        self, tell: Callable[[], None] | None, after: StreamResumePoint, arrival: Arrival, first_seq: int | None = None
    ) -> Entry:
        return self._log.write(Entry(tell, after, first_seq or self._fed_seq, self._fed_seq, arrival))

    def _seq_of(self, heard: Window | Silence) -> int:
        """The payload in which it begins."""
        return self._payload_at(heard.session, heard.start_frame).seq

    def _stand(
        self, session: Session, places: tuple[ChannelResumePoint, ...], *, ending: bool = False
    ) -> StreamResumePoint:
        """Where audio goes on if the next windows begin at ``places``; ``ending`` if the session's end follows."""
        report, frame = self._report.sessions[session], min(replay_from(place, session.rate) for place in places)
        fed = self._payload_at(session, frame)
        while self._fed and self._fed[0].seq < fed.seq:
            self._fed.popleft()
        return StreamResumePoint(
            fed.seq,
            session,
            # What begins before or within a hole goes on there, and the payload after the hole tells of it again.
            clock := fed.clock if frame >= fed.clock else fed.before,
            fed.contenders,
            fed.heard_before,
            places,
            fed.received,
            fed.offsets or (session.offsets.first if session.offsets else None),
            session.capture(clock),
            session.skipped_at,
            # The payload that ended it is not read again.
            ending=ending and fed.seq > self._fed_seq,
            language=report.language,
            prompt=report.prompt,
        )

    def _payload_at(self, session: Session, frame: int) -> _Fed:
        """The payload that holds ``frame``, or the hole before it; the next one, if none does."""
        ends = [*(fed.before for fed in self._fed), session.clock][1:]
        coming = _Fed(
            self._fed_seq + 1,
            session.clock,
            session.clock,
            session.received,
            _known(session),
            self._contention.now,
            self.heard_at,
        )
        return next((fed for fed, end in zip(self._fed, ends, strict=True) if end > frame), coming)


def _known(session: Session) -> Known | None:
    return session.offsets.known if session.offsets else None
