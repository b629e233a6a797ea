"""Fragmented MP4, as its bytes arrive: what Safari's recorder writes.

In: consecutive bytes of an MP4 stream, cut anywhere, with parts missing or damaged. Out: packets with their times, where a
recording begins, where something could not be read. MP4 has no checksums. A fragment is delivered when all its bytes have
arrived; that bytes are missing shows as another fragment inside it, or as no box where it ends, and then reading resumes at the
next fragment or recording.
"""

import re
import struct
from collections.abc import Generator, Iterator

from transcriber.audio.codecs.mp4_boxes import Sample, Track, parse_moof, parse_moov
from transcriber.audio.codecs.opus import CodedHeader, ContainerEvent, OpusHeader, Packet, RecordingStarted, Unreadable
from transcriber.errors import BadInputError

MAX_AUDIO_BYTES = 2**19
"""Limit of a box: half a minute of AAC."""
MAX_VIDEO_BYTES = 2**22
"""Limit where there are other tracks."""

_RESYNC = re.compile(rb"....moof\0\0\0\x10mfhd|\0\0..ftyp", re.DOTALL)
_RESYNC_BYTES = 16
_HEADER_BYTES, _LONG_HEADER_BYTES = 8, 16
_SKIPPED = frozenset({
    b"free", b"skip", b"wide", b"styp", b"sidx", b"ssix", b"emsg", b"prft", b"mfra", b"uuid", b"pdin", b"meta", b"udta", b"pssh",
})  # fmt: skip
_KNOWN = _SKIPPED | {b"ftyp", b"moov", b"moof", b"mdat"}


