"""Whether an MP4 file can be decoded. In: its bytes. Out: nothing, or the reason why not.

FFmpeg builds an index of all packets from a few bytes that claim how many there are: a file of a kilobyte can claim gigabytes. It
also takes encrypted packets for broken ones. So the boxes are read here first: names, sizes and counts.
"""

from dataclasses import dataclass, field

from transcriber.audio.media.sources import Reader, Source, read_exactly
from transcriber.errors import EncryptedError, MediaError, NoAudioError, UnseekableError

MAX_PACKETS = 2_500_000
"""In all tracks: FFmpeg keeps 24 bytes for each. That is 14 hours of AAC at 48 kHz."""

_MAX_TRACKS = 32
_MAX_FRAGMENTED_TRACKS = 4
"""Their packets are counted nowhere; each track's index is bounded by the largest allocation."""

_MAX_BOXES = 4096
_MAX_ORDER_BYTES = 2**16
_PARENTS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_ENCRYPTED = frozenset({b"enca", b"drms", b"drmi"})
_LONG = b"\0\0\0\1"
"""In place of a size: it follows the name, in eight bytes."""


@dataclass
class _Found:
    """What was found in the boxes.

    Attributes:
        kinds: of the tracks, such as ``soun``.
        boxes: read so far.
        packets: in all tracks.
        encrypted: whether an audio track is.
        fragmented: whether packets follow that no index counts.
        compressed: whether the index itself is.
    """

    kinds: list[bytes] = field(default_factory=list)
    boxes: int = 0
    packets: int = 0
    encrypted: bool = False
    fragmented: bool = False
    compressed: bool = False


def check_mp4(reader: Reader) -> None:
    """Check a file that is not read yet.

    Raises:
        UnseekableError: it is a pipe, and its index is behind its audio.
        MediaError: no audio, encrypted, more packets than there is memory for, or no index.
    """
    source, start = reader.source, reader.start
    if source.size is None:
        _check_order(reader)
        return
    found = _Found()
    _walk(source, start, source.size, found, 0)
    if found.compressed:
        raise MediaError("an MP4 file with a compressed index is not read")
    if b"soun" not in found.kinds:
        raise NoAudioError("there is no audio in it" if found.kinds else "an MP4 file without an index (moov)")
    if found.encrypted:
        raise EncryptedError("the audio is encrypted")
    if len(found.kinds) > (_MAX_FRAGMENTED_TRACKS if found.fragmented else _MAX_TRACKS):
        raise MediaError(f"{len(found.kinds)} tracks are too many")
    if found.packets > MAX_PACKETS:
        raise MediaError(f"{found.packets} packets; {MAX_PACKETS} are read of an MP4 file")


def _walk(source: Source, start: int, end: int, found: _Found, depth: int) -> None:
    """Read the boxes from ``start`` to ``end``, and those in them; ``depth`` is how many are around them."""
    while start + 8 <= end:
        found.boxes += 1
        if found.boxes > _MAX_BOXES or depth > len(_PARENTS):
            raise MediaError(f"an MP4 file with more than {_MAX_BOXES} boxes in its index, or too many in one another")
        name, body, size = _box(read_exactly(source, start, 16), start, end)
        if size < 8:  # noqa: PLR2004 - its own header
            return
        if name in _PARENTS:
            _walk(source, body, min(end, start + size), found, depth + 1)
        else:
            _note(name, read_exactly(source, body, 20), found)
        if name == b"moov":
            return  # audio follows, in fragmented files thousands of boxes
        start += size


def _note(name: bytes, body: bytes, found: _Found) -> None:
    body = body.ljust(20, b"\0")
    match name:
        case b"hdlr":
            # The data reference has a handler too, in another box.
            if body[8:12] not in {b"url ", b"alis"}:
                found.kinds.append(body[8:12])
        case b"stsd":
            found.encrypted |= body[12:16] in _ENCRYPTED and found.kinds[-1:] == [b"soun"]
        case b"stsz" | b"stz2":
            found.packets += int.from_bytes(body[8:12], "big")
        case b"mvex":
            found.fragmented = True
        case b"cmov":
            found.compressed = True
        case _:
            pass


def _box(header: bytes, start: int, end: int) -> tuple[bytes, int, int]:
    """Name, where its content begins, and its size with the header; the size is 0 where there is no box."""
    size = box_size(header)
    if size is None:
        return header[4:8], start, 0
    if header.startswith(_LONG):
        return header[4:8], start + 16, size
    return header[4:8], start + 8, size or end - start


def box_size(header: bytes) -> int | None:
    """Bytes of the box with this header, itself included; 0: to the end of the file; None: the header is not complete."""
    if len(header) < 8:  # noqa: PLR2004 - a size and a name
        return None
    if not header.startswith(_LONG):
        return int.from_bytes(header[:4], "big")
    return int.from_bytes(header[8:16], "big") if len(header) >= 16 else None  # noqa: PLR2004 - the size follows the name


def _check_order(reader: Reader) -> None:
    """Check that the index precedes the audio."""
    start = 0
    while start < _MAX_ORDER_BYTES:
        name, _, size = _box(reader.peek(start + 16)[start:], start, start)
        if name == b"mdat":
            raise UnseekableError("its index (moov) is at its end: it cannot be read from a pipe")
        if name == b"moov" or size < 8:  # noqa: PLR2004
            return
        start += size
