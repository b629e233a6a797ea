"""Opus or samples in WebM, as its bytes arrive: what a browser's recorder writes.

In: consecutive bytes of a WebM stream, cut anywhere, with parts missing or damaged. Out: packets with their times, where a
recording begins, where something could not be read. Segments and clusters need no size: the stream is read element by element,
whatever is around them. WebM has no checksums. Damage shows when no element begins where one ends; then reading resumes at the
next block of the audio track, or cluster, that is followed by another element.
"""

from collections.abc import Iterator

from transcriber.audio.codecs.ebml import Element, header, number, unsigned
from transcriber.audio.codecs.matroska import (
    BLOCK,
    BLOCK_GROUP,
    CLUSTER,
    EBML,
    INFO,
    SEGMENT,
    SIMPLE_BLOCK,
    SKIPPED,
    TIMESTAMP,
    TRACKS,
    Block,
    block_of_group,
    parse_block,
    parse_info,
    parse_tracks,
    track_bytes,
)
from transcriber.audio.codecs.opus import (
    ContainerEvent,
    Header,
    OpusHeader,
    Packet,
    PcmHeader,
    RecordingStarted,
    Unreadable,
    packet_frames,
)
from transcriber.audio.codecs.webm_resync import MAX_AUDIO_BLOCK_BYTES, MAX_PCM_BLOCK_BYTES, find_resync_point
from transcriber.errors import BadInputError

MAX_ELEMENT_BYTES = 2**16
MAX_OTHER_BLOCK_BYTES = 2**20
"""Limit of a video block."""
MAX_LEARNED_TRACK = 15
"""The audio track is learned from blocks where the header was not seen; recorders have one or two tracks."""
BLOCK_HEAD_BYTES = 3
"""Time and flags, between the track number and the audio."""
MAX_TIMESTAMP = 2**48
MIN_BLOCK_TIME = -(2**15)

_KNOWN = SKIPPED | {EBML, INFO, TRACKS, TIMESTAMP}


