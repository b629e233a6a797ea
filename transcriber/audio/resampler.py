"""A stream's own rate to 16 kHz, streaming.

In: consecutive blocks of one uninterrupted run of audio. Out: the same sound at 16 kHz, later: soxr
works in blocks of its own, so up to 37 ms (48 kHz) or 115 ms (8 kHz) stay inside until more audio or
the flush pushes them out (``bench/resampler.py``).
"""

import numpy as np
import soxr
from numpy.typing import NDArray

TARGET_SAMPLE_RATE = 16_000
"""Hz; the only rate whisper takes."""


class Resampler:
    """One run of mono audio at ``rate`` Hz to 16 kHz; 16 kHz itself passes untouched."""

    __slots__ = ("_stream",)

    def __init__(self, rate: int) -> None:
        # HQ: quality changes neither the cost nor, measured, the delay.
        self._stream = None if rate == TARGET_SAMPLE_RATE else soxr.ResampleStream(rate, TARGET_SAMPLE_RATE, 1)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed (n,) float32; returns the (m,) float32 that are ready, perhaps none."""
        if self._stream is None:
            return samples
        out: NDArray[np.float32] = self._stream.resample_chunk(samples)
        return out

    def flush(self) -> NDArray[np.float32]:
        """The rest, (m,) float32; nothing may be pushed after it.

        All that ever came out is then ``output_samples(all that went in)`` long.
        """
        empty = np.empty(0, np.float32)
        if self._stream is None:
            return empty
        out: NDArray[np.float32] = self._stream.resample_chunk(empty, last=True)
        return out


def output_samples(frames: int, rate: int) -> int:
    """How many 16 kHz samples ``frames`` frames at ``rate`` Hz become: rounded, halves up, like soxr."""
    return (2 * frames * TARGET_SAMPLE_RATE + rate) // (2 * rate)