class Mp4Demuxer:
    """Finds the audio track of a fragmented MP4 stream, and its packets.

    Its memory is bounded by the largest box.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()  # the next box begins here
        self._read_bytes = 0  # before it, since the last loss
        self._scanned = 0  # searched for another fragment up to here
        self._searching = True  # a stream that is joined late begins inside a fragment
        self._excused = 0  # bytes that make no sense because some before them were lost, which was reported
        self._begin()

    def _begin(self) -> None:
        self._track: Track | None = None
        self._refused = False  # whether it was reported why there is no track
        self._fragment: list[Sample] = []  # whose bytes are still to come
        self._fragment_at = 0  # where it begins, as ``_read_bytes``
        self._headed = False  # whether the header of the track was delivered
        self._lost = False  # whether packets may be missing before the next one

    def feed(self, data: bytes, *, lost: bool = False) -> Iterator[ContainerEvent]:
        """Take more bytes; ``lost``: some before them are missing. To be exhausted before the next call."""
        if lost:
            yield from self._whole_samples()
            self._buffer.clear()
            self._scanned, self._fragment = 0, []
            self._searching = self._lost = True
            self._excused = self._most_bytes
        self._buffer += data
        while (yield from self._step()):
            pass

    def finish(self) -> Iterator[ContainerEvent]:
        """No more bytes will arrive. An incomplete fragment is delivered as far as it arrived, and reported if it holds audio."""
        if not self._searching and self._fragment and len(self._buffer) > _HEADER_BYTES:
            yield from self._whole_samples()
            yield Unreadable("MP4 ends inside a fragment")

    def _whole_samples(self) -> Iterator[ContainerEvent]:
        """The packets of an incomplete fragment that have arrived."""
        box = None if self._searching or not self._fragment else _box(self._buffer)
        if box and box[0] == b"mdat":
            arrived = len(self._buffer)
            yield from self._deliver(box[1], arrived, whole=False)

    def _step(self) -> Generator[ContainerEvent, None, bool]:
        """Read one box; returns whether there may be another one."""
        if self._searching:
            return (yield from self._search())
        box = _box(self._buffer)
        if box is None:
            return False
        kind, head_bytes, size = box
        if kind not in _KNOWN or not head_bytes <= size <= self._most_bytes:
            yield from self._break(f"no box of MP4 begins here, or one of {size} bytes")
            return True
        if _RESYNC.search(self._buffer, max(_HEADER_BYTES, self._scanned), size):
            yield from self._break("bytes of MP4 are missing: a fragment begins inside another one")
            return True
        if len(self._buffer) < size:
            self._scanned = max(0, len(self._buffer) - _RESYNC_BYTES)
            return False
        yield from self._take(kind, head_bytes, size)
        self._drop(size)
        return True

    def _search(self) -> Generator[ContainerEvent, None, bool]:
        """Move to the next place where reading can resume."""
        found = _RESYNC.search(self._buffer)
        skipped = found.start() if found else max(0, len(self._buffer) - _RESYNC_BYTES + 1)
        self._drop(skipped)
        if found:
            self._searching, self._excused = False, 0
        elif skipped:
            self._excused -= skipped
            if self._excused < 0:
                yield Unreadable("nothing of MP4 in this payload")
        return bool(found)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._read_bytes += count
        self._scanned = 0

    def _break(self, reason: str) -> Iterator[ContainerEvent]:
        """No box begins here, so the one before, or this one, is damaged."""
        self._searching = self._lost = True
        self._fragment = []
        self._drop(1)
        self._excused = self._most_bytes  # it is reported here
        yield Unreadable(reason)

    def _take(self, kind: bytes, head_bytes: int, size: int) -> Iterator[ContainerEvent]:
        """One whole box."""
        body = bytes(self._buffer[head_bytes:size]) if kind != b"mdat" else b""
        try:
            match kind:
                case b"ftyp":
                    self._begin()
                    yield RecordingStarted()
                case b"moov":
                    self._refused, self._headed = True, False
                    self._track = parse_moov(body)
                case b"moof":
                    yield from self._take_fragment(body)
                case b"mdat":
                    yield from self._deliver(head_bytes, size)
                case _:
                    pass
        except BadInputError as error:
            self._lost = True
            yield Unreadable(str(error))

    def _take_fragment(self, body: bytes) -> Iterator[ContainerEvent]:
        if self._fragment:
            self._fragment, self._lost = [], True
            yield Unreadable("an MP4 fragment without its audio")
        if self._track:
            self._fragment_at = self._read_bytes
            self._fragment = parse_moof(body, self._track)
        elif not self._refused:
            self._refused = True
            raise BadInputError("MP4 without its beginning: the first bytes of a recorder say how to decode the rest")

    def _deliver(self, head_bytes: int, size: int, *, whole: bool = True) -> Iterator[ContainerEvent]:
        """The packets of the fragment whose ``mdat`` is in the buffer, up to ``size`` bytes of it."""
        samples, self._fragment = self._fragment, []
        track = self._track
        if track is None or not samples:
            if not self._refused or (track and not self._headed and not track.others and whole):
                self._refused = self._headed = True
                yield Unreadable("MP4 that is not in fragments")
            return
        rate, end = track.head.rate, head_bytes
        for sample in samples:
            start = end if sample.at is None else self._fragment_at + sample.at - self._read_bytes
            end = start + sample.size
            if start < head_bytes or end > size:
                if whole:
                    self._lost = True
                    yield Unreadable("an MP4 fragment with audio outside of it")
                return
            at = None if sample.time is None else round(sample.time * rate / track.timescale)
            if not self._headed:
                self._headed = True
                start_frame = round((track.start or 0) * rate / track.timescale)
                yield track.head._replace(pre_skip=max(0, start_frame - (at or 0)))
            duration = sample.duration * rate / track.timescale
            yield from self._packet(track.head, bytes(self._buffer[start:end]), at, duration)

    def _packet(
        self, head: OpusHeader | CodedHeader, data: bytes, at: int | None, duration: float
    ) -> Iterator[ContainerEvent]:
        try:
            frames = head.frames_of(data)
        except BadInputError as error:
            self._lost = True
            yield Unreadable(str(error))
            return
        keep = round(duration) if 0 < duration < frames - 1 else None  # the last one may say that it holds less
        yield Packet(data, at, self._lost, keep)
        self._lost = False

    @property
    def _most_bytes(self) -> int:
        """Size limit of a box."""
        return MAX_VIDEO_BYTES if self._track and self._track.others else MAX_AUDIO_BYTES


def _box(data: bytearray) -> tuple[bytes, int, int] | None:
    """Type, bytes of the header and of the whole of the box at the start; None if its header is not complete."""
    if len(data) < _HEADER_BYTES:
        return None
    size, kind = struct.unpack_from(">I4s", data)
    if size != 1:
        return kind, _HEADER_BYTES, size
    if len(data) < _LONG_HEADER_BYTES:
        return None
    return kind, _LONG_HEADER_BYTES, struct.unpack_from(">Q", data, _HEADER_BYTES)[0]
