"""What comes out of a file. In: decoded samples with their places. Out: PCM in pieces of at most a second."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.pcm import AudioFormat
from transcriber.errors import TranscriberError, TruncatedError

_CLEARLY_S = 0.5
"""Containers round the length, and count what codecs put before and after; so much missing is no truncation."""

Chunk = tuple[int, NDArray[Any]]
"""The place of its first frame, and (frames, channels) samples: int16, or float32 in about [-1, 1]."""


class Piece(NamedTuple):
    """Samples that lie together.

    Attributes:
        frame: place of its first frame, at the format's rate; it jumps ahead where something could not be decoded.
        data: whole interleaved frames of the file's format, at most a second.
    """

    frame: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Media:
    """A file of which the first sound was decoded.

    Attributes:
        format: of the pieces: S16LE or F32LE at the file's own rate, 1 or 2 channels; more are mixed to one.
        frames: its length, where the container tells.
        container: such as ``ogg``.
        codec: such as ``opus``.
        pieces: the audio, decoded as it is asked for; the same for the same bytes. ``close()`` frees the decoder.
    """

    format: AudioFormat
    frames: int | None
    container: str
    codec: str
    pieces: Generator[Piece, None, None]


def join(chunks: Iterator[Chunk], rate: int, promised: int | None, first: int = 0) -> Generator[Piece, None, None]:
    """Chunks of any length as pieces.

    What is not finite becomes silence, or full scale: one NaN would stay in a resampler for good.

    Args:
        chunks: their places only grow, and never overlap.
        rate: frames in a second.
        promised: the length, if the container is to be trusted with it.
        first: what comes before this place is left out.

    Raises:
        TruncatedError: the last chunk ends clearly before ``promised``.
    """
    waiting: list[NDArray[Any]] = []
    start = end = first
    try:
        for found, heard in chunks:
            place, samples = max(found, first), heard[max(0, first - found) :]
            if not len(samples):
                continue
            if waiting and place != end:
                yield from _cut(start, waiting, rate)
                waiting = []
            if not waiting:
                start = place
            waiting.append(samples)
            end = place + len(samples)
            if end - start >= rate:
                whole = (end - start) // rate * rate
                joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                yield from _cut(start, [joined[:whole]], rate)
                start += whole
                waiting = [joined[whole:]] if start < end else []
    except TranscriberError:
        yield from _cut(start, waiting, rate)
        raise
    yield from _cut(start, waiting, rate)
    if promised is not None and end < promised - rate * _CLEARLY_S:
        raise TruncatedError(f"it ends after {end / rate:.1f} s of {promised / rate:.1f} s", promised)


def _cut(start: int, parts: list[NDArray[Any]], rate: int) -> Iterator[Piece]:
    if not parts:
        return
    samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if samples.dtype == np.float32 and not np.isfinite(samples).all():
        samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    for at in range(0, len(samples), rate):
        yield Piece(start + at, samples[at : at + rate].tobytes())
