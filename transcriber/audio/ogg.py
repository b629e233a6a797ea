"""Opus in Ogg (RFC 3533, RFC 7845), as its bytes come in.

In: consecutive bytes of an Ogg stream, cut anywhere, with parts missing or damaged. Out: what is in it: packets with their
times, where a recording begins, where something could not be read. A damaged page is known by its checksum; it goes on at
the next one that is whole.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from transcriber.audio.opus import HEAD, Began, Broken, Event, Packet, packet_frames, parse_head
from transcriber.errors import BadInputError

CAPTURE = b"OggS"
HEADER_BYTES = 27
MAX_PAGE_BYTES = HEADER_BYTES + 255 + 255 * 255
MAX_PACKET_BYTES = 65_536
"""Of a packet that spans pages."""

CONTINUED, BEGINS, ENDS = 1, 2, 4
_FLAGS = CONTINUED | BEGINS | ENDS
_FULL_SEGMENT = 255

_TAGS = b"OpusTags"
_CODECS = {b"\x01vorbis": "Vorbis", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex", b"\x80theora": "Theora"}

_BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checksum(page: bytes) -> int:
    """Ogg's own CRC-32 of a page whose checksum is 0: zlib's with each byte, and the result, the other way round."""
    mirrored = zlib.crc32(page.translate(_BIT_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_BIT_REVERSED), "big")


class _Page(NamedTuple):
    flags: int
    granule: int | None  # the time at the end of the last packet that ends here; None if not known
    serial: int
    sequence: int
    pieces: list[bytes]  # of packets; all but the last end here
    open: bool  # whether the last piece goes on in the next page


class OggDemuxer:
    """Finds the Opus stream in an Ogg stream, and its packets.

    What it keeps is bounded: less than one page, and less than one packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._candidates: list[int] = []  # where pages may begin in it, whose ends have not come
        self._scanned = 0  # up to here it was looked for them
        self._searching = True  # whoever joins late hears the end of a page first
        self._excused = 0  # bytes that are no page because some before them were lost, and that was told
        self._serial: int | None = None  # of the Opus stream
        self._others: dict[int, str] = {}  # serials and codecs of those beside it
        self._heads = False  # whether the last page was one of those with which all streams begin
        self._refused = False
        self._begin()

    def _begin(self) -> None:
        self._sequence: int | None = None  # of the next page
        self._end: int | None = None  # time after the last packet
        self._partial: bytes | None = None  # a packet that goes on in the next page
        self._lost = False  # whether packets may be missing before the next one

    def feed(self, data: bytes, *, lost: bool = False) -> Iterator[Event]:
        """Take more bytes; ``lost``: some before them never came. To be exhausted before the next call."""
        if lost:
            self._drop(len(self._buffer))
            self._searching = self._lost = True
            self._excused, self._partial = MAX_PAGE_BYTES, None
        searching = self._searching
        self._buffer += data
        found = False
        while page := self._next_page():
            start, parsed = page
            if start:
                yield from self._break("bytes that are no Ogg page")
            self._drop(start + len(parsed))
            self._searching, self._excused, found = False, 0, True
            yield from self._take(_parse(parsed))
        yield from self._skip_garbage(found=found, searching=searching)

    def finish(self) -> Iterator[Event]:
        """No more bytes will come."""
        if self._buffer and not self._searching:
            yield Broken("Ogg ends inside a page")

    def _next_page(self) -> tuple[int, bytes] | None:
        """The first whole page in the buffer and where it begins; pages that seem to begin before it are none."""
        waiting: list[int] = []
        for start in self._starts():
            size = _page_bytes(self._buffer, start)
            if size is None:
                waiting.append(start)
            elif size and _is_whole(page := bytes(self._buffer[start : start + size])):
                self._scanned = max(self._scanned, start + size)
                return start, page
        self._candidates = waiting
        return None

    def _starts(self) -> Iterator[int]:
        """Where pages may begin; it is looked for the next when it is asked for, as most pages begin where one ends."""
        yield from self._candidates
        while (at := self._buffer.find(CAPTURE, self._scanned)) >= 0:
            self._scanned = at + 1
            yield at
        self._scanned = max(self._scanned, len(self._buffer) - len(CAPTURE) + 1)

    def _skip_garbage(self, *, found: bool, searching: bool) -> Iterator[Event]:
        """Forget what can be no part of a page; ``found``: there was a page in what came."""
        tail = max(0, len(self._buffer) - len(CAPTURE) + 1)
        while tail < len(self._buffer) and not CAPTURE.startswith(self._buffer[tail:]):
            tail += 1
        garbage = self._candidates[0] if self._candidates else tail
        if not garbage:
            return
        self._drop(garbage)
        if not self._searching:
            yield from self._break("bytes that are no Ogg page")
        elif searching and not found:
            self._excused -= garbage
            if self._excused < 0:
                yield Broken("no Ogg page in this payload")

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._candidates = [at - count for at in self._candidates if at >= count]
        self._scanned = max(0, self._scanned - count)

    def _break(self, reason: str) -> Iterator[Event]:
        self._lost, self._partial = True, None
        if not self._searching:
            self._searching = True
            yield Broken(reason)

    def _take(self, page: _Page) -> Iterator[Event]:
        if page.flags & BEGINS:
            yield from self._take_head(page)
            return
        self._heads = False
        if page.serial in self._others and self._serial is None:
            # Said once: whatever else comes of it is no news.
            if not self._refused:
                self._refused = True
                yield Broken(f"Ogg holds {self._others[page.serial]}, not Opus")
        elif page.serial not in self._others:
            if page.serial != self._serial:
                # Its header was lost, or came before we did.
                if self._serial is not None:
                    yield Began()
                self._begin()
                self._serial = page.serial
            yield from self._take_audio(page)

    def _take_head(self, page: _Page) -> Iterator[Event]:
        """The first page of one of the streams."""
        if not self._heads:
            self._heads, self._serial, self._others, self._refused = True, None, {}, False
            self._begin()
            yield Began()
        packet = page.pieces[0] if page.pieces else b""
        if not packet.startswith(HEAD) or self._serial is not None:
            self._others[page.serial] = next(
                (name for magic, name in _CODECS.items() if packet.startswith(magic)), "something"
            )
            return
        try:
            yield parse_head(packet)
            self._serial, self._sequence, self._end = page.serial, page.sequence + 1, 0
        except BadInputError as error:
            self._others[page.serial], self._refused = "more than we read", True
            yield Broken(str(error))

    def _take_audio(self, page: _Page) -> Iterator[Event]:
        if self._sequence not in {None, page.sequence}:
            self._lost, self._partial = True, None
        self._sequence = (page.sequence + 1) % 2**32
        packets: list[tuple[bytes, int]] = []
        for packet in self._join(page):
            if not packet.startswith((HEAD, _TAGS)):
                try:
                    packets.append((packet, packet_frames(packet)))
                except BadInputError as error:
                    self._lost = True
                    yield Broken(str(error))
        frames = sum(count for _, count in packets)
        at = None if page.granule is None else page.granule - frames
        left = frames
        if page.flags & ENDS and page.granule is not None and self._end is not None and not self._lost:
            # The last page may say that it holds less than its packets do.
            left = min(frames, max(0, page.granule - self._end))
            at = page.granule - left
        for packet, count in packets:
            yield Packet(packet, at, self._lost, None if left >= count else left)
            self._lost = False
            at, left = None if at is None else at + count, max(0, left - count)
        if packets:
            self._end = page.granule

    def _join(self, page: _Page) -> list[bytes]:
        """The packets that end in this page."""
        pieces, before = page.pieces, self._partial
        self._partial = None
        if page.flags & CONTINUED and pieces:
            if before is not None:
                pieces[0] = before + pieces[0]
            elif len(pieces) > 1 or not page.open:
                pieces = pieces[1:]  # its beginning is lost
            else:
                return []
        elif before is not None:
            self._lost = True
        if page.open and pieces:
            *pieces, partial = pieces
            self._partial = partial if len(partial) <= MAX_PACKET_BYTES else None
        return pieces


