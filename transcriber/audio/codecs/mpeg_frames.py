"""AAC in ADTS (ISO 13818-7) and MP3 (ISO 11172-3, 13818-3), as their bytes arrive: what internet radios send.

In: consecutive bytes, cut anywhere, with parts missing or damaged. Out: packets without times, where something could not be read.
A frame is delivered once another one begins where it ends. Tags and the titles of a radio are skipped.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from transcriber.audio.codecs.mp4_boxes import aac_rate
from transcriber.audio.codecs.opus import CodedHeader, ContainerEvent, Packet, RecordingStarted, Unreadable
from transcriber.audio.format import MAX_CHANNELS, MIN_SAMPLE_RATE

MAX_FRAME_BYTES = 8_191
MAX_INTERVAL_BYTES = 2**20
"""Between two titles of a radio."""

_HEADER_BYTES = 7
_ID3_BYTES, _ID3_MARK, _OLD_TAG, _OLD_TAG_BYTES = 10, b"ID3", b"TAG", 128
_BITRATES = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""kbit/s of Layer III, by number from 1 on: MPEG-1, and MPEG-2 and 2.5."""
_MPEG1_FRAMES = 1152
_MP3_RATES = (44_100, 48_000, 32_000)
_TITLE = b"StreamTitle='"
_UNIT_BYTES = 16
_RESERVOIR_BYTES = 511


class Frame(NamedTuple):
    """The header of a frame.

    Attributes:
        head: the same in all frames of a recording.
        size: bytes of the frame.
        side: where side information begins in a frame of MP3.
        side_bytes: of it; 0 for AAC.
    """

    head: CodedHeader
    size: int
    side: int = 0
    side_bytes: int = 0


def parse_adts(data: bytes | bytearray, at: int) -> Frame | None:
    """The ADTS header at ``at``, of which seven bytes are there; None if there is none that is read."""
    if data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:  # noqa: PLR2004 - the sync word, and layer 0
        return None
    rate = aac_rate(data[at + 2] >> 2 & 15)
    channels = (data[at + 2] & 1) << 2 | data[at + 3] >> 6
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    one_block = not data[at + 6] & 3
    least = _HEADER_BYTES + (0 if data[at + 1] & 1 else 2)
    if rate < MIN_SAMPLE_RATE or not 1 <= channels <= MAX_CHANNELS or size <= least or not one_block:
        return None
    return Frame(CodedHeader("aac", rate, channels, 1024), size)


