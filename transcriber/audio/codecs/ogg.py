"""Opus in Ogg (RFC 3533, RFC 7845), as its bytes arrive.

In: consecutive bytes of an Ogg stream, cut anywhere, with parts missing or damaged. Out: packets with their times, where a
recording begins, where something could not be read. A damaged page is detected by its checksum; reading resumes at the next one
that is whole.
"""

from collections.abc import Iterator

from transcriber.audio.codecs.ogg_page import (
    BEGINS,
    CAPTURE,
    CONTINUED,
    ENDS,
    HEADER_BYTES,
    MAX_PAGE_BYTES,
    Page,
    is_whole,
    page_bytes,
    page_serial,
    parse_page,
)
from transcriber.audio.codecs.opus import (
    OPUS_HEAD,
    ContainerEvent,
    Packet,
    RecordingStarted,
    Unreadable,
    packet_frames,
    parse_opus_header,
)
from transcriber.errors import BadInputError

MAX_PACKET_BYTES = 65_536
"""Limit of a packet that spans pages."""

_TAGS = b"OpusTags"
_CODECS = {b"\x01vorbis": "Vorbis", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex", b"\x80theora": "Theora"}


class OggDemuxer:
    """Finds the Opus stream in an Ogg stream, and its packets.

    Its memory is bounded: less than one page, and less than one packet.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._candidates: list[int] = []  # where pages may begin in it, whose ends have not arrived
        self._scanned = 0  # searched up to here
        self._searching = True  # a stream that is joined late begins with the end of a page
        self._excused = 0  # bytes that are no page because some before them were lost, which was reported
        self._serial: int | None = None  # of the Opus stream
        self._others: dict[int, str] = {}  # serials and codecs of those beside it
        self._heads = False  # whether the last page was the first of a stream
        self._refused = False
        self._begin()

    def _begin(self) -> None:
        self._sequence: int | None = None  # of the next page
        self._end: int | None = None  # time after the last packet
        self._partial: bytes | None = None  # a packet that continues in the next page
        self._lost = False  # whether packets may be missing before the next one

    def feed(self, data: bytes, *, lost: bool = False) -> Iterator[ContainerEvent]:
        """Take more bytes; ``lost``: some before them are missing. To be exhausted before the next call."""
        if lost:
            self._drop(len(self._buffer))
            self._searching = self._lost = True
            self._excused, self._partial = MAX_PAGE_BYTES, None
        searching = self._searching
        self._buffer += data
        found = False
        while next_page := self._next_page():
            start, page = next_page
            if start:
                yield from self._break("bytes that are no Ogg page")
            self._drop(start + len(page))
            self._searching, self._excused, found = False, 0, True
            yield from self._take(parse_page(page))
        yield from self._skip_garbage(found=found, searching=searching)

    def finish(self) -> Iterator[ContainerEvent]:
        """No more bytes will arrive. An incomplete page or packet is reported if it holds audio."""
        if not self._searching and self._holds_audio():
            yield Unreadable("Ogg ends inside a page")
        elif self._partial and not self._partial.startswith(_TAGS):
            yield Unreadable("Ogg ends inside a packet")

    def _holds_audio(self) -> bool:
        """Whether the incomplete page at the end holds audio."""
        head = self._buffer[:HEADER_BYTES]
        if len(head) < HEADER_BYTES:
            return False
        body = self._buffer[HEADER_BYTES + head[26] :]
        begun = self._partial if head[5] & CONTINUED and self._partial else b""
        no_audio = head[5] & BEGINS or (begun + body)[: len(_TAGS)] == _TAGS[: len(begun + body)]
        return bool(body) and not no_audio and page_serial(head) not in self._others

    def _next_page(self) -> tuple[int, bytes] | None:
        """The first whole page in the buffer and where it begins; candidates before it are not pages."""
        waiting: list[int] = []
        for start in self._starts():
            size = page_bytes(self._buffer, start)
            if size is None:
                waiting.append(start)
            elif size and is_whole(page := bytes(self._buffer[start : start + size])):
                self._scanned = max(self._scanned, start + size)
                return start, page
        self._candidates = waiting
        return None

    def _starts(self) -> Iterator[int]:
        """Where pages may begin, found lazily, as most pages begin where one ends."""
        yield from self._candidates
        while (at := self._buffer.find(CAPTURE, self._scanned)) >= 0:
            self._scanned = at + 1
            yield at
        self._scanned = max(self._scanned, len(self._buffer) - len(CAPTURE) + 1)

    def _skip_garbage(self, *, found: bool, searching: bool) -> Iterator[ContainerEvent]:
        """Drop bytes that cannot be part of a page; ``found``: there was a page among the new ones."""
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
                yield Unreadable("no Ogg page in this payload")

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._candidates = [at - count for at in self._candidates if at >= count]
        self._scanned = max(0, self._scanned - count)

    def _break(self, reason: str) -> Iterator[ContainerEvent]:
        self._lost, self._partial = True, None
        if not self._searching:
            self._searching = True
            yield Unreadable(reason)

    def _take(self, page: Page) -> Iterator[ContainerEvent]:
        if page.flags & BEGINS:
            yield from self._take_head(page)
            return
        self._heads = False
        if page.serial in self._others and self._serial is None:
            # Reported once, not for each of its pages.
            if not self._refused:
                self._refused = True
                yield Unreadable(f"Ogg holds {self._others[page.serial]}, not Opus")
        elif page.serial not in self._others:
            if page.serial != self._serial:
                # Its header was lost, or arrived before this stream was joined.
                if self._serial is not None:
                    yield RecordingStarted()
                self._begin()
                self._serial = page.serial
            yield from self._take_audio(page)

    def _take_head(self, page: Page) -> Iterator[ContainerEvent]:
        """The first page of one of the streams."""
        if not self._heads:
            self._heads, self._serial, self._others, self._refused = True, None, {}, False
            self._begin()
            yield RecordingStarted()
        packet = page.pieces[0] if page.pieces else b""
        if not packet.startswith(OPUS_HEAD) or self._serial is not None:
            self._others[page.serial] = next(
                (name for magic, name in _CODECS.items() if packet.startswith(magic)), "something"
            )
            return
        try:
            yield parse_opus_header(packet)
            self._serial, self._sequence, self._end = page.serial, page.sequence + 1, 0
        except BadInputError as error:
            self._others[page.serial], self._refused = "more than is read", True
            yield Unreadable(str(error))

    def _take_audio(self, page: Page) -> Iterator[ContainerEvent]:
        if self._sequence not in {None, page.sequence}:
            self._lost, self._partial = True, None
        self._sequence = (page.sequence + 1) % 2**32
        packets: list[tuple[bytes, int]] = []
        for packet in self._join(page):
            if not packet.startswith((OPUS_HEAD, _TAGS)):
                try:
                    packets.append((packet, packet_frames(packet)))
                except BadInputError as error:
                    self._lost = True
                    yield Unreadable(str(error))
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

    def _join(self, page: Page) -> list[bytes]:
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
