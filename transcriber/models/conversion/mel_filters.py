"""Whisper's mel filters, computed. In: their number. Out: the values that OpenAI publishes, to the last bit.

Triangles between points that are equally far apart in mel (Slaney: linear below 1 kHz, logarithmic above), each of area one,
as librosa computes them for 16 kHz and 400 points.
"""

import numpy as np
from numpy.typing import NDArray

from transcriber.models.ggml import FFT_BINS

SAMPLE_RATE = 16_000
HZ_PER_MEL = 200 / 3
"""Below the corner."""

CORNER_HZ = 1_000.0
CORNER_MEL = CORNER_HZ / HZ_PER_MEL
LOG_STEP = np.log(6.4) / 27.0
"""Logarithm of the ratio of two frequencies that are one mel apart, above the corner."""


def mel_filters(n_mels: int) -> NDArray[np.float32]:
    """(n_mels, 201) float32."""
    highest = CORNER_MEL + np.log(SAMPLE_RATE / 2 / CORNER_HZ) / LOG_STEP
    mels = np.linspace(0.0, highest, n_mels + 2)
    above = mels >= CORNER_MEL
    points_hz = HZ_PER_MEL * mels
    points_hz[above] = CORNER_HZ * np.exp(LOG_STEP * (mels[above] - CORNER_MEL))
    widths_hz = np.diff(points_hz)[:, np.newaxis]
    bins_hz = np.linspace(0, SAMPLE_RATE / 2, FFT_BINS)
    ramps = np.subtract.outer(points_hz, bins_hz)
    rising, falling = -ramps[:-2] / widths_hz[:-1], ramps[2:] / widths_hz[1:]
    # OpenAI's were made with librosa, which rounds the triangles before it scales them.
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters *= (2.0 / (points_hz[2:] - points_hz[:-2]))[:, np.newaxis]
    return filters
