"""Encoded chunks of one live stream: they wait here and are decoded in the pool, one after another.

In: payloads with their headers, in order of arrival. Out: in the same order, samples with headers as if they had been
published as samples. While a chunk is decoded, everything else that arrives on the stream waits, samples and heartbeats
included; other streams continue.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from transcriber.audio.codecs.mpeg_frames import parse_interval
from transcriber.audio.codecs.opus import RecordingStarted, Unreadable
from transcriber.audio.codecs.stream_decoder import DecodedEvent, DecodedPiece, Encoding, StreamDecoder, parse_encoding
from transcriber.audio.format import AudioFormat, parse_content_type
from transcriber.audio.headers import NO_HEADERS, AudioHeaders
from transcriber.errors import BadInputError
from transcriber.live.payload import LivePayload
from transcriber.pipeline.decoder_pool import DecoderPool
from transcriber.schema.messages import GapReason

MAX_WAITING_BYTES = 2**19
"""For one stream: two minutes at 32 kbit/s. One chunk may always wait, whatever its size."""

CHUNK_BYTES = 512
"""Memory a waiting chunk costs beside its payload."""

BATCH = 4
"""Pieces of at most a second each, decoded in one turn of the pool; then other streams have theirs."""


class PayloadHandler(Protocol):
    """Takes what was decoded; ``LiveStream`` is one."""

    def handle(self, chunk: LivePayload) -> None:
        """Samples, a heartbeat or an end."""

    def refuse(self, chunk: LivePayload, reason: str, fmt: AudioFormat | None, *, count: bool) -> None:
        """Something in ``chunk`` cannot be read; ``count``: count the chunk as dropped, which is done once a chunk."""

    def restart(self, chunk: LivePayload) -> None:
        """What follows belongs to another recording than what was decoded so far."""


class DecodeQueue:
    """Event loop only. There is a task only while something waits."""

    def __init__(
        self,
        pool: DecoderPool,
        handler: PayloadHandler,
        on_crash: Callable[["asyncio.Task[None]"], None],
        *,
        max_hole_s: float,
    ) -> None:
        self._pool, self._handler, self._on_crash = pool, handler, on_crash
        self._max_hole_s = max_hole_s
        self._waiting: deque[LivePayload] = deque()  # the first is being decoded
        self._waiting_bytes = 0
        self._decoder: StreamDecoder | None = None
        self._icy_interval: int | None = None  # bytes of audio between two titles of a radio
        self._session: str | None = None  # ``Audio-Session`` of what is being decoded
        self._lost_before: GapReason | None = None  # until the offset of the next samples says how much
        self._data_lost = False  # whether bytes are missing between what the decoder has and the next payload
        self._pending_headers = NO_HEADERS  # of samples that are not decoded yet
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and there is no decoder state that a later chunk would need."""
        return not self._waiting and self._decoder is None

    def put(self, chunk: LivePayload, *, last: bool = False) -> bool:
        """Add a chunk. Returns False if too much waits already; the ``last`` one is always taken."""
        size = len(chunk.data) + CHUNK_BYTES
        if self._waiting and not last and self._waiting_bytes + size > MAX_WAITING_BYTES:
            return False
        self._waiting.append(chunk)
        self._waiting_bytes += size
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._on_crash)
        return True

    async def drained(self) -> None:
        """Wait until nothing waits any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def cancel(self) -> int:
        """Stop decoding; returns how many chunks are lost."""
        if self._task is not None:
            self._task.cancel()
        left = len(self._waiting)
        self._waiting.clear()
        self._decoder = None
        return left

    async def _run(self) -> None:
        while self._waiting:
            chunk = self._waiting[0]
            await self._process(chunk)
            self._waiting.popleft()
            self._waiting_bytes -= len(chunk.data) + CHUNK_BYTES
        self._task = None

    async def _process(self, chunk: LivePayload) -> None:
        headers = chunk.headers
        self._lost_before = chunk.lost_before or self._lost_before
        self._data_lost |= chunk.lost_before is not None
        try:
            encoding = self._encoding(chunk)
        except BadInputError as error:
            self._data_lost = True
            self._handler.refuse(chunk, str(error), self._format, count=True)
            if headers.end:
                await self._finish(chunk)
            if headers.end or headers.flush:
                self._handler.handle(self._without_samples(chunk, None))
            return
        if self._decoder and (encoding is not self._decoder.encoding or headers.session not in {None, self._session}):
            await self._finish(chunk)
            self._handler.restart(chunk)
        if encoding is None:
            self._handler.handle(chunk._replace(lost_before=self._lost_before))
            self._lost_before = None
            return
        if self._decoder is None:
            self._icy_interval = parse_interval(headers.content_type or "")
            self._decoder, self._session = self._new_decoder(encoding), headers.session
            self._pending_headers = NO_HEADERS
            self._handler.restart(chunk)
        if chunk.data:
            lost, self._data_lost = self._data_lost, False
            await self._decode_all(self._decoder.feed(chunk.data, offset=headers.offset, lost=lost), chunk)
        if headers.end:
            await self._finish(chunk)
        # The other headers apply as well; only a container's own clock says where it ends.
        offset = headers.offset if encoding is Encoding.OPUS and not chunk.data else None
        self._handler.handle(self._without_samples(chunk, offset))

    def _encoding(self, chunk: LivePayload) -> Encoding | None:
        """The payload's encoding; None for samples.

        Raises:
            BadInputError: the ``Content-Type`` is none that is supported.
        """
        if chunk.headers.content_type is None:
            return self._decoder.encoding if self._decoder else None
        encoding = parse_encoding(chunk.headers.content_type)
        if encoding is None:
            parse_content_type(chunk.headers.content_type, AudioFormat())
        return encoding

    async def _finish(self, chunk: LivePayload) -> None:
        """Flush the decoder: nothing of its recording follows ``chunk``."""
        if self._decoder:
            await self._decode_all(self._decoder.finish(), chunk)
        self._decoder = None

    async def _decode_all(self, found: Iterator[DecodedEvent], chunk: LivePayload) -> None:
        """Decode, and hand over the result; headers of ``chunk`` go with the next samples."""
        self._pending_headers, broken = _merged(self._pending_headers, chunk.headers), False
        while batch := await self._decode(found):
            for one in batch:
                match one:
                    case DecodedPiece():
                        headers = self._pending_headers._replace(
                            content_type=one.format.content_type, offset=one.frame, end=False, flush=False
                        )
                        self._handler.handle(
                            chunk._replace(data=one.data, headers=headers, lost_before=self._lost_before)
                        )
                        self._pending_headers, self._lost_before = chunk.headers._replace(captured_at=None), None
                        await asyncio.sleep(0)  # a second of samples takes the loop a while, too
                    case RecordingStarted():
                        self._handler.restart(chunk)
                    case Unreadable(reason):
                        self._handler.refuse(chunk, reason, self._format, count=not broken)
                        broken = True

    async def _decode(self, found: Iterator[DecodedEvent]) -> list[DecodedEvent]:
        """The next batch; empty at the end."""
        try:
            return await self._pool.run(_next_batch, found)
        except BadInputError as error:
            if self._decoder:  # its state is unknown; a new one continues as if it had joined late
                self._decoder = self._new_decoder(self._decoder.encoding)
            return [Unreadable(str(error))]

    def _new_decoder(self, encoding: Encoding) -> StreamDecoder:
        return StreamDecoder(encoding, max_hole_s=self._max_hole_s, icy_interval=self._icy_interval)

    def _without_samples(self, chunk: LivePayload, offset: int | None) -> LivePayload:
        """What remains of a chunk whose samples were handed over: a heartbeat, or the end."""
        lost_before = None
        if chunk.headers.end:
            lost_before, self._lost_before = self._lost_before, None
        headers = chunk.headers._replace(content_type=None, offset=offset, captured_at=None)
        return chunk._replace(data=b"", headers=headers, lost_before=lost_before)

    @property
    def _format(self) -> AudioFormat | None:
        return self._decoder.format if self._decoder else None


def _next_batch(found: Iterator[DecodedEvent]) -> list[DecodedEvent]:
    """Decode one batch. Runs on a thread of the pool.

    Raises:
        BadInputError: the decoder raised something unexpected.
    """
    try:
        return list(islice(found, BATCH))
    except Exception as error:
        raise BadInputError(f"it does not decode: {type(error).__name__}") from error


def _merged(earlier: AudioHeaders, later: AudioHeaders) -> AudioHeaders:
    """Headers of samples that follow both."""
    return later._replace(
        captured_at=earlier.captured_at or later.captured_at,
        session=later.session or earlier.session,
        language=later.language or earlier.language,
        prompt=earlier.prompt if later.prompt is None else later.prompt,
        traceparent=later.traceparent or earlier.traceparent,
    )
