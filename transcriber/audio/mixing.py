"""Several channels as one. In: samples of all. Out: one channel in which each of them is audible.

A balanced line that is wired the wrong way round makes one channel the negative of another, and their sum is silence: such a
channel is inverted first. That is decided for each block by its own samples, so that mixing the same block again gives the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OPPOSED = 0.2
"""Two channels are opposed where the power of their sum is below this share of that of their difference: 7 dB. Two people, or two
microphones, have as much power in the sum as in the difference. Audio that quiet in the sum is louder after inversion, so that a
wrong decision costs no word; and where it changes from block to block, the inverted audio was hardly audible. Half this share costs
words where each channel has noise of its own, 13 dB below the voice."""

MIN_OPPOSED_S = 1.0
"""Seconds that are worth a warning: a single block of a wide recording may be opposed, too."""

_POSITIONS = frozenset({
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR", "DL", "DR",
    "WL", "WR", "SDL", "SDR", "LFE2", "TSL", "TSR", "BFC", "BFL", "BFR",
})  # fmt: skip
_GAINS = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "LFE": 0.25, "LFE2": 0.25}
"""FFmpeg's gains. It drops the LFE channel, but that may be a fourth microphone, as in any FLAC file with six channels."""
_GAIN_AROUND = 0.5


@dataclass(slots=True)
class MixReport:
    """What was found while channels were mixed; ``opposed``: frames in which two were opposed."""

    opposed: int = 0

    def warning(self, rate: int) -> str | None:
        """The line to log, at ``rate`` Hz; None: nothing."""
        return OPPOSED_WARNING if self.opposed >= MIN_OPPOSED_S * rate else None


OPPOSED_WARNING = "a channel is the negative of another, as behind a line with crossed wires: it was inverted"


def mix_two(channels: NDArray[np.float32], mix_report: MixReport | None = None) -> NDArray[np.float32]:
    """The mean of (frames, 2), C-contiguous, as (frames,); where they are opposed, half their difference."""
    right = channels[:, 1]
    mean: NDArray[np.float32] = channels[:, 0] + right
    mean *= np.float32(0.5)
    flat = channels.reshape(-1)
    # mean² + difference² is half of left² + right². Not by BLAS, which shares long blocks out to threads.
    both = np.einsum("i,i->", flat, flat) * np.float32(0.5)
    if np.einsum("i,i->", mean, mean) * np.float32(1 / OPPOSED + 1) < both:
        mean -= right
        if mix_report is not None:
            mix_report.opposed += len(mean)
    return mean


def gains(names: tuple[str, ...]) -> NDArray[np.float32]:
    """Gain of each channel of a layout in the mix, (channels,), none 0; without positions, all alike."""
    if all(name in _POSITIONS for name in names):
        return np.array([_GAINS.get(name, _GAIN_AROUND) for name in names], np.float32)
    return np.full(len(names), 1 / len(names), np.float32)


def mix_many(
    channels: NDArray[np.float32], loudness: NDArray[np.float32], mix_report: MixReport | None = None
) -> NDArray[np.float32]:
    """(frames, channels) as (frames, 1): their sum with these gains, after inverting those that are opposed to one before them."""
    signs = _signs(channels)
    if mix_report is not None and (signs < 0).any():
        mix_report.opposed += len(channels)
    mixed: NDArray[np.float32] = channels @ (loudness * signs)[:, np.newaxis]
    return mixed


def _signs(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """-1 for each channel to be inverted, else 1."""
    products = channels.T @ channels
    powers, signs = np.diag(products), np.ones(len(products), np.float32)
    if (products >= 0).all():
        return signs
    for number in range(1, len(signs)):
        pairs, twice = powers[:number] + powers[number], 2 * signs[:number] * products[:number, number]
        if (pairs + twice < OPPOSED * (pairs - twice)).any():
            signs[number] = -1
    return signs
