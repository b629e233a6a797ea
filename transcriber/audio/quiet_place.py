"""Where a full window is cut. In: its samples, and the probability of speech in each frame. Out: the quietest place near its end."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.audio.vad.detector import FRAME_SAMPLES

SEARCH_S = 1.5
"""A full window is cut within so many seconds of its end."""

HOP_SAMPLES, SMOOTH_HOPS = 160, 21
"""Places to cut are 10 ms apart, each as loud as the 210 ms around it: the closure of a stop is shorter, and no pause."""

SPEECH_DB = 10.0
"""A place that surely holds speech counts as so much louder: a pause in noise beats a soft consonant."""

QUIET_DB = 10.0
"""A place is quiet if it is so much quieter than the speech in its window, whose level is the ``SPOKEN_QUANTILE`` of all."""

SPOKEN_QUANTILE = 0.75

SILENT_DB = -60.0
"""dBFS: below this a place is quiet, whatever the speech."""

SAME_DB = 0.01
"""Places that differ by less are equally quiet."""

SILENT_POWER = 1e-9
"""-90 dBFS: quieter does not count."""


def quietest_place(
    audio: NDArray[np.float32], speech: NDArray[np.float32] | None, speech_lead: int, overlap: int
) -> tuple[int, bool]:
    """Where to cut a window of ``audio``, (n,) float32 in [-1, 1] at 16 kHz, and whether it is quiet there.

    The place is 0 or less: in samples from the end. Where none is quiet, it lies ``overlap`` samples before the end, or earlier.
    ``speech`` is as for ``_loudness``.
    """
    loudness = _loudness(audio, speech, speech_lead)
    search = min(round(SEARCH_S * TARGET_SAMPLE_RATE), len(audio) // 2) // HOP_SAMPLES
    place, quiet = _least(loudness[-search:]) - search, True
    if loudness[place] > max(np.quantile(loudness, SPOKEN_QUANTILE) - QUIET_DB, SILENT_DB):
        place, quiet = _least(loudness[-search : -(overlap // HOP_SAMPLES)]) - search, False
    return place * HOP_SAMPLES, quiet


def _loudness(audio: NDArray[np.float32], speech: NDArray[np.float32] | None, speech_lead: int) -> NDArray[np.float64]:
    """Of every 10 ms of ``audio``: (m,) float64 in dB, smoothed; speech counts more. The last 10 ms end with the audio.

    ``speech`` are probabilities, (k,) float32, of frames of which the first begins ``speech_lead`` samples before the audio; None
    without a detector.
    """
    hops, rest = divmod(len(audio), HOP_SAMPLES)
    parts = audio[rest:].reshape(hops, HOP_SAMPLES).astype(np.float64)
    power = np.einsum("ij,ij->i", parts, parts) / HOP_SAMPLES
    loudness: NDArray[np.float64] = 10 * np.log10(_smooth(power) + SILENT_POWER)
    if speech is not None:
        frames = (speech_lead + rest + HOP_SAMPLES * np.arange(hops)) // FRAME_SAMPLES
        loudness += SPEECH_DB * _smooth(speech[np.minimum(frames, len(speech) - 1)])
    return loudness


def _smooth(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Mean of the ``SMOOTH_HOPS`` values around each of (n,); fewer at the ends."""
    around = np.ones(min(SMOOTH_HOPS, len(values)))
    smooth: NDArray[np.float64] = np.convolve(values, around, "same") / np.convolve(
        np.ones(len(values)), around, "same"
    )
    return smooth


def _least(values: NDArray[np.float64]) -> int:
    """Index of the least value; where silence is digital, the middle of the latest of them."""
    least = np.flatnonzero(values <= values.min() + SAME_DB)
    latest = np.split(least, np.flatnonzero(np.diff(least) > 1) + 1)[-1]
    return int(latest[len(latest) // 2])
