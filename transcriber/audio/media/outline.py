"""Whether a file is cut off. In: its bytes as a demuxer reads them. Out: how far its outermost parts reach by their sizes.

FFmpeg takes the end of the bytes for the end of the recording. Where a file states no length, or only that of its video, a missing
half shows only in the sizes of its parts: the fragments of an MP4 file, the clusters of Matroska, the lists of AVI.
Only parts that hold audio count: a lost index costs nothing.
"""

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from transcriber.audio.codecs.ebml import header as ebml_header
from transcriber.audio.media.mp4_check import box_size
from transcriber.errors import BadInputError


class _Part(NamedTuple):
    """A part, by its header.

    Attributes:
        length: bytes to the next header, which may lie inside this part.
        reach: bytes to where its audio must reach at least; 0: it has none, or that is not known.
        fragment: whether it begins a fragment of MP4.
    """

    length: int
    reach: int = 0
    fragment: bool = False


_Parse = Callable[[bytes], _Part | None]
"""The part that begins with these bytes; None if they are too few.

Raises:
    BadInputError: what follows cannot be read.
"""

_MAX_HEADER_BYTES = 40
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_EBML_PARTS = frozenset(
    {0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469, 0xEC, 0xBF}
)
_BOXES = frozenset({b"moov", b"moof", b"mdat", b"ftyp", b"styp", b"sidx", b"ssix", b"mfra", b"free", b"skip", b"wide", b"uuid",
                    b"emsg", b"prft", b"meta"})  # fmt: skip
_FILE_SIZE = re.compile(rb"\0\x08filesize\0(.{8})", re.DOTALL)
"""In the metadata of an FLV file."""
_UNKNOWN_BYTES = 0xFFFF_FFFF
_PARTS, _PART_BYTES = 4096, 512
"""So many parts are tracked, and one more for each so many bytes, so that a file of tiny parts costs no time."""


class Outline:
    """Tracks the outermost parts of a file; it must be given their headers in the order in which they lie.

    Attributes:
        reach: bytes from the start on to where its audio must reach at least, as far as is known.
        fragmented: whether it is an MP4 file in fragments, of which each states its own length.
    """

    def __init__(self, kind: str, head: bytes) -> None:
        """``kind`` is the demuxer's name, ``head`` the first bytes."""
        self.reach = 0
        self.fragmented = False
        self._parse = _PARSERS.get(kind)
        self._at = 0  # where the next header begins
        self._header = b""  # of it, as far as it was read
        self._spare = _PARTS
        if kind == "flv" and (found := _FILE_SIZE.search(head)):
            size = struct.unpack(">d", found[1])[0]
            self.reach = int(size) if 0 < size < 2**50 else 0

    def observe(self, offset: int, data: bytes) -> None:
        """These bytes lie at ``offset`` from the start."""
        while self._parse:
            start = self._at + len(self._header) - offset
            if not 0 <= start < len(data):
                return
            self._header += data[start : start + _MAX_HEADER_BYTES - len(self._header)]
            try:
                part = self._parse(self._header)
            except BadInputError:
                self._parse = None
                return
            if part is None:
                continue
            if part.reach:
                self.reach = max(self.reach, self._at + part.reach)
            self.fragmented |= part.fragment
            self._at += part.length
            self._header = b""
            self._spare += part.length // _PART_BYTES - 1
            if self._spare < 0:
                self._parse = None


def _box(header: bytes) -> _Part | None:
    """MP4's. Fragments are pairs of moof and mdat."""
    size, name = box_size(header), header[4:8]
    if size is None:
        return None
    if size < 8 or name not in _BOXES:  # noqa: PLR2004 - 0: to the end, however far that is
        raise BadInputError("no box with a size")
    return _Part(size, size if name in {b"moof", b"mdat"} else 0, name == b"moof")


def _chunk(header: bytes) -> _Part | None:
    """AVI's."""
    if len(header) < 12:  # noqa: PLR2004 - a name, a size, and what kind of list
        return None
    name, size, list_name = struct.unpack_from("<4sI4s", header)
    if name == b"RIFF":
        return _Part(12)
    if size == _UNKNOWN_BYTES or not name.isalnum():
        raise BadInputError("no chunk with a size")
    return _Part(8 + size + size % 2, 8 + size if name == b"LIST" and list_name == b"movi" else 0)


def _wide_chunk(header: bytes) -> _Part | None:
    """Of Sony's Wave64: sizes count their headers, and are filled to eight bytes."""
    if len(header) < 40:  # noqa: PLR2004 - two names and a size
        return None
    size = int.from_bytes(header[16:24], "little")
    if header.startswith(b"riff"):
        return _Part(40)
    if size < 24:  # noqa: PLR2004 - its own header
        raise BadInputError("no chunk with a size")
    return _Part(size + -size % 8, size if header.startswith(b"data") else 0)


def _caf_chunk(header: bytes) -> _Part | None:
    """Of Apple's CAF."""
    if len(header) < 12:  # noqa: PLR2004 - a name and a size
        return None
    if header.startswith(b"caff"):
        return _Part(8)
    size = int.from_bytes(header[4:12], "big", signed=True)
    if size < 0:  # to the end, however far that is
        raise BadInputError("no chunk with a size")
    return _Part(12 + size, 12 + size if header.startswith(b"data") else 0)


def _object(header: bytes) -> _Part | None:
    """ASF's; the second holds the audio."""
    if len(header) < 24:  # noqa: PLR2004 - a name and a size
        return None
    size = int.from_bytes(header[16:24], "little")
    if size < 24:  # noqa: PLR2004 - its own header; a broadcast does not know
        raise BadInputError("no object with a size")
    return _Part(size, size if header.startswith(b"\x36\x26\xb2\x75") else 0)


def _element(header: bytes) -> _Part | None:
    """Matroska's: a segment of clusters. A recorder writes no sizes."""
    element = ebml_header(header, 0)
    if element is None:
        return None
    if element.id == _SEGMENT:
        return _Part(element.body)  # its size includes what follows the audio, too
    if element.size is None or element.id not in _EBML_PARTS | {_CLUSTER}:
        raise BadInputError("no element with a size")
    size = element.body + element.size
    return _Part(size, size if element.id == _CLUSTER else 0)


_PARSERS: dict[str, _Parse] = {
    "mov": _box,
    "avi": _chunk,
    "w64": _wide_chunk,
    "caf": _caf_chunk,
    "asf": _object,
    "matroska": _element,
}
