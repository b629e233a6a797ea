"""Titles in a recording of internet radio. In: bytes as a server sends them (ICY). Out: the bytes of the audio alone.

Behind every so many bytes of audio comes one that says how long the title is, in units of 16, and the title. Who records a station
with a plain HTTP client has them in the file, where each would cost a frame of MP3, or several of AAC.
"""

import re
import sys

from transcriber.audio.sources import Reader
from transcriber.errors import UnseekableError

MAX_INTERVAL_BYTES = 2**16
_MIN_INTERVAL_BYTES = 256
_UNIT_BYTES = 16
_FIRST = re.compile(rb"(.)StreamTitle='", re.DOTALL)
_TITLE = re.compile(rb"\w{1,64}='")


def without_titles(reader: Reader) -> Reader:
    """What to read instead of ``reader``, of which nothing was read yet; it cannot go back where there are titles."""
    head = reader.peek(MAX_INTERVAL_BYTES + 2 * _UNIT_BYTES)
    first = _FIRST.search(head)
    if first is None or first.start() < _MIN_INTERVAL_BYTES or first[1] == b"\0":
        return reader
    return Reader(_Audio(reader, first.start()))


class _Audio:
    """A source without what lies behind each ``interval`` bytes of ``reader``, as long as that is a title."""

    size = None

    def __init__(self, reader: Reader, interval: int) -> None:
        self._reader, self._interval = reader, interval
        self._begin()

    def _begin(self) -> None:
        self._given = 0
        self._left = self._interval  # until the next title
        self._pending = b""  # what was taken for one

    def read_at(self, offset: int, length: int) -> bytes:
        if not offset and self._given and self._reader.seekable():
            self._reader.seek(0)
            self._begin()
        if offset != self._given:
            raise UnseekableError("a recording with titles in it cannot go back")
        if not self._left:
            self._left = self._interval
            self._pass_title()
        piece = self._pending[:length] or self._read(min(length, self._left))
        self._pending = self._pending[len(piece) :]
        self._left -= len(piece)
        self._given += len(piece)
        return piece

    def _pass_title(self) -> None:
        units = self._read(1)
        title = b""
        while (
            units and len(title) < _UNIT_BYTES * units[0] and (piece := self._read(_UNIT_BYTES * units[0] - len(title)))
        ):
            title += piece
        if title and not _TITLE.match(title):
            # The recorder lost something: from here on nobody knows where the titles are.
            self._pending, self._left = units + title, sys.maxsize

    def _read(self, count: int) -> bytes:
        piece = self._reader.read(count)
        self._reader.heard()  # who reads from here counts
        if not piece and self._reader.error:
            raise self._reader.error
        return piece
