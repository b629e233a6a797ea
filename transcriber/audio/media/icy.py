"""Titles that an internet radio sends between the bytes of its audio. In: a recording of all it sent. Out: the audio alone.

After a fixed number of bytes, one byte gives the length of the title that follows, in units of 16 bytes; mostly 0. A decoder takes
it for audio: it fails, and in AAC it recovers only after a while.
"""

from collections.abc import Iterator

from transcriber.audio.media.sources import Source, read_exactly

_MARK = b"StreamTitle='"
_LOOK_BYTES = 2**17
_UNIT_BYTES = 16
_INTERVALS = (8192, 16_000, 16_384, 32_768, 4096, 24_576, 8000, 2048, 1024, 65_536)
"""Usual intervals, for a recording that begins between two titles."""
_LEAST_INTERVAL = 512
_CHECKS = 5


class SoundSource:
    """Random access to the audio.

    Attributes:
        size: None: it is not known.
    """

    def __init__(self, source: Source, start: int, first: int, interval: int) -> None:
        """``source`` from ``start`` on, of which ``first`` bytes are audio, and ``interval`` bytes after each title."""
        self.size: int | None = None
        self._source, self._first, self._interval = source, first, interval
        self._begins = [start]  # where the audio continues behind each title

    def read_at(self, offset: int, length: int) -> bytes:
        number, within = 0, offset
        if offset >= self._first:
            number, within = divmod(offset - self._first, self._interval)
            number += 1
        while len(self._begins) <= number:
            end = self._begins[-1] + (self._interval if len(self._begins) > 1 else self._first)
            units = self._source.read_at(end, 1)
            if not units:
                return b""
            self._begins.append(end + 1 + units[0] * _UNIT_BYTES)
        left = (self._interval if number else self._first) - within
        return self._source.read_at(self._begins[number] + within, min(length, left))


def without_titles(source: Source, start: int) -> SoundSource | None:
    """The audio of a recording of MP3 or AAC that begins at ``start``; None if there are no titles in it, or for a pipe."""
    if source.size is None:
        return None
    head = read_exactly(source, start, _LOOK_BYTES)
    at = head.find(_MARK) - 1
    if at < 0 or not _is_title(head[at:]):
        return None
    for interval in _intervals(head, at):
        if _fits(source, start + at, interval) is not None:
            return SoundSource(source, start, interval, interval)
    for interval in _INTERVALS:
        if _fits(source, start + at, interval):
            return SoundSource(source, start, at % (interval + 1), interval)
    return None


def _intervals(head: bytes, at: int) -> Iterator[int]:
    """Possible distances of titles, if the one at ``at`` is the first non-empty one of a recording from the beginning on."""
    for before in range(at // _LEAST_INTERVAL):  # empty titles before it
        interval, rest = divmod(at - before, before + 1)
        if not rest and not any(head[interval : at : interval + 1]):
            yield interval


def _fits(source: Source, at: int, interval: int) -> int | None:
    """How many of the next ``_CHECKS`` titles at this distance from ``at`` are not empty; None: the distance is wrong."""
    titles = -1
    for _ in range(_CHECKS):
        units = read_exactly(source, at, 1)
        if not units:
            break
        if units[0]:
            if not _is_title(read_exactly(source, at, 1 + units[0] * _UNIT_BYTES)):
                return None
            titles += 1
        at += 1 + units[0] * _UNIT_BYTES + interval
    return titles


def _is_title(data: bytes) -> bool:
    """Whether ``data`` begins with how long a title is, and the title."""
    block = data[1 : 1 + data[0] * _UNIT_BYTES]
    return block.startswith(_MARK) and block.rstrip(b"\0").endswith(b"';")
