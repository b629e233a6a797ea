"""Samples of many rates as samples of one. In: samples with their places and rates. Out: all at the rate of the file.

A file begins with one rate, and may continue with another: an advert spliced in, the next recording of a radio.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from transcriber.audio.media.pieces import Chunk

_BLOCK_S = 0.5
"""Seconds that are resampled at once: from 8 000 to 192 000 Hz they become 24 times as many samples."""


class RateConverter:
    """Converts all samples to one rate; those that have it pass unchanged.

    The last frames of a run of another rate are returned with the samples that follow it, or by ``flush``. Integers are resampled as
    floats, because soxr adds different noise to integers each time.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._from = rate  # of the current run
        self._stream: soxr.ResampleStream | None = None
        self._taken = 0  # of the run, at its own rate
        self._at = self._end = 0  # the place of its next output, and where it ends
        self._last: NDArray[np.float32] = np.empty((0, 0), np.float32)  # the last output frame
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    def frames(self, count: int, rate: int) -> int:
        """How many frames so many further samples become."""
        if rate == self.rate:
            return count
        taken = self._taken if rate == self._from else 0
        return self._become(taken + count, rate) - self._become(taken, rate)

    def add(self, place: int, frames: int, samples: NDArray[Any], rate: int) -> Iterator[Chunk]:
        """(n, channels) samples that begin at ``place`` and become so many ``frames``; yields what is ready."""
        if self._stream and (rate != self._from or place != self._end):
            yield from self.flush()
        if rate == self.rate:
            yield place, samples
            return
        if self._stream is None:
            self._stream = soxr.ResampleStream(rate, self.rate, samples.shape[1], dtype=np.float32)
            self._from, self._taken, self._at, self._dtype = rate, 0, place, samples.dtype
            self._last = samples[:1].astype(np.float32)
        self._taken += len(samples)
        self._end = place + frames
        block = int(rate * _BLOCK_S)
        for start in range(0, len(samples), block):
            part = samples[start : start + block].astype(np.float32, copy=False)
            yield from self._ready(self._stream.resample_chunk(part))

    def flush(self) -> Iterator[Chunk]:
        """The rest of the run, which ends."""
        if self._stream is None:
            return
        yield from self._ready(self._stream.resample_chunk(self._last[:0], last=True))
        if missing := self._end - self._at:  # soxr rounds as we do, mostly
            yield from self._ready(np.repeat(self._last, missing, axis=0))
        self._stream, self._from, self._taken = None, self.rate, 0

    def _ready(self, samples: NDArray[np.float32]) -> Iterator[Chunk]:
        samples = samples[: self._end - self._at]
        if not len(samples):
            return
        place, self._last = self._at, samples[-1:]
        self._at += len(samples)
        if self._dtype == np.int16:
            yield place, np.clip(np.rint(samples), -(2**15), 2**15 - 1).astype(np.int16)
        else:
            yield place, samples

    def _become(self, count: int, rate: int) -> int:
        return (2 * count * self.rate + rate) // (2 * rate)
