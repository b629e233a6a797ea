"""A stream's own rate to 16 kHz, streaming.

In: consecutive blocks of one uninterrupted run of audio. Out: the same audio at 16 kHz, delayed: soxr
works in blocks of its own, so up to 37 ms (48 kHz) or 115 ms (8 kHz) stay inside until more audio or
the flush pushes them out (``bench/resampler.py``).
"""

import numpy as np
import soxr
from numpy.typing import NDArray

TARGET_SAMPLE_RATE = 16_000
"""Hz; the only rate that whisper accepts."""

NOTHING = np.empty(0, np.float32)
NOTHING.flags.writeable = False


class Resampler:
    """One run of mono audio at ``rate`` Hz to 16 kHz; 16 kHz itself passes untouched."""

    __slots__ = ("_rate", "_stream")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._stream: soxr.ResampleStream | None = None  # made when there is audio: many runs get none

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed (n,) float32; returns the (m,) float32 that are ready, possibly none."""
        return self._resampled(samples, last=False)

    def flush(self, samples: NDArray[np.float32] = NOTHING) -> NDArray[np.float32]:
        """Feed the last (n,) float32; returns all that is left, (m,) float32. Nothing may be pushed after it.

        The output is then ``output_samples(input)`` long in all.
        """
        return self._resampled(samples, last=True) if self._stream or len(samples) else NOTHING

    def _resampled(self, samples: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        if self._rate == TARGET_SAMPLE_RATE:
            return samples
        # HQ: quality changes neither the cost nor, measured, the delay.
        self._stream = self._stream or soxr.ResampleStream(self._rate, TARGET_SAMPLE_RATE, 1)
        out: NDArray[np.float32] = self._stream.resample_chunk(samples, last=last)
        return out


def output_samples(frames: int, rate: int) -> int:
    """How many 16 kHz samples ``frames`` frames at ``rate`` Hz become: rounded, halves up, like soxr."""
    return (2 * frames * TARGET_SAMPLE_RATE + rate) // (2 * rate)
