"""One live stream: payloads in, what became of them out.

In: messages of one subject. Out: jobs for the stream's worker, and what is to be told for the publisher.
"""

import sys
from collections import deque
from collections.abc import Mapping
from functools import partial

from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.stream import Ended, Event, Started, Stream
from transcriber.bus.stream_report import Arrival, StreamReport, Surroundings
from transcriber.engine.job import Lane
from transcriber.engine.job_queue import QUEUE_FULL
from transcriber.engine.worker import Worker
from transcriber.errors import BadInputError
from transcriber.messages import GapReason
from transcriber.ulid import new_ulid


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
        self._report = StreamReport(name, around, around.publisher)
        self._drops: deque[int] = deque()  # numbers of the messages after which the client dropped some
        self._reconnected = False

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._audio.session

    @property
    def over(self) -> bool:
        """Whether no session is open and none waits for its text."""
        return not self._report.sessions

    @property
    def stalled(self) -> bool:
        session = self.session
        report = self._report.sessions.get(session) if session else None
        return report is not None and report.stalled

    def receive(self, payload: bytes, headers: Mapping[str, str] | None, number: int, live_s: float) -> None:
        """Take message ``number`` of the subscription, at ``live_s`` of live time."""
        arrival = Arrival()
        self._report.counters.chunks_received += 1
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
            self._report.counters.chunks_dropped["bad_input"] += 1
            self._around.warnings.warning("bad_input", "payload skipped: %s", error, stream=self.name)
            events = self._audio.skip()
        if self.session in self._report.sessions:
            self._report.note(self.session, parsed)
            self._report.stalled(self.session, stalled=False)
        self._handle(events, parsed, arrival)
        if self.session:
            self._report.guess(self.session, self.worker, arrival)

    def dropped_after(self, number: int) -> None:
        """The NATS client dropped a message that came after message ``number``."""
        self._report.counters.chunks_dropped["slow_consumer"] += 1
        if not self._drops or self._drops[-1] != number:
            self._drops.append(number)

    def reconnected(self) -> None:
        """The connection was away: something may have been lost."""
        self._reconnected = True

    def end(self) -> None:
        """No more audio will come: idle, or shutdown."""
        self._handle(self._audio.end(self._lost_before(sys.maxsize)), NO_HEADERS, Arrival())

    def check_stalled(self, live_s: float) -> None:
        """Tell when nothing comes any more, not even a heartbeat; what is open need not wait for the next word."""
        timeout_s = self._around.settings.heartbeat_timeout_secs
        if self.session and live_s - self.seen_s >= timeout_s:
            self._report.stalled(self.session, stalled=True)
        if live_s - self.heard_s >= timeout_s:
            self._handle(self._audio.pause(), NO_HEADERS, Arrival())

    def _lost_before(self, number: int) -> GapReason | None:
        """Why messages may be missing before message ``number``, if they may."""
        reason: GapReason | None = "lost_input" if self._reconnected else None
        self._reconnected = False
        while self._drops and self._drops[0] < number:
            self._drops.popleft()
            reason = "slow_consumer"
        return reason

    def _handle(self, events: list[Event], headers: AudioHeaders, arrival: Arrival) -> None:
        """Act on what happened, in the order in which it happened."""
        for event in events:
            match event:
                case Started(session):
                    self._report.started(session, headers)
                case Window():
                    self._enqueue(event, arrival)
                case Silence():
                    self._report.silence(event, arrival.wall)
                case Gap():
                    self._report.gap(event, arrival.wall)
                case Ended(session):
                    self._report.ended(session)

    def _enqueue(self, window: Window, arrival: Arrival) -> None:
        settle = partial(self._report.window, window, arrival.wall)
        job = self._report.job(window, settle, Lane.FINAL, arrival)
        refused = self.worker.queue.try_put(job)
        if refused is not job:
            self._report.counters.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, QUEUE_FULL)
