"""One durable stream: stored payloads in, stored text out, each second of audio in one message, whatever dies.

In: payloads of one audio subject, from a ``Feed``. Out: messages in a ``Ledger``. Between them is a log: what happened to
the audio, in its order. The intake writes it, as far as there is room for windows in the worker's queue; the rest waits on
the broker. The tale takes its entries one by one, waits for the text of a window, stores what is to be told together with
the place where audio goes on, and only then acknowledges the audio before that place.

So the last stored message is all that the next daemon needs. Cuts depend on audio, settings and stored time stamps alone:
what was not stored yet is cut the same way again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.session import Gap, Place, Session, Silence, Window, replay_from
from transcriber.audio.stream import Ended, Event, Started, Stream
from transcriber.bus.backfill import Backfill
from transcriber.bus.checkpoint import Cursor, checkpoint, cursor_of, cut_loose, restored
from transcriber.bus.feed import Feed, Payload
from transcriber.bus.ledger import Ledger
from transcriber.bus.places import Places
from transcriber.bus.stream_report import Arrival, StreamReport, Surroundings
from transcriber.engine.job import Job, Lane, Outcome
from transcriber.engine.worker import Worker
from transcriber.errors import (
    BadInputError,
    BrokerError,
    EngineError,
    FencedError,
    JetStreamError,
    RefusedError,
    UnansweredError,
)
from transcriber.messages import AnyMessage, Checkpoint, PlaceState, message_id

log = logging.getLogger(__name__)

AHEAD = 2
"""Windows of one stream before the worker: the one in hand, and one so that it need not wait."""

MOST_ENTRIES = 32
"""What may wait to be stored: the broker holds the rest."""

MOST_DROPPED = 1024
"""The same where windows that find no place are dropped: more than any queue has."""

POLL_S, RETRY_S = 0.5, 0.5

QUEUE_FULL = EngineError("the queue is full", reason="queue_full")
SHUTDOWN = EngineError("not begun: the next daemon's", reason="shutdown")

MARGIN_S = 0.25
"""By our own clock a silence must be so much longer than by the broker's: what is under way must not have ended it there."""

STAY_S = 1.0
"""A daemon that has no room for more audio shows so often that it is there."""

OTHER_POLL_S, OTHER_GONE_S = 0.5, 5.0
"""A daemon that was fenced off looks so often for the other one, and takes over when nothing has moved for so long."""


class _Told:
    """Takes what is told, until it is stored."""

    def __init__(self) -> None:
        self.messages: list[tuple[Callable[[], AnyMessage], str, int, int]] = []

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        self.messages.append((build, traceparent, rev, channel))


@dataclass(slots=True, eq=False)
class _Entry:
    """Something that happened to the audio.

    Attributes:
        tell: puts what is to be told into the outbox; None of a window.
        after: where the stream stands then.
        first_seq, last_seq: the payloads it is about.
        arrival: of the last of them; on the wall clock, when the broker stored it.
        window, job: the window, as it was cut and as the worker is to have it.
        given: whether the worker's queue has had it.
        heard: resolves with what became of the job.
        stored: resolves when what is told of it is.
    """

    tell: Callable[[], None] | None
    after: Cursor
    first_seq: int
    last_seq: int
    arrival: Arrival
    window: Window | None = None
    job: Job | None = None
    given: bool = False
    heard: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    stored: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class _Fed:
    """A payload that was taken.

    Attributes:
        before, clock: the session's clock before it, and where its frames begin: there is a hole between, or nothing.
        heard_before: when audio was last stored before it.
    """

    seq: int
    before: int
    clock: int
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


