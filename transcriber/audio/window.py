"""One uninterrupted run of audio, cut into windows.

In: payloads of whole frames in the stream's own format. Out: windows of at most N frames, as mono
float32 at 16 kHz. Boundaries are counted in the stream's frames, so they never drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.pcm import AudioFormat, decode
from transcriber.audio.resampler import Resampler, output_samples

BLOCK_S = 0.2
"""Seconds of audio that are decoded and resampled at once: per 20 ms payload that would cost twice as much."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The next ``frames`` frames of the run, as (n,) float32 ``samples`` in [-1, 1] at 16 kHz."""

    frames: int
    samples: NDArray[np.float32]


class WindowCutter:
    """Cuts one run. Invariant: the cuts' frames add up to the frames pushed, once flushed."""

    __slots__ = (
        "_block_bytes",
        "_cut",
        "_format",
        "_pending",
        "_pushed",
        "_ready",
        "_resampled",
        "_resampler",
        "_window",
    )

    def __init__(self, fmt: AudioFormat, window_frames: int) -> None:
        self._format = fmt
        self._window = window_frames
        self._block_bytes = int(BLOCK_S * fmt.rate) * fmt.frame_bytes
        self._resampler = Resampler(fmt.rate)
        self._pending = bytearray()  # payloads not yet decoded
        self._ready: list[NDArray[np.float32]] = []  # 16 kHz, not yet cut
        self._pushed = 0  # frames
        self._cut = 0  # frames
        self._resampled = 0  # 16 kHz samples since the run began

    @property
    def open_frames(self) -> int:
        """Frames pushed and not yet cut."""
        return self._pushed - self._cut

    def push(self, payload: bytes | memoryview) -> list[Cut]:
        """Feed whole frames; returns the windows they complete, mostly none."""
        self._pending += payload
        self._pushed += len(payload) // self._format.frame_bytes
        if len(self._pending) < self._block_bytes and self.open_frames < self._window:
            return []
        self._convert()
        cuts = []
        while self._resampled >= output_samples(self._cut + self._window, self._format.rate):
            cuts.append(self._take(self._window))
        return cuts

    def flush(self) -> list[Cut]:
        """The run ends: returns what is left, the last window shorter. Nothing may be pushed after it."""
        self._convert()
        self._keep(self._resampler.flush())
        cuts = []
        while self.open_frames:
            cuts.append(self._take(min(self._window, self.open_frames)))
        return cuts

    def _convert(self) -> None:
        """Decode and resample what is pending."""
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self._keep(self._resampler.push(decode(pending, self._format)))

    def _keep(self, samples: NDArray[np.float32]) -> None:
        self._ready.append(samples)
        self._resampled += len(samples)

    def _take(self, frames: int) -> Cut:
        """Cut the next ``frames`` frames; their samples are at the same places of the 16 kHz run."""
        rate = self._format.rate
        count = output_samples(self._cut + frames, rate) - output_samples(self._cut, rate)
        samples = np.concatenate(self._ready)
        self._ready = [samples[count:].copy()]
        self._cut += frames
        return Cut(frames, samples[:count])
