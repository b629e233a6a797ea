"""One live stream: payloads in, what became of them out.

In: messages of one subject. Out: jobs for the stream's worker, and what is to be told for the publisher.
"""

import sys
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from transcriber.audio.codecs.stream_decoder import parse_encoding
from transcriber.audio.contention import REFUSALS, Contention, Verdict
from transcriber.audio.format import AudioFormat
from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.payload import Odd
from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.audio.stream import Ended, Event, Started, Stream
from transcriber.engine.job import Lane
from transcriber.engine.worker import Worker
from transcriber.errors import BadInputError
from transcriber.live.decode_queue import Chunk, DecodeQueue, Listener
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.second_pass import SecondPass
from transcriber.pipeline.stream_output import TOLD_OF, StreamOutput
from transcriber.schema.arrival import Arrival
from transcriber.schema.messages import GapReason
from transcriber.ulid import new_ulid


class LiveStream:
    """Event loop only.

    Attributes:
        name: the subject's last token.
        worker: takes all windows of this stream.
        seen_s, heard_s: live time of the last payload, and of the last one with audio.
    """

    def __init__(
        self, name: str, worker: Worker, runtime: Runtime, live_s: float, new_chunks: Callable[[Listener], DecodeQueue]
    ) -> None:
        """``new_chunks`` makes what encoded chunks wait in; it is asked when the first comes."""
        settings = runtime.settings
        self.name = name
        self.worker = worker
        self.seen_s = self.heard_s = live_s
        self._runtime = runtime
        self._audio = Stream(
            settings.input, settings.cutting, runtime.network, max_hole_s=settings.max_hole_secs, new_id=new_ulid
        )
        self._report = StreamOutput(name, runtime, runtime.publisher)
        if settings.second_pass:
            self._report.second_pass = SecondPass(worker, self._report, settings.speech_threshold)
        self._drops: deque[int] = deque()  # numbers of the messages after which the client dropped some
        self._reconnected = False
        self._contention = Contention(settings.input)
        self._new_chunks = new_chunks
        self._chunks: DecodeQueue | None = None
        self._overflowed = False  # since the last message that was taken

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._audio.session

    @property
    def over(self) -> bool:
        """Whether no session is open, none waits for its text, and nothing is known that a later chunk would need."""
        return not self._report.sessions and not self.encoded

    @property
    def encoded(self) -> bool:
        """Whether its audio comes in encoded chunks."""
        return self._chunks is not None and not self._chunks.idle

    @property
    def decoding(self) -> bool:
        """Whether chunks wait for being decoded."""
        return self._chunks is not None and self._chunks.busy

    @property
    def stalled(self) -> bool:
        session = self.session
        report = self._report.sessions.get(session) if session else None
        return report is not None and report.stalled

    def receive(self, payload: bytes, headers: Mapping[str, str] | None, number: int, live_s: float) -> None:
        """Take message ``number`` of the subscription, at ``live_s`` of live time."""
        self._report.counters.chunks_received += 1
        parsed = parse_headers(headers)
        if payload and (verdict := self._contention.judge(parsed, live_s)) is not Verdict.HEARD:
            self._tell_contended(verdict)
            if verdict in REFUSALS:
                return
        self.seen_s = live_s
        if parsed.ignored:
            self._report.passed_over(parsed.ignored)
        if self._chunks and self._chunks.idle:
            self._chunks = None
        chunk = Chunk(payload, parsed, self._lost_before(number), Arrival.now(), live_s)
        if self._chunks or (parsed.content_type and parse_encoding(parsed.content_type)):
            self._put(chunk)
        else:
            self.hear(chunk)
        if parsed.end:
            self._contention.over()

    def _tell_contended(self, verdict: Verdict) -> None:
        """Two publish on this stream, or no longer."""
        if verdict in REFUSALS:
            self._report.contended(self._contention.detail)
        if verdict is Verdict.NOTICED:
            self._handle(self._audio.skip(self._contention.detail), NO_HEADERS, Arrival.now())
        if (session := self.session) and (state := TOLD_OF.get(verdict)):
            self._report.sessions[session].status(state)

    def hear(self, chunk: Chunk) -> None:
        """Samples, a heartbeat or an end, as they came or as they were decoded."""
        try:
            # Short windows cost as much as long ones: they are for when nobody waits.
            eager = not self.worker.queue.depth
            events = self._audio.feed(chunk.payload, chunk.headers, chunk.lost_before, eager=eager)
        except BadInputError as error:
            self.refuse(chunk, str(error))
            if chunk.headers.end:
                self._handle(self._audio.end(chunk.lost_before), chunk.headers, chunk.arrival)
            else:  # what was lost is still to be told
                self._overflowed |= chunk.lost_before == "slow_consumer"
                self._reconnected |= chunk.lost_before == "lost_input"
            return
        if chunk.payload:
            self.heard_s = chunk.live_s
        self._took(events, chunk)

    def refuse(self, chunk: Chunk, reason: str, fmt: AudioFormat | None = None, *, count: bool = True) -> None:
        """Something in a chunk cannot be read; ``count``: for the first time."""
        self._report.refused(reason, count=count)
        self._took(self._audio.skip(reason, fmt), chunk)

    def begin_again(self, chunk: Chunk) -> None:
        """A recorder was started again: another session."""
        self._handle(self._audio.end(), chunk.headers, chunk.arrival)

    def _put(self, chunk: Chunk) -> None:
        """A message of a stream that is encoded."""
        if self._chunks is None:
            self._chunks = self._new_chunks(self)
            self.heard_s = chunk.live_s  # headers are no audio yet, and must not be idle
        if not self._chunks.put(chunk):
            self._overflowed = True
            self._report.counters.chunks_dropped["slow_consumer"] += 1
            self._runtime.warnings.warning("slow_consumer", "too many chunks wait to be decoded", stream=self.name)

    def _took(self, events: list[Event], chunk: Chunk) -> None:
        if (session := self.session) in self._report.sessions:
            self._report.note(session, chunk.headers)
            if events:
                self._report.notice(session)
            if chunk.came:
                self._report.stalled(session, stalled=False)
        self._handle(events, chunk.headers, chunk.arrival)
        if session := self.session:
            self._report.guess(session, self.worker, chunk.arrival)

    def dropped_after(self, number: int) -> None:
        """The NATS client dropped a message that came after message ``number``."""
        self._report.counters.chunks_dropped["slow_consumer"] += 1
        if not self._drops or self._drops[-1] != number:
            self._drops.append(number)

    def reconnected(self) -> None:
        """The connection was away: something may have been lost."""
        self._reconnected = True

    def end(self) -> None:
        """No more audio will come: idle, or shutdown. Encoded chunks are decoded first, so that the end comes later."""
        self._contention.over()
        if self._chunks and self.encoded:
            lost_before = self._lost_before(sys.maxsize)
            over = Chunk(b"", AudioHeaders(end=True), lost_before, Arrival.now(), self.heard_s, came=False)
            self._chunks.put(over, last=True)
        else:
            self.end_at_once()

    async def decoded(self) -> None:
        """All chunks that came are decoded, and taken."""
        if self._chunks:
            await self._chunks.drained()

    def end_at_once(self) -> None:
        """Decode no more."""
        if self._chunks and (left := self._chunks.give_up()):
            self._report.counters.chunks_dropped["slow_consumer"] += left
            self._overflowed = True
        self._handle(self._audio.end(self._lost_before(sys.maxsize)), NO_HEADERS, Arrival.now())

    def check_stalled(self, live_s: float) -> None:
        """Tell when nothing comes any more, not even a heartbeat; what is open need not wait for the next word."""
        timeout_s = self._runtime.settings.heartbeat_timeout_secs
        if self.session and live_s - self.seen_s >= timeout_s:
            self._report.stalled(self.session, stalled=True)
        if live_s - self.heard_s >= timeout_s and not self.decoding:
            self._handle(self._audio.pause(), NO_HEADERS, Arrival.now())

    def look_again(self) -> None:
        """Have heard again what waits for it."""
        if self._report.second_pass:
            self._report.second_pass.look()

    def stop_second_pass(self) -> None:
        """Nothing is heard again any more."""
        if self._report.second_pass:
            self._report.second_pass.stop()

    def _lost_before(self, number: int) -> GapReason | None:
        """Why messages may be missing before message ``number``, if they may."""
        reason: GapReason | None = "lost_input" if self._reconnected else None
        self._reconnected = False
        while self._drops and self._drops[0] < number:
            self._drops.popleft()
            self._overflowed = True
        if self._overflowed:
            self._overflowed, reason = False, "slow_consumer"
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
                case Odd():
                    self._report.odd(event)
                case Ended(session):
                    self._report.ended(session)

    def _enqueue(self, window: Window, arrival: Arrival) -> None:
        settle = partial(self._report.window, window, arrival.wall)
        job = self._report.job(window, settle, Lane.FINAL, arrival)
        refused = self.worker.queue.try_put(job)
        if refused is not job:
            self._report.jobs.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, self.worker.queue.no_place(refused.lane))