def _page_bytes(buffer: bytearray, start: int) -> int | None:
    """Size of the page that begins at ``start``; None if it has not all come, 0 if it is none."""
    header = buffer[start : start + HEADER_BYTES]
    if any(header[4:5]) or (len(header) > 5 and header[5] > _FLAGS):  # noqa: PLR2004 - version, then flags
        return 0
    if len(header) < HEADER_BYTES:
        return None
    segments = buffer[start + HEADER_BYTES : start + HEADER_BYTES + header[26]]
    size = HEADER_BYTES + header[26] + sum(segments)
    return size if len(segments) == header[26] and start + size <= len(buffer) else None


def _is_whole(page: bytes) -> bool:
    return checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


def _parse(page: bytes) -> _Page:
    granule = int.from_bytes(page[6:14], "little", signed=True)
    lengths, size = [], 0
    for segment in page[HEADER_BYTES : HEADER_BYTES + page[26]]:
        size += segment
        if segment < _FULL_SEGMENT:
            lengths.append(size)
            size = 0
    is_open = bool(page[26]) and page[HEADER_BYTES + page[26] - 1] == _FULL_SEGMENT
    if is_open:
        lengths.append(size)
    pieces, at = [], HEADER_BYTES + page[26]
    for length in lengths:
        pieces.append(page[at : at + length])
        at += length
    serial, sequence = int.from_bytes(page[14:18], "little"), int.from_bytes(page[18:22], "little")
    return _Page(page[5], granule if granule >= 0 else None, serial, sequence, pieces, is_open)
