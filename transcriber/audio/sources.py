"""Where the bytes of a file come from. In: random access, or a pipe. Out: the bytes in order, as a decoder reads them."""

from collections.abc import Callable
from typing import Protocol

from transcriber.errors import MediaError

MAX_SILENT_BYTES = 2**26
"""So much may be read without a frame of sound: more than any honest header, cover picture or scene of video in between."""

_SEEK_BYTES = 4096
"""A jump counts as much, so that one that jumps forth and back ends as well."""

_SKIP_BYTES = 2**16
_END = 2


class Source(Protocol):
    """Random access to bytes."""

    @property
    def size(self) -> int | None:
        """In bytes; None where it is not known, and no way leads back: a pipe."""

    def read_at(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes, fewer where that is easier, none only at the end.

        Raises:
            UnseekableError: a pipe is asked for what has gone by.
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

    It raises nothing into FFmpeg, which would swallow it or show it at another place: what went wrong is kept, and there is
    nothing more to read.

    Attributes:
        error: why there is nothing more to read.
        start: where the file begins for FFmpeg: behind what is not its business.
        seen: told of all that is read: where it lies from the start on, and what it is.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.error: Exception | None = None
        self.start = 0
        self.seen: Callable[[int, bytes], object] = _ignore
        self._at = 0
        self._end: int | None = None  # where there was nothing more
        self._head = b""  # of the source from the start on, as a pipe gives it only once
        self._silent_bytes = 0

    def peek(self, count: int) -> bytes:
        """The first ``count`` bytes from the start on, or all that there are; call it before reading.

        Raises:
            Exception: what the source raises.
        """
        if len(self._head) < count:
            self._head += read_exactly(self.source, self.start + len(self._head), count - len(self._head))
        return self._head[:count]

    def skip(self, count: int) -> None:
        """Let the file begin ``count`` bytes later; call it before reading.

        Raises:
            MediaError: that was done so often that there can be no sound.
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

    def heard(self) -> None:
        """Sound was decoded: what is read from now on is counted anew."""
        self._silent_bytes = 0

    def read(self, count: int) -> bytes:
        piece = self._head[self._at : self._at + count] or self._read(count)
        self.seen(self._at, piece)
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == _END:
            offset += (self.source.size or 0) - self.start
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
        return self.source.size is not None

    @property
    def end(self) -> int | None:
        """How many bytes there are from the start on; None: a pipe that has not ended yet."""
        return self._end if self.source.size is None else self.source.size - self.start

    def _read(self, count: int) -> bytes:
        if self.error:
            return b""
        try:
            piece = self.source.read_at(self.start + self._at, count)
        except Exception as error:  # noqa: BLE001 - raised again once FFmpeg is left
            self.error = error
            return b""
        self._count(len(piece))
        if count and not piece:
            self._end = self._at
        return piece

    def _count(self, count: int) -> None:
        self._silent_bytes += count
        if self._silent_bytes > MAX_SILENT_BYTES and not self.error:
            self.error = MediaError(f"{MAX_SILENT_BYTES >> 20} MB without a frame of sound")


def _ignore(_: int, __: bytes) -> None:
    """Nobody looks."""
