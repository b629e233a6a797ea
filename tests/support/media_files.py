"""Audio files for tests, and sources that give them in other ways than all at once."""

import io

import av
import numpy as np

from bench.lib.media_files import KINDS, encode, resampled
from transcriber.audio.codecs.pcm import decode
from transcriber.audio.media.pieces import Media
from transcriber.errors import UnseekableError
from transcriber.testing.speech import load_speech

SPEECH = np.frombuffer(load_speech()[0].pcm, "<i2").reshape(-1, 1)[:100_777]
"""2.1 s at 48 kHz."""


TRICKLE_BYTES = 1000


class Trickle:
    """A source that gives only so many bytes at once, and counts what it gave."""

    def __init__(self, data: bytes, *, pipe: bool = False) -> None:
        self.size = None if pipe else len(data)
        self.given = 0
        self._data = data
        self._offset = 0

    def read_at(self, offset: int, length: int) -> bytes:
        if self.size is None and offset < self._offset:
            raise UnseekableError("a pipe cannot go back")
        piece = self._data[offset : offset + min(length, TRICKLE_BYTES)]
        self._offset = offset + len(piece)
        self.given += len(piece)
        return piece


class Claim:
    """A file of ``size`` bytes of which only the first are there: the others are zero."""

    def __init__(self, data: bytes, size: int) -> None:
        self.size = size
        self.given = 0
        self._data = data

    def read_at(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        self.given += length
        return self._data[offset : offset + length].ljust(length, b"\0")


def speech_at(rate: int, channels: int = 1) -> np.ndarray:
    samples = SPEECH if rate == 48_000 else resampled(SPEECH, 48_000, rate)
    return samples if channels == 1 else np.hstack([samples, -samples // 2])


def make(name: str, rate: int | None = None, channels: int | None = None) -> bytes:
    kind = KINDS[name]
    rate = rate or kind.rate
    return encode(kind, speech_at(rate, channels or kind.channels[0]), rate)


def without_packets(data: bytes, container: str, missing: range) -> bytes:
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(buffer, "w", format=container) as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(source.demux(source.streams.audio[0])):
            if packet.size and number not in missing:
                packet.stream = stream
                out.mux(packet)
    return buffer.getvalue()


def pcm(media: Media) -> np.ndarray:
    """(frames, channels) of pieces that follow each other without a hole."""
    pieces = list(media.pieces)
    end = 0
    for piece in pieces:
        assert piece.frame == end
        assert 0 < len(piece.data) <= media.format.rate * media.format.frame_bytes
        end += len(piece.data) // media.format.frame_bytes
    return decode(b"".join(piece.data for piece in pieces), media.format, split=True).T
