"""A stream's own rate to 16 kHz, streaming.

In: consecutive blocks of one uninterrupted run of audio. Out: the same audio at 16 kHz, delayed: soxr
works in blocks of its own, so up to 37 ms (48 kHz) or 115 ms (8 kHz) stay inside until more audio or
the flush pushes them out (``bench/resampler.py``).
"""

import math
from collections import deque

import numpy as np
import soxr
from numpy.typing import NDArray

TARGET_SAMPLE_RATE = 16_000
"""Hz; the only rate that whisper accepts."""

SETTLE_S = 0.05
"""Seconds of audio after which soxr's filter is settled."""

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


class DrainableResampler:
    """A ``Resampler`` that can return all it holds and continue, as if nothing had happened: ``drain``."""

    __slots__ = ("_extra", "_frames", "_grid", "_rate", "_recent", "_recent_frames", "_resampler")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._resampler = Resampler(rate)
        # A sample at 16 kHz begins with every frame that this divides.
        self._grid = rate // math.gcd(rate, TARGET_SAMPLE_RATE)
        self._recent: deque[NDArray[np.float32]] = deque()
        self._recent_frames = self._frames = 0  # those kept, and those pushed
        self._extra = 0  # samples that were returned by the last ``drain`` already

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed (n,) float32; returns the (m,) float32 that are ready, possibly none."""
        self._keep(samples)
        return self._fresh(self._resampler.push(samples))

    def flush(self, samples: NDArray[np.float32] = NOTHING) -> NDArray[np.float32]:
        """Feed the last (n,) float32; returns all that is left, (m,) float32. Nothing may be pushed after it."""
        return self._fresh(self._resampler.flush(samples))

    def drain(self) -> NDArray[np.float32]:
        """Returns all that is held, (m,) float32: the output is then ``output_samples(input)`` long. More may be pushed."""
        if self._rate == TARGET_SAMPLE_RATE:
            return NOTHING
        left = self._fresh(self._resampler.flush())
        start = max(0, self._frames - self._least) // self._grid * self._grid
        # It begins with audio that is known, so that its filter is settled where the audio continues.
        self._resampler = Resampler(self._rate)
        known = np.concatenate([NOTHING, *self._recent])
        self._extra = output_samples(self._frames, self._rate) - output_samples(start, self._rate)
        self._extra -= len(self._resampler.push(known[len(known) - (self._frames - start) :]))
        return left

    @property
    def _least(self) -> int:
        return int(SETTLE_S * self._rate)

    def _keep(self, samples: NDArray[np.float32]) -> None:
        if self._rate == TARGET_SAMPLE_RATE:
            return
        self._frames += len(samples)
        self._recent.append(samples)
        self._recent_frames += len(samples)
        while self._recent_frames - len(self._recent[0]) >= self._least + self._grid:
            self._recent_frames -= len(self._recent.popleft())

    def _fresh(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """``samples`` without those that were returned already."""
        known = min(self._extra, len(samples))
        self._extra -= known
        return samples[known:] if known else samples


def output_samples(frames: int, rate: int) -> int:
    """How many 16 kHz samples ``frames`` frames at ``rate`` Hz become: rounded, halves up, like soxr."""
    return (2 * frames * TARGET_SAMPLE_RATE + rate) // (2 * rate)
