"""One live stream: payloads in, transcripts out.

In: messages of one subject. Out: jobs for the stream's worker, and messages for the publisher.
"""

import sys
from collections import deque
from collections.abc import Callable, Mapping

from transcriber.audio.codecs.stream_decoder import parse_encoding, recognised_type
from transcriber.audio.contention import REFUSALS, Contention, Verdict
from transcriber.audio.format import AudioFormat
from transcriber.audio.headers import NO_HEADERS, AudioHeaders, parse_headers
from transcriber.audio.session import Session
from transcriber.audio.stream import Event, Stream
from transcriber.engine.worker import Worker
from transcriber.errors import BadInputError
from transcriber.live.decode_queue import DecodeQueue, PayloadHandler
from transcriber.live.payload import LivePayload
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.second_pass import SecondPass
from transcriber.pipeline.session_output import SessionOutput
from transcriber.pipeline.stream_output import CONTENTION_STATES, StreamOutput
from transcriber.schema.arrival import Arrival
from transcriber.schema.messages import GapReason
from transcriber.ulid import new_ulid

QUIET_S = 0.5
"""Without audio for so many seconds, no payload comes that would close a window in which speech has ended."""


class LiveStream:
    """Event loop only.

    Attributes:
        name: the subject's last token.
        worker: transcribes all windows of this stream.
        last_payload_s, last_audio_s: live time of the latest payload, and of the latest with audio.
    """

    def __init__(
        self,
        name: str,
        worker: Worker,
        runtime: Runtime,
        live_s: float,
        new_decode_queue: Callable[[PayloadHandler], DecodeQueue],
    ) -> None:
        """``new_decode_queue`` is called when the first encoded chunk arrives."""
        settings = runtime.settings
        self.name = name
        self.worker = worker
        self.last_payload_s = self.last_audio_s = live_s
        self._last_audio = Arrival.now()
        self._runtime = runtime
        self._output = StreamOutput(name, runtime, runtime.publisher)
        policies = self._output.settings
        self._audio = Stream(
            settings.input, policies, runtime.network, max_hole_s=settings.max_hole_secs, new_id=new_ulid
        )
        if settings.second_pass:
            self._output.second_pass = SecondPass(worker, self._output, voices=settings.speakers == "voices")
        self._drops: deque[int] = deque()  # numbers of the messages after which the NATS client dropped some
        self._reconnected = False
        self._contention = Contention(settings.input)
        self._new_decode_queue = new_decode_queue
        self._decode_queue: DecodeQueue | None = None
        self._queue_overflowed = False  # since the last message that was taken

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self._audio.session

    @property
    def finished(self) -> bool:
        """Whether no session is open or has text pending, and no decoder waits for a later chunk."""
        return not self._output.sessions and not self.encoded

    @property
    def encoded(self) -> bool:
        """Whether its audio arrives in encoded chunks."""
        return self._decode_queue is not None and not self._decode_queue.idle

    @property
    def decoding(self) -> bool:
        """Whether chunks wait to be decoded."""
        return self._decode_queue is not None and self._decode_queue.busy

    @property
    def outputs(self) -> Mapping[Session, SessionOutput]:
        """The open session and those with text pending."""
        return self._output.sessions

    @property
    def stalled(self) -> bool:
        session = self.session
        output = self._output.sessions.get(session) if session else None
        return output is not None and output.stalled

    def receive(self, data: bytes, headers: Mapping[str, str] | None, number: int, live_s: float) -> None:
        """Take message ``number`` of the subscription, which arrived at ``live_s`` of live time."""
        self._output.counters.chunks_received += 1
        parsed = parse_headers(headers)
        if data and parsed.content_type is None and self.session is None and not self.encoded:
            parsed = parsed._replace(content_type=recognised_type(data))
        if data and (verdict := self._contention.judge(parsed, live_s)) is not Verdict.ACCEPTED:
            self._publish_contended(verdict)
            if verdict in REFUSALS:
                return
        self.last_payload_s = live_s
        if parsed.ignored:
            self._output.ignored(parsed.ignored)
        if self._decode_queue and self._decode_queue.idle:
            self._decode_queue = None
        payload = LivePayload(data, parsed, self._lost_before(number), Arrival.now(), live_s)
        if self._decode_queue or (parsed.content_type and parse_encoding(parsed.content_type)):
            self._enqueue_encoded(payload)
        else:
            self.handle(payload)
        if parsed.end:
            self._contention.reset()

    def _publish_contended(self, verdict: Verdict) -> None:
        """Publish that two publishers share this stream, or no longer do."""
        if verdict in REFUSALS:
            self._output.contended(self._contention.detail)
        if verdict is Verdict.CONTENTION_BEGUN:
            self._publish_events(self._audio.skip(self._contention.detail), NO_HEADERS, Arrival.now())
        if (session := self.session) and (state := CONTENTION_STATES.get(verdict)):
            self._output.sessions[session].status(state)

    def handle(self, payload: LivePayload) -> None:
        """Samples, a heartbeat or an end: as published, or decoded."""
        try:
            # Short windows cost as much as long ones: only when no job waits.
            eager = not self.worker.queue.depth
            events = self._audio.feed(payload.data, payload.headers, payload.lost_before, eager=eager)
        except BadInputError as error:
            self.refuse(payload, str(error))
            if payload.headers.flush:
                self._publish_events(self._audio.flush(), payload.headers, payload.arrival)
            if payload.headers.end:
                self._publish_events(self._audio.end(payload.lost_before), payload.headers, payload.arrival)
            else:  # what was lost is still to be published
                self._queue_overflowed |= payload.lost_before == "slow_consumer"
                self._reconnected |= payload.lost_before == "lost_input"
            return
        if payload.data:
            self.last_audio_s, self._last_audio = payload.live_s, payload.arrival
        self._publish(events, payload)

    def refuse(self, payload: LivePayload, reason: str, fmt: AudioFormat | None = None, *, count: bool = True) -> None:
        """Something in a payload cannot be read; ``count``: count it as dropped."""
        self._output.refused(reason, count=count)
        self._publish(self._audio.skip(reason, payload.headers, fmt), payload)

    def restart(self, payload: LivePayload) -> None:
        """The recorder was restarted: end the session; the next audio opens another."""
        self._publish_events(self._audio.end(), payload.headers, payload.arrival)

    def _enqueue_encoded(self, payload: LivePayload) -> None:
        """Queue a payload that has to be decoded, or that follows one."""
        if self._decode_queue is None:
            self._decode_queue = self._new_decode_queue(self)
            self.last_audio_s = payload.live_s  # a container's header is no audio yet, and must not count as idle
        if not self._decode_queue.put(payload):
            self._queue_overflowed = True
            self._output.counters.chunks_dropped["slow_consumer"] += 1
            self._runtime.warnings.warning("slow_consumer", "too many chunks wait to be decoded", stream=self.name)

    def _publish(self, events: list[Event], payload: LivePayload) -> None:
        self._output.received(
            self.session, events, payload.headers, payload.arrival, self.worker, published=payload.published
        )

    def dropped_after(self, number: int) -> None:
        """The NATS client dropped a message after message ``number``."""
        self._output.counters.chunks_dropped["slow_consumer"] += 1
        if not self._drops or self._drops[-1] != number:
            self._drops.append(number)

    def reconnected(self) -> None:
        """The connection was lost and is back: payloads may be missing."""
        self._reconnected = True

    def end(self) -> None:
        """No more audio: idle, or shutdown. Encoded chunks are decoded first, and the end waits for them."""
        self._contention.reset()
        if self._decode_queue and self.encoded:
            lost_before = self._lost_before(sys.maxsize)
            over = LivePayload(
                b"", AudioHeaders(end=True), lost_before, Arrival.now(), self.last_audio_s, published=False
            )
            self._decode_queue.put(over, last=True)
        else:
            self.end_now()

    async def decoded(self) -> None:
        """Wait until all chunks that arrived are decoded and handled."""
        if self._decode_queue:
            await self._decode_queue.drained()

    def end_now(self) -> None:
        """End without decoding what waits."""
        if self._decode_queue and (left := self._decode_queue.cancel()):
            self._output.counters.chunks_dropped["slow_consumer"] += left
            self._queue_overflowed = True
        self._publish_events(self._audio.end(self._lost_before(sys.maxsize)), NO_HEADERS, Arrival.now())

    def check_speech(self, live_s: float) -> None:
        """Close the windows in which speech has ended, and that were kept open as jobs waited, once no more audio arrives for them."""
        if live_s - self.last_audio_s >= QUIET_S and not self.decoding and not self.worker.queue.depth:
            self._publish_events(self._audio.end_speech(), NO_HEADERS, self._last_audio)

    def check_stalled(self, live_s: float) -> None:
        """Publish ``stalled`` when not even heartbeats arrive; without audio for as long, close the open window."""
        timeout_s = self._runtime.settings.heartbeat_timeout_secs
        if self.session and live_s - self.last_payload_s >= timeout_s:
            self._output.stalled(self.session, stalled=True)
        if live_s - self.last_audio_s >= timeout_s and not self.decoding:
            self._publish_events(self._audio.pause(), NO_HEADERS, self._last_audio)

    def run_second_pass(self) -> None:
        """Start the next second pass, if the worker is idle."""
        if self._output.second_pass:
            self._output.second_pass.start_next()

    def stop_second_pass(self) -> None:
        """Start no second pass any more."""
        if self._output.second_pass:
            self._output.second_pass.stop()

    def _lost_before(self, number: int) -> GapReason | None:
        """Why messages may be missing before message ``number``, if they may."""
        reason: GapReason | None = "lost_input" if self._reconnected else None
        self._reconnected = False
        while self._drops and self._drops[0] < number:
            self._drops.popleft()
            self._queue_overflowed = True
        if self._queue_overflowed:
            self._queue_overflowed, reason = False, "slow_consumer"
        return reason

    def _publish_events(self, events: list[Event], headers: AudioHeaders, arrival: Arrival) -> None:
        self._output.handle(events, headers, arrival, self.worker)
