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
    slab = _Slab(rate, first)
    try:
        for place, samples in chunks:
            yield from slab.add(place, samples) if place >= first else slab.add(first, samples[first - place :])
    except TranscriberError:
        yield from slab.rest()
        raise
    yield from slab.rest()
    if promised is not None and slab.end < promised - rate * _CLEARLY_S:
        raise TruncatedError(f"it ends after {slab.end / rate:.1f} s of {promised / rate:.1f} s", promised)


class _Slab:
    """A second of samples. They are copied at once: whoever decodes can use their memory again, which is still in the cache.

    Attributes:
        end: the place after the last.
    """

    def __init__(self, size: int, end: int) -> None:
        self.end = end
        self._size, self._start = size, end
        self._held = 0  # frames from ``_start`` on
        self._samples: NDArray[Any] = np.empty((0, 0))

    def add(self, place: int, samples: NDArray[Any]) -> list[Piece]:
        """Returns the pieces that these samples complete."""
        left, held = len(samples), self._held
        if not left:
            return []
        pieces = []
        if place != self.end:
            pieces, self._start, held = self.rest(), place, 0
        self.end = place + left
        while held + left >= self._size:
            taken = self._size - held
            if held:
                self._samples[held:] = samples[:taken]
            pieces.append(_piece(self._start, self._samples if held else samples[:taken]))
            samples, left = samples[taken:], left - taken
            self._start, held = self._start + self._size, 0
        if left:
            if not len(self._samples):
                self._samples = np.empty((self._size, samples.shape[1]), samples.dtype)
            self._samples[held : held + left] = samples
        self._held = held + left
        return pieces

    def rest(self) -> list[Piece]:
        """The samples that no piece is made of yet, as one."""
        held, self._held = self._held, 0
        return [_piece(self._start, self._samples[:held])] if held else []


def _piece(start: int, samples: NDArray[Any]) -> Piece:
    if samples.dtype == np.float32 and not np.isfinite(samples).all():
        samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return Piece(start, samples.tobytes())
