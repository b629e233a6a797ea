"""Sizes in headers that cannot be right. In: a WAV, AIFF or CAF file. Out: the same file for FFmpeg, with the size of its audio.

They are left by writers that could not seek back, filled the header in too early, or had more than 4 GiB. FFmpeg believes them, and
reads a part or nothing.
"""

import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from transcriber.audio.codecs.wav import HUGE_BYTES, TRAILER_BYTES, what_follows
from transcriber.audio.media.sources import Reader, read_exactly

_MAX_CHUNKS = 1000
_MAX_HEADER_BYTES = 2**20
_ANY_BYTES = 2**32 - 1
_MOST_BYTES = 2**31 - 2


class _Chunk(NamedTuple):
    """``at`` is where its content begins."""

    name: bytes
    at: int
    size: int


def mend_sizes(reader: Reader, kind: str) -> None:
    """Correct sizes that are 0, or end before the audio does; one that is merely too large does no harm."""
    if not reader.seekable():
        return
    if kind == "wav":
        _mend_wav(reader)
    elif kind == "aiff":
        _mend_aiff(reader)
    elif kind == "caf":
        _mend_caf(reader)


def _mend_wav(reader: Reader) -> None:
    long_bytes = 0
    for name, at, size in _chunks(reader, "little"):
        if name == b"ds64":
            long_bytes = int.from_bytes(read_exactly(reader.source, reader.start + at + 8, 8), "little")
        if name == b"data":
            claimed = long_bytes if size == _ANY_BYTES and long_bytes else size
            if _is_wrong(reader, at, claimed, "little"):
                reader.patch(at - 4, struct.pack("<I", _ANY_BYTES))
                reader.patch(0, b"RIFF")  # FFmpeg believes a size in 64 bits, whatever this one says
            return


def _mend_aiff(reader: Reader) -> None:
    form = None
    for name, at, size in _chunks(reader, "big"):
        if name == b"COMM":
            form = at
        if name == b"SSND" and form is not None:
            head = reader.peek(form + 22)[form:]
            channels, _, bits = struct.unpack_from(">HIH", head)
            frame_bytes = channels * -(-bits // 8)
            compressed = reader.peek(12)[8:] == b"AIFC" and head[18:22] not in {b"NONE", b"none", b"sowt", b"twos"}
            if compressed or not frame_bytes or not _is_wrong(reader, at, size, "big"):
                return
            there = min(_MOST_BYTES, (reader.source.size or 0) - reader.start - at)
            reader.patch(4, struct.pack(">I", _MOST_BYTES))
            reader.patch(at - 4, struct.pack(">I", there))
            reader.patch(form + 2, struct.pack(">I", (there - 8) // frame_bytes))
            return


def _mend_caf(reader: Reader) -> None:
    for name, at, size in _chunks(reader, "big", first=8, long=True):
        if name == b"data":
            left_bytes = (reader.source.size or 0) - reader.start - at - size
            behind = read_exactly(reader.source, reader.start + at + size, 12)
            chunk = behind[:4].isalnum() and 0 <= int.from_bytes(behind[4:], "big") <= left_bytes
            if left_bytes > TRAILER_BYTES and not chunk:
                reader.patch(at - 8, struct.pack(">q", -1))  # to the end
            return


def _chunks(
    reader: Reader, order: Literal["little", "big"], *, first: int = 12, long: bool = False
) -> Iterator[_Chunk]:
    """The chunks from ``first`` on; ``long``: with sizes of 64 bits, and no padding."""
    at, header_bytes = first, 12 if long else 8
    for _ in range(_MAX_CHUNKS):
        head = read_exactly(reader.source, reader.start + at, header_bytes)
        if len(head) < header_bytes or at > _MAX_HEADER_BYTES:
            return
        size = int.from_bytes(head[4:], order)
        at += header_bytes
        yield _Chunk(head[:4], at, size)
        at += size if long else size + size % 2


def _is_wrong(reader: Reader, at: int, size: int, order: Literal["little", "big"]) -> bool:
    """Whether audio of this size, at ``at``, is certainly not all of it."""
    left_bytes = (reader.source.size or 0) - reader.start - at - size
    if left_bytes < 0:
        return size >= HUGE_BYTES
    behind = read_exactly(reader.source, reader.start + at + size, 13)
    kinds = {what_follows(behind[pad : pad + 12], left_bytes, order) for pad in (0, size % 2)}
    return kinds == {"audio"} and left_bytes > TRAILER_BYTES