class WebmDemuxer:
    """Finds the audio track of a WebM stream, and its packets.

    Its memory is bounded by the largest element, 1 MiB.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # where the next element begins in it
        self._inside = 0  # behind the header of the one before: where to search if that one was damaged
        self._searching = True  # a stream that is joined late begins with the end of a block
        self._excused = 0  # bytes that make no sense because some before them were lost, which was reported
        self._begin()

    def _begin(self) -> None:
        self._track: int | None = None  # the audio track; None: not known; 0: there is none
        self._head: Header = OpusHeader(1)  # of that track
        self._others: bool | None = None  # whether there are other tracks; None: not known
        self._scale_ns = 1_000_000  # of a timestamp's unit
        self._cluster: int | None = None  # its timestamp; None: not known
        self._blocks = False  # whether it had any; its timestamp is before them all, and elsewhere a sign of damage
        self._earlier = self._latest = MIN_BLOCK_TIME  # of the last two audio blocks in it, from its timestamp
        self._lost = False  # whether packets may be missing before the next one

    def feed(self, data: bytes, *, lost: bool = False) -> Iterator[ContainerEvent]:
        """Take more bytes; ``lost``: some before them are missing. To be exhausted before the next call."""
        if lost:
            self._buffer.clear()
            self._at = self._inside = 0
            self._searching = self._lost = True
            self._excused = self._block_bytes
        searching = self._searching
        self._buffer += data
        yield from self._read()
        read = min(self._inside, self._at)
        if searching and self._searching and read:
            self._excused -= read
            if self._excused < 0:
                yield Unreadable("nothing of WebM in this payload")
        del self._buffer[:read]
        self._at, self._inside = self._at - read, 0

    def finish(self) -> Iterator[ContainerEvent]:
        """No more bytes will arrive: what a damaged size deferred is read.

        An incomplete element is reported if it holds audio, or whole elements, so that its size was wrong.
        """
        while not self._searching and self._at < len(self._buffer):
            audio = self._holds_audio()
            broken = list(self._break("WebM ends inside an element", self._at + 1))
            inside = list(self._read())
            if audio or inside:
                yield from broken
            yield from inside

    def _holds_audio(self) -> bool:
        """Whether the incomplete element at the end is a block that holds audio."""
        try:
            element = header(self._buffer, self._at)
            if element and element.id == BLOCK_GROUP:
                element = header(self._buffer, element.body)
            if element is None or element.id not in {SIMPLE_BLOCK, BLOCK}:
                return False
            found = number(self._buffer, element.body)
        except BadInputError:
            return True
        if found is None:
            return False
        track, end = found
        ours = track == self._track or self._track is None
        return ours and len(self._buffer) > end + BLOCK_HEAD_BYTES

    def _read(self) -> Iterator[ContainerEvent]:
        while True:
            if self._searching and not self._search():
                return
            try:
                element = header(self._buffer, self._at)
                if element is None:
                    return
                # The content of a segment or cluster is read as if it were outside.
                size = 0 if element.id in {SEGMENT, CLUSTER} else self._size(element)
                if element.body + size > len(self._buffer):
                    return
            except BadInputError as error:
                yield from self._break(str(error), self._inside if self._inside < self._at else self._at + 1)
                continue
            self._inside, self._at = element.body, element.body + size
            yield from self._take(element.id, bytes(self._buffer[element.body : self._at]))

    def _size(self, element: Element) -> int:
        """Bytes of an element that is read as a whole.

        Raises:
            BadInputError: the element is unknown or too large.
        """
        most = MAX_ELEMENT_BYTES
        if element.id in {SIMPLE_BLOCK, BLOCK_GROUP}:
            most = self._block_bytes
            track = track_bytes(self._track or 0)
            # Some bytes of the number may not have arrived.
            if element.id == SIMPLE_BLOCK and track.startswith(self._buffer[element.body : element.body + len(track)]):
                most = self._audio_block_bytes
        elif element.id not in _KNOWN:
            raise BadInputError("no element of WebM begins here")
        if element.size is None or element.size > most:
            raise BadInputError(f"an element of {'unknown size' if element.size is None else f'{element.size} bytes'}")
        return element.size

    def _take(self, kind: int, body: bytes) -> Iterator[ContainerEvent]:
        """One whole element."""
        self._blocks |= kind in {SIMPLE_BLOCK, BLOCK_GROUP}
        try:
            if kind == SIMPLE_BLOCK:
                yield from self._take_block(parse_block(body))
            elif kind == BLOCK_GROUP:
                yield from self._take_block(block_of_group(body))
            elif kind == CLUSTER:
                self._cluster, self._earlier, self._latest = None, MIN_BLOCK_TIME, MIN_BLOCK_TIME
                self._blocks = False
            elif kind == TIMESTAMP and not self._blocks:
                stamp = unsigned(body)
                self._cluster = stamp if stamp < MAX_TIMESTAMP else None
            elif kind == EBML:
                self._begin()
                yield RecordingStarted()
            elif kind == INFO:
                self._scale_ns = parse_info(body)
            elif kind == TRACKS:
                self._track, self._others = 0, True
                self._track, self._head, self._others = parse_tracks(body)
                yield self._head
        except BadInputError as error:
            self._lost = True
            yield Unreadable(str(error))

    def _take_block(self, block: Block) -> Iterator[ContainerEvent]:
        if self._track is None and 0 < block.track <= MAX_LEARNED_TRACK and _is_opus(block.packets[0]):
            self._track = block.track
        if block.track != self._track:
            self._others = self._others is not False
            return
        # One time alone may be damaged, and the next one be right.
        if self._lost and block.time < self._latest and block.time <= self._earlier:
            self._cluster = None  # that of a later cluster, whose timestamp is lost
        self._earlier, self._latest = self._latest, block.time
        at = None if self._cluster is None else self._frame(self._cluster + block.time)
        for index, packet in enumerate(block.packets):
            try:
                frames = self._head.frames_of(packet)
            except BadInputError as error:
                self._lost = True
                yield Unreadable(str(error))
                continue
            keep = frames
            if index == len(block.packets) - 1:
                keep = min(frames, max(0, frames - round(block.padding_ns * self._head.rate / 10**9)))
            yield Packet(packet, at, self._lost, None if keep == frames else keep)
            # A loss has a length once a time is known.
            self._lost = self._lost and at is None
            at = None if at is None else at + frames

    def _frame(self, stamp: int) -> int:
        return round(stamp * self._scale_ns * self._head.rate / 10**9)

    def _break(self, reason: str, search_from: int) -> Iterator[ContainerEvent]:
        """No element begins here, so the one before may be damaged, too."""
        self._searching, self._lost = True, True
        self._at = self._inside = search_from
        yield Unreadable(reason)

    @property
    def _block_bytes(self) -> int:
        """Size limit of a block."""
        return MAX_OTHER_BLOCK_BYTES if self._others else self._audio_block_bytes

    @property
    def _audio_block_bytes(self) -> int:
        """Size limit of a block of the audio track."""
        return MAX_PCM_BLOCK_BYTES if isinstance(self._head, PcmHeader) else MAX_AUDIO_BLOCK_BYTES

    def _search(self) -> bool:
        """Move to the next point where reading can resume; returns whether there is one."""
        self._at, found = find_resync_point(self._buffer, self._at, self._track, self._audio_block_bytes)
        self._inside = self._at
        if found:
            self._searching, self._excused = False, 0
        return found


def _is_opus(packet: bytes) -> bool:
    """Whether this may be an Opus packet; a video frame hardly ever looks like one."""
    try:
        return packet_frames(packet) > 0
    except BadInputError:
        return False