class DurableStream:
    """Event loop only.

    Attributes:
        name: the subject's last token.
        worker: takes all windows of this stream.
        feed: where its audio comes from.
        fenced: whether another daemon has this stream at present.
    """

    def __init__(
        self,
        name: str,
        worker: Worker,
        places: Places,
        feed: Feed,
        around: Surroundings,
        repair: Callable[[], Awaitable[None]],
    ) -> None:
        """``repair`` sees that all is there that ``feed`` needs of JetStream; it may raise ``JetStreamError``."""
        self.name = name
        self.worker = worker
        self.feed = feed
        self.fenced = False
        self._places = places
        self._around = around
        self._repair = repair
        self._ledger = Ledger(feed.jetstream, name, around)
        self._patient = around.settings.durable
        self._intake: asyncio.Task[None] | None = None
        self._stopping = False
        self._begin(Checkpoint(instance="", seq=1, attempts=0, session=None))

    def _begin(self, found: Checkpoint) -> None:
        """Go on where the last stored message says."""
        settings, network = self._around.settings, self._around.network
        self._told = _Told()
        self._report = StreamReport(self.name, self._around, self._told)
        self._log: deque[_Entry] = deque()
        self._news = asyncio.Event()  # something is in the log
        self._room = asyncio.Event()  # something has left it
        session = restored(found.session, settings, network) if found.session else None
        if session and found.session:
            self._report.add(session).restore(found.session)
        self._resuming = session is not None
        self._torn = False  # audio is gone before the next payload
        self._stalled = False  # what was written down of it
        self._attempts = found.attempts
        self._cursor = cursor_of(found, session)
        self._fed: deque[_Fed] = deque()  # of the open session, from the first payload that a replay would need
        self._fed_seq = found.seq - 1  # the last payload taken
        self._heard_at = self._cursor.heard_at  # when audio was last stored
        self._quiet, self._without_audio = _Silence(), _Silence()
        self._audio = Stream(
            settings.input,
            settings.cutting,
            network,
            max_hole_s=settings.max_hole_secs,
            new_id=lambda: str(self._fed_seq),
            session=session,
        )
        self._backfill = (
            None
            if self._patient
            else Backfill(
                self.name, self.worker, self.feed.jetstream, self.feed.subject, self._around, self, self._is_well
            )
        )
        self.feed.start(found.seq)

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        """Have a message stored after all that has happened so far: we are the outbox of ``Backfill``."""
        self._write(partial(self._told.put, build, traceparent, rev, channel), self._cursor, self._latest)

    def _is_well(self) -> bool:
        """Whether no window is suspected, or may soon be, that an earlier daemon died of it."""
        return not ((self._resuming or self._attempts) and (self.session or self._log))

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._audio.session

    @property
    def stalled(self) -> bool:
        report = self._report.sessions.get(self.session) if self.session else None
        return report is not None and report.stalled

    @property
    def lag_s(self) -> float:
        """How long ago the oldest audio was stored that could be text by now; 0 if all of it is."""
        oldest = self._log[0].arrival.wall if self._log else self._heard_at if self.feed.pending else None
        return _age_s(oldest) if oldest else 0.0

    async def run(self, *, pinned: bool) -> None:
        """Serve the stream: until it is over, unless it is ``pinned``, or until it is drained."""
        await self._mend()
        while not self._stopping:
            try:
                await self._wait_for_turn()
                await self._go_on()
                await self._serve(pinned=pinned)
            except FencedError as error:
                self._step_back(str(error))
            except RefusedError as error:
                self._around.warnings.warning("jetstream", "was refused: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
                await self._mend()
            except UnansweredError as error:
                self._around.warnings.warning("jetstream", "cannot go on yet: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
            else:
                return

    def drain(self) -> None:
        """Take no more audio; what the worker does not finish is the next daemon's."""
        self._stopping = True
        if self._intake:
            self._intake.cancel()
        for entry in self._log:
            if entry.job and not entry.given:
                self._hear(entry, entry.job, SHUTDOWN)
        self._news.set()

    async def _mend(self) -> None:
        """Until all that is missing is there, be it that somebody else makes it."""
        while not self._stopping:
            try:
                await self._repair()
            except (JetStreamError, BrokerError) as error:
                self._around.warnings.warning("missing", "cannot go on: %s", error, stream=self.name)
                await asyncio.sleep(RETRY_S)
            else:
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
                self.fenced = False
                return
            await asyncio.sleep(OTHER_POLL_S)

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
        made_at, last_seq = await self.feed.history()
        places, torn = found.session.places if found.session else (), True
        if found.seq > last_seq + 1 or (self._ledger.stored_at and made_at > self._ledger.stored_at):
            log.warning("the stream of the audio was made anew", extra={"stream": self.name})
            found = cut_loose(found, 1)
        elif found.session and found.seq <= last_seq and not await self.feed.has(found.seq):
            found = cut_loose(found, found.seq)  # the limits of the stream took it
        else:
            torn = False
        self._begin(found)
        if torn and self.session:
            self._torn = True
            self._tell_torn(self.session, places)
        if self._backfill:
            await self._backfill.read_back()
        if found.session:
            log.info("goes on", extra={"stream": self.name, "session": found.session.id, "seq": found.seq})

    def _tell_torn(self, session: Session, places: Sequence[PlaceState]) -> None:
        """Audio came, and is gone; where one speaker's words are told further than another's, these will never be."""
        for channel, place in enumerate(places):
            if missing := session.places[channel].frame - place.frame:
                gap = Gap(session, place.frame, missing, "shutdown", session.places, channel)
                self._write(partial(self._report.gap, gap, self._latest.wall), self._cursor, self._latest)

    async def _serve(self, *, pinned: bool) -> None:
        """Take and tell; until one of them ends."""
        self._intake = asyncio.create_task(self._take_all(pinned=pinned))
        tale = asyncio.create_task(self._tell_all())
        later = {asyncio.create_task(self._backfill.run())} if self._backfill else set()
        tasks = {self._intake, tale, *later}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                await asyncio.wait({tale})
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # The intake: from payloads to the log.

    async def _take_all(self, *, pinned: bool) -> None:
        while True:
            while not self._has_room:
                self._room.clear()
                try:
                    async with asyncio.timeout(STAY_S):
                        await self._room.wait()
                except TimeoutError:
                    await self.feed.stay()
            payload = await self.feed.next(POLL_S)
            if payload is not None:
                await self._take(payload)
            elif self.feed.left:
                return
            elif not self.feed.idle:
                self._quiet.broken()
                self._without_audio.broken()
            elif await self._wait(pinned=pinned):
                self.feed.leave()

    @property
    def _has_room(self) -> bool:
        if not self._patient:
            return len(self._log) < MOST_DROPPED
        unheard = sum(entry.job is not None and not entry.heard.done() for entry in self._log)
        return unheard < AHEAD and len(self._log) < MOST_ENTRIES

    async def _take(self, payload: Payload) -> None:
        """One payload, and what it brings about."""
        self._quiet.broken()
        if self._heard_at:
            await self._pass_time((payload.stored_at - self._heard_at).total_seconds())
        arrival, headers = Arrival(wall=payload.stored_at), NO_HEADERS
        lost_before, self._torn = payload.lost_before or self._torn, False
        session, heard_before, previous_seq = self.session, self._heard_at, self._fed_seq
        before, received = (session.clock, session.received) if session else (0, 0)
        self._fed_seq = payload.seq
        self._report.counters.chunks_received += 1
        try:
            headers = parse_headers(payload.headers)
            events = self._audio.feed(payload.data, headers, "lost_input" if lost_before else None)
            if payload.data:
                self._heard_at = payload.stored_at
                self._without_audio.broken()
        except BadInputError as error:
            self._report.counters.chunks_dropped["bad_input"] += 1
            self._around.warnings.warning("bad_input", "payload skipped: %s", error, stream=self.name)
            events = self._audio.skip()
            if not session and self.session:
                self._heard_at = payload.stored_at  # a session that it opens may end by itself, too
        begun = next((number for number, event in enumerate(events) if isinstance(event, Started)), None)
        if begun is None:
            if session:
                fresh = session.received - received
                self._fed.append(_Fed(payload.seq, before, session.clock - fresh, heard_before))
            await self._happened(events, headers, arrival)
        else:
            # What comes before it is of the session before, to which this payload does not belong.
            self._fed_seq = previous_seq
            await self._happened(events[:begun], headers, arrival)
            self._fed_seq = payload.seq
            self._fed = deque([_Fed(payload.seq, 0, 0, heard_before)])
            await self._happened(events[begun:], headers, arrival)
        if self.session:
            self._report.note(self.session, headers)
            self._tell_stalled(self.session, arrival, stalled=False)
            self._report.guess(self.session, self.worker, arrival)

    async def _pass_time(self, silent_s: float) -> None:
        """No audio was stored for so long."""
        settings = self._around.settings
        over = self._audio.rest(silent_s, pause_s=settings.heartbeat_timeout_secs, end_s=settings.stream_idle_secs)
        await self._happened(over, NO_HEADERS, self._latest)

    async def _wait(self, *, pinned: bool) -> bool:
        """Nothing comes; returns whether nothing need be waited for."""
        settings = self._around.settings
        quiet_s = self._quiet.goes_on()
        await self._pass_time(self._without_audio.goes_on())
        if self.session and quiet_s >= settings.heartbeat_timeout_secs:
            self._tell_stalled(self.session, self._latest, stalled=True)
        owing = self._backfill and not self._backfill.done
        return not (pinned or self.session or self._log or owing) and quiet_s >= settings.stream_idle_secs

    @property
    def _latest(self) -> Arrival:
        """Of the audio that has already come."""
        return Arrival(wall=self._heard_at or datetime.now(UTC))

    async def _happened(self, events: Sequence[Event], headers: AudioHeaders, arrival: Arrival) -> None:
        """Write it down, in order; windows are given to the worker when it has room."""
        for event in events:
            match event:
                case Started(session):
                    report = self._report.add(session)
                    self._report.note(session, headers)
                    self._stalled = False
                    start = (Place(0, 0, 0, 0),) * session.channels
                    self._write(partial(report.status, "started", 0), self._stand(session, start), arrival)
                case Window():
                    await self._give(event, arrival)
                case Silence():
                    first_seq, tell = self._seq_of(event), partial(self._report.silence, event, arrival.wall)
                    self._write(tell, self._stand(event.session, event.places), arrival, first_seq)
                case Gap():
                    tell = partial(self._report.gap, event, arrival.wall)
                    self._write(tell, self._stand(event.session, event.places), arrival)
                case Ended(session):
                    self._write(partial(self._report.ended, session), Cursor(self._fed_seq + 1), arrival)

    def _tell_stalled(self, session: Session, arrival: Arrival, *, stalled: bool) -> None:
        if self._stalled != stalled:
            self._stalled = stalled
            self._write(partial(self._report.stalled, session, stalled=stalled), self._cursor, arrival)

    async def _give(self, window: Window, arrival: Arrival) -> None:
        """A window for the worker."""
        deadly, before = False, 0
        if self._resuming:
            # Whoever comes after us knows that we tried, even if this window is the death of us.
            self._resuming = False
            before = self._attempts
            await self._write(partial(self._try, window), self._cursor, arrival).stored
            deadly = before >= self._around.settings.max_attempts
        first_seq = self._seq_of(window)
        entry = self._write(None, self._stand(window.session, window.places), arrival, first_seq)
        entry.window = window
        entry.job = self._report.job(window, partial(self._hear, entry), Lane.FINAL, arrival)
        if deadly:
            error = EngineError(f"{before} daemons began with it and did not come back")
            self._hear(entry, entry.job, error)
        else:
            await self._put(entry, entry.job)

    def _try(self, window: Window) -> None:
        self._attempts += 1
        self._report.sessions[window.session].status("resumed", window.start_frame)

    async def _put(self, entry: _Entry, job: Job) -> None:
        if self._patient:
            await self._places.free()
        entry.given = True
        job.enqueued_s = time.monotonic()
        refused = job if self._stopping else self.worker.queue.try_put(job)
        if refused is not job:
            self._report.counters.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, SHUTDOWN if self._stopping else QUEUE_FULL)

    def _hear(self, entry: _Entry, _: Job, outcome: Outcome) -> None:
        """What became of a window; the first answer counts."""
        if not entry.heard.done():
            entry.heard.set_result(outcome)
            self._room.set()

    def _write(
        self, tell: Callable[[], None] | None, after: Cursor, arrival: Arrival, first_seq: int | None = None
    ) -> _Entry:
        entry = _Entry(tell, after, first_seq or self._fed_seq, self._fed_seq, arrival)
        self._cursor = after
        self._log.append(entry)
        self._news.set()
        return entry

    def _seq_of(self, heard: Window | Silence) -> int:
        """The payload in which it begins."""
        return self._payload_at(heard.session, heard.start_frame).seq

    def _stand(self, session: Session, places: tuple[Place, ...]) -> Cursor:
        """Where audio goes on if the next windows begin at ``places``."""
        frame = min(replay_from(place, session.rate) for place in places)
        fed = self._payload_at(session, frame)
        while self._fed and self._fed[0].seq < fed.seq:
            self._fed.popleft()
        # Before a hole the next run begins where the last one ended, and the payload after the hole tells of it again.
        clock = min(fed.clock, frame)
        return Cursor(
            fed.seq, session, clock, fed.heard_before, places, session.origin, session.capture(clock), session.skipped_at
        )  # fmt: skip

    def _payload_at(self, session: Session, frame: int) -> _Fed:
        """The payload that holds ``frame``, or the hole before it; the next one, if none does."""
        ends = [*(fed.before for fed in self._fed), session.clock][1:]
        coming = _Fed(self._fed_seq + 1, session.clock, session.clock, self._heard_at)
        return next((fed for fed, end in zip(self._fed, ends, strict=True) if end > frame), coming)

    # The tale: from the log to the ledger.

    async def _tell_all(self) -> None:
        while self._log or not self._stopping:
            if not self._log:
                self._news.clear()
                await self._news.wait()
                continue
            entry = self._log[0]
            if entry.window and entry.job:
                outcome = await self._outcome(entry, entry.job)
                if isinstance(outcome, EngineError) and outcome.reason == "shutdown":
                    return
                self._attempts = 0
                self._report.window(entry.window, entry.arrival.wall, entry.job, outcome)
            elif entry.tell:
                entry.tell()
            await self._store(entry)
            self._log.popleft()
            entry.stored.set_result(None)
            self._room.set()

    async def _outcome(self, entry: _Entry, job: Job) -> Outcome:
        """What became of a window; whisper is asked more than once before it is given up."""
        for _ in range(self._around.settings.max_attempts - 1 if self._patient else 0):
            outcome = await entry.heard
            if not isinstance(outcome, EngineError) or outcome.reason != "engine_error" or not entry.given:
                return outcome
            log.info("a window is tried again", extra={"stream": self.name, "error": str(outcome)})
            entry.heard = asyncio.get_running_loop().create_future()
            await self._put(entry, job)
        return await entry.heard

    async def _store(self, entry: _Entry) -> None:
        told, self._told.messages = self._told.messages, []
        if not told:
            return
        report = self._report.sessions.get(entry.after.session) if entry.after.session else None
        mark = checkpoint(entry.after, report, instance=self._around.telemetry.instance, attempts=self._attempts)
        for build, traceparent, rev, channel in told:
            message = build()
            place = {"first_seq": entry.first_seq, "last_seq": entry.last_seq} if message.first_seq is None else {}
            message = message.model_copy(
                update=place
                | {
                    "lag_s": _age_s(entry.arrival.wall),
                    "checkpoint": mark,
                }
            )
            identity = message.stream, message.session, message.start_frame, message.type
            previous_seq = self._ledger.last_seq
            await self._ledger.append(message, message_id(*identity, rev, channel), traceparent)
            if self._backfill:
                self._backfill.stored(message, previous_seq)
        await self.feed.acknowledge(mark.seq)


def _age_s(at: datetime) -> float:
    """Seconds from ``at`` until now; 0 if the broker's clock is ahead of ours."""
    return max(0.0, (datetime.now(UTC) - at).total_seconds())
