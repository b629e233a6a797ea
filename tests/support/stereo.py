"""Payloads of two channels."""

import numpy as np

from tests.support.audio import level

RATE = 16_000
STEREO = f"audio/x-raw;format=S16LE;rate={RATE};channels=2"


def both(left, right, frames):
    """A payload of two channels, each of constant level."""
    return interleaved(np.frombuffer(level(left, frames), "<i2"), np.frombuffer(level(right, frames), "<i2"))


def interleaved(left, right):
    frames = max(len(left), len(right))
    return (
        np.stack([np.pad(samples, (0, frames - len(samples))) for samples in (left, right)], 1).astype("<i2").tobytes()
    )
