"""Pages of Ogg (RFC 3533). In: bytes. Out: where a page ends, whether it is whole, what is in it."""

import zlib
from typing import NamedTuple

CAPTURE = b"OggS"
HEADER_BYTES = 27
MAX_PAGE_BYTES = HEADER_BYTES + 255 + 255 * 255

CONTINUED, BEGINS, ENDS = 1, 2, 4
_FLAGS = CONTINUED | BEGINS | ENDS
_FULL_SEGMENT = 255

_BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """A page.

    Attributes:
        granule: the time at the end of the last packet that ends here; None if not known.
        sequence: its number in the stream ``serial``.
        pieces: of packets; all but the last end here.
        open: whether the last piece continues in the next page.
    """

    flags: int
    granule: int | None
    serial: int
    sequence: int
    pieces: list[bytes]
    open: bool


def page_bytes(buffer: bytearray, start: int) -> int | None:
    """Size of the page that begins at ``start``; None if it is not complete, 0 if there is none."""
    header = buffer[start : start + HEADER_BYTES]
    if any(header[4:5]) or (len(header) > 5 and header[5] > _FLAGS):  # noqa: PLR2004 - version, then flags
        return 0
    if len(header) < HEADER_BYTES:
        return None
    segments = buffer[start + HEADER_BYTES : start + HEADER_BYTES + header[26]]
    size = HEADER_BYTES + header[26] + sum(segments)
    return size if len(segments) == header[26] and start + size <= len(buffer) else None


def _checksum(page: bytes) -> int:
    """Ogg's own CRC-32 of a page whose checksum is 0: zlib's with the bits of each byte, and of the result, reversed."""
    mirrored = zlib.crc32(page.translate(_BIT_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_BIT_REVERSED), "big")


def is_whole(page: bytes) -> bool:
    """Whether its checksum is right."""
    return _checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


def page_serial(header: bytes | bytearray) -> int:
    """The number of the stream that a page belongs to."""
    return int.from_bytes(header[14:18], "little")


def parse_page(page: bytes) -> Page:
    """Parse a page that is whole."""
    granule = int.from_bytes(page[6:14], "little", signed=True)
    pieces, is_open = [], False
    start = end = HEADER_BYTES + page[26]
    for segment in page[HEADER_BYTES:start]:
        end += segment
        is_open = segment == _FULL_SEGMENT
        if not is_open:
            pieces.append(page[start:end])
            start = end
    if is_open:
        pieces.append(page[start:end])
    sequence = int.from_bytes(page[18:22], "little")
    return Page(page[5], granule if granule >= 0 else None, page_serial(page), sequence, pieces, is_open)
