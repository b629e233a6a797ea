"""Titles that an internet radio sends between the bytes of its sound. In: a recording of all it sent. Out: the sound alone.

After so many bytes, always the same number, comes one that says how long a title follows, in units of 16 bytes; mostly none. A
decoder takes it for sound: it stumbles, and in AAC it finds its way again only after a while.
"""

from collections.abc import Iterator

from transcriber.audio.media.sources import Source, read_exactly

_MARK = b"StreamTitle='"
_LOOK_BYTES = 2**17
_UNIT_BYTES = 16
_INTERVALS = (8192, 16_000, 16_384, 32_768, 4096, 24_576, 8000, 2048, 1024, 65_536)
"""What radios use, for a recording that begins between two titles."""
_LEAST_INTERVAL = 512
_CHECKS = 5


class SoundSource:
    """Random access to the sound; how long it is nobody knows.

    Attributes:
        size: None.
    """

    def __init__(self, source: Source, start: int, first: int, interval: int) -> None:
        """``source`` from ``start`` on, of which ``first`` bytes are sound, and ``interval`` bytes after each title."""
        self.size: int | None = None
        self._source, self._first, self._interval = source, first, interval
        self._begins = [start]  # where the sound goes on behind each title

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
    """The sound of a recording of MP3 or AAC that begins at ``start``; None where there are no titles in it, or from a pipe."""
    if source.size is None:
        return None
    head = read_exactly(source, start, _LOOK_BYTES)
    at = head.find(_MARK) - 1
    if at < 0 or not _is_title(head[at:]):
        return None
    for interval in _from_the_start(head, at):
        if _fits(source, start + at, interval) is not None:
            return SoundSource(source, start, interval, interval)
    for interval in _INTERVALS:
        if _fits(source, start + at, interval):
            return SoundSource(source, start, at % (interval + 1), interval)
    return None


def _from_the_start(head: bytes, at: int) -> Iterator[int]:
    """How far apart titles may be, if that at ``at`` is the first that is not empty of a recording from the beginning on."""
    for before in range(at // _LEAST_INTERVAL):  # so many empty ones
        interval, rest = divmod(at - before, before + 1)
        if not rest and not any(head[interval : at : interval + 1]):
            yield interval


def _fits(source: Source, at: int, interval: int) -> int | None:
    """How many titles that are not empty follow the one at ``at`` in this distance, as far as it is looked; None: it is another."""
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
