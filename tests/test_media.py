import math

import numpy as np
import pytest

from bench.media_files import KINDS, encode, resampled
from transcriber.audio.media import Media, open_media
from transcriber.audio.pcm import SampleFormat, decode
from transcriber.demo.speech import load_speech
from transcriber.errors import (
    UnseekableError,
)

SPEECH = np.frombuffer(load_speech()[0].pcm, "<i2").reshape(-1, 1)[:100_777]
"""2.1 s at 48 kHz."""


class Trickle:
    """A source that gives at most 1000 bytes at once, and counts what it gave."""

    def __init__(self, data: bytes, *, pipe: bool = False) -> None:
        self.size = None if pipe else len(data)
        self.given = 0
        self._data = data
        self._offset = 0

    def read_at(self, offset: int, length: int) -> bytes:
        if self.size is None and offset < self._offset:
            raise UnseekableError("a pipe cannot go back")
        piece = self._data[offset : offset + min(length, 1000)]
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


def make(name: str, rate: int = 48_000, channels: int | None = None) -> bytes:
    kind = KINDS[name]
    return encode(kind, speech_at(rate, channels or kind.channels[0]), rate)


def pcm(media: Media) -> np.ndarray:
    """(frames, channels) of pieces that follow each other without a hole."""
    pieces = list(media.pieces)
    end = 0
    for piece in pieces:
        assert piece.frame == end
        assert 0 < len(piece.data) <= media.format.rate * media.format.frame_bytes
        end += len(piece.data) // media.format.frame_bytes
    return decode(b"".join(piece.data for piece in pieces), media.format, split=True).T


def signal_to_noise_db(original: np.ndarray, heard: np.ndarray) -> float:
    wanted = original / 2**15
    return 10 * math.log10((wanted**2).sum() / max(float(((heard - wanted) ** 2).sum()), 1e-12))


CASES = [
    (name, rate, channels)
    for name, kind in KINDS.items()
    for rate, channels in ((48_000, 1), (44_100, 2), (16_000, 1), (8_000, 1), (48_000, 2))
    if rate in kind.rates and channels in kind.channels
]


@pytest.mark.parametrize(("name", "rate", "channels"), CASES)
def test_what_was_encoded_comes_out_where_it_was(name, rate, channels):
    kind, original = KINDS[name], speech_at(rate, channels)
    data = encode(kind, original, rate)

    media = open_media(data)
    heard = pcm(media)

    decoded = media.format.rate
    assert decoded == (48_000 if "opus" in name else rate)
    assert media.format.channels == channels
    assert media.format.sample in {SampleFormat.S16LE, SampleFormat.F32LE}
    heard = heard[kind.delay :]
    frames = len(original) * decoded // rate
    assert -1 <= len(heard) - frames <= kind.extra * max(1, decoded // rate)
    if media.frames is not None:
        assert abs(media.frames - frames) <= 0.03 * decoded  # what codecs put before, and rounding
    if decoded == rate:
        lossy_db = {"mp3 vbr": 8.0, "ogg vorbis": 12.0, "wav adpcm": 15.0}.get(name, 18.0)
        least_db = 80.0 if kind.lossless else lossy_db
        assert signal_to_noise_db(original, heard[: len(original)]) > least_db
    trickled = open_media(Trickle(data))
    assert list(trickled.pieces) == list(open_media(data).pieces)
    assert (trickled.format, trickled.frames, trickled.codec) == (media.format, media.frames, media.codec)
