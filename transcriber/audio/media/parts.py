"""Several files, one behind the other, as one. In: the bytes of a file. Out: where it ends because another one begins.

A radio begins a new Ogg stream with each track; recordings are joined by appending one to the other. FFmpeg reads only the first
of them. So it is given each by itself.
"""

import re
from collections.abc import Iterator
from itertools import islice, takewhile

from transcriber.audio.codecs.ogg_page import BEGINS, CAPTURE, HEADER_BYTES, page_serial
from transcriber.audio.codecs.wav import BEGINNING
from transcriber.audio.media.mp4_check import box_size
from transcriber.audio.media.sources import Reader, read_exactly

MARKS = {
    "ogg": re.compile(rb"OggS\0[\2\6]\0{8}.{4}\0{4}", re.DOTALL),
    "flac": re.compile(rb"fLaC[\0\x80]\0\0\x22"),
    "mp3": re.compile(rb"ID3[\2-\4]\0[\0-\xf0][\0-\x7f]{4}"),
    "aac": re.compile(rb"ID3[\2-\4]\0[\0-\xf0][\0-\x7f]{4}"),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3[\1\x10-\xff].{0,60}?\x42\x82[\x84-\x88](?:webm|matroska)", re.DOTALL),
    "wav": BEGINNING,
    "aiff": re.compile(rb"FORM.{4}AIF[FC](?:COMM|FVER|NAME|AUTH|ANNO)", re.DOTALL),
    "caf": re.compile(rb"caff\0\x01\0\0desc"),
    "au": re.compile(rb"\.snd\0\0[\0-\x0f].{5}\0\0\0[\1-\x1b]\0[\0-\2]..\0\0\0[\1-\x40]", re.DOTALL),
}
"""By demuxer: how a file begins, in enough bytes that nothing else matches."""

_MAX_STREAMS = 64
_FULL_SEGMENT = 255
_MAX_PAGE_BYTES = 65_307
_MAX_BOXES = 4096


def watch(reader: Reader, kind: str) -> None:
    """Let the file end where another one of its kind begins. It is not read yet.

    Raises:
        Exception: what the source raises.
    """
    if kind == "ogg":
        # Its streams begin together, each with a page of its own; FFmpeg would read the length at the end of all files.
        reader.in_order = True
        reader.watch(MARKS[kind], sum(size for size, _ in first_pages(reader)))
    elif kind == "mov":
        reader.end = _next_mp4(reader)
    elif kind in MARKS:
        reader.watch(MARKS[kind], 1)


def first_pages(reader: Reader) -> list[tuple[int, int]]:
    """The pages with which the streams of an Ogg file begin: size in bytes, and the number of the stream."""
    pages = islice(takewhile(lambda page: page[1][5] & BEGINS, _pages(reader)), _MAX_STREAMS)
    return [(size, page_serial(page)) for size, page in pages]


def first_time(reader: Reader, serial: int) -> tuple[int, int] | None:
    """The first time in a stream of an Ogg file, in the codec's own count, and how many packets end by then. None: it is not found."""
    packets = 0
    for _, page in islice(_pages(reader), _MAX_STREAMS):
        granule = int.from_bytes(page[6:14], "little", signed=True)
        if page_serial(page) == serial and granule:
            packets += sum(segment < _FULL_SEGMENT for segment in page[HEADER_BYTES:])
            if granule > 0:
                return granule, packets
    return None


def _pages(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """The pages of an Ogg file that is not read yet: size in bytes, and header."""
    start = 0
    while True:
        page = reader.peek(start + HEADER_BYTES + 255)[start:]
        if not page.startswith(CAPTURE) or len(page) < HEADER_BYTES:
            return
        header_bytes = HEADER_BYTES + page[26]
        size = header_bytes + sum(page[HEADER_BYTES:header_bytes])
        yield size, page[:header_bytes]
        start += size


def last_granule(reader: Reader, serial: int) -> int | None:
    """The time at the end of an Ogg file, in the codec's own count; None where it is not that of this stream, or not known."""
    size = reader.source.size
    if size is None:
        return None
    start = max(reader.start, size - _MAX_PAGE_BYTES)
    tail = read_exactly(reader.source, start, size - start)
    at = tail.rfind(CAPTURE)
    if at < 0 or len(tail) < at + HEADER_BYTES or page_serial(tail[at:]) != serial:
        return None
    granule = int.from_bytes(tail[at + 6 : at + 14], "little", signed=True)
    return granule if granule > 0 else None


def _next_mp4(reader: Reader) -> int | None:
    """Where another MP4 file begins: with a box ``ftyp`` behind an index."""
    size, at, indexed = reader.source.size, 0, False
    for _ in range(_MAX_BOXES if size is not None else 0):
        head = read_exactly(reader.source, reader.start + at, 16)
        if head[4:8] == b"ftyp" and indexed:
            return at
        indexed |= head[4:8] == b"moov"
        size_bytes = box_size(head)
        if size_bytes is None or len(head) < 16 or size_bytes < 8:  # noqa: PLR2004 - the header of a box
            return None
        at += size_bytes
    return None