def parse_mp3(data: bytes | bytearray, at: int) -> Frame | None:
    """The header at ``at`` of a frame of Layer III, of which seven bytes are there; None if there is none."""
    if data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:  # noqa: PLR2004 - the sync word, and Layer III
        return None
    version = data[at + 1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    bitrate, rate_index = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or not 0 < bitrate < 15 or rate_index == 3 or data[at + 3] & 3 == 2:  # noqa: PLR2004 - reserved
        return None
    first = version == 3  # noqa: PLR2004
    rate = _MP3_RATES[rate_index] >> (0 if first else 1 if version else 2)
    kbits = _BITRATES[not first][bitrate - 1]
    frames = _MPEG1_FRAMES if first else _MPEG1_FRAMES // 2
    channels = 1 if data[at + 3] >> 6 == 3 else 2  # noqa: PLR2004 - mono
    size = frames // 8 * kbits * 1000 // rate + (data[at + 2] >> 1 & 1)
    side = 4 if data[at + 1] & 1 else 6
    side_bytes = (17, 32)[channels - 1] if first else (9, 17)[channels - 1]
    if size <= side + side_bytes:
        return None
    return Frame(CodedHeader("mp3float", rate, channels, frames), size, side, side_bytes)


def begins(data: bytes) -> Literal["aac", "mpeg"] | None:
    """What ``data`` begins with: two frames of one recording, the first behind an ID3 tag, if there is one; else None."""
    at = _tag_bytes(data, 0) or 0
    for kind, parse in (("aac", parse_adts), ("mpeg", parse_mp3)):
        first = parse(data, at) if len(data) >= at + _HEADER_BYTES else None
        if first and len(data) >= at + first.size + _HEADER_BYTES:
            second = parse(data, at + first.size)
            if second and second.head == first.head:
                return kind  # type: ignore[return-value]
    return None


def _tag_bytes(data: bytes | bytearray, at: int) -> int | None:
    """Bytes of the tag at ``at``; 0 if there is none, None if that is not known yet."""
    if data.startswith(_OLD_TAG, at):
        return _OLD_TAG_BYTES
    begun = bytes(data[at : at + _ID3_BYTES])
    if not (_ID3_MARK.startswith(begun) or begun.startswith(_ID3_MARK)):
        return 0 if not _OLD_TAG.startswith(begun) else None
    if len(begun) < _ID3_BYTES:
        return None
    size = 0
    for byte in begun[6:]:
        if byte & 0x80:
            return 0
        size = size << 7 | byte
    return _ID3_BYTES + size + (_ID3_BYTES if begun[5] & 0x10 else 0)


class FrameDemuxer:
    """Finds the frames of ADTS or MP3. Its memory is bounded by two frames."""

    def __init__(self, kind: Literal["aac", "mpeg"], interval: int | None = None) -> None:
        """``interval``: bytes of audio between two titles of a radio; None: there are no titles."""
        self._parse = parse_adts if kind == "aac" else parse_mp3
        self._name = "ADTS" if kind == "aac" else "MP3"
        self._titles = _Titles(interval) if interval else None
        self._buffer = bytearray()
        self._skip = 0  # bytes of a tag that are still to come
        self._fresh = True  # nothing was read yet
        self._searching = True  # a stream that is joined late begins inside a frame
        self._excused = 2 * MAX_FRAME_BYTES  # bytes that make no sense as something before them is missing
        self._head: CodedHeader | None = None
        self._lost = False
        self._reservoir = 0  # bytes of earlier frames that a frame of MP3 may refer to

    def feed(self, data: bytes, *, lost: bool = False) -> Iterator[ContainerEvent]:
        """Take more bytes; ``lost``: some before them are missing. To be exhausted before the next call."""
        if lost:
            yield from self._last()
            self._buffer.clear()
            self._skip, self._searching, self._lost, self._fresh = 0, True, True, False
            self._excused = 2 * MAX_FRAME_BYTES
        self._buffer += self._titles.without(data, lost=lost) if self._titles else data
        at = 0
        while True:
            skipped = min(self._skip, len(self._buffer) - at)
            at, self._skip = at + skipped, self._skip - skipped
            if self._searching:
                start = self._search(at)
                self._excused -= start - at
                at = start
                if self._excused < 0:
                    self._excused = MAX_FRAME_BYTES
                    yield Unreadable(f"no {self._name} in this payload")
                if self._searching:
                    break
            size = self._next(at)
            if size is None:
                break
            if not size:
                self._searching, self._lost = True, True
                self._excused = 2 * MAX_FRAME_BYTES
                at += 1
                yield Unreadable(f"bytes that are no {self._name}")
                continue
            if size > 0:
                yield from self._deliver(bytes(self._buffer[at : at + size]))
                at += size
        del self._buffer[:at]

    def finish(self) -> Iterator[ContainerEvent]:
        """No more bytes will arrive: the last frame is delivered; one that is incomplete is reported."""
        yield from self._last()

    def _last(self) -> Iterator[ContainerEvent]:
        """The frame in the buffer, if it is whole."""
        if self._searching or len(self._buffer) < _HEADER_BYTES or not (frame := self._parse(self._buffer, 0)):
            return
        if len(self._buffer) >= frame.size:
            yield from self._deliver(bytes(self._buffer[: frame.size]))
            del self._buffer[: frame.size]
        else:
            yield Unreadable(f"{self._name} ends inside a frame")

    def _next(self, at: int) -> int | None:
        """Bytes of the frame at ``at``, behind which another one begins; -1: a tag was found, 0: damage, None: not known yet."""
        tag = _tag_bytes(self._buffer, at)
        if tag:
            self._skip = tag
            return -1
        if tag is None or len(self._buffer) < at + _HEADER_BYTES:
            return None
        frame = self._parse(self._buffer, at)
        if frame is None:
            return 0
        return self._confirmed(frame, at)

    def _confirmed(self, frame: Frame, at: int) -> int | None:
        """The size of a frame, if another one of the same recording, or a tag, follows; 0: none does, None: not known yet."""
        after = at + frame.size
        tag = _tag_bytes(self._buffer, after)
        if tag:
            return frame.size
        if tag is None or len(self._buffer) < after + _HEADER_BYTES:
            return None
        following = self._parse(self._buffer, after)
        return frame.size if following and (following.head == frame.head or not self._searching) else 0

    def _search(self, at: int) -> int:
        """Where two frames, or the tag of a file, begin; or where to search with more bytes."""
        if self._fresh:
            tag = _tag_bytes(self._buffer, at)
            if tag is None:
                return at
            self._fresh = False
            if tag:
                self._skip, self._searching = tag, False
                return at
        while (found := self._buffer.find(b"\xff", at)) >= 0:
            if len(self._buffer) < found + _HEADER_BYTES:
                return found
            frame = self._parse(self._buffer, found)
            size = self._confirmed(frame, found) if frame else 0
            if size is None:
                return found
            if size:
                self._searching, self._excused = False, 2 * MAX_FRAME_BYTES
                self._reservoir = 0
                return found
            at = found + 1
        return len(self._buffer)

    def _deliver(self, data: bytes) -> Iterator[ContainerEvent]:
        frame = self._parse(data, 0)
        if frame is None:
            return
        if frame.head != self._head:
            if self._head:
                yield RecordingStarted()
            self._head, self._reservoir = frame.head, 0
            yield frame.head
        keep = None
        if frame.side_bytes:
            behind = frame.side + frame.side_bytes
            if data[behind : behind + 4] in {b"Xing", b"Info"} or data[36:40] == b"VBRI":
                return  # how long the file is
            first = frame.head.packet_frames == _MPEG1_FRAMES
            refers = data[frame.side] << 1 | data[frame.side + 1] >> 7 if first else data[frame.side]
            keep = 0 if refers > self._reservoir else None
            self._reservoir = min(_RESERVOIR_BYTES, self._reservoir + len(data) - behind)
        yield Packet(data, None, self._lost, keep)
        self._lost = False


class _Titles:
    """Leaves out the titles that a radio sends after every ``interval`` bytes of audio."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._audio: int | None = interval  # bytes of audio before the next title; None: not known, as some were lost
        self._title = 0  # bytes of a title that are still to come

    def without(self, data: bytes, *, lost: bool) -> bytes:
        """The audio in ``data``."""
        if lost:
            self._audio, self._title = None, 0
        parts, at = [], 0
        while at < len(data):
            if self._title:
                skipped = min(self._title, len(data) - at)
                at, self._title = at + skipped, self._title - skipped
                continue
            if self._audio is None:
                found = data.find(_TITLE, at + 1)
                end = len(data) if found < 0 else found - 1
                self._audio = None if found < 0 else 0
            else:
                end = min(len(data), at + self._audio)
                self._audio -= end - at
            parts.append(data[at:end])
            at = end
            if self._audio == 0 and at < len(data):
                self._audio, self._title = self._interval, data[at] * _UNIT_BYTES
                at += 1
        return b"".join(parts)


def parse_interval(content_type: str) -> int | None:
    """The parameter ``icy-metaint`` of a ``Content-Type``: bytes of audio between two titles; None if there are none."""
    for parameter in content_type.split(";")[1:]:
        name, _, text = parameter.partition("=")
        text = text.strip().strip("\"'")
        if name.strip().lower() == "icy-metaint" and text.isascii() and text.isdecimal() and len(text) <= 7:  # noqa: PLR2004
            return int(text) if 0 < int(text) <= MAX_INTERVAL_BYTES else None
    return None
