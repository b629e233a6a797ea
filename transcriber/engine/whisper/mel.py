"""Samples to whisper's input: a log-mel spectrogram, in a tenth of the time that whisper.cpp takes.

whisper.cpp spends 10 to 25 ms a window on it, on a transform written by hand (``log_mel_spectrogram`` in
whisper.cpp 1.8.5), and does so for 30 s of zeros after it; this is the same sum in some 1.5 ms. The
definition is OpenAI's: frames of 25 ms every 10 ms under a Hann window, power, mel filters, logarithm,
clipped at 8 below the loudest (arXiv 2212.04356, section 2.2).
"""

import numpy as np
from numpy.typing import NDArray

N_FFT = 400
HOP = 160
SILENCE = 1e-10
"""Least power of a mel band; its logarithm is the floor."""

RANGE = 8.0
"""Decades below the loudest value, where values are clipped."""

_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)

Spectrogram = NDArray[np.float32]


class MelBands:
    """Sums power spectra to bands.

    No BLAS: its threads keep spinning for milliseconds after a product as small as this one, on the very
    cores that whisper needs next (57 ms a window became 83 ms).
    """

    def __init__(self, filters: NDArray[np.float32]) -> None:
        """``filters`` is (bands, 201) float32; most of it is zero."""
        bands = [np.flatnonzero(band) if band.any() else np.zeros(1, np.intp) for band in filters]
        self._bins = np.concatenate(bands)
        self._weights = np.concatenate([band[bins] for band, bins in zip(filters, bands, strict=True)])
        self._starts = np.cumsum([0, *map(len, bands)])[:-1]

    def __call__(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """(frames, 201) float32 to (frames, bands)."""
        return np.add.reduceat(power[:, self._bins] * self._weights, self._starts, axis=1)


class LogMel:
    """Makes spectrograms with the filters of one model."""

    def __init__(self, filters: NDArray[np.float32]) -> None:
        """``filters`` is (n_mels, 201) float32, as in the model's file."""
        self._bands = MelBands(filters)

    def __call__(self, samples: NDArray[np.float32], frames: int) -> Spectrogram:
        """The spectrogram of ``samples``, (n,) float32 at 16 kHz with n > 200, followed by silence.

        Returns:
            (n_mels, ``frames``) C-contiguous float32, mostly in [-1, 1.5]; samples beyond it are left out.
        """
        filled = min(frames, frames_with(len(samples)))
        bands = self._bands(power_spectra(samples, filled))
        levels = np.log10(np.maximum(bands, np.float32(SILENCE)))
        floor = max(levels.max() - RANGE, np.log10(SILENCE))
        spectrogram = np.full((levels.shape[1], frames), floor, np.float32)
        np.maximum(levels.T, floor, out=spectrogram[:, :filled])
        spectrogram += 4
        spectrogram /= 4
        return spectrogram


def power_spectra(samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """(``frames``, 201) power spectra of (n,) float32 with n > 200; the first frame is centred on the first sample."""
    half = N_FFT // 2
    padded = np.zeros((frames - 1) * HOP + N_FFT, np.float32)
    padded[:half] = samples[half:0:-1]
    fits = samples[: len(padded) - half]
    padded[half : half + len(fits)] = fits
    spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP] * _HANN)
    return np.square(spectra.real) + np.square(spectra.imag)


def frames_with(samples: int) -> int:
    """Frames that contain any of ``samples``."""
    return (samples + N_FFT // 2) // HOP + 1


def frames_within(samples: int) -> int:
    """Frames that end before ``samples`` do."""
    return (samples - N_FFT // 2) // HOP + 1
