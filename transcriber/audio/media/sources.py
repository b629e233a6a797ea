"""Where the bytes of a file come from. In: random access, or a pipe. Out: the bytes in order, as a decoder reads them."""

import re
from collections.abc import Callable
from typing import Protocol

from transcriber.errors import MediaError

MAX_SILENT_BYTES = 2**26
"""So many bytes may be read without a decoded frame: more than any header, cover picture or scene of video in between."""

_SEEK_BYTES = 4096
"""A seek counts as so many bytes, so that endless seeking ends as well."""

_SKIP_BYTES = 2**16
_END = 2

MARK_BYTES = 128
"""The longest match of a watched pattern."""


class Source(Protocol):
    """Random access to bytes."""

    @property
    def size(self) -> int | None:
        """In bytes; None for a pipe, which has no known size and cannot seek back."""

    def read_at(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, possibly fewer, none only at the end.

        Raises:
            UnseekableError: bytes of a pipe that were read already.
        """


def read_exactly(source: Source, offset: int, count: int) -> bytes:
    """``count`` bytes, or fewer at the end."""
    data = b""
    while len(data) < count and (piece := source.read_at(offset + len(data), count - len(data))):
        data += piece
    return data


class BytesSource:
    """A clip in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = memoryview(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])


class Reader:
    """A source with a position, as the file object that FFmpeg reads.

    It raises nothing into FFmpeg, which would swallow it or raise it elsewhere: the error is kept, and reading ends.

    Several files may lie one behind the other: each has a reader of its own, which ends where the next one begins.

    Attributes:
        error: why there is nothing more to read.
        start: where the file begins for FFmpeg, behind skipped tags.
        end: where another file begins, from ``start`` on; None: none is known.
        in_order: it is read from its beginning to its end, even where it could seek back.
        on_read: called with the offset and the bytes of each read.
    """

    def __init__(self, source: Source, start: int = 0, head: bytes = b"") -> None:
        """``head`` are the bytes of the source from ``start`` on that were read already, as a pipe gives them only once."""
        self.source = source
        self.error: Exception | None = None
        self.start = start
        self.end: int | None = None
        self.in_order = False
        self.on_read: Callable[[int, bytes], object] = _ignore
        self._over: int | None = None  # where the source ended
        self._at = 0
        self._head = head
        self._silent_bytes = 0
        self._mark: re.Pattern[bytes] | None = None
        self._watched = 0  # the mark was searched for up to here
        self._ahead = b""  # read from there on, and not returned yet
        self._tail = b""  # of the head, in which the mark may begin

    def peek(self, count: int) -> bytes:
        """The first ``count`` bytes from the start on, or all if there are fewer; call it before reading.

        Raises:
            Exception: what the source raises.
        """
        if len(self._head) < count:
            self._head += read_exactly(self.source, self.start + len(self._head), count - len(self._head))
        return self._head[:count]

    def skip(self, count: int) -> None:
        """Let the file begin ``count`` bytes later; call it before reading.

        Raises:
            MediaError: too many skips without audio.
        """
        if self.source.size is None:
            end = self.start + count
            for offset in range(self.start + len(self._head), end, _SKIP_BYTES):
                read_exactly(self.source, offset, min(_SKIP_BYTES, end - offset))
        self._head = self._head[count:]
        self.start += count
        self._count(_SEEK_BYTES)
        if self.error:
            raise self.error

    def reset_silence(self) -> None:
        """Audio was decoded: count bytes without audio from 0 again."""
        self._silent_bytes = 0

    def read_instead(self, source: Source) -> None:
        """Replace the file by ``source``; call it before reading."""
        self.source, self.start, self._head = source, 0, b""

    def watch(self, mark: re.Pattern[bytes], start: int) -> None:
        """Let the file end where ``mark`` is found in what is read in order, ``start`` bytes from its beginning or later."""
        self._mark, self._watched, self._ahead = mark, max(start, len(self._head)), b""
        known = self._head[: self.end]
        found = mark.search(known, start)
        self.end = found.start() if found else self.end
        self._tail = known[start:][-MARK_BYTES:]

    def patch(self, offset: int, data: bytes) -> None:
        """Replace some of the file's first bytes."""
        self.peek(offset + len(data))
        self._head = self._head[:offset] + data + self._head[offset + len(data) :]

    def behind(self) -> "Reader | None":
        """The file that begins where this one ends; None if there is none. This one must not be read after it.

        Raises:
            Exception: what the source raises, or too many bytes without audio.
        """
        self._at = max(self._at, self._watched)
        while self._mark and self.end is None and self._read(_SKIP_BYTES):
            self._at = self._watched
        if self.error:
            raise self.error
        if self.end is None:
            return None
        known = self._head[self.end :] + (self._ahead[max(0, self.end - self._watched) :] if self._mark else b"")
        reader = Reader(self.source, self.start + self.end, known)
        reader._silent_bytes = self._silent_bytes + _SEEK_BYTES
        return reader

    def read(self, count: int) -> bytes:
        count = count if self.end is None else max(0, min(count, self.end - self._at))
        piece = self._head[self._at : self._at + count] or self._read(count)
        self.on_read(self._at, piece)
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == _END:
            offset += (self.source.size or 0) - self.start if self.end is None else self.end
        elif whence:
            offset += self._at
        if offset < 0:
            return -1
        self._count(_SEEK_BYTES)
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return self.source.size is not None and not self.in_order

    @property
    def length(self) -> int | None:
        """How many bytes there are from the start on; None: a pipe that has not ended yet."""
        if self.end is not None:
            return self.end
        return self._over if self.source.size is None else self.source.size - self.start

    def _read(self, count: int) -> bytes:
        if self.error or not count:
            return b""
        try:
            if self._mark and self._at <= self._watched:
                # Bytes that were searched already are read again only up to there.
                piece = (
                    self._look(count)
                    if self._at == self._watched
                    else self._fetch(min(count, self._watched - self._at))
                )
            else:
                piece = self._fetch(count)
        except Exception as error:  # noqa: BLE001 - raised again once FFmpeg is left
            self.error = error
            return b""
        self._count(len(piece))
        if not piece:
            self._over = self._at
        return piece

    def _fetch(self, count: int) -> bytes:
        return self.source.read_at(self.start + self._at, count)

    def _look(self, count: int) -> bytes:
        """The next bytes, up to the mark if it is found."""
        at = self._watched
        while len(self._ahead) <= (MARK_BYTES if self.end is None else 0) and (
            more := self.source.read_at(self.start + at + len(self._ahead), max(count, MARK_BYTES))
        ):
            self._ahead += more
        if self.end is None:
            known = self._tail + self._ahead
            if found := self._mark.search(known) if self._mark else None:
                self.end = at + found.start() - len(self._tail)
            self._tail = b""
        held_back = MARK_BYTES if self.end is None and len(self._ahead) > MARK_BYTES else 0
        sure = len(self._ahead) - held_back if self.end is None else max(0, self.end - at)
        piece, self._ahead = self._ahead[: min(count, sure)], self._ahead[min(count, sure) :]
        self._watched += len(piece)
        return piece

    def _count(self, count: int) -> None:
        self._silent_bytes += count
        if self._silent_bytes > MAX_SILENT_BYTES and not self.error:
            self.error = MediaError(f"{MAX_SILENT_BYTES >> 20} MB without a frame of audio")


def _ignore(_: int, __: bytes) -> None:
    """The default of ``on_read``."""
