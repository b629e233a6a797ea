"""The encoded chunks of one live stream: they wait here, and are decoded in the pool, one after the other.

In: payloads with their headers, in the order in which they came. Out: in the same order, samples with headers as if they had been
published as such. While a chunk is decoded, whatever else comes on the stream waits, samples and heartbeats too; other streams
go on.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from transcriber.audio.codecs.opus import Began, Broken
from transcriber.audio.codecs.stream_decoder import Encoding, Found, Piece, StreamDecoder, parse_encoding
from transcriber.audio.format import AudioFormat, parse_content_type
from transcriber.audio.headers import NO_HEADERS, AudioHeaders
from transcriber.errors import BadInputError
from transcriber.pipeline.decoder_pool import DecoderPool
from transcriber.schema.arrival import Arrival
from transcriber.schema.messages import GapReason

MAX_WAITING_BYTES = 2**19
"""Of one stream: two minutes at 32 kbit/s. One chunk may always wait, whatever its size."""

CHUNK_BYTES = 512
"""What a chunk costs beside its payload."""

BATCH = 4
"""Pieces, of a second at most, that are decoded at one go: then others have their turn."""


class Chunk(NamedTuple):
    """One message, and what is known of it.

    Attributes:
        lost_before: why others may be missing before it, if they may.
        live_s: live time at which it came.
        came: whether it is a message; else it says only that no more will come.
    """

    payload: bytes
    headers: AudioHeaders
    lost_before: GapReason | None
    arrival: Arrival
    live_s: float
    came: bool = True


class Listener(Protocol):
    """Who takes what was decoded."""

    def hear(self, chunk: Chunk) -> None:
        """Samples, a heartbeat or an end."""

    def refuse(self, chunk: Chunk, reason: str, fmt: AudioFormat | None, *, count: bool) -> None:
        """Something in ``chunk`` cannot be read; ``count``: for the first time."""

    def begin_again(self, chunk: Chunk) -> None:
        """What comes belongs to another recording than what came."""


class DecodeQueue:
    """Event loop only. While nothing waits there is no task."""

    def __init__(
        self,
        decoding: DecoderPool,
        listener: Listener,
        on_crash: Callable[["asyncio.Task[None]"], None],
        *,
        max_hole_s: float,
    ) -> None:
        self._decoding, self._listener, self._on_crash = decoding, listener, on_crash
        self._max_hole_s = max_hole_s
        self._waiting: deque[Chunk] = deque()  # the first is being decoded
        self._waiting_bytes = 0
        self._decoder: StreamDecoder | None = None
        self._session: str | None = None  # what the publisher called it
        self._lost_before: GapReason | None = None  # until samples tell how much
        self._missed = False  # whether the decoder was not given all that came before the next payload
        self._unheard = NO_HEADERS  # what was said of samples that have not come out yet
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and nothing is known that a later chunk would need."""
        return not self._waiting and self._decoder is None

    def put(self, chunk: Chunk, *, last: bool = False) -> bool:
        """Take a chunk; False: too much waits already, and it is not the ``last``."""
        size = len(chunk.payload) + CHUNK_BYTES
        if self._waiting and not last and self._waiting_bytes + size > MAX_WAITING_BYTES:
            return False
        self._waiting.append(chunk)
        self._waiting_bytes += size
        if self._task is None:
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._on_crash)
        return True

    async def drained(self) -> None:
        """Nothing waits any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def give_up(self) -> int:
        """Decode no more; returns how many chunks are lost by that."""
        if self._task is not None:
            self._task.cancel()
        left = len(self._waiting)
        self._waiting.clear()
        self._decoder = None
        return left

    async def _work(self) -> None:
        while self._waiting:
            chunk = self._waiting[0]
            await self._take(chunk)
            self._waiting.popleft()
            self._waiting_bytes -= len(chunk.payload) + CHUNK_BYTES
        self._task = None

    async def _take(self, chunk: Chunk) -> None:
        headers = chunk.headers
        self._lost_before = chunk.lost_before or self._lost_before
        self._missed |= chunk.lost_before is not None
        try:
            encoding = self._encoding(chunk)
        except BadInputError as error:
            self._missed = True
            self._listener.refuse(chunk, str(error), self._format, count=True)
            if headers.end:
                await self._finish(chunk)
                self._listener.hear(self._without_samples(chunk, None))
            return
        if self._decoder and (encoding is not self._decoder.encoding or headers.session not in {None, self._session}):
            await self._finish(chunk)
            self._listener.begin_again(chunk)
        if encoding is None:
            self._listener.hear(chunk._replace(lost_before=self._lost_before))
            self._lost_before = None
            return
        if self._decoder is None:
            self._decoder, self._session = self._new_decoder(encoding), headers.session
            self._unheard = NO_HEADERS
            self._listener.begin_again(chunk)
        if chunk.payload:
            lost, self._missed = self._missed, False
            await self._hear(self._decoder.feed(chunk.payload, offset=headers.offset, lost=lost), chunk)
        if headers.end:
            await self._finish(chunk)
        # Whatever else its headers say; where a container ends is for its own clock to say.
        offset = headers.offset if encoding is Encoding.OPUS and not chunk.payload else None
        self._listener.hear(self._without_samples(chunk, offset))

    def _encoding(self, chunk: Chunk) -> Encoding | None:
        """What the payload is; None: samples.

        Raises:
            BadInputError: the ``Content-Type`` names nothing we read.
        """
        if chunk.headers.content_type is None:
            return self._decoder.encoding if self._decoder else None
        encoding = parse_encoding(chunk.headers.content_type)
        if encoding is None:
            parse_content_type(chunk.headers.content_type, AudioFormat())
        return encoding

    async def _finish(self, chunk: Chunk) -> None:
        """No more will come of what came before ``chunk``, or with it."""
        if self._decoder:
            await self._hear(self._decoder.finish(), chunk)
        self._decoder = None

    async def _hear(self, found: Iterator[Found], chunk: Chunk) -> None:
        """Have it decoded, and hand over what comes out: what is said of a chunk goes with the next samples."""
        self._unheard, broken = _joined(self._unheard, chunk.headers), False
        while batch := await self._decode(found):
            for one in batch:
                match one:
                    case Piece():
                        headers = self._unheard._replace(
                            content_type=one.format.content_type, offset=one.frame, end=False
                        )
                        self._listener.hear(
                            chunk._replace(payload=one.data, headers=headers, lost_before=self._lost_before)
                        )
                        self._unheard, self._lost_before = chunk.headers._replace(captured_at=None), None
                        await asyncio.sleep(0)  # a second of samples is some work, too
                    case Began():
                        self._listener.begin_again(chunk)
                    case Broken(reason):
                        self._listener.refuse(chunk, reason, self._format, count=not broken)
                        broken = True

    async def _decode(self, found: Iterator[Found]) -> list[Found]:
        """Some more of it; nothing if that was all."""
        try:
            return await self._decoding.run(_some, found)
        except BadInputError as error:
            if self._decoder:  # who knows what it is left with; another goes on as if it had come late
                self._decoder = self._new_decoder(self._decoder.encoding)
            return [Broken(str(error))]

    def _new_decoder(self, encoding: Encoding) -> StreamDecoder:
        return StreamDecoder(encoding, max_hole_s=self._max_hole_s)

    def _without_samples(self, chunk: Chunk, offset: int | None) -> Chunk:
        """The rest of a chunk whose samples have been heard: a heartbeat, or the end."""
        lost_before = None
        if chunk.headers.end:
            lost_before, self._lost_before = self._lost_before, None
        headers = chunk.headers._replace(content_type=None, offset=offset, captured_at=None)
        return chunk._replace(payload=b"", headers=headers, lost_before=lost_before)

    @property
    def _format(self) -> AudioFormat | None:
        return self._decoder.format if self._decoder else None


def _some(found: Iterator[Found]) -> list[Found]:
    """In the pool.

    Raises:
        BadInputError: it cannot be decoded, and nobody thought of that.
    """
    try:
        return list(islice(found, BATCH))
    except Exception as error:
        raise BadInputError(f"it does not decode: {type(error).__name__}") from error


def _joined(earlier: AudioHeaders, later: AudioHeaders) -> AudioHeaders:
    """What both say of samples that come after them."""
    return later._replace(
        captured_at=earlier.captured_at or later.captured_at,
        session=later.session or earlier.session,
        language=later.language or earlier.language,
        prompt=earlier.prompt if later.prompt is None else later.prompt,
        traceparent=later.traceparent or earlier.traceparent,
    )
