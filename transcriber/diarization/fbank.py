"""Samples to the input of the voice network: logarithms of mel bands, as the speech toolkit Kaldi defines them.

In: (n,) float32 at 16 kHz. Out: (frames, 80) float32, from each band its mean taken away: so neither loudness nor the microphone counts.
"""

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.engine.whisper.mel import MelBands

BANDS = 80
FRAME, HOP = 400, 160
"""25 ms every 10 ms."""

N_FFT = 512
LOWEST_HZ = 20.0
PREEMPHASIS = np.float32(0.97)
_WINDOW = ((0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / (FRAME - 1))) ** 0.85).astype(np.float32)
_LEAST = np.finfo(np.float32).eps


def fbank(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The bands of (n,) float32 in [-1, 1], n >= 400; (frames, 80) float32, of whole frames only."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    # What comes before the first sample counts as equal to it.
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectra = np.fft.rfft((frames - PREEMPHASIS * before) * _WINDOW, N_FFT)[:, : N_FFT // 2]
    power = (np.square(spectra.real) + np.square(spectra.imag)).astype(np.float32)
    levels: NDArray[np.float32] = np.log(np.maximum(_MEL(power), _LEAST))
    levels -= levels.mean(axis=0)
    return levels


def _filters() -> NDArray[np.float32]:
    """(80, 256): triangles that are equally wide in mel."""

    def mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127.0 * np.log1p(frequency_hz / 700.0)

    lowest, highest = mel(np.array([LOWEST_HZ, TARGET_SAMPLE_RATE / 2]))
    points = np.linspace(lowest, highest, BANDS + 2)[:, np.newaxis]
    bins = mel(np.arange(N_FFT // 2) * TARGET_SAMPLE_RATE / N_FFT)
    rising = (bins - points[:-2]) / (points[1:-1] - points[:-2])
    falling = (points[2:] - bins) / (points[2:] - points[1:-1])
    triangles: NDArray[np.float32] = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return triangles


_MEL = MelBands(_filters())
