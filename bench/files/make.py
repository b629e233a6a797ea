"""Files of any length, made fast. In: seconds. Out: a file of the bundled speech, over and over, at changing levels and with
changing pauses, so that no two windows are cut alike.

FLAC is encoded as it is; MP3 is put together from recordings that were encoded once, which begin and end in silence and need
nothing of what comes before.
"""

import io
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bench.lib.media_files import resampled
from bench.lib.report import note
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

Samples = NDArray[np.int16]
"""(n,)"""

KINDS = {"flac": 16_000, "mp3": 48_000}
"""The rate of each; all have one channel."""

LEVELS = (1.0, 0.5, 0.25)
PAUSE_S = (0.2, 4.0)
MP3_OPTIONS = {"reservoir": "0", "compression_level": "9"}
MP3_BIT_RATE = 128_000
"""So 5 GB are 87 hours."""

MP3_EDGE = 2
"""Frames of silence at both ends of a recording: what one frame sounds like depends on its neighbours."""


@dataclass(frozen=True, slots=True)
class LongFile:
    path: Path
    kind: str
    rate: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def make(kind: str, seconds: float, folder: Path) -> LongFile:
    """A file of at least so many seconds, the same each time."""
    began_s, rate, path = time.monotonic(), KINDS[kind], folder / f"long.{kind}"
    frames = {"flac": _make_flac, "mp3": _make_mp3}[kind](path, rate, int(seconds * rate))
    note(f"files: {path.stat().st_size / 1e6:.0f} MB of {kind} made in {time.monotonic() - began_s:.1f} s")
    return LongFile(path, kind, rate, frames)


def _script(count: int) -> Iterator[tuple[int, float]]:
    """Which recording comes next, and the seconds of the pause behind it."""
    drawn = random.Random(1)
    while True:
        yield drawn.randrange(count), drawn.uniform(*PAUSE_S)


def _speech(rate: int) -> list[Samples]:
    """Each recording at each level."""
    found: list[Samples] = []
    for recording in load_speech():
        samples = np.frombuffer(recording.pcm, "<i2")[:, np.newaxis]
        at_rate = samples if rate == SPEECH_FORMAT.rate else resampled(samples, SPEECH_FORMAT.rate, rate)
        found += [(at_rate[:, 0] * level).astype(np.int16) for level in LEVELS]
    return found


def _make_flac(path: Path, rate: int, frames: int) -> int:
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout="mono")
        stream.codec_context.open()
        size, place, rest = stream.codec_context.frame_size, 0, np.zeros(0, np.int16)
        recordings = _speech(rate)
        for number, pause_s in _script(len(recordings)):
            rest = np.concatenate((rest, recordings[number], np.zeros(int(pause_s * rate), np.int16)))[: frames - place]
            whole = len(rest) if place + len(rest) == frames else len(rest) // size * size
            for at in range(0, whole, size):
                container.mux(stream.encode(_frame(rest[at : min(at + size, whole)], rate, place + at, "s16")))
            place, rest = place + whole, rest[whole:]
            if place == frames:
                break
        container.mux(stream.encode(None))
    return frames


def _make_mp3(path: Path, rate: int, frames: int) -> int:
    recordings = [_mp3(samples, rate) for samples in _speech(rate)]
    silence = _mp3(np.zeros(rate, np.int16), rate)
    size, pause = 1152, silence[len(silence) // 2]
    place = 0
    with path.open("wb") as file:
        for number, pause_s in _script(len(recordings)):
            packets = [*recordings[number], *[pause] * int(pause_s * rate / size)]
            file.write(b"".join(packets))
            place += len(packets) * size
            if place >= frames:
                return place
    raise AssertionError


def _mp3(samples: Samples, rate: int) -> list[bytes]:
    """The frames of a file."""
    with av.open(io.BytesIO(), "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout="mono", options=MP3_OPTIONS)
        stream.bit_rate = MP3_BIT_RATE
        stream.codec_context.open()
        size = stream.codec_context.frame_size
        edge = np.zeros(MP3_EDGE * size, np.int16)
        padded = np.concatenate((edge, samples, edge, np.zeros(-len(samples) % size, np.int16)))
        packets = []
        for at in range(0, len(padded), size):
            packets += stream.encode(_frame(padded[at : at + size], rate, at, "s16p"))
        packets += stream.encode(None)
        return [bytes(packet) for packet in packets]


def _frame(samples: Samples, rate: int, place: int, sample_format: str) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[np.newaxis], format=sample_format, layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
    return frame
